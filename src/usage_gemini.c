/*
 * usage_gemini.c
 *	  Gemini's usageMetadata, in JSON's and in Python's spelling.
 *
 * The prompt includes what was read from the cache.  Thoughts and what tools
 * brought in are beside the prompt and the candidates:
 *
 *	  total = prompt + candidates + thoughts + tool use
 *
 * A count of zero may be left out.  The Live API says response where the others
 * say candidates.
 */
#include "usage_read.h"

#include "money.h"

static const UsageField fields[] = {
	{"prompt_token_count", SLOT_INPUT_TOTAL},
	{"cached_content_token_count", SLOT_CACHED_TOTAL},
	{"candidates_token_count", SLOT_OUTPUT_TOTAL},
	{"response_token_count", SLOT_OUTPUT_TOTAL},
	{"thoughts_token_count", SLOT_REASONING},
	{"tool_use_prompt_token_count", SLOT_TOOL_TOTAL},
	{"total_token_count", SLOT_TOTAL},
	{"prompt_tokens_details", FIELD_PROMPT_DETAILS},
	{"cache_tokens_details", FIELD_CACHE_DETAILS},
	{"candidates_tokens_details", FIELD_OUTPUT_DETAILS},
	{"response_tokens_details", FIELD_OUTPUT_DETAILS},
	{"tool_use_prompt_tokens_details", FIELD_TOOL_DETAILS},
	{"initial_prompt_token_count", FIELD_SKIP}, /* of the prompt's */
	{"service_tier", FIELD_SERVICE_TIER},
	{"traffic_type", FIELD_TRAFFIC},
	{NULL, NSLOTS}
};

static Refusal *
make_meters(Reading *reading)
{
	int64		input[NMODALITIES];
	int64		cached[NMODALITIES];
	int64		tool[NMODALITIES];
	int64		output[NMODALITIES];
	int64		prompt = slot_count(reading, SLOT_INPUT_TOTAL);
	int64		tools = slot_count(reading, SLOT_TOOL_TOTAL);
	int64		thoughts = slot_count(reading, SLOT_REASONING);
	int64		sum = prompt + tools + thoughts +
		slot_count(reading, SLOT_OUTPUT_TOTAL);
	Refusal    *refusal;

	if (!slot_given(reading, SLOT_TOTAL) &&
		!slot_given(reading, SLOT_INPUT_TOTAL))
		return tb_missing_field(reading, "totalTokenCount",
								"Pass the whole usageMetadata of the last response; what is not told is not zero.");
	if (slot_given(reading, SLOT_TOTAL) &&
		slot_count(reading, SLOT_TOTAL) != sum)
		return tb_bad_sum(reading, SLOT_TOTAL, sum);

	if ((refusal = tb_by_modality(reading, SLOT_INPUT_TOTAL, input)) != NULL ||
		(refusal = tb_by_modality(reading, SLOT_CACHED_TOTAL, cached)) != NULL ||
		(refusal = tb_by_modality(reading, SLOT_TOOL_TOTAL, tool)) != NULL ||
		(refusal = tb_by_modality(reading, SLOT_OUTPUT_TOTAL, output)) != NULL ||
		(refusal = tb_input_meters(reading, input, cached, tool)) != NULL ||
		(refusal = tb_output_meters(reading, output, 0)) != NULL)
		return refusal;
	tb_meter(reading, "reasoning_tokens", thoughts);
	if (reading->service_tier == NULL)
		reading->service_tier = reading->traffic;
	reading->result->context_tokens = int64_to_numeric(prompt + tools);
	return NULL;
}

const UsageFormat tb_gemini_formats[] = {
	{"gemini", fields, true, make_meters},
	{NULL, NULL, false, NULL}
};
