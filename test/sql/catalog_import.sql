-- Catalogs of models: what their fields mean, what is refused, what a second import finds
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(69);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('ann', credit_limit => 1000000) \g /dev/null

-- A model with every kind of price, its numbers as a catalog writes them
\set full '{"full": {"mode": "chat", "litellm_provider": "somebody", "max_tokens": 8192, "max_input_tokens": 1e6, "supports_vision": true, "deprecation_date": "2027-01-01", "source": null, "supported_regions": ["global"], "metadata": {"notes": "x", "price_of_old": 3}, "input_cost_per_token": 2.5e-06, "input_cost_per_token_above_200k_tokens": 5e-06, "input_cost_per_token_above_1m_tokens": 7e-06, "input_cost_per_token_batches": 1.25e-06, "input_cost_per_token_flex": 1.25e-06, "input_cost_per_token_above_200k_tokens_flex": 2.5e-06, "input_cost_per_token_priority": 4.5e-06, "output_cost_per_token": 1e-05, "output_cost_per_token_priority": 2e-05, "output_cost_per_reasoning_token": 1.2e-05, "cache_read_input_token_cost": 1.25e-08, "input_cost_per_token_cache_hit": 1.25e-08, "cache_creation_input_token_cost": 3.125e-06, "cache_creation_input_token_cost_above_1hr": 5e-06, "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 1e-05, "input_cost_per_audio_token": 4e-05, "cache_read_input_audio_token_cost": 4e-07, "cache_creation_input_audio_token_cost": 1e-06, "output_cost_per_audio_token": 8e-05, "input_cost_per_image_token": 3e-06, "output_cost_per_image_token": 6e-06, "output_cost_per_video_token": 1.75e-05, "citation_cost_per_token": 2e-06, "input_cost_per_character": 1e-07, "output_cost_per_character": 2e-07, "input_cost_per_image": 0.01, "input_cost_per_pixel": 1.9e-08, "input_cost_per_second": 0.0001, "output_cost_per_second": 0, "input_cost_per_audio_per_second": 0.0002, "input_cost_per_video_per_second": 0.0005, "input_cost_per_video_per_second_above_8s_interval": 0.001, "input_cost_per_video_per_second_above_15s_interval": 0.002, "input_cost_per_request": 0.005, "input_cost_per_query": 0.002, "search_context_cost_per_query": {"search_context_size_low": 0.03, "search_context_size_medium": 0.035, "search_context_size_high": 0.05}, "file_search_cost_per_1k_calls": 2.5, "file_search_cost_per_gb_per_day": 0.1, "vector_store_cost_per_gb_per_day": 0.2, "code_interpreter_cost_per_session": 0.03, "computer_use_input_cost_per_1k_tokens": 0.003, "computer_use_output_cost_per_1k_tokens": 0.012, "ocr_cost_per_page": 0.001, "annotation_cost_per_page": 0.003, "ocr_cost_per_credit": 0.015, "input_dbu_cost_per_token": 0.9, "provider_specific_entry": {"fast": 6.0}, "regional_processing_uplift_multiplier_eu": 1.1, "off_peak_pricing": {"hours_utc": "16:30-00:30", "output_cost_per_token": 2.5e-06}, "a_new_cost": 0.5, "cost_as_text": "0.5", "new_prices": {"low": {"input": 1}}}}'

SELECT results_eq($$SELECT meter, service_tier, hours, trim_scale(unit_price), per, mode, tiers FROM tokenbill.read_catalog($$ || quote_literal(:'full') || $$)
		WHERE verdict = 'price' AND service_tier NOT IN ('fast', 'eu') ORDER BY meter COLLATE "C", service_tier COLLATE "C", hours$$, $$VALUES
	('annotated_pages', 'standard', '', 0.003::numeric, 1::numeric, 'flat', NULL::jsonb),
	('cache_read_audio_tokens', 'standard', '', 0.4, 1000000, 'flat', NULL),
	('cache_read_tokens', 'standard', '', 0.0125, 1000000, 'flat', NULL),
	('cache_write_1h_tokens', 'standard', '', 5, 1000000, 'cliff', '[{"above": 200000, "unit_price": 10}]'),
	('cache_write_5m_tokens', 'standard', '', 3.125, 1000000, 'flat', NULL),
	('cache_write_audio_tokens', 'standard', '', 1, 1000000, 'flat', NULL),
	('citation_tokens', 'standard', '', 2, 1000000, 'flat', NULL),
	('code_interpreter_sessions', 'standard', '', 0.03, 1, 'flat', NULL),
	('computer_use_input_tokens', 'standard', '', 3, 1000000, 'flat', NULL),
	('computer_use_output_tokens', 'standard', '', 12, 1000000, 'flat', NULL),
	('file_search_gb_days', 'standard', '', 0.1, 1, 'flat', NULL),
	('file_searches', 'standard', '', 2.5, 1000, 'flat', NULL),
	('input_audio_seconds', 'standard', '', 0.0002, 1, 'flat', NULL),
	('input_audio_tokens', 'standard', '', 40, 1000000, 'flat', NULL),
	('input_characters', 'standard', '', 0.1, 1000000, 'flat', NULL),
	('input_image_tokens', 'standard', '', 3, 1000000, 'flat', NULL),
	('input_images', 'standard', '', 0.01, 1, 'flat', NULL),
	('input_tokens', 'batch', '', 1.25, 1000000, 'cliff', '[{"above": 200000, "unit_price": 5}, {"above": 1000000, "unit_price": 7}]'),
	('input_tokens', 'flex', '', 1.25, 1000000, 'cliff', '[{"above": 200000, "unit_price": 2.5}, {"above": 1000000, "unit_price": 7}]'),
	('input_tokens', 'priority', '', 4.5, 1000000, 'cliff', '[{"above": 200000, "unit_price": 5}, {"above": 1000000, "unit_price": 7}]'),
	('input_tokens', 'standard', '', 2.5, 1000000, 'cliff', '[{"above": 200000, "unit_price": 5}, {"above": 1000000, "unit_price": 7}]'),
	('input_video_seconds', 'standard', '', 0.0005, 1, 'flat', NULL),
	('input_video_seconds_15s_interval', 'standard', '', 0.002, 1, 'flat', NULL),
	('input_video_seconds_8s_interval', 'standard', '', 0.001, 1, 'flat', NULL),
	('ocr_credits', 'standard', '', 0.015, 1, 'flat', NULL),
	('output_audio_tokens', 'standard', '', 80, 1000000, 'flat', NULL),
	('output_characters', 'standard', '', 0.2, 1000000, 'flat', NULL),
	('output_image_tokens', 'standard', '', 6, 1000000, 'flat', NULL),
	('output_tokens', 'priority', '', 20, 1000000, 'flat', NULL),
	('output_tokens', 'standard', '', 10, 1000000, 'flat', NULL),
	('output_tokens', 'standard', '16:30-00:30', 2.5, 1000000, 'flat', NULL),
	('output_video_tokens', 'standard', '', 17.5, 1000000, 'flat', NULL),
	('pages', 'standard', '', 0.001, 1, 'flat', NULL),
	('queries', 'standard', '', 0.002, 1, 'flat', NULL),
	('reasoning_tokens', 'standard', '', 12, 1000000, 'flat', NULL),
	('requests', 'standard', '', 0.005, 1, 'flat', NULL),
	('seconds', 'standard', '', 0.0001, 1, 'flat', NULL),
	('vector_store_gb_days', 'standard', '', 0.2, 1, 'flat', NULL),
	('web_searches', 'standard', '', 0.035, 1, 'flat', NULL),
	('web_searches_high', 'standard', '', 0.05, 1, 'flat', NULL),
	('web_searches_low', 'standard', '', 0.03, 1, 'flat', NULL)$$, 'every field of a model is its price');
SELECT results_eq($$SELECT service_tier, meter, trim_scale(unit_price), tiers FROM tokenbill.read_catalog($$ || quote_literal(:'full') || $$)
		WHERE service_tier IN ('fast', 'eu') AND meter IN ('input_tokens', 'output_tokens', 'pages', 'cache_read_tokens') ORDER BY 1, 2$$, $$VALUES
	('eu', 'cache_read_tokens', 0.01375, NULL::jsonb), ('eu', 'input_tokens', 2.75, '[{"above": 200000, "unit_price": 5.5}, {"above": 1000000, "unit_price": 7.7}]'), ('eu', 'output_tokens', 11, NULL),
	('fast', 'cache_read_tokens', 0.075, NULL), ('fast', 'input_tokens', 15, '[{"above": 200000, "unit_price": 30}, {"above": 1000000, "unit_price": 42}]'), ('fast', 'output_tokens', 60, NULL)$$,
	'what costs some times the price of tokens is a service tier, its brackets too');
SELECT set_eq($$SELECT verdict, field, value FROM tokenbill.read_catalog($$ || quote_literal(:'full') || $$) WHERE verdict <> 'price'$$,
	$$VALUES ('unknown', 'a_new_cost', '0.5'::jsonb), ('unknown', 'cost_as_text', '"0.5"'), ('unknown', 'new_prices', '{"low": {"input": 1}}'),
		('left out', 'input_cost_per_pixel', '1.9e-08'), ('left out', 'input_dbu_cost_per_token', '0.9')$$, 'what else there is is told, numbers inside of others too');
SELECT set_eq($$SELECT field FROM tokenbill.read_catalog($$ || quote_literal(:'full') || $$) WHERE verdict = 'price' AND note IS NOT NULL$$,
	ARRAY['input_cost_per_token_batches', 'input_cost_per_token_flex', 'input_cost_per_token_priority'], 'and what is assumed of longer contexts');
SELECT is_empty($$SELECT f.meter FROM tokenbill.catalog_fields f WHERE f.unit <> 'times' AND f.meter !~ '^[a-z][a-z0-9_]*$'$$, 'every field has a name of a meter');

-- Modes tell what the same field means
CREATE FUNCTION pg_temp.said(model jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(concat_ws(' ', verdict, meter, nullif(service_tier, 'standard'), nullif(hours, ''), unit_price || '/' || per, tiers), ', '
		ORDER BY verdict COLLATE "C", meter COLLATE "C", service_tier COLLATE "C", hours, field), '')
	FROM tokenbill.read_catalog(jsonb_build_object('m', model))
$$;
SELECT is(pg_temp.said(model), said, description) FROM (VALUES
	('{"mode": "image_generation", "input_cost_per_image": 0.04}'::jsonb, 'price images 0.04/1', 'the image of a model that makes images is one it makes'),
	('{"mode": "image_generation", "input_cost_per_image": 0.001, "output_cost_per_image": 0.13}', 'price images 0.13/1, price input_images 0.001/1', 'unless it has a price of those too'),
	('{"mode": "chat", "input_cost_per_image": 0.001}', 'price input_images 0.001/1', 'that of another is one it reads'),
	('{"mode": "image_generation", "input_cost_per_pixel": 2e-08, "output_cost_per_pixel": 0.0}', 'price output_pixels 0/1000000, price pixels 0.02/1000000', 'pixels'),
	('{"mode": "audio_transcription", "input_cost_per_second": 0.0001, "output_cost_per_second": 0.0001}', 'price seconds 0.0001/1', 'a second of sound is paid once'),
	('{"mode": "audio_transcription", "input_cost_per_second": 0, "output_cost_per_second": 0.0003}', 'price seconds 0.0003/1', 'by whichever field prices it'),
	('{"mode": "audio_transcription", "input_cost_per_second": 0.0001, "output_cost_per_second": 0.0003}', 'contradiction seconds, price seconds 0.0001/1', 'two prices of the same contradict each other'),
	('{"mode": "video_generation", "output_cost_per_second": 0.05, "output_cost_per_second_1080p": 0.08}', 'price seconds 0.05/1, price seconds_1080p 0.08/1', 'video'),
	('{"mode": "video_generation", "output_cost_per_video_per_second": 0.3}', 'price seconds 0.3/1', 'video by its other name'),
	('{"mode": "audio_speech", "input_cost_per_character": 1.5e-05}', 'price characters 15/1000000', 'characters that are spoken'),
	('{"mode": "chat", "input_cost_per_character": 5e-06, "output_cost_per_character": 1.5e-05}', 'price input_characters 5/1000000, price output_characters 15/1000000', 'characters of a chat'),
	('{"search_context_cost_per_query": {"search_context_size_low": 0.01, "search_context_size_medium": 0.01, "search_context_size_high": 0.01}}', 'price web_searches 0.01/1', 'searches at one price'),
	('{"tiered_pricing": [{"range": [0, 32000.0], "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06}, {"range": [32000.0, 128e3], "input_cost_per_token": 2e-06, "output_cost_per_token": 5e-06}]}',
		'price input_tokens 1/1000000 [{"above": 32000, "unit_price": 2}], price output_tokens 5/1000000', 'tiered_pricing is cliffs, where its prices differ'),
	('{"tiered_pricing": [{"max_results_range": [0, 25], "input_cost_per_query": 0.005}, {"max_results_range": [26, 100], "input_cost_per_query": 0.025}]}',
		'price queries_up_to_100_results 0.025/1, price queries_up_to_25_results 0.005/1', 'queries by how many results they may have'),
	('{"tiered_pricing": [{"span": [0, 25], "input_cost_per_token": 0.005}]}', 'unknown input_tokens', 'tiers of something else are not understood'),
	('{"tiered_pricing": 5}', 'unknown', 'nor such as are none'),
	('{"input_cost_per_token": 1e-06, "off_peak_pricing": [{"hours_utc": ["16:30-00:30", "01:00-04:00"], "input_cost_per_token": 5e-07}]}',
		'price input_tokens 1/1000000, price input_tokens 01:00-04:00 0.5/1000000, price input_tokens 16:30-00:30 0.5/1000000', 'windows of hours'),
	('{"input_cost_per_token": 1e-06, "off_peak_pricing": {"hours_utc": "25:00-00:30", "input_cost_per_token": 5e-07}}', 'price input_tokens 1/1000000, unknown input_tokens 25:00-00:30', 'windows that are none'),
	('{"input_cost_per_token": 1e-06, "off_peak_pricing": {"hours_utc": "16:30-00:30", "discount": 0.5}}', 'price input_tokens 1/1000000, unknown 16:30-00:30', 'a window with something else in it'),
	('{"input_cost_per_token": 1e-06, "input_cost_per_token_above_200k_tokens": 2e-06, "off_peak_pricing": {"hours_utc": "16:30-00:30", "input_cost_per_token": 5e-07}}',
		'price input_tokens 1/1000000 [{"above": 200000, "unit_price": 2}], price input_tokens 16:30-00:30 0.5/1000000 [{"above": 200000, "unit_price": 2}]', 'a window does not make long contexts cheap'),
	('{"input_cost_per_token": 1e-06, "cache_creation_input_token_cost_above_200k_tokens": 2.5e-06}', 'price cache_write_5m_tokens 1/1000000 [{"above": 200000, "unit_price": 2.5}], price input_tokens 1/1000000',
		'below the only price of a meter is its parent''s'),
	('{"output_cost_per_token_above_200k_tokens": 2.5e-06}', 'unknown output_tokens', 'or nothing'),
	('{"input_cost_per_token": 1.65000000000000012e-06}', 'price input_tokens 1.65000000000000012/1000000', 'no digit is lost'),
	('{"input_cost_per_token": 1.5e-30}', 'refused input_tokens', 'too many are refused'),
	('{"input_cost_per_token": -1, "output_cost_per_token": 1e-06}', 'price output_tokens 1/1000000, refused input_tokens', 'a negative price is refused'),
	('{"input_cost_per_token": 0.001, "output_cost_per_token": 1e-06}', 'price input_tokens 1000/1000000, price output_tokens 1/1000000', 'the dearest that can be'),
	('{"input_cost_per_token": 1e-06, "output_cost_per_token": 0.00100001, "input_cost_per_request": 0.01}', 'impossible input_tokens, impossible output_tokens, price requests 0.01/1', 'what is dearer is impossible, and so is what is beside it'),
	('{"input_cost_per_image": 10.1, "input_cost_per_second": 1.1, "input_cost_per_request": 10.1, "computer_use_input_cost_per_1k_tokens": 1.1}',
		'impossible computer_use_input_tokens, impossible input_images, impossible requests, impossible seconds', 'each unit has its own bound'),
	('{"input_cost_per_token": 1e-06, "provider_specific_entry": {"fast": 101}}', 'impossible fast, price input_tokens 1/1000000', 'and each factor'),
	('{"input_cost_per_token": 1e10000}', 'impossible input_tokens', 'numbers of any size'),
	('{"max_tokens": 5}', '', 'no price at all'),
	('{"input_cost_per_token": null, "output_cost_per_token": true}', '', 'null is no price')) v(model, said, description);
SELECT is(count(*), 0::bigint, 'a higher cap') FROM tokenbill.read_catalog('{"m": {"input_cost_per_token": 0.5}}', 500000) WHERE verdict <> 'price';

-- The import
\set catalog '{"sample_spec": {"input_cost_per_token": 0.0, "mode": "one of"}, "a": {"mode": "chat", "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05, "output_cost_per_token_flex": 5e-06}, "b": {"mode": "chat", "input_cost_per_token": 1.25e-08, "input_cost_per_token_above_200k_tokens": 2.5e-08}, "absurd": {"input_cost_per_token": 0.135, "output_cost_per_token": 0.54}, "auto": {"input_cost_per_token": -1}, "none": {"mode": "chat"}, "text": "x", "free": {"input_cost_per_token": 0}, "odd": {"input_cost_per_token": 1e-06, "odd_cost": 3}, "4111 1111 1111 1111": {"input_cost_per_token": 1e-06}}'
SELECT pg_temp.fingerprint() AS before \gset
SELECT results_eq(format('SELECT * FROM tokenbill.import_prices(%L, 0.2, dry_run => true)', :'catalog'), $$VALUES
	('4111 1111 1111 1111', 'skipped', 0, '{"reason": "no name for a service"}'::jsonb),
	('a', 'new', 6, '{}'), ('absurd', 'skipped', 0, '{"reason": "no price that can be", "impossible": {"input_cost_per_token": 0.135, "output_cost_per_token": 0.54}}'),
	('auto', 'skipped', 0, '{"reason": "no price that can be", "refused": {"input_cost_per_token": -1}}'), ('b', 'new', 2, '{}'), ('free', 'new', 2, '{"free": true}'),
	('none', 'reported', 0, '{"reason": "no price"}'), ('odd', 'new', 2, '{"unknown": {"odd_cost": 3}}'), ('sample_spec', 'skipped', 0, '{"reason": "describes the catalog"}'),
	('text', 'reported', 0, '{"reason": "not an object"}')$$, 'a dry run tells what would be done');
SELECT is(pg_temp.fingerprint(), :'before'::jsonb, 'and does nothing');
SAVEPOINT read_only;
SET LOCAL transaction_read_only = on;
SELECT is(count(*), 10::bigint, 'so it can be made where nothing can be written') FROM tokenbill.import_prices(:'catalog', dry_run => true);
ROLLBACK TO read_only;
SELECT bag_eq(format('SELECT action, prices FROM tokenbill.import_prices(%L, 0.2)', :'catalog'),
	$$VALUES ('new', 6), ('new', 2), ('new', 2), ('new', 2), ('skipped', 0), ('skipped', 0), ('skipped', 0), ('skipped', 0), ('reported', 0), ('reported', 0)$$, 'the import does it');
SELECT results_eq($$SELECT side COLLATE "default", meter COLLATE "default", service_tier COLLATE "default", unit_price, per, mode, tiers, valid_from FROM tokenbill.price WHERE service IN ('a', 'b') ORDER BY service, side, meter, service_tier$$, $$VALUES
	('cost', 'input_tokens', 'standard', 2.5, 1000000::numeric, 'flat', NULL::jsonb, '2026-03-01 12:00:00+00'::timestamptz),
	('cost', 'output_tokens', 'flex', 5, 1000000, 'flat', NULL, '2026-03-01 12:00:00+00'), ('cost', 'output_tokens', 'standard', 10, 1000000, 'flat', NULL, '2026-03-01 12:00:00+00'),
	('sale', 'input_tokens', 'standard', 3, 1000000, 'flat', NULL, '2026-03-01 12:00:00+00'),
	('sale', 'output_tokens', 'flex', 6, 1000000, 'flat', NULL, '2026-03-01 12:00:00+00'), ('sale', 'output_tokens', 'standard', 12, 1000000, 'flat', NULL, '2026-03-01 12:00:00+00'),
	('cost', 'input_tokens', 'standard', 0.0125, 1000000, 'cliff', '[{"above": 200000, "unit_price": 0.025}]', '2026-03-01 12:00:00+00'),
	('sale', 'input_tokens', 'standard', 0.015, 1000000, 'cliff', '[{"above": 200000, "unit_price": 0.03}]', '2026-03-01 12:00:00+00')$$, 'costs as they are published, prices with the markup');
SELECT is(amount, -0.00315, 'charges go by them') FROM tokenbill.charge('ann', 'a', '{"prompt_tokens": 1000, "completion_tokens": 25, "total_tokens": 1025, "service_tier": "flex"}', 'first');

-- Again
SET LOCAL tokenbill.clock = '2026-03-02 12:00:00+00';
SELECT pg_temp.fingerprint() AS before \gset
SELECT set_eq(format('SELECT DISTINCT action FROM tokenbill.import_prices(%L, 0.2)', :'catalog'), ARRAY['unchanged', 'skipped', 'reported'], 'a second import finds nothing');
SELECT is(pg_temp.fingerprint(), :'before'::jsonb, 'and writes nothing');
SELECT :'catalog'::jsonb #- '{b}' #- '{a,output_cost_per_token_flex}' || '{"c": {"input_cost_per_token": 1e-06}}' || '{"odd": {"input_cost_per_token": 2e-06}}' AS later \gset
SELECT results_eq(format('SELECT * FROM tokenbill.import_prices(%L, 0.2, dry_run => true) WHERE model IN (%L, %L, %L, %L)', :'later', 'a', 'b', 'c', 'odd'), $$VALUES
	('a', 'unchanged', 0, '{"gone": ["output_tokens flex"]}'::jsonb), ('b', 'gone', 0, '{"gone": ["input_tokens"], "reason": "the catalog does not have it any more; its prices stay"}'), ('c', 'new', 2, '{}'),
	('odd', 'changed', 2, '{"changes": {"cost input_tokens": {"was": "1/1000000", "now": "2/1000000"}, "sale input_tokens": {"was": "1.2/1000000", "now": "2.4/1000000"}}}')$$, 'the difference is shown');
SELECT is(pg_temp.fingerprint(), :'before'::jsonb, 'before it is made');
SELECT results_eq(format('SELECT action, prices FROM tokenbill.import_prices(%L, 0.2) WHERE prices > 0', :'later'), $$VALUES ('new', 2), ('changed', 2)$$, 'it is made');
SELECT results_eq($$SELECT unit_price, valid_from FROM tokenbill.prices WHERE service = 'odd' ORDER BY valid_from$$,
	$$VALUES (1.2, '2026-03-01 12:00:00+00'::timestamptz), (2.4, '2026-03-02 12:00:00+00')$$, 'the old price stays for its time');
SELECT results_eq(format('SELECT model, action, detail -> %L FROM tokenbill.import_prices(%L, 0.3, dry_run => true) WHERE prices > 0 AND model = %L', 'changes', :'later', 'c'),
	$$VALUES ('c', 'changed', '{"sale input_tokens": {"was": "1.2/1000000", "now": "1.3/1000000"}}'::jsonb)$$, 'another markup changes prices, and no costs');
SELECT is(amount, -0.00315, 'what has been charged does not change') FROM tokenbill.statement WHERE idempotency_key = 'first';
SELECT is(count(*), 0::bigint, 'and the ledger is sound') FROM tokenbill.verify_ledger('ann');

-- Costs alone, some models, another time
SELECT results_eq($$SELECT model, prices FROM tokenbill.import_prices('{"only": {"input_cost_per_token": 1e-06}}', markup => NULL)$$ || ' WHERE prices > 0', $$VALUES ('only', 1)$$, 'without a markup there are costs only');
SELECT bag_eq($$SELECT side COLLATE "default" FROM tokenbill.price WHERE service = 'only'$$, $$VALUES ('cost')$$, 'and no prices');
SELECT results_eq($$SELECT model, action FROM tokenbill.import_prices('{"p/x": {"input_cost_per_token": 1e-06}, "p/y": {"input_cost_per_token": 1e-06}, "q": {"input_cost_per_token": 1e-06}, "r": {"input_cost_per_token": 1e-06}}', models => '{p/*,q}')$$,
	$$VALUES ('p/x', 'new'), ('p/y', 'new'), ('q', 'new')$$, 'some models of a catalog');
SELECT is_empty($$SELECT * FROM tokenbill.import_prices('{"r": {"input_cost_per_token": 1e-06}}', models => '{nothing}')$$, 'or none');
SELECT is(count(*), 2::bigint, 'a later import knows which it has to do with') FROM tokenbill.import_prices('{"r": {"input_cost_per_token": 1e-06}}', models => '{p/*}') WHERE action = 'gone';
SELECT is(action, 'changed', 'from a day on') FROM tokenbill.import_prices('{"q": {"input_cost_per_token": 3e-06}}', models => '{q}', valid_from => '2026-05-01 00:00:00+00');
SELECT results_eq($$SELECT unit_price, valid_from FROM tokenbill.prices WHERE service = 'q' ORDER BY valid_from$$, $$VALUES (1::numeric, '2026-03-02 12:00:00+00'::timestamptz), (3.0, '2026-05-01 00:00:00+00')$$, 'and not before');
SELECT pg_temp.refused($$SELECT * FROM tokenbill.import_prices('{"q": {"input_cost_per_token": 4e-06}}', valid_from => '2026-05-01 00:00:00+00')$$, 'PT409', '{"argument": "valid_from"}', 'another price from the same moment is refused');
SELECT is(action, 'unchanged', 'a price of one''s own is not touched while the catalog says the same') FROM tokenbill.set_price('q', 'input_tokens', 9, 1000000, account => 'ann') s,
	tokenbill.import_prices('{"q": {"input_cost_per_token": 1e-06}}', models => '{q}') i WHERE s.unit_price = 9;
SELECT is(unit_price, 9::numeric, 'and stays an account''s own') FROM tokenbill.quote('ann', 'q', '{"input_tokens": 1}');

SELECT is(amount, -0.008, 'a price of requests is paid once a call') FROM tokenbill.import_prices('{"ask": {"input_cost_per_token": 1e-06, "input_cost_per_request": 0.005}}', models => '{ask}') i,
	tokenbill.charge('ann', i.model, '{"input_tokens": 3000}', 'asked');

-- Below cost
CREATE FUNCTION pg_temp.below() RETURNS text LANGUAGE sql AS $$ SELECT coalesce(string_agg(DISTINCT concat_ws(' ', service, nullif(account, '*')), ', '), '') FROM tokenbill.prices_below_cost $$;
SELECT is(pg_temp.below(), '', 'nothing is sold for less than it costs');
SELECT tokenbill.set_price('a', 'input_tokens', 2.6, 1000000, account => 'ann') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-03 12:00:00+00';
SET LOCAL client_min_messages = error;
SELECT is(prices, 2, 'a cost rises') FROM tokenbill.import_prices('{"a": {"input_cost_per_token": 2.7e-06, "output_cost_per_token": 1e-05}}', 0.2, models => '{a}');
SELECT is(pg_temp.below(), 'a ann', 'above the price of an account''s own');
SELECT is(prices, 1, 'or above the list price') FROM tokenbill.import_prices('{"b": {"input_cost_per_token": 3e-05}}', NULL, models => '{b}');
SELECT is(pg_temp.below(), 'a ann, b', 'where only costs are imported');

SELECT * FROM finish();
ROLLBACK;
