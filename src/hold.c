/*
 * hold.c
 *	  Hold, extend, release; and what capture.c and expiry.c share with them.
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

#include "burn.h"
#include "check.h"
#include "clock.h"
#include "limit.h"
#include "money.h"
#include "query.h"
#include "rating.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(tokenbill_hold);
PG_FUNCTION_INFO_V1(tokenbill_extend_hold);
PG_FUNCTION_INFO_V1(tokenbill_release);

text *
tb_derived_key(const char *what, const text *hold_key)
{
	return cstring_to_text(psprintf(TB_DERIVED_PREFIX "%s:%s", what,
									text_to_cstring(hold_key)));
}

Jsonb *
tb_request(char *json)
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
	int64		seconds;
	int			micros;

	if (ttl == NULL)
		return NULL;
	seconds = ttl->time / USECS_PER_SEC;
	micros = ttl->time % USECS_PER_SEC;
	return psprintf("P%dM%dDT%s" INT64_FORMAT ".%06dS", ttl->month, ttl->day,
					ttl->time < 0 ? "-" : "",
					seconds < 0 ? -seconds : seconds, abs(micros));
}

Refusal *
tb_not_held(const ChainedLine *line, const char *status)
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
Refusal *
tb_find_open_hold(const ChainedLine *line, Hold *hold, bool *overdue)
{
	static Statement query = {
		.sql = "SELECT h.amount, h.captured, h.status, h.on_expiry, h.service, h.expires_at, h.extensions,"
		" h.metadata, h.tokens, h.reserved"
		" FROM tokenbill.hold h WHERE h.account OPERATOR(pg_catalog.=) $1"
		" AND h.hold_key OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID}
	};
	Datum		values[10];
	bool		nulls[10];

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
	hold->metadata = nulls[7] ? NULL : DatumGetJsonbPCopy(values[7]);
	hold->tokens = DatumGetNumericCopy(values[8]);
	hold->reserved = nulls[9] ? NULL : DatumGetJsonbPCopy(values[9]);

	if (!tb_text_is(hold->status, "held"))
		return tb_not_held(line, text_to_cstring(hold->status));
	*overdue = hold->expires_at <= tb_now();
	return NULL;
}

/*
 * tb_reserve_tokens
 *		Say what a movement changes about the hold that it has found: so many
 *		tokens are left reserved, and perhaps it is over.
 */
void
tb_reserve_tokens(HoldMovement *request, Numeric left, bool closes)
{
	Reserve    *reserve = &request->movement.reserve;
	Hold	   *hold = &request->hold;

	reserve->changes = true;
	reserve->service = hold->service;
	reserve->metadata = hold->metadata;
	reserve->tokens = tb_sub(left, hold->tokens);
	reserve->opened = closes ? -1 : 0;
	hold->tokens = left;
}

/* Write the hold back, moving its state forward from 'held'. */
void
tb_store_hold(const ChainedLine *line, const Hold *hold, const char *status)
{
	static Statement query = {
		.sql = "UPDATE tokenbill.hold SET amount = $3, captured = $4, status = $5, expires_at = $6,"
		" extensions = $7, updated_at = $8, tokens = $9, reserved = $10"
		" WHERE account OPERATOR(pg_catalog.=) $1 AND hold_key OPERATOR(pg_catalog.=) $2"
		" AND status OPERATOR(pg_catalog.=) 'held'",
		.nargs = 10,
		.types = {TEXTOID, TEXTOID, NUMERICOID, NUMERICOID, TEXTOID, TIMESTAMPTZOID,
		INT4OID, TIMESTAMPTZOID, NUMERICOID, JSONBOID}
	};
	Datum		values[10];

	values[0] = PointerGetDatum(line->account);
	values[1] = PointerGetDatum(line->ref);
	values[2] = NumericGetDatum(hold->amount);
	values[3] = NumericGetDatum(hold->captured);
	values[4] = CStringGetTextDatum(status);
	values[5] = TimestampTzGetDatum(hold->expires_at);
	values[6] = Int32GetDatum(hold->extensions);
	values[7] = TimestampTzGetDatum(line->created_at);
	values[8] = NumericGetDatum(hold->tokens);
	values[9] = PointerGetDatum(hold->reserved);
	if (tb_run(&query, values, hold->reserved == NULL ? "         n" : NULL) != 1)
		elog(ERROR, "hold is not open any more");
}

/*
 * hold()
 */
static Refusal *
judge_hold(Movement *movement, Account *account)
{
	HoldMovement *request = (HoldMovement *) movement;
	Refusal    *refusal = request->unrated != NULL ? request->unrated :
		tb_may_be_charged(account);
	Numeric		available;

	if (refusal != NULL)
		return refusal;
	available = tb_spendable(account, movement->line.service);
	if (tb_compare(available, request->hold.amount) < 0)
		return tb_insufficient(account, movement->line.service,
							   request->hold.amount, available);

	movement->line.amount = tb_zero();
	movement->line.contra = cstring_to_text("hold");
	movement->line.held = tb_add(account->held, request->hold.amount);
	request->hold.tokens = tb_line_tokens(movement->line.usage,
										  movement->line.rates);
	movement->reserve.changes = true;
	movement->reserve.service = movement->line.service;
	movement->reserve.metadata = movement->line.metadata;
	movement->reserve.tokens = request->hold.tokens;
	movement->reserve.opened = 1;
	request->hold.reserved = NULL;
	request->hold.left = tb_zero();
	tb_reserve(account, &request->hold, movement->line.service,
			   request->hold.amount);
	return tb_check_ttl(request->ttl, tb_now(), &request->hold.expires_at);
}

static void
follow_hold(Movement *movement, Account *account)
{
	static Statement query = {
		.sql = "INSERT INTO tokenbill.hold (account, hold_key, amount, on_expiry, service, expires_at,"
		" created_at, updated_at, metadata, tokens, reserved) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10)"
		" ON CONFLICT (account, hold_key) DO NOTHING",
		.nargs = 10,
		.types = {TEXTOID, TEXTOID, NUMERICOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		JSONBOID, NUMERICOID, JSONBOID}
	};
	HoldMovement *request = (HoldMovement *) movement;
	const ChainedLine *line = &movement->line;
	Datum		values[10];
	char		nulls[10];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = PointerGetDatum(line->account);
	values[1] = PointerGetDatum(line->idempotency_key);
	values[2] = NumericGetDatum(request->hold.amount);
	values[3] = PointerGetDatum(request->on_expiry);
	values[4] = PointerGetDatum(line->service);
	nulls[4] = line->service == NULL ? 'n' : ' ';
	values[5] = TimestampTzGetDatum(request->hold.expires_at);
	values[6] = TimestampTzGetDatum(line->created_at);
	values[7] = PointerGetDatum(line->metadata);
	nulls[7] = line->metadata == NULL ? 'n' : ' ';
	values[8] = NumericGetDatum(request->hold.tokens);
	values[9] = PointerGetDatum(request->hold.reserved);
	nulls[9] = request->hold.reserved == NULL ? 'n' : ' ';

	/* a key may be used again when its window is over; a hold's name may not */
	if (tb_run(&query, values, nulls) != 1)
		tb_raise(tb_refusal(TB_CONFLICT,
							tb_json("account:t hold_key:t", line->account,
									line->idempotency_key),
							"Holds are kept for ever; give this one another key.",
							"there has been a hold of that key before"));
	tb_wake_by(request->hold.expires_at);
}

Datum
tb_move_hold(FunctionCallInfo fcinfo, HoldMovement *request)
{
	Session		session;
	Receipt		receipt;

	tb_enter(fcinfo, &session);
	request->movement.user = session.userid;
	tb_raise(tb_move(&request->movement, &receipt));
	tb_leave(&session);
	return tb_receipt_datum(fcinfo, &receipt);
}

bool
tb_wait_argument(FunctionCallInfo fcinfo, int n)
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
	request.movement.wait = tb_wait_argument(fcinfo, 8);

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
	line->request = tb_request(tb_json("amount:n ttl:s on_expiry:t",
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
		request.unrated = tb_rate(line->service, line->account, line->usage,
								  tb_now(), false, &rating);
		if (request.unrated != NULL && request.unrated->sqlstate != TB_NOT_FOUND)
			tb_raise(request.unrated);
		line->usage = rating.usage;
		if (request.unrated == NULL)
		{
			request.hold.amount = rating.amount;
			line->rates = rating.rates;
		}
	}
	tb_raise(tb_move(&request.movement, &receipt));
	tb_leave(&session);
	return tb_receipt_datum(fcinfo, &receipt);
}

static text *
extension_key(const text *hold_key, int32 n)
{
	return cstring_to_text(psprintf(TB_DERIVED_PREFIX "extend:%s:%d",
									text_to_cstring(hold_key), n));
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
	Refusal    *refusal = tb_find_open_hold(line, hold, &overdue);
	Numeric		total;
	Numeric		more;
	Numeric		available;

	if (refusal != NULL)
		return refusal;
	total = request->amount != NULL ? request->amount : hold->amount;

	/*
	 * Without a key of its own, extensions are told apart by their number;
	 * one that changes nothing is the last one again.
	 */
	if (!request->has_key)
	{
		if (request->ttl == NULL && tb_compare(total, hold->amount) == 0)
		{
			movement->any_request = true;
			line->idempotency_key = hold->extensions == 0 ? line->ref :
				extension_key(line->ref, hold->extensions);
		}
		else
			line->idempotency_key =
				extension_key(line->ref, hold->extensions + 1);
	}

	if (overdue)
		return tb_not_held(line, "expired");
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
	available = tb_spendable(account, hold->service);
	if (tb_compare(more, tb_zero()) > 0 && tb_compare(available, more) < 0)
		return tb_insufficient(account, hold->service, more, available);
	tb_reserve(account, hold, hold->service, more);

	line->amount = tb_zero();
	line->contra = cstring_to_text("hold");
	line->held = tb_add(account->held, more);
	tb_reserve_tokens(request, hold->tokens, false);
	hold->amount = total;
	hold->extensions++;
	if (request->ttl != NULL)
		return tb_check_ttl(request->ttl, tb_now(), &hold->expires_at);
	return NULL;
}

static void
follow_extend(Movement *movement, Account *account)
{
	Hold	   *hold = &((HoldMovement *) movement)->hold;

	tb_store_hold(&movement->line, hold, "held");
	tb_wake_by(hold->expires_at);
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
	request.movement.wait = tb_wait_argument(fcinfo, 5);

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
		line->idempotency_key = tb_derived_key("extend", line->ref);

	line->kind = cstring_to_text("extend");
	line->request = tb_request(tb_json("amount:n ttl:s", request.amount,
									   ttl_text(request.ttl)));
	request.movement.ref_argument = "hold_key";
	request.movement.judge = judge_extend;
	request.movement.follow = follow_extend;
	return tb_move_hold(fcinfo, &request);
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
	Refusal    *refusal = tb_find_open_hold(line, hold, &overdue);

	if (refusal != NULL)
		return refusal;
	/* freeing what expiry would free is as good; escaping its charge is not */
	if (overdue && tb_text_is(hold->on_expiry, "charge"))
		return tb_not_held(line, "expired");

	line->service = hold->service;
	line->amount = tb_zero();
	line->contra = cstring_to_text("hold");
	line->held = tb_sub(account->held, hold->left);
	tb_reserve_tokens((HoldMovement *) movement, tb_zero(), true);
	tb_free_hold(account, hold);
	return NULL;
}

static void
follow_release(Movement *movement, Account *account)
{
	tb_store_hold(&movement->line, &((HoldMovement *) movement)->hold, "released");
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
	request.movement.wait = tb_wait_argument(fcinfo, 2);
	tb_raise(tb_check_text("account", line->account, TB_MAX_ACCOUNT));
	tb_raise(tb_check_key("hold_key", line->ref));

	line->kind = cstring_to_text("release");
	line->idempotency_key = tb_derived_key("release", line->ref);
	request.movement.ref_argument = "hold_key";
	request.movement.derives_service = true;
	request.movement.judge = judge_release;
	request.movement.follow = follow_release;
	return tb_move_hold(fcinfo, &request);
}
