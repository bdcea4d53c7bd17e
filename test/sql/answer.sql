-- Answers of upstream accounts: each body of test/data/answers, played to its preset, and what becomes of it
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SET LOCAL tokenbill.clock = '2026-03-05 12:00:00+00';
\setenv TB_ANSWERS :srcdir/data/answers
CREATE TEMP TABLE body (file text PRIMARY KEY, said text);
\copy body FROM PROGRAM 'cd "$TB_ANSWERS" && for f in *.json; do printf "%s\t%s\n" "$f" "$(base64 <"$f" | tr -d "\n")"; done'
CREATE TEMP TABLE answer (place bigint, entry jsonb, body bytea, outcome text);
INSERT INTO answer SELECT e.place, e.entry, decode(b.said, 'base64')
FROM body i, jsonb_array_elements(convert_from(decode(i.said, 'base64'), 'UTF8')::jsonb) WITH ORDINALITY e(entry, place), body b
WHERE i.file = 'index.json' AND b.file = e.entry ->> 'file';
SELECT plan((SELECT count(*)::int FROM answer) + 57);
SELECT is((SELECT count(*) FROM answer), (SELECT count(*) - 1 FROM body), 'every file is in the index, and every entry has a file');

INSERT INTO tokenbill.secret VALUES ('key', 1, 1, 'of no use', '', '', '', '', tokenbill.clock(), tokenbill.clock());

-- A provider of any preset; whatever that needs
CREATE FUNCTION pg_temp.add(provider text, preset text) RETURNS tokenbill.provider LANGUAGE sql AS $$
	SELECT tokenbill.add_provider(add.provider, p.preset, check_every => '1 day',
		base_url => CASE WHEN p.base_url IS NULL THEN 'https://upstream.example.com/v' END,
		secret_name => CASE WHEN p.needs_secret THEN 'key' END,
		params => coalesce((SELECT jsonb_object_agg(n, n || ' 1') FROM unnest(p.parameters) n), '{}'),
		opening_balance => CASE WHEN p.source = 'derived' THEN 100 END, opening_at => CASE WHEN p.source = 'derived' THEN timestamptz '2026-03-01 00:00+00' END)
	FROM tokenbill.provider_presets p WHERE p.preset = add.preset
$$;
-- One answer to the call that is under way: how it goes on
CREATE FUNCTION pg_temp.answered(provider text, status int, body bytea, headers jsonb DEFAULT '{}') RETURNS SETOF tokenbill.http_call LANGUAGE sql AS $$
	SELECT r.* FROM tokenbill.provider_check c, LATERAL tokenbill.record_check(c.provider, c.lease, answered.status, answered.headers, answered.body, NULL, NULL, 80) r
	WHERE c.provider = answered.provider
$$;
-- What an entry says should happen, and what did, in the same words
CREATE FUNCTION pg_temp.wanted(entry jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN entry -> 'more' = 'true' THEN 'more' WHEN entry -> 'retried' = 'true' THEN 'again: ' || (entry ->> 'problem')
		WHEN entry ? 'problem' THEN 'problem: ' || (entry ->> 'problem') WHEN entry -> 'unlimited' = 'true' THEN 'unlimited'
		ELSE (SELECT string_agg(b.key || ' ' || trim_scale(b.value::numeric), ', ' ORDER BY b.key COLLATE "C") FROM jsonb_each_text(entry -> 'balances') b)
			|| coalesce((SELECT string_agg(', ' || o.key || ' ' || o.value, '' ORDER BY o.key) FROM jsonb_each_text(entry -> 'other') o), '') END
$$;
CREATE FUNCTION pg_temp.happened(name text, calls bigint) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN happened.calls > 0 THEN 'more'
		WHEN c.attempt > 0 THEN 'again: ' || c.error
		WHEN c.error IS NOT NULL AND c.failed_checks = 1 AND NOT EXISTS (SELECT FROM tokenbill.provider_balance b WHERE b.provider = name AND (b.balance IS NOT NULL OR b.error IS DISTINCT FROM c.error))
			THEN 'problem: ' || c.error
		WHEN c.error IS NOT NULL THEN 'muddled'
		ELSE (SELECT string_agg(CASE WHEN b.status = 'unlimited' THEN 'unlimited' ELSE b.currency || ' ' || coalesce(trim_scale(b.balance)::text, b.error) END, ', ' ORDER BY b.balance IS NULL, b.currency COLLATE "C")
			FROM tokenbill.provider_balances b WHERE b.provider = name) END
	FROM tokenbill.provider_check c WHERE c.provider = name
$$;
DO $do$
DECLARE
	a answer;
	first answer;
	calls bigint;
	name text;
BEGIN
	FOR a IN SELECT * FROM answer ORDER BY place LOOP
		name := a.entry ->> 'file';
		PERFORM set_config('tokenbill.clock', '2026-03-05 12:00:00+00', true);
		PERFORM pg_temp.add(name, a.entry ->> 'preset');
		PERFORM set_config('tokenbill.clock', '2026-03-05 12:00:10+00', true);
		PERFORM tokenbill.claim_checks(10);
		IF (a.entry ->> 'step')::int > 1 THEN
			SELECT * INTO first FROM answer f WHERE f.entry ->> 'preset' = a.entry ->> 'preset' AND f.entry -> 'more' = 'true';
			PERFORM pg_temp.answered(name, 200, first.body);
		END IF;
		SELECT count(*) INTO calls FROM pg_temp.answered(name, (a.entry ->> 'status')::int, a.body, coalesce(a.entry -> 'headers', '{}'));
		UPDATE answer SET outcome = pg_temp.happened(name, calls) WHERE place = a.place;
		PERFORM tokenbill.drop_provider(name);
	END LOOP;
END $do$;
SELECT is(outcome, pg_temp.wanted(entry), concat(replace(entry ->> 'file', '.json', ''), ' (trap ' || (entry ->> 'trap') || ')')) FROM answer ORDER BY place;
SELECT is_empty($$SELECT duty, target, message FROM tokenbill.worker_errors$$, 'none of them is an error of ours');
SELECT is_empty($$SELECT preset FROM tokenbill.provider_presets WHERE source IN ('asked', 'derived') AND preset NOT IN (SELECT entry ->> 'preset' FROM answer WHERE entry ?| '{balances,more}')$$, 'every preset has a good answer here');
SELECT is_empty($$SELECT preset FROM tokenbill.provider_presets WHERE source IN ('asked', 'derived') AND preset NOT IN (SELECT entry ->> 'preset' FROM answer WHERE entry ? 'problem')$$, 'and one that fails');
SELECT is_empty($$SELECT t FROM generate_series(1, 12) t WHERE t NOT IN (SELECT (entry ->> 'trap')::int FROM answer WHERE entry ? 'trap')$$, 'and every trap of units, signs and failures is one of them');
SELECT results_eq($$SELECT entry -> 'balances' FROM answer WHERE entry ->> 'file' = 'odd_many_digits.json'$$, $$SELECT '{"CREDITS": "123456789012345678.12345678901234567890123"}'::jsonb$$, 'to the last digit');

-- What no file should hold
SELECT is((tokenbill.parse_answer(body)).problem, problem, what) FROM (VALUES
	(convert_to('{"a": ' || repeat('[', 100000) || repeat(']', 100000) || '}', 'UTF8'), 'the answer is nested too deeply', 'a hundred thousand deep'),
	(convert_to(repeat('{"a":', 100000) || '1' || repeat('}', 100000), 'UTF8'), 'the answer is nested too deeply', 'objects, too'),
	(convert_to('{"a": "' || repeat('x', 900000) || '"}', 'UTF8'), NULL, 'a megabyte in a text'),
	(convert_to('{' || (SELECT string_agg(format('"k%s": %s', i, i), ',') FROM generate_series(1, 50000) i) || '}', 'UTF8'), NULL, 'fifty thousand members'),
	(convert_to('{' || (SELECT string_agg(format('"k%s": %s', i % 49999, i), ',') FROM generate_series(1, 50000) i) || '}', 'UTF8'), 'the answer has a member "k1" twice in one object', 'and one of them twice'),
	(convert_to('{"' || repeat('n', 1000) || '": 1, "' || repeat('n', 1000) || '": 1}', 'UTF8'), 'the answer has a member "' || repeat('n', 60) || '" twice in one object', 'a long name is not repeated'),
	(convert_to('{"k": ' || repeat('9', 100000) || '}', 'UTF8'), NULL, 'a hundred thousand digits'),
	(NULL, 'the answer is empty', 'null')) v(body, problem, what);
SELECT is(tokenbill.repeated_member(document), name, 'repeated_member: ' || document) FROM (VALUES ('{"a": 1, "b": {"a": 2}}', NULL), ('[{"a": 1}, {"a": 2}]', NULL), ('{"a": {"x": 1, "y": 2, "x": 3}}', 'x'),
	('{"": 1, "": 2}', ''), ('{"A": 1, "a": 2}', NULL), ('{"\u00e9": 1, "é": 2}', 'é'), ('1', NULL), ('no JSON', NULL), ('{"a": 1, "a":', NULL)) v(document, name);
SELECT is(problem, '$.v is not a number', 'no number: ' || text) FROM unnest('{1., .5, 00, 01, +1, 1e, 1e1000, --1, 1_000, ١, "1 000", 1u}'::text[]) text, LATERAL tokenbill.read_number(jsonb_build_object('v', text), '$.v', false, NULL);
SELECT is(array_agg(value), '{0,0,-5,1200,0.5,0.00000000}', 'numbers') FROM unnest('{0, -0, -5, 1.2E+3, 0.5, 0E-8}'::text[]) text, LATERAL tokenbill.read_number(jsonb_build_object('v', text), '$.v', false, NULL);
SELECT is(array_agg(value), '{0,0,0,0,0,0}', 'a zero is one however it is written, as a number too') FROM unnest('{"0E-6176", "-0E-6176", "0E+6111", "0.0E-9999"}'::text[] || '{0E-6176, 0.0E-200}') WITH ORDINALITY t (text, place),
	LATERAL tokenbill.read_number(CASE WHEN place <= 4 THEN jsonb_build_object('v', text) ELSE format('{"v": %s}', text)::jsonb END, '$.v', false, NULL);
SELECT is(array_agg(value), '{1234.56,-1234567,12345678901.5,1234,0.5,-12}', 'with commas, where the preset says so, and without') FROM unnest('{"1,234.56", "-1,234,567", "12,345,678,901.5", 1234, 0.5, -12}'::text[]) text, LATERAL tokenbill.read_number(jsonb_build_object('v', text), '$.v', false, ',');
SELECT is(value, 1234567.5, 'or with ' || separator) FROM unnest('{"''", " ", "_"}'::text[]) separator, LATERAL tokenbill.read_number(jsonb_build_object('v', concat_ws(separator, 1, 234, 567.5)), '$.v', false, separator);
SELECT is(problem, '$.v is not a number', 'no commas like these: ' || text) FROM unnest('{"1,23", "1,2345", ",123", "0,123", "01,234", "1,234,56", "1234,567", "1,,234", "1,234.", "1.234,567", "1,234.5,6", "1 234", "1,234e2", "1,234,", "- 1,234"}'::text[]) text, LATERAL tokenbill.read_number(jsonb_build_object('v', text), '$.v', false, ',');
SELECT is(problem, '$.v is not a number', 'a comma is not what was said') FROM tokenbill.read_number('{"v": "1,234"}', '$.v', false, ' ');

SELECT * FROM finish();
ROLLBACK;
