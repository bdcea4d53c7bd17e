/*
 * price.c
 *	  Prices, cached in the backend.
 *
 * The cache is filled a service at a time, from tokenbill.price, and thrown away
 * as a whole when that table changes: a row trigger on it invalidates the table's
 * relation cache entry in every session, whoever changed it.  Messages are taken
 * in at the start of every look-up, so a price that has been committed is seen by
 * the next statement of every session.
 *
 * Two things must not end up in the cache for good:
 * - prices this transaction has not committed yet: its abort invalidates too;
 * - prices as an old snapshot (REPEATABLE READ, SERIALIZABLE) sees them: a cache
 *   filled under one is thrown away when the transaction is another.
 */
#include "price.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "money.h"
#include "query.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(tokenbill_forget_prices);

#define MAX_CARDS 4096
#define KEY_BYTES (TB_MAX_NAME + 1 + TB_MAX_ACCOUNT)

/* service, a zero byte, account: texts cannot hold zero bytes. */
typedef struct CardKey
{
	int			len;
	char		data[KEY_BYTES];
} CardKey;

typedef struct CardEntry
{
	CardKey		key;
	RateCard	card;
} CardEntry;

static MemoryContext cache_context = NULL;
static HTAB *cache = NULL;
static bool cache_valid = false;

/* The transaction an old snapshot belongs to; invalid while the cache is current. */
static LocalTransactionId cache_only_for = InvalidLocalTransactionId;

/* The table the cache is of; looked up when a cache is started. */
static Oid	price_table = InvalidOid;

static void
forget(Datum arg, Oid relid)
{
	if (relid == price_table || relid == InvalidOid)
		cache_valid = false;
}

/*
 * tb_price_init
 *		Have the cache forgotten on invalidations; called once, from _PG_init.
 */
void
tb_price_init(void)
{
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
}

static uint32
key_hash(const void *key, Size keysize)
{
	const CardKey *k = key;

	return DatumGetUInt32(hash_any((const unsigned char *) k->data, k->len));
}

static int
key_match(const void *a, const void *b, Size keysize)
{
	const CardKey *x = a;
	const CardKey *y = b;

	return x->len == y->len ? memcmp(x->data, y->data, x->len) : 1;
}

static void *
key_copy(void *dest, const void *src, Size keysize)
{
	const CardKey *k = src;

	memcpy(dest, src, offsetof(CardKey, data) + k->len);
	return dest;
}

static void
start_cache(void)
{
	HASHCTL		ctl;

	price_table = get_relname_relid("price",
									get_namespace_oid("tokenbill", false));
	if (cache_context != NULL)
		MemoryContextDelete(cache_context);
	cache_context = NULL;
	cache = NULL;
	cache_context = AllocSetContextCreate(CacheMemoryContext,
										  "tokenbill prices",
										  ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(CardKey);
	ctl.entrysize = sizeof(CardEntry);
	ctl.hash = key_hash;
	ctl.match = key_match;
	ctl.keycopy = key_copy;
	ctl.hcxt = cache_context;
	cache = hash_create("tokenbill prices", 64, &ctl,
						HASH_ELEM | HASH_FUNCTION | HASH_COMPARE |
						HASH_KEYCOPY | HASH_CONTEXT);
	cache_valid = true;
	cache_only_for = IsolationUsesXactSnapshot() ? tb_local_xid() :
		InvalidLocalTransactionId;
}

static void
make_key(CardKey *key, const text *service, const char *account,
		 int account_len)
{
	int			service_len = VARSIZE_ANY_EXHDR(service);

	Assert(service_len + 1 + account_len <= KEY_BYTES);
	memcpy(key->data, VARDATA_ANY(service), service_len);
	key->data[service_len] = '\0';
	memcpy(key->data + service_len + 1, account, account_len);
	key->len = service_len + 1 + account_len;
}

static Numeric
copy_numeric(Datum value)
{
	return DatumGetNumericCopy(value);
}

/*
 * Read the prices of a service as an account has them.  The rows come meter by
 * meter, the account's own prices before the list's, newest first: so the first
 * that is valid is the one that counts.
 */
static void
load_card(RateCard *card, const text *service, const char *account,
		  int account_len)
{
	static Statement query = {
		.sql = "SELECT p.meter, p.valid_from, p.unit_price, p.per,"
		" EXISTS (SELECT FROM tokenbill.price o WHERE o.service OPERATOR(pg_catalog.=) $1"
		" AND o.account OPERATOR(pg_catalog.<>) '*')"
		" FROM tokenbill.price p"
		" WHERE p.service OPERATOR(pg_catalog.=) $1"
		" AND (p.account OPERATOR(pg_catalog.=) '*' OR p.account OPERATOR(pg_catalog.=) $2)"
		" ORDER BY p.meter, p.account OPERATOR(pg_catalog.=) '*', p.valid_from DESC",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID}
	};
	Datum		args[2];
	uint64		nrows;
	Meter	   *meter = NULL;
	MemoryContext old;

	args[0] = PointerGetDatum(service);
	args[1] = PointerGetDatum(cstring_to_text_with_len(account, account_len));
	nrows = tb_run(&query, args, NULL);

	old = MemoryContextSwitchTo(cache_context);
	memset(card, 0, sizeof(RateCard));
	card->meters = palloc(sizeof(Meter) * Max(nrows, 1));
	for (uint64 i = 0; i < nrows; i++)
	{
		Datum		values[5];
		bool		nulls[5];
		char	   *name;
		Price	   *price;
		Datum		rate;

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
						  values, nulls);
		name = TextDatumGetCString(values[0]);
		if (meter == NULL || strcmp(meter->name, name) != 0)
		{
			meter = &card->meters[card->nmeters++];
			meter->name = name;
			meter->name_len = strlen(name);
			meter->nprices = 0;
			meter->prices = palloc(sizeof(Price) * (nrows - i));
		}
		price = &meter->prices[meter->nprices++];
		price->valid_from = DatumGetTimestampTz(values[1]);
		price->unit_price = copy_numeric(values[2]);
		price->per = copy_numeric(values[3]);

		/*
		 * set_price() has made sure that the quotient ends within 20
		 * decimals; dividing at that scale therefore rounds nothing.
		 */
		rate = DirectFunctionCall2(numeric_round, values[2], Int32GetDatum(40));
		rate = DirectFunctionCall2(numeric_div, rate, values[3]);
		rate = DirectFunctionCall2(numeric_round, rate, Int32GetDatum(20));
		rate = DirectFunctionCall1(numeric_trim_scale, rate);
		price->rate = DatumGetNumeric(rate);
		price->written = psprintf("%s/%s", tb_print(price->unit_price),
								  tb_print(price->per));
		card->has_own_prices = DatumGetBool(values[4]);
	}
	MemoryContextSwitchTo(old);
}

static RateCard *
find_card(const text *service, const char *account, int account_len)
{
	CardKey		key;
	CardEntry  *entry;
	RateCard	card;
	bool		found;

	make_key(&key, service, account, account_len);
	entry = hash_search(cache, &key, HASH_FIND, NULL);
	if (likely(entry != NULL))
		return &entry->card;

	if (hash_get_num_entries(cache) >= MAX_CARDS)
		start_cache();
	load_card(&card, service, account, account_len);
	entry = hash_search(cache, &key, HASH_ENTER, &found);
	entry->card = card;
	return &entry->card;
}

/*
 * tb_rate_card
 *		What the meters of a service cost an account.
 *
 * Needs SPI.  The card stays good until the next call of this function.
 */
RateCard *
tb_rate_card(const text *service, const text *account)
{
	RateCard   *card;

	AcceptInvalidationMessages();
	if (unlikely(!cache_valid ||
				 (cache_only_for != InvalidLocalTransactionId &&
				  cache_only_for != tb_local_xid()) ||
				 (cache_only_for == InvalidLocalTransactionId &&
				  IsolationUsesXactSnapshot())))
		start_cache();

	/* without a list price, accounts may still have prices of their own */
	card = find_card(service, "*", 1);
	if (card->has_own_prices || card->nmeters == 0)
		card = find_card(service, VARDATA_ANY(account),
						 VARSIZE_ANY_EXHDR(account));
	return card;
}

/*
 * tb_price_at
 *		The price of a meter at a time, or null if it has none yet.
 */
const Price *
tb_price_at(const Meter *meter, TimestampTz at)
{
	for (int i = 0; i < meter->nprices; i++)
	{
		if (meter->prices[i].valid_from <= at)
			return &meter->prices[i];
	}
	return NULL;
}

/*
 * tb_keep_rates
 *		Remember the JSON of the rates that these prices make up.
 */
void
tb_keep_rates(RateCard *card, const Price **used, int nused, Jsonb *rates)
{
	MemoryContext old = MemoryContextSwitchTo(cache_context);

	if (card->used != NULL)
		pfree(card->used);
	if (card->rates != NULL)
		pfree(card->rates);
	card->nused = 0;
	card->used = palloc(sizeof(Price *) * nused);
	card->rates = palloc(VARSIZE(rates));
	memcpy(card->rates, rates, VARSIZE(rates));
	memcpy(card->used, used, sizeof(Price *) * nused);
	card->nused = nused;
	MemoryContextSwitchTo(old);
}

/*
 * forget_prices() -> trigger
 */
Datum
tokenbill_forget_prices(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("forget_prices() must be called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
