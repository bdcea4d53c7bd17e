/*
 * compat.h
 *	  Everything in which the supported versions of PostgreSQL differ.
 */
#ifndef TOKENBILL_COMPAT_H
#define TOKENBILL_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "tokenbill needs PostgreSQL 15 or newer"
#endif

/* PostgreSQL 17 moved the local transaction id into PGPROC.vxid. */
#if PG_VERSION_NUM >= 170000
#define tb_local_xid() (MyProc->vxid.lxid)
#else
#define tb_local_xid() (MyProc->lxid)
#endif

/* And the number of a PGPROC out of it. */
#if PG_VERSION_NUM >= 170000
#define tb_my_procno() (MyProcNumber)
#else
#define tb_my_procno() (MyProc->pgprocno)
#endif

/* PostgreSQL 16 made one function of all those that ask for an owner. */
#if PG_VERSION_NUM >= 160000
#define tb_owns_database(database, role) \
	object_ownercheck(DatabaseRelationId, (database), (role))
#else
#define tb_owns_database(database, role) \
	pg_database_ownercheck((database), (role))
#endif

/*
 * PostgreSQL 16 gave settings a memory context; before, what a check hook hands
 * to its assign hook came from malloc.
 */
#if PG_VERSION_NUM >= 160000
#define tb_guc_malloc(size) guc_malloc(LOG, (size))
#else
#define tb_guc_malloc(size) malloc(size)
#endif

/* PostgreSQL 18 lets minimal tuples be made with room in front. */
#if PG_VERSION_NUM >= 180000
#define tb_form_minimal_tuple(desc, values, nulls) \
	heap_form_minimal_tuple((desc), (values), (nulls), 0)
#define tb_copy_minimal_tuple(tuple) heap_copy_minimal_tuple((tuple), 0)
#else
#define tb_form_minimal_tuple(desc, values, nulls) \
	heap_form_minimal_tuple((desc), (values), (nulls))
#define tb_copy_minimal_tuple(tuple) heap_copy_minimal_tuple((tuple))
#endif

/* PostgreSQL 17 lets a set of wait events belong to a resource owner. */
#if PG_VERSION_NUM >= 170000
#define tb_create_wait_event_set(count) CreateWaitEventSet(NULL, (count))
#else
#define tb_create_wait_event_set(count) \
	CreateWaitEventSet(TopMemoryContext, (count))
#endif

/* PostgreSQL 17 lets extensions give wait events a name of their own. */
#if PG_VERSION_NUM >= 170000
#define tb_wait_event(name) WaitEventExtensionNew(name)
#else
#define tb_wait_event(name) PG_WAIT_EXTENSION
#endif

/* PostgreSQL 18 says before a function that it does not return, not behind. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* PostgreSQL 16 lets what the JSON parser calls end the parsing. */
#if PG_VERSION_NUM >= 160000
#define TB_JSON_ACTION	JsonParseErrorType
#define TB_JSON_GO_ON	return JSON_SUCCESS
#else
#define TB_JSON_ACTION	void
#define TB_JSON_GO_ON	return
#endif

/* PostgreSQL 17 lets a lexer be made in the caller's memory. */
#if PG_VERSION_NUM >= 170000
#define tb_json_lexer(document) makeJsonLexContext(NULL, (document), true)
#else
#define tb_json_lexer(document) makeJsonLexContext((document), true)
#endif

/* PostgreSQL 18 took an argument from what runs a plan. */
#if PG_VERSION_NUM >= 180000
#define TB_RUN_PARAMETERS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define TB_RUN_ARGUMENTS queryDesc, direction, count
#else
#define TB_RUN_PARAMETERS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, bool execute_once
#define TB_RUN_ARGUMENTS queryDesc, direction, count, execute_once
#endif

#endif							/* TOKENBILL_COMPAT_H */
