/*
 * jwt.c
 *	  JSON Web Tokens (RFC 7519), signed for providers and authorization servers.
 *
 * libjwt makes them.  What it leaves to its caller is which key may be used with
 * which algorithm (RFC 8725, 3.1 and 3.2): it would take the text of a public key
 * for the secret of an HMAC, sign ES256 with any curve, and ask the terminal for
 * the passphrase of an encrypted key.  So the key is looked at here first.
 *
 * Part of the library tokenbill_token.
 */
#include "token_engine.h"

#include <stdlib.h>
#include <string.h>

#include <jwt.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

/* RFC 7518, 3.3 */
#define MIN_RSA_BITS 2048

/* ES256 is this curve and no other; RFC 7518, 3.4 */
#define ES256_CURVE "prime256v1"

#define NO_MEMORY "there is no memory for it"

/* An encrypted key cannot be read: nobody is there to type the passphrase in. */
static int
no_passphrase(char *buffer, int size, int writing, void *unused)
{
	return -1;
}

/* Why a private key in PEM is not one for this algorithm; NULL: it is. */
static const char *
unfit_private_key(jwt_alg_t alg, EVP_PKEY *key)
{
	char		curve[64];
	size_t		length;

	if (alg == JWT_ALG_RS256)
	{
		if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA)
			return "its key is not an RSA key, as RS256 needs";
		if (EVP_PKEY_get_bits(key) < MIN_RSA_BITS)
			return "its RSA key has fewer than 2048 bits";
		return NULL;
	}
	if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC)
		return "its key is not an EC key, as ES256 needs";
	if (EVP_PKEY_get_group_name(key, curve, sizeof(curve), &length) != 1 ||
		strcmp(curve, ES256_CURVE) != 0)
		return "its EC key is not one of the curve P-256, as ES256 needs";
	return NULL;
}

/* Why a key is not one for this algorithm; NULL: it is. */
static const char *
unfit_key(jwt_alg_t alg, const char *key, size_t length)
{
	BIO		   *bio;
	EVP_PKEY   *private_key = NULL;
	const char *why;

	if (alg == JWT_ALG_HS256)
	{
		/* also a public one, which everybody knows */
		if (memmem(key, length, "-----BEGIN ", strlen("-----BEGIN ")) != NULL)
			return "its key is a key or certificate in PEM, which HS256 must not be used with";
		return NULL;
	}
	bio = BIO_new_mem_buf(key, (int) length);
	if (bio == NULL)
		return NO_MEMORY;
	private_key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	if (private_key == NULL)
		why = "its key is no unencrypted private key in PEM";
	else
		why = unfit_private_key(alg, private_key);
	EVP_PKEY_free(private_key);
	ERR_clear_error();
	return why;
}

/* Fill a token and sign it; *token becomes malloc'd memory. */
static const char *
sign(jwt_t *jwt, jwt_alg_t alg, const JwtInput *input, char **token)
{
	if (jwt_add_headers_json(jwt, input->header) != 0)
		return "its header is no JSON object";
	if (jwt_add_grants_json(jwt, input->claims) != 0)
		return "its claims are no JSON object";
	if (jwt_set_alg(jwt, alg, (const unsigned char *) input->key,
					(int) input->key_length) != 0)
		return NO_MEMORY;
	*token = jwt_encode_str(jwt);
	ERR_clear_error();
	return *token == NULL ? "libjwt cannot sign it" : NULL;
}

/*
 * tb_jwt_sign
 *		Sign a token.  Returns NULL, or why it cannot be signed, to be put behind
 *		"the token cannot be signed: ".  The token is in memory of tb_token_memory.
 */
const char *
tb_jwt_sign(const JwtInput *input, char **token)
{
	jwt_t	   *jwt;
	jwt_alg_t	alg;
	char	   *made = NULL;
	size_t		length;
	const char *why;

	*token = NULL;
	/* by name: jwt_str_alg() takes none, and any spelling of it */
	if (strcmp(input->alg, "HS256") == 0)
		alg = JWT_ALG_HS256;
	else if (strcmp(input->alg, "RS256") == 0)
		alg = JWT_ALG_RS256;
	else if (strcmp(input->alg, "ES256") == 0)
		alg = JWT_ALG_ES256;
	else
		return "its algorithm is none of HS256, RS256 and ES256";
	why = unfit_key(alg, input->key, input->key_length);
	if (why != NULL)
		return why;
	if (jwt_new(&jwt) != 0)
		return NO_MEMORY;
	why = sign(jwt, alg, input, &made);
	/* overwrites its copy of the key */
	jwt_free(jwt);
	if (made == NULL)
		return why;
	length = strlen(made);
	*token = tb_token_memory.allocate(length + 1);
	if (*token != NULL)
		memcpy(*token, made, length + 1);
	explicit_bzero(made, length);
	free(made);
	return *token == NULL ? NO_MEMORY : NULL;
}
