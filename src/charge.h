#ifndef TOKENBILL_CHARGE_H
#define TOKENBILL_CHARGE_H

#include "rating.h"
#include "movement.h"

/* The arguments of charge(), charge_tokens() and charge_amount(); null if not given. */
typedef struct ChargeRequest
{
	text	   *account;
	text	   *service;
	Jsonb	   *usage;
	Numeric		amount;
	text	   *idempotency_key;
	text	   *on_insufficient;
	Jsonb	   *metadata;
	bool		by_amount;		/* charge_amount(): amount counts, not usage */
	bool		wait;
} ChargeRequest;

extern Refusal *tb_charge(const ChargeRequest *request, Oid user,
						  Receipt *receipt);
extern Jsonb *tb_token_usage(int64 tokens);

#endif							/* TOKENBILL_CHARGE_H */
