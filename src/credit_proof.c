/*
 * credit_proof.c
 *	  Do the credits agree with the ledger?
 *
 * What is left of a credit is what was granted less what lines say it has paid
 * and what of it has expired, with what refunds say came back.  A credit whose
 * grant is in a month that has been dropped cannot be worked out anew; one whose
 * grant is there can, for no later month can have gone.
 */
#include "verify.h"

#include "credit.h"

/* The parts in a line's request: account, seq, credit_key, amount. */
#define PARTS_OF(member) \
	" CROSS JOIN LATERAL pg_catalog.jsonb_to_recordset(CASE" \
	"   WHEN pg_catalog.jsonb_typeof(l.request OPERATOR(pg_catalog.->) '" member "') OPERATOR(pg_catalog.=) 'array'" \
	"   THEN l.request OPERATOR(pg_catalog.->) '" member "' END)" \
	"  AS p(credit pg_catalog.text, amount pg_catalog.numeric)"

#define IS_KIND(kinds) \
	"l.kind OPERATOR(pg_catalog.=) ANY (ARRAY[" kinds "])"

#define IS_EXPIRY \
	"(" IS_KIND("'expiry'") " AND pg_catalog.starts_with(l.idempotency_key, '" TB_CREDIT_EXPIRY_PREFIX "'))"

/*
 * tb_prove_credits
 *		Report every credit that does not agree with the lines of the stream's
 *		account, or of all.  Needs SPI.
 */
void
tb_prove_credits(Stream *stream, Findings *findings)
{
	/* how many there are, which decides whether anybody looks at them */
	tb_stream(stream,
			  "SELECT COALESCE(a.account, c.account), NULL::pg_catalog.int8, 'credit'::pg_catalog.text,"
			  " pg_catalog.jsonb_build_object('expected', COALESCE(c.n, 0), 'found', a.credits)"
			  " FROM (SELECT * FROM tokenbill.account a WHERE" OF_ACCOUNT("a.account") ") a"
			  " FULL JOIN (SELECT c.account, pg_catalog.count(*) AS n FROM tokenbill.credit c"
			  "  WHERE c.status OPERATOR(pg_catalog.=) 'open' AND" OF_ACCOUNT("c.account")
			  "  GROUP BY c.account) c ON c.account OPERATOR(pg_catalog.=) a.account"
			  " WHERE (a.credits OPERATOR(pg_catalog.=) COALESCE(c.n, 0)) IS NOT TRUE",
			  tb_take_problem, findings);

	/* what open holds reserve */
	tb_stream(stream,
			  "SELECT COALESCE(c.account, h.account), c.seq, 'credit',"
			  " pg_catalog.jsonb_build_object('credit_key', COALESCE(c.credit_key, h.credit),"
			  "  'expected', pg_catalog.jsonb_build_object('reserved', COALESCE(h.reserved, 0)),"
			  "  'found', pg_catalog.jsonb_build_object('reserved', c.reserved))"
			  " FROM (SELECT * FROM tokenbill.credit c WHERE" OF_ACCOUNT("c.account") ") c"
			  " FULL JOIN (SELECT h.account, p.credit, " SUM_OF("p.amount") " AS reserved"
			  "  FROM tokenbill.hold h CROSS JOIN LATERAL pg_catalog.jsonb_to_recordset(h.reserved)"
			  "   AS p(credit pg_catalog.text, amount pg_catalog.numeric)"
			  "  WHERE h.status OPERATOR(pg_catalog.=) 'held' AND p.credit IS NOT NULL AND" OF_ACCOUNT("h.account")
			  "  GROUP BY h.account, p.credit) h"
			  " ON h.account OPERATOR(pg_catalog.=) c.account AND h.credit OPERATOR(pg_catalog.=) c.credit_key"
			  " WHERE (c.reserved OPERATOR(pg_catalog.=) COALESCE(h.reserved, 0)) IS NOT TRUE"

			  " UNION ALL"
			  " SELECT h.account, NULL::pg_catalog.int8, 'credit',"
			  " pg_catalog.jsonb_build_object('hold_key', h.hold_key,"
			  "  'expected', pg_catalog.jsonb_build_object('reserved', pg_catalog.numeric_larger(h.amount OPERATOR(pg_catalog.-) h.captured, 0)),"
			  "  'found', pg_catalog.jsonb_build_object('reserved', p.amount))"
			  " FROM tokenbill.hold h CROSS JOIN LATERAL (SELECT " SUM_OF("p.amount") " AS amount"
			  "  FROM pg_catalog.jsonb_to_recordset(h.reserved) AS p(amount pg_catalog.numeric)) p"
			  " WHERE h.status OPERATOR(pg_catalog.=) 'held' AND h.reserved IS NOT NULL AND" OF_ACCOUNT("h.account")
			  " AND (p.amount OPERATOR(pg_catalog.=) pg_catalog.numeric_larger(h.amount OPERATOR(pg_catalog.-) h.captured, 0)) IS NOT TRUE",
			  tb_take_problem, findings);

	tb_stream(stream,
			  "WITH l AS MATERIALIZED ("
			  "  SELECT l.account, l.seq, l.kind, l.amount, l.contra, l.request, l.idempotency_key, l.ref,"
			  "   l.contra OPERATOR(pg_catalog.=) 'sandbox' AS sandbox"
			  "  FROM tokenbill.ledger l WHERE" OF_ACCOUNT("l.account")
			  "  AND (l.kind OPERATOR(pg_catalog.=) 'grant' OR " IS_EXPIRY
			  "   OR l.request OPERATOR(pg_catalog.?) 'burned' OR l.request OPERATOR(pg_catalog.?) 'returned')),"
			  " moved AS ("
			  "  SELECT l.account, p.credit, pg_catalog.numeric_uminus(p.amount) AS amount FROM l" PARTS_OF("burned")
			  "   WHERE p.credit IS NOT NULL AND NOT l.sandbox"
			  "  UNION ALL SELECT l.account, p.credit, p.amount FROM l" PARTS_OF("returned")
			  "   WHERE p.credit IS NOT NULL AND NOT l.sandbox"
			  "  UNION ALL SELECT l.account, l.ref, l.amount FROM l WHERE " IS_EXPIRY "),"
			  " total AS (SELECT m.account, m.credit, " SUM_OF("m.amount") " AS amount FROM moved m GROUP BY m.account, m.credit),"
			  " dropped AS MATERIALIZED ("
			  "  SELECT EXISTS (SELECT FROM tokenbill.month_total t WHERE t.dropped_at IS NOT NULL) AS some)"

			  " SELECT COALESCE(c.account, t.account), c.seq, 'credit',"
			  " pg_catalog.jsonb_build_object('credit_key', COALESCE(c.credit_key, t.credit),"
			  "  'expected', pg_catalog.jsonb_build_object('amount', g.amount, 'remaining', g.amount OPERATOR(pg_catalog.+) COALESCE(t.amount, 0)),"
			  "  'found', pg_catalog.jsonb_build_object('amount', c.amount, 'remaining', c.remaining, 'status', c.status))"
			  " FROM (SELECT * FROM tokenbill.credit c WHERE" OF_ACCOUNT("c.account") ") c"
			  " FULL JOIN total t ON t.account OPERATOR(pg_catalog.=) c.account AND t.credit OPERATOR(pg_catalog.=) c.credit_key"
			  " LEFT JOIN l g ON g.account OPERATOR(pg_catalog.=) c.account AND g.seq OPERATOR(pg_catalog.=) c.seq"
			  "  AND g.kind OPERATOR(pg_catalog.=) 'grant' AND g.idempotency_key OPERATOR(pg_catalog.=) c.credit_key"
			  " CROSS JOIN dropped"
			  " WHERE (CASE WHEN c.credit_key IS NULL THEN false"
			  "  WHEN g.seq IS NULL THEN dropped.some"
			  "  ELSE c.amount OPERATOR(pg_catalog.=) g.amount"
			  "   AND c.remaining OPERATOR(pg_catalog.=) (g.amount OPERATOR(pg_catalog.+) COALESCE(t.amount, 0)) END"
			  "  AND c.reserved OPERATOR(pg_catalog.>=) 0 AND c.remaining OPERATOR(pg_catalog.>=) c.reserved"
			  "  AND c.remaining OPERATOR(pg_catalog.<=) c.amount"
			  "  AND (c.status OPERATOR(pg_catalog.=) 'open') OPERATOR(pg_catalog.=) (c.remaining OPERATOR(pg_catalog.>) 0)) IS NOT TRUE"

	/* every grant with conditions has its credit */
			  " UNION ALL"
			  " SELECT l.account, l.seq, 'credit', pg_catalog.jsonb_build_object('credit_key', l.idempotency_key, 'found', NULL)"
			  " FROM l WHERE l.kind OPERATOR(pg_catalog.=) 'grant' AND l.request OPERATOR(pg_catalog.?|)"
			  "  ARRAY['expires_at', 'effective_at', 'priority', 'category', 'scope', 'cost_basis']"
			  " AND NOT EXISTS (SELECT FROM tokenbill.credit c WHERE c.account OPERATOR(pg_catalog.=) l.account"
			  "  AND c.credit_key OPERATOR(pg_catalog.=) l.idempotency_key)"

	/* the parts of a line are its amount, and none is nothing */
			  " UNION ALL"
			  " SELECT l.account, l.seq, 'credit',"
			  " pg_catalog.jsonb_build_object('expected', pg_catalog.jsonb_build_object(b.what, b.amount),"
			  "  'found', pg_catalog.jsonb_build_object(b.what, b.parts))"
			  " FROM l CROSS JOIN LATERAL ("
			  "  SELECT 'burned' AS what, COALESCE((l.request OPERATOR(pg_catalog.->>) 'price')::pg_catalog.numeric,"
			  "    pg_catalog.numeric_uminus(l.amount)) AS amount, " SUM_OF("p.amount") " AS parts, pg_catalog.min(p.amount) AS least"
			  "   FROM (SELECT) AS one" PARTS_OF("burned")
			  "   WHERE l.request OPERATOR(pg_catalog.?) 'burned' HAVING l.request OPERATOR(pg_catalog.?) 'burned'"
			  "  UNION ALL"
			  "  SELECT 'returned', pg_catalog.abs(COALESCE((l.request OPERATOR(pg_catalog.->>) 'price')::pg_catalog.numeric, l.amount)),"
			  "   " SUM_OF("p.amount") ", pg_catalog.min(p.amount)"
			  "   FROM (SELECT) AS one" PARTS_OF("returned")
			  "   WHERE l.request OPERATOR(pg_catalog.?) 'returned' HAVING l.request OPERATOR(pg_catalog.?) 'returned'"
			  " ) b"
			  " WHERE (b.parts OPERATOR(pg_catalog.=) b.amount AND b.least OPERATOR(pg_catalog.>) 0) IS NOT TRUE",
			  tb_take_problem, findings);
}
