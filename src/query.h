#ifndef TOKENBILL_QUERY_H
#define TOKENBILL_QUERY_H

#include "tokenbill.h"
#include "executor/spi.h"
#include "nodes/params.h"

#define TB_MAX_PARAMETERS 20

/* Of a parameter of tb_run_late(): what the parser finds that it has to be. */
#define TB_FOUND_TYPE InvalidOid

/* A statement whose plan is made once a session; declare them static. */
typedef struct Statement
{
	const char *sql;
	int			nargs;
	Oid			types[TB_MAX_PARAMETERS];
	SPIPlanPtr	plan;
	Oid		   *found;			/* tb_run_late()'s types, once there is a plan */
} Statement;

/* What tb_enter() changed, for tb_leave() to put back. */
typedef struct Session
{
	Oid			userid;
	int			sec_context;
	MemoryContext context;
} Session;

extern void tb_nest(void);
extern void tb_unnest(void);
extern void tb_enter(FunctionCallInfo fcinfo, Session *session);
extern void tb_leave(Session *session);
extern uint64 tb_run(Statement *statement, Datum *values, const char *nulls);
extern uint64 tb_read(Statement *statement, Datum *values, const char *nulls);
extern SPIPlanPtr tb_plan(const char *sql, int nargs, Oid *types);
extern uint64 tb_run_plan(SPIPlanPtr plan, Datum *values, const char *nulls);
extern uint64 tb_run_late(Statement *statement, ParamFetchHook fetch, void *arg);
extern bool tb_row(Datum *values, bool *nulls);
extern void tb_take_row_apart(HeapTupleHeader header, int columns,
							  Datum *values, bool *nulls);

#endif							/* TOKENBILL_QUERY_H */
