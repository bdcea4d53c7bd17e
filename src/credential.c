/*
 * credential.c
 *	  Secrets that tell by what stands before them: Authorization headers, passwords
 *	  in URLs, private keys in PEM; values of names are in named_value.c.
 */
#include "word.h"

/* As long as the base64 of a name and a password may be */
#define BASIC_LOOK 160

/* Tokens that have no name of their own are at least as long */
#define LEAST_TOKEN 16
#define LEAST_CREDENTIALS 12

#define TOKEN (TB_KEY | TB_DOT | TB_BASE64)

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
	return tb_is_word(s, length, "bearer") || tb_is_word(s, length, "basic") ||
		tb_is_word(s, length, "token") || tb_is_word(s, length, "apikey") ||
		tb_is_word(s, length, "key") || tb_is_word(s, length, "negotiate");
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
		else if (c == '%' && tb_at(word, i + 1) == '2' && tb_at(word, i + 2) == '0')
			i += 2;
		else if (c != '"' && c != '\'' && c != '\\' && !tb_is(c, TB_SPACE))
			break;
	}
	return i;
}

static size_t
skip_to_credentials(const Word *word, size_t i)
{
	if (tb_at(word, i) == '%' && tb_at(word, i + 1) == '2' && tb_at(word, i + 2) == '0')
		return i + 3;
	if (tb_at(word, i) == '+')
		return i + 1;
	return tb_skip_blanks(word, i);
}

/* The word is Authorization */
static bool
is_authorization(const Word *word, size_t *start, size_t *end)
{
	bool		parted;
	size_t		scheme = skip_to_value(word, word->end, &parted);
	size_t		scheme_end = tb_short_run(word, scheme, TB_KEY, TB_LOOK);
	size_t		length;

	if (!parted || scheme == scheme_end)
		return false;
	if (sends_secret(word->bytes + scheme, scheme_end - scheme))
	{
		*start = skip_to_credentials(word, scheme_end);
		*end = tb_short_run(word, *start, TOKEN, TB_LOOK);
		length = *end - *start;
		if (*start == scheme_end ||
			(length < LEAST_CREDENTIALS && !tb_is_varied(word->bytes + *start, length)))
			return false;
	}
	else
	{
		/* the key itself, as some vendors have it */
		*start = scheme;
		*end = tb_short_run(word, scheme, TOKEN, TB_LOOK);
		length = *end - *start;
		if (length < LEAST_TOKEN || !tb_is_varied(word->bytes + *start, length))
			return false;
		/* and nothing else: what follows would be parameters of a scheme */
		*end = tb_run(word, *end, TOKEN);
		return *end == word->length || strchr("\"'\\,;\r\n)}]<&", word->bytes[*end]) != NULL;
	}
	*end = tb_run(word, *end, TOKEN);
	return tb_at(word, *end) != '*';
}

/* Bearer or Basic, and its credentials, wherever they stand */
static bool
is_scheme(const Word *word, bool basic, size_t *start, size_t *end)
{
	size_t		length;

	*start = skip_to_credentials(word, word->end);
	if (*start == word->end)
		return false;
	*end = tb_short_run(word, *start, TOKEN, basic ? BASIC_LOOK : TB_LOOK);
	length = *end - *start;
	if (basic ? !is_user_and_password(word->bytes + *start, length) :
		(length < LEAST_TOKEN && !(length >= 4 && tb_is_cut_off(word, *end))) ||
		!tb_is_varied(word->bytes + *start, length))
		return false;
	*end = tb_run(word, *end, TOKEN);
	/* of what has a mask in it, the rest was not found either */
	return tb_at(word, *end) != '*';
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
	while (i < word->length && i - label < TB_LOOK &&
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
	return i - *start >= TB_LEAST_SECRET;
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
	char		next = tb_at(word, word->end);

	if (length == 5 && memcmp(s, "BEGIN", 5) == 0)
		return is_pem(word, start, end);
	if (next == ':' && tb_at(word, word->end + 1) == '/' && tb_at(word, word->end + 2) == '/')
		return is_url(word, start, end);
	if (length == 6 && tb_is_word(s, length, "bearer"))
		return is_scheme(word, false, start, end);
	if (length == 5 && tb_is_word(s, length, "basic"))
		return is_scheme(word, true, start, end);
	if (length == 13 && tb_is_word(s, length, "authorization"))
		return is_authorization(word, start, end);
	return tb_named_value_at(word, start, end);
}
