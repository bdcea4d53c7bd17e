#ifndef TOKENBILL_RECEIPT_H
#define TOKENBILL_RECEIPT_H

#include "chain.h"

#define TB_RECEIPT_COLUMNS 15

/* What a money function answers: the type tokenbill.receipt. */
typedef struct Receipt
{
	ChainedLine line;
	text	   *currency;
	bool		replayed;
} Receipt;

extern void tb_receipt_values(const Receipt *receipt, Datum *values,
							  bool *nulls);
extern Datum tb_receipt_datum(FunctionCallInfo fcinfo, const Receipt *receipt);
extern Datum tb_composite(FunctionCallInfo fcinfo, Datum *values, bool *nulls,
						  int natts);
extern char *tb_receipt_json(const Receipt *receipt);

#endif							/* TOKENBILL_RECEIPT_H */
