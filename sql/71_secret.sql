/*
 * Secrets: what providers and webhooks are asked with.
 *
 * A row is ciphertext; the key to it is not in the database.  Only C, in the
 * worker, gets at a value: there is no function that returns one.
 */
CREATE TABLE tokenbill.secret (
	name text COLLATE "C" NOT NULL PRIMARY KEY,
	version bigint NOT NULL,
	layout integer NOT NULL,
	key_id text COLLATE "C" NOT NULL,
	key_nonce bytea NOT NULL,
	wrapped_key bytea NOT NULL,
	value_nonce bytea NOT NULL,
	ciphertext bytea NOT NULL,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL
);
COMMENT ON TABLE tokenbill.secret IS 'Secrets, encrypted; written by set_secret(), read by the worker';
COMMENT ON COLUMN tokenbill.secret.name IS 'What it is known by; the ciphertexts are good under this name only';
COMMENT ON COLUMN tokenbill.secret.version IS 'Which value of that name it is, counted from 1; the ciphertexts are good for this version only';
COMMENT ON COLUMN tokenbill.secret.layout IS 'How the other columns are to be read; 1: AES-256-GCM twice';
COMMENT ON COLUMN tokenbill.secret.key_id IS 'Which master key wraps the secret''s own key';
COMMENT ON COLUMN tokenbill.secret.key_nonce IS 'Nonce of wrapped_key';
COMMENT ON COLUMN tokenbill.secret.wrapped_key IS 'The secret''s own key, encrypted with the master key, and tag';
COMMENT ON COLUMN tokenbill.secret.value_nonce IS 'Nonce of ciphertext';
COMMENT ON COLUMN tokenbill.secret.ciphertext IS 'The value, encrypted with the secret''s own key, and tag';
COMMENT ON COLUMN tokenbill.secret.created_at IS 'When there first was one of this name';
COMMENT ON COLUMN tokenbill.secret.updated_at IS 'When the present value was set';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.secret', '');

CREATE FUNCTION tokenbill.hide_statement() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_hide_statement';
COMMENT ON FUNCTION tokenbill.hide_statement() IS
'Internal: takes the running statement''s text out of pg_stat_activity and of what will be logged of it';

CREATE FUNCTION tokenbill.set_secret(name text, value text) RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_set_secret';
COMMENT ON FUNCTION tokenbill.set_secret(text, text) IS
'Stores a secret encrypted, or a new value under its name. Errors: 55000 there is no key, F0000, 58030, 38000, PT504 it is not to be had, 42501 a tenant asks, 22xxx';

CREATE FUNCTION tokenbill.drop_secret(name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.check_text('name', drop_secret.name, 255);
	IF NOT tokenbill.visible('') THEN
		PERFORM tokenbill.refuse('42501', 'a tenant has nothing to do with secrets', '{"argument": "name"}',
			'Use a login that is not mapped to an account.');
	END IF;
	DELETE FROM tokenbill.secret s WHERE s.name = drop_secret.name;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT404', format('secret "%s" does not exist', drop_secret.name),
			jsonb_build_object('secret', drop_secret.name), 'The view tokenbill.secrets lists those there are.');
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.drop_secret(text) IS 'Takes a secret away. Errors: PT404, 42501 a tenant asks, 22xxx';

CREATE VIEW tokenbill.secrets WITH (security_barrier) AS
SELECT s.name, s.version, s.key_id, s.created_at, s.updated_at
FROM tokenbill.secret s
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.secrets IS 'Which secrets there are, and nothing of what they are; none for a tenant';
COMMENT ON COLUMN tokenbill.secrets.name IS 'What it is known by';
COMMENT ON COLUMN tokenbill.secrets.version IS 'Which value of that name it is, counted from 1';
COMMENT ON COLUMN tokenbill.secrets.key_id IS 'Which master key it wants';
COMMENT ON COLUMN tokenbill.secrets.created_at IS 'When there first was one of this name';
COMMENT ON COLUMN tokenbill.secrets.updated_at IS 'When the present value was set';

/*
 * Master keys that all secrets were brought under: how far it is, while it lasts, and
 * when it was.
 */
CREATE TABLE tokenbill.key_rotation (
	key_id text COLLATE "C" NOT NULL PRIMARY KEY,
	secrets bigint NOT NULL,
	rewrapped bigint NOT NULL DEFAULT 0,
	failed bigint NOT NULL DEFAULT 0,
	pid integer NOT NULL,
	statement_at timestamptz NOT NULL,
	started_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	finished_at timestamptz
);
COMMENT ON TABLE tokenbill.key_rotation IS 'Master keys that rotate_key() has brought secrets under, or was at it when it ended';
COMMENT ON COLUMN tokenbill.key_rotation.key_id IS 'The key that was the present one';
COMMENT ON COLUMN tokenbill.key_rotation.secrets IS 'How many secrets were to be brought under it';
COMMENT ON COLUMN tokenbill.key_rotation.rewrapped IS 'How many have been';
COMMENT ON COLUMN tokenbill.key_rotation.failed IS 'How many cannot be, as far as is known';
COMMENT ON COLUMN tokenbill.key_rotation.pid IS 'Process that was at it last';
COMMENT ON COLUMN tokenbill.key_rotation.statement_at IS 'When the statement began that was at it last, by the system''s clock; tells whether it still runs';
COMMENT ON COLUMN tokenbill.key_rotation.started_at IS 'When it was first called';
COMMENT ON COLUMN tokenbill.key_rotation.updated_at IS 'When it last got on';
COMMENT ON COLUMN tokenbill.key_rotation.finished_at IS 'When nothing was left; null: something is';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.key_rotation', '');

CREATE PROCEDURE tokenbill.rotate_key()
LANGUAGE c AS 'MODULE_PATHNAME', 'tokenbill_rotate_key';
COMMENT ON PROCEDURE tokenbill.rotate_key() IS
'Brings all secrets under the present master key, a batch a transaction; goes on where it was ended. Errors: as set_secret(), 39000, XX001, 0A000 some cannot be, 42501 a tenant asks';

/* the state of others' sessions is not for everybody who reads the view */
CREATE FUNCTION tokenbill.rotation_runs(pid integer, statement_at timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN tokenbill.visible('') AND EXISTS (SELECT FROM pg_stat_activity a
		WHERE a.pid = rotation_runs.pid AND a.query_start = rotation_runs.statement_at AND a.state = 'active');
END
$function$;
COMMENT ON FUNCTION tokenbill.rotation_runs(integer, timestamptz) IS 'Internal: whether a call of rotate_key() is under way';

CREATE VIEW tokenbill.key_rotations WITH (security_barrier) AS
SELECT r.key_id,
	CASE WHEN r.finished_at IS NOT NULL THEN 'finished'
		WHEN tokenbill.rotation_runs(r.pid, r.statement_at) THEN 'running'
		WHEN r.failed OPERATOR(pg_catalog.>) 0 THEN 'incomplete'
		ELSE 'interrupted' END AS state,
	r.secrets, r.rewrapped, r.failed, r.pid, r.started_at, r.updated_at, r.finished_at
FROM tokenbill.key_rotation r
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.key_rotations IS 'Master keys that secrets were brought under, and how far the one is that is under way; none for a tenant';
COMMENT ON COLUMN tokenbill.key_rotations.key_id IS 'The key that was the present one';
COMMENT ON COLUMN tokenbill.key_rotations.state IS 'running, finished, interrupted: call rotate_key() again, or incomplete: some secrets cannot be brought under it';
COMMENT ON COLUMN tokenbill.key_rotations.secrets IS 'How many secrets were to be brought under it';
COMMENT ON COLUMN tokenbill.key_rotations.rewrapped IS 'How many have been';
COMMENT ON COLUMN tokenbill.key_rotations.failed IS 'How many cannot be, as far as is known';
COMMENT ON COLUMN tokenbill.key_rotations.pid IS 'Process that was at it last';
COMMENT ON COLUMN tokenbill.key_rotations.started_at IS 'When it was first called';
COMMENT ON COLUMN tokenbill.key_rotations.updated_at IS 'When it last got on';
COMMENT ON COLUMN tokenbill.key_rotations.finished_at IS 'When nothing was left; null: something is';
