/*
 * Limits: how much an account may spend, how often it may call, and how many
 * calls it may have open at once.
 *
 * A limit and its counter are a member of account.limits (30_account.sql), which a
 * movement rewrites with the rest of the row: so a counter is never behind, and an
 * account without limits pays nothing for there being any.
 *
 *   counted   what the ledger says of the present window:
 *               calendar   the lines of [starts_at, ends_at)
 *               rolling    the lines after tail_seq; those before have left it
 *   held      what open holds reserve of it, whichever window they were made in
 *
 * tokenbill.limit_lines() is what a line counts; setting a limit sums it up,
 * a rolling window takes back with it what leaves, and verify_ledger() proves
 * the counters by it.
 */
CREATE FUNCTION tokenbill.limit_window(every text, timezone text, at timestamptz, OUT starts_at timestamptz, OUT ends_at timestamptz)
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_limit_window';
COMMENT ON FUNCTION tokenbill.limit_window(text, text, timestamptz) IS
'Internal: the minute, hour, day, week or month in a time zone that a time lies in';

CREATE FUNCTION tokenbill.line_tokens(usage jsonb, rates jsonb) RETURNS numeric
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokenbill_line_tokens';
COMMENT ON FUNCTION tokenbill.line_tokens(jsonb, jsonb) IS
'Internal: how many tokens a ledger line was priced for: its meters whose names end in "tokens", together';

/*
 * What each line of an account counts for a limit.  A refund is not counted: it
 * lowers what its charge counts.  A capture belongs to the tags of its own
 * metadata, or, without any, to its hold's.
 *
 * It is inlined where it is used, so that only the lines asked for are read; what
 * is beside a line is looked up one by one, whatever the planner knows of it.
 */
CREATE FUNCTION tokenbill.limit_lines(account text, what text, service text, tag jsonb)
RETURNS TABLE (seq bigint, created_at timestamptz, counted numeric)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT l.seq, l.created_at,
		CASE
		WHEN limit_lines.service IS NOT NULL AND NOT coalesce(CASE WHEN pg_catalog.right(limit_lines.service, 1) OPERATOR(pg_catalog.=) '*'
			THEN pg_catalog.starts_with(l.service, pg_catalog.left(limit_lines.service, -1))
			ELSE l.service OPERATOR(pg_catalog.=) limit_lines.service END, false) THEN 0
		WHEN limit_lines.tag IS NOT NULL AND NOT coalesce(coalesce(l.metadata,
			CASE WHEN l.kind OPERATOR(pg_catalog.=) 'capture' OR l.kind OPERATOR(pg_catalog.=) 'expiry' THEN
				(SELECT h.metadata FROM tokenbill.hold h
				WHERE h.account OPERATOR(pg_catalog.=) l.account AND h.hold_key OPERATOR(pg_catalog.=) l.ref) END)
			OPERATOR(pg_catalog.@>) limit_lines.tag, false) THEN 0
		WHEN limit_lines.what OPERATOR(pg_catalog.=) 'spend' THEN
			CASE WHEN l.kind OPERATOR(pg_catalog.=) 'charge' OR l.kind OPERATOR(pg_catalog.=) 'capture'
				OR l.kind OPERATOR(pg_catalog.=) 'expiry' AND (l.contra OPERATOR(pg_catalog.=) 'revenue' OR l.contra OPERATOR(pg_catalog.=) 'sandbox')
			THEN pg_catalog.numeric_larger(CASE WHEN l.contra OPERATOR(pg_catalog.=) 'sandbox'
				THEN coalesce((l.request OPERATOR(pg_catalog.->>) 'price')::pg_catalog.numeric, 0)
				ELSE pg_catalog.numeric_uminus(l.amount) END
				OPERATOR(pg_catalog.-) coalesce((SELECT r.refunded FROM tokenbill.charge_refund r
				WHERE r.account OPERATOR(pg_catalog.=) l.account AND r.charge_seq OPERATOR(pg_catalog.=) l.seq), 0), 0)
			ELSE 0 END
		WHEN limit_lines.what OPERATOR(pg_catalog.=) 'requests' THEN
			CASE WHEN l.kind OPERATOR(pg_catalog.=) 'charge' OR l.kind OPERATOR(pg_catalog.=) 'hold' THEN 1 ELSE 0 END
		WHEN limit_lines.what OPERATOR(pg_catalog.=) 'tokens' THEN
			CASE WHEN l.kind OPERATOR(pg_catalog.=) 'charge' OR l.kind OPERATOR(pg_catalog.=) 'capture'
			THEN tokenbill.line_tokens(l.usage, l.rates) ELSE 0 END
		ELSE 0 END
	FROM tokenbill.ledger l
	WHERE l.account OPERATOR(pg_catalog.=) limit_lines.account;
END;
COMMENT ON FUNCTION tokenbill.limit_lines(text, text, text, jsonb) IS
'Internal: what each ledger line of an account counts for a limit';

CREATE FUNCTION tokenbill.limit_held(account text, what text, service text, tag jsonb) RETURNS numeric
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT coalesce(pg_catalog.sum(
		CASE limit_held.what
		WHEN 'spend' THEN pg_catalog.numeric_larger(h.amount OPERATOR(pg_catalog.-) h.captured, 0)
		WHEN 'tokens' THEN h.tokens
		WHEN 'in_flight' THEN 1
		ELSE 0 END), 0)
	FROM tokenbill.hold h
	WHERE h.account OPERATOR(pg_catalog.=) limit_held.account AND h.status OPERATOR(pg_catalog.=) 'held'
	AND (limit_held.service IS NULL OR CASE WHEN pg_catalog.right(limit_held.service, 1) OPERATOR(pg_catalog.=) '*'
		THEN pg_catalog.starts_with(h.service, pg_catalog.left(limit_held.service, -1))
		ELSE h.service OPERATOR(pg_catalog.=) limit_held.service END)
	AND (limit_held.tag IS NULL OR h.metadata OPERATOR(pg_catalog.@>) limit_held.tag);
END;
COMMENT ON FUNCTION tokenbill.limit_held(text, text, text, jsonb) IS
'Internal: what the open holds of an account reserve of a limit';

/* Both kinds of limit are set here, and counted from the ledger as if they had always been there. */
CREATE FUNCTION tokenbill.set_limit(account text, what text, amount numeric, every text, service text, tag jsonb, timezone text, action text, name text)
RETURNS tokenbill.account_limit
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
#variable_conflict use_column
DECLARE
	of_account tokenbill.account;
	others tokenbill.account_limit[];
	made tokenbill.account_limit;
	length interval;
	now timestamptz;
BEGIN
	PERFORM tokenbill.check_text('account', set_limit.account, 128);
	IF set_limit.amount IS NULL OR set_limit.amount <> 0 THEN
		PERFORM tokenbill.check_amount('amount', set_limit.amount);
	END IF;
	IF set_limit.what = 'in_flight' THEN
		IF set_limit.every IS NOT NULL THEN
			PERFORM tokenbill.refuse('22023', 'every must be null for in_flight', '{"argument": "every"}',
				'Calls in flight are counted while they last, not in a window.');
		END IF;
	ELSE
		PERFORM tokenbill.check_text('every', set_limit.every, 64);
		IF set_limit.every NOT IN ('minute', 'hour', 'day', 'week', 'month') THEN
			BEGIN
				length := set_limit.every::interval;
			EXCEPTION WHEN data_exception THEN
				length := NULL;
			END;
			IF length IS NULL OR extract(year FROM length) <> 0 OR extract(month FROM length) <> 0
				OR length < interval '1 second' OR length > interval '366 days' THEN
				PERFORM tokenbill.refuse('22023', 'every must be minute, hour, day, week or month, or an interval of a second to 366 days',
					'{"argument": "every", "allowed": ["minute", "hour", "day", "week", "month", "an interval"]}',
					'An interval such as ''5 hours'' or ''30 days'' is a rolling window; months have no length, so use days.');
			END IF;
		END IF;
	END IF;
	IF set_limit.service IS NOT NULL THEN
		PERFORM tokenbill.check_text('service', set_limit.service, 255);
	END IF;
	IF set_limit.tag IS NOT NULL THEN
		PERFORM tokenbill.check_metadata('tag', set_limit.tag);
		IF set_limit.tag = '{}' OR octet_length(set_limit.tag::text) > 1024 THEN
			PERFORM tokenbill.refuse('22023', 'tag must have a member, and at most 1024 bytes', '{"argument": "tag"}',
				'Pass the members of metadata that are to be there, such as {"team": "red"}.');
		END IF;
	END IF;
	PERFORM tokenbill.check_text('timezone', set_limit.timezone, 64);
	/* abbreviations and POSIX rules do not know what a place does with its clocks */
	BEGIN
		PERFORM timezone(set_limit.timezone, timestamptz '2026-01-01 00:00+00');
		IF set_limit.timezone !~ '^(UTC|[A-Z][A-Za-z_]+(/[A-Za-z0-9_+-]+)+)$' THEN
			RAISE invalid_parameter_value;
		END IF;
	EXCEPTION WHEN data_exception THEN
		PERFORM tokenbill.refuse('22023', 'timezone is not known', '{"argument": "timezone"}',
			'Pass UTC, or a name such as Europe/Berlin; pg_timezone_names has them.');
	END;
	IF set_limit.action IS NULL OR set_limit.action NOT IN ('refuse', 'alert') THEN
		PERFORM tokenbill.refuse(CASE WHEN set_limit.action IS NULL THEN '22004' ELSE '22023' END, 'action must be refuse or alert',
			'{"argument": "action", "allowed": ["refuse", "alert"]}', 'refuse: what would go over is refused (PT429); alert: NOTIFY tokenbill_alert.');
	END IF;
	set_limit.name := coalesce(set_limit.name, concat_ws(':', CASE set_limit.action WHEN 'alert' THEN 'alert' END, set_limit.what,
		set_limit.every, set_limit.service, set_limit.tag::text));
	PERFORM tokenbill.check_text('name', set_limit.name, 255);

	SELECT a.* INTO of_account FROM tokenbill.account a
	WHERE a.account = set_limit.account AND tokenbill.visible(a.account) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_account(set_limit.account);
	END IF;
	others := ARRAY(SELECT l FROM unnest(of_account.limits) l WHERE l.name <> set_limit.name);
	IF cardinality(others) >= 64 THEN
		PERFORM tokenbill.refuse('PT409', format('account "%s" has 64 limits already', set_limit.account),
			jsonb_build_object('account', set_limit.account, 'limits', cardinality(others)), 'Drop one with tokenbill.drop_limit() first.');
	END IF;

	now := greatest(tokenbill.clock(), of_account.updated_at);
	made.account := set_limit.account;
	made.name := set_limit.name;
	made.what := set_limit.what;
	made.amount := set_limit.amount;
	made.every := set_limit.every;
	made.period := length;
	made.timezone := set_limit.timezone;
	made.service := set_limit.service;
	made.tag := set_limit.tag;
	made.action := set_limit.action;
	made.created_at := tokenbill.clock();
	made.counted := 0;
	made.held := tokenbill.limit_held(made.account, made.what, made.service, made.tag);
	IF length IS NOT NULL THEN
		SELECT coalesce(min(x.seq) - 1, of_account.seq), min(x.created_at), coalesce(sum(x.counted), 0)
		INTO made.tail_seq, made.next_at, made.counted
		FROM tokenbill.limit_lines(made.account, made.what, made.service, made.tag) x
		WHERE x.created_at > now - length;
	ELSIF made.every IS NOT NULL THEN
		SELECT w.starts_at, w.ends_at INTO made.starts_at, made.ends_at FROM tokenbill.limit_window(made.every, made.timezone, now) w;
		SELECT coalesce(sum(x.counted), 0) INTO made.counted
		FROM tokenbill.limit_lines(made.account, made.what, made.service, made.tag) x
		WHERE x.created_at >= made.starts_at AND x.created_at < made.ends_at;
	END IF;
	UPDATE tokenbill.account a SET limits = ARRAY(SELECT l FROM unnest(others || made) l ORDER BY l.name)
	WHERE a.account = made.account;
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_limit(text, text, numeric, text, text, jsonb, text, text, text) IS
'Internal: what set_spend_limit() and set_rate_limit() do';

CREATE FUNCTION tokenbill.set_spend_limit(account text, amount numeric, every text, service text DEFAULT NULL, tag jsonb DEFAULT NULL,
	timezone text DEFAULT 'UTC', action text DEFAULT 'refuse', name text DEFAULT NULL)
RETURNS tokenbill.account_limit
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN tokenbill.set_limit(account, 'spend', amount, every, service, tag, timezone, action, name);
END
$function$;
COMMENT ON FUNCTION tokenbill.set_spend_limit(text, numeric, text, text, jsonb, text, text, text) IS
'Limits what an account spends in a calendar window (minute, hour, day, week, month in timezone) or a rolling one (an interval), of all services or one, with a tag or any; action refuse (PT429) or alert. Replaces the limit of that name and returns the row. Errors: PT404, PT409 64 limits, 22xxx';

CREATE FUNCTION tokenbill.set_rate_limit(account text, what text, amount numeric, every text DEFAULT NULL, service text DEFAULT NULL,
	tag jsonb DEFAULT NULL, timezone text DEFAULT 'UTC', action text DEFAULT 'refuse', name text DEFAULT NULL)
RETURNS tokenbill.account_limit
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.check_text('what', what, 16);
	IF what NOT IN ('requests', 'tokens', 'in_flight') THEN
		PERFORM tokenbill.refuse('22023', 'what must be requests, tokens or in_flight',
			'{"argument": "what", "allowed": ["requests", "tokens", "in_flight"]}', 'Money is limited by tokenbill.set_spend_limit().');
	END IF;
	RETURN tokenbill.set_limit(account, what, amount, every, service, tag, timezone, action, name);
END
$function$;
COMMENT ON FUNCTION tokenbill.set_rate_limit(text, text, numeric, text, text, jsonb, text, text, text) IS
'Limits the requests or tokens of an account in a window, or its calls in flight (open holds; every null). Otherwise as set_spend_limit(). Errors: PT404, PT409 64 limits, 22xxx';

CREATE FUNCTION tokenbill.drop_limit(account text, name text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	limits tokenbill.account_limit[];
	others tokenbill.account_limit[];
	dropped boolean;
BEGIN
	PERFORM tokenbill.check_text('account', drop_limit.account, 128);
	PERFORM tokenbill.check_text('name', drop_limit.name, 255);
	SELECT a.limits INTO limits FROM tokenbill.account a
	WHERE a.account = drop_limit.account AND tokenbill.visible(a.account) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_account(drop_limit.account);
	END IF;
	others := ARRAY(SELECT l FROM unnest(limits) l WHERE l.name <> drop_limit.name);
	dropped := cardinality(others) < cardinality(limits);
	IF dropped THEN
		UPDATE tokenbill.account a SET limits = nullif(others, '{}') WHERE a.account = drop_limit.account;
	END IF;
	RETURN coalesce(dropped, false);
END
$function$;
COMMENT ON FUNCTION tokenbill.drop_limit(text, text) IS
'Drops a spend or rate limit by its name and returns whether there was one. Errors: PT404 account, 22xxx';

CREATE FUNCTION tokenbill.limit_state(account text, name text, OUT used numeric, OUT starts_at timestamptz, OUT resets_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
#variable_conflict use_column
DECLARE
	l tokenbill.account_limit;
	now timestamptz;
	gone numeric;
BEGIN
	SELECT x.* INTO l FROM tokenbill.account a, unnest(a.limits) x
	WHERE a.account = limit_state.account AND x.name = limit_state.name AND tokenbill.visible(a.account);
	IF NOT FOUND THEN
		RETURN;
	END IF;
	SELECT greatest(tokenbill.clock(), a.updated_at) INTO now FROM tokenbill.account a WHERE a.account = limit_state.account;
	IF l.period IS NOT NULL THEN
		starts_at := now - l.period;
		SELECT coalesce(sum(x.counted) FILTER (WHERE x.created_at <= starts_at), 0),
			min(x.created_at) FILTER (WHERE x.created_at > starts_at AND x.counted <> 0) + l.period
		INTO gone, resets_at
		FROM tokenbill.limit_lines(l.account, l.what, l.service, l.tag) x
		WHERE x.seq > l.tail_seq AND x.created_at >= l.next_at;
		used := l.counted - gone;
	ELSIF l.every IS NOT NULL THEN
		SELECT w.starts_at, w.ends_at INTO limit_state.starts_at, limit_state.resets_at
		FROM tokenbill.limit_window(l.every, l.timezone, now) w;
		used := CASE WHEN now < l.ends_at THEN l.counted ELSE 0 END;
	ELSE
		used := l.counted;
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.limit_state(text, text) IS
'Internal: what is used of a limit in its present window, when that began, and when it ends or, rolling, when something of it comes free';

CREATE VIEW tokenbill.spend_limits WITH (security_barrier) AS
SELECT a.account, l.name, l.amount, s.used AS spent, l.held,
	pg_catalog.numeric_larger((l.amount OPERATOR(pg_catalog.-) s.used) OPERATOR(pg_catalog.-) l.held, 0) AS remaining,
	a.currency, l.every, l.timezone, l.service, l.tag, l.action, s.starts_at, s.resets_at, l.alerted_at, l.created_at
FROM tokenbill.account a
CROSS JOIN LATERAL pg_catalog.unnest(a.limits) l
CROSS JOIN LATERAL tokenbill.limit_state(a.account, l.name) s
WHERE l.what OPERATOR(pg_catalog.=) 'spend' AND tokenbill.visible(a.account);
COMMENT ON VIEW tokenbill.spend_limits IS 'Spend limits, and how much of them is used now';
COMMENT ON COLUMN tokenbill.spend_limits.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.spend_limits.name IS 'Name of the limit within its account';
COMMENT ON COLUMN tokenbill.spend_limits.amount IS 'How much may be spent in a window';
COMMENT ON COLUMN tokenbill.spend_limits.spent IS 'What was spent in the present window, refunds taken off';
COMMENT ON COLUMN tokenbill.spend_limits.held IS 'What open holds reserve of it';
COMMENT ON COLUMN tokenbill.spend_limits.remaining IS 'amount - spent - held, not below 0';
COMMENT ON COLUMN tokenbill.spend_limits.currency IS 'Currency of the account, and so of all its amounts';
COMMENT ON COLUMN tokenbill.spend_limits.every IS 'The window: minute, hour, day, week, month, or the length of a rolling one';
COMMENT ON COLUMN tokenbill.spend_limits.timezone IS 'Time zone that calendar windows begin in';
COMMENT ON COLUMN tokenbill.spend_limits.service IS 'Only this service, or, with * at its end, those that begin so; null: all';
COMMENT ON COLUMN tokenbill.spend_limits.tag IS 'Only what has these members in its metadata; null: all';
COMMENT ON COLUMN tokenbill.spend_limits.action IS 'refuse or alert';
COMMENT ON COLUMN tokenbill.spend_limits.starts_at IS 'When the present window began; a rolling one includes what came later than this';
COMMENT ON COLUMN tokenbill.spend_limits.resets_at IS 'When the window ends; rolling: when its oldest charge leaves it, null if there is none';
COMMENT ON COLUMN tokenbill.spend_limits.alerted_at IS 'When it alerted last';
COMMENT ON COLUMN tokenbill.spend_limits.created_at IS 'When it was set';

CREATE VIEW tokenbill.rate_limits WITH (security_barrier) AS
SELECT a.account, l.name, l.what, l.amount, s.used, l.held,
	pg_catalog.numeric_larger((l.amount OPERATOR(pg_catalog.-) s.used) OPERATOR(pg_catalog.-) l.held, 0) AS remaining,
	l.every, l.timezone, l.service, l.tag, l.action, s.starts_at, s.resets_at, l.alerted_at, l.created_at
FROM tokenbill.account a
CROSS JOIN LATERAL pg_catalog.unnest(a.limits) l
CROSS JOIN LATERAL tokenbill.limit_state(a.account, l.name) s
WHERE l.what OPERATOR(pg_catalog.<>) 'spend' AND tokenbill.visible(a.account);
COMMENT ON VIEW tokenbill.rate_limits IS 'Limits of requests, tokens and calls in flight, and how much of them is used now';
COMMENT ON COLUMN tokenbill.rate_limits.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.rate_limits.name IS 'Name of the limit within its account';
COMMENT ON COLUMN tokenbill.rate_limits.what IS 'requests, tokens or in_flight';
COMMENT ON COLUMN tokenbill.rate_limits.amount IS 'How many there may be in a window, or at once';
COMMENT ON COLUMN tokenbill.rate_limits.used IS 'How many there were in the present window; of in_flight, 0';
COMMENT ON COLUMN tokenbill.rate_limits.held IS 'How many tokens open holds reserve; of in_flight, how many open holds there are';
COMMENT ON COLUMN tokenbill.rate_limits.remaining IS 'amount - used - held, not below 0';
COMMENT ON COLUMN tokenbill.rate_limits.every IS 'The window: minute, hour, day, week, month, or the length of a rolling one; null for in_flight';
COMMENT ON COLUMN tokenbill.rate_limits.timezone IS 'Time zone that calendar windows begin in';
COMMENT ON COLUMN tokenbill.rate_limits.service IS 'Only this service, or, with * at its end, those that begin so; null: all';
COMMENT ON COLUMN tokenbill.rate_limits.tag IS 'Only what has these members in its metadata; null: all';
COMMENT ON COLUMN tokenbill.rate_limits.action IS 'refuse or alert';
COMMENT ON COLUMN tokenbill.rate_limits.starts_at IS 'When the present window began; a rolling one includes what came later than this';
COMMENT ON COLUMN tokenbill.rate_limits.resets_at IS 'When the window ends; rolling: when its oldest request leaves it, null if there is none';
COMMENT ON COLUMN tokenbill.rate_limits.alerted_at IS 'When it alerted last';
COMMENT ON COLUMN tokenbill.rate_limits.created_at IS 'When it was set';
