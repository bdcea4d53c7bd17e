/*
 * scan.c
 *	  Bring the lines of every account into order.
 *
 * The ledger is read month by month in the order in which its rows lie on disk.
 * That is nearly the order in which they were posted, and to sort ten million
 * rows, or to fetch them through an index, would cost more than to hash them.  A
 * line that is met before its predecessor (every backend fills pages of its own)
 * waits for it, in memory.  Accounts that have lines waiting at the end of a month
 * are deferred: lines are missing, or have been put elsewhere.  So are those for
 * which too much is waiting.  After all others they are read through the index,
 * in order of seq, whatever month a line is in.  That is also how a single
 * account is verified.
 */
#include "verify.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "money.h"
#include "refusal.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define SH_PREFIX tb_trails
#define SH_ELEMENT_TYPE TrailSlot
#define SH_KEY_TYPE Trail *
#define SH_KEY trail
#define SH_HASH_KEY(table, key) ((key)->name_hash)
#define SH_EQUAL(table, a, b) \
	((a)->name_length == (b)->name_length && \
	 memcmp((a)->name, (b)->name, (a)->name_length) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, slot) ((slot)->hash)
#define SH_SCOPE extern
#define SH_DEFINE
#include "lib/simplehash.h"

/* A line that waits for the one before it. */
typedef struct WaitingLine
{
	pairingheap_node node;
	int64		seq;
	HeapTuple	row;
} WaitingLine;

/*
 * tb_find_trail
 *		The trail of an account, made if there is none; null if it belongs to
 *		another pass, or if there is no room for it and it need not fit.
 */
Trail *
tb_find_trail(Verification *v, text *account, bool must_fit, bool *other_pass)
{
	Trail		key;
	TrailSlot  *slot;
	Trail	   *trail;
	Size		size;
	bool		found;

	key.name = VARDATA_ANY(account);
	key.name_length = VARSIZE_ANY_EXHDR(account);
	key.name_hash = hash_bytes((const unsigned char *) key.name,
							   key.name_length);

	/* the table goes by the low bits, so the passes go by the high ones */
	*other_pass = ((uint64) key.name_hash * v->passes) >> 32 != (uint64) v->pass;
	if (*other_pass)
		return NULL;
	slot = tb_trails_lookup(v->trails, &key);
	if (likely(slot != NULL))
		return slot->trail;

	size = TRAIL_SIZE(key.name_length);
	if (!must_fit && v->trails_size + size > v->trails_limit)
		return NULL;
	v->trails_size += size;
	trail = MemoryContextAllocZero(v->pass_context,
								   sizeof(Trail) + key.name_length);
	memcpy(trail + 1, key.name, key.name_length);
	trail->name = (char *) (trail + 1);
	trail->name_length = key.name_length;
	trail->name_hash = key.name_hash;
	trail->created_at = DT_NOBEGIN;
	tb_keep(&trail->balance, tb_zero());
	tb_keep(&trail->held, tb_zero());
	(void) tb_trails_insert(v->trails, trail, &found);
	return trail;
}

/* The lowest seq is to be on top of the heap, where the greatest node is. */
static int
compare_waiting(const pairingheap_node *a, const pairingheap_node *b,
				void *arg)
{
	int64		seq_a = pairingheap_const_container(WaitingLine, node, a)->seq;
	int64		seq_b = pairingheap_const_container(WaitingLine, node, b)->seq;

	return seq_a < seq_b ? 1 : seq_a > seq_b ? -1 : 0;
}

static WaitingLine *
first_waiting(Trail *trail)
{
	if (trail->waiting == NULL || pairingheap_is_empty(trail->waiting))
		return NULL;
	return pairingheap_container(WaitingLine, node,
								 pairingheap_first(trail->waiting));
}

static void
remove_waiting(Verification *v, Trail *trail, WaitingLine *line)
{
	pairingheap_remove(trail->waiting, &line->node);
	v->waiting_size -= sizeof(WaitingLine) + HEAPTUPLESIZE + line->row->t_len;
	heap_freetuple(line->row);
	pfree(line);
	if (pairingheap_is_empty(trail->waiting))
		v->n_waiting--;
}

/* Read the account in order, later. */
static void
defer(Verification *v, Trail *trail)
{
	WaitingLine *line;

	while ((line = first_waiting(trail)) != NULL)
		remove_waiting(v, trail, line);
	trail->deferred = true;
	trail->deferred_month = v->month;
	v->n_deferred++;
}

/* Keep a row until the line before it has come. */
static void
wait_for_predecessor(Verification *v, Trail *trail, int64 seq,
					 TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(v->waiting_context);
	WaitingLine *line = palloc(sizeof(WaitingLine));

	line->seq = seq;
	line->row = ExecCopySlotHeapTuple(slot);
	if (trail->waiting == NULL)
		trail->waiting = pairingheap_allocate(compare_waiting, NULL);
	if (pairingheap_is_empty(trail->waiting))
		v->n_waiting++;
	pairingheap_add(trail->waiting, &line->node);
	v->waiting_size += sizeof(WaitingLine) + HEAPTUPLESIZE + line->row->t_len;
	MemoryContextSwitchTo(old);

	if (v->waiting_size > v->waiting_limit)
		defer(v, trail);
}

static void
follow(Verification *v, Trail *trail, const FoundLine *line)
{
	tb_follow(&v->findings, trail, line);
	trail->lines_month = v->month;
}

/* A line of the ledger: TB_LINE_COLUMNS. */
static void
take_line(void *state, TupleTableSlot *slot)
{
	Verification *v = state;
	FoundLine	line;
	Trail	   *trail;
	WaitingLine *waiting;
	bool		other_pass;
	int64		seq;

	if (unlikely(slot->tts_isnull[0] || slot->tts_isnull[1]))
	{
		/* it belongs nowhere */
		if (v->pass == 0)
			tb_report(&v->findings,
					  slot->tts_isnull[0] ? NULL :
					  DatumGetTextPP(slot->tts_values[0]), NULL, "hash",
					  tb_json("missing:s",
							  slot->tts_isnull[0] ? "account" : "seq"));
		return;
	}
	seq = DatumGetInt64(slot->tts_values[1]);
	trail = tb_find_trail(v, DatumGetTextPP(slot->tts_values[0]), false,
						  &other_pass);
	if (trail == NULL)
	{
		if (!other_pass)
			tb_report(&v->findings, DatumGetTextPP(slot->tts_values[0]), &seq,
					  "orphan", "{}");
		return;
	}

	if (unlikely(seq <= trail->seq))
	{
		tb_take_line_apart(slot->tts_values, slot->tts_isnull, &line);
		tb_repeated(&v->findings, trail, &line);
		return;
	}
	if (v->in_order)
	{
		if (!slot->tts_isnull[2])
			tb_pass_months(v, trail, DatumGetTimestampTz(slot->tts_values[2]));
	}
	else if (unlikely(trail->deferred))
		return;
	else if (unlikely(seq != trail->seq + 1))
	{
		wait_for_predecessor(v, trail, seq, slot);
		return;
	}
	tb_take_line_apart(slot->tts_values, slot->tts_isnull, &line);
	follow(v, trail, &line);

	while (unlikely((waiting = first_waiting(trail)) != NULL) &&
		   waiting->seq <= trail->seq + 1)
	{
		Datum		values[TB_LINE_WIDTH];
		bool		nulls[TB_LINE_WIDTH];

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(waiting->row, slot->tts_tupleDescriptor, values,
						  nulls);
		tb_take_line_apart(values, nulls, &line);
		if (waiting->seq == trail->seq + 1)
			follow(v, trail, &line);
		else
			tb_repeated(&v->findings, trail, &line);
		remove_waiting(v, trail, waiting);
	}
}

/* Read one account's lines that come after seq, from a month on, in order. */
static void
read_in_order(Verification *v, text *account, int64 seq, int month)
{
	Trail	   *trail;
	bool		other_pass;

	tb_set_parameter(&v->stream, STREAM_ACCOUNT, PointerGetDatum(account));
	tb_set_parameter(&v->stream, STREAM_AFTER_SEQ, Int64GetDatum(seq));
	tb_load_closings(v);
	v->month = month;
	v->in_order = true;
	tb_stream_again(&v->stream,
					"SELECT " TB_LINE_COLUMNS " FROM tokenbill.ledger l"
					" WHERE l.account OPERATOR(pg_catalog.=) $1"
					" AND l.seq OPERATOR(pg_catalog.>) $4 ORDER BY l.seq",
					&v->lines_plan, take_line, v);
	v->in_order = false;
	trail = tb_find_trail(v, account, false, &other_pass);
	if (trail != NULL)
		tb_pass_months(v, trail, DT_NOEND);
}

/* The month's rows have all been seen: what still waits, waits in vain. */
static void
defer_waiting(Verification *v)
{
	tb_trails_iterator iterator;
	TrailSlot  *slot;

	tb_trails_start_iterate(v->trails, &iterator);
	while (v->n_waiting > 0 &&
		   (slot = tb_trails_iterate(v->trails, &iterator)) != NULL)
	{
		if (first_waiting(slot->trail) != NULL)
			defer(v, slot->trail);
	}
}

static void
read_deferred(Verification *v)
{
	tb_trails_iterator iterator;
	TrailSlot  *slot;

	tb_trails_start_iterate(v->trails, &iterator);
	while (v->n_deferred > 0 &&
		   (slot = tb_trails_iterate(v->trails, &iterator)) != NULL)
	{
		Trail	   *trail = slot->trail;
		text	   *account;

		if (!trail->deferred)
			continue;
		account = cstring_to_text_with_len(trail->name, trail->name_length);
		read_in_order(v, account, trail->seq, trail->deferred_month);
		tb_set_null(&v->stream, STREAM_ACCOUNT);
		pfree(account);
		v->n_deferred--;
	}
}

/*
 * tb_read_lines
 *		Read and follow all lines of the accounts of this pass, or of the one.
 */
void
tb_read_lines(Verification *v)
{
	if (v->only != NULL)
	{
		read_in_order(v, v->only, PG_INT64_MIN, 1);
		return;
	}
	for (v->month = 1; v->month <= v->n_months; v->month++)
	{
		/* together the months cover all of time, whatever has been attached */
		TimestampTz begin = v->month == 1 ? DT_NOBEGIN :
			v->months[v->month - 1].begin;
		TimestampTz end = v->month == v->n_months ? DT_NOEND :
			v->months[v->month].begin;

		tb_set_parameter(&v->stream, STREAM_BEGIN, TimestampTzGetDatum(begin));
		tb_set_parameter(&v->stream, STREAM_END, TimestampTzGetDatum(end));
		tb_stream(&v->stream,
				  "SELECT " TB_LINE_COLUMNS " FROM tokenbill.ledger l"
				  " WHERE l.created_at OPERATOR(pg_catalog.>=) $2"
				  " AND l.created_at OPERATOR(pg_catalog.<) $3",
				  take_line, v);
		defer_waiting(v);
		tb_check_closings(v);
	}
	read_deferred(v);
}
