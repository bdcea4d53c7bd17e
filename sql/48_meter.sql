/*
 * Meters: what is counted.  Any name can be priced; the ones in this table are
 * those whose counts, left without a price of their own, cost what their parent
 * costs.  The built-in ones come with the extension and do not change; a price
 * of its own always goes before a parent's.
 */
CREATE TABLE tokenbill.meter (
	meter text COLLATE "C" NOT NULL PRIMARY KEY,
	parent text COLLATE "C",
	unit text NOT NULL,
	description text NOT NULL,
	builtin boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL
);
COMMENT ON TABLE tokenbill.meter IS 'What is counted, and the meter whose price counts where there is none';
COMMENT ON COLUMN tokenbill.meter.meter IS 'Name, as in usage and prices';
COMMENT ON COLUMN tokenbill.meter.parent IS 'Meter whose price counts where this one has none; null: it needs its own';
COMMENT ON COLUMN tokenbill.meter.unit IS 'What one of it is: token, image, second ...';
COMMENT ON COLUMN tokenbill.meter.description IS 'What it counts, in a sentence';
COMMENT ON COLUMN tokenbill.meter.builtin IS 'Came with the extension';
COMMENT ON COLUMN tokenbill.meter.created_at IS 'When it was made';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.meter', 'WHERE NOT builtin');

INSERT INTO tokenbill.meter (meter, parent, unit, description, builtin, created_at)
SELECT m.meter, m.parent, m.unit, m.description, true, pg_catalog.now()
FROM (VALUES
	('tokens', NULL, 'token', 'Tokens that are all priced alike'),
	('input_tokens', NULL, 'token', 'Text that went in, neither read from nor written to a cache'),
	('cache_read_tokens', 'input_tokens', 'token', 'Input that was read from a cache'),
	('cache_write_5m_tokens', 'input_tokens', 'token', 'Input that was written to a cache for minutes'),
	('cache_write_1h_tokens', 'cache_write_5m_tokens', 'token', 'Input that was written to a cache for an hour'),
	('input_audio_tokens', 'input_tokens', 'token', 'Audio that went in'),
	('input_image_tokens', 'input_tokens', 'token', 'Images that went in'),
	('input_video_tokens', 'input_tokens', 'token', 'Video that went in'),
	('cache_read_audio_tokens', 'cache_read_tokens', 'token', 'Audio that was read from a cache'),
	('cache_read_image_tokens', 'cache_read_tokens', 'token', 'Images that were read from a cache'),
	('cache_read_video_tokens', 'cache_read_tokens', 'token', 'Video that was read from a cache'),
	('cache_write_audio_tokens', 'cache_write_5m_tokens', 'token', 'Audio that was written to a cache'),
	('output_tokens', NULL, 'token', 'Text that came out'),
	('reasoning_tokens', 'output_tokens', 'token', 'Output that was thought and not said'),
	('output_audio_tokens', 'output_tokens', 'token', 'Audio that came out'),
	('output_image_tokens', 'output_tokens', 'token', 'Images that came out, in tokens'),
	('output_video_tokens', 'output_tokens', 'token', 'Video that came out, in tokens'),
	('images', NULL, 'image', 'Images'),
	('characters', NULL, 'character', 'Characters'),
	('words', NULL, 'word', 'Words'),
	('pixels', NULL, 'pixel', 'Pixels'),
	('seconds', NULL, 'second', 'Seconds of audio, video or computing'),
	('requests', NULL, 'request', 'Calls'),
	('web_searches', NULL, 'search', 'Searches of the web that the provider made'),
	('web_searches_low', 'web_searches', 'search', 'Searches that put little into the context'),
	('web_searches_high', 'web_searches', 'search', 'Searches that put much into the context'),
	('web_fetches', NULL, 'fetch', 'Pages of the web that the provider fetched')
) m (meter, parent, unit, description);

CREATE FUNCTION tokenbill.forget_prices() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tokenbill_forget_prices';
COMMENT ON FUNCTION tokenbill.forget_prices() IS 'Trigger: every session drops its cached prices when this transaction commits';
CREATE TRIGGER forget_prices AFTER INSERT OR UPDATE OR DELETE ON tokenbill.meter
FOR EACH ROW EXECUTE FUNCTION tokenbill.forget_prices();
CREATE TRIGGER forget_prices_truncate AFTER TRUNCATE ON tokenbill.meter
FOR EACH STATEMENT EXECUTE FUNCTION tokenbill.forget_prices();
ALTER TABLE tokenbill.meter ENABLE ALWAYS TRIGGER forget_prices;
ALTER TABLE tokenbill.meter ENABLE ALWAYS TRIGGER forget_prices_truncate;

/* what is asked for a price, a meter and what may be its parent */
CREATE FUNCTION tokenbill.check_meter(argument text, value text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.check_text(check_meter.argument, check_meter.value, 64);
	IF check_meter.value !~ '^[a-z][a-z0-9_]*$' THEN
		PERFORM tokenbill.refuse('22023', format('%s must be lower-case letters, digits and underscores', check_meter.argument),
			jsonb_build_object('argument', check_meter.argument), 'Meters are named like input_tokens, images or seconds.');
	END IF;
	RETURN check_meter.value;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_meter(text, text) IS 'Internal: returns value, or raises that it is no name of a meter (22004, 22023)';

CREATE FUNCTION tokenbill.set_meter(meter text, parent text DEFAULT NULL, unit text DEFAULT 'unit', description text DEFAULT NULL)
RETURNS tokenbill.meter
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	made tokenbill.meter;
	ancestor text := set_meter.parent;
BEGIN
	PERFORM tokenbill.check_meter('meter', set_meter.meter);
	PERFORM tokenbill.check_text('unit', set_meter.unit, 64);
	IF set_meter.description IS NOT NULL THEN
		PERFORM tokenbill.check_text('description', set_meter.description, 1000);
	END IF;
	IF EXISTS (SELECT FROM tokenbill.meter m WHERE m.meter = set_meter.meter AND m.builtin) THEN
		PERFORM tokenbill.refuse('PT409', format('meter "%s" is built in', set_meter.meter),
			jsonb_build_object('meter', set_meter.meter), 'Give it a price of its own, or count under another name.');
	END IF;
	/* nobody may make an ancestor a descendant while we look */
	LOCK TABLE tokenbill.meter IN SHARE ROW EXCLUSIVE MODE;
	IF set_meter.parent IS NOT NULL THEN
		PERFORM tokenbill.check_meter('parent', set_meter.parent);
		IF NOT EXISTS (SELECT FROM tokenbill.meter m WHERE m.meter = set_meter.parent) THEN
			PERFORM tokenbill.refuse('PT404', format('meter "%s" does not exist', set_meter.parent),
				jsonb_build_object('argument', 'parent', 'meter', set_meter.parent), 'Make it with tokenbill.set_meter() first.');
		END IF;
		WHILE ancestor IS NOT NULL LOOP
			IF ancestor = set_meter.meter THEN
				PERFORM tokenbill.refuse('22023', format('meter "%s" would be its own ancestor', set_meter.meter),
					jsonb_build_object('argument', 'parent', 'meter', set_meter.meter, 'parent', set_meter.parent),
					'Parents make a tree: choose one that is not below the meter.');
			END IF;
			SELECT m.parent INTO ancestor FROM tokenbill.meter m WHERE m.meter = ancestor;
		END LOOP;
	END IF;
	INSERT INTO tokenbill.meter AS m (meter, parent, unit, description, created_at)
	VALUES (set_meter.meter, set_meter.parent, set_meter.unit, coalesce(set_meter.description, ''), tokenbill.clock())
	ON CONFLICT (meter) DO UPDATE SET parent = EXCLUDED.parent, unit = EXCLUDED.unit, description = EXCLUDED.description
	RETURNING m.* INTO made;
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_meter(text, text, text, text) IS
'Makes or changes a meter: without a price of its own it costs what its parent costs; returns the row. Errors: PT404 parent, PT409 built in, 22xxx';
