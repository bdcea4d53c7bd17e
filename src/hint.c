/*
 * hint.c
 *	  What this backend remembers of the accounts it has come to: a guess by which
 *	  way to begin with one.  A wrong guess costs time, and nothing else.
 */
#include "hint.h"

#include "common/hashfn.h"

#define HINT_BITS 8192

static uint8 hints[HINTS][HINT_BITS / 8];

static uint32
hint_number(const text *account)
{
	return DatumGetUInt32(hash_any((const unsigned char *) VARDATA_ANY(account),
								   VARSIZE_ANY_EXHDR(account))) % HINT_BITS;
}

/*
 * tb_hinted, tb_hint
 *		What was noted of an account last, or of another with the same number; and
 *		note it.
 */
bool
tb_hinted(Hint hint, const text *account)
{
	uint32		n = hint_number(account);

	return (hints[hint][n / 8] & (1 << (n % 8))) != 0;
}

void
tb_hint(Hint hint, const text *account, bool holds)
{
	uint32		n = hint_number(account);

	if (holds)
		hints[hint][n / 8] |= 1 << (n % 8);
	else
		hints[hint][n / 8] &= ~(1 << (n % 8));
}
