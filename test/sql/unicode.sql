-- Names in any script: kept byte for byte, measured in bytes, chained like any other
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(61);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.set_price('模型-α', 'input_tokens', 1, 1000000) \g /dev/null
CREATE TEMP TABLE name (n int, name text);
INSERT INTO name VALUES (1, '顾客有限公司'), (2, 'Müller & Söhne'), (3, 'مؤسسة'), (4, '👩‍👩‍👧‍👦'), (5, 'e' || U&'\0301'), (6, 'é'), (7, 'Ｗｉｄｅ'), (8, '"quoted" ''name'' \ %s'), (9, ' blanks '), (10, U&'\FEFFbom');

SELECT is((tokenbill.create_account(name)).account, name, 'account ' || n) FROM name ORDER BY n;
SELECT is(pg_temp.pick(r, 'account', 'status', 'order_no'), jsonb_build_object('account', name, 'status', 'success', 'order_no', 'order ' || name), 'recharge ' || n)
FROM name, tokenbill.recharge(name, 10, 'order ' || name, payment_method => name, metadata => jsonb_build_object(name, name)) r ORDER BY n;
SELECT is(pg_temp.pick(r, 'account', 'amount', 'service', 'idempotency_key'), jsonb_build_object('account', name, 'amount', -1, 'service', '模型-α', 'idempotency_key', 'key ' || name), 'charge ' || n)
FROM name, tokenbill.charge(name, '模型-α', '{"input_tokens": 1000000}', 'key ' || name, metadata => jsonb_build_object(name, name)) r ORDER BY n;
SELECT is(replayed, true, 'replay ' || n) FROM name, tokenbill.charge(name, '模型-α', '{"input_tokens": 1000000}', 'key ' || name, metadata => jsonb_build_object(name, name)) ORDER BY n;
SELECT is(pg_temp.pick(r, 'hold_key', 'ref', 'idempotency_key', 'amount'), jsonb_build_object('hold_key', 'hold ' || name, 'ref', 'hold ' || name, 'idempotency_key', 'tokenbill:capture:hold ' || name, 'amount', -2), 'capture ' || n)
FROM name, tokenbill.hold(name, 2, 'hold ' || name) h, tokenbill.capture(h.account, h.hold_key) r ORDER BY n;
SELECT bag_eq($$SELECT account COLLATE "default", metadata FROM tokenbill.statement WHERE account IN (SELECT name FROM name) AND kind = 'charge'$$,
	'SELECT name, jsonb_build_object(name, name) FROM name', 'kept as they came');
SELECT is(count(*), 2::bigint, 'composed and decomposed are two accounts: names are bytes') FROM tokenbill.balances WHERE account IN ('é', 'e' || U&'\0301');
SELECT results_eq('SELECT account COLLATE "default" AS name FROM tokenbill.balances b WHERE account IN (SELECT name FROM name) ORDER BY b.account', 'SELECT name FROM name ORDER BY name COLLATE "C"', 'and order as bytes');

-- Lengths are bytes
SELECT is((tokenbill.create_account(repeat('顾', 42) || 'xx')).account, repeat('顾', 42) || 'xx', '128 bytes');
SELECT pg_temp.refused($$SELECT tokenbill.create_account(repeat('顾', 43))$$, '22023', '{"argument": "account"}', '129 bytes in 43 letters');
SELECT is(idempotency_key, repeat('💶', 63) || 'xxx', 'a key of 255 bytes') FROM tokenbill.charge_amount('é', 0.1, repeat('💶', 63) || 'xxx');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('é', 0.1, repeat('💶', 64))$$, '22023', '{"argument": "idempotency_key"}', 'not of 256');

-- Errors say names as they are
SELECT is(e.detail, '{"account": "不存在 \"的\" \\ 顾客"}', 'DETAIL') FROM pg_temp.error_of($$SELECT tokenbill.charge_amount('不存在 "的" \ 顾客', 1, 'k')$$) e;
SELECT matches(message, '不存在', 'and the message') FROM pg_temp.error_of($$SELECT tokenbill.charge_amount('不存在 "的" \ 顾客', 1, 'k')$$);
SELECT is(e.detail -> 'now', '{"顾客": "ü"}', 'values that differ') FROM pg_temp.error_of($$SELECT tokenbill.charge('顾客有限公司', '模型-α', '{"input_tokens": 1000000}', 'key 顾客有限公司', metadata => '{"顾客": "ü"}')$$) e;
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger()$$, 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
