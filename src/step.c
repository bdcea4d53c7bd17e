/*
 * step.c
 *	  What the worker does in the database: steps, each a transaction of its own.
 *
 * A step runs as the extension's owner, in a security-restricted operation, with
 * a fixed search_path and time-outs.  If it fails, the error becomes a row of
 * worker_error, and that duty is left alone for a while; the others go on.
 *
 * Before anything else a step locks the extension.  DROP EXTENSION locks it,
 * too, before the tables in it: so they wait for each other there, where the one
 * that waits holds nothing, and cannot deadlock.
 */
#include "step.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "executor/spi.h"
#include "launcher.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "query.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "worker.h"

/* How long a step may take, and how long of that wait for one lock. */
#define STATEMENT_MS 30000
#define LOCK_MS 2000

/* An error that was not seen for so long is news. */
#define NEWS_US (10 * SECS_PER_MINUTE * USECS_PER_SEC)

/* After so many failures in a row, of whatever, the process starts afresh. */
#define TOO_MANY_FAILURES 20

static Oid	saved_user;
static int	saved_context;

/* Failures since a step last succeeded. */
static int	failures_in_a_row = 0;

/* The extension's row, by its name; oid is InvalidOid if there is none. */
static void
read_extension(Oid *oid, Oid *owner, char **version)
{
	Relation	relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	*oid = InvalidOid;
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("tokenbill"));
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL, 1,
							  &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);
		bool		null;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion,
										 RelationGetDescr(relation), &null);

		*oid = form->oid;
		*owner = form->extowner;
		*version = null ? "" : TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
}

/*
 * Lock the extension until the transaction ends, and say what there is of it.
 * One that was dropped and made again while the lock was waited for has another
 * oid, and this process, with all it remembers, is not for that one.
 */
static ExtensionState
lock_extension(Oid *owner)
{
	static Oid	mine = InvalidOid;
	Oid			oid;
	Oid			still;
	char	   *version;

	read_extension(&oid, owner, &version);
	if (oid == InvalidOid)
		return TB_EXTENSION_ABSENT;
	LockDatabaseObject(ExtensionRelationId, oid, 0, AccessShareLock);
	read_extension(&still, owner, &version);
	if (still != oid || (mine != InvalidOid && mine != oid))
		return TB_EXTENSION_ABSENT;
	mine = oid;
	if (strcmp(version, TOKENBILL_VERSION) != 0)
	{
		tb_worker_says(psprintf("the extension has version %s, and the library is of %s",
								version, TOKENBILL_VERSION));
		return TB_EXTENSION_OTHER_VERSION;
	}
	return TB_EXTENSION_HERE;
}

/* Begin a step; the process ends here if the extension is gone. */
static void
begin_step(const char *what)
{
	Oid			owner;
	ExtensionState state;

	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, what);
	StartTransactionCommand();

	/* no time-out for this one: there is nothing to do before it is had */
	LockTimeout = 0;
	state = lock_extension(&owner);
	if (state != TB_EXTENSION_HERE)
	{
		CommitTransactionCommand();
		tb_worker_leave(state);
	}
	LockTimeout = LOCK_MS;
	enable_timeout_after(STATEMENT_TIMEOUT, STATEMENT_MS);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	GetUserIdAndSecContext(&saved_user, &saved_context);
	SetUserIdAndSecContext(owner, saved_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
}

/* Whatever is deferred to the commit still runs as the owner. */
static void
end_step(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	PopActiveSnapshot();
	disable_timeout(STATEMENT_TIMEOUT, false);
	CommitTransactionCommand();
	SetUserIdAndSecContext(saved_user, saved_context);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Run a step; returns the error, in the current memory context, or NULL.
 *
 * What is thrown must not get out: there is nobody outside.
 */
static ErrorData *
try_step(const char *what, StepFunction function, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		begin_step(what);
		function(arg);
		end_step();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		disable_all_timeouts(false);
		QueryCancelPending = false;
		AbortOutOfAnyTransaction();
		pgstat_report_activity(STATE_IDLE, NULL);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

typedef struct Failure
{
	const char *duty;
	const char *target;
	const ErrorData *error;
} Failure;

static void
record_failure(void *arg)
{
	static Statement query = {
		.sql = "SELECT tokenbill.record_worker_error($1, $2, $3, $4, $5, $6)",
		.nargs = 6,
		.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	};
	Failure    *failure = arg;
	const ErrorData *error = failure->error;
	Datum		values[6];
	char		nulls[7] = "      ";

	values[0] = CStringGetTextDatum(failure->duty);
	values[1] = CStringGetTextDatum(failure->target ? failure->target : "");
	values[2] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
	values[3] = CStringGetTextDatum(error->message ? error->message : "");
	if (error->detail != NULL)
		values[4] = CStringGetTextDatum(error->detail);
	else
		nulls[4] = 'n';
	if (error->hint != NULL)
		values[5] = CStringGetTextDatum(error->hint);
	else
		nulls[5] = 'n';
	tb_run(&query, values, nulls);
}

/*
 * tb_duty_rests
 *		Leave a duty alone for a while, the longer the more often.
 */
void
tb_duty_rests(Duty *duty)
{
	duty->failures++;
	duty->not_before = GetCurrentTimestamp() +
		(TimestampTz) tb_back_off(duty->failures) * 1000;
}

/*
 * Whether the log is to have a line of a duty's error: fewer and fewer, unless
 * there was none for a while.  The table has all of them.
 */
static bool
is_for_log(Duty *duty)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now - duty->failed_at > NEWS_US)
	{
		duty->lines = 0;
		duty->quiet_until = now;
	}
	duty->failed_at = now;
	if (now < duty->quiet_until)
		return false;
	duty->quiet_until = now + (TimestampTz) tb_back_off(++duty->lines) * 1000;
	return true;
}

/* An error of a duty: into the log, into the table, and into shared memory. */
static void
note_failure(Duty *duty, const char *target, const ErrorData *error)
{
	Failure		failure = {duty->name, target, error};
	ErrorData  *another;

	tb_duty_rests(duty);
	tb_worker_says(error->message);
	if (is_for_log(duty))
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("tokenbill worker: %s: %s", duty->name, error->message),
				 error->detail ? errdetail_internal("%s", error->detail) : 0,
				 error->hint ? errhint("%s", error->hint) : 0,
				 error->context ? errcontext("%s", error->context) : 0));
	another = try_step("worker error", record_failure, &failure);
	if (another != NULL)
		ereport(LOG,
				(errcode(another->sqlerrcode),
				 errmsg("tokenbill worker: an error could not be recorded: %s",
						another->message)));
}

/*
 * tb_duty_refused
 *		Note an error that was not thrown in a step, but is a refusal of something
 *		the worker does between them.
 */
void
tb_duty_refused(Duty *duty, const char *target, const Refusal *refusal)
{
	ErrorData	error = {0};

	error.sqlerrcode = refusal->sqlstate;
	error.message = unconstify(char *, refusal->message);
	error.detail = unconstify(char *, refusal->detail);
	error.hint = unconstify(char *, refusal->hint);
	note_failure(duty, target, &error);
}

/* An error of a step; too many of them, and the process ends. */
static void
take_failure(Duty *duty, const char *target, const ErrorData *error)
{
	note_failure(duty, target, error);
	if (++failures_in_a_row >= TOO_MANY_FAILURES)
	{
		ereport(LOG,
				(errmsg("tokenbill worker ends after %d failures in a row",
						failures_in_a_row)));
		proc_exit(1);
	}
}

/*
 * tb_step
 *		Run something in a transaction of its own; returns whether it succeeded.
 *
 * Nothing that the function allocates is there afterwards, but for what it puts
 * into a memory context of the caller's.
 */
bool
tb_step(Duty *duty, const char *target, StepFunction function, void *arg)
{
	ErrorData  *error = try_step(duty->name, function, arg);

	if (error != NULL)
	{
		take_failure(duty, target, error);
		return false;
	}
	duty->failures = 0;
	duty->not_before = DT_NOBEGIN;
	failures_in_a_row = 0;
	return true;
}
