-- Gemini's usageMetadata: cached, thoughts, tool use, modalities, Live, JSON's and Python's spelling
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(63);
\i :srcdir/sql/usage.psql

-- A count by modality
CREATE FUNCTION pg_temp.of(u jsonb, details text, wanted text) RETURNS numeric LANGUAGE sql AS $$
	SELECT coalesce(sum((d ->> 'tokenCount')::numeric), 0) FROM jsonb_array_elements(u -> details) d WHERE d ->> 'modality' = wanted
$$;
\set gemini 'pg_temp.n(u, ''promptTokenCount'') * 2 + pg_temp.n(u, ''toolUsePromptTokenCount'') * 2 + (pg_temp.of(u, ''promptTokensDetails'', ''AUDIO'') + pg_temp.of(u, ''toolUsePromptTokensDetails'', ''AUDIO'')) * (32 - 2) + (pg_temp.of(u, ''promptTokensDetails'', ''IMAGE'') + pg_temp.of(u, ''toolUsePromptTokensDetails'', ''IMAGE'')) * (5 - 2) + pg_temp.of(u, ''promptTokensDetails'', ''VIDEO'') * (7 - 2) + pg_temp.n(u, ''cachedContentTokenCount'') * (0.2 - 2) + pg_temp.of(u, ''cacheTokensDetails'', ''AUDIO'') * ((0.4 - 32) - (0.2 - 2)) + pg_temp.of(u, ''cacheTokensDetails'', ''IMAGE'') * ((0.5 - 5) - (0.2 - 2)) + pg_temp.of(u, ''cacheTokensDetails'', ''VIDEO'') * ((0.7 - 7) - (0.2 - 2)) + (pg_temp.n(u, ''candidatesTokenCount'') + pg_temp.n(u, ''responseTokenCount'')) * 8 + (pg_temp.of(u, ''candidatesTokensDetails'', ''AUDIO'') + pg_temp.of(u, ''responseTokensDetails'', ''AUDIO'')) * (64 - 8) + pg_temp.of(u, ''candidatesTokensDetails'', ''IMAGE'') * (40 - 8) + pg_temp.n(u, ''thoughtsTokenCount'') * 9'
SELECT pg_temp.means('text', 'gemini', '{"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}], "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 5}]}',
	'{"input_tokens": 10, "output_tokens": 5}', :'gemini', 10);
SELECT pg_temp.means('the prompt includes the cache, thoughts and tools stand apart', 'gemini', '{"promptTokenCount": 1000, "cachedContentTokenCount": 300, "candidatesTokenCount": 50, "thoughtsTokenCount": 20, "toolUsePromptTokenCount": 7, "totalTokenCount": 1077, "trafficType": "ON_DEMAND"}',
	'{"input_tokens": 707, "cache_read_tokens": 300, "output_tokens": 50, "reasoning_tokens": 20}', :'gemini', 1007);
SELECT pg_temp.means('every modality', 'gemini', '{"promptTokenCount": 2000, "cachedContentTokenCount": 600, "candidatesTokenCount": 1390, "toolUsePromptTokenCount": 30, "totalTokenCount": 3420,
	"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 400}, {"modality": "AUDIO", "tokenCount": 500}, {"modality": "IMAGE", "tokenCount": 258}, {"modality": "VIDEO", "tokenCount": 742}, {"modality": "DOCUMENT", "tokenCount": 100}],
	"cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 200}, {"modality": "VIDEO", "tokenCount": 300}, {"modality": "IMAGE", "tokenCount": 58}, {"modality": "TEXT", "tokenCount": 42}],
	"candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}, {"modality": "TEXT", "tokenCount": 60}, {"modality": "AUDIO", "tokenCount": 40}], "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}, {"modality": "IMAGE", "tokenCount": 10}]}',
	'{"input_tokens": 478, "input_audio_tokens": 300, "input_image_tokens": 210, "input_video_tokens": 442, "cache_read_tokens": 42, "cache_read_audio_tokens": 200, "cache_read_image_tokens": 58, "cache_read_video_tokens": 300,
	"output_tokens": 60, "output_audio_tokens": 40, "output_image_tokens": 1290}', :'gemini', 2030);
SELECT pg_temp.means('a modality twice', 'gemini', '{"promptTokenCount": 30, "totalTokenCount": 30, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 10}, {"modality": "TEXT"}, {"modality": "AUDIO", "tokenCount": 5}]}', '{"input_tokens": 15, "input_audio_tokens": 15}', :'gemini', 30);
SELECT pg_temp.means('no candidate', 'gemini', '{"promptTokenCount": 30, "thoughtsTokenCount": 12, "totalTokenCount": 42}', '{"input_tokens": 30, "reasoning_tokens": 12}', :'gemini', 30);
SELECT pg_temp.means('no prompt', 'gemini', '{"candidatesTokenCount": 12, "totalTokenCount": 12}', '{"output_tokens": 12}', :'gemini', 0);
SELECT pg_temp.means('Live', 'gemini', '{"promptTokenCount": 200, "responseTokenCount": 90, "totalTokenCount": 290, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 180}, {"modality": "TEXT", "tokenCount": 20}], "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 90}]}',
	'{"input_tokens": 20, "input_audio_tokens": 180, "output_audio_tokens": 90}', :'gemini', 200);
SELECT pg_temp.means('a body', 'gemini', '{"candidates": [{"content": {"parts": [{"text": "Hi"}]}}], "modelVersion": "m", "responseId": "x", "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 10, "totalTokenCount": 14, "trafficType": "ON_DEMAND_PRIORITY"}}',
	'{"input_tokens": 4, "output_tokens": 10}', '4 * 2 + 10 * 8', 4, 'priority');
SELECT pg_temp.means('as Python spells it', 'gemini', '{"cache_tokens_details": null, "cached_content_token_count": 3, "candidates_token_count": 10, "candidates_tokens_details": null, "prompt_token_count": 8, "prompt_tokens_details": [{"modality": "TEXT", "token_count": 4}, {"modality": "IMAGE", "token_count": 4}],
	"thoughts_token_count": 5, "tool_use_prompt_token_count": null, "tool_use_prompt_tokens_details": null, "total_token_count": 23, "traffic_type": "ON_DEMAND_FLEX"}',
	'{"input_tokens": 1, "input_image_tokens": 4, "cache_read_tokens": 3, "output_tokens": 10, "reasoning_tokens": 5}', '1 * 2 + 4 * 5 + 3 * 0.2 + 10 * 8 + 5 * 9', 8, 'flex');
SELECT pg_temp.means('a body in Python', 'gemini', '{"candidates": [], "model_version": "m", "usage_metadata": {"prompt_token_count": 4, "candidates_token_count": 10, "total_token_count": 14}}', '{"input_tokens": 4, "output_tokens": 10}', '4 * 2 + 10 * 8', 4);
SELECT is(service_tier, 'flex', 'a service tier goes before the traffic') FROM tokenbill.describe_usage('{"promptTokenCount": 1, "totalTokenCount": 1, "initialPromptTokenCount": 1, "serviceTier": "flex", "trafficType": "ON_DEMAND"}');
SELECT is(service_tier, tier, 'traffic ' || traffic) FROM (VALUES ('PROVISIONED_THROUGHPUT', 'provisioned'), ('TRAFFIC_TYPE_UNSPECIFIED', 'standard'), ('on_demand', 'standard'), ('ON_DEMAND_OFFPEAK', 'offpeak')) v(traffic, tier),
	LATERAL tokenbill.describe_usage(jsonb_build_object('promptTokenCount', 1, 'totalTokenCount', 1, 'trafficType', traffic));

SELECT pg_temp.refused(format('SELECT tokenbill.normalize_usage(%L)', u), '22023', jsonb_build_object('argument', 'usage', 'field', field, 'format', 'gemini'), what) FROM (VALUES
	('{"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 16}', 'totalTokenCount', 'a total that is not the sum'),
	('{"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 3, "totalTokenCount": 15}', 'totalTokenCount', 'thoughts are no part of the candidates'),
	('{"promptTokenCount": 10, "cachedContentTokenCount": 11, "totalTokenCount": 10}', 'cachedContentTokenCount', 'more cached than prompted'),
	('{"cachedContentTokenCount": 11, "totalTokenCount": 0}', 'cachedContentTokenCount', 'cached, but not prompted'),
	('{"candidatesTokenCount": 11}', 'totalTokenCount', 'neither a prompt nor a total'),
	('{"promptTokenCount": 10, "totalTokenCount": 10, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 6}, {"modality": "AUDIO", "tokenCount": 5}]}', 'promptTokensDetails[1]', 'details larger than their total'),
	('{"promptTokenCount": 10, "totalTokenCount": 10, "cachedContentTokenCount": 4, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}], "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}]}', 'cacheTokensDetails[0]', 'more audio cached than prompted'),
	('{"promptTokenCount": 10, "totalTokenCount": 10, "cachedContentTokenCount": 4, "promptTokensDetails": [{"modality": "VIDEO", "tokenCount": 7}]}', 'cachedContentTokenCount', 'cached, and nobody knows what'),
	('{"promptTokenCount": 10, "totalTokenCount": 10, "promptTokensDetails": [{"modality": "SMELL", "tokenCount": 1}]}', 'promptTokensDetails[0]', 'an unknown modality'),
	('{"promptTokenCount": 10, "totalTokenCount": 10, "promptTokensDetails": [{"tokenCount": 1}]}', 'promptTokensDetails[0]', 'no modality'),
	('{"promptTokenCount": 10, "totalTokenCount": 10, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": -1}]}', 'promptTokensDetails[0].tokenCount', 'a negative detail'),
	('{"promptTokenCount": 10, "totalTokenCount": 10, "promptTokensDetails": {"modality": "TEXT", "tokenCount": 1}}', 'promptTokensDetails', 'details that are no array'),
	('{"promptTokenCount": 10, "totalTokenCount": 10, "promptTokensDetails": [7]}', 'promptTokensDetails[0]', 'details that are no objects'),
	('{"prompt_token_count": 10, "total_token_count": 10, "candidates_token_count": "5"}', 'candidates_token_count', 'a count in a string'),
	('{"promptTokenCount": 10, "responseTokenCount": 5, "candidatesTokenCount": 6, "totalTokenCount": 15}', 'candidatesTokenCount', 'two counts of the output')) v(u, field, what);
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"promptTokenCount": 10, "totalTokenCount": 15, "prompt_tokens": 10, "completion_tokens": 5}')$$, '22023', '{"field": "prompt_tokens", "formats": ["gemini", "openai_chat"]}', 'two formats at once');
SELECT is(unpriced, '{"searchCharacterCount": 12, "grounding.searchQueries": 2}', 'what nobody knows is counted') FROM tokenbill.describe_usage('{"promptTokenCount": 10, "totalTokenCount": 10, "searchCharacterCount": 12, "grounding": {"searchQueries": 2}, "version": 3}');
SELECT is(tokenbill.normalize_usage('{"promptTokenCount": 10, "totalTokenCount": 10, "searchCharacterCount": 12, "grounding": {"searchQueries": 2}}'), '{"input_tokens": 10, "search_character_count": 12, "search_queries": 2}', 'under names of its own');
SELECT * FROM finish();
ROLLBACK;
