/*
 * http_engine.h
 *	  What the two libraries hand each other.
 *
 * tokenbill, which every session loads that charges, is not linked with libcurl:
 * that and the thirty libraries it needs would be loaded before the first charge,
 * for nothing.  What needs it is in a library of its own, tokenbill_http, which the
 * worker loads when it has the first request to make.  Neither library refers to a
 * symbol of the other: all there is between them is one function, found by its
 * name, and the two structs below.  Whoever changes one of them, or one of http.h,
 * counts TB_HTTP_INTERFACE up: a server may still run the library of before an
 * installation when it loads this one.
 */
#ifndef TOKENBILL_HTTP_ENGINE_H
#define TOKENBILL_HTTP_ENGINE_H

#include "http.h"
#include "token_engine.h"

struct sockaddr;

#define TB_HTTP_LIBRARY "tokenbill_http"
#define TB_HTTP_FUNCTION "tokenbill_http_engine"
#define TB_HTTP_INTERFACE 2

/* On what terms requests are made.  Belongs to tokenbill; changes with a reload. */
typedef struct HttpTerms
{
	int			max_requests;
	int			max_per_host;
	int			connect_timeout;
	int			request_timeout;
	int			idle_timeout;
	int			max_response_kb;
	bool		allow_http;
	bool		allow_private;
	char	   *ca_file;

	/*
	 * How often whom we trust has been changed.  A connection that was made
	 * under other settings must not be used again: they were looked at when
	 * it was made.
	 */
	uint64		trust_changes;

	/* Why an address is not connected to; NULL: it may be */
	const char *(*refused_address) (const struct sockaddr *address);
} HttpTerms;

/*
 * What tokenbill_http does; http.h says what each of them is for.  The first two
 * are at the same place in every version.
 */
typedef struct HttpEngine
{
	int			interface_number;	/* TB_HTTP_INTERFACE */
	const char *version;		/* of the extension */
	void		(*begin) (const HttpTerms *terms);
	void		(*start) (const HttpRequest *request);
	int			(*running) (void);
	int			(*room) (void);
	bool		(*wait) (long timeout_ms, pgsocket also);
	bool		(*next) (HttpAnswer *answer);
	void		(*done) (HttpAnswer *answer);
	const char *(*token_load) (void);
	bool		(*token_read) (const char *body, size_t length, TokenAnswer *result);
	void		(*token_forget) (TokenAnswer *result);
	const char *(*token_sign) (const JwtInput *input, char **token);
	void		(*forget_text) (void *text);
} HttpEngine;

typedef const HttpEngine *(*HttpEngineFunction) (void);

/* http_engine.c; those of http.h are there, too */
extern const char *tb_engine_load_tokens(void);
extern bool tb_engine_take_apart(const HttpAnswer *answer, TokenAnswer *result);
extern void tb_engine_forget(TokenAnswer *result);
extern const char *tb_engine_sign(const JwtInput *input, char **token);
extern void tb_engine_forget_text(char *text);

/* http_setting.c */
extern HttpTerms tb_http_terms;

/* http_address.c */
extern const char *tb_refused_address(const struct sockaddr *address);

#endif							/* TOKENBILL_HTTP_ENGINE_H */
