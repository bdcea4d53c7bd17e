#ifndef TOKENBILL_CALL_H
#define TOKENBILL_CALL_H

#include "step.h"

extern Duty tb_claim_duty;

extern void tb_calls_release(bool ended_badly);
extern bool tb_calls_record(void);
extern bool tb_calls_resume(void);
extern int	tb_calls_room(void);
extern int	tb_calls_claim(int max);
extern TimestampTz tb_calls_retry_at(void);

#endif							/* TOKENBILL_CALL_H */
