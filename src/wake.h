#ifndef TOKENBILL_WAKE_H
#define TOKENBILL_WAKE_H

#include "tokenbill.h"

extern void tb_wake_by(TimestampTz at);
extern void tb_wake_worker(TimestampTz by);
extern void tb_look_at_end(Oid database);
extern void tb_unbar_at_end(Oid database);
extern void tb_wake_now(void);

#endif							/* TOKENBILL_WAKE_H */
