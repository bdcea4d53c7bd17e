#ifndef TOKENBILL_STREAM_H
#define TOKENBILL_STREAM_H

#include "tokenbill.h"

#include "executor/spi.h"
#include "executor/tuptable.h"
#include "nodes/params.h"

/* The parameters that a stream's statements may use: $1 to $5. */
typedef enum StreamParameter
{
	STREAM_ACCOUNT,				/* $1 text, null for all */
	STREAM_BEGIN,				/* $2 timestamptz */
	STREAM_END,					/* $3 timestamptz */
	STREAM_AFTER_SEQ,			/* $4 bigint */
	STREAM_MONTH				/* $5 date */
} StreamParameter;

#define STREAM_PARAMETERS 5

/* A condition on $1. */
#define OF_ACCOUNT(column) \
	" ($1 IS NULL OR " column " OPERATOR(pg_catalog.=) $1)"

/*
 * A sum that cannot overflow: amounts that no tokenbill has written, and nulls,
 * make it NaN.
 */
#define SUM_OF(amount) \
	"pg_catalog.sum(CASE WHEN " amount " OPERATOR(pg_catalog.<) 1e30" \
	" AND " amount " OPERATOR(pg_catalog.>) '-1e30' THEN " amount \
	" ELSE 'NaN' END)"

typedef struct Stream
{
	ParamListInfo parameters;
	MemoryContext row_context;	/* lives for some rows, then is reset */
	uint64		rows;
} Stream;

/* Takes a row; the slot's values are there only until it returns. */
typedef void (*TakeRow) (void *state, TupleTableSlot *slot);

extern void tb_open_stream(Stream *stream);
extern void tb_set_parameter(Stream *stream, StreamParameter number,
							 Datum value);
extern void tb_set_null(Stream *stream, StreamParameter number);
extern void tb_stream(Stream *stream, const char *sql, TakeRow take,
					  void *state);
extern void tb_stream_again(Stream *stream, const char *sql, SPIPlanPtr *plan,
							TakeRow take, void *state);

#endif							/* TOKENBILL_STREAM_H */
