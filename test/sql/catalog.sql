-- What the extension puts into the catalogs, and takes out again
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(41);
SELECT tokenbill.create_account('cat', credit_limit => 100), tokenbill.charge_amount('cat', 1, 'before'), tokenbill.make_ledger_month('2040-01-01') \g /dev/null
CREATE TEMP VIEW member AS SELECT i.type, i.schema, i.name, i.identity, d.classid, d.objid FROM pg_depend d, LATERAL pg_identify_object(classid, objid, 0) i
	WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'tokenbill') AND deptype = 'e';

-- The words of the contract
SELECT set_eq($$SELECT proname::text FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace AND has_function_privilege('tokenbill_admin', oid, 'EXECUTE')$$,
	ARRAY['create_account', 'set_account_status', 'set_credit_limit', 'set_account_policy', 'charge', 'charge_tokens', 'charge_amount', 'charge_batch', 'quote', 'hold', 'extend_hold', 'capture', 'release', 'refund', 'recharge',
		'reprice', 'unit_price_above',
		'grant_credit', 'issue_token', 'token_result', 'balance_at', 'verify_ledger', 'set_price', 'set_cost', 'import_prices', 'read_catalog', 'set_price_group', 'set_meter', 'set_service', 'set_markup', 'set_discount', 'expire_holds', 'make_ledger_month', 'make_ledger_months', 'seal_ledger_month', 'drop_ledger_month', 'map_tenant', 'unmap_tenant', 'set_secret', 'drop_secret', 'rotate_key', 'rotation_runs',
		'expire_credits', 'explain_burn', 'set_burn_order',
		'add_provider', 'set_provider', 'drop_provider', 'drop_provider_balance', 'check_provider_now', 'add_preset', 'add_preset_request', 'drop_preset', 'record_provider_balance', 'expire_provider_history',
		'normalize_usage', 'describe_usage',
		'set_oauth_client', 'drop_oauth_client', 'oauth_device_begin', 'oauth_device_login', 'oauth_refresh',
		'set_breaker', 'set_alert_rule', 'set_credential_expiry', 'set_low_balance', 'evaluate_alerts', 'expire_alerts', 'add_alert_webhook', 'set_alert_webhook', 'drop_alert_webhook',
		'set_spend_limit', 'set_rate_limit', 'drop_limit', 'limit_state', 'worker_state',
		'metrics_text', 'counters', 'latency_bounds', 'retry_after', 'refused_address', 'classify_error', 'add_error_rule', 'drop_error_rule', 'mask_card', 'redact',
		'count_characters', 'count_graphemes', 'count_words', 'count_images', 'count_pixels', 'count_seconds', 'count_requests', 'count_sum', 'set_meter_function', 'visible', 'clock'], '\df: the functions there are');
SELECT set_eq($$SELECT relname::text FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind = 'v'$$,
	ARRAY['margin_daily', 'prices_below_cost', 'suspense', 'balances', 'statement', 'holds', 'credits', 'burn_orders', 'recharge_orders', 'prices', 'usage_daily', 'trial_balance', 'catalog_fields', 'provider_balances', 'provider_history', 'provider_presets', 'provider_checks', 'metrics', 'spend_limits', 'rate_limits', 'meter_functions', 'secrets', 'key_rotations',
		'worker_errors', 'worker_status', 'oauth_clients', 'device_grants', 'access_tokens',
		'breakers', 'error_rules', 'alerts', 'alert_rules', 'low_balances', 'credential_expiries', 'alert_webhooks', 'alert_deliveries'], '\dv: the views');
SELECT set_eq($$SELECT relname::text FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition$$,
	ARRAY['account', 'ledger', 'hold', 'credit', 'burn_order', 'price', 'meter', 'meter_function', 'catalog_model', 'service', 'markup', 'recharge_order', 'charge_refund', 'issued_token', 'tenant', 'month_closing', 'month_total', 'provider', 'provider_balance', 'provider_balance_history', 'provider_preset', 'preset_request', 'provider_check', 'secret', 'key_rotation',
		'worker_error', 'worker_duty', 'oauth_client', 'device_grant', 'access_token',
		'breaker', 'error_rule', 'alert', 'alert_rule', 'alert_evaluation', 'account_low_balance', 'credential_expiry', 'alert_webhook', 'alert_delivery'], '\dt: the tables, by the plain names');
SELECT is(pg_get_function_identity_arguments(p.oid), args, name || ': its arguments') FROM (VALUES
	('charge', 'account text, service text, usage jsonb, idempotency_key text, on_insufficient text, metadata jsonb, wait boolean'),
	('hold', 'account text, amount numeric, idempotency_key text, ttl interval, service text, usage jsonb, metadata jsonb, on_expiry text, wait boolean'),
	('capture', 'account text, hold_key text, usage jsonb, amount numeric, idempotency_key text, final boolean, service text, metadata jsonb, wait boolean'),
	('refund', 'account text, charge_key text, idempotency_key text, amount numeric, reason text, metadata jsonb, wait boolean'),
	('recharge', 'account text, amount numeric, order_no text, gateway text, payment_method text, priority integer, metadata jsonb, wait boolean')) v(name, args)
	JOIN pg_proc p ON proname = name AND pronamespace = 'tokenbill'::regnamespace;
SELECT set_has($$SELECT attname::text FROM pg_attribute WHERE attrelid = 'tokenbill.receipt'::regclass AND attnum > 0$$,
	$$SELECT unnest('{account,seq,kind,service,amount,balance,available,currency,idempotency_key,hold_key,replayed,created_at}'::text[])$$, 'a receipt has what was promised');
SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace AND proname IN ('charge', 'recharge', 'hold', 'capture') AND prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c')$$, 'charge, recharge, hold and capture are C');

-- Everything is explained
SELECT is_empty($$SELECT identity FROM member WHERE type IN ('function', 'procedure', 'view', 'table', 'type', 'composite type', 'domain', 'schema', 'aggregate') AND obj_description(objid, classid::regclass::text) IS NULL
	AND NOT (type = 'type' AND EXISTS (SELECT FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid WHERE t.oid = objid AND (t.typelem <> 0 OR c.relkind IN ('r', 'p', 'v'))))$$, 'every object has a comment');
SELECT is_empty($$SELECT attrelid::regclass || '.' || attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'tokenbill'::regnamespace AND relkind = 'v' AND attnum > 0 AND col_description(attrelid, attnum) IS NULL$$,
	'every column of a view has one');
SELECT is_empty($$SELECT attrelid::regclass || '.' || attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE c.oid IN ('tokenbill.receipt'::regclass, 'tokenbill.recharge_receipt'::regclass, 'tokenbill.problem'::regclass) AND attnum > 0
	AND col_description(attrelid, attnum) IS NULL$$, 'and every member of an answer');
SELECT is_empty($$SELECT name FROM pg_settings WHERE name LIKE 'tokenbill.%' AND coalesce(short_desc, '') = ''$$, 'and every setting');
SELECT set_has($$SELECT name, context FROM pg_settings WHERE name LIKE 'tokenbill.%'$$, $$VALUES ('tokenbill.clock', 'superuser'), ('tokenbill.idempotency_window', 'superuser'), ('tokenbill.burn_order', 'superuser')$$, 'settings that only a superuser changes');
SELECT is((pg_temp.error_of($$SET tokenbill.nonsense = 1$$)).sqlstate, '42602', 'there are no others under the name');

-- Where everything is
SELECT is_empty($$SELECT type, identity FROM member WHERE schema IS DISTINCT FROM 'tokenbill' AND NOT (type = 'schema' AND name = 'tokenbill')$$, 'nothing outside the schema: not in pg_catalog, not in public');
SELECT is_empty($$SELECT proname FROM pg_proc WHERE probin LIKE '%tokenbill%' AND pronamespace <> 'tokenbill'::regnamespace$$, 'no C function elsewhere');
SELECT is_empty($$SELECT relname FROM pg_class c WHERE relnamespace = 'tokenbill'::regnamespace AND relkind NOT IN ('i', 'I', 't') AND NOT relispartition AND oid NOT IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass)
	AND relkind <> 'c'$$, 'nothing in the schema that is no member, but the months');
SELECT is_empty($$SELECT relname FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind = 'S' AND relname NOT IN ('call_lease', 'alert_number', 'device_grant_number')$$, 'no sequence but those whose numbers may have gaps');
SELECT is_empty($$SELECT 1 FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid = 'pg_class'::regclass AND objid IN (SELECT oid FROM pg_class WHERE relispartition)$$, 'no month is a member');
SELECT is_empty($$SELECT relname FROM pg_class c WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('r', 'p') AND relname <> 'ledger' AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)$$,
	'every table has a primary key, months included; the ledger itself has its months''');
SELECT is_empty($$SELECT c.conrelid::regclass, conname FROM pg_constraint c WHERE connamespace = 'tokenbill'::regnamespace AND contype IN ('p', 'u', 'x') AND conname <> 'recharge_order_order_no_key'
	AND conrelid::regclass::text NOT IN ('tokenbill.month_total', 'tokenbill.provider', 'tokenbill.secret', 'tokenbill.provider_balance', 'tokenbill.provider_balance_history', 'tokenbill.provider_preset', 'tokenbill.preset_request', 'tokenbill.provider_check', 'tokenbill.tenant', 'tokenbill.catalog_model', 'tokenbill.meter', 'tokenbill.meter_function', 'tokenbill.burn_order', 'tokenbill.service',
		'tokenbill.key_rotation', 'tokenbill.worker_error', 'tokenbill.worker_duty', 'tokenbill.oauth_client', 'tokenbill.device_grant', 'tokenbill.access_token',
		'tokenbill.breaker', 'tokenbill.error_rule', 'tokenbill.alert', 'tokenbill.alert_rule', 'tokenbill.alert_evaluation', 'tokenbill.credential_expiry', 'tokenbill.alert_webhook', 'tokenbill.alert_delivery')
	AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = conrelid AND attname = 'account' AND attnum = ANY (conkey))$$, 'account is in every key but the order number''s');
SELECT is_empty($$SELECT conname FROM pg_constraint WHERE connamespace = 'tokenbill'::regnamespace AND contype = 'f'$$, 'no foreign keys: accounts may live apart');
SELECT is_empty($$SELECT relname FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('r', 'p') AND relpersistence <> 'p'$$, 'no table that a crash would empty');
SELECT set_eq($$SELECT unnest(extconfig)::regclass::text FROM pg_extension WHERE extname = 'tokenbill'$$,
	$$SELECT 'tokenbill.' || relname FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('r', 'p', 'S') AND NOT relispartition$$, 'pg_dump dumps every table''s rows, and the sequences');
SELECT is_empty($$SELECT c FROM pg_extension, unnest(extcondition) c WHERE extname = 'tokenbill' AND c NOT IN ('', 'WHERE NOT builtin')$$, 'all of them, but what comes with the extension');
SELECT is_empty($$SELECT attrelid::regclass, attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'tokenbill'::regnamespace AND atttypid IN ('float4'::regtype, 'float8'::regtype, 'money'::regtype)$$, 'no float anywhere');
SELECT is(row(extrelocatable, extversion IS NOT NULL)::text, '(f,t)', 'not relocatable') FROM pg_extension WHERE extname = 'tokenbill';

-- Dropped, it leaves nothing but the roles; made again, the same session goes on
SAVEPOINT installed;
SELECT tokenbill.issue_token('cat') \g /dev/null
DROP EXTENSION tokenbill;
SELECT is_empty($$SELECT nspname FROM pg_namespace WHERE nspname = 'tokenbill'$$, 'DROP EXTENSION takes the schema');
SELECT is_empty($$SELECT relname FROM pg_class WHERE relname LIKE 'ledger\_2%' OR relname = 'ledger'$$, 'and the months');
SELECT is_empty($$SELECT proname FROM pg_proc WHERE probin LIKE '%tokenbill%' UNION ALL SELECT evtname FROM pg_event_trigger WHERE evtname LIKE '%tokenbill%'
	UNION ALL SELECT defaclrole::regrole::name FROM pg_default_acl$$, 'and all else');
SELECT is(count(*), 4::bigint, 'the roles belong to the cluster and stay') FROM pg_roles WHERE rolname LIKE 'tokenbill\_%';
CREATE EXTENSION tokenbill;
SELECT is(account, 'cat', 'made again, it is empty') FROM tokenbill.create_account('cat', credit_limit => 5);
SELECT is(pg_temp.pick(r, 'seq', 'balance', 'replayed'), '{"seq": 1, "balance": -1, "replayed": false}', 'and the session''s plans and caches do not remember') FROM tokenbill.charge_amount('cat', 1, 'before') r;
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'sound');
DROP EXTENSION tokenbill;
CREATE SCHEMA tokenbill;
SELECT is((pg_temp.error_of('CREATE EXTENSION tokenbill')).sqlstate, '42P06', 'a schema that somebody has planted is not adopted');
ROLLBACK TO installed;
SELECT is(pg_temp.pick(r, 'seq', 'replayed'), '{"seq": 1, "replayed": true}', 'rolled back, everything is as before') FROM tokenbill.charge_amount('cat', 1, 'before') r;
SELECT is(seq, 2::bigint, 'and goes on') FROM tokenbill.charge_amount('cat', 1, 'after');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger()$$, 'sound');

-- Installing changes no setting of the session
SELECT is(current_setting('search_path'), '"$user", public', 'search_path is the session''s own');
SELECT * FROM finish();
ROLLBACK;
