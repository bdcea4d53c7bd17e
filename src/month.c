/*
 * month.c
 *	  Which month of the ledger a line goes to, and the statement that puts it
 *	  there.
 *
 * Lines are inserted into the month's own table: its unique index on (account,
 * idempotency_key) is what ON CONFLICT asks, and the parent has none.  Keys of
 * earlier months are still remembered while the month reaches into
 * tokenbill.idempotency_window, so the statement looks into those months, too.
 * It does so after the account has been locked, in a snapshot of its own (READ
 * COMMITTED), or in one that the lock has proved to be current (REPEATABLE READ
 * and SERIALIZABLE fail at the lock otherwise): so no line can be missed.
 *
 * One plan is kept, that of the present month.  It is made anew when the month
 * is another, when a month is made or dropped (which invalidates the ledger's
 * relation cache entry), or when the window is set.
 */
#include "month.h"

#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "ledger.h"
#include "query.h"
#include "setting.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* An interval, or that there is no end to it. */
typedef struct Window
{
	bool		infinite;
	Interval	length;
} Window;

static char *window_setting = NULL;
static Window window;

/* The plan that is kept, for lines of [month_begin, month_end). */
static SPIPlanPtr insert_plan = NULL;
static bool plan_valid = false;
static TimestampTz month_begin;
static TimestampTz month_end;
static Oid	ledger_table = InvalidOid;

static void
forget(Datum arg, Oid relid)
{
	if (relid == ledger_table || relid == InvalidOid)
		plan_valid = false;
}

static bool
parse_window(const char *value, Window *result)
{
	Datum		parsed;

	result->infinite = pg_strcasecmp(value, "infinity") == 0;
	if (result->infinite)
		return true;
	if (!tb_try_input(interval_in, value, &parsed))
		return false;
	result->length = *DatumGetIntervalP(parsed);
	return result->length.time >= 0 && result->length.day >= 0 &&
		result->length.month >= 0;
}

static bool
check_window(char **newval, void **extra, GucSource source)
{
	Window		parsed;

	memset(&parsed, 0, sizeof(parsed));
	if (!parse_window(*newval, &parsed))
	{
		GUC_check_errdetail("It must be an interval that is not negative, or \"infinity\".");
		return false;
	}
	*extra = tb_guc_malloc(sizeof(Window));
	if (*extra == NULL)
		return false;
	memcpy(*extra, &parsed, sizeof(Window));
	return true;
}

static void
assign_window(const char *newval, void *extra)
{
	window = *(Window *) extra;
	plan_valid = false;
}

/*
 * tb_month_init
 *		Define the setting, and have the plan forgotten on invalidations; called
 *		once, from _PG_init.
 */
void
tb_month_init(void)
{
	DefineCustomStringVariable("tokenbill.idempotency_window",
							   "How long an idempotency key is remembered at least.",
							   "An interval, such as '30 days', or infinity. "
							   "Months of the ledger that reach into it cannot be dropped.",
							   &window_setting,
							   "30 days",
							   PGC_SUSET,
							   0,
							   check_window, assign_window, NULL);
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
}

/* The beginning of the month, in UTC, that lies some months after that of "at". */
static TimestampTz
month_start(TimestampTz at, int months_after)
{
	struct pg_tm tm;
	fsec_t		fsec;
	Timestamp	result;

	/* without a time zone a timestamptz is taken apart in UTC */
	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	tm.tm_mon += months_after;
	while (tm.tm_mon > MONTHS_PER_YEAR)
	{
		tm.tm_mon -= MONTHS_PER_YEAR;
		tm.tm_year++;
	}
	tm.tm_mday = 1;
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	if (tm2timestamp(&tm, 0, NULL, &result) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return (TimestampTz) result;
}

static char *
month_name(TimestampTz begin)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(begin, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "month out of range");
	return psprintf("ledger_%04d_%02d", tm.tm_year, tm.tm_mon);
}

/* The first moment whose keys are still remembered at "at". */
static TimestampTz
window_start(TimestampTz at)
{
	if (window.infinite)
		return DT_NOBEGIN;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
												   TimestampTzGetDatum(at),
												   IntervalPGetDatum(&window.length)));
}

/*
 * Conditions that the key is in none of the earlier months that there are and
 * that reach into the window.  Sets *found if the month itself is there.
 *
 * The months are asked of the catalog, not of a query: an older snapshot would
 * show some that have been dropped.
 */
static char *
earlier_months(const char *name, const char *oldest, bool *found)
{
	StringInfoData conditions;
	ListCell   *cell;

	*found = false;
	initStringInfo(&conditions);
	foreach(cell, find_inheritance_children(ledger_table, NoLock))
	{
		char	   *month = get_rel_name(lfirst_oid(cell));

		if (month == NULL || strcmp(month, oldest) < 0)
			continue;
		if (strcmp(month, name) == 0)
			*found = true;
		else if (strcmp(month, name) < 0)
			appendStringInfo(&conditions,
							 "%s NOT EXISTS (SELECT FROM tokenbill.%s m"
							 " WHERE m.account OPERATOR(pg_catalog.=) $1"
							 " AND m.idempotency_key OPERATOR(pg_catalog.=) $15)",
							 conditions.len > 0 ? " AND" : " WHERE",
							 quote_identifier(month));
	}
	return conditions.data;
}

static void
make_month(TimestampTz at)
{
	static Statement query = {
		.sql = "SELECT tokenbill.make_ledger_month($1)",.nargs = 1,.types = {TIMESTAMPTZOID}
	};
	Datum		values[1];

	values[0] = TimestampTzGetDatum(at);
	tb_run(&query, values, NULL);
}

/* The ledger's table; another one, if the extension has been created anew. */
static Oid
find_ledger(void)
{
	return get_relname_relid("ledger", get_namespace_oid("tokenbill", false));
}

static void
make_plan(TimestampTz at)
{
	Oid			types[TB_LEDGER_COLUMNS] = {
		TEXTOID, INT8OID, TIMESTAMPTZOID, TEXTOID, NUMERICOID, NUMERICOID,
		NUMERICOID, NUMERICOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID,
		JSONBOID, JSONBOID, TEXTOID, TEXTOID, BYTEAOID, NUMERICOID
	};
	TimestampTz begin = month_start(at, 0);
	TimestampTz start = window_start(begin);
	char	   *name = month_name(begin);
	const char *oldest = start == DT_NOBEGIN ? "ledger_" : month_name(start);
	char	   *conditions;
	bool		found;
	SPIPlanPtr	plan;

	ledger_table = find_ledger();

	/* an invalidation that arrives while we are at it must not be lost */
	plan_valid = true;

	conditions = earlier_months(name, oldest, &found);
	if (!found)
	{
		/* and the next, so that its first charge need not make it */
		make_month(at);
		make_month(month_start(at, 1));
		plan_valid = true;
	}

	plan = tb_plan(psprintf("INSERT INTO tokenbill.%s (account, seq, created_at, kind, amount,"
							" balance, held, credit_limit, contra, service, usage, rates,"
							" metadata, request, idempotency_key, ref, hash, cost)"
							" SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
							" $13, $14, $15, $16, $17, $18%s"
							" ON CONFLICT (account, idempotency_key) DO NOTHING",
							quote_identifier(name), conditions),
				   TB_LEDGER_COLUMNS, types);
	if (insert_plan != NULL)
		SPI_freeplan(insert_plan);
	insert_plan = plan;
	month_begin = begin;
	month_end = month_start(at, 1);
}

/*
 * tb_open_month
 *		Have the month of this time ready, before any account is locked.
 *
 * Two races end here.  One who makes a month keeps its lock until the transaction
 * ends, and who needs the month waits: so nobody may wait for it with an account
 * locked that the other wants.  And a month may be dropped, by somebody who has
 * the ledger locked exclusively: with our own light lock on it, what we plan with
 * afterwards stays.  Needs SPI.
 */
void
tb_open_month(TimestampTz at)
{
	for (;;)
	{
		Oid			ledger = plan_valid ? ledger_table : find_ledger();

		/* may wait, and takes in what has happened meanwhile */
		LockRelationOid(ledger, AccessShareLock);
		if (likely(plan_valid) || ledger == find_ledger())
			break;
	}
	(void) tb_insert_plan(at);
}

/*
 * tb_insert_plan
 *		The plan that inserts a line of this time, unless its key is remembered:
 *		then it inserts nothing.
 *
 * Makes the month's table if there is none, waiting for whoever is making it.
 * Needs SPI.
 */
SPIPlanPtr
tb_insert_plan(TimestampTz at)
{
	if (unlikely(!plan_valid || insert_plan == NULL || at < month_begin ||
				 at >= month_end))
		make_plan(at);
	return insert_plan;
}
