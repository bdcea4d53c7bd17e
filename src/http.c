/*
 * http.c
 *	  HTTP requests of the worker, many at a time.
 *
 * A request waits until there is room for it: tokenbill.max_concurrent_requests
 * at once, tokenbill.max_requests_per_host of them to one host and port.  It
 * waits here and not in libcurl, whose time-outs would run meanwhile.  Requests
 * to a host that is slow do not keep those to others from being sent.
 *
 * What an upstream does cannot make anything here throw; what can go wrong with
 * a request is an answer that says so.
 *
 * This is the library tokenbill_http, seen from tokenbill: http_engine.h.
 */
#include "http_transfer.h"

#include "storage/ipc.h"

PG_MODULE_MAGIC;

PGDLLEXPORT const HttpEngine *tokenbill_http_engine(void);

/* How many requests may wait for their host */
#define MAX_QUEUED 1000

const HttpTerms *tb_terms = NULL;

/* Every transfer is in one of these, in order of arrival */
static dlist_head queued = DLIST_STATIC_INIT(queued);
static dlist_head sent = DLIST_STATIC_INIT(sent);
static dlist_head finished = DLIST_STATIC_INIT(finished);
static int	queued_count = 0;
static int	sent_count = 0;

/* tb_terms->trust_changes when the connections that are kept were made */
static uint64 trusted_at = 0;

/* Free a transfer that has no handle */
static void
free_transfer(HttpTransfer *transfer)
{
	for (struct curl_slist *line = transfer->request_headers; line != NULL; line = line->next)
		explicit_bzero(line->data, strlen(line->data));
	curl_slist_free_all(transfer->request_headers);
	for (int i = 0; i < transfer->header_count; i++)
	{
		tb_wiped_free(transfer->headers[i].name);
		tb_wiped_free(transfer->headers[i].value);
	}
	tb_wiped_free(transfer->headers);
	tb_wiped_free(transfer->purpose);
	tb_wiped_free(transfer->target);
	tb_wiped_free(transfer->method);
	tb_wiped_free(transfer->url);
	tb_wiped_free(transfer->body);
	tb_wiped_free(transfer->place);
	tb_wiped_free(transfer->received);
	tb_wiped_free(transfer);
}

/* Wipe what holds keys in a transfer that stays */
static void
wipe_transfer(HttpTransfer *transfer)
{
	for (struct curl_slist *line = transfer->request_headers; line != NULL; line = line->next)
		explicit_bzero(line->data, strlen(line->data));
	if (transfer->url != NULL)
		explicit_bzero(transfer->url, strlen(transfer->url));
	if (transfer->body != NULL)
		explicit_bzero(transfer->body, transfer->body_length);
}

/*
 * The process ends, perhaps with requests on their way.  libcurl is not called:
 * it might wait for a thread that waits for a name server.  The kernel closes
 * the connections.
 */
static void
wipe_at_exit(int code, Datum unused)
{
	dlist_iter	iter;

	dlist_foreach(iter, &queued)
		wipe_transfer(dlist_container(HttpTransfer, node, iter.cur));
	dlist_foreach(iter, &sent)
		wipe_transfer(dlist_container(HttpTransfer, node, iter.cur));
}

/* Milliseconds since the transfer was queued or sent */
static int
age_of(const HttpTransfer *transfer)
{
	return (int) Min(tb_http_clock() - transfer->began, PG_INT32_MAX);
}

/* A transfer that is in no list is over */
static void
put_finished(HttpTransfer *transfer)
{
	wipe_transfer(transfer);
	dlist_push_tail(&finished, &transfer->node);
}

/* Whether as many requests are on their way to this host as may be */
static bool
host_is_full(const char *place)
{
	dlist_iter	iter;
	int			count = 0;

	dlist_foreach(iter, &sent)
	{
		if (strcmp(dlist_container(HttpTransfer, node, iter.cur)->place, place) == 0)
			count++;
	}
	return count >= tb_terms->max_per_host;
}

/* Send a transfer that is in no list */
static void
send_transfer(HttpTransfer *transfer)
{
	bool		changed = trusted_at != tb_terms->trust_changes;

	if (changed && sent_count == 0)
	{
		tb_http_loop_discard();
		trusted_at = tb_terms->trust_changes;
		changed = false;
	}
	transfer->began = tb_http_clock();
	if (!tb_http_setup(transfer, changed))
		put_finished(transfer);
	else if (!tb_http_loop_add(transfer))
	{
		tb_http_fail(transfer, "protocol", "libcurl does not take the request");
		curl_easy_cleanup(transfer->easy);
		transfer->easy = NULL;
		put_finished(transfer);
	}
	else
	{
		dlist_push_tail(&sent, &transfer->node);
		sent_count++;
	}
}

/* Send what there is room for, and give up what has waited too long */
static void
send_queued(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &queued)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, node, iter.cur);

		if (age_of(transfer) >= TB_MAX_QUEUE_MS)
		{
			tb_http_fail(transfer, "timeout",
						 "not sent, because tokenbill.max_requests_per_host others were on their way for %d s",
						 TB_MAX_QUEUE_MS / 1000);
			dlist_delete(&transfer->node);
			queued_count--;
			put_finished(transfer);
		}
		else if (sent_count < tb_terms->max_requests && !host_is_full(transfer->place))
		{
			dlist_delete(&transfer->node);
			queued_count--;
			send_transfer(transfer);
		}
	}
}

/*
 * Copy the request; NULL if there is no memory.  What is wrong with the request
 * itself is in the transfer's error.
 */
static HttpTransfer *
make_transfer(const HttpRequest *request)
{
	HttpTransfer *transfer = tb_wiped_calloc(1, sizeof(HttpTransfer));
	ListCell   *cell;

	if (transfer == NULL)
		return NULL;
	transfer->purpose = tb_wiped_strdup(request->purpose);
	transfer->target = tb_wiped_strdup(request->target);
	transfer->lease = request->lease;
	transfer->method = tb_wiped_strdup(request->method);
	transfer->url = tb_wiped_strdup(request->url);
	if (request->body != NULL)
		transfer->body = tb_wiped_copy(request->body, request->body_length);
	transfer->body_length = request->body_length;
	transfer->timeout_ms = request->timeout_ms;
	transfer->max_bytes = Max(request->max_bytes, 0);
	if (transfer->purpose == NULL || transfer->target == NULL ||
		transfer->method == NULL || transfer->url == NULL ||
		(request->body != NULL && transfer->body == NULL))
	{
		free_transfer(transfer);
		return NULL;
	}
	if (!tb_http_read_url(transfer))
		return transfer;
	if (transfer->method[0] == '\0' ||
		transfer->method[strspn(transfer->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] != '\0')
	{
		tb_http_fail(transfer, "protocol", "the method of the request is not a word in capitals");
		return transfer;
	}
	foreach(cell, request->headers)
	{
		if (!tb_http_add_header(transfer, lfirst(cell)))
			return transfer;
	}
	return transfer;
}

/* Begin a request; one that cannot be made has an answer, too. */
static void
start(const HttpRequest *request)
{
	static bool registered = false;
	HttpTransfer *transfer;

	if (!registered)
		before_shmem_exit(wipe_at_exit, (Datum) 0);
	registered = true;
	transfer = tb_http_loop_begin() ? make_transfer(request) : NULL;
	if (transfer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("There is no memory for an HTTP request.")));
	transfer->began = tb_http_clock();
	if (transfer->error_kind != NULL)
	{
		put_finished(transfer);
		return;
	}
	dlist_push_tail(&queued, &transfer->node);
	queued_count++;
	send_queued();
}

/* How many requests have been started whose answer has not been taken yet. */
static int
running(void)
{
	dlist_iter	iter;
	int			count = queued_count + sent_count;

	dlist_foreach(iter, &finished)
		count++;
	return count;
}

/* How many requests may be started now without waiting for all others. */
static int
room(void)
{
	if (queued_count >= MAX_QUEUED)
		return 0;
	return Max(tb_terms->max_requests - sent_count, 0);
}

/* Take in what libcurl is through with */
static void
collect(void)
{
	HttpTransfer *transfer;
	CURLcode	code;

	while ((transfer = tb_http_loop_finished(&code)) != NULL)
	{
		long		status = 0;

		transfer->duration_ms = age_of(transfer);
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
		if (code != CURLE_OK)
			tb_http_explain(transfer, code);
		else if (status < 200 || status > 999)
			tb_http_fail(transfer, "protocol", "the answer has no status");
		else
			transfer->status = (int) status;
		tb_http_loop_remove(transfer);
		dlist_delete(&transfer->node);
		sent_count--;
		put_finished(transfer);
	}
}

/* libcurl has given up: so do we, on all that was on its way */
static void
give_up(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &sent)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, node, iter.cur);

		transfer->duration_ms = age_of(transfer);
		tb_http_fail(transfer, "protocol", "libcurl has given up");
		tb_http_loop_remove(transfer);
		dlist_delete(&transfer->node);
		sent_count--;
		put_finished(transfer);
	}
	tb_http_loop_discard();
}

/*
 * Wait until something happens to a request, to the latch, or to another file, or
 * the time is over.
 */
static bool
wait_for_any(long timeout_ms, pgsocket also)
{
	int64		wait_ms = timeout_ms;
	bool		woken = false;

	if (!dlist_is_empty(&finished))
		wait_ms = 0;
	if (!dlist_is_empty(&queued))
	{
		HttpTransfer *oldest = dlist_head_element(HttpTransfer, node, &queued);
		int64		left = Max(TB_MAX_QUEUE_MS - age_of(oldest), 0);

		if (wait_ms < 0 || left < wait_ms)
			wait_ms = left;
	}
	if (!tb_http_loop_turn(wait_ms, also, &woken))
		give_up();
	collect();
	send_queued();
	return woken;
}

/* The answer to the request that was over first; false if there is none. */
static bool
next_answer(HttpAnswer *answer)
{
	HttpTransfer *transfer;

	if (dlist_is_empty(&finished))
		return false;
	transfer = dlist_container(HttpTransfer, node, dlist_pop_head_node(&finished));
	answer->purpose = transfer->purpose;
	answer->target = transfer->target;
	answer->lease = transfer->lease;
	answer->status = transfer->status;
	if (transfer->status != 0)
	{
		answer->header_count = transfer->header_count;
		answer->headers = transfer->headers;
		answer->body = transfer->received;
		answer->body_length = transfer->received_length;
		answer->error = NULL;
		answer->error_kind = NULL;
	}
	else
	{
		/* half an answer is none */
		answer->header_count = 0;
		answer->headers = NULL;
		answer->body = NULL;
		answer->body_length = 0;
		answer->error = transfer->error;
		answer->error_kind = transfer->error_kind;
	}
	answer->duration_ms = transfer->duration_ms;
	answer->handle = transfer;
	return true;
}

static void
done_with(HttpAnswer *answer)
{
	free_transfer(answer->handle);
	answer->handle = NULL;
}

/* Called once, before all others. */
static void
begin(const HttpTerms *terms)
{
	tb_terms = terms;
}

/*
 * tokenbill_http_engine
 *		What tokenbill looks for when it has loaded this library.
 */
const HttpEngine *
tokenbill_http_engine(void)
{
	static const HttpEngine engine = {
		.interface_number = TB_HTTP_INTERFACE,
		.version = TOKENBILL_VERSION,
		.begin = begin,
		.start = start,
		.running = running,
		.room = room,
		.wait = wait_for_any,
		.next = next_answer,
		.done = done_with,
		.token_load = tb_token_load,
		.token_read = tb_token_read,
		.token_forget = tb_token_forget,
		.token_sign = tb_token_sign,
		.forget_text = tb_wiped_free,
	};

	return &engine;
}
