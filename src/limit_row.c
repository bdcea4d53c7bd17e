/*
 * limit_row.c
 *	  The rows of tokenbill.account_limit: read them, write them back.
 *
 * All limits of an account are read with one statement and written with one, in
 * the transaction that has the account locked: nobody else reads or writes them
 * meanwhile, so there is no lock on the rows themselves.
 */
#include "limit.h"

#include "access/htup_details.h"
#include "catalog/pg_type_d.h"
#include "check.h"
#include "query.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* The columns of tokenbill.account_limit, in the table's order. */
enum
{
	LIMIT_ACCOUNT,
	LIMIT_NAME,
	LIMIT_WHAT,
	LIMIT_AMOUNT,
	LIMIT_EVERY,
	LIMIT_PERIOD,
	LIMIT_TIMEZONE,
	LIMIT_SERVICE,
	LIMIT_TAG,
	LIMIT_ACTION,
	LIMIT_CREATED_AT,
	LIMIT_STARTS_AT,
	LIMIT_ENDS_AT,
	LIMIT_TAIL_SEQ,
	LIMIT_NEXT_AT,
	LIMIT_COUNTED,
	LIMIT_HELD,
	LIMIT_ALERTED_AT,
	LIMIT_COLUMNS
};

static LimitWhat
what_of(const text *name)
{
	if (tb_text_is(name, "spend"))
		return LIMIT_SPEND;
	if (tb_text_is(name, "requests"))
		return LIMIT_REQUESTS;
	if (tb_text_is(name, "tokens"))
		return LIMIT_TOKENS;
	if (tb_text_is(name, "in_flight"))
		return LIMIT_IN_FLIGHT;
	elog(ERROR, "unknown kind of limit");
	return LIMIT_SPEND;
}

static void
fill_limit(AccountLimit *limit, HeapTupleHeader header)
{
	Datum		values[LIMIT_COLUMNS];
	bool		nulls[LIMIT_COLUMNS];

	tb_take_row_apart(header, LIMIT_COLUMNS, values, nulls);
	limit->account = DatumGetTextPP(values[LIMIT_ACCOUNT]);
	limit->name = DatumGetTextPP(values[LIMIT_NAME]);
	limit->what_name = DatumGetTextPP(values[LIMIT_WHAT]);
	limit->what = what_of(limit->what_name);
	limit->amount = DatumGetNumeric(values[LIMIT_AMOUNT]);
	limit->every = nulls[LIMIT_EVERY] ? NULL : DatumGetTextPP(values[LIMIT_EVERY]);
	if (!nulls[LIMIT_PERIOD])
	{
		Interval   *period = DatumGetIntervalP(values[LIMIT_PERIOD]);

		limit->period = period->day * USECS_PER_DAY + period->time;
	}
	limit->timezone = DatumGetTextPP(values[LIMIT_TIMEZONE]);
	limit->service = nulls[LIMIT_SERVICE] ? NULL : DatumGetTextPP(values[LIMIT_SERVICE]);
	limit->tag = nulls[LIMIT_TAG] ? NULL : DatumGetJsonbP(values[LIMIT_TAG]);
	limit->refuses = tb_text_is(DatumGetTextPP(values[LIMIT_ACTION]), "refuse");
	limit->has_window = !nulls[LIMIT_STARTS_AT] && !nulls[LIMIT_ENDS_AT];
	if (limit->has_window)
	{
		limit->starts_at = DatumGetTimestampTz(values[LIMIT_STARTS_AT]);
		limit->ends_at = DatumGetTimestampTz(values[LIMIT_ENDS_AT]);
	}
	limit->tail_seq = nulls[LIMIT_TAIL_SEQ] ? 0 : DatumGetInt64(values[LIMIT_TAIL_SEQ]);
	limit->has_next = !nulls[LIMIT_NEXT_AT];
	if (limit->has_next)
		limit->next_at = DatumGetTimestampTz(values[LIMIT_NEXT_AT]);
	limit->counted = DatumGetNumeric(values[LIMIT_COUNTED]);
	limit->held = DatumGetNumeric(values[LIMIT_HELD]);
	limit->alerted = !nulls[LIMIT_ALERTED_AT];
	if (limit->alerted)
		limit->alerted_at = DatumGetTimestampTz(values[LIMIT_ALERTED_AT]);
}

static int
compare_names(const void *a, const void *b)
{
	const text *x = ((const AccountLimit *) a)->name;
	const text *y = ((const AccountLimit *) b)->name;
	int			x_len = VARSIZE_ANY_EXHDR(x);
	int			y_len = VARSIZE_ANY_EXHDR(y);
	int			result = memcmp(VARDATA_ANY(x), VARDATA_ANY(y), Min(x_len, y_len));

	return result != 0 ? result : x_len - y_len;
}

/*
 * By name, bytewise.  Done here and not by ORDER BY: for one limit, or two, a
 * sort that the executor has to set up costs more than all the rest.
 */
static void
put_in_order(LimitSet *set)
{
	if (set->nlimits > 1)
		qsort(set->limits, set->nlimits, sizeof(AccountLimit), compare_names);
}

/*
 * tb_read_limits
 *		The limits of an account, in the order of their names.  Needs SPI.
 */
LimitSet *
tb_read_limits(const text *account)
{
	static Statement query = {
		.sql = "SELECT l.ctid, l FROM tokenbill.account_limit l WHERE l.account OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID}
	};
	LimitSet   *set = palloc(sizeof(LimitSet));
	Datum		values[2];
	bool		nulls[2];

	values[0] = PointerGetDatum(account);
	set->nlimits = (int) tb_run(&query, values, NULL);
	set->limits = palloc0(sizeof(AccountLimit) * Max(set->nlimits, 1));
	for (int i = 0; i < set->nlimits; i++)
	{
		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values,
						  nulls);
		set->limits[i].ctid = *(ItemPointer) DatumGetPointer(values[0]);
		fill_limit(&set->limits[i], DatumGetHeapTupleHeaderCopy(values[1]));
	}
	put_in_order(set);
	return set;
}

static Datum
time_or_null(bool given, TimestampTz value, char *null)
{
	*null = given ? ' ' : 'n';
	return TimestampTzGetDatum(value);
}

/* The common case, without joins and arrays; the row is where it was read. */
static uint64
write_one(const AccountLimit *limit)
{
	static Statement query = {
		.sql = "UPDATE tokenbill.account_limit SET starts_at = $3, ends_at = $4, tail_seq = $5, next_at = $6,"
		" counted = $7, held = $8, alerted_at = $9"
		" WHERE ctid OPERATOR(pg_catalog.=) $2 AND account OPERATOR(pg_catalog.=) $1",
		.nargs = 9,
		.types = {TEXTOID, TIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID,
		NUMERICOID, NUMERICOID, TIMESTAMPTZOID}
	};
	ItemPointerData ctid = limit->ctid;
	Datum		values[9];
	char		nulls[10] = "         ";

	values[0] = PointerGetDatum(limit->account);
	values[1] = PointerGetDatum(&ctid);
	values[2] = time_or_null(limit->has_window, limit->starts_at, &nulls[2]);
	values[3] = time_or_null(limit->has_window, limit->ends_at, &nulls[3]);
	values[4] = Int64GetDatum(limit->tail_seq);
	nulls[4] = limit->period > 0 ? ' ' : 'n';
	values[5] = time_or_null(limit->has_next, limit->next_at, &nulls[5]);
	values[6] = NumericGetDatum(limit->counted);
	values[7] = NumericGetDatum(limit->held);
	values[8] = time_or_null(limit->alerted, limit->alerted_at, &nulls[8]);
	return tb_run(&query, values, nulls);
}

static Datum
array_of(Datum *values, bool *nulls, int n, Oid type)
{
	int			lower = 1;
	int16		length = type == TEXTOID || type == NUMERICOID ? -1 : 8;

	return PointerGetDatum(construct_md_array(values, nulls, 1, &n, &lower,
											  type, length, length == 8,
											  length == 8 ? TYPALIGN_DOUBLE : TYPALIGN_INT));
}

static uint64
write_several(AccountLimit **limits, int n)
{
	static Statement query = {
		.sql = "UPDATE tokenbill.account_limit l SET starts_at = u.starts_at, ends_at = u.ends_at,"
		" tail_seq = u.tail_seq, next_at = u.next_at, counted = u.counted, held = u.held, alerted_at = u.alerted_at"
		" FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5),"
		" pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9))"
		" AS u(name, starts_at, ends_at, tail_seq, next_at, counted, held, alerted_at)"
		" WHERE l.account OPERATOR(pg_catalog.=) $1 AND l.name OPERATOR(pg_catalog.=) u.name",
		.nargs = 9,
		.types = {TEXTOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
		TIMESTAMPTZARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, TIMESTAMPTZARRAYOID}
	};
	static const Oid types[8] = {
		TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID,
		NUMERICOID, NUMERICOID, TIMESTAMPTZOID
	};
	Datum		values[9];
	Datum	   *columns[8];
	bool	   *nulls[8];

	for (int c = 0; c < 8; c++)
	{
		columns[c] = palloc(sizeof(Datum) * n);
		nulls[c] = palloc0(sizeof(bool) * n);
	}
	for (int i = 0; i < n; i++)
	{
		const AccountLimit *limit = limits[i];

		columns[0][i] = PointerGetDatum(limit->name);
		columns[1][i] = TimestampTzGetDatum(limit->starts_at);
		columns[2][i] = TimestampTzGetDatum(limit->ends_at);
		nulls[1][i] = nulls[2][i] = !limit->has_window;
		columns[3][i] = Int64GetDatum(limit->tail_seq);
		nulls[3][i] = limit->period == 0;
		columns[4][i] = TimestampTzGetDatum(limit->next_at);
		nulls[4][i] = !limit->has_next;
		columns[5][i] = NumericGetDatum(limit->counted);
		columns[6][i] = NumericGetDatum(limit->held);
		columns[7][i] = TimestampTzGetDatum(limit->alerted_at);
		nulls[7][i] = !limit->alerted;
	}
	values[0] = PointerGetDatum(limits[0]->account);
	for (int c = 0; c < 8; c++)
		values[c + 1] = array_of(columns[c], nulls[c], n, types[c]);
	return tb_run(&query, values, NULL);
}

/*
 * tb_write_limits
 *		Write the counters of some limits of one account back.  Needs SPI.
 */
void
tb_write_limits(AccountLimit **limits, int nlimits)
{
	uint64		written = nlimits == 1 ? write_one(limits[0]) :
		write_several(limits, nlimits);

	if (written != (uint64) nlimits)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a limit of account \"%s\" changed while the account was locked",
						text_to_cstring(limits[0]->account)),
				 errhint("Try the transaction again.")));
}
