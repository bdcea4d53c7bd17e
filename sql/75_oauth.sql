/*
 * OAuth 2.0 clients: how the access token of a provider is come by.
 *
 *   device_code         somebody allows it in a browser (RFC 8628); then refreshed
 *   client_credentials  the client's own right (RFC 6749, 4.4)
 *   jwt_bearer          a signed assertion is exchanged for it (RFC 7523, 2.1)
 *   signed              it is a JWT that is signed here (RFC 7519); nobody is asked
 *
 * What is secret is in tokenbill.secret and nowhere else: what the client proves
 * itself with under a name of the user's, and what it is given as oauth:PROVIDER,
 * the access token, oauth_refresh:PROVIDER and oauth_device:PROVIDER.  The worker
 * takes those out of an answer and encrypts them before anything of it gets into
 * a statement (src/token_answer.c, which knows these names too).
 */
CREATE TABLE tokenbill.oauth_client (
	provider text COLLATE "C" NOT NULL PRIMARY KEY,
	grant_type text NOT NULL CHECK (grant_type IN ('device_code', 'client_credentials', 'jwt_bearer', 'signed')),
	token_url text,
	device_url text,
	client_id text,
	client_auth text NOT NULL CHECK (client_auth IN ('none', 'post', 'basic', 'private_key_jwt')),
	client_secret_name text COLLATE "C",
	scope text,
	params jsonb NOT NULL DEFAULT '{}',
	alg text CHECK (alg IN ('HS256', 'RS256', 'ES256')),
	signing_key_name text COLLATE "C",
	key_id text,
	claims jsonb NOT NULL DEFAULT '{}',
	header jsonb NOT NULL DEFAULT '{}',
	ttl interval NOT NULL DEFAULT '1 hour',
	leeway interval NOT NULL DEFAULT '1 minute',
	clock_offset interval NOT NULL DEFAULT '0',
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL
);
COMMENT ON TABLE tokenbill.oauth_client IS 'How the access token of a provider is come by';
COMMENT ON COLUMN tokenbill.oauth_client.provider IS 'Name of the provider, or of whatever uses the token';
COMMENT ON COLUMN tokenbill.oauth_client.grant_type IS 'device_code, client_credentials, jwt_bearer or signed';
COMMENT ON COLUMN tokenbill.oauth_client.token_url IS 'The token endpoint; null: nobody is asked';
COMMENT ON COLUMN tokenbill.oauth_client.device_url IS 'The device authorization endpoint; null: of another grant type';
COMMENT ON COLUMN tokenbill.oauth_client.client_id IS 'Under which name the authorization server knows us';
COMMENT ON COLUMN tokenbill.oauth_client.client_auth IS 'How we prove to be that client: none, post (in the form), basic (HTTP Basic) or private_key_jwt';
COMMENT ON COLUMN tokenbill.oauth_client.client_secret_name IS 'Name of the secret with the client secret; null: it has none';
COMMENT ON COLUMN tokenbill.oauth_client.scope IS 'What is asked for; null: whatever the server gives';
COMMENT ON COLUMN tokenbill.oauth_client.params IS 'Object: further parameters of the requests, such as audience';
COMMENT ON COLUMN tokenbill.oauth_client.alg IS 'How JWTs are signed: HS256, RS256 or ES256; null: none is';
COMMENT ON COLUMN tokenbill.oauth_client.signing_key_name IS 'Name of the secret with the key they are signed with';
COMMENT ON COLUMN tokenbill.oauth_client.key_id IS 'Header kid of the JWT; null: none';
COMMENT ON COLUMN tokenbill.oauth_client.claims IS 'Object: claims of the JWT that go before those it has by itself; null takes one away';
COMMENT ON COLUMN tokenbill.oauth_client.header IS 'Object: further headers of the JWT';
COMMENT ON COLUMN tokenbill.oauth_client.ttl IS 'From iat to exp of a JWT';
COMMENT ON COLUMN tokenbill.oauth_client.leeway IS 'By how much iat is in the past, for servers whose clock is behind';
COMMENT ON COLUMN tokenbill.oauth_client.clock_offset IS 'By how much the server''s clock is ahead of ours, by what it has said';
COMMENT ON COLUMN tokenbill.oauth_client.created_at IS 'When it was added';
COMMENT ON COLUMN tokenbill.oauth_client.updated_at IS 'When its settings last changed';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.oauth_client', '');

CREATE FUNCTION tokenbill.token_secret(provider text, kind text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN concat('oauth', '_' || token_secret.kind, ':', token_secret.provider);
END
$function$;
COMMENT ON FUNCTION tokenbill.token_secret(text, text) IS 'Internal: name of the secret with a provider''s access token, or with its refresh token (refresh) or device code (device)';

/* An endpoint may have a query, and its slash at the end may count. */
CREATE FUNCTION tokenbill.check_endpoint(argument text, url text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.check_text(check_endpoint.argument, check_endpoint.url, 1000);
	IF check_endpoint.url COLLATE "C" !~ '^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%!$&''()*+,;=:@/-]*)?(\?[A-Za-z0-9._~%!$&''()*+,;=:@/?-]*)?$' THEN
		PERFORM tokenbill.refuse('22023', format('%s must be an https URL without user and fragment', check_endpoint.argument),
			jsonb_build_object('argument', check_endpoint.argument), 'Pass one such as https://auth.example.com/oauth/token.');
	END IF;
	IF check_endpoint.url !~ '^https:' AND NOT coalesce(nullif(current_setting('tokenbill.allow_http', true), ''), 'off')::boolean THEN
		PERFORM tokenbill.refuse('22023', format('%s must begin with https://', check_endpoint.argument), jsonb_build_object('argument', check_endpoint.argument),
			'Whoever is on the way can read the tokens otherwise; where that is out of the question, set tokenbill.allow_http.');
	END IF;
	RETURN check_endpoint.url;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_endpoint(text, text) IS 'Internal: returns the URL, or raises that it is none (22004, 22023)';

CREATE FUNCTION tokenbill.refuse_oauth_client(provider text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.refuse('PT404', format('provider "%s" has no OAuth client', refuse_oauth_client.provider),
		jsonb_build_object('provider', refuse_oauth_client.provider), 'Say how its tokens are come by with tokenbill.set_oauth_client().');
END
$function$;
COMMENT ON FUNCTION tokenbill.refuse_oauth_client(text) IS 'Internal: raises that the provider has no OAuth client (PT404)';

/*
 * Claims and headers.  A number or a text of the worker's own making stands for
 * {iat} and the like; alg is what the row says and never what a header says
 * (RFC 8725, 3.1), and what would have the receiver look for another key is not
 * for us to send.
 */
CREATE FUNCTION tokenbill.check_jwt_object(argument text, value jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	wrong text;
BEGIN
	IF jsonb_typeof(check_jwt_object.value) <> 'object' OR length(check_jwt_object.value::text) > 4096 THEN
		PERFORM tokenbill.refuse('22023', format('%s must be a JSON object of at most 4096 characters', check_jwt_object.argument),
			jsonb_build_object('argument', check_jwt_object.argument), 'Write {"name": "value"}.');
	END IF;
	SELECT m.key INTO wrong FROM jsonb_each(check_jwt_object.value) m
	WHERE check_jwt_object.argument = 'header' AND m.key IN ('alg', 'jwk', 'jku', 'x5u', 'crit', 'b64') LIMIT 1;
	IF FOUND THEN
		PERFORM tokenbill.refuse('22023', format('header must not have %s', wrong), jsonb_build_object('argument', 'header', 'member', wrong),
			'The algorithm is given as alg, and the key''s name as key_id.');
	END IF;
	SELECT v.word #>> '{}' INTO wrong FROM jsonb_path_query(check_jwt_object.value, 'strict $.**') v (word)
	WHERE jsonb_typeof(v.word) = 'string' AND v.word #>> '{}' ~ '^\{.*\}$'
		AND v.word #>> '{}' !~ '^\{(iat|exp|nbf|iat_ms|exp_ms|jti|client_id|key_id)\}$' LIMIT 1;
	IF FOUND THEN
		PERFORM tokenbill.refuse('22023', format('%s has a variable that there is not', check_jwt_object.argument),
			jsonb_build_object('argument', check_jwt_object.argument), 'There are {iat}, {exp}, {nbf}, {iat_ms}, {exp_ms}, {jti}, {client_id} and {key_id}.');
	END IF;
	RETURN check_jwt_object.value;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_jwt_object(text, jsonb) IS 'Internal: returns value, or raises that it cannot be the claims or the header of a JWT (22023)';

/* Does it all fit together?  set_oauth_client() asks, with the row as it will be. */
CREATE FUNCTION tokenbill.check_oauth_client(client tokenbill.oauth_client) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	signs boolean := client.grant_type IN ('jwt_bearer', 'signed') OR client.client_auth = 'private_key_jwt';
	missing text;
	unused text;
	name record;
BEGIN
	missing := CASE
		WHEN client.token_url IS NULL AND client.grant_type <> 'signed' THEN 'token_url'
		WHEN client.device_url IS NULL AND client.grant_type = 'device_code' THEN 'device_url'
		WHEN client.client_id IS NULL AND (client.grant_type IN ('device_code', 'client_credentials') OR client.client_auth <> 'none') THEN 'client_id'
		WHEN client.client_secret_name IS NULL AND client.client_auth IN ('post', 'basic') THEN 'client_secret_name'
		WHEN client.alg IS NULL AND signs THEN 'alg'
		WHEN client.signing_key_name IS NULL AND signs THEN 'signing_key_name' END;
	IF missing IS NOT NULL THEN
		PERFORM tokenbill.refuse('22023', format('an OAuth client of grant_type %s needs %s', client.grant_type, missing),
			jsonb_build_object('argument', missing), format('Pass %s; docs/oauth.md has an example of each kind.', missing));
	END IF;
	unused := CASE
		WHEN client.token_url IS NOT NULL AND client.grant_type = 'signed' THEN 'token_url'
		WHEN client.device_url IS NOT NULL AND client.grant_type <> 'device_code' THEN 'device_url'
		WHEN client.client_auth <> 'none' AND client.grant_type = 'signed' THEN 'client_auth'
		WHEN client.client_auth = 'private_key_jwt' AND client.grant_type = 'jwt_bearer' THEN 'client_auth'
		WHEN client.client_secret_name IS NOT NULL AND client.client_auth NOT IN ('post', 'basic') THEN 'client_secret_name'
		WHEN client.alg IS NOT NULL AND NOT signs THEN 'alg'
		WHEN client.signing_key_name IS NOT NULL AND NOT signs THEN 'signing_key_name' END;
	IF unused IS NOT NULL THEN
		PERFORM tokenbill.refuse('22023', format('an OAuth client of grant_type %s and client_auth %s has no %s', client.grant_type, client.client_auth, unused),
			jsonb_build_object('argument', unused), 'Leave it out; to take it away, pass an empty text.');
	END IF;
	FOR name IN
		SELECT * FROM (VALUES ('client_secret_name', client.client_secret_name), ('signing_key_name', client.signing_key_name)) v (argument, secret)
		WHERE v.secret IS NOT NULL AND NOT EXISTS (SELECT FROM tokenbill.secret s WHERE s.name = v.secret)
	LOOP
		/* not repeated: it may be the secret itself, put into the wrong place */
		PERFORM tokenbill.refuse('PT404', format('%s is the name of no secret', name.argument), jsonb_build_object('argument', name.argument),
			'Store it with tokenbill.set_secret() first, and pass the name it has there.');
	END LOOP;
	IF client.ttl < client.leeway + interval '2 minutes' THEN
		PERFORM tokenbill.refuse('22023', 'ttl must be longer than leeway by two minutes at least', '{"argument": "ttl"}',
			'A token is renewed a minute before it expires, and the leeway is taken from its time.');
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_oauth_client(tokenbill.oauth_client) IS 'Internal: raises what does not fit together in an OAuth client (22023), or that a secret is not there (PT404)';

/*
 * Adds or changes one.  Races: of two that add the same, the second waits for the
 * first's row and changes it.
 */
CREATE FUNCTION tokenbill.set_oauth_client(provider text, grant_type text DEFAULT NULL, token_url text DEFAULT NULL, client_id text DEFAULT NULL,
	client_auth text DEFAULT NULL, client_secret_name text DEFAULT NULL, scope text DEFAULT NULL, device_url text DEFAULT NULL, params jsonb DEFAULT NULL,
	alg text DEFAULT NULL, signing_key_name text DEFAULT NULL, key_id text DEFAULT NULL, claims jsonb DEFAULT NULL, header jsonb DEFAULT NULL,
	ttl interval DEFAULT NULL, leeway interval DEFAULT NULL)
RETURNS tokenbill.oauth_client
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	was tokenbill.oauth_client;
	made tokenbill.oauth_client;
	given record;
	auth text;
BEGIN
	PERFORM tokenbill.check_provider(set_oauth_client.provider);
	FOR given IN
		SELECT * FROM (VALUES ('client_id', set_oauth_client.client_id, 255), ('client_secret_name', set_oauth_client.client_secret_name, 255),
			('scope', set_oauth_client.scope, 1000), ('signing_key_name', set_oauth_client.signing_key_name, 255), ('key_id', set_oauth_client.key_id, 255)) v (argument, value, longest)
		WHERE v.value <> ''
	LOOP
		PERFORM tokenbill.check_text(given.argument, given.value, given.longest);
	END LOOP;
	IF set_oauth_client.token_url <> '' THEN
		PERFORM tokenbill.check_endpoint('token_url', set_oauth_client.token_url);
	END IF;
	IF set_oauth_client.device_url <> '' THEN
		PERFORM tokenbill.check_endpoint('device_url', set_oauth_client.device_url);
	END IF;
	FOR given IN
		SELECT * FROM (VALUES ('grant_type', set_oauth_client.grant_type, ARRAY['device_code', 'client_credentials', 'jwt_bearer', 'signed']),
			('client_auth', set_oauth_client.client_auth, ARRAY['none', 'post', 'basic', 'private_key_jwt']),
			('alg', nullif(set_oauth_client.alg, ''), ARRAY['HS256', 'RS256', 'ES256'])) v (argument, value, allowed)
		WHERE v.value <> ALL (v.allowed)
	LOOP
		PERFORM tokenbill.refuse('22023', format('%s must be one of %s', given.argument, array_to_string(given.allowed, ', ')),
			jsonb_build_object('argument', given.argument, 'allowed', given.allowed),
			CASE given.argument WHEN 'alg' THEN 'What is not signed proves nothing, so there is no none.' ELSE 'docs/oauth.md says what each of them is for.' END);
	END LOOP;
	IF set_oauth_client.params IS NOT NULL THEN
		PERFORM tokenbill.check_templates('params', set_oauth_client.params, '^[A-Za-z0-9_.:-]{1,100}$');
		SELECT m.key AS argument INTO given FROM jsonb_each(set_oauth_client.params) m
		WHERE m.key IN ('grant_type', 'client_id', 'client_secret', 'scope', 'device_code', 'refresh_token', 'assertion', 'client_assertion', 'client_assertion_type') LIMIT 1;
		IF FOUND THEN
			PERFORM tokenbill.refuse('22023', format('params must not have %s', given.argument), jsonb_build_object('argument', 'params', 'param', given.argument),
				'It has an argument of its own, or is not for you to say.');
		END IF;
	END IF;
	IF set_oauth_client.claims IS NOT NULL THEN
		PERFORM tokenbill.check_jwt_object('claims', set_oauth_client.claims);
	END IF;
	IF set_oauth_client.header IS NOT NULL THEN
		PERFORM tokenbill.check_jwt_object('header', set_oauth_client.header);
	END IF;
	IF set_oauth_client.ttl IS NOT NULL THEN
		PERFORM tokenbill.check_span('ttl', set_oauth_client.ttl, '2 minutes', '1 day');
	END IF;
	IF set_oauth_client.leeway IS NOT NULL THEN
		PERFORM tokenbill.check_span('leeway', set_oauth_client.leeway, '0', '10 minutes');
	END IF;

	SELECT c.* INTO was FROM tokenbill.oauth_client c WHERE c.provider = set_oauth_client.provider FOR NO KEY UPDATE;
	IF NOT FOUND AND set_oauth_client.grant_type IS NULL THEN
		PERFORM tokenbill.refuse('22004', 'grant_type must not be null', '{"argument": "grant_type"}',
			'Pass device_code, client_credentials, jwt_bearer or signed.');
	END IF;
	/* how it proves who it is follows from what it has, unless somebody says */
	auth := coalesce(set_oauth_client.client_auth, was.client_auth,
		CASE WHEN coalesce(set_oauth_client.client_secret_name, '') <> '' THEN 'basic' ELSE 'none' END);
	INSERT INTO tokenbill.oauth_client AS c (provider, grant_type, client_auth, created_at, updated_at)
	VALUES (set_oauth_client.provider, coalesce(set_oauth_client.grant_type, was.grant_type), auth, tokenbill.clock(), tokenbill.clock())
	ON CONFLICT ON CONSTRAINT oauth_client_pkey DO NOTHING;
	UPDATE tokenbill.oauth_client c
	SET grant_type = coalesce(set_oauth_client.grant_type, c.grant_type), client_auth = auth,
		token_url = nullif(coalesce(set_oauth_client.token_url, c.token_url), ''), device_url = nullif(coalesce(set_oauth_client.device_url, c.device_url), ''),
		client_id = nullif(coalesce(set_oauth_client.client_id, c.client_id), ''),
		client_secret_name = nullif(coalesce(set_oauth_client.client_secret_name, c.client_secret_name), ''),
		scope = nullif(coalesce(set_oauth_client.scope, c.scope), ''), params = coalesce(set_oauth_client.params, c.params),
		alg = nullif(coalesce(set_oauth_client.alg, c.alg), ''), signing_key_name = nullif(coalesce(set_oauth_client.signing_key_name, c.signing_key_name), ''),
		key_id = nullif(coalesce(set_oauth_client.key_id, c.key_id), ''), claims = coalesce(set_oauth_client.claims, c.claims),
		header = coalesce(set_oauth_client.header, c.header), ttl = coalesce(set_oauth_client.ttl, c.ttl), leeway = coalesce(set_oauth_client.leeway, c.leeway),
		updated_at = tokenbill.clock()
	WHERE c.provider = set_oauth_client.provider
	RETURNING c.* INTO made;
	PERFORM tokenbill.check_oauth_client(made);
	PERFORM tokenbill.schedule_token(made, was.grant_type);
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_oauth_client(text, text, text, text, text, text, text, text, jsonb, text, text, text, jsonb, jsonb, interval, interval) IS
'Says how the access token of a provider is come by, or changes that, and returns the row; null leaves a setting as it is, an empty text takes it away. Errors: PT404 no such secret, 42501 a tenant asks, 22xxx';

CREATE FUNCTION tokenbill.drop_oauth_client(provider text) RETURNS tokenbill.oauth_client
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	gone tokenbill.oauth_client;
BEGIN
	PERFORM tokenbill.check_provider(drop_oauth_client.provider);
	DELETE FROM tokenbill.oauth_client c WHERE c.provider = drop_oauth_client.provider RETURNING c.* INTO gone;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_oauth_client(drop_oauth_client.provider);
	END IF;
	DELETE FROM tokenbill.device_grant g WHERE g.provider = drop_oauth_client.provider;
	DELETE FROM tokenbill.access_token t WHERE t.provider = drop_oauth_client.provider;
	PERFORM tokenbill.forget_token_secrets(drop_oauth_client.provider, ARRAY[NULL, 'refresh', 'device']);
	DELETE FROM tokenbill.credential_expiry e WHERE e.credential = tokenbill.token_secret(drop_oauth_client.provider);
	RETURN gone;
END
$function$;
COMMENT ON FUNCTION tokenbill.drop_oauth_client(text) IS
'Drops an OAuth client with its tokens and device grants, and returns the row it had; the server is not told. Errors: PT404, 42501 a tenant asks, 22xxx';

/* What it is to be signed: the parts of a JWT, for the worker, which has the key. */
CREATE FUNCTION tokenbill.jwt_to_sign(client tokenbill.oauth_client, lifetime interval) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	/* whole seconds: NumericDate allows fractions, but not everybody reads them */
	iat numeric := trunc(extract(epoch FROM tokenbill.clock() + client.clock_offset - client.leeway));
	exp numeric := iat + trunc(extract(epoch FROM jwt_to_sign.lifetime));
	jti text := gen_random_uuid()::text;
	known jsonb := jsonb_build_object('{iat}', iat, '{nbf}', iat, '{exp}', exp, '{iat_ms}', iat * 1000, '{exp_ms}', exp * 1000,
		'{jti}', jti, '{client_id}', client.client_id, '{key_id}', client.key_id);
	own jsonb := jsonb_build_object('iss', client.client_id, 'sub', client.client_id, 'aud', client.token_url, 'iat', iat, 'exp', exp, 'jti', jti);
BEGIN
	RETURN jsonb_build_object('alg', client.alg,
		'header', (SELECT coalesce(jsonb_object_agg(m.key, coalesce(known -> (m.value #>> '{}'), m.value)), '{}')
			FROM jsonb_each(jsonb_build_object('kid', client.key_id) || client.header) m WHERE m.value <> 'null'),
		'claims', (SELECT coalesce(jsonb_object_agg(m.key, coalesce(known -> (m.value #>> '{}'), m.value)), '{}')
			FROM jsonb_each(own || client.claims) m WHERE m.value <> 'null'));
END
$function$;
COMMENT ON FUNCTION tokenbill.jwt_to_sign(tokenbill.oauth_client, interval) IS 'Internal: algorithm, header and claims of a JWT that begins now, by the server''s clock';

/*
 * A request to an endpoint: a form (RFC 6749, appendix B), with how the client
 * proves who it is.  A member of secret_fields is the parameter of that name; what
 * its value is, the worker finds out (src/call_secret.c).
 */
CREATE FUNCTION tokenbill.oauth_call(client tokenbill.oauth_client, purpose text, lease bigint, url text, form jsonb, secret_fields jsonb) RETURNS tokenbill.http_call
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	headers jsonb := '{"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}';
	secrets jsonb := oauth_call.secret_fields;
	fields jsonb := client.params || jsonb_strip_nulls(oauth_call.form);
	filled text;
BEGIN
	IF client.client_auth IN ('none', 'post') AND client.client_id IS NOT NULL THEN
		fields := fields || jsonb_build_object('client_id', client.client_id);
	END IF;
	CASE client.client_auth
	WHEN 'post' THEN
		secrets := secrets || jsonb_build_object('client_secret', jsonb_build_object('secret', client.client_secret_name));
	WHEN 'private_key_jwt' THEN
		/* RFC 7523, 2.2: one is good for one request, so it need not live long */
		fields := fields || '{"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}';
		secrets := secrets || jsonb_build_object('client_assertion',
			jsonb_build_object('secret', client.signing_key_name, 'jwt', tokenbill.jwt_to_sign(client, client.leeway + interval '5 minutes')));
	ELSE
		NULL;
	END CASE;
	SELECT string_agg(f.field, '&' ORDER BY f.field COLLATE "C") INTO filled
	FROM (SELECT tokenbill.percent_encode(m.key) || '=' || tokenbill.percent_encode(m.value) AS field FROM jsonb_each_text(fields) m
		UNION ALL
		SELECT s.key || '={' || s.key || '}' FROM jsonb_object_keys(secrets) s (key)) f;
	IF client.client_auth = 'basic' THEN
		/* RFC 6749, 2.3.1: both parts are encoded as in a form first */
		headers := headers || '{"Authorization": "Basic {basic}"}';
		secrets := secrets || jsonb_build_object('basic', jsonb_build_object('secret', client.client_secret_name,
			'user', tokenbill.percent_encode(client.client_id)));
	END IF;
	RETURN ROW(oauth_call.purpose, client.provider, oauth_call.lease, 'POST', oauth_call.url, headers, filled, NULL, NULL, NULL, NULL, secrets)::tokenbill.http_call;
END
$function$;
COMMENT ON FUNCTION tokenbill.oauth_call(tokenbill.oauth_client, text, bigint, text, jsonb, jsonb) IS 'Internal: a request to an endpoint of an authorization server, for the worker to make';

/*
 * What an answer of one says.  An error member counts whatever the status is: some
 * send it with 200.  Descriptions are for people and never decide anything.
 */
CREATE FUNCTION tokenbill.read_oauth_answer(status integer, body bytea, error text, OUT document jsonb, OUT code text, OUT problem text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	said text;
BEGIN
	IF read_oauth_answer.status IS NULL THEN
		problem := coalesce(tokenbill.short_text(read_oauth_answer.error), 'there was no answer');
		RETURN;
	END IF;
	SELECT a.document, a.problem INTO document, problem FROM tokenbill.parse_answer(read_oauth_answer.body) a;
	IF document ->> 'error' ~ '^[a-z][a-z0-9_]{0,59}$' THEN
		code := document ->> 'error';
	END IF;
	said := tokenbill.short_text(document ->> 'error_description');
	IF code IS NOT NULL THEN
		problem := concat('HTTP ', read_oauth_answer.status, ' ', code, ': ' || said);
	ELSIF document ? 'error' OR read_oauth_answer.status NOT BETWEEN 200 AND 299 THEN
		problem := concat('HTTP ', read_oauth_answer.status, ': ' || coalesce(said, problem, document ->> '_problem'));
	ELSE
		problem := coalesce(problem, document ->> '_problem');
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.read_oauth_answer(integer, bytea, text) IS 'Internal: what of an authorization server''s answer is no secret, its error code, and what is wrong in words; problem null: nothing is';

/* A number of seconds in an answer: also as text, for some send it so.  Zero is taken as not told. */
CREATE FUNCTION tokenbill.read_seconds(document jsonb, VARIADIC names text[]) RETURNS interval
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	found text;
BEGIN
	SELECT d.value INTO found
	FROM unnest(read_seconds.names) WITH ORDINALITY n (name, place)
	CROSS JOIN LATERAL (SELECT read_seconds.document ->> n.name AS value) d
	WHERE d.value ~ '^[0-9]{1,9}(\.[0-9]{1,9})?$' AND d.value::numeric >= 1
	ORDER BY n.place LIMIT 1;
	RETURN make_interval(secs => trunc(found::numeric)::float8);
END
$function$;
COMMENT ON FUNCTION tokenbill.read_seconds(jsonb, text[]) IS 'Internal: the first of these members that is a number of seconds, one at least; null: none is';

CREATE VIEW tokenbill.oauth_clients WITH (security_barrier) AS
SELECT c.provider, c.grant_type, c.token_url, c.device_url, c.client_id, c.client_auth, c.client_secret_name, c.scope, c.params,
	c.alg, c.signing_key_name, c.key_id, c.claims, c.header, c.ttl, c.leeway, c.clock_offset, c.created_at, c.updated_at
FROM tokenbill.oauth_client c
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.oauth_clients IS 'How the access tokens of providers are come by; none for a tenant';
COMMENT ON COLUMN tokenbill.oauth_clients.provider IS 'Name of the provider, or of whatever uses the token';
COMMENT ON COLUMN tokenbill.oauth_clients.grant_type IS 'device_code, client_credentials, jwt_bearer or signed';
COMMENT ON COLUMN tokenbill.oauth_clients.token_url IS 'The token endpoint; null: nobody is asked';
COMMENT ON COLUMN tokenbill.oauth_clients.device_url IS 'The device authorization endpoint; null: of another grant type';
COMMENT ON COLUMN tokenbill.oauth_clients.client_id IS 'Under which name the authorization server knows us';
COMMENT ON COLUMN tokenbill.oauth_clients.client_auth IS 'How we prove to be that client: none, post, basic or private_key_jwt';
COMMENT ON COLUMN tokenbill.oauth_clients.client_secret_name IS 'Name of the secret with the client secret; null: it has none';
COMMENT ON COLUMN tokenbill.oauth_clients.scope IS 'What is asked for; null: whatever the server gives';
COMMENT ON COLUMN tokenbill.oauth_clients.params IS 'Further parameters of the requests';
COMMENT ON COLUMN tokenbill.oauth_clients.alg IS 'How JWTs are signed: HS256, RS256 or ES256; null: none is';
COMMENT ON COLUMN tokenbill.oauth_clients.signing_key_name IS 'Name of the secret with the key they are signed with';
COMMENT ON COLUMN tokenbill.oauth_clients.key_id IS 'Header kid of the JWT; null: none';
COMMENT ON COLUMN tokenbill.oauth_clients.claims IS 'Claims of the JWT that go before those it has by itself; null takes one away';
COMMENT ON COLUMN tokenbill.oauth_clients.header IS 'Further headers of the JWT';
COMMENT ON COLUMN tokenbill.oauth_clients.ttl IS 'From iat to exp of a JWT';
COMMENT ON COLUMN tokenbill.oauth_clients.leeway IS 'By how much iat is in the past, for servers whose clock is behind';
COMMENT ON COLUMN tokenbill.oauth_clients.clock_offset IS 'By how much the server''s clock is ahead of ours, by what it has said';
COMMENT ON COLUMN tokenbill.oauth_clients.created_at IS 'When it was added';
COMMENT ON COLUMN tokenbill.oauth_clients.updated_at IS 'When its settings last changed';
