/*
 * capture.c
 *	  capture(): charge what was used of a hold.
 *
 * It may be done in parts, until the final one; the price may be more than what
 * is left, if the account's overflow policy lets it go into debt.
 */
#include "burn.h"

#include "check.h"
#include "clock.h"
#include "limit.h"
#include "money.h"
#include "rating.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(tokenbill_capture);

static Refusal *
judge_capture(Movement *movement, Account *account)
{
	HoldMovement *request = (HoldMovement *) movement;
	ChainedLine *line = &movement->line;
	Hold	   *hold = &request->hold;
	bool		overdue;
	Refusal    *refusal = tb_find_open_hold(line, hold, &overdue);
	Numeric		usable;
	Numeric		freed;
	Numeric		left;
	Jsonb	   *unpriced = NULL;

	if (refusal != NULL)
		return refusal;
	if (overdue)
		return tb_not_held(line, "expired");
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
							  tb_now(), true, &rating);
		if (refusal != NULL)
			return refusal;
		line->usage = rating.usage;
		request->price = rating.amount;
		line->rates = rating.rates;
		line->cost = rating.cost;
		unpriced = rating.unpriced;
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

	/* credits that the hold has reserved may not pay for another service */
	usable = tb_hold_usable(account, hold, line->service);
	if (unlikely(tb_compare(usable, hold->left) < 0) &&
		tb_text_is(account->overflow, "refuse"))
	{
		Numeric		needed = tb_sub(request->price, usable);
		Numeric		available = tb_spendable(account, line->service);

		if (tb_compare(needed, available) > 0)
			return tb_insufficient(account, line->service, request->price,
								   tb_add(usable, available));
	}

	freed = request->final ? hold->left : tb_smaller(request->price, hold->left);
	line->amount = tb_negate(request->price);
	line->contra = cstring_to_text("revenue");
	if (unpriced != NULL)
		tb_suspend(line, unpriced);
	line->held = tb_sub(account->held, freed);
	tb_burn_hold(line, account, hold, request->price, request->final);
	hold->captured = tb_add(hold->captured, request->price);
	left = request->final ? tb_zero() :
		tb_sub(hold->tokens, tb_line_tokens(line->usage, line->rates));
	tb_reserve_tokens(request, tb_larger(left, tb_zero()), request->final);
	if (account->sandbox)
		tb_sandbox_price(line, request->price);
	return NULL;
}

static void
follow_capture(Movement *movement, Account *account)
{
	HoldMovement *request = (HoldMovement *) movement;

	tb_store_hold(&movement->line, &request->hold,
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
	request.movement.wait = tb_wait_argument(fcinfo, 8);

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
		line->idempotency_key = tb_derived_key("capture", line->ref);

	line->kind = cstring_to_text("capture");
	line->request = tb_request(tb_json("amount:n final:b service:t",
									   request.amount, request.final,
									   request.service));
	request.movement.ref_argument = "hold_key";
	request.movement.derives_service = true;
	request.movement.derives_usage = true;
	request.movement.judge = judge_capture;
	request.movement.follow = follow_capture;
	return tb_move_hold(fcinfo, &request);
}
