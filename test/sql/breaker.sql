-- Circuit breakers: what opens and closes one, the probe, slowness, and that no other move is possible
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(75);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.add_provider(p, 'manual') FROM unnest('{p,share,slow,lost}'::text[]) p \g /dev/null

-- What the view says of one, in a line
CREATE FUNCTION pg_temp.say(name text, OUT result text) LANGUAGE sql AS $$
	SELECT concat_ws(' ', b.state, b.failures, b.failing || '/' || b.calls, to_char(b.retry_at, 'HH24:MI:SS')) FROM tokenbill.breakers b WHERE b.kind = 'provider' AND b.name = say.name
$$;
-- So many calls, g good and b bad, in this order
CREATE FUNCTION pg_temp.calls(name text, outcomes text, duration_ms integer DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE o text;
BEGIN
	FOREACH o IN ARRAY regexp_split_to_array(outcomes, '') LOOP
		PERFORM tokenbill.breaker_note('provider', name, o = 'g', duration_ms);
	END LOOP;
	RETURN pg_temp.say(name);
END $$;
CREATE FUNCTION pg_temp.at(clock timestamptz) RETURNS void LANGUAGE sql AS $$ SELECT set_config('tokenbill.clock', clock::text, true) $$;

-- Nobody has noted anything
SELECT is_empty('SELECT * FROM tokenbill.breakers', 'no calls, no breakers');
SELECT is(tokenbill.breaker_allows('provider', 'p'), true, 'and all is allowed');
SELECT is(tokenbill.breaker_retry_at('provider', 'p'), NULL, 'at once');
SELECT is_empty('SELECT * FROM tokenbill.breakers', 'asking makes none');
SELECT is(pg_temp.pick(b, 'state', 'max_failures', 'max_failing', 'window_calls', 'min_calls', 'open_for', 'probe_for', 'slow_ms', 'slow_calls', 'times_opened', 'changed_at'),
	'{"state": "closed", "max_failures": 5, "max_failing": 0.5, "window_calls": 20, "min_calls": 10, "open_for": "00:00:30", "probe_for": "00:01:00", "slow_ms": 1200, "slow_calls": 100, "times_opened": 0, "changed_at": "2026-03-01T12:00:00+00:00"}', 'set_breaker: what is set if nothing is set')
FROM tokenbill.set_breaker('provider', 'p') b;

-- Five in a row
SELECT is(pg_temp.calls('p', 'bbbb'), 'closed 4 4/4', 'four failures');
SELECT is(pg_temp.calls('p', 'g'), 'closed 0 4/5', 'a good one ends the row');
SELECT is(pg_temp.calls('p', 'bbbb'), 'closed 4 8/9', 'four more');
SELECT is(tokenbill.breaker_allows('provider', 'p'), true, 'it is asked');
SELECT is(pg_temp.calls('p', 'b'), 'open 5 9/10 12:00:30', 'the fifth opens it');
SELECT is(pg_temp.pick(b, 'opened_at', 'changed_at', 'times_opened'), '{"opened_at": "2026-03-01T12:00:00+00:00", "changed_at": "2026-03-01T12:00:00+00:00", "times_opened": 1}', 'when, and how often') FROM tokenbill.breakers b WHERE name = 'p';
SELECT is(tokenbill.breaker_allows('provider', 'p'), false, 'it is not asked');
SELECT is(tokenbill.breaker_retry_at('provider', 'p'), '2026-03-01 12:00:30+00'::timestamptz, 'until then');
SELECT is(pg_temp.calls('p', 'ggbbbbbbb'), 'open 5 9/10 12:00:30', 'what was under way when it opened changes nothing');
SELECT is(tokenbill.breaker_allows('gateway', 'p'), true, 'a gateway of the same name is another');
SELECT pg_temp.at('2026-03-01 12:00:29.999999+00') \g /dev/null
SELECT is(tokenbill.breaker_allows('provider', 'p'), false, 'nor a microsecond too early');

-- One probe
SELECT pg_temp.at('2026-03-01 12:00:30+00') \g /dev/null
SELECT is(tokenbill.breaker_allows('provider', 'p'), true, 'after thirty seconds one may');
SELECT is(pg_temp.say('p'), 'half_open 5 9/10 12:01:30', 'half open');
SELECT is(tokenbill.breaker_allows('provider', 'p'), false, 'and no other');
SELECT is(tokenbill.breaker_retry_at('provider', 'p'), '2026-03-01 12:01:30+00'::timestamptz, 'before the probe counts as lost');
SELECT pg_temp.at('2026-03-01 12:00:31+00') \g /dev/null
SELECT is(pg_temp.calls('p', 'b'), 'open 6 0/0 12:01:01', 'a failed probe opens it again');
SELECT is(tokenbill.breaker_allows('provider', 'p'), false, 'for as long');
SELECT pg_temp.at('2026-03-01 12:01:01+00') \g /dev/null
SELECT is(tokenbill.breaker_allows('provider', 'p'), true, 'the next probe');
SELECT is(pg_temp.calls('p', 'g'), 'closed 0 0/0', 'a good one closes it');
SELECT is(tokenbill.breaker_allows('provider', 'p'), true, 'for all');
SELECT is(pg_temp.pick(b, 'opened_at', 'changed_at', 'times_opened', 'retry_at'), '{"opened_at": "2026-03-01T12:00:31+00:00", "changed_at": "2026-03-01T12:01:01+00:00", "times_opened": 2, "retry_at": null}', 'its history is counted') FROM tokenbill.breakers b WHERE name = 'p';
SELECT is(pg_temp.calls('p', 'b'), 'closed 1 1/1', 'the window begins anew: one failure is not half of it');

-- A probe that is lost, and one that learned nothing
SELECT pg_temp.calls('lost', 'bbbbb'), pg_temp.at('2026-03-01 12:02:00+00') \g /dev/null
SELECT is(tokenbill.breaker_allows('provider', 'lost'), true, 'a probe of which nobody hears again');
SELECT pg_temp.at('2026-03-01 12:02:59+00') \g /dev/null
SELECT is(tokenbill.breaker_allows('provider', 'lost'), false, 'blocks for a minute');
SELECT pg_temp.at('2026-03-01 12:03:00+00') \g /dev/null
SELECT is(tokenbill.breaker_allows('provider', 'lost'), true, 'then there is another');
SELECT is(tokenbill.breaker_allows('provider', 'lost'), false, 'one');
SELECT is(changed_at, '2026-03-01 12:02:00+00'::timestamptz, 'it was half open all the time') FROM tokenbill.breakers WHERE name = 'lost';
SELECT tokenbill.breaker_note('provider', 'lost', NULL, 5) \g /dev/null
SELECT is(pg_temp.say('lost'), 'half_open 5 5/5 12:03:00', 'a probe that learned nothing is given back');
SELECT is(tokenbill.breaker_allows('provider', 'lost'), true, 'for another at once');
SELECT tokenbill.breaker_note('provider', 'lost', true, NULL), tokenbill.breaker_note('provider', 'lost', NULL, NULL) \g /dev/null
SELECT is(pg_temp.say('lost'), 'closed 0 0/0', 'while it is closed, learning nothing changes nothing');

-- Half of the window
SELECT is(pg_temp.calls('share', 'gbgbgbgbg'), 'closed 0 4/9', 'nine calls say nothing of shares');
SELECT is(pg_temp.calls('share', 'g'), 'closed 0 4/10', 'four of ten are fewer than half');
SELECT is(pg_temp.calls('share', 'gggggggggg'), 'closed 0 4/20', 'twenty are a window');
SELECT is(pg_temp.calls('share', 'g'), 'closed 0 4/20', 'which the oldest leaves');
SELECT is(pg_temp.calls('share', 'g'), 'closed 0 3/20', 'failures, too');
SELECT is(pg_temp.calls('share', 'bbbgbbbg'), 'closed 0 6/20', 'six of twenty');
SELECT is(pg_temp.calls('share', 'bbbg'), 'closed 0 9/20', 'nine of twenty');
SELECT is(pg_temp.calls('share', 'b'), 'open 1 10/20 12:03:30', 'half of them open it');

-- Slow
SELECT is(pg_temp.calls('slow', 'ggggggggg', 1201), 'closed 0 0/9', 'nine slow calls');
SELECT is(pg_temp.pick(b, 'p99_ms', 'slow_since'), '{"p99_ms": null, "slow_since": null}', 'say nothing of percentiles') FROM tokenbill.breakers b WHERE name = 'slow';
SELECT is(pg_temp.calls('slow', 'g', 1201), 'closed 0 0/10', 'ten do');
SELECT is(pg_temp.pick(b, 'p99_ms', 'slow_since'), '{"p99_ms": 1201, "slow_since": "2026-03-01T12:03:00+00:00"}', 'slow, and not open') FROM tokenbill.breakers b WHERE name = 'slow';
SELECT pg_temp.at('2026-03-01 12:04+00'), pg_temp.calls('slow', repeat('g', 50), 1200) \g /dev/null
SELECT is(pg_temp.pick(b, 'p99_ms', 'slow_since'), '{"p99_ms": 1201, "slow_since": "2026-03-01T12:03:00+00:00"}', 'since then, while one in a hundred is too slow') FROM tokenbill.breakers b WHERE name = 'slow';
SELECT pg_temp.calls('slow', repeat('g', 48), 1200) \g /dev/null
SELECT is(pg_temp.pick(b, 'p99_ms', 'slow_since'), '{"p99_ms": 1201, "slow_since": "2026-03-01T12:03:00+00:00"}', 'two are left of the hundred') FROM tokenbill.breakers b WHERE name = 'slow';
SELECT pg_temp.calls('slow', 'g', 1200) \g /dev/null
SELECT is(pg_temp.pick(b, 'p99_ms', 'slow_since'), '{"p99_ms": 1200, "slow_since": null}', 'one slow call of a hundred is none') FROM tokenbill.breakers b WHERE name = 'slow';
SELECT is(cardinality(durations), 100, 'no more are kept') FROM tokenbill.breaker WHERE name = 'slow';
SELECT is(pg_temp.say('slow'), 'closed 0 0/20', 'nor outcomes');

-- Thresholds
SELECT is(pg_temp.pick(b, 'max_failures', 'open_for', 'retry_at', 'state', 'window_calls', 'min_calls'), '{"max_failures": 2, "open_for": "00:02:00", "retry_at": "2026-03-01T12:05:00+00:00", "state": "open", "window_calls": 20, "min_calls": 10}', 'open_for counts from when it opened')
FROM tokenbill.set_breaker('provider', 'share', max_failures => 2, open_for => '2 minutes') b;
SELECT pg_temp.at('2026-03-01 12:05+00'), tokenbill.breaker_allows('provider', 'share'), pg_temp.calls('share', 'g') \g /dev/null
SELECT is(pg_temp.calls('share', 'bb'), 'open 2 2/2 12:07:00', 'two in a row are now enough');
SELECT is(pg_temp.pick(b, 'max_failures', 'window_calls', 'min_calls', 'max_failing', 'slow_ms', 'slow_calls', 'probe_for'), '{"max_failures": 1000, "window_calls": 4, "min_calls": 4, "max_failing": 1, "slow_ms": 50, "slow_calls": 2, "probe_for": "00:00:10"}', 'all of them')
FROM tokenbill.set_breaker('provider', 'p', 1000, 1, 4, 4, NULL, '10 seconds', 50, 2) b;
SELECT is(pg_temp.calls('p', 'ggbbb'), 'closed 3 3/4', 'a smaller window');
SELECT is(pg_temp.calls('p', 'b', 51), 'open 4 4/4 12:05:30', 'all of its calls');
SELECT is(pg_temp.pick(b, 'kind', 'name', 'max_failures', 'state'), '{"kind": "gateway", "name": "g", "max_failures": 3, "state": "closed"}', 'a gateway''s') FROM tokenbill.set_breaker('gateway', 'g', 3) b;
SELECT pg_temp.refused(statement, sqlstate, detail, description) FROM (VALUES
	($$SELECT tokenbill.set_breaker('provider', 'nobody')$$, 'PT404', '{"provider": "nobody"}'::jsonb, 'no such provider'),
	($$SELECT tokenbill.set_breaker('thing', 'p')$$, '22023', '{"argument": "kind"}', 'no such kind'),
	($$SELECT tokenbill.set_breaker('provider', 'p', max_failing => 1.01)$$, '22023', '{"argument": "max_failing"}', 'more than all'),
	($$SELECT tokenbill.set_breaker('provider', 'p', max_failing => 'NaN')$$, '22023', '{"argument": "max_failing"}', 'NaN of all'),
	($$SELECT tokenbill.set_breaker('provider', 'p', window_calls => 1001)$$, '22023', '{"argument": "window_calls"}', 'too long a window'),
	($$SELECT tokenbill.set_breaker('provider', 'p', min_calls => 5)$$, '22023', '{"argument": "min_calls", "min_calls": 5, "window_calls": 4}', 'more than the window has'),
	($$SELECT tokenbill.set_breaker('provider', 'p', open_for => '2 days')$$, '22023', '{"argument": "open_for"}', 'open for days'),
	($$SELECT tokenbill.set_breaker('provider', 'p', probe_for => '0')$$, '22023', '{"argument": "probe_for"}', 'no time for a probe')) v(statement, sqlstate, detail, description);

-- States move as the diagram says, whoever tries
SELECT pg_temp.refused(format('UPDATE tokenbill.breaker SET state = %L, retry_at = %L WHERE name = %L', state, retry_at, name), 'PT409', detail, description) FROM (VALUES
	('closed', NULL, 'p', '{"table": "breaker", "kind": "provider", "name": "p", "was": "open", "now": "closed"}'::jsonb, 'open does not close without a probe'),
	('half_open', '2026-03-01', 'slow', '{"was": "closed", "now": "half_open"}', 'closed does not half open')) v(state, retry_at, name, detail, description);
SELECT is((pg_temp.error_of($$UPDATE tokenbill.breaker SET state = 'ajar', retry_at = '2026-03-01' WHERE name = 'p'$$)).sqlstate, 'PT409', 'there is no other state');
SELECT is((pg_temp.error_of($$UPDATE tokenbill.breaker SET retry_at = NULL WHERE name = 'p'$$)).sqlstate, '23514', 'open ends at some time');

-- With its provider it goes
SELECT tokenbill.drop_provider('p'), tokenbill.add_provider('p', 'manual') \g /dev/null
SELECT is(pg_temp.say('p'), NULL, 'a provider that was dropped begins anew');
SELECT is(array_agg(name ORDER BY name), '{g,lost,share,slow}'::text[], 'the others stay') FROM tokenbill.breakers;

-- Nobody but the worker and administrators
CREATE ROLE br_admin LOGIN IN ROLE tokenbill_admin;
SELECT tokenbill.create_account('ann') \g /dev/null
SELECT is((pg_temp.error_of($$SELECT tokenbill.set_breaker('provider', 'slow')$$, 'br_admin')).sqlstate, '00000', 'an administrator may set thresholds');
SELECT tokenbill.map_tenant('br_admin', 'ann') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.set_breaker('provider', 'slow')$$, '42501', '{"argument": "name"}', 'a tenant may not', 'br_admin');
SELECT is(pg_temp.rows_as('SELECT * FROM tokenbill.breakers', 'br_admin'), '[]', 'nor see any');
SELECT * FROM finish();
ROLLBACK;
