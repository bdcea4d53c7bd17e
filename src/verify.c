/*
 * verify.c
 *	  verify_ledger(): recompute every hash and balance, compare every table.
 *
 * Everything is read in the snapshot of the calling query, so charges go on and
 * are never seen by halves.  What is kept of an account while its lines go by
 * (a Trail, some 250 bytes) stays within three quarters of maintenance_work_mem,
 * and lines that wait within the rest: with more accounts than fit, the ledger is
 * read several times, each time for a part of them.
 *
 *	  scan.c		brings each account's lines into order,
 *	  trail.c		checks that each follows from the one before,
 *	  closing.c		compares the closings and totals of sealed months,
 *	  verify.c		begins and ends: accounts, trial balance,
 *	  reconcile.c	compares the other tables,
 *	  credit_proof.c	compares the credits.
 */
#include "verify.h"

#include "account.h"
#include "catalog/pg_type_d.h"
#include "check.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "money.h"
#include "query.h"
#include "tenant.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(tokenbill_verify_ledger);

/* Many times the accounts that anybody has, even in a megabyte. */
#define MAX_PASSES 10000

#define IS_DROPPED(month) \
	"EXISTS (SELECT FROM tokenbill.month_total t" \
	" WHERE t.month OPERATOR(pg_catalog.=) " month \
	" AND t.dropped_at IS NOT NULL)"

static Currency *
find_currency(Verification *v, Datum name, bool isnull)
{
	text	   *wanted = isnull ? cstring_to_text("") : DatumGetTextPP(name);
	MemoryContext old;
	Currency   *currency;

	for (currency = v->currencies; currency != NULL; currency = currency->next)
	{
		if (VARSIZE_ANY_EXHDR(wanted) == VARSIZE_ANY_EXHDR(currency->name) &&
			memcmp(VARDATA_ANY(wanted), VARDATA_ANY(currency->name),
				   VARSIZE_ANY_EXHDR(wanted)) == 0)
			return currency;
	}
	old = MemoryContextSwitchTo(v->keep_context);
	currency = palloc0(sizeof(Currency));
	currency->name = cstring_to_text_with_len(VARDATA_ANY(wanted),
											  VARSIZE_ANY_EXHDR(wanted));
	tb_keep(&currency->difference, tb_zero());
	currency->next = v->currencies;
	v->currencies = currency;
	MemoryContextSwitchTo(old);
	return currency;
}

static Numeric
numeric_or_null(TupleTableSlot *slot, int column)
{
	return slot->tts_isnull[column] ? NULL :
		DatumGetNumeric(slot->tts_values[column]);
}

/* An account's row: account, currency. */
static void
take_account(void *state, TupleTableSlot *slot)
{
	Verification *v = state;
	bool		other_pass;
	Trail	   *trail;

	if (slot->tts_isnull[0])
		return;
	trail = tb_find_trail(v, DatumGetTextPP(slot->tts_values[0]), true,
						  &other_pass);
	if (trail == NULL)
		return;
	trail->has_row = true;
	trail->currency = find_currency(v, slot->tts_values[1],
									slot->tts_isnull[1]);
}

/*
 * Where an account's lines begin when months have been dropped: account, seq,
 * balance, held, hash, closed_at.
 */
static void
take_start(void *state, TupleTableSlot *slot)
{
	Verification *v = state;
	const Datum *values = slot->tts_values;
	const bool *nulls = slot->tts_isnull;
	bool		other_pass;
	Trail	   *trail;

	if (nulls[0])
		return;
	trail = tb_find_trail(v, DatumGetTextPP(values[0]), false, &other_pass);
	if (trail == NULL)
		return;
	trail->seq = nulls[1] ? 0 : DatumGetInt64(values[1]);
	tb_keep(&trail->balance, numeric_or_null(slot, 2));
	tb_keep(&trail->held, numeric_or_null(slot, 3));
	if (!nulls[4])
	{
		bytea	   *hash = DatumGetByteaPP(values[4]);

		/* of the wrong length it is no hash, and the next line will say so */
		trail->has_hash = VARSIZE_ANY_EXHDR(hash) == TB_HASH_BYTES;
		if (trail->has_hash)
			memcpy(trail->hash, VARDATA_ANY(hash), TB_HASH_BYTES);
	}
	if (!nulls[5])
		trail->created_at = DatumGetTimestampTz(values[5]);
	tb_shift(trail->currency, tb_zero(), KEPT(&trail->balance));
}

/* An account's row, after its lines: account, seq, balance, held, hash. */
static void
check_account(void *state, TupleTableSlot *slot)
{
	Verification *v = state;
	const Datum *values = slot->tts_values;
	const bool *nulls = slot->tts_isnull;
	bool		other_pass;
	Trail	   *trail;
	bool		gap;

	if (nulls[0])
		return;
	trail = tb_find_trail(v, DatumGetTextPP(values[0]), true, &other_pass);
	if (trail == NULL || tb_stands_at(trail, values + 1, nulls + 1))
		return;
	gap = trail->seq == 0 && !nulls[1] && DatumGetInt64(values[1]) > 0;
	tb_report_on(&v->findings, trail, trail->seq, gap ? "gap" : "account",
				 tb_json("expected:j found:j", tb_trail_standing(trail),
						 tb_standing(values + 1, nulls + 1)));
	tb_shift(trail->currency, KEPT(&trail->balance), numeric_or_null(slot, 2));
}

static void
check_orphans(Verification *v)
{
	tb_trails_iterator iterator;
	TrailSlot  *slot;

	tb_trails_start_iterate(v->trails, &iterator);
	while ((slot = tb_trails_iterate(v->trails, &iterator)) != NULL)
	{
		if (!slot->trail->has_row)
			tb_report_on(&v->findings, slot->trail, slot->trail->seq, "orphan",
						 tb_json("found:j", tb_trail_standing(slot->trail)));
	}
}

/* Lines without an account are a problem; neither of them is a mistake. */
static void
check_there_is_one(Verification *v)
{
	bool		other_pass;
	Trail	   *trail = tb_find_trail(v, v->only, true, &other_pass);

	if (trail == NULL || (!trail->has_row && trail->seq == 0))
		tb_raise(tb_no_account(v->only));
}

/*
 * Follow the lines of all accounts of one pass, or of the one account.
 */
static void
follow_ledger(Verification *v)
{
	MemoryContextReset(v->pass_context);
	v->trails_size = 0;
	v->trails = tb_trails_create(v->pass_context,
								 (uint32) (v->n_accounts / v->passes + 1), NULL);
	tb_stream(&v->stream,
			  "SELECT a.account, a.currency FROM tokenbill.account a WHERE"
			  OF_ACCOUNT("a.account"), take_account, v);
	tb_stream(&v->stream,
			  "SELECT DISTINCT ON (c.account)"
			  " c.account, c.seq, c.balance, c.held, c.hash, c.closed_at"
			  " FROM tokenbill.month_closing c"
			  " WHERE " IS_DROPPED("c.month") " AND" OF_ACCOUNT("c.account")
			  " ORDER BY c.account, c.month DESC", take_start, v);

	tb_read_lines(v);

	tb_stream(&v->stream,
			  "SELECT a.account, a.seq, a.balance, a.held, a.hash"
			  " FROM tokenbill.account a WHERE" OF_ACCOUNT("a.account"),
			  check_account, v);
	if (v->only != NULL)
		check_there_is_one(v);
	check_orphans(v);
}

/* What a dropped month kept: currency, amount. */
static void
take_total(void *state, TupleTableSlot *slot)
{
	Verification *v = state;

	tb_shift(find_currency(v, slot->tts_values[0], slot->tts_isnull[0]),
			 numeric_or_null(slot, 1), tb_zero());
}

/*
 * What customers have must be what the lines and the dropped months say, in
 * every currency.  Line by line this has been checked already; the difference
 * is what was counted on the way wherever something did not agree.
 */
static void
check_trial_balance(Verification *v)
{
	tb_stream(&v->stream,
			  "SELECT t.currency, " SUM_OF("t.amount") " FROM tokenbill.month_total t"
			  " WHERE t.dropped_at IS NOT NULL AND t.currency OPERATOR(pg_catalog.<>) '-'"
			  " GROUP BY t.currency", take_total, v);
	for (Currency *c = v->currencies; c != NULL; c = c->next)
	{
		if (tb_compare(KEPT(&c->difference), tb_zero()) != 0)
			tb_report(&v->findings, NULL, NULL, "trial_balance",
					  tb_json("currency:t expected:i found:j", c->name, (int64) 0,
							  tb_number(KEPT(&c->difference))));
	}
}

/* What is known before the ledger is read: accounts, length of their names. */
static void
take_count(void *state, TupleTableSlot *slot)
{
	Verification *v = state;

	v->n_accounts = DatumGetInt64(slot->tts_values[0]);
	v->names_length = slot->tts_isnull[1] ? 0 :
		DatumGetInt64(slot->tts_values[1]);
}

/* A month that there is: its first day, when it begins, whether it is sealed. */
static void
take_month(void *state, TupleTableSlot *slot)
{
	Verification *v = state;
	Month	   *month;

	if (v->months == NULL)
		v->months = MemoryContextAlloc(v->keep_context, sizeof(Month));
	else
		v->months = repalloc(v->months, sizeof(Month) * (v->n_months + 1));
	month = &v->months[v->n_months++];
	month->day = slot->tts_values[0];
	month->begin = DatumGetTimestampTz(slot->tts_values[1]);
	month->sealed = DatumGetBool(slot->tts_values[2]);
}

static void
take_dropped(void *state, TupleTableSlot *slot)
{
	*(int64 *) state = DatumGetInt64(slot->tts_values[0]);
}

static int64
count_dropped(Verification *v)
{
	int64		result = 0;

	tb_stream(&v->stream,
			  "SELECT pg_catalog.count(*) FROM tokenbill.month_total t"
			  " WHERE t.dropped_at IS NOT NULL", take_dropped, &result);
	return result;
}

/*
 * See to it that no month is dropped from now on, by the lock that every reader
 * of the ledger has, and that none has been since our snapshot was taken: a
 * table goes for all snapshots at once, and its lines would seem to be missing.
 */
static void
keep_months(Verification *v)
{
	int64		ours;
	int64		now;

	tb_stream(&v->stream,
			  "SELECT pg_catalog.count(*) FROM tokenbill.ledger l WHERE false",
			  take_dropped, &ours);
	ours = count_dropped(v);
	PushActiveSnapshot(GetLatestSnapshot());
	now = count_dropped(v);
	PopActiveSnapshot();
	if (ours != now)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a month of the ledger was dropped while it was about to be verified"),
				 errhint("Verify it again, in a new transaction.")));

	tb_stream(&v->stream,
			  "SELECT m.month, pg_catalog.timezone('UTC', m.month::pg_catalog.timestamp),"
			  " EXISTS (SELECT FROM tokenbill.month_total t"
			  " WHERE t.month OPERATOR(pg_catalog.=) m.month AND t.dropped_at IS NULL)"
			  " FROM (SELECT pg_catalog.to_date(pg_catalog.substr(c.relname::pg_catalog.text, 8), 'YYYY_MM') AS month"
			  " FROM pg_catalog.pg_inherits i"
			  " JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid"
			  " WHERE i.inhparent OPERATOR(pg_catalog.=) 'tokenbill.ledger'::pg_catalog.regclass"
			  " AND c.relname::pg_catalog.text OPERATOR(pg_catalog.~) '^ledger_[0-9]{4}_(0[1-9]|1[0-2])$') m"
			  " ORDER BY m.month", take_month, v);
}

/*
 * How the statements are to run: from the beginning of each table, not from
 * where somebody else's scan is; not in parallel, which would mix the rows; and
 * without compiling expressions, for there are hardly any.  Undone with nest.
 */
static int
set_up_execution(void)
{
	static const char *const settings[][2] = {
		{"synchronize_seqscans", "off"},
		{"max_parallel_workers_per_gather", "0"},
		{"jit", "off"}
	};
	int			nest = NewGUCNestLevel();

	for (int i = 0; i < (int) lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

static void
set_up_memory(Verification *v)
{
	Size		budget = maintenance_work_mem * (Size) 1024;
	Size		needed;

	v->keep_context = CurrentMemoryContext;
	v->pass_context = GenerationContextCreate(CurrentMemoryContext,
											  "tokenbill trails",
											  ALLOCSET_DEFAULT_SIZES);
	v->waiting_context = AllocSetContextCreate(CurrentMemoryContext,
											   "tokenbill waiting lines",
											   ALLOCSET_DEFAULT_SIZES);
	v->account_context = AllocSetContextCreate(CurrentMemoryContext,
											   "tokenbill closings",
											   ALLOCSET_SMALL_SIZES);
	v->waiting_limit = budget / 4;
	v->trails_limit = budget - v->waiting_limit;
	v->passes = 1;
	if (v->only != NULL)
		return;

	tb_stream(&v->stream,
			  "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.octet_length(a.account))"
			  " FROM tokenbill.account a", take_count, v);
	needed = v->n_accounts * TRAIL_SIZE(0) + v->names_length;
	v->passes = Min(1 + needed / v->trails_limit, MAX_PASSES);
}

/*
 * verify_ledger(account text = null) -> setof problem
 *		What is wrong with an account, or with all of them; no row means sound.
 *		Errors: PT404, 42501 (a tenant may verify its own account only), 40001.
 */
Datum
tokenbill_verify_ledger(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Verification v;
	Session		session;
	int			nest;

	memset(&v, 0, sizeof(v));
	if (!PG_ARGISNULL(0))
	{
		v.only = PG_GETARG_TEXT_PP(0);
		tb_raise(tb_check_text("account", v.only, TB_MAX_ACCOUNT));
	}
	InitMaterializedSRF(fcinfo, 0);
	v.findings.store = result->setResult;
	v.findings.desc = result->setDesc;
	tb_open_stream(&v.stream);
	if (v.only != NULL)
		tb_set_parameter(&v.stream, STREAM_ACCOUNT, PointerGetDatum(v.only));

	tb_enter(fcinfo, &session);
	if (v.only != NULL && !tb_visible_to(v.only, session.userid))
		tb_raise(tb_no_account(v.only));
	/* a tenant sees no account that cannot be */
	if (v.only == NULL && !tb_visible_to(cstring_to_text("*"), session.userid))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a tenant may verify its own account only"),
				 errdetail_internal("%s", tb_json("argument:s", "account")),
				 errhint("Pass the account's name.")));
	nest = set_up_execution();
	set_up_memory(&v);
	keep_months(&v);

	for (v.pass = 0; v.pass < v.passes; v.pass++)
		follow_ledger(&v);
	if (v.only == NULL)
	{
		check_trial_balance(&v);
		tb_check_totals(&v);
	}
	tb_set_parameter(&v.stream, STREAM_BEGIN,
					 TimestampTzGetDatum(v.n_months > 0 ? v.months[0].begin :
										 DT_NOEND));
	tb_reconcile(&v.stream, &v.findings);
	tb_prove_credits(&v.stream, &v.findings);

	AtEOXact_GUC(true, nest);
	tb_leave(&session);
	return (Datum) 0;
}
