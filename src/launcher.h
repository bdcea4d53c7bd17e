#ifndef TOKENBILL_LAUNCHER_H
#define TOKENBILL_LAUNCHER_H

#include "tokenbill.h"

/* The setting tokenbill.worker. */
extern bool tb_worker_enabled;

extern void tb_launcher_init(void);
extern long tb_back_off(int failures);
extern long tb_wait_time(TimestampTz until, TimestampTz now);

#endif							/* TOKENBILL_LAUNCHER_H */
