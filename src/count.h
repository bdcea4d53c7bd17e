#ifndef TOKENBILL_COUNT_H
#define TOKENBILL_COUNT_H

#include "refusal.h"

/* What is in a text; see docs/meters.md. */
typedef struct TextCount
{
	int64		characters;		/* code points */
	int64		graphemes;		/* what a reader takes for a character */
	int64		words;
} TextCount;

extern Refusal *tb_count_text(const char *bytes, int len, TextCount *count);

#endif							/* TOKENBILL_COUNT_H */
