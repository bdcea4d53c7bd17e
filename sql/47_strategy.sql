/*
 * Ways to count a meter from a usage object that is no provider's.  Each takes
 * the usage and options, and is tied to a meter by set_meter_function();
 * docs/meters.md explains them.
 */
CREATE FUNCTION tokenbill.count_characters(usage jsonb, options jsonb DEFAULT '{}') RETURNS numeric
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_usage_characters';
COMMENT ON FUNCTION tokenbill.count_characters(jsonb, jsonb) IS
'Strategy: characters of the texts in usage.text, input or prompt; options: members. Errors: 22023, 22021';

CREATE FUNCTION tokenbill.count_graphemes(usage jsonb, options jsonb DEFAULT '{}') RETURNS numeric
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_usage_graphemes';
COMMENT ON FUNCTION tokenbill.count_graphemes(jsonb, jsonb) IS
'Strategy: graphemes of the texts in usage.text, input or prompt; options: members. Errors: 22023, 22021';

CREATE FUNCTION tokenbill.count_words(usage jsonb, options jsonb DEFAULT '{}') RETURNS numeric
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_usage_words';
COMMENT ON FUNCTION tokenbill.count_words(jsonb, jsonb) IS
'Strategy: words of the texts in usage.text, input or prompt; options: members. Errors: 22023, 22021';

CREATE FUNCTION tokenbill.count_images(usage jsonb, options jsonb DEFAULT '{}') RETURNS numeric
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_count_images';
COMMENT ON FUNCTION tokenbill.count_images(jsonb, jsonb) IS
'Strategy: how many pictures, or what they count for by size and quality or by pixels; options: sizes, pixels. Errors: 22023';

CREATE FUNCTION tokenbill.count_pixels(usage jsonb, options jsonb DEFAULT '{}') RETURNS numeric
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_count_pixels';
COMMENT ON FUNCTION tokenbill.count_pixels(jsonb, jsonb) IS
'Strategy: width times height of all pictures; options: round_up, of each. Errors: 22023';

CREATE FUNCTION tokenbill.count_seconds(usage jsonb, options jsonb DEFAULT '{}') RETURNS numeric
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_count_seconds';
COMMENT ON FUNCTION tokenbill.count_seconds(jsonb, jsonb) IS
'Strategy: usage.seconds or duration, in seconds; options: members, per_second, minimum, round_up. Errors: 22023';

CREATE FUNCTION tokenbill.count_requests(usage jsonb, options jsonb DEFAULT '{}') RETURNS numeric
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_count_requests';
COMMENT ON FUNCTION tokenbill.count_requests(jsonb, jsonb) IS
'Strategy: 1, for a price of each call; it counts the meter requests of every service that has a price for it';

CREATE FUNCTION tokenbill.count_sum(usage jsonb, options jsonb DEFAULT '{}') RETURNS numeric
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_count_sum';
COMMENT ON FUNCTION tokenbill.count_sum(jsonb, jsonb) IS
'Strategy: several meters of the usage, each times its weight; options: meters. Errors: 22023, and those of normalize_usage()';
