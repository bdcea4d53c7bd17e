/*
 * redact.c
 *	  Keeps secrets and card numbers out of the server's log.
 *
 * Two nets.  What redactor.c finds is masked in every line: message, detail, hint,
 * context and statement.  And a statement is confidential if its text names
 * set_secret or add_provider, or once one of them has begun to run in it, whatever
 * its text (EXECUTE, a function of the user's, DO): no log line shows it, and
 * message, detail, hint and context of a line end where the first quotation
 * begins; a line that is no error has no detail.  To cut at the first quotation
 * and not to look for its end is crude on purpose: no rule of quoting, no
 * truncated statement and no value in a list of parameters can be got wrong.
 *
 * emit_log_hook is meant for dropping log lines; that it changes them is more than
 * its documentation promises, but all versions this compiles with take it.  It is
 * called before the line is written and before the client is sent the error, so
 * what is changed for one is changed for both.  A client is to get its own error as
 * it is, so the line is written from within the hook, by a second EmitErrorReport()
 * that has nothing to send, and then everything is put back: see write_masked().
 * Only context and internal query, which quote functions that the client may not
 * read, and what belongs to a confidential statement, are shortened for both.
 *
 * Masks are never longer than what they cover, so without a client nothing is
 * allocated.  If there is no memory for what is to be put back later, the client
 * gets the masked text.  Nothing here throws, and a line that is logged meanwhile
 * (by whoever sends to a client that is gone) is one like any other.
 *
 * The hook is the outermost: the others see what is going to be logged.
 *
 * All of this is at work in a session from when the library is loaded on: from
 * its beginning with shared_preload_libraries or session_preload_libraries,
 * otherwise from the first call of a function of tokenbill's.
 */
#include "redact.h"

#include <ctype.h>

#include "commands/extension.h"
#include "miscadmin.h"
#include "redactor.h"
#include "statement_text.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(tokenbill_mask_card);
PG_FUNCTION_INFO_V1(tokenbill_redact);

#define MASK "***"
#define MAX_NAME 256

/* How much of a value is looked through between two looks for a cancellation */
#define STEP (1024 * 1024)

static emit_log_hook_type next_emit_log = NULL;
static shmem_startup_hook_type next_startup = NULL;

/* Whether a quotation begins here: '...', $$...$$, and "..." if asked. */
static bool
begins_quotation(const char *s, bool double_quotes)
{
	return *s == '\'' ||
		(*s == '"' && double_quotes) ||
		(*s == '$' && !isdigit((unsigned char) s[1]) && s[1] != '\0');
}

/* Put the mask in the place of a text; as much of it as there is room for. */
static void
overwrite(char *line)
{
	if (line == NULL)
		return;
	for (const char *m = MASK; *m != '\0' && *line != '\0'; m++)
		*line++ = *m;
	*line = '\0';
}

/* Cut a text at its first quotation, in place. */
static void
cut(char *line, bool double_quotes)
{
	if (line == NULL)
		return;
	while (*line != '\0' && !begins_quotation(line, double_quotes))
		line++;
	overwrite(line);
}

/*
 * A line of a confidential statement is about to be written.  The extension's own
 * script names the functions, too, and has nothing to hide.
 *
 * Errors of tokenbill's own have JSON in their detail, and no value in their
 * message or hint: of those, only what PostgreSQL adds is cut.  Other errors quote
 * from the statement, in double quotes, if it is at fault itself (class 42) or a
 * literal in it is (class 22); lines that are no errors show all of it, and
 * whoever writes "value" for 'value' is not to see it in the log either.
 */
static void
cut_confidential(ErrorData *edata)
{
	int			category = ERRCODE_TO_CATEGORY(edata->sqlerrcode);
	bool		quotes_statement = edata->elevel < INFO ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION);

	if (creating_extension ||
		!(tb_statement_is_confidential() ||
		  tb_is_confidential(edata->message) ||
		  tb_is_confidential(edata->detail) ||
		  tb_is_confidential(edata->detail_log) ||
		  tb_is_confidential(edata->context) ||
		  tb_is_confidential(edata->internalquery)))
		return;

	tb_mark_confidential();
	edata->hide_stmt = true;
	if (edata->detail == NULL || edata->detail[0] != '{')
	{
		cut(edata->message, quotes_statement);
		/* parse trees (debug_print_parse) have constants byte by byte */
		if (edata->elevel < INFO)
			overwrite(edata->detail);
		else
			cut(edata->detail, quotes_statement);
		cut(edata->hint, quotes_statement);
	}
	cut(edata->detail_log, quotes_statement);
	/* "JSON data, line 1: ..." */
	if (quotes_statement)
		overwrite(edata->context);
	else
		cut(edata->context, false);
	cut(edata->internalquery, false);
}

/* Whether there is anything to mask in a text */
static bool
has_secret(const char *line)
{
	Redactor	redactor;

	if (line == NULL)
		return false;
	tb_redactor_begin(&redactor, line, strlen(line), TB_SECRETS);
	return tb_redactor_next(&redactor, redactor.length);
}

static void
mask(char *line)
{
	if (line != NULL)
		line[tb_redact(line, strlen(line), TB_SECRETS)] = '\0';
}

/* A masked copy, or NULL if there is no memory for one */
static char *
masked_copy(const char *text)
{
	size_t		length = strlen(text);
	char	   *copy = MemoryContextAllocExtended(ErrorContext, length + 1,
												  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);

	if (copy != NULL)
	{
		memcpy(copy, text, length + 1);
		mask(copy);
	}
	return copy;
}

/*
 * A text of an error that its client is to get as it is: put a masked copy in its
 * place, and return what was there; or mask it if there is no client, no secret or
 * no memory.
 */
static char *
set_aside(char **text, bool for_client)
{
	char	   *original = *text;
	char	   *copy;

	if (for_client && has_secret(original) &&
		(copy = masked_copy(original)) != NULL)
	{
		*text = copy;
		return original;
	}
	mask(original);
	return NULL;
}

/* Put back what was set aside */
static void
put_back(char **text, char *original)
{
	if (original == NULL)
		return;
	pfree(*text);
	*text = original;
}

/*
 * The application's name stands in every line of csvlog and jsonlog, and where
 * log_line_prefix wants it.  Masked, if there is anything to mask in it.
 */
static const char *
masked_application_name(void)
{
	static char masked[MAX_NAME];

	if (!has_secret(application_name))
		return NULL;
	masked[tb_redact_copy(masked, MAX_NAME - 1, application_name,
						  strlen(application_name), TB_SECRETS)] = '\0';
	return masked;
}

/*
 * Have the line written now, with the statement in the place of the running one's,
 * and not sent.  This is EmitErrorReport() within EmitErrorReport(), for the same
 * error: the hooks are called again, find nothing to mask, and see the line once.
 */
static void
write_masked(ErrorData *edata, const char *statement, const char *name)
{
	const char *original = debug_query_string;
	char	   *original_name = application_name;
	bool		to_client = edata->output_to_client;

	edata->output_to_client = false;
	if (statement != NULL)
		debug_query_string = statement;
	if (name != NULL)
		application_name = (char *) name;
	PG_TRY();
	{
		EmitErrorReport();
	}
	PG_CATCH();
	{
		/*
		 * It could not be written, and what could not is gone, with all that
		 * was allocated for it: the next error is that one.
		 */
		debug_query_string = NULL;
		application_name = original_name;
		PG_RE_THROW();
	}
	PG_END_TRY();
	debug_query_string = original;
	application_name = original_name;
	edata->output_to_client = to_client;
	edata->output_to_server = false;
}

/*
 * A line is about to be written.
 */
static void
before_log(ErrorData *edata)
{
	/* whoever has put a hook before ours would be called twice */
	bool		can_repeat = emit_log_hook == before_log;
	bool		for_client = edata->output_to_client && can_repeat;
	char	   *message;
	char	   *detail;
	char	   *hint;
	char	   *statement = NULL;
	const char *name;

	cut_confidential(edata);
	tb_hide_secrets_of_activity();

	mask(edata->detail_log);
	mask(edata->context);
	mask(edata->internalquery);
	if (check_log_of_query(edata) && has_secret(debug_query_string))
	{
		if (can_repeat)
			statement = masked_copy(debug_query_string);
		if (statement == NULL)
			edata->hide_stmt = true;
	}
	message = set_aside(&edata->message, for_client);
	detail = set_aside(&edata->detail, for_client);
	hint = set_aside(&edata->hint, for_client);

	name = can_repeat ? masked_application_name() : NULL;

	if (message == NULL && detail == NULL && hint == NULL && statement == NULL &&
		name == NULL)
	{
		if (next_emit_log)
			next_emit_log(edata);
		return;
	}
	write_masked(edata, statement, name);
	put_back(&edata->message, message);
	put_back(&edata->detail, detail);
	put_back(&edata->hint, hint);
	if (statement != NULL)
		pfree(statement);
}

static void
take_hooks(void)
{
	static bool taken = false;

	/* after a crash, shared memory is made again, by the same postmaster */
	if (taken)
		return;
	taken = true;
	tb_statement_text_init();
	next_emit_log = emit_log_hook;
	emit_log_hook = before_log;
}

static void
startup(void)
{
	if (next_startup)
		next_startup();
	take_hooks();
}

/*
 * tb_redact_init
 *		Take the hooks; called once, from _PG_init.  Of the libraries that are
 *		preloaded, last of all, and so the first to be called: the others see what
 *		is masked already.
 */
void
tb_redact_init(void)
{
	if (process_shared_preload_libraries_in_progress)
	{
		next_startup = shmem_startup_hook;
		shmem_startup_hook = startup;
	}
	else
		take_hooks();
}

/* The same for applications, whose text can be of any size */
static text *
redact_text(const text *original, RedactWhat what)
{
	Size		length = VARSIZE_ANY_EXHDR(original);
	text	   *result = palloc(VARHDRSZ + length);
	Redactor	redactor;
	bool		found = false;

	memcpy(VARDATA(result), VARDATA_ANY(original), length);
	tb_redactor_begin(&redactor, VARDATA(result), length, what);
	for (Size upto = 0; upto < length && !found;)
	{
		CHECK_FOR_INTERRUPTS();
		upto += Min(STEP, length - upto);
		found = tb_redactor_next(&redactor, upto);
	}
	if (found)
		length = tb_redact(VARDATA(result), length, what);
	SET_VARSIZE(result, VARHDRSZ + length);
	return result;
}

/*
 * mask_card(text) -> text
 *		The text with the digits of card numbers masked but for the last four.
 */
Datum
tokenbill_mask_card(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(redact_text(PG_GETARG_TEXT_PP(0), TB_CARDS));
}

/*
 * redact(text) -> text
 *		The text with everything masked that is masked in the log.
 */
Datum
tokenbill_redact(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(redact_text(PG_GETARG_TEXT_PP(0), TB_SECRETS));
}
