/*
 * refund.c
 *	  Money that goes back: refund().
 */
#include "burn.h"
#include "check.h"
#include "ledger.h"
#include "money.h"
#include "query.h"
#include "reprice.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(tokenbill_refund);

typedef struct Refund
{
	Movement	movement;		/* first, so that one can be taken for the
								 * other */
	Numeric		amount;			/* asked for; null: all that is left */
	ChainedLine charge;
	int64		charge_seq;
	Numeric		refunded;		/* of the charge, with this refund */
} Refund;

/* How much of a charge has come back so far. */
static Numeric
refunded_so_far(const ChainedLine *charge)
{
	static Statement query = {
		.sql = "SELECT r.refunded FROM tokenbill.charge_refund r"
		" WHERE r.account OPERATOR(pg_catalog.=) $1 AND r.charge_seq OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.types = {TEXTOID, INT8OID}
	};
	Datum		values[2];
	bool		nulls[2];

	values[0] = PointerGetDatum(charge->account);
	values[1] = Int64GetDatum(charge->seq);
	tb_run(&query, values, NULL);
	return tb_row(values, nulls) ? DatumGetNumericCopy(values[0]) : tb_zero();
}

static Refusal *
judge_refund(Movement *movement, Account *account)
{
	Refund	   *request = (Refund *) movement;
	ChainedLine *line = &movement->line;
	Refusal    *refusal = tb_may_be_credited(account);
	Receipt		charge;
	Datum		values[TB_RECEIPT_COLUMNS];
	bool		nulls[TB_RECEIPT_COLUMNS];
	Numeric		charged;
	Numeric		before;
	Numeric		left;
	Numeric		amount;
	JsonbValue	seq;

	if (refusal != NULL)
		return refusal;
	if (!tb_find_line(line->account, line->ref, &charge.line) ||
		!(tb_text_is(charge.line.kind, "charge") ||
		  tb_text_is(charge.line.kind, "capture") ||
		  (tb_text_is(charge.line.kind, "expiry") &&
		   !tb_is_credit_expiry(&charge.line))))
		return tb_refusal(TB_NOT_FOUND,
						  tb_json("account:t charge_key:t", line->account,
								  line->ref),
						  "A charge or capture is known by its idempotency key; those of dropped months cannot be refunded.",
						  "charge \"%s\" does not exist",
						  text_to_cstring(line->ref));

	/* what it cost: for a sandbox account that is not what it paid */
	charge.currency = account->currency;
	charge.replayed = false;
	tb_receipt_values(&charge, values, nulls);
	charged = tb_add(DatumGetNumeric(values[13]),
					 tb_charged_since(line->account, charge.line.seq));
	before = refunded_so_far(&charge.line);
	left = tb_sub(charged, before);
	amount = request->amount != NULL ? request->amount : left;
	if (tb_compare(amount, left) > 0 || tb_compare(amount, tb_zero()) <= 0)
		return tb_refusal(TB_CONFLICT,
						  tb_json("account:t charge_key:t charged:n refunded:n refundable:n requested:n",
								  line->account, line->ref, charged, before,
								  left, request->amount),
						  "Refund at most what is left of the charge.",
						  "refund is more than is left of the charge");

	request->charge = charge.line;
	movement->refunded = &request->charge;
	movement->refunded_before = before;
	request->charge_seq = charge.line.seq;
	request->refunded = tb_add(before, amount);
	line->service = charge.line.service;
	line->amount = amount;
	line->contra = tb_text_is(charge.line.contra, "suspense") ?
		cstring_to_text("revenue") : charge.line.contra;
	seq.type = jbvNumeric;
	seq.val.numeric = int64_to_numeric(charge.line.seq);
	tb_keep_in_request(line, "charge_seq", &seq);
	tb_return(line, account, charge.line.seq, before, amount);
	if (account->sandbox)
		tb_sandbox_price(line, amount);
	return NULL;
}

static void
follow_refund(Movement *movement, Account *account)
{
	static Statement query = {
		.sql = "INSERT INTO tokenbill.charge_refund AS r (account, charge_seq, charge_key, refunded)"
		" VALUES ($1, $2, $3, $4)"
		" ON CONFLICT (account, charge_seq) DO UPDATE SET refunded = excluded.refunded",
		.nargs = 4,
		.types = {TEXTOID, INT8OID, TEXTOID, NUMERICOID}
	};
	const ChainedLine *line = &movement->line;
	const Refund *refund = (const Refund *) movement;
	Datum		values[4];

	values[0] = PointerGetDatum(line->account);
	values[1] = Int64GetDatum(refund->charge_seq);
	values[2] = PointerGetDatum(line->ref);
	values[3] = NumericGetDatum(refund->refunded);
	tb_run(&query, values, NULL);
}

/*
 * refund(account text, charge_key text, idempotency_key text, amount numeric = null,
 *		  reason text = null, metadata jsonb = null, wait boolean = true) -> receipt
 *		Gives back amount of a charge, or all that is left of it.
 */
Datum
tokenbill_refund(PG_FUNCTION_ARGS)
{
	Refund		request = {0};
	ChainedLine *line = &request.movement.line;
	text	   *reason = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	Session		session;
	Receipt		receipt;

	line->account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	line->ref = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	line->idempotency_key = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	request.amount = PG_ARGISNULL(3) ? NULL : PG_GETARG_NUMERIC(3);
	line->metadata = PG_ARGISNULL(5) ? NULL : PG_GETARG_JSONB_P(5);

	tb_raise(tb_check_text("account", line->account, TB_MAX_ACCOUNT));
	/* a capture's key may be one that tokenbill derived */
	tb_raise(tb_check_text("charge_key", line->ref, 2 * TB_MAX_NAME));
	tb_raise(tb_check_key("idempotency_key", line->idempotency_key));
	if (request.amount != NULL)
		tb_raise(tb_check_amount("amount", request.amount));
	tb_raise(tb_check_optional_text("reason", reason, TB_MAX_NAME));
	tb_raise(tb_check_metadata("metadata", line->metadata));
	if (PG_ARGISNULL(6))
		tb_raise(tb_null_argument("wait"));
	request.movement.wait = PG_GETARG_BOOL(6);

	line->kind = cstring_to_text("refund");
	line->request = tb_request(tb_json("amount:n reason:t", request.amount,
									   reason));
	request.movement.ref_argument = "charge_key";
	request.movement.derives_service = true;
	request.movement.judge = judge_refund;
	request.movement.follow = follow_refund;

	tb_enter(fcinfo, &session);
	request.movement.user = session.userid;
	tb_raise(tb_move(&request.movement, &receipt));
	tb_leave(&session);
	return tb_receipt_datum(fcinfo, &receipt);
}
