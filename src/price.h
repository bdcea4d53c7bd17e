#ifndef TOKENBILL_PRICE_H
#define TOKENBILL_PRICE_H

#include "tokenbill.h"

/* A price of a meter, from some time on. */
typedef struct Price
{
	TimestampTz valid_from;
	Numeric		unit_price;
	Numeric		per;
	Numeric		rate;			/* unit_price / per, exact */
	char	   *written;		/* "unit_price/per", as a ledger line keeps it */
} Price;

/* A meter of a service and its prices, newest first. */
typedef struct Meter
{
	char	   *name;
	int			name_len;
	int			nprices;
	Price	   *prices;
} Meter;

/* What the meters of a service cost an account: its own prices, then the list's. */
typedef struct RateCard
{
	int			nmeters;		/* 0: nobody has priced the service */
	Meter	   *meters;
	bool		has_own_prices; /* of any account: the list is not for all */

	/* the rates a ledger line keeps, built for the prices that were used last */
	int			nused;
	const Price **used;
	Jsonb	   *rates;
} RateCard;

extern void tb_price_init(void);
extern RateCard *tb_rate_card(const text *service, const text *account);
extern const Price *tb_price_at(const Meter *meter, TimestampTz at);
extern void tb_keep_rates(RateCard *card, const Price **used, int nused,
						  Jsonb *rates);

#endif							/* TOKENBILL_PRICE_H */
