/*
 * check.c
 *	  Are the arguments well formed?
 *
 * Nothing here reads a table.  Refusals never repeat a text they refuse: it may
 * be a card number, or ten kilobytes.
 */
#include "check.h"

#include "card.h"
#include "money.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* An amount has at most so many decimals. */
#define AMOUNT_DECIMALS 30

#define MAX_TTL_DAYS 366

PG_FUNCTION_INFO_V1(tokenbill_check_text);
PG_FUNCTION_INFO_V1(tokenbill_check_amount);
PG_FUNCTION_INFO_V1(tokenbill_check_metadata);
PG_FUNCTION_INFO_V1(tokenbill_check_time);

/* Whether value is exactly this word. */
bool
tb_text_is(const text *value, const char *word)
{
	size_t		len = strlen(word);

	return VARSIZE_ANY_EXHDR(value) == len &&
		memcmp(VARDATA_ANY(value), word, len) == 0;
}

/* Whether two texts are the same, byte by byte, or both null. */
bool
tb_same_text(const text *a, const text *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* Whether value begins with this prefix. */
bool
tb_text_begins(const text *value, const char *prefix)
{
	size_t		len = strlen(prefix);

	return VARSIZE_ANY_EXHDR(value) >= len &&
		memcmp(VARDATA_ANY(value), prefix, len) == 0;
}

/*
 * tb_null_argument
 *		The refusal of a null where a value is needed (22004).
 */
Refusal *
tb_null_argument(const char *argument)
{
	return tb_refusal(ERRCODE_NULL_VALUE_NOT_ALLOWED,
					  tb_json("argument:s", argument),
					  "Pass a value for it.",
					  "%s must not be null", argument);
}

/*
 * Whether a control character begins here: of ASCII, or one of the second set, U+0080
 * to U+009F, which terminals obey as well.  That set is two bytes in UTF-8; in other
 * encodings those bytes may be letters.
 */
static inline bool
is_control(const char *s, int len)
{
	unsigned char c = s[0];

	return c < 0x20 || c == 0x7f ||
		(unlikely(c == 0xc2) && len > 1 && (unsigned char) s[1] < 0xa0 &&
		 GetDatabaseEncoding() == PG_UTF8);
}

/*
 * tb_check_optional_text
 *		A text that may be null, but not empty, too long, or hold a control
 *		character or a card number (22023).
 */
Refusal *
tb_check_optional_text(const char *argument, text *value, int max_bytes)
{
	const char *s;
	int			len;

	if (value == NULL)
		return NULL;
	s = VARDATA_ANY(value);
	len = VARSIZE_ANY_EXHDR(value);

	if (len == 0)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", argument),
						  "Pass at least one character.",
						  "%s must not be empty", argument);
	if (len > max_bytes)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s bytes:i max_bytes:i", argument,
								  (int64) len, (int64) max_bytes),
						  "Use a shorter one, or a digest of it.",
						  "%s is too long: %d bytes, at most %d are allowed",
						  argument, len, max_bytes);
	for (int i = 0; i < len; i++)
	{
		if (is_control(s + i, len - i))
			return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							  tb_json("argument:s position:i", argument,
									  (int64) i + 1),
							  "Use printable characters only.",
							  "%s contains a control character", argument);
	}
	if (tb_has_card_number(s, len))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", argument),
						  "Card numbers must not be stored here; pass the token that the payment gateway gave for the card.",
						  "%s looks like a payment card number", argument);
	return NULL;
}

/*
 * tb_check_text
 *		The same for a text that must not be null (22004).
 */
Refusal *
tb_check_text(const char *argument, text *value, int max_bytes)
{
	if (value == NULL)
		return tb_null_argument(argument);
	return tb_check_optional_text(argument, value, max_bytes);
}

/*
 * tb_check_key
 *		A key the caller chose: a text that does not begin like derived ones.
 */
Refusal *
tb_check_key(const char *argument, text *value)
{
	Refusal    *refusal = tb_check_text(argument, value, TB_MAX_NAME);

	if (refusal == NULL && tb_text_begins(value, TB_DERIVED_PREFIX))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", argument),
						  "Keys that begin like this are derived by tokenbill itself; choose another.",
						  "%s must not begin with \"%s\"", argument,
						  TB_DERIVED_PREFIX);
	return refusal;
}

/*
 * tb_check_amount
 *		An amount of money: not null (22004), more than zero (22023), less than
 *		10^18 and of at most 30 decimals (22003).
 */
Refusal *
tb_check_amount(const char *argument, Numeric value)
{
	if (value == NULL)
		return tb_null_argument(argument);
	if (numeric_is_nan(value) || numeric_is_inf(value))
		return tb_refusal(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  tb_json("argument:s", argument),
						  "Pass a finite number.",
						  "%s must be a finite number", argument);

	if (tb_compare(value, tb_zero()) <= 0)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", argument),
						  "Amounts are positive; the function says which way they go.",
						  "%s must be greater than zero", argument);
	if (!tb_balance_fits(value))
		return tb_refusal(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  tb_json("argument:s", argument),
						  "Amounts are less than 10^18.",
						  "%s is too large", argument);
	if (DatumGetInt32(DirectFunctionCall1(numeric_min_scale,
										  NumericGetDatum(value))) > AMOUNT_DECIMALS)
		return tb_refusal(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  tb_json("argument:s max_decimals:i", argument,
								  (int64) AMOUNT_DECIMALS),
						  "Round it first: tokenbill does not round money.",
						  "%s has more than %d decimals", argument,
						  AMOUNT_DECIMALS);
	return NULL;
}

/*
 * tb_check_metadata
 *		The caller's notes: null, or a JSON object of at most 8 KB with no card
 *		number in any key, string or number of it (22023).
 */
Refusal *
tb_check_metadata(const char *argument, Jsonb *value)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (value == NULL)
		return NULL;
	if (!JB_ROOT_IS_OBJECT(value) || JB_ROOT_IS_SCALAR(value))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", argument),
						  "Pass an object, such as {\"user\": \"u1\"}.",
						  "%s must be a JSON object", argument);
	if (VARSIZE(value) > TB_MAX_METADATA)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s bytes:i max_bytes:i", argument,
								  (int64) VARSIZE(value),
								  (int64) TB_MAX_METADATA),
						  "Keep large things elsewhere and store a reference here.",
						  "%s is too large", argument);

	it = JsonbIteratorInit(&value->root);
	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		bool		found = false;

		if (token != WJB_KEY && token != WJB_VALUE && token != WJB_ELEM)
			continue;
		if (v.type == jbvString)
			found = tb_has_card_number(v.val.string.val, v.val.string.len);
		else if (v.type == jbvNumeric)
			found = tb_is_card_number(v.val.numeric);
		if (found)
			return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							  tb_json("argument:s", argument),
							  "Card numbers must not be stored here; pass the token that the payment gateway gave for the card.",
							  "%s contains what looks like a payment card number",
							  argument);
	}
	return NULL;
}

/*
 * tb_check_choice
 *		One of two words, not null.
 */
Refusal *
tb_check_choice(const char *argument, text *value, const char *first,
				const char *second)
{
	if (value == NULL)
		return tb_null_argument(argument);
	if (tb_text_is(value, first) || tb_text_is(value, second))
		return NULL;
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s allowed:j", argument,
							  psprintf("[\"%s\", \"%s\"]", first, second)),
					  "Pass one of the two words.",
					  "%s must be \"%s\" or \"%s\"", argument, first, second);
}

/*
 * tb_check_ttl
 *		A time to live: not null (22004), positive and at most 366 days (22023).
 *		Sets *expires_at, counted from now.
 */
Refusal *
tb_check_ttl(Interval *ttl, TimestampTz now, TimestampTz *expires_at)
{
	/* far below any overflow of timestamptz_pl_interval */
	const int32 many_months = MAX_TTL_DAYS;

	if (ttl == NULL)
		return tb_null_argument("ttl");
	if (abs(ttl->month) <= many_months && abs(ttl->day) <= MAX_TTL_DAYS * 2 &&
		ttl->time / USECS_PER_DAY <= MAX_TTL_DAYS * 2 &&
		ttl->time / USECS_PER_DAY >= -MAX_TTL_DAYS * 2)
	{
		*expires_at = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
															  TimestampTzGetDatum(now),
															  IntervalPGetDatum(ttl)));
		if (*expires_at > now &&
			*expires_at - now <= MAX_TTL_DAYS * USECS_PER_DAY)
			return NULL;
	}
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s max_days:i", "ttl",
							  (int64) MAX_TTL_DAYS),
					  "Pass a positive interval, such as '10 minutes'.",
					  "ttl must be longer than zero and at most %d days",
					  MAX_TTL_DAYS);
}

/*
 * tb_argument_name
 *		The first argument of the SQL faces of checks: which argument is looked at.
 *		Nobody but tokenbill itself may call those, and it names it; a null is none.
 */
char *
tb_argument_name(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(0) ? pstrdup("argument") :
		text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/*
 * check_text(argument text, value text, max_bytes integer) -> text
 *		SQL face of tb_check_text, for the functions written in SQL.
 */
Datum
tokenbill_check_text(PG_FUNCTION_ARGS)
{
	tb_raise(tb_check_text(tb_argument_name(fcinfo),
						   PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1),
						   PG_GETARG_INT32(2)));
	PG_RETURN_DATUM(PG_GETARG_DATUM(1));
}

/*
 * check_amount(argument text, value numeric) -> numeric
 */
Datum
tokenbill_check_amount(PG_FUNCTION_ARGS)
{
	tb_raise(tb_check_amount(tb_argument_name(fcinfo),
							 PG_ARGISNULL(1) ? NULL : PG_GETARG_NUMERIC(1)));
	PG_RETURN_DATUM(PG_GETARG_DATUM(1));
}

/*
 * check_metadata(argument text, value jsonb) -> jsonb
 */
Datum
tokenbill_check_metadata(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	tb_raise(tb_check_metadata(tb_argument_name(fcinfo),
							   PG_GETARG_JSONB_P(1)));
	PG_RETURN_DATUM(PG_GETARG_DATUM(1));
}

/*
 * tb_check_time
 *		A time in the years 2000 to 2099, or 22008: one from another century is a
 *		mistake in the caller.
 */
Refusal *
tb_check_time(const char *argument, TimestampTz value)
{
	/* 2000-01-01 is zero; the century has 36525 days */
	if (!TIMESTAMP_NOT_FINITE(value) && value >= 0 &&
		value < INT64CONST(36525) * USECS_PER_DAY)
		return NULL;
	return tb_refusal(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
					  tb_json("argument:s", argument),
					  "Pass a time in the years 2000 to 2099.",
					  "%s is from another century", argument);
}

/*
 * check_time(argument text, value timestamptz) -> timestamptz
 *		Refuses null (22004), and what tb_check_time() does.
 */
Datum
tokenbill_check_time(PG_FUNCTION_ARGS)
{
	char	   *argument = tb_argument_name(fcinfo);

	if (PG_ARGISNULL(1))
		tb_raise(tb_null_argument(argument));
	tb_raise(tb_check_time(argument, PG_GETARG_TIMESTAMPTZ(1)));
	PG_RETURN_TIMESTAMPTZ(PG_GETARG_TIMESTAMPTZ(1));
}
