/*
 * signature.c
 *	  Signatures of HTTP requests: aliyun, volcengine, hmac_sha256.
 *
 * aliyun is ACS3-HMAC-SHA256, Alibaba Cloud's "signature method V3", which takes
 * the place of the older ones for all APIs of its OpenAPI portal, BssOpenApi
 * 2017-12-14 among them (alibabacloud.com/help/en/sdk/product-overview/
 * v3-request-structure-and-signature).  Action and version are headers there,
 * x-acs-action and x-acs-version, which the request has to bring along.
 *
 * volcengine is HMAC-SHA256 as Volcengine documents it (volcengine.com/docs/6369/
 * 67269): a key derived by day, region and service.  The region of its billing API
 * is cn-beijing in the examples of its documentation; 'volcengine:REGION/SERVICE'
 * names others.
 *
 * Both sign the same canonical form of a request, and take 'AccessKeyId:
 * AccessKeySecret' as secret.
 *
 * hmac_sha256 is for webhooks, in the way of Stripe's: the header
 *
 *	  Tokenbill-Signature: t=<seconds since 1970>,v1=<hexadecimal>
 *
 * has the HMAC-SHA256 of "<t>.<body>" under the secret.
 */
#include "canonical.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

static bool
hmac(const void *key, size_t key_length, const char *data, size_t length,
	 unsigned char *digest)
{
	unsigned int n;

	return HMAC(EVP_sha256(), key, (int) key_length, (const unsigned char *) data,
				length, digest, &n) != NULL;
}

/* AccessKeyId and AccessKeySecret of a secret. */
static bool
split_secret(const SignatureInput *input, Span *id, Span *key)
{
	const char *colon = memchr(input->secret, ':', input->secret_length);

	if (colon == NULL)
		return false;
	id->begin = input->secret;
	id->length = (size_t) (colon - input->secret);
	key->begin = colon + 1;
	key->length = input->secret_length - id->length - 1;
	if (id->length == 0 || key->length == 0)
		return false;
	/* the id goes into a header */
	for (size_t i = 0; i < id->length; i++)
	{
		if (!isgraph((unsigned char) id->begin[i]) || id->begin[i] == ',')
			return false;
	}
	return true;
}

/* Add a header to the signature: its name and a value in two parts. */
static bool
put_header(Signature *signature, const char *name, const char *value)
{
	Buffer		header = {0};

	tb_buffer_print(&header, name);
	tb_buffer_print(&header, ": ");
	tb_buffer_print(&header, value);
	if (header.failed)
	{
		tb_buffer_free(&header);
		return false;
	}
	signature->headers[signature->header_count++] = header.data;
	return true;
}

/*
 * The Authorization header: what comes before the list of signed headers, which
 * the vendors part differently, and the signature.
 */
static bool
put_authorization(Signature *signature, const char *algorithm, Span id,
				  const char *scope, const char *comma, const SignedList *list,
				  const char *digits)
{
	Buffer		value = {0};
	bool		good;

	tb_buffer_print(&value, algorithm);
	tb_buffer_print(&value, " Credential=");
	tb_buffer_add(&value, id.begin, id.length);
	tb_buffer_print(&value, scope);
	tb_buffer_print(&value, comma);
	tb_buffer_print(&value, "SignedHeaders=");
	tb_print_signed(&value, list);
	tb_buffer_print(&value, comma);
	tb_buffer_print(&value, "Signature=");
	tb_buffer_print(&value, digits);
	good = !value.failed && put_header(signature, "Authorization", value.data);
	tb_buffer_free(&value);
	return good;
}

static const char *
sign_aliyun(const SignatureInput *input, const Url *url, Span id, Span key,
			const char *body_digits, const struct tm *utc, SignedList *list,
			Signature *signature)
{
	static const char algorithm[] = "ACS3-HMAC-SHA256";
	char		date[32];
	char		digits[TB_DIGEST_DIGITS];
	char		to_sign[sizeof(algorithm) + 1 + TB_DIGEST_DIGITS];
	unsigned char digest[EVP_MAX_MD_SIZE];
	const char *why;

	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", utc);
	if (!tb_sign_headers_of(list, input, "x-acs-"))
		return "it has too many headers to sign";
	if (!tb_is_signed(list, "x-acs-action") || !tb_is_signed(list, "x-acs-version"))
		return "it has no headers x-acs-action and x-acs-version";
	if (!tb_sign_header(list, "x-acs-content-sha256", body_digits) ||
		!tb_sign_header(list, "x-acs-date", date) ||
		!tb_sign_header(list, "x-acs-signature-nonce", input->nonce))
		return "it has too many headers to sign";
	why = tb_canonical_hash(input, url, list, body_digits, digits);
	if (why != NULL)
		return why;

	snprintf(to_sign, sizeof(to_sign), "%s\n%s", algorithm, digits);
	if (!hmac(key.begin, key.length, to_sign, strlen(to_sign), digest))
		return TB_NO_MEMORY;
	tb_print_digest(digest, digits);
	if (!put_header(signature, "x-acs-content-sha256", body_digits) ||
		!put_header(signature, "x-acs-date", date) ||
		!put_header(signature, "x-acs-signature-nonce", input->nonce) ||
		!put_authorization(signature, algorithm, id, "", ",", list, digits))
		return TB_NO_MEMORY;
	return NULL;
}

/* The key of a day, a region and a service, from the secret one. */
static bool
derive_key(Span secret, const char *day, const char *region, const char *service,
		   unsigned char *key)
{
	return hmac(secret.begin, secret.length, day, strlen(day), key) &&
		hmac(key, TB_DIGEST_BYTES, region, strlen(region), key) &&
		hmac(key, TB_DIGEST_BYTES, service, strlen(service), key) &&
		hmac(key, TB_DIGEST_BYTES, "request", strlen("request"), key);
}

static const char *
sign_volcengine(const SignatureInput *input, const Url *url, Span id, Span secret,
				const char *place, const char *body_digits, const struct tm *utc,
				SignedList *list, Signature *signature)
{
	static const char algorithm[] = "HMAC-SHA256";
	char		region[64] = "cn-beijing";
	char		service[64] = "billing";
	char		date[32];
	char		day[16];
	char		scope[160];
	char		digits[TB_DIGEST_DIGITS];
	char		to_sign[320];
	unsigned char key[EVP_MAX_MD_SIZE];
	unsigned char digest[EVP_MAX_MD_SIZE];
	const char *why;
	bool		good;
	int			end = 0;

	if (*place != '\0' &&
		(sscanf(place, ":%63[a-z0-9-]/%63[a-z0-9_-]%n", region, service, &end) != 2 ||
		 place[end] != '\0'))
		return "its signature is none of those there are";
	strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", utc);
	strftime(day, sizeof(day), "%Y%m%d", utc);
	if (!tb_sign_header(list, "x-content-sha256", body_digits) ||
		!tb_sign_header(list, "x-date", date) ||
		!tb_sign_headers_of(list, input, "x-content-sha256") ||
		!tb_sign_headers_of(list, input, "x-date"))
		return "it has too many headers to sign";
	why = tb_canonical_hash(input, url, list, body_digits, digits);
	if (why != NULL)
		return why;

	snprintf(scope, sizeof(scope), "/%s/%s/%s/request", day, region, service);
	snprintf(to_sign, sizeof(to_sign), "%s\n%s\n%s\n%s", algorithm, date, scope + 1,
			 digits);
	good = derive_key(secret, day, region, service, key) &&
		hmac(key, TB_DIGEST_BYTES, to_sign, strlen(to_sign), digest);
	OPENSSL_cleanse(key, sizeof(key));
	if (!good)
		return TB_NO_MEMORY;
	tb_print_digest(digest, digits);
	if (!put_header(signature, "X-Date", date) ||
		!put_header(signature, "X-Content-Sha256", body_digits) ||
		!put_authorization(signature, algorithm, id, scope, ", ", list, digits))
		return TB_NO_MEMORY;
	return NULL;
}

/* What both vendors' signatures have in common. */
static const char *
sign_for_vendor(const char *auth, const SignatureInput *input, Signature *signature)
{
	SignedList	list = {.count = 0};
	char		body_digits[TB_DIGEST_DIGITS];
	Buffer		host = {0};
	struct tm	utc;
	time_t		now = (time_t) input->now;
	Url			url;
	Span		id;
	Span		key;
	const char *why = NULL;

	if (!split_secret(input, &id, &key))
		return "its secret is not of the form AccessKeyId:AccessKeySecret";
	if (!tb_split_url(input->url, &url))
		return "its URL cannot be signed";
	if (gmtime_r(&now, &utc) == NULL ||
		!tb_sha256(input->body ? input->body : "", input->body_length, body_digits))
		return TB_NO_MEMORY;
	tb_buffer_add(&host, url.host.begin, url.host.length);
	if (host.failed || !tb_sign_header(&list, "host", host.data) ||
		!tb_sign_headers_of(&list, input, "content-type"))
		why = "it has too many headers to sign";
	else if (strcmp(auth, "aliyun") == 0)
		why = sign_aliyun(input, &url, id, key, body_digits, &utc, &list, signature);
	else
		why = sign_volcengine(input, &url, id, key, auth + strlen("volcengine"),
							  body_digits, &utc, &list, signature);
	tb_buffer_free(&host);
	tb_signed_free(&list);
	return why;
}

static const char *
sign_webhook(const SignatureInput *input, Signature *signature)
{
	Buffer		to_sign = {0};
	unsigned char digest[EVP_MAX_MD_SIZE];
	char		digits[TB_DIGEST_DIGITS];
	char		value[128];
	bool		good;

	snprintf(value, sizeof(value), "%lld.", (long long) input->now);
	tb_buffer_print(&to_sign, value);
	if (input->body != NULL)
		tb_buffer_add(&to_sign, input->body, input->body_length);
	good = !to_sign.failed &&
		hmac(input->secret, input->secret_length, to_sign.data, to_sign.length, digest);
	tb_buffer_free(&to_sign);
	if (!good)
		return TB_NO_MEMORY;
	tb_print_digest(digest, digits);
	snprintf(value, sizeof(value), "t=%lld,v1=%s", (long long) input->now, digits);
	return put_header(signature, "Tokenbill-Signature", value) ? NULL : TB_NO_MEMORY;
}

/*
 * tb_signature_make
 *		Make the headers that sign a request.  NULL, or why it cannot be signed, to
 *		be put behind "the request cannot be signed: "; then there is nothing in
 *		the signature.
 */
const char *
tb_signature_make(const char *auth, const SignatureInput *input, Signature *signature)
{
	const char *why;

	memset(signature, 0, sizeof(*signature));
	if (strcmp(auth, "hmac_sha256") == 0)
		why = sign_webhook(input, signature);
	else if (strcmp(auth, "aliyun") == 0 || strcmp(auth, "volcengine") == 0 ||
			 strncmp(auth, "volcengine:", strlen("volcengine:")) == 0)
		why = sign_for_vendor(auth, input, signature);
	else
		why = "its signature is none of those there are";
	if (why != NULL)
		tb_signature_free(signature);
	return why;
}

/*
 * tb_signature_free
 *		Give its memory back.
 */
void
tb_signature_free(Signature *signature)
{
	for (int i = 0; i < signature->header_count; i++)
		free(signature->headers[i]);
	memset(signature, 0, sizeof(*signature));
}
