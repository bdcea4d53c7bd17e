/*
 * tokenbill.h
 *	  What every file of the extension needs.
 *
 * How a request goes through the code, in one direction:
 *
 *	  charge.c, hold.c, credit.c, order.c		SQL functions: arguments in
 *	    -> check.c, card.c						are they well formed?
 *	    -> usage.c, usage_*.c					what did the call use, in meters?
 *	    -> rating.c, price.c					what does the usage cost?
 *	    -> movement.c							the one way a line is posted:
 *	         -> idempotency.c					  has this key been used?
 *	         -> account.c						  lock the account
 *	         -> ledger.c, month.c, chain.c		  write the line
 *	    -> receipt.c							answer out
 *
 * A request that cannot be granted comes back as a Refusal, a value; the SQL
 * function raises it, or, in a batch, returns it.  What is thrown with ereport
 * is either that, or something nobody could have asked for.
 */
#ifndef TOKENBILL_H
#define TOKENBILL_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "compat.h"

/* Largest sizes of arguments, in bytes; SQL and documentation say the same. */
#define TB_MAX_ACCOUNT	128
#define TB_MAX_NAME		255
#define TB_MAX_METADATA 8192
#define TB_MAX_METER	64

/* Keys that tokenbill derives itself; users' keys must not begin like it. */
#define TB_DERIVED_PREFIX "tokenbill:"

/* Keys made by issue_token(). */
#define TB_TOKEN_PREFIX "tbt_"

#endif							/* TOKENBILL_H */
