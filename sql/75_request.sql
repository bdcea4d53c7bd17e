/*
 * Requests: a preset's templates, filled for one provider.
 *
 * What comes from outside (parameters, the cursor of a page) is escaped as its
 * place needs it, and is never looked at for variables.  The secret is not
 * known here: {secret} stays as it is, for the worker.
 */
/* What stands for a variable, of a call that is made now. */
CREATE FUNCTION tokenbill.template_variable(name text, watched tokenbill.provider, page text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
DECLARE
	now timestamptz := tokenbill.clock();
	value text := CASE template_variable.name
		WHEN 'secret' THEN '{secret}'
		WHEN 'page' THEN template_variable.page
		WHEN 'month_start' THEN to_char(date_trunc('month', now), 'YYYY-MM-DD')
		WHEN 'start_date' THEN to_char(watched.opening_at, 'YYYY-MM-DD')
		WHEN 'start_unix' THEN trunc(extract(epoch FROM watched.opening_at))::text
		WHEN 'start_rfc3339' THEN to_char(watched.opening_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
		WHEN 'now_unix' THEN trunc(extract(epoch FROM now))::text
		WHEN 'now_rfc3339' THEN to_char(now, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
		ELSE CASE WHEN template_variable.name ~ '^today([+-][0-9]+)?$'
			THEN to_char(now::date + coalesce(substring(template_variable.name FROM '[+-][0-9]+$'), '0')::integer, 'YYYY-MM-DD')
			ELSE watched.params ->> template_variable.name END END;
BEGIN
	IF value IS NULL THEN
		PERFORM tokenbill.refuse('22023', format('there is nothing for {%s}', template_variable.name),
			jsonb_build_object('provider', watched.provider, 'variable', template_variable.name), 'Give it in params of tokenbill.set_provider().');
	END IF;
	RETURN value;
END
$function$;
COMMENT ON FUNCTION tokenbill.template_variable(text, tokenbill.provider, text) IS 'Internal: the text that takes the place of a variable, or raises that there is none (22023)';

/*
 * A template with its variables filled, each once: what comes in by one is not
 * looked at for others.  {secret} stays, for the worker.
 */
CREATE FUNCTION tokenbill.fill_template(template text, watched tokenbill.provider, page text, place text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	rest text := fill_template.template;
	result text := '';
	part text[];
	value text;
BEGIN
	LOOP
		part := regexp_match(rest, '^(.*?)\{([a-z][a-z0-9_]*(?:[+-][0-9]{1,3})?)\}(.*)$');
		IF fill_template.place = 'query' THEN
			result := result || tokenbill.percent_encode(coalesce(part[1], rest));
		ELSE
			result := result || coalesce(part[1], rest);
		END IF;
		EXIT WHEN part IS NULL;
		value := tokenbill.template_variable(part[2], watched, fill_template.page);
		result := result || CASE
			WHEN part[2] = 'secret' OR fill_template.place = 'header' THEN value
			WHEN fill_template.place = 'body' THEN substring(to_jsonb(value)::text FROM 2 FOR length(to_jsonb(value)::text) - 2)
			ELSE tokenbill.percent_encode(value) END;
		rest := part[3];
	END LOOP;
	RETURN result;
END
$function$;
COMMENT ON FUNCTION tokenbill.fill_template(text, tokenbill.provider, text, text) IS
'Internal: the template with its variables filled as befits its place: path, query, header, or body, which is JSON';

CREATE FUNCTION tokenbill.check_call(watched tokenbill.provider, request tokenbill.preset_request, lease bigint, page text) RETURNS tokenbill.http_call
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	r tokenbill.preset_request := check_call.request;
	base text := coalesce(watched.base_url, (tokenbill.find_preset(watched.preset)).base_url);
	query text;
	headers jsonb;
BEGIN
	IF base IS NULL THEN
		PERFORM tokenbill.refuse('22023', 'the provider has no base_url', jsonb_build_object('provider', watched.provider), 'Give it one with tokenbill.set_provider().');
	END IF;
	/*
	 * Sorted by name: some who sign want it so, and nobody else minds.  Without a
	 * secret, what would carry it is left out.
	 */
	SELECT string_agg(tokenbill.percent_encode(q.key) || '=' || tokenbill.fill_template(q.value, watched, check_call.page, 'query'), '&' ORDER BY q.key COLLATE "C")
	INTO query FROM jsonb_each_text(r.query) q
	WHERE (q.value !~ '\{page\}' OR check_call.page IS NOT NULL) AND (q.value !~ '\{secret\}' OR watched.secret IS NOT NULL);
	SELECT coalesce(jsonb_object_agg(h.key, tokenbill.fill_template(h.value, watched, check_call.page, 'header')), '{}')
	INTO headers FROM jsonb_each_text(r.headers) h WHERE h.value !~ '\{secret\}' OR watched.secret IS NOT NULL;
	RETURN ROW('provider', watched.provider, check_call.lease, r.method,
		base || tokenbill.fill_template(r.path, watched, check_call.page, 'path') || coalesce('?' || query, ''), headers,
		tokenbill.fill_template(r.body, watched, check_call.page, 'body'), watched.secret,
		CASE WHEN watched.secret IS NOT NULL THEN r.auth END, NULL, NULL, NULL)::tokenbill.http_call;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_call(tokenbill.provider, tokenbill.preset_request, bigint, text) IS 'Internal: a request of a preset, for this provider, now';
