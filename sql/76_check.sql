/*
 * Checks: asking the upstream accounts, for the worker.
 *
 * Everything is decided here.  claim_checks() says which requests are to be made
 * now, the worker makes them outside of any transaction, and record_check() is
 * told what came of each: it keeps the balance or the reason why there is none,
 * says which request follows, or when to try again.
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

CREATE FUNCTION tokenbill.latency_bounds() RETURNS integer[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '{50,100,250,500,1000,1200,2500,5000,10000,20000}'::pg_catalog.int4[];
COMMENT ON FUNCTION tokenbill.latency_bounds() IS 'Internal: upper bounds of the buckets in which answers are counted by how long they took, in milliseconds; a last one has no bound';

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
 * What the reports of a check do to the balances.  amounts null is a failure, of
 * every currency that is known.  Of two reports in one moment the second is a
 * microsecond younger.
 */
CREATE FUNCTION tokenbill.report_check(watched tokenbill.provider, amounts jsonb, problems jsonb, reason text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	seen timestamptz := tokenbill.clock();
	report record;
	renamed text;
BEGIN
	WHILE EXISTS (SELECT FROM tokenbill.provider_balance_history h JOIN tokenbill.provider_balance b USING (provider, currency)
		WHERE b.provider = watched.provider AND h.checked_at = seen) LOOP
		seen := seen + interval '1 microsecond';
	END LOOP;
	/* before the first answer nobody knows the currency: failures until then were of the one that comes */
	IF report_check.amounts IS NOT NULL THEN
		SELECT a.key INTO renamed FROM jsonb_each(report_check.amounts) a ORDER BY a.key COLLATE "C" LIMIT 1;
		IF NOT report_check.amounts ? watched.currency AND NOT EXISTS (SELECT FROM tokenbill.provider_balance b
			WHERE b.provider = watched.provider AND (b.currency <> watched.currency OR b.checked_at IS NOT NULL)) THEN
			UPDATE tokenbill.provider_balance b SET currency = renamed WHERE b.provider = watched.provider;
			UPDATE tokenbill.provider_balance_history h SET currency = renamed WHERE h.provider = watched.provider AND h.currency = watched.currency;
		END IF;
	END IF;
	FOR report IN
		SELECT a.key AS currency, a.value::numeric AS balance, NULL AS error FROM jsonb_each_text(coalesce(report_check.amounts, '{}')) a
		UNION ALL
		SELECT p.key, NULL, p.value FROM jsonb_each_text(coalesce(report_check.problems, '{}')) p
		UNION ALL
		SELECT b.currency, NULL, coalesce(report_check.reason, 'the answer has this currency no more')
		FROM (SELECT b.currency FROM tokenbill.provider_balance b WHERE b.provider = watched.provider
			UNION
			SELECT watched.currency WHERE report_check.amounts IS NULL
				AND NOT EXISTS (SELECT FROM tokenbill.provider_balance b WHERE b.provider = watched.provider)) b
		WHERE NOT coalesce(report_check.amounts, '{}') ? b.currency AND NOT coalesce(report_check.problems, '{}') ? b.currency
		ORDER BY 1
	LOOP
		PERFORM tokenbill.put_provider_balance(watched, report.currency, report.balance, seen, report.error);
	END LOOP;
END
$function$;
COMMENT ON FUNCTION tokenbill.report_check(tokenbill.provider, jsonb, jsonb, text) IS
'Internal: reports what a check told: amounts by currency (null: there is no limit), problems by currency, and reason of what is in neither';

/* The end of a check, good or not, and the time of the next. */
CREATE FUNCTION tokenbill.end_check(watched tokenbill.provider, failed boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
BEGIN
	UPDATE tokenbill.provider_check c
	SET due_at = tokenbill.next_slot(c.due_at, watched.check_every, now), next_at = tokenbill.next_slot(c.due_at, watched.check_every, now),
		lease = NULL, lease_until = NULL, attempt = 0, step = NULL, progress = '{}',
		checks = c.checks + 1, failed_checks = c.failed_checks + CASE WHEN end_check.failed THEN 1 ELSE 0 END, updated_at = now
	WHERE c.provider = watched.provider;
END
$function$;
COMMENT ON FUNCTION tokenbill.end_check(tokenbill.provider, boolean) IS 'Internal: ends a check, and sets when the next is due';

/* The end of one whose request could not be made: what is known of the answer before is not the reason. */
CREATE FUNCTION tokenbill.fail_check(watched tokenbill.provider, problem text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.report_check(watched, NULL, NULL, problem);
	PERFORM tokenbill.end_check(watched, true);
	UPDATE tokenbill.provider_check c SET error = problem, error_class = NULL, advice = NULL, status = NULL
	WHERE c.provider = watched.provider;
END
$function$;
COMMENT ON FUNCTION tokenbill.fail_check(tokenbill.provider, text) IS 'Internal: ends a check whose request cannot be made, and reports why';

/* plans are made anew: how much of the month the time between the two is decides about the index */
CREATE FUNCTION tokenbill.ledger_cost(watched tokenbill.provider, since timestamptz, before timestamptz, OUT cost numeric, OUT unknown bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = 'force_custom_plan'
AS $function$
BEGIN
	/* as in margin_daily: sandbox accounts pay nothing, and reprice() may have told a cost since */
	SELECT coalesce(sum(l.cost), 0),
		count(*) FILTER (WHERE l.cost IS NULL AND l.kind IN ('charge', 'capture', 'expiry')
			AND NOT EXISTS (SELECT FROM tokenbill.ledger r WHERE r.account = l.account AND r.cost IS NOT NULL
				AND r.idempotency_key >= concat('tokenbill:reprice:', l.seq, ':') AND r.idempotency_key < concat('tokenbill:reprice:', l.seq, ';')))
	INTO cost, unknown
	FROM tokenbill.ledger l
	JOIN tokenbill.account a ON a.account = l.account
	WHERE l.created_at >= ledger_cost.since AND l.created_at < ledger_cost.before AND l.contra IN ('revenue', 'suspense') AND a.currency = watched.currency
		AND EXISTS (SELECT FROM jsonb_array_elements_text(watched.params -> 'services') s (name)
			WHERE l.service = s.name OR (s.name LIKE '%*' AND starts_with(l.service, left(s.name, -1))));
END
$function$;
COMMENT ON FUNCTION tokenbill.ledger_cost(tokenbill.provider, timestamptz, timestamptz) IS
'Internal: what the services of a provider have cost between two moments by our own ledger, and how many lines have no cost';

/*
 * A balance that follows from our own ledger needs no request.  What is older than
 * an hour is summed once, a month a time, so that no check looks at all of the
 * past; a charge whose transaction stays open for longer than that is missed.
 */
CREATE FUNCTION tokenbill.check_ledger(watched tokenbill.provider, state tokenbill.provider_check) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
	settled timestamptz := date_trunc('hour', now - interval '1 hour');
	since timestamptz := coalesce(state.summed_until, watched.opening_at);
	until timestamptz := least(date_trunc('month', since) + interval '1 month', settled);
	total numeric := state.summed_cost;
	part record;
BEGIN
	PERFORM tokenbill.index_ledger_month(to_char(now, '"ledger_"YYYY_MM'));
	IF until > since THEN
		SELECT * INTO part FROM tokenbill.ledger_cost(watched, since, until);
		IF part.unknown = 0 THEN
			since := until;
			total := total + part.cost;
			UPDATE tokenbill.provider_check c SET summed_until = since, summed_cost = total, updated_at = now WHERE c.provider = watched.provider;
			IF until < settled THEN
				RETURN;
			END IF;
		END IF;
	END IF;
	SELECT * INTO part FROM tokenbill.ledger_cost(watched, since, 'infinity');
	UPDATE tokenbill.provider_check c
	SET status = NULL, answered_at = now,
		error = CASE WHEN part.unknown > 0 THEN format('%s ledger lines of its services have no cost', part.unknown) END
	WHERE c.provider = watched.provider
	RETURNING c.* INTO state;
	PERFORM tokenbill.report_check(watched,
		CASE WHEN state.error IS NULL THEN jsonb_build_object(watched.currency, watched.opening_balance - total - part.cost) END, NULL, state.error);
	PERFORM tokenbill.end_check(watched, state.error IS NOT NULL);
END
$function$;
COMMENT ON FUNCTION tokenbill.check_ledger(tokenbill.provider, tokenbill.provider_check) IS
'Internal: a check of a provider whose balance follows from our own ledger; if there is more of the past to sum, it is due again at once';

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
			IF state.lease IS NOT NULL OR (state.progress ->> 'since')::timestamptz < now - interval '10 minutes' THEN
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

/* What the requests of a check have told together: the balances. */
CREATE FUNCTION tokenbill.add_up_check(watched tokenbill.provider, source text, progress jsonb, OUT amounts jsonb, OUT problems jsonb, OUT problem text)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	told jsonb := coalesce(progress -> 'balance', '{}');
	used jsonb := progress -> 'subtract';
	cost jsonb := coalesce(progress -> 'cost', '{}');
	odd text;
BEGIN
	IF add_up_check.source = 'derived' THEN
		amounts := jsonb_build_object(watched.currency, watched.opening_balance - coalesce((cost ->> watched.currency)::numeric, 0));
		SELECT jsonb_object_agg(c.key, format('there are costs in it, but the opening balance is in %s', watched.currency)) INTO problems
		FROM jsonb_each(cost) c WHERE c.key <> watched.currency;
	ELSIF used IS NULL THEN
		amounts := told;
	ELSE
		SELECT k.key INTO odd FROM (SELECT jsonb_object_keys(told) AS key UNION SELECT jsonb_object_keys(used)) k
		WHERE NOT (told ? k.key AND used ? k.key) ORDER BY k.key COLLATE "C" LIMIT 1;
		IF FOUND THEN
			problem := format('of a limit and what is used of it in %s only one was told', odd);
			RETURN;
		END IF;
		SELECT jsonb_object_agg(t.key, t.value::numeric - (used ->> t.key)::numeric) INTO amounts FROM jsonb_each_text(told) t;
	END IF;
	SELECT a.key INTO odd FROM jsonb_each_text(amounts) a WHERE abs(a.value::numeric) >= 1e18 OR scale(trim_scale(a.value::numeric)) > 30 LIMIT 1;
	IF FOUND THEN
		problem := format('the balance in %s is beyond all bounds', odd);
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.add_up_check(tokenbill.provider, text, jsonb) IS
'Internal: balances by currency from what the requests of a check told, why some have none, or why none has';

/*
 * What came of a request, and the request that follows it, if any.
 *
 * Races: the lease tells an answer that comes late from the one that is waited
 * for; the provider's row, locked first as everywhere, holds off whoever changes
 * or drops it.
 */
CREATE FUNCTION tokenbill.record_check(target text, lease bigint, status integer, headers jsonb, body bytea, error text, error_kind text, duration_ms integer)
RETURNS SETOF tokenbill.http_call
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
	following tokenbill.preset_request;
	document jsonb;
	amounts jsonb;
	unlimited boolean := false;
	page text;
	balances jsonb;
	problems jsonb;
	problem text;
	detail text;
	good boolean;
	again boolean := false;
	free_at timestamptz;
	delay interval;
	bucket integer;
	clash text;
	code text;
	said text;
	wait interval;
BEGIN
	SELECT p.* INTO watched FROM tokenbill.provider p WHERE p.provider = record_check.target FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	SELECT c.* INTO state FROM tokenbill.provider_check c
	WHERE c.provider = record_check.target AND c.lease = record_check.lease FOR UPDATE;
	IF NOT FOUND THEN
		RETURN;
	END IF;

	/* what does it say? */
	state.status := record_check.status;
	state.answered_at := now;
	state.error_class := NULL;
	state.advice := NULL;
	BEGIN
		kind := tokenbill.find_preset(watched.preset);
		SELECT r.* INTO STRICT request FROM tokenbill.preset_request r
		WHERE r.preset = kind.preset AND r.builtin = kind.builtin AND r.step = state.step;
		IF record_check.status IS NULL THEN
			problem := coalesce(tokenbill.short_text(record_check.error), 'there was no answer');
			IF record_check.error_kind IN ('resolve', 'connect', 'closed', 'timeout', 'protocol') THEN
				SELECT c.class, c.advice, c.retryable INTO state.error_class, state.advice, again FROM tokenbill.classify(kind.vendor, 0, NULL, NULL) c;
			END IF;
			good := CASE WHEN record_check.error_kind NOT IN ('secret', 'library', 'address', 'encoding', 'closed') THEN false END;
		ELSE
			SELECT a.document, a.problem INTO document, problem FROM tokenbill.parse_answer(record_check.body) a;
			IF record_check.status BETWEEN 200 AND 299 THEN
				good := problem IS NULL;
				IF good THEN
					SELECT a.amounts, a.unlimited, a.page, a.problem INTO amounts, unlimited, page, problem
					FROM tokenbill.read_answer(request, watched.currency, document) a;
				END IF;
			END IF;
			IF record_check.status NOT BETWEEN 200 AND 299 OR (good AND problem IS NOT NULL) THEN
				SELECT c.class, c.advice, c.retryable, c.retry_after, c.code, c.message
				INTO state.error_class, state.advice, again, wait, code, said
				FROM tokenbill.classify(kind.vendor, record_check.status, record_check.body, record_check.headers) c;
				/* who refuses is there */
				good := state.error_class NOT IN ('transient', 'rate_limit');
				problem := CASE WHEN record_check.status BETWEEN 200 AND 299 THEN problem
					WHEN record_check.status BETWEEN 300 AND 399 THEN format('HTTP %s: redirects are not followed', record_check.status)
					ELSE tokenbill.http_problem(record_check.status, again, code, said) END;
			END IF;
		END IF;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		PERFORM tokenbill.record_worker_error('check', watched.provider, SQLSTATE, SQLERRM, detail);
		problem := 'the answer cannot be read: ' || coalesce(tokenbill.short_text(SQLERRM), SQLSTATE);
		state.error_class := NULL;
		state.advice := NULL;
		again := false;
		good := NULL;
	END;
	PERFORM tokenbill.breaker_note('provider', watched.provider, good, CASE WHEN good IS NOT NULL THEN record_check.duration_ms END);

	/* how long it took, and until when it wants to be left alone */
	IF record_check.status IS NOT NULL THEN
		bucket := 1 + (SELECT count(*) FROM unnest(tokenbill.latency_bounds()) b (ms) WHERE b.ms < record_check.duration_ms);
		state.latency[bucket] := state.latency[bucket] + 1;
		state.latency_ms := state.latency_ms + record_check.duration_ms;
		free_at := now + coalesce(tokenbill.retry_after(record_check.headers, record_check.status), wait);
	END IF;
	state.blocked_until := CASE WHEN free_at > now THEN free_at END;
	state.blocked_reason := CASE WHEN free_at > now THEN coalesce(problem, format('HTTP %s', record_check.status)) END;

	/* what it told so far */
	IF problem IS NULL THEN
		IF NOT state.progress ? 'since' THEN
			state.progress := jsonb_build_object('since', now, 'pages', 0);
		END IF;
		IF request.contributes = 'balance' THEN
			SELECT a.key INTO clash FROM jsonb_each(amounts) a WHERE state.progress -> 'balance' ? a.key LIMIT 1;
			IF FOUND THEN
				problem := format('there are two amounts in %s', clash);
			END IF;
		END IF;
		IF page = state.progress ->> 'page' OR (state.progress ->> 'pages')::integer >= 500 THEN
			problem := 'its pages have no end';
		END IF;
	END IF;
	IF problem IS NULL AND NOT unlimited THEN
		state.progress := state.progress - 'page' || jsonb_build_object('pages', (state.progress ->> 'pages')::integer + 1,
			request.contributes, coalesce(state.progress -> request.contributes, '{}') || (
				SELECT coalesce(jsonb_object_agg(a.key, a.value::numeric + coalesce((state.progress -> request.contributes ->> a.key)::numeric, 0)), '{}')
				FROM jsonb_each_text(amounts) a));
		IF page IS NOT NULL THEN
			state.progress := state.progress || jsonb_build_object('page', page);
			following := request;
		ELSE
			SELECT r.* INTO following FROM tokenbill.preset_request r
			WHERE r.preset = kind.preset AND r.builtin = kind.builtin AND r.step > request.step ORDER BY r.step LIMIT 1;
		END IF;
		IF following.step IS NULL THEN
			SELECT u.amounts, u.problems, u.problem INTO balances, problems, problem FROM tokenbill.add_up_check(watched, kind.source, state.progress) u;
		END IF;
	END IF;

	PERFORM tokenbill.token_refused(watched.secret, record_check.headers) WHERE record_check.status = 401;
	/* and what follows */
	state.error := problem;
	UPDATE tokenbill.provider_check c
	SET status = state.status, error = state.error, error_class = state.error_class, advice = state.advice, answered_at = now, latency = state.latency, latency_ms = state.latency_ms,
		blocked_until = state.blocked_until, blocked_reason = state.blocked_reason, progress = state.progress, updated_at = now
	WHERE c.provider = state.provider;
	delay := CASE WHEN again THEN tokenbill.retry_delay(state.attempt + 1) END;
	IF greatest(now + delay, state.blocked_until) <= now + interval '1 minute' AND delay IS NOT NULL THEN
		UPDATE tokenbill.provider_check c
		SET lease = NULL, lease_until = NULL, attempt = c.attempt + 1, retries = c.retries + 1, next_at = now + delay
		WHERE c.provider = state.provider;
	ELSIF problem IS NOT NULL THEN
		PERFORM tokenbill.report_check(watched, NULL, NULL, problem);
		PERFORM tokenbill.end_check(watched, true);
	ELSIF following.step IS NOT NULL THEN
		IF state.minute IS DISTINCT FROM date_trunc('minute', now) THEN
			state.minute := date_trunc('minute', now);
			state.minute_calls := 0;
		END IF;
		IF state.minute_calls >= watched.calls_per_minute OR state.blocked_until IS NOT NULL THEN
			/* put down, with what it told */
			UPDATE tokenbill.provider_check c
			SET lease = NULL, lease_until = NULL, step = following.step,
				next_at = CASE WHEN state.minute_calls >= watched.calls_per_minute THEN state.minute + interval '1 minute' ELSE now END
			WHERE c.provider = state.provider;
		ELSE
			UPDATE tokenbill.provider_check c
			SET lease_until = tokenbill.lease_end(), attempt = 0, step = following.step, minute = state.minute,
				minute_calls = state.minute_calls + 1, calls = c.calls + 1
			WHERE c.provider = state.provider;
			RETURN NEXT tokenbill.check_call(watched, following, record_check.lease, page);
		END IF;
	ELSIF unlimited THEN
		PERFORM tokenbill.report_check(watched, jsonb_build_object(watched.currency, NULL), NULL, NULL);
		PERFORM tokenbill.end_check(watched, false);
	ELSE
		PERFORM tokenbill.report_check(watched, balances, problems, NULL);
		PERFORM tokenbill.end_check(watched, false);
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.record_check(text, bigint, integer, jsonb, bytea, text, text, integer) IS
'Internal: takes in what came of a request of claim_checks(), and returns the request that follows it under the same lease, if one does';

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
