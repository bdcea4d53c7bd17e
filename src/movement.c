/*
 * movement.c
 *	  The one way a line gets into the ledger.
 *
 *	  claim the key -> open the month -> lock the account -> judge -> post
 *	  -> rows beside it
 *
 * A charge that looks at nothing but the account, its credits and its limits has a short
 * way through the middle of it: the statement that rewrites the account finds it, has it
 * judged and locks it, which spares one statement.  Whenever that does not get there,
 * the long way is taken from its beginning, and is what decides.
 *
 * Whatever stands in the way, a request that has been granted before is replayed
 * and not refused: so before a refusal is returned, the key is looked up.  (On the
 * common path it is not: the insertion finds out.)
 *
 * Races by name:
 * - same key twice at once: the second waits at the account's lock, then its
 *   insertion meets the first's line and it replays; if the first was rolled back
 *   it does not, and the second is carried out.
 * - two charges on the last cent: the second is judged after the first committed;
 *   on the short way it has been judged before, and is again.
 * - credits that change under a charge on the short way: it reads them before it has
 *   the account locked, see may_change(); so it does the lines that have left a rolling
 *   window.
 * - capture against expiry: both lock the account; the second finds the hold's
 *   status changed and is refused.
 */
#include "movement.h"

#include "check.h"
#include "clock.h"
#include "credit.h"
#include "expiry.h"
#include "idempotency.h"
#include "ledger.h"
#include "limit.h"
#include "money.h"
#include "month.h"
#include "query.h"
#include "rating.h"
#include "tenant.h"
#include "token.h"
#include "utils/builtins.h"

/*
 * The key has been used: the first result again, or the reason why not.
 */
static Refusal *
replay(Movement *movement, const Account *account, const ChainedLine *was,
	   Receipt *receipt)
{
	ChainedLine now = movement->line;

	receipt->line = *was;
	receipt->currency = account->currency;
	receipt->replayed = true;

	if (movement->any_request)
		return NULL;

	/* an issued token is good for one call, not for one result */
	if (tb_is_token(was->idempotency_key))
		return tb_token_used(was->account, was->idempotency_key, receipt);

	now.amount = movement->asked_amount;
	if (movement->derives_service)
		now.service = was->service;
	if (movement->derives_usage && now.usage != NULL)
	{
		Refusal    *refusal = tb_keep_usage(was->service, was->account,
											now.usage, &now.usage);

		if (refusal != NULL)
			return refusal;
	}
	return tb_same_request(was, &now, movement->ref_argument);
}

/*
 * Judge a movement: the issued token first, the account's limits last.
 */
static Refusal *
judge(Movement *movement, Account *account)
{
	Refusal    *refusal;

	movement->limits = NULL;
	movement->line.created_at = tb_now();
	movement->line.held = account->held;
	if (tb_is_token(movement->line.idempotency_key))
	{
		refusal = tb_judge_token(account->account,
								 movement->line.idempotency_key);
		if (refusal != NULL)
			return refusal;
	}
	else if (movement->needs_token && account->tokens_only)
		return tb_refusal(TB_CONFLICT,
						  tb_json("account:t argument:s", account->account,
								  "idempotency_key"),
						  "Get a key from tokenbill.issue_token() first.",
						  "account \"%s\" accepts issued tokens only",
						  text_to_cstring(account->account));

	refusal = movement->judge(movement, account);
	if (refusal != NULL)
		return refusal;
	if (!tb_balance_fits(tb_add(account->balance, movement->line.amount)) ||
		!tb_balance_fits(movement->line.held))
		return tb_refusal(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  tb_json("account:t balance:n amount:n",
								  account->account, account->balance,
								  movement->line.amount),
						  "Balances are less than 10^18, up or down.",
						  "balance of account \"%s\" would be out of range",
						  text_to_cstring(account->account));
	return likely(account->limits == NULL) ? NULL : tb_judge_limits(movement, account);
}

/* A change of the account by a movement, the short way. */
typedef struct ChangeByMovement
{
	AccountChange change;		/* first, so that one can be taken for the
								 * other */
	Movement   *movement;
	Jsonb	   *request;		/* as it was asked, before judge() adds to it */
	Account		before;
} ChangeByMovement;

/*
 * Judge the movement by the account's row, and by its open credits and the lines that
 * have left a rolling window, which statements of their own read.  These are executed
 * within the one that rewrites the account, in snapshots of their own, which are newer.
 *
 * Race, credits that change under a charge: whoever changes credits has rewritten their
 * account's row in the same transaction (credit.c).  So when ours is written it is still
 * the newest, and then nobody has committed a change of the credits since it was made,
 * and what was read here, later than that, belongs to it.  Or it is not, and then
 * whatever was found here counts for nothing: the executor waits for who has changed it,
 * locks the newest row, and asks again about that (EvalPlanQual), and the credits are
 * read again, in a snapshot that is newer than the lock.  In REPEATABLE READ and
 * SERIALIZABLE there is one snapshot for both, and a row that is not the newest is an
 * error, 40001.
 *
 * A row and credits that do not belong together can also make this say no, and then
 * the long way decides, as it does when a credit has to expire first.
 */
static bool
may_change(AccountChange *change)
{
	ChangeByMovement *mine = (ChangeByMovement *) change;
	Account    *account = &change->account;
	bool		credited = account->credits > 0;
	bool		agreed;

	mine->before = *account;
	mine->movement->line.request = mine->request;
	if (unlikely(credited))
	{
		tb_nest();
		tb_load_credits(account, false);
	}
	agreed = !tb_credits_due(account) && judge(mine->movement, account) == NULL;
	if (unlikely(credited))
		tb_unnest();
	if (agreed)
	{
		tb_next_line(account, &mine->movement->line);
		if (mine->movement->limits != NULL)
			tb_count_limits(mine->movement->limits, account, &mine->movement->line);
	}
	return agreed;
}

/*
 * Put an account back that was changed before its line was found to be no new one.
 * We have it locked, so nobody has seen the change.  Its credits have been changed in
 * memory only.
 */
static void
put_back(const text *name, Account *before)
{
	Account		now;

	(void) tb_lock_account(name, &now);
	before->ctid = now.ctid;
	tb_store_account(before);
}

static void
answer(const Movement *movement, const Account *account, Receipt *receipt)
{
	receipt->line = movement->line;
	receipt->currency = account->currency;
	receipt->replayed = false;
}

/*
 * The short way: judge and change the account in one statement, then insert the line.
 * False, and nothing changed, if it turns out not to be so simple: there is no account, a
 * credit of it has to expire, it is refused, or the key has been used.  The long way
 * finds out.
 */
static bool
move_at_once(Movement *movement, Receipt *receipt)
{
	ChangeByMovement mine;
	Account    *account = &mine.change.account;

	mine.movement = movement;
	mine.request = movement->line.request;
	mine.change.may_change = may_change;
	account->account = movement->line.account;
	if (!tb_change_account(&mine.change))
		return false;
	if (unlikely(!tb_insert_line(account, &movement->line)))
	{
		put_back(movement->line.account, &mine.before);
		return false;
	}
	if (movement->limits != NULL)
		tb_alert_limits(movement->limits, &movement->line);
	if (account->open_credits != NULL)
		tb_settle_credits(account);
	answer(movement, account, receipt);
	return true;
}

/*
 * tb_move
 *		Carry out a movement, or replay it, or say why not.  Needs SPI.
 *
 * Locks the account until the transaction ends.  When there is too little to
 * spend, or a limit is reached, the account's holds whose time has run out are
 * expired first.
 */
Refusal *
tb_move(Movement *movement, Receipt *receipt)
{
	ChainedLine *line = &movement->line;
	text	   *name = line->account;
	Jsonb	   *request = line->request;
	bool		made_room = false;
	Account		account;
	ChainedLine was;
	Refusal    *refusal;

	if (!tb_visible_to(name, movement->user))
		return tb_no_account(name);
	refusal = tb_claim_key(name, line->idempotency_key, movement->wait);
	if (refusal != NULL)
		return refusal;

	tb_open_month(tb_now());
	if (movement->at_once && !tb_is_token(line->idempotency_key) &&
		move_at_once(movement, receipt))
		return NULL;
	for (;;)
	{
		/* judge() may have kept something there */
		line->request = request;
		if (!tb_lock_account(name, &account))
			return tb_no_account(name);
		if (unlikely(account.credits > 0))
		{
			tb_load_credits(&account, false);
			(void) tb_expire_credits_of(&account, PG_INT32_MAX);
		}
		refusal = judge(movement, &account);
		if (likely(refusal == NULL))
			break;
		if (tb_find_line(name, line->idempotency_key, &was))
			return replay(movement, &account, &was, receipt);
		if ((refusal->sqlstate != TB_INSUFFICIENT &&
			 refusal->sqlstate != TB_LIMITED) || made_room ||
			tb_expire_due(name) == 0)
			return refusal;
		made_room = true;
	}

	if (unlikely(!tb_post(&account, line, movement->limits)))
	{
		if (!tb_find_line(name, line->idempotency_key, &was))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("the ledger line of an idempotency key cannot be seen"),
					 errhint("Try the transaction again.")));
		return replay(movement, &account, &was, receipt);
	}
	if (movement->follow != NULL)
		movement->follow(movement, &account);
	if (movement->limits != NULL)
		tb_alert_limits(movement->limits, line);
	if (unlikely(account.open_credits != NULL))
		tb_settle_credits(&account);
	if (tb_is_token(line->idempotency_key))
		tb_use_token(name, line->idempotency_key);

	answer(movement, &account, receipt);
	return NULL;
}

/*
 * tb_insufficient
 *		The refusal for too little to spend (PT402).  Where credits that do not pay
 *		for the service are among what the account has, it says how much they are.
 */
Refusal *
tb_insufficient(const Account *account, const text *service, Numeric required,
				Numeric available)
{
	char	   *detail;
	const char *hint = "Recharge the account, or raise its credit limit.";

	if (account->open_credits == NULL)
		detail = tb_json("account:t required:n available:n shortfall:n",
						 account->account, required, available,
						 tb_sub(required, available));
	else
	{
		detail = tb_json("account:t service:t required:n available:n shortfall:n unusable:n",
						 account->account, service, required, available,
						 tb_sub(required, available),
						 tb_unusable(account, service));
		hint = "Recharge the account, or raise its credit limit; tokenbill.explain_burn() shows which credits do not pay for the service.";
	}
	return tb_refusal(TB_INSUFFICIENT, detail, hint,
					  "insufficient balance on account \"%s\"",
					  text_to_cstring(account->account));
}

/*
 * tb_keep_in_request
 *		Have the line keep one more value with its request.  Whether it is compared
 *		when the request comes again, its name says: see idempotency.c.
 */
void
tb_keep_in_request(ChainedLine *line, const char *name, JsonbValue *value)
{
	JsonbParseState *state = NULL;
	JsonbValue	v;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (line->request != NULL)
	{
		JsonbIterator *it = JsonbIteratorInit(&line->request->root);
		JsonbIteratorToken token;

		(void) JsonbIteratorNext(&it, &v, true);	/* WJB_BEGIN_OBJECT */
		while ((token = JsonbIteratorNext(&it, &v, true)) == WJB_KEY ||
			   token == WJB_VALUE)
			pushJsonbValue(&state, token, &v);
	}
	v.type = jbvString;
	v.val.string.val = unconstify(char *, name);
	v.val.string.len = strlen(name);
	pushJsonbValue(&state, WJB_KEY, &v);
	pushJsonbValue(&state, WJB_VALUE, value);
	line->request = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * tb_suspend
 *		Turn a line into one that waits for its price: it keeps what has none.
 */
void
tb_suspend(ChainedLine *line, Jsonb *unpriced)
{
	JsonbValue	v;

	v.type = jbvBinary;
	v.val.binary.data = &unpriced->root;
	v.val.binary.len = VARSIZE(unpriced) - VARHDRSZ;
	tb_keep_in_request(line, "unpriced", &v);
	line->amount = tb_zero();
	line->contra = cstring_to_text("suspense");
}

/*
 * tb_sandbox_price
 *		Turn a line into a sandbox account's: it keeps the price and pays nothing.
 */
void
tb_sandbox_price(ChainedLine *line, Numeric price)
{
	JsonbValue	v;

	v.type = jbvNumeric;
	v.val.numeric = price;
	tb_keep_in_request(line, "price", &v);
	line->amount = tb_zero();
	line->contra = cstring_to_text("sandbox");
}

/*
 * tb_sandbox_price_of
 *		What tb_sandbox_price() has kept; null if it is no sandbox account's line.
 */
Numeric
tb_sandbox_price_of(const ChainedLine *line)
{
	JsonbValue *price = line->request == NULL ? NULL :
		getKeyJsonValueFromContainer(&line->request->root, "price", strlen("price"),
									 NULL);

	return price != NULL && price->type == jbvNumeric ? price->val.numeric : NULL;
}
