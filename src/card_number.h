/*
 * card_number.h
 *	  Payment card numbers in bytes of text; needs nothing of PostgreSQL.
 */
#ifndef TOKENBILL_CARD_NUMBER_H
#define TOKENBILL_CARD_NUMBER_H

#include <stdbool.h>
#include <stddef.h>

extern bool tb_card_number_at(const char *s, size_t length, size_t start,
							  size_t *end, size_t *last_four);

#endif							/* TOKENBILL_CARD_NUMBER_H */
