/*
 * redact.c
 *	  Keeps secrets that are passed to functions out of the server's log and of
 *	  pg_stat_activity.
 *
 * A statement is confidential if its text names set_secret or add_provider, or
 * once one of them has begun to run in it, whatever its text (EXECUTE, a function
 * of the user's, DO).  Of a confidential statement
 *
 *	  - pg_stat_activity shows a text of ours, from parse analysis on;
 *	  - no log line shows the statement, and message, detail, hint and context of a
 *		line end where the first quotation begins; a line that is no error has no
 *		detail.
 *
 * To cut at the first quotation and not to look for its end is crude on purpose:
 * no rule of quoting, no truncated statement and no value in a list of parameters
 * can be got wrong.
 *
 * emit_log_hook is meant for dropping log lines; that it shortens them in place is
 * more than its documentation promises, but all versions this compiles with take
 * it.  The client is sent the same error, shortened as well; it knows what it
 * asked.
 *
 * All of this is at work in a session from when the library is loaded on: from
 * its beginning with shared_preload_libraries or session_preload_libraries,
 * otherwise from the first call of a function of tokenbill's.
 */
#include "redact.h"

#include <ctype.h>

#include "access/xact.h"
#include "commands/extension.h"
#include "commands/prepare.h"
#include "parser/analyze.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/elog.h"

PG_FUNCTION_INFO_V1(tokenbill_hide_statement);

#define MASK "***"

static const char hidden[] = "/* tokenbill: a statement with a secret */";

/* The functions that are handed secrets. */
static const char *const confidential[] = {"set_secret", "add_provider"};

static post_parse_analyze_hook_type next_post_parse_analyze = NULL;
static emit_log_hook_type next_emit_log = NULL;

/*
 * When the statement began in which such a function last ran.  No two messages of
 * a client's have the same time, so it need not be taken back.
 */
static TimestampTz confidential_since = DT_NOBEGIN;

/*
 * Whether a text names one of the functions, in any case of letters.  A name with
 * nothing in its parentheses is of a hint, such as "use set_secret()".
 */
static bool
is_confidential(const char *line)
{
	if (line == NULL)
		return false;
	for (const char *s = line; *s != '\0'; s++)
	{
		/* both names have an underscore, most texts have few */
		if (*s != '_')
			continue;
		for (size_t i = 0; i < lengthof(confidential); i++)
		{
			const char *name = confidential[i];
			ptrdiff_t	before = strchr(name, '_') - name;

			if (s - line >= before &&
				pg_strncasecmp(s - before, name, strlen(name)) == 0 &&
				strncmp(s - before + strlen(name), "()", 2) != 0)
				return true;
		}
	}
	return false;
}

/*
 * tb_hide_statement
 *		The running statement holds a secret: nobody is to see its text from here
 *		on, not in pg_stat_activity and not in the log.
 */
void
tb_hide_statement(void)
{
	confidential_since = GetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, hidden);
	/* what log lines take it from, until the statement ends */
	if (debug_query_string != NULL)
		debug_query_string = hidden;
}

/* Whether a query is EXECUTE of a statement that is confidential. */
static bool
executes_confidential(const Query *query)
{
	const ExecuteStmt *execute = (const ExecuteStmt *) query->utilityStmt;
	PreparedStatement *prepared;

	if (execute == NULL || !IsA(execute, ExecuteStmt))
		return false;
	prepared = FetchPreparedStatement(execute->name, false);
	return prepared != NULL && is_confidential(prepared->plansource->query_string);
}

/*
 * The earliest moment at which a statement's text can be looked at.  Its secret
 * has been in pg_stat_activity since it came in, and no longer is.
 */
static void
after_parse_analysis(ParseState *pstate, Query *query, JumbleState *jstate)
{
	if (!creating_extension &&
		(is_confidential(pstate->p_sourcetext) || executes_confidential(query)))
		tb_hide_statement();
	if (next_post_parse_analyze)
		next_post_parse_analyze(pstate, query, jstate);
}

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
 * A log line is about to be written.  The extension's own script names the
 * functions, too, and has nothing to hide.
 *
 * Errors of tokenbill's own have JSON in their detail, and no value in their
 * message or hint: of those, only what PostgreSQL adds is cut.  Other errors quote
 * from the statement, in double quotes, if it is at fault itself (class 42) or a
 * literal in it is (class 22); lines that are no errors show all of it, and
 * whoever writes "value" for 'value' is not to see it in the log either.
 */
static void
before_log(ErrorData *edata)
{
	if (!creating_extension &&
		(confidential_since == GetCurrentStatementStartTimestamp() ||
		 is_confidential(debug_query_string) ||
		 is_confidential(edata->message) ||
		 is_confidential(edata->detail) ||
		 is_confidential(edata->detail_log) ||
		 is_confidential(edata->context) ||
		 is_confidential(edata->internalquery)))
	{
		int			category = ERRCODE_TO_CATEGORY(edata->sqlerrcode);
		bool		quotes_statement = edata->elevel < INFO ||
			category == ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR) ||
			category == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION);

		confidential_since = GetCurrentStatementStartTimestamp();
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
	if (next_emit_log)
		next_emit_log(edata);
}

/*
 * tb_redact_init
 *		Take the hooks; called once, from _PG_init.
 */
void
tb_redact_init(void)
{
	next_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = after_parse_analysis;
	next_emit_log = emit_log_hook;
	emit_log_hook = before_log;
}

/*
 * hide_statement() -> void
 *		For functions in SQL that are handed a secret, before they do anything.
 */
Datum
tokenbill_hide_statement(PG_FUNCTION_ARGS)
{
	tb_hide_statement();
	PG_RETURN_VOID();
}
