/*
 * http_setting.c
 *	  Settings of the requests that the worker makes.
 *
 * All of them change with a reload.  A request goes by those of the moment at
 * which it is sent.
 */
#include "http_engine.h"

#include <limits.h>

#include "utils/guc.h"

HttpTerms	tb_http_terms = {
	.max_requests = 20,
	.max_per_host = 4,
	.connect_timeout = 5000,
	.request_timeout = 20000,
	.idle_timeout = 10000,
	.max_response_kb = 1024,
	.refused_address = tb_refused_address,
};

static void
assign_switch(bool newval, void *extra)
{
	tb_http_terms.trust_changes++;
}

static void
assign_ca_file(const char *newval, void *extra)
{
	tb_http_terms.trust_changes++;
}

/*
 * tb_http_init
 *		Define the settings; called once, from _PG_init.
 */
void
tb_http_init(void)
{
	DefineCustomIntVariable("tokenbill.max_concurrent_requests",
							"How many HTTP requests the worker of a database makes at once.",
							"1 to 1000.",
							&tb_http_terms.max_requests,
							20, 1, 1000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tokenbill.max_requests_per_host",
							"How many of them go to one host and port.",
							"1 to 1000.",
							&tb_http_terms.max_per_host,
							4, 1, 1000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tokenbill.connect_timeout",
							"How long resolving a host's name, connecting and the TLS handshake may take.",
							"1 millisecond to 1 hour.",
							&tb_http_terms.connect_timeout,
							5000, 1, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("tokenbill.request_timeout",
							"How long a whole HTTP request may take.",
							"1 millisecond to 1 hour.",
							&tb_http_terms.request_timeout,
							20000, 1, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("tokenbill.idle_timeout",
							"How long an HTTP request may go on without a byte sent or received.",
							"1 second to 1 hour; whole seconds.",
							&tb_http_terms.idle_timeout,
							10000, 1000, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("tokenbill.max_response_size",
							"How large the body of an answer may be, decompressed.",
							"1 kB to 1 GB.",
							&tb_http_terms.max_response_kb,
							1024, 1, 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomBoolVariable("tokenbill.allow_http",
							 "Whether the worker may ask without TLS, by http://.",
							 NULL,
							 &tb_http_terms.allow_http,
							 false,
							 PGC_SIGHUP, 0, NULL, assign_switch, NULL);
	DefineCustomBoolVariable("tokenbill.allow_private_addresses",
							 "Whether the worker may connect to loopback, private, link-local and other special addresses.",
							 NULL,
							 &tb_http_terms.allow_private,
							 false,
							 PGC_SIGHUP, 0, NULL, assign_switch, NULL);
	DefineCustomStringVariable("tokenbill.ca_file",
							   "File with the certificates of the authorities that TLS servers are verified by.",
							   "PEM; empty: those of the system.",
							   &tb_http_terms.ca_file,
							   "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, assign_ca_file, NULL);
}
