#ifndef TOKENBILL_CREDIT_H
#define TOKENBILL_CREDIT_H

#include "account.h"

/* What the plain balance counts as where it stands in line with credits. */
#define TB_USUAL_PRIORITY 50

/* Keys of the lines that expire credits; those of holds begin otherwise. */
#define TB_CREDIT_EXPIRY_PREFIX TB_DERIVED_PREFIX "credit_expiry:"

/*
 * A credit's row, as it is while its account is locked.  One without a key stands
 * for the plain balance.
 */
typedef struct Credit
{
	text	   *key;
	ItemPointerData ctid;		/* where it was read; invalid once it is
								 * written */
	int64		seq;			/* of the line that granted it */
	Numeric		amount;
	Numeric		remaining;		/* with what is reserved */
	Numeric		reserved;		/* by open holds */
	Numeric		cost_basis;
	int32		priority;
	bool		promotional;
	bool		scoped;			/* good for some services only ... */
	int			nscope;
	text	  **scope;			/* ... these, or what a name before "*" begins */
	TimestampTz effective_at;
	TimestampTz expires_at;		/* DT_NOEND: never */
	text	   *status;			/* as it is stored */
	bool		expired;		/* by the line that is being stored */
	bool		changed;
} Credit;

typedef struct CreditList
{
	int			n;
	int			size;
	Credit	  **credits;
} CreditList;

/* Why a credit does not pay for a service. */
typedef enum CreditUse
{
	CREDIT_USABLE,
	CREDIT_EXPIRED,
	CREDIT_NOT_EFFECTIVE,
	CREDIT_OUT_OF_SCOPE
} CreditUse;

extern void tb_load_credits(Account *account, bool read_only);
extern Credit *tb_find_credit(Account *account, const text *key);
extern void tb_store_credits(Account *account);
extern void tb_count_credits(const Account *account, int32 more);
extern bool tb_credit_covers(const Credit *credit, const text *service);
extern CreditUse tb_credit_use(const Credit *credit, const text *service,
							   TimestampTz now);
extern Numeric tb_credit_free(const Credit *credit);
extern Numeric tb_unusable(const Account *account, const text *service);
extern Numeric tb_spendable(const Account *account, const text *service);

/* credit_expiry.c */
extern bool tb_credits_due(const Account *account);
extern uint64 tb_expire_credits_of(Account *account, int32 max);
extern void tb_settle_credits(Account *account);
extern bool tb_is_credit_expiry(const ChainedLine *line);

#endif							/* TOKENBILL_CREDIT_H */
