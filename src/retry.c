/*
 * retry.c
 *	  How long to wait before a call that failed is made again.
 *
 * The setting is read in SQL, which decides whether there is another try at all;
 * here it is made sure that it can be read.
 */
#include "retry.h"

#include "tokenbill.h"

#include "setting.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"

/* More tries than that are a loop; a longer pause is another check. */
#define MAX_DELAYS 10
#define LONGEST_DELAY USECS_PER_HOUR

static char *delays_setting = NULL;

/* One of them: an interval without months or days, not negative, not too long. */
static bool
good_delay(const char *value)
{
	Datum		parsed;
	Interval   *interval;

	if (!tb_try_input(interval_in, value, &parsed))
		return false;
	interval = DatumGetIntervalP(parsed);
	return interval->month == 0 && interval->day == 0 &&
		interval->time >= 0 && interval->time <= LONGEST_DELAY;
}

static bool
check_delays(char **newval, void **extra, GucSource source)
{
	char	   *rest = pstrdup(*newval);
	char	   *one;
	int			count = 0;
	bool		good = true;

	while (good && (one = strsep(&rest, ",")) != NULL)
		good = ++count <= MAX_DELAYS && good_delay(one);
	if (!good)
		GUC_check_errdetail("It must be a list of one to %d intervals of at most an hour, such as \"1s, 3s, 5s\".",
							MAX_DELAYS);
	return good;
}

/*
 * tb_retry_init
 *		Define the setting; called once, from _PG_init.
 */
void
tb_retry_init(void)
{
	DefineCustomStringVariable("tokenbill.retry_delays",
							   "How long to wait before the first, the second ... repetition of a call that failed.",
							   "A list of intervals of at most an hour each; there are as many repetitions.",
							   &delays_setting,
							   "1s, 3s, 5s",
							   PGC_SIGHUP,
							   0,
							   check_delays, NULL, NULL);
}
