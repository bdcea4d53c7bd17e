-- One usage object of every format that tokenbill reads, and of some that are
-- counted by functions: how each is read, and what it costs. The last column is
-- the same sum worked out by hand from what the vendor publishes.
\pset border 1
\pset footer off
CREATE TABLE demo.rate (service text, meter text, unit_price numeric, per numeric);
INSERT INTO demo.rate VALUES
	('gpt-realtime', 'input_tokens', 4, 1e6), ('gpt-realtime', 'cache_read_tokens', 0.4, 1e6), ('gpt-realtime', 'output_tokens', 16, 1e6),
	('gpt-realtime', 'input_audio_tokens', 32, 1e6), ('gpt-realtime', 'cache_read_audio_tokens', 0.4, 1e6), ('gpt-realtime', 'output_audio_tokens', 64, 1e6),
	('gpt-image-1', 'input_tokens', 5, 1e6), ('gpt-image-1', 'input_image_tokens', 10, 1e6), ('gpt-image-1', 'output_image_tokens', 40, 1e6),
	('whisper-1', 'seconds', 0.0001, 1), ('tts-1', 'characters', 15, 1e6), ('dall-e-3', 'image_units', 1, 1), ('dall-e-3', 'requests', 0.001, 1);
SELECT FROM demo.rate r, tokenbill.set_price(r.service, r.meter, r.unit_price, r.per) \g /dev/null
SELECT FROM tokenbill.set_meter_function('characters', 'tokenbill.count_characters(jsonb, jsonb)', 'tts-1') \g /dev/null
SELECT FROM tokenbill.set_meter_function('image_units', 'tokenbill.count_images(jsonb, jsonb)', 'dall-e-3',
	'{"sizes": {"1024x1024": 0.04, "1024x1792": 0.08, "hd/1024x1024": 0.08, "hd/1024x1792": 0.12}}') \g /dev/null

CREATE TABLE demo.object (n int GENERATED ALWAYS AS IDENTITY, service text, usage jsonb, by_hand numeric);
INSERT INTO demo.object (service, usage, by_hand) VALUES
	('gpt-5-mini', '{"input_tokens": 1200, "output_tokens": 350}', 1200 * 0.25e-6 + 350 * 2e-6),
	-- OpenAI: cached is a part of the prompt, reasoning of the completion
	('gpt-5-mini', '{"prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500, "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
		"completion_tokens_details": {"reasoning_tokens": 256, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}',
		176 * 0.25e-6 + 1024 * 0.025e-6 + 300 * 2e-6),
	('gpt-5', '{"input_tokens": 2000, "input_tokens_details": {"cached_tokens": 1500}, "output_tokens": 400, "output_tokens_details": {"reasoning_tokens": 320}, "total_tokens": 2400}',
		500 * 1.25e-6 + 1500 * 0.125e-6 + 400 * 10e-6),
	('gpt-realtime', '{"total_tokens": 1453, "input_tokens": 1132, "output_tokens": 321, "input_token_details": {"text_tokens": 719, "audio_tokens": 413, "cached_tokens": 584,
		"cached_tokens_details": {"text_tokens": 320, "audio_tokens": 264}}, "output_token_details": {"text_tokens": 30, "audio_tokens": 291}}',
		399 * 4e-6 + 149 * 32e-6 + (320 + 264) * 0.4e-6 + 30 * 16e-6 + 291 * 64e-6),
	('gpt-image-1', '{"input_tokens": 50, "output_tokens": 1056, "total_tokens": 1106, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}',
		10 * 5e-6 + 40 * 10e-6 + 1056 * 40e-6),
	('whisper-1', '{"type": "duration", "seconds": 74}', 74 * 0.0001),
	('text-embedding-3-small', '{"prompt_tokens": 4000, "total_tokens": 4000}', 4000 * 0.02e-6),
	-- Anthropic: what the cache gave and took stands beside the input
	('claude-sonnet-4-5', '{"input_tokens": 21, "cache_read_input_tokens": 18846, "cache_creation_input_tokens": 1388, "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 388},
		"output_tokens": 503, "server_tool_use": {"web_search_requests": 1}, "service_tier": "standard"}',
		21 * 3e-6 + 18846 * 0.3e-6 + 1000 * 3.75e-6 + 388 * 6e-6 + 503 * 15e-6 + 0.01),
	('claude-haiku-4-5', '{"prompt_tokens": 900, "completion_tokens": 120, "total_tokens": 1020, "cached_tokens": 600}', 300 * 1e-6 + 600 * 0.1e-6 + 120 * 5e-6),
	-- Gemini: the cached part is in the prompt, thoughts stand beside the candidates
	('gemini-2.5-pro', '{"promptTokenCount": 1000, "cachedContentTokenCount": 400, "candidatesTokenCount": 200, "thoughtsTokenCount": 300, "toolUsePromptTokenCount": 50, "totalTokenCount": 1550}',
		650 * 1.25e-6 + 400 * 0.125e-6 + 500 * 10e-6),
	('deepseek-chat', '{"prompt_tokens": 4587, "completion_tokens": 36, "total_tokens": 4623, "prompt_cache_hit_tokens": 4224, "prompt_cache_miss_tokens": 363}',
		363 * 0.28e-6 + 4224 * 0.028e-6 + 36 * 0.42e-6),
	-- OpenRouter: as OpenAI, with what it cost; its Anthropic flavour includes the cache;
	-- and what it tells of a generation afterwards
	('gpt-5', '{"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100, "cost": 0.00225, "is_byok": false, "prompt_tokens_details": {"cached_tokens": 0}}',
		1000 * 1.25e-6 + 100 * 10e-6),
	('claude-sonnet-4-5', '{"input_tokens": 1000, "cache_read_input_tokens": 800, "cache_creation_input_tokens": 0, "output_tokens": 50, "cost": 0.00159}',
		200 * 3e-6 + 800 * 0.3e-6 + 50 * 15e-6),
	('gemini-2.5-flash', '{"native_tokens_prompt": 900, "native_tokens_completion": 210, "native_tokens_reasoning": 150, "native_tokens_cached": 0, "tokens_prompt": 850, "tokens_completion": 200, "total_cost": 0.000795}',
		900 * 0.3e-6 + 210 * 2.5e-6),
	-- counted by functions: seven characters of Chinese, two large pictures
	('tts-1', '{"input": "今天天气很好。"}', 7 * 15e-6),
	('dall-e-3', '{"size": "1024x1792", "quality": "hd", "n": 2}', 2 * 0.12 + 0.001);

SELECT o.n, o.service, CASE WHEN f.meter IS NULL THEN (tokenbill.describe_usage(o.usage)).format ELSE 'by function' END AS format,
	(SELECT string_agg(q.meter || ' ' || trim_scale(q.quantity), ', ') FROM tokenbill.quote('ci-robot', o.service, o.usage) q) AS meters,
	(SELECT trim_scale(sum(q.amount)) FROM tokenbill.quote('ci-robot', o.service, o.usage) q) AS usd, trim_scale(o.by_hand) AS by_hand
FROM demo.object o LEFT JOIN tokenbill.meter_functions f ON f.service = o.service ORDER BY o.n;
INSERT INTO demo.seen
SELECT 'objects of all formats priced as by hand', count(*) FILTER (WHERE o.by_hand = (SELECT sum(q.amount) FROM tokenbill.quote('ci-robot', o.service, o.usage) q)), count(*)
FROM demo.object o;
INSERT INTO demo.seen
SELECT 'formats among them', count(DISTINCT (tokenbill.describe_usage(o.usage)).format), 14 FROM demo.object o WHERE o.service NOT IN ('tts-1', 'dall-e-3');
