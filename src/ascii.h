/*
 * ascii.h
 *	  Characters of ASCII, whatever the locale is; needs nothing of PostgreSQL.
 */
#ifndef TOKENBILL_ASCII_H
#define TOKENBILL_ASCII_H

#include <stdbool.h>

static inline bool
tb_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline bool
tb_is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A letter in lower case; anything else as it is */
static inline char
tb_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

/* The value of a hexadecimal digit, or -1 */
static inline int
tb_hex_value(char c)
{
	if (tb_is_digit(c))
		return c - '0';
	c = tb_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

#endif							/* TOKENBILL_ASCII_H */
