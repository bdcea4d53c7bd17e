/*
 * Presets: how a kind of upstream account is asked for its balance, as rows.
 *
 * The worker knows no vendor.  A preset says which requests to make and where in
 * their answers the amounts are, in which unit, with which sign; what makes an
 * answer with status 200 a failure; and where the next page is.  Those that came
 * with the extension are marked; a row of somebody's own with the same name goes
 * before, so that a vendor who changes an answer is no reason to wait for the
 * next version, and a name that a later version ships is no conflict.
 */
CREATE TABLE tokenbill.provider_preset (
	preset text COLLATE "C" NOT NULL,
	builtin boolean NOT NULL DEFAULT false,
	source text NOT NULL,
	base_url text,
	currency text NOT NULL,
	description text NOT NULL,
	docs text,
	vendor text COLLATE "C",
	PRIMARY KEY (preset, builtin),
	CHECK (source IN ('asked', 'derived', 'ledger', 'manual'))
);
COMMENT ON TABLE tokenbill.provider_preset IS 'Kinds of upstream accounts, and where their balances come from';
COMMENT ON COLUMN tokenbill.provider_preset.preset IS 'Its name';
COMMENT ON COLUMN tokenbill.provider_preset.builtin IS 'Came with the extension; another one of that name goes before';
COMMENT ON COLUMN tokenbill.provider_preset.source IS 'asked: it tells its balance; derived: an opening balance less what it says has been used; ledger: less what our own ledger says; manual: somebody reports it';
COMMENT ON COLUMN tokenbill.provider_preset.base_url IS 'Where it is, unless the provider says; null: the provider has to';
COMMENT ON COLUMN tokenbill.provider_preset.currency IS 'Currency or unit of amounts that come without one';
COMMENT ON COLUMN tokenbill.provider_preset.description IS 'What it is';
COMMENT ON COLUMN tokenbill.provider_preset.docs IS 'Where the vendor describes it';
COMMENT ON COLUMN tokenbill.provider_preset.vendor IS 'Whose error rules its answers go by; null: those for everybody';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.provider_preset', 'WHERE NOT builtin');

/* amount * scale + addend * addend_scale - subtrahend * scale, times sign, plus plus */
CREATE TABLE tokenbill.preset_request (
	preset text COLLATE "C" NOT NULL,
	builtin boolean NOT NULL DEFAULT false,
	step integer NOT NULL,
	contributes text NOT NULL DEFAULT 'balance',
	method text NOT NULL DEFAULT 'GET',
	path text NOT NULL,
	query jsonb NOT NULL DEFAULT '{}',
	headers jsonb NOT NULL DEFAULT '{"Authorization": "Bearer {secret}"}',
	body text,
	auth text,
	rows jsonpath NOT NULL DEFAULT '$',
	amount jsonpath NOT NULL,
	subtrahend jsonpath,
	addend jsonpath,
	addend_scale numeric NOT NULL DEFAULT 1,
	scale numeric NOT NULL DEFAULT 1,
	sign integer NOT NULL DEFAULT 1,
	plus numeric NOT NULL DEFAULT 0,
	currency jsonpath,
	currencies jsonb NOT NULL DEFAULT '{}',
	require jsonpath,
	failure jsonpath,
	failure_text jsonpath,
	unlimited jsonpath,
	more jsonpath,
	next jsonpath,
	thousands text,
	PRIMARY KEY (preset, builtin, step),
	CHECK (contributes IN ('balance', 'subtract', 'cost')),
	CHECK (sign IN (1, -1)),
	CHECK (thousands IN (',', '''', ' ', '_'))
);
COMMENT ON TABLE tokenbill.preset_request IS 'The requests of a preset, in their order, and how their answers are read';
COMMENT ON COLUMN tokenbill.preset_request.preset IS 'Name of the preset';
COMMENT ON COLUMN tokenbill.preset_request.builtin IS 'Came with the extension';
COMMENT ON COLUMN tokenbill.preset_request.step IS 'Its place in the order';
COMMENT ON COLUMN tokenbill.preset_request.contributes IS 'balance: its amounts are balances; subtract: they are taken from those of an earlier request; cost: they have been used since opening_at';
COMMENT ON COLUMN tokenbill.preset_request.method IS 'GET or POST';
COMMENT ON COLUMN tokenbill.preset_request.path IS 'Path behind the base URL, with variables in braces';
COMMENT ON COLUMN tokenbill.preset_request.query IS 'Object: name and value of query parameters, with variables; one with {page} is left out on the first page';
COMMENT ON COLUMN tokenbill.preset_request.headers IS 'Object: name and value of headers, with variables; {secret} is the secret';
COMMENT ON COLUMN tokenbill.preset_request.body IS 'What is sent, with variables; null: nothing';
COMMENT ON COLUMN tokenbill.preset_request.auth IS 'How the worker signs it; null: not';
COMMENT ON COLUMN tokenbill.preset_request.rows IS 'Where in the answer the wallets or items are';
COMMENT ON COLUMN tokenbill.preset_request.amount IS 'Where in one of them the amount is';
COMMENT ON COLUMN tokenbill.preset_request.subtrahend IS 'Where in it that is which is taken from the amount';
COMMENT ON COLUMN tokenbill.preset_request.addend IS 'Where in it that is which is added; nothing is added where it is absent';
COMMENT ON COLUMN tokenbill.preset_request.addend_scale IS 'How many units one of the addend is';
COMMENT ON COLUMN tokenbill.preset_request.scale IS 'How many units one of the amount and of the subtrahend is: 0.01 for cents';
COMMENT ON COLUMN tokenbill.preset_request.sign IS '-1: what is left is told as a negative number';
COMMENT ON COLUMN tokenbill.preset_request.plus IS 'What is added at last';
COMMENT ON COLUMN tokenbill.preset_request.currency IS 'Where in it the currency is, several words joined with _; null: the provider''s';
COMMENT ON COLUMN tokenbill.preset_request.currencies IS 'Object: what a currency of the answer is called here';
COMMENT ON COLUMN tokenbill.preset_request.require IS 'Predicate that is true of every good answer';
COMMENT ON COLUMN tokenbill.preset_request.failure IS 'Predicate that is true of an answer which is a failure though its status is 200';
COMMENT ON COLUMN tokenbill.preset_request.failure_text IS 'Where in such an answer the reason is';
COMMENT ON COLUMN tokenbill.preset_request.unlimited IS 'Predicate that is true of an answer which says that there is no limit';
COMMENT ON COLUMN tokenbill.preset_request.more IS 'Predicate that is true as long as there is another page; null: as long as next is there';
COMMENT ON COLUMN tokenbill.preset_request.next IS 'Where in an answer that is which fetches the next page, as {page}';
COMMENT ON COLUMN tokenbill.preset_request.thousands IS 'What may stand before each three digits of a number that is told as text; null: nothing';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.preset_request', 'WHERE NOT builtin');

CREATE FUNCTION tokenbill.check_preset(preset text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.check_text('preset', check_preset.preset, 64);
	IF check_preset.preset !~ '^[a-z][a-z0-9_]*$' THEN
		PERFORM tokenbill.refuse('22023', 'preset must be lower-case letters, digits and underscores', '{"argument": "preset"}',
			'Use a name such as deepseek or my_gateway.');
	END IF;
	RETURN check_preset.preset;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_preset(text) IS 'Internal: returns the name, or raises that it is none (22004, 22023)';

CREATE FUNCTION tokenbill.find_preset(preset text) RETURNS tokenbill.provider_preset
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	kind tokenbill.provider_preset;
BEGIN
	SELECT p.* INTO kind FROM tokenbill.provider_preset p WHERE p.preset = find_preset.preset ORDER BY p.builtin LIMIT 1;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT404', format('preset "%s" does not exist', find_preset.preset),
			jsonb_build_object('argument', 'preset', 'preset', find_preset.preset),
			'The view tokenbill.provider_presets has them all; tokenbill.add_preset() adds another.');
	END IF;
	RETURN kind;
END
$function$;
COMMENT ON FUNCTION tokenbill.find_preset(text) IS 'Internal: the preset of that name, one''s own before a built-in one, or raises that there is none (PT404)';

/* Everything but what RFC 3986 calls unreserved, byte by byte. */
/*
 * STABLE, though it always gives the same: what is immutable the planner works out, and
 * auto_explain would log what came out, in which no secret is known any more.
 */
CREATE FUNCTION tokenbill.percent_encode(value text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN coalesce((
		SELECT string_agg(CASE WHEN c.character ~ '^[A-Za-z0-9._~-]$' THEN c.character
			ELSE upper(regexp_replace(encode(convert_to(c.character, 'UTF8'), 'hex'), '..', '%\&', 'g')) END, '' ORDER BY c.place)
		FROM (SELECT s.character COLLATE "C" AS character, s.place
			FROM regexp_split_to_table(percent_encode.value, '') WITH ORDINALITY s (character, place)) c), '');
END
$function$;
COMMENT ON FUNCTION tokenbill.percent_encode(text) IS 'Internal: the text as a part of a URL';

/*
 * A base URL replaces scheme, host and the beginning of the path of a preset's.
 * Nothing may be in it that would be read as something else by whoever parses it
 * next, or that belongs into a secret.
 */
CREATE FUNCTION tokenbill.check_base_url(base_url text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	url text := check_base_url.base_url COLLATE "C";
BEGIN
	PERFORM tokenbill.check_text('base_url', url, 1000);
	IF url !~ '^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%!$&''()*+,;=:/-]*)?$'
	   OR coalesce(substring(url FROM '^https?://[^/]*:([0-9]+)(?:/|$)')::integer NOT BETWEEN 1 AND 65535, false) THEN
		PERFORM tokenbill.refuse('22023', 'base_url must be an https URL without user, query and fragment', '{"argument": "base_url"}',
			'Pass one such as https://api.example.com/v1; a key goes into secret.');
	END IF;
	IF url !~ '^https:' AND NOT coalesce(nullif(current_setting('tokenbill.allow_http', true), ''), 'off')::boolean THEN
		PERFORM tokenbill.refuse('22023', 'base_url must begin with https://', '{"argument": "base_url"}',
			'Whoever is on the way can read the key otherwise; where that is out of the question, set tokenbill.allow_http.');
	END IF;
	RETURN rtrim(url, '/');
END
$function$;
COMMENT ON FUNCTION tokenbill.check_base_url(text) IS 'Internal: returns the URL without a slash at its end, or raises that it is none (22004, 22023)';

/* An object of texts: of query parameters also arrays of texts. */
CREATE FUNCTION tokenbill.check_templates(argument text, value jsonb, name text) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF check_templates.value IS NULL THEN
		PERFORM tokenbill.refuse('22004', format('%s must not be null', check_templates.argument),
			jsonb_build_object('argument', check_templates.argument), 'Pass a JSON object, empty if there is nothing.');
	END IF;
	IF jsonb_typeof(check_templates.value) <> 'object' OR length(check_templates.value::text) > 8192
	   OR EXISTS (SELECT FROM jsonb_each(check_templates.value) m
			WHERE m.key !~ check_templates.name OR jsonb_typeof(m.value) <> 'string' OR m.value #>> '{}' ~ '[\u0001-\u001f\u007f]') THEN
		PERFORM tokenbill.refuse('22023', format('%s must be a JSON object of names and texts', check_templates.argument),
			jsonb_build_object('argument', check_templates.argument), 'Write {"name": "value"}, without control characters.');
	END IF;
	RETURN check_templates.value;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_templates(text, jsonb, text) IS 'Internal: returns value, or raises 22004 (null), 22023 (no object of names like name, and texts)';

/*
 * A JSON path of a preset's.  A predicate, such as one that says that an answer
 * is a failure, has to be one: of a path that only leads somewhere nobody could
 * say what is true.
 */
CREATE FUNCTION tokenbill.check_path(argument text, value text, predicate boolean) RETURNS jsonpath
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	path jsonpath;
BEGIN
	IF check_path.value IS NULL THEN
		RETURN NULL;
	END IF;
	PERFORM tokenbill.check_text(check_path.argument, check_path.value, 1000);
	BEGIN
		path := check_path.value::jsonpath;
		IF check_path.predicate THEN
			PERFORM jsonb_path_match('{}', path);
		ELSE
			PERFORM jsonb_path_query('{}', path, silent => true);
		END IF;
	EXCEPTION
		WHEN singleton_sql_json_item_required THEN
			PERFORM tokenbill.refuse('22023', format('%s must be a predicate', check_path.argument),
				jsonb_build_object('argument', check_path.argument), 'Write one such as $.success == false or exists($.error).');
		WHEN OTHERS THEN
			PERFORM tokenbill.refuse('22023', format('%s must be a JSON path', check_path.argument),
				jsonb_build_object('argument', check_path.argument, 'reason', SQLERRM), 'Write one such as $.data.balance.');
	END;
	RETURN path;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_path(text, text, boolean) IS 'Internal: returns the JSON path (null stays null), or raises that it is none, or no predicate (22023)';

CREATE FUNCTION tokenbill.add_preset(preset text, base_url text DEFAULT NULL, currency text DEFAULT 'USD', source text DEFAULT 'asked',
	description text DEFAULT '', docs text DEFAULT NULL, vendor text DEFAULT NULL)
RETURNS tokenbill.provider_preset
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	made tokenbill.provider_preset;
BEGIN
	PERFORM tokenbill.check_preset(add_preset.preset);
	PERFORM tokenbill.check_provider('*');
	IF add_preset.base_url IS NOT NULL THEN
		PERFORM tokenbill.check_base_url(add_preset.base_url);
	END IF;
	PERFORM tokenbill.check_currency(add_preset.currency);
	PERFORM tokenbill.check_text('source', add_preset.source, 16);
	IF add_preset.source NOT IN ('asked', 'derived') THEN
		PERFORM tokenbill.refuse('22023', 'source must be asked or derived', '{"argument": "source"}',
			'asked: the answers tell a balance; derived: they tell what was used, and the provider has an opening balance.');
	END IF;
	IF add_preset.description <> '' THEN
		PERFORM tokenbill.check_text('description', add_preset.description, 1000);
	END IF;
	IF add_preset.docs IS NOT NULL THEN
		PERFORM tokenbill.check_text('docs', add_preset.docs, 1000);
	END IF;
	IF add_preset.vendor IS NOT NULL THEN
		PERFORM tokenbill.check_error_rule('vendor', add_preset.vendor);
	END IF;
	INSERT INTO tokenbill.provider_preset AS p (preset, source, base_url, currency, description, docs, vendor)
	VALUES (add_preset.preset, add_preset.source, rtrim(add_preset.base_url, '/'), add_preset.currency, coalesce(add_preset.description, ''), add_preset.docs,
		add_preset.vendor)
	ON CONFLICT (preset, builtin) DO NOTHING
	RETURNING p.* INTO made;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT409', format('preset "%s" exists already', add_preset.preset),
			jsonb_build_object('preset', add_preset.preset), 'Drop it with tokenbill.drop_preset() first, or choose another name.');
	END IF;
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.add_preset(text, text, text, text, text, text, text) IS
'Adds a kind of upstream account of one''s own and returns its row; its requests follow with add_preset_request(). One of a built-in name goes before that. Errors: PT409 exists, 22xxx';

CREATE FUNCTION tokenbill.add_preset_request(preset text, path text, amount text, rows text DEFAULT '$', currency text DEFAULT NULL, subtrahend text DEFAULT NULL,
	scale numeric DEFAULT 1, sign integer DEFAULT 1, failure text DEFAULT NULL, failure_text text DEFAULT NULL, require text DEFAULT NULL,
	unlimited text DEFAULT NULL, method text DEFAULT 'GET', query jsonb DEFAULT '{}', headers jsonb DEFAULT '{"Authorization": "Bearer {secret}"}',
	body text DEFAULT NULL, auth text DEFAULT NULL, contributes text DEFAULT 'balance', more text DEFAULT NULL, next text DEFAULT NULL,
	addend text DEFAULT NULL, addend_scale numeric DEFAULT 1, plus numeric DEFAULT 0, currencies jsonb DEFAULT '{}', step integer DEFAULT NULL,
	thousands text DEFAULT NULL)
RETURNS tokenbill.preset_request
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	own tokenbill.provider_preset;
	made tokenbill.preset_request;
	place integer := add_preset_request.step;
	wrong text;
BEGIN
	PERFORM tokenbill.check_preset(add_preset_request.preset);
	PERFORM tokenbill.check_provider('*');
	SELECT p.* INTO own FROM tokenbill.provider_preset p WHERE p.preset = add_preset_request.preset AND NOT p.builtin FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT404', format('there is no preset "%s" of your own', add_preset_request.preset),
			jsonb_build_object('argument', 'preset', 'preset', add_preset_request.preset), 'Add it with tokenbill.add_preset() first.');
	END IF;
	PERFORM tokenbill.check_text('path', add_preset_request.path, 1000);
	IF add_preset_request.path !~ '^/[A-Za-z0-9._~%!$&''()*+,;=:@/{}-]*$' COLLATE "C" THEN
		PERFORM tokenbill.refuse('22023', 'path must begin with a slash and have no query', '{"argument": "path"}',
			'Write one such as /v1/teams/{team}/balance; what follows a question mark goes into query.');
	END IF;
	wrong := CASE WHEN add_preset_request.amount IS NULL THEN 'amount' WHEN add_preset_request.rows IS NULL THEN 'rows'
		WHEN add_preset_request.method IS NULL THEN 'method' WHEN add_preset_request.contributes IS NULL THEN 'contributes'
		WHEN add_preset_request.sign IS NULL THEN 'sign' END;
	IF wrong IS NOT NULL THEN
		PERFORM tokenbill.refuse('22004', format('%s must not be null', wrong), jsonb_build_object('argument', wrong), 'Leave it out for its default.');
	END IF;
	PERFORM tokenbill.check_amount('scale', add_preset_request.scale);
	PERFORM tokenbill.check_amount('addend_scale', add_preset_request.addend_scale);
	PERFORM tokenbill.check_signed('plus', add_preset_request.plus);
	PERFORM tokenbill.check_templates('query', add_preset_request.query, '^[^\u0001-\u0020\u007f]{1,100}$');
	PERFORM tokenbill.check_templates('headers', add_preset_request.headers, '^[A-Za-z0-9_-]{1,100}$');
	PERFORM tokenbill.check_templates('currencies', add_preset_request.currencies, '^.{1,100}$');
	SELECT a.argument INTO wrong
	FROM (VALUES
		(1, 'sign', add_preset_request.sign IN (1, -1)),
		(2, 'method', add_preset_request.method IN ('GET', 'POST')),
		(3, 'contributes', add_preset_request.contributes IN ('balance', 'subtract', 'cost')),
		(4, 'auth', coalesce(add_preset_request.auth ~ '^(aliyun|volcengine(:[a-z0-9-]{1,63}/[a-z0-9_-]{1,63})?|hmac_sha256)$' COLLATE "C", true)),
		(5, 'step', coalesce(add_preset_request.step BETWEEN 1 AND 100, true)),
		(6, 'thousands', coalesce(add_preset_request.thousands IN (',', '''', ' ', '_'), true))) a (place, argument, good)
	WHERE a.good IS NOT true ORDER BY a.place LIMIT 1;
	IF wrong IS NOT NULL THEN
		PERFORM tokenbill.refuse('22023', format('%s is none of those there are', wrong), jsonb_build_object('argument', wrong),
			'sign is 1 or -1; method GET or POST; contributes balance, subtract or cost; auth null, aliyun, volcengine, volcengine:REGION/SERVICE or hmac_sha256; step 1 to 100; thousands null, a comma, an apostrophe, a blank or an underscore.');
	END IF;
	IF (add_preset_request.contributes = 'cost') <> (own.source = 'derived') THEN
		PERFORM tokenbill.refuse('22023', 'only the requests of a derived preset contribute cost, and nothing else', '{"argument": "contributes"}',
			'A balance that is told comes from a preset of source asked.');
	END IF;
	IF add_preset_request.body IS NOT NULL THEN
		IF add_preset_request.body = '' OR octet_length(add_preset_request.body) > 8192 THEN
			PERFORM tokenbill.refuse('22023', 'body must have 1 to 8192 bytes', '{"argument": "body"}', 'Leave it out if nothing is sent.');
		END IF;
		IF add_preset_request.body ~ '\{secret\}' THEN
			PERFORM tokenbill.refuse('22023', 'body must not have the secret in it', '{"argument": "body"}', 'Put {secret} into a header.');
		END IF;
	END IF;
	SELECT m.value INTO wrong FROM jsonb_each_text(add_preset_request.currencies) m
	WHERE m.value !~ '^[A-Z0-9_]{1,16}$' COLLATE "C" LIMIT 1;
	IF FOUND THEN
		PERFORM tokenbill.refuse('22023', 'currencies must lead to upper-case letters, digits or underscores', '{"argument": "currencies"}',
			'Write {"what the answer says": "USD"}.');
	END IF;
	/* whoever else adds a request waits for the lock above */
	IF place IS NULL THEN
		SELECT coalesce(max(r.step), 0) + 1 INTO place FROM tokenbill.preset_request r WHERE r.preset = own.preset AND NOT r.builtin;
	END IF;
	INSERT INTO tokenbill.preset_request AS r (preset, step, contributes, method, path, query, headers, body, auth, rows, amount, subtrahend,
		addend, addend_scale, scale, sign, plus, currency, currencies, require, failure, failure_text, unlimited, more, next, thousands)
	VALUES (own.preset, place, add_preset_request.contributes, add_preset_request.method, add_preset_request.path, add_preset_request.query,
		add_preset_request.headers, add_preset_request.body, add_preset_request.auth,
		tokenbill.check_path('rows', add_preset_request.rows, false), tokenbill.check_path('amount', add_preset_request.amount, false),
		tokenbill.check_path('subtrahend', add_preset_request.subtrahend, false), tokenbill.check_path('addend', add_preset_request.addend, false),
		add_preset_request.addend_scale, add_preset_request.scale, add_preset_request.sign, add_preset_request.plus,
		tokenbill.check_path('currency', add_preset_request.currency, false), add_preset_request.currencies,
		tokenbill.check_path('require', add_preset_request.require, true), tokenbill.check_path('failure', add_preset_request.failure, true),
		tokenbill.check_path('failure_text', add_preset_request.failure_text, false), tokenbill.check_path('unlimited', add_preset_request.unlimited, true),
		tokenbill.check_path('more', add_preset_request.more, true), tokenbill.check_path('next', add_preset_request.next, false),
		add_preset_request.thousands)
	ON CONFLICT (preset, builtin, step) DO NOTHING
	RETURNING r.* INTO made;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT409', format('preset "%s" has a request %s already', own.preset, place),
			jsonb_build_object('argument', 'step', 'preset', own.preset, 'step', place), 'Leave step out to add one behind the others.');
	END IF;
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.add_preset_request(text, text, text, text, text, text, numeric, integer, text, text, text, text, text, jsonb, jsonb, text, text, text, text, text, text, numeric, numeric, jsonb, integer, text) IS
'Adds a request to a preset of one''s own, and how its answer is read, and returns its row. Errors: PT404 preset, PT409 the step is there, 22xxx';

CREATE FUNCTION tokenbill.drop_preset(preset text) RETURNS tokenbill.provider_preset
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	gone tokenbill.provider_preset;
	used_by text;
BEGIN
	PERFORM tokenbill.check_preset(drop_preset.preset);
	PERFORM tokenbill.check_provider('*');
	DELETE FROM tokenbill.provider_preset p WHERE p.preset = drop_preset.preset AND NOT p.builtin RETURNING p.* INTO gone;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT404', format('there is no preset "%s" of your own', drop_preset.preset),
			jsonb_build_object('argument', 'preset', 'preset', drop_preset.preset), 'Those that are built in stay.');
	END IF;
	DELETE FROM tokenbill.preset_request r WHERE r.preset = gone.preset AND NOT r.builtin;
	/* those of a built-in name go on with that */
	SELECT p.provider INTO used_by FROM tokenbill.provider p
	WHERE p.preset = gone.preset AND NOT EXISTS (SELECT FROM tokenbill.provider_preset o WHERE o.preset = gone.preset)
	ORDER BY p.provider LIMIT 1;
	IF FOUND THEN
		PERFORM tokenbill.refuse('PT409', format('preset "%s" is in use', gone.preset),
			jsonb_build_object('preset', gone.preset, 'provider', used_by), 'Drop its providers first.');
	END IF;
	RETURN gone;
END
$function$;
COMMENT ON FUNCTION tokenbill.drop_preset(text) IS 'Drops a preset of one''s own with its requests and returns the row it had. Errors: PT404, PT409 providers use it, 22xxx';

/*
 * Which params a provider has to give is told by the variables of its requests:
 * names in braces, but for those that are part of every call.  Other braces, such
 * as those of a body in JSON, are none.
 */
CREATE VIEW tokenbill.provider_presets WITH (security_barrier) AS
SELECT p.preset, p.source, p.base_url, p.currency, r.needs_secret,
	CASE p.source WHEN 'ledger' THEN '{services}' ELSE n.parameters END AS parameters, r.requests, p.builtin, p.description, p.docs, p.vendor
FROM tokenbill.provider_preset p
CROSS JOIN LATERAL (
	SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(q.*) OPERATOR(pg_catalog.-) '{preset,builtin}'::pg_catalog.text[]
			ORDER BY q.step USING OPERATOR(pg_catalog.<)), '[]') AS requests,
		COALESCE(pg_catalog.bool_or(q.auth IS NOT NULL
			OR pg_catalog.strpos(pg_catalog.concat_ws(' ', q.path, q.query, q.headers), '{secret}') OPERATOR(pg_catalog.>) 0), false) AS needs_secret
	FROM tokenbill.preset_request q
	WHERE q.preset OPERATOR(pg_catalog.=) p.preset AND q.builtin OPERATOR(pg_catalog.=) p.builtin
) r
CROSS JOIN LATERAL (
	SELECT COALESCE(pg_catalog.array_agg(DISTINCT m.name[1]), '{}') AS parameters
	FROM tokenbill.preset_request q
	CROSS JOIN LATERAL pg_catalog.regexp_matches(pg_catalog.concat_ws(' ', q.path, q.query, q.headers, q.body),
		'\{([a-z][a-z0-9_]*(?:[+-][0-9]{1,3})?)\}', 'g') m (name)
	WHERE q.preset OPERATOR(pg_catalog.=) p.preset AND q.builtin OPERATOR(pg_catalog.=) p.builtin
		AND m.name[1] OPERATOR(pg_catalog.!~) '^(secret|page|month_start|start_date|start_unix|start_rfc3339|now_unix|now_rfc3339|today([+-][0-9]+)?)$'
) n
WHERE tokenbill.visible('')
	AND (NOT p.builtin OR NOT EXISTS (SELECT FROM tokenbill.provider_preset o
		WHERE o.preset OPERATOR(pg_catalog.=) p.preset AND NOT o.builtin));
COMMENT ON VIEW tokenbill.provider_presets IS 'The kinds of upstream accounts there are; none for a tenant';
COMMENT ON COLUMN tokenbill.provider_presets.preset IS 'Name of the preset';
COMMENT ON COLUMN tokenbill.provider_presets.source IS 'asked, derived, ledger or manual: where a balance comes from';
COMMENT ON COLUMN tokenbill.provider_presets.base_url IS 'Where it is, unless the provider says; null: the provider has to';
COMMENT ON COLUMN tokenbill.provider_presets.currency IS 'Currency or unit of amounts that come without one';
COMMENT ON COLUMN tokenbill.provider_presets.needs_secret IS 'Whether a provider of it needs a secret';
COMMENT ON COLUMN tokenbill.provider_presets.parameters IS 'Members that the provider''s params need';
COMMENT ON COLUMN tokenbill.provider_presets.requests IS 'Its requests, in their order, and how their answers are read: arguments of add_preset_request()';
COMMENT ON COLUMN tokenbill.provider_presets.builtin IS 'Came with the extension';
COMMENT ON COLUMN tokenbill.provider_presets.description IS 'What it is';
COMMENT ON COLUMN tokenbill.provider_presets.docs IS 'Where the vendor describes it';
COMMENT ON COLUMN tokenbill.provider_presets.vendor IS 'Whose error rules its answers go by; null: those for everybody';
