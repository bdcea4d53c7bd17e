-- Bad input: every argument of every function, each with its own error, and nothing written
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(1963);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('a'), tokenbill.recharge('a', 1000, 'B-1'), tokenbill.set_price('llm', 'input_tokens', 1, 1000000), tokenbill.set_price('llm', 'tokens', 1, 1000000),
	tokenbill.set_price('llm', 'seconds', 1), tokenbill.charge_amount('a', 5, 'c'), tokenbill.hold('a', 5, 'h'), tokenbill.create_account('rich'),
	tokenbill.add_provider('prov', 'manual'), tokenbill.add_preset('mine'), tokenbill.add_preset('spare'), tokenbill.add_preset_request('mine', '/balance', '$.balance', headers => '{}'), tokenbill.add_provider('asked', 'mine', 'https://example.com'), tokenbill.add_alert_webhook('hook', 'https://example.org/'), tokenbill.add_error_rule('own', 'auth', status => '418'), tokenbill.set_secret('good', 'sk'), tokenbill.set_oauth_client('login', 'device_code', 'https://example.com/t', 'us', device_url => 'https://example.com/d'), tokenbill.set_oauth_client('robot', 'client_credentials', 'https://example.com/t', 'us'), tokenbill.set_spend_limit('a', 1e9, 'day', name => 'good'), tokenbill.hold('a', 1, 'done'), tokenbill.capture('a', 'done', usage => '{"tokens": 1}', service => 'llm'), tokenbill.charge('a', 'llm', '{"tokens": 1}', 'done 2') \g /dev/null
SELECT tokenbill.record_provider_balance('prov', 1) \g /dev/null

-- Calls that would go through, argument by argument: what kind of value it takes.
-- A ? after the kind: it may be null.
CREATE TEMP TABLE argument (function text, argument text, kind text, good text);
INSERT INTO argument VALUES
	('create_account', 'account', 'text', '''new'''), ('create_account', 'currency', 'text', '''USD'''), ('create_account', 'metadata', 'metadata?', '''{}'''),
	('set_account_status', 'account', 'text', '''a'''), ('set_account_status', 'status', 'word', '''frozen'''),
	('set_credit_limit', 'account', 'text', '''a'''), ('set_credit_limit', 'credit_limit', 'limit', '7'),
	('set_account_policy', 'account', 'text', '''a'''), ('set_account_policy', 'overflow', 'word?', '''debt'''),
	('set_price', 'service', 'text', '''s'''), ('set_price', 'meter', 'text', '''m'''), ('set_price', 'unit_price', 'limit', '1'), ('set_price', 'per', 'amount', '1'),
	('set_price', 'account', 'text?', 'NULL'), ('set_price', 'valid_from', 'time?', '''2026-05-01'''), ('set_price', 'price_group', 'text?', '''g'''),
	('set_price', 'service_tier', 'text', '''batch'''), ('set_price', 'hours', 'text?', '''08:00-12:00'''), ('set_price', 'mode', 'word', '''package'''),
	('set_cost', 'service', 'text', '''s'''), ('set_cost', 'meter', 'text', '''m'''), ('set_cost', 'unit_price', 'limit', '1'), ('set_cost', 'per', 'amount', '1'),
	('set_cost', 'valid_from', 'time?', '''2026-05-01'''), ('set_cost', 'service_tier', 'text', '''batch'''), ('set_cost', 'hours', 'text?', '''08:00-12:00'''), ('set_cost', 'mode', 'word', '''package'''),
	('set_service', 'service', 'text', '''s'''), ('set_service', 'usage_format', 'word?', '''meters'''), ('set_service', 'minimum_charge', 'limit?', '1'),
	('set_markup', 'service', 'text?', '''s'''), ('set_markup', 'account', 'text?', 'NULL'), ('set_markup', 'price_group', 'text?', '''g'''), ('set_markup', 'valid_from', 'time?', '''2026-05-01'''),
	('set_markup', 'fraction', 'boolean', '0.1'),
	('set_discount', 'service', 'text?', '''s'''), ('set_discount', 'account', 'text?', 'NULL'), ('set_discount', 'price_group', 'text?', '''g'''), ('set_discount', 'valid_from', 'time?', '''2026-05-01'''),
	('set_discount', 'fraction', 'boolean', '0.1'),
	('import_prices', 'valid_from', 'time?', '''2026-05-01'''), ('import_prices', 'price_cap', 'amount', '1000'), ('import_prices', 'dry_run', 'boolean', 'false'), ('import_prices', 'markup', 'catalog_markup?', '0.2'),
	('import_prices', 'catalog', 'catalog', '''{"m": {"input_cost_per_token": 1e-6}}'''), ('read_catalog', 'catalog', 'catalog', '''{"m": {"input_cost_per_token": 1e-6}}'''), ('read_catalog', 'price_cap', 'amount', '1000'),
	('reprice', 'account', 'text', '''a'''), ('reprice', 'service', 'text?', '''llm'''), ('reprice', 'from', 'boolean', '''2026-01-01'''), ('reprice', 'to', 'boolean', '''2026-05-01'''), ('reprice', 'dry_run', 'boolean', 'true'),
	('set_price_group', 'account', 'text', '''a'''), ('set_price_group', 'price_group', 'text?', '''g'''),
	('set_meter', 'meter', 'text', '''m'''), ('set_meter', 'parent', 'text?', '''input_tokens'''), ('set_meter', 'unit', 'text', '''unit'''), ('set_meter', 'description', 'text?', '''d'''),
	('set_meter_function', 'meter', 'text', '''words'''), ('set_meter_function', 'function', 'function?', '''tokenbill.count_words(jsonb, jsonb)'''), ('set_meter_function', 'service', 'text?', '''s'''), ('set_meter_function', 'options', 'metadata?', '''{}'''),
	('charge', 'account', 'text', '''a'''), ('charge', 'service', 'text', '''llm'''), ('charge', 'usage', 'usage', '''{"input_tokens": 1}'''),
	('charge', 'idempotency_key', 'key', '''k'''), ('charge', 'on_insufficient', 'word', '''refuse'''), ('charge', 'metadata', 'metadata?', 'NULL'), ('charge', 'wait', 'boolean', 'true'),
	('charge_tokens', 'account', 'text', '''a'''), ('charge_tokens', 'service', 'text', '''llm'''), ('charge_tokens', 'tokens', 'tokens', '1'),
	('charge_tokens', 'idempotency_key', 'key', '''k'''), ('charge_tokens', 'on_insufficient', 'word', '''refuse'''), ('charge_tokens', 'metadata', 'metadata?', 'NULL'), ('charge_tokens', 'wait', 'boolean', 'true'),
	('charge_amount', 'account', 'text', '''a'''), ('charge_amount', 'amount', 'amount', '1'), ('charge_amount', 'idempotency_key', 'key', '''k'''),
	('charge_amount', 'service', 'text?', '''s'''), ('charge_amount', 'on_insufficient', 'word', '''refuse'''), ('charge_amount', 'metadata', 'metadata?', 'NULL'), ('charge_amount', 'wait', 'boolean', 'true'),
	('quote', 'account', 'text', '''a'''), ('quote', 'service', 'text', '''llm'''), ('quote', 'usage', 'usage', '''{"input_tokens": 1}'''), ('quote', 'metadata', 'metadata?', 'NULL'),
	('normalize_usage', 'usage', 'usage', '''{"input_tokens": 1}'''), ('normalize_usage', 'format', 'word', '''auto'''),
	('describe_usage', 'usage', 'usage', '''{"input_tokens": 1}'''), ('describe_usage', 'format', 'word', '''auto'''),
	('hold', 'account', 'text', '''a'''), ('hold', 'amount', 'amount?', '1'), ('hold', 'idempotency_key', 'key', '''k'''), ('hold', 'ttl', 'ttl', '''1 min'''),
	('hold', 'service', 'text?', 'NULL'), ('hold', 'metadata', 'metadata?', 'NULL'), ('hold', 'on_expiry', 'word', '''release'''), ('hold', 'wait', 'boolean', 'true'),
	('extend_hold', 'account', 'text', '''a'''), ('extend_hold', 'hold_key', 'text', '''h'''), ('extend_hold', 'amount', 'amount?', '9'), ('extend_hold', 'ttl', 'ttl?', '''1 min'''),
	('extend_hold', 'idempotency_key', 'key?', '''k'''), ('extend_hold', 'wait', 'boolean', 'true'),
	('capture', 'account', 'text', '''a'''), ('capture', 'hold_key', 'text', '''h'''), ('capture', 'amount', 'amount?', '1'), ('capture', 'idempotency_key', 'key?', '''k'''),
	('capture', 'final', 'boolean', 'true'), ('capture', 'service', 'text?', 'NULL'), ('capture', 'metadata', 'metadata?', 'NULL'), ('capture', 'wait', 'boolean', 'true'),
	('release', 'account', 'text', '''a'''), ('release', 'hold_key', 'text', '''h'''), ('release', 'wait', 'boolean', 'true'),
	('refund', 'account', 'text', '''a'''), ('refund', 'charge_key', 'text', '''c'''), ('refund', 'idempotency_key', 'key', '''k'''), ('refund', 'amount', 'amount?', '1'),
	('refund', 'reason', 'text?', '''r'''), ('refund', 'metadata', 'metadata?', 'NULL'), ('refund', 'wait', 'boolean', 'true'),
	('recharge', 'account', 'text', '''a'''), ('recharge', 'amount', 'amount', '1'), ('recharge', 'order_no', 'key', '''k'''), ('recharge', 'payment_method', 'text?', '''wire'''),
	('recharge', 'priority', 'boolean', '1'), ('recharge', 'metadata', 'metadata?', 'NULL'), ('recharge', 'wait', 'boolean', 'true'),
	('grant_credit', 'account', 'text', '''a'''), ('grant_credit', 'amount', 'amount', '1'), ('grant_credit', 'idempotency_key', 'key', '''k'''),
	('grant_credit', 'reason', 'text?', '''r'''), ('grant_credit', 'metadata', 'metadata?', 'NULL'), ('grant_credit', 'wait', 'boolean', 'true'),
	('grant_credit', 'expires_at', 'time?', '''2040-01-01'''), ('grant_credit', 'priority', 'priority', '10'), ('grant_credit', 'category', 'word?', '''paid'''),
	('grant_credit', 'effective_at', 'time?', '''2039-01-01'''), ('grant_credit', 'scope', 'scope?', '''{llm,img-*}'''), ('grant_credit', 'cost_basis', 'limit?', '0.5'),
	('explain_burn', 'account', 'text', '''a'''), ('explain_burn', 'amount', 'amount', '1'), ('explain_burn', 'service', 'text?', '''llm'''),
	('expire_credits', 'account', 'text?', '''a'''), ('expire_credits', 'max', 'count', '1'),
	('set_burn_order', 'name', 'name', '''mine'''), ('set_burn_order', 'keys', 'keys', '''{oldest}'''), ('set_burn_order', 'description', 'text?', '''x'''),
	('set_spend_limit', 'account', 'text', '''a'''), ('set_spend_limit', 'amount', 'limit', '7'), ('set_spend_limit', 'every', 'word', '''day'''), ('set_spend_limit', 'service', 'text?', '''llm'''),
	('set_spend_limit', 'tag', 'tag?', '''{"team": "red"}'''), ('set_spend_limit', 'timezone', 'word', '''UTC'''), ('set_spend_limit', 'action', 'word', '''alert'''), ('set_spend_limit', 'name', 'text?', '''daily'''),
	('set_rate_limit', 'account', 'text', '''a'''), ('set_rate_limit', 'what', 'word', '''requests'''), ('set_rate_limit', 'amount', 'limit', '7'), ('set_rate_limit', 'every', 'word', '''1 hour'''),
	('set_rate_limit', 'service', 'text?', '''llm'''), ('set_rate_limit', 'tag', 'tag?', 'NULL'), ('set_rate_limit', 'timezone', 'word', '''UTC'''), ('set_rate_limit', 'action', 'word', '''alert'''),
	('set_rate_limit', 'name', 'text?', 'NULL'), ('drop_limit', 'account', 'text', '''a'''), ('drop_limit', 'name', 'text', '''good'''),
	('issue_token', 'account', 'text', '''a'''), ('issue_token', 'ttl', 'ttl', '''1 min'''),
	('token_result', 'account', 'text', '''a'''), ('token_result', 'token', 'text', '''tbt_x'''),
	('balance_at', 'account', 'text', '''a'''), ('balance_at', 'at', 'time', '''2026-01-01'''),
	('verify_ledger', 'account', 'text?', '''a'''), ('expire_holds', 'account', 'text?', '''a'''), ('expire_holds', 'max', 'boolean', '1'),
	('make_ledger_month', 'at', 'time', '''2026-01-01'''), ('map_tenant', 'account', 'text', '''a'''), ('map_tenant', 'login', 'role', 'current_user'),
	('set_secret', 'name', 'text', '''new'''), ('set_secret', 'value', 'secret', '''sk-1'''), ('drop_secret', 'name', 'text', '''good'''),
	('add_provider', 'provider', 'text', '''new'''), ('add_provider', 'preset', 'text', '''manual'''), ('add_provider', 'check_every', 'ttl', '''1 min'''), ('add_provider', 'low_balance', 'signed?', '1'),
	('add_provider', 'currency', 'text?', '''USD'''), ('add_provider', 'keep_history', 'ttl', '''7 days'''),
	('set_provider', 'base_url', 'text?', 'NULL'), ('set_provider', 'secret_name', 'text?', 'NULL'), ('set_provider', 'calls_per_minute', 'count?', '9'),
	('add_preset', 'preset', 'text', '''new'''), ('add_preset', 'base_url', 'text?', '''https://example.com'''), ('add_preset', 'currency', 'text', '''USD'''), ('add_preset', 'source', 'word', '''asked'''),
	('add_preset', 'docs', 'text?', '''x'''), ('add_preset_request', 'preset', 'text', '''mine'''), ('add_preset_request', 'path', 'text', '''/balance'''), ('add_preset_request', 'amount', 'word', '''$.balance'''),
	('add_preset_request', 'rows', 'word', '''$'''), ('add_preset_request', 'currency', 'word?', '''$.currency'''), ('add_preset_request', 'subtrahend', 'word?', '''$.used'''), ('add_preset_request', 'addend', 'word?', '''$.nanos'''),
	('add_preset_request', 'scale', 'amount', '0.01'), ('add_preset_request', 'addend_scale', 'amount', '0.01'), ('add_preset_request', 'plus', 'signed', '1'), ('add_preset_request', 'sign', 'sign', '-1'),
	('add_preset_request', 'failure', 'word?', '''exists($.error)'''), ('add_preset_request', 'require', 'word?', '''$.ok == true'''), ('add_preset_request', 'unlimited', 'word?', '''$.limit == null'''), ('add_preset_request', 'more', 'word?', '''$.more == true'''),
	('add_preset_request', 'failure_text', 'word?', '''$.error'''), ('add_preset_request', 'next', 'word?', '''$.next'''), ('add_preset_request', 'method', 'word', '''POST'''), ('add_preset_request', 'auth', 'word?', '''aliyun'''),
	('add_preset_request', 'contributes', 'word', '''balance'''), ('add_preset_request', 'query', 'templates', '''{"a": "1"}'''), ('add_preset_request', 'headers', 'templates', '''{"a": "1"}'''), ('add_preset_request', 'currencies', 'templates', '''{"a": "USD"}'''),
	('add_preset_request', 'step', 'count?', '5'), ('add_preset_request', 'thousands', 'word?', ''','''), ('drop_preset', 'preset', 'text', '''spare'''), ('check_provider_now', 'provider', 'text', '''asked'''),
	('set_provider', 'provider', 'text', '''prov'''), ('set_provider', 'check_every', 'ttl?', '''1 min'''), ('set_provider', 'low_balance', 'signed?', '1'), ('set_provider', 'currency', 'text?', '''USD'''),
	('set_provider', 'keep_history', 'ttl?', '''7 days'''), ('set_provider', 'never_low', 'boolean', 'false'), ('drop_provider', 'provider', 'text', '''prov'''), ('drop_provider_balance', 'provider', 'text', '''prov'''), ('drop_provider_balance', 'currency', 'text', '''USD'''),
	('set_oauth_client', 'provider', 'text', '''login'''), ('drop_oauth_client', 'provider', 'text', '''robot'''), ('oauth_refresh', 'provider', 'text', '''robot'''), ('oauth_device_begin', 'provider', 'text', '''login'''), ('oauth_device_begin', 'restart', 'boolean', 'false'),
	('set_alert_rule', 'kind', 'word', '''provider_runway'''), ('set_alert_rule', 'threshold', 'ttl?', '''1 min'''), ('set_alert_rule', 'clear_above', 'part?', '0.3'), ('set_alert_rule', 'clear_after', 'span?', '''1 min'''),
	('set_alert_rule', 'quiet_period', 'span?', '''1 min'''), ('set_alert_rule', 'severity', 'word?', '''critical'''), ('set_alert_rule', 'keep', 'ttl?', '''7 days'''),
	('set_low_balance', 'account', 'text', '''a'''), ('set_low_balance', 'amount', 'signed?', '1'), ('set_credential_expiry', 'credential', 'text', '''c'''), ('set_credential_expiry', 'expires_at', 'time?', '''2040-01-01'''),
	('expire_alerts', 'max', 'count', '1'), ('add_alert_webhook', 'name', 'text', '''new'''), ('add_alert_webhook', 'url', 'url', '''https://example.org/'''), ('add_alert_webhook', 'secret', 'text?', '''s'''), ('add_alert_webhook', 'kinds', 'kinds?', '''{provider_low}'''),
	('set_alert_webhook', 'name', 'text', '''hook'''), ('set_alert_webhook', 'url', 'url?', '''https://example.org/'''), ('set_alert_webhook', 'secret', 'text?', '''s'''), ('set_alert_webhook', 'kinds', 'kinds?', '''{provider_low}'''),
	('drop_alert_webhook', 'name', 'text', '''hook'''),
	('add_error_rule', 'rule', 'rule', '''new_rule'''), ('add_error_rule', 'class', 'word', '''billing'''), ('add_error_rule', 'vendor', 'rule?', '''mine'''), ('add_error_rule', 'status', 'word?', '''429,5xx'''), ('add_error_rule', 'body', 'conditions', '''{"error.code, code": ["a*", "!b"]}'''),
	('add_error_rule', 'headers', 'conditions', '''{"x-a": "b"}'''), ('add_error_rule', 'retry_after', 'day?', '''1 min'''), ('add_error_rule', 'wait', 'place?', '''error.wait'''), ('add_error_rule', 'priority', 'rank', '40'), ('add_error_rule', 'advice', 'text?', '''Look.'''), ('drop_error_rule', 'rule', 'text', '''own'''),
	('add_preset', 'vendor', 'rule?', '''mine'''),
	('set_breaker', 'kind', 'word', '''provider'''), ('set_breaker', 'name', 'text', '''prov'''), ('set_breaker', 'max_failures', 'count?', '3'), ('set_breaker', 'max_failing', 'share?', '0.3'), ('set_breaker', 'window_calls', 'count?', '15'),
	('set_breaker', 'min_calls', 'count?', '7'), ('set_breaker', 'open_for', 'ttl?', '''1 min'''), ('set_breaker', 'probe_for', 'ttl?', '''1 min'''), ('set_breaker', 'slow_ms', 'count?', '800'), ('set_breaker', 'slow_calls', 'count?', '50'),
	('record_provider_balance', 'provider', 'text', '''prov'''), ('record_provider_balance', 'balance', 'signed?', '1'), ('record_provider_balance', 'currency', 'text?', '''USD'''),
	('record_provider_balance', 'checked_at', 'time?', '''2026-03-01 12:00:00+00'''), ('expire_provider_history', 'provider', 'text?', '''prov'''), ('expire_provider_history', 'max', 'boolean', '1');
SELECT is_empty($$SELECT proname, a FROM (SELECT proname, unnest(proargnames[1:pronargs]) AS a FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace
		AND has_function_privilege('tokenbill_admin', oid, 'EXECUTE') AND proname NOT LIKE 'count\_%') f
	WHERE (proname, a) NOT IN (SELECT function, argument FROM argument)
		AND (proname, a) NOT IN (('visible', 'account'), ('limit_state', 'account'), ('limit_state', 'name'), ('rotation_runs', 'pid'), ('rotation_runs', 'statement_at'), ('charge_batch', 'requests'), ('hold', 'usage'), ('capture', 'usage'), ('recharge', 'gateway'),
			('create_account', 'credit_limit'), ('create_account', 'sandbox'), ('set_account_policy', 'tokens_only'), ('set_price', 'tiers'), ('set_cost', 'tiers'), ('import_prices', 'models'), ('set_meter_function', 'covers'), ('set_meter_function', 'forgets'),
			('mask_card', 'message'), ('redact', 'message'), ('retry_after', 'headers'), ('retry_after', 'status'), ('refused_address', 'address'),
			('classify_error', 'provider'), ('classify_error', 'status'), ('classify_error', 'body'), ('classify_error', 'headers'), ('add_error_rule', 'retryable'),
			('unit_price_above', 'unit_price'), ('unit_price_above', 'tiers'), ('unit_price_above', 'above'),
			('add_provider', 'base_url'), ('add_provider', 'secret'), ('add_provider', 'secret_name'), ('add_provider', 'params'), ('add_provider', 'opening_balance'), ('add_provider', 'opening_at'), ('add_provider', 'calls_per_minute'),
			('set_provider', 'params'), ('set_provider', 'opening_balance'), ('set_provider', 'opening_at'), ('add_preset', 'description'), ('add_preset_request', 'body'), ('set_provider', 'enabled'), ('record_provider_balance', 'error'), ('set_alert_rule', 'enabled'), ('set_alert_rule', 'notify'), ('set_alert_webhook', 'enabled'),
			/* those are in oauth_client.sql, for an empty text takes a setting away; and a procedure that commits is not called here */
			('set_oauth_client', 'grant_type'), ('set_oauth_client', 'token_url'), ('set_oauth_client', 'client_id'), ('set_oauth_client', 'client_auth'), ('set_oauth_client', 'client_secret_name'), ('set_oauth_client', 'scope'), ('set_oauth_client', 'device_url'), ('set_oauth_client', 'params'), ('set_oauth_client', 'alg'), ('set_oauth_client', 'signing_key_name'), ('set_oauth_client', 'key_id'), ('set_oauth_client', 'claims'), ('set_oauth_client', 'header'), ('set_oauth_client', 'ttl'), ('set_oauth_client', 'leeway'),
			('oauth_device_login', 'provider'), ('oauth_device_login', 'wait'), ('oauth_device_login', 'user_code'), ('oauth_device_login', 'verification_uri'), ('oauth_device_login', 'verification_uri_complete'), ('oauth_device_login', 'expires_at'), ('oauth_device_login', 'state'), ('oauth_device_login', 'error'),
			('make_ledger_months', 'ahead'), ('seal_ledger_month', 'month'), ('drop_ledger_month', 'month'), ('unmap_tenant', 'login'))$$, 'no argument is forgotten');

CREATE TEMP TABLE bad (kind text, value text, sqlstate text, what text);
INSERT INTO bad VALUES
	('text', '''''', '22023', 'empty'), ('text', 'repeat(''x'', 10240)', '22023', 'of 10 KB'), ('text', 'E''a\nb''', '22023', 'with a line feed'),
	('text', 'E''\x01''', '22023', 'with a control character'), ('text', 'E''a\x7f''', '22023', 'with DEL'), ('text', 'U&''a\009Bm''', '22023', 'with a control character beyond ASCII'),
	('secret', '''''', '22023', 'empty'), ('secret', 'repeat(''x'', 8193)', '22023', 'over 8 KB'), ('secret', 'E''a\tb''', '22023', 'with a tab'), ('secret', 'E''a\r\nb''', '22023', 'with a carriage return'), ('secret', 'E''a\x7f''', '22023', 'with DEL'),
	('secret', '''4242 4242 4242 4242''', '22023', 'that is a card number'),
	('key', '''''', '22023', 'empty'), ('key', 'repeat(''x'', 10240)', '22023', 'of 10 KB'), ('key', 'repeat(''x'', 256)', '22023', 'of 256 bytes'), ('key', 'E''a\nb''', '22023', 'with a line feed'),
	('key', 'E''\x01''', '22023', 'with a control character'), ('key', '''tokenbill:x''', '22023', 'that is reserved'),
	('word', '''''', '22023', 'empty'), ('word', '''nonsense''', '22023', 'unknown'), ('word', '''REFUSE''', '22023', 'in capitals'), ('word', 'repeat(''x'', 10240)', '22023', 'of 10 KB'),
	('rule', '''''', '22023', 'empty'), ('rule', '''A''', '22023', 'in capitals'), ('rule', '''a b''', '22023', 'with a blank'), ('rule', 'repeat(''x'', 65)', '22023', 'of 65 bytes'), ('rule', '''1a''', '22023', 'that begins with a digit'),
	('conditions', '''[]''', '22023', 'an array'), ('conditions', '''"a"''', '22023', 'a text'), ('conditions', '''{"": "a"}''', '22023', 'of no place'), ('conditions', '''{"a.": 1}''', '22023', 'with a number'), ('conditions', '''{"a": []}''', '22023', 'without patterns'), ('conditions', '''{"a": [null]}''', '22023', 'with a null'),
	('conditions', '''{"a": ""}''', '22023', 'with an empty pattern'), ('conditions', '''{"a": {"b": "c"}}''', '22023', 'with an object'), ('conditions', '(''{"a": "'' || repeat(''x'', 9000) || ''"}'')::jsonb', '22023', 'of 9 KB'),
	('conditions', '(SELECT jsonb_object_agg(''a'' || i, ''b'') FROM generate_series(1, 17) i)', '22023', 'of seventeen places'),
	('day', '''-1 s''', '22023', 'negative'), ('day', '''25 hours''', '22023', 'of more than a day'), ('place', '''''', '22023', 'empty'), ('place', '''a..b''', '22023', 'with an empty step'), ('place', 'repeat(''a.'', 12) || ''a''', '22023', 'of thirteen steps'), ('place', '''a,,b''', '22023', 'with an empty path'),
	('rank', '-1', '22023', 'negative'), ('rank', '1001', '22023', 'above a thousand'),
	('part', '-0.1', '22023', 'negative'), ('part', '11', '22023', 'eleven times'), ('part', '''NaN''', '22023', 'NaN'), ('span', '''-1 min''', '22023', 'negative'), ('span', '''1000 years''', '22023', 'of a thousand years'),
	('url', '''ftp://example.org/''', '22023', 'not of HTTP'), ('url', '''''', '22023', 'empty'), ('url', 'repeat(''https://example.org/'', 1000)', '22023', 'of 20 KB'), ('url', 'E''https://example.org/\n''', '22023', 'with a line feed'), ('url', '''https://u:p@example.org/''', '22023', 'with a password'),
	('kinds', '''{}''', '22023', 'empty'), ('kinds', '''{nonsense}''', '22023', 'unknown'), ('kinds', '''{provider_low,NULL}''', '2200[2-4]|22023', 'with a null'), ('kinds', '''{{provider_low}}''', '22023', 'of two dimensions'),
	('share', '0', '22023', 'zero'), ('share', '-1', '22023', 'negative'), ('share', '1.1', '22023', 'above one'), ('share', '''NaN''', '22023', 'NaN'),
	('amount', '0', '22023', 'zero'), ('amount', '0.000', '22023', 'zero with decimals'), ('amount', '-1', '22023', 'negative'), ('amount', '-0.000000001', '22023', 'a little negative'),
	('amount', '''NaN''', '22003', 'NaN'), ('amount', '''Infinity''', '22003', 'Infinity'), ('amount', '''-Infinity''', '22003', '-Infinity'),
	('amount', '1e18', '22003', '10^18'), ('amount', 'repeat(''9'', 1000)::numeric', '22003', 'of 1000 digits'), ('amount', '(''0.'' || repeat(''1'', 1000))::numeric', '22003', 'of 1000 decimals'),
	('amount', '1e-31', '22003', 'of 31 decimals'), ('amount', '1e100000', '22003', 'of 100,000 digits'),
	('limit', '-1', '22023', 'negative'), ('limit', '''NaN''', '22003', 'NaN'), ('limit', '''Infinity''', '22003', 'Infinity'), ('limit', '1e18', '22003', '10^18'),
	('limit', 'repeat(''9'', 1000)::numeric', '22003', 'of 1000 digits'), ('limit', '1e-31', '22003', 'of 31 decimals'),
	('signed', '''NaN''', '22003', 'NaN'), ('signed', '''Infinity''', '22003', 'Infinity'), ('signed', '''-Infinity''', '22003', '-Infinity'), ('signed', '1e18', '22003', '10^18'), ('signed', '-1e18', '22003', '-10^18'),
	('signed', '1e-31', '22003', 'of 31 decimals'), ('signed', '1e100000', '22003', 'of 100,000 digits'),
	('tokens', '-1', '22023', 'negative'), ('tokens', '1000000000000000', '22003', '10^15'), ('tokens', '9223372036854775807', '22003', 'the largest bigint'),
	('catalog', '''[]''', '22023', 'an array'), ('catalog', '''{}''', '22023', 'empty'), ('catalog', '''5''', '22023', 'a number'), ('catalog_markup', '-1', '22023', 'of everything'), ('catalog_markup', '''NaN''', '22023', 'NaN'), ('catalog_markup', '0.0000001', '22023', 'of seven decimals'), ('catalog_markup', '''Infinity''', '22023', 'Infinity'),
	('usage', '''[]''', '22023', 'an array'), ('usage', '''5''', '22023', 'a number'), ('usage', '''"text"''', '22023', 'a string'), ('usage', '''null''', '22023', 'JSON null'),
	('usage', '''true''', '22023', 'a boolean'), ('usage', '''{}''', '22023', 'empty'), ('usage', '''{"input_tokens": -1}''', '22023', 'with a negative count'),
	('usage', '''{"input_tokens": 1.5}''', '22023', 'with a fractional count'), ('usage', '''{"input_tokens": 1e30}''', '22003', 'with a count of 10^30'),
	('usage', '''{"input_tokens": 1e15}''', '22003', 'with a count of 10^15'), ('usage', '''{"input_tokens": "5"}''', '22023', 'with a count that is a string'),
	('usage', '''{"input_tokens": null}''', '22023', 'with a count that is null'), ('usage', '''{"input_tokens": true}''', '22023', 'with a count that is a boolean'),
	('usage', '''{"input_tokens": {}}''', '22023', 'with a count that is an object'), ('usage', '''{"input_tokens": [1]}''', '22023', 'with a count that is an array'),
	('usage', '''{"seconds": 0.0000000001}''', '220(03|23)', 'with ten decimals'), ('usage', '''{"input_tokens": 1e100000}''', '22003', 'with a count of 100,000 digits'),
	('usage', '''{"": 1}''', '22023', 'with a meter without a name'), ('usage', '''{"tokens": 1, "": 0}''', '22023', 'with a meter without a name, not used'),
	('usage', 'jsonb_build_object(''tokens'', 1, repeat(''x'', 10240), 0)', '22023', 'with a meter of 10 KB, not used'), ('usage', '''{"tokens": 1, "a\u0001": 0}''', '22023', 'with a control character in a meter'), ('usage', 'jsonb_build_object(repeat(''x'', 10240), 1)', '22023', 'with a meter of 10 KB'),
	('usage', '(SELECT jsonb_object_agg(''m'' || i, 1) FROM generate_series(1, 10000) i)', '22023', 'with ten thousand meters'),
	('metadata', '''[]''', '22023', 'an array'), ('metadata', '''5''', '22023', 'a number'), ('metadata', '''"text"''', '22023', 'a string'), ('metadata', '''null''', '22023', 'JSON null'),
	('metadata', 'jsonb_build_object(''k'', repeat(''x'', 8300))', '22023', 'over 8 KB'), ('metadata', '(SELECT jsonb_object_agg(''k'' || i, i) FROM generate_series(1, 3000) i)', '22023', 'of many members'),
	('ttl', '''0 s''', '22023', 'zero'), ('ttl', '''-1 min''', '22023', 'negative'), ('ttl', '''1 mon -31 days''', '22023', 'a month less its days'), ('ttl', '''1000 years''', '220(03|08|23)', 'of a thousand years'),
	('ttl', '''178000000 years''', '220(03|08|23)', 'of more years than there are'),
	('time', '''infinity''', '22008', 'the end of time'), ('time', '''-infinity''', '22008', 'the beginning of time'), ('time', '''1815-06-18''', '22008', 'from another century'),
	('time', '''2100-01-01 00:00:00+00''', '22008', 'from the next century'), ('time', '''4713-01-01 BC''', '22008', 'from another era'), ('time', '''294276-12-31''', '22008', 'from the last century there is'),
	('tag', '''{}''', '22023', 'empty'), ('tag', '''[]''', '22023', 'an array'), ('tag', '''5''', '22023', 'a number'), ('tag', 'jsonb_build_object(''k'', repeat(''x'', 1100))', '22023', 'over 1 KB'),
	('priority', '-1', '22023', 'below zero'), ('priority', '1001', '22023', 'above 1000'), ('count', '0', '22023', 'zero'), ('count', '-1', '22023', 'negative'),
	('scope', '''{}''', '22023', 'empty'), ('scope', '''{NULL}''', '22023', 'with a null'), ('scope', '''{*}''', '22023', 'of all services'), ('scope', '''{{a},{b}}''', '22023', 'of two dimensions'),
	('scope', 'ARRAY['''']', '22023', 'with an empty service'), ('scope', 'ARRAY[repeat(''x'', 10240)]', '22023', 'with a service of 10 KB'), ('scope', 'array_fill(''x''::text, ARRAY[101])', '22023', 'of 101 services'),
	('scope', 'ARRAY[''4111 1111 1111 1111'']', '22023', 'with a card number'),
	('name', '''''', '22023', 'empty'), ('name', '''Mine''', '22023', 'in capitals'), ('name', 'repeat(''x'', 10240)', '22023', 'of 10 KB'),
	('keys', '''{}''', '22023', 'empty'), ('keys', '''{alphabet}''', '22023', 'with an unknown word'), ('keys', '''{oldest,NULL}''', '22023', 'with a null'), ('keys', '''{{oldest}}''', '22023', 'of two dimensions'),
	('templates', '''[]''', '22023', 'an array'), ('templates', '''{"a": 1}''', '22023', 'with a number'), ('templates', 'jsonb_build_object(''a'', E''x\ny'')', '22023', 'with a line feed'), ('sign', '0', '22023', 'zero'), ('sign', '2', '22023', 'two'),
	('role', 'NULL', '22004', 'null'), ('role', '''no such role''', '42704', 'unknown'), ('role', '''public''', '42704', 'everybody');
INSERT INTO bad SELECT DISTINCT kind, 'NULL', '22004', 'null' FROM argument WHERE kind NOT LIKE '%?' AND kind <> 'role';
INSERT INTO bad SELECT rtrim(kind, '?') || '?', value, sqlstate, what FROM bad WHERE value <> 'NULL' AND kind NOT LIKE '%?';

CREATE FUNCTION pg_temp.call(f text, changed text, value text) RETURNS text LANGUAGE sql AS $$
	SELECT format('SELECT * FROM tokenbill.%I(%s)', f, string_agg(format('%I => %s', argument, CASE WHEN argument = changed THEN value ELSE good END), ', '))
	FROM argument WHERE function = f
$$;
-- the good calls are good: or what follows would prove nothing
CREATE FUNCTION pg_temp.undone(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE EXCEPTION SQLSTATE 'TB000';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT is(pg_temp.undone(pg_temp.call(function, NULL, NULL)), CASE function WHEN 'token_result' THEN 'PT404' ELSE 'TB000' END, function || ' with good arguments')
FROM (SELECT DISTINCT function FROM argument) f ORDER BY function COLLATE "C";
SELECT pg_temp.fingerprint() AS before \gset

SELECT pg_temp.refused(pg_temp.call(function, argument, value), sqlstate, CASE kind WHEN 'role' THEN '{}' ELSE jsonb_build_object('argument', argument) END,
	format('%s: %s %s', function, argument, what))
FROM argument JOIN bad USING (kind) ORDER BY function COLLATE "C", argument COLLATE "C", what COLLATE "C";
SELECT pg_temp.refused(pg_temp.call(function, 'account', '''nobody'''), 'PT404', '{"account": "nobody"}', function || ': unknown account')
FROM argument WHERE argument = 'account' AND function NOT IN ('create_account', 'set_price', 'set_markup', 'set_discount') ORDER BY function COLLATE "C";

-- Usage of holds and captures; the meter is named
SELECT pg_temp.refused(format('SELECT tokenbill.hold(''a'', NULL, ''k'', service => ''llm'', usage => %s)', value), sqlstate, '{"argument": "usage"}', 'hold: usage ' || what)
FROM bad WHERE kind = 'usage' AND value <> 'NULL' ORDER BY what COLLATE "C";
SELECT pg_temp.refused(format('SELECT tokenbill.capture(''a'', ''h'', service => ''llm'', usage => %s)', value), sqlstate, '{"argument": "usage"}', 'capture: usage ' || what)
FROM bad WHERE kind = 'usage' AND value <> 'NULL' ORDER BY what COLLATE "C";
-- What is malformed is said before anything else, also of a key or a hold that has been used
SELECT pg_temp.refused(format('SELECT tokenbill.capture(''a'', ''done'', service => ''llm'', usage => %s)', value), sqlstate, '{"argument": "usage"}', 'capture again: usage ' || what)
FROM bad WHERE kind = 'usage' AND value <> 'NULL' ORDER BY what COLLATE "C";
SELECT pg_temp.refused(format('SELECT tokenbill.charge(''a'', ''llm'', %s, ''done 2'')', value), sqlstate, '{"argument": "usage"}', 'charge again: usage ' || what)
FROM bad WHERE kind = 'usage' AND value <> 'NULL' ORDER BY what COLLATE "C";
SELECT pg_temp.refused($$SELECT tokenbill.charge('a', 'llm', '{"input_tokens": 5, "seconds": -1}', 'k')$$, '22023', '{"argument": "usage", "meter": "seconds"}', 'the meter is named');

-- What no text and no JSON can be, PostgreSQL refuses itself
SELECT is((pg_temp.error_of(format('SELECT tokenbill.charge_amount(''a'', 1, %s)', value))).sqlstate, sqlstate, 'key ' || what) FROM (VALUES
	('E''\xff''', '22021', 'with invalid UTF-8'), ('E''\xc0\x80''', '22021', 'with an overlong NUL'), ('E''\xed\xa0\x80''', '22021', 'with a surrogate'),
	('E''a\000b''', '22021', 'with NUL'), ('chr(0)', '54000', 'with chr(0)'), ('convert_from(''\x61ff'', ''UTF8'')', '22021', 'from invalid bytes')) v(value, sqlstate, what);
SELECT is((pg_temp.error_of(format('SELECT tokenbill.charge_amount(''a'', 1, ''k'', metadata => %s)', value))).sqlstate, sqlstate, 'metadata ' || what) FROM (VALUES
	('''{"k": "\u0000"}''', '22P05', 'with NUL'), ('''{"k": "\ud800"}''', '22P02', 'with half a surrogate pair'), ('''{"k": 1''', '22P02', 'cut off')) v(value, sqlstate, what);
SELECT is((pg_temp.error_of($$SELECT tokenbill.charge_tokens('a', 'llm', 1e30::bigint, 'k')$$)).sqlstate, '22003', 'more tokens than a bigint');

-- Months beyond all calendars, and who is no tenant
SELECT pg_temp.refused(format('SELECT tokenbill.%s_ledger_month(%L)', f, d), '22008', '{"argument": "month"}', f || '_ledger_month ' || d)
FROM unnest(ARRAY['seal', 'drop']) f, unnest(ARRAY['5874897-12-31', 'infinity', '-infinity', '4713-01-01 BC']) d;
SELECT pg_temp.refused(format('SELECT tokenbill.%s_ledger_month(NULL)', f), '22004', '{"argument": "month"}', f || '_ledger_month null') FROM unnest(ARRAY['seal', 'drop']) f;
SELECT pg_temp.refused('SELECT tokenbill.unmap_tenant(NULL)', '22004', '{"argument": "login"}', 'unmap_tenant null');

-- Checks that only tokenbill calls, and names the argument to: a superuser who leaves it out crashes nothing
SELECT matches((pg_temp.error_of(statement)).sqlstate, '^(00000|22...)$', statement) FROM (VALUES
	('SELECT tokenbill.check_text(NULL, NULL, NULL)'), ('SELECT tokenbill.check_text(NULL, ''x'', NULL)'), ('SELECT tokenbill.check_amount(NULL, 0)'), ('SELECT tokenbill.check_metadata(NULL, ''[]'')'),
	('SELECT tokenbill.check_time(NULL, NULL)'), ('SELECT tokenbill.check_usage_format(NULL, ''x'')'), ('SELECT tokenbill.count_refusal(''x'')'), ('SELECT tokenbill.refuse(NULL, NULL, NULL, NULL)')) v(statement);

-- As much as is allowed
SELECT is(pg_temp.undone(statement), 'TB000', what) FROM (VALUES
	($$SELECT tokenbill.create_account(repeat('x', 128), repeat('X', 16))$$, 'the longest names of an account and a currency'),
	($$SELECT tokenbill.charge_amount('a', 0.000000000000000000000000000001, repeat('x', 255), repeat('y', 255))$$, 'the smallest amount, the longest key and service'),
	($$SELECT tokenbill.recharge('rich', 999999999999999999.999999999999999999999999999999, 'B-max')$$, 'the largest amount'),
	($$SELECT tokenbill.charge('a', 'llm', '{"input_tokens": 999999999999999, "seconds": 0.000000001, "tokens": 0}', 'k', 'debt')$$, 'the largest and the smallest count'),
	($$SELECT tokenbill.charge_amount('a', 1, 'k', metadata => jsonb_build_object('k', repeat('x', 8100)))$$, 'metadata of 8 KB'),
	($$SELECT tokenbill.charge_amount('a', 1, 'k', metadata => ('{"k": ' || repeat('[', 500) || repeat(']', 500) || '}')::jsonb)$$, 'metadata 500 deep'),
	($$SELECT tokenbill.balance_at('a', '2000-01-01 00:00:00+00')$$, 'the first moment'), ($$SELECT tokenbill.balance_at('a', '2099-12-31 23:59:59.999999+00')$$, 'and the last'),
	($$SELECT tokenbill.hold('a', 1, 'k', ttl => '1 microsecond')$$, 'the shortest hold')) v(statement, what);

-- Balances have an end
SELECT pg_temp.refused($$SELECT tokenbill.recharge('rich', 1, 'B-2'), tokenbill.recharge('rich', 999999999999999999, 'B-3')$$, '22003', '{"account": "rich"}', 'amount overflowing a balance');
SELECT is(pg_temp.fingerprint(), :'before'::jsonb, 'nothing was written');
SELECT tokenbill.recharge('rich', 999999999999999999, 'B-rich') \g /dev/null
SELECT pg_temp.refused(statement, '22003', '{"account": "rich"}', what || ' overflowing a balance') FROM (VALUES
	($$SELECT tokenbill.recharge('rich', 1, 'B-2')$$, 'a recharge'), ($$SELECT tokenbill.grant_credit('rich', 1, 'g')$$, 'a grant')) v(statement, what);
SELECT tokenbill.charge_amount('a', 999999999999990000, 'deep', on_insufficient => 'debt') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('a', 999999999999990000, 'deeper', on_insufficient => 'debt')$$, '22003', '{"account": "a"}', 'nor is a debt endless');
SELECT pg_temp.refused($$SELECT tokenbill.charge('a', 'llm', '{"seconds": 999999999999999, "tokens": 1}', 'deeper', on_insufficient => 'debt') FROM tokenbill.set_price('llm', 'seconds', 999999999999999999, valid_from => '2026-03-01 11:00:00+00')$$,
	'22003', '{}', 'a cost beyond all measure');
SELECT matches((pg_temp.error_of(statement)).sqlstate, '^22', statement) FROM (VALUES
	($$SET tokenbill.clock = 'nonsense'$$), ($$SET tokenbill.clock = 'infinity'$$), ($$SET tokenbill.idempotency_window = ''$$)) v(statement);
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
