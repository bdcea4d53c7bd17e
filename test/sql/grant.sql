-- Grants: credit without payment
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(24);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('g'), tokenbill.create_account('sand', sandbox => true) \g /dev/null

SELECT is(to_jsonb(r) - 'price', '{"account": "g", "seq": 1, "kind": "grant", "service": null, "amount": 25, "balance": 25, "available": 25, "held": 0,
	"currency": "USD", "idempotency_key": "g1", "hold_key": null, "replayed": false, "created_at": "2026-03-01T12:00:00+00:00", "ref": null}'::jsonb, 'a grant credits')
FROM tokenbill.grant_credit('g', 25, 'g1', reason => 'welcome', metadata => '{"campaign": "spring"}') r;
SELECT is(pg_temp.pick(s, 'contra', 'metadata', 'amount'), '{"contra": "grant", "metadata": {"campaign": "spring"}, "amount": 25}', 'without cash')
FROM tokenbill.statement s WHERE account = 'g';
SELECT is(replayed, true, 'the same grant again is replayed') FROM tokenbill.grant_credit('g', 25, 'g1', reason => 'welcome', metadata => '{"campaign": "spring"}');
SELECT is(balance, 24.5, 'and is spent like any money') FROM tokenbill.charge_amount('g', 0.5, 'c1');
SELECT is(pg_temp.pick(r, 'amount', 'balance'), '{"amount": 1, "balance": 1}', 'a sandbox is granted sandbox money') FROM tokenbill.grant_credit('sand', 1, 'g1') r;
SELECT is(contra, 'sandbox', 'which is none') FROM tokenbill.statement WHERE account = 'sand';
SELECT is(replayed, false, 'the default priority, spelled out, is fine') FROM tokenbill.grant_credit('g', 1, 'g2', priority => 50, category => 'paid');
SELECT is_empty($$SELECT * FROM tokenbill.credits WHERE account = 'g'$$, 'a grant without conditions is balance like any other');
SELECT is(a.credits, 0, 'of which an account knows nothing more') FROM tokenbill.account a WHERE account = 'g';
SELECT pg_temp.refused(format('SELECT tokenbill.grant_credit(%s)', args), sqlstate, detail, description) FROM (VALUES
	('''nobody'', 1, ''x''', 'PT404', '{"account": "nobody"}'::jsonb, 'unknown account'),
	('NULL, 1, ''x''', '22004', '{"argument": "account"}', 'account null'),
	('''g'', NULL, ''x''', '22004', '{"argument": "amount"}', 'amount null'),
	('''g'', 0, ''x''', '22023', '{"argument": "amount"}', 'amount zero'),
	('''g'', -1, ''x''', '22023', '{"argument": "amount"}', 'amount negative'),
	('''g'', ''NaN'', ''x''', '22003', '{"argument": "amount"}', 'amount NaN'),
	('''g'', ''Infinity'', ''x''', '22003', '{"argument": "amount"}', 'amount infinite'),
	('''g'', 1, NULL', '22004', '{"argument": "idempotency_key"}', 'key null'),
	('''g'', 1, ''''', '22023', '{"argument": "idempotency_key"}', 'key empty'),
	('''g'', 1, ''x'', reason => repeat(''x'', 10000)', '22023', '{"argument": "reason"}', 'reason of 10 KB'),
	('''g'', 1, ''x'', metadata => ''1''', '22023', '{"argument": "metadata"}', 'metadata a number'),
	('''g'', 1, ''x'', priority => NULL', '22004', '{"argument": "priority"}', 'priority null')) v(args, sqlstate, detail, description);
SELECT is((SELECT sum(amount) FROM tokenbill.statement WHERE account = 'g'), 25.5, 'nothing else was granted');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');
SELECT is((SELECT amount FROM tokenbill.trial_balance WHERE ledger_account = 'grant' AND currency = 'USD')
	<= -26, true, 'the trial balance has it against customers');

SELECT * FROM finish();
ROLLBACK;
