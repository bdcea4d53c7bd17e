/*
 * key_hold.c
 *	  The master key in the worker: fetched without waiting for it, kept for a
 *	  bounded time, and wiped.
 *
 *						+---------- its time is over, or a reload -----------+
 *						v													 |
 *	  +----------> NOTHING --- wanted, from a command ---> RUNNING --> HELD -+
 *	  |				   |									 |
 *	  |				   +--- wanted, from a file ---> HELD	 | it failed
 *	  |				   |	(released: wiped at once)		 v
 *	  |				   +--- that failed ----------------> FAILED -+
 *	  +---------------- a while is over, or a reload -------------+
 *
 * While a command runs the worker goes on: the pipe is one more thing that it
 * sleeps by (tb_hold_socket()), and what needs the key waits in call.c.  What it
 * printed is held for tokenbill.key_command_retention at most, counted from when it
 * came, whether used or not; a file is read each time, and its key is wiped as soon
 * as the calls at hand have been started.  One more key than those that are held may
 * be wanted, after a rotation: then they are fetched anew before their time.
 *
 * A failure becomes a row of worker_errors, and the command is left alone for a
 * second, then longer, as with any other duty.
 */
#include "key_hold.h"

#include "key_command.h"
#include "locked.h"
#include "step.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

/* Holds the key and the refusal; reset, and so wiped, when both go. */
static MemoryContext hold_context = NULL;

static KeyCommand command;
static bool running = false;
static MasterKey *held = NULL;
static HoldNumber number = 0;	/* of what is held, or was last */
static TimestampTz held_until = DT_NOBEGIN; /* DT_NOBEGIN: until it is
											 * released */
static Refusal *failure = NULL;

static Duty fetch_duty = {.name = "fetch the key",.not_before = DT_NOBEGIN};

/* Forget the key, the failure, and the command that runs. */
static void
wipe(void)
{
	if (running)
		tb_command_end(&command);
	running = false;
	held = NULL;
	failure = NULL;
	if (hold_context != NULL)
		MemoryContextReset(hold_context);
}

/* The process ends; the command must not outlive it. */
static void
wipe_at_exit(int code, Datum unused)
{
	wipe();
}

/* Where what is fetched now belongs, emptied. */
static MemoryContext
prepare(void)
{
	if (hold_context == NULL)
	{
		hold_context = AllocSetContextCreate(TopMemoryContext, "tokenbill key",
											 ALLOCSET_SMALL_SIZES);
		before_shmem_exit(wipe_at_exit, (Datum) 0);
	}
	wipe();
	return hold_context;
}

/* What came of fetching; hold_context is current. */
static void
take(Refusal *refusal, TimestampTz until)
{
	if (refusal == NULL)
	{
		number++;
		held_until = until;
		fetch_duty.failures = 0;
		fetch_duty.not_before = DT_NOBEGIN;
		return;
	}
	failure = refusal;
	held = NULL;
	tb_duty_refused(&fetch_duty, NULL, refusal);
}

/* Fetch it from where it is to come from. */
static void
fetch(void)
{
	MemoryContext old = MemoryContextSwitchTo(prepare());
	Refusal    *refusal;

	switch (tb_key_source(&refusal))
	{
		case TB_KEY_FILE:
			refusal = tb_key_from_file(&held);
			take(refusal, DT_NOBEGIN);
			break;
		case TB_KEY_COMMAND:
			refusal = tb_key_start_command(&command);
			if (refusal == NULL)
				running = true;
			else
				take(refusal, DT_NOBEGIN);
			break;
		case TB_KEY_NONE:
			take(refusal, DT_NOBEGIN);
			break;
	}
	MemoryContextSwitchTo(old);
}

/*
 * tb_hold_want
 *		Have keys, newer ones than those of that number (0: any).  Does not wait.
 */
HoldState
tb_hold_want(HoldNumber newer_than)
{
	if (held != NULL && number > newer_than)
		return TB_HOLD_READY;
	if (!running && failure == NULL)
		fetch();
	if (running)
		return TB_HOLD_LATER;
	return held != NULL ? TB_HOLD_READY : TB_HOLD_FAILED;
}

/*
 * tb_hold_key
 *		After TB_HOLD_READY: the keys, and their number.  Valid until one of the
 *		functions here is called that wipe them.
 */
const MasterKey *
tb_hold_key(HoldNumber *of)
{
	*of = number;
	return held;
}

/*
 * tb_hold_refusal
 *		After TB_HOLD_FAILED: why.
 */
const Refusal *
tb_hold_refusal(void)
{
	return failure;
}

/*
 * tb_hold_release
 *		Those who had it at hand have used it: a key that is not to be kept is wiped.
 */
void
tb_hold_release(void)
{
	if (held != NULL && held_until == DT_NOBEGIN)
		wipe();
}

/*
 * tb_hold_forget
 *		Settings may have changed: nothing of before is to be used any more.  Who
 *		still wants a key has it fetched anew.
 */
void
tb_hold_forget(void)
{
	wipe();
	fetch_duty.failures = 0;
	fetch_duty.not_before = DT_NOBEGIN;
}

/*
 * tb_hold_turn
 *		Take in what the command has printed or become, and wipe what is over.
 */
void
tb_hold_turn(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (running && tb_command_over(&command))
	{
		MemoryContext old = MemoryContextSwitchTo(hold_context);
		Refusal    *refusal;
		int			retention = tb_key_retention();

		tb_command_end(&command);
		running = false;
		refusal = tb_key_from_command(&command, &held);
		take(refusal, retention == 0 ? DT_NOBEGIN : now + retention * USECS_PER_SEC);
		MemoryContextSwitchTo(old);
	}
	else if (held != NULL && held_until != DT_NOBEGIN && now >= held_until)
		wipe();
	else if (failure != NULL && now >= fetch_duty.not_before)
		wipe();
}

/*
 * tb_hold_socket
 *		What to sleep by beside all else, or PGINVALID_SOCKET.
 */
pgsocket
tb_hold_socket(void)
{
	return running && command.output >= 0 ? command.output : PGINVALID_SOCKET;
}

/*
 * tb_hold_wake_at
 *		When tb_hold_turn() has something to do, by the system's clock; DT_NOEND:
 *		never.
 */
TimestampTz
tb_hold_wake_at(void)
{
	if (running)
		return TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										   tb_command_wait_ms(&command));
	if (held != NULL && held_until != DT_NOBEGIN)
		return held_until;
	return DT_NOEND;
}
