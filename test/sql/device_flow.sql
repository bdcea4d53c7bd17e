-- Device flow: its states, and what each kind of answer does
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(78);
SET LOCAL tokenbill.clock = '2026-03-05 12:00:00+00';

CREATE FUNCTION pg_temp.clock(at text) RETURNS void LANGUAGE sql AS $$ SELECT set_config('tokenbill.clock', '2026-03-05 ' || at || '+00', true) $$;
-- What the worker makes of tokens: ciphertext, here of nothing
CREATE FUNCTION pg_temp.sealed(VARIADIC names text[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_object_agg(n, '{"version": "1", "layout": "1", "key_id": "k", "key_nonce": "00", "wrapped_key": "00", "value_nonce": "00", "ciphertext": "00"}'::jsonb) FROM unnest(names) n
$$;
CREATE FUNCTION pg_temp.last(provider text) RETURNS tokenbill.device_grant LANGUAGE sql AS $$ SELECT g.* FROM tokenbill.device_grant g WHERE g.provider = last.provider ORDER BY id DESC LIMIT 1 $$;
CREATE FUNCTION pg_temp.claimed() RETURNS text LANGUAGE sql AS $$ SELECT coalesce(string_agg(concat_ws(' ', c.target, c.url, c.body), '; ' ORDER BY c.target), '-') FROM tokenbill.claim_devices(10) c $$;
-- An answer to what is under way; what became of it
CREATE FUNCTION pg_temp.answer(provider text, status int, body text DEFAULT '{}', secrets jsonb DEFAULT NULL, headers jsonb DEFAULT '{}', error_kind text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tokenbill.record_device(provider, (pg_temp.last(provider)).lease, status, headers, convert_to(body, 'UTF8'), error_kind || ' failed', error_kind, secrets);
	RETURN pg_temp.say(provider);
END $$;
CREATE FUNCTION pg_temp.say(provider text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', g.state, g.user_code, 'every ' || extract(epoch FROM g.poll_every)::int, 'next in ' || extract(epoch FROM g.next_at - tokenbill.clock())::int, g.error) FROM pg_temp.last(say.provider) g
$$;
-- Goes to where it is due, asks, and is answered
CREATE FUNCTION pg_temp.asked(provider text, status int, body text DEFAULT '{}', secrets jsonb DEFAULT NULL, headers jsonb DEFAULT '{}', error_kind text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('tokenbill.clock', (pg_temp.last(provider)).next_at::text, true);
	IF pg_temp.claimed() = '-' THEN
		RETURN 'nothing was due';
	END IF;
	RETURN pg_temp.answer(provider, status, body, secrets, headers, error_kind);
END $$;
-- A login with a code, from which on nobody has been asked
CREATE FUNCTION pg_temp.login(provider text, answer jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tokenbill.oauth_device_begin(provider, restart => true);
	PERFORM pg_temp.claimed();
	RETURN pg_temp.answer(provider, 200, ('{"user_code": "WDJB-MJHT", "verification_uri": "https://example.com/device", "expires_in": 1800}'::jsonb || answer)::text, pg_temp.sealed('device_code'));
END $$;
INSERT INTO tokenbill.secret VALUES ('client secret', 1, 1, 'k', '\x00', '\x00', '\x00', '\x00', now(), now());
SELECT count(tokenbill.set_oauth_client(p, 'device_code', token_url => 'https://auth.example.com/token', device_url => 'https://auth.example.com/device?v=1', client_id => 'our id', scope => 'a b&c', params => '{"audience": "x/y"}')) FROM unnest(ARRAY['one', 'two']) p \g /dev/null

-- Beginning
SELECT pg_temp.refused($$SELECT tokenbill.oauth_device_begin('nobody')$$, 'PT404', '{"provider": "nobody"}', 'no OAuth client');
SELECT pg_temp.refused($$SELECT tokenbill.oauth_device_begin(NULL)$$, '22004', '{"argument": "provider"}', 'no name');
SELECT pg_temp.refused($$SELECT tokenbill.oauth_device_begin('one', NULL)$$, '22004', '{"argument": "restart"}', 'neither yes nor no');
SELECT is(pg_temp.pick(g, 'provider', 'state', 'user_code', 'polls', 'error'), '{"provider": "one", "state": "pending", "user_code": null, "polls": 0, "error": null}', 'begun') FROM tokenbill.oauth_device_begin('one') g;
SELECT is((SELECT g.id FROM tokenbill.oauth_device_begin('one') g), id, 'once: asked again it is the same') FROM pg_temp.last('one');
SELECT is(tokenbill.next_device_due(), tokenbill.clock(), 'due at once');
SELECT is(pg_temp.claimed(), 'one https://auth.example.com/device?v=1 audience=x%2Fy&client_id=our%20id&scope=a%20b%26c', 'the request, a form');
SELECT is(pg_temp.claimed(), '-', 'once');
SELECT is(lease_until, tokenbill.next_device_due(), 'the worker sleeps until the claim ends') FROM pg_temp.last('one');
SELECT is(pg_temp.answer('one', 200, '{"user_code": "CQVM-NRSZ", "verification_uri": "https://example.com/device", "verification_uri_complete": "https://example.com/device?user_code=CQVM-NRSZ", "expires_in": 4}', pg_temp.sealed('device_code')),
	'pending CQVM-NRSZ every 5 next in 5', 'no interval: five seconds');
SELECT is(pg_temp.pick(g, 'verification_uri', 'verification_uri_complete', 'expires_at'), '{"verification_uri": "https://example.com/device", "verification_uri_complete": "https://example.com/device?user_code=CQVM-NRSZ", "expires_at": "2026-03-05T12:00:04+00:00"}', 'what somebody needs') FROM pg_temp.last('one') g;
SELECT is(name, 'oauth_device:one', 'the device code is a secret') FROM tokenbill.secrets WHERE name LIKE 'oauth%';
SELECT is(tokenbill.next_device_due(), tokenbill.clock() + interval '4 s', 'it expires before it is asked about');
SELECT pg_temp.clock('12:00:04'), pg_temp.claimed() \g /dev/null
SELECT is(pg_temp.say('one'), 'expired CQVM-NRSZ every 5 nobody allowed it in time', 'expired, and nobody was asked');
SELECT is(pg_temp.pick(g, 'polls', 'next_at', 'lease'), '{"polls": 0, "next_at": null, "lease": null}', 'for good') FROM pg_temp.last('one') g;
SELECT is_empty($$SELECT name FROM tokenbill.secrets WHERE name LIKE 'oauth%'$$, 'the device code is forgotten');

-- Polling
SELECT is(pg_temp.login('one', '{"interval": 7}'), 'pending WDJB-MJHT every 7 next in 7', 'an interval of the server''s');
SELECT is(pg_temp.asked('one', 400, '{"error": "authorization_pending", "error_description": "x"}'), 'pending WDJB-MJHT every 7 next in 7', 'pending');
SELECT is(pg_temp.asked('one', 400, '{"error": "slow_down"}'), 'pending WDJB-MJHT every 12 next in 12', 'slow_down: five seconds more');
SELECT is(pg_temp.asked('one', 400, '{"error": "authorization_pending"}'), 'pending WDJB-MJHT every 12 next in 12', 'for good');
SELECT is(pg_temp.asked('one', 400, '{"error": "slow_down"}'), 'pending WDJB-MJHT every 17 next in 17', 'and again');
SELECT is(pg_temp.asked('one', 200, '{"error": "slow_down", "interval": 40}'), 'pending WDJB-MJHT every 40 next in 40', 'or as long as the answer says; an error counts with 200, too');
SELECT is(pg_temp.asked('one', 200, '{"error": "slow_down", "interval": 2}'), 'pending WDJB-MJHT every 45 next in 45', 'but not less');
SELECT is(pg_temp.asked('one', NULL, error_kind => 'timeout'), 'pending WDJB-MJHT every 45 next in 90 timeout failed', 'a time-out: twice as long');
SELECT is(pg_temp.asked('one', NULL, error_kind => 'timeout'), 'pending WDJB-MJHT every 45 next in 180 timeout failed', 'and again');
SELECT is(pg_temp.asked('one', 500, '{"_problem": "the answer is not JSON"}'), 'pending WDJB-MJHT every 45 next in 300 HTTP 500: the answer is not JSON', 'a page of HTML; at most five minutes');
SELECT is(pg_temp.asked('one', 400, '{"error": "authorization_pending"}'), 'pending WDJB-MJHT every 45 next in 45', 'then as before');
SELECT is(pg_temp.asked('one', 429, '{}', headers => '{"retry-after": "600"}'), 'pending WDJB-MJHT every 45 next in 600 HTTP 429', 'a wait that is asked for');
SELECT pg_temp.login('one') \g /dev/null
SELECT is(pg_temp.asked('one', 503, '{"error": "temporarily_unavailable"}', headers => '{"retry-after": "86400"}'), 'pending WDJB-MJHT every 5 next in 3600 HTTP 503 temporarily_unavailable', 'not for longer than an hour');
SELECT is(pg_temp.pick(g, 'polls', 'failures', 'status'), '{"polls": 1, "failures": 1, "status": 503}', 'counted') FROM pg_temp.last('one') g;
SELECT pg_temp.claimed() \g /dev/null
SELECT is(next_device_due, expires_at, 'it is looked at when it expires') FROM tokenbill.next_device_due(), pg_temp.last('one');
SELECT pg_temp.login('one') \g /dev/null
SELECT is(pg_temp.asked('one', 400, '{"error": "expired_token", "error_description": "device code is expired"}'), 'expired WDJB-MJHT every 5 HTTP 400 expired_token: device code is expired', 'expired_token');
SELECT pg_temp.login('one') \g /dev/null
SELECT is(pg_temp.asked('one', 400, '{"error": "access_denied", "error_description": "End-User aborted interaction"}'), 'denied WDJB-MJHT every 5 HTTP 400 access_denied: End-User aborted interaction', 'access_denied');
SELECT is_empty('SELECT message FROM tokenbill.worker_errors', 'which is nothing for worker_errors');
SELECT pg_temp.login('one') \g /dev/null
SELECT is(pg_temp.asked('one', 400, '{"error": "invalid_grant"}'), 'expired WDJB-MJHT every 5 HTTP 400 invalid_grant', 'a device code that is not good');
SELECT pg_temp.login('one') \g /dev/null
SELECT is(pg_temp.asked('one', 401, '{"error": "invalid_client", "error_description": "client authentication failed"}'), 'denied WDJB-MJHT every 5 HTTP 401 invalid_client: client authentication failed', 'we may not');
SELECT is(jsonb_agg(pg_temp.pick(e, 'message', 'target', 'sqlstate', 'count') ORDER BY e.message), '[{"message": "provider \"one\" refuses the login: HTTP 400 invalid_grant", "target": "one", "sqlstate": "28000", "count": 1},
	{"message": "provider \"one\" refuses the login: HTTP 401 invalid_client: client authentication failed", "target": "one", "sqlstate": "28000", "count": 1}]', 'both are') FROM tokenbill.worker_errors e;
SELECT pg_temp.login('one') \g /dev/null
SELECT is(pg_temp.asked('one', 400, '{"error": "authorization_pending", "error_description": "key sk-abcdefghijklmnopqrstuvwx0123456789 and 4242 4242 4242 4242"}'), 'pending WDJB-MJHT every 5 next in 5', 'descriptions are for people');
SELECT is(pg_temp.asked('one', 403, '{"error": "odd", "error_description": "key sk-abcdefghijklmnopqrstuvwx0123456789 and 4242 4242 4242 4242"}'), 'denied WDJB-MJHT every 5 HTTP 403 odd: key *** and ***', 'and what may be a key is not kept');
SELECT pg_temp.login('one') \g /dev/null
SELECT is(pg_temp.asked('one', 400, '{"error": "Not A Code!"}'), 'pending WDJB-MJHT every 5 next in 10 HTTP 400', 'what is no code decides nothing');
SELECT is(pg_temp.asked('one', 200, '{}'), 'pending WDJB-MJHT every 5 next in 20 the answer has no access_token', 'nor does a good answer without a token');
SELECT is(pg_temp.asked('one', 200, '{"token_type": "mac"}', pg_temp.sealed('access_token')), 'pending WDJB-MJHT every 5 next in 40 the token is of type mac, not Bearer', 'nor one with another kind of token');

-- What the worker must not do

SELECT tokenbill.record_device('one', -1, 200, '{}', '{}', NULL, NULL, pg_temp.sealed('access_token')) \g /dev/null
SELECT is(pg_temp.say('one'), 'pending WDJB-MJHT every 5 next in 40 the token is of type mac, not Bearer', 'an answer under another lease is ignored');

-- Answers without what is needed
SELECT tokenbill.oauth_device_begin('two') \g /dev/null
SELECT pg_temp.claimed() \g /dev/null
SELECT is(pg_temp.answer('two', 200, '{"user_code": "A", "verification_uri": "https://example.com/"}'), 'pending every 5 next in 10 the answer has no device_code', 'no device code');
SELECT is(pg_temp.asked('two', 200, '{"user_code": "A\nB", "verification_uri": "https://example.com/"}', pg_temp.sealed('device_code')), 'pending every 5 next in 20 the answer has no user_code', 'a user code with a line end');
SELECT is(pg_temp.asked('two', 200, '{"user_code": "A", "verification_uri": "javascript:alert(1)"}', pg_temp.sealed('device_code')), 'pending every 5 next in 40 the answer has no verification_uri', 'an address that is none');
SELECT is(pg_temp.asked('two', 404, '{}'), 'pending every 5 next in 80 HTTP 404', 'a wrong address');
SELECT is(pg_temp.asked('two', 200, '{"user_code": "A", "verification_url": "https://example.com/", "verification_uri_complete": "javascript:alert(1)", "interval": "9", "expires_in": 1e99}', pg_temp.sealed('device_code')), 'pending A every 9 next in 9', 'another spelling, a number as text');
SELECT is(pg_temp.pick(g, 'verification_uri', 'verification_uri_complete', 'failures'), '{"verification_uri": "https://example.com/", "verification_uri_complete": null, "failures": 0}', 'the address that is none is left out') FROM pg_temp.last('two') g;
SELECT is(expires_at - claimed_at, interval '15 minutes', 'a time that is none is a quarter of an hour') FROM pg_temp.last('two');
SELECT tokenbill.oauth_device_begin('two', restart => true) \g /dev/null
SELECT is(pg_temp.pick(g, 'state', 'error'), '{"state": "expired", "error": "another one was begun"}', 'restart: the one before is given up') FROM tokenbill.device_grant g WHERE provider = 'two' ORDER BY id LIMIT 1;
SELECT pg_temp.claimed() \g /dev/null
SELECT is(pg_temp.answer('two', 400, '{"error": "unauthorized_client"}'), 'denied every 5 HTTP 400 unauthorized_client', 'a client that may not even begin');
SELECT pg_temp.login('two', '{"interval": 0.9}') \g /dev/null
SELECT is(poll_every, interval '5 seconds', 'an interval that is none') FROM pg_temp.last('two');
SELECT tokenbill.end_device_grant(id, 'expired', 'x') FROM pg_temp.last('two') \g /dev/null

-- Authorized
SELECT pg_temp.login('two', '{"interval": 5}') \g /dev/null
SELECT set_config('tokenbill.clock', next_at::text, true) FROM pg_temp.last('two') \g /dev/null
SELECT is(pg_temp.claimed(), 'two https://auth.example.com/token audience=x%2Fy&client_id=our%20id&device_code={device_code}&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code', 'the question, with a place for the secret');
SELECT is(pg_temp.answer('two', 200, '{"token_type": "bearer", "expires_in": 3600, "scope": "a"}', pg_temp.sealed('access_token', 'refresh_token')), 'authorized WDJB-MJHT every 5', 'authorized');
SELECT set_eq($$SELECT name FROM tokenbill.secrets WHERE name LIKE '%:two'$$, ARRAY['oauth:two', 'oauth_refresh:two'], 'tokens are stored, the device code is forgotten');
SELECT is(pg_temp.pick(t, 'status', 'scope', 'refreshable', 'renewals', 'http_status'), '{"status": "valid", "scope": "a", "refreshable": true, "renewals": 1, "http_status": 200}', 'there is a token') FROM tokenbill.access_tokens t WHERE provider = 'two';
SELECT is(pg_temp.claimed(), '-', 'nothing is asked any more');
SELECT pg_temp.login('two') \g /dev/null
SELECT is(pg_temp.asked('two', 200, '{"token_type": "Bearer"}', pg_temp.sealed('access_token')), 'authorized WDJB-MJHT every 5', 'another is authorized');
SELECT results_eq($$SELECT state, error FROM tokenbill.device_grant WHERE provider = 'two' AND authorized_at IS NOT NULL ORDER BY id$$, $$VALUES ('expired', 'another one was authorized'), ('authorized', NULL)$$, 'and takes the place of the first');
SELECT is(pg_temp.pick(t, 'refreshable', 'expires_at', 'next_at', 'renewals'), '{"refreshable": false, "expires_at": null, "next_at": null, "renewals": 2}', 'without a refresh token, without an end') FROM tokenbill.access_tokens t WHERE provider = 'two';
SELECT is_empty($$SELECT name FROM tokenbill.secrets WHERE name = 'oauth_refresh:two'$$, 'the refresh token of the first is not kept for the second');

-- The states, whoever moves them

SELECT tokenbill.oauth_device_begin('two') \g /dev/null
SELECT max(id) FILTER (WHERE state = 'denied') AS denied, max(id) FILTER (WHERE state = 'expired') AS expired, max(id) FILTER (WHERE state = 'authorized') AS authorized, max(id) FILTER (WHERE state = 'pending') AS pending FROM tokenbill.device_grant \gset
SELECT pg_temp.refused(format($$UPDATE tokenbill.device_grant SET state = %L, next_at = CASE WHEN %2$L = 'pending' THEN now() END WHERE id = %3$s$$, next, next, CASE was WHEN 'denied' THEN :denied WHEN 'expired' THEN :expired ELSE :authorized END),
	'PT409', jsonb_build_object('table', 'device_grant', 'was', was, 'now', next), was || ' does not become ' || next)
FROM (VALUES ('denied', 'pending'), ('denied', 'authorized'), ('denied', 'expired'), ('expired', 'pending'), ('expired', 'authorized'), ('expired', 'denied'), ('authorized', 'pending'), ('authorized', 'denied')) m (was, next);
SELECT throws_ok(format($$UPDATE tokenbill.device_grant SET state = 'gone', next_at = NULL WHERE id = %s$$, :pending), 'PT409', NULL, 'there is no other state');
SELECT throws_ok(format($$INSERT INTO tokenbill.device_grant (provider, expires_at, next_at, created_at, updated_at) VALUES ('two', now(), now(), now(), now())$$), '23505', NULL, 'nor two that are pending');

-- Its end
SELECT pg_temp.login('two'), tokenbill.end_authorization('two', 'revoked') \g /dev/null
SELECT results_eq($$SELECT state, error FROM tokenbill.device_grant WHERE provider = 'two' ORDER BY id DESC LIMIT 2$$, $$VALUES ('pending', NULL), ('expired', 'another one was begun')$$, 'an authorization ends while another login is pending');
SELECT set_eq($$SELECT name FROM tokenbill.secrets WHERE name LIKE '%:two'$$, ARRAY['oauth_device:two'], 'which keeps its device code');
SELECT is(pg_temp.pick(c, 'provider', 'grant_type'), '{"provider": "two", "grant_type": "device_code"}', 'the client is dropped') FROM tokenbill.drop_oauth_client('two') c;
SELECT is_empty($$SELECT FROM tokenbill.device_grant WHERE provider = 'two' UNION ALL SELECT FROM tokenbill.access_token WHERE provider = 'two' UNION ALL SELECT FROM tokenbill.secret WHERE name LIKE '%:two'$$, 'with all that it had');
SELECT pg_temp.refused($$SELECT tokenbill.drop_oauth_client('two')$$, 'PT404', '{"provider": "two"}', 'and is not there to be dropped again');
SELECT pg_temp.claimed() \g /dev/null

SELECT tokenbill.release_devices(true) \g /dev/null
SELECT is((SELECT count(*) FROM tokenbill.device_grant WHERE lease IS NOT NULL), 0::bigint, 'a worker that begins frees what was claimed');
SELECT * FROM finish();
ROLLBACK;
