/*
 * clock.c
 *	  The time tokenbill goes by.
 *
 * It is the system's clock, unless a superuser has set tokenbill.clock: tests
 * move months and expiries with it, without waiting and without a fake libc.
 */
#include "clock.h"

#include "setting.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(tokenbill_clock);

static char *clock_setting = NULL;

/* What clock_setting says; DT_NOBEGIN while it says nothing. */
static TimestampTz clock_fixed = DT_NOBEGIN;

static bool
parse_time(const char *value, TimestampTz *result)
{
	Datum		parsed;

	if (!tb_try_input(timestamptz_in, value, &parsed))
		return false;
	*result = DatumGetTimestampTz(parsed);
	return !TIMESTAMP_NOT_FINITE(*result);
}

static bool
check_clock(char **newval, void **extra, GucSource source)
{
	TimestampTz *parsed;
	TimestampTz value = DT_NOBEGIN;

	if (*newval != NULL && **newval != '\0' && !parse_time(*newval, &value))
	{
		GUC_check_errdetail("It must be a timestamp with time zone, or empty for the system's clock.");
		return false;
	}
	parsed = tb_guc_malloc(sizeof(TimestampTz));
	if (parsed == NULL)
		return false;
	*parsed = value;
	*extra = parsed;
	return true;
}

static void
assign_clock(const char *newval, void *extra)
{
	clock_fixed = *(TimestampTz *) extra;
}

/*
 * tb_clock_init
 *		Define the setting; called once, from _PG_init.
 */
void
tb_clock_init(void)
{
	DefineCustomStringVariable("tokenbill.clock",
							   "Time that tokenbill goes by instead of the system's clock, for tests.",
							   "A timestamp with time zone; empty: the system's clock.",
							   &clock_setting,
							   "",
							   PGC_SUSET,
							   GUC_NOT_IN_SAMPLE,
							   check_clock, assign_clock, NULL);
}

/*
 * tb_now
 *		The present time.
 */
TimestampTz
tb_now(void)
{
	if (unlikely(clock_fixed != DT_NOBEGIN))
		return clock_fixed;
	return GetCurrentTimestamp();
}

/*
 * tb_clock_stands
 *		Whether time does not pass by itself.
 */
bool
tb_clock_stands(void)
{
	return clock_fixed != DT_NOBEGIN;
}

/*
 * clock() -> timestamptz
 */
Datum
tokenbill_clock(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(tb_now());
}
