/*
 * Answers of upstream accounts: from bytes that anybody may have sent to amounts.
 *
 * An answer that cannot be read, says that it failed, or has no amount where the
 * preset says, is a reason in words and never a number.  Numbers go from the text
 * of the answer through jsonb into numeric.
 */
CREATE FUNCTION tokenbill.repeated_member(document text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_repeated_member';
COMMENT ON FUNCTION tokenbill.repeated_member(text) IS
'Internal: name of a member that an object of the JSON document has twice; null: there is none, or it is no JSON';

/*
 * What others say goes into rows and onto screens: a line of it, without what may
 * be a key.  Vendors repeat keys in what they say of them.
 */
CREATE FUNCTION tokenbill.short_text(said text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	line text := regexp_replace(left(short_text.said, 2000), '[\u0001-\u0020\u007f-\u009f]+', ' ', 'g') COLLATE "C";
BEGIN
	/* and what hangs on a full stop: some keys are an id and a secret, or parts in a row */
	line := regexp_replace(line, '(?=[^ ]*[0-9])[A-Za-z0-9_+/=~-]{20,}(?:\.[A-Za-z0-9_+/=~-]+)*', '***', 'g');
	line := regexp_replace(line, '\m(sk|pk|ak|xai|key|bearer|basic|token)([-_ ])[A-Za-z0-9_+/=~-]*[0-9][A-Za-z0-9_+/=~-]*', '\1\2***', 'gi');
	line := regexp_replace(line, '[0-9](?:[ -]?[0-9]){12,}', '***', 'g');
	/* what the log masks, too: passwords in addresses, keys without digits */
	RETURN nullif(left(btrim(tokenbill.redact(line)), 250), '');
END
$function$;
COMMENT ON FUNCTION tokenbill.short_text(text) IS 'Internal: at most 250 characters in one line, without what looks like a key or a card number; null: nothing was said';

CREATE FUNCTION tokenbill.parse_answer(body bytea, OUT document jsonb, OUT problem text)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	bytes bytea := parse_answer.body;
	said text;
	twice text;
BEGIN
	/* a byte order mark is none of RFC 8259, but some servers send one */
	IF substring(bytes FROM 1 FOR 3) = '\xefbbbf' THEN
		bytes := substring(bytes FROM 4);
	END IF;
	IF coalesce(length(bytes), 0) = 0 THEN
		problem := 'the answer is empty';
		RETURN;
	END IF;
	BEGIN
		said := convert_from(bytes, 'UTF8');
		document := said::jsonb;
		twice := tokenbill.repeated_member(said);
		IF twice IS NOT NULL THEN
			problem := format('the answer has a member "%s" twice in one object', coalesce(tokenbill.short_text(left(twice, 60)), ''));
		END IF;
	EXCEPTION
		WHEN character_not_in_repertoire THEN
			problem := 'the answer is not valid UTF-8';
		WHEN untranslatable_character THEN
			problem := 'the answer has a character that text cannot have here';
		WHEN invalid_text_representation THEN
			problem := 'the answer is not JSON';
		WHEN numeric_value_out_of_range THEN
			problem := 'the answer has a number beyond all bounds';
		WHEN statement_too_complex THEN
			problem := 'the answer is nested too deeply';
		WHEN program_limit_exceeded THEN
			problem := 'the answer is too large for jsonb';
	END;
	IF problem IS NOT NULL THEN
		document := NULL;
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.parse_answer(bytea) IS 'Internal: the answer as jsonb, or why it is none';

/*
 * One number of an answer.  A JSON number, or a text that is written like one:
 * no blanks, no signs of currencies, no NaN, and between thousands nothing but
 * what the preset says there is, for a comma may be what others write as a point.
 *
 * OpenAI tells costs as BSON prints a Decimal128: 34 digits, and 0E-6176 for zero
 * (openai-java and openai-kotlin, UsageCostsResponseTest).  A zero is one with any
 * exponent; of other numbers one of four digits is beyond all bounds anyway.
 */
CREATE FUNCTION tokenbill.read_number(item jsonb, path jsonpath, optional boolean, thousands text, OUT value numeric, OUT problem text)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	found jsonb[] := ARRAY(SELECT DISTINCT v FROM jsonb_path_query(read_number.item, read_number.path, '{}', true) v LIMIT 2);
	kind text := jsonb_typeof(found[1]);
	place text := replace(read_number.path::text, '"', '');
	said text := found[1] #>> '{}';
BEGIN
	IF kind = 'string' AND length(said) <= 100
	   AND read_number.thousands IS NOT NULL AND said ~ format('^-?[1-9][0-9]{0,2}([%s][0-9]{3})+(\.[0-9]+)?$', read_number.thousands) COLLATE "C" THEN
		said := replace(said, read_number.thousands, '');
	END IF;
	IF cardinality(found) = 0 THEN
		IF read_number.optional THEN
			value := 0;
		ELSE
			problem := format('%s is missing', place);
		END IF;
	ELSIF cardinality(found) > 1 THEN
		problem := format('%s is more than one value', place);
	ELSIF kind = 'null' THEN
		problem := format('%s is null', place);
	ELSIF NOT (kind = 'number' OR (kind = 'string' AND length(said) <= 100
		AND (said ~ '^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$' OR said ~ '^-?0(\.0+)?[eE][+-]?[0-9]{4}$'))) THEN
		problem := format('%s is not a number', place);
	ELSE
		value := said::numeric;
		IF value = 0 AND scale(value) > 100 THEN
			value := 0;
		ELSIF abs(value) >= 1e30 OR scale(value) > 100 THEN
			value := NULL;
			problem := format('%s is beyond all bounds', place);
		END IF;
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.read_number(jsonb, jsonpath, boolean, text) IS 'Internal: the number that the path leads to, or why there is none; what is optional and absent is 0';

/*
 * The currency of a wallet or an item.  Several words make one code: a vendor's
 * windows are told apart by type, unit and number.
 */
CREATE FUNCTION tokenbill.read_currency(item jsonb, request tokenbill.preset_request, OUT value text, OUT problem text)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	said text;
	place text := replace(read_currency.request.currency::text, '"', '');
BEGIN
	IF EXISTS (SELECT FROM jsonb_path_query(read_currency.item, read_currency.request.currency, '{}', true) v
		WHERE jsonb_typeof(v) NOT IN ('string', 'number')) THEN
		problem := format('%s is not a currency', place);
		RETURN;
	END IF;
	SELECT string_agg(w.word #>> '{}', '_' ORDER BY w.place) INTO said
	FROM jsonb_path_query(read_currency.item, read_currency.request.currency, '{}', true) WITH ORDINALITY w (word, place);
	IF said IS NULL THEN
		problem := format('%s is missing', place);
		RETURN;
	END IF;
	value := coalesce(read_currency.request.currencies ->> said, upper(said COLLATE "C"));
	IF value !~ '^[A-Z0-9_]{1,16}$' COLLATE "C" THEN
		value := NULL;
		problem := format('%s is not a currency', place);
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.read_currency(jsonb, tokenbill.preset_request) IS 'Internal: the currency that an item of an answer names, or why there is none';

/*
 * What an answer says.  amounts is an object of currencies and numbers.  Each
 * wallet has a currency of its own, for nobody says what two of one would mean;
 * items of a cost add up.  page is what fetches the next one.
 */
CREATE FUNCTION tokenbill.read_answer(request tokenbill.preset_request, currency text, document jsonb,
	OUT amounts jsonb, OUT unlimited boolean, OUT page text, OUT problem text)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	r tokenbill.preset_request := read_answer.request;
	item record;
	code text;
	amount numeric;
	subtrahend numeric := 0;
	addend numeric := 0;
	total numeric;
	items bigint := 0;
	goes_on boolean;
	found jsonb;
BEGIN
	amounts := '{}';
	unlimited := false;
	IF coalesce(jsonb_path_match(read_answer.document, r.failure, '{}', true), false)
	   OR NOT coalesce(r.require IS NULL OR jsonb_path_match(read_answer.document, r.require, '{}', true), false) THEN
		SELECT 'the answer says that it failed: ' || tokenbill.short_text(v #>> '{}') INTO problem
		FROM jsonb_path_query(read_answer.document, coalesce(r.failure_text, '$.error'), '{}', true) v
		WHERE jsonb_typeof(v) IN ('string', 'number') LIMIT 1;
		problem := coalesce(problem, 'the answer is not what a good one is');
		RETURN;
	END IF;
	IF coalesce(jsonb_path_match(read_answer.document, r.unlimited, '{}', true), false) THEN
		unlimited := true;
		RETURN;
	END IF;

	FOR item IN
		SELECT v.value, v.place FROM jsonb_path_query(read_answer.document, r.rows, '{}', true) WITH ORDINALITY v (value, place)
	LOOP
		items := item.place;
		code := read_answer.currency;
		IF r.currency IS NOT NULL THEN
			SELECT c.value, c.problem INTO code, problem FROM tokenbill.read_currency(item.value, r) c;
		END IF;
		IF problem IS NULL THEN
			SELECT n.value, n.problem INTO amount, problem FROM tokenbill.read_number(item.value, r.amount, false, r.thousands) n;
		END IF;
		IF problem IS NULL AND r.subtrahend IS NOT NULL THEN
			SELECT n.value, n.problem INTO subtrahend, problem FROM tokenbill.read_number(item.value, r.subtrahend, false, r.thousands) n;
		END IF;
		IF problem IS NULL AND r.addend IS NOT NULL THEN
			SELECT n.value, n.problem INTO addend, problem FROM tokenbill.read_number(item.value, r.addend, true, r.thousands) n;
		END IF;
		IF problem IS NULL THEN
			total := (amount * r.scale + addend * r.addend_scale - subtrahend * r.scale) * r.sign + r.plus;
			IF amounts ? code AND r.contributes <> 'cost' THEN
				problem := format('there are two amounts in %s', code);
			ELSIF abs(total) >= 1e18 OR scale(trim_scale(total)) > 60 THEN
				problem := format('%s is beyond all bounds', replace(r.amount::text, '"', ''));
			ELSE
				amounts := amounts || jsonb_build_object(code, coalesce((amounts ->> code)::numeric, 0) + total);
			END IF;
		END IF;
		IF problem IS NOT NULL THEN
			IF r.rows::text <> '$' THEN
				problem := format('%s, in item %s of %s', problem, items, replace(r.rows::text, '"', ''));
			END IF;
			RETURN;
		END IF;
	END LOOP;
	/* nothing to tell is no balance of zero; but nothing used is no cost */
	IF items = 0 AND r.contributes <> 'cost' THEN
		problem := format('there is nothing at %s', replace(r.rows::text, '"', ''));
		RETURN;
	END IF;

	IF r.next IS NOT NULL THEN
		goes_on := jsonb_path_match(read_answer.document, r.more, '{}', true);
		IF r.more IS NOT NULL AND goes_on IS NULL THEN
			problem := format('nobody can say whether %s', replace(r.more::text, '"', ''));
			RETURN;
		END IF;
		SELECT v INTO found FROM jsonb_path_query(read_answer.document, r.next, '{}', true) v LIMIT 1;
		IF coalesce(goes_on, true) AND jsonb_typeof(found) IN ('string', 'number') AND length(found #>> '{}') BETWEEN 1 AND 2000 THEN
			page := found #>> '{}';
		ELSIF goes_on OR (r.more IS NULL AND jsonb_typeof(found) <> 'null') THEN
			problem := format('there are more pages, but no way to the next at %s', replace(r.next::text, '"', ''));
		END IF;
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.read_answer(tokenbill.preset_request, text, jsonb) IS
'Internal: the amounts of an answer by currency, whether it says that there is no limit, what fetches its next page; or why it tells nothing';

/*
 * An answer of another status than 200, in words.  Where the status alone would be
 * a reason to repeat it and there is a better one not to, the code is that.
 */
CREATE FUNCTION tokenbill.http_problem(status integer, retryable boolean, code text, message text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN concat('HTTP ', http_problem.status,
		' ' || CASE WHEN NOT http_problem.retryable AND (http_problem.status IN (408, 429) OR http_problem.status >= 500) THEN http_problem.code END,
		': ' || http_problem.message);
END
$function$;
COMMENT ON FUNCTION tokenbill.http_problem(integer, boolean, text, text) IS
'Internal: an answer of another status than 200, in words: what classify() says of it';
