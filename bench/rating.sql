-- What bench/rating measures: 40 services of five meters, and six times as many
-- accounts, which differ in their credits and limits only.
CREATE EXTENSION tokenbill;
SELECT 'CREATE ROLE bench_app LOGIN IN ROLE tokenbill_app' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bench_app') \gexec
SELECT FROM generate_series(1, 40) AS n
CROSS JOIN (VALUES ('input_tokens', 0.25), ('cache_read_tokens', 0.025), ('cache_write_5m_tokens', 0.3125), ('output_tokens', 2),
	('reasoning_tokens', 2.5)) AS m (meter, unit_price),
	tokenbill.set_price('rated-' || n, m.meter, m.unit_price * n, 1000000) \g /dev/null
CREATE TEMP TABLE account AS SELECT (set * 100000 + n)::text AS account, set FROM generate_series(1, 6) AS set, generate_series(1, :accounts) AS n;
SELECT FROM account a, tokenbill.create_account(a.account) \g /dev/null
SELECT FROM account a, tokenbill.grant_credit(a.account, 1000000, 'opening') \g /dev/null
-- perpetual: one more of that kind
SELECT FROM account a, tokenbill.grant_credit(a.account, 1000000, 'one more') WHERE a.set = 2 \g /dev/null
-- rated: a credit that expires and is spent first, a limit that counts
SELECT FROM account a, tokenbill.grant_credit(a.account, 1000000, 'promotion', expires_at => '2099-01-01') WHERE a.set = 4 \g /dev/null
SELECT FROM account a, tokenbill.set_spend_limit(a.account, 1000000, 'month') WHERE a.set IN (4, 6) \g /dev/null
-- as autovacuum would have done by now; it is off while measuring
ANALYZE tokenbill.account, tokenbill.credit;
