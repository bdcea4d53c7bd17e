/*
 * counter.c
 *	  How many ledger lines have been committed and how many requests refused,
 *	  since the server started, in each database.
 *
 * The counters are in shared memory, so they exist only when the library is
 * preloaded: a table would tie every account's charges to one row, and would
 * forget the refusals, whose transactions abort.  Counting takes no lock: it is an
 * atomic addition to a counter of the database, which a backend looks for once.
 *
 * A line counts when its transaction commits; what a (sub)transaction that is
 * rolled back has posted is forgotten.  So is that of a transaction that is
 * prepared for a two-phase commit: whoever commits it later does not know what was
 * posted.  A refusal counts at once, whatever becomes of the transaction.
 */
#include "counter.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "check.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "query.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "tenant.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(tokenbill_counters);
PG_FUNCTION_INFO_V1(tokenbill_count_refusal);
PG_FUNCTION_INFO_V1(tokenbill_alert_marks);

#define TRANCHE "tokenbill counters"

/* Databases that are counted; those after them are not. */
#define MAX_DATABASES 64

/*
 * Different SQLSTATEs that are counted in a database: several times as many as
 * tokenbill has.
 */
#define MAX_SQLSTATES 64

/* The kinds of ledger lines; the most frequent first. */
static const char *const kinds[] = {
	"charge", "hold", "capture", "release", "expiry", "extend", "recharge",
	"refund", "grant", "adjustment", "clawback"
};

#define KINDS lengthof(kinds)

/* These are there from the beginning, so that their first refusal is a rise. */
static const int usual_states[] = {
	MAKE_SQLSTATE('P', 'T', '4', '0', '2'),
	MAKE_SQLSTATE('P', 'T', '4', '0', '3'),
	MAKE_SQLSTATE('P', 'T', '4', '0', '4'),
	MAKE_SQLSTATE('P', 'T', '4', '0', '9'),
	MAKE_SQLSTATE('P', 'T', '4', '2', '3'),
	MAKE_SQLSTATE('P', 'T', '4', '2', '9')
};

/* An SQLSTATE and its count; sqlstate goes from 0 to its value once. */
typedef struct Refusals
{
	pg_atomic_uint32 sqlstate;
	pg_atomic_uint64 count;
} Refusals;

/* What is counted of one database. */
typedef struct Counters
{
	Oid			database;		/* invalid: free; written under the lock */
	pg_atomic_uint64 lines[KINDS];
	Refusals	refusals[MAX_SQLSTATES];

	/* for alerts: see tb_count_change() */
	pg_atomic_uint64 changes;
	pg_atomic_uint64 moves;
	pg_atomic_uint64 watch_by;	/* when the worker wants to know of a move;
								 * DT_NOEND: it does not */
} Counters;

typedef struct SharedCounters
{
	LWLock	   *lock;			/* of who has which place */
	Counters	of[MAX_DATABASES];
} SharedCounters;

static SharedCounters *shared = NULL;
static shmem_request_hook_type next_request = NULL;
static shmem_startup_hook_type next_startup = NULL;

/* This backend's database; null: none has been looked for, or all are taken. */
static Counters *mine = NULL;
static bool looked = false;

/* Lines posted by a (sub)transaction that has not ended. */
typedef struct Posted
{
	struct Posted *outer;
	int			level;			/* of nesting: 1 is the transaction */
	uint64		lines[KINDS];
} Posted;

/* Of the innermost that has posted any; in TopTransactionContext. */
static Posted *posted = NULL;

static void
request(void)
{
	if (next_request != NULL)
		next_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(SharedCounters)));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
empty(Counters *counters)
{
	for (size_t i = 0; i < KINDS; i++)
		pg_atomic_init_u64(&counters->lines[i], 0);
	for (int i = 0; i < MAX_SQLSTATES; i++)
	{
		pg_atomic_init_u32(&counters->refusals[i].sqlstate,
						   i < (int) lengthof(usual_states) ? usual_states[i] : 0);
		pg_atomic_init_u64(&counters->refusals[i].count, 0);
	}
	/* none of those that were there before */
	pg_atomic_init_u64(&counters->changes, (uint64) GetCurrentTimestamp());
	pg_atomic_init_u64(&counters->moves, (uint64) GetCurrentTimestamp());
	pg_atomic_init_u64(&counters->watch_by, (uint64) DT_NOEND);
}

/* Balances have moved: tell the worker, if it watches any. */
static void
note_move(void)
{
	TimestampTz by;

	/* it counts before it is looked whether the worker wants to know */
	pg_atomic_fetch_add_u64(&mine->moves, 1);
	by = (TimestampTz) pg_atomic_read_u64(&mine->watch_by);
	if (by != DT_NOEND)
		tb_wake_worker(by);
}

static void
startup(void)
{
	bool		found;

	if (next_startup != NULL)
		next_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct(TRANCHE, sizeof(SharedCounters), &found);
	if (!found)
	{
		shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		for (int i = 0; i < MAX_DATABASES; i++)
			shared->of[i].database = InvalidOid;
	}
	LWLockRelease(AddinShmemInitLock);
}

static void
forget_posted(void)
{
	posted = NULL;
}

/* At the end of a transaction: count what it has posted, if it was committed. */
static void
at_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (posted == NULL)
				break;
			Assert(posted->outer == NULL);
			for (size_t i = 0; i < KINDS; i++)
			{
				if (posted->lines[i] > 0)
					pg_atomic_fetch_add_u64(&mine->lines[i], posted->lines[i]);
			}
			note_move();
			forget_posted();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			forget_posted();
			break;
		default:
			break;
	}
}

/*
 * At the end of a subtransaction: what it has posted becomes its parent's, or is
 * forgotten.
 */
static void
at_end_of_part(SubXactEvent event, SubTransactionId mySubid,
			   SubTransactionId parentSubid, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (posted == NULL || posted->level < level)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		posted = posted->outer;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		Posted	   *outer = posted->outer;

		if (outer == NULL || outer->level < level - 1)
			posted->level--;
		else
		{
			for (size_t i = 0; i < KINDS; i++)
				outer->lines[i] += posted->lines[i];
			posted = outer;
		}
	}
}

/*
 * tb_counter_init
 *		Ask for the shared memory, when preloaded; called once, from _PG_init.
 */
void
tb_counter_init(void)
{
	/* pg_upgrade's servers count nothing */
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	next_request = shmem_request_hook;
	shmem_request_hook = request;
	next_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_end_of_part, NULL);
}

/* The place of a database, InvalidOid for a free one; null if there is none. */
static Counters *
find_place(Oid database)
{
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		if (shared->of[i].database == database)
			return &shared->of[i];
	}
	return NULL;
}

/*
 * A database that has a place and exists no more, InvalidOid if there is none.
 * Reads the catalogue, so not with the lock.
 */
static Oid
find_dropped(void)
{
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		Oid			database = shared->of[i].database;

		if (OidIsValid(database) &&
			!SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)))
			return database;
	}
	return InvalidOid;
}

/*
 * Look for the place of this database, or take one.  In a transaction only.
 *
 * Race: two backends of one database, or of two that want the same place.  Whoever
 * has the lock first takes it, the other finds it taken and, at worst, goes
 * without.
 */
static void
look_for_mine(void)
{
	Oid			dropped = InvalidOid;

	Assert(OidIsValid(MyDatabaseId));
	looked = true;
	LWLockAcquire(shared->lock, LW_SHARED);
	mine = find_place(MyDatabaseId);
	LWLockRelease(shared->lock);
	if (mine != NULL)
		return;
	if (find_place(InvalidOid) == NULL)
		dropped = find_dropped();

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	mine = find_place(MyDatabaseId);
	if (mine == NULL)
	{
		mine = find_place(InvalidOid);
		if (mine == NULL && OidIsValid(dropped))
			mine = find_place(dropped);
		if (mine != NULL)
		{
			empty(mine);
			mine->database = MyDatabaseId;
		}
	}
	LWLockRelease(shared->lock);
}

static Counters *
counters_of_database(void)
{
	if (shared != NULL && !looked)
		look_for_mine();
	return mine;
}

/*
 * tb_count_line
 *		A line of that kind has been posted; it counts once it is committed.
 */
void
tb_count_line(const text *kind)
{
	int			level;

	if (counters_of_database() == NULL)
		return;
	level = GetCurrentTransactionNestLevel();
	if (posted == NULL || posted->level < level)
	{
		Posted	   *inner = MemoryContextAllocZero(TopTransactionContext,
												   sizeof(Posted));

		inner->outer = posted;
		inner->level = level;
		posted = inner;
	}
	for (size_t i = 0; i < KINDS; i++)
	{
		if (tb_text_is(kind, kinds[i]))
		{
			posted->lines[i]++;
			break;
		}
	}
}

/*
 * tb_count_refusal
 *		Something was refused with that SQLSTATE.
 *
 * Race: two backends that meet the same SQLSTATE for the first time.  Both want
 * the first free place; one gets it, the other finds its own SQLSTATE there, or
 * another one, and goes on.
 */
void
tb_count_refusal(int sqlstate)
{
	if (counters_of_database() == NULL)
		return;
	for (int i = 0; i < MAX_SQLSTATES; i++)
	{
		Refusals   *refusals = &mine->refusals[i];
		uint32		there = pg_atomic_read_u32(&refusals->sqlstate);

		/* if that fails, it tells what is there */
		if (there == 0 &&
			pg_atomic_compare_exchange_u32(&refusals->sqlstate, &there,
										   (uint32) sqlstate))
			there = (uint32) sqlstate;
		if (there == (uint32) sqlstate)
		{
			pg_atomic_fetch_add_u64(&refusals->count, 1);
			return;
		}
	}
}

/*
 * tb_count_change
 *		Something has changed that alerts may follow from: a report, a provider, a
 *		rule, an error ...  Movements of balances are counted by themselves.  To be
 *		called when its transaction has ended, after tb_count_begin() in it.
 *
 * Who evaluates alerts takes down both counters before it looks at anything; as
 * long as they stay the same nothing has become visible since that it has not seen.
 */
void
tb_count_change(void)
{
	if (mine != NULL)
		pg_atomic_fetch_add_u64(&mine->changes, 1);
}

/*
 * tb_count_begin
 *		Look for the place of this database, for what is counted outside of a
 *		transaction.
 */
void
tb_count_begin(void)
{
	(void) counters_of_database();
}

/*
 * tb_count_unknown
 *		A transaction that was prepared is committed: it may have changed anything.
 */
void
tb_count_unknown(void)
{
	if (counters_of_database() == NULL)
		return;
	tb_count_change();
	note_move();
}

/*
 * tb_moves, tb_watch_moves
 *		How many transactions have moved balances; and when the worker wants to be
 *		woken if another one does, DT_NOEND for never.
 */
uint64
tb_moves(void)
{
	return counters_of_database() == NULL ? 0 : pg_atomic_read_u64(&mine->moves);
}

void
tb_watch_moves(TimestampTz by)
{
	if (counters_of_database() == NULL)
		return;
	pg_atomic_write_u64(&mine->watch_by, (uint64) by);
	pg_memory_barrier();
}

static void
put_counter(ReturnSetInfo *result, const char *counter, const char *label, uint64 value)
{
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	values[0] = CStringGetTextDatum(counter);
	values[1] = CStringGetTextDatum(label);
	values[2] = Int64GetDatum((int64) value);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * counters() -> setof (counter, label, value)
 *		The counters of this database; no row if nothing is counted, or for a
 *		tenant.
 */
Datum
tokenbill_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Session		session;
	bool		visible;

	InitMaterializedSRF(fcinfo, 0);
	tb_enter(fcinfo, &session);
	visible = tb_visible_to(cstring_to_text(""), session.userid);
	tb_leave(&session);
	if (!visible || counters_of_database() == NULL)
		return (Datum) 0;

	for (size_t i = 0; i < KINDS; i++)
		put_counter(result, "lines", kinds[i],
					pg_atomic_read_u64(&mine->lines[i]));
	for (int i = 0; i < MAX_SQLSTATES; i++)
	{
		Refusals   *refusals = &mine->refusals[i];
		uint32		sqlstate = pg_atomic_read_u32(&refusals->sqlstate);

		if (sqlstate == 0)
			break;
		put_counter(result, "refusals", unpack_sql_state((int) sqlstate),
					pg_atomic_read_u64(&refusals->count));
	}
	return (Datum) 0;
}

/*
 * alert_marks() -> (changes bigint, moves bigint)
 *		What tb_count_change() says; both null if nothing is counted.
 */
Datum
tokenbill_alert_marks(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[2] = {0, 0};
	bool		nulls[2] = {true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (counters_of_database() != NULL)
	{
		values[0] = Int64GetDatum((int64) pg_atomic_read_u64(&mine->changes));
		values[1] = Int64GetDatum((int64) pg_atomic_read_u64(&mine->moves));
		nulls[0] = nulls[1] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * count_refusal(sqlstate text) -> void
 *		For refuse(), which raises the refusals of the functions written in SQL.
 */
Datum
tokenbill_count_refusal(PG_FUNCTION_ARGS)
{
	const char *code = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (strlen(code) != 5)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an SQLSTATE has five characters")));
	tb_count_refusal(MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4]));
	PG_RETURN_VOID();
}
