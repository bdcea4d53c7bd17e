/*
 * credit_expiry.c
 *	  Credits whose time is over.
 *
 * Nothing happens by itself when a credit expires: it pays for nothing any more,
 * and what is left of it leaves the balance when its expiry is posted.  That is
 * done by the next movement of the account, before it is judged, and by
 * expire_credits().  What a hold has reserved stays until the hold is over, so a
 * credit may take several lines to expire.
 */
#include "credit.h"

#include "access/htup_details.h"
#include "check.h"
#include "clock.h"
#include "ledger.h"
#include "miscadmin.h"
#include "money.h"
#include "month.h"
#include "query.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(tokenbill_expire_credits);

/*
 * tb_is_credit_expiry
 *		Whether a line expires a credit, not a hold.
 */
bool
tb_is_credit_expiry(const ChainedLine *line)
{
	return tb_text_is(line->kind, "expiry") &&
		tb_text_begins(line->idempotency_key, TB_CREDIT_EXPIRY_PREFIX);
}

/* Whether a credit's time is over and something of it is to expire. */
static bool
is_due(const Credit *credit, TimestampTz now)
{
	return credit->expires_at <= now &&
		tb_compare(tb_credit_free(credit), tb_zero()) > 0;
}

/*
 * tb_credits_due
 *		Whether one of the credits that are loaded has to expire first.
 */
bool
tb_credits_due(const Account *account)
{
	const CreditList *list = account->open_credits;
	TimestampTz now = tb_now();

	for (int i = 0; list != NULL && i < list->n; i++)
	{
		if (is_due(list->credits[i], now))
			return true;
	}
	return false;
}

/*
 * Post the expiry of what is free of a credit.  The account is locked, and is
 * locked anew afterwards, for the next line.
 */
static void
expire(Account *account, Credit *credit)
{
	ChainedLine line = {0};
	CreditList *list = account->open_credits;
	text	   *name = account->account;

	line.account = name;
	line.created_at = tb_now();
	line.kind = cstring_to_text("expiry");
	line.amount = tb_negate(tb_credit_free(credit));
	line.contra = cstring_to_text(account->sandbox ? "sandbox" : "expiry");
	line.held = account->held;
	line.ref = credit->key;
	line.idempotency_key =
		cstring_to_text(psprintf(TB_CREDIT_EXPIRY_PREFIX INT64_FORMAT ":%s",
								 account->seq + 1,
								 text_to_cstring(credit->key)));
	if (!tb_post(account, &line, NULL))
		elog(ERROR, "a credit's expiry is there already");

	credit->remaining = credit->reserved;
	credit->expired = true;
	credit->changed = true;
	tb_store_credits(account);
	credit->expired = false;
	if (!tb_lock_account(name, account))
		elog(ERROR, "account is gone");
	account->open_credits = list;
}

/*
 * tb_expire_credits_of
 *		Post the expiry of the account's credits whose time is over, at most max
 *		of them; returns how many.  Needs the account locked, its month open and
 *		its credits loaded; the account is ready for the next line.
 */
uint64
tb_expire_credits_of(Account *account, int32 max)
{
	CreditList *list = account->open_credits;
	TimestampTz now = tb_now();
	int32		done = 0;

	for (int i = 0; list != NULL && i < list->n && done < max; i++)
	{
		Credit	   *credit = list->credits[i];

		if (!is_due(credit, now))
			continue;
		expire(account, credit);
		done++;
	}
	return done;
}

/*
 * tb_settle_credits
 *		Write back the credits that a line has changed, and expire what it has left
 *		behind of those whose time is over.
 */
void
tb_settle_credits(Account *account)
{
	CreditList *list = account->open_credits;

	tb_store_credits(account);
	if (!tb_credits_due(account))
		return;
	if (!tb_lock_account(account->account, account))
		elog(ERROR, "account is gone");
	account->open_credits = list;
	(void) tb_expire_credits_of(account, PG_INT32_MAX);
}

/* The accounts that have credits to expire, as many as max credits are of. */
static text **
due_accounts(text *account, int32 max, uint64 *found)
{
	static Statement query = {
		.sql = "SELECT DISTINCT d.account FROM"
		" (SELECT c.account, c.expires_at FROM tokenbill.credit c"
		" WHERE c.status OPERATOR(pg_catalog.=) 'open' AND c.expires_at OPERATOR(pg_catalog.<=) $1"
		" AND c.remaining OPERATOR(pg_catalog.>) c.reserved"
		" AND ($3 IS NULL OR c.account OPERATOR(pg_catalog.=) $3)"
		" ORDER BY c.expires_at LIMIT $2) d"
		" ORDER BY d.account",
		.nargs = 3,
		.types = {TIMESTAMPTZOID, INT4OID, TEXTOID}
	};
	Datum		values[3];
	text	  **accounts;

	values[0] = TimestampTzGetDatum(tb_now());
	values[1] = Int32GetDatum(max);
	values[2] = PointerGetDatum(account);
	*found = tb_run(&query, values, account == NULL ? "  n" : NULL);
	accounts = palloc(sizeof(text *) * (*found + 1));
	for (uint64 i = 0; i < *found; i++)
	{
		bool		nulls[1];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values,
						  nulls);
		accounts[i] = DatumGetTextPCopy(values[0]);
	}
	return accounts;
}

/*
 * expire_credits(account text = null, max integer = 1000) -> bigint
 *		Locks the accounts' rows, in the order of their names, until the
 *		transaction ends.
 */
Datum
tokenbill_expire_credits(PG_FUNCTION_ARGS)
{
	text	   *only = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	int32		max = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	Session		session;
	MemoryContext each;
	text	  **accounts;
	uint64		found;
	uint64		done = 0;

	tb_raise(tb_check_optional_text("account", only, TB_MAX_ACCOUNT));
	if (PG_ARGISNULL(1))
		tb_raise(tb_null_argument("max"));
	if (max < 1)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "max"),
							"Pass how many credits to expire at most.",
							"max must be greater than zero"));

	tb_enter(fcinfo, &session);
	if (only != NULL)
		tb_raise(tb_check_account(only, session.userid));
	tb_open_month(tb_now());
	accounts = due_accounts(only, max, &found);
	each = AllocSetContextCreate(CurrentMemoryContext,
								 "tokenbill credit expiry",
								 ALLOCSET_DEFAULT_SIZES);
	for (uint64 i = 0; i < found && done < (uint64) max; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(each);
		Account		account;

		CHECK_FOR_INTERRUPTS();
		if (tb_lock_account(accounts[i], &account))
		{
			tb_load_credits(&account, false);
			done += tb_expire_credits_of(&account, max - (int32) done);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(each);
	}
	MemoryContextDelete(each);
	tb_leave(&session);
	PG_RETURN_INT64((int64) done);
}
