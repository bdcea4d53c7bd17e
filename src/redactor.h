/*
 * redactor.h
 *	  Finds secrets and payment card numbers in text, and masks them.
 *
 * redactor.c, shape.c, credential.c and card_number.c need nothing of PostgreSQL,
 * allocate nothing and read nothing outside of the lengths they are given: they
 * can be tried at random outside of a server, and run where an error is being
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

/* A word: letters and digits without a gap, and their neighbours */
typedef struct Word
{
	const char *bytes;
	size_t		length;			/* of the text */
	size_t		floor;
	size_t		start;
	size_t		end;
} Word;

/* shape.c */
extern bool tb_shape_at(const Word *word, size_t *start, size_t *end);

/* credential.c */
extern bool tb_credential_at(const Word *word, size_t *start, size_t *end);

/* What a byte may be part of */
typedef enum ByteClass
{
	TB_DIGIT = 1,
	TB_UPPER = 2,
	TB_LOWER = 4,
	TB_HEX = 8,					/* 0-9 a-f */
	TB_DASH = 16,				/* _ and - */
	TB_BASE64 = 32,				/* + / = */
	TB_SPACE = 64,				/* white space */
	TB_DOT = 128				/* . and ~ */
} ByteClass;

#define TB_ALNUM (TB_DIGIT | TB_UPPER | TB_LOWER)
#define TB_KEY (TB_ALNUM | TB_DASH)

extern const unsigned char tb_byte_class[256];

/* Whether a byte is of one of these classes */
static inline bool
tb_is(char c, unsigned char classes)
{
	return (tb_byte_class[(unsigned char) c] & classes) != 0;
}

/* The byte before a place in the text of a word; at the floor, none */
static inline char
tb_before(const Word *word, size_t i)
{
	return i > word->floor ? word->bytes[i - 1] : '\0';
}

/* Where the bytes of these classes end that begin at i */
static inline size_t
tb_run(const Word *word, size_t i, unsigned char classes)
{
	while (i < word->length && tb_is(word->bytes[i], classes))
		i++;
	return i;
}

extern bool tb_is_varied(const char *s, size_t length);
extern bool tb_is_cut_off(const Word *word, size_t end);

#endif							/* TOKENBILL_REDACTOR_H */
