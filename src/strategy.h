#ifndef TOKENBILL_STRATEGY_H
#define TOKENBILL_STRATEGY_H

#include "count.h"

/* A function of ours that counts a meter from a usage object. */
typedef struct Strategy
{
	const char *name;			/* of the SQL function */
	PGFunction	function;
	const char *const *options; /* names it knows, a null behind the last */
	const char *const *members; /* of the usage that it reads by default */
	bool		reads_text;		/* which no ledger line is to keep */
} Strategy;

extern Datum tokenbill_count_images(PG_FUNCTION_ARGS);
extern Datum tokenbill_count_pixels(PG_FUNCTION_ARGS);

extern const Strategy *tb_find_strategy(const char *name);
extern Refusal *tb_check_options(const Strategy *strategy, Jsonb *options);
extern bool tb_member(const JsonbContainer *object, const char *name,
					  JsonbValue *value);
extern Refusal *tb_bad_member(const char *argument, const char *member,
							  const char *hint, const char *problem);
extern Refusal *tb_number_of(const char *argument, const char *member,
							 const JsonbValue *value, Numeric *number);
extern Refusal *tb_number_option(Jsonb *options, const char *name,
								 Numeric *number);
extern void tb_count_texts(const char *member, const JsonbValue *value,
						   TextCount *count);
extern Numeric tb_round_up(Numeric value, Numeric step);

#endif							/* TOKENBILL_STRATEGY_H */
