-- A hostile search_path: nothing planted in front of pg_catalog is ever called
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(801);
-- the harness looks in pg_temp last; the victims are called with it first
SET LOCAL search_path = pg_catalog, public, pg_temp;
CREATE ROLE sp_admin LOGIN IN ROLE tokenbill_admin;
CREATE SCHEMA evil;
CREATE SEQUENCE evil.hits;
SELECT 'pg_temp, evil, pg_catalog, public' AS evil_path \gset

-- A twin of every operator and function of the types that tokenbill works with. Each
-- leaves a mark that no rollback takes back, and fails.
DO $do$
DECLARE
	types oid[] := '{text,name,numeric,int2,int4,int8,jsonb,timestamptz,timestamp,date,interval,bool,bytea,oid,regclass,regrole,text[],"char"}'::regtype[];
	trap text := $$LANGUAGE plpgsql SET search_path = pg_catalog AS 'BEGIN PERFORM nextval(''evil.hits''); RAISE EXCEPTION ''planted'' USING ERRCODE = ''TB666''; END'$$;
	f record;
	n int := 0;
BEGIN
	FOR f IN SELECT DISTINCT oprname, oprleft, oprright, oprresult FROM pg_operator
		WHERE (oprleft = ANY (types) OR oprleft = 0) AND oprright = ANY (types) AND oprnamespace = 'pg_catalog'::regnamespace LOOP
		n := n + 1;
		EXECUTE format('CREATE FUNCTION evil.op%s(%s%s) RETURNS %s %s', n, CASE WHEN f.oprleft <> 0 THEN f.oprleft::regtype || ', ' END, f.oprright::regtype, f.oprresult::regtype, trap);
		EXECUTE format('CREATE OPERATOR evil.%s (%s RIGHTARG = %s, FUNCTION = evil.op%s)', f.oprname, CASE WHEN f.oprleft <> 0 THEN format('LEFTARG = %s,', f.oprleft::regtype) END, f.oprright::regtype, n);
	END LOOP;
	FOR f IN SELECT DISTINCT proname, oidvectortypes(proargtypes) AS args, proretset, CASE WHEN proallargtypes IS NULL THEN prorettype::regtype::text ELSE 'record' END AS result FROM pg_proc
		WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND provariadic = 0
			AND prorettype NOT IN (SELECT oid FROM pg_type WHERE typtype = 'p' AND typname NOT IN ('record', 'void'))
			AND proargtypes::oid[] <@ types AND proname !~ '^(pg_|lo_|binary_upgrade|has_|row_security)' LOOP
		n := n + 1;
		EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s %s %s', f.proname, f.args, CASE WHEN f.proretset THEN 'SETOF' END, f.result, trap);
	END LOOP;
	EXECUTE 'CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text ' || trap;
	EXECUTE 'CREATE FUNCTION evil.jsonb_build_object(VARIADIC text[]) RETURNS jsonb ' || trap;
	EXECUTE 'CREATE FUNCTION evil.pg_advisory_xact_lock(int4, int4) RETURNS void ' || trap;
	EXECUTE 'CREATE FUNCTION evil.pg_advisory_xact_lock(int8) RETURNS void ' || trap;
	EXECUTE 'CREATE FUNCTION evil.state(int8, numeric) RETURNS int8 ' || trap;
	EXECUTE 'CREATE FUNCTION evil.state(int8) RETURNS int8 ' || trap;
	EXECUTE 'CREATE AGGREGATE evil.sum(numeric) (SFUNC = evil.state, STYPE = int8)';
	EXECUTE 'CREATE AGGREGATE evil.max(numeric) (SFUNC = evil.state, STYPE = int8)';
	EXECUTE 'CREATE AGGREGATE evil.count(*) (SFUNC = evil.state, STYPE = int8)';
	RAISE DEBUG '% planted', n;
END $do$;
CREATE FUNCTION evil.boom() RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS 'BEGIN PERFORM nextval(''evil.hits''); RAISE EXCEPTION ''planted'' USING ERRCODE = ''TB666''; END';
-- Types and tables of the same names, in a schema and in pg_temp
DO $do$
DECLARE
	t text;
BEGIN
	FOREACH t IN ARRAY '{text,jsonb,bytea,timestamptz,date,name,regclass,regrole,oid}'::text[] LOOP
		EXECUTE format('CREATE DOMAIN evil.%I AS pg_catalog.%I CHECK (evil.boom())', t, t);
		EXECUTE format('CREATE DOMAIN pg_temp.%I AS pg_catalog.%I CHECK (evil.boom())', t, t);
	END LOOP;
	FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('r', 'p', 'v') LOOP
		EXECUTE format('CREATE TABLE evil.%I AS SELECT * FROM tokenbill.%I LIMIT 0', t, t);
		EXECUTE format('CREATE TEMP TABLE %I AS SELECT * FROM tokenbill.%I LIMIT 0', t, t);
	END LOOP;
	FOREACH t IN ARRAY '{pg_class,pg_inherits,pg_roles,pg_namespace,pg_proc,pg_depend}'::text[] LOOP
		EXECUTE format('CREATE TABLE evil.%I AS SELECT * FROM pg_catalog.%I LIMIT 0', t, t);
		EXECUTE format('CREATE TEMP TABLE %I AS SELECT * FROM pg_catalog.%I LIMIT 0', t, t);
	END LOOP;
END $do$;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA evil TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;

-- The traps work: or the rest would prove nothing
SELECT is((pg_temp.error_of(statement, path => :'evil_path')).sqlstate, 'TB666', 'planted: ' || statement) FROM (VALUES ('SELECT 1 + 1'), ('SELECT ''a''::pg_catalog.text = ''b''::pg_catalog.text'), ('SELECT 1.5 * 2.5'),
	('SELECT lower(''A'')'), ('SELECT now()'), ('SELECT ''x''::text'), ('SELECT ''{}''::jsonb'), ('SELECT count(*) FROM pg_catalog.pg_class'), ('SELECT sum(1.5)'), ('SELECT ''{"a": 1}''::pg_catalog.jsonb -> ''a''')) v(statement);
SELECT is((pg_temp.error_of('SELECT 1/pg_catalog.count(*) FROM account', path => :'evil_path')).sqlstate, 'TB666', 'planted tables and operators');
SELECT last_value AS hits FROM evil.hits \gset

-- Every function and view: first as the first call of a session, then with plans made under an honest path, then the other way round
CREATE TEMP TABLE round (n int, path text, who text);
INSERT INTO round VALUES (1, :'evil_path', 'sp_admin'), (2, 'pg_catalog, public', 'sp_admin'), (3, :'evil_path', 'sp_admin'), (4, :'evil_path', NULL), (5, 'evil, pg_temp, pg_catalog', 'sp_admin');
CREATE TEMP TABLE victim (i int GENERATED ALWAYS AS IDENTITY, call text, sqlstate text DEFAULT '00000');
INSERT INTO victim (call) VALUES
	($$tokenbill.create_account('sp@', credit_limit => 5)$$), ($$tokenbill.set_credit_limit('sp@', 6)$$), ($$tokenbill.set_account_policy('sp@', 'debt', false)$$), ($$tokenbill.set_account_status('sp@', 'active')$$),
	($$tokenbill.set_price('sp-llm', 'tokens', 0.001, valid_from => '2026-01-0@ 00:00:00+00')$$), ($$tokenbill.set_price('sp-llm', 'tokens', 0.002, 1, 'sp@')$$), ($$tokenbill.set_price('sp-llm', 'input_tokens', 2, 1000000, 'sp@')$$),
	($$tokenbill.set_cost('sp-llm', 'tokens', 0.0005, valid_from => '2026-01-0@ 00:00:00+00')$$), ($$tokenbill.import_prices('{"sp-import": {"input_cost_per_token": 1e-6, "output_cost_per_token_flex": 2e-6, "input_cost_per_token_above_200k_tokens": 3e-6}}', 0.5, valid_from => '2026-01-0@ 00:00:00+00')$$), ($$tokenbill.read_catalog('{"sp-import": {"input_cost_per_token": 1e-6}}')$$), ($$tokenbill.catalog_fields$$),
	($$tokenbill.set_price_group('sp@', 'sp-group')$$), ($$tokenbill.set_meter('sp_meter', 'input_tokens')$$), ($$tokenbill.set_service('sp-llm', 'auto', 0.001)$$),
	($$tokenbill.unit_price_above(1, '[{"above": 5, "unit_price": 3}]', 6)$$),
	($$tokenbill.set_markup(0.5, 'sp-llm', 'sp@', valid_from => '2026-01-0@ 00:00:00+00')$$), ($$tokenbill.set_discount(0.5, price_group => 'sp-group', valid_from => '2026-01-0@ 00:00:00+00')$$),
	($$tokenbill.set_price('sp-llm', 'output_tokens', 2, 1000000, price_group => 'sp-group', mode => 'cliff', tiers => '[{"above": 5, "unit_price": 3}]', hours => '00:00-24:00', valid_from => '2026-01-0@ 00:00:00+00')$$),
	($$tokenbill.recharge('sp@', 100, 'sp-order-@', metadata => '{"a": [1]}')$$), ($$tokenbill.recharge('sp@', 100, 'sp-order-@', metadata => '{"a": [1]}')$$),
	($$tokenbill.set_spend_limit('sp@', 5000, 'day', timezone => 'Europe/Berlin')$$), ($$tokenbill.set_spend_limit('sp@', 5000, '1 second', 'sp-*', '{"a": 1}')$$), ($$tokenbill.set_spend_limit('sp@', 0, 'hour', action => 'alert')$$),
	($$tokenbill.set_rate_limit('sp@', 'tokens', 100000, 'week')$$), ($$tokenbill.set_rate_limit('sp@', 'in_flight', 100)$$), ($$tokenbill.set_rate_limit('sp@', 'requests', 1000, '2 hours', tag => '{"b": 1}')$$),
	($$tokenbill.charge('sp@', 'sp-llm', '{"tokens": 5, "input_tokens": 7}', 'c1', metadata => '{"a": 1}')$$), ($$tokenbill.charge('sp@', 'sp-llm', '{"tokens": 5, "input_tokens": 7}', 'c1', metadata => '{"a": 1}')$$),
	($$tokenbill.charge_tokens('sp@', 'sp-llm', 5, 'c2')$$), ($$tokenbill.charge_amount('sp@', 5, 'c3')$$),
	($$tokenbill.charge_batch('[{"account": "sp@", "amount": 1, "idempotency_key": "b1"}, {"account": "sp@", "service": "sp-llm", "tokens": 1, "idempotency_key": "b2"}, {"account": "sp@", "service": "sp-llm", "usage": {"tokens": 1}, "idempotency_key": "b3"}]')$$),
	($$tokenbill.quote('sp@', 'sp-llm', '{"tokens": 5}')$$), ($$tokenbill.hold('sp@', 5, 'h1')$$), ($$tokenbill.extend_hold('sp@', 'h1', 6, '1 hour')$$), ($$tokenbill.capture('sp@', 'h1', amount => 2, idempotency_key => 'p1', final => false)$$),
	($$tokenbill.capture('sp@', 'h1', usage => '{"tokens": 1}', service => 'sp-llm')$$), ($$tokenbill.hold('sp@', NULL, 'h2', service => 'sp-llm', usage => '{"tokens": 5}')$$), ($$tokenbill.release('sp@', 'h2')$$),
	($$tokenbill.hold('sp@', 1, 'h3', ttl => '1 microsecond')$$), ($$tokenbill.expire_holds('sp@')$$), ($$tokenbill.refund('sp@', 'c3', 'r1', 1)$$), ($$tokenbill.refund('sp@', 'c3', 'r2')$$), ($$tokenbill.grant_credit('sp@', 1, 'g1')$$),
	($$tokenbill.grant_credit('sp@', 2, 'g2', expires_at => '2099-01-01', priority => 7, scope => '{sp-*,x}', cost_basis => 0.5)$$), ($$tokenbill.explain_burn('sp@', 3, 'sp-llm')$$), ($$tokenbill.charge_amount('sp@', 3, 'c9', 'sp-llm')$$),
	($$tokenbill.refund('sp@', 'c9', 'r9', 2)$$), ($$tokenbill.hold('sp@', 2, 'h9', service => 'sp-llm')$$), ($$tokenbill.capture('sp@', 'h9', amount => 1)$$), ($$tokenbill.expire_credits('sp@')$$),
	($$tokenbill.set_burn_order('sp_order', '{oldest}')$$), ($$tokenbill.credits$$), ($$tokenbill.burn_orders$$),
	($$tokenbill.issue_token('sp@')$$), ($$tokenbill.balance_at('sp@', '2026-03-01')$$), ($$tokenbill.verify_ledger('sp@')$$), ($$tokenbill.make_ledger_month('200@-01-01')$$), ($$tokenbill.make_ledger_months(1)$$),
	($$tokenbill.seal_ledger_month('200@-01-01')$$), ($$tokenbill.drop_ledger_month('200@-01-01')$$), ($$tokenbill.map_tenant('sp_admin', 'sp@')$$), ($$tokenbill.unmap_tenant('sp_admin')$$), ($$tokenbill.visible('sp@')$$), ($$tokenbill.clock()$$),
	($$tokenbill.normalize_usage('{"prompt_tokens": 5, "total_tokens": 5}')$$), ($$tokenbill.describe_usage('{"promptTokenCount": 5, "totalTokenCount": 5}')$$),
	($$tokenbill.add_provider('sp@', 'manual', low_balance => 5)$$), ($$tokenbill.set_provider('sp@', check_every => '1 minute', keep_history => '1 day')$$), ($$tokenbill.record_provider_balance('sp@', 7, checked_at => '2026-03-01 11:00+00')$$),
	($$tokenbill.record_provider_balance('sp@', 5, checked_at => '2026-03-01 11:59+00')$$), ($$tokenbill.record_provider_balance('sp@', 6, checked_at => '2026-03-01 11:30+00')$$), ($$tokenbill.record_provider_balance('sp@', NULL, error => 'down')$$),
	($$tokenbill.metrics_text()$$), ($$tokenbill.counters()$$), ($$tokenbill.set_breaker('provider', 'sp@', 3, 0.5, open_for => '1 minute')$$), ($$tokenbill.breakers$$),
	($$tokenbill.set_low_balance('sp@', 5)$$), ($$tokenbill.set_credential_expiry('sp@', '2026-03-02 12:00+00')$$), ($$tokenbill.set_alert_rule('provider_low', clear_above => 0.2, quiet_period => '0')$$), ($$tokenbill.add_alert_webhook('sp@', 'https://example.org/', 'sp', '{provider_low,credential_expiring}')$$),
	($$tokenbill.set_alert_webhook('sp@', 'https://example.org/{secret}')$$), ($$tokenbill.evaluate_alerts()$$), ($$tokenbill.expire_alerts()$$), ($$tokenbill.alerts$$), ($$tokenbill.alert_rules$$), ($$tokenbill.low_balances$$), ($$tokenbill.credential_expiries$$), ($$tokenbill.alert_webhooks$$),
	($$tokenbill.alert_deliveries$$), ($$tokenbill.drop_alert_webhook('sp@')$$),
	($$tokenbill.set_secret('sp@', 'sk')$$), ($$tokenbill.secrets$$), ($$tokenbill.key_rotations$$), ($$tokenbill.rotation_runs(1, '2026-01-01')$$), ($$tokenbill.drop_secret('sp@')$$), ($$tokenbill.expire_provider_history()$$), ($$tokenbill.provider_balances$$), ($$tokenbill.provider_history$$), ($$tokenbill.drop_provider_balance('sp@', 'USD')$$), ($$tokenbill.drop_provider('sp@')$$),
	($$tokenbill.add_preset('sp_preset_@', 'https://sp.example.com')$$), ($$tokenbill.add_preset_request('sp_preset_@', '/{team}', '$.balance', headers => '{}', failure => 'exists($.error)')$$),
	($$tokenbill.add_provider('sp-asked@', 'sp_preset_@', params => '{"team": "a b"}')$$), ($$tokenbill.set_provider('sp-asked@', low_balance => 3, check_every => '1 hour')$$), ($$tokenbill.check_provider_now('sp-asked@')$$),
	($$tokenbill.provider_checks$$), ($$tokenbill.provider_presets$$), ($$tokenbill.drop_provider('sp-asked@')$$), ($$tokenbill.drop_preset('sp_preset_@')$$),
	($$tokenbill.add_error_rule('sp_rule_@', 'auth', 'sp_vendor', '418,5xx', '{"error.code": ["a*", "!ab"]}', '{"x-e": "1"}', true, '1 second', 'error.wait', 40, 'Look.')$$), ($$tokenbill.classify_error('sp_vendor', 418, '{"error": {"code": "ac", "wait": 3}}', '{"x-e": "1", "x-should-retry": "true"}')$$), ($$tokenbill.error_rules$$), ($$tokenbill.drop_error_rule('sp_rule_@')$$),
	($$tokenbill.spend_limits$$), ($$tokenbill.rate_limits$$), ($$tokenbill.limit_state('sp@', 'spend:1 second')$$), ($$tokenbill.drop_limit('sp@', 'in_flight')$$), ($$tokenbill.balances$$), ($$tokenbill.statement$$), ($$tokenbill.holds$$), ($$tokenbill.recharge_orders$$), ($$tokenbill.prices$$), ($$tokenbill.usage_daily$$), ($$tokenbill.reprice('sp@', NULL, '2026-01-01', '2027-01-01', false)$$), ($$tokenbill.margin_daily$$), ($$tokenbill.prices_below_cost$$), ($$tokenbill.suspense$$), ($$tokenbill.trial_balance$$), ($$tokenbill.metrics$$);
INSERT INTO victim (call, sqlstate) VALUES
	($$tokenbill.charge_amount('sp@', 5000, 'x')$$, 'PT402'), ($$tokenbill.charge_amount('nobody', 1, 'x')$$, 'PT404'), ($$tokenbill.charge_amount('sp@', 6, 'c3')$$, 'PT409'), ($$tokenbill.charge_amount('sp@', 1, 'tbt_x')$$, 'PT409'),
	($$tokenbill.charge_amount('sp@', 1, '4111111111111111')$$, '22023'), ($$tokenbill.charge('sp@', 'none', '{"tokens": 5}', 'x')$$, 'PT404'), ($$tokenbill.capture('sp@', 'h1', amount => 7)$$, 'PT409'), ($$tokenbill.capture('sp@', 'none')$$, 'PT404'),
	($$tokenbill.refund('sp@', 'c3', 'r3', 1)$$, 'PT409'), ($$tokenbill.recharge('sp@', 101, 'sp-order-@')$$, 'PT409'), ($$tokenbill.create_account('sp@')$$, 'PT409'), ($$tokenbill.create_account('x', 'usd')$$, '22023'),
	($$tokenbill.set_price('sp-llm', 'tokens', 1, 3)$$, '22023'), ($$tokenbill.token_result('sp@', 'tbt_x')$$, 'PT404'), ($$tokenbill.balance_at('nobody', '2026-03-01')$$, 'PT404'), ($$tokenbill.drop_ledger_month('2090-01-01')$$, 'PT409'),
	($$tokenbill.set_spend_limit('sp@', 1, 'fortnight')$$, '22023'), ($$tokenbill.set_spend_limit('sp@', 1, 'day', timezone => 'X')$$, '22023'), ($$tokenbill.drop_limit('nobody', 'x')$$, 'PT404'), ($$tokenbill.map_tenant('nobody', 'sp@')$$, '42704'), ($$tokenbill.set_credit_limit('nobody', 1)$$, 'PT404'),
	($$tokenbill.add_provider('x', 'x')$$, 'PT404'), ($$tokenbill.add_preset_request('x', '/', '$.a')$$, 'PT404'), ($$tokenbill.check_provider_now('nobody')$$, 'PT404'), ($$tokenbill.record_provider_balance('nobody', 1)$$, 'PT404'), ($$tokenbill.record_provider_balance('nobody', 'NaN')$$, '22003');
-- "AS r" and a whole-row reference only: nothing of the statement itself needs an operator or a function
SELECT is(e.sqlstate || ' ' || coalesce(e.message, ''), v.sqlstate || ' ' || CASE v.sqlstate WHEN '00000' THEN '' ELSE e.message END, format('round %s: %s', n, replace(split_part(call, '(', 1), 'tokenbill.', '')))
FROM (SELECT * FROM round, victim ORDER BY n, i) v, LATERAL pg_temp.error_of(format('SELECT * FROM %s AS r', replace(call, '@', n::text)), who, path => path) e;
SELECT is((pg_temp.error_of('CALL tokenbill.rotate_key()', 'sp_admin', path => :'evil_path')).sqlstate, '00000', 'a procedure; with secrets to do it is called in test/t/246_rotate_key.pl');
SELECT is(last_value, :hits::bigint, 'nothing planted was called') FROM evil.hits;
SELECT is_empty('SELECT * FROM evil.account UNION ALL SELECT * FROM pg_temp.account', 'and nothing written to planted tables');
SELECT is_empty(format($$SELECT * FROM tokenbill.verify_ledger('sp%s')$$, n), 'sound ' || n) FROM round;
SELECT is(count(*), count(DISTINCT (seq, kind, amount, balance, held)) * 5, 'each round did the same') FROM tokenbill.statement WHERE account LIKE 'sp_';

-- Triggers under a hostile path
SELECT is((pg_temp.error_of(statement, path => :'evil_path')).sqlstate, 'PT409', 'trigger: ' || statement) FROM (VALUES ('DELETE FROM tokenbill.ledger'), ('DELETE FROM tokenbill.hold'), ('DELETE FROM tokenbill.recharge_order'),
	('DELETE FROM tokenbill.issued_token'), ('TRUNCATE tokenbill.ledger')) v(statement);
SELECT is(last_value, :hits::bigint, 'nothing planted was called by a trigger') FROM evil.hits;

SELECT * FROM finish();
ROLLBACK;
