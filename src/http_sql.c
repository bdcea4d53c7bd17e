/*
 * http_sql.c
 *	  What SQL asks about HTTP: how long a server wants us to wait, and whether an
 *	  address may be connected to.
 */
#include "http_sql.h"

#include "http_engine.h"

#include <netinet/in.h>

#include "clock.h"
#include "refusal.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inet.h"

PG_FUNCTION_INFO_V1(tokenbill_retry_after);
PG_FUNCTION_INFO_V1(tokenbill_refused_address);

static RetryText
retry_text(const char *start, int length)
{
	RetryText	result = {start, start + length};

	return result;
}

static char *
numeric_text(Numeric number)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
}

/*
 * tb_read_headers
 *		The members of a JSON object as headers.  An array has the values of one
 *		that came several times, as programs keep them that keep all; values that
 *		are neither strings nor numbers are none.
 */
RetryHeader *
tb_read_headers(Jsonb *object, size_t *count)
{
	size_t		room = JB_ROOT_COUNT(object) + 1;
	RetryHeader *headers = palloc(sizeof(RetryHeader) * room);
	JsonbIterator *iterator = JsonbIteratorInit(&object->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	RetryText	name = {NULL, NULL};
	int			depth = 0;

	*count = 0;
	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		bool		wanted;

		if (token == WJB_BEGIN_OBJECT || token == WJB_BEGIN_ARRAY)
			depth++;
		else if (token == WJB_END_OBJECT || token == WJB_END_ARRAY)
			depth--;
		else if (token == WJB_KEY && depth == 1)
			name = retry_text(value.val.string.val, value.val.string.len);
		wanted = (token == WJB_VALUE && depth == 1) || (token == WJB_ELEM && depth == 2);
		if (!wanted || (value.type != jbvString && value.type != jbvNumeric))
			continue;
		if (*count == room)
		{
			room *= 2;
			headers = repalloc(headers, sizeof(RetryHeader) * room);
		}
		headers[*count].name = name;
		if (value.type == jbvString)
			headers[*count].value = retry_text(value.val.string.val, value.val.string.len);
		else
		{
			char	   *number = numeric_text(value.val.numeric);

			headers[*count].value = retry_text(number, strlen(number));
		}
		(*count)++;
	}
	return headers;
}

/*
 * tb_now_ms
 *		The time tokenbill goes by, in milliseconds since 1970.
 */
int64
tb_now_ms(void)
{
	return tb_now() / 1000 +
		(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000;
}

/*
 * retry_after(headers jsonb, status integer) -> interval
 */
Datum
tokenbill_retry_after(PG_FUNCTION_ARGS)
{
	Jsonb	   *object = PG_GETARG_JSONB_P(0);
	int			status = PG_GETARG_INT32(1);
	int64_t		wait_ms;
	bool		capped;
	size_t		count;
	RetryHeader *headers;
	Interval   *result;

	if (!JB_ROOT_IS_OBJECT(object))
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "headers"),
							"Give an object of names and values.",
							"headers is not a JSON object"));
	headers = tb_read_headers(object, &count);
	if (!tb_retry_after(headers, count, status, tb_now_ms(), &wait_ms, &capped))
		PG_RETURN_NULL();
	if (capped)
		ereport(NOTICE,
				(errmsg("the server wants us to wait for more than a day"),
				 errdetail("One day is what is waited.")));
	result = palloc0(sizeof(Interval));
	result->time = wait_ms * 1000;
	PG_RETURN_INTERVAL_P(result);
}

/*
 * refused_address(address inet) -> text
 */
Datum
tokenbill_refused_address(PG_FUNCTION_ARGS)
{
	inet	   *address = PG_GETARG_INET_PP(0);
	union
	{
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	}			socket_address;
	const char *refused;

	memset(&socket_address, 0, sizeof(socket_address));
	if (ip_family(address) == PGSQL_AF_INET)
	{
		socket_address.in.sin_family = AF_INET;
		memcpy(&socket_address.in.sin_addr, ip_addr(address), 4);
	}
	else
	{
		socket_address.in6.sin6_family = AF_INET6;
		memcpy(&socket_address.in6.sin6_addr, ip_addr(address), 16);
	}
	refused = tb_refused_address(&socket_address.any);
	if (refused == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(refused));
}
