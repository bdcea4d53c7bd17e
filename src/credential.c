/*
 * credential.c
 *	  Secrets that tell by what stands before them: Authorization headers, values
 *	  of names such as api_key and password, passwords in URLs, private keys in PEM.
 */
#include "redactor.h"

#include <string.h>

/* The longest look at what then is no secret */
#define LOOK 64
#define BASIC_LOOK 160

/* Tokens and values that have no name of their own are at least as long */
#define LEAST_TOKEN 16
#define LEAST_VALUE 6
#define LEAST_BARE 3
#define LEAST_CREDENTIALS 12

#define TOKEN (TB_KEY | TB_DOT | TB_BASE64)

static inline char
lower(char c)
{
	return tb_is(c, TB_UPPER) ? (char) (c + ('a' - 'A')) : c;
}

/* Whether length bytes are this word, which is in lower case, in any case */
static bool
is_word(const char *s, size_t length, const char *other)
{
	if (strlen(other) != length)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (lower(s[i]) != other[i])
			return false;
	}
	return true;
}

/* A character at a place, or none behind the end */
static inline char
at(const Word *word, size_t i)
{
	return i < word->length ? word->bytes[i] : '\0';
}

/* Behind some blanks, but not behind many */
static size_t
skip_blanks(const Word *word, size_t i)
{
	for (int n = 0; n < 8 && i < word->length && tb_is(word->bytes[i], TB_SPACE); n++)
		i++;
	return i;
}

/* ---- Authorization, RFC 9110 11.6.2 */

static int
sextet(char c)
{
	if (tb_is(c, TB_UPPER))
		return c - 'A';
	if (tb_is(c, TB_LOWER))
		return c - 'a' + 26;
	if (tb_is(c, TB_DIGIT))
		return c - '0' + 52;
	return c == '+' || c == '-' ? 62 : 63;
}

/*
 * Whether base64 is that of a name, a colon and a password (RFC 7617): "Basic
 * knowledge" is text.
 */
static bool
is_user_and_password(const char *s, size_t length)
{
	unsigned int bits = 0;
	int			count = 0;
	bool		colon = false;

	if (length < 6)
		return false;
	for (size_t i = 0; i < length && s[i] != '='; i++)
	{
		bits = (bits << 6 | (unsigned int) sextet(s[i])) & 0xFFFF;
		count += 6;
		if (count >= 8)
		{
			unsigned int byte = (bits >> (count - 8)) & 0xFF;

			count -= 8;
			if (byte < ' ' || byte == 0x7F)
				return false;
			colon = colon || byte == ':';
		}
	}
	return colon;
}

/* Schemes whose credentials are a secret; others send what is made with one */
static bool
sends_secret(const char *s, size_t length)
{
	return is_word(s, length, "bearer") || is_word(s, length, "basic") ||
		is_word(s, length, "token") || is_word(s, length, "apikey") ||
		is_word(s, length, "key") || is_word(s, length, "negotiate");
}

/* Behind what parts a name from its value: quotes, blanks, = : => , */
static size_t
skip_to_value(const Word *word, size_t i, bool *parted)
{
	*parted = false;
	for (int n = 0; n < 12 && i < word->length; n++, i++)
	{
		char		c = word->bytes[i];

		if (c == '=' || c == ':' || c == ',' || c == '>')
			*parted = true;
		else if (c == '%' && at(word, i + 1) == '2' && at(word, i + 2) == '0')
			i += 2;
		else if (c != '"' && c != '\'' && c != '\\' && !tb_is(c, TB_SPACE))
			break;
	}
	return i;
}

/* As tb_run(), but no further than a look */
static size_t
short_run(const Word *word, size_t i, unsigned char classes, size_t look)
{
	size_t		start = i;

	while (i < word->length && i - start < look && tb_is(word->bytes[i], classes))
		i++;
	return i;
}

/* Behind the blanks between a scheme and its credentials, also in a URL */
static size_t
skip_to_credentials(const Word *word, size_t i)
{
	if (at(word, i) == '%' && at(word, i + 1) == '2' && at(word, i + 2) == '0')
		return i + 3;
	if (at(word, i) == '+')
		return i + 1;
	return skip_blanks(word, i);
}

/* The word is Authorization */
static bool
is_authorization(const Word *word, size_t *start, size_t *end)
{
	bool		parted;
	size_t		scheme = skip_to_value(word, word->end, &parted);
	size_t		scheme_end = short_run(word, scheme, TB_KEY, LOOK);
	size_t		length;

	if (!parted || scheme == scheme_end)
		return false;
	if (sends_secret(word->bytes + scheme, scheme_end - scheme))
	{
		*start = skip_to_credentials(word, scheme_end);
		*end = short_run(word, *start, TOKEN, LOOK);
		length = *end - *start;
		if (*start == scheme_end ||
			(length < LEAST_CREDENTIALS && !tb_is_varied(word->bytes + *start, length)))
			return false;
	}
	else
	{
		/* the key itself, as some vendors have it */
		*start = scheme;
		*end = short_run(word, scheme, TOKEN, LOOK);
		length = *end - *start;
		if (length < LEAST_TOKEN || !tb_is_varied(word->bytes + *start, length))
			return false;
		/* and nothing else: what follows would be parameters of a scheme */
		*end = tb_run(word, *end, TOKEN);
		return *end == word->length || strchr("\"'\\,;\r\n)}]<&", word->bytes[*end]) != NULL;
	}
	*end = tb_run(word, *end, TOKEN);
	return at(word, *end) != '*';
}

/* Bearer or Basic, and its credentials, wherever they stand */
static bool
is_scheme(const Word *word, bool basic, size_t *start, size_t *end)
{
	size_t		length;

	*start = skip_to_credentials(word, word->end);
	if (*start == word->end)
		return false;
	*end = short_run(word, *start, TOKEN, basic ? BASIC_LOOK : LOOK);
	length = *end - *start;
	if (basic ? !is_user_and_password(word->bytes + *start, length) :
		(length < LEAST_TOKEN && !(length >= 4 && tb_is_cut_off(word, *end))) ||
		!tb_is_varied(word->bytes + *start, length))
		return false;
	*end = tb_run(word, *end, TOKEN);
	/* of what has a mask in it, the rest was not found either */
	return at(word, *end) != '*';
}

/* ---- values of names */

/* Where a name's value may stand */
typedef enum Place
{
	ANYWHERE,
	IN_QUERY					/* of a URL */
} Place;

#define NAMED(name, place) {name, sizeof(name) - 1, place}

/*
 * Names end so: api_key, X-API-Key and OPENAI_API_KEY are all apikey.  Dashes and
 * underscores do not count.  Those of a query are the whole of it.
 */
static const struct
{
	const char *name;
	unsigned char length;
	Place		place;
}			names[] = {

	NAMED("password", ANYWHERE),
	NAMED("passwd", ANYWHERE),
	NAMED("passphrase", ANYWHERE),
	NAMED("apikey", ANYWHERE),
	NAMED("apitoken", ANYWHERE),
	NAMED("apisecret", ANYWHERE),
	NAMED("appsecret", ANYWHERE),
	NAMED("accesskey", ANYWHERE),
	NAMED("accesskeysecret", ANYWHERE),
	NAMED("accesstoken", ANYWHERE),
	NAMED("authtoken", ANYWHERE),
	NAMED("bearertoken", ANYWHERE),
	NAMED("clientsecret", ANYWHERE),
	NAMED("clientassertion", ANYWHERE),
	NAMED("devicecode", ANYWHERE),
	NAMED("encryptionkey", ANYWHERE),
	NAMED("idtoken", ANYWHERE),
	NAMED("masterkey", ANYWHERE),
	NAMED("privatekey", ANYWHERE),
	NAMED("privatetoken", ANYWHERE),
	NAMED("refreshtoken", ANYWHERE),
	NAMED("secretkey", ANYWHERE),
	NAMED("securitytoken", ANYWHERE),
	NAMED("sessiontoken", ANYWHERE),
	NAMED("signingkey", ANYWHERE),
	NAMED("subscriptionkey", ANYWHERE),
	NAMED("webhooksecret", ANYWHERE),
	NAMED("auth", IN_QUERY),
	NAMED("pass", IN_QUERY),
	NAMED("pwd", IN_QUERY),
	NAMED("secret", IN_QUERY),
	NAMED("sig", IN_QUERY),
	NAMED("signature", IN_QUERY),
	NAMED("token", IN_QUERY),
	NAMED("xamzsignature", IN_QUERY),
	NAMED("xgoogsignature", IN_QUERY),
};

#define NAMES (sizeof(names) / sizeof(names[0]))
#define MAX_NAME 16
#define MAX_RAW 40

typedef struct Name
{
	size_t		start;			/* of the whole name, dashes and all */
	bool		dashed;			/* has a dash: of a header */
} Name;

/* Whether what follows the word could be a value's beginning; hardly any word's is */
static bool
may_have_value(const Word *word)
{
	char		next = at(word, word->end);

	if (tb_is(next, TB_SPACE))
	{
		next = at(word, skip_blanks(word, word->end));
		return next == '=' || next == ':' || next == '\'' || next == '$' ||
			next == 'E' || next == 'e';
	}
	return next == '=' || next == ':' || next == '"' || next == '\'' ||
		next == '\\' || next == ')';
}

/* Whether the word is the end of one of those names */
static bool
is_name(const Word *word, Name *name, Place *place)
{
	char		reversed[MAX_NAME];
	size_t		length = 0;
	size_t		i = word->end;

	/* how all of them end */
	if (strchr("dyentsgh", lower(word->bytes[i - 1])) == NULL)
		return false;
	name->dashed = false;
	while (i > word->floor && word->end - i < MAX_RAW && tb_is(word->bytes[i - 1], TB_KEY))
	{
		char		c = word->bytes[--i];

		name->dashed = name->dashed || c == '-';
		if (tb_is(c, TB_ALNUM) && length < MAX_NAME)
			reversed[length++] = lower(c);
	}
	name->start = i;
	for (size_t n = 0; n < NAMES; n++)
	{
		size_t		wanted = names[n].length;
		bool		same = wanted <= length;

		for (size_t j = 0; same && j < wanted; j++)
			same = reversed[j] == names[n].name[wanted - 1 - j];
		if (same && (names[n].place == ANYWHERE || wanted == length))
		{
			*place = names[n].place;
			return true;
		}
	}
	return false;
}

/*
 * The end of a quotation that begins at i, and where its inside begins and ends.
 * Single quotes in one are doubled in SQL, other quotes are escaped in JSON; in
 * JSON within JSON, the quotes themselves are.  One that does not end goes to the
 * end of the text: it may have been cut off.
 */
static bool
read_quoted(const Word *word, size_t i, size_t *start, size_t *end)
{
	size_t		escapes = 0;
	bool		escaping;
	char		quote;

	while (escapes < 4 && at(word, i) == '\\')
	{
		escapes++;
		i++;
	}
	quote = at(word, i);
	if (quote != '\'' && quote != '"')
		return false;
	escaping = quote == '"' || (i > word->floor && lower(word->bytes[i - 1]) == 'e');
	*start = ++i;
	for (; i < word->length; i++)
	{
		char		c = word->bytes[i];

		if (c == '\\' && escapes > 0)
			break;
		if (c == '\\' && escaping && i + 1 < word->length)
			i++;
		else if (c == quote && quote == '\'' && escapes == 0 && at(word, i + 1) == quote)
			i++;
		else if (c == quote)
			break;
	}
	*end = i;
	return true;
}

/* The same of one between two $tag$ */
static bool
read_dollar_quoted(const Word *word, size_t i, size_t *start, size_t *end)
{
	size_t		tag = i;
	size_t		length;

	if (at(word, i) != '$' || tb_is(at(word, i + 1), TB_DIGIT))
		return false;
	i++;
	while (i < word->length && i - tag < LOOK && tb_is(word->bytes[i], TB_ALNUM))
		i++;
	if (at(word, i) != '$')
		return false;
	length = ++i - tag;
	*start = i;
	while (i < word->length &&
		   !(word->length - i >= length && memcmp(word->bytes + i, word->bytes + tag, length) == 0))
		i++;
	*end = i;
	return i - *start >= LEAST_BARE;
}

/*
 * A value that is not quoted: to the next blank or quote, or what parts it from
 * the next in a query or in a list.  Brackets and full stops at its end are of the
 * text around it.
 */
static bool
read_bare(const Word *word, size_t i, bool in_query, size_t *start, size_t *end)
{
	*start = i;
	for (; i < word->length; i++)
	{
		char		c = word->bytes[i];

		if ((unsigned char) c <= ' ' || c == '"' || c == '\'' || c == '`' ||
			c == '<' || c == '>' || c == ';' || (in_query && (c == '&' || c == '#')) ||
			(c == ',' && (unsigned char) at(word, i + 1) <= ' '))
			break;
		/* a private key has blanks in it; it is masked as one */
		if (c == '-' && word->length - i > 10 && memcmp(word->bytes + i, "-----BEGIN", 10) == 0)
			break;
	}
	while (i > *start && strchr(")]},.\\", word->bytes[i - 1]) != NULL)
		i--;
	*end = i;
	return i - *start >= LEAST_BARE;
}

/* The first argument of a function, if it is quoted: crypt('...', ...) */
static bool
read_argument(const Word *word, size_t i, size_t *start, size_t *end)
{
	size_t		name = i;

	i = short_run(word, i, TB_KEY | TB_DOT, LOOK);
	return i > name && at(word, i) == '(' && read_quoted(word, i + 1, start, end);
}

/* What is written where there is no value */
static bool
is_no_value(const Word *word, size_t start, size_t end)
{
	static const char *const words[] = {"null", "none", "nil", "true", "false", "on", "off", "undefined", "?", "%s"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
	{
		if (is_word(word->bytes + start, end - start, words[i]))
			return true;
	}
	return false;
}

/* Whether the name stands in the query of a URL or in a form */
static bool
is_in_query(const Word *word, const Name *name)
{
	char		before = tb_before(word, name->start);

	return before == '?' || before == '&' || before == ';';
}

/* The value in "Key (password)=(...) already exists" of PostgreSQL */
static bool
is_key_value(const Word *word, size_t *start, size_t *end)
{
	size_t		i = word->end;

	if (at(word, i) != ')' || at(word, i + 1) != '=' || at(word, i + 2) != '(')
		return false;
	*start = *end = i + 3;
	while (*end < word->length && word->bytes[*end] != ')')
		(*end)++;
	return true;
}

/* Where the value of a name begins, and what parts it from that; '\0' if nothing */
static char
find_value(const Word *word, const Name *name, size_t *value, bool *touches)
{
	size_t		i = word->end;
	bool		quoted;
	char		parted;

	while (at(word, i) == '\\' && i - word->end < 4)
		i++;
	quoted = at(word, i) == '"' || at(word, i) == '\'';
	i = quoted ? i + 1 : word->end;
	*value = skip_blanks(word, i);
	parted = at(word, *value);
	if (parted == '=' || parted == ':' || (parted == ',' && quoted && name->dashed))
	{
		i = *value + 1;
		if (at(word, i) == '>')
			i++;
		else if (at(word, i) == parted)
			return '\0';
		*value = skip_blanks(word, i);
	}
	/* PASSWORD '...' of SQL */
	else if (*value > i && !quoted &&
			 is_word(word->bytes + word->start, word->end - word->start, "password"))
		parted = ' ';
	else
		return '\0';
	*touches = *value == i;
	return parted;
}

/*
 * The value of a name that ends with the word.  A quoted one may have blanks
 * before it; a bare one has to touch its =, or to look like a key behind a colon:
 * password = excluded.password is a statement and shows nothing.
 */
static bool
is_value(const Word *word, size_t *start, size_t *end)
{
	Name		name;
	Place		place;
	size_t		value;
	size_t		look;
	bool		touches;
	char		parted;

	if (!may_have_value(word) || !is_name(word, &name, &place))
		return false;
	if (place == IN_QUERY)
		return at(word, word->end) == '=' && is_in_query(word, &name) &&
			read_bare(word, word->end + 1, true, start, end) &&
			*end - *start >= LEAST_VALUE && !is_no_value(word, *start, *end);
	if (is_key_value(word, start, end))
		return !is_no_value(word, *start, *end);
	parted = find_value(word, &name, &value, &touches);
	if (parted == '\0' || (parted == ' ' && at(word, value) == '"'))
		return false;

	if (lower(at(word, value)) == 'e' && at(word, value + 1) == '\'')
		value++;
	if (read_quoted(word, value, start, end) ||
		read_dollar_quoted(word, value, start, end) ||
		(parted == '=' && read_argument(word, value, start, end)))
		return !is_no_value(word, *start, *end);
	/* $1 of a statement */
	if (parted == ' ' || parted == ',' ||
		(at(word, value) == '$' && tb_is(at(word, value + 1), TB_DIGIT)) ||
		!read_bare(word, value, is_in_query(word, &name), start, end) ||
		is_no_value(word, *start, *end))
		return false;
	if (touches)
		return true;
	look = *end - *start < LOOK ? *end - *start : LOOK;
	return parted == ':' && look >= LEAST_VALUE &&
		memchr(word->bytes + *start, '*', look) == NULL &&
		tb_is_varied(word->bytes + *start, look);
}

/* ---- URLs */

/*
 * Whether there is a mask in it, and more than that: a quotation in which there
 * was what ends a URL may be left of it.
 */
static bool
has_mask(const Word *word, size_t start, size_t end)
{
	size_t		stars = 0;
	bool		masked = false;

	for (size_t i = start; i < end; i++)
	{
		stars = word->bytes[i] == '*' ? stars + 1 : 0;
		masked = masked || stars == 3;
	}
	return masked && end - start > 3;
}

/*
 * The password in scheme://user:password@host (RFC 3986 3.2.1).  As libpq reads
 * it, only / ends the part in which it stands; what else should have been
 * percent-encoded may be in it, @ as well.  But not a mask, nor in the name of the
 * user, which may only be one: there was something else where it stands, which could
 * have ended all this, and what is behind it, an @ maybe, may be a part of it next time.
 */
static bool
is_url(const Word *word, size_t *start, size_t *end)
{
	size_t		colon = 0;
	size_t		host = 0;
	size_t		stars = 0;
	size_t		letter = word->start;

	/* a scheme is no number, nor what is left of one that was masked */
	while (letter < word->end && tb_is(word->bytes[letter], TB_DIGIT))
		letter++;
	if (letter == word->end)
		return false;
	for (size_t i = word->end + 3; i < word->length; i++)
	{
		char		c = word->bytes[i];

		if ((unsigned char) c <= ' ' || c == '/' || c == '"' || c == '\'' ||
			c == '<' || c == '>' || c == '`' || c == '\\')
			break;
		stars = c == '*' ? stars + 1 : 0;
		if (stars == 3 && (colon == 0 ? i != word->end + 5 : host > colon))
			break;
		if (c == ':' && colon == 0)
			colon = i;
		else if (c == '@')
			host = i;
	}
	*start = colon + 1;
	*end = host;
	return colon > 0 && host > *start && !has_mask(word, *start, *end);
}

/* ---- PEM, RFC 7468 */

/* Whether the words that end the label of a private key begin here, encoded or not. */
static bool
is_private_key(const Word *word, size_t i)
{
	static const char *const labels[] = {"PRIVATE KEY", "PRIVATE%20KEY", "PRIVATE+KEY"};

	for (int n = 0; n < 3; n++)
	{
		size_t		length = strlen(labels[n]);

		if (word->length - i > length && memcmp(word->bytes + i, labels[n], length) == 0)
			return true;
	}
	return false;
}

/*
 * What is between the lines around a private key; to the end of the text or to a
 * quote if the second of them is missing.  In a URL or a form their blanks are
 * encoded.
 */
static bool
is_pem(const Word *word, size_t *start, size_t *end)
{
	size_t		label = word->end;
	size_t		i = label;
	bool		private = false;

	if (word->start - word->floor < 5 || memcmp(word->bytes + word->start - 5, "-----", 5) != 0)
		return false;
	while (i < word->length && i - label < LOOK &&
		   (tb_is(word->bytes[i], TB_UPPER | TB_DIGIT) ||
			(word->bytes[i] != '\0' && strchr(" %+", word->bytes[i]) != NULL)))
	{
		private = private || is_private_key(word, i);
		i++;
	}
	if (!private || word->length - i < 5 || memcmp(word->bytes + i, "-----", 5) != 0)
		return false;
	*start = i += 5;
	while (i < word->length && word->bytes[i] != '\'' && word->bytes[i] != '"' &&
		   !(word->length - i >= 5 && memcmp(word->bytes + i, "-----", 5) == 0))
		i++;
	*end = i;
	return i - *start >= LEAST_BARE;
}

/* ---- all of them */

/*
 * tb_credential_at
 *		Whether a word announces a secret; what is to be masked, or has been.
 */
bool
tb_credential_at(const Word *word, size_t *start, size_t *end)
{
	const char *s = word->bytes + word->start;
	size_t		length = word->end - word->start;
	char		next = at(word, word->end);

	if (length == 5 && memcmp(s, "BEGIN", 5) == 0)
		return is_pem(word, start, end);
	if (next == ':' && at(word, word->end + 1) == '/' && at(word, word->end + 2) == '/')
		return is_url(word, start, end);
	if (length == 6 && is_word(s, length, "bearer"))
		return is_scheme(word, false, start, end);
	if (length == 5 && is_word(s, length, "basic"))
		return is_scheme(word, true, start, end);
	if (length == 13 && is_word(s, length, "authorization"))
		return is_authorization(word, start, end);
	return is_value(word, start, end);
}
