/*
 * error_match.h
 *	  Which rule an answer that failed goes by, and what it says of itself.
 *
 * For those who include PostgreSQL's headers, which declare a json_object() of
 * their own: error_body.h, with jansson's, is not for them.
 */
#ifndef TOKENBILL_ERROR_MATCH_H
#define TOKENBILL_ERROR_MATCH_H

#include "retry_after.h"

/* A longer body is no error message: nothing of it is looked at */
#define TB_ERROR_BODY ((size_t) 1024 * 1024)

/* What is taken of a code or message, in bytes of UTF-8 */
#define TB_ERROR_CODE 256
#define TB_ERROR_MESSAGE 4096

/* There was no status */
#define TB_NO_STATUS (-1)

/* What has to be in a place: in a body the place is paths, in headers a name */
typedef struct ErrorCondition
{
	const char *place;
	int			npatterns;
	const char **patterns;
} ErrorCondition;

/* All of what is said has to be true; NULL or 0: it makes no difference */
typedef struct ErrorRule
{
	const char *vendor;
	const char *status;			/* 429, 5xx, 400-499, a list of them */
	int			nbody;
	ErrorCondition *body;
	int			nheaders;
	ErrorCondition *headers;
	const char *wait;			/* paths to how long to wait */
} ErrorRule;

/* The answer that is judged */
typedef struct ErrorReply
{
	const char *vendor;			/* NULL: nobody knows */
	int			status;
	const char *body;
	size_t		length;
	const RetryHeader *headers;
	size_t		nheaders;
	int64_t		now_ms;
} ErrorReply;

typedef struct ErrorMatch
{
	int			rule;			/* -1: none */
	size_t		code_length;	/* 0: none was said */
	char		code[TB_ERROR_CODE];
	size_t		message_length;
	char		message[TB_ERROR_MESSAGE];
	bool		waits;
	int64_t		wait_ms;		/* at most TB_MAX_RETRY_MS */
} ErrorMatch;

extern void tb_match_error(const ErrorRule *rules, int nrules, const ErrorReply *reply,
						   ErrorMatch *match);

#endif							/* TOKENBILL_ERROR_MATCH_H */
