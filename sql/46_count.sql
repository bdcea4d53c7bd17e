/*
 * What can be counted in a text.  The rules are written down in docs/meters.md;
 * they depend on no locale and on no version of a library.
 */
CREATE FUNCTION tokenbill.count_characters(text text) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_count_characters';
COMMENT ON FUNCTION tokenbill.count_characters(text) IS
'How many characters, that is Unicode code points, a text has, in any server encoding. Errors: 22021';

CREATE FUNCTION tokenbill.count_graphemes(text text) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_count_graphemes';
COMMENT ON FUNCTION tokenbill.count_graphemes(text) IS
'How many characters a reader sees in a text: extended grapheme clusters of UAX #29, Unicode 14. Errors: 22021';

CREATE FUNCTION tokenbill.count_words(text text) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_count_words';
COMMENT ON FUNCTION tokenbill.count_words(text) IS
'How many words a text has: each ideograph and kana, and each run of letters and digits. Errors: 22021';
