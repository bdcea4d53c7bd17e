/*
 * card.c
 *	  Payment card numbers in free text.
 *
 * A card number must never reach a table, a log or an error.  What counts as
 * one: 13 to 19 digits, as written on a card (in a run, or in a card's groups,
 * parted by single blanks or dashes), that stand by themselves, begin as cards do
 * (ISO/IEC 7812-1: 3 to 6, and the ranges 2200-2204 and 2221-2720 that Mir and
 * Mastercard use), and whose check digit is right (the Luhn formula, ISO/IEC
 * 7812-1 annex B).
 *
 * Standing by themselves means no letter and no digit touches them: hexadecimal
 * digests and longer numbers are full of runs that pass the check by chance.
 * The first digits leave out time stamps, in seconds or written out, and
 * snowflake ids, one in ten of which would pass it.
 */
#include "card.h"

#include "money.h"

#define MIN_CARD_DIGITS 13
#define MAX_CARD_DIGITS 19

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/*
 * The Luhn formula: from the right, every second digit counts double (less 9
 * when that has two digits), and the sum ends in 0.
 */
static bool
check_digit_is_right(const char *digits, int n)
{
	int			sum = 0;

	for (int i = 0; i < n; i++)
	{
		int			d = digits[n - 1 - i] - '0';

		if (i % 2 == 1)
			d = d * 2 > 9 ? d * 2 - 9 : d * 2;
		sum += d;
	}
	return sum % 10 == 0;
}

static bool
begins_like_a_card(const char *digits)
{
	int			four;

	if (digits[0] >= '3' && digits[0] <= '6')
		return true;
	four = (digits[0] - '0') * 1000 + (digits[1] - '0') * 100 +
		(digits[2] - '0') * 10 + (digits[3] - '0');
	return (four >= 2200 && four <= 2204) || (four >= 2221 && four <= 2720);
}

/*
 * How cards print their numbers, in groups of digits.  Numbers joined by dashes
 * are common in keys ("order-123456789-987654321"), so groups of other lengths
 * are not put together.
 */
static const struct
{
	int			groups;
	int			lengths[5];
}			layouts[] = {
	{4, {4, 4, 4, 4}},
	{5, {4, 4, 4, 4, 3}},
	{5, {4, 4, 4, 4, 2}},
	{3, {4, 6, 5}},
	{3, {4, 6, 4}},
	{4, {4, 3, 3, 3}}
};

/* The digits from s[i] on; copies them as long as they fit. */
static int
run_length(const char *s, int len, int i, char *digits, int room)
{
	int			n = 0;

	for (; i < len && is_digit(s[i]); i++, n++)
	{
		if (n < room)
			digits[n] = s[i];
	}
	return n;
}

static bool
is_card_number(const char *digits, int n)
{
	return n >= MIN_CARD_DIGITS && n <= MAX_CARD_DIGITS &&
		begins_like_a_card(digits) && check_digit_is_right(digits, n);
}

/*
 * Whether a card number begins at s[start], the first digit of a group: the group
 * itself, or it and those that follow it in one of the layouts.
 */
static bool
card_number_at(const char *s, int len, int start)
{
	char		digits[MAX_CARD_DIGITS];
	int			first = run_length(s, len, start, digits, MAX_CARD_DIGITS);
	int			end = start + first;

	if (first != 4)
		return is_card_number(digits, first) &&
			!(end < len && is_letter(s[end]));

	for (size_t l = 0; l < lengthof(layouts); l++)
	{
		int			n = first;
		int			g;

		end = start + first;
		for (g = 1; g < layouts[l].groups; g++)
		{
			int			length;

			if (end >= len || (s[end] != ' ' && s[end] != '-'))
				break;
			length = run_length(s, len, end + 1, digits + n,
								MAX_CARD_DIGITS - n);
			if (length != layouts[l].lengths[g])
				break;
			n += length;
			end += 1 + length;
		}
		if (g == layouts[l].groups && is_card_number(digits, n) &&
			!(end < len && is_letter(s[end])))
			return true;
	}
	return false;
}

/*
 * tb_has_card_number
 *		Whether a payment card number stands anywhere in len bytes of text.
 */
bool
tb_has_card_number(const char *s, int len)
{
	for (int i = 0; i < len; i++)
	{
		if (!is_digit(s[i]) ||
			(i > 0 && (is_digit(s[i - 1]) || is_letter(s[i - 1]))))
			continue;
		if (card_number_at(s, len, i))
			return true;
	}
	return false;
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
	size_t		len;

	if (DatumGetInt32(DirectFunctionCall1(numeric_min_scale,
										  NumericGetDatum(number))) > 0)
		return false;
	digits = tb_print(number);
	len = strlen(digits);
	return len >= MIN_CARD_DIGITS && tb_has_card_number(digits, len);
}
