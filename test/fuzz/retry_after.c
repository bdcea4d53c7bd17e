/*
 * retry_after.c
 *	  Headers at random, for how long a server wants us to wait.
 *
 * The first line is the status, the second how many seconds before or after
 * 2026-01-01 it is; then come headers.
 *
 * sources: retry_after.c retry_time.c
 * longest: 4096
 */
#include "retry_after.h"

#include <stdlib.h>
#include <string.h>

#define MAX_HEADERS 64
#define NOW_MS (INT64_C(1767225600) * 1000)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next line, without what ends it */
static RetryText
next_line(RetryText *rest)
{
	RetryText	line = {rest->at, rest->at};

	while (line.end < rest->end && *line.end != '\n')
		line.end++;
	rest->at = line.end < rest->end ? line.end + 1 : line.end;
	return line;
}

/* A number with a sign and at most nine digits; anything else ends it */
static int64_t
number_in(RetryText line)
{
	int64_t		value = 0;
	bool		negative = line.at < line.end && *line.at == '-';

	for (const char *at = line.at + negative;
		 at < line.end && at < line.at + 10 && *at >= '0' && *at <= '9'; at++)
		value = value * 10 + (*at - '0');
	return negative ? -value : value;
}

static RetryHeader
header_in(RetryText line)
{
	RetryHeader header = {line, {line.end, line.end}};
	const char *colon = line.at == line.end ? NULL : memchr(line.at, ':', line.end - line.at);

	if (colon != NULL)
	{
		header.name.end = colon;
		header.value.at = colon + 1;
	}
	return header;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* one byte beyond it is not ours */
	char	   *copy = malloc(size);
	RetryText	rest = {copy, copy + size};
	RetryHeader headers[MAX_HEADERS];
	size_t		count = 0;
	int			status;
	int64_t		now_ms;
	int64_t		wait_ms = -1;
	bool		capped;

	if (size > 0)
		memcpy(copy, data, size);
	status = (int) number_in(next_line(&rest));
	now_ms = NOW_MS + number_in(next_line(&rest)) * 1000;
	while (count < MAX_HEADERS && rest.at < rest.end)
		headers[count++] = header_in(next_line(&rest));
	if (tb_retry_after(headers, count, status, now_ms, &wait_ms, &capped) &&
		(wait_ms < 0 || wait_ms > TB_MAX_RETRY_MS || (capped && wait_ms != TB_MAX_RETRY_MS)))
		abort();
	free(copy);
	return 0;
}
