/*
 * device_login.c
 *	  CALL tokenbill.oauth_device_login(): begin a login, and wait for its code.
 *
 * The code is made by the authorization server, which only the worker asks, and it
 * does so when the login has been committed.  So a function cannot return it, but a
 * procedure can: it commits, and waits with neither a snapshot nor a lock.
 */
#include "check.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "query.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(tokenbill_oauth_device_login);

#define COLUMNS 6

/* Between two looks; somebody waits before a terminal. */
#define LOOK_MS 100

#define LONGEST_WAIT_US (10 * USECS_PER_MINUTE)

/* The login as it is: of the columns, the first is null until there is a code. */
typedef struct Login
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
} Login;

/*
 * Begin it, or look how it goes; the values in the context.  Asked with the rights
 * of the caller: the function behind it looks who that is.
 */
static void
look(const char *sql, Datum provider, MemoryContext context, Login *login)
{
	Oid			types[] = {TEXTOID};
	TupleDesc	desc;
	MemoryContext old;

	if (SPI_execute_with_args(sql, 1, types, &provider, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "there is no device grant of this provider any more");
	desc = SPI_tuptable->tupdesc;
	heap_deform_tuple(SPI_tuptable->vals[0], desc, login->values, login->nulls);
	old = MemoryContextSwitchTo(context);
	for (int i = 0; i < COLUMNS; i++)
	{
		if (!login->nulls[i])
			login->values[i] = datumCopy(login->values[i], TupleDescAttr(desc, i)->attbyval,
										 TupleDescAttr(desc, i)->attlen);
	}
	MemoryContextSwitchTo(old);
}

/* How long to wait; 22004, 22023. */
static int64
wait_us(FunctionCallInfo fcinfo)
{
	Interval   *wait;
	int64		us;

	if (PG_ARGISNULL(1))
		tb_raise(tb_null_argument("wait"));
	wait = PG_GETARG_INTERVAL_P(1);
	us = wait->time;
	/* days are more than that, and could overflow */
	if (wait->month != 0 || wait->day != 0 || us < 0 || us > LONGEST_WAIT_US)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "wait"),
							"Pass an interval such as 30 seconds.",
							"wait must be between zero and ten minutes"));
	return us;
}

/*
 * oauth_device_login(provider text, wait interval) -> user_code, verification_uri,
 * verification_uri_complete, expires_at, state, error
 *		Errors: those of oauth_device_begin(); 22004, 22023 wait; 2D000 within a
 *		transaction block or a function; 57014 there is no code after that time, the
 *		login goes on.  Holds no lock and no snapshot while it waits.
 */
Datum
tokenbill_oauth_device_login(PG_FUNCTION_ARGS)
{
#define SELECTED "d.user_code, d.verification_uri, d.verification_uri_complete, d.expires_at, d.state, d.error"
	static const char *const sql = "SELECT " SELECTED " FROM tokenbill.oauth_device_begin($1) d";
	static uint32 wait_event = 0;
	MemoryContext context = CurrentMemoryContext;
	CallContext *call = (CallContext *) fcinfo->context;
	text	   *provider = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	TimestampTz until;
	Login		login;
	TupleDesc	desc;

	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		tb_raise(tb_refusal(ERRCODE_INVALID_TRANSACTION_TERMINATION, "{}",
							"Call it outside of a transaction block, or use tokenbill.oauth_device_begin().",
							"oauth_device_login() cannot run within a transaction, for it commits"));
	tb_raise(tb_check_text("provider", provider, TB_MAX_ACCOUNT));
	until = GetCurrentTimestamp() + wait_us(fcinfo);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "oauth_device_login() has no result");
	desc = BlessTupleDesc(desc);

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	for (;;)
	{
		long		left;

		/* the same login each time, for as long as it is pending */
		look(sql, PointerGetDatum(provider), context, &login);
		SPI_commit();
		if (!login.nulls[0])
			break;
		left = (long) Max((until - GetCurrentTimestamp()) / 1000, 0);
		if (left == 0)
			tb_raise(tb_refusal(ERRCODE_QUERY_CANCELED,
								tb_json("provider:s error:s", text_to_cstring(provider),
										login.nulls[5] ? "none" : TextDatumGetCString(login.values[5])),
								"Look at tokenbill.device_grants and tokenbill.worker_status; the login goes on.",
								"there is no user code yet"));
		if (wait_event == 0)
			wait_event = tb_wait_event("TokenbillDeviceLogin");
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(left, LOOK_MS), wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, login.values, login.nulls)));
}
