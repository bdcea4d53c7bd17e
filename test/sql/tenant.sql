-- A hostile tenant: a login mapped to one account tries to learn of, or touch, another
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(108);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
CREATE ROLE tt_tenant LOGIN IN ROLE tokenbill_app, tokenbill_billing, tokenbill_reader;
CREATE ROLE tt_ops LOGIN IN ROLE tokenbill_app, tokenbill_billing, tokenbill_reader;
CREATE ROLE tt_other LOGIN IN ROLE tokenbill_app;
GRANT tt_ops TO tt_tenant;
CREATE SCHEMA tt AUTHORIZATION tt_tenant;
GRANT USAGE ON SCHEMA tt TO tt_ops, tt_other;

SELECT tokenbill.create_account('mine'), tokenbill.create_account('theirs', 'SEC', metadata => '{"note": "secret-note"}') \g /dev/null
SELECT tokenbill.set_price('llm', 'tokens', 0.001), tokenbill.set_price('llm', 'tokens', 0.5, account => 'theirs'), tokenbill.set_price('secret-svc', 'tokens', 0.25, account => 'theirs') \g /dev/null
SELECT tokenbill.recharge('mine', 100, 'mine-o'), tokenbill.recharge('theirs', 777, 'secret-o', metadata => '{"note": "secret-note"}'),
	tokenbill.charge('theirs', 'secret-svc', '{"tokens": 4}', 'secret-c', metadata => '{"note": "secret-note"}'), tokenbill.hold('theirs', 3, 'secret-h'), tokenbill.charge_amount('mine', 1, 'c') \g /dev/null
SELECT tokenbill.issue_token('theirs') AS token \gset
SELECT tokenbill.charge_amount('theirs', 1, :'token'), tokenbill.issue_token('theirs') \g /dev/null

-- Before it is mapped the login sees what its roles allow
SELECT is(pg_temp.rows_as($$SELECT account FROM tokenbill.balances WHERE account IN ('mine', 'theirs') ORDER BY 1$$, 'tt_tenant'), '[{"account": "mine"}, {"account": "theirs"}]', 'not mapped: all accounts');
SELECT is(tokenbill.visible('theirs'), true, 'visible to the superuser');
SET LOCAL client_min_messages = error;
SELECT tokenbill.set_cost('llm', 'tokens', 0.002) \g /dev/null
SET LOCAL client_min_messages = warning;
SET LOCAL tokenbill.unpriced = 'suspense';
SELECT tokenbill.charge('theirs', 'unpriced', '{"units": 1}', 'secret-u') \g /dev/null
SET LOCAL tokenbill.unpriced = 'reject';
SELECT is(pg_temp.rows_as('SELECT cost FROM tokenbill.quote(''mine'', ''llm'', ''{"tokens": 1}'')', 'tt_tenant'), '[{"cost": 0.002}]', 'not mapped: what it costs us');
SELECT isnt(pg_temp.rows_as('SELECT * FROM tokenbill.margin_daily', 'tt_tenant'), '[]', 'and what we earn');
SELECT isnt(pg_temp.rows_as('SELECT * FROM tokenbill.prices_below_cost', 'tt_tenant'), '[]', 'or do not');
SELECT lives_ok($$SELECT tokenbill.map_tenant('tt_tenant', 'mine')$$, 'mapped');

-- Views
SELECT is(pg_temp.rows_as(format('SELECT DISTINCT account FROM tokenbill.%I', view), 'tt_tenant'), '[{"account": "mine"}]', view || ': its own account only')
FROM unnest('{balances,statement,recharge_orders}'::text[]) view;
SELECT is(pg_temp.rows_as('SELECT * FROM tokenbill.holds', 'tt_tenant'), '[]', 'no holds of others');
SELECT is(pg_temp.rows_as('SELECT * FROM tokenbill.prices WHERE account NOT IN (''*'', ''mine'')', 'tt_tenant'), '[]', 'no prices of others');
SELECT is(pg_temp.rows_as('SELECT cost FROM tokenbill.quote(''mine'', ''llm'', ''{"tokens": 1}'')', 'tt_tenant'), '[{"cost": null}]', 'no costs');
SELECT is(pg_temp.rows_as('SELECT * FROM tokenbill.margin_daily', 'tt_tenant'), '[]', 'no margins, not even its own');
SELECT is(pg_temp.rows_as('SELECT * FROM tokenbill.prices_below_cost', 'tt_tenant'), '[]', 'nor what is sold too cheaply');
SELECT is(pg_temp.rows_as('SELECT * FROM tokenbill.suspense', 'tt_tenant'), '[]', 'no lines of others in suspense');
SELECT is(pg_temp.rows_as('SELECT DISTINCT account FROM tokenbill.usage_daily', 'tt_tenant'), '[{"account": "mine"}]', 'no usage of others');
SELECT is(pg_temp.rows_as('SELECT ledger_account, amount FROM tokenbill.trial_balance WHERE amount <> 0 ORDER BY ledger_account COLLATE "C"', 'tt_tenant'),
	'[{"ledger_account": "cash:manual", "amount": -100}, {"ledger_account": "customers", "amount": 99}, {"ledger_account": "revenue", "amount": 1}]', 'trial_balance: its own account''s');
SELECT is(pg_temp.rows_as('SELECT DISTINCT labels ->> ''currency'' AS c FROM tokenbill.metrics WHERE labels ? ''currency''', 'tt_tenant'), '[{"c": "USD"}]', 'metrics: no currency of others');
SELECT is(pg_temp.rows_as('SELECT sum(value) AS n FROM tokenbill.metrics WHERE name = ''tokenbill_accounts''', 'tt_tenant'), '[{"n": 1}]', 'nor how many there are');
SELECT is(pg_temp.rows_as('SELECT sum(value) AS n FROM tokenbill.metrics WHERE name = ''tokenbill_holds_open''', 'tt_tenant'), '[{"n": 0}]', 'nor their holds');

-- A leaky function in WHERE, as cheap as can be, sees nothing else; nor does an operator, a cast or a policy of its own
SET LOCAL SESSION AUTHORIZATION tt_tenant;
CREATE TABLE tt.seen (what text);
CREATE FUNCTION tt.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS 'BEGIN INSERT INTO tt.seen VALUES ($1); RETURN true; END';
CREATE FUNCTION tt.leak(anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS 'BEGIN INSERT INTO tt.seen VALUES ($1::text); RETURN true; END';
CREATE FUNCTION tt.leak(text, text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS 'BEGIN INSERT INTO tt.seen VALUES ($1), ($2); RETURN true; END';
CREATE OPERATOR tt.<<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = tt.leak);
RESET SESSION AUTHORIZATION;
SELECT isnt(pg_temp.rows_as(format('SELECT count(*) FROM tokenbill.%I v WHERE tt.leak(v::text)', view), 'tt_tenant'), NULL, 'leaky function on ' || view)
FROM unnest('{balances,statement,holds,recharge_orders,prices,usage_daily,trial_balance,provider_balances,provider_history,metrics}'::text[]) view;
SELECT isnt(pg_temp.rows_as(query, 'tt_tenant'), NULL, query) FROM (VALUES
	('SELECT count(*) FROM tokenbill.statement WHERE tt.leak(idempotency_key) AND tt.leak(metadata) AND account = ''theirs'''),
	('SELECT count(*) FROM tokenbill.balances WHERE account OPERATOR(tt.<<<<) ''x'' OR tt.leak(balance)'),
	('SELECT count(*) FROM tokenbill.balances a JOIN tokenbill.statement b ON tt.leak(a.account, b.ref)'),
	('SELECT count(*) FROM (SELECT account, balance FROM tokenbill.balances OFFSET 0) x WHERE tt.leak(account)'),
	('SELECT count(*) FROM tokenbill.balances WHERE CASE WHEN account = ''theirs'' THEN tt.leak(account) ELSE true END'),
	('SELECT count(*) FROM tokenbill.prices WHERE tt.leak(service || account)'),
	('SELECT account FROM tokenbill.balances GROUP BY account HAVING tt.leak(account)'),
	('SELECT count(*) FILTER (WHERE tt.leak(account)) FROM tokenbill.statement')) v(query);
SELECT isnt_empty($$SELECT * FROM tt.seen WHERE what LIKE '%mine%'$$, 'it has seen what it may');
SELECT is_empty($$SELECT * FROM tt.seen WHERE what ~ 'theirs|secret|SEC|777'$$, 'and nothing else');
SELECT is(position('theirs' IN (pg_temp.error_of('SELECT * FROM tokenbill.balances WHERE account::int = 1', 'tt_tenant')).message), 0, 'an error in WHERE tells nothing either');
SELECT is(pg_temp.rows_as('SELECT * FROM pg_stats WHERE schemaname = ''tokenbill''', 'tt_tenant'), '[]', 'nor do the planner''s statistics');

-- Functions: another account's looks like none, in every word
SELECT is(position('theirs' IN concat(e.message, e.detail, e.hint)) > 0, true, call || ' names the account') FROM (VALUES ($$charge_amount('theirs', 1, 'x')$$)) v(call), pg_temp.error_of('SELECT tokenbill.' || call, 'tt_tenant') e;
SELECT is(replace(to_jsonb(t)::text, 'theirs', 'nobody'), to_jsonb(n)::text, replace(replace(call, '%L', '...'), :'token', 'tbt_<theirs>')) FROM (VALUES
	('charge(%L, ''llm'', ''{"tokens": 1}'', ''x'')'), ('charge(%L, ''secret-svc'', ''{"tokens": 1}'', ''x'')'), ('charge(%L, ''secret-svc'', ''{"tokens": 4}'', ''secret-c'', metadata => ''{"note": "secret-note"}'')'),
	('charge_tokens(%L, ''llm'', 1, ''x'')'), ('charge_amount(%L, 1, ''x'')'), ('charge_amount(%L, 1, ''secret-c'')'), ('charge_amount(%L, 100000, ''x'')'), ('charge_amount(%L, 1, ''x'', wait => false)'),
	('quote(%L, ''llm'', ''{"tokens": 1}'')'), ('quote(%L, ''secret-svc'', ''{"tokens": 1}'')'), ('hold(%L, 1, ''x'')'), ('hold(%L, 3, ''secret-h'')'), ('extend_hold(%L, ''secret-h'', 5)'), ('capture(%L, ''secret-h'')'),
	('capture(%L, ''x'')'), ('release(%L, ''secret-h'')'), ('issue_token(%L)'), ('token_result(%L, ''tbt_x'')'), (format('token_result(%%L, %L)', :'token')), ('balance_at(%L, ''2026-03-02'')'),
	('refund(%L, ''secret-c'', ''x'')'), ('recharge(%L, 1, ''x'')'), ('recharge(%L, 777, ''secret-o'', metadata => ''{"note": "secret-note"}'')'), ('grant_credit(%L, 1, ''x'')'), ('set_price(''s'', ''m'', 1, account => %L)'),
	('verify_ledger(%L)')) v(call), LATERAL pg_temp.error_of(format('SELECT tokenbill.' || call, 'theirs'), 'tt_tenant') t, LATERAL pg_temp.error_of(format('SELECT tokenbill.' || call, 'nobody'), 'tt_tenant') n;
SELECT is(replace(theirs::text, 'theirs', 'nobody')::jsonb, nobody, 'charge_batch') FROM
	pg_temp.rows_as($$SELECT * FROM tokenbill.charge_batch('[{"account": "theirs", "amount": 1, "idempotency_key": "x"}]')$$, 'tt_tenant') theirs,
	pg_temp.rows_as($$SELECT * FROM tokenbill.charge_batch('[{"account": "nobody", "amount": 1, "idempotency_key": "x"}]')$$, 'tt_tenant') nobody;
SELECT is(pg_temp.rows_as($$SELECT tokenbill.visible('theirs') AS theirs, tokenbill.visible('mine') AS mine, tokenbill.visible('nobody') AS nobody$$, 'tt_tenant'), '[{"theirs": false, "mine": true, "nobody": false}]', 'visible');

-- Prices, keys, tokens and order numbers of others
SELECT is(pg_temp.rows_as($$SELECT amount FROM tokenbill.quote('mine', 'llm', '{"tokens": 1}')$$, 'tt_tenant'), '[{"amount": 0.001}]', 'it pays its own price');
SELECT is(replace(to_jsonb(t)::text, 'secret-svc', 'unheard-of'), to_jsonb(n)::text, 'a service sold to others only is unheard of')
FROM pg_temp.error_of($$SELECT tokenbill.charge('mine', 'secret-svc', '{"tokens": 1}', 'x')$$, 'tt_tenant') t, pg_temp.error_of($$SELECT tokenbill.charge('mine', 'unheard-of', '{"tokens": 1}', 'x')$$, 'tt_tenant') n;
SELECT is(pg_temp.rows_as($$SELECT amount, replayed FROM tokenbill.charge_amount('mine', 1, 'secret-c')$$, 'tt_tenant'), '[{"amount": -1, "replayed": false}]', 'their keys are free for it');
SELECT is(replace(to_jsonb(t)::text, :'token', 'tbt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'), to_jsonb(n)::text, 'their tokens are unknown')
FROM pg_temp.error_of(format('SELECT tokenbill.charge_amount(''mine'', 1, %L)', :'token'), 'tt_tenant') t, pg_temp.error_of($$SELECT tokenbill.charge_amount('mine', 1, 'tbt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA')$$, 'tt_tenant') n;
SELECT is(replace(to_jsonb(t)::text, 'secret-h', 'nohold'), to_jsonb(n)::text, 'their holds are unknown')
FROM pg_temp.error_of($$SELECT tokenbill.capture('mine', 'secret-h')$$, 'tt_tenant') t, pg_temp.error_of($$SELECT tokenbill.capture('mine', 'nohold')$$, 'tt_tenant') n;
SELECT is(e.sqlstate || concat(e.message, e.detail, e.hint) ~ 'theirs|777|secret-note', false, 'their order numbers are taken, but do not say by whom')
FROM pg_temp.error_of($$SELECT tokenbill.recharge('mine', 1, 'secret-o')$$, 'tt_tenant') e;
SELECT is((pg_temp.error_of($$SELECT tokenbill.recharge('mine', 1, 'secret-o')$$, 'tt_tenant')).sqlstate, 'PT409', 'taken');

-- What was tried has done nothing to them, and what is done to them is not seen
SELECT is(balance, 775::numeric, 'their balance') FROM tokenbill.balances WHERE account = 'theirs';
SET LOCAL session_replication_role = replica;
UPDATE tokenbill.account SET balance = balance + 1 WHERE account = 'theirs';
SELECT pg_temp.refused('SELECT * FROM tokenbill.verify_ledger()', '42501', '{"argument": "account"}', 'verify_ledger: not the whole ledger', 'tt_tenant');
SELECT is(pg_temp.rows_as('SELECT * FROM tokenbill.verify_ledger(''mine'')', 'tt_tenant'), '[]', 'but its own account, which is sound');
SELECT isnt_empty($$SELECT * FROM tokenbill.verify_ledger('theirs')$$, 'which others have');
UPDATE tokenbill.account SET balance = balance - 1 WHERE account = 'theirs';
SET LOCAL session_replication_role = origin;

-- What it may: its own account
SELECT is(pg_temp.rows_as($$SELECT amount FROM tokenbill.charge('mine', 'llm', '{"tokens": 5}', 'own')$$, 'tt_tenant'), '[{"amount": -0.005}]', 'it charges its own');
SELECT is(pg_temp.rows_as($$SELECT count(*) FROM tokenbill.statement WHERE tokenbill.visible(account)$$, 'tt_tenant'), '[{"count": 4}]', 'and reads its own');

-- Ways out: none
SELECT is(pg_temp.rows_as('SELECT account FROM tokenbill.balances', 'tt_tenant', 'tt_ops'), '[{"account": "mine"}]', 'SET ROLE to one that is no tenant');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('theirs', 1, 'x')$$, 'PT404', '{"account": "theirs"}', 'and to charge', 'tt_tenant', 'tt_ops');
SET LOCAL ROLE tt_ops;
CREATE FUNCTION pg_temp.borrowed() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT account FROM tokenbill.balances ORDER BY account';
RESET ROLE;
SELECT is(pg_temp.rows_as('SELECT * FROM pg_temp.borrowed() x', 'tt_tenant'), '[{"x": "mine"}]', 'a SECURITY DEFINER function of one that is none');
SET LOCAL ROLE tt_tenant;
CREATE FUNCTION pg_temp.lent() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT account FROM tokenbill.balances ORDER BY account';
RESET ROLE;
SELECT is(pg_temp.rows_as('SELECT * FROM pg_temp.lent() x', 'tt_ops'), '[{"x": "mine"}]', 'in a function of the tenant''s others see what it sees');
SELECT is(pg_temp.rows_as('SELECT account FROM tokenbill.balances', session_user, 'tt_tenant'), '[{"account": "mine"}]', 'a superuser who has set its role, too');
SELECT tokenbill.map_tenant('tt_ops', 'theirs') \g /dev/null
SELECT is(pg_temp.rows_as('SELECT account FROM tokenbill.balances', 'tt_tenant', 'tt_ops'), '[]', 'one tenant in another''s role sees neither');
SELECT is(tokenbill.unmap_tenant('tt_ops'), true, 'unmap_tenant says it was one');
SELECT is(tokenbill.unmap_tenant('tt_ops'), false, 'and that it is none');
SELECT is((pg_temp.error_of(statement, 'tt_tenant')).sqlstate, '42501', statement) FROM (VALUES
	($$SELECT tokenbill.map_tenant('tt_tenant', 'theirs')$$), ($$SELECT tokenbill.unmap_tenant('tt_tenant')$$), ($$DELETE FROM tokenbill.tenant$$), ($$SELECT * FROM tokenbill.tenant$$), ($$SELECT * FROM tokenbill.account$$),
	($$CREATE VIEW tt.v AS SELECT * FROM tokenbill.ledger; SELECT * FROM tt.v$$), ($$CREATE TRIGGER t AFTER INSERT ON tokenbill.account FOR EACH ROW EXECUTE FUNCTION tt.leak()$$),
	($$CREATE INDEX ON tokenbill.account (tt.leak(account))$$)) v(statement);

-- Mapped elsewhere, and no more
SELECT tokenbill.map_tenant('tt_tenant', 'theirs') \g /dev/null
SELECT is(pg_temp.rows_as('SELECT account FROM tokenbill.balances', 'tt_tenant'), '[{"account": "theirs"}]', 'mapped to another account it sees that one');
SELECT tokenbill.unmap_tenant('tt_tenant') \g /dev/null
SELECT is(pg_temp.rows_as($$SELECT account FROM tokenbill.balances WHERE account IN ('mine', 'theirs') ORDER BY 1$$, 'tt_tenant'), '[{"account": "mine"}, {"account": "theirs"}]', 'mapped no more, it sees all again');
SELECT is(pg_temp.rows_as($$SELECT amount FROM tokenbill.charge_amount('theirs', 1, 'again')$$, 'tt_tenant'), '[{"amount": -1}]', 'and charges all');
SAVEPOINT before;
SELECT tokenbill.map_tenant('tt_tenant', 'mine') \g /dev/null
ROLLBACK TO before;
SELECT is(pg_temp.rows_as($$SELECT count(*) FROM tokenbill.balances WHERE account IN ('mine', 'theirs')$$, 'tt_tenant'), '[{"count": 2}]', 'a mapping rolled back is none');
SELECT tokenbill.map_tenant('tt_tenant', 'mine') \g /dev/null
GRANT tokenbill_billing TO tt_tenant;
SELECT pg_temp.refused(format('SELECT tokenbill.create_account(%L)', a), '42501', '{"argument": "account"}', 'a tenant makes no account, whether it is there or not: ' || a, 'tt_tenant') FROM unnest('{theirs,nobody}'::text[]) a;
SELECT is((pg_temp.error_of($$SELECT tokenbill.create_account('mine')$$, 'tt_tenant')).sqlstate, 'PT409', 'its own is there');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger()$$, 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
