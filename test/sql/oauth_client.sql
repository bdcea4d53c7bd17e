-- OAuth clients and their tokens: what can be set, when each is renewed, what answers do, who is told
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(117);
SET LOCAL tokenbill.clock = '2026-03-05 12:00:00+00';

CREATE FUNCTION pg_temp.clock(at text) RETURNS void LANGUAGE sql AS $$ SELECT set_config('tokenbill.clock', (CASE WHEN at LIKE '%-%' THEN at ELSE '2026-03-05 ' || at END) || '+00', true) $$;
CREATE FUNCTION pg_temp.sealed(VARIADIC names text[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_object_agg(n, '{"version": "1", "layout": "1", "key_id": "k", "key_nonce": "00", "wrapped_key": "00", "value_nonce": "00", "ciphertext": "00"}'::jsonb) FROM unnest(names) n
$$;
CREATE FUNCTION pg_temp.token(provider text) RETURNS tokenbill.access_token LANGUAGE sql AS $$ SELECT t.* FROM tokenbill.access_token t WHERE t.provider = token.provider $$;
CREATE FUNCTION pg_temp.claimed() RETURNS text LANGUAGE sql AS $$ SELECT coalesce(string_agg(c.target, ' ' ORDER BY c.target), '-') FROM tokenbill.claim_tokens(100) c $$;
CREATE FUNCTION pg_temp.say(provider text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', 'for ' || extract(epoch FROM t.expires_at - tokenbill.clock())::int, 'next in ' || extract(epoch FROM t.next_at - tokenbill.clock())::int, CASE WHEN t.refreshable THEN 'refreshable' END, t.error) FROM pg_temp.token(say.provider) t
$$;
-- What a wait is, whatever chance has added to it
CREATE FUNCTION pg_temp.wait(provider text, seconds int) RETURNS boolean LANGUAGE sql AS $$ SELECT extract(epoch FROM t.next_at - tokenbill.clock()) BETWEEN seconds AND seconds * 1.5 FROM pg_temp.token(wait.provider) t $$;
CREATE FUNCTION pg_temp.answer(provider text, status int, body text DEFAULT '{}', secrets jsonb DEFAULT NULL, headers jsonb DEFAULT '{}', error_kind text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tokenbill.record_token(provider, (pg_temp.token(provider)).lease, status, headers, convert_to(body, 'UTF8'), error_kind || ' failed', error_kind, secrets);
	RETURN pg_temp.say(provider);
END $$;
CREATE FUNCTION pg_temp.asked(provider text, status int, body text DEFAULT '{}', secrets jsonb DEFAULT NULL, headers jsonb DEFAULT '{}', error_kind text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tokenbill.oauth_refresh(provider);
	PERFORM pg_temp.claimed();
	RETURN pg_temp.answer(provider, status, body, secrets, headers, error_kind);
END $$;
-- A device grant that is authorized
CREATE FUNCTION pg_temp.login(provider text, answer jsonb, VARIADIC secrets text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	lease bigint;
BEGIN
	PERFORM tokenbill.oauth_device_begin(provider, restart => true);
	PERFORM tokenbill.claim_devices(100);
	SELECT g.lease INTO lease FROM tokenbill.device_grant g WHERE g.provider = login.provider AND g.state = 'pending';
	PERFORM tokenbill.record_device(provider, lease, 200, '{}', convert_to(('{"token_type": "Bearer"}'::jsonb || '{"user_code": "A", "verification_uri": "https://a.example.com/"}')::text, 'UTF8'), NULL, NULL, pg_temp.sealed('device_code'));
	UPDATE tokenbill.device_grant g SET next_at = tokenbill.clock() WHERE g.provider = login.provider AND g.state = 'pending';
	PERFORM tokenbill.claim_devices(100);
	SELECT g.lease INTO lease FROM tokenbill.device_grant g WHERE g.provider = login.provider AND g.state = 'pending';
	PERFORM tokenbill.record_device(provider, lease, 200, '{}', convert_to(('{"token_type": "Bearer"}'::jsonb || answer)::text, 'UTF8'), NULL, NULL, pg_temp.sealed(VARIADIC secrets));
	RETURN pg_temp.say(provider);
END $$;
-- The claims or the header of what is to be signed
CREATE FUNCTION pg_temp.to_sign(provider text, part text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT tokenbill.jwt_to_sign(c, c.ttl) -> part FROM tokenbill.oauth_client c WHERE c.provider = to_sign.provider
$$;
INSERT INTO tokenbill.secret SELECT n, 1, 1, 'k', '\x00', '\x00', '\x00', '\x00', now(), now() FROM unnest(ARRAY['a secret', 'a key']) n;

-- What is refused
SELECT pg_temp.refused(format('SELECT tokenbill.set_oauth_client(%s)', arguments), wanted, members, arguments) FROM (VALUES
	('NULL', '22004', '{"argument": "provider"}'::jsonb),
	($$'p'$$, '22004', '{"argument": "grant_type"}'),
	($$'p', 'password'$$, '22023', '{"argument": "grant_type"}'),
	($$'p', 'client_credentials', client_id => 'i'$$, '22023', '{"argument": "token_url"}'),
	($$'p', 'client_credentials', 'https://a.example.com/t'$$, '22023', '{"argument": "client_id"}'),
	($$'p', 'client_credentials', 'https://a.example.com/t', 'i', 'basic'$$, '22023', '{"argument": "client_secret_name"}'),
	($$'p', 'client_credentials', 'https://a.example.com/t', 'i', 'digest'$$, '22023', '{"argument": "client_auth"}'),
	($$'p', 'client_credentials', 'https://a.example.com/t', 'i', client_secret_name => 'sk-what-it-is-itself'$$, 'PT404', '{"argument": "client_secret_name"}'),
	($$'p', 'client_credentials', 'https://a.example.com/t', 'i', 'none', 'a secret'$$, '22023', '{"argument": "client_secret_name"}'),
	($$'p', 'client_credentials', 'https://a.example.com/t', 'i', device_url => 'https://a.example.com/d'$$, '22023', '{"argument": "device_url"}'),
	($$'p', 'client_credentials', 'http://a.example.com/t', 'i'$$, '22023', '{"argument": "token_url"}'),
	($$'p', 'client_credentials', 'https://me:pw@a.example.com/t', 'i'$$, '22023', '{"argument": "token_url"}'),
	($$'p', 'client_credentials', 'https://a.example.com/t#x', 'i'$$, '22023', '{"argument": "token_url"}'),
	($$'p', 'client_credentials', 'https://a.example.com/{secret}', 'i'$$, '22023', '{"argument": "token_url"}'),
	($$'p', 'device_code', 'https://a.example.com/t', 'i'$$, '22023', '{"argument": "device_url"}'),
	($$'p', 'client_credentials', 'https://a.example.com/t', 'i', params => '{"client_secret": "x"}'$$, '22023', '{"argument": "params", "param": "client_secret"}'),
	($$'p', 'client_credentials', 'https://a.example.com/t', 'i', params => '{"a": 1}'$$, '22023', '{"argument": "params"}'),
	($$'p', 'client_credentials', 'https://a.example.com/t', 'i', alg => 'RS256'$$, '22023', '{"argument": "alg"}'),
	($$'p', 'jwt_bearer', 'https://a.example.com/t', 'i', alg => 'none', signing_key_name => 'a key'$$, '22023', '{"argument": "alg"}'),
	($$'p', 'jwt_bearer', 'https://a.example.com/t', 'i', alg => 'HS512', signing_key_name => 'a key'$$, '22023', '{"argument": "alg"}'),
	($$'p', 'jwt_bearer', 'https://a.example.com/t', 'i', signing_key_name => 'a key'$$, '22023', '{"argument": "alg"}'),
	($$'p', 'jwt_bearer', 'https://a.example.com/t', 'i', alg => 'RS256'$$, '22023', '{"argument": "signing_key_name"}'),
	($$'p', 'jwt_bearer', 'https://a.example.com/t', 'i', alg => 'RS256', signing_key_name => 'no key'$$, 'PT404', '{"argument": "signing_key_name"}'),
	($$'p', 'signed', 'https://a.example.com/t', alg => 'HS256', signing_key_name => 'a key'$$, '22023', '{"argument": "token_url"}'),
	($$'p', 'signed', alg => 'HS256', signing_key_name => 'a key', header => '{"alg": "none"}'$$, '22023', '{"argument": "header", "member": "alg"}'),
	($$'p', 'signed', alg => 'HS256', signing_key_name => 'a key', header => '{"jku": "https://x"}'$$, '22023', '{"argument": "header", "member": "jku"}'),
	($$'p', 'signed', alg => 'HS256', signing_key_name => 'a key', claims => '[1]'$$, '22023', '{"argument": "claims"}'),
	($$'p', 'signed', alg => 'HS256', signing_key_name => 'a key', claims => '{"a": "{secret}"}'$$, '22023', '{"argument": "claims"}'),
	($$'p', 'signed', alg => 'HS256', signing_key_name => 'a key', ttl => '1 s'$$, '22023', '{"argument": "ttl"}'),
	($$'p', 'signed', alg => 'HS256', signing_key_name => 'a key', ttl => '5 min', leeway => '4 min'$$, '22023', '{"argument": "ttl"}'),
	($$'p', 'signed', alg => 'HS256', signing_key_name => 'a key', leeway => '1 hour'$$, '22023', '{"argument": "leeway"}'),
	($$'p', 'signed', alg => 'HS256', signing_key_name => 'a key', client_auth => 'none', client_id => repeat('x', 256)$$, '22023', '{"argument": "client_id"}')) v (arguments, wanted, members);
SELECT unalike(message, '%sk-what%', 'what may be the secret itself is not repeated') FROM pg_temp.error_of($$SELECT tokenbill.set_oauth_client('p', 'client_credentials', 'https://a.example.com/t', 'i', client_secret_name => 'sk-what-it-is-itself')$$);
SELECT is_empty('SELECT FROM tokenbill.oauth_client UNION ALL SELECT FROM tokenbill.access_token', 'nothing is left of it');

-- What is set
SELECT is(pg_temp.pick(c, 'client_auth', 'ttl', 'leeway', 'params'), '{"client_auth": "basic", "ttl": "01:00:00", "leeway": "00:01:00", "params": {}}', 'a secret is sent by HTTP Basic unless somebody says otherwise')
FROM tokenbill.set_oauth_client('paypal', 'client_credentials', 'https://api-m.example.com/v1/oauth2/token', 'ATx:1', client_secret_name => 'a secret') c;
SELECT is(pg_temp.pick(c, 'scope', 'token_url'), '{"scope": "a b", "token_url": "https://api-m.example.com/v1/oauth2/token"}', 'changed, the rest stays') FROM tokenbill.set_oauth_client('paypal', scope => 'a b') c;
SELECT is(scope, NULL, 'taken away') FROM tokenbill.set_oauth_client('paypal', scope => '');
SELECT is(tokenbill.next_token_due(), tokenbill.clock(), 'its token is obtained at once');
SELECT is(pg_temp.pick(c, 'purpose', 'target', 'method', 'url', 'headers', 'body', 'secret', 'secrets'), jsonb_build_object('purpose', 'token', 'target', 'paypal', 'method', 'POST', 'url', 'https://api-m.example.com/v1/oauth2/token',
	'headers', '{"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic {basic}"}'::jsonb, 'body', 'grant_type=client_credentials', 'secret', NULL, 'secrets', '{"basic": {"secret": "a secret", "user": "ATx%3A1"}}'::jsonb), 'the form of PayPal')
FROM tokenbill.claim_tokens(10) c;
SELECT is(pg_temp.claimed(), '-', 'claimed once');
SELECT is(tokenbill.next_token_due(), lease_until, 'until the claim ends') FROM pg_temp.token('paypal');
SELECT pg_temp.clock('12:00:03') \g /dev/null
SELECT is(pg_temp.answer('paypal', 200, '{"token_type": "Bearer", "expires_in": 32398, "app_id": "APP"}', pg_temp.sealed('access_token')), 'for 32395 next in 32335', 'a token, whose time counts from when it was asked for; renewed a minute before its end');
SELECT is(name, 'oauth:paypal', 'it is a secret') FROM tokenbill.secrets WHERE name LIKE 'oauth%';
SELECT is(pg_temp.asked('paypal', 200, '{"token_type": "Bearer", "expires_in": 90}', pg_temp.sealed('access_token', 'refresh_token')), 'for 90 next in 45', 'one that lives for less than two minutes: at half of it; a refresh token is not for this grant');
SELECT is(pg_temp.asked('paypal', 200, '{"token_type": "bearer", "expires_in": "3600"}', pg_temp.sealed('access_token')), 'for 3600 next in 3540', 'a number as text');
SELECT is(pg_temp.asked('paypal', 200, '{"expires_in": 2}', pg_temp.sealed('access_token')), 'for 2 next in 5', 'nobody is asked more often than every five seconds');
SELECT is(pg_temp.asked('paypal', 200, '{"expires_in": 0}', pg_temp.sealed('access_token')), '', 'no time told, no type');
SELECT is(pg_temp.asked('paypal', 200, '{"expires_in": 0.5}', pg_temp.sealed('access_token')), '', 'nor with less than a second, which would be renewed without end');
SELECT is(renewals, 6::bigint, 'six so far') FROM pg_temp.token('paypal');

-- Failures
SELECT alike(pg_temp.asked('paypal', 401, '{"error": "invalid_client", "error_description": "Client Authentication failed"}'), 'next in _ HTTP 401 invalid_client: Client Authentication failed', 'refused');
SELECT ok(pg_temp.wait('paypal', 2), 'tried again after two seconds, and a little');
SELECT is(pg_temp.pick(e, 'message', 'sqlstate', 'detail'), '{"message": "provider \"paypal\" gets no access token: HTTP 401 invalid_client: Client Authentication failed", "sqlstate": "28000", "detail": "{\"code\": \"invalid_client\", \"provider\": \"paypal\"}"}', 'in worker_errors') FROM tokenbill.worker_errors e;
SELECT is(expires_at, tokenbill.clock(), 'and in credential_expiries: somebody has to do something') FROM tokenbill.credential_expiries WHERE credential = 'oauth:paypal';
SELECT pg_temp.asked('paypal', 500), pg_temp.asked('paypal', 500) \g /dev/null
SELECT ok(pg_temp.wait('paypal', 8), 'then later and later') FROM pg_temp.token('paypal');
UPDATE tokenbill.access_token SET failures = 50 WHERE provider = 'paypal';
SELECT pg_temp.asked('paypal', NULL, error_kind => 'connect') \g /dev/null
SELECT ok(pg_temp.wait('paypal', 300), 'up to five minutes');
SELECT pg_temp.asked('paypal', 429, headers => '{"retry-after": "1200"}') \g /dev/null
SELECT ok(pg_temp.wait('paypal', 1200), 'or for as long as is asked');
SELECT pg_temp.asked('paypal', 429, headers => '{"retry-after": "90000"}') \g /dev/null
SELECT ok(pg_temp.wait('paypal', 3600), 'but not for longer than an hour');
SELECT is(pg_temp.asked('paypal', 200, '{"token_type": "Bearer", "expires_in": 3600}', pg_temp.sealed('access_token')), 'for 3600 next in 3540', 'well again');
SELECT is_empty($$SELECT FROM tokenbill.credential_expiries$$, 'the credential, too');
DELETE FROM tokenbill.worker_error;
SELECT alike(pg_temp.asked('paypal', 503, '{"error": "temporarily_unavailable"}'), 'for 3600 next in _ HTTP 503 temporarily_unavailable', 'a server that is away while the token is good');
SELECT is_empty('SELECT FROM tokenbill.worker_errors', 'is nothing for worker_errors');
SELECT pg_temp.asked('paypal', 200, '{}') \g /dev/null
SELECT alike(pg_temp.say('paypal'), 'for 3600 next in _ the answer has no access_token', 'an answer without a token');
SELECT alike(pg_temp.asked('paypal', 200, '{"_problem": "the answer is not JSON"}'), '%the answer is not JSON', 'one that cannot be read');
SELECT alike(pg_temp.asked('paypal', 302), '%HTTP 302', 'one that leads elsewhere');
SELECT tokenbill.record_token('paypal', -1, 200, '{}', '{}', NULL, NULL, pg_temp.sealed('access_token')) \g /dev/null
SELECT is(renewals, 7::bigint, 'an answer under another lease is ignored') FROM pg_temp.token('paypal');
SELECT tokenbill.oauth_refresh('paypal'), pg_temp.claimed() \g /dev/null
SELECT lease AS lease FROM pg_temp.token('paypal') \gset
SELECT tokenbill.set_oauth_client('paypal', scope => 'other') \g /dev/null
SELECT tokenbill.record_token('paypal', :lease, 200, '{}', '{}', NULL, NULL, pg_temp.sealed('access_token')) \g /dev/null
SELECT is(renewals, 7::bigint, 'so is one that was asked for by the settings of before') FROM pg_temp.token('paypal');
SELECT pg_temp.claimed() \g /dev/null
SELECT tokenbill.release_tokens(true) \g /dev/null
SELECT is(pg_temp.claimed(), '-', 'a worker that begins frees what was claimed, but not at once');
SELECT ok(pg_temp.wait('paypal', 2), 'for one of the answers may be what has ended the other');
UPDATE tokenbill.access_token SET next_at = tokenbill.clock() WHERE provider = 'paypal';
SELECT is(pg_temp.claimed(), 'paypal', 'then it is claimed again');
SELECT pg_temp.answer('paypal', 200, '{}', pg_temp.sealed('access_token')) \g /dev/null

-- Refresh tokens
SELECT tokenbill.set_oauth_client('hub', 'device_code', 'https://a.example.com/t', 'i', device_url => 'https://a.example.com/d') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.oauth_refresh('hub')$$, 'PT409', '{"provider": "hub"}', 'nobody has allowed it');
SELECT pg_temp.refused($$SELECT tokenbill.oauth_refresh('nobody')$$, 'PT404', '{"provider": "nobody"}', 'nobody there');
SELECT pg_temp.refused($$SELECT tokenbill.oauth_device_begin('paypal')$$, 'PT409', '{"grant_type": "client_credentials"}', 'nobody has to');
SELECT is(pg_temp.login('hub', '{"expires_in": 600}', 'access_token', 'refresh_token'), 'for 600 next in 540 refreshable', 'authorized');
SELECT pg_temp.clock('12:08:59') \g /dev/null
SELECT is(pg_temp.claimed(), '-', 'not yet');
SELECT pg_temp.clock('12:09:03') \g /dev/null
SELECT is(pg_temp.pick(c, 'body', 'secrets'), '{"body": "client_id=i&grant_type=refresh_token&refresh_token={refresh_token}", "secrets": {"refresh_token": {"secret": "oauth_refresh:hub"}}}', 'a minute before the end it is refreshed') FROM tokenbill.claim_tokens(10) c;
SELECT updated_at AS told FROM tokenbill.secrets WHERE name = 'oauth_refresh:hub' \gset
SELECT is(pg_temp.answer('hub', 200, '{"token_type": "Bearer", "expires_in": 600}', pg_temp.sealed('access_token')), 'for 600 next in 540 refreshable', 'no new refresh token: the old one stays');
SELECT is(updated_at, :'told', 'as it was') FROM tokenbill.secrets WHERE name = 'oauth_refresh:hub';
SELECT is(pg_temp.asked('hub', 200, '{"token_type": "Bearer", "expires_in": 600, "refresh_token_expires_in": 3000}', pg_temp.sealed('access_token', 'refresh_token')), 'for 600 next in 540 refreshable', 'rotation');
SELECT is(refresh_expires_at, tokenbill.clock() + interval '50 minutes', 'with an end') FROM pg_temp.token('hub');
SELECT pg_temp.clock('12:12:00'), pg_temp.asked('hub', 200, '{"expires_in": 600, "refresh_expires_in": 3000}', pg_temp.sealed('access_token', 'refresh_token')) \g /dev/null
SELECT is_empty('SELECT FROM tokenbill.credential_expiries', 'which moves on with each: nobody has to come back');
SELECT pg_temp.clock('12:15:00'), pg_temp.asked('hub', 200, '{"expires_in": 600, "refresh_expires_in": 2820}', pg_temp.sealed('access_token', 'refresh_token')) \g /dev/null
SELECT is(expires_at, '2026-03-05 13:02:00+00', 'one that stays where it was is when somebody has to') FROM tokenbill.credential_expiries WHERE credential = 'oauth:hub';
SELECT alike(pg_temp.asked('hub', 401, '{"error": "invalid_client"}'), 'for 600 next in _ refreshable HTTP 401 invalid_client', 'a client that is refused can be put right');
SELECT is(state, 'authorized', 'and does not end the authorization') FROM tokenbill.device_grants WHERE provider = 'hub';
SELECT pg_temp.asked('hub', 400, '{"error": "invalid_grant", "error_description": "revoked"}') \g /dev/null
SELECT is(pg_temp.pick(g, 'state', 'error'), '{"state": "expired", "error": "HTTP 400 invalid_grant: revoked"}', 'a family that is revoked does') FROM tokenbill.device_grants g WHERE provider = 'hub';
SELECT is_empty($$SELECT FROM tokenbill.secrets WHERE name LIKE 'oauth%:hub'$$, 'its tokens are forgotten');
SELECT is(pg_temp.claimed(), '-', 'and not asked for again');
SELECT pg_temp.refused($$SELECT tokenbill.oauth_refresh('hub')$$, 'PT409', '{"provider": "hub"}', 'nor can they be');
SELECT is(tokenbill.token_problem('oauth:hub'), 'the access token has expired: HTTP 400 invalid_grant: revoked', 'who needs it is told why');
SELECT is(pg_temp.login('hub', '{"expires_in": 600}', 'access_token'), 'for 600 next in 600', 'without a refresh token');
SELECT is(expires_at - tokenbill.clock(), interval '10 minutes', 'somebody has to come back for it') FROM tokenbill.credential_expiries WHERE credential = 'oauth:hub';
SELECT pg_temp.clock('12:25:00') \g /dev/null
SELECT is(pg_temp.claimed(), '-', 'when it expires nobody is asked');
SELECT is(pg_temp.pick(g, 'state', 'error'), '{"state": "expired", "error": "the access token has expired, and there is no refresh token"}', 'and the authorization ends') FROM tokenbill.device_grants g WHERE provider = 'hub' ORDER BY id DESC LIMIT 1;

-- JSON Web Tokens
SELECT tokenbill.set_oauth_client('robot', 'jwt_bearer', 'https://a.example.com/t', 'robot@example.com', alg => 'RS256', signing_key_name => 'a key', key_id => 'k1', claims => '{"scope": "s", "sub": null}', scope => 'form') \g /dev/null
SELECT is(pg_temp.to_sign('robot', 'claims') - 'jti', jsonb_build_object('iss', 'robot@example.com', 'aud', 'https://a.example.com/t', 'iat', 1772713440, 'exp', 1772717040, 'scope', 's'), 'iat is a minute in the past, exp an hour later');
SELECT isnt(pg_temp.to_sign('robot', 'claims') ->> 'jti', pg_temp.to_sign('robot', 'claims') ->> 'jti', 'each has a jti of its own');
SELECT is(pg_temp.to_sign('robot', 'header'), '{"kid": "k1"}', 'header');
SELECT is(c.body, 'assertion={assertion}&client_id=robot%40example.com&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&scope=form', 'the exchange') FROM tokenbill.claim_tokens(10) c WHERE target = 'robot';
SELECT alike(pg_temp.answer('robot', 400, '{"error": "invalid_grant"}', headers => '{"date": "Thu, 05 Mar 2026 12:25:45 GMT"}'), '%invalid_grant', 'refused');
SELECT is(clock_offset, interval '0', 'a clock that is 45 s ahead is within the leeway') FROM tokenbill.oauth_clients WHERE provider = 'robot';
SELECT pg_temp.asked('robot', 400, '{"error": "invalid_grant"}', headers => '{"date": "Thu, 05 Mar 2026 12:35:00 GMT"}') \g /dev/null
SELECT is((pg_temp.to_sign('robot', 'claims') ->> 'iat')::bigint, 1772713440::bigint + 600, 'one that is ten minutes ahead is followed');
SELECT is(tokenbill.clock_offset(jsonb_build_object('date', said)), NULL, 'a date that tells nothing: ' || said) FROM (VALUES ('Sun, 01 Mar 2026 12:25:00 GMT'), ('Sat, 31 Feb 2026 12:25:00 GMT'), ('2026-03-05T12:25:00Z'), ('Thu, 05 Mar 2026 12:25:00 CET'), ('')) v (said);
SELECT tokenbill.set_oauth_client('zhipu', 'signed', alg => 'HS256', signing_key_name => 'a key', header => '{"sign_type": "SIGN"}', leeway => '0', ttl => '1 hour',
	claims => '{"api_key": "an id", "exp": "{exp_ms}", "timestamp": "{iat_ms}", "iat": null, "jti": null}') \g /dev/null
SELECT is(pg_temp.to_sign('zhipu', 'claims'), '{"api_key": "an id", "exp": 1772717100000, "timestamp": 1772713500000}', 'milliseconds, and nothing else');
SELECT is(pg_temp.pick(c, 'url', 'method', 'body', 'purpose'), '{"url": null, "method": null, "body": null, "purpose": "token"}', 'nobody is asked') FROM tokenbill.claim_tokens(10) c WHERE target = 'zhipu';
SELECT is(pg_temp.answer('zhipu', 200, '{}', pg_temp.sealed('access_token')), 'for 3600 next in 3540', 'it is kept until a minute before its end');

-- Who uses a token
SELECT tokenbill.add_preset('gate', 'https://g.example.com'), tokenbill.add_preset_request('gate', '/b', '$.b') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.add_provider('x', 'gate', secret_name => 'oauth:nobody')$$, 'PT404', '{"secret": "oauth:nobody"}', 'a token that nobody obtains');
SELECT tokenbill.set_oauth_client('late', 'client_credentials', 'https://a.example.com/t', 'i'), tokenbill.add_provider('user', 'gate', secret_name => 'oauth:late', check_every => '1 hour') \g /dev/null
SELECT pg_temp.clock('12:25:10') \g /dev/null
SELECT is((SELECT count(*) FROM tokenbill.claim_checks(10)), 0::bigint, 'nobody is asked without a token');
SELECT is(error, 'there is no access token yet', 'which is the reason why there is no balance') FROM tokenbill.provider_balances WHERE provider = 'user';
SELECT pg_temp.asked('late', 200, '{"expires_in": 3600}', pg_temp.sealed('access_token')) \g /dev/null
SELECT is(target, 'user', 'when it comes, whoever has waited is asked') FROM tokenbill.claim_checks(10);
SELECT tokenbill.record_check('user', lease, 401, '{}', '{}', NULL, NULL, 1) FROM tokenbill.provider_check WHERE provider = 'user' \g /dev/null
SELECT is(pg_temp.claimed(), '-', 'a new one that is refused is not renewed');
SELECT pg_temp.clock('12:27:00'), tokenbill.check_provider_now('user') \g /dev/null
SELECT count(*) FROM tokenbill.claim_checks(10) \g /dev/null
SELECT tokenbill.record_check('user', lease, 401, '{}', '{}', NULL, NULL, 1) FROM tokenbill.provider_check WHERE provider = 'user' \g /dev/null
SELECT is(target, 'late', 'one that is a minute old is') FROM tokenbill.claim_tokens(10) WHERE target = 'late';
SELECT pg_temp.clock('13:30:00'), tokenbill.check_provider_now('user') \g /dev/null
SELECT count(*) FROM tokenbill.claim_checks(10) \g /dev/null
SELECT is(pg_temp.pick(c, 'error', 'status', 'error_class', 'advice'), '{"error": "the access token has expired", "status": null, "error_class": null, "advice": null}', 'when it has expired that is the reason, and nothing is left of the answer before') FROM tokenbill.provider_checks c WHERE provider = 'user';
SELECT pg_temp.clock('12:27:00') \g /dev/null

-- Another way to come by it
SELECT pg_temp.login('hub', '{"expires_in": 600}', 'access_token', 'refresh_token'), tokenbill.oauth_device_begin('hub') \g /dev/null
SELECT is(grant_type, 'client_credentials', 'a client that changes') FROM tokenbill.set_oauth_client('hub', 'client_credentials', device_url => '');
SELECT is_empty($$SELECT FROM tokenbill.device_grants WHERE provider = 'hub' AND state IN ('pending', 'authorized') UNION ALL SELECT FROM tokenbill.secrets WHERE name LIKE 'oauth%:hub'$$, 'has none of the tokens of before');
SELECT is(due_at, tokenbill.clock(), 'what the worker sleeps by') FROM tokenbill.due() WHERE duty = 'access tokens';
SELECT * FROM finish();
ROLLBACK;
