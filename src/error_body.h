/*
 * error_body.h
 *	  The body of an answer that failed, whatever it is, and what lies where in it.
 *
 * error_body.c, error_match.c and error_wait.c need nothing of PostgreSQL: they
 * can be tried at random outside of a server.  What they allocate is freed before
 * they return to it.
 *
 * The server has a function json_object(), and in a process of its the linker
 * takes that for jansson's: never call it, json_pack("{}") is the same.  Jansson's
 * own calls are bound within its library.
 */
#ifndef TOKENBILL_ERROR_BODY_H
#define TOKENBILL_ERROR_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "error_match.h"

/* So many characters and values are compared for one answer, and then no more */
#define TB_ERROR_EFFORT 4000000L

typedef struct ErrorBody
{
	json_t	   *root;			/* NULL: there is nothing in it */
	bool		is_text;		/* it was no JSON: root is a string */
	long		effort;			/* how much may still be compared */
	const char *path;			/* the path that is being walked */
	size_t		path_length;
} ErrorBody;

/* What a path leads to; true ends the search */
typedef bool (*ErrorVisit) (ErrorBody *body, json_t *value, void *state);

extern void tb_open_error_body(ErrorBody *body, const char *bytes, size_t length);
extern void tb_close_error_body(ErrorBody *body);
extern bool tb_visit_error_body(ErrorBody *body, const char *paths,
								ErrorVisit visit, void *state);
extern bool tb_error_glob(ErrorBody *body, const char *pattern, size_t pattern_length,
						  const char *text, size_t length);

#endif							/* TOKENBILL_ERROR_BODY_H */
