#ifndef TOKENBILL_CALL_SECRET_H
#define TOKENBILL_CALL_SECRET_H

#include "secret.h"

#include "nodes/pg_list.h"

/*
 * What stands for {name} in a call: a secret, or what is made of it.  Lists of
 * these live in the memory context of the call.
 */
typedef struct CallSecret
{
	char	   *name;
	char	   *stored;			/* name of the secret */
	char	   *user;			/* NULL, or of HTTP Basic: name and colon are
								 * put before it, and it is made base64 */
	char	   *alg;			/* NULL, or of a JWT that is signed with it */
	char	   *header;
	char	   *claims;
	SealedSecret *sealed;
	SecretText	plain;			/* only between open and wipe */
} CallSecret;

extern List *tb_call_secrets(char *secret, Jsonb *others);
extern Refusal *tb_call_secrets_load(List *secrets, const char **which);
extern Refusal *tb_call_secrets_open(List *secrets, const MasterKey *key,
									 const char **which);
extern void tb_call_secrets_wipe(List *secrets);
extern const SecretText *tb_call_secret(const List *secrets, const char *name);
extern char *tb_call_fill(const char *source, const List *secrets, bool encoded);

#endif							/* TOKENBILL_CALL_SECRET_H */
