/*
 * http_receive.c
 *	  Headers and body as they arrive, and what they may be.
 *
 * Nothing is believed of what the server announces: the body is measured as it
 * comes out of decompression, the headers as they come in, those of interim
 * answers included.
 */
#include "http_transfer.h"

/*
 * tb_http_body_callback
 *		A piece of the body has arrived.  Anything but its size stops the
 *		transfer.
 */
size_t
tb_http_body_callback(char *data, size_t size, size_t count, void *transfer)
{
	HttpTransfer *to = transfer;
	size_t		length = size * count;

	to->headers_complete = true;
	if (length > to->max_bytes - to->received_length)
	{
		tb_http_fail(to, "too_big",
					 "the body of the answer is larger than %zu bytes",
					 to->max_bytes);
		return 0;
	}
	if (length > to->received_room - to->received_length)
	{
		size_t		room = Max(to->received_room * 2, to->received_length + length);
		char	   *larger;

		room = Min(Max(room, 4096), to->max_bytes);
		larger = tb_wiped_realloc(to->received, room);
		if (larger == NULL)
		{
			tb_http_fail(to, "protocol", "there is no memory for the answer");
			return 0;
		}
		to->received = larger;
		to->received_room = room;
	}
	memcpy(to->received + to->received_length, data, length);
	to->received_length += length;
	return length;
}

/* Forget the headers that have arrived: those were of an interim answer */
static void
forget_headers(HttpTransfer *to)
{
	for (int i = 0; i < to->header_count; i++)
	{
		tb_wiped_free(to->headers[i].name);
		tb_wiped_free(to->headers[i].value);
	}
	to->header_count = 0;
	to->headers_complete = false;
}

static bool
is_token_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		(c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* Behind a value: another line of it, or the value of a header with its name */
static bool
append_value(HttpHeader *header, const char *between, const char *value, size_t length)
{
	size_t		before = strlen(header->value);
	size_t		more = strlen(between);
	char	   *longer = tb_wiped_realloc(header->value, before + more + length + 1);

	if (longer == NULL)
		return false;
	memcpy(longer + before, between, more);
	memcpy(longer + before + more, value, length);
	longer[before + more + length] = '\0';
	tb_http_make_ascii(longer + before + more, length);
	header->value = longer;
	return true;
}

/* Keep a header; false if there is no memory */
static bool
keep_header(HttpTransfer *to, const char *name, size_t name_length,
			const char *value, size_t value_length)
{
	HttpHeader *header;

	for (int i = 0; i < to->header_count; i++)
	{
		header = &to->headers[i];
		if (strlen(header->name) == name_length &&
			pg_strncasecmp(header->name, name, name_length) == 0)
			return append_value(header, ", ", value, value_length);
	}
	if (to->headers == NULL)
	{
		to->headers = tb_wiped_calloc(TB_MAX_HEADERS, sizeof(HttpHeader));
		if (to->headers == NULL)
			return false;
	}
	header = &to->headers[to->header_count];
	header->name = tb_wiped_copy(name, name_length);
	header->value = tb_wiped_copy(value, value_length);
	if (header->name == NULL || header->value == NULL)
	{
		tb_wiped_free(header->name);
		tb_wiped_free(header->value);
		return false;
	}
	for (char *c = header->name; *c != '\0'; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	tb_http_make_ascii(header->value, value_length);
	to->header_count++;
	return true;
}

/*
 * The ways in which we let a body be compressed.  libcurl undoes others too,
 * which it was not told to ask for; some of them need memory by the hundred
 * megabytes when the server says so.
 */
static bool
known_encoding(const char *value, size_t length)
{
	static const char *const known[] = {"identity", "gzip", "x-gzip", "deflate"};
	const char *end = value + length;

	while (value < end)
	{
		const char *comma = memchr(value, ',', end - value);
		const char *last = comma == NULL ? end : comma;
		bool		found = false;

		while (value < last && (*value == ' ' || *value == '\t'))
			value++;
		while (last > value && (last[-1] == ' ' || last[-1] == '\t'))
			last--;
		for (int i = 0; i < (int) lengthof(known); i++)
			found |= (size_t) (last - value) == strlen(known[i]) &&
				pg_strncasecmp(value, known[i], last - value) == 0;
		if (!found && last > value)
			return false;
		value = comma == NULL ? end : comma + 1;
	}
	return true;
}

/* Take in a line that is a header; false stops the transfer */
static bool
take_header(HttpTransfer *to, const char *line, size_t length)
{
	const char *colon;
	const char *value;
	size_t		name_length;

	/*
	 * RFC 9112 5.2: a line that begins with white space goes on with the
	 * value
	 */
	if (line[0] == ' ' || line[0] == '\t')
	{
		while (length > 0 && (*line == ' ' || *line == '\t'))
		{
			line++;
			length--;
		}
		return to->header_count == 0 ||
			append_value(&to->headers[to->header_count - 1], " ", line, length);
	}
	colon = memchr(line, ':', length);
	if (colon == NULL)
		return true;			/* not a header, and libcurl does not mind */
	name_length = colon - line;
	for (size_t i = 0; i < name_length; i++)
	{
		if (!is_token_character(pg_ascii_tolower((unsigned char) line[i])))
			return true;
	}
	value = colon + 1;
	length -= name_length + 1;
	while (length > 0 && (*value == ' ' || *value == '\t'))
	{
		value++;
		length--;
	}
	if (name_length == strlen("content-encoding") &&
		pg_strncasecmp(line, "content-encoding", name_length) == 0 &&
		!known_encoding(value, length))
	{
		tb_http_fail(to, "encoding",
					 "the body of the answer is compressed in a way that was not asked for");
		return false;
	}
	return keep_header(to, line, name_length, value, length);
}

/*
 * tb_http_header_callback
 *		A line of the headers has arrived.  Anything but its size stops the
 *		transfer.
 *
 * A status line begins a new answer: what came before it was an interim one, of
 * status 1xx.  What comes after the body are trailers, which nobody here needs.
 */
size_t
tb_http_header_callback(char *data, size_t size, size_t count, void *transfer)
{
	HttpTransfer *to = transfer;
	size_t		length = size * count;
	size_t		line = length;

	to->header_bytes += length;
	to->header_lines++;
	if (to->header_bytes > TB_MAX_HEADER_BYTES || to->header_lines > TB_MAX_HEADERS)
	{
		tb_http_fail(to, "too_big",
					 "the headers of the answer are more than %d lines or %d bytes",
					 TB_MAX_HEADERS, TB_MAX_HEADER_BYTES);
		return 0;
	}
	while (line > 0 && (data[line - 1] == '\r' || data[line - 1] == '\n' ||
						data[line - 1] == ' ' || data[line - 1] == '\t'))
		line--;
	if (line == 0)
		to->headers_complete = true;
	else if (to->received_length == 0 && line >= 5 && memcmp(data, "HTTP/", 5) == 0)
		forget_headers(to);
	else if (!to->headers_complete && !take_header(to, data, line))
	{
		tb_http_fail(to, "protocol", "there is no memory for the answer");
		return 0;
	}
	return length;
}
