-- Everything the demo claims, as rows: what, what it should be, what it was.
-- The left side is worked out from what was sent, what was answered and the
-- vendors' price list; the right side is what tokenbill says.
CREATE TABLE demo.claim (what text, expected text, found text);

INSERT INTO demo.claim
SELECT 'attempts that got an answer', (SELECT count(*) FROM demo.attempt)::text, (SELECT count(*) FROM demo.answer)::text;

-- a key has one effect, whatever was sent how often and by whom
INSERT INTO demo.claim
SELECT 'keys that were charged more than once', '0', count(*)::text
FROM (SELECT t.key FROM demo.answer s JOIN demo.attempt t ON t.id = s.attempt WHERE NOT s.replayed GROUP BY t.account, t.key HAVING count(*) > 1) x;
INSERT INTO demo.claim
SELECT 'calls charged, of customers who can pay',
	(SELECT count(*) FROM demo.call WHERE account NOT IN ('hobby-bot', 'late-payer'))::text,
	(SELECT count(*) FROM demo.answer s JOIN demo.attempt t ON t.id = s.attempt
		WHERE NOT s.replayed AND t.account NOT IN ('hobby-bot', 'late-payer'))::text;
INSERT INTO demo.claim
SELECT 'repetitions answered with the first receipt',
	(SELECT count(*) FROM demo.attempt WHERE why IN ('retry', 'twice at once') AND account NOT IN ('hobby-bot', 'late-payer'))::text,
	(SELECT count(*) FROM demo.answer s JOIN demo.attempt t ON t.id = s.attempt
		WHERE s.replayed AND t.account NOT IN ('hobby-bot', 'late-payer'))::text;
INSERT INTO demo.claim
SELECT 'receipts of one key that differ', '0', count(*)::text
FROM (SELECT FROM demo.answer s JOIN demo.attempt t ON t.id = s.attempt WHERE s.sqlstate IS NULL
	GROUP BY t.account, t.key HAVING count(DISTINCT (s.seq, s.amount, s.available)) > 1) x;

-- every refusal is one of those that were asked for
INSERT INTO demo.claim
SELECT 'refused: ' || w.why, w.sqlstate || ' ' || (SELECT count(*) FROM demo.attempt t WHERE t.why = w.why
		AND t.account NOT IN ('hobby-bot', 'late-payer')),
	(SELECT string_agg(s.sqlstate || ' ' || s.n, ', ' ORDER BY s.sqlstate) FROM (
		SELECT coalesce(s.sqlstate, '00000') AS sqlstate, count(*) AS n FROM demo.answer s JOIN demo.attempt t ON t.id = s.attempt
		WHERE t.why = w.why AND t.account NOT IN ('hobby-bot', 'late-payer') GROUP BY 1) s)
FROM (VALUES ('key of another call', 'PT409'), ('no price', 'PT404'), ('negative count', '22023')) AS w (why, sqlstate);
INSERT INTO demo.claim
SELECT 'refused: the account is frozen', 'PT403 ' || (SELECT count(*) FROM demo.attempt WHERE account = 'late-payer'
		AND why IN ('call', 'retry', 'twice at once')),
	(SELECT string_agg(x.sqlstate || ' ' || x.n, ', ' ORDER BY x.sqlstate) FROM (
		SELECT coalesce(s.sqlstate, '00000') AS sqlstate, count(*) AS n FROM demo.answer s JOIN demo.attempt t ON t.id = s.attempt
		WHERE t.account = 'late-payer' AND t.why IN ('call', 'retry', 'twice at once') GROUP BY 1) x);
INSERT INTO demo.claim
SELECT 'what customers who can pay were refused otherwise', NULL, string_agg(DISTINCT s.sqlstate, ', ')
FROM demo.answer s JOIN demo.attempt t ON t.id = s.attempt
WHERE s.sqlstate IS NOT NULL AND t.account NOT IN ('hobby-bot', 'late-payer') AND t.why IN ('call', 'retry', 'twice at once');

-- hobby-bot ran dry: some were refused for that, and for nothing else
INSERT INTO demo.claim
SELECT 'hobby-bot was refused for lack of money', 'PT402, some', string_agg(DISTINCT s.sqlstate, ', ') || CASE WHEN count(*) > 0 THEN ', some' ELSE ', none' END
FROM demo.answer s JOIN demo.attempt t ON t.id = s.attempt
WHERE t.account = 'hobby-bot' AND t.why IN ('call', 'retry', 'twice at once') AND s.sqlstate IS NOT NULL;
INSERT INTO demo.claim
SELECT 'hobby-bot''s lines for refused keys', '0', count(*)::text
FROM tokenbill.statement l WHERE l.account = 'hobby-bot' AND l.kind = 'charge'
	AND NOT EXISTS (SELECT FROM demo.answer s JOIN demo.attempt t ON t.id = s.attempt
		WHERE t.account = l.account AND t.key = l.idempotency_key AND s.sqlstate IS NULL);
INSERT INTO demo.claim
SELECT 'accounts that overdrew', NULL, string_agg(b.account, ', ') FROM tokenbill.balances b WHERE b.available < 0;

-- what each call cost, against the vendors' price list
INSERT INTO demo.claim
SELECT 'charges that differ from the price list', '0', count(*)::text
FROM demo.answer s JOIN demo.attempt t ON t.id = s.attempt JOIN demo.call c ON c.n = t.n JOIN demo.customer m ON m.account = t.account
WHERE s.sqlstate IS NULL AND (s.price <> c.cost OR s.amount <> CASE WHEN m.sandbox THEN 0 ELSE -c.cost END);

-- what each account is left with: paid in, less what its accepted calls cost
INSERT INTO demo.claim
SELECT 'balance of ' || m.account,
	trim_scale(m.paid + coalesce(e.extra, 0)
		- CASE WHEN m.sandbox THEN 0 ELSE (SELECT coalesce(sum(c.cost), 0) FROM demo.call c WHERE c.account = m.account
			AND EXISTS (SELECT FROM demo.answer s JOIN demo.attempt t ON t.id = s.attempt WHERE t.n = c.n AND t.key = c.key AND s.sqlstate IS NULL)) END)::text,
	(SELECT trim_scale(b.balance)::text FROM tokenbill.balances b WHERE b.account = m.account)
FROM demo.customer m LEFT JOIN (
	SELECT 'northwind-docs' AS account, 25 + (SELECT x.value::numeric FROM demo.seen x WHERE x.what = 'the two refunds together') AS extra
	UNION ALL SELECT 'bank-of-tea', -demo.cost('bank-of-tea', 'mistral-large-2512', '{"input_tokens": 1800, "output_tokens": 420}')
	UNION ALL SELECT 'night-owl', -demo.cost('night-owl', 'claude-sonnet-4-5', '{"input_tokens": 2400, "output_tokens": 2500}')
) AS e USING (account);
INSERT INTO demo.claim
SELECT 'lines of ' || a.account || ', numbered without a gap', a.seq::text, count(l.*)::text || CASE WHEN count(l.*) <> max(l.seq) THEN ' up to ' || max(l.seq) ELSE '' END
FROM tokenbill.balances a JOIN tokenbill.statement l ON l.account = a.account GROUP BY a.account, a.seq;

INSERT INTO demo.claim SELECT what, expected, value FROM demo.seen;
INSERT INTO demo.claim SELECT 'trial balance', '0', trim_scale(coalesce(sum(amount), 1))::text FROM tokenbill.trial_balance;
INSERT INTO demo.claim SELECT 'what verify_ledger() found', '0', count(*)::text FROM tokenbill.verify_ledger();

SELECT format('WRONG: %s: expected %s, found %s', what, coalesce(expected, 'nothing'), coalesce(found, 'nothing')) AS wrong
FROM demo.claim WHERE expected IS DISTINCT FROM found;
SELECT format('%s of %s claims hold', count(*) FILTER (WHERE expected IS NOT DISTINCT FROM found), count(*)) AS line,
	count(*) FILTER (WHERE expected IS DISTINCT FROM found) > 0 AS wrong FROM demo.claim
\gset
\echo :line
\if :wrong
\q
\endif
\echo all is as it should be
