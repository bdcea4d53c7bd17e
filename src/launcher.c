/*
 * launcher.c
 *	  The process that sees to it that every database which has the extension has
 *	  its worker.
 *
 * It is connected to no database, so it can list them but cannot look into them.
 * A worker looks for itself, and goes again where there is no extension.
 *
 *						  +------------- not for long, or told to go
 *						  v											|
 *	 (no slot) --> starting --> working <--> asleep ----------------+
 *		 ^			|  |  |		  |				|					|
 *		 |			|  |  |		  +-------------+-- ended --> backing off
 *		 |			|  |  |							 (or could not start)
 *		 |			|  |  +--> other version -- ALTER EXTENSION --> starting
 *		 |			|  +--> no process -- after a while, or one is free --> starting
 *		 +----------+
 *		 no extension: remembered here, until somebody says to look again
 *
 * The launcher sleeps until it is woken: by a worker that has begun or has ended,
 * by a transaction that has created or dropped something of interest
 * (database_hook.c), by a reload; or until a worker may be started again.  Workers
 * are never restarted by the postmaster: what is to become of a database is
 * decided here only.
 *
 * The postmaster starts the launcher when recovery is over, so a standby has
 * none, and gets it when it is promoted.  A worker that crashes takes all
 * processes with it, and the shared memory; the launcher begins from nothing.
 */
#include "launcher.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "database_hook.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "slot.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

/* How many databases are looked into at a time: processes are scarce. */
#define MAX_STARTING 4

#define FIRST_BACK_OFF 1000L
#define LONGEST_BACK_OFF (300 * 1000L)

/* What a database that was being dropped when the server crashed has. */
#define CONNLIMIT_INVALID (-2)

PGDLLEXPORT void tokenbill_launcher_main(Datum arg);

bool		tb_worker_enabled = true;

/* What the launcher knows of a database and nobody else needs. */
typedef struct Known
{
	Oid			database;
	bool		listed;			/* it is there, and takes connections */
	bool		absent;			/* it has no extension */
	bool		again;			/* somebody wants it looked at by a worker
								 * that begins after that */
	BackgroundWorkerHandle *handle; /* of the last worker, or NULL */
	NameData	name;
} Known;

static HTAB *known_databases = NULL;

/*
 * tb_back_off
 *		How many milliseconds to wait after so many failures in a row.
 */
long
tb_back_off(int failures)
{
	if (failures > 9)
		return LONGEST_BACK_OFF;
	return Min(FIRST_BACK_OFF << Max(failures - 1, 0), LONGEST_BACK_OFF);
}

/*
 * tb_wait_time
 *		Milliseconds from now until then, as WaitLatch() takes them: -1 is for
 *		ever.
 */
long
tb_wait_time(TimestampTz until, TimestampTz now)
{
	if (until == DT_NOEND)
		return -1;
	if (until <= now)
		return 0;
	return Min((until - now + 999) / 1000, (TimestampTz) PG_INT32_MAX);
}

/* List the databases that may have a worker. */
static void
list_databases(void)
{
	HASH_SEQ_STATUS sequence;
	Known	   *known;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	hash_seq_init(&sequence, known_databases);
	while ((known = hash_seq_search(&sequence)) != NULL)
		known->listed = false;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		bool		found;

		if (!form->datallowconn || form->datistemplate ||
			form->datconnlimit == CONNLIMIT_INVALID)
			continue;
		known = hash_search(known_databases, &form->oid, HASH_ENTER, &found);
		if (!found)
		{
			known->absent = false;
			known->again = false;
			known->handle = NULL;
		}
		known->listed = true;
		known->name = form->datname;
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	pgstat_report_stat(true);
}

/*
 * Take in what databases others have asked to look at.
 *
 * The race is with a worker that has looked too early, and says that there is no
 * extension, maybe after the request has come: "again" stays until another one
 * is started.
 */
static void
take_requests(void)
{
	HASH_SEQ_STATUS sequence;
	Known	   *known;

	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	hash_seq_init(&sequence, known_databases);
	while ((known = hash_seq_search(&sequence)) != NULL)
	{
		bool		asked = tb_workers->look_at_all;

		for (int i = 0; i < tb_workers->n_looks && !asked; i++)
			asked = tb_workers->looks[i] == known->database;
		if (asked)
		{
			known->again = true;
			known->absent = false;
		}
	}
	tb_workers->look_at_all = false;
	tb_workers->n_looks = 0;
	LWLockRelease(tb_workers->lock);
}

static void
forget_handle(Known *known)
{
	if (known->handle != NULL)
		pfree(known->handle);
	known->handle = NULL;
}

/*
 * Let go of the processes that have ended; the postmaster wakes us for each.  Who
 * waits for one can have it now.
 */
static void
let_go(void)
{
	HASH_SEQ_STATUS sequence;
	Known	   *known;
	bool		is_free = false;

	hash_seq_init(&sequence, known_databases);
	while ((known = hash_seq_search(&sequence)) != NULL)
	{
		pid_t		pid;

		if (known->handle != NULL &&
			GetBackgroundWorkerPid(known->handle, &pid) == BGWH_STOPPED)
		{
			forget_handle(known);
			is_free = true;
		}
	}
	if (!is_free)
		return;
	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	for (int i = 0; i < tb_workers->n_slots; i++)
	{
		if (tb_workers->slots[i].state == TB_WORKER_NO_PROCESS)
			tb_workers->slots[i].restart_at = 0;
	}
	LWLockRelease(tb_workers->lock);
}

/*
 * What is to be done about one database; returns whether to start a worker.  In
 * that case the slot says "starting", so that who wants the database to itself
 * waits.  *until is brought forward to when to look again.
 */
static bool
judge_database(Known *known, int *starting, TimestampTz now, TimestampTz *until)
{
	WorkerSlot *slot = tb_slot_find(known->database);

	if (slot != NULL && slot->pid != 0)
	{
		if (!known->listed || !tb_worker_enabled)
		{
			slot->leave = true;
			tb_slot_wake(slot);
		}
		if (slot->state == TB_WORKER_STARTING)
			(*starting)++;
		return false;
	}
	if (slot != NULL && slot->state == TB_WORKER_STARTING)
	{
		/* without a handle it has ended before it could say so */
		if (known->handle != NULL)
		{
			(*starting)++;
			return false;
		}
		slot->failures++;
		slot->state = TB_WORKER_BACKING_OFF;
		slot->restart_at = now + tb_back_off(slot->failures) * 1000;
		tb_slot_error(slot, "the process could not be started");
	}
	if (slot != NULL && slot->state == TB_WORKER_NO_EXTENSION)
	{
		known->absent = !known->again;
		slot->database = InvalidOid;
		slot = NULL;
	}
	if (!known->listed)
	{
		if (slot != NULL)
			slot->database = InvalidOid;
		return false;
	}
	if (known->absent || !tb_worker_enabled || tb_barred(known->database))
		return false;
	if (slot != NULL && slot->state == TB_WORKER_OTHER_VERSION && !known->again)
		return false;
	if (slot != NULL && slot->restart_at > now)
	{
		*until = Min(*until, slot->restart_at);
		return false;
	}
	if (*starting >= MAX_STARTING)
		return false;			/* those that start will wake us */
	slot = tb_slot_take(known->database);
	if (slot == NULL)
	{
		tb_workers->without_slot++;
		return false;
	}
	(*starting)++;
	return true;
}

/* Start the worker of a database whose slot is ready. */
static void
start_worker(Known *known, TimestampTz now, TimestampTz *until)
{
	BackgroundWorker worker;
	WorkerSlot *slot;
	bool		begins = false;
	bool		started;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(known->database);
	strlcpy(worker.bgw_library_name, "tokenbill", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "tokenbill_worker_main",
			sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_type, "tokenbill worker", sizeof(worker.bgw_type));
	snprintf(worker.bgw_name, sizeof(worker.bgw_name),
			 "tokenbill worker for database %u", known->database);

	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	slot = tb_slot_find(known->database);
	begins = slot->state != TB_WORKER_NO_PROCESS;
	slot->state = TB_WORKER_STARTING;
	slot->leave = false;
	slot->started_at = now;
	LWLockRelease(tb_workers->lock);

	known->again = false;
	forget_handle(known);
	started = RegisterDynamicBackgroundWorker(&worker, &known->handle);
	if (started)
		return;

	known->handle = NULL;
	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	slot->failures = begins ? 1 : slot->failures + 1;
	slot->state = TB_WORKER_NO_PROCESS;
	slot->restart_at = now + tb_back_off(slot->failures) * 1000;
	*until = Min(*until, slot->restart_at);
	tb_slot_error(slot, "no background worker process is free");
	LWLockRelease(tb_workers->lock);
	if (begins)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker process is free for database \"%s\"",
						NameStr(known->name)),
				 errdetail("It is tried again, with growing pauses, and not mentioned again until it has worked."),
				 errhint("You may need to increase max_worker_processes.")));
}

/*
 * Look at all databases; returns until when there is nothing to do.
 *
 * A worker is told to go, and its slot looked at, under the lock; it is started
 * without, since the postmaster's list has a lock of its own.
 */
static TimestampTz
look_at_databases(void)
{
	HASH_SEQ_STATUS sequence;
	Known	   *known;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = DT_NOEND;
	int			starting = 0;

	let_go();
	list_databases();
	take_requests();

	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	tb_workers->without_slot = 0;
	LWLockRelease(tb_workers->lock);

	hash_seq_init(&sequence, known_databases);
	while ((known = hash_seq_search(&sequence)) != NULL)
	{
		bool		start;

		LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
		start = judge_database(known, &starting, now, &until);
		LWLockRelease(tb_workers->lock);
		if (start)
			start_worker(known, now, &until);
		else if (!known->listed)
		{
			forget_handle(known);
			hash_search(known_databases, &known->database, HASH_REMOVE, NULL);
		}
	}
	return until;
}

static void
launcher_gone(int code, Datum arg)
{
	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	tb_workers->launcher_pid = 0;
	LWLockRelease(tb_workers->lock);
}

/*
 * tokenbill_launcher_main
 *		The launcher.
 *
 * Errors end it, and the postmaster starts it again after bgw_restart_time; the
 * workers go on meanwhile.  It never ends with exit code 0, after which it would
 * not be started again.
 */
void
tokenbill_launcher_main(Datum arg)
{
	HASHCTL		info = {0};
	uint32		wait_event;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	/* a reload that came before the handler was there has been ignored */
	ConfigReloadPending = true;
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	info.keysize = sizeof(Oid);
	info.entrysize = sizeof(Known);
	info.hcxt = TopMemoryContext;
	known_databases = hash_create("tokenbill databases", 64, &info,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	before_shmem_exit(launcher_gone, (Datum) 0);
	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	tb_workers->launcher_pid = MyProcPid;
	tb_workers->launcher_procno = tb_my_procno();
	tb_workers->launcher_started_at = GetCurrentTimestamp();
	LWLockRelease(tb_workers->lock);
	pgstat_report_appname("tokenbill launcher");
	wait_event = tb_wait_event("TokenbillLauncher");

	for (;;)
	{
		TimestampTz until;
		long		timeout;

		ResetLatch(MyLatch);
		/* a shutdown is no reason for a line of the log */
		if (ProcDiePending)
			proc_exit(1);
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
		ProcessCatchupInterrupt();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			/* for whoever wonders why there is no worker */
			tb_look_at(InvalidOid);
		}
		until = look_at_databases();
		pgstat_report_activity(STATE_IDLE, NULL);
		timeout = tb_wait_time(until, GetCurrentTimestamp());
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
						 (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, wait_event);
	}
}

/*
 * tb_launcher_init
 *		Define the setting, and, when preloaded, have the postmaster start the
 *		launcher; called once, from _PG_init.
 */
void
tb_launcher_init(void)
{
	BackgroundWorker worker;

	DefineCustomBoolVariable("tokenbill.worker",
							 "Whether databases have a worker.",
							 "Only with tokenbill in shared_preload_libraries.",
							 &tb_worker_enabled,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);

	/* pg_upgrade's servers have work of their own */
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	tb_slot_init();
	tb_database_hook_init();
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "tokenbill", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "tokenbill_launcher_main",
			sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_type, "tokenbill launcher", sizeof(worker.bgw_type));
	strlcpy(worker.bgw_name, "tokenbill launcher", sizeof(worker.bgw_name));
	RegisterBackgroundWorker(&worker);
}
