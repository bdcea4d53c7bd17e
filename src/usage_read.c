/*
 * usage_read.c
 *	  Walk a provider's usage object, put its counts into slots, and make meters
 *	  of them.
 *
 * Nothing that is counted is dropped: a member that no format knows, but whose
 * name says that it counts something (Stranger), becomes a meter of its own, which
 * has to be priced or is refused.  Other members are kept in the ledger line
 * with the whole object.
 *
 * Paths are repeated in errors, so only names that cannot be anything else are
 * written out; a "?" stands for others.
 */
#include "usage_read.h"

#include "card.h"
#include "money.h"
#include "utils/builtins.h"

/* Providers nest three deep; nobody has a reason to nest deeper than this. */
#define MAX_DEPTH 16

/* The path of the member that is being looked at, as it is and in snake case. */
typedef struct Path
{
	StringInfoData shown;
	StringInfoData plain;
} Path;

static Refusal *walk(Reading *reading, JsonbContainer *container, Path *path,
					 int depth);

/*
 * tb_bad_field
 *		The refusal of a member of the object.
 */
Refusal *
tb_bad_field(const Reading *reading, int sqlstate, const char *field,
			 const char *hint, const char *problem)
{
	return tb_refusal(sqlstate,
					  tb_json("argument:s field:s format:s", "usage", field,
							  reading->format->name),
					  hint, "usage has %s: \"%s\"", problem, field);
}

/*
 * tb_missing_field
 *		The refusal of an object without a count that its format always has.
 */
Refusal *
tb_missing_field(const Reading *reading, const char *field, const char *hint)
{
	if (reading->within != NULL)
		field = psprintf("%s.%s", reading->within, field);
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s field:s format:s", "usage", field,
							  reading->format->name),
					  hint, "usage does not say \"%s\"", field);
}

/*
 * tb_bad_sum
 *		The refusal of a count that is not what others add up to.
 */
Refusal *
tb_bad_sum(const Reading *reading, Slot slot, int64 expected)
{
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s field:s format:s count:i expected:i",
							  "usage", reading->paths[slot],
							  reading->format->name, reading->counts[slot],
							  expected),
					  "Pass the object as the provider sent it, of one response; name its format if another was recognized.",
					  "usage contradicts itself: \"%s\" is not what the others add up to",
					  reading->paths[slot]);
}

/*
 * tb_exceeds
 *		The refusal of a part that is larger than what there is.
 */
Refusal *
tb_exceeds(const Reading *reading, Slot part, int64 count, Slot whole,
		   int64 total)
{
	const char *field = reading->paths[part];
	const char *of = reading->paths[whole];

	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s field:s format:s count:i of:s total:i",
							  "usage", field, reading->format->name, count, of,
							  total),
					  "Pass the object as the provider sent it, of one response; name its format if another was recognized.",
					  "usage contradicts itself: \"%s\" is more than there is in \"%s\"",
					  field, of ? of : "what is not told");
}

/*
 * tb_is_plain_name
 *		A name that may be repeated: it cannot be a text of its own.
 */
bool
tb_is_plain_name(const char *name, int len)
{
	if (len == 0 || len > TB_MAX_METER)
		return false;
	for (int i = 0; i < len; i++)
	{
		char		c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			  (c >= '0' && c <= '9') || c == '_'))
			return false;
	}
	return !(name[0] >= '0' && name[0] <= '9');
}

/* promptTokenCount, as prompt_token_count */
static void
append_snake(StringInfo out, const char *name, int len)
{
	for (int i = 0; i < len; i++)
	{
		char		c = name[i];

		if (c >= 'A' && c <= 'Z')
		{
			bool		after_lower = i > 0 &&
				!(name[i - 1] >= 'A' && name[i - 1] <= 'Z') && name[i - 1] != '_';

			if (after_lower)
				appendStringInfoChar(out, '_');
			c += 'a' - 'A';
		}
		appendStringInfoChar(out, c);
	}
}

static void
enter_member(const Reading *reading, Path *path, const char *name, int len)
{
	if (path->plain.len > 0)
	{
		appendStringInfoChar(&path->shown, '.');
		appendStringInfoChar(&path->plain, '.');
	}
	if (!tb_is_plain_name(name, len))
	{
		appendStringInfoChar(&path->shown, '?');
		appendStringInfoChar(&path->plain, '?');
		return;
	}
	appendBinaryStringInfo(&path->shown, name, len);
	if (reading->format->camel)
		append_snake(&path->plain, name, len);
	else
		appendBinaryStringInfo(&path->plain, name, len);
}

static void
leave_member(Path *path, int shown, int plain)
{
	path->shown.len = shown;
	path->shown.data[shown] = '\0';
	path->plain.len = plain;
	path->plain.data[plain] = '\0';
}

/* A path for an error, from the object that was passed on. */
static const char *
full_path(const Reading *reading, const char *path)
{
	return reading->within ? psprintf("%s.%s", reading->within, path) :
		pstrdup(path);
}

static Refusal *
bad_member(const Reading *reading, const Path *path, int sqlstate,
		   const char *hint, const char *problem)
{
	return tb_bad_field(reading, sqlstate,
						full_path(reading, path->shown.data), hint, problem);
}

/*
 * A count: from zero to below 10^15, whole or (whole false) with at most nine
 * decimals.
 */
static Refusal *
check_number(const Reading *reading, const Path *path, const JsonbValue *value,
			 bool whole)
{
	static const char not_one[] = "a count that is not a number";
	int			scale;

	if (value->type != jbvNumeric)
		return bad_member(reading, path, ERRCODE_INVALID_PARAMETER_VALUE,
						  "Counts are JSON numbers.", not_one);
	if (tb_compare(value->val.numeric, tb_zero()) < 0)
		return bad_member(reading, path, ERRCODE_INVALID_PARAMETER_VALUE,
						  "Use refund() to give something back.",
						  "a negative count");
	if (tb_compare(value->val.numeric, tb_count_bound()) >= 0)
		return bad_member(reading, path, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  "Counts are less than 10^15.",
						  "a count that is too large");
	scale = DatumGetInt32(DirectFunctionCall1(numeric_min_scale,
											  NumericGetDatum(value->val.numeric)));
	if (scale > 0 && whole)
		return bad_member(reading, path, ERRCODE_INVALID_PARAMETER_VALUE,
						  "This counts things, so it is a whole number.",
						  "a fractional count");
	if (scale > TB_COUNT_DECIMALS)
		return bad_member(reading, path, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  "Counts have at most 9 decimals.",
						  "a count with too many decimals");
	return NULL;
}

/*
 * Put a count into its slot.  Two members can tell the same one; then they have
 * to agree.
 */
static Refusal *
take_count(Reading *reading, const Path *path, Slot slot,
		   const JsonbValue *value)
{
	Refusal    *refusal = check_number(reading, path, value, true);
	int64		count;

	if (refusal != NULL)
		return refusal;
	count = DatumGetInt64(DirectFunctionCall1(numeric_int8,
											  NumericGetDatum(value->val.numeric)));
	if (slot_given(reading, slot) && reading->counts[slot] != count)
	{
		const char *other = reading->paths[slot];

		reading->paths[slot] = full_path(reading, path->shown.data);
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s field:s format:s count:i of:s total:i",
								  "usage", reading->paths[slot],
								  reading->format->name, count, other,
								  reading->counts[slot]),
						  "Both count the same; pass the object as the provider sent it.",
						  "usage contradicts itself: \"%s\" does not go with \"%s\"",
						  reading->paths[slot], other);
	}
	reading->counts[slot] = count;
	reading->paths[slot] = full_path(reading, path->shown.data);
	return NULL;
}

/*
 * tb_check_strings
 *		No card number in a value, nor in anything below it.
 */
Refusal *
tb_check_strings(const JsonbValue *value)
{
	bool		found = false;

	if (value->type == jbvString)
		found = tb_has_card_number(value->val.string.val,
								   value->val.string.len);
	else if (value->type == jbvNumeric)
		found = tb_is_card_number(value->val.numeric);
	else if (value->type == jbvBinary)
	{
		JsonbIterator *it = JsonbIteratorInit(value->val.binary.data);
		JsonbIteratorToken token;
		JsonbValue	v;

		while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
		{
			Refusal    *refusal;

			if ((token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM) &&
				(refusal = tb_check_strings(&v)) != NULL)
				return refusal;
		}
	}
	if (!found)
		return NULL;
	return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
					  tb_json("argument:s", "usage"),
					  "Card numbers must not be stored here.",
					  "usage contains what looks like a payment card number");
}

/*
 * Whether a name, in snake case, is one of something that is counted, and that
 * could be billed: its last word says so.
 */
static bool
counts_something(const char *name)
{
	static const char *const words[] = {
		"tokens", "count", "requests", "seconds", "minutes", "hours",
		"characters", "chars", "words", "images", "pages", "pixels",
		"searches", "queries", "calls", "sessions", "units", "used", "frames",
		"steps", "credits", "processed"
	};
	size_t		len = strlen(name);

	for (size_t i = 0; i < lengthof(words); i++)
	{
		size_t		n = strlen(words[i]);

		if (len >= n && strcmp(name + len - n, words[i]) == 0 &&
			(len == n || name[len - n - 1] == '_'))
			return true;
	}
	return false;
}

/* Time, and what is measured like it, comes in parts; all else is whole. */
static bool
is_measured(const char *name)
{
	static const char *const words[] = {"seconds", "minutes", "hours", "units", "credits"};
	size_t		len = strlen(name);

	for (size_t i = 0; i < lengthof(words); i++)
	{
		size_t		n = strlen(words[i]);

		if (len >= n && strcmp(name + len - n, words[i]) == 0)
			return true;
	}
	return false;
}

/* A number, also one in a string: that is an error then, not a remark. */
static bool
looks_like_number(const JsonbValue *value)
{
	return value->type == jbvNumeric ||
		(value->type == jbvString && value->val.string.len > 0 &&
		 value->val.string.val[0] >= '0' && value->val.string.val[0] <= '9');
}

/* A scalar that no format knows: a count if its name says so. */
static Refusal *
take_stranger(Reading *reading, const Path *path, const char *name, int len,
			  const JsonbValue *value)
{
	StringInfoData snake;
	Refusal    *refusal;

	initStringInfo(&snake);
	if (tb_is_plain_name(name, len))
		append_snake(&snake, name, len);
	if (!counts_something(snake.data) || !looks_like_number(value))
		return tb_check_strings(value);
	if ((refusal = check_number(reading, path, value,
								!is_measured(snake.data))) != NULL)
		return refusal;
	if (tb_compare(value->val.numeric, tb_zero()) == 0)
		return NULL;

	/* foo.input_tokens is foo_input_tokens */
	if (tb_is_known_meter(snake.data))
	{
		resetStringInfo(&snake);
		append_snake(&snake, path->shown.data, path->shown.len);
		for (char *c = snake.data; *c != '\0'; c++)
		{
			if (*c == '.' || *c == '[' || *c == ']')
				*c = '_';
		}
	}
	return tb_add_stranger(reading, full_path(reading, path->shown.data),
						   snake.data, value->val.numeric);
}

static Refusal *
take_text(const Reading *reading, const Path *path, const JsonbValue *value,
		  const char **result)
{
	const char *s = value->val.string.val;
	int			len;
	char	   *word;

	if (value->type != jbvString)
		return bad_member(reading, path, ERRCODE_INVALID_PARAMETER_VALUE,
						  "Pass the object as the provider sent it.",
						  "a member that is not a string");
	len = value->val.string.len;
	if (len == 0)
		return NULL;
	if (!tb_is_plain_name(s, len))
	{
		/* us-east1 and the like */
		Refusal    *refusal = tb_check_strings(value);

		if (refusal != NULL)
			return refusal;
		for (int i = 0; i < len; i++)
		{
			if (len > TB_MAX_METER || s[i] < '!' || s[i] > '~')
				return bad_member(reading, path,
								  ERRCODE_INVALID_PARAMETER_VALUE,
								  "Pass the object as the provider sent it.",
								  "a member that is not a word");
		}
	}
	word = pnstrdup(s, len);
	for (char *c = word; *c != '\0'; c++)
	{
		if (*c >= 'A' && *c <= 'Z')
			*c += 'a' - 'A';
	}
	*result = word;
	return NULL;
}

/*
 * Counts by modality, as [{"modality": "TEXT", "tokenCount": 12}, ...].
 */
static Refusal *
take_details(Reading *reading, Path *path, Slot total, const JsonbValue *value)
{
	static const struct
	{
		const char *name;
		Modality	modality;
	}			known[] = {
		{"text", MODALITY_TEXT}, {"document", MODALITY_TEXT},
		{"modality_unspecified", MODALITY_TEXT}, {"audio", MODALITY_AUDIO},
		{"image", MODALITY_IMAGE}, {"video", MODALITY_VIDEO}
	};
	JsonbContainer *array = value->val.binary.data;
	int			shown = path->shown.len;
	int			plain = path->plain.len;

	if (value->type != jbvBinary || !JsonContainerIsArray(array))
		return bad_member(reading, path, ERRCODE_INVALID_PARAMETER_VALUE,
						  "Pass the object as the provider sent it.",
						  "a member that is not an array");
	for (uint32 i = 0; i < JsonContainerSize(array); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array, i);
		JsonbIterator *it;
		JsonbValue	key;
		JsonbValue	v;
		const char *name = NULL;
		int64		count = 0;
		Slot		slot = NSLOTS;
		Refusal    *refusal;

		appendStringInfo(&path->shown, "[%u]", i);
		if (element->type != jbvBinary ||
			!JsonContainerIsObject(element->val.binary.data))
			return bad_member(reading, path, ERRCODE_INVALID_PARAMETER_VALUE,
							  "Pass the object as the provider sent it.",
							  "a member that is not an object");
		it = JsonbIteratorInit(element->val.binary.data);
		(void) JsonbIteratorNext(&it, &key, true);
		while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
		{
			int			shown_here = path->shown.len;
			int			plain_here = path->plain.len;
			const char *member;

			if ((refusal = tb_check_strings(&key)) != NULL)
				return refusal;
			(void) JsonbIteratorNext(&it, &v, true);
			enter_member(reading, path, key.val.string.val,
						 key.val.string.len);
			member = path->plain.data + plain_here + 1;
			if (v.type == jbvNull)
				refusal = NULL;
			else if (strcmp(member, "modality") == 0)
				refusal = take_text(reading, path, &v, &name);
			else if (strcmp(member, "token_count") == 0)
			{
				refusal = check_number(reading, path, &v, true);
				if (refusal == NULL)
					count = DatumGetInt64(DirectFunctionCall1(numeric_int8,
															  NumericGetDatum(v.val.numeric)));
			}
			else if (v.type == jbvBinary)
				refusal = tb_check_strings(&v);
			else
				refusal = take_stranger(reading, path, key.val.string.val,
										key.val.string.len, &v);
			if (refusal != NULL)
				return refusal;
			leave_member(path, shown_here, plain_here);
		}

		for (size_t k = 0; name != NULL && k < lengthof(known); k++)
		{
			if (strcmp(name, known[k].name) == 0)
				slot = total + 1 + known[k].modality;
		}
		if (slot == NSLOTS)
			return bad_member(reading, path, ERRCODE_INVALID_PARAMETER_VALUE,
							  "Modalities are TEXT, DOCUMENT, AUDIO, IMAGE and VIDEO; pass meters for others.",
							  "a count of no known modality");
		reading->counts[slot] = slot_count(reading, slot) + count;
		reading->paths[slot] = full_path(reading, path->shown.data);
		leave_member(path, shown, plain);
	}
	return NULL;
}

static Slot
find_field(const Reading *reading, const char *plain)
{
	for (const UsageField *field = reading->format->fields;
		 field->path != NULL; field++)
	{
		if (strcmp(field->path, plain) == 0)
			return field->slot;
	}
	return NSLOTS;
}

/* A member of the object, or of an array in it: key is its name. */
static Refusal *
take_member(Reading *reading, Path *path, const JsonbValue *key,
			const JsonbValue *value, int depth)
{
	Slot		slot = find_field(reading, path->plain.data);
	Refusal    *refusal;

	if (value->type == jbvNull)
		return NULL;
	if (slot < NSLOTS)
		return take_count(reading, path, slot, value);

	switch (slot)
	{
		case FIELD_OBJECT:
			if (value->type != jbvBinary ||
				!JsonContainerIsObject(value->val.binary.data))
				return bad_member(reading, path,
								  ERRCODE_INVALID_PARAMETER_VALUE,
								  "Pass the object as the provider sent it.",
								  "a member that is not an object");
			break;
		case FIELD_SKIP:
			return tb_check_strings(value);
		case FIELD_SECONDS:
			refusal = check_number(reading, path, value, false);
			if (refusal == NULL)
				reading->seconds = value->val.numeric;
			return refusal;
		case FIELD_SERVICE_TIER:
			return take_text(reading, path, value, &reading->service_tier);
		case FIELD_TRAFFIC:
			return take_text(reading, path, value, &reading->traffic);
		case FIELD_SPEED:
			return take_text(reading, path, value, &reading->speed);
		case FIELD_REGION:
			return take_text(reading, path, value, &reading->region);
		case FIELD_ITERATIONS:
			if (value->type != jbvBinary ||
				!JsonContainerIsArray(value->val.binary.data))
				return bad_member(reading, path,
								  ERRCODE_INVALID_PARAMETER_VALUE,
								  "Pass the object as the provider sent it.",
								  "a member that is not an array");
			reading->iterations = value->val.binary.data;
			return NULL;
		case FIELD_PROMPT_DETAILS:
			return take_details(reading, path, SLOT_INPUT_TOTAL, value);
		case FIELD_CACHE_DETAILS:
			return take_details(reading, path, SLOT_CACHED_TOTAL, value);
		case FIELD_TOOL_DETAILS:
			return take_details(reading, path, SLOT_TOOL_TOTAL, value);
		case FIELD_OUTPUT_DETAILS:
			return take_details(reading, path, SLOT_OUTPUT_TOTAL, value);
		default:
			break;
	}

	if (value->type == jbvBinary)
		return walk(reading, value->val.binary.data, path, depth + 1);
	if (key != NULL)
		return take_stranger(reading, path, key->val.string.val,
							 key->val.string.len, value);
	return tb_check_strings(value);
}

static Refusal *
walk(Reading *reading, JsonbContainer *container, Path *path, int depth)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;
	int			shown = path->shown.len;
	int			plain = path->plain.len;
	int			n = 0;
	Refusal    *refusal = NULL;

	if (depth > MAX_DEPTH)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s field:s format:s max_depth:i",
								  "usage", full_path(reading, path->shown.data),
								  reading->format->name, (int64) MAX_DEPTH),
						  "Pass the usage object only, as the provider sent it.",
						  "usage is nested too deeply");

	(void) JsonbIteratorNext(&it, &value, true);
	while (refusal == NULL &&
		   (token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			(void) JsonbIteratorNext(&it, &value, true);
			if ((refusal = tb_check_strings(&key)) != NULL)
				break;
			enter_member(reading, path, key.val.string.val,
						 key.val.string.len);
			refusal = take_member(reading, path, &key, &value, depth);
		}
		else if (token == WJB_ELEM)
		{
			appendStringInfo(&path->shown, "[%d]", n);
			appendStringInfo(&path->plain, "[%d]", n);
			n++;
			refusal = take_member(reading, path, NULL, &key, depth);
		}
		leave_member(path, shown, plain);
	}
	return refusal;
}

/*
 * tb_start_reading, tb_read_usage
 *		Put the counts of an object into the slots of a reading.  within is null,
 *		or the path of the object if it is a part of another.
 */
void
tb_start_reading(Reading *reading, const UsageFormat *format, Usage *result,
				 const char *within)
{
	memset(reading, 0, sizeof(*reading));
	for (int i = 0; i < NSLOTS; i++)
		reading->counts[i] = -1;
	reading->format = format;
	reading->result = result;
	reading->within = within;
}

Refusal *
tb_read_usage(JsonbContainer *object, Reading *reading)
{
	Path		path;

	initStringInfo(&path.shown);
	initStringInfo(&path.plain);
	return walk(reading, object, &path, 1);
}
