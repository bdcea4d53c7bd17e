/*
 * canonical.h
 *	  The canonical form of an HTTP request, which signatures are made of.  Knows
 *	  nothing of PostgreSQL.
 */
#ifndef TOKENBILL_CANONICAL_H
#define TOKENBILL_CANONICAL_H

#include <stdbool.h>
#include <stddef.h>

#include "signature.h"

#define TB_DIGEST_BYTES 32
#define TB_DIGEST_DIGITS (2 * TB_DIGEST_BYTES + 1)

#define TB_NO_MEMORY "there is no memory to sign it with"

#define TB_MAX_SIGNED 32

/* A text that grows; after a failure it stays as it is. */
typedef struct Buffer
{
	char	   *data;
	size_t		length;
	size_t		room;
	bool		failed;
} Buffer;

/* Part of a text. */
typedef struct Span
{
	const char *begin;
	size_t		length;
} Span;

typedef struct Url
{
	Span		host;			/* with the port, if it is not the usual one */
	Span		path;
	Span		query;
} Url;

/* A header that is signed: its name in lower case, and its value, in buffers. */
typedef struct Signed
{
	Buffer		name;
	Buffer		value;
} Signed;

/* A list of headers to be signed. */
typedef struct SignedList
{
	Signed		headers[TB_MAX_SIGNED];
	int			count;
} SignedList;

extern void tb_buffer_add(Buffer *buffer, const char *data, size_t length);
extern void tb_buffer_print(Buffer *buffer, const char *string);
extern void tb_buffer_free(Buffer *buffer);
extern bool tb_split_url(const char *url, Url *parts);
extern bool tb_sign_header(SignedList *list, const char *name, const char *value);
extern bool tb_sign_headers_of(SignedList *list, const SignatureInput *input,
							   const char *prefix);
extern bool tb_is_signed(const SignedList *list, const char *name);
extern void tb_print_signed(Buffer *buffer, const SignedList *list);
extern void tb_signed_free(SignedList *list);
extern void tb_print_digest(const unsigned char *digest, char *digits);
extern bool tb_sha256(const char *data, size_t length, char *digits);
extern const char *tb_canonical_hash(const SignatureInput *input, const Url *url,
									 SignedList *list, const char *body_digits,
									 char *digits);

#endif							/* TOKENBILL_CANONICAL_H */
