/*
 * token_engine.h
 *	  What the libraries tokenbill_http and tokenbill_token hand each other.
 *
 * libjwt and jansson are in a library of their own, because jansson has a function
 * json_object(), and so has the server, for SQL: the dynamic linker would take the
 * server's for both, in libjwt as well.  tokenbill_token is loaded so that it, and
 * what it needs, see their own symbols first (RTLD_DEEPBIND), and by whoever first
 * has a token to make or to read.
 *
 * It knows nothing of PostgreSQL, and nothing in it throws.
 */
#ifndef TOKENBILL_TOKEN_ENGINE_H
#define TOKENBILL_TOKEN_ENGINE_H

#include <stdbool.h>
#include <stddef.h>

#define TB_TOKEN_LIBRARY "tokenbill_token"
#define TB_TOKEN_FUNCTION "tokenbill_token_engine"
#define TB_TOKEN_INTERFACE 1

/*
 * What an authorization server has answered, taken apart.  The texts are in memory
 * that is wiped when it is freed.
 */
typedef struct TokenAnswer
{
	char	   *document;		/* a JSON object in ASCII: what is no secret,
								 * or _problem: why there is nothing */
	char	   *access_token;	/* NULL, as the others: there is none */
	char	   *refresh_token;
	char	   *device_code;
} TokenAnswer;

/* A JSON Web Token to be signed. */
typedef struct JwtInput
{
	const char *alg;			/* HS256, RS256 or ES256 */
	const char *header;			/* JSON objects, in UTF-8 */
	const char *claims;
	const char *key;			/* for HS256 any text, else a key in PEM */
	size_t		key_length;
} JwtInput;

/* Memory that is wiped when it is freed, for what tokenbill_token makes. */
typedef struct TokenMemory
{
	void	   *(*allocate) (size_t size);
	void		(*release) (void *memory);
} TokenMemory;

/* What it does.  The first two are at the same place in every version. */
typedef struct TokenEngine
{
	int			interface_number;	/* TB_TOKEN_INTERFACE */
	const char *version;		/* of the extension */
	bool		(*take_apart) (const char *body, size_t length, TokenAnswer *result);
	const char *(*sign) (const JwtInput *input, char **token);
} TokenEngine;

typedef const TokenEngine *(*TokenEngineFunction) (const TokenMemory *memory);

/* within tokenbill_token */

/* token_read.c */
extern TokenMemory tb_token_memory;
extern bool tb_token_take_apart(const char *body, size_t length, TokenAnswer *result);

/* jwt.c */
extern const char *tb_jwt_sign(const JwtInput *input, char **token);

#endif							/* TOKENBILL_TOKEN_ENGINE_H */
