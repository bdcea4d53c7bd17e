-- DeepSeek and OpenRouter: OpenAI's shape with members of their own
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(51);
\i :srcdir/sql/usage.psql

\set deepseek 'pg_temp.n(u, ''prompt_cache_miss_tokens'') * 2 + pg_temp.n(u, ''prompt_cache_hit_tokens'') * 0.2 + pg_temp.n(u, ''completion_tokens'') * 8 + pg_temp.n(u, ''completion_tokens_details'', ''reasoning_tokens'') * (9 - 8)'
SELECT pg_temp.means('DeepSeek', 'deepseek', '{"prompt_tokens": 1450, "completion_tokens": 320, "total_tokens": 1770, "prompt_tokens_details": {"cached_tokens": 1408}, "completion_tokens_details": {"reasoning_tokens": 200}, "prompt_cache_hit_tokens": 1408, "prompt_cache_miss_tokens": 42}',
	'{"input_tokens": 42, "cache_read_tokens": 1408, "output_tokens": 120, "reasoning_tokens": 200}', :'deepseek', 1450);
SELECT pg_temp.means('DeepSeek, no hit', 'deepseek', '{"prompt_tokens": 14, "completion_tokens": 3, "total_tokens": 17, "prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": 14}', '{"input_tokens": 14, "output_tokens": 3}', :'deepseek', 14);
SELECT pg_temp.means('DeepSeek, hits only', 'deepseek', '{"prompt_tokens": 14, "completion_tokens": 3, "total_tokens": 17, "prompt_cache_hit_tokens": 10}', '{"input_tokens": 4, "cache_read_tokens": 10, "output_tokens": 3}', '4 * 2 + 10 * 0.2 + 3 * 8', 14);

\set openrouter 'pg_temp.n(u, ''prompt_tokens'') * 2 + pg_temp.n(u, ''prompt_tokens_details'', ''cached_tokens'') * (0.2 - 2) + pg_temp.n(u, ''prompt_tokens_details'', ''cache_write_tokens'') * (2.5 - 2) + pg_temp.n(u, ''prompt_tokens_details'', ''audio_tokens'') * (32 - 2) + pg_temp.n(u, ''prompt_tokens_details'', ''video_tokens'') * (7 - 2) + pg_temp.n(u, ''completion_tokens'') * 8 + pg_temp.n(u, ''completion_tokens_details'', ''reasoning_tokens'') * (9 - 8) + pg_temp.n(u, ''completion_tokens_details'', ''image_tokens'') * (40 - 8) + pg_temp.n(u, ''server_tool_use'', ''web_search_requests'') * 10000'
SELECT pg_temp.means('OpenRouter', 'openrouter', '{"prompt_tokens": 10339, "completion_tokens": 1350, "total_tokens": 11689, "cost": 0.00014000000000000001, "is_byok": false, "cost_details": {"upstream_inference_cost": 19, "upstream_inference_prompt_cost": 0.00001, "upstream_inference_completions_cost": 0.00013},
	"prompt_tokens_details": {"cached_tokens": 10000, "cache_write_tokens": 100, "audio_tokens": 50, "video_tokens": 60}, "completion_tokens_details": {"reasoning_tokens": 20, "image_tokens": 1290}, "server_tool_use": {"web_search_requests": 3}}',
	'{"input_tokens": 129, "input_audio_tokens": 50, "input_video_tokens": 60, "cache_read_tokens": 10000, "cache_write_5m_tokens": 100, "output_tokens": 40, "output_image_tokens": 1290, "reasoning_tokens": 20, "web_searches": 3}', :'openrouter', 10339);
SELECT pg_temp.means('OpenRouter, paid with another key', 'openrouter', '{"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6, "cost": 0, "is_byok": true}', '{"input_tokens": 4, "output_tokens": 2}', :'openrouter', 4);
SELECT pg_temp.means('OpenRouter, embeddings', 'openai_embeddings', '{"prompt_tokens": 8, "total_tokens": 8, "cost": 1.6e-7}', '{"input_tokens": 8}', '8 * 2', 8);
SELECT pg_temp.means('OpenRouter, embeddings, a body', 'openai_embeddings', '{"object": "list", "data": [{"object": "embedding", "embedding": [0.1], "index": 0}], "model": "m", "usage": {"prompt_tokens": 9, "total_tokens": 9, "cost": 0, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.00000018}}}',
	'{"input_tokens": 9}', '9 * 2', 9);
SELECT pg_temp.means('OpenRouter, Responses', 'openai_responses', '{"input_tokens": 12, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 45, "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 57, "cost": 0.0012, "is_byok": false, "cost_details": {}}',
	'{"input_tokens": 10, "cache_read_tokens": 2, "output_tokens": 40, "reasoning_tokens": 5}', '10 * 2 + 2 * 0.2 + 40 * 8 + 5 * 9', 12);
SELECT pg_temp.means('OpenRouter, a generation', 'openrouter_generation', '{"data": {"id": "gen-1", "model": "m", "usage": 0.0015, "total_cost": 0.0015, "cache_discount": 0.0001, "cancelled": false, "tokens_prompt": 900, "tokens_completion": 70, "latency": 1250, "num_media_prompt": null,
	"native_tokens_prompt": 1000, "native_tokens_cached": 600, "native_tokens_completion": 80, "native_tokens_reasoning": 30, "native_tokens_completion_images": 0}}', '{"input_tokens": 400, "cache_read_tokens": 600, "output_tokens": 50, "reasoning_tokens": 30}',
	'1000 * 2 + 600 * (0.2 - 2) + 80 * 8 + 30 * (9 - 8)', 1000);
SELECT pg_temp.means('Mistral', 'openai_chat', '{"prompt_tokens": 50, "completion_tokens": 7, "total_tokens": 57, "num_cached_tokens": 30, "prompt_tokens_details": {"cached_tokens": 30}, "prompt_audio_seconds": {}}',
	'{"input_tokens": 20, "cache_read_tokens": 30, "output_tokens": 7}', '50 * 2 + 30 * (0.2 - 2) + 7 * 8', 50);
SELECT is(unpriced, NULL, 'money is no count') FROM tokenbill.describe_usage('{"prompt_tokens": 4, "completion_tokens": 2, "cost": 5, "cost_details": {"upstream_inference_cost": 7}}');

SELECT pg_temp.refused(format('SELECT tokenbill.normalize_usage(%L)', u), '22023', detail || '{"argument": "usage"}', what) FROM (VALUES
	('{"prompt_tokens": 100, "completion_tokens": 5, "prompt_cache_hit_tokens": 60, "prompt_cache_miss_tokens": 39}', '{"field": "prompt_cache_miss_tokens", "count": 39, "expected": 40}'::jsonb, 'DeepSeek: hits and misses that are less than the prompt'),
	('{"prompt_tokens": 100, "completion_tokens": 5, "prompt_cache_hit_tokens": 60, "prompt_cache_miss_tokens": 41}', '{"field": "prompt_cache_miss_tokens", "count": 41, "expected": 40}', 'DeepSeek: and more'),
	('{"prompt_tokens": 100, "completion_tokens": 5, "prompt_cache_hit_tokens": 101}', '{"field": "prompt_cache_hit_tokens", "count": 101, "of": "prompt_tokens", "total": 100}', 'DeepSeek: more hits than prompt'),
	('{"prompt_tokens": 100, "completion_tokens": 5, "prompt_cache_hit_tokens": 60, "prompt_tokens_details": {"cached_tokens": 61}}', '{"of": "prompt_tokens_details.cached_tokens", "field": "prompt_cache_hit_tokens"}', 'DeepSeek: two counts of the hits'),
	('{"prompt_tokens": 100, "total_tokens": 100, "prompt_cache_hit_tokens": 60}', '{"field": "completion_tokens", "format": "deepseek"}', 'DeepSeek: no completion'),
	('{"prompt_tokens": 100, "completion_tokens": 5, "cost": 1, "prompt_tokens_details": {"video_tokens": 60, "audio_tokens": 41}}', '{"field": "prompt_tokens_details.video_tokens", "format": "openrouter"}', 'OpenRouter: details larger than their total'),
	('{"prompt_tokens": 100, "total_tokens": 105, "cost": 1}', '{"field": "total_tokens", "count": 105, "expected": 100}', 'OpenRouter: a completion that is not told'),
	('{"data": {"native_tokens_prompt": 10, "native_tokens_completion": null}}', '{"field": "native_tokens_completion", "format": "openrouter_generation"}', 'OpenRouter: a generation that is not over'),
	('{"native_tokens_prompt": 10, "native_tokens_completion": 5, "native_tokens_cached": 11}', '{"field": "native_tokens_cached"}', 'OpenRouter: a generation with more cached than prompted'),
	('{"prompt_tokens": 100, "completion_tokens": 5, "cost": 1, "server_tool_use": {"web_search_requests": 1.5}}', '{"field": "server_tool_use.web_search_requests"}', 'OpenRouter: half a search')) v(u, detail, what);
SELECT * FROM finish();
ROLLBACK;
