/*
 * error_body.c
 *	  The body of an answer that failed, whatever it is, and what lies where in it.
 *
 * JSON is read by jansson, unless it is nested deeper than any error is: the
 * parser calls itself for each level, on the stack of a server's session.  What
 * only one strange byte would keep it from reading is mended first: bytes that
 * are not UTF-8, escapes of half a surrogate or of NUL, raw control characters,
 * and numbers that fit nowhere, for an error is known by its words.  Money is
 * never taken from here.
 * A form, as OAuth's oldest servers send it, is an object of strings; anything
 * else is one string.
 */
#include "error_body.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ascii.h"

/* What is no JSON is looked at so far */
#define LONGEST_TEXT 4096

/* A form has no more fields, a path no more steps */
#define MAX_FIELDS 64
#define MAX_STEPS 12

/* Nor is an error nested as deep as this */
#define MAX_DEPTH 500

/* Longer numbers, and those with an exponent, are mended: 18 digits fit anywhere */
#define MAX_DIGITS 18

/* ---- what keeps a body from being read */

/* The bytes of the UTF-8 character that begins here (RFC 3629); 0: it is none */
static size_t
character_length(const unsigned char *at, const unsigned char *end)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t		length = *at < 0x80 ? 1 : *at < 0xc0 ? 0 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 :
		*at < 0xf8 ? 4 : 0;
	uint32_t	code;

	if (length <= 1)
		return length;
	if ((size_t) (end - at) < length)
		return 0;
	code = *at & (0x7f >> length);
	for (size_t i = 1; i < length; i++)
	{
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (at[i] & 0x3f);
	}
	if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return length;
}

/* The code of \u1234, or -1 if it is not complete */
static int
escaped_unit(const char *at, const char *end)
{
	int			code = 0;

	if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++)
	{
		int			digit = tb_hex_value(at[i]);

		if (digit < 0)
			return -1;
		code = code * 16 + digit;
	}
	return code;
}

/* Mend the escape that begins here, and go behind it */
static char *
mend_escape(char *at, char *end)
{
	int			unit = escaped_unit(at, end);

	if (unit < 0)
		return at + (end - at > 1 ? 2 : 1);
	if (unit >= 0xd800 && unit <= 0xdbff)
	{
		int			second = escaped_unit(at + 6, end);

		if (second >= 0xdc00 && second <= 0xdfff)
			return at + 12;
	}
	if (unit == 0 || (unit >= 0xd800 && unit <= 0xdfff))
		memcpy(at + 2, "fffd", 4);
	return at + 6;
}

/* Mend the number that begins here, and go behind it */
static char *
mend_number(char *at, char *end)
{
	char	   *first = at;
	bool		exponent = false;

	while (at < end && (tb_is_digit(*at) || (*at != '\0' && strchr(".eE+-", *at) != NULL)))
	{
		exponent = exponent || *at == 'e' || *at == 'E';
		at++;
	}
	if (exponent || at - first > MAX_DIGITS)
	{
		memset(first, ' ', at - first);
		*first = '0';
	}
	return at;
}

/*
 * Make of bytes what a parser need not refuse for one of them; how many brackets
 * are open at once, if they are JSON
 */
static int
mend(char *at, char *end)
{
	bool		in_string = false;
	int			depth = 0;
	int			deepest = 0;

	while (at < end)
	{
		size_t		length = character_length((unsigned char *) at, (unsigned char *) end);

		if (length == 0)
			*at++ = '?';
		else if (length > 1)
			at += length;
		else if (in_string && *at == '\\')
			at = mend_escape(at, end);
		else if (!in_string && tb_is_digit(*at))
			at = mend_number(at, end);
		else
		{
			if (*at == '"')
				in_string = !in_string;
			else if ((unsigned char) *at < ' ')
				*at = ' ';
			else if (!in_string && (*at == '{' || *at == '['))
				deepest = ++depth > deepest ? depth : deepest;
			else if (!in_string && (*at == '}' || *at == ']'))
				depth--;
			at++;
		}
	}
	return deepest;
}

/* ---- what is no JSON */

/* A field of a form without its percent signs, in place; the length it has then */
static size_t
unescape_field(char *field, size_t length)
{
	size_t		kept = 0;

	for (size_t i = 0; i < length; i++)
	{
		char		c = field[i];

		if (c == '+')
			c = ' ';
		else if (c == '%' && i + 2 < length &&
				 tb_hex_value(field[i + 1]) >= 0 && tb_hex_value(field[i + 2]) >= 0)
		{
			c = (char) (tb_hex_value(field[i + 1]) * 16 + tb_hex_value(field[i + 2]));
			i += 2;
		}
		field[kept++] = c;
	}
	mend(field, field + kept);
	return kept;
}

/* Whether this is how a form begins: a name, and an equals sign */
static bool
is_form(const char *at, const char *end)
{
	const char *first = at;

	while (at < end && ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || *at == '_'))
		at++;
	if (at == first || at == end || *at != '=')
		return false;
	return memchr(at, ' ', end - at) == NULL && memchr(at, '<', end - at) == NULL;
}

static json_t *
read_form(char *at, char *end)
{
	json_t	   *object = json_pack("{}");
	int			fields = 0;

	while (object != NULL && at < end && fields++ < MAX_FIELDS)
	{
		char	   *last = memchr(at, '&', end - at);
		char	   *value;
		char		name[64];

		if (last == NULL)
			last = end;
		value = memchr(at, '=', last - at);
		if (value != NULL && value - at < (ptrdiff_t) sizeof(name))
		{
			memcpy(name, at, value - at);
			name[value - at] = '\0';
			value++;

			/*
			 * a name that is no UTF-8 or a value that there is no room for is
			 * none
			 */
			json_object_set_new(object, name,
								json_stringn(value, unescape_field(value, last - value)));
		}
		at = last < end ? last + 1 : end;
	}
	return object;
}

static json_t *
read_text(const char *at, const char *end)
{
	const char *last = at;

	/* whole characters only */
	while (last < end)
	{
		size_t		length = character_length((const unsigned char *) last,
											  (const unsigned char *) end);

		if (length == 0 || last + length - at > LONGEST_TEXT)
			break;
		last += length;
	}
	return json_stringn(at, last - at);
}

/*
 * tb_open_error_body
 *		Read a body.  It cannot fail: what cannot be read has nothing in it.
 */
void
tb_open_error_body(ErrorBody *body, const char *bytes, size_t length)
{
	char	   *copy;
	char	   *at;
	char	   *end;
	int			depth;

	body->root = NULL;
	body->is_text = false;
	body->effort = TB_ERROR_EFFORT;
	body->path = NULL;
	body->path_length = 0;
	if (length == 0 || length > TB_ERROR_BODY)
		return;
	at = copy = malloc(length);
	if (copy == NULL)
		return;
	memcpy(copy, bytes, length);
	end = copy + length;
	/* a byte order mark is none of RFC 8259, but some servers send one */
	if (length >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0)
		at += 3;
	depth = mend(at, end);
	while (at < end && *at == ' ')
		at++;
	while (end > at && end[-1] == ' ')
		end--;
	if (at < end && depth <= MAX_DEPTH)
		body->root = json_loadb(at, end - at, JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, NULL);
	if (json_is_string(body->root))
		body->is_text = true;
	else if (body->root != NULL && !json_is_object(body->root) && !json_is_array(body->root))
	{
		/* a text may begin with a number, or with null */
		json_decref(body->root);
		body->root = NULL;
	}
	if (body->root == NULL && at < end)
	{
		body->is_text = !is_form(at, end);
		body->root = body->is_text ? read_text(at, end) : read_form(at, end);
	}
	free(copy);
}

void
tb_close_error_body(ErrorBody *body)
{
	json_decref(body->root);
	body->root = NULL;
}

/* ---- what lies where */

/*
 * tb_error_glob
 *		Whether a text is like a pattern: * is any number of characters, and
 *		letters from A to Z are the same in either case.
 *
 * After the last * that was passed there is one place to go back to, so this
 * takes at most pattern times text; that is counted, and what went too far is
 * like nothing.
 */
bool
tb_error_glob(ErrorBody *body, const char *pattern, size_t pattern_length,
			  const char *text, size_t length)
{
	size_t		p = 0;
	size_t		t = 0;
	size_t		star = SIZE_MAX;
	size_t		star_text = 0;

	while (t < length)
	{
		if (--body->effort < 0)
			return false;
		if (p < pattern_length && pattern[p] == '*')
		{
			if (p + 1 == pattern_length)
				return true;
			star = p++;
			star_text = t;
		}
		else if (p < pattern_length && tb_lower(pattern[p]) == tb_lower(text[t]))
		{
			p++;
			t++;
		}
		else if (star != SIZE_MAX)
		{
			p = star + 1;
			t = ++star_text;
		}
		else
			return false;
	}
	while (p < pattern_length && pattern[p] == '*')
		p++;
	return p == pattern_length;
}

/* One of the steps of a path, from here to its dot or end */
static size_t
step_length(const char *step, const char *end)
{
	const char *dot = memchr(step, '.', end - step);

	return (dot == NULL ? end : dot) - step;
}

/* The index that a step is; false: it is none */
static bool
step_index(const char *step, size_t length, size_t *index)
{
	*index = 0;
	if (length == 0 || length > 6)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (!tb_is_digit(step[i]))
			return false;
		*index = *index * 10 + (step[i] - '0');
	}
	return true;
}

static bool
walk(ErrorBody *body, json_t *value, const char *path, const char *end, int steps,
	 ErrorVisit visit, void *state)
{
	size_t		length;
	const char *rest;
	bool		all;
	const char *key;
	json_t	   *inner;
	size_t		index;

	if (--body->effort < 0)
		return false;
	if (path == end)
		return !json_is_null(value) && visit(body, value, state);
	if (steps == MAX_STEPS)
		return false;
	length = step_length(path, end);
	rest = path + length < end ? path + length + 1 : end;
	all = memchr(path, '*', length) != NULL;
	if (json_is_array(value))
	{
		bool		one = step_index(path, length, &index);

		if (one)
			return index < json_array_size(value) &&
				walk(body, json_array_get(value, index), rest, end, steps + 1, visit, state);
		if (!all || length != 1)
			return false;
		json_array_foreach(value, index, inner)
		{
			if (walk(body, inner, rest, end, steps + 1, visit, state))
				return true;
			if (body->effort < 0)
				return false;
		}
		return false;
	}
	if (!json_is_object(value))
		return false;
	if (!all)
	{
		inner = json_object_getn(value, path, length);
		return inner != NULL && walk(body, inner, rest, end, steps + 1, visit, state);
	}
	json_object_foreach(value, key, inner)
	{
		if (tb_error_glob(body, path, length, key, strlen(key)) &&
			walk(body, inner, rest, end, steps + 1, visit, state))
			return true;
		if (body->effort < 0)
			return false;
	}
	return false;
}

/*
 * tb_visit_error_body
 *		Visit what some paths lead to, until a visit is the last; false: none was.
 *
 * Paths are separated by commas, their steps by dots.  A step is the name of a
 * member, with * for any characters, or the number of an element; * is also all
 * elements.  $ is the body itself where that is no JSON.  What is null is not
 * there.
 */
bool
tb_visit_error_body(ErrorBody *body, const char *paths, ErrorVisit visit, void *state)
{
	while (body->root != NULL && *paths != '\0')
	{
		size_t		length = strcspn(paths, ",");

		body->path = paths;
		body->path_length = length;
		if (body->is_text)
		{
			if (length == 1 && *paths == '$' && visit(body, body->root, state))
				return true;
		}
		else if (length > 0 &&
				 walk(body, body->root, paths, paths + length, 0, visit, state))
			return true;
		paths += length;
		while (*paths == ',' || *paths == ' ')
			paths++;
	}
	return false;
}
