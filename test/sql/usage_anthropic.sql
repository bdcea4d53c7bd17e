-- Anthropic's usage objects, and OpenRouter's of that shape: caches, thinking, server tools, iterations, events
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(97);
\i :srcdir/sql/usage.psql

-- input_tokens has nothing of the cache
\set anthropic 'pg_temp.n(u, ''input_tokens'') * 2 + pg_temp.n(u, ''cache_read_input_tokens'') * 0.2 + pg_temp.n(u, ''cache_creation_input_tokens'') * 2.5 + pg_temp.n(u, ''cache_creation'', ''ephemeral_1h_input_tokens'') * (4 - 2.5) + pg_temp.n(u, ''output_tokens'') * 8 + pg_temp.n(u, ''output_tokens_details'', ''thinking_tokens'') * (9 - 8) + pg_temp.n(u, ''server_tool_use'', ''web_search_requests'') * 10000 + pg_temp.n(u, ''server_tool_use'', ''web_fetch_requests'') * 3000'
SELECT pg_temp.means('all of it', 'anthropic', '{"input_tokens": 21, "cache_creation_input_tokens": 1388, "cache_read_input_tokens": 18846, "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 388},
	"output_tokens": 503, "output_tokens_details": {"thinking_tokens": 311}, "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1}, "service_tier": "standard", "inference_geo": "global"}',
	'{"input_tokens": 21, "cache_read_tokens": 18846, "cache_write_5m_tokens": 1000, "cache_write_1h_tokens": 388, "output_tokens": 192, "reasoning_tokens": 311, "web_searches": 2, "web_fetches": 1}', :'anthropic', 20255);
SELECT pg_temp.means('no cache', 'anthropic', '{"input_tokens": 2095, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 503, "service_tier": "batch"}', '{"input_tokens": 2095, "output_tokens": 503}', :'anthropic', 2095, 'batch');
SELECT pg_temp.means('all of it cached', 'anthropic', '{"input_tokens": 0, "cache_creation_input_tokens": null, "cache_read_input_tokens": 5000, "output_tokens": 1, "server_tool_use": null, "cache_creation": null}', '{"cache_read_tokens": 5000, "output_tokens": 1}', :'anthropic', 5000);
SELECT pg_temp.means('a body', 'anthropic', '{"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}], "model": "m", "usage": {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 7, "output_tokens": 20, "service_tier": "priority"}}',
	'{"input_tokens": 10, "cache_read_tokens": 7, "output_tokens": 20}', '10 * 2 + 7 * 0.2 + 20 * 8', 17, 'priority');
SELECT pg_temp.means('the fast mode', 'anthropic', '{"input_tokens": 10, "cache_read_input_tokens": 0, "output_tokens": 20, "service_tier": "standard", "speed": "fast"}', '{"input_tokens": 10, "output_tokens": 20}', :'anthropic', 10, 'fast');
SELECT pg_temp.means('a line of a batch', 'anthropic', '{"custom_id": "r-1", "result": {"type": "succeeded", "message": {"id": "msg_1", "type": "message", "usage": {"input_tokens": 11, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 36, "service_tier": "batch"}}}}',
	'{"input_tokens": 11, "output_tokens": 36}', '11 * 2 + 36 * 8', 11, 'batch');

-- What was written to the cache, and no split for it, is kept for five minutes
\set residual '"cache writes without a duration count as kept for 5 minutes"'
SELECT pg_temp.means(what, 'anthropic', u, meters, :'anthropic', context) FROM (VALUES
	('a residual', '{"input_tokens": 5, "cache_creation_input_tokens": 100, "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 50}, "output_tokens": 2}'::jsonb,
		'{"input_tokens": 5, "cache_write_5m_tokens": 50, "cache_write_1h_tokens": 50, "output_tokens": 2}'::jsonb, 105),
	('no split', '{"input_tokens": 5, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 0, "output_tokens": 2}', '{"input_tokens": 5, "cache_write_5m_tokens": 100, "output_tokens": 2}', 105)) v(what, u, meters, context);
SELECT is(notes, ARRAY[trim(:'residual', '"')], 'a residual is remarked') FROM tokenbill.describe_usage('{"input_tokens": 5, "cache_creation_input_tokens": 100, "cache_creation": {"ephemeral_5m_input_tokens": 99, "ephemeral_1h_input_tokens": 0}, "output_tokens": 2}');
SELECT is(notes, '{}', 'no residual, no remark') FROM tokenbill.describe_usage('{"input_tokens": 5, "cache_creation_input_tokens": 100, "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0}, "output_tokens": 2}');
SELECT is(tokenbill.normalize_usage('{"input_tokens": 5, "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60}, "output_tokens": 2}'),
	'{"input_tokens": 5, "cache_write_5m_tokens": 40, "cache_write_1h_tokens": 60, "output_tokens": 2}', 'a split without its total is the total');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"input_tokens": 5, "cache_creation_input_tokens": 100, "cache_creation": {"ephemeral_5m_input_tokens": 51, "ephemeral_1h_input_tokens": 50}, "output_tokens": 2}')$$,
	'22023', '{"argument": "usage", "field": "cache_creation.ephemeral_1h_input_tokens", "count": 101, "of": "cache_creation_input_tokens", "total": 100}', 'a split beyond its total is a contradiction');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"input_tokens": 5, "cache_creation_input_tokens": 0, "cache_creation": {"ephemeral_5m_input_tokens": 1}, "output_tokens": 2}')$$,
	'22023', '{"argument": "usage", "field": "cache_creation.ephemeral_5m_input_tokens", "count": 1, "total": 0}', 'also of nothing');

-- Events: the last message_delta is cumulative, and may be all there is
SELECT pg_temp.means('message_delta', 'anthropic', '{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"input_tokens": 10682, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 510, "server_tool_use": {"web_search_requests": 1}}}',
	'{"input_tokens": 10682, "output_tokens": 510, "web_searches": 1}', '10682 * 2 + 510 * 8 + 10000', 10682);
SELECT pg_temp.means('message_delta, nothing but tokens', 'anthropic', '{"type": "message_delta", "delta": {}, "usage": {"input_tokens": 10, "output_tokens": 5}}', '{"input_tokens": 10, "output_tokens": 5}', '10 * 2 + 5 * 8', 10);
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}}')$$, '22023', '{"argument": "usage", "field": "input_tokens", "format": "anthropic"}', 'a message_delta without input is not one without cost');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"input_tokens": null, "cache_read_input_tokens": null, "output_tokens": 15}')$$, '22023', '{"field": "input_tokens"}', 'nor is one with a null');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"output_tokens": 15}', 'anthropic')$$, '22023', '{"field": "input_tokens"}', 'nor its usage alone, with the format named');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 25, "cache_read_input_tokens": 0, "output_tokens": 1}}}')$$, '22023', '{"field": "message"}', 'a message_start has only begun');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"input_tokens": 15, "cache_read_input_tokens": 1}')$$, '22023', '{"field": "output_tokens"}', 'output that is not told is not zero');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"input_tokens": 15, "cache_read_input_tokens": 1, "output_tokens": 10, "output_tokens_details": {"thinking_tokens": 11}}')$$,
	'22023', '{"field": "output_tokens_details.thinking_tokens", "count": 11, "of": "output_tokens", "total": 10}', 'more thinking than output');

SELECT is(row(d.service_tier, d.notes)::text, row(tier, v.notes)::text, 'where it was answered: ' || what) FROM (VALUES
	('{"inference_geo": "global"}'::jsonb, 'standard', '{}'::text[], 'anywhere'), ('{"inference_geo": "US", "service_tier": "standard"}', 'us', '{}', 'a tier of that name'),
	('{"inference_geo": "us", "service_tier": "batch"}', 'batch', ARRAY['inference_geo "us" is not priced'], 'in a batch'), ('{"inference_geo": "us", "speed": "fast"}', 'fast', ARRAY['inference_geo "us" is not priced'], 'fast'),
	('{"inference_geo": "us-east1"}', 'standard', ARRAY['inference_geo "us-east1" is not priced'], 'no name of a tier')) v(u, tier, notes, what),
	tokenbill.describe_usage('{"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 0}' || u) d;

-- Iterations: messages are in the totals, a compaction is not, and another model's have prices of their own
SELECT pg_temp.means('a compaction', 'anthropic', '{"input_tokens": 23000, "output_tokens": 1000, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "iterations": [
	{"type": "compaction", "input_tokens": 180000, "output_tokens": 3500, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}, {"type": "message", "input_tokens": 23000, "output_tokens": 1000}]}',
	'{"input_tokens": 203000, "output_tokens": 4500}', '(23000 + 180000) * 2 + (1000 + 3500) * 8', 180000);
SELECT is(row(meters, unpriced)::text, row('{"input_tokens": 10, "output_tokens": 5, "advisor_message_input_tokens": 70, "advisor_message_output_tokens": 8, "advisor_message_cache_read_tokens": 6}'::jsonb,
	'{"iterations[1].input_tokens": 70, "iterations[1].output_tokens": 8, "iterations[1].cache_read_tokens": 6}'::jsonb)::text, 'an iteration of another kind')
FROM tokenbill.describe_usage('{"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 0, "iterations": [{"type": "message", "input_tokens": 10, "output_tokens": 5}, {"type": "advisor_message", "model": "x", "input_tokens": 70, "output_tokens": 8, "cache_read_input_tokens": 6}]}');
-- A fallback: the totals are those of the model that answered; what a model had said before it declined is billed beside them, and if it had said nothing, not at all
SELECT pg_temp.means('a fallback', 'anthropic', '{"type": "message", "model": "b", "content": [{"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}], "stop_reason": "end_turn", "usage": {"input_tokens": 412, "output_tokens": 264, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "iterations": [
	{"type": "message", "model": "a", "input_tokens": 535, "output_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}, {"type": "fallback_message", "model": "b", "input_tokens": 412, "output_tokens": 264, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}]}}',
	'{"input_tokens": 412, "output_tokens": 264}', '412 * 2 + 264 * 8', 412);
SELECT is(row(d.meters, d.unpriced)::text, row(v.expected::jsonb, v.unpriced::jsonb)::text, 'a fallback, ' || what) FROM (VALUES
	('[{"type": "message", "model": "a", "input_tokens": 26, "output_tokens": 300, "cache_read_input_tokens": 15, "cache_creation_input_tokens": 98}, {"type": "fallback_message", "model": "b", "input_tokens": 26, "output_tokens": 214, "cache_read_input_tokens": 113}]',
		'{"input_tokens": 26, "output_tokens": 214, "cache_read_tokens": 113, "declined_input_tokens": 26, "declined_output_tokens": 300, "declined_cache_read_tokens": 15, "declined_cache_write_5m_tokens": 98}',
		'{"iterations[0].input_tokens": 26, "iterations[0].output_tokens": 300, "iterations[0].cache_read_tokens": 15, "iterations[0].cache_write_5m_tokens": 98}', 'declined in the middle'),
	('[{"type": "message", "model": "a", "input_tokens": 26, "output_tokens": 0}, {"type": "message", "model": "b", "input_tokens": 26, "output_tokens": 100}, {"type": "fallback_message", "model": "b", "input_tokens": 0, "output_tokens": 114}]',
		'{"input_tokens": 26, "output_tokens": 214, "cache_read_tokens": 113}', NULL, 'tools of the model that answered'),
	('[{"type": "message", "model": "a", "input_tokens": 26, "output_tokens": 0}, {"type": "message", "model": "c", "input_tokens": 26, "output_tokens": 7}, {"type": "fallback_message", "model": "b", "input_tokens": 26, "output_tokens": 214}]',
		'{"input_tokens": 26, "output_tokens": 214, "cache_read_tokens": 113, "declined_input_tokens": 26, "declined_output_tokens": 7}', '{"iterations[1].input_tokens": 26, "iterations[1].output_tokens": 7}', 'the second one'),
	('[{"type": "fallback_message", "model": "b", "input_tokens": 26, "output_tokens": 214}]', '{"input_tokens": 26, "output_tokens": 214, "cache_read_tokens": 113}', NULL, 'at once'),
	('[{"type": "message", "input_tokens": 26, "output_tokens": 0}, {"type": "fallback_message", "input_tokens": 26, "output_tokens": 214}]', '{"input_tokens": 26, "output_tokens": 214, "cache_read_tokens": 113}', NULL, 'without names')) v(i, expected, unpriced, what),
	LATERAL (SELECT d.meters, d.unpriced FROM tokenbill.describe_usage(('{"input_tokens": 26, "output_tokens": 214, "cache_read_input_tokens": 113, "iterations": ' || i || '}')::jsonb) d) d(meters, unpriced);
SELECT is(notes, ARRAY['another model answered, after a fallback: these are its counts'], 'a fallback is noted') FROM tokenbill.describe_usage('{"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 0, "iterations": [{"type": "message", "model": "a", "input_tokens": 1, "output_tokens": 0}, {"type": "fallback_message", "model": "b", "input_tokens": 1, "output_tokens": 2}]}');
SELECT is(tokenbill.normalize_usage('{"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 0, "iterations": []}'), '{"input_tokens": 10, "output_tokens": 5}', 'no iterations');
SELECT is(tokenbill.normalize_usage('{"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 0, "iterations": null}'), '{"input_tokens": 10, "output_tokens": 5}', 'null for iterations');
SELECT pg_temp.refused(format('SELECT tokenbill.normalize_usage(%L)', '{"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 0, "iterations": ' || i || '}'), '22023', jsonb_build_object('argument', 'usage', 'field', field), 'iterations: ' || what)
FROM (VALUES ('5', 'iterations', 'a number'), ('{}', 'iterations', 'an object'), ('[5]', 'iterations[0]', 'of numbers'), ('[{"input_tokens": 1, "output_tokens": 1}]', 'iterations[0]', 'of no type'),
	('[{"type": "a b", "input_tokens": 1, "output_tokens": 1}]', 'iterations[0]', 'of a type that is no word'), ('[{"type": "message", "input_tokens": 1, "output_tokens": 6}]', 'iterations', 'of more than the total'),
	('[{"type": "compaction", "input_tokens": -1, "output_tokens": 6}]', 'iterations[0].input_tokens', 'of less than nothing'), ('[{"type": "compaction", "input_tokens": 1}]', 'iterations[0].output_tokens', 'without output'),
	('[{"type": "fallback_message", "model": "b", "input_tokens": 10, "output_tokens": 6}]', 'iterations', 'of a fallback that is more than the total'),
	('[{"type": "message", "model": "a", "input_tokens": 10}, {"type": "fallback_message", "model": "b", "input_tokens": 10, "output_tokens": 5}]', 'iterations[0].output_tokens', 'of a declined one without output')) v(i, field, what);

-- OpenRouter's endpoint of this shape counts the cache in input_tokens too: recognized by members that Anthropic does not have
\set openrouter 'pg_temp.n(u, ''input_tokens'') * 2 + pg_temp.n(u, ''cache_read_input_tokens'') * (0.2 - 2) + pg_temp.n(u, ''cache_creation_input_tokens'') * (2.5 - 2) + pg_temp.n(u, ''cache_creation'', ''ephemeral_1h_input_tokens'') * (4 - 2.5) + pg_temp.n(u, ''output_tokens'') * 8'
SELECT pg_temp.means('OpenRouter', 'openrouter_anthropic', '{"input_tokens": 20255, "cache_creation_input_tokens": 1388, "cache_read_input_tokens": 18846, "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 388},
	"output_tokens": 503, "service_tier": "standard", "cost": 0.0213400000000001, "is_byok": false, "cost_details": {"upstream_inference_cost": null}}',
	'{"input_tokens": 21, "cache_read_tokens": 18846, "cache_write_5m_tokens": 1000, "cache_write_1h_tokens": 388, "output_tokens": 503}', :'openrouter', 20255);
SELECT is(tokenbill.normalize_usage('{"input_tokens": 100, "cache_read_input_tokens": 40, "output_tokens": 5}'), '{"input_tokens": 100, "cache_read_tokens": 40, "output_tokens": 5}', 'the same object without them is Anthropic''s');
SELECT is(tokenbill.normalize_usage('{"input_tokens": 100, "cache_read_input_tokens": 40, "output_tokens": 5}', 'openrouter_anthropic'), '{"input_tokens": 60, "cache_read_tokens": 40, "output_tokens": 5}', 'unless the format is named');
SELECT is(tokenbill.normalize_usage('{"input_tokens": 100, "cache_read_input_tokens": 40, "output_tokens": 5, "cost": 0.1}', 'anthropic'), '{"input_tokens": 100, "cache_read_tokens": 40, "output_tokens": 5}', 'either way');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"input_tokens": 50, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 11, "output_tokens": 5, "cost": 0.1}')$$,
	'22023', '{"field": "cache_read_input_tokens", "count": 51, "of": "input_tokens", "total": 50}', 'a cache that does not fit into the input is a contradiction');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"input_tokens": 50, "cache_read_input_tokens": 40, "output_tokens": 5, "total_tokens": 55}')$$, '22023', '{"field": "cache_read_input_tokens", "formats": ["anthropic", "openai_responses"]}', 'a total, too: either could be meant');

-- Anthropic's OpenAI-compatible endpoint
SELECT pg_temp.means('OpenAI-compatible', 'anthropic_openai', '{"prompt_tokens": 1200, "completion_tokens": 80, "total_tokens": 1280, "cached_tokens": 1000}', '{"input_tokens": 200, "cache_read_tokens": 1000, "output_tokens": 80}', '1200 * 2 + 1000 * (0.2 - 2) + 80 * 8', 1200);
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"prompt_tokens": 1200, "completion_tokens": 80, "cached_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 999}}')$$,
	'22023', '{"field": "prompt_tokens_details.cached_tokens", "count": 999, "of": "cached_tokens", "total": 1000}', 'two counts of the same have to agree');
SELECT * FROM finish();
ROLLBACK;
