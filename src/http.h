/*
 * http.h
 *	  HTTP requests of the worker, many at a time.
 *
 * The worker starts requests and waits; the engine carries them out side by
 * side and hands out what came of them, in the order in which they end:
 *
 *	  while (tb_http_room() > 0 && something is due && tb_http_load())
 *		  tb_http_start(&request);
 *	  tb_http_wait(until something else is due);
 *	  while (tb_http_next(&answer))
 *	  {
 *		  record it;
 *		  tb_http_done(&answer);
 *	  }
 *
 * There is no transaction around any of this, and nothing here touches a table.
 */
#ifndef TOKENBILL_HTTP_H
#define TOKENBILL_HTTP_H

#include "tokenbill.h"

#include "nodes/pg_list.h"

/*
 * What is to be asked.  Everything is copied by tb_http_start(), so the caller
 * may wipe and free its own as soon as that returns.
 */
typedef struct HttpRequest
{
	char	   *purpose;		/* these three are handed back as they are */
	char	   *target;
	int64		lease;
	char	   *method;
	char	   *url;
	List	   *headers;		/* of char *, "Name: value" */
	char	   *body;			/* NULL: none */
	size_t		body_length;
	int			timeout_ms;		/* 0: tokenbill.request_timeout */
	int			max_bytes;		/* 0: tokenbill.max_response_size */
} HttpRequest;

/*
 * A header of an answer: the name in lower case, the values of repeated ones
 * joined by ", ".  Both are printable ASCII, whatever the server sent, so they
 * are valid in every encoding and in JSON strings.
 */
typedef struct HttpHeader
{
	char	   *name;
	char	   *value;
} HttpHeader;

/* What came of it.  Belongs to the engine until tb_http_done(). */
typedef struct HttpAnswer
{
	char	   *purpose;
	char	   *target;
	int64		lease;
	int			status;			/* 0: there is no answer, see error */
	int			header_count;
	HttpHeader *headers;
	char	   *body;			/* raw, after content decoding; not
								 * terminated; NULL if it is empty */
	size_t		body_length;
	const char *error;			/* NULL if there is an answer; else a sentence
								 * in ASCII, without secrets or the URL's path */
	const char *error_kind;		/* resolve, connect, closed, tls, timeout,
								 * too_big, address, protocol or encoding;
								 * NULL if there is an answer */
	int			duration_ms;	/* since it was sent, not since it was started */
	void	   *handle;			/* the engine's own */
} HttpAnswer;

extern void tb_http_init(void);
extern bool tb_http_load(void);
extern void tb_http_start(const HttpRequest *request);
extern int	tb_http_running(void);
extern int	tb_http_room(void);
extern bool tb_http_wait(long timeout_ms, pgsocket also);
extern bool tb_http_next(HttpAnswer *answer);
extern void tb_http_done(HttpAnswer *answer);

#endif							/* TOKENBILL_HTTP_H */
