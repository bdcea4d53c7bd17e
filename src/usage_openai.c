/*
 * usage_openai.c
 *	  OpenAI's usage objects, and those made after them.
 *
 * Two families.  Chat completions count prompt_tokens and completion_tokens;
 * DeepSeek, OpenRouter and Anthropic's compatible endpoint add members of their
 * own, and embeddings have no completion.  Responses, images, realtime and
 * transcriptions count input_tokens and output_tokens.  In all of them details
 * are parts of the totals: cached tokens and those written to a cache of the
 * input, reasoning of the output, and each modality of its side.  Rejected
 * predictions are output like any other.
 */
#include "usage_read.h"

#include "money.h"

static const UsageField chat_fields[] = {
	{"prompt_tokens", SLOT_INPUT_TOTAL},
	{"completion_tokens", SLOT_OUTPUT_TOTAL},
	{"total_tokens", SLOT_TOTAL},
	{"prompt_tokens_details", FIELD_OBJECT},
	{"prompt_tokens_details.cached_tokens", SLOT_CACHED_TOTAL},
	{"prompt_tokens_details.cache_write_tokens", SLOT_WRITTEN},
	{"prompt_tokens_details.text_tokens", SLOT_INPUT_TEXT},
	{"prompt_tokens_details.audio_tokens", SLOT_INPUT_AUDIO},
	{"prompt_tokens_details.image_tokens", SLOT_INPUT_IMAGE},
	{"prompt_tokens_details.video_tokens", SLOT_INPUT_VIDEO},
	{"completion_tokens_details", FIELD_OBJECT},
	{"completion_tokens_details.reasoning_tokens", SLOT_REASONING},
	{"completion_tokens_details.text_tokens", SLOT_OUTPUT_TEXT},
	{"completion_tokens_details.audio_tokens", SLOT_OUTPUT_AUDIO},
	{"completion_tokens_details.image_tokens", SLOT_OUTPUT_IMAGE},
	{"completion_tokens_details.video_tokens", SLOT_OUTPUT_VIDEO},
	{"completion_tokens_details.accepted_prediction_tokens", SLOT_ACCEPTED},
	{"completion_tokens_details.rejected_prediction_tokens", SLOT_REJECTED},
	{"service_tier", FIELD_SERVICE_TIER},
	/* DeepSeek */
	{"prompt_cache_hit_tokens", SLOT_CACHED_TOTAL},
	{"prompt_cache_miss_tokens", SLOT_UNCACHED},
	/* Anthropic's endpoint of this shape */
	{"cached_tokens", SLOT_CACHED_TOTAL},
	/* Mistral */
	{"num_cached_tokens", SLOT_CACHED_TOTAL},
	/* OpenRouter */
	{"cost", FIELD_SKIP},
	{"cost_details", FIELD_SKIP},
	{"is_byok", FIELD_SKIP},
	{"server_tool_use", FIELD_OBJECT},
	{"server_tool_use.web_search_requests", SLOT_WEB_SEARCHES},
	{"server_tool_use_details", FIELD_OBJECT},
	{"server_tool_use_details.web_search_requests", SLOT_WEB_SEARCHES},
	{NULL, NSLOTS}
};

static const UsageField response_fields[] = {
	{"input_tokens", SLOT_INPUT_TOTAL},
	{"output_tokens", SLOT_OUTPUT_TOTAL},
	{"total_tokens", SLOT_TOTAL},
	{"input_tokens_details", FIELD_OBJECT},
	{"input_tokens_details.cached_tokens", SLOT_CACHED_TOTAL},
	{"input_tokens_details.cache_write_tokens", SLOT_WRITTEN},
	{"input_tokens_details.text_tokens", SLOT_INPUT_TEXT},
	{"input_tokens_details.audio_tokens", SLOT_INPUT_AUDIO},
	{"input_tokens_details.image_tokens", SLOT_INPUT_IMAGE},
	{"output_tokens_details", FIELD_OBJECT},
	{"output_tokens_details.reasoning_tokens", SLOT_REASONING},
	{"output_tokens_details.text_tokens", SLOT_OUTPUT_TEXT},
	{"output_tokens_details.audio_tokens", SLOT_OUTPUT_AUDIO},
	{"output_tokens_details.image_tokens", SLOT_OUTPUT_IMAGE},
	/* realtime and transcription */
	{"input_token_details", FIELD_OBJECT},
	{"input_token_details.text_tokens", SLOT_INPUT_TEXT},
	{"input_token_details.audio_tokens", SLOT_INPUT_AUDIO},
	{"input_token_details.image_tokens", SLOT_INPUT_IMAGE},
	{"input_token_details.cached_tokens", SLOT_CACHED_TOTAL},
	{"input_token_details.cached_tokens_details", FIELD_OBJECT},
	{"input_token_details.cached_tokens_details.text_tokens", SLOT_CACHED_TEXT},
	{"input_token_details.cached_tokens_details.audio_tokens", SLOT_CACHED_AUDIO},
	{"input_token_details.cached_tokens_details.image_tokens", SLOT_CACHED_IMAGE},
	{"output_token_details", FIELD_OBJECT},
	{"output_token_details.text_tokens", SLOT_OUTPUT_TEXT},
	{"output_token_details.audio_tokens", SLOT_OUTPUT_AUDIO},
	{"output_token_details.image_tokens", SLOT_OUTPUT_IMAGE},
	{"output_token_details.reasoning_tokens", SLOT_REASONING},
	{"type", FIELD_SKIP},
	{"seconds", FIELD_SECONDS},
	{"service_tier", FIELD_SERVICE_TIER},
	{"cost", FIELD_SKIP},
	{"cost_details", FIELD_SKIP},
	{"is_byok", FIELD_SKIP},
	{NULL, NSLOTS}
};

/* What OpenRouter tells of a generation afterwards, counted by the model's maker. */
static const UsageField generation_fields[] = {
	{"native_tokens_prompt", SLOT_INPUT_TOTAL},
	{"native_tokens_cached", SLOT_CACHED_TOTAL},
	{"native_tokens_completion", SLOT_OUTPUT_TOTAL},
	{"native_tokens_reasoning", SLOT_REASONING},
	{"native_tokens_completion_images", SLOT_OUTPUT_IMAGE},
	{"tokens_prompt", FIELD_SKIP},
	{"tokens_completion", FIELD_SKIP},
	{"usage", FIELD_SKIP},		/* money */
	{"total_cost", FIELD_SKIP},
	{"cache_discount", FIELD_SKIP},
	{"service_tier", FIELD_SERVICE_TIER},
	{NULL, NSLOTS}
};

/*
 * At most vendors reasoning is a part of the completion.  At xAI it stands beside
 * it, and the total tells: it has the reasoning in it once more than it would.
 */
static bool
reasoning_is_beside(const Reading *reading)
{
	int64		reasoning = slot_count(reading, SLOT_REASONING);

	return reasoning > 0 && slot_given(reading, SLOT_TOTAL) &&
		slot_given(reading, SLOT_INPUT_TOTAL) && slot_given(reading, SLOT_OUTPUT_TOTAL) &&
		slot_count(reading, SLOT_TOTAL) == slot_count(reading, SLOT_INPUT_TOTAL) +
		slot_count(reading, SLOT_OUTPUT_TOTAL) + reasoning;
}

static Refusal *
make_meters(Reading *reading, bool beside)
{
	int64		input[NMODALITIES];
	int64		cached[NMODALITIES];
	int64		output[NMODALITIES];
	int64		prompt = slot_count(reading, SLOT_INPUT_TOTAL);
	int64		completion = slot_count(reading, SLOT_OUTPUT_TOTAL);
	int64		predicted = slot_count(reading, SLOT_ACCEPTED) +
		slot_count(reading, SLOT_REJECTED);
	int64		reasoning = slot_count(reading, SLOT_REASONING);
	Refusal    *refusal;

	if (slot_given(reading, SLOT_TOTAL) && !beside &&
		slot_count(reading, SLOT_TOTAL) != prompt + completion)
		return tb_bad_sum(reading, SLOT_TOTAL, prompt + completion);

	if ((refusal = tb_by_modality(reading, SLOT_INPUT_TOTAL, input)) != NULL ||
		(refusal = tb_by_modality(reading, SLOT_CACHED_TOTAL, cached)) != NULL ||
		(refusal = tb_by_modality(reading, SLOT_OUTPUT_TOTAL, output)) != NULL)
		return refusal;
	if (slot_given(reading, SLOT_UNCACHED) &&
		slot_count(reading, SLOT_UNCACHED) != prompt - slot_count(reading, SLOT_CACHED_TOTAL))
		return tb_bad_sum(reading, SLOT_UNCACHED,
						  prompt - slot_count(reading, SLOT_CACHED_TOTAL));
	if (predicted > completion)
		return tb_exceeds(reading, slot_count(reading, SLOT_REJECTED) > 0 ?
						  SLOT_REJECTED : SLOT_ACCEPTED, predicted,
						  SLOT_OUTPUT_TOTAL, completion);

	if (beside)
	{
		output[MODALITY_TEXT] += reasoning;
		tb_note(reading, "reasoning is counted beside the completion, as the total says");
	}
	if ((refusal = tb_input_meters(reading, input, cached, NULL)) != NULL ||
		(refusal = tb_output_meters(reading, output, reasoning)) != NULL)
		return refusal;
	tb_meter(reading, "web_searches", slot_count(reading, SLOT_WEB_SEARCHES));
	reading->result->context_tokens = int64_to_numeric(prompt);
	return NULL;
}

/* prompt_tokens and completion_tokens, which are always told. */
static Refusal *
chat_meters(Reading *reading)
{
	static const char hint[] = "Pass the whole usage object of the finished call; what is not told is not zero.";

	if (!slot_given(reading, SLOT_INPUT_TOTAL))
		return tb_missing_field(reading, "prompt_tokens", hint);
	if (!slot_given(reading, SLOT_OUTPUT_TOTAL))
		return tb_missing_field(reading, "completion_tokens", hint);
	return make_meters(reading, false);
}

/* The same, of OpenAI or somebody who speaks like it. */
static Refusal *
openai_chat_meters(Reading *reading)
{
	return reasoning_is_beside(reading) ?
		make_meters(reading, true) : chat_meters(reading);
}

static Refusal *
generation_meters(Reading *reading)
{
	static const char hint[] = "OpenRouter tells it when the generation is over: ask again.";

	if (!slot_given(reading, SLOT_INPUT_TOTAL))
		return tb_missing_field(reading, "native_tokens_prompt", hint);
	if (!slot_given(reading, SLOT_OUTPUT_TOTAL))
		return tb_missing_field(reading, "native_tokens_completion", hint);
	return make_meters(reading, false);
}

/* Embeddings have no completion. */
static Refusal *
embedding_meters(Reading *reading)
{
	if (!slot_given(reading, SLOT_INPUT_TOTAL))
		return tb_missing_field(reading, "prompt_tokens",
								"Embeddings tell prompt_tokens and total_tokens.");
	return make_meters(reading, false);
}

static Refusal *
response_meters(Reading *reading)
{
	static const char hint[] = "Pass the whole usage object of the finished call; what is not told is not zero.";

	if (!slot_given(reading, SLOT_INPUT_TOTAL))
		return tb_missing_field(reading, "input_tokens", hint);
	if (!slot_given(reading, SLOT_OUTPUT_TOTAL))
		return tb_missing_field(reading, "output_tokens", hint);
	return make_meters(reading, false);
}

/* What comes out of an image model is images, unless it says otherwise. */
static Refusal *
image_meters(Reading *reading)
{
	if (!slot_given(reading, SLOT_OUTPUT_TEXT) &&
		!slot_given(reading, SLOT_OUTPUT_IMAGE) &&
		slot_given(reading, SLOT_OUTPUT_TOTAL))
	{
		reading->counts[SLOT_OUTPUT_IMAGE] = reading->counts[SLOT_OUTPUT_TOTAL];
		reading->paths[SLOT_OUTPUT_IMAGE] = reading->paths[SLOT_OUTPUT_TOTAL];
	}
	return response_meters(reading);
}

/* Transcriptions are counted in seconds or in tokens. */
static Refusal *
transcription_meters(Reading *reading)
{
	Usage	   *result = reading->result;

	if (reading->seconds == NULL)
		return response_meters(reading);
	if (slot_given(reading, SLOT_INPUT_TOTAL) ||
		slot_given(reading, SLOT_OUTPUT_TOTAL))
		return tb_bad_field(reading, ERRCODE_INVALID_PARAMETER_VALUE,
							"seconds",
							"A transcription is counted in seconds or in tokens, not in both.",
							"a member that goes with no tokens");
	result->meters[0].name = "seconds";
	result->meters[0].name_len = strlen("seconds");
	result->meters[0].quantity = reading->seconds;
	result->nmeters = 1;
	return NULL;
}

const UsageFormat tb_openai_formats[] = {
	{"openai_chat", chat_fields, false, openai_chat_meters},
	{"openai_responses", response_fields, false, response_meters},
	{"openai_realtime", response_fields, false, response_meters},
	{"openai_images", response_fields, false, image_meters},
	{"openai_transcription", response_fields, false, transcription_meters},
	{"openai_embeddings", chat_fields, false, embedding_meters},
	{"deepseek", chat_fields, false, chat_meters},
	{"openrouter", chat_fields, false, chat_meters},
	{"openrouter_generation", generation_fields, false, generation_meters},
	{"anthropic_openai", chat_fields, false, chat_meters},
	{NULL, NULL, false, NULL}
};
