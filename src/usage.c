/*
 * usage.c
 *	  What did a call use?
 *
 * A usage object is either the meters themselves, as in {"input_tokens": 12}, or
 * what a provider reported, whose counts may contain each other.  What comes out
 * is meters that are disjoint, so that each can be priced and added up.  Meters
 * are the fast way: they are checked in one pass, and nothing is made of them.
 */
#include "usage_read.h"

#include "access/htup_details.h"
#include "card.h"
#include "catalog/pg_type.h"
#include "check.h"
#include "funcapi.h"
#include "money.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(tokenbill_normalize_usage);
PG_FUNCTION_INFO_V1(tokenbill_describe_usage);
PG_FUNCTION_INFO_V1(tokenbill_check_usage_format);

/* What take_meters says when an object may be a provider's; never shown. */
static Refusal not_meters;

/*
 * Meters that count things, and so are whole numbers: all that end in "_tokens",
 * and these.
 */
static const char *const whole_meters[] = {
	"tokens", "images", "characters", "words", "requests", "web_searches",
	"web_fetches"
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

/*
 * tb_count_bound
 *		Counts are less than this; made once a backend, not to be freed.
 */
Numeric
tb_count_bound(void)
{
	static Numeric bound = NULL;

	if (unlikely(bound == NULL))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		bound = int64_to_numeric(TB_COUNT_BOUND);
		MemoryContextSwitchTo(old);
	}
	return bound;
}

/* Is the count of a meter one that can be charged? */
static Refusal *
check_count(const char *name, int len, Numeric count)
{
	int			scale;

	if (tb_compare(count, tb_zero()) < 0)
		return bad_count(ERRCODE_INVALID_PARAMETER_VALUE, name, len,
						 "Use refund() to give something back.",
						 "a negative count");
	if (tb_compare(count, tb_count_bound()) >= 0)
		return bad_count(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, name, len,
						 "Counts are less than 10^15.",
						 "a count that is too large");

	scale = DatumGetInt32(DirectFunctionCall1(numeric_min_scale,
											  NumericGetDatum(count)));
	if (scale > 0 && tb_counts_things(name, len))
		return bad_count(ERRCODE_INVALID_PARAMETER_VALUE, name, len,
						 "This meter counts things, so it is a whole number.",
						 "a fractional count");
	if (scale > TB_COUNT_DECIMALS)
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
 * One member of an object of meters; why not, if it is none.
 */
static Refusal *
take_meter(const JsonbValue *key, const JsonbValue *value, Usage *result)
{
	const char *name = key->val.string.val;
	int			len = key->val.string.len;
	UsageMeter *meter = &result->meters[result->nmeters];
	Refusal    *refusal;

	if (tb_has_card_number(name, len))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "usage"),
						  "Card numbers must not be stored here.",
						  "usage contains what looks like a payment card number");
	if (!tb_is_meter_name(name, len))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_is_plain_name(name, len) ?
						  tb_json("argument:s field:s", "usage", pnstrdup(name, len)) :
						  tb_json("argument:s", "usage"),
						  "Meters are named with lower-case letters, digits and underscores, like input_tokens.",
						  "usage has a name that is no meter's");
	if (value->type != jbvNumeric)
		return bad_count(ERRCODE_INVALID_PARAMETER_VALUE, name, len,
						 "Pass meters and counts, or a usage object of a known format: see docs/usage.md.",
						 "a meter that is not a number");
	if ((refusal = check_count(name, len, value->val.numeric)) != NULL)
		return refusal;
	meter->name = name;
	meter->name_len = len;
	meter->quantity = value->val.numeric;
	result->nmeters++;
	return NULL;
}

/*
 * The object is meters and counts, or is refused.  With guess, an object that
 * could be a provider's is answered with not_meters, before anything is made of
 * it.
 */
static Refusal *
take_meters(Jsonb *usage, bool guess, Usage *result)
{
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	value;
	Refusal    *refusal;

	result->nmeters = 0;
	if (JB_ROOT_COUNT(usage) > TB_MAX_METERS)
		return guess ? &not_meters :
			tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					   tb_json("argument:s meters:i max_meters:i", "usage",
							   (int64) JB_ROOT_COUNT(usage),
							   (int64) TB_MAX_METERS),
					   "Split the usage into several charges.",
					   "usage has too many meters");

	it = JsonbIteratorInit(&usage->root);
	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		if (guess && (value.type != jbvNumeric ||
					  tb_is_provider_member(key.val.string.val,
											key.val.string.len)))
			return &not_meters;
		refusal = take_meter(&key, &value, result);
		if (refusal != NULL)
			return guess ? &not_meters : refusal;
	}
	result->canonical = true;
	return NULL;
}

/* The service tier, by one name for all providers. */
static const char *
plain_tier(const char *tier)
{
	static const char *const standard[] = {
		"auto", "default", "standard", "standard_only", "on_demand",
		"traffic_type_unspecified", "unspecified"
	};

	if (tier == NULL)
		return "standard";
	for (size_t i = 0; i < lengthof(standard); i++)
	{
		if (strcmp(tier, standard[i]) == 0)
			return "standard";
	}
	if (strcmp(tier, "on_demand_priority") == 0)
		return "priority";
	if (strcmp(tier, "on_demand_flex") == 0)
		return "flex";
	if (strcmp(tier, "on_demand_offpeak") == 0)
		return "offpeak";
	if (strcmp(tier, "provisioned_throughput") == 0)
		return "provisioned";
	return tier;
}

/*
 * What a ledger line keeps of a response: its usage, and with it the service tier
 * where that stands outside and makes a difference.
 */
static Jsonb *
usage_with_tier(Jsonb *object, const char *tier)
{
	JsonbParseState *state = NULL;
	JsonbValue	v;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	v.type = jbvString;
	v.val.string.val = "usage";
	v.val.string.len = strlen("usage");
	pushJsonbValue(&state, WJB_KEY, &v);
	v.type = jbvBinary;
	v.val.binary.data = &object->root;
	v.val.binary.len = VARSIZE(object) - VARHDRSZ;
	pushJsonbValue(&state, WJB_VALUE, &v);
	v.type = jbvString;
	v.val.string.val = "service_tier";
	v.val.string.len = strlen("service_tier");
	pushJsonbValue(&state, WJB_KEY, &v);
	v.val.string.val = unconstify(char *, tier);
	v.val.string.len = strlen(tier);
	pushJsonbValue(&state, WJB_VALUE, &v);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Read an object of a provider's format. */
static Refusal *
read_format(const Shape *shape, Usage *result)
{
	Reading		reading;
	Refusal    *refusal;

	result->nmeters = 0;
	result->format = shape->format->name;
	tb_start_reading(&reading, shape->format, result, NULL);
	if ((refusal = tb_read_usage(&shape->object->root, &reading)) != NULL ||
		(refusal = shape->format->make_meters(&reading)) != NULL)
		return refusal;
	tb_add_strangers(&reading);
	if (reading.service_tier != NULL)
		result->service_tier = plain_tier(reading.service_tier);

	/* it used nothing, and says so */
	if (result->nmeters == 0)
	{
		result->meters[0].name = "input_tokens";
		result->meters[0].name_len = strlen("input_tokens");
		result->meters[0].quantity = tb_zero();
		result->nmeters = 1;
	}
	return NULL;
}

/*
 * The object is not plainly meters: look for a usage object in it, and for that
 * one's format.
 */
static Refusal *
take_provider(Jsonb *usage, const UsageFormat *format, Usage *result)
{
	Shape		shape;
	Refusal    *refusal = tb_unwrap(usage, format, &shape);

	if (refusal != NULL)
		return refusal;
	if (VARSIZE(shape.object) > TB_MAX_USAGE)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s bytes:i max_bytes:i", "usage",
								  (int64) VARSIZE(shape.object),
								  (int64) TB_MAX_USAGE),
						  "Pass the usage object only, as the provider sent it.",
						  "usage is too large");
	if ((refusal = tb_find_format(&shape)) != NULL)
		return refusal;

	if (shape.format == NULL)
		refusal = take_meters(shape.object, false, result);
	else
		refusal = read_format(&shape, result);
	if (refusal != NULL)
		return refusal;

	result->kept = shape.object;
	if (shape.service_tier != NULL &&
		strcmp(result->service_tier, "standard") == 0)
	{
		const char *tier = plain_tier(shape.service_tier);

		if (strcmp(tier, "standard") != 0)
		{
			result->service_tier = tier;
			result->kept = usage_with_tier(shape.object, tier);
			result->canonical = false;
		}
	}

	/* a region has prices of its own, too; but a call has one tier */
	if (result->region != NULL &&
		strcmp(result->service_tier, "standard") == 0 &&
		tb_is_meter_name(result->region, strlen(result->region)))
		result->service_tier = result->region;
	else if (result->region != NULL && result->nnotes < TB_MAX_NOTES)
		result->notes[result->nnotes++] =
			psprintf("inference_geo \"%s\" is not priced", result->region);
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
 * that is null or lacks in a response (22004), is no object, empty, of no known
 * format, contradicts itself or has a bad count (22023, 22003).  Needs no SPI.
 */
Refusal *
tb_normalize(Jsonb *usage, const text *format, Usage *result)
{
	bool		guess = format == NULL || tb_text_is(format, "auto");
	Refusal    *refusal;

	if (usage == NULL)
		return tb_refusal(ERRCODE_NULL_VALUE_NOT_ALLOWED,
						  tb_json("argument:s", "usage"),
						  "A call that reported no usage is not a call that used nothing: find out what it used.",
						  "usage must not be null");
	if (!JB_ROOT_IS_OBJECT(usage))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "usage"),
						  "Pass an object of meters and counts, such as {\"input_tokens\": 12}, or a provider's usage object.",
						  "usage must be a JSON object");
	if (JB_ROOT_COUNT(usage) == 0)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "usage"),
						  "A call that used nothing says so with a meter of 0.",
						  "usage must not be empty");

	result->format = "meters";
	result->service_tier = "standard";
	result->region = NULL;
	result->context_tokens = NULL;
	result->canonical = false;
	result->kept = usage;
	result->unpriced_counts = NULL;
	result->nnotes = 0;

	if (likely(guess))
	{
		if (likely(take_meters(usage, true, result) == NULL))
			return NULL;
		return take_provider(usage, NULL, result);
	}
	if (tb_text_is(format, "meters"))
		return take_meters(usage, false, result);
	if ((refusal = tb_check_usage_format("format", format)) != NULL)
		return refusal;
	return take_provider(usage, tb_format_by_name(format), result);
}

static const UsageFormat *const families[] = {
	tb_openai_formats, tb_anthropic_formats, tb_gemini_formats
};

/*
 * tb_format_by_name
 *		A provider's format; null if there is none of this name.
 */
const UsageFormat *
tb_format_by_name(const text *name)
{
	for (size_t i = 0; i < lengthof(families); i++)
	{
		for (const UsageFormat *format = families[i]; format->name != NULL;
			 format++)
		{
			if (tb_text_is(name, format->name))
				return format;
		}
	}
	return NULL;
}

/*
 * tb_check_usage_format
 *		Null, "auto" or a format that tb_normalize knows.
 */
Refusal *
tb_check_usage_format(const char *argument, const text *format)
{
	StringInfoData allowed;

	if (format == NULL || tb_text_is(format, "auto") ||
		tb_text_is(format, "meters") || tb_format_by_name(format) != NULL)
		return NULL;

	initStringInfo(&allowed);
	appendStringInfoString(&allowed, "[\"auto\", \"meters\"");
	for (size_t i = 0; i < lengthof(families); i++)
	{
		for (const UsageFormat *known = families[i]; known->name != NULL;
			 known++)
			appendStringInfo(&allowed, ", \"%s\"", known->name);
	}
	appendStringInfoChar(&allowed, ']');
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s allowed:j", argument, allowed.data),
					  "Pass one of the words in \"allowed\".",
					  "%s is no usage format", argument);
}

/* The meters as jsonb; zeros stay if there is nothing else. */
static Jsonb *
meters_as_jsonb(const Usage *usage)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < usage->nmeters; i++)
	{
		const UsageMeter *meter = &usage->meters[i];
		JsonbValue	v;

		v.type = jbvString;
		v.val.string.val = unconstify(char *, meter->name);
		v.val.string.len = meter->name_len;
		pushJsonbValue(&state, WJB_KEY, &v);
		v.type = jbvNumeric;
		v.val.numeric = meter->quantity;
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Both functions' arguments: usage jsonb, format text. */
static void
normalize_arguments(FunctionCallInfo fcinfo, Usage *usage)
{
	if (PG_ARGISNULL(1))
		tb_raise(tb_null_argument("format"));
	tb_raise(tb_normalize(PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0),
						  PG_GETARG_TEXT_PP(1), usage));
}

/*
 * normalize_usage(usage jsonb, format text = 'auto') -> jsonb
 */
Datum
tokenbill_normalize_usage(PG_FUNCTION_ARGS)
{
	Usage		usage;

	normalize_arguments(fcinfo, &usage);
	PG_RETURN_JSONB_P(meters_as_jsonb(&usage));
}

/*
 * describe_usage(usage jsonb, format text = 'auto')
 *	-> (format, service_tier, context_tokens, meters, unpriced, notes)
 */
Datum
tokenbill_describe_usage(PG_FUNCTION_ARGS)
{
	Usage		usage;
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {false};
	Datum		notes[TB_MAX_NOTES];
	Numeric		context;

	normalize_arguments(fcinfo, &usage);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	values[0] = CStringGetTextDatum(usage.format);
	values[1] = CStringGetTextDatum(usage.service_tier);
	context = tb_context_tokens(&usage);
	nulls[2] = context == NULL;
	values[2] = NumericGetDatum(context);
	values[3] = JsonbPGetDatum(meters_as_jsonb(&usage));
	nulls[4] = usage.unpriced_counts == NULL;
	values[4] = JsonbPGetDatum(usage.unpriced_counts);
	for (int i = 0; i < usage.nnotes; i++)
		notes[i] = CStringGetTextDatum(usage.notes[i]);
	values[5] = PointerGetDatum(construct_array(notes, usage.nnotes, TEXTOID,
												-1, false, TYPALIGN_INT));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/*
 * check_usage_format(argument text, value text) -> text
 *		SQL face of tb_check_usage_format, for the functions written in SQL.
 */
Datum
tokenbill_check_usage_format(PG_FUNCTION_ARGS)
{
	tb_raise(tb_check_usage_format(tb_argument_name(fcinfo),
								   PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1)));
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(PG_GETARG_DATUM(1));
}
