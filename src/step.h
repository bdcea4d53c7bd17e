#ifndef TOKENBILL_STEP_H
#define TOKENBILL_STEP_H

#include "tokenbill.h"
#include "refusal.h"

/* Something the worker does again and again, and how long it must not. */
typedef struct Duty
{
	const char *name;
	int			failures;		/* in a row */
	TimestampTz not_before;		/* by the system's clock */
	TimestampTz failed_at;		/* when it failed last */
	TimestampTz quiet_until;	/* until when the log has heard enough of it */
	int			lines;			/* what the log has heard */
} Duty;

/* What there is of the extension in this database. */
typedef enum ExtensionState
{
	TB_EXTENSION_ABSENT,
	TB_EXTENSION_OTHER_VERSION,
	TB_EXTENSION_HERE
} ExtensionState;

typedef void (*StepFunction) (void *arg);

extern bool tb_step(Duty *duty, const char *target, StepFunction function,
					void *arg);
extern void tb_duty_rests(Duty *duty);
extern void tb_duty_refused(Duty *duty, const char *target, const Refusal *refusal);

#endif							/* TOKENBILL_STEP_H */
