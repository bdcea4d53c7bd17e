/*
 * log_hook.c
 *	  For test/t/243_redact_log.pl: a library with a hook for log lines, as others
 *	  have one, and functions that bring about what hardly happens by itself.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

PG_FUNCTION_INFO_V1(log_hook_report);
PG_FUNCTION_INFO_V1(log_hook_starve);

static emit_log_hook_type next = NULL;
static char *file = NULL;

/* Write down what is seen, and keep from the log what says so */
static void
hook(ErrorData *edata)
{
	char		line[4096];
	int			n = snprintf(line, sizeof(line), "%s|%s|%s|%s\n",
							 edata->message ? edata->message : "",
							 edata->detail ? edata->detail : "",
							 edata->hint ? edata->hint : "",
							 edata->context ? edata->context : "");
	int			fd = -1;

	if (file != NULL && *file != '\0')
		fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0600);

	if (fd >= 0)
	{
		if (write(fd, line, Min(n, (int) sizeof(line) - 1)) < 0)
			edata->output_to_server = true;
		close(fd);
	}
	if (edata->message && strstr(edata->message, "dropped by a hook"))
		edata->output_to_server = false;
	if (next)
		next(edata);
}

void
_PG_init(void)
{
	DefineCustomStringVariable("log_hook.file", "Where lines are written to.", NULL,
							   &file, "", PGC_USERSET, 0, NULL, NULL, NULL);
	next = emit_log_hook;
	emit_log_hook = hook;
}

/* report(level text, message text): an error of a level that SQL has no way to */
Datum
log_hook_report(PG_FUNCTION_ARGS)
{
	char	   *level = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *message = text_to_cstring(PG_GETARG_TEXT_PP(1));

	int			elevel = LOG;

	if (strcmp(level, "PANIC") == 0)
		elevel = PANIC;
	else if (strcmp(level, "FATAL") == 0)
		elevel = FATAL;
	else if (strcmp(level, "ERROR") == 0)
		elevel = ERROR;
	ereport(elevel,
			(errcode(ERRCODE_INTERNAL_ERROR), errmsg("%s", message),
			 errdetail("%s", message), errdetail_log("for the log: %s", message),
			 errhint("%s", message)));
	PG_RETURN_VOID();
}

/* starve(room bigint): this process gets no more memory than that */
Datum
log_hook_starve(PG_FUNCTION_ARGS)
{
	FILE	   *statm = fopen("/proc/self/statm", "r");
	struct rlimit limit;
	long		pages = 0;

	if (statm == NULL || fscanf(statm, "%ld", &pages) != 1)
		elog(ERROR, "no statm");
	fclose(statm);
	getrlimit(RLIMIT_AS, &limit);
	limit.rlim_cur = (rlim_t) pages * sysconf(_SC_PAGESIZE) + PG_GETARG_INT64(0);
	if (setrlimit(RLIMIT_AS, &limit) != 0)
		elog(ERROR, "setrlimit: %m");
	PG_RETURN_VOID();
}
