/*
 * credit.c
 *	  The rows of credits: read, judge, write back.
 *
 * A credit is money of an account that is not like the rest of it: it expires, is
 * spent sooner or later than the rest, or is good for some services only.  It is
 * part of the balance; its row says how much of the balance is still it.  What is
 * left of the balance is the plain balance, which has no row: an account without
 * credits has account.credits 0 and pays nothing for there being any.
 *
 *			   +--> spent	(nothing remains)
 *	 open -----+
 *			   +--> expired	(its time is over)
 *
 * and back to open when a refund brings something of it back.
 *
 * Rows are only read to be changed while their account is locked, or by the condition
 * of the statement that is about to lock it, which reads again if it comes too late
 * (movement.c).  They are only changed along with a line of the ledger, in a transaction
 * that has rewritten the account's row, therefore: that is what tells whoever has read
 * them that they are no longer so.
 */
#include "credit.h"

#include "access/htup_details.h"
#include "check.h"
#include "clock.h"
#include "money.h"
#include "query.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define CREDIT_SELECT \
	"SELECT c.ctid, c FROM tokenbill.credit c WHERE c.account OPERATOR(pg_catalog.=) $1 AND "

/* The columns of tokenbill.credit that are read here, in the table's order. */
enum
{
	CREDIT_ACCOUNT,
	CREDIT_KEY,
	CREDIT_SEQ,
	CREDIT_AMOUNT,
	CREDIT_REMAINING,
	CREDIT_RESERVED,
	CREDIT_PRIORITY,
	CREDIT_CATEGORY,
	CREDIT_SCOPE,
	CREDIT_COST_BASIS,
	CREDIT_EFFECTIVE_AT,
	CREDIT_EXPIRES_AT,
	CREDIT_STATUS,
	CREDIT_CREATED_AT,
	CREDIT_UPDATED_AT,
	CREDIT_COLUMNS
};

static void
take_scope(Credit *credit, ArrayType *array)
{
	Datum	   *elements;
	bool	   *nulls;

	credit->scoped = true;
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &credit->nscope);
	credit->scope = palloc(sizeof(text *) * Max(credit->nscope, 1));
	for (int i = 0; i < credit->nscope; i++)
		credit->scope[i] = nulls[i] ? cstring_to_text("") :
			DatumGetTextPCopy(elements[i]);
}

/* Make a Credit of a row of the last result. */
static Credit *
take_credit(int number)
{
	Credit	   *credit = palloc0(sizeof(Credit));
	Datum		columns[2];
	Datum		values[CREDIT_COLUMNS];
	bool		nulls[CREDIT_COLUMNS];

	heap_deform_tuple(SPI_tuptable->vals[number], SPI_tuptable->tupdesc, columns, nulls);
	credit->ctid = *(ItemPointer) DatumGetPointer(columns[0]);
	tb_take_row_apart(DatumGetHeapTupleHeaderCopy(columns[1]), CREDIT_COLUMNS, values,
					  nulls);
	credit->key = DatumGetTextPP(values[CREDIT_KEY]);
	credit->seq = DatumGetInt64(values[CREDIT_SEQ]);
	credit->amount = DatumGetNumeric(values[CREDIT_AMOUNT]);
	credit->remaining = DatumGetNumeric(values[CREDIT_REMAINING]);
	credit->reserved = DatumGetNumeric(values[CREDIT_RESERVED]);
	credit->cost_basis = DatumGetNumeric(values[CREDIT_COST_BASIS]);
	credit->priority = DatumGetInt32(values[CREDIT_PRIORITY]);
	credit->promotional = tb_text_is(DatumGetTextPP(values[CREDIT_CATEGORY]),
									 "promotional");
	if (!nulls[CREDIT_SCOPE])
		take_scope(credit, DatumGetArrayTypeP(values[CREDIT_SCOPE]));
	credit->effective_at = DatumGetTimestampTz(values[CREDIT_EFFECTIVE_AT]);
	credit->expires_at = nulls[CREDIT_EXPIRES_AT] ? DT_NOEND :
		DatumGetTimestampTz(values[CREDIT_EXPIRES_AT]);
	credit->status = DatumGetTextPP(values[CREDIT_STATUS]);
	return credit;
}

/*
 * tb_load_credits
 *		Read the account's open credits.  Needs SPI, and the account locked or
 *		about to be; read_only takes them as the calling query sees them instead.
 */
void
tb_load_credits(Account *account, bool read_only)
{
	static Statement query = {
		.sql = CREDIT_SELECT "c.status OPERATOR(pg_catalog.=) 'open'",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		values[1];
	CreditList *list;
	uint64		found;

	account->open_credits = NULL;
	if (likely(account->credits == 0))
		return;
	values[0] = PointerGetDatum(account->account);
	found = read_only ? tb_read(&query, values, NULL) :
		tb_run(&query, values, NULL);
	list = palloc(sizeof(CreditList));
	list->n = (int) found;
	list->size = list->n + 1;
	list->credits = palloc(sizeof(Credit *) * list->size);
	for (int i = 0; i < list->n; i++)
		list->credits[i] = take_credit(i);
	account->open_credits = list;
}

/*
 * tb_find_credit
 *		A credit of the account, open or not; null if there is none.  Needs SPI.
 */
Credit *
tb_find_credit(Account *account, const text *key)
{
	static Statement query = {
		.sql = CREDIT_SELECT "c.credit_key OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID}
	};
	CreditList *list = account->open_credits;
	Datum		values[2];

	for (int i = 0; list != NULL && i < list->n; i++)
	{
		if (tb_same_text(list->credits[i]->key, key))
			return list->credits[i];
	}

	values[0] = PointerGetDatum(account->account);
	values[1] = PointerGetDatum(key);
	if (tb_run(&query, values, NULL) == 0)
		return NULL;
	if (list == NULL)
		list = account->open_credits = palloc0(sizeof(CreditList));
	if (list->n == list->size)
	{
		int			size = list->size + 8;
		Credit	  **larger = palloc(sizeof(Credit *) * size);

		if (list->n > 0)
			memcpy(larger, list->credits, sizeof(Credit *) * list->n);
		list->credits = larger;
		list->size = size;
	}
	list->credits[list->n] = take_credit(0);
	return list->credits[list->n++];
}

/* The state that a credit is in, from what is left of it. */
static const char *
state_of(const Credit *credit)
{
	if (tb_compare(credit->remaining, tb_zero()) > 0)
		return "open";
	if (tb_text_is(credit->status, "open"))
		return credit->expired ? "expired" : "spent";
	return tb_text_is(credit->status, "expired") ? "expired" : "spent";
}

/*
 * Write a credit back.  Once it has been written it is no longer where it was read,
 * and is found by its key.
 */
static void
store_credit(const Account *account, Credit *credit, const char *state)
{
	/* the common case; without the status, no trigger has to look at the row */
	static Statement amounts = {
		.sql = "UPDATE tokenbill.credit SET remaining = $3, reserved = $4, updated_at = $5"
		" WHERE ctid OPERATOR(pg_catalog.=) $6 AND account OPERATOR(pg_catalog.=) $1"
		" AND credit_key OPERATOR(pg_catalog.=) $2",
		.nargs = 6,
		.types = {TEXTOID, TEXTOID, NUMERICOID, NUMERICOID, TIMESTAMPTZOID, TIDOID}
	};
	static Statement everything = {
		.sql = "UPDATE tokenbill.credit SET remaining = $3, reserved = $4, updated_at = $5, status = $6"
		" WHERE account OPERATOR(pg_catalog.=) $1 AND credit_key OPERATOR(pg_catalog.=) $2",
		.nargs = 6,
		.types = {TEXTOID, TEXTOID, NUMERICOID, NUMERICOID, TIMESTAMPTZOID, TEXTOID}
	};
	bool		by_ctid = ItemPointerIsValid(&credit->ctid) &&
		tb_text_is(credit->status, state);
	Datum		values[6];

	values[0] = PointerGetDatum(account->account);
	values[1] = PointerGetDatum(credit->key);
	values[2] = NumericGetDatum(credit->remaining);
	values[3] = NumericGetDatum(credit->reserved);
	values[4] = TimestampTzGetDatum(account->updated_at);
	values[5] = by_ctid ? PointerGetDatum(&credit->ctid) : CStringGetTextDatum(state);
	if (tb_run(by_ctid ? &amounts : &everything, values, NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a credit of account \"%s\" changed while the account was locked",
						text_to_cstring(account->account)),
				 errhint("Try the transaction again.")));
	ItemPointerSetInvalid(&credit->ctid);
	if (!tb_text_is(credit->status, state))
		credit->status = cstring_to_text(state);
	credit->changed = false;
}

/*
 * tb_count_credits
 *		Change the number of the account's open credits.
 */
void
tb_count_credits(const Account *account, int32 more)
{
	static Statement query = {
		.sql = "UPDATE tokenbill.account SET credits = credits OPERATOR(pg_catalog.+) $2"
		" WHERE account OPERATOR(pg_catalog.=) $1",
		.nargs = 2,
		.types = {TEXTOID, INT4OID}
	};
	Datum		values[2];

	values[0] = PointerGetDatum(account->account);
	values[1] = Int32GetDatum(more);
	if (tb_run(&query, values, NULL) != 1)
		elog(ERROR, "account is gone");
}

/*
 * tb_store_credits
 *		Write back the credits that have changed.  The line that changed them is
 *		posted; the account's ctid is stale afterwards, if it was not before.
 */
void
tb_store_credits(Account *account)
{
	CreditList *list = account->open_credits;
	int32		more = 0;

	for (int i = 0; list != NULL && i < list->n; i++)
	{
		Credit	   *credit = list->credits[i];
		const char *state;

		if (!credit->changed)
			continue;
		state = state_of(credit);
		more += (strcmp(state, "open") == 0) - tb_text_is(credit->status, "open");
		store_credit(account, credit, state);
	}
	if (more != 0)
	{
		tb_count_credits(account, more);
		account->credits += more;
	}
}

/*
 * tb_credit_covers
 *		Whether a credit is good for a service: it is one of its scope's, or begins
 *		like one with a star.
 */
bool
tb_credit_covers(const Credit *credit, const text *service)
{
	if (!credit->scoped)
		return true;
	if (service == NULL)
		return false;
	for (int i = 0; i < credit->nscope; i++)
	{
		const char *pattern = VARDATA_ANY(credit->scope[i]);
		int			length = VARSIZE_ANY_EXHDR(credit->scope[i]);

		if (length > 0 && pattern[length - 1] == '*')
		{
			if ((int) VARSIZE_ANY_EXHDR(service) >= length - 1 &&
				memcmp(VARDATA_ANY(service), pattern, length - 1) == 0)
				return true;
		}
		else if (tb_same_text(credit->scope[i], service))
			return true;
	}
	return false;
}

/*
 * tb_credit_use
 *		Whether a credit may pay for a service now, and if not why.  The moment
 *		it expires at is no longer its own; the one it becomes effective at is.
 */
CreditUse
tb_credit_use(const Credit *credit, const text *service, TimestampTz now)
{
	if (credit->expires_at <= now)
		return CREDIT_EXPIRED;
	if (credit->effective_at > now)
		return CREDIT_NOT_EFFECTIVE;
	return tb_credit_covers(credit, service) ? CREDIT_USABLE :
		CREDIT_OUT_OF_SCOPE;
}

/* What of a credit no hold has reserved. */
Numeric
tb_credit_free(const Credit *credit)
{
	return tb_sub(credit->remaining, credit->reserved);
}

/*
 * tb_unusable
 *		What is available in credits that do not pay for the service.
 */
Numeric
tb_unusable(const Account *account, const text *service)
{
	const CreditList *list = account->open_credits;
	Numeric		result = tb_zero();
	TimestampTz now = tb_now();

	for (int i = 0; list != NULL && i < list->n; i++)
	{
		if (tb_credit_use(list->credits[i], service, now) != CREDIT_USABLE)
			result = tb_add(result, tb_credit_free(list->credits[i]));
	}
	return result;
}

/*
 * tb_spendable
 *		What the account may still spend on a service (null: on none by name).
 */
Numeric
tb_spendable(const Account *account, const text *service)
{
	Numeric		available = tb_available(account);

	if (likely(account->open_credits == NULL))
		return available;
	return tb_sub(available, tb_unusable(account, service));
}
