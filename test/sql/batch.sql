-- charge_batch: many charges in one statement, each with a receipt or an error
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(63);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('a'), tokenbill.create_account('b'), tokenbill.create_account('frozen'), tokenbill.recharge('a', 10, 'R-a'),
	tokenbill.recharge('b', 10, 'R-b'), tokenbill.set_account_status('frozen', 'frozen'),
	tokenbill.set_price('llm', 'input_tokens', 1, 1000000), tokenbill.set_price('llm', 'tokens', 0.001) \g /dev/null

-- Good, bad and repeated items, of several accounts
CREATE TEMP TABLE answer AS SELECT * FROM tokenbill.charge_batch('[
	{"account": "b", "service": "llm", "usage": {"input_tokens": 1000000}, "idempotency_key": "k1", "metadata": {"n": 1}},
	{"account": "a", "service": "llm", "tokens": 2000, "idempotency_key": "k1"},
	{"account": "a", "amount": 3, "idempotency_key": "k2", "service": "x"},
	{"account": "nobody", "amount": 1, "idempotency_key": "k3"},
	{"account": "a", "amount": 100, "idempotency_key": "k4"},
	{"account": "a", "amount": 100, "idempotency_key": "k4", "on_insufficient": "debt"},
	{"account": "b", "service": "llm", "usage": {"input_tokens": 1000000}, "idempotency_key": "k1", "metadata": {"n": 1}},
	{"account": "b", "service": "llm", "usage": {"input_tokens": 1}, "idempotency_key": "k1", "metadata": {"n": 1}},
	{"account": "frozen", "amount": 1, "idempotency_key": "k5"},
	{"account": "b", "service": "unheard-of", "usage": {"input_tokens": 1}, "idempotency_key": "k6"},
	{"account": "b", "amount": 1, "idempotency_key": "k7"}]');
SELECT results_eq('SELECT item FROM answer', 'SELECT generate_series(1, 11)', 'one row an item, in their order');
SELECT results_eq('SELECT item, account COLLATE "default", amount, replayed FROM answer WHERE sqlstate IS NULL',
	$$VALUES (1, 'b', -1::numeric, false), (2, 'a', -2, false), (3, 'a', -3, false), (6, 'a', -100, false), (7, 'b', -1, true), (11, 'b', -1, false)$$, 'the good ones have receipts');
SELECT results_eq('SELECT item, sqlstate FROM answer WHERE sqlstate IS NOT NULL',
	$$VALUES (4, 'PT404'), (5, 'PT402'), (8, 'PT409'), (9, 'PT403'), (10, 'PT404')$$, 'the bad ones an SQLSTATE');
SELECT ok(message ~ '^[^[:upper:]]' AND hint <> '' AND jsonb_typeof(detail) = 'object', 'message, detail and hint of item ' || item) FROM answer WHERE sqlstate IS NOT NULL;
SELECT is(detail, '{"account": "a", "required": 100, "available": 5, "shortfall": 95}', 'what charge() says in DETAIL') FROM answer WHERE item = 5;
SELECT is(detail, '{"account": "b", "idempotency_key": "k1", "argument": "usage", "was": {"input_tokens": 1000000}, "now": {"input_tokens": 1}}', 'also of a key used before')
FROM answer WHERE item = 8;
SELECT is(bool_and(amount IS NULL AND balance IS NULL AND seq IS NULL AND replayed IS NULL), true, 'no receipt where there is an error') FROM answer WHERE sqlstate IS NOT NULL;
SELECT is(bool_and(message IS NULL AND detail IS NULL AND hint IS NULL), true, 'no error where there is a receipt') FROM answer WHERE sqlstate IS NULL;
SELECT results_eq($$SELECT account COLLATE "default", balance FROM tokenbill.balances WHERE account IN ('a', 'b') ORDER BY 1$$, $$VALUES ('a', -95::numeric), ('b', 8)$$, 'a refused item did not stop the others');
SELECT results_eq($$SELECT idempotency_key COLLATE "default", seq FROM tokenbill.statement WHERE account = 'a' AND kind = 'charge' ORDER BY seq$$,
	$$VALUES ('k1', 2::bigint), ('k2', 3), ('k4', 4)$$, 'an account''s items go in their order');

-- The same receipt as the single call's
SELECT is((SELECT to_jsonb(x) - '{item,sqlstate,message,detail,hint}'::text[] FROM answer x WHERE item = 1) || '{"replayed": true}',
	to_jsonb(r), 'an item''s receipt is charge()''s') FROM tokenbill.charge('b', 'llm', '{"input_tokens": 1000000}', 'k1', metadata => '{"n": 1}') r;
SELECT is((SELECT to_jsonb(x) - '{item,sqlstate,message,detail,hint}'::text[] FROM answer x WHERE item = 2) || '{"replayed": true}',
	to_jsonb(r), 'charge_tokens()''s') FROM tokenbill.charge_tokens('a', 'llm', 2000, 'k1') r;
SELECT is((SELECT to_jsonb(x) - '{item,sqlstate,message,detail,hint}'::text[] FROM answer x WHERE item = 3) || '{"replayed": true}',
	to_jsonb(r), 'charge_amount()''s') FROM tokenbill.charge_amount('a', 3, 'k2', 'x') r;
SELECT is(e.detail || jsonb_build_object('s', e.sqlstate, 'm', e.message, 'h', e.hint), x.detail || jsonb_build_object('s', x.sqlstate, 'm', x.message, 'h', x.hint), 'and so is its error')
FROM answer x, pg_temp.error_of($$SELECT tokenbill.charge_amount('nobody', 1, 'k3')$$) e WHERE item = 4;
SELECT is(bool_and(replayed), true, 'the whole batch again is replayed') FROM tokenbill.charge_batch('[
	{"account": "b", "service": "llm", "usage": {"input_tokens": 1000000}, "idempotency_key": "k1", "metadata": {"n": 1}},
	{"account": "a", "service": "llm", "tokens": 2000, "idempotency_key": "k1"}]');

-- Exact numbers
SELECT is(amount, -0.1000000000000000055, 'an amount may be a string, for writers whose numbers are floats') FROM tokenbill.charge_batch('[{"account": "b", "amount": "0.1000000000000000055", "idempotency_key": "x0"}]');
SELECT is(amount, -0.0000000000000000012345, 'an amount in JSON is no float') FROM tokenbill.charge_batch('[{"account": "b", "amount": 0.0000000000000000012345, "idempotency_key": "x1"}]');

-- Bad items: each its own error, and nothing written
SELECT pg_temp.fingerprint() AS before \gset
SELECT is(r.sqlstate, v.sqlstate, 'item ' || v.item) FROM (VALUES
	('5', '22023'), ('"text"', '22023'), ('null', '22023'), ('[]', '22023'), ('{}', '22004'),
	('{"account": "b", "amount": 1}', '22004'),
	('{"amount": 1, "idempotency_key": "z"}', '22004'),
	('{"account": "b", "idempotency_key": "z"}', '22004'),
	('{"account": "b", "amount": "", "idempotency_key": "z"}', '22023'),
	('{"account": "b", "amount": "1e3", "idempotency_key": "z"}', '22023'),
	('{"account": "b", "amount": "1.2.3", "idempotency_key": "z"}', '22023'),
	('{"account": "b", "amount": "1-2", "idempotency_key": "z"}', '22023'),
	('{"account": "b", "amount": "-1", "idempotency_key": "z"}', '22023'),
	('{"account": "b", "amount": "0.00", "idempotency_key": "z"}', '22023'),
	('{"account": "b", "amount": "NaN", "idempotency_key": "z"}', '22023'),
	('{"account": "b", "amount": ".", "idempotency_key": "z"}', '22023'),
	('{"account": "b", "amount": [1], "idempotency_key": "z"}', '22023'),
	('{"account": "b", "amount": "9999999999999999999", "idempotency_key": "z"}', '22003'),
	('{"account": "b", "amount": -1, "idempotency_key": "z"}', '22023'),
	('{"account": "b", "amount": 1e400, "idempotency_key": "z"}', '22003'),
	('{"account": "b", "amount": 1, "idempotency_key": 7}', '22023'),
	('{"account": "b", "amount": 1, "idempotency_key": ""}', '22023'),
	('{"account": ["b"], "amount": 1, "idempotency_key": "z"}', '22023'),
	('{"account": "b", "amount": 1, "idempotency_key": "z", "metadata": []}', '22023'),
	('{"account": "b", "amount": 1, "idempotency_key": "z", "on_insufficent": "debt"}', '22023'),
	('{"account": "b", "amount": 1, "idempotency_key": "z", "on_insufficient": "ask"}', '22023'),
	('{"account": "b", "amount": 1, "tokens": 1, "service": "llm", "idempotency_key": "z"}', '22023'),
	('{"account": "b", "tokens": 1.5, "service": "llm", "idempotency_key": "z"}', '22023'),
	('{"account": "b", "tokens": 1e30, "service": "llm", "idempotency_key": "z"}', '22003'),
	('{"account": "b", "usage": 5, "service": "llm", "idempotency_key": "z"}', '22023'),
	('{"account": "b", "usage": {"input_tokens": 1}, "idempotency_key": "z"}', '22004')
) v(item, sqlstate), tokenbill.charge_batch(jsonb_build_array(v.item::jsonb)) r;
SELECT is(detail @> '{"argument": "on_insufficent"}', true, 'a misspelt argument is named, not ignored')
FROM tokenbill.charge_batch('[{"account": "b", "amount": 1, "idempotency_key": "z", "on_insufficent": "debt"}]');
SELECT is(min(sqlstate), '22023', 'an item nested a thousand deep is refused like any other')
FROM tokenbill.charge_batch((repeat('[', 1000) || repeat(']', 1000))::jsonb);
SELECT is(min(sqlstate), '22023', 'and usage nested a thousand deep')
FROM tokenbill.charge_batch(('[{"account": "b", "service": "llm", "idempotency_key": "z", "usage": {"input_tokens": ' || repeat('[', 1000) || repeat(']', 1000) || '}}]')::jsonb);
SELECT is(pg_temp.fingerprint(), :'before'::jsonb, 'nothing was written');

-- Bad batches
SELECT is_empty($$SELECT * FROM tokenbill.charge_batch('[]')$$, 'no items, no rows');
SELECT pg_temp.refused('SELECT tokenbill.charge_batch(' || arg || ')', sqlstate, '{"argument": "requests"}', 'a batch is an array, not ' || arg)
FROM (VALUES ('NULL', '22004'), ('''{}''', '22023'), ('''"a"''', '22023'), ('''null''', '22023')) v(arg, sqlstate);
SELECT is(row(count(*), sum(amount))::text, '(1000,-0.000001000)', 'a thousand items') FROM tokenbill.charge_batch((SELECT
	jsonb_agg(jsonb_build_object('account', CASE i % 2 WHEN 0 THEN 'a' ELSE 'b' END, 'amount', 0.000000001, 'idempotency_key', 'many-' || i, 'on_insufficient', 'debt')) FROM generate_series(1, 1000) i));
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
