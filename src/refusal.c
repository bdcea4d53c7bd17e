/*
 * refusal.c
 *	  Refusals: errors that are part of the interface.
 *
 * Each has an SQLSTATE a caller can trap, a message, a DETAIL that is a JSON
 * object, and a HINT that says what to do.  They travel as values so that a
 * batch can answer one per item without a subtransaction per item.
 */
#include "refusal.h"

#include "counter.h"
#include "money.h"
#include "utils/builtins.h"
#include "utils/json.h"

/*
 * tb_refusal
 *		Make a refusal, palloc'd in the current memory context.
 *
 * detail and hint are kept as they are, not copied.
 */
Refusal *
tb_refusal(int sqlstate, const char *detail, const char *hint,
		   const char *format,...)
{
	Refusal    *refusal = palloc(sizeof(Refusal));
	StringInfoData message;

	initStringInfo(&message);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&message, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}

	refusal->sqlstate = sqlstate;
	refusal->message = message.data;
	refusal->detail = detail;
	refusal->hint = hint;
	return refusal;
}

/*
 * tb_json
 *		A JSON object as text, from a list of members.
 *
 * spec names them and their types, separated by blanks, as in
 * "account:s required:n"; the values follow.  Types: s char *, t text *,
 * n Numeric, i int64, b bool, j char * that is JSON already.  A null pointer
 * is null in the object.
 */
char *
tb_json(const char *spec,...)
{
	StringInfoData out;
	va_list		args;
	const char *p = spec;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	va_start(args, spec);
	while (*p != '\0')
	{
		const char *colon = strchr(p, ':');
		char	   *text_value = NULL;
		bool		quoted = false;

		Assert(colon != NULL);
		switch (colon[1])
		{
			case 's':
				text_value = va_arg(args, char *);
				quoted = true;
				break;
			case 't':
				{
					text	   *value = va_arg(args, text *);

					text_value = value ? text_to_cstring(value) : NULL;
					quoted = true;
					break;
				}
			case 'n':
				{
					Numeric		value = va_arg(args, Numeric);

					if (value != NULL)
						text_value = tb_print(value);
					break;
				}
			case 'i':
				text_value = psprintf(INT64_FORMAT, va_arg(args, int64));
				break;
			case 'b':
				text_value = va_arg(args, int) ? "true" : "false";
				break;
			case 'j':
				text_value = va_arg(args, char *);
				break;
			default:
				elog(ERROR, "unknown type in tb_json: %s", spec);
		}

		if (out.len > 1)
			appendStringInfoString(&out, ", ");
		appendStringInfo(&out, "\"%.*s\": ", (int) (colon - p), p);
		if (text_value == NULL)
			appendStringInfoString(&out, "null");
		else if (quoted)
			escape_json(&out, text_value);
		else
			appendStringInfoString(&out, text_value);

		p = colon + 2;
		while (*p == ' ')
			p++;
	}
	va_end(args);
	appendStringInfoChar(&out, '}');
	return out.data;
}

/*
 * tb_json_string, tb_json_document
 *		A text as a JSON string, a jsonb as its text; null for null.  For tb_json's
 *		type j.
 */
char *
tb_json_string(const text *value)
{
	StringInfoData out;

	if (value == NULL)
		return NULL;
	initStringInfo(&out);
	escape_json(&out, text_to_cstring(value));
	return out.data;
}

char *
tb_json_document(Jsonb *value)
{
	return value ? JsonbToCString(NULL, &value->root, VARSIZE(value)) : NULL;
}

/*
 * tb_raise
 *		Count a refusal and raise it as an error; returns if there is none.
 */
void
tb_raise(Refusal *refusal)
{
	if (refusal == NULL)
		return;
	tb_count_refusal(refusal->sqlstate);
	ereport(ERROR,
			(errcode(refusal->sqlstate),
			 errmsg_internal("%s", refusal->message),
			 refusal->detail ? errdetail_internal("%s", refusal->detail) : 0,
			 refusal->hint ? errhint("%s", refusal->hint) : 0));
}
