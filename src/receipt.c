/*
 * receipt.c
 *	  The answer of a money function, made from the ledger line it is about.
 *
 * Everything in it is in the line, so a replayed receipt is the first one again.
 */
#include "receipt.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "check.h"
#include "credit.h"
#include "funcapi.h"
#include "money.h"
#include "movement.h"
#include "refusal.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/* The hold a line is about: its own key if it made one, else what it refers to. */
static text *
hold_key(const ChainedLine *line)
{
	if (tb_text_is(line->kind, "hold"))
		return line->idempotency_key;
	if (tb_is_credit_expiry(line))
		return NULL;
	if (tb_text_is(line->kind, "extend") || tb_text_is(line->kind, "capture") ||
		tb_text_is(line->kind, "release") || tb_text_is(line->kind, "expiry"))
		return line->ref;
	return NULL;
}

/* What the line's usage costs: more than its amount for a sandbox account. */
static Numeric
price_of(const ChainedLine *line)
{
	Numeric		price = tb_sandbox_price_of(line);

	if (price != NULL)
		return price;
	if (tb_text_is(line->kind, "charge") || tb_text_is(line->kind, "capture") ||
		(tb_text_is(line->kind, "expiry") && !tb_is_credit_expiry(line)))
		return tb_negate(line->amount);
	return NULL;
}

static Numeric
available(const ChainedLine *line)
{
	return tb_sub(tb_add(line->balance, line->credit_limit), line->held);
}

/*
 * tb_receipt_values
 *		The columns of the type tokenbill.receipt, TB_RECEIPT_COLUMNS of them.
 */
void
tb_receipt_values(const Receipt *receipt, Datum *values, bool *nulls)
{
	const ChainedLine *line = &receipt->line;
	text	   *key = hold_key(line);
	Numeric		price = price_of(line);

	memset(nulls, false, sizeof(bool) * TB_RECEIPT_COLUMNS);
	values[0] = PointerGetDatum(line->account);
	values[1] = Int64GetDatum(line->seq);
	values[2] = PointerGetDatum(line->kind);
	values[3] = PointerGetDatum(line->service);
	nulls[3] = line->service == NULL;
	values[4] = NumericGetDatum(line->amount);
	values[5] = NumericGetDatum(line->balance);
	values[6] = NumericGetDatum(available(line));
	values[7] = PointerGetDatum(receipt->currency);
	values[8] = PointerGetDatum(line->idempotency_key);
	values[9] = PointerGetDatum(key);
	nulls[9] = key == NULL;
	values[10] = BoolGetDatum(receipt->replayed);
	values[11] = TimestampTzGetDatum(line->created_at);
	values[12] = NumericGetDatum(line->held);
	values[13] = NumericGetDatum(price);
	nulls[13] = price == NULL;
	values[14] = PointerGetDatum(line->ref);
	nulls[14] = line->ref == NULL;
}

/*
 * tb_composite
 *		A value of the composite type that the function being called returns.
 */
Datum
tb_composite(FunctionCallInfo fcinfo, Datum *values, bool *nulls, int natts)
{
	Oid			type = get_fn_expr_rettype(fcinfo->flinfo);
	TupleDesc	desc;
	HeapTuple	tuple;

	if (!OidIsValid(type))
		type = get_func_rettype(fcinfo->flinfo->fn_oid);
	desc = lookup_rowtype_tupdesc(type, -1);
	if (desc->natts != natts)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tokenbill's library and its SQL objects are of different versions"),
				 errhint("Run ALTER EXTENSION tokenbill UPDATE.")));
	tuple = heap_form_tuple(desc, values, nulls);
	ReleaseTupleDesc(desc);
	return HeapTupleGetDatum(tuple);
}

/*
 * tb_receipt_datum
 *		The receipt as the result of the function being called.
 */
Datum
tb_receipt_datum(FunctionCallInfo fcinfo, const Receipt *receipt)
{
	Datum		values[TB_RECEIPT_COLUMNS];
	bool		nulls[TB_RECEIPT_COLUMNS];

	tb_receipt_values(receipt, values, nulls);
	return tb_composite(fcinfo, values, nulls, TB_RECEIPT_COLUMNS);
}

/*
 * tb_receipt_json
 *		The receipt as JSON, for the DETAIL of an error.
 */
char *
tb_receipt_json(const Receipt *receipt)
{
	const ChainedLine *line = &receipt->line;
	char		created_at[MAXDATELEN + 1];

	JsonEncodeDateTime(created_at, TimestampTzGetDatum(line->created_at),
					   TIMESTAMPTZOID, NULL);
	return tb_json("account:t seq:i kind:t service:t amount:n balance:n available:n"
				   " currency:t idempotency_key:t hold_key:t replayed:b created_at:s"
				   " held:n price:n ref:t",
				   line->account, line->seq, line->kind, line->service,
				   line->amount, line->balance, available(line),
				   receipt->currency, line->idempotency_key, hold_key(line),
				   receipt->replayed, created_at, line->held, price_of(line),
				   line->ref);
}
