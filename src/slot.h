#ifndef TOKENBILL_SLOT_H
#define TOKENBILL_SLOT_H

#include "tokenbill.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

/* Longest text of a slot's error, and name of a duty, in bytes with the end. */
#define TB_SLOT_ERROR 256
#define TB_SLOT_DUTY 32

/* How many databases the launcher can be asked to look at by name. */
#define TB_SLOT_LOOKS 64

/* How many databases can be kept free of workers at once. */
#define TB_SLOT_BARS 32

/*
 * What a database's worker is doing; launcher.c has the diagram.
 */
typedef enum WorkerState
{
	TB_WORKER_STARTING,
	TB_WORKER_WORKING,
	TB_WORKER_ASLEEP,
	TB_WORKER_BACKING_OFF,
	TB_WORKER_NO_PROCESS,
	TB_WORKER_OTHER_VERSION,
	TB_WORKER_NO_EXTENSION
} WorkerState;

/* A database that has a worker, or would have one. */
typedef struct WorkerSlot
{
	Oid			database;		/* InvalidOid: the slot is free */
	WorkerState state;
	int			pid;			/* 0: no process */
	int			procno;			/* its PGPROC, while there is a pid */
	bool		leave;			/* it has been asked to go */
	bool		ended_badly;	/* the last worker's end was nobody's wish */
	TimestampTz started_at;
	TimestampTz restart_at;
	int			failures;		/* in a row */
	TimestampTz last_error_at;	/* 0: there was none */
	char		last_error[TB_SLOT_ERROR];
	int			requests;		/* in flight */
	char		duty[TB_SLOT_DUTY]; /* what next_due is for */

	/*
	 * Until when it sleeps.  DT_NOEND: until it is woken; DT_NOEND is also
	 * what it says from before it looks what is due until it has looked, so
	 * that whoever commits meanwhile wakes it.
	 */
	pg_atomic_uint64 next_due;

	/*
	 * Somebody has woken it, and it has not looked yet.  Its latch alone does
	 * not say so: the timer of a timeout that is over sets it, too, half a
	 * minute after each step (timeout.c), as does what else PostgreSQL tells
	 * all processes.
	 */
	pg_atomic_uint32 called;
} WorkerSlot;

/* A database that somebody wants free of workers: dropping it, or copying. */
typedef struct WorkerBar
{
	Oid			database;
	int			count;			/* how many want it */
} WorkerBar;

typedef struct WorkerShared
{
	LWLock	   *lock;			/* of all here but next_due and called */
	int			launcher_pid;
	int			launcher_procno;
	TimestampTz launcher_started_at;
	bool		crashed;		/* this memory was made after a crash */
	int			without_slot;	/* databases, when there are more than slots */
	bool		look_at_all;
	int			n_looks;
	Oid			looks[TB_SLOT_LOOKS];
	WorkerBar	bars[TB_SLOT_BARS];
	int			n_slots;
	WorkerSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} WorkerShared;

/* NULL unless the library is preloaded. */
extern WorkerShared *tb_workers;

extern void tb_slot_init(void);
extern WorkerSlot *tb_slot_find(Oid database);
extern WorkerSlot *tb_slot_take(Oid database);
extern void tb_wake_launcher(void);
extern void tb_slot_wake(WorkerSlot *slot);
extern void tb_slot_error(WorkerSlot *slot, const char *message);
extern void tb_look_at(Oid database);
extern void tb_bar(Oid database);
extern void tb_unbar(Oid database);
extern bool tb_barred(Oid database);

#endif							/* TOKENBILL_SLOT_H */
