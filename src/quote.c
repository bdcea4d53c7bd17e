/*
 * quote.c
 *	  quote(): what would a charge take?
 */
#include "account.h"
#include "burn.h"
#include "check.h"
#include "clock.h"
#include "funcapi.h"
#include "limit.h"
#include "money.h"
#include "query.h"
#include "rating.h"
#include "tenant.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(tokenbill_quote);

#define QUOTE_COLUMNS 10

/*
 * quote(account text, service text, usage jsonb, metadata jsonb = null)
 *	-> setof (meter, quantity, unit_price, per, tier, amount, priced_as, cost, limits_hit,
 *			  burns)
 *		The same code as charge() prices with; changes nothing.
 */
Datum
tokenbill_quote(PG_FUNCTION_ARGS)
{
	text	   *account = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text	   *service = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	Jsonb	   *usage = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Session		session;
	Jsonb	   *metadata = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	Rating		rating;
	Datum		limits_hit;
	Jsonb	   *burns;
	bool		shows_cost;

	InitMaterializedSRF(fcinfo, 0);
	tb_raise(tb_check_text("account", account, TB_MAX_ACCOUNT));
	tb_raise(tb_check_text("service", service, TB_MAX_NAME));
	tb_raise(tb_check_metadata("metadata", metadata));

	tb_enter(fcinfo, &session);
	tb_raise(tb_check_account(account, session.userid));
	tb_raise(tb_rate(service, account, usage, tb_now(), true, &rating));
	limits_hit = tb_limits_hit(account, service, metadata, rating.amount,
							   tb_line_tokens(rating.usage, rating.rates));
	burns = tb_would_burn(account, service,
						  rating.unpriced != NULL ? tb_zero() : rating.amount);
	/* what we pay is no business of a customer's */
	shows_cost = tb_visible_to(cstring_to_text(""), session.userid);
	tb_leave(&session);

	for (int i = 0; i < rating.nitems; i++)
	{
		const RatedMeter *item = &rating.items[i];
		char	   *tier = tb_item_tier(&rating, item);
		Datum		values[QUOTE_COLUMNS];
		bool		nulls[QUOTE_COLUMNS] = {false};
		Numeric		amount;

		values[0] = PointerGetDatum(cstring_to_text_with_len(item->name,
															 item->name_len));
		values[1] = NumericGetDatum(item->quantity);
		nulls[2] = nulls[3] = nulls[6] = item->price == NULL;
		if (item->price != NULL)
		{
			values[2] = NumericGetDatum(item->rate->unit_price);
			values[3] = NumericGetDatum(item->price->per);
			values[6] = CStringGetTextDatum(item->meter->name);
		}
		if (tier != NULL)
			values[4] = CStringGetTextDatum(tier);
		nulls[4] = tier == NULL;
		amount = rating.unpriced != NULL ? tb_zero() : item->amount;
		values[5] = DirectFunctionCall1(numeric_trim_scale,
										NumericGetDatum(amount));
		nulls[7] = item->cost == NULL || !shows_cost;
		if (!nulls[7])
			values[7] = DirectFunctionCall1(numeric_trim_scale,
											NumericGetDatum(item->cost));
		values[8] = limits_hit;
		values[9] = PointerGetDatum(burns);
		nulls[9] = burns == NULL;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}
