/*
 * error_match.c
 *	  Answers that failed, at random, and rules at random for them.
 *
 * Lines up to an empty one say what comes with the body, and the rules; the rest
 * is the body:
 *
 *	  status 429
 *	  vendor openai
 *	  header retry-after: 3
 *	  rule openai				a rule begins; of no vendor: any
 *	  of 4xx,500-599			its statuses
 *	  body error.code=rate*|!x	a condition on the body, patterns between |
 *	  head x-retry=true			a condition on headers
 *	  wait error.seconds		where it says how long
 *
 * sources: error_match.c error_body.c error_wait.c retry_after.c retry_time.c
 * libraries: -ljansson
 * longest: 16384
 */
#include "error_match.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RULES 16
#define MAX_CONDITIONS 4
#define MAX_PATTERNS 8
#define MAX_HEADERS 16
#define NOW_MS (INT64_C(1767225600) * 1000)

typedef struct Conditions
{
	ErrorCondition list[MAX_CONDITIONS];
	const char *patterns[MAX_CONDITIONS][MAX_PATTERNS];
} Conditions;

static ErrorRule rules[MAX_RULES];
static Conditions bodies[MAX_RULES];
static Conditions heads[MAX_RULES];
static RetryHeader headers[MAX_HEADERS];

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is behind a word that a line begins with; NULL: another word */
static char *
behind(char *line, const char *word)
{
	size_t		length = strlen(word);

	return strncmp(line, word, length) == 0 ? line + length : NULL;
}

static void
add_condition(Conditions *conditions, int *n, char *text)
{
	ErrorCondition *condition = &conditions->list[*n];
	char	   *equals = strchr(text, '=');
	char	   *pattern;

	if (*n == MAX_CONDITIONS || equals == NULL)
		return;
	condition->place = text;
	condition->patterns = conditions->patterns[*n];
	condition->npatterns = 0;
	*equals = '\0';
	while (equals != NULL && condition->npatterns < MAX_PATTERNS)
	{
		pattern = equals + 1;
		equals = strchr(pattern, '|');
		if (equals != NULL)
			*equals = '\0';
		condition->patterns[condition->npatterns++] = pattern;
	}
	(*n)++;
}

static void
add_header(ErrorReply *reply, char *text)
{
	RetryHeader *header = &headers[reply->nheaders];
	char	   *colon = strchr(text, ':');

	if (colon == NULL || reply->nheaders == MAX_HEADERS)
		return;
	header->name.at = text;
	header->name.end = colon;
	header->value.at = colon + 1;
	header->value.end = colon + 1 + strlen(colon + 1);
	reply->nheaders++;
}

/* Take in one line of the head; a NUL ends it */
static void
read_line(char *line, ErrorReply *reply, int *nrules)
{
	ErrorRule  *rule = *nrules == 0 ? NULL : &rules[*nrules - 1];
	char	   *rest;

	if ((rest = behind(line, "status ")) != NULL)
		reply->status = atoi(rest);
	else if ((rest = behind(line, "vendor ")) != NULL)
		reply->vendor = rest;
	else if ((rest = behind(line, "header ")) != NULL)
		add_header(reply, rest);
	else if ((rest = behind(line, "rule ")) != NULL)
	{
		if (*nrules < MAX_RULES)
		{
			rule = &rules[(*nrules)++];
			memset(rule, 0, sizeof(*rule));
			rule->vendor = *rest == '\0' ? NULL : rest;
			rule->body = bodies[*nrules - 1].list;
			rule->headers = heads[*nrules - 1].list;
		}
	}
	else if (rule != NULL && (rest = behind(line, "of ")) != NULL)
		rule->status = rest;
	else if (rule != NULL && (rest = behind(line, "body ")) != NULL)
		add_condition(&bodies[*nrules - 1], &rule->nbody, rest);
	else if (rule != NULL && (rest = behind(line, "head ")) != NULL)
		add_condition(&heads[*nrules - 1], &rule->nheaders, rest);
	else if (rule != NULL && (rest = behind(line, "wait ")) != NULL)
		rule->wait = rest;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *head = malloc(size + 1);
	char	   *body;
	char	   *line = head;
	ErrorReply	reply = {NULL, TB_NO_STATUS, NULL, 0, headers, 0, NOW_MS};
	int			nrules = 0;
	ErrorMatch	match;

	if (size > 0)
		memcpy(head, data, size);
	head[size] = '\0';
	while (line < head + size && *line != '\n')
	{
		char	   *last = memchr(line, '\n', head + size - line);

		if (last == NULL)
			last = head + size;
		*last = '\0';
		read_line(line, &reply, &nrules);
		line = last < head + size ? last + 1 : last;
	}
	if (line < head + size)
		line++;

	/* the body in memory of its own: one byte beyond it is not ours */
	reply.length = head + size - line;
	body = malloc(reply.length);
	if (reply.length > 0)
		memcpy(body, data + (line - head), reply.length);
	reply.body = body;
	memset(&match, 0xa5, sizeof(match));
	tb_match_error(rules, nrules, &reply, &match);
	if (match.rule < -1 || match.rule >= nrules ||
		match.code_length > TB_ERROR_CODE || match.message_length > TB_ERROR_MESSAGE ||
		memchr(match.code, '\0', match.code_length) != NULL ||
		memchr(match.message, '\0', match.message_length) != NULL ||
		(match.waits && (match.wait_ms < 0 || match.wait_ms > TB_MAX_RETRY_MS)))
		abort();
	/* what it says goes into a text, which has to be UTF-8 */
	json_decref(json_stringn(match.code, match.code_length));
	if (match.message_length > 0)
	{
		json_t	   *message = json_stringn(match.message, match.message_length);

		if (message == NULL)
			abort();
		json_decref(message);
	}
	free(body);
	free(head);
	return 0;
}
