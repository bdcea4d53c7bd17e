-- What is masked and what is not, by redact() and mask_card(); the log has the same
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(619);

-- Card numbers, as people write them
SELECT is(tokenbill.redact(original), masked, 'card: ' || original) FROM (VALUES
	('4111111111111111', '************1111'), ('4111 1111 1111 1111', '**** **** **** 1111'), ('4111-1111-1111-1111', '****-****-****-1111'), ('4111+1111+1111+1111', '****+****+****+1111'),
	('4111%201111%201111%201111', '****%20****%20****%201111'), (E'4111\u00a01111\u00a01111\u00a01111', E'****\u00a0****\u00a0****\u00a01111'), (E'4111\u20111111\u20111111\u20111111', E'****\u2011****\u2011****\u20111111'),
	('378282246310005', '***********0005'), ('3782 822463 10005', '**** ****** *0005'), ('30569309025904', '**********5904'), ('4222222222222', '*********2222'), ('4222 2222 2222 2', '**** **** *222 2'),
	('5555555555554444', '************4444'), ('2223003122003222', '************3222'), ('2200000000000004', '************0004'), ('6011111111111117', '************1117'), ('3530111333300000', '************0000'), ('6200123456789012347', '***************2347'),
	('6759 6498 2643 8453', '**** **** **** 8453'), ('620012 3456789012347', '****** *********2347'), ('card=4111111111111111&cvc=123', 'card=************1111&cvc=123'), ('card_4111111111111111_x', 'card_************1111_x'),
	('''4111111111111111''', '''************1111'''), ('%4111111111111111%', '%************1111%'), ('paid with 4242 4242 4242 4242, then 5105 1051 0510 5100.', 'paid with **** **** **** 4242, then **** **** **** 5100.'),
	('4242 4242 4242 4242 4242 4242 4242', '**** **** **** 4242 4242 4242 4242'), ('\n4111111111111111\n', '\n************1111\n'), ('\u000a4111111111111111', '\u000a************1111'), ('{"n":"4111111111111111"}', '{"n":"************1111"}'),
	('№4111111111111111', '№************1111'), ('**4111111111111111**', '**************1111**'), ('$1 = ''411111111111...''', '$1 = ''************...'''), ('column n: "4111 1111 1..."', 'column n: "**** **** *..."')) v(original, masked);
SELECT is(tokenbill.mask_card(original), masked, 'mask_card: ' || original) FROM (VALUES
	('4111 1111 1111 1111', '**** **** **** 1111'), ('sk-ant-api03-AbCdEfGhIjKl and 4111111111111111', 'sk-ant-api03-AbCdEfGhIjKl and ************1111'), ('password=x', 'password=x'), ('', ''), ('none', 'none'),
	-- what is left of the first number is the beginning of another that is cut off
	('4242 4242 4242 4442 2 551 1..."', '**** **** **** **** * *** *..."')) v(original, masked);

-- Keys of known vendors: of each shape, the beginning is left
CREATE FUNCTION pg_temp.signs(n int, alphabet text DEFAULT 'AbCdEfGh1JkLmNoPqRsTuVwXyZ023456789') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(substr(alphabet, 1 + (i * 7 + i / length(alphabet)) % length(alphabet), 1), '') FROM generate_series(1, n) i $$;
CREATE TEMP TABLE key (prefix text, body text);
INSERT INTO key SELECT prefix, pg_temp.signs(n) FROM (VALUES ('sk-', 48), ('sk-proj-', 156), ('sk-svcacct-', 120), ('sk-admin-', 120), ('sk-None-', 40), ('sk-ant-api03-', 95), ('sk-ant-admin01-', 95), ('sk-ant-oat01-', 95), ('sk-or-v1-', 64),
	('AIza', 35), ('ya29.', 120), ('GOCSPX-', 28), ('xai-', 80), ('gsk_', 52), ('hf_', 34), ('r8_', 37), ('pplx-', 48), ('fw_', 24), ('nvapi-', 64), ('csk-', 48), ('tgp_v1_', 43), ('pa-', 43), ('jina_', 60), ('tvly-', 32), ('LTAI', 20), ('AKLT', 43), ('AKID', 32), ('STS.', 25),
	('bce-v3/', 60), ('sk_live_', 24), ('sk_test_', 24), ('rk_live_', 24), ('whsec_', 32), ('ghp_', 36), ('gho_', 36), ('ghs_', 36), ('github_pat_', 82), ('glpat-', 20), ('xoxb-', 50), ('xapp-', 60), ('npm_', 36), ('SG.', 66), ('hvs.', 90), ('A21AA', 92), ('dckr_pat_', 27),
	('rpa_', 40), ('hooks.slack.com/services/', 44), ('discord.com/api/webhooks/', 87), ('open.feishu.cn/open-apis/bot/v2/hook/', 36), ('api.telegram.org/bot', 45), ('tskey-', 40), ('lsv2_pt_', 44), ('sb_secret_', 32), ('sq0atp-', 22)) v(prefix, n)
UNION ALL SELECT prefix, pg_temp.signs(n, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567') FROM (VALUES ('AKIA', 16), ('ASIA', 16)) v(prefix, n)
UNION ALL SELECT prefix, pg_temp.signs(n, '0123456789abcdef') FROM (VALUES ('sk-', 32), ('sk_', 48), ('dapi', 32), ('dop_v1_', 64), ('shpat_', 32), ('0123456789abcdef0123456789abcdef.', 16)) v(prefix, n)
UNION ALL SELECT 'sk-', pg_temp.signs(48, 'abcdefghijklmnopqrstuvwxyz')
UNION ALL SELECT 'E', pg_temp.signs(79)
UNION ALL SELECT 'MIIE', 'vQIBADANBgkqhkiG9w0BAQEFAASC' || pg_temp.signs(200) UNION ALL SELECT 'MIIE', 'owIBAAKCAQEA' || pg_temp.signs(200);
SELECT is(tokenbill.redact(format(place, prefix || body)), format(place, prefix || '***'), format('%s and %s more: ' || place, prefix, length(body), '...'))
FROM key, (VALUES ('%s'), ('the key "%s" is wrong'), ('{"key":"%s"}'), ('(%s),'), ('k=%s&x'), ('_%s '), ('$1 = ''%s''')) v(place)
WHERE prefix <> 'E' OR place <> '_%s '; -- which has no beginning of its own
SELECT is_empty($$SELECT prefix, said FROM key, tokenbill.short_text('Incorrect API key provided: "' || prefix || body || '".') said
	WHERE strpos(said, left(body, 8)) > 0 OR strpos(said, right(body, 8)) > 0 OR said NOT LIKE 'Incorrect API key provided%'$$, 'nothing of any of them is left of what a vendor repeats');
SELECT is(tokenbill.redact(pair), masked, 'a pair: ' || masked) FROM (VALUES
	('LTAI' || pg_temp.signs(20) || ':' || pg_temp.signs(30), 'LTAI***'), ('AKLT' || pg_temp.signs(43) || ':' || pg_temp.signs(42) || '==', 'AKLT***'), ('AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', 'AKIA***'), ('AKIAIOSFODNN7EXAMPLE%3AwJalrXUtnFEMIbPxRfiCYEXAMPLEKEY', 'AKIA***')) v(pair, masked);

-- What tells by what stands before it, and what is left alone
SELECT is(tokenbill.redact(original), masked, original) FROM (VALUES
	('Authorization: Bearer abc123', 'Authorization: Bearer ***'), ('authorization: basic dXNlcjpwYXNz', 'authorization: basic ***'), ('"Authorization": "Bearer abcdefghijklmnop"', '"Authorization": "Bearer ***"'), ('{\"Authorization\":\"Bearer a1b2c3\"}', '{\"Authorization\":\"Bearer ***\"}'),
	('http_header(''Authorization'', ''Bearer a1b2c3'')', 'http_header(''Authorization'', ''Bearer ***'')'), ('Authorization: 0123456789abcdefgh', 'Authorization: ***'), ('Proxy-Authorization: Basic dXNlcjpwYXNz', 'Proxy-Authorization: Basic ***'), ('Authorization=Bearer%20abc.def.123', 'Authorization=Bearer%20***'),
	('curl -H ''Authorization: token a1b2c3d4''', 'curl -H ''Authorization: token ***'''), ('sent Bearer mF_9.B5f-4.1JqM', 'sent Bearer mF_9.B5f-4.1JqM'), ('sent Bearer mF_9.B5f-4.1JqM9', 'sent Bearer ***'), ('Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==', 'Basic ***'),
	('eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl.', 'eyJ***.'), ('eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn', 'eyJ***'),
	('postgres://user:secret@host/db', 'postgres://user:***@host/db'), ('redis://:password1@h:6379', 'redis://:***@h:6379'), ('mongodb+srv://u:p@ss:w0rd@h1,h2/x', 'mongodb+srv://u:***@h1,h2/x'), ('https://user:p%40ss@h/a', 'https://user:***@h/a'), ('amqp://u:a#b?c@h', 'amqp://u:***@h'),
	('GET /v1?api_key=abc123&x=1', 'GET /v1?api_key=***&x=1'), ('?access_token=abc&y', '?access_token=***&y'), ('/cb?a=b&token=abcdef&c=d', '/cb?a=b&token=***&c=d'), ('https://h/b?sv=1&sig=AbCdEf%2B&x', 'https://h/b?sv=1&sig=***&x'), ('?X-Amz-Signature=abcdef01&x', '?X-Amz-Signature=***&x'),
	('X-API-Key: abcdef123', 'X-API-Key: ***'), ('x-goog-api-key: abc123def', 'x-goog-api-key: ***'), ('http_header(''x-api-key'',''zz'')', 'http_header(''x-api-key'',''**'')'), ('OPENAI_API_KEY=abc DB_PASSWORD=pw1 x', 'OPENAI_API_KEY=*** DB_PASSWORD=*** x'), ('{"client_secret":"s\"x","a":1}', '{"client_secret":"***","a":1}'),
	('{\"refresh_token\": \"abc\"}', '{\"refresh_token\": \"***\"}'), ('host=h password=ab&cd(e user=u', 'host=h password=*** user=u'), ('host=h password=''a b'' user=u', 'host=h password=''***'' user=u'), ('ALTER ROLE r PASSWORD ''it''''s''', 'ALTER ROLE r PASSWORD ''***'''), ('ALTER ROLE r PASSWORD E''it\''s'' LOGIN', 'ALTER ROLE r PASSWORD E''***'' LOGIN'),
	('OPTIONS (user ''u'', password ''pw1'')', 'OPTIONS (user ''u'', password ''***'')'), ('ALTER ROLE r PASSWORD $x$pw1$x$ LOGIN', 'ALTER ROLE r PASSWORD $x$***$x$ LOGIN'), ('SET password = ''pw1'', a = 1', 'SET password = ''***'', a = 1'), ('password => ''pw1''', 'password => ''***'''), ('password = crypt(''pw1'', gen_salt(''bf''))', 'password = crypt(''***'', gen_salt(''bf''))'),
	('Key (password)=(pw1) already exists.', 'Key (password)=(***) already exists.'), ('PASSWORD ''it is cut o', 'PASSWORD ''***'), ('AccessKeySecret=abcdef', 'AccessKeySecret=***'),
	(E'-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nrest', E'-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----\nrest'), ('-----BEGIN%20PRIVATE%20KEY-----%0AMIIE%0A-----END%20PRIVATE%20KEY-----', '-----BEGIN%20PRIVATE%20KEY-----***-----END%20PRIVATE%20KEY-----'), ('key=-----BEGIN+EC+PRIVATE+KEY-----%0AMIIE', 'key=-----BEGIN+EC+PRIVATE+KEY-----***'), ('s://u:secret@h api_key=abc13EF11110 p:****et@ho', 's://u:***@h api_key=*** p:****et@ho'), ('s://u:secret@hapi_key=abc13EF11110passwdA:*dA:****et@ho', 's://u:***@hapi_key=***'), ('s://a?api_key=p://u;:1;x:secret@h', 's://a?api_key=***;:1;x:secret@h'), ('s://***:secret@h', 's://***:***@h'), ('''-----BEGIN PRIVATE KEY-----\nMC4C'' rest', '''-----BEGIN PRIVATE KEY-----***'' rest'), ('-----BEGIN ENCRYPTED PRIVATE KEY-----\nProc-Type: 4\nab', '-----BEGIN ENCRYPTED PRIVATE KEY-----***'), ('-----BEGIN OPENSSH PRIVATE KEY-----abcd-----END OPENSSH PRIVATE KEY-----', '-----BEGIN OPENSSH PRIVATE KEY-----***-----END OPENSSH PRIVATE KEY-----'), ('-----BEGIN PGP PRIVATE KEY BLOCK-----Version: x (y) abc', '-----BEGIN PGP PRIVATE KEY BLOCK-----***'),
	('password=s3cret:-----BEGIN PRIVATE KEY-----\nab cd\n-----END PRIVATE KEY----- x', 'password=***-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY----- x'), ('oauth_password=-----BEGIN PRIVATE KEY-----MIIabc def-----END PRIVATE KEY-----', 'oauth_password=-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----'),
	('ALTER ROLE r PASSWORD U&''pw1'' UESCAPE ''!''', 'ALTER ROLE r PASSWORD U&''***'' UESCAPE ''!'''), ('CREATE SUBSCRIPTION s CONNECTION ''host=h password=''''two words'''' user=u'' PUBLICATION p', 'CREATE SUBSCRIPTION s CONNECTION ''host=h password=''''***'''' user=u'' PUBLICATION p'),
	('CONNECTION ''password=''''it\''''s here'''' user=u''', 'CONNECTION ''password=''''***'''' user=u'''), ('CONNECTION ''password=''''two words', 'CONNECTION ''password=''''***'), ('set_config(''app.api_key'', ''hunter2'', false)', 'set_config(''app.api_key'', ''***'', false)'), ('DB_PASS=hunter2 MYSQL_PWD=hunter2', 'DB_PASS=*** MYSQL_PWD=***')) v(original, masked);
SELECT is(tokenbill.redact(line), line, 'left alone: ' || line) FROM (VALUES
	(''), (' '), ('SELECT 1'), ('550e8400-e29b-41d4-a716-446655440000'), ('42424242-4242-4242-8242-424242424242'), ('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'), ('1541815603606036480'), ('1772366400000'), ('4111111111111112'), ('20260301120000'), ('ORD-2026-03-01-000042'), ('0.4111111111111111'), ('41111111111111111111'),
	('a4111111111111111f'), ('req_011CSHoEeqs5C35K2UUqR7Fy'), ('chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT'), ('4111.1111.1111.1111'), ('parameter "password_encryption" changed to "scram-sha-256"'), ('password authentication failed for user "x"'), ('Basic knowledge of bearer instruments'), ('Bearer of good-news and-more-words'), ('WHERE password = $1 AND api_key=$2'),
	('password = excluded.password'), ('"password": null, "api_key": true'), ('password IS NULL'), ('max_tokens=512 access_token_expires_in=3600'), ('sk-learn-and-other-python-packages'), ('http://localhost:8080/a@b'), ('https://example.com:443/x?y=1'), ('-----BEGIN CERTIFICATE-----abc'), ('-----BEGIN PUBLIC KEY-----abc'), ('LSN 0/16B3748, timeline 1'),
	('2026-03-05 12:00:00.123 UTC [4242] LOG:  statement'), ('d41d8cd98f00b204e9800998ecf8427e.jpg'), ('{"secret": "provider:deepseek", "token": "tbt_AbCdEfGhIjKlMnOpQrStUvWxYz012345"}'), ('AKIAshort'), ('eyJhbGciOiJIUzI1NiJ9'), ('SCRAM-SHA-256'), ('key_id 3f0a...'''), ('$1 = ''2026-03-05 12:00...'''), ('ghp_short, hf_hub_download_some_model_name'), ('password::text'), ('git 9fceb02d0ae598e95dc970b74767f19372d61af8'), ('PASSWORD NULL'), ('SET password = '''', a = ''b'''), ('bypass=1 PASSWORD USED'), ('(''api_key'', ''name'')'), ('Passwort 4711')) v(line);
SELECT is(tokenbill.redact(NULL), NULL, 'null is null');

-- Masked text stays as it is, and nothing gets longer
CREATE TEMP TABLE piece AS SELECT row_number() OVER () AS n, t FROM (
	SELECT prefix || body AS t FROM key UNION ALL SELECT unnest(ARRAY['4111 1111 1111 1111', '4242424242424242', '4242 ', '3782 822463 10005', 'password=', 'password: ', '"', '''', ' ', '-', '_', ':', '@', '://', '/', '\', '\"', '%20', '...''', '***', '*', '************4242', '**** **** **** 1111',
		'Bearer ', 'Basic ', 'Authorization: ', 'dXNlcjpwYXNz', '?token=', '&', 'api_key', '=>', '=', '(', ')', ')=(', 'PASSWORD ', '$$', '$1', 'E''', 'postgres://u:', '-----BEGIN RSA PRIVATE KEY-----', '-----END RSA PRIVATE KEY-----', 'eyJhbGciOiJIUzI1NiJ9', '.', 'a', '7', 'é', '€', E'\n', ';', ',', '{', '}'])) x;
SELECT is(count(*), 0::bigint, 'of 20,000 texts at random, masking again changes none and none is longer')
FROM (SELECT tokenbill.redact(t) AS once, t, tokenbill.mask_card(t) AS card FROM (SELECT g, string_agg(p.t, '' ORDER BY i) AS t
	FROM generate_series(1, 20000) g, generate_series(1, 12) i JOIN LATERAL (SELECT t FROM piece WHERE n = 1 + (hashint8(g * 1000 + i)::bigint + 2147483648) % (SELECT count(*) FROM piece)) p ON true GROUP BY g) x) y
WHERE tokenbill.redact(once) <> once OR octet_length(once) > octet_length(t) OR tokenbill.mask_card(card) <> card OR length(card) <> length(t);
SELECT is(length(tokenbill.redact(repeat('4111111111111111 password=x ', 100000))), 2800000, 'a text of 3 MB');
SELECT is(concat(provolatile, proparallel, proisstrict), 'ist', proname || ' is immutable, strict and safe') FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace AND proname IN ('redact', 'mask_card');

SELECT * FROM finish();
ROLLBACK;
