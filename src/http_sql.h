#ifndef TOKENBILL_HTTP_SQL_H
#define TOKENBILL_HTTP_SQL_H

#include "tokenbill.h"

#include "retry_after.h"

extern RetryHeader *tb_read_headers(Jsonb *object, size_t *count);
extern int64 tb_now_ms(void);

#endif							/* TOKENBILL_HTTP_SQL_H */
