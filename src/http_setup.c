/*
 * http_setup.c
 *	  What libcurl is told about a request.
 *
 * A request goes to the host that is named in its URL and nowhere else: no
 * redirect is followed, no proxy of the environment is used, no cookie is kept,
 * no .netrc is read.  TLS is verified, always.
 */
#include "http_transfer.h"

/* CURLOPT_QUICK_EXIT came with 7.87; without it a name server that does not
 * answer stops the worker, because libcurl waits for its thread that asks */
StaticAssertDecl(LIBCURL_VERSION_NUM >= 0x075700,
				 "tokenbill needs libcurl 7.87.0 or newer, for CURLOPT_QUICK_EXIT");

/* One part of a URL, or NULL; to be freed with curl_free */
static char *
part_of(CURLU *url, CURLUPart part)
{
	char	   *text;

	if (curl_url_get(url, part, &text, 0) != CURLUE_OK)
		return NULL;
	return text;
}

/* scheme://host[:port] in lower case */
static char *
place_of(const char *scheme, const char *host, const char *port)
{
	size_t		room = strlen(scheme) + strlen(host) + 16;
	char	   *place = tb_wiped_malloc(room);

	if (place == NULL)
		return NULL;
	snprintf(place, room, "%s://%s%s%.8s", scheme, host,
			 port == NULL ? "" : ":", port == NULL ? "" : port);
	for (char *c = place; *c != '\0'; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	tb_http_make_ascii(place, strlen(place));
	return place;
}

/*
 * tb_http_read_url
 *		See where a request goes.  False, with its error set, if it must not.
 */
bool
tb_http_read_url(HttpTransfer *transfer)
{
	CURLU	   *url = curl_url();
	char	   *scheme = NULL;
	char	   *host = NULL;
	char	   *port = NULL;
	CURLUcode	code;

	if (url == NULL)
	{
		tb_http_fail(transfer, "protocol", "there is no memory for the request");
		return false;
	}
	code = curl_url_set(url, CURLUPART_URL, transfer->url,
						CURLU_DISALLOW_USER | CURLU_NON_SUPPORT_SCHEME | CURLU_PATH_AS_IS);
	if (code == CURLUE_OK)
	{
		scheme = part_of(url, CURLUPART_SCHEME);
		host = part_of(url, CURLUPART_HOST);
		port = part_of(url, CURLUPART_PORT);
	}
	if (scheme != NULL && host != NULL)
		transfer->place = place_of(scheme, host, port);

	if (code == CURLUE_USER_NOT_ALLOWED)
		tb_http_fail(transfer, "protocol", "the URL has a user name in it");
	else if (code != CURLUE_OK || transfer->place == NULL || host[0] == '\0')
		tb_http_fail(transfer, "protocol", "the URL is not one");
	else if (pg_strcasecmp(scheme, "http") == 0)
	{
		if (!tb_terms->allow_http)
			tb_http_fail(transfer, "protocol",
						 "it is not asked without TLS while tokenbill.allow_http is off");
	}
	else if (pg_strcasecmp(scheme, "https") != 0)
		tb_http_fail(transfer, "protocol", "the URL does not begin with https://");
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(url);
	return transfer->error_kind == NULL;
}

/* Whether a line has this header's name */
static bool
is_header(const char *line, const char *name)
{
	size_t		length = strlen(name);

	return pg_strncasecmp(line, name, length) == 0 && line[length] == ':';
}

/* Whether one of the request's headers has this name */
static bool
has_header(HttpTransfer *transfer, const char *name)
{
	for (struct curl_slist *line = transfer->request_headers; line != NULL; line = line->next)
	{
		if (is_header(line->data, name))
			return true;
	}
	return false;
}

static bool
append_header(HttpTransfer *transfer, const char *line)
{
	struct curl_slist *longer = curl_slist_append(transfer->request_headers, line);

	if (longer == NULL)
	{
		tb_http_fail(transfer, "protocol", "there is no memory for the request");
		return false;
	}
	transfer->request_headers = longer;
	return true;
}

/*
 * tb_http_add_header
 *		Take a header, "Name: value", into a request.  False, with its error set,
 *		if it is not one: a line break in a value would begin another header, or
 *		another request.
 */
bool
tb_http_add_header(HttpTransfer *transfer, const char *header)
{
	const char *colon = strchr(header, ':');
	bool		good = colon != NULL && colon > header;
	bool		empty = good && colon[1 + strspn(colon + 1, " \t")] == '\0';

	for (const char *c = header; good && c < colon; c++)
		good = (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') ||
			(*c >= 'A' && *c <= 'Z') || strchr("!#$%&'*+-.^_`|~", *c) != NULL;
	for (const char *c = colon; good && *c != '\0'; c++)
		good = (unsigned char) *c >= ' ' ? *c != 0x7f : *c == '\t';
	if (!good)
	{
		tb_http_fail(transfer, "protocol",
					 "a header of the request is not a name, a colon and a value in one line");
		return false;
	}
	if (is_header(header, "content-length") || is_header(header, "transfer-encoding"))
	{
		tb_http_fail(transfer, "protocol",
					 "the request has a header that says how long its body is");
		return false;
	}
	if (empty)
	{
		/* libcurl takes "Name:" for "leave this one out" */
		char	   *line = tb_wiped_copy(header, colon - header + 1);
		bool		added;

		if (line == NULL)
		{
			tb_http_fail(transfer, "protocol", "there is no memory for the request");
			return false;
		}
		line[colon - header] = ';';
		added = append_header(transfer, line);
		tb_wiped_free(line);
		return added;
	}
	return append_header(transfer, header);
}

/* What we do not want libcurl to add by itself */
static bool
leave_out_headers(HttpTransfer *transfer)
{
	/* waiting for "100 Continue" would only cost a second */
	if (!append_header(transfer, "Expect:"))
		return false;
	/* it would say that the body is a form */
	return has_header(transfer, "content-type") ||
		append_header(transfer, "Content-Type:");
}

/*
 * A connection is there, and the request is about to be sent.
 *
 * When one that was kept from before turns out to be closed, libcurl makes
 * another and sends the request again, of any method without a body
 * (Curl_retry_request() in its lib/transfer.c).  There is no option against that.
 * But a request that we make is counted, may be signed with something that is
 * good for once, and may have had its effect; so the second time ends it here.
 * Whether to ask again is decided where calls are counted.
 */
static int
before_request(void *transfer, char *primary_ip, char *local_ip,
			   int primary_port, int local_port)
{
	HttpTransfer *to = transfer;

	if (to->sent)
	{
		tb_http_fail(to, "closed",
					 "the connection, which had been used before, was closed without an answer");
		return CURL_PREREQFUNC_ABORT;
	}
	to->sent = true;
	return CURL_PREREQFUNC_OK;
}

#define SET(option, value) \
	do { \
		if (code == CURLE_OK) \
			code = curl_easy_setopt(easy, (option), (value)); \
	} while (0)

/* Method and body */
static CURLcode
set_method(HttpTransfer *transfer)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;
	bool		get = strcmp(transfer->method, "GET") == 0;
	bool		head = strcmp(transfer->method, "HEAD") == 0;

	if (head)
		SET(CURLOPT_NOBODY, 1L);
	else if (get && transfer->body == NULL)
		SET(CURLOPT_HTTPGET, 1L);
	else
	{
		SET(CURLOPT_POSTFIELDS, transfer->body == NULL ? "" : transfer->body);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) transfer->body_length);
		SET(CURLOPT_CUSTOMREQUEST, transfer->method);
	}

	SET(CURLOPT_PREREQFUNCTION, before_request);
	SET(CURLOPT_PREREQDATA, transfer);

	/*
	 * What may have an effect gets a connection of its own: of one that was
	 * closed meanwhile nobody knows whether the request was taken.
	 */
	if (!get && !head)
		SET(CURLOPT_FRESH_CONNECT, 1L);
	return code;
}

/* How long it may take */
static CURLcode
set_times(HttpTransfer *transfer)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;
	int			total = transfer->timeout_ms;

	if (total <= 0)
		total = tb_terms->request_timeout;
	SET(CURLOPT_TIMEOUT_MS, (long) total);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) tb_terms->connect_timeout);
	SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
	SET(CURLOPT_LOW_SPEED_TIME, (long) (tb_terms->idle_timeout + 999) / 1000);
	/* a thread that waits for a name server is left to itself */
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_DNS_CACHE_TIMEOUT, 0L);
	SET(CURLOPT_MAXLIFETIME_CONN, 600L);
	/* many servers close one after a minute, and many ask once a minute */
	SET(CURLOPT_MAXAGE_CONN, 30L);
	return code;
}

/* Where it may go, and whom it may meet there */
static CURLcode
set_trust(HttpTransfer *transfer)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;
	curl_version_info_data *built = curl_version_info(CURLVERSION_NOW);

	SET(CURLOPT_PROTOCOLS_STR, tb_terms->allow_http ? "http,https" : "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_OPENSOCKETFUNCTION, tb_http_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, transfer);
	SET(CURLOPT_CLOSESOCKETFUNCTION, tb_http_close_socket);

	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (tb_terms->ca_file != NULL && tb_terms->ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, tb_terms->ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}
	else if (built->cainfo != NULL)
		/* with a directory beside it libcurl reads the file each time */
		SET(CURLOPT_CAPATH, NULL);
	SET(CURLOPT_CA_CACHE_TIMEOUT, 3600L);
	return code;
}

/* What becomes of the answer */
static CURLcode
set_receiver(HttpTransfer *transfer)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;

	SET(CURLOPT_WRITEFUNCTION, tb_http_body_callback);
	SET(CURLOPT_WRITEDATA, transfer);
	SET(CURLOPT_HEADERFUNCTION, tb_http_header_callback);
	SET(CURLOPT_HEADERDATA, transfer);
	SET(CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
	SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) transfer->max_bytes);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	return code;
}

/*
 * tb_http_setup
 *		Make the handle of a request.  False, with its error set and no handle, if
 *		that is not possible.
 */
bool
tb_http_setup(HttpTransfer *transfer, bool fresh_connection)
{
	CURL	   *easy;
	CURLcode	code = CURLE_OK;

	transfer->max_bytes = Min(transfer->max_bytes, (size_t) PG_INT32_MAX);
	if (transfer->max_bytes == 0)
		transfer->max_bytes = (size_t) tb_terms->max_response_kb * 1024;
	if (!leave_out_headers(transfer))
		return false;
	transfer->easy = easy = curl_easy_init();
	if (easy == NULL)
	{
		tb_http_fail(transfer, "protocol", "there is no memory for the request");
		return false;
	}
	SET(CURLOPT_PRIVATE, transfer);
	SET(CURLOPT_ERRORBUFFER, transfer->curl_error);
	/* no signal handlers: the process has its own */
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_URL, transfer->url);
	SET(CURLOPT_HTTPHEADER, transfer->request_headers);
	SET(CURLOPT_USERAGENT, "tokenbill");
	if (code == CURLE_OK)
		code = set_method(transfer);
	if (code == CURLE_OK)
		code = set_times(transfer);
	if (code == CURLE_OK)
		code = set_trust(transfer);
	if (code == CURLE_OK)
		code = set_receiver(transfer);
	if (fresh_connection)
	{
		SET(CURLOPT_FRESH_CONNECT, 1L);
		SET(CURLOPT_FORBID_REUSE, 1L);
	}
	if (code != CURLE_OK)
	{
		tb_http_fail(transfer, "protocol", "libcurl does not take the request: %s",
					 curl_easy_strerror(code));
		curl_easy_cleanup(easy);
		transfer->easy = NULL;
		return false;
	}
	return true;
}
