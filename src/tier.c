/*
 * tier.c
 *	  What a count costs at a price: modes and their brackets, exactly.
 *
 *	  flat		quantity * unit_price / per
 *	  package	ceil(quantity / per) * unit_price
 *	  graduated the part of the quantity in each bracket at the bracket's price
 *	  volume	all of the quantity at the price of the bracket that it reaches
 *	  cliff		all of it at the price of the bracket that the input tokens of the
 *				call reach, as providers price long contexts
 *
 * A bracket is reached by a count greater than its "above".  Every rate is a
 * decimal that ends (put_price() sees to that), so that nothing is rounded.
 */
#include "tier.h"

#include "lib/stringinfo.h"
#include "money.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/*
 * tb_price_mode
 *		The mode that is called so in tokenbill.price.
 */
PriceMode
tb_price_mode(const char *word)
{
	if (strcmp(word, "flat") == 0)
		return PRICE_FLAT;
	if (strcmp(word, "graduated") == 0)
		return PRICE_GRADUATED;
	if (strcmp(word, "volume") == 0)
		return PRICE_VOLUME;
	if (strcmp(word, "cliff") == 0)
		return PRICE_CLIFF;
	if (strcmp(word, "package") == 0)
		return PRICE_PACKAGE;
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("tokenbill.price has a row of an unknown mode")));
}

/*
 * tb_make_rate
 *		Fill in a rate, palloc'd in the current memory context.
 *
 * The quotient ends within 30 decimals; dividing at that scale therefore rounds
 * nothing.
 */
void
tb_make_rate(Rate *rate, Numeric unit_price, Numeric per)
{
	Datum		value;

	value = DirectFunctionCall2(numeric_round, NumericGetDatum(unit_price),
								Int32GetDatum(40));
	value = DirectFunctionCall2(numeric_div, value, NumericGetDatum(per));
	value = DirectFunctionCall2(numeric_round, value, Int32GetDatum(30));
	rate->unit_price = DatumGetNumericCopy(NumericGetDatum(unit_price));
	rate->value = DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, value));
	rate->written = psprintf("%s/%s", tb_print(unit_price), tb_print(per));
}

static Numeric
number(const JsonbContainer *tier, const char *name)
{
	JsonbValue	result;

	if (getKeyJsonValueFromContainer(unconstify(JsonbContainer *, tier), name,
									 strlen(name), &result) == NULL ||
		result.type != jbvNumeric)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("tokenbill.price has a row with bad tiers")));
	return DatumGetNumericCopy(NumericGetDatum(result.val.numeric));
}

/*
 * tb_read_tiers
 *		Fill in the tiers of a price, palloc'd in the current memory context.
 */
void
tb_read_tiers(Price *price, Jsonb *tiers)
{
	price->ntiers = JB_ROOT_COUNT(tiers);
	price->tiers = palloc(sizeof(Tier) * Max(price->ntiers, 1));
	for (int i = 0; i < price->ntiers; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(&tiers->root, i);

		if (element == NULL || element->type != jbvBinary ||
			!JsonContainerIsObject(element->val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("tokenbill.price has a row with bad tiers")));
		price->tiers[i].above = number(element->val.binary.data, "above");
		tb_make_rate(&price->tiers[i].rate,
					 number(element->val.binary.data, "unit_price"), price->per);
	}
}

/*
 * tb_read_hours
 *		The minutes of the day in "HH:MM-HH:MM".
 */
void
tb_read_hours(const char *hours, int *from_minute, int *to_minute)
{
	int			from_hour;
	int			to_hour;

	if (sscanf(hours, "%d:%d-%d:%d", &from_hour, from_minute, &to_hour,
			   to_minute) != 4)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("tokenbill.price has a row with bad hours")));
	*from_minute += from_hour * 60;
	*to_minute += to_hour * 60;
}

/*
 * tb_minute_of_day
 *		How many minutes of its day, in UTC, are over at a time.
 */
int
tb_minute_of_day(TimestampTz at)
{
	int64		time = at % USECS_PER_DAY;

	if (time < 0)
		time += USECS_PER_DAY;
	return (int) (time / USECS_PER_MINUTE);
}

/* The highest bracket that a count reaches; null: none above the first. */
static const Tier *
reached(const Price *price, Numeric count)
{
	const Tier *result = NULL;

	for (int i = 0; i < price->ntiers; i++)
	{
		if (tb_compare(count, price->tiers[i].above) <= 0)
			break;
		result = &price->tiers[i];
	}
	return result;
}

/* How many packages of "per" units have been begun. */
static Numeric
packages(const Price *price, Numeric quantity)
{
	Numeric		whole = DatumGetNumeric(DirectFunctionCall2(numeric_div_trunc,
															NumericGetDatum(quantity),
															NumericGetDatum(price->per)));

	if (tb_compare(tb_mul(whole, price->per), quantity) < 0)
		whole = tb_add(whole, int64_to_numeric(1));
	return whole;
}

/* Where a bracket ends: at the beginning of the next, or at the quantity. */
static Numeric
bracket_end(const Price *price, int next, Numeric quantity)
{
	return next < price->ntiers ?
		tb_smaller(price->tiers[next].above, quantity) : quantity;
}

/*
 * tb_price_of
 *		What a quantity costs; *rate is that of the (last) bracket it is in.
 *
 * context is how many input tokens the call had, for mode cliff.
 */
Numeric
tb_price_of(const Price *price, Numeric quantity, Numeric context,
			const Rate **rate)
{
	const Tier *tier = NULL;

	*rate = &price->rate;
	switch (price->mode)
	{
		case PRICE_FLAT:
			break;
		case PRICE_PACKAGE:
			return tb_mul(packages(price, quantity), price->rate.unit_price);
		case PRICE_VOLUME:
			tier = reached(price, quantity);
			break;
		case PRICE_CLIFF:
			tier = reached(price, context);
			break;
		case PRICE_GRADUATED:
			{
				Numeric		begin = bracket_end(price, 0, quantity);
				Numeric		sum = tb_mul(begin, price->rate.value);

				for (int i = 0; i < price->ntiers; i++)
				{
					Numeric		end = bracket_end(price, i + 1, quantity);

					if (tb_compare(quantity, price->tiers[i].above) <= 0)
						break;
					*rate = &price->tiers[i].rate;
					sum = tb_add(sum, tb_mul(tb_sub(end, begin), (*rate)->value));
					begin = end;
				}
				return sum;
			}
	}
	if (tier != NULL)
		*rate = &tier->rate;
	return tb_mul(quantity, (*rate)->value);
}

static void
append(StringInfo text, const char *part)
{
	if (text->len > 0)
		appendStringInfoString(text, ", ");
	appendStringInfoString(text, part);
}

static char *
brackets(const Price *price, Numeric quantity)
{
	StringInfoData text;
	Numeric		begin = bracket_end(price, 0, quantity);

	initStringInfo(&text);
	appendStringInfo(&text, "graduated: %s at %s", tb_print(begin),
					 price->rate.written);
	for (int i = 0; i < price->ntiers; i++)
	{
		Numeric		end = bracket_end(price, i + 1, quantity);

		if (tb_compare(quantity, price->tiers[i].above) <= 0)
			break;
		appendStringInfo(&text, " + %s at %s", tb_print(tb_sub(end, begin)),
						 price->tiers[i].rate.written);
		begin = end;
	}
	return text.data;
}

/*
 * tb_tier_text
 *		Which of the prices it was, for people; null if there is only one.
 */
char *
tb_tier_text(const Price *price, Numeric quantity, Numeric context)
{
	StringInfoData text;
	const Tier *tier;

	initStringInfo(&text);
	if (price->service_tier != NULL)
		append(&text, price->service_tier);
	if (price->hours != NULL)
		append(&text, price->hours);
	switch (price->mode)
	{
		case PRICE_FLAT:
			break;
		case PRICE_PACKAGE:
			append(&text, psprintf("package: %s",
								   tb_print(packages(price, quantity))));
			break;
		case PRICE_GRADUATED:
			append(&text, brackets(price, quantity));
			break;
		case PRICE_VOLUME:
		case PRICE_CLIFF:
			tier = reached(price, price->mode == PRICE_CLIFF ? context : quantity);
			append(&text, tier != NULL ?
				   psprintf("above %s", tb_print(tier->above)) :
				   psprintf("up to %s", tb_print(price->tiers[0].above)));
			break;
	}
	return text.len > 0 ? text.data : NULL;
}
