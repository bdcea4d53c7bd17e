/*
 * Circuit breakers: whether a provider or a gateway is to be asked at all.
 *
 *   closed -> open        too many failures in a row, or too many in the window
 *   open -> half_open     its time is over: one caller may try, the probe
 *   half_open -> closed   the probe was good
 *   half_open -> open     it was not
 *
 * A breaker that nobody has noted anything about has no row, and is closed.
 * The probe is claimed in the row, so only one transaction gets it; a probe
 * nobody hears of again is free for another after probe_for.
 */
CREATE FUNCTION tokenbill.only_moves() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	row_key jsonb;
BEGIN
	IF NOT (OLD.state || '>' || NEW.state) = ANY (TG_ARGV[1:]) THEN
		SELECT jsonb_object_agg(m.key, m.value) INTO row_key
		FROM jsonb_each(to_jsonb(OLD)) m WHERE m.key = ANY (string_to_array(TG_ARGV[0], ','));
		PERFORM tokenbill.refuse('PT409', format('a row of %s cannot go from %s to %s', TG_TABLE_NAME, OLD.state, NEW.state),
			row_key || jsonb_build_object('table', TG_TABLE_NAME, 'was', OLD.state, 'now', NEW.state),
			'Read the present state before asking for the next one.');
	END IF;
	RETURN NEW;
END
$function$;
COMMENT ON FUNCTION tokenbill.only_moves() IS
'Trigger: refuses a state that is not reached by one of the moves in its arguments (PT409); the first argument names the key''s columns';

CREATE TABLE tokenbill.breaker (
	kind text COLLATE "C" NOT NULL CHECK (kind IN ('provider', 'gateway')),
	name text COLLATE "C" NOT NULL,
	state text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'open', 'half_open')),
	failures integer NOT NULL DEFAULT 0,
	outcomes boolean[] NOT NULL DEFAULT '{}',
	durations integer[] NOT NULL DEFAULT '{}',
	p99_ms integer,
	slow_since timestamptz,
	opened_at timestamptz,
	times_opened bigint NOT NULL DEFAULT 0,
	retry_at timestamptz,
	changed_at timestamptz NOT NULL,
	max_failures integer NOT NULL DEFAULT 5,
	window_calls integer NOT NULL DEFAULT 20,
	min_calls integer NOT NULL DEFAULT 10,
	max_failing numeric NOT NULL DEFAULT 0.5,
	open_for interval NOT NULL DEFAULT '30 seconds',
	probe_for interval NOT NULL DEFAULT '1 minute',
	slow_ms integer NOT NULL DEFAULT 1200,
	slow_calls integer NOT NULL DEFAULT 100,
	PRIMARY KEY (kind, name),
	CHECK ((state = 'closed') = (retry_at IS NULL))
) WITH (fillfactor = 50);
COMMENT ON TABLE tokenbill.breaker IS 'Circuit breakers of providers and gateways: state, last calls, thresholds';
COMMENT ON COLUMN tokenbill.breaker.kind IS 'provider or gateway';
COMMENT ON COLUMN tokenbill.breaker.name IS 'Name of the provider or gateway';
COMMENT ON COLUMN tokenbill.breaker.state IS 'closed: it is asked; open: it is not; half_open: one probe is under way';
COMMENT ON COLUMN tokenbill.breaker.failures IS 'Failed calls in a row';
COMMENT ON COLUMN tokenbill.breaker.outcomes IS 'How the last window_calls calls since it closed went, oldest first; true: well';
COMMENT ON COLUMN tokenbill.breaker.durations IS 'How long the last slow_calls calls took, in milliseconds, oldest first';
COMMENT ON COLUMN tokenbill.breaker.p99_ms IS '99th percentile of the durations; null: fewer than min_calls';
COMMENT ON COLUMN tokenbill.breaker.slow_since IS 'Since when p99_ms is above slow_ms; null: it is not';
COMMENT ON COLUMN tokenbill.breaker.opened_at IS 'When it opened last';
COMMENT ON COLUMN tokenbill.breaker.times_opened IS 'How often it has opened';
COMMENT ON COLUMN tokenbill.breaker.retry_at IS 'open: when a probe may begin; half_open: when the probe counts as lost';
COMMENT ON COLUMN tokenbill.breaker.changed_at IS 'When the state last changed';
COMMENT ON COLUMN tokenbill.breaker.max_failures IS 'So many failures in a row open it';
COMMENT ON COLUMN tokenbill.breaker.window_calls IS 'How many calls the window has';
COMMENT ON COLUMN tokenbill.breaker.min_calls IS 'With fewer calls in the window nothing is said of shares and percentiles';
COMMENT ON COLUMN tokenbill.breaker.max_failing IS 'This share of the window''s calls failing opens it';
COMMENT ON COLUMN tokenbill.breaker.open_for IS 'How long it stays open before a probe';
COMMENT ON COLUMN tokenbill.breaker.probe_for IS 'How long a probe may take before another one may begin';
COMMENT ON COLUMN tokenbill.breaker.slow_ms IS 'A 99th percentile above it is slow, in milliseconds';
COMMENT ON COLUMN tokenbill.breaker.slow_calls IS 'Of how many calls the percentile is';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.breaker', '');

CREATE TRIGGER only_moves BEFORE UPDATE OF state ON tokenbill.breaker
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
EXECUTE FUNCTION tokenbill.only_moves('kind,name', 'closed>open', 'open>half_open', 'half_open>closed', 'half_open>open');

/* a provider that is dropped, and added again under the same name, begins anew */
CREATE FUNCTION tokenbill.forget_breaker() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	DELETE FROM tokenbill.breaker b WHERE b.kind = TG_ARGV[0] AND b.name = to_jsonb(OLD) ->> TG_ARGV[0];
	RETURN NULL;
END
$function$;
COMMENT ON FUNCTION tokenbill.forget_breaker() IS 'Trigger: deletes the breaker of what was deleted; the argument is its kind, and the column with its name';
CREATE TRIGGER forget_breaker AFTER DELETE ON tokenbill.provider
FOR EACH ROW EXECUTE FUNCTION tokenbill.forget_breaker('provider');

/*
 * Race: two callers find it open and its time over.  The second waits for the
 * first's row and then finds a probe that has begun.
 */
CREATE FUNCTION tokenbill.breaker_allows(kind text, name text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
BEGIN
	PERFORM FROM tokenbill.breaker b
	WHERE b.kind = breaker_allows.kind AND b.name = breaker_allows.name AND b.state <> 'closed';
	IF NOT FOUND THEN
		RETURN true;
	END IF;
	UPDATE tokenbill.breaker b
	SET state = 'half_open', retry_at = now + b.probe_for, changed_at = CASE WHEN b.state = 'open' THEN now ELSE b.changed_at END
	WHERE b.kind = breaker_allows.kind AND b.name = breaker_allows.name AND b.state IN ('open', 'half_open') AND b.retry_at <= now;
	RETURN FOUND;
END
$function$;
COMMENT ON FUNCTION tokenbill.breaker_allows(text, text) IS
'Internal: whether the provider or gateway may be asked now; if it was open for long enough, the caller has the one probe';

CREATE FUNCTION tokenbill.breaker_retry_at(kind text, name text) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
	RETURN (SELECT b.retry_at FROM tokenbill.breaker b WHERE b.kind = breaker_retry_at.kind AND b.name = breaker_retry_at.name);
END
$function$;
COMMENT ON FUNCTION tokenbill.breaker_retry_at(text, text) IS 'Internal: until when breaker_allows() says no; null: it says yes';

CREATE FUNCTION tokenbill.breaker_note(kind text, name text, good boolean, duration_ms integer) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	b tokenbill.breaker;
	now timestamptz := tokenbill.clock();
	was text;
	was_fast boolean;
BEGIN
	INSERT INTO tokenbill.breaker AS n (kind, name, changed_at) VALUES (breaker_note.kind, breaker_note.name, now)
	ON CONFLICT (kind, name) DO NOTHING;
	SELECT x.* INTO b FROM tokenbill.breaker x
	WHERE x.kind = breaker_note.kind AND x.name = breaker_note.name FOR NO KEY UPDATE;
	was := b.state;
	was_fast := b.slow_since IS NULL;

	IF breaker_note.good IS NULL THEN
		/* nothing was learned: if it was the probe, another may begin */
		IF b.state = 'half_open' THEN
			b.retry_at := now;
		END IF;
	ELSIF b.state = 'closed' THEN
		b.failures := CASE WHEN breaker_note.good THEN 0 ELSE b.failures + 1 END;
		b.outcomes := b.outcomes || breaker_note.good;
		b.outcomes := b.outcomes[greatest(cardinality(b.outcomes) - b.window_calls + 1, 1):];
		IF b.failures >= b.max_failures OR (cardinality(b.outcomes) >= b.min_calls
			AND cardinality(array_remove(b.outcomes, true)) >= cardinality(b.outcomes) * b.max_failing) THEN
			b.state := 'open';
		END IF;
	ELSIF b.state = 'half_open' THEN
		b.state := CASE WHEN breaker_note.good THEN 'closed' ELSE 'open' END;
		b.failures := CASE WHEN breaker_note.good THEN 0 ELSE b.failures + 1 END;
		b.outcomes := '{}';
	END IF;
	/* while it is open, only what was under way before comes in: that changes nothing */

	IF b.state <> was THEN
		b.changed_at := now;
		b.retry_at := NULL;
		IF b.state = 'open' THEN
			b.opened_at := now;
			b.times_opened := b.times_opened + 1;
			b.retry_at := now + b.open_for;
		END IF;
	END IF;

	IF breaker_note.duration_ms IS NOT NULL THEN
		b.durations := b.durations || breaker_note.duration_ms;
		b.durations := b.durations[greatest(cardinality(b.durations) - b.slow_calls + 1, 1):];
		b.p99_ms := CASE WHEN cardinality(b.durations) >= least(b.min_calls, b.slow_calls)
			THEN (SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY d.ms) FROM unnest(b.durations) d(ms)) END;
		b.slow_since := CASE WHEN b.p99_ms > b.slow_ms THEN coalesce(b.slow_since, now) END;
	END IF;

	/* alerts follow from these two */
	IF b.state <> was OR (b.slow_since IS NULL) <> was_fast THEN
		PERFORM tokenbill.wake_worker();
	END IF;
	UPDATE tokenbill.breaker x
	SET state = b.state, failures = b.failures, outcomes = b.outcomes, durations = b.durations, p99_ms = b.p99_ms,
		slow_since = b.slow_since, opened_at = b.opened_at, times_opened = b.times_opened, retry_at = b.retry_at, changed_at = b.changed_at
	WHERE x.kind = b.kind AND x.name = b.name;
END
$function$;
COMMENT ON FUNCTION tokenbill.breaker_note(text, text, boolean, integer) IS
'Internal: takes down how a call went and how long it took, and opens or closes the breaker; good null: nothing was learned of the provider or gateway';

CREATE FUNCTION tokenbill.set_breaker(kind text, name text, max_failures integer DEFAULT NULL, max_failing numeric DEFAULT NULL,
	window_calls integer DEFAULT NULL, min_calls integer DEFAULT NULL, open_for interval DEFAULT NULL, probe_for interval DEFAULT NULL,
	slow_ms integer DEFAULT NULL, slow_calls integer DEFAULT NULL)
RETURNS tokenbill.breaker
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	changed tokenbill.breaker;
	bound record;
BEGIN
	PERFORM tokenbill.check_text('kind', set_breaker.kind, 16);
	IF set_breaker.kind NOT IN ('provider', 'gateway') THEN
		PERFORM tokenbill.refuse('22023', 'kind must be provider or gateway', '{"argument": "kind", "allowed": ["provider", "gateway"]}',
			'Say of what it is the breaker.');
	END IF;
	PERFORM tokenbill.check_text('name', set_breaker.name, 128);
	IF NOT tokenbill.visible('') THEN
		PERFORM tokenbill.refuse('42501', 'a tenant has nothing to do with breakers', '{"argument": "name"}',
			'Use a login that is not mapped to an account.');
	END IF;
	FOR bound IN
		SELECT * FROM (VALUES ('max_failures', set_breaker.max_failures, 1000), ('window_calls', set_breaker.window_calls, 1000),
			('min_calls', set_breaker.min_calls, 1000), ('slow_ms', set_breaker.slow_ms, 3600000),
			('slow_calls', set_breaker.slow_calls, 1000)) v(argument, value, largest)
		WHERE v.value NOT BETWEEN 1 AND v.largest
	LOOP
		PERFORM tokenbill.refuse('22023', format('%s must be between 1 and %s', bound.argument, bound.largest),
			jsonb_build_object('argument', bound.argument), 'Pass a number in these bounds, or null to leave it as it is.');
	END LOOP;
	IF NOT (set_breaker.max_failing > 0 AND set_breaker.max_failing <= 1) THEN
		PERFORM tokenbill.refuse('22023', 'max_failing must be above 0 and at most 1', '{"argument": "max_failing"}',
			'Pass the share of the window''s calls: 0.5 is half of them.');
	END IF;
	IF set_breaker.open_for IS NOT NULL THEN
		PERFORM tokenbill.check_span('open_for', set_breaker.open_for, '1 second', '1 day');
	END IF;
	IF set_breaker.probe_for IS NOT NULL THEN
		PERFORM tokenbill.check_span('probe_for', set_breaker.probe_for, '1 second', '1 day');
	END IF;
	IF set_breaker.kind = 'provider' THEN
		PERFORM FROM tokenbill.provider p WHERE p.provider = set_breaker.name FOR KEY SHARE;
		IF NOT FOUND THEN
			PERFORM tokenbill.refuse_provider(set_breaker.name);
		END IF;
	END IF;
	INSERT INTO tokenbill.breaker AS b (kind, name, changed_at) VALUES (set_breaker.kind, set_breaker.name, tokenbill.clock())
	ON CONFLICT (kind, name) DO NOTHING;
	UPDATE tokenbill.breaker b
	SET max_failures = coalesce(set_breaker.max_failures, b.max_failures), max_failing = coalesce(set_breaker.max_failing, b.max_failing),
		window_calls = coalesce(set_breaker.window_calls, b.window_calls), min_calls = coalesce(set_breaker.min_calls, b.min_calls),
		open_for = coalesce(set_breaker.open_for, b.open_for), probe_for = coalesce(set_breaker.probe_for, b.probe_for),
		slow_ms = coalesce(set_breaker.slow_ms, b.slow_ms), slow_calls = coalesce(set_breaker.slow_calls, b.slow_calls),
		retry_at = CASE WHEN b.state = 'open' THEN b.opened_at + coalesce(set_breaker.open_for, b.open_for) ELSE b.retry_at END
	WHERE b.kind = set_breaker.kind AND b.name = set_breaker.name
	RETURNING b.* INTO changed;
	IF changed.min_calls > changed.window_calls THEN
		PERFORM tokenbill.refuse('22023', 'min_calls must not be above window_calls',
			jsonb_build_object('argument', 'min_calls', 'min_calls', changed.min_calls, 'window_calls', changed.window_calls),
			'The window never has more calls than window_calls.');
	END IF;
	PERFORM tokenbill.wake_worker();
	RETURN changed;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_breaker(text, text, integer, numeric, integer, integer, interval, interval, integer, integer) IS
'Sets when the circuit breaker of a provider or gateway opens, for how long, and what is slow; null leaves a threshold as it is. Returns the row. Errors: PT404 provider, 22xxx';

CREATE VIEW tokenbill.breakers WITH (security_barrier) AS
SELECT b.kind, b.name, b.state, b.failures, pg_catalog.cardinality(b.outcomes) AS calls,
	pg_catalog.cardinality(pg_catalog.array_remove(b.outcomes, true)) AS failing,
	b.p99_ms, b.slow_since, b.opened_at, b.times_opened, b.retry_at, b.changed_at,
	b.max_failures, b.max_failing, b.window_calls, b.min_calls, b.open_for, b.probe_for, b.slow_ms, b.slow_calls
FROM tokenbill.breaker b
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.breakers IS 'Circuit breakers of providers and gateways that have been asked, or have thresholds of their own; none for a tenant';
COMMENT ON COLUMN tokenbill.breakers.kind IS 'provider or gateway';
COMMENT ON COLUMN tokenbill.breakers.name IS 'Name of the provider or gateway';
COMMENT ON COLUMN tokenbill.breakers.state IS 'closed: it is asked; open: it is not; half_open: one probe is under way';
COMMENT ON COLUMN tokenbill.breakers.failures IS 'Failed calls in a row';
COMMENT ON COLUMN tokenbill.breakers.calls IS 'Calls in the window, at most window_calls, all since it last closed';
COMMENT ON COLUMN tokenbill.breakers.failing IS 'How many of them failed';
COMMENT ON COLUMN tokenbill.breakers.p99_ms IS '99th percentile of the last durations, in milliseconds; null: fewer than min_calls';
COMMENT ON COLUMN tokenbill.breakers.slow_since IS 'Since when p99_ms is above slow_ms; null: it is not';
COMMENT ON COLUMN tokenbill.breakers.opened_at IS 'When it opened last';
COMMENT ON COLUMN tokenbill.breakers.times_opened IS 'How often it has opened';
COMMENT ON COLUMN tokenbill.breakers.retry_at IS 'open: when a probe may begin; half_open: when the probe counts as lost';
COMMENT ON COLUMN tokenbill.breakers.changed_at IS 'When the state last changed';
COMMENT ON COLUMN tokenbill.breakers.max_failures IS 'So many failures in a row open it';
COMMENT ON COLUMN tokenbill.breakers.max_failing IS 'This share of the window''s calls failing opens it';
COMMENT ON COLUMN tokenbill.breakers.window_calls IS 'How many calls the window has';
COMMENT ON COLUMN tokenbill.breakers.min_calls IS 'With fewer calls nothing is said of shares and percentiles';
COMMENT ON COLUMN tokenbill.breakers.open_for IS 'How long it stays open before a probe';
COMMENT ON COLUMN tokenbill.breakers.probe_for IS 'How long a probe may take before another one may begin';
COMMENT ON COLUMN tokenbill.breakers.slow_ms IS 'A 99th percentile above it is slow, in milliseconds';
COMMENT ON COLUMN tokenbill.breakers.slow_calls IS 'Of how many calls the percentile is';
