-- Issued tokens: keys made here, good for one request
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(50);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('t'), tokenbill.create_account('u'), tokenbill.recharge('t', 100, 'R-t'), tokenbill.recharge('u', 100, 'R-u'),
	tokenbill.set_price('llm', 'tokens', 0.001) \g /dev/null

SELECT tokenbill.issue_token('t') AS token, tokenbill.issue_token('t', '1 min') AS short, tokenbill.issue_token('t') AS spare \gset
SELECT matches(:'token'::text, '^tbt_[A-Za-z0-9_-]{22,}$', 'a token can be told from a key');
SELECT isnt(:'token'::text, :'spare', 'no two are the same');
SELECT is(count(DISTINCT tokenbill.issue_token('t')), 200::bigint, 'not of two hundred') FROM generate_series(1, 200);
SELECT is(pg_temp.pick(i, 'status', 'expires_at', 'used_at'), '{"status": "issued", "expires_at": "2026-03-01T13:00:00+00:00", "used_at": null}', 'it is good for an hour')
FROM tokenbill.issued_token i WHERE token = :'token';
SELECT pg_temp.refused(format('SELECT tokenbill.token_result(''t'', %L)', :'token'), 'PT404', '{"account": "t"}', 'it has no result before it is used');

-- Used
SELECT to_jsonb(r) AS receipt FROM tokenbill.charge_tokens('t', 'llm', 500, :'token') r \gset
SELECT is(:'receipt'::jsonb @> jsonb_build_object('amount', -0.5, 'replayed', false, 'idempotency_key', :'token'), true, 'used: the charge goes through');
SELECT is(pg_temp.pick(i, 'status', 'used_at'), '{"status": "used", "used_at": "2026-03-01T12:00:00+00:00"}', 'the token is used') FROM tokenbill.issued_token i WHERE token = :'token';
SELECT pg_temp.refused(format('SELECT tokenbill.charge_tokens(''t'', ''llm'', 500, %L)', :'token'), 'PT409',
	jsonb_build_object('account', 't', 'token', :'token', 'status', 'used'), 'a second use is refused, though it asks for the same');
SELECT is((pg_temp.error_of(format('SELECT tokenbill.charge_tokens(''t'', ''llm'', 500, %L)', :'token'))).detail -> 'result', :'receipt'::jsonb || '{"replayed": true}',
	'with the result of the first in DETAIL');
SELECT is((pg_temp.error_of(format('SELECT tokenbill.hold(''t'', 5, %L)', :'token'))).detail -> 'result', :'receipt'::jsonb || '{"replayed": true}', 'also for another request');
SELECT is(to_jsonb(r), :'receipt'::jsonb || '{"replayed": true}', 'token_result has it, too') FROM tokenbill.token_result('t', :'token') r;
SET LOCAL tokenbill.clock = '2026-03-01 18:00:00+00';
SELECT is(pg_temp.pick(r, 'amount', 'seq'), '{"amount": -0.5, "seq": 2}', 'long after the token''s time') FROM tokenbill.token_result('t', :'token') r;
SELECT pg_temp.refused(format('SELECT tokenbill.charge_tokens(''t'', ''llm'', 500, %L)', :'token'), 'PT409', '{"status": "used"}', 'used stays used, not expired');
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';

-- Every kind of request takes one
SELECT tokenbill.issue_token('t') AS k1, tokenbill.issue_token('t') AS k2, tokenbill.issue_token('t') AS k3, tokenbill.issue_token('t') AS k4, tokenbill.issue_token('t') AS k5,
	tokenbill.issue_token('t') AS k6, tokenbill.issue_token('t') AS k7 \gset
SELECT is(kind, 'hold', 'hold') FROM tokenbill.hold('t', 5, :'k1');
SELECT is(kind, 'extend', 'extend_hold') FROM tokenbill.extend_hold('t', :'k1', 6, idempotency_key => :'k2');
SELECT is(kind, 'capture', 'capture') FROM tokenbill.capture('t', :'k1', amount => 1, idempotency_key => :'k3', final => false);
SELECT is(kind, 'release', 'a hold made with a token is known by it') FROM tokenbill.release('t', :'k1');
SELECT is(kind, 'refund', 'refund') FROM tokenbill.refund('t', :'k3', :'k4');
SELECT is(kind, 'grant', 'grant_credit') FROM tokenbill.grant_credit('t', 1, :'k5');
SELECT is(kind, 'charge', 'charge_amount') FROM tokenbill.charge_amount('t', 1, :'k6');
SELECT is(kind, 'charge', 'an item of charge_batch') FROM tokenbill.charge_batch(jsonb_build_array(jsonb_build_object('account', 't', 'amount', 1, 'idempotency_key', :'k7')));
SELECT is(count(*), 7::bigint, 'all are used') FROM tokenbill.issued_token WHERE account = 't' AND status = 'used' AND token IN (:'k1', :'k2', :'k3', :'k4', :'k5', :'k6', :'k7');
SELECT is(kind, 'hold', 'each has its result') FROM tokenbill.token_result('t', :'k1');

-- Expired, unknown, foreign
SET LOCAL tokenbill.clock = '2026-03-01 12:01:00+00';
SELECT pg_temp.refused(format('SELECT tokenbill.charge_amount(''t'', 1, %L)', :'short'), 'PT409',
	jsonb_build_object('account', 't', 'token', :'short', 'status', 'expired'), 'a token is good for its ttl, not longer');
SELECT pg_temp.refused(format('SELECT tokenbill.token_result(''t'', %L)', :'short'), 'PT404', '{"account": "t"}', 'an expired one has no result');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('t', 1, 'tbt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA')$$, 'PT409',
	'{"account": "t", "token": "tbt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "status": "unknown"}', 'a token made up is unknown');
SELECT pg_temp.refused(format('SELECT tokenbill.charge_amount(''u'', 1, %L)', :'spare'), 'PT409',
	jsonb_build_object('account', 'u', 'token', :'spare', 'status', 'unknown'), 'a token of another account is unknown');
SELECT pg_temp.refused(format('SELECT tokenbill.token_result(''u'', %L)', :'token'), 'PT404', '{"account": "u"}', 'and so is its result');
SELECT pg_temp.refused(format('SELECT tokenbill.charge_amount(''u'', 1, %L)', :'token'), 'PT409', '{"account": "u", "status": "unknown"}', 'used or not');
SELECT is((pg_temp.error_of(format('SELECT tokenbill.charge_amount(''u'', 1, %L)', :'token'))).detail ? 'result', false, 'without its result');

-- A refused call leaves the token as it was
SELECT pg_temp.refused(format('SELECT tokenbill.charge_amount(''t'', 1000, %L)', :'spare'), 'PT402', '{"account": "t"}', 'too little money');
SELECT is(status, 'issued', 'the token is not used up') FROM tokenbill.issued_token WHERE token = :'spare';
SELECT is(replayed, false, 'and good for another request') FROM tokenbill.charge_amount('t', 2, :'spare');

-- Tokens only
SELECT tokenbill.charge_amount('u', 1, 'own-1'), tokenbill.hold('u', 1, 'own-2'), tokenbill.set_account_policy('u', tokens_only => true) \g /dev/null
SELECT pg_temp.refused(statement, 'PT409', '{"account": "u"}', 'tokens only: no ' || what || ' with a key of one''s own') FROM (VALUES
	($$SELECT tokenbill.charge_amount('u', 1, 'own-3')$$, 'charge'),
	($$SELECT tokenbill.charge_tokens('u', 'llm', 1, 'own-3')$$, 'charge'),
	($$SELECT tokenbill.hold('u', 1, 'own-3')$$, 'hold')) v(statement, what);
SELECT matches((pg_temp.error_of($$SELECT tokenbill.charge_amount('u', 1, 'own-3')$$)).hint, 'issue_token', 'the hint says where to get one');
SELECT is(amount, -1::numeric, 'with a token it goes') FROM tokenbill.charge_amount('u', 1, tokenbill.issue_token('u'));
SELECT is(replayed, true, 'what was asked before is replayed') FROM tokenbill.charge_amount('u', 1, 'own-1');
SELECT is(amount, -1::numeric, 'holds made before are captured') FROM tokenbill.capture('u', 'own-2');
SELECT is(status, 'success', 'and money comes in as ever') FROM tokenbill.recharge('u', 1, 'R-u2');

-- Arguments, and states
SELECT pg_temp.refused(format('SELECT tokenbill.issue_token(%s)', args), sqlstate, detail, 'issue_token: ' || description) FROM (VALUES
	('''nobody''', 'PT404', '{"account": "nobody"}'::jsonb, 'unknown account'),
	('NULL', '22004', '{"argument": "account"}', 'account null'),
	('''t'', NULL', '22004', '{"argument": "ttl"}', 'ttl null'),
	('''t'', ''0 s''', '22023', '{"argument": "ttl"}', 'ttl of nothing')) v(args, sqlstate, detail, description);

SELECT tokenbill.set_account_status('t', 'frozen') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.issue_token('t')$$, 'PT403', '{"account": "t", "status": "frozen"}', 'none for a frozen account');
SELECT pg_temp.refused($$UPDATE tokenbill.issued_token SET status = 'issued' WHERE status = 'used'$$, 'PT409', '{"table": "issued_token", "was": "used", "now": "issued"}', 'used -> issued is refused');
SELECT pg_temp.refused($$UPDATE tokenbill.issued_token SET status = 'expired' WHERE status = 'used'$$, 'PT409', '{"was": "used", "now": "expired"}', 'used -> expired is refused');
SELECT pg_temp.refused($$DELETE FROM tokenbill.issued_token WHERE status = 'used'$$, 'PT409', '{"table": "issued_token"}', 'and deleting one');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
