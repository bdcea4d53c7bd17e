/*
 * http_engine.c
 *	  The way from the worker to the library that makes its requests.
 *
 * It is loaded when there is a request to make.  Where it cannot be, because it
 * or libcurl is not installed, that is an error of the worker like others: a row
 * of worker_errors, and tried again, so that it is found once it is there.
 */
#include "http_engine.h"

#include "refusal.h"
#include "step.h"

static const HttpEngine *engine = NULL;

static Duty load_duty = {.name = "load a library",.not_before = DT_NOBEGIN};

/* Step: load it; *arg becomes what is in it. */
static void
load(void *arg)
{
	HttpEngineFunction volatile function = NULL;
	const HttpEngine *loaded;
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		function = (HttpEngineFunction)
			load_external_function(TB_HTTP_LIBRARY, TB_HTTP_FUNCTION, true, NULL);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		tb_raise(tb_refusal(error->sqlerrcode,
							tb_json("library:s reason:s", TB_HTTP_LIBRARY, error->message),
							"make install puts it beside tokenbill, and it needs libcurl: Debian's libcurl4.",
							"the library " TB_HTTP_LIBRARY " cannot be loaded"));
	}
	PG_END_TRY();
	loaded = function();
	if (loaded->interface_number != TB_HTTP_INTERFACE ||
		strcmp(loaded->version, TOKENBILL_VERSION) != 0)
		tb_raise(tb_refusal(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
							tb_json("library:s version:s needed:s", TB_HTTP_LIBRARY,
									loaded->version, TOKENBILL_VERSION),
							"Install tokenbill with make install, then restart the server.",
							"the library " TB_HTTP_LIBRARY " does not fit the library tokenbill"));
	*(const HttpEngine **) arg = loaded;
}

/*
 * tb_http_load
 *		Have the library that makes requests.  False, which is recorded, if it
 *		cannot be had now.
 */
bool
tb_http_load(void)
{
	const HttpEngine *loaded = NULL;

	if (engine != NULL)
		return true;
	if (load_duty.not_before > GetCurrentTimestamp() ||
		!tb_step(&load_duty, TB_HTTP_LIBRARY, load, &loaded))
		return false;
	loaded->begin(&tb_http_terms);
	engine = loaded;
	return true;
}

/*
 * tb_http_start
 *		Begin a request, after tb_http_load().  What comes of it is said by
 *		tb_http_next() later, also if it cannot be made.
 */
void
tb_http_start(const HttpRequest *request)
{
	engine->start(request);
}

/*
 * tb_http_running
 *		How many requests have been started whose answer has not been taken yet.
 */
int
tb_http_running(void)
{
	return engine == NULL ? 0 : engine->running();
}

/*
 * tb_http_room
 *		How many requests may be started now without waiting for others, but for
 *		others to their host.
 */
int
tb_http_room(void)
{
	return engine == NULL ? tb_http_terms.max_requests : engine->room();
}

/*
 * tb_http_wait
 *		Wait until a request is over or goes on, the process's latch is set, another
 *		file can be read (PGINVALID_SOCKET: there is none), or the time has passed;
 *		-1: for ever.  Returns whether the latch was set.  It
 *		is reset: the caller looks afterwards at everything that may have set it.
 *		To be called while requests are running.
 */
bool
tb_http_wait(long timeout_ms, pgsocket also)
{
	return engine->wait(timeout_ms, also);
}

/*
 * tb_http_next
 *		The answer to the request that was over first and has not been taken yet.
 *		False if there is none.  It is valid until tb_http_done().
 */
bool
tb_http_next(HttpAnswer *answer)
{
	return engine != NULL && engine->next(answer);
}

/*
 * tb_http_done
 *		Free an answer.
 */
void
tb_http_done(HttpAnswer *answer)
{
	engine->done(answer);
}

/*
 * tb_engine_load_tokens
 *		Have what the next functions need, after tb_http_load().  NULL, or why it
 *		cannot be had now.
 */
const char *
tb_engine_load_tokens(void)
{
	return engine->token_load();
}

/*
 * tb_engine_take_apart
 *		Take an answer with tokens in it apart; false if there is no memory.  To be
 *		given back by tb_engine_forget(), which wipes it.
 */
bool
tb_engine_take_apart(const HttpAnswer *answer, TokenAnswer *result)
{
	return engine->token_read(answer->body_length > 0 ? answer->body : "",
							  answer->body_length, result);
}

/*
 * tb_engine_forget
 *		Wipe what tb_engine_take_apart() has made.
 */
void
tb_engine_forget(TokenAnswer *result)
{
	engine->token_forget(result);
}

/*
 * tb_engine_sign
 *		Sign a JSON Web Token.  NULL, or why it cannot be signed.  The token is to be
 *		given back by tb_engine_forget_text().
 */
const char *
tb_engine_sign(const JwtInput *input, char **token)
{
	return engine->token_sign(input, token);
}

/*
 * tb_engine_forget_text
 *		Wipe a token that tb_engine_sign() has made.
 */
void
tb_engine_forget_text(char *text)
{
	engine->forget_text(text);
}
