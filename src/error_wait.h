#ifndef TOKENBILL_ERROR_WAIT_H
#define TOKENBILL_ERROR_WAIT_H

#include "error_body.h"
#include "error_match.h"

extern bool tb_error_wait(ErrorBody *body, const char *wait, const ErrorReply *reply,
						  int64_t *wait_ms);

#endif							/* TOKENBILL_ERROR_WAIT_H */
