#ifndef TOKENBILL_HOLD_H
#define TOKENBILL_HOLD_H

#include "movement.h"

extern uint64 tb_expire_due(const text *account);

#endif							/* TOKENBILL_HOLD_H */
