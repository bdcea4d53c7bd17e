-- Usage objects that are refused: every count of every format spoilt in every way, what is absent, unknown, too deep or too large
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(251);

-- A rich object of each format; each is read
CREATE TEMP TABLE rich (format text, u jsonb);
INSERT INTO rich VALUES
	('meters', '{"input_tokens": 5, "images": 2, "web_searches": 3}'),
	('openai_chat', '{"prompt_tokens": 900, "completion_tokens": 800, "total_tokens": 1700, "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 50, "text_tokens": 500, "audio_tokens": 100, "image_tokens": 200, "video_tokens": 50},
		"completion_tokens_details": {"reasoning_tokens": 60, "text_tokens": 100, "audio_tokens": 70, "image_tokens": 80, "video_tokens": 5, "accepted_prediction_tokens": 4, "rejected_prediction_tokens": 3}}'),
	('openai_responses', '{"input_tokens": 900, "output_tokens": 800, "total_tokens": 1700, "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 20}, "output_tokens_details": {"reasoning_tokens": 60}}'),
	('openai_realtime', '{"input_tokens": 900, "output_tokens": 800, "total_tokens": 1700, "input_token_details": {"text_tokens": 500, "audio_tokens": 300, "image_tokens": 100, "cached_tokens": 60, "cached_tokens_details": {"text_tokens": 10, "audio_tokens": 20, "image_tokens": 30}},
		"output_token_details": {"text_tokens": 100, "audio_tokens": 700}}'),
	('openai_images', '{"input_tokens": 900, "output_tokens": 800, "total_tokens": 1700, "input_tokens_details": {"text_tokens": 500, "image_tokens": 400}, "output_tokens_details": {"text_tokens": 500, "image_tokens": 300}}'),
	('openai_transcription', '{"type": "tokens", "input_tokens": 900, "output_tokens": 800, "total_tokens": 1700, "input_token_details": {"text_tokens": 100, "audio_tokens": 800}}'),
	('openai_embeddings', '{"prompt_tokens": 900, "total_tokens": 900}'),
	('deepseek', '{"prompt_tokens": 900, "completion_tokens": 800, "total_tokens": 1700, "prompt_cache_hit_tokens": 500, "prompt_cache_miss_tokens": 400}'),
	('openrouter', '{"prompt_tokens": 900, "completion_tokens": 800, "total_tokens": 1700, "is_byok": false, "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 50}, "server_tool_use": {"web_search_requests": 3}}'),
	('anthropic_openai', '{"prompt_tokens": 900, "completion_tokens": 800, "total_tokens": 1700, "cached_tokens": 500}'),
	('anthropic', '{"input_tokens": 900, "output_tokens": 800, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 70, "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 40}, "output_tokens_details": {"thinking_tokens": 100},
		"server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 2, "code_execution_requests": 3}}'),
	('openrouter_anthropic', '{"input_tokens": 900, "output_tokens": 800, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 70, "is_byok": false}'),
	('gemini', '{"promptTokenCount": 900, "cachedContentTokenCount": 100, "candidatesTokenCount": 500, "thoughtsTokenCount": 200, "toolUsePromptTokenCount": 100, "totalTokenCount": 1700, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 800}, {"modality": "AUDIO", "tokenCount": 100}],
		"cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 60}], "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 300}], "toolUsePromptTokensDetails": [{"modality": "VIDEO", "tokenCount": 70}]}');
SELECT is(d.format, r.format, r.format || ' is read') FROM rich r, tokenbill.describe_usage(r.u) d;

-- Every number in them, by its path, as an error writes it
CREATE TEMP TABLE leaf AS WITH RECURSIVE w(format, path, shown, v) AS (
	SELECT format, '{}'::text[], '', u FROM rich
	UNION ALL
	SELECT w.format, w.path || m.key, CASE WHEN m.key ~ '^[0-9]' THEN format('%s[%s]', w.shown, m.key) ELSE concat_ws('.', nullif(w.shown, ''), m.key) END, m.value
	FROM w, LATERAL (SELECT * FROM jsonb_each(CASE jsonb_typeof(w.v) WHEN 'object' THEN w.v ELSE '{}' END)
		UNION ALL SELECT (ordinality - 1)::text, value FROM jsonb_array_elements(CASE jsonb_typeof(w.v) WHEN 'array' THEN w.v ELSE '[]' END) WITH ORDINALITY) m)
SELECT format, path, shown FROM w WHERE jsonb_typeof(v) = 'number';
SELECT cmp_ok(count(*), '>', 70::bigint, 'there are many counts') FROM leaf;

CREATE FUNCTION pg_temp.ends(u jsonb, format text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	e record;
BEGIN
	SELECT * INTO e FROM pg_temp.error_of(format('SELECT tokenbill.normalize_usage(%L, %L)', u, format));
	RETURN concat_ws(' ', e.sqlstate, e.detail ->> 'argument', e.detail ->> 'field');
END $$;
SELECT is(array_agg(pg_temp.ends(jsonb_set(u, path, value), r.format) ORDER BY shown), array_agg(format('%s usage %s', sqlstate, shown) ORDER BY shown), format('%s: a count that is %s', r.format, what))
FROM rich r JOIN leaf USING (format), (VALUES
	(1, '-1'::jsonb, '22023', 'negative'), (2, '-0.5', '22023', 'negative and fractional'), (3, '1.5', '22023', 'fractional'), (4, '0.0000000001', '22023', 'hardly anything'), (5, '1e30', '22003', '10^30'), (6, '1000000000000000', '22003', '10^15'),
	(7, '"5"', '22023', 'a string'), (8, 'true', '22023', 'a boolean'), (9, '[]', '22023', 'an array'), (10, '{}', '22023', 'an object'), (11, '[{"tokens": 5}]', '22023', 'an array of objects')) v(n, value, sqlstate, what)
-- an unknown member is no count when it is none
WHERE NOT (shown = 'server_tool_use.code_execution_requests' AND n BETWEEN 7 AND 11)
GROUP BY r.format, n, what ORDER BY r.format COLLATE "C", n;
SELECT is(array_agg(DISTINCT left(pg_temp.ends(jsonb_set(u, path, to_jsonb((u #>> path)::numeric + 100000)), r.format), 11)), '{"22023 usage"}', r.format || ': no count can grow for itself')
FROM rich r JOIN leaf USING (format) WHERE r.format NOT IN ('meters', 'anthropic', 'openrouter_anthropic') AND shown !~ '^server_tool_use' GROUP BY r.format ORDER BY r.format COLLATE "C";
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"type": "duration", "seconds": 0.0000000001}')$$, '22003', '{"field": "seconds"}', 'a fraction of a nanosecond');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"type": "duration", "seconds": "9"}')$$, '22023', '{"field": "seconds"}', 'seconds in a string');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"type": "duration", "seconds": 9, "input_tokens": 1, "output_tokens": 1}')$$, '22023', '{"field": "seconds"}', 'seconds and tokens');

-- A contradiction says between what
SELECT pg_temp.refused(format('SELECT tokenbill.normalize_usage(%L)', u), '22023', detail || '{"argument": "usage"}', what) FROM (VALUES
	('{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 16}', '{"field": "total_tokens", "count": 16, "expected": 15, "format": "openai_chat"}'::jsonb, 'a total too large'),
	('{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 14}', '{"field": "total_tokens", "count": 14, "expected": 15}', 'a total too small'),
	('{"prompt_tokens": 10, "total_tokens": 15}', '{"field": "total_tokens", "format": "openai_embeddings"}', 'a completion that is not told'),
	('{"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 11}}', '{"field": "prompt_tokens_details.cached_tokens", "count": 11, "of": "prompt_tokens", "total": 10}', 'more cached than prompted'),
	('{"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 5}}', '{"field": "prompt_tokens_details.cache_write_tokens", "count": 5, "of": "prompt_tokens", "total": 4}', 'cached and written, more than prompted'),
	('{"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6, "audio_tokens": 5}}', '{"field": "prompt_tokens_details.cached_tokens", "count": 6, "of": "prompt_tokens", "total": 5}', 'some of the audio must be cached, and nobody says how much'),
	('{"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 6}}', '{"field": "completion_tokens_details.reasoning_tokens", "count": 6, "of": "completion_tokens", "total": 5}', 'more reasoning than completion'),
	('{"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"accepted_prediction_tokens": 3, "rejected_prediction_tokens": 3}}', '{"field": "completion_tokens_details.rejected_prediction_tokens", "of": "completion_tokens"}', 'more predicted than completed'),
	('{"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 11}}', '{"field": "input_tokens_details.cached_tokens", "format": "openai_responses"}', 'Responses, more cached than there was'),
	('{"input_tokens": 10, "output_tokens": 5, "input_token_details": {"text_tokens": 5, "audio_tokens": 5, "cached_tokens": 4, "cached_tokens_details": {"audio_tokens": 5}}}', '{"field": "input_token_details.cached_tokens_details.audio_tokens", "of": "input_token_details.cached_tokens"}', 'realtime, more audio cached than cached'),
	('{"completion_tokens": 5, "total_tokens": 5}', '{"field": "prompt_tokens"}', 'no prompt'), ('{"prompt_tokens": 5}', '{"field": "completion_tokens"}', 'no completion'), ('{"prompt_tokens": null, "completion_tokens": 5}', '{"field": "prompt_tokens"}', 'null for a prompt'),
	('{"total_tokens": 5}', '{"field": "input_tokens"}', 'only a total'), ('{"input_tokens": 5, "total_tokens": 5}', '{"field": "output_tokens"}', 'input and a total'),
	('{"prompt_tokens": 5, "completion_tokens": 5, "input_tokens": 5, "output_tokens": 5}', '{"field": "input_tokens", "formats": ["openai_chat", "openai_responses"]}', 'two formats at once'),
	('{"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": 5}', '{"field": "prompt_tokens_details"}', 'details that are a number'), ('{"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": [5]}', '{"field": "prompt_tokens_details"}', 'details that are an array')) v(u, detail, what);

-- Absent is neither zero nor malformed
SELECT pg_temp.refused(format('SELECT tokenbill.normalize_usage(%s)', u), '22004', '{"argument": "usage"}', 'absent: ' || what) FROM (VALUES
	('NULL', 'null'), ('''{"usage": null}''', 'null in a response'), ('''{"id": "x", "object": "chat.completion", "choices": [], "usage": null}''', 'null in a whole response'), ('''{"id": "x", "choices": []}''', 'not in the response'), ('''{"usage": {}}''', 'empty in a response'),
	('''{"candidates": [{"content": {}}], "modelVersion": "m"}''', 'not in Gemini''s'), ('''{"candidates": [], "usageMetadata": null}''', 'null in Gemini''s'), ('''{"type": "response.created", "response": {"id": "x", "usage": null}}''', 'null in an event'),
	('''{"type": "response.created", "response": {"id": "x"}}''', 'not in an event'), ('''{"custom_id": "x", "response": {"status_code": 500, "body": {"error": {"message": "x"}}}}''', 'not in a failed line of a batch'), ('''{"type": "message_delta", "delta": {"stop_reason": null}}''', 'not in a message_delta')) v(u, what);
SELECT is(e.detail, v.said, what) FROM (VALUES ('{"usage": null}', '{"argument": "usage", "field": "usage"}'::jsonb, 'absent: the field'), ('{"usageMetadata": null}', '{"argument": "usage", "field": "usageMetadata"}', 'absent: Gemini''s field')) v(u, said, what),
	LATERAL pg_temp.error_of(format('SELECT tokenbill.normalize_usage(%L)', u)) e;

-- Unknown shapes
SELECT pg_temp.refused(format('SELECT tokenbill.normalize_usage(%s)', u), '22023', detail, what) FROM (VALUES
	('''[]''', '{"argument": "usage"}'::jsonb, 'an array'), ('''[{"prompt_tokens": 1, "completion_tokens": 1}]''', '{"argument": "usage"}', 'an array of objects'), ('''5''', '{"argument": "usage"}', 'a number'), ('''null''', '{"argument": "usage"}', 'JSON null'),
	('''{}''', '{"argument": "usage"}', 'nothing'), ('''{"foo": {"bar_tokens": 1}}''', '{"argument": "usage", "field": "foo"}', 'an object of no format'), ('''{"input_tokens": {"text": 1}}''', '{"argument": "usage", "field": "input_tokens"}', 'input by kind'),
	('''{"usage": 5, "id": "x"}''', '{"argument": "usage", "field": "usage"}', 'a number for a usage'), ('''{"usage": [1], "id": "x"}''', '{"argument": "usage", "field": "usage"}', 'an array for a usage'), ('''{"usage": {"foo": {}}}''', '{"argument": "usage", "field": "foo"}', 'a response with an unknown usage'),
	('''{"usage": {"prompt_tokens": 1, "completion_tokens": 1}, "service_tier": "a b"}''', '{"argument": "usage", "field": "service_tier"}', 'a tier that is no word'), ('''{"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 1, "service_tier": 5}''', '{"argument": "usage", "field": "service_tier"}', 'a tier that is a number'),
	('''{"prompt_tokens": 1, "completion_tokens": 1}'', ''anthropic''', '{"field": "input_tokens", "format": "anthropic"}', 'another format than the one named'), ('''{"input_tokens": 1, "output_tokens": 1}'', ''openai_chat''', '{"argument": "usage", "field": "input_tokens"}', 'and the other way round'),
	('''{"promptTokenCount": 1, "totalTokenCount": 1}'', ''meters''', '{"argument": "usage"}', 'names that are no meters'''), ('''{"prompt_tokens": 1}'', ''gpt''', '{"argument": "format"}', 'no format'), ('''{"prompt_tokens": 1}'', ''''', '{"argument": "format"}', 'an empty format')) v(u, detail, what);
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"prompt_tokens": 1}', NULL)$$, '22004', '{"argument": "format"}', 'null for a format');

SELECT pg_temp.refused(format('SELECT tokenbill.normalize_usage(%L)', u), '22023', detail, what) FROM (VALUES
	('{"inputTokens": 30, "outputTokens": 628}', '{"argument": "usage", "field": "inputTokens"}'::jsonb, 'an unknown shape names the member'), ('{"a b": 1}', '{"argument": "usage"}', 'unless that may be anything')) v(u, detail, what);
SELECT is(e.detail, '{"argument": "usage"}', 'which is not repeated') FROM pg_temp.error_of($$SELECT tokenbill.normalize_usage('{"a b": 1}')$$) e;

-- What nobody knows: counted if its name says so, kept if not
SELECT is(unpriced, '{"search_count": 3, "toolCallCount": 2, "pages_processed": 4, "x.textCount": 5}', 'unknown: counts by other words')
FROM tokenbill.describe_usage('{"prompt_tokens": 10, "completion_tokens": 5, "search_count": 3, "toolCallCount": 2, "pages_processed": 4, "x": {"textCount": 5}, "account": 7, "discount": 8}');
SELECT is(unpriced, expected, 'unknown: ' || what) FROM (VALUES
	('{"citation_tokens": 4, "num_search_queries": 2, "num_sources_used": 3}', '{"citation_tokens": 4, "num_search_queries": 2, "num_sources_used": 3}'::jsonb, 'counts'), ('{"queue_time": 0.05, "cost": 1, "version": 7, "max_tokens_reached": true, "search_context_size": "low"}', NULL, 'no counts'),
	('{"x": {"y": [{"audio_seconds": 1.5}, {"audio_seconds": 2}]}}', '{"x.y[0].audio_seconds": 1.5, "x.y[1].audio_seconds": 2}', 'counts in arrays'), ('{"citation_tokens": 0, "x": {"pages": 0}}', NULL, 'zeros'), ('{"citation_tokens": null}', NULL, 'nulls')) v(more, expected, what),
	LATERAL tokenbill.describe_usage('{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}'::jsonb || more::jsonb);
SELECT is(tokenbill.normalize_usage('{"prompt_tokens": 10, "completion_tokens": 5, "citationTokens": 2, "x": {"input_tokens": 7, "y": [{"audio_seconds": 1.5}, {"audio_seconds": 2}]}}'),
	'{"input_tokens": 10, "output_tokens": 5, "citation_tokens": 2, "x_input_tokens": 7, "audio_seconds": 3.5}', 'they are meters of their own');
SELECT pg_temp.refused(format('SELECT tokenbill.normalize_usage(%L)', '{"prompt_tokens": 10, "completion_tokens": 5}'::jsonb || more::jsonb), sqlstate, jsonb_build_object('argument', 'usage', 'field', field), 'unknown: ' || what) FROM (VALUES
	('{"citation_tokens": -1}', '22023', 'citation_tokens', 'negative'), ('{"citation_tokens": 0.5}', '22023', 'citation_tokens', 'fractional'), ('{"citation_tokens": "12"}', '22023', 'citation_tokens', 'in a string'), ('{"x": {"pages": 1e20}}', '22003', 'x.pages', 'too large'),
	('{"a b": {"x_tokens": -1}}', '22023', '?.x_tokens', 'below a name that is not repeated'), ('{"images": 3}', '22023', 'images', 'a meter among a provider''s counts')) v(more, sqlstate, field, what);
SELECT pg_temp.refused(format('SELECT tokenbill.normalize_usage(%L)', jsonb_build_object('prompt_tokens', 10, 'completion_tokens', 5, 'x', (SELECT jsonb_object_agg('m' || i || '_tokens', 1) FROM generate_series(10, 42) i))), '22023', '{"argument": "usage", "field": "x.m42_tokens"}', 'unknown: too many');
SELECT lives_ok(format('SELECT tokenbill.normalize_usage(%L)', jsonb_build_object('prompt_tokens', 10, 'completion_tokens', 5, 'x', (SELECT jsonb_object_agg('m' || i || '_tokens', 1) FROM generate_series(10, 41) i))), 'unknown: as many as there may be');

-- Deep, large, secret
SELECT is(pg_temp.ends(u, 'auto'), '22023 usage ' || field, what) FROM (VALUES
	(('{"prompt_tokens": 1, "completion_tokens": 1, "x": ' || repeat('{"y": ', 16) || '1' || repeat('}', 17))::jsonb, 'x' || repeat('.y', 15), 'objects 18 deep'),
	(('{"prompt_tokens": 1, "completion_tokens": 1, "x": ' || repeat('[', 500) || repeat(']', 500) || '}')::jsonb, 'x' || repeat('[0]', 15), 'arrays 500 deep'),
	(('{"promptTokenCount": 1, "totalTokenCount": 1, "x": ' || repeat('[{"y": ', 250) || '1' || repeat('}]', 250) || '}')::jsonb, 'x' || repeat('[0].y', 7) || '[0]', 'both, in Gemini''s')) v(u, field, what);
SELECT lives_ok(format('SELECT tokenbill.normalize_usage(%L)', u), what) FROM (VALUES
	('{"prompt_tokens": 1, "completion_tokens": 1, "x": ' || repeat('{"y": ', 14) || '1' || repeat('}', 15), 'objects 16 deep'), ('{"prompt_tokens": 1, "completion_tokens": 1, "cost_details": ' || repeat('[', 500) || repeat(']', 500) || '}', 'any depth where nothing is counted')) v(u, what);
SELECT pg_temp.refused(format('SELECT tokenbill.normalize_usage(%s)', u), '22023', '{"argument": "usage", "max_bytes": 16384}', what) FROM (VALUES
	($$(SELECT jsonb_object_agg('k' || i, i) || '{"prompt_tokens": 1, "completion_tokens": 1}' FROM generate_series(1, 20000) i)$$, 'twenty thousand members'), ($$jsonb_build_object('prompt_tokens', 1, 'completion_tokens', 1, 'x', repeat('x', 17000))$$, 'a long string')) v(u, what);
SELECT is(tokenbill.normalize_usage(jsonb_build_object('choices', repeat('x', 10000000), 'usage', '{"prompt_tokens": 1, "completion_tokens": 1}'::jsonb)), '{"input_tokens": 1, "output_tokens": 1}', 'a response may be as long as it is');
SELECT is(pg_temp.ends(u, 'auto'), '22023 usage', 'a card number ' || what) FROM (VALUES
	('{"prompt_tokens": 1, "completion_tokens": 1, "note": "4111 1111 1111 1111"}'::jsonb, 'in a string'), ('{"prompt_tokens": 1, "completion_tokens": 1, "4111111111111111": 0}', 'for a name'), ('{"prompt_tokens": 1, "completion_tokens": 1, "x": {"n": 4111111111111111}}', 'for a number'),
	('{"prompt_tokens": 1, "completion_tokens": 1, "cost_details": {"x": ["4111-1111-1111-1111"]}}', 'where nothing is counted'), ('{"promptTokenCount": 1, "totalTokenCount": 1, "promptTokensDetails": [{"modality": "TEXT", "x": "4111111111111111"}]}', 'in a detail'),
	('{"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 1, "inference_geo": "4111-1111-1111-1111"}', 'for a region')) v(u, what);
SELECT * FROM finish();
ROLLBACK;
