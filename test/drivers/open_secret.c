/*
 * open_secret.c
 *	  For test/t/240_secret.pl and its neighbours: what the worker does with a secret,
 *	  callable from SQL.  The extension has no such function, and must not have one.
 */
#include "postgres.h"

#include "envelope.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "locked.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(open_secret);
PG_FUNCTION_INFO_V1(locked_while_open);
PG_FUNCTION_INFO_V1(data_key);

static Refusal *
load(const char *name, SealedSecret **sealed, MasterKey **key)
{
	MemoryContext mine = CurrentMemoryContext;
	Refusal    *refusal;

	SPI_connect();
	MemoryContextSwitchTo(mine);
	refusal = tb_secret_load(name, sealed);
	SPI_finish();
	return refusal == NULL ? tb_key_read(key) : refusal;
}

static Refusal *
load_and_open(const char *name, SecretText *secret)
{
	SealedSecret *sealed;
	MasterKey  *key;
	Refusal    *refusal = load(name, &sealed, &key);

	if (refusal != NULL)
		return refusal;
	refusal = tb_secret_open(sealed, key, secret);
	tb_key_wipe(key);
	return refusal;
}

/* open_secret(name text) -> text */
Datum
open_secret(PG_FUNCTION_ARGS)
{
	SecretText	secret;
	text	   *result;

	tb_raise(load_and_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), &secret));
	if (secret.data[secret.length] != '\0')
		elog(ERROR, "a secret does not end in a NUL");
	result = cstring_to_text_with_len(secret.data, secret.length);
	tb_secret_wipe(&secret);
	PG_RETURN_TEXT_P(result);
}

/*
 * locked_while_open(name text, wipe boolean) -> text
 *		Whether this process has locked memory while a secret is open; which is
 *		then wiped, or left to an error.
 */
Datum
locked_while_open(PG_FUNCTION_ARGS)
{
	SecretText	secret;
	char		line[256];
	char		found[256] = "no VmLck";
	FILE	   *status;

	tb_raise(load_and_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), &secret));
	status = fopen("/proc/self/status", "r");
	while (status != NULL && fgets(line, sizeof(line), status) != NULL)
	{
		if (strncmp(line, "VmLck:", 6) == 0)
			strlcpy(found, line, sizeof(found));
	}
	if (status != NULL)
		fclose(status);
	if (!PG_GETARG_BOOL(1))
		elog(ERROR, "%s", found);
	tb_secret_wipe(&secret);
	PG_RETURN_TEXT_P(cstring_to_text(found));
}

/* data_key(name text) -> bytea, what the secret's value is encrypted with */
Datum
data_key(PG_FUNCTION_ARGS)
{
	SealedSecret *sealed;
	MasterKey  *key;
	uint8	   *found = tb_locked_alloc(TB_KEY_BYTES);
	bytea	   *result = palloc(VARHDRSZ + TB_KEY_BYTES);

	tb_raise(load(text_to_cstring(PG_GETARG_TEXT_PP(0)), &sealed, &key));
	tb_raise(tb_unwrap_key(sealed, key, found));
	SET_VARSIZE(result, VARHDRSZ + TB_KEY_BYTES);
	memcpy(VARDATA(result), found, TB_KEY_BYTES);
	tb_locked_free(found);
	tb_key_wipe(key);
	PG_RETURN_BYTEA_P(result);
}
