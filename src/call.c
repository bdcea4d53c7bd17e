/*
 * call.c
 *	  Requests to the outside: taken on, made, and recorded.
 *
 *	  claim_calls()		a step			what is to be asked, each under a lease
 *	  the library		a step, once	that makes requests; http_engine.c
 *	  master key		no transaction	calls that need it wait, the others do not
 *	  secrets			a step			those that are needed, still encrypted
 *	  tb_http_start()	no transaction	the secrets are in the request, and wiped here
 *	  ...
 *	  token_answer.c	no transaction	what is secret in the answer is encrypted
 *	  record_call()		a step			what came of it, and what to ask next
 *
 * A call that needs a secret waits in a queue until the master key is there
 * (key_hold.c) and there is room for its request.  Its secret is read only then: it
 * may have been set anew, or brought under another key, in between.
 *
 * What to ask, and what an answer means, is decided in SQL.  A lease that is not
 * recorded is free again after a while, or when the next worker begins.
 */
#include "call.h"

#include "access/htup_details.h"
#include "call_record.h"
#include "call_secret.h"
#include "http.h"
#include "key_hold.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "query.h"
#include "token_answer.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "worker.h"

#define COLUMNS 12

/* How many calls may wait for the master key. */
#define MAX_WAITING 1000

/* How long one waits for room once the key may be there; a lease allows for it. */
#define MAX_ROOM_US (60 * USECS_PER_SEC)

/*
 * A call to be made; the parts of it may be NULL.  All of it is in a context of its
 * own, which is a child of the one it was read in, or of the queue's.
 */
typedef struct Call
{
	dlist_node	node;
	MemoryContext context;
	HttpRequest request;
	Jsonb	   *headers;
	List	   *secrets;		/* of CallSecret * */
	bool		is_form;		/* the body has places for secrets, too */
	bool		asks_nobody;	/* a token is made of its secrets, and that is
								 * all */
	char	   *auth;
	Refusal    *refusal;		/* why it cannot be made */
	const char *about;			/* NULL, or which secret of it that is about */
	TimestampTz since;			/* when it began to wait for the key */
	HoldNumber	newer_than;		/* keys of that number do not have its own */
} Call;

/* Calls that wait for the master key, those that wait for longest first. */
static dlist_head waiting = DLIST_STATIC_INIT(waiting);
static int	waiting_count = 0;
static MemoryContext waiting_context = NULL;

Duty		tb_claim_duty = {.name = "claim calls",.not_before = DT_NOBEGIN};
static Duty secret_duty = {.name = "read secrets",.not_before = DT_NOBEGIN};
static Duty open_duty = {.name = "open a secret",.not_before = DT_NOBEGIN};

static char *
text_or_null(Datum value, bool null)
{
	return null ? NULL : TextDatumGetCString(value);
}

/*
 * tb_read_calls
 *		Copy the rows of SPI_tuptable, whose columns are TB_CALL_COLUMNS. */
void
tb_read_calls(Calls *calls)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext context = AllocSetContextCreate(calls->context, "tokenbill call",
													  ALLOCSET_SMALL_SIZES);
		MemoryContext old = MemoryContextSwitchTo(context);
		Call	   *call = palloc0(sizeof(Call));
		HttpRequest *request = &call->request;
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		call->context = context;
		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		request->purpose = nulls[0] ? "" : TextDatumGetCString(values[0]);
		request->target = nulls[1] ? "" : TextDatumGetCString(values[1]);
		request->lease = nulls[2] ? 0 : DatumGetInt64(values[2]);
		request->method = nulls[3] ? "GET" : TextDatumGetCString(values[3]);
		request->url = nulls[4] ? "" : TextDatumGetCString(values[4]);
		call->asks_nobody = nulls[4];
		call->headers = nulls[5] ? NULL : DatumGetJsonbPCopy(values[5]);
		request->body = text_or_null(values[6], nulls[6]);
		call->secrets = tb_call_secrets(text_or_null(values[7], nulls[7]),
										nulls[11] ? NULL : DatumGetJsonbPCopy(values[11]));
		call->is_form = !nulls[11];
		call->auth = text_or_null(values[8], nulls[8]);
		request->timeout_ms = nulls[9] ? 0 : DatumGetInt32(values[9]);
		request->max_bytes = nulls[10] ? 0 : DatumGetInt32(values[10]);
		MemoryContextSwitchTo(calls->context);
		calls->list = lappend(calls->list, call);
		MemoryContextSwitchTo(old);
	}
}

/* Step: what a worker before us has taken on is free again. */
static void
release(void *arg)
{
	static Statement query = {
		.sql = "SELECT tokenbill.release_claims($1)",
		.nargs = 1,
		.types = {BOOLOID}
	};
	Datum		values[1];

	values[0] = BoolGetDatum(*(bool *) arg);
	tb_run(&query, values, NULL);
}

/* Step: take on calls. */
static void
claim(void *arg)
{
	static Statement query = {
		.sql = "SELECT " TB_CALL_COLUMNS " FROM tokenbill.claim_calls($1) c",
		.nargs = 1,
		.types = {INT4OID}
	};
	Calls	   *calls = arg;
	Datum		values[1];

	values[0] = Int32GetDatum(calls->max);
	tb_run(&query, values, NULL);
	tb_read_calls(calls);
}

/* Step: read the secrets of calls, as they are stored. */
static void
load_secrets(void *arg)
{
	Calls	   *calls = arg;
	ListCell   *cell;

	foreach(cell, calls->list)
	{
		Call	   *call = lfirst(cell);
		MemoryContext old = MemoryContextSwitchTo(call->context);

		call->refusal = tb_call_secrets_load(call->secrets, &call->about);
		MemoryContextSwitchTo(old);
	}
}

/* Record that a call was not made, and why: a word and a sentence. */
static void
record_not_made(Calls *calls, const Call *call, const char *kind, const char *why)
{
	HttpAnswer	answer = {0};

	answer.purpose = call->request.purpose;
	answer.target = call->request.target;
	answer.lease = call->request.lease;
	answer.error = why;
	answer.error_kind = kind;
	tb_record_as(calls, &answer, NULL);
}

/* The headers of a call, one line each, with the secrets in them. */
static List *
header_lines(Jsonb *headers, const List *secrets)
{
	List	   *lines = NIL;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;

	if (headers == NULL || !JB_ROOT_IS_OBJECT(headers))
		return NIL;
	iterator = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE && value.type == jbvString)
			lines = lappend(lines,
							tb_call_fill(psprintf("%s: %.*s", name, value.val.string.len,
												  value.val.string.val),
										 secrets, false));
	}
	return lines;
}

/*
 * Start a call whose secrets are open.  Returns why it cannot be, or NULL.
 *
 * The copies with secrets in them are wiped, and were never in memory that grew;
 * tb_http_start() wipes its own.
 */
static Refusal *
start_call(Call *call)
{
	HttpRequest request = call->request;
	const SecretText *secret = tb_call_secret(call->secrets, "secret");
	Refusal    *refusal = NULL;
	ListCell   *cell;

	request.url = tb_call_fill(request.url, call->secrets, true);
	request.headers = header_lines(call->headers, call->secrets);
	if (request.body != NULL)
	{
		request.body = pg_server_to_any(request.body, strlen(request.body), PG_UTF8);
		if (call->is_form)
			request.body = tb_call_fill(request.body, call->secrets, true);
		request.body_length = strlen(request.body);
	}
	if (call->auth != NULL && secret != NULL)
		refusal = tb_sign(call->auth, secret, &request);
	if (refusal == NULL)
		tb_http_start(&request);
	foreach(cell, request.headers)
		explicit_bzero(lfirst(cell), strlen(lfirst(cell)));
	explicit_bzero(request.url, strlen(request.url));
	if (call->is_form && request.body != NULL)
		explicit_bzero(request.body, request.body_length);
	return refusal;
}

/* Have a call wait for the master key, behind all others. */
static void
wait_for_key(Call *call)
{
	if (waiting_context == NULL)
		waiting_context = AllocSetContextCreate(TopMemoryContext, "tokenbill waiting calls",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContextSetParent(call->context, waiting_context);
	dlist_push_tail(&waiting, &call->node);
	waiting_count++;
}

/*
 * The call that waits for longest, no longer waiting; its memory is the present
 * turn's from here on.
 */
static Call *
next_waiting(Calls *calls)
{
	Call	   *call = dlist_container(Call, node, dlist_pop_head_node(&waiting));

	waiting_count--;
	MemoryContextSetParent(call->context, calls->context);
	return call;
}

/* Record of a call that its secret is not to be had. */
static void
record_refused(Calls *calls, const Call *call, const Refusal *refusal)
{
	record_not_made(calls, call, "secret", refusal->message);
}

/* Record a token that was made here, of a call that asks nobody. */
static void
record_made(Calls *calls, const Call *call, const TokenRecord *made)
{
	HttpAnswer	answer = {0};

	answer.purpose = call->request.purpose;
	answer.target = call->request.target;
	answer.lease = call->request.lease;
	answer.status = 200;
	tb_record_as(calls, &answer, made);
}

/* Make the token of a call that asks nobody. */
static Refusal *
make_token(const Call *call, const MasterKey *key, TokenRecord *made)
{
	const SecretText *token = tb_call_secret(call->secrets, "access_token");

	if (token == NULL)
		return tb_refusal(ERRCODE_INTERNAL_ERROR, "{}", "It has neither an address nor a token.",
						  "there is nothing to do for a call");
	return tb_token_seal(call->request.target, call->request.lease, token, key, made);
}

/*
 * Whether a call needs the master key: also one whose answer will have secrets in
 * it, so that it is not made where they could not be stored.
 */
static bool
needs_key(const Call *call)
{
	return call->secrets != NIL || tb_holds_tokens(call->request.purpose);
}

/*
 * Open the secrets of a call, which have been read, and start it.  If one wants a key
 * that we do not have, what we have may be of before a rotation: then it waits for
 * newer ones, once.
 */
static void
start_with_secrets(Calls *calls, Call *call)
{
	MemoryContext old = MemoryContextSwitchTo(call->context);
	TokenRecord made = {0};
	HoldNumber	number;
	const MasterKey *key = tb_hold_key(&number);

	if (call->refusal == NULL && tb_holds_tokens(call->request.purpose))
		call->refusal = tb_token_ready();
	if (call->refusal == NULL)
		call->refusal = tb_call_secrets_open(call->secrets, key, &call->about);
	if (call->refusal == NULL)
		call->refusal = call->asks_nobody ? make_token(call, key, &made) : start_call(call);
	tb_call_secrets_wipe(call->secrets);
	MemoryContextSwitchTo(old);
	if (call->refusal == NULL)
	{
		if (made.secrets != NULL)
			record_made(calls, call, &made);
		return;
	}
	if (call->refusal->sqlstate == ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION &&
		call->newer_than == 0)
	{
		call->refusal = NULL;
		call->about = NULL;
		call->newer_than = number;
		wait_for_key(call);
		return;
	}
	tb_duty_refused(&open_duty, call->about ? call->about : call->request.target,
					call->refusal);
	record_refused(calls, call, call->refusal);
}

/* Give up those that wait for longer than the key may take, and for room. */
static void
give_up_waiting(Calls *calls)
{
	TimestampTz now = GetCurrentTimestamp();

	while (!dlist_is_empty(&waiting))
	{
		const Call *first = dlist_head_element(Call, node, &waiting);

		if (now - first->since < tb_key_timeout() * INT64CONST(1000) + MAX_ROOM_US)
			break;
		record_not_made(calls, next_waiting(calls), "secret",
						"not sent, because too many others were on their way");
	}
}

/*
 * Start calls that wait, as many as there is room for, if the key is there; or have
 * all of them refused if it is not to be had.  Returns whether any waits no more.
 *
 * Where the secrets cannot even be asked for nothing is recorded, for the database
 * does not answer: their leases run out.
 */
static bool
serve_waiting(Calls *calls)
{
	int			before = waiting_count;
	int			room;

	give_up_waiting(calls);
	/* without room there is no need of the key */
	while (!dlist_is_empty(&waiting) && (room = tb_http_room()) > 0)
	{
		const Call *first = dlist_head_element(Call, node, &waiting);
		Calls		some = {.context = calls->context};
		HoldState	state = tb_hold_want(first->newer_than);
		HoldNumber	number;
		ListCell   *cell;

		if (state == TB_HOLD_LATER)
			break;
		if (state == TB_HOLD_FAILED)
		{
			record_refused(calls, next_waiting(calls), tb_hold_refusal());
			continue;
		}
		(void) tb_hold_key(&number);
		while (!dlist_is_empty(&waiting) && room-- > 0 &&
			   dlist_head_element(Call, node, &waiting)->newer_than < number)
			some.list = lappend(some.list, next_waiting(calls));
		if (!tb_step(&secret_duty, NULL, load_secrets, &some))
			continue;
		foreach(cell, some.list)
			start_with_secrets(calls, lfirst(cell));
	}
	tb_hold_release();
	return waiting_count != before;
}

/* Record of each call of a list that there is nothing to make it with. */
static void
record_no_library(Calls *calls)
{
	List	   *list = calls->list;
	ListCell   *cell;

	calls->list = NIL;
	foreach(cell, list)
		record_not_made(calls, lfirst(cell), "library",
						"the library tokenbill_http cannot be loaded; see worker_errors");
}

/*
 * Start the calls of a list, and those that follow where one cannot be made.  Those
 * that need a secret wait for the key, which may be there already.
 */
static void
start_calls(Calls *calls)
{
	while (calls->list != NIL && !tb_http_load())
		record_no_library(calls);
	while (calls->list != NIL)
	{
		List	   *list = calls->list;
		ListCell   *cell;

		calls->list = NIL;
		foreach(cell, list)
		{
			Call	   *call = lfirst(cell);

			if (!needs_key(call))
				call->refusal = start_call(call);
			else
			{
				call->since = GetCurrentTimestamp();
				wait_for_key(call);
			}
			if (call->refusal != NULL)
				record_refused(calls, call, call->refusal);
		}
		(void) serve_waiting(calls);
	}
}

/*
 * tb_calls_release
 *		Free what a worker before us has taken on; called once, when we begin.
 *		Whether that one ended without being told to decides what is thought of
 *		those whose answers it waited for.
 */
void
tb_calls_release(bool ended_badly)
{
	(void) tb_step(&tb_claim_duty, NULL, release, &ended_badly);
}

/*
 * tb_calls_record
 *		Record what came of calls that are over, and make those that follow;
 *		returns whether there were any.
 */
bool
tb_calls_record(void)
{
	Calls		calls = {.context = CurrentMemoryContext};
	bool		any = tb_record_answers(&calls);

	start_calls(&calls);
	return any;
}

/*
 * tb_calls_resume
 *		Go on with calls that waited for the master key, if it is there now; returns
 *		whether there were any.
 */
bool
tb_calls_resume(void)
{
	Calls		calls = {.context = CurrentMemoryContext};
	bool		any = serve_waiting(&calls);

	start_calls(&calls);
	return any;
}

/*
 * tb_calls_room
 *		How many calls may be claimed now.
 */
int
tb_calls_room(void)
{
	return Min(tb_http_room(), MAX_WAITING - waiting_count);
}

/*
 * tb_calls_claim
 *		Take on at most so many calls and start them; returns how many, -1 if that
 *		failed.
 */
int
tb_calls_claim(int max)
{
	Calls		calls = {.context = CurrentMemoryContext,.max = max};
	int			count;

	if (!tb_step(&tb_claim_duty, NULL, claim, &calls))
		return -1;
	count = list_length(calls.list);
	start_calls(&calls);
	return count;
}
