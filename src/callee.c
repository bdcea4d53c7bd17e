/*
 * callee.c
 *	  Calling the functions that count meters.
 *
 * Most are strategies of ours, and are called straight.  The others are users',
 * and may be anything.  So one of them runs
 *
 * - as its own owner, never with the rights of this extension or of the caller;
 *	 set_meter_function() takes it from its owner only, and if it has another owner
 *	 since it is not called;
 * - in a security-restricted operation: it cannot become another role, nor leave
 *	 anything behind that somebody else would carry out later;
 * - in a transaction that is read-only for it: what it counts may not depend on
 *	 how often it was asked;
 * - with a search path of pg_catalog and pg_temp, which is its own affair to
 *	 change, and settings that are put back.
 *
 * What it throws goes to the caller of charge() as it is.
 */
#include "measure.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "money.h"
#include "usage_read.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#define CALLEE_KEY (2 * NAMEDATALEN + 8)

/* A function that has been looked up; kept for the session. */
typedef struct Callee
{
	char		key[CALLEE_KEY];	/* schema, name and what it takes */
	bool		valid;
	int			calls;			/* under way */
	Oid			owner;
	Oid			returns;
	char		owner_name[NAMEDATALEN];
	bool		trusted_language;	/* only superusers make functions in it */
	FmgrInfo	info;
	MemoryContext context;		/* of info */
} Callee;

static HTAB *callees = NULL;
static bool contain = false;

static void
forget_callees(Datum arg, int cacheid, uint32 hashvalue)
{
	HASH_SEQ_STATUS all;
	Callee	   *callee;

	if (callees == NULL)
		return;
	hash_seq_init(&all, callees);
	while ((callee = hash_seq_search(&all)) != NULL)
		callee->valid = false;
}

/*
 * tb_callee_init
 *		Have functions looked up anew when any changes; called once, from _PG_init.
 */
void
tb_callee_init(void)
{
	CacheRegisterSyscacheCallback(PROCOID, forget_callees, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, forget_callees, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_callees, (Datum) 0);
}

/*
 * tb_contain_functions
 *		Whether what a function throws becomes a refusal: for a batch, whose other
 *		items have nothing to do with it.  Returns what it was before.
 */
bool
tb_contain_functions(bool yes)
{
	bool		before = contain;

	contain = yes;
	return before;
}

/*
 * tb_function_text
 *		A function as one would write it.
 */
char *
tb_function_text(const MeterFunction *function)
{
	return psprintf("%s(%s)", quote_qualified_identifier(function->schema, function->name),
					function->takes_options ? "jsonb, jsonb" : "jsonb");
}

/*
 * The OID of a function; invalid if there is none.  By the system caches: whose
 * rights to its schema would count?
 */
static Oid
find_function(const MeterFunction *function)
{
	Oid			types[2] = {JSONBOID, JSONBOID};
	oidvector  *arguments = buildoidvector(types, function->takes_options ? 2 : 1);
	Oid			schema = get_namespace_oid(function->schema, true);

	if (!OidIsValid(schema))
		return InvalidOid;
	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
						   CStringGetDatum(function->name),
						   PointerGetDatum(arguments), ObjectIdGetDatum(schema));
}

/*
 * tb_check_callable
 *		Is it a function whose result can be a count?
 */
Refusal *
tb_check_callable(Oid oid, Form_pg_proc proc)
{
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset ||
		OidIsValid(proc->provariadic))
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "function"),
						  "Register a plain function.",
						  "function %s is no plain function that returns one value",
						  format_procedure(oid));
	if (proc->prorettype != NUMERICOID && proc->prorettype != INT8OID &&
		proc->prorettype != INT4OID)
		return tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
						  tb_json("argument:s", "function"),
						  "Let it return numeric, bigint or integer.",
						  "function %s does not return a number",
						  format_procedure(oid));
	return NULL;
}

/*
 * Look a function up, and prepare it to be called.
 */
static Refusal *
prepare(const MeterFunction *function, Callee *callee, MemoryContext context)
{
	Oid			oid = find_function(function);
	HeapTuple	tuple = NULL;
	Form_pg_proc proc;
	Refusal    *refusal;

	if (OidIsValid(oid))
		tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	if (!HeapTupleIsValid(tuple))
		return tb_refusal(ERRCODE_UNDEFINED_FUNCTION,
						  tb_json("meter:s function:s", function->meter,
								  tb_function_text(function)),
						  "Make it again, or name another with tokenbill.set_meter_function().",
						  "function %s of meter \"%s\" does not exist",
						  tb_function_text(function), function->meter);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	callee->owner = proc->proowner;
	callee->returns = proc->prorettype;
	strlcpy(callee->owner_name, GetUserNameFromId(proc->proowner, false),
			sizeof(callee->owner_name));
	callee->trusted_language = proc->prolang == INTERNALlanguageId ||
		proc->prolang == ClanguageId;
	refusal = tb_check_callable(oid, proc);
	ReleaseSysCache(tuple);
	if (refusal != NULL)
		return refusal;
	fmgr_info_cxt(oid, &callee->info, context);
	return NULL;
}

static Callee *
find_callee(const MeterFunction *function)
{
	char		key[CALLEE_KEY];
	Callee	   *callee;
	bool		found;

	if (callees == NULL)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(key);
		ctl.entrysize = sizeof(Callee);
		callees = hash_create("tokenbill meter functions", 16, &ctl,
							  HASH_ELEM | HASH_STRINGS);
	}
	/* the length tells "a.b"."c" from "a"."b.c" */
	snprintf(key, sizeof(key), "%d%s.%s%s", (int) strlen(function->schema),
			 function->schema, function->name,
			 function->takes_options ? "+" : "");
	callee = hash_search(callees, key, HASH_ENTER, &found);
	if (!found)
	{
		callee->valid = false;
		callee->calls = 0;
		callee->context = NULL;
	}
	return callee;
}

/*
 * Call a user's function as its owner.
 */
static Datum
call_as_owner(Callee *callee, const MeterFunction *function, Jsonb *usage,
			  bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 2);
	Oid			user;
	int			sec_context;
	int			nest_level;
	bool		read_only = XactReadOnly;
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, &callee->info,
							 function->takes_options ? 2 : 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(usage);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = JsonbPGetDatum(function->options);
	fcinfo->args[1].isnull = false;

	/* on an error the (sub)transaction's abort puts all of this back */
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(callee->owner,
						   sec_context | SECURITY_RESTRICTED_OPERATION);
	nest_level = NewGUCNestLevel();
	if (!callee->trusted_language)
		(void) set_config_option("search_path", "pg_catalog, pg_temp",
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	XactReadOnly = true;
	result = FunctionCallInvoke(fcinfo);
	XactReadOnly = read_only;
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, sec_context);

	*isnull = fcinfo->isnull;
	return result;
}

static Refusal *
bad_result(const MeterFunction *function, int sqlstate, const char *hint,
		   const char *problem)
{
	return tb_refusal(sqlstate,
					  tb_json("meter:s function:s", function->meter,
							  tb_function_text(function)), hint,
					  "function %s of meter \"%s\" returned %s",
					  tb_function_text(function), function->meter, problem);
}

/* A count that can be charged, as tb_normalize() has it. */
static Refusal *
check_result(const MeterFunction *function, Numeric count)
{
	int			scale;

	if (numeric_is_nan(count) || numeric_is_inf(count))
		return bad_result(function, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  "Return a finite number.",
						  "what is no finite number");
	if (tb_compare(count, tb_zero()) < 0)
		return bad_result(function, ERRCODE_INVALID_PARAMETER_VALUE,
						  "Counts are zero or more; refund() gives something back.",
						  "a negative count");
	if (tb_compare(count, tb_count_bound()) >= 0)
		return bad_result(function, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  "Counts are less than 10^15.",
						  "a count that is too large");
	scale = DatumGetInt32(DirectFunctionCall1(numeric_min_scale,
											  NumericGetDatum(count)));
	if (scale > 0 && tb_counts_things(function->meter, strlen(function->meter)))
		return bad_result(function, ERRCODE_INVALID_PARAMETER_VALUE,
						  "This meter counts things: round, or count under another name.",
						  "a fractional count");
	if (scale > TB_COUNT_DECIMALS)
		return bad_result(function, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  "Counts have at most 9 decimals.",
						  "a count with too many decimals");
	return NULL;
}

static Refusal *
call(const MeterFunction *function, Jsonb *usage, Numeric *count)
{
	Callee	   *callee;
	Callee		once;
	Refusal    *refusal = NULL;
	Datum		result;
	bool		isnull = false;

	if (function->strategy != NULL)
	{
		result = DirectFunctionCall2(function->strategy->function,
									 JsonbPGetDatum(usage),
									 JsonbPGetDatum(function->options));
		*count = DatumGetNumeric(result);
		return check_result(function, *count);
	}
	if (function->owner == NULL)
		elog(ERROR, "no strategy is called \"%s\"", function->name);

	callee = find_callee(function);
	if (callee->calls > 0)
	{
		/* it called what called it: leave its own state alone */
		callee = &once;
		callee->calls = 0;
		refusal = prepare(function, callee, CurrentMemoryContext);
	}
	else if (!callee->valid)
	{
		if (callee->context != NULL)
			MemoryContextDelete(callee->context);
		callee->context = NULL;
		callee->context = AllocSetContextCreate(TopMemoryContext,
												"tokenbill meter function",
												ALLOCSET_SMALL_SIZES);
		/* an invalidation while it is being looked up must not be lost */
		callee->valid = true;
		refusal = prepare(function, callee, callee->context);
		if (refusal != NULL)
			callee->valid = false;
	}
	if (refusal == NULL && strcmp(callee->owner_name, function->owner) != 0)
		refusal = tb_refusal(ERRCODE_INSUFFICIENT_PRIVILEGE,
							 tb_json("meter:s function:s", function->meter,
									 tb_function_text(function)),
							 "Let its owner register it again with tokenbill.set_meter_function().",
							 "function %s of meter \"%s\" has another owner since it was registered",
							 tb_function_text(function), function->meter);
	if (refusal != NULL)
		return refusal;

	callee->calls++;
	PG_TRY();
	{
		result = call_as_owner(callee, function, usage, &isnull);
	}
	PG_FINALLY();
	{
		callee->calls--;
	}
	PG_END_TRY();

	if (isnull)
		return bad_result(function, ERRCODE_NULL_VALUE_NOT_ALLOWED,
						  "Return 0 where there is nothing to charge.",
						  "null");
	if (callee->returns == INT4OID)
		*count = int64_to_numeric(DatumGetInt32(result));
	else if (callee->returns == INT8OID)
		*count = int64_to_numeric(DatumGetInt64(result));
	else
		*count = DatumGetNumericCopy(result);
	return check_result(function, *count);
}

/*
 * An error of a function as a refusal; but not one that has nothing to do with
 * it, or that means that the transaction cannot go on.
 */
static Refusal *
contained(const MeterFunction *function, ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	if (error->elevel > ERROR ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR))
		ReThrowError(error);
	if (function->strategy != NULL)
		return tb_refusal(error->sqlerrcode, error->detail, error->hint, "%s",
						  error->message);
	return tb_refusal(error->sqlerrcode,
					  tb_json("meter:s function:s detail:s", function->meter,
							  tb_function_text(function), error->detail),
					  error->hint ? error->hint : "The function of the meter raised this.",
					  "%s", error->message);
}

/*
 * tb_call_function
 *		Have a function count its meter from a usage object.
 */
Refusal *
tb_call_function(const MeterFunction *function, Jsonb *usage, Numeric *count)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Refusal    *volatile refusal = NULL;

	if (!contain)
		return call(function, usage, count);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		refusal = call(function, usage, count);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		refusal = contained(function, error);
	}
	PG_END_TRY();
	return refusal;
}
