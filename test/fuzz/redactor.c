/*
 * redactor.c
 *	  Text at random, for what is masked in it: the result is no longer, nothing
 *	  but what was found has changed, masking it again changes nothing, looking in
 *	  steps finds the same as looking at once, and no digit of a card number but
 *	  the last four is left.
 *
 * sources: redactor.c shape.c credential.c card_number.c
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

/* What is found in a text is what tb_redact() has masked in it, and no more */
static void
compare(const char *text, size_t size, const char *masked, size_t length, RedactWhat what)
{
	Redactor	redactor;
	Redactor	steps;
	size_t		from = 0;
	size_t		to = 0;
	size_t		upto = 0;

	tb_redactor_begin(&redactor, text, size, what);
	tb_redactor_begin(&steps, text, size, what);
	while (tb_redactor_next(&redactor, size))
	{
		size_t		found = redactor.end - redactor.start;
		size_t		stars = 0;

		while (!tb_redactor_next(&steps, upto))
			MUST((upto += 7) < size + 7);
		MUST(steps.start == redactor.start && steps.end == redactor.end);
		MUST(redactor.start >= from && redactor.start < redactor.end && redactor.end <= size);
		MUST(to + (redactor.start - from) <= length);
		MUST(memcmp(text + from, masked + to, redactor.start - from) == 0);
		to += redactor.start - from;
		from = redactor.end;
		if (redactor.is_card)
		{
			MUST(to + found <= length);
			for (size_t i = 0; i < found; i++)
			{
				char		c = text[redactor.start + i];

				stars += masked[to + i] == '*';
				MUST(masked[to + i] == c || (masked[to + i] == '*' && c >= '0' && c <= '9'));
			}
			MUST(stars >= 7);
			to += found;
			continue;
		}
		for (size_t i = 0; i < found && i < 3; i++)
			MUST(to < length && masked[to++] == '*');
	}
	MUST(!tb_redactor_next(&steps, size));
	MUST(size - from == length - to);
	MUST(size == from || memcmp(text + from, masked + to, size - from) == 0);
}

static void
check(const uint8_t *data, size_t size, RedactWhat what)
{
	char	   *text = copy(data, size);
	char	   *masked = copy(data, size);
	size_t		length = tb_redact(masked, size, what);
	char	   *again;

	MUST(length <= size);
	compare(text, size, masked, length, what);
	for (size_t room = 0; room <= length; room = room * 2 + 1)
	{
		again = copy(data, room);
		MUST(tb_redact_copy(again, room, text, size, what) == room);
		MUST(memcmp(again, masked, room) == 0);
		free(again);
	}
	again = copy((uint8_t *) masked, length);
	MUST(tb_redact(again, length, what) == length);
	MUST(memcmp(again, masked, length) == 0);
	free(again);
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
