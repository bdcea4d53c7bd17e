/*
 * wake.c
 *	  Waking the worker of this database, and the launcher, when a transaction
 *	  ends.
 *
 * A worker sleeps until something is due.  Whoever changes what is due wakes it,
 * at COMMIT, since before it would see nothing new, and once a transaction.  A
 * subtransaction that is rolled back does not take its wake-up with it: being
 * woken for nothing costs the worker a look.
 *
 * A transaction that is prepared wakes nobody until COMMIT PREPARED, which
 * another session may say; database_hook.c sees to that.
 */
#include "wake.h"

#include "access/xact.h"
#include "counter.h"
#include "miscadmin.h"
#include "slot.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(tokenbill_wake_worker);

/* How many databases a transaction can bar: it takes a statement for each. */
#define MAX_BARS 16

static bool listening = false;

/* What to do when the present transaction ends. */
static TimestampTz wake_by = DT_NOEND;	/* at COMMIT; DT_NOEND: do not wake */
static bool changes = false;	/* at COMMIT: alerts may be others */
static bool look = false;		/* at either end */
static Oid	look_database;
static int	n_bars = 0;			/* at either end */
static Oid	bars[MAX_BARS];

/*
 * tb_wake_worker
 *		Wake the worker now if it sleeps for longer than until "by"; DT_NOBEGIN wakes
 *		it anyway.
 *
 * It is looked up without the lock first, for the sake of holds, which are made
 * all the time and hardly ever expire first.  The race is with a worker that is
 * looking what is due: it says DT_NOEND, takes a snapshot, and then says what it
 * has found.  If our transaction is not in that snapshot then it ended later, so
 * what we read here is DT_NOEND or newer, and we wake it.  The barriers keep the
 * two sides' stores and loads in that order.
 */
void
tb_wake_worker(TimestampTz by)
{
	static int	last = 0;
	WorkerSlot *slot;

	pg_memory_barrier();
	if (last < tb_workers->n_slots &&
		tb_workers->slots[last].database == MyDatabaseId)
	{
		pg_read_barrier();
		if ((TimestampTz) pg_atomic_read_u64(&tb_workers->slots[last].next_due) <= by &&
			by != DT_NOBEGIN)
			return;
	}

	LWLockAcquire(tb_workers->lock, LW_SHARED);
	slot = tb_slot_find(MyDatabaseId);
	if (slot != NULL)
	{
		last = slot - tb_workers->slots;
		if (by == DT_NOBEGIN ||
			(TimestampTz) pg_atomic_read_u64(&slot->next_due) > by)
			tb_slot_wake(slot);
	}
	LWLockRelease(tb_workers->lock);
}

/* Nothing here may throw: the transaction has ended. */
static void
at_end(XactEvent event, void *arg)
{
	bool		committed = event == XACT_EVENT_COMMIT;

	if (!committed && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (committed && changes)
		tb_count_change();
	changes = false;
	if (committed && wake_by != DT_NOEND)
		tb_wake_worker(wake_by);
	wake_by = DT_NOEND;
	while (n_bars > 0)
	{
		tb_unbar(bars[--n_bars]);
		look = true;
		look_database = bars[n_bars];
	}
	if (look)
	{
		tb_wake_worker(DT_NOBEGIN);
		tb_look_at(look_database);
	}
	look = false;
}

static void
listen_to_end(void)
{
	if (!listening)
		RegisterXactCallback(at_end, NULL);
	listening = true;
}

/*
 * tb_wake_by
 *		At COMMIT, wake this database's worker if it sleeps for longer than until
 *		this moment; DT_NOBEGIN wakes it anyway.
 */
void
tb_wake_by(TimestampTz at)
{
	if (tb_workers == NULL)
		return;
	listen_to_end();
	wake_by = Min(wake_by, at);
}

/*
 * tb_wake_now
 *		A transaction that was prepared has been committed: wake this database's
 *		worker, or, if it has none, have the launcher look.
 */
void
tb_wake_now(void)
{
	bool		has_slot;

	if (tb_workers == NULL)
		return;
	LWLockAcquire(tb_workers->lock, LW_SHARED);
	has_slot = tb_slot_find(MyDatabaseId) != NULL;
	LWLockRelease(tb_workers->lock);
	tb_count_unknown();
	if (has_slot)
		tb_wake_worker(DT_NOBEGIN);
	else
		tb_look_at(MyDatabaseId);
}

/*
 * tb_look_at_end
 *		When the transaction ends, whichever way, wake this database's worker and
 *		have the launcher look at the database, InvalidOid for all of them.
 */
void
tb_look_at_end(Oid database)
{
	if (tb_workers == NULL)
		return;
	listen_to_end();
	if (look && look_database != database)
		database = InvalidOid;
	look = true;
	look_database = database;
}

/*
 * tb_unbar_at_end
 *		Keep workers out of a database until the transaction ends.
 */
void
tb_unbar_at_end(Oid database)
{
	if (tb_workers == NULL || n_bars == MAX_BARS)
		return;
	listen_to_end();
	tb_bar(database);
	bars[n_bars++] = database;
}

/*
 * wake_worker(at timestamptz, alerts boolean) -> void
 */
Datum
tokenbill_wake_worker(PG_FUNCTION_ARGS)
{
	if (tb_workers != NULL)
	{
		tb_wake_by(PG_GETARG_TIMESTAMPTZ(0));
		tb_count_begin();
		changes = changes || PG_GETARG_BOOL(1);
	}
	PG_RETURN_VOID();
}
