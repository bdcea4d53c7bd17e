#ifndef TOKENBILL_LOCKED_H
#define TOKENBILL_LOCKED_H

#include "tokenbill.h"

extern void *tb_locked_alloc(size_t size);
extern void tb_locked_free(void *memory);

#endif							/* TOKENBILL_LOCKED_H */
