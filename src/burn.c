/*
 * burn.c
 *	  Which credits pay: for a charge, for a hold, and what a refund gives back.
 *
 * An amount is paid in parts, by the credits that are good for the service and by
 * the plain balance, in the burn order; what is more than all of them is owed by
 * the plain balance, which the credit limit lets go below zero.  The parts are
 * kept in the line, as "burned" in its request, if a credit is among them: a list
 * of objects with credit (null is the plain balance) and amount, in the order in
 * which they were taken.
 *
 * A hold reserves parts in the same way, in its row, and burns those: so nobody
 * else can spend them, nor can they expire, while it is open.  What a hold has
 * reserved is no longer free; what pays is always taken from what is free, or from
 * the hold's own.
 *
 * A refund gives back from the end: what was taken last comes back first, as if
 * less had been charged.  So does an adjustment that charges less; one that charges
 * more is paid as a charge is, and then is the end.
 *
 * Credits are changed in memory by judge(), and written by tb_store_credits() when
 * the line has been posted.  In a sandbox the parts are worked out and kept, and
 * nothing is taken from the credits, as nothing is from the balance.
 */
#include "burn.h"

#include "access/htup_details.h"
#include "burn_order.h"
#include "check.h"
#include "clock.h"
#include "money.h"
#include "movement.h"
#include "query.h"
#include "utils/builtins.h"

static bool
is_positive(Numeric amount)
{
	return tb_compare(amount, tb_zero()) > 0;
}

static void
add_part(Parts *parts, Credit *credit, Numeric amount)
{
	if (!is_positive(amount))
		return;
	/* what follows on itself is one part */
	if (parts->n > 0 && parts->parts[parts->n - 1].credit == credit)
	{
		Part	   *last = &parts->parts[parts->n - 1];

		last->amount = tb_add(last->amount, amount);
		return;
	}
	if (parts->n == parts->size)
	{
		int			size = parts->size * 2 + 4;
		Part	   *larger = palloc(sizeof(Part) * size);

		if (parts->n > 0)
			memcpy(larger, parts->parts, sizeof(Part) * parts->n);
		parts->parts = larger;
		parts->size = size;
	}
	parts->parts[parts->n].credit = credit;
	parts->parts[parts->n++].amount = amount;
}

static bool
has_credit(const Parts *parts)
{
	for (int i = 0; i < parts->n; i++)
	{
		if (parts->parts[i].credit != NULL)
			return true;
	}
	return false;
}

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, const char *s,
			int len)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, s);
	v.val.string.len = len;
	pushJsonbValue(state, token, &v);
}

static JsonbValue *
parts_value(const Parts *parts)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < parts->n; i++)
	{
		const Credit *credit = parts->parts[i].credit;
		JsonbValue	v;

		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_string(&state, WJB_KEY, "amount", strlen("amount"));
		v.type = jbvNumeric;
		v.val.numeric = parts->parts[i].amount;
		pushJsonbValue(&state, WJB_VALUE, &v);
		push_string(&state, WJB_KEY, "credit", strlen("credit"));
		v.type = jbvNull;
		if (credit == NULL)
			pushJsonbValue(&state, WJB_VALUE, &v);
		else
			push_string(&state, WJB_VALUE, VARDATA_ANY(credit->key),
						VARSIZE_ANY_EXHDR(credit->key));
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return pushJsonbValue(&state, WJB_END_ARRAY, NULL);
}

static Jsonb *
parts_json(const Parts *parts)
{
	return JsonbValueToJsonb(parts_value(parts));
}

static JsonbValue *
member(JsonbContainer *object, const char *name)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
}

/*
 * Read what parts_value() has made.  The credits need not be open any more.
 */
static void
read_parts(Account *account, JsonbContainer *array, Parts *parts)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbValue	v;

	(void) JsonbIteratorNext(&it, &v, true);	/* WJB_BEGIN_ARRAY */
	while (JsonbIteratorNext(&it, &v, true) == WJB_ELEM)
	{
		JsonbValue *key;
		JsonbValue *amount;
		Credit	   *credit = NULL;

		if (v.type != jbvBinary || !JsonContainerIsObject(v.val.binary.data))
			elog(ERROR, "a part of what credits have paid is no object");
		key = member(v.val.binary.data, "credit");
		amount = member(v.val.binary.data, "amount");
		if (key == NULL || amount == NULL || amount->type != jbvNumeric)
			elog(ERROR, "a part of what credits have paid lacks a member");
		if (key->type == jbvString)
		{
			credit = tb_find_credit(account,
									cstring_to_text_with_len(key->val.string.val,
															 key->val.string.len));
			if (credit == NULL)
				elog(ERROR, "a credit that has paid does not exist");
		}
		add_part(parts, credit, amount->val.numeric);
	}
}

/*
 * What of the plain balance neither holds nor credits take; below zero where the
 * credit limit, or a debt, is in use.
 */
static Numeric
plain_free(const Account *account)
{
	const CreditList *list = account->open_credits;
	Numeric		result = tb_sub(account->balance, account->held);

	for (int i = 0; list != NULL && i < list->n; i++)
		result = tb_sub(result, tb_credit_free(list->credits[i]));
	return result;
}

/*
 * tb_payers
 *		Who may pay for a service, in order: the credits that are good for it, and
 *		the plain balance, which stands there as a credit without a key.
 */
Credit	  **
tb_payers(const Account *account, const text *service, int *n)
{
	const CreditList *list = account->open_credits;
	TimestampTz now = tb_now();
	Credit	  **line = palloc(sizeof(Credit *) * (list ? list->n + 1 : 1));
	Credit	   *plain = palloc0(sizeof(Credit));

	plain->priority = TB_USUAL_PRIORITY;
	plain->remaining = plain_free(account);
	plain->reserved = tb_zero();
	plain->cost_basis = int64_to_numeric(1);
	plain->effective_at = DT_NOBEGIN;
	plain->expires_at = DT_NOEND;
	*n = 0;
	line[(*n)++] = plain;
	for (int i = 0; list != NULL && i < list->n; i++)
	{
		if (tb_credit_use(list->credits[i], service, now) == CREDIT_USABLE)
			line[(*n)++] = list->credits[i];
	}
	tb_sort_credits(line, *n);
	return line;
}

/*
 * Find who pays an amount, from what is free, and add that to parts.
 */
static void
find_payers(const Account *account, const text *service, Numeric amount,
			Parts *parts)
{
	Credit	  **line;
	int			n;

	if (account->open_credits == NULL)
	{
		add_part(parts, NULL, amount);
		return;
	}
	line = tb_payers(account, service, &n);
	for (int i = 0; i < n && is_positive(amount); i++)
	{
		Numeric		taken = tb_smaller(tb_credit_free(line[i]), amount);

		if (!is_positive(taken))
			continue;
		add_part(parts, line[i]->key == NULL ? NULL : line[i], taken);
		amount = tb_sub(amount, taken);
	}
	add_part(parts, NULL, amount);
}

/* Take the parts from their credits; from those of a hold, if it is one's. */
static void
take_parts(const Parts *parts, bool from_hold, bool sandbox)
{
	for (int i = 0; i < parts->n; i++)
	{
		Credit	   *credit = parts->parts[i].credit;
		Numeric		amount = parts->parts[i].amount;

		if (credit == NULL)
			continue;
		if (from_hold)
			credit->reserved = tb_sub(credit->reserved, amount);
		if (!sandbox)
			credit->remaining = tb_sub(credit->remaining, amount);
		credit->changed = true;
	}
}

static void
keep_parts(ChainedLine *line, const char *name, const Parts *parts)
{
	if (has_credit(parts))
		tb_keep_in_request(line, name, parts_value(parts));
}

/*
 * tb_burn
 *		Have the price of the line's service paid.
 */
void
tb_burn(ChainedLine *line, Account *account, Numeric price)
{
	Parts		parts = {0};

	if (likely(account->open_credits == NULL) || !is_positive(price))
		return;
	find_payers(account, line->service, price, &parts);
	take_parts(&parts, false, account->sandbox);
	keep_parts(line, "burned", &parts);
}

/* The parts that a hold has reserved of what is left of it. */
static void
read_hold(Account *account, const Hold *hold, Parts *parts)
{
	if (hold->reserved == NULL)
		add_part(parts, NULL, hold->left);
	else
		read_parts(account, &hold->reserved->root, parts);
}

static void
write_hold(Hold *hold, const Parts *parts)
{
	hold->reserved = has_credit(parts) ? parts_json(parts) : NULL;
}

/*
 * tb_reserve
 *		Have a hold reserve so much more than what is left of it.
 */
void
tb_reserve(Account *account, Hold *hold, const text *service, Numeric more)
{
	Parts		parts = {0};
	Parts		added = {0};

	if (likely(account->open_credits == NULL) || !is_positive(more))
		return;
	find_payers(account, service, more, &added);
	read_hold(account, hold, &parts);
	for (int i = 0; i < added.n; i++)
	{
		Credit	   *credit = added.parts[i].credit;

		add_part(&parts, credit, added.parts[i].amount);
		if (credit == NULL)
			continue;
		credit->reserved = tb_add(credit->reserved, added.parts[i].amount);
		credit->changed = true;
	}
	write_hold(hold, &parts);
}

/*
 * tb_hold_usable
 *		What a hold has reserved that may pay for a service, which need not be the
 *		one it was made for.
 */
Numeric
tb_hold_usable(Account *account, const Hold *hold, const text *service)
{
	Parts		parts = {0};
	Numeric		result = tb_zero();

	if (likely(hold->reserved == NULL))
		return hold->left;
	read_hold(account, hold, &parts);
	for (int i = 0; i < parts.n; i++)
	{
		const Part *part = &parts.parts[i];

		if (part->credit == NULL || tb_credit_covers(part->credit, service))
			result = tb_add(result, part->amount);
	}
	return result;
}

/*
 * tb_burn_hold
 *		Have the price of the line's service paid by what a hold has reserved, and
 *		what is more by what is free.  The hold is as it was before; if final, the
 *		rest of it is freed.
 */
void
tb_burn_hold(ChainedLine *line, Account *account, Hold *hold, Numeric price,
			 bool final)
{
	Parts		reserved = {0};
	Parts		kept = {0};
	Parts		burned = {0};
	Parts		freed = {0};
	Parts		more = {0};
	Numeric		needed = price;
	Numeric		gone;

	if (likely(hold->reserved == NULL && account->open_credits == NULL))
		return;
	read_hold(account, hold, &reserved);
	for (int i = 0; i < reserved.n; i++)
	{
		Part	   *part = &reserved.parts[i];
		Numeric		taken = tb_smaller(part->amount, needed);

		if (part->credit != NULL &&
			!tb_credit_covers(part->credit, line->service))
			continue;
		add_part(&burned, part->credit, taken);
		part->amount = tb_sub(part->amount, taken);
		needed = tb_sub(needed, taken);
	}

	/* before anything is freed, for what is free is reckoned with held */
	if (is_positive(needed))
		find_payers(account, line->service, needed, &more);
	take_parts(&burned, true, account->sandbox);
	take_parts(&more, false, account->sandbox);

	/* the hold shrinks by the price, whoever paid it */
	gone = final ? hold->left :
		tb_sub(tb_smaller(price, hold->left), tb_sub(price, needed));
	for (int i = 0; i < reserved.n; i++)
	{
		Part	   *part = &reserved.parts[i];
		Numeric		taken = tb_smaller(part->amount, gone);

		add_part(&freed, part->credit, taken);
		add_part(&kept, part->credit, tb_sub(part->amount, taken));
		gone = tb_sub(gone, taken);
	}
	take_parts(&freed, true, true);
	write_hold(hold, &kept);

	for (int i = 0; i < more.n; i++)
		add_part(&burned, more.parts[i].credit, more.parts[i].amount);
	keep_parts(line, "burned", &burned);
}

/*
 * tb_free_hold
 *		Free what a hold has reserved.
 */
void
tb_free_hold(Account *account, Hold *hold)
{
	Parts		parts = {0};

	if (likely(hold->reserved == NULL))
		return;
	read_hold(account, hold, &parts);
	take_parts(&parts, true, true);
	hold->reserved = NULL;
}

/* What a line cost, or made up for: more than its amount in a sandbox. */
static Numeric
cost_of(Jsonb *request, Numeric amount)
{
	JsonbValue *price = request == NULL ? NULL : member(&request->root, "price");

	return price != NULL && price->type == jbvNumeric ? price->val.numeric :
		tb_negate(amount);
}

/* Take so much from the end of parts, and add that to taken. */
static void
take_from_end(Parts *parts, Numeric amount, Parts *taken)
{
	while (parts->n > 0 && is_positive(amount))
	{
		Part	   *last = &parts->parts[parts->n - 1];
		Numeric		some = tb_smaller(last->amount, amount);

		add_part(taken, last->credit, some);
		amount = tb_sub(amount, some);
		last->amount = tb_sub(last->amount, some);
		if (!is_positive(last->amount))
			parts->n--;
	}
}

/*
 * Who has paid for a charge, with what adjustments have charged more or less since.
 */
static void
read_charge(Account *account, int64 seq, Parts *parts)
{
	static Statement query = {
		.sql = "SELECT l.request, l.amount, l.seq FROM tokenbill.ledger l"
		" WHERE l.account OPERATOR(pg_catalog.=) $1 AND l.seq OPERATOR(pg_catalog.=) $2"
		" UNION ALL SELECT m.request, m.amount, m.seq FROM tokenbill.ledger m"
		" WHERE m.account OPERATOR(pg_catalog.=) $1"
		" AND m.idempotency_key OPERATOR(pg_catalog.>=) pg_catalog.concat('tokenbill:reprice:', $2, ':')"
		" AND m.idempotency_key OPERATOR(pg_catalog.<) pg_catalog.concat('tokenbill:reprice:', $2, ';')"
		" ORDER BY 3",
		.nargs = 2,
		.types = {TEXTOID, INT8OID}
	};
	Datum		values[3];
	bool		nulls[3];
	Jsonb	  **requests;
	Numeric    *costs;
	uint64		found;

	values[0] = PointerGetDatum(account->account);
	values[1] = Int64GetDatum(seq);
	found = tb_run(&query, values, NULL);
	requests = palloc(sizeof(Jsonb *) * (found + 1));
	costs = palloc(sizeof(Numeric) * (found + 1));
	for (uint64 i = 0; i < found; i++)
	{
		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values,
						  nulls);
		requests[i] = nulls[0] ? NULL : DatumGetJsonbPCopy(values[0]);
		costs[i] = cost_of(requests[i], DatumGetNumericCopy(values[1]));
	}
	for (uint64 i = 0; i < found; i++)
	{
		JsonbValue *burned = requests[i] == NULL ? NULL :
			member(&requests[i]->root, "burned");
		Parts		returned = {0};

		if (burned != NULL && burned->type == jbvBinary)
			read_parts(account, burned->val.binary.data, parts);
		else if (is_positive(costs[i]))
			add_part(parts, NULL, costs[i]);
		else
			take_from_end(parts, tb_negate(costs[i]), &returned);
	}
}

/*
 * tb_return
 *		Give an amount of a charge back to those who paid it, of which so much has
 *		come back before; what was taken last comes back first.
 */
void
tb_return(ChainedLine *line, Account *account, int64 charge_seq,
		  Numeric before, Numeric amount)
{
	Parts		paid = {0};
	Parts		gone = {0};
	Parts		returned = {0};

	read_charge(account, charge_seq, &paid);
	take_from_end(&paid, before, &gone);
	take_from_end(&paid, amount, &returned);
	for (int i = 0; i < returned.n && !account->sandbox; i++)
	{
		Credit	   *credit = returned.parts[i].credit;

		if (credit == NULL)
			continue;
		credit->remaining = tb_add(credit->remaining, returned.parts[i].amount);
		credit->changed = true;
	}
	keep_parts(line, "returned", &returned);
}

/*
 * tb_would_burn
 *		Who would pay an amount, as a line keeps it; null if no credit would.  Looks
 *		at the account as the calling query sees it, and needs SPI.
 */
Jsonb *
tb_would_burn(const text *account_name, const text *service, Numeric amount)
{
	Account		account;
	Parts		parts = {0};

	if (!tb_read_account(account_name, &account) || account.credits == 0 ||
		!is_positive(amount))
		return NULL;
	tb_load_credits(&account, true);
	find_payers(&account, service, amount, &parts);
	return has_credit(&parts) ? parts_json(&parts) : NULL;
}
