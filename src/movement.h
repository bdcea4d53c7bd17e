#ifndef TOKENBILL_MOVEMENT_H
#define TOKENBILL_MOVEMENT_H

#include "account.h"
#include "receipt.h"
#include "refusal.h"

/* What a movement changes about a hold, for limits; line.held says the amount. */
typedef struct Reserve
{
	bool		changes;
	text	   *service;		/* the hold's, as is metadata */
	Jsonb	   *metadata;
	Numeric		tokens;			/* reserved more, or less */
	int			opened;			/* 1: it is made, -1: it is closed */
} Reserve;

/*
 * A request that moves something on an account, and how it is to be judged.
 *
 * "line" is the ledger line it would post: what was asked is set before tb_move(),
 * the rest by judge().
 */
typedef struct Movement Movement;
struct Movement
{
	ChainedLine line;
	Numeric		asked_amount;	/* signed; null if none, or kept in
								 * line.request */
	const char *ref_argument;	/* what the argument behind line.ref is called */
	bool		wait;
	bool		needs_token;	/* of an account that is set to issued tokens
								 * only */
	bool		derives_service;	/* the line's service was not asked for by
									 * name */
	bool		derives_usage;	/* what the line keeps of the usage depends on
								 * its service */
	bool		any_request;	/* judge() found that it has been done already */
	bool		at_once;		/* judge() looks at the account only and
								 * leaves what is held, and nothing follows:
								 * the short way will do */
	bool		delivered;		/* the service has been: limits count it and
								 * do not refuse it */
	Reserve		reserve;
	const ChainedLine *refunded;	/* the charge, if this gives it back */
	Numeric		refunded_before;	/* how much of it had come back */
	struct LimitSet *limits;	/* once they are read: and what to count */
	Oid			user;

	/*
	 * With the account locked: refuse, or set line.amount, contra and
	 * whatever else the line keeps; line.held is what it was unless judge()
	 * changes it.
	 */
	Refusal    *(*judge) (Movement *movement, Account *account);

	/* After the line is posted: the rows beside the ledger; may be null. */
	void		(*follow) (Movement *movement, Account *account);
};

extern Refusal *tb_move(Movement *movement, Receipt *receipt);
extern Refusal *tb_insufficient(const Account *account, const text *service,
								Numeric required, Numeric available);
extern void tb_keep_in_request(ChainedLine *line, const char *name,
							   JsonbValue *value);
extern void tb_suspend(ChainedLine *line, Jsonb *unpriced);
extern void tb_sandbox_price(ChainedLine *line, Numeric price);
extern Numeric tb_sandbox_price_of(const ChainedLine *line);

#endif							/* TOKENBILL_MOVEMENT_H */
