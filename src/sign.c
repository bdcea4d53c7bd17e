/*
 * sign.c
 *	  Signs a request of the worker.
 */
#include "secret.h"

#include "clock.h"
#include "http.h"
#include "signature.h"
#include "utils/timestamp.h"

#define NONCE_BYTES 16

/*
 * tb_sign
 *		Add the headers of a signature to a request.  They hold nothing that must
 *		be wiped: no secret can be worked out from them.  55000 if it cannot be
 *		signed.
 */
Refusal *
tb_sign(const char *auth, const SecretText *secret, struct HttpRequest *request)
{
	SignatureInput input = {0};
	Signature	signature;
	uint8		random[NONCE_BYTES];
	char		nonce[2 * NONCE_BYTES + 1];
	const char **headers = palloc(sizeof(char *) * (list_length(request->headers) + 1));
	List	   *signed_headers = NIL;
	const char *why;
	ListCell   *cell;

	if (!pg_strong_random(random, sizeof(random)))
		return tb_refusal(ERRCODE_INTERNAL_ERROR, tb_json("auth:s", auth),
						  "The operating system's random number source has failed.",
						  "could not generate random bytes");
	for (int i = 0; i < NONCE_BYTES; i++)
		snprintf(nonce + 2 * i, 3, "%02x", random[i]);
	foreach(cell, request->headers)
		headers[input.header_count++] = lfirst(cell);

	input.method = request->method;
	input.url = request->url;
	input.headers = headers;
	input.body = request->body;
	input.body_length = request->body_length;
	input.secret = secret->data;
	input.secret_length = secret->length;
	input.now = timestamptz_to_time_t(tb_now());
	input.nonce = nonce;
	why = tb_signature_make(auth, &input, &signature);
	pfree(headers);
	if (why != NULL)
		return tb_refusal(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, tb_json("auth:s", auth),
						  "Look at its URL, its headers and its secret.",
						  "the request cannot be signed: %s", why);

	/* what was malloc'd is given back, whatever palloc does */
	PG_TRY();
	{
		for (int i = 0; i < signature.header_count; i++)
			signed_headers = lappend(signed_headers, pstrdup(signature.headers[i]));
	}
	PG_FINALLY();
	{
		tb_signature_free(&signature);
	}
	PG_END_TRY();
	request->headers = list_concat(request->headers, signed_headers);
	return NULL;
}
