#ifndef TOKENBILL_KEY_HOLD_H
#define TOKENBILL_KEY_HOLD_H

#include "key.h"

/* Whether there are keys to be had in the worker. */
typedef enum HoldState
{
	TB_HOLD_LATER,				/* they are being fetched */
	TB_HOLD_READY,
	TB_HOLD_FAILED				/* not now, and why */
} HoldState;

/* Numbers what was fetched; a later one is larger. */
typedef uint64 HoldNumber;

extern HoldState tb_hold_want(HoldNumber newer_than);
extern const MasterKey *tb_hold_key(HoldNumber *number);
extern const Refusal *tb_hold_refusal(void);
extern void tb_hold_release(void);
extern void tb_hold_forget(void);
extern void tb_hold_turn(void);
extern pgsocket tb_hold_socket(void);
extern TimestampTz tb_hold_wake_at(void);

#endif							/* TOKENBILL_KEY_HOLD_H */
