/*
 * meter_function.c
 *	  Which functions count which meters of which services.
 */
#include "measure.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "check.h"
#include "clock.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "query.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/regproc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "usage.h"

PG_FUNCTION_INFO_V1(tokenbill_set_meter_function);

/* A function covers and forgets at most so many names. */
#define MAX_NAMES 64

/* The members of an array of names. */
static int
read_names(Datum array, char ***names)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &n);
	*names = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*names)[i] = TextDatumGetCString(elements[i]);
	return n;
}

/*
 * tb_load_functions
 *		The functions of a service, and those of all services for meters that it
 *		has a price for.  Everything is palloc'd in the context.  Needs SPI.
 */
void
tb_load_functions(const text *service, MemoryContext context,
				  MeterFunctions *functions)
{
	static Statement query = {
		.sql = "SELECT DISTINCT ON (f.meter) f.meter, f.function_schema, f.function_name, f.takes_options,"
		" f.owner, f.options, f.covers, f.forgets, f.service OPERATOR(pg_catalog.=) '*'"
		" FROM tokenbill.meter_function f"
		" WHERE f.service OPERATOR(pg_catalog.=) $1 OR (f.service OPERATOR(pg_catalog.=) '*' AND EXISTS ("
		"SELECT FROM tokenbill.price p WHERE p.service OPERATOR(pg_catalog.=) $1"
		" AND p.meter OPERATOR(pg_catalog.=) f.meter AND p.side OPERATOR(pg_catalog.=) 'sale'))"
		" ORDER BY f.meter, f.service OPERATOR(pg_catalog.=) '*'",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		argument = PointerGetDatum(service);
	uint64		n = tb_run(&query, &argument, NULL);
	MemoryContext old;

	functions->n = n;
	functions->functions = NULL;
	if (n == 0)
		return;
	old = MemoryContextSwitchTo(context);
	functions->functions = palloc0(sizeof(MeterFunction) * n);
	for (uint64 i = 0; i < n; i++)
	{
		MeterFunction *function = &functions->functions[i];
		Datum		values[9];
		bool		nulls[9];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values,
						  nulls);
		function->meter = TextDatumGetCString(values[0]);
		function->schema = TextDatumGetCString(values[1]);
		function->name = TextDatumGetCString(values[2]);
		function->takes_options = DatumGetBool(values[3]);
		function->owner = nulls[4] ? NULL : TextDatumGetCString(values[4]);
		if (function->owner == NULL)
			function->strategy = tb_find_strategy(function->name);
		function->options = (Jsonb *) PG_DETOAST_DATUM_COPY(values[5]);
		function->ncovers = read_names(values[6], &function->covers);
		function->for_all = DatumGetBool(values[8]);
		function->nforgets = read_names(values[7], &function->forgets);
		for (int c = 0; c < function->ncovers; c++)
		{
			if (strcmp(function->covers[c], "*") == 0)
				function->covers_all = true;
		}
	}
	MemoryContextSwitchTo(old);
}

/* An array of names, as one of its arguments. */
static ArrayType *
make_names(const char *const *names)
{
	Datum		elements[MAX_NAMES];
	int			n = 0;

	for (; names[n] != NULL; n++)
		elements[n] = CStringGetTextDatum(names[n]);
	return construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT);
}

static Refusal *
check_names(const char *argument, ArrayType *names)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	Refusal    *refusal = NULL;

	if (ARR_NDIM(names) > 1)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", argument),
						  "Pass a plain array of names.",
						  "%s has several dimensions", argument);
	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	if (n > MAX_NAMES)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", argument),
						  "Use '{*}' for everything.",
						  "%s has more than %d names", argument, MAX_NAMES);
	for (int i = 0; i < n && refusal == NULL; i++)
		refusal = nulls[i] ? tb_null_argument(argument) :
			tb_check_text(argument, DatumGetTextPP(elements[i]), TB_MAX_NAME);
	return refusal;
}

/*
 * The members that a strategy reads, with these options.
 */
static ArrayType *
members_read(const Strategy *strategy, Jsonb *options)
{
	const char *names[MAX_NAMES + 1];
	JsonbValue	value;
	int			n = 0;

	if (tb_member(&options->root, "members", &value) ||
		tb_member(&options->root, "meters", &value))
	{
		JsonbIterator *it;
		JsonbIteratorToken token;
		JsonbValue	v;

		if (value.type == jbvBinary)
		{
			it = JsonbIteratorInit(value.val.binary.data);
			while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
			{
				if ((token == WJB_KEY ||
					 (token == WJB_ELEM && v.type == jbvString)) &&
					n < MAX_NAMES)
					names[n++] = pnstrdup(v.val.string.val, v.val.string.len);
			}
		}
		names[n] = NULL;
		return make_names(names);
	}
	return make_names(strategy->members);
}

/*
 * May this user have this function count a meter?  It is going to run as its
 * owner, so who registers it must be able to be that owner.  Ours are for
 * everybody who may register.
 */
static Refusal *
check_function(Oid oid, Oid user, MeterFunction *function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	Form_pg_proc proc;
	Refusal    *refusal;
	bool		takes_it;

	if (!HeapTupleIsValid(tuple))
		return tb_refusal(ERRCODE_UNDEFINED_FUNCTION,
						  tb_json("argument:s", "function"),
						  "Pass a function that exists.",
						  "function does not exist");
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	function->schema = get_namespace_name(proc->pronamespace);
	function->name = pstrdup(NameStr(proc->proname));
	function->takes_options = proc->pronargs == 2;
	function->owner = GetUserNameFromId(proc->proowner, false);
	function->strategy = strcmp(function->schema, "tokenbill") == 0 ?
		tb_find_strategy(function->name) : NULL;
	takes_it = (proc->pronargs == 1 || proc->pronargs == 2) &&
		proc->proargtypes.values[0] == JSONBOID &&
		(proc->pronargs == 1 || proc->proargtypes.values[1] == JSONBOID);
	refusal = tb_check_callable(oid, proc);
	if (refusal == NULL && !takes_it)
		refusal = tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							 tb_json("argument:s", "function"),
							 "Let it take the usage as jsonb and, if it has some, options as another jsonb.",
							 "function %s does not take jsonb",
							 format_procedure(oid));
	if (refusal == NULL && function->strategy == NULL &&
		!has_privs_of_role(user, proc->proowner))
		refusal = tb_refusal(ERRCODE_INSUFFICIENT_PRIVILEGE,
							 tb_json("argument:s owner:s", "function",
									 function->owner),
							 "It is going to run with its owner's rights: only its owner may register it.",
							 "must be owner of function %s",
							 format_procedure(oid));
	if (refusal == NULL && isAnyTempNamespace(proc->pronamespace))
		refusal = tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							 tb_json("argument:s", "function"),
							 "Make it in a schema that stays.",
							 "function %s is temporary",
							 format_procedure(oid));
	ReleaseSysCache(tuple);
	if (function->strategy != NULL)
		function->owner = NULL;
	return refusal;
}

/* Is the row there that came with the extension? */
static Refusal *
check_replaceable(Datum service, Datum meter)
{
	static Statement query = {
		.sql = "SELECT FROM tokenbill.meter_function f WHERE f.service OPERATOR(pg_catalog.=) $1"
		" AND f.meter OPERATOR(pg_catalog.=) $2 AND f.builtin",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID}
	};
	Datum		values[2] = {service, meter};

	if (tb_run(&query, values, NULL) == 0)
		return NULL;
	return tb_refusal(TB_CONFLICT,
					  tb_json("meter:s", TextDatumGetCString(meter)),
					  "Set one for a service: it goes before this one.",
					  "the function of meter \"%s\" for all services is built in",
					  TextDatumGetCString(meter));
}

/*
 * set_meter_function(meter text, function regprocedure, service text = null,
 *					  options jsonb = null, covers text[] = null,
 *					  forgets text[] = null) -> meter_function
 *		Null for the function takes it away.
 */
Datum
tokenbill_set_meter_function(PG_FUNCTION_ARGS)
{
	static Statement remove = {
		.sql = "DELETE FROM tokenbill.meter_function f WHERE f.service OPERATOR(pg_catalog.=) $1"
		" AND f.meter OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID}
	};
	static Statement put = {
		.sql = "INSERT INTO tokenbill.meter_function AS f (service, meter, function_schema, function_name,"
		" takes_options, owner, options, covers, forgets, builtin, created_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, false, $10)"
		" ON CONFLICT (service, meter) DO UPDATE SET function_schema = EXCLUDED.function_schema,"
		" function_name = EXCLUDED.function_name, takes_options = EXCLUDED.takes_options,"
		" owner = EXCLUDED.owner, options = EXCLUDED.options, covers = EXCLUDED.covers,"
		" forgets = EXCLUDED.forgets, created_at = EXCLUDED.created_at"
		" RETURNING f.*",
		.nargs = 10,
		.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, JSONBOID,
		TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID}
	};
	text	   *meter = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text	   *service = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	Jsonb	   *options = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	ArrayType  *covers = PG_ARGISNULL(4) ? NULL : PG_GETARG_ARRAYTYPE_P(4);
	ArrayType  *forgets = PG_ARGISNULL(5) ? NULL : PG_GETARG_ARRAYTYPE_P(5);
	Session		session;
	MeterFunction function = {0};
	Datum		values[10];
	char		nulls[11] = "          ";
	HeapTupleHeader result;

	tb_raise(tb_check_text("meter", meter, TB_MAX_METER));
	if (!tb_is_meter_name(VARDATA_ANY(meter), VARSIZE_ANY_EXHDR(meter)))
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "meter"),
							"Meters are named like input_tokens, images or seconds.",
							"meter must be lower-case letters, digits and underscores"));
	tb_raise(tb_check_optional_text("service", service, TB_MAX_NAME));
	tb_raise(tb_check_metadata("options", options));
	if (covers != NULL)
		tb_raise(check_names("covers", covers));
	if (forgets != NULL)
		tb_raise(check_names("forgets", forgets));

	tb_enter(fcinfo, &session);
	values[0] = PointerGetDatum(service ? service : cstring_to_text("*"));
	values[1] = PointerGetDatum(meter);
	tb_raise(check_replaceable(values[0], values[1]));
	if (PG_ARGISNULL(1))
	{
		tb_run(&remove, values, NULL);
		tb_leave(&session);
		PG_RETURN_NULL();
	}
	tb_raise(check_function(PG_GETARG_OID(1), session.userid, &function));
	if (options == NULL)
		options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	if (function.strategy != NULL)
		tb_raise(tb_check_options(function.strategy, options));
	else if (!function.takes_options && JB_ROOT_COUNT(options) > 0)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "options"),
							"Give the function a second argument of type jsonb.",
							"function %s takes no options",
							tb_function_text(&function)));
	if (covers == NULL)
		covers = function.strategy ? members_read(function.strategy, options) :
			construct_empty_array(TEXTOID);
	if (forgets == NULL)
		forgets = function.strategy && function.strategy->reads_text ? covers :
			construct_empty_array(TEXTOID);

	values[2] = CStringGetTextDatum(function.schema);
	values[3] = CStringGetTextDatum(function.name);
	values[4] = BoolGetDatum(function.takes_options);
	values[5] = function.owner ? CStringGetTextDatum(function.owner) : (Datum) 0;
	nulls[5] = function.owner ? ' ' : 'n';
	values[6] = JsonbPGetDatum(options);
	values[7] = PointerGetDatum(covers);
	values[8] = PointerGetDatum(forgets);
	values[9] = TimestampTzGetDatum(tb_now());
	if (tb_run(&put, values, nulls) != 1)
		elog(ERROR, "the function of a meter could not be kept");
	result = SPI_returntuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
	tb_leave(&session);
	PG_RETURN_HEAPTUPLEHEADER(result);
}
