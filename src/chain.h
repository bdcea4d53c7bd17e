#ifndef TOKENBILL_CHAIN_H
#define TOKENBILL_CHAIN_H

#include "tokenbill.h"

#define TB_HASH_BYTES 32

/* The fields of a ledger line that its hash covers, in the order they have in it. */
typedef struct ChainedLine
{
	text	   *account;
	int64		seq;
	TimestampTz created_at;
	text	   *kind;
	Numeric		amount;
	Numeric		balance;
	Numeric		held;
	Numeric		credit_limit;
	text	   *contra;
	text	   *service;		/* this and the following may be null */
	Jsonb	   *usage;
	Jsonb	   *rates;
	Jsonb	   *metadata;
	Jsonb	   *request;
	text	   *idempotency_key;
	text	   *ref;
	Numeric		cost;			/* what the upstream takes; null: unknown */
} ChainedLine;

extern void tb_line_hash(const ChainedLine *line, const uint8 *previous,
						 uint8 *hash);

#endif							/* TOKENBILL_CHAIN_H */
