#ifndef TOKENBILL_SECRET_H
#define TOKENBILL_SECRET_H

#include "refusal.h"

/*
 * How a secret gets from its row into a request, in the worker:
 *
 *	  in none:						tb_hold_want()		the master key, sooner or later
 *	  in a transaction, with SPI:	tb_secret_load()	the row, still encrypted
 *	  in none:						tb_secret_open()	with tb_hold_key(), for each at hand
 *									... use ...
 *									tb_secret_wipe()
 *									tb_hold_release()
 *
 * In this order: the key that a row wants is then among those that were fetched
 * before it was read, for the old one is taken away after all rows; or it is a newer
 * one, for which they are fetched once more.  A session has
 * tb_key_read(), which waits, and tb_key_wipe() in place of tb_hold_want() and
 * tb_hold_release().
 *
 * What is in plain text lies in memory that is locked where the kernel allows it
 * and kept out of core dumps.  It is wiped by the functions named so, and on an
 * error, or if they are not called, when the memory context that was current at its
 * making is reset.  Each function that can fail returns why, a Refusal in the
 * current memory context whose message holds nothing secret, or NULL.
 */

/* In plain text: length bytes, and a NUL behind them that is not counted. */
typedef struct SecretText
{
	char	   *data;
	size_t		length;
} SecretText;

/* As it is stored. */
typedef struct SealedSecret SealedSecret;

/* The master key, and those that were before it. */
typedef struct MasterKey MasterKey;

struct HttpRequest;

extern void tb_key_init(void);
extern Refusal *tb_key_read(MasterKey **key);
extern void tb_key_wipe(MasterKey *key);

extern Refusal *tb_secret_load(const char *name, SealedSecret **sealed);
extern Refusal *tb_secret_open(const SealedSecret *sealed, const MasterKey *key,
							   SecretText *secret);
extern void tb_secret_wipe(SecretText *secret);

/* The other way: what the worker was given, to be stored. */
extern Refusal *tb_secret_seal(const char *name, int64 version, const char *value,
							   const MasterKey *key, SealedSecret **sealed);
extern void tb_secret_push(JsonbParseState **state, const char *name,
						   const SealedSecret *sealed);

/* auth: 'aliyun', 'volcengine' or 'hmac_sha256'; adds headers to the request. */
extern Refusal *tb_sign(const char *auth, const SecretText *secret,
						struct HttpRequest *request);

#endif							/* TOKENBILL_SECRET_H */
