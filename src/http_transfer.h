/*
 * http_transfer.h
 *	  One request on its way, between the files of the engine.
 *
 *	  http.c			takes requests, lets them wait for a free place, hands
 *						out answers
 *	  http_setup.c		what libcurl is told about a request
 *	  http_loop.c		libcurl's multi interface, sockets and timers
 *	  http_receive.c	headers and body as they arrive, and their limits
 *	  http_guard.c		sockets, and to whom they are not opened
 *	  http_failure.c	what went wrong, in a word and a sentence
 *	  http_memory.c		memory that is wiped before it is freed
 *	  token_library.c	the way to tokenbill_token: answers with tokens in them,
 *						and tokens that are signed here
 *
 * These make up the library tokenbill_http; http_engine.h is all it has in common
 * with tokenbill.  No function or variable that is not static has a name that
 * tokenbill has, too: the dynamic linker would take that one for both.
 *
 * libcurl's callbacks must not be left by a longjmp, so nothing that they reach
 * calls palloc, elog or anything else of the server's that throws.  That goes
 * for http_receive.c, http_guard.c and http_failure.c as wholes, and for
 * before_request() in http_setup.c.
 */
#ifndef TOKENBILL_HTTP_TRANSFER_H
#define TOKENBILL_HTTP_TRANSFER_H

#include "http_engine.h"

#include <curl/curl.h>
#include <sys/socket.h>

#include "lib/ilist.h"

/* Limits of an answer's headers; those in use send 1 to 4 KB in 20 to 50 */
#define TB_MAX_HEADERS		200
#define TB_MAX_HEADER_BYTES (64 * 1024)

/*
 * How long a request waits for others to the same host.  Who has claimed it waits
 * for tokenbill.request_timeout and a minute, and then has it made again.
 */
#define TB_MAX_QUEUE_MS		45000

/* Room for a sentence about what went wrong */
#define TB_MAX_HTTP_ERROR	512

/*
 * A request from tb_http_start() to tb_http_done().  It is in one of the three
 * lists of http.c.  All memory is from http_memory.c.
 */
typedef struct HttpTransfer
{
	dlist_node	node;
	int64		began;			/* when it was queued, then when it was sent */

	/* what is asked */
	char	   *purpose;
	char	   *target;
	int64		lease;
	char	   *method;
	char	   *url;
	char	   *body;
	size_t		body_length;
	struct curl_slist *request_headers;
	int			timeout_ms;
	size_t		max_bytes;
	char	   *place;			/* https://host:port, for the limit of a host
								 * and for sentences */
	CURL	   *easy;			/* NULL but while it is on its way */
	bool		sent;			/* a connection has been had for it */
	char		curl_error[CURL_ERROR_SIZE];

	/* what has arrived */
	HttpHeader *headers;
	int			header_count;
	int			header_lines;	/* of all responses, interim ones included */
	size_t		header_bytes;
	bool		headers_complete;
	char	   *received;
	size_t		received_length;
	size_t		received_room;

	/* addresses tried, and why the last refused one was */
	int			addresses_tried;
	const char *refused_because;
	char		refused_address[64];

	/* what came of it; what a callback says is wrong goes before libcurl's */
	int			status;
	int			duration_ms;
	const char *error_kind;
	char		error[TB_MAX_HTTP_ERROR];
} HttpTransfer;

/* http.c */
extern const HttpTerms *tb_terms;

/* http_setup.c */
extern bool tb_http_read_url(HttpTransfer *transfer);
extern bool tb_http_add_header(HttpTransfer *transfer, const char *header);
extern bool tb_http_setup(HttpTransfer *transfer, bool fresh_connection);

/* http_loop.c */
extern bool tb_http_loop_begin(void);
extern int64 tb_http_clock(void);
extern bool tb_http_loop_add(HttpTransfer *transfer);
extern void tb_http_loop_remove(HttpTransfer *transfer);
extern HttpTransfer *tb_http_loop_finished(CURLcode *result);
extern bool tb_http_loop_turn(int64 timeout_ms, pgsocket also, bool *woken);
extern void tb_http_loop_discard(void);

/* http_receive.c */
extern size_t tb_http_header_callback(char *data, size_t size, size_t count,
									  void *transfer);
extern size_t tb_http_body_callback(char *data, size_t size, size_t count,
									void *transfer);

/* http_guard.c */
extern curl_socket_t tb_http_open_socket(void *transfer, curlsocktype purpose,
										 struct curl_sockaddr *address);
extern int	tb_http_close_socket(void *unused, curl_socket_t socket);

/* http_failure.c */
extern void tb_http_fail(HttpTransfer *transfer, const char *kind,
						 const char *format,...) pg_attribute_printf(3, 4);
extern void tb_http_explain(HttpTransfer *transfer, CURLcode code);
extern void tb_http_make_ascii(char *words, size_t length);

/* http_memory.c */
extern void *tb_wiped_malloc(size_t size);
extern void *tb_wiped_calloc(size_t count, size_t size);
extern void *tb_wiped_realloc(void *old, size_t size);
extern char *tb_wiped_strdup(const char *text);
extern void *tb_wiped_copy(const void *data, size_t size);
extern void tb_wiped_free(void *memory);

/* token_library.c */
extern const char *tb_token_load(void);
extern bool tb_token_read(const char *body, size_t length, TokenAnswer *result);
extern void tb_token_forget(TokenAnswer *result);
extern const char *tb_token_sign(const JwtInput *input, char **token);

#endif							/* TOKENBILL_HTTP_TRANSFER_H */
