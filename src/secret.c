/*
 * secret.c
 *	  Secrets, encrypted in a table.
 *
 * Envelope encryption, layout 1: a value is encrypted with a random key of its
 * own, and that key with the master key, both with AES-256-GCM (NIST SP 800-38D),
 * nonces of 96 random bits and tags of 128 bits behind the ciphertext.  What is
 * authenticated beside the ciphertext is which of the two it is, the layout, the
 * master key's id and the secret's name; so a row's ciphertext is good for the
 * name it was made for and for no other.
 *
 * Plain text comes out of tb_secret_open() only, which the worker calls; there is
 * no SQL function that returns it.
 */
#include "secret.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "card.h"
#include "check.h"
#include "clock.h"
#include "key.h"
#include "locked.h"
#include "query.h"
#include "redact.h"
#include "tenant.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(tokenbill_set_secret);

#define LAYOUT 1
#define NONCE_BYTES 12
#define TAG_BYTES 16
#define MAX_VALUE 8192

/* "key" or "value", the layout, the key's id, the name, parted by blanks. */
#define MAX_BOUND (TB_MAX_NAME + TB_KEY_ID_DIGITS + 32)

struct SealedSecret
{
	char		name[TB_MAX_NAME + 1];
	int			layout;
	char	   *key_id;
	bytea	   *key_nonce;
	bytea	   *wrapped_key;
	bytea	   *value_nonce;
	bytea	   *ciphertext;
};

/* What a ciphertext is bound to; returns its length. */
static int
bind_to(char *bound, const char *what, const char *key_id, const char *name)
{
	return snprintf(bound, MAX_BOUND, "tokenbill %s %d %s %s", what, LAYOUT,
					key_id, name);
}

/*
 * Encrypt length bytes, into a bytea with the tag at its end.  False if OpenSSL
 * cannot.
 */
static bool
encrypt(const uint8 *key, const char *bound, int bound_length,
		const uint8 *plain, int length, bytea **nonce, bytea **sealed)
{
	EVP_CIPHER_CTX *context = NULL;
	uint8	   *out;
	int			n;
	bool		good;

	*nonce = palloc(VARHDRSZ + NONCE_BYTES);
	*sealed = palloc(VARHDRSZ + length + TAG_BYTES);
	SET_VARSIZE(*nonce, VARHDRSZ + NONCE_BYTES);
	SET_VARSIZE(*sealed, VARHDRSZ + length + TAG_BYTES);
	out = (uint8 *) VARDATA(*sealed);
	good = pg_strong_random(VARDATA(*nonce), NONCE_BYTES) &&
		(context = EVP_CIPHER_CTX_new()) != NULL &&
		EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key,
						   (uint8 *) VARDATA(*nonce)) == 1 &&
		EVP_EncryptUpdate(context, NULL, &n, (const uint8 *) bound, bound_length) == 1 &&
		EVP_EncryptUpdate(context, out, &n, plain, length) == 1 && n == length &&
		EVP_EncryptFinal_ex(context, out + n, &n) == 1 && n == 0 &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, out + length) == 1;
	EVP_CIPHER_CTX_free(context);
	return good;
}

/*
 * Decrypt what encrypt() made into plain, which has room for it.  False, and
 * nothing in plain, if it is not what was encrypted with this key for this use.
 */
static bool
decrypt(const uint8 *key, const char *bound, int bound_length,
		const bytea *nonce, const bytea *sealed, uint8 *plain)
{
	int			length = (int) VARSIZE(sealed) - VARHDRSZ - TAG_BYTES;
	const uint8 *in = (const uint8 *) VARDATA(sealed);
	uint8		tag[TAG_BYTES];
	EVP_CIPHER_CTX *context;
	int			n;
	bool		good;

	memcpy(tag, in + length, TAG_BYTES);
	context = EVP_CIPHER_CTX_new();
	good = context != NULL &&
		EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key,
						   (const uint8 *) VARDATA(nonce)) == 1 &&
		EVP_DecryptUpdate(context, NULL, &n, (const uint8 *) bound, bound_length) == 1 &&
		EVP_DecryptUpdate(context, plain, &n, in, length) == 1 && n == length &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1 &&
		EVP_DecryptFinal_ex(context, plain + n, &n) == 1;
	EVP_CIPHER_CTX_free(context);
	if (!good)
		OPENSSL_cleanse(plain, length);
	return good;
}

/*
 * A value: not null (22004), 1 byte to 8 KB, printable but for line ends, which
 * keys in PEM have, and no card number (22023).
 */
static Refusal *
check_value(const text *value)
{
	const char *s;
	int			len;

	if (value == NULL)
		return tb_null_argument("value");
	s = VARDATA_ANY(value);
	len = VARSIZE_ANY_EXHDR(value);
	if (len == 0)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "value"),
						  "tokenbill.drop_secret() takes a secret away.",
						  "value must not be empty");
	if (len > MAX_VALUE)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s bytes:i max_bytes:i", "value",
								  (int64) len, (int64) MAX_VALUE),
						  "Keep larger things in a file.",
						  "value is too long: %d bytes, at most %d are allowed",
						  len, MAX_VALUE);
	for (int i = 0; i < len; i++)
	{
		if (s[i] != '\n' && ((unsigned char) s[i] < 0x20 || s[i] == 0x7f))
			return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							  tb_json("argument:s position:i", "value", (int64) i + 1),
							  "Use printable characters and line feeds only.",
							  "value contains a control character");
	}
	if (tb_has_card_number(s, len))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "value"),
						  "Card numbers must not be stored here; pass the token that the payment gateway gave for the card.",
						  "value looks like a payment card number");
	return NULL;
}

/*
 * Encrypt a value under its name.  What is in plain text is wiped on every way
 * out, errors included.
 */
static Refusal *
seal(const char *name, const uint8 *value, int length, SealedSecret *sealed)
{
	MasterKey  *master;
	Refusal    *refusal = tb_key_read(&master);
	uint8	   *key;
	char		bound[MAX_BOUND];
	bool		good;

	if (refusal != NULL)
		return refusal;
	key = tb_locked_alloc(TB_KEY_BYTES);
	good = pg_strong_random(key, TB_KEY_BYTES) &&
		encrypt(key, bound, bind_to(bound, "value", master->id, name),
				value, length, &sealed->value_nonce, &sealed->ciphertext) &&
		encrypt(master->bytes, bound, bind_to(bound, "key", master->id, name),
				key, TB_KEY_BYTES, &sealed->key_nonce, &sealed->wrapped_key);
	sealed->key_id = pstrdup(master->id);
	tb_locked_free(key);
	tb_key_wipe(master);
	if (!good)
		return tb_refusal(ERRCODE_INTERNAL_ERROR, tb_json("reason:s", "openssl"),
						  "OpenSSL must offer AES-256-GCM, and the operating system random numbers.",
						  "could not encrypt a secret");
	return NULL;
}

/*
 * set_secret(name text, value text) -> void
 *		Store a value encrypted, or another one under the same name.  Errors: 55000
 *		no key to encrypt with, or it is not to be had; 42501 a tenant asks; 22004,
 *		22023.
 */
Datum
tokenbill_set_secret(PG_FUNCTION_ARGS)
{
	static Statement query = {
		.sql = "INSERT INTO tokenbill.secret AS s (name, layout, key_id, key_nonce, wrapped_key,"
		" value_nonce, ciphertext, created_at, updated_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)"
		" ON CONFLICT (name) DO UPDATE SET layout = EXCLUDED.layout, key_id = EXCLUDED.key_id,"
		" key_nonce = EXCLUDED.key_nonce, wrapped_key = EXCLUDED.wrapped_key,"
		" value_nonce = EXCLUDED.value_nonce, ciphertext = EXCLUDED.ciphertext,"
		" updated_at = EXCLUDED.updated_at",
		.nargs = 8,
		.types = {TEXTOID, INT4OID, TEXTOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID, TIMESTAMPTZOID}
	};
	text	   *name;
	text	   *value;
	Session		session;
	SealedSecret sealed = {0};
	Refusal    *refusal;
	Datum		values[8];

	/* before anything else, and so before any error */
	tb_hide_statement();
	name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	value = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	tb_raise(tb_check_text("name", name, TB_MAX_NAME));
	tb_raise(check_value(value));

	tb_enter(fcinfo, &session);
	if (!tb_visible_to(cstring_to_text(""), session.userid))
		tb_raise(tb_refusal(ERRCODE_INSUFFICIENT_PRIVILEGE,
							tb_json("argument:s", "name"),
							"Use a login that is not mapped to an account.",
							"a tenant has nothing to do with secrets"));
	refusal = seal(text_to_cstring(name), (const uint8 *) VARDATA_ANY(value),
				   VARSIZE_ANY_EXHDR(value), &sealed);
	/* a copy made here, as of a compressed one */
	if ((Pointer) value != PG_GETARG_POINTER(1))
		OPENSSL_cleanse(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	tb_raise(refusal);

	values[0] = PointerGetDatum(name);
	values[1] = Int32GetDatum(LAYOUT);
	values[2] = CStringGetTextDatum(sealed.key_id);
	values[3] = PointerGetDatum(sealed.key_nonce);
	values[4] = PointerGetDatum(sealed.wrapped_key);
	values[5] = PointerGetDatum(sealed.value_nonce);
	values[6] = PointerGetDatum(sealed.ciphertext);
	values[7] = TimestampTzGetDatum(tb_now());
	tb_run(&query, values, NULL);
	tb_leave(&session);
	PG_RETURN_VOID();
}

/*
 * tb_secret_load
 *		The row of that name, as it is, in the current memory context; PT404 if
 *		there is none.  Needs SPI.
 */
Refusal *
tb_secret_load(const char *name, SealedSecret **sealed)
{
	static Statement query = {
		.sql = "SELECT s.layout, s.key_id, s.key_nonce, s.wrapped_key, s.value_nonce, s.ciphertext"
		" FROM tokenbill.secret s WHERE s.name OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		values[6];
	bool		nulls[6];
	SealedSecret *row;

	values[0] = CStringGetTextDatum(name);
	tb_run(&query, values, NULL);
	if (!tb_row(values, nulls))
		return tb_refusal(TB_NOT_FOUND, tb_json("secret:s", name),
						  "Store it with tokenbill.set_secret().",
						  "secret \"%s\" does not exist", name);
	row = palloc(sizeof(SealedSecret));
	strlcpy(row->name, name, sizeof(row->name));
	row->layout = DatumGetInt32(values[0]);
	row->key_id = TextDatumGetCString(values[1]);
	row->key_nonce = DatumGetByteaPCopy(values[2]);
	row->wrapped_key = DatumGetByteaPCopy(values[3]);
	row->value_nonce = DatumGetByteaPCopy(values[4]);
	row->ciphertext = DatumGetByteaPCopy(values[5]);
	*sealed = row;
	return NULL;
}

static int
payload(const bytea *value)
{
	return (int) VARSIZE(value) - VARHDRSZ;
}

/*
 * tb_secret_open
 *		Decrypt it.  55000 if it wants another key, XX001 if it has been changed or
 *		is another secret's.
 */
Refusal *
tb_secret_open(const SealedSecret *sealed, const MasterKey *key, SecretText *secret)
{
	const char *name = sealed->name;
	int			length = payload(sealed->ciphertext) - TAG_BYTES;
	uint8	   *data_key;
	char	   *plain;
	char		bound[MAX_BOUND];
	bool		good;

	if (sealed->layout != LAYOUT)
		return tb_refusal(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
						  tb_json("secret:s layout:i", name, (int64) sealed->layout),
						  "A newer version of tokenbill has stored it: install that one.",
						  "secret \"%s\" has an unknown layout", name);
	/* in quotes, the id of a key is not taken for a key where errors are kept */
	if (strcmp(sealed->key_id, key->id) != 0)
		return tb_refusal(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
						  tb_json("secret:s key_id:s present_key_id:s", name,
								  sealed->key_id, key->id),
						  "Bring that key back, or store the secret again with tokenbill.set_secret().",
						  "secret \"%s\" was encrypted with key \"%s\", not with the present key \"%s\"",
						  name, sealed->key_id, key->id);
	if (payload(sealed->key_nonce) != NONCE_BYTES ||
		payload(sealed->value_nonce) != NONCE_BYTES ||
		payload(sealed->wrapped_key) != TB_KEY_BYTES + TAG_BYTES ||
		length < 1 || length > MAX_VALUE)
		return tb_refusal(ERRCODE_DATA_CORRUPTED,
						  tb_json("secret:s reason:s", name, "wrong_length"),
						  "Store it again with tokenbill.set_secret().",
						  "secret \"%s\" is truncated", name);

	data_key = tb_locked_alloc(TB_KEY_BYTES);
	plain = tb_locked_alloc(length + 1);
	good = decrypt(key->bytes, bound, bind_to(bound, "key", key->id, name),
				   sealed->key_nonce, sealed->wrapped_key, data_key) &&
		decrypt(data_key, bound, bind_to(bound, "value", key->id, name),
				sealed->value_nonce, sealed->ciphertext, (uint8 *) plain);
	tb_locked_free(data_key);
	if (!good)
	{
		tb_locked_free(plain);
		return tb_refusal(ERRCODE_DATA_CORRUPTED,
						  tb_json("secret:s reason:s", name, "not_authentic"),
						  "Its row is not as set_secret() wrote it: store it again.",
						  "secret \"%s\" has been changed, or belongs to another name", name);
	}
	secret->data = plain;
	secret->length = length;
	return NULL;
}

/*
 * tb_secret_wipe
 *		Forget it.
 */
void
tb_secret_wipe(SecretText *secret)
{
	tb_locked_free(secret->data);
	secret->data = NULL;
	secret->length = 0;
}
