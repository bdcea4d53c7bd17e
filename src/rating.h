#ifndef TOKENBILL_RATING_H
#define TOKENBILL_RATING_H

#include "price.h"
#include "refusal.h"

#define TB_MAX_METERS 64

/* Counts are less than 10^15. */
#define TB_COUNT_BOUND INT64CONST(1000000000000000)

/* A meter of some usage, priced. */
typedef struct RatedMeter
{
	const Meter *meter;
	const Price *price;
	Numeric		quantity;
	Numeric		amount;
} RatedMeter;

/* What some usage of a service costs. */
typedef struct Rating
{
	Numeric		cost;
	Jsonb	   *rates;			/* what it was priced with, for the ledger */
	int			nitems;
	RatedMeter	items[TB_MAX_METERS];
} Rating;

extern Refusal *tb_check_usage(Jsonb *usage);
extern Refusal *tb_rate(const text *service, const text *account, Jsonb *usage,
						TimestampTz at, Rating *rating);

#endif							/* TOKENBILL_RATING_H */
