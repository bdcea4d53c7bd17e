/*
 * count.c
 *	  How many characters and words has a text?
 *
 * Characters are Unicode code points, as those count who sell by the character.
 * Graphemes are the extended grapheme clusters of UAX #29: what a reader takes
 * for one character, however it is composed.  A word is
 *
 * - each ideograph and each kana, since Chinese and Japanese put no blanks
 *	 between words;
 * - else a run of letters and digits, through which go marks, format characters,
 *	 underscores, an apostrophe between two of them, and a decimal point or comma
 *	 between two digits.
 *
 * Nothing depends on a locale or on the version of a library, for money does on
 * the count: the classes of characters are in character_table.h.
 */
#include "count.h"

#include "character_table.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(tokenbill_count_characters);
PG_FUNCTION_INFO_V1(tokenbill_count_graphemes);
PG_FUNCTION_INFO_V1(tokenbill_count_words);

/* How often a long text looks whether it is to be given up. */
#define INTERRUPT_EVERY 65536

/* Where the graphemes have got to. */
typedef struct GraphemeState
{
	CharacterBreak before;		/* of the character before */
	bool		started;		/* is there one? */
	bool		odd_regional;	/* it is the first half of a flag */
	bool		pictograph;		/* it is a pictograph, or extends one */
	bool		joined;			/* it is a joiner behind a pictograph */
} GraphemeState;

/* Where the words have got to. */
typedef enum WordState
{
	BETWEEN_WORDS,
	AFTER_LETTER,
	AFTER_DIGIT,
	AFTER_APOSTROPHE,			/* in a word, if a letter or digit follows */
	AFTER_POINT					/* in a number, if a digit follows */
} WordState;

/*
 * The row of the table that a code point falls under, without its code point.
 */
static uint8
class_of(pg_wchar code)
{
	int			low = 0;
	int			high = lengthof(character_table);

	while (high - low > 1)
	{
		int			middle = (low + high) / 2;

		if (character_table[middle] >> 8 <= code)
			low = middle;
		else
			high = middle;
	}
	return character_table[low] & 0xFF;
}

/*
 * Does a grapheme begin between the character before and one of this class?  The
 * rules GB3 to GB13 of UAX #29.
 */
static bool
begins_grapheme(const GraphemeState *state, CharacterBreak now)
{
	CharacterBreak before = state->before;

	if (!state->started)
		return true;
	if (before == BREAK_CR && now == BREAK_LF)
		return false;
	if (before == BREAK_CR || before == BREAK_LF || before == BREAK_CONTROL ||
		now == BREAK_CR || now == BREAK_LF || now == BREAK_CONTROL)
		return true;
	if (before == BREAK_L &&
		(now == BREAK_L || now == BREAK_V || now == BREAK_LV ||
		 now == BREAK_LVT))
		return false;
	if ((before == BREAK_LV || before == BREAK_V) &&
		(now == BREAK_V || now == BREAK_T))
		return false;
	if ((before == BREAK_LVT || before == BREAK_T) && now == BREAK_T)
		return false;
	if (now == BREAK_EXTEND || now == BREAK_ZWJ || now == BREAK_SPACING ||
		before == BREAK_PREPEND)
		return false;
	if (state->joined && now == BREAK_PICTOGRAPH)
		return false;
	return !(state->odd_regional && now == BREAK_REGIONAL);
}

static bool
count_grapheme(GraphemeState *state, pg_wchar code, CharacterBreak now)
{
	bool		begins;

	/* a syllable that ends in a vowel is every 28th */
	if (now == BREAK_LVT && (code - 0xAC00) % 28 == 0)
		now = BREAK_LV;

	begins = begins_grapheme(state, now);
	state->odd_regional = now == BREAK_REGIONAL && !state->odd_regional;
	state->joined = now == BREAK_ZWJ && state->pictograph;
	state->pictograph = now == BREAK_PICTOGRAPH ||
		(now == BREAK_EXTEND && state->pictograph);
	state->before = now;
	state->started = true;
	return begins;
}

static bool
count_word(WordState *state, WordPart now)
{
	WordState	before = *state;

	switch (now)
	{
		case PART_TRANSPARENT:
			return false;
		case PART_IDEOGRAPH:
			*state = BETWEEN_WORDS;
			return true;
		case PART_LETTER:
			*state = AFTER_LETTER;
			return before == BETWEEN_WORDS || before == AFTER_POINT;
		case PART_DIGIT:
			*state = AFTER_DIGIT;
			return before == BETWEEN_WORDS;
		case PART_APOSTROPHE:
			*state = before == AFTER_LETTER || before == AFTER_DIGIT ?
				AFTER_APOSTROPHE : BETWEEN_WORDS;
			return false;
		case PART_POINT:
			*state = before == AFTER_DIGIT ? AFTER_POINT : BETWEEN_WORDS;
			return false;
		case PART_NONE:
			break;
	}
	*state = BETWEEN_WORDS;
	return false;
}

/*
 * tb_count_text
 *		Add what is in a text, in the server's encoding, to *count.
 *
 * Refuses bytes that are no text (22021): where the server's encoding is SQL_ASCII
 * nobody has looked before.
 */
Refusal *
tb_count_text(const char *bytes, int len, TextCount *count)
{
	const unsigned char *s;
	const unsigned char *end;
	const char *converted = bytes;
	GraphemeState grapheme = {0};
	WordState	word = BETWEEN_WORDS;
	int			valid;
	int			n = 0;

	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		converted = pg_server_to_any(bytes, len, PG_UTF8);
	/* where there is nothing to convert it returns what it was given */
	if (converted != bytes)
		len = strlen(converted);
	valid = pg_encoding_verifymbstr(PG_UTF8, converted, len);
	if (valid < len)
		return tb_refusal(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
						  tb_json("byte:i", (int64) valid),
						  "Pass text in UTF-8.",
						  "text is not valid UTF-8");

	s = (const unsigned char *) converted;
	for (end = s + len; s < end; s += pg_utf_mblen(s))
	{
		pg_wchar	code = utf8_to_unicode(s);
		uint8		class = class_of(code);

		if (++n % INTERRUPT_EVERY == 0)
			CHECK_FOR_INTERRUPTS();
		count->characters++;
		if (count_grapheme(&grapheme, code, class >> 4))
			count->graphemes++;
		if (count_word(&word, class & 0x0F))
			count->words++;
	}
	if (converted != bytes)
		pfree(unconstify(char *, converted));
	return NULL;
}

static TextCount
count_argument(FunctionCallInfo fcinfo)
{
	text	   *value = PG_GETARG_TEXT_PP(0);
	TextCount	count = {0};

	tb_raise(tb_count_text(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value),
						   &count));
	return count;
}

/*
 * count_characters(text), count_graphemes(text), count_words(text) -> bigint
 */
Datum
tokenbill_count_characters(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(count_argument(fcinfo).characters);
}

Datum
tokenbill_count_graphemes(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(count_argument(fcinfo).graphemes);
}

Datum
tokenbill_count_words(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(count_argument(fcinfo).words);
}
