#ifndef TOKENBILL_WORKER_H
#define TOKENBILL_WORKER_H

#include "step.h"

extern void tb_worker_init(void);
pg_noreturn extern void tb_worker_leave(ExtensionState state);
extern void tb_worker_says(const char *message);

#endif							/* TOKENBILL_WORKER_H */
