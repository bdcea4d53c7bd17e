-- What prices turn out to have been: reprice(); and what is earned: margin_daily, prices_below_cost
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(53);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('a'), tokenbill.create_account('b'), tokenbill.create_account('sand', credit_limit => 100, sandbox => true), tokenbill.create_account('poor'), tokenbill.recharge('a', 1000, 'R-1') \g /dev/null

-- Lines at 2, of which 100 were too many, and lines without a price
SELECT tokenbill.set_price('s', 'units', 2), tokenbill.set_price('s', 'tokens', 1, 1000) \g /dev/null
SELECT tokenbill.charge('a', 's', '{"units": 10}', 'one'), tokenbill.charge('a', 's', '{"units": 5, "tokens": 100}', 'two'), tokenbill.hold('a', 50, 'h', service => 's'),
	tokenbill.capture('a', 'h', usage => '{"units": 3}', idempotency_key => 'part', final => false), tokenbill.capture('a', 'h', amount => 1), tokenbill.charge_amount('a', 7, 'by amount', 's'),
	tokenbill.charge('a', 's', '{"units": 4}', 'back'), tokenbill.refund('a', 'back', 'back 1', 1), tokenbill.charge('sand', 's', '{"units": 10}', 'one') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-02 12:00:00+00';
SELECT tokenbill.charge('a', 's', '{"units": 10}', 'three') \g /dev/null
SET LOCAL tokenbill.unpriced = 'suspense';
SELECT tokenbill.charge('a', 'new', '{"units": 3}', 'new 1'), tokenbill.charge('a', 'new', '{"units": 2, "words": 1}', 'new 2'), tokenbill.charge('poor', 'new', '{"units": 9}', 'new 1') \g /dev/null
RESET tokenbill.unpriced;
SELECT results_eq('SELECT account COLLATE "default", seq, kind, service, unpriced, usage, idempotency_key COLLATE "default", sandbox FROM tokenbill.suspense ORDER BY account, seq',
	$$VALUES ('a', 11::bigint, 'charge', 'new', '["units"]'::jsonb, '{"units": 3}'::jsonb, 'new 1', false), ('a', 12, 'charge', 'new', '["units", "words"]', '{"units": 2, "words": 1}', 'new 2', false),
		('poor', 1, 'charge', 'new', '["units"]', '{"units": 9}', 'new 1', false)$$, 'suspense shows what waits for a price');
CREATE FUNCTION pg_temp.repriced(account text, service text DEFAULT NULL, "from" timestamptz DEFAULT '2026-03-01', "to" timestamptz DEFAULT '2026-04-01', dry_run boolean DEFAULT true, OUT result text) LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', idempotency_key, action, trim_scale(was), '->', trim_scale(now), '@' || adjustment_seq), ', ' ORDER BY seq) FROM tokenbill.reprice(account, service, "from", "to", dry_run)
$$;
SELECT is(pg_temp.repriced('a', 's'), NULL, 'with the same prices nothing is repriced');
SELECT is(pg_temp.repriced('a'), 'new 1 unpriced 0 ->, new 2 unpriced 0 ->', 'but what still has none is told');
SELECT is(reason, 'service "new" has no price', 'and why') FROM tokenbill.reprice('a', 'new', '2026-03-01', '2026-04-01') WHERE idempotency_key = 'new 1';

-- It had been agreed on 1.5 from the first of March on
SET LOCAL tokenbill.clock = '2026-03-03 12:00:00+00';
SELECT tokenbill.set_price('s', 'units', 1.5, account => 'a', valid_from => '2026-03-01 00:00:00+00'), tokenbill.set_price('s', 'units', 1.5, account => 'sand', valid_from => '2026-03-01 00:00:00+00'), pg_temp.fingerprint() AS before \gset
SELECT is(pg_temp.repriced('a', 's'), 'one adjust 20 -> 15, two adjust 10.1 -> 7.6, part adjust 6 -> 4.5, back refunded 8 -> 6, three adjust 20 -> 15', 'a dry run says what would be made up for');
SELECT is(pg_temp.repriced('a', 's', "to" => '2026-03-02'), 'one adjust 20 -> 15, two adjust 10.1 -> 7.6, part adjust 6 -> 4.5, back refunded 8 -> 6', 'to a time');
SELECT is(pg_temp.repriced('a', 's', "from" => '2026-03-02 12:00:00+00'), 'three adjust 20 -> 15', 'from a time on');
SELECT is(pg_temp.repriced('a', 's', "to" => '2026-03-01 12:00:00+00'), NULL, 'which does not include its end');
SELECT is(pg_temp.repriced('a', 'other'), NULL, 'of another service');
SELECT is(pg_temp.fingerprint(), :'before'::jsonb, 'and changes nothing');
SELECT balance AS was FROM tokenbill.account WHERE account = 'a' \gset
SELECT is(pg_temp.repriced('a', 's', dry_run => false), 'one adjust 20 -> 15 @13, two adjust 10.1 -> 7.6 @14, part adjust 6 -> 4.5 @15, back refunded 8 -> 6, three adjust 20 -> 15 @16', 'then adjustments are posted');
SELECT results_eq($$SELECT kind, service, amount, contra, idempotency_key COLLATE "default", ref, request - 'rates' FROM tokenbill.ledger WHERE account = 'a' AND seq > 12 ORDER BY seq$$,
	$$VALUES ('adjustment', 's', 5::numeric, 'revenue', 'tokenbill:reprice:2:1', 'one', '{"seq": 2, "was": 20, "now": 15}'::jsonb), ('adjustment', 's', 2.5, 'revenue', 'tokenbill:reprice:3:1', 'two', '{"seq": 3, "was": 10.1, "now": 7.6}'),
		('adjustment', 's', 1.5, 'revenue', 'tokenbill:reprice:5:1', 'part', '{"seq": 5, "was": 6, "now": 4.5}'), ('adjustment', 's', 5, 'revenue', 'tokenbill:reprice:10:1', 'three', '{"seq": 10, "was": 20, "now": 15}')$$, 'that refer to what they adjust');
SELECT is(request -> 'rates', '{"units": "1.5/1", "tokens": "1/1000"}'::jsonb, 'and say at what price') FROM tokenbill.ledger WHERE account = 'a' AND seq = 14;
SELECT is(balance, :was + 14.0, 'the balance has it') FROM tokenbill.account WHERE account = 'a';
SELECT is(pg_temp.repriced('a', 's', dry_run => false), 'back refunded 8 -> 6', 'a second run posts nothing');
SELECT is(row(amount, replayed)::text, '(-20,t)', 'the charge is replayed as it was') FROM tokenbill.charge('a', 's', '{"units": 10}', 'one');
SELECT is(pg_temp.repriced('sand', 's', dry_run => false), 'one adjust 20 -> 15 @2', 'a sandbox account goes the same way');
SELECT is(row(amount, contra, request -> 'price')::text, '(0,sandbox,-5)', 'and nothing moves') FROM tokenbill.ledger WHERE account = 'sand' AND seq = 2;
SELECT is(pg_temp.repriced('sand', 's', dry_run => false), NULL, 'once');

-- Again, upwards; each line's adjustments are counted
SELECT tokenbill.set_price('s', 'units', 1.75, account => 'a', valid_from => '2026-03-01 06:00:00+00') \g /dev/null
SELECT is(pg_temp.repriced('a', 's', dry_run => false), 'one adjust 15 -> 17.5 @17, two adjust 7.6 -> 8.85 @18, part adjust 4.5 -> 5.25 @19, back refunded 8 -> 7, three adjust 15 -> 17.5 @20', 'another correction');
SELECT is(idempotency_key, 'tokenbill:reprice:2:2', 'is the line''s second') FROM tokenbill.ledger WHERE account = 'a' AND seq = 17;
SELECT is(pg_temp.repriced('a', 's', dry_run => false), 'back refunded 8 -> 7', 'and then it is right');

-- Suspense: priced as of its own time
SELECT tokenbill.set_price('new', 'units', 2) \g /dev/null
SELECT is(pg_temp.repriced('a', 'new', dry_run => false), 'new 1 unpriced 0 ->, new 2 unpriced 0 ->', 'a price from now on does not price the past');
SELECT tokenbill.set_price('new', 'units', 1, valid_from => '2026-03-01 00:00:00+00'), tokenbill.set_cost('new', 'units', 0.75, valid_from => '2026-03-01 00:00:00+00') \g /dev/null
SELECT is(pg_temp.repriced('a', 'new', dry_run => false), 'new 1 adjust 0 -> 3 @21, new 2 unpriced 0 ->', 'one for its time does');
SELECT is(row(amount, contra, cost)::text, '(-3,revenue,2.25)', 'it is charged now, and its cost known') FROM tokenbill.ledger WHERE account = 'a' AND seq = 21;
SELECT results_eq($$SELECT idempotency_key COLLATE "default" FROM tokenbill.suspense WHERE account = 'a'$$, ARRAY['new 2'], 'and no longer in suspense');
SELECT tokenbill.set_price('new', 'words', 0, valid_from => '2026-03-01 00:00:00+00') \g /dev/null
SELECT is(pg_temp.repriced('a', 'new', dry_run => false), 'new 2 adjust 0 -> 2 @22', 'when every meter has a price');
SELECT is(pg_temp.repriced('poor', dry_run => false), 'new 1 adjust 0 -> 9 @2', 'what was delivered is charged');
SELECT is(balance, -9::numeric, 'into debt if need be') FROM tokenbill.account WHERE account = 'poor';
SET LOCAL tokenbill.unpriced = 'suspense';
SELECT tokenbill.charge('poor', 'free', '{"units": 1}', 'free') \g /dev/null
RESET tokenbill.unpriced;
SELECT tokenbill.set_price('free', 'units', 0, valid_from => '2026-03-01 00:00:00+00') \g /dev/null
SELECT is(pg_temp.repriced('poor', 'free', dry_run => false), 'free adjust 0 -> 0 @4', 'a price of nothing takes it out of suspense too');
SELECT is_empty($$SELECT 1 FROM tokenbill.suspense$$, 'nothing is left in it');

-- Refunds know of it
SELECT pg_temp.refused($$SELECT tokenbill.refund('a', 'one', 'r 1', 17.6)$$, 'PT409', '{"charged": 17.5}', 'no more comes back than it costs now');
SELECT is(amount, 17.5, 'and all of that') FROM tokenbill.refund('a', 'one', 'r 1');
SELECT is(amount, 3.0, 'of what was in suspense as well') FROM tokenbill.refund('a', 'new 1', 'r 2');

-- Margin
SELECT tokenbill.create_account('m'), tokenbill.recharge('m', 100, 'R-2'), tokenbill.set_price('margin', 'units', 3), tokenbill.set_cost('margin', 'units', 2), tokenbill.set_price('margin', 'other', 1) \g /dev/null
SELECT tokenbill.charge('m', 'margin', usage, usage::text) FROM unnest('{"{\"units\": 2}", "{\"units\": 0}", "{\"units\": 2, \"other\": 1}", "{\"other\": 0, \"units\": 1}"}'::jsonb[]) usage \g /dev/null
SELECT is(l.cost, expected, 'cost of ' || v.usage) FROM (VALUES ('{"units": 2}', 4::numeric), ('{"units": 0}', 0), ('{"other": 1, "units": 2}', NULL), ('{"other": 0, "units": 1}', 2)) v(usage, expected)
JOIN tokenbill.ledger l ON l.account = 'm' AND l.idempotency_key = v.usage ORDER BY l.seq;
SELECT tokenbill.refund('m', '{"units": 2}', 'm back', 1), tokenbill.charge_amount('m', 5, 'plain') \g /dev/null
SELECT results_eq($$SELECT day, service, currency, revenue, cost, margin, lines, unknown_cost_lines FROM tokenbill.margin_daily WHERE account = 'm' ORDER BY service$$,
	$$VALUES ('2026-03-03'::date, 'margin', 'USD', 15::numeric, 6::numeric, 9::numeric, 5::bigint, 1::bigint), ('2026-03-03', NULL, 'USD', 5, 0, 5, 1, 1)$$, 'revenue, cost and margin of a day');
SELECT tokenbill.set_cost('margin', 'other', 0.5, valid_from => '2026-03-01 00:00:00+00') \g /dev/null
SELECT is(row(action, was, now, cost_was, cost_now)::text, '(adjust,7,7,,4.5)', 'reprice makes up for an unknown cost') FROM tokenbill.reprice('m', 'margin', '2026-03-01', '2026-04-01', false);
SELECT is(row(revenue, cost, margin, unknown_cost_lines)::text, '(15,10.5,4.5,0)', 'which the margin then has') FROM tokenbill.margin_daily WHERE account = 'm' AND service = 'margin';
SELECT is_empty($$SELECT * FROM tokenbill.margin_daily WHERE account = 'sand'$$, 'sandbox accounts have none');
SELECT is((SELECT sum(revenue) FROM tokenbill.margin_daily), (SELECT sum(amount) FROM tokenbill.trial_balance WHERE ledger_account = 'revenue'), 'revenue is the trial balance''s');
SELECT is((SELECT sum(amount) FROM tokenbill.usage_daily WHERE account = 'a'), (SELECT -sum(amount) FROM tokenbill.ledger WHERE account = 'a' AND kind IN ('charge', 'capture', 'adjustment')), 'usage_daily has adjustments');

-- Prices below cost
SET LOCAL client_min_messages = error;
CREATE FUNCTION pg_temp.below(service text, OUT result text) LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', meter, account, nullif(price_group, ''), nullif(service_tier, 'standard'), nullif(hours, ''), '>' || above, unit_price || '/' || per, '<', cost_unit_price || '/' || cost_per), ', '
		ORDER BY meter, account, price_group, service_tier, hours, above) FROM tokenbill.prices_below_cost b WHERE b.service = below.service
$$;
SELECT is(pg_temp.below('margin'), NULL, 'a price above its cost');
SELECT tokenbill.set_price('margin', 'units', 1.9, account => 'm'), tokenbill.set_price('margin', 'other', 499, 1000, price_group => 'g') \g /dev/null
SELECT is(pg_temp.below('margin'), 'other * g >0 499/1000 < 0.5/1, units m >0 1.9/1 < 2/1', 'whoever has one below it');
SELECT tokenbill.set_discount(0.5, 'margin', account => 'b') \g /dev/null
SELECT is(pg_temp.below('margin'), 'other * g >0 499/1000 < 0.5/1, units b >0 1.5/1 < 2/1, units m >0 1.9/1 < 2/1', 'or gets there by a discount');
SELECT tokenbill.set_price('tiers', 'units', 5, mode => 'volume', tiers => '[{"above": 10, "unit_price": 4}, {"above": 30, "unit_price": 3}]'), tokenbill.set_cost('tiers', 'units', 4.5, mode => 'volume', tiers => '[{"above": 20, "unit_price": 3.5}]'),
	tokenbill.set_price('tiers', 'tokens', 5), tokenbill.set_cost('tiers', 'tokens', 4), tokenbill.set_cost('tiers', 'tokens', 6, hours => '08:00-12:00'), tokenbill.set_price('tiers', 'tokens', 4.5, service_tier => 'batch'),
	tokenbill.set_cost('tiers', 'tokens', 3, service_tier => 'batch') \g /dev/null
SELECT is(pg_temp.below('tiers'), 'tokens * >0 5/1 < 6/1, units * >10 4/1 < 4.5/1, units * >30 3/1 < 3.5/1', 'bracket by bracket, window by window');
SELECT tokenbill.set_price('margin', 'units', 10, account => 'm', valid_from => '2026-03-04 00:00:00+00'), tokenbill.set_cost('margin', 'units', 20, valid_from => '2026-03-05 00:00:00+00') \g /dev/null
SELECT results_eq($$SELECT valid_from, valid_to, unit_price, cost_unit_price FROM tokenbill.prices_below_cost WHERE service = 'margin' AND account = 'm' AND meter = 'units' ORDER BY 1$$,
	$$VALUES ('2026-03-03 12:00:00+00'::timestamptz, '2026-03-04 00:00:00+00'::timestamptz, 1.9, 2::numeric), ('2026-03-05 00:00:00+00', NULL, 10, 20)$$, 'from when to when, today and later');
RESET client_min_messages;
\set VERBOSITY default
SELECT tokenbill.set_price('margin', 'units', 1, account => 'b') \g /dev/null
\set VERBOSITY terse
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');
SELECT is(sum(amount), 0::numeric, 'and balanced') FROM tokenbill.trial_balance;

-- Who may not
SELECT pg_temp.refused($$SELECT tokenbill.reprice('nobody', NULL, '2026-03-01', '2026-04-01')$$, 'PT404', '{"account": "nobody"}', 'an unknown account');
SELECT tokenbill.set_account_status('b', 'closed') \g /dev/null
SELECT lives_ok($$SELECT tokenbill.reprice('b', NULL, '2026-03-01', '2026-04-01', false)$$, 'a closed account that nothing is to be adjusted of');

SELECT * FROM finish();
ROLLBACK;
