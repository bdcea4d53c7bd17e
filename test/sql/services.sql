-- What is set of services beside their prices: markups, minimum charges, formats; what is done without a price
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(76);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('a'), tokenbill.create_account('b'), tokenbill.create_account('c'), tokenbill.create_account('sand', sandbox => true), tokenbill.recharge('a', 1000, 'S-1'),
	tokenbill.set_price_group('b', 'g'), tokenbill.set_price_group('c', 'g') \g /dev/null
CREATE FUNCTION pg_temp.total(account text, service text, usage jsonb, OUT result numeric) LANGUAGE sql AS $$
	SELECT trim_scale(sum(amount)) FROM tokenbill.quote(account, service, usage)
$$;

-- Markups: units cost 10, to group g 8, to c 6; more costs 10 to everybody
SELECT tokenbill.set_price('s', 'units', 10), tokenbill.set_price('s', 'units', 8, price_group => 'g'), tokenbill.set_price('s', 'units', 6, account => 'c'), tokenbill.set_price('s', 'more', 10), tokenbill.set_price('t', 'units', 10) \g /dev/null
CREATE FUNCTION pg_temp.all_of_them(OUT result text) LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', account, service, meter, pg_temp.total(account, service, jsonb_build_object(meter, 1))), ', ' ORDER BY service, meter DESC, account)
	FROM unnest('{a,b,c}'::text[]) account, (VALUES ('s', 'units'), ('s', 'more'), ('t', 'units')) v(service, meter)
$$;
SELECT is(pg_temp.all_of_them(), 'a s units 10, b s units 8, c s units 6, a s more 10, b s more 10, c s more 10, a t units 10, b t units 10, c t units 10', 'without a markup');
SELECT is(row(service, account, price_group, fraction)::text, '(*,*,"",0.1)', 'ten percent on everything') FROM tokenbill.set_markup(0.1);
SELECT is(pg_temp.all_of_them(), 'a s units 11, b s units 8, c s units 6, a s more 11, b s more 11, c s more 11, a t units 11, b t units 11, c t units 11', 'raises the list''s prices, not those agreed with a group or an account');
SELECT tokenbill.set_markup(0.2, 's') \g /dev/null
SELECT is(pg_temp.all_of_them(), 'a s units 12, b s units 8, c s units 6, a s more 12, b s more 12, c s more 12, a t units 11, b t units 11, c t units 11', 'a service''s goes before everybody''s');
SELECT tokenbill.set_discount(0.25, price_group => 'g') \g /dev/null
SELECT is(pg_temp.all_of_them(), 'a s units 12, b s units 6, c s units 6, a s more 12, b s more 7.5, c s more 7.5, a t units 11, b t units 7.5, c t units 7.5', 'a group''s before a service''s');
SELECT tokenbill.set_discount(0.5, 't', price_group => 'g') \g /dev/null
SELECT is(pg_temp.all_of_them(), 'a s units 12, b s units 6, c s units 6, a s more 12, b s more 7.5, c s more 7.5, a t units 11, b t units 5, c t units 5', 'that for the service before that for all');
SELECT tokenbill.set_markup(1, account => 'c') \g /dev/null
SELECT is(pg_temp.all_of_them(), 'a s units 12, b s units 6, c s units 12, a s more 12, b s more 7.5, c s more 20, a t units 11, b t units 5, c t units 20', 'an account''s before a group''s, and for its own prices too');
SELECT tokenbill.set_markup(0, 's', account => 'c') \g /dev/null
SELECT is(pg_temp.all_of_them(), 'a s units 12, b s units 6, c s units 6, a s more 12, b s more 7.5, c s more 10, a t units 11, b t units 5, c t units 20', 'an account''s for a service before all');
SELECT tokenbill.set_markup(0.3, 's', valid_from => '2026-03-01 12:00:01+00'), tokenbill.set_markup(0.05, 's', valid_from => '2026-02-01 00:00:00+00') \g /dev/null
SELECT is(pg_temp.total('a', 's', '{"units": 1}'), 12.0, 'neither one to come nor an older one');
SET LOCAL tokenbill.clock = '2026-03-01 12:00:01+00';
SELECT is(pg_temp.total('a', 's', '{"units": 1}'), 13.0, 'when it has come, it counts');
SELECT lives_ok($$SELECT tokenbill.set_markup(0.30, 's')$$, 'the same again');
SELECT pg_temp.refused($$SELECT tokenbill.set_markup(0.31, 's')$$, 'PT409', '{"was": 0.3, "now": 0.31}', 'another from the same moment');
DELETE FROM tokenbill.markup WHERE service = 's' AND account = '*' AND price_group = '';
SELECT is(pg_temp.total('a', 's', '{"units": 1}'), 11.0, 'a change by hand is seen');
TRUNCATE tokenbill.markup;
SELECT is(pg_temp.total('a', 's', '{"units": 1}'), 10.0, 'so is TRUNCATE');
SELECT pg_temp.refused(format('SELECT tokenbill.%s', call), sqlstate, jsonb_build_object('argument', argument), call) FROM (VALUES
	('set_markup(''NaN'')', '22003', 'fraction'), ('set_markup(1000.1)', '22003', 'fraction'), ('set_markup(0.0000001)', '22003', 'fraction'), ('set_markup(-1.1)', '22023', 'fraction'),
	('set_discount(-0.1)', '22023', 'fraction'), ('set_discount(1.1)', '22023', 'fraction'), ('set_discount(NULL)', '22004', 'fraction'), ('set_markup(1, account => ''a'', price_group => ''g'')', '22023', 'price_group')) v(call, sqlstate, argument);
SELECT pg_temp.refused($$SELECT tokenbill.set_markup(1, account => 'nobody')$$, 'PT404', '{"account": "nobody"}', 'markup of an unknown account');

-- Exact: 1/8 on 12.5 nanodollars and on tiers
SELECT tokenbill.set_price('exact', 'tokens', 0.0125, 1000000), tokenbill.set_price('exact', 'units', 1, mode => 'graduated', tiers => '[{"above": 10, "unit_price": 0.1}]'), tokenbill.set_markup(0.123457, 'exact') \g /dev/null
SELECT results_eq($$SELECT meter, unit_price, amount, tier FROM tokenbill.quote('a', 'exact', '{"tokens": 1, "units": 11}') ORDER BY meter$$,
	$$VALUES ('tokens', 0.0140432125, 0.0000000140432125, NULL), ('units', 0.1123457, 11.3469157, 'graduated: 10 at 1.123457/1 + 1 at 0.1123457/1')$$, 'a markup is exact, tiers included');
SELECT is(amount, -0.0000000140432125, 'and so is what is charged') FROM tokenbill.charge('a', 'exact', '{"tokens": 1}', 'exact');
SELECT is(rates, '{"tokens": "0.0140432125/1000000"}', 'the line keeps the price with the markup') FROM tokenbill.ledger WHERE account = 'a' AND idempotency_key = 'exact';
SELECT is(amount, 0.0000000140432125, 'usage_daily agrees') FROM tokenbill.usage_daily WHERE account = 'a' AND service = 'exact';
SELECT tokenbill.set_discount(1, 'exact', 'b') \g /dev/null
SELECT is(pg_temp.total('b', 'exact', '{"tokens": 1000000}'), 0.0, 'all of it off');

-- Minimum charge
SELECT tokenbill.set_price('min', 'units', 0.001), tokenbill.set_service('min', minimum_charge => 0.01) \g /dev/null
SELECT results_eq($$SELECT meter, quantity, unit_price, per, tier, amount FROM tokenbill.quote('a', 'min', '{"units": 3}') ORDER BY meter$$,
	$$VALUES ('minimum_charge', 1::numeric, 0.01, 1::numeric, 'minimum', 0.007), ('units', 3, 0.001, 1, NULL, 0.003)$$, 'what is missing is an item of its own');
SELECT is(pg_temp.total('a', 'min', jsonb_build_object('units', quantity)), amount, quantity || ' units') FROM (VALUES (0, 0.0), (1, 0.01), (9, 0.01), (10, 0.01), (11, 0.011)) v(quantity, amount);
SELECT is(amount, -0.01, 'a charge takes it') FROM tokenbill.charge('a', 'min', '{"units": 3}', 'min');
SELECT is(rates, '{"units": "0.001/1", "minimum_charge": {"quantity": 1, "price": "0.01/1", "amount": 0.007, "tier": "minimum"}}', 'and the line says so') FROM tokenbill.ledger WHERE account = 'a' AND idempotency_key = 'min';
SELECT results_eq($$SELECT meter, quantity, amount FROM tokenbill.usage_daily WHERE account = 'a' AND service = 'min' ORDER BY meter$$, $$VALUES ('minimum_charge', 1::numeric, 0.007), ('units', 3, 0.003)$$, 'usage_daily too');
SELECT pg_temp.refused($$SELECT tokenbill.quote('a', 'min', '{"minimum_charge": 1}')$$, '22023', '{"argument": "usage", "meter": "minimum_charge"}', 'nobody counts it');
SELECT tokenbill.set_price('min', 'minimum_charge', 0.005, account => 'b'), tokenbill.set_price('min', 'minimum_charge', 0, account => 'c') \g /dev/null
SELECT is(pg_temp.total(account, 'min', '{"units": 3}'), amount, account || ' has a minimum of its own') FROM (VALUES ('b', 0.005), ('c', 0.003)) v(account, amount);

SELECT tokenbill.set_price('min cost', 'units', 3), tokenbill.set_cost('min cost', 'units', 1), tokenbill.set_cost('min cost', 'minimum_charge', 2.5) \g /dev/null
SELECT tokenbill.charge('a', 'min cost', jsonb_build_object('units', quantity), 'min cost ' || quantity) FROM unnest('{0,1,3}'::int[]) quantity \g /dev/null
SELECT is(l.cost, v.cost, 'the upstream has a minimum, too: ' || quantity) FROM (VALUES (0, 0::numeric), (1, 2.5), (3, 3)) v(quantity, cost)
JOIN tokenbill.ledger l ON l.account = 'a' AND l.idempotency_key = 'min cost ' || quantity ORDER BY quantity;

-- Formats and service tiers
SELECT tokenbill.set_price('claude', 'input_tokens', 3, 1000000), tokenbill.set_price('claude', 'cache_read_tokens', 0.3, 1000000), tokenbill.set_price('claude', 'output_tokens', 15, 1000000),
	tokenbill.set_price('claude', 'input_tokens', 1.5, 1000000, service_tier => 'batch'), tokenbill.set_price('claude', 'output_tokens', 7.5, 1000000, service_tier => 'batch') \g /dev/null
SELECT results_eq(format($$SELECT meter, quantity, unit_price, tier, amount FROM tokenbill.quote('a', 'claude', '{"input_tokens": 100, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 0, "output_tokens": 10, "service_tier": %s}') ORDER BY meter$$, tier),
	format('VALUES (''cache_read_tokens'', 50::numeric, 0.3, NULL::text, 0.000015), (''input_tokens'', 100, %s, %L, %s), (''output_tokens'', 10, %s, %L, %s)', input, name, input * 0.0001, output, name, output * 0.00001), 'service tier ' || tier)
FROM (VALUES ('"standard"', 3, 15, NULL), ('"batch"', 1.5, 7.5, 'batch'), ('"priority"', 3, 15, NULL)) v(tier, input, output, name);
SELECT tokenbill.set_price('claude', 'input_tokens', 2, 1000000, account => 'b') \g /dev/null
SELECT is(unit_price, 2::numeric, 'an account''s standard price goes before the list''s batch price') FROM tokenbill.quote('b', 'claude', '{"input_tokens": 100, "cache_read_input_tokens": 0, "output_tokens": 0, "service_tier": "batch"}') WHERE meter = 'input_tokens';
SELECT tokenbill.charge('a', 'claude', '{"input_tokens": 100, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 0, "output_tokens": 10, "service_tier": "batch"}', 'batch') \g /dev/null
SELECT is(rates, '{"input_tokens": {"quantity": 100, "price": "1.5/1000000", "amount": 0.00015, "tier": "batch"}, "output_tokens": {"quantity": 10, "price": "7.5/1000000", "amount": 0.000075, "tier": "batch"},
	"cache_read_tokens": {"quantity": 50, "price": "0.3/1000000", "amount": 0.000015}}', 'the line has the meters that the usage was read as') FROM tokenbill.ledger WHERE account = 'a' AND idempotency_key = 'batch';
SELECT results_eq($$SELECT meter, quantity, amount FROM tokenbill.usage_daily WHERE account = 'a' AND service = 'claude' ORDER BY meter$$,
	$$VALUES ('cache_read_tokens', 50::numeric, 0.000015), ('input_tokens', 100, 0.00015), ('output_tokens', 10, 0.000075)$$, 'so usage_daily has them');
SELECT is(usage_format, 'meters', 'a format is set') FROM tokenbill.set_service('claude', 'meters');
SELECT is(usage_format, 'meters', 'null leaves it') FROM tokenbill.set_service('claude');
SELECT pg_temp.refused($$SELECT tokenbill.quote('a', 'claude', '{"input_tokens": 100, "output_tokens": 10, "service_tier": "batch"}')$$, '22023', '{"argument": "usage"}', 'only that is read then');
SELECT pg_temp.refused($$SELECT tokenbill.set_service('claude', 'yaml')$$, '22023', '{"argument": "usage_format"}', 'an unknown format');

-- Without a price
SELECT pg_temp.refused(format('SELECT tokenbill.charge(''a'', %L, %L, ''reject'')', service, usage), 'PT404', detail, 'rejected: ' || service)
FROM (VALUES ('new', '{"units": 1}', '{"service": "new"}'::jsonb), ('s', '{"units": 1, "words": 2}', '{"service": "s", "meter": "words"}')) v(service, usage, detail);
SET LOCAL tokenbill.unpriced = 'fallback';
SELECT pg_temp.refused($$SELECT tokenbill.charge('a', 'new', '{"units": 1}', 'reject')$$, 'PT404', '{"service": "new", "meter": "units"}', 'nothing to fall back to');
SELECT tokenbill.set_price('*', 'input_tokens', 100, 1000000), tokenbill.set_price('*', '*', 0.5) \g /dev/null
SELECT results_eq($$SELECT meter, priced_as, unit_price, amount FROM tokenbill.quote('a', 'new', '{"units": 2, "input_tokens": 1000, "cache_read_tokens": 1000}') ORDER BY meter$$,
	$$VALUES ('cache_read_tokens', 'input_tokens', 100::numeric, 0.1), ('input_tokens', 'input_tokens', 100, 0.1), ('units', '*', 0.5, 1)$$, 'an unknown service costs what * costs: the meter, its parent, any');
SELECT is(pg_temp.total('a', 's', '{"units": 1, "words": 2}'), 11.0, 'so does an unknown meter of a known one');
SELECT tokenbill.charge('a', 's', '{"units": 1, "words": 2}', 'fallback') \g /dev/null
SELECT is(rates, '{"units": "10/1", "words": {"quantity": 2, "price": "0.5/1", "amount": 1, "as": "*", "service": "*"}}', 'which the line says') FROM tokenbill.ledger WHERE account = 'a' AND idempotency_key = 'fallback';
SELECT pg_temp.refused($$SELECT tokenbill.set_price('s', '*', 1)$$, '22023', '{"argument": "meter"}', 'only service * has a meter *');
SET LOCAL tokenbill.unpriced = 'suspense';
SELECT is(pg_temp.pick(r, 'amount', 'price', 'balance'), jsonb_build_object('amount', 0, 'price', 0, 'balance', a.balance), 'recorded, unpriced') FROM tokenbill.account a,
	tokenbill.charge('a', 'new', '{"units": 2, "words": 3}', 'suspended') r WHERE a.account = 'a';
SELECT is(row(amount, contra, rates, cost, request)::text, '(0,suspense,"{""units"": {""quantity"": 2}, ""words"": {""quantity"": 3}}",,"{""unpriced"": [""units"", ""words""]}")', 'with what was used, and what has no price') FROM tokenbill.ledger WHERE account = 'a' AND idempotency_key = 'suspended';
SELECT results_eq($$SELECT meter, quantity, unit_price, tier, amount FROM tokenbill.quote('a', 's', '{"units": 2, "words": 3}') ORDER BY meter$$, $$VALUES ('units', 2::numeric, 10::numeric, 'suspense', 0::numeric), ('words', 3, NULL, 'unpriced', 0)$$, 'the whole line waits');
SELECT is(row(replayed, amount)::text, '(t,0)', 'it is replayed') FROM tokenbill.charge('a', 'new', '{"units": 2, "words": 3}', 'suspended');
SELECT pg_temp.refused($$SELECT tokenbill.hold('a', NULL, 'h', service => 'new', usage => '{"units": 2}')$$, 'PT404', '{"service": "new"}', 'a hold needs a price');
SELECT tokenbill.hold('a', 5, 'h', service => 'new') \g /dev/null
SELECT is(row(amount, price)::text, '(0,0)', 'a capture does not') FROM tokenbill.capture('a', 'h', usage => '{"units": 2}');
SELECT is(price, 0::numeric, 'nor does a sandbox account') FROM tokenbill.charge('sand', 'new', '{"units": 2}', 'sand');
SELECT is(row(contra, request -> 'unpriced')::text, '(sandbox,"[""units""]")', 'whose line says so too') FROM tokenbill.ledger WHERE account = 'sand';
RESET tokenbill.unpriced;
SELECT is(row(replayed, amount)::text, '(t,0)', 'replayed when the policy is another') FROM tokenbill.charge('a', 'new', '{"units": 2, "words": 3}', 'suspended');
SELECT is(row(replayed, price)::text, '(t,0)', 'the capture too') FROM tokenbill.capture('a', 'h', usage => '{"units": 2}');
SELECT pg_temp.refused($$SELECT tokenbill.charge('a', 'new', '{"units": 3}', 'suspended')$$, 'PT409', '{"argument": "usage"}', 'but not another request');
SELECT tokenbill.set_price('new', 'units', 1), tokenbill.set_price('new', 'words', 1) \g /dev/null
SELECT is(row(replayed, amount)::text, '(t,0)', 'nor when it has got a price') FROM tokenbill.charge('a', 'new', '{"units": 2, "words": 3}', 'suspended');

-- Replays under changed prices
SELECT to_jsonb(r) - 'replayed' AS first FROM tokenbill.charge('a', 's', '{"units": 1}', 'again') r \gset
SELECT tokenbill.set_price('s', 'units', 1000000, valid_from => '2026-02-28 00:00:00+00', service_tier => 'standard'), tokenbill.set_markup(3, 's'), tokenbill.set_price('s', 'units', 77, account => 'a') \g /dev/null
SELECT is(to_jsonb(r) - 'replayed', :'first'::jsonb, 'a replay is the first receipt, whatever prices are now') FROM tokenbill.charge('a', 's', '{"units": 1}', 'again') r;
DELETE FROM tokenbill.price WHERE service = 's';
SELECT is(to_jsonb(r) - 'replayed', :'first'::jsonb, 'or if there are none') FROM tokenbill.charge('a', 's', '{"units": 1}', 'again') r;
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');
SELECT is(sum(amount), 0::numeric, 'and balanced') FROM tokenbill.trial_balance;

SELECT * FROM finish();
ROLLBACK;
