#ifndef TOKENBILL_BURN_ORDER_H
#define TOKENBILL_BURN_ORDER_H

#include "credit.h"

extern void tb_burn_order_init(void);
extern void tb_sort_credits(Credit **credits, int n);

#endif							/* TOKENBILL_BURN_ORDER_H */
