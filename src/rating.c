/*
 * rating.c
 *	  What does the usage cost?
 *
 * The usage is taken apart into disjoint meters (usage.c); each is priced by the
 * price of it that counts at the time (price.c), or of its parent if it has none;
 * amounts come from the price's mode (tier.c), and are added up.  All of it is
 * exact decimal arithmetic: nothing is ever rounded.
 *
 * What the upstream charges us is worked out beside it, in the same way, from
 * prices of the side "cost".  If one of them is missing it is unknown, not zero.
 */
#include "rating.h"

#include "markup.h"
#include "money.h"
#include "tier.h"
#include "utils/builtins.h"
#include "utils/guc.h"

/* What is done about a service or a meter that has no price. */
enum
{
	UNPRICED_REJECT,
	UNPRICED_FALLBACK,
	UNPRICED_SUSPENSE
};

static const struct config_enum_entry unpriced_choices[] = {
	{"reject", UNPRICED_REJECT, false},
	{"fallback", UNPRICED_FALLBACK, false},
	{"suspense", UNPRICED_SUSPENSE, false},
	{NULL, 0, false}
};

static int	unpriced_policy = UNPRICED_REJECT;

/*
 * tb_rating_init
 *		Define the setting; called once, from _PG_init.
 */
void
tb_rating_init(void)
{
	DefineCustomEnumVariable("tokenbill.unpriced",
							 "What is done about usage that has no price.",
							 "reject: it is refused; fallback: it costs what service * costs; suspense: it is recorded and priced later.",
							 &unpriced_policy,
							 UNPRICED_REJECT,
							 unpriced_choices,
							 PGC_SUSET,
							 0,
							 NULL, NULL, NULL);
}

static Numeric
trimmed(Numeric value)
{
	/* 0.0005 and not 0.00050000: the scale came from the prices */
	return DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale,
											   NumericGetDatum(value)));
}

/*
 * The price of a meter, or of its nearest ancestor that has one; null if none.
 */
static const Price *
find_price(const RateCard *card, const char *name, int name_len, bool cost,
		   CallTime *when, const Meter **as)
{
	while (name != NULL)
	{
		const Meter *meter = tb_find_meter(card, name, name_len);
		const Price *price = NULL;

		if (likely(meter != NULL))
			price = cost ? tb_price_at(meter->costs, meter->ncosts, when) :
				tb_price_at(meter->prices, meter->nprices, when);
		if (likely(price != NULL))
		{
			*as = meter;
			return price;
		}
		name = tb_parent_meter(name, name_len);
		name_len = name != NULL ? strlen(name) : 0;
	}
	return NULL;
}

/* What a quantity costs at a price; asks for the input tokens only if it has to. */
static Numeric
amount_of(const Price *price, Numeric quantity, const Usage *usage,
		  Rating *rating, const Rate **rate)
{
	if (likely(price->mode == PRICE_FLAT))
	{
		*rate = &price->rate;
		return tb_mul(quantity, price->rate.value);
	}
	if (price->mode == PRICE_CLIFF && rating->context == NULL)
	{
		rating->context = tb_context_tokens(usage);
		if (rating->context == NULL)
			rating->context = tb_zero();
	}
	return tb_price_of(price, quantity, rating->context, rate);
}

static bool
is_minimum(const char *name, int name_len)
{
	return name_len == (int) strlen(TB_MINIMUM_CHARGE) &&
		memcmp(name, TB_MINIMUM_CHARGE, name_len) == 0;
}

/*
 * tb_item_tier
 *		Which of its meter's prices an item has, for people; null if there is one.
 */
char *
tb_item_tier(const Rating *rating, const RatedMeter *item)
{
	if (item->price == NULL)
		return "unpriced";
	if (rating->unpriced != NULL)
		return "suspense";
	if (is_minimum(item->name, item->name_len))
		return "minimum";
	return tb_tier_text(item->price, item->quantity, rating->context);
}

static void
push_string(JsonbParseState **state, JsonbIteratorToken token,
			const char *value, int len)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, value);
	v.val.string.len = len;
	pushJsonbValue(state, token, &v);
}

static void
push_number(JsonbParseState **state, const char *name, Numeric value)
{
	JsonbValue	v;

	push_string(state, WJB_KEY, name, strlen(name));
	v.type = jbvNumeric;
	v.val.numeric = value;
	pushJsonbValue(state, WJB_VALUE, &v);
}

static void
push_text(JsonbParseState **state, const char *name, const char *value)
{
	push_string(state, WJB_KEY, name, strlen(name));
	push_string(state, WJB_VALUE, value, strlen(value));
}

/* What an item was priced with, where its price alone does not say it. */
static void
push_item(JsonbParseState **state, const Rating *rating, const RatedMeter *item)
{
	char	   *tier;

	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_number(state, "quantity", item->quantity);
	if (rating->unpriced != NULL)
	{
		/* what it was is known, what it costs is not */
		pushJsonbValue(state, WJB_END_OBJECT, NULL);
		return;
	}
	tier = tb_item_tier(rating, item);
	push_text(state, "price", item->rate->written);
	push_number(state, "amount", trimmed(item->amount));
	if (tier != NULL)
		push_text(state, "tier", tier);
	if (item->meter->name_len != item->name_len ||
		memcmp(item->meter->name, item->name, item->name_len) != 0)
		push_text(state, "as", item->meter->name);
	if (item->fallback)
		push_text(state, "service", "*");
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

/*
 * The rates as the ledger keeps them: {"input_tokens": "2.5/1000000", ...}, or
 * an object in the place of "unit_price/per" where that does not say it all.
 * Plain prices come again and again, so the last ones are kept ready.
 */
static Jsonb *
rates_of(RateCard *card, const Rating *rating)
{
	const Price *used[TB_MAX_METERS + 1];
	bool		same = card->rates != NULL && card->nused == rating->nitems;
	bool		plain = true;
	JsonbParseState *state = NULL;
	Jsonb	   *rates;

	for (int i = 0; i < rating->nitems; i++)
	{
		used[i] = rating->items[i].price;
		if (same && card->used[i] != used[i])
			same = false;
		plain = plain && rating->items[i].plain && rating->unpriced == NULL;
	}
	if (likely(same && plain))
		return card->rates;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < rating->nitems; i++)
	{
		const RatedMeter *item = &rating->items[i];

		push_string(&state, WJB_KEY, item->name, item->name_len);
		if (item->plain && rating->unpriced == NULL)
			push_string(&state, WJB_VALUE, item->rate->written,
						strlen(item->rate->written));
		else
			push_item(&state, rating, item);
	}
	rates = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	if (plain)
		tb_keep_rates(card, used, rating->nitems, rates);
	return rates;
}

static Refusal *
no_price(const text *service, const char *meter)
{
	if (meter == NULL)
		return tb_refusal(TB_NOT_FOUND, tb_json("service:t", service),
						  "Set its prices with tokenbill.set_price().",
						  "service \"%s\" has no price",
						  text_to_cstring(service));
	return tb_refusal(TB_NOT_FOUND,
					  tb_json("service:t meter:s", service, meter),
					  "Set its price with tokenbill.set_price(); nothing that is counted is given away unpriced.",
					  "meter \"%s\" of service \"%s\" has no price",
					  meter, text_to_cstring(service));
}

/*
 * The price of service *, for what has none of its own.
 */
static const Price *
fallback_price(const text *account, const UsageMeter *meter, CallTime *when,
			   const RateCard **card, const Meter **as)
{
	const Price *price;

	*card = tb_other_card(cstring_to_text("*"), account);
	price = find_price(*card, meter->name, meter->name_len, false, when, as);
	return price != NULL ? price : find_price(*card, "*", 1, false, when, as);
}

/* The names of the meters that have no price. */
static Jsonb *
unpriced_meters(const Rating *rating)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < rating->nitems; i++)
	{
		if (rating->items[i].price == NULL)
			push_string(&state, WJB_ELEM, rating->items[i].name,
						rating->items[i].name_len);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

/*
 * Make up for what a call costs less than the least it may: an item of its own.
 */
static Numeric
add_minimum(const RateCard *card, CallTime *when, Numeric amount, Rating *rating)
{
	RatedMeter *item = &rating->items[rating->nitems];
	const Price *price = tb_price_at(card->minimum->prices,
									 card->minimum->nprices, when);

	if (price == NULL)
		return amount;
	price = tb_marked_up(card, price, when->at);
	if (tb_compare(amount, price->rate.value) >= 0)
		return amount;
	memset(item, 0, sizeof(RatedMeter));
	item->name = card->minimum->name;
	item->name_len = card->minimum->name_len;
	item->quantity = int64_to_numeric(1);
	item->meter = card->minimum;
	item->price = price;
	item->rate = &price->rate;
	item->amount = tb_sub(price->rate.value, amount);
	item->cost = tb_zero();
	rating->nitems++;
	return price->rate.value;
}

/* What the upstream takes for a call at least. */
static Numeric
with_minimum_cost(const RateCard *card, CallTime *when, Numeric cost)
{
	const Price *price = tb_price_at(card->minimum->costs,
									 card->minimum->ncosts, when);

	return price != NULL ? tb_larger(cost, price->rate.value) : cost;
}

/*
 * Price one meter; false if it has no price.
 */
static bool
rate_meter(const RateCard *card, const text *account, const Usage *usage,
		   const UsageMeter *meter, CallTime *when, Rating *rating,
		   RatedMeter *item)
{
	const RateCard *from = card;
	const Price *cost;
	const Meter *as;
	const Rate *rate;

	item->name = meter->name;
	item->name_len = meter->name_len;
	item->quantity = meter->quantity;
	item->cost = NULL;
	item->fallback = false;
	item->plain = false;
	item->rate = NULL;
	item->price = find_price(card, item->name, item->name_len, false, when,
							 &item->meter);
	if (unlikely(item->price == NULL) && unpriced_policy == UNPRICED_FALLBACK)
	{
		item->price = fallback_price(account, meter, when, &from, &item->meter);
		item->fallback = true;
	}
	if (unlikely(item->price == NULL))
		return false;
	if (unlikely(from->nmarkups > 0))
		item->price = tb_marked_up(from, item->price, when->at);

	item->amount = amount_of(item->price, item->quantity, usage, rating,
							 &item->rate);
	item->plain = usage->canonical && item->price->mode == PRICE_FLAT &&
		item->price->service_tier == NULL && item->price->hours == NULL &&
		!item->fallback && item->meter->name_len == item->name_len &&
		memcmp(item->meter->name, item->name, item->name_len) == 0;
	if (card->has_costs)
	{
		cost = find_price(card, item->name, item->name_len, true, when, &as);
		if (cost != NULL)
			item->cost = amount_of(cost, item->quantity, usage, rating, &rate);
	}
	return true;
}

/*
 * Read the usage, with what functions count in it, and the card to price it with.
 * The first *nreported meters are those that the usage itself has, those from
 * *nwanted on need no price.
 */
static Refusal *
read_usage(const text *service, const text *account, Jsonb *usage,
		   RateCard **card, Usage *read, int *nreported, int *nwanted)
{
	MeterFunctions functions;
	text	   *format;
	Refusal    *refusal;

	*card = tb_rate_card(service, account);
	if (likely((*card)->functions.n == 0))
	{
		refusal = tb_normalize(usage, (*card)->usage_format, read);
		*nreported = *nwanted = read->nmeters;
		return refusal;
	}

	/* a user's function can make the cache start anew */
	functions = tb_copy_functions(&(*card)->functions);
	format = (*card)->usage_format;
	if (format != NULL)
		format = (text *) PG_DETOAST_DATUM_COPY(PointerGetDatum(format));
	refusal = tb_measure(&functions, usage, format, read, nreported, nwanted);
	*card = tb_rate_card(service, account);
	return refusal;
}

/*
 * tb_keep_usage
 *		What the ledger line of a charge of this usage keeps of it.  Needs SPI.
 *
 * To find out whether a request is the same as one that has been granted: it
 * depends on the service, because functions may forget texts.  service may be null.
 */
Refusal *
tb_keep_usage(const text *service, const text *account, Jsonb *usage,
			  Jsonb **kept)
{
	static const MeterFunctions none = {0};
	RateCard   *card = service ? tb_rate_card(service, account) : NULL;
	Usage		read;
	Refusal    *refusal = tb_measure(card ? &card->functions : &none, usage,
									 card ? card->usage_format : NULL, &read,
									 NULL, NULL);

	if (refusal == NULL)
		*kept = read.kept;
	return refusal;
}

/*
 * tb_rate
 *		Price some usage of a service for an account, at a time.
 *
 * Refuses usage that is none (22004, 22023, 22003), and a service or a meter
 * without a price (PT404); unless the setting tokenbill.unpriced is suspense, and
 * the caller may suspend: then unpriced has the meters' names, and the amount is
 * zero.  A count of zero needs no price.  Needs SPI.
 */
Refusal *
tb_rate(const text *service, const text *account, Jsonb *usage,
		TimestampTz at, bool may_suspend, Rating *rating)
{
	RateCard   *card;
	Usage		read;
	CallTime	when = {.at = at,.minute = -1};
	Numeric		amount = NULL;
	Numeric		cost = NULL;
	bool		cost_known;
	bool		used = false;
	bool		suspended = false;
	int			nreported;
	int			nwanted;
	Refusal    *refusal = read_usage(service, account, usage, &card, &read,
									 &nreported, &nwanted);

	rating->nitems = 0;
	rating->context = NULL;
	rating->unpriced = NULL;
	if (refusal != NULL)
		return refusal;
	rating->usage = read.kept;
	if (strcmp(read.service_tier, "standard") != 0)
		when.service_tier = read.service_tier;
	cost_known = card->has_costs;
	may_suspend = may_suspend && unpriced_policy == UNPRICED_SUSPENSE;
	if (!card->has_prices && !may_suspend && unpriced_policy != UNPRICED_FALLBACK)
		return no_price(service, NULL);

	for (int i = 0; i < read.nmeters; i++)
	{
		RatedMeter *item = &rating->items[rating->nitems];
		bool		is_used = tb_compare(read.meters[i].quantity, tb_zero()) > 0;

		if (unlikely(card->minimum != NULL) &&
			is_minimum(read.meters[i].name, read.meters[i].name_len))
			return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							  tb_json("argument:s meter:s", "usage",
									  TB_MINIMUM_CHARGE),
							  "What a call costs at least is added by itself.",
							  "usage cannot count minimum charges");
		if (unlikely(!rate_meter(card, account, &read, &read.meters[i], &when,
								 rating, item)))
		{
			if (!is_used || i >= nwanted)
				continue;
			if (!may_suspend)
				return no_price(service, card->has_prices || unpriced_policy == UNPRICED_FALLBACK ?
								pnstrdup(item->name, item->name_len) : NULL);
			suspended = true;
			item->amount = tb_zero();
			rating->nitems++;
			continue;
		}
		if (i >= nreported)
			item->plain = false;
		amount = amount == NULL ? item->amount : tb_add(amount, item->amount);
		if (item->cost != NULL)
			cost = cost == NULL ? item->cost : tb_add(cost, item->cost);
		else if (is_used && i < nwanted)
			cost_known = false;
		used = used || is_used;
		rating->nitems++;
	}

	if (unlikely(suspended))
	{
		rating->unpriced = unpriced_meters(rating);
		rating->rates = rates_of(card, rating);
		rating->amount = tb_zero();
		rating->cost = NULL;
		return NULL;
	}

	if (amount == NULL)
		amount = tb_zero();
	if (unlikely(card->minimum != NULL) && used)
		amount = add_minimum(card, &when, amount, rating);
	rating->amount = trimmed(amount);
	rating->cost = NULL;
	if (cost_known)
	{
		if (cost == NULL)
			cost = tb_zero();
		if (unlikely(card->minimum != NULL) && used)
			cost = with_minimum_cost(card, &when, cost);
		rating->cost = trimmed(cost);
	}
	rating->rates = rates_of(card, rating);
	if (!tb_balance_fits(rating->amount))
		return tb_refusal(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  tb_json("argument:s", "usage"),
						  "Amounts are less than 10^18.",
						  "usage costs too much");
	return NULL;
}
