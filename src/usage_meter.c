/*
 * usage_meter.c
 *	  Disjoint meters from the counts that formats share.
 *
 * Providers tell totals and how much of them was this or that: cached, audio,
 * reasoning.  A meter is what is left of a total when the parts that are meters
 * of their own have been taken out, and nothing may be left below zero.
 */
#include "usage_read.h"

#include "money.h"

#define MAX_STRANGERS 32

/* A count that no format knows. */
typedef struct Stranger
{
	const char *path;
	const char *name;			/* the meter it becomes */
	Numeric		count;
} Stranger;

static const char *const input_names[NMODALITIES] = {
	"input_tokens", "input_audio_tokens", "input_image_tokens",
	"input_video_tokens"
};

static const char *const cached_names[NMODALITIES] = {
	"cache_read_tokens", "cache_read_audio_tokens", "cache_read_image_tokens",
	"cache_read_video_tokens"
};

static const char *const output_names[NMODALITIES] = {
	"output_tokens", "output_audio_tokens", "output_image_tokens",
	"output_video_tokens"
};

/*
 * tb_by_modality
 *		Split a total by modality: what no detail speaks of is text.
 */
Refusal *
tb_by_modality(const Reading *reading, Slot total, int64 parts[NMODALITIES])
{
	int64		whole = slot_count(reading, total);
	int64		sum = 0;

	for (int m = 0; m < NMODALITIES; m++)
	{
		Slot		slot = total + 1 + m;

		parts[m] = slot_count(reading, slot);
		sum += parts[m];
		if (sum > whole)
			return tb_exceeds(reading, slot, parts[m], total, whole);
	}
	parts[MODALITY_TEXT] += whole - sum;
	return NULL;
}

/*
 * tb_input_meters
 *		Meters of the input, without and with what was read from a cache; more is
 *		input beside it, or null.
 *
 * Where the cached part is not told by modality it is text, as far as there is
 * text: beyond that nobody can know what it is, and prices differ.
 */
Refusal *
tb_input_meters(Reading *reading, const int64 *input, const int64 *cached,
				const int64 *more)
{
	int64		written = slot_count(reading, SLOT_WRITTEN);
	int64		rest[NMODALITIES];

	for (int m = 0; m < NMODALITIES; m++)
	{
		rest[m] = input[m] - cached[m];
		if (rest[m] < 0)
		{
			Slot		slot = SLOT_CACHED_TOTAL + 1 + m;

			return tb_exceeds(reading,
							  slot_given(reading, slot) ? slot : SLOT_CACHED_TOTAL,
							  cached[m], SLOT_INPUT_TOTAL, input[m]);
		}
	}
	if (written > rest[MODALITY_TEXT])
		return tb_exceeds(reading, SLOT_WRITTEN, written, SLOT_INPUT_TOTAL,
						  rest[MODALITY_TEXT]);
	rest[MODALITY_TEXT] -= written;

	for (int m = 0; m < NMODALITIES; m++)
		tb_meter(reading, input_names[m], rest[m] + (more ? more[m] : 0));
	for (int m = 0; m < NMODALITIES; m++)
		tb_meter(reading, cached_names[m], cached[m]);
	tb_meter(reading, "cache_write_5m_tokens", written);
	return NULL;
}

/*
 * tb_output_meters
 *		Meters of the output; reasoning is a part of its text.
 */
Refusal *
tb_output_meters(Reading *reading, const int64 *output, int64 reasoning)
{
	if (reasoning > output[MODALITY_TEXT])
		return tb_exceeds(reading, SLOT_REASONING, reasoning,
						  SLOT_OUTPUT_TOTAL, output[MODALITY_TEXT]);
	tb_meter(reading, output_names[MODALITY_TEXT],
			 output[MODALITY_TEXT] - reasoning);
	for (int m = MODALITY_TEXT + 1; m < NMODALITIES; m++)
		tb_meter(reading, output_names[m], output[m]);
	tb_meter(reading, "reasoning_tokens", reasoning);
	return NULL;
}

/*
 * tb_meter
 *		Add to a meter; zeros are left out.
 */
void
tb_meter(Reading *reading, const char *name, int64 count)
{
	Usage	   *result = reading->result;
	int			len = strlen(name);

	if (count == 0)
		return;
	for (int i = 0; i < result->nmeters; i++)
	{
		UsageMeter *meter = &result->meters[i];

		if (meter->name_len == len && memcmp(meter->name, name, len) == 0)
		{
			meter->quantity = tb_add(meter->quantity, int64_to_numeric(count));
			return;
		}
	}
	Assert(result->nmeters < TB_MAX_METERS);
	result->meters[result->nmeters].name = name;
	result->meters[result->nmeters].name_len = len;
	result->meters[result->nmeters].quantity = int64_to_numeric(count);
	result->nmeters++;
}

/*
 * tb_note
 *		Say something about how the object was read.
 */
void
tb_note(Reading *reading, const char *note)
{
	Usage	   *result = reading->result;

	if (result->nnotes < TB_MAX_NOTES)
		result->notes[result->nnotes++] = note;
}

/* The meters that formats make; a stranger must not pass for one of them. */
bool
tb_is_known_meter(const char *name)
{
	static const char *const names[] = {
		"input_tokens", "input_audio_tokens", "input_image_tokens",
		"input_video_tokens", "cache_read_tokens", "cache_read_audio_tokens",
		"cache_read_image_tokens", "cache_read_video_tokens",
		"cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
		"output_audio_tokens", "output_image_tokens", "output_video_tokens",
		"reasoning_tokens", "web_searches", "web_fetches", "seconds", "tokens",
		"images", "characters", "words", "requests"
	};

	for (size_t i = 0; i < lengthof(names); i++)
	{
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

/*
 * tb_add_stranger
 *		Remember a count that is to become a meter of this name.
 *
 * path is shown, and so are names: both consist of plain names.
 */
Refusal *
tb_add_stranger(Reading *reading, const char *path, const char *name,
				Numeric count)
{
	Stranger   *stranger = palloc(sizeof(Stranger));

	if (!tb_is_meter_name(name, strlen(name)) || tb_is_known_meter(name))
		return tb_bad_field(reading, ERRCODE_INVALID_PARAMETER_VALUE, path,
							"This format has no such member, and no meter can be named after it: name the format it is of, or pass meters.",
							"a count that is of another format");
	if (list_length(reading->strangers) == MAX_STRANGERS)
		return tb_bad_field(reading, ERRCODE_INVALID_PARAMETER_VALUE, path,
							"Pass the usage object only, as the provider sent it.",
							"too many counts of no known format");
	stranger->path = path;
	stranger->name = name;
	stranger->count = count;
	reading->strangers = lappend(reading->strangers, stranger);
	return NULL;
}

/*
 * tb_add_strangers
 *		Make meters of the counts that no format knows, and list them.
 */
void
tb_add_strangers(Reading *reading)
{
	Usage	   *result = reading->result;
	JsonbParseState *state = NULL;
	ListCell   *cell;

	if (reading->strangers == NIL)
		return;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	foreach(cell, reading->strangers)
	{
		Stranger   *stranger = lfirst(cell);
		int			len = strlen(stranger->name);
		int			i;
		JsonbValue	v;

		for (i = 0; i < result->nmeters; i++)
		{
			if (result->meters[i].name_len == len &&
				memcmp(result->meters[i].name, stranger->name, len) == 0)
				break;
		}
		if (i == result->nmeters)
		{
			Assert(result->nmeters < TB_MAX_METERS);
			result->meters[i].name = stranger->name;
			result->meters[i].name_len = len;
			result->meters[i].quantity = stranger->count;
			result->nmeters++;
		}
		else
			result->meters[i].quantity = tb_add(result->meters[i].quantity,
												stranger->count);

		v.type = jbvString;
		v.val.string.val = unconstify(char *, stranger->path);
		v.val.string.len = strlen(stranger->path);
		pushJsonbValue(&state, WJB_KEY, &v);
		v.type = jbvNumeric;
		v.val.numeric = stranger->count;
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	result->unpriced_counts = JsonbValueToJsonb(pushJsonbValue(&state,
															   WJB_END_OBJECT,
															   NULL));
}
