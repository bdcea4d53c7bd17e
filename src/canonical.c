/*
 * canonical.c
 *	  The canonical form of an HTTP request, which Alibaba Cloud and Volcengine
 *	  have in common, after the model of AWS's: method, path, query, headers, names
 *	  of the headers, hash of the body, a line each.
 */
#include "canonical.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include "ascii.h"

#define MAX_PARAMETERS 100

/*
 * tb_buffer_add, tb_buffer_print
 *		Add bytes, or a string.  When there is no memory the buffer says so, and
 *		stays as it is: who uses it asks at the end.
 */
void
tb_buffer_add(Buffer *buffer, const char *data, size_t length)
{
	if (buffer->failed)
		return;
	if (buffer->length + length + 1 > buffer->room)
	{
		size_t		room = 2 * (buffer->length + length + 1);
		char	   *grown = realloc(buffer->data, room);

		if (grown == NULL)
		{
			buffer->failed = true;
			return;
		}
		buffer->data = grown;
		buffer->room = room;
	}
	memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
	buffer->data[buffer->length] = '\0';
}

void
tb_buffer_print(Buffer *buffer, const char *string)
{
	tb_buffer_add(buffer, string, strlen(string));
}

/*
 * tb_buffer_free
 *		Give its memory back; it can be used again.
 */
void
tb_buffer_free(Buffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}

/*
 * tb_print_digest
 *		Print 32 bytes as 64 hexadecimal digits, with a NUL behind them.
 */
void
tb_print_digest(const unsigned char *digest, char *digits)
{
	for (int i = 0; i < TB_DIGEST_BYTES; i++)
		snprintf(digits + 2 * i, 3, "%02x", digest[i]);
}

/*
 * tb_sha256
 *		SHA-256, in digits; false if OpenSSL cannot.
 */
bool
tb_sha256(const char *data, size_t length, char *digits)
{
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (EVP_Digest(data, length, digest, NULL, EVP_sha256(), NULL) != 1)
		return false;
	tb_print_digest(digest, digits);
	return true;
}

/*
 * tb_split_url
 *		Host, path and query of an http or https URL; false for anything else, and
 *		for one with a user in it.
 */
bool
tb_split_url(const char *url, Url *parts)
{
	const char *usual_port;
	const char *host;
	const char *end;

	if (strncasecmp(url, "https://", 8) == 0)
	{
		host = url + 8;
		usual_port = ":443";
	}
	else if (strncasecmp(url, "http://", 7) == 0)
	{
		host = url + 7;
		usual_port = ":80";
	}
	else
		return false;
	parts->host.begin = host;
	parts->host.length = strcspn(host, "/?#");
	if (parts->host.length == 0 || memchr(host, '@', parts->host.length) != NULL)
		return false;

	parts->path.begin = host + parts->host.length;
	parts->path.length = strcspn(parts->path.begin, "?#");
	end = parts->path.begin + parts->path.length;
	parts->query.begin = *end == '?' ? end + 1 : end;
	parts->query.length = *end == '?' ? strcspn(end + 1, "#") : 0;

	if (parts->host.length > strlen(usual_port) &&
		strncmp(parts->path.begin - strlen(usual_port), usual_port,
				strlen(usual_port)) == 0)
		parts->host.length -= strlen(usual_port);
	return true;
}

/*
 * The character at s[*i], which may be written as %XX, or, if it is a blank in a
 * query, as a plus; moves *i behind it.
 */
static unsigned char
decoded(Span span, size_t *i, bool is_path)
{
	const char *s = span.begin + *i;

	if (*s == '%' && *i + 2 < span.length && tb_hex_value(s[1]) >= 0 && tb_hex_value(s[2]) >= 0)
	{
		*i += 3;
		return (unsigned char) (tb_hex_value(s[1]) << 4 | tb_hex_value(s[2]));
	}
	*i += 1;
	return *s == '+' && !is_path ? ' ' : (unsigned char) *s;
}

/*
 * Add a part of a URL with everything but RFC 3986's unreserved characters as
 * %XX, whatever it was written like; in a path, slashes stay.
 */
static void
add_encoded(Buffer *buffer, Span span, bool is_path)
{
	for (size_t i = 0; i < span.length;)
	{
		bool		slash = is_path && span.begin[i] == '/';
		unsigned char c = decoded(span, &i, is_path);
		char		code[4];

		if (slash || (c < 0x80 && isalnum(c)) || memchr("-_.~", c, 4) != NULL)
			snprintf(code, sizeof(code), "%c", c);
		else
			snprintf(code, sizeof(code), "%%%02X", c);
		tb_buffer_print(buffer, code);
	}
}

/* A parameter of the query: its name as it is meant, and all of it encoded. */
typedef struct Parameter
{
	Buffer		name;
	Buffer		encoded;
} Parameter;

/* By name, byte by byte; parameters of one name by their values. */
static int
compare_parameters(const void *a, const void *b)
{
	const Parameter *one = a;
	const Parameter *other = b;
	bool		shorter = one->name.length < other->name.length;
	int			order = memcmp(one->name.data, other->name.data,
							   shorter ? one->name.length : other->name.length);

	if (order != 0)
		return order;
	if (one->name.length != other->name.length)
		return shorter ? -1 : 1;
	return strcmp(one->encoded.data, other->encoded.data);
}

/* Read a parameter, up to the next "&"; false if there is no memory. */
static bool
read_parameter(Parameter *parameter, Span whole)
{
	Span		name = {whole.begin, 0};
	Span		value = {whole.begin + whole.length, 0};

	while (name.length < whole.length && name.begin[name.length] != '=')
		name.length++;
	if (name.length < whole.length)
	{
		value.begin = name.begin + name.length + 1;
		value.length = whole.length - name.length - 1;
	}
	tb_buffer_print(&parameter->name, "");
	for (size_t i = 0; i < name.length;)
	{
		char		c = (char) decoded(name, &i, false);

		tb_buffer_add(&parameter->name, &c, 1);
	}
	add_encoded(&parameter->encoded, name, false);
	tb_buffer_print(&parameter->encoded, "=");
	add_encoded(&parameter->encoded, value, false);
	return !parameter->name.failed && !parameter->encoded.failed;
}

/*
 * Add the query: its parameters, encoded, in the order of their names.  Both
 * vendors' own libraries order the names as they are before they are encoded.
 */
static bool
add_query(Buffer *buffer, Span query)
{
	Parameter	parameters[MAX_PARAMETERS] = {0};
	int			count = 0;
	bool		good = true;
	size_t		at = 0;

	while (at < query.length && good)
	{
		Span		whole = {query.begin + at, 0};

		while (at + whole.length < query.length && whole.begin[whole.length] != '&')
			whole.length++;
		at += whole.length + 1;
		if (whole.length == 0)
			continue;
		if (count == MAX_PARAMETERS)
			good = false;
		else
			good = read_parameter(&parameters[count++], whole);
	}
	if (good)
	{
		qsort(parameters, count, sizeof(Parameter), compare_parameters);
		for (int i = 0; i < count; i++)
		{
			if (i > 0)
				tb_buffer_print(buffer, "&");
			tb_buffer_print(buffer, parameters[i].encoded.data);
		}
	}
	for (int i = 0; i < count; i++)
	{
		tb_buffer_free(&parameters[i].name);
		tb_buffer_free(&parameters[i].encoded);
	}
	return good;
}

static Span
span(const char *begin, size_t length)
{
	Span		result = {begin, length};

	return result;
}

/* Take a header up, without white space around its value; false if there are too many. */
static bool
take(SignedList *list, Span name, Span value)
{
	Signed	   *header;

	if (list->count == TB_MAX_SIGNED)
		return false;
	header = &list->headers[list->count++];
	for (size_t i = 0; i < name.length; i++)
	{
		char		c = (char) tolower((unsigned char) name.begin[i]);

		tb_buffer_add(&header->name, &c, 1);
	}
	while (value.length > 0 && isspace((unsigned char) value.begin[0]))
	{
		value.begin++;
		value.length--;
	}
	while (value.length > 0 && isspace((unsigned char) value.begin[value.length - 1]))
		value.length--;
	tb_buffer_add(&header->value, value.begin, value.length);
	return !header->name.failed && !header->value.failed;
}

/*
 * tb_sign_header
 *		Take a header up; false if there are too many.
 */
bool
tb_sign_header(SignedList *list, const char *name, const char *value)
{
	return take(list, span(name, strlen(name)), span(value, strlen(value)));
}

/*
 * tb_signed_free
 *		Give the list's memory back.
 */
void
tb_signed_free(SignedList *list)
{
	for (int i = 0; i < list->count; i++)
	{
		tb_buffer_free(&list->headers[i].name);
		tb_buffer_free(&list->headers[i].value);
	}
}

/*
 * tb_is_signed
 *		Whether the list has a header of that name, which is in lower case.
 */
bool
tb_is_signed(const SignedList *list, const char *name)
{
	for (int i = 0; i < list->count; i++)
	{
		if (strcmp(list->headers[i].name.data, name) == 0)
			return true;
	}
	return false;
}

static int
compare_signed(const void *a, const void *b)
{
	const Signed *one = a;
	const Signed *other = b;

	return strcmp(one->name.data, other->name.data);
}

/*
 * tb_sign_headers_of
 *		Take up those of the request's headers that are called like prefix, or, if
 *		it ends in a dash, begin like it; false if there are too many.
 */
bool
tb_sign_headers_of(SignedList *list, const SignatureInput *input, const char *prefix)
{
	for (int i = 0; i < input->header_count; i++)
	{
		const char *header = input->headers[i];
		const char *colon = strchr(header, ':');
		bool		exact = prefix[strlen(prefix) - 1] != '-';

		if (colon == NULL || strncasecmp(header, prefix, strlen(prefix)) != 0 ||
			(exact && (size_t) (colon - header) != strlen(prefix)))
			continue;
		if (!take(list, span(header, (size_t) (colon - header)),
				  span(colon + 1, strlen(colon + 1))))
			return false;
	}
	return true;
}

/*
 * tb_print_signed
 *		The names of the list's headers, which tb_canonical_hash() has put in order.
 */
void
tb_print_signed(Buffer *buffer, const SignedList *list)
{
	for (int i = 0; i < list->count; i++)
	{
		if (i > 0)
			tb_buffer_print(buffer, ";");
		tb_buffer_print(buffer, list->headers[i].name.data);
	}
}

/*
 * tb_canonical_hash
 *		Put the list in order, and hash the request with it.  NULL, or why it
 *		cannot be signed.
 */
const char *
tb_canonical_hash(const SignatureInput *input, const Url *url, SignedList *list,
				  const char *body_digits, char *digits)
{
	Buffer		request = {0};
	bool		good;

	qsort(list->headers, list->count, sizeof(Signed), compare_signed);
	for (int i = 1; i < list->count; i++)
	{
		if (strcmp(list->headers[i - 1].name.data, list->headers[i].name.data) == 0)
			return "a header that is signed is in the request twice";
	}

	tb_buffer_print(&request, input->method);
	tb_buffer_print(&request, "\n");
	if (url->path.length == 0)
		tb_buffer_print(&request, "/");
	else
		add_encoded(&request, url->path, true);
	tb_buffer_print(&request, "\n");
	if (!add_query(&request, url->query))
	{
		tb_buffer_free(&request);
		return "the query of its URL is too long to sign";
	}
	tb_buffer_print(&request, "\n");
	for (int i = 0; i < list->count; i++)
	{
		tb_buffer_print(&request, list->headers[i].name.data);
		tb_buffer_print(&request, ":");
		tb_buffer_add(&request, list->headers[i].value.data, list->headers[i].value.length);
		tb_buffer_print(&request, "\n");
	}
	tb_buffer_print(&request, "\n");
	tb_print_signed(&request, list);
	tb_buffer_print(&request, "\n");
	tb_buffer_print(&request, body_digits);

	good = !request.failed && tb_sha256(request.data, request.length, digits);
	tb_buffer_free(&request);
	return good ? NULL : TB_NO_MEMORY;
}
