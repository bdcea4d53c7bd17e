-- Secrets: what set_secret() stores, and that nothing returns it. That it can be
-- decrypted again, and what a key file must be, is in test/t/240_secret.pl.
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(36);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
CREATE ROLE st_admin IN ROLE tokenbill_admin;
CREATE ROLE st_tenant IN ROLE tokenbill_admin;
SELECT tokenbill.create_account('st') \g /dev/null
SELECT tokenbill.map_tenant('st_tenant', 'st') \g /dev/null

-- Stored
SELECT is(tokenbill.set_secret('one', 'sk-first')::text, '', 'set_secret returns nothing');
SELECT is(row(s.*)::text, '(one,1,' || (SELECT key_id FROM tokenbill.secret) || ',"2026-03-01 12:00:00+00","2026-03-01 12:00:00+00")', 'secrets shows that it is there') FROM tokenbill.secrets s;
SELECT is(row(s.*)::text ~ 'sk-first|736b2d6669727374', false, 'the row has it neither in plain text nor in hex') FROM tokenbill.secret s;
SELECT is(layout, 1, 'layout 1') FROM tokenbill.secret;
SELECT matches(key_id, '^[0-9a-f]{16}$', 'the key''s id is 16 digits') FROM tokenbill.secret;
SELECT is(octet_length(key_nonce) || ' ' || octet_length(wrapped_key) || ' ' || octet_length(value_nonce) || ' ' || octet_length(ciphertext), '12 48 12 24', 'nonces of 96 bits; 256 bits of key and the 8 bytes with a tag of 128 bits each') FROM tokenbill.secret;

-- Again
SELECT * FROM tokenbill.secret \gset old_
SET LOCAL tokenbill.clock = '2026-03-02 12:00:00+00';
SELECT tokenbill.set_secret('one', 'sk-first') \g /dev/null
SELECT is(created_at || ' ' || updated_at, '2026-03-01 12:00:00+00 2026-03-02 12:00:00+00', 'set again, it is the same secret with a new value') FROM tokenbill.secret;
SELECT is(count(*), 1::bigint, 'and one row') FROM tokenbill.secret;
SELECT is(version, 2::bigint, 'its second version') FROM tokenbill.secret;
SELECT is(key_id, :'old_key_id', 'wrapped by the same key') FROM tokenbill.secret;
SELECT is(key_nonce = :'old_key_nonce' OR wrapped_key = :'old_wrapped_key' OR value_nonce = :'old_value_nonce' OR ciphertext = :'old_ciphertext', false, 'the same value again looks different, everywhere') FROM tokenbill.secret;
SELECT tokenbill.set_secret('n' || i, 'the same') FROM generate_series(1, 50) i \g /dev/null
SELECT is(count(DISTINCT value_nonce) + count(DISTINCT key_nonce) + count(DISTINCT ciphertext) + count(DISTINCT wrapped_key), 200::bigint, 'fifty of one value have nothing in common') FROM tokenbill.secret WHERE name <> 'one';

-- What may be a secret
SELECT is(tokenbill.set_secret('pem', E'-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n')::text, '', 'a key in PEM');
SELECT is(tokenbill.set_secret('long', repeat('x', 8192))::text, '', '8 KB');
SELECT is(octet_length(ciphertext), 8208, 'and all of it') FROM tokenbill.secret WHERE name = 'long';
SELECT is(tokenbill.set_secret('short', 'x')::text, '', 'one byte');
SELECT is(tokenbill.set_secret(repeat('n', 255), 'ü')::text, '', 'a name of 255 bytes, a letter of two');
SELECT pg_temp.refused(statement, sqlstate, detail, description) FROM (VALUES
	($$SELECT tokenbill.set_secret('x', NULL)$$, '22004', '{"argument": "value"}'::jsonb, 'null'),
	($$SELECT tokenbill.set_secret(NULL, 'x')$$, '22004', '{"argument": "name"}', 'no name'),
	($$SELECT tokenbill.set_secret('x', '')$$, '22023', '{"argument": "value"}', 'empty'),
	($$SELECT tokenbill.set_secret('x', repeat('x', 8193))$$, '22023', '{"argument": "value", "bytes": 8193, "max_bytes": 8192}', 'over 8 KB'),
	($$SELECT tokenbill.set_secret('x', E'sk-\x1bsecret')$$, '22023', '{"argument": "value", "position": 4}', 'an escape'),
	($$SELECT tokenbill.set_secret('x', 'card 4242-4242-4242-4242')$$, '22023', '{"argument": "value"}', 'a card number'),
	($$SELECT tokenbill.set_secret('4242424242424242', 'x')$$, '22023', '{"argument": "name"}', 'a card number as name')) v(statement, sqlstate, detail, description);
SELECT is(e.message || e.detail || e.hint ~ 'sk-', false, 'a refusal does not repeat the value') FROM pg_temp.error_of($$SELECT tokenbill.set_secret('x', E'sk-\x1bsecret')$$) e;

-- Who may
SELECT is((pg_temp.error_of($$SELECT tokenbill.set_secret('two', 'x')$$, role => 'st_admin')).sqlstate, '00000', 'an administrator sets one');
SELECT is(pg_temp.rows_as($$SELECT count(*) FROM tokenbill.secrets$$, 'st_admin'), '[{"count": 56}]', 'and sees which there are');
SELECT is((pg_temp.error_of('TABLE tokenbill.secret', role => 'st_admin')).sqlstate, '42501', 'but not the table');
SELECT is((pg_temp.error_of('SHOW tokenbill.key_command', role => 'st_admin')).sqlstate, '42501', 'nor how the key is got');
SELECT is(pg_temp.rows_as($$SELECT * FROM tokenbill.secrets$$, 'st_tenant'), '[]', 'a tenant sees none');
SELECT pg_temp.refused($$SELECT tokenbill.set_secret('x', 'x')$$, '42501', '{"argument": "name"}', 'sets none', login => 'st_tenant');
SELECT pg_temp.refused($$SELECT tokenbill.drop_secret('one')$$, '42501', '{"argument": "name"}', 'and drops none', login => 'st_tenant');
SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace AND (proname IN ('set_secret', 'drop_secret', 'hide_statement') OR prosrc LIKE 'tokenbill\_%secret%') AND prorettype <> 'void'::regtype$$, 'none of the functions returns anything');

-- Gone
SELECT is(tokenbill.drop_secret('two')::text, '', 'drop_secret returns nothing');
SELECT is_empty($$SELECT FROM tokenbill.secret WHERE name = 'two'$$, 'and it is gone');
SELECT pg_temp.refused($$SELECT tokenbill.drop_secret('two')$$, 'PT404', '{"secret": "two"}', 'it cannot be dropped again');

SELECT * FROM finish();
ROLLBACK;
