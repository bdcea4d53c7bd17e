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
