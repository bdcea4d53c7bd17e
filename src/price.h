#ifndef TOKENBILL_PRICE_H
#define TOKENBILL_PRICE_H

#include "measure.h"

typedef enum PriceMode
{
	PRICE_FLAT,
	PRICE_GRADUATED,			/* each bracket of the count at its price */
	PRICE_VOLUME,				/* all of the count at its bracket's price */
	PRICE_CLIFF,				/* ... at that of the call's input tokens */
	PRICE_PACKAGE				/* every "per" units that were begun */
} PriceMode;

/* Whose price it is; the first goes before the others. */
typedef enum PriceHolder
{
	HOLDER_ACCOUNT,
	HOLDER_GROUP,
	HOLDER_LIST
} PriceHolder;

/* A price of one unit, exact, and as a ledger line keeps it. */
typedef struct Rate
{
	Numeric		unit_price;
	Numeric		value;			/* unit_price / per */
	char	   *written;		/* "unit_price/per" */
} Rate;

/* What a count costs that is greater than "above". */
typedef struct Tier
{
	Numeric		above;
	Rate		rate;
} Tier;

typedef struct Markup Markup;
typedef struct MarkedUp MarkedUp;

/* A price of a meter, from some time on. */
typedef struct Price
{
	TimestampTz valid_from;
	PriceHolder holder;
	char	   *service_tier;	/* null: standard */
	char	   *hours;			/* null: all day */
	int			from_minute;	/* of the day, UTC */
	int			to_minute;
	PriceMode	mode;
	Numeric		per;
	Rate		rate;
	int			ntiers;
	Tier	   *tiers;			/* rising */
	MarkedUp   *marked_up;		/* the same under markups: markup.c's */
} Price;

/* A meter of a service and its prices, those that go first first. */
typedef struct Meter
{
	char	   *name;
	int			name_len;
	int			nprices;		/* what we charge */
	Price	   *prices;
	int			ncosts;			/* what the upstream charges us */
	Price	   *costs;
} Meter;

/* What the meters of a service cost an account: its own prices, its group's, the list's. */
typedef struct RateCard
{
	int			nmeters;
	Meter	   *meters;
	bool		has_prices;		/* else nobody has priced the service */
	bool		has_costs;
	MeterFunctions functions;	/* that count some of the meters */
	bool		particular;		/* some accounts or groups have it otherwise */
	const Meter *minimum;		/* what a call costs at least; null: nothing */
	text	   *usage_format;	/* how usage is read; null: find out */
	int			nmarkups;
	Markup	   *markups;

	/* the rates a ledger line keeps, built for the prices that were used last */
	int			nused;
	const Price **used;
	Jsonb	   *rates;
} RateCard;

/* The meter whose price is what a call costs at least. */
#define TB_MINIMUM_CHARGE "minimum_charge"

/* When, and of which tier, a call is. */
typedef struct CallTime
{
	TimestampTz at;
	const char *service_tier;	/* null: standard */
	int			minute;			/* of the day, UTC; -1: not worked out yet */
} CallTime;

extern void tb_price_init(void);
extern RateCard *tb_rate_card(const text *service, const text *account);
extern RateCard *tb_other_card(const text *service, const text *account);
extern const Meter *tb_find_meter(const RateCard *card, const char *name,
								  int name_len);
extern const char *tb_parent_meter(const char *name, int name_len);
extern const Price *tb_price_at(const Price *prices, int nprices,
								CallTime *when);
extern void tb_keep_rates(RateCard *card, const Price **used, int nused,
						  Jsonb *rates);

#endif							/* TOKENBILL_PRICE_H */
