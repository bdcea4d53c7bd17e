/*
 * burn_order.c
 *	  In which order credits are spent.
 *
 * An order is a row of the view tokenbill.burn_orders, which has the presets and
 * the table burn_order: a list of words, the first that tells two credits apart
 * decides.  The setting tokenbill.burn_order names the row.  What no word tells
 * apart goes by the age of the grant, so the order is total, and the same in every
 * session.
 *
 * The row is kept in the backend until the table changes, which a trigger on it
 * tells every session by invalidating the table's relation cache entry.
 */
#include "burn_order.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "money.h"
#include "query.h"
#include "refusal.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(tokenbill_forget_burn_order);

#define MAX_WORDS 16

typedef int (*Compare) (const Credit *a, const Credit *b);

static char *order_setting = NULL;

/* The order in use: what it is called, and its words as functions. */
static char *order_name = NULL;
static Compare order[MAX_WORDS];
static int	order_length = 0;
static bool order_valid = false;
static Oid	order_table = InvalidOid;

static int
sign(int64 a, int64 b)
{
	return (a > b) - (a < b);
}

static int
by_priority(const Credit *a, const Credit *b)
{
	return sign(a->priority, b->priority);
}

static int
by_expiry(const Credit *a, const Credit *b)
{
	return sign(a->expires_at, b->expires_at);
}

static int
promotional_first(const Credit *a, const Credit *b)
{
	return b->promotional - a->promotional;
}

static int
paid_first(const Credit *a, const Credit *b)
{
	return a->promotional - b->promotional;
}

static int
by_cost_basis(const Credit *a, const Credit *b)
{
	return tb_compare(a->cost_basis, b->cost_basis);
}

static int
by_effect(const Credit *a, const Credit *b)
{
	return sign(a->effective_at, b->effective_at);
}

static int
oldest_first(const Credit *a, const Credit *b)
{
	return sign(a->seq, b->seq);
}

static int
newest_first(const Credit *a, const Credit *b)
{
	return sign(b->seq, a->seq);
}

static int
smallest_first(const Credit *a, const Credit *b)
{
	return tb_compare(a->remaining, b->remaining);
}

static int
largest_first(const Credit *a, const Credit *b)
{
	return tb_compare(b->remaining, a->remaining);
}

/* The words that an order may be made of; the table's domain has them, too. */
static const struct
{
	const char *word;
	Compare		compare;
}			words[] =

{
	{"priority", by_priority},
	{"expiry", by_expiry},
	{"promotional", promotional_first},
	{"paid", paid_first},
	{"cost_basis", by_cost_basis},
	{"effective", by_effect},
	{"oldest", oldest_first},
	{"newest", newest_first},
	{"smallest", smallest_first},
	{"largest", largest_first}
};

static void
forget(Datum arg, Oid relid)
{
	if (relid == order_table || relid == InvalidOid)
		order_valid = false;
}

/*
 * tb_burn_order_init
 *		Define the setting; called once, from _PG_init.
 */
void
tb_burn_order_init(void)
{
	DefineCustomStringVariable("tokenbill.burn_order",
							   "Order in which the credits of an account are spent.",
							   "The name of a row of tokenbill.burn_orders.",
							   &order_setting,
							   "tokenbill",
							   PGC_SUSET,
							   0,
							   NULL, NULL, NULL);
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
}

static void
take_words(ArrayType *array)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &n);
	order_length = 0;
	for (int i = 0; i < n; i++)
	{
		char	   *word = nulls[i] ? NULL : TextDatumGetCString(elements[i]);
		Compare		compare = NULL;

		for (size_t j = 0; word != NULL && j < lengthof(words); j++)
		{
			if (strcmp(words[j].word, word) == 0)
				compare = words[j].compare;
		}
		if (compare == NULL || order_length == MAX_WORDS)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("burn order \"%s\" is none that can be followed",
							order_setting),
					 errhint("Define it with tokenbill.set_burn_order().")));
		order[order_length++] = compare;
	}
}

/* Read the order in use, unless it is here already.  Needs SPI. */
static void
load_order(void)
{
	static Statement query = {
		.sql = "SELECT b.keys FROM tokenbill.burn_orders b WHERE b.name OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		values[1];
	bool		nulls[1];

	/* what an old snapshot shows is not kept for others */
	if (likely(order_valid && order_name != NULL &&
			   strcmp(order_name, order_setting) == 0 &&
			   !IsolationUsesXactSnapshot()))
		return;

	/* whatever fails from here on, it is not the order that we had */
	if (order_name != NULL)
		pfree(order_name);
	order_name = NULL;
	order_table = get_relname_relid("burn_order",
									get_namespace_oid("tokenbill", false));
	order_valid = !IsolationUsesXactSnapshot();
	values[0] = CStringGetTextDatum(order_setting);
	tb_run(&query, values, NULL);
	if (!tb_row(values, nulls))
		tb_raise(tb_refusal(TB_NOT_FOUND,
							tb_json("burn_order:s", order_setting),
							"Set tokenbill.burn_order to one of tokenbill.burn_orders.",
							"burn order \"%s\" does not exist", order_setting));
	take_words(DatumGetArrayTypeP(values[0]));
	order_name = MemoryContextStrdup(TopMemoryContext, order_setting);
}

static int
compare_credits(const void *a, const void *b)
{
	const Credit *x = *(Credit *const *) a;
	const Credit *y = *(Credit *const *) b;

	for (int i = 0; i < order_length; i++)
	{
		int			result = order[i] (x, y);

		if (result != 0)
			return result;
	}
	return sign(x->seq, y->seq);
}

/*
 * tb_sort_credits
 *		Put credits into the order in which they are spent.  Needs SPI.
 */
void
tb_sort_credits(Credit **credits, int n)
{
	AcceptInvalidationMessages();
	load_order();
	qsort(credits, n, sizeof(Credit *), compare_credits);
}

/*
 * forget_burn_order() -> trigger
 */
Datum
tokenbill_forget_burn_order(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("forget_burn_order() must be called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
