#ifndef TOKENBILL_WORKER_H
#define TOKENBILL_WORKER_H

#include "step.h"

extern void tb_worker_init(void);
extern void tb_worker_leave(ExtensionState state) pg_attribute_noreturn();
extern void tb_worker_says(const char *message);

#endif							/* TOKENBILL_WORKER_H */
