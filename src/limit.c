/*
 * limit.c
 *	  Spend limits and rate limits: judged and counted with the movement.
 *
 * What a movement adds to a limit that it falls under:
 *
 *				  spend			  requests	  tokens			in_flight
 *	  charge	  its price		  1			  what it used
 *	  hold		  (its amount)	  1			  (its estimate)	(1)
 *	  extend	  (more)
 *	  capture	  its price,				  what it used,
 *				  (-what it frees)			  (-its estimate)	(-1 if final)
 *	  release	  (-what was left)			  (-its estimate)	(-1)
 *	  expiry	  its price, (-)			  (-)				(-1)
 *	  refund	  -its amount, if its charge is in the window
 *
 * What stands in brackets is held: it belongs to no window, for the capture may
 * come in any.  A limit is kept when counted + held is not more than its amount.
 *
 * Charges, holds and extensions are refused (PT429).  A capture is not, nor a
 * charge that may go into debt, nor what gives something back: there the service
 * has been delivered.  They are counted, and what comes next is refused.
 *
 * A refused movement has written nothing, a replayed one is found out before
 * anything is counted, and a rolled-back one takes its counts with it.
 */
#include "limit.h"

#include "catalog/pg_type_d.h"
#include "check.h"
#include "clock.h"
#include "commands/async.h"
#include "money.h"
#include "query.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"

#define ALERT_CHANNEL "tokenbill_alert"

static bool
service_matches(const AccountLimit *limit, const text *service)
{
	int			len;

	if (limit->service == NULL)
		return true;
	if (service == NULL)
		return false;
	len = VARSIZE_ANY_EXHDR(limit->service);
	if (VARDATA_ANY(limit->service)[len - 1] == '*')
		return (int) VARSIZE_ANY_EXHDR(service) >= len - 1 &&
			memcmp(VARDATA_ANY(service), VARDATA_ANY(limit->service), len - 1) == 0;
	return tb_same_text(limit->service, service);
}

/* Whether something of this service and these tags falls under a limit. */
static bool
matches(const AccountLimit *limit, const text *service, Jsonb *metadata)
{
	JsonbIterator *in;
	JsonbIterator *wanted;

	if (!service_matches(limit, service))
		return false;
	if (limit->tag == NULL)
		return true;
	if (metadata == NULL)
		return false;
	in = JsonbIteratorInit(&metadata->root);
	wanted = JsonbIteratorInit(&limit->tag->root);
	return JsonbDeepContains(&in, &wanted);
}

/*
 * What a line costs; the SQL function limit_lines() says the same.
 */
static Numeric
spent_by(const ChainedLine *line)
{
	bool		sandbox = tb_text_is(line->contra, "sandbox");

	if (!tb_text_is(line->kind, "charge") && !tb_text_is(line->kind, "capture") &&
		!(tb_text_is(line->kind, "expiry") &&
		  (sandbox || tb_text_is(line->contra, "revenue"))))
		return NULL;
	return sandbox ? tb_sandbox_price_of(line) : tb_negate(line->amount);
}

static Numeric
one(void)
{
	return int64_to_numeric(1);
}

/* The metadata a hold was made with; null for none. */
static Jsonb *
hold_metadata(const text *account, const text *hold_key)
{
	static Statement query = {
		.sql = "SELECT h.metadata FROM tokenbill.hold h WHERE h.account OPERATOR(pg_catalog.=) $1"
		" AND h.hold_key OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID}
	};
	Datum		values[2];
	bool		nulls[2];

	values[0] = PointerGetDatum(account);
	values[1] = PointerGetDatum(hold_key);
	tb_run(&query, values, NULL);
	return tb_row(values, nulls) && !nulls[0] ? DatumGetJsonbPCopy(values[0]) : NULL;
}

/*
 * What a refund gives back: nothing of a window that its charge is not in, and no
 * more than the charge counts, which may have been priced anew since.
 *
 * The window is not moved first: a line must be taken back by what it counts when
 * the tail passes it, and a refund changes that.
 */
static void
weigh_refund(AccountLimit *limit, const Movement *movement)
{
	const ChainedLine *charge = movement->refunded;
	Jsonb	   *metadata = charge->metadata;

	if (limit->what != LIMIT_SPEND)
		return;
	if (limit->tag != NULL && metadata == NULL && charge->ref != NULL &&
		!tb_text_is(charge->kind, "charge"))
		metadata = hold_metadata(limit->account, charge->ref);
	if (!matches(limit, charge->service, metadata))
		return;
	if (tb_in_window(limit, charge->seq, charge->created_at))
	{
		const ChainedLine *line = &movement->line;
		Numeric		back = tb_text_is(line->contra, "sandbox") ?
			tb_sandbox_price_of(line) : line->amount;
		Numeric		price = spent_by(charge);
		Numeric		counts;
		Numeric		will_count;

		if (back == NULL || price == NULL)
			return;
		counts = tb_larger(tb_sub(price, movement->refunded_before), tb_zero());
		will_count = tb_larger(tb_sub(tb_sub(price, movement->refunded_before), back),
							   tb_zero());
		limit->more_counted = tb_sub(will_count, counts);
	}
}

/*
 * What a movement adds to a limit: more_counted and more_held, null for nothing.
 */
static void
weigh(AccountLimit *limit, const Movement *movement, const Account *account)
{
	const ChainedLine *line = &movement->line;
	const Reserve *reserve = &movement->reserve;
	bool		of_hold = reserve->changes;
	Jsonb	   *metadata = line->metadata != NULL ? line->metadata : reserve->metadata;
	bool		opens = tb_text_is(line->kind, "charge") || tb_text_is(line->kind, "hold");

	if (matches(limit, line->service, metadata))
	{
		if (limit->what == LIMIT_SPEND)
			limit->more_counted = spent_by(line);
		else if (limit->what == LIMIT_REQUESTS && opens)
			limit->more_counted = one();
		else if (limit->what == LIMIT_TOKENS &&
				 (tb_text_is(line->kind, "charge") || tb_text_is(line->kind, "capture")))
			limit->more_counted = tb_line_tokens(line->usage, line->rates);
	}
	if (of_hold && matches(limit, reserve->service, reserve->metadata))
	{
		if (limit->what == LIMIT_SPEND)
			limit->more_held = tb_sub(line->held, account->held);
		else if (limit->what == LIMIT_TOKENS)
			limit->more_held = reserve->tokens;
		else if (limit->what == LIMIT_IN_FLIGHT && reserve->opened != 0)
			limit->more_held = reserve->opened > 0 ? one() : tb_negate(one());
	}
	if (limit->more_counted != NULL &&
		tb_compare(limit->more_counted, tb_zero()) == 0)
		limit->more_counted = NULL;
	if (limit->more_held != NULL && tb_compare(limit->more_held, tb_zero()) == 0)
		limit->more_held = NULL;
}

static Numeric
more_of(const AccountLimit *limit)
{
	Numeric		more = limit->more_counted ? limit->more_counted : tb_zero();

	return limit->more_held ? tb_add(more, limit->more_held) : more;
}

static Numeric
used_of(const AccountLimit *limit)
{
	return tb_add(limit->counted, limit->held);
}

static char *
time_json(bool known, TimestampTz at)
{
	char		text_of[MAXDATELEN + 1];

	if (!known)
		return NULL;
	JsonEncodeDateTime(text_of, TimestampTzGetDatum(at), TIMESTAMPTZOID, NULL);
	return pstrdup(text_of);
}

/* What a limit is about, in a word for programs. */
static const char *
scope_of(const AccountLimit *limit)
{
	if (limit->service != NULL)
		return limit->tag != NULL ? "service and tag" : "service";
	return limit->tag != NULL ? "tag" : "account";
}

static Refusal *
limit_reached(const AccountLimit *limit, bool resets, TimestampTz resets_at)
{
	const char *hint = "Wait until resets_at, or raise the limit with tokenbill.set_spend_limit().";
	bool		ends = limit->has_window && limit->period == 0;

	if (limit->what == LIMIT_IN_FLIGHT)
		hint = "Capture or release a hold first, or raise the limit with tokenbill.set_rate_limit().";
	else if (!resets)
		hint = "It will not fit by waiting alone: ask for less, capture or release holds, or raise the limit.";
	else if (limit->what != LIMIT_SPEND)
		hint = "Wait until resets_at, or raise the limit with tokenbill.set_rate_limit().";

	return tb_refusal(TB_LIMITED,
					  tb_json("account:t name:t what:t scope:s service:t tag:j every:t"
							  " limit:n spent:n held:n required:n resets_at:s",
							  limit->account, limit->name, limit->what_name,
							  scope_of(limit), limit->service,
							  tb_json_document(limit->tag), limit->every,
							  limit->amount, limit->counted, limit->held,
							  more_of(limit),
							  time_json(resets || ends, resets ? resets_at : limit->ends_at)),
					  hint, "%s limit of account \"%s\" is reached",
					  limit->what == LIMIT_SPEND ? "spend" : "rate",
					  text_to_cstring(limit->account));
}

/* Whether a movement would go over a limit that refuses it. */
static bool
goes_over(const AccountLimit *limit)
{
	Numeric		more = more_of(limit);

	return limit->refuses && tb_compare(more, tb_zero()) > 0 &&
		tb_compare(tb_add(used_of(limit), more), limit->amount) > 0;
}

/*
 * The refusal by the limit that lasts the longest: whoever waits for it has
 * waited for the others.
 */
static Refusal *
refuse_by(LimitSet *set)
{
	AccountLimit *longest = NULL;
	bool		resets = false;
	TimestampTz resets_at = 0;

	for (int i = 0; i < set->nlimits; i++)
	{
		AccountLimit *limit = &set->limits[i];
		bool		this_resets;
		TimestampTz this_at = 0;

		if (!goes_over(limit))
			continue;
		this_resets = tb_window_frees(limit,
									  tb_sub(tb_add(used_of(limit), more_of(limit)),
											 limit->amount),
									  &this_at);
		if (longest == NULL || (resets && (!this_resets || this_at > resets_at)))
		{
			longest = limit;
			resets = this_resets;
			resets_at = this_at;
		}
	}
	return longest ? limit_reached(longest, resets, resets_at) : NULL;
}

/*
 * tb_judge_limits
 *		Does a movement that has been judged otherwise keep every limit of its
 *		account?  Remembers in it what is to be counted.  Needs SPI.
 */
Refusal *
tb_judge_limits(Movement *movement, const Account *account)
{
	const ChainedLine *line = &movement->line;
	TimestampTz at = Max(line->created_at, account->updated_at);
	bool		may_refuse = !movement->delivered &&
		(tb_text_is(line->kind, "charge") || tb_text_is(line->kind, "hold") ||
		 tb_text_is(line->kind, "extend"));
	LimitSet   *set;

	if (tb_text_is(line->kind, "recharge") || tb_text_is(line->kind, "grant"))
		return NULL;

	set = tb_read_limits(account);
	for (int i = 0; i < set->nlimits; i++)
	{
		AccountLimit *limit = &set->limits[i];

		if (movement->refunded != NULL)
			weigh_refund(limit, movement);
		else
		{
			weigh(limit, movement, account);
			if (limit->more_counted != NULL || limit->more_held != NULL)
				tb_move_window(limit, at);
		}
	}
	movement->limits = set;
	return may_refuse ? refuse_by(set) : NULL;
}

/*
 * Whether a limit has to alert: its amount is reached, and it has not alerted in
 * this window.  What has no window alerts each time it is reached.
 */
static bool
has_to_alert(const AccountLimit *limit, bool was_reached, TimestampTz at)
{
	if (limit->refuses || tb_compare(used_of(limit), limit->amount) < 0)
		return false;
	if (limit->every == NULL)
		return !was_reached;
	if (!limit->alerted)
		return true;
	if (limit->period > 0)
		return at >= limit->alerted_at + limit->period;
	return limit->alerted_at < limit->starts_at;
}

/*
 * tb_count_limits
 *		Count a line that tb_next_line() has made, in the account as that has.
 */
void
tb_count_limits(LimitSet *set, Account *account, const ChainedLine *line)
{
	bool		changed = false;

	for (int i = 0; i < set->nlimits; i++)
	{
		AccountLimit *limit = &set->limits[i];
		bool		was_reached;

		if (limit->more_counted == NULL && limit->more_held == NULL)
			continue;
		was_reached = tb_compare(used_of(limit), limit->amount) >= 0;
		if (limit->more_counted != NULL)
		{
			limit->counted = tb_add(limit->counted, limit->more_counted);
			if (limit->period > 0 && !limit->has_next)
			{
				limit->has_next = true;
				limit->next_at = line->created_at;
				limit->tail_seq = line->seq - 1;
			}
		}
		if (limit->more_held != NULL)
			limit->held = tb_add(limit->held, limit->more_held);
		limit->alerts = has_to_alert(limit, was_reached, line->created_at);
		if (limit->alerts)
		{
			limit->alerted = true;
			limit->alerted_at = line->created_at;
		}
		changed = true;
	}
	if (changed)
		tb_write_limits(set, account);
}

/*
 * tb_alert_limits
 *		Tell of the limits that a line has reached, now that it is posted.
 */
void
tb_alert_limits(const LimitSet *set, const ChainedLine *line)
{
	for (int i = 0; i < set->nlimits; i++)
	{
		const AccountLimit *limit = &set->limits[i];

		if (limit->alerts)
			Async_Notify(ALERT_CHANNEL,
						 tb_json("account:t name:t what:t scope:s service:t tag:j every:t"
								 " limit:n spent:n held:n at:s",
								 limit->account, limit->name, limit->what_name,
								 scope_of(limit), limit->service,
								 tb_json_document(limit->tag), limit->every,
								 limit->amount, limit->counted, limit->held,
								 time_json(true, line->created_at)));
	}
}

/*
 * tb_limits_hit
 *		The names of the limits that would refuse a charge, as a text[], none if it is
 *		empty.  Changes nothing and locks nothing.  Needs SPI.
 */
Datum
tb_limits_hit(const text *account, const text *service, Jsonb *metadata,
			  Numeric price, Numeric tokens)
{
	TimestampTz now = tb_now();
	int			nnames = 0;
	Account		row;
	LimitSet   *set;
	Datum	   *names;

	if (!tb_read_account(account, &row))
		return PointerGetDatum(construct_empty_array(TEXTOID));
	set = tb_read_limits(&row);
	names = palloc(sizeof(Datum) * Max(set->nlimits, 1));
	for (int i = 0; i < set->nlimits; i++)
	{
		AccountLimit *limit = &set->limits[i];

		if (!matches(limit, service, metadata))
			continue;
		if (limit->what == LIMIT_SPEND)
			limit->more_counted = price;
		else if (limit->what == LIMIT_REQUESTS)
			limit->more_counted = one();
		else if (limit->what == LIMIT_TOKENS)
			limit->more_counted = tokens;
		tb_move_window(limit, now);
		if (goes_over(limit))
			names[nnames++] = PointerGetDatum(limit->name);
	}
	return PointerGetDatum(construct_array(names, nnames, TEXTOID, -1, false,
										   TYPALIGN_INT));
}
