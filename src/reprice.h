#ifndef TOKENBILL_REPRICE_H
#define TOKENBILL_REPRICE_H

#include "tokenbill.h"

extern Numeric tb_charged_since(const text *account, int64 seq);

#endif							/* TOKENBILL_REPRICE_H */
