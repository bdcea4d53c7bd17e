/*
 * expiry.c
 *	  Holds whose time has run out.
 *
 * Nothing happens by itself when a hold's time runs out: it can no longer be
 * captured, and what it holds is freed, or charged, when its expiry is posted.
 * That is done by expire_holds(), and by a charge or hold of the same account
 * that finds too little to spend.
 */
#include "expiry.h"

#include "access/htup_details.h"
#include "burn.h"
#include "check.h"
#include "clock.h"
#include "miscadmin.h"
#include "money.h"
#include "query.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(tokenbill_expire_holds);

/* How many holds of its account a charge expires when it needs the room. */
#define EXPIRE_AT_ONCE 1000

static Refusal *
judge_expiry(Movement *movement, Account *account)
{
	HoldMovement *request = (HoldMovement *) movement;
	ChainedLine *line = &movement->line;
	Hold	   *hold = &request->hold;
	bool		overdue;
	Refusal    *refusal = tb_find_open_hold(line, hold, &overdue);

	if (refusal != NULL)
		return refusal;
	if (!overdue)
		return tb_not_held(line, "extended");

	line->service = hold->service;
	line->amount = tb_zero();
	line->contra = cstring_to_text("hold");
	line->held = tb_sub(account->held, hold->left);
	tb_reserve_tokens(request, tb_zero(), true);
	if (tb_text_is(hold->on_expiry, "charge"))
	{
		line->amount = tb_negate(hold->left);
		line->contra = cstring_to_text("revenue");
		tb_burn_hold(line, account, hold, hold->left, true);
		if (account->sandbox)
			tb_sandbox_price(line, hold->left);
		hold->captured = tb_add(hold->captured, hold->left);
	}
	else
		tb_free_hold(account, hold);
	return NULL;
}

static void
follow_expiry(Movement *movement, Account *account)
{
	tb_store_hold(&movement->line, &((HoldMovement *) movement)->hold, "expired");
}

static bool
expire(text *account, text *hold_key, Oid user)
{
	HoldMovement request = {0};
	ChainedLine *line = &request.movement.line;
	Receipt		receipt;

	line->account = account;
	line->ref = hold_key;
	line->kind = cstring_to_text("expiry");
	line->idempotency_key = tb_derived_key("expiry", hold_key);
	request.movement.ref_argument = "hold_key";
	request.movement.derives_service = true;
	request.movement.wait = true;
	request.movement.user = user;
	request.movement.judge = judge_expiry;
	request.movement.follow = follow_expiry;

	/* refused: somebody captured, released, extended or expired it meanwhile */
	return tb_move(&request.movement, &receipt) == NULL && !receipt.replayed;
}

/*
 * Expire the overdue holds of an account, or of all, at most max.  They are done
 * account by account in the order of names, as everything that locks several.
 */
static uint64
expire_overdue(const text *account, int32 max, Oid user)
{
	static Statement of_one = {
		.sql = "SELECT h.account, h.hold_key FROM tokenbill.hold h"
		" WHERE h.status OPERATOR(pg_catalog.=) 'held' AND h.expires_at OPERATOR(pg_catalog.<=) $1"
		" AND h.account OPERATOR(pg_catalog.=) $3"
		" ORDER BY h.expires_at, h.hold_key LIMIT $2",
		.nargs = 3,
		.types = {TIMESTAMPTZOID, INT4OID, TEXTOID}
	};
	static Statement of_all = {
		.sql = "SELECT d.account, d.hold_key FROM"
		" (SELECT h.account, h.hold_key, h.expires_at FROM tokenbill.hold h"
		" WHERE h.status OPERATOR(pg_catalog.=) 'held' AND h.expires_at OPERATOR(pg_catalog.<=) $1"
		" ORDER BY h.expires_at LIMIT $2) d"
		" ORDER BY d.account, d.expires_at, d.hold_key",
		.nargs = 2,
		.types = {TIMESTAMPTZOID, INT4OID}
	};
	Datum		values[3];
	uint64		found;
	uint64		done = 0;
	text	  **due;
	MemoryContext each;

	values[0] = TimestampTzGetDatum(tb_now());
	values[1] = Int32GetDatum(max);
	values[2] = PointerGetDatum(account);
	found = tb_run(account ? &of_one : &of_all, values, NULL);

	due = palloc(sizeof(text *) * 2 * (found + 1));
	for (uint64 i = 0; i < found; i++)
	{
		bool		nulls[2];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values,
						  nulls);
		due[2 * i] = DatumGetTextPCopy(values[0]);
		due[2 * i + 1] = DatumGetTextPCopy(values[1]);
	}

	each = AllocSetContextCreate(CurrentMemoryContext, "tokenbill expiry",
								 ALLOCSET_DEFAULT_SIZES);
	for (uint64 i = 0; i < found; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(each);

		CHECK_FOR_INTERRUPTS();
		if (expire(due[2 * i], due[2 * i + 1], user))
			done++;
		MemoryContextSwitchTo(old);
		MemoryContextReset(each);
	}
	MemoryContextDelete(each);
	return done;
}

/*
 * tb_expire_due
 *		Expire the overdue holds of an account; returns how many.  Needs SPI, and
 *		leaves the account locked, moved, and to be locked again.
 */
uint64
tb_expire_due(const text *account)
{
	return expire_overdue(account, EXPIRE_AT_ONCE, GetUserId());
}

/*
 * expire_holds(account text = null, max integer = 1000) -> bigint
 */
Datum
tokenbill_expire_holds(PG_FUNCTION_ARGS)
{
	text	   *account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	Session		session;
	uint64		done;

	tb_raise(tb_check_optional_text("account", account, TB_MAX_ACCOUNT));
	if (PG_ARGISNULL(1))
		tb_raise(tb_null_argument("max"));
	if (PG_GETARG_INT32(1) < 1)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "max"),
							"Pass how many holds to expire at most.",
							"max must be greater than zero"));

	tb_enter(fcinfo, &session);
	if (account != NULL)
		tb_raise(tb_check_account(account, session.userid));
	done = expire_overdue(account, PG_GETARG_INT32(1), session.userid);
	tb_leave(&session);
	PG_RETURN_INT64((int64) done);
}
