/*
 * The worker's side of the database: what went wrong, and how it is woken.
 *
 * What the same duty says of the same target again and again is one row with a
 * count.  Messages that differ each time are bounded, too: only the newest fifty
 * of a target are kept.
 */
CREATE TABLE tokenbill.worker_error (
	duty text COLLATE "C" NOT NULL,
	target text COLLATE "C" NOT NULL,
	sqlstate text COLLATE "C" NOT NULL,
	message text COLLATE "C" NOT NULL,
	detail text,
	hint text,
	first_at timestamptz NOT NULL,
	last_at timestamptz NOT NULL,
	count bigint NOT NULL DEFAULT 1,
	PRIMARY KEY (duty, target, sqlstate, message)
) WITH (fillfactor = 70);
CREATE INDEX worker_error_last_idx ON tokenbill.worker_error (last_at);
COMMENT ON TABLE tokenbill.worker_error IS 'What went wrong in the worker, the same thing once with a count';
COMMENT ON COLUMN tokenbill.worker_error.duty IS 'What it was doing';
COMMENT ON COLUMN tokenbill.worker_error.target IS 'Name of the provider or whatever it was doing it to; empty: nothing of a name';
COMMENT ON COLUMN tokenbill.worker_error.sqlstate IS 'SQLSTATE';
COMMENT ON COLUMN tokenbill.worker_error.message IS 'The message, at most 500 characters of it';
COMMENT ON COLUMN tokenbill.worker_error.detail IS 'DETAIL of the last time';
COMMENT ON COLUMN tokenbill.worker_error.hint IS 'HINT of the last time: what to do about it';
COMMENT ON COLUMN tokenbill.worker_error.first_at IS 'When it was first seen';
COMMENT ON COLUMN tokenbill.worker_error.last_at IS 'When it was last seen';
COMMENT ON COLUMN tokenbill.worker_error.count IS 'How often it was seen';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.worker_error', '');

CREATE FUNCTION tokenbill.record_worker_error(duty text, target text, sqlstate text, message text, detail text DEFAULT NULL, hint text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	of_duty text := left(coalesce(record_worker_error.duty, ''), 64);
	of_target text := left(coalesce(record_worker_error.target, ''), 128);
BEGIN
	INSERT INTO tokenbill.worker_error AS e (duty, target, sqlstate, message, detail, hint, first_at, last_at)
	VALUES (of_duty, of_target, left(coalesce(record_worker_error.sqlstate, 'XX000'), 5), left(coalesce(record_worker_error.message, ''), 500),
		left(record_worker_error.detail, 4000), left(record_worker_error.hint, 500), tokenbill.clock(), tokenbill.clock())
	ON CONFLICT ON CONSTRAINT worker_error_pkey DO UPDATE
	SET detail = excluded.detail, hint = excluded.hint, last_at = greatest(e.last_at, excluded.last_at), count = e.count + 1;
	DELETE FROM tokenbill.worker_error e
	WHERE e.duty = of_duty AND e.target = of_target AND (e.sqlstate, e.message) IN (
		SELECT o.sqlstate, o.message FROM tokenbill.worker_error o
		WHERE o.duty = of_duty AND o.target = of_target
		ORDER BY o.last_at DESC, o.first_at DESC OFFSET 50);
	PERFORM tokenbill.wake_worker('infinity');
END
$function$;
COMMENT ON FUNCTION tokenbill.record_worker_error(text, text, text, text, text, text) IS
'Internal: notes what went wrong in the worker, or that it went wrong again';

CREATE VIEW tokenbill.worker_errors WITH (security_barrier) AS
SELECT e.duty, e.target, e.sqlstate, e.message, e.detail, e.hint, e.first_at, e.last_at, e.count
FROM tokenbill.worker_error e
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.worker_errors IS 'What went wrong in the worker, the same thing once with a count; kept for tokenbill.error_retention';
COMMENT ON COLUMN tokenbill.worker_errors.duty IS 'What it was doing';
COMMENT ON COLUMN tokenbill.worker_errors.target IS 'Name of the provider or whatever it was doing it to; empty: nothing of a name';
COMMENT ON COLUMN tokenbill.worker_errors.sqlstate IS 'SQLSTATE';
COMMENT ON COLUMN tokenbill.worker_errors.message IS 'The message, at most 500 characters of it';
COMMENT ON COLUMN tokenbill.worker_errors.detail IS 'DETAIL of the last time';
COMMENT ON COLUMN tokenbill.worker_errors.hint IS 'HINT of the last time: what to do about it';
COMMENT ON COLUMN tokenbill.worker_errors.first_at IS 'When it was first seen';
COMMENT ON COLUMN tokenbill.worker_errors.last_at IS 'When it was last seen';
COMMENT ON COLUMN tokenbill.worker_errors.count IS 'How often it was seen';

CREATE FUNCTION tokenbill.wake_worker(at timestamptz DEFAULT '-infinity', alerts boolean DEFAULT true) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tokenbill_wake_worker';
COMMENT ON FUNCTION tokenbill.wake_worker(timestamptz, boolean) IS
'Internal: wakes this database''s worker when the transaction commits, if it sleeps for longer than until then; without a time always. alerts: something has changed that they may follow from';

/* What launcher and worker are doing. */
CREATE FUNCTION tokenbill.worker_state(OUT process text, OUT pid integer, OUT state text, OUT started_at timestamptz,
	OUT last_error text, OUT last_error_at timestamptz, OUT failures integer, OUT restart_at timestamptz,
	OUT next_due timestamptz, OUT duty text, OUT requests integer, OUT hint text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 2 AS 'MODULE_PATHNAME', 'tokenbill_worker_state';
COMMENT ON FUNCTION tokenbill.worker_state() IS 'Internal: what worker_status shows';

CREATE VIEW tokenbill.worker_status WITH (security_barrier) AS
SELECT s.process, pg_catalog.current_database() AS database, s.pid, s.state, s.started_at, s.last_error, s.last_error_at, s.failures,
	s.restart_at, s.next_due, s.duty, s.requests, s.hint
FROM tokenbill.worker_state() s
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.worker_status IS 'What the launcher is doing, and this database''s worker';
COMMENT ON COLUMN tokenbill.worker_status.process IS 'launcher or worker';
COMMENT ON COLUMN tokenbill.worker_status.database IS 'This database; the launcher is the same in all';
COMMENT ON COLUMN tokenbill.worker_status.pid IS 'Its process; null: there is none';
COMMENT ON COLUMN tokenbill.worker_status.state IS 'asleep, working, starting, backing off, no process, other version, no extension, none, off, standby, not running or not preloaded';
COMMENT ON COLUMN tokenbill.worker_status.started_at IS 'When it was started last';
COMMENT ON COLUMN tokenbill.worker_status.last_error IS 'What went wrong last';
COMMENT ON COLUMN tokenbill.worker_status.last_error_at IS 'When that was';
COMMENT ON COLUMN tokenbill.worker_status.failures IS 'How often in a row the process has ended by itself; a minute of health resets it';
COMMENT ON COLUMN tokenbill.worker_status.restart_at IS 'When it is started again, if there is no process';
COMMENT ON COLUMN tokenbill.worker_status.next_due IS 'Until when it sleeps, by tokenbill.clock; null: until it is woken';
COMMENT ON COLUMN tokenbill.worker_status.duty IS 'What is due then';
COMMENT ON COLUMN tokenbill.worker_status.requests IS 'How many HTTP requests it has in flight';
COMMENT ON COLUMN tokenbill.worker_status.hint IS 'What to do about it';

/*
 * Upkeep: what has to be done now and then, whether anybody calls for it or not.
 *
 * A row here is of a duty that failed, and rests for a while, or of one that
 * knows by itself when it will have something to do again.
 */
CREATE TABLE tokenbill.worker_duty (
	duty text COLLATE "C" NOT NULL PRIMARY KEY,
	ran_at timestamptz NOT NULL,
	next_at timestamptz,
	failures integer NOT NULL DEFAULT 0,
	not_before timestamptz
);
COMMENT ON TABLE tokenbill.worker_duty IS 'When upkeep was done, and how long a duty that fails rests';
COMMENT ON COLUMN tokenbill.worker_duty.duty IS 'Name of the duty';
COMMENT ON COLUMN tokenbill.worker_duty.ran_at IS 'When it was last tried';
COMMENT ON COLUMN tokenbill.worker_duty.next_at IS 'When it has something to do again, if it knows that by itself';
COMMENT ON COLUMN tokenbill.worker_duty.failures IS 'How often in a row it failed, or had nothing to do when it was due';
COMMENT ON COLUMN tokenbill.worker_duty.not_before IS 'Until when it rests';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.worker_duty', '');

/*
 * Months are made a week before they begin, and only where the ledger is used: a
 * charge makes what it needs, and a dump that is being restored brings its own.
 */
CREATE FUNCTION tokenbill.next_month_due() RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
DECLARE
	this_month timestamptz := date_trunc('month', tokenbill.clock());
BEGIN
	IF NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = 'tokenbill.ledger'::regclass) THEN
		RETURN NULL;
	END IF;
	RETURN (SELECT min(m.month) - interval '7 days'
		FROM generate_series(this_month, this_month + interval '1 year', interval '1 month') AS m(month)
		WHERE to_regclass('tokenbill.' || to_char(m.month, '"ledger_"YYYY_MM')) IS NULL);
END
$function$;
COMMENT ON FUNCTION tokenbill.next_month_due() IS 'Internal: when the worker has to make the next month of the ledger; null: it is not used, or there are months for a year';

/* Retention is looked after once an hour at most, and of providers once a day at least. */
CREATE FUNCTION tokenbill.upkeep_due() RETURNS TABLE (duty text, due_at timestamptz)
LANGUAGE plpgsql VOLATILE ROWS 7
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	now timestamptz := tokenbill.clock();
BEGIN
	RETURN QUERY
	SELECT d.duty, greatest(d.due_at, w.not_before)
	FROM (VALUES
		('expired holds', (SELECT h.expires_at FROM tokenbill.hold h WHERE h.status = 'held' ORDER BY h.expires_at LIMIT 1)),
		('expired credits', (SELECT c.expires_at FROM tokenbill.credit c
			WHERE c.status = 'open' AND c.expires_at IS NOT NULL AND c.remaining > c.reserved ORDER BY c.expires_at LIMIT 1)),
		('ledger months', tokenbill.next_month_due()),
		('provider history', (SELECT coalesce(o.next_at, now) FROM (VALUES (1)) one LEFT JOIN tokenbill.worker_duty o ON o.duty = 'provider history'
			WHERE EXISTS (SELECT FROM tokenbill.provider))),
		('worker errors', (SELECT greatest(min(e.last_at) + current_setting('tokenbill.error_retention')::interval,
				(SELECT o.next_at FROM tokenbill.worker_duty o WHERE o.duty = 'worker errors'))
			FROM tokenbill.worker_error e HAVING count(*) > 0)),
		('alerts', tokenbill.next_alert_due()),
		('old alerts', (SELECT greatest(x.due_at, o.next_at) FROM (SELECT tokenbill.next_alert_expiry() AS due_at) x
			LEFT JOIN tokenbill.worker_duty o ON o.duty = 'old alerts' WHERE x.due_at IS NOT NULL))
	) AS d(duty, due_at)
	LEFT JOIN tokenbill.worker_duty w ON w.duty = d.duty
	WHERE d.due_at IS NOT NULL;
END
$function$;
COMMENT ON FUNCTION tokenbill.upkeep_due() IS 'Internal: the duties of upkeep that there is something for, and when';

/*
 * Returns how much was done.  Batches are small: an account whose holds expire
 * stays locked until the batch is committed.
 */
CREATE FUNCTION tokenbill.do_upkeep(duty text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
DECLARE
	now timestamptz := tokenbill.clock();
	done bigint := 0;
	again_at timestamptz;
BEGIN
	CASE do_upkeep.duty
	WHEN 'expired holds' THEN
		done := tokenbill.expire_holds(max => 100);
	WHEN 'expired credits' THEN
		done := tokenbill.expire_credits(max => 100);
	WHEN 'ledger months' THEN
		PERFORM tokenbill.make_ledger_month(m.at) FROM (VALUES (now), (now + interval '7 days')) AS m(at);
		done := 1;
	WHEN 'provider history' THEN
		done := tokenbill.expire_provider_history(max => 1000);
		SELECT CASE WHEN done = 1000 THEN now
			WHEN min(o.checked_at) IS NOT NULL THEN least(now + interval '1 day', greatest(now + interval '1 hour', min(o.checked_at + p.keep_history))) END
		INTO again_at
		FROM tokenbill.provider p
		JOIN tokenbill.provider_balance b ON b.provider = p.provider
		CROSS JOIN LATERAL (
			SELECT h.checked_at FROM tokenbill.provider_balance_history h
			WHERE h.provider = b.provider AND h.currency = b.currency ORDER BY h.checked_at LIMIT 1) o;
		again_at := coalesce(again_at, now + interval '1 day');
		done := greatest(done, 1);
	WHEN 'worker errors' THEN
		DELETE FROM tokenbill.worker_error e
		WHERE (e.duty, e.target, e.sqlstate, e.message) IN (
			SELECT o.duty, o.target, o.sqlstate, o.message FROM tokenbill.worker_error o
			WHERE o.last_at <= now - current_setting('tokenbill.error_retention')::interval
			ORDER BY o.last_at LIMIT 1000);
		GET DIAGNOSTICS done = ROW_COUNT;
		/* a full batch is not the last one */
		again_at := CASE WHEN done < 1000 THEN now + interval '1 hour' END;
	WHEN 'alerts' THEN
		PERFORM tokenbill.evaluate_alerts();
		done := 1;
	WHEN 'old alerts' THEN
		done := tokenbill.expire_alerts(max => 1000);
		again_at := CASE WHEN done < 1000 THEN now + interval '1 hour' END;
	END CASE;
	IF done > 0 THEN
		IF again_at IS NULL THEN
			DELETE FROM tokenbill.worker_duty w WHERE w.duty = do_upkeep.duty;
		ELSE
			INSERT INTO tokenbill.worker_duty AS w (duty, ran_at, next_at) VALUES (do_upkeep.duty, now, again_at)
			ON CONFLICT ON CONSTRAINT worker_duty_pkey DO UPDATE
			SET ran_at = excluded.ran_at, next_at = excluded.next_at, failures = 0, not_before = NULL;
		END IF;
	END IF;
	RETURN done;
END
$function$;
COMMENT ON FUNCTION tokenbill.do_upkeep(text) IS 'Internal: does a batch of one duty of upkeep and returns how much that was';

/* One that failed, or did nothing although it was due, rests: from a second to five minutes. */
CREATE FUNCTION tokenbill.rest_upkeep(duty text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	now timestamptz := tokenbill.clock();
BEGIN
	INSERT INTO tokenbill.worker_duty AS w (duty, ran_at, failures, not_before)
	VALUES (rest_upkeep.duty, now, 1, now + interval '1 second')
	ON CONFLICT ON CONSTRAINT worker_duty_pkey DO UPDATE
	SET ran_at = now, failures = least(w.failures + 1, 1000),
		not_before = now + tokenbill.backoff('1 second', w.failures, '5 minutes');
END
$function$;
COMMENT ON FUNCTION tokenbill.rest_upkeep(text) IS 'Internal: lets a duty of upkeep that failed rest for a while';

CREATE FUNCTION tokenbill.run_upkeep() RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	due text;
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	SELECT u.duty INTO due FROM tokenbill.upkeep_due() u WHERE u.due_at <= tokenbill.clock() ORDER BY u.due_at, u.duty LIMIT 1;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	/* one that is broken must not keep the others from being done */
	BEGIN
		IF tokenbill.do_upkeep(due) = 0 THEN
			PERFORM tokenbill.rest_upkeep(due);
		END IF;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		PERFORM tokenbill.record_worker_error(due, '', state, message, nullif(detail, ''), nullif(hint, ''));
		PERFORM tokenbill.rest_upkeep(due);
	END;
	RETURN EXISTS (SELECT FROM tokenbill.upkeep_due() u WHERE u.due_at <= tokenbill.clock());
END
$function$;
COMMENT ON FUNCTION tokenbill.run_upkeep() IS
'Internal: does a batch of the upkeep that has been due for longest, and returns whether there is more to do. Only the worker calls it';

/*
 * Calls: the worker takes them on, makes them, and tells what came of them.  It
 * knows neither providers nor webhooks nor tokens; these functions know whose they
 * are.
 *
 * Whoever is broken must not keep the other from being asked.
 */
CREATE FUNCTION tokenbill.claim_calls(max integer) RETURNS SETOF tokenbill.http_call
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	claimed bigint := 0;
	claims text;
	got bigint;
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	/* tokens first: checks wait for them */
	FOREACH claims IN ARRAY ARRAY['tokens', 'devices', 'checks', 'webhooks'] LOOP
		EXIT WHEN claimed >= claim_calls.max;
		BEGIN
			CASE claims
			WHEN 'tokens' THEN
				RETURN QUERY SELECT * FROM tokenbill.claim_tokens((claim_calls.max - claimed)::integer);
			WHEN 'devices' THEN
				RETURN QUERY SELECT * FROM tokenbill.claim_devices((claim_calls.max - claimed)::integer);
			WHEN 'checks' THEN
				RETURN QUERY SELECT * FROM tokenbill.claim_checks((claim_calls.max - claimed)::integer);
			WHEN 'webhooks' THEN
				RETURN QUERY SELECT * FROM tokenbill.claim_webhooks((claim_calls.max - claimed)::integer);
			END CASE;
			GET DIAGNOSTICS got = ROW_COUNT;
			claimed := claimed + got;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
			PERFORM tokenbill.record_worker_error('claim ' || claims, '', state, message, nullif(detail, ''), nullif(hint, ''));
		END;
	END LOOP;
END
$function$;
COMMENT ON FUNCTION tokenbill.claim_calls(integer) IS 'Internal: takes on calls that are due, at most max, for the worker to make';

CREATE FUNCTION tokenbill.record_call(purpose text, target text, lease bigint, status integer, headers jsonb, body bytea, error text,
	error_kind text, duration_ms integer, secrets jsonb DEFAULT NULL)
RETURNS SETOF tokenbill.http_call
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	CASE record_call.purpose
	WHEN 'token' THEN
		PERFORM tokenbill.record_token(record_call.target, record_call.lease, record_call.status, record_call.headers,
			record_call.body, record_call.error, record_call.error_kind, record_call.secrets);
	WHEN 'device' THEN
		PERFORM tokenbill.record_device(record_call.target, record_call.lease, record_call.status, record_call.headers,
			record_call.body, record_call.error, record_call.error_kind, record_call.secrets);
	WHEN 'provider' THEN
		RETURN QUERY SELECT * FROM tokenbill.record_check(record_call.target, record_call.lease, record_call.status, record_call.headers,
			record_call.body, record_call.error, record_call.error_kind, record_call.duration_ms);
	WHEN 'webhook' THEN
		RETURN QUERY SELECT * FROM tokenbill.record_webhook(record_call.target, record_call.lease, record_call.status, record_call.headers,
			record_call.body, record_call.error, record_call.error_kind, record_call.duration_ms);
	END CASE;
END
$function$;
COMMENT ON FUNCTION tokenbill.record_call(text, text, bigint, integer, jsonb, bytea, text, text, integer, jsonb) IS
'Internal: takes in what came of a call, and returns the calls that follow it; of a device or token call secrets has what was secret in the answer, encrypted, and body the rest';

/* Only one worker works in a database, so what is claimed when it begins was claimed by one that is no more. */
CREATE FUNCTION tokenbill.release_claims(ended_badly boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.release_checks(release_claims.ended_badly);
	PERFORM tokenbill.release_webhooks(release_claims.ended_badly);
	PERFORM tokenbill.release_tokens(release_claims.ended_badly);
	PERFORM tokenbill.release_devices(release_claims.ended_badly);
END
$function$;
COMMENT ON FUNCTION tokenbill.release_claims(boolean) IS 'Internal: frees the calls that a worker which has ended had taken on; ended_badly: nobody had told it to end';

/* All the worker has to do, and when: what it sleeps by. */
CREATE FUNCTION tokenbill.due() RETURNS TABLE (duty text, due_at timestamptz, is_call boolean)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN QUERY
	SELECT d.duty, d.due_at, true
	FROM (VALUES ('provider checks', tokenbill.next_check_due()), ('webhooks', tokenbill.next_webhook_due()),
		('access tokens', tokenbill.next_token_due()), ('device grants', tokenbill.next_device_due())) AS d(duty, due_at)
	WHERE d.due_at IS NOT NULL
	UNION ALL
	SELECT u.duty, u.due_at, false FROM tokenbill.upkeep_due() u;
END
$function$;
COMMENT ON FUNCTION tokenbill.due() IS 'Internal: all that the worker has to do, and when';
