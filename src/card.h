#ifndef TOKENBILL_CARD_H
#define TOKENBILL_CARD_H

#include "tokenbill.h"

extern bool tb_has_card_number(const char *s, int len);
extern bool tb_is_card_number(Numeric number);

#endif							/* TOKENBILL_CARD_H */
