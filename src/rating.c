/*
 * rating.c
 *	  What does the usage cost?
 *
 * cost = sum over the meters of quantity * (unit_price / per), in exact decimal
 * arithmetic: nothing is ever rounded.
 */
#include "rating.h"

#include "card.h"
#include "check.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "money.h"
#include "account.h"
#include "clock.h"
#include "query.h"
#include "tenant.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(tokenbill_quote);

/* Counts that need not be whole have at most so many decimals. */
#define COUNT_DECIMALS 9

/*
 * Meters that count things, and so are whole numbers: all that end in "_tokens",
 * and these.
 */
static const char *const whole_meters[] = {
	"tokens", "images", "characters", "words", "requests", "web_searches"
};

static bool
counts_things(const char *meter, int len)
{
	static const char suffix[] = "_tokens";
	const int	suffix_len = sizeof(suffix) - 1;

	if (len > suffix_len &&
		memcmp(meter + len - suffix_len, suffix, suffix_len) == 0)
		return true;
	for (size_t i = 0; i < lengthof(whole_meters); i++)
	{
		if (strlen(whole_meters[i]) == (size_t) len &&
			memcmp(meter, whole_meters[i], len) == 0)
			return true;
	}
	return false;
}

/*
 * The names that set_price() gives meters.  Others are refused before anything
 * repeats them: they may be anything, a card number or a line break.
 */
static bool
is_meter_name(const JsonbValue *key)
{
	const char *s = key->val.string.val;
	int			len = key->val.string.len;

	if (len == 0 || len > TB_MAX_METER || s[0] < 'a' || s[0] > 'z')
		return false;
	for (int i = 1; i < len; i++)
	{
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') ||
			  s[i] == '_'))
			return false;
	}
	return true;
}

static Refusal *
bad_count(int sqlstate, const JsonbValue *key, const char *hint,
		  const char *problem)
{
	char	   *meter = pnstrdup(key->val.string.val, key->val.string.len);

	return tb_refusal(sqlstate,
					  tb_json("argument:s meter:s", "usage", meter), hint,
					  "usage has %s: \"%s\"", problem, meter);
}

static Refusal *
check_count(const JsonbValue *key, const JsonbValue *value)
{
	static Numeric bound = NULL;
	Numeric		count;
	int			scale;

	if (tb_has_card_number(key->val.string.val, key->val.string.len))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "usage"),
						  "Card numbers must not be stored here.",
						  "usage contains what looks like a payment card number");
	if (!is_meter_name(key))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "usage"),
						  "Meters are named with lower-case letters, digits and underscores, like input_tokens.",
						  "usage has a name that is no meter's");
	if (value->type != jbvNumeric)
		return bad_count(ERRCODE_INVALID_PARAMETER_VALUE, key,
						 "Meters are numbers; nested objects of a provider must be turned into meters first.",
						 "a meter that is not a number");
	count = value->val.numeric;

	if (unlikely(bound == NULL))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		bound = int64_to_numeric(TB_COUNT_BOUND);
		MemoryContextSwitchTo(old);
	}
	if (tb_compare(count, tb_zero()) < 0)
		return bad_count(ERRCODE_INVALID_PARAMETER_VALUE, key,
						 "Use refund() to give something back.",
						 "a negative count");
	if (tb_compare(count, bound) >= 0)
		return bad_count(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, key,
						 "Counts are less than 10^15.",
						 "a count that is too large");

	scale = DatumGetInt32(DirectFunctionCall1(numeric_min_scale,
											  NumericGetDatum(count)));
	if (scale > 0 && counts_things(key->val.string.val, key->val.string.len))
		return bad_count(ERRCODE_INVALID_PARAMETER_VALUE, key,
						 "This meter counts things, so it is a whole number.",
						 "a fractional count");
	if (scale > COUNT_DECIMALS)
		return bad_count(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, key,
						 "Counts have at most 9 decimals.",
						 "a count with too many decimals");
	return NULL;
}

static const Meter *
find_meter(const RateCard *card, const JsonbValue *name)
{
	for (int i = 0; i < card->nmeters; i++)
	{
		const Meter *meter = &card->meters[i];

		if (meter->name_len == name->val.string.len &&
			memcmp(meter->name, name->val.string.val, meter->name_len) == 0)
			return meter;
	}
	return NULL;
}

/*
 * The rates as the ledger keeps them: {"input_tokens": "2.5/1000000", ...}.  The
 * same prices come again and again, so the last ones are kept ready.
 */
static Jsonb *
rates_of(RateCard *card, const Rating *rating)
{
	const Price *used[TB_MAX_METERS];
	bool		same = card->rates != NULL && card->nused == rating->nitems;
	JsonbParseState *state = NULL;
	JsonbValue *object;
	Jsonb	   *rates;

	for (int i = 0; i < rating->nitems; i++)
	{
		used[i] = rating->items[i].price;
		if (same && card->used[i] != used[i])
			same = false;
	}
	if (likely(same))
		return card->rates;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < rating->nitems; i++)
	{
		const Meter *meter = rating->items[i].meter;
		JsonbValue	v;

		v.type = jbvString;
		v.val.string.val = meter->name;
		v.val.string.len = meter->name_len;
		pushJsonbValue(&state, WJB_KEY, &v);
		v.val.string.val = used[i]->written;
		v.val.string.len = strlen(used[i]->written);
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	rates = JsonbValueToJsonb(object);
	tb_keep_rates(card, used, rating->nitems, rates);
	return rates;
}

static Refusal *
check_usage(Jsonb *usage)
{
	if (usage == NULL)
		return tb_refusal(ERRCODE_NULL_VALUE_NOT_ALLOWED,
						  tb_json("argument:s", "usage"),
						  "A call that reported no usage is not a call that used nothing: find out what it used.",
						  "usage must not be null");
	if (!JB_ROOT_IS_OBJECT(usage))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "usage"),
						  "Pass an object of meters and counts, such as {\"input_tokens\": 12}.",
						  "usage must be a JSON object");
	if (JB_ROOT_COUNT(usage) == 0)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "usage"),
						  "A call that used nothing says so with a meter of 0.",
						  "usage must not be empty");
	if (JB_ROOT_COUNT(usage) > TB_MAX_METERS)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s meters:i max_meters:i", "usage",
								  (int64) JB_ROOT_COUNT(usage),
								  (int64) TB_MAX_METERS),
						  "Split the usage into several charges.",
						  "usage has too many meters");
	return NULL;
}

/*
 * tb_check_usage
 *		Is it an object of meters and counts, whatever they cost?
 */
Refusal *
tb_check_usage(Jsonb *usage)
{
	Refusal    *refusal = check_usage(usage);
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	value;

	if (refusal != NULL)
		return refusal;
	it = JsonbIteratorInit(&usage->root);
	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while (refusal == NULL && JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		refusal = check_count(&key, &value);
	}
	return refusal;
}

/*
 * tb_rate
 *		Price some usage of a service for an account, at a time.
 *
 * Refuses usage that is null (22004), no object, empty, or has a bad count
 * (22023, 22003), a service or a meter without a price (PT404).  A count of zero
 * needs no price.  Needs SPI.
 */
Refusal *
tb_rate(const text *service, const text *account, Jsonb *usage,
		TimestampTz at, Rating *rating)
{
	RateCard   *card;
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	value;
	Numeric		cost = NULL;

	Refusal    *refusal = check_usage(usage);

	rating->nitems = 0;
	if (refusal != NULL)
		return refusal;

	card = tb_rate_card(service, account);
	if (card->nmeters == 0)
		return tb_refusal(TB_NOT_FOUND, tb_json("service:t", service),
						  "Set its prices with tokenbill.set_price().",
						  "service \"%s\" has no price",
						  text_to_cstring(service));

	it = JsonbIteratorInit(&usage->root);
	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		RatedMeter *item = &rating->items[rating->nitems];

		(void) JsonbIteratorNext(&it, &value, true);
		refusal = check_count(&key, &value);
		if (refusal != NULL)
			return refusal;

		item->meter = find_meter(card, &key);
		item->price = item->meter ? tb_price_at(item->meter, at) : NULL;
		if (item->price == NULL)
		{
			if (tb_compare(value.val.numeric, tb_zero()) == 0)
				continue;
			return tb_refusal(TB_NOT_FOUND,
							  tb_json("service:t meter:s", service,
									  pnstrdup(key.val.string.val,
											   key.val.string.len)),
							  "Set its price with tokenbill.set_price(); nothing that is counted is given away unpriced.",
							  "meter \"%s\" of service \"%s\" has no price",
							  pnstrdup(key.val.string.val, key.val.string.len),
							  text_to_cstring(service));
		}
		item->quantity = value.val.numeric;
		item->amount = tb_mul(item->quantity, item->price->rate);
		cost = cost == NULL ? item->amount : tb_add(cost, item->amount);
		rating->nitems++;
	}

	/* 0.0005 and not 0.00050000: the scale came from the prices */
	rating->cost = cost == NULL ? tb_zero() :
		DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale,
											NumericGetDatum(cost)));
	rating->rates = rates_of(card, rating);
	if (!tb_balance_fits(rating->cost))
		return tb_refusal(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  tb_json("argument:s", "usage"),
						  "Amounts are less than 10^18.",
						  "usage costs too much");
	return NULL;
}

/*
 * quote(account text, service text, usage jsonb)
 *	-> setof (meter, quantity, unit_price, per, tier, amount)
 *		The same code as charge() prices with; changes nothing.
 */
Datum
tokenbill_quote(PG_FUNCTION_ARGS)
{
	text	   *account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text	   *service = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	Jsonb	   *usage = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Session		session;
	Rating		rating;

	InitMaterializedSRF(fcinfo, 0);
	tb_raise(tb_check_text("account", account, TB_MAX_ACCOUNT));
	tb_raise(tb_check_text("service", service, TB_MAX_NAME));

	tb_enter(fcinfo, &session);
	tb_raise(tb_check_account(account, session.userid));
	tb_raise(tb_rate(service, account, usage, tb_now(), &rating));
	tb_leave(&session);

	for (int i = 0; i < rating.nitems; i++)
	{
		const RatedMeter *item = &rating.items[i];
		Datum		values[6];
		bool		nulls[6] = {false, false, false, false, true, false};

		values[0] = CStringGetTextDatum(item->meter->name);
		values[1] = NumericGetDatum(item->quantity);
		values[2] = NumericGetDatum(item->price->unit_price);
		values[3] = NumericGetDatum(item->price->per);
		values[5] = NumericGetDatum(item->amount);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}
