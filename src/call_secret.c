/*
 * call_secret.c
 *	  The secrets of a call of the worker, and their way into it.
 *
 * A call names secrets and has places for them, {secret} and others, in its
 * address, its headers and its form.  Some places are not for the secret itself
 * but for what is made of it: the credentials of HTTP Basic, or a JSON Web Token
 * that is signed with it.
 *
 * What is in plain text is in locked memory until it is wiped, and in the copies
 * that tb_call_fill() makes, which the caller wipes.
 */
#include "call_secret.h"

#include <openssl/evp.h>

#include "http_engine.h"
#include "locked.h"
#include "mb/pg_wchar.h"

/* A member of an object that is a text, or NULL. */
static char *
text_member(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, name, strlen(name), &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* A member of an object that is an object itself, or NULL. */
static JsonbContainer *
object_member(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, name, strlen(name), &value) == NULL ||
		value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
		return NULL;
	return value.val.binary.data;
}

/* The text of an object in UTF-8, as libjwt wants it. */
static char *
json_text(JsonbContainer *object)
{
	char	   *json = object == NULL ? "{}" : JsonbToCString(NULL, object, 0);

	return pg_server_to_any(json, strlen(json), PG_UTF8);
}

static CallSecret *
read_one(char *name, JsonbContainer *object)
{
	CallSecret *one = palloc0(sizeof(CallSecret));
	JsonbContainer *jwt = object_member(object, "jwt");

	one->name = name;
	one->stored = text_member(object, "secret");
	one->user = text_member(object, "user");
	if (jwt != NULL)
	{
		one->alg = text_member(jwt, "alg");
		one->header = json_text(object_member(jwt, "header"));
		one->claims = json_text(object_member(jwt, "claims"));
	}
	return one;
}

/*
 * tb_call_secrets
 *		What a call needs: the secret of that name, for {secret}, and the others,
 *		which are members of a JSON object as tokenbill.http_call describes them;
 *		NULL: none.  In the current memory context.
 */
List *
tb_call_secrets(char *secret, Jsonb *others)
{
	List	   *list = NIL;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;

	if (secret != NULL)
	{
		CallSecret *one = palloc0(sizeof(CallSecret));

		one->name = "secret";
		one->stored = secret;
		list = lappend(list, one);
	}
	if (others == NULL || !JB_ROOT_IS_OBJECT(others))
		return list;
	iterator = JsonbIteratorInit(&others->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE && value.type == jbvBinary &&
				 JsonContainerIsObject(value.val.binary.data))
			list = lappend(list, read_one(name, value.val.binary.data));
	}
	return list;
}

/*
 * tb_call_secrets_load
 *		Read them, as they are stored, into the current memory context; PT404 if one
 *		is not there, and its name in *which.  Needs SPI.
 */
Refusal *
tb_call_secrets_load(List *secrets, const char **which)
{
	ListCell   *cell;

	foreach(cell, secrets)
	{
		CallSecret *one = lfirst(cell);
		Refusal    *refusal = tb_secret_load(one->stored ? one->stored : "", &one->sealed);

		if (refusal != NULL)
		{
			*which = one->stored;
			return refusal;
		}
	}
	return NULL;
}

static bool
is_unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
}

/* Put a byte of a secret behind "at"; percent-encoded (RFC 3986, 2.1) if asked for. */
static char *
put_byte(char *at, char c, bool encoded)
{
	static const char digits[] = "0123456789ABCDEF";

	if (!encoded || is_unreserved(c))
		*at++ = c;
	else
	{
		*at++ = '%';
		*at++ = digits[(unsigned char) c >> 4];
		*at++ = digits[(unsigned char) c & 15];
	}
	return at;
}

/* Take this text, in locked memory, in place of the one there was. */
static void
replace_text(SecretText *secret, char *data, size_t length)
{
	tb_locked_free(secret->data);
	secret->data = data;
	secret->length = length;
}

/* RFC 7617, with both parts encoded first, as RFC 6749, 2.3.1, wants it. */
static void
make_basic(CallSecret *one)
{
	size_t		user_length = strlen(one->user);
	char	   *pair = tb_locked_alloc(user_length + 1 + 3 * one->plain.length);
	char	   *at = pair + user_length;
	char	   *coded;
	int			length;

	memcpy(pair, one->user, user_length);
	*at++ = ':';
	for (size_t i = 0; i < one->plain.length; i++)
		at = put_byte(at, one->plain.data[i], true);
	coded = tb_locked_alloc(((at - pair) + 2) / 3 * 4 + 1);
	length = EVP_EncodeBlock((unsigned char *) coded, (unsigned char *) pair,
							 (int) (at - pair));
	tb_locked_free(pair);
	replace_text(&one->plain, coded, length);
}

/* A token that is signed with it. */
static Refusal *
make_jwt(CallSecret *one)
{
	JwtInput	input = {0};
	char	   *token;
	char	   *copy;
	size_t		length;
	const char *why;

	input.alg = one->alg;
	input.header = one->header;
	input.claims = one->claims;
	input.key = one->plain.data;
	input.key_length = one->plain.length;
	why = tb_engine_sign(&input, &token);
	if (why != NULL)
		return tb_refusal(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
						  tb_json("secret:s alg:s", one->stored, one->alg),
						  "Look at alg and signing_key_name in tokenbill.oauth_clients.",
						  "the token cannot be signed: %s", why);
	length = strlen(token);
	copy = tb_locked_alloc(length + 1);
	memcpy(copy, token, length);
	tb_engine_forget_text(token);
	replace_text(&one->plain, copy, length);
	return NULL;
}

/*
 * tb_call_secrets_open
 *		Decrypt them, and make of them what is needed.  Also after an error, which is
 *		returned, with the name of the secret it is about in *which,
 *		tb_call_secrets_wipe() is to be called.
 */
Refusal *
tb_call_secrets_open(List *secrets, const MasterKey *key, const char **which)
{
	Refusal    *refusal = NULL;
	ListCell   *cell;

	foreach(cell, secrets)
	{
		CallSecret *one = lfirst(cell);

		refusal = tb_secret_open(one->sealed, key, &one->plain);
		if (refusal == NULL && one->user != NULL)
			make_basic(one);
		if (refusal == NULL && one->alg != NULL)
			refusal = make_jwt(one);
		if (refusal != NULL)
		{
			*which = one->stored;
			break;
		}
	}
	return refusal;
}

/*
 * tb_call_secrets_wipe
 *		Forget them.
 */
void
tb_call_secrets_wipe(List *secrets)
{
	ListCell   *cell;

	foreach(cell, secrets)
	{
		CallSecret *one = lfirst(cell);

		if (one->plain.data != NULL)
			tb_secret_wipe(&one->plain);
	}
}

/*
 * tb_call_secret
 *		What stands for {name} now; NULL if there is nothing.
 */
const SecretText *
tb_call_secret(const List *secrets, const char *name)
{
	ListCell   *cell;

	foreach(cell, secrets)
	{
		CallSecret *one = lfirst(cell);

		if (strcmp(one->name, name) == 0)
			return one->plain.data == NULL ? NULL : &one->plain;
	}
	return NULL;
}

/* Which of the secrets the text begins with the place of; NULL: with none. */
static const CallSecret *
place_at(const char *at, const List *secrets)
{
	ListCell   *cell;

	if (*at != '{')
		return NULL;
	foreach(cell, secrets)
	{
		const CallSecret *one = lfirst(cell);
		size_t		length = strlen(one->name);

		if (strncmp(at + 1, one->name, length) == 0 && at[1 + length] == '}' &&
			one->plain.data != NULL)
			return one;
	}
	return NULL;
}

/*
 * tb_call_fill
 *		A copy of a text with the secrets in their places, percent-encoded if it is
 *		an address or a form.  It is made in one piece, so that no half of it is left
 *		behind anywhere; the caller wipes it.
 */
char *
tb_call_fill(const char *source, const List *secrets, bool encoded)
{
	size_t		room = strlen(source) + 1;
	const CallSecret *one;
	char	   *copy;
	char	   *at;

	for (const char *c = source; *c != '\0'; c++)
	{
		if ((one = place_at(c, secrets)) != NULL)
			room += one->plain.length * (encoded ? 3 : 1);
	}
	copy = at = palloc(room);
	while (*source != '\0')
	{
		if ((one = place_at(source, secrets)) == NULL)
		{
			*at++ = *source++;
			continue;
		}
		for (size_t i = 0; i < one->plain.length; i++)
			at = put_byte(at, one->plain.data[i], encoded);
		source += strlen(one->name) + 2;
	}
	*at = '\0';
	return copy;
}
