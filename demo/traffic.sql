-- What the shop's web servers are going to ask, worked out in advance so that
-- it can be checked afterwards: :calls calls, and of some of them more than one
-- attempt. Each server sends its attempts in the order of "at".
CREATE TABLE demo.call AS
SELECT n, a.account, u.service, u.usage, u.meters,
	format('%s-%s', a.account, lpad(to_hex(n), 6, '0')) AS key,
	demo.cost(a.account, u.service, u.meters) AS cost
FROM generate_series(1, :calls) AS n
-- any fixed, uneven mixture will do: these are remainders of primes
CROSS JOIN LATERAL (SELECT CASE
		WHEN m < 30 THEN 'acme-chat' WHEN m < 50 THEN 'northwind-docs' WHEN m < 65 THEN 'blue-otter-games'
		WHEN m < 80 THEN 'lumen-search' WHEN m < 89 THEN 'fresh-startup' WHEN m < 96 THEN 'hobby-bot'
		WHEN m < 99 THEN 'ci-robot' ELSE 'late-payer' END AS account
	FROM (SELECT n * 7919 % 10007 % 100 AS m) AS x) AS a
CROSS JOIN LATERAL (
	SELECT v.service, v.usage, v.meters FROM demo.usage v
	WHERE v.id = CASE WHEN a.account = 'lumen-search' AND n % 4 > 0
		THEN (SELECT min(e.id) FROM demo.usage e WHERE e.service LIKE 'text-embedding-%') + n % 4
		ELSE 1 + n * 6007 % 9973 % (SELECT count(*) FROM demo.usage) END
) AS u;
ALTER TABLE demo.call ADD PRIMARY KEY (n);

CREATE TABLE demo.attempt (
	id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, server int, at int, why text,
	n int, account text, service text, usage jsonb, key text);
INSERT INTO demo.attempt (server, at, why, n, account, service, usage, key)
SELECT x.server, x.at, x.why, c.n, c.account, x.service, x.usage, c.key
FROM demo.call c CROSS JOIN LATERAL (
	SELECT n % :servers AS server, n AS at, 'call' AS why, c.service, c.usage
	UNION ALL
	-- the answer was lost on the way, the same server asks again
	SELECT n % :servers, n + 3 * :servers, 'retry', c.service, c.usage WHERE n % 16 = 5
	UNION ALL
	-- a load balancer sent the request to two servers at the same time
	SELECT (n + 1) % :servers, n, 'twice at once', c.service, c.usage WHERE n % 25 = 7
	UNION ALL
	-- a bug uses the key of one call for another
	SELECT n % :servers, n + 5 * :servers, 'key of another call', c.service, c.meters || '{"input_tokens": 31337}' WHERE n % 1000 = 1 AND c.account <> 'hobby-bot'
	UNION ALL
	-- a model nobody has a price for
	SELECT n % :servers, n + 7 * :servers, 'no price', 'gpt-9-unreleased', c.usage WHERE n % 1000 = 2
	UNION ALL
	-- counts that cannot be
	SELECT n % :servers, n + 7 * :servers, 'negative count', c.service, c.meters || '{"input_tokens": -5}' WHERE n % 1000 = 3
) AS x;
UPDATE demo.attempt SET key = key || '-bad' WHERE why IN ('no price', 'negative count');

CREATE TABLE demo.answer (
	attempt int PRIMARY KEY, sqlstate text, seq bigint, amount numeric, price numeric, available numeric, replayed boolean);

-- The psql script of one server. The \if hands on what an attempt was refused
-- with.
CREATE FUNCTION demo.script(server int) RETURNS SETOF text
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT format(E'SELECT %s, NULL, r.seq, r.amount, r.price, r.available, r.replayed FROM tokenbill.charge(%L, %L, %L, %L) r;\n'
		'\\if :ERROR\n\\echo %s,:SQLSTATE,,,,,\n\\endif', t.id, t.account, t.service, t.usage, t.key, t.id)
	FROM demo.attempt t WHERE t.server = script.server ORDER BY t.at, t.id;
END;
