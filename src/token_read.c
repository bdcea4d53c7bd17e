/*
 * token_read.c
 *	  Answers of authorization servers: what is secret in them, and what is not.
 *
 * They are taken apart with jansson in memory that is wiped, before any of it gets
 * into a statement.  What is not secret is named here; everything else, such as an
 * id_token, is left where it is and so forgotten.
 *
 * Part of the library tokenbill_token.
 */
#include "token_engine.h"

#include <jansson.h>
#include <string.h>

const TokenEngine *tokenbill_token_engine(const TokenMemory *memory);

TokenMemory tb_token_memory;

/* As long as a secret may be: secret.c */
#define MAX_TOKEN 8192

/* Of a member that is no secret */
#define MAX_MEMBER 4096

#define PROBLEM "_problem"

/* RFC 6749, 5.1 and 5.2; RFC 8628, 3.2; and what vendors have in their place */
static const char *const known_members[] = {
	"token_type", "expires_in", "scope", "error", "error_description",
	"user_code", "verification_uri", "verification_url", "verification_uri_complete", "interval",
	"refresh_token_expires_in", "refresh_expires_in"
};

/*
 * Copy a member that is secret.  One that cannot be sent back as it is, in a
 * header or a form, or not be stored, is a problem and no token.
 */
static char *
take_secret(const json_t *answer, json_t *document, const char *name)
{
	const json_t *member = json_object_get(answer, name);
	const char *value;
	char	   *copy;
	size_t		length;

	if (member == NULL || json_is_null(member))
		return NULL;
	value = json_string_value(member);
	length = json_string_length(member);
	for (size_t i = 0; value != NULL && i < length; i++)
	{
		/* RFC 6749, appendix A: VSCHAR and blanks */
		if (value[i] < ' ' || value[i] > '~')
			value = NULL;
	}
	if (value == NULL || length == 0 || length > MAX_TOKEN)
	{
		json_object_set_new(document, PROBLEM,
							json_pack("s++", "the ", name, " of the answer cannot be used"));
		return NULL;
	}
	copy = tb_token_memory.allocate(length + 1);
	if (copy != NULL)
		memcpy(copy, value, length + 1);
	return copy;
}

/* What is no secret, and the secrets, of an answer that is a JSON object or not. */
static void
take_apart(const json_t *answer, json_t *document, TokenAnswer *result)
{
	if (!json_is_object(answer))
	{
		json_object_set_new(document, PROBLEM, json_string("the answer is not a JSON object"));
		return;
	}
	for (size_t i = 0; i < sizeof(known_members) / sizeof(known_members[0]); i++)
	{
		json_t	   *member = json_object_get(answer, known_members[i]);

		if (json_is_number(member) ||
			(json_is_string(member) && json_string_length(member) <= MAX_MEMBER))
			json_object_set(document, known_members[i], member);
	}
	result->access_token = take_secret(answer, document, "access_token");
	result->refresh_token = take_secret(answer, document, "refresh_token");
	result->device_code = take_secret(answer, document, "device_code");
}

/*
 * tb_token_take_apart
 *		Take an answer apart.  False if there is no memory.  The four texts are in
 *		memory of tb_token_memory.
 */
bool
tb_token_take_apart(const char *body, size_t length, TokenAnswer *result)
{
	json_malloc_t old_malloc;
	json_free_t old_free;
	json_t	   *answer;
	json_t	   *document;

	memset(result, 0, sizeof(*result));

	/*
	 * only for as long as we are here: libjwt frees what jansson makes for it
	 * by itself
	 */
	json_get_alloc_funcs(&old_malloc, &old_free);
	json_set_alloc_funcs(tb_token_memory.allocate, tb_token_memory.release);
	/* a byte order mark is none of RFC 8259, but some servers send one */
	if (length >= 3 && memcmp(body, "\xef\xbb\xbf", 3) == 0)
	{
		body += 3;
		length -= 3;
	}
	document = json_pack("{}");
	answer = length > 0 ? json_loadb(body, length, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (answer == NULL)
		json_object_set_new(document, PROBLEM,
							json_string(length > 0 ? "the answer is not JSON" : "the answer is empty"));
	else
		take_apart(answer, document, result);
	result->document = json_dumps(document, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_SORT_KEYS);
	json_decref(answer);
	json_decref(document);
	json_set_alloc_funcs(old_malloc, old_free);
	return result->document != NULL;
}

/*
 * tokenbill_token_engine
 *		What tokenbill_http looks for when it has loaded this library.
 */
const TokenEngine *
tokenbill_token_engine(const TokenMemory *memory)
{
	static const TokenEngine engine = {
		.interface_number = TB_TOKEN_INTERFACE,
		.version = TOKENBILL_VERSION,
		.take_apart = tb_token_take_apart,
		.sign = tb_jwt_sign,
	};

	tb_token_memory = *memory;
	return &engine;
}
