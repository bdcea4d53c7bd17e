#ifndef TOKENBILL_RETRY_H
#define TOKENBILL_RETRY_H

extern void tb_retry_init(void);

#endif							/* TOKENBILL_RETRY_H */
