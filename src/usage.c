/*
 * usage.c
 *	  What did a call use?
 *
 * A usage object is either the meters themselves, as in {"input_tokens": 12}, or
 * what a provider reported, whose counts may contain each other.  What comes out
 * is meters that are disjoint, so that each can be priced and added up.  Meters
 * are the fast way: they are checked in one pass, and nothing is made of them.
 */
#include "usage.h"

#include "card.h"
#include "check.h"
#include "money.h"
#include "utils/memutils.h"

/* Counts that need not be whole have at most so many decimals. */
#define COUNT_DECIMALS 9

/*
 * Meters that count things, and so are whole numbers: all that end in "_tokens",
 * and these.
 */
static const char *const whole_meters[] = {
	"tokens", "images", "characters", "words", "requests", "web_searches"
};

/* Whether this meter's counts are whole numbers. */
bool
tb_counts_things(const char *meter, int len)
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
 * tb_is_meter_name
 *		Whether a meter can have this name, as set_price() says it too.
 *
 * Others are refused before anything repeats them: they may be anything, a card
 * number or a line break.
 */
bool
tb_is_meter_name(const char *name, int len)
{
	if (len == 0 || len > TB_MAX_METER || name[0] < 'a' || name[0] > 'z')
		return false;
	for (int i = 1; i < len; i++)
	{
		char		c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
			return false;
	}
	return true;
}

static Refusal *
bad_count(int sqlstate, const char *name, int len, const char *hint,
		  const char *problem)
{
	char	   *meter = pnstrdup(name, len);

	return tb_refusal(sqlstate,
					  tb_json("argument:s meter:s field:s", "usage", meter,
							  meter), hint,
					  "usage has %s: \"%s\"", problem, meter);
}

/* Is the count of a meter one that can be charged? */
static Refusal *
check_count(const char *name, int len, Numeric count)
{
	static Numeric bound = NULL;
	int			scale;

	if (unlikely(bound == NULL))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		bound = int64_to_numeric(TB_COUNT_BOUND);
		MemoryContextSwitchTo(old);
	}
	if (tb_compare(count, tb_zero()) < 0)
		return bad_count(ERRCODE_INVALID_PARAMETER_VALUE, name, len,
						 "Use refund() to give something back.",
						 "a negative count");
	if (tb_compare(count, bound) >= 0)
		return bad_count(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, name, len,
						 "Counts are less than 10^15.",
						 "a count that is too large");

	scale = DatumGetInt32(DirectFunctionCall1(numeric_min_scale,
											  NumericGetDatum(count)));
	if (scale > 0 && tb_counts_things(name, len))
		return bad_count(ERRCODE_INVALID_PARAMETER_VALUE, name, len,
						 "This meter counts things, so it is a whole number.",
						 "a fractional count");
	if (scale > COUNT_DECIMALS)
		return bad_count(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, name, len,
						 "Counts have at most 9 decimals.",
						 "a count with too many decimals");
	return NULL;
}

/* Input tokens of whatever kind: what is in the context of the call. */
static bool
is_context(const char *name, int len)
{
	return len >= 12 && memcmp(name + len - 7, "_tokens", 7) == 0 &&
		(memcmp(name, "input_", 6) == 0 || memcmp(name, "cache_", 6) == 0);
}

/*
 * The object is meters and counts, or is refused.
 */
static Refusal *
take_meters(Jsonb *usage, Usage *result)
{
	JsonbIterator *it = JsonbIteratorInit(&usage->root);
	JsonbValue	key;
	JsonbValue	value;
	Refusal    *refusal;

	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		const char *name = key.val.string.val;
		int			len = key.val.string.len;
		UsageMeter *meter = &result->meters[result->nmeters];

		(void) JsonbIteratorNext(&it, &value, true);
		if (tb_has_card_number(name, len))
			return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							  tb_json("argument:s", "usage"),
							  "Card numbers must not be stored here.",
							  "usage contains what looks like a payment card number");
		if (!tb_is_meter_name(name, len))
			return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							  tb_json("argument:s", "usage"),
							  "Meters are named with lower-case letters, digits and underscores, like input_tokens.",
							  "usage has a name that is no meter's");
		if (value.type != jbvNumeric)
			return bad_count(ERRCODE_INVALID_PARAMETER_VALUE, name, len,
							 "Meters are numbers; nested objects are read if they are of a known format.",
							 "a meter that is not a number");
		if ((refusal = check_count(name, len, value.val.numeric)) != NULL)
			return refusal;

		if (result->nmeters == TB_MAX_METERS)
			return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							  tb_json("argument:s meters:i max_meters:i", "usage",
									  (int64) JB_ROOT_COUNT(usage),
									  (int64) TB_MAX_METERS),
							  "Split the usage into several charges.",
							  "usage has too many meters");
		meter->name = name;
		meter->name_len = len;
		meter->quantity = value.val.numeric;
		result->nmeters++;
	}
	result->canonical = true;
	return NULL;
}

/*
 * tb_context_tokens
 *		All input tokens among the meters; null if there is no such meter.
 *
 * Of use to context tiers only, so it is not added up for everybody.
 */
Numeric
tb_context_tokens(const Usage *usage)
{
	Numeric		sum = usage->context_tokens;

	if (sum != NULL)
		return sum;
	for (int i = 0; i < usage->nmeters; i++)
	{
		const UsageMeter *meter = &usage->meters[i];

		if (is_context(meter->name, meter->name_len))
			sum = sum == NULL ? meter->quantity : tb_add(sum, meter->quantity);
	}
	return sum;
}

/*
 * tb_normalize
 *		Read a usage object into disjoint meters.
 *
 * format is null or "auto" to find out, or the name of a format.  Refuses usage
 * that is null (22004), no object, empty, of no known format, contradicts itself
 * or has a bad count (22023, 22003).  Needs no SPI.
 */
Refusal *
tb_normalize(Jsonb *usage, const text *format, Usage *result)
{
	Refusal    *refusal = tb_check_usage_format("format", format);

	if (refusal != NULL)
		return refusal;
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

	result->nmeters = 0;
	result->format = "meters";
	result->service_tier = "standard";
	result->context_tokens = NULL;
	result->canonical = false;
	result->kept = usage;
	result->unpriced_counts = NULL;
	result->nnotes = 0;
	return take_meters(usage, result);
}

/*
 * tb_check_usage_format
 *		Null, "auto" or a format that tb_normalize knows.
 */
Refusal *
tb_check_usage_format(const char *argument, const text *format)
{
	if (format == NULL || tb_text_is(format, "auto") ||
		tb_text_is(format, "meters"))
		return NULL;
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s allowed:j", argument,
							  "[\"auto\", \"meters\"]"),
					  "Pass one of these words.",
					  "%s is not known", argument);
}
