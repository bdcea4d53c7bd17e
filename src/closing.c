/*
 * closing.c
 *	  Do the closings and totals of sealed months say where the lines lead?
 *
 * A sealed month may be dropped, and then its closings are all that is known of
 * it: so while its lines are still there, the closings are held against them.
 */
#include "verify.h"

#include "catalog/pg_type_d.h"
#include "refusal.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/memutils.h"

#define CLOSINGS \
	"SELECT c.account, c.seq, c.balance, c.held, c.hash, c.closed_at, c.month" \
	" FROM tokenbill.month_closing c"

/* Its columns. */
enum
{
	CLOSING_ACCOUNT,
	CLOSING_SEQ,				/* from here on as tb_stands_at() has it */
	CLOSING_BALANCE,
	CLOSING_HELD,
	CLOSING_HASH,
	CLOSING_CLOSED_AT,
	CLOSING_MONTH,
	CLOSING_COLUMNS
};

/*
 * The lines of a month have been read: compare the account's closing, null if
 * there is none.
 */
static void
compare(Verification *v, Trail *trail, const Datum *closing, const bool *nulls)
{
	bool		moved = trail->lines_month == v->month;
	char	   *month;

	if (closing == NULL ? !moved :
		moved && tb_stands_at(trail, closing + CLOSING_SEQ, nulls + CLOSING_SEQ) &&
		!nulls[CLOSING_CLOSED_AT] &&
		DatumGetTimestampTz(closing[CLOSING_CLOSED_AT]) == trail->created_at)
		return;
	month = JsonEncodeDateTime(palloc(MAXDATELEN + 1),
							   v->months[v->month - 1].day, DATEOID, NULL);
	tb_report_on(&v->findings, trail, trail->seq, "closing",
				 tb_json("month:s expected:j found:j", month,
						 moved ? tb_trail_standing(trail) : NULL,
						 closing ? tb_standing(closing + CLOSING_SEQ, nulls + CLOSING_SEQ) : NULL));
}

static void
take_closing(void *state, TupleTableSlot *slot)
{
	Verification *v = state;
	bool		other_pass;
	Trail	   *trail;

	if (slot->tts_isnull[CLOSING_ACCOUNT])
		return;
	trail = tb_find_trail(v, DatumGetTextPP(slot->tts_values[CLOSING_ACCOUNT]), false,
						  &other_pass);
	if (trail == NULL || trail->deferred)
		return;
	trail->closing_month = v->month;
	compare(v, trail, slot->tts_values, slot->tts_isnull);
}

/*
 * tb_check_closings
 *		All lines of a month have been read: compare the closings of all accounts,
 *		but for those whose lines are still to be read in order.
 */
void
tb_check_closings(Verification *v)
{
	tb_trails_iterator iterator;
	TrailSlot  *slot;

	if (!v->months[v->month - 1].sealed)
		return;
	tb_set_parameter(&v->stream, STREAM_MONTH, v->months[v->month - 1].day);
	tb_stream(&v->stream, CLOSINGS " WHERE c.month OPERATOR(pg_catalog.=) $5",
			  take_closing, v);

	tb_trails_start_iterate(v->trails, &iterator);
	while ((slot = tb_trails_iterate(v->trails, &iterator)) != NULL)
	{
		if (!slot->trail->deferred && slot->trail->closing_month != v->month)
			compare(v, slot->trail, NULL, NULL);
	}
}

static void
take_own_closing(void *state, TupleTableSlot *slot)
{
	Verification *v = state;
	MemoryContext old;

	if (slot->tts_isnull[CLOSING_MONTH])
		return;
	old = MemoryContextSwitchTo(v->account_context);
	for (int i = 0; i < v->n_months; i++)
	{
		if (v->months[i].day == slot->tts_values[CLOSING_MONTH])
			v->closings[i] = ExecCopySlotHeapTuple(slot);
	}
	if (v->closings_desc == NULL)
		v->closings_desc = CreateTupleDescCopy(slot->tts_tupleDescriptor);
	MemoryContextSwitchTo(old);
}

/*
 * tb_load_closings
 *		Read the closings of the account that the stream is set to, for
 *		tb_pass_months().
 */
void
tb_load_closings(Verification *v)
{
	MemoryContextReset(v->account_context);
	v->closings_desc = NULL;
	v->closings = MemoryContextAllocZero(v->account_context,
										 sizeof(HeapTuple) * (v->n_months + 1));
	tb_stream_again(&v->stream,
					CLOSINGS " WHERE c.account OPERATOR(pg_catalog.=) $1",
					&v->closings_plan, take_own_closing, v);
}

/*
 * tb_pass_months
 *		The account's next line is of this time: compare its closings of all
 *		sealed months that are over by then.
 */
void
tb_pass_months(Verification *v, Trail *trail, TimestampTz at)
{
	for (; v->month <= v->n_months; v->month++)
	{
		Datum		values[CLOSING_COLUMNS];
		bool		nulls[CLOSING_COLUMNS];
		HeapTuple	closing = v->closings[v->month - 1];

		if (at < (v->month == v->n_months ? DT_NOEND :
				  v->months[v->month].begin))
			break;
		if (!v->months[v->month - 1].sealed)
			continue;
		if (closing != NULL)
			heap_deform_tuple(closing, v->closings_desc, values, nulls);
		compare(v, trail, closing ? values : NULL, nulls);
	}
}

/*
 * tb_check_totals
 *		Are the totals of sealed months what their lines add up to?  They are what
 *		the trial balance is made of when the lines have gone.
 *
 * For the whole ledger only: totals are of all accounts.  A month that has closings
 * and no totals was sealed once.
 */
void
tb_check_totals(Verification *v)
{
	for (int i = 0; i < v->n_months; i++)
	{
		const Month *month = &v->months[i];

		if (!month->sealed)
			continue;
		tb_set_parameter(&v->stream, STREAM_MONTH, month->day);
		tb_set_parameter(&v->stream, STREAM_BEGIN, TimestampTzGetDatum(month->begin));
		tb_set_parameter(&v->stream, STREAM_END,
						 TimestampTzGetDatum(i + 1 < v->n_months ? month[1].begin : DT_NOEND));
		tb_stream(&v->stream,
				  "SELECT NULL::pg_catalog.text, NULL::pg_catalog.int8, 'closing'::pg_catalog.text,"
				  " pg_catalog.jsonb_build_object('month', $5, 'currency', COALESCE(t.currency, x.currency),"
				  "  'contra', COALESCE(t.contra, x.contra),"
				  "  'expected', pg_catalog.jsonb_build_object('amount', COALESCE(x.amount, 0), 'lines', COALESCE(x.lines, 0)),"
				  "  'found', pg_catalog.jsonb_build_object('amount', t.amount, 'lines', t.lines))"
				  " FROM (SELECT * FROM tokenbill.month_total t WHERE t.month OPERATOR(pg_catalog.=) $5"
				  "  AND t.currency OPERATOR(pg_catalog.<>) '-') t"
				  " FULL JOIN (SELECT a.currency, l.contra, " SUM_OF("l.amount") " AS amount, pg_catalog.count(*) AS lines"
				  "  FROM tokenbill.ledger l JOIN tokenbill.account a ON a.account OPERATOR(pg_catalog.=) l.account"
				  "  WHERE l.created_at OPERATOR(pg_catalog.>=) $2 AND l.created_at OPERATOR(pg_catalog.<) $3"
				  "  GROUP BY a.currency, l.contra) x"
				  " ON x.currency OPERATOR(pg_catalog.=) t.currency AND x.contra OPERATOR(pg_catalog.=) t.contra"
				  " WHERE (t.amount OPERATOR(pg_catalog.=) x.amount AND t.lines OPERATOR(pg_catalog.=) x.lines) IS NOT TRUE",
				  tb_take_problem, &v->findings);
	}
	tb_stream(&v->stream,
			  "SELECT NULL::pg_catalog.text, NULL::pg_catalog.int8, 'closing'::pg_catalog.text,"
			  " pg_catalog.jsonb_build_object('month', c.month, 'expected', 'totals', 'found', NULL::pg_catalog.text)"
			  " FROM (SELECT DISTINCT c.month FROM tokenbill.month_closing c) c"
			  " WHERE NOT EXISTS (SELECT FROM tokenbill.month_total t WHERE t.month OPERATOR(pg_catalog.=) c.month)",
			  tb_take_problem, &v->findings);
}
