-- What else happens to money, step by step, as the finance program sees it.
\pset footer off
\set QUIET on
SET ROLE shop_finance;

\echo
\echo 'A customer pays 25 USD; the payment page is reloaded, so the order arrives twice.'
\echo '  recharge(northwind-docs, 25, order 2025-0815), first time and second time:'
SELECT r.order_no, r.status, r.amount, r.replayed, r.seq, round(r.balance, 6) AS balance
FROM tokenbill.recharge('northwind-docs', 25, 'order-2025-0815') r \g
SELECT r.order_no, r.status, r.amount, r.replayed, r.seq, round(r.balance, 6) AS balance
FROM tokenbill.recharge('northwind-docs', 25, 'order-2025-0815') r \gset again_
\echo '  order_no ':again_order_no', replayed ':again_replayed', seq ':again_seq', balance ':again_balance
RESET ROLE;
INSERT INTO demo.seen VALUES ('the same order again is replayed', :'again_replayed', 't');

SELECT s.idempotency_key AS charge_key, -s.amount AS charged, trim_scale(-s.amount) AS charged_shown
FROM tokenbill.statement s WHERE s.account = 'northwind-docs' AND s.kind = 'charge' ORDER BY s.amount, s.seq LIMIT 1 \gset
SET ROLE shop_finance;
\echo
\echo 'An answer was unusable. Half of what it cost (':charged_shown' USD) goes back, then the rest, and then there is no more.'
SELECT r.kind, r.amount AS half, r.balance AS after_half
FROM tokenbill.refund('northwind-docs', :'charge_key', 'refund-77-a', trim_scale(:charged / 2), 'unusable answer') r \gset
SELECT r.amount AS rest, r.balance AS after_rest
FROM tokenbill.refund('northwind-docs', :'charge_key', 'refund-77-b', reason => 'unusable answer') r \gset
\echo '  refund 1: +':half', refund 2: +':rest', refund 3:'
SELECT FROM tokenbill.refund('northwind-docs', :'charge_key', 'refund-77-c', 0.000001, 'unusable answer');
\set refused :SQLSTATE
RESET ROLE;
INSERT INTO demo.seen VALUES
	('a refund of more than was charged is refused', :'refused', 'PT409'),
	('the two refunds together', trim_scale(:half + :rest)::text, trim_scale(:charged)::text);

\echo
\echo 'bank-of-tea charges with issued tokens: good once.'
SET ROLE shop_api;
SELECT tokenbill.issue_token('bank-of-tea') AS token \gset
SELECT r.kind, r.service, r.amount, r.balance, r.seq
FROM tokenbill.charge('bank-of-tea', 'mistral-large-2512', '{"input_tokens": 1800, "output_tokens": 420}', :'token') r;
\echo '  the same token for another call:'
SELECT FROM tokenbill.charge('bank-of-tea', 'mistral-large-2512', '{"input_tokens": 5000, "output_tokens": 900}', :'token');
\set reuse :SQLSTATE
\echo '  an ordinary key:'
SELECT FROM tokenbill.charge('bank-of-tea', 'mistral-large-2512', '{"input_tokens": 1800, "output_tokens": 420}', 'my-own-key');
\set plain :SQLSTATE
SELECT r.seq AS token_seq, r.replayed AS token_replayed FROM tokenbill.token_result('bank-of-tea', :'token') r \gset
RESET ROLE;
INSERT INTO demo.seen VALUES
	('an issued token a second time is refused', :'reuse', 'PT409'),
	('an ordinary key where tokens are required is refused', :'plain', 'PT409'),
	('the receipt bound to the token can be read', :'token_seq' || ' ' || :'token_replayed', '2 t');
