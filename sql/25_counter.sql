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
