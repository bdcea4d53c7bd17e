#ifndef TOKENBILL_MONTH_H
#define TOKENBILL_MONTH_H

#include "tokenbill.h"
#include "executor/spi.h"

extern void tb_month_init(void);
extern void tb_open_month(TimestampTz at);
extern SPIPlanPtr tb_insert_plan(TimestampTz at);

#endif							/* TOKENBILL_MONTH_H */
