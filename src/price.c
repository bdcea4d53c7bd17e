/*
 * price.c
 *	  Prices, cached in the backend.
 *
 * The cache is filled a service at a time, from tokenbill.price, and thrown away
 * as a whole when that table changes: a row trigger invalidates the table's
 * relation cache entry in every session, whoever changed it.  The same trigger is
 * on what else decides about a price: meters' parents and functions, accounts' price
 * groups.  Messages are taken in at the start of every look-up, so a price that
 * has been committed is seen by the next statement of every session.
 *
 * Two things must not end up in the cache for good:
 * - prices this transaction has not committed yet: its abort invalidates too;
 * - prices as an old snapshot (REPEATABLE READ, SERIALIZABLE) sees them: a cache
 *   filled under one is thrown away when the transaction is another.
 */
#include "price.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "check.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "markup.h"
#include "money.h"
#include "query.h"
#include "tier.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(tokenbill_forget_prices);

#define MAX_CARDS 4096
#define MAX_ENTRIES 16384
#define KEY_BYTES (TB_MAX_NAME + 2 + TB_MAX_ACCOUNT)

/*
 * Whose card it is: everybody's, a price group's, or an account's.  An account
 * without prices of its own has an entry that leads to its group's or the list's
 * card.
 */
#define KEY_LIST	'*'
#define KEY_GROUP	'g'
#define KEY_ACCOUNT 'a'

/* service, a zero byte, whose, name: texts cannot hold zero bytes. */
typedef struct CardKey
{
	int			len;
	char		data[KEY_BYTES];
} CardKey;

typedef struct CardEntry
{
	CardKey		key;
	RateCard   *card;
} CardEntry;

/* A meter that has a parent. */
typedef struct ParentEntry
{
	char		name[TB_MAX_METER + 1];
	char		parent[TB_MAX_METER + 1];
} ParentEntry;

static MemoryContext cache_context = NULL;
static HTAB *cache = NULL;
static HTAB *parents = NULL;	/* null until somebody asks */
static int	ncards = 0;
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
	parents = NULL;
	ncards = 0;
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
make_key(CardKey *key, const text *service, char whose, const char *name,
		 int name_len)
{
	int			service_len = VARSIZE_ANY_EXHDR(service);

	Assert(service_len + 2 + name_len <= KEY_BYTES);
	memcpy(key->data, VARDATA_ANY(service), service_len);
	key->data[service_len] = '\0';
	key->data[service_len + 1] = whose;
	memcpy(key->data + service_len + 2, name, name_len);
	key->len = service_len + 2 + name_len;
}

/* The columns of tokenbill.price as load_card() reads them. */
enum
{
	COLUMN_METER,
	COLUMN_SIDE,
	COLUMN_HOLDER,
	COLUMN_VALID_FROM,
	COLUMN_UNIT_PRICE,
	COLUMN_PER,
	COLUMN_SERVICE_TIER,
	COLUMN_HOURS,
	COLUMN_MODE,
	COLUMN_TIERS,
	PRICE_COLUMNS
};

static void
take_price(Price *price, const Datum *values, const bool *nulls)
{
	char	   *service_tier = TextDatumGetCString(values[COLUMN_SERVICE_TIER]);
	char	   *hours = TextDatumGetCString(values[COLUMN_HOURS]);
	char	   *mode = TextDatumGetCString(values[COLUMN_MODE]);

	price->valid_from = DatumGetTimestampTz(values[COLUMN_VALID_FROM]);
	price->holder = DatumGetInt32(values[COLUMN_HOLDER]);
	price->service_tier = strcmp(service_tier, "standard") == 0 ? NULL : service_tier;
	price->hours = NULL;
	if (*hours != '\0')
	{
		price->hours = hours;
		tb_read_hours(hours, &price->from_minute, &price->to_minute);
	}
	price->mode = tb_price_mode(mode);
	price->per = DatumGetNumericCopy(values[COLUMN_PER]);
	tb_make_rate(&price->rate, DatumGetNumeric(values[COLUMN_UNIT_PRICE]),
				 price->per);
	price->ntiers = 0;
	price->tiers = NULL;
	price->marked_up = NULL;
	if (!nulls[COLUMN_TIERS])
		tb_read_tiers(price, DatumGetJsonbP(values[COLUMN_TIERS]));
}

/*
 * Read the prices of a service as an account or a group has them.  The rows come
 * meter by meter, in the order that docs/pricing.md gives: so the first that
 * applies to a call is the one that counts.
 */
static RateCard *
load_card(const text *service, const char *account, int account_len,
		  const char *price_group, int price_group_len)
{
	static Statement query = {
		.sql = "SELECT p.meter, p.side, CASE WHEN p.account OPERATOR(pg_catalog.<>) '*' THEN 0"
		" WHEN p.price_group OPERATOR(pg_catalog.<>) '' THEN 1 ELSE 2 END AS holder,"
		" p.valid_from, p.unit_price, p.per, p.service_tier, p.hours, p.mode, p.tiers"
		" FROM tokenbill.price p"
		" WHERE p.service OPERATOR(pg_catalog.=) $1"
		" AND (p.account OPERATOR(pg_catalog.=) '*' OR p.account OPERATOR(pg_catalog.=) $2)"
		" AND (p.price_group OPERATOR(pg_catalog.=) '' OR p.price_group OPERATOR(pg_catalog.=) $3)"
		" ORDER BY p.meter, p.side, holder, p.service_tier OPERATOR(pg_catalog.=) 'standard',"
		" p.hours OPERATOR(pg_catalog.=) '', p.valid_from DESC, p.service_tier, p.hours",
		.nargs = 3,
		.types = {TEXTOID, TEXTOID, TEXTOID}
	};
	static Statement particular = {
		.sql = "SELECT FROM tokenbill.price p WHERE p.service OPERATOR(pg_catalog.=) $1"
		" AND (p.account OPERATOR(pg_catalog.<>) '*' OR p.price_group OPERATOR(pg_catalog.<>) '')"
		" UNION ALL SELECT FROM tokenbill.markup m"
		" WHERE (m.service OPERATOR(pg_catalog.=) '*' OR m.service OPERATOR(pg_catalog.=) $1)"
		" AND (m.account OPERATOR(pg_catalog.<>) '*' OR m.price_group OPERATOR(pg_catalog.<>) '') LIMIT 1",
		.nargs = 1,
		.types = {TEXTOID}
	};
	static Statement settings = {
		.sql = "SELECT s.usage_format FROM tokenbill.service s WHERE s.service OPERATOR(pg_catalog.=) $1"
		" AND s.usage_format OPERATOR(pg_catalog.<>) 'auto'",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		args[3];
	uint64		nrows;
	RateCard   *card;
	Meter	   *meter = NULL;
	MemoryContext old;

	args[0] = PointerGetDatum(service);
	args[1] = PointerGetDatum(cstring_to_text_with_len(account, account_len));
	args[2] = PointerGetDatum(cstring_to_text_with_len(price_group, price_group_len));

	old = MemoryContextSwitchTo(cache_context);
	card = palloc0(sizeof(RateCard));
	card->particular = tb_run(&particular, args, NULL) > 0;
	tb_load_markups(card, DatumGetTextPP(args[0]), DatumGetTextPP(args[1]),
					DatumGetTextPP(args[2]));
	if (tb_run(&settings, args, NULL) > 0)
	{
		Datum		format;
		bool		isnull;

		(void) tb_row(&format, &isnull);
		card->usage_format = DatumGetTextPCopy(format);
	}
	tb_load_functions(service, cache_context, &card->functions);
	nrows = tb_run(&query, args, NULL);
	card->meters = palloc(sizeof(Meter) * Max(nrows, 1));
	for (uint64 i = 0; i < nrows; i++)
	{
		Datum		values[PRICE_COLUMNS];
		bool		nulls[PRICE_COLUMNS];
		char	   *name;
		bool		is_cost;

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
						  values, nulls);
		name = TextDatumGetCString(values[COLUMN_METER]);
		is_cost = tb_text_is(DatumGetTextPP(values[COLUMN_SIDE]), "cost");
		if (meter == NULL || strcmp(meter->name, name) != 0)
		{
			meter = &card->meters[card->nmeters++];
			memset(meter, 0, sizeof(Meter));
			meter->name = name;
			meter->name_len = strlen(name);
		}
		if (is_cost)
		{
			if (meter->costs == NULL)
				meter->costs = palloc(sizeof(Price) * (nrows - i));
			take_price(&meter->costs[meter->ncosts++], values, nulls);
			card->has_costs = true;
		}
		else
		{
			if (meter->prices == NULL)
				meter->prices = palloc(sizeof(Price) * (nrows - i));
			take_price(&meter->prices[meter->nprices++], values, nulls);
			card->has_prices = true;
		}
	}
	MemoryContextSwitchTo(old);
	card->minimum = tb_find_meter(card, TB_MINIMUM_CHARGE,
								  strlen(TB_MINIMUM_CHARGE));
	ncards++;
	return card;
}

static RateCard *
look_up(const CardKey *key)
{
	CardEntry  *entry = hash_search(cache, key, HASH_FIND, NULL);

	return entry != NULL ? entry->card : NULL;
}

static RateCard *
keep(const CardKey *key, RateCard *card)
{
	bool		found;
	CardEntry  *entry = hash_search(cache, key, HASH_ENTER, &found);

	entry->card = card;
	return card;
}

static RateCard *
list_card(const text *service)
{
	CardKey		key;
	RateCard   *card;

	make_key(&key, service, KEY_LIST, "", 0);
	card = look_up(&key);
	return card ? card : keep(&key, load_card(service, "*", 1, "", 0));
}

/*
 * The card of an account where not all have the same.
 */
static RateCard *
particular_card(const text *service, const text *account)
{
	static Statement query = {
		.sql = "SELECT a.price_group, EXISTS (SELECT FROM tokenbill.price p"
		" WHERE p.service OPERATOR(pg_catalog.=) $1 AND p.account OPERATOR(pg_catalog.=) $2"
		" AND p.account OPERATOR(pg_catalog.<>) '*'"
		" UNION ALL SELECT FROM tokenbill.markup m"
		" WHERE (m.service OPERATOR(pg_catalog.=) '*' OR m.service OPERATOR(pg_catalog.=) $1)"
		" AND m.account OPERATOR(pg_catalog.=) $2 AND m.account OPERATOR(pg_catalog.<>) '*')"
		" FROM (SELECT) AS one LEFT JOIN tokenbill.account a ON a.account OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID}
	};
	CardKey		of_account;
	CardKey		key;
	RateCard   *card;
	Datum		values[2];
	bool		nulls[2];
	char	   *price_group = "";

	make_key(&of_account, service, KEY_ACCOUNT, VARDATA_ANY(account),
			 VARSIZE_ANY_EXHDR(account));
	card = look_up(&of_account);
	if (card != NULL)
		return card;

	values[0] = PointerGetDatum(service);
	values[1] = PointerGetDatum(account);
	tb_run(&query, values, NULL);
	if (!tb_row(values, nulls))
		elog(ERROR, "no answer about a price group");
	if (!nulls[0])
		price_group = TextDatumGetCString(values[0]);

	if (DatumGetBool(values[1]))
		card = load_card(service, VARDATA_ANY(account), VARSIZE_ANY_EXHDR(account),
						 price_group, strlen(price_group));
	else if (*price_group == '\0')
		card = list_card(service);
	else
	{
		make_key(&key, service, KEY_GROUP, price_group, strlen(price_group));
		card = look_up(&key);
		if (card == NULL)
			card = keep(&key, load_card(service, "*", 1, price_group,
										strlen(price_group)));
	}
	return keep(&of_account, card);
}

/*
 * tb_rate_card
 *		What the meters of a service cost an account.
 *
 * Needs SPI.  The card stays good until the next call of this function; that of
 * tb_other_card() does not end it.
 */
RateCard *
tb_rate_card(const text *service, const text *account)
{
	AcceptInvalidationMessages();
	if (unlikely(!cache_valid ||
				 (cache_only_for != InvalidLocalTransactionId &&
				  cache_only_for != tb_local_xid()) ||
				 (cache_only_for == InvalidLocalTransactionId &&
				  IsolationUsesXactSnapshot()) ||
				 ncards >= MAX_CARDS ||
				 hash_get_num_entries(cache) >= MAX_ENTRIES))
		start_cache();
	return tb_other_card(service, account);
}

/*
 * tb_other_card
 *		The same, for another service that the same call is about.
 */
RateCard *
tb_other_card(const text *service, const text *account)
{
	/* without a list price, accounts may still have prices of their own */
	RateCard   *card = list_card(service);

	return unlikely(card->particular) ? particular_card(service, account) : card;
}

/*
 * tb_find_meter
 *		The meter of this name on a card, or null.
 */
const Meter *
tb_find_meter(const RateCard *card, const char *name, int name_len)
{
	for (int i = 0; i < card->nmeters; i++)
	{
		const Meter *meter = &card->meters[i];

		if (meter->name_len == name_len &&
			memcmp(meter->name, name, name_len) == 0)
			return meter;
	}
	return NULL;
}

static void
load_parents(void)
{
	static Statement query = {
		.sql = "SELECT m.meter, m.parent FROM tokenbill.meter m WHERE m.parent IS NOT NULL",
		.nargs = 0
	};
	HASHCTL		ctl;
	HTAB	   *loaded;

	tb_run(&query, NULL, NULL);
	ctl.keysize = TB_MAX_METER + 1;
	ctl.entrysize = sizeof(ParentEntry);
	ctl.hcxt = cache_context;
	loaded = hash_create("tokenbill parent meters", 32, &ctl,
						 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		values[2];
		bool		nulls[2];
		ParentEntry *entry;

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
						  values, nulls);
		entry = hash_search(loaded, TextDatumGetCString(values[0]), HASH_ENTER,
							NULL);
		strlcpy(entry->parent, TextDatumGetCString(values[1]),
				sizeof(entry->parent));
	}
	parents = loaded;
}

/*
 * tb_parent_meter
 *		The meter whose price counts where this one has none; null: none does.
 *
 * Needs SPI, and a card: it is good as long as that.
 */
const char *
tb_parent_meter(const char *name, int name_len)
{
	char		key[TB_MAX_METER + 1];
	ParentEntry *entry;

	if (name_len > TB_MAX_METER)
		return NULL;
	if (parents == NULL)
		load_parents();
	memcpy(key, name, name_len);
	key[name_len] = '\0';
	entry = hash_search(parents, key, HASH_FIND, NULL);
	return entry != NULL ? entry->parent : NULL;
}

static bool
within_hours(const Price *price, CallTime *when)
{
	if (when->minute < 0)
		when->minute = tb_minute_of_day(when->at);
	if (price->from_minute < price->to_minute)
		return when->minute >= price->from_minute &&
			when->minute < price->to_minute;
	return when->minute >= price->from_minute || when->minute < price->to_minute;
}

/*
 * tb_price_at
 *		The price that counts for a call, or null if there is none yet.
 */
const Price *
tb_price_at(const Price *prices, int nprices, CallTime *when)
{
	for (int i = 0; i < nprices; i++)
	{
		const Price *price = &prices[i];

		if (price->valid_from <= when->at &&
			(likely(price->service_tier == NULL) ||
			 (when->service_tier != NULL &&
			  strcmp(price->service_tier, when->service_tier) == 0)) &&
			(likely(price->hours == NULL) || within_hours(price, when)))
			return price;
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
	CacheInvalidateRelcacheByRelid(get_relname_relid("price",
													 get_namespace_oid("tokenbill", false)));
	return PointerGetDatum(NULL);
}
