#ifndef TOKENBILL_CLOCK_H
#define TOKENBILL_CLOCK_H

#include "tokenbill.h"

extern void tb_clock_init(void);
extern bool tb_clock_stands(void);
extern TimestampTz tb_now(void);

#endif							/* TOKENBILL_CLOCK_H */
