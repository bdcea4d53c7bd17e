-- Functions that count meters: ours, and users', of whom some mean no good
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(115);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
CREATE ROLE mf_app LOGIN IN ROLE tokenbill_app;
CREATE ROLE mf_admin LOGIN IN ROLE tokenbill_admin;
CREATE ROLE mf_user LOGIN;
CREATE SCHEMA mf;
GRANT ALL ON SCHEMA mf TO PUBLIC;
SELECT tokenbill.create_account('mf', credit_limit => 1000000), tokenbill.create_account('mf-sand', credit_limit => 10, sandbox => true) \g /dev/null

-- Ours
SELECT tokenbill.set_price('tts', 'characters', 15, 1000000) \g /dev/null
SELECT is(to_jsonb(r), '{"service": "tts", "meter": "characters", "function_schema": "tokenbill", "function_name": "count_characters", "takes_options": true, "owner": null,
	"options": {}, "covers": ["text", "input", "prompt"], "forgets": ["text", "input", "prompt"], "builtin": false, "created_at": "2026-03-01T12:00:00+00:00"}', 'the row')
FROM tokenbill.set_meter_function('characters', 'tokenbill.count_characters(jsonb, jsonb)', 'tts') r;
SELECT is(pg_temp.pick(f, 'function', 'owner'), '{"function": "tokenbill.count_characters(jsonb, jsonb)", "owner": null}', 'the view') FROM tokenbill.meter_functions f WHERE service = 'tts';
SELECT pg_temp.refused($$SELECT tokenbill.quote('mf', 'tts', '{"input": "我喜欢 SQL", "voice": "alloy"}')$$, '22023', '{"argument": "usage"}', 'what no function covers is read as ever, and refused');
SELECT results_eq($$SELECT meter, quantity, amount FROM tokenbill.quote('mf', 'tts', '{"input": "我喜欢 SQL"}')$$, $$VALUES ('characters', 7::numeric, 0.000105)$$, 'counted from the text');
SELECT results_eq($$SELECT meter, quantity FROM tokenbill.quote('mf', 'tts', '{"characters": 12}')$$, $$VALUES ('characters', 12::numeric)$$, 'a meter that the usage carries is not counted');
SELECT pg_temp.refused($$SELECT tokenbill.quote('mf', 'tts', '{"output_tokens": 12}')$$, '22023', '{"argument": "usage", "members": ["text", "input", "prompt"]}', 'no text is an error');
SELECT pg_temp.refused($$SELECT tokenbill.quote('mf', 'tts', '{"input": "x", "output_tokens": 12}')$$, 'PT404', '{"service": "tts", "meter": "output_tokens"}', 'other meters are priced or refused');
SELECT pg_temp.refused($$SELECT tokenbill.quote('mf', 'tts', NULL)$$, '22004', '{"argument": "usage"}', 'no usage is no usage');
SELECT pg_temp.refused($$SELECT tokenbill.quote('mf', 'tts', '{}')$$, '22023', '{"argument": "usage"}', 'nor is an empty one');

-- What the ledger keeps
SELECT is(amount, -0.000105, 'a charge') FROM tokenbill.charge('mf', 'tts', '{"input": "我喜欢 SQL"}', 'k1');
SELECT results_eq($$SELECT usage, rates FROM tokenbill.ledger WHERE idempotency_key = 'k1'$$,
	$$VALUES ('{"input": {"words": 4, "graphemes": 7, "characters": 7}}'::jsonb, '{"characters": {"quantity": 7, "price": "15/1000000", "amount": 0.000105}}'::jsonb)$$,
	'the line keeps the counts, and no text');
SELECT results_eq($$SELECT quantity FROM tokenbill.quote('mf', 'tts', (SELECT usage FROM tokenbill.ledger WHERE idempotency_key = 'k1'))$$, $$VALUES (7::numeric)$$, 'from which it can be priced again');
SELECT is(replayed, true, 'the same again is replayed') FROM tokenbill.charge('mf', 'tts', '{"input": "我喜欢 SQL"}', 'k1');
SELECT pg_temp.refused($$SELECT tokenbill.charge('mf', 'tts', '{"input": "我喜欢 SQLite"}', 'k1')$$, 'PT409', '{"argument": "usage"}', 'another text is another request');
SELECT lives_ok($$SELECT tokenbill.charge('mf', 'tts', '{"input": "my card is 4111 1111 1111 1111"}', 'k2')$$, 'a card number that is not kept is nobody''s business');
SELECT is_empty($$SELECT 1 FROM tokenbill.ledger l WHERE l::text ~ '4111 ?1111'$$, 'and it is not kept');
SELECT results_eq($$SELECT quantity, amount FROM tokenbill.usage_daily WHERE service = 'tts'$$, $$VALUES (37::numeric, 0.000555)$$, 'usage_daily adds up what was counted');
SELECT is(amount, 0::numeric, 'a sandbox account pays nothing') FROM tokenbill.charge('mf-sand', 'tts', '{"input": "x"}', 'k1');
SELECT is(held, 0.003, 'a hold is priced from an estimate') FROM tokenbill.hold('mf', NULL, 'h1', service => 'tts', usage => jsonb_build_object('input', repeat('x', 200)));
SELECT is(amount, -0.0003, 'and captured from a text') FROM tokenbill.capture('mf', 'h1', usage => jsonb_build_object('input', repeat('x', 20)));

-- A price of each call
SELECT tokenbill.set_price('chat', 'input_tokens', 1, 1000), tokenbill.set_price('chat', 'requests', 0.01), tokenbill.set_price('soon', 'input_tokens', 1),
	tokenbill.set_price('soon', 'requests', 0.01, valid_from => '2026-04-01 00:00:00+00') \g /dev/null
SELECT results_eq($$SELECT meter, quantity, amount FROM tokenbill.quote('mf', 'chat', '{"input_tokens": 500}') ORDER BY meter$$, $$VALUES ('input_tokens', 500::numeric, 0.5), ('requests', 1::numeric, 0.01)$$, 'requests is 1 where it has a price');
SELECT results_eq($$SELECT meter, quantity FROM tokenbill.quote('mf', 'chat', '{"input_tokens": 500, "requests": 3}') ORDER BY meter$$, $$VALUES ('input_tokens', 500::numeric), ('requests', 3::numeric)$$, 'unless the usage says how many');
SELECT results_eq($$SELECT meter, quantity FROM tokenbill.quote('mf', 'chat', '{"prompt_tokens": 500, "completion_tokens": 0, "total_tokens": 500}') WHERE meter = 'requests'$$, $$VALUES ('requests', 1::numeric)$$, 'beside a provider''s object too');
SELECT is(count(*), 1::bigint, 'a price that is not there yet is no error') FROM tokenbill.quote('mf', 'soon', '{"input_tokens": 500}');
SELECT pg_temp.refused($$SELECT tokenbill.set_meter_function('requests', NULL)$$, 'PT409', '{"meter": "requests"}', 'what is built in stays');
SELECT pg_temp.refused($$SELECT tokenbill.set_meter_function('requests', 'tokenbill.count_words(jsonb, jsonb)')$$, 'PT409', '{"meter": "requests"}', 'as it is');

-- Hybrids, pictures, seconds
SELECT tokenbill.set_price('img', 'image_units', 1), tokenbill.set_price('img', 'words', 0.5), tokenbill.set_price('img', 'requests', 100) \g /dev/null
SELECT tokenbill.set_meter_function('image_units', 'tokenbill.count_images(jsonb, jsonb)', 'img', '{"sizes": {"1024x1024": 0.04, "hd/1024x1024": 0.08}}'),
	tokenbill.set_meter_function('words', 'tokenbill.count_words(jsonb, jsonb)', 'img') \g /dev/null
SELECT results_eq($$SELECT meter, quantity, amount FROM tokenbill.quote('mf', 'img', '{"prompt": "a red fox", "size": "1024x1024", "quality": "hd", "n": 2}') ORDER BY meter$$,
	$$VALUES ('image_units', 0.16, 0.16), ('requests', 1, 100), ('words', 3, 1.5)$$, 'a sum of several');
SELECT tokenbill.set_price('stt', 'seconds', 0.0001) \g /dev/null
SELECT tokenbill.set_meter_function('seconds', 'tokenbill.count_seconds(jsonb, jsonb)', 'stt', '{"round_up": 15}') \g /dev/null
SELECT results_eq($$SELECT quantity FROM tokenbill.quote('mf', 'stt', '{"seconds": 16}')$$, $$VALUES (30::numeric)$$, 'a function that covers the member of its meter''s name rounds it');
SELECT results_eq($$SELECT quantity FROM tokenbill.quote('mf', 'stt', '{"type": "duration", "seconds": 46}')$$, $$VALUES (60::numeric)$$, 'in a provider''s object too');
SELECT tokenbill.set_price('units', 'units', 0.01) \g /dev/null
SELECT tokenbill.set_meter_function('units', 'tokenbill.count_sum(jsonb, jsonb)', 'units', '{"meters": {"input_tokens": 1, "cache_read_tokens": 0.5, "output_tokens": 4}}') \g /dev/null
SELECT results_eq($$SELECT meter, quantity FROM tokenbill.quote('mf', 'units', '{"input_tokens": 10, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 3}')$$, $$VALUES ('units', 24::numeric)$$,
	'meters that are added up need no price of their own');
SELECT pg_temp.refused($$SELECT tokenbill.quote('mf', 'units', '{"input_tokens": 10, "images": 1}')$$, 'PT404', '{"meter": "images"}', 'the others do');

-- Users' own
SET LOCAL SESSION AUTHORIZATION mf_user;
CREATE FUNCTION mf.twice(usage jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$SELECT (usage->>'x')::numeric * 2$$;
CREATE FUNCTION mf.times(usage jsonb, options jsonb) RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (usage->>'x')::numeric * (options->>'by')::numeric; END$$;
CREATE FUNCTION mf.who(usage jsonb) RETURNS numeric LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION '%', format('%s %s %s', current_user, session_user, current_setting('search_path')); END$$;
RESET SESSION AUTHORIZATION;
SELECT tokenbill.set_price('own', 'units', 1) \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.set_meter_function('units', 'mf.twice(jsonb)', 'own')$$, '42501', '{"argument": "function", "owner": "mf_user"}', 'nobody but its owner registers a function', 'mf_admin');
GRANT mf_user TO mf_admin;
SELECT is(pg_temp.rows_as($$SELECT r.owner, r.function_name, r.takes_options, r.covers, r.forgets FROM tokenbill.set_meter_function('units', 'mf.twice(jsonb)', 'own', covers => '{x}') r$$, 'mf_admin'),
	'[{"owner": "mf_user", "function_name": "twice", "takes_options": false, "covers": ["x"], "forgets": []}]', 'or who may be its owner');
REVOKE mf_user FROM mf_admin;
SELECT results_eq($$SELECT meter, quantity, amount FROM tokenbill.quote('mf', 'own', '{"x": 21}')$$, $$VALUES ('units', 42::numeric, 42::numeric)$$, 'it counts');
SELECT is(amount, -42::numeric, 'for an application too') FROM jsonb_to_recordset(pg_temp.rows_as($$SELECT amount FROM tokenbill.charge('mf', 'own', '{"x": 21}', 'own1')$$, 'mf_app')) AS r(amount numeric);
SELECT is(usage, '{"x": 21}', 'the usage is kept') FROM tokenbill.ledger WHERE idempotency_key = 'own1';
SELECT pg_temp.refused($$SELECT tokenbill.charge('mf', 'own', '{"x": "4111 1111 1111 1111"}', 'own2')$$, '22023', '{"argument": "usage"}', 'a card number is not');
SELECT pg_temp.refused($$SELECT tokenbill.charge('mf', 'own', jsonb_build_object('x', repeat('1', 20000)), 'own2')$$, '22023', '{"argument": "usage", "max_bytes": 16384}', 'nor what is too large');
SELECT tokenbill.set_meter_function('units', 'mf.times(jsonb, jsonb)', 'own', '{"by": 3}', '{x}') \g /dev/null
SELECT results_eq($$SELECT quantity FROM tokenbill.quote('mf', 'own', '{"x": "21"}')$$, $$VALUES (63::numeric)$$, 'another function, with options, that returns an integer, at once');
SET LOCAL SESSION AUTHORIZATION mf_user;
CREATE OR REPLACE FUNCTION mf.times(usage jsonb, options jsonb) RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN RETURN 5; END$$;
RESET SESSION AUTHORIZATION;
SELECT results_eq($$SELECT quantity FROM tokenbill.quote('mf', 'own', '{"x": "21"}')$$, $$VALUES (5::numeric)$$, 'a function that was replaced, at once');
SELECT tokenbill.set_meter_function('units', 'mf.times(jsonb, jsonb)', 'own', covers => '{*}') \g /dev/null
SELECT results_eq($$SELECT quantity FROM tokenbill.quote('mf', 'own', '{"a": [1, {"b": null}], "tokens": -1, "": true}')$$, $$VALUES (5::numeric)$$, 'one that covers everything takes any object');
SELECT is(tokenbill.set_meter_function('units', NULL, 'own'), NULL, 'taken away');
SELECT pg_temp.refused($$SELECT tokenbill.quote('mf', 'own', '{"x": "21"}')$$, '22023', '{"field": "x"}', 'it is gone');

-- What is no function to count with
CREATE FUNCTION mf.text_of(usage jsonb) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$;
CREATE FUNCTION mf.set_of(usage jsonb) RETURNS SETOF numeric LANGUAGE sql AS $$SELECT 1::numeric$$;
CREATE FUNCTION mf.no_jsonb(usage text) RETURNS numeric LANGUAGE sql AS $$SELECT 1::numeric$$;
CREATE FUNCTION mf.three(usage jsonb, options jsonb, more jsonb) RETURNS numeric LANGUAGE sql AS $$SELECT 1::numeric$$;
CREATE FUNCTION pg_temp.gone_soon(usage jsonb) RETURNS numeric LANGUAGE sql AS $$SELECT 1::numeric$$;
CREATE AGGREGATE mf.agg(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb);
SELECT pg_temp.refused(format('SELECT tokenbill.set_meter_function(%s)', a), s, d, what)
FROM (VALUES
	('''units'', ''mf.text_of(jsonb)''', '22023', '{"argument": "function"}'::jsonb, 'it returns text'),
	('''units'', ''mf.set_of(jsonb)''', '22023', '{"argument": "function"}', 'it returns a set'),
	('''units'', ''mf.no_jsonb(text)''', '22023', '{"argument": "function"}', 'it takes a text'),
	('''units'', ''mf.three(jsonb, jsonb, jsonb)''', '22023', '{"argument": "function"}', 'it takes three'),
	('''units'', ''mf.agg(jsonb)''', '22023', '{"argument": "function"}', 'it is an aggregate'),
	('''units'', format(''%s.gone_soon(jsonb)'', pg_my_temp_schema()::regnamespace)::regprocedure', '22023', '{"argument": "function"}', 'it is temporary'),
	('''units'', 999999::oid::regprocedure', '42883', '{"argument": "function"}', 'it is not there'),
	('''units'', ''mf.twice(jsonb)'', options => ''{"by": 2}''', '22023', '{"argument": "options"}', 'it takes no options'),
	('''units'', ''mf.twice(jsonb)'', options => ''[]''', '22023', '{"argument": "options"}', 'options are an object'),
	('''units'', ''tokenbill.count_sum(jsonb, jsonb)'', options => ''{"metres": {}}''', '22023', '{"argument": "options"}', 'of ours, options that it knows'),
	('''Units'', ''mf.twice(jsonb)''', '22023', '{"argument": "meter"}', 'meters have names'),
	('NULL, ''mf.twice(jsonb)''', '22004', '{"argument": "meter"}', 'there is one'),
	('''units'', ''mf.twice(jsonb)'', covers => ''{a,NULL}''', '22004', '{"argument": "covers"}', 'names are no nulls'),
	('''units'', ''mf.twice(jsonb)'', forgets => ''{{a},{b}}''', '22023', '{"argument": "forgets"}', 'nor tables'),
	('''units'', ''mf.twice(jsonb)'', covers => (SELECT array_agg(n::text) FROM generate_series(1, 65) n)', '22023', '{"argument": "covers"}', 'and not too many'),
	('''units'', ''mf.twice(jsonb)'', ''''', '22023', '{"argument": "service"}', 'services have names')
) v(a, s, d, what);
SELECT is((pg_temp.error_of($$SELECT tokenbill.set_meter_function('units', 'mf.twice(jsonb)')$$, 'mf_app')).sqlstate, '42501', 'an application sets no function');

-- What a function may return
CREATE FUNCTION mf.given(usage jsonb) RETURNS numeric LANGUAGE sql AS $$SELECT (usage->>'v')::numeric$$;
SELECT tokenbill.set_meter_function('units', 'mf.given(jsonb)', 'own', covers => '{v}'), tokenbill.set_meter_function('images', 'mf.given(jsonb)', 'whole', covers => '{v}'), tokenbill.set_price('whole', 'images', 1) \g /dev/null
SELECT pg_temp.refused(format('SELECT tokenbill.charge(%L, %L, %L, %L)', 'mf', service, u, 'bad'), s, '{"function": "mf.given(jsonb)"}', 'it must not return ' || what)
FROM (VALUES
	('own', '{"v": null}', '22004', 'null'),
	('own', '{"v": "-1"}', '22023', 'a negative count'),
	('own', '{"v": "NaN"}', '22003', 'NaN'),
	('own', '{"v": "Infinity"}', '22003', 'infinity'),
	('own', '{"v": "1e15"}', '22003', '10^15'),
	('own', '{"v": "0.0000000001"}', '22003', 'ten decimals'),
	('whole', '{"v": "1.5"}', '22023', 'half a picture')
) v(service, u, s, what);
SELECT is(amount, 0::numeric, 'zero is fine') FROM tokenbill.charge('mf', 'own', '{"v": "0"}', 'bad');

-- What it throws reaches the caller as it is, and leaves nothing behind
CREATE FUNCTION mf.fails(usage jsonb) RETURNS numeric LANGUAGE plpgsql AS $$BEGIN
	IF usage ? 'fail' THEN RAISE EXCEPTION SQLSTATE 'MF001' USING MESSAGE = 'Not today.', DETAIL = 'Not {JSON}.', HINT = 'Tomorrow.'; END IF;
	RETURN 1;
END$$;
SELECT tokenbill.set_meter_function('units', 'mf.fails(jsonb)', 'own', covers => '{fail,try}') \g /dev/null
SELECT pg_temp.fingerprint() AS before \gset
SELECT is(row(e.sqlstate, e.message, e.detail, e.hint)::text, row('MF001', 'Not today.', to_jsonb('Not {JSON}.'::text), 'Tomorrow.')::text, 'the function''s own error') FROM pg_temp.error_of($$SELECT tokenbill.charge('mf', 'own', '{"fail": true}', 'f1')$$) e;
SELECT is(pg_temp.fingerprint(), :'before'::jsonb, 'nothing was written');
SELECT is(amount, -1::numeric, 'and the key is free') FROM tokenbill.charge('mf', 'own', '{"try": true}', 'f1');
SELECT results_eq($$SELECT item, amount, sqlstate, message, detail->>'function', detail->>'detail' FROM tokenbill.charge_batch('[
	{"account": "mf", "service": "own", "usage": {"try": true}, "idempotency_key": "b1"},
	{"account": "mf", "service": "own", "usage": {"fail": true}, "idempotency_key": "b2"},
	{"account": "mf", "service": "tts", "usage": {"txt": "x"}, "idempotency_key": "b3"},
	{"account": "mf", "service": "own", "usage": {"try": true}, "idempotency_key": "b4"}]')$$,
	$$VALUES (1, -1::numeric, NULL, NULL, NULL, NULL), (2, NULL, 'MF001', 'Not today.', 'mf.fails(jsonb)', 'Not {JSON}.'),
		(3, NULL, '22023', 'usage has a meter that is not a number: "txt"', NULL, NULL), (4, -1, NULL, NULL, NULL, NULL)$$, 'in a batch it is the answer to its item');
SELECT is((pg_temp.error_of($$SELECT tokenbill.charge('mf', 'own', '{"fail": true}', 'f2')$$)).sqlstate, 'MF001', 'after a batch it is an error again');

-- Those that mean no good: each is the service of its name
CREATE TABLE mf.log (t text);
ALTER TABLE mf.log OWNER TO mf_user;
SET LOCAL SESSION AUTHORIZATION mf_user;
CREATE FUNCTION mf.bad(usage jsonb) RETURNS numeric LANGUAGE plpgsql AS $$BEGIN EXECUTE usage->>'sql'; RETURN 1; END$$;
CREATE FUNCTION mf.definer(usage jsonb) RETURNS numeric LANGUAGE plpgsql SECURITY DEFINER SET search_path = mf AS $$BEGIN EXECUTE usage->>'sql'; RETURN 1; END$$;
CREATE FUNCTION mf.loops(usage jsonb) RETURNS numeric LANGUAGE plpgsql AS $$BEGIN LOOP END LOOP; END$$;
CREATE FUNCTION mf.calls_itself(usage jsonb) RETURNS numeric LANGUAGE plpgsql AS $$BEGIN RETURN mf.calls_itself(usage); END$$;
CREATE FUNCTION mf.careless(usage jsonb) RETURNS numeric LANGUAGE plpgsql AS $$BEGIN RETURN helper(usage); END$$;
RESET SESSION AUTHORIZATION;
SELECT tokenbill.set_meter_function('units', format('mf.%s(jsonb)', f)::regprocedure, f, covers => '{*}'), tokenbill.set_price(f, 'units', 1) FROM unnest('{who,bad,definer,loops,calls_itself,careless}'::text[]) f \g /dev/null
SELECT is((pg_temp.error_of($$SELECT tokenbill.charge('mf', 'who', '{"a": 1}', 'w')$$, 'mf_app')).message, 'mf_user mf_app pg_catalog, pg_temp', 'it runs as its owner, whoever calls, and with a search path of its own');
SELECT is((pg_temp.error_of($$SELECT tokenbill.charge('mf', 'who', '{"a": 1}', 'w')$$)).message ~ '^mf_user ', true, 'when a superuser calls, too');
SELECT is((pg_temp.error_of(format('SELECT tokenbill.charge(%L, %L, %L, %L)', 'mf', service, jsonb_build_object('sql', what), 'evil'))).sqlstate, s, service || ': ' || what)
FROM (VALUES
	('SELECT balance FROM tokenbill.account', '42501'),
	('UPDATE tokenbill.account SET balance = 1000000', '42501'),
	('SELECT tokenbill.grant_credit(''mf'', 1000, ''evil'')', '42501'),
	('SET ROLE ' || quote_ident(current_user), '42501'),
	('RESET ROLE', '42501'),
	('SET SESSION AUTHORIZATION ' || quote_ident(current_user), '42501'),
	('RESET SESSION AUTHORIZATION', '42501'),
	('INSERT INTO mf.log VALUES (''x'')', '25006'),
	('SET transaction_read_only = off', '25001'),
	('CREATE TABLE mf.more (a int)', '25006'),
	('CREATE TEMP TABLE more (a int)', '25006'),
	('ALTER FUNCTION mf.bad(jsonb) SECURITY DEFINER', '25006'),
	('COMMIT', '0A000')
) v(what, s), (VALUES ('bad'), ('definer')) w(service) ORDER BY service, what;
SELECT pg_temp.error_of($$SELECT tokenbill.charge('mf', 'bad', '{"sql": "SELECT set_config(''search_path'', ''mf'', false), set_config(''tokenbill.x'', ''y'', false)"}', 'e1')$$) \g /dev/null
SELECT is(current_setting('search_path'), '"$user", public', 'settings are put back');
SELECT is(current_setting('transaction_read_only'), 'off', 'also that the transaction may write');
SELECT is(current_user::text, session_user::text, 'and who we are');

SELECT is((pg_temp.error_of($$SELECT tokenbill.charge('mf', 'calls_itself', '{"a": 1}', 'e2')$$)).sqlstate, '54001', 'without end in depth');
SET LOCAL statement_timeout = '200ms';
DO $$BEGIN
	PERFORM tokenbill.charge('mf', 'loops', '{"a": 1}', 'e3');
EXCEPTION WHEN query_canceled THEN
	PERFORM set_config('mf.ended', 'by statement_timeout', true);
END$$;
SET LOCAL statement_timeout = 0;
SELECT is(current_setting('mf.ended'), 'by statement_timeout', 'without end in time');
CREATE SCHEMA mf_app AUTHORIZATION mf_app;
CREATE FUNCTION mf_app.helper(jsonb) RETURNS numeric LANGUAGE sql AS 'SELECT 0::numeric';
GRANT EXECUTE ON FUNCTION mf_app.helper(jsonb) TO PUBLIC;
GRANT USAGE ON SCHEMA mf_app TO PUBLIC;
SELECT is((pg_temp.error_of($$SELECT tokenbill.charge('mf', 'careless', '{"a": 1}', 'e4')$$, 'mf_app', path => 'mf_app, public')).sqlstate, '42883', 'what it calls without a schema is not the caller''s');
SELECT is_empty($$SELECT * FROM mf.log$$, 'none of them has written');

-- It asks tokenbill itself, which starts the session's cache anew on the way
CREATE FUNCTION mf.asks(usage jsonb) RETURNS numeric LANGUAGE sql AS $$SELECT sum(quantity) FROM tokenbill.quote('mf', 'tts', '{"input": "four"}')$$;
ALTER FUNCTION mf.asks(jsonb) OWNER TO mf_app;
SELECT tokenbill.set_meter_function('units', 'mf.asks(jsonb)', 'asks', covers => '{a}'), tokenbill.set_price('asks', 'units', 1), tokenbill.set_price('asks', 'words', 1) \g /dev/null
SELECT results_eq($$SELECT meter, quantity FROM tokenbill.quote('mf', 'asks', '{"a": "x", "words": 2}') ORDER BY meter$$, $$VALUES ('units', 4::numeric), ('words', 2)$$, 'a function may ask for a quote');
CREATE FUNCTION mf.deeper(usage jsonb) RETURNS numeric LANGUAGE plpgsql AS $$BEGIN
	RETURN CASE WHEN (usage->>'n')::int = 0 THEN 0 ELSE (SELECT quantity + 1 FROM tokenbill.quote('mf', 'itself', jsonb_build_object('n', ((usage->>'n')::int - 1)::text))) END;
END$$;
ALTER FUNCTION mf.deeper(jsonb) OWNER TO mf_app;
SELECT tokenbill.set_meter_function('units', 'mf.deeper(jsonb)', 'itself', covers => '{n}'), tokenbill.set_price('itself', 'units', 1) \g /dev/null
SELECT results_eq($$SELECT quantity FROM tokenbill.quote('mf', 'itself', '{"n": "5"}')$$, $$VALUES (5::numeric)$$, 'even of what it counts for');

-- Gone, or another's
ALTER FUNCTION mf.fails(jsonb) OWNER TO mf_user;
SELECT pg_temp.refused($$SELECT tokenbill.charge('mf', 'own', '{"try": true}', 'g1')$$, '42501', '{"meter": "units", "function": "mf.fails(jsonb)"}', 'a function that has another owner since');
DROP FUNCTION mf.fails(jsonb);
SELECT pg_temp.refused($$SELECT tokenbill.charge('mf', 'own', '{"try": true}', 'g1')$$, '42883', '{"meter": "units", "function": "mf.fails(jsonb)"}', 'one that is gone');
CREATE FUNCTION mf.fails(usage jsonb) RETURNS numeric LANGUAGE sql AS 'SELECT 7::numeric';
SELECT is(amount, -7::numeric, 'one that was made again') FROM tokenbill.charge('mf', 'own', '{"try": true}', 'g1');
ALTER SCHEMA mf RENAME TO mf2;
SELECT pg_temp.refused($$SELECT tokenbill.charge('mf', 'own', '{"try": true}', 'g2')$$, '42883', '{"function": "mf.fails(jsonb)"}', 'one whose schema has another name');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger()$$, 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
