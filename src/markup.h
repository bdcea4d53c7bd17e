#ifndef TOKENBILL_MARKUP_H
#define TOKENBILL_MARKUP_H

#include "price.h"

extern void tb_load_markups(RateCard *card, text *service, text *account,
							text *price_group);
extern const Price *tb_marked_up(const RateCard *card, const Price *price,
								 TimestampTz at);

#endif							/* TOKENBILL_MARKUP_H */
