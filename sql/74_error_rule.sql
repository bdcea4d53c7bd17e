/*
 * Errors: what the answer of a vendor or a gateway that failed really means.
 *
 * No code here knows a vendor.  A rule says which answers it is about, and what
 * they mean; the rules of a vendor are looked at before those that are for
 * everybody, by priority, and the first that fits decides.  Those that came with
 * the extension are marked; one of somebody's own with the same name stands in
 * its place.
 */
CREATE TABLE tokenbill.error_rule (
	rule text COLLATE "C" NOT NULL,
	builtin boolean NOT NULL DEFAULT false,
	vendor text COLLATE "C",
	priority integer NOT NULL,
	status text,
	body jsonb NOT NULL DEFAULT '{}',
	headers jsonb NOT NULL DEFAULT '{}',
	class text NOT NULL,
	retryable boolean NOT NULL,
	retry_after interval,
	wait text,
	advice text NOT NULL,
	PRIMARY KEY (rule, builtin),
	CHECK (class IN ('billing', 'rate_limit', 'auth', 'permission', 'transient', 'invalid', 'declined', 'unknown')),
	CHECK (pg_catalog.jsonb_typeof(body) OPERATOR(pg_catalog.=) 'object' AND pg_catalog.jsonb_typeof(headers) OPERATOR(pg_catalog.=) 'object')
);
COMMENT ON TABLE tokenbill.error_rule IS 'Which answers mean what';
COMMENT ON COLUMN tokenbill.error_rule.rule IS 'Its name';
COMMENT ON COLUMN tokenbill.error_rule.builtin IS 'Came with the extension; another one of that name stands in its place';
COMMENT ON COLUMN tokenbill.error_rule.vendor IS 'Whose answers; null: anybody''s';
COMMENT ON COLUMN tokenbill.error_rule.priority IS 'Smaller ones are looked at first; then those of a vendor, then one''s own';
COMMENT ON COLUMN tokenbill.error_rule.status IS 'HTTP statuses, such as 429, 5xx, 400-499 or a list of them; null: any, or none';
COMMENT ON COLUMN tokenbill.error_rule.body IS 'Object: places in the body, and what has to be there';
COMMENT ON COLUMN tokenbill.error_rule.headers IS 'Object: names of headers, and what has to be in them';
COMMENT ON COLUMN tokenbill.error_rule.class IS 'billing, rate_limit, auth, permission, transient, invalid, declined or unknown';
COMMENT ON COLUMN tokenbill.error_rule.retryable IS 'Whether the same request may be repeated';
COMMENT ON COLUMN tokenbill.error_rule.retry_after IS 'After how long, if the answer does not say';
COMMENT ON COLUMN tokenbill.error_rule.wait IS 'Places in the body where it says so; null: only the usual ones';
COMMENT ON COLUMN tokenbill.error_rule.advice IS 'What it means, and what helps, for the person on call';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.error_rule', 'WHERE NOT builtin');

CREATE FUNCTION tokenbill.forget_error_rules() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tokenbill_forget_error_rules';
COMMENT ON FUNCTION tokenbill.forget_error_rules() IS 'Trigger: has every session read the rules again';
CREATE TRIGGER forget_error_rules AFTER INSERT OR UPDATE OR DELETE ON tokenbill.error_rule
FOR EACH ROW EXECUTE FUNCTION tokenbill.forget_error_rules();
ALTER TABLE tokenbill.error_rule ENABLE ALWAYS TRIGGER forget_error_rules;

CREATE FUNCTION tokenbill.check_error_rule(argument text, name text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.check_no_tenant(check_error_rule.argument);
	PERFORM tokenbill.check_text(check_error_rule.argument, check_error_rule.name, 64);
	IF check_error_rule.name !~ '^[a-z][a-z0-9_]*$' COLLATE "C" THEN
		PERFORM tokenbill.refuse('22023', format('%s must be lower-case letters, digits and underscores', check_error_rule.argument),
			jsonb_build_object('argument', check_error_rule.argument), 'Use a name such as my_gateway_quota.');
	END IF;
	RETURN check_error_rule.name;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_error_rule(text, text) IS
'Internal: returns the name of a rule or vendor, or raises that it is none (22004, 22023), or that a tenant asks (42501)';

/*
 * An object of places and patterns: a text, or an array of them.  Its keys have to
 * be like place.
 */
CREATE FUNCTION tokenbill.check_conditions(argument text, value jsonb, place text, hint text) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF check_conditions.value IS NULL THEN
		PERFORM tokenbill.refuse('22004', format('%s must not be null', check_conditions.argument),
			jsonb_build_object('argument', check_conditions.argument), 'Pass a JSON object, empty if it makes no difference.');
	END IF;
	IF jsonb_typeof(check_conditions.value) <> 'object' OR length(check_conditions.value::text) > 8192
	   OR (SELECT count(*) FROM jsonb_object_keys(check_conditions.value)) > 16
	   OR EXISTS (SELECT FROM jsonb_each(check_conditions.value) m
			WHERE m.key !~ (check_conditions.place COLLATE "C") OR CASE jsonb_typeof(m.value)
				WHEN 'string' THEN m.value #>> '{}' = ''
				WHEN 'array' THEN m.value = '[]' OR EXISTS (SELECT FROM jsonb_array_elements(m.value) p
					WHERE jsonb_typeof(p) <> 'string' OR p #>> '{}' = '')
				ELSE true END) THEN
		PERFORM tokenbill.refuse('22023', format('%s must be a JSON object of at most 16 places and patterns', check_conditions.argument),
			jsonb_build_object('argument', check_conditions.argument), check_conditions.hint);
	END IF;
	RETURN check_conditions.value;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_conditions(text, jsonb, text, text) IS
'Internal: returns value, or raises 22004 (null), 22023 (no object of places like place, and patterns)';

/* What an answer of that class means where a rule says no more. */
CREATE FUNCTION tokenbill.class_advice(class text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE class
	WHEN 'billing' THEN 'Our account there has to be paid for first: add credit, or raise the limit on spending. Repeating the request does not help.'
	WHEN 'rate_limit' THEN 'Too many requests at once: repeat it after the wait, and send fewer.'
	WHEN 'auth' THEN 'The key or token is not accepted: see whether it is the right one, and still valid.'
	WHEN 'permission' THEN 'The key is known, but may not do this: see which rights it has.'
	WHEN 'transient' THEN 'Something there failed for a moment: repeat the request with the same idempotency key.'
	WHEN 'invalid' THEN 'The request cannot be granted as it is: whoever sends it has to change it.'
	WHEN 'declined' THEN 'The payment was declined: the customer has to pay in another way.'
	ELSE 'Nothing is known of this answer: read its message, and add a rule with tokenbill.add_error_rule().' END;
COMMENT ON FUNCTION tokenbill.class_advice(text) IS 'Internal: the sentence for the person on call, for a class of errors';

CREATE FUNCTION tokenbill.add_error_rule(rule text, class text, vendor text DEFAULT NULL, status text DEFAULT NULL, body jsonb DEFAULT '{}',
	headers jsonb DEFAULT '{}', retryable boolean DEFAULT NULL, retry_after interval DEFAULT NULL, wait text DEFAULT NULL,
	priority integer DEFAULT 50, advice text DEFAULT NULL)
RETURNS tokenbill.error_rule
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	/* steps of a path: names with *, or $ for a body that is no JSON; several paths between commas */
	paths text := '^(\$|[^.,$]+(\.[^.,]+){0,11})(, ?(\$|[^.,$]+(\.[^.,]+){0,11}))*$';
	made tokenbill.error_rule;
BEGIN
	PERFORM tokenbill.check_error_rule('rule', add_error_rule.rule);
	PERFORM tokenbill.check_text('class', add_error_rule.class, 16);
	IF add_error_rule.class NOT IN ('billing', 'rate_limit', 'auth', 'permission', 'transient', 'invalid', 'declined', 'unknown') THEN
		PERFORM tokenbill.refuse('22023', 'class is none of those there are', '{"argument": "class"}',
			'It is billing, rate_limit, auth, permission, transient, invalid, declined or unknown.');
	END IF;
	IF add_error_rule.vendor IS NOT NULL THEN
		PERFORM tokenbill.check_error_rule('vendor', add_error_rule.vendor);
	END IF;
	IF add_error_rule.status IS NOT NULL THEN
		PERFORM tokenbill.check_text('status', add_error_rule.status, 200);
		IF add_error_rule.status !~ '^(0|[1-9][0-9x][0-9x]|[1-9][0-9]{2}-[1-9][0-9]{2})(, ?(0|[1-9][0-9x][0-9x]|[1-9][0-9]{2}-[1-9][0-9]{2}))*$' COLLATE "C" THEN
			PERFORM tokenbill.refuse('22023', 'status must be a list of HTTP statuses', '{"argument": "status"}',
				'Write one such as 429, 5xx or 400-404, or several with commas between them.');
		END IF;
		IF EXISTS (SELECT FROM regexp_matches(add_error_rule.status, '([0-9]{3})-([0-9]{3})', 'g') m (bounds) WHERE m.bounds[1] > m.bounds[2] COLLATE "C") THEN
			PERFORM tokenbill.refuse('22023', 'status must not be a range that ends before it begins', '{"argument": "status"}',
				'Write the smaller one first: 400-404.');
		END IF;
	END IF;
	PERFORM tokenbill.check_conditions('body', add_error_rule.body, paths,
		'Write {"error.code,error.type": ["insufficient_*", "no_credit"]}: what may be in these places, * for any characters, ! before what must not.');
	PERFORM tokenbill.check_conditions('headers', add_error_rule.headers, '^[A-Za-z0-9_*-]{1,100}$',
		'Write {"x-error": "quota*"}: what may be in these headers, * for any characters, ! before what must not.');
	IF add_error_rule.status IS NULL AND add_error_rule.body = '{}' AND add_error_rule.headers = '{}' THEN
		PERFORM tokenbill.refuse('22023', 'a rule must say which answers it is about', '{"argument": "body"}',
			'Pass status, body or headers.');
	END IF;
	IF add_error_rule.retry_after IS NOT NULL THEN
		PERFORM tokenbill.check_span('retry_after', add_error_rule.retry_after, '0 seconds', '1 day');
	END IF;
	IF add_error_rule.wait IS NOT NULL THEN
		PERFORM tokenbill.check_text('wait', add_error_rule.wait, 1000);
		IF add_error_rule.wait !~ paths COLLATE "C" THEN
			PERFORM tokenbill.refuse('22023', 'wait must be places in the body', '{"argument": "wait"}', 'Write one such as error.retry_in.');
		END IF;
	END IF;
	IF add_error_rule.priority IS NULL THEN
		PERFORM tokenbill.refuse('22004', 'priority must not be null', '{"argument": "priority"}', 'Leave it out for its default.');
	END IF;
	IF add_error_rule.priority NOT BETWEEN 0 AND 1000 THEN
		PERFORM tokenbill.refuse('22023', 'priority must be between 0 and 1000', '{"argument": "priority"}', 'Those that came with the extension have 90 to 900.');
	END IF;
	IF add_error_rule.advice IS NOT NULL THEN
		PERFORM tokenbill.check_text('advice', add_error_rule.advice, 500);
	END IF;
	INSERT INTO tokenbill.error_rule AS r (rule, vendor, priority, status, body, headers, class, retryable, retry_after, wait, advice)
	VALUES (add_error_rule.rule, add_error_rule.vendor, add_error_rule.priority, add_error_rule.status, add_error_rule.body, add_error_rule.headers,
		add_error_rule.class, coalesce(add_error_rule.retryable, add_error_rule.class IN ('rate_limit', 'transient')), add_error_rule.retry_after,
		add_error_rule.wait, coalesce(add_error_rule.advice, tokenbill.class_advice(add_error_rule.class)))
	ON CONFLICT (rule, builtin) DO NOTHING
	RETURNING r.* INTO made;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT409', format('rule "%s" exists already', add_error_rule.rule),
			jsonb_build_object('rule', add_error_rule.rule), 'Drop it with tokenbill.drop_error_rule() first, or choose another name.');
	END IF;
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.add_error_rule(text, text, text, text, jsonb, jsonb, boolean, interval, text, integer, text) IS
'Adds a rule of one''s own for what answers mean, and returns its row; one of a built-in name stands in its place. Errors: PT409 exists, 22xxx';

CREATE FUNCTION tokenbill.drop_error_rule(rule text) RETURNS tokenbill.error_rule
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	gone tokenbill.error_rule;
BEGIN
	PERFORM tokenbill.check_error_rule('rule', drop_error_rule.rule);
	DELETE FROM tokenbill.error_rule r WHERE r.rule = drop_error_rule.rule AND NOT r.builtin RETURNING r.* INTO gone;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT404', format('there is no rule "%s" of your own', drop_error_rule.rule),
			jsonb_build_object('argument', 'rule', 'rule', drop_error_rule.rule), 'Those that are built in stay; one of yours with the same name stands in their place.');
	END IF;
	RETURN gone;
END
$function$;
COMMENT ON FUNCTION tokenbill.drop_error_rule(text) IS
'Drops a rule of one''s own and returns the row it had; a built-in one of that name counts again. Errors: PT404, 22xxx';

/* The order here is that in which they are looked at. */
CREATE VIEW tokenbill.error_rules WITH (security_barrier) AS
SELECT r.rule, r.builtin, r.vendor, r.priority, r.status, r.body, r.headers, r.class, r.retryable, r.retry_after, r.wait, r.advice
FROM tokenbill.error_rule r
WHERE tokenbill.visible('')
	AND (NOT r.builtin OR NOT EXISTS (SELECT FROM tokenbill.error_rule o
		WHERE o.rule OPERATOR(pg_catalog.=) r.rule AND NOT o.builtin))
ORDER BY r.priority, r.vendor IS NULL, r.builtin, r.rule;
COMMENT ON VIEW tokenbill.error_rules IS 'The rules for what answers mean, in the order in which they are looked at; none for a tenant';
COMMENT ON COLUMN tokenbill.error_rules.rule IS 'Its name';
COMMENT ON COLUMN tokenbill.error_rules.builtin IS 'Whether it came with the extension';
COMMENT ON COLUMN tokenbill.error_rules.vendor IS 'Whose answers; null: anybody''s';
COMMENT ON COLUMN tokenbill.error_rules.priority IS 'Smaller ones are looked at first; then those of a vendor, then one''s own';
COMMENT ON COLUMN tokenbill.error_rules.status IS 'HTTP statuses; null: any, or none';
COMMENT ON COLUMN tokenbill.error_rules.body IS 'Object: places in the body, and what has to be there';
COMMENT ON COLUMN tokenbill.error_rules.headers IS 'Object: names of headers, and what has to be in them';
COMMENT ON COLUMN tokenbill.error_rules.class IS 'billing, rate_limit, auth, permission, transient, invalid, declined or unknown';
COMMENT ON COLUMN tokenbill.error_rules.retryable IS 'Whether the same request may be repeated';
COMMENT ON COLUMN tokenbill.error_rules.retry_after IS 'After how long, if the answer does not say';
COMMENT ON COLUMN tokenbill.error_rules.wait IS 'Places in the body where it says so; null: only the usual ones';
COMMENT ON COLUMN tokenbill.error_rules.advice IS 'What it means, and what helps, for the person on call';

CREATE FUNCTION tokenbill.match_error(vendor text, status integer, body bytea, headers jsonb,
	OUT rule text, OUT class text, OUT retryable boolean, OUT retry_after interval, OUT advice text,
	OUT code text, OUT message text, OUT wait interval)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_match_error';
COMMENT ON FUNCTION tokenbill.match_error(text, integer, bytea, jsonb) IS
'Internal: which rule an answer goes by, and what it says of itself, as it says it; no error, whatever it is';

CREATE FUNCTION tokenbill.text_bytes(said text) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_text_bytes';
COMMENT ON FUNCTION tokenbill.text_bytes(text) IS 'Internal: the text in UTF-8, what has no place in it left out; no error, whatever it is';

/*
 * What an answer means.  What it says of itself is shown, but no key in it.  A
 * wait is only told with what may be repeated: whoever looked only at that would
 * repeat what has to be paid for first.  Headers by which a vendor says itself
 * whether to try again (Stripe's, and the one that OpenAI's and Anthropic's
 * clients go by) outrank the rule, but none makes anybody repeat what is not a
 * matter of time.
 */
CREATE FUNCTION tokenbill.classify(vendor text, status integer, body bytea, headers jsonb,
	OUT class text, OUT retryable boolean, OUT retry_after interval, OUT advice text, OUT code text, OUT message text, OUT rule text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	said record;
	wish text;
BEGIN
	SELECT m.* INTO said FROM tokenbill.match_error(classify.vendor, classify.status, classify.body, classify.headers) m;
	code := tokenbill.short_text(said.code);
	message := tokenbill.short_text(said.message);
	IF said.rule IS NULL THEN
		class := 'unknown';
		retryable := false;
		advice := CASE WHEN classify.status BETWEEN 200 AND 299 THEN 'This answer says nothing of an error that is known.'
			ELSE tokenbill.class_advice('unknown') END;
		RETURN;
	END IF;
	rule := said.rule;
	class := said.class;
	retryable := said.retryable;
	advice := said.advice;
	IF jsonb_typeof(classify.headers) = 'object' THEN
		SELECT lower(btrim(CASE jsonb_typeof(h.value) WHEN 'array' THEN h.value ->> 0 ELSE h.value #>> '{}' END)) INTO wish
		FROM jsonb_each(classify.headers) h
		WHERE lower(h.key) IN ('stripe-should-retry', 'x-should-retry') LIMIT 1;
		retryable := CASE wish WHEN 'false' THEN false
			WHEN 'true' THEN retryable OR class IN ('rate_limit', 'transient') ELSE retryable END;
	END IF;
	IF retryable THEN
		retry_after := coalesce(said.wait, said.retry_after);
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.classify(text, integer, bytea, jsonb) IS
'Internal: what the answer of a vendor means; no error, whatever it is';

CREATE FUNCTION tokenbill.vendor_of(provider text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	found text;
BEGIN
	/* providers belong to no account, so to no tenant: for one, a name is that of a vendor */
	IF tokenbill.visible('') THEN
		SELECT p.vendor INTO found
		FROM tokenbill.provider_preset p
		WHERE p.preset = coalesce((SELECT w.preset FROM tokenbill.provider w WHERE w.provider = vendor_of.provider), vendor_of.provider)
		ORDER BY p.builtin LIMIT 1;
	END IF;
	RETURN coalesce(found, lower(vendor_of.provider COLLATE "C"));
END
$function$;
COMMENT ON FUNCTION tokenbill.vendor_of(text) IS
'Internal: the vendor of a provider, or of a preset, by that name; else the name itself, which may be a vendor''s';

CREATE FUNCTION tokenbill.classify_error(provider text, status integer, body text, headers jsonb DEFAULT NULL,
	OUT class text, OUT retryable boolean, OUT retry_after interval, OUT advice text, OUT code text, OUT message text, OUT rule text, OUT vendor text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
	vendor := tokenbill.vendor_of(classify_error.provider);
	SELECT c.class, c.retryable, c.retry_after, c.advice, c.code, c.message, c.rule
	INTO class, retryable, retry_after, advice, code, message, rule
	FROM tokenbill.classify(vendor, classify_error.status, tokenbill.text_bytes(classify_error.body), classify_error.headers) c;
	IF NOT EXISTS (SELECT FROM tokenbill.error_rule r WHERE r.vendor = classify_error.vendor) THEN
		vendor := NULL;
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.classify_error(text, integer, text, jsonb) IS
'What an answer of a provider or vendor that failed means: its class, whether and after how long to repeat the request, a sentence for the person on call, the code and message it has, and the rule that says so. No error, whatever the answer is';
