#ifndef TOKENBILL_HOLD_H
#define TOKENBILL_HOLD_H

#include "credit.h"
#include "movement.h"

/* A hold's row. */
typedef struct Hold
{
	Numeric		amount;
	Numeric		captured;
	Numeric		left;
	text	   *status;
	text	   *on_expiry;
	text	   *service;
	TimestampTz expires_at;
	int32		extensions;
	Jsonb	   *metadata;
	Numeric		tokens;			/* of its estimated usage, still reserved */
	Jsonb	   *reserved;		/* of credits, see burn.c; null if of none */
} Hold;

/* A movement on a hold. */
typedef struct HoldMovement
{
	Movement	movement;		/* first, so that one can be taken for the
								 * other */
	Hold		hold;			/* as judge() found it, changed as it will be */
	text	   *on_expiry;
	Numeric		amount;			/* asked for, or null */
	Numeric		price;			/* what is captured */
	text	   *service;
	Refusal    *unrated;		/* why its usage could not be priced */
	Interval   *ttl;
	bool		has_key;
	bool		final;
} HoldMovement;

extern text *tb_derived_key(const char *what, const text *hold_key);
extern Jsonb *tb_request(char *json);
extern bool tb_wait_argument(FunctionCallInfo fcinfo, int n);
extern Refusal *tb_not_held(const ChainedLine *line, const char *status);
extern Refusal *tb_find_open_hold(const ChainedLine *line, Hold *hold,
								  bool *overdue);
extern void tb_reserve_tokens(HoldMovement *request, Numeric left, bool closes);
extern void tb_store_hold(const ChainedLine *line, const Hold *hold,
						  const char *status);
extern Datum tb_move_hold(FunctionCallInfo fcinfo, HoldMovement *request);

#endif							/* TOKENBILL_HOLD_H */
