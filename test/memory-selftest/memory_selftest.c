/*
 * Deliberate memory errors, one function each.
 *
 * A memory check that has never found anything proves nothing, so
 * test/check-memory runs these first and insists that the checker in charge
 * names this file.  "volatile" keeps the compiler from removing them.
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(selftest_clean);
PG_FUNCTION_INFO_V1(selftest_palloc_overrun);
PG_FUNCTION_INFO_V1(selftest_use_after_pfree);
PG_FUNCTION_INFO_V1(selftest_uninitialised);
PG_FUNCTION_INFO_V1(selftest_malloc_overrun);
PG_FUNCTION_INFO_V1(selftest_stack_overrun);
PG_FUNCTION_INFO_V1(selftest_signed_overflow);

Datum
selftest_clean(PG_FUNCTION_ARGS)
{
	volatile char *p = palloc0(8);

	p[7] = 1;
	PG_RETURN_INT32(p[7] + PG_GETARG_INT32(0));
}

Datum
selftest_palloc_overrun(PG_FUNCTION_ARGS)
{
	volatile char *p = palloc0(8);

	p[8 + PG_GETARG_INT32(0)] = 1;
	PG_RETURN_INT32(p[7]);
}

Datum
selftest_use_after_pfree(PG_FUNCTION_ARGS)
{
	volatile char *p = palloc0(8);
	volatile char *alias = p + PG_GETARG_INT32(0);

	pfree((void *) p);
	PG_RETURN_INT32(alias[0]);
}

Datum
selftest_uninitialised(PG_FUNCTION_ARGS)
{
	volatile char *p = palloc(8);

	/* a jump, not a value that somebody else will stumble over */
	if (p[PG_GETARG_INT32(0)] == 'x')
		elog(NOTICE, "x");
	PG_RETURN_INT32(0);
}

Datum
selftest_malloc_overrun(PG_FUNCTION_ARGS)
{
	volatile char *p = malloc(8);
	int			result;

	if (p == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("out of memory")));
	p[8 + PG_GETARG_INT32(0)] = 1;
	result = p[8];
	free((void *) p);
	PG_RETURN_INT32(result);
}

Datum
selftest_stack_overrun(PG_FUNCTION_ARGS)
{
	volatile char buffer[8] = {0};

	buffer[8 + PG_GETARG_INT32(0)] = 1;
	PG_RETURN_INT32(buffer[7]);
}

Datum
selftest_signed_overflow(PG_FUNCTION_ARGS)
{
	volatile int32 n = PG_INT32_MAX;

	PG_RETURN_INT32(n + 1 + PG_GETARG_INT32(0));
}
