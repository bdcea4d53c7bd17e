/*
 * retry_time.c
 *	  One moment or span in a header, in any of the ways that servers write it.
 *
 *		30, 0.5				seconds
 *		1700000000			seconds since 1970, if it is that large
 *		1700000000000		milliseconds since 1970, likewise
 *		6m0s, 12ms, 1h2m3.5s	durations as Go prints them
 *		Sun, 06 Nov 1994 08:49:37 GMT		RFC 9110 5.6.7, the form of today
 *		Sunday, 06-Nov-94 08:49:37 GMT		the same of RFC 850
 *		Sun Nov  6 08:49:37 1994			the same as C's asctime() prints it
 *		1994-11-06T08:49:37.5Z				RFC 3339
 *		Sun Nov 06 1994 09:49:37 GMT+0100 (Central European Standard Time)
 *											as JavaScript prints a date
 *
 * What is not one of these is nothing: least of all zero.
 */
#include "retry_after.h"

#include <string.h>

#include "ascii.h"

/* Numbers as large as these are times; larger than the last, nothing */
#define FIRST_SECOND		INT64_C(1000000000)
#define FIRST_MILLISECOND	INT64_C(100000000000)
#define LAST_MILLISECOND	INT64_C(100000000000000)

/* No date is before this year, or after the last one with four digits */
#define FIRST_YEAR 1970
#define LAST_YEAR 9999

/*
 * tb_retry_skip
 *		Go past spaces and tabs.
 */
void
tb_retry_skip(RetryText *cursor)
{
	while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\t'))
		cursor->at++;
}

/* Go past a character, if it is next */
static bool
take(RetryText *cursor, char c)
{
	if (cursor->at == cursor->end || *cursor->at != c)
		return false;
	cursor->at++;
	return true;
}

/* Go past a word in any case, if it is next and no letter follows */
static bool
take_word(RetryText *cursor, const char *word)
{
	size_t		length = strlen(word);

	if ((size_t) (cursor->end - cursor->at) < length)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		char		c = cursor->at[i];

		if (c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if (c != word[i])
			return false;
	}
	if (cursor->at + length < cursor->end && tb_is_letter(cursor->at[length]))
		return false;
	cursor->at += length;
	return true;
}

/* An item of a list ends where the text does, or a comma or semicolon follows */
static bool
ends(RetryText *cursor)
{
	tb_retry_skip(cursor);
	return cursor->at == cursor->end || *cursor->at == ',' || *cursor->at == ';';
}

/* A whole number of at least and at most so many digits */
static bool
take_digits(RetryText *cursor, int least, int most, int *result)
{
	int			value = 0;
	int			digits = 0;

	while (digits < most && cursor->at < cursor->end && tb_is_digit(*cursor->at))
	{
		value = value * 10 + (*cursor->at++ - '0');
		digits++;
	}
	*result = value;
	return digits >= least;
}

/*
 * tb_retry_number
 *		Read a number of at most 15 digits, not negative, in thousandths; what is
 *		smaller is rounded up.
 */
bool
tb_retry_number(RetryText *cursor, int64_t *thousandths)
{
	RetryText	at = *cursor;
	int64_t		value = 0;
	int			digits = 0;

	while (at.at < at.end && tb_is_digit(*at.at))
	{
		if (++digits > 15)
			return false;
		value = value * 10 + (*at.at++ - '0');
	}
	if (digits == 0)
		return false;
	value *= 1000;
	if (at.at < at.end && *at.at == '.')
	{
		int			unit = 100;
		bool		more = false;

		at.at++;
		if (at.at == at.end || !tb_is_digit(*at.at))
			return false;
		while (at.at < at.end && tb_is_digit(*at.at))
		{
			int			digit = *at.at++ - '0';

			value += digit * unit;
			more = more || (unit == 0 && digit != 0);
			unit /= 10;
		}
		value += more;
	}
	*thousandths = value;
	*cursor = at;
	return true;
}

/* What a number says, in milliseconds from now */
static bool
number_says(int64_t thousandths, RetryUnit unit, int64_t now_ms, int64_t *wait_ms)
{
	int64_t		whole = thousandths / 1000;

	if (unit == RETRY_MILLISECONDS)
	{
		*wait_ms = whole + (thousandths % 1000 != 0);
		return true;
	}
	if (whole >= LAST_MILLISECOND || (unit == RETRY_RESET && thousandths == 0))
		return false;
	if (whole >= FIRST_MILLISECOND)
		*wait_ms = whole - now_ms;
	else if (whole >= FIRST_SECOND)
		*wait_ms = thousandths - now_ms;
	else
		*wait_ms = thousandths;
	if (*wait_ms < 0)
		*wait_ms = 0;
	return true;
}

/* A duration as Go's time.Duration prints it; the largest unit is the day */
static bool
read_duration(RetryText *cursor, int64_t *wait_ms)
{
	static const struct
	{
		const char *name;
		int64_t		ms;			/* 0: less than one */
	}			units[] = {
		{"d", INT64_C(86400000)}, {"h", 3600000}, {"m", 60000}, {"s", 1000},
		{"ms", 1}, {"us", 0}, {"\xc2\xb5s", 0}, {"\xce\xbcs", 0}, {"ns", 0}
	};
	RetryText	at = *cursor;
	int64_t		sum = 0;
	int			parts = 0;

	while (at.at < at.end && tb_is_digit(*at.at))
	{
		int64_t		thousandths;
		size_t		length = 0;
		size_t		i;

		if (!tb_retry_number(&at, &thousandths))
			return false;
		while (at.at + length < at.end &&
			   (tb_is_letter(at.at[length]) || (at.at[length] & 0x80)))
			length++;
		for (i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		{
			if (strlen(units[i].name) == length && memcmp(units[i].name, at.at, length) == 0)
				break;
		}
		if (i == sizeof(units) / sizeof(units[0]))
			return false;
		/* 10^9 of any unit is more than anybody waits, and fits */
		if (thousandths > INT64_C(1000000000000) || ++parts > 8)
			return false;
		if (units[i].ms == 0)
			sum += thousandths != 0;
		else
			sum += thousandths / 1000 * units[i].ms +
				(thousandths % 1000 * units[i].ms + 999) / 1000;
		at.at += length;
	}
	if (parts == 0 || !ends(&at))
		return false;
	*wait_ms = sum;
	*cursor = at;
	return true;
}

static bool
is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/*
 * Milliseconds since 1970 of a moment in UTC; false if there is no such moment.
 * The second 60 is one: leap seconds are written so.
 */
static bool
moment(int year, int month, int day, int hour, int minute, int64_t ms, int64_t *result)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int64_t		days = 0;
	int64_t		before = year - 1;

	if (year < FIRST_YEAR || year > LAST_YEAR || month < 1 || month > 12 ||
		day < 1 || day > lengths[month - 1] + (month == 2 && is_leap(year)) ||
		hour > 23 || minute > 59 || ms > 60999)
		return false;
	/* days before this year, from those before 1970, which are 719162 */
	days = before * 365 + before / 4 - before / 100 + before / 400 - 719162;
	for (int i = 1; i < month; i++)
		days += lengths[i - 1] + (i == 2 && is_leap(year));
	days += day - 1;
	*result = ((days * 24 + hour) * 60 + minute) * INT64_C(60000) + ms;
	return true;
}

/* 08:49:37 or 08:49:37.123, seconds in milliseconds */
static bool
read_clock(RetryText *cursor, int *hour, int *minute, int64_t *ms)
{
	RetryText	start;
	int			second;

	if (!take_digits(cursor, 2, 2, hour) || !take(cursor, ':') ||
		!take_digits(cursor, 2, 2, minute) || !take(cursor, ':'))
		return false;
	start = *cursor;
	if (!take_digits(cursor, 2, 2, &second) ||
		(cursor->at < cursor->end && tb_is_digit(*cursor->at)))
		return false;
	*cursor = start;
	return tb_retry_number(cursor, ms);
}

/* Z, GMT, UTC, +0100, GMT+01:00: how far ahead of UTC, in minutes */
static bool
read_zone(RetryText *cursor, int *ahead)
{
	bool		named = take_word(cursor, "gmt") || take_word(cursor, "utc") || take_word(cursor, "z");
	int			sign = 0;
	int			hours;
	int			minutes;

	if (take(cursor, '+'))
		sign = 1;
	else if (take(cursor, '-'))
		sign = -1;
	*ahead = 0;
	if (sign == 0)
		return named;
	if (!take_digits(cursor, 2, 2, &hours))
		return false;
	take(cursor, ':');
	if (!take_digits(cursor, 2, 2, &minutes) || hours > 15 || minutes > 59)
		return false;
	*ahead = sign * (hours * 60 + minutes);
	return true;
}

/* Jan to Dec, 1 to 12 */
static bool
read_month(RetryText *cursor, int *month)
{
	static const char *const names[] = {
		"jan", "feb", "mar", "apr", "may", "jun",
		"jul", "aug", "sep", "oct", "nov", "dec"
	};

	for (int i = 0; i < 12; i++)
	{
		if (take_word(cursor, names[i]))
		{
			*month = i + 1;
			return true;
		}
	}
	return false;
}

/* 1994-11-06T08:49:37Z */
static bool
read_rfc3339(RetryText *cursor, int64_t *result)
{
	int			year;
	int			month;
	int			day;
	int			hour;
	int			minute;
	int64_t		ms;
	int			ahead;

	if (!take_digits(cursor, 4, 4, &year) || !take(cursor, '-') ||
		!take_digits(cursor, 2, 2, &month) || !take(cursor, '-') ||
		!take_digits(cursor, 2, 2, &day))
		return false;
	if (!take(cursor, 'T') && !take(cursor, 't') && !take(cursor, ' '))
		return false;
	if (!read_clock(cursor, &hour, &minute, &ms))
		return false;
	tb_retry_skip(cursor);
	/* without a zone it may be any, fourteen hours apart */
	if (!read_zone(cursor, &ahead) ||
		!moment(year, month, day, hour, minute, ms, result))
		return false;
	*result -= (int64_t) ahead * 60000;
	return true;
}

/*
 * Go past what stands in parentheses: the zone again, in the language of whoever
 * runs that server
 */
static bool
skip_comment(RetryText *cursor)
{
	int			depth = 0;

	tb_retry_skip(cursor);
	if (cursor->at == cursor->end || *cursor->at != '(')
		return true;
	while (cursor->at < cursor->end)
	{
		char		c = *cursor->at++;

		if (c == '(')
			depth++;
		else if (c == ')' && --depth == 0)
			return true;
	}
	return false;
}

/*
 * RFC 850 has years of two digits: the one that is not more than fifty years
 * ahead (RFC 9110 5.6.7)
 */
static int
whole_year(int two_digits, int64_t now_ms)
{
	int			now = FIRST_YEAR + (int) (now_ms / INT64_C(31556952000));
	int			year = now - now % 100 + two_digits;

	return year > now + 50 ? year - 100 : year;
}

/* The dates that begin with the name of a day */
static bool
read_named_date(RetryText *cursor, int64_t now_ms, int64_t *result)
{
	int			year = 0;
	int			month;
	int			day;
	int			hour;
	int			minute;
	int64_t		ms;
	int			ahead = 0;
	int			letters = 0;

	while (cursor->at < cursor->end && tb_is_letter(*cursor->at))
	{
		cursor->at++;
		letters++;
	}
	if (letters < 3)
		return false;
	if (take(cursor, ','))
	{
		tb_retry_skip(cursor);
		if (!take_digits(cursor, 2, 2, &day))
			return false;
		if (take(cursor, '-'))
		{
			if (!read_month(cursor, &month) || !take(cursor, '-') ||
				!take_digits(cursor, 2, 2, &year))
				return false;
			year = whole_year(year, now_ms);
		}
		else if (!take(cursor, ' ') || !read_month(cursor, &month) || !take(cursor, ' ') ||
				 !take_digits(cursor, 4, 4, &year))
			return false;
		if (!take(cursor, ' ') || !read_clock(cursor, &hour, &minute, &ms))
			return false;
		tb_retry_skip(cursor);
		if (!read_zone(cursor, &ahead))
			return false;
	}
	else
	{
		tb_retry_skip(cursor);
		if (!read_month(cursor, &month))
			return false;
		tb_retry_skip(cursor);
		if (!take_digits(cursor, 1, 2, &day) || !take(cursor, ' '))
			return false;
		if (cursor->end - cursor->at > 4 && cursor->at[4] == ' ')
		{
			/* JavaScript's */
			if (!take_digits(cursor, 4, 4, &year) || !take(cursor, ' ') ||
				!read_clock(cursor, &hour, &minute, &ms))
				return false;
			tb_retry_skip(cursor);
			if (!read_zone(cursor, &ahead) || !skip_comment(cursor))
				return false;
		}
		else if (!read_clock(cursor, &hour, &minute, &ms) || !take(cursor, ' ') ||
				 !take_digits(cursor, 4, 4, &year))
			return false;
	}
	if (!moment(year, month, day, hour, minute, ms, result))
		return false;
	*result -= (int64_t) ahead * 60000;
	return true;
}

/*
 * tb_retry_wait
 *		Read one moment or span, up to the end of the text or the comma or
 *		semicolon behind it, as milliseconds from now.  What has passed is 0.
 *		False, with nothing read, if it is none.
 */
bool
tb_retry_wait(RetryText *cursor, RetryUnit unit, int64_t now_ms, int64_t *wait_ms)
{
	RetryText	at;
	int64_t		value;

	tb_retry_skip(cursor);
	at = *cursor;
	if (tb_retry_number(&at, &value) && ends(&at))
	{
		if (!number_says(value, unit, now_ms, wait_ms))
			return false;
		*cursor = at;
		return true;
	}
	if (read_duration(cursor, wait_ms))
		return true;
	at = *cursor;
	if (!read_rfc3339(&at, &value) || !ends(&at))
	{
		at = *cursor;
		if (!read_named_date(&at, now_ms, &value) || !ends(&at))
			return false;
	}
	*wait_ms = value > now_ms ? value - now_ms : 0;
	*cursor = at;
	return true;
}
