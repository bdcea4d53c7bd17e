/*
 * redactor.h
 *	  Finds secrets and payment card numbers in text, and masks them.
 *
 * redactor.c, shape.c, credential.c, named_value.c and card_number.c need nothing of
 * PostgreSQL, allocate nothing and read nothing outside of the lengths they are given:
 * they can be tried at random outside of a server, and run where an error is being
 * reported because there is no memory.
 */
#ifndef TOKENBILL_REDACTOR_H
#define TOKENBILL_REDACTOR_H

#include <stdbool.h>
#include <stddef.h>

typedef enum RedactWhat
{
	TB_CARDS,					/* card numbers only */
	TB_SECRETS					/* and everything else */
} RedactWhat;

/* Text that is being searched, and what was found last */
typedef struct Redactor
{
	const char *bytes;
	size_t		length;
	RedactWhat	what;
	size_t		at;				/* how far it has been searched */
	size_t		floor;			/* where what was found before ended: nothing
								 * before counts as a neighbour */
	size_t		start;			/* what is to be masked: from here */
	size_t		end;			/* to here */
	bool		is_card;		/* digit by digit, not as a whole */
} Redactor;

/* redactor.c */
extern void tb_redactor_begin(Redactor *redactor, const char *bytes, size_t length,
							  RedactWhat what);
extern bool tb_redactor_next(Redactor *redactor, size_t upto);
extern size_t tb_redact(char *bytes, size_t length, RedactWhat what);
extern size_t tb_redact_copy(char *to, size_t room, const char *bytes,
							 size_t length, RedactWhat what);
extern bool tb_blot(char *bytes, size_t length, bool for_lexer);

#endif							/* TOKENBILL_REDACTOR_H */
