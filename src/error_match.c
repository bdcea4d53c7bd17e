/*
 * error_match.c
 *	  Which rule an answer that failed goes by, and what it says of itself.
 *
 * The rules come in the order in which they are looked at; the first that fits
 * is it.  None of this knows a vendor, but for where codes and messages are used
 * to be: those are only repeated.
 */
#include "error_match.h"

#include "error_body.h"
#include "error_wait.h"

#include <string.h>

/* Digits and sign of the longest integer */
#define LONGEST_INTEGER 24

/* Where codes are used to be, the most exact first */
static const char code_paths[] =
"error.decline_code,decline_code,details.*.issue,error.details.error_code,error.code,"
"response.error.code,choices.*.error.code,output.code,"
"*_response.sub_code,*_response.code,last_payment_error.decline_code,last_payment_error.code,"
"last_setup_error.decline_code,last_setup_error.code,failure_code,failure_reason,"
"code,Code,error_code,error.type,errors.0.code,ResponseMetadata.Error.Code,error.status,"
"base_resp.status_code,base_resp.StatusCode,0.error.status,name,error,type";

/* And messages */
static const char message_paths[] =
"error.message,details.*.description,message,error_description,error,detail,msg,Message,"
"errors.0.message,ResponseMetadata.Error.Message,*_response.sub_msg,*_response.msg,"
"last_payment_error.message,last_setup_error.message,failure_message,response.error.message,"
"choices.*.error.message,output.message,error.msg,base_resp.status_msg,0.error.message,title,$";

/* The last steps of places that hold sentences, or may, or a kind; where else is a code */
static const char *const sentences[] = {
	"message", "Message", "msg", "sub_msg", "status_msg", "detail", "title", "description",
	"error_description", "object", "*", "$"
};

/* ---- values as text */

/* An integer in decimal digits, from the end of a buffer; where it begins */
static const char *
write_integer(json_int_t value, char *end)
{
	bool		negative = value < 0;

	/* the smallest has no positive counterpart */
	uint64_t	rest = negative ? -(uint64_t) value : (uint64_t) value;

	do
		*--end = '0' + rest % 10;
	while ((rest /= 10) != 0);
	if (negative)
		*--end = '-';
	return end;
}

/*
 * A value as it is compared; digits are LONGEST_INTEGER bytes for a number, which
 * may be NULL for a string.  An object, an array or a fraction is there, but as
 * nothing that anybody would write down.
 */
static RetryText
text_of(json_t *value, char *digits)
{
	RetryText	said = {"", NULL};

	if (json_is_string(value))
	{
		said.at = json_string_value(value);
		said.end = said.at + json_string_length(value);
		return said;
	}
	if (json_is_integer(value))
	{
		said.at = write_integer(json_integer_value(value), digits + LONGEST_INTEGER);
		said.end = digits + LONGEST_INTEGER;
		return said;
	}
	if (json_is_boolean(value))
		said.at = json_is_true(value) ? "true" : "false";
	said.end = said.at + strlen(said.at);
	return said;
}

/* Take over as much as there is room for, in whole characters, without NUL */
static size_t
keep(RetryText said, char *buffer, size_t room)
{
	size_t		length = said.end - said.at;

	if (length > room)
	{
		length = room;
		while (length > 0 && ((unsigned char) said.at[length] & 0xc0) == 0x80)
			length--;
	}
	memcpy(buffer, said.at, length);
	for (size_t i = 0; i < length; i++)
	{
		if (buffer[i] == '\0')
			buffer[i] = ' ';
	}
	return length;
}

/* ---- conditions */

/*
 * Whether a text is what the patterns of a condition say: like one of those
 * without !, if there are any, and like none of those with it.
 */
static bool
fits(ErrorBody *body, const ErrorCondition *condition, RetryText said)
{
	bool		wanted = false;
	bool		found = false;

	for (int i = 0; i < condition->npatterns; i++)
	{
		const char *pattern = condition->patterns[i];
		bool		not = *pattern == '!';

		pattern += not;
		if (!not && found)
			continue;
		wanted = wanted || !not;
		if (tb_error_glob(body, pattern, strlen(pattern), said.at, said.end - said.at))
		{
			if (not)
				return false;
			found = true;
		}
	}
	return found || !wanted;
}

/* What a condition is looked for with, and what it found, if that may be a code */
typedef struct Found
{
	const ErrorCondition *condition;
	json_t	   *code;
} Found;

/* Whether the path that is being walked ends where there are sentences */
static bool
leads_to_sentence(const ErrorBody *body)
{
	const char *end = body->path + body->path_length;
	const char *last = end;

	while (last > body->path && last[-1] != '.')
		last--;
	for (size_t i = 0; i < sizeof(sentences) / sizeof(sentences[0]); i++)
	{
		if (strlen(sentences[i]) == (size_t) (end - last) &&
			memcmp(sentences[i], last, end - last) == 0)
			return true;
	}
	return false;
}

static bool
visit_condition(ErrorBody *body, json_t *value, void *state)
{
	Found	   *found = state;
	char		digits[LONGEST_INTEGER];

	if (!fits(body, found->condition, text_of(value, digits)))
		return false;
	if (!leads_to_sentence(body))
		found->code = value;
	return body->effort >= 0;
}

static bool
in_headers(ErrorBody *body, const ErrorCondition *condition, const ErrorReply *reply)
{
	for (size_t i = 0; i < reply->nheaders; i++)
	{
		RetryText	name = reply->headers[i].name;

		if (tb_error_glob(body, condition->place, strlen(condition->place),
						  name.at, name.end - name.at) &&
			fits(body, condition, reply->headers[i].value))
			return body->effort >= 0;
	}
	return false;
}

/* Up to three digits or x, of a status: its lowest and its highest value */
static const char *
read_status(const char *at, int *least, int *most)
{
	*least = *most = 0;
	for (int i = 0; i < 3 && ((*at >= '0' && *at <= '9') || *at == 'x'); i++, at++)
	{
		*least = *least * 10 + (*at == 'x' ? 0 : *at - '0');
		*most = *most * 10 + (*at == 'x' ? 9 : *at - '0');
	}
	return at;
}

/* Whether a status is in a list such as 408,5xx,420-429 */
static bool
has_status(const char *list, int status)
{
	while (*list != '\0')
	{
		int			least;
		int			most;

		list = read_status(list, &least, &most);
		if (*list == '-')
		{
			int			ignored;

			list = read_status(list + 1, &ignored, &most);
		}
		if (status >= least && status <= most)
			return true;
		list += strcspn(list, ",");
		while (*list == ',' || *list == ' ')
			list++;
	}
	return false;
}

/* Whether a rule is about an answer, and by which code, if it is by one */
static bool
applies(ErrorBody *body, const ErrorRule *rule, const ErrorReply *reply, json_t **code)
{
	*code = NULL;
	if (rule->vendor != NULL &&
		(reply->vendor == NULL || strcmp(rule->vendor, reply->vendor) != 0))
		return false;
	if (rule->status != NULL && !has_status(rule->status, reply->status))
		return false;
	for (int i = 0; i < rule->nheaders; i++)
	{
		if (!in_headers(body, &rule->headers[i], reply))
			return false;
	}
	for (int i = 0; i < rule->nbody; i++)
	{
		Found		found = {&rule->body[i], NULL};

		if (!tb_visit_error_body(body, rule->body[i].place, visit_condition, &found))
			return false;
		if (*code == NULL)
			*code = found.code;
	}
	return true;
}

/* ---- what the answer says of itself */

static bool
visit_code(ErrorBody *body, json_t *value, void *state)
{
	ErrorMatch *match = state;
	char		digits[LONGEST_INTEGER];

	/* words with blanks between them are a sentence */
	if (json_is_string(value) ? strchr(json_string_value(value), ' ') != NULL :
		!json_is_integer(value))
		return false;
	match->code_length = keep(text_of(value, digits), match->code, TB_ERROR_CODE);
	return match->code_length > 0;
}

static bool
visit_message(ErrorBody *body, json_t *value, void *state)
{
	ErrorMatch *match = state;

	if (!json_is_string(value))
		return false;

	/*
	 * a page is for somebody with a browser, and what is not even JSON for
	 * nobody
	 */
	if (body->is_text && strchr("<{[", *json_string_value(value)) != NULL)
		return false;
	match->message_length = keep(text_of(value, NULL), match->message, TB_ERROR_MESSAGE);
	return match->message_length > 0;
}

/*
 * tb_match_error
 *		Find the rule that an answer goes by, its code, its message, and how long
 *		it wants us to wait.  It cannot fail: of an answer that means nothing there
 *		is nothing to say.
 */
void
tb_match_error(const ErrorRule *rules, int nrules, const ErrorReply *reply, ErrorMatch *match)
{
	ErrorBody	body;
	json_t	   *code = NULL;
	const char *wait = NULL;

	match->rule = -1;
	match->code_length = 0;
	match->message_length = 0;
	match->wait_ms = 0;
	tb_open_error_body(&body, reply->body, reply->length);
	for (int i = 0; i < nrules && match->rule < 0; i++)
	{
		if (applies(&body, &rules[i], reply, &code))
			match->rule = i;
	}
	if (match->rule >= 0)
		wait = rules[match->rule].wait;

	/*
	 * what is only told has effort of its own: it must not be silent for a
	 * rule's sake
	 */
	body.effort = TB_ERROR_EFFORT;
	if (!tb_visit_error_body(&body, code_paths, visit_code, match) &&
		match->rule >= 0 && code != NULL)
		visit_code(&body, code, match);
	tb_visit_error_body(&body, message_paths, visit_message, match);
	match->waits = tb_error_wait(&body, wait, reply, &match->wait_ms);
	tb_close_error_body(&body);
}
