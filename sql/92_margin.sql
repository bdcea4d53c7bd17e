/*
 * What is earned: revenue against what the upstream takes, and prices that cannot
 * earn anything.
 */
CREATE VIEW tokenbill.suspense WITH (security_barrier) AS
SELECT l.account, l.seq, l.kind, l.service, l.request OPERATOR(pg_catalog.->) 'unpriced' AS unpriced, l.usage, l.metadata,
	l.idempotency_key, l.created_at, l.contra OPERATOR(pg_catalog.=) 'sandbox' AS sandbox
FROM tokenbill.ledger l
WHERE l.contra OPERATOR(pg_catalog.=) ANY (ARRAY['suspense', 'sandbox'])
	AND l.request OPERATOR(pg_catalog.?) 'unpriced'
	AND NOT EXISTS (SELECT FROM tokenbill.ledger a WHERE a.account OPERATOR(pg_catalog.=) l.account
		AND a.idempotency_key OPERATOR(pg_catalog.=) pg_catalog.concat('tokenbill:reprice:', l.seq, ':1'))
	AND tokenbill.visible(l.account);
COMMENT ON VIEW tokenbill.suspense IS 'Charges and captures that were recorded without a price and have not been priced since by reprice()';
COMMENT ON COLUMN tokenbill.suspense.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.suspense.seq IS 'Number of the ledger line within its account';
COMMENT ON COLUMN tokenbill.suspense.kind IS 'charge or capture';
COMMENT ON COLUMN tokenbill.suspense.service IS 'What was used';
COMMENT ON COLUMN tokenbill.suspense.unpriced IS 'The meters that had no price, a JSON array';
COMMENT ON COLUMN tokenbill.suspense.usage IS 'How much was used, as it was reported';
COMMENT ON COLUMN tokenbill.suspense.metadata IS 'The application''s own notes, a JSON object';
COMMENT ON COLUMN tokenbill.suspense.idempotency_key IS 'Key of the request';
COMMENT ON COLUMN tokenbill.suspense.created_at IS 'When the line was posted: the time whose prices count';
COMMENT ON COLUMN tokenbill.suspense.sandbox IS 'Of a sandbox account';

CREATE VIEW tokenbill.margin_daily WITH (security_barrier) AS
SELECT m.day, m.account, m.service, m.currency, pg_catalog.trim_scale(m.revenue) AS revenue, pg_catalog.trim_scale(m.cost) AS cost,
	pg_catalog.trim_scale(m.revenue OPERATOR(pg_catalog.-) m.cost) AS margin, m.lines, m.unknown_cost_lines
FROM (
	SELECT (l.created_at AT TIME ZONE 'UTC')::pg_catalog.date AS day, l.account, l.service, a.currency,
		pg_catalog.numeric_uminus(pg_catalog.sum(l.amount)) AS revenue, COALESCE(pg_catalog.sum(l.cost), 0) AS cost,
		pg_catalog.count(*) AS lines,
		pg_catalog.count(*) FILTER (WHERE l.cost IS NULL AND l.kind OPERATOR(pg_catalog.=) ANY (ARRAY['charge', 'capture', 'expiry'])
			AND NOT EXISTS (SELECT FROM tokenbill.ledger r WHERE r.account OPERATOR(pg_catalog.=) l.account AND r.cost IS NOT NULL
				AND r.idempotency_key OPERATOR(pg_catalog.>=) pg_catalog.concat('tokenbill:reprice:', l.seq, ':')
				AND r.idempotency_key OPERATOR(pg_catalog.<) pg_catalog.concat('tokenbill:reprice:', l.seq, ';'))) AS unknown_cost_lines
	FROM tokenbill.ledger l
	JOIN tokenbill.account a ON a.account OPERATOR(pg_catalog.=) l.account
	WHERE l.contra OPERATOR(pg_catalog.=) ANY (ARRAY['revenue', 'suspense']) AND tokenbill.visible('')
	GROUP BY 1, 2, 3, 4
) m;
COMMENT ON VIEW tokenbill.margin_daily IS 'What was charged, what the upstream takes for it, and the difference, by UTC day, account and service; sandbox accounts left out; nothing for a tenant';
COMMENT ON COLUMN tokenbill.margin_daily.day IS 'Day, UTC, on which the lines were posted';
COMMENT ON COLUMN tokenbill.margin_daily.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.margin_daily.service IS 'What was used; null for charges of an amount without a service';
COMMENT ON COLUMN tokenbill.margin_daily.currency IS 'Currency of the account, in which costs are taken to be as well';
COMMENT ON COLUMN tokenbill.margin_daily.revenue IS 'Charges, captures and adjustments less refunds';
COMMENT ON COLUMN tokenbill.margin_daily.cost IS 'What the upstream takes, as far as it is known';
COMMENT ON COLUMN tokenbill.margin_daily.margin IS 'revenue - cost; too high by what unknown_cost_lines cost';
COMMENT ON COLUMN tokenbill.margin_daily.lines IS 'How many ledger lines';
COMMENT ON COLUMN tokenbill.margin_daily.unknown_cost_lines IS 'How many charges and captures among them have no cost';

CREATE FUNCTION tokenbill.unit_price_above(unit_price numeric, tiers jsonb, above numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN COALESCE((SELECT (t.value OPERATOR(pg_catalog.->>) 'unit_price')::pg_catalog.numeric
	FROM pg_catalog.jsonb_array_elements(unit_price_above.tiers) WITH ORDINALITY t (value, place)
	WHERE (t.value OPERATOR(pg_catalog.->>) 'above')::pg_catalog.numeric OPERATOR(pg_catalog.<=) unit_price_above.above
	ORDER BY t.place DESC LIMIT 1), unit_price_above.unit_price);
COMMENT ON FUNCTION tokenbill.unit_price_above(numeric, jsonb, numeric) IS
'Internal: the unit price of the bracket that begins above a count, or has it in it';

/*
 * Every price that a unit is sold at, as a holder has it with its markup, beside
 * every cost that it meets, for as long as both are valid, bracket by bracket.
 */
CREATE VIEW tokenbill.prices_below_cost WITH (security_barrier) AS
SELECT s.service, s.meter, h.account, h.price_group, s.service_tier, s.hours, b.above,
	pg_catalog.trim_scale(v.price) AS unit_price, s.per, v.cost AS cost_unit_price, c.per AS cost_per, COALESCE(k.fraction, 0) AS markup,
	v.valid_from, v.valid_to
FROM (
	SELECT p.*, pg_catalog.lead(p.valid_from) OVER (PARTITION BY p.service, p.meter, p.account, p.price_group, p.service_tier, p.hours
		ORDER BY p.valid_from USING OPERATOR(pg_catalog.<)) AS valid_to
	FROM tokenbill.price p WHERE p.side OPERATOR(pg_catalog.=) 'sale'
) s
JOIN (
	SELECT p.*, pg_catalog.lead(p.valid_from) OVER (PARTITION BY p.service, p.meter, p.service_tier, p.hours
		ORDER BY p.valid_from USING OPERATOR(pg_catalog.<)) AS valid_to
	FROM tokenbill.price p WHERE p.side OPERATOR(pg_catalog.=) 'cost'
) c ON c.service OPERATOR(pg_catalog.=) s.service AND c.meter OPERATOR(pg_catalog.=) s.meter
	/* the tier's own price and cost, or, where there is none, the standard one */
	AND (c.service_tier OPERATOR(pg_catalog.=) s.service_tier
		OR (c.service_tier OPERATOR(pg_catalog.=) 'standard' AND NOT EXISTS (SELECT FROM tokenbill.price o
			WHERE o.service OPERATOR(pg_catalog.=) s.service AND o.meter OPERATOR(pg_catalog.=) s.meter
				AND o.side OPERATOR(pg_catalog.=) 'cost' AND o.service_tier OPERATOR(pg_catalog.=) s.service_tier))
		OR (s.service_tier OPERATOR(pg_catalog.=) 'standard' AND NOT EXISTS (SELECT FROM tokenbill.price o
			WHERE o.service OPERATOR(pg_catalog.=) s.service AND o.meter OPERATOR(pg_catalog.=) s.meter
				AND o.side OPERATOR(pg_catalog.=) 'sale' AND o.account OPERATOR(pg_catalog.=) s.account
				AND o.price_group OPERATOR(pg_catalog.=) s.price_group AND o.service_tier OPERATOR(pg_catalog.=) c.service_tier)))
	AND (c.hours OPERATOR(pg_catalog.=) s.hours
		OR (c.hours OPERATOR(pg_catalog.=) '' AND NOT EXISTS (SELECT FROM tokenbill.price o
			WHERE o.service OPERATOR(pg_catalog.=) s.service AND o.meter OPERATOR(pg_catalog.=) s.meter
				AND o.side OPERATOR(pg_catalog.=) 'cost' AND o.service_tier OPERATOR(pg_catalog.=) c.service_tier
				AND o.hours OPERATOR(pg_catalog.=) s.hours))
		OR (s.hours OPERATOR(pg_catalog.=) '' AND NOT EXISTS (SELECT FROM tokenbill.price o
			WHERE o.service OPERATOR(pg_catalog.=) s.service AND o.meter OPERATOR(pg_catalog.=) s.meter
				AND o.side OPERATOR(pg_catalog.=) 'sale' AND o.account OPERATOR(pg_catalog.=) s.account
				AND o.price_group OPERATOR(pg_catalog.=) s.price_group AND o.service_tier OPERATOR(pg_catalog.=) s.service_tier
				AND o.hours OPERATOR(pg_catalog.=) c.hours)))
/* whose it is, and who has it under a markup of their own */
CROSS JOIN LATERAL (
	SELECT s.account, s.price_group
	UNION
	SELECT m.account, m.price_group FROM tokenbill.markup m
	WHERE s.account OPERATOR(pg_catalog.=) '*' AND s.price_group OPERATOR(pg_catalog.=) ''
		AND (m.service OPERATOR(pg_catalog.=) '*' OR m.service OPERATOR(pg_catalog.=) s.service)
		AND NOT EXISTS (SELECT FROM tokenbill.price o
			WHERE o.service OPERATOR(pg_catalog.=) s.service AND o.meter OPERATOR(pg_catalog.=) s.meter
				AND o.side OPERATOR(pg_catalog.=) 'sale' AND o.account OPERATOR(pg_catalog.=) m.account
				AND o.price_group OPERATOR(pg_catalog.=) m.price_group)
) h
CROSS JOIN LATERAL (
	SELECT 0::pg_catalog.numeric AS above
	UNION
	SELECT (t.value OPERATOR(pg_catalog.->>) 'above')::pg_catalog.numeric FROM pg_catalog.jsonb_array_elements(s.tiers) t
	UNION
	SELECT (t.value OPERATOR(pg_catalog.->>) 'above')::pg_catalog.numeric FROM pg_catalog.jsonb_array_elements(c.tiers) t
) b
CROSS JOIN LATERAL (
	SELECT pg_catalog.max(f.valid_from) AS valid_from, pg_catalog.min(f.valid_to) AS valid_to
	FROM (VALUES (s.valid_from, s.valid_to), (c.valid_from, c.valid_to), (tokenbill.clock(), NULL)) f (valid_from, valid_to)
) d
LEFT JOIN LATERAL (
	SELECT m.fraction FROM tokenbill.markup m
	WHERE (m.service OPERATOR(pg_catalog.=) '*' OR m.service OPERATOR(pg_catalog.=) s.service)
		AND ((m.account OPERATOR(pg_catalog.=) h.account AND m.price_group OPERATOR(pg_catalog.=) h.price_group)
			OR (m.account OPERATOR(pg_catalog.=) '*' AND m.price_group OPERATOR(pg_catalog.=) ''
				AND s.account OPERATOR(pg_catalog.=) '*' AND s.price_group OPERATOR(pg_catalog.=) ''))
		AND m.valid_from OPERATOR(pg_catalog.<=) d.valid_from
	ORDER BY m.account OPERATOR(pg_catalog.=) '*' AND m.price_group OPERATOR(pg_catalog.=) '', m.service OPERATOR(pg_catalog.=) '*',
		m.valid_from USING OPERATOR(pg_catalog.>)
	LIMIT 1
) k ON true
CROSS JOIN LATERAL (
	SELECT tokenbill.unit_price_above(s.unit_price, s.tiers, b.above) OPERATOR(pg_catalog.*) (1 OPERATOR(pg_catalog.+) COALESCE(k.fraction, 0)) AS price,
		tokenbill.unit_price_above(c.unit_price, c.tiers, b.above) AS cost, d.valid_from, d.valid_to
) v
WHERE (v.valid_to IS NULL OR v.valid_from OPERATOR(pg_catalog.<) v.valid_to)
	AND v.price OPERATOR(pg_catalog.*) c.per OPERATOR(pg_catalog.<) (v.cost OPERATOR(pg_catalog.*) s.per)
	AND tokenbill.visible('');
COMMENT ON VIEW tokenbill.prices_below_cost IS 'Prices, now or to come, at which a unit is sold for less than the upstream takes, bracket by bracket';
COMMENT ON COLUMN tokenbill.prices_below_cost.service IS 'What it is a price of';
COMMENT ON COLUMN tokenbill.prices_below_cost.meter IS 'What is counted';
COMMENT ON COLUMN tokenbill.prices_below_cost.account IS 'Account that has this price, or *';
COMMENT ON COLUMN tokenbill.prices_below_cost.price_group IS 'Price group that has it, or empty';
COMMENT ON COLUMN tokenbill.prices_below_cost.service_tier IS 'Service tier of the price';
COMMENT ON COLUMN tokenbill.prices_below_cost.hours IS 'Window of hours of the price, UTC; empty: all day';
COMMENT ON COLUMN tokenbill.prices_below_cost.above IS 'For counts above this: where the bracket begins';
COMMENT ON COLUMN tokenbill.prices_below_cost.unit_price IS 'What per units are sold at, markup included';
COMMENT ON COLUMN tokenbill.prices_below_cost.per IS 'How many units unit_price is for';
COMMENT ON COLUMN tokenbill.prices_below_cost.cost_unit_price IS 'What cost_per units cost us';
COMMENT ON COLUMN tokenbill.prices_below_cost.cost_per IS 'How many units cost_unit_price is for';
COMMENT ON COLUMN tokenbill.prices_below_cost.markup IS 'Fraction by which the price was raised, or, negative, lowered';
COMMENT ON COLUMN tokenbill.prices_below_cost.valid_from IS 'From when on, now at the earliest';
COMMENT ON COLUMN tokenbill.prices_below_cost.valid_to IS 'Until when; null: no end is known';

CREATE FUNCTION tokenbill.warn_below_cost(service text, meter text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	worst record;
BEGIN
	/* most prices are set where no cost is */
	IF warn_below_cost.service <> '*' AND NOT EXISTS (SELECT FROM tokenbill.price p WHERE p.service = warn_below_cost.service AND p.side = 'cost') THEN
		RETURN;
	END IF;
	SELECT b.* INTO worst FROM tokenbill.prices_below_cost b
	WHERE (b.service = warn_below_cost.service OR warn_below_cost.service = '*')
		AND (b.meter = warn_below_cost.meter OR warn_below_cost.meter IS NULL)
	ORDER BY b.valid_from, b.service, b.meter, b.account, b.price_group, b.above LIMIT 1;
	IF FOUND THEN
		RAISE WARNING USING ERRCODE = '01000', MESSAGE = format('price of %s, %s is below its cost', worst.service, worst.meter),
			DETAIL = to_jsonb(worst)::text, HINT = 'tokenbill.prices_below_cost shows all there are.';
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.warn_below_cost(text, text) IS 'Internal: warns of a price of the service, and of the meter, that is below its cost';
