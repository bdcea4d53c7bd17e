-- What a person wants to read at the end.
\pset footer off
\pset border 1
SET ROLE shop_finance;
SET timezone = 'UTC';
\echo
\echo 'The end of the statement of northwind-docs (SELECT ... FROM tokenbill.statement)'
SELECT s.seq, to_char(s.created_at, 'HH24:MI:SS') AS time, s.kind, coalesce(s.service, s.ref, '') AS "for",
	trim_scale(s.amount) AS amount, trim_scale(s.balance) AS balance, s.idempotency_key AS key
FROM (SELECT * FROM tokenbill.statement WHERE account = 'northwind-docs' ORDER BY seq DESC LIMIT 12) s ORDER BY s.seq;

\echo 'Usage by day and service (FROM tokenbill.usage_daily), the ten that earn most'
SELECT u.day, u.service,
	to_char(sum(u.quantity) FILTER (WHERE u.meter = 'input_tokens'), '999,999,999') AS "input",
	to_char(sum(u.quantity) FILTER (WHERE u.meter LIKE 'cache%'), '999,999,999') AS "cached",
	to_char(sum(u.quantity) FILTER (WHERE u.meter IN ('output_tokens', 'reasoning_tokens')), '999,999,999') AS "output",
	to_char(sum(u.amount), '999,990.000000') AS "USD"
FROM tokenbill.usage_daily u GROUP BY u.day, u.service ORDER BY sum(u.amount) DESC LIMIT 10;

\echo 'Balances (FROM tokenbill.balances)'
SELECT b.account, to_char(b.balance, '990.000000') AS balance, to_char(b.credit_limit, '990.00') AS credit,
	to_char(b.available, '990.000000') AS available, b.status, b.seq AS lines, b.metadata->>'about' AS about
FROM tokenbill.balances b ORDER BY b.account;

\echo 'Trial balance (FROM tokenbill.trial_balance): what customers have, against where it came from and went'
SELECT t.currency, t.ledger_account, trim_scale(t.amount) AS amount FROM tokenbill.trial_balance t
UNION ALL SELECT currency, 'total', trim_scale(sum(amount)) FROM tokenbill.trial_balance GROUP BY currency
ORDER BY 1, 2;

\pset footer on
\echo 'SELECT * FROM tokenbill.verify_ledger(): every hash, number and balance worked out anew'
SELECT * FROM tokenbill.verify_ledger();
