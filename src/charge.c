/*
 * charge.c
 *	  charge(), charge_tokens() and charge_amount().
 */
#include "charge.h"

#include "burn.h"
#include "check.h"
#include "clock.h"
#include "money.h"
#include "query.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(tokenbill_charge);
PG_FUNCTION_INFO_V1(tokenbill_charge_tokens);
PG_FUNCTION_INFO_V1(tokenbill_charge_amount);

typedef struct Charge
{
	Movement	movement;		/* first, so that one can be taken for the
								 * other */
	Numeric		price;
	Refusal    *unrated;		/* why it could not be priced; a replay need
								 * not be */
	Jsonb	   *unpriced;		/* what it has no price for: in suspense */
	bool		debt;			/* the service has been delivered: charge it
								 * anyhow */
} Charge;

static Refusal *
judge(Movement *movement, Account *account)
{
	Charge	   *charge = (Charge *) movement;
	ChainedLine *line = &movement->line;
	Refusal    *refusal = charge->unrated != NULL ? charge->unrated :
		tb_may_be_charged(account);
	Numeric		available;

	if (unlikely(refusal != NULL))
		return refusal;

	available = tb_spendable(account, line->service);
	if (unlikely(tb_compare(available, charge->price) < 0) && !charge->debt &&
		tb_compare(charge->price, tb_zero()) > 0)
		return tb_insufficient(account, line->service, charge->price, available);

	line->amount = tb_negate(charge->price);
	line->contra = cstring_to_text("revenue");
	if (unlikely(charge->unpriced != NULL))
		tb_suspend(line, charge->unpriced);
	else
		tb_burn(line, account, charge->price);
	if (unlikely(account->sandbox))
		tb_sandbox_price(line, charge->price);
	return NULL;
}

/*
 * tb_charge
 *		Charge an account, or say why not.  Needs SPI.
 *
 * Waits for the account's lock; see movement.c.
 */
Refusal *
tb_charge(const ChargeRequest *request, Oid user, Receipt *receipt)
{
	Charge		charge;
	Rating		rating;
	ChainedLine *line = &charge.movement.line;
	Refusal    *refusal;

	if ((refusal = tb_check_text("account", request->account, TB_MAX_ACCOUNT)) != NULL ||
		(refusal = tb_check_key("idempotency_key", request->idempotency_key)) != NULL ||
		(refusal = tb_check_choice("on_insufficient", request->on_insufficient,
								   "refuse", "debt")) != NULL ||
		(refusal = tb_check_metadata("metadata", request->metadata)) != NULL)
		return refusal;

	memset(&charge, 0, sizeof(charge));
	if (request->by_amount)
	{
		if ((refusal = tb_check_amount("amount", request->amount)) != NULL ||
			(refusal = tb_check_optional_text("service", request->service,
											  TB_MAX_NAME)) != NULL)
			return refusal;
		charge.price = request->amount;
		charge.movement.asked_amount = tb_negate(request->amount);
	}
	else
	{
		if ((refusal = tb_check_text("service", request->service,
									 TB_MAX_NAME)) != NULL)
			return refusal;
		refusal = tb_rate(request->service, request->account, request->usage,
						  tb_now(), true, &rating);
		if (unlikely(refusal != NULL))
		{
			/* what has no price may have had one, and have been charged */
			if (refusal->sqlstate != TB_NOT_FOUND)
				return refusal;
			charge.unrated = refusal;
			charge.price = tb_zero();
		}
		else
		{
			charge.price = rating.amount;
			charge.unpriced = rating.unpriced;
			line->rates = rating.rates;
			line->cost = rating.cost;
		}
		line->usage = rating.usage;
	}

	line->account = request->account;
	line->kind = cstring_to_text("charge");
	line->service = request->service;
	line->metadata = request->metadata;
	line->idempotency_key = request->idempotency_key;
	charge.movement.ref_argument = "ref";
	charge.movement.wait = request->wait;
	charge.movement.needs_token = true;
	charge.movement.at_once = true;
	charge.movement.user = user;
	charge.movement.judge = judge;
	charge.debt = tb_text_is(request->on_insufficient, "debt");
	charge.movement.delivered = charge.debt;

	return tb_move(&charge.movement, receipt);
}

/*
 * tb_token_usage
 *		The usage of a number of tokens that are all priced alike.
 */
Jsonb *
tb_token_usage(int64 tokens)
{
	JsonbParseState *state = NULL;
	JsonbValue	v;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	v.type = jbvString;
	v.val.string.val = "tokens";
	v.val.string.len = strlen("tokens");
	pushJsonbValue(&state, WJB_KEY, &v);
	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric(tokens);
	pushJsonbValue(&state, WJB_VALUE, &v);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static Datum
charge_and_answer(FunctionCallInfo fcinfo, ChargeRequest *request)
{
	Session		session;
	Receipt		receipt;

	tb_enter(fcinfo, &session);
	tb_raise(tb_charge(request, session.userid, &receipt));
	tb_leave(&session);
	return tb_receipt_datum(fcinfo, &receipt);
}

/* The last three arguments are the same for all; they begin at "from". */
static void
common_arguments(FunctionCallInfo fcinfo, int from, ChargeRequest *request)
{
	request->on_insufficient = PG_ARGISNULL(from) ? NULL : PG_GETARG_TEXT_PP(from);
	request->metadata = PG_ARGISNULL(from + 1) ? NULL : PG_GETARG_JSONB_P(from + 1);
	if (PG_ARGISNULL(from + 2))
		tb_raise(tb_null_argument("wait"));
	request->wait = PG_GETARG_BOOL(from + 2);
}

/*
 * charge(account text, service text, usage jsonb, idempotency_key text,
 *		  on_insufficient text = 'refuse', metadata jsonb = null,
 *		  wait boolean = true) -> receipt
 *		Locks the account's row until the transaction ends.
 */
Datum
tokenbill_charge(PG_FUNCTION_ARGS)
{
	ChargeRequest request = {0};

	request.account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	request.service = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	request.usage = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	request.idempotency_key = PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3);
	common_arguments(fcinfo, 4, &request);
	return charge_and_answer(fcinfo, &request);
}

/*
 * charge_tokens(account text, service text, tokens bigint, idempotency_key text,
 *				 on_insufficient text = 'refuse', metadata jsonb = null,
 *				 wait boolean = true) -> receipt
 *		charge() with usage {"tokens": tokens}.
 */
Datum
tokenbill_charge_tokens(PG_FUNCTION_ARGS)
{
	ChargeRequest request = {0};

	request.account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	request.service = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	if (PG_ARGISNULL(2))
		tb_raise(tb_null_argument("tokens"));
	if (PG_GETARG_INT64(2) < 0)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "tokens"),
							"Use refund() to give something back.",
							"tokens must not be negative"));
	if (PG_GETARG_INT64(2) >= TB_COUNT_BOUND)
		tb_raise(tb_refusal(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
							tb_json("argument:s", "tokens"),
							"Counts are less than 10^15.",
							"tokens is too large"));
	request.usage = tb_token_usage(PG_GETARG_INT64(2));
	request.idempotency_key = PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3);
	common_arguments(fcinfo, 4, &request);
	return charge_and_answer(fcinfo, &request);
}

/*
 * charge_amount(account text, amount numeric, idempotency_key text,
 *				 service text = null, on_insufficient text = 'refuse',
 *				 metadata jsonb = null, wait boolean = true) -> receipt
 *		amount is positive, in the account's currency.
 */
Datum
tokenbill_charge_amount(PG_FUNCTION_ARGS)
{
	ChargeRequest request = {0};

	request.by_amount = true;
	request.account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	request.amount = PG_ARGISNULL(1) ? NULL : PG_GETARG_NUMERIC(1);
	request.idempotency_key = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	request.service = PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3);
	common_arguments(fcinfo, 4, &request);
	return charge_and_answer(fcinfo, &request);
}
