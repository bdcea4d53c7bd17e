/*
 * markup.c
 *	  Prices that are raised or lowered as a whole.
 *
 * A markup is a fraction; a price under it is another price, made when it is
 * first asked for and kept on the rate card beside the one it was made of.  Its
 * rate is the product, exact.
 */
#include "markup.h"

#include "money.h"
#include "query.h"
#include "utils/memutils.h"

/* By how much the prices of some scope are raised, from when on. */
struct Markup
{
	TimestampTz valid_from;
	PriceHolder holder;
	Numeric		factor;			/* 1 + fraction */
};

/* A price with a markup on it. */
struct MarkedUp
{
	MarkedUp   *next;
	const Markup *markup;
	Price		price;
};

/*
 * tb_load_markups
 *		Read the markups that may count for a card: the closest first, of each
 *		scope the newest first.  Needs SPI; allocates beside the card.
 */
void
tb_load_markups(RateCard *card, text *service, text *account,
				text *price_group)
{
	static Statement query = {
		.sql = "SELECT m.valid_from, CASE WHEN m.account OPERATOR(pg_catalog.<>) '*' THEN 0"
		" WHEN m.price_group OPERATOR(pg_catalog.<>) '' THEN 1 ELSE 2 END AS holder,"
		" 1 OPERATOR(pg_catalog.+) m.fraction"
		" FROM tokenbill.markup m"
		" WHERE (m.service OPERATOR(pg_catalog.=) '*' OR m.service OPERATOR(pg_catalog.=) $1)"
		" AND (m.account OPERATOR(pg_catalog.=) '*' OR m.account OPERATOR(pg_catalog.=) $2)"
		" AND (m.price_group OPERATOR(pg_catalog.=) '' OR m.price_group OPERATOR(pg_catalog.=) $3)"
		" ORDER BY holder, m.service OPERATOR(pg_catalog.=) '*', m.valid_from DESC",
		.nargs = 3,
		.types = {TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		values[3];
	bool		nulls[3];
	MemoryContext old;

	values[0] = PointerGetDatum(service);
	values[1] = PointerGetDatum(account);
	values[2] = PointerGetDatum(price_group);
	card->nmarkups = (int) tb_run(&query, values, NULL);
	if (card->nmarkups == 0)
		return;

	old = MemoryContextSwitchTo(GetMemoryChunkContext(card));
	card->markups = palloc(sizeof(Markup) * card->nmarkups);
	for (int i = 0; i < card->nmarkups; i++)
	{
		Markup	   *markup = &card->markups[i];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values,
						  nulls);
		markup->valid_from = DatumGetTimestampTz(values[0]);
		markup->holder = DatumGetInt32(values[1]);
		markup->factor = DatumGetNumericCopy(values[2]);
	}
	MemoryContextSwitchTo(old);
}

static Numeric
product(Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale,
											   NumericGetDatum(tb_mul(a, b))));
}

static void
mark_up(Rate *rate, const Rate *from, Numeric factor, Numeric per)
{
	rate->unit_price = product(from->unit_price, factor);
	rate->value = product(from->value, factor);
	rate->written = psprintf("%s/%s", tb_print(rate->unit_price), tb_print(per));
}

/*
 * tb_marked_up
 *		The price as it is under the markup that counts at a time.
 *
 * What was set for somebody closer than the markup is left as it is.
 */
const Price *
tb_marked_up(const RateCard *card, const Price *price, TimestampTz at)
{
	const Markup *markup = NULL;
	MarkedUp   *made;
	MemoryContext old;

	for (int i = 0; i < card->nmarkups && markup == NULL; i++)
	{
		if (card->markups[i].valid_from <= at &&
			card->markups[i].holder <= price->holder)
			markup = &card->markups[i];
	}
	if (markup == NULL)
		return price;
	for (made = price->marked_up; made != NULL; made = made->next)
	{
		if (made->markup == markup)
			return &made->price;
	}

	old = MemoryContextSwitchTo(GetMemoryChunkContext(unconstify(RateCard *, card)));
	made = palloc(sizeof(MarkedUp));
	made->markup = markup;
	made->price = *price;
	mark_up(&made->price.rate, &price->rate, markup->factor, price->per);
	if (price->ntiers > 0)
		made->price.tiers = palloc(sizeof(Tier) * price->ntiers);
	for (int i = 0; i < price->ntiers; i++)
	{
		made->price.tiers[i].above = price->tiers[i].above;
		mark_up(&made->price.tiers[i].rate, &price->tiers[i].rate, markup->factor,
				price->per);
	}
	made->next = price->marked_up;
	unconstify(Price *, price)->marked_up = made;
	MemoryContextSwitchTo(old);
	return &made->price;
}
