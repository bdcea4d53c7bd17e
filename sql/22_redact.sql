/* Masking: what is done to the server's log, for applications' own */

CREATE FUNCTION tokenbill.mask_card(message text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_mask_card';
COMMENT ON FUNCTION tokenbill.mask_card(text) IS
	'a text with the digits of payment card numbers masked, but for the last four';

CREATE FUNCTION tokenbill.redact(message text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_redact';
COMMENT ON FUNCTION tokenbill.redact(text) IS
	'a text with payment card numbers, keys, tokens and passwords masked, as the log has it';
