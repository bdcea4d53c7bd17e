#ifndef TOKENBILL_REFUSAL_H
#define TOKENBILL_REFUSAL_H

#include "tokenbill.h"

/* The SQLSTATEs of docs/reference.md, "Errors": PTnnn is HTTP nnn to PostgREST. */
#define TB_INSUFFICIENT MAKE_SQLSTATE('P','T','4','0','2')
#define TB_FORBIDDEN	MAKE_SQLSTATE('P','T','4','0','3')
#define TB_NOT_FOUND	MAKE_SQLSTATE('P','T','4','0','4')
#define TB_CONFLICT		MAKE_SQLSTATE('P','T','4','0','9')
#define TB_IN_PROGRESS	MAKE_SQLSTATE('P','T','4','2','3')
#define TB_LIMITED		MAKE_SQLSTATE('P','T','4','2','9')
#define TB_TIMED_OUT	MAKE_SQLSTATE('P','T','5','0','4')

/* Why a request is not granted.  Lives in the caller's memory context. */
typedef struct Refusal
{
	int			sqlstate;
	const char *message;
	const char *detail;			/* a JSON object */
	const char *hint;
} Refusal;

extern Refusal *tb_refusal(int sqlstate, const char *detail, const char *hint,
						   const char *format,...) pg_attribute_printf(4, 5);
extern char *tb_json(const char *spec,...);
extern char *tb_json_string(const text *value);
extern char *tb_json_document(Jsonb *value);
extern void tb_raise(Refusal *refusal);

#endif							/* TOKENBILL_REFUSAL_H */
