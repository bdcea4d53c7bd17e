-- Limits against a model that keeps everything and adds it all up each time
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(5);
SET LOCAL tokenbill.clock = '2026-03-20 00:00:00+00';
SELECT tokenbill.create_account('r', credit_limit => 1000000), tokenbill.set_account_policy('r', overflow => 'debt') \g /dev/null
SELECT tokenbill.set_price(s, 'tokens', 0.01) FROM unnest('{alpha,alps,beta}'::text[]) s \g /dev/null
SELECT tokenbill.set_spend_limit('r', 9, 'day', timezone => 'Europe/Berlin'), tokenbill.set_spend_limit('r', 4, '7 hours'), tokenbill.set_spend_limit('r', 14, '50 hours', service => 'al*'),
	tokenbill.set_spend_limit('r', 12, 'week', tag => '{"t": 1}'), tokenbill.set_spend_limit('r', 25, 'month', service => 'beta', timezone => 'Asia/Kolkata'),
	tokenbill.set_rate_limit('r', 'requests', 4, 'hour'), tokenbill.set_rate_limit('r', 'tokens', 500, '3 hours', tag => '{"t": 1}'), tokenbill.set_rate_limit('r', 'in_flight', 4),
	tokenbill.set_rate_limit('r', 'requests', 9, '90 minutes', service => 'beta'), tokenbill.set_spend_limit('r', 3, '5 hours', action => 'alert') \g /dev/null

-- The model: what was charged, and what is held
CREATE TEMP TABLE event (key text, at timestamptz, service text, metadata jsonb, price numeric DEFAULT 0, refunded numeric DEFAULT 0, tokens numeric DEFAULT 0, requests numeric DEFAULT 0);
CREATE TEMP TABLE held (key text PRIMARY KEY, service text, metadata jsonb, amount numeric, captured numeric, tokens numeric);
CREATE FUNCTION pg_temp.fits(l tokenbill.account_limit, service text, metadata jsonb) RETURNS boolean LANGUAGE sql AS $$
	SELECT (l.service IS NULL OR coalesce(service LIKE replace(l.service, '*', '%'), false)) AND (l.tag IS NULL OR coalesce(metadata @> l.tag, false)) $$;
CREATE FUNCTION pg_temp.counted(l tokenbill.account_limit, now timestamptz) RETURNS numeric LANGUAGE sql AS $$
	SELECT coalesce(sum(CASE l.what WHEN 'spend' THEN e.price - e.refunded WHEN 'tokens' THEN e.tokens WHEN 'requests' THEN e.requests ELSE 0 END), 0)
	FROM event e WHERE pg_temp.fits(l, e.service, e.metadata)
	AND CASE WHEN l.every LIKE '% %' THEN e.at > now - l.every::interval
		ELSE date_trunc(l.every, e.at AT TIME ZONE l.timezone) = date_trunc(l.every, now AT TIME ZONE l.timezone) END $$;
CREATE FUNCTION pg_temp.reserved(l tokenbill.account_limit) RETURNS numeric LANGUAGE sql AS $$
	SELECT coalesce(sum(CASE l.what WHEN 'spend' THEN greatest(h.amount - h.captured, 0) WHEN 'tokens' THEN h.tokens WHEN 'in_flight' THEN 1 ELSE 0 END), 0)
	FROM held h WHERE pg_temp.fits(l, h.service, h.metadata) $$;
-- Which limits something more would go over
CREATE FUNCTION pg_temp.over(now timestamptz, svc text, meta jsonb, spend numeric, tokens numeric, requests numeric, in_flight numeric) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(l.name::text ORDER BY l.name) FROM tokenbill.account a, unnest(a.limits) l,
		LATERAL (SELECT CASE l.what WHEN 'spend' THEN spend WHEN 'tokens' THEN tokens WHEN 'requests' THEN requests ELSE in_flight END AS more) m
	WHERE a.account = 'r' AND l.action = 'refuse' AND pg_temp.fits(l, svc, meta) AND m.more > 0
	AND pg_temp.counted(l, now) + pg_temp.reserved(l) + m.more > l.amount $$;

CREATE TEMP TABLE wrong (step int, what text, wanted text, got text);
CREATE TEMP TABLE tally (granted int DEFAULT 0, refused int DEFAULT 0, held int DEFAULT 0, refunds int DEFAULT 0);
INSERT INTO tally DEFAULT VALUES;
DO $$
DECLARE
	now timestamptz := tokenbill.clock();
	op float;
	svc text;
	meta jsonb;
	n int;
	key text;
	expected text[];
	h held;
	e event;
	got record;
	l tokenbill.account_limit;
BEGIN
	PERFORM setseed(0.4711);
	FOR i IN 1 .. 900 LOOP
		/* half-hours: windows begin and end with what happens */
		now := now + (ARRAY[0, 0, 0, 0, 1, 1, 2, 7])[1 + floor(random() * 8)::int] * interval '30 minutes';
		IF random() < 0.01 THEN
			now := now + interval '3 days';
		END IF;
		PERFORM set_config('tokenbill.clock', now::text, true);
		svc := (ARRAY['alpha', 'alps', 'beta', NULL])[1 + floor(random() * 4)::int];
		meta := (ARRAY['{"t": 1}', '{"t": 2}', '{"t": 1, "u": 3}', NULL])[1 + floor(random() * 4)::int];
		n := 1 + floor(random() * 120);
		key := 'step-' || i;
		op := random();
		IF op < 0.5 THEN
			/* by usage if there is a service, else by amount */
			expected := pg_temp.over(now, svc, meta, n * 0.01, CASE WHEN svc IS NULL THEN 0 ELSE n END, 1, 0);
			SELECT * INTO got FROM pg_temp.error_of(CASE WHEN svc IS NULL THEN format('SELECT tokenbill.charge_amount(%L, %s, %L, metadata => %L)', 'r', n * 0.01, key, meta)
				ELSE format('SELECT tokenbill.charge_tokens(%L, %L, %s, %L, metadata => %L)', 'r', svc, n, key, meta) END);
			IF got.sqlstate = '00000' THEN
				INSERT INTO event VALUES (key, now, svc, meta, n * 0.01, 0, CASE WHEN svc IS NULL THEN 0 ELSE n END, 1);
			END IF;
		ELSIF op < 0.53 THEN
			expected := NULL;
			SELECT * INTO got FROM pg_temp.error_of(format('SELECT tokenbill.charge_amount(%L, %s, %L, %L, %L, %L)', 'r', n * 0.01, key, svc, 'debt', meta));
			INSERT INTO event VALUES (key, now, svc, meta, n * 0.01, 0, 0, 1);
		ELSIF op < 0.7 THEN
			expected := pg_temp.over(now, svc, meta, n * 0.01, CASE WHEN svc IS NULL THEN 0 ELSE n END, 1, 1);
			SELECT * INTO got FROM pg_temp.error_of(CASE WHEN svc IS NULL THEN format('SELECT tokenbill.hold(%L, %s, %L, ttl => %L, metadata => %L)', 'r', n * 0.01, key, '366 days', meta)
				ELSE format('SELECT tokenbill.hold(%L, NULL, %L, %L, %L, %L, %L)', 'r', key, '366 days', svc, jsonb_build_object('tokens', n), meta) END);
			IF got.sqlstate = '00000' THEN
				INSERT INTO held VALUES (key, svc, meta, n * 0.01, 0, CASE WHEN svc IS NULL THEN 0 ELSE n END);
				INSERT INTO event VALUES (NULL, now, svc, meta, 0, 0, 0, 1);
				UPDATE tally SET held = tally.held + 1;
			END IF;
		ELSIF op < 0.9 THEN
			SELECT * INTO h FROM held ORDER BY random() LIMIT 1;
			CONTINUE WHEN NOT FOUND;
			expected := NULL;
			IF op < 0.75 THEN
				SELECT * INTO got FROM pg_temp.error_of(format('SELECT tokenbill.release(%L, %L)', 'r', h.key));
				DELETE FROM held WHERE held.key = h.key;
			ELSIF op < 0.78 THEN
				expected := pg_temp.over(now, h.service, h.metadata, greatest(h.amount + 0.05 - h.captured, 0) - greatest(h.amount - h.captured, 0), 0, 0, 0);
				SELECT * INTO got FROM pg_temp.error_of(format('SELECT tokenbill.extend_hold(%L, %L, amount + 0.05) FROM tokenbill.holds WHERE hold_key = %2$L', 'r', h.key));
				IF got.sqlstate = '00000' THEN
					UPDATE held SET amount = amount + 0.05 WHERE held.key = h.key;
				END IF;
			ELSE
				/* in part, or finally; by usage, if there is a service */
				SELECT * INTO got FROM pg_temp.error_of(format('SELECT tokenbill.capture(%L, %L, usage => %L, amount => %L, idempotency_key => %L, final => %L)', 'r', h.key,
					CASE WHEN h.service IS NOT NULL THEN jsonb_build_object('tokens', n) END, CASE WHEN h.service IS NULL THEN n * 0.01 END, key, op > 0.84));
				INSERT INTO event VALUES (key, now, h.service, h.metadata, n * 0.01, 0, CASE WHEN h.service IS NULL THEN 0 ELSE n END, 0);
				UPDATE held SET captured = captured + n * 0.01, tokens = greatest(tokens - CASE WHEN h.service IS NULL THEN 0 ELSE n END, 0) WHERE held.key = h.key;
				DELETE FROM held WHERE held.key = h.key AND op > 0.84;
			END IF;
		ELSE
			SELECT * INTO e FROM event WHERE event.key IS NOT NULL AND price > refunded ORDER BY at DESC, event.key OFFSET floor(random() * 20) LIMIT 1;
			CONTINUE WHEN NOT FOUND;
			expected := NULL;
			SELECT * INTO got FROM pg_temp.error_of(format('SELECT tokenbill.refund(%L, %L, %L, 0.01)', 'r', e.key, key));
			UPDATE event SET refunded = refunded + 0.01 WHERE event.key = e.key;
			UPDATE tally SET refunds = refunds + 1;
		END IF;
		IF got.sqlstate IS DISTINCT FROM (CASE WHEN expected IS NULL THEN '00000' ELSE 'PT429' END) OR NOT coalesce(got.detail ->> 'name' = ANY (expected), true) THEN
			INSERT INTO wrong VALUES (i, format('op %s at %s', op, now), expected::text, got::text);
		END IF;
		UPDATE tally SET granted = granted + (got.sqlstate = '00000')::int, refused = refused + (got.sqlstate = 'PT429')::int;
		/* what the refusal says of the time to wait for */
		IF got.sqlstate = 'PT429' AND got.detail ->> 'resets_at' IS NOT NULL AND op < 0.5 THEN
			SELECT x.* INTO l FROM tokenbill.account a, unnest(a.limits) x WHERE a.account = 'r' AND x.name = got.detail ->> 'name';
			IF pg_temp.counted(l, (got.detail ->> 'resets_at')::timestamptz) + pg_temp.reserved(l) + (got.detail ->> 'required')::numeric > l.amount
			   OR pg_temp.counted(l, (got.detail ->> 'resets_at')::timestamptz - interval '1 microsecond') + pg_temp.reserved(l) + (got.detail ->> 'required')::numeric <= l.amount THEN
				INSERT INTO wrong VALUES (i, 'resets_at', NULL, got::text);
			END IF;
		END IF;
		IF i % 10 = 0 THEN
			INSERT INTO wrong SELECT i, name, row(pg_temp.counted(x.l, now), pg_temp.reserved(x.l))::text, row(v.used, v.held)::text
			FROM (SELECT name, spent AS used, held FROM tokenbill.spend_limits WHERE account = 'r' UNION ALL SELECT name, used, held FROM tokenbill.rate_limits WHERE account = 'r') v
			JOIN (SELECT y.name, y AS l FROM tokenbill.account a, unnest(a.limits) y WHERE a.account = 'r') x USING (name) WHERE pg_temp.counted(x.l, now) <> v.used OR pg_temp.reserved(x.l) <> v.held;
			INSERT INTO wrong SELECT i, problem, NULL, detail::text FROM tokenbill.verify_ledger('r');
		END IF;
	END LOOP;
END $$;
SELECT is_empty('SELECT * FROM wrong ORDER BY step LIMIT 3', 'each was granted or refused as the model has it, and counted so');
SELECT cmp_ok(granted, '>', 300, 'many were granted') FROM tally;
SELECT cmp_ok(refused, '>', 100, 'many were refused') FROM tally;
SELECT cmp_ok(least(held, refunds), '>', 30, 'with holds and refunds') FROM tally;
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all is sound');
SELECT * FROM finish();
ROLLBACK;
