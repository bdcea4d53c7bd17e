/*
 * What a call used, from the object its provider reports it in.  All is in C: no
 * table is read, and charge(), hold(), capture() and quote() read usage with the
 * same code.
 */
CREATE FUNCTION tokenbill.normalize_usage(usage jsonb, format text DEFAULT 'auto')
RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_normalize_usage';
COMMENT ON FUNCTION tokenbill.normalize_usage(jsonb, text) IS
'The disjoint meters of a provider''s usage object, or of a whole response. Errors: 22004 no usage, 22003 a count too large, 22023 a contradiction or an unknown shape; DETAIL names the field';

CREATE FUNCTION tokenbill.describe_usage(usage jsonb, format text DEFAULT 'auto',
	OUT format text, OUT service_tier text, OUT context_tokens numeric, OUT meters jsonb, OUT unpriced jsonb, OUT notes text[])
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_describe_usage';
COMMENT ON FUNCTION tokenbill.describe_usage(jsonb, text) IS
'How a usage object is read: the format recognized, the service tier, all input tokens, the meters, counts that no format knows, remarks. Errors: as normalize_usage()';

CREATE FUNCTION tokenbill.check_usage_format(argument text, value text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_check_usage_format';
COMMENT ON FUNCTION tokenbill.check_usage_format(text, text) IS
'Internal: the value, or an error if it is no usage format';
