-- A long ledger in a short time: :lines_each lines for each of the accounts from
-- :first to :last, as charge() would have posted them over the last 25 days.
--
-- A recursive query makes line n + 1 of every account from its line n; the hash
-- is that of docs/concepts.md. bench/growth runs several of these side by side
-- for different accounts, and verify_ledger() has the last word on them.
SET synchronous_commit = off;
WITH RECURSIVE line AS (
	SELECT n::text AS account, 1::bigint AS seq, :'since'::timestamptz + n % 100000 * interval '1 microsecond' AS created_at,
		'grant' AS kind, 1000000::numeric AS amount, 1000000::numeric AS balance, 'grant' AS contra, NULL::text AS service,
		NULL::jsonb AS usage, NULL::jsonb AS rates, 'opening' AS key,
		bench.line_hash(NULL, n::text, 1, :'since'::timestamptz + n % 100000 * interval '1 microsecond', 'grant', 1000000, 1000000, 0, 0,
			'grant', NULL, NULL, NULL, NULL, NULL, 'opening', NULL) AS hash
	FROM generate_series(:first::int, :last::int) AS n
	UNION ALL
	SELECT l.account, c.seq, c.created_at, 'charge', -c.cost, c.balance, 'revenue', 'model-1', c.usage, c.rates, c.key,
		bench.line_hash(l.hash, l.account, c.seq, c.created_at, 'charge', -c.cost, c.balance, 0, 0, 'revenue', 'model-1',
			c.usage, c.rates, NULL, NULL, c.key, NULL)
	FROM line l
	-- OFFSET 0: worked out once a line, not once a use
	CROSS JOIN LATERAL (
		SELECT l.seq + 1 AS seq, l.created_at + :'step'::interval AS created_at, t.cost, l.balance - t.cost AS balance,
			('{"input_tokens": ' || t.input || ', "output_tokens": ' || t.output || '}')::jsonb AS usage,
			'{"input_tokens": "0.25/1000000", "output_tokens": "2/1000000"}'::jsonb AS rates,
			-- scattered among those of the measured charges, and never one of them
			(100000000000 + (l.seq * 736878795587 + l.account::bigint * 15485863) % 800000000000) || 'k' AS key
		FROM (SELECT i.input, i.output, i.input * 0.00000025 + i.output * 0.000002 AS cost
			FROM (SELECT 100 + l.seq * 7919 % 5000 AS input, 20 + l.seq * 6007 % 900 AS output OFFSET 0) AS i OFFSET 0) AS t
		OFFSET 0
	) AS c
	WHERE l.seq < :lines_each
)
INSERT INTO tokenbill.ledger (account, seq, created_at, kind, amount, balance, held, credit_limit, contra, service, usage, rates,
	idempotency_key, hash)
SELECT l.account, l.seq, l.created_at, l.kind, l.amount, l.balance, 0, 0, l.contra, l.service, l.usage, l.rates, l.key, l.hash
FROM line l;
