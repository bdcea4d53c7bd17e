#ifndef TOKENBILL_BURN_H
#define TOKENBILL_BURN_H

#include "hold.h"

/* What one credit, or without one the plain balance, pays of an amount. */
typedef struct Part
{
	Credit	   *credit;
	Numeric		amount;
} Part;

typedef struct Parts
{
	int			n;
	int			size;
	Part	   *parts;
} Parts;

extern Credit **tb_payers(const Account *account, const text *service, int *n);
extern void tb_burn(ChainedLine *line, Account *account, Numeric price);
extern void tb_reserve(Account *account, Hold *hold, const text *service,
					   Numeric more);
extern Numeric tb_hold_usable(Account *account, const Hold *hold,
							  const text *service);
extern void tb_burn_hold(ChainedLine *line, Account *account, Hold *hold,
						 Numeric price, bool final);
extern void tb_free_hold(Account *account, Hold *hold);
extern void tb_return(ChainedLine *line, Account *account, int64 charge_seq,
					  Numeric before, Numeric amount);
extern Jsonb *tb_would_burn(const text *account_name, const text *service,
							Numeric amount);

#endif							/* TOKENBILL_BURN_H */
