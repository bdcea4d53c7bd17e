/*
 * Counters in shared memory; see src/counter.c.
 */
CREATE FUNCTION tokenbill.counters(OUT counter text, OUT label text, OUT value bigint) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 30 AS 'MODULE_PATHNAME', 'tokenbill_counters';
COMMENT ON FUNCTION tokenbill.counters() IS
'Ledger lines committed, by kind, and refusals, by SQLSTATE, in this database since the server started; no row unless the library is preloaded';

CREATE FUNCTION tokenbill.count_refusal(sqlstate text) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_count_refusal';
COMMENT ON FUNCTION tokenbill.count_refusal(text) IS 'Internal: counts a refusal that is about to be raised';

CREATE FUNCTION tokenbill.alert_marks(OUT changes bigint, OUT moves bigint) RETURNS record
LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tokenbill_alert_marks';
COMMENT ON FUNCTION tokenbill.alert_marks() IS
'Internal: two numbers that stay the same as long as nobody changes what alerts follow from, and moves a balance; null unless the library is preloaded';
