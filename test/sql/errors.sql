-- Errors: every SQLSTATE of the contract, with the members of its DETAIL
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
CREATE EXTENSION dblink;
SET statement_timeout = '1 min';
SELECT plan(57);
BEGIN;
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('a'), tokenbill.create_account('frozen'), tokenbill.create_account('closed'), tokenbill.create_account('strict'),
	tokenbill.recharge('a', 10, 'E-1'), tokenbill.set_account_status('frozen', 'frozen'), tokenbill.set_account_status('closed', 'closed'),
	tokenbill.set_account_policy('strict', tokens_only => true),
	tokenbill.set_price('llm', 'tokens', 0.001), tokenbill.charge_amount('a', 1, 'k'), tokenbill.hold('a', 1, 'h') \g /dev/null
SELECT tokenbill.issue_token('a') AS used, tokenbill.issue_token('a', '1 min') AS old \gset
SELECT tokenbill.charge_amount('a', 1, :'used') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-01 12:05:00+00';

-- The members, no fewer and no more, of those that programs take apart
CREATE FUNCTION pg_temp.members(statement text, wanted text, description text, VARIADIC names text[]) RETURNS text LANGUAGE sql AS $$
	SELECT is(sqlstate || ' ' || ARRAY(SELECT jsonb_object_keys(detail) COLLATE "C" ORDER BY 1)::text, wanted || ' ' || ARRAY(SELECT unnest(names) COLLATE "C" ORDER BY 1)::text, description)
	FROM pg_temp.error_of(statement)
$$;
SELECT pg_temp.members($$SELECT tokenbill.charge_amount('a', 100, 'n')$$, 'PT402', 'too little for a charge', 'account', 'required', 'available', 'shortfall');
SELECT pg_temp.members($$SELECT tokenbill.charge_tokens('a', 'llm', 100000, 'n')$$, 'PT402', 'for tokens', 'account', 'required', 'available', 'shortfall');
SELECT pg_temp.members($$SELECT tokenbill.hold('a', 100, 'n')$$, 'PT402', 'for a hold', 'account', 'required', 'available', 'shortfall');
SELECT pg_temp.members($$SELECT tokenbill.extend_hold('a', 'h', 100)$$, 'PT402', 'for an extension', 'account', 'required', 'available', 'shortfall');
SELECT pg_temp.members($$SELECT tokenbill.charge_amount('frozen', 1, 'n')$$, 'PT403', 'frozen', 'account', 'status');
SELECT pg_temp.members($$SELECT tokenbill.recharge('closed', 1, 'n')$$, 'PT403', 'closed', 'account', 'status');
SELECT pg_temp.members($$SELECT tokenbill.charge_amount('nobody', 1, 'n')$$, 'PT404', 'unknown account', 'account');
SELECT pg_temp.members($$SELECT tokenbill.charge('a', 'none', '{"tokens": 1}', 'n')$$, 'PT404', 'unknown service', 'service');
SELECT pg_temp.members($$SELECT tokenbill.charge('a', 'llm', '{"images": 1}', 'n')$$, 'PT404', 'no price for a meter', 'service', 'meter');
SELECT pg_temp.members($$SELECT tokenbill.capture('a', 'none')$$, 'PT404', 'unknown hold', 'account', 'hold_key');
SELECT pg_temp.members($$SELECT tokenbill.refund('a', 'none', 'n')$$, 'PT404', 'unknown charge', 'account', 'charge_key');
SELECT pg_temp.members($$SELECT tokenbill.charge_amount('a', 2, 'k')$$, 'PT409', 'a key used for another request', 'account', 'idempotency_key', 'argument', 'was', 'now');
SELECT pg_temp.members(format('SELECT tokenbill.charge_amount(''a'', 1, %L)', :'used'), 'PT409', 'a token used before', 'account', 'token', 'status', 'result');
SELECT pg_temp.members(format('SELECT tokenbill.charge_amount(''a'', 1, %L)', :'old'), 'PT409', 'a token that has expired', 'account', 'token', 'status');
SELECT tokenbill.release('a', 'h') \g /dev/null
SELECT pg_temp.members($$SELECT tokenbill.capture('a', 'h')$$, 'PT409', 'a hold that is no more', 'account', 'hold_key', 'status');
SELECT pg_temp.members($$SELECT tokenbill.refund('a', 'k', 'n', 2)$$, 'PT409', 'more than was charged', 'account', 'charge_key', 'charged', 'refunded', 'refundable', 'requested');

-- Each with SQLSTATE, DETAIL, HINT and a message in lower case
SELECT pg_temp.refused(statement, sqlstate, detail, statement) FROM (VALUES
	($$SELECT tokenbill.charge_amount('a', 100, 'n')$$, 'PT402', '{"account": "a", "required": 100, "available": 8, "shortfall": 92}'::jsonb),
	($$SELECT tokenbill.charge_amount('frozen', 1, 'n')$$, 'PT403', '{"account": "frozen", "status": "frozen"}'),
	($$SELECT tokenbill.recharge('closed', 1, 'n')$$, 'PT403', '{"account": "closed", "status": "closed"}'),
	($$SELECT tokenbill.charge_amount('nobody', 1, 'n')$$, 'PT404', '{"account": "nobody"}'),
	($$SELECT tokenbill.charge_amount('a', 2, 'k')$$, 'PT409', '{"account": "a", "idempotency_key": "k", "argument": "amount", "was": 1, "now": 2}'),
	($$SELECT tokenbill.charge_amount('strict', 2, 'k')$$, 'PT409', '{"account": "strict"}'),
	($$SELECT tokenbill.create_account('a')$$, 'PT409', '{"account": "a"}'),
	($$SELECT tokenbill.recharge('a', 1, 'n', 'stripe')$$, '0A000', '{"argument": "gateway"}'),
	($$SELECT tokenbill.charge_amount('a', NULL, 'n')$$, '22004', '{"argument": "amount"}'),
	($$SELECT tokenbill.charge_amount('a', -1, 'n')$$, '22023', '{"argument": "amount"}'),
	($$SELECT tokenbill.charge_amount('a', 'NaN', 'n')$$, '22003', '{"argument": "amount"}'),
	($$SELECT tokenbill.balance_at('a', 'infinity')$$, '22008', '{"argument": "at"}'),
	($$SELECT tokenbill.map_tenant('no such role', 'a')$$, '42704', '{"login": "no such role"}')) v(statement, sqlstate, detail);

-- The first thing wrong is said: what is malformed, then who, then whether
SELECT is((pg_temp.error_of(statement)).sqlstate, sqlstate, 'first: ' || what) FROM (VALUES
	($$SELECT tokenbill.charge_amount('nobody', -1, 'n')$$, '22023', 'malformed before unknown'),
	($$SELECT tokenbill.charge('nobody', 'none', '{"tokens": 1}', 'n')$$, 'PT404', 'unknown account'),
	($$SELECT tokenbill.charge('frozen', 'llm', '{"tokens": 99999999}', 'n')$$, 'PT403', 'frozen before too little money'),
	($$SELECT tokenbill.charge_amount('a', 5000, 'k')$$, 'PT409', 'key used before too little money')) v(statement, sqlstate, what);

-- JSON in DETAIL whatever the names are
SELECT is((pg_temp.error_of(format('SELECT tokenbill.charge_amount(%L, 1, ''n'')', name))).detail, jsonb_build_object('account', name), 'quoted: ' || name)
FROM (VALUES ('"'), ('\'), ('a"b\c{}'), ('%s%d%n'), ('ü"\u00fc'), ('</script>'), ('''; DROP TABLE x; --')) v(name);

-- Trapped in PL/pgSQL, and the transaction goes on
DO $$
BEGIN
	PERFORM tokenbill.charge_amount('a', 100, 'trap');
	RAISE EXCEPTION 'not refused';
EXCEPTION WHEN SQLSTATE 'PT402' THEN
	PERFORM tokenbill.charge_amount('a', 1, 'trap');
END $$;
SELECT is(amount, -1::numeric, 'a refusal is trapped by its SQLSTATE') FROM tokenbill.statement WHERE account = 'a' AND idempotency_key = 'trap';
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

-- Where nothing may be written, what only reads goes on
SET TRANSACTION READ ONLY;
SELECT is((pg_temp.error_of($$SELECT tokenbill.charge_amount('a', 1, 'ro')$$)).sqlstate, '25006', 'no charge in a read-only transaction');
SELECT is((pg_temp.error_of(statement)).sqlstate, '00000', 'read-only: ' || statement) FROM (VALUES
	($$SELECT tokenbill.quote('a', 'llm', '{"tokens": 1}')$$), ($$SELECT tokenbill.balance_at('a', '2026-03-01')$$), ($$SELECT tokenbill.verify_ledger()$$),
	($$SELECT tokenbill.token_result('a', token) FROM tokenbill.issued_token WHERE account = 'a' AND status = 'used'$$), ($$SELECT * FROM tokenbill.metrics$$)) v(statement);
ROLLBACK;

-- PT423: the same key is in progress in another session
SELECT 'errors.' || md5(random()::text) AS acc \gset
SELECT tokenbill.create_account(:'acc', credit_limit => 100), tokenbill.charge_amount(:'acc', 1, 'done'), tokenbill.hold(:'acc', 1, 'h') \g /dev/null
SELECT dblink_connect('other', format('dbname=%L host=%L port=%s user=%L', current_database(), (string_to_array(current_setting('unix_socket_directories'), ','))[1],
	current_setting('port'), current_user)) \g /dev/null
SELECT dblink_exec('other', 'BEGIN') \g /dev/null
CREATE FUNCTION pg_temp.elsewhere(call text) RETURNS int LANGUAGE sql AS $$
	SELECT x FROM dblink('other', 'SELECT 1 FROM ' || call) AS t(x int)
$$;
SELECT pg_temp.elsewhere(format('tokenbill.charge_amount(%L, 1, ''busy'')', :'acc')), pg_temp.elsewhere(format('tokenbill.recharge(%L, 1, %L)', :'acc', :'acc' || '-O')) \g /dev/null
BEGIN;
SELECT pg_temp.refused(format('SELECT tokenbill.' || call, :'acc'), 'PT423', jsonb_build_object('account', :'acc', 'idempotency_key', 'busy'), 'in progress: ' || call) FROM (VALUES
	('charge_amount(%L, 1, ''busy'', wait => false)'), ('hold(%L, 1, ''busy'', wait => false)'), ('grant_credit(%L, 1, ''busy'', wait => false)'),
	('refund(%L, ''done'', ''busy'', wait => false)'), ('extend_hold(%L, ''h'', 2, idempotency_key => ''busy'', wait => false)'),
	('capture(%L, ''h'', idempotency_key => ''busy'', wait => false)')) v(call);
SELECT pg_temp.refused(format('SELECT tokenbill.recharge(%L, 1, %L, wait => false)', :'acc', :'acc' || '-O'), 'PT423', jsonb_build_object('account', :'acc', 'order_no', :'acc' || '-O'), 'an order in progress');
ROLLBACK;
SELECT dblink_exec('other', 'COMMIT'), dblink_disconnect('other') \g /dev/null
SELECT is(replayed, true, 'when it is done, it is replayed, without waiting') FROM tokenbill.charge_amount(:'acc', 1, 'busy', wait => false);
-- Nothing is left behind: what another session had to see was committed, and the ledger lets nobody delete
SET session_replication_role = replica;
DO $$
DECLARE
	name regclass;
BEGIN
	FOR name IN SELECT c.oid::regclass FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'tokenbill'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attname = 'account' LOOP
		EXECUTE format('DELETE FROM %s WHERE account LIKE ''errors.%%''', name);
	END LOOP;
END $$;
RESET session_replication_role;
SELECT is_empty('SELECT account FROM tokenbill.account UNION ALL SELECT account FROM tokenbill.ledger UNION ALL SELECT account FROM tokenbill.hold', 'no account is left behind');
SELECT * FROM finish();
DROP EXTENSION dblink;
