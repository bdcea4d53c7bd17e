/*
 * word.h
 *	  Looking at a text from one of its words, for the parts of the redactor.
 *
 * Nothing here looks further than to where a run of bytes ends, or has a bound.
 */
#ifndef TOKENBILL_WORD_H
#define TOKENBILL_WORD_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "ascii.h"

/* A word: letters and digits without a gap, and their neighbours */
typedef struct Word
{
	const char *bytes;
	size_t		length;			/* of the text */
	size_t		floor;
	size_t		start;
	size_t		end;
} Word;

/* The longest look at what then is no secret */
#define TB_LOOK 64

/* What is shorter is no secret, whatever stands before it, unless it is quoted */
#define TB_LEAST_SECRET 3

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

/* The byte at a place, or none behind the end */
static inline char
tb_at(const Word *word, size_t i)
{
	return i < word->length ? word->bytes[i] : '\0';
}

/* Where the bytes of these classes end that begin at i */
static inline size_t
tb_run(const Word *word, size_t i, unsigned char classes)
{
	while (i < word->length && tb_is(word->bytes[i], classes))
		i++;
	return i;
}

/* The same, but no further than a look */
static inline size_t
tb_short_run(const Word *word, size_t i, unsigned char classes, size_t look)
{
	size_t		start = i;

	while (i < word->length && i - start < look && tb_is(word->bytes[i], classes))
		i++;
	return i;
}

/* Behind some blanks, but not behind many */
static inline size_t
tb_skip_blanks(const Word *word, size_t i)
{
	return tb_short_run(word, i, TB_SPACE, 8);
}

/* Whether length bytes are this word, which is in lower case, in any case */
static inline bool
tb_is_word(const char *s, size_t length, const char *other)
{
	if (strlen(other) != length)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (tb_lower(s[i]) != other[i])
			return false;
	}
	return true;
}

/* redactor.c */
extern bool tb_is_varied(const char *s, size_t length);
extern bool tb_is_cut_off(const Word *word, size_t end);

/* shape.c */
extern bool tb_shape_at(const Word *word, size_t *start, size_t *end);

/* credential.c */
extern bool tb_credential_at(const Word *word, size_t *start, size_t *end);

/* named_value.c */
extern bool tb_named_value_at(const Word *word, size_t *start, size_t *end);

#endif							/* TOKENBILL_WORD_H */
