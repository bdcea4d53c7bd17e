/*
 * limit_window.c
 *	  Which ledger lines a limit counts at a time.
 *
 * A calendar window is the minute, hour, day, week or month in a time zone that a
 * time lies in.  It begins where date_trunc() says, so a day may have 23 hours,
 * and when the time is past its end, the next begins at nothing.
 *
 * A rolling window is (at - period, at]: what is older by exactly the period has
 * left it.  Its counter is of the lines after tail_seq; as time goes on the tail
 * follows, line by line, and takes back what each counted.  So each line is
 * passed once, and no charge reads the whole window.  They are read within the
 * statement that rewrites the account, see may_change() in movement.c.
 */
#include "limit.h"

#include "access/htup_details.h"
#include "check.h"
#include "funcapi.h"
#include "money.h"
#include "query.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(tokenbill_limit_window);
PG_FUNCTION_INFO_V1(tokenbill_line_tokens);

/* How many lines are read at once: few at first, for mostly it is one. */
#define FEW_LINES 4
#define MANY_LINES 1024

/* A refusal looks no further ahead than so many lines for when it will end. */
#define LOOK_AHEAD 100000

static TimestampTz
truncate_time(const text *every, const text *timezone, TimestampTz at)
{
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_trunc_zone,
												   PointerGetDatum(every),
												   TimestampTzGetDatum(at),
												   PointerGetDatum(timezone)));
}

/*
 * More than any window of a unit lasts, and less than any two: the clocks of a
 * place are put by an hour now and then, and have been by a day.
 */
static int64
one_and_a_half(const text *every)
{
	if (tb_text_is(every, "minute"))
		return 90 * USECS_PER_SEC;
	if (tb_text_is(every, "hour"))
		return 90 * USECS_PER_MINUTE;
	if (tb_text_is(every, "day"))
		return 36 * USECS_PER_HOUR;
	if (tb_text_is(every, "week"))
		return 10 * USECS_PER_DAY;
	return 45 * USECS_PER_DAY;
}

/*
 * The window that a time lies in.  Where midnight comes twice, date_trunc() means
 * the second; what comes between the two belongs to the day before.
 */
static void
calendar_window(const text *every, const text *timezone, TimestampTz at,
				TimestampTz *starts_at, TimestampTz *ends_at)
{
	int64		step = one_and_a_half(every);
	TimestampTz start = truncate_time(every, timezone, at);
	TimestampTz end;

	if (start > at)
	{
		end = start;
		start = truncate_time(every, timezone, at - step / 3);
	}
	else
		end = truncate_time(every, timezone, start + step);
	*starts_at = start;
	*ends_at = end;
}

/* A line that a rolling window may count, and what. */
typedef struct CountedLine
{
	int64		seq;
	TimestampTz created_at;
	Numeric		counted;
} CountedLine;

/*
 * Read the lines (after, after + max].  Their numbers have no gaps, so that is a
 * short range of the ledger's index.
 */
static int
read_lines(const AccountLimit *limit, int64 after, int max, CountedLine *lines)
{
	static Statement query = {
		.sql = "SELECT x.seq, x.created_at, x.counted FROM tokenbill.limit_lines($1, $2, $3, $4) x"
		" WHERE x.seq OPERATOR(pg_catalog.>) $5 AND x.seq OPERATOR(pg_catalog.<=) $6"
		" AND x.created_at OPERATOR(pg_catalog.>=) $7 ORDER BY x.seq",
		.nargs = 7,
		.types = {TEXTOID, TEXTOID, TEXTOID, JSONBOID, INT8OID, INT8OID, TIMESTAMPTZOID}
	};
	Datum		values[7];
	char		nulls[8] = "       ";
	int			found;

	tb_nest();
	values[0] = PointerGetDatum(limit->account);
	values[1] = PointerGetDatum(limit->what_name);
	values[2] = PointerGetDatum(limit->service);
	nulls[2] = limit->service == NULL ? 'n' : ' ';
	values[3] = PointerGetDatum(limit->tag);
	nulls[3] = limit->tag == NULL ? 'n' : ' ';
	values[4] = Int64GetDatum(after);
	values[5] = Int64GetDatum(after + max);
	values[6] = TimestampTzGetDatum(limit->next_at);
	found = (int) tb_run(&query, values, nulls);
	for (int i = 0; i < found; i++)
	{
		Datum		columns[3];
		bool		isnull[3];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, columns,
						  isnull);
		lines[i].seq = DatumGetInt64(columns[0]);
		lines[i].created_at = DatumGetTimestampTz(columns[1]);
		lines[i].counted = DatumGetNumericCopy(columns[2]);
	}
	tb_unnest();
	return found;
}

/*
 * Count a rolling window anew: some lines have gone with the month they were in,
 * and nobody can take back what they counted.
 */
static void
count_anew(AccountLimit *limit, TimestampTz cutoff)
{
	static Statement query = {
		.sql = "SELECT pg_catalog.min(x.seq), pg_catalog.min(x.created_at), COALESCE(pg_catalog.sum(x.counted), 0)"
		" FROM tokenbill.limit_lines($1, $2, $3, $4) x"
		" WHERE x.seq OPERATOR(pg_catalog.>) $5 AND x.created_at OPERATOR(pg_catalog.>) $6",
		.nargs = 6,
		.types = {TEXTOID, TEXTOID, TEXTOID, JSONBOID, INT8OID, TIMESTAMPTZOID}
	};
	Datum		values[6];
	bool		isnull[3];
	char		nulls[7] = "      ";

	tb_nest();
	values[0] = PointerGetDatum(limit->account);
	values[1] = PointerGetDatum(limit->what_name);
	values[2] = PointerGetDatum(limit->service);
	nulls[2] = limit->service == NULL ? 'n' : ' ';
	values[3] = PointerGetDatum(limit->tag);
	nulls[3] = limit->tag == NULL ? 'n' : ' ';
	values[4] = Int64GetDatum(limit->tail_seq);
	values[5] = TimestampTzGetDatum(cutoff);
	tb_run(&query, values, nulls);
	(void) tb_row(values, isnull);
	limit->has_next = !isnull[0];
	if (limit->has_next)
	{
		limit->tail_seq = DatumGetInt64(values[0]) - 1;
		limit->next_at = DatumGetTimestampTz(values[1]);
	}
	limit->counted = DatumGetNumericCopy(values[2]);
	tb_unnest();
}

/* Let the tail follow to a time: what is not younger leaves the window. */
static void
move_tail(AccountLimit *limit, TimestampTz cutoff)
{
	int			max = FEW_LINES;
	CountedLine *lines = palloc(sizeof(CountedLine) * MANY_LINES);

	while (limit->has_next && limit->next_at <= cutoff)
	{
		int			found = read_lines(limit, limit->tail_seq, max, lines);
		int			i;

		for (i = 0; i < found; i++)
		{
			if (lines[i].seq != limit->tail_seq + 1)
				break;
			limit->next_at = lines[i].created_at;
			if (limit->next_at > cutoff)
				break;
			limit->tail_seq = lines[i].seq;
			limit->counted = tb_sub(limit->counted, lines[i].counted);
		}
		if (found == 0 || (i < found && lines[i].seq != limit->tail_seq + 1))
		{
			count_anew(limit, cutoff);
			break;
		}
		/* the newest line has left, too */
		if (i == found && found < max)
			limit->has_next = false;
		max = Min(max * 4, MANY_LINES);
	}
	pfree(lines);
}

/*
 * tb_move_window
 *		Bring a limit's counter to a time, which is not before that of the newest
 *		line.  Needs SPI.
 */
void
tb_move_window(AccountLimit *limit, TimestampTz at)
{
	if (limit->every == NULL)
		return;
	if (limit->period > 0)
	{
		move_tail(limit, at - limit->period);
		return;
	}
	if (limit->has_window && at < limit->ends_at && at >= limit->starts_at)
		return;
	calendar_window(limit->every, limit->timezone, at, &limit->starts_at,
					&limit->ends_at);
	limit->has_window = true;
	limit->counted = tb_zero();
}

/*
 * tb_in_window
 *		Whether a limit's counter has a line in it.
 */
bool
tb_in_window(const AccountLimit *limit, int64 seq, TimestampTz created_at)
{
	if (limit->every == NULL)
		return false;
	if (limit->period > 0)
		return limit->has_next && seq > limit->tail_seq &&
			created_at >= limit->next_at;
	return limit->has_window && created_at >= limit->starts_at &&
		created_at < limit->ends_at;
}

/*
 * tb_window_frees
 *		When there will be room for so much more than there is, if nothing else
 *		is charged; false if that is not known.  Needs SPI.
 */
bool
tb_window_frees(const AccountLimit *limit, Numeric wanted, TimestampTz *resets_at)
{
	CountedLine *lines;
	int64		after = limit->tail_seq;
	int			max = FEW_LINES;
	bool		known = false;

	if (limit->every == NULL || tb_compare(wanted, limit->counted) > 0)
		return false;
	if (limit->period == 0)
	{
		*resets_at = limit->ends_at;
		return true;
	}

	lines = palloc(sizeof(CountedLine) * MANY_LINES);
	while (limit->has_next && !known && after - limit->tail_seq < LOOK_AHEAD)
	{
		int			found = read_lines(limit, after, max, lines);

		for (int i = 0; i < found && !known; i++)
		{
			after = lines[i].seq;
			wanted = tb_sub(wanted, lines[i].counted);
			known = tb_compare(wanted, tb_zero()) <= 0;
			*resets_at = lines[i].created_at + limit->period;
		}
		if (found < max)
			break;
		max = Min(max * 4, MANY_LINES);
	}
	pfree(lines);
	return known;
}

/*
 * limit_window(every text, timezone text, at timestamptz)
 *	-> (starts_at timestamptz, ends_at timestamptz)
 */
Datum
tokenbill_limit_window(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	TimestampTz starts_at;
	TimestampTz ends_at;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		tb_raise(tb_null_argument("at"));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "limit_window() must return a row");
	calendar_window(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1),
					PG_GETARG_TIMESTAMPTZ(2), &starts_at, &ends_at);
	values[0] = TimestampTzGetDatum(starts_at);
	values[1] = TimestampTzGetDatum(ends_at);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * tb_line_tokens
 *		How many tokens a line was priced for: its meters whose names end in
 *		"tokens".  What was priced is in the rates, and how much of it is there,
 *		too, or in the usage.
 */
Numeric
tb_line_tokens(Jsonb *usage, Jsonb *rates)
{
	Numeric		tokens = tb_zero();
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	value;

	if (rates == NULL || !JB_ROOT_IS_OBJECT(rates))
		return tokens;
	it = JsonbIteratorInit(&rates->root);
	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		JsonbValue *quantity = NULL;

		(void) JsonbIteratorNext(&it, &value, true);
		if (key.val.string.len < 6 ||
			memcmp(key.val.string.val + key.val.string.len - 6, "tokens", 6) != 0)
			continue;
		if (value.type == jbvBinary &&
			JsonContainerIsObject(value.val.binary.data))
			quantity = getKeyJsonValueFromContainer(value.val.binary.data, "quantity",
													strlen("quantity"), NULL);
		else if (usage != NULL && JB_ROOT_IS_OBJECT(usage))
			quantity = getKeyJsonValueFromContainer(&usage->root, key.val.string.val,
													key.val.string.len, NULL);
		if (quantity != NULL && quantity->type == jbvNumeric)
			tokens = tb_add(tokens, quantity->val.numeric);
	}
	return tokens;
}

/*
 * line_tokens(usage jsonb, rates jsonb) -> numeric
 */
Datum
tokenbill_line_tokens(PG_FUNCTION_ARGS)
{
	PG_RETURN_NUMERIC(tb_line_tokens(PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0),
									 PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1)));
}
