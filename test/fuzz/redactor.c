/*
 * redactor.c
 *	  Text at random, for what is masked in it: the result is no longer, nothing
 *	  but what was found has changed, masking it again changes nothing, looking in
 *	  steps finds the same as looking at once, and of a card number all digits but
 *	  the last four are masked.
 *
 * sources: redactor.c shape.c credential.c named_value.c card_number.c
 * longest: 4096
 */
#include "redactor.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MUST(condition) do { if (!(condition)) abort(); } while (0)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In memory that ends where the text ends, so that a step too far is seen */
static char *
copy(const uint8_t *data, size_t size)
{
	char	   *text = malloc(size > 0 ? size : 1);

	if (size > 0)
		memcpy(text, data, size);
	return text;
}

/*
 * Mask once what is found in a text, as the header says that it is to be masked;
 * returns the length, and how much was found.
 */
static size_t
mask_once(char *text, size_t size, RedactWhat what, int *found)
{
	Redactor	redactor;
	Redactor	steps;
	char	   *result = malloc(size > 0 ? size : 1);
	size_t		from = 0;
	size_t		to = 0;
	size_t		upto = 0;

	*found = 0;
	tb_redactor_begin(&redactor, text, size, what);
	tb_redactor_begin(&steps, text, size, what);
	while (tb_redactor_next(&redactor, size))
	{
		size_t		stars = 0;

		while (!tb_redactor_next(&steps, upto))
			MUST((upto += 7) < size + 7);
		MUST(steps.start == redactor.start && steps.end == redactor.end);
		MUST(redactor.start >= from && redactor.start < redactor.end && redactor.end <= size);
		memcpy(result + to, text + from, redactor.start - from);
		to += redactor.start - from;
		for (size_t i = redactor.start; i < redactor.end; i++)
		{
			char		c = text[i];

			if (!redactor.is_card)
			{
				if (i - redactor.start < 3)
					result[to++] = '*';
			}
			/* the blank of a URL is no part of the number */
			else if (c == '%' && redactor.end - i >= 3)
			{
				memcpy(result + to, text + i, 3);
				to += 3;
				i += 2;
			}
			else
			{
				stars += c >= '0' && c <= '9';
				result[to++] = c >= '0' && c <= '9' ? '*' : c;
			}
		}
		MUST(!redactor.is_card || stars >= 7);
		from = redactor.end;
		(*found)++;
	}
	MUST(!tb_redactor_next(&steps, size));
	memcpy(result + to, text + from, size - from);
	to += size - from;
	MUST(to <= size);
	memcpy(text, result, to);
	free(result);
	return to;
}

/* Masked is what is found, then what is found in that, and no more */
static void
compare(const uint8_t *data, size_t size, const char *masked, size_t length, RedactWhat what)
{
	char	   *text = copy(data, size);
	int			found = 1;

	for (int pass = 0; pass < 8 && found > 0; pass++)
		size = mask_once(text, size, what, &found);
	if (found > 0)
		MUST(length <= 3 && memcmp(masked, "***", length) == 0);
	else
		MUST(length == size && memcmp(masked, text, size) == 0);
	free(text);
}

/* In what is masked nothing is found, and masking it again changes nothing */
static void
check_is_masked(const char *masked, size_t length, RedactWhat what)
{
	char	   *again = copy((const uint8_t *) masked, length);
	Redactor	redactor;

	tb_redactor_begin(&redactor, again, length, what);
	MUST(!tb_redactor_next(&redactor, length));
	MUST(tb_redact(again, length, what) == length);
	MUST(length == 0 || memcmp(again, masked, length) == 0);
	free(again);
}

static void
check(const uint8_t *data, size_t size, RedactWhat what)
{
	char	   *text = copy(data, size);
	char	   *masked = copy(data, size);
	size_t		length = tb_redact(masked, size, what);

	MUST(length <= size);
	compare(data, size, masked, length, what);
	check_is_masked(masked, length, what);
	for (size_t room = 0; room < size; room = room * 2 + 1)
	{
		char	   *part = malloc(room > 0 ? room : 1);
		size_t		written = tb_redact_copy(part, room, text, size, what);

		MUST(written <= room);
		check_is_masked(part, written, what);
		free(part);
	}
	free(text);
	text = malloc(size > 0 ? size : 1);
	MUST(tb_redact_copy(text, size, (const char *) data, size, what) == length);
	MUST(length == 0 || memcmp(text, masked, length) == 0);
	free(masked);
	free(text);
}

/* What others have counted stays where it is, and what is not found as it is */
static void
check_blot(const uint8_t *data, size_t size, bool for_lexer)
{
	char	   *text = copy(data, size);
	Redactor	redactor;
	size_t		from = 0;

	tb_blot(text, size, for_lexer);
	tb_redactor_begin(&redactor, (const char *) data, size, TB_SECRETS);
	while (tb_redactor_next(&redactor, size))
	{
		MUST(memcmp(text + from, data + from, redactor.start - from) == 0);
		from = redactor.end;
	}
	MUST(size == from || memcmp(text + from, data + from, size - from) == 0);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check(data, size, TB_SECRETS);
	check(data, size, TB_CARDS);
	check_blot(data, size, false);
	check_blot(data, size, true);
	return 0;
}
