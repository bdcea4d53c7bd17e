/*
 * strategy.c
 *	  Ways to count a meter from a usage object, beside those of providers.
 *
 * Each is an SQL function of the usage and of options, both JSON objects, that
 * returns a count; set_meter_function() ties it to a meter.  What it needs and
 * does not find is an error: a call of which nothing was reported is not a call
 * that used nothing.  Those that count pictures are in image.c.
 */
#include "strategy.h"

#include "count.h"
#include "money.h"
#include "usage_read.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(tokenbill_usage_characters);
PG_FUNCTION_INFO_V1(tokenbill_usage_graphemes);
PG_FUNCTION_INFO_V1(tokenbill_usage_words);
PG_FUNCTION_INFO_V1(tokenbill_count_seconds);
PG_FUNCTION_INFO_V1(tokenbill_count_requests);
PG_FUNCTION_INFO_V1(tokenbill_count_sum);

/* How deep messages and their parts may be nested. */
#define MAX_DEPTH 8

static const char *const no_words[] = {NULL};
static const char *const text_options[] = {"members", NULL};
static const char *const text_members[] = {"text", "input", "prompt", NULL};
static const char *const image_options[] = {"sizes", "pixels", NULL};
static const char *const pixel_options[] = {"round_up", NULL};
static const char *const image_members[] = {
	"n", "images", "data", "width", "height", "size", "quality", NULL
};
static const char *const second_options[] = {
	"members", "per_second", "minimum", "round_up", NULL
};
static const char *const second_members[] = {"seconds", "duration", NULL};
static const char *const sum_options[] = {"meters", NULL};

static const Strategy strategies[] = {
	{"count_characters", tokenbill_usage_characters, text_options, text_members, true},
	{"count_graphemes", tokenbill_usage_graphemes, text_options, text_members, true},
	{"count_words", tokenbill_usage_words, text_options, text_members, true},
	{"count_images", tokenbill_count_images, image_options, image_members, false},
	{"count_pixels", tokenbill_count_pixels, pixel_options, image_members, false},
	{"count_seconds", tokenbill_count_seconds, second_options, second_members, false},
	{"count_requests", tokenbill_count_requests, no_words, no_words, false},
	{"count_sum", tokenbill_count_sum, sum_options, no_words, false}
};

/*
 * tb_find_strategy
 *		The strategy of this name; null if it is none of ours.
 */
const Strategy *
tb_find_strategy(const char *name)
{
	for (size_t i = 0; i < lengthof(strategies); i++)
	{
		if (strcmp(strategies[i].name, name) == 0)
			return &strategies[i];
	}
	return NULL;
}

/*
 * tb_bad_member
 *		The refusal of a member of the usage, or of an option.
 */
Refusal *
tb_bad_member(const char *argument, const char *member, const char *hint,
			  const char *problem)
{
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s field:s", argument, member), hint,
					  "%s: \"%s\" %s", argument, member, problem);
}

/*
 * tb_member
 *		A member of an object; false if it is not there.
 */
bool
tb_member(const JsonbContainer *object, const char *name, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(unconstify(JsonbContainer *, object),
										name, strlen(name), value) != NULL;
}

/*
 * tb_number_of
 *		A number, not negative; also one written as a string, as some APIs do.
 */
Refusal *
tb_number_of(const char *argument, const char *member, const JsonbValue *value,
			 Numeric *number)
{
	if (value->type == jbvNumeric)
		*number = value->val.numeric;
	else if (value->type == jbvString && value->val.string.len > 0 &&
			 value->val.string.len <= 40)
	{
		char	   *digits = pnstrdup(value->val.string.val,
									  value->val.string.len);

		if (strspn(digits, "0123456789.") != strlen(digits) ||
			strspn(digits, ".") == strlen(digits) ||
			(strchr(digits, '.') != strrchr(digits, '.')))
			return tb_bad_member(argument, member, "Pass a number.",
								 "is no number");
		*number = DatumGetNumeric(DirectFunctionCall3(numeric_in,
													  CStringGetDatum(digits),
													  ObjectIdGetDatum(InvalidOid),
													  Int32GetDatum(-1)));
	}
	else
		return tb_bad_member(argument, member, "Pass a number.",
							 "is no number");
	if (tb_compare(*number, tb_zero()) < 0)
		return tb_bad_member(argument, member,
							 "Use refund() to give something back.",
							 "is negative");
	return NULL;
}

/*
 * tb_round_up
 *		The least multiple of step that is not less than value.
 */
Numeric
tb_round_up(Numeric value, Numeric step)
{
	Numeric		times = DatumGetNumeric(DirectFunctionCall2(numeric_div_trunc,
															NumericGetDatum(value),
															NumericGetDatum(step)));
	Numeric		below = tb_mul(times, step);

	return tb_compare(below, value) < 0 ? tb_add(below, step) : below;
}

/*
 * tb_number_option
 *		An option that is a number greater than zero; null if it is not given.
 */
Refusal *
tb_number_option(Jsonb *options, const char *name, Numeric *number)
{
	JsonbValue	value;
	Refusal    *refusal = NULL;

	*number = NULL;
	if (!tb_member(&options->root, name, &value))
		return NULL;
	if (value.type != jbvNumeric)
		return tb_bad_member("options", name, "Pass a number.", "is no number");
	refusal = tb_number_of("options", name, &value, number);
	if (refusal == NULL && tb_compare(*number, tb_zero()) == 0)
		return tb_bad_member("options", name, "Leave it out.", "is zero");
	return refusal;
}

/*
 * tb_check_options
 *		Are they an object of options that a strategy knows?
 *
 * What they hold is looked at by the strategy.
 */
Refusal *
tb_check_options(const Strategy *strategy, Jsonb *options)
{
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(options) || JB_ROOT_IS_SCALAR(options))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "options"),
						  "Pass an object, such as {\"members\": [\"text\"]}.",
						  "options must be a JSON object");
	it = JsonbIteratorInit(&options->root);
	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		const char *const *known = strategy->options;

		(void) JsonbIteratorNext(&it, &value, true);
		while (*known != NULL &&
			   (strlen(*known) != (size_t) key.val.string.len ||
				memcmp(*known, key.val.string.val, key.val.string.len) != 0))
			known++;
		if (*known == NULL)
			return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							  tb_json("argument:s function:s", "options",
									  strategy->name),
							  "See the function's options in the documentation of meters.",
							  "options have a member that %s() does not know",
							  strategy->name);
	}
	return NULL;
}

/* The two arguments every strategy has. */
static void
check_arguments(const char *function, Jsonb *usage, Jsonb *options)
{
	if (!JB_ROOT_IS_OBJECT(usage) || JB_ROOT_IS_SCALAR(usage))
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "usage"),
							"Pass an object of what was used.",
							"usage must be a JSON object"));
	tb_raise(tb_check_options(tb_find_strategy(function), options));
}

/*
 * The names of the members to read: of the option "members", or the strategy's
 * own.  Ends with a null.
 */
static const char *const *
members_to_read(const char *function, Jsonb *options)
{
	JsonbValue	value;
	const char **names;
	uint32		count = 0;

	if (!tb_member(&options->root, "members", &value))
		return tb_find_strategy(function)->members;
	if (value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data) ||
		(count = JsonContainerSize(value.val.binary.data)) == 0)
		tb_raise(tb_bad_member("options", "members",
							   "Pass an array of names, such as [\"text\"].",
							   "is no array of names"));
	names = palloc0(sizeof(char *) * (count + 1));
	for (uint32 i = 0; i < count; i++)
	{
		JsonbValue *name = getIthJsonbValueFromContainer(value.val.binary.data, i);

		if (name->type != jbvString)
			tb_raise(tb_bad_member("options", "members",
								   "Pass an array of names, such as [\"text\"].",
								   "is no array of names"));
		names[i] = pnstrdup(name->val.string.val, name->val.string.len);
	}
	return names;
}

static Refusal *
no_member(const char *const *members, const char *problem)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; members[i] != NULL; i++)
		appendStringInfo(&list, "%s\"%s\"", i > 0 ? ", " : "", members[i]);
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s members:j", "usage",
							  psprintf("[%s]", list.data)),
					  "Pass one of these members, or name others in the options of the meter's function.",
					  "usage has %s", problem);
}

/*
 * The counts of a text that itself is gone, as measure.c leaves them in a ledger
 * line, and as callers may pass who do not want to pass the text.
 */
static bool
add_counts(const char *member, const JsonbContainer *object, TextCount *count)
{
	static const char *const names[] = {"characters", "graphemes", "words"};
	int64	   *const counts[] = {
		&count->characters, &count->graphemes, &count->words
	};

	for (size_t i = 0; i < lengthof(names); i++)
	{
		JsonbValue	value;
		Numeric		number;

		if (!tb_member(object, names[i], &value))
		{
			if (i == 0)
				return false;
			tb_raise(tb_bad_member("usage", member,
								   "Pass the text, or its counts of characters, graphemes and words.",
								   "lacks a count"));
		}
		tb_raise(tb_number_of("usage", member, &value, &number));
		if (value.type != jbvNumeric ||
			tb_compare(number, tb_count_bound()) >= 0 ||
			DatumGetInt32(DirectFunctionCall1(numeric_min_scale,
											  NumericGetDatum(number))) > 0)
			tb_raise(tb_bad_member("usage", member, "Counts are whole numbers below 10^15.",
								   "has a count that is none"));
		*counts[i] += DatumGetInt64(DirectFunctionCall1(numeric_int8,
														NumericGetDatum(number)));
	}
	return true;
}

static void
count_texts(const char *member, const JsonbValue *value, int depth,
			TextCount *count)
{
	JsonbContainer *container;

	if (value->type == jbvString)
	{
		tb_raise(tb_count_text(value->val.string.val, value->val.string.len,
							   count));
		return;
	}
	if (value->type != jbvBinary || depth > MAX_DEPTH)
		tb_raise(tb_bad_member("usage", member,
							   "Pass a string, an array of strings, or messages.",
							   "is no text"));
	container = value->val.binary.data;
	if (JsonContainerIsArray(container))
	{
		for (uint32 i = 0; i < JsonContainerSize(container); i++)
			count_texts(member, getIthJsonbValueFromContainer(container, i),
						depth + 1, count);
	}
	else if (!add_counts(member, container, count))
	{
		JsonbValue	part;

		if (tb_member(container, "text", &part))
			count_texts(member, &part, depth + 1, count);
		if (tb_member(container, "content", &part))
			count_texts(member, &part, depth + 1, count);
	}
}

/*
 * tb_count_texts
 *		Count a text, the texts of an array, or what is "text" or "content" in an
 *		object, as in messages and their parts; an object with neither has no text.
 *
 * Raises what it refuses.
 */
void
tb_count_texts(const char *member, const JsonbValue *value, TextCount *count)
{
	count_texts(member, value, 0, count);
}

static TextCount
count_usage(FunctionCallInfo fcinfo, const char *function)
{
	Jsonb	   *usage = PG_GETARG_JSONB_P(0);
	Jsonb	   *options = PG_GETARG_JSONB_P(1);
	TextCount	count = {0};
	const char *const *members;
	bool		found = false;

	check_arguments(function, usage, options);
	members = members_to_read(function, options);
	for (int i = 0; members[i] != NULL; i++)
	{
		JsonbValue	value;

		if (!tb_member(&usage->root, members[i], &value))
			continue;
		tb_count_texts(members[i], &value, &count);
		found = true;
	}
	if (!found)
		tb_raise(no_member(members, "no text"));
	return count;
}

/*
 * count_characters(usage jsonb, options jsonb), count_graphemes(...),
 * count_words(...) -> numeric
 *		Of the texts in a usage object.
 */
Datum
tokenbill_usage_characters(PG_FUNCTION_ARGS)
{
	PG_RETURN_NUMERIC(int64_to_numeric(count_usage(fcinfo, "count_characters").characters));
}

Datum
tokenbill_usage_graphemes(PG_FUNCTION_ARGS)
{
	PG_RETURN_NUMERIC(int64_to_numeric(count_usage(fcinfo, "count_graphemes").graphemes));
}

Datum
tokenbill_usage_words(PG_FUNCTION_ARGS)
{
	PG_RETURN_NUMERIC(int64_to_numeric(count_usage(fcinfo, "count_words").words));
}

/*
 * How many units a second has: 1, a thousand, a million or a billion.
 */
static Numeric
in_seconds(Numeric value, Numeric per_second)
{
	static const int64 allowed[] = {1, 1000, 1000000, 1000000000};

	for (size_t i = 0; i < lengthof(allowed); i++)
	{
		if (tb_compare(per_second, int64_to_numeric(allowed[i])) == 0)
			return tb_mul(value, int64_div_fast_to_numeric(1, 3 * i));
	}
	tb_raise(tb_bad_member("options", "per_second",
						   "Use 1, 1000, 1000000 or 1000000000.",
						   "is no unit of time"));
	return NULL;				/* not reached */
}

/*
 * count_seconds(usage jsonb, options jsonb) -> numeric
 *		How long it took, in seconds, with a minimum and rounded up if asked.
 */
Datum
tokenbill_count_seconds(PG_FUNCTION_ARGS)
{
	Jsonb	   *usage = PG_GETARG_JSONB_P(0);
	Jsonb	   *options = PG_GETARG_JSONB_P(1);
	const char *const *members;
	Numeric		per_second;
	Numeric		minimum;
	Numeric		step;
	Numeric		seconds = NULL;

	check_arguments("count_seconds", usage, options);
	members = members_to_read("count_seconds", options);
	tb_raise(tb_number_option(options, "per_second", &per_second));
	tb_raise(tb_number_option(options, "minimum", &minimum));
	tb_raise(tb_number_option(options, "round_up", &step));
	for (int i = 0; members[i] != NULL; i++)
	{
		JsonbValue	value;
		Numeric		number;

		if (!tb_member(&usage->root, members[i], &value))
			continue;
		tb_raise(tb_number_of("usage", members[i], &value, &number));
		if (seconds != NULL && tb_compare(seconds, number) != 0)
			tb_raise(tb_bad_member("usage", members[i],
								   "Pass one of them.",
								   "contradicts another member"));
		seconds = number;
	}
	if (seconds == NULL)
		tb_raise(no_member(members, "no duration"));

	if (per_second != NULL)
		seconds = in_seconds(seconds, per_second);
	if (minimum != NULL)
		seconds = tb_larger(seconds, minimum);
	if (step != NULL)
		seconds = tb_round_up(seconds, step);
	PG_RETURN_DATUM(DirectFunctionCall1(numeric_trim_scale,
										NumericGetDatum(seconds)));
}

/*
 * count_requests(usage jsonb, options jsonb) -> numeric
 *		One: a charge is of one call, unless its usage says how many it was.
 */
Datum
tokenbill_count_requests(PG_FUNCTION_ARGS)
{
	check_arguments("count_requests", PG_GETARG_JSONB_P(0),
					PG_GETARG_JSONB_P(1));
	PG_RETURN_NUMERIC(int64_to_numeric(1));
}

/*
 * count_sum(usage jsonb, options jsonb) -> numeric
 *		Several meters of the usage as one, each times its weight.
 */
Datum
tokenbill_count_sum(PG_FUNCTION_ARGS)
{
	Jsonb	   *usage = PG_GETARG_JSONB_P(0);
	Jsonb	   *options = PG_GETARG_JSONB_P(1);
	JsonbValue	weights;
	Numeric		sum = NULL;
	Usage		read;

	check_arguments("count_sum", usage, options);
	if (!tb_member(&options->root, "meters", &weights) ||
		weights.type != jbvBinary ||
		!JsonContainerIsObject(weights.val.binary.data))
		tb_raise(tb_bad_member("options", "meters",
							   "Pass an object of meters and weights, such as {\"input_tokens\": 1, \"output_tokens\": 4}.",
							   "is no object of meters and weights"));
	tb_raise(tb_normalize(usage, NULL, &read));
	for (int i = 0; i < read.nmeters; i++)
	{
		char	   *meter = pnstrdup(read.meters[i].name, read.meters[i].name_len);
		JsonbValue	value;
		Numeric		weight;

		if (!tb_member(weights.val.binary.data, meter, &value))
			continue;
		if (value.type != jbvNumeric)
			tb_raise(tb_bad_member("options", "meters", "Weights are numbers.",
								   "has a weight that is no number"));
		tb_raise(tb_number_of("options", "meters", &value, &weight));
		weight = tb_mul(weight, read.meters[i].quantity);
		sum = sum == NULL ? weight : tb_add(sum, weight);
	}
	if (sum == NULL)
		tb_raise(tb_bad_member("usage", "meters",
							   "Pass usage with one of the meters that the options name.",
							   "that are to be added up are not there"));
	PG_RETURN_DATUM(DirectFunctionCall1(numeric_trim_scale,
										NumericGetDatum(sum)));
}
