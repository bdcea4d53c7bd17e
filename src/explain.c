/*
 * explain.c
 *	  explain_burn(): which credits would pay for an amount, and why the others
 *	  would not.
 *
 * It asks the same function that charges do, of the account as the calling query
 * sees it, and changes nothing.
 */
#include "burn.h"

#include "burn_order.h"
#include "check.h"
#include "clock.h"
#include "funcapi.h"
#include "money.h"
#include "query.h"
#include "tenant.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(tokenbill_explain_burn);

/* place, credit_key, amount, free, priority, category, expires_at, reason */
#define EXPLAIN_COLUMNS 8

typedef struct Explanation
{
	ReturnSetInfo *result;
	int32		place;
} Explanation;

static void
explain(const Explanation *e, const Credit *credit, Numeric amount,
		Numeric available, const char *reason)
{
	Datum		values[EXPLAIN_COLUMNS] = {0};
	bool		nulls[EXPLAIN_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	values[0] = Int32GetDatum(e->place);
	nulls[0] = e->place == 0;
	values[2] = NumericGetDatum(amount);
	nulls[2] = false;
	values[3] = NumericGetDatum(available);
	nulls[3] = available == NULL;
	values[7] = CStringGetTextDatum(reason);
	nulls[7] = false;
	if (credit != NULL)
	{
		values[1] = PointerGetDatum(credit->key);
		nulls[1] = credit->key == NULL;
		values[4] = Int32GetDatum(credit->priority);
		values[5] = CStringGetTextDatum(credit->promotional ? "promotional" : "paid");
		nulls[4] = nulls[5] = false;
		values[6] = TimestampTzGetDatum(credit->expires_at);
		nulls[6] = credit->expires_at == DT_NOEND;
	}
	tuplestore_putvalues(e->result->setResult, e->result->setDesc, values,
						 nulls);
}

/* Those that pay, or would if more were to be paid, in order. */
static void
explain_payers(Explanation *e, const Account *account, const text *service,
			   Numeric amount)
{
	Numeric		spendable = tb_spendable(account, service);
	Numeric		missing = tb_larger(tb_sub(amount, spendable), tb_zero());
	Numeric		left = amount;
	Credit	  **line;
	int			n;

	line = tb_payers(account, service, &n);
	for (int i = 0; i < n; i++)
	{
		Numeric		available = tb_credit_free(line[i]);
		Numeric		taken = tb_larger(tb_smaller(available, left), tb_zero());
		const char *reason = "burns";

		if (tb_compare(taken, tb_zero()) == 0)
			reason = tb_compare(available, tb_zero()) > 0 ? "not_needed" :
				line[i]->key == NULL ? "empty" : "reserved";
		e->place++;
		explain(e, line[i], taken, available, reason);
		left = tb_sub(left, taken);
	}

	left = tb_sub(left, missing);
	if (tb_compare(left, tb_zero()) > 0)
	{
		e->place++;
		explain(e, NULL, left, account->credit_limit, "credit_limit");
	}
	e->place = 0;
	if (tb_compare(missing, tb_zero()) > 0)
		explain(e, NULL, missing, NULL, "missing");
}

/* Those that do not pay for this service, or not now. */
static void
explain_others(Explanation *e, const Account *account, const text *service)
{
	static const char *const reasons[] = {
		[CREDIT_EXPIRED] = "expired",
		[CREDIT_NOT_EFFECTIVE] = "not_effective",
		[CREDIT_OUT_OF_SCOPE] = "out_of_scope"
	};
	const CreditList *list = account->open_credits;
	TimestampTz now = tb_now();

	for (int i = 0; list != NULL && i < list->n; i++)
	{
		const Credit *credit = list->credits[i];
		CreditUse	use = tb_credit_use(credit, service, now);

		if (use != CREDIT_USABLE)
			explain(e, credit, tb_zero(), tb_credit_free(credit), reasons[use]);
	}
}

/*
 * explain_burn(account text, amount numeric, service text = null)
 *	-> setof (place, credit_key, amount, free, priority, category, expires_at,
 *			  reason)
 */
Datum
tokenbill_explain_burn(PG_FUNCTION_ARGS)
{
	text	   *name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	Numeric		amount = PG_ARGISNULL(1) ? NULL : PG_GETARG_NUMERIC(1);
	text	   *service = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	Explanation e = {(ReturnSetInfo *) fcinfo->resultinfo, 0};
	Session		session;
	Account		account;

	InitMaterializedSRF(fcinfo, 0);
	tb_raise(tb_check_text("account", name, TB_MAX_ACCOUNT));
	tb_raise(tb_check_amount("amount", amount));
	tb_raise(tb_check_optional_text("service", service, TB_MAX_NAME));

	tb_enter(fcinfo, &session);
	if (!tb_visible_to(name, session.userid) ||
		!tb_read_account(name, &account))
		tb_raise(tb_no_account(name));
	tb_load_credits(&account, true);
	explain_payers(&e, &account, service, amount);
	explain_others(&e, &account, service);
	tb_leave(&session);
	return (Datum) 0;
}
