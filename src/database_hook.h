#ifndef TOKENBILL_DATABASE_HOOK_H
#define TOKENBILL_DATABASE_HOOK_H

extern void tb_database_hook_init(void);

#endif							/* TOKENBILL_DATABASE_HOOK_H */
