#ifndef TOKENBILL_STATEMENT_TEXT_H
#define TOKENBILL_STATEMENT_TEXT_H

#include "tokenbill.h"

extern void tb_statement_text_init(void);
extern bool tb_is_confidential(const char *line);
extern bool tb_statement_is_confidential(void);
extern void tb_mark_confidential(void);
extern void tb_hide_statement(void);
extern void tb_hide_secrets_of_activity(void);

#endif							/* TOKENBILL_STATEMENT_TEXT_H */
