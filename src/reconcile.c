/*
 * reconcile.c
 *	  Do the tables beside the ledger agree with it?
 *
 * Whoever runs this may have any search_path, so every operator is named with
 * its schema, and whatever looks one up by itself (IN, IS DISTINCT FROM, USING,
 * NULLIF) is not used.
 */
#include "verify.h"

#include "credit.h"

/*
 * tb_take_problem
 *		A row with a problem that a statement has found, for tb_stream(): the
 *		columns of tokenbill.problem.
 */
void
tb_take_problem(void *state, TupleTableSlot *slot)
{
	Findings   *findings = state;

	tuplestore_putvalues(findings->store, findings->desc, slot->tts_values,
						 slot->tts_isnull);
}

/*
 * tb_reconcile
 *		Report every hold, recharge order, refund, issued token and limit that does
 *		not agree with the lines of the stream's account, or of all.  Needs SPI.
 *
 * The stream's BEGIN is the beginning of the oldest month that there is: lines
 * of what is older may have gone.
 */
void
tb_reconcile(Stream *stream, Findings *findings)
{
	tb_stream(stream,
			  "SELECT COALESCE(a.account, h.account), NULL::pg_catalog.int8, 'hold'::pg_catalog.text,"
			  " pg_catalog.jsonb_build_object('expected', COALESCE(h.held, 0), 'found', a.held)"
			  " FROM (SELECT * FROM tokenbill.account a WHERE" OF_ACCOUNT("a.account") ") a"
			  " FULL JOIN (SELECT h.account, "
			  SUM_OF("pg_catalog.numeric_larger(h.amount OPERATOR(pg_catalog.-) h.captured, 0)")
			  " AS held FROM tokenbill.hold h WHERE h.status OPERATOR(pg_catalog.=) 'held' AND"
			  OF_ACCOUNT("h.account") " GROUP BY h.account) h"
			  " ON h.account OPERATOR(pg_catalog.=) a.account"
			  " WHERE (a.held OPERATOR(pg_catalog.=) COALESCE(h.held, 0)) IS NOT TRUE",
			  tb_take_problem, findings);

	/* the ledger is read once for the four tables whose rows it proves */
	tb_stream(stream,
			  "WITH l AS MATERIALIZED ("
			  "  SELECT l.account, l.seq, l.kind, l.amount, l.contra, l.request, l.idempotency_key, l.ref"
			  "  FROM tokenbill.ledger l WHERE" OF_ACCOUNT("l.account")
			  "  AND (l.kind OPERATOR(pg_catalog.=) ANY (ARRAY['recharge', 'refund', 'hold', 'extend', 'capture', 'release', 'expiry'])"
			  "  OR pg_catalog.starts_with(l.idempotency_key, '" TB_TOKEN_PREFIX "'))),"
			  " dropped AS MATERIALIZED ("
			  "  SELECT EXISTS (SELECT FROM tokenbill.month_total t WHERE t.dropped_at IS NOT NULL) AS some)"

			  " SELECT COALESCE(h.account, x.account), x.seq, 'hold',"
			  " pg_catalog.jsonb_build_object('hold_key', COALESCE(h.hold_key, x.hold_key),"
			  "  'expected', pg_catalog.jsonb_build_object('amount', COALESCE(x.amount, h.amount), 'captured', x.captured, 'status', x.status),"
			  "  'found', pg_catalog.jsonb_build_object('amount', h.amount, 'captured', h.captured, 'status', h.status))"
			  " FROM (SELECT * FROM tokenbill.hold h WHERE" OF_ACCOUNT("h.account") ") h"
			  " FULL JOIN (SELECT k.account, k.hold_key, pg_catalog.max(k.seq) AS seq,"
			  "   pg_catalog.bool_or(k.kind OPERATOR(pg_catalog.=) 'hold') AS made,"
			  "   COALESCE(" SUM_OF("COALESCE((k.request OPERATOR(pg_catalog.->>) 'price')::pg_catalog.numeric,"
									"    pg_catalog.numeric_uminus(k.amount))") ", 0) AS captured,"
			  "   (pg_catalog.array_agg((k.request OPERATOR(pg_catalog.->>) 'amount')::pg_catalog.numeric ORDER BY k.seq DESC)"
			  "    FILTER (WHERE k.kind OPERATOR(pg_catalog.=) ANY (ARRAY['hold', 'extend'])"
			  "     AND (k.request OPERATOR(pg_catalog.->>) 'amount') IS NOT NULL))[1] AS amount,"
			  "   CASE WHEN pg_catalog.bool_or(k.kind OPERATOR(pg_catalog.=) 'release') THEN 'released'"
			  "    WHEN pg_catalog.bool_or(k.kind OPERATOR(pg_catalog.=) 'expiry') THEN 'expired'"
			  "    WHEN pg_catalog.bool_or(k.kind OPERATOR(pg_catalog.=) 'capture'"
			  "     AND (k.request OPERATOR(pg_catalog.->>) 'final') OPERATOR(pg_catalog.=) 'true') THEN 'captured'"
			  "    ELSE 'held' END AS status"
			  "  FROM (SELECT l.*, CASE WHEN l.kind OPERATOR(pg_catalog.=) 'hold' THEN l.idempotency_key ELSE l.ref END AS hold_key"
			  "   FROM l WHERE l.kind OPERATOR(pg_catalog.=) ANY (ARRAY['hold', 'extend', 'capture', 'release', 'expiry'])"
			  "   AND NOT pg_catalog.starts_with(l.idempotency_key, '" TB_CREDIT_EXPIRY_PREFIX "')) k"
			  "  GROUP BY k.account, k.hold_key) x"
			  " ON x.account OPERATOR(pg_catalog.=) h.account AND x.hold_key OPERATOR(pg_catalog.=) h.hold_key"
			  " CROSS JOIN dropped"
			  " WHERE (CASE WHEN dropped.some AND x.made IS NOT TRUE THEN true"
			  "  ELSE x.made AND h.status OPERATOR(pg_catalog.=) x.status AND h.captured OPERATOR(pg_catalog.=) x.captured"
			  "   AND (x.amount IS NULL OR x.amount OPERATOR(pg_catalog.=) h.amount) END) IS NOT TRUE"

			  " UNION ALL"
			  " SELECT COALESCE(o.account, x.account), x.seq, 'order',"
			  " pg_catalog.jsonb_build_object('order_no', COALESCE(o.order_no, x.ref), 'status', o.status, 'currency', o.currency,"
			  "  'expected', o.amount, 'found', x.amount, 'lines', COALESCE(x.lines, 0))"
			  " FROM (SELECT o.*, a.currency AS account_currency FROM tokenbill.recharge_order o"
			  "  LEFT JOIN tokenbill.account a ON a.account OPERATOR(pg_catalog.=) o.account"
			  "  WHERE" OF_ACCOUNT("o.account") ") o"
			  " FULL JOIN (SELECT l.account, l.ref, pg_catalog.max(l.seq) AS seq, pg_catalog.count(*) AS lines, "
			  SUM_OF("l.amount") " AS amount FROM l WHERE l.kind OPERATOR(pg_catalog.=) 'recharge'"
			  "  GROUP BY l.account, l.ref) x"
			  " ON x.account OPERATOR(pg_catalog.=) o.account AND x.ref OPERATOR(pg_catalog.=) o.order_no"
			  " WHERE (CASE WHEN o.order_no IS NULL OR o.currency OPERATOR(pg_catalog.<>) o.account_currency THEN false"
			  "  WHEN NOT o.status OPERATOR(pg_catalog.=) ANY (ARRAY['success', 'partially_refunded', 'refunded', 'disputed'])"
			  "   THEN x.lines IS NULL"
			  "  WHEN x.lines IS NULL THEN o.created_at OPERATOR(pg_catalog.<) $2"
			  "  ELSE x.lines OPERATOR(pg_catalog.=) 1 AND x.amount OPERATOR(pg_catalog.=) o.amount"
			  "  END) IS NOT TRUE"

			  " UNION ALL"
			  " SELECT COALESCE(r.account, x.account), x.seq, 'refund',"
			  " pg_catalog.jsonb_build_object('charge_seq', COALESCE(r.charge_seq, x.charge_seq),"
			  "  'charge_key', COALESCE(x.ref, r.charge_key),"
			  "  'expected', COALESCE(x.amount, 0), 'found', COALESCE(r.refunded, 0))"
			  " FROM (SELECT * FROM tokenbill.charge_refund r WHERE" OF_ACCOUNT("r.account") ") r"
			  " FULL JOIN (SELECT l.account, (l.request OPERATOR(pg_catalog.->>) 'charge_seq')::pg_catalog.int8 AS charge_seq,"
			  "  pg_catalog.min(l.ref) AS ref, pg_catalog.max(l.seq) AS seq,"
			  SUM_OF("COALESCE((l.request OPERATOR(pg_catalog.->>) 'price')::pg_catalog.numeric, l.amount)") " AS amount"
			  "  FROM l WHERE l.kind OPERATOR(pg_catalog.=) 'refund' GROUP BY 1, 2) x"
			  " ON x.account OPERATOR(pg_catalog.=) r.account AND x.charge_seq OPERATOR(pg_catalog.=) r.charge_seq"
			  " CROSS JOIN dropped"
			  " WHERE (CASE WHEN dropped.some THEN r.refunded OPERATOR(pg_catalog.>=) COALESCE(x.amount, 0)"
			  "  ELSE r.refunded OPERATOR(pg_catalog.=) COALESCE(x.amount, 0) END) IS NOT TRUE"

			  " UNION ALL"
			  " SELECT t.account, x.seq, 'token', pg_catalog.jsonb_build_object('token', t.token, 'status', t.status,"
			  "  'expected', CASE WHEN x.seq IS NULL THEN 'a line' ELSE 'used' END)"
			  " FROM tokenbill.issued_token t LEFT JOIN l x"
			  " ON x.account OPERATOR(pg_catalog.=) t.account AND x.idempotency_key OPERATOR(pg_catalog.=) t.token"
			  " CROSS JOIN dropped"
			  " WHERE" OF_ACCOUNT("t.account")
			  " AND CASE WHEN x.seq IS NULL THEN t.status OPERATOR(pg_catalog.=) 'used' AND NOT dropped.some"
			  "  ELSE t.status OPERATOR(pg_catalog.<>) 'used' END",
			  tb_take_problem, findings);

	/*
	 * A limit's counter is proved against the lines of its window, unless
	 * some of these may have gone.  What the tail of a rolling window has
	 * passed is not counted any more.
	 */
	tb_stream(stream,
			  "SELECT a.account, NULL::pg_catalog.int8, 'limit'::pg_catalog.text,"
			  " pg_catalog.jsonb_build_object('name', r.name,"
			  "  'expected', pg_catalog.jsonb_build_object('counted', s.counted, 'held', s.held),"
			  "  'found', pg_catalog.jsonb_build_object('counted', r.counted, 'held', r.held))"
			  " FROM tokenbill.account a CROSS JOIN LATERAL pg_catalog.unnest(a.limits) r CROSS JOIN LATERAL ("
			  "  SELECT COALESCE((SELECT pg_catalog.sum(x.counted) FROM tokenbill.limit_lines(a.account, r.what, r.service, r.tag) x"
			  "   WHERE x.created_at OPERATOR(pg_catalog.>=) COALESCE(r.starts_at, r.next_at)"
			  "   AND x.created_at OPERATOR(pg_catalog.<) COALESCE(r.ends_at, 'infinity')"
			  "   AND x.seq OPERATOR(pg_catalog.>) COALESCE(r.tail_seq, 0)), 0) AS counted,"
			  "  tokenbill.limit_held(a.account, r.what, r.service, r.tag) AS held) s"
			  " WHERE" OF_ACCOUNT("a.account")
			  " AND (r.account OPERATOR(pg_catalog.=) a.account AND r.held OPERATOR(pg_catalog.=) s.held"
			  "  AND (r.counted OPERATOR(pg_catalog.=) s.counted"
			  "  OR COALESCE(r.starts_at, r.next_at) OPERATOR(pg_catalog.<) $2)) IS NOT TRUE",
			  tb_take_problem, findings);
}
