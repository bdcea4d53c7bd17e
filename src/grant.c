/*
 * grant.c
 *	  Money that was not paid in, or not for everything: grant_credit().
 *
 * What is granted without a condition is balance like any other and makes no
 * credit.  Anything that tells it apart makes one: see credit.c.
 */
#include "burn.h"
#include "check.h"
#include "clock.h"
#include "money.h"
#include "query.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(tokenbill_grant_credit);

#define MAX_PRIORITY 1000
#define MAX_SCOPE 100

typedef struct Grant
{
	Movement	movement;		/* first, so that one can be taken for the
								 * other */
	bool		conditional;	/* makes a credit */
	bool		expires;
	TimestampTz expires_at;
	bool		delayed;
	TimestampTz effective_at;
	int32		priority;
	bool		promotional;
	ArrayType  *scope;			/* null: all services */
	Numeric		cost_basis;
} Grant;

static Refusal *
judge_grant(Movement *movement, Account *account)
{
	Grant	   *grant = (Grant *) movement;
	ChainedLine *line = &movement->line;

	/* not before the account is locked: a grant repeated is replayed */
	if (grant->expires && grant->expires_at <= tb_now())
		return tb_refusal(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
						  tb_json("argument:s", "expires_at"),
						  "Pass a time to come.", "expires_at is over");
	line->amount = movement->asked_amount;
	line->contra = cstring_to_text(account->sandbox ? "sandbox" : "grant");
	return tb_may_be_credited(account);
}

static void
follow_grant(Movement *movement, Account *account)
{
	static Statement query = {
		.sql = "INSERT INTO tokenbill.credit (account, credit_key, seq, amount, remaining, priority, category,"
		" scope, cost_basis, effective_at, expires_at, created_at, updated_at)"
		" VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8, $9, $10, $11, $11)"
		" ON CONFLICT (account, credit_key) DO NOTHING",
		.nargs = 11,
		.types = {TEXTOID, TEXTOID, INT8OID, NUMERICOID, INT4OID, TEXTOID, TEXTARRAYOID,
		NUMERICOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	const Grant *grant = (const Grant *) movement;
	const ChainedLine *line = &movement->line;
	Datum		values[11];
	char		nulls[11];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = PointerGetDatum(line->account);
	values[1] = PointerGetDatum(line->idempotency_key);
	values[2] = Int64GetDatum(line->seq);
	values[3] = NumericGetDatum(line->amount);
	values[4] = Int32GetDatum(grant->priority);
	values[5] = CStringGetTextDatum(grant->promotional ? "promotional" : "paid");
	values[6] = PointerGetDatum(grant->scope);
	nulls[6] = grant->scope == NULL ? 'n' : ' ';
	values[7] = NumericGetDatum(grant->cost_basis);
	values[8] = TimestampTzGetDatum(grant->delayed ? grant->effective_at :
									line->created_at);
	values[9] = TimestampTzGetDatum(grant->expires_at);
	nulls[9] = grant->expires ? ' ' : 'n';
	values[10] = TimestampTzGetDatum(line->created_at);

	/*
	 * a key may be used again when its window is over; a credit's name may
	 * not
	 */
	if (tb_run(&query, values, nulls) != 1)
		tb_raise(tb_refusal(TB_CONFLICT,
							tb_json("account:t credit_key:t", line->account,
									line->idempotency_key),
							"Credits are kept for ever; give this one another key.",
							"there has been a credit of that key before"));
	tb_count_credits(account, 1);
	if (grant->expires)
		tb_wake_by(grant->expires_at);
}

static Refusal *
check_scope(ArrayType *scope)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	const char *problem = NULL;

	if (ARR_NDIM(scope) > 1 || array_contains_nulls(scope))
		problem = "scope must be a list of services";
	else
	{
		deconstruct_array(scope, TEXTOID, -1, false, TYPALIGN_INT, &elements,
						  &nulls, &n);
		if (n == 0 || n > MAX_SCOPE)
			problem = "scope must name one service at least, and a hundred at most";
		for (int i = 0; i < n && problem == NULL; i++)
		{
			Refusal    *refusal = tb_check_text("scope",
												DatumGetTextPP(elements[i]),
												TB_MAX_NAME);

			if (refusal != NULL)
				return refusal;
			if (tb_text_is(DatumGetTextPP(elements[i]), "*"))
				problem = "scope must not be all services";
		}
	}
	if (problem == NULL)
		return NULL;
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s", "scope"),
					  "Pass services such as {gpt-5-mini,claude-*}; leave scope out for all of them.",
					  "%s", problem);
}

/* A time in UTC, whatever the session's time zone: equal requests look equal. */
static char *
time_text(TimestampTz value)
{
	char		buffer[MAXDATELEN + 1];
	const int	utc = 0;

	return pstrdup(JsonEncodeDateTime(buffer, TimestampTzGetDatum(value),
									  TIMESTAMPTZOID, &utc));
}

static void
keep_text(ChainedLine *line, const char *name, const char *value, int len)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, value);
	v.val.string.len = len;
	tb_keep_in_request(line, name, &v);
}

static void
keep_number(ChainedLine *line, const char *name, Numeric value)
{
	JsonbValue	v;

	v.type = jbvNumeric;
	v.val.numeric = value;
	tb_keep_in_request(line, name, &v);
}

static void
keep_scope(ChainedLine *line, ArrayType *scope)
{
	JsonbParseState *state = NULL;
	Jsonb	   *json;
	JsonbValue	v;
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(scope, TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &n);
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
	{
		text	   *service = DatumGetTextPP(elements[i]);

		v.type = jbvString;
		v.val.string.val = VARDATA_ANY(service);
		v.val.string.len = VARSIZE_ANY_EXHDR(service);
		pushJsonbValue(&state, WJB_ELEM, &v);
	}
	json = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
	v.type = jbvBinary;
	v.val.binary.data = &json->root;
	v.val.binary.len = VARSIZE(json) - VARHDRSZ;
	tb_keep_in_request(line, "scope", &v);
}

/*
 * Keep what was asked for that the line has no column for: only what was, so that
 * the same grant looks the same, spelled out or not.
 */
static void
keep_request(ChainedLine *line, const Grant *grant, const text *reason,
			 const text *category, Numeric cost_basis)
{
	if (reason != NULL)
		keep_text(line, "reason", VARDATA_ANY(reason), VARSIZE_ANY_EXHDR(reason));
	if (grant->expires)
		keep_text(line, "expires_at", time_text(grant->expires_at),
				  strlen(time_text(grant->expires_at)));
	if (grant->delayed)
		keep_text(line, "effective_at", time_text(grant->effective_at),
				  strlen(time_text(grant->effective_at)));
	if (grant->priority != TB_USUAL_PRIORITY)
		keep_number(line, "priority", int64_to_numeric(grant->priority));
	if (category != NULL && grant->conditional)
		keep_text(line, "category", VARDATA_ANY(category),
				  VARSIZE_ANY_EXHDR(category));
	if (grant->scope != NULL)
		keep_scope(line, grant->scope);
	if (cost_basis != NULL)
		keep_number(line, "cost_basis", cost_basis);
}

static void
check_times(const Grant *grant)
{
	if (grant->expires)
		tb_raise(tb_check_time("expires_at", grant->expires_at));
	if (grant->delayed)
		tb_raise(tb_check_time("effective_at", grant->effective_at));
	if (grant->expires && grant->delayed &&
		grant->expires_at <= grant->effective_at)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "effective_at"),
							"Have the credit become effective before it expires.",
							"effective_at must be before expires_at"));
}

/*
 * grant_credit(account text, amount numeric, idempotency_key text,
 *				expires_at timestamptz = null, priority integer = 50,
 *				reason text = null, metadata jsonb = null, wait boolean = true,
 *				category text = null, scope text[] = null,
 *				effective_at timestamptz = null, cost_basis numeric = null)
 *	-> receipt
 *		Credits an account without payment, or with conditions.
 */
Datum
tokenbill_grant_credit(PG_FUNCTION_ARGS)
{
	Grant		grant = {0};
	ChainedLine *line = &grant.movement.line;
	Numeric		amount = PG_ARGISNULL(1) ? NULL : PG_GETARG_NUMERIC(1);
	text	   *reason = PG_ARGISNULL(5) ? NULL : PG_GETARG_TEXT_PP(5);
	text	   *category = PG_ARGISNULL(8) ? NULL : PG_GETARG_TEXT_PP(8);
	Numeric		cost_basis = PG_ARGISNULL(11) ? NULL : PG_GETARG_NUMERIC(11);
	Session		session;
	Receipt		receipt;

	line->account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	line->idempotency_key = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	line->metadata = PG_ARGISNULL(6) ? NULL : PG_GETARG_JSONB_P(6);
	grant.expires = !PG_ARGISNULL(3);
	if (grant.expires)
		grant.expires_at = PG_GETARG_TIMESTAMPTZ(3);
	grant.delayed = !PG_ARGISNULL(10);
	if (grant.delayed)
		grant.effective_at = PG_GETARG_TIMESTAMPTZ(10);
	grant.scope = PG_ARGISNULL(9) ? NULL : PG_GETARG_ARRAYTYPE_P(9);

	tb_raise(tb_check_text("account", line->account, TB_MAX_ACCOUNT));
	tb_raise(tb_check_amount("amount", amount));
	tb_raise(tb_check_key("idempotency_key", line->idempotency_key));
	check_times(&grant);
	if (PG_ARGISNULL(4))
		tb_raise(tb_null_argument("priority"));
	grant.priority = PG_GETARG_INT32(4);
	if (grant.priority < 0 || grant.priority > MAX_PRIORITY)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "priority"),
							"Pass a number from 0, spent first, to 1000; 50 is usual.",
							"priority must be between 0 and %d", MAX_PRIORITY));
	tb_raise(tb_check_optional_text("reason", reason, TB_MAX_NAME));
	tb_raise(tb_check_metadata("metadata", line->metadata));
	if (PG_ARGISNULL(7))
		tb_raise(tb_null_argument("wait"));
	if (category != NULL)
		tb_raise(tb_check_choice("category", category, "promotional", "paid"));
	if (grant.scope != NULL)
		tb_raise(check_scope(grant.scope));
	if (cost_basis != NULL && tb_compare(cost_basis, tb_zero()) != 0)
		tb_raise(tb_check_amount("cost_basis", cost_basis));

	grant.promotional = category == NULL || tb_text_is(category, "promotional");
	grant.conditional = grant.expires || grant.delayed || grant.scope != NULL ||
		grant.priority != TB_USUAL_PRIORITY || cost_basis != NULL ||
		(category != NULL && grant.promotional);
	grant.cost_basis = cost_basis != NULL ? cost_basis :
		int64_to_numeric(grant.promotional ? 0 : 1);

	line->kind = cstring_to_text("grant");
	keep_request(line, &grant, reason, category, cost_basis);
	grant.movement.asked_amount = amount;
	grant.movement.wait = PG_GETARG_BOOL(7);
	grant.movement.ref_argument = "ref";
	grant.movement.judge = judge_grant;
	if (grant.conditional)
		grant.movement.follow = follow_grant;

	tb_enter(fcinfo, &session);
	grant.movement.user = session.userid;
	tb_raise(tb_move(&grant.movement, &receipt));
	tb_leave(&session);
	return tb_receipt_datum(fcinfo, &receipt);
}
