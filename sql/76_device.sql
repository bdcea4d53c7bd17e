/*
 * Device grants (RFC 8628): somebody allows us in a browser, elsewhere, to act for
 * an account; we are told so when we ask for long enough.
 *
 *              +--> denied     refused, by whoever was asked or by the server
 *   pending ---+--> expired    nobody did anything in time
 *              +--> authorized ---> expired
 *                                  its refresh token is not good any more, or
 *                                  another grant has taken its place
 *
 * A grant is pending from oauth_device_begin() on.  At first it has no user code,
 * for only the server can make one, and nobody is asked within a transaction: the
 * worker asks once it is committed.  Then it polls, until the state is another.
 *
 * Of each provider at most one is pending and one authorized.  The token of an
 * authorized one stays in use while another is pending.
 */
CREATE SEQUENCE tokenbill.device_grant_number;
COMMENT ON SEQUENCE tokenbill.device_grant_number IS 'Numbers of device grants';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.device_grant_number', '');

CREATE TABLE tokenbill.device_grant (
	id bigint NOT NULL DEFAULT pg_catalog.nextval('tokenbill.device_grant_number') PRIMARY KEY,
	provider text COLLATE "C" NOT NULL,
	state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'authorized', 'denied', 'expired')),
	user_code text,
	verification_uri text,
	verification_uri_complete text,
	poll_every interval NOT NULL DEFAULT '5 seconds',
	expires_at timestamptz NOT NULL,
	next_at timestamptz,
	lease bigint,
	lease_until timestamptz,
	claimed_at timestamptz,
	polls integer NOT NULL DEFAULT 0,
	failures integer NOT NULL DEFAULT 0,
	status integer,
	error text,
	created_at timestamptz NOT NULL,
	authorized_at timestamptz,
	ended_at timestamptz,
	updated_at timestamptz NOT NULL,
	CHECK ((state = 'pending') = (next_at IS NOT NULL)),
	CHECK ((lease IS NULL) = (lease_until IS NULL)),
	CHECK ((user_code IS NULL) = (verification_uri IS NULL))
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX device_grant_pending_idx ON tokenbill.device_grant (provider) WHERE state = 'pending';
CREATE UNIQUE INDEX device_grant_authorized_idx ON tokenbill.device_grant (provider) WHERE state = 'authorized';
COMMENT ON TABLE tokenbill.device_grant IS 'Device grants: one row a login, kept for 90 days after its end';
COMMENT ON COLUMN tokenbill.device_grant.id IS 'Its number';
COMMENT ON COLUMN tokenbill.device_grant.provider IS 'Name of the provider';
COMMENT ON COLUMN tokenbill.device_grant.state IS 'pending, authorized, denied or expired';
COMMENT ON COLUMN tokenbill.device_grant.user_code IS 'What is to be typed in at verification_uri; null: the server has not been asked yet';
COMMENT ON COLUMN tokenbill.device_grant.verification_uri IS 'Where it is to be typed in';
COMMENT ON COLUMN tokenbill.device_grant.verification_uri_complete IS 'The same address with the code in it; null: the server has none';
COMMENT ON COLUMN tokenbill.device_grant.poll_every IS 'How long the worker waits between two questions, at least';
COMMENT ON COLUMN tokenbill.device_grant.expires_at IS 'Until when it can be allowed';
COMMENT ON COLUMN tokenbill.device_grant.next_at IS 'When the server is asked next; null: it is not pending';
COMMENT ON COLUMN tokenbill.device_grant.lease IS 'Number of the claim under which it is being asked; null: it is not';
COMMENT ON COLUMN tokenbill.device_grant.lease_until IS 'Until when the answer is waited for';
COMMENT ON COLUMN tokenbill.device_grant.claimed_at IS 'When it was claimed last: lifetimes in the answer count from there';
COMMENT ON COLUMN tokenbill.device_grant.polls IS 'How often the server was asked whether it is allowed';
COMMENT ON COLUMN tokenbill.device_grant.failures IS 'How often in a row it gave no answer that could be understood';
COMMENT ON COLUMN tokenbill.device_grant.status IS 'HTTP status of the last answer; null: there was none';
COMMENT ON COLUMN tokenbill.device_grant.error IS 'What went wrong last, or why it has ended';
COMMENT ON COLUMN tokenbill.device_grant.created_at IS 'When it was begun';
COMMENT ON COLUMN tokenbill.device_grant.authorized_at IS 'When the token came; null: it has not';
COMMENT ON COLUMN tokenbill.device_grant.ended_at IS 'When it was denied or expired; null: it is neither';
COMMENT ON COLUMN tokenbill.device_grant.updated_at IS 'When the row last changed';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.device_grant', '');

CREATE TRIGGER only_moves BEFORE UPDATE OF state ON tokenbill.device_grant
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
EXECUTE FUNCTION tokenbill.only_moves('id,provider', 'pending>authorized', 'pending>denied', 'pending>expired', 'authorized>expired');

CREATE VIEW tokenbill.device_grants WITH (security_barrier) AS
SELECT g.id, g.provider, g.state, g.user_code, g.verification_uri, g.verification_uri_complete, g.expires_at, g.poll_every,
	g.next_at, g.polls, g.failures, g.status AS http_status, g.error, g.created_at, g.authorized_at, g.ended_at
FROM tokenbill.device_grant g
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.device_grants IS 'Logins by device flow, and what is to be typed in where; none for a tenant';
COMMENT ON COLUMN tokenbill.device_grants.id IS 'Its number';
COMMENT ON COLUMN tokenbill.device_grants.provider IS 'Name of the provider';
COMMENT ON COLUMN tokenbill.device_grants.state IS 'pending, authorized, denied or expired';
COMMENT ON COLUMN tokenbill.device_grants.user_code IS 'What is to be typed in at verification_uri; null: the server has not been asked yet';
COMMENT ON COLUMN tokenbill.device_grants.verification_uri IS 'Where it is to be typed in';
COMMENT ON COLUMN tokenbill.device_grants.verification_uri_complete IS 'The same address with the code in it; null: the server has none';
COMMENT ON COLUMN tokenbill.device_grants.expires_at IS 'Until when it can be allowed';
COMMENT ON COLUMN tokenbill.device_grants.poll_every IS 'How long the worker waits between two questions, at least';
COMMENT ON COLUMN tokenbill.device_grants.next_at IS 'When the server is asked next; null: it is not pending';
COMMENT ON COLUMN tokenbill.device_grants.polls IS 'How often the server was asked whether it is allowed';
COMMENT ON COLUMN tokenbill.device_grants.failures IS 'How often in a row it gave no answer that could be understood';
COMMENT ON COLUMN tokenbill.device_grants.http_status IS 'HTTP status of the last answer; null: there was none';
COMMENT ON COLUMN tokenbill.device_grants.error IS 'What went wrong last, or why it has ended';
COMMENT ON COLUMN tokenbill.device_grants.created_at IS 'When it was begun';
COMMENT ON COLUMN tokenbill.device_grants.authorized_at IS 'When the token came; null: it has not';
COMMENT ON COLUMN tokenbill.device_grants.ended_at IS 'When it was denied or expired; null: it is neither';

/*
 * The end of a grant, wherever it was.  A device code is that of the pending one, so
 * it stays where the end is that of an authorized one: another may be pending.
 */
CREATE FUNCTION tokenbill.end_device_grant(id bigint, state text, problem text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	g tokenbill.device_grant;
BEGIN
	UPDATE tokenbill.device_grant x
	SET state = end_device_grant.state, next_at = NULL, lease = NULL, lease_until = NULL, error = end_device_grant.problem, ended_at = now, updated_at = now
	WHERE x.id = end_device_grant.id AND x.state IN ('pending', 'authorized')
	RETURNING x.* INTO g;
	IF FOUND AND g.authorized_at IS NULL THEN
		PERFORM tokenbill.forget_token_secrets(g.provider, ARRAY['device']);
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.end_device_grant(bigint, text, text) IS 'Internal: a device grant that is denied or expired, and why; the device code of one that was pending is forgotten';

/*
 * Race: two begin at once.  The second waits for the client's row, and then finds
 * the grant of the first.
 */
CREATE FUNCTION tokenbill.oauth_device_begin(provider text, restart boolean DEFAULT false) RETURNS tokenbill.device_grants
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	client tokenbill.oauth_client;
	pending bigint;
	result tokenbill.device_grants;
BEGIN
	PERFORM tokenbill.check_provider(oauth_device_begin.provider);
	IF oauth_device_begin.restart IS NULL THEN
		PERFORM tokenbill.refuse('22004', 'restart must not be null', '{"argument": "restart"}', 'Pass true or false.');
	END IF;
	SELECT c.* INTO client FROM tokenbill.oauth_client c WHERE c.provider = oauth_device_begin.provider FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_oauth_client(oauth_device_begin.provider);
	END IF;
	IF client.grant_type <> 'device_code' THEN
		PERFORM tokenbill.refuse('PT409', format('provider "%s" gets its token without anybody''s help', client.provider),
			jsonb_build_object('provider', client.provider, 'grant_type', client.grant_type), 'Nobody has to allow it: tokenbill.access_tokens shows the token.');
	END IF;
	SELECT g.id INTO pending FROM tokenbill.device_grant g WHERE g.provider = client.provider AND g.state = 'pending' FOR NO KEY UPDATE;
	IF FOUND AND (oauth_device_begin.restart OR EXISTS (SELECT FROM tokenbill.device_grant g WHERE g.id = pending AND g.expires_at <= now)) THEN
		PERFORM tokenbill.end_device_grant(pending, 'expired', CASE WHEN oauth_device_begin.restart THEN 'another one was begun' ELSE 'nobody allowed it in time' END);
		pending := NULL;
	END IF;
	IF pending IS NULL THEN
		DELETE FROM tokenbill.device_grant g WHERE g.provider = client.provider AND g.ended_at < now - interval '90 days';
		/* whoever began it does not wait for longer than that for a server that cannot be reached */
		INSERT INTO tokenbill.device_grant AS g (provider, expires_at, next_at, created_at, updated_at)
		VALUES (client.provider, now + interval '15 minutes', now, now, now)
		RETURNING g.id INTO pending;
		PERFORM tokenbill.wake_worker();
	END IF;
	SELECT d.* INTO result FROM tokenbill.device_grants d WHERE d.id = pending;
	RETURN result;
END
$function$;
COMMENT ON FUNCTION tokenbill.oauth_device_begin(text, boolean) IS
'Begins a login by device flow and returns its row, or the one that is pending already; the worker gets the user code as soon as it is committed, so ask again, or CALL oauth_device_login(). restart: a pending one is given up. Errors: PT404, PT409 of another grant type, 42501 a tenant asks, 22xxx';

CREATE PROCEDURE tokenbill.oauth_device_login(provider text, wait interval DEFAULT '30 seconds',
	INOUT user_code text DEFAULT NULL, INOUT verification_uri text DEFAULT NULL, INOUT verification_uri_complete text DEFAULT NULL,
	INOUT expires_at timestamptz DEFAULT NULL, INOUT state text DEFAULT NULL, INOUT error text DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'tokenbill_oauth_device_login';
COMMENT ON PROCEDURE tokenbill.oauth_device_login(text, interval, text, text, text, timestamptz, text, text) IS
'oauth_device_begin(), COMMIT, and the user code, once the worker has it; no transaction waits. Errors: as that, 2D000 within a transaction, 57014 no code within wait';

/* ---- the worker's part */

CREATE FUNCTION tokenbill.claim_devices(max integer) RETURNS SETOF tokenbill.http_call
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	g tokenbill.device_grant;
	client tokenbill.oauth_client;
	call tokenbill.http_call;
	number bigint;
BEGIN
	FOR g IN
		SELECT x.* FROM tokenbill.device_grant x
		WHERE x.state = 'pending' AND least(x.next_at, x.expires_at) <= now AND (x.lease IS NULL OR x.lease_until <= now)
		ORDER BY x.next_at, x.id LIMIT claim_devices.max
		FOR UPDATE SKIP LOCKED
	LOOP
		SELECT c.* INTO client FROM tokenbill.oauth_client c WHERE c.provider = g.provider;
		CONTINUE WHEN NOT FOUND;
		IF g.expires_at <= now THEN
			PERFORM tokenbill.end_device_grant(g.id, 'expired', concat('nobody allowed it in time', '; last: ' || g.error));
			CONTINUE;
		END IF;
		number := nextval('tokenbill.call_lease');
		IF g.user_code IS NULL THEN
			call := tokenbill.oauth_call(client, 'device', number, client.device_url, jsonb_build_object('scope', client.scope), '{}');
			/* RFC 8628, 3.1: the server may not want to know who asks, but wants the name */
			IF client.client_auth IN ('basic', 'private_key_jwt') THEN
				call.body := concat_ws('&', 'client_id=' || tokenbill.percent_encode(client.client_id), call.body);
			END IF;
		ELSE
			call := tokenbill.oauth_call(client, 'device', number, client.token_url, '{"grant_type": "urn:ietf:params:oauth:grant-type:device_code"}',
				jsonb_build_object('device_code', jsonb_build_object('secret', tokenbill.token_secret(g.provider, 'device'))));
		END IF;
		UPDATE tokenbill.device_grant x
		SET lease = number, lease_until = tokenbill.lease_end(), claimed_at = now, polls = x.polls + (g.user_code IS NOT NULL)::integer, updated_at = now
		WHERE x.id = g.id;
		RETURN NEXT call;
	END LOOP;
END
$function$;
COMMENT ON FUNCTION tokenbill.claim_devices(integer) IS
'Internal: takes on device grants whose server is to be asked now, at most max, and returns the requests to make; ends those whose time is over';

/*
 * What came of a request.  authorization_pending: again after poll_every; slow_down:
 * that is five seconds longer from now on, or as long as the answer says; nothing
 * that can be understood: twice as long for each time in a row (RFC 8628, 3.5).
 * Whatever else the server says by a code of its own is its last word.
 */
CREATE FUNCTION tokenbill.record_device(target text, lease bigint, status integer, headers jsonb, body bytea, error text, error_kind text, secrets jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	g tokenbill.device_grant;
	client tokenbill.oauth_client;
	said record;
	problem text;
	uri text;
	told interval;
	again interval;
BEGIN
	SELECT x.* INTO g FROM tokenbill.device_grant x
	WHERE x.provider = record_device.target AND x.lease = record_device.lease AND x.state = 'pending' FOR UPDATE;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	SELECT c.* INTO client FROM tokenbill.oauth_client c WHERE c.provider = g.provider;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	SELECT * INTO said FROM tokenbill.read_oauth_answer(record_device.status, record_device.body, record_device.error);
	problem := said.problem;
	told := tokenbill.read_seconds(said.document, 'interval');

	IF problem IS NULL AND g.user_code IS NULL THEN
		uri := coalesce(said.document ->> 'verification_uri', said.document ->> 'verification_url');
		/* people are sent there: nothing may be in it that is no address */
		problem := CASE
			WHEN NOT coalesce(record_device.secrets ? 'device_code', false) THEN 'the answer has no device_code'
			WHEN coalesce(said.document ->> 'user_code', '') !~ '^[!-~]([ -~]{0,98}[!-~])?$' THEN 'the answer has no user_code'
			WHEN coalesce(uri, '') !~ '^https?://[!-~]+$' OR length(uri) > 2000 THEN 'the answer has no verification_uri' END;
		IF problem IS NULL THEN
			PERFORM tokenbill.put_sealed_secret(tokenbill.token_secret(g.provider, 'device'), record_device.secrets -> 'device_code');
			UPDATE tokenbill.device_grant x
			SET user_code = said.document ->> 'user_code', verification_uri = uri,
				verification_uri_complete = CASE WHEN said.document ->> 'verification_uri_complete' ~ '^https?://[!-~]+$'
					AND length(said.document ->> 'verification_uri_complete') <= 2000 THEN said.document ->> 'verification_uri_complete' END,
				poll_every = coalesce(told, x.poll_every),
				/* a server that does not say for how long it waits is not asked for ever */
				expires_at = g.claimed_at + least(coalesce(tokenbill.read_seconds(said.document, 'expires_in'), '15 minutes'), '1 day'),
				next_at = now + coalesce(told, x.poll_every),
				lease = NULL, lease_until = NULL, failures = 0, status = record_device.status, error = NULL, updated_at = now
			WHERE x.id = g.id;
			RETURN;
		END IF;
	ELSIF problem IS NULL THEN
		problem := tokenbill.missing_in_token(said.document, record_device.secrets);
		IF problem IS NULL THEN
			PERFORM tokenbill.end_device_grant(x.id, 'expired', 'another one was authorized')
			FROM tokenbill.device_grant x WHERE x.provider = g.provider AND x.state = 'authorized';
			UPDATE tokenbill.device_grant x
			SET state = 'authorized', next_at = NULL, lease = NULL, lease_until = NULL, failures = 0, status = record_device.status, error = NULL,
				authorized_at = now, updated_at = now
			WHERE x.id = g.id;
			PERFORM tokenbill.forget_token_secrets(g.provider, ARRAY['device']);
			PERFORM tokenbill.store_token(client, g.id, g.claimed_at, said.document, record_device.secrets, record_device.status);
			RETURN;
		END IF;
	END IF;

	/* the grant goes on, or it does not */
	UPDATE tokenbill.device_grant x SET status = record_device.status WHERE x.id = g.id;
	IF said.code IN ('authorization_pending', 'slow_down') AND g.user_code IS NOT NULL THEN
		IF said.code = 'slow_down' THEN
			g.poll_every := greatest(g.poll_every + interval '5 seconds', told);
		END IF;
		UPDATE tokenbill.device_grant x
		SET poll_every = g.poll_every, next_at = now + g.poll_every, lease = NULL, lease_until = NULL, failures = 0, error = NULL, updated_at = now
		WHERE x.id = g.id;
	ELSIF said.code IS NULL OR said.code IN ('server_error', 'temporarily_unavailable', 'slow_down', 'authorization_pending') THEN
		g.failures := g.failures + 1;
		again := greatest(tokenbill.backoff(g.poll_every, g.failures, '5 minutes'), g.poll_every,
			tokenbill.capped_retry_after(record_device.headers, record_device.status));
		UPDATE tokenbill.device_grant x
		SET next_at = now + again, lease = NULL, lease_until = NULL, failures = g.failures, error = problem, updated_at = now
		WHERE x.id = g.id;
		IF record_device.error_kind IN ('secret', 'library') THEN
			PERFORM tokenbill.record_worker_error('device grant', g.provider, '55000',
				format('provider "%s" cannot be logged in to: %s', g.provider, problem), jsonb_build_object('provider', g.provider)::text,
				'It is tried again until it expires.');
		END IF;
	ELSE
		/* invalid_grant is a device code that is not good, or was; all others say that we may not */
		PERFORM tokenbill.end_device_grant(g.id, CASE WHEN said.code IN ('expired_token', 'invalid_grant') THEN 'expired' ELSE 'denied' END, problem);
		IF said.code NOT IN ('access_denied', 'expired_token') THEN
			PERFORM tokenbill.record_worker_error('device grant', g.provider, '28000',
				format('provider "%s" refuses the login: %s', g.provider, problem), jsonb_build_object('provider', g.provider, 'code', said.code)::text,
				'Look at tokenbill.oauth_clients, then begin another with tokenbill.oauth_device_begin().');
		END IF;
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.record_device(text, bigint, integer, jsonb, bytea, text, text, jsonb) IS
'Internal: takes in what came of a request of claim_devices(): body has no secret in it, they are in secrets, encrypted';

CREATE FUNCTION tokenbill.next_device_due() RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN (SELECT min(greatest(least(g.next_at, g.expires_at), g.lease_until)) FROM tokenbill.device_grant g WHERE g.state = 'pending');
END
$function$;
COMMENT ON FUNCTION tokenbill.next_device_due() IS 'Internal: when claim_devices() has something to do next; null: never';

CREATE FUNCTION tokenbill.release_devices(ended_badly boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	/* as in release_tokens() */
	UPDATE tokenbill.device_grant g
	SET lease = NULL, lease_until = NULL, failures = g.failures + release_devices.ended_badly::integer,
		next_at = CASE WHEN release_devices.ended_badly THEN tokenbill.clock() + tokenbill.token_delay(g.failures + 1, NULL) ELSE g.next_at END,
		updated_at = tokenbill.clock()
	WHERE g.state = 'pending' AND g.lease IS NOT NULL;
END
$function$;
COMMENT ON FUNCTION tokenbill.release_devices(boolean) IS 'Internal: frees what a worker that is no more has taken on; ended_badly: an answer may be what ended it, so it waits for a while';
