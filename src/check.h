#ifndef TOKENBILL_CHECK_H
#define TOKENBILL_CHECK_H

#include "refusal.h"

extern Refusal *tb_check_text(const char *argument, text *value, int max_bytes);
extern Refusal *tb_check_optional_text(const char *argument, text *value,
									   int max_bytes);
extern Refusal *tb_check_key(const char *argument, text *value);
extern Refusal *tb_check_amount(const char *argument, Numeric value);
extern Refusal *tb_check_metadata(const char *argument, Jsonb *value);
extern Refusal *tb_check_choice(const char *argument, text *value,
								const char *first, const char *second);
extern Refusal *tb_check_ttl(Interval *ttl, TimestampTz now,
							 TimestampTz *expires_at);
extern Refusal *tb_check_time(const char *argument, TimestampTz value);
extern Refusal *tb_null_argument(const char *argument);
extern char *tb_argument_name(FunctionCallInfo fcinfo);
extern bool tb_same_text(const text *a, const text *b);
extern bool tb_text_is(const text *value, const char *word);
extern bool tb_text_begins(const text *value, const char *prefix);

#endif							/* TOKENBILL_CHECK_H */
