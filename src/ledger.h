#ifndef TOKENBILL_LEDGER_H
#define TOKENBILL_LEDGER_H

#include "account.h"
#include "chain.h"
#include "limit.h"

/* The columns of tokenbill.ledger, in the order of tb_insert_plan()'s parameters. */
#define TB_LEDGER_COLUMNS 18

extern void tb_next_line(Account *account, ChainedLine *line);
extern bool tb_insert_line(const Account *account, const ChainedLine *line);
extern bool tb_post(Account *account, ChainedLine *line, LimitSet *limits);
extern bool tb_find_line(const text *account, const text *key,
						 ChainedLine *line);

#endif							/* TOKENBILL_LEDGER_H */
