#ifndef TOKENBILL_MONEY_H
#define TOKENBILL_MONEY_H

#include "tokenbill.h"

#include "utils/fmgrprotos.h"

extern Numeric tb_zero(void);
extern bool tb_balance_fits(Numeric balance);

static inline Numeric
tb_add(Numeric a, Numeric b)
{
	return numeric_add_opt_error(a, b, NULL);
}

static inline Numeric
tb_sub(Numeric a, Numeric b)
{
	return numeric_sub_opt_error(a, b, NULL);
}

static inline Numeric
tb_mul(Numeric a, Numeric b)
{
	return numeric_mul_opt_error(a, b, NULL);
}

static inline Numeric
tb_negate(Numeric a)
{
	return DatumGetNumeric(DirectFunctionCall1(numeric_uminus,
											   NumericGetDatum(a)));
}

static inline char *
tb_print(Numeric a)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out,
											   NumericGetDatum(a)));
}

/* Less than, equal to, or greater than zero, as a is to b. */
static inline int
tb_compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a),
											 NumericGetDatum(b)));
}

static inline Numeric
tb_larger(Numeric a, Numeric b)
{
	return tb_compare(a, b) >= 0 ? a : b;
}

static inline Numeric
tb_smaller(Numeric a, Numeric b)
{
	return tb_compare(a, b) <= 0 ? a : b;
}

#endif							/* TOKENBILL_MONEY_H */
