/*
 * token.c
 *	  Issued tokens: idempotency keys made here, good for one call.
 *
 *	  issued -> used | expired
 *
 * A token differs from a key of the caller's own in that a second use is not
 * answered with the first result but refused, with that result in the DETAIL.
 * Its row is only touched while the account is locked.
 */
#include "token.h"

#include "account.h"
#include "check.h"
#include "clock.h"
#include "ledger.h"
#include "query.h"
#include "tenant.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(tokenbill_issue_token);
PG_FUNCTION_INFO_V1(tokenbill_token_result);

/* Random bytes in a token: too many to guess, or to meet twice. */
#define TOKEN_BYTES 24

/*
 * tb_is_token
 *		Whether a key is one that issue_token() makes.
 */
bool
tb_is_token(const text *key)
{
	return tb_text_begins(key, TB_TOKEN_PREFIX);
}

static Refusal *
bad_token(const text *account, const text *token, const char *status,
		  const char *result)
{
	return tb_refusal(TB_CONFLICT,
					  result ?
					  tb_json("account:t token:t status:s result:j", account,
							  token, status, result) :
					  tb_json("account:t token:t status:s", account, token,
							  status),
					  result ?
					  "tokenbill.token_result() returns the receipt it is bound to." :
					  "Get a new key from tokenbill.issue_token().",
					  "issued token is %s", status);
}

/*
 * tb_token_used
 *		The refusal of a second use, with what the first one led to.
 */
Refusal *
tb_token_used(const text *account, const text *token, const Receipt *result)
{
	return bad_token(account, token, "used", tb_receipt_json(result));
}

/*
 * tb_judge_token
 *		May the token be used?  With the account locked.  Needs SPI.
 */
Refusal *
tb_judge_token(const text *account, const text *token)
{
	static Statement query = {
		.sql = "SELECT t.status, t.expires_at FROM tokenbill.issued_token t"
		" WHERE t.account OPERATOR(pg_catalog.=) $1 AND t.token OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID}
	};
	Datum		values[2];
	bool		nulls[2];

	values[0] = PointerGetDatum(account);
	values[1] = PointerGetDatum(token);
	tb_run(&query, values, NULL);
	if (!tb_row(values, nulls))
		return bad_token(account, token, "unknown", NULL);
	if (!tb_text_is(DatumGetTextPP(values[0]), "issued"))
		return bad_token(account, token, TextDatumGetCString(values[0]), NULL);
	if (DatumGetTimestampTz(values[1]) <= tb_now())
		return bad_token(account, token, "expired", NULL);
	return NULL;
}

/*
 * tb_use_token
 *		Mark the token as used by the line that was just posted.  Needs SPI.
 */
void
tb_use_token(const text *account, const text *token)
{
	static Statement query = {
		.sql = "UPDATE tokenbill.issued_token SET status = 'used', used_at = $3"
		" WHERE account OPERATOR(pg_catalog.=) $1 AND token OPERATOR(pg_catalog.=) $2"
		" AND status OPERATOR(pg_catalog.=) 'issued'",
		.nargs = 3,
		.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID}
	};
	Datum		values[3];

	values[0] = PointerGetDatum(account);
	values[1] = PointerGetDatum(token);
	values[2] = TimestampTzGetDatum(tb_now());
	if (tb_run(&query, values, NULL) != 1)
		elog(ERROR, "issued token was used by somebody else");
}

/*
 * issue_token(account text, ttl interval = '1 hour') -> text
 *		A key that is good for one request of this account until ttl has passed.
 *		Errors: PT403 frozen or closed, PT404, 22004, 22023.
 */
Datum
tokenbill_issue_token(PG_FUNCTION_ARGS)
{
	static Statement query = {
		.sql = "INSERT INTO tokenbill.issued_token (account, token, expires_at, created_at)"
		" VALUES ($1, $2, $3, $4)",
		.nargs = 4,
		.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	text	   *name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	Interval   *ttl = PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1);
	TimestampTz now = tb_now();
	TimestampTz expires_at = 0;
	uint8		random[TOKEN_BYTES];
	char		token[sizeof(TB_TOKEN_PREFIX) + 2 * TOKEN_BYTES];
	char	   *end;
	Session		session;
	Account		account;
	Datum		values[4];

	tb_raise(tb_check_text("account", name, TB_MAX_ACCOUNT));
	tb_raise(tb_check_ttl(ttl, now, &expires_at));
	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random bytes"),
				 errhint("The operating system's random number source has failed.")));
	memcpy(token, TB_TOKEN_PREFIX, sizeof(TB_TOKEN_PREFIX));
	end = token + strlen(TB_TOKEN_PREFIX);
	for (int i = 0; i < TOKEN_BYTES; i++)
		end += snprintf(end, 3, "%02x", random[i]);

	tb_enter(fcinfo, &session);
	if (!tb_visible_to(name, session.userid) ||
		!tb_lock_account(name, &account))
		tb_raise(tb_no_account(name));
	tb_raise(tb_may_be_charged(&account));
	values[0] = PointerGetDatum(name);
	values[1] = CStringGetTextDatum(token);
	values[2] = TimestampTzGetDatum(expires_at);
	values[3] = TimestampTzGetDatum(now);
	tb_run(&query, values, NULL);
	tb_leave(&session);

	PG_RETURN_DATUM(values[1]);
}

/*
 * token_result(account text, token text) -> receipt
 *		What the token was used for.  Errors: PT404 no such token, or unused.
 */
Datum
tokenbill_token_result(PG_FUNCTION_ARGS)
{
	static Statement query = {
		.sql = "SELECT a.currency FROM tokenbill.account a WHERE a.account OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID}
	};
	text	   *name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text	   *token = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	Session		session;
	Receipt		receipt;
	Datum		values[1];
	bool		nulls[1];

	tb_raise(tb_check_text("account", name, TB_MAX_ACCOUNT));
	tb_raise(tb_check_text("token", token, TB_MAX_NAME));

	tb_enter(fcinfo, &session);
	tb_raise(tb_check_account(name, session.userid));
	if (!tb_is_token(token) || !tb_find_line(name, token, &receipt.line))
		tb_raise(tb_refusal(TB_NOT_FOUND,
							tb_json("account:t token:t", name, token),
							"It is unknown, has not been used yet, or its month of the ledger has been dropped.",
							"issued token has no result"));
	values[0] = PointerGetDatum(name);
	tb_run(&query, values, NULL);
	if (!tb_row(values, nulls))
		tb_raise(tb_no_account(name));
	receipt.currency = DatumGetTextPCopy(values[0]);
	receipt.replayed = true;
	tb_leave(&session);

	return tb_receipt_datum(fcinfo, &receipt);
}
