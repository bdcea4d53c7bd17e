/*
 * Prices from a catalog of models, as LiteLLM publishes one: an object of models,
 * each an object of fields, of which some are prices.
 *
 *	 catalog_fields		what a field means
 *	 read_catalog()		what a catalog says, price by price; changes nothing
 *	 import_prices()	what of it is new, and writes that
 *
 * A field is a name of the view, and may say more at its end: _above_200k_tokens
 * is the price beyond so long a context, _batches, _flex and _priority those of
 * service tiers.
 */
CREATE VIEW tokenbill.catalog_fields WITH (security_barrier) AS
SELECT f.field, f.mode, f.unless, f.unit, f.meter, f.units, f.per, f.tokens, f.note
FROM (VALUES
	/* tokens: a price is published for one, and kept for a million */
	('input_cost_per_token', '', NULL, 'token', 'input_tokens', 1, 1000000, 1, NULL),
	('cache_read_input_token_cost', '', NULL, 'token', 'cache_read_tokens', 1, 1000000, 1, NULL),
	('input_cost_per_token_cache_hit', '', NULL, 'token', 'cache_read_tokens', 1, 1000000, 1, NULL),
	('cache_creation_input_token_cost', '', NULL, 'token', 'cache_write_5m_tokens', 1, 1000000, 1, NULL),
	('cache_creation_input_token_cost_above_1hr', '', NULL, 'token', 'cache_write_1h_tokens', 1, 1000000, 1, NULL),
	('input_cost_per_audio_token', '', NULL, 'token', 'input_audio_tokens', 1, 1000000, 1, NULL),
	('cache_read_input_audio_token_cost', '', NULL, 'token', 'cache_read_audio_tokens', 1, 1000000, 1, NULL),
	('cache_creation_input_audio_token_cost', '', NULL, 'token', 'cache_write_audio_tokens', 1, 1000000, 1, NULL),
	('input_cost_per_image_token', '', NULL, 'token', 'input_image_tokens', 1, 1000000, 1, NULL),
	('cache_read_input_image_token_cost', '', NULL, 'token', 'cache_read_image_tokens', 1, 1000000, 1, NULL),
	('input_cost_per_video_token', '', NULL, 'token', 'input_video_tokens', 1, 1000000, 1, NULL),
	('output_cost_per_token', '', NULL, 'token', 'output_tokens', 1, 1000000, 1, NULL),
	('output_cost_per_reasoning_token', '', NULL, 'token', 'reasoning_tokens', 1, 1000000, 1, NULL),
	('output_cost_per_audio_token', '', NULL, 'token', 'output_audio_tokens', 1, 1000000, 1, NULL),
	('output_cost_per_image_token', '', NULL, 'token', 'output_image_tokens', 1, 1000000, 1, NULL),
	('output_cost_per_video_token', '', NULL, 'token', 'output_video_tokens', 1, 1000000, 1, NULL),
	('citation_cost_per_token', '', NULL, 'token', 'citation_tokens', 1, 1000000, 1, NULL),
	('computer_use_input_cost_per_1k_tokens', '', NULL, 'token', 'computer_use_input_tokens', 1000, 1000000, 1, NULL),
	('computer_use_output_cost_per_1k_tokens', '', NULL, 'token', 'computer_use_output_tokens', 1000, 1000000, 1, NULL),
	/* characters */
	('input_cost_per_character', 'audio_speech', NULL, 'character', 'characters', 1, 1000000, 1, NULL),
	('input_cost_per_character', '', NULL, 'character', 'input_characters', 1, 1000000, 1, NULL),
	('output_cost_per_character', '', NULL, 'character', 'output_characters', 1, 1000000, 1, NULL),
	/* pictures */
	('input_cost_per_image', 'image_generation', 'output_cost_per_image', 'image', 'images', 1, 1, 10000, NULL),
	('input_cost_per_image', 'image_edit', 'output_cost_per_image', 'image', 'images', 1, 1, 10000, NULL),
	('input_cost_per_image', '', NULL, 'image', 'input_images', 1, 1, 10000, NULL),
	('output_cost_per_image', '', NULL, 'image', 'images', 1, 1, 10000, NULL),
	('input_cost_per_pixel', '', 'input_cost_per_image', 'pixel', 'pixels', 1, 1000000, 1, NULL),
	('input_cost_per_pixel', '', NULL, 'pixel', NULL, 1, 1000000, 1, 'the price of an image, said once more by the pixel'),
	('output_cost_per_pixel', '', 'input_cost_per_pixel', 'pixel', 'pixels', 1, 1000000, 1, NULL),
	('output_cost_per_pixel', '', NULL, 'pixel', 'output_pixels', 1, 1000000, 1, NULL),
	/* seconds: of sound that was read or made, of video that was made, of computing */
	('input_cost_per_second', '', NULL, 'second', 'seconds', 1, 1, 1000, NULL),
	('output_cost_per_second', '', NULL, 'second', 'seconds', 1, 1, 1000, NULL),
	('output_cost_per_video_per_second', '', NULL, 'second', 'seconds', 1, 1, 1000, NULL),
	('output_cost_per_second_1080p', '', NULL, 'second', 'seconds_1080p', 1, 1, 1000, NULL),
	('input_cost_per_audio_per_second', '', NULL, 'second', 'input_audio_seconds', 1, 1, 1000, NULL),
	('input_cost_per_video_per_second', '', NULL, 'second', 'input_video_seconds', 1, 1, 1000, NULL),
	('input_cost_per_video_per_second_above_8s_interval', '', NULL, 'second', 'input_video_seconds_8s_interval', 1, 1, 1000, NULL),
	('input_cost_per_video_per_second_above_15s_interval', '', NULL, 'second', 'input_video_seconds_15s_interval', 1, 1, 1000, NULL),
	/* calls, and what is done in them */
	('input_cost_per_request', '', NULL, 'call', 'requests', 1, 1, 10000, NULL),
	('input_cost_per_query', '', NULL, 'call', 'queries', 1, 1, 10000, NULL),
	('search_context_cost_per_query.search_context_size_medium', '', NULL, 'call', 'web_searches', 1, 1, 10000, NULL),
	('search_context_cost_per_query.search_context_size_low', '', NULL, 'call', 'web_searches_low', 1, 1, 10000, NULL),
	('search_context_cost_per_query.search_context_size_high', '', NULL, 'call', 'web_searches_high', 1, 1, 10000, NULL),
	('file_search_cost_per_1k_calls', '', NULL, 'call', 'file_searches', 1000, 1000, 10000, NULL),
	('code_interpreter_cost_per_session', '', NULL, 'call', 'code_interpreter_sessions', 1, 1, 10000, NULL),
	('ocr_cost_per_page', '', NULL, 'page', 'pages', 1, 1, 10000, NULL),
	('annotation_cost_per_page', '', NULL, 'page', 'annotated_pages', 1, 1, 10000, NULL),
	('ocr_cost_per_credit', '', NULL, 'credit', 'ocr_credits', 1, 1, 10000, NULL),
	('file_search_cost_per_gb_per_day', '', NULL, 'gigabyte and day', 'file_search_gb_days', 1, 1, 10000, NULL),
	('vector_store_cost_per_gb_per_day', '', NULL, 'gigabyte and day', 'vector_store_gb_days', 1, 1, 10000, NULL),
	/* by how much a service tier costs more; meter is the tier */
	('provider_specific_entry.fast', '', NULL, 'times', 'fast', 1, 1, NULL, NULL),
	('provider_specific_entry.us', '', NULL, 'times', 'us', 1, 1, NULL, NULL),
	('provider_specific_entry.eu', '', NULL, 'times', 'eu', 1, 1, NULL, NULL),
	('regional_processing_uplift_multiplier_us', '', NULL, 'times', 'us', 1, 1, NULL, NULL),
	('regional_processing_uplift_multiplier_eu', '', NULL, 'times', 'eu', 1, 1, NULL, NULL),
	/* prices that are not in money */
	('input_dbu_cost_per_token', '', NULL, 'token', NULL, 1, 1, 1, 'in units of the provider; the price in money is beside it'),
	('output_dbu_cost_per_token', '', NULL, 'token', NULL, 1, 1, 1, 'in units of the provider; the price in money is beside it'),
	/* numbers that are no prices */
	('max_tokens', '', NULL, NULL, NULL, NULL, NULL, NULL, 'longest answer'),
	('max_input_tokens', '', NULL, NULL, NULL, NULL, NULL, NULL, 'longest context'),
	('max_output_tokens', '', NULL, NULL, NULL, NULL, NULL, NULL, 'longest answer'),
	('max_query_tokens', '', NULL, NULL, NULL, NULL, NULL, NULL, 'longest query'),
	('max_document_chunks_per_query', '', NULL, NULL, NULL, NULL, NULL, NULL, 'most documents in a query'),
	('max_tokens_per_document_chunk', '', NULL, NULL, NULL, NULL, NULL, NULL, 'longest document'),
	('max_images_per_prompt', '', NULL, NULL, NULL, NULL, NULL, NULL, 'most images in a call'),
	('max_videos_per_prompt', '', NULL, NULL, NULL, NULL, NULL, NULL, 'most videos in a call'),
	('max_video_length', '', NULL, NULL, NULL, NULL, NULL, NULL, 'longest video'),
	('max_audio_length_hours', '', NULL, NULL, NULL, NULL, NULL, NULL, 'longest sound'),
	('max_audio_per_prompt', '', NULL, NULL, NULL, NULL, NULL, NULL, 'most sounds in a call'),
	('max_pdf_size_mb', '', NULL, NULL, NULL, NULL, NULL, NULL, 'greatest document'),
	('prompt_cache_min_tokens', '', NULL, NULL, NULL, NULL, NULL, NULL, 'shortest input that is cached'),
	('output_vector_size', '', NULL, NULL, NULL, NULL, NULL, NULL, 'length of an embedding'),
	('tool_use_system_prompt_tokens', '', NULL, NULL, NULL, NULL, NULL, NULL, 'tokens that the provider counts into the input'),
	('rpm', '', NULL, NULL, NULL, NULL, NULL, NULL, 'most requests a minute'),
	('rpd', '', NULL, NULL, NULL, NULL, NULL, NULL, 'most requests a day'),
	('tpm', '', NULL, NULL, NULL, NULL, NULL, NULL, 'most tokens a minute'),
	('metadata', '', NULL, NULL, NULL, NULL, NULL, NULL, 'notes'),
	('supported_regions', '', NULL, NULL, NULL, NULL, NULL, NULL, 'where it is served')
) f (field, mode, unless, unit, meter, units, per, tokens, note);
COMMENT ON VIEW tokenbill.catalog_fields IS 'What import_prices() takes the fields of a catalog for';
COMMENT ON COLUMN tokenbill.catalog_fields.field IS 'Its name without what it says of contexts and service tiers; behind a dot, a member of it';
COMMENT ON COLUMN tokenbill.catalog_fields.mode IS 'Mode of the models of which this is told; empty: all of which no other row tells it';
COMMENT ON COLUMN tokenbill.catalog_fields.unless IS 'Another field; where a model has it, this row does not count';
COMMENT ON COLUMN tokenbill.catalog_fields.unit IS 'What is priced; times: a factor upon the prices of tokens; null: the field is no price';
COMMENT ON COLUMN tokenbill.catalog_fields.meter IS 'Meter that is priced, or service tier of the factor; null: it is not imported';
COMMENT ON COLUMN tokenbill.catalog_fields.units IS 'How many units the published price is for';
COMMENT ON COLUMN tokenbill.catalog_fields.per IS 'How many units the price is kept for';
COMMENT ON COLUMN tokenbill.catalog_fields.tokens IS 'A unit costs at most what so many tokens may cost, or the price is impossible';
COMMENT ON COLUMN tokenbill.catalog_fields.note IS 'Why it is not imported, or what it is';

CREATE FUNCTION tokenbill.check_catalog(catalog jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF check_catalog.catalog IS NULL THEN
		PERFORM tokenbill.refuse('22004', 'catalog must not be null', '{"argument": "catalog"}', 'Pass the catalog as it is published.');
	END IF;
	IF jsonb_typeof(check_catalog.catalog) <> 'object' OR check_catalog.catalog = '{}' THEN
		PERFORM tokenbill.refuse('22023', 'catalog must be an object of models', '{"argument": "catalog"}', 'Pass the catalog as it is published.');
	END IF;
	RETURN check_catalog.catalog;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_catalog(jsonb) IS 'Internal: returns catalog, or raises that it is none (22004, 22023)';

/*
 * One pass over the whole catalog, set by set: a price after the other would take
 * minutes.  Numbers stay numeric from the JSON on.
 */
CREATE FUNCTION tokenbill.read_catalog(catalog jsonb, price_cap numeric DEFAULT 1000)
RETURNS TABLE (model text, verdict text, field text, value jsonb, meter text, service_tier text, hours text,
	unit_price numeric, per numeric, mode text, tiers jsonb, note text)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 10000
SET search_path = pg_catalog, pg_temp
/* nobody can estimate what is in JSON: all joins here are of thousands of rows with thousands */
SET enable_nestloop = off
SET jit = off
AS $function$
WITH entry AS MATERIALIZED (
	SELECT e.key AS model, e.value AS entry, coalesce(e.value ->> 'mode', '') AS mode
	FROM jsonb_each(tokenbill.check_catalog(read_catalog.catalog)) e
	WHERE jsonb_typeof(e.value) = 'object' AND e.key <> 'sample_spec'
		AND tokenbill.check_amount('price_cap', read_catalog.price_cap) > 0
), member AS MATERIALIZED (
	SELECT e.model, e.mode, e.entry, m.key, m.value, jsonb_typeof(m.value) AS type
	FROM entry e, jsonb_each(e.entry) m
	WHERE jsonb_typeof(m.value) NOT IN ('boolean', 'null')
), leaf AS (
	/* above: the price is that beyond so many tokens of context; results: of so many results at most */
	SELECT m.model, m.mode, m.entry, m.key AS field, m.key AS path, m.value, 0::numeric AS above, NULL::text AS results, '' AS hours
	FROM member m
	WHERE m.type = 'number' OR m.type = 'string' AND m.key ~ 'cost|price|multiplier'
	UNION ALL
	SELECT m.model, m.mode, m.entry, m.key || '.' || i.key, m.key || '.' || i.key, i.value, 0, NULL, ''
	FROM member m, jsonb_each(CASE WHEN m.type = 'object' THEN m.value ELSE '{}' END) i
	WHERE m.key IN ('search_context_cost_per_query', 'provider_specific_entry') AND jsonb_typeof(i.value) = 'number'
	UNION ALL
	SELECT m.model, m.mode, m.entry, i.key, format('tiered_pricing[%s].%s', t.ordinality, i.key), i.value,
		CASE WHEN jsonb_typeof(t.value #> '{range,0}') = 'number' THEN (t.value #>> '{range,0}')::numeric
			WHEN jsonb_typeof(t.value #> '{max_results_range,1}') = 'number' THEN 0 END,
		CASE WHEN jsonb_typeof(t.value #> '{max_results_range,1}') = 'number' THEN t.value #>> '{max_results_range,1}' END, ''
	FROM member m, jsonb_array_elements(CASE WHEN m.type = 'array' THEN m.value ELSE '[]' END) WITH ORDINALITY t,
		jsonb_each(CASE WHEN jsonb_typeof(t.value) = 'object' THEN t.value ELSE '{}' END) i
	WHERE m.key = 'tiered_pricing' AND jsonb_typeof(i.value) = 'number'
	UNION ALL
	SELECT m.model, m.mode, m.entry, i.key, format('off_peak_pricing[%s].%s', o.ordinality, i.key), i.value, 0, NULL, coalesce(h.value #>> '{}', '?')
	FROM member m,
		jsonb_array_elements(CASE m.type WHEN 'array' THEN m.value ELSE jsonb_build_array(m.value) END) WITH ORDINALITY o,
		jsonb_array_elements(CASE jsonb_typeof(o.value -> 'hours_utc') WHEN 'array' THEN o.value -> 'hours_utc'
			ELSE jsonb_build_array(o.value -> 'hours_utc') END) h,
		jsonb_each(CASE WHEN jsonb_typeof(o.value) = 'object' THEN o.value ELSE '{}' END) i
	WHERE m.key = 'off_peak_pricing' AND jsonb_typeof(i.value) = 'number'
), name AS MATERIALIZED (
	/* there are far fewer names than fields */
	SELECT n.field, n.base, a.part[1]::numeric * CASE a.part[2] WHEN 'k' THEN 1000 WHEN 'm' THEN 1000000 ELSE 1 END AS above,
		CASE t.part[1] WHEN '_batches' THEN 'batch' WHEN '_flex' THEN 'flex' WHEN '_priority' THEN 'priority' ELSE 'standard' END AS service_tier
	FROM (SELECT d.field, regexp_replace(regexp_replace(d.field, '_above_\d{1,12}[km]?_tokens', ''), '_(batches|flex|priority)$', '') AS base
			FROM (SELECT DISTINCT l.field FROM leaf l) d) n,
		LATERAL (SELECT regexp_match(n.field, '_above_(\d{1,12})([km]?)_tokens') AS part) a,
		LATERAL (SELECT regexp_match(regexp_replace(n.field, '_above_\d{1,12}[km]?_tokens', ''), '(_batches|_flex|_priority)$') AS part) t
), meant AS (
	SELECT DISTINCT ON (l.model, l.path, l.hours)
		l.model, l.path, l.value, jsonb_typeof(l.value) AS type,
		CASE WHEN jsonb_typeof(l.value) = 'number' THEN (l.value #>> '{}')::numeric END AS price,
		coalesce(n.above, l.above) AS above, l.results, l.hours, n.service_tier,
		f.field IS NOT NULL AS known, f.unit, f.units, f.per, f.tokens, f.note,
		f.meter || coalesce('_up_to_' || l.results || '_results', '') AS meter
	FROM leaf l
	JOIN name n ON n.field = l.field
	LEFT JOIN tokenbill.catalog_fields f
		ON f.field = n.base AND (f.mode = '' OR f.mode = l.mode) AND NOT coalesce(l.entry ? f.unless, false)
	ORDER BY l.model, l.path, l.hours, f.mode DESC, f.unless NULLS LAST
), judged AS MATERIALIZED (
	SELECT j.*, j.verdict = 'price' AND bool_or(j.verdict = 'impossible') OVER (PARTITION BY j.model, j.unit) AS beside
	FROM (SELECT m.*, CASE
			WHEN NOT m.known THEN 'unknown'
			WHEN m.meter IS NULL THEN 'left out'
			WHEN m.type <> 'number' OR m.above IS NULL OR m.above < 0 OR m.above >= 1e15 OR m.meter !~ '^[a-z][a-z0-9_]{0,63}$'
				OR m.hours <> '' AND (m.hours !~ '^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$'
					OR split_part(m.hours, '-', 1) = split_part(m.hours, '-', 2)) THEN 'unknown'
			WHEN m.price < 0 THEN 'refused'
			WHEN m.price > CASE m.unit WHEN 'times' THEN 100 ELSE price_cap * m.tokens * m.units / 1000000 END THEN 'impossible'
			WHEN min_scale(m.price) > 24 OR m.unit = 'times' AND m.price = 0 THEN 'refused'
			ELSE 'price' END AS verdict
		FROM meant m
		WHERE NOT m.known OR m.unit IS NOT NULL) j
), point AS MATERIALIZED (
	/* one price of a meter from one context on; of two fields that say the same, what is not nothing */
	SELECT p.*, first_value(p.price) OVER same AS chosen, row_number() OVER same AS place
	FROM judged p
	WHERE p.verdict = 'price' AND NOT p.beside AND p.unit <> 'times'
	WINDOW same AS (PARTITION BY p.model, p.meter, p.service_tier, p.hours, p.above ORDER BY p.price = 0, p.path
		ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
), bracket AS MATERIALIZED (
	SELECT p.model, p.meter, p.service_tier, p.hours, p.above, p.path, p.unit, p.per, p.price * p.per / p.units AS price
	FROM point p
	WHERE p.place = 1
		/* three sizes of searches at one price are one meter */
		AND NOT (p.meter IN ('web_searches_low', 'web_searches_high') AND EXISTS (
			SELECT FROM point s WHERE s.model = p.model AND s.meter = 'web_searches' AND s.price = p.price))
), base AS MATERIALIZED (
	SELECT b.* FROM bracket b WHERE b.above = 0
), meter AS MATERIALIZED (
	/* what costs less than the first bracket, where nothing is said of it: the standard price, or the parent meter's */
	SELECT k.model, k.meter, k.service_tier, k.hours, k.path, k.unit, k.per, coalesce(b.price, s.price, u.price) AS price
	FROM (SELECT DISTINCT ON (b.model, b.meter, b.service_tier, b.hours) b.*
			FROM bracket b ORDER BY b.model, b.meter, b.service_tier, b.hours, b.above) k
	LEFT JOIN base b ON b.model = k.model AND b.meter = k.meter AND b.service_tier = k.service_tier AND b.hours = k.hours
	LEFT JOIN base s ON b.model IS NULL AND s.model = k.model AND s.meter = k.meter AND s.service_tier = 'standard' AND s.hours = ''
	LEFT JOIN tokenbill.meter p ON b.model IS NULL AND s.model IS NULL AND p.meter = k.meter
	LEFT JOIN base u ON u.model = k.model AND u.meter = p.parent AND u.service_tier = 'standard' AND u.hours = ''
), step AS MATERIALIZED (
	SELECT b.model, b.meter, b.service_tier, b.hours, b.above, b.path, b.price, false AS assumed
	FROM bracket b
	WHERE b.above > 0
	UNION ALL
	/* a tier or a window of which nothing is said beyond a context: never less than the standard price there */
	SELECT m.model, m.meter, m.service_tier, m.hours, s.above, m.path, greatest(m.price, s.price), true
	FROM meter m
	JOIN bracket s ON s.model = m.model AND s.meter = m.meter AND s.service_tier = 'standard' AND s.hours = '' AND s.above > 0
	WHERE (m.service_tier <> 'standard' OR m.hours <> '')
		AND NOT EXISTS (SELECT FROM bracket o WHERE o.model = m.model AND o.meter = m.meter AND o.service_tier = m.service_tier
			AND o.hours = m.hours AND o.above = s.above)
), priced AS MATERIALIZED (
	SELECT m.*, t.tiers, t.assumed
	FROM meter m
	LEFT JOIN (SELECT s.model, s.meter, s.service_tier, s.hours, bool_or(s.assumed) AS assumed, max(s.price) AS dearest, min(s.price) AS cheapest,
			jsonb_agg(jsonb_build_object('above', trim_scale(s.above), 'unit_price', trim_scale(s.price)) ORDER BY s.above) AS tiers
		FROM step s GROUP BY 1, 2, 3, 4) t
		ON t.model = m.model AND t.meter = m.meter AND t.service_tier = m.service_tier AND t.hours = m.hours
			AND (t.dearest <> m.price OR t.cheapest <> m.price)
	WHERE m.price IS NOT NULL
), factored AS (
	SELECT DISTINCT ON (p.model, p.meter, f.meter) p.model, f.path, p.meter, f.meter AS service_tier, p.price * f.price AS price, p.per,
		(SELECT jsonb_agg(jsonb_build_object('above', t.value -> 'above', 'unit_price', trim_scale((t.value ->> 'unit_price')::numeric * f.price)) ORDER BY t.ordinality)
			FROM jsonb_array_elements(p.tiers) WITH ORDINALITY t) AS tiers
	FROM judged f
	JOIN priced p ON p.model = f.model AND p.unit = 'token' AND p.service_tier = 'standard' AND p.hours = ''
	WHERE f.unit = 'times' AND f.verdict = 'price' AND NOT f.beside
	ORDER BY p.model, p.meter, f.meter, f.path
)
SELECT p.model, 'price', p.path, NULL::jsonb, p.meter, p.service_tier, p.hours, trim_scale(p.price), p.per,
	CASE WHEN p.tiers IS NULL THEN 'flat' ELSE 'cliff' END, p.tiers,
	CASE WHEN p.assumed THEN 'nothing is said of longer contexts: the standard price there, if that is more' END
FROM priced p
UNION ALL
SELECT f.model, 'price', f.path, NULL, f.meter, f.service_tier, '', trim_scale(f.price), f.per,
	CASE WHEN f.tiers IS NULL THEN 'flat' ELSE 'cliff' END, f.tiers, NULL
FROM factored f
UNION ALL
SELECT j.model, CASE WHEN j.beside THEN 'impossible' ELSE j.verdict END, j.path, j.value, j.meter, j.service_tier, j.hours, NULL, NULL, NULL, NULL,
	CASE WHEN j.beside THEN 'beside an impossible price of the same unit'
		WHEN j.verdict = 'impossible' THEN 'more than anything costs'
		WHEN j.verdict = 'refused' AND j.price < 0 THEN 'negative: stands for a price that is not known'
		WHEN j.verdict = 'refused' THEN 'not exact'
		WHEN NOT j.known THEN 'no field of that name is known'
		WHEN j.verdict = 'unknown' THEN 'not understood'
		ELSE j.note END
FROM judged j
WHERE j.verdict <> 'price' OR j.beside
UNION ALL
SELECT p.model, 'contradiction', p.path, p.value, p.meter, p.service_tier, p.hours, NULL, NULL, NULL, NULL, 'another field has another price for the same'
FROM point p
WHERE p.price <> p.chosen AND p.price <> 0
UNION ALL
SELECT m.model, 'unknown', m.path, NULL, m.meter, m.service_tier, m.hours, NULL, NULL, NULL, NULL, 'only the price beyond a context is known'
FROM meter m
WHERE m.price IS NULL
UNION ALL
/* whatever else holds a number somewhere */
SELECT m.model, 'unknown', m.key, CASE WHEN length(m.value::text) <= 200 THEN m.value END, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'no field of that name is known'
FROM member m
WHERE m.type IN ('object', 'array')
	AND NOT EXISTS (SELECT FROM tokenbill.catalog_fields f WHERE f.field = m.key)
	AND CASE m.key
		WHEN 'tiered_pricing' THEN m.type <> 'array' OR NOT EXISTS (SELECT FROM leaf l WHERE l.model = m.model AND l.path LIKE 'tiered\_pricing[%')
		WHEN 'off_peak_pricing' THEN NOT EXISTS (SELECT FROM leaf l WHERE l.model = m.model AND l.path LIKE 'off\_peak\_pricing[%')
		WHEN 'search_context_cost_per_query' THEN m.type <> 'object'
		WHEN 'provider_specific_entry' THEN m.type <> 'object'
		ELSE jsonb_path_exists(m.value, 'strict $.** ? (@.type() == "number")') END
$function$;
COMMENT ON FUNCTION tokenbill.read_catalog(jsonb, numeric) IS
'What a catalog of models as LiteLLM publishes it says: its prices, one a row, and what is impossible, refused, unknown, left out or a contradiction; changes nothing';

/* which services an import has made, to tell those that a later catalog has no more */
CREATE TABLE tokenbill.catalog_model (
	service text COLLATE "C" NOT NULL PRIMARY KEY,
	created_at timestamptz NOT NULL
);
COMMENT ON TABLE tokenbill.catalog_model IS 'Services whose prices come from a catalog';
COMMENT ON COLUMN tokenbill.catalog_model.service IS 'Name, that of the model in the catalog';
COMMENT ON COLUMN tokenbill.catalog_model.created_at IS 'When it was imported first';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.catalog_model', '');

CREATE FUNCTION tokenbill.warn_imported_below_cost(services text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_nestloop = on
AS $function$
DECLARE
	worst record;
BEGIN
	SELECT b.*, count(*) OVER () AS prices INTO worst FROM tokenbill.prices_below_cost b
	WHERE b.service = ANY (services)
	ORDER BY b.valid_from, b.service, b.meter, b.account, b.price_group, b.above LIMIT 1;
	IF FOUND THEN
		RAISE WARNING USING ERRCODE = '01000', MESSAGE = format('%s below cost after the import, such as that of %s, %s',
				CASE worst.prices WHEN 1 THEN '1 price is' ELSE worst.prices || ' prices are' END, worst.service, worst.meter),
			DETAIL = to_jsonb(worst)::text, HINT = 'tokenbill.prices_below_cost shows all there are.';
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.warn_imported_below_cost(text[]) IS 'Internal: warns of prices of these services that are below their cost';

CREATE FUNCTION tokenbill.import_prices(catalog jsonb, markup numeric DEFAULT 0, dry_run boolean DEFAULT false,
	price_cap numeric DEFAULT 1000, valid_from timestamptz DEFAULT NULL, models text[] DEFAULT NULL)
RETURNS TABLE (model text, action text, prices integer, detail jsonb)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
	since timestamptz := coalesce(import_prices.valid_from, tokenbill.clock());
	asked jsonb := tokenbill.check_catalog(import_prices.catalog);
	unfit text[] := '{}';
	name text;
	fresh jsonb;
	report jsonb;
BEGIN
	IF import_prices.markup <= -1 OR import_prices.markup > 1000 OR min_scale(import_prices.markup) > 6 OR import_prices.markup = 'NaN' THEN
		PERFORM tokenbill.refuse('22023', 'markup must be a fraction of at most 6 decimals, more than -1 and at most 1000', '{"argument": "markup"}',
			'0.2 is 20 percent on top; null leaves the prices of sale alone.');
	END IF;
	IF import_prices.dry_run IS NULL THEN
		PERFORM tokenbill.refuse('22004', 'dry_run must not be null', '{"argument": "dry_run"}', 'Pass true or false.');
	END IF;
	PERFORM tokenbill.check_amount('price_cap', import_prices.price_cap);
	PERFORM tokenbill.check_time('valid_from', since);

	IF import_prices.models IS NOT NULL THEN
		SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') INTO asked
		FROM jsonb_each(asked) e
		WHERE EXISTS (SELECT FROM unnest(import_prices.models) w
			WHERE e.key = w OR right(w, 1) = '*' AND starts_with(e.key, left(w, -1)));
	END IF;

	/* names that no charge could name; most are seen to be good without asking */
	FOR name IN SELECT k FROM jsonb_object_keys(asked) k WHERE k !~ '^[!-~]{1,255}$' OR k ~ '(\d\D*){12}' LOOP
		BEGIN
			PERFORM tokenbill.check_text('service', name, 255);
		EXCEPTION WHEN data_exception THEN
			unfit := unfit || name;
		END;
	END LOOP;

	/* two imports at once would both find the same prices missing; readers do not wait */
	IF NOT import_prices.dry_run THEN
		LOCK TABLE tokenbill.price IN SHARE ROW EXCLUSIVE MODE;
	END IF;

	/* what to write comes out with what to tell, so that a dry run holds up nobody and can be made in a read-only transaction */
	WITH said AS MATERIALIZED (
		SELECT r.* FROM tokenbill.read_catalog(asked - unfit, import_prices.price_cap) r
		WHERE asked - unfit <> '{}'
	), wanted AS MATERIALIZED (
		SELECT s.model, s.meter, s.service_tier, s.hours, d.side, s.unit_price * d.times AS unit_price, s.per, s.mode,
			CASE WHEN d.times = 1 THEN s.tiers ELSE (
				SELECT jsonb_agg(jsonb_build_object('above', t.value -> 'above', 'unit_price', trim_scale((t.value ->> 'unit_price')::numeric * d.times))
					ORDER BY t.ordinality)
				FROM jsonb_array_elements(s.tiers) WITH ORDINALITY t) END AS tiers
		FROM said s
		CROSS JOIN (VALUES ('cost', 1::numeric), ('sale', 1 + import_prices.markup)) d (side, times)
		WHERE s.verdict = 'price' AND d.times IS NOT NULL
	), present AS MATERIALIZED (
		SELECT DISTINCT ON (p.service, p.meter, p.side, p.service_tier, p.hours) p.*
		FROM tokenbill.price p
		WHERE p.account = '*' AND p.price_group = '' AND p.valid_from <= since
		ORDER BY p.service, p.meter, p.side, p.service_tier, p.hours, p.valid_from DESC
	), compared AS MATERIALIZED (
		SELECT w.*, CASE WHEN p.service IS NULL THEN 'new'
				WHEN p.unit_price * w.per = w.unit_price * p.per AND p.mode = w.mode AND p.tiers IS NOT DISTINCT FROM w.tiers
					AND (p.per = w.per OR p.tiers IS NULL) THEN 'unchanged'
				ELSE 'changed' END AS change,
			concat_ws(' ', w.side, w.meter, nullif(w.service_tier, 'standard'), nullif(w.hours, '')) AS label,
			trim_scale(p.unit_price) || '/' || trim_scale(p.per) || coalesce(' ' || p.mode || ' ' || p.tiers, '') AS was,
			trim_scale(w.unit_price) || '/' || trim_scale(w.per) || coalesce(' ' || w.mode || ' ' || w.tiers, '') AS now
		FROM wanted w
		LEFT JOIN present p ON p.service = w.model AND p.meter = w.meter AND p.side = w.side AND p.service_tier = w.service_tier AND p.hours = w.hours
	), known AS (
		SELECT DISTINCT p.service FROM present p
	), outcome AS (
		SELECT c.model, count(*) FILTER (WHERE c.change <> 'unchanged')::integer AS prices,
			bool_and(c.unit_price = 0 AND c.tiers IS NULL) AS free,
			jsonb_object_agg(c.label, jsonb_strip_nulls(jsonb_build_object('was', c.was, 'now', c.now))) FILTER (WHERE c.change <> 'unchanged') AS changes
		FROM compared c GROUP BY c.model
	), remark AS (
		SELECT s.model,
			jsonb_object_agg(s.field, s.value) FILTER (WHERE s.verdict = 'impossible') AS impossible,
			jsonb_object_agg(s.field, s.value) FILTER (WHERE s.verdict = 'refused') AS refused,
			jsonb_object_agg(s.field, coalesce(s.value, '"..."')) FILTER (WHERE s.verdict = 'unknown') AS unknown,
			jsonb_object_agg(s.field, s.value) FILTER (WHERE s.verdict = 'contradiction') AS contradictions,
			jsonb_object_agg(s.field, s.note) FILTER (WHERE s.verdict = 'left out') AS left_out,
			jsonb_object_agg(s.field, s.note) FILTER (WHERE s.verdict = 'price' AND s.note IS NOT NULL) AS assumed
		FROM said s GROUP BY s.model
	), gone AS (
		/* prices of the models of earlier catalogs that this one does not have; they stay */
		SELECT p.service AS model, jsonb_agg(DISTINCT concat_ws(' ', p.meter, nullif(p.service_tier, 'standard'), nullif(p.hours, ''))) AS meters
		FROM present p
		JOIN tokenbill.catalog_model m ON m.service = p.service
		LEFT JOIN wanted w ON w.model = p.service AND w.meter = p.meter AND w.side = p.side AND w.service_tier = p.service_tier AND w.hours = p.hours
		WHERE p.side = 'cost' AND w.model IS NULL
		GROUP BY p.service
	), told AS (
		SELECT coalesce(e.key, g.model) AS model, CASE
				WHEN e.key IS NULL THEN 'gone'
				WHEN o.prices = 0 THEN 'unchanged'
				WHEN o.model IS NOT NULL AND k.service IS NULL THEN 'new'
				WHEN o.model IS NOT NULL THEN 'changed'
				WHEN e.key = 'sample_spec' OR e.key = ANY (unfit) OR r.impossible IS NOT NULL OR r.refused IS NOT NULL THEN 'skipped'
				ELSE 'reported' END AS action,
			coalesce(o.prices, 0) AS prices,
			jsonb_strip_nulls(jsonb_build_object(
				'reason', CASE
					WHEN e.key IS NULL THEN 'the catalog does not have it any more; its prices stay'
					WHEN o.model IS NOT NULL THEN NULL
					WHEN e.key = 'sample_spec' THEN 'describes the catalog'
					WHEN e.key = ANY (unfit) THEN 'no name for a service'
					WHEN jsonb_typeof(e.value) <> 'object' THEN 'not an object'
					WHEN r.impossible IS NOT NULL OR r.refused IS NOT NULL THEN 'no price that can be'
					ELSE 'no price' END,
				'changes', CASE WHEN k.service IS NOT NULL THEN o.changes END,
				'impossible', r.impossible, 'refused', r.refused, 'contradictions', r.contradictions, 'left_out', r.left_out, 'assumed', r.assumed, 'unknown', r.unknown,
				'free', nullif(o.free, false), 'gone', CASE WHEN e.key IS NULL OR o.model IS NOT NULL THEN g.meters END)) AS detail
		FROM jsonb_each(asked) e
		FULL JOIN (SELECT g.* FROM gone g WHERE import_prices.models IS NULL OR EXISTS (SELECT FROM unnest(import_prices.models) w
				WHERE g.model = w OR right(w, 1) = '*' AND starts_with(g.model, left(w, -1)))) g ON g.model = e.key
		LEFT JOIN outcome o ON o.model = e.key
		LEFT JOIN known k ON k.service = e.key
		LEFT JOIN remark r ON r.model = e.key
	)
	SELECT (SELECT jsonb_agg(to_jsonb(c)) FROM compared c WHERE c.change <> 'unchanged'),
		(SELECT jsonb_agg(to_jsonb(t) ORDER BY t.model COLLATE "C") FROM told t)
	INTO fresh, report;

	IF NOT import_prices.dry_run THEN
		INSERT INTO tokenbill.price (service, meter, account, price_group, side, service_tier, hours, valid_from, unit_price, per, mode, tiers, created_at)
		SELECT f.model, f.meter, '*', '', f.side, f.service_tier, f.hours, since, trim_scale(f.unit_price), f.per, f.mode, f.tiers, tokenbill.clock()
		FROM jsonb_to_recordset(fresh) f (model text, meter text, side text, service_tier text, hours text, unit_price numeric, per numeric, mode text, tiers jsonb);
		INSERT INTO tokenbill.catalog_model (service, created_at)
		SELECT t.model, tokenbill.clock() FROM jsonb_to_recordset(report) t (model text, action text) WHERE t.action IN ('new', 'changed', 'unchanged')
		ON CONFLICT DO NOTHING;
		/* what the import itself sells for more than it costs needs no look, unless somebody has it for less */
		PERFORM tokenbill.warn_imported_below_cost(c.services)
		FROM (SELECT array_agg(DISTINCT f.model) AS services
			FROM jsonb_to_recordset(fresh) f (model text)
			WHERE import_prices.markup IS NULL OR import_prices.markup < 0 OR EXISTS (SELECT FROM tokenbill.markup m WHERE m.fraction < 0)
				OR EXISTS (SELECT FROM tokenbill.price p WHERE p.service = f.model AND (p.account <> '*' OR p.price_group <> ''))) c
		WHERE c.services IS NOT NULL;
	END IF;
	RETURN QUERY SELECT t.model, t.action, t.prices, t.detail
	FROM jsonb_to_recordset(report) t (model text, action text, prices integer, detail jsonb);
EXCEPTION WHEN unique_violation THEN
	PERFORM tokenbill.refuse('PT409', 'there are other prices from that moment on', jsonb_build_object('argument', 'valid_from', 'valid_from', since),
		'Prices are not changed, only followed by others: use a later valid_from.');
END
$function$;
COMMENT ON FUNCTION tokenbill.import_prices(jsonb, numeric, boolean, numeric, timestamptz, text[]) IS
'Sets costs, and with a markup prices, of all models of a catalog as LiteLLM publishes it, from valid_from (default now) on; one row a model: new, changed, unchanged, skipped, reported or gone, how many prices were written and what is to be said. With dry_run it only tells. Errors: PT409 other prices from the same moment, 22xxx';
