/*
 * error_wait.c
 *	  How long an answer that failed wants us to wait.
 *
 * In this order, and what cannot be read is as if it were not there:
 *
 *	  its headers	see retry_after.c
 *	  headers that it passes on from further up, in error.metadata.headers
 *		(OpenRouter)
 *	  members of its body: those that the rule names, then those that vendors use:
 *		retry_after, and the retryDelay of Google's RetryInfo
 *	  its message: "try again in 6m0s" (OpenAI, Groq), "retry after 26 seconds"
 *		(Azure)
 */
#include "error_wait.h"

#include <string.h>

#include "ascii.h"

/* Headers that are passed on, at most so many */
#define MAX_HEADERS 64

/* A message is read so far, and what stands for a time in it is no longer */
#define LONGEST_MESSAGE 4096
#define LONGEST_TIME 48

static const char wait_paths[] =
"retry_after,error.retry_after,retryAfter,error.retryAfter,parameters.retry_after,"
"error.details.*.retryDelay,details.*.retryDelay,0.error.details.*.retryDelay";

static const char wait_ms_paths[] = "retry_after_ms,error.retry_after_ms";

/* ... and the words before a time in a sentence */
static const char *const wait_phrases[] = {
	"again in ", "again after ", "retry in ", "retry after "
};

/* Where one of them is looked for, and what was found */
typedef struct Wait
{
	RetryUnit	unit;
	const ErrorReply *reply;
	int64_t		wait_ms;
} Wait;

/* ---- members */

static bool
visit_wait(ErrorBody *body, json_t *value, void *state)
{
	Wait	   *wait = state;
	RetryText	said;
	char		digits[32];

	if (json_is_string(value))
	{
		said.at = json_string_value(value);
		said.end = said.at + json_string_length(value);
	}
	else if (json_is_number(value))
	{
		size_t		length = json_dumpb(value, digits, sizeof(digits),
										JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));

		if (length > sizeof(digits))
			return false;
		said.at = digits;
		said.end = digits + length;
	}
	else
		return false;
	return tb_retry_wait(&said, wait->unit, wait->reply->now_ms, &wait->wait_ms);
}

/* An object of headers in the body, read as headers are */
static bool
visit_headers(ErrorBody *body, json_t *value, void *state)
{
	Wait	   *wait = state;
	RetryHeader headers[MAX_HEADERS];
	size_t		count = 0;
	const char *name;
	json_t	   *inner;
	bool		capped;

	/* of anything but an object there are none */
	json_object_foreach(value, name, inner)
	{
		if (count == MAX_HEADERS)
			break;
		if (!json_is_string(inner))
			continue;
		headers[count].name.at = name;
		headers[count].name.end = name + strlen(name);
		headers[count].value.at = json_string_value(inner);
		headers[count].value.end = headers[count].value.at + json_string_length(inner);
		count++;
	}
	return tb_retry_after(headers, count, wait->reply->status, wait->reply->now_ms,
						  &wait->wait_ms, &capped);
}

/* ---- messages */

static bool
is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

/* Whether a text goes on with this, in lower case */
static bool
goes_on(RetryText said, const char *with)
{
	size_t		length = strlen(with);

	if ((size_t) (said.end - said.at) < length)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		char		c = said.at[i];

		if ((c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c) != with[i])
			return false;
	}
	return true;
}

/* What a unit in words is in Go's letters; NULL: it is none */
static const char *
short_unit(RetryText said)
{
	static const struct
	{
		const char *word;
		const char *unit;
	}			units[] = {
		{"milli", "ms"}, {"ms", "ms"}, {"sec", "s"}, {"min", "m"}, {"hour", "h"}, {"day", "d"}
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
	{
		if (goes_on(said, units[i].word))
			return units[i].unit;
	}
	return NULL;
}

/* The duration that a sentence goes on with, which has units: 6m0s, 1.5s, 26 seconds */
static bool
read_words(RetryText said, Wait *wait)
{
	char		copy[LONGEST_TIME + 4];
	size_t		length = 0;
	bool		digits_only = true;
	RetryText	copied = {copy, NULL};

	while (said.at < said.end && length < LONGEST_TIME &&
		   (tb_is_digit(*said.at) || is_lower(*said.at) || *said.at == '.'))
	{
		digits_only = digits_only && !is_lower(*said.at);
		copy[length++] = *said.at++;
	}
	/* a full stop ends the sentence */
	while (length > 0 && copy[length - 1] == '.')
		length--;
	if (length == 0 || !tb_is_digit(copy[0]))
		return false;
	if (digits_only && said.at < said.end && *said.at == ' ')
	{
		const char *unit;

		said.at++;
		unit = short_unit(said);
		if (unit == NULL)
			return false;
		memcpy(copy + length, unit, strlen(unit));
		length += strlen(unit);
	}
	copied.end = copy + length;
	return tb_retry_wait(&copied, RETRY_SECONDS, wait->reply->now_ms, &wait->wait_ms);
}

static bool
visit_sentence(ErrorBody *body, json_t *value, void *state)
{
	RetryText	said;

	if (!json_is_string(value))
		return false;
	said.at = json_string_value(value);
	said.end = said.at + json_string_length(value);
	if (said.end - said.at > LONGEST_MESSAGE)
		said.end = said.at + LONGEST_MESSAGE;
	for (; said.at < said.end; said.at++)
	{
		for (size_t i = 0; i < sizeof(wait_phrases) / sizeof(wait_phrases[0]); i++)
		{
			RetryText	behind;

			behind.at = said.at + strlen(wait_phrases[i]);
			behind.end = said.end;

			if (goes_on(said, wait_phrases[i]) && read_words(behind, state))
				return true;
		}
	}
	return false;
}

/*
 * tb_error_wait
 *		How long to wait, in milliseconds, at most TB_MAX_RETRY_MS; false if the
 *		answer does not say.  wait are the paths of its rule, or NULL.
 */
bool
tb_error_wait(ErrorBody *body, const char *wait, const ErrorReply *reply, int64_t *wait_ms)
{
	Wait		found = {RETRY_SECONDS, reply, 0};
	bool		capped;

	if (tb_retry_after(reply->headers, reply->nheaders, reply->status, reply->now_ms,
					   wait_ms, &capped))
		return true;
	if (!tb_visit_error_body(body, "error.metadata.headers", visit_headers, &found) &&
		!(wait != NULL && tb_visit_error_body(body, wait, visit_wait, &found)) &&
		!tb_visit_error_body(body, wait_paths, visit_wait, &found))
	{
		found.unit = RETRY_MILLISECONDS;
		if (!tb_visit_error_body(body, wait_ms_paths, visit_wait, &found) &&
			!tb_visit_error_body(body, "error.message,message,error,$", visit_sentence, &found))
			return false;
	}
	*wait_ms = found.wait_ms > TB_MAX_RETRY_MS ? TB_MAX_RETRY_MS : found.wait_ms;
	return true;
}
