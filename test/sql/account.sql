-- Accounts: making them, their status, credit limit and policies
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(79);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';

-- Making one
SELECT is(to_jsonb(a), '{"account": "plain", "balance": 0, "held": 0, "credit_limit": 0, "seq": 0,
	"updated_at": "2026-03-01T12:00:00+00:00", "created_at": "2026-03-01T12:00:00+00:00", "hash": null,
	"status": "active", "sandbox": false, "tokens_only": false, "overflow": "refuse", "currency": "USD", "price_group": null, "limits": null, "credits": 0, "metadata": {}}'::jsonb,
	'create_account returns the row, with every default')
FROM tokenbill.create_account('plain') a;
SELECT is(to_jsonb(a) - '{created_at,updated_at}'::text[], '{"account": "full", "balance": 0, "held": 0, "credit_limit": 12.5, "seq": 0,
	"hash": null, "status": "active", "sandbox": true, "tokens_only": false, "overflow": "refuse", "currency": "CREDITS_2", "price_group": null, "limits": null, "credits": 0,
	"metadata": {"plan": "gold", "n": 1.50}}'::jsonb, 'and takes every argument')
FROM tokenbill.create_account('full', 'CREDITS_2', 12.50, true, '{"plan": "gold", "n": 1.50}') a;
SELECT is(metadata, '{}', 'metadata null is no metadata') FROM tokenbill.create_account('nometa', metadata => NULL);
SELECT is(octet_length((tokenbill.create_account(repeat('x', 128))).account), 128, 'a name has up to 128 bytes');
SELECT is(to_jsonb(b) - '{created_at,updated_at,metadata}'::text[], '{"account": "plain", "currency": "USD", "balance": 0, "held": 0,
	"available": 0, "credit_limit": 0, "status": "active", "sandbox": false, "tokens_only": false, "overflow": "refuse", "seq": 0}'::jsonb,
	'balances shows it') FROM tokenbill.balances b WHERE account = 'plain';
SELECT is(available, 12.5, 'available counts the credit limit') FROM tokenbill.balances WHERE account = 'full';
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'an account without lines is sound');

SELECT pg_temp.refused($$SELECT tokenbill.create_account('plain')$$, 'PT409', '{"account": "plain"}', 'a name is taken once');
SELECT pg_temp.refused($$SELECT tokenbill.create_account('plain', 'EUR')$$, 'PT409', '{"account": "plain"}', 'whatever the other arguments');
SELECT pg_temp.refused(format('SELECT tokenbill.create_account(%s)', args), sqlstate, jsonb_build_object('argument', argument), description)
FROM (VALUES
	('NULL', '22004', 'account', 'name null'),
	('''''', '22023', 'account', 'name empty'),
	('repeat(''x'', 129)', '22023', 'account', 'name of 129 bytes'),
	('repeat(''é'', 65)', '22023', 'account', 'name of 130 bytes in 65 letters'),
	('''*''', '22023', 'account', 'name * stands for the list price'),
	('E''a\nb''', '22023', 'account', 'name with a line feed'),
	('E''a\x7fb''', '22023', 'account', 'name with DEL'),
	('''x'', NULL', '22004', 'currency', 'currency null'),
	('''x'', ''''', '22023', 'currency', 'currency empty'),
	('''x'', ''usd''', '22023', 'currency', 'currency in lower case'),
	('''x'', ''US DOLLAR''', '22023', 'currency', 'currency with a blank'),
	('''x'', repeat(''X'', 17)', '22023', 'currency', 'currency of 17 letters'),
	('''x'', credit_limit => NULL', '22004', 'credit_limit', 'credit limit null'),
	('''x'', credit_limit => -0.01', '22023', 'credit_limit', 'credit limit negative'),
	('''x'', credit_limit => ''NaN''', '22003', 'credit_limit', 'credit limit NaN'),
	('''x'', credit_limit => ''Infinity''', '22003', 'credit_limit', 'credit limit infinite'),
	('''x'', credit_limit => ''-Infinity''', '22003', 'credit_limit', 'credit limit minus infinite'),
	('''x'', credit_limit => 1e18', '22003', 'credit_limit', 'credit limit of 10^18'),
	('''x'', credit_limit => 1e-31', '22003', 'credit_limit', 'credit limit with 31 decimals'),
	('''x'', sandbox => NULL', '22004', 'sandbox', 'sandbox null'),
	('''x'', metadata => ''[]''', '22023', 'metadata', 'metadata an array'),
	('''x'', metadata => ''"text"''', '22023', 'metadata', 'metadata a string'),
	('''x'', metadata => ''null''', '22023', 'metadata', 'metadata JSON null'),
	('''x'', metadata => jsonb_build_object(''k'', repeat(''v'', 8300))', '22023', 'metadata', 'metadata over 8 KB')
) v(args, sqlstate, argument, description);
SELECT is(count(*), 4::bigint, 'a refused account was not made') FROM tokenbill.balances
WHERE created_at = '2026-03-01 12:00:00+00';

-- Money goes in and out of an active one
SELECT is(balance, 10::numeric, 'an active account is recharged') FROM tokenbill.recharge('plain', 10, 'A-1');
SELECT is(balance, 9::numeric, 'and charged') FROM tokenbill.charge_amount('plain', 1, 'c1');
SELECT tokenbill.hold('plain', 2, 'h1') \g /dev/null

-- Frozen: in, not out
SELECT is((tokenbill.set_account_status('plain', 'frozen')).status::text, 'frozen', 'active -> frozen');
SELECT pg_temp.refused(statement, 'PT403', '{"account": "plain", "status": "frozen"}', 'frozen: no ' || what)
FROM (VALUES
	($$SELECT tokenbill.charge_amount('plain', 1, 'c2')$$, 'charge'),
	($$SELECT tokenbill.charge_amount('plain', 1, 'c2', on_insufficient => 'debt')$$, 'charge as debt'),
	($$SELECT tokenbill.hold('plain', 1, 'h2')$$, 'hold'),
	($$SELECT tokenbill.extend_hold('plain', 'h1', 3)$$, 'extension'),
	($$SELECT tokenbill.capture('plain', 'h1')$$, 'capture')) v(statement, what);
SELECT is(replayed, true, 'frozen: a replay is still answered') FROM tokenbill.charge_amount('plain', 1, 'c1');
SELECT is(balance, 14::numeric, 'frozen: recharge') FROM tokenbill.recharge('plain', 5, 'A-2');
SELECT is(balance, 15::numeric, 'frozen: grant') FROM tokenbill.grant_credit('plain', 1, 'g1');
SELECT is(balance, 16::numeric, 'frozen: refund') FROM tokenbill.refund('plain', 'c1', 'r1');
SELECT is(held, 0::numeric, 'frozen: release') FROM tokenbill.release('plain', 'h1');
SELECT is((tokenbill.set_account_status('plain', 'frozen')).status::text, 'frozen', 'frozen -> frozen changes nothing');
SELECT is((tokenbill.set_account_status('plain', 'active')).status::text, 'active', 'frozen -> active');
SELECT is(balance, 15::numeric, 'active again: charge') FROM tokenbill.charge_amount('plain', 1, 'c2');

-- Closed: nothing, for ever
SELECT tokenbill.hold('plain', 2, 'h3') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.set_account_status('plain', 'closed')$$, 'PT409', '{"account": "plain", "held": 2}',
	'an account with open holds is not closed');
SELECT tokenbill.release('plain', 'h3') \g /dev/null
SELECT is((tokenbill.set_account_status('plain', 'closed')).status::text, 'closed', 'active -> closed, with money on it');
SELECT pg_temp.refused(statement, 'PT403', '{"account": "plain", "status": "closed"}', 'closed: no ' || what)
FROM (VALUES
	($$SELECT tokenbill.charge_amount('plain', 1, 'c3')$$, 'charge'),
	($$SELECT tokenbill.hold('plain', 1, 'h4')$$, 'hold'),
	($$SELECT tokenbill.recharge('plain', 1, 'A-3')$$, 'recharge'),
	($$SELECT tokenbill.grant_credit('plain', 1, 'g2')$$, 'grant'),
	($$SELECT tokenbill.refund('plain', 'c2', 'r2')$$, 'refund'),
	($$SELECT tokenbill.issue_token('plain')$$, 'token')) v(statement, what);
SELECT pg_temp.refused($$SELECT tokenbill.set_account_status('plain', 'active')$$, 'PT409',
	'{"account": "plain", "was": "closed", "now": "active"}', 'closed -> active is refused');
SELECT is((tokenbill.set_account_status('plain', 'closed')).status::text, 'closed', 'closed -> closed changes nothing');
SELECT pg_temp.refused($$UPDATE tokenbill.account SET status = 'active' WHERE account = 'plain'$$, 'PT409',
	'{"table": "account", "was": "closed", "now": "active"}', 'closed -> active is refused to a superuser''s UPDATE as well');
SELECT pg_temp.refused($$DELETE FROM tokenbill.account WHERE account = 'plain'$$, 'PT409', '{"table": "account"}',
	'and so is deleting an account');

-- Credit limit
SELECT tokenbill.create_account('credit', credit_limit => 5) \g /dev/null
SELECT is(available, 1::numeric, 'a charge may go below zero, down to the limit') FROM tokenbill.charge_amount('credit', 4, 'c1');
SELECT is((tokenbill.set_credit_limit('credit', 6)).credit_limit, 6::numeric, 'the limit is raised');
SELECT tokenbill.hold('credit', 1, 'h1') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.set_credit_limit('credit', 4.99)$$, 'PT402',
	'{"account": "credit", "required": 5, "available": 4.99, "shortfall": 0.01}', 'not lowered below what is in use, holds included');
SELECT is((tokenbill.set_credit_limit('credit', 5)).credit_limit, 5::numeric, 'lowered to exactly that');
SELECT is(available, 0::numeric, 'and then nothing is available') FROM tokenbill.balances WHERE account = 'credit';

-- Policies
SELECT is(row(a.overflow::text, a.tokens_only)::text, '(debt,t)', 'set_account_policy sets both')
FROM tokenbill.set_account_policy('credit', 'debt', true) a;
SELECT is(row(a.overflow::text, a.tokens_only)::text, '(debt,t)', 'null leaves a policy as it is') FROM tokenbill.set_account_policy('credit') a;

-- Arguments of the setters
SELECT pg_temp.refused(statement, sqlstate, detail, description)
FROM (VALUES
	($$SELECT tokenbill.set_account_status('nobody', 'active')$$, 'PT404', '{"account": "nobody"}'::jsonb, 'status of an unknown account'),
	($$SELECT tokenbill.set_account_status('credit', 'open')$$, '22023', '{"argument": "status"}', 'unknown status'),
	($$SELECT tokenbill.set_account_status('credit', NULL)$$, '22004', '{"argument": "status"}', 'status null'),
	($$SELECT tokenbill.set_account_status(NULL, 'active')$$, '22004', '{"argument": "account"}', 'status of null'),
	($$SELECT tokenbill.set_credit_limit('nobody', 1)$$, 'PT404', '{"account": "nobody"}', 'limit of an unknown account'),
	($$SELECT tokenbill.set_credit_limit('credit', -1)$$, '22023', '{"argument": "credit_limit"}', 'limit negative'),
	($$SELECT tokenbill.set_credit_limit('credit', NULL)$$, '22004', '{"argument": "credit_limit"}', 'limit null'),
	($$SELECT tokenbill.set_account_policy('nobody', 'debt')$$, 'PT404', '{"account": "nobody"}', 'policy of an unknown account'),
	($$SELECT tokenbill.set_account_policy('credit', 'ignore')$$, '22023', '{"argument": "overflow"}', 'unknown overflow policy')
) v(statement, sqlstate, detail, description);
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
