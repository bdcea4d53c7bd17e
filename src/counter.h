#ifndef TOKENBILL_COUNTER_H
#define TOKENBILL_COUNTER_H

#include "tokenbill.h"

extern void tb_counter_init(void);
extern void tb_count_line(const text *kind);
extern void tb_count_refusal(int sqlstate);

#endif							/* TOKENBILL_COUNTER_H */
