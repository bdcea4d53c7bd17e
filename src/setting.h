#ifndef TOKENBILL_SETTING_H
#define TOKENBILL_SETTING_H

#include "tokenbill.h"

extern bool tb_try_input(PGFunction input, const char *value, Datum *result);

#endif							/* TOKENBILL_SETTING_H */
