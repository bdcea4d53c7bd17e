/*
 * usage_read.h
 *	  What the readers of usage objects share.
 *
 * A format is a table of the members it knows, each with the slot its count goes
 * to, and a function that makes disjoint meters of what is in the slots.  What is
 * the same everywhere - walking the object, checking counts, finding those nobody
 * knows - is done once, in usage_read.c.
 */
#ifndef TOKENBILL_USAGE_READ_H
#define TOKENBILL_USAGE_READ_H

#include "usage.h"

#include "nodes/pg_list.h"

/* Kinds of tokens; those of documents count as text. */
typedef enum Modality
{
	MODALITY_TEXT,
	MODALITY_AUDIO,
	MODALITY_IMAGE,
	MODALITY_VIDEO
} Modality;

#define NMODALITIES 4

/*
 * Where counts go.  A _TOTAL is followed by the slots of its modalities, in the
 * order of the enum.
 */
typedef enum Slot
{
	SLOT_INPUT_TOTAL,
	SLOT_INPUT_TEXT,
	SLOT_INPUT_AUDIO,
	SLOT_INPUT_IMAGE,
	SLOT_INPUT_VIDEO,
	SLOT_CACHED_TOTAL,			/* read from a cache */
	SLOT_CACHED_TEXT,
	SLOT_CACHED_AUDIO,
	SLOT_CACHED_IMAGE,
	SLOT_CACHED_VIDEO,
	SLOT_TOOL_TOTAL,			/* input that tools made, beside the prompt */
	SLOT_TOOL_TEXT,
	SLOT_TOOL_AUDIO,
	SLOT_TOOL_IMAGE,
	SLOT_TOOL_VIDEO,
	SLOT_OUTPUT_TOTAL,
	SLOT_OUTPUT_TEXT,
	SLOT_OUTPUT_AUDIO,
	SLOT_OUTPUT_IMAGE,
	SLOT_OUTPUT_VIDEO,
	SLOT_REASONING,
	SLOT_ACCEPTED,				/* predicted by the caller, rightly */
	SLOT_REJECTED,				/* predicted wrongly: billed as output */
	SLOT_UNCACHED,				/* input that was not in the cache */
	SLOT_WRITTEN,				/* to a cache */
	SLOT_WRITTEN_5M,
	SLOT_WRITTEN_1H,
	SLOT_WEB_SEARCHES,
	SLOT_WEB_FETCHES,
	SLOT_TOTAL,					/* of the call */
	NSLOTS,

	/* members that are no plain counts */
	FIELD_OBJECT,				/* an object of more members, or null */
	FIELD_SKIP,					/* says nothing about what was used */
	FIELD_SECONDS,
	FIELD_SERVICE_TIER,
	FIELD_TRAFFIC,
	FIELD_SPEED,
	FIELD_REGION,
	FIELD_ITERATIONS,
	FIELD_PROMPT_DETAILS,		/* [{modality, tokenCount}, ...] */
	FIELD_CACHE_DETAILS,
	FIELD_TOOL_DETAILS,
	FIELD_OUTPUT_DETAILS
} Slot;

typedef struct UsageField
{
	const char *path;			/* members joined by dots */
	Slot		slot;
} UsageField;

typedef struct Reading Reading;

typedef struct UsageFormat
{
	const char *name;
	const UsageField *fields;	/* ends with a null path */
	bool		camel;			/* promptTokenCount is prompt_token_count */
	Refusal    *(*make_meters) (Reading *reading);
} UsageFormat;

/* A usage object while it is being read. */
struct Reading
{
	const UsageFormat *format;
	Usage	   *result;
	int64		counts[NSLOTS]; /* -1: not there */
	const char *paths[NSLOTS];	/* where in the object it was */
	Numeric		seconds;
	const char *service_tier;	/* as the object has it */
	const char *traffic;		/* Google's word for it */
	const char *speed;
	const char *region;
	JsonbContainer *iterations; /* an array */
	const char *within;			/* path of the object, when it is a part */
	List	   *strangers;		/* of Stranger: counts no format knows */
};

/* usage_read.c */
extern void tb_start_reading(Reading *reading, const UsageFormat *format,
							 Usage *result, const char *within);
extern Refusal *tb_read_usage(JsonbContainer *object, Reading *reading);
extern Refusal *tb_check_strings(const JsonbValue *value);
extern bool tb_is_plain_name(const char *name, int len);
extern Refusal *tb_bad_field(const Reading *reading, int sqlstate,
							 const char *field, const char *hint,
							 const char *problem);
extern Refusal *tb_missing_field(const Reading *reading, const char *field,
								 const char *hint);
extern Refusal *tb_exceeds(const Reading *reading, Slot part, int64 count,
						   Slot whole, int64 total);
extern Refusal *tb_bad_sum(const Reading *reading, Slot slot, int64 expected);

/* usage_meter.c */
extern Refusal *tb_by_modality(const Reading *reading, Slot total,
							   int64 parts[NMODALITIES]);
extern Refusal *tb_input_meters(Reading *reading, const int64 *input,
								const int64 *cached, const int64 *more);
extern Refusal *tb_output_meters(Reading *reading, const int64 *output,
								 int64 reasoning);
extern void tb_meter(Reading *reading, const char *name, int64 count);
extern void tb_note(Reading *reading, const char *note);
extern bool tb_is_known_meter(const char *name);
extern Refusal *tb_add_stranger(Reading *reading, const char *path,
								const char *name, Numeric count);
extern void tb_add_strangers(Reading *reading);

static inline int64
slot_count(const Reading *reading, Slot slot)
{
	return reading->counts[slot] < 0 ? 0 : reading->counts[slot];
}

static inline bool
slot_given(const Reading *reading, Slot slot)
{
	return reading->counts[slot] >= 0;
}

/* The formats, each table ended by a null name. */
extern const UsageFormat tb_openai_formats[];
extern const UsageFormat tb_anthropic_formats[];
extern const UsageFormat tb_gemini_formats[];

/* usage.c */
#define TB_COUNT_DECIMALS 9
extern Numeric tb_count_bound(void);
extern const UsageFormat *tb_format_by_name(const text *name);

/* usage_shape.c */
typedef struct Shape
{
	const UsageFormat *format;	/* null: it looks like meters */
	Jsonb	   *object;			/* the usage object in what was passed */
	const char *service_tier;	/* of the response around it; null if none */
} Shape;

extern bool tb_is_provider_member(const char *name, int len);
extern Refusal *tb_unwrap(Jsonb *usage, const UsageFormat *format,
						  Shape *shape);
extern Refusal *tb_find_format(Shape *shape);

#endif							/* TOKENBILL_USAGE_READ_H */
