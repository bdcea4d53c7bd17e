-- The views: what finance and monitoring read
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(34);

-- Columns the contract promises, in any order, more are welcome
CREATE TEMP TABLE promised (view text, columns text[]);
INSERT INTO promised VALUES
	('balances', '{account,currency,balance,held,available,credit_limit,status,updated_at}'),
	('statement', '{account,seq,kind,service,amount,balance,held,currency,idempotency_key,ref,created_at}'),
	('holds', '{account,hold_key,amount,captured,status,expires_at}'),
	('recharge_orders', '{order_no,account,amount,currency,status,gateway,gateway_ref,failure_code,attempts,created_at,updated_at}'),
	('prices', '{service,meter,account,unit_price,per,valid_from}'),
	('usage_daily', '{day,account,service,meter,quantity,amount}'),
	('trial_balance', '{currency,ledger_account,amount}'),
	('provider_balances', '{provider,currency,balance,low_balance,status,stale,error,checked_at}'),
	('metrics', '{name,labels,value,type,help}');
SELECT is_empty(format('SELECT unnest(%L::text[]) EXCEPT SELECT attname FROM pg_attribute WHERE attrelid = %L::regclass AND attnum > 0', columns, 'tokenbill.' || view),
	view || ' has its columns') FROM promised;
SELECT is(reloptions @> '{security_barrier=true}', true, view || ' is a security barrier') FROM promised JOIN pg_class ON oid = ('tokenbill.' || view)::regclass;

-- Two days of two accounts
SET LOCAL tokenbill.clock = '2026-03-01 23:30:00+00';
SELECT tokenbill.create_account('va', 'VUC'), tokenbill.create_account('vb', 'VUC', credit_limit => 5), tokenbill.create_account('vs', 'VUC', sandbox => true) \g /dev/null
SELECT tokenbill.set_price('vllm', 'input_tokens', 2, 1000000), tokenbill.set_price('vllm', 'output_tokens', 8, 1000000), tokenbill.set_price('vimg', 'images', 0.04) \g /dev/null
SELECT tokenbill.recharge('va', 100, 'V-1', metadata => '{"invoice": 1}'), tokenbill.grant_credit('va', 10, 'g1'), tokenbill.recharge('vs', 50, 'V-2') \g /dev/null
SELECT tokenbill.charge('va', 'vllm', '{"input_tokens": 1000, "output_tokens": 500}', 'c1'), tokenbill.charge('va', 'vllm', '{"input_tokens": 3000}', 'c2'),
	tokenbill.charge_amount('va', 1.5, 'c3', 'consulting'), tokenbill.charge_amount('va', 0.5, 'c4'), tokenbill.charge('vs', 'vimg', '{"images": 100}', 'c1') \g /dev/null
SET LOCAL timezone = 'America/New_York';
SET LOCAL tokenbill.clock = '2026-03-02 00:30:00+00';
SELECT tokenbill.charge('va', 'vllm', '{"input_tokens": 7000, "images": 0}', 'c5'), tokenbill.charge_amount('vb', 3, 'c1'), tokenbill.hold('va', 10, 'h1', service => 'vllm'),
	tokenbill.capture('va', 'h1', usage => '{"output_tokens": 1000}'), tokenbill.hold('va', 5, 'h2'), tokenbill.refund('va', 'c3', 'r1') \g /dev/null

-- usage_daily: days are UTC's
SELECT results_eq($$SELECT day, service, meter, quantity, amount FROM tokenbill.usage_daily WHERE account = 'va' ORDER BY 1, 2, 3$$,
	$$VALUES ('2026-03-01'::date, 'consulting', 'amount', 1::numeric, 1.5), ('2026-03-01', 'vllm', 'input_tokens', 4000, 0.008), ('2026-03-01', 'vllm', 'output_tokens', 500, 0.004),
		('2026-03-01', NULL, 'amount', 1, 0.5), ('2026-03-02', 'vllm', 'input_tokens', 7000, 0.014),
		('2026-03-02', 'vllm', 'output_tokens', 1000, 0.008)$$, 'usage_daily: charges and captures, by UTC day, service and meter');
SELECT is_empty($$SELECT * FROM tokenbill.usage_daily WHERE account = 'vs'$$, 'a sandbox has used nothing');
SELECT is((SELECT sum(amount) FROM tokenbill.usage_daily WHERE account = 'va'), (SELECT -sum(amount) FROM tokenbill.statement WHERE account = 'va' AND kind IN ('charge', 'capture')),
	'and its amounts are what was charged');
SET LOCAL timezone = 'UTC';
SELECT tokenbill.set_price('vexact', 'seconds', 0.07, 64) \g /dev/null
SELECT tokenbill.charge('vb', 'vexact', '{"seconds": 0.000000001}', 'exact') \g /dev/null
SELECT is((SELECT amount FROM tokenbill.usage_daily WHERE account = 'vb' AND service = 'vexact'), 0.00000000000109375, 'to the last digit');

-- statement, balances, holds, recharge_orders
SELECT results_eq($$SELECT seq, kind, service, amount, balance, held, available, ref FROM tokenbill.statement WHERE account = 'va' ORDER BY seq$$, $$VALUES
	(1::bigint, 'recharge', NULL, 100::numeric, 100::numeric, 0::numeric, 100::numeric, 'V-1'), (2, 'grant', NULL, 10, 110, 0, 110, NULL),
	(3, 'charge', 'vllm', -0.006, 109.994, 0, 109.994, NULL), (4, 'charge', 'vllm', -0.006, 109.988, 0, 109.988, NULL),
	(5, 'charge', 'consulting', -1.5, 108.488, 0, 108.488, NULL), (6, 'charge', NULL, -0.5, 107.988, 0, 107.988, NULL),
	(7, 'charge', 'vllm', -0.014, 107.974, 0, 107.974, NULL), (8, 'hold', 'vllm', 0, 107.974, 10, 97.974, NULL),
	(9, 'capture', 'vllm', -0.008, 107.966, 0, 107.966, 'h1'), (10, 'hold', NULL, 0, 107.966, 5, 102.966, NULL),
	(11, 'refund', 'consulting', 1.5, 109.466, 5, 104.466, 'c3')$$, 'statement: every movement, with what it left');
SELECT results_eq($$SELECT account COLLATE "default", currency, balance, held, available, credit_limit, status FROM tokenbill.balances WHERE currency = 'VUC' ORDER BY 1$$, $$VALUES
	('va', 'VUC', 109.466, 5::numeric, 104.466, 0::numeric, 'active'), ('vb', 'VUC', -3.00000000000109375, 0, 1.99999999999890625, 5, 'active'), ('vs', 'VUC', 50, 0, 50, 0, 'active')$$, 'balances');
SELECT results_eq($$SELECT hold_key COLLATE "default", amount, captured, status, remaining FROM tokenbill.holds WHERE account = 'va' ORDER BY 1$$,
	$$VALUES ('h1', 10::numeric, 0.008, 'captured', 0::numeric), ('h2', 5, 0, 'held', 5)$$, 'holds');
SELECT results_eq($$SELECT order_no COLLATE "default", account COLLATE "default", amount, currency, status FROM tokenbill.recharge_orders WHERE currency = 'VUC' ORDER BY 1$$,
	$$VALUES ('V-1', 'va', 100::numeric, 'VUC', 'success'), ('V-2', 'vs', 50, 'VUC', 'success')$$, 'recharge_orders');

-- trial_balance
SELECT results_eq($$SELECT ledger_account, amount FROM tokenbill.trial_balance WHERE currency = 'VUC' AND amount <> 0 ORDER BY ledger_account COLLATE "C"$$,
	$$VALUES ('cash:manual', -100::numeric), ('customers', 106.46599999999890625), ('customers:sandbox', 50), ('grant', -10),
		('revenue', 3.53400000000109375), ('sandbox', -50)$$, 'trial_balance: what customers have, against where it came from and went');
SELECT is_empty('SELECT currency, sum(amount) FROM tokenbill.trial_balance GROUP BY 1 HAVING sum(amount) <> 0', 'it sums to zero in every currency');
SET LOCAL session_replication_role = replica;
UPDATE tokenbill.account SET balance = balance + 1 WHERE account = 'va';
SELECT is(sum(amount), 1::numeric, 'a balance out of thin air shows') FROM tokenbill.trial_balance WHERE currency = 'VUC';
SELECT isnt_empty($$SELECT * FROM tokenbill.verify_ledger() WHERE problem = 'trial_balance'$$, 'and verify_ledger says so');
UPDATE tokenbill.account SET balance = balance - 1 WHERE account = 'va';
SET LOCAL session_replication_role = origin;

-- Nothing is written through a view
SELECT isnt((pg_temp.error_of(statement)).sqlstate, '00000', statement) FROM (VALUES
	($$INSERT INTO tokenbill.balances (account) VALUES ('x')$$), ($$DELETE FROM tokenbill.statement$$), ($$UPDATE tokenbill.usage_daily SET amount = 0$$),
	($$DELETE FROM tokenbill.holds$$)) v(statement);

SELECT * FROM finish();
ROLLBACK;
