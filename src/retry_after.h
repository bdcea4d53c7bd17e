/*
 * retry_after.h
 *	  How long a server wants us to wait, by the headers of its answer.
 *
 * retry_after.c and retry_time.c need nothing of PostgreSQL, allocate nothing and
 * read nothing behind the lengths they are given: they can be tried at random
 * outside of a server.
 */
#ifndef TOKENBILL_RETRY_AFTER_H
#define TOKENBILL_RETRY_AFTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Nobody is waited for longer than a day */
#define TB_MAX_RETRY_MS ((int64_t) 24 * 60 * 60 * 1000)

/* Text that is being read, from at up to end */
typedef struct RetryText
{
	const char *at;
	const char *end;
} RetryText;

typedef struct RetryHeader
{
	RetryText	name;
	RetryText	value;
} RetryHeader;

/* What a number in a header counts */
typedef enum RetryUnit
{
	RETRY_SECONDS,				/* from now; as large as a time, it is one */
	RETRY_MILLISECONDS,			/* from now */
	RETRY_RESET					/* the same as RETRY_SECONDS, but zero and
								 * less mean that it is not known */
} RetryUnit;

extern bool tb_retry_after(const RetryHeader *headers, size_t count, int status,
						   int64_t now_ms, int64_t *wait_ms, bool *capped);

/* retry_time.c */
extern bool tb_retry_number(RetryText *cursor, int64_t *thousandths);
extern bool tb_retry_wait(RetryText *cursor, RetryUnit unit, int64_t now_ms,
						  int64_t *wait_ms);
extern void tb_retry_skip(RetryText *cursor);

#endif							/* TOKENBILL_RETRY_AFTER_H */
