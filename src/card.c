/*
 * card.c
 *	  Payment card numbers in arguments, which are refused.  What counts as one:
 *	  card_number.c; it is the same that is masked in the log.
 */
#include "card.h"

#include "money.h"
#include "redactor.h"

/*
 * tb_has_card_number
 *		Whether a payment card number stands anywhere in len bytes of text.
 */
bool
tb_has_card_number(const char *s, int len)
{
	Redactor	redactor;

	tb_redactor_begin(&redactor, s, (size_t) len, TB_CARDS);
	return tb_redactor_next(&redactor, (size_t) len);
}

/*
 * tb_is_card_number
 *		Whether a JSON number is one.  Those with a fraction are not: they are
 *		measured, like a cost, and some of them would pass by chance.
 */
bool
tb_is_card_number(Numeric number)
{
	char	   *digits;

	if (DatumGetInt32(DirectFunctionCall1(numeric_min_scale,
										  NumericGetDatum(number))) > 0)
		return false;
	digits = tb_print(number);
	return tb_has_card_number(digits, (int) strlen(digits));
}
