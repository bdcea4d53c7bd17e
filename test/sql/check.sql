-- Checks of providers: when each is asked, with which request, and what each kind of answer does
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(194);
SET LOCAL tokenbill.clock = '2026-03-05 12:00:00+00';

CREATE FUNCTION pg_temp.clock(at text) RETURNS void LANGUAGE sql AS $$ SELECT set_config('tokenbill.clock', (CASE WHEN at LIKE '%-%' THEN at ELSE '2026-03-05 ' || at END) || '+00', true) $$;
-- The calls that are to be made now, by name
CREATE FUNCTION pg_temp.claimed(max int DEFAULT 100) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(c.target, ' ' ORDER BY c.target), '-') FROM tokenbill.claim_checks(max) c
$$;
-- An answer to the call that is under way; the URL of the one that follows
CREATE FUNCTION pg_temp.answer(provider text, status int, body text DEFAULT '{}', headers jsonb DEFAULT '{}', error_kind text DEFAULT NULL, ms int DEFAULT 40) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(max(r.url), '-') FROM tokenbill.provider_check c LEFT JOIN LATERAL tokenbill.record_check(c.provider, c.lease, answer.status, answer.headers, convert_to(answer.body, 'UTF8'), answer.error_kind || ' failed', answer.error_kind, answer.ms) r ON true
	WHERE c.provider = answer.provider
$$;
-- Claims this provider alone, however many are due, and answers
CREATE FUNCTION pg_temp.asked(provider text, status int, body text DEFAULT '{}', headers jsonb DEFAULT '{}', error_kind text DEFAULT NULL, ms int DEFAULT 40) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tokenbill.claim_checks(2000);
	RETURN pg_temp.answer(provider, status, body, headers, error_kind, ms);
END $$;
CREATE FUNCTION pg_temp.say(provider text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', b.currency, trim_scale(b.balance), b.status, b.error), '; ' ORDER BY b.currency COLLATE "C") FROM tokenbill.provider_balances b WHERE b.provider = say.provider
$$;
CREATE FUNCTION pg_temp.check_of(provider text) RETURNS tokenbill.provider_check LANGUAGE sql AS $$ SELECT c.* FROM tokenbill.provider_check c WHERE c.provider = check_of.provider $$;
CREATE FUNCTION pg_temp.seconds(provider text) RETURNS numeric LANGUAGE sql AS $$ SELECT extract(epoch FROM c.next_at - tokenbill.clock()) FROM tokenbill.provider_check c WHERE c.provider = seconds.provider $$;

-- Presets for these tests, which need no secret
SELECT tokenbill.add_preset('t_one', 'https://one.example.com/api'), tokenbill.add_preset('t_two', 'https://two.example.com'), tokenbill.add_preset('t_cost', 'https://cost.example.com', source => 'derived') \g /dev/null
SELECT tokenbill.add_preset_request('t_one', '/balance', '$.balance', headers => '{}'),
	tokenbill.add_preset_request('t_two', '/{org}/limit', '$.limit', headers => '{"x-org": "{org}"}', query => '{"b": "{org}&=", "a[]": "{today-1}"}'),
	tokenbill.add_preset_request('t_two', '/used', '$.used', scale => 0.01, contributes => 'subtract', method => 'POST', headers => '{}', body => '{"org": "{org}", "from": "{month_start}"}'),
	tokenbill.add_preset_request('t_cost', '/costs', '$.cost', rows => '$.items[*]', currency => '$.unit', contributes => 'cost', headers => '{}',
		query => '{"since": "{start_rfc3339}", "unix": "{start_unix}", "day": "{start_date}", "page": "{page}"}', require => 'exists($.items)', next => '$.next') \g /dev/null

-- When: at once, but not all in one moment; then each at its own place in the interval
SELECT tokenbill.add_provider('load ' || i, 't_one', check_every => '1 min') FROM generate_series(1, 1000) i \g /dev/null
SELECT is(count(*), 1000::bigint, 'a thousand are added') FROM tokenbill.provider_check;
SELECT is_empty($$SELECT provider FROM tokenbill.provider_check WHERE next_at < tokenbill.clock() OR next_at >= tokenbill.clock() + interval '10 s'$$, 'all are asked within ten seconds');
SELECT is_empty($$SELECT floor(extract(epoch FROM next_at)) FROM tokenbill.provider_check GROUP BY 1 HAVING count(*) NOT BETWEEN 60 AND 140$$, 'about a hundred in each of them');
SELECT pg_temp.clock('12:00:10') \g /dev/null
SELECT is((SELECT count(*) FROM tokenbill.claim_checks(30)), 30::bigint, 'as many as there is room for');
SELECT results_eq($$SELECT provider FROM tokenbill.provider_check WHERE lease IS NOT NULL ORDER BY 1$$, $$SELECT provider FROM (SELECT * FROM tokenbill.provider_check ORDER BY next_at LIMIT 30) f ORDER BY 1$$, 'those that have been due for longest');
SELECT is((SELECT count(*) FROM tokenbill.claim_checks(2000)), 970::bigint, 'then the rest');
SELECT is(pg_temp.claimed(), '-', 'none of them twice');
SELECT is(min(lease_until), tokenbill.next_check_due(), 'the worker sleeps until the first lease ends') FROM tokenbill.provider_check;
SELECT count(pg_temp.answer(provider, 200, '{"balance": 5}')) FROM tokenbill.provider_check \g /dev/null
SELECT is(count(*), 1000::bigint, 'all have a balance') FROM tokenbill.provider_balances WHERE balance = 5 AND status = 'ok';
SELECT is_empty($$SELECT provider FROM tokenbill.provider_check WHERE next_at <= tokenbill.clock() OR next_at > tokenbill.clock() + interval '1 min' OR next_at <> due_at OR lease IS NOT NULL$$, 'the next is within the interval');
SELECT is_empty($$SELECT floor(extract(epoch FROM next_at) / 6) FROM tokenbill.provider_check GROUP BY 1 HAVING count(*) NOT BETWEEN 1 AND 140$$, 'spread over all of it');
SELECT next_at AS slot FROM pg_temp.check_of('load 7') \gset
SELECT set_config('tokenbill.clock', (:'slot'::timestamptz + interval '7 s')::text, true), pg_temp.asked('load 7', 200, '{"balance": 5}') \g /dev/null
SELECT is(next_at, :'slot'::timestamptz + interval '1 min', 'a check that came late does not put the next one off') FROM pg_temp.check_of('load 7');
SELECT set_config('tokenbill.clock', (:'slot'::timestamptz + interval '9 h 10 s')::text, true), pg_temp.asked('load 7', 200, '{"balance": 5}') \g /dev/null
SELECT is(next_at, :'slot'::timestamptz + interval '9 h 1 min', 'after a night there is one check, not five hundred') FROM pg_temp.check_of('load 7');
SELECT is(next_slot, wanted::timestamptz, what) FROM (VALUES ('2026-03-05 12:00', interval '5 min', '2026-03-05 12:00', '2026-03-05 12:05', 'a slot is over when it is there'), ('2026-03-05 12:00', '5 min', '2026-03-05 11:58', '2026-03-05 12:00', 'one to come stays'),
	('2026-03-28 12:00', '1 day', '2026-03-30 11:00', '2026-03-30 12:00', 'days are 24 hours'), ('2026-03-05 12:00', '1.5 s', '2026-03-05 12:00:04', '2026-03-05 12:00:04.5', 'fractions')) v(due, every, now, wanted, what), LATERAL tokenbill.next_slot(due::timestamptz, every, now::timestamptz);
SELECT count(tokenbill.drop_provider(provider)) FROM tokenbill.provider \g /dev/null
SELECT is_empty('SELECT provider FROM tokenbill.provider_check', 'dropped with their checks');
SELECT is(tokenbill.next_check_due(), NULL, 'nothing is due any more');

-- With which request
SELECT pg_temp.clock('13:00:00') \g /dev/null
SELECT tokenbill.add_provider('two', 't_two', 'https://proxy.example.net:8443/a/', params => '{"org": "ü/1 \"q\""}', check_every => '1 hour'), tokenbill.add_provider('two plain', 't_two', params => '{"org": 7}', check_every => '1 hour', low_balance => 3) \g /dev/null
SELECT pg_temp.clock('13:00:10') \g /dev/null
SELECT is(pg_temp.pick(c, 'purpose', 'target', 'method', 'url', 'headers', 'body', 'secret', 'auth', 'timeout_ms', 'max_bytes'),
	jsonb_build_object('purpose', 'provider', 'target', 'two', 'method', 'GET', 'url', 'https://proxy.example.net:8443/a/%C3%BC%2F1%20%22q%22/limit?a%5B%5D=2026-03-04&b=%C3%BC%2F1%20%22q%22%26%3D',
		'headers', jsonb_build_object('x-org', 'ü/1 "q"'), 'body', NULL, 'secret', NULL, 'auth', NULL, 'timeout_ms', NULL, 'max_bytes', NULL), 'base_url, path, params, query: each escaped as its place needs it')
FROM (SELECT * FROM tokenbill.claim_checks(100)) c WHERE target = 'two';
SELECT lease AS lease FROM pg_temp.check_of('two') \gset
SELECT is(pg_temp.pick(r, 'url', 'method', 'body', 'lease'), jsonb_build_object('url', 'https://proxy.example.net:8443/a/used', 'method', 'POST', 'body', '{"org": "ü/1 \"q\"", "from": "2026-03-01"}', 'lease', :lease), 'the second request, under the same lease; a body is JSON')
FROM tokenbill.record_check('two', :lease, 200, '{}', '{"limit": 100}', NULL, NULL, 70) r;
SELECT is(pg_temp.say('two'), 'USD unknown', 'half of a check is no balance');
SELECT is_empty(format($$SELECT * FROM tokenbill.record_check('two', %s, 200, '{}', '{"used": 1050.5}', NULL, NULL, 70)$$, :lease), 'nothing follows');
SELECT is(pg_temp.say('two'), 'USD 89.495 ok', 'the limit less what is used, in cents');
SELECT is(pg_temp.pick(pg_temp.check_of('two'), 'checks', 'failed_checks', 'calls', 'retries', 'status', 'step', 'progress', 'attempt'), '{"checks": 1, "failed_checks": 0, "calls": 2, "retries": 0, "status": 200, "step": null, "progress": {}, "attempt": 0}', 'counted');
SELECT is_empty(format($$SELECT * FROM tokenbill.record_check('two', %s, 200, '{}', '{"used": 0}', NULL, NULL, 70)$$, :lease), 'an answer that comes again');
SELECT is(pg_temp.say('two'), 'USD 89.495 ok', 'is not looked at');
SELECT is(pg_temp.answer('two plain', 200, '{"limit": 5}'), 'https://two.example.com/used', 'without base_url it is the preset''s');
SELECT is(pg_temp.answer('two plain', 200, '{"used": null}') || pg_temp.say('two plain'), '-USD unknown $.used is null', 'the second request told nothing');
SELECT is(pg_temp.pick(c, 'under_way', 'status', 'error', 'failed_checks'), '{"under_way": false, "status": 200, "error": "$.used is null", "failed_checks": 1}', 'provider_checks says so') FROM tokenbill.provider_checks c WHERE provider = 'two plain';

-- What fails is tried again, three times
SELECT pg_temp.clock('13:30:00') \g /dev/null
SELECT tokenbill.drop_provider('two'), tokenbill.drop_provider('two plain'), tokenbill.add_provider('one', 't_one', check_every => '1 hour') \g /dev/null
SELECT pg_temp.clock('13:30:10'), pg_temp.asked('one', 200, '{"balance": 12}') \g /dev/null
SELECT is(pg_temp.say('one'), 'USD 12 ok', 'a good answer');
SELECT pg_temp.clock('15:00:00'), pg_temp.asked('one', 502) \g /dev/null
SELECT is(pg_temp.seconds('one') BETWEEN 1 AND 1.5, true, 'HTTP 502: again after a second, or half as much more');
SELECT is(pg_temp.say('one'), 'USD 12 ok', 'which is no report yet');
SELECT is(pg_temp.claimed(), '-', 'not before');
SELECT is(pg_temp.pick(pg_temp.check_of('one'), 'attempt', 'error', 'retries', 'lease'), '{"attempt": 1, "error": "HTTP 502", "retries": 1, "lease": null}', 'noted');
SELECT pg_temp.clock('15:00:02'), pg_temp.asked('one', 503, '{"error": {"message": "overloaded"}}') \g /dev/null
SELECT is(pg_temp.seconds('one') BETWEEN 3 AND 4.5, true, 'then after three');
SELECT pg_temp.clock('15:00:07'), pg_temp.asked('one', NULL, error_kind => 'connect') \g /dev/null
SELECT is(pg_temp.seconds('one') BETWEEN 5 AND 7.5, true, 'then after five');
SELECT pg_temp.clock('15:00:15'), pg_temp.asked('one', 500, '<html>') \g /dev/null
SELECT is(pg_temp.say('one'), 'USD 12 stale HTTP 500', 'then it has failed: the balance stays, with the reason');
SELECT is(pg_temp.seconds('one') > 900, true, 'until the next slot');
SELECT is(pg_temp.pick(pg_temp.check_of('one'), 'attempt', 'retries', 'checks', 'failed_checks', 'calls'), '{"attempt": 0, "retries": 3, "checks": 2, "failed_checks": 1, "calls": 5}', 'one check of four calls');
SELECT is(b.failures, 4, 'the breaker knows of all four') FROM tokenbill.breaker b WHERE name = 'one';
CREATE TEMP TABLE trial (place int, status int, error_kind text, body text, again boolean);
INSERT INTO trial VALUES (1, 408, NULL, '{}', true), (2, 429, NULL, '{}', true), (3, 504, NULL, '{}', true), (4, 529, NULL, '{}', true), (5, NULL, 'resolve', '', true), (6, NULL, 'timeout', '', true), (7, NULL, 'protocol', '', true),
	(8, NULL, 'connect', '', true), (9, 400, NULL, '{}', false), (10, 401, NULL, '{}', false), (11, 402, NULL, '{}', false), (12, 403, NULL, '{}', false), (13, 404, NULL, '{}', false), (14, 301, NULL, '{}', false), (15, NULL, 'tls', '', false),
	(16, NULL, 'too_big', '', false), (17, NULL, 'address', '', false), (18, NULL, 'secret', '', false), (19, NULL, 'encoding', '', false), (20, 200, NULL, '{}', false), (21, 429, NULL, '{"error": {"code": "insufficient_quota"}}', false),
	(22, 429, NULL, '{"error": {"type": "exceeded_current_quota_error"}}', false), (23, 500, NULL, '{"error": {"code": "project_spend_limit_exceeded"}}', false), (24, 429, NULL, '{"error": {"code": "1113"}}', false),
	(25, 429, NULL, '{"error": {"code": "rate_limit_exceeded"}}', true), (26, 429, NULL, '{"error": {"type": "rate_limit_reached_error"}}', true);
CREATE TEMP TABLE tried (place int, again boolean, said text);
DO $do$
DECLARE
	t trial;
BEGIN
	FOR t IN SELECT * FROM trial ORDER BY place LOOP
		PERFORM pg_temp.clock('15:10:00');
		PERFORM tokenbill.add_provider('trial', 't_one');
		PERFORM pg_temp.clock('15:10:10');
		PERFORM pg_temp.asked('trial', t.status, t.body, error_kind => t.error_kind);
		INSERT INTO tried SELECT t.place, c.attempt = 1, pg_temp.say('trial') FROM pg_temp.check_of('trial') c;
		PERFORM tokenbill.drop_provider('trial');
	END LOOP;
END $do$;
SELECT is(tried.again, trial.again, format('%s %s: %s', coalesce(status::text, error_kind), nullif(body, '{}'), CASE WHEN trial.again THEN 'again' ELSE 'not again' END)) FROM trial JOIN tried USING (place) ORDER BY place;
SELECT is_empty($$SELECT place FROM tried WHERE again <> (said = 'USD unknown') OR said !~ '^USD unknown'$$, 'what is not tried again is reported, the other not yet; and nothing is zero');

-- What an answer that failed means is what classify_error() says, by the rules of the preset's vendor
SELECT pg_temp.clock('15:20:00'), tokenbill.add_preset('t_vendor', 'https://v.example.com', vendor => 'openrouter'), tokenbill.add_preset_request('t_vendor', '/left', '$.left', headers => '{}', failure => 'exists($.error)', failure_text => '$.error.message'),
	tokenbill.add_error_rule('t_half', 'transient', 'openrouter', '418') \g /dev/null
CREATE TEMP TABLE meant (place int, status int, error_kind text, headers jsonb, body text, attempt int, class text, error text, blocked interval, failures int);
INSERT INTO meant VALUES (1, 402, NULL, '{}', '{"error": {"message": "in_flight_budget_exhausted"}}', 1, 'billing', 'HTTP 402: in_flight_budget_exhausted', '5 s', 0), (2, 402, NULL, '{}', '{"error": {"code": 402}}', 0, 'billing', 'HTTP 402', NULL, 0),
	(3, 418, NULL, '{}', '{}', 1, 'transient', 'HTTP 418', NULL, 1), (4, 503, NULL, '{"x-should-retry": "false"}', '{"error": {"code": "maintenance"}}', 0, 'transient', 'HTTP 503 maintenance', NULL, 1), (5, 429, NULL, '{}', '{"message": "try again in 8s"}', 1, 'rate_limit', 'HTTP 429: try again in 8s', '8 s', 1),
	(6, 200, NULL, '{}', '{"error": {"code": 502, "message": "Bad"}}', 1, 'transient', 'the answer says that it failed: Bad', NULL, 1), (7, 200, NULL, '{}', '{"error": {"message": "Odd"}}', 0, 'unknown', 'the answer says that it failed: Odd', NULL, 0), (8, 200, NULL, '{}', '{"left": 5}', 0, NULL, NULL, NULL, 0),
	(9, 403, NULL, '{"retry-after": "60"}', '{}', 0, 'permission', 'HTTP 403', '60 s', 0), (10, NULL, 'timeout', '{}', '', 1, 'transient', 'timeout failed', NULL, 1), (11, NULL, 'tls', '{}', '', 0, NULL, 'tls failed', NULL, 1);
CREATE TEMP TABLE became (place int, said text, advice text);
DO $do$
DECLARE
	m meant;
BEGIN
	FOR m IN SELECT * FROM meant ORDER BY place LOOP
		PERFORM pg_temp.clock('15:20:00');
		PERFORM tokenbill.add_provider('vendor', 't_vendor');
		PERFORM pg_temp.clock('15:20:10');
		PERFORM pg_temp.asked('vendor', m.status, m.body, m.headers, m.error_kind);
		INSERT INTO became SELECT m.place, concat_ws(' ', c.attempt, c.error_class, c.error, c.blocked_until - tokenbill.clock(), b.failures), c.advice FROM tokenbill.provider_checks c JOIN tokenbill.breaker b ON b.name = c.provider WHERE c.provider = 'vendor';
		PERFORM tokenbill.drop_provider('vendor');
	END LOOP;
END $do$;
SELECT is(said, concat_ws(' ', m.attempt, m.class, m.error, m.blocked, m.failures), concat_ws(' ', m.status, m.error_kind, m.body)) FROM meant m JOIN became USING (place) ORDER BY place;
SELECT is_empty($$SELECT place FROM became JOIN meant USING (place) WHERE (advice IS NULL) <> (class IS NULL)$$, 'with a sentence');

-- What asks to be left alone is
SELECT pg_temp.clock('16:40:00'), pg_temp.asked('one', 429, '{}', '{"retry-after": "30"}') \g /dev/null
SELECT is(tokenbill.next_check_due(), '2026-03-05 16:40:30+00', 'not before it says');
SELECT pg_temp.clock('16:40:29') \g /dev/null
SELECT is(pg_temp.claimed(), '-', 'not a second before');
SELECT is(tokenbill.check_provider_now('one'), '2026-03-05 16:40:30+00', 'not if somebody asks for it');
SELECT pg_temp.clock('16:40:31'), pg_temp.asked('one', 429, '{}', '{"retry-after": "3600"}') \g /dev/null
SELECT is(pg_temp.say('one'), 'USD 12 stale HTTP 429', 'an hour is too long to wait with the report');
SELECT is(pg_temp.pick(c, 'blocked_until', 'blocked_reason', 'next_at'), '{"blocked_until": "2026-03-05T17:40:31+00:00", "blocked_reason": "HTTP 429", "next_at": "2026-03-05T17:40:31+00:00"}', 'it is left alone as long') FROM tokenbill.provider_checks c WHERE provider = 'one';
SELECT pg_temp.clock('17:40:31'), pg_temp.asked('one', 200, '{"balance": 11}') \g /dev/null
SELECT is(pg_temp.say('one'), 'USD 11 ok', 'then it is asked again');
SELECT is(blocked_until, NULL, 'and nothing blocks it') FROM tokenbill.provider_checks WHERE provider = 'one';

-- The breaker
SELECT pg_temp.clock('18:33:00'), tokenbill.check_provider_now('one'), pg_temp.asked('one', 500) \g /dev/null
DO $do$ BEGIN FOR i IN 1..4 LOOP PERFORM set_config('tokenbill.clock', (tokenbill.clock() + interval '10 s')::text, true), tokenbill.check_provider_now('one'), pg_temp.asked('one', 500); END LOOP; END $do$;
SELECT is(b.state, 'open', 'five failures in a row open it') FROM tokenbill.breaker b WHERE name = 'one';
SELECT pg_temp.clock('19:35:00'), tokenbill.check_provider_now('one') \g /dev/null
UPDATE tokenbill.breaker SET retry_at = '2026-03-05 19:35:20+00' WHERE name = 'one';
SELECT is(pg_temp.claimed(), '-', 'while it is open nothing is asked');
SELECT is(next_at, '2026-03-05 19:35:20+00', 'but when it may be probed') FROM pg_temp.check_of('one');
SELECT pg_temp.clock('19:35:20') \g /dev/null
SELECT is(pg_temp.claimed(), 'one', 'the probe');
SELECT is(state, 'half_open', 'is one') FROM tokenbill.breaker WHERE name = 'one';
SELECT pg_temp.answer('one', 401) \g /dev/null
SELECT is(state, 'closed', 'a refusal is an answer: it is there') FROM tokenbill.breaker WHERE name = 'one';

-- How long answers took
SELECT is((SELECT sum(n) FROM unnest(latency) n)::bigint * 40, latency_ms, 'answers are counted by how long they took') FROM pg_temp.check_of('one');
SELECT pg_temp.clock('19:40:00'), tokenbill.check_provider_now('one'), pg_temp.asked('one', 200, '{"balance": 11}', ms => 1200) \g /dev/null
SELECT pg_temp.clock('19:41:00'), tokenbill.check_provider_now('one'), pg_temp.asked('one', 200, '{"balance": 11}', ms => 60000) \g /dev/null
SELECT is(latency[6:], '{1,0,0,0,0,1}', 'up to a bound, and beyond all') FROM pg_temp.check_of('one');

-- A worker that ends, and answers that come too late
SELECT pg_temp.clock('20:00:00'), tokenbill.check_provider_now('one'), pg_temp.claimed() \g /dev/null
SELECT is(tokenbill.release_checks(false), 1::bigint, 'a worker that has ended: what it had is free');
SELECT is(pg_temp.claimed(), 'one', 'and taken again');
SAVEPOINT crashes;
SELECT is((SELECT string_agg(tokenbill.release_checks(false) || pg_temp.claimed(), ' ') FROM generate_series(1, 6)), '1one 1one 1one 1one 1one 1one', 'workers that were told to end say nothing about it');
SELECT is(pg_temp.pick(b, 'state', 'failures'), '{"state": "closed", "failures": 0}', 'the breaker does not mind') FROM tokenbill.breakers b WHERE name = 'one';
SELECT is((SELECT string_agg(tokenbill.release_checks(true) || pg_temp.claimed(), ' ') FROM generate_series(1, 6)), '1one 1one 1one 1one 1- 0-', 'an answer that crashes each worker is not asked for all the time');
SELECT is(state, 'open', 'it has opened the breaker') FROM tokenbill.breakers WHERE name = 'one';
ROLLBACK TO crashes;
SELECT lease AS old FROM pg_temp.check_of('one') \gset
SELECT lease_until AS ends FROM pg_temp.check_of('one') \gset
SELECT set_config('tokenbill.clock', :'ends', true) \g /dev/null
SELECT is(pg_temp.claimed(), 'one', 'a lease that ran out is free, too');
SELECT is_empty(format($$SELECT * FROM tokenbill.record_check('one', %s, 200, '{}', '{"balance": 1}', NULL, NULL, 5)$$, :old), 'what comes under it then');
SELECT is(pg_temp.say('one'), 'USD 11 ok', 'is too late');
SELECT pg_temp.answer('one', 200, '{"balance": 10}') \g /dev/null
SELECT is(pg_temp.say('one'), 'USD 10 ok', 'the new one counts');
SELECT pg_temp.clock('20:10:00'), tokenbill.check_provider_now('one'), tokenbill.claim_checks(9) \g /dev/null
SELECT lease AS old FROM pg_temp.check_of('one') \gset
SELECT tokenbill.set_provider('one', base_url => 'https://other.example.com') \g /dev/null
SELECT is_empty(format($$SELECT * FROM tokenbill.record_check('one', %s, 200, '{}', '{"balance": 1}', NULL, NULL, 5)$$, :old), 'the answer to a provider that was changed meanwhile');
SELECT is(pg_temp.say('one'), 'USD 10 ok', 'is not its answer any more');
SELECT pg_temp.clock('20:10:10') \g /dev/null
SELECT is(url, 'https://other.example.com/balance', 'it is asked at its new place') FROM tokenbill.claim_checks(9);
SELECT is_empty($$SELECT * FROM tokenbill.record_check('nobody', 1, 200, '{}', '{"balance": 1}', NULL, NULL, 5)$$, 'nor does one of a provider that is gone do anything');
SELECT pg_temp.answer('one', 200, '{"balance": 10}') \g /dev/null

-- Pages
SELECT pg_temp.clock('21:00:00') \g /dev/null
SELECT tokenbill.add_provider('cost', 't_cost', opening_balance => 100, opening_at => '2026-03-01 00:00+00', check_every => '1 hour', low_balance => 50) \g /dev/null
SELECT pg_temp.clock('21:00:10') \g /dev/null
SELECT is(url, 'https://cost.example.com/costs?day=2026-03-01&since=2026-03-01T00%3A00%3A00Z&unix=1772323200', 'the first page, without {page}') FROM tokenbill.claim_checks(9) WHERE target = 'cost';
SELECT is(pg_temp.answer('cost', 200, '{"items": [{"cost": 1.5, "unit": "usd"}, {"cost": "0.25", "unit": "USD"}], "next": "p&2/="}'), 'https://cost.example.com/costs?day=2026-03-01&page=p%262%2F%3D&since=2026-03-01T00%3A00%3A00Z&unix=1772323200', 'the second');
SELECT is(pg_temp.say('cost'), 'USD unknown', 'half a report is none');
SELECT is(pg_temp.answer('cost', 200, '{"items": [{"cost": 3, "unit": "usd"}], "next": null}'), '-', 'the last');
SELECT is(pg_temp.say('cost'), 'USD 95.25 ok', 'the opening balance less all of it');
SELECT is(source, 'derived', 'and it says that it is derived') FROM tokenbill.provider_balances WHERE provider = 'cost';
SELECT pg_temp.clock('21:10:00'), tokenbill.check_provider_now('cost'), pg_temp.asked('cost', 200, '{"items": [{"cost": 50, "unit": "usd"}], "next": "p2"}') \g /dev/null
SELECT lease_until AS ends FROM pg_temp.check_of('cost') \gset
SELECT set_config('tokenbill.clock', :'ends', true) \g /dev/null
SELECT doesnt_match(url, 'page=', 'a crash between pages: from the first again') FROM tokenbill.claim_checks(9) WHERE target = 'cost';
SELECT pg_temp.answer('cost', 200, '{"items": [{"cost": 50, "unit": "usd"}], "next": "p2"}'), pg_temp.answer('cost', 200, '{"items": []}') \g /dev/null
SELECT is(pg_temp.say('cost'), 'USD 50 low', 'nothing is counted twice; a page without items costs nothing');
SELECT pg_temp.clock('21:20:00'), tokenbill.check_provider_now('cost'), pg_temp.asked('cost', 200, '{"items": [{"cost": 60, "unit": "usd"}], "next": "p2"}'), pg_temp.answer('cost', 502) \g /dev/null
SELECT is(pg_temp.pick(c, 'attempt', 'lease') || jsonb_build_object('page', c.progress -> 'page'), '{"attempt": 1, "lease": null, "page": "p2"}', 'a page that failed is asked for again') FROM pg_temp.check_of('cost') c;
SELECT pg_temp.clock('21:20:02') \g /dev/null
SELECT matches(url, 'page=p2', 'that page') FROM tokenbill.claim_checks(9) WHERE target = 'cost';
SELECT pg_temp.answer('cost', 200, '{"items": [{"cost": 0.5, "unit": "usd"}]}') \g /dev/null
SELECT is(pg_temp.say('cost'), 'USD 39.5 low', 'once');
SELECT pg_temp.clock('21:30:00'), tokenbill.check_provider_now('cost'), pg_temp.asked('cost', 200, '{"items": [], "next": "p2"}'), pg_temp.answer('cost', 200, '{"items": [], "next": "p2"}') \g /dev/null
SELECT is(pg_temp.say('cost'), 'USD 39.5 low its pages have no end', 'the same page again and again');
-- What is asked of pages that lead to these, and lead to the last again
CREATE FUNCTION pg_temp.round_and_round(pages text[], max int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	n int := 1;
	page text := pg_temp.asked('cost', 200, '{"items": [{"cost": 1, "unit": "usd"}], "next": "' || pages[1] || '"}');
BEGIN
	WHILE page <> '-' AND n < max LOOP
		page := pg_temp.answer('cost', 200, format('{"items": [{"cost": 1, "unit": "usd"}], "next": "%s"}', pages[1 + n % cardinality(pages)]));
		n := n + 1;
	END LOOP;
	RETURN n;
END $$;
SELECT tokenbill.set_provider('cost', calls_per_minute => 1000) \g /dev/null
SELECT pg_temp.clock('21:32:00'), tokenbill.check_provider_now('cost') \g /dev/null
SELECT cmp_ok(pg_temp.round_and_round('{a,b}', 600), '<=', 5, 'two pages that lead to each other');
SELECT is(pg_temp.say('cost'), 'USD 39.5 low its pages have no end', 'are seen to have no end') FROM pg_temp.clock('21:33:00'), tokenbill.check_provider_now('cost');
SELECT cmp_ok(pg_temp.round_and_round('{a,b,c,d,e,f,g}', 600), '<=', 24, 'so are seven');
SELECT is(pg_temp.say('cost'), 'USD 39.5 low its pages have no end', 'and what was known stays') FROM pg_temp.clock('21:34:00'), tokenbill.check_provider_now('cost');
SELECT is(pg_temp.round_and_round(ARRAY(SELECT 'p' || i FROM generate_series(1, 1000) i), 600), 501, 'after five hundred pages nobody asks for more');
SELECT tokenbill.set_provider('cost', calls_per_minute => 60) \g /dev/null
SELECT pg_temp.clock('21:40:00'), tokenbill.check_provider_now('cost'), pg_temp.asked('cost', 200, '{"items": [{"cost": 1, "unit": "usd"}], "next": "p2"}'), pg_temp.answer('cost', 200, '{"next": null}') \g /dev/null
SELECT is(pg_temp.say('cost'), 'USD 39.5 low the answer is not what a good one is', 'a last page that is none');
SELECT pg_temp.clock('21:50:00'), tokenbill.check_provider_now('cost'), pg_temp.asked('cost', 200, '{"items": [{"cost": 1, "unit": "usd"}, {"cost": 4, "unit": "eur"}]}') \g /dev/null
SELECT is(pg_temp.say('cost'), 'EUR unknown there are costs in it, but the opening balance is in USD; USD 99 ok', 'currencies are never added up');
SELECT tokenbill.set_provider('cost', opening_balance => 20, opening_at => '2026-03-05 00:00+00') \g /dev/null
SELECT pg_temp.clock('21:51:00') \g /dev/null
SELECT matches(url, 'day=2026-03-05', 'recharged: from then on') FROM tokenbill.claim_checks(9) WHERE target = 'cost';
SELECT pg_temp.answer('cost', 200, '{"items": [{"cost": 0.000000000000000000000000000001, "unit": "usd"}]}') \g /dev/null
SELECT is(balance, 19.999999999999999999999999999999, 'to the last digit') FROM tokenbill.provider_balances WHERE provider = 'cost' AND currency = 'USD';

-- Two requests whose pages have the same numbers
SELECT tokenbill.add_preset('t_costs', 'https://costs.example.com', source => 'derived'), tokenbill.add_preset_request('t_costs', '/in', '$.cost', query => '{"page": "{page}"}', contributes => 'cost', headers => '{}', next => '$.next'),
	tokenbill.add_preset_request('t_costs', '/out', '$.cost', query => '{"page": "{page}"}', contributes => 'cost', headers => '{}', next => '$.next'),
	tokenbill.add_provider('costs', 't_costs', opening_balance => 100, opening_at => '2026-03-01 00:00+00', check_every => '1 hour'), pg_temp.clock('21:52:00') \g /dev/null
SELECT is(concat_ws(' ', pg_temp.asked('costs', 200, '{"cost": 1, "next": "2"}'), pg_temp.answer('costs', 200, '{"cost": 2, "next": "3"}'), pg_temp.answer('costs', 200, '{"cost": 4}'), pg_temp.answer('costs', 200, '{"cost": 8, "next": "3"}'), pg_temp.answer('costs', 200, '{"cost": 16}')),
	'https://costs.example.com/in?page=2 https://costs.example.com/in?page=3 https://costs.example.com/out https://costs.example.com/out?page=3 -', 'lead in no circle');
SELECT is(pg_temp.say('costs'), 'USD 69 ok', 'and add up');
SELECT tokenbill.drop_provider('costs') \g /dev/null

-- The budget of a minute, which retries and pages share
SELECT pg_temp.clock('22:00:00') \g /dev/null
SELECT tokenbill.set_provider('cost', calls_per_minute => 2), tokenbill.check_provider_now('cost'), tokenbill.claim_checks(9) \g /dev/null
SELECT matches(pg_temp.answer('cost', 200, '{"items": [{"cost": 1, "unit": "usd"}], "next": "p2"}'), 'page=p2', 'two calls in a minute');
SELECT is(pg_temp.answer('cost', 200, '{"items": [{"cost": 2, "unit": "usd"}], "next": "p3"}'), '-', 'not three: it is put down');
SELECT is(pg_temp.pick(c, 'next_at', 'lease', 'minute_calls') || (c.progress - 'told_at' - 'anchor'), '{"next_at": "2026-03-05T22:01:00+00:00", "lease": null, "minute_calls": 2, "page": "p3", "pages": 2, "cost": {"USD": 3}}', 'with what it told') FROM pg_temp.check_of('cost') c;
SELECT is(tokenbill.check_provider_now('cost') IS NOT NULL AND pg_temp.claimed() = '-', true, 'whoever asks for it');
SELECT pg_temp.clock('22:01:00') \g /dev/null
SELECT matches(url, 'page=p3', 'it goes on in the next minute') FROM tokenbill.claim_checks(9) WHERE target = 'cost';
SELECT pg_temp.answer('cost', 200, '{"items": [{"cost": 4, "unit": "usd"}]}') \g /dev/null
SELECT is(split_part(pg_temp.say('cost'), '; ', 2), 'USD 13 low', 'where it was');
SELECT pg_temp.clock('22:10:00'), tokenbill.check_provider_now('cost'), pg_temp.asked('cost', 200, '{"items": [{"cost": 1, "unit": "usd"}], "next": "p2"}'), pg_temp.answer('cost', 200, '{"items": [{"cost": 1, "unit": "usd"}], "next": "p3"}') \g /dev/null
SELECT pg_temp.clock('22:30:00') \g /dev/null
SELECT doesnt_match(url, 'page=', 'put down for long it is too old: from the first page') FROM tokenbill.claim_checks(9) WHERE target = 'cost';
SELECT pg_temp.answer('cost', 200, '{"items": [{"cost": 1, "unit": "usd"}]}'), tokenbill.set_provider('cost', calls_per_minute => 1), tokenbill.check_provider_now('cost') \g /dev/null
CREATE FUNCTION pg_temp.page_by_page(pages int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	asked bigint := (pg_temp.check_of('cost')).calls;
BEGIN
	FOR n IN 1 .. pages LOOP
		PERFORM set_config('tokenbill.clock', (tokenbill.clock() + interval '1 min')::text, true);
		PERFORM pg_temp.asked('cost', 200, format('{"items": [{"cost": 0.1, "unit": "usd"}], "next": %s}', CASE WHEN n < pages THEN '"p' || n || '"' ELSE 'null' END));
	END LOOP;
	RETURN (pg_temp.check_of('cost')).calls - asked;
END $$;
SELECT is(pg_temp.page_by_page(30), 30::bigint, 'a page a minute: thirty in half an hour');
SELECT is(split_part(pg_temp.say('cost'), '; ', 2), 'USD 17 low', 'and they are one report');
SELECT tokenbill.drop_provider('cost'), pg_temp.clock('22:30:00') \g /dev/null

-- Wallets that come and go
SELECT tokenbill.add_preset('t_wallets', 'https://w.example.com', 'CNY'), tokenbill.add_preset_request('t_wallets', '/', '$.left', rows => '$.wallets[*]', currency => '$.unit', headers => '{}', unlimited => '$.limit == null && exists($.limit)') \g /dev/null
SELECT tokenbill.add_provider('w', 't_wallets', check_every => '1 min') \g /dev/null
SELECT pg_temp.clock('22:30:10'), pg_temp.asked('w', 401) \g /dev/null
SELECT is(pg_temp.say('w'), 'CNY unknown HTTP 401', 'nothing is known but the failure');
SELECT pg_temp.clock('22:32:00'), pg_temp.asked('w', 200, '{"wallets": [{"left": 3, "unit": "usd"}, {"left": 50, "unit": "eur"}]}') \g /dev/null
SELECT is(pg_temp.say('w'), 'EUR 50 ok; USD 3 ok', 'the currencies are those of the answer, and the failure was of none of its own');
SELECT is((SELECT string_agg(currency || coalesce(error, ''), ' ' ORDER BY currency, checked_at) FROM tokenbill.provider_history WHERE provider = 'w'), 'EURHTTP 401 EUR USD', 'which stays in the history');
SELECT pg_temp.clock('22:34:00'), pg_temp.asked('w', 200, '{"wallets": [{"left": 2, "unit": "usd"}]}') \g /dev/null
SELECT is(pg_temp.say('w'), 'EUR 50 stale the answer has this currency no more; USD 2 ok', 'a wallet that is gone is stale, not zero');
SELECT pg_temp.clock('22:36:00'), pg_temp.asked('w', 200, '{"wallets": []}') \g /dev/null
SELECT is(pg_temp.say('w'), 'EUR 50 stale there is nothing at $.wallets[*]; USD 2 stale there is nothing at $.wallets[*]', 'none at all is a failure');
SELECT pg_temp.clock('22:38:00'), pg_temp.asked('w', 200, '{"wallets": [{"left": 1, "unit": "usd"}, {"left": 49, "unit": "eur"}]}') \g /dev/null
SELECT is(pg_temp.say('w'), 'EUR 49 ok; USD 1 ok', 'both are back');
SELECT pg_temp.clock('22:38:05') \g /dev/null
SELECT is(pg_temp.pick(d, 'currency', 'balance'), '{"currency": "EUR", "balance": 49}', 'one that was closed can be dropped') FROM tokenbill.drop_provider_balance('w', 'EUR') d;
SELECT is(pg_temp.say('w'), 'USD 1 ok', 'it is gone');
SELECT is_empty($$SELECT FROM tokenbill.provider_history WHERE provider = 'w' AND currency = 'EUR'$$, 'with its history');
SELECT pg_temp.refused(statement, sqlstate, detail, description) FROM (VALUES
	($$SELECT tokenbill.drop_provider_balance('w', 'EUR')$$, 'PT404', '{"provider": "w", "currency": "EUR"}'::jsonb, 'only once'),
	($$SELECT tokenbill.drop_provider_balance('nobody', 'EUR')$$, 'PT404', '{"provider": "nobody"}', 'nor of a provider that is not there'),
	($$SELECT tokenbill.drop_provider_balance('w', 'eur')$$, '22023', '{"argument": "currency"}', 'nor what is no currency')) v(statement, sqlstate, detail, description);
SELECT pg_temp.clock('22:38:06'), tokenbill.check_provider_now('w'), pg_temp.asked('w', 200, '{"wallets": [{"left": 1, "unit": "usd"}, {"left": 48, "unit": "eur"}]}') \g /dev/null
SELECT is(pg_temp.say('w'), 'EUR 48 ok; USD 1 ok', 'told again it is back');
SELECT tokenbill.drop_provider_balance('w', 'EUR') \g /dev/null
SELECT pg_temp.clock('22:38:07'), tokenbill.check_provider_now('w'), pg_temp.asked('w', 200, '{"wallets": [{"left": 1, "unit": "usd"}]}') \g /dev/null
SELECT is(pg_temp.say('w'), 'USD 1 ok', 'and not missed, if it is not');
SELECT pg_temp.clock('22:38:00') \g /dev/null
SELECT tokenbill.add_provider('free', 't_wallets', currency => 'USD', low_balance => 5, check_every => '1 min') \g /dev/null
SELECT pg_temp.clock('22:38:10'), pg_temp.asked('free', 200, '{"limit": null}') \g /dev/null
SELECT is(pg_temp.say('free'), 'USD unlimited', 'no limit');
SELECT is_empty($$SELECT name FROM tokenbill.metrics WHERE labels ->> 'provider' = 'free' AND name IN ('tokenbill_provider_balance', 'tokenbill_provider_empty_in_seconds')$$, 'is no gauge of a balance');
SELECT pg_temp.clock('22:40:00'), pg_temp.asked('free', 200, '{"wallets": [{"left": 7, "unit": "usd"}]}'), pg_temp.clock('22:41:00'), pg_temp.asked('free', 500), pg_temp.clock('22:42:00'), pg_temp.asked('free', 401) \g /dev/null
SELECT is(pg_temp.say('free'), 'USD 7 stale HTTP 401', 'then it has one');
SELECT pg_temp.clock('22:44:00'), pg_temp.asked('free', 200, '{"limit": null}'), pg_temp.clock('22:46:00'), pg_temp.asked('free', 401) \g /dev/null
SELECT is(pg_temp.say('free'), 'USD stale HTTP 401', 'without a limit again, it can be stale, too');
SELECT is((SELECT string_agg(coalesce(balance::text, error, 'unlimited'), ' ' ORDER BY checked_at) FROM tokenbill.provider_history WHERE provider = 'free'), 'unlimited 7 HTTP 401 unlimited HTTP 401', 'the history tells them apart');
SELECT is(tokenbill.expire_provider_history(), 0::bigint, 'and keeps them') ;

-- Two reports in one moment
SELECT tokenbill.record_provider_balance('w', 99, 'USD') \g /dev/null
SELECT pg_temp.clock('22:46:00'), pg_temp.asked('w', 200, '{"wallets": [{"left": 1, "unit": "usd"}, {"left": 48, "unit": "eur"}]}') \g /dev/null
SELECT is(pg_temp.say('w'), 'EUR 48 ok; USD 1 ok', 'the worker''s is a moment younger');

-- Broken rows harm nobody else
SELECT tokenbill.add_provider('a broken', 't_two', params => '{"org": "o"}', check_every => '1 min'), tokenbill.add_provider('b broken', 't_one', check_every => '1 min'), tokenbill.add_provider('c broken', 't_one', check_every => '1 min'), tokenbill.add_provider('d good', 't_one', check_every => '1 min') \g /dev/null
SELECT tokenbill.add_provider('e broken', 't_one', check_every => '1 min'), tokenbill.add_provider('f broken', 't_one', check_every => '1 min') \g /dev/null
SELECT is((pg_temp.error_of(format('UPDATE tokenbill.provider SET %s WHERE provider = ''e broken''', change))).sqlstate, '23514', 'not even by hand: ' || change)
FROM (VALUES ('check_every = ''0'''), ('check_every = ''400 days'''), ('keep_history = ''-1 day'''), ('calls_per_minute = 0'), ('opening_at = now()')) v(change);
ALTER TABLE tokenbill.provider DROP CONSTRAINT provider_check_every_check, DROP CONSTRAINT provider_keep_history_check;
UPDATE tokenbill.provider SET check_every = '0', preset = 'gone' WHERE provider = 'e broken';
UPDATE tokenbill.provider SET keep_history = '-10000000 years', preset = 'gone' WHERE provider = 'f broken';
UPDATE tokenbill.provider_check SET due_at = 'infinity' WHERE provider = 'f broken';
UPDATE tokenbill.provider SET params = '{}' WHERE provider = 'a broken';
UPDATE tokenbill.provider SET preset = 'gone' WHERE provider = 'b broken';
UPDATE tokenbill.provider SET preset = 'spare' WHERE provider = 'c broken';
SELECT tokenbill.add_preset('spare') \g /dev/null
SELECT pg_temp.clock('22:47:30') \g /dev/null
SELECT matches(pg_temp.claimed(), 'd good', 'the others are asked');
SELECT is((SELECT string_agg(target || ': ' || message, ', ' ORDER BY target, message) FROM tokenbill.worker_errors WHERE duty = 'check'), 'a broken: there is nothing for {org}, b broken: preset "gone" does not exist, c broken: preset spare has no request, e broken: preset "gone" does not exist, f broken: preset "gone" does not exist, f broken: timestamp out of range', 'worker_errors says what is wrong');
SELECT is(pg_temp.say(provider), wanted, provider || ': its balance says so, too') FROM (VALUES ('a broken', 'USD unknown it cannot be asked: there is nothing for {org}'), ('b broken', 'USD unknown it cannot be asked: preset "gone" does not exist'), ('c broken', 'USD unknown it cannot be asked: preset spare has no request'), ('e broken', 'USD unknown it cannot be asked: preset "gone" does not exist')) v(provider, wanted);
SELECT is_empty($$SELECT provider FROM tokenbill.provider_check WHERE provider LIKE '% broken' AND next_at <= tokenbill.clock()$$, 'and they are put off');
SELECT is(string_agg(provider || to_char(next_at, ' HH24:MI:SS'), ', ' ORDER BY provider), 'e broken ' || to_char(tokenbill.clock() + interval '5 minutes', 'HH24:MI:SS') || ', f broken ' || to_char(tokenbill.clock() + interval '5 minutes', 'HH24:MI:SS'),
	'also those whose rows nothing can be worked out of') FROM tokenbill.provider_check WHERE provider IN ('e broken', 'f broken');
UPDATE tokenbill.provider SET keep_history = '1 day' WHERE provider = 'f broken';
SELECT tokenbill.drop_provider(provider) FROM tokenbill.provider WHERE provider LIKE '% broken' \g /dev/null
DELETE FROM tokenbill.preset_request WHERE preset = 't_one';
SELECT pg_temp.answer('d good', 200, '{"balance": 5}') \g /dev/null
SELECT matches(pg_temp.say('d good'), '^USD unknown the answer cannot be read', 'the preset is gone while a request is under way');
SELECT tokenbill.add_preset_request('t_one', '/balance', '$.balance', headers => '{}') \g /dev/null
UPDATE tokenbill.provider_check SET latency = '{}', next_at = '2026-03-05 22:40:00+00' WHERE provider = 'd good';
SELECT pg_temp.clock('22:49:00'), pg_temp.asked('d good', 200, '{"balance": 5}') \g /dev/null
SELECT is(pg_temp.say('d good'), 'USD 5 ok', 'it recovers');

-- From our own ledger
SELECT tokenbill.drop_provider(provider) FROM tokenbill.provider \g /dev/null
SELECT pg_temp.clock('2026-03-05 23:00:00') \g /dev/null
SELECT tokenbill.create_account('buyer', credit_limit => 1000), tokenbill.create_account('euro', 'EUR', credit_limit => 1000), tokenbill.create_account('toy', credit_limit => 1000, sandbox => true),
	tokenbill.set_price('fast-1', 'tokens', 0.02), tokenbill.set_cost('fast-1', 'tokens', 0.01), tokenbill.set_price('other', 'tokens', 0.02), tokenbill.set_cost('other', 'tokens', 0.01), tokenbill.set_price('free-1', 'tokens', 0.6) \g /dev/null
SELECT tokenbill.charge('buyer', 'fast-1', '{"tokens": 100}', 'before') \g /dev/null
SELECT pg_temp.clock('2026-03-05 23:01:00') \g /dev/null
SELECT pg_temp.pick(p, 'opening_at', 'opening_balance') AS opening FROM tokenbill.add_provider('own', 'ledger', opening_balance => 50, params => '{"services": ["fast-*", "free-1"]}', check_every => '1 hour') p \gset
SELECT is(:'opening'::jsonb, '{"opening_at": "2026-03-05T23:01:00+00:00", "opening_balance": 50}', 'an opening balance is of now');
SELECT tokenbill.charge(account, service, '{"tokens": 100}', 'c1-' || service) FROM (VALUES ('buyer', 'fast-1'), ('buyer', 'other'), ('euro', 'fast-1'), ('toy', 'fast-1')) v(account, service) \g /dev/null
SELECT pg_temp.clock('2026-03-05 23:01:10') \g /dev/null
SELECT is(pg_temp.claimed(), '-', 'it needs no request');
SELECT is(pg_temp.say('own') || ' ' || source, 'USD 49 ok ledger', 'less what its services have cost since: not before, not others, not other currencies, not sandboxes') FROM tokenbill.provider_balances WHERE provider = 'own';
SELECT pg_temp.clock('2026-04-20 12:30:00'), tokenbill.charge('buyer', 'fast-1', '{"tokens": 300}', 'c2'), pg_temp.clock('2026-05-20 12:30:00'), tokenbill.charge('buyer', 'fast-1', '{"tokens": 500}', 'c3') \g /dev/null
SELECT pg_temp.clock('2026-05-20 15:20:00') \g /dev/null
SELECT is((SELECT string_agg(pg_temp.claimed() || to_char((pg_temp.check_of('own')).summed_until, ' MM-DD HH24'), ', ') FROM generate_series(1, 3)), '- 04-01 00, - 05-01 00, - 05-20 14', 'the past is summed a month a time, once');
SELECT is(pg_temp.say('own'), 'USD 41 ok', 'then comes the balance');
SELECT is(summed_cost, 9.00, 'and the sum stays') FROM pg_temp.check_of('own');
SELECT pg_temp.clock('2026-05-20 15:30:00'), tokenbill.charge('buyer', 'free-1', '{"tokens": 1}', 'c4') \g /dev/null
SELECT pg_temp.clock('2026-05-20 16:31:00') \g /dev/null
SELECT is(pg_temp.claimed() || ' ' || pg_temp.say('own'), '- USD 41 stale 1 ledger lines of its services have no cost', 'a line without a cost: it is not as if it had cost nothing');
SELECT pg_temp.clock('2026-05-20 20:00:00') \g /dev/null
SELECT is(pg_temp.claimed() || ' ' || pg_temp.say('own'), '- USD 41 stale 1 ledger lines of its services have no cost', 'nor later');
SELECT tokenbill.set_cost('free-1', 'tokens', 0.5, valid_from => '2026-05-01'), tokenbill.reprice('buyer', 'free-1', '2026-05-01', '2026-06-01', false), tokenbill.check_provider_now('own') \g /dev/null
SELECT is(pg_temp.claimed() || ' ' || pg_temp.say('own'), '- USD 40.5 ok', 'until somebody tells it');

-- It reads what is new, not the month
SELECT pg_temp.clock('2026-06-20 12:10:00'), tokenbill.charge('buyer', 'fast-1', '{"tokens": 100}', 'june') \g /dev/null
SELECT is(indexdef, 'CREATE INDEX ledger_2026_06_created_at_idx ON tokenbill.ledger_2026_06 USING brin (created_at) WITH (autosummarize=''on'')', 'a month that is made while there is such a provider has an index by time')
FROM pg_indexes WHERE schemaname = 'tokenbill' AND tablename = 'ledger_2026_06' AND indexname LIKE '%created_at%';
SELECT is_empty($$SELECT FROM pg_indexes WHERE schemaname = 'tokenbill' AND tablename = 'ledger_2026_03' AND indexname LIKE '%created_at%' AND tokenbill.index_ledger_month('ledger_2026_01')$$, 'one that is not there gets none');
INSERT INTO tokenbill.ledger_2026_06 (account, seq, created_at, kind, amount, balance, held, credit_limit, contra, service, idempotency_key, hash, cost)
SELECT 'filler', i, '2026-06-01 00:00+00'::timestamptz + i * interval '25 seconds', 'charge', -1, -i, 0, 0, 'revenue', 'unlike', i, '\x', 1 FROM generate_series(1, 60000) i;
SELECT brin_summarize_new_values('tokenbill.ledger_2026_06_created_at_idx') \g /dev/null
ANALYZE tokenbill.ledger_2026_06;
SELECT pg_temp.clock('2026-06-20 12:20:00'), tokenbill.check_provider_now('own'), pg_temp.claimed(), pg_temp.claimed(), pg_temp.claimed() \g /dev/null
SELECT is(pg_temp.say('own'), 'USD 39.5 ok', 'the past is known');
SELECT pg_stat_get_xact_numscans('tokenbill.ledger_2026_06'::regclass) AS scans, pg_stat_get_xact_tuples_fetched('tokenbill.ledger_2026_06'::regclass) AS fetched \gset
SELECT pg_temp.clock('2026-06-20 13:05:00'), tokenbill.charge('buyer', 'fast-1', '{"tokens": 100}', 'later') \g /dev/null
SELECT pg_temp.clock('2026-06-20 13:06:00'), tokenbill.check_provider_now('own'), pg_temp.claimed() \g /dev/null
SELECT is(pg_temp.say('own'), 'USD 38.5 ok', 'what is new is seen');
SELECT is(pg_stat_get_xact_numscans('tokenbill.ledger_2026_06'::regclass) - :scans, 0::bigint, 'without a scan of the month');
SELECT cmp_ok(pg_stat_get_xact_tuples_fetched('tokenbill.ledger_2026_06'::regclass) - :fetched, '<', 60000::bigint, 'but of a part of it, twice: the hour that is over, and what follows');
DROP INDEX tokenbill.ledger_2026_06_created_at_idx;
SELECT is(tokenbill.index_ledger_month('ledger_2026_06'), true, 'an index that is missing');
SELECT has_index('tokenbill', 'ledger_2026_06', 'ledger_2026_06_created_at_idx', 'is made');

SELECT * FROM finish();
ROLLBACK;
