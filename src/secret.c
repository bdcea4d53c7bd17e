/*
 * secret.c
 *	  Secrets, encrypted in a table; envelope.c says how.
 *
 * Plain text comes out of tb_secret_open() only, which the worker calls; there is
 * no SQL function that returns it.  What the worker is given as a secret, such as an
 * access token, goes through tb_secret_seal() before it gets into a statement.
 */
#include "secret.h"

#include <openssl/crypto.h>

#include "card.h"
#include "check.h"
#include "clock.h"
#include "envelope.h"
#include "locked.h"
#include "miscadmin.h"
#include "query.h"
#include "statement_text.h"
#include "tenant.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(tokenbill_set_secret);

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
	if (len > TB_MAX_SECRET)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s bytes:i max_bytes:i", "value",
								  (int64) len, (int64) TB_MAX_SECRET),
						  "Keep larger things in a file.",
						  "value is too long: %d bytes, at most %d are allowed",
						  len, TB_MAX_SECRET);
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
 * The version that a new value of a secret will have.  Locks its row, if there is
 * one, so that it is still the next when the value is stored.
 */
static int64
next_version(text *name)
{
	static Statement query = {
		.sql = "SELECT s.version OPERATOR(pg_catalog.+) 1 FROM tokenbill.secret s"
		" WHERE s.name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		values[1];
	bool		nulls[1];

	values[0] = PointerGetDatum(name);
	tb_run(&query, values, NULL);
	return tb_row(values, nulls) ? DatumGetInt64(values[0]) : 1;
}

/*
 * Store a value that is encrypted.  False if its version is not the next one: two
 * sessions set the first value of a name at once, and the other one was first.
 */
static bool
store(text *name, const SealedSecret *sealed)
{
	static Statement query = {
		.sql = "INSERT INTO tokenbill.secret AS s (name, version, layout, key_id, key_nonce, wrapped_key,"
		" value_nonce, ciphertext, created_at, updated_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)"
		" ON CONFLICT (name) DO UPDATE SET version = EXCLUDED.version, layout = EXCLUDED.layout,"
		" key_id = EXCLUDED.key_id, key_nonce = EXCLUDED.key_nonce, wrapped_key = EXCLUDED.wrapped_key,"
		" value_nonce = EXCLUDED.value_nonce, ciphertext = EXCLUDED.ciphertext,"
		" updated_at = EXCLUDED.updated_at"
		" WHERE s.version OPERATOR(pg_catalog.+) 1 OPERATOR(pg_catalog.=) EXCLUDED.version",
		.nargs = 9,
		.types = {TEXTOID, INT8OID, INT4OID, TEXTOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID,
		TIMESTAMPTZOID}
	};
	Datum		values[9];

	values[0] = PointerGetDatum(name);
	values[1] = Int64GetDatum(sealed->version);
	values[2] = Int32GetDatum(sealed->layout);
	values[3] = CStringGetTextDatum(sealed->key_id);
	values[4] = PointerGetDatum(sealed->key_nonce);
	values[5] = PointerGetDatum(sealed->wrapped_key);
	values[6] = PointerGetDatum(sealed->value_nonce);
	values[7] = PointerGetDatum(sealed->ciphertext);
	values[8] = TimestampTzGetDatum(tb_now());
	return tb_run(&query, values, NULL) == 1;
}

/*
 * Encrypt a value and store it.  The key is fetched first, which may take a while:
 * no row is locked until then.
 */
static Refusal *
seal_and_store(text *name, const uint8 *value, int length)
{
	SealedSecret sealed = {0};
	MasterKey  *key;
	Refusal    *refusal = tb_key_read(&key);

	if (refusal != NULL)
		return refusal;
	strlcpy(sealed.name, text_to_cstring(name), sizeof(sealed.name));
	do
	{
		CHECK_FOR_INTERRUPTS();
		sealed.version = next_version(name);
		refusal = tb_seal(&sealed, key, value, length);
	} while (refusal == NULL && !store(name, &sealed));
	tb_key_wipe(key);
	return refusal;
}

/*
 * set_secret(name text, value text) -> void
 *		Store a value encrypted, or another one under the same name.  Errors: 55000
 *		there is no key to encrypt with; F0000, 58030, 38000, PT504 it is not to be
 *		had; 42501 a tenant asks; 22004, 22023.  Locks the row of that name.
 */
Datum
tokenbill_set_secret(PG_FUNCTION_ARGS)
{
	text	   *name;
	text	   *value;
	Session		session;
	Refusal    *refusal;

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
	refusal = seal_and_store(name, (const uint8 *) VARDATA_ANY(value),
							 VARSIZE_ANY_EXHDR(value));
	/* a copy made here, as of a compressed one */
	if ((Pointer) value != PG_GETARG_POINTER(1))
		OPENSSL_cleanse(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	tb_raise(refusal);
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
		.sql = "SELECT s.version, s.layout, s.key_id, s.key_nonce, s.wrapped_key, s.value_nonce, s.ciphertext"
		" FROM tokenbill.secret s WHERE s.name OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		values[7];
	bool		nulls[7];
	SealedSecret *row;

	values[0] = CStringGetTextDatum(name);
	tb_run(&query, values, NULL);
	if (!tb_row(values, nulls))
		return tb_refusal(TB_NOT_FOUND, tb_json("secret:s", name),
						  "Store it with tokenbill.set_secret().",
						  "secret \"%s\" does not exist", name);
	row = palloc(sizeof(SealedSecret));
	strlcpy(row->name, name, sizeof(row->name));
	row->version = DatumGetInt64(values[0]);
	row->layout = DatumGetInt32(values[1]);
	row->key_id = TextDatumGetCString(values[2]);
	row->key_nonce = DatumGetByteaPCopy(values[3]);
	row->wrapped_key = DatumGetByteaPCopy(values[4]);
	row->value_nonce = DatumGetByteaPCopy(values[5]);
	row->ciphertext = DatumGetByteaPCopy(values[6]);
	*sealed = row;
	return NULL;
}

/*
 * tb_secret_open
 *		Decrypt it.  0A000 if we do not know its layout, 39000 if it wants another
 *		key, XX001 if it has been changed or is another secret's.
 */
Refusal *
tb_secret_open(const SealedSecret *sealed, const MasterKey *key, SecretText *secret)
{
	uint8	   *data_key = tb_locked_alloc(TB_KEY_BYTES);
	Refusal    *refusal = tb_unwrap_key(sealed, key, data_key);

	if (refusal == NULL)
		refusal = tb_unseal(sealed, data_key, secret);
	tb_locked_free(data_key);
	return refusal;
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

/*
 * tb_secret_seal
 *		Encrypt a value of at most 8 KB for this version of a name, in the current
 *		memory context; XX000 if OpenSSL cannot.
 */
Refusal *
tb_secret_seal(const char *name, int64 version, const char *value,
			   const MasterKey *key, SealedSecret **sealed)
{
	*sealed = palloc0(sizeof(SealedSecret));
	strlcpy((*sealed)->name, name, sizeof((*sealed)->name));
	(*sealed)->version = version;
	return tb_seal(*sealed, key, (const uint8 *) value, (int) strlen(value));
}

static void
push_text(JsonbParseState **state, const char *name, const char *value)
{
	JsonbValue	member;

	member.type = jbvString;
	member.val.string.val = unconstify(char *, name);
	member.val.string.len = strlen(name);
	pushJsonbValue(state, WJB_KEY, &member);
	member.val.string.val = unconstify(char *, value);
	member.val.string.len = strlen(value);
	pushJsonbValue(state, WJB_VALUE, &member);
}

static void
push_bytes(JsonbParseState **state, const char *name, const bytea *value)
{
	int			length = (int) VARSIZE(value) - VARHDRSZ;
	char	   *digits = palloc(2 * length + 1);

	digits[hex_encode(VARDATA(value), length, digits)] = '\0';
	push_text(state, name, digits);
}

/*
 * tb_secret_push
 *		Put the columns of a row into a JSON object that is being made, as a member
 *		that is an object: numbers as text, bytes in hexadecimal.  They are
 *		ciphertext.
 */
void
tb_secret_push(JsonbParseState **state, const char *name, const SealedSecret *sealed)
{
	JsonbValue	member;

	member.type = jbvString;
	member.val.string.val = unconstify(char *, name);
	member.val.string.len = strlen(name);
	pushJsonbValue(state, WJB_KEY, &member);
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_text(state, "version", psprintf(INT64_FORMAT, sealed->version));
	push_text(state, "layout", psprintf("%d", sealed->layout));
	push_text(state, "key_id", sealed->key_id);
	push_bytes(state, "key_nonce", sealed->key_nonce);
	push_bytes(state, "wrapped_key", sealed->wrapped_key);
	push_bytes(state, "value_nonce", sealed->value_nonce);
	push_bytes(state, "ciphertext", sealed->ciphertext);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}
