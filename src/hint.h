#ifndef TOKENBILL_HINT_H
#define TOKENBILL_HINT_H

#include "tokenbill.h"

typedef enum Hint
{
	HINT_LIMITED,				/* it has limits: they are read with it */
	HINT_CREDITED,				/* it has open credits: the short way is none */
	HINTS
} Hint;

extern bool tb_hinted(Hint hint, const text *account);
extern void tb_hint(Hint hint, const text *account, bool holds);

#endif							/* TOKENBILL_HINT_H */
