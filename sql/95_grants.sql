/*
 * Nothing is granted to PUBLIC and no role may touch a table: the functions do.
 */
REVOKE ALL ON ALL ROUTINES IN SCHEMA tokenbill FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA tokenbill FROM PUBLIC;
REVOKE ALL ON TYPE tokenbill.receipt, tokenbill.recharge_receipt, tokenbill.problem, tokenbill.http_call, tokenbill.account_limit FROM PUBLIC;
REVOKE ALL ON SEQUENCE tokenbill.call_lease FROM PUBLIC;
REVOKE ALL ON DOMAIN tokenbill.account_status, tokenbill.overflow_policy, tokenbill.burn_keys FROM PUBLIC;

GRANT USAGE ON TYPE tokenbill.receipt, tokenbill.recharge_receipt TO tokenbill_app, tokenbill_billing, tokenbill_reader, tokenbill_admin;
GRANT USAGE ON TYPE tokenbill.account_limit TO tokenbill_billing;
GRANT EXECUTE ON FUNCTION tokenbill.visible(text), tokenbill.clock()
	TO tokenbill_app, tokenbill_billing, tokenbill_reader, tokenbill_admin;

/* what a usage object means depends on nothing and shows nothing */
GRANT EXECUTE ON FUNCTION tokenbill.normalize_usage(jsonb, text), tokenbill.describe_usage(jsonb, text)
	TO tokenbill_app, tokenbill_billing, tokenbill_reader;

/* the application: charges, holds, and reads what came of it */
GRANT EXECUTE ON FUNCTION
	tokenbill.charge(text, text, jsonb, text, text, jsonb, boolean),
	tokenbill.charge_tokens(text, text, bigint, text, text, jsonb, boolean),
	tokenbill.charge_amount(text, numeric, text, text, text, jsonb, boolean),
	tokenbill.charge_batch(jsonb),
	tokenbill.quote(text, text, jsonb, jsonb),
	tokenbill.hold(text, numeric, text, interval, text, jsonb, jsonb, text, boolean),
	tokenbill.extend_hold(text, text, numeric, interval, text, boolean),
	tokenbill.capture(text, text, jsonb, numeric, text, boolean, text, jsonb, boolean),
	tokenbill.release(text, text, boolean),
	tokenbill.issue_token(text, interval),
	tokenbill.token_result(text, text),
	tokenbill.explain_burn(text, numeric, text),
	tokenbill.balance_at(text, timestamptz)
TO tokenbill_app;
GRANT SELECT ON tokenbill.balances, tokenbill.statement, tokenbill.holds, tokenbill.credits, tokenbill.recharge_orders, tokenbill.prices TO tokenbill_app;

/* limits are for all who read balances; what their views call looks who asks */
GRANT SELECT ON tokenbill.spend_limits, tokenbill.rate_limits TO tokenbill_app, tokenbill_billing, tokenbill_reader;
GRANT EXECUTE ON FUNCTION tokenbill.limit_state(text, text) TO tokenbill_app, tokenbill_billing, tokenbill_reader, tokenbill_admin;

/* billing: money in, money back, prices */
GRANT EXECUTE ON FUNCTION
	tokenbill.create_account(text, text, numeric, boolean, jsonb),
	tokenbill.recharge(text, numeric, text, text, text, integer, jsonb, boolean),
	tokenbill.refund(text, text, text, numeric, text, jsonb, boolean),
	tokenbill.grant_credit(text, numeric, text, timestamptz, integer, text, jsonb, boolean, text, text[], timestamptz, numeric),
	tokenbill.explain_burn(text, numeric, text),
	tokenbill.set_price(text, text, numeric, numeric, text, timestamptz, text, text, text, text, jsonb),
	tokenbill.import_prices(jsonb, numeric, boolean, numeric, timestamptz, text[]),
	tokenbill.read_catalog(jsonb, numeric),
	tokenbill.set_cost(text, text, numeric, numeric, timestamptz, text, text, text, jsonb),
	tokenbill.set_price_group(text, text),
	tokenbill.set_meter(text, text, text, text),
	tokenbill.record_provider_balance(text, numeric, text, timestamptz, text),
	tokenbill.set_spend_limit(text, numeric, text, text, jsonb, text, text, text),
	tokenbill.set_rate_limit(text, text, numeric, text, text, jsonb, text, text, text),
	tokenbill.drop_limit(text, text),
	tokenbill.set_service(text, text, numeric),
	tokenbill.reprice(text, text, timestamptz, timestamptz, boolean),
	tokenbill.set_markup(numeric, text, text, text, timestamptz),
	tokenbill.set_discount(numeric, text, text, text, timestamptz),
	tokenbill.quote(text, text, jsonb, jsonb),
	tokenbill.balance_at(text, timestamptz)
TO tokenbill_billing;
GRANT SELECT ON tokenbill.balances, tokenbill.statement, tokenbill.holds, tokenbill.credits, tokenbill.recharge_orders, tokenbill.prices, tokenbill.catalog_fields TO tokenbill_billing;

/* masking depends on nothing and shows nothing */
GRANT EXECUTE ON FUNCTION tokenbill.mask_card(text), tokenbill.redact(text)
	TO tokenbill_app, tokenbill_billing, tokenbill_reader, tokenbill_admin;

/* what the headers of an answer say */
GRANT EXECUTE ON FUNCTION tokenbill.retry_after(jsonb, integer) TO tokenbill_app, tokenbill_admin;
GRANT EXECUTE ON FUNCTION tokenbill.refused_address(inet) TO tokenbill_admin;

/* what an answer that failed means; administrators say what others mean */
GRANT EXECUTE ON FUNCTION tokenbill.classify_error(text, integer, text, jsonb) TO tokenbill_app, tokenbill_billing, tokenbill_reader, tokenbill_admin;
GRANT EXECUTE ON FUNCTION
	tokenbill.add_error_rule(text, text, text, text, jsonb, jsonb, boolean, interval, text, integer, text),
	tokenbill.drop_error_rule(text)
TO tokenbill_admin;
GRANT SELECT ON tokenbill.error_rules TO tokenbill_reader;

/* counting what a text has touches nothing */
GRANT EXECUTE ON FUNCTION
	tokenbill.count_characters(text),
	tokenbill.count_graphemes(text),
	tokenbill.count_words(text),
	tokenbill.count_characters(jsonb, jsonb),
	tokenbill.count_graphemes(jsonb, jsonb),
	tokenbill.count_words(jsonb, jsonb),
	tokenbill.count_images(jsonb, jsonb),
	tokenbill.count_pixels(jsonb, jsonb),
	tokenbill.count_seconds(jsonb, jsonb),
	tokenbill.count_requests(jsonb, jsonb),
	tokenbill.count_sum(jsonb, jsonb)
TO tokenbill_app, tokenbill_billing;
GRANT EXECUTE ON FUNCTION tokenbill.set_meter_function(text, regprocedure, text, jsonb, text[], text[]) TO tokenbill_admin;
GRANT SELECT ON tokenbill.meter_functions TO tokenbill_billing, tokenbill_reader;

/* finance and monitoring: all views, and the proof */
GRANT SELECT ON tokenbill.balances, tokenbill.statement, tokenbill.holds, tokenbill.credits, tokenbill.recharge_orders, tokenbill.prices,
	tokenbill.burn_orders, tokenbill.usage_daily, tokenbill.trial_balance, tokenbill.provider_balances, tokenbill.provider_history, tokenbill.provider_presets, tokenbill.provider_checks, tokenbill.metrics, tokenbill.catalog_fields TO tokenbill_reader;
GRANT EXECUTE ON FUNCTION tokenbill.verify_ledger(text), tokenbill.balance_at(text, timestamptz), tokenbill.explain_burn(text, numeric, text) TO tokenbill_reader;
GRANT SELECT ON tokenbill.worker_errors, tokenbill.worker_status TO tokenbill_reader;
GRANT EXECUTE ON FUNCTION tokenbill.worker_state() TO tokenbill_reader;
GRANT EXECUTE ON FUNCTION tokenbill.metrics_text(), tokenbill.counters(), tokenbill.latency_bounds() TO tokenbill_reader;
GRANT SELECT ON tokenbill.margin_daily, tokenbill.prices_below_cost, tokenbill.suspense TO tokenbill_reader;
GRANT SELECT ON tokenbill.prices_below_cost, tokenbill.suspense TO tokenbill_billing;
GRANT EXECUTE ON FUNCTION tokenbill.unit_price_above(numeric, jsonb, numeric) TO tokenbill_billing, tokenbill_reader;

GRANT SELECT ON tokenbill.secrets, tokenbill.key_rotations TO tokenbill_admin;
GRANT EXECUTE ON PROCEDURE tokenbill.rotate_key() TO tokenbill_admin;
GRANT EXECUTE ON FUNCTION tokenbill.rotation_runs(integer, timestamptz) TO tokenbill_admin;

/* administration: the state of accounts, providers, tenants, months */
GRANT EXECUTE ON FUNCTION
	tokenbill.set_account_status(text, text),
	tokenbill.set_credit_limit(text, numeric),
	tokenbill.set_account_policy(text, text, boolean),
	tokenbill.expire_holds(text, integer),
	tokenbill.expire_credits(text, integer),
	tokenbill.set_burn_order(text, text[], text),
	tokenbill.make_ledger_month(timestamptz),
	tokenbill.make_ledger_months(integer),
	tokenbill.seal_ledger_month(date),
	tokenbill.drop_ledger_month(date),
	tokenbill.add_provider(text, text, text, text, interval, numeric, text, interval, text, jsonb, numeric, timestamptz, integer),
	tokenbill.set_provider(text, interval, numeric, boolean, text, interval, boolean, text, text, jsonb, numeric, timestamptz, integer),
	tokenbill.drop_provider(text), tokenbill.drop_provider_balance(text, text),
	tokenbill.check_provider_now(text),
	tokenbill.add_preset(text, text, text, text, text, text, text),
	tokenbill.add_preset_request(text, text, text, text, text, text, numeric, integer, text, text, text, text, text, jsonb, jsonb, text, text, text, text, text, text, numeric, numeric, jsonb, integer, text),
	tokenbill.drop_preset(text),
	tokenbill.expire_provider_history(text, integer),
	tokenbill.set_secret(text, text),
	tokenbill.drop_secret(text),
	tokenbill.map_tenant(name, text),
	tokenbill.unmap_tenant(name)
TO tokenbill_admin;

/* circuit breakers */
GRANT EXECUTE ON FUNCTION tokenbill.set_breaker(text, text, integer, numeric, integer, integer, interval, interval, integer, integer) TO tokenbill_admin;
GRANT SELECT ON tokenbill.breakers TO tokenbill_reader;

/* alerts: administrators set them up, billing says which customers' balances are low */
REVOKE ALL ON SEQUENCE tokenbill.alert_number FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	tokenbill.set_alert_rule(text, boolean, interval, numeric, interval, interval, text, boolean, interval),
	tokenbill.set_credential_expiry(text, timestamptz),
	tokenbill.evaluate_alerts(),
	tokenbill.expire_alerts(integer),
	tokenbill.add_alert_webhook(text, text, text, text[]),
	tokenbill.set_alert_webhook(text, text, text, text[], boolean),
	tokenbill.drop_alert_webhook(text)
TO tokenbill_admin;
GRANT EXECUTE ON FUNCTION tokenbill.set_low_balance(text, numeric) TO tokenbill_billing;
GRANT SELECT ON tokenbill.alerts, tokenbill.alert_rules, tokenbill.credential_expiries, tokenbill.alert_webhooks, tokenbill.alert_deliveries TO tokenbill_reader;
GRANT SELECT ON tokenbill.low_balances TO tokenbill_app, tokenbill_billing, tokenbill_reader;

/* OAuth: administrators set clients up and log in; who looks sees how it goes, but not what is to be typed in */
REVOKE ALL ON SEQUENCE tokenbill.device_grant_number FROM PUBLIC;
REVOKE ALL ON PROCEDURE tokenbill.oauth_device_login(text, interval, text, text, text, timestamptz, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	tokenbill.set_oauth_client(text, text, text, text, text, text, text, text, jsonb, text, text, text, jsonb, jsonb, interval, interval),
	tokenbill.drop_oauth_client(text),
	tokenbill.oauth_device_begin(text, boolean),
	tokenbill.oauth_refresh(text)
TO tokenbill_admin;
GRANT EXECUTE ON PROCEDURE tokenbill.oauth_device_login(text, interval, text, text, text, timestamptz, text, text) TO tokenbill_admin;
GRANT SELECT ON tokenbill.oauth_clients, tokenbill.device_grants TO tokenbill_admin;
GRANT SELECT ON tokenbill.access_tokens TO tokenbill_reader;
