/*
 * http_loop.c
 *	  libcurl's multi interface, its sockets and its timer.
 *
 * libcurl says which sockets it waits for and when it wants to be called next;
 * we wait for those, and for the process's latch and the end of the postmaster,
 * in one WaitEventSet.  Nothing is looked at that nothing has happened to, and
 * without requests nothing wakes the process up.
 *
 * A WaitEventSet cannot lose a socket, and libcurl may close one and open another
 * under the same number between two waits; so when it waits for something else
 * the set is made anew.
 *
 * libcurl resolves names in threads.  They begin with the signal mask of whoever
 * starts them, so while libcurl runs all signals are blocked: a handler of the
 * server's must run in the main thread only.
 */
#include "http_transfer.h"

#include <signal.h>
#include <time.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* A socket that libcurl waits for */
typedef struct Watched
{
	curl_socket_t socket;
	int			what;			/* CURL_POLL_IN and so on */
} Watched;

static CURLM *multi = NULL;
static Watched *watched = NULL;
static int	watched_count = 0;
static int	watched_room = 0;

/* When libcurl wants to be called, by tb_http_clock(); -1: it does not */
static int64 due = -1;

static WaitEventSet *events = NULL;
static bool events_stale = true;

/* What is waited for beside libcurl's, which has nothing to do with it */
static pgsocket bystander = PGINVALID_SOCKET;

/* One wait's worth of events */
#define EVENTS_AT_ONCE 64

/*
 * tb_http_clock
 *		Milliseconds of a clock that nobody sets.
 */
int64
tb_http_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * libcurl waits for something else on a socket.  -1 would make it give up all
 * transfers, which is what is left when there is no memory.
 */
static int
socket_callback(CURL *easy, curl_socket_t socket, int what, void *unused,
				void *unused_too)
{
	int			i = 0;

	while (i < watched_count && watched[i].socket != socket)
		i++;
	events_stale = true;
	if (what == CURL_POLL_REMOVE)
	{
		if (i < watched_count)
			watched[i] = watched[--watched_count];
		return 0;
	}
	if (i == watched_count)
	{
		if (watched_count == watched_room)
		{
			int			room = watched_room == 0 ? 32 : watched_room * 2;
			Watched    *larger = realloc(watched, room * sizeof(Watched));

			if (larger == NULL)
				return -1;
			watched = larger;
			watched_room = room;
		}
		watched[watched_count++].socket = socket;
	}
	watched[i].what = what;
	return 0;
}

/* libcurl wants to be called in so many milliseconds, or not at all */
static int
timer_callback(CURLM *of, long timeout_ms, void *unused)
{
	due = timeout_ms < 0 ? -1 : tb_http_clock() + timeout_ms;
	return 0;
}

/*
 * tb_http_loop_begin
 *		Initialise libcurl, if that has not been done in this process.  False if it
 *		is not possible.
 *
 * Not while the library is loaded: the postmaster may be told to load it, too, and
 * what libcurl and OpenSSL set up must not be shared by the processes that it forks.
 */
bool
tb_http_loop_begin(void)
{
	static bool done = false;

	if (!done)
		done = curl_global_init_mem(CURL_GLOBAL_DEFAULT,
									tb_wiped_malloc, tb_wiped_free, tb_wiped_realloc,
									tb_wiped_strdup, tb_wiped_calloc) == CURLE_OK;
	return done;
}

/* Have a multi handle */
static bool
have_multi(void)
{
	if (multi != NULL)
		return true;
	multi = curl_multi_init();
	if (multi == NULL)
		return false;
	if (curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_callback) != CURLM_OK ||
		curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_callback) != CURLM_OK ||
		curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) tb_terms->max_requests) != CURLM_OK)
	{
		curl_multi_cleanup(multi);
		multi = NULL;
		return false;
	}
	return true;
}

/*
 * tb_http_loop_discard
 *		Forget all connections that are kept for later.  No transfer may be on its
 *		way.
 */
void
tb_http_loop_discard(void)
{
	if (multi != NULL)
		curl_multi_cleanup(multi);
	multi = NULL;
	watched_count = 0;
	due = -1;
	events_stale = true;
}

/*
 * tb_http_loop_add
 *		Send a request on its way.  False if libcurl does not take it.
 */
bool
tb_http_loop_add(HttpTransfer *transfer)
{
	return have_multi() &&
		curl_multi_add_handle(multi, transfer->easy) == CURLM_OK;
}

/*
 * tb_http_loop_remove
 *		Take a request off its way and free its handle.
 */
void
tb_http_loop_remove(HttpTransfer *transfer)
{
	curl_multi_remove_handle(multi, transfer->easy);
	curl_easy_cleanup(transfer->easy);
	transfer->easy = NULL;
}

/*
 * tb_http_loop_finished
 *		The next transfer that libcurl is through with, and how it ended; NULL if
 *		there is none.
 */
HttpTransfer *
tb_http_loop_finished(CURLcode *result)
{
	CURLMsg    *message;
	int			left;

	while (multi != NULL && (message = curl_multi_info_read(multi, &left)) != NULL)
	{
		char	   *transfer;

		if (message->msg != CURLMSG_DONE)
			continue;
		*result = message->data.result;
		if (curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer) == CURLE_OK)
			return (HttpTransfer *) transfer;
	}
	return NULL;
}

/* Let libcurl look at a socket, or at its timers; false if it gives up */
static bool
act(curl_socket_t socket, int happened)
{
	sigset_t	all;
	sigset_t	before;
	int			running;
	CURLMcode	code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = curl_multi_socket_action(multi, socket, happened, &running);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code == CURLM_OK;
}

static uint32
events_of(const Watched *one)
{
	uint32		result = 0;

	if (one->what & CURL_POLL_IN)
		result |= WL_SOCKET_READABLE;
	if (one->what & CURL_POLL_OUT)
		result |= WL_SOCKET_WRITEABLE;
	return result;
}

/*
 * Have a set of exactly the events that are waited for now.  With a bystander it is
 * made anew each time: that may have been closed, and another one have its number.
 */
static void
prepare_events(pgsocket also)
{
	if (also != PGINVALID_SOCKET || bystander != PGINVALID_SOCKET)
		events_stale = true;
	bystander = also;
	if (events != NULL && !events_stale)
		return;
	if (events != NULL)
		FreeWaitEventSet(events);
	events = NULL;
	events = tb_create_wait_event_set(watched_count + 3);
	AddWaitEventToSet(events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (bystander != PGINVALID_SOCKET)
		AddWaitEventToSet(events, WL_SOCKET_READABLE, bystander, NULL, NULL);
	for (int i = 0; i < watched_count; i++)
	{
		uint32		mask = events_of(&watched[i]);

		if (mask != 0)
			AddWaitEventToSet(events, mask, watched[i].socket, NULL, NULL);
	}
	events_stale = false;
}

/*
 * tb_http_loop_turn
 *		Wait until something happens to a request, the latch is set, another file
 *		can be read or the time is over (-1: it never is), and let libcurl deal with
 *		what is its own.  False if libcurl gives up all transfers.
 *
 * The latch is reset, and *woken says whether it was set: whoever waits looks
 * afterwards at everything that may have set it.
 */
bool
tb_http_loop_turn(int64 timeout_ms, pgsocket also, bool *woken)
{
	static uint32 wait_event = 0;
	WaitEvent	happened[EVENTS_AT_ONCE];
	int			count;

	if (due >= 0)
	{
		int64		left = Max(due - tb_http_clock(), 0);

		if (timeout_ms < 0 || left < timeout_ms)
			timeout_ms = left;
	}
	if (wait_event == 0)
		wait_event = tb_wait_event("TokenbillHttp");
	prepare_events(also);
	count = WaitEventSetWait(events, (long) Min(timeout_ms, PG_INT32_MAX), happened,
							 EVENTS_AT_ONCE, wait_event);
	for (int i = 0; i < count; i++)
	{
		int			mask = 0;

		if (happened[i].events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			*woken = true;
			continue;
		}
		if (bystander != PGINVALID_SOCKET && happened[i].fd == bystander)
			continue;
		if (happened[i].events & WL_SOCKET_READABLE)
			mask |= CURL_CSELECT_IN;
		if (happened[i].events & WL_SOCKET_WRITEABLE)
			mask |= CURL_CSELECT_OUT;
		if (mask != 0 && !act(happened[i].fd, mask))
			return false;
	}
	if (due >= 0 && tb_http_clock() >= due)
	{
		due = -1;
		return act(CURL_SOCKET_TIMEOUT, 0);
	}
	return true;
}
