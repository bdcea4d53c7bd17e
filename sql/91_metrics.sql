/*
 * Gauges and counters of this database, for Prometheus.
 *
 * They are read every few seconds, so what they read must not grow with the calls
 * that have been charged: the accounts once, the open holds, the orders and tokens
 * that are not settled, the providers; each of them once, for all that is told of
 * it.
 */
CREATE VIEW tokenbill.metrics WITH (security_barrier) AS
WITH accounts AS MATERIALIZED (
	SELECT a.currency, a.status, a.sandbox, pg_catalog.count(*) AS n, pg_catalog.sum(a.balance) AS balance, pg_catalog.sum(a.held) AS held,
		pg_catalog.numeric_uminus(pg_catalog.sum(CASE WHEN a.balance OPERATOR(pg_catalog.<) 0 THEN a.balance ELSE 0 END)) AS debt,
		pg_catalog.sum(a.seq) AS lines
	FROM tokenbill.account a
	WHERE tokenbill.visible(a.account)
	GROUP BY a.currency, a.status, a.sandbox
), holds AS MATERIALIZED (
	SELECT pg_catalog.count(*) AS n, pg_catalog.count(*) FILTER (WHERE h.expires_at OPERATOR(pg_catalog.<=) c.now) AS overdue,
		COALESCE(EXTRACT(epoch FROM pg_catalog.max(c.now OPERATOR(pg_catalog.-) h.created_at)), 0) AS oldest
	FROM (SELECT tokenbill.clock() AS now OFFSET 0) c
	CROSS JOIN tokenbill.hold h
	WHERE h.status OPERATOR(pg_catalog.=) 'held' AND tokenbill.visible(h.account)
), orders AS MATERIALIZED (
	SELECT s.status, pg_catalog.count(o.created_at) AS n,
		COALESCE(EXTRACT(epoch FROM s.now OPERATOR(pg_catalog.-) pg_catalog.min(o.created_at)), 0) AS oldest
	FROM (SELECT v.status, c.now FROM (VALUES ('init'), ('processing'), ('requires_action'), ('unknown'), ('disputed')) v(status)
		CROSS JOIN (SELECT tokenbill.clock() AS now OFFSET 0) c) s
	LEFT JOIN tokenbill.recharge_order o ON o.status OPERATOR(pg_catalog.=) s.status AND tokenbill.visible(o.account)
		AND o.gateway IS NOT NULL AND o.status OPERATOR(pg_catalog.=) ANY (ARRAY['init', 'processing', 'requires_action', 'unknown', 'disputed'])
	GROUP BY s.status, s.now
), tokens AS MATERIALIZED (
	SELECT pg_catalog.count(*) FILTER (WHERE t.expires_at OPERATOR(pg_catalog.>) c.now) AS issued,
		pg_catalog.count(*) FILTER (WHERE t.expires_at OPERATOR(pg_catalog.<=) c.now) AS expired
	FROM (SELECT tokenbill.clock() AS now OFFSET 0) c
	CROSS JOIN tokenbill.issued_token t
	WHERE t.used_at IS NULL AND tokenbill.visible(t.account)
)
SELECT m.name, m.labels, m.value, m.type, m.help
FROM (
	SELECT 'tokenbill_accounts' AS name, pg_catalog.jsonb_build_object('status', a.status, 'sandbox', a.sandbox) AS labels,
		pg_catalog.sum(a.n) AS value, 'gauge' AS type, 'Accounts by status' AS help
	FROM accounts a GROUP BY a.status, a.sandbox
	UNION ALL
	SELECT g.name, pg_catalog.jsonb_build_object('currency', a.currency), g.value, 'gauge', g.help
	FROM (SELECT s.currency, pg_catalog.sum(s.balance) AS balance, pg_catalog.sum(s.held) AS held, pg_catalog.sum(s.debt) AS debt
		FROM accounts s WHERE NOT s.sandbox GROUP BY s.currency) a
	CROSS JOIN LATERAL (VALUES
		('tokenbill_customer_balance', a.balance, 'Sum of the balances of the accounts that are no sandbox'),
		('tokenbill_customer_held', a.held, 'Sum of what open holds reserve'),
		('tokenbill_customer_debt', a.debt, 'Sum of the balances below zero, as a positive number')
	) g (name, value, help)
	UNION ALL
	SELECT 'tokenbill_ledger_lines_total', '{}', COALESCE(pg_catalog.sum(a.lines), 0), 'counter', 'Ledger lines ever posted'
	FROM accounts a
	UNION ALL
	SELECT 'tokenbill_ledger_months', '{}', pg_catalog.count(*)::pg_catalog.numeric, 'gauge', 'Partitions of the ledger'
	FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) 'tokenbill.ledger'::pg_catalog.regclass
	UNION ALL
	SELECT 'tokenbill_movements_total', pg_catalog.jsonb_build_object('kind', c.label), c.value::pg_catalog.numeric, 'counter',
		'Ledger lines committed since the server started, by kind'
	FROM tokenbill.counters() c WHERE c.counter OPERATOR(pg_catalog.=) 'lines'
	UNION ALL
	SELECT 'tokenbill_refusals_total', pg_catalog.jsonb_build_object('sqlstate', c.label), c.value::pg_catalog.numeric, 'counter',
		'Requests refused since the server started, by SQLSTATE'
	FROM tokenbill.counters() c WHERE c.counter OPERATOR(pg_catalog.=) 'refusals'
	UNION ALL
	SELECT g.name, '{}', g.value, 'gauge', g.help
	FROM holds h
	CROSS JOIN LATERAL (VALUES
		('tokenbill_holds_open', h.n::pg_catalog.numeric, 'Holds neither captured, released nor expired'),
		('tokenbill_holds_overdue', h.overdue::pg_catalog.numeric, 'Open holds whose time has run out'),
		('tokenbill_hold_oldest_age_seconds', h.oldest, 'Age of the oldest open hold')
	) g (name, value, help)
	UNION ALL
	SELECT g.name, pg_catalog.jsonb_build_object('status', o.status), g.value, 'gauge', g.help
	FROM orders o
	CROSS JOIN LATERAL (VALUES
		('tokenbill_recharge_orders', o.n::pg_catalog.numeric, 'Recharge orders that are not settled, by status'),
		('tokenbill_recharge_order_oldest_age_seconds', o.oldest, 'Age of the oldest recharge order in that status')
	) g (name, value, help)
	UNION ALL
	SELECT 'tokenbill_tokens', pg_catalog.jsonb_build_object('status', g.status), g.value::pg_catalog.numeric, 'gauge',
		'Keys made by issue_token() and not used, those that can be and those whose time has run out'
	FROM tokens t
	CROSS JOIN LATERAL (VALUES ('issued', t.issued), ('expired', t.expired)) g (status, value)
	UNION ALL
	SELECT g.name, pg_catalog.jsonb_build_object('provider', b.provider, 'currency', b.currency), g.value, 'gauge', g.help
	FROM tokenbill.provider_balances b
	CROSS JOIN LATERAL (VALUES
		('tokenbill_provider_balance', b.balance, 'What the provider still holds, as last reported'),
		('tokenbill_provider_low_balance', b.low_balance, 'What is low for the provider'),
		('tokenbill_provider_stale', CASE WHEN b.stale THEN 1 ELSE 0 END, '1 if the newest report failed or is overdue'),
		('tokenbill_provider_age_seconds', EXTRACT(epoch FROM b.age), 'Age of the provider''s balance'),
		('tokenbill_provider_failures', b.failures, 'Failed reports since the balance'),
		('tokenbill_provider_burn_per_hour', b.burn_per_hour, 'By how much the balance falls in an hour'),
		('tokenbill_provider_empty_in_seconds', EXTRACT(epoch FROM b.empty_in), 'Time until nothing is left at that rate')
	) g (name, value, help)
	WHERE b.enabled AND g.value IS NOT NULL
	UNION ALL
	SELECT 'tokenbill_check_duration_seconds_bucket', pg_catalog.jsonb_build_object('provider', c.provider, 'le', b.le), b.value, 'histogram',
		'How long answers to checks took'
	FROM tokenbill.provider_check c
	CROSS JOIN LATERAL (
		SELECT COALESCE(pg_catalog.trim_scale(u.bound::pg_catalog.numeric OPERATOR(pg_catalog./) 1000)::pg_catalog.text, '+Inf') AS le,
			pg_catalog.sum(u.n) OVER (ORDER BY u.place USING OPERATOR(pg_catalog.<)) AS value
		FROM ROWS FROM (pg_catalog.unnest(c.latency), pg_catalog.unnest(tokenbill.latency_bounds())) WITH ORDINALITY u (n, bound, place)
	) b
	WHERE tokenbill.visible('')
	UNION ALL
	SELECT g.name, pg_catalog.jsonb_build_object('provider', c.provider), g.value, g.type, g.help
	FROM tokenbill.provider_check c
	CROSS JOIN LATERAL (VALUES
		('tokenbill_check_duration_seconds_sum', pg_catalog.trim_scale(c.latency_ms::pg_catalog.numeric OPERATOR(pg_catalog./) 1000), 'histogram', 'How long answers to checks took'),
		('tokenbill_check_duration_seconds_count', (SELECT pg_catalog.sum(u.n) FROM pg_catalog.unnest(c.latency) u (n)), 'histogram', 'How long answers to checks took'),
		('tokenbill_checks_total', c.checks::pg_catalog.numeric, 'counter', 'Checks that have ended'),
		('tokenbill_check_failures_total', c.failed_checks::pg_catalog.numeric, 'counter', 'Checks that told nothing'),
		('tokenbill_check_calls_total', c.calls::pg_catalog.numeric, 'counter', 'Requests that checks have made'),
		('tokenbill_check_retries_total', c.retries::pg_catalog.numeric, 'counter', 'Requests that were tried again')
	) g (name, value, type, help)
	WHERE tokenbill.visible('')
	UNION ALL
	SELECT g.name, '{}', g.value, 'gauge', g.help
	FROM (
		SELECT pg_catalog.count(*) FILTER (WHERE c.at OPERATOR(pg_catalog.<=) c.now) AS due,
			pg_catalog.count(*) FILTER (WHERE c.lease_until OPERATOR(pg_catalog.>) c.now) AS under_way,
			COALESCE(EXTRACT(epoch FROM pg_catalog.max(c.now OPERATOR(pg_catalog.-) c.at) FILTER (WHERE c.at OPERATOR(pg_catalog.<=) c.now)), 0) AS late
		FROM (
			SELECT k.lease_until, GREATEST(k.next_at, k.blocked_until, k.lease_until) AS at, n.now
			FROM (SELECT tokenbill.clock() AS now OFFSET 0) n
			CROSS JOIN tokenbill.provider_check k
			WHERE k.next_at IS NOT NULL
		) c
	) q
	CROSS JOIN LATERAL (VALUES
		('tokenbill_checks_due', q.due::pg_catalog.numeric, 'Checks that are due and have not begun'),
		('tokenbill_checks_under_way', q.under_way::pg_catalog.numeric, 'Checks whose request is under way'),
		('tokenbill_check_late_seconds', q.late, 'How long the check that is due longest has been')
	) g (name, value, help)
	WHERE tokenbill.visible('')
	UNION ALL
	SELECT 'tokenbill_breaker_state', pg_catalog.jsonb_build_object('kind', b.kind, 'target', b.name, 'state', s.state),
		CASE WHEN b.state OPERATOR(pg_catalog.=) s.state THEN 1 ELSE 0 END, 'gauge', '1 for the state that the circuit breaker is in'
	FROM tokenbill.breakers b
	CROSS JOIN (VALUES ('closed'), ('open'), ('half_open')) s (state)
	UNION ALL
	SELECT g.name, pg_catalog.jsonb_build_object('kind', b.kind, 'target', b.name), g.value, g.type, g.help
	FROM tokenbill.breakers b
	CROSS JOIN LATERAL (VALUES
		('tokenbill_breaker_opened_total', b.times_opened::pg_catalog.numeric, 'counter', 'How often the circuit breaker has opened'),
		('tokenbill_breaker_failures', b.failures, 'gauge', 'Failed calls in a row'),
		('tokenbill_breaker_p99_seconds', pg_catalog.trim_scale(b.p99_ms::pg_catalog.numeric OPERATOR(pg_catalog./) 1000), 'gauge', '99th percentile of the durations of its last calls')
	) g (name, value, type, help)
	WHERE g.value IS NOT NULL
	UNION ALL
	SELECT 'tokenbill_alerts_raised', pg_catalog.jsonb_build_object('kind', a.kind, 'severity', a.severity), pg_catalog.count(*)::pg_catalog.numeric, 'gauge',
		'Alerts that are raised, by kind and severity'
	FROM tokenbill.alerts a WHERE a.state OPERATOR(pg_catalog.=) 'raised' GROUP BY a.kind, a.severity
	UNION ALL
	SELECT g.name, '{}', g.value, 'gauge', g.help
	FROM (
		SELECT pg_catalog.count(*) AS n, COALESCE(EXTRACT(epoch FROM pg_catalog.max(c.now OPERATOR(pg_catalog.-) d.created_at)), 0) AS oldest
		FROM (SELECT tokenbill.clock() AS now OFFSET 0) c
		CROSS JOIN tokenbill.alert_deliveries d
		WHERE d.state OPERATOR(pg_catalog.=) 'pending'
	) w
	CROSS JOIN LATERAL (VALUES
		('tokenbill_webhooks_pending', w.n::pg_catalog.numeric, 'Webhook deliveries that wait to be sent'),
		('tokenbill_webhook_oldest_age_seconds', w.oldest, 'Age of the oldest of them')
	) g (name, value, help)
	WHERE tokenbill.visible('')
	UNION ALL
	SELECT 'tokenbill_credential_expires_in_seconds', pg_catalog.jsonb_build_object('credential', e.credential), EXTRACT(epoch FROM e.expires_in), 'gauge',
		'Time until the credential expires, negative if it has'
	FROM tokenbill.credential_expiries e
	UNION ALL
	SELECT g.name, '{}', g.value, 'gauge', g.help
	FROM tokenbill.worker_status w
	CROSS JOIN LATERAL (VALUES
		('tokenbill_worker_up', CASE WHEN w.state OPERATOR(pg_catalog.=) ANY (ARRAY['asleep', 'working']) THEN 1 ELSE 0 END,
			'1 if this database''s worker runs'),
		('tokenbill_worker_failures', COALESCE(w.failures, 0), 'How often in a row the worker has ended by itself'),
		('tokenbill_worker_requests', COALESCE(w.requests, 0), 'HTTP requests that the worker has in flight')
	) g (name, value, help)
	WHERE w.process OPERATOR(pg_catalog.=) 'worker' AND w.state OPERATOR(pg_catalog.<>) 'off' AND NOT pg_catalog.pg_is_in_recovery()
	UNION ALL
	SELECT 'tokenbill_worker_errors', pg_catalog.jsonb_build_object('duty', e.duty), pg_catalog.sum(e.count), 'gauge',
		'Errors of the worker that are on record, by what it was doing'
	FROM tokenbill.worker_errors e GROUP BY e.duty
) m;
COMMENT ON VIEW tokenbill.metrics IS 'Gauges and counters of this database, a row each, named as Prometheus names them';
COMMENT ON COLUMN tokenbill.metrics.name IS 'Name of the metric';
COMMENT ON COLUMN tokenbill.metrics.labels IS 'Its labels, a JSON object';
COMMENT ON COLUMN tokenbill.metrics.value IS 'Its value now';
COMMENT ON COLUMN tokenbill.metrics.type IS 'gauge, counter or histogram, as Prometheus has them; a histogram''s names end in _bucket, _sum and _count';
COMMENT ON COLUMN tokenbill.metrics.help IS 'What it says';

/*
 * Prometheus' text format, version 0.0.4: the series of a name stand together,
 * below what it is, and a histogram's parts are one name.
 */
CREATE FUNCTION tokenbill.metrics_text() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN coalesce(string_agg(family.said, '' ORDER BY family.name), '')
	FROM (
		SELECT s.name, format(E'# HELP %1$s %2$s\n# TYPE %1$s %3$s\n', s.name, replace(replace(s.help, '\', '\\'), E'\n', '\n'), s.type)
			|| string_agg(format(E'%s%s %s\n', s.part, '{' || s.labels || '}',
				CASE s.value WHEN 'Infinity' THEN '+Inf' WHEN '-Infinity' THEN '-Inf' ELSE s.value::text END), ''
				ORDER BY s.series, s.le, s.part) AS said
		FROM (
			SELECT m.name COLLATE "C" AS part, m.type, m.help, m.value, l.labels, l.series,
				CASE m.labels ->> 'le' WHEN '+Inf' THEN 'Infinity' ELSE m.labels ->> 'le' END::numeric AS le,
				CASE m.type WHEN 'histogram' THEN regexp_replace(m.name, '_(bucket|sum|count)$', '') ELSE m.name END COLLATE "C" AS name
			FROM tokenbill.metrics m
			CROSS JOIN LATERAL (
				SELECT string_agg(e.label, ',' ORDER BY e.is_le, e.label) AS labels,
					string_agg(e.label, ',' ORDER BY e.label) FILTER (WHERE NOT e.is_le) AS series
				FROM (
					SELECT t.key = 'le' AS is_le,
						format('%s="%s"', t.key, replace(replace(replace(t.value, '\', '\\'), '"', '\"'), E'\n', '\n')) COLLATE "C" AS label
					FROM jsonb_each_text(m.labels) t
					WHERE t.value IS NOT NULL
				) e
			) l
		) s
		GROUP BY s.name, s.type, s.help
	) family;
END
$function$;
COMMENT ON FUNCTION tokenbill.metrics_text() IS
'The view metrics in Prometheus'' text exposition format 0.0.4; a tenant gets its own account''s';
