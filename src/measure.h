#ifndef TOKENBILL_MEASURE_H
#define TOKENBILL_MEASURE_H

#include "strategy.h"
#include "usage.h"

#include "catalog/pg_proc.h"

/* A function that counts a meter of a service, as tokenbill.meter_function has it. */
typedef struct MeterFunction
{
	char	   *meter;
	char	   *schema;
	char	   *name;
	bool		takes_options;
	bool		for_all;		/* services that have a price for the meter */
	char	   *owner;			/* null: one of the extension's own */
	const Strategy *strategy;	/* which then is this */
	Jsonb	   *options;
	int			ncovers;		/* what of the usage its count stands for */
	char	  **covers;
	bool		covers_all;
	int			nforgets;		/* texts that no ledger line is to keep */
	char	  **forgets;
} MeterFunction;

/* What a card knows of them; copied, because calling one may end the card. */
typedef struct MeterFunctions
{
	int			n;
	MeterFunction *functions;
} MeterFunctions;

/* meter_function.c */
extern void tb_load_functions(const text *service, MemoryContext context,
							  MeterFunctions *functions);

/* callee.c */
extern void tb_callee_init(void);
extern char *tb_function_text(const MeterFunction *function);
extern Refusal *tb_check_callable(Oid oid, Form_pg_proc proc);
extern bool tb_contain_functions(bool yes);
extern Refusal *tb_call_function(const MeterFunction *function, Jsonb *usage,
								 Numeric *count);


/* measure.c */
extern MeterFunctions tb_copy_functions(const MeterFunctions *functions);
extern Refusal *tb_measure(const MeterFunctions *functions, Jsonb *usage,
						   const text *format, Usage *read, int *nreported,
						   int *nwanted);

#endif							/* TOKENBILL_MEASURE_H */
