-- Webhooks: what is sent of an alert, in order, under one key, again and again for a day, and then no more
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(97);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';

CREATE FUNCTION pg_temp.clock(at timestamptz) RETURNS void LANGUAGE sql AS $$ SELECT set_config('tokenbill.clock', at::text, true) $$;
-- Deliveries in a line, oldest first
CREATE FUNCTION pg_temp.say(OUT result text) LANGUAGE sql AS $$
	SELECT coalesce(string_agg(concat_ws(' ', d.webhook, d.body::jsonb ->> 'subject', d.event, d.state, d.attempts, d.status, d.error), '; ' ORDER BY d.webhook, d.alert, d.event), '') FROM tokenbill.alert_delivery d
$$;
-- What is claimed now
CREATE TEMP TABLE claim AS SELECT * FROM tokenbill.claim_webhooks(10);
CREATE FUNCTION pg_temp.claim(max integer DEFAULT 10) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE claim;
	INSERT INTO claim SELECT * FROM tokenbill.claim_webhooks(claim.max);
	RETURN (SELECT coalesce(string_agg(concat_ws(' ', body::jsonb ->> 'webhook', body::jsonb ->> 'subject', body::jsonb ->> 'state'), '; ' ORDER BY c.lease), '') FROM claim c);
END $$;
-- All of it is answered alike
CREATE FUNCTION pg_temp.answer(status integer, error text DEFAULT NULL, error_kind text DEFAULT NULL, headers jsonb DEFAULT '{}') RETURNS bigint LANGUAGE sql AS $$
	SELECT count(r) FROM (SELECT * FROM claim OFFSET 0) c LEFT JOIN LATERAL tokenbill.record_webhook(c.target, c.lease, status, answer.headers, 'ignored', error, error_kind, 5) r ON true
$$;
SELECT tokenbill.create_account(a) FROM unnest('{ann,bob,carl}'::text[]) a \g /dev/null
CREATE FUNCTION pg_temp.low(account text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM tokenbill.set_low_balance(account, 1); RETURN tokenbill.evaluate_alerts(); END $$;
CREATE FUNCTION pg_temp.well(account text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM tokenbill.set_low_balance(account, NULL); RETURN tokenbill.evaluate_alerts(); END $$;

-- Adding, changing
SELECT is(to_jsonb(w), '{"name": "ops", "url": "https://ops.example/alerts?a=1", "secret": "ops key", "kinds": null, "enabled": true, "created_at": "2026-03-01T12:00:00+00:00", "updated_at": "2026-03-01T12:00:00+00:00"}'::jsonb, 'add_alert_webhook: all kinds, signed')
FROM tokenbill.add_alert_webhook('ops', 'https://ops.example/alerts?a=1', 'ops key') w;
SELECT is(pg_temp.pick(w, 'secret', 'kinds'), '{"secret": "hook path", "kinds": ["provider_low", "breaker_open"]}', 'some kinds, and an address that is secret')
FROM tokenbill.add_alert_webhook('chat', 'https://chat.example/services/{secret}', 'hook path', '{provider_low,breaker_open}') w;
SELECT pg_temp.refused(statement, sqlstate, detail, description) FROM (VALUES
	($$SELECT tokenbill.add_alert_webhook('ops', 'https://x.example')$$, 'PT409', '{"webhook": "ops"}'::jsonb, 'a name is taken once'),
	($$SELECT tokenbill.add_alert_webhook('x', NULL)$$, '22004', '{"argument": "url"}', 'no address'),
	($$SELECT tokenbill.add_alert_webhook('x', 'ftp://x.example')$$, '22023', '{"argument": "url"}', 'not by HTTP'),
	($$SELECT tokenbill.add_alert_webhook('x', 'https://')$$, '22023', '{"argument": "url"}', 'no host'),
	($$SELECT tokenbill.add_alert_webhook('x', 'https://me:pass@x.example/')$$, '22023', '{"argument": "url"}', 'a password before the host'),
	($$SELECT tokenbill.add_alert_webhook('x', 'https://x.example/a b')$$, '22023', '{"argument": "url"}', 'a blank'),
	($$SELECT tokenbill.add_alert_webhook('x', E'https://x.example/a\nHost: b')$$, '22023', '{"argument": "url"}', 'a line feed'),
	($$SELECT tokenbill.add_alert_webhook('x', 'https://x.example/{secret}')$$, '22023', '{"argument": "secret"}', 'a place for a secret, and none'),
	($$SELECT tokenbill.add_alert_webhook('x', 'https://x.example', kinds => '{}')$$, '22023', '{"argument": "kinds"}', 'no kinds'),
	($$SELECT tokenbill.add_alert_webhook('x', 'https://x.example', kinds => '{provider_low,nonsense}')$$, '22023', '{"argument": "kinds"}', 'a kind there is not'),
	($$SELECT tokenbill.add_alert_webhook('x', 'https://x.example', kinds => '{NULL}')$$, '22004', '{"argument": "kinds"}', 'a null of a kind'),
	($$SELECT tokenbill.set_alert_webhook('x')$$, 'PT404', '{"webhook": "x"}', 'set: no such webhook'),
	($$SELECT tokenbill.set_alert_webhook('ops', 'ops.example')$$, '22023', '{"argument": "url"}', 'set: no address'),
	($$SELECT tokenbill.drop_alert_webhook('x')$$, 'PT404', '{"webhook": "x"}', 'drop: no such webhook')) v(statement, sqlstate, detail, description);
SELECT is(tokenbill.next_webhook_due(), NULL, 'nothing is due');
SELECT is(pg_temp.claim(), '', 'nor claimed');

-- An alert is queued for those that want it, in its own transaction
SELECT pg_temp.low('ann') \g /dev/null
SELECT is(pg_temp.say(), 'ops ann 1 pending 0', 'for those that want its kind');
SELECT is(tokenbill.next_webhook_due(), '2026-03-01 12:00:00+00'::timestamptz, 'due now');
SELECT is(pg_temp.claim(0), '', 'at most none');
SELECT is(pg_temp.claim(1), 'ops ann raised', 'claimed');
SELECT is(pg_temp.pick(c, 'purpose', 'method', 'url', 'secret', 'auth', 'timeout_ms', 'max_bytes'), '{"purpose": "webhook", "method": "POST", "url": "https://ops.example/alerts?a=1", "secret": "ops key", "auth": "hmac_sha256", "timeout_ms": null, "max_bytes": null}', 'the request') FROM claim c;
SELECT is(headers, jsonb_build_object('Content-Type', 'application/json', 'Idempotency-Key', target), 'its headers: the delivery is the key') FROM claim;
SELECT is(c.body::jsonb, jsonb_build_object('alert', a.id, 'event', 1, 'state', 'raised', 'kind', 'account_low', 'subject', 'ann', 'currency', 'USD', 'severity', 'info', 'value', 0, 'threshold', 1, 'message', 'account "ann" has 0 USD left, low is 1',
	'count', 1, 'raised_at', '2026-03-01T12:00:00+00:00', 'cleared_at', NULL, 'delivery', c.target, 'webhook', 'ops'), 'its body') FROM claim c, tokenbill.alerts a;
SELECT is(pg_temp.claim(), '', 'claimed once');
SELECT is(tokenbill.next_webhook_due(), '2026-03-01 12:05:00+00'::timestamptz, 'the claim holds for five minutes');

-- A claim that is lost
SELECT pg_temp.clock('2026-03-01 12:05:00+00') \g /dev/null
CREATE TEMP TABLE first AS SELECT * FROM claim;
INSERT INTO first SELECT 'webhook', d.delivery::text, d.lease, 'POST', NULL, NULL, d.body FROM tokenbill.alert_delivery d;
SELECT is(pg_temp.claim(), 'ops ann raised', 'then it is free again');
SELECT is(count(*), 1::bigint, 'the same key and the same bytes') FROM claim c JOIN first f ON f.target = c.target AND f.body = c.body AND f.lease < c.lease;
SELECT is((SELECT count(*) FROM first f, tokenbill.record_webhook(f.target, f.lease, 200, '{}', NULL, NULL, NULL, 5)), 0::bigint, 'an answer to the lost one');
SELECT is(pg_temp.say(), 'ops ann 1 pending 2', 'is ignored');
SELECT tokenbill.release_webhooks(false) \g /dev/null
SELECT is(pg_temp.claim(), 'ops ann raised', 'a worker that begins takes all claims back');

-- Again, with pauses that grow
SELECT is(pg_temp.answer(500), 0::bigint, 'an answer asks for nothing more');
SELECT is(pg_temp.say(), 'ops ann 1 pending 3 500 HTTP 500', 'not received');
SELECT is(next_at >= '2026-03-01 12:05:05+00' AND next_at <= '2026-03-01 12:05:07.5+00', true, 'the third pause is of five seconds, and half as much at most') FROM tokenbill.alert_deliveries;
SELECT is(tokenbill.next_webhook_due(), next_at, 'due then') FROM tokenbill.alert_deliveries;
SELECT is(pg_temp.claim(), '', 'not before');
SELECT ok(bool_and(tokenbill.webhook_delay(n) BETWEEN least(seconds, 3600) * interval '1 second' AND least(seconds, 3600) * interval '1.5 seconds'), 'pause ' || n)
FROM (VALUES (1, 1), (2, 3), (3, 5), (4, 10), (5, 20), (12, 2560), (13, 3600), (1000, 3600)) v(n, seconds), generate_series(1, 50) GROUP BY n, seconds ORDER BY n;
SELECT isnt(min(tokenbill.webhook_delay(1)), max(tokenbill.webhook_delay(1)), 'not all alike') FROM generate_series(1, 50);
SELECT pg_temp.clock('2026-03-01 12:06+00'), pg_temp.claim() \g /dev/null
SELECT pg_temp.answer(NULL, 'could not connect', 'connect') \g /dev/null
SELECT is(pg_temp.say(), 'ops ann 1 pending 4 could not connect', 'no answer at all');
SELECT pg_temp.clock('2026-03-01 12:07+00'), pg_temp.claim() \g /dev/null
SELECT pg_temp.answer(429, headers => '{"retry-after": "120"}') \g /dev/null
SELECT is(next_at, '2026-03-01 12:09:00+00'::timestamptz, 'Retry-After is longer than our own pause') FROM tokenbill.alert_deliveries;
SELECT pg_temp.clock('2026-03-01 12:09+00'), pg_temp.claim() \g /dev/null
SELECT pg_temp.answer(503, headers => '{"retry-after": "999999999"}') \g /dev/null
SELECT is(next_at, '2026-03-01 13:09:00+00'::timestamptz, 'but an hour at most') FROM tokenbill.alert_deliveries;
SELECT pg_temp.clock('2026-03-01 13:09+00'), pg_temp.claim() \g /dev/null
SELECT pg_temp.answer(503, headers => '{"retry-after": "soon"}') \g /dev/null
SELECT is(next_at < '2026-03-01 13:15+00', true, 'what cannot be read is not there') FROM tokenbill.alert_deliveries;
SELECT pg_temp.clock('2026-03-01 14:00+00'), pg_temp.claim() \g /dev/null
SELECT tokenbill.release_webhooks(false) \g /dev/null
SELECT is(pg_temp.pick(d, 'attempts', 'error'), '{"attempts": 8, "error": "HTTP 503"}', 'the worker has ended: nobody knows whether it was received') FROM tokenbill.alert_deliveries d;
SELECT is(pg_temp.claim(), 'ops ann raised', 'it is sent again at once');
SAVEPOINT crash;
SELECT tokenbill.release_webhooks(true) \g /dev/null
SELECT is(pg_temp.pick(d, 'state', 'attempts', 'status', 'error'), '{"state": "pending", "attempts": 9, "status": null, "error": "the worker that waited for the answer has ended by itself"}', 'a worker that ended by itself may have ended by the answer') FROM tokenbill.alert_deliveries d;
SELECT is(pg_temp.claim(), '', 'so there is a pause');
SELECT is(next_at > '2026-03-01 14:02+00', true, 'as after any other failure') FROM tokenbill.alert_deliveries;
SELECT pg_temp.clock('2026-03-02 13:00+00') \g /dev/null
SELECT is(pg_temp.claim(), 'ops ann raised', 'then another try');
SELECT tokenbill.release_webhooks(true) \g /dev/null
SELECT is(state, 'failed', 'and after a day none') FROM tokenbill.alert_deliveries;
ROLLBACK TO crash;

-- In order
SELECT pg_temp.well('ann'), pg_temp.low('bob') \g /dev/null
SELECT is(pg_temp.say(), 'ops ann 1 pending 9 503 HTTP 503; ops ann 2 pending 0; ops bob 1 pending 0', 'cleared, and another');
TABLE claim \g /dev/null
CREATE TEMP TABLE older AS SELECT * FROM claim;
SELECT is(pg_temp.claim(), 'ops bob raised', 'that it is cleared waits, another alert does not');
SELECT is(pg_temp.answer(204), 0::bigint, 'received');
SELECT is(tokenbill.next_webhook_due(), '2026-03-01 14:05:00+00'::timestamptz, 'what waits is not due');
SELECT tokenbill.record_webhook(o.target, o.lease, 200, '{}', NULL, NULL, NULL, 5) FROM older o \g /dev/null
SELECT is(pg_temp.say(), 'ops ann 1 sent 9 200; ops ann 2 pending 0; ops bob 1 sent 1 204', 'received, too');
SELECT is(tokenbill.next_webhook_due(), '2026-03-01 14:00:00+00'::timestamptz, 'now it is');
SELECT is(pg_temp.claim(), 'ops ann cleared', 'its turn');
SELECT is(pg_temp.pick(w, 'pending', 'failed', 'sent_at', 'error'), '{"pending": 1, "failed": 0, "sent_at": "2026-03-01T14:00:00+00:00", "error": null}', 'how it goes') FROM tokenbill.alert_webhooks w WHERE name = 'ops';
SELECT tokenbill.record_webhook(o.target, o.lease, 500, '{}', NULL, NULL, NULL, 5) FROM older o \g /dev/null
SELECT is(pg_temp.say(), 'ops ann 1 sent 9 200; ops ann 2 pending 1; ops bob 1 sent 1 204', 'a second answer changes nothing');

-- Given up after a day, and not silently
SELECT pg_temp.clock('2026-03-02 13:59:59+00'), pg_temp.claim() \g /dev/null
SELECT pg_temp.answer(404) \g /dev/null
SELECT is(pg_temp.say(), 'ops ann 1 sent 9 200; ops ann 2 pending 2 404 HTTP 404; ops bob 1 sent 1 204', 'for a day less a second');
SELECT pg_temp.clock('2026-03-02 14:00:10+00'), pg_temp.claim() \g /dev/null
SELECT pg_temp.answer(NULL, 'certificate has expired', 'tls') \g /dev/null
SELECT is(pg_temp.say(), 'ops ann 1 sent 9 200; ops ann 2 failed 3 certificate has expired; ops bob 1 sent 1 204', 'then it is given up');
SELECT is(pg_temp.pick(e, 'duty', 'target', 'sqlstate', 'message', 'detail', 'count'), '{"duty": "webhook", "target": "ops", "sqlstate": "58000", "message": "an alert could not be sent to webhook \"ops\" for a day", "detail": "certificate has expired", "count": 1}', 'which is an error of the worker''s') FROM tokenbill.worker_errors e;
SELECT is(pg_temp.pick(w, 'pending', 'failed', 'error'), '{"pending": 0, "failed": 1, "error": "certificate has expired"}', 'and shown') FROM tokenbill.alert_webhooks w WHERE name = 'ops';
SELECT is(tokenbill.next_webhook_due(), NULL, 'nothing is due');
SELECT tokenbill.evaluate_alerts() \g /dev/null
SELECT is(string_agg(kind || ' ' || subject, ', ' ORDER BY id), 'account_low bob, worker_error webhook', 'it is an alert') FROM tokenbill.alerts WHERE state = 'raised';
SELECT is(count(*), 0::bigint, 'that is sent to no webhook') FROM tokenbill.alert_deliveries WHERE state = 'pending';

-- No other moves
SELECT pg_temp.refused($$UPDATE tokenbill.alert_delivery SET state = 'pending', next_at = '2026-03-02' WHERE state = 'failed'$$, 'PT409', '{"table": "alert_delivery", "was": "failed", "now": "pending"}', 'given up is given up');
SELECT pg_temp.refused($$UPDATE tokenbill.alert_delivery SET state = 'failed' WHERE event = 1$$, 'PT409', '{"was": "sent", "now": "failed"}', 'sent is sent');
SELECT is((pg_temp.error_of($$UPDATE tokenbill.alert_delivery SET next_at = '2026-03-02' WHERE state = 'sent'$$)).sqlstate, '23514', 'and not due');

-- Disabled, changed, dropped
SELECT pg_temp.low('carl') \g /dev/null
SELECT is(enabled, false, 'disabled') FROM tokenbill.set_alert_webhook('ops', enabled => false);
SELECT is(tokenbill.next_webhook_due(), NULL, 'what is pending is not due');
SELECT is(pg_temp.claim(), '', 'and not sent');
SELECT pg_temp.well('carl') \g /dev/null
SELECT is(count(*), 1::bigint, 'nothing is added') FROM tokenbill.alert_deliveries WHERE state = 'pending';
SELECT is(pg_temp.pick(w, 'url', 'secret', 'kinds', 'enabled'), '{"url": "https://other.example/{secret}", "secret": "ops key", "kinds": ["account_low"], "enabled": true}', 'set_alert_webhook: null leaves the rest') FROM tokenbill.set_alert_webhook('ops', 'https://other.example/{secret}', kinds => '{account_low}', enabled => true) w;
SELECT is(pg_temp.claim(), 'ops carl raised', 'enabled again');
SELECT is(pg_temp.pick(c, 'url', 'secret', 'auth'), '{"url": "https://other.example/{secret}", "secret": "ops key", "auth": null}', 'to where it goes now: a secret that is part of the address signs nothing') FROM claim c;
SELECT is(string_agg(concat_ws(' ', event, state, attempts, status), ', ' ORDER BY created_at, event), '1 sent 9 200, 1 sent 1 204, 2 failed 3, 1 pending 1', 'the view') FROM tokenbill.alert_deliveries WHERE webhook = 'ops';
SELECT is(pg_temp.pick(w, 'name'), '{"name": "ops"}', 'dropped') FROM tokenbill.drop_alert_webhook('ops') w;
SELECT is(pg_temp.answer(200), 0::bigint, 'an answer for it');
SELECT is(pg_temp.say(), '', 'comes to nothing: its deliveries are gone');

-- A whole set of alerts, claimed in batches
SELECT tokenbill.add_alert_webhook('all', 'http://all.example/'), tokenbill.set_alert_rule('account_low', quiet_period => '0') \g /dev/null
SELECT tokenbill.create_account('n' || n), tokenbill.set_low_balance('n' || n, 1) FROM generate_series(1, 25) n \g /dev/null
SELECT tokenbill.evaluate_alerts() \g /dev/null
SELECT is(row(count(*), count(DISTINCT c.target), count(c.auth), count(c.secret))::text, '(20,20,0,0)', 'twenty at most, each once, unsigned') FROM tokenbill.claim_webhooks(20) c;
SELECT is(count(*), 5::bigint, 'and the rest') FROM tokenbill.claim_webhooks(20);

-- They go with their alerts
SELECT tokenbill.set_low_balance('n' || n, NULL) FROM generate_series(1, 25) n \g /dev/null
SELECT tokenbill.evaluate_alerts(), pg_temp.clock('2026-07-01 12:00+00') \g /dev/null
SELECT is(tokenbill.expire_alerts(10), 10::bigint, 'ten old alerts');
SELECT is(tokenbill.expire_alerts(), 17::bigint, 'and the rest');
SELECT is(pg_temp.say(), '', 'with their deliveries');

-- No tenant's business
CREATE ROLE wh_tenant LOGIN IN ROLE tokenbill_admin;
SELECT tokenbill.map_tenant('wh_tenant', 'ann') \g /dev/null
SELECT pg_temp.refused(statement, '42501', '{"argument": "name"}', 'a tenant may not: ' || statement, 'wh_tenant') FROM (VALUES ($$SELECT tokenbill.add_alert_webhook('x', 'https://x.example')$$), ($$SELECT tokenbill.set_alert_webhook('all')$$), ($$SELECT tokenbill.drop_alert_webhook('all')$$)) v(statement);
SELECT is(pg_temp.rows_as('SELECT name FROM tokenbill.alert_webhooks', 'wh_tenant'), '[]', 'nor see any');
SELECT is(pg_temp.rows_as('SELECT delivery FROM tokenbill.alert_deliveries', 'wh_tenant'), '[]', 'or what is sent');
SELECT * FROM finish();
ROLLBACK;
