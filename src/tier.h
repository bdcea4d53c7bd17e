#ifndef TOKENBILL_TIER_H
#define TOKENBILL_TIER_H

#include "price.h"

extern PriceMode tb_price_mode(const char *word);
extern void tb_make_rate(Rate *rate, Numeric unit_price, Numeric per);
extern void tb_read_tiers(Price *price, Jsonb *tiers);
extern void tb_read_hours(const char *hours, int *from_minute,
						  int *to_minute);
extern int	tb_minute_of_day(TimestampTz at);
extern Numeric tb_price_of(const Price *price, Numeric quantity,
						   Numeric context, const Rate **rate);
extern char *tb_tier_text(const Price *price, Numeric quantity,
						  Numeric context);

#endif							/* TOKENBILL_TIER_H */
