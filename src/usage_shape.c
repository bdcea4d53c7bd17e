/*
 * usage_shape.c
 *	  Where in what was passed is the usage object, and of which format is it?
 *
 * A format is only recognized by members that no other has.  An object that
 * could be of two formats that count differently is refused: which it is has to
 * be said.  {"input_tokens": 10, "output_tokens": 5} means the same in all that
 * have these members, so it needs no format at all.
 */
#include "usage_read.h"

#include "check.h"
#include "utils/builtins.h"

/* A response in a line of a batch's output is this deep. */
#define MAX_WRAPPERS 3

/*
 * Members that are counts in a provider's object, and no meter's name: an object
 * with one of them is a provider's, even if all its members are numbers.
 */
static const char *const provider_members[] = {
	"total_tokens", "prompt_tokens", "completion_tokens",
	"total_token_count", "prompt_token_count", "thoughts_token_count",
	"response_token_count", "candidates_token_count",
	"cached_content_token_count", "tool_use_prompt_token_count",
	"cache_read_input_tokens", "cache_creation_input_tokens",
	"prompt_cache_hit_tokens", "prompt_cache_miss_tokens",
	"native_tokens_prompt", "native_tokens_completion"
};

static const char *const gemini_members[] = {
	"promptTokenCount", "totalTokenCount", "candidatesTokenCount",
	"responseTokenCount", "thoughtsTokenCount", "cachedContentTokenCount",
	"toolUsePromptTokenCount",
	"prompt_token_count", "total_token_count", "candidates_token_count",
	"response_token_count", "thoughts_token_count",
	"cached_content_token_count", "tool_use_prompt_token_count", NULL
};

static const char *const anthropic_members[] = {
	"cache_creation_input_tokens", "cache_read_input_tokens",
	"cache_creation", "server_tool_use", "inference_geo", "iterations",
	"speed", NULL
};

static const char *const response_members[] = {
	"total_tokens", "input_tokens_details", "input_token_details",
	"output_token_details", NULL
};

static const char *const openrouter_members[] = {
	"cost", "cost_details", "is_byok", NULL
};

static const char *const generation_members[] = {
	"native_tokens_prompt", "native_tokens_completion", NULL
};

static const char *const usage_members[] = {
	"input_tokens", "output_tokens", "prompt_tokens", "completion_tokens",
	"seconds", NULL
};

/* What surrounds a usage object: a response has some of these. */
static const char *const body_members[] = {
	"choices", "candidates", "content", "output", "object", "model",
	"modelVersion", "model_version", "responseId", "response_id", "id",
	"created", "data", "delta", "response", "message", "result", NULL
};

/*
 * tb_is_provider_member
 *		Whether this name is a count in a provider's object, and no meter.
 */
bool
tb_is_provider_member(const char *name, int len)
{
	/* the shortest has 12 letters; most meters are told by their first one */
	if (len < 12 || (name[0] != 't' && name[0] != 'p' && name[0] != 'c' &&
					 name[0] != 'r' && name[0] != 'n'))
		return false;
	for (size_t i = 0; i < lengthof(provider_members); i++)
	{
		if (strlen(provider_members[i]) == (size_t) len &&
			memcmp(provider_members[i], name, len) == 0)
			return true;
	}
	return false;
}

static JsonbValue *
member(JsonbContainer *object, const char *name)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
}

/* A member that is an object or an array, or null. */
static JsonbContainer *
container_member(JsonbContainer *object, const char *name)
{
	JsonbValue *value = member(object, name);

	return value != NULL && value->type == jbvBinary ?
		value->val.binary.data : NULL;
}

static JsonbContainer *
object_member(JsonbContainer *object, const char *name)
{
	JsonbContainer *container = container_member(object, name);

	return container != NULL && JsonContainerIsObject(container) ?
		container : NULL;
}

static bool
string_member_is(JsonbContainer *object, const char *name, const char *word)
{
	JsonbValue *value = member(object, name);

	return value != NULL && value->type == jbvString &&
		value->val.string.len == (int) strlen(word) &&
		memcmp(value->val.string.val, word, strlen(word)) == 0;
}

/* The first of these members that the object has; null if it has none. */
static const char *
first_of(JsonbContainer *object, const char *const *names)
{
	for (; *names != NULL; names++)
	{
		if (member(object, *names) != NULL)
			return *names;
	}
	return NULL;
}

static Refusal *
absent(const char *field)
{
	return tb_refusal(ERRCODE_NULL_VALUE_NOT_ALLOWED,
					  tb_json("argument:s field:s", "usage", field),
					  "A call that reported no usage is not a call that used nothing: ask the provider to report it, or find out what was used.",
					  "the response has no usage");
}

/* The service tier that a response tells beside its usage. */
static Refusal *
take_tier(JsonbContainer *body, Shape *shape)
{
	JsonbValue *tier = member(body, "service_tier");

	if (tier == NULL || tier->type != jbvString || tier->val.string.len == 0)
		return NULL;
	if (!tb_is_meter_name(tier->val.string.val, tier->val.string.len))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s field:s", "usage",
								  "service_tier"),
						  "Service tiers are words like standard, batch, flex and priority.",
						  "usage has a service tier that is no word");
	shape->service_tier = pnstrdup(tier->val.string.val, tier->val.string.len);
	return NULL;
}

/* The usage object in a response; null if there is none. */
static Refusal *
usage_of(JsonbContainer *body, JsonbValue **usage)
{
	static const char *const names[] = {"usage", "usageMetadata", "usage_metadata"};

	*usage = NULL;
	for (size_t i = 0; i < lengthof(names); i++)
	{
		JsonbValue *value = member(body, names[i]);

		if (value == NULL)
			continue;
		if (value->type == jbvNull)
			return absent(names[i]);
		if (value->type != jbvBinary ||
			!JsonContainerIsObject(value->val.binary.data))
			return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							  tb_json("argument:s field:s", "usage", names[i]),
							  "Pass the response as the provider sent it, or its usage object.",
							  "the response's usage is not an object");
		if (JsonContainerSize(value->val.binary.data) == 0)
			return absent(names[i]);
		*usage = value;
		return NULL;
	}
	return NULL;
}

/*
 * Whether this is of a batch, whose calls have prices of their own: a line of the output
 * of OpenAI's and Anthropic's (custom_id), of the Gemini API's (key) or of Vertex AI's
 * (request and processed_time), or OpenAI's batch itself, which adds its lines' usage up.
 */
static bool
is_of_batch(JsonbContainer *body)
{
	JsonbContainer *response = object_member(body, "response");
	JsonbValue *key = member(body, "key");

	if (string_member_is(body, "object", "batch"))
		return true;
	if (member(body, "custom_id") != NULL)
		return response != NULL || object_member(body, "result") != NULL;
	if (response == NULL || object_member(response, "usageMetadata") == NULL)
		return false;
	return (key != NULL && key->type == jbvString) ||
		(member(body, "request") != NULL && member(body, "processed_time") != NULL);
}

/*
 * tb_unwrap
 *		Find the usage object in what was passed: that itself, or a response, an
 *		event with a response, or a line of a batch's output.
 */
Refusal *
tb_unwrap(Jsonb *usage, const UsageFormat *format, Shape *shape)
{
	JsonbContainer *body = &usage->root;
	bool		in_batch = false;

	shape->format = format;
	shape->object = usage;
	shape->service_tier = NULL;

	/* here usage is money */
	if (first_of(body, generation_members) != NULL)
		return NULL;

	for (int i = 0; i <= MAX_WRAPPERS; i++)
	{
		JsonbValue *inner;
		JsonbContainer *wrapped = object_member(body, "data");
		Refusal    *refusal;

		if (wrapped != NULL && first_of(wrapped, generation_members) != NULL)
		{
			shape->object = JsonbValueToJsonb(member(body, "data"));
			return NULL;
		}
		refusal = usage_of(body, &inner);
		if (refusal != NULL)
			return refusal;
		in_batch = in_batch || is_of_batch(body);
		if (inner != NULL)
		{
			if ((refusal = take_tier(body, shape)) != NULL)
				return refusal;
			if (in_batch)
				shape->service_tier = "batch";
			/* what these tell is cumulative, but not always complete */
			if (shape->format == NULL &&
				string_member_is(body, "type", "message_delta"))
				shape->format = &tb_anthropic_formats[0];
			shape->object = JsonbValueToJsonb(inner);
			return NULL;
		}

		if (string_member_is(body, "type", "message_start"))
			return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							  tb_json("argument:s field:s", "usage",
									  "message"),
							  "Pass the usage of the last message_delta; the output of message_start has only begun.",
							  "usage is that of a message that has only begun");

		/* response, response.body, result.message; x_groq ends Groq's streams */
		if ((wrapped = object_member(body, "response")) != NULL)
			body = wrapped;
		else if ((wrapped = object_member(body, "x_groq")) != NULL)
			body = wrapped;
		else if (i > 0 && (wrapped = object_member(body, "body")) != NULL)
		{
			body = wrapped;
			in_batch = true;
		}
		else if ((wrapped = object_member(body, "result")) != NULL)
			body = wrapped;
		else if (i > 0 && (wrapped = object_member(body, "message")) != NULL)
			body = wrapped;
		else
			break;
	}

	if (body != &usage->root)
		return absent("usage");
	if (first_of(body, body_members) != NULL &&
		first_of(body, usage_members) == NULL &&
		first_of(body, gemini_members) == NULL &&
		first_of(body, response_members) == NULL &&
		first_of(body, anthropic_members) == NULL)
		return absent("usage");
	return NULL;
}

static Refusal *
ambiguous(const char *field, const char *formats, const char *hint)
{
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s field:s formats:j", "usage", field,
							  formats),
					  hint,
					  "usage could be of several formats");
}

static const UsageFormat *
format_called(const char *name)
{
	text	   *value = cstring_to_text(name);

	return tb_format_by_name(value);
}

/* An object with prompt_tokens or completion_tokens. */
static const char *
chat_format(JsonbContainer *object)
{
	if (member(object, "prompt_cache_hit_tokens") != NULL ||
		member(object, "prompt_cache_miss_tokens") != NULL)
		return "deepseek";
	if (member(object, "cached_tokens") != NULL)
		return first_of(object, openrouter_members) != NULL ?
			"openrouter" : "anthropic_openai";
	/* OpenRouter's have a cost, too */
	if (member(object, "completion_tokens") == NULL &&
		member(object, "completion_tokens_details") == NULL &&
		member(object, "prompt_tokens") != NULL &&
		member(object, "total_tokens") != NULL)
		return "openai_embeddings";
	if (first_of(object, openrouter_members) != NULL)
		return "openrouter";
	return "openai_chat";
}

/*
 * Images tell text and image tokens of their input, and nothing of a cache or of
 * reasoning, which Responses always do.
 */
static bool
is_of_images(JsonbContainer *object)
{
	JsonbContainer *input = object_member(object, "input_tokens_details");
	JsonbContainer *output = object_member(object, "output_tokens_details");

	return input != NULL && member(input, "text_tokens") != NULL &&
		member(input, "image_tokens") != NULL &&
		member(input, "cached_tokens") == NULL &&
		(output == NULL || member(output, "reasoning_tokens") == NULL);
}

/* An object of the Responses family. */
static const char *
response_format(JsonbContainer *object)
{
	if (string_member_is(object, "type", "tokens") ||
		string_member_is(object, "type", "duration"))
		return "openai_transcription";
	if (member(object, "input_token_details") != NULL ||
		member(object, "output_token_details") != NULL)
		return "openai_realtime";
	if (is_of_images(object))
		return "openai_images";
	return "openai_responses";
}

/*
 * tb_find_format
 *		Recognize the format of shape->object, if none is named.  Leaves it null
 *		if it has nothing of any provider's.
 */
Refusal *
tb_find_format(Shape *shape)
{
	JsonbContainer *object = &shape->object->root;
	JsonbContainer *output = object_member(object, "output_tokens_details");
	const char *gemini = first_of(object, gemini_members);
	const char *usage = first_of(object, usage_members);
	const char *anthropic;
	const char *response;

	if (shape->format != NULL)
		return NULL;

	if (first_of(object, generation_members) != NULL)
	{
		shape->format = format_called("openrouter_generation");
		return NULL;
	}
	if (gemini != NULL && usage != NULL)
		return ambiguous(usage, "[\"gemini\", \"openai_chat\"]",
						 "Pass the object as the provider sent it, or name its format.");
	if (gemini != NULL)
	{
		shape->format = format_called("gemini");
		return NULL;
	}

	if (member(object, "prompt_tokens") != NULL ||
		member(object, "completion_tokens") != NULL)
	{
		if (member(object, "input_tokens") != NULL ||
			member(object, "output_tokens") != NULL)
			return ambiguous("input_tokens",
							 "[\"openai_chat\", \"openai_responses\"]",
							 "The object has the counts of two formats; name the one to go by, and leave out the other's.");
		shape->format = format_called(chat_format(object));
		return NULL;
	}

	anthropic = first_of(object, anthropic_members);
	if (anthropic == NULL && output != NULL &&
		member(output, "thinking_tokens") != NULL)
		anthropic = "output_tokens_details.thinking_tokens";
	response = first_of(object, response_members);
	if (response == NULL && output != NULL && anthropic == NULL)
		response = "output_tokens_details";
	if (response == NULL && (string_member_is(object, "type", "tokens") ||
							 string_member_is(object, "type", "duration")))
		response = "type";

	if (anthropic != NULL && response != NULL)
		return ambiguous(anthropic, "[\"anthropic\", \"openai_responses\"]",
						 "In one of them input_tokens includes what was read from a cache, in the other not: name the format.");
	if (anthropic != NULL)
		shape->format = format_called(first_of(object, openrouter_members) != NULL ?
									  "openrouter_anthropic" : "anthropic");
	else if (response != NULL)
		shape->format = format_called(response_format(object));
	else if (usage != NULL && strcmp(usage, "seconds") != 0 &&
			 (member(object, "service_tier") != NULL ||
			  first_of(object, openrouter_members) != NULL))
		shape->format = format_called(member(object, "service_tier") != NULL ?
									  "anthropic" : "openai_responses");
	return NULL;
}
