/*
 * call_record.c
 *	  What came of calls, into the database.
 *
 * A token cannot be asked for twice: with the answer the refresh token of before may
 * have become worthless.  So where an answer with tokens cannot be recorded, because
 * somebody has locked its row, it is kept, encrypted, and tried again.
 */
#include "call_record.h"

#include "call.h"
#include "key_hold.h"
#include "query.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/*
 * For how long an answer with tokens is kept that cannot be recorded: as long as its
 * lease, which is for another minute than the request may take.
 */
#define KEEP_US (USECS_PER_MINUTE)

/* An answer with tokens that could not be recorded yet, in a context of its own. */
typedef struct KeptAnswer
{
	MemoryContext context;
	HttpAnswer	answer;
	TokenRecord tokens;
	TimestampTz until;
} KeptAnswer;

/* An answer that waits for the master key: what is secret in it is not encrypted. */
typedef struct UnsealedAnswer
{
	HttpAnswer	answer;
	TimestampTz until;
} UnsealedAnswer;

static Duty record_duty = {.name = "record a call",.not_before = DT_NOBEGIN};
static Duty token_duty = {.name = "record a token",.not_before = DT_NOBEGIN};

/* Of KeptAnswer *, in TopMemoryContext. */
static List *kept_answers = NIL;

/* Of UnsealedAnswer *, in TopMemoryContext. */
static List *unsealed_answers = NIL;

/* The headers of an answer, as a JSON object. */
static Jsonb *
headers_of(const HttpAnswer *answer)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < answer->header_count; i++)
	{
		JsonbValue	value;

		value.type = jbvString;
		value.val.string.val = answer->headers[i].name;
		value.val.string.len = strlen(answer->headers[i].name);
		pushJsonbValue(&state, WJB_KEY, &value);
		value.val.string.val = answer->headers[i].value;
		value.val.string.len = strlen(answer->headers[i].value);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Step: record what came of a call; there may be calls that follow. */
static void
record(void *arg)
{
	static Statement query = {
		.sql = "SELECT " TB_CALL_COLUMNS
		" FROM tokenbill.record_call($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) c",
		.nargs = 10,
		.types = {TEXTOID, TEXTOID, INT8OID, INT4OID, JSONBOID, BYTEAOID, TEXTOID, TEXTOID, INT4OID,
		JSONBOID}
	};
	Calls	   *calls = arg;
	const HttpAnswer *answer = calls->answer;
	const TokenRecord *tokens = calls->tokens;
	bool		answered = answer->status != 0;
	Datum		values[10];
	char		nulls[11] = "          ";

	values[0] = CStringGetTextDatum(answer->purpose);
	values[1] = CStringGetTextDatum(answer->target);
	values[2] = Int64GetDatum(answer->lease);
	values[3] = Int32GetDatum(answer->status);
	values[4] = JsonbPGetDatum(headers_of(answer));
	nulls[3] = nulls[4] = nulls[5] = answered ? ' ' : 'n';
	nulls[6] = nulls[7] = answered ? 'n' : ' ';
	if (answered && tokens != NULL)
		values[5] = PointerGetDatum(cstring_to_text(tokens->document));
	else if (answered)
		values[5] = PointerGetDatum(cstring_to_text_with_len(answer->body_length > 0 ? answer->body : "",
															 (int) answer->body_length));
	else
	{
		values[6] = CStringGetTextDatum(answer->error);
		values[7] = CStringGetTextDatum(answer->error_kind);
	}
	values[8] = Int32GetDatum(answer->duration_ms);
	nulls[9] = 'n';
	if (tokens != NULL && tokens->secrets != NULL)
	{
		values[9] = JsonbPGetDatum(tokens->secrets);
		nulls[9] = ' ';
	}
	tb_run(&query, values, nulls);
	tb_read_calls(calls);
}

/* Keep a copy of an answer with tokens, to be recorded later. */
static void
keep_answer(const HttpAnswer *answer, const TokenRecord *tokens)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "tokens to record",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	KeptAnswer *kept = palloc0(sizeof(KeptAnswer));

	kept->context = context;
	kept->answer.purpose = pstrdup(answer->purpose);
	kept->answer.target = pstrdup(answer->target);
	kept->answer.lease = answer->lease;
	kept->answer.status = answer->status;
	kept->answer.duration_ms = answer->duration_ms;
	kept->tokens.document = pstrdup(tokens->document);
	kept->tokens.secrets = DatumGetJsonbPCopy(JsonbPGetDatum(tokens->secrets));
	kept->until = GetCurrentTimestamp() + KEEP_US;
	MemoryContextSwitchTo(TopMemoryContext);
	kept_answers = lappend(kept_answers, kept);
	MemoryContextSwitchTo(old);
}

/*
 * tb_record_as
 *		Record an answer, with these in place of its body if it has tokens; calls that
 *		follow are added to the list.
 *
 * If it cannot be recorded as it is, that is recorded in its place, so that the
 * call does not stay open until its lease runs out; but tokens are kept.
 */
void
tb_record_as(Calls *calls, const HttpAnswer *answer, const TokenRecord *tokens)
{
	HttpAnswer	unreadable = {0};

	calls->answer = answer;
	calls->tokens = tokens;
	if (tokens != NULL && tokens->secrets != NULL)
	{
		if (!tb_step(&token_duty, answer->target, record, calls))
			keep_answer(answer, tokens);
		return;
	}
	if (tb_step(&record_duty, answer->target, record, calls))
		return;
	unreadable.purpose = answer->purpose;
	unreadable.target = answer->target;
	unreadable.lease = answer->lease;
	unreadable.error = "the answer could not be recorded; see worker_errors";
	unreadable.error_kind = "protocol";
	unreadable.duration_ms = answer->duration_ms;
	calls->answer = &unreadable;
	calls->tokens = NULL;
	(void) tb_step(&record_duty, answer->target, record, calls);
}

/*
 * Record an answer; what is secret in it is encrypted first.  False if the master key
 * for that is being fetched: then the answer is to be kept as it is.
 */
static bool
record_answer(Calls *calls, const HttpAnswer *answer, bool last_time)
{
	TokenRecord tokens = {0};
	HttpAnswer	unsealed = {0};
	Refusal    *refusal;
	bool		later;

	if (answer->status == 0 || !tb_holds_tokens(answer->purpose))
	{
		tb_record_as(calls, answer, NULL);
		return true;
	}
	refusal = tb_token_seal_answer(answer, &tokens, &later);
	if (later && !last_time)
		return false;
	if (refusal == NULL && !later)
	{
		tb_record_as(calls, answer, &tokens);
		return true;
	}
	unsealed.purpose = answer->purpose;
	unsealed.target = answer->target;
	unsealed.lease = answer->lease;
	unsealed.error = later ? "the master key was not there in time" : refusal->message;
	unsealed.error_kind = "secret";
	unsealed.duration_ms = answer->duration_ms;
	tb_record_as(calls, &unsealed, NULL);
	return true;
}

/* Keep an answer until the master key is there; it stays in the engine's memory. */
static void
keep_unsealed(const HttpAnswer *answer)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	UnsealedAnswer *one = palloc(sizeof(UnsealedAnswer));

	one->answer = *answer;
	one->until = GetCurrentTimestamp() + KEEP_US;
	unsealed_answers = lappend(unsealed_answers, one);
	MemoryContextSwitchTo(old);
}

/* Record those whose key is there by now, or whose time is over; whether any was. */
static bool
record_unsealed(Calls *calls)
{
	List	   *list = unsealed_answers;
	ListCell   *cell;
	bool		any = false;

	unsealed_answers = NIL;
	foreach(cell, list)
	{
		UnsealedAnswer *one = lfirst(cell);
		MemoryContext old;

		if (record_answer(calls, &one->answer, one->until <= GetCurrentTimestamp()))
		{
			tb_http_done(&one->answer);
			pfree(one);
			any = true;
			continue;
		}
		old = MemoryContextSwitchTo(TopMemoryContext);
		unsealed_answers = lappend(unsealed_answers, one);
		MemoryContextSwitchTo(old);
	}
	list_free(list);
	return any;
}

/*
 * Try again what could not be recorded, and give up what is too old; returns whether
 * there is something new.
 */
static bool
record_kept(Calls *calls)
{
	List	   *list = kept_answers;
	ListCell   *cell;

	if (list == NIL || token_duty.not_before > GetCurrentTimestamp())
		return false;
	kept_answers = NIL;
	foreach(cell, list)
	{
		KeptAnswer *kept = lfirst(cell);
		MemoryContext old;

		calls->answer = &kept->answer;
		calls->tokens = &kept->tokens;
		if (tb_step(&token_duty, kept->answer.target, record, calls) ||
			kept->until <= GetCurrentTimestamp())
		{
			MemoryContextDelete(kept->context);
			continue;
		}
		old = MemoryContextSwitchTo(TopMemoryContext);
		kept_answers = lappend(kept_answers, kept);
		MemoryContextSwitchTo(old);
	}
	list_free(list);
	return true;
}

/*
 * tb_record_answers
 *		Record what has come, and what has waited for it; returns whether there was
 *		anything.
 */
bool
tb_record_answers(Calls *calls)
{
	HttpAnswer	answer;
	bool		any = record_kept(calls);

	if (record_unsealed(calls))
		any = true;
	while (tb_http_next(&answer))
	{
		if (record_answer(calls, &answer, false))
			tb_http_done(&answer);
		else
			keep_unsealed(&answer);
		any = true;
	}
	tb_hold_release();
	return any;
}

/*
 * tb_calls_retry_at
 *		When tb_calls_record() is to be called again, whatever happens until then;
 *		DT_NOEND: it need not be.
 */
TimestampTz
tb_calls_retry_at(void)
{
	TimestampTz at = kept_answers == NIL ? DT_NOEND : token_duty.not_before;

	if (unsealed_answers != NIL)
		at = Min(at, ((UnsealedAnswer *) linitial(unsealed_answers))->until);
	return at;
}
