-- Characters, graphemes and words of texts: figures worked out by hand
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(64);

SELECT is(array[tokenbill.count_characters(t), tokenbill.count_graphemes(t), tokenbill.count_words(t)], array[c, g, w]::bigint[], what)
FROM (VALUES
	('nothing', '', 0, 0, 0),
	('a blank', ' ', 1, 1, 0),
	('blanks and line ends: CR LF is one grapheme', E' \r\n\t ', 5, 4, 0),
	('plain English', 'The quick brown fox', 19, 19, 4),
	('punctuation', 'Wait -- what?! (Yes.)', 21, 21, 3),
	('an apostrophe within a word', 'don''t', 5, 5, 1),
	('a typographic one', 'l’été', 5, 5, 1),
	('apostrophes around words', '''rock ''n'' roll''', 15, 15, 3),
	('two of them are quotes', 'a''''b', 4, 4, 2),
	('hyphens part', 'well-known', 10, 10, 2),
	('underscores do not', 'snake_case __init__ _', 21, 21, 2),
	('decimals', '3.14 1,000,000.00 .5', 20, 20, 3),
	('a point is decimal between digits only', 'v1.x 1. 2', 9, 9, 4),
	('two points are none', '1..2', 4, 4, 2),
	('a point and an apostrophe', '1.''2', 4, 4, 2),
	('an address', 'a@b.com', 7, 7, 3),
	('letters with digits', 'gpt-4o 2x', 9, 9, 3),
	('the time', '10:30', 5, 5, 2),
	('Chinese', '我喜欢数据库。', 7, 7, 6),
	('Chinese, traditional, an extension B character', '𠮷野家', 3, 3, 3),
	('Chinese with English in it', '我用PostgreSQL15写SQL', 18, 18, 5),
	('Chinese numerals', '二〇二六年', 5, 5, 5),
	('Japanese, three scripts', '今日はテストです。', 9, 9, 8),
	('a long vowel is a kana', 'サーバー', 4, 4, 4),
	('half-width kana, a voicing mark', 'ﾃﾞｰﾀ', 4, 3, 3),
	('repeated ideographs', '人々', 2, 2, 2),
	('Korean, by blanks', '안녕 세계', 5, 5, 2),
	('Korean in single letters', U&'\1112\1161\11AB\1100\1173\11AF', 6, 2, 1),
	('Thai: no blanks, so one word up to each', 'สวัสดีครับ ชาวโลก', 17, 14, 2),
	('Thai with zero-width spaces between words', U&'\0E2A\0E27\0E31\0E2A\0E14\0E35\200B\0E0A\0E32\0E27\200B\0E42\0E25\0E01', 14, 12, 3),
	('Hindi: vowel signs and virama', 'नमस्ते दुनिया', 13, 8, 2),
	('Tamil', 'தமிழ்', 5, 3, 1),
	('Arabic with a vowel mark', U&'\0645\064F\0639\0644\0645', 5, 4, 1),
	('Arabic digits and decimal separator', U&'\0661\066B\0662', 3, 3, 1),
	('Hebrew', 'שלום עולם', 9, 9, 2),
	('Greek', 'Καλημέρα κόσμε', 14, 14, 2),
	('Cyrillic', 'Привет, мир!', 12, 12, 2),
	('e with an accent, composed', U&'caf\00E9', 4, 4, 1),
	('and decomposed', U&'cafe\0301', 5, 4, 1),
	('a heap of marks', U&'Z\0335\0336\0337\0338a', 6, 2, 1),
	('a mark on nothing', U&'\0301', 1, 1, 0),
	('soft hyphen and joiner are within a word; the hyphen is a grapheme', U&'co\00ADop\200Dx', 7, 6, 1),
	('fraction, superscript, Roman numeral', '½ x² Ⅷ', 6, 6, 3),
	('an emoji', '😀', 1, 1, 0),
	('of a skin colour', '👍🏽', 2, 1, 0),
	('a family of four', '👨‍👩‍👧‍👦', 7, 1, 0),
	('a heart on fire, with a variation selector', U&'\2764\FE0F\200D\+01F525', 4, 1, 0),
	('flags', '🇩🇪🇫🇷', 4, 2, 0),
	('half a flag behind one', '🇩🇪🇫', 3, 2, 0),
	('a keycap is a digit', U&'1\FE0F\20E3', 3, 1, 1),
	('emoji between words part them', 'good😀morning', 12, 12, 2),
	('a byte order mark', U&'\FEFFword', 5, 5, 1),
	('symbols of currency and mathematics', '€ + ∑ = 5', 9, 9, 1),
	('code', 'for (i=0; i<10; i++) {}', 23, 23, 6)
) v(what, t, c, g, w);

-- Composed or not, it is the same text (the last that decomposes is U+2FA1D). Three scripts came with Unicode 16: newer servers
-- compose them, and to tokenbill, whose tables are of Unicode 14, they are no letters yet.
SELECT is_empty($$SELECT c FROM generate_series(1, 195200) c, LATERAL (SELECT 'a' || chr(c) || '1' AS t) t
	WHERE c NOT BETWEEN 55296 AND 57343 AND NOT t.t IS NFD NORMALIZED AND (tokenbill.count_words(t.t) <> tokenbill.count_words(normalize(t.t, NFD)) OR tokenbill.count_words(t.t) <> tokenbill.count_words(normalize(t.t, NFC)))$$,
	'no canonical form has another number of words, for any character there is');
SELECT is_empty($$SELECT c FROM generate_series(1, 195200) c, LATERAL (SELECT chr(c) || 'x' || chr(c) AS t) t
	WHERE c NOT BETWEEN 55296 AND 57343 AND c NOT BETWEEN x'11380'::int AND x'113ff'::int AND c NOT BETWEEN x'16100'::int AND x'1613f'::int
		AND c NOT BETWEEN x'16d40'::int AND x'16d7f'::int AND NOT t.t IS NFD NORMALIZED AND (tokenbill.count_graphemes(t.t) <> tokenbill.count_graphemes(normalize(t.t, NFD)) OR tokenbill.count_graphemes(t.t) <> tokenbill.count_graphemes(normalize(t.t, NFC)))$$, 'nor of graphemes');
SELECT is(tokenbill.count_characters(string_agg(chr(c), '')), 1112063::bigint, 'every code point is one character') FROM generate_series(1, 1114111) c WHERE c NOT BETWEEN 55296 AND 57343;

-- Long texts and none
SELECT is(array[tokenbill.count_characters(t), tokenbill.count_graphemes(t), tokenbill.count_words(t)], array[7000000, 7000000, 2000000]::bigint[], 'seven million characters')
FROM (SELECT repeat('one, 二 ', 1000000) AS t) t;
SELECT is(tokenbill.count_characters(repeat('x', 100000) || 'é'), 100001::bigint, 'compressed');
SELECT is(array[tokenbill.count_characters(NULL), tokenbill.count_graphemes(NULL), tokenbill.count_words(NULL)], array[NULL, NULL, NULL]::bigint[], 'no text has no count');
SELECT is(tokenbill.count_words('two words'), 2::bigint, 'a bare string is text');
SELECT is(sum(tokenbill.count_words(w))::bigint, tokenbill.count_words('eins zwei 三四 пять 6.5'), 'words of parts add up')
FROM unnest(array['eins zwei', '三四', 'пять', '6.5']) w;
SELECT is((pg_temp.error_of($$SELECT tokenbill.count_words(convert_from('\xff', 'UTF8'))$$)).sqlstate, '22021', 'what is no UTF-8 does not get so far');
SELECT is((SELECT count(*) FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace AND proname LIKE 'count\_%' AND prorettype = 'bigint'::regtype AND provolatile = 'i' AND proparallel = 's' AND proisstrict), 3::bigint,
	'they are immutable, parallel safe and strict');

SELECT * FROM finish();
ROLLBACK;
