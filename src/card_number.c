/*
 * card_number.c
 *	  Payment card numbers in bytes of text.
 *
 * A card number must never reach a table, a log or an error.  What counts as
 * one: 13 to 19 digits, as written on a card (in a run, or in groups that are
 * parted by single blanks or dashes), that stand by themselves, begin as cards of
 * that length do (ISO/IEC 7812-1; the ranges of the brands below), and whose check
 * digit is right (the Luhn formula, ISO/IEC 7812-1 annex B).
 *
 * Standing by themselves means no letter and no digit touches them, nor are they
 * the digits behind a decimal point: hexadecimal digests, longer numbers and
 * fractions are full of runs that pass the check by chance.  The first digits
 * leave out time stamps, in seconds or written out, and snowflake ids, one in ten
 * of which would pass it.
 *
 * Nothing of PostgreSQL is needed, nothing allocated, and nothing read behind the
 * length that is given.
 */
#include "card_number.h"

#include "ascii.h"

#define MIN_DIGITS 13
#define MAX_DIGITS 19
#define LAST 4

typedef struct Digits
{
	int			count;
	char		digit[MAX_DIGITS];
	size_t		at[MAX_DIGITS]; /* where each of them stands */
} Digits;

/*
 * The Luhn formula: from the right, every second digit counts double (less 9
 * when that has two digits), and the sum ends in 0.
 */
static bool
check_digit_is_right(const Digits *number)
{
	int			sum = 0;

	for (int i = 0; i < number->count; i++)
	{
		int			d = number->digit[number->count - 1 - i] - '0';

		if (i % 2 == 1)
			d = d * 2 > 9 ? d * 2 - 9 : d * 2;
		sum += d;
	}
	return sum % 10 == 0;
}

/*
 * Whether cards of this length begin so: Visa 4; Mastercard 51 to 55 and 2221 to
 * 2720; American Express 34, 37; Diners 30, 36, 38, 39; JCB 3528 to 3589; Mir 2200
 * to 2204; Maestro, UnionPay, Discover, RuPay and Verve 50, 56 to 58, 6.  Of Visa
 * and of the last line all lengths are in use or have been announced.
 */
static bool
begins_like_a_card(const Digits *number)
{
	const char *d = number->digit;
	int			n = number->count;
	int			four = (d[0] - '0') * 1000 + (d[1] - '0') * 100 +
		(d[2] - '0') * 10 + (d[3] - '0');
	int			two = four / 100;

	switch (d[0])
	{
		case '2':
			return (n >= 16 && four >= 2200 && four <= 2204) ||
				(n == 16 && four >= 2221 && four <= 2720);
		case '3':
			if (two == 34 || two == 37)
				return n == 15;
			if (two == 35)
				return n >= 16 && four >= 3528 && four <= 3589;
			return n >= 14 && (two == 30 || two == 36 || two >= 38);
		case '4':
		case '6':
			return true;
		case '5':
			if (two >= 51 && two <= 55)
				return n == 16;
			return two != 59;
		default:
			return false;
	}
}

/*
 * Whether fours with less than a four at their end are put together: of the brands
 * that have such lengths, for lists of numbers look the same.
 */
static bool
is_short_card(const Digits *number)
{
	int			two = (number->digit[0] - '0') * 10 + (number->digit[1] - '0');

	switch (number->count)
	{
		case 13:
			return two / 10 == 4;
		case 14:
			return two == 30 || two == 36 || two == 38 || two == 39;
		case 15:
			return two == 34 || two == 37;
		default:
			return true;
	}
}

static bool
is_card_number(const Digits *number)
{
	return number->count >= MIN_DIGITS && number->count <= MAX_DIGITS &&
		begins_like_a_card(number) && check_digit_is_right(number);
}

/*
 * What parts groups: a blank or a dash, also in Unicode (no-break and thin ones,
 * U+2010 to U+2015) or as forms of web pages send a blank.  Returns its length.
 */
static size_t
separator_at(const char *s, size_t length, size_t i)
{
	size_t		left = length - i;

	if (left == 0)
		return 0;
	if (s[i] == ' ' || s[i] == '-' || s[i] == '+')
		return 1;
	if (left >= 2 && s[i] == '\xC2' && s[i + 1] == '\xA0')
		return 2;
	if (left >= 3 && s[i] == '%' && s[i + 1] == '2' && s[i + 2] == '0')
		return 3;
	if (left >= 3 && s[i] == '\xE2' && s[i + 1] == '\x80')
	{
		unsigned char third = (unsigned char) s[i + 2];

		if ((third >= 0x87 && third <= 0x8A) || (third >= 0x90 && third <= 0x95) ||
			third == 0xAF)
			return 3;
	}
	return 0;
}

/* The digits from s[i] on, as far as they fit; returns how many there are */
static int
read_group(const char *s, size_t length, size_t i, Digits *number)
{
	int			n = 0;

	/* one more than fits is too many, and is known to be */
	for (; i < length && tb_is_digit(s[i]) && n <= MAX_DIGITS; i++, n++)
	{
		if (number->count < MAX_DIGITS)
		{
			number->digit[number->count] = s[i];
			number->at[number->count++] = i;
		}
	}
	return n;
}

/*
 * How numbers are grouped: in fours, with what is left at the end (0); as on
 * cards that are not.  Numbers joined by dashes are common in keys
 * ("order-123456789-987654321"), so groups of other lengths are not put together.
 */
static const struct
{
	int			groups;
	int			lengths[5];
}			layouts[] = {
	{5, {4, 4, 4, 4, 0}},
	{4, {4, 4, 4, 4}},
	{4, {4, 4, 4, 0}},
	{3, {4, 6, 5}},
	{3, {4, 6, 4}},
	{4, {4, 3, 3, 3}},
	{2, {6, 13}},
};

#define LAYOUTS (sizeof(layouts) / sizeof(layouts[0]))

/* Whether what ends here is touched by a letter or a digit */
static bool
is_touched(const char *s, size_t length, size_t end)
{
	return end < length && (tb_is_letter(s[end]) || tb_is_digit(s[end]));
}

/* Whether a number in this layout begins at s[start]; where it ends */
static bool
read_layout(const char *s, size_t length, size_t start, size_t layout,
			Digits *number, size_t *end)
{
	*end = start;
	number->count = 0;
	for (int g = 0; g < layouts[layout].groups; g++)
	{
		int			wanted = layouts[layout].lengths[g];
		int			found;

		if (g > 0)
		{
			size_t		separator = separator_at(s, length, *end);

			if (separator == 0)
				return false;
			*end += separator;
		}
		found = read_group(s, length, *end, number);
		if (wanted == 0 ? found < 1 || found > 3 : found != wanted)
			return false;
		*end += found;
	}
	return !is_touched(s, length, *end);
}

/*
 * tb_card_number_at
 *		Whether a card number begins at s[start], where a group of digits begins.
 *		If so, where it ends and where its last four digits begin.  Of several, the
 *		longest.
 */
bool
tb_card_number_at(const char *s, size_t length, size_t start, size_t *end,
				  size_t *last_four)
{
	Digits		number;
	int			first;
	bool		found = false;

	/* most numbers are none */
	if (s[start] < '2' || s[start] > '6')
		return false;
	number.count = 0;
	first = read_group(s, length, start, &number);
	*end = start + first;
	if (first >= MIN_DIGITS)
	{
		found = first <= MAX_DIGITS && !is_touched(s, length, *end) &&
			is_card_number(&number);
		*last_four = number.at[number.count - LAST];
		return found;
	}
	if ((first != 4 && first != 6) ||
		separator_at(s, length, *end) == 0)
		return false;
	for (size_t l = 0; l < LAYOUTS && !found; l++)
	{
		if (first == layouts[l].lengths[0] &&
			read_layout(s, length, start, l, &number, end) &&
			is_card_number(&number) && is_short_card(&number))
		{
			*last_four = number.at[number.count - LAST];
			found = true;
		}
	}
	return found;
}
