-- Providers' usage objects in charges, holds, captures and batches: what is taken, what is kept, what is the same request
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(66);
\i :srcdir/sql/usage.psql
SELECT tokenbill.recharge('u', 1000, 'o') \g /dev/null
SELECT tokenbill.set_price('m', 'output_tokens', 4, 1000000, service_tier => 'flex'), tokenbill.set_price('m', 'output_tokens', 3, 1000000, service_tier => 'batch') \g /dev/null

-- One call of each kind, with what it costs in millionths worked out by hand
CREATE TEMP TABLE call (k text, u jsonb, cost numeric, kept jsonb);
INSERT INTO call (k, u, cost) VALUES
	('chat', '{"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306, "prompt_tokens_details": {"cached_tokens": 1920}, "x_remark": "kept"}', 86 * 2 + 1920 * 0.2 + 300 * 8),
	('anthropic', '{"input_tokens": 21, "cache_read_input_tokens": 18846, "cache_creation_input_tokens": 388, "output_tokens": 503, "server_tool_use": {"web_search_requests": 1}}', 21 * 2 + 18846 * 0.2 + 388 * 2.5 + 503 * 8 + 10000),
	('gemini', '{"promptTokenCount": 1000, "candidatesTokenCount": 50, "thoughtsTokenCount": 20, "totalTokenCount": 1070}', 1000 * 2 + 50 * 8 + 20 * 9),
	('deepseek', '{"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, "prompt_cache_hit_tokens": 60, "prompt_cache_miss_tokens": 40}', 40 * 2 + 60 * 0.2 + 5 * 8),
	('openrouter', '{"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, "cost": 0.316076402439268}', 100 * 2 + 5 * 8),
	('seconds', '{"type": "duration", "seconds": 12.25}', 12.25 * 100),
	('fraction', '{"type": "duration", "seconds": 0.123456789}', 0.123456789 * 100),
	('meters', '{"input_tokens": 7, "output_tokens": 0}', 7 * 2);
SELECT is(-r.amount * 1000000, cost, 'charge: ' || k) FROM call, tokenbill.charge('u', 'm', u, k) r;
SELECT is(l.usage, u, 'kept as it is: ' || k) FROM call JOIN tokenbill.ledger l ON l.account = 'u' AND idempotency_key = k;
SELECT is((SELECT sum((r.value ->> 'amount')::numeric) FROM jsonb_each(l.rates) r), -l.amount, 'rates add up: ' || k)
FROM call JOIN tokenbill.ledger l ON l.account = 'u' AND idempotency_key = k WHERE k NOT IN ('meters');
SELECT results_eq($$SELECT meter, quantity FROM tokenbill.usage_daily WHERE account = 'u' ORDER BY meter COLLATE "C"$$, $$VALUES ('cache_read_tokens', 1920 + 18846 + 60::numeric), ('cache_write_5m_tokens', 388), ('input_tokens', 86 + 21 + 1000 + 40 + 100 + 7),
	('output_tokens', 300 + 503 + 50 + 5 + 5), ('reasoning_tokens', 20), ('seconds', 12.25 + 0.123456789), ('web_searches', 1)$$, 'usage_daily counts meters, whatever the object');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('u')$$, 'the ledger is sound');

-- Of a response its usage is kept, and a service tier that makes a difference
CREATE TEMP TABLE response AS SELECT * FROM (VALUES
	('no tier', 'r1', '{"id": "x", "choices": [{"message": {"content": "secret"}}], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}'::jsonb, 10 * 2 + 5 * 8, '{"prompt_tokens": 10, "completion_tokens": 5}'::jsonb),
	('the default tier', 'r2', '{"id": "x", "service_tier": "default", "usage": {"prompt_tokens": 10, "completion_tokens": 5}}', 10 * 2 + 5 * 8, '{"prompt_tokens": 10, "completion_tokens": 5}'),
	('flex', 'r3', '{"id": "x", "service_tier": "flex", "usage": {"prompt_tokens": 10, "completion_tokens": 5}}', 10 * 2 + 5 * 4, '{"usage": {"prompt_tokens": 10, "completion_tokens": 5}, "service_tier": "flex"}'),
	('a line of a batch', 'r4', '{"custom_id": "1", "response": {"body": {"usage": {"prompt_tokens": 10, "completion_tokens": 5}}}}', 10 * 2 + 5 * 3, '{"usage": {"prompt_tokens": 10, "completion_tokens": 5}, "service_tier": "batch"}'),
	('a line of Anthropic''s batch that names no tier', 'r7', '{"custom_id": "1", "result": {"type": "succeeded", "message": {"type": "message", "usage": {"input_tokens": 10, "cache_read_input_tokens": 0, "output_tokens": 5}}}}', 10 * 2 + 5 * 3, '{"usage": {"input_tokens": 10, "cache_read_input_tokens": 0, "output_tokens": 5}, "service_tier": "batch"}'),
	('a line of Gemini''s batch', 'r8', '{"key": "request-1", "response": {"candidates": [], "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}}}', 10 * 2 + 5 * 3, '{"usage": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}, "service_tier": "batch"}'),
	('a line of Vertex AI''s batch', 'r9', '{"status": "", "processed_time": "2026-03-01T12:00:00Z", "request": {"contents": []}, "response": {"usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15, "trafficType": "ON_DEMAND"}}}', 10 * 2 + 5 * 3, '{"usage": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15, "trafficType": "ON_DEMAND"}, "service_tier": "batch"}'),
	('a batch as a whole', 'r10', '{"id": "batch_1", "object": "batch", "request_counts": {"total": 2, "completed": 2, "failed": 0}, "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}}', 10 * 2 + 5 * 3, '{"usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}, "service_tier": "batch"}'),
	('a log of a call that was in no batch', 'r11', '{"request": {"contents": []}, "response": {"usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}}}', 10 * 2 + 5 * 8, '{"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}'),
	('the end of Groq''s stream', 'r12', '{"object": "chat.completion.chunk", "choices": [], "x_groq": {"id": "req_1", "usage": {"queue_time": 0.03, "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "total_time": 0.1}}}', 10 * 2 + 5 * 8, '{"queue_time": 0.03, "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "total_time": 0.1}'),
	('meters, flex', 'r5', '{"usage": {"input_tokens": 10, "output_tokens": 5}, "service_tier": "flex"}', 10 * 2 + 5 * 4, '{"usage": {"input_tokens": 10, "output_tokens": 5}, "service_tier": "flex"}'),
	('Gemini', 'r6', '{"candidates": [], "usageMetadata": {"promptTokenCount": 10, "totalTokenCount": 10}}', 10 * 2, '{"promptTokenCount": 10, "totalTokenCount": 10}')) v(what, k, u, cost, kept);
SELECT is(-r.amount * 1000000, cost::numeric, 'a response: ' || what) FROM response, tokenbill.charge('u', 'm', u, k) r;
SELECT is(l.usage, kept, 'what is kept of a response: ' || what) FROM response JOIN tokenbill.ledger l ON l.account = 'u' AND idempotency_key = k;
SELECT results_eq($$SELECT (d).meters, (d).service_tier FROM (SELECT tokenbill.describe_usage(usage) AS d FROM tokenbill.ledger WHERE account = 'u' AND idempotency_key IN ('r3', 'r4') ORDER BY seq) x$$,
	$$VALUES ('{"input_tokens": 10, "output_tokens": 5}'::jsonb, 'flex'), ('{"input_tokens": 10, "output_tokens": 5}', 'batch')$$, 'what is kept means the same again');
SELECT is(row(replayed, amount)::text, row(true, -0.00006)::text, 'the usage of a response is the same request as the response') FROM tokenbill.charge('u', 'm', '{"prompt_tokens": 10, "completion_tokens": 5}', 'r1');
SELECT pg_temp.refused($$SELECT tokenbill.charge('u', 'm', '{"prompt_tokens": 10, "completion_tokens": 6}', 'r1')$$, 'PT409', '{"argument": "usage", "was": {"prompt_tokens": 10, "completion_tokens": 5}}', 'another usage is not');
SELECT pg_temp.refused($$SELECT tokenbill.charge('u', 'm', '{"usage": {"prompt_tokens": 10, "completion_tokens": 5}, "service_tier": "flex"}', 'r1')$$, 'PT409', '{"argument": "usage"}', 'nor another tier');

-- Nothing that is counted is given away
SELECT pg_temp.refused($$SELECT tokenbill.charge('u', 'm', '{"prompt_tokens": 10, "completion_tokens": 5, "citation_tokens": 4}', 'x1')$$, 'PT404', '{"service": "m", "meter": "citation_tokens"}', 'a count that no format knows has to be priced');
SELECT tokenbill.set_price('m', 'citation_tokens', 1, 1000000) \g /dev/null
SELECT is(amount, -(10 * 2 + 5 * 8 + 4 * 1) * 0.000001, 'and then is charged') FROM tokenbill.charge('u', 'm', '{"prompt_tokens": 10, "completion_tokens": 5, "citation_tokens": 4}', 'x1');
SELECT pg_temp.refused($$SELECT tokenbill.charge('u', 'm', '{"usage": null, "choices": []}', 'x2')$$, '22004', '{"argument": "usage", "field": "usage"}', 'a response without usage is not free');
SELECT pg_temp.refused($$SELECT tokenbill.charge('u', 'm', '{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 16}', 'x3')$$, '22023', '{"argument": "usage", "field": "total_tokens"}', 'nor is a contradiction charged');

-- Holds, captures, batches
SELECT is(held, 0.00006, 'a hold of an estimate') FROM tokenbill.hold('u', NULL, 'h1', service => 'm', usage => '{"prompt_tokens": 10, "completion_tokens": 5}');
SELECT is(amount, -0.000052, 'is captured by a response') FROM tokenbill.capture('u', 'h1', usage => '{"id": "x", "usage": {"prompt_tokens": 10, "completion_tokens": 4}}');
SELECT is(array_agg(coalesce(sqlstate, amount::text) ORDER BY item), '{-0.00006,22023,-0.00002}', 'a batch of objects')
FROM tokenbill.charge_batch('[{"account": "u", "service": "m", "idempotency_key": "b1", "usage": {"prompt_tokens": 10, "completion_tokens": 5}}, {"account": "u", "service": "m", "idempotency_key": "b2", "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 1}},
	{"account": "u", "service": "m", "idempotency_key": "b3", "usage": {"promptTokenCount": 10, "totalTokenCount": 10}}]');

-- A format that a service has named: the object alone could be of two
SELECT tokenbill.set_price('n', 'input_tokens', 2, 1000000), tokenbill.set_price('n', 'output_tokens', 8, 1000000), tokenbill.set_service('n', usage_format => 'anthropic') \g /dev/null
SELECT tokenbill.hold('u', 1, 'h2', service => 'n'), tokenbill.hold('u', 1, 'h3', service => 'n') \g /dev/null
\set two '{"input_tokens": 10, "cache_read_input_tokens": 4, "output_tokens": 5, "total_tokens": 15}'
SELECT pg_temp.refused(format('SELECT tokenbill.charge(''u'', ''m'', %L, ''x4'')', :'two'), '22023', '{"formats": ["anthropic", "openai_responses"]}', 'where none is named it is refused');
SELECT is(amount, -0.000068, 'where one is, it is charged') FROM tokenbill.charge('u', 'n', :'two', 'n1');
SELECT is(amount, -0.000068, 'and captured') FROM tokenbill.capture('u', 'h2', usage => :'two');
SELECT pg_temp.refused($$SELECT tokenbill.capture('u', 'h3', usage => '{"input_tokens": -1, "cache_read_input_tokens": 4, "output_tokens": 5}')$$, '22023', '{"argument": "usage", "field": "input_tokens"}', 'what no format takes is refused');
SELECT pg_temp.refused($$SELECT tokenbill.capture('u', 'h3', usage => '{"prompt_tokens": 1, "completion_tokens": 1}')$$, '22023', '{"field": "input_tokens", "format": "anthropic"}', 'and what the service''s does not');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('u')$$, 'the ledger is still sound');
SELECT * FROM finish();
ROLLBACK;
