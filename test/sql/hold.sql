-- Holds: made, extended, captured, released, expired
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(112);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('h'), tokenbill.recharge('h', 100, 'R-h') \g /dev/null
SELECT tokenbill.set_price('llm', 'input_tokens', 2, 1000000), tokenbill.set_price('llm', 'output_tokens', 8, 1000000),
	tokenbill.set_price('big', 'output_tokens', 80, 1000000) \g /dev/null

-- Made: available goes down, the balance does not
SELECT is(to_jsonb(r) - '{price,ref}'::text[], '{"account": "h", "seq": 2, "kind": "hold", "service": null, "amount": 0, "balance": 100, "available": 70, "held": 30,
	"currency": "USD", "idempotency_key": "h1", "hold_key": "h1", "replayed": false, "created_at": "2026-03-01T12:00:00+00:00"}'::jsonb, 'the receipt of a hold') FROM tokenbill.hold('h', 30, 'h1') r;
SELECT is(to_jsonb(v), '{"account": "h", "hold_key": "h1", "amount": 30, "captured": 0, "remaining": 30, "status": "held", "on_expiry": "release",
	"service": null, "expires_at": "2026-03-01T12:10:00+00:00", "created_at": "2026-03-01T12:00:00+00:00",
	"updated_at": "2026-03-01T12:00:00+00:00"}'::jsonb, 'holds shows it; it lives ten minutes') FROM tokenbill.holds v WHERE account = 'h';
SELECT is(pg_temp.pick(b, 'balance', 'held', 'available'), '{"balance": 100, "held": 30, "available": 70}', 'so does balances') FROM tokenbill.balances b WHERE account = 'h';
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('h', 70.01, 'c1')$$, 'PT402', '{"required": 70.01, "available": 70, "shortfall": 0.01}',
	'a charge cannot have what is held');
SELECT pg_temp.refused($$SELECT tokenbill.hold('h', 70.01, 'h2')$$, 'PT402', '{"account": "h", "required": 70.01, "available": 70, "shortfall": 0.01}', 'nor can another hold');
SELECT is(amount, 0::numeric, 'a hold''s line has amount 0') FROM tokenbill.statement WHERE account = 'h' AND seq = 2;
SELECT is(pg_temp.pick(s, 'contra', 'held', 'idempotency_key'), '{"contra": "hold", "held": 30, "idempotency_key": "h1"}', 'and what is held') FROM tokenbill.statement s WHERE account = 'h' AND seq = 2;

-- Captured: what was used is charged, the rest is free
SELECT is(pg_temp.pick(r, 'kind', 'amount', 'balance', 'available', 'held', 'hold_key', 'idempotency_key', 'ref'),
	'{"kind": "capture", "amount": -12.5, "balance": 87.5, "available": 87.5, "held": 0, "hold_key": "h1",
	"idempotency_key": "tokenbill:capture:h1", "ref": "h1"}', 'a capture of less than was held frees the rest') FROM tokenbill.capture('h', 'h1', amount => 12.5) r;
SELECT is(pg_temp.pick(v, 'status', 'captured', 'amount', 'remaining'), '{"status": "captured", "captured": 12.5, "amount": 30, "remaining": 0}', 'the hold is captured')
FROM tokenbill.holds v WHERE hold_key = 'h1';
SELECT is(contra, 'revenue', 'a capture is revenue') FROM tokenbill.statement WHERE account = 'h' AND kind = 'capture';
SELECT is(replayed, true, 'the same capture again is replayed') FROM tokenbill.capture('h', 'h1', amount => 12.5);
SELECT pg_temp.refused($$SELECT tokenbill.capture('h', 'h1', amount => 12)$$, 'PT409', '{"account": "h", "argument": "amount", "was": 12.5, "now": 12}', 'another amount is not');
SELECT pg_temp.refused($$SELECT tokenbill.capture('h', 'h1', amount => 1, idempotency_key => 'c2')$$, 'PT409', '{"account": "h", "hold_key": "h1", "status": "captured"}',
	'a captured hold is not captured again');
SELECT pg_temp.refused($$SELECT tokenbill.release('h', 'h1')$$, 'PT409', '{"account": "h", "hold_key": "h1", "status": "captured"}', 'nor released');
SELECT pg_temp.refused($$SELECT tokenbill.extend_hold('h', 'h1', 50)$$, 'PT409', '{"account": "h", "hold_key": "h1", "status": "captured"}', 'nor extended');
SELECT pg_temp.refused($$SELECT tokenbill.capture('h', 'nohold')$$, 'PT404', '{"account": "h", "hold_key": "nohold"}', 'an unknown hold is not captured');
SELECT pg_temp.refused($$SELECT tokenbill.release('h', 'nohold')$$, 'PT404', '{"account": "h", "hold_key": "nohold"}', 'nor released');
SELECT pg_temp.refused($$SELECT tokenbill.extend_hold('h', 'nohold', 5)$$, 'PT404', '{"account": "h", "hold_key": "nohold"}', 'nor extended');

-- Captured with neither usage nor amount: all of it
SELECT tokenbill.hold('h', 5, 'all') \g /dev/null
SELECT is(amount, -5::numeric, 'all that was held') FROM tokenbill.capture('h', 'all');

-- Captured bit by bit
SELECT tokenbill.hold('h', 10, 'bits') \g /dev/null
SELECT is(pg_temp.pick(r, 'amount', 'balance', 'held', 'available'), '{"amount": -2, "balance": 80.5, "held": 8, "available": 72.5}', 'a first bit; the rest stays held')
FROM tokenbill.capture('h', 'bits', amount => 2, idempotency_key => 'bit-1', final => false) r;
SELECT is(pg_temp.pick(r, 'amount', 'held'), '{"amount": -3, "held": 5}', 'a second') FROM tokenbill.capture('h', 'bits', amount => 3, idempotency_key => 'bit-2', final => false) r;
SELECT is(pg_temp.pick(v, 'status', 'captured', 'remaining'), '{"status": "held", "captured": 5, "remaining": 5}', 'holds keeps count') FROM tokenbill.holds v WHERE hold_key = 'bits';
SELECT is(replayed, true, 'a bit is replayed by its key') FROM tokenbill.capture('h', 'bits', amount => 2, idempotency_key => 'bit-1', final => false);
SELECT pg_temp.refused($$SELECT tokenbill.capture('h', 'bits', amount => 1, final => false)$$, '22004', '{"argument": "idempotency_key"}', 'and needs one');
SELECT is(pg_temp.pick(r, 'amount', 'held'), '{"amount": -5, "held": 0}', 'what is left') FROM tokenbill.capture('h', 'bits') r;
SELECT tokenbill.hold('h', 4, 'bits2') \g /dev/null
SELECT tokenbill.capture('h', 'bits2', amount => 1, idempotency_key => 'bit-3', final => false) \g /dev/null
SELECT is(pg_temp.pick(r, 'amount', 'held', 'balance', 'kind', 'idempotency_key'), '{"amount": 0, "held": 0, "balance": 71.5, "kind": "release", "idempotency_key": "tokenbill:release:bits2"}',
	'or it is released') FROM tokenbill.release('h', 'bits2') r;
SELECT is(pg_temp.pick(v, 'status', 'captured'), '{"status": "released", "captured": 1}', 'then the hold is released, and its bits stay charged') FROM tokenbill.holds v WHERE hold_key = 'bits2';
SELECT is(replayed, true, 'a release again is replayed') FROM tokenbill.release('h', 'bits2');
SELECT pg_temp.refused($$SELECT tokenbill.capture('h', 'bits2')$$, 'PT409', '{"account": "h", "hold_key": "bits2", "status": "released"}', 'a released hold is not captured');
SELECT pg_temp.refused($$SELECT tokenbill.capture('h', 'bits2', amount => 0)$$, '22023', '{"argument": "amount"}', 'nothing at all is not captured, but released');

-- Priced: by an estimate, then by what was used
SELECT is(pg_temp.pick(r, 'held', 'service'), '{"held": 4, "service": "llm"}', 'amount null: the price of the estimated usage is held')
FROM tokenbill.hold('h', NULL, 'est', service => 'llm', usage => '{"output_tokens": 500000}') r;
SELECT is(pg_temp.pick(r, 'amount', 'held', 'service'), '{"amount": -2.4, "held": 0, "service": "llm"}', 'a capture prices the usage by the hold''s service')
FROM tokenbill.capture('h', 'est', usage => '{"input_tokens": 400000, "output_tokens": 200000}') r;
SELECT is(pg_temp.pick(s, 'usage', 'rates'), '{"usage": {"input_tokens": 400000, "output_tokens": 200000}, "rates": {"input_tokens": "2/1000000", "output_tokens": "8/1000000"}}',
	'and says so in the line') FROM tokenbill.statement s WHERE account = 'h' AND ref = 'est' AND kind = 'capture';
SELECT tokenbill.hold('h', 5, 'est2', service => 'llm') \g /dev/null
SELECT is(pg_temp.pick(r, 'amount', 'service'), '{"amount": -0.8, "service": "big"}', 'unless told another')
FROM tokenbill.capture('h', 'est2', usage => '{"output_tokens": 10000}', service => 'big') r;
SELECT tokenbill.hold('h', 5, 'est3') \g /dev/null
SELECT is(amount, -0.08, 'a hold without a service is told one') FROM tokenbill.capture('h', 'est3', usage => '{"output_tokens": 10000}', service => 'llm');
SELECT tokenbill.hold('h', 5, 'est4') \g /dev/null
SELECT is((pg_temp.error_of($$SELECT tokenbill.capture('h', 'est4', usage => '{"output_tokens": 10000}')$$)).detail ->> 'argument', 'service', 'or asked for it');
SELECT is(pg_temp.pick(r, 'amount', 'held'), '{"amount": 0, "held": 0}', 'nothing used: nothing is charged, all is freed')
FROM tokenbill.capture('h', 'est4', usage => '{"output_tokens": 0}', service => 'llm') r;
SELECT pg_temp.refused(statement, sqlstate, detail, description) FROM (VALUES
	($$SELECT tokenbill.hold('h', NULL, 'x')$$, '22004', '{"argument": "amount"}'::jsonb, 'neither amount nor usage'),
	($$SELECT tokenbill.hold('h', NULL, 'x', usage => '{"output_tokens": 1}')$$, '22004', '{"argument": "service"}', 'usage without a service'),
	($$SELECT tokenbill.hold('h', NULL, 'x', service => 'llm', usage => '{"images": 1}')$$, 'PT404', '{"service": "llm", "meter": "images"}', 'usage without a price'),
	($$SELECT tokenbill.hold('h', 0, 'x')$$, '22023', '{"argument": "amount"}', 'a hold of nothing'),
	($$SELECT tokenbill.hold('h', 1, 'x', ttl => '0')$$, '22023', '{"argument": "ttl"}', 'ttl of nothing'),
	($$SELECT tokenbill.hold('h', 1, 'x', ttl => '-1 min')$$, '22023', '{"argument": "ttl"}', 'ttl negative'),
	($$SELECT tokenbill.hold('h', 1, 'x', ttl => NULL)$$, '22004', '{"argument": "ttl"}', 'ttl null'),
	($$SELECT tokenbill.hold('h', 1, 'x', on_expiry => 'keep')$$, '22023', '{"argument": "on_expiry"}', 'unknown policy on expiry'),
	($$SELECT tokenbill.hold('h', 1, 'x', on_expiry => NULL)$$, '22004', '{"argument": "on_expiry"}', 'policy on expiry null'),
	($$SELECT tokenbill.hold('nobody', 1, 'x')$$, 'PT404', '{"account": "nobody"}', 'unknown account'),
	($$SELECT tokenbill.capture('h', 'est4', usage => '{"output_tokens": 1}', amount => 1)$$, '22023', '{"argument": "amount"}', 'a capture by usage and by amount')
) v(statement, sqlstate, detail, description);

-- Extended: to a new total, for longer, or both
SELECT tokenbill.hold('h', 10, 'ext') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-01 12:05:00+00';
SELECT is(pg_temp.pick(r, 'kind', 'amount', 'held', 'idempotency_key', 'hold_key'), '{"kind": "extend", "amount": 0, "held": 15, "idempotency_key": "tokenbill:extend:ext:1", "hold_key": "ext"}',
	'the amount is the new total') FROM tokenbill.extend_hold('h', 'ext', 15) r;
SELECT is(pg_temp.pick(v, 'amount', 'expires_at'), '{"amount": 15, "expires_at": "2026-03-01T12:10:00+00:00"}', 'its time stays') FROM tokenbill.holds v WHERE hold_key = 'ext';
SELECT is(replayed, true, 'the same total again is a replay') FROM tokenbill.extend_hold('h', 'ext', 15);
SELECT tokenbill.extend_hold('h', 'ext', ttl => '1 hour') \g /dev/null
SELECT is(pg_temp.pick(v, 'amount', 'expires_at'), '{"amount": 15, "expires_at": "2026-03-01T13:05:00+00:00"}', 'a ttl counts from now') FROM tokenbill.holds v WHERE hold_key = 'ext';
SELECT tokenbill.extend_hold('h', 'ext', 16, '2 hours') \g /dev/null
SELECT is(pg_temp.pick(v, 'amount', 'expires_at'), '{"amount": 16, "expires_at": "2026-03-01T14:05:00+00:00"}', 'both at once') FROM tokenbill.holds v WHERE hold_key = 'ext';
SELECT pg_temp.refused($$SELECT tokenbill.extend_hold('h', 'ext', 12)$$, 'PT409', '{"account": "h", "hold_key": "ext"}', 'a hold is not made smaller');
SELECT pg_temp.refused($$SELECT tokenbill.extend_hold('h', 'ext', 1000)$$, 'PT402', '{"account": "h", "required": 984}', 'nor larger than the account can');
SELECT matches((pg_temp.error_of($$SELECT tokenbill.extend_hold('h', 'ext')$$)).sqlstate, '^22', 'an extension by nothing is refused');
SELECT pg_temp.refused($$SELECT tokenbill.extend_hold('h', 'ext', ttl => '-1 hour')$$, '22023', '{"argument": "ttl"}', 'or by less than nothing');
SELECT is(amount, -16::numeric, 'what was added is captured with the rest') FROM tokenbill.capture('h', 'ext');

SELECT tokenbill.issue_token('h') AS token \gset
SELECT tokenbill.hold('h', 3, :'token') \g /dev/null
SELECT is((pg_temp.error_of(format('SELECT 1 / replayed::int FROM tokenbill.extend_hold(''h'', %L, 3)', :'token'))).sqlstate, '00000', 'a hold made with a token is extended to what it is: a replay');
SELECT is(pg_temp.pick(r, 'replayed', 'held'), '{"replayed": false, "held": 4}', 'or further') FROM tokenbill.extend_hold('h', :'token', 4) r;
SELECT tokenbill.release('h', :'token') \g /dev/null

-- More than was held
SELECT tokenbill.create_account('o'), tokenbill.recharge('o', 20, 'R-o') \g /dev/null
SELECT tokenbill.hold('o', 5, 'o1') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.capture('o', 'o1', amount => 5.01)$$, 'PT402', '{"account": "o", "required": 5.01}', 'overflow refuse: not even a cent more, though the account has it');
SELECT is(pg_temp.pick(v, 'status', 'captured'), '{"status": "held", "captured": 0}', 'the hold is still there') FROM tokenbill.holds v WHERE account = 'o';
SELECT tokenbill.set_account_policy('o', overflow => 'debt') \g /dev/null
SELECT is(pg_temp.pick(r, 'amount', 'balance', 'held'), '{"amount": -6, "balance": 14, "held": 0}', 'overflow debt: it is taken') FROM tokenbill.capture('o', 'o1', amount => 6) r;
SELECT tokenbill.hold('o', 10, 'o2'), tokenbill.hold('o', 4, 'o3') \g /dev/null
SELECT is(pg_temp.pick(r, 'amount', 'balance', 'held', 'available'), '{"amount": -25, "balance": -11, "held": 4, "available": -15}', 'below zero if need be, other holds stay')
FROM tokenbill.capture('o', 'o2', amount => 25) r;
SELECT is(pg_temp.pick(v, 'captured', 'amount', 'status', 'remaining'), '{"captured": 25, "amount": 10, "status": "captured", "remaining": 0}', 'holds shows more captured than was held')
FROM tokenbill.holds v WHERE hold_key = 'o2';
SELECT is(amount, -5::numeric, 'bit by bit as well') FROM tokenbill.capture('o', 'o3', amount => 5, idempotency_key => 'o3-1', final => false);
SELECT is(pg_temp.pick(b, 'balance', 'held'), '{"balance": -16, "held": 0}', 'an overdrawn hold holds nothing, not less') FROM tokenbill.balances b WHERE account = 'o';
SELECT tokenbill.release('o', 'o3') \g /dev/null

-- Expired: what was left is freed, or charged
SELECT tokenbill.create_account('e'), tokenbill.recharge('e', 20, 'R-e') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-02 00:00:00+00';
SELECT tokenbill.hold('e', 5, 'free', ttl => '1 min'), tokenbill.hold('e', 6, 'pay', ttl => '2 min', on_expiry => 'charge'),
	tokenbill.hold('e', 7, 'stay', ttl => '1 day') \g /dev/null
SELECT tokenbill.capture('e', 'pay', amount => 2, idempotency_key => 'pay-1', final => false) \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-02 00:00:59.999999+00';
SELECT is(tokenbill.expire_holds('e'), 0::bigint, 'nothing expires before its time');
SET LOCAL tokenbill.clock = '2026-03-02 00:01:00+00';
SELECT pg_temp.refused($$SELECT tokenbill.capture('e', 'free')$$, 'PT409', '{"account": "e", "hold_key": "free", "status": "expired"}', 'from then on it is not captured');
SELECT pg_temp.refused($$SELECT tokenbill.extend_hold('e', 'free', 6)$$, 'PT409', '{"account": "e", "hold_key": "free", "status": "expired"}', 'nor extended');
SELECT is(tokenbill.expire_holds('e'), 1::bigint, 'expire_holds posts it');
SELECT is(pg_temp.pick(s, 'kind', 'amount', 'held', 'idempotency_key', 'ref', 'contra'),
	'{"kind": "expiry", "amount": 0, "held": 11, "idempotency_key": "tokenbill:expiry:free", "ref": "free", "contra": "hold"}', 'on_expiry release: freed')
FROM tokenbill.statement s WHERE account = 'e' AND ref = 'free' AND kind = 'expiry';
SET LOCAL tokenbill.clock = '2026-03-02 00:02:00+00';
SELECT is(tokenbill.expire_holds('e'), 1::bigint, 'a minute later the next');
SELECT is(pg_temp.pick(s, 'amount', 'held', 'balance', 'contra', 'idempotency_key'),
	'{"amount": -4, "held": 7, "balance": 14, "contra": "revenue", "idempotency_key": "tokenbill:expiry:pay"}', 'on_expiry charge: what was left of it is charged')
FROM tokenbill.statement s WHERE account = 'e' AND ref = 'pay' AND kind = 'expiry';
SELECT results_eq($$SELECT hold_key COLLATE "default", status, captured FROM tokenbill.holds WHERE account = 'e' ORDER BY 1$$,
	$$VALUES ('free', 'expired', 0::numeric), ('pay', 'expired', 6), ('stay', 'held', 0)$$, 'holds shows which');
SELECT is(tokenbill.expire_holds('e'), 0::bigint, 'once');
SELECT pg_temp.refused($$SELECT tokenbill.release('e', 'free')$$, 'PT409', '{"account": "e", "hold_key": "free", "status": "expired"}', 'an expired hold is not released');
SELECT pg_temp.refused($$SELECT tokenbill.hold('e', 6, 'free')$$, 'PT409', '{"account": "e", "idempotency_key": "free"}', 'and its key is taken');

-- The charge that needs the room makes it
SELECT tokenbill.create_account('room'), tokenbill.recharge('room', 10, 'R-room') \g /dev/null
SELECT tokenbill.hold('room', 4, 'r1', ttl => '1 min'), tokenbill.hold('room', 4, 'r2', ttl => '5 min') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-02 00:04:00+00';
SELECT is(available, 1::numeric, 'a charge that does not need it leaves them') FROM tokenbill.charge_amount('room', 1, 'rc1');
SELECT is(available, 0::numeric, 'one that does has the due ones expire') FROM tokenbill.charge_amount('room', 5, 'rc2');
SELECT results_eq($$SELECT hold_key COLLATE "default", status FROM tokenbill.holds WHERE account = 'room' ORDER BY 1$$, $$VALUES ('r1', 'expired'), ('r2', 'held')$$, 'only those');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('room', 5, 'rc3')$$, 'PT402', '{"available": 0, "shortfall": 5}', 'if that is not enough, it is refused');
SELECT tokenbill.recharge('room', 1, 'R-room2') \g /dev/null
SELECT tokenbill.hold('room', 1, 'r3', ttl => '1 min') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-02 01:00:00+00';
SELECT is(pg_temp.pick(r, 'held', 'available'), '{"held": 5, "available": 0}', 'a hold makes room as well') FROM tokenbill.hold('room', 5, 'r4') r;
SELECT tokenbill.create_account('many', credit_limit => 100) \g /dev/null
SELECT tokenbill.hold('many', 1, 'm' || i, ttl => make_interval(mins => i)) FROM generate_series(1, 5) i \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-02 02:00:00+00';
SELECT is(tokenbill.expire_holds('many', 2), 2::bigint, 'expire_holds at most so many');
SELECT is(min(hold_key), 'm3', 'the oldest first') FROM tokenbill.holds WHERE account = 'many' AND status = 'held';
SELECT is(tokenbill.expire_holds('many'), 3::bigint, 'then the rest');
SELECT tokenbill.hold('many', 1, 'n1', ttl => '1 min'), tokenbill.hold('room', 1, 'n2', ttl => '1 min') FROM tokenbill.recharge('room', 1, 'R-room3') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-02 02:30:00+00';
SELECT is(tokenbill.expire_holds(max => 1000000) >= 2, true, 'without an account, those of all');
SELECT results_eq($$SELECT hold_key COLLATE "default", status FROM tokenbill.holds WHERE hold_key IN ('n1', 'n2') ORDER BY 1$$, $$VALUES ('n1', 'expired'), ('n2', 'expired')$$, 'both of them');
SELECT pg_temp.refused($$SELECT tokenbill.expire_holds('nobody')$$, 'PT404', '{"account": "nobody"}', 'of an unknown account');
SELECT pg_temp.refused($$SELECT tokenbill.expire_holds(max => 0)$$, '22023', '{"argument": "max"}', 'none at most');
SELECT tokenbill.set_account_status('e', 'frozen') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-04 00:00:00+00';
SELECT is(tokenbill.expire_holds('e'), 1::bigint, 'holds of a frozen account expire as well');

-- An expiry that charges makes no room, and is posted by the call that sees it
SELECT tokenbill.create_account('due'), tokenbill.recharge('due', 10, 'R-due'), tokenbill.hold('due', 6, 'd1', ttl => '1 min', on_expiry => 'charge'),
	tokenbill.hold('due', 3, 'd2', ttl => '1 min') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-04 01:00:00+00';
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('due', 5, 'dc1')$$, 'PT402', '{"account": "due", "required": 5, "available": 4, "shortfall": 1}', 'what an expiry charges is gone');
SELECT is(pg_temp.pick(r, 'balance', 'available', 'held', 'seq'), '{"balance": 0, "available": 0, "held": 0, "seq": 6}', 'what another frees can be had') FROM tokenbill.charge_amount('due', 4, 'dc1') r;
SELECT results_eq($$SELECT kind, amount, ref FROM tokenbill.statement WHERE account = 'due' AND seq > 3 ORDER BY ref COLLATE "C"$$,
	$$VALUES ('expiry', -6::numeric, 'd1'), ('expiry', 0, 'd2'), ('charge', -4, NULL)$$, 'both expiries come before the charge');
SELECT is(sqlstate, 'PT402', 'an item of a batch that is refused') FROM tokenbill.charge_batch('[{"account": "due", "amount": 4, "idempotency_key": "b"}]');

-- Sandbox: everything but money
SELECT tokenbill.create_account('sand', sandbox => true), tokenbill.recharge('sand', 10, 'R-sand'), tokenbill.hold('sand', 6, 's1') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.hold('sand', 5, 's2')$$, 'PT402', '{"account": "sand", "required": 5, "available": 4, "shortfall": 1}', 'a sandbox''s holds are held');
SELECT is(pg_temp.pick(r, 'amount', 'price', 'balance', 'held'), '{"amount": 0, "price": 5, "balance": 10, "held": 0}', 'and captured for nothing') FROM tokenbill.capture('sand', 's1', amount => 5) r;
SELECT pg_temp.refused($$SELECT tokenbill.capture('sand', 's1', amount => 5, idempotency_key => 'again')$$, 'PT409', '{"status": "captured"}', 'once');
SELECT set_eq($$SELECT contra FROM tokenbill.statement WHERE account = 'sand' AND amount <> 0 OR account = 'sand' AND kind = 'capture'$$, ARRAY['sandbox'], 'without revenue');

-- States only move forward, whoever tries
SELECT tokenbill.hold('many', 1, 'open', ttl => '1 day') \g /dev/null
SELECT pg_temp.refused(format('UPDATE tokenbill.hold SET status = %L WHERE (account, hold_key) = (%L, %L)', now, account, hold_key), 'PT409',
	jsonb_build_object('table', 'hold', 'account', account, 'was', was, 'now', now), format('%s -> %s is refused', was, now))
FROM (VALUES ('h', 'h1', 'captured', 'held'), ('h', 'h1', 'captured', 'released'), ('h', 'h1', 'captured', 'expired'),
	('h', 'bits2', 'released', 'held'), ('h', 'bits2', 'released', 'captured'), ('h', 'bits2', 'released', 'expired'),
	('e', 'free', 'expired', 'held'), ('e', 'free', 'expired', 'captured'), ('e', 'free', 'expired', 'released')) v(account, hold_key, was, now);
SELECT pg_temp.refused($$DELETE FROM tokenbill.hold WHERE hold_key = 'open'$$, 'PT409', '{"table": "hold"}', 'no hold is deleted');
SELECT pg_temp.refused($$TRUNCATE tokenbill.hold$$, 'PT409', '{"table": "hold"}', 'nor all of them');
SELECT pg_temp.refused($$UPDATE tokenbill.hold SET status = 'lost' WHERE hold_key = 'open'$$, 'PT409', '{"was": "held", "now": "lost"}', 'there are no other states');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
