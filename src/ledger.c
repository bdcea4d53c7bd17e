/*
 * ledger.c
 *	  Post a line; find one again.
 *
 * A line is made from the account's row while that is locked, and inserted unless
 * its key is there already.  tb_post() rewrites the account after that, so a replay
 * needs no undoing; movement.c has a shorter way, which does.
 */
#include "ledger.h"

#include "counter.h"
#include "money.h"
#include "month.h"
#include "query.h"
#include "utils/builtins.h"

static Datum
jsonb_or_null(Jsonb *value, char *null)
{
	*null = value == NULL ? 'n' : ' ';
	return PointerGetDatum(value);
}

/*
 * tb_next_line
 *		Make a line the account's next one, and the account what it is after it.
 *
 * The line comes with kind, amount, contra, key and whatever it keeps, and with
 * held, the total of the holds after it; seq, time, balance, credit limit and hash
 * are filled in here, in the account as well.  Nothing is written.
 */
void
tb_next_line(Account *account, ChainedLine *line)
{
	uint8		hash[TB_HASH_BYTES];

	line->account = account->account;
	line->seq = account->seq + 1;
	line->created_at = Max(line->created_at, account->updated_at);
	line->balance = tb_add(account->balance, line->amount);
	line->credit_limit = account->credit_limit;
	tb_line_hash(line, account->has_hash ? account->hash : NULL, hash);

	account->balance = line->balance;
	account->held = line->held;
	account->seq = line->seq;
	account->updated_at = line->created_at;
	account->has_hash = true;
	memcpy(account->hash, hash, TB_HASH_BYTES);
}

/*
 * tb_insert_line
 *		Insert what tb_next_line() made; false, and nothing inserted, if the key
 *		is there already.
 *
 * The account must be locked: it is what keeps seq without gaps.  Needs SPI.
 */
bool
tb_insert_line(const Account *account, const ChainedLine *line)
{
	Datum		values[TB_LEDGER_COLUMNS];
	char		nulls[TB_LEDGER_COLUMNS];
	char		hash[VARHDRSZ + TB_HASH_BYTES];
	SPIPlanPtr	plan = tb_insert_plan(line->created_at);

	memcpy(VARDATA(hash), account->hash, TB_HASH_BYTES);
	SET_VARSIZE(hash, sizeof(hash));
	memset(nulls, ' ', sizeof(nulls));
	values[0] = PointerGetDatum(line->account);
	values[1] = Int64GetDatum(line->seq);
	values[2] = TimestampTzGetDatum(line->created_at);
	values[3] = PointerGetDatum(line->kind);
	values[4] = NumericGetDatum(line->amount);
	values[5] = NumericGetDatum(line->balance);
	values[6] = NumericGetDatum(line->held);
	values[7] = NumericGetDatum(line->credit_limit);
	values[8] = PointerGetDatum(line->contra);
	values[9] = PointerGetDatum(line->service);
	nulls[9] = line->service == NULL ? 'n' : ' ';
	values[10] = jsonb_or_null(line->usage, &nulls[10]);
	values[11] = jsonb_or_null(line->rates, &nulls[11]);
	values[12] = jsonb_or_null(line->metadata, &nulls[12]);
	values[13] = jsonb_or_null(line->request, &nulls[13]);
	values[14] = PointerGetDatum(line->idempotency_key);
	values[15] = PointerGetDatum(line->ref);
	nulls[15] = line->ref == NULL ? 'n' : ' ';
	values[16] = PointerGetDatum(hash);
	values[17] = NumericGetDatum(line->cost);
	nulls[17] = line->cost == NULL ? 'n' : ' ';
	if (tb_run_plan(plan, values, nulls) != 1)
		return false;
	tb_count_line(line->kind);
	return true;
}

/*
 * tb_post
 *		Add a line to an account's ledger; false, and nothing changed, if the key
 *		is there already.
 *
 * The account must have been locked by tb_lock_account() since its last line; the
 * line is as tb_next_line() wants it, and counted by the limits if there are any.  Needs
 * SPI.
 */
bool
tb_post(Account *account, ChainedLine *line, LimitSet *limits)
{
	/* may make the month's table, so before anything is settled */
	(void) tb_insert_plan(Max(line->created_at, account->updated_at));
	tb_next_line(account, line);
	if (limits != NULL)
		tb_count_limits(limits, account, line);
	if (!tb_insert_line(account, line))
		return false;
	tb_store_account(account);
	return true;
}

static text *
copy_text(Datum value, bool isnull)
{
	return isnull ? NULL : DatumGetTextPCopy(value);
}

static Jsonb *
copy_jsonb(Datum value, bool isnull)
{
	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

/*
 * tb_find_line
 *		Read the line that a key made; false if there is none.  Needs SPI.
 */
bool
tb_find_line(const text *account, const text *key, ChainedLine *line)
{
	static Statement query = {
		.sql = "SELECT l.seq, l.created_at, l.kind, l.amount, l.balance, l.held, l.credit_limit, l.contra,"
		" l.service, l.usage, l.rates, l.metadata, l.request, l.idempotency_key, l.ref, l.cost"
		" FROM tokenbill.ledger l WHERE l.account OPERATOR(pg_catalog.=) $1"
		" AND l.idempotency_key OPERATOR(pg_catalog.=) $2"
		" ORDER BY l.seq DESC LIMIT 1",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID}
	};
	Datum		values[16];
	bool		nulls[16];

	values[0] = PointerGetDatum(account);
	values[1] = PointerGetDatum(key);
	tb_run(&query, values, NULL);
	if (!tb_row(values, nulls))
		return false;

	line->account = unconstify(text *, account);
	line->seq = DatumGetInt64(values[0]);
	line->created_at = DatumGetTimestampTz(values[1]);
	line->kind = copy_text(values[2], nulls[2]);
	line->amount = DatumGetNumericCopy(values[3]);
	line->balance = DatumGetNumericCopy(values[4]);
	line->held = DatumGetNumericCopy(values[5]);
	line->credit_limit = DatumGetNumericCopy(values[6]);
	line->contra = copy_text(values[7], nulls[7]);
	line->service = copy_text(values[8], nulls[8]);
	line->usage = copy_jsonb(values[9], nulls[9]);
	line->rates = copy_jsonb(values[10], nulls[10]);
	line->metadata = copy_jsonb(values[11], nulls[11]);
	line->request = copy_jsonb(values[12], nulls[12]);
	line->idempotency_key = copy_text(values[13], nulls[13]);
	line->ref = copy_text(values[14], nulls[14]);
	line->cost = nulls[15] ? NULL : DatumGetNumericCopy(values[15]);
	return true;
}
