#ifndef TOKENBILL_EXPIRY_H
#define TOKENBILL_EXPIRY_H

#include "tokenbill.h"

extern uint64 tb_expire_due(const text *account);

#endif							/* TOKENBILL_EXPIRY_H */
