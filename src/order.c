/*
 * order.c
 *	  recharge(): orders of money, each under a number that is unique for ever.
 *
 *	  init -> success			(without a gateway: the money is there already)
 *
 * The other states, and the moves between them, stand at the table.
 *
 * Order numbers are unique over all accounts, which no account's lock can see to:
 * the unique index on order_no does.  Two calls at once with one number wait for
 * each other there, whatever accounts they name; for one account they wait at its
 * row before, so that one who has the account locked is never waited for by one
 * who has the order.
 */
#include "account.h"
#include "catalog/pg_collation.h"
#include "check.h"
#include "clock.h"
#include "idempotency.h"
#include "ledger.h"
#include "money.h"
#include "month.h"
#include "movement.h"
#include "query.h"
#include "tenant.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(tokenbill_recharge);

/* The order's columns, and replayed, seq, balance, available */
#define ORDER_COLUMNS 14
#define RECHARGE_COLUMNS (ORDER_COLUMNS + 4)

typedef struct Recharge
{
	Movement	movement;		/* first, so that one can be taken for the
								 * other */
	Numeric		amount;
	text	   *order_no;
	text	   *gateway;
	text	   *payment_method;
	int32		priority;
} Recharge;

static Refusal *
judge_recharge(Movement *movement, Account *account)
{
	ChainedLine *line = &movement->line;

	line->amount = movement->asked_amount;
	line->contra = cstring_to_text(account->sandbox ? "sandbox" : "cash:manual");
	return tb_may_be_credited(account);
}

/*
 * Insert the order in its first state; false if the number is taken, after
 * waiting for whoever is about to take it.
 */
static bool
insert_order(const Recharge *recharge)
{
	static Statement query = {
		.sql = "INSERT INTO tokenbill.recharge_order (account, order_no, amount, currency, status,"
		" payment_method, priority, metadata, created_at, updated_at)"
		" SELECT $1, $2, $3, a.currency, 'init', $4, $5, $6, $7, $7"
		" FROM tokenbill.account a WHERE a.account OPERATOR(pg_catalog.=) $1"
		" ON CONFLICT (order_no) DO NOTHING",
		.nargs = 7,
		.types = {TEXTOID, TEXTOID, NUMERICOID, TEXTOID, INT4OID, JSONBOID, TIMESTAMPTZOID}
	};
	Datum		values[7];
	char		nulls[7];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = PointerGetDatum(recharge->movement.line.account);
	values[1] = PointerGetDatum(recharge->order_no);
	values[2] = NumericGetDatum(recharge->amount);
	values[3] = PointerGetDatum(recharge->payment_method);
	nulls[3] = recharge->payment_method == NULL ? 'n' : ' ';
	values[4] = Int32GetDatum(recharge->priority);
	values[5] = PointerGetDatum(recharge->movement.line.metadata);
	nulls[5] = recharge->movement.line.metadata == NULL ? 'n' : ' ';
	values[6] = TimestampTzGetDatum(tb_now());
	return tb_run(&query, values, nulls) == 1;
}

static void
follow_recharge(Movement *movement, Account *account)
{
	static Statement query = {
		.sql = "UPDATE tokenbill.recharge_order SET status = 'success', updated_at = $3"
		" WHERE account OPERATOR(pg_catalog.=) $1 AND order_no OPERATOR(pg_catalog.=) $2"
		" AND status OPERATOR(pg_catalog.=) 'init'",
		.nargs = 3,
		.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID}
	};
	Datum		values[3];

	values[0] = PointerGetDatum(movement->line.account);
	values[1] = PointerGetDatum(((Recharge *) movement)->order_no);
	values[2] = TimestampTzGetDatum(movement->line.created_at);
	if (tb_run(&query, values, NULL) != 1)
		elog(ERROR, "recharge order is not new any more");
}

/* Read the order of this number, whoever's it is. */
static bool
find_order(const text *order_no, Datum *values, bool *nulls)
{
	static Statement query = {
		.sql = "SELECT o.account, o.order_no, o.amount, o.currency, o.status, o.gateway,"
		" o.payment_method, o.gateway_ref, o.failure_code, o.attempts, o.priority,"
		" o.metadata, o.created_at, o.updated_at"
		" FROM tokenbill.recharge_order o WHERE o.order_no OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID}
	};
	static const bool by_value[ORDER_COLUMNS] = {
		[9] = true,[10] = true,[12] = true,[13] = true
	};
	Datum		args[1];

	args[0] = PointerGetDatum(order_no);
	tb_run(&query, args, NULL);
	if (!tb_row(values, nulls))
		return false;
	for (int i = 0; i < ORDER_COLUMNS; i++)
	{
		/* every column that is not by value is a varlena */
		if (!nulls[i] && !by_value[i])
			values[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(values[i]));
	}
	return true;
}

static Refusal *
other_order(const Recharge *recharge, const char *argument, const char *was,
			const char *now)
{
	return tb_refusal(TB_CONFLICT,
					  tb_json("account:t order_no:t argument:s was:j now:j",
							  recharge->movement.line.account,
							  recharge->order_no, argument, was, now),
					  "An order number is used once, for ever; give this order another.",
					  "order number was used with another %s", argument);
}

/*
 * The number has been used: for this order?
 */
static Refusal *
same_order(const Recharge *recharge, Datum *values, bool *nulls)
{
	const ChainedLine *line = &recharge->movement.line;
	text	   *account = DatumGetTextPP(values[0]);
	Numeric		amount = DatumGetNumeric(values[2]);
	text	   *method = nulls[6] ? NULL : DatumGetTextPP(values[6]);
	int32		priority = DatumGetInt32(values[10]);
	Jsonb	   *metadata = nulls[11] ? NULL : DatumGetJsonbP(values[11]);

	if (!tb_same_text(account, line->account))
		return other_order(recharge, "account",
						   tb_visible_to(account, recharge->movement.user) ?
						   tb_json_string(account) : "null",
						   tb_json_string(line->account));
	if (tb_compare(amount, recharge->amount) != 0)
		return other_order(recharge, "amount",
						   tb_print(amount), tb_print(recharge->amount));
	if (!tb_same_text(method, recharge->payment_method))
		return other_order(recharge, "payment_method", tb_json_string(method),
						   tb_json_string(recharge->payment_method));
	if (priority != recharge->priority)
		return other_order(recharge, "priority", psprintf("%d", priority),
						   psprintf("%d", recharge->priority));
	if (!tb_same_jsonb(metadata, line->metadata))
		return other_order(recharge, "metadata", tb_json_document(metadata),
						   tb_json_document(line->metadata));
	return NULL;
}

/*
 * Carry the order out, or find it again.  The line may be in a month that has
 * been dropped: the order is for ever, the line is not.
 */
static Refusal *
recharge_once(Recharge *recharge, Datum *values, bool *nulls)
{
	ChainedLine *line = &recharge->movement.line;
	Receipt		receipt;
	Refusal    *refusal;
	bool		is_new;
	bool		has_line = true;
	Account		account;

	refusal = tb_check_account(line->account, recharge->movement.user);
	if (refusal != NULL)
		return refusal;
	if (tb_claim_key(cstring_to_text(""), recharge->order_no,
					 recharge->movement.wait) != NULL)
		return tb_refusal(TB_IN_PROGRESS,
						  tb_json("account:t order_no:t", line->account,
								  recharge->order_no),
						  "Ask again in a moment: you will get the order, or be free to make it.",
						  "an order of this number is in progress");

	/* the account first: it is what a transaction may have locked already */
	tb_open_month(tb_now());
	if (!tb_lock_account(line->account, &account))
		return tb_no_account(line->account);
	is_new = insert_order(recharge);
	if (is_new)
	{
		refusal = tb_move(&recharge->movement, &receipt);
		if (refusal != NULL)
			return refusal;
	}
	if (!find_order(recharge->order_no, values, nulls))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the order of an order number cannot be seen"),
				 errhint("Try the transaction again.")));
	if (!is_new)
	{
		refusal = same_order(recharge, values, nulls);
		if (refusal != NULL)
			return refusal;
		has_line = tb_find_line(line->account, line->idempotency_key,
								&receipt.line);
	}

	values[14] = BoolGetDatum(!is_new);
	nulls[14] = false;
	nulls[15] = nulls[16] = nulls[17] = !has_line;
	if (has_line)
	{
		values[15] = Int64GetDatum(receipt.line.seq);
		values[16] = NumericGetDatum(receipt.line.balance);
		values[17] = NumericGetDatum(tb_sub(tb_add(receipt.line.balance,
												   receipt.line.credit_limit),
											receipt.line.held));
	}
	return NULL;
}

/*
 * recharge(account text, amount numeric, order_no text, gateway text = null,
 *			payment_method text = null, priority integer = 0,
 *			metadata jsonb = null, wait boolean = true) -> recharge_receipt
 *		Credits money that has been received.
 */
Datum
tokenbill_recharge(PG_FUNCTION_ARGS)
{
	Recharge	recharge = {0};
	ChainedLine *line = &recharge.movement.line;
	Session		session;
	Datum		values[RECHARGE_COLUMNS];
	bool		nulls[RECHARGE_COLUMNS];

	line->account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	recharge.amount = PG_ARGISNULL(1) ? NULL : PG_GETARG_NUMERIC(1);
	recharge.order_no = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	recharge.gateway = PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3);
	recharge.payment_method = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	line->metadata = PG_ARGISNULL(6) ? NULL : PG_GETARG_JSONB_P(6);

	tb_raise(tb_check_text("account", line->account, TB_MAX_ACCOUNT));
	tb_raise(tb_check_amount("amount", recharge.amount));
	tb_raise(tb_check_key("order_no", recharge.order_no));
	tb_raise(tb_check_optional_text("gateway", recharge.gateway, 64));
	tb_raise(tb_check_optional_text("payment_method", recharge.payment_method,
									TB_MAX_NAME));
	tb_raise(tb_check_metadata("metadata", line->metadata));
	if (PG_ARGISNULL(5))
		tb_raise(tb_null_argument("priority"));
	recharge.priority = PG_GETARG_INT32(5);
	if (PG_ARGISNULL(7))
		tb_raise(tb_null_argument("wait"));
	recharge.movement.wait = PG_GETARG_BOOL(7);
	if (recharge.gateway != NULL)
		tb_raise(tb_refusal(ERRCODE_FEATURE_NOT_SUPPORTED,
							tb_json("argument:s", "gateway"),
							"Collect the money yourself and record it with gateway null.",
							"recharging through a gateway is not supported yet"));

	line->kind = cstring_to_text("recharge");
	line->ref = recharge.order_no;
	line->idempotency_key = cstring_to_text(psprintf(TB_DERIVED_PREFIX "order:%s",
													 text_to_cstring(recharge.order_no)));
	recharge.movement.asked_amount = recharge.amount;
	recharge.movement.ref_argument = "order_no";
	recharge.movement.judge = judge_recharge;
	recharge.movement.follow = follow_recharge;

	tb_enter(fcinfo, &session);
	recharge.movement.user = session.userid;
	tb_raise(recharge_once(&recharge, values, nulls));
	tb_leave(&session);
	return tb_composite(fcinfo, values, nulls, RECHARGE_COLUMNS);
}
