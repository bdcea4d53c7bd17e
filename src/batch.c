/*
 * batch.c
 *	  charge_batch(): many charges in one statement.
 *
 * Items are carried out account by account, in the order of the accounts' names,
 * so that two batches over the same accounts wait for each other and do not
 * deadlock; within an account, and in the answer, they keep the order they came
 * in.  A refusal is a value, so an item needs no subtransaction, unless a function
 * counts one of its meters; an error that is none (a serialization failure, a full
 * disk) ends the whole batch.
 */
#include "charge.h"

#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "check.h"
#include "counter.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "measure.h"
#include "miscadmin.h"
#include "query.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(tokenbill_charge_batch);

#define MAX_ITEMS 10000

/* item, the receipt, and sqlstate, message, detail, hint */
#define BATCH_COLUMNS (1 + TB_RECEIPT_COLUMNS + 4)

typedef struct BatchItem
{
	int			number;			/* from 1, as it came */
	ChargeRequest request;
	Refusal    *refusal;		/* of the request as it is written */
	MinimalTuple answer;
} BatchItem;

static Refusal *
bad_member(const char *name, const char *problem)
{
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s", name),
					  "Items are objects with the arguments of charge(), charge_tokens() or charge_amount().",
					  "%s %s", name, problem);
}

static Refusal *
text_member(const JsonbValue *value, const char *name, text **result)
{
	if (value->type == jbvNull)
		return NULL;
	if (value->type != jbvString)
		return bad_member(name, "must be a string");
	*result = cstring_to_text_with_len(value->val.string.val,
									   value->val.string.len);
	return NULL;
}

/* More digits than an amount can have, with its sign and point. */
#define MAX_AMOUNT_DIGITS 100

/*
 * An amount: a JSON number, or a string of digits, for the many JSON writers that
 * make floating point of every number.  What looks like one here is one to
 * numeric_in(), so that cannot fail.
 */
static Refusal *
amount_member(const JsonbValue *value, const char *name, Numeric *amount)
{
	const char *s = value->val.string.val;
	int			len = value->val.string.len;
	int			digits = 0;
	bool		point = false;

	if (value->type == jbvNumeric)
	{
		*amount = value->val.numeric;
		return NULL;
	}
	if (value->type != jbvString || len > MAX_AMOUNT_DIGITS)
		return bad_member(name, "must be a number, or a string that is one");
	for (int i = 0; i < len; i++)
	{
		if (s[i] >= '0' && s[i] <= '9')
			digits++;
		else if (s[i] == '.' && !point)
			point = true;
		else if (s[i] != '-' || i > 0)
			digits = -MAX_AMOUNT_DIGITS;
	}
	if (digits <= 0)
		return bad_member(name, "must be a number, or a string that is one");
	*amount = DatumGetNumeric(DirectFunctionCall3(numeric_in,
												  CStringGetDatum(pnstrdup(s, len)),
												  ObjectIdGetDatum(InvalidOid),
												  Int32GetDatum(-1)));
	return NULL;
}

/*
 * One member of an item: an argument by its name.  Those that are not known are
 * refused, not ignored: a misspelt "on_insufficient" would cost money.
 */
static Refusal *
take_member(const JsonbValue *key, JsonbValue *value, ChargeRequest *request)
{
	char	   *name = pnstrdup(key->val.string.val, key->val.string.len);

	if (strcmp(name, "account") == 0)
		return text_member(value, name, &request->account);
	if (strcmp(name, "service") == 0)
		return text_member(value, name, &request->service);
	if (strcmp(name, "idempotency_key") == 0)
		return text_member(value, name, &request->idempotency_key);
	if (strcmp(name, "on_insufficient") == 0)
		return text_member(value, name, &request->on_insufficient);
	if (strcmp(name, "usage") == 0)
	{
		if (value->type != jbvNull)
			request->usage = JsonbValueToJsonb(value);
		return NULL;
	}
	if (strcmp(name, "metadata") == 0)
	{
		if (value->type != jbvNull)
			request->metadata = JsonbValueToJsonb(value);
		return NULL;
	}
	if (strcmp(name, "amount") == 0)
	{
		request->by_amount = true;
		return amount_member(value, name, &request->amount);
	}
	if (strcmp(name, "tokens") == 0)
	{
		if (value->type != jbvNumeric ||
			DatumGetInt32(DirectFunctionCall1(numeric_min_scale,
											  NumericGetDatum(value->val.numeric))) > 0)
			return bad_member(name, "must be a whole number");
		/* as charge() would have it: its check of the count is the same */
		{
			JsonbParseState *state = NULL;
			JsonbValue	k = *key;

			pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
			pushJsonbValue(&state, WJB_KEY, &k);
			pushJsonbValue(&state, WJB_VALUE, value);
			request->usage = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
		}
		return NULL;
	}
	if (tb_check_text("name", cstring_to_text(name), 64) != NULL)
		return bad_member("item", "has a member that is no argument");
	return bad_member(name, "is no argument of a charge");
}

static Refusal *
take_item(const JsonbValue *value, ChargeRequest *request)
{
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	member;
	int			sources = 0;

	request->wait = true;
	request->on_insufficient = cstring_to_text("refuse");
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		return bad_member("item", "must be an object");

	it = JsonbIteratorInit(value->val.binary.data);
	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		Refusal    *refusal;

		(void) JsonbIteratorNext(&it, &member, true);
		refusal = take_member(&key, &member, request);
		if (refusal != NULL)
			return refusal;
		if ((key.val.string.len == 5 && memcmp(key.val.string.val, "usage", 5) == 0) ||
			(key.val.string.len == 6 && memcmp(key.val.string.val, "tokens", 6) == 0) ||
			(key.val.string.len == 6 && memcmp(key.val.string.val, "amount", 6) == 0))
			sources++;
	}
	if (sources > 1)
		return bad_member("item", "must have one of usage, tokens and amount, not several");
	return NULL;
}

/* By account, and within an account as they came; those without one last. */
static int
compare_items(const void *a, const void *b)
{
	const BatchItem *x = *(BatchItem *const *) a;
	const BatchItem *y = *(BatchItem *const *) b;
	const text *p = x->request.account;
	const text *q = y->request.account;
	int			result = 0;

	if (p == NULL || q == NULL)
		result = (p == NULL) - (q == NULL);
	else
	{
		int			len = Min(VARSIZE_ANY_EXHDR(p), VARSIZE_ANY_EXHDR(q));

		result = memcmp(VARDATA_ANY(p), VARDATA_ANY(q), len);
		if (result == 0)
			result = (int) VARSIZE_ANY_EXHDR(p) - (int) VARSIZE_ANY_EXHDR(q);
	}
	return result != 0 ? result : x->number - y->number;
}

/*
 * The row that answers an item: its receipt, or why there is none.
 */
static MinimalTuple
answer(const BatchItem *item, const Refusal *refusal, const Receipt *receipt,
	   TupleDesc desc)
{
	Datum		values[BATCH_COLUMNS];
	bool		nulls[BATCH_COLUMNS];
	Datum	   *error = values + 1 + TB_RECEIPT_COLUMNS;

	memset(nulls, true, sizeof(nulls));
	values[0] = Int32GetDatum(item->number);
	nulls[0] = false;
	if (refusal == NULL)
		tb_receipt_values(receipt, values + 1, nulls + 1);
	else
	{
		/* whose and which it was, as far as the item said */
		values[1] = PointerGetDatum(item->request.account);
		nulls[1] = item->request.account == NULL ||
			tb_check_text("account", item->request.account, TB_MAX_ACCOUNT) != NULL;
		values[9] = PointerGetDatum(item->request.idempotency_key);
		nulls[9] = item->request.idempotency_key == NULL ||
			tb_check_key("idempotency_key", item->request.idempotency_key) != NULL;

		error[0] = CStringGetTextDatum(unpack_sql_state(refusal->sqlstate));
		error[1] = CStringGetTextDatum(refusal->message);
		error[2] = DirectFunctionCall1(jsonb_in, CStringGetDatum(refusal->detail));
		error[3] = CStringGetTextDatum(refusal->hint);
		memset(nulls + 1 + TB_RECEIPT_COLUMNS, false, 4);
	}
	return tb_form_minimal_tuple(desc, values, nulls);
}

/*
 * Carry an item out.  What that takes goes to a context of its own; only the
 * answer stays.
 */
static void
do_item(BatchItem *item, Oid user, TupleDesc desc, MemoryContext each)
{
	MemoryContext old = MemoryContextSwitchTo(each);
	Receipt		receipt;
	Refusal    *refusal = item->refusal;
	MinimalTuple tuple;

	CHECK_FOR_INTERRUPTS();
	if (refusal == NULL)
		refusal = tb_charge(&item->request, user, &receipt);
	if (refusal != NULL)
		tb_count_refusal(refusal->sqlstate);
	tuple = answer(item, refusal, &receipt, desc);
	MemoryContextSwitchTo(old);
	item->answer = tb_copy_minimal_tuple(tuple);
	MemoryContextReset(each);
}

/*
 * charge_batch(requests jsonb)
 *	-> setof (item, the columns of receipt, sqlstate, message, detail, hint)
 *		Locks the accounts' rows until the transaction ends.
 */
Datum
tokenbill_charge_batch(PG_FUNCTION_ARGS)
{
	Jsonb	   *requests = PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Session		session;
	MemoryContext each;
	TupleTableSlot *slot;
	JsonbIterator *it;
	JsonbValue	value;
	BatchItem  *items;
	BatchItem **order;
	int			count;
	int			n = 0;
	bool		contained;

	InitMaterializedSRF(fcinfo, 0);
	if (requests == NULL)
		tb_raise(tb_null_argument("requests"));
	if (!JB_ROOT_IS_ARRAY(requests) || JB_ROOT_IS_SCALAR(requests))
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "requests"),
							"Pass an array of objects.",
							"requests must be a JSON array"));
	count = JB_ROOT_COUNT(requests);
	if (count > MAX_ITEMS)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s items:i max_items:i", "requests",
									(int64) count, (int64) MAX_ITEMS),
							"Split the batch.",
							"requests has more than %d items", MAX_ITEMS));

	items = palloc0(sizeof(BatchItem) * (count + 1));
	order = palloc(sizeof(BatchItem *) * (count + 1));
	it = JsonbIteratorInit(&requests->root);
	(void) JsonbIteratorNext(&it, &value, true);	/* WJB_BEGIN_ARRAY */
	while (JsonbIteratorNext(&it, &value, true) == WJB_ELEM)
	{
		BatchItem  *item = &items[n];

		item->number = n + 1;
		item->refusal = take_item(&value, &item->request);
		order[n++] = item;
	}
	qsort(order, n, sizeof(BatchItem *), compare_items);

	each = AllocSetContextCreate(CurrentMemoryContext, "tokenbill batch item",
								 ALLOCSET_DEFAULT_SIZES);
	tb_enter(fcinfo, &session);
	contained = tb_contain_functions(true);
	PG_TRY();
	{
		for (int i = 0; i < n; i++)
			do_item(order[i], session.userid, rsinfo->setDesc, each);
	}
	PG_FINALLY();
	{
		(void) tb_contain_functions(contained);
	}
	PG_END_TRY();
	tb_leave(&session);
	MemoryContextDelete(each);

	slot = MakeSingleTupleTableSlot(rsinfo->setDesc, &TTSOpsMinimalTuple);
	for (int i = 0; i < n; i++)
	{
		ExecStoreMinimalTuple(items[i].answer, slot, false);
		tuplestore_puttupleslot(rsinfo->setResult, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	return (Datum) 0;
}
