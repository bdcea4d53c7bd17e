/*
 * statement_text.c
 *	  Keeps secrets that are in the text of a statement out of pg_stat_activity, and
 *	  out of what extensions such as pg_stat_statements keep of it.
 *
 * PostgreSQL shows a statement in pg_stat_activity when it comes in, when it is
 * bound and when it is executed; nobody is asked before.  So it is looked at at the
 * next moment at which an extension is: after parse analysis, before a plan or a
 * utility statement runs, when an error is logged and when a transaction is
 * aborted.  What redactor.c finds in it is masked there.  Of a confidential
 * statement, one that names a function that is handed a secret, a text of ours is
 * shown instead.
 *
 * Others keep the text that they are handed by the hooks.  Our hooks are the
 * outermost, and hand them another, of the same length, since they also have
 * offsets into it:
 *
 *	  after parse analysis	pg_stat_statements takes constants out of the text, and
 *							lexes it for that: tb_blot() leaves it lexable.  Where
 *							that is not certain, the statement has no query id, and
 *							is not kept
 *	  planner, end of plan	it keeps the text as it is if it has none yet
 *	  utility statement		runs with the text it has, so it has no query id
 */
#include "statement_text.h"

#include <ctype.h>

#include "access/xact.h"
#include "commands/extension.h"
#include "commands/prepare.h"
#include "executor/executor.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "redactor.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(tokenbill_hide_statement);

static const char hidden[] = "/* tokenbill: a statement with a secret */";

/* The functions that are handed secrets. */
static const char *const confidential[] = {"set_secret", "add_provider"};

static post_parse_analyze_hook_type next_post_parse_analyze = NULL;
static planner_hook_type next_planner = NULL;
static ExecutorStart_hook_type next_start = NULL;
static ExecutorRun_hook_type next_run = NULL;
static ExecutorEnd_hook_type next_end = NULL;
static ProcessUtility_hook_type next_utility = NULL;

/*
 * When the statement began in which such a function last ran.  No two messages of
 * a client's have the same time, so it need not be taken back.
 */
static TimestampTz confidential_since = DT_NOBEGIN;

/*
 * Whether the session may have a prepared statement that names such a function:
 * only then are statements looked through for the names of those.
 */
static bool has_prepared = false;

/*
 * The state of our entry in pg_stat_activity that has been looked at, and room for
 * its text: where it is needed there may be no memory.
 */
static int	activity_seen = 0;
static char *masked;

/*
 * The text in which nothing was found last: a statement that is executed again and
 * again is looked through once.
 */
static char *innocent;

/*
 * Whether a text names one of the functions, in any case of letters.  A name with
 * nothing in its parentheses is of a hint, such as "use set_secret()".
 */
static bool
names_function(const char *line)
{
	for (const char *s = line; (s = strchr(s, '_')) != NULL; s++)
	{
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

/* Behind white space and comments; a comment within a comment ends it too early */
static const char *
skip_blanks(const char *s)
{
	for (;;)
	{
		const char *end;

		s += strspn(s, " \t\n\r\f\v");
		if (s[0] == '-' && s[1] == '-')
			s += strcspn(s, "\n\r");
		else if (s[0] == '/' && s[1] == '*' && (end = strstr(s + 2, "*/")) != NULL)
			s = end + 2;
		else
			return s;
	}
}

/* Whether the name that begins here is that of a confidential prepared statement */
static bool
names_confidential(const char *s)
{
	char		name[NAMEDATALEN];
	size_t		length = 0;
	bool		quoted = *s == '"';
	PreparedStatement *prepared;

	for (s += quoted; *s != '\0' && length < NAMEDATALEN - 1; s++)
	{
		if (quoted ? (*s == '"' && *++s != '"') :
			!(IS_HIGHBIT_SET(*s) || isalnum((unsigned char) *s) || *s == '_' || *s == '$'))
			break;
		name[length++] = quoted ? *s : pg_ascii_tolower(*s);
	}
	name[length] = '\0';
	prepared = FetchPreparedStatement(name, false);
	return prepared != NULL && names_function(prepared->plansource->query_string);
}

/*
 * Whether a text executes a confidential prepared statement: EXECUTE, also within
 * EXPLAIN or CREATE TABLE AS.  The log line that shows a statement as it comes in
 * tells of the first of these only what was prepared.
 */
static bool
executes_confidential(const char *line)
{
	static const char word[] = "execute";

	if (!has_prepared)
		return false;
	for (const char *s = line; *s != '\0'; s++)
	{
		if (pg_strncasecmp(s, word, strlen(word)) == 0 &&
			names_confidential(skip_blanks(s + strlen(word))))
			return true;
	}
	return false;
}

/*
 * tb_is_confidential
 *		Whether a text names one of the functions, or executes what was prepared
 *		with such a text.
 */
bool
tb_is_confidential(const char *line)
{
	return line != NULL && (names_function(line) || executes_confidential(line));
}

/*
 * tb_statement_is_confidential
 *		Whether the running statement is, by its text or by what has run in it.
 */
bool
tb_statement_is_confidential(void)
{
	return confidential_since == GetCurrentStatementStartTimestamp() ||
		tb_is_confidential(debug_query_string);
}

/*
 * tb_mark_confidential
 *		The running statement holds a secret, whatever its text.
 */
void
tb_mark_confidential(void)
{
	confidential_since = GetCurrentStatementStartTimestamp();
}

/*
 * tb_hide_statement
 *		The running statement holds a secret: nobody is to see its text from here
 *		on, not in pg_stat_activity and not in the log.
 */
void
tb_hide_statement(void)
{
	tb_mark_confidential();
	pgstat_report_activity(STATE_RUNNING, hidden);
	/* what log lines take it from, until the statement ends */
	if (debug_query_string != NULL)
		debug_query_string = hidden;
}

static bool
has_secret(const char *sql, size_t upto)
{
	Redactor	redactor;

	tb_redactor_begin(&redactor, sql, strlen(sql), TB_SECRETS);
	return tb_redactor_next(&redactor, upto);
}

/* The application's name is shown beside the statement. */
static void
hide_secrets_of_name(PgBackendStatus *me)
{
	char		name[NAMEDATALEN];

	if (me->st_appname == NULL || !has_secret(me->st_appname, strlen(me->st_appname)))
		return;
	name[tb_redact_copy(name, sizeof(name) - 1, me->st_appname,
						strlen(me->st_appname), TB_SECRETS)] = '\0';
	pgstat_report_appname(name);
}

/*
 * tb_hide_secrets_of_activity
 *		See that our entry in pg_stat_activity shows no secret.  Costs nothing if it
 *		has not changed since it was looked at.  Throws nothing.
 */
void
tb_hide_secrets_of_activity(void)
{
	PgBackendStatus *me = MyBEEntry;
	size_t		room = pgstat_track_activity_query_size - 1;
	size_t		shown;
	const char *sql;
	uint64		query_id;

	if (me == NULL || me->st_changecount == activity_seen)
		return;
	hide_secrets_of_name(me);
	activity_seen = me->st_changecount;
	if (me->st_activity_raw == NULL || me->st_activity_raw[0] == '\0' || creating_extension)
		return;

	/* the text in full, if there is more of it: a secret may be cut off */
	sql = me->st_activity_raw;
	shown = strlen(sql);
	if (shown < room && strcmp(sql, innocent) == 0)
		return;
	if (shown == room && debug_query_string != NULL &&
		strncmp(debug_query_string, sql, shown) == 0)
		sql = debug_query_string;

	query_id = me->st_query_id;
	if (tb_is_confidential(sql))
	{
		tb_mark_confidential();
		pgstat_report_activity(me->st_state, hidden);
	}
	else if (has_secret(sql, shown))
	{
		masked[tb_redact_copy(masked, room, sql, strlen(sql), TB_SECRETS)] = '\0';
		pgstat_report_activity(me->st_state, masked);
	}
	else if (shown < room)
		memcpy(innocent, sql, shown + 1);
	/* a new text has no query id at first */
	if (query_id != 0)
		pgstat_report_query_id(query_id, true);
	activity_seen = me->st_changecount;
}

/*
 * A statement's text as it may be kept, as long as it is: itself if there is
 * nothing in it, else a copy.
 */
static const char *
text_to_keep(const char *sql)
{
	size_t		length;
	char	   *copy;
	bool		whole;

	if (sql == NULL || creating_extension)
		return sql;

	length = strlen(sql);
	whole = tb_is_confidential(sql);
	if (!whole && !has_secret(sql, length))
		return sql;

	copy = MemoryContextAllocHuge(CurrentMemoryContext, length + 1);
	memcpy(copy, sql, length + 1);
	if (whole)
	{
		memset(copy, ' ', length);
		memcpy(copy, hidden, Min(length, strlen(hidden)));
	}
	else
		(void) tb_blot(copy, length, false);
	return copy;
}

/*
 * The earliest moment at which a statement's text can be looked at.  Its secret
 * has been in pg_stat_activity since it came in, and no longer is.
 */
static void
after_parse_analysis(ParseState *pstate, Query *query, JumbleState *jstate)
{
	const char *original = pstate->p_sourcetext;
	char	   *copy = NULL;
	size_t		length;

	if (!creating_extension && tb_is_confidential(original))
	{
		/* maybe what is prepared, by PREPARE or by a message */
		has_prepared = true;
		tb_hide_statement();
	}
	tb_hide_secrets_of_activity();
	if (next_post_parse_analyze == NULL)
		return;

	/* constants are taken out of it by others, comments are not */
	if (!creating_extension && original != NULL && query->utilityStmt == NULL)
	{
		length = strlen(original);
		if (tb_is_confidential(original) &&
			(strstr(original, "--") != NULL || strstr(original, "/*") != NULL))
			query->queryId = 0;
		else if (has_secret(original, length))
		{
			copy = MemoryContextAllocHuge(CurrentMemoryContext, length + 1);
			memcpy(copy, original, length + 1);
			if (!tb_blot(copy, length, true))
				query->queryId = 0;
			else
				pstate->p_sourcetext = copy;
		}
	}
	next_post_parse_analyze(pstate, query, jstate);
	/* if it throws, so does the analysis, and nobody looks at this again */
	pstate->p_sourcetext = original;
	if (copy != NULL)
		pfree(copy);
}

static PlannedStmt *
plan(Query *parse, const char *query_string, int cursorOptions,
	 ParamListInfo boundParams)
{
	if (next_planner == NULL)
		return standard_planner(parse, query_string, cursorOptions, boundParams);
	return next_planner(parse, parse->queryId != 0 ? text_to_keep(query_string) : query_string,
						cursorOptions, boundParams);
}

static void
start(QueryDesc *queryDesc, int eflags)
{
	tb_hide_secrets_of_activity();
	if (next_start)
		next_start(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
}

static void
run(TB_RUN_PARAMETERS)
{
	tb_hide_secrets_of_activity();
	if (next_run)
		next_run(TB_RUN_ARGUMENTS);
	else
		standard_ExecutorRun(TB_RUN_ARGUMENTS);
}

static void
end(QueryDesc *queryDesc)
{
	const char *original = queryDesc->sourceText;

	if (next_end == NULL)
	{
		standard_ExecutorEnd(queryDesc);
		return;
	}
	if (queryDesc->plannedstmt->queryId != 0)
		queryDesc->sourceText = text_to_keep(original);
	next_end(queryDesc);
	/* the descriptor outlives the execution; if that throws, nothing does */
	queryDesc->sourceText = original;
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *queryEnv, DestReceiver *dest,
				QueryCompletion *qc)
{
	tb_hide_secrets_of_activity();
	if (next_utility == NULL)
	{
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params,
								queryEnv, dest, qc);
		return;
	}
	/* a statement that is kept for later will have the same text then */
	if (pstmt->queryId != 0 && !creating_extension &&
		(tb_is_confidential(queryString) || has_secret(queryString, strlen(queryString))))
		pstmt->queryId = 0;
	next_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

/* What could not be analysed is shown until the next statement comes in. */
static void
at_end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		tb_hide_secrets_of_activity();
}

/*
 * tb_statement_text_init
 *		Take the hooks; called once, when those who are to be called later have
 *		taken theirs.
 */
void
tb_statement_text_init(void)
{
	masked = MemoryContextAlloc(TopMemoryContext, pgstat_track_activity_query_size);
	innocent = MemoryContextAllocZero(TopMemoryContext, pgstat_track_activity_query_size);
	next_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = after_parse_analysis;
	next_planner = planner_hook;
	planner_hook = plan;
	next_start = ExecutorStart_hook;
	ExecutorStart_hook = start;
	next_run = ExecutorRun_hook;
	ExecutorRun_hook = run;
	next_end = ExecutorEnd_hook;
	ExecutorEnd_hook = end;
	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(at_end_of_transaction, NULL);
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
