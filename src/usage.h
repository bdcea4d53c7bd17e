#ifndef TOKENBILL_USAGE_H
#define TOKENBILL_USAGE_H

#include "refusal.h"

/* A usage object has at most so many meters. */
#define TB_MAX_METERS 64

/* Counts are less than 10^15. */
#define TB_COUNT_BOUND INT64CONST(1000000000000000)

/* A usage object that is kept in a ledger line has at most so many bytes. */
#define TB_MAX_USAGE 16384

/* Remarks about a usage object: at most so many. */
#define TB_MAX_NOTES 8

/*
 * A meter and how often it was used.  name is not null-terminated; it and
 * quantity may point into the usage object they were read from.
 */
typedef struct UsageMeter
{
	const char *name;
	int			name_len;
	Numeric		quantity;
} UsageMeter;

/* What a call used, read from whatever object its provider reports it in. */
typedef struct Usage
{
	/* disjoint; zeros are left out unless all are zero or it is canonical */
	int			nmeters;
	UsageMeter	meters[TB_MAX_METERS];

	/* "meters", or the provider's: see tb_usage_formats in usage.c */
	const char *format;

	/*
	 * "standard", "batch", "flex", "priority", or another word of the
	 * object's
	 */
	const char *service_tier;
	const char *region;			/* where it was answered, if that may cost
								 * more */

	/*
	 * All input tokens of the call, those read from and written to a cache
	 * too: what context tiers look at.  Null if there is none, or if it is
	 * canonical: ask tb_context_tokens(), which adds them up then.
	 */
	Numeric		context_tokens;

	/* the object is the meters already, and nothing was built anew */
	bool		canonical;

	/*
	 * What a ledger line keeps: the object as it was given, or of a whole
	 * response only its usage (and service tier).  Normalizes to the same.
	 */
	Jsonb	   *kept;

	/*
	 * Counts that no format knows, as {"path": n}; null if none.  Each is a
	 * meter of its own, named after the member, so that it has to be priced.
	 */
	Jsonb	   *unpriced_counts;

	/* what a person should know about how it was read */
	int			nnotes;
	const char *notes[TB_MAX_NOTES];
} Usage;

extern Refusal *tb_normalize(Jsonb *usage, const text *format, Usage *result);
extern Numeric tb_context_tokens(const Usage *usage);
extern Refusal *tb_check_usage_format(const char *argument, const text *format);
extern bool tb_is_meter_name(const char *name, int len);
extern bool tb_counts_things(const char *meter, int len);

#endif							/* TOKENBILL_USAGE_H */
