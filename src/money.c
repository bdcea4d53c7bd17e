/*
 * money.c
 *	  Money is numeric, always: exact, and never a float, not even in passing.
 */
#include "money.h"

#include "utils/memutils.h"

/* Balances lie strictly between this and its negative. */
#define BALANCE_BOUND "1000000000000000000"

/*
 * tb_zero
 *		Zero; made once a backend, not to be freed.
 */
Numeric
tb_zero(void)
{
	static Numeric zero = NULL;

	if (unlikely(zero == NULL))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		zero = int64_to_numeric(0);
		MemoryContextSwitchTo(old);
	}
	return zero;
}

/*
 * tb_balance_fits
 *		Whether a balance is one that an account may have: less than 10^18, up
 *		or down.
 */
bool
tb_balance_fits(Numeric balance)
{
	static Numeric bound = NULL;
	static Numeric lower = NULL;

	if (unlikely(bound == NULL || lower == NULL))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		bound = DatumGetNumeric(DirectFunctionCall3(numeric_in,
													CStringGetDatum(BALANCE_BOUND),
													ObjectIdGetDatum(InvalidOid),
													Int32GetDatum(-1)));
		lower = tb_negate(bound);
		MemoryContextSwitchTo(old);
	}
	return tb_compare(balance, bound) < 0 && tb_compare(balance, lower) > 0;
}
