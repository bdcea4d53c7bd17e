/*
 * classify.c
 *	  What the answer of a vendor that failed means: the rules of error_rule, and
 *	  error_match.c, which needs nothing of the server.
 *
 * The rules are kept in the backend until the table changes, which a trigger on
 * it tells every session by invalidating the table's relation cache entry.
 */
#include "classify.h"

#include "tokenbill.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "error_match.h"
#include "http_sql.h"
#include "query.h"

PG_FUNCTION_INFO_V1(tokenbill_match_error);
PG_FUNCTION_INFO_V1(tokenbill_text_bytes);
PG_FUNCTION_INFO_V1(tokenbill_forget_error_rules);

/* What is told of a rule that an answer goes by */
typedef struct RuleText
{
	text	   *name;
	text	   *class;
	bool		retryable;
	Interval   *retry_after;	/* NULL: the answer has to say */
	text	   *advice;
} RuleText;

/* The rules in their order, and a text for each, in a context of their own */
static MemoryContext rules_context = NULL;
static ErrorRule *rules = NULL;
static RuleText *rule_texts = NULL;
static int	nrules = 0;
static bool rules_valid = false;
static Oid	rule_table = InvalidOid;

static void
forget(Datum arg, Oid relid)
{
	if (relid == rule_table || relid == InvalidOid)
		rules_valid = false;
}

/*
 * tb_classify_init
 *		Called once, from _PG_init.
 */
void
tb_classify_init(void)
{
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
}

/* ---- rules */

/*
 * A text of the server's as UTF-8 in a string: answers are compared in that.  What
 * has no place in it, for which the encoding has to be a strange one, ends it.
 */
static char *
utf8_text(const char *value, int length, int *result_length)
{
	int			encoding = GetDatabaseEncoding();
	Oid			converter = InvalidOid;
	size_t		room = (size_t) length * MAX_CONVERSION_GROWTH + 1;
	char	   *result;

	if (encoding != PG_UTF8 && encoding != PG_SQL_ASCII)
		converter = FindDefaultConversionProc(encoding, PG_UTF8);
	if (!OidIsValid(converter))
	{
		*result_length = length;
		return pnstrdup(value, length);
	}
	result = palloc_extended(room, MCXT_ALLOC_HUGE);
	pg_do_encoding_conversion_buf(converter, encoding, PG_UTF8, (unsigned char *) value, length,
								  (unsigned char *) result, Min(room, INT_MAX), true);
	*result_length = strlen(result);
	return result;
}

static char *
utf8_string(Datum value)
{
	text	   *said = DatumGetTextPP(value);
	int			length;

	return utf8_text(VARDATA_ANY(said), VARSIZE_ANY_EXHDR(said), &length);
}

static char *
member_string(JsonbValue *value)
{
	int			length;

	return utf8_text(value->val.string.val, value->val.string.len, &length);
}

/*
 * A pattern, in which \u and four hexadecimal digits are the character of that
 * number: the database may have no other way to say it.
 */
static char *
read_pattern(JsonbValue *value)
{
	char	   *pattern = member_string(value);
	char	   *to = pattern;

	for (const char *from = pattern; *from != '\0';)
	{
		unsigned char digits[2];
		uint64		n = 0;

		if (from[0] == '\\' && from[1] == 'u' && strspn(from + 2, "0123456789abcdefABCDEF") >= 4)
			n = hex_decode(from + 2, 4, (char *) digits);
		if (n == 2 && is_valid_unicode_codepoint(digits[0] << 8 | digits[1]))
		{
			/* at most three bytes, in the place of six */
			unicode_to_utf8(digits[0] << 8 | digits[1], (unsigned char *) to);
			to += pg_utf_mblen((unsigned char *) to);
			from += 6;
		}
		else
			*to++ = *from++;
	}
	*to = '\0';
	return pattern;
}

/* The patterns of a place: one text, or those of an array */
static void
read_patterns(JsonbValue *value, ErrorCondition *condition)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	element;

	if (value->type == jbvString)
	{
		condition->patterns = palloc(sizeof(char *));
		condition->patterns[condition->npatterns++] = read_pattern(value);
	}
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		return;
	condition->patterns = palloc(sizeof(char *) * (JsonContainerSize(value->val.binary.data) + 1));
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM && element.type == jbvString)
			condition->patterns[condition->npatterns++] = read_pattern(&element);
	}
}

/*
 * The conditions of an object.  What the functions would not have let in is not
 * read: a place without patterns only has to be there.
 */
static ErrorCondition *
read_conditions(Jsonb *object, int *n)
{
	ErrorCondition *conditions = palloc0(sizeof(ErrorCondition) * (JB_ROOT_COUNT(object) + 1));
	JsonbIterator *iterator = JsonbIteratorInit(&object->root);
	JsonbIteratorToken token;
	JsonbValue	value;

	*n = 0;
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			conditions[*n].place = member_string(&value);
		else if (token == WJB_VALUE)
			read_patterns(&value, &conditions[(*n)++]);
	}
	return conditions;
}

static void
read_rule(HeapTuple tuple, TupleDesc desc, ErrorRule *rule, RuleText *told)
{
	Datum		values[10];
	bool		nulls[10];

	heap_deform_tuple(tuple, desc, values, nulls);
	told->name = DatumGetTextPCopy(values[0]);
	rule->vendor = nulls[1] ? NULL : utf8_string(values[1]);
	rule->status = nulls[2] ? NULL : utf8_string(values[2]);
	rule->body = read_conditions(DatumGetJsonbP(values[3]), &rule->nbody);
	rule->headers = read_conditions(DatumGetJsonbP(values[4]), &rule->nheaders);
	told->class = DatumGetTextPCopy(values[5]);
	told->retryable = DatumGetBool(values[6]);
	told->retry_after = NULL;
	if (!nulls[7])
	{
		told->retry_after = palloc(sizeof(Interval));
		memcpy(told->retry_after, DatumGetIntervalP(values[7]), sizeof(Interval));
	}
	rule->wait = nulls[8] ? NULL : utf8_string(values[8]);
	told->advice = DatumGetTextPCopy(values[9]);
}

/* Read the rules, unless they are here already.  Works as the function's owner. */
static void
load_rules(FunctionCallInfo fcinfo)
{
	static Statement query = {
		.sql = "SELECT r.rule, r.vendor, r.status, r.body, r.headers, r.class, r.retryable,"
		" r.retry_after, r.wait, r.advice"
		" FROM tokenbill.error_rule r"
		" WHERE NOT r.builtin OR NOT EXISTS (SELECT FROM tokenbill.error_rule o"
		" WHERE o.rule OPERATOR(pg_catalog.=) r.rule AND NOT o.builtin)"
		" ORDER BY r.priority, r.vendor IS NULL, r.builtin, r.rule"
	};
	Session		session;
	MemoryContext context;
	MemoryContext old;
	ErrorRule  *new_rules;
	RuleText   *new_texts;
	uint64		n;

	AcceptInvalidationMessages();
	/* what an old snapshot shows is not kept for others */
	if (likely(rules_valid && rules_context != NULL && !IsolationUsesXactSnapshot()))
		return;

	/* whatever fails from here on, there are none */
	if (rules_context != NULL)
		MemoryContextDelete(rules_context);
	rules_context = NULL;
	nrules = 0;
	tb_enter(fcinfo, &session);
	rule_table = get_relname_relid("error_rule", get_namespace_oid("tokenbill", false));
	rules_valid = !IsolationUsesXactSnapshot();
	n = tb_run(&query, NULL, NULL);
	/* the transaction's until it is whole: an error takes it away */
	context = AllocSetContextCreate(CurrentMemoryContext, "tokenbill error rules",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	new_rules = palloc0(sizeof(ErrorRule) * (n + 1));
	new_texts = palloc0(sizeof(RuleText) * (n + 1));
	for (uint64 i = 0; i < n; i++)
		read_rule(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, &new_rules[i], &new_texts[i]);
	MemoryContextSwitchTo(old);
	tb_leave(&session);

	MemoryContextSetParent(context, CacheMemoryContext);
	rules_context = context;
	rules = new_rules;
	rule_texts = new_texts;
	nrules = n;
}

/* ---- answers */

/*
 * What an answer said, as a text of the server's; where its encoding has no such
 * characters, they are question marks.
 */
static Datum
server_text(const char *said, size_t length)
{
	char	   *copy = pnstrdup(said, length);
	int			encoding = GetDatabaseEncoding();
	Oid			converter = InvalidOid;
	size_t		room = length * MAX_CONVERSION_GROWTH + 1;
	char	   *result;

	if (encoding == PG_UTF8)
		return PointerGetDatum(cstring_to_text(copy));
	if (encoding != PG_SQL_ASCII)
		converter = FindDefaultConversionProc(PG_UTF8, encoding);
	if (OidIsValid(converter))
	{
		result = palloc(room);
		if (pg_do_encoding_conversion_buf(converter, PG_UTF8, encoding,
										  (unsigned char *) copy, length,
										  (unsigned char *) result, room, true) == (int) length)
			return PointerGetDatum(cstring_to_text(result));
	}
	for (char *c = copy; *c != '\0'; c++)
	{
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	}
	return PointerGetDatum(cstring_to_text(copy));
}

/*
 * match_error(vendor text, status integer, body bytea, headers jsonb) -> rule,
 *		class, retryable, retry_after, advice, code, message, wait
 */
Datum
tokenbill_match_error(PG_FUNCTION_ARGS)
{
	ErrorReply	reply = {NULL, TB_NO_STATUS, "", 0, NULL, 0, 0};
	ErrorMatch *match = palloc(sizeof(ErrorMatch));
	Datum		values[8];
	bool		nulls[8];
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "match_error() must return a row");
	load_rules(fcinfo);
	if (!PG_ARGISNULL(0))
		reply.vendor = utf8_string(PG_GETARG_DATUM(0));
	if (!PG_ARGISNULL(1))
		reply.status = PG_GETARG_INT32(1);
	if (!PG_ARGISNULL(2))
	{
		bytea	   *body = PG_GETARG_BYTEA_PP(2);

		reply.body = VARDATA_ANY(body);
		reply.length = VARSIZE_ANY_EXHDR(body);
	}
	if (!PG_ARGISNULL(3) && JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(3)))
		reply.headers = tb_read_headers(PG_GETARG_JSONB_P(3), &reply.nheaders);
	reply.now_ms = tb_now_ms();
	tb_match_error(rules, nrules, &reply, match);

	memset(nulls, true, sizeof(nulls));
	if (match->rule >= 0)
	{
		RuleText   *told = &rule_texts[match->rule];

		memset(nulls, false, 5);
		values[0] = PointerGetDatum(told->name);
		values[1] = PointerGetDatum(told->class);
		values[2] = BoolGetDatum(told->retryable);
		nulls[3] = told->retry_after == NULL;
		values[3] = IntervalPGetDatum(told->retry_after);
		values[4] = PointerGetDatum(told->advice);
	}
	if (match->code_length > 0)
	{
		nulls[5] = false;
		values[5] = server_text(match->code, match->code_length);
	}
	if (match->message_length > 0)
	{
		nulls[6] = false;
		values[6] = server_text(match->message, match->message_length);
	}
	if (match->waits)
	{
		Interval   *wait = palloc0(sizeof(Interval));

		wait->time = match->wait_ms * 1000;
		nulls[7] = false;
		values[7] = IntervalPGetDatum(wait);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * text_bytes(said text) -> bytea
 */
Datum
tokenbill_text_bytes(PG_FUNCTION_ARGS)
{
	/*
	 * a longer body is none that is looked at: one byte more says that it is
	 * longer
	 */
	text	   *said = PG_GETARG_TEXT_P_SLICE(0, 0, TB_ERROR_BODY + 1);
	int			length;
	char	   *bytes = utf8_text(VARDATA_ANY(said), VARSIZE_ANY_EXHDR(said), &length);

	PG_RETURN_BYTEA_P(cstring_to_text_with_len(bytes, length));
}

/*
 * forget_error_rules() -> trigger
 */
Datum
tokenbill_forget_error_rules(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("forget_error_rules() must be called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
