/*
 * token_answer.c
 *	  Tokens that the worker was given, encrypted before they get into a statement.
 *
 * What is in a statement may be in a log, in pg_stat_activity, in an error, or in
 * what auto_explain and the like write of its parameters.  So of the answer of an
 * authorization server, SQL is told what is no secret, and ciphertext.
 */
#include "token_answer.h"

#include "http_engine.h"
#include "key_hold.h"

/*
 * What is secret in an answer, and the prefix of the name it is stored under; the
 * same as in tokenbill.token_secret().
 */
static const struct
{
	const char *member;
	const char *prefix;
}			kinds[] = {
	{"access_token", "oauth:"},
	{"refresh_token", "oauth_refresh:"},
	{"device_code", "oauth_device:"}
};

/*
 * tb_holds_tokens
 *		Whether there may be tokens in the answers to calls for this purpose.
 */
bool
tb_holds_tokens(const char *purpose)
{
	return strcmp(purpose, "token") == 0 || strcmp(purpose, "device") == 0;
}

/*
 * tb_token_ready
 *		Whether an answer with tokens could be read, or why not: then it is not asked
 *		for.  To be called after tb_http_load().
 */
Refusal *
tb_token_ready(void)
{
	const char *why = tb_engine_load_tokens();

	if (why == NULL)
		return NULL;
	return tb_refusal(ERRCODE_UNDEFINED_FILE, tb_json("library:s", TB_TOKEN_LIBRARY),
					  "make install puts it beside tokenbill_http, and it needs libjwt and jansson: Debian's libjwt0.",
					  "the library %s cannot be loaded: %s", TB_TOKEN_LIBRARY, why);
}

/*
 * Encrypt up to three values, in the order of kinds[]; NULL: there is none.  Their
 * version is the lease, which is another one each time, and a greater one.
 */
static Refusal *
seal_all(const char *target, int64 lease, const char *const values[],
		 const MasterKey *key, Jsonb **secrets)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		SealedSecret *sealed;
		Refusal    *refusal;

		if (values[i] == NULL)
			continue;
		refusal = tb_secret_seal(psprintf("%s%s", kinds[i].prefix, target), lease,
								 values[i], key, &sealed);
		if (refusal != NULL)
			return refusal;
		tb_secret_push(&state, kinds[i].member, sealed);
	}
	*secrets = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	return NULL;
}

/* The same with the master key, if it is there; *later: it is being fetched. */
static Refusal *
seal_with_key(const HttpAnswer *answer, const char *const values[], Jsonb **secrets,
			  bool *later)
{
	HoldState	state = tb_hold_want(0);
	HoldNumber	number;

	if (state == TB_HOLD_FAILED)
		return unconstify(Refusal *, tb_hold_refusal());
	*later = state == TB_HOLD_LATER;
	if (*later)
		return NULL;
	return seal_all(answer->target, answer->lease, values, tb_hold_key(&number), secrets);
}

/*
 * tb_token_seal_answer
 *		Make of an answer what may go into a statement, in the current memory
 *		context, outside of a transaction.  *later: the master key is being fetched,
 *		and it is to be tried again.  What is not copied is not wiped here: it is when
 *		the answer is given back.
 */
Refusal *
tb_token_seal_answer(const HttpAnswer *answer, TokenRecord *record, bool *later)
{
	TokenAnswer parts;
	Refusal    *volatile refusal = NULL;

	*later = false;
	if (!tb_engine_take_apart(answer, &parts))
		return tb_refusal(ERRCODE_OUT_OF_MEMORY, "{}",
						  "The server's machine has no memory left.", "out of memory");
	/* what is thrown must not leave tokens behind */
	PG_TRY();
	{
		const char *const values[] = {parts.access_token, parts.refresh_token, parts.device_code};

		record->document = pstrdup(parts.document);
		if (values[0] != NULL || values[1] != NULL || values[2] != NULL)
			refusal = seal_with_key(answer, values, &record->secrets, later);
	}
	PG_FINALLY();
	{
		tb_engine_forget(&parts);
	}
	PG_END_TRY();
	return refusal;
}

/*
 * tb_token_seal
 *		The same of a token that was made here.
 */
Refusal *
tb_token_seal(const char *target, int64 lease, const SecretText *token,
			  const MasterKey *key, TokenRecord *record)
{
	const char *const values[] = {token->data, NULL, NULL};

	record->document = "{}";
	return seal_all(target, lease, values, key, &record->secrets);
}
