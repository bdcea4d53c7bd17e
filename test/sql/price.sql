-- Prices: setting them, what the view shows, the cache of a session, quotes
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
SELECT plan(65);

-- What is committed here stays: names of its own
SELECT 'price.' || md5(random()::text) AS mark \gset
SELECT :'mark' || '.a' AS a, :'mark' || '.b' AS b, :'mark' || '.s' AS s \gset
SELECT tokenbill.create_account(:'a'), tokenbill.create_account(:'b'), tokenbill.create_account(:'mark' || '.sand', sandbox => true) \g /dev/null

-- The row
BEGIN;
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT is(to_jsonb(p), '{"service": "row", "meter": "input_tokens", "account": "*", "valid_from": "2026-03-01T12:00:00+00:00",
	"price_group": "", "side": "sale", "service_tier": "standard", "hours": "", "mode": "flat", "tiers": null,
	"unit_price": 2.5, "per": 1000000, "created_at": "2026-03-01T12:00:00+00:00"}'::jsonb, 'set_price returns the row; it is valid from now on')
FROM tokenbill.set_price('row', 'input_tokens', 2.50, 1000000) p;
SELECT is(pg_temp.pick(p, 'account', 'valid_from', 'per'),
	jsonb_build_object('account', :'a', 'valid_from', '2026-02-01T00:00:00+00:00', 'per', 1), 'for one account, from a day on, per one unit')
FROM tokenbill.set_price('row', 'input_tokens', 2, account => :'a', valid_from => '2026-02-01 00:00:00+00') p;
SELECT lives_ok($$SELECT tokenbill.set_price('row', 'input_tokens', 2.5, 1000000)$$, 'the same price again is no error');
SELECT is(count(*), 2::bigint, 'and no second row') FROM tokenbill.prices WHERE service = 'row';
SELECT pg_temp.refused($$SELECT tokenbill.set_price('row', 'input_tokens', 3, 1000000)$$, 'PT409',
	'{"service": "row", "meter": "input_tokens", "was": "2.50/1000000", "now": "3/1000000"}', 'another price from the same moment is');

-- The view
SELECT tokenbill.set_price('row', 'input_tokens', 3, 1000000, valid_from => '2026-05-01 00:00:00+00') \g /dev/null
SELECT tokenbill.set_price('row', 'input_tokens', 4, 1000000, valid_from => '2026-04-01 00:00:00+00') \g /dev/null
SELECT results_eq($$SELECT unit_price, valid_from, valid_to FROM tokenbill.prices WHERE service = 'row' AND account = '*' ORDER BY valid_from$$,
	$$VALUES (2.50, '2026-03-01 12:00:00+00'::timestamptz, '2026-04-01 00:00:00+00'::timestamptz),
		(4, '2026-04-01 00:00:00+00', '2026-05-01 00:00:00+00'), (3, '2026-05-01 00:00:00+00', NULL)$$, 'prices says from when to when');
SELECT is(valid_to, NULL, 'and keeps an account''s own price apart') FROM tokenbill.prices WHERE service = 'row' AND account = :'a';

-- Exactness and arguments
SELECT lives_ok(format('SELECT tokenbill.set_price(%L, %L, %s, %s)', 'exact', 'm' || ordinality, unit_price, per), unit_price || ' per ' || per)
FROM (VALUES ('0.000000000000000001', '1'), ('0.01', '64'), ('1', '1000000000'), ('3', '0.5'), ('0.06', '60'), ('0', '3'), ('999999999999999999', '1')
	) v(unit_price, per), LATERAL (SELECT replace(unit_price || per, '.', '_')) x(ordinality);
SELECT pg_temp.refused(format('SELECT tokenbill.set_price(%s)', args), sqlstate, jsonb_build_object('argument', argument), description)
FROM (VALUES
	('''x'', ''m'', 0.01, 60', '22023', 'per', 'a cent a minute is no decimal a second'),
	('''x'', ''m'', 1, 3', '22023', 'per', 'nor is a third'),
	('''x'', ''m'', 1, 1e21', '22003', 'per', 'per of 10^21'),
	('''x'', ''m'', 1, 0', '22023', 'per', 'per zero'),
	('''x'', ''m'', 1, -1', '22023', 'per', 'per negative'),
	('''x'', ''m'', 1, NULL', '22004', 'per', 'per null'),
	('''x'', ''m'', 1, ''NaN''', '22003', 'per', 'per NaN'),
	('''x'', ''m'', NULL', '22004', 'unit_price', 'price null'),
	('''x'', ''m'', -1', '22023', 'unit_price', 'price negative'),
	('''x'', ''m'', ''NaN''', '22003', 'unit_price', 'price NaN'),
	('''x'', ''m'', ''Infinity''', '22003', 'unit_price', 'price infinite'),
	('''x'', ''m'', 1e18', '22003', 'unit_price', 'price of 10^18'),
	('NULL, ''m'', 1', '22004', 'service', 'service null'),
	(''''', ''m'', 1', '22023', 'service', 'service empty'),
	('repeat(''x'', 256), ''m'', 1', '22023', 'service', 'service of 256 bytes'),
	('''x'', NULL, 1', '22004', 'meter', 'meter null'),
	('''x'', ''Input Tokens'', 1', '22023', 'meter', 'meter with a blank and capitals'),
	('''x'', ''9lives'', 1', '22023', 'meter', 'meter that begins with a digit'),
	('''x'', ''m'', 1, valid_from => ''infinity''', '22008', 'valid_from', 'from the end of time on'),
	('''x'', ''m'', 1, valid_from => ''1999-12-31 23:59:59+00''', '22008', 'valid_from', 'from another century on'),
	('''x'', ''m'', 1, valid_from => ''2100-01-01 00:00:00+00''', '22008', 'valid_from', 'and from the next')
) v(args, sqlstate, argument, description);
SELECT pg_temp.refused($$SELECT tokenbill.set_price('x', 'm', 1, account => 'nobody')$$, 'PT404', '{"account": "nobody"}', 'for an unknown account');
SELECT is_empty($$SELECT * FROM tokenbill.prices WHERE service = 'x'$$, 'a refused price was not set');
ROLLBACK;

-- A session's cache: charges of this session, prices of this session
SELECT tokenbill.recharge(:'a', 1000, :'mark' || '.a'), tokenbill.set_price(:'s', 'requests', 1, valid_from => '2020-01-01 00:00:00+00') \g /dev/null
SELECT is(amount, -1::numeric, 'the price is cached') FROM tokenbill.charge(:'a', :'s', '{"requests": 1}', 'k1');
SELECT tokenbill.set_price(:'s', 'requests', 2, valid_from => '2021-01-01 00:00:00+00') \g /dev/null
SELECT is(amount, -2::numeric, 'a new one takes over') FROM tokenbill.charge(:'a', :'s', '{"requests": 1}', 'k2');
SELECT tokenbill.set_price(:'s', 'images', 5) \g /dev/null
SELECT is(amount, -7::numeric, 'so does a new meter of a known service, beside the price of each call') FROM tokenbill.charge(:'a', :'s', '{"images": 1}', 'k3');
SELECT tokenbill.set_price(:'s', 'requests', 1.5, account => :'a') \g /dev/null
SELECT is(amount, -1.5, 'and a price of its own') FROM tokenbill.charge(:'a', :'s', '{"requests": 1}', 'k4');
SELECT is(amount, 2::numeric, 'which is nobody else''s') FROM tokenbill.quote(:'b', :'s', '{"requests": 1}');
BEGIN;
SELECT tokenbill.set_price(:'s', 'requests', 7, account => :'a', valid_from => tokenbill.clock() - interval '1 microsecond') \g /dev/null
SELECT tokenbill.set_price(:'s', 'requests', 8, valid_from => '2022-01-01 00:00:00+00') \g /dev/null
SELECT is(amount, 8::numeric, 'in a transaction its own new prices count') FROM tokenbill.quote(:'b', :'s', '{"requests": 1}');
ROLLBACK;
SELECT is(amount, 2::numeric, 'rolled back, they are forgotten') FROM tokenbill.quote(:'b', :'s', '{"requests": 1}');
SELECT is(amount, 1.5, 'every one') FROM tokenbill.quote(:'a', :'s', '{"requests": 1}');
BEGIN;
SELECT tokenbill.set_price(:'s', 'requests', 3, valid_from => '2022-01-01 00:00:00+00') \g /dev/null
SAVEPOINT before;
SELECT tokenbill.set_price(:'s', 'requests', 4, valid_from => '2023-01-01 00:00:00+00') \g /dev/null
SELECT is(amount, 4::numeric, 'after a savepoint another') FROM tokenbill.quote(:'b', :'s', '{"requests": 1}');
ROLLBACK TO before;
SELECT is(amount, 3::numeric, 'back at the savepoint the one before it') FROM tokenbill.quote(:'b', :'s', '{"requests": 1}');
COMMIT;
SELECT is(amount, 3::numeric, 'which is committed') FROM tokenbill.quote(:'b', :'s', '{"requests": 1}');
UPDATE tokenbill.price SET unit_price = 9 WHERE service = :'s' AND account = '*' AND valid_from = '2022-01-01 00:00:00+00';
SELECT is(amount, 9::numeric, 'a change by hand is seen') FROM tokenbill.quote(:'b', :'s', '{"requests": 1}');
SET session_replication_role = replica;
UPDATE tokenbill.price SET unit_price = 10 WHERE service = :'s' AND account = '*' AND valid_from = '2022-01-01 00:00:00+00';
SELECT is(amount, 10::numeric, 'one by replication as well') FROM tokenbill.quote(:'b', :'s', '{"requests": 1}');
DELETE FROM tokenbill.price WHERE service = :'s' AND account = '*' AND valid_from = '2022-01-01 00:00:00+00';
RESET session_replication_role;
SELECT is(amount, 2::numeric, 'so is a deletion') FROM tokenbill.quote(:'b', :'s', '{"requests": 1}');
BEGIN;
SELECT is((pg_temp.error_of(format('SELECT tokenbill.quote(%L, %L, %L)', :'b', :'s' || '2', '{"requests": 1}'))).sqlstate, 'PT404', 'that a service is unknown');
SELECT tokenbill.set_price(:'s' || '2', 'requests', 6) \g /dev/null
SELECT is(amount, 6::numeric, 'is not cached for longer than it is true') FROM tokenbill.quote(:'b', :'s' || '2', '{"requests": 1}');
TRUNCATE tokenbill.price;
SELECT is((pg_temp.error_of(format('SELECT tokenbill.quote(%L, %L, %L)', :'b', :'s', '{"requests": 1}'))).sqlstate, 'PT404', 'nor is a price that TRUNCATE took');
ROLLBACK;
SELECT is(amount, 2::numeric, 'or gave back') FROM tokenbill.quote(:'b', :'s', '{"requests": 1}');

-- Quotes
BEGIN;
SELECT pg_temp.fingerprint() AS before \gset
SELECT tokenbill.set_account_status(:'b', 'frozen') \g /dev/null
SELECT tokenbill.set_price(:'s', 'input_tokens', 3, 1000000) \g /dev/null
SELECT results_eq(format('SELECT * FROM tokenbill.quote(%L, %L, %L) ORDER BY meter', :'b', :'s', '{"input_tokens": 1500, "images": 2, "requests": 0}'),
	$$VALUES ('images', 2::numeric, 5::numeric, 1::numeric, NULL::text, 10::numeric, 'images', NULL::numeric, '{}'::text[], NULL::jsonb),
		('input_tokens', 1500, 3, 1000000, NULL, 0.0045, 'input_tokens', NULL, '{}', NULL), ('requests', 0, 2, 1, NULL, 0, 'requests', NULL, '{}', NULL)$$, 'a quote has one row a meter, amounts positive; a frozen account gets one, without a cent');
SELECT results_eq(format('SELECT sum(amount) FROM tokenbill.quote(%L, %L, %L)', :'mark' || '.sand', :'s', '{"images": 2}'), 'VALUES (12::numeric)',
	'a sandbox account is told the real price');
SELECT pg_temp.refused(format('SELECT tokenbill.quote(%s)', args), sqlstate, detail, 'quote: ' || description)
FROM (VALUES
	(format('''nobody'', %L, ''{"images": 1}''', :'s'), 'PT404', '{"account": "nobody"}'::jsonb, 'unknown account'),
	(format('%L, ''unheard-of'', ''{"images": 1}''', :'b'), 'PT404', '{"service": "unheard-of"}', 'unknown service'),
	(format('%L, %L, ''{"images": 1, "seconds": 1}''', :'b', :'s'), 'PT404', '{"meter": "seconds"}', 'no price for a meter'),
	(format('%L, %L, ''{"images": -1}''', :'b', :'s'), '22023', '{"argument": "usage", "meter": "images"}', 'negative count'),
	(format('%L, %L, NULL', :'b', :'s'), '22004', '{"argument": "usage"}', 'usage null')) v(args, sqlstate, detail, description);
ROLLBACK;
BEGIN;
SELECT tokenbill.quote(:'b', :'s', '{"images": 1}'), tokenbill.quote(:'a', :'s', '{"images": 1}') \g /dev/null
SELECT is(pg_temp.fingerprint(), :'before'::jsonb, 'a quote changes nothing');
ROLLBACK;
SELECT is_empty(format('SELECT * FROM tokenbill.verify_ledger(%L)', :'a'), 'all of it is sound');

-- Nothing is left behind: the ledger lets nobody delete
SET session_replication_role = replica;
DO $$
DECLARE
	of record;
BEGIN
	FOR of IN SELECT c.oid::regclass AS name, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'tokenbill'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attname IN ('account', 'service') LOOP
		EXECUTE format('DELETE FROM %s WHERE %I LIKE ''price.%%''', of.name, of.attname);
	END LOOP;
END $$;
RESET session_replication_role;
SELECT is_empty('SELECT account FROM tokenbill.account UNION ALL SELECT account FROM tokenbill.ledger UNION ALL SELECT service FROM tokenbill.price', 'nothing is left behind');

SELECT * FROM finish();
