-- Recharges: money received, under an order number that is unique for ever
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(43);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('a'), tokenbill.create_account('b', 'EUR'), tokenbill.create_account('sand', sandbox => true) \g /dev/null

SELECT is(to_jsonb(r), '{"account": "a", "order_no": "2026-0001", "amount": 50, "currency": "USD", "status": "success", "gateway": null,
	"payment_method": "wire", "gateway_ref": null, "failure_code": null, "attempts": 0, "priority": 5, "metadata": {"invoice": 17},
	"created_at": "2026-03-01T12:00:00+00:00", "updated_at": "2026-03-01T12:00:00+00:00", "replayed": false, "seq": 1, "balance": 50,
	"available": 50}'::jsonb, 'a recharge is a success at once')
FROM tokenbill.recharge('a', 50, '2026-0001', payment_method => 'wire', priority => 5, metadata => '{"invoice": 17}') r;
SELECT is(to_jsonb(o), '{"order_no": "2026-0001", "account": "a", "amount": 50, "currency": "USD", "status": "success", "gateway": null, "gateway_ref": null,
	"failure_code": null, "attempts": 0, "created_at": "2026-03-01T12:00:00+00:00", "updated_at": "2026-03-01T12:00:00+00:00",
	"payment_method": "wire", "priority": 5, "metadata": {"invoice": 17}}'::jsonb, 'recharge_orders shows it') FROM tokenbill.recharge_orders o WHERE account = 'a';
SELECT is(pg_temp.pick(s, 'kind', 'amount', 'balance', 'contra', 'idempotency_key', 'ref'), '{"kind": "recharge", "amount": 50, "balance": 50, "contra": "cash:manual",
	"idempotency_key": "tokenbill:order:2026-0001", "ref": "2026-0001"}', 'and the ledger has it against cash') FROM tokenbill.statement s WHERE account = 'a';
SELECT is(currency, 'EUR', 'in the account''s currency') FROM tokenbill.recharge('b', 1, '2026-0002');

-- Again
SELECT tokenbill.charge_amount('a', 1, 'c1') \g /dev/null
SELECT is(pg_temp.pick(r, 'replayed', 'status', 'order_no', 'seq', 'balance', 'available', 'created_at'),
	'{"replayed": true, "status": "success", "order_no": "2026-0001", "seq": 1, "balance": 50, "available": 50, "created_at": "2026-03-01T12:00:00+00:00"}',
	'the same order again: the same row, replayed')
FROM tokenbill.recharge('a', 50.00, '2026-0001', payment_method => 'wire', priority => 5, metadata => '{"invoice": 17}') r;
SET LOCAL tokenbill.clock = '2029-03-01 12:00:00+00';
SELECT is(replayed, true, 'after years as well') FROM tokenbill.recharge('a', 50, '2026-0001', payment_method => 'wire', priority => 5, metadata => '{"invoice": 17}');
SELECT is(balance, 49::numeric, 'nothing moved') FROM tokenbill.balances WHERE account = 'a';
SELECT pg_temp.refused('SELECT tokenbill.recharge(' || args || ')', 'PT409',
	jsonb_build_object('account', 'a', 'order_no', '2026-0001', 'argument', argument, 'was', was, 'now', now), 'another ' || argument || ' is refused')
FROM (VALUES
	('''a'', 51, ''2026-0001'', payment_method => ''wire'', priority => 5, metadata => ''{"invoice": 17}''', 'amount', '50'::jsonb, '51'::jsonb),
	('''a'', 50, ''2026-0001'', payment_method => ''card'', priority => 5, metadata => ''{"invoice": 17}''', 'payment_method', '"wire"', '"card"'),
	('''a'', 50, ''2026-0001'', priority => 5, metadata => ''{"invoice": 17}''', 'payment_method', '"wire"', 'null'),
	('''a'', 50, ''2026-0001'', payment_method => ''wire'', metadata => ''{"invoice": 17}''', 'priority', '5', '0'),
	('''a'', 50, ''2026-0001'', payment_method => ''wire'', priority => 5, metadata => ''{"invoice": 18}''', 'metadata', '{"invoice": 17}', '{"invoice": 18}')
) v(args, argument, was, now);
SELECT pg_temp.refused($$SELECT tokenbill.recharge('b', 50, '2026-0001', payment_method => 'wire', priority => 5, metadata => '{"invoice": 17}')$$, 'PT409',
	'{"order_no": "2026-0001", "argument": "account"}', 'the order number of another account');
SELECT is(replayed, false, 'an order number has nothing to do with keys') FROM tokenbill.recharge('a', 1, 'c1');

-- For ever: after the month of its line is gone
SET LOCAL tokenbill.clock = '2004-01-15 00:00:00+00';
SELECT tokenbill.create_account('old'), tokenbill.recharge('old', 3, 'O-2004') \g /dev/null
SET LOCAL tokenbill.clock = '2004-06-01 00:00:00+00';
SELECT is(tokenbill.drop_ledger_month('2004-01-01'), 1::bigint, 'the line''s month is dropped');
SELECT is(pg_temp.pick(r, 'replayed', 'status', 'amount'), '{"replayed": true, "status": "success", "amount": 3}', 'the order is still known') FROM tokenbill.recharge('old', 3, 'O-2004') r;
SELECT pg_temp.refused($$SELECT tokenbill.recharge('old', 4, 'O-2004')$$, 'PT409', '{"argument": "amount"}', 'and refused to others');
SELECT is(balance, 3::numeric, 'its money came once') FROM tokenbill.balances WHERE account = 'old';
SET LOCAL tokenbill.clock = '2029-03-01 12:00:00+00';

-- A gateway: not yet
SELECT pg_temp.refused($$SELECT tokenbill.recharge('a', 1, '2026-0003', gateway => 'stripe')$$, '0A000', '{"argument": "gateway"}', 'a gateway is not supported yet');
SELECT is(replayed, false, 'which leaves the order number free') FROM tokenbill.recharge('a', 1, '2026-0003');

-- Sandbox
SELECT is(pg_temp.pick(r, 'status', 'balance'), '{"status": "success", "balance": 7}', 'a sandbox is recharged') FROM tokenbill.recharge('sand', 7, 'S-1') r;
SELECT is(contra, 'sandbox', 'with no cash') FROM tokenbill.statement WHERE account = 'sand';

-- Bad arguments
SELECT pg_temp.refused(format('SELECT tokenbill.recharge(%s)', args), sqlstate, detail, description) FROM (VALUES
	('''nobody'', 1, ''x''', 'PT404', '{"account": "nobody"}'::jsonb, 'unknown account'),
	('NULL, 1, ''x''', '22004', '{"argument": "account"}', 'account null'),
	('''a'', NULL, ''x''', '22004', '{"argument": "amount"}', 'amount null'),
	('''a'', 0, ''x''', '22023', '{"argument": "amount"}', 'amount zero'),
	('''a'', -5, ''x''', '22023', '{"argument": "amount"}', 'amount negative'),
	('''a'', ''NaN'', ''x''', '22003', '{"argument": "amount"}', 'amount NaN'),
	('''a'', 1e18, ''x''', '22003', '{"argument": "amount"}', 'amount of 10^18'),
	('''a'', 1, NULL', '22004', '{"argument": "order_no"}', 'order number null'),
	('''a'', 1, ''''', '22023', '{"argument": "order_no"}', 'order number empty'),
	('''a'', 1, repeat(''x'', 256)', '22023', '{"argument": "order_no"}', 'order number of 256 bytes'),
	('''a'', 1, E''a\tb''', '22023', '{"argument": "order_no"}', 'order number with a tab'),
	('''a'', 1, ''x'', payment_method => ''''', '22023', '{"argument": "payment_method"}', 'payment method empty'),
	('''a'', 1, ''x'', payment_method => repeat(''x'', 10000)', '22023', '{"argument": "payment_method"}', 'payment method of 10 KB'),
	('''a'', 1, ''x'', priority => NULL', '22004', '{"argument": "priority"}', 'priority null'),
	('''a'', 1, ''x'', metadata => ''[]''', '22023', '{"argument": "metadata"}', 'metadata an array')) v(args, sqlstate, detail, description);

-- States only move forward, whoever tries; the moves are those of the diagram
CREATE FUNCTION pg_temp.move(order_no text, was text, now text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	UPDATE tokenbill.recharge_order o SET status = was WHERE o.order_no = move.order_no;
	SET LOCAL session_replication_role = origin;
	UPDATE tokenbill.recharge_order o SET status = now WHERE o.order_no = move.order_no;
	RETURN 'moved';
EXCEPTION WHEN SQLSTATE 'PT409' THEN
	RETURN 'refused';
END $$;
SELECT set_eq($$SELECT was || ' > ' || now
	FROM unnest('{init,processing,requires_action,unknown,success,failed,partially_refunded,refunded,disputed}'::text[]) was,
		unnest('{init,processing,requires_action,unknown,success,failed,partially_refunded,refunded,disputed}'::text[]) now
	WHERE was <> now AND pg_temp.move('2026-0003', was, now) = 'moved'$$,
	ARRAY['init > processing', 'init > success', 'processing > success', 'processing > failed', 'processing > requires_action', 'requires_action > processing',
		'processing > unknown', 'unknown > processing', 'unknown > success', 'unknown > failed', 'success > partially_refunded',
		'partially_refunded > refunded', 'success > disputed', 'disputed > success', 'disputed > refunded', 'success > refunded'], 'of 72 moves, 16 are allowed');
SET LOCAL session_replication_role = replica;
UPDATE tokenbill.recharge_order SET status = 'success' WHERE order_no = '2026-0003';
SET LOCAL session_replication_role = origin;
SELECT pg_temp.refused($$UPDATE tokenbill.recharge_order SET status = 'init' WHERE order_no = '2026-0001'$$, 'PT409',
	'{"table": "recharge_order", "account": "a", "was": "success", "now": "init"}', 'a superuser''s UPDATE is refused');
SELECT pg_temp.refused($$DELETE FROM tokenbill.recharge_order WHERE order_no = '2026-0001'$$, 'PT409', '{"table": "recharge_order"}', 'and a DELETE');
SELECT pg_temp.refused($$TRUNCATE tokenbill.recharge_order$$, 'PT409', '{"table": "recharge_order"}', 'and TRUNCATE');
SELECT pg_temp.refused($$UPDATE tokenbill.recharge_order SET status = 'lost' WHERE order_no = '2026-0001'$$, 'PT409', '{"now": "lost"}', 'there are no other states');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
