/*
 * limit_row.c
 *	  An account's limits, as its row has them: take them apart, put them together.
 *
 * They are in the row because a movement reads and rewrites that anyway, and needs
 * no statement for them therefore.  Set and dropped they are in SQL, by who has
 * the account locked.
 */
#include "limit.h"

#include "access/htup_details.h"
#include "check.h"
#include "funcapi.h"
#include "query.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

/* The members of tokenbill.account_limit, in the type's order. */
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
	LIMIT_ALERTED_AT
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

/* No constraint of a type's member keeps a superuser from setting it null. */
static void
check_complete(const AccountLimit *limit)
{
	static const int needed[] = {
		LIMIT_ACCOUNT, LIMIT_NAME, LIMIT_WHAT, LIMIT_AMOUNT, LIMIT_TIMEZONE,
		LIMIT_ACTION, LIMIT_COUNTED, LIMIT_HELD
	};

	for (size_t i = 0; i < lengthof(needed); i++)
	{
		if (unlikely(limit->nulls[needed[i]]))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("a limit of an account lacks a member"),
					 errhint("Set the account's limits again.")));
	}
}

static void
fill_limit(AccountLimit *limit, Datum row)
{
	Datum	   *values = limit->values;
	bool	   *nulls = limit->nulls;

	limit->row = row;
	tb_take_row_apart(DatumGetHeapTupleHeader(row), TB_LIMIT_COLUMNS, values, nulls);
	check_complete(limit);
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

/*
 * tb_read_limits
 *		The limits of an account, in the order of their names, which is how they are
 *		kept.  What is read stays where it is, in account->limits.
 */
LimitSet *
tb_read_limits(const Account *account)
{
	LimitSet   *set = palloc0(sizeof(LimitSet));
	Datum	   *elements;
	bool	   *nulls;

	if (account->limits == NULL)
		return set;
	deconstruct_array(account->limits, ARR_ELEMTYPE(account->limits), -1, false,
					  TYPALIGN_DOUBLE, &elements, &nulls, &set->nlimits);
	set->limits = palloc0(sizeof(AccountLimit) * Max(set->nlimits, 1));
	for (int i = 0; i < set->nlimits; i++)
	{
		if (unlikely(nulls[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("a limit of account \"%s\" is null",
							text_to_cstring(account->account)),
					 errhint("Set the account's limits again.")));
		fill_limit(&set->limits[i], elements[i]);
	}
	return set;
}

static void
put_time(AccountLimit *limit, int column, bool given, TimestampTz value)
{
	limit->values[column] = TimestampTzGetDatum(value);
	limit->nulls[column] = !given;
}

static Datum
form_limit(AccountLimit *limit, TupleDesc desc)
{
	put_time(limit, LIMIT_STARTS_AT, limit->has_window, limit->starts_at);
	put_time(limit, LIMIT_ENDS_AT, limit->has_window, limit->ends_at);
	limit->values[LIMIT_TAIL_SEQ] = Int64GetDatum(limit->tail_seq);
	limit->nulls[LIMIT_TAIL_SEQ] = limit->period == 0;
	put_time(limit, LIMIT_NEXT_AT, limit->has_next, limit->next_at);
	limit->values[LIMIT_COUNTED] = NumericGetDatum(limit->counted);
	limit->values[LIMIT_HELD] = NumericGetDatum(limit->held);
	put_time(limit, LIMIT_ALERTED_AT, limit->alerted, limit->alerted_at);
	return HeapTupleGetDatum(heap_form_tuple(desc, limit->values, limit->nulls));
}

/*
 * tb_write_limits
 *		Have the account's row keep the counters that have changed; that row is the
 *		caller's to store.
 */
void
tb_write_limits(LimitSet *set, Account *account)
{
	Oid			type = ARR_ELEMTYPE(account->limits);
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	Datum	   *elements = palloc(sizeof(Datum) * set->nlimits);

	for (int i = 0; i < set->nlimits; i++)
	{
		AccountLimit *limit = &set->limits[i];

		if (limit->more_counted == NULL && limit->more_held == NULL)
			elements[i] = limit->row;
		else
			elements[i] = form_limit(limit, desc);
	}
	account->limits = construct_array(elements, set->nlimits, type, -1, false,
									  TYPALIGN_DOUBLE);
	ReleaseTupleDesc(desc);
}
