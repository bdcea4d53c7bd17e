#ifndef TOKENBILL_TOKEN_ANSWER_H
#define TOKENBILL_TOKEN_ANSWER_H

#include "http.h"
#include "secret.h"

/* An answer with tokens in it, as it goes into a statement. */
typedef struct TokenRecord
{
	char	   *document;		/* a JSON object: what of it is no secret */
	Jsonb	   *secrets;		/* what is, encrypted; NULL: there is none */
} TokenRecord;

extern bool tb_holds_tokens(const char *purpose);
extern Refusal *tb_token_ready(void);
extern Refusal *tb_token_seal_answer(const HttpAnswer *answer, TokenRecord *record,
									 bool *later);
extern Refusal *tb_token_seal(const char *target, int64 lease, const SecretText *token,
							  const MasterKey *key, TokenRecord *record);

#endif							/* TOKENBILL_TOKEN_ANSWER_H */
