-- What the worker knows of HTTP without asking anybody: how long a server wants it to wait, and where it does not go
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(333);
-- 1613462400 seconds after 1970 began
SET LOCAL tokenbill.clock = '2021-02-16 08:00:00+00';

-- One header of a 429
SELECT is(tokenbill.retry_after(jsonb_build_object(name, value), 429)::text, wait, format('%s: %s', name, value))
FROM (VALUES
	-- RFC 9110 10.2.3
	('retry-after', '30', '00:00:30'), ('Retry-After', '30', '00:00:30'), ('RETRY-AFTER', ' 30	', '00:00:30'), ('retry-after', '0', '00:00:00'), ('retry-after', '0.5', '00:00:00.5'),
	('retry-after', '007', '00:00:07'), ('retry-after', '1.0001', '00:00:01.001'), ('retry-after', '1.0000', '00:00:01'), ('retry-after', '86400', '24:00:00'),
	('retry-after', 'Tue, 16 Feb 2021 08:01:00 GMT', '00:01:00'), ('retry-after', 'Tuesday, 16-Feb-21 08:01:00 GMT', '00:01:00'), ('retry-after', 'Tue Feb 16 08:01:00 2021', '00:01:00'),
	('retry-after', 'Mon, 05 Aug 2019 09:27:05 GMT', '00:00:00'), ('retry-after', 'Sunday, 06-Nov-94 08:49:37 GMT', '00:00:00'), ('retry-after', 'Sun Nov  6 08:49:37 1994', '00:00:00'),
	('retry-after', 'tue, 16 feb 2021 08:01:00 gmt', '00:01:00'), ('retry-after', 'Tue, 16 Feb 2021 08:01:60 GMT', '00:02:00'), ('retry-after', 'Tue, 16 Feb 2021 09:01:00 +0100', '00:01:00'),
	-- a year of two digits is at most fifty years ahead
	('retry-after', 'Friday, 16-Feb-71 08:01:00 GMT', '24:00:00'), ('retry-after', 'Friday, 16-Feb-72 08:01:00 GMT', '00:00:00'),
	('retry-after', '2021-02-16T08:01:00Z', '00:01:00'), ('retry-after', '2021-02-16T08:01:00.250+00:00', '00:01:00.25'), ('retry-after', '2021-02-16 03:01:00-05:00', '00:01:00'), ('retry-after', '2021-02-16t16:01:00+0800', '00:01:00'),
	('retry-after', '1613462490', '00:01:30'), ('retry-after', '1613462490.5', '00:01:30.5'), ('retry-after', '1613462490500', '00:01:30.5'), ('retry-after', '1613462399', '00:00:00'),
	('retry-after', '6m0s', '00:06:00'), ('retry-after', '12ms', '00:00:00.012'), ('retry-after', '1h2m3.5s', '01:02:03.5'), ('retry-after', '1s', '00:00:01'), ('retry-after', '0s', '00:00:00'),
	('retry-after', '1.5ms', '00:00:00.002'), ('retry-after', '20us', '00:00:00.001'), ('retry-after', '20µs', '00:00:00.001'), ('retry-after', '20μs', '00:00:00.001'), ('retry-after', '1s500000ns', '00:00:01.001'), ('retry-after', '2m59.56s', '00:02:59.56'),
	('retry-after', '0.5m', '00:00:30'), ('retry-after', '1d', '24:00:00'),
	-- repeated: the longest
	('retry-after', '5, 10', '00:00:10'), ('retry-after', '10, 5', '00:00:10'), ('retry-after', 'soon, 5', '00:00:05'), ('retry-after', 'Tue, 16 Feb 2021 08:01:00 GMT, Tue, 16 Feb 2021 08:02:00 GMT', '00:02:00'), ('retry-after', '5;comment=1', '00:00:05'),
	('retry-after-ms', '1500', '00:00:01.5'), ('retry-after-ms', '0', '00:00:00'), ('retry-after-ms', '1613462490500', '24:00:00'), ('x-ms-retry-after-ms', '250', '00:00:00.25'), ('retry-after-ms', '12.5', '00:00:00.013'),
	-- more than a day is one
	('retry-after', '86401', '24:00:00'), ('retry-after', '999999999', '24:00:00'), ('retry-after', 'Sat, 06 Mar 2021 08:00:00 GMT', '24:00:00'), ('retry-after', '9999-12-31T23:59:59Z', '24:00:00'), ('retry-after', '999999999h', '24:00:00'), ('retry-after', '4102444800', '24:00:00'),
	-- a time of renewal, with nothing said of what is left
	('x-ratelimit-reset', '1613462490', '00:01:30'), ('X-RateLimit-Reset', '90', '00:01:30'), ('x-ratelimit-reset', 'Tue Feb 16 2021 09:02:42 GMT+0100 (Central European Standard Time)', '00:02:42'),
	('x-ratelimit-reset', 'Tue Feb 16 2021 09:02:42 GMT+0100 (Mitteleuropäische Normalzeit (Winter))', '00:02:42'), ('x-ratelimit-reset', 'Tue Feb 16 2021 08:02:42 GMT', '00:02:42'), ('x-ratelimit-reset', 'Tue Feb 16 2021 13:32:42 GMT+0530', '00:02:42'),
	('x-ratelimit-reset-requests', '6m0s', '00:06:00'), ('x-rate-limit-reset', '2021-02-16T08:00:10Z', '00:00:10'), ('ratelimit-reset', '7', '00:00:07'), ('anthropic-ratelimit-requests-reset', '2021-02-16T08:00:10Z', '00:00:10'), ('anthropic-priority-input-tokens-reset', '2021-02-16T08:00:10Z', '00:00:10'),
	('x-ratelimit-reset-after', '1.25', '00:00:01.25'), ('x-ratelimit-reset-after', '0', '00:00:00'), ('x-ratelimit-reset-ms', '250', '00:00:00.25'), ('x-ratelimit-reset', '1613462000', '00:00:00'),
	('x-ratelimit-reset', '5, 3600', '01:00:00'),
	-- Azure: not known
	('x-ratelimit-reset-requests', '0', NULL), ('x-ratelimit-reset-requests', '-1', NULL),
	-- the IETF's
	('ratelimit', '"default";r=0;t=30', '00:00:30'), ('RateLimit', 'default;r=0;t=30', '00:00:30'), ('ratelimit', '"a";r=0;t=5, "b";r=0;t=7, "c";r=9;t=99', '00:00:07'), ('ratelimit', '"default"; r=0; t=30', '00:00:30'), ('ratelimit', '"a";t=4;r=0;pk=:cHNuYS4uLg==:;x;y="\"";z=?1;q=tok/en;n=-5;d=@1', '00:00:04'),
	('ratelimit', 'limit=100, remaining=0, reset=30', '00:00:30'), ('ratelimit', 'limit=100,remaining=0,reset=30;w=1', '00:00:30'), ('ratelimit', '"default";r=50;t=30', NULL), ('ratelimit', 'limit=100, remaining=1, reset=30', NULL), ('ratelimit', '"default";r=0', NULL), ('ratelimit', '"default";t=30', NULL),
	-- malformed, none of it counts
	('ratelimit', '"default";r=0;t=30,', NULL), ('ratelimit', '"default";r=0;t=30;', NULL), ('ratelimit', '"default;r=0;t=30', NULL), ('ratelimit', '"a";r=0;t=30 "b"', NULL), ('ratelimit', '"a";r=0;t=30, ~', NULL), ('ratelimit', '"a";R=0;t=30', NULL), ('ratelimit', '"a";r=0;t=abc', NULL), ('ratelimit', '"a";r=0;t=-5', NULL),
	('ratelimit', '"ä";r=0;t=30', NULL), ('ratelimit', '"a";r=;t=30', NULL), ('ratelimit', '', NULL), ('ratelimit', ',', NULL), ('ratelimit', '"a\', NULL), ('ratelimit', ':YQ', NULL), ('ratelimit-policy', '"burst";q=100;w=60,"daily";q=1000;w=86400', NULL),
	-- what is not a time is nothing, and never zero
	('retry-after', '', NULL), ('retry-after', ' ', NULL), ('retry-after', '-1', NULL), ('retry-after', '+5', NULL), ('retry-after', '5s ago', NULL), ('retry-after', 'soon', NULL), ('retry-after', '5 s', NULL), ('retry-after', '1e3', NULL), ('retry-after', '0x10', NULL), ('retry-after', '5.', NULL), ('retry-after', '.5', NULL),
	('retry-after', '1.2.3', NULL), ('retry-after', '1 2', NULL), ('retry-after', '1234567890123456', NULL), ('retry-after', '100000000000000', NULL), ('retry-after', 'NaN', NULL), ('retry-after', 'null', NULL), ('retry-after', '"5"', NULL), ('retry-after', '５', NULL),
	('retry-after', '5x', NULL), ('retry-after', '5m5', NULL), ('retry-after', '-5m', NULL), ('retry-after', 'ms', NULL), ('retry-after', '5min', NULL), ('retry-after', '1m1m1m1m1m1m1m1m1m', NULL),
	('retry-after', 'Tue, 30 Feb 2021 08:01:00 GMT', NULL), ('retry-after', 'Tue, 29 Feb 2021 08:01:00 GMT', NULL), ('retry-after', 'Tue, 16 Feb 2021 24:01:00 GMT', NULL), ('retry-after', 'Tue, 16 Feb 2021 08:61:00 GMT', NULL), ('retry-after', 'Tue, 16 Feb 2021 08:01:61 GMT', NULL), ('retry-after', 'Tue, 16 Feb 2021 08:01:000 GMT', NULL),
	('retry-after', 'Tue, 16 Foo 2021 08:01:00 GMT', NULL), ('retry-after', 'Tue, 16 Feb 2021 08:01:00', NULL), ('retry-after', 'Tue, 16 Feb 2021 08:01 GMT', NULL), ('retry-after', 'Tue, 16 Feb 1969 08:01:00 GMT', NULL), ('retry-after', 'Tue, 16 Feb 2021 08:01:00 GMTX', NULL), ('retry-after', 'Tue, 16 Feb 2021 08:01:00 EST', NULL),
	('retry-after', '2021-02-16T08:01:00', NULL), ('retry-after', '2021-02-16', NULL), ('retry-after', '16.02.2021 09:02:42', NULL), ('retry-after', 'mar. 16 févr. 2021 09:02:42 GMT+0100', NULL), ('retry-after', 'Tue Feb 16 2021 09:02:42 GMT+0100 (Central', NULL), ('retry-after', 'Tue Feb 16 2021 09:02:42', NULL), ('retry-after', '2021-02-16T08:01:00+16:00', NULL),
	('x-ratelimit-remaining', '0', NULL), ('x-ratelimit-limit', '100, 100;window=60, 10000;window=86400', NULL), ('date', 'Tue, 16 Feb 2021 09:01:00 GMT', NULL), ('x-retry-after', '5', NULL), ('expires', '5', NULL), ('', '5', NULL),
	(repeat('x-ratelimit-reset-', 10), '5', NULL)) t(name, value, wait);

-- Several headers, and what they mean behind which status
SELECT is(tokenbill.retry_after(headers::jsonb, status)::text, wait, what)
FROM (VALUES
	('retry-after-ms is more exact', 429, '{"retry-after": "2", "retry-after-ms": "1500"}', '00:00:01.5'),
	('if it can be read', 429, '{"retry-after": "2", "retry-after-ms": "soon"}', '00:00:02'),
	('Retry-After outranks all others', 429, '{"retry-after": "2", "ratelimit": "\"a\";r=0;t=30", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}', '00:00:02'),
	('unless it cannot be read', 429, '{"retry-after": "later", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}', '00:01:00'),
	('whatever the status', 503, '{"retry-after": "2"}', '00:00:02'),
	('also that of a success', 200, '{"retry-after": "2"}', '00:00:02'),
	('OpenAI: requests are used up', 429, '{"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s", "x-ratelimit-limit-tokens": "150000", "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "12ms"}', '00:06:00'),
	('OpenAI: tokens are', 429, '{"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms"}', '00:00:00.012'),
	('both: the later of the two', 429, '{"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2s"}', '00:00:02'),
	('neither: they say nothing', 429, '{"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "2s"}', NULL),
	('used up by the very call that succeeded', 200, '{"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}', '00:00:01'),
	('Azure does not know', 429, '{"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "0"}', NULL),
	('Azure does not know when', 200, '{"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "0"}', NULL),
	('Anthropic', 429, '{"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2021-02-16T08:00:30Z", "anthropic-ratelimit-tokens-remaining": "1000", "anthropic-ratelimit-tokens-reset": "2021-02-16T09:00:00Z"}', '00:00:30'),
	('Anthropic, priority tier', 429, '{"anthropic-priority-input-tokens-remaining": "0", "anthropic-priority-input-tokens-reset": "2021-02-16T08:00:40Z"}', '00:00:40'),
	('GitHub: until the reset', 403, '{"x-github-request-id": "A", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1613462490"}', '00:01:30'),
	('GitHub: a minute, if it says no more', 429, '{"x-github-request-id": "A", "x-ratelimit-remaining": "9", "x-ratelimit-reset": "1613462490"}', '00:01:00'),
	('not behind a 403, which may be for ever', 403, '{"x-github-request-id": "A", "x-ratelimit-remaining": "9", "x-ratelimit-reset": "1613462490"}', NULL),
	('a reset alone says something behind a 429', 429, '{"x-ratelimit-reset": "60"}', '00:01:00'),
	('and a 503', 503, '{"x-ratelimit-reset": "60"}', '00:01:00'),
	('not behind others', 500, '{"x-ratelimit-reset": "60"}', NULL),
	('of several the first', 429, '{"x-ratelimit-reset-requests": "60", "x-ratelimit-reset-tokens": "30"}', '00:00:30'),
	('what is left cannot be read', 429, '{"x-ratelimit-remaining": "few", "x-ratelimit-reset": "60"}', '00:01:00'),
	('lists as long as each other', 429, '{"x-ratelimit-remaining": "0, 5, 0", "x-ratelimit-reset": "1, 100, 3"}', '00:00:03'),
	('lists with parameters', 429, '{"x-ratelimit-remaining": "5;window=60, 0;window=86400", "x-ratelimit-reset": "60, 4000"}', '01:06:40'),
	('lists that do not go together', 429, '{"x-ratelimit-remaining": "5, 0", "x-ratelimit-reset": "60"}', '00:01:00'),
	('a date beside a number', 429, '{"x-ratelimit-remaining": "0", "x-ratelimit-reset": "Tue, 16 Feb 2021 08:01:00 GMT"}', '00:01:00'),
	('names in any case', 429, '{"X-RateLimit-Remaining": "0", "x-ratelimit-Reset": "5"}', '00:00:05'),
	('a window, where no time is said', 429, '{"ratelimit": "\"daily\";r=0, \"burst\";r=0", "ratelimit-policy": "\"burst\";q=100;w=60, \"daily\";q=1000;w=3600"}', '01:00:00'),
	('of another quota', 429, '{"ratelimit": "\"hourly\";r=0", "ratelimit-policy": "\"burst\";q=100;w=60"}', NULL),
	('a malformed policy', 429, '{"ratelimit": "\"burst\";r=0", "ratelimit-policy": "\"burst\";q=100;w=60;"}', NULL),
	('the IETF''s beside others: the later', 200, '{"ratelimit": "\"a\";r=0;t=30", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}', '00:01:00'),
	('no headers', 429, '{}', NULL),
	('a header that came several times', 429, '{"a": {"b": ["9"], "retry-after": "9"}, "RETRY-AFTER": [null, ["9"], {"retry-after": "9"}, "5"]}', '00:00:05'),
	('values that are none', 429, '{"retry-after": null, "a": ["retry-after", "5"], "b": {"retry-after": "5"}, "c": true}', NULL),
	('a number is one', 429, '{"retry-after": 5}', '00:00:05'),
	('as it is written', 429, '{"retry-after": 5e0, "retry-after-ms": -1}', '00:00:05')) t(what, status, headers, wait);
SELECT is(tokenbill.retry_after(jsonb_object_agg(format('x-ratelimit-%s-%s', w, n), CASE w WHEN 'reset' THEN n ELSE 0 END::text), 200), interval '32 s', 'more allowances than anybody has')
FROM generate_series(10, 99) n, unnest('{remaining,reset}'::text[]) w WHERE n <= 32 OR w = 'remaining';
SELECT is(tokenbill.retry_after(NULL, 429), NULL, 'no headers at all');
SELECT is(tokenbill.retry_after('{"retry-after": "5"}', NULL), NULL, 'no status');
SELECT pg_temp.refused(format('SELECT tokenbill.retry_after(%L, 429)', value), '22023', '{"argument": "headers"}', 'headers are an object, not ' || value)
FROM unnest('{"[]",5,"\"a\"",true,"[{\"retry-after\": \"5\"}]"}'::text[]) value;

-- That it was more than a day is said
CREATE FUNCTION pg_temp.at(moment timestamptz, headers jsonb) RETURNS interval LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('tokenbill.clock', moment::text, true);
	RETURN tokenbill.retry_after(headers, 429);
END $$;
SET LOCAL client_min_messages = notice;
SELECT tokenbill.retry_after('{"retry-after": "90000"}', 429) \g /dev/null
SET LOCAL client_min_messages = warning;

-- Every way to write a date, at random moments: as PostgreSQL reads it
SELECT setseed(0.25) \g /dev/null
CREATE TEMP TABLE moment AS SELECT moment, round((random() * 86399)::numeric, 0) AS seconds
FROM (SELECT timestamptz '2000-01-02 00:00:00+00' + floor(random() * 3100000000) * interval '1 s' AS moment FROM generate_series(1, 400)) m;
SELECT is_empty(format($q$SELECT moment, header, pg_temp.at(moment, jsonb_build_object('retry-after', header)) FROM (SELECT moment, seconds, to_char(moment + seconds * interval '1 s', %L) AS header FROM moment) m
	WHERE pg_temp.at(moment, jsonb_build_object('retry-after', header)) IS DISTINCT FROM seconds * interval '1 s'$q$, form), 'dates written like ' || form)
FROM unnest(array['Dy, DD Mon YYYY HH24:MI:SS "GMT"', 'FMDay, DD-Mon-YY HH24:MI:SS "GMT"', 'Dy Mon DD HH24:MI:SS YYYY', 'Dy Mon FMDD HH24:MI:SS YYYY', 'YYYY-MM-DD"T"HH24:MI:SS"Z"', 'Dy Mon DD YYYY HH24:MI:SS "GMT+0000 (Coordinated Universal Time)"']) form;
SELECT is_empty($q$SELECT moment, seconds FROM moment WHERE pg_temp.at(moment, jsonb_build_object('retry-after', extract(epoch FROM moment + seconds * interval '1 s')::bigint::text)) IS DISTINCT FROM CASE WHEN extract(epoch FROM moment) > 1e9 THEN seconds * interval '1 s' ELSE interval '1 day' END AND extract(epoch FROM moment) > 1e9$q$, 'seconds since 1970');

-- Addresses
SELECT is(tokenbill.refused_address(address::inet) IS NOT NULL, refused, format('%s is %s', address, CASE WHEN refused THEN 'refused' ELSE 'of the internet' END))
FROM (VALUES
	(true, '{0.0.0.0,0.255.255.255,10.0.0.0,10.255.255.255,100.64.0.0,100.100.100.200,100.127.255.255,127.0.0.1,127.255.255.255,168.63.129.16,169.254.0.0,169.254.169.254,169.254.255.255,172.16.0.0,172.31.255.255,192.0.0.0,192.0.0.192,192.0.2.1,192.88.99.1,192.168.0.0,192.168.255.255,198.18.0.0,198.19.255.255,198.51.100.7,203.0.113.7,224.0.0.1,239.255.255.255,240.0.0.1,255.255.255.255}'::text[]),
	(false, '{1.1.1.1,8.8.8.8,9.255.255.255,11.0.0.0,100.63.255.255,100.128.0.0,126.255.255.255,128.0.0.0,168.63.129.15,168.63.129.17,169.253.255.255,169.255.0.0,172.15.255.255,172.32.0.0,191.255.255.255,192.0.1.0,192.0.3.0,192.88.98.255,192.88.100.0,192.167.255.255,192.169.0.0,198.17.255.255,198.20.0.0,198.51.99.255,198.51.101.0,203.0.112.255,203.0.114.0,223.255.255.255}'),
	(true, '{::,::1,::2,::ffff:127.0.0.1,::ffff:10.1.2.3,::ffff:169.254.169.254,::ffff:0:127.0.0.1,::127.0.0.1,::8.8.8.8,64:ff9b::10.0.0.1,64:ff9b::a9fe:a9fe,64:ff9b:1::1,100::1,fc00::,fd00:ec2::254,fdff:ffff::1,fe80::1,febf::1,fec0::1,feff::1,ff02::1,ffff::,2001::1,2001:0:4136:e378:8000:63bf:3fff:fdd2,2001:10::1,2001:1ff:ffff::,2001:db8::1,3fff::1,3fff:fff::1,5f00::1,2002:7f00:1::,2002:a9fe:a9fe::,2002:c0a8:101::1,2a00:1450::5efe:10.0.0.1,2a00:1450::200:5efe:10.0.0.1,4000::1,1fff::1}'),
	(false, '{2a00:1450:4001::200e,2606:4700::6810:84e5,2001:200::1,2001:4860:4860::8888,2001:db7::1,2001:db9::1,2003::1,3ffe::1,3fff:1000::1,2000::1,2002:808:808::1,::ffff:8.8.8.8,::ffff:0:8.8.8.8,64:ff9b::8.8.8.8,2a00:1450::5efe:8.8.8.8,2a00:1450::1:5efe:10.0.0.1}')) t(refused, addresses), unnest(addresses) address;
SELECT is(tokenbill.refused_address(address::inet), kind, format('%s is %s', address, kind))
FROM (VALUES ('127.0.0.1', 'loopback'), ('::1', 'loopback'), ('::ffff:127.0.0.1', 'loopback'), ('10.1.2.3', 'private'), ('fd00:ec2::254', 'private'), ('169.254.169.254', 'link-local'), ('fe80::1', 'link-local'),
	('100.64.0.1', 'shared by a carrier''s customers'), ('224.0.0.1', 'multicast'), ('ff02::1', 'multicast'), ('0.0.0.0', 'an address of this network'), ('::', 'unspecified'), ('255.255.255.255', 'reserved or broadcast'),
	('192.0.2.1', 'for documentation'), ('2001:db8::1', 'for documentation'), ('2002:a00::', 'private'), ('2001::1', 'reserved for protocols'), ('10.0.0.0/8', 'private')) t(address, kind);

SELECT is(tokenbill.refused_address(NULL), NULL, 'no address');

SELECT * FROM finish();
ROLLBACK;
