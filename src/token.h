#ifndef TOKENBILL_TOKEN_H
#define TOKENBILL_TOKEN_H

#include "receipt.h"
#include "refusal.h"

extern bool tb_is_token(const text *key);
extern Refusal *tb_judge_token(const text *account, const text *token);
extern void tb_use_token(const text *account, const text *token);
extern Refusal *tb_token_used(const text *account, const text *token,
							  const Receipt *result);

#endif							/* TOKENBILL_TOKEN_H */
