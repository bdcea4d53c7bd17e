#ifndef TOKENBILL_RATING_H
#define TOKENBILL_RATING_H

#include "price.h"
#include "usage.h"

/* A meter of some usage, priced. */
typedef struct RatedMeter
{
	const char *name;
	int			name_len;
	Numeric		quantity;
	const Meter *meter;			/* whose price it is: its own, or a parent's */
	const Price *price;			/* null: it has none, and is in suspense */
	bool		fallback;		/* the price is of service *, for any */
	const Rate *rate;			/* the price's, or one of its tiers' */
	Numeric		amount;
	Numeric		cost;			/* what the upstream takes; null: unknown */
	bool		plain;			/* "unit_price/per" says it all */
} RatedMeter;

/* What some usage of a service costs. */
typedef struct Rating
{
	Numeric		amount;			/* what we charge */
	Numeric		cost;			/* what the upstream charges us; null: unknown */
	Jsonb	   *usage;			/* for the ledger: as it was reported */
	Jsonb	   *rates;			/* ... and what it was priced with */
	Numeric		context;		/* input tokens of the call; null: none */
	int			nitems;
	Jsonb	   *unpriced;		/* names of meters without a price: the line
								 * waits for reprice(); null: none */
	RatedMeter	items[TB_MAX_METERS + 1];	/* one for a minimum charge */
} Rating;

extern Refusal *tb_keep_usage(const text *service, const text *account,
							  Jsonb *usage, Jsonb **kept);
extern Refusal *tb_rate(const text *service, const text *account, Jsonb *usage,
						TimestampTz at, bool may_suspend, Rating *rating);
extern void tb_rating_init(void);
extern char *tb_item_tier(const Rating *rating, const RatedMeter *item);

#endif							/* TOKENBILL_RATING_H */
