/*
 * Alerts: one row an event, told once by NOTIFY tokenbill_alert and by webhooks.
 *
 * evaluate_alerts() looks what is wrong and moves the rows:
 *
 *   raised -> cleared    the condition is gone, by more than clear_above, for clear_after
 *   cleared -> raised    it is back before the quiet period is over: the same event goes
 *                        on, counted and untold; told only if it outlasts the period
 *
 * What comes back later is another event and another row.  Of a kind and a subject
 * in a currency at most one alert is raised, which a unique index sees to.
 */
CREATE TABLE tokenbill.alert_rule (
	kind text COLLATE "C" NOT NULL PRIMARY KEY,
	enabled boolean,
	threshold interval,
	clear_above numeric,
	clear_after interval,
	quiet_period interval,
	severity text CHECK (severity IN ('info', 'warning', 'critical')),
	notify boolean,
	keep interval
);
COMMENT ON TABLE tokenbill.alert_rule IS 'What set_alert_rule() has changed of the rules; null: as it comes, see the view alert_rules';
COMMENT ON COLUMN tokenbill.alert_rule.kind IS 'Kind of alert';
COMMENT ON COLUMN tokenbill.alert_rule.enabled IS 'Whether such alerts are raised';
COMMENT ON COLUMN tokenbill.alert_rule.threshold IS 'A length of time; what it means depends on the kind';
COMMENT ON COLUMN tokenbill.alert_rule.clear_above IS 'By which part of the threshold the value must be above it before the alert is cleared';
COMMENT ON COLUMN tokenbill.alert_rule.clear_after IS 'For how long the condition must be gone before the alert is cleared';
COMMENT ON COLUMN tokenbill.alert_rule.quiet_period IS 'For how long, after it was told, the same alert is not told again';
COMMENT ON COLUMN tokenbill.alert_rule.severity IS 'info, warning or critical';
COMMENT ON COLUMN tokenbill.alert_rule.notify IS 'Whether it is told by NOTIFY';
COMMENT ON COLUMN tokenbill.alert_rule.keep IS 'How long cleared alerts are kept';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.alert_rule', '');

CREATE SEQUENCE tokenbill.alert_number;
COMMENT ON SEQUENCE tokenbill.alert_number IS 'Numbers of alerts';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.alert_number', '');

CREATE TABLE tokenbill.alert (
	id bigint NOT NULL DEFAULT pg_catalog.nextval('tokenbill.alert_number') PRIMARY KEY,
	kind text COLLATE "C" NOT NULL,
	subject text COLLATE "C" NOT NULL,
	currency text COLLATE "C" NOT NULL,
	state text NOT NULL DEFAULT 'raised' CHECK (state IN ('raised', 'cleared')),
	severity text NOT NULL,
	value numeric,
	threshold numeric,
	message text NOT NULL,
	count integer NOT NULL DEFAULT 1,
	raised_at timestamptz NOT NULL,
	changed_at timestamptz NOT NULL,
	gone_since timestamptz,
	cleared_at timestamptz,
	told text NOT NULL DEFAULT 'cleared' CHECK (told IN ('raised', 'cleared')),
	notified_at timestamptz,
	quiet_until timestamptz NOT NULL,
	events integer NOT NULL DEFAULT 0,
	CHECK ((state = 'cleared') = (cleared_at IS NOT NULL))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX alert_raised_idx ON tokenbill.alert (kind, subject, currency) WHERE state = 'raised';
CREATE INDEX alert_subject_idx ON tokenbill.alert (kind, subject, currency, id);
CREATE INDEX alert_cleared_idx ON tokenbill.alert (kind, cleared_at) WHERE state = 'cleared';
COMMENT ON TABLE tokenbill.alert IS 'Alerts: one row an event';
COMMENT ON COLUMN tokenbill.alert.id IS 'Its number';
COMMENT ON COLUMN tokenbill.alert.kind IS 'What is wrong';
COMMENT ON COLUMN tokenbill.alert.subject IS 'With what: name of a provider, an account, a credential ...';
COMMENT ON COLUMN tokenbill.alert.currency IS 'Currency of value and threshold; empty: they are no money';
COMMENT ON COLUMN tokenbill.alert.state IS 'raised or cleared';
COMMENT ON COLUMN tokenbill.alert.severity IS 'info, warning or critical, as the rule said';
COMMENT ON COLUMN tokenbill.alert.value IS 'What was seen when it was raised last: money, seconds, milliseconds or a number';
COMMENT ON COLUMN tokenbill.alert.threshold IS 'What it was compared with';
COMMENT ON COLUMN tokenbill.alert.message IS 'The same in words';
COMMENT ON COLUMN tokenbill.alert.count IS 'How often it was raised: more than once if the condition came back within the quiet period';
COMMENT ON COLUMN tokenbill.alert.raised_at IS 'When it was raised first';
COMMENT ON COLUMN tokenbill.alert.changed_at IS 'When the state last changed';
COMMENT ON COLUMN tokenbill.alert.gone_since IS 'Since when the condition is gone, while it is still raised';
COMMENT ON COLUMN tokenbill.alert.cleared_at IS 'When it was cleared; null: it is raised';
COMMENT ON COLUMN tokenbill.alert.told IS 'Which state was told last';
COMMENT ON COLUMN tokenbill.alert.notified_at IS 'When something was told last; null: never';
COMMENT ON COLUMN tokenbill.alert.quiet_until IS 'Until when it is not told again that it is raised';
COMMENT ON COLUMN tokenbill.alert.events IS 'How often something was told';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.alert', '');

/* whoever tries: what was cleared is raised again in its quiet period only */
CREATE TRIGGER only_moves BEFORE UPDATE OF state ON tokenbill.alert
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state
	AND NOT (OLD.state = 'cleared' AND NEW.state = 'raised' AND NEW.changed_at < OLD.quiet_until))
EXECUTE FUNCTION tokenbill.only_moves('id', 'raised>cleared');

CREATE TABLE tokenbill.alert_evaluation (
	one boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (one),
	evaluated_at timestamptz NOT NULL,
	next_at timestamptz,
	changes bigint,
	moves bigint
);
COMMENT ON TABLE tokenbill.alert_evaluation IS 'When alerts were evaluated last: one row, or none';
COMMENT ON COLUMN tokenbill.alert_evaluation.one IS 'True: there is one row';
COMMENT ON COLUMN tokenbill.alert_evaluation.evaluated_at IS 'When';
COMMENT ON COLUMN tokenbill.alert_evaluation.next_at IS 'When alerts may be others by the passing of time alone; null: never';
COMMENT ON COLUMN tokenbill.alert_evaluation.changes IS 'What alert_marks() said before';
COMMENT ON COLUMN tokenbill.alert_evaluation.moves IS 'The same, of balances that have moved';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.alert_evaluation', '');

CREATE TABLE tokenbill.account_low_balance (
	account text COLLATE "C" NOT NULL PRIMARY KEY,
	amount numeric NOT NULL,
	updated_at timestamptz NOT NULL
);
COMMENT ON TABLE tokenbill.account_low_balance IS 'Accounts whose balance is watched, and what is low';
COMMENT ON COLUMN tokenbill.account_low_balance.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.account_low_balance.amount IS 'A balance at or below it is low, in the account''s currency';
COMMENT ON COLUMN tokenbill.account_low_balance.updated_at IS 'When it was set';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.account_low_balance', '');

CREATE TABLE tokenbill.credential_expiry (
	credential text COLLATE "C" NOT NULL PRIMARY KEY,
	expires_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL
);
COMMENT ON TABLE tokenbill.credential_expiry IS 'Keys, tokens and certificates that somebody has to renew, and until when';
COMMENT ON COLUMN tokenbill.credential_expiry.credential IS 'Name of the secret, or any other name';
COMMENT ON COLUMN tokenbill.credential_expiry.expires_at IS 'When it expires';
COMMENT ON COLUMN tokenbill.credential_expiry.updated_at IS 'When that was set';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.credential_expiry', '');

CREATE VIEW tokenbill.alert_rules WITH (security_barrier) AS
SELECT d.kind, COALESCE(r.enabled, true) AS enabled, COALESCE(r.threshold, d.threshold) AS threshold,
	COALESCE(r.clear_above, d.clear_above) AS clear_above, COALESCE(r.clear_after, d.clear_after) AS clear_after,
	COALESCE(r.quiet_period, d.quiet_period) AS quiet_period, COALESCE(r.severity, d.severity) AS severity,
	COALESCE(r.notify, true) AS notify, COALESCE(r.keep, '90 days') AS keep
FROM (VALUES
	('provider_low', NULL::pg_catalog.interval, 0.1, '0'::pg_catalog.interval, '1 hour'::pg_catalog.interval, 'critical'),
	('provider_runway', '1 day', 0.1, '0', '1 hour', 'warning'),
	('provider_stale', '15 minutes', NULL, '0', '1 hour', 'warning'),
	('breaker_open', NULL, NULL, '5 minutes', '1 hour', 'warning'),
	('breaker_slow', NULL, NULL, '5 minutes', '1 hour', 'info'),
	('credential_expiring', '7 days', NULL, '0', '1 hour', 'warning'),
	('account_low', NULL, 0, '0', '1 hour', 'info'),
	('worker_error', '15 minutes', NULL, '0', '1 hour', 'warning')
) d (kind, threshold, clear_above, clear_after, quiet_period, severity)
LEFT JOIN tokenbill.alert_rule r ON r.kind OPERATOR(pg_catalog.=) d.kind
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.alert_rules IS 'The kinds of alerts, and when each is raised, told and cleared; none for a tenant';
COMMENT ON COLUMN tokenbill.alert_rules.kind IS 'Kind of alert';
COMMENT ON COLUMN tokenbill.alert_rules.enabled IS 'Whether such alerts are raised';
COMMENT ON COLUMN tokenbill.alert_rules.threshold IS 'A length of time; what it means depends on the kind, null: the kind has none';
COMMENT ON COLUMN tokenbill.alert_rules.clear_above IS 'By which part of the threshold the value must be above it before the alert is cleared; null: the kind has none';
COMMENT ON COLUMN tokenbill.alert_rules.clear_after IS 'For how long the condition must be gone before the alert is cleared';
COMMENT ON COLUMN tokenbill.alert_rules.quiet_period IS 'For how long, after it was told, the same alert is not told again';
COMMENT ON COLUMN tokenbill.alert_rules.severity IS 'info, warning or critical';
COMMENT ON COLUMN tokenbill.alert_rules.notify IS 'Whether it is told by NOTIFY';
COMMENT ON COLUMN tokenbill.alert_rules.keep IS 'How long cleared alerts are kept';

CREATE FUNCTION tokenbill.check_no_tenant(argument text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF NOT tokenbill.visible('') THEN
		PERFORM tokenbill.refuse('42501', 'a tenant has nothing to do with this', jsonb_build_object('argument', check_no_tenant.argument),
			'Use a login that is not mapped to an account.');
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_no_tenant(text) IS 'Internal: raises that a tenant asks (42501)';

CREATE FUNCTION tokenbill.check_alert_kind(argument text, kind text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	kinds text[] := ARRAY(SELECT r.kind FROM tokenbill.alert_rules r);
BEGIN
	PERFORM tokenbill.check_text(check_alert_kind.argument, check_alert_kind.kind, 64);
	IF check_alert_kind.kind <> ALL (kinds) THEN
		PERFORM tokenbill.refuse('22023', format('%s must be a kind of alert', check_alert_kind.argument),
			jsonb_build_object('argument', check_alert_kind.argument, 'allowed', kinds), 'tokenbill.alert_rules shows the kinds.');
	END IF;
	RETURN check_alert_kind.kind;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_alert_kind(text, text) IS 'Internal: returns the kind, or raises that it is none (22004, 22023)';

CREATE FUNCTION tokenbill.set_alert_rule(kind text, enabled boolean DEFAULT NULL, threshold interval DEFAULT NULL, clear_above numeric DEFAULT NULL,
	clear_after interval DEFAULT NULL, quiet_period interval DEFAULT NULL, severity text DEFAULT NULL, notify boolean DEFAULT NULL, keep interval DEFAULT NULL)
RETURNS tokenbill.alert_rules
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	rule tokenbill.alert_rules;
BEGIN
	PERFORM tokenbill.check_no_tenant('kind');
	PERFORM tokenbill.check_alert_kind('kind', set_alert_rule.kind);
	SELECT r.* INTO rule FROM tokenbill.alert_rules r WHERE r.kind = set_alert_rule.kind;
	IF set_alert_rule.threshold IS NOT NULL THEN
		PERFORM tokenbill.check_span('threshold', set_alert_rule.threshold, '1 second', '366 days');
		IF rule.threshold IS NULL THEN
			PERFORM tokenbill.refuse('22023', format('%s has no threshold of its own', rule.kind), '{"argument": "threshold"}',
				'What is low is set with the provider, the account or the breaker.');
		END IF;
	END IF;
	IF set_alert_rule.clear_above IS NOT NULL THEN
		IF rule.clear_above IS NULL THEN
			PERFORM tokenbill.refuse('22023', format('%s is not cleared by a value', rule.kind), '{"argument": "clear_above"}',
				'Use clear_after, which is a time.');
		END IF;
		IF NOT (set_alert_rule.clear_above >= 0 AND set_alert_rule.clear_above <= 10) THEN
			PERFORM tokenbill.refuse('22023', 'clear_above must be between 0 and 10', '{"argument": "clear_above"}',
				'Pass a part of the threshold: 0.1 is a tenth of it.');
		END IF;
	END IF;
	IF set_alert_rule.clear_after IS NOT NULL THEN
		PERFORM tokenbill.check_span('clear_after', set_alert_rule.clear_after, '0', '30 days');
	END IF;
	IF set_alert_rule.quiet_period IS NOT NULL THEN
		PERFORM tokenbill.check_span('quiet_period', set_alert_rule.quiet_period, '0', '30 days');
	END IF;
	IF set_alert_rule.keep IS NOT NULL THEN
		PERFORM tokenbill.check_span('keep', set_alert_rule.keep, '1 day', '3660 days');
	END IF;
	IF set_alert_rule.severity NOT IN ('info', 'warning', 'critical') THEN
		PERFORM tokenbill.refuse('22023', 'severity must be info, warning or critical',
			'{"argument": "severity", "allowed": ["info", "warning", "critical"]}', 'Alerts raised from now on have it.');
	END IF;
	INSERT INTO tokenbill.alert_rule AS r (kind, enabled, threshold, clear_above, clear_after, quiet_period, severity, notify, keep)
	VALUES (rule.kind, set_alert_rule.enabled, set_alert_rule.threshold, set_alert_rule.clear_above, set_alert_rule.clear_after,
		set_alert_rule.quiet_period, set_alert_rule.severity, set_alert_rule.notify, set_alert_rule.keep)
	ON CONFLICT ON CONSTRAINT alert_rule_pkey DO UPDATE
	SET enabled = coalesce(excluded.enabled, r.enabled), threshold = coalesce(excluded.threshold, r.threshold),
		clear_above = coalesce(excluded.clear_above, r.clear_above), clear_after = coalesce(excluded.clear_after, r.clear_after),
		quiet_period = coalesce(excluded.quiet_period, r.quiet_period), severity = coalesce(excluded.severity, r.severity),
		notify = coalesce(excluded.notify, r.notify), keep = coalesce(excluded.keep, r.keep);
	PERFORM tokenbill.wake_worker();
	SELECT r.* INTO rule FROM tokenbill.alert_rules r WHERE r.kind = set_alert_rule.kind;
	RETURN rule;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_alert_rule(text, boolean, interval, numeric, interval, interval, text, boolean, interval) IS
'Sets when a kind of alert is raised, told and cleared; null leaves a part as it is. Returns the whole rule. Errors: 22xxx';

CREATE FUNCTION tokenbill.set_low_balance(account text, amount numeric) RETURNS tokenbill.account_low_balance
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	made tokenbill.account_low_balance;
BEGIN
	PERFORM tokenbill.check_text('account', set_low_balance.account, 128);
	IF set_low_balance.amount IS NOT NULL THEN
		PERFORM tokenbill.check_signed('amount', set_low_balance.amount);
	END IF;
	PERFORM FROM tokenbill.account a WHERE a.account = set_low_balance.account AND tokenbill.visible(a.account);
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_account(set_low_balance.account);
	END IF;
	IF set_low_balance.amount IS NULL THEN
		DELETE FROM tokenbill.account_low_balance l WHERE l.account = set_low_balance.account;
	ELSE
		INSERT INTO tokenbill.account_low_balance AS l (account, amount, updated_at)
		VALUES (set_low_balance.account, set_low_balance.amount, tokenbill.clock())
		ON CONFLICT ON CONSTRAINT account_low_balance_pkey DO UPDATE SET amount = excluded.amount, updated_at = excluded.updated_at
		RETURNING l.* INTO made;
	END IF;
	PERFORM tokenbill.wake_worker();
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_low_balance(text, numeric) IS
'From now on an alert account_low is raised when the account''s balance is at or below the amount; null: no more. Returns the row, or null. Errors: PT404, 22xxx';

CREATE FUNCTION tokenbill.set_credential_expiry(credential text, expires_at timestamptz) RETURNS tokenbill.credential_expiry
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	made tokenbill.credential_expiry;
BEGIN
	PERFORM tokenbill.check_no_tenant('credential');
	PERFORM tokenbill.check_text('credential', set_credential_expiry.credential, 128);
	IF set_credential_expiry.expires_at IS NULL THEN
		DELETE FROM tokenbill.credential_expiry c WHERE c.credential = set_credential_expiry.credential;
	ELSE
		PERFORM tokenbill.check_time('expires_at', set_credential_expiry.expires_at);
		INSERT INTO tokenbill.credential_expiry AS c (credential, expires_at, updated_at)
		VALUES (set_credential_expiry.credential, set_credential_expiry.expires_at, tokenbill.clock())
		ON CONFLICT ON CONSTRAINT credential_expiry_pkey DO UPDATE SET expires_at = excluded.expires_at, updated_at = excluded.updated_at
		RETURNING c.* INTO made;
	END IF;
	PERFORM tokenbill.wake_worker();
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_credential_expiry(text, timestamptz) IS
'From now on an alert credential_expiring is raised in time before the key, token or certificate expires; null: no more. Returns the row, or null. Errors: 22xxx';

/*
 * What is wrong now.  raises false: not bad enough to raise an alert, too bad,
 * or not known well enough, to clear one.  What is not there is well, or gone.
 */
CREATE FUNCTION tokenbill.alert_conditions()
RETURNS TABLE (kind text, subject text, currency text, raises boolean, value numeric, threshold numeric, message text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET intervalstyle = 'postgres'
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
BEGIN
	RETURN QUERY
	WITH rule AS MATERIALIZED (
		SELECT r.kind, r.clear_above, r.threshold, trim_scale(extract(epoch FROM r.threshold)) AS seconds FROM tokenbill.alert_rules r WHERE r.enabled
	), watched AS MATERIALIZED (
		SELECT b.provider, b.currency, b.balance, b.low_balance, b.stale, b.error, b.failures, b.age, b.burn_per_hour, b.empty_in,
			trim_scale(extract(epoch FROM b.empty_in)) AS left_seconds, trim_scale(extract(epoch FROM b.age)) AS age_seconds,
			trim_scale(extract(epoch FROM b.check_every)) AS every_seconds
		FROM tokenbill.provider_balances b WHERE b.enabled
	)
	SELECT r.kind, w.provider, w.currency, w.balance <= w.low_balance, w.balance, w.low_balance,
		format('provider "%s" has %s %s left, low is %s', w.provider, w.balance, w.currency, w.low_balance)
	FROM rule r JOIN watched w ON r.kind = 'provider_low'
	WHERE w.balance <= w.low_balance + abs(w.low_balance) * r.clear_above
	UNION ALL
	SELECT r.kind, w.provider, w.currency, coalesce(w.left_seconds <= r.seconds, false), w.left_seconds, r.seconds,
		format('provider "%s" has %s %s left, which will be used up in %s', w.provider, w.balance, w.currency, date_trunc('second', w.empty_in))
	FROM rule r JOIN watched w ON r.kind = 'provider_runway'
	/* an account that is paid later is not empty at zero */
	WHERE NOT (w.balance <= 0 AND coalesce(w.low_balance < 0, false))
		AND (w.left_seconds <= r.seconds * (1 + r.clear_above) OR w.balance > 0 AND w.burn_per_hour IS NULL)
	UNION ALL
	SELECT r.kind, w.provider, '', bool_or((w.age_seconds > w.every_seconds * 3 OR w.failures >= 3) AND w.age_seconds >= r.seconds),
		max(w.age_seconds), max(greatest(w.every_seconds * 3, r.seconds)),
		format('provider "%s" has told no balance for %s: %s', w.provider, date_trunc('second', max(w.age)), coalesce(max(w.error), 'nothing was reported'))
	FROM rule r JOIN watched w ON r.kind = 'provider_stale'
	WHERE w.stale
	GROUP BY r.kind, w.provider
	UNION ALL
	SELECT r.kind, b.kind || '/' || b.name, '', true, b.failures::numeric, b.max_failures::numeric,
		format('%s "%s" is not asked any more: %s failures in a row', b.kind, b.name, b.failures)
	FROM rule r JOIN tokenbill.breaker b ON r.kind = 'breaker_open' AND b.state <> 'closed'
	LEFT JOIN tokenbill.provider p ON b.kind = 'provider' AND p.provider = b.name
	WHERE p.enabled IS DISTINCT FROM false
	UNION ALL
	SELECT r.kind, b.kind || '/' || b.name, '', true, b.p99_ms::numeric, b.slow_ms::numeric,
		format('%s "%s" is slow: a hundredth of its calls take %s ms or longer', b.kind, b.name, b.p99_ms)
	FROM rule r JOIN tokenbill.breaker b ON r.kind = 'breaker_slow' AND b.slow_since IS NOT NULL
	LEFT JOIN tokenbill.provider p ON b.kind = 'provider' AND p.provider = b.name
	WHERE p.enabled IS DISTINCT FROM false
	UNION ALL
	SELECT r.kind, c.credential, '', true, trim_scale(extract(epoch FROM c.expires_at - now)), r.seconds,
		CASE WHEN c.expires_at > now THEN format('credential "%s" expires in %s', c.credential, date_trunc('second', c.expires_at - now))
			ELSE format('credential "%s" has expired', c.credential) END
	FROM rule r JOIN tokenbill.credential_expiry c ON r.kind = 'credential_expiring' AND c.expires_at <= now + r.threshold
	UNION ALL
	SELECT r.kind, l.account, a.currency, a.balance <= l.amount, a.balance, l.amount,
		format('account "%s" has %s %s left, low is %s', l.account, a.balance, a.currency, l.amount)
	FROM rule r JOIN tokenbill.account_low_balance l ON r.kind = 'account_low'
	JOIN tokenbill.account a ON a.account = l.account AND a.status <> 'closed'
	WHERE a.balance <= l.amount + abs(l.amount) * r.clear_above
	UNION ALL
	SELECT r.kind, e.duty, '', true, sum(e.count), NULL,
		format('the worker fails at "%s", last with SQLSTATE %s', e.duty, (array_agg(e.sqlstate ORDER BY e.last_at DESC))[1])
	FROM rule r JOIN tokenbill.worker_error e ON r.kind = 'worker_error' AND e.last_at > now - r.threshold
	GROUP BY r.kind, e.duty;
END
$function$;
COMMENT ON FUNCTION tokenbill.alert_conditions() IS
'Internal: what is wrong now; raises false: enough to keep an alert raised, not to raise one';

CREATE FUNCTION tokenbill.tell_alert(id bigint, state text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET plan_cache_mode = 'force_custom_plan'
AS $function$
#variable_conflict use_column
DECLARE
	a tokenbill.alert;
	rule tokenbill.alert_rules;
	said jsonb;
BEGIN
	SELECT r.* INTO rule FROM tokenbill.alert x JOIN tokenbill.alert_rules r ON r.kind = x.kind WHERE x.id = tell_alert.id;
	UPDATE tokenbill.alert x
	SET told = tell_alert.state, events = x.events + 1, notified_at = tokenbill.clock(),
		quiet_until = CASE tell_alert.state WHEN 'raised' THEN tokenbill.clock() + rule.quiet_period ELSE x.quiet_until END
	WHERE x.id = tell_alert.id
	RETURNING x.* INTO a;
	said := jsonb_build_object('alert', a.id, 'event', a.events, 'state', tell_alert.state, 'kind', a.kind, 'subject', a.subject,
		'currency', nullif(a.currency, ''), 'severity', a.severity, 'value', a.value, 'threshold', a.threshold, 'message', a.message,
		'count', a.count, 'raised_at', a.raised_at, 'cleared_at', a.cleared_at);
	IF rule.notify THEN
		PERFORM pg_notify('tokenbill_alert', said::text);
	END IF;
	PERFORM tokenbill.queue_webhooks(a.id, a.kind, a.subject, a.events, said);
END
$function$;
COMMENT ON FUNCTION tokenbill.tell_alert(bigint, text) IS 'Internal: tells what became of an alert, by NOTIFY and to the webhooks';

/*
 * When will alerts be others though nothing happens?  A report becomes too old, what
 * is left at the present rate too little; a condition has been gone for long enough,
 * a quiet period is over; a credential nears its end; an error is old.
 */
CREATE FUNCTION tokenbill.next_alert_change() RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = 'force_custom_plan'
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
BEGIN
	RETURN (
		SELECT min(t.at)
		FROM (
			SELECT greatest(since.at + r.threshold, CASE WHEN b.failures >= 3 THEN since.at ELSE since.at + p.check_every * 3 + interval '1 microsecond' END) AS at
			FROM tokenbill.alert_rules r
			JOIN tokenbill.provider p ON r.kind = 'provider_stale' AND r.enabled AND p.enabled
			LEFT JOIN tokenbill.provider_balance b ON b.provider = p.provider
			CROSS JOIN LATERAL (SELECT coalesce(b.checked_at, p.created_at) AS at) since
			UNION ALL
			SELECT v.empty_at - r.threshold
			FROM tokenbill.alert_rules r JOIN tokenbill.provider_balances v ON r.kind = 'provider_runway' AND r.enabled AND v.enabled
			UNION ALL
			SELECT a.gone_since + r.clear_after
			FROM tokenbill.alert a JOIN tokenbill.alert_rules r ON r.kind = a.kind WHERE a.state = 'raised' AND a.gone_since IS NOT NULL
			UNION ALL
			SELECT a.quiet_until FROM tokenbill.alert a WHERE a.state = 'raised' AND a.told = 'cleared'
			UNION ALL
			SELECT c.expires_at - r.threshold
			FROM tokenbill.alert_rules r CROSS JOIN tokenbill.credential_expiry c WHERE r.kind = 'credential_expiring' AND r.enabled
			UNION ALL
			SELECT max(e.last_at) + r.threshold
			FROM tokenbill.alert_rules r CROSS JOIN tokenbill.worker_error e WHERE r.kind = 'worker_error' AND r.enabled
			GROUP BY r.threshold, e.duty
		) t
		WHERE t.at > now);
END
$function$;
COMMENT ON FUNCTION tokenbill.next_alert_change() IS 'Internal: when alerts may be others by the passing of time alone; null: never';

/*
 * At most a thousand at a time: thousands of accounts may fall low together, and
 * no transaction of the worker's is to be long.  The rest is due at once.  Plans
 * are made anew, for the table may be empty at the first and not at the last.
 */
CREATE FUNCTION tokenbill.evaluate_alerts() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = 'force_custom_plan'
AS $function$
#variable_conflict use_column
DECLARE
	c record;
	now timestamptz := tokenbill.clock();
	found_id bigint;
	seen bigint := 0;
	changed bigint := 0;
	marks record := tokenbill.alert_marks();
BEGIN
	PERFORM tokenbill.check_no_tenant('session');
	/*
	 * One evaluation after the other: the second sees what the first has raised.
	 * The marks are from before: what is not seen here changes them again.
	 */
	INSERT INTO tokenbill.alert_evaluation AS e (evaluated_at, changes, moves) VALUES (now, marks.changes, marks.moves)
	ON CONFLICT (one) DO UPDATE SET evaluated_at = excluded.evaluated_at, changes = excluded.changes, moves = excluded.moves;

	FOR c IN
		SELECT coalesce(w.kind, a.kind) AS kind, coalesce(w.subject, a.subject) AS subject, coalesce(w.currency, a.currency) AS currency,
			w.kind IS NULL AS gone, w.raises AND a.told = 'cleared' AND a.quiet_until <= now AS outlasts,
			w.value, w.threshold, w.message, a.id, a.told, a.gone_since, r.clear_after, r.severity
		FROM tokenbill.alert_conditions() w
		FULL JOIN (SELECT x.* FROM tokenbill.alert x WHERE x.state = 'raised') a
			ON a.kind = w.kind AND a.subject = w.subject AND a.currency = w.currency
		JOIN tokenbill.alert_rules r ON r.kind = coalesce(w.kind, a.kind)
		WHERE w.raises AND a.id IS NULL
			OR w.raises AND a.told = 'cleared' AND a.quiet_until <= now
			OR w.kind IS NOT NULL AND a.gone_since IS NOT NULL
			OR w.kind IS NULL AND (a.gone_since IS NULL OR a.gone_since <= now - r.clear_after)
		ORDER BY 1, 2, 3 LIMIT 1000
	LOOP
		seen := seen + 1;
		IF c.gone AND coalesce(c.gone_since, now) > now - c.clear_after THEN
			UPDATE tokenbill.alert x SET gone_since = now WHERE x.id = c.id;
		ELSIF c.gone THEN
			UPDATE tokenbill.alert x SET state = 'cleared', cleared_at = now, changed_at = now, gone_since = NULL
			WHERE x.id = c.id AND x.state = 'raised';
			/* what was never told, or as cleared, is not told to be cleared */
			IF c.told = 'raised' THEN
				PERFORM tokenbill.tell_alert(c.id, 'cleared');
			END IF;
			changed := changed + 1;
		ELSIF c.id IS NOT NULL THEN
			UPDATE tokenbill.alert x SET gone_since = NULL WHERE x.id = c.id AND x.gone_since IS NOT NULL;
			IF c.outlasts THEN
				PERFORM tokenbill.tell_alert(c.id, 'raised');
			END IF;
		ELSE
			UPDATE tokenbill.alert x
			SET state = 'raised', cleared_at = NULL, changed_at = now, count = x.count + 1,
				value = c.value, threshold = c.threshold, message = c.message, severity = c.severity
			WHERE x.state = 'cleared' AND x.quiet_until > now AND x.id = (
				SELECT max(n.id) FROM tokenbill.alert n WHERE n.kind = c.kind AND n.subject = c.subject AND n.currency = c.currency);
			IF NOT FOUND THEN
				INSERT INTO tokenbill.alert AS x (kind, subject, currency, severity, value, threshold, message, raised_at, changed_at, quiet_until)
				VALUES (c.kind, c.subject, c.currency, c.severity, c.value, c.threshold, c.message, now, now, now)
				RETURNING x.id INTO found_id;
				PERFORM tokenbill.tell_alert(found_id, 'raised');
			END IF;
			changed := changed + 1;
		END IF;
	END LOOP;
	UPDATE tokenbill.alert_evaluation e
	SET evaluated_at = CASE WHEN seen = 1000 THEN now - interval '1 minute' ELSE now END,
		next_at = CASE WHEN seen = 1000 THEN now ELSE tokenbill.next_alert_change() END;
	RETURN changed;
END
$function$;
COMMENT ON FUNCTION tokenbill.evaluate_alerts() IS
'Looks what is wrong, raises and clears alerts, at most a thousand, and tells it; returns how many changed their state. The worker calls it. Errors: 42501 a tenant';

CREATE FUNCTION tokenbill.next_alert_look() RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	now timestamptz := tokenbill.clock();
BEGIN
	/* but for a clock that was set back */
	RETURN coalesce((SELECT CASE WHEN e.evaluated_at <= now THEN e.evaluated_at + interval '1 minute' END FROM tokenbill.alert_evaluation e), now);
END
$function$;
COMMENT ON FUNCTION tokenbill.next_alert_look() IS 'Internal: when alerts may be looked at again at the soonest: a minute after the last time';

/*
 * When alerts are to be looked at again: a minute after the last time if anything
 * has happened since that they could follow from, else when time alone makes them
 * others.  Where nobody counts what happens, each minute if there is anything that
 * could be wrong.
 */
CREATE FUNCTION tokenbill.next_alert_due() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	marks record := tokenbill.alert_marks();
	now timestamptz := tokenbill.clock();
	last tokenbill.alert_evaluation;
	soonest timestamptz := tokenbill.next_alert_look();
BEGIN
	SELECT e.* INTO last FROM tokenbill.alert_evaluation e;
	IF last.changes IS NOT NULL AND marks.changes IS NOT NULL THEN
		IF last.changes <> marks.changes OR last.evaluated_at > now
		   OR last.moves <> marks.moves AND EXISTS (SELECT FROM tokenbill.account_low_balance) THEN
			RETURN soonest;
		END IF;
		RETURN CASE WHEN last.next_at IS NOT NULL THEN greatest(last.next_at, soonest) END;
	END IF;
	IF EXISTS (SELECT FROM tokenbill.provider p WHERE p.enabled)
		OR EXISTS (SELECT FROM tokenbill.account_low_balance)
		OR EXISTS (SELECT FROM tokenbill.alert a WHERE a.state = 'raised')
		OR EXISTS (SELECT FROM tokenbill.breaker b WHERE b.state <> 'closed' OR b.slow_since IS NOT NULL)
		OR EXISTS (SELECT FROM tokenbill.worker_error e WHERE e.last_at >= coalesce(last.evaluated_at, '-infinity')) THEN
		RETURN soonest;
	END IF;
	RETURN (SELECT greatest(min(c.expires_at) - r.threshold, soonest)
		FROM tokenbill.credential_expiry c CROSS JOIN tokenbill.alert_rules r
		WHERE r.kind = 'credential_expiring' AND r.enabled
		GROUP BY r.threshold);
END
$function$;
COMMENT ON FUNCTION tokenbill.next_alert_due() IS 'Internal: when evaluate_alerts() is to be called next; null: nothing could be wrong';

/* A charge wakes nobody unless somebody's balance is watched. */
CREATE FUNCTION tokenbill.low_balances_due() RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN CASE WHEN EXISTS (SELECT FROM tokenbill.account_low_balance) THEN tokenbill.next_alert_look() END;
END
$function$;
COMMENT ON FUNCTION tokenbill.low_balances_due() IS 'Internal: when alerts are to be looked at if a customer''s balance moves; null: none is watched';

CREATE FUNCTION tokenbill.next_alert_expiry() RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN (SELECT min(o.cleared_at + r.keep)
		FROM tokenbill.alert_rules r
		CROSS JOIN LATERAL (
			SELECT a.cleared_at FROM tokenbill.alert a WHERE a.kind = r.kind AND a.state = 'cleared' ORDER BY a.cleared_at LIMIT 1) o);
END
$function$;
COMMENT ON FUNCTION tokenbill.next_alert_expiry() IS 'Internal: when expire_alerts() has something to do; null: there is no cleared alert';

CREATE FUNCTION tokenbill.expire_alerts(max integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	expired bigint[];
BEGIN
	PERFORM tokenbill.check_no_tenant('max');
	IF expire_alerts.max IS NULL OR expire_alerts.max < 1 THEN
		PERFORM tokenbill.refuse(CASE WHEN expire_alerts.max IS NULL THEN '22004' ELSE '22023' END, 'max must be one or more',
			'{"argument": "max"}', 'Say how many alerts to delete at most.');
	END IF;
	WITH old AS (
		SELECT a.id FROM tokenbill.alert a JOIN tokenbill.alert_rules r ON r.kind = a.kind
		WHERE a.state = 'cleared' AND a.cleared_at <= tokenbill.clock() - r.keep
		ORDER BY a.cleared_at LIMIT expire_alerts.max
	), gone AS (
		DELETE FROM tokenbill.alert a USING old o WHERE a.id = o.id RETURNING a.id
	)
	SELECT array_agg(g.id) INTO expired FROM gone g;
	DELETE FROM tokenbill.alert_delivery d WHERE d.alert = ANY (expired);
	RETURN coalesce(cardinality(expired), 0);
END
$function$;
COMMENT ON FUNCTION tokenbill.expire_alerts(integer) IS
'Deletes alerts that were cleared longer ago than their rule keeps them, and their deliveries, at most max; returns how many. Errors: 42501 a tenant, 22xxx';

CREATE VIEW tokenbill.alerts WITH (security_barrier) AS
SELECT a.id, a.kind, a.subject, NULLIF(a.currency, '') AS currency, a.state, a.severity, a.value, a.threshold, a.message, a.count,
	a.raised_at, a.cleared_at, a.notified_at, a.quiet_until
FROM tokenbill.alert a
WHERE CASE WHEN a.kind OPERATOR(pg_catalog.=) 'account_low' THEN tokenbill.visible(a.subject) ELSE tokenbill.visible('') END;
COMMENT ON VIEW tokenbill.alerts IS 'Alerts, raised and cleared, for as long as they are kept; to a tenant those of its own account';
COMMENT ON COLUMN tokenbill.alerts.id IS 'Its number';
COMMENT ON COLUMN tokenbill.alerts.kind IS 'What is wrong';
COMMENT ON COLUMN tokenbill.alerts.subject IS 'With what: name of a provider, an account, a credential ...';
COMMENT ON COLUMN tokenbill.alerts.currency IS 'Currency of value and threshold; null: they are no money';
COMMENT ON COLUMN tokenbill.alerts.state IS 'raised or cleared';
COMMENT ON COLUMN tokenbill.alerts.severity IS 'info, warning or critical';
COMMENT ON COLUMN tokenbill.alerts.value IS 'What was seen when it was raised last: money, seconds, milliseconds or a number';
COMMENT ON COLUMN tokenbill.alerts.threshold IS 'What it was compared with';
COMMENT ON COLUMN tokenbill.alerts.message IS 'The same in words';
COMMENT ON COLUMN tokenbill.alerts.count IS 'How often it was raised: more than once if the condition came back within the quiet period';
COMMENT ON COLUMN tokenbill.alerts.raised_at IS 'When it was raised first';
COMMENT ON COLUMN tokenbill.alerts.cleared_at IS 'When it was cleared; null: it is raised';
COMMENT ON COLUMN tokenbill.alerts.notified_at IS 'When something was told last, by NOTIFY and webhooks';
COMMENT ON COLUMN tokenbill.alerts.quiet_until IS 'Until when it is not told again that it is raised';

CREATE VIEW tokenbill.low_balances WITH (security_barrier) AS
SELECT l.account, a.currency, l.amount, a.balance, a.balance OPERATOR(pg_catalog.<=) l.amount AS low, l.updated_at
FROM tokenbill.account_low_balance l
JOIN tokenbill.account a ON a.account OPERATOR(pg_catalog.=) l.account
WHERE tokenbill.visible(l.account);
COMMENT ON VIEW tokenbill.low_balances IS 'Accounts whose balance is watched, and whether it is low';
COMMENT ON COLUMN tokenbill.low_balances.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.low_balances.currency IS 'Currency of the account, and so of all its amounts';
COMMENT ON COLUMN tokenbill.low_balances.amount IS 'A balance at or below it is low';
COMMENT ON COLUMN tokenbill.low_balances.balance IS 'Sum of its ledger lines';
COMMENT ON COLUMN tokenbill.low_balances.low IS 'Whether it is low now';
COMMENT ON COLUMN tokenbill.low_balances.updated_at IS 'When the amount was set';

CREATE VIEW tokenbill.credential_expiries WITH (security_barrier) AS
SELECT c.credential, c.expires_at, c.expires_at OPERATOR(pg_catalog.-) tokenbill.clock() AS expires_in, c.updated_at
FROM tokenbill.credential_expiry c
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.credential_expiries IS 'Keys, tokens and certificates that somebody has to renew, and until when; none for a tenant';
COMMENT ON COLUMN tokenbill.credential_expiries.credential IS 'Name of the secret, or any other name';
COMMENT ON COLUMN tokenbill.credential_expiries.expires_at IS 'When it expires';
COMMENT ON COLUMN tokenbill.credential_expiries.expires_in IS 'Time until then; negative: since then';
COMMENT ON COLUMN tokenbill.credential_expiries.updated_at IS 'When that was set';
