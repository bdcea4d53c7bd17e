/*
 * envelope.c
 *	  Encryption of secrets: a key for each, wrapped by the master key.
 *
 * Layout 1: a value is encrypted with a random key of its own, the data key, and
 * that with the master key, both with AES-256-GCM (NIST SP 800-38D), nonces of 96
 * random bits and tags of 128 bits behind the ciphertext.  Authenticated beside
 * them, and not stored again, is what they belong to:
 *
 *	  the value		"value", the layout, the secret's version and name
 *	  the data key	"key", the layout, the master key's id, version and name
 *
 * So a ciphertext is good for the name and the version it was made for and for no
 * other: two rows that are exchanged, or a row of which a part is put back from an
 * older one, do not decrypt.  And since the value does not depend on the master
 * key, another one is brought in by wrapping 32 bytes anew; no value is decrypted
 * for it.
 *
 * Between the making of a context of OpenSSL's and its end nothing here can throw,
 * and the key schedules in it are overwritten as it is freed.
 */
#include "envelope.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "locked.h"

/* "value" or "key", layout, the key's id, version and name, parted by blanks. */
#define MAX_BOUND (TB_MAX_NAME + TB_KEY_ID_DIGITS + 64)

/* What the value is bound to; returns its length. */
static int
bind_value(char *bound, const SealedSecret *sealed)
{
	return snprintf(bound, MAX_BOUND, "tokenbill value %d " INT64_FORMAT " %s",
					TB_SECRET_LAYOUT, sealed->version, sealed->name);
}

/* What the data key is bound to; returns its length. */
static int
bind_key(char *bound, const char *key_id, const SealedSecret *sealed)
{
	return snprintf(bound, MAX_BOUND, "tokenbill key %d %s " INT64_FORMAT " %s",
					TB_SECRET_LAYOUT, key_id, sealed->version, sealed->name);
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

	*nonce = palloc(VARHDRSZ + TB_NONCE_BYTES);
	*sealed = palloc(VARHDRSZ + length + TB_TAG_BYTES);
	SET_VARSIZE(*nonce, VARHDRSZ + TB_NONCE_BYTES);
	SET_VARSIZE(*sealed, VARHDRSZ + length + TB_TAG_BYTES);
	out = (uint8 *) VARDATA(*sealed);
	good = pg_strong_random(VARDATA(*nonce), TB_NONCE_BYTES) &&
		(context = EVP_CIPHER_CTX_new()) != NULL &&
		EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key,
						   (uint8 *) VARDATA(*nonce)) == 1 &&
		EVP_EncryptUpdate(context, NULL, &n, (const uint8 *) bound, bound_length) == 1 &&
		EVP_EncryptUpdate(context, out, &n, plain, length) == 1 && n == length &&
		EVP_EncryptFinal_ex(context, out + n, &n) == 1 && n == 0 &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TB_TAG_BYTES, out + length) == 1;
	EVP_CIPHER_CTX_free(context);
	ERR_clear_error();
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
	int			length = (int) VARSIZE(sealed) - VARHDRSZ - TB_TAG_BYTES;
	const uint8 *in = (const uint8 *) VARDATA(sealed);
	uint8		tag[TB_TAG_BYTES];
	EVP_CIPHER_CTX *context;
	int			n;
	bool		good;

	memcpy(tag, in + length, TB_TAG_BYTES);
	context = EVP_CIPHER_CTX_new();
	good = context != NULL &&
		EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key,
						   (const uint8 *) VARDATA(nonce)) == 1 &&
		EVP_DecryptUpdate(context, NULL, &n, (const uint8 *) bound, bound_length) == 1 &&
		EVP_DecryptUpdate(context, plain, &n, in, length) == 1 && n == length &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TB_TAG_BYTES, tag) == 1 &&
		EVP_DecryptFinal_ex(context, plain + n, &n) == 1;
	EVP_CIPHER_CTX_free(context);
	ERR_clear_error();
	if (!good)
		OPENSSL_cleanse(plain, length);
	return good;
}

static Refusal *
cannot_encrypt(void)
{
	return tb_refusal(ERRCODE_INTERNAL_ERROR, tb_json("reason:s", "openssl"),
					  "OpenSSL must offer AES-256-GCM, and the operating system random numbers.",
					  "could not encrypt a secret");
}

/*
 * tb_wrap_key
 *		Put a data key under the present master key: key_id, key_nonce and
 *		wrapped_key of the secret, whose name and version are set.  XX000 if OpenSSL
 *		cannot.
 */
Refusal *
tb_wrap_key(SealedSecret *sealed, const MasterKey *key, const uint8 *data_key)
{
	char		bound[MAX_BOUND];
	const OneKey *present = &key->keys[0];

	if (!encrypt(present->bytes, bound, bind_key(bound, present->id, sealed),
				 data_key, TB_KEY_BYTES, &sealed->key_nonce, &sealed->wrapped_key))
		return cannot_encrypt();
	sealed->key_id = pstrdup(present->id);
	return NULL;
}

/*
 * tb_seal
 *		Encrypt a value of so many bytes under the name and version that are set,
 *		with a new data key.  XX000 if OpenSSL cannot.
 */
Refusal *
tb_seal(SealedSecret *sealed, const MasterKey *key, const uint8 *value, int length)
{
	uint8	   *data_key = tb_locked_alloc(TB_KEY_BYTES);
	char		bound[MAX_BOUND];
	Refusal    *refusal = NULL;

	sealed->layout = TB_SECRET_LAYOUT;
	if (!pg_strong_random(data_key, TB_KEY_BYTES) ||
		!encrypt(data_key, bound, bind_value(bound, sealed), value, length,
				 &sealed->value_nonce, &sealed->ciphertext))
		refusal = cannot_encrypt();
	if (refusal == NULL)
		refusal = tb_wrap_key(sealed, key, data_key);
	tb_locked_free(data_key);
	return refusal;
}

static int
payload(const bytea *value)
{
	return (int) VARSIZE(value) - VARHDRSZ;
}

/* Somebody has written to the table. */
static Refusal *
truncated(const SealedSecret *sealed, const char *part)
{
	return tb_refusal(ERRCODE_DATA_CORRUPTED,
					  tb_json("secret:s reason:s part:s", sealed->name, "wrong_length", part),
					  "Its row is not as set_secret() wrote it: store it again.",
					  "secret \"%s\" is truncated", sealed->name);
}

static Refusal *
changed(const SealedSecret *sealed, const char *part)
{
	return tb_refusal(ERRCODE_DATA_CORRUPTED,
					  tb_json("secret:s reason:s part:s", sealed->name, "not_authentic", part),
					  "Its row is not as set_secret() wrote it: store it again.",
					  "secret \"%s\" has been changed, or belongs to another name or version",
					  sealed->name);
}

/*
 * tb_unwrap_key
 *		Get at a secret's data key, TB_KEY_BYTES of memory that is locked.  0A000 if
 *		we do not know its layout, 39000 if it wants another master key than those
 *		there are, XX001 if its row has been changed or is another secret's.
 */
Refusal *
tb_unwrap_key(const SealedSecret *sealed, const MasterKey *key, uint8 *data_key)
{
	const OneKey *wrapper = tb_key_find(key, sealed->key_id);
	char		bound[MAX_BOUND];

	if (sealed->layout != TB_SECRET_LAYOUT)
		return tb_refusal(ERRCODE_FEATURE_NOT_SUPPORTED,
						  tb_json("secret:s layout:i", sealed->name, (int64) sealed->layout),
						  "A newer version of tokenbill has stored it: install that one.",
						  "secret \"%s\" has an unknown layout", sealed->name);
	/* in quotes, the id of a key is not taken for a key where errors are kept */
	if (wrapper == NULL)
		return tb_refusal(ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION,
						  tb_json("secret:s reason:s key_id:s present_key_id:s", sealed->name,
								  "other_key", sealed->key_id, key->keys[0].id),
						  "Add that key behind the present one, or store the secret again with tokenbill.set_secret().",
						  "secret \"%s\" was encrypted with key \"%s\", not with the present key \"%s\"",
						  sealed->name, sealed->key_id, key->keys[0].id);
	if (payload(sealed->key_nonce) != TB_NONCE_BYTES ||
		payload(sealed->wrapped_key) != TB_KEY_BYTES + TB_TAG_BYTES)
		return truncated(sealed, "key");
	if (!decrypt(wrapper->bytes, bound, bind_key(bound, wrapper->id, sealed),
				 sealed->key_nonce, sealed->wrapped_key, data_key))
		return changed(sealed, "key");
	return NULL;
}

/*
 * tb_unseal
 *		Decrypt a value, into locked memory that is tb_secret_wipe()'s to free.
 *		XX001 if its row has been changed or is another secret's.
 */
Refusal *
tb_unseal(const SealedSecret *sealed, const uint8 *data_key, SecretText *secret)
{
	int			length = payload(sealed->ciphertext) - TB_TAG_BYTES;
	char		bound[MAX_BOUND];
	char	   *plain;

	if (payload(sealed->value_nonce) != TB_NONCE_BYTES ||
		length < 1 || length > TB_MAX_SECRET)
		return truncated(sealed, "value");
	plain = tb_locked_alloc(length + 1);
	if (!decrypt(data_key, bound, bind_value(bound, sealed),
				 sealed->value_nonce, sealed->ciphertext, (uint8 *) plain))
	{
		tb_locked_free(plain);
		return changed(sealed, "value");
	}
	secret->data = plain;
	secret->length = length;
	return NULL;
}
