-- What a call costs: every expectation here was worked out by hand
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(106);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('a'), tokenbill.create_account('b'), tokenbill.create_account('c'), tokenbill.recharge('a', 1000, 'P-1') \g /dev/null

-- A call's items, one line each, and what they come to
CREATE FUNCTION pg_temp.items(account text, service text, usage jsonb, OUT result text) LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', meter, quantity, 'x', unit_price || '/' || per, '(' || tier || ')', CASE WHEN priced_as <> meter THEN 'as ' || priced_as END, '=', trim_scale(amount)), '; ' ORDER BY meter COLLATE "C")
	FROM tokenbill.quote(account, service, usage)
$$;
CREATE FUNCTION pg_temp.total(account text, service text, usage jsonb, OUT result numeric) LANGUAGE sql AS $$
	SELECT trim_scale(sum(amount)) FROM tokenbill.quote(account, service, usage)
$$;

-- Modes: 1,200 units at 5, above 1,000 at 3, above 2,000 at 1
SELECT tokenbill.set_price('flat', 'units', 5), tokenbill.set_price('flat', 'tokens', 5, 1000),
	tokenbill.set_price('graduated', 'units', 5, mode => 'graduated', tiers => '[{"above": 1000, "unit_price": 3}, {"above": 2000, "unit_price": 1}]'),
	tokenbill.set_price('volume', 'units', 5, mode => 'volume', tiers => '[{"above": 1000, "unit_price": 3}, {"above": 2000, "unit_price": 1}]'),
	tokenbill.set_price('package', 'units', 5, 500, mode => 'package'),
	tokenbill.set_price('part', 'units', 5, 0.5, mode => 'package'),
	tokenbill.set_price('minute', 'units', 0.01, 60, mode => 'package'),
	tokenbill.set_price('thousand', 'units', 5, 1000, mode => 'graduated', tiers => '[{"above": 1000, "unit_price": 3}]') \g /dev/null
SELECT is(pg_temp.items('a', service, jsonb_build_object('units', quantity)), expected, service || ' ' || quantity) FROM (VALUES
	('flat', 1200, 'units 1200 x 5/1 = 6000'),
	('graduated', 0, 'units 0 x 5/1 (graduated: 0 at 5/1) = 0'),
	('graduated', 1, 'units 1 x 5/1 (graduated: 1 at 5/1) = 5'),
	('graduated', 1000, 'units 1000 x 5/1 (graduated: 1000 at 5/1) = 5000'),
	('graduated', 1001, 'units 1001 x 3/1 (graduated: 1000 at 5/1 + 1 at 3/1) = 5003'),
	('graduated', 2000, 'units 2000 x 3/1 (graduated: 1000 at 5/1 + 1000 at 3/1) = 8000'),
	('graduated', 2500, 'units 2500 x 1/1 (graduated: 1000 at 5/1 + 1000 at 3/1 + 500 at 1/1) = 8500'),
	('volume', 0, 'units 0 x 5/1 (up to 1000) = 0'),
	('volume', 1000, 'units 1000 x 5/1 (up to 1000) = 5000'),
	('volume', 1001, 'units 1001 x 3/1 (above 1000) = 3003'),
	('volume', 2001, 'units 2001 x 1/1 (above 2000) = 2001'),
	('package', 0, 'units 0 x 5/500 (package: 0) = 0'),
	('package', 1, 'units 1 x 5/500 (package: 1) = 5'),
	('package', 500, 'units 500 x 5/500 (package: 1) = 5'),
	('package', 501, 'units 501 x 5/500 (package: 2) = 10'),
	('package', 1200, 'units 1200 x 5/500 (package: 3) = 15'),
	('part', 1.2, 'units 1.2 x 5/0.5 (package: 3) = 15'),
	('minute', 0.1, 'units 0.1 x 0.01/60 (package: 1) = 0.01'),
	('minute', 60, 'units 60 x 0.01/60 (package: 1) = 0.01'),
	('minute', 60.000000001, 'units 60.000000001 x 0.01/60 (package: 2) = 0.02'),
	('minute', 999999999999960, 'units 999999999999960 x 0.01/60 (package: 16666666666666) = 166666666666.66'),
	('thousand', 1500, 'units 1500 x 3/1000 (graduated: 1000 at 5/1000 + 500 at 3/1000) = 6.5')) v(service, quantity, expected);

-- Cliffs: Claude Sonnet 4.5 as published, dollars a million; the context is all that went in
SELECT tokenbill.set_price('sonnet', m, p, 1000000, mode => 'cliff', tiers => jsonb_build_array(jsonb_build_object('above', 200000, 'unit_price', q)))
FROM (VALUES ('input_tokens', 3, 6), ('output_tokens', 15, 22.5), ('cache_write_5m_tokens', 3.75, 7.5), ('cache_write_1h_tokens', 6, 12), ('cache_read_tokens', 0.3, 0.6)) v(m, p, q) \g /dev/null
SELECT is(pg_temp.items('a', 'sonnet', '{"input_tokens": 100000, "cache_read_tokens": 60000, "cache_write_5m_tokens": 30000, "cache_write_1h_tokens": 10000, "output_tokens": 1000}'),
	'cache_read_tokens 60000 x 0.3/1000000 (up to 200000) = 0.018; cache_write_1h_tokens 10000 x 6/1000000 (up to 200000) = 0.06; '
	'cache_write_5m_tokens 30000 x 3.75/1000000 (up to 200000) = 0.1125; input_tokens 100000 x 3/1000000 (up to 200000) = 0.3; output_tokens 1000 x 15/1000000 (up to 200000) = 0.015',
	'200,000 tokens of context are below the cliff');
SELECT is(pg_temp.items('a', 'sonnet', '{"input_tokens": 100000, "cache_read_tokens": 60001, "cache_write_5m_tokens": 30000, "cache_write_1h_tokens": 10000, "output_tokens": 1000}'),
	'cache_read_tokens 60001 x 0.6/1000000 (above 200000) = 0.0360006; cache_write_1h_tokens 10000 x 12/1000000 (above 200000) = 0.12; '
	'cache_write_5m_tokens 30000 x 7.5/1000000 (above 200000) = 0.225; input_tokens 100000 x 6/1000000 (above 200000) = 0.6; output_tokens 1000 x 22.5/1000000 (above 200000) = 0.0225',
	'one more, and all of it costs the higher price');
SELECT is(pg_temp.total('a', 'sonnet', '{"output_tokens": 300000}'), 4.5, 'what comes out is no context');

-- Parents
SELECT tokenbill.set_price('two', 'input_tokens', 2, 1000000), tokenbill.set_price('two', 'output_tokens', 10, 1000000),
	tokenbill.set_price('three', 'input_tokens', 2, 1000000), tokenbill.set_price('three', 'cache_write_5m_tokens', 2.5, 1000000), tokenbill.set_price('three', 'output_tokens', 10, 1000000) \g /dev/null
SELECT is(pg_temp.items('a', 'two', jsonb_build_object(meter, 1000)), meter || ' 1000 x ' || price || '/1000000 as ' || parent || ' = ' || amount, meter || ' costs what ' || parent || ' costs') FROM (VALUES
	('cache_read_tokens', 'input_tokens', 2, 0.002), ('cache_write_5m_tokens', 'input_tokens', 2, 0.002), ('cache_write_1h_tokens', 'input_tokens', 2, 0.002), ('input_audio_tokens', 'input_tokens', 2, 0.002),
	('input_image_tokens', 'input_tokens', 2, 0.002), ('cache_read_audio_tokens', 'input_tokens', 2, 0.002), ('reasoning_tokens', 'output_tokens', 10, 0.01), ('output_audio_tokens', 'output_tokens', 10, 0.01),
	('output_image_tokens', 'output_tokens', 10, 0.01)) v(meter, parent, price, amount);
SELECT is(pg_temp.items('a', 'three', '{"cache_write_1h_tokens": 1000}'), 'cache_write_1h_tokens 1000 x 2.5/1000000 as cache_write_5m_tokens = 0.0025', 'the nearest ancestor that has a price');
SELECT tokenbill.set_price('three', 'cache_write_5m_tokens', 7, 1000000, valid_from => '2026-03-01 12:00:01+00'), tokenbill.set_price('three', 'reasoning_tokens', 1, valid_from => '2026-03-01 12:00:01+00') \g /dev/null
SELECT is(pg_temp.items('a', 'three', '{"reasoning_tokens": 1000}'), 'reasoning_tokens 1000 x 10/1000000 as output_tokens = 0.01', 'a price to come is none yet');
SELECT pg_temp.refused($$SELECT tokenbill.quote('a', 'two', '{"images": 1}')$$, 'PT404', '{"service": "two", "meter": "images"}', 'who has no parent is refused');
SELECT pg_temp.refused($$SELECT tokenbill.quote('a', 'two', '{"draft_tokens": 1}')$$, 'PT404', '{"service": "two", "meter": "draft_tokens"}', 'so is a meter that nobody knows');
SELECT tokenbill.set_meter('draft_tokens', 'reasoning_tokens') \g /dev/null
SELECT is(pg_temp.items('a', 'two', '{"draft_tokens": 1000}'), 'draft_tokens 1000 x 10/1000000 as output_tokens = 0.01', 'until it has a parent: seen by the next statement');
SELECT is(pg_temp.pick(m, 'meter', 'parent', 'unit', 'builtin'), '{"meter": "draft_tokens", "parent": "input_tokens", "unit": "token", "builtin": false}', 'a meter may change its parent')
FROM tokenbill.set_meter('draft_tokens', 'input_tokens', 'token') m;
SELECT is(pg_temp.total('a', 'two', '{"draft_tokens": 1000}'), 0.002, 'which is seen at once');
SELECT tokenbill.set_meter('draft_draft_tokens', 'draft_tokens') \g /dev/null
SELECT pg_temp.refused(statement, sqlstate, detail, description) FROM (VALUES
	($$SELECT tokenbill.set_meter('draft_tokens', 'draft_draft_tokens')$$, '22023', '{"argument": "parent"}'::jsonb, 'no circles'),
	($$SELECT tokenbill.set_meter('draft_tokens', 'draft_tokens')$$, '22023', '{"argument": "parent"}', 'nor is a meter its own parent'),
	($$SELECT tokenbill.set_meter('draft_tokens', 'nothing')$$, 'PT404', '{"meter": "nothing"}', 'unknown parent'),
	($$SELECT tokenbill.set_meter('input_tokens', 'tokens')$$, 'PT409', '{"meter": "input_tokens"}', 'built-in meters stay as they are')) v(statement, sqlstate, detail, description);

-- Whose price, and when
SELECT tokenbill.set_price_group('b', 'startups'), tokenbill.set_price('who', 'units', 10), tokenbill.set_price('who', 'units', 8, price_group => 'startups'), tokenbill.set_price('who', 'units', 7, account => 'c'),
	tokenbill.set_price('who', 'more', 1, price_group => 'startups') \g /dev/null
SELECT is(pg_temp.total(account, 'who', '{"units": 1}'), price, account || ' ' || description) FROM (VALUES ('a', 10::numeric, 'pays the list price'), ('b', 8, 'that of its group'), ('c', 7, 'its own')) v(account, price, description);
SELECT pg_temp.refused($$SELECT tokenbill.quote('a', 'who', '{"more": 1}')$$, 'PT404', '{"meter": "more"}', 'what only a group has a price of, others have none of');
SELECT is(pg_temp.total('b', 'who', '{"more": 1}'), 1.0, 'the group has');
SELECT tokenbill.set_price_group('b', NULL), tokenbill.set_price_group('a', 'startups'), tokenbill.set_price_group('c', 'startups') \g /dev/null
SELECT is(pg_temp.total(account, 'who', '{"units": 1}'), price, account || ' ' || description) FROM (VALUES ('a', 8::numeric, 'is in the group now'), ('b', 10, 'no longer'), ('c', 7, 'goes on paying its own')) v(account, price, description);
UPDATE tokenbill.account SET price_group = NULL WHERE account = 'a';
SELECT is(pg_temp.total('a', 'who', '{"units": 1}'), 10.0, 'a change by hand is seen too');
SELECT tokenbill.set_price('night', 'units', 4), tokenbill.set_price('night', 'units', 1, hours => '16:30-00:30'), tokenbill.set_price('night', 'units', 2, hours => '06:00-10:00') \g /dev/null
CREATE FUNCTION pg_temp.at(clock timestamptz, service text, OUT result text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('tokenbill.clock', clock::text, true);
	result := pg_temp.items('a', service, '{"units": 1}');
	PERFORM set_config('tokenbill.clock', '2026-03-01 12:00:00+00', true);
END $$;
SELECT is(pg_temp.at(clock::timestamptz, 'night'), expected, clock) FROM (VALUES
	('2026-03-02 05:59:59.999999+00', 'units 1 x 4/1 = 4'), ('2026-03-02 06:00+00', 'units 1 x 2/1 (06:00-10:00) = 2'), ('2026-03-02 09:59:59.999999+00', 'units 1 x 2/1 (06:00-10:00) = 2'), ('2026-03-02 10:00+00', 'units 1 x 4/1 = 4'),
	('2026-03-02 16:29:59+00', 'units 1 x 4/1 = 4'), ('2026-03-02 16:30+00', 'units 1 x 1/1 (16:30-00:30) = 1'), ('2026-03-02 23:59:59+00', 'units 1 x 1/1 (16:30-00:30) = 1'), ('2026-03-03 00:00+00', 'units 1 x 1/1 (16:30-00:30) = 1'),
	('2026-03-03 00:29:59+00', 'units 1 x 1/1 (16:30-00:30) = 1'), ('2026-03-03 00:30+00', 'units 1 x 4/1 = 4'), ('2026-03-02 18:00+08', 'units 1 x 4/1 = 4')) v(clock, expected);

-- What the upstream takes
SELECT tokenbill.set_cost('two', 'input_tokens', 1.5, 1000000) \g /dev/null
SELECT results_eq($$SELECT meter, amount, cost FROM tokenbill.quote('a', 'two', '{"input_tokens": 1000, "cache_read_tokens": 100, "output_tokens": 10}') ORDER BY meter$$,
	$$VALUES ('cache_read_tokens', 0.0002, 0.00015), ('input_tokens', 0.002, 0.0015), ('output_tokens', 0.0001, NULL)$$, 'a cost falls back to the parent as well, and may be unknown');
SELECT tokenbill.set_cost('only', 'units', 1) \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.quote('a', 'only', '{"units": 1}')$$, 'PT404', '{"service": "only"}', 'what costs us something is not sold for that');
SELECT is_empty($$SELECT * FROM tokenbill.prices WHERE service = 'only'$$, 'and no customer reads it');

-- The ledger line says how
CREATE TEMP TABLE line (service text, usage jsonb, expected jsonb);
INSERT INTO line VALUES
	('two', '{"input_tokens": 1000, "output_tokens": 10}', '{"input_tokens": "2/1000000", "output_tokens": "10/1000000"}'),
	('two', '{"input_tokens": 1000, "reasoning_tokens": 10}', '{"input_tokens": "2/1000000", "reasoning_tokens": {"quantity": 10, "price": "10/1000000", "amount": 0.0001, "as": "output_tokens"}}'),
	('graduated', '{"units": 1001}', '{"units": {"quantity": 1001, "price": "3/1", "amount": 5003, "tier": "graduated: 1000 at 5/1 + 1 at 3/1"}}');
SELECT tokenbill.charge('a', service, usage, usage::text, on_insufficient => 'debt') FROM line \g /dev/null
SELECT is(l.rates, expected, 'rates of ' || usage::text) FROM line JOIN tokenbill.ledger l USING (service, usage) WHERE l.account = 'a' ORDER BY l.seq;
SELECT is(sum(amount), (SELECT -sum(amount) FROM tokenbill.ledger WHERE account = 'a' AND kind = 'charge'), 'usage_daily adds up to what was charged') FROM tokenbill.usage_daily WHERE account = 'a';
SELECT results_eq($$SELECT meter, quantity, amount FROM tokenbill.usage_daily WHERE account = 'a' ORDER BY service, meter$$,
	$$VALUES ('units', 1001::numeric, 5003::numeric), ('input_tokens', 2000, 0.004), ('output_tokens', 10, 0.0001), ('reasoning_tokens', 10, 0.0001)$$, 'meter by meter');

-- Arguments
SELECT pg_temp.refused(format('SELECT tokenbill.set_price(''x'', ''m'', 1, %s)', args), sqlstate, jsonb_build_object('argument', argument), args) FROM (VALUES
	('mode => ''cliff''', '22023', 'tiers'), ('mode => ''volume'', tiers => ''[]''', '22023', 'tiers'), ('mode => ''volume'', tiers => ''{}''', '22023', 'tiers'), ('mode => ''volume'', tiers => ''[1]''', '22023', 'tiers'),
	('mode => ''volume'', tiers => ''[{"above": 1}]''', '22023', 'tiers'), ('mode => ''volume'', tiers => ''[{"unit_price": 1}]''', '22023', 'tiers'), ('mode => ''volume'', tiers => ''[{"above": "1", "unit_price": 1}]''', '22023', 'tiers'),
	('mode => ''volume'', tiers => ''[{"above": 1, "unit_price": 1, "upto": 3}]''', '22023', 'tiers'), ('mode => ''volume'', tiers => ''[{"above": 0, "unit_price": 1}]''', '22023', 'tiers'),
	('mode => ''volume'', tiers => ''[{"above": 2, "unit_price": 1}, {"above": 2, "unit_price": 2}]''', '22023', 'tiers'), ('mode => ''volume'', tiers => ''[{"above": 1e15, "unit_price": 1}]''', '22023', 'tiers'),
	('mode => ''volume'', tiers => ''[{"above": 2, "unit_price": -1}]''', '22023', 'unit_price'), ('3, mode => ''volume'', tiers => ''[{"above": 2, "unit_price": 1}]''', '22023', 'per'),
	('tiers => ''[{"above": 2, "unit_price": 1}]''', '22023', 'tiers'), ('mode => ''package'', tiers => ''[{"above": 2, "unit_price": 1}]''', '22023', 'tiers'),
	('mode => ''graduated'', tiers => ''[{"above": 1e-10, "unit_price": 1}]''', '22023', 'tiers'), ('mode => ''volume'', tiers => ''[{"above": 5.0000000001, "unit_price": 1}]''', '22023', 'tiers'),
	('0, mode => ''package''', '22023', 'per'), ('NULL, mode => ''package''', '22004', 'per'), ('1e-31, mode => ''package''', '22003', 'per'),
	('hours => ''24:00-01:00''', '22023', 'hours'), ('hours => ''8:00-09:00''', '22023', 'hours'), ('hours => ''08:00-08:00''', '22023', 'hours'), ('hours => ''08:60-09:00''', '22023', 'hours'), ('hours => ''08:00''', '22023', 'hours'),
	('service_tier => ''Batch''', '22023', 'service_tier'), ('account => ''a'', price_group => ''g''', '22023', 'price_group')) v(args, sqlstate, argument);
SELECT pg_temp.refused($$SELECT tokenbill.set_price('volume', 'units', 5, mode => 'volume', tiers => '[{"above": 1000, "unit_price": 4}]')$$, 'PT409',
	'{"was": "5/1 volume [{\"above\": 1000, \"unit_price\": 3}, {\"above\": 2000, \"unit_price\": 1}]", "now": "5/1 volume [{\"above\": 1000, \"unit_price\": 4}]"}', 'other tiers are another price');
SELECT lives_ok($$SELECT tokenbill.set_price('volume', 'units', 5.0, mode => 'volume', tiers => '[{"above": 1000.0, "unit_price": 3}, {"above": 2000, "unit_price": 1}]')$$, 'the same are not');
SELECT is(e.message, 'unit_price must not be negative', 'a price may be zero: ' || args) FROM unnest(ARRAY['-1', '-0.1, 3', '1, mode => ''volume'', tiers => ''[{"above": 2, "unit_price": -1}]''']) args,
	LATERAL pg_temp.error_of(format('SELECT tokenbill.set_price(''x'', ''m'', %s)', args)) e;
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
