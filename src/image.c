/*
 * image.c
 *	  Strategies that count pictures: how many, of which size, how many pixels.
 *
 * A usage object tells of pictures in one of two ways: all alike, by "n" and
 * "width" with "height", or "size"; or one by one, as objects in the array
 * "images" or "data", where what they do not say themselves is said beside it.
 */
#include "strategy.h"

#include "money.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(tokenbill_count_images);
PG_FUNCTION_INFO_V1(tokenbill_count_pixels);

/* Longest side of a picture, and most pictures of one call. */
#define MAX_SIDE 1000000
#define MAX_IMAGES 1000000

/* So many pictures that are alike. */
typedef struct Image
{
	int64		n;
	int64		width;			/* 0: not known in pixels */
	int64		height;
	char	   *size;			/* "1024x1024", or another word for it; null */
	char	   *quality;		/* null: not said */
} Image;

typedef void (*ImageVisitor) (const Image *image, void *state);

/*
 * A whole number from 1 to a bound.
 */
static int64
whole_number(const char *member, const JsonbValue *value, int64 most)
{
	Numeric		number;
	bool		whole;

	tb_raise(tb_number_of("usage", member, value, &number));
	whole = DatumGetInt32(DirectFunctionCall1(numeric_min_scale,
											  NumericGetDatum(number))) == 0;
	if (!whole || tb_compare(number, tb_zero()) == 0 ||
		tb_compare(number, int64_to_numeric(most)) > 0)
		tb_raise(tb_bad_member("usage", member,
							   psprintf("Pass a whole number from 1 to " INT64_FORMAT ".", most),
							   "is out of range"));
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(number)));
}

static char *
string_of(const char *member, const JsonbValue *value)
{
	if (value->type != jbvString || value->val.string.len == 0 ||
		value->val.string.len > 40)
		tb_raise(tb_bad_member("usage", member,
							   "Pass a short string, such as \"1024x1024\".",
							   "is no short string"));
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/*
 * Digits, as a length in pixels; 0 if there are none, or too many.
 */
static int64
read_side(const char **p)
{
	int64		side = 0;

	while (**p >= '0' && **p <= '9')
	{
		if (side <= MAX_SIDE)
			side = side * 10 + (**p - '0');
		(*p)++;
	}
	return side <= MAX_SIDE ? side : 0;
}

/*
 * The sides in "1024x1024", "1024X1024", "1024*1024", "1024-x-1024", or with a
 * sign of multiplication (in UTF-8); false for other words.
 */
static bool
read_size(const char *size, int64 *width, int64 *height)
{
	static const char *const signs[] = {"x", "X", "*", "-x-", " x ", "\303\227"};
	const char *p = size;

	*width = read_side(&p);
	if (*width == 0)
		return false;
	for (size_t i = 0; i < lengthof(signs); i++)
	{
		size_t		len = strlen(signs[i]);

		if (strncmp(p, signs[i], len) == 0)
		{
			p += len;
			*height = read_side(&p);
			return *height > 0 && *p == '\0';
		}
	}
	return false;
}

/*
 * Take what an object says of its pictures; the rest of *image stays.
 */
static void
describe(const JsonbContainer *object, Image *image)
{
	JsonbValue	width;
	JsonbValue	height;
	JsonbValue	value;
	bool		has_width = tb_member(object, "width", &width);
	bool		has_height = tb_member(object, "height", &height);

	if (has_width != has_height)
		tb_raise(tb_bad_member("usage", has_width ? "height" : "width",
							   "Pass both sides of the picture.",
							   "is missing"));
	if (tb_member(object, "size", &value))
	{
		image->size = string_of("size", &value);
		image->width = 0;
		image->height = 0;
		if (read_size(image->size, &image->width, &image->height))
			image->size = psprintf(INT64_FORMAT "x" INT64_FORMAT, image->width,
								   image->height);
		else
			image->width = image->height = 0;
	}
	if (has_width)
	{
		int64		w = whole_number("width", &width, MAX_SIDE);
		int64		h = whole_number("height", &height, MAX_SIDE);

		if (tb_member(object, "size", &value) && image->width > 0 &&
			(image->width != w || image->height != h))
			tb_raise(tb_bad_member("usage", "size",
								   "Pass either the size or width and height.",
								   "contradicts width and height"));
		image->width = w;
		image->height = h;
		image->size = psprintf(INT64_FORMAT "x" INT64_FORMAT, w, h);
	}
	if (tb_member(object, "quality", &value))
		image->quality = string_of("quality", &value);
}

/*
 * Show every picture of some usage to a visitor.
 */
static void
visit(Jsonb *usage, ImageVisitor visitor, void *state)
{
	static const char *const counts[] = {"n", "images"};
	static const char *const lists[] = {"images", "data"};
	JsonbContainer *list = NULL;
	const char *list_name = NULL;
	Image		image = {0};
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(usage) || JB_ROOT_IS_SCALAR(usage))
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s", "usage"),
							"Pass an object of what was used.",
							"usage must be a JSON object"));
	describe(&usage->root, &image);
	for (size_t i = 0; i < lengthof(lists); i++)
	{
		if (!tb_member(&usage->root, lists[i], &value) ||
			value.type != jbvBinary ||
			!JsonContainerIsArray(value.val.binary.data))
			continue;
		if (list != NULL)
			tb_raise(tb_bad_member("usage", lists[i], "Pass one list of pictures.",
								   "is a second list of pictures"));
		list = value.val.binary.data;
		list_name = lists[i];
	}
	for (size_t i = 0; i < lengthof(counts); i++)
	{
		int64		n;

		if (!tb_member(&usage->root, counts[i], &value) ||
			(list_name != NULL && strcmp(counts[i], list_name) == 0))
			continue;
		n = whole_number(counts[i], &value, MAX_IMAGES);
		if ((image.n != 0 && n != image.n) ||
			(list != NULL && n != (int64) JsonContainerSize(list)))
			tb_raise(tb_bad_member("usage", counts[i],
								   "Pass how many pictures there were, once.",
								   "contradicts another member"));
		image.n = n;
	}
	if (list == NULL)
	{
		if (image.n == 0 && image.size == NULL)
			tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
								tb_json("argument:s members:j", "usage",
										"[\"n\", \"images\", \"data\", \"width\", \"height\", \"size\"]"),
								"Pass how many there were, or their size.",
								"usage has no pictures"));
		if (image.n == 0)
			image.n = 1;
		visitor(&image, state);
		return;
	}
	if (JsonContainerSize(list) > MAX_IMAGES)
		tb_raise(tb_bad_member("usage", list_name, "Split the usage.",
							   "is too long a list"));
	for (uint32 i = 0; i < JsonContainerSize(list); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(list, i);
		Image		one = image;

		if (element->type == jbvBinary &&
			JsonContainerIsObject(element->val.binary.data))
			describe(element->val.binary.data, &one);
		else
			tb_raise(tb_bad_member("usage", list_name,
								   "Pass objects, such as {\"width\": 1024, \"height\": 1024}.",
								   "has a picture that is no object"));
		one.n = 1;
		visitor(&one, state);
	}
}

/* What count_images() has counted, and by what. */
typedef struct ImageCount
{
	Numeric		sum;
	JsonbContainer *sizes;		/* {"1024x1024": weight, ...}; may be null */
	JsonbContainer *steps;		/* [{"up_to": pixels, "count": weight}, ...] */
} ImageCount;

static Numeric
weight_of(const char *option, JsonbContainer *object, const char *name)
{
	JsonbValue	value;
	Numeric		weight;

	if (!tb_member(object, name, &value))
		return NULL;
	if (value.type != jbvNumeric)
		tb_raise(tb_bad_member("options", option, "Pass numbers.",
							   "has a member that is no number"));
	tb_raise(tb_number_of("options", option, &value, &weight));
	return weight;
}

/*
 * What a picture counts for, by its size: "quality/size" goes before "size",
 * "*" is for all others.
 */
static Numeric
weight_by_size(const ImageCount *count, const Image *image)
{
	Numeric		weight = NULL;

	if (image->size != NULL && image->quality != NULL)
		weight = weight_of("sizes", count->sizes,
						   psprintf("%s/%s", image->quality, image->size));
	if (weight == NULL && image->size != NULL)
		weight = weight_of("sizes", count->sizes, image->size);
	if (weight == NULL)
		weight = weight_of("sizes", count->sizes, "*");
	if (weight == NULL)
		tb_raise(tb_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
							tb_json("argument:s field:s size:s", "usage", "size",
									image->size),
							"Name it in the options of the meter's function, or \"*\" for all others.",
							"usage has a picture of a size that is not provided for"));
	return weight;
}

/*
 * What a picture counts for, by its pixels: the first step it is not above.
 */
static Numeric
weight_by_pixels(const ImageCount *count, const Image *image)
{
	if (image->width == 0)
		tb_raise(tb_bad_member("usage", "size",
							   "Pass width and height, or a size such as \"1024x1024\".",
							   "is not known in pixels"));
	for (uint32 i = 0; i < JsonContainerSize(count->steps); i++)
	{
		JsonbValue *step = getIthJsonbValueFromContainer(count->steps, i);
		Numeric		up_to;
		Numeric		weight = NULL;

		if (step->type == jbvBinary &&
			JsonContainerIsObject(step->val.binary.data))
			weight = weight_of("pixels", step->val.binary.data, "count");
		if (weight == NULL)
			tb_raise(tb_bad_member("options", "pixels",
								   "Pass an array, such as [{\"up_to\": 1048576, \"count\": 1}, {\"count\": 2}].",
								   "is no array of steps"));
		up_to = weight_of("pixels", step->val.binary.data, "up_to");
		if (up_to == NULL ||
			tb_compare(int64_to_numeric(image->width * image->height), up_to) <= 0)
			return weight;
	}
	tb_raise(tb_bad_member("usage", "size",
						   "Add a step without \"up_to\" to the options of the meter's function.",
						   "has more pixels than are provided for"));
	return NULL;				/* not reached */
}

static void
add_images(const Image *image, void *state)
{
	ImageCount *count = state;
	Numeric		n = int64_to_numeric(image->n);

	if (count->sizes != NULL)
		n = tb_mul(n, weight_by_size(count, image));
	else if (count->steps != NULL)
		n = tb_mul(n, weight_by_pixels(count, image));
	count->sum = tb_add(count->sum, n);
}

/*
 * count_images(usage jsonb, options jsonb) -> numeric
 *		How many pictures; or what they count for, by size or by pixels.
 */
Datum
tokenbill_count_images(PG_FUNCTION_ARGS)
{
	Jsonb	   *options = PG_GETARG_JSONB_P(1);
	ImageCount	count = {0};
	JsonbValue	value;

	tb_raise(tb_check_options(tb_find_strategy("count_images"), options));
	if (tb_member(&options->root, "sizes", &value))
	{
		if (value.type != jbvBinary ||
			!JsonContainerIsObject(value.val.binary.data))
			tb_raise(tb_bad_member("options", "sizes",
								   "Pass an object, such as {\"1024x1024\": 1, \"hd/1024x1024\": 2}.",
								   "is no object of sizes"));
		count.sizes = value.val.binary.data;
	}
	if (tb_member(&options->root, "pixels", &value))
	{
		if (value.type != jbvBinary ||
			!JsonContainerIsArray(value.val.binary.data) || count.sizes != NULL)
			tb_raise(tb_bad_member("options", "pixels",
								   "Pass either sizes or an array, such as [{\"up_to\": 1048576, \"count\": 1}, {\"count\": 2}].",
								   "is no array of steps"));
		count.steps = value.val.binary.data;
	}
	count.sum = tb_zero();
	visit(PG_GETARG_JSONB_P(0), add_images, &count);
	PG_RETURN_DATUM(DirectFunctionCall1(numeric_trim_scale,
										NumericGetDatum(count.sum)));
}

/* What count_pixels() has counted. */
typedef struct PixelCount
{
	Numeric		sum;
	Numeric		step;			/* each picture is rounded up to it; may be
								 * null */
} PixelCount;

static void
add_pixels(const Image *image, void *state)
{
	PixelCount *count = state;
	Numeric		pixels;

	if (image->width == 0)
		tb_raise(tb_bad_member("usage", "size",
							   "Pass width and height, or a size such as \"1024x1024\".",
							   "is not known in pixels"));
	pixels = int64_to_numeric(image->width * image->height);
	if (count->step != NULL)
		pixels = tb_round_up(pixels, count->step);
	count->sum = tb_add(count->sum, tb_mul(pixels, int64_to_numeric(image->n)));
}

/*
 * count_pixels(usage jsonb, options jsonb) -> numeric
 *		Width times height of all pictures.
 */
Datum
tokenbill_count_pixels(PG_FUNCTION_ARGS)
{
	Jsonb	   *options = PG_GETARG_JSONB_P(1);
	PixelCount	count;

	tb_raise(tb_check_options(tb_find_strategy("count_pixels"), options));
	tb_raise(tb_number_option(options, "round_up", &count.step));
	count.sum = tb_zero();
	visit(PG_GETARG_JSONB_P(0), add_pixels, &count);
	PG_RETURN_NUMERIC(count.sum);
}
