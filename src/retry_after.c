/*
 * retry_after.c
 *	  How long a server wants us to wait, by the headers of its answer.
 *
 * In this order, and what cannot be read is as if it were not there:
 *
 *	  retry-after-ms	OpenAI and Azure; more exact than the next
 *	  Retry-After		RFC 9110 10.2.3: seconds or a date
 *	  allowances that are used up, until they are renewed; of several, the last:
 *		x-ratelimit-remaining-tokens: 0 and x-ratelimit-reset-tokens: 6m0s, with
 *		any ending or none (OpenAI, GitHub, Groq, OpenRouter ...)
 *		anthropic-ratelimit-tokens-remaining and -reset
 *		RateLimit: "default";r=0;t=30 of the IETF's draft, and its older form
 *		limit=100, remaining=0, reset=30
 *	  a time of renewal without an allowance, if the status says that there were
 *		too many requests; of several, the first
 *	  a minute, if it is GitHub that says that (its documentation asks for it)
 *
 * Azure gives -1 or 0 for what it does not know: a reset of 0 is not a time, and
 * a negative allowance none.
 */
#include "retry_after.h"

#include <string.h>

#include "ascii.h"

/* More kinds of allowances than these are not looked at */
#define MAX_BUCKETS 32
#define MAX_KEY 64

#define TOO_MANY_REQUESTS 429
#define UNAVAILABLE 503

/* One allowance: the headers whose names differ in one word only */
typedef struct Bucket
{
	char		key[MAX_KEY];	/* the name without that word */
	const RetryHeader *remaining;
	const RetryHeader *reset;
	RetryUnit	unit;
} Bucket;

/* What has been found so far */
typedef struct Search
{
	int64_t		now_ms;
	bool		found;
	int64_t		wait_ms;
} Search;

/* Whether a name, in any case, is this one */
static bool
is(RetryText name, const char *other)
{
	size_t		length = strlen(other);

	if ((size_t) (name.end - name.at) != length)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (tb_lower(name.at[i]) != other[i])
			return false;
	}
	return true;
}

static void
found_longer(Search *search, int64_t wait_ms)
{
	if (!search->found || wait_ms > search->wait_ms)
		search->wait_ms = wait_ms;
	search->found = true;
}

static void
found_shorter(Search *search, int64_t wait_ms)
{
	if (!search->found || wait_ms < search->wait_ms)
		search->wait_ms = wait_ms;
	search->found = true;
}

/* Go past the comma before the next item of a list; false at its end */
static bool
next_item(RetryText *cursor)
{
	while (cursor->at < cursor->end && *cursor->at != ',')
		cursor->at++;
	if (cursor->at == cursor->end)
		return false;
	cursor->at++;
	return true;
}

/* The longest wait in a header that may be a list */
static void
longest_of(const RetryHeader *header, RetryUnit unit, Search *search)
{
	RetryText	cursor = header->value;

	do
	{
		int64_t		wait_ms;

		if (tb_retry_wait(&cursor, unit, search->now_ms, &wait_ms))
			found_longer(search, wait_ms);
	} while (next_item(&cursor));
}

/* The longest wait in all headers of a name */
static void
named(const RetryHeader *headers, size_t count, const char *name, RetryUnit unit,
	  Search *search)
{
	for (size_t i = 0; i < count; i++)
	{
		if (is(headers[i].name, name))
			longest_of(&headers[i], unit, search);
	}
}

/* ---- allowances in headers of their own */

/* Whether a part of a name is this word */
static bool
part_is(const char *part, size_t length, const char *word)
{
	return strlen(word) == length && memcmp(part, word, length) == 0;
}

/*
 * See whether a header is one half of an allowance.  The key is its name in lower
 * case without the part that says which half, so that both have the same.
 */
static bool
read_name(RetryText name, char *key, bool *is_reset, RetryUnit *unit)
{
	char		copy[MAX_KEY];
	size_t		length = name.end - name.at;
	size_t		kept = 0;
	bool		is_half = false;
	bool		behind_reset = false;

	if (length >= MAX_KEY)
		return false;
	for (size_t i = 0; i < length; i++)
		copy[i] = tb_lower(name.at[i]);
	copy[length] = '\0';
	if (strstr(copy, "ratelimit") == NULL && strstr(copy, "rate-limit") == NULL &&
		strncmp(copy, "anthropic-", 10) != 0)
		return false;
	*unit = RETRY_RESET;
	for (char *part = copy; part != NULL;)
	{
		char	   *dash = strchr(part, '-');
		size_t		part_length = dash == NULL ? strlen(part) : (size_t) (dash - part);

		if (!is_half && (part_is(part, part_length, "remaining") ||
						 part_is(part, part_length, "reset")))
		{
			is_half = true;
			*is_reset = behind_reset = part_is(part, part_length, "reset");
		}
		else if (behind_reset && part_is(part, part_length, "after"))
			*unit = RETRY_SECONDS;
		else if (behind_reset && part_is(part, part_length, "ms"))
			*unit = RETRY_MILLISECONDS;
		else
		{
			memcpy(key + kept, part, part_length);
			kept += part_length;
			key[kept++] = '-';
		}
		part = dash == NULL ? NULL : dash + 1;
	}
	key[kept] = '\0';
	return is_half;
}

/* Put the headers together that belong to one allowance */
static int
gather(const RetryHeader *headers, size_t count, Bucket *buckets)
{
	int			used = 0;

	for (size_t i = 0; i < count; i++)
	{
		/* a dash is kept behind each part */
		char		key[MAX_KEY + 1];
		bool		is_reset;
		RetryUnit	unit;
		int			b = 0;

		if (!read_name(headers[i].name, key, &is_reset, &unit) || strlen(key) >= MAX_KEY)
			continue;
		while (b < used && strcmp(buckets[b].key, key) != 0)
			b++;
		if (b == used)
		{
			if (used == MAX_BUCKETS)
				continue;
			memset(&buckets[used], 0, sizeof(Bucket));
			memcpy(buckets[used++].key, key, strlen(key));
		}
		if (is_reset)
		{
			buckets[b].reset = &headers[i];
			buckets[b].unit = unit;
		}
		else
			buckets[b].remaining = &headers[i];
	}
	return used;
}

/* How many items a list has */
static int
count_items(RetryText cursor)
{
	int			count = 1;

	while (next_item(&cursor))
		count++;
	return count;
}

/*
 * Whether an allowance is known, and how long it takes until what is used up of
 * it is renewed.  With a list of allowances and a list of renewals as long, each
 * has its own.
 */
static bool
judge(const Bucket *bucket, Search *search)
{
	RetryText	remaining = bucket->remaining->value;
	RetryText	reset = bucket->reset->value;
	bool		paired = count_items(remaining) == count_items(reset);
	bool		known = false;

	do
	{
		int64_t		left;
		int64_t		wait_ms;

		tb_retry_skip(&remaining);
		if (tb_retry_number(&remaining, &left))
		{
			known = true;
			if (left == 0 && !paired)
				longest_of(bucket->reset, bucket->unit, search);
			else if (left == 0 &&
					 tb_retry_wait(&reset, bucket->unit, search->now_ms, &wait_ms))
				found_longer(search, wait_ms);
		}
		if (paired)
			next_item(&reset);
	} while (next_item(&remaining));
	return known;
}

/* ---- RateLimit and RateLimit-Policy, structured fields of RFC 9651 */

/* A parameter's or member's value: a number, or anything else */
typedef struct Bare
{
	RetryText	source;
	bool		is_number;
	int64_t		thousandths;
} Bare;

static bool
next_is(RetryText *cursor, char c)
{
	if (cursor->at == cursor->end || *cursor->at != c)
		return false;
	cursor->at++;
	return true;
}

static bool
is_key_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		(c != '\0' && strchr("_-.*", c) != NULL);
}

/* A key begins with a lower-case letter or * */
static bool
read_key(RetryText *cursor, RetryText *key)
{
	const char *first = cursor->at;

	if (first == cursor->end || !((*first >= 'a' && *first <= 'z') || *first == '*'))
		return false;
	while (cursor->at < cursor->end && is_key_character(*cursor->at))
		cursor->at++;
	key->at = first;
	key->end = cursor->at;
	return true;
}

/* A number, string, token, byte sequence, boolean or date */
static bool
read_bare(RetryText *cursor, Bare *bare)
{
	char		c;

	bare->is_number = false;
	bare->source.at = cursor->at;
	if (cursor->at == cursor->end)
		return false;
	c = *cursor->at;
	if (c == '"')
	{
		cursor->at++;
		while (cursor->at < cursor->end && *cursor->at != '"')
		{
			if (*cursor->at == '\\')
				cursor->at++;
			if (cursor->at == cursor->end || *cursor->at < ' ' || *cursor->at > '~')
				return false;
			cursor->at++;
		}
		if (!next_is(cursor, '"'))
			return false;
	}
	else if (c == ':')
	{
		cursor->at++;
		while (cursor->at < cursor->end &&
			   *cursor->at > ' ' && *cursor->at <= '~' && *cursor->at != ':')
			cursor->at++;
		if (!next_is(cursor, ':'))
			return false;
	}
	else if (c == '?' || c == '@' || c == '-' || (c >= '0' && c <= '9'))
	{
		bool		plain = c >= '0' && c <= '9';

		if (!plain)
			cursor->at++;
		if (c == '@')
			next_is(cursor, '-');
		if (!tb_retry_number(cursor, &bare->thousandths))
			return false;
		bare->is_number = plain;
	}
	else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '*')
	{
		while (cursor->at < cursor->end && *cursor->at > ' ' && *cursor->at <= '~' &&
			   strchr("\"(),;<=>?@[\\]{}", *cursor->at) == NULL)
			cursor->at++;
	}
	else
		return false;
	bare->source.end = cursor->at;
	return true;
}

/* One item of such a list: what it is about, and three of its parameters */
typedef struct Quota
{
	Bare		name;
	bool		has_r;
	bool		has_t;
	bool		has_w;
	int64_t		r;				/* left, in thousandths */
	int64_t		t;				/* until it is renewed, in milliseconds */
	int64_t		w;				/* how long the window is, in milliseconds */
} Quota;

/* The parameters behind an item */
static bool
read_parameters(RetryText *cursor, Quota *quota)
{
	while (next_is(cursor, ';'))
	{
		RetryText	key;
		Bare		value = {0};

		tb_retry_skip(cursor);
		if (!read_key(cursor, &key) || (next_is(cursor, '=') && !read_bare(cursor, &value)))
			return false;
		if (!value.is_number)
			continue;
		if (is(key, "r"))
		{
			quota->has_r = true;
			quota->r = value.thousandths;
		}
		else if (is(key, "t"))
		{
			quota->has_t = true;
			quota->t = value.thousandths;
		}
		else if (is(key, "w"))
		{
			quota->has_w = true;
			quota->w = value.thousandths;
		}
	}
	return true;
}

/*
 * The next item of a list.  The older form of the draft is a dictionary whose
 * members are the parameters of the one quota there is.
 */
static bool
read_quota(RetryText *cursor, Quota *quota)
{
	RetryText	start = *cursor;
	RetryText	key;
	Bare		value;
	Quota		ignored = {0};

	if (read_key(cursor, &key) && next_is(cursor, '='))
	{
		if (!read_bare(cursor, &value))
			return false;
		if (value.is_number && is(key, "remaining"))
		{
			quota->has_r = true;
			quota->r = value.thousandths;
		}
		else if (value.is_number && is(key, "reset"))
		{
			quota->has_t = true;
			quota->t = value.thousandths;
		}
		return read_parameters(cursor, &ignored);
	}
	*cursor = start;
	memset(quota, 0, sizeof(Quota));
	return read_bare(cursor, &quota->name) && read_parameters(cursor, quota);
}

/* Go on to the next item; false if there is none, or what follows is no list */
static bool
more_quotas(RetryText *cursor, bool *malformed)
{
	tb_retry_skip(cursor);
	if (cursor->at == cursor->end)
		return false;
	if (!next_is(cursor, ','))
	{
		*malformed = true;
		return false;
	}
	tb_retry_skip(cursor);
	return true;
}

/* How long the window of this quota is, by the policies; false if none says */
static bool
window_of(const Bare *name, const RetryHeader *headers, size_t count, int64_t *window_ms)
{
	for (size_t i = 0; i < count; i++)
	{
		RetryText	cursor = headers[i].value;
		Quota		policy = {0};
		bool		malformed = false;

		if (!is(headers[i].name, "ratelimit-policy"))
			continue;
		tb_retry_skip(&cursor);
		do
		{
			size_t		length = name->source.end - name->source.at;

			if (!read_quota(&cursor, &policy))
				break;
			if (policy.has_w &&
				(size_t) (policy.name.source.end - policy.name.source.at) == length &&
				memcmp(policy.name.source.at, name->source.at, length) == 0)
			{
				*window_ms = policy.w;
				return true;
			}
		} while (more_quotas(&cursor, &malformed));
	}
	return false;
}

/*
 * A RateLimit header.  If any of it is malformed none of it counts: so says the
 * draft, after RFC 9651 4.2.
 */
static void
structured(const RetryHeader *header, const RetryHeader *headers, size_t count,
		   Search *search)
{
	RetryText	cursor = header->value;
	Search		own = {search->now_ms, false, 0};
	Quota		quota = {0};
	bool		malformed = false;

	tb_retry_skip(&cursor);
	do
	{
		int64_t		window_ms;

		if (!read_quota(&cursor, &quota))
			return;
		if (!quota.has_r || quota.r != 0)
			continue;
		if (quota.has_t)
			found_longer(&own, quota.t);
		else if (quota.name.source.at != NULL &&
				 window_of(&quota.name, headers, count, &window_ms))
			found_longer(&own, window_ms);
	} while (more_quotas(&cursor, &malformed));
	if (own.found && !malformed)
		found_longer(search, own.wait_ms);
}

/* ---- all of them */

/* Allowances that are used up; or, behind a 429, when any is renewed */
static void
allowances(const RetryHeader *headers, size_t count, int status, Search *search)
{
	Bucket		buckets[MAX_BUCKETS];
	int			used = gather(headers, count, buckets);
	Search		renewal = {search->now_ms, false, 0};

	for (size_t i = 0; i < count; i++)
	{
		if (is(headers[i].name, "ratelimit"))
			structured(&headers[i], headers, count, search);
	}
	for (int b = 0; b < used; b++)
	{
		Search		one = {search->now_ms, false, 0};

		if (buckets[b].reset == NULL)
			continue;
		if (buckets[b].remaining != NULL && judge(&buckets[b], search))
			continue;
		longest_of(buckets[b].reset, buckets[b].unit, &one);
		if (one.found)
			found_shorter(&renewal, one.wait_ms);
	}
	if (!search->found && renewal.found &&
		(status == TOO_MANY_REQUESTS || status == UNAVAILABLE))
		*search = renewal;
}

/*
 * tb_retry_after
 *		How long to wait before the next request, in milliseconds; false if the
 *		headers say nothing about that.  More than a day is cut to one, and said
 *		to have been.
 */
bool
tb_retry_after(const RetryHeader *headers, size_t count, int status, int64_t now_ms,
			   int64_t *wait_ms, bool *capped)
{
	Search		search = {now_ms, false, 0};

	named(headers, count, "retry-after-ms", RETRY_MILLISECONDS, &search);
	if (!search.found)
		named(headers, count, "x-ms-retry-after-ms", RETRY_MILLISECONDS, &search);
	if (!search.found)
		named(headers, count, "retry-after", RETRY_SECONDS, &search);
	if (!search.found)
		allowances(headers, count, status, &search);
	for (size_t i = 0; !search.found && status == TOO_MANY_REQUESTS && i < count; i++)
	{
		if (is(headers[i].name, "x-github-request-id"))
			found_longer(&search, 60000);
	}
	if (!search.found)
		return false;
	*capped = search.wait_ms > TB_MAX_RETRY_MS;
	*wait_ms = *capped ? TB_MAX_RETRY_MS : search.wait_ms;
	return true;
}
