/*
 * worker.c
 *	  The worker of one database: it sleeps until something is due, and does it.
 *
 *	  woken, or it is time, or an answer or the master key has come
 *		  -> record answers			(a step each: a transaction of its own)
 *		  -> start what waited for the key
 *		  -> what is due?			(a step)
 *		  -> claim calls, start them (a step; call.c)
 *		  -> upkeep					(a step a batch)
 *		  -> sleep until the next is due, the latch is set, or an answer comes
 *
 * A database where nothing is due costs nothing: there is no time-out then, and no
 * transaction.  launcher.c says what becomes of the process.
 */
#include "worker.h"

#include "access/htup_details.h"
#include "call.h"
#include "clock.h"
#include "counter.h"
#include "http.h"
#include "key_hold.h"
#include "launcher.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "query.h"
#include "slot.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* Who lives that long was well when it began. */
#define HEALTHY_US (60 * USECS_PER_SEC)

PGDLLEXPORT void tokenbill_worker_main(Datum arg);

static int	error_retention = 30 * SECS_PER_DAY;

static WorkerSlot *slot = NULL;

/* How the one before us ended, and whether we have been told to end. */
static bool came_after_bad_end = false;
static volatile sig_atomic_t told_to_end = false;

/* What the process ends for, and, if with an error, with which. */
static ExtensionState extension_state = TB_EXTENSION_HERE;
static char last_words[TB_SLOT_ERROR] = "";
static emit_log_hook_type previous_log_hook = NULL;

static Duty look_duty = {.name = "what is due",.not_before = DT_NOBEGIN};
static Duty upkeep_duty = {.name = "upkeep",.not_before = DT_NOBEGIN};

/* What the last look found; by tokenbill's clock. */
static TimestampTz calls_due = DT_NOEND;
static TimestampTz upkeep_due = DT_NOEND;

/* When we want to know of moved balances; DT_NOEND: not at all */
static TimestampTz watching_by = DT_NOEND;

/*
 * tb_worker_init
 *		Define the setting; called once, from _PG_init.
 */
void
tb_worker_init(void)
{
	DefineCustomIntVariable("tokenbill.error_retention",
							"How long what went wrong in the worker is kept.",
							"From one hour on; 30 days by default.",
							&error_retention,
							30 * SECS_PER_DAY, SECS_PER_HOUR, INT_MAX,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);
}

/*
 * tb_worker_says
 *		Show in worker_status what went wrong last.
 */
void
tb_worker_says(const char *message)
{
	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	tb_slot_error(slot, message);
	LWLockRelease(tb_workers->lock);
}

/* What ends a process is known to the log only; keep it. */
static void
hear_last_words(ErrorData *error)
{
	if (error->elevel >= FATAL && error->message != NULL)
		strlcpy(last_words, error->message, sizeof(last_words));
	if (previous_log_hook != NULL)
		previous_log_hook(error);
}

/* Take over the slot that the launcher has made; false if it is not for us. */
static bool
attach(Oid database)
{
	WorkerSlot *found;

	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	found = tb_slot_find(database);
	if (found != NULL &&
		(found->state != TB_WORKER_STARTING || found->pid != 0))
		found = NULL;
	if (found != NULL && tb_barred(database))
	{
		found->state = TB_WORKER_BACKING_OFF;
		found->restart_at = 0;
		found = NULL;
	}
	if (found != NULL)
	{
		found->pid = MyProcPid;
		found->procno = tb_my_procno();
		came_after_bad_end = found->ended_badly;
		slot = found;
	}
	LWLockRelease(tb_workers->lock);
	return found != NULL;
}

/*
 * The process ends.  It has left its transaction by now, but not yet the list of
 * processes that CREATE and DROP DATABASE go by.
 */
static void
detach(int code, Datum arg)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	slot->pid = 0;
	slot->requests = 0;
	slot->ended_badly = !told_to_end && !slot->leave && tb_worker_enabled &&
		extension_state == TB_EXTENSION_HERE;
	slot->duty[0] = '\0';
	pg_atomic_write_u64(&slot->next_due, (uint64) DT_NOEND);
	if (extension_state == TB_EXTENSION_ABSENT)
		slot->state = TB_WORKER_NO_EXTENSION;
	else if (extension_state == TB_EXTENSION_OTHER_VERSION)
		slot->state = TB_WORKER_OTHER_VERSION;
	else
	{
		slot->state = TB_WORKER_BACKING_OFF;
		slot->restart_at = 0;
		if (!slot->leave && tb_worker_enabled)
		{
			if (now - slot->started_at >= HEALTHY_US)
				slot->failures = 0;
			slot->failures++;
			slot->restart_at = now + tb_back_off(slot->failures) * 1000;
			if (last_words[0] != '\0')
				tb_slot_error(slot, last_words);
		}
	}
	tb_wake_launcher();
	LWLockRelease(tb_workers->lock);
}

/*
 * tb_worker_leave
 *		End, for the extension is not there, or not one we know.
 */
void
tb_worker_leave(ExtensionState state)
{
	extension_state = state;
	if (state == TB_EXTENSION_OTHER_VERSION)
		ereport(LOG,
				(errmsg("tokenbill worker: %s", slot->last_error),
				 errhint("Run ALTER EXTENSION tokenbill UPDATE.")));
	proc_exit(0);
}

static void
show_state(WorkerState state)
{
	if (slot->state == state)
		return;
	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	/* the launcher begins only so many at a time */
	if (slot->state == TB_WORKER_STARTING)
		tb_wake_launcher();
	slot->state = state;
	LWLockRelease(tb_workers->lock);
}

/* Settings that hold for all we do, whatever the database has been given. */
static void
fix_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"idle_in_transaction_session_timeout", "0"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		/* what decides how our own SQL is read, and how fast it is */
		{"standard_conforming_strings", "on"},
		{"array_nulls", "on"},
		{"transform_null_equals", "off"},
		{"datestyle", "ISO, MDY"},
		{"intervalstyle", "postgres"},
		{"bytea_output", "hex"},
		{"extra_float_digits", "1"},
		{"quote_all_identifiers", "off"},
		{"plan_cache_mode", "auto"},
		{"jit", "off"},
		{"plpgsql.variable_conflict", "error"},
		{"plpgsql.extra_errors", "none"},
		{"plpgsql.extra_warnings", "none"},
	};

	for (size_t i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_OVERRIDE);
}

/*
 * Take in what others want of us.  A shutdown, and being asked to go, end the
 * process without a word in the log; returns whether what is due may have
 * changed.
 */
static bool
take_interrupts(void)
{
	bool		reloaded = ConfigReloadPending;

	if (ProcDiePending)
		proc_exit(1);
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	ProcessCatchupInterrupt();
	if (reloaded)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		tb_hold_forget();
	}
	if (slot->leave || !tb_worker_enabled)
		proc_exit(0);
	return reloaded;
}

/* Publish until when we sleep, and what for; see wake.c for the race. */
static void
show_due(TimestampTz due, const char *duty)
{
	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	strlcpy(slot->duty, duty, TB_SLOT_DUTY);
	LWLockRelease(tb_workers->lock);
	pg_atomic_write_u64(&slot->next_due, (uint64) due);
	pg_memory_barrier();
}

/* What is due, and when. */
static void
read_due(void)
{
	static Statement query = {
		.sql = "SELECT d.due_at, d.is_call, d.duty FROM tokenbill.due() d"
		" ORDER BY d.due_at, d.duty"
	};
	uint64		found;

	calls_due = DT_NOEND;
	upkeep_due = DT_NOEND;
	found = tb_run(&query, NULL, NULL);
	for (uint64 i = 0; i < found; i++)
	{
		Datum		values[3];
		bool		nulls[3];
		TimestampTz due;

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values,
						  nulls);
		due = DatumGetTimestampTz(values[0]);
		if (DatumGetBool(values[1]))
			calls_due = Min(calls_due, due);
		else
			upkeep_due = Min(upkeep_due, due);
		if (i == 0)
			show_due(due, TextDatumGetCString(values[2]));
	}
}

/* When a customer's balance that moves is to be looked at, DT_NOEND if none is. */
static TimestampTz
read_watch(void)
{
	static Statement query = {.sql = "SELECT tokenbill.low_balances_due()"};
	Datum		values[1];
	bool		nulls[1];

	tb_run(&query, NULL, NULL);
	heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, values,
					  nulls);
	return nulls[0] ? DT_NOEND : DatumGetTimestampTz(values[0]);
}

/*
 * Step: what is due, and when, and whether somebody who moves a balance is to wake
 * us.
 *
 * The race is with a session that moves one when nobody has asked for that yet: it
 * finds that nobody wants to know.  But it has counted it before, so we find that
 * it was there, and look again.
 */
static void
look(void *arg)
{
	uint64		moves = tb_moves();
	bool		was_watching = watching_by != DT_NOEND;

	read_due();
	watching_by = read_watch();
	tb_watch_moves(watching_by);
	if (!was_watching && watching_by != DT_NOEND && tb_moves() != moves)
		read_due();
}

/* Step: one batch of upkeep; *arg becomes whether there is more to do at once. */
static void
upkeep(void *arg)
{
	static Statement query = {.sql = "SELECT tokenbill.run_upkeep()"};
	Datum		values[1];
	bool		nulls[1];

	tb_run(&query, NULL, NULL);
	heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, values,
					  nulls);
	*(bool *) arg = DatumGetBool(values[0]);
}

/*
 * When something that is due by tokenbill's clock is due by the system's: never,
 * as long as tokenbill's stands still.
 */
static TimestampTz
real_time(TimestampTz due, const Duty *duty)
{
	TimestampTz now = tb_now();
	TimestampTz real = GetCurrentTimestamp();

	if (due == DT_NOEND)
		return DT_NOEND;
	if (due > now)
		return tb_clock_stands() ? DT_NOEND : Max(due, duty->not_before);
	return Max(real, duty->not_before);
}

static void
show_requests(int running)
{
	if (slot->requests == running)
		return;
	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	slot->requests = running;
	LWLockRelease(tb_workers->lock);
}

/* Whether we have been woken since this was asked last. */
static bool
was_called(void)
{
	return pg_atomic_exchange_u32(&slot->called, 0) != 0;
}

/*
 * Sleep until then, by the system's clock, or until something happens to a
 * request or to the master key, or to our latch; returns whether we were woken by
 * somebody who wants us to look.
 */
static bool
sleep_until(TimestampTz until)
{
	static uint32 wait_event = 0;
	TimestampTz key_at = tb_hold_wake_at();
	long		timeout = tb_wait_time(Min(Min(until, key_at), tb_calls_retry_at()),
									   GetCurrentTimestamp());
	pgsocket	key_socket = tb_hold_socket();
	int			running = tb_http_running();
	uint32		events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;

	show_requests(running);
	if (timeout == 0)
		return false;
	/* whoever calls after this sets the latch after it */
	if (was_called())
		return true;
	pgstat_report_stat(true);
	if (running > 0)
	{
		(void) tb_http_wait(timeout, key_socket);
		return was_called();
	}
	if (key_socket == PGINVALID_SOCKET)
		show_state(TB_WORKER_ASLEEP);
	else
		events |= WL_SOCKET_READABLE;
	if (timeout > 0)
		events |= WL_TIMEOUT;
	if (wait_event == 0)
		wait_event = tb_wait_event("TokenbillWorker");
	(void) WaitLatchOrSocket(MyLatch, events, key_socket, timeout, wait_event);
	return was_called();
}

/*
 * Take on calls that are due.
 *
 * Something may be due and yet nothing be done about it when its time has come:
 * then it is due at the same moment as before, and we must not spin.
 */
static void
do_calls(int room)
{
	static TimestampTz done_due = DT_NOEND;
	static int	in_vain = 0;
	int			count;

	in_vain = calls_due == done_due ? in_vain + 1 : 0;
	count = tb_calls_claim(room);
	if (count < 0)
		return;
	done_due = count == 0 ? calls_due : DT_NOEND;
	if (count == 0 && in_vain > 0)
		tb_claim_duty.not_before = GetCurrentTimestamp() +
			(TimestampTz) tb_back_off(in_vain) * 1000;
}

/* Do a batch of the upkeep that is due, in the same manner. */
static void
do_upkeep(void)
{
	static TimestampTz done_due = DT_NOEND;
	static int	in_vain = 0;
	bool		more = false;

	in_vain = upkeep_due == done_due ? in_vain + 1 : 0;
	if (!tb_step(&upkeep_duty, NULL, upkeep, &more))
		return;
	done_due = more ? DT_NOEND : upkeep_due;
	if (!more && in_vain > 0)
		upkeep_duty.not_before = GetCurrentTimestamp() +
			(TimestampTz) tb_back_off(in_vain) * 1000;
}

/* One turn of the worker; returns whether to look anew what is due. */
static bool
turn(bool look_first)
{
	TimestampTz calls_at = DT_NOEND;
	TimestampTz upkeep_at;
	TimestampTz now;
	int			room;

	if (tb_calls_record())
		look_first = true;
	tb_hold_turn();
	if (tb_calls_resume())
		look_first = true;
	if (look_first && look_duty.not_before <= GetCurrentTimestamp())
	{
		show_due(DT_NOEND, "");
		look_first = !tb_step(&look_duty, NULL, look, NULL);
	}
	if (look_first)
		return sleep_until(look_duty.not_before) || look_first;

	room = tb_calls_room();
	if (room > 0)
		calls_at = real_time(calls_due, &tb_claim_duty);
	upkeep_at = real_time(upkeep_due, &upkeep_duty);
	now = GetCurrentTimestamp();
	if (calls_at > now && upkeep_at > now)
	{
		TimestampTz until = Min(calls_at, upkeep_at);

		/* what rests is overdue, and whoever has something else is to wake us */
		if ((TimestampTz) pg_atomic_read_u64(&slot->next_due) <= tb_now())
			pg_atomic_write_u64(&slot->next_due, (uint64) until);
		return sleep_until(until);
	}
	show_state(TB_WORKER_WORKING);
	if (calls_at <= now)
		do_calls(room);
	if (upkeep_at <= now)
		do_upkeep();
	return true;
}

/* SIGTERM: die() ends a step in the middle; that it was somebody's wish is noted. */
static void
end_on_signal(SIGNAL_ARGS)
{
	told_to_end = true;
	die(postgres_signal_arg);
}

/*
 * tokenbill_worker_main
 *		The worker of the database whose oid is the argument.
 *
 * A reload that came before the handler was there has been ignored, so the
 * settings are read once more.
 */
void
tokenbill_worker_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);
	MemoryContext context;
	bool		look_first = true;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, end_on_signal);
	ConfigReloadPending = true;
	if (!attach(database))
		proc_exit(0);
	before_shmem_exit(detach, (Datum) 0);
	previous_log_hook = emit_log_hook;
	emit_log_hook = hear_last_words;
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pgstat_report_appname("tokenbill worker");
	fix_settings();

	context = AllocSetContextCreate(TopMemoryContext, "tokenbill worker",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	tb_calls_release(came_after_bad_end);
	for (;;)
	{
		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		ResetLatch(MyLatch);
		if (take_interrupts())
			look_first = true;
		look_first = turn(look_first);
	}
}
