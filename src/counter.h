#ifndef TOKENBILL_COUNTER_H
#define TOKENBILL_COUNTER_H

#include "tokenbill.h"

extern void tb_counter_init(void);
extern void tb_count_line(const text *kind);
extern void tb_count_refusal(int sqlstate);
extern void tb_count_begin(void);
extern void tb_count_change(void);
extern void tb_count_unknown(void);
extern uint64 tb_moves(void);
extern void tb_watch_moves(TimestampTz by);

#endif							/* TOKENBILL_COUNTER_H */
