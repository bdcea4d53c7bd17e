/*
 * idempotency.c
 *	  One key, one effect.
 *
 * What guards it is the account's lock and the ledger's unique index (ledger.c).
 * Here is what callers see of it: who is told that a key is in progress, and
 * whether a request is the one that the key was used for.
 *
 * Keys in progress.  A caller with wait => false wants to know at once whether
 * another open transaction works on the same key.  The account's lock does not
 * tell: it says that somebody works on the account.  So every request marks its
 * key with a transaction-level lock in shared mode, which waits for nobody, and
 * a caller with wait => false tries for the same lock exclusively.
 *
 * The lock table is finite, and a transaction may make thousands of requests: the
 * first MAX_KEY_MARKS mark their keys, later ones only one of STRIPES groups of
 * accounts.  A caller with wait => false that finds its group marked looks whether
 * the account's row is locked as well, and if so is told PT423: the key may be
 * in progress, and cannot be proved not to be.
 */
#include "idempotency.h"

#include "account.h"
#include "check.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "money.h"
#include "movement.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/builtins.h"

#define MAX_KEY_MARKS 32
#define STRIPES 64

/*
 * The last field of the lock tags.  Users' advisory locks have 1 or 2 in it, so
 * theirs and ours cannot meet.  pg_locks shows it as objsubid.
 */
#define MARK_KEY 0x7462
#define MARK_STRIPE 0x7463

/* How many keys the present transaction has marked. */
static LocalTransactionId marking_transaction = InvalidLocalTransactionId;
static int	marks = 0;

static uint64
text_hash(const text *value, uint64 seed)
{
	return DatumGetUInt64(hash_any_extended((const unsigned char *) VARDATA_ANY(value),
											VARSIZE_ANY_EXHDR(value), seed));
}

static void
key_tag(LOCKTAG *tag, const text *account, const text *key)
{
	uint64		hash = text_hash(key, text_hash(account, 0));

	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (hash >> 32),
						 (uint32) hash, MARK_KEY);
}

static void
stripe_tag(LOCKTAG *tag, const text *account)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, 0,
						 (uint32) (text_hash(account, 0) % STRIPES),
						 MARK_STRIPE);
}

static Refusal *
in_progress(const text *account, const text *key)
{
	return tb_refusal(TB_IN_PROGRESS,
					  tb_json("account:t idempotency_key:t", account, key),
					  "Ask again in a moment: you will get the first request's receipt, or be free to make it.",
					  "a request with this key is in progress");
}

static Refusal *
may_be_in_progress(const text *account, const text *key)
{
	return tb_refusal(TB_IN_PROGRESS,
					  tb_json("account:t idempotency_key:t", account, key),
					  "Ask again when the transaction that works on the account has ended.",
					  "a request with this key may be in progress, in a transaction of many");
}

/*
 * tb_claim_key
 *		Mark the key as in progress until the transaction ends; PT423 without
 *		wait if another transaction has marked it.  Needs SPI.
 *
 * Without wait, the exclusive lock is let go as soon as the mark is made: kept,
 * it would make a transaction that has the account locked, and comes to the same
 * key, wait for one that waits for the account.
 */
Refusal *
tb_claim_key(const text *account, const text *key, bool wait)
{
	LOCKTAG		of_key;
	LOCKTAG		of_stripe;

	if (marking_transaction != tb_local_xid())
	{
		marking_transaction = tb_local_xid();
		marks = 0;
	}

	key_tag(&of_key, account, key);
	if (!wait && LockAcquire(&of_key, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return in_progress(account, key);

	if (!wait || marks >= MAX_KEY_MARKS)
		stripe_tag(&of_stripe, account);
	if (!wait)
	{
		bool		marked;

		marked = LockAcquire(&of_stripe, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL;
		if (!marked)
			LockRelease(&of_stripe, ExclusiveLock, false);
		if (marked && tb_account_is_locked(account))
		{
			LockRelease(&of_key, ExclusiveLock, false);
			return may_be_in_progress(account, key);
		}
	}

	if (likely(marks < MAX_KEY_MARKS))
	{
		(void) LockAcquire(&of_key, ShareLock, false, false);
		marks++;
	}
	else
		(void) LockAcquire(&of_stripe, ShareLock, false, false);
	if (!wait)
		LockRelease(&of_key, ExclusiveLock, false);
	return NULL;
}

static Refusal *
other_request(const ChainedLine *was, const char *argument,
			  const char *was_value, const char *now_value)
{
	return tb_refusal(TB_CONFLICT,
					  tb_json("account:t idempotency_key:t argument:s was:j now:j",
							  was->account, was->idempotency_key, argument,
							  was_value, now_value),
					  "Use a new key for a new request; repeat the old one unchanged to get its receipt.",
					  "idempotency key was used with another %s", argument);
}

/*
 * tb_same_jsonb
 *		Whether two documents are equal, or both null.
 */
bool
tb_same_jsonb(Jsonb *a, Jsonb *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

static Jsonb *
member_jsonb(Jsonb *object, const char *name)
{
	JsonbValue *value = object == NULL ? NULL :
		getKeyJsonValueFromContainer(&object->root, name, strlen(name), NULL);

	return value ? JsonbValueToJsonb(value) : NULL;
}

/*
 * What lines keep beside the arguments: what a sandbox account did not pay, what had
 * no price then, which line was refunded, and which credits have paid or been paid
 * back.
 */
static bool
is_outcome(const char *name)
{
	return strcmp(name, "price") == 0 || strcmp(name, "unpriced") == 0 ||
		strcmp(name, "charge_seq") == 0 ||
		strcmp(name, "burned") == 0 || strcmp(name, "returned") == 0;
}

/*
 * The arguments that have no column of their own: every member of either object
 * must be in the other.
 */
static Refusal *
same_arguments(const ChainedLine *was, const ChainedLine *now)
{
	Jsonb	   *sides[2] = {was->request, now->request};

	for (int side = 0; side < 2; side++)
	{
		JsonbIterator *it;
		JsonbValue	key;
		JsonbValue	skipped;

		if (sides[side] == NULL)
			continue;
		it = JsonbIteratorInit(&sides[side]->root);
		(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
		while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
		{
			char	   *name = pnstrdup(key.val.string.val, key.val.string.len);
			Jsonb	   *was_value = member_jsonb(was->request, name);
			Jsonb	   *now_value = member_jsonb(now->request, name);

			(void) JsonbIteratorNext(&it, &skipped, true);
			if (is_outcome(name))
				continue;
			if (!tb_same_jsonb(was_value, now_value))
				return other_request(was, name, tb_json_document(was_value),
									 tb_json_document(now_value));
		}
	}
	return NULL;
}

/* The amount a request was for; a sandbox line keeps it as its price. */
static Numeric
amount_asked(const ChainedLine *line)
{
	Numeric		price = tb_sandbox_price_of(line);

	return price ? tb_negate(price) : line->amount;
}

static char *
amount_json(Numeric amount)
{
	return tb_print(DatumGetNumeric(DirectFunctionCall1(numeric_abs,
														NumericGetDatum(amount))));
}

/*
 * tb_same_request
 *		Is this the request that the key was used for?  If not, PT409 that names
 *		the first argument that differs, with both values.
 *
 * "was" is the ledger line, "now" the line the request would have made: kind,
 * service, usage, metadata, request and ref are set in it, and amount if the
 * caller gave one and it has no place in request.  ref_argument is what the
 * argument behind ref is called.
 */
Refusal *
tb_same_request(const ChainedLine *was, const ChainedLine *now,
				const char *ref_argument)
{
	if (!tb_same_text(was->kind, now->kind))
		return other_request(was, "kind", tb_json_string(was->kind),
							 tb_json_string(now->kind));
	if (!tb_same_text(was->ref, now->ref))
		return other_request(was, ref_argument, tb_json_string(was->ref),
							 tb_json_string(now->ref));
	if (!tb_same_text(was->service, now->service))
		return other_request(was, "service", tb_json_string(was->service),
							 tb_json_string(now->service));
	if (!tb_same_jsonb(was->usage, now->usage))
		return other_request(was, "usage", tb_json_document(was->usage),
							 tb_json_document(now->usage));
	if (now->amount != NULL &&
		tb_compare(amount_asked(was), now->amount) != 0)
		return other_request(was, "amount", amount_json(amount_asked(was)),
							 amount_json(now->amount));
	if (!tb_same_jsonb(was->metadata, now->metadata))
		return other_request(was, "metadata", tb_json_document(was->metadata),
							 tb_json_document(now->metadata));
	return same_arguments(was, now);
}
