/*
 * What was recorded without a price, and what prices turn out to have been.
 */
CREATE FUNCTION tokenbill.reprice(account text, service text, "from" timestamptz, "to" timestamptz, dry_run boolean DEFAULT true)
RETURNS TABLE (seq bigint, idempotency_key text, service text, action text, was numeric, now numeric, cost_was numeric,
	cost_now numeric, adjustment_seq bigint, reason text)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_reprice';
COMMENT ON FUNCTION tokenbill.reprice(text, text, timestamptz, timestamptz, boolean) IS
'Prices the charges and captures of an account, of one service or (null) all, from a time to before another, anew by the prices of now for their time; returns those that cost something else and, with dry_run => false, posts adjustments. Errors: PT403 closed, PT404, 22xxx';
