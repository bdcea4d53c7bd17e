/*
 * slot.c
 *	  Shared memory of launcher, workers and those who wake them.
 *
 * It is there only if the library is in shared_preload_libraries; everything
 * that uses it does nothing otherwise.
 *
 * One lock guards it all.  It is held for a few instructions, never while
 * anything is waited for, and nothing throws under it.  A process is woken
 * through the latch of its PGPROC while the lock is held: the process takes its
 * number out under the same lock before it goes, so no latch is set that belongs
 * to somebody else by then.
 */
#include "slot.h"

#include <unistd.h>

#include "access/xlog.h"
#include "common/controldata_utils.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"

WorkerShared *tb_workers = NULL;

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

/*
 * More databases may want a worker than there can be: those without one have a
 * slot that says so.
 */
static int
slot_count(void)
{
	return 4 * max_worker_processes + 16;
}

static Size
shared_size(void)
{
	return add_size(offsetof(WorkerShared, slots),
					mul_size(slot_count(), sizeof(WorkerSlot)));
}

static void
request_memory(void)
{
	if (previous_request != NULL)
		previous_request();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("tokenbill_worker", 1);
}

/*
 * Whether the server ended by a crash before it made this memory.  What the
 * control file says then is that it is in production, also when the postmaster
 * makes the memory anew because a process of it has crashed.  A standby, or what
 * is restored from a backup, has the file of a server that was or is running.
 */
static bool
after_crash(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	bool		crashed = control->state == DB_IN_PRODUCTION ||
		control->state == DB_SHUTDOWNING ||
		control->state == DB_IN_CRASH_RECOVERY;

	pfree(control);
	return crashed && crc_ok && access(STANDBY_SIGNAL_FILE, F_OK) != 0 &&
		access(RECOVERY_SIGNAL_FILE, F_OK) != 0 &&
		access(BACKUP_LABEL_FILE, F_OK) != 0;
}

static void
start_memory(void)
{
	bool		found;

	if (previous_startup != NULL)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	tb_workers = ShmemInitStruct("tokenbill workers", shared_size(), &found);
	if (!found)
	{
		memset(tb_workers, 0, shared_size());
		tb_workers->lock = &GetNamedLWLockTranche("tokenbill_worker")->lock;
		tb_workers->n_slots = slot_count();
		tb_workers->crashed = after_crash();
		for (int i = 0; i < tb_workers->n_slots; i++)
		{
			pg_atomic_init_u64(&tb_workers->slots[i].next_due,
							   (uint64) DT_NOEND);
			pg_atomic_init_u32(&tb_workers->slots[i].called, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * tb_slot_init
 *		Ask for the memory; called once, from _PG_init, when preloaded.
 */
void
tb_slot_init(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}

/*
 * tb_slot_find
 *		The database's slot, or NULL.  Needs the lock.
 */
WorkerSlot *
tb_slot_find(Oid database)
{
	for (int i = 0; i < tb_workers->n_slots; i++)
	{
		if (tb_workers->slots[i].database == database)
			return &tb_workers->slots[i];
	}
	return NULL;
}

/*
 * tb_slot_take
 *		The database's slot, a new one if it has none, or NULL if all are taken.
 *		Needs the lock, exclusively.
 */
WorkerSlot *
tb_slot_take(Oid database)
{
	WorkerSlot *slot = tb_slot_find(database);

	if (slot == NULL && (slot = tb_slot_find(InvalidOid)) != NULL)
	{
		memset(slot, 0, offsetof(WorkerSlot, next_due));
		slot->database = database;
		slot->ended_badly = tb_workers->crashed;
		pg_atomic_write_u64(&slot->next_due, (uint64) DT_NOEND);
	}
	return slot;
}

/*
 * tb_wake_launcher
 *		Needs the lock.
 */
void
tb_wake_launcher(void)
{
	if (tb_workers->launcher_pid != 0)
		SetLatch(&ProcGlobal->allProcs[tb_workers->launcher_procno].procLatch);
}

/*
 * tb_slot_wake
 *		Wake the slot's worker, if it has one.  Needs the lock.
 */
void
tb_slot_wake(WorkerSlot *slot)
{
	if (slot->pid == 0)
		return;
	/* in this order: it resets its latch before it looks at the other */
	pg_atomic_write_u32(&slot->called, 1);
	SetLatch(&ProcGlobal->allProcs[slot->procno].procLatch);
}

/*
 * tb_slot_error
 *		Note what went wrong last.  Needs the lock, exclusively.
 */
void
tb_slot_error(WorkerSlot *slot, const char *message)
{
	int			length = pg_mbcliplen(message, strlen(message),
									  TB_SLOT_ERROR - 1);

	memcpy(slot->last_error, message, length);
	slot->last_error[length] = '\0';
	slot->last_error_at = GetCurrentTimestamp();
}

/*
 * tb_look_at
 *		Have the launcher look at a database, or, with InvalidOid, at all of them,
 *		whatever it knows of them.  Takes the lock.
 */
void
tb_look_at(Oid database)
{
	bool		known = false;

	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	for (int i = 0; i < tb_workers->n_looks; i++)
		known = known || tb_workers->looks[i] == database;
	if (database == InvalidOid || tb_workers->n_looks == TB_SLOT_LOOKS)
		tb_workers->look_at_all = true;
	else if (!known)
		tb_workers->looks[tb_workers->n_looks++] = database;
	tb_wake_launcher();
	LWLockRelease(tb_workers->lock);
}

static WorkerBar *
find_bar(Oid database)
{
	for (int i = 0; i < TB_SLOT_BARS; i++)
	{
		if (tb_workers->bars[i].database == database)
			return &tb_workers->bars[i];
	}
	return NULL;
}

/*
 * tb_barred
 *		Whether no worker may be started in the database.  Needs the lock.
 */
bool
tb_barred(Oid database)
{
	return find_bar(database) != NULL;
}

/*
 * tb_bar, tb_unbar
 *		Keep workers out of a database, from now on, and no longer.  When there is
 *		no room to note it, the worker that comes back too early is what it was
 *		without.  Take the lock.
 */
void
tb_bar(Oid database)
{
	WorkerBar  *bar;

	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	bar = find_bar(database);
	if (bar == NULL)
		bar = find_bar(InvalidOid);
	if (bar != NULL)
	{
		bar->database = database;
		bar->count++;
	}
	LWLockRelease(tb_workers->lock);
}

void
tb_unbar(Oid database)
{
	WorkerBar  *bar;

	LWLockAcquire(tb_workers->lock, LW_EXCLUSIVE);
	bar = find_bar(database);
	if (bar != NULL && --bar->count == 0)
		bar->database = InvalidOid;
	LWLockRelease(tb_workers->lock);
}
