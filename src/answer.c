/*
 * answer.c
 *	  Is an answer in JSON unambiguous?
 *
 * RFC 8259 leaves open what an object with two members of one name means, and
 * jsonb keeps the last of them.  Of two balances nobody knows which is true, so
 * such an answer is refused.  The server's own parser looks: what is a name, and
 * which of them are the same once their escapes are resolved, is decided where
 * jsonb decides it.
 */
#include "tokenbill.h"

#include "common/jsonapi.h"
#include "utils/builtins.h"
#include "utils/jsonfuncs.h"

PG_FUNCTION_INFO_V1(tokenbill_repeated_member);

/* The names of an object whose end has not been read yet. */
typedef struct OpenObject
{
	struct OpenObject *outer;
	char	  **names;
	int			count;
	int			room;
} OpenObject;

typedef struct Search
{
	OpenObject *innermost;
	char	   *found;			/* the first name that was there twice */
} Search;

static TB_JSON_ACTION
begin_object(void *state)
{
	Search	   *search = state;
	OpenObject *object = palloc0(sizeof(OpenObject));

	object->outer = search->innermost;
	search->innermost = object;
	TB_JSON_GO_ON;
}

static TB_JSON_ACTION
note_member(void *state, char *name, bool isnull)
{
	OpenObject *object = ((Search *) state)->innermost;

	if (object->names == NULL)
	{
		object->room = 8;
		object->names = palloc(object->room * sizeof(char *));
	}
	else if (object->count == object->room)
	{
		object->room *= 2;
		object->names = repalloc_huge(object->names,
									  object->room * sizeof(char *));
	}
	/* the parser's own copy is gone with the member, in some versions */
	object->names[object->count++] = pstrdup(name);
	TB_JSON_GO_ON;
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Sorted, names that are the same lie side by side: 100,000 of them are no load. */
static TB_JSON_ACTION
end_object(void *state)
{
	Search	   *search = state;
	OpenObject *object = search->innermost;

	if (object->count > 1 && search->found == NULL)
	{
		qsort(object->names, object->count, sizeof(char *), compare_names);
		for (int i = 1; i < object->count; i++)
			if (strcmp(object->names[i - 1], object->names[i]) == 0)
			{
				search->found = pstrdup(object->names[i]);
				break;
			}
	}
	for (int i = 0; i < object->count; i++)
		pfree(object->names[i]);
	if (object->names != NULL)
		pfree(object->names);
	search->innermost = object->outer;
	pfree(object);
	TB_JSON_GO_ON;
}

/*
 * tokenbill_repeated_member
 *		The name of a member that an object of the document has twice, or null.
 *
 * What is no JSON has none, either: whoever reads the document says so.  Deep
 * nesting ends in the parser's own error (54001).
 */
Datum
tokenbill_repeated_member(PG_FUNCTION_ARGS)
{
	text	   *document = PG_GETARG_TEXT_PP(0);
	Search		search = {NULL, NULL};
	JsonSemAction actions;

	memset(&actions, 0, sizeof(actions));
	actions.semstate = &search;
	actions.object_start = begin_object;
	actions.object_field_start = note_member;
	actions.object_end = end_object;
	if (pg_parse_json(tb_json_lexer(document), &actions) != JSON_SUCCESS ||
		search.found == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(search.found));
}
