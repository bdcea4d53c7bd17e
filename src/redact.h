#ifndef TOKENBILL_REDACT_H
#define TOKENBILL_REDACT_H

#include "tokenbill.h"

extern void tb_redact_init(void);

#endif							/* TOKENBILL_REDACT_H */
