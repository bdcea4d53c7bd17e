/*
 * measure.c
 *	  What did a call use, where functions count some of its meters?
 *
 *	  usage object
 *	    -> what the functions do not cover is read as any other usage (usage.c)
 *	    -> each function whose meter was not reported counts it from the object
 *	    -> texts that have been counted are forgotten: the ledger line gets their
 *		   counts in their place
 */
#include "measure.h"

#include "count.h"
#include "money.h"
#include "usage_read.h"
#include "utils/builtins.h"

static char **
copy_names(char **names, int n)
{
	char	  **copy = palloc(sizeof(char *) * Max(n, 1));

	for (int i = 0; i < n; i++)
		copy[i] = pstrdup(names[i]);
	return copy;
}

/*
 * tb_copy_functions
 *		The functions of a card, for what may outlive it; those of ours do not.
 */
MeterFunctions
tb_copy_functions(const MeterFunctions *functions)
{
	MeterFunctions copy = *functions;
	bool		ours = true;

	for (int i = 0; i < functions->n; i++)
		ours = ours && functions->functions[i].owner == NULL;
	if (likely(ours))
		return copy;

	copy.functions = palloc(sizeof(MeterFunction) * functions->n);
	for (int i = 0; i < functions->n; i++)
	{
		MeterFunction *function = &copy.functions[i];

		*function = functions->functions[i];
		function->meter = pstrdup(function->meter);
		function->schema = pstrdup(function->schema);
		function->name = pstrdup(function->name);
		if (function->owner != NULL)
			function->owner = pstrdup(function->owner);
		function->options = (Jsonb *) PG_DETOAST_DATUM_COPY(JsonbPGetDatum(function->options));
		function->covers = copy_names(function->covers, function->ncovers);
		function->forgets = copy_names(function->forgets, function->nforgets);
	}
	return copy;
}

static bool
is_among(const char *name, int len, char **names, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (strlen(names[i]) == (size_t) len && memcmp(names[i], name, len) == 0)
			return true;
	}
	return false;
}

static bool
is_covered(const MeterFunctions *functions, const char *name, int len)
{
	for (int i = 0; i < functions->n; i++)
	{
		const MeterFunction *function = &functions->functions[i];

		if (function->covers_all ||
			is_among(name, len, function->covers, function->ncovers))
			return true;
	}
	return false;
}

static bool
is_forgotten(const MeterFunctions *functions, const char *name, int len)
{
	for (int i = 0; i < functions->n; i++)
	{
		const MeterFunction *function = &functions->functions[i];

		if (is_among(name, len, function->forgets, function->nforgets))
			return true;
	}
	return false;
}

/*
 * Is this member for functions only?  One that could be a meter may be part of a
 * provider's object, which stays whole with it: so it is left in at first, and
 * taken out if what is left in cannot be read.
 */
static bool
is_taken(const MeterFunctions *functions, const JsonbValue *key,
		 const JsonbValue *value, bool numbers)
{
	const char *name = key->val.string.val;
	int			len = key->val.string.len;

	for (int i = 0; i < functions->n; i++)
	{
		if (functions->functions[i].covers_all)
			return true;
	}
	return is_covered(functions, name, len) &&
		(numbers || value->type != jbvNumeric || !tb_is_meter_name(name, len));
}

static void
push(JsonbParseState **state, const JsonbValue *key, JsonbValue *value)
{
	JsonbValue	copy = *key;

	pushJsonbValue(state, WJB_KEY, &copy);
	pushJsonbValue(state, WJB_VALUE, value);
}

static void
push_name(JsonbParseState **state, const char *name)
{
	JsonbValue	key;

	key.type = jbvString;
	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	pushJsonbValue(state, WJB_KEY, &key);
}

static void
push_count(JsonbParseState **state, const char *name, int64 count)
{
	JsonbValue	value;

	push_name(state, name);
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(count);
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* What a ledger line keeps of a text, or of texts: their counts, to count again. */
static void
push_text_counts(JsonbParseState **state, const char *member,
				 const JsonbValue *value)
{
	TextCount	count = {0};

	tb_count_texts(member, value, &count);
	push_name(state, member);
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_count(state, "characters", count.characters);
	push_count(state, "graphemes", count.graphemes);
	push_count(state, "words", count.words);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

/* Add the members of an object to the one that is being made. */
static void
push_members(JsonbParseState **state, Jsonb *object)
{
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbValue	key;
	JsonbValue	value;

	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		push(state, &key, &value);
	}
}

/*
 * What the ledger line keeps: what the functions read, texts by their counts, and
 * of the rest what it would keep without them.
 */
static Refusal *
keep(const MeterFunctions *functions, Jsonb *usage, bool numbers, Jsonb *rest,
	 Usage *read)
{
	JsonbIterator *it = JsonbIteratorInit(&usage->root);
	JsonbParseState *state = NULL;
	JsonbValue	key;
	JsonbValue	value;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		char	   *member = pnstrdup(key.val.string.val, key.val.string.len);
		Refusal    *refusal;

		(void) JsonbIteratorNext(&it, &value, true);
		if (!is_taken(functions, &key, &value, numbers))
			continue;
		if (is_forgotten(functions, key.val.string.val, key.val.string.len))
		{
			push_text_counts(&state, member, &value);
			continue;
		}
		if ((refusal = tb_check_strings(&key)) != NULL ||
			(refusal = tb_check_strings(&value)) != NULL)
			return refusal;
		push(&state, &key, &value);
	}
	if (rest != NULL && (read->kept == rest || tb_member(&read->kept->root, "usage", &value)))
		push_members(&state, read->kept);
	else if (rest != NULL)
	{
		push_name(&state, "usage");
		value.type = jbvBinary;
		value.val.binary.data = &read->kept->root;
		value.val.binary.len = VARSIZE(read->kept) - VARHDRSZ;
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	read->kept = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	if (VARSIZE(read->kept) > TB_MAX_USAGE)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s bytes:i max_bytes:i", "usage",
								  (int64) VARSIZE(read->kept),
								  (int64) TB_MAX_USAGE),
						  "Pass what is counted only; texts that are counted do not matter.",
						  "usage is too large");
	return NULL;
}

/*
 * Read what no function covers, as any other usage; *taken is whether there was
 * something else.
 */
static Refusal *
read_uncovered(const MeterFunctions *functions, Jsonb *usage, const text *format,
			   bool numbers, bool *taken, Usage *read)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	value;
	Jsonb	   *rest;
	Refusal    *refusal;

	*taken = false;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	it = JsonbIteratorInit(&usage->root);
	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		if (is_taken(functions, &key, &value, numbers))
			*taken = true;
		else
			push(&state, &key, &value);
	}
	if (!*taken)
		return tb_normalize(usage, format, read);

	rest = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	if (JB_ROOT_COUNT(rest) == 0)
	{
		rest = NULL;
		read->nmeters = 0;
		read->format = "functions";
		read->service_tier = "standard";
		read->context_tokens = NULL;
		read->canonical = true;
		read->kept = NULL;
		read->unpriced_counts = NULL;
		read->nnotes = 0;
	}
	else if ((refusal = tb_normalize(rest, format, read)) != NULL)
		return refusal;
	return keep(functions, usage, numbers, rest, read);
}

static Refusal *
read_rest(const MeterFunctions *functions, Jsonb *usage, const text *format,
		  Usage *read)
{
	Refusal    *refusal;
	bool		taken;
	bool		taken_too;

	/* what is no object, or empty, is refused as it always is */
	if (functions->n == 0 || usage == NULL || !JB_ROOT_IS_OBJECT(usage) ||
		JB_ROOT_COUNT(usage) == 0)
		return tb_normalize(usage, format, read);

	refusal = read_uncovered(functions, usage, format, false, &taken, read);
	if (refusal != NULL &&
		read_uncovered(functions, usage, format, true, &taken_too, read) == NULL &&
		taken_too)
		refusal = NULL;
	return refusal;
}

/*
 * Take out the meters that a function's count stands for.  They were in the
 * context of the call all the same.
 */
static void
leave_out_covered(const MeterFunctions *functions, Usage *read)
{
	int			n = 0;

	for (int i = 0; i < read->nmeters; i++)
	{
		if (!is_covered(functions, read->meters[i].name,
						read->meters[i].name_len))
			read->meters[n++] = read->meters[i];
	}
	read->nmeters = n;
}

/*
 * Was the function's meter reported, as a meter?  If it covers the member of that
 * name, that is what it counts from.
 */
static bool
is_reported(const Usage *read, const MeterFunction *function)
{
	const char *meter = function->meter;

	if (is_among(meter, strlen(meter), function->covers, function->ncovers))
		return false;
	for (int i = 0; i < read->nmeters; i++)
	{
		if (strlen(meter) == (size_t) read->meters[i].name_len &&
			memcmp(meter, read->meters[i].name, read->meters[i].name_len) == 0)
			return true;
	}
	return false;
}

/*
 * Have the functions count, those of the service or those for all, whose meters
 * were not reported.
 */
static Refusal *
count_meters(const MeterFunctions *functions, const bool *reported, bool for_all,
			 Jsonb *usage, Usage *read)
{
	for (int i = 0; i < functions->n; i++)
	{
		const MeterFunction *function = &functions->functions[i];
		UsageMeter *meter = &read->meters[read->nmeters];
		Refusal    *refusal;

		if (reported[i] || function->for_all != for_all)
			continue;
		if (read->nmeters == TB_MAX_METERS)
			return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							  tb_json("argument:s max_meters:i", "usage",
									  (int64) TB_MAX_METERS),
							  "Split the usage into several charges.",
							  "usage has too many meters");
		refusal = tb_call_function(function, usage, &meter->quantity);
		if (refusal != NULL)
			return refusal;
		meter->name = function->meter;
		meter->name_len = strlen(function->meter);
		read->nmeters++;
	}
	return NULL;
}

/*
 * tb_measure
 *		As tb_normalize(), and count the meters that functions count.
 *
 * The first *nreported meters are those of the usage itself, those from *nwanted
 * on are counted for any service that has a price for them, and need none.  With
 * nreported null nothing is counted: for what the ledger line would keep.
 *
 * Refuses what tb_normalize() refuses, and a function that is gone, or whose count
 * is none (42883, 42501, 22004, 22023, 22003).  Errors of a function are thrown as
 * they are, unless tb_contain_functions() says otherwise.  May end the card that
 * the functions came from, if they are no copy.  Needs SPI.
 */
Refusal *
tb_measure(const MeterFunctions *functions, Jsonb *usage, const text *format,
		   Usage *read, int *nreported, int *nwanted)
{
	Refusal    *refusal = read_rest(functions, usage, format, read);
	bool		reported[TB_MAX_METERS];

	if (refusal != NULL || nreported == NULL)
		return refusal;
	if (functions->n > TB_MAX_METERS)
		elog(ERROR, "a service has too many meter functions");
	for (int i = 0; i < functions->n; i++)
		reported[i] = is_reported(read, &functions->functions[i]);

	/* the context is what the call had, whoever counts it */
	read->context_tokens = tb_context_tokens(read);
	leave_out_covered(functions, read);
	*nreported = read->nmeters;

	refusal = count_meters(functions, reported, false, usage, read);
	*nwanted = read->nmeters;
	if (refusal == NULL)
		refusal = count_meters(functions, reported, true, usage, read);
	return refusal;
}
