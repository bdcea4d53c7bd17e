#ifndef TOKENBILL_CALL_RECORD_H
#define TOKENBILL_CALL_RECORD_H

#include "http.h"
#include "token_answer.h"

/* What is read of the calls that a step hands out. */
#define TB_CALL_COLUMNS \
	"c.purpose, c.target, c.lease, c.method, c.url, c.headers, c.body, c.secret, c.auth, c.timeout_ms, c.max_bytes, c.secrets"

/* What a step hands out: calls, in a memory context that outlives it. */
typedef struct Calls
{
	MemoryContext context;
	List	   *list;			/* of Call * */
	int			max;			/* of a claim */
	const HttpAnswer *answer;	/* of a record */
	const TokenRecord *tokens;	/* what is recorded in place of its body;
								 * NULL: that is */
} Calls;

/* call.c */
extern void tb_read_calls(Calls *calls);

/* call_record.c */
extern void tb_record_as(Calls *calls, const HttpAnswer *answer,
						 const TokenRecord *tokens);
extern bool tb_record_answers(Calls *calls);

#endif							/* TOKENBILL_CALL_RECORD_H */
