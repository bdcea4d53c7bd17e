/*
 * trail.c
 *	  Follow an account's lines: does each follow from the one before?
 *
 * Nothing that is read here is trusted: whoever has changed the ledger behind
 * tokenbill's back may have dropped its constraints as well.  So columns may be
 * null, hashes of any length, amounts NaN or of a hundred thousand digits; each
 * is a problem to report, and none an error, which would hide the others.
 *
 * After a bad line we go on from what it says, so that it does not make problems
 * of all that follow.
 */
#include "verify.h"

#include "catalog/pg_type_d.h"
#include "check.h"
#include "credit.h"
#include "mb/pg_wchar.h"
#include "money.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/memutils.h"

/* What is quoted of a text that may be anything. */
#define QUOTED_BYTES 64

/* What a kind of line may do: the sign of its amount, and what to held. */
typedef struct Kind
{
	const char *word;
	int			least_sign;
	int			greatest_sign;
	bool		raises_held;
	bool		lowers_held;
} Kind;

static const Kind kinds[] = {
	{"charge", -1, 0, false, false},
	{"hold", 0, 0, true, false},
	{"capture", -1, 0, false, true},
	{"release", 0, 0, false, true},
	{"extend", 0, 0, true, false},
	{"expiry", -1, 0, false, true},
	{"recharge", 0, 1, false, false},
	{"refund", 0, 1, false, false},
	{"grant", 0, 1, false, false},
	{"adjustment", -1, 1, false, false},
	{"clawback", -1, 1, false, false}
};

static Numeric
not_a_number(void)
{
	static Numeric nan = NULL;

	if (unlikely(nan == NULL))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		nan = DatumGetNumeric(DirectFunctionCall3(numeric_in,
												  CStringGetDatum("NaN"),
												  ObjectIdGetDatum(InvalidOid),
												  Int32GetDatum(-1)));
		MemoryContextSwitchTo(old);
	}
	return nan;
}

static bool
is_finite(Numeric value)
{
	return value != NULL && !numeric_is_nan(value) && !numeric_is_inf(value);
}

/* The same bytes are the same number; comparing numbers costs more. */
static bool
is_equal(Numeric a, Numeric b)
{
	return (VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0) ||
		tb_compare(a, b) == 0;
}

/*
 * tb_keep
 *		Keep a number; NaN for null, and for one of more digits than any balance.
 */
void
tb_keep(KeptNumeric *kept, Numeric value)
{
	if (value == NULL || VARSIZE(value) > sizeof(kept->data))
		value = not_a_number();
	memcpy(kept->data, value, VARSIZE(value));
}

/*
 * tb_shift
 *		Count in that an amount was found where another was to be expected; null
 *		is one that cannot be told.
 */
void
tb_shift(Currency *currency, Numeric expected, Numeric found)
{
	Numeric		result = NULL;
	bool		overflow = false;

	if (currency == NULL)
		return;
	if (expected != NULL && found != NULL)
		result = numeric_sub_opt_error(found, expected, &overflow);
	if (result != NULL && !overflow)
		result = numeric_add_opt_error(KEPT(&currency->difference), result,
									   &overflow);
	tb_keep(&currency->difference, overflow ? NULL : result);
}

/*
 * tb_number
 *		A number as JSON; as text, and shortened, if it is none of money's.
 */
char *
tb_number(Numeric value)
{
	char	   *digits;

	if (value == NULL)
		return "null";
	digits = DatumGetCString(DirectFunctionCall1(numeric_out,
												 NumericGetDatum(value)));
	if (!is_finite(value))
		return psprintf("\"%s\"", digits);
	if (strlen(digits) > QUOTED_BYTES)
		return psprintf("\"%.*s...\"", QUOTED_BYTES, digits);
	return digits;
}

static char *
hex(const void *data, int length)
{
	char	   *result = palloc(2 * length + 1);

	result[hex_encode(data, length, result)] = '\0';
	return result;
}

/* A hash as hexadecimal digits; of one that cannot be, the beginning. */
static char *
hash_text(bytea *hash)
{
	if (hash == NULL)
		return NULL;
	return hex(VARDATA_ANY(hash), Min(VARSIZE_ANY_EXHDR(hash), QUOTED_BYTES));
}

static char *
quoted_text(text *value)
{
	int			length;

	if (value == NULL)
		return NULL;
	length = pg_mbcliplen(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value),
						  QUOTED_BYTES);
	return pnstrdup(VARDATA_ANY(value), length);
}

static char *
time_text(TimestampTz at)
{
	int			utc = 0;
	char	   *buffer = palloc(MAXDATELEN + 1);

	return JsonEncodeDateTime(buffer, TimestampTzGetDatum(at), TIMESTAMPTZOID,
							  &utc);
}

/*
 * tb_standing, tb_trail_standing
 *		Where an account stands, as JSON: by a row's seq, balance, held and hash,
 *		or by the lines that were read.
 */
char *
tb_standing(const Datum *values, const bool *nulls)
{
	return tb_json("seq:j balance:j held:j hash:s",
				   nulls[0] ? NULL :
				   psprintf(INT64_FORMAT, DatumGetInt64(values[0])),
				   tb_number(nulls[1] ? NULL : DatumGetNumeric(values[1])),
				   tb_number(nulls[2] ? NULL : DatumGetNumeric(values[2])),
				   hash_text(nulls[3] ? NULL : DatumGetByteaPP(values[3])));
}

char *
tb_trail_standing(const Trail *trail)
{
	return tb_json("seq:i balance:j held:j hash:s", trail->seq,
				   tb_number(KEPT(&trail->balance)),
				   tb_number(KEPT(&trail->held)),
				   trail->has_hash ? hex(trail->hash, TB_HASH_BYTES) : NULL);
}

/*
 * tb_stands_at
 *		Whether a row's seq, balance, held and hash are where the lines lead.
 */
bool
tb_stands_at(const Trail *trail, const Datum *values, const bool *nulls)
{
	bytea	   *hash;

	if (nulls[0] || nulls[1] || nulls[2] || nulls[3] == trail->has_hash ||
		DatumGetInt64(values[0]) != trail->seq ||
		!is_equal(DatumGetNumeric(values[1]), KEPT(&trail->balance)) ||
		!is_equal(DatumGetNumeric(values[2]), KEPT(&trail->held)))
		return false;
	if (!trail->has_hash)
		return true;
	hash = DatumGetByteaPP(values[3]);
	return VARSIZE_ANY_EXHDR(hash) == TB_HASH_BYTES &&
		memcmp(VARDATA_ANY(hash), trail->hash, TB_HASH_BYTES) == 0;
}

/*
 * tb_report, tb_report_on
 *		Add a problem to the result: account and seq may be null, detail is JSON.
 */
void
tb_report(Findings *findings, text *account, const int64 *seq,
		  const char *problem, char *detail)
{
	Datum		values[4] = {0};
	bool		nulls[4] = {false};

	values[0] = PointerGetDatum(account);
	nulls[0] = account == NULL;
	if (seq != NULL)
		values[1] = Int64GetDatum(*seq);
	nulls[1] = seq == NULL;
	values[2] = CStringGetTextDatum(problem);
	values[3] = DirectFunctionCall1(jsonb_in, CStringGetDatum(detail));
	tuplestore_putvalues(findings->store, findings->desc, values, nulls);
}

void
tb_report_on(Findings *findings, const Trail *trail, int64 seq,
			 const char *problem, char *detail)
{
	tb_report(findings,
			  cstring_to_text_with_len(trail->name, trail->name_length), &seq,
			  problem, detail);
}

/*
 * tb_take_line_apart
 *		Make a line of a row that was selected as TB_LINE_COLUMNS.
 */
void
tb_take_line_apart(const Datum *values, const bool *nulls, FoundLine *line)
{
	static const char *const required[17] = {
		"account", "seq", "created_at", "kind", "amount", "balance", "held",
		"credit_limit", "contra", NULL, NULL, NULL, NULL, NULL,
		"idempotency_key", NULL, "hash"
	};
	ChainedLine *fields = &line->fields;

	line->missing = NULL;
	for (int i = (int) lengthof(required) - 1; i >= 0; i--)
	{
		if (unlikely(nulls[i] && required[i] != NULL))
			line->missing = required[i];
	}
	line->hashable = line->missing == NULL || line->missing == required[16];

#define GET(i, getter) (nulls[i] ? NULL : getter(values[i]))
	fields->account = GET(0, DatumGetTextPP);
	fields->seq = nulls[1] ? 0 : DatumGetInt64(values[1]);
	fields->created_at = nulls[2] ? 0 : DatumGetTimestampTz(values[2]);
	fields->kind = GET(3, DatumGetTextPP);
	fields->amount = GET(4, DatumGetNumeric);
	fields->balance = GET(5, DatumGetNumeric);
	fields->held = GET(6, DatumGetNumeric);
	fields->credit_limit = GET(7, DatumGetNumeric);
	fields->contra = GET(8, DatumGetTextPP);
	fields->service = GET(9, DatumGetTextPP);
	fields->usage = GET(10, DatumGetJsonbP);
	fields->rates = GET(11, DatumGetJsonbP);
	fields->metadata = GET(12, DatumGetJsonbP);
	fields->request = GET(13, DatumGetJsonbP);
	fields->idempotency_key = GET(14, DatumGetTextPP);
	fields->ref = GET(15, DatumGetTextPP);
	line->hash = GET(16, DatumGetByteaPP);
	fields->cost = GET(17, DatumGetNumeric);
#undef GET
}

static void
follow_hash(Findings *findings, Trail *trail, const FoundLine *line,
			bool follows)
{
	bool		usable = line->hash != NULL &&
		VARSIZE_ANY_EXHDR(line->hash) == TB_HASH_BYTES;
	uint8		hash[TB_HASH_BYTES];

	if (line->missing != NULL)
		tb_report_on(findings, trail, line->fields.seq, "hash",
					 tb_json("missing:s", line->missing));

	if (line->hashable)
	{
		tb_line_hash(&line->fields, trail->has_hash ? trail->hash : NULL, hash);
		if (line->missing == NULL && follows &&
			(!usable ||
			 memcmp(VARDATA_ANY(line->hash), hash, TB_HASH_BYTES) != 0))
			tb_report_on(findings, trail, line->fields.seq, "hash",
						 tb_json("expected:s found:s",
								 hex(hash, TB_HASH_BYTES),
								 hash_text(line->hash)));
		memcpy(trail->hash, hash, TB_HASH_BYTES);
	}
	if (usable)
		memcpy(trail->hash, VARDATA_ANY(line->hash), TB_HASH_BYTES);
	trail->has_hash = true;
}

static void
follow_balance(Findings *findings, Trail *trail, const ChainedLine *line,
			   bool follows)
{
	Numeric		before = KEPT(&trail->balance);
	Numeric		expected = NULL;
	bool		overflow = false;
	bool		agrees = false;

	if (line->amount != NULL)
		expected = numeric_add_opt_error(before, line->amount, &overflow);
	if (overflow)
		expected = NULL;
	if (is_finite(line->balance))
		agrees = expected != NULL && is_equal(line->balance, expected);

	if (unlikely(!agrees))
	{
		/* without the line before, or its balance, only what stands alone */
		if (line->balance != NULL &&
			((follows && is_finite(before)) || !tb_balance_fits(line->balance)))
			tb_report_on(findings, trail, line->seq, "balance",
						 tb_json("expected:j found:j",
								 follows ? tb_number(expected) : NULL,
								 tb_number(line->balance)));
		tb_shift(trail->currency, expected, line->balance);
	}
	tb_keep(&trail->balance, line->balance);
}

static void
follow_held(Findings *findings, Trail *trail, const ChainedLine *line,
			const Kind *kind, bool follows)
{
	Numeric		before = KEPT(&trail->held);
	bool		good;

	if (likely(line->held != NULL && is_equal(line->held, before)))
		good = is_finite(before);
	else if (line->held == NULL)
		good = true;			/* reported with the hash */
	else
	{
		good = is_finite(line->held) && tb_balance_fits(line->held) &&
			tb_compare(line->held, tb_zero()) >= 0;
		if (follows && kind != NULL && is_finite(before))
			good = good && (tb_compare(line->held, before) > 0 ?
							kind->raises_held : kind->lowers_held);
	}
	if (unlikely(!good))
		tb_report_on(findings, trail, line->seq, "held",
					 tb_json("kind:s before:j found:j",
							 quoted_text(line->kind), tb_number(before),
							 tb_number(line->held)));
	tb_keep(&trail->held, line->held);
}

static const Kind *
check_kind(Findings *findings, const Trail *trail, const ChainedLine *line)
{
	if (line->kind == NULL)
		return NULL;
	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		if (tb_text_is(line->kind, kinds[i].word))
			return &kinds[i];
	}
	tb_report_on(findings, trail, line->seq, "kind",
				 tb_json("found:s", quoted_text(line->kind)));
	return NULL;
}

static void
check_amount(Findings *findings, const Trail *trail, const ChainedLine *line,
			 const Kind *kind)
{
	int			sign;
	bool		good;

	if (line->amount == NULL)
		return;
	sign = tb_compare(line->amount, tb_zero());
	good = sign == 0 || tb_balance_fits(line->amount);
	if (kind != NULL)
		good = good && (sign >= 0 || kind->least_sign < 0) &&
			(sign <= 0 || kind->greatest_sign > 0);
	/* in the sandbox money comes and expires, but is never spent */
	if (sign < 0 && kind != NULL && kind->greatest_sign == 0 &&
		line->contra != NULL && tb_text_is(line->contra, "sandbox") &&
		!(line->idempotency_key != NULL && tb_is_credit_expiry(line)))
		good = false;
	if (!good)
		tb_report_on(findings, trail, line->seq, "amount",
					 tb_json("kind:s contra:s found:j",
							 quoted_text(line->kind),
							 quoted_text(line->contra),
							 tb_number(line->amount)));
}

/*
 * tb_follow
 *		Check a line that comes after those that have been read, and go there.
 *
 * Where lines are missing before it, only what can be told of it alone is.
 */
void
tb_follow(Findings *findings, Trail *trail, const FoundLine *line)
{
	const ChainedLine *fields = &line->fields;
	bool		follows = fields->seq == trail->seq + 1;
	const Kind *kind;

	if (unlikely(!follows))
		tb_report_on(findings, trail, fields->seq, "gap",
					 tb_json("expected:i found:i", trail->seq + 1,
							 fields->seq));
	if (unlikely(fields->created_at < trail->created_at))
		tb_report_on(findings, trail, fields->seq, "time",
					 tb_json("before:s found:s", time_text(trail->created_at),
							 time_text(fields->created_at)));
	kind = check_kind(findings, trail, fields);
	check_amount(findings, trail, fields, kind);
	follow_hash(findings, trail, line, follows);
	follow_balance(findings, trail, fields, follows);
	follow_held(findings, trail, fields, kind, follows);
	trail->seq = fields->seq;
	trail->created_at = fields->created_at;
}

/*
 * tb_repeated
 *		A line with a number that has been there already.
 */
void
tb_repeated(Findings *findings, Trail *trail, const FoundLine *line)
{
	tb_report_on(findings, trail, line->fields.seq, "gap",
				 tb_json("found:i repeated:b", line->fields.seq, true));
	tb_shift(trail->currency, line->fields.amount, tb_zero());
}
