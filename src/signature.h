/*
 * signature.h
 *	  Signatures of HTTP requests.  Knows nothing of PostgreSQL, so that they can
 *	  be tested against the vendors' examples outside of a server.
 */
#ifndef TOKENBILL_SIGNATURE_H
#define TOKENBILL_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

/* At most so many headers make a signature. */
#define TB_SIGNATURE_HEADERS 4

/* What is signed, with what, when. */
typedef struct SignatureInput
{
	const char *method;
	const char *url;
	const char *const *headers; /* "Name: value" */
	int			header_count;
	const char *body;			/* NULL: none */
	size_t		body_length;
	const char *secret;
	size_t		secret_length;
	int64_t		now;			/* seconds since 1970 */
	const char *nonce;			/* printable, never used before */
} SignatureInput;

/* Headers to be added to the request, "Name: value", from malloc(). */
typedef struct Signature
{
	char	   *headers[TB_SIGNATURE_HEADERS];
	int			header_count;
} Signature;

extern const char *tb_signature_make(const char *auth, const SignatureInput *input,
									 Signature *signature);
extern void tb_signature_free(Signature *signature);

#endif							/* TOKENBILL_SIGNATURE_H */
