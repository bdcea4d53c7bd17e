/*
 * reprice.c
 *	  reprice(): what calls should have cost by the prices of now.
 *
 * The ledger is not edited: where a charge or capture costs more or less by the
 * prices that are known now to have counted at its time, or had none then and has
 * one now, an adjustment makes up for it.  The account stays locked from the first
 * look to the end of the transaction, so that nothing is made up for twice.
 */
#include "reprice.h"

#include "account.h"
#include "burn.h"
#include "check.h"
#include "funcapi.h"
#include "idempotency.h"
#include "miscadmin.h"
#include "money.h"
#include "movement.h"
#include "query.h"
#include "rating.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(tokenbill_reprice);

/* How many lines are read at a time. */
#define LINES_AT_ONCE 500

#define REPRICE_COLUMNS 10

/* A line that was priced, or should have been, and what has been made up since. */
typedef struct PricedLine
{
	int64		seq;
	TimestampTz created_at;
	text	   *service;
	Jsonb	   *usage;
	text	   *key;
	bool		suspended;
	bool		refunded;
	Numeric		price;			/* with the adjustments so far */
	Numeric		cost;			/* likewise; null: unknown */
	int64		adjustments;
} PricedLine;

/* What reprice() was asked for. */
typedef struct Reprice
{
	text	   *account;
	text	   *service;		/* null: all */
	TimestampTz from;
	TimestampTz to;
	bool		dry_run;
	Oid			user;
	ReturnSetInfo *result;
} Reprice;

typedef struct Adjustment
{
	Movement	movement;		/* first, so that one can be taken for the
								 * other */
	Numeric		more;			/* what is charged more, or, negative, less */
	int64		charge_seq;
} Adjustment;

static Refusal *
judge_adjustment(Movement *movement, Account *account)
{
	Adjustment *adjustment = (Adjustment *) movement;
	ChainedLine *line = &movement->line;
	Refusal    *refusal = tb_may_be_credited(account);

	if (refusal != NULL)
		return refusal;
	line->amount = tb_negate(adjustment->more);
	line->contra = cstring_to_text("revenue");
	if (tb_compare(adjustment->more, tb_zero()) < 0)
		tb_return(line, account, adjustment->charge_seq, tb_zero(),
				  line->amount);
	else
		tb_burn(line, account, adjustment->more);
	if (account->sandbox)
		tb_sandbox_price(line, adjustment->more);
	return NULL;
}

/* Post what a line costs more or less; the number of the new line. */
static int64
adjust(const Reprice *reprice, const PricedLine *line, const Rating *rating,
	   Numeric more, Numeric more_cost)
{
	Adjustment	adjustment = {0};
	ChainedLine *made = &adjustment.movement.line;
	char	   *json;
	Receipt		receipt;

	json = tb_json("seq:i was:n now:n rates:j", line->seq, line->price,
				   rating->amount, tb_json_document(rating->rates));
	made->account = reprice->account;
	made->kind = cstring_to_text("adjustment");
	made->service = line->service;
	made->ref = line->key;
	made->cost = more_cost;
	made->request = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													   CStringGetDatum(json)));
	made->idempotency_key =
		cstring_to_text(psprintf(TB_DERIVED_PREFIX "reprice:" INT64_FORMAT ":" INT64_FORMAT,
								 line->seq, line->adjustments + 1));
	adjustment.more = more;
	adjustment.charge_seq = line->seq;
	adjustment.movement.ref_argument = "ref";
	adjustment.movement.wait = true;
	adjustment.movement.delivered = true;
	adjustment.movement.user = reprice->user;
	adjustment.movement.judge = judge_adjustment;
	tb_raise(tb_move(&adjustment.movement, &receipt));
	return receipt.line.seq;
}

static void
answer(const Reprice *reprice, const PricedLine *line, const char *action,
	   const Rating *rating, const int64 *adjustment_seq, const char *reason)
{
	Datum		values[REPRICE_COLUMNS] = {0};
	bool		nulls[REPRICE_COLUMNS] = {false};

	values[0] = Int64GetDatum(line->seq);
	values[1] = PointerGetDatum(line->key);
	values[2] = PointerGetDatum(line->service);
	values[3] = CStringGetTextDatum(action);
	values[4] = NumericGetDatum(line->price);
	values[6] = NumericGetDatum(line->cost);
	nulls[5] = nulls[7] = rating == NULL;
	nulls[6] = line->cost == NULL;
	if (rating != NULL)
	{
		values[5] = NumericGetDatum(rating->amount);
		values[7] = NumericGetDatum(rating->cost);
		nulls[7] = rating->cost == NULL;
	}
	nulls[8] = adjustment_seq == NULL;
	if (adjustment_seq != NULL)
		values[8] = Int64GetDatum(*adjustment_seq);
	nulls[9] = reason == NULL;
	if (reason != NULL)
		values[9] = CStringGetTextDatum(reason);
	tuplestore_putvalues(reprice->result->setResult, reprice->result->setDesc,
						 values, nulls);
}

static bool
same_number(Numeric a, Numeric b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return tb_compare(a, b) == 0;
}

static void
reprice_line(const Reprice *reprice, const PricedLine *line)
{
	Rating		rating;
	Refusal    *refusal = tb_rate(line->service, reprice->account, line->usage,
								  line->created_at, false, &rating);
	Numeric		more_cost = NULL;
	int64		seq;
	bool		same;

	if (refusal != NULL)
	{
		answer(reprice, line, "unpriced", NULL, NULL, refusal->message);
		return;
	}
	/* a cost that was known once is not forgotten */
	if (rating.cost == NULL)
		rating.cost = line->cost;
	same = same_number(rating.amount, line->price) &&
		same_number(rating.cost, line->cost);
	if (same && !(line->suspended && line->adjustments == 0))
		return;
	if (line->refunded)
	{
		answer(reprice, line, "refunded", &rating, NULL,
			   "what has been refunded is not repriced");
		return;
	}
	if (reprice->dry_run)
	{
		answer(reprice, line, "adjust", &rating, NULL, NULL);
		return;
	}
	if (rating.cost != NULL)
		more_cost = line->cost != NULL ? tb_sub(rating.cost, line->cost) : rating.cost;
	seq = adjust(reprice, line, &rating, tb_sub(rating.amount, line->price),
				 more_cost);
	answer(reprice, line, "adjust", &rating, &seq, NULL);
}

static Numeric
copy_number(Datum value, bool isnull)
{
	return isnull ? NULL : DatumGetNumericCopy(value);
}

/*
 * Read the next lines that have usage; returns how many.
 *
 * What a sandbox account was charged is in the line's request, as "price".
 */
static uint64
read_lines(const Reprice *reprice, int64 after, PricedLine *lines)
{
	static Statement query = {
		.sql = "SELECT l.seq, l.created_at, l.service, l.usage, l.idempotency_key,"
		" COALESCE(l.request OPERATOR(pg_catalog.?) 'unpriced', false),"
		" EXISTS (SELECT FROM tokenbill.charge_refund r WHERE r.account OPERATOR(pg_catalog.=) l.account"
		" AND r.charge_seq OPERATOR(pg_catalog.=) l.seq),"
		" COALESCE((l.request OPERATOR(pg_catalog.->>) 'price')::pg_catalog.numeric, pg_catalog.numeric_uminus(l.amount))"
		" OPERATOR(pg_catalog.+) COALESCE(a.price, 0),"
		" CASE WHEN a.cost IS NULL THEN l.cost ELSE a.cost OPERATOR(pg_catalog.+) COALESCE(l.cost, 0) END,"
		" COALESCE(a.n, 0)"
		" FROM tokenbill.ledger l CROSS JOIN LATERAL ("
		"  SELECT pg_catalog.count(*) AS n, pg_catalog.sum(m.cost) AS cost,"
		"  pg_catalog.sum(COALESCE((m.request OPERATOR(pg_catalog.->>) 'price')::pg_catalog.numeric, pg_catalog.numeric_uminus(m.amount))) AS price"
		"  FROM tokenbill.ledger m WHERE m.account OPERATOR(pg_catalog.=) $1"
		"  AND m.idempotency_key OPERATOR(pg_catalog.>=) pg_catalog.concat('tokenbill:reprice:', l.seq, ':')"
		"  AND m.idempotency_key OPERATOR(pg_catalog.<) pg_catalog.concat('tokenbill:reprice:', l.seq, ';')) a"
		" WHERE l.account OPERATOR(pg_catalog.=) $1 AND l.seq OPERATOR(pg_catalog.>) $2"
		" AND l.created_at OPERATOR(pg_catalog.>=) $3 AND l.created_at OPERATOR(pg_catalog.<) $4"
		" AND ($5 IS NULL OR l.service OPERATOR(pg_catalog.=) $5)"
		" AND l.kind OPERATOR(pg_catalog.=) ANY (ARRAY['charge', 'capture'])"
		" AND l.usage IS NOT NULL AND l.service IS NOT NULL"
		" ORDER BY l.seq LIMIT $6",
		.nargs = 6,
		.types = {TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, INT4OID}
	};
	Datum		values[10];
	bool		nulls[10];
	char		null_arguments[6] = {' ', ' ', ' ', ' ', ' ', ' '};
	uint64		n;

	values[0] = PointerGetDatum(reprice->account);
	values[1] = Int64GetDatum(after);
	values[2] = TimestampTzGetDatum(reprice->from);
	values[3] = TimestampTzGetDatum(reprice->to);
	values[4] = PointerGetDatum(reprice->service);
	null_arguments[4] = reprice->service == NULL ? 'n' : ' ';
	values[5] = Int32GetDatum(LINES_AT_ONCE);
	n = tb_run(&query, values, null_arguments);
	for (uint64 i = 0; i < n; i++)
	{
		PricedLine *line = &lines[i];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values,
						  nulls);
		line->seq = DatumGetInt64(values[0]);
		line->created_at = DatumGetTimestampTz(values[1]);
		line->service = DatumGetTextPCopy(values[2]);
		line->usage = DatumGetJsonbPCopy(values[3]);
		line->key = DatumGetTextPCopy(values[4]);
		line->suspended = DatumGetBool(values[5]);
		line->refunded = DatumGetBool(values[6]);
		line->price = copy_number(values[7], nulls[7]);
		line->cost = copy_number(values[8], nulls[8]);
		line->adjustments = DatumGetInt64(values[9]);
	}
	return n;
}

/*
 * tb_charged_since
 *		What adjustments have charged more of a line than it did itself, or,
 *		negative, less.  Needs SPI.
 */
Numeric
tb_charged_since(const text *account, int64 seq)
{
	static Statement query = {
		.sql = "SELECT pg_catalog.sum(COALESCE((m.request OPERATOR(pg_catalog.->>) 'price')::pg_catalog.numeric, pg_catalog.numeric_uminus(m.amount)))"
		" FROM tokenbill.ledger m WHERE m.account OPERATOR(pg_catalog.=) $1"
		" AND m.idempotency_key OPERATOR(pg_catalog.>=) pg_catalog.concat('tokenbill:reprice:', $2, ':')"
		" AND m.idempotency_key OPERATOR(pg_catalog.<) pg_catalog.concat('tokenbill:reprice:', $2, ';')",
		.nargs = 2,
		.types = {TEXTOID, INT8OID}
	};
	Datum		values[2];
	bool		nulls[2];

	values[0] = PointerGetDatum(account);
	values[1] = Int64GetDatum(seq);
	tb_run(&query, values, NULL);
	(void) tb_row(values, nulls);
	return nulls[0] ? tb_zero() : DatumGetNumericCopy(values[0]);
}

/*
 * reprice(account text, service text, "from" timestamptz, "to" timestamptz,
 *		   dry_run boolean = true)
 *	-> setof (seq, idempotency_key, service, action, was, now, cost_was, cost_now,
 *			  adjustment_seq, reason)
 *		One row for every charge or capture that costs something else now, or
 *		still has no price.
 */
Datum
tokenbill_reprice(PG_FUNCTION_ARGS)
{
	Reprice		reprice = {0};
	Session		session;
	Account		account;
	MemoryContext each;
	PricedLine *lines = palloc(sizeof(PricedLine) * LINES_AT_ONCE);
	int64		after = 0;
	uint64		n;

	InitMaterializedSRF(fcinfo, 0);
	reprice.result = (ReturnSetInfo *) fcinfo->resultinfo;
	reprice.account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	reprice.service = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	tb_raise(tb_check_text("account", reprice.account, TB_MAX_ACCOUNT));
	tb_raise(tb_check_optional_text("service", reprice.service, TB_MAX_NAME));
	if (PG_ARGISNULL(2))
		tb_raise(tb_null_argument("from"));
	if (PG_ARGISNULL(3))
		tb_raise(tb_null_argument("to"));
	if (PG_ARGISNULL(4))
		tb_raise(tb_null_argument("dry_run"));
	reprice.from = PG_GETARG_TIMESTAMPTZ(2);
	reprice.to = PG_GETARG_TIMESTAMPTZ(3);
	reprice.dry_run = PG_GETARG_BOOL(4);

	tb_enter(fcinfo, &session);
	reprice.user = session.userid;
	tb_raise(tb_check_account(reprice.account, session.userid));
	if (!reprice.dry_run && !tb_lock_account(reprice.account, &account))
		tb_raise(tb_no_account(reprice.account));

	each = AllocSetContextCreate(CurrentMemoryContext, "tokenbill reprice",
								 ALLOCSET_DEFAULT_SIZES);
	do
	{
		MemoryContext old = MemoryContextSwitchTo(each);

		n = read_lines(&reprice, after, lines);
		for (uint64 i = 0; i < n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			reprice_line(&reprice, &lines[i]);
			after = lines[i].seq;
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(each);
	} while (n == LINES_AT_ONCE);
	tb_leave(&session);
	return (Datum) 0;
}
