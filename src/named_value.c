/*
 * named_value.c
 *	  Secrets that are the value of a name, such as api_key and password, whatever
 *	  they look like.
 */
#include "word.h"

/* A value without quotes is at least as long, but where its name tells enough */
#define LEAST_VALUE 6

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
	NAMED("dbpass", ANYWHERE),
	NAMED("dbpwd", ANYWHERE),
	NAMED("clientassertion", ANYWHERE),
	NAMED("devicecode", ANYWHERE),
	NAMED("encryptionkey", ANYWHERE),
	NAMED("idtoken", ANYWHERE),
	NAMED("masterkey", ANYWHERE),
	NAMED("mysqlpwd", ANYWHERE),
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
	bool		compound;		/* has a dash, of a header, or a dot before
								 * it, of a setting */
} Name;

/* Whether what follows the word could be a value's beginning; hardly any word's is */
static bool
may_have_value(const Word *word)
{
	char		next = tb_at(word, word->end);

	if (tb_is(next, TB_SPACE))
	{
		next = tb_at(word, tb_skip_blanks(word, word->end));
		return next == '=' || next == ':' || next == '\'' || next == '$' ||
			next == 'E' || next == 'e' || next == 'U' || next == 'u';
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
	if (strchr("dyentsgh", tb_lower(word->bytes[i - 1])) == NULL)
		return false;
	name->compound = false;
	while (i > word->floor && word->end - i < MAX_RAW && tb_is(word->bytes[i - 1], TB_KEY))
	{
		char		c = word->bytes[--i];

		name->compound = name->compound || c == '-';
		if (tb_is(c, TB_ALNUM) && length < MAX_NAME)
			reversed[length++] = tb_lower(c);
	}
	name->start = i;
	name->compound = name->compound || tb_before(word, i) == '.';
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

/* Behind the E of E'...' and the U& of U&'...' */
static size_t
skip_prefix(const Word *word, size_t i)
{
	char		c = tb_lower(tb_at(word, i));

	if (c == 'e' && tb_at(word, i + 1) == '\'')
		return i + 1;
	if (c == 'u' && tb_at(word, i + 1) == '&' && tb_at(word, i + 2) == '\'')
		return i + 2;
	return i;
}

/*
 * Whether the quote at i is one that stands in a literal of SQL, and so twice, as in
 * CONNECTION 'host=h password=''a b'''.  Where a literal is just empty, what comes
 * next is something else.
 */
static bool
is_doubled(const Word *word, size_t i)
{
	char		next = tb_at(word, i + 2);

	return tb_at(word, i) == '\'' && tb_at(word, i + 1) == '\'' &&
		(unsigned char) next > ' ' && strchr("'\",;)", next) == NULL;
}

/* The end of what begins behind such quotes: the next quotes, but for \'' */
static size_t
skip_doubled(const Word *word, size_t i)
{
	while (i < word->length && word->bytes[i] != '\'')
	{
		bool		escaping = word->bytes[i] == '\\';

		i++;
		if (escaping && tb_at(word, i) == '\'' && tb_at(word, i + 1) == '\'')
			i += 2;
		else if (escaping && i < word->length)
			i++;
	}
	return i;
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

	while (escapes < 4 && tb_at(word, i) == '\\')
	{
		escapes++;
		i++;
	}
	quote = tb_at(word, i);
	if (quote != '\'' && quote != '"')
		return false;
	if (escapes == 0 && is_doubled(word, i))
	{
		*start = i + 2;
		*end = skip_doubled(word, *start);
		return true;
	}
	escaping = quote == '"' || (i > word->floor && tb_lower(word->bytes[i - 1]) == 'e');
	*start = ++i;
	for (; i < word->length; i++)
	{
		char		c = word->bytes[i];

		if (c == '\\' && escapes > 0)
			break;
		if (c == '\\' && escaping && i + 1 < word->length)
			i++;
		else if (c == quote && quote == '\'' && escapes == 0 && tb_at(word, i + 1) == quote)
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

	if (tb_at(word, i) != '$' || tb_is(tb_at(word, i + 1), TB_DIGIT))
		return false;
	i++;
	while (i < word->length && i - tag < TB_LOOK && tb_is(word->bytes[i], TB_ALNUM))
		i++;
	if (tb_at(word, i) != '$')
		return false;
	length = ++i - tag;
	*start = i;
	while (i < word->length &&
		   !(word->length - i >= length && memcmp(word->bytes + i, word->bytes + tag, length) == 0))
		i++;
	*end = i;
	return i - *start >= TB_LEAST_SECRET;
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
			(c == ',' && (unsigned char) tb_at(word, i + 1) <= ' '))
			break;
		/* a private key has blanks in it; it is masked as one */
		if (c == '-' && word->length - i > 10 && memcmp(word->bytes + i, "-----BEGIN", 10) == 0)
			break;
	}
	while (i > *start && strchr(")]},.\\", word->bytes[i - 1]) != NULL)
		i--;
	*end = i;
	return i - *start >= TB_LEAST_SECRET;
}

/* The first argument of a function, if it is quoted: crypt('...', ...) */
static bool
read_argument(const Word *word, size_t i, size_t *start, size_t *end)
{
	size_t		name = i;

	i = tb_short_run(word, i, TB_KEY | TB_DOT, TB_LOOK);
	return i > name && tb_at(word, i) == '(' && read_quoted(word, i + 1, start, end);
}

/* What is written where there is no value */
static bool
is_no_value(const Word *word, size_t start, size_t end)
{
	static const char *const words[] = {"null", "none", "nil", "true", "false", "on", "off", "undefined", "?", "%s"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
	{
		if (tb_is_word(word->bytes + start, end - start, words[i]))
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

	if (tb_at(word, i) != ')' || tb_at(word, i + 1) != '=' || tb_at(word, i + 2) != '(')
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

	while (tb_at(word, i) == '\\' && i - word->end < 4)
		i++;
	quoted = tb_at(word, i) == '"' || tb_at(word, i) == '\'';
	i = quoted ? i + 1 : word->end;
	*value = tb_skip_blanks(word, i);
	parted = tb_at(word, *value);
	if (parted == '=' || parted == ':' || (parted == ',' && quoted && name->compound))
	{
		i = *value + 1;
		if (tb_at(word, i) == '>')
			i++;
		else if (tb_at(word, i) == parted)
			return '\0';
		*value = tb_skip_blanks(word, i);
	}
	/* PASSWORD '...' of SQL */
	else if (*value > i && !quoted &&
			 tb_is_word(word->bytes + word->start, word->end - word->start, "password"))
		parted = ' ';
	else
		return '\0';
	*touches = *value == i;
	return parted;
}

/*
 * tb_named_value_at
 *		Whether there is the value of a name that ends with the word; what is to be
 *		masked, or has been.
 *
 * A quoted one may have blanks before it; a bare one has to touch its =, or to look
 * like a key behind a colon: password = excluded.password is a statement and shows
 * nothing.
 */
bool
tb_named_value_at(const Word *word, size_t *start, size_t *end)
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
		return tb_at(word, word->end) == '=' && is_in_query(word, &name) &&
			read_bare(word, word->end + 1, true, start, end) &&
			*end - *start >= LEAST_VALUE && !is_no_value(word, *start, *end);
	if (is_key_value(word, start, end))
		return !is_no_value(word, *start, *end);
	parted = find_value(word, &name, &value, &touches);
	if (parted == '\0' || (parted == ' ' && tb_at(word, value) == '"'))
		return false;

	value = skip_prefix(word, value);
	if (read_quoted(word, value, start, end) ||
		read_dollar_quoted(word, value, start, end) ||
		(parted == '=' && read_argument(word, value, start, end)))
		return !is_no_value(word, *start, *end);
	/* $1 of a statement */
	if (parted == ' ' || parted == ',' ||
		(tb_at(word, value) == '$' && tb_is(tb_at(word, value + 1), TB_DIGIT)) ||
		!read_bare(word, value, is_in_query(word, &name), start, end) ||
		is_no_value(word, *start, *end))
		return false;
	if (touches)
		return true;
	look = *end - *start < TB_LOOK ? *end - *start : TB_LOOK;
	return parted == ':' && look >= LEAST_VALUE &&
		memchr(word->bytes + *start, '*', look) == NULL &&
		tb_is_varied(word->bytes + *start, look);
}
