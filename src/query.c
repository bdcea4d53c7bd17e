/*
 * query.c
 *	  Statements on tokenbill's own tables, through SPI, with saved plans.
 *
 * Whose rights: a function that has to touch tables works as its own owner, as
 * SECURITY DEFINER would have it, between tb_enter() and tb_leave().  It is done
 * here and not in the catalog because a SET search_path clause costs every call
 * a GUC stack and a name space rebuild; in its place every name and operator in
 * every statement is schema-qualified, so that no search_path can change what a
 * statement means.  On an error the (sub)transaction's abort restores the user.
 */
#include "query.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "parser/parse_param.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/*
 * tb_nest, tb_unnest
 *		A level of SPI of its own, for statements that are executed while another
 *		one is: SPI keeps what belongs to the running one by level.
 *
 * The current memory context stays the caller's, so that results outlive SPI.
 */
void
tb_nest(void)
{
	MemoryContext old = CurrentMemoryContext;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	MemoryContextSwitchTo(old);
}

void
tb_unnest(void)
{
	MemoryContext old = CurrentMemoryContext;

	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	MemoryContextSwitchTo(old);
}

/*
 * tb_enter
 *		Connect to SPI, as the owner of the function that was called.
 */
void
tb_enter(FunctionCallInfo fcinfo, Session *session)
{
	HeapTuple	proc;
	Oid			owner;

	proc = SearchSysCache1(PROCOID,
						   ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	if (!HeapTupleIsValid(proc))
		elog(ERROR, "cache lookup failed for function %u",
			 fcinfo->flinfo->fn_oid);
	owner = ((Form_pg_proc) GETSTRUCT(proc))->proowner;
	ReleaseSysCache(proc);

	session->context = CurrentMemoryContext;
	GetUserIdAndSecContext(&session->userid, &session->sec_context);
	SetUserIdAndSecContext(owner, session->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE);
	tb_nest();
}

/*
 * tb_leave
 *		Disconnect and become the caller again.
 */
void
tb_leave(Session *session)
{
	tb_unnest();
	SetUserIdAndSecContext(session->userid, session->sec_context);
	MemoryContextSwitchTo(session->context);
}

/* Keep a plan that was just prepared; SPI has left us in a context of its own. */
static SPIPlanPtr
keep_plan(SPIPlanPtr plan, const char *sql, MemoryContext old)
{
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql,
			 SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	MemoryContextSwitchTo(old);
	return plan;
}

/*
 * tb_plan
 *		Prepare a statement and keep its plan for the session.
 *
 * The generic plan is asked for at once: all statements here are look-ups by
 * key, for which the values make no difference.
 */
SPIPlanPtr
tb_plan(const char *sql, int nargs, Oid *types)
{
	MemoryContext old = CurrentMemoryContext;

	return keep_plan(SPI_prepare_cursor(sql, nargs, types, CURSOR_OPT_GENERIC_PLAN), sql, old);
}

static uint64
run(SPIPlanPtr plan, Datum *values, const char *nulls, bool read_only)
{
	MemoryContext old = CurrentMemoryContext;
	int			code;

	if (SPI_tuptable != NULL)
		SPI_freetuptable(SPI_tuptable);
	code = SPI_execute_plan(plan, values, nulls, read_only, 0);
	if (code < 0)
		elog(ERROR, "could not execute a plan: %s",
			 SPI_result_code_string(code));
	MemoryContextSwitchTo(old);
	return SPI_processed;
}

/*
 * tb_run_plan, tb_run, tb_read
 *		Execute a plan or a query and return how many rows it processed; they
 *		are in SPI_tuptable until the next is executed: a batch of thousands
 *		must not pile results up.
 *
 * tb_read runs in the snapshot of the calling query, the others take a new one
 * (in READ COMMITTED), and so see what a lock was waited for.
 */
uint64
tb_run_plan(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	return run(plan, values, nulls, false);
}

uint64
tb_run(Statement *statement, Datum *values, const char *nulls)
{
	if (unlikely(statement->plan == NULL))
		statement->plan = tb_plan(statement->sql, statement->nargs, statement->types);
	return run(statement->plan, values, nulls, false);
}

uint64
tb_read(Statement *statement, Datum *values, const char *nulls)
{
	if (unlikely(statement->plan == NULL))
		statement->plan = tb_plan(statement->sql, statement->nargs, statement->types);
	return run(statement->plan, values, nulls, true);
}

/*
 * Called each time the statement is parsed, which is again when something that it
 * depends on has changed: the extension may have been dropped and created, and then
 * its types are others.
 */
static void
find_types(ParseState *pstate, void *arg)
{
	Statement  *statement = (Statement *) arg;

	memcpy(statement->found, statement->types, sizeof(statement->types));
	setup_parse_variable_parameters(pstate, &statement->found, &statement->nargs);
}

static SPIPlanPtr
plan_late(Statement *statement)
{
	MemoryContext old = CurrentMemoryContext;

	if (statement->found == NULL)
		statement->found = MemoryContextAllocZero(TopMemoryContext,
												  sizeof(statement->types));
	return keep_plan(SPI_prepare_params(statement->sql, find_types, statement,
										CURSOR_OPT_GENERIC_PLAN),
					 statement->sql, old);
}

/*
 * tb_run_late
 *		Execute a query that asks for each parameter when it needs it.
 *
 * The types of its parameters may be left to the parser (TB_FOUND_TYPE), where they
 * are the extension's own; "found" has them when they are asked for.
 */
uint64
tb_run_late(Statement *statement, ParamFetchHook fetch, void *arg)
{
	MemoryContext old = CurrentMemoryContext;
	ParamListInfo params = makeParamList(statement->nargs);
	int			code;

	params->paramFetch = fetch;
	params->paramFetchArg = arg;
	if (unlikely(statement->plan == NULL))
		statement->plan = plan_late(statement);
	if (SPI_tuptable != NULL)
		SPI_freetuptable(SPI_tuptable);
	code = SPI_execute_plan_with_paramlist(statement->plan, params, false, 0);
	if (code < 0)
		elog(ERROR, "could not execute a plan: %s",
			 SPI_result_code_string(code));
	MemoryContextSwitchTo(old);
	pfree(params);
	return SPI_processed;
}

/*
 * tb_row
 *		Take the first row of the last result apart; false if there is none.
 *
 * Values by reference point into SPI's memory: copy what must live longer.
 */
bool
tb_row(Datum *values, bool *nulls)
{
	if (SPI_processed == 0)
		return false;
	heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, values,
					  nulls);
	return true;
}

/*
 * tb_take_row_apart
 *		Take a row apart that was fetched whole, as one value, of a table that has
 *		so many columns.
 *
 * Fetching it so spares the executor setting up a dozen columns in each of its
 * nodes, a quarter of what a look-up costs.  Values by reference point into the
 * row.
 */
void
tb_take_row_apart(HeapTupleHeader header, int columns, Datum *values, bool *nulls)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header),
											  HeapTupleHeaderGetTypMod(header));
	HeapTupleData row;

	if (desc->natts != columns)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tokenbill's library and its SQL objects are of different versions"),
				 errhint("Run ALTER EXTENSION tokenbill UPDATE.")));
	row.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&row.t_self);
	row.t_tableOid = InvalidOid;
	row.t_data = header;
	heap_deform_tuple(&row, desc, values, nulls);
	ReleaseTupleDesc(desc);
}
