#ifndef TOKENBILL_IDEMPOTENCY_H
#define TOKENBILL_IDEMPOTENCY_H

#include "chain.h"
#include "refusal.h"

extern Refusal *tb_claim_key(const text *account, const text *key, bool wait);
extern Refusal *tb_same_request(const ChainedLine *was, const ChainedLine *now,
								const char *ref_argument);
extern bool tb_same_jsonb(Jsonb *a, Jsonb *b);

#endif							/* TOKENBILL_IDEMPOTENCY_H */
