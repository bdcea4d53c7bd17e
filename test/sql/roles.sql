-- Roles: who may do what, and that nobody may touch a table
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(81);
CREATE ROLE rt_plain LOGIN;
CREATE ROLE rt_app LOGIN IN ROLE tokenbill_app;
CREATE ROLE rt_billing LOGIN IN ROLE tokenbill_billing;
CREATE ROLE rt_reader LOGIN IN ROLE tokenbill_reader;
CREATE ROLE rt_admin LOGIN IN ROLE tokenbill_admin;
SELECT tokenbill.make_ledger_months(1) \g /dev/null

-- The roles themselves
SELECT is(row(rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication)::text, '(f,f,f,f,f,f)', rolname || ' can do nothing else') FROM pg_roles
WHERE rolname IN ('tokenbill_app', 'tokenbill_billing', 'tokenbill_reader', 'tokenbill_admin') ORDER BY rolname;
SELECT is(has_schema_privilege(r, 'tokenbill', 'USAGE'), r <> 'rt_plain', r || ': USAGE on the schema') FROM unnest('{rt_plain,rt_app,rt_billing,rt_reader,rt_admin}'::name[]) r;
SELECT is(has_schema_privilege(r, 'tokenbill', 'CREATE'), false, r || ': no CREATE') FROM unnest('{rt_plain,rt_app,rt_billing,rt_reader,rt_admin}'::name[]) r;

-- Functions: those granted; every other is nobody's
CREATE TEMP TABLE may (function text, app boolean, billing boolean, reader boolean, admin boolean);
INSERT INTO may VALUES
	('charge', true, false, false, true), ('charge_tokens', true, false, false, true), ('charge_amount', true, false, false, true), ('charge_batch', true, false, false, true),
	('quote', true, true, false, true), ('hold', true, false, false, true), ('extend_hold', true, false, false, true), ('capture', true, false, false, true), ('release', true, false, false, true),
	('issue_token', true, false, false, true), ('token_result', true, false, false, true), ('balance_at', true, true, true, true),
	('create_account', false, true, false, true), ('recharge', false, true, false, true), ('refund', false, true, false, true), ('grant_credit', false, true, false, true), ('set_price', false, true, false, true),
	('set_cost', false, true, false, true), ('import_prices', false, true, false, true), ('read_catalog', false, true, false, true), ('set_price_group', false, true, false, true), ('set_meter', false, true, false, true),
	('set_service', false, true, false, true), ('set_markup', false, true, false, true), ('set_discount', false, true, false, true),
	('reprice', false, true, false, true), ('unit_price_above', false, true, true, true),
	('count_characters', true, true, false, true), ('count_graphemes', true, true, false, true), ('count_words', true, true, false, true),
	('explain_burn', true, true, true, true),
	('count_characters', true, true, false, true), ('count_graphemes', true, true, false, true), ('count_words', true, true, false, true),
	('count_images', true, true, false, true), ('count_pixels', true, true, false, true), ('count_seconds', true, true, false, true), ('count_requests', true, true, false, true), ('count_sum', true, true, false, true),
	('set_meter_function', false, false, false, true),
	('verify_ledger', false, false, true, true), ('metrics_text', false, false, true, true), ('counters', false, false, true, true), ('latency_bounds', false, false, true, true),
	('set_spend_limit', false, true, false, true), ('set_rate_limit', false, true, false, true), ('drop_limit', false, true, false, true), ('limit_state', true, true, true, true),
	('set_account_status', false, false, false, true), ('set_credit_limit', false, false, false, true), ('set_account_policy', false, false, false, true), ('expire_holds', false, false, false, true),
	('expire_credits', false, false, false, true), ('set_burn_order', false, false, false, true),
	('make_ledger_month', false, false, false, true), ('make_ledger_months', false, false, false, true), ('seal_ledger_month', false, false, false, true), ('drop_ledger_month', false, false, false, true),
	('add_provider', false, false, false, true), ('set_provider', false, false, false, true), ('drop_provider', false, false, false, true), ('drop_provider_balance', false, false, false, true), ('check_provider_now', false, false, false, true), ('add_preset', false, false, false, true), ('add_preset_request', false, false, false, true), ('drop_preset', false, false, false, true), ('record_provider_balance', false, true, false, true), ('expire_provider_history', false, false, false, true),
	('mask_card', true, true, true, true), ('redact', true, true, true, true),
	('retry_after', true, false, false, true), ('classify_error', true, true, true, true), ('add_error_rule', false, false, false, true), ('drop_error_rule', false, false, false, true), ('refused_address', false, false, false, true), ('set_secret', false, false, false, true), ('drop_secret', false, false, false, true),
	('rotate_key', false, false, false, true), ('rotation_runs', false, false, false, true),
	('map_tenant', false, false, false, true), ('unmap_tenant', false, false, false, true),
	('normalize_usage', true, true, true, true), ('describe_usage', true, true, true, true),
	('set_oauth_client', false, false, false, true), ('drop_oauth_client', false, false, false, true), ('oauth_device_begin', false, false, false, true), ('oauth_device_login', false, false, false, true), ('oauth_refresh', false, false, false, true),
	('set_breaker', false, false, false, true), ('set_alert_rule', false, false, false, true), ('set_credential_expiry', false, false, false, true), ('set_low_balance', false, true, false, true),
	('evaluate_alerts', false, false, false, true), ('expire_alerts', false, false, false, true), ('add_alert_webhook', false, false, false, true), ('set_alert_webhook', false, false, false, true), ('drop_alert_webhook', false, false, false, true),
	('worker_state', false, false, true, true),
	('visible', true, true, true, true), ('clock', true, true, true, true);
SELECT bag_eq($$SELECT proname::text, has_function_privilege('rt_app', oid, 'EXECUTE') AS app, has_function_privilege('rt_billing', oid, 'EXECUTE') AS billing,
		has_function_privilege('rt_reader', oid, 'EXECUTE') AS reader, has_function_privilege('rt_admin', oid, 'EXECUTE') AS admin FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace$$,
	$$SELECT * FROM may UNION ALL SELECT proname, false, false, false, false FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace AND proname NOT IN (SELECT function FROM may)$$,
	'each function is granted to whom it is meant for');
SELECT is_empty($$SELECT proname FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace AND has_function_privilege('rt_plain', oid, 'EXECUTE')$$, 'none to anybody else');
SELECT is_empty($$SELECT function FROM may WHERE function NOT IN (SELECT proname FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace)$$, 'each is there');

-- Views: read by whom, and by nobody changed
CREATE TEMP TABLE sees (view text, app boolean, billing boolean, reader boolean, admin boolean);
INSERT INTO sees VALUES
	('provider_balances', false, false, true, true), ('provider_history', false, false, true, true), ('provider_presets', false, false, true, true), ('provider_checks', false, false, true, true),
	('balances', true, true, true, true), ('statement', true, true, true, true), ('holds', true, true, true, true), ('recharge_orders', true, true, true, true),
	('prices', true, true, true, true), ('usage_daily', false, false, true, true), ('trial_balance', false, false, true, true), ('catalog_fields', false, true, true, true), ('metrics', false, false, true, true),
	('credits', true, true, true, true), ('burn_orders', false, false, true, true),
	('margin_daily', false, false, true, true), ('prices_below_cost', false, true, true, true), ('suspense', false, true, true, true),
	('spend_limits', true, true, true, true), ('rate_limits', true, true, true, true), ('meter_functions', false, true, true, true),
	('secrets', false, false, false, true), ('key_rotations', false, false, false, true), ('worker_errors', false, false, true, true), ('worker_status', false, false, true, true),
	('breakers', false, false, true, true), ('error_rules', false, false, true, true), ('alerts', false, false, true, true), ('alert_rules', false, false, true, true), ('low_balances', true, true, true, true), ('credential_expiries', false, false, true, true),
	('oauth_clients', false, false, false, true), ('device_grants', false, false, false, true), ('access_tokens', false, false, true, true),
	('alert_webhooks', false, false, true, true), ('alert_deliveries', false, false, true, true);
SELECT bag_eq($$SELECT relname::text, has_table_privilege('rt_app', oid, 'SELECT') AS app, has_table_privilege('rt_billing', oid, 'SELECT') AS billing,
		has_table_privilege('rt_reader', oid, 'SELECT') AS reader, has_table_privilege('rt_admin', oid, 'SELECT') AS admin FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('v', 'm')$$, 'SELECT * FROM sees', 'each view is read by whom it is meant for');
SELECT is_empty($$SELECT r, relname, p FROM pg_class, unnest('{rt_plain,rt_app,rt_billing,rt_reader,rt_admin}'::name[]) r, unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p
	WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND has_table_privilege(r, oid, p)$$, 'nobody writes a table or a view');
SELECT is_empty($$SELECT r, relname FROM pg_class, unnest('{rt_plain,rt_app,rt_billing,rt_reader,rt_admin}'::name[]) r
	WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('r', 'p', 'S', 'f') AND (has_table_privilege(r, oid, 'SELECT') OR has_any_column_privilege(r, oid, 'SELECT, INSERT, UPDATE, REFERENCES'))$$,
	'nobody reads a table, months of the ledger included');
SELECT is_empty($$SELECT relname FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind = 'v' AND has_table_privilege('rt_plain', oid, 'SELECT')$$, 'a login without a role sees nothing');

-- Nothing to PUBLIC
SELECT is_empty($$SELECT oid::regprocedure::text FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE pronamespace = 'tokenbill'::regnamespace AND grantee = 0
	UNION ALL SELECT relname FROM pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner))) WHERE relnamespace = 'tokenbill'::regnamespace AND relkind <> 'i' AND relkind <> 'I' AND relkind <> 'c' AND grantee = 0
	UNION ALL SELECT typname FROM pg_type LEFT JOIN pg_class c ON c.oid = typrelid, aclexplode(coalesce(typacl, acldefault('T', typowner)))
		WHERE typnamespace = 'tokenbill'::regnamespace AND (typtype IN ('d', 'e', 'r') OR c.relkind = 'c') AND grantee = 0
	UNION ALL SELECT nspname FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) WHERE nspname = 'tokenbill' AND grantee = 0$$, 'nothing is granted to PUBLIC');
SELECT is_empty($$SELECT oid::regprocedure::text FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE pronamespace = 'tokenbill'::regnamespace AND is_grantable AND grantee <> proowner$$, 'nobody may grant on');

-- Functions that can more than their caller
SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace AND prosecdef AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)$$,
	'every SECURITY DEFINER function pins its search_path');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = prolang WHERE pronamespace = 'tokenbill'::regnamespace AND lanname IN ('plpgsql', 'sql')
	AND prosqlbody IS NULL AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)$$, 'and so does every other that is not C, or parsed already');
SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace AND proowner <> (SELECT extowner FROM pg_extension WHERE extname = 'tokenbill')$$, 'all belong to the extension''s owner');

-- What they do
SELECT tokenbill.set_price('rt-llm', 'tokens', 0.001) \g /dev/null
SELECT is((pg_temp.error_of(statement, who)).sqlstate, sqlstate, who || ': ' || statement) FROM (VALUES
	('rt_billing', $$SELECT tokenbill.create_account('rt')$$, '00000'), ('rt_billing', $$SELECT tokenbill.recharge('rt', 100, 'rt-1')$$, '00000'),
	('rt_billing', $$SELECT tokenbill.grant_credit('rt', 1, 'g')$$, '00000'), ('rt_billing', $$SELECT tokenbill.set_price('rt-llm', 'images', 1)$$, '00000'),
	('rt_billing', $$SELECT tokenbill.charge_amount('rt', 1, 'x')$$, '42501'), ('rt_billing', $$SELECT tokenbill.set_account_status('rt', 'frozen')$$, '42501'),
	('rt_app', $$SELECT tokenbill.charge('rt', 'rt-llm', '{"tokens": 1}', 'c')$$, '00000'), ('rt_app', $$SELECT tokenbill.charge_amount('rt', 1, 'c2')$$, '00000'),
	('rt_app', $$SELECT tokenbill.charge_tokens('rt', 'rt-llm', 1, 'c3')$$, '00000'), ('rt_app', $$SELECT tokenbill.hold('rt', 1, 'h')$$, '00000'), ('rt_app', $$SELECT tokenbill.extend_hold('rt', 'h', 2)$$, '00000'),
	('rt_app', $$SELECT tokenbill.capture('rt', 'h')$$, '00000'), ('rt_app', $$SELECT tokenbill.hold('rt', 1, 'h2')$$, '00000'), ('rt_app', $$SELECT tokenbill.release('rt', 'h2')$$, '00000'),
	('rt_app', $$SELECT * FROM tokenbill.charge_batch('[{"account": "rt", "amount": 1, "idempotency_key": "c4"}]')$$, '00000'), ('rt_app', $$SELECT tokenbill.charge_amount('rt', 1, tokenbill.issue_token('rt'))$$, '00000'),
	('rt_app', $$SELECT tokenbill.quote('rt', 'rt-llm', '{"tokens": 1}')$$, '00000'), ('rt_app', $$SELECT tokenbill.charge_amount('rt', 1000, 'c5')$$, 'PT402'),
	('rt_app', $$SELECT tokenbill.refund('rt', 'c2', 'r')$$, '42501'), ('rt_app', $$SELECT tokenbill.recharge('rt', 100, 'rt-2')$$, '42501'), ('rt_app', $$SELECT tokenbill.set_credit_limit('rt', 100)$$, '42501'),
	('rt_app', $$SELECT * FROM tokenbill.trial_balance$$, '42501'), ('rt_app', $$SELECT * FROM tokenbill.account$$, '42501'), ('rt_app', $$UPDATE tokenbill.account SET balance = 1000$$, '42501'),
	('rt_app', $$INSERT INTO tokenbill.ledger SELECT * FROM tokenbill.ledger$$, '42501'), ('rt_app', $$DELETE FROM tokenbill.hold$$, '42501'), ('rt_app', $$TRUNCATE tokenbill.price$$, '42501'),
	('rt_app', $$SELECT tokenbill.refuse('PT402', 'fake', '{}', '')$$, '42501'), ('rt_app', $$SELECT tokenbill.check_text('x', 'y', 5)$$, '42501'),
	('rt_billing', $$SELECT tokenbill.refund('rt', 'c2', 'r')$$, '00000'), ('rt_billing', $$UPDATE tokenbill.account SET balance = 1000$$, '42501'),
	('rt_reader', $$SELECT * FROM tokenbill.statement$$, '00000'), ('rt_reader', $$SELECT * FROM tokenbill.verify_ledger()$$, '00000'), ('rt_reader', $$SELECT * FROM tokenbill.metrics$$, '00000'),
	('rt_reader', $$SELECT tokenbill.balance_at('rt', now())$$, '00000'), ('rt_reader', $$SELECT tokenbill.charge_amount('rt', 1, 'x')$$, '42501'), ('rt_reader', $$DELETE FROM tokenbill.ledger$$, '42501'),
	('rt_admin', $$SELECT tokenbill.set_account_status('rt', 'frozen')$$, '00000'), ('rt_admin', $$SELECT tokenbill.set_account_status('rt', 'active')$$, '00000'), ('rt_admin', $$SELECT tokenbill.expire_holds()$$, '00000'),
	('rt_admin', $$SELECT tokenbill.make_ledger_months()$$, '00000'), ('rt_admin', $$SELECT tokenbill.charge_amount('rt', 1, 'c6')$$, '00000'), ('rt_admin', $$SELECT tokenbill.recharge('rt', 1, 'rt-3')$$, '00000'),
	('rt_admin', $$SELECT * FROM tokenbill.ledger$$, '42501'), ('rt_admin', $$UPDATE tokenbill.tenant SET account = 'rt'$$, '42501'), ('rt_admin', $$ALTER TABLE tokenbill.ledger DISABLE TRIGGER ALL$$, '42501'),
	('rt_admin', $$SET tokenbill.clock = '2020-01-01'$$, '42501'), ('rt_app', $$SET tokenbill.clock = '2020-01-01'$$, '42501'), ('rt_app', $$SET tokenbill.idempotency_window = '1 day'$$, '42501'),
	('rt_plain', $$SELECT tokenbill.charge_amount('rt', 1, 'x')$$, '42501'), ('rt_plain', $$SELECT * FROM tokenbill.balances$$, '42501'), ('rt_plain', $$SELECT tokenbill.visible('rt')$$, '42501')) v(who, statement, sqlstate);

-- Neither a call nor a refusal leaves its caller with another role
SELECT is(pg_temp.rows_as($$SELECT current_user AS u, amount FROM tokenbill.charge_amount('rt', 1, 'same')$$, 'rt_app'), '[{"u": "rt_app", "amount": -1}]', 'a caller stays itself');
CREATE FUNCTION pg_temp.whoami_after_refusal() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tokenbill.charge_amount('rt', 100000, 'whoami');
	RETURN 'not refused';
EXCEPTION WHEN SQLSTATE 'PT402' THEN
	RETURN current_user;
END $$;
SELECT is(pg_temp.rows_as('SELECT pg_temp.whoami_after_refusal() AS u', 'rt_app'), '[{"u": "rt_app"}]', 'also after a refusal');
SELECT is_empty($$SELECT problem FROM tokenbill.verify_ledger('rt')$$, 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
