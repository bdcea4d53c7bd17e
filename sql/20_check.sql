/*
 * Checks and refusals shared by the functions written in SQL.  The C functions
 * call the same code directly, so an argument is refused in the same words
 * wherever it comes in.
 */
CREATE FUNCTION tokenbill.check_text(argument text, value text, max_bytes integer) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_check_text';
COMMENT ON FUNCTION tokenbill.check_text(text, text, integer) IS
'Internal: returns value, or raises 22004 (null), 22023 (empty, too long, control character, payment card number)';

CREATE FUNCTION tokenbill.check_amount(argument text, value numeric) RETURNS numeric
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_check_amount';
COMMENT ON FUNCTION tokenbill.check_amount(text, numeric) IS
'Internal: returns value, or raises 22004 (null), 22023 (zero or negative), 22003 (NaN, infinite, 10^18 or more, more than 30 decimals)';

CREATE FUNCTION tokenbill.check_metadata(argument text, value jsonb) RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_check_metadata';
COMMENT ON FUNCTION tokenbill.check_metadata(text, jsonb) IS
'Internal: returns value (null stays null), or raises 22023 (not an object, over 8 KB, payment card number)';

CREATE FUNCTION tokenbill.check_time(argument text, value timestamptz) RETURNS timestamptz
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_check_time';
COMMENT ON FUNCTION tokenbill.check_time(text, timestamptz) IS
'Internal: returns value, or raises 22004 (null), 22008 (infinite, or outside the years 2000 to 2099)';

CREATE FUNCTION tokenbill.clock() RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tokenbill_clock';
COMMENT ON FUNCTION tokenbill.clock() IS
'The time tokenbill goes by: clock_timestamp(), or the setting tokenbill.clock while a superuser has set it for a test';

CREATE FUNCTION tokenbill.visible(account text) RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1 AS 'MODULE_PATHNAME', 'tokenbill_visible';
COMMENT ON FUNCTION tokenbill.visible(text) IS
'Whether this session may see the account: always, unless its login or current role is mapped to another one by map_tenant()';

CREATE FUNCTION tokenbill.refuse(sqlstate text, message text, detail jsonb, hint text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.count_refusal(refuse.sqlstate);
	RAISE EXCEPTION USING ERRCODE = refuse.sqlstate, MESSAGE = refuse.message,
		DETAIL = refuse.detail::pg_catalog.text, HINT = refuse.hint;
END
$function$;
COMMENT ON FUNCTION tokenbill.refuse(text, text, jsonb, text) IS
'Internal: counts the refusal and raises the error with DETAIL as JSON';

CREATE FUNCTION tokenbill.check_currency(currency text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.check_text('currency', check_currency.currency, 16);
	IF check_currency.currency !~ '^[A-Z0-9_]+$' THEN
		PERFORM tokenbill.refuse('22023', 'currency must be upper-case letters, digits or underscores',
			jsonb_build_object('argument', 'currency'), 'Use an ISO 4217 code such as USD, or a unit of your own such as CREDITS.');
	END IF;
	RETURN check_currency.currency;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_currency(text) IS 'Internal: returns the currency''s code, or raises that it is none (22004, 22023)';

/*
 * States only move forward.  The allowed moves come as trigger arguments,
 * 'from>to', so that the state diagram stands beside the table it belongs to.
 */
CREATE FUNCTION tokenbill.forward_only() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF TG_OP <> 'UPDATE' THEN
		PERFORM tokenbill.refuse('PT409', pg_catalog.format('a row of %s cannot be deleted', TG_TABLE_NAME),
			pg_catalog.jsonb_build_object('table', TG_TABLE_NAME), 'Its state may only move forward.');
	END IF;
	IF NEW.status <> OLD.status AND NOT (OLD.status || '>' || NEW.status) = ANY (TG_ARGV) THEN
		PERFORM tokenbill.refuse('PT409',
			pg_catalog.format('a row of %s cannot go from %s to %s', TG_TABLE_NAME, OLD.status, NEW.status),
			pg_catalog.jsonb_build_object('table', TG_TABLE_NAME, 'account', OLD.account, 'was', OLD.status, 'now', NEW.status),
			'States only move forward; read the present state before asking for the next one.');
	END IF;
	RETURN NEW;
END
$function$;
COMMENT ON FUNCTION tokenbill.forward_only() IS
'Trigger: refuses a status that is not reached by one of the moves in its arguments, and deleting (PT409)';
