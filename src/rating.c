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

#include "clock.h"
#include "money.h"
#include "tier.h"
#include "utils/builtins.h"

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

/*
 * tb_item_tier
 *		Which of its meter's prices an item has, for people; null if there is one.
 */
char *
tb_item_tier(const Rating *rating, const RatedMeter *item)
{
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
	char	   *tier = tb_item_tier(rating, item);

	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_number(state, "quantity", item->quantity);
	push_text(state, "price", item->rate->written);
	push_number(state, "amount", trimmed(item->amount));
	if (tier != NULL)
		push_text(state, "tier", tier);
	if (item->meter->name_len != item->name_len ||
		memcmp(item->meter->name, item->name, item->name_len) != 0)
		push_text(state, "as", item->meter->name);
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
	const Price *used[TB_MAX_METERS];
	bool		same = card->rates != NULL && card->nused == rating->nitems;
	bool		plain = true;
	JsonbParseState *state = NULL;
	Jsonb	   *rates;

	for (int i = 0; i < rating->nitems; i++)
	{
		used[i] = rating->items[i].price;
		if (same && card->used[i] != used[i])
			same = false;
		plain = plain && rating->items[i].plain;
	}
	if (likely(same && plain))
		return card->rates;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < rating->nitems; i++)
	{
		const RatedMeter *item = &rating->items[i];

		push_string(&state, WJB_KEY, item->name, item->name_len);
		if (item->plain)
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

/*
 * tb_check_usage
 *		Is it usage, whatever it costs?  *kept is what a ledger line keeps of it.
 */
Refusal *
tb_check_usage(Jsonb *usage, Jsonb **kept)
{
	Usage		read;
	Refusal    *refusal = tb_normalize(usage, NULL, &read);

	if (refusal == NULL)
		*kept = read.kept;
	return refusal;
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
 * tb_rate
 *		Price some usage of a service for an account, at a time.
 *
 * Refuses usage that is none (22004, 22023, 22003), a service or a meter without
 * a price (PT404).  A count of zero needs no price.  Needs SPI.
 */
Refusal *
tb_rate(const text *service, const text *account, Jsonb *usage,
		TimestampTz at, Rating *rating)
{
	RateCard   *card;
	Usage		read;
	CallTime	when = {.at = at,.minute = -1};
	Numeric		amount = NULL;
	Numeric		cost = NULL;
	bool		cost_known = true;
	Refusal    *refusal = tb_normalize(usage, NULL, &read);

	rating->nitems = 0;
	rating->context = NULL;
	if (refusal != NULL)
		return refusal;
	rating->usage = read.kept;
	if (strcmp(read.service_tier, "standard") != 0)
		when.service_tier = read.service_tier;

	card = tb_rate_card(service, account);
	if (!card->has_prices)
		return no_price(service, NULL);

	for (int i = 0; i < read.nmeters; i++)
	{
		RatedMeter *item = &rating->items[rating->nitems];
		const Rate *rate;
		const Price *price;
		const Meter *as;

		item->name = read.meters[i].name;
		item->name_len = read.meters[i].name_len;
		item->quantity = read.meters[i].quantity;
		item->price = find_price(card, item->name, item->name_len, false, &when,
								 &item->meter);
		if (item->price == NULL)
		{
			if (tb_compare(item->quantity, tb_zero()) == 0)
				continue;
			return no_price(service, pnstrdup(item->name, item->name_len));
		}
		item->amount = amount_of(item->price, item->quantity, &read, rating,
								 &item->rate);
		item->plain = read.canonical && item->price->mode == PRICE_FLAT &&
			item->price->service_tier == NULL && item->price->hours == NULL &&
			item->meter->name_len == item->name_len &&
			memcmp(item->meter->name, item->name, item->name_len) == 0;
		amount = amount == NULL ? item->amount : tb_add(amount, item->amount);

		item->cost = NULL;
		if (card->has_costs)
		{
			price = find_price(card, item->name, item->name_len, true, &when, &as);
			if (price != NULL)
			{
				item->cost = amount_of(price, item->quantity, &read, rating, &rate);
				cost = cost == NULL ? item->cost : tb_add(cost, item->cost);
			}
			else if (tb_compare(item->quantity, tb_zero()) != 0)
				cost_known = false;
		}
		rating->nitems++;
	}

	rating->amount = amount == NULL ? tb_zero() : trimmed(amount);
	rating->cost = NULL;
	if (card->has_costs && cost_known)
		rating->cost = cost == NULL ? tb_zero() : trimmed(cost);
	rating->rates = rates_of(card, rating);
	if (!tb_balance_fits(rating->amount))
		return tb_refusal(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  tb_json("argument:s", "usage"),
						  "Amounts are less than 10^18.",
						  "usage costs too much");
	return NULL;
}
