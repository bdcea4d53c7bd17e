#ifndef TOKENBILL_ENVELOPE_H
#define TOKENBILL_ENVELOPE_H

#include "key.h"

#define TB_SECRET_LAYOUT 1
#define TB_NONCE_BYTES 12
#define TB_TAG_BYTES 16
#define TB_MAX_SECRET 8192

/* A secret as it is stored; envelope.c has what each part is. */
struct SealedSecret
{
	char		name[TB_MAX_NAME + 1];
	int64		version;
	int			layout;
	char	   *key_id;
	bytea	   *key_nonce;
	bytea	   *wrapped_key;
	bytea	   *value_nonce;
	bytea	   *ciphertext;
};

extern Refusal *tb_seal(SealedSecret *sealed, const MasterKey *key,
						const uint8 *value, int length);
extern Refusal *tb_unwrap_key(const SealedSecret *sealed, const MasterKey *key,
							  uint8 *data_key);
extern Refusal *tb_wrap_key(SealedSecret *sealed, const MasterKey *key,
							const uint8 *data_key);
extern Refusal *tb_unseal(const SealedSecret *sealed, const uint8 *data_key,
						  SecretText *secret);

#endif							/* TOKENBILL_ENVELOPE_H */
