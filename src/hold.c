/*
 * hold.c
 *	  Hold, extend, capture, release, expiry.
 *
 *			 +--> captured	(final capture)
 *	 held ---+--> released	(release)
 *			 +--> expired	(its time ran out)
 *
 * A hold's row is only read and changed while its account is locked, so each
 * sees what the one before it left.  What is left of a hold is its amount less
 * what has been captured; the sum of that over the open holds is account.held.
 */
#include "hold.h"

#include "check.h"
#include "clock.h"
#include "miscadmin.h"
#include "money.h"
#include "query.h"
#include "rating.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(tokenbill_hold);
PG_FUNCTION_INFO_V1(tokenbill_extend_hold);
PG_FUNCTION_INFO_V1(tokenbill_capture);
PG_FUNCTION_INFO_V1(tokenbill_release);
PG_FUNCTION_INFO_V1(tokenbill_expire_holds);

/* How many holds of its account a charge expires when it needs the room. */
#define EXPIRE_AT_ONCE 1000

/* A hold's row. */
typedef struct Hold
{
	Numeric		amount;
	Numeric		captured;
	Numeric		left;
	text	   *status;
	text	   *on_expiry;
	text	   *service;
	TimestampTz expires_at;
	int32		extensions;
} Hold;

/* A movement on a hold. */
typedef struct HoldMovement
{
	Movement	movement;		/* first, so that one can be taken for the other */
	Hold		hold;			/* as judge() found it, changed as it will be */
	text	   *on_expiry;
	Numeric		amount;			/* asked for, or null */
	Numeric		price;			/* what is captured */
	text	   *service;
	Interval   *ttl;
	bool		has_key;
	bool		final;
} HoldMovement;

static text *
derived_key(const char *what, const text *hold_key)
{
	return cstring_to_text(psprintf(TB_DERIVED_PREFIX "%s:%s", what,
									text_to_cstring(hold_key)));
}

static Jsonb *
request_json(char *json)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

/*
 * An interval in a form that does not depend on the session's settings, such as
 * P0M1DT600S (ISO 8601): equal requests must look equal.
 */
static char *
ttl_text(const Interval *ttl)
{
	if (ttl == NULL)
		return NULL;
	return psprintf("P%dM%dDT%s" INT64_FORMAT ".%06dS", ttl->month, ttl->day,
					ttl->time < 0 ? "-" : "",
					(int64) (Abs(ttl->time) / USECS_PER_SEC),
					(int) (Abs(ttl->time) % USECS_PER_SEC));
}

static Refusal *
not_held(const ChainedLine *line, const char *status)
{
	return tb_refusal(TB_CONFLICT,
					  tb_json("account:t hold_key:t status:s", line->account,
							  line->ref, status),
					  "A hold is captured, released or expired once; make a new one.",
					  "hold is %s", status);
}

/*
 * Read the hold, which must be open.  One whose time has run out is expired,
 * whether or not that has been posted yet.
 */
static Refusal *
find_open_hold(const ChainedLine *line, Hold *hold, bool *overdue)
{
	static Statement query = {
		.sql = "SELECT h.amount, h.captured, h.status, h.on_expiry, h.service, h.expires_at, h.extensions"
		" FROM tokenbill.hold h WHERE h.account OPERATOR(pg_catalog.=) $1"
		" AND h.hold_key OPERATOR(pg_catalog.=) $2",
		.nargs = 2, .types = {TEXTOID, TEXTOID}
	};
	Datum		values[7];
	bool		nulls[7];

	values[0] = PointerGetDatum(line->account);
	values[1] = PointerGetDatum(line->ref);
	tb_run(&query, values, NULL);
	if (!tb_row(values, nulls))
		return tb_refusal(TB_NOT_FOUND,
						  tb_json("account:t hold_key:t", line->account,
								  line->ref),
						  "A hold is known by the idempotency key it was made with.",
						  "hold \"%s\" does not exist",
						  text_to_cstring(line->ref));
	hold->amount = DatumGetNumericCopy(values[0]);
	hold->captured = DatumGetNumericCopy(values[1]);
	hold->left = tb_larger(tb_sub(hold->amount, hold->captured), tb_zero());
	hold->status = DatumGetTextPCopy(values[2]);
	hold->on_expiry = DatumGetTextPCopy(values[3]);
	hold->service = nulls[4] ? NULL : DatumGetTextPCopy(values[4]);
	hold->expires_at = DatumGetTimestampTz(values[5]);
	hold->extensions = DatumGetInt32(values[6]);

	if (!tb_text_is(hold->status, "held"))
		return not_held(line, text_to_cstring(hold->status));
	*overdue = hold->expires_at <= tb_now();
	return NULL;
}

/* Write the hold back, moving its state forward from 'held'. */
static void
store_hold(const ChainedLine *line, const Hold *hold, const char *status)
{
	static Statement query = {
		.sql = "UPDATE tokenbill.hold SET amount = $3, captured = $4, status = $5, expires_at = $6,"
		" extensions = $7, updated_at = $8"
		" WHERE account OPERATOR(pg_catalog.=) $1 AND hold_key OPERATOR(pg_catalog.=) $2"
		" AND status OPERATOR(pg_catalog.=) 'held'",
		.nargs = 8, .types = {TEXTOID, TEXTOID, NUMERICOID, NUMERICOID, TEXTOID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID}
	};
	Datum		values[8];

	values[0] = PointerGetDatum(line->account);
	values[1] = PointerGetDatum(line->ref);
	values[2] = NumericGetDatum(hold->amount);
	values[3] = NumericGetDatum(hold->captured);
	values[4] = CStringGetTextDatum(status);
	values[5] = TimestampTzGetDatum(hold->expires_at);
	values[6] = Int32GetDatum(hold->extensions);
	values[7] = TimestampTzGetDatum(line->created_at);
	if (tb_run(&query, values, NULL) != 1)
		elog(ERROR, "hold is not open any more");
}

/*
 * hold()
 */
static Refusal *
judge_hold(Movement *movement, Account *account)
{
	HoldMovement *request = (HoldMovement *) movement;
	Refusal    *refusal = tb_may_be_charged(account);
	Numeric		available;

	if (refusal != NULL)
		return refusal;
	available = tb_available(account);
	if (tb_compare(available, request->hold.amount) < 0)
		return tb_insufficient(account, request->hold.amount, available);

	movement->line.amount = tb_zero();
	movement->line.contra = cstring_to_text("hold");
	movement->line.held = tb_add(account->held, request->hold.amount);
	return tb_check_ttl(request->ttl, tb_now(), &request->hold.expires_at);
}

static void
follow_hold(Movement *movement, Account *account)
{
	static Statement query = {
		.sql = "INSERT INTO tokenbill.hold (account, hold_key, amount, on_expiry, service, expires_at,"
		" created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
		.nargs = 7, .types = {TEXTOID, TEXTOID, NUMERICOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	HoldMovement *request = (HoldMovement *) movement;
	const ChainedLine *line = &movement->line;
	Datum		values[7];
	char		nulls[7];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = PointerGetDatum(line->account);
	values[1] = PointerGetDatum(line->idempotency_key);
	values[2] = NumericGetDatum(request->hold.amount);
	values[3] = PointerGetDatum(request->on_expiry);
	values[4] = PointerGetDatum(line->service);
	nulls[4] = line->service == NULL ? 'n' : ' ';
	values[5] = TimestampTzGetDatum(request->hold.expires_at);
	values[6] = TimestampTzGetDatum(line->created_at);
	tb_run(&query, values, nulls);
}

static Datum
move_and_answer(FunctionCallInfo fcinfo, HoldMovement *request)
{
	Session		session;
	Receipt		receipt;

	tb_enter(fcinfo, &session);
	request->movement.user = session.userid;
	tb_raise(tb_move(&request->movement, &receipt));
	tb_leave(&session);
	return tb_receipt_datum(fcinfo, &receipt);
}

static bool
wait_argument(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		tb_raise(tb_null_argument("wait"));
	return PG_GETARG_BOOL(n);
}

/*
 * hold(account text, amount numeric, idempotency_key text, ttl interval = '10 min',
 *		service text = null, usage jsonb = null, metadata jsonb = null,
 *		on_expiry text = 'release', wait boolean = true) -> receipt
 *		Sets amount aside, or with amount null the price of the estimated usage.
 */
Datum
tokenbill_hold(PG_FUNCTION_ARGS)
{
	HoldMovement request = {0};
	ChainedLine *line = &request.movement.line;
	Session		session;
	Receipt		receipt;
	TimestampTz expires_at = 0;

	line->account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	request.amount = PG_ARGISNULL(1) ? NULL : PG_GETARG_NUMERIC(1);
	line->idempotency_key = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	request.ttl = PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3);
	line->service = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	line->usage = PG_ARGISNULL(5) ? NULL : PG_GETARG_JSONB_P(5);
	line->metadata = PG_ARGISNULL(6) ? NULL : PG_GETARG_JSONB_P(6);
	request.on_expiry = PG_ARGISNULL(7) ? NULL : PG_GETARG_TEXT_PP(7);
	request.movement.wait = wait_argument(fcinfo, 8);

	tb_raise(tb_check_text("account", line->account, TB_MAX_ACCOUNT));
	tb_raise(tb_check_key("idempotency_key", line->idempotency_key));
	tb_raise(tb_check_ttl(request.ttl, tb_now(), &expires_at));
	tb_raise(tb_check_optional_text("service", line->service, TB_MAX_NAME));
	tb_raise(tb_check_metadata("metadata", line->metadata));
	tb_raise(tb_check_choice("on_expiry", request.on_expiry, "release", "charge"));
	if (request.amount != NULL && line->usage != NULL)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "amount"),
							"Pass the amount, or null and a usage to price it from.",
							"amount and usage cannot both be given"));
	if (request.amount != NULL || line->usage == NULL)
		tb_raise(tb_check_amount("amount", request.amount));
	else
		tb_raise(tb_check_text("service", line->service, TB_MAX_NAME));

	line->kind = cstring_to_text("hold");
	line->request = request_json(tb_json("amount:n ttl:s on_expiry:t",
										 request.amount, ttl_text(request.ttl),
										 request.on_expiry));
	request.movement.ref_argument = "ref";
	request.movement.needs_token = true;
	request.movement.judge = judge_hold;
	request.movement.follow = follow_hold;
	request.hold.amount = request.amount;

	tb_enter(fcinfo, &session);
	request.movement.user = session.userid;
	if (request.amount == NULL)
	{
		Rating		rating;

		tb_raise(tb_check_account(line->account, session.userid));
		tb_raise(tb_rate(line->service, line->account, line->usage, tb_now(),
						 &rating));
		request.hold.amount = rating.cost;
		line->rates = rating.rates;
	}
	tb_raise(tb_move(&request.movement, &receipt));
	tb_leave(&session);
	return tb_receipt_datum(fcinfo, &receipt);
}

/*
 * extend_hold()
 */
static Refusal *
judge_extend(Movement *movement, Account *account)
{
	HoldMovement *request = (HoldMovement *) movement;
	ChainedLine *line = &movement->line;
	Hold	   *hold = &request->hold;
	bool		overdue;
	Refusal    *refusal = find_open_hold(line, hold, &overdue);
	Numeric		total;
	Numeric		more;
	Numeric		available;

	if (refusal != NULL)
		return refusal;
	total = request->amount != NULL ? request->amount : hold->amount;

	/*
	 * Without a key of its own, extensions are told apart by their number; one
	 * that changes nothing is the last one again.
	 */
	if (!request->has_key)
	{
		if (request->ttl == NULL && tb_compare(total, hold->amount) == 0)
		{
			movement->any_request = true;
			line->idempotency_key = hold->extensions == 0 ? line->ref :
				derived_key(psprintf("extend:%d", hold->extensions), line->ref);
		}
		else
			line->idempotency_key =
				derived_key(psprintf("extend:%d", hold->extensions + 1), line->ref);
	}

	if (overdue)
		return not_held(line, "expired");
	refusal = tb_may_be_charged(account);
	if (refusal != NULL)
		return refusal;
	if (tb_compare(total, hold->amount) < 0)
		return tb_refusal(TB_CONFLICT,
						  tb_json("account:t hold_key:t was:n now:n",
								  line->account, line->ref, hold->amount,
								  total),
						  "amount is the new total; a hold only grows. Capture less, or release it.",
						  "hold is larger than that already");

	more = tb_sub(tb_larger(tb_sub(total, hold->captured), tb_zero()), hold->left);
	available = tb_available(account);
	if (tb_compare(more, tb_zero()) > 0 && tb_compare(available, more) < 0)
		return tb_insufficient(account, more, available);

	line->amount = tb_zero();
	line->contra = cstring_to_text("hold");
	line->held = tb_add(account->held, more);
	hold->amount = total;
	hold->extensions++;
	if (request->ttl != NULL)
		return tb_check_ttl(request->ttl, tb_now(), &hold->expires_at);
	return NULL;
}

static void
follow_extend(Movement *movement, Account *account)
{
	store_hold(&movement->line, &((HoldMovement *) movement)->hold, "held");
}

/*
 * extend_hold(account text, hold_key text, amount numeric = null,
 *			   ttl interval = null, idempotency_key text = null,
 *			   wait boolean = true) -> receipt
 *		amount is the new total; ttl is counted from now.
 */
Datum
tokenbill_extend_hold(PG_FUNCTION_ARGS)
{
	HoldMovement request = {0};
	ChainedLine *line = &request.movement.line;
	TimestampTz expires_at = 0;

	line->account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	line->ref = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	request.amount = PG_ARGISNULL(2) ? NULL : PG_GETARG_NUMERIC(2);
	request.ttl = PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3);
	line->idempotency_key = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	request.movement.wait = wait_argument(fcinfo, 5);

	tb_raise(tb_check_text("account", line->account, TB_MAX_ACCOUNT));
	tb_raise(tb_check_key("hold_key", line->ref));
	if (request.amount == NULL && request.ttl == NULL)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "amount"),
							"Pass a new total amount, a new ttl, or both.",
							"amount and ttl cannot both be null"));
	if (request.amount != NULL)
		tb_raise(tb_check_amount("amount", request.amount));
	if (request.ttl != NULL)
		tb_raise(tb_check_ttl(request.ttl, tb_now(), &expires_at));
	request.has_key = line->idempotency_key != NULL;
	if (request.has_key)
		tb_raise(tb_check_key("idempotency_key", line->idempotency_key));
	else
		line->idempotency_key = derived_key("extend", line->ref);

	line->kind = cstring_to_text("extend");
	line->request = request_json(tb_json("amount:n ttl:s", request.amount,
										 ttl_text(request.ttl)));
	request.movement.ref_argument = "hold_key";
	request.movement.judge = judge_extend;
	request.movement.follow = follow_extend;
	return move_and_answer(fcinfo, &request);
}

/*
 * capture()
 */
static Refusal *
judge_capture(Movement *movement, Account *account)
{
	HoldMovement *request = (HoldMovement *) movement;
	ChainedLine *line = &movement->line;
	Hold	   *hold = &request->hold;
	bool		overdue;
	Refusal    *refusal = find_open_hold(line, hold, &overdue);
	Numeric		freed;

	if (refusal != NULL)
		return refusal;
	if (overdue)
		return not_held(line, "expired");
	refusal = tb_may_be_charged(account);
	if (refusal != NULL)
		return refusal;

	line->service = request->service != NULL ? request->service : hold->service;
	if (line->usage != NULL)
	{
		Rating		rating;

		refusal = tb_check_text("service", line->service, TB_MAX_NAME);
		if (refusal == NULL)
			refusal = tb_rate(line->service, line->account, line->usage,
							  tb_now(), &rating);
		if (refusal != NULL)
			return refusal;
		request->price = rating.cost;
		line->rates = rating.rates;
	}
	else
		request->price = request->amount != NULL ? request->amount : hold->left;

	if (tb_compare(request->price, hold->left) > 0 &&
		tb_text_is(account->overflow, "refuse"))
		return tb_refusal(TB_INSUFFICIENT,
						  tb_json("account:t hold_key:t required:n available:n shortfall:n",
								  line->account, line->ref, request->price,
								  hold->left, tb_sub(request->price, hold->left)),
						  "Extend the hold first, capture less, or let the account overflow into debt with tokenbill.set_account_policy().",
						  "capture is more than is held");

	freed = request->final ? hold->left : tb_smaller(request->price, hold->left);
	line->amount = tb_negate(request->price);
	line->contra = cstring_to_text("revenue");
	line->held = tb_sub(account->held, freed);
	hold->captured = tb_add(hold->captured, request->price);
	if (account->sandbox)
		tb_sandbox_price(line, request->price);
	return NULL;
}

static void
follow_capture(Movement *movement, Account *account)
{
	HoldMovement *request = (HoldMovement *) movement;

	store_hold(&movement->line, &request->hold,
			   request->final ? "captured" : "held");
}

/*
 * capture(account text, hold_key text, usage jsonb = null, amount numeric = null,
 *		   idempotency_key text = null, final boolean = true, service text = null,
 *		   metadata jsonb = null, wait boolean = true) -> receipt
 *		Charges what was used, and if final frees the rest.
 */
Datum
tokenbill_capture(PG_FUNCTION_ARGS)
{
	HoldMovement request = {0};
	ChainedLine *line = &request.movement.line;

	line->account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	line->ref = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	line->usage = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	request.amount = PG_ARGISNULL(3) ? NULL : PG_GETARG_NUMERIC(3);
	line->idempotency_key = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	request.service = PG_ARGISNULL(6) ? NULL : PG_GETARG_TEXT_PP(6);
	line->metadata = PG_ARGISNULL(7) ? NULL : PG_GETARG_JSONB_P(7);
	request.movement.wait = wait_argument(fcinfo, 8);

	tb_raise(tb_check_text("account", line->account, TB_MAX_ACCOUNT));
	tb_raise(tb_check_key("hold_key", line->ref));
	if (request.amount != NULL && line->usage != NULL)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "amount"),
							"Pass the usage, or the amount, or neither to capture all that is left.",
							"usage and amount cannot both be given"));
	if (request.amount != NULL)
		tb_raise(tb_check_amount("amount", request.amount));
	tb_raise(tb_check_optional_text("service", request.service, TB_MAX_NAME));
	tb_raise(tb_check_metadata("metadata", line->metadata));
	if (PG_ARGISNULL(5))
		tb_raise(tb_null_argument("final"));
	request.final = PG_GETARG_BOOL(5);
	request.has_key = line->idempotency_key != NULL;
	if (request.has_key || !request.final)
		tb_raise(tb_check_key("idempotency_key", line->idempotency_key));
	else
		line->idempotency_key = derived_key("capture", line->ref);

	line->kind = cstring_to_text("capture");
	line->request = request_json(tb_json("amount:n final:b service:t",
										 request.amount, request.final,
										 request.service));
	request.movement.ref_argument = "hold_key";
	request.movement.derives_service = true;
	request.movement.judge = judge_capture;
	request.movement.follow = follow_capture;
	return move_and_answer(fcinfo, &request);
}

/*
 * release()
 */
static Refusal *
judge_release(Movement *movement, Account *account)
{
	Hold	   *hold = &((HoldMovement *) movement)->hold;
	ChainedLine *line = &movement->line;
	bool		overdue;
	Refusal    *refusal = find_open_hold(line, hold, &overdue);

	if (refusal != NULL)
		return refusal;
	/* freeing what expiry would free is as good; escaping its charge is not */
	if (overdue && tb_text_is(hold->on_expiry, "charge"))
		return not_held(line, "expired");

	line->service = hold->service;
	line->amount = tb_zero();
	line->contra = cstring_to_text("hold");
	line->held = tb_sub(account->held, hold->left);
	return NULL;
}

static void
follow_release(Movement *movement, Account *account)
{
	store_hold(&movement->line, &((HoldMovement *) movement)->hold, "released");
}

/*
 * release(account text, hold_key text, wait boolean = true) -> receipt
 */
Datum
tokenbill_release(PG_FUNCTION_ARGS)
{
	HoldMovement request = {0};
	ChainedLine *line = &request.movement.line;

	line->account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	line->ref = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	request.movement.wait = wait_argument(fcinfo, 2);
	tb_raise(tb_check_text("account", line->account, TB_MAX_ACCOUNT));
	tb_raise(tb_check_key("hold_key", line->ref));

	line->kind = cstring_to_text("release");
	line->idempotency_key = derived_key("release", line->ref);
	request.movement.ref_argument = "hold_key";
	request.movement.derives_service = true;
	request.movement.judge = judge_release;
	request.movement.follow = follow_release;
	return move_and_answer(fcinfo, &request);
}

/*
 * Expiry.
 */
static Refusal *
judge_expiry(Movement *movement, Account *account)
{
	HoldMovement *request = (HoldMovement *) movement;
	ChainedLine *line = &movement->line;
	Hold	   *hold = &request->hold;
	bool		overdue;
	Refusal    *refusal = find_open_hold(line, hold, &overdue);

	if (refusal != NULL)
		return refusal;
	if (!overdue)
		return not_held(line, "extended");

	line->service = hold->service;
	line->amount = tb_zero();
	line->contra = cstring_to_text("hold");
	line->held = tb_sub(account->held, hold->left);
	if (tb_text_is(hold->on_expiry, "charge"))
	{
		line->amount = tb_negate(hold->left);
		line->contra = cstring_to_text("revenue");
		if (account->sandbox)
			tb_sandbox_price(line, hold->left);
		hold->captured = tb_add(hold->captured, hold->left);
	}
	return NULL;
}

static void
follow_expiry(Movement *movement, Account *account)
{
	store_hold(&movement->line, &((HoldMovement *) movement)->hold, "expired");
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
	line->idempotency_key = derived_key("expiry", hold_key);
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
		.nargs = 3, .types = {TIMESTAMPTZOID, INT4OID, TEXTOID}
	};
	static Statement of_all = {
		.sql = "SELECT d.account, d.hold_key FROM"
		" (SELECT h.account, h.hold_key, h.expires_at FROM tokenbill.hold h"
		" WHERE h.status OPERATOR(pg_catalog.=) 'held' AND h.expires_at OPERATOR(pg_catalog.<=) $1"
		" ORDER BY h.expires_at LIMIT $2) d"
		" ORDER BY d.account, d.expires_at, d.hold_key",
		.nargs = 2, .types = {TIMESTAMPTZOID, INT4OID}
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
