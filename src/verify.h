#ifndef TOKENBILL_VERIFY_H
#define TOKENBILL_VERIFY_H

#include "chain.h"
#include "stream.h"

#include "lib/pairingheap.h"
#include "utils/tuplestore.h"

/* The columns of a ledger line, in the order that tb_take_line_apart() expects. */
#define TB_LINE_COLUMNS \
	"l.account, l.seq, l.created_at, l.kind, l.amount, l.balance, l.held," \
	" l.credit_limit, l.contra, l.service, l.usage, l.rates, l.metadata," \
	" l.request, l.idempotency_key, l.ref, l.hash, l.cost"
#define TB_LINE_WIDTH 18

/*
 * A numeric kept in place.  There is room for every balance that there can be,
 * and NaN stands for those that there cannot be, and for not knowing.
 */
typedef union KeptNumeric
{
	int32		alignment;
	char		data[48];
} KeptNumeric;

#define KEPT(kept) ((Numeric) (kept)->data)

/* By how much a currency's ledger accounts miss each other. */
typedef struct Currency
{
	struct Currency *next;
	text	   *name;
	KeptNumeric difference;
} Currency;

/* An account, and where it stands after the lines of it that have been read. */
typedef struct Trail
{
	const char *name;
	int			name_length;
	uint32		name_hash;
	bool		has_row;		/* in tokenbill.account */
	bool		has_hash;
	bool		deferred;		/* to be read in order, after all others */
	int			deferred_month; /* from this month on */
	uint8		hash[TB_HASH_BYTES];
	int			lines_month;	/* number of the month that had a line last */
	int			closing_month;	/* ... and of the one that had a closing last */
	int64		seq;
	TimestampTz created_at;
	KeptNumeric balance;
	KeptNumeric held;
	Currency   *currency;		/* null without an account row */
	pairingheap *waiting;		/* lines whose predecessors are still to come */
} Trail;

/* A line as it was read, whatever has been done to it. */
typedef struct FoundLine
{
	ChainedLine fields;			/* null pointers for nulls, everywhere */
	bytea	   *hash;
	const char *missing;		/* a column that is null and must not be */
	bool		hashable;		/* none is that the hash covers */
} FoundLine;

/* Where the problems go. */
typedef struct Findings
{
	Tuplestorestate *store;
	TupleDesc	desc;
} Findings;

/* The accounts by name. */
typedef struct TrailSlot
{
	Trail	   *trail;
	uint32		hash;
	char		status;
} TrailSlot;

#define SH_PREFIX tb_trails
#define SH_ELEMENT_TYPE TrailSlot
#define SH_KEY_TYPE Trail *
#define SH_SCOPE extern
#define SH_DECLARE
#include "lib/simplehash.h"

/* What a trail takes: itself, its chunk's header, two slots in the table. */
#define TRAIL_SIZE(name_length) \
	(sizeof(Trail) + MAXALIGN(name_length) + 16 + 2 * sizeof(TrailSlot))

/* A month of the ledger that there is. */
typedef struct Month
{
	Datum		day;			/* a date, its first */
	TimestampTz begin;
	bool		sealed;
} Month;

/* One call of verify_ledger(). */
typedef struct Verification
{
	Findings	findings;
	text	   *only;			/* the one account to verify; null for all */
	Stream		stream;
	MemoryContext keep_context; /* until we are done */
	MemoryContext pass_context; /* trails */
	MemoryContext waiting_context;
	MemoryContext account_context;	/* closings of an account read in order */
	int			passes;
	int			pass;
	tb_trails_hash *trails;
	Size		trails_size;
	Size		trails_limit;
	Size		waiting_size;
	Size		waiting_limit;
	int			n_waiting;		/* trails with lines waiting */
	int			n_deferred;
	bool		in_order;		/* one account's lines are being read, by seq */
	Month	   *months;
	int			n_months;
	int			month;			/* number of the month being read, from 1 */
	HeapTuple  *closings;		/* of an account read in order, by month */
	TupleDesc	closings_desc;
	SPIPlanPtr	closings_plan;
	SPIPlanPtr	lines_plan;
	Currency   *currencies;
	int64		n_accounts;
	int64		names_length;
} Verification;

/* trail.c */
extern void tb_report(Findings *findings, text *account, const int64 *seq,
					  const char *problem, char *detail);
extern void tb_report_on(Findings *findings, const Trail *trail, int64 seq,
						 const char *problem, char *detail);
extern void tb_take_line_apart(const Datum *values, const bool *nulls,
							   FoundLine *line);
extern void tb_follow(Findings *findings, Trail *trail, const FoundLine *line);
extern void tb_repeated(Findings *findings, Trail *trail,
						const FoundLine *line);
extern void tb_keep(KeptNumeric *kept, Numeric value);
extern void tb_shift(Currency *currency, Numeric expected, Numeric found);
extern bool tb_stands_at(const Trail *trail, const Datum *values,
						 const bool *nulls);
extern char *tb_standing(const Datum *values, const bool *nulls);
extern char *tb_trail_standing(const Trail *trail);
extern char *tb_number(Numeric value);

/* scan.c */
extern Trail *tb_find_trail(Verification *v, text *account, bool must_fit,
							bool *other_pass);
extern void tb_read_lines(Verification *v);

/* closing.c */
extern void tb_check_closings(Verification *v);
extern void tb_load_closings(Verification *v);
extern void tb_check_totals(Verification *v);
extern void tb_pass_months(Verification *v, Trail *trail, TimestampTz at);

/* reconcile.c */
extern void tb_take_problem(void *state, TupleTableSlot *slot);
extern void tb_reconcile(Stream *stream, Findings *findings);

/* credit_proof.c */
extern void tb_prove_credits(Stream *stream, Findings *findings);

#endif							/* TOKENBILL_VERIFY_H */
