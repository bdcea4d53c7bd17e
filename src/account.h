#ifndef TOKENBILL_ACCOUNT_H
#define TOKENBILL_ACCOUNT_H

#include "chain.h"
#include "refusal.h"
#include "storage/itemptr.h"
#include "utils/array.h"

/* An account's row as it is while we hold its lock. */
typedef struct Account
{
	text	   *account;
	ItemPointerData ctid;
	Numeric		balance;
	Numeric		held;
	Numeric		credit_limit;
	int64		seq;
	TimestampTz updated_at;
	bool		has_hash;		/* not before the first line */
	uint8		hash[TB_HASH_BYTES];
	text	   *status;
	bool		sandbox;
	bool		tokens_only;
	text	   *overflow;
	text	   *currency;
	ArrayType  *limits;			/* its spend and rate limits, as limit_row.c
								 * has them; null: none */
	int32		credits;		/* how many credits are open */
	struct CreditList *open_credits;	/* these, once tb_load_credits() has
										 * read them */
} Account;

/*
 * A change of an account's row in one statement, which finds the row, asks
 * may_change() about it, and writes what that made of it: balance, seq, updated_at,
 * hash and limits, but not held.
 */
typedef struct AccountChange AccountChange;
struct AccountChange
{
	/*
	 * Sees the row in "account" and changes it there, or returns false to let
	 * it be.  It is not locked yet: should it turn out to have been changed
	 * by somebody else, may_change() is asked again about what they left.  So
	 * it must start afresh each time.  A statement that it runs reads what
	 * may be newer than the row: it may only read what nobody changes without
	 * rewriting the row, and must not fail because the two do not agree.
	 */
	bool		(*may_change) (AccountChange *change);
	Account		account;		/* .account is set by the caller */

	/* tb_change_account()'s own */
	MemoryContext context;
};

extern bool tb_change_account(AccountChange *change);
extern Refusal *tb_no_account(const text *account);
extern Refusal *tb_check_account(const text *account, Oid user);
extern bool tb_lock_account(const text *account_name, Account *account);
extern bool tb_read_account(const text *account_name, Account *account);
extern void tb_store_account(const Account *account);
extern bool tb_account_is_locked(const text *account_name);
extern Numeric tb_available(const Account *account);
extern Refusal *tb_may_be_charged(const Account *account);
extern Refusal *tb_may_be_credited(const Account *account);

#endif							/* TOKENBILL_ACCOUNT_H */
