#ifndef TOKENBILL_KEY_H
#define TOKENBILL_KEY_H

#include "secret.h"

#define TB_KEY_BYTES 32

/* Digits of a key's id, which tells keys apart and nothing else about them. */
#define TB_KEY_ID_DIGITS 16

/* The present key, and so many less one that were before it. */
#define TB_MAX_KEYS 16

typedef struct OneKey
{
	uint8		bytes[TB_KEY_BYTES];
	char		id[TB_KEY_ID_DIGITS + 1];
} OneKey;

/* The first is the present one; the others are for reading only. */
struct MasterKey
{
	int			count;
	OneKey		keys[TB_MAX_KEYS];
};

struct KeyCommand;

/* Where keys come from. */
typedef enum KeySource
{
	TB_KEY_NONE,				/* nowhere, or it is not clear from where */
	TB_KEY_FILE,
	TB_KEY_COMMAND
} KeySource;

extern KeySource tb_key_source(Refusal **refusal);
extern Refusal *tb_key_from_file(MasterKey **key);
extern Refusal *tb_key_start_command(struct KeyCommand *command);
extern Refusal *tb_key_from_command(struct KeyCommand *command, MasterKey **key);
extern int	tb_key_retention(void);
extern int	tb_key_timeout(void);
extern const OneKey *tb_key_find(const MasterKey *key, const char *id);

#endif							/* TOKENBILL_KEY_H */
