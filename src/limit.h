#ifndef TOKENBILL_LIMIT_H
#define TOKENBILL_LIMIT_H

#include "movement.h"

/* The members of the type tokenbill.account_limit. */
#define TB_LIMIT_COLUMNS 18

typedef enum LimitWhat
{
	LIMIT_SPEND,
	LIMIT_REQUESTS,
	LIMIT_TOKENS,
	LIMIT_IN_FLIGHT
} LimitWhat;

/* A limit of the account that is locked, and its counter. */
typedef struct AccountLimit
{
	text	   *account;
	text	   *name;
	text	   *what_name;
	LimitWhat	what;
	Numeric		amount;
	text	   *every;			/* null: in flight */
	int64		period;			/* of a rolling window, in microseconds, or 0 */
	text	   *timezone;
	text	   *service;
	Jsonb	   *tag;
	bool		refuses;		/* it alerts otherwise */
	bool		has_window;		/* starts_at and ends_at are set */
	TimestampTz starts_at;
	TimestampTz ends_at;
	int64		tail_seq;
	bool		has_next;		/* next_at is set: some line is counted */
	TimestampTz next_at;
	Numeric		counted;
	Numeric		held;
	bool		alerted;		/* alerted_at is set */
	TimestampTz alerted_at;

	/* what the movement adds; null: nothing */
	Numeric		more_counted;
	Numeric		more_held;
	bool		alerts;			/* that is to be told when the line is posted */

	/* as it is stored */
	Datum		row;
	Datum		values[TB_LIMIT_COLUMNS];
	bool		nulls[TB_LIMIT_COLUMNS];
} AccountLimit;

/* The limits of an account, in the order of their names. */
typedef struct LimitSet
{
	int			nlimits;
	AccountLimit *limits;
} LimitSet;

/* limit.c */
extern Refusal *tb_judge_limits(Movement *movement, const Account *account);
extern void tb_count_limits(LimitSet *set, Account *account, const ChainedLine *line);
extern void tb_alert_limits(const LimitSet *set, const ChainedLine *line);
extern Datum tb_limits_hit(const text *account, const text *service,
						   Jsonb *metadata, Numeric price, Numeric tokens);

/* limit_row.c */
extern LimitSet *tb_read_limits(const Account *account);
extern void tb_write_limits(LimitSet *set, Account *account);

/* limit_window.c */
extern void tb_move_window(AccountLimit *limit, TimestampTz at);
extern bool tb_in_window(const AccountLimit *limit, int64 seq, TimestampTz created_at);
extern bool tb_window_frees(const AccountLimit *limit, Numeric wanted,
							TimestampTz *resets_at);
extern Numeric tb_line_tokens(Jsonb *usage, Jsonb *rates);

#endif							/* TOKENBILL_LIMIT_H */
