/*
 * Checks: asking the upstream accounts, for the worker, and when.
 *
 * Nothing is decided in the worker.  claim_checks() says which requests are to be
 * made now, the worker makes them outside of any transaction, and record_check()
 * in 76_check_result.sql is told what came of each.
 *
 * A check is one round of all requests of a preset, and of all their pages.  It
 * runs under a lease: an answer to another lease than the row has, because that
 * one ran out or the provider was changed meanwhile, is not looked at.  What was
 * gathered under a lease that ran out is thrown away; what was put down for a
 * moment, for a retry or because the minute's calls are used up, is not.
 *
 * There is no index on next_at: the table is as small as the list of providers,
 * and without one an update stays within its page.
 */
CREATE TABLE tokenbill.provider_check (
	provider text COLLATE "C" NOT NULL PRIMARY KEY,
	due_at timestamptz NOT NULL,
	next_at timestamptz,
	lease bigint,
	lease_until timestamptz,
	attempt integer NOT NULL DEFAULT 0,
	step integer,
	progress jsonb NOT NULL DEFAULT '{}',
	blocked_until timestamptz,
	blocked_reason text,
	minute timestamptz,
	minute_calls integer NOT NULL DEFAULT 0,
	status integer,
	error text,
	error_class text,
	advice text,
	answered_at timestamptz,
	checks bigint NOT NULL DEFAULT 0,
	failed_checks bigint NOT NULL DEFAULT 0,
	calls bigint NOT NULL DEFAULT 0,
	retries bigint NOT NULL DEFAULT 0,
	latency bigint[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0,0,0,0}',
	latency_ms bigint NOT NULL DEFAULT 0,
	summed_until timestamptz,
	summed_cost numeric NOT NULL DEFAULT 0,
	updated_at timestamptz NOT NULL,
	CHECK ((lease IS NULL) = (lease_until IS NULL))
) WITH (fillfactor = 40);
COMMENT ON TABLE tokenbill.provider_check IS 'When each provider is asked next, and how its checks go';
COMMENT ON COLUMN tokenbill.provider_check.provider IS 'Name of the provider';
COMMENT ON COLUMN tokenbill.provider_check.due_at IS 'When the check that is next or under way was due: later ones follow every check_every from there';
COMMENT ON COLUMN tokenbill.provider_check.next_at IS 'When the next request is to be made; null: the provider is disabled';
COMMENT ON COLUMN tokenbill.provider_check.lease IS 'Number of the claim under which a request is under way; null: none is';
COMMENT ON COLUMN tokenbill.provider_check.lease_until IS 'Until when its answer is waited for';
COMMENT ON COLUMN tokenbill.provider_check.attempt IS 'Requests of this check that failed and were, or are to be, tried again';
COMMENT ON COLUMN tokenbill.provider_check.step IS 'Request of the preset that is under way or was put down; null: the first';
COMMENT ON COLUMN tokenbill.provider_check.progress IS 'What earlier requests of this check told';
COMMENT ON COLUMN tokenbill.provider_check.blocked_until IS 'Until when the provider asked not to be asked';
COMMENT ON COLUMN tokenbill.provider_check.blocked_reason IS 'With which answer it asked so';
COMMENT ON COLUMN tokenbill.provider_check.minute IS 'The minute in which it was asked last';
COMMENT ON COLUMN tokenbill.provider_check.minute_calls IS 'How often it was asked in that minute';
COMMENT ON COLUMN tokenbill.provider_check.status IS 'HTTP status of the last answer; null: there was none';
COMMENT ON COLUMN tokenbill.provider_check.error IS 'Why the last request told nothing; null: it did';
COMMENT ON COLUMN tokenbill.provider_check.error_class IS 'What kind of error that was; null: it was no answer that failed';
COMMENT ON COLUMN tokenbill.provider_check.advice IS 'What it means, and what helps';
COMMENT ON COLUMN tokenbill.provider_check.answered_at IS 'When the last answer came';
COMMENT ON COLUMN tokenbill.provider_check.checks IS 'How many checks have ended';
COMMENT ON COLUMN tokenbill.provider_check.failed_checks IS 'How many of them told nothing';
COMMENT ON COLUMN tokenbill.provider_check.calls IS 'How many requests were made';
COMMENT ON COLUMN tokenbill.provider_check.retries IS 'How many of them were tried again';
COMMENT ON COLUMN tokenbill.provider_check.latency IS 'How many answers took how long, by the bounds of latency_bounds(), and longer';
COMMENT ON COLUMN tokenbill.provider_check.latency_ms IS 'How long all of them took, in milliseconds';
COMMENT ON COLUMN tokenbill.provider_check.summed_until IS 'Until when the cost in our own ledger has been summed for good';
COMMENT ON COLUMN tokenbill.provider_check.summed_cost IS 'That sum, from opening_at on';
COMMENT ON COLUMN tokenbill.provider_check.updated_at IS 'When the row last changed';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.provider_check', '');

/* Where in [0, 1) a name falls: so that providers added together are not asked together. */
CREATE FUNCTION tokenbill.check_phase(provider text) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN (hashtextextended(check_phase.provider, 0) & 1048575)::numeric / 1048576;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_phase(text) IS 'Internal: at which part of its interval a provider is asked, from 0 to below 1';

/*
 * Missed slots are skipped: after a night without a worker there is one check, not
 * a hundred.  A row that somebody has written by hand may say anything; then it is
 * every five minutes from now, so that a broken one is in nobody's way.
 */
CREATE FUNCTION tokenbill.next_slot(due_at timestamptz, every interval, now timestamptz) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	seconds numeric;
	slots numeric;
BEGIN
	IF next_slot.every BETWEEN '1 second' AND '366 days' AND next_slot.due_at BETWEEN '2000-01-01 00:00:00+00' AND '2100-01-01 00:00:00+00' THEN
		seconds := extract(epoch FROM next_slot.every);
		slots := floor(extract(epoch FROM next_slot.now - next_slot.due_at) / seconds) + 1;
		RETURN next_slot.due_at + make_interval(secs => (greatest(slots, 0) * seconds)::float8);
	END IF;
	RETURN next_slot.now + interval '5 minutes';
END
$function$;
COMMENT ON FUNCTION tokenbill.next_slot(timestamptz, interval, timestamptz) IS 'Internal: the first of due_at, due_at + every, due_at + 2 every ... that is after now; due_at itself only if it is';

/*
 * A provider that is new, or set otherwise, is asked at once: within ten seconds,
 * so that a thousand of them do not come in one moment, and from then on at its
 * own place in check_every.  What is under way of it is forgotten.
 */
CREATE FUNCTION tokenbill.schedule_check(watched tokenbill.provider) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	now timestamptz := tokenbill.clock();
	seconds numeric := extract(epoch FROM watched.check_every);
	phase numeric := tokenbill.check_phase(watched.provider);
BEGIN
	IF (tokenbill.find_preset(watched.preset)).source = 'manual' THEN
		RETURN;
	END IF;
	INSERT INTO tokenbill.provider_check AS c (provider, due_at, next_at, updated_at)
	VALUES (watched.provider, now - make_interval(secs => (phase * seconds)::float8),
		CASE WHEN watched.enabled THEN now + make_interval(secs => (phase * least(seconds, 10))::float8) END, now)
	ON CONFLICT (provider) DO UPDATE
	SET due_at = excluded.due_at, next_at = excluded.next_at, lease = NULL, lease_until = NULL, attempt = 0, step = NULL, progress = '{}',
		blocked_until = NULL, blocked_reason = NULL, summed_until = NULL, summed_cost = 0, updated_at = excluded.updated_at;
	PERFORM tokenbill.wake_worker();
END
$function$;
COMMENT ON FUNCTION tokenbill.schedule_check(tokenbill.provider) IS 'Internal: has a provider that was added or changed asked from the beginning';

/*
 * The requests that are to be made now, at most max of them, those due for longest
 * first.  Two workers never get the same: the second skips the rows of the first.
 * A row that cannot be made into a request is put off with the reason, and the
 * others go on.
 */
CREATE FUNCTION tokenbill.claim_checks(max integer) RETURNS SETOF tokenbill.http_call
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	state tokenbill.provider_check;
	watched tokenbill.provider;
	kind tokenbill.provider_preset;
	request tokenbill.preset_request;
	call tokenbill.http_call;
	wrong record;
	detail text;
BEGIN
	FOR state IN
		SELECT c.* FROM tokenbill.provider_check c
		WHERE c.next_at <= now AND (c.blocked_until IS NULL OR c.blocked_until <= now) AND (c.lease IS NULL OR c.lease_until <= now)
		ORDER BY c.next_at, c.provider
		LIMIT claim_checks.max
		FOR UPDATE SKIP LOCKED
	LOOP
		/* whoever changes a provider locks it first, and then this row: waiting for it here would be a deadlock */
		SELECT p.* INTO watched FROM tokenbill.provider p WHERE p.provider = state.provider FOR NO KEY UPDATE SKIP LOCKED;
		CONTINUE WHEN NOT FOUND OR tokenbill.lacks_token(watched);
		BEGIN
			kind := tokenbill.find_preset(watched.preset);
			IF kind.source = 'ledger' THEN
				PERFORM tokenbill.check_ledger(watched, state);
				CONTINUE;
			END IF;
			IF state.minute IS DISTINCT FROM date_trunc('minute', now) THEN
				state.minute := date_trunc('minute', now);
				state.minute_calls := 0;
			ELSIF state.minute_calls >= watched.calls_per_minute THEN
				UPDATE tokenbill.provider_check c SET next_at = state.minute + interval '1 minute', updated_at = now WHERE c.provider = state.provider;
				CONTINUE;
			END IF;
			IF NOT tokenbill.breaker_allows('provider', watched.provider) THEN
				UPDATE tokenbill.provider_check c
				SET next_at = greatest(tokenbill.breaker_retry_at('provider', watched.provider), now + interval '1 second'), updated_at = now
				WHERE c.provider = state.provider;
				CONTINUE;
			END IF;
			/* what a lease that ran out had gathered may be half of something; what was put down long ago is too old */
			IF state.lease IS NOT NULL OR (state.progress ->> 'told_at')::timestamptz < now - interval '10 minutes' THEN
				state.step := NULL;
				state.progress := '{}';
			END IF;
			IF state.lease IS NOT NULL THEN
				state.attempt := 0;
			END IF;
			SELECT r.* INTO request FROM tokenbill.preset_request r
			WHERE r.preset = kind.preset AND r.builtin = kind.builtin AND r.step >= coalesce(state.step, 1)
			ORDER BY r.step LIMIT 1;
			IF NOT FOUND THEN
				PERFORM tokenbill.refuse('22023', format('preset %s has no request', kind.preset), jsonb_build_object('preset', kind.preset),
					'Add one with tokenbill.add_preset_request().');
			END IF;
			call := tokenbill.check_call(watched, request, nextval('tokenbill.call_lease'), state.progress ->> 'page');
			UPDATE tokenbill.provider_check c
			SET lease = call.lease, lease_until = tokenbill.lease_end(), attempt = state.attempt, step = request.step, progress = state.progress,
				minute = state.minute, minute_calls = state.minute_calls + 1, calls = c.calls + 1, updated_at = now
			WHERE c.provider = state.provider;
			RETURN NEXT call;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
			SELECT SQLSTATE AS sqlstate, SQLERRM AS message INTO wrong;
			PERFORM tokenbill.record_worker_error('check', state.provider, wrong.sqlstate, wrong.message, detail);
			BEGIN
				PERFORM tokenbill.fail_check(watched, 'it cannot be asked: ' || tokenbill.short_text(wrong.message));
			EXCEPTION WHEN OTHERS THEN
				/* not even that can be written down of it: the others are not to wait for that */
				PERFORM tokenbill.record_worker_error('check', state.provider, SQLSTATE, SQLERRM);
				UPDATE tokenbill.provider_check c SET next_at = now + interval '5 minutes', lease = NULL, lease_until = NULL, updated_at = now
				WHERE c.provider = state.provider;
			END;
		END;
	END LOOP;
END
$function$;
COMMENT ON FUNCTION tokenbill.claim_checks(integer) IS
'Internal: takes on the requests to providers that are to be made now, at most max, for the worker to make';

CREATE FUNCTION tokenbill.next_check_due() RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN (SELECT min(greatest(c.next_at, c.blocked_until, c.lease_until)) FROM tokenbill.provider_check c WHERE c.next_at IS NOT NULL);
END
$function$;
COMMENT ON FUNCTION tokenbill.next_check_due() IS 'Internal: when claim_checks() has something to do next; null: never';

CREATE FUNCTION tokenbill.release_checks(ended_badly boolean) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	freed bigint;
BEGIN
	/*
	 * One of these answers may be what ended a worker that was not told to end, and
	 * would end the next one just so.  We cannot know which, so each counts as a
	 * failure: after a few in a row the breaker is open, and the server is not taken
	 * into recovery all the time.  Otherwise nothing was learned, and if it was the
	 * probe another may begin.
	 */
	PERFORM tokenbill.breaker_note('provider', c.provider, CASE WHEN release_checks.ended_badly THEN false END, NULL)
	FROM tokenbill.provider_check c WHERE c.lease IS NOT NULL;
	UPDATE tokenbill.provider_check c
	SET lease = NULL, lease_until = NULL, attempt = 0, step = NULL, progress = '{}', updated_at = tokenbill.clock()
	WHERE c.lease IS NOT NULL;
	GET DIAGNOSTICS freed = ROW_COUNT;
	RETURN freed;
END
$function$;
COMMENT ON FUNCTION tokenbill.release_checks(boolean) IS 'Internal: frees what a worker that is no more has taken on, to be done from the beginning; one that ended badly counts as a failure of each';

CREATE FUNCTION tokenbill.check_provider_now(provider text) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	watched tokenbill.provider;
	state tokenbill.provider_check;
	now timestamptz := tokenbill.clock();
BEGIN
	PERFORM tokenbill.check_provider(check_provider_now.provider);
	SELECT p.* INTO watched FROM tokenbill.provider p WHERE p.provider = check_provider_now.provider FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_provider(check_provider_now.provider);
	END IF;
	UPDATE tokenbill.provider_check c
	SET next_at = CASE WHEN c.lease IS NULL THEN now ELSE c.next_at END, updated_at = now
	WHERE c.provider = watched.provider AND c.next_at IS NOT NULL
	RETURNING c.* INTO state;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT409', format('provider "%s" is not asked', watched.provider),
			jsonb_build_object('provider', watched.provider, 'preset', watched.preset, 'enabled', watched.enabled),
			'Report its balance with tokenbill.record_provider_balance(), or enable it with tokenbill.set_provider().');
	END IF;
	PERFORM tokenbill.wake_worker();
	RETURN greatest(now, state.blocked_until, tokenbill.breaker_retry_at('provider', watched.provider));
END
$function$;
COMMENT ON FUNCTION tokenbill.check_provider_now(text) IS
'Has the worker ask a provider now, and returns when it may: later if the provider has asked to be left alone, or its breaker is open. Errors: PT404, PT409 it is not asked, 22xxx';

CREATE VIEW tokenbill.provider_checks WITH (security_barrier) AS
SELECT c.provider, GREATEST(c.next_at, c.blocked_until) AS next_at, c.lease IS NOT NULL AS under_way, c.attempt, c.step,
	c.blocked_until, c.blocked_reason, c.status, c.error, c.answered_at, c.checks, c.failed_checks, c.calls, c.retries,
	c.error_class, c.advice
FROM tokenbill.provider_check c
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.provider_checks IS 'How the checks of each provider that is asked go, and when the next is; none for a tenant';
COMMENT ON COLUMN tokenbill.provider_checks.provider IS 'Name of the provider';
COMMENT ON COLUMN tokenbill.provider_checks.next_at IS 'When the next request is to be made; null: it is disabled';
COMMENT ON COLUMN tokenbill.provider_checks.under_way IS 'Whether a request is under way';
COMMENT ON COLUMN tokenbill.provider_checks.attempt IS 'Requests of this check that failed and were, or are to be, tried again';
COMMENT ON COLUMN tokenbill.provider_checks.step IS 'Request of the preset that is under way or was put down; null: none is';
COMMENT ON COLUMN tokenbill.provider_checks.blocked_until IS 'Until when the provider asked not to be asked';
COMMENT ON COLUMN tokenbill.provider_checks.blocked_reason IS 'With which answer it asked so';
COMMENT ON COLUMN tokenbill.provider_checks.status IS 'HTTP status of the last answer; null: there was none';
COMMENT ON COLUMN tokenbill.provider_checks.error IS 'Why the last request told nothing; null: it did';
COMMENT ON COLUMN tokenbill.provider_checks.answered_at IS 'When the last answer came';
COMMENT ON COLUMN tokenbill.provider_checks.checks IS 'How many checks have ended';
COMMENT ON COLUMN tokenbill.provider_checks.failed_checks IS 'How many of them told nothing';
COMMENT ON COLUMN tokenbill.provider_checks.calls IS 'How many requests were made';
COMMENT ON COLUMN tokenbill.provider_checks.retries IS 'How many of them were tried again';
COMMENT ON COLUMN tokenbill.provider_checks.error_class IS 'What kind of error that was, as classify_error() says; null: it was no answer that failed';
COMMENT ON COLUMN tokenbill.provider_checks.advice IS 'What it means, and what helps';
