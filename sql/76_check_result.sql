/*
 * What comes of checks: the answers of a provider, or our own ledger, become
 * balances, or the reason why there are none.  Which request follows an answer, or
 * when it is tried again, is said here too; which is made at all, and when, by
 * claim_checks() in 76_check.sql.
 */
CREATE FUNCTION tokenbill.latency_bounds() RETURNS integer[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '{50,100,250,500,1000,1200,2500,5000,10000,20000}'::pg_catalog.int4[];
COMMENT ON FUNCTION tokenbill.latency_bounds() IS 'Internal: upper bounds of the buckets in which answers are counted by how long they took, in milliseconds; a last one has no bound';

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
	SELECT a.key INTO odd FROM jsonb_each_text(amounts) a WHERE abs(a.value::numeric) >= 1e18 OR scale(trim_scale(a.value::numeric)) > 60 LIMIT 1;
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
		state.progress := '{"pages": 0}' || state.progress;
		IF request.contributes = 'balance' THEN
			SELECT a.key INTO clash FROM jsonb_each(amounts) a WHERE state.progress -> 'balance' ? a.key LIMIT 1;
			IF FOUND THEN
				problem := format('there are two amounts in %s', clash);
			END IF;
		END IF;
		/* pages may lead back to an earlier one: the anchor moves on at each power of two, so that it is in the circle at last (Brent) */
		IF page IN (state.progress ->> 'page', state.progress ->> 'anchor') OR (state.progress ->> 'pages')::integer >= 500 THEN
			problem := 'its pages have no end';
		END IF;
	END IF;
	IF problem IS NULL AND NOT unlimited THEN
		state.progress := state.progress - CASE WHEN page IS NULL THEN '{page,anchor}'::text[] ELSE '{page}' END || jsonb_build_object('told_at', now, 'pages', (state.progress ->> 'pages')::integer + 1,
			request.contributes, coalesce(state.progress -> request.contributes, '{}') || (
				SELECT coalesce(jsonb_object_agg(a.key, a.value::numeric + coalesce((state.progress -> request.contributes ->> a.key)::numeric, 0)), '{}')
				FROM jsonb_each_text(amounts) a));
		IF page IS NOT NULL THEN
			state.progress := state.progress || jsonb_build_object('page', page, 'anchor',
				CASE WHEN (state.progress ->> 'pages')::integer & ((state.progress ->> 'pages')::integer - 1) = 0 THEN page ELSE state.progress ->> 'anchor' END);
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
