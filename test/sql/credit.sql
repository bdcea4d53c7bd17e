-- Credits: what may be spent, who pays, expiry, holds, refunds, and the proof of them. Every figure is worked out by hand
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(127);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';

-- 'g1 5, plain 1', in the order in which it was taken
CREATE FUNCTION pg_temp.parts(list jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(coalesce(p.credit, 'plain') || ' ' || trim_scale(p.amount), ', ' ORDER BY n)
	FROM jsonb_array_elements(list) WITH ORDINALITY e(part, n), jsonb_to_record(part) p(credit text, amount numeric)
$$;
CREATE FUNCTION pg_temp.burned(owner text, key text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.parts(coalesce(s.burned, s.returned)) FROM tokenbill.statement s WHERE s.account = owner AND s.idempotency_key = key
$$;
-- what is left of each credit: 'g1 5/0 open', remaining/reserved
CREATE FUNCTION pg_temp.credits(owner text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s/%s %s', credit_key, trim_scale(remaining), trim_scale(reserved), status), ', ' ORDER BY seq) FROM tokenbill.credits WHERE account = owner
$$;
CREATE FUNCTION pg_temp.explained(owner text, asked numeric, what text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', place, coalesce(credit_key, 'plain'), trim_scale(amount), reason), ', ' ORDER BY n)
	FROM tokenbill.explain_burn(owner, asked, what) WITH ORDINALITY e(place, credit_key, amount, free, priority, category, expires_at, reason, n)
$$;

-- What makes a credit
SELECT tokenbill.create_account('a'), tokenbill.recharge('a', 10, 'R-a') \g /dev/null
SELECT is(to_jsonb(r), '{"account": "a", "seq": 2, "kind": "grant", "service": null, "amount": 5, "balance": 15, "available": 15, "held": 0, "price": null,
	"currency": "USD", "idempotency_key": "spring", "hold_key": null, "replayed": false, "created_at": "2026-03-01T12:00:00+00:00", "ref": null}'::jsonb, 'a credit is granted, and in the balance')
FROM tokenbill.grant_credit('a', 5, 'spring', expires_at => '2026-04-01 00:00:00+00') r;
SELECT is(to_jsonb(c), '{"account": "a", "credit_key": "spring", "amount": 5, "remaining": 5, "reserved": 0, "currency": "USD", "priority": 50, "category": "promotional", "scope": null,
	"effective_at": "2026-03-01T12:00:00+00:00", "expires_at": "2026-04-01T00:00:00+00:00", "status": "open", "cost_basis": 0, "created_at": "2026-03-01T12:00:00+00:00",
	"updated_at": "2026-03-01T12:00:00+00:00", "seq": 2}'::jsonb, 'its row has every default') FROM tokenbill.credits c WHERE account = 'a';
SELECT is(credits, 1, 'the account knows how many are open') FROM tokenbill.account WHERE account = 'a';
SELECT is(replayed, true, 'the same grant is replayed, in whatever time zone it is asked') FROM tokenbill.grant_credit('a', 5, 'spring', expires_at => '2026-04-01 02:00:00+02');
SELECT pg_temp.refused(format('SELECT tokenbill.grant_credit(''a'', 5, ''spring'', %s)', args), 'PT409', jsonb_build_object('argument', argument), 'another ' || argument || ' is another grant') FROM (VALUES
	('expires_at => ''2026-04-02''', 'expires_at'), ('expires_at => ''2026-04-01'', priority => 1', 'priority'), ('expires_at => ''2026-04-01'', scope => ''{x}''', 'scope'),
	('expires_at => ''2026-04-01'', category => ''paid''', 'category'), ('expires_at => ''2026-04-01'', cost_basis => 0', 'cost_basis'), ('expires_at => ''2026-04-01'', effective_at => ''2026-03-02''', 'effective_at'),
	('priority => 50', 'expires_at')) v(args, argument);
SELECT pg_temp.refused($$SELECT tokenbill.grant_credit('a', 5, 'late', expires_at => '2026-03-01 12:00:00+00')$$, '22008', '{"argument": "expires_at"}', 'a credit that has expired is none');
SELECT pg_temp.refused($$SELECT tokenbill.grant_credit('a', 5, 'never', expires_at => '2026-04-01', effective_at => '2026-04-01')$$, '22023', '{"argument": "effective_at"}', 'nor is one that never pays');
SELECT is_empty($$SELECT * FROM tokenbill.credits WHERE credit_key <> 'spring'$$, 'what was refused has left nothing');
SELECT tokenbill.create_account('m' || i) FROM generate_series(1, 8) i \g /dev/null
SELECT tokenbill.grant_credit('m1', 1, 'g', priority => 50), tokenbill.grant_credit('m2', 1, 'g', category => 'paid'), tokenbill.grant_credit('m3', 1, 'g', reason => 'x'), tokenbill.grant_credit('m4', 1, 'g', priority => 49),
	tokenbill.grant_credit('m5', 1, 'g', category => 'promotional'), tokenbill.grant_credit('m6', 1, 'g', cost_basis => 1), tokenbill.grant_credit('m7', 1, 'g', scope => '{x}'),
	tokenbill.grant_credit('m8', 1, 'g', effective_at => '2026-03-01') \g /dev/null
SELECT is(string_agg(account, ' ' ORDER BY account), 'm4 m5 m6 m7 m8', 'a grant with a condition is a credit, without it is none') FROM tokenbill.credits WHERE account LIKE 'm_';

-- Who pays: 5 of spring, then the plain balance
SELECT is(pg_temp.explained('a', 4), '1 spring 4 burns, 2 plain 0 not_needed', 'spring is spent before the plain balance');
SELECT is(pg_temp.explained('a', 7), '1 spring 5 burns, 2 plain 2 burns', 'and what it lacks comes from there');
SELECT is(pg_temp.explained('a', 16), '1 spring 5 burns, 2 plain 10 burns, plain 1 missing', 'what nobody pays is said');
SELECT is(pg_temp.pick(r, 'amount', 'balance', 'available'), '{"amount": -2, "balance": 13, "available": 13}', 'a charge takes from the balance as ever') FROM tokenbill.charge_amount('a', 2, 'c1') r;
SELECT is(pg_temp.burned('a', 'c1'), 'spring 2', 'the line says who paid');
SELECT is(balance, 6::numeric, 'a charge of more than the credit') FROM tokenbill.charge_amount('a', 7, 'c2');
SELECT is(pg_temp.burned('a', 'c2'), 'spring 3, plain 4', 'is paid by both');
SELECT is(pg_temp.credits('a'), 'spring 0/0 spent', 'the credit is spent');
SELECT is(credits, 0, 'and the account knows of none') FROM tokenbill.account WHERE account = 'a';
SELECT is(balance, 5::numeric, 'the plain balance pays the next') FROM tokenbill.charge_amount('a', 1, 'c3');
SELECT is(burned, NULL, 'and the line says nothing of credits') FROM tokenbill.statement WHERE account = 'a' AND idempotency_key = 'c3';
SELECT is(pg_temp.pick(r, 'seq', 'amount', 'replayed'), '{"seq": 4, "amount": -7, "replayed": true}', 'repeated, it is replayed') FROM tokenbill.charge_amount('a', 7, 'c2') r;
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('a', 8, 'c2')$$, 'PT409', '{"argument": "amount", "was": 7, "now": 8}', 'who paid is no argument, the amount is');

-- Scopes: gpt-* has 3, plain 10
SELECT tokenbill.create_account('s'), tokenbill.recharge('s', 10, 'R-s'), tokenbill.grant_credit('s', 3, 'gpt', scope => '{gpt-*,o5}') \g /dev/null
SELECT is(pg_temp.explained('s', 1, service), outcome, 'scope {gpt-*,o5}: ' || coalesce(service, 'no service')) FROM (VALUES
	('gpt-5', '1 gpt 1 burns, 2 plain 0 not_needed'), ('gpt-', '1 gpt 1 burns, 2 plain 0 not_needed'), ('o5', '1 gpt 1 burns, 2 plain 0 not_needed'),
	('gpt', '1 plain 1 burns, gpt 0 out_of_scope'), ('o5-mini', '1 plain 1 burns, gpt 0 out_of_scope'), ('xgpt-5', '1 plain 1 burns, gpt 0 out_of_scope'),
	(NULL, '1 plain 1 burns, gpt 0 out_of_scope')) v(service, outcome);
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('s', 11, 'c1', service => 'claude')$$, 'PT402', '{"account": "s", "service": "claude", "required": 11, "available": 10, "shortfall": 1, "unusable": 3}',
	'a refusal says what is available for the service');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('s', 11, 'c1')$$, 'PT402', '{"service": null, "available": 10, "unusable": 3}', 'also without a service');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('s', 13.5, 'c1', service => 'gpt-5')$$, 'PT402', '{"service": "gpt-5", "available": 13, "shortfall": 0.5, "unusable": 0}', 'and for one in scope');
SELECT pg_temp.refused($$SELECT tokenbill.hold('s', 11, 'h1', service => 'claude')$$, 'PT402', '{"service": "claude", "available": 10}', 'a hold, too');
SELECT is(balance, 0::numeric, 'all of it can be spent on what is in scope') FROM tokenbill.charge_amount('s', 13, 'c1', service => 'o5');
SELECT is(pg_temp.burned('s', 'c1'), 'gpt 3, plain 10', 'by both');

-- Not yet effective, and expired: to the moment
SELECT tokenbill.create_account('t'), tokenbill.grant_credit('t', 4, 'may', effective_at => '2026-05-01', expires_at => '2026-06-01') \g /dev/null
SELECT is(available, 4::numeric, 'what is not effective yet is in the balance') FROM tokenbill.balances WHERE account = 't';
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('t', 1, 'c1')$$, 'PT402', '{"available": 0, "unusable": 4}', 'and cannot be spent');
SELECT is(pg_temp.explained('t', 1), '1 plain 0 empty, plain 1 missing, may 0 not_effective', 'which explain_burn() explains');
SET LOCAL tokenbill.clock = '2026-04-30 23:59:59.999999+00';
SELECT is((pg_temp.error_of($$SELECT tokenbill.charge_amount('t', 1, 'c1')$$)).sqlstate, 'PT402', 'not a moment before');
SET LOCAL tokenbill.clock = '2026-05-01 00:00:00+00';
SELECT is(balance, 3::numeric, 'from its time on it can') FROM tokenbill.charge_amount('t', 1, 'c1');
SET LOCAL tokenbill.clock = '2026-05-31 23:59:59.999999+00';
SELECT is(balance, 2::numeric, 'until the last moment') FROM tokenbill.charge_amount('t', 1, 'c2');
SET LOCAL tokenbill.clock = '2026-06-01 00:00:00+00';
SELECT is(pg_temp.explained('t', 1), '1 plain 0 empty, plain 1 missing, may 0 expired', 'then its time is over');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('t', 1, 'c3')$$, 'PT402', '{"available": 0}', 'and it pays no more');
SELECT is(balance, 2::numeric, 'the refusal has undone the expiry with it') FROM tokenbill.balances WHERE account = 't';
SELECT is((SELECT array_agg(coalesce(sqlstate, 'done')) FROM tokenbill.charge_batch('[{"account": "t", "amount": 1, "idempotency_key": "b1"}]')), '{PT402}', 'in a batch it is refused');
SELECT is(pg_temp.pick(s, 'seq', 'kind', 'amount', 'balance', 'contra', 'ref', 'idempotency_key'), '{"seq": 4, "kind": "expiry", "amount": -2, "balance": 0, "contra": "expiry", "ref": "may", "idempotency_key": "tokenbill:credit_expiry:4:may"}',
	'and the expiry posted') FROM tokenbill.statement s WHERE account = 't' AND seq = 4;
SELECT is(pg_temp.credits('t'), 'may 0/0 expired', 'the credit is expired');
SELECT is(tokenbill.expire_credits('t'), 0::bigint, 'once');
SELECT pg_temp.refused($$SELECT tokenbill.refund('t', 'tokenbill:credit_expiry:4:may', 'r')$$, 'PT404', '{"account": "t"}', 'an expiry is no charge: it cannot be refunded');
SELECT is_empty($$SELECT * FROM tokenbill.usage_daily WHERE account = 't' AND day = '2026-06-01'$$, 'nor is it usage');
SELECT tokenbill.create_account('u' || i), tokenbill.grant_credit('u' || i, 1, 'g1', expires_at => '2026-07-01'), tokenbill.grant_credit('u' || i, 2, 'g2', expires_at => '2026-07-02'),
	tokenbill.grant_credit('u' || i, 4, 'g3', expires_at => '2026-07-03') FROM generate_series(1, 2) i \g /dev/null
SET LOCAL tokenbill.clock = '2026-07-02 12:00:00+00';
SELECT is(tokenbill.expire_credits(max => 1), 1::bigint, 'expire_credits(): at most max');
SELECT is(credit_key, 'g1', 'the one whose time was over first') FROM tokenbill.credits WHERE account LIKE 'u_' AND status = 'expired';
SELECT is(tokenbill.expire_credits((SELECT account FROM tokenbill.credits WHERE account LIKE 'u_' AND status = 'expired')), 1::bigint, 'of one account');
SELECT is(tokenbill.expire_credits(), 2::bigint, 'of all');
SELECT is((SELECT array_agg(balance ORDER BY account) FROM tokenbill.balances WHERE account LIKE 'u_'), '{4,4}', 'what is left is what has not expired');
SELECT is(replayed, false, 'a movement expires the credits of its account first') FROM (SELECT set_config('tokenbill.clock', '2026-07-03 00:00:00+00', true)) c, tokenbill.recharge('u1', 1, 'R-u1');
SELECT is((SELECT string_agg(kind || ' ' || trim_scale(amount), ', ' ORDER BY seq) FROM tokenbill.statement WHERE account = 'u1' AND seq > 3), 'expiry -1, expiry -2, expiry -4, recharge 1', 'whatever it is');
SELECT is(replayed, true, 'a grant is replayed when its credit has expired') FROM tokenbill.grant_credit('u1', 1, 'g1', expires_at => '2026-07-01');

-- Holds reserve: gpt has 3, late 2, plain 10
SELECT tokenbill.create_account('h'), tokenbill.recharge('h', 10, 'R-h'), tokenbill.grant_credit('h', 3, 'gpt', scope => '{gpt-*}'), tokenbill.grant_credit('h', 2, 'aug', expires_at => '2026-08-01') \g /dev/null
SELECT is(pg_temp.pick(r, 'balance', 'held', 'available'), '{"balance": 15, "held": 4, "available": 11}', 'a hold') FROM tokenbill.hold('h', 4, 'h1', ttl => '60 days', service => 'gpt-5') r;
SELECT is(pg_temp.credits('h'), 'gpt 3/2 open, aug 2/2 open', 'reserves credits in the burn order: what expires first');
SELECT is(pg_temp.explained('h', 1, 'gpt-5'), '1 aug 0 reserved, 2 gpt 1 burns, 3 plain 0 not_needed', 'nobody else has those');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('h', 10.5, 'c1', service => 'claude')$$, 'PT402', '{"available": 10, "unusable": 1}', 'nor are they counted');
SELECT is(balance, 5::numeric, 'the plain balance is free all the same') FROM tokenbill.charge_amount('h', 10, 'c1', service => 'claude');
SET LOCAL tokenbill.clock = '2026-08-02 00:00:00+00';
SELECT is(tokenbill.expire_credits('h'), 0::bigint, 'what a hold has reserved does not expire');
SELECT is(pg_temp.pick(r, 'amount', 'balance', 'held', 'available'), '{"amount": -1, "balance": 4, "held": 3, "available": 1}', 'a capture') FROM tokenbill.capture('h', 'h1', amount => 1, idempotency_key => 'p1', final => false) r;
SELECT is(pg_temp.burned('h', 'p1'), 'aug 1', 'burns what the hold has reserved, in its order');
SELECT is(pg_temp.pick(r, 'held', 'available'), '{"held": 4, "available": 0}', 'an extension') FROM tokenbill.extend_hold('h', 'h1', amount => 5) r;
SELECT is(pg_temp.credits('h'), 'gpt 3/3 open, aug 1/1 open', 'reserves more, of what has not expired');
SELECT pg_temp.refused($$SELECT tokenbill.capture('h', 'h1', amount => 2, service => 'claude')$$, 'PT402', '{"service": "claude", "required": 2, "available": 1}', 'a capture for another service may not take what is not good for it');
SELECT is(balance, 3::numeric, 'but what is') FROM tokenbill.capture('h', 'h1', amount => 1, service => 'claude', idempotency_key => 'p2', final => false);
SELECT is(pg_temp.burned('h', 'p2'), 'aug 1', 'and takes that');
SELECT is(pg_temp.pick(r, 'balance', 'held', 'available'), '{"balance": 3, "held": 0, "available": 3}', 'released') FROM tokenbill.release('h', 'h1') r;
SELECT is(pg_temp.credits('h'), 'gpt 3/0 open, aug 0/0 spent', 'they are free again');

-- What is freed of a credit whose time is over expires at once; so does what a refund brings back to it
SELECT tokenbill.create_account('f'), tokenbill.grant_credit('f', 5, 'sep', expires_at => '2026-09-01'), tokenbill.recharge('f', 5, 'R-f'), tokenbill.hold('f', 4, 'h1', ttl => '60 days'),
	tokenbill.charge_amount('f', 3, 'c1') \g /dev/null
SELECT is(pg_temp.burned('f', 'c1'), 'sep 1, plain 2', 'what is not reserved pays');
SET LOCAL tokenbill.clock = '2026-09-02 00:00:00+00';
SELECT is(balance, 4.5, 'a final capture of part of a hold') FROM tokenbill.capture('f', 'h1', amount => 2.5);
SELECT is((SELECT string_agg(kind || ' ' || trim_scale(amount), ', ' ORDER BY seq) FROM tokenbill.statement WHERE account = 'f' AND seq > 4), 'capture -2.5, expiry -1.5', 'frees what has expired, and that goes');
SELECT is(pg_temp.credits('f'), 'sep 0/0 expired', 'then the credit is expired');
SELECT is(balance, 5.5, 'a refund of 2.5 of 3') FROM tokenbill.refund('f', 'c1', 'r1', 2.5);
SELECT is(pg_temp.burned('f', 'r1'), 'plain 2, sep 0.5', 'goes back from the end');
SELECT is((SELECT string_agg(kind || ' ' || trim_scale(amount), ', ' ORDER BY seq) FROM tokenbill.statement WHERE account = 'f' AND seq > 6), 'refund 2.5, expiry -0.5', 'and what has expired goes again');
SELECT is(balance, 5::numeric, 'what is left is what was plain') FROM tokenbill.balances WHERE account = 'f';

-- Refunds in parts: 2 of a, 3 of b, 1 plain
SELECT tokenbill.create_account('r'), tokenbill.recharge('r', 10, 'R-r'), tokenbill.grant_credit('r', 2, 'a', priority => 1), tokenbill.grant_credit('r', 3, 'b', priority => 2), tokenbill.charge_amount('r', 6, 'c1') \g /dev/null
SELECT is(pg_temp.burned('r', 'c1'), 'a 2, b 3, plain 1', 'a charge of 6');
SELECT is(credits, 0, 'has spent both credits') FROM tokenbill.account WHERE account = 'r';
SELECT tokenbill.refund('r', 'c1', 'r1', 0.5), tokenbill.refund('r', 'c1', 'r2', 1.5), tokenbill.refund('r', 'c1', 'r3', 2.5) \g /dev/null
SELECT is(burned, NULL, 'plain alone is not kept') FROM tokenbill.statement WHERE account = 'r' AND idempotency_key = 'r1';
SELECT is(pg_temp.burned('r', 'r2'), 'plain 0.5, b 1', 'each refund goes on where the last has stopped');
SELECT is(pg_temp.burned('r', 'r3'), 'b 2, a 0.5', 'one after the other');
SELECT is(pg_temp.credits('r'), 'a 0.5/0 open, b 3/0 open', 'the credits have it back');
SELECT is(pg_temp.pick(r, 'amount', 'balance'), '{"amount": 1.5, "balance": 15}', 'the rest') FROM tokenbill.refund('r', 'c1', 'r4') r;
SELECT is(pg_temp.credits('r'), 'a 2/0 open, b 3/0 open', 'is the first one''s');

-- Debt: the credits first, then below zero; a later credit pays no old debt
SELECT tokenbill.create_account('d', credit_limit => 3), tokenbill.recharge('d', 1, 'R-d'), tokenbill.grant_credit('d', 2, 'late', priority => 60) \g /dev/null
SELECT is(pg_temp.explained('d', 5), '1 plain 1 burns, 2 late 2 burns, 3 plain 2 credit_limit', 'the credit limit is the last to pay');
SELECT is(balance, -2::numeric, 'a charge on credit') FROM tokenbill.charge_amount('d', 5, 'c1');
SELECT is(pg_temp.burned('d', 'c1'), 'plain 1, late 2, plain 2', 'is owed by the plain balance');
SELECT tokenbill.grant_credit('d', 10, 'more', expires_at => '2026-12-01') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('d', 11.5, 'c2')$$, 'PT402', '{"available": 11}', 'nobody spends more than is available in all');
SELECT pg_temp.refused($$SELECT tokenbill.set_credit_limit('d', 1)$$, 'PT402', '{"required": 2, "available": 1, "shortfall": 1}', 'the limit is not lowered below what is owed without the credit');
SELECT is(pg_temp.pick(r, 'amount', 'balance'), '{"amount": -20, "balance": -12}', 'a charge whose service was delivered') FROM tokenbill.charge_amount('d', 20, 'c2', on_insufficient => 'debt') r;
SELECT is(pg_temp.burned('d', 'c2'), 'more 10, plain 10', 'takes what there is');

-- In a sandbox: the same, and no money
SELECT tokenbill.create_account('x', sandbox => true), tokenbill.recharge('x', 5, 'R-x'), tokenbill.grant_credit('x', 3, 'g1', expires_at => '2026-10-01'), tokenbill.grant_credit('x', 2, 'g2', scope => '{gpt-*}') \g /dev/null
SELECT is(pg_temp.pick(r, 'amount', 'price', 'balance'), '{"amount": 0, "price": 4, "balance": 10}', 'a sandbox pays nothing') FROM tokenbill.charge_amount('x', 4, 'c1') r;
SELECT is(pg_temp.burned('x', 'c1'), 'g1 3, plain 1', 'and says who would have paid');
SELECT is(pg_temp.credits('x'), 'g1 3/0 open, g2 2/0 open', 'nothing is taken');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('x', 9, 'c2')$$, 'PT402', '{"available": 8, "unusable": 2}', 'the scope counts');
SELECT is(pg_temp.pick(r, 'amount', 'balance'), '{"amount": 0, "balance": 10}', 'a refund gives nothing back') FROM tokenbill.refund('x', 'c1', 'r1', 2) r;
SELECT is(pg_temp.burned('x', 'r1'), 'plain 1, g1 1', 'and says to whom it would');
SELECT tokenbill.hold('x', 6, 'h1', service => 'gpt-5'), tokenbill.capture('x', 'h1', amount => 4, idempotency_key => 'p1', final => false) \g /dev/null
SELECT is(pg_temp.credits('x') || '; ' || pg_temp.burned('x', 'p1'), 'g1 3/0 open, g2 2/1 open; g1 3, g2 1', 'holds reserve, captures free');
SELECT tokenbill.release('x', 'h1') \g /dev/null
SET LOCAL tokenbill.clock = '2026-10-01 00:00:00+00';
SELECT tokenbill.expire_credits('x') \g /dev/null
SELECT is(pg_temp.pick(s, 'kind', 'amount', 'balance', 'contra'), '{"kind": "expiry", "amount": -3, "balance": 7, "contra": "sandbox"}', 'credits expire') FROM tokenbill.statement s WHERE account = 'x' ORDER BY seq DESC LIMIT 1;

-- Repriced: less goes back from the end; more is paid as a charge is, and is the end then
CREATE FUNCTION pg_temp.adjusted(owner text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' / ', trim_scale(-amount), pg_temp.parts(burned), pg_temp.parts(returned)), '; ' ORDER BY seq) FROM tokenbill.statement WHERE account = owner AND kind = 'adjustment'
$$;
SELECT tokenbill.create_account('p'), tokenbill.recharge('p', 10, 'R-p'), tokenbill.grant_credit('p', 3, 'g1', priority => 1), tokenbill.set_price('rp', 'units', 1, valid_from => '2026-09-01'),
	tokenbill.charge('p', 'rp', '{"units": 5}', 'c1') \g /dev/null
SELECT is(pg_temp.burned('p', 'c1'), 'g1 3, plain 2', 'a charge of 5');
SELECT tokenbill.set_price('rp', 'units', 0.4, account => 'p', valid_from => '2026-09-02'), tokenbill.grant_credit('p', 1, 'g2', priority => 2) \g /dev/null
SELECT tokenbill.reprice('p', 'rp', '2026-09-01', '2026-11-01', false) \g /dev/null
SELECT is(pg_temp.adjusted('p'), '-3 / plain 2, g1 1', 'repriced to 2, 3 go back from the end');
SELECT is(pg_temp.credits('p'), 'g1 1/0 open, g2 1/0 open', 'to the credit, too');
SELECT tokenbill.set_price('rp', 'units', 1.4, account => 'p', valid_from => '2026-09-03') \g /dev/null
SELECT tokenbill.reprice('p', 'rp', '2026-09-01', '2026-11-01', false) \g /dev/null
SELECT is(pg_temp.adjusted('p'), '-3 / plain 2, g1 1; 5 / g1 1, g2 1, plain 3', 'repriced to 7, 5 more are paid in the burn order');
SELECT is(balance, 11.5, 'a refund of 4.5 of 7') FROM tokenbill.refund('p', 'c1', 'r1', 4.5);
SELECT is(pg_temp.burned('p', 'r1'), 'plain 3, g2 1, g1 0.5', 'goes back from the end of all that was paid');
SELECT tokenbill.refund('p', 'c1', 'r2') \g /dev/null
SELECT is(pg_temp.burned('p', 'r2') || '; ' || pg_temp.credits('p'), 'g1 2.5; g1 3/0 open, g2 1/0 open', 'and the rest to the first');

-- What waits for its price burns nothing until it has one
SELECT tokenbill.create_account('w'), tokenbill.grant_credit('w', 3, 'g1', expires_at => '2026-12-01'), set_config('tokenbill.unpriced', 'suspense', true) \g /dev/null
SELECT is(balance, 3::numeric, 'a charge without a price') FROM tokenbill.charge('w', 'unknown', '{"units": 5}', 'c1');
SELECT tokenbill.set_price('unknown', 'units', 0.5, valid_from => '2026-09-01'), set_config('tokenbill.unpriced', 'reject', true), tokenbill.reprice('w', NULL, '2026-09-01', '2026-11-01', false) \g /dev/null
SELECT is(pg_temp.adjusted('w') || '; ' || pg_temp.credits('w'), '2.5 / g1 2.5; g1 0.5/0 open', 'burns credits when it has one');
SELECT tokenbill.create_account('y', sandbox => true), tokenbill.recharge('y', 10, 'R-y'), tokenbill.grant_credit('y', 3, 'g1', priority => 1), tokenbill.charge('y', 'unknown', '{"units": 10}', 'c1'),
	tokenbill.set_price('unknown', 'units', 0.25, account => 'y', valid_from => '2026-09-02') \g /dev/null
SELECT tokenbill.reprice('y', NULL, '2026-09-01', '2026-11-01', false), tokenbill.refund('y', 'c1', 'r1') \g /dev/null
SELECT is((SELECT string_agg(concat_ws(' ', kind, trim_scale(amount), pg_temp.parts(coalesce(burned, returned))), '; ' ORDER BY seq) FROM tokenbill.statement WHERE account = 'y' AND seq > 2),
	'charge 0 g1 3, plain 2; adjustment 0 plain 2, g1 0.5; refund 0 g1 2.5', 'a sandbox does the same, and moves nothing');

-- A quote says who would pay for all of it, without asking anybody to
SELECT tokenbill.create_account('q'), tokenbill.recharge('q', 10, 'R-q'), tokenbill.grant_credit('q', 3, 'g1', scope => '{llm-*}'), tokenbill.set_price('llm-1', 'input_tokens', 0.01), tokenbill.set_price('llm-1', 'output_tokens', 0.02),
	tokenbill.set_price('other', 'input_tokens', 0.01) \g /dev/null
SELECT is(jsonb_agg(jsonb_build_array(meter, amount, pg_temp.parts(burns)) ORDER BY meter), '[["input_tokens", 2, "g1 3, plain 3"], ["output_tokens", 4, "g1 3, plain 3"]]', 'a quote says which credits would burn')
FROM tokenbill.quote('q', 'llm-1', '{"input_tokens": 200, "output_tokens": 200}');
SELECT is(burns, NULL, 'or none') FROM tokenbill.quote('q', 'other', '{"input_tokens": 200}');
SELECT is(balance, 7::numeric, 'the charge comes to the same') FROM tokenbill.charge('q', 'llm-1', '{"input_tokens": 200, "output_tokens": 200}', 'c1');
SELECT is(pg_temp.burned('q', 'c1'), 'g1 3, plain 3', 'and burns those');

SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');
SELECT is_empty('SELECT currency FROM tokenbill.trial_balance GROUP BY currency HAVING sum(amount) <> 0', 'and sums to zero');
SELECT is((SELECT sum(amount) FROM tokenbill.trial_balance WHERE ledger_account = 'expiry'), -(SELECT sum(amount) FROM tokenbill.statement WHERE contra = 'expiry'), 'the trial balance has what has expired');

SELECT * FROM finish();
ROLLBACK;
