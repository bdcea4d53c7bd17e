-- Rules for errors: one's own, their order, what they may say; and answers that mean harm
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(136);
SET LOCAL tokenbill.clock = '2026-03-05 12:00:00+00';
CREATE FUNCTION pg_temp.say(provider text, status int, body text, headers jsonb DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', c.class, CASE WHEN c.retryable THEN 'again' END, c.retry_after, c.rule) FROM tokenbill.classify_error(say.provider, say.status, say.body, say.headers) c
$$;
CREATE FUNCTION pg_temp.bytes(vendor text, status int, body bytea) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', c.class, CASE WHEN c.retryable THEN 'again' END, c.code, c.message, c.rule) FROM tokenbill.classify(bytes.vendor, bytes.status, bytes.body, NULL) c
$$;

-- One of one's own
SELECT is(pg_temp.say('acme', 418, '{"why": {"word": "teapot"}}'), 'invalid status_client', 'a vendor that nobody knows');
SELECT is(to_jsonb(r), '{"rule": "acme_teapot", "builtin": false, "vendor": "acme", "priority": 50, "status": "418,5xx", "body": {"why.word,word": ["tea*", "!teabag"]}, "headers": {"x-kettle": "on"}, "class": "rate_limit", "retryable": true,
	"retry_after": "00:00:03", "wait": "why.seconds", "advice": "Too many requests at once: repeat it after the wait, and send fewer."}', 'add_error_rule')
FROM tokenbill.add_error_rule('acme_teapot', 'rate_limit', 'acme', '418,5xx', '{"why.word,word": ["tea*", "!teabag"]}', '{"x-kettle": "on"}', retry_after => '3 s', wait => 'why.seconds') r;
SELECT is(pg_temp.say(vendor, status, body, headers::jsonb), said, what) FROM (VALUES
	('acme', 418, '{"why": {"word": "teapot"}}', '{"X-Kettle": "ON"}', 'rate_limit again 00:00:03 acme_teapot', 'all of it is true'),
	('ACME', 500, '{"word": "TEA"}', '{"x-kettle": "on"}', 'rate_limit again 00:00:03 acme_teapot', 'in the other place, another status'),
	('acme', 418, '{"why": {"word": "teapot", "seconds": 8}}', '{"x-kettle": "on"}', 'rate_limit again 00:00:08 acme_teapot', 'it says how long'),
	('acme', 418, '{"why": {"word": "teapot", "seconds": 8}}', '{"x-kettle": "on", "retry-after": "2"}', 'rate_limit again 00:00:02 acme_teapot', 'headers before that'),
	('acme', 418, '{"why": {"word": "teabag"}}', '{"x-kettle": "on"}', 'invalid status_client', 'what must not be'),
	('acme', 418, '{"why": {"word": "coffee"}}', '{"x-kettle": "on"}', 'invalid status_client', 'another word'),
	('acme', 418, '{"why": {"word": "teapot"}}', '{"x-kettle": "off"}', 'invalid status_client', 'another header'),
	('acme', 418, '{"why": {"word": "teapot"}}', '{}', 'invalid status_client', 'no header'),
	('acme', 419, '{"why": {"word": "teapot"}}', '{"x-kettle": "on"}', 'invalid status_client', 'another status'),
	('acme', NULL, '{"why": {"word": "teapot"}}', '{"x-kettle": "on"}', 'unknown', 'no status'),
	('acme', 418, '{"why": ["teapot"]}', '{"x-kettle": "on"}', 'invalid status_client', 'another place'),
	('other', 418, '{"why": {"word": "teapot"}}', '{"x-kettle": "on"}', 'invalid status_client', 'another vendor'),
	(NULL, 418, '{"why": {"word": "teapot"}}', '{"x-kettle": "on"}', 'invalid status_client', 'no vendor')) t(vendor, status, body, headers, said, what);
SELECT is(c.code, 'teapot', 'what a rule went by is the code, wherever it is') FROM tokenbill.classify_error('acme', 418, '{"why": {"word": "teapot"}}', '{"x-kettle": "on"}') c;
SELECT is(array_agg(r.rule || ' ' || r.priority), '{"acme_teapot 50"}', 'error_rules has it first') FROM (SELECT * FROM tokenbill.error_rules LIMIT 1) r;

-- Which goes first
SELECT tokenbill.add_error_rule('acme_early', 'auth', 'acme', '418', priority => 10), tokenbill.add_error_rule('for_all', 'billing', NULL, '418', priority => 10), tokenbill.add_error_rule('acme_late', 'billing', 'acme', '4xx', priority => 950) \g /dev/null
SELECT is(pg_temp.say('acme', 418, '{}'), 'auth acme_early', 'a smaller priority; of one priority, that of the vendor');
SELECT is(pg_temp.say('other', 418, '{}'), 'billing for_all', 'of nobody in particular');
SELECT is(pg_temp.say('acme', 400, '{}'), 'invalid status_client', 'a late one is behind all others');
SELECT is((tokenbill.drop_error_rule('acme_early')).class, 'auth', 'drop_error_rule returns what there was');
SELECT is(pg_temp.say('acme', 418, '{}'), 'billing for_all', 'the next one');
SELECT tokenbill.drop_error_rule('for_all') \g /dev/null

-- In the place of a built-in one
SELECT is(pg_temp.say('openai', 429, '{"error": {"code": "insufficient_quota"}}'), 'billing openai_quota', 'as it comes');
SELECT tokenbill.add_error_rule('openai_quota', 'permission', 'openai', '429', '{"error.code": "insufficient_quota"}', advice => 'Ask Ann.', priority => 900) \g /dev/null
SELECT is(pg_temp.say('openai', 429, '{"error": {"code": "insufficient_quota"}}'), 'billing billing_code', 'one''s own stands in its place, where it says');
SELECT is(count(*), 1::bigint, 'error_rules has one of them') FROM tokenbill.error_rules WHERE rule = 'openai_quota' AND NOT builtin;
SELECT tokenbill.drop_error_rule('openai_quota'), tokenbill.add_error_rule('openai_quota', 'permission', 'openai', '429', '{"error.code": "insufficient_quota"}', advice => 'Ask Ann.') \g /dev/null
SELECT is(c.class || c.advice, 'permissionAsk Ann.', 'with a word for whoever is on call') FROM tokenbill.classify_error('openai', 429, '{"error": {"code": "insufficient_quota"}}') c;
SELECT tokenbill.drop_error_rule('openai_quota') \g /dev/null
SELECT is(pg_temp.say('openai', 429, '{"error": {"code": "insufficient_quota"}}'), 'billing openai_quota', 'dropped, the built-in one counts again');
SELECT pg_temp.refused(statement, sqlstate, detail::jsonb, statement) FROM (VALUES
	($$SELECT tokenbill.drop_error_rule('openai_quota')$$, 'PT404', '{"rule": "openai_quota"}'),
	($$SELECT tokenbill.drop_error_rule('none')$$, 'PT404', '{"rule": "none"}'),
	($$SELECT tokenbill.add_error_rule('acme_teapot', 'auth', status => '400')$$, 'PT409', '{"rule": "acme_teapot"}'),
	($$SELECT tokenbill.add_error_rule('empty', 'auth', 'acme')$$, '22023', '{"argument": "body"}'),
	($$SELECT tokenbill.add_error_rule('a', 'auth', status => '99')$$, '22023', '{"argument": "status"}'),
	($$SELECT tokenbill.add_error_rule('a', 'auth', status => '429, 500-499')$$, '22023', '{"argument": "status"}'),
	($$SELECT tokenbill.add_error_rule('a', 'auth', status => '400-')$$, '22023', '{"argument": "status"}'),
	($$SELECT tokenbill.add_error_rule('a', 'auth', status => '4xx-5xx')$$, '22023', '{"argument": "status"}'),
	($$SELECT tokenbill.add_error_rule('a', 'auth', status => '400;500')$$, '22023', '{"argument": "status"}'),
	($$SELECT tokenbill.add_error_rule('a', 'auth', body => '{".a": "x"}')$$, '22023', '{"argument": "body"}'),
	($$SELECT tokenbill.add_error_rule('a', 'auth', headers => '{"a b": "x"}')$$, '22023', '{"argument": "headers"}')) t(statement, sqlstate, detail);

-- Paths and patterns
SELECT tokenbill.drop_error_rule(rule) FROM tokenbill.error_rules WHERE NOT builtin \g /dev/null
CREATE FUNCTION pg_temp.fits(conditions jsonb, body text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	result boolean;
BEGIN
	PERFORM tokenbill.add_error_rule('trial', 'declined', body => conditions);
	SELECT coalesce(c.rule = 'trial', false) INTO result FROM tokenbill.classify_error('acme', 400, body) c;
	PERFORM tokenbill.drop_error_rule('trial');
	RETURN result;
END $$;
SELECT is(pg_temp.fits(conditions::jsonb, body), good, format('%s: %s', conditions, body)) FROM (VALUES
	('{"a": "x"}', '{"a": "x"}', true), ('{"a": "x"}', '{"A": "x"}', false), ('{"a": "X"}', '{"a": "x"}', true), ('{"a": "x"}', '{"a": "xx"}', false), ('{"a": "x*"}', '{"a": "xx"}', true),
	('{"a": "*x*y"}', '{"a": "axbxcy"}', true), ('{"a": "*x*y"}', '{"a": "axbxcyz"}', false), ('{"a": "*"}', '{"a": ""}', true), ('{"a": "*"}', '{"a": null}', false), ('{"a": "*"}', '{}', false),
	('{"a": "*"}', '{"a": {}}', true), ('{"a": "{}"}', '{"a": {}}', false), ('{"a": "true"}', '{"a": true}', true), ('{"a": "-12"}', '{"a": -12}', true), ('{"a": "12"}', '{"a": "12"}', true),
	('{"a": "-9223372036854775808"}', '{"a": "-9223372036854775808"}', true), ('{"a": "1.5"}', '{"a": 1.5}', false), ('{"a": "!0"}', '{"a": 1}', true), ('{"a": "!0"}', '{"a": 0}', false), ('{"a": "!0"}', '{"b": 0}', false),
	('{"a": ["!0", "!1"]}', '{"a": 1}', false), ('{"a": ["!ab", "a*"]}', '{"a": "ac"}', true), ('{"a": ["!ab", "a*"]}', '{"a": "ab"}', false), ('{"a": "x", "b": "y"}', '{"a": "x", "b": "y"}', true), ('{"a": "x", "b": "y"}', '{"a": "x"}', false),
	('{"a.b": "x"}', '{"a": {"b": "x"}}', true), ('{"*.b": "x"}', '{"c": {"b": "y"}, "d": {"b": "x"}}', true), ('{"*_r.b": "x"}', '{"a_r": {"b": "x"}}', true), ('{"*_r.b": "x"}', '{"a": {"b": "x"}}', false), ('{"a.1": "x"}', '{"a": ["y", "x"]}', true),
	('{"a.0": "x"}', '{"a": ["y", "x"]}', false), ('{"a.*": "x"}', '{"a": ["y", "x"]}', true), ('{"a.*.b": "x"}', '{"a": [1, {"b": "x"}]}', true), ('{"a,b": "x"}', '{"b": "x"}', true), ('{"a, b.c": "x"}', '{"b": {"c": "x"}}', true),
	('{"a": "*\\u4f59\\u989D*"}', '{"a": "x\u4f59\u989dx"}', true), ('{"a": "*\\u4f59*"}', '{"a": "x余x"}', true), ('{"a": "\\u4f5"}', '{"a": "\\u4f5"}', true), ('{"a": "\\u4f59x"}', '{"a": "余"}', false),
	('{"$": "*down*"}', 'the server is down today', true), ('{"$": "*down*"}', '{"a": "down"}', false), ('{"$": "down"}', '"down"', true), ('{"a": "x"}', '[{"a": "x"}]', false), ('{"*.a": "x"}', '[{"a": "x"}]', true)) t(conditions, body, good);

-- What nobody but a superuser can write, and no function would have let in
INSERT INTO tokenbill.error_rule (rule, priority, status, body, class, retryable, advice) VALUES ('odd', 1, '418', '{"a": {"b": {"c": "d", "e": "f"}, "g": "h"}, "i": ["x", "y", ["z", "z", "z", "z", "z"], {"j": "k"}, 5, null], "l": true}', 'auth', false, '');
SELECT is(pg_temp.say('acme', 418, '{"a": 1, "i": "y", "l": 1}'), 'auth odd', 'places that have no patterns have to be there');
SELECT is(pg_temp.say('acme', 418, '{"a": 1, "i": "z", "l": 1}'), 'invalid status_client', 'of patterns only those count that are texts');
DELETE FROM tokenbill.error_rule WHERE rule = 'odd';

-- Whose rules
INSERT INTO tokenbill.secret VALUES ('key', 1, 1, 'of no use', '', '', '', '', tokenbill.clock(), tokenbill.clock());
SELECT tokenbill.add_preset('mine', 'https://h/api', vendor => 'stripe'), tokenbill.add_preset_request('mine', '/left', '$.left', headers => '{}'), tokenbill.add_provider('cny', 'moonshot_cn', secret_name => 'key'), tokenbill.add_provider('zhipu', 'manual'), tokenbill.add_provider('openai', 'mine'), tokenbill.add_provider('Acme', 'manual') \g /dev/null
SELECT is(c.vendor, t.vendor, what) FROM (VALUES ('cny', 'moonshot', 'a provider: the vendor of its preset'), ('zhipu', 'zhipu', 'the preset has none: the name may be one'), ('openai', 'stripe', 'a provider goes before a vendor of that name'),
	('siliconflow_com', 'siliconflow', 'a preset'), ('mine', 'stripe', 'one of one''s own'), ('Acme', NULL, 'a provider of nobody'), ('nobody', NULL, 'no provider'), (NULL, NULL, 'null'), ('', NULL, 'empty')) t(provider, vendor, what),
	LATERAL tokenbill.classify_error(t.provider, 500, '') c;
SELECT is(vendor, 'stripe', 'provider_presets says so') FROM tokenbill.provider_presets WHERE preset = 'mine';

SELECT tokenbill.drop_provider('openai') \g /dev/null

-- Answers that mean harm: an answer comes all the same
SELECT is(pg_temp.say('openai', 429, body), said, what) FROM (VALUES
	(repeat('[', 100000), 'rate_limit again status_too_many', 'a hundred thousand deep'),
	(repeat('{"a":', 100000) || '1' || repeat('}', 100000), 'rate_limit again status_too_many', 'objects, too'),
	('{"error": {"code": "insufficient_quota"}, "a": ' || repeat('[', 499) || repeat(']', 499) || '}', 'billing openai_quota', 'five hundred are read'),
	('{"error": {"code": "insufficient_quota"}, "a": ' || repeat('[', 500) || repeat(']', 500) || '}', 'rate_limit again status_too_many', 'one more is not'),
	('{"error": {"code": "insufficient_quota"}, "a": "' || repeat('[', 501) || '"}', 'billing openai_quota', 'in a text they are not counted'),
	('{"error": {"code": "insufficient_quota", "a": "' || repeat('x', 500000) || '"}}', 'billing openai_quota', 'half a megabyte is'),
	('{"error": {"code": "insufficient_quota", "a": "' || repeat('x', 2000000) || '"}}', 'rate_limit again status_too_many', 'two are not'),
	('{"error": {"code": "insufficient_quota", "n": 1e400, "m": ' || repeat('9', 1000) || '}}', 'billing openai_quota', 'numbers that fit nowhere'),
	('{"error": {"code": "insufficient_quota", "n": "\ud83d", "m": "\u0000", "\u0000": "\ude00\ud83d\ude00"}}', 'billing openai_quota', 'halves of surrogates, and NUL'),
	('{"error": {"code": "rate_limit_exceeded"}, "error": {"code": "insufficient_quota"}}', 'billing openai_quota', 'a member twice: the last counts, as in jsonb'),
	('{"error": {"code": "insufficient_quota"', 'rate_limit again status_too_many', 'cut off'),
	('{"error": {"code": "insufficient_quota"}} and more', 'billing openai_quota', 'with something behind'),
	(E'\ufeff  {"error": {"code": "insufficient_quota"}}', 'billing openai_quota', 'with a byte order mark'),
	(E'{"error": {"code": "insufficient_quota", "a": "b\nc"}}', 'billing openai_quota', 'with a line feed in a text'),
	('{"error": {"code": ["insufficient_quota"]}}', 'rate_limit again status_too_many', 'an array in its place'),
	('{"error": "insufficient_quota"}', 'rate_limit again status_too_many', 'a text in the place of an object'),
	('null', 'rate_limit again status_too_many', 'null'), ('"', 'rate_limit again status_too_many', 'a quotation mark'), ('{', 'rate_limit again status_too_many', 'a brace'), ('', 'rate_limit again status_too_many', 'nothing')) t(body, said, what);
SELECT is(pg_temp.bytes('openai', 429, body), said, what) FROM (VALUES
	('{"error": {"code": "insufficient_quota", "message": "f'::bytea || '\xfc' || 'r"}}'::bytea, 'billing insufficient_quota f?r openai_quota', 'Latin-1'),
	('\x00ff'::bytea || '{"error": {"code": "insufficient_quota"}}'::bytea, 'rate_limit again ?{"error": {"code": "insufficient_quota"}} status_too_many', 'bytes of zero'),
	(NULL, 'rate_limit again status_too_many', 'null')) t(body, said, what);
SELECT is(pg_temp.say('openai', 429, '{"error": {"code": "insufficient_quota"}}', headers::jsonb), 'billing openai_quota', 'headers: ' || headers) FROM unnest('{"null",[],"\"a\"",5,"{\"retry-after\": null}","{\"\": \"\"}"}'::text[]) headers;
SELECT is((SELECT string_agg(DISTINCT c.class, ' ') FROM generate_series(1, 2000) i, LATERAL (SELECT string_agg(substr('{}[]":,\ue10-tn ab', 1 + floor(random() * 18)::int, 1), '') AS body FROM generate_series(1, 3 + i % 40)) b, tokenbill.classify_error('openai', 429, b.body) c), 'rate_limit', 'two thousand at random');

-- No key that an answer repeats is repeated
SELECT is(c.message, said, 'of: ' || left(body, 40)) FROM (VALUES
	('{"error": {"message": "Incorrect API key provided: sk-proj-abcdefghij0123456789. Look at it."}}', 'Incorrect API key provided: ***. Look at it.'),
	('{"message": "Bearer abc123 is over"}', 'Bearer *** is over'), ('{"message": "card 4111 1111 1111 1111"}', 'card ***'), (E'{"message": "two\\nlines\\u0000"}', E'two lines\ufffd'), ('key-1a2b', 'key-***'), ('{"message": "look at https://ann:secret@db.example/x"}', 'look at https://ann:***@db.example/x'),
	('<html><title>500</title>', NULL), ('{"cut": "off', NULL), ('{"message": ""}', NULL)) t(body, said), LATERAL tokenbill.classify_error('acme', 400, body) c;
SELECT is(c.code, '***', 'nor as a code') FROM tokenbill.classify_error('acme', 400, '{"code": "abcdefghij0123456789abcd"}') c;
SELECT is(length(c.message), 250, 'and no more than a line') FROM tokenbill.classify_error('acme', 400, to_jsonb(repeat('words ', 1000))::text) c;

-- A sentence says what is the matter, and behind a colon what to do
SELECT is_empty($$SELECT rule, advice FROM tokenbill.error_rules WHERE builtin AND advice !~ '^[A-Z].*[^.:]: [a-z].*\.$'$$, 'each sentence says what to do');
SELECT * FROM finish();
ROLLBACK;
