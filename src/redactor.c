/*
 * redactor.c
 *	  Goes through text word by word, and masks what must not be read.
 *
 * What is looked for at a word: a card number (card_number.c), a key that tells
 * by its shape what it is (shape.c), and a value that tells by what stands before
 * it (credential.c, named_value.c).  What each of them looks at, beyond what it then masks, has a
 * bound or ends where the next begins, so the time is linear in the length,
 * whatever the text.
 *
 * A mask is never longer than what it takes the place of, so it can be written
 * over it; and what is behind a mask is judged as if nothing stood before it,
 * which is how it looks the second time.  Where that is not enough (a quotation
 * that the mask has opened or closed, say), another secret can come to light, and
 * whoever reads the text can see it as well.  So masked text is gone through again
 * until nothing is found in it, and masking it once more changes nothing.
 */
#include "redactor.h"

#include <string.h>

#include "card_number.h"
#include "word.h"

#define MASK '*'
#define MASK_LENGTH 3

/* How often a text is gone through; twice is usual where there is a secret */
#define MAX_PASSES 8

/* How many digits of the shortest card number are masked */
#define MASKED_DIGITS 9

#define D (TB_DIGIT | TB_HEX)
#define U TB_UPPER
#define L TB_LOWER
#define X (TB_LOWER | TB_HEX)
#define _ 0
#define S TB_SPACE
#define K TB_DASH
#define B TB_BASE64
#define P TB_DOT

const unsigned char tb_byte_class[256] = {
	_, _, _, _, _, _, _, _, _, S, S, S, S, S, _, _,
	_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _,
	S, _, _, _, _, _, _, _, _, _, _, B, _, K, P, B,
	D, D, D, D, D, D, D, D, D, D, _, _, _, B, _, _,
	_, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U,
	U, U, U, U, U, U, U, U, U, U, U, _, _, _, _, K,
	_, X, X, X, X, X, X, L, L, L, L, L, L, L, L, L,
	L, L, L, L, L, L, L, L, L, L, L, _, _, _, P, _
};

#undef D
#undef U
#undef L
#undef X
#undef _
#undef S
#undef K
#undef B
#undef P

/*
 * tb_is_varied
 *		Whether there are digits or capitals in it, as in a key and not in words.
 */
bool
tb_is_varied(const char *s, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if (tb_is(s[i], TB_DIGIT | TB_UPPER))
			return true;
	}
	return false;
}

/*
 * tb_is_cut_off
 *		Whether PostgreSQL has cut off what ends here, as it does with parameters
 *		and with values in errors of COPY: what is left of a key can be too short
 *		to be known as one.
 */
bool
tb_is_cut_off(const Word *word, size_t end)
{
	return word->length - end >= 4 && memcmp(word->bytes + end, "...", 3) == 0 &&
		(word->bytes[end + 3] == '\'' || word->bytes[end + 3] == '"');
}

/*
 * tb_redactor_begin
 *		Start at the beginning of a text.
 */
void
tb_redactor_begin(Redactor *redactor, const char *bytes, size_t length,
				  RedactWhat what)
{
	memset(redactor, 0, sizeof(Redactor));
	redactor->bytes = bytes;
	redactor->length = length;
	redactor->what = what;
}

/*
 * Where a word may really begin: behind an escape of one that looks as if it were
 * part of it (%20 of a URL; \n, \u000a, \x0a of JSON or of E'').
 */
static size_t
skip_escape(const Word *word)
{
	size_t		left = word->end - word->start;
	const char *s = word->bytes + word->start;
	char		before = tb_before(word, word->start);
	size_t		digits = 0;

	if (before == '%')
		digits = 2;
	else if (before != '\\')
		return word->start;
	else if (s[0] == 'u')
		digits = 5;
	else if (s[0] == 'x')
		digits = 3;
	else if (memchr("nrtbfv", s[0], 6) != NULL)
		digits = 1;
	return digits <= left ? word->start + digits : word->start;
}

/*
 * Whether the four digits that begin here are those that a mask has left of a
 * card number.
 */
static bool
is_left_of_card(const Word *word, size_t at)
{
	int			masked = 0;

	for (size_t i = at; i > word->floor && at - i < 64 && masked < MASKED_DIGITS; i--)
	{
		char		c = word->bytes[i - 1];

		if (c == MASK)
			masked++;
		/* what parts groups, %20 among it */
		else if (tb_is(c, TB_ALNUM) && c != '2' && c != '0')
			return false;
	}
	return masked == MASKED_DIGITS;
}

/*
 * A number that PostgreSQL has cut off, with as many digits left as not to be
 * shown of a card number, if it could be the beginning of one.
 */
static bool
is_cut_off_card(const Word *word, size_t start, size_t *end)
{
	size_t		digits = 0;
	size_t		i = start;

	if (word->bytes[start] < '3' || word->bytes[start] > '6')
		return false;
	while (i < word->length && digits < 19)
	{
		if (tb_is(word->bytes[i], TB_DIGIT))
			digits++;
		else if (word->bytes[i] != ' ' && word->bytes[i] != '-')
			break;
		i++;
	}
	*end = i;
	return digits > 6 && tb_is_cut_off(word, i);
}

/* Whether a card number begins here; what of it is to be masked */
static bool
card_at(Redactor *redactor, const Word *word, size_t start)
{
	size_t		end;
	size_t		last_four;

	/* behind a decimal point */
	if (tb_before(word, start) == '.' && start - word->floor >= 2 &&
		tb_is(word->bytes[start - 2], TB_DIGIT))
		return false;
	if (word->end - start == 4 && is_left_of_card(word, start))
		return false;
	if (tb_card_number_at(word->bytes, word->length, start, &end, &last_four))
	{
		redactor->start = start;
		redactor->end = last_four;
		redactor->floor = redactor->at = end;
	}
	else if (is_cut_off_card(word, start, &end))
	{
		redactor->start = start;
		redactor->end = redactor->floor = redactor->at = end;
	}
	else
		return false;
	redactor->is_card = true;
	return true;
}

/* Whether there are only stars, and not more of them than a mask has */
static bool
is_masked(const Redactor *redactor)
{
	for (size_t i = redactor->start; i < redactor->end; i++)
	{
		if (redactor->bytes[i] != MASK || i - redactor->start >= MASK_LENGTH)
			return false;
	}
	return true;
}

/*
 * Whether something begins where a word begins.  What is there and has been masked
 * is gone past.
 */
static bool
found_at(Redactor *redactor, const Word *word)
{
	if (tb_is(word->bytes[word->start], TB_DIGIT) &&
		card_at(redactor, word, word->start))
		return true;
	redactor->is_card = false;
	if (redactor->what == TB_CARDS ||
		!(tb_shape_at(word, &redactor->start, &redactor->end) ||
		  tb_credential_at(word, &redactor->start, &redactor->end)))
		return false;
	redactor->floor = redactor->at = redactor->end;
	return true;
}

/*
 * tb_redactor_next
 *		Find what is to be masked next, if it begins with a word that begins before
 *		upto.  False if there is nothing; then the search can go on with a larger
 *		upto.
 */
bool
tb_redactor_next(Redactor *redactor, size_t upto)
{
	Word		word = {redactor->bytes, redactor->length, redactor->floor, 0, 0};

	if (upto > redactor->length)
		upto = redactor->length;
	while (redactor->at < upto)
	{
		size_t		escaped;
		bool		found;

		if (!tb_is(word.bytes[redactor->at], TB_ALNUM))
		{
			redactor->at++;
			continue;
		}
		word.start = redactor->at;
		word.end = redactor->at = tb_run(&word, word.start, TB_ALNUM);
		found = found_at(redactor, &word);
		escaped = skip_escape(&word);
		if (!found && escaped > word.start && escaped < word.end)
		{
			word.start = escaped;
			found = found_at(redactor, &word);
		}
		if (found && !is_masked(redactor))
			return true;
		word.floor = redactor->floor;
	}
	return false;
}

/*
 * Write the mask of what was found; returns its length, no more than there is
 * room for.  The text may be written over: the mask is not longer.
 */
static size_t
write_mask(char *to, size_t room, const char *bytes, const Redactor *redactor)
{
	size_t		written = 0;
	int			plain = 0;

	for (size_t i = redactor->start; i < redactor->end && written < room; i++)
	{
		char		c = bytes[i];

		if (!redactor->is_card && written == MASK_LENGTH)
			break;
		/* in a card number, the digits of %20 are none */
		if (c == '%')
			plain = 3;
		to[written++] = redactor->is_card && (plain > 0 || !tb_is(c, TB_DIGIT)) ? c : MASK;
		plain -= plain > 0;
	}
	return written;
}

/* Go through a text once, masking in place; *found tells if there was anything */
static size_t
redact_once(char *bytes, size_t length, RedactWhat what, bool *found)
{
	Redactor	redactor;
	size_t		kept = 0;		/* up to here the result is complete */
	size_t		from = 0;		/* what has not been copied yet */

	tb_redactor_begin(&redactor, bytes, length, what);
	while (tb_redactor_next(&redactor, length))
	{
		/*
		 * The rest of the text is where it was: what is written ends at most
		 * where what was found ends, and the search goes on behind that.
		 */
		if (kept != from)
			memmove(bytes + kept, bytes + from, redactor.start - from);
		kept += redactor.start - from;
		from = redactor.end;
		kept += write_mask(bytes + kept, redactor.end - redactor.start, bytes, &redactor);
	}
	*found = from > 0;
	if (kept != from)
		memmove(bytes + kept, bytes + from, length - from);
	return kept + (length - from);
}

/*
 * tb_redact
 *		Mask everything in a text, in place; returns its new length, which is never
 *		more.  Of card numbers, digits become stars one by one, and the last four
 *		stay; of everything else, three stars are left, or fewer if it was shorter.
 *		In what has been masked nothing is found any more.  A text that always shows
 *		something new, which only somebody who means to can write, is masked as a
 *		whole, so that the time has a bound.
 */
size_t
tb_redact(char *bytes, size_t length, RedactWhat what)
{
	bool		found = true;

	for (int pass = 0; found && pass < MAX_PASSES; pass++)
		length = redact_once(bytes, length, what, &found);
	if (found)
	{
		length = length < MASK_LENGTH ? length : MASK_LENGTH;
		memset(bytes, MASK, length);
	}
	return length;
}

/*
 * tb_redact_copy
 *		Write the beginning of a text, masked, as much as there is room for; returns
 *		its length.  Of the rest of the text no more is looked at than is needed for
 *		that, and with room for all of it the result is that of tb_redact().
 */
size_t
tb_redact_copy(char *to, size_t room, const char *bytes, size_t length,
			   RedactWhat what)
{
	Redactor	redactor;
	size_t		written = 0;
	size_t		from = 0;

	tb_redactor_begin(&redactor, bytes, length, what);
	while (tb_redactor_next(&redactor, from + (room - written)))
	{
		size_t		plain = redactor.start - from;

		if (plain > room - written)
			plain = room - written;
		memcpy(to + written, bytes + from, plain);
		written += plain;
		from = redactor.end;
		written += write_mask(to + written, room - written, bytes, &redactor);
	}
	if (from < length)
	{
		size_t		plain = length - from;

		if (plain > room - written)
			plain = room - written;
		memcpy(to + written, bytes + from, plain);
		written += plain;
	}
	return tb_redact(to, written, what);
}

/*
 * tb_blot
 *		Make everything unreadable in a text in which every byte has to stay where
 *		it is, since others have counted them: in a statement, for whoever keeps its
 *		text.  All bytes become stars; or, if the text is going to be read by
 *		PostgreSQL's lexer, letters and digits become x, those of card numbers 0, so
 *		that what was an identifier, a number or part of a string stays one.  False
 *		if that is not certain: a quotation or an escape could begin or end there.
 */
bool
tb_blot(char *bytes, size_t length, bool for_lexer)
{
	Redactor	redactor;
	bool		certain = true;

	tb_redactor_begin(&redactor, bytes, length, TB_SECRETS);
	while (tb_redactor_next(&redactor, length))
	{
		size_t		start = redactor.start;
		size_t		end = redactor.end;

		for (size_t i = start; i < end; i++)
		{
			char		c = bytes[i];

			if (!for_lexer)
				bytes[i] = redactor.is_card && !tb_is(c, TB_DIGIT) ? c : MASK;
			else if (tb_is(c, TB_ALNUM))
				bytes[i] = redactor.is_card ? '0' : 'x';
			else if ((unsigned char) c >= 0x80)
				certain = certain && redactor.is_card;
			else if (strchr("'\"\\$", c) != NULL)
				certain = false;
		}
		/* what was E'', B'', N'' or U&'' would be x'', another kind of string */
		if (!redactor.is_card && end < length && bytes[end] == '\'' &&
			(end - start < 2 || !tb_is(bytes[end - 2], TB_ALNUM)))
			certain = false;
	}
	return certain;
}
