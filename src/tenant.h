#ifndef TOKENBILL_TENANT_H
#define TOKENBILL_TENANT_H

#include "tokenbill.h"

extern void tb_tenant_init(void);
extern bool tb_visible_to(const text *account, Oid user);

#endif							/* TOKENBILL_TENANT_H */
