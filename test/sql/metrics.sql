-- Gauges and counters: what they say, that they are Prometheus', and the text
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(60);
SET LOCAL tokenbill.clock = '2026-03-02 00:30:00+00';

-- One value, of the metric with these labels
CREATE FUNCTION pg_temp.of(name text, labels jsonb DEFAULT '{}') RETURNS numeric LANGUAGE sql AS $$
	SELECT trim_scale(m.value) FROM tokenbill.metrics m WHERE m.name = of.name AND m.labels = of.labels
$$;
SELECT coalesce(sum(a.seq), 0) AS lines FROM tokenbill.account a \gset
SELECT pg_temp.of('tokenbill_holds_open') AS open, pg_temp.of('tokenbill_holds_overdue') AS overdue,
	pg_temp.of('tokenbill_tokens', '{"status": "issued"}') AS issued, pg_temp.of('tokenbill_tokens', '{"status": "expired"}') AS expired,
	coalesce(pg_temp.of('tokenbill_accounts', '{"status": "active", "sandbox": false}'), 0) AS active \gset

-- Accounts and what they have
SELECT tokenbill.create_account('ma', 'MTC', credit_limit => 5), tokenbill.create_account('mb', 'MTC', credit_limit => 5),
	tokenbill.create_account('ms', 'MTC', sandbox => true), tokenbill.create_account('me', 'MTE') \g /dev/null
SELECT tokenbill.recharge('ma', 10.0625, 'M-1'), tokenbill.recharge('ms', 1000, 'M-2'), tokenbill.charge_amount('mb', 3.5, 'k1'),
	tokenbill.charge_amount('ms', 1, 'k1'), tokenbill.hold('ma', 2, 'h1', ttl => '10 minutes') \g /dev/null
SELECT is(pg_temp.of('tokenbill_customer_balance', '{"currency": "MTC"}'), 6.5625, 'the sum of the balances, without sandboxes');
SELECT is(pg_temp.of('tokenbill_customer_held', '{"currency": "MTC"}'), 2.0, 'what is held of it');
SELECT is(pg_temp.of('tokenbill_customer_debt', '{"currency": "MTC"}'), 3.5, 'what is below zero');
SELECT is(pg_temp.of('tokenbill_customer_balance', '{"currency": "MTE"}'), 0.0, 'each currency for itself');
SELECT is(pg_temp.of('tokenbill_accounts', '{"status": "active", "sandbox": false}'), :active + 3.0, 'accounts by status');
SELECT is(pg_temp.of('tokenbill_ledger_lines_total'), :lines + 5.0, 'the lines of the ledger');
SELECT is(pg_temp.of('tokenbill_ledger_months'), (SELECT count(*) FROM pg_inherits WHERE inhparent = 'tokenbill.ledger'::regclass)::numeric, 'and its months');
SELECT tokenbill.set_account_status('me', 'frozen') \g /dev/null
SELECT is(pg_temp.of('tokenbill_accounts', '{"status": "active", "sandbox": false}'), :active + 2.0, 'a frozen one is not active');

-- Holds
SELECT is(pg_temp.of('tokenbill_holds_open'), :open + 1.0, 'open holds are counted');
SELECT is(pg_temp.of('tokenbill_holds_overdue'), :overdue + 0.0, 'none is overdue');
SET LOCAL tokenbill.clock = '2026-03-02 00:40:00+00';
SELECT is(pg_temp.of('tokenbill_holds_overdue'), :overdue + 1.0, 'at the end of its time it is');
SELECT is(pg_temp.of('tokenbill_hold_oldest_age_seconds') >= 600, true, 'and the oldest as old as it is');
SELECT tokenbill.expire_holds('ma') \g /dev/null
SELECT is(pg_temp.of('tokenbill_holds_open'), :open + 0.0, 'an expired hold is not open');

-- Tokens
SELECT tokenbill.issue_token('ma', '1 hour') AS token \gset
SELECT tokenbill.issue_token('ma', '1 minute') \g /dev/null
SELECT is(pg_temp.of('tokenbill_tokens', '{"status": "issued"}'), :issued + 2.0, 'tokens that can be used');
SET LOCAL tokenbill.clock = '2026-03-02 00:41:00+00';
SELECT is(pg_temp.of('tokenbill_tokens', '{"status": "issued"}'), :issued + 1.0, 'of which one cannot any more');
SELECT is(pg_temp.of('tokenbill_tokens', '{"status": "expired"}'), :expired + 1.0, 'and counts as expired');
SELECT tokenbill.charge_amount('ma', 0.5, :'token') \g /dev/null
SELECT is(pg_temp.of('tokenbill_tokens', '{"status": "issued"}'), :issued + 0.0, 'a used one is gone');
SELECT is(pg_temp.of('tokenbill_tokens', '{"status": "expired"}'), :expired + 1.0, 'and has not expired');

-- Orders: those with a gateway that are on their way
SELECT is(pg_temp.of('tokenbill_recharge_orders', '{"status": "processing"}'), 0.0, 'no orders are zero, not nothing');
SELECT is(pg_temp.of('tokenbill_recharge_orders', '{"status": "success"}'), NULL, 'settled ones are not counted');
INSERT INTO tokenbill.recharge_order (account, order_no, amount, currency, status, gateway, created_at, updated_at)
VALUES ('ma', 'M-3', 1, 'MTC', 'processing', 'g', '2026-03-02 00:00+00', now()), ('mb', 'M-4', 1, 'MTC', 'processing', 'g', '2026-03-02 00:40+00', now());
SELECT is(pg_temp.of('tokenbill_recharge_orders', '{"status": "processing"}'), 2.0, 'orders on their way are');
SELECT is(pg_temp.of('tokenbill_recharge_order_oldest_age_seconds', '{"status": "processing"}'), 2460.0, 'and how long the oldest has been');
SELECT is(pg_temp.of('tokenbill_recharge_order_oldest_age_seconds', '{"status": "unknown"}'), 0.0, 'in its status');

-- Providers
SELECT tokenbill.add_provider('mp', 'manual', low_balance => 20), tokenbill.add_provider('mq', 'manual') \g /dev/null
SELECT is(pg_temp.of('tokenbill_provider_balance', '{"provider": "mp", "currency": "USD"}'), NULL, 'a balance that nobody knows is no zero');
SELECT is(pg_temp.of('tokenbill_provider_stale', '{"provider": "mp", "currency": "USD"}'), 0.0, 'the provider is there');
SELECT tokenbill.record_provider_balance('mp', 100.000000000000000000000000000001) \g /dev/null
SELECT tokenbill.record_provider_balance('mp', NULL, error => 'HTTP 500', checked_at => '2026-03-02 00:41:01+00') \g /dev/null
SELECT is(pg_temp.of('tokenbill_provider_balance', '{"provider": "mp", "currency": "USD"}'), 100.000000000000000000000000000001, 'its balance, to the last digit');
SELECT is(pg_temp.of('tokenbill_provider_stale', '{"provider": "mp", "currency": "USD"}'), 1.0, 'which a failed report makes stale, and not zero');
SELECT is(pg_temp.of('tokenbill_provider_low_balance', '{"provider": "mp", "currency": "USD"}'), 20.0, 'what is low');
SELECT is(pg_temp.of('tokenbill_provider_low_balance', '{"provider": "mq", "currency": "USD"}'), NULL, 'where somebody has said so');
SELECT tokenbill.set_provider('mq', enabled => false) \g /dev/null
SELECT is_empty($$SELECT * FROM tokenbill.metrics WHERE labels ->> 'provider' = 'mq'$$, 'nothing of one that is switched off');

-- Checks: what is due, and a histogram of the answers
SELECT tokenbill.add_preset('mtc', 'https://mtc.example.com'), tokenbill.add_preset_request('mtc', '/balance', '$.balance', headers => '{}') \g /dev/null
SELECT pg_temp.of('tokenbill_checks_due') AS due, pg_temp.of('tokenbill_checks_under_way') AS under_way \gset
SELECT tokenbill.add_provider('mc', 'mtc', check_every => '1 hour') \g /dev/null
UPDATE tokenbill.provider_check SET next_at = '2026-03-02 00:41:10+00' WHERE provider = 'mc';
SELECT is(pg_temp.of('tokenbill_checks_due'), :due + 0.0, 'a check that is to come is not due');
SET LOCAL tokenbill.clock = '2026-03-02 00:42:00+00';
SELECT is(pg_temp.of('tokenbill_checks_due'), :due + 1.0, 'at its time it is');
SELECT is(pg_temp.of('tokenbill_check_late_seconds') >= 50, true, 'and how long it has been');
SELECT target, lease FROM tokenbill.claim_checks(1000) WHERE target = 'mc' \gset
SELECT is(pg_temp.of('tokenbill_checks_due'), 0.0, 'under way it is not due any more');
SELECT is(pg_temp.of('tokenbill_checks_under_way') > :under_way, true, 'but under way');
SELECT tokenbill.record_check(:'target', :lease, 200, '{}', '{"balance": 7}', NULL, NULL, 1000) \g /dev/null
SELECT is(pg_temp.of('tokenbill_checks_total', '{"provider": "mc"}'), 1.0, 'it ends');
UPDATE tokenbill.provider_check SET latency[1] = 3, latency[11] = 2, latency_ms = 61100 WHERE provider = 'mc';
SELECT bag_eq($$SELECT labels ->> 'le', value FROM tokenbill.metrics WHERE name = 'tokenbill_check_duration_seconds_bucket' AND labels ->> 'provider' = 'mc'$$, $$VALUES
	('0.05', 3::numeric), ('0.1', 3), ('0.25', 3), ('0.5', 3), ('1', 4), ('1.2', 4), ('2.5', 4), ('5', 4), ('10', 4), ('20', 4), ('+Inf', 6)$$, 'each bucket has all that took no longer');
SELECT is(pg_temp.of('tokenbill_check_duration_seconds_count', '{"provider": "mc"}'), 6.0, 'the last of them is the count');
SELECT is(pg_temp.of('tokenbill_check_duration_seconds_sum', '{"provider": "mc"}'), 61.1, 'and the sum is in seconds');

-- Breakers and the worker's errors
SELECT tokenbill.breaker_note('provider', 'mp', false, NULL) FROM generate_series(1, 5) \g /dev/null
SELECT bag_eq($$SELECT labels ->> 'state', value FROM tokenbill.metrics WHERE name = 'tokenbill_breaker_state' AND labels @> '{"kind": "provider", "target": "mp"}'$$,
	$$VALUES ('closed', 0::numeric), ('open', 1), ('half_open', 0)$$, 'the state of a breaker is one of three');
SELECT is(pg_temp.of('tokenbill_breaker_opened_total', '{"kind": "provider", "target": "mp"}'), 1.0, 'how often it opened');
SELECT is(pg_temp.of('tokenbill_breaker_failures', '{"kind": "provider", "target": "mp"}'), 5.0, 'and after how many failures');
SELECT tokenbill.record_worker_error('md', t, 'XX000', 'broken') FROM unnest('{a,a,b}'::text[]) t \g /dev/null
SELECT is(pg_temp.of('tokenbill_worker_errors', '{"duty": "md"}'), 3.0, 'errors of the worker, each time');

-- Alerts, webhooks and credentials
SELECT coalesce(pg_temp.of('tokenbill_alerts_raised', '{"kind": "account_low", "severity": "info"}'), 0) AS raised, pg_temp.of('tokenbill_webhooks_pending') AS pending \gset
SELECT tokenbill.add_alert_webhook('mt', 'https://mt.example.com/'), tokenbill.set_low_balance('mb', 100), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.of('tokenbill_alerts_raised', '{"kind": "account_low", "severity": "info"}'), :raised + 1.0, 'an alert that is raised');
SELECT is(pg_temp.of('tokenbill_webhooks_pending') > :pending, true, 'what is to be delivered of it');
SET LOCAL tokenbill.clock = '2026-03-02 00:44:00+00';
SELECT is(pg_temp.of('tokenbill_webhook_oldest_age_seconds') >= 120, true, 'and how long it has been');
SELECT tokenbill.set_low_balance('mb', NULL), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(coalesce(pg_temp.of('tokenbill_alerts_raised', '{"kind": "account_low", "severity": "info"}'), 0), :raised + 0.0, 'a cleared one is not raised');
SELECT tokenbill.set_credential_expiry('mt', '2026-03-02 01:44:00+00') \g /dev/null
SELECT is(pg_temp.of('tokenbill_credential_expires_in_seconds', '{"credential": "mt"}'), 3600.0, 'when a credential expires');

-- As Prometheus has them
SELECT is_empty($$SELECT * FROM tokenbill.metrics WHERE name !~ '^tokenbill_[a-z0-9_]+$' OR type NOT IN ('gauge', 'counter', 'histogram') OR help = '' OR value IS NULL OR jsonb_typeof(labels) <> 'object'$$,
	'names, types and values are such as Prometheus takes');
SELECT is_empty($$SELECT m.name, l.key FROM tokenbill.metrics m, jsonb_each(m.labels) l WHERE l.key !~ '^[a-z_]+$' OR l.value = 'null'$$, 'labels too');
SELECT is_empty('SELECT name, labels FROM tokenbill.metrics GROUP BY 1, 2 HAVING count(*) > 1', 'no two have the same name and labels');
SELECT is_empty('SELECT name FROM tokenbill.metrics GROUP BY 1 HAVING count(DISTINCT (type, help)) > 1', 'one type and help a name');
SELECT is_empty($$SELECT name FROM tokenbill.metrics WHERE (type = 'counter') <> (name ~ '_total$')$$, 'what ends in _total counts, and nothing else');

-- The text
CREATE TEMP TABLE said AS SELECT n, line FROM string_to_table(tokenbill.metrics_text(), E'\n') WITH ORDINALITY l (line, n);
SELECT is(line, '', 'the last line has its end') FROM said ORDER BY n DESC LIMIT 1;
SELECT is((SELECT count(*) FROM said WHERE line ~ '^[a-z]'), (SELECT count(*) FROM tokenbill.metrics), 'a line each');
SELECT is((SELECT count(*) FROM said WHERE line ~ '^# (HELP|TYPE) '), (SELECT 2 * count(DISTINCT CASE type WHEN 'histogram' THEN regexp_replace(name, '_[a-z]+$', '') ELSE name END) FROM tokenbill.metrics),
	'and two above each name, for a histogram once');
SELECT is(string_agg(substring(line FROM 'seconds(_[a-z]+).*') || coalesce(substring(line FROM 'le="([^"]+)"'), ''), ' ' ORDER BY n), '_bucket0.05 _bucket0.1 _bucket0.25 _bucket0.5 _bucket1 _bucket1.2 _bucket2.5 _bucket5 _bucket10 _bucket20 _bucket+Inf _count _sum',
	'whose parts stand together, by their bounds') FROM said WHERE line ~ '^tokenbill_check_duration.*"mc"';
SELECT results_eq($$SELECT line FROM said WHERE line ~ 'provider_balance( |.*mp)' ORDER BY n$$, $$VALUES
	('# HELP tokenbill_provider_balance What the provider still holds, as last reported'), ('# TYPE tokenbill_provider_balance gauge'),
	('tokenbill_provider_balance{currency="USD",provider="mp"} 100.000000000000000000000000000001')$$, 'with every digit');
SELECT tokenbill.add_provider('m"\', 'manual') \g /dev/null
SELECT is(line, 'tokenbill_provider_stale{currency="USD",provider="m\"\\"} 0', 'quotes and backslashes in labels')
FROM string_to_table(tokenbill.metrics_text(), E'\n') line WHERE line ~ 'stale.*"m\\"';

-- A tenant's own
SELECT (pg_temp.error_of('CREATE ROLE mt_tenant LOGIN IN ROLE tokenbill_reader')).sqlstate \g /dev/null
SELECT tokenbill.map_tenant('mt_tenant', 'mb') \g /dev/null
SELECT is(pg_temp.rows_as($$SELECT DISTINCT line FROM string_to_table(tokenbill.metrics_text(), E'\n') line WHERE line ~ 'customer_balance\{|provider|refusals|breaker|worker|webhook|credential|alert|check'$$, 'mt_tenant'),
	'[{"line": "tokenbill_customer_balance{currency=\"MTC\"} -3.5"}]', 'a tenant sees its own');
SELECT * FROM finish();
ROLLBACK;
