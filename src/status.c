/*
 * status.c
 *	  What launcher and worker are doing, from shared memory.
 */
#include "tokenbill.h"

#include "access/xlog.h"
#include "funcapi.h"
#include "launcher.h"
#include "miscadmin.h"
#include "slot.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(tokenbill_worker_state);

#define COLUMNS 12

/* The order of the columns of worker_state(). */
enum
{
	PROCESS, PID, STATE, STARTED_AT, LAST_ERROR, LAST_ERROR_AT, FAILURES,
	RESTART_AT, NEXT_DUE, DUTY, REQUESTS, HINT
};

typedef struct Row
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
} Row;

static void
put_text(Row *row, int column, const char *value)
{
	row->values[column] = CStringGetTextDatum(value);
	row->nulls[column] = false;
}

static void
put_time(Row *row, int column, TimestampTz value)
{
	row->values[column] = TimestampTzGetDatum(value);
	row->nulls[column] = value == 0 || TIMESTAMP_NOT_FINITE(value);
}

static void
put_integer(Row *row, int column, int value)
{
	row->values[column] = Int32GetDatum(value);
	row->nulls[column] = false;
}

static void
begin_row(Row *row, const char *process)
{
	memset(row->nulls, true, sizeof(row->nulls));
	put_text(row, PROCESS, process);
}

static const char *
state_name(WorkerState state)
{
	switch (state)
	{
		case TB_WORKER_STARTING:
			return "starting";
		case TB_WORKER_WORKING:
			return "working";
		case TB_WORKER_ASLEEP:
			return "asleep";
		case TB_WORKER_BACKING_OFF:
			return "backing off";
		case TB_WORKER_NO_PROCESS:
			return "no process";
		case TB_WORKER_OTHER_VERSION:
			return "other version";
		case TB_WORKER_NO_EXTENSION:
			return "no extension";
	}
	return "unknown";
}

static const char *
state_hint(WorkerState state)
{
	switch (state)
	{
		case TB_WORKER_BACKING_OFF:
			return "See last_error; it is started again at restart_at.";
		case TB_WORKER_NO_PROCESS:
			return "Increase max_worker_processes.";
		case TB_WORKER_OTHER_VERSION:
			return "Run ALTER EXTENSION tokenbill UPDATE.";
		default:
			return NULL;
	}
}

static void
launcher_row(Row *row, int pid, TimestampTz started_at)
{
	begin_row(row, "launcher");
	if (tb_workers == NULL)
	{
		put_text(row, STATE, "not preloaded");
		put_text(row, HINT, "Add tokenbill to shared_preload_libraries and restart the server.");
	}
	else if (pid != 0)
	{
		put_integer(row, PID, pid);
		put_time(row, STARTED_AT, started_at);
		put_text(row, STATE, tb_worker_enabled ? "asleep" : "off");
	}
	else
	{
		put_text(row, STATE, RecoveryInProgress() ? "standby" : "not running");
		put_text(row, HINT, RecoveryInProgress() ?
				 "It starts when this server is promoted." :
				 "It starts again within seconds; see the server's log.");
	}
}

static void
worker_row(Row *row, const WorkerSlot *slot)
{
	const char *hint;

	begin_row(row, "worker");
	if (slot->database == InvalidOid)
	{
		put_text(row, STATE, tb_worker_enabled ? "none" : "off");
		if (!tb_worker_enabled)
			put_text(row, HINT, "The setting tokenbill.worker is off.");
		return;
	}
	put_text(row, STATE, state_name(slot->state));
	put_time(row, STARTED_AT, slot->started_at);
	put_integer(row, FAILURES, slot->failures);
	put_time(row, LAST_ERROR_AT, slot->last_error_at);
	if (slot->last_error_at != 0)
		put_text(row, LAST_ERROR, slot->last_error);
	hint = state_hint(slot->state);
	if (hint != NULL)
		put_text(row, HINT, hint);
	if (slot->pid == 0)
	{
		put_time(row, RESTART_AT, slot->restart_at);
		return;
	}
	put_integer(row, PID, slot->pid);
	put_integer(row, REQUESTS, slot->requests);
	if (slot->duty[0] != '\0')
	{
		put_text(row, DUTY, slot->duty);
		put_time(row, NEXT_DUE,
				 (TimestampTz) pg_atomic_read_u64((pg_atomic_uint64 *) &slot->next_due));
	}
}

/*
 * worker_state() -> setof record
 *		A row of the launcher, and, when preloaded, one of this database's worker.
 */
Datum
tokenbill_worker_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	WorkerSlot	copy = {0};
	int			launcher_pid = 0;
	TimestampTz launcher_started_at = 0;
	Row			row;

	InitMaterializedSRF(fcinfo, 0);
	if (tb_workers != NULL)
	{
		WorkerSlot *slot;

		LWLockAcquire(tb_workers->lock, LW_SHARED);
		slot = tb_slot_find(MyDatabaseId);
		if (slot != NULL)
			copy = *slot;
		launcher_pid = tb_workers->launcher_pid;
		launcher_started_at = tb_workers->launcher_started_at;
		LWLockRelease(tb_workers->lock);
	}
	launcher_row(&row, launcher_pid, launcher_started_at);
	tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
	if (tb_workers != NULL)
	{
		worker_row(&row, &copy);
		tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
	}
	return (Datum) 0;
}
