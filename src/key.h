#ifndef TOKENBILL_KEY_H
#define TOKENBILL_KEY_H

#include "secret.h"

#define TB_KEY_BYTES 32

/* Digits of a key's id, which tells keys apart and nothing else about them. */
#define TB_KEY_ID_DIGITS 16

struct MasterKey
{
	uint8		bytes[TB_KEY_BYTES];
	char		id[TB_KEY_ID_DIGITS + 1];
};

#endif							/* TOKENBILL_KEY_H */
