-- Refunds: of charges and captures, in parts, never more than was charged
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(42);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('r'), tokenbill.create_account('s'), tokenbill.recharge('r', 100, 'R-r'), tokenbill.recharge('s', 100, 'R-s') \g /dev/null
SELECT tokenbill.set_price('llm', 'input_tokens', 2, 1000000), tokenbill.charge_amount('r', 10, 'c1'), tokenbill.charge_amount('r', 20, 'c2'),
	tokenbill.charge('r', 'llm', '{"input_tokens": 123457}', 'c3'), tokenbill.charge_amount('s', 5, 'c1') \g /dev/null

SELECT is(to_jsonb(t) - '{price,service,held}'::text[], '{"account": "r", "seq": 5, "kind": "refund", "amount": 4, "balance": 73.753086, "available": 73.753086,
	"currency": "USD", "idempotency_key": "r1", "hold_key": null, "replayed": false, "created_at": "2026-03-01T12:00:00+00:00", "ref": "c1"}'::jsonb,
	'a refund of a part gives that part back') FROM tokenbill.refund('r', 'c1', 'r1', 4, 'too slow') t;
SELECT is(pg_temp.pick(s, 'kind', 'contra', 'ref', 'amount'), '{"kind": "refund", "contra": "revenue", "ref": "c1", "amount": 4}', 'out of revenue')
FROM tokenbill.statement s WHERE account = 'r' AND idempotency_key = 'r1';
SELECT is(amount, 1.5, 'another part') FROM tokenbill.refund('r', 'c1', 'r2', 1.5);
SELECT pg_temp.refused($$SELECT tokenbill.refund('r', 'c1', 'r3', 4.51)$$, 'PT409', '{"account": "r", "charge_key": "c1", "charged": 10, "refunded": 5.5, "refundable": 4.5, "requested": 4.51}',
	'not more than is left');
SELECT is(amount, 4.5, 'amount null: all that is left') FROM tokenbill.refund('r', 'c1', 'r3');
SELECT pg_temp.refused($$SELECT tokenbill.refund('r', 'c1', 'r4', 0.01)$$, 'PT409', '{"charged": 10, "refunded": 10, "refundable": 0, "requested": 0.01}', 'and then nothing is');
SELECT is((pg_temp.error_of($$SELECT tokenbill.refund('r', 'c1', 'r4')$$)).sqlstate, 'PT409', 'not even all of it');
SELECT is(amount, 20::numeric, 'all at once') FROM tokenbill.refund('r', 'c2', 'r5');
SELECT is(amount, 0.246914, 'a priced charge, to the last digit') FROM tokenbill.refund('r', 'c3', 'r6');
SELECT is(balance, 100::numeric, 'everything is back') FROM tokenbill.balances WHERE account = 'r';
SELECT is(replayed, true, 'a refund again is replayed') FROM tokenbill.refund('r', 'c1', 'r1', 4, 'too slow');
SELECT is(replayed, true, 'also one of all that was left') FROM tokenbill.refund('r', 'c1', 'r3');
SELECT is(balance, 95::numeric, 'the charge of another account, of the same key, is another one') FROM tokenbill.balances WHERE account = 's';

-- Of a capture
SELECT tokenbill.hold('r', 10, 'h1'), tokenbill.capture('r', 'h1', amount => 7, idempotency_key => 'cap1', final => false), tokenbill.capture('r', 'h1') \g /dev/null
SELECT is(pg_temp.pick(t, 'amount', 'balance', 'ref'), '{"amount": 7, "balance": 97, "ref": "cap1"}', 'a capture is refunded by its key') FROM tokenbill.refund('r', 'cap1', 'r7') t;
SELECT is(amount, 3::numeric, 'or its derived key') FROM tokenbill.refund('r', 'tokenbill:capture:h1', 'r8');
SELECT is(pg_temp.pick(v, 'captured', 'status'), '{"captured": 10, "status": "captured"}', 'the hold stays what it was') FROM tokenbill.holds v WHERE account = 'r';
SELECT tokenbill.hold('r', 10, 'h2', ttl => '1 min', on_expiry => 'charge') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-01 13:00:00+00';
SELECT tokenbill.expire_holds('r') \g /dev/null
SELECT is(amount, 10::numeric, 'what an expiry charged is refunded as well') FROM tokenbill.refund('r', 'tokenbill:expiry:h2', 'r9');

-- Not everything is
SELECT pg_temp.refused(format('SELECT tokenbill.refund(''r'', %L, ''r10'', 1)', charge_key), 'PT404', jsonb_build_object('account', 'r', 'charge_key', charge_key), what)
FROM (VALUES ('nokey', 'an unknown charge'), ('tokenbill:order:R-r', 'a recharge is no charge'), ('h1', 'nor is a hold'), ('r1', 'nor is a refund')) v(charge_key, what);
SELECT tokenbill.charge('r', 'llm', '{"input_tokens": 0}', 'c0') \g /dev/null
SELECT is((pg_temp.error_of($$SELECT tokenbill.refund('r', 'c0', 'r10')$$)).sqlstate, 'PT409', 'a charge of nothing has nothing to give back');
SELECT pg_temp.refused(format('SELECT tokenbill.refund(%s)', args), sqlstate, detail, description) FROM (VALUES
	('''nobody'', ''c1'', ''x''', 'PT404', '{"account": "nobody"}'::jsonb, 'unknown account'),
	('''r'', NULL, ''x''', '22004', '{"argument": "charge_key"}', 'charge_key null'),
	('''r'', '''', ''x''', '22023', '{"argument": "charge_key"}', 'charge_key empty'),
	('''r'', ''c2'', NULL', '22004', '{"argument": "idempotency_key"}', 'key null'),
	('''r'', ''c2'', ''x'', 0', '22023', '{"argument": "amount"}', 'amount zero'),
	('''r'', ''c2'', ''x'', -1', '22023', '{"argument": "amount"}', 'amount negative'),
	('''r'', ''c2'', ''x'', ''NaN''', '22003', '{"argument": "amount"}', 'amount NaN'),
	('''r'', ''c2'', ''x'', 1, repeat(''x'', 10000)', '22023', '{"argument": "reason"}', 'reason of 10 KB'),
	('''r'', ''c2'', ''x'', 1, NULL, ''[]''', '22023', '{"argument": "metadata"}', 'metadata an array')) v(args, sqlstate, detail, description);

-- In debt, in a later month, in a sandbox
SELECT tokenbill.charge_amount('s', 200, 'debt', on_insufficient => 'debt') \g /dev/null
SELECT is(balance, -5::numeric, 'a refund lessens a debt') FROM tokenbill.refund('s', 'debt', 'rd', 100);
SET LOCAL tokenbill.clock = '2026-07-01 00:00:00+00';
SELECT is(balance, 95::numeric, 'a charge of another month') FROM tokenbill.refund('s', 'debt', 'rd2');
SELECT tokenbill.create_account('sand', sandbox => true), tokenbill.recharge('sand', 10, 'R-sand'), tokenbill.charge_amount('sand', 5, 'c') \g /dev/null
SELECT is(pg_temp.pick(t, 'amount', 'balance'), '{"amount": 0, "balance": 10}', 'a sandbox gets back what it paid: nothing, with a receipt') FROM tokenbill.refund('sand', 'c', 'r', 5) t;
SELECT pg_temp.refused($$SELECT tokenbill.refund('sand', 'c', 'r2', 0.01)$$, 'PT409', '{"charged": 5, "refunded": 5, "refundable": 0}', 'but the checks are the real ones');
SELECT is(contra, 'sandbox', 'and the line is a sandbox''s') FROM tokenbill.statement WHERE account = 'sand' AND kind = 'refund';

-- What remains of a refund that is rolled back: nothing
SELECT tokenbill.charge_amount('r', 8, 'c8') \g /dev/null
SAVEPOINT before;
SELECT tokenbill.refund('r', 'c8', 'r-undone', 8) \g /dev/null
ROLLBACK TO before;
SELECT is(amount, 8::numeric, 'rolled back, it may be asked again') FROM tokenbill.refund('r', 'c8', 'r-done');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

-- A key used again after its window: each charge has its own refunds, and proof of them
SELECT tokenbill.create_account('twice'), tokenbill.recharge('twice', 100, 'R-twice'), tokenbill.charge_amount('twice', 5, 'again'), tokenbill.refund('twice', 'again', 'back 1', 3) \g /dev/null
SET LOCAL tokenbill.clock = '2026-10-01 00:00:00+00';
SELECT is(replayed, false, 'a key used again when it is forgotten') FROM tokenbill.charge_amount('twice', 6, 'again');
SELECT is(amount, 6::numeric, 'is all refundable') FROM tokenbill.refund('twice', 'again', 'back 2');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('twice')$$, 'both are sound');
SET LOCAL session_replication_role = replica;
UPDATE tokenbill.charge_refund SET refunded = refunded + CASE refunded WHEN 3 THEN 1 ELSE -1 END WHERE account = 'twice';
SET LOCAL session_replication_role = origin;
SELECT results_eq($$SELECT problem, (detail ->> 'charge_seq')::int, detail ->> 'expected', detail ->> 'found' FROM tokenbill.verify_ledger('twice') ORDER BY 2$$,
	$$VALUES ('refund', 2, '3', '4'), ('refund', 4, '6', '5')$$, 'what was moved from one to the other is found');

SELECT * FROM finish();
ROLLBACK;
