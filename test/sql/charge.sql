-- Charges: what they cost, exactly, and when they are refused
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(68);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('alice') \g /dev/null
SELECT tokenbill.recharge('alice', 100, 'R-alice') \g /dev/null
SELECT tokenbill.set_price('gpt-5-mini', 'input_tokens', 0.25, 1000000) \g /dev/null
SELECT tokenbill.set_price('gpt-5-mini', 'output_tokens', 2, 1000000) \g /dev/null
SELECT tokenbill.set_price('gpt-5-mini', 'cache_read_tokens', 0.025, 1000000) \g /dev/null

-- The receipt, and the line behind it
SELECT is(to_jsonb(r), '{"account": "alice", "seq": 2, "kind": "charge", "service": "gpt-5-mini", "amount": -0.0005,
	"balance": 99.9995, "available": 99.9995, "held": 0, "currency": "USD", "idempotency_key": "call-1", "hold_key": null,
	"replayed": false, "created_at": "2026-03-01T12:00:00+00:00", "price": 0.0005, "ref": null}'::jsonb, 'the receipt says everything')
FROM tokenbill.charge('alice', 'gpt-5-mini', '{"input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 2000}', 'call-1') r;
SELECT is(to_jsonb(s), '{"account": "alice", "seq": 2, "kind": "charge", "service": "gpt-5-mini", "amount": -0.0005, "balance": 99.9995,
	"held": 0, "available": 99.9995, "currency": "USD", "idempotency_key": "call-1", "ref": null,
	"created_at": "2026-03-01T12:00:00+00:00", "contra": "revenue",
	"usage": {"input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 2000},
	"rates": {"input_tokens": "0.25/1000000", "output_tokens": "2/1000000", "cache_read_tokens": "0.025/1000000"},
	"metadata": null, "burned": null, "returned": null}'::jsonb, 'so does the statement, with usage and the prices it was charged with')
FROM tokenbill.statement s WHERE account = 'alice' AND seq = 2;
SELECT is(to_jsonb(b) - '{created_at,updated_at}'::text[] @> '{"balance": 99.9995, "available": 99.9995, "held": 0, "seq": 2}', true, 'and the balance')
FROM tokenbill.balances b WHERE account = 'alice';

-- Exactness: never rounded, whatever the price
SELECT tokenbill.set_price('cheap', 'input_tokens', 0.0125, 1000000) \g /dev/null
SELECT is(amount, -0.0000000125, 'one token at 0.0125 a million') FROM tokenbill.charge('alice', 'cheap', '{"input_tokens": 1}', 'cheap-1');
SELECT is(amount, -0.0000000375, 'three of them') FROM tokenbill.charge('alice', 'cheap', '{"input_tokens": 3}', 'cheap-3');
SELECT is(balance, 99.99949995, 'and the balance keeps every digit') FROM tokenbill.balances WHERE account = 'alice';
SELECT tokenbill.set_price('finest', 'seconds', 0.000000000000000000000000000001) \g /dev/null
SELECT is(amount, -0.000000000000000000000000000000123456789, '30 decimals of price, 9 of usage')
FROM tokenbill.charge('alice', 'finest', '{"seconds": 0.123456789}', 'finest-1');
SELECT tokenbill.set_price('odd', 'seconds', 0.07, 8) \g /dev/null
SELECT is(amount, -0.0262500, 'a price for eight seconds') FROM tokenbill.charge('alice', 'odd', '{"seconds": 3}', 'odd-1');
SELECT is(amount, -0.1 * 3, 'no float: three times a tenth is three tenths') FROM tokenbill.charge_amount('alice', 0.3, 'float-1');
SELECT is(sum(amount), -0.00000001::numeric * 1000, 'a thousand small charges add up')
FROM generate_series(1, 1000) i, tokenbill.charge_amount('alice', 0.00000001, 'small-' || i);
SELECT is(amount, 0::numeric, 'nothing used, nothing charged, but there is a line') FROM tokenbill.charge('alice', 'gpt-5-mini', '{"input_tokens": 0}', 'zero-1');
SELECT tokenbill.set_price('free', 'requests', 0) \g /dev/null
SELECT is(amount, 0::numeric, 'a service may be free') FROM tokenbill.charge('alice', 'free', '{"requests": 5}', 'free-1');
SELECT is(amount, -0.25, 'a count of zero needs no price') FROM tokenbill.charge('alice', 'gpt-5-mini', '{"input_tokens": 1000000, "images": 0}', 'zero-2');
SELECT is(amount, -249999999.99999975, 'a large count is exact as well')
FROM tokenbill.charge('alice', 'gpt-5-mini', '{"input_tokens": 999999999999999}', 'large-1', 'debt');
SELECT is(sum(amount), min(b.balance), 'the balance is the sum of the lines')
FROM tokenbill.statement s JOIN tokenbill.balances b USING (account) WHERE account = 'alice';

-- Prices take turns
SELECT tokenbill.create_account('bob') \g /dev/null
SELECT tokenbill.recharge('bob', 100, 'R-bob') \g /dev/null
SELECT tokenbill.set_price('turns', 'requests', 1, valid_from => '2026-03-01 00:00:00+00') \g /dev/null
SELECT tokenbill.set_price('turns', 'requests', 2, valid_from => '2026-03-02 00:00:00+00') \g /dev/null
SELECT tokenbill.set_price('turns', 'requests', 4, valid_from => '2026-03-03 00:00:00+00') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-01 23:59:59.999999+00';
SELECT is(amount, -1::numeric, 'the last moment of the first price') FROM tokenbill.charge('bob', 'turns', '{"requests": 1}', 't1');
SET LOCAL tokenbill.clock = '2026-03-02 00:00:00+00';
SELECT is(amount, -2::numeric, 'the first moment of the second') FROM tokenbill.charge('bob', 'turns', '{"requests": 1}', 't2');
SET LOCAL tokenbill.clock = '2026-03-02 12:00:00+00';
SELECT is(amount, -2::numeric, 'and on') FROM tokenbill.charge('bob', 'turns', '{"requests": 1}', 't3');
SET LOCAL tokenbill.clock = '2026-03-03 00:00:00+00';
SELECT is(amount, -4::numeric, 'then the third') FROM tokenbill.charge('bob', 'turns', '{"requests": 1}', 't4');
SELECT is(rates, '{"requests": "2/1"}', 'a line keeps the price it had') FROM tokenbill.statement WHERE account = 'bob' AND idempotency_key = 't3';
SELECT is(amount, -1::numeric, 'and a replay what it cost') FROM tokenbill.charge('bob', 'turns', '{"requests": 1}', 't1');
SELECT tokenbill.set_price('later', 'requests', 1, valid_from => '2026-04-01 00:00:00+00') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.charge('bob', 'later', '{"requests": 1}', 'l1')$$, 'PT404', '{"service": "later"}',
	'a price that is not valid yet is none');

-- An account's own price
SELECT tokenbill.set_price('turns', 'requests', 3, account => 'bob', valid_from => '2026-03-03 00:00:00+00') \g /dev/null
SELECT is(amount, -3::numeric, 'goes before the list price') FROM tokenbill.charge('bob', 'turns', '{"requests": 1}', 't5');
SELECT tokenbill.set_price('turns', 'requests', 8, valid_from => '2026-03-04 00:00:00+00') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-04 00:00:00+00';
SELECT is(amount, -3::numeric, 'also before a newer one') FROM tokenbill.charge('bob', 'turns', '{"requests": 1}', 't6');
SELECT is(amount, -8::numeric, 'others pay the list price') FROM tokenbill.charge('alice', 'turns', '{"requests": 1}', 't6', 'debt');
SELECT tokenbill.set_price('gpt-5-mini', 'output_tokens', 1, 1000000, 'bob') \g /dev/null
SELECT is(amount, -2::numeric, 'meter by meter: one its own, one from the list')
FROM tokenbill.charge('bob', 'gpt-5-mini', '{"input_tokens": 4000000, "output_tokens": 1000000}', 'mixed');
SELECT is(rates, '{"input_tokens": "0.25/1000000", "output_tokens": "1/1000000"}', 'as the line says')
FROM tokenbill.statement WHERE account = 'bob' AND idempotency_key = 'mixed';
SELECT tokenbill.set_price('bobs', 'requests', 1, account => 'bob') \g /dev/null
SELECT is(amount, -1::numeric, 'a service may have a price for one account only') FROM tokenbill.charge('bob', 'bobs', '{"requests": 1}', 'b1');
SELECT pg_temp.refused($$SELECT tokenbill.charge('alice', 'bobs', '{"requests": 1}', 'b1')$$, 'PT404', '{"service": "bobs"}', 'not for others');

-- No price
SELECT pg_temp.refused($$SELECT tokenbill.charge('bob', 'unheard-of', '{"requests": 1}', 'u1')$$, 'PT404', '{"service": "unheard-of"}', 'unknown service');
SELECT pg_temp.refused($$SELECT tokenbill.charge('bob', 'unheard-of', '{"requests": 0}', 'u1')$$, 'PT404', '{"service": "unheard-of"}', 'unknown even if nothing was used');
SELECT pg_temp.refused($$SELECT tokenbill.charge('bob', 'gpt-5-mini', '{"input_tokens": 1, "images": 1}', 'u1')$$, 'PT404',
	'{"service": "gpt-5-mini", "meter": "images"}', 'a count that no price covers is an error');
SELECT pg_temp.refused($$SELECT tokenbill.charge('nobody', 'gpt-5-mini', '{"input_tokens": 1}', 'u1')$$, 'PT404', '{"account": "nobody"}', 'unknown account');

-- charge_tokens and charge_amount
SELECT tokenbill.set_price('flat', 'tokens', 0.001) \g /dev/null
SELECT is(pg_temp.pick(r, 'amount', 'service', 'kind'), '{"amount": -0.123, "service": "flat", "kind": "charge"}', 'charge_tokens')
FROM tokenbill.charge_tokens('bob', 'flat', 123, 'tok-1') r;
SELECT is(usage, '{"tokens": 123}', 'has usage of its own') FROM tokenbill.statement WHERE account = 'bob' AND idempotency_key = 'tok-1';
SELECT is(replayed, true, 'and is charge() in short') FROM tokenbill.charge('bob', 'flat', '{"tokens": 123}', 'tok-1');
SELECT is(amount, 0::numeric, 'no token, no cost') FROM tokenbill.charge_tokens('bob', 'flat', 0, 'tok-0');
SELECT pg_temp.refused($$SELECT tokenbill.charge_tokens('bob', 'gpt-5-mini', 5, 'tok-2')$$, 'PT404', '{"service": "gpt-5-mini", "meter": "tokens"}',
	'charge_tokens needs a price for tokens');
SELECT is(pg_temp.pick(r, 'amount', 'service', 'kind', 'price'), '{"amount": -1.23, "service": null, "kind": "charge", "price": 1.23}', 'charge_amount')
FROM tokenbill.charge_amount('bob', 1.23, 'amt-1') r;
SELECT is(service, 'consulting', 'with a service, which needs no price') FROM tokenbill.charge_amount('bob', 1, 'amt-2', 'consulting');
SELECT is(row(usage, rates, contra)::text, '(,,revenue)', 'it has neither usage nor rates') FROM tokenbill.statement WHERE account = 'bob' AND idempotency_key = 'amt-2';

-- Metadata
SELECT tokenbill.charge_amount('bob', 0.01, 'meta-1', metadata => '{"user": "ünï", "tags": ["a", {"b": null}], "model": "m"}') \g /dev/null
SELECT tokenbill.charge('bob', 'flat', '{"tokens": 1}', 'meta-2', metadata => '{"k": 1}') \g /dev/null
SELECT tokenbill.charge_tokens('bob', 'flat', 1, 'meta-3', metadata => '{"k": 2}') \g /dev/null
SELECT results_eq($$SELECT metadata FROM tokenbill.statement WHERE account = 'bob' AND idempotency_key LIKE 'meta-%' ORDER BY seq$$,
	$$VALUES ('{"model": "m", "tags": ["a", {"b": null}], "user": "ünï"}'::jsonb), ('{"k": 1}'), ('{"k": 2}')$$, 'metadata is kept in the line');

-- Too little money
SELECT tokenbill.create_account('poor') \g /dev/null
SELECT tokenbill.recharge('poor', 1, 'R-poor') \g /dev/null
SELECT tokenbill.hold('poor', 0.4, 'h') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('poor', 0.7, 'p1')$$, 'PT402',
	'{"account": "poor", "required": 0.7, "available": 0.6, "shortfall": 0.1}', 'what is held is not available');
SELECT pg_temp.refused($$SELECT tokenbill.charge('poor', 'gpt-5-mini', '{"output_tokens": 300001}', 'p1')$$, 'PT402',
	'{"account": "poor", "required": 0.600002, "available": 0.6, "shortfall": 0.000002}', 'the price decides, to the last digit');
SELECT pg_temp.refused($$SELECT tokenbill.charge_tokens('poor', 'flat', 601, 'p1')$$, 'PT402',
	'{"account": "poor", "required": 0.601, "available": 0.6, "shortfall": 0.001}', 'charge_tokens, too');
SELECT is(balance, 1::numeric, 'nothing has moved') FROM tokenbill.balances WHERE account = 'poor';
SELECT is(available, 0::numeric, 'the last cent is spent') FROM tokenbill.charge('poor', 'gpt-5-mini', '{"output_tokens": 300000}', 'p1');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('poor', 0.00000001, 'p2')$$, 'PT402',
	'{"account": "poor", "required": 0.00000001, "available": 0, "shortfall": 0.00000001}', 'and then nothing goes');
SELECT is(amount, 0::numeric, 'but what costs nothing') FROM tokenbill.charge('poor', 'free', '{"requests": 1}', 'p3');
SELECT is(pg_temp.pick(r, 'balance', 'available'), '{"balance": -0.6, "available": -1}', 'as debt it goes: the service has been delivered')
FROM tokenbill.charge_amount('poor', 1, 'p4', on_insufficient => 'debt') r;
SELECT is(balance, -0.601, 'charge() as debt') FROM tokenbill.charge('poor', 'flat', '{"tokens": 1}', 'p5', 'debt');
SELECT is(balance, -0.602, 'charge_tokens() as debt') FROM tokenbill.charge_tokens('poor', 'flat', 1, 'p6', 'debt');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('poor', 0.1, 'p7')$$, 'PT402', '{"available": -1.002, "shortfall": 1.102}', 'in debt, nothing more is sold');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('poor', 1, 'p9', on_insufficient => 'ignore')$$, '22023', '{"argument": "on_insufficient"}', 'refuse or debt, nothing else');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('poor', 1, 'p9', on_insufficient => NULL)$$, '22004', '{"argument": "on_insufficient"}', 'nor null');

-- Several calls in one statement see each other
SELECT results_eq($$SELECT (tokenbill.create_account('one')).account, (tokenbill.recharge('one', 5, 'R-one')).balance, (tokenbill.set_price('one', 'images', 2)).unit_price,
	(tokenbill.charge('one', 'one', '{"images": 1}', 'a')).balance, (tokenbill.charge('one', 'one', '{"images": 1}', 'a')).replayed, (tokenbill.hold('one', 2, 'h')).available,
	(tokenbill.capture('one', 'h', amount => 1)).balance, (tokenbill.refund('one', 'a', 'r')).balance$$,
	$$VALUES ('one'::text COLLATE "C", 5::numeric, 2::numeric, 3::numeric, true, 1::numeric, 2::numeric, 4::numeric)$$, 'several calls in one statement see each other');
SELECT results_eq($$WITH made AS MATERIALIZED (SELECT tokenbill.charge_amount('one', 0.5, 'k' || i) AS r FROM generate_series(1, 4) i) SELECT (r).balance FROM made$$,
	'SELECT 4 - i * 0.5 FROM generate_series(1, 4) i', 'so do those of many rows');

-- Sandbox: every check and receipt, no money
SELECT tokenbill.create_account('sand', sandbox => true) \g /dev/null
SELECT is(pg_temp.pick(r, 'status', 'balance'), '{"status": "success", "balance": 1}', 'a sandbox account is recharged')
FROM tokenbill.recharge('sand', 1, 'R-sand') r;
SELECT is(pg_temp.pick(r, 'amount', 'price', 'balance'), '{"amount": 0, "price": 0.002, "balance": 1}', 'and pays nothing, but is told what it would have paid')
FROM tokenbill.charge('sand', 'gpt-5-mini', '{"output_tokens": 1000}', 's1') r;
SELECT is(pg_temp.pick(r, 'replayed', 'price'), '{"replayed": true, "price": 0.002}', 'also by a replay')
FROM tokenbill.charge('sand', 'gpt-5-mini', '{"output_tokens": 1000}', 's1') r;
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('sand', 2, 's2')$$, 'PT402', '{"account": "sand", "required": 2, "available": 1, "shortfall": 1}', 'its balance is checked');
SELECT set_eq($$SELECT contra FROM tokenbill.statement WHERE account = 'sand'$$, ARRAY['sandbox'], 'its lines never touch revenue or cash');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

-- Few accounts, and the planner knows: it scans the table, and asks about rows of others
SELECT tokenbill.create_account('few ' || n) FROM generate_series(1, 3) AS n \g /dev/null
SELECT tokenbill.recharge('few ' || n, 100 * n, 'R-few-' || n) FROM generate_series(1, 3) AS n \g /dev/null
SET LOCAL enable_indexscan = off;
SET LOCAL enable_bitmapscan = off;
ANALYZE tokenbill.account;
SELECT is(pg_temp.pick(r, 'account', 'seq', 'balance'), jsonb_build_object('account', 'few ' || n, 'seq', 2, 'balance', 100 * n - n), 'scanning the table, account ' || n || ' is charged')
FROM generate_series(1, 3) AS n, LATERAL tokenbill.charge_amount('few ' || n, n, 'few') r;
SELECT results_eq($$SELECT seq, balance FROM tokenbill.balances WHERE account LIKE 'few %' ORDER BY account$$,
	$$VALUES (2::bigint, 99::numeric), (2, 198), (2, 297)$$, 'and it alone');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
