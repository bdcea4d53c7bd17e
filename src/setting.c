/*
 * setting.c
 *	  Settings whose values are read by a type's input function.
 */
#include "setting.h"

/*
 * tb_try_input
 *		Read a value with an input function; false, and no error, if it cannot.
 *
 * Input functions throw, and a setting's check hook must not.  Nothing but a
 * syntax or range error can come out of the functions this is used with, so there
 * is nothing to clean up but the error.
 */
bool
tb_try_input(PGFunction input, const char *value, Datum *result)
{
	MemoryContext old = CurrentMemoryContext;
	volatile bool good = false;

	PG_TRY();
	{
		*result = DirectFunctionCall3(input, CStringGetDatum(value),
									  ObjectIdGetDatum(InvalidOid),
									  Int32GetDatum(-1));
		good = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		FlushErrorState();
	}
	PG_END_TRY();
	return good;
}
