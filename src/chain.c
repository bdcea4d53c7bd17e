/*
 * chain.c
 *	  The hash that chains an account's ledger lines.
 *
 *	hash = SHA-256(previous hash || field || field || ...)
 *
 * A field is a netstring: its length in bytes, ":", its text in UTF-8, ",";
 * a null is "-,".  Lengths make the fields unambiguous whatever they hold.  The
 * text of a field is what PostgreSQL prints for it, so that anybody can compute
 * the hash in SQL or elsewhere (docs/concepts.md shows how); only the time is
 * given as microseconds since 2000-01-01 00:00:00 UTC, for it prints differently
 * from session to session.  The first line of an account has no previous hash.
 *
 * A cost came later than the others, so it is a field only where it is not null,
 * and says what it is: "cost=" and its text.
 */
#include "chain.h"

#include <openssl/evp.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "money.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* Enough for nearly every line without growing. */
#define USUAL_LINE_BYTES 1024

static void
add_field(StringInfo buf, const char *data, int len)
{
	char		digits[12];
	int			n;

	if (unlikely(GetDatabaseEncoding() != PG_UTF8))
	{
		char	   *utf8 = pg_server_to_any(data, len, PG_UTF8);

		if (utf8 != data)
		{
			data = utf8;
			len = strlen(utf8);
		}
	}
	n = pg_ltoa(len, digits);
	digits[n++] = ':';
	appendBinaryStringInfo(buf, digits, n);
	appendBinaryStringInfo(buf, data, len);
	appendStringInfoCharMacro(buf, ',');
}

static void
add_null(StringInfo buf)
{
	appendBinaryStringInfo(buf, "-,", 2);
}

static void
add_text(StringInfo buf, text *value)
{
	if (value == NULL)
		add_null(buf);
	else
		add_field(buf, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

static void
add_int64(StringInfo buf, int64 value)
{
	char		digits[MAXINT8LEN + 1];

	add_field(buf, digits, pg_lltoa(value, digits));
}

static void
add_numeric(StringInfo buf, Numeric value)
{
	char	   *digits = tb_print(value);

	add_field(buf, digits, strlen(digits));
	pfree(digits);
}

static void
add_jsonb(StringInfo buf, Jsonb *value, StringInfo scratch)
{
	if (value == NULL)
	{
		add_null(buf);
		return;
	}
	resetStringInfo(scratch);
	JsonbToCString(scratch, &value->root, VARSIZE(value));
	add_field(buf, scratch->data, scratch->len);
}

/*
 * The rates of one line are most often those of the line before: so what was
 * printed last is kept, beside what it was printed from.
 */
static void
add_rates(StringInfo buf, Jsonb *rates, StringInfo scratch)
{
	static char last[USUAL_LINE_BYTES];
	static char printed[USUAL_LINE_BYTES];
	static Size last_len = 0;
	static int	printed_len;

	if (rates != NULL && VARSIZE(rates) == last_len &&
		memcmp(rates, last, last_len) == 0)
	{
		add_field(buf, printed, printed_len);
		return;
	}
	add_jsonb(buf, rates, scratch);
	if (rates == NULL || VARSIZE(rates) > sizeof(last) ||
		scratch->len > (int) sizeof(printed))
		return;
	last_len = VARSIZE(rates);
	printed_len = scratch->len;
	memcpy(last, rates, last_len);
	memcpy(printed, scratch->data, printed_len);
}

/*
 * SHA-256 by OpenSSL.  The algorithm is fetched and the context allocated once a
 * backend: both cost more than hashing a line.  Neither is ever freed.
 */
static void
sha256(const char *data, int len, uint8 *hash)
{
	static EVP_MD *algorithm = NULL;
	static EVP_MD_CTX *context = NULL;

	if (algorithm == NULL)
		algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (context == NULL)
		context = EVP_MD_CTX_new();
	if (algorithm == NULL || context == NULL ||
		EVP_DigestInit_ex2(context, algorithm, NULL) != 1 ||
		EVP_DigestUpdate(context, data, len) != 1 ||
		EVP_DigestFinal_ex(context, hash, NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a SHA-256 hash"),
				 errhint("OpenSSL must offer SHA-256 to the server.")));
}

/*
 * tb_line_hash
 *		Hash of a line, given the hash of the one before (null for the first).
 *
 * Writes TB_HASH_BYTES to *hash, which may be the same as *previous.
 */
void
tb_line_hash(const ChainedLine *line, const uint8 *previous, uint8 *hash)
{
	StringInfoData buf;
	StringInfoData scratch;

	buf.data = palloc(USUAL_LINE_BYTES);
	buf.maxlen = USUAL_LINE_BYTES;
	resetStringInfo(&buf);
	initStringInfo(&scratch);

	if (previous != NULL)
		appendBinaryStringInfo(&buf, (const char *) previous, TB_HASH_BYTES);
	add_text(&buf, line->account);
	add_int64(&buf, line->seq);
	add_int64(&buf, line->created_at);
	add_text(&buf, line->kind);
	add_numeric(&buf, line->amount);
	add_numeric(&buf, line->balance);
	add_numeric(&buf, line->held);
	add_numeric(&buf, line->credit_limit);
	add_text(&buf, line->contra);
	add_text(&buf, line->service);
	add_jsonb(&buf, line->usage, &scratch);
	add_rates(&buf, line->rates, &scratch);
	add_jsonb(&buf, line->metadata, &scratch);
	add_jsonb(&buf, line->request, &scratch);
	add_text(&buf, line->idempotency_key);
	add_text(&buf, line->ref);
	if (line->cost != NULL)
	{
		char	   *cost = psprintf("cost=%s", tb_print(line->cost));

		add_field(&buf, cost, strlen(cost));
	}

	sha256(buf.data, buf.len, hash);
	pfree(scratch.data);
	pfree(buf.data);
}
