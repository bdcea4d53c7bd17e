/*
 * Access tokens: one a provider, had before it is needed and renewed a minute
 * before it expires.
 *
 * As with checks, everything is decided here and nothing is asked within a
 * transaction: claim_tokens() says which requests are to be made, the worker makes
 * them, and record_token() is told what came of each.  A claim is a lease in the
 * row.  Nobody else takes a row on while it has one, so no refresh token is sent
 * twice, which would end its whole family (RFC 9700, 4.14.2); and an answer under
 * another lease than the row has is not looked at.
 *
 * A token that is being renewed stays in use until there is another.
 */
CREATE TABLE tokenbill.access_token (
	provider text COLLATE "C" NOT NULL PRIMARY KEY,
	device_grant bigint,
	token_type text,
	scope text,
	obtained_at timestamptz,
	expires_at timestamptz,
	refreshable boolean NOT NULL DEFAULT false,
	refresh_expires_at timestamptz,
	next_at timestamptz,
	lease bigint,
	lease_until timestamptz,
	claimed_at timestamptz,
	failures integer NOT NULL DEFAULT 0,
	status integer,
	error text,
	renewals bigint NOT NULL DEFAULT 0,
	updated_at timestamptz NOT NULL,
	CHECK ((lease IS NULL) = (lease_until IS NULL)),
	CHECK (expires_at IS NULL OR obtained_at IS NOT NULL)
) WITH (fillfactor = 50);
COMMENT ON TABLE tokenbill.access_token IS 'What is known of the access tokens of providers, and when each is renewed; the tokens are secrets';
COMMENT ON COLUMN tokenbill.access_token.provider IS 'Name of the provider';
COMMENT ON COLUMN tokenbill.access_token.device_grant IS 'The device grant that it comes from; null: it comes from none';
COMMENT ON COLUMN tokenbill.access_token.token_type IS 'What kind of token it is, as the server calls it: Bearer';
COMMENT ON COLUMN tokenbill.access_token.scope IS 'What it is good for, if the server said';
COMMENT ON COLUMN tokenbill.access_token.obtained_at IS 'When it came; null: there is none yet';
COMMENT ON COLUMN tokenbill.access_token.expires_at IS 'Until when it is good; null: nobody said';
COMMENT ON COLUMN tokenbill.access_token.refreshable IS 'Whether there is a refresh token';
COMMENT ON COLUMN tokenbill.access_token.refresh_expires_at IS 'Until when that is good; null: nobody said';
COMMENT ON COLUMN tokenbill.access_token.next_at IS 'When it is renewed; null: it is not';
COMMENT ON COLUMN tokenbill.access_token.lease IS 'Number of the claim under which it is being renewed; null: it is not';
COMMENT ON COLUMN tokenbill.access_token.lease_until IS 'Until when the answer is waited for';
COMMENT ON COLUMN tokenbill.access_token.claimed_at IS 'When it was claimed last: lifetimes in the answer count from there';
COMMENT ON COLUMN tokenbill.access_token.failures IS 'How often in a row renewing it failed';
COMMENT ON COLUMN tokenbill.access_token.status IS 'HTTP status of the last answer; null: there was none';
COMMENT ON COLUMN tokenbill.access_token.error IS 'Why it could not be renewed; null: it could';
COMMENT ON COLUMN tokenbill.access_token.renewals IS 'How many tokens there have been';
COMMENT ON COLUMN tokenbill.access_token.updated_at IS 'When the row last changed';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.access_token', '');

/* ---- secrets */

/* A ciphertext that the worker has made, into the row of its name. */
CREATE FUNCTION tokenbill.put_sealed_secret(name text, sealed jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
	/* the version is the lease: each is greater than the one before */
	INSERT INTO tokenbill.secret AS s (name, version, layout, key_id, key_nonce, wrapped_key, value_nonce, ciphertext, created_at, updated_at)
	VALUES (put_sealed_secret.name, (put_sealed_secret.sealed ->> 'version')::bigint, (put_sealed_secret.sealed ->> 'layout')::integer, put_sealed_secret.sealed ->> 'key_id',
		decode(put_sealed_secret.sealed ->> 'key_nonce', 'hex'), decode(put_sealed_secret.sealed ->> 'wrapped_key', 'hex'),
		decode(put_sealed_secret.sealed ->> 'value_nonce', 'hex'), decode(put_sealed_secret.sealed ->> 'ciphertext', 'hex'),
		tokenbill.clock(), tokenbill.clock())
	ON CONFLICT ON CONSTRAINT secret_pkey DO UPDATE
	SET version = excluded.version, layout = excluded.layout, key_id = excluded.key_id, key_nonce = excluded.key_nonce, wrapped_key = excluded.wrapped_key,
		value_nonce = excluded.value_nonce, ciphertext = excluded.ciphertext, updated_at = excluded.updated_at;
END
$function$;
COMMENT ON FUNCTION tokenbill.put_sealed_secret(text, jsonb) IS 'Internal: stores what the worker has encrypted, under the name that it is bound to';

CREATE FUNCTION tokenbill.forget_token_secrets(provider text, kinds text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	DELETE FROM tokenbill.secret s
	USING unnest(forget_token_secrets.kinds) k (kind)
	WHERE s.name = tokenbill.token_secret(forget_token_secrets.provider, k.kind);
END
$function$;
COMMENT ON FUNCTION tokenbill.forget_token_secrets(text, text[]) IS 'Internal: deletes tokens of a provider: null the access token, refresh, device';

/* ---- times */

/* A minute before it expires; of one that does not live two, at half of its time. */
CREATE FUNCTION tokenbill.renewal_at(since timestamptz, expires_at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN greatest(renewal_at.expires_at - interval '1 minute', renewal_at.since + (renewal_at.expires_at - renewal_at.since) / 2);
END
$function$;
COMMENT ON FUNCTION tokenbill.renewal_at(timestamptz, timestamptz) IS 'Internal: when a token of this lifetime is to be renewed; null: it does not expire';

/* From two seconds on, twice as long each time, up to five minutes; half as long again at most, by chance.  Not before the server asked, though. */
CREATE FUNCTION tokenbill.token_delay(failures integer, asked interval) RETURNS interval
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN greatest(tokenbill.backoff('1 second', token_delay.failures, '5 minutes') * (1 + random() / 2), token_delay.asked);
END
$function$;
COMMENT ON FUNCTION tokenbill.token_delay(integer, interval) IS 'Internal: how long to wait after so many failures in a row; as long as the server asked, at least';

/*
 * By how much the server's clock is ahead of ours, by the Date header of its
 * answer: null if it says nothing, or is more than a day away, which is no skew.
 */
CREATE FUNCTION tokenbill.clock_offset(headers jsonb) RETURNS interval
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
DECLARE
	said text := clock_offset.headers ->> 'date';
	ahead interval;
BEGIN
	/* RFC 9110, 5.6.7: IMF-fixdate */
	IF said ~ '^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-5][0-9] GMT$' THEN
		ahead := to_timestamp(substring(said FROM 6 FOR 20), 'DD Mon YYYY HH24:MI:SS') - tokenbill.clock();
	END IF;
	RETURN CASE WHEN ahead BETWEEN interval '-1 day' AND interval '1 day' THEN make_interval(secs => trunc(extract(epoch FROM ahead))::float8) END;
EXCEPTION WHEN data_exception THEN
	/* the 31st of February */
	RETURN NULL;
END
$function$;
COMMENT ON FUNCTION tokenbill.clock_offset(jsonb) IS 'Internal: by how much the clock of whoever sent these headers is ahead of ours; null: it did not say, or nothing credible';

/* A clock that is off by less than what iat is back-dated by does no harm, and the offset stays as it is. */
CREATE FUNCTION tokenbill.note_clock_offset(provider text, headers jsonb) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	ahead interval := tokenbill.clock_offset(note_clock_offset.headers);
BEGIN
	UPDATE tokenbill.oauth_client c SET clock_offset = ahead
	WHERE c.provider = note_clock_offset.provider AND c.alg IS NOT NULL
		AND greatest(ahead - c.clock_offset, c.clock_offset - ahead) > greatest(c.leeway, interval '5 seconds');
	RETURN FOUND;
END
$function$;
COMMENT ON FUNCTION tokenbill.note_clock_offset(text, jsonb) IS 'Internal: takes in what a server''s clock says, for the JWTs that are signed for it; returns whether they change';

/* ---- who has to know */

/*
 * What somebody has to renew by hand, and when: a row of credential_expiry, which
 * the alert credential_expiring looks at.  What the worker renews is none of that.
 */
CREATE FUNCTION tokenbill.note_credential(provider text, expires_at timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
	IF note_credential.expires_at IS NULL THEN
		DELETE FROM tokenbill.credential_expiry e WHERE e.credential = tokenbill.token_secret(note_credential.provider);
	ELSE
		INSERT INTO tokenbill.credential_expiry AS e (credential, expires_at, updated_at)
		VALUES (tokenbill.token_secret(note_credential.provider), note_credential.expires_at, tokenbill.clock())
		ON CONFLICT ON CONSTRAINT credential_expiry_pkey DO UPDATE SET expires_at = excluded.expires_at, updated_at = excluded.updated_at
		WHERE e.expires_at <> excluded.expires_at;
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.note_credential(text, timestamptz) IS 'Internal: until when a provider''s tokens go on without somebody doing something; null: for good';

/*
 * Those who waited for a token are asked at once: whose check said that there is
 * none, or was refused with the last one.  Whoever is being changed now is left
 * out, for he is asked afterwards anyway.
 */
CREATE FUNCTION tokenbill.ask_with_token(provider text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	waiting text;
BEGIN
	FOR waiting IN
		SELECT p.provider FROM tokenbill.provider p
		WHERE p.secret = tokenbill.token_secret(ask_with_token.provider)
		ORDER BY p.provider FOR NO KEY UPDATE SKIP LOCKED
	LOOP
		UPDATE tokenbill.provider_check c SET next_at = now, updated_at = now
		WHERE c.provider = waiting AND c.lease IS NULL AND c.next_at > now AND c.error IS NOT NULL AND (c.status IS NULL OR c.status = 401);
	END LOOP;
END
$function$;
COMMENT ON FUNCTION tokenbill.ask_with_token(text) IS 'Internal: has the providers asked that wait for this token';

CREATE FUNCTION tokenbill.token_problem(secret text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN (SELECT CASE
			WHEN t.obtained_at IS NULL THEN concat('there is no access token yet', ': ' || coalesce(t.error, g.error,
				CASE c.grant_type WHEN 'device_code' THEN 'somebody has to allow it, see tokenbill.oauth_device_begin()' END))
			WHEN t.expires_at <= tokenbill.clock() THEN concat('the access token has expired', ': ' || t.error) END
		FROM tokenbill.oauth_client c
		LEFT JOIN tokenbill.access_token t ON t.provider = c.provider
		LEFT JOIN LATERAL (SELECT d.error FROM tokenbill.device_grant d WHERE d.provider = c.provider ORDER BY d.id DESC LIMIT 1) g ON true
		WHERE token_problem.secret = tokenbill.token_secret(c.provider));
END
$function$;
COMMENT ON FUNCTION tokenbill.token_problem(text) IS 'Internal: why nobody can be asked with this secret now; null: somebody can, or it is no token';

/* A check that has to wait for a token ends with the reason. */
CREATE FUNCTION tokenbill.lacks_token(watched tokenbill.provider) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	problem text := tokenbill.token_problem(watched.secret);
BEGIN
	IF problem IS NULL THEN
		RETURN false;
	END IF;
	PERFORM tokenbill.fail_check(watched, problem);
	RETURN true;
END
$function$;
COMMENT ON FUNCTION tokenbill.lacks_token(tokenbill.provider) IS 'Internal: whether the provider is to be asked with a token that there is not; if so its check has ended with the reason';

/* Whoever is asked with it says that it is not good: there may be a reason that we do not know. */
CREATE FUNCTION tokenbill.token_refused(secret text, headers jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	t tokenbill.access_token;
	moved boolean;
BEGIN
	SELECT x.* INTO t FROM tokenbill.access_token x WHERE tokenbill.token_secret(x.provider) = token_refused.secret;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	moved := tokenbill.note_clock_offset(t.provider, token_refused.headers);
	/* one that is a minute old and refused is renewed; a new one that is refused will not be any better the next time */
	UPDATE tokenbill.access_token x SET next_at = now, updated_at = now
	WHERE x.provider = t.provider AND x.lease IS NULL AND x.failures = 0 AND (x.refreshable OR x.device_grant IS NULL)
		AND (x.obtained_at < now - interval '1 minute' OR moved);
END
$function$;
COMMENT ON FUNCTION tokenbill.token_refused(text, jsonb) IS 'Internal: renews a token that a provider has answered 401 to, unless it has just come';

/* ---- obtaining and renewing */

CREATE FUNCTION tokenbill.schedule_token(client tokenbill.oauth_client, was_grant_type text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
BEGIN
	IF client.grant_type <> was_grant_type THEN
		/* what another grant gave is not renewed by this one */
		PERFORM tokenbill.end_device_grant(g.id, 'expired', 'the OAuth client has another grant_type now')
		FROM tokenbill.device_grant g WHERE g.provider = client.provider AND g.state IN ('pending', 'authorized');
		DELETE FROM tokenbill.access_token t WHERE t.provider = client.provider;
		PERFORM tokenbill.forget_token_secrets(client.provider, ARRAY[NULL, 'refresh', 'device']);
		PERFORM tokenbill.note_credential(client.provider, NULL);
	END IF;
	IF client.grant_type = 'device_code' THEN
		UPDATE tokenbill.access_token t SET next_at = now, updated_at = now
		WHERE t.provider = client.provider AND t.refreshable AND t.failures > 0 AND t.lease IS NULL;
	ELSE
		/* the answer to what is under way was asked for by the settings of before */
		INSERT INTO tokenbill.access_token AS t (provider, next_at, updated_at) VALUES (client.provider, now, now)
		ON CONFLICT ON CONSTRAINT access_token_pkey DO UPDATE
		SET next_at = excluded.next_at, lease = NULL, lease_until = NULL, failures = 0, updated_at = excluded.updated_at;
	END IF;
	PERFORM tokenbill.wake_worker();
END
$function$;
COMMENT ON FUNCTION tokenbill.schedule_token(tokenbill.oauth_client, text) IS 'Internal: has the worker obtain the token of a client that was added or changed';

/* The end of an authorized device grant: nobody can use it, or be used by it, any more. */
CREATE FUNCTION tokenbill.end_authorization(provider text, problem text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
BEGIN
	PERFORM tokenbill.end_device_grant(g.id, 'expired', end_authorization.problem)
	FROM tokenbill.device_grant g WHERE g.provider = end_authorization.provider AND g.state = 'authorized';
	UPDATE tokenbill.access_token t
	SET refreshable = false, refresh_expires_at = NULL, next_at = NULL, lease = NULL, lease_until = NULL, expires_at = least(t.expires_at, now),
		error = end_authorization.problem, updated_at = now
	WHERE t.provider = end_authorization.provider;
	PERFORM tokenbill.forget_token_secrets(end_authorization.provider, ARRAY[NULL, 'refresh']);
	PERFORM tokenbill.note_credential(end_authorization.provider, now);
	PERFORM tokenbill.record_worker_error('access token', end_authorization.provider, '28000',
		format('the authorization of provider "%s" has ended: %s', end_authorization.provider, end_authorization.problem),
		jsonb_build_object('provider', end_authorization.provider)::text, 'Somebody has to allow it anew: tokenbill.oauth_device_begin().');
END
$function$;
COMMENT ON FUNCTION tokenbill.end_authorization(text, text) IS 'Internal: authorized to expired, with its tokens, a row of worker_errors and one of credential_expiries';

/* A good answer, also of a device grant: the tokens are stored. */
CREATE FUNCTION tokenbill.store_token(client tokenbill.oauth_client, grant_id bigint, claimed_at timestamptz, document jsonb, secrets jsonb, status integer) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	was tokenbill.access_token;
	t tokenbill.access_token;
	fixed_end boolean;
BEGIN
	SELECT x.* INTO was FROM tokenbill.access_token x WHERE x.provider = client.provider FOR NO KEY UPDATE;
	t.device_grant := store_token.grant_id;
	t.token_type := left(document ->> 'token_type', 30);
	t.scope := coalesce(left(document ->> 'scope', 1000), CASE WHEN was.device_grant IS NOT DISTINCT FROM t.device_grant THEN was.scope END, client.scope);
	/* counted from when it was asked for: by whoever has made it, it is older than by us */
	t.expires_at := store_token.claimed_at + tokenbill.read_seconds(document, 'expires_in');
	IF client.grant_type = 'device_code' THEN
		/* RFC 6749, 6: without a new refresh token the old one stays */
		t.refreshable := secrets ? 'refresh_token' OR coalesce(was.refreshable AND was.device_grant = t.device_grant, false);
		t.refresh_expires_at := store_token.claimed_at + tokenbill.read_seconds(document, 'refresh_token_expires_in', 'refresh_expires_in');
		IF NOT secrets ? 'refresh_token' AND t.refreshable THEN
			t.refresh_expires_at := coalesce(t.refresh_expires_at, was.refresh_expires_at);
		END IF;
	END IF;
	t.refreshable := coalesce(t.refreshable, false);
	PERFORM tokenbill.put_sealed_secret(tokenbill.token_secret(client.provider), secrets -> 'access_token');
	IF secrets ? 'refresh_token' AND client.grant_type = 'device_code' THEN
		PERFORM tokenbill.put_sealed_secret(tokenbill.token_secret(client.provider, 'refresh'), secrets -> 'refresh_token');
	ELSIF NOT t.refreshable THEN
		PERFORM tokenbill.forget_token_secrets(client.provider, ARRAY['refresh']);
	END IF;
	INSERT INTO tokenbill.access_token AS x (provider, device_grant, token_type, scope, obtained_at, expires_at, refreshable, refresh_expires_at,
		next_at, failures, status, error, renewals, updated_at)
	VALUES (client.provider, t.device_grant, t.token_type, t.scope, now, t.expires_at, t.refreshable, t.refresh_expires_at,
		/*
		 * What cannot be renewed is looked at when it expires.  A server whose tokens
		 * live for less than it takes to ask for them is not asked without end.
		 */
		CASE WHEN client.grant_type = 'device_code' AND NOT t.refreshable THEN t.expires_at
			WHEN t.expires_at IS NOT NULL THEN greatest(tokenbill.renewal_at(store_token.claimed_at, t.expires_at), now + interval '5 seconds') END,
		0, store_token.status, NULL, 1, now)
	ON CONFLICT ON CONSTRAINT access_token_pkey DO UPDATE
	SET device_grant = excluded.device_grant, token_type = excluded.token_type, scope = excluded.scope, obtained_at = excluded.obtained_at,
		expires_at = excluded.expires_at, refreshable = excluded.refreshable, refresh_expires_at = excluded.refresh_expires_at,
		next_at = excluded.next_at, lease = NULL, lease_until = NULL, failures = 0, status = excluded.status, error = NULL,
		renewals = x.renewals + 1, updated_at = excluded.updated_at;
	/*
	 * Does somebody have to come back, and when?  A refresh token whose end moves on
	 * with each renewal lives as long as we do; one whose end stays where it was
	 * does not.
	 */
	fixed_end := was.device_grant = t.device_grant AND t.refresh_expires_at <= was.refresh_expires_at + interval '1 minute';
	PERFORM tokenbill.note_credential(client.provider, CASE
		WHEN client.grant_type <> 'device_code' THEN NULL
		WHEN NOT t.refreshable THEN t.expires_at
		WHEN fixed_end THEN t.refresh_expires_at END);
	PERFORM tokenbill.ask_with_token(client.provider);
END
$function$;
COMMENT ON FUNCTION tokenbill.store_token(tokenbill.oauth_client, bigint, timestamptz, jsonb, jsonb, integer) IS
'Internal: takes in the tokens of an answer, and says when they are renewed';

/* What a good answer lacks; null: nothing. */
CREATE FUNCTION tokenbill.missing_in_token(document jsonb, secrets jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN CASE
		WHEN NOT coalesce(missing_in_token.secrets ? 'access_token', false) THEN 'the answer has no access_token'
		/* RFC 6749, 7.1: what is of another type must not be used; some leave the type out */
		WHEN lower(coalesce(missing_in_token.document ->> 'token_type', 'bearer')) <> 'bearer' THEN
			concat('the token is of type ', tokenbill.short_text(missing_in_token.document ->> 'token_type'), ', not Bearer') END;
END
$function$;
COMMENT ON FUNCTION tokenbill.missing_in_token(jsonb, jsonb) IS 'Internal: why there is no token in a good answer; null: there is one';

/*
 * The requests that are to be made now, those due for longest first.  Race: two
 * workers.  The second skips the rows that the first has locked, and later finds
 * their leases; so each refresh token is sent by one of them.
 */
CREATE FUNCTION tokenbill.claim_tokens(max integer) RETURNS SETOF tokenbill.http_call
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	t tokenbill.access_token;
	client tokenbill.oauth_client;
	call tokenbill.http_call;
	number bigint;
	state text;
	message text;
	detail text;
BEGIN
	FOR t IN
		SELECT x.* FROM tokenbill.access_token x
		WHERE x.next_at <= now AND (x.lease IS NULL OR x.lease_until <= now)
		ORDER BY x.next_at, x.provider LIMIT claim_tokens.max
		FOR UPDATE SKIP LOCKED
	LOOP
		SELECT c.* INTO client FROM tokenbill.oauth_client c WHERE c.provider = t.provider;
		CONTINUE WHEN NOT FOUND;
		BEGIN
			IF client.grant_type = 'device_code' AND NOT t.refreshable THEN
				PERFORM tokenbill.end_authorization(t.provider, 'the access token has expired, and there is no refresh token');
				CONTINUE;
			END IF;
			number := nextval('tokenbill.call_lease');
			call := CASE client.grant_type
				WHEN 'device_code' THEN tokenbill.oauth_call(client, 'token', number, client.token_url, '{"grant_type": "refresh_token"}',
					jsonb_build_object('refresh_token', jsonb_build_object('secret', tokenbill.token_secret(t.provider, 'refresh'))))
				WHEN 'client_credentials' THEN tokenbill.oauth_call(client, 'token', number, client.token_url,
					jsonb_build_object('grant_type', 'client_credentials', 'scope', client.scope), '{}')
				WHEN 'jwt_bearer' THEN tokenbill.oauth_call(client, 'token', number, client.token_url,
					jsonb_build_object('grant_type', 'urn:ietf:params:oauth:grant-type:jwt-bearer', 'scope', client.scope),
					jsonb_build_object('assertion', jsonb_build_object('secret', client.signing_key_name, 'jwt', tokenbill.jwt_to_sign(client, client.ttl))))
				/* no address: what is signed is the token */
				ELSE ROW('token', t.provider, number, NULL, NULL, '{}', NULL, NULL, NULL, NULL, NULL,
					jsonb_build_object('access_token', jsonb_build_object('secret', client.signing_key_name, 'jwt', tokenbill.jwt_to_sign(client, client.ttl))))::tokenbill.http_call END;
			UPDATE tokenbill.access_token x SET lease = number, lease_until = tokenbill.lease_end(), claimed_at = now, updated_at = now
			WHERE x.provider = t.provider;
			RETURN NEXT call;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
			PERFORM tokenbill.record_worker_error('access token', t.provider, state, message, detail);
			UPDATE tokenbill.access_token x
			SET lease = NULL, lease_until = NULL, failures = x.failures + 1, error = tokenbill.short_text(message),
				next_at = now + tokenbill.token_delay(x.failures + 1, NULL), updated_at = now
			WHERE x.provider = t.provider;
		END;
	END LOOP;
END
$function$;
COMMENT ON FUNCTION tokenbill.claim_tokens(integer) IS
'Internal: takes on tokens that are to be obtained or renewed now, at most max, and returns the requests to make; ends the authorizations that cannot be renewed';

/*
 * What came of a request.  Only invalid_grant ends an authorization (RFC 6749,
 * 5.2): the refresh token is expired, revoked, or was used before.  Everything else
 * is tried again, the later the more often it has failed.
 */
CREATE FUNCTION tokenbill.record_token(target text, lease bigint, status integer, headers jsonb, body bytea, error text, error_kind text, secrets jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	t tokenbill.access_token;
	client tokenbill.oauth_client;
	said record;
	problem text;
	asked interval;
BEGIN
	SELECT x.* INTO t FROM tokenbill.access_token x WHERE x.provider = record_token.target AND x.lease = record_token.lease FOR UPDATE;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	SELECT c.* INTO client FROM tokenbill.oauth_client c WHERE c.provider = t.provider;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	SELECT * INTO said FROM tokenbill.read_oauth_answer(record_token.status, record_token.body, record_token.error);
	problem := coalesce(said.problem, tokenbill.missing_in_token(said.document, record_token.secrets));
	IF problem IS NULL THEN
		IF client.grant_type = 'signed' THEN
			said.document := jsonb_build_object('token_type', 'Bearer', 'expires_in', trunc(extract(epoch FROM client.ttl - client.leeway)));
		END IF;
		PERFORM tokenbill.store_token(client, t.device_grant, t.claimed_at, said.document, record_token.secrets,
			CASE WHEN client.grant_type <> 'signed' THEN record_token.status END);
		RETURN;
	END IF;

	IF record_token.status IS NOT NULL THEN
		PERFORM tokenbill.note_clock_offset(t.provider, record_token.headers);
		asked := tokenbill.capped_retry_after(record_token.headers, record_token.status);
	END IF;
	IF client.grant_type = 'device_code' AND said.code = 'invalid_grant' THEN
		UPDATE tokenbill.access_token x SET status = record_token.status WHERE x.provider = t.provider;
		PERFORM tokenbill.end_authorization(t.provider, problem);
		RETURN;
	END IF;
	UPDATE tokenbill.access_token x
	SET lease = NULL, lease_until = NULL, failures = x.failures + 1, status = record_token.status, error = problem,
		next_at = now + tokenbill.token_delay(x.failures + 1, asked), updated_at = now
	WHERE x.provider = t.provider
	RETURNING x.* INTO t;
	/* a server that is away for a moment is nobody's business as long as the token is good */
	IF said.code NOT IN ('server_error', 'temporarily_unavailable', 'slow_down') OR record_token.error_kind IN ('secret', 'library')
		OR t.obtained_at IS NULL OR t.expires_at <= now THEN
		PERFORM tokenbill.record_worker_error('access token', t.provider, CASE WHEN said.code IS NULL THEN '58000' ELSE '28000' END,
			format('provider "%s" gets no access token: %s', t.provider, problem), jsonb_build_object('provider', t.provider, 'code', said.code)::text,
			'It is tried again. Look at tokenbill.oauth_clients and the secrets it names; tokenbill.oauth_refresh() has it tried at once.');
	END IF;
	IF client.grant_type <> 'device_code' AND said.code IN ('invalid_client', 'unauthorized_client', 'invalid_grant', 'access_denied') THEN
		PERFORM tokenbill.note_credential(t.provider, coalesce(t.expires_at, now));
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.record_token(text, bigint, integer, jsonb, bytea, text, text, jsonb) IS
'Internal: takes in what came of a request of claim_tokens(): body has no secret in it, they are in secrets, encrypted';

CREATE FUNCTION tokenbill.next_token_due() RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN (SELECT min(greatest(t.next_at, t.lease_until)) FROM tokenbill.access_token t WHERE t.next_at IS NOT NULL);
END
$function$;
COMMENT ON FUNCTION tokenbill.next_token_due() IS 'Internal: when claim_tokens() has something to do next; null: never';

CREATE FUNCTION tokenbill.release_tokens(ended_badly boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	/* one of these answers may be what has ended the worker: each waits for a moment, and longer the more often */
	UPDATE tokenbill.access_token t
	SET lease = NULL, lease_until = NULL, failures = t.failures + release_tokens.ended_badly::integer,
		next_at = CASE WHEN release_tokens.ended_badly THEN tokenbill.clock() + tokenbill.token_delay(t.failures + 1, NULL) ELSE t.next_at END,
		updated_at = tokenbill.clock()
	WHERE t.lease IS NOT NULL;
END
$function$;
COMMENT ON FUNCTION tokenbill.release_tokens(boolean) IS 'Internal: frees what a worker that is no more has taken on; ended_badly: an answer may be what ended it, so it waits for a while';

CREATE FUNCTION tokenbill.oauth_refresh(provider text) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	client tokenbill.oauth_client;
	t tokenbill.access_token;
BEGIN
	PERFORM tokenbill.check_provider(oauth_refresh.provider);
	SELECT c.* INTO client FROM tokenbill.oauth_client c WHERE c.provider = oauth_refresh.provider FOR KEY SHARE;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_oauth_client(oauth_refresh.provider);
	END IF;
	/* what is under way is what was asked for */
	UPDATE tokenbill.access_token x SET next_at = CASE WHEN x.lease IS NULL THEN now ELSE x.next_at END, updated_at = now
	WHERE x.provider = client.provider AND (client.grant_type <> 'device_code' OR x.refreshable)
	RETURNING x.* INTO t;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT409', format('provider "%s" has no refresh token', client.provider),
			jsonb_build_object('provider', client.provider, 'grant_type', client.grant_type), 'Somebody has to allow it: tokenbill.oauth_device_begin().');
	END IF;
	PERFORM tokenbill.wake_worker();
	RETURN now;
END
$function$;
COMMENT ON FUNCTION tokenbill.oauth_refresh(text) IS
'Has the worker renew an access token now, not only a minute before it expires. Errors: PT404, PT409 there is no refresh token, 42501 a tenant asks, 22xxx';

CREATE VIEW tokenbill.access_tokens WITH (security_barrier) AS
SELECT t.provider, c.grant_type, 'oauth:' OPERATOR(pg_catalog.||) t.provider AS secret_name,
	CASE WHEN t.obtained_at IS NULL THEN 'none'
		WHEN t.expires_at OPERATOR(pg_catalog.<=) tokenbill.clock() THEN 'expired'
		ELSE 'valid' END AS status,
	t.device_grant, t.scope, t.obtained_at, t.expires_at, t.refreshable, t.refresh_expires_at, t.next_at, t.lease IS NOT NULL AS under_way,
	t.failures, t.status AS http_status, t.error, t.renewals
FROM tokenbill.access_token t
JOIN tokenbill.oauth_client c ON c.provider OPERATOR(pg_catalog.=) t.provider
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.access_tokens IS 'What is known of the access tokens of providers, and nothing of what they are; none for a tenant';
COMMENT ON COLUMN tokenbill.access_tokens.provider IS 'Name of the provider';
COMMENT ON COLUMN tokenbill.access_tokens.grant_type IS 'How it is come by';
COMMENT ON COLUMN tokenbill.access_tokens.secret_name IS 'Name under which requests use it';
COMMENT ON COLUMN tokenbill.access_tokens.status IS 'none, valid or expired';
COMMENT ON COLUMN tokenbill.access_tokens.device_grant IS 'The device grant that it comes from; null: it comes from none';
COMMENT ON COLUMN tokenbill.access_tokens.scope IS 'What it is good for, if the server said';
COMMENT ON COLUMN tokenbill.access_tokens.obtained_at IS 'When it came; null: there is none yet';
COMMENT ON COLUMN tokenbill.access_tokens.expires_at IS 'Until when it is good; null: nobody said';
COMMENT ON COLUMN tokenbill.access_tokens.refreshable IS 'Whether there is a refresh token';
COMMENT ON COLUMN tokenbill.access_tokens.refresh_expires_at IS 'Until when that is good; null: nobody said';
COMMENT ON COLUMN tokenbill.access_tokens.next_at IS 'When it is renewed; null: it is not';
COMMENT ON COLUMN tokenbill.access_tokens.under_way IS 'Whether it is being renewed';
COMMENT ON COLUMN tokenbill.access_tokens.failures IS 'How often in a row renewing it failed';
COMMENT ON COLUMN tokenbill.access_tokens.http_status IS 'HTTP status of the last answer; null: there was none';
COMMENT ON COLUMN tokenbill.access_tokens.error IS 'Why it could not be renewed; null: it could';
COMMENT ON COLUMN tokenbill.access_tokens.renewals IS 'How many tokens there have been';
