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
#include "classify.h"
#include "clock.h"
#include "counter.h"
#include "http.h"
#include "launcher.h"
#include "measure.h"
#include "month.h"
#include "price.h"
#include "rating.h"
#include "redact.h"
#include "retry.h"
#include "secret.h"
#include "tenant.h"
#include "worker.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	tb_burn_order_init();
	tb_classify_init();
	tb_clock_init();
	tb_counter_init();
	tb_key_init();
	tb_http_init();
	tb_month_init();
	tb_price_init();
	tb_rating_init();
	tb_redact_init();
	tb_callee_init();
	tb_retry_init();
	tb_tenant_init();
	tb_launcher_init();
	tb_worker_init();
	MarkGUCPrefixReserved("tokenbill");
}
