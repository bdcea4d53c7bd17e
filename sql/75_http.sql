/* What is known of HTTP: how long a server wants us to wait, which addresses are not connected to */

CREATE FUNCTION tokenbill.retry_after(headers jsonb, status integer) RETURNS interval
LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_retry_after';
COMMENT ON FUNCTION tokenbill.retry_after(jsonb, integer) IS
'How long a server wants us to wait before the next request, by the headers and the status of its answer; null: they do not say. At most a day. Errors: 22023';

CREATE FUNCTION tokenbill.refused_address(address inet) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_refused_address';
COMMENT ON FUNCTION tokenbill.refused_address(inet) IS
'What kind of address this is, if it is one that the worker does not connect to while tokenbill.allow_private_addresses is off; else null';
