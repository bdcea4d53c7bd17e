-- OpenAI's usage objects: chat completions, Responses, realtime, images, transcriptions, embeddings
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(106);
\i :srcdir/sql/usage.psql

-- Chat completions: details are parts of the totals
\set chat 'pg_temp.n(u, ''prompt_tokens'') * 2 + pg_temp.n(u, ''prompt_tokens_details'', ''cached_tokens'') * (0.2 - 2) + pg_temp.n(u, ''prompt_tokens_details'', ''cache_write_tokens'') * (2.5 - 2) + pg_temp.n(u, ''prompt_tokens_details'', ''audio_tokens'') * (32 - 2) + pg_temp.n(u, ''prompt_tokens_details'', ''image_tokens'') * (5 - 2) + pg_temp.n(u, ''completion_tokens'') * 8 + pg_temp.n(u, ''completion_tokens_details'', ''reasoning_tokens'') * (9 - 8) + pg_temp.n(u, ''completion_tokens_details'', ''audio_tokens'') * (64 - 8)'
SELECT pg_temp.means('chat', 'openai_chat', '{"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}', '{"input_tokens": 19, "output_tokens": 10}', :'chat', 19);
SELECT pg_temp.means('chat, cached and reasoning', 'openai_chat', '{"prompt_tokens": 2006, "completion_tokens": 1117, "total_tokens": 3123,
	"prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
	"completion_tokens_details": {"reasoning_tokens": 1024, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}',
	'{"input_tokens": 86, "cache_read_tokens": 1920, "output_tokens": 93, "reasoning_tokens": 1024}', :'chat', 2006);
SELECT pg_temp.means('chat, reasoning beside the completion', 'openai_chat', '{"prompt_tokens": 5353, "completion_tokens": 650, "total_tokens": 6402, "prompt_tokens_details": {"text_tokens": 5353, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 2624},
	"completion_tokens_details": {"reasoning_tokens": 399, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}, "num_sources_used": 0}',
	'{"input_tokens": 2729, "cache_read_tokens": 2624, "output_tokens": 650, "reasoning_tokens": 399}', '5353 * 2 + 2624 * (0.2 - 2) + 650 * 8 + 399 * 9', 5353);
SELECT pg_temp.means('chat, more reasoning than completion', 'openai_chat', '{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 315, "completion_tokens_details": {"reasoning_tokens": 300}}',
	'{"input_tokens": 10, "output_tokens": 5, "reasoning_tokens": 300}', '10 * 2 + 5 * 8 + 300 * 9', 10);
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 316, "completion_tokens_details": {"reasoning_tokens": 300}}')$$,
	'22023', '{"argument": "usage", "field": "total_tokens"}', 'unless the total says otherwise');
SELECT pg_temp.refused($$SELECT tokenbill.normalize_usage('{"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 300}}')$$,
	'22023', '{"argument": "usage", "field": "completion_tokens_details.reasoning_tokens"}', 'or says nothing');
SELECT pg_temp.means('chat, written to a cache', 'openai_chat', '{"prompt_tokens": 2600, "completion_tokens": 300, "total_tokens": 2900, "prompt_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 400}}',
	'{"input_tokens": 200, "cache_read_tokens": 2000, "cache_write_5m_tokens": 400, "output_tokens": 300}', :'chat', 2600);
SELECT pg_temp.means('chat, audio both ways', 'openai_chat', '{"prompt_tokens": 200, "completion_tokens": 310, "total_tokens": 510, "prompt_tokens_details": {"text_tokens": 50, "audio_tokens": 140, "image_tokens": 10, "cached_tokens": 30},
	"completion_tokens_details": {"text_tokens": 60, "audio_tokens": 250, "reasoning_tokens": 0}}',
	'{"input_tokens": 20, "input_audio_tokens": 140, "input_image_tokens": 10, "cache_read_tokens": 30, "output_tokens": 60, "output_audio_tokens": 250}', :'chat', 200);
SELECT pg_temp.means('chat, rejected predictions are billed', 'openai_chat', '{"prompt_tokens": 400, "completion_tokens": 166, "total_tokens": 566, "prompt_tokens_details": null,
	"completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 18, "rejected_prediction_tokens": 10}}', '{"input_tokens": 400, "output_tokens": 166}', :'chat', 400);
SELECT pg_temp.means('chat, nulls where nothing is told', 'openai_chat', '{"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": null, "prompt_tokens_details": {"cached_tokens": null}, "completion_tokens_details": null}',
	'{"input_tokens": 7, "output_tokens": 3}', :'chat', 7);
SELECT pg_temp.means('chat, a body', 'openai_chat', '{"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Bill 4111 1111 1111 1111"}}], "service_tier": "priority",
	"usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "prompt_tokens_details": {"cached_tokens": 64}}}',
	'{"input_tokens": 36, "cache_read_tokens": 64, "output_tokens": 20}', replace(:'chat', 'u,', 'u -> ''usage'','), 100, 'priority');
SELECT pg_temp.means('chat, nothing used', 'openai_chat', '{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}', '{"input_tokens": 0}', :'chat', 0);

-- Responses
\set responses 'pg_temp.n(u, ''input_tokens'') * 2 + pg_temp.n(u, ''input_tokens_details'', ''cached_tokens'') * (0.2 - 2) + pg_temp.n(u, ''input_tokens_details'', ''cache_write_tokens'') * (2.5 - 2) + pg_temp.n(u, ''output_tokens'') * 8 + pg_temp.n(u, ''output_tokens_details'', ''reasoning_tokens'') * (9 - 8)'
SELECT pg_temp.means('responses', 'openai_responses', '{"input_tokens": 328, "input_tokens_details": {"cached_tokens": 128, "cache_write_tokens": 100}, "output_tokens": 52, "output_tokens_details": {"reasoning_tokens": 32}, "total_tokens": 380}',
	'{"input_tokens": 100, "cache_read_tokens": 128, "cache_write_5m_tokens": 100, "output_tokens": 20, "reasoning_tokens": 32}', :'responses', 328);
SELECT pg_temp.means('responses, an event', 'openai_responses', '{"type": "response.completed", "response": {"id": "resp_1", "object": "response", "service_tier": "flex", "output": [], "usage": {"input_tokens": 37, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 11,
	"output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 48}}}', '{"input_tokens": 37, "output_tokens": 11}', '37 * 2 + 11 * 8', 37, 'flex');
SELECT pg_temp.means('responses, a line of a batch', 'openai_responses', '{"id": "batch_req_1", "custom_id": "request-1", "response": {"status_code": 200, "request_id": "r", "body": {"object": "response", "service_tier": "default",
	"usage": {"input_tokens": 22, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 24}}}, "error": null}',
	'{"input_tokens": 20, "cache_read_tokens": 2, "output_tokens": 2}', '20 * 2 + 2 * 0.2 + 2 * 8', 22, 'batch');

-- Realtime: everything by modality, what was cached too
\set realtime 'pg_temp.n(u, ''input_tokens'') * 2 + pg_temp.n(u, ''input_token_details'', ''audio_tokens'') * (32 - 2) + pg_temp.n(u, ''input_token_details'', ''image_tokens'') * (5 - 2) + pg_temp.n(u, ''input_token_details'', ''cached_tokens'') * (0.2 - 2) + pg_temp.n(u, ''input_token_details'', ''cached_tokens_details'', ''audio_tokens'') * ((0.4 - 32) - (0.2 - 2)) + pg_temp.n(u, ''input_token_details'', ''cached_tokens_details'', ''image_tokens'') * ((0.5 - 5) - (0.2 - 2)) + pg_temp.n(u, ''output_tokens'') * 8 + pg_temp.n(u, ''output_token_details'', ''audio_tokens'') * (64 - 8)'
SELECT pg_temp.means('realtime', 'openai_realtime', '{"total_tokens": 1453, "input_tokens": 1132, "output_tokens": 321, "input_token_details": {"text_tokens": 619, "audio_tokens": 413, "image_tokens": 100, "cached_tokens": 664,
	"cached_tokens_details": {"text_tokens": 320, "audio_tokens": 264, "image_tokens": 80}}, "output_token_details": {"text_tokens": 30, "audio_tokens": 291}}',
	'{"input_tokens": 299, "input_audio_tokens": 149, "input_image_tokens": 20, "cache_read_tokens": 320, "cache_read_audio_tokens": 264, "cache_read_image_tokens": 80, "output_tokens": 30, "output_audio_tokens": 291}', :'realtime', 1132);
SELECT pg_temp.means('realtime, cached but not how', 'openai_realtime', '{"total_tokens": 253, "input_tokens": 132, "output_tokens": 121, "input_token_details": {"cached_tokens": 64, "text_tokens": 119, "audio_tokens": 13},
	"output_token_details": {"text_tokens": 30, "audio_tokens": 91}}',
	'{"input_tokens": 55, "input_audio_tokens": 13, "cache_read_tokens": 64, "output_tokens": 30, "output_audio_tokens": 91}', :'realtime', 132);
SELECT pg_temp.means('realtime, an event', 'openai_realtime', '{"type": "response.done", "event_id": "event_1", "response": {"id": "resp_1", "object": "realtime.response", "status": "completed", "usage": {"total_tokens": 30, "input_tokens": 20, "output_tokens": 10,
	"input_token_details": {"text_tokens": 20, "audio_tokens": 0, "cached_tokens": 0}, "output_token_details": {"text_tokens": 10, "audio_tokens": 0}}}}', '{"input_tokens": 20, "output_tokens": 10}', '20 * 2 + 10 * 8', 20);

-- Images: what comes out is images, unless the object tells otherwise
SELECT pg_temp.means('images', 'openai_images', '{"total_tokens": 1106, "input_tokens": 50, "output_tokens": 1056, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}',
	'{"input_tokens": 10, "input_image_tokens": 40, "output_image_tokens": 1056}', '50 * 2 + 40 * (5 - 2) + 1056 * 40', 50);
SELECT pg_temp.means('images, text among the output', 'openai_images', '{"total_tokens": 1206, "input_tokens": 50, "output_tokens": 1156, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}, "output_tokens_details": {"image_tokens": 1056, "text_tokens": 100}}',
	'{"input_tokens": 10, "input_image_tokens": 40, "output_tokens": 100, "output_image_tokens": 1056}', '50 * 2 + 40 * (5 - 2) + 1156 * 8 + 1056 * (40 - 8)', 50);
SELECT pg_temp.means('images, a body', 'openai_images', '{"created": 1713833628, "data": [{"b64_json": "..."}], "usage": {"total_tokens": 100, "input_tokens": 50, "output_tokens": 50, "input_tokens_details": {"text_tokens": 50, "image_tokens": 0}}}',
	'{"input_tokens": 50, "output_image_tokens": 50}', '50 * 2 + 50 * 40', 50);

-- Transcriptions: tokens or seconds
SELECT pg_temp.means('transcription, tokens', 'openai_transcription', '{"type": "tokens", "input_tokens": 114, "input_token_details": {"text_tokens": 10, "audio_tokens": 104}, "output_tokens": 45, "total_tokens": 159}',
	'{"input_tokens": 10, "input_audio_tokens": 104, "output_tokens": 45}', '114 * 2 + 104 * (32 - 2) + 45 * 8', 114);
SELECT pg_temp.means('transcription, seconds', 'openai_transcription', '{"type": "duration", "seconds": 9}', '{"seconds": 9}', '9 * 100');
SELECT pg_temp.means('transcription, a part of a second', 'openai_transcription', '{"text": "Hello", "usage": {"type": "duration", "seconds": 12.25}}', '{"seconds": 12.25}', '12.25 * 100');
SELECT pg_temp.means('transcription, silence', 'openai_transcription', '{"type": "duration", "seconds": 0}', '{"seconds": 0}', '0');

-- Embeddings
SELECT pg_temp.means('embeddings', 'openai_embeddings', '{"prompt_tokens": 8, "total_tokens": 8}', '{"input_tokens": 8}', '8 * 2', 8);
SELECT pg_temp.means('embeddings, a body', 'openai_embeddings', '{"object": "list", "data": [{"object": "embedding", "embedding": [0.1], "index": 0}], "model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 5}}', '{"input_tokens": 5}', '5 * 2', 5);

-- The shortest object is the same in every format that has these members
SELECT is(format || meters, format || '{"input_tokens": 10, "output_tokens": 5}', 'just input and output: ' || format)
FROM unnest('{auto,meters,openai_responses,anthropic}'::text[]) format, LATERAL (SELECT tokenbill.normalize_usage('{"input_tokens": 10, "output_tokens": 5}', format)::text) x(meters);
SELECT * FROM finish();
ROLLBACK;
