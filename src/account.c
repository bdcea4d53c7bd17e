/*
 * account.c
 *	  The account row: lock it, judge it, write it back.
 *
 * Whatever moves on an account happens while its row is locked, and the row is
 * what everybody waits at: that makes seq gapless, the chain linear, and the
 * balance what the ledger says.  FOR NO KEY UPDATE is what the UPDATE that
 * follows takes anyway.
 */
#include "account.h"

#include "check.h"
#include "money.h"
#include "query.h"
#include "tenant.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(tokenbill_may_change);

/* The columns of tokenbill.account that are read here, in the table's order. */
enum
{
	ACCOUNT_NAME,
	ACCOUNT_BALANCE,
	ACCOUNT_HELD,
	ACCOUNT_CREDIT_LIMIT,
	ACCOUNT_SEQ,
	ACCOUNT_UPDATED_AT,
	ACCOUNT_HASH,
	ACCOUNT_STATUS,
	ACCOUNT_SANDBOX,
	ACCOUNT_TOKENS_ONLY,
	ACCOUNT_OVERFLOW,
	ACCOUNT_CURRENCY,
	ACCOUNT_CREDITS,
	ACCOUNT_METADATA,
	ACCOUNT_CREATED_AT,
	ACCOUNT_PRICE_GROUP,
	ACCOUNT_LIMITS,
	ACCOUNT_COLUMNS
};

/*
 * tb_no_account
 *		The refusal for an account that is not there, or not there for a tenant.
 */
Refusal *
tb_no_account(const text *account)
{
	return tb_refusal(TB_NOT_FOUND, tb_json("account:t", account),
					  "Create it with tokenbill.create_account().",
					  "account \"%s\" does not exist",
					  text_to_cstring(account));
}

/*
 * tb_check_account
 *		Is the account there, for this user?  Locks nothing.  Needs SPI.
 */
Refusal *
tb_check_account(const text *account, Oid user)
{
	static Statement query = {
		.sql = "SELECT FROM tokenbill.account a WHERE a.account OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		values[1];

	values[0] = PointerGetDatum(account);
	if (!tb_visible_to(account, user) || tb_run(&query, values, NULL) == 0)
		return tb_no_account(account);
	return NULL;
}

/*
 * Read an account's row; the values stay where they are.  False, and nothing read, if
 * it is another account's.  The name and ctid are the caller's to set.
 */
static bool
read_row(HeapTupleHeader row, Account *account)
{
	Datum		values[ACCOUNT_COLUMNS];
	bool		nulls[ACCOUNT_COLUMNS];

	tb_take_row_apart(row, ACCOUNT_COLUMNS, values, nulls);
	if (!tb_same_text(DatumGetTextPP(values[ACCOUNT_NAME]), account->account))
		return false;
	account->balance = DatumGetNumeric(values[ACCOUNT_BALANCE]);
	account->held = DatumGetNumeric(values[ACCOUNT_HELD]);
	account->credit_limit = DatumGetNumeric(values[ACCOUNT_CREDIT_LIMIT]);
	account->seq = DatumGetInt64(values[ACCOUNT_SEQ]);
	account->updated_at = DatumGetTimestampTz(values[ACCOUNT_UPDATED_AT]);
	account->has_hash = !nulls[ACCOUNT_HASH];
	if (account->has_hash)
	{
		bytea	   *hash = DatumGetByteaPP(values[ACCOUNT_HASH]);

		if (VARSIZE_ANY_EXHDR(hash) != TB_HASH_BYTES)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("account \"%s\" has a hash of the wrong length",
							text_to_cstring(account->account)),
					 errhint("Run tokenbill.verify_ledger() on the account.")));
		memcpy(account->hash, VARDATA_ANY(hash), TB_HASH_BYTES);
	}
	account->status = DatumGetTextPP(values[ACCOUNT_STATUS]);
	account->sandbox = DatumGetBool(values[ACCOUNT_SANDBOX]);
	account->tokens_only = DatumGetBool(values[ACCOUNT_TOKENS_ONLY]);
	account->overflow = DatumGetTextPP(values[ACCOUNT_OVERFLOW]);
	account->currency = DatumGetTextPP(values[ACCOUNT_CURRENCY]);
	account->limits = nulls[ACCOUNT_LIMITS] ? NULL :
		DatumGetArrayTypeP(values[ACCOUNT_LIMITS]);
	account->credits = DatumGetInt32(values[ACCOUNT_CREDITS]);
	account->open_credits = NULL;
	return true;
}

/*
 * Make an Account of the first row of the last result: ctid, row.
 */
static bool
take_account(const text *account_name, Account *account)
{
	Datum		columns[2];
	bool		nulls[2];

	if (!tb_row(columns, nulls))
		return false;
	account->account = unconstify(text *, account_name);
	account->ctid = *(ItemPointer) DatumGetPointer(columns[0]);
	return read_row(DatumGetHeapTupleHeaderCopy(columns[1]), account);
}

/*
 * tb_lock_account
 *		Lock an account's row until the transaction ends, and read it; false if
 *		there is none.  Waits for whoever has it locked.
 *
 * Values are palloc'd in the current memory context.
 */
bool
tb_lock_account(const text *account_name, Account *account)
{
	static Statement query = {
		.sql = "SELECT a.ctid, a FROM tokenbill.account a WHERE a.account OPERATOR(pg_catalog.=) $1"
		" FOR NO KEY UPDATE",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		args[1];

	args[0] = PointerGetDatum(account_name);
	tb_run(&query, args, NULL);
	return take_account(account_name, account);
}

/*
 * tb_read_account
 *		The same without a lock, as the calling query sees it: to look, not to
 *		post.
 */
bool
tb_read_account(const text *account_name, Account *account)
{
	static Statement query = {
		.sql = "SELECT a.ctid, a FROM tokenbill.account a WHERE a.account OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		args[1];

	args[0] = PointerGetDatum(account_name);
	tb_read(&query, args, NULL);
	return take_account(account_name, account);
}

/* What a statement that writes an account's row asks for. */
typedef struct AccountWrite
{
	const Statement *statement;
	const Account *account;
	char		hash[VARHDRSZ + TB_HASH_BYTES];
} AccountWrite;

/*
 * The parameters of a statement that writes an account's row.  In
 * tb_change_account() all but the name are known only when the row has been seen,
 * so the executor is made to ask for each when it needs it.
 */
static ParamExternData *
fetch_parameter(ParamListInfo params, int number, bool speculative,
				ParamExternData *space)
{
	AccountWrite *write = (AccountWrite *) params->paramFetchArg;
	const Account *account = write->account;

	space->isnull = false;
	space->pflags = 0;
	space->ptype = write->statement->found[number - 1];
	switch (number)
	{
		case 1:
			space->value = PointerGetDatum(account->account);
			break;
		case 2:
			space->value = NumericGetDatum(account->balance);
			break;
		case 3:
			space->value = Int64GetDatum(account->seq);
			break;
		case 4:
			space->value = TimestampTzGetDatum(account->updated_at);
			break;
		case 5:
			SET_VARSIZE(write->hash, sizeof(write->hash));
			memcpy(VARDATA(write->hash), account->hash, TB_HASH_BYTES);
			space->value = PointerGetDatum(write->hash);
			space->isnull = !account->has_hash;
			break;
		case 6:
			space->value = PointerGetDatum(account->limits);
			space->isnull = account->limits == NULL;
			break;
		case 7:
			space->value = NumericGetDatum(account->held);
			break;
		case 8:
			space->value = PointerGetDatum(&account->ctid);
			break;
		default:
			elog(ERROR, "unexpected parameter %d", number);
	}
	return space;
}

/*
 * tb_store_account
 *		Write back what a new line changed: balance, held, seq, time, hash and
 *		limits.
 *
 * The row is where tb_lock_account() found it, which saves a second index search:
 * nobody else can have moved it since.  After this the ctid is stale; lock the account
 * again before posting another line.
 */
void
tb_store_account(const Account *account)
{
	static Statement query = {
		.sql = "UPDATE tokenbill.account SET balance = $2, seq = $3, updated_at = $4, hash = $5,"
		" limits = $6, held = $7 WHERE ctid OPERATOR(pg_catalog.=) $8 AND account OPERATOR(pg_catalog.=) $1",
		.nargs = 8,
		.types = {TEXTOID, NUMERICOID, INT8OID, TIMESTAMPTZOID, BYTEAOID, TB_FOUND_TYPE,
		NUMERICOID, TIDOID}
	};
	AccountWrite write = {.statement = &query,.account = account};

	if (tb_run_late(&query, fetch_parameter, &write) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("account \"%s\" moved while it was locked",
						text_to_cstring(account->account)),
				 errhint("Try the transaction again.")));
}

/* The change that the running statement is about; null when there is none. */
static AccountChange *running_change = NULL;

/*
 * tb_change_account
 *		Change an account's row at once, if may_change() agrees to; false if it
 *		does not, or if there is no such row.  Waits for whoever has it locked.
 *
 * The same as tb_lock_account(), a judgement and tb_store_account(), for less: the
 * row is found once, and locked by being written.  Under contention it is the
 * executor's own rechecking (EvalPlanQual) that has the newest row judged.
 */
bool
tb_change_account(AccountChange *change)
{
	static Statement query = {
		.sql = "UPDATE tokenbill.account a SET balance = $2, seq = $3, updated_at = $4, hash = $5, limits = $6"
		" WHERE a.account OPERATOR(pg_catalog.=) $1 AND tokenbill.may_change(a)",
		.nargs = 6,
		.types = {TEXTOID, NUMERICOID, INT8OID, TIMESTAMPTZOID, BYTEAOID, TB_FOUND_TYPE}
	};
	AccountWrite write = {.statement = &query,.account = &change->account};
	uint64		changed = 0;

	Assert(running_change == NULL);
	change->context = CurrentMemoryContext;
	PG_TRY();
	{
		running_change = change;
		changed = tb_run_late(&query, fetch_parameter, &write);
	}
	PG_FINALLY();
	{
		running_change = NULL;
	}
	PG_END_TRY();
	return changed > 0;
}

/*
 * may_change(account tokenbill.account) -> boolean
 *		The condition of tb_change_account()'s statement; nobody else may call it.
 *
 * It is asked about other accounts' rows as well: where the plan is a scan of the
 * whole table, as it is while there are few accounts, the executor may ask this
 * before it compares the name.  Their rows must not leave anything behind.
 */
Datum
tokenbill_may_change(PG_FUNCTION_ARGS)
{
	AccountChange *change = running_change;
	HeapTupleHeader row;
	MemoryContext old;
	bool		agreed;

	if (change == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("may_change() is for tokenbill's own use"),
				 errhint("Use charge().")));

	/* what is made of the row is needed after the statement */
	old = MemoryContextSwitchTo(change->context);
	row = PG_GETARG_HEAPTUPLEHEADER_COPY(0);
	agreed = read_row(row, &change->account);
	if (likely(agreed))
		agreed = change->may_change(change);
	else
		pfree(row);
	MemoryContextSwitchTo(old);
	PG_RETURN_BOOL(agreed);
}

/*
 * tb_account_is_locked
 *		Whether another transaction has the account's row locked at present.
 */
bool
tb_account_is_locked(const text *account_name)
{
	static Statement query = {
		.sql = "SELECT FROM tokenbill.account a WHERE a.account OPERATOR(pg_catalog.=) $1"
		" FOR NO KEY UPDATE SKIP LOCKED",
		.nargs = 1,
		.types = {TEXTOID}
	};
	static Statement exists = {
		.sql = "SELECT FROM tokenbill.account a WHERE a.account OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		values[1];

	values[0] = PointerGetDatum(account_name);
	return tb_run(&query, values, NULL) == 0 && tb_run(&exists, values, NULL) > 0;
}

/*
 * tb_available
 *		What the account may still spend: balance + credit_limit - held.
 */
Numeric
tb_available(const Account *account)
{
	return tb_sub(tb_add(account->balance, account->credit_limit),
				  account->held);
}

static Refusal *
forbidden(const Account *account, const char *hint)
{
	return tb_refusal(TB_FORBIDDEN,
					  tb_json("account:t status:t", account->account,
							  account->status),
					  hint, "account \"%s\" is %s",
					  text_to_cstring(account->account),
					  text_to_cstring(account->status));
}

/*
 * tb_may_be_charged, tb_may_be_credited
 *		PT403 unless the account's status allows it: an active account both, a
 *		frozen one only credit, a closed one neither.
 */
Refusal *
tb_may_be_charged(const Account *account)
{
	if (tb_text_is(account->status, "active"))
		return NULL;
	return forbidden(account,
					 tb_text_is(account->status, "frozen") ?
					 "It can be credited; tokenbill.set_account_status() sets it active again." :
					 "A closed account stays closed.");
}

Refusal *
tb_may_be_credited(const Account *account)
{
	if (!tb_text_is(account->status, "closed"))
		return NULL;
	return forbidden(account, "A closed account stays closed.");
}
