/*
 * usage_anthropic.c
 *	  Anthropic's usage objects, and OpenRouter's of that shape.
 *
 * input_tokens are those that were neither read from nor written to the cache;
 * the cache's are counted beside them.  OpenRouter's endpoint of the same shape
 * counts them in input_tokens too.  Thinking is a part of the output.
 *
 * cache_creation splits what was written by how long it is kept.  What the total
 * has beyond the split, or has without one, counts as kept for five minutes.
 *
 * iterations are the samplings of a call.  Those of messages are in the totals;
 * a compaction's is not, but is billed at the same prices.  An iteration of
 * another kind may be another model's, so its counts become meters of their own.
 *
 * After a fallback (platform.claude.com, "Refusals and fallback") the totals are
 * those of the model that answered, whose last sampling is a fallback_message.  A
 * message of another model is then one that declined: billed, beside the totals,
 * if it had said something, and otherwise not.
 */
#include "usage_read.h"

#include "money.h"

static const UsageField fields[] = {
	{"input_tokens", SLOT_INPUT_TOTAL},
	{"output_tokens", SLOT_OUTPUT_TOTAL},
	{"cache_read_input_tokens", SLOT_CACHED_TOTAL},
	{"cache_creation_input_tokens", SLOT_WRITTEN},
	{"cache_creation", FIELD_OBJECT},
	{"cache_creation.ephemeral_5m_input_tokens", SLOT_WRITTEN_5M},
	{"cache_creation.ephemeral_1h_input_tokens", SLOT_WRITTEN_1H},
	{"output_tokens_details", FIELD_OBJECT},
	{"output_tokens_details.thinking_tokens", SLOT_REASONING},
	{"server_tool_use", FIELD_OBJECT},
	{"server_tool_use.web_search_requests", SLOT_WEB_SEARCHES},
	{"server_tool_use.web_fetch_requests", SLOT_WEB_FETCHES},
	{"service_tier", FIELD_SERVICE_TIER},
	{"inference_geo", FIELD_REGION},
	{"speed", FIELD_SPEED},
	{"iterations", FIELD_ITERATIONS},
	/* gateways add it, with the cache or without */
	{"total_tokens", SLOT_TOTAL},
	/* OpenRouter */
	{"cost", FIELD_SKIP},
	{"cost_details", FIELD_SKIP},
	{"is_byok", FIELD_SKIP},
	{NULL, NSLOTS}
};

/* An entry of iterations is a usage object without iterations of its own. */
static const UsageField iteration_fields[] = {
	{"type", FIELD_SKIP},
	{"model", FIELD_SKIP},
	{"input_tokens", SLOT_INPUT_TOTAL},
	{"output_tokens", SLOT_OUTPUT_TOTAL},
	{"cache_read_input_tokens", SLOT_CACHED_TOTAL},
	{"cache_creation_input_tokens", SLOT_WRITTEN},
	{"cache_creation", FIELD_OBJECT},
	{"cache_creation.ephemeral_5m_input_tokens", SLOT_WRITTEN_5M},
	{"cache_creation.ephemeral_1h_input_tokens", SLOT_WRITTEN_1H},
	{"output_tokens_details", FIELD_OBJECT},
	{"output_tokens_details.thinking_tokens", SLOT_REASONING},
	{NULL, NSLOTS}
};

/*
 * The meters of one object, iterations aside.  Sets *context, its input tokens.
 */
static Refusal *
take_tokens(Reading *reading, bool input_includes_cache, int64 *context)
{
	int64		input = slot_count(reading, SLOT_INPUT_TOTAL);
	int64		cached = slot_count(reading, SLOT_CACHED_TOTAL);
	int64		written = slot_count(reading, SLOT_WRITTEN);
	int64		for_5m = slot_count(reading, SLOT_WRITTEN_5M);
	int64		for_1h = slot_count(reading, SLOT_WRITTEN_1H);
	int64		output = slot_count(reading, SLOT_OUTPUT_TOTAL);
	int64		thinking = slot_count(reading, SLOT_REASONING);

	if (!slot_given(reading, SLOT_INPUT_TOTAL))
		return tb_missing_field(reading, "input_tokens",
								"The usage of a message_delta may lack it: take it from message_start then.");
	if (!slot_given(reading, SLOT_OUTPUT_TOTAL))
		return tb_missing_field(reading, "output_tokens",
								"Pass the usage of the finished message; what is not told is not zero.");

	if (!slot_given(reading, SLOT_WRITTEN))
		written = for_5m + for_1h;
	if (for_5m + for_1h > written)
		return tb_exceeds(reading, for_1h > 0 ? SLOT_WRITTEN_1H :
						  SLOT_WRITTEN_5M, for_5m + for_1h, SLOT_WRITTEN,
						  written);
	if (for_5m + for_1h < written)
	{
		tb_note(reading, "cache writes without a duration count as kept for 5 minutes");
		for_5m = written - for_1h;
	}
	if (input_includes_cache)
	{
		if (cached + written > input)
			return tb_exceeds(reading, cached > 0 ? SLOT_CACHED_TOTAL :
							  SLOT_WRITTEN, cached + written,
							  SLOT_INPUT_TOTAL, input);
		input -= cached + written;
	}
	if (thinking > output)
		return tb_exceeds(reading, SLOT_REASONING, thinking,
						  SLOT_OUTPUT_TOTAL, output);

	tb_meter(reading, "input_tokens", input);
	tb_meter(reading, "cache_read_tokens", cached);
	tb_meter(reading, "cache_write_5m_tokens", for_5m);
	tb_meter(reading, "cache_write_1h_tokens", for_1h);
	tb_meter(reading, "output_tokens", output - thinking);
	tb_meter(reading, "reasoning_tokens", thinking);
	*context = input + cached + written;
	return NULL;
}

/* A member of an iteration that is a string; null if it is none. */
static const char *
string_of(JsonbValue *iteration, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *value;

	if (iteration->type != jbvBinary ||
		!JsonContainerIsObject(iteration->val.binary.data))
		return NULL;
	value = getKeyJsonValueFromContainer(iteration->val.binary.data, name,
										 strlen(name), &buffer);
	return value != NULL && value->type == jbvString ?
		pnstrdup(value->val.string.val, value->val.string.len) : NULL;
}

/* The type of an iteration; null if it does not say. */
static const char *
iteration_type(JsonbValue *iteration)
{
	const char *type = string_of(iteration, "type");

	return type != NULL && tb_is_meter_name(type, strlen(type)) ? type : NULL;
}

/* The model that answered after a fallback; null if there was none, or no name. */
static const char *
fallback_model(JsonbContainer *iterations)
{
	const char *model = NULL;

	for (uint32 i = 0; i < JsonContainerSize(iterations); i++)
	{
		JsonbValue *iteration = getIthJsonbValueFromContainer(iterations, i);
		const char *type = iteration_type(iteration);

		if (type != NULL && strcmp(type, "fallback_message") == 0)
			model = string_of(iteration, "model");
	}
	return model;
}

/* Whether an iteration of type message is of a model that declined. */
static bool
has_declined(JsonbValue *iteration, const char *answered)
{
	const char *model = answered ? string_of(iteration, "model") : NULL;

	return model != NULL && strcmp(model, answered) != 0;
}

/*
 * An iteration of another model: its counts become strangers, as in
 * advisor_message_input_tokens.
 */
static Refusal *
take_foreign_iteration(Reading *reading, Reading *iteration, const char *type)
{
	Usage		usage = {0};
	int64		context;
	Refusal    *refusal;

	iteration->result = &usage;
	if ((refusal = take_tokens(iteration, false, &context)) != NULL)
		return refusal;
	for (int i = 0; i < usage.nmeters; i++)
	{
		char	   *meter = psprintf("%s_%s", type, usage.meters[i].name);

		refusal = tb_add_stranger(reading,
								  psprintf("%s.%s", iteration->within,
										   usage.meters[i].name),
								  meter, usage.meters[i].quantity);
		if (refusal != NULL)
			return refusal;
	}
	return NULL;
}

static Refusal *
take_iterations(Reading *reading, const UsageFormat *format, int64 *context)
{
	int64		messages = 0;
	const char *answered = fallback_model(reading->iterations);

	for (uint32 i = 0; i < JsonContainerSize(reading->iterations); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(reading->iterations, i);
		char	   *within = psprintf("iterations[%u]", i);
		const char *type = iteration_type(element);
		int64		size;
		Reading		iteration;
		Refusal    *refusal;

		if (type == NULL)
			return tb_bad_field(reading, ERRCODE_INVALID_PARAMETER_VALUE,
								within,
								"Pass the object as the provider sent it.",
								"an iteration that does not say its type");

		tb_start_reading(&iteration, format, reading->result, within);
		iteration.strangers = reading->strangers;
		if ((refusal = tb_read_usage(element->val.binary.data,
									 &iteration)) != NULL)
			return refusal;
		reading->strangers = iteration.strangers;

		if (strcmp(type, "message") == 0 && has_declined(element, answered))
		{
			if (slot_given(&iteration, SLOT_OUTPUT_TOTAL) &&
				slot_count(&iteration, SLOT_OUTPUT_TOTAL) == 0)
				continue;
			refusal = take_foreign_iteration(reading, &iteration, "declined");
			if (refusal != NULL)
				return refusal;
		}
		else if (strcmp(type, "message") == 0)
			messages += slot_count(&iteration, SLOT_OUTPUT_TOTAL);
		else if (strcmp(type, "fallback_message") == 0)
		{
			messages += slot_count(&iteration, SLOT_OUTPUT_TOTAL);
			tb_note(reading, "another model answered, after a fallback: these are its counts");
		}
		else if (strcmp(type, "compaction") == 0)
		{
			if ((refusal = take_tokens(&iteration, false, &size)) != NULL)
				return refusal;
			tb_note(reading, "a compaction counts beside the totals");
			*context = Max(*context, size);
		}
		else if ((refusal = take_foreign_iteration(reading, &iteration,
												   type)) != NULL)
			return refusal;
	}
	if (messages > slot_count(reading, SLOT_OUTPUT_TOTAL))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s field:s format:s count:i of:s total:i",
								  "usage", "iterations", reading->format->name,
								  messages, "output_tokens",
								  slot_count(reading, SLOT_OUTPUT_TOTAL)),
						  "Pass the object as the provider sent it, of one response.",
						  "usage contradicts itself: \"iterations\" have more output than \"output_tokens\"");
	return NULL;
}

static Refusal *
make_meters(Reading *reading, bool input_includes_cache)
{
	static const UsageFormat iteration_format = {"anthropic", iteration_fields, false, NULL};
	int64		context;
	Refusal    *refusal;

	if ((refusal = take_tokens(reading, input_includes_cache, &context)) != NULL)
		return refusal;
	if (reading->iterations != NULL &&
		(refusal = take_iterations(reading, &iteration_format, &context)) != NULL)
		return refusal;
	tb_meter(reading, "web_searches", slot_count(reading, SLOT_WEB_SEARCHES));
	tb_meter(reading, "web_fetches", slot_count(reading, SLOT_WEB_FETCHES));
	reading->result->context_tokens = int64_to_numeric(context);

	/* the fast mode has prices of its own, as tiers have */
	if (reading->speed != NULL && strcmp(reading->speed, "standard") != 0)
		reading->service_tier = reading->speed;
	if (reading->region != NULL && strcmp(reading->region, "global") != 0 &&
		strcmp(reading->region, "not_available") != 0)
		reading->result->region = reading->region;
	return NULL;
}

static Refusal *
anthropic_meters(Reading *reading)
{
	return make_meters(reading, false);
}

static Refusal *
openrouter_meters(Reading *reading)
{
	return make_meters(reading, true);
}

const UsageFormat tb_anthropic_formats[] = {
	{"anthropic", fields, false, anthropic_meters},
	{"openrouter_anthropic", fields, false, openrouter_meters},
	{NULL, NULL, false, NULL}
};
