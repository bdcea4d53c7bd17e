#ifndef TOKENBILL_CLASSIFY_H
#define TOKENBILL_CLASSIFY_H

extern void tb_classify_init(void);

#endif							/* TOKENBILL_CLASSIFY_H */
