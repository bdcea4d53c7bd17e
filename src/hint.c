/*
 * hint.c
 *	  What this backend remembers of the accounts it has come to: a guess by which
 *	  way to begin with one.  A wrong guess costs time, and nothing else.
 */
#include "hint.h"

#include "common/hashfn.h"

#define HINT_BITS 8192

static uint8 hints[HINT_BITS / 8];

static uint32
hint_number(const text *account)
{
	return DatumGetUInt32(hash_any((const unsigned char *) VARDATA_ANY(account),
								   VARSIZE_ANY_EXHDR(account))) % HINT_BITS;
}

/*
 * tb_long_way_hinted, tb_hint_long_way
 *		Whether the account, or another with the same number, had to take movement.c's
 *		long way last time, because a limit of it was reached.  And note it.
 */
bool
tb_long_way_hinted(const text *account)
{
	uint32		n = hint_number(account);

	return (hints[n / 8] & (1 << (n % 8))) != 0;
}

void
tb_hint_long_way(const text *account, bool holds)
{
	uint32		n = hint_number(account);

	if (holds)
		hints[n / 8] |= 1 << (n % 8);
	else
		hints[n / 8] &= ~(1 << (n % 8));
}
