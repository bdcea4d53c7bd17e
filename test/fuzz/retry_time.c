/*
 * retry_time.c
 *	  One moment or span at random.
 *
 * The first byte is what a number counts, and in which year it is; the rest is
 * the value of a header.
 *
 * sources: retry_time.c
 * longest: 256
 */
#include "retry_after.h"

#include <stdlib.h>
#include <string.h>

#define NOW_MS (INT64_C(1767225600) * 1000)
#define YEAR_MS INT64_C(31556952000)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *copy;
	RetryText	cursor;
	const char *before;
	int64_t		now_ms;
	int64_t		wait_ms = -1;
	int64_t		thousandths = -1;

	if (size == 0)
		return 0;
	copy = malloc(size);
	memcpy(copy, data, size);
	cursor.at = before = copy + 1;
	cursor.end = copy + size;
	now_ms = NOW_MS + (data[0] / 3 % 64) * YEAR_MS;

	tb_retry_skip(&cursor);
	before = cursor.at;
	if (tb_retry_wait(&cursor, (RetryUnit) (data[0] % 3), now_ms, &wait_ms))
	{
		if (wait_ms < 0 || cursor.at <= before || cursor.at > cursor.end)
			abort();
	}
	else if (cursor.at != before)
		abort();

	cursor.at = before;
	if (tb_retry_number(&cursor, &thousandths) ?
		thousandths < 0 || cursor.at <= before || cursor.at > cursor.end :
		cursor.at != before)
		abort();
	free(copy);
	return 0;
}
