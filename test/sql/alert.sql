-- Alerts: one event is one alert, whatever flaps; every kind; rules, retention, and when it is looked again
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(154);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';

-- All alerts that there are, in a line; told: what was told, last state in capitals
CREATE FUNCTION pg_temp.say(kind text DEFAULT NULL, OUT result text) LANGUAGE sql AS $$
	SELECT coalesce(string_agg(concat_ws(' ', a.kind, a.subject, a.state, a.count, a.events || ' ' || upper(a.told)), '; ' ORDER BY a.id), '')
	FROM tokenbill.alert a WHERE say.kind IS NULL OR a.kind = say.kind
$$;
CREATE FUNCTION pg_temp.at(clock timestamptz) RETURNS bigint LANGUAGE sql AS $$
	SELECT tokenbill.evaluate_alerts() FROM (SELECT set_config('tokenbill.clock', clock::text, true) OFFSET 0) c WHERE c IS NOT NULL
$$;
-- A report at a time, evaluated
CREATE FUNCTION pg_temp.report(clock timestamptz, provider text, balance numeric, error text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('tokenbill.clock', clock::text, true);
	PERFORM tokenbill.record_provider_balance(provider, balance, error => error);
	PERFORM tokenbill.evaluate_alerts();
	RETURN pg_temp.say('provider_low');
END $$;

-- Nothing
SELECT is(tokenbill.next_alert_due(), NULL, 'nothing is watched: nobody has to look');
SELECT is(tokenbill.evaluate_alerts(), 0::bigint, 'looking finds nothing');
SELECT is(tokenbill.next_alert_due(), NULL, 'and it stays like that');
SELECT is(string_agg(concat_ws(' ', kind, enabled, threshold, clear_above, clear_after, quiet_period, severity, notify, keep), E'\n' ORDER BY kind COLLATE "C"),
	'account_low t 0 00:00:00 01:00:00 info t 90 days
breaker_open t 00:05:00 01:00:00 warning t 90 days
breaker_slow t 00:05:00 01:00:00 info t 90 days
credential_expiring t 7 days 00:00:00 01:00:00 warning t 90 days
provider_low t 0.1 00:00:00 01:00:00 critical t 90 days
provider_runway t 1 day 0.1 00:00:00 01:00:00 warning t 90 days
provider_stale t 00:15:00 00:00:00 01:00:00 warning t 90 days
worker_error t 00:15:00 00:00:00 01:00:00 warning t 90 days', 'the rules as they come') FROM tokenbill.alert_rules;

-- A provider runs low: one event, one alert
SELECT tokenbill.add_provider('p', 'manual', low_balance => 20), tokenbill.set_alert_rule('provider_runway', false) \g /dev/null
SELECT is(tokenbill.next_alert_due(), '2026-03-01 12:01:00+00'::timestamptz, 'a provider: each minute from the last look on');
SELECT is(pg_temp.at('2026-03-01 12:00:30+00'), 0::bigint, 'no balance is not a low one');
SELECT is(pg_temp.report('2026-03-01 12:01+00', 'p', 20.01), '', 'nor is a little more than low');
SELECT is(pg_temp.report('2026-03-01 12:02+00', 'p', 20), 'provider_low p raised 1 1 RAISED', 'low: raised and told');
SELECT is(to_jsonb(a) - '{id}'::text[], '{"kind": "provider_low", "subject": "p", "currency": "USD", "state": "raised", "severity": "critical", "value": 20, "threshold": 20, "message": "provider \"p\" has 20 USD left, low is 20",
	"count": 1, "raised_at": "2026-03-01T12:02:00+00:00", "cleared_at": null, "notified_at": "2026-03-01T12:02:00+00:00", "quiet_until": "2026-03-01T13:02:00+00:00"}'::jsonb, 'all about it') FROM tokenbill.alerts a;
SELECT is(tokenbill.evaluate_alerts(), 0::bigint, 'looking again changes nothing');
SELECT is(pg_temp.report('2026-03-01 12:03+00', 'p', 5), 'provider_low p raised 1 1 RAISED', 'falling on: still the same');
SELECT is(pg_temp.report('2026-03-01 12:04+00', 'p', NULL, 'down'), 'provider_low p raised 1 1 RAISED', 'unknown is not well');
SELECT is(pg_temp.at('2026-03-08 12:04+00'), 1::bigint, 'a week later it is stale, too');
SELECT is(pg_temp.say(), 'provider_low p raised 1 1 RAISED; provider_stale p raised 1 1 RAISED', 'which is another thing: low is not told again');
SELECT is(pg_temp.report('2026-03-08 12:05+00', 'p', 20.5), 'provider_low p raised 1 1 RAISED', 'hardly above: not cleared');
SELECT is(pg_temp.report('2026-03-08 12:06+00', 'p', 22), 'provider_low p raised 1 1 RAISED', 'nor a tenth above');
SELECT is(pg_temp.report('2026-03-08 12:07+00', 'p', 22.01), 'provider_low p cleared 1 2 CLEARED', 'more than that: cleared, and told');
SELECT is(pg_temp.pick(a, 'state', 'value', 'cleared_at', 'raised_at', 'notified_at'), '{"state": "cleared", "value": 20, "raised_at": "2026-03-01T12:02:00+00:00", "cleared_at": "2026-03-08T12:07:00+00:00", "notified_at": "2026-03-08T12:07:00+00:00"}', 'when')
FROM tokenbill.alerts a WHERE kind = 'provider_low';

-- Back after the quiet period: another event
SELECT is(pg_temp.report('2026-03-08 12:08+00', 'p', 19), 'provider_low p cleared 1 2 CLEARED; provider_low p raised 1 1 RAISED', 'what comes back later is another alert');
SELECT is(max(id) - min(id), 2::bigint, 'with another number') FROM tokenbill.alerts;
-- Flapping within it: the same event
SELECT is(pg_temp.report('2026-03-08 12:09+00', 'p', 30), 'provider_low p cleared 1 2 CLEARED; provider_low p cleared 1 2 CLEARED', 'topped up: cleared');
SELECT is(pg_temp.report('2026-03-08 12:10+00', 'p', 10), 'provider_low p cleared 1 2 CLEARED; provider_low p raised 2 2 CLEARED', 'low within the hour: raised again, not told');
SELECT is(pg_temp.pick(a, 'value', 'message', 'count', 'raised_at', 'cleared_at'), '{"value": 10, "message": "provider \"p\" has 10 USD left, low is 20", "count": 2, "raised_at": "2026-03-08T12:08:00+00:00", "cleared_at": null}', 'it says what is now')
FROM tokenbill.alerts a WHERE kind = 'provider_low' AND state = 'raised';
DO $$ BEGIN
	FOR i IN 11..50 BY 2 LOOP
		PERFORM pg_temp.report(format('2026-03-08 12:%s+00', i)::timestamptz, 'p', 30), pg_temp.report(format('2026-03-08 12:%s+00', i + 1)::timestamptz, 'p', 10);
	END LOOP;
END $$;
SELECT is(pg_temp.say('provider_low'), 'provider_low p cleared 1 2 CLEARED; provider_low p raised 22 2 CLEARED', 'flapping is counted: no more rows, nothing told');
SELECT is(pg_temp.report('2026-03-08 13:07:59.999999+00', 'p', 10), 'provider_low p cleared 1 2 CLEARED; provider_low p raised 22 2 CLEARED', 'quiet for an hour from when it was told to be raised');
SELECT pg_temp.at('2026-03-08 13:08+00') \g /dev/null
SELECT is(pg_temp.say('provider_low'), 'provider_low p cleared 1 2 CLEARED; provider_low p raised 22 3 RAISED', 'what outlasts it is told');
SELECT is(quiet_until, '2026-03-08 14:08:00+00'::timestamptz, 'and quiet again') FROM tokenbill.alerts WHERE kind = 'provider_low' AND state = 'raised';
SELECT is(pg_temp.report('2026-03-08 13:09+00', 'p', 30), 'provider_low p cleared 1 2 CLEARED; provider_low p cleared 22 4 CLEARED', 'its end is told at once');
SELECT pg_temp.report('2026-03-08 13:10+00', 'p', 10) \g /dev/null
SELECT is(pg_temp.report('2026-03-08 13:11+00', 'p', 30), 'provider_low p cleared 1 2 CLEARED; provider_low p cleared 23 4 CLEARED', 'the end of what was not told is not told either');

-- No other moves, whoever tries
SELECT pg_temp.refused($$UPDATE tokenbill.alert SET state = 'raised', cleared_at = NULL, changed_at = '2026-03-08 14:08+00' WHERE count = 23$$, 'PT409', '{"table": "alert", "was": "cleared", "now": "raised"}', 'cleared is cleared, once the quiet period is over');
SELECT is((pg_temp.error_of($$INSERT INTO tokenbill.alert (kind, subject, currency, severity, message, raised_at, changed_at, quiet_until) SELECT 'x', 'y', '', 'info', 'm', now(), now(), now() FROM generate_series(1, 2)$$)).sqlstate, '23505', 'no two are raised of the same');
SELECT is((pg_temp.error_of($$UPDATE tokenbill.alert SET state = 'raised' WHERE count = 1 AND kind = 'provider_low'$$)).sqlstate, 'PT409', 'not half a move either');

-- Gone altogether
SELECT tokenbill.set_alert_rule('provider_low', quiet_period => '0') \g /dev/null
SELECT is(count(*), 1::bigint, 'low once more') FROM pg_temp.report('2026-03-09 12:00+00', 'p', 10) r WHERE r LIKE '%p raised 1 1 RAISED';
SELECT tokenbill.set_provider('p', never_low => true) \g /dev/null
SELECT is(pg_temp.at('2026-03-09 12:01+00'), 1::bigint, 'without a low balance nothing is low');
SELECT tokenbill.set_provider('p', low_balance => 11) \g /dev/null
SELECT is(pg_temp.at('2026-03-09 12:01+00'), 1::bigint, 'without a quiet period it is raised at once');
SELECT tokenbill.set_provider('p', enabled => false) \g /dev/null
SELECT is(pg_temp.at('2026-03-09 12:02+00'), 1::bigint, 'a disabled provider has no alerts');
SELECT tokenbill.set_provider('p', enabled => true) \g /dev/null
SELECT is(pg_temp.at('2026-03-09 12:03+00'), 1::bigint, 'enabled, it has');
SELECT tokenbill.set_alert_rule('provider_low', enabled => false) \g /dev/null
SELECT is(pg_temp.at('2026-03-09 12:04+00'), 1::bigint, 'a disabled rule clears what it had raised');
SELECT tokenbill.set_alert_rule('provider_low', enabled => true), pg_temp.at('2026-03-09 12:05+00'), tokenbill.drop_provider('p') \g /dev/null
SELECT is(pg_temp.at('2026-03-09 12:06+00'), 1::bigint, 'so does dropping it');
SELECT is(count(*), 0::bigint, 'all is well') FROM tokenbill.alerts WHERE state = 'raised';
SELECT is(count(*), 4::bigint, 'each was an event') FROM tokenbill.alerts WHERE raised_at >= '2026-03-09';
SELECT is(tokenbill.next_alert_due(), NULL, 'without it nobody has to look');

-- Negative thresholds: of accounts that are paid later
SELECT tokenbill.add_provider('later', 'manual', low_balance => -100) \g /dev/null
SELECT is(pg_temp.report('2026-03-10 12:00+00', 'later', -99.9) LIKE '%later%', false, 'a debt below the limit');
SELECT is(pg_temp.report('2026-03-10 12:01+00', 'later', -100) LIKE '%later raised 1 1 RAISED', true, 'at the limit');
SELECT is(pg_temp.report('2026-03-10 12:02+00', 'later', -90) LIKE '%later raised 1 1 RAISED', true, 'a tenth less');
SELECT is(pg_temp.report('2026-03-10 12:03+00', 'later', -89.99) LIKE '%later cleared 1 2 CLEARED', true, 'and a little');

-- Runway
SELECT tokenbill.set_alert_rule('provider_runway', true), tokenbill.add_provider('run', 'manual', check_every => '1 hour') \g /dev/null
SELECT pg_temp.report('2026-03-11 12:00+00', 'run', 300), pg_temp.report('2026-03-11 13:00+00', 'run', 290) \g /dev/null
SELECT is(pg_temp.say('provider_runway'), '', 'enough for 29 hours');
SELECT is(tokenbill.next_alert_change(), '2026-03-11 16:00:00.000001+00'::timestamptz, 'if nobody reports, that is what becomes wrong first');
SELECT tokenbill.set_alert_rule('provider_stale', enabled => false) \g /dev/null
SELECT is(tokenbill.next_alert_change(), '2026-03-11 18:00:00+00'::timestamptz, 'or that it will last for a day only');
SELECT pg_temp.at('2026-03-11 17:59:59+00') \g /dev/null
SELECT is(pg_temp.say('provider_runway'), '', 'not before');
SELECT pg_temp.at('2026-03-11 18:00:00+00') \g /dev/null
SELECT is(pg_temp.say('provider_runway'), 'provider_runway run raised 1 1 RAISED', 'by time alone');
SELECT is(tokenbill.next_alert_change(), NULL, 'then nothing more comes by time');
DELETE FROM tokenbill.alert;
SELECT tokenbill.set_alert_rule('provider_stale', enabled => true) \g /dev/null
SELECT pg_temp.report('2026-03-11 14:00+00', 'run', 276) \g /dev/null
SELECT is(pg_temp.say('provider_runway'), 'provider_runway run raised 1 1 RAISED', 'enough for 23');
SELECT is(pg_temp.pick(a, 'value', 'threshold', 'message', 'currency'), '{"value": 82800, "threshold": 86400, "message": "provider \"run\" has 276 USD left, which will be used up in 23:00:00", "currency": "USD"}', 'in seconds')
FROM tokenbill.alerts a WHERE kind = 'provider_runway';
SELECT pg_temp.at('2026-03-12 12:00+00') \g /dev/null
SELECT is(pg_temp.say('provider_runway'), 'provider_runway run raised 1 1 RAISED', 'a day without a report does not end it');
SELECT pg_temp.report('2026-03-12 12:00+00', 'run', 276) \g /dev/null
SELECT is(pg_temp.say('provider_runway'), 'provider_runway run cleared 1 2 CLEARED', 'nothing used since: enough for days');
SELECT pg_temp.report('2026-03-13 14:00+00', 'run', -1) \g /dev/null
SELECT is(pg_temp.say('provider_runway'), 'provider_runway run cleared 1 2 CLEARED; provider_runway run raised 1 1 RAISED', 'empty is the end of it');
SELECT pg_temp.report('2026-03-13 15:00+00', 'run', 1000) \g /dev/null
SELECT is(pg_temp.say('provider_runway'), 'provider_runway run cleared 1 2 CLEARED; provider_runway run raised 1 1 RAISED', 'topped up, how much is used of it is unknown');
SELECT pg_temp.report('2026-03-13 16:00+00', 'run', 1000) \g /dev/null
SELECT is(pg_temp.say('provider_runway'), 'provider_runway run cleared 1 2 CLEARED; provider_runway run cleared 1 2 CLEARED', 'nothing is');
SELECT is(count(*), 0::bigint, 'who is paid later is not empty below zero') FROM tokenbill.alerts WHERE kind = 'provider_runway' AND subject = 'later';
SELECT tokenbill.drop_provider('later'), tokenbill.drop_provider('run') \g /dev/null

-- Stale
SELECT tokenbill.set_alert_rule('provider_low', false), tokenbill.set_alert_rule('provider_runway', false), tokenbill.add_provider('s', 'manual'), pg_temp.at('2026-03-14 12:00+00'), tokenbill.expire_provider_history() \g /dev/null
DELETE FROM tokenbill.alert;
SELECT pg_temp.report('2026-03-14 12:01+00', 's', 5), pg_temp.report('2026-03-14 12:06+00', 's', NULL, 'HTTP 502') \g /dev/null
SELECT is(pg_temp.say(), '', 'one failure is none');
SELECT pg_temp.report('2026-03-14 12:11+00', 's', NULL, 'HTTP 502'), pg_temp.report('2026-03-14 12:15+00', 's', NULL, 'HTTP 502') \g /dev/null
SELECT is(pg_temp.say(), '', 'three are, but not within a quarter of an hour');
SELECT pg_temp.at('2026-03-14 12:16+00') \g /dev/null
SELECT is(pg_temp.say(), 'provider_stale s raised 1 1 RAISED', 'stale');
SELECT is(pg_temp.pick(a, 'value', 'threshold', 'message', 'currency', 'severity'), '{"value": 900, "threshold": 900, "message": "provider \"s\" has told no balance for 00:15:00: HTTP 502", "currency": null, "severity": "warning"}', 'with the reason') FROM tokenbill.alerts a;
SELECT pg_temp.report('2026-03-14 12:17+00', 's', 5) \g /dev/null
SELECT is(pg_temp.say(), 'provider_stale s cleared 1 2 CLEARED', 'a report ends it');
SELECT tokenbill.record_provider_balance('s', 5, 'CNY'), pg_temp.at('2026-03-14 13:31:59+00') \g /dev/null
SELECT is(pg_temp.say(), 'provider_stale s cleared 1 2 CLEARED; provider_stale s raised 1 1 RAISED', 'two currencies without a report are one alert');
SELECT is(message, 'provider "s" has told no balance for 01:14:59: nothing was reported', 'without a reason') FROM tokenbill.alerts WHERE state = 'raised';
SELECT pg_temp.report('2026-03-14 13:32+00', 's', 5) \g /dev/null
SELECT is(pg_temp.say(), 'provider_stale s cleared 1 2 CLEARED; provider_stale s raised 1 1 RAISED', 'one of them is not both');
SELECT tokenbill.record_provider_balance('s', 5, 'CNY'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'provider_stale s cleared 1 2 CLEARED; provider_stale s cleared 1 2 CLEARED', 'both are');
SELECT tokenbill.set_provider('s', check_every => '1 hour'), pg_temp.at('2026-03-14 16:32+00') \g /dev/null
SELECT is(pg_temp.say(), 'provider_stale s cleared 1 2 CLEARED; provider_stale s cleared 1 2 CLEARED', 'three hourly checks are not over');
SELECT pg_temp.at('2026-03-14 16:33+00') \g /dev/null
SELECT is(state || ' ' || threshold, 'raised 10800', 'now they are') FROM tokenbill.alerts ORDER BY id DESC LIMIT 1;
SELECT tokenbill.drop_provider('s'), pg_temp.at('2026-03-15 12:00+00') \g /dev/null
DELETE FROM tokenbill.alert;

-- Breakers
SELECT tokenbill.breaker_note('gateway', 'g', false, 2000) FROM generate_series(1, 5) \g /dev/null
SELECT is(tokenbill.next_alert_due(), '2026-03-15 12:01:00+00'::timestamptz, 'an open breaker has to be looked at');
SELECT pg_temp.at('2026-03-15 12:01+00') \g /dev/null
SELECT is(pg_temp.say(), 'breaker_open gateway/g raised 1 1 RAISED', 'open');
SELECT is(pg_temp.pick(a, 'value', 'threshold', 'message'), '{"value": 5, "threshold": 5, "message": "gateway \"g\" is not asked any more: 5 failures in a row"}', 'after five failures') FROM tokenbill.alerts a;
SELECT tokenbill.breaker_allows('gateway', 'g'), pg_temp.at('2026-03-15 12:02+00') \g /dev/null
SELECT is(pg_temp.say(), 'breaker_open gateway/g raised 1 1 RAISED', 'half open is not closed');
SELECT tokenbill.breaker_note('gateway', 'g', true, 2000), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say() || ' ' || (SELECT gone_since FROM tokenbill.alert), 'breaker_open gateway/g raised 1 1 RAISED 2026-03-15 12:02:00+00', 'closed: cleared when it has been for five minutes');
SELECT pg_temp.at('2026-03-15 12:06:59+00') \g /dev/null
SELECT is(pg_temp.say(), 'breaker_open gateway/g raised 1 1 RAISED', 'not yet');
SELECT tokenbill.breaker_note('gateway', 'g', false, 2000) FROM generate_series(1, 5) \g /dev/null
SELECT tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say() || ' ' || coalesce((SELECT gone_since::text FROM tokenbill.alert WHERE kind = 'breaker_open'), 'here'), 'breaker_open gateway/g raised 1 1 RAISED; breaker_slow gateway/g raised 1 1 RAISED here', 'open again: it never was gone, and it is slow, too');
SELECT is(pg_temp.pick(a, 'value', 'threshold', 'message', 'severity'), '{"value": 2000, "threshold": 1200, "message": "gateway \"g\" is slow: a hundredth of its calls take 2000 ms or longer", "severity": "info"}', 'how slow') FROM tokenbill.alerts a WHERE kind = 'breaker_slow';
SELECT pg_temp.at('2026-03-15 12:08+00'), tokenbill.breaker_allows('gateway', 'g'), tokenbill.breaker_note('gateway', 'g', true, 1), tokenbill.breaker_note('gateway', 'g', true, 1) FROM (SELECT tokenbill.breaker_note('gateway', 'g', NULL, 1) FROM generate_series(1, 100)) s \g /dev/null
SELECT tokenbill.evaluate_alerts() \g /dev/null
SELECT pg_temp.at('2026-03-15 12:13+00') \g /dev/null
SELECT is(pg_temp.say(), 'breaker_open gateway/g cleared 1 2 CLEARED; breaker_slow gateway/g cleared 1 2 CLEARED', 'closed, and fast, for five minutes');
SELECT is(tokenbill.next_alert_due(), NULL, 'and nobody has to look');
DELETE FROM tokenbill.alert;
SELECT tokenbill.add_provider('off', 'manual'), tokenbill.set_provider('off', enabled => false) \g /dev/null
SELECT tokenbill.breaker_note('provider', 'off', false, NULL) FROM generate_series(1, 5) \g /dev/null
SELECT is(tokenbill.evaluate_alerts(), 0::bigint, 'the breaker of a disabled provider alerts nobody');
SELECT tokenbill.drop_provider('off') \g /dev/null

-- Credentials
SELECT is(to_jsonb(c), '{"credential": "key of x", "expires_at": "2026-04-01T00:00:00+00:00", "updated_at": "2026-03-15T12:13:00+00:00"}'::jsonb, 'set_credential_expiry: the row') FROM tokenbill.set_credential_expiry('key of x', '2026-04-01 00:00+00') c;
SELECT is(tokenbill.next_alert_due(), '2026-03-25 00:00:00+00'::timestamptz, 'nobody has to look before seven days before it');
SELECT is(pg_temp.at('2026-03-24 23:59:59+00'), 0::bigint, 'nor is anything found');
SELECT is(tokenbill.next_alert_due(), '2026-03-25 00:00:59+00'::timestamptz, 'not sooner than in a minute');
SELECT pg_temp.at('2026-03-25 00:00:59+00') \g /dev/null
SELECT is(pg_temp.say(), 'credential_expiring key of x raised 1 1 RAISED', 'then it is');
SELECT is(pg_temp.pick(a, 'value', 'threshold', 'message'), '{"value": 604741, "threshold": 604800, "message": "credential \"key of x\" expires in 6 days 23:59:01"}', 'in seconds') FROM tokenbill.alerts a;
SELECT is(tokenbill.next_alert_due(), '2026-03-25 00:01:59+00'::timestamptz, 'and looked at, until it is renewed');
SELECT tokenbill.set_credential_expiry('key of x', '2027-04-01 00:00+00'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'credential_expiring key of x cleared 1 2 CLEARED', 'renewed');
SELECT is(expires_in, '371 days 23:59:01'::interval, 'how long it is good') FROM tokenbill.credential_expiries;
SELECT is(tokenbill.set_credential_expiry('key of x', NULL), NULL, 'no more');
SELECT tokenbill.set_credential_expiry('old', '2026-03-01 00:00+00'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(message, 'credential "old" has expired', 'what has expired says so') FROM tokenbill.alerts WHERE subject = 'old';
SELECT tokenbill.set_credential_expiry('old', NULL), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'credential_expiring key of x cleared 1 2 CLEARED; credential_expiring old cleared 1 2 CLEARED', 'given up is gone');
DELETE FROM tokenbill.alert;

-- Customers
SELECT tokenbill.create_account(a, credit_limit => 100), tokenbill.recharge(a, 10, 'order-' || a) FROM unnest('{ann,bob}'::text[]) a \g /dev/null
SELECT is(pg_temp.pick(l, 'account', 'amount'), '{"account": "ann", "amount": 5}', 'set_low_balance: the row') FROM tokenbill.set_low_balance('ann', 5) l;
SELECT is(tokenbill.next_alert_due(), '2026-03-25 00:01:59+00'::timestamptz, 'balances are looked at each minute');
SELECT tokenbill.set_low_balance('bob', 0), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), '', 'not low');
SELECT tokenbill.charge_amount('ann', 4.99, 'c1'), tokenbill.charge_amount('bob', 9.99, 'c1'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), '', 'still not');
SELECT tokenbill.charge_amount('ann', 0.01, 'c2'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'account_low ann raised 1 1 RAISED', 'fallen to it');
SELECT is(pg_temp.pick(a, 'value', 'threshold', 'message', 'currency', 'severity'), '{"value": 5, "threshold": 5, "message": "account \"ann\" has 5.00 USD left, low is 5", "currency": "USD", "severity": "info"}', 'by how much') FROM tokenbill.alerts a;
DO $$ BEGIN
	FOR i IN 1..10 LOOP
		PERFORM tokenbill.charge_amount('ann', 1, 'more ' || i), tokenbill.evaluate_alerts();
	END LOOP;
END $$;
SELECT is(pg_temp.say(), 'account_low ann raised 1 1 RAISED', 'falling on is the same event');
SELECT tokenbill.recharge('ann', 10, 'order-2'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'account_low ann raised 1 1 RAISED', 'a recharge up to it is not enough');
SELECT tokenbill.recharge('ann', 0.01, 'order-3'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'account_low ann cleared 1 2 CLEARED', 'above it is');
SELECT tokenbill.charge_amount('bob', 0.01, 'c2'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'account_low ann cleared 1 2 CLEARED; account_low bob raised 1 1 RAISED', 'zero is low, if that is said');
SELECT is(string_agg(concat_ws(' ', account, currency, amount, balance, low), '; ' ORDER BY account), 'ann USD 5 5.01 f; bob USD 0 0.00 t', 'the view') FROM tokenbill.low_balances;
SELECT tokenbill.set_account_status('bob', 'closed'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'account_low ann cleared 1 2 CLEARED; account_low bob cleared 1 2 CLEARED', 'a closed account has no alerts');
SELECT is(tokenbill.set_low_balance('bob', NULL), NULL, 'no more');
SELECT is(tokenbill.set_low_balance('bob', NULL), NULL, 'twice');
SELECT tokenbill.set_low_balance('ann', 6), tokenbill.set_alert_rule('account_low', clear_above => 0.5, severity => 'warning'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'account_low ann raised 2 2 CLEARED; account_low bob cleared 1 2 CLEARED', 'another amount, the same event');
SELECT tokenbill.recharge('ann', 3.99, 'order-4'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'account_low ann raised 2 2 CLEARED; account_low bob cleared 1 2 CLEARED', 'half as much again does not clear it');
SELECT tokenbill.recharge('ann', 0.01, 'order-5'), tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'account_low ann cleared 2 2 CLEARED; account_low bob cleared 1 2 CLEARED', 'more does');
SELECT tokenbill.set_low_balance('ann', NULL), tokenbill.set_alert_rule('account_low', clear_above => 0, severity => 'info') \g /dev/null
DELETE FROM tokenbill.alert;

-- The worker's own troubles
SELECT tokenbill.record_worker_error('check', 'a', '42P01', 'm'), tokenbill.record_worker_error('check', 'b', '42703', 'n'), tokenbill.record_worker_error('check', 'b', '42703', 'n') \g /dev/null
SELECT isnt(tokenbill.next_alert_due(), NULL, 'an error has to be looked at');
SELECT tokenbill.evaluate_alerts() \g /dev/null
SELECT is(pg_temp.say(), 'worker_error check raised 1 1 RAISED', 'errors of a duty are one alert');
SELECT is(pg_temp.pick(a, 'value', 'threshold'), '{"value": 3, "threshold": null}', 'how many') FROM tokenbill.alerts a;
SELECT matches(message, '^the worker fails at "check", last with SQLSTATE 42', 'in words') FROM tokenbill.alerts;
SELECT pg_temp.at('2026-03-25 00:15:58+00') \g /dev/null
SELECT is(pg_temp.say(), 'worker_error check raised 1 1 RAISED', 'for a quarter of an hour');
SELECT pg_temp.at('2026-03-25 00:16:00+00') \g /dev/null
SELECT is(pg_temp.say(), 'worker_error check cleared 1 2 CLEARED', 'then it is over');
SELECT is(tokenbill.next_alert_due(), NULL, 'and nobody has to look');

-- Rules
SELECT is(to_jsonb(r), '{"kind": "provider_stale", "enabled": false, "threshold": "01:00:00", "clear_above": null, "clear_after": "00:01:00", "quiet_period": "1 day", "severity": "critical", "notify": false, "keep": "10 days"}'::jsonb, 'set_alert_rule: all of it')
FROM tokenbill.set_alert_rule('provider_stale', false, '1 hour', NULL, '1 minute', '1 day', 'critical', false, '10 days') r;
SELECT is(pg_temp.pick(r, 'enabled', 'threshold', 'severity', 'keep'), '{"enabled": true, "threshold": "01:00:00", "severity": "critical", "keep": "10 days"}', 'null leaves the rest') FROM tokenbill.set_alert_rule('provider_stale', true) r;
SELECT pg_temp.refused(statement, sqlstate, detail, description) FROM (VALUES
	($$SELECT tokenbill.set_alert_rule('nonsense')$$, '22023', '{"argument": "kind"}'::jsonb, 'no such kind'),
	($$SELECT tokenbill.set_alert_rule('provider_low', threshold => '1 day')$$, '22023', '{"argument": "threshold"}', 'no time is low'),
	($$SELECT tokenbill.set_alert_rule('provider_stale', clear_above => 1)$$, '22023', '{"argument": "clear_above"}', 'stale is no amount'),
	($$SELECT tokenbill.set_alert_rule('provider_low', clear_above => 11)$$, '22023', '{"argument": "clear_above"}', 'eleven times above'),
	($$SELECT tokenbill.set_alert_rule('provider_low', quiet_period => '31 days')$$, '22023', '{"argument": "quiet_period"}', 'quiet for ever'),
	($$SELECT tokenbill.set_alert_rule('provider_low', severity => 'nice')$$, '22023', '{"argument": "severity"}', 'no severity'),
	($$SELECT tokenbill.set_low_balance('nobody', 5)$$, 'PT404', '{"account": "nobody"}', 'no such account'),
	($$SELECT tokenbill.set_low_balance('ann', 'NaN')$$, '22003', '{"argument": "amount"}', 'NaN is low'),
	($$SELECT tokenbill.set_credential_expiry('', '2027-01-01')$$, '22023', '{"argument": "credential"}', 'a credential without a name'),
	($$SELECT tokenbill.set_credential_expiry('x', 'infinity')$$, '22008', '{"argument": "expires_at"}', 'one for ever'),
	($$SELECT tokenbill.expire_alerts(0)$$, '22023', '{"argument": "max"}', 'none at most')) v(statement, sqlstate, detail, description);

-- Retention
SELECT is(tokenbill.expire_alerts(), 0::bigint, 'nothing is old');
SELECT tokenbill.set_low_balance('ann', 20), pg_temp.at('2026-06-23 00:15:59+00') \g /dev/null
SELECT is(tokenbill.expire_alerts(), 0::bigint, 'ninety days are not over');
SELECT pg_temp.at('2026-06-23 00:16:01+00') \g /dev/null
SELECT is(tokenbill.expire_alerts(), 1::bigint, 'now they are');
SELECT pg_temp.at('2028-06-23 00:16:01+00') \g /dev/null
SELECT is(tokenbill.expire_alerts(), 0::bigint, 'what is raised is kept');
SELECT is(pg_temp.say(), 'account_low ann raised 1 1 RAISED', 'for as long as it takes');

-- Many at once: a thousand at a time
SELECT tokenbill.set_low_balance('ann', NULL), tokenbill.evaluate_alerts() \g /dev/null
SELECT tokenbill.create_account('many ' || n), tokenbill.set_low_balance('many ' || n, 0) FROM generate_series(1, 1500) n \g /dev/null
SELECT is(tokenbill.evaluate_alerts(), 1000::bigint, 'a thousand');
SELECT is(tokenbill.next_alert_due(), tokenbill.clock(), 'the rest is due');
SELECT is(tokenbill.evaluate_alerts(), 500::bigint, 'and raised');
SELECT is(tokenbill.next_alert_due(), tokenbill.clock() + interval '1 minute', 'then there is time');
SELECT is(count(*), 1500::bigint, 'each once') FROM tokenbill.alerts WHERE state = 'raised' AND subject LIKE 'many %';
SELECT tokenbill.set_low_balance('many ' || n, NULL) FROM generate_series(1, 1500) n \g /dev/null
SELECT is(tokenbill.evaluate_alerts(), 1000::bigint, 'cleared alike');
SELECT tokenbill.evaluate_alerts(), tokenbill.set_low_balance('ann', 20) \g /dev/null
SELECT tokenbill.evaluate_alerts() \g /dev/null
DELETE FROM tokenbill.alert WHERE state = 'cleared';

-- Tenants see their own
CREATE ROLE al_tenant LOGIN IN ROLE tokenbill_admin;
SELECT tokenbill.create_account('carl'), tokenbill.set_low_balance('carl', 5), tokenbill.add_provider('p', 'manual', low_balance => 7), tokenbill.set_alert_rule('provider_low', true) \g /dev/null
SELECT tokenbill.record_provider_balance('p', 3) \g /dev/null
SELECT tokenbill.evaluate_alerts() \g /dev/null
SELECT is(string_agg(subject, ' ' ORDER BY id), 'ann carl p', 'three are raised') FROM tokenbill.alerts;
SELECT tokenbill.map_tenant('al_tenant', 'ann') \g /dev/null
SELECT is(pg_temp.rows_as('SELECT subject FROM tokenbill.alerts', 'al_tenant'), '[{"subject": "ann"}]', 'a tenant sees that of its account');
SELECT is(pg_temp.rows_as('SELECT account FROM tokenbill.low_balances', 'al_tenant'), '[{"account": "ann"}]', 'and what is low of it');
SELECT is(pg_temp.rows_as('SELECT kind FROM tokenbill.alert_rules', 'al_tenant'), '[]', 'no rules');
SELECT is(pg_temp.rows_as('SELECT credential FROM tokenbill.credential_expiries', 'al_tenant'), '[]', 'and no credentials');
SELECT is(pg_temp.rows_as($$SELECT (tokenbill.set_low_balance('ann', 6)).amount$$, 'al_tenant'), '[{"amount": 6}]', 'it may say what is low');
SELECT pg_temp.refused(statement, sqlstate, detail, 'it may not: ' || statement, 'al_tenant') FROM (VALUES
	($$SELECT tokenbill.set_low_balance('carl', 6)$$, 'PT404', '{"account": "carl"}'::jsonb), ($$SELECT tokenbill.evaluate_alerts()$$, '42501', '{}'), ($$SELECT tokenbill.set_alert_rule('provider_low', false)$$, '42501', '{}'),
	($$SELECT tokenbill.set_credential_expiry('x', '2030-01-01')$$, '42501', '{}'), ($$SELECT tokenbill.expire_alerts()$$, '42501', '{}')) v(statement, sqlstate, detail);
SELECT is(string_agg(subject || ' ' || state, ', ' ORDER BY id), 'ann raised, carl raised, p raised', 'nothing has changed') FROM tokenbill.alerts;
SELECT * FROM finish();
ROLLBACK;
