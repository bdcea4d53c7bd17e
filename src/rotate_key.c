/*
 * rotate_key.c
 *	  Bringing all secrets under another master key.
 *
 * The new key is put in front of the old one where keys come from (key.c); from
 * then on new values are encrypted with it, and those there are stay readable with
 * the old one.  CALL rotate_key() then wraps the data key of each secret anew; when
 * it is through, the old key is not needed any more.  No value is decrypted.
 *
 *	  first, a hundred rows a transaction, those that somebody has locked left out
 *	  then what is left, a row a transaction, waiting for its lock
 *	  until nothing is left but what cannot be unwrapped
 *
 * So it never waits for a secret's row while it has locked another one, and cannot
 * be part of a deadlock with those who store several.  What it has committed stays,
 * whatever ends it; called again it goes on with what is left.  How far it is, and was
 * when it ended, is a row of key_rotation, written in the same transactions.
 *
 * It is a procedure because only those may commit.  In a transaction block it may
 * not, and does all in that transaction, with all its locks until the end.
 *
 * Races: set_secret() locks the same row, so the one that comes second sees what
 * the first has written.  Whoever has read a row before it was wrapped anew needs
 * the old key for it, which is still there: it is taken away after this has ended.
 * Two of these at once wait for each other at most for a row, and each row is
 * wrapped once.
 */
#include "envelope.h"

#include "clock.h"
#include "executor/spi.h"
#include "locked.h"
#include "miscadmin.h"
#include "query.h"
#include "tenant.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(tokenbill_rotate_key);

/* Rows of a transaction. */
#define BATCH 100

/* How many names of secrets an error has. */
#define MAX_NAMED 20

typedef struct Rotation
{
	FunctionCallInfo fcinfo;
	bool		atomic;			/* within a transaction block */
	Session		session;
	MasterKey  *key;
	const char *key_id;			/* of the present key */
	uint8	   *data_key;		/* locked memory for one at a time */
	MemoryContext context;		/* of all of it */
	MemoryContext batch;		/* of a transaction */
	char		after[TB_MAX_NAME + 1]; /* the last name of this pass */
	int64		secrets;		/* that there were to do */
	int64		rewrapped;
	List	   *failures;		/* of Refusal *, of this pass */
	List	   *failed;			/* and the names */
} Rotation;

/* Begin a transaction's work, as the owner of the extension. */
static void
begin(Rotation *rotation)
{
	tb_enter(rotation->fcinfo, &rotation->session);
	PushActiveSnapshot(GetTransactionSnapshot());
}

/*
 * End it, and the transaction, if we may.  The rights are put back first: a
 * transaction must not begin with others than the caller's.
 */
static void
end(Rotation *rotation)
{
	PopActiveSnapshot();
	tb_leave(&rotation->session);
	if (!rotation->atomic)
		SPI_commit();
	CHECK_FOR_INTERRUPTS();
}

/*
 * How many secrets there are, and in "left" how many want another key than the
 * present one.
 */
static int64
count(const Rotation *rotation, int64 *left)
{
	static Statement query = {
		.sql = "SELECT pg_catalog.count(*),"
		" pg_catalog.count(*) FILTER (WHERE s.key_id OPERATOR(pg_catalog.<>) $1) FROM tokenbill.secret s",
		.nargs = 1,
		.types = {TEXTOID}
	};
	Datum		values[2];
	bool		nulls[2];

	values[0] = CStringGetTextDatum(rotation->key_id);
	tb_run(&query, values, NULL);
	(void) tb_row(values, nulls);
	*left = DatumGetInt64(values[1]);
	return DatumGetInt64(values[0]);
}

/* Note that it begins, or goes on. */
static void
note_begin(const Rotation *rotation)
{
	static Statement query = {
		.sql = "INSERT INTO tokenbill.key_rotation AS r (key_id, secrets, pid, statement_at, started_at, updated_at)"
		" VALUES ($1, $2, $3, $4, $5, $5)"
		" ON CONFLICT (key_id) DO UPDATE SET secrets = r.rewrapped OPERATOR(pg_catalog.+) EXCLUDED.secrets,"
		" failed = 0, pid = EXCLUDED.pid, statement_at = EXCLUDED.statement_at,"
		" updated_at = EXCLUDED.updated_at, finished_at = NULL",
		.nargs = 5,
		.types = {TEXTOID, INT8OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	Datum		values[5];

	values[0] = CStringGetTextDatum(rotation->key_id);
	values[1] = Int64GetDatum(rotation->secrets);
	values[2] = Int32GetDatum(MyProcPid);
	values[3] = TimestampTzGetDatum(GetCurrentStatementStartTimestamp());
	values[4] = TimestampTzGetDatum(tb_now());
	tb_run(&query, values, NULL);
}

/* Note how far it is: so many more, and whether that was all. */
static void
note_progress(const Rotation *rotation, int64 more, bool finished)
{
	static Statement query = {
		.sql = "UPDATE tokenbill.key_rotation r SET rewrapped = r.rewrapped OPERATOR(pg_catalog.+) $2, failed = $3,"
		" secrets = GREATEST(r.secrets, r.rewrapped OPERATOR(pg_catalog.+) $2 OPERATOR(pg_catalog.+) $3),"
		" updated_at = $4, finished_at = CASE WHEN $5 THEN $4 END"
		" WHERE r.key_id OPERATOR(pg_catalog.=) $1 AND r.finished_at IS NULL",
		.nargs = 5,
		.types = {TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID, BOOLOID}
	};
	Datum		values[5];

	values[0] = CStringGetTextDatum(rotation->key_id);
	values[1] = Int64GetDatum(more);
	values[2] = Int64GetDatum(list_length(rotation->failed));
	values[3] = TimestampTzGetDatum(tb_now());
	values[4] = BoolGetDatum(finished);
	tb_run(&query, values, NULL);
}

/* Store what has been wrapped anew. */
static void
store(const SealedSecret *sealed)
{
	static Statement query = {
		.sql = "UPDATE tokenbill.secret s SET key_id = $2, key_nonce = $3, wrapped_key = $4"
		" WHERE s.name OPERATOR(pg_catalog.=) $1",
		.nargs = 4,
		.types = {TEXTOID, TEXTOID, BYTEAOID, BYTEAOID}
	};
	Datum		values[4];

	values[0] = CStringGetTextDatum(sealed->name);
	values[1] = CStringGetTextDatum(sealed->key_id);
	values[2] = PointerGetDatum(sealed->key_nonce);
	values[3] = PointerGetDatum(sealed->wrapped_key);
	tb_run(&query, values, NULL);
}

/* Keep why a secret cannot be wrapped anew, beyond the transaction. */
static void
keep_failure(Rotation *rotation, const SealedSecret *sealed, const Refusal *refusal)
{
	MemoryContext old = MemoryContextSwitchTo(rotation->context);
	Refusal    *kept = palloc(sizeof(Refusal));

	kept->sqlstate = refusal->sqlstate;
	kept->message = pstrdup(refusal->message);
	kept->detail = pstrdup(refusal->detail);
	kept->hint = refusal->hint; /* a constant */
	rotation->failures = lappend(rotation->failures, kept);
	rotation->failed = lappend(rotation->failed, pstrdup(sealed->name));
	MemoryContextSwitchTo(old);
}

/* Read the rows that a query has found and locked; a list of SealedSecret *. */
static List *
read_rows(void)
{
	List	   *rows = NIL;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SealedSecret *sealed = palloc0(sizeof(SealedSecret));
		Datum		values[6];
		bool		nulls[6];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		strlcpy(sealed->name, TextDatumGetCString(values[0]), sizeof(sealed->name));
		sealed->version = DatumGetInt64(values[1]);
		sealed->layout = DatumGetInt32(values[2]);
		sealed->key_id = TextDatumGetCString(values[3]);
		sealed->key_nonce = DatumGetByteaPCopy(values[4]);
		sealed->wrapped_key = DatumGetByteaPCopy(values[5]);
		rows = lappend(rows, sealed);
	}
	return rows;
}

/* The next rows of a pass that nobody has locked, a batch of them. */
static List *
free_rows(const Rotation *rotation)
{
	static Statement query = {
		.sql = "SELECT s.name, s.version, s.layout, s.key_id, s.key_nonce, s.wrapped_key FROM tokenbill.secret s"
		" WHERE s.name OPERATOR(pg_catalog.>) $1 AND s.key_id OPERATOR(pg_catalog.<>) $2"
		" ORDER BY s.name LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED",
		.nargs = 3,
		.types = {TEXTOID, TEXTOID, INT4OID}
	};
	Datum		values[3];

	values[0] = CStringGetTextDatum(rotation->after);
	values[1] = CStringGetTextDatum(rotation->key_id);
	values[2] = Int32GetDatum(BATCH);
	tb_run(&query, values, NULL);
	return read_rows();
}

/*
 * The name that is next in a pass; false if there is none.
 *
 * It is looked for without a lock, and then locked by its name: a query that does
 * both would keep the lock on a row that has changed meanwhile, and wait for the
 * next one with it.
 */
static bool
next_name(const Rotation *rotation, char *name)
{
	static Statement query = {
		.sql = "SELECT s.name FROM tokenbill.secret s"
		" WHERE s.name OPERATOR(pg_catalog.>) $1 AND s.key_id OPERATOR(pg_catalog.<>) $2"
		" ORDER BY s.name LIMIT 1",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID}
	};
	Datum		values[2];
	bool		nulls[1];

	values[0] = CStringGetTextDatum(rotation->after);
	values[1] = CStringGetTextDatum(rotation->key_id);
	tb_run(&query, values, NULL);
	if (!tb_row(values, nulls))
		return false;
	strlcpy(name, TextDatumGetCString(values[0]), TB_MAX_NAME + 1);
	return true;
}

/*
 * The row of that name, whose lock is waited for; none if it is gone by then, or
 * has been stored anew.
 */
static List *
row_of(const Rotation *rotation, const char *name)
{
	static Statement query = {
		.sql = "SELECT s.name, s.version, s.layout, s.key_id, s.key_nonce, s.wrapped_key FROM tokenbill.secret s"
		" WHERE s.name OPERATOR(pg_catalog.=) $1 AND s.key_id OPERATOR(pg_catalog.<>) $2"
		" FOR NO KEY UPDATE",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID}
	};
	Datum		values[2];

	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(rotation->key_id);
	tb_run(&query, values, NULL);
	return read_rows();
}

/* Wrap these rows, which are locked, anew; returns how many could be. */
static int64
rewrap(Rotation *rotation, const List *rows)
{
	const ListCell *cell;
	int64		done = 0;

	foreach(cell, rows)
	{
		SealedSecret *sealed = lfirst(cell);
		Refusal    *refusal = tb_unwrap_key(sealed, rotation->key, rotation->data_key);

		if (refusal == NULL)
			refusal = tb_wrap_key(sealed, rotation->key, rotation->data_key);
		if (refusal == NULL)
		{
			store(sealed);
			done++;
		}
		else
			keep_failure(rotation, sealed, refusal);
	}
	return done;
}

/*
 * Wrap the next rows of a pass anew, in a transaction of their own; false if there
 * are no more.  *done counts up.
 */
static bool
do_batch(Rotation *rotation, bool wait, int64 *done)
{
	MemoryContext old = MemoryContextSwitchTo(rotation->batch);
	List	   *rows = NIL;
	char		name[TB_MAX_NAME + 1];
	int64		more;
	bool		any;

	begin(rotation);
	if (wait)
	{
		any = next_name(rotation, name);
		if (any)
			rows = row_of(rotation, name);
	}
	else
	{
		rows = free_rows(rotation);
		any = rows != NIL;
		if (any)
			strlcpy(name, ((SealedSecret *) llast(rows))->name, sizeof(name));
	}
	more = rewrap(rotation, rows);
	if (rows != NIL)
		note_progress(rotation, more, false);
	if (any)
		strlcpy(rotation->after, name, sizeof(rotation->after));
	end(rotation);
	MemoryContextSwitchTo(old);
	MemoryContextReset(rotation->batch);

	*done += more;
	rotation->rewrapped += more;
	if (more > 0 && (more == BATCH || rotation->rewrapped % BATCH == 0))
		ereport(NOTICE,
				(errmsg(INT64_FORMAT " of " INT64_FORMAT " secrets are under key \"%s\"",
						rotation->rewrapped, rotation->secrets, rotation->key_id)));
	return any;
}

/* Go through all rows once; returns how many were wrapped anew. */
static int64
pass(Rotation *rotation, bool wait)
{
	int64		done = 0;

	rotation->after[0] = '\0';
	rotation->failures = rotation->failed = NIL;
	while (do_batch(rotation, wait, &done))
		;
	return done;
}

/* The names of secrets that cannot be wrapped anew, as JSON. */
static char *
failed_names(const Rotation *rotation)
{
	StringInfoData names;
	ListCell   *cell;
	int			n = 0;

	initStringInfo(&names);
	foreach(cell, rotation->failed)
	{
		if (n == MAX_NAMED)
			break;
		appendStringInfo(&names, "%s%s", n++ == 0 ? "[" : ", ",
						 tb_json_string(cstring_to_text(lfirst(cell))));
	}
	appendStringInfoChar(&names, ']');
	return names.data;
}

/* Say what is left, and why; the error does not take back what is committed. */
static void
raise_failures(const Rotation *rotation)
{
	const Refusal *first = linitial(rotation->failures);
	ListCell   *cell;

	foreach(cell, rotation->failures)
	{
		const Refusal *refusal = lfirst(cell);

		ereport(WARNING,
				(errcode(refusal->sqlstate),
				 errmsg_internal("%s", refusal->message),
				 errdetail_internal("%s", refusal->detail),
				 errhint("%s", refusal->hint)));
	}
	tb_raise(tb_refusal(first->sqlstate,
						tb_json("key_id:s rewrapped:i failed:i secrets:j", rotation->key_id,
								rotation->rewrapped, (int64) list_length(rotation->failed),
								failed_names(rotation)),
						rotation->atomic ?
						"Nothing has been changed. The warnings say what is wrong with each of them; outside of a transaction block the others are brought under the key." :
						"All others are under it. The warnings say what is wrong with each of them; keep the keys that were before, and call rotate_key() again when that is mended.",
						"%d of " INT64_FORMAT " secrets cannot be brought under key \"%s\"",
						list_length(rotation->failed), rotation->secrets, rotation->key_id));
}

/* A tenant has nothing to do with it. */
static void
check_caller(Rotation *rotation)
{
	begin(rotation);
	if (!tb_visible_to(cstring_to_text(""), rotation->session.userid))
		tb_raise(tb_refusal(ERRCODE_INSUFFICIENT_PRIVILEGE,
							tb_json("procedure:s", "rotate_key"),
							"Use a login that is not mapped to an account.",
							"a tenant has nothing to do with secrets"));
	/* and the command that brings the key is not waited for in a transaction */
	end(rotation);
}

static void
rotate(Rotation *rotation)
{
	int64		all;
	int64		left;

	check_caller(rotation);
	tb_raise(tb_key_read(&rotation->key));
	rotation->key_id = rotation->key->keys[0].id;
	rotation->data_key = tb_locked_alloc(TB_KEY_BYTES);

	begin(rotation);
	all = count(rotation, &left);
	rotation->secrets = left;
	if (left > 0)
		note_begin(rotation);
	end(rotation);

	if (left > 0)
	{
		(void) pass(rotation, false);
		while (pass(rotation, true) > 0)
			;
	}
	begin(rotation);
	all = count(rotation, &left);
	note_progress(rotation, 0, left == 0);
	end(rotation);
	if (rotation->failures != NIL)
		raise_failures(rotation);
	if (left > 0)
		ereport(WARNING,
				(errmsg(INT64_FORMAT " secrets were stored under another key meanwhile", left),
				 errhint("Some session still has another key: call rotate_key() again.")));
	ereport(NOTICE,
			(errmsg(rotation->secrets == 0 ?
					"all " INT64_FORMAT " secrets are under key \"%s\" already" :
					"all " INT64_FORMAT " secrets are under key \"%s\"",
					all - left, rotation->key_id),
			 rotation->key->count > 1 ?
			 errhint("The keys below it are needed for backups of before, and for nothing else.") : 0));
}

/*
 * rotate_key()
 *		Bring all secrets under the present master key.  Errors: those of
 *		tb_key_read(); 39000, XX001, 0A000 some secrets cannot be, the others are;
 *		42501 a tenant asks.  Locks each row while it is written.
 */
Datum
tokenbill_rotate_key(PG_FUNCTION_ARGS)
{
	Rotation	rotation = {.fcinfo = fcinfo};

	rotation.atomic = fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic;
	if (SPI_connect_ext(rotation.atomic ? 0 : SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");

	/* SPI's own context is there until SPI_finish(), commits or not */
	rotation.context = CurrentMemoryContext;
	rotation.batch = AllocSetContextCreate(rotation.context, "tokenbill rotation",
										   ALLOCSET_DEFAULT_SIZES);
	rotate(&rotation);
	tb_locked_free(rotation.data_key);
	tb_key_wipe(rotation.key);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	PG_RETURN_VOID();
}
