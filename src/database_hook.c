/*
 * database_hook.c
 *	  Statements that concern a database as a whole, or the extension in it.
 *
 * DROP DATABASE, CREATE DATABASE from a template, ALTER DATABASE RENAME and SET
 * TABLESPACE are refused while anybody is connected to the database, and a worker
 * would be for ever.  So before such a statement its worker is asked to go, and
 * none is started there until the transaction ends.  DROP DATABASE says a
 * moment later whether it is allowed to; only who may have it done disturbs the
 * worker.
 *
 *	 statement						  what becomes of the worker
 *	 CREATE EXTENSION				  at COMMIT the launcher looks, and starts it
 *	 ALTER EXTENSION UPDATE			  the same, where the version was another one
 *	 DROP EXTENSION					  at the end it looks, and goes
 *	 CREATE DATABASE				  at COMMIT the launcher looks into the new one;
 *									  the template's goes, and comes back
 *	 ALTER DATABASE RENAME, SET TABLESPACE	it goes, and comes back
 *	 ALTER DATABASE ALLOW_CONNECTIONS, IS_TEMPLATE	at COMMIT the launcher looks
 *	 DROP DATABASE					  it goes; comes back if that fails
 */
#include "database_hook.h"

#include "tokenbill.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "slot.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"
#include "wake.h"

/* How long to wait for a worker to go: as long as PostgreSQL itself waits. */
#define PATIENCE_MS 5000

/* How long it may take to finish its step. */
#define GENTLE_MS 1000

#define LOOK_AGAIN_MS 10

static ProcessUtility_hook_type previous_utility = NULL;
static object_access_hook_type previous_access = NULL;

/*
 * The worker of a database that is on its way or there: its pid, 0 if it has not
 * begun yet, -1 if there is none.  Asks it to go.
 */
static int
ask_to_leave(Oid database, bool kill_it)
{
	WorkerSlot *slot;
	int			pid = -1;

	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	slot = tb_slot_find(database);
	if (slot != NULL && (slot->pid != 0 || slot->state == TB_WORKER_STARTING))
	{
		pid = slot->pid;
		slot->leave = true;
		tb_slot_wake(slot);
		if (kill_it && pid != 0)
			kill(pid, SIGTERM);
	}
	LWLockRelease(tb_workers->lock);
	return pid;
}

/*
 * Keep workers out of a database until this transaction ends.  One that is busy
 * is given a second, and then ended in the middle.  Whoever waits longer goes on,
 * and gets PostgreSQL's own error.
 */
static void
clear_database(Oid database)
{
	int			waited = 0;
	int			last = 0;

	tb_unbar_at_end(database);
	while (waited < PATIENCE_MS)
	{
		int			pid = ask_to_leave(database, waited >= GENTLE_MS);

		/* out of its slot, it is in the list of processes for a moment */
		if (pid == -1 && (last == 0 || BackendPidGetProc(last) == NULL))
			break;
		if (pid > 0)
			last = pid;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_AGAIN_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		waited += LOOK_AGAIN_MS;
	}
}

/* Whether the present role may use the database as a template. */
static bool
may_copy(Oid database)
{
	bool		allowed = tb_owns_database(database, GetUserId());
	HeapTuple	tuple;

	if (allowed)
		return true;
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		allowed = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	if (!allowed)
		return false;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		allowed = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return allowed;
}

/* The value of an option of a statement on databases, or NULL. */
static char *
option_value(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		/* TEMPLATE DEFAULT has none */
		if (strcmp(option->defname, name) == 0)
			return option->arg == NULL ? NULL : defGetString(option);
	}
	return NULL;
}

/* The database that the statement needs for itself, or NULL. */
static const char *
database_needed(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_CreatedbStmt:
			{
				const char *name = option_value(((CreatedbStmt *) statement)->options, "template");

				/* it has a worker only if somebody says it is no template */
				return name != NULL ? name : "template1";
			}
		case T_AlterDatabaseStmt:
			{
				AlterDatabaseStmt *alter = (AlterDatabaseStmt *) statement;

				return option_value(alter->options, "tablespace") ? alter->dbname : NULL;
			}
		case T_RenameStmt:
			{
				RenameStmt *rename = (RenameStmt *) statement;

				return rename->renameType == OBJECT_DATABASE ? rename->subname : NULL;
			}
		default:
			return NULL;
	}
}

/*
 * Have the worker go, if the statement will need that.  But for RENAME these are
 * refused in a transaction block.
 */
static void
before_statement(Node *statement, ProcessUtilityContext context)
{
	const char *name = database_needed(statement);
	Oid			database;

	if (name == NULL || !IsTransactionState())
		return;
	if (!IsA(statement, RenameStmt) &&
		(context != PROCESS_UTILITY_TOPLEVEL || IsTransactionBlock()))
		return;
	database = get_database_oid(name, true);
	if (database == InvalidOid)
		return;
	if (IsA(statement, CreatedbStmt) ? may_copy(database) :
		tb_owns_database(database, GetUserId()))
		clear_database(database);
}

static void
process_utility(PlannedStmt *planned, const char *source, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo parameters,
				QueryEnvironment *environment, DestReceiver *receiver,
				QueryCompletion *completion)
{
	Node	   *statement = planned->utilityStmt;
	bool		commits_prepared = IsA(statement, TransactionStmt) &&
		((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED;

	before_statement(statement, context);
	if (previous_utility != NULL)
		previous_utility(planned, source, read_only_tree, context, parameters,
						 environment, receiver, completion);
	else
		standard_ProcessUtility(planned, source, read_only_tree, context,
								parameters, environment, receiver, completion);
	/* what it has changed may be due, or be the extension itself */
	if (commits_prepared && get_extension_oid("tokenbill", true) != InvalidOid)
		tb_wake_now();
}

static bool
is_tokenbill(Oid extension)
{
	char	   *name = get_extension_name(extension);

	return name != NULL && strcmp(name, "tokenbill") == 0;
}

/*
 * An extension that is being made cannot be seen yet, so any is looked at.
 */
static void
access_object(ObjectAccessType access, Oid class_id, Oid object, int sub_id,
			  void *arg)
{
	if (previous_access != NULL)
		previous_access(access, class_id, object, sub_id, arg);
	if (access != OAT_POST_CREATE && access != OAT_POST_ALTER &&
		access != OAT_DROP)
		return;
	if (class_id == ExtensionRelationId)
	{
		if (access == OAT_POST_CREATE || is_tokenbill(object))
			tb_look_at_end(MyDatabaseId);
	}
	else if (class_id == DatabaseRelationId)
		tb_look_at_end(object);
}

/*
 * tb_database_hook_init
 *		Called once, from _PG_init, when preloaded.
 */
void
tb_database_hook_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	previous_access = object_access_hook;
	object_access_hook = access_object;
}
