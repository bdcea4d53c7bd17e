#ifndef TOKENBILL_HINT_H
#define TOKENBILL_HINT_H

#include "tokenbill.h"

extern bool tb_long_way_hinted(const text *account);
extern void tb_hint_long_way(const text *account, bool holds);

#endif							/* TOKENBILL_HINT_H */
