/*
 * tokenbill.c
 *	  Loading the library.
 *
 * The money functions need no shared_preload_libraries: the library is loaded by
 * the first of them that a session calls.  The worker does: only a library that
 * is preloaded can have shared memory and start processes.
 */
#include "tokenbill.h"

#include "burn_order.h"
#include "clock.h"
#include "http.h"
#include "measure.h"
#include "month.h"
#include "price.h"
#include "miscadmin.h"
#include "rating.h"
#include "redact.h"
#include "secret.h"
#include "slot.h"
#include "tenant.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	tb_burn_order_init();
	tb_clock_init();
	tb_key_init();
	tb_http_init();
	tb_month_init();
	tb_price_init();
	tb_rating_init();
	tb_redact_init();
	tb_callee_init();
	tb_tenant_init();
	MarkGUCPrefixReserved("tokenbill");

	/* pg_upgrade's servers have work of their own */
	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
		tb_slot_init();
}
