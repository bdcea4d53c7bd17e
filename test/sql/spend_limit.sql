-- Spend limits: windows, scopes, holds, refunds, alerts
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(240);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account(a, credit_limit => 1000000) FROM unnest('{plain,win,roll,many,scope,held,over,back,sand,old,proof,al}'::text[]) a \g /dev/null
-- What a limit says it has spent and has left
CREATE FUNCTION pg_temp.spent(a text, n text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT pg_temp.pick(v, 'spent', 'held', 'remaining') FROM tokenbill.spend_limits v WHERE account = a AND name = n $$;
CREATE SEQUENCE pg_temp.keys;
-- Charges an amount at a time, and says how it ended
CREATE FUNCTION pg_temp.charged_at(a text, amount numeric, at timestamptz, key text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('tokenbill.clock', at::text, true);
	RETURN (pg_temp.error_of(format('SELECT tokenbill.charge_amount(%L, %s, %L)', a, amount, coalesce(key, 'at-' || nextval('pg_temp.keys'))))).sqlstate;
END $$;

-- Set, shown, replaced, dropped
SELECT is(to_jsonb(r) - 'period', '{"account": "plain", "name": "spend:day", "what": "spend", "amount": 5, "every": "day", "timezone": "UTC", "service": null, "tag": null,
	"action": "refuse", "created_at": "2026-03-01T12:00:00+00:00", "starts_at": "2026-03-01T00:00:00+00:00", "ends_at": "2026-03-02T00:00:00+00:00",
	"tail_seq": null, "next_at": null, "counted": 0, "held": 0, "alerted_at": null}', 'the row of a limit') FROM tokenbill.set_spend_limit('plain', 5, 'day') r;
SELECT is(to_jsonb(v), '{"account": "plain", "name": "spend:day", "amount": 5, "spent": 0, "held": 0, "remaining": 5, "currency": "USD", "every": "day", "timezone": "UTC",
	"service": null, "tag": null, "action": "refuse", "starts_at": "2026-03-01T00:00:00+00:00", "resets_at": "2026-03-02T00:00:00+00:00",
	"alerted_at": null, "created_at": "2026-03-01T12:00:00+00:00"}', 'spend_limits shows it') FROM tokenbill.spend_limits v WHERE account = 'plain';
SELECT is(cardinality(limits), 1, 'the account has it') FROM tokenbill.account WHERE account = 'plain';
SELECT is(amount, 7::numeric, 'the same again has another amount') FROM tokenbill.set_spend_limit('plain', 7, 'day');
SELECT results_eq($$SELECT name, amount FROM tokenbill.spend_limits WHERE account = 'plain'$$, $$VALUES ('spend:day' COLLATE "C", 7::numeric)$$, 'and replaces it');
SELECT is(name, n, 'a name says what it is') FROM (VALUES ('week', 'gpt', '{"team": "red"}'::jsonb, 'refuse', 'spend:week:gpt:{"team": "red"}'), ('5 hours', NULL, NULL, 'alert', 'alert:spend:5 hours')) v(e, s, t, ac, n),
	LATERAL tokenbill.set_spend_limit('plain', 5, e, s, t, action => ac);
SELECT is(name, 'mine', 'or is given') FROM tokenbill.set_spend_limit('plain', 5, 'day', name => 'mine');
SELECT is(cardinality(limits), 4, 'four') FROM tokenbill.account WHERE account = 'plain';
SELECT is(tokenbill.drop_limit('plain', 'mine'), true, 'dropped');
SELECT is(tokenbill.drop_limit('plain', 'mine'), false, 'not twice');
SELECT is(cardinality(limits), 3, 'three') FROM tokenbill.account WHERE account = 'plain';

-- Arguments
SELECT pg_temp.refused(s, code, d::jsonb, s) FROM (VALUES
	($$SELECT tokenbill.set_spend_limit(NULL, 5, 'day')$$, '22004', '{"argument": "account"}'),
	($$SELECT tokenbill.set_spend_limit('nobody', 5, 'day')$$, 'PT404', '{"account": "nobody"}'),
	($$SELECT tokenbill.set_spend_limit('plain', NULL, 'day')$$, '22004', '{"argument": "amount"}'),
	($$SELECT tokenbill.set_spend_limit('plain', -1, 'day')$$, '22023', '{"argument": "amount"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 'NaN', 'day')$$, '22003', '{"argument": "amount"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, NULL)$$, '22004', '{"argument": "every"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'fortnight')$$, '22023', '{"argument": "every"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, '1 month')$$, '22023', '{"argument": "every"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, '-1 day')$$, '22023', '{"argument": "every"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, '367 days')$$, '22023', '{"argument": "every"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, '0.5 seconds')$$, '22023', '{"argument": "every"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, '99999999999999999 days')$$, '22023', '{"argument": "every"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'day', service => '')$$, '22023', '{"argument": "service"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'day', tag => '{}')$$, '22023', '{"argument": "tag"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'day', tag => '"red"')$$, '22023', '{"argument": "tag"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'day', tag => jsonb_build_object('t', repeat('x', 2000)))$$, '22023', '{"argument": "tag"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'day', timezone => 'Mars/Olympus')$$, '22023', '{"argument": "timezone"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'day', timezone => 'CEST')$$, '22023', '{"argument": "timezone"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'day', timezone => 'FOO3')$$, '22023', '{"argument": "timezone"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'day', timezone => NULL)$$, '22004', '{"argument": "timezone"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'day', action => 'ignore')$$, '22023', '{"argument": "action"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'day', action => NULL)$$, '22004', '{"argument": "action"}'),
	($$SELECT tokenbill.set_spend_limit('plain', 5, 'day', name => '')$$, '22023', '{"argument": "name"}'),
	($$SELECT tokenbill.drop_limit('nobody', 'x')$$, 'PT404', '{"account": "nobody"}'),
	($$SELECT tokenbill.drop_limit('plain', NULL)$$, '22004', '{"argument": "name"}')) v(s, code, d);
SELECT tokenbill.set_spend_limit('many', 1000, 'day', name => 'n' || i) FROM generate_series(1, 64) i \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.set_spend_limit('many', 1000, 'day', name => 'n65')$$, 'PT409', '{"account": "many", "limits": 64}', 'sixty-four are enough');
SELECT is(amount, 999::numeric, 'one of them may still be changed') FROM tokenbill.set_spend_limit('many', 999, 'day', name => 'n64');
SELECT is(amount, -1::numeric, 'and all of them are counted') FROM tokenbill.charge_amount('many', 1, 'one');
SELECT is(array_agg(DISTINCT spent), '{1}', 'each') FROM tokenbill.spend_limits WHERE account = 'many';

-- Calendar windows, against arithmetic on local times: every few hours for a year
CREATE FUNCTION pg_temp.windows_off(zone text, unit text, step interval) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM generate_series(timestamptz '2023-01-01 00:15+00', '2024-01-02', step) at, LATERAL tokenbill.limit_window(unit, zone, at) w
	WHERE NOT (w.starts_at <= at AND at < w.ends_at)
	OR (w.starts_at AT TIME ZONE zone, w.ends_at AT TIME ZONE zone) IS DISTINCT FROM (((date_trunc(unit, at AT TIME ZONE zone)) AT TIME ZONE zone) AT TIME ZONE zone,
		((date_trunc(unit, at AT TIME ZONE zone) + ('1 ' || unit)::interval) AT TIME ZONE zone) AT TIME ZONE zone) $$;
SELECT is(pg_temp.windows_off(zone, unit, '3 hours'), 0::bigint, format('every %s in %s', unit, zone))
FROM unnest('{UTC,Europe/Berlin,America/New_York,Asia/Kolkata,Australia/Lord_Howe,America/Santiago,Africa/Cairo}'::text[]) zone, unnest('{day,week,month}'::text[]) unit;
-- what has been does not change any more, whatever time zones come to be
SELECT is(w.ends_at - w.starts_at, d::interval, format('%s in %s: %s', unit, zone, d)) FROM (VALUES
	('day', 'Europe/Berlin', timestamptz '2023-03-26 00:30+00', '23:00:00'), ('day', 'Europe/Berlin', '2023-10-29 12:00+00', '25:00:00'), ('day', 'UTC', '2023-03-26 12:00+00', '24:00:00'),
	('hour', 'America/New_York', '2023-11-05 05:59:59.999999+00', '01:00:00'), ('week', 'Europe/Berlin', '2023-03-24 12:00+00', '6 days 23:00:00'), ('day', 'America/Santiago', '2023-09-03 12:00+00', '23:00:00'),
	('minute', 'Asia/Kolkata', '2023-11-05 05:59:59.999999+00', '00:01:00'), ('month', 'Europe/Berlin', '2023-03-01 00:00+00', '30 days 23:00:00')) v(unit, zone, at, d), LATERAL tokenbill.limit_window(unit, zone, at) w;
SELECT is(row(w.starts_at, w.ends_at)::text, row(s, e)::text, note) FROM (VALUES
	('hour', 'America/New_York', timestamptz '2023-11-05 05:30+00', timestamptz '2023-11-05 05:00+00', timestamptz '2023-11-05 06:00+00', 'the hour that comes twice: the first time'),
	('hour', 'America/New_York', '2023-11-05 06:30+00', '2023-11-05 06:00+00', '2023-11-05 07:00+00', 'and the second'),
	('day', 'Europe/Berlin', '2023-03-25 22:59:59.999999+00', '2023-03-24 23:00+00', '2023-03-25 23:00+00', 'the last moment of a day in Berlin'),
	('day', 'Europe/Berlin', '2023-03-25 23:00+00', '2023-03-25 23:00+00', '2023-03-26 22:00+00', 'and the first of the next'),
	('day', 'America/Havana', '2023-11-05 04:30+00', '2023-11-04 04:00+00', '2023-11-05 05:00+00', 'between two midnights it is still yesterday'),
	('day', 'America/Havana', '2023-11-05 05:00+00', '2023-11-05 05:00+00', '2023-11-06 05:00+00', 'until the second'),
	('day', 'Pacific/Apia', '2011-12-30 09:59+00', '2011-12-29 10:00+00', '2011-12-30 10:00+00', 'a day before one that was left out'),
	('day', 'Pacific/Apia', '2011-12-30 10:00+00', '2011-12-30 10:00+00', '2011-12-31 10:00+00', 'and the one after it'),
	('week', 'UTC', '2026-03-01 12:00+00', '2026-02-23 00:00+00', '2026-03-02 00:00+00', 'a week begins on Monday')) v(unit, zone, at, s, e, note), LATERAL tokenbill.limit_window(unit, zone, at) w;

-- Each kind of window: full, refused until the last moment, empty with the next
SELECT tokenbill.create_account('w-' || u, credit_limit => 100), tokenbill.set_spend_limit('w-' || u, 2, u, timezone => z) FROM (VALUES ('minute', 'UTC'), ('hour', 'UTC'), ('day', 'Europe/Berlin'), ('week', 'Europe/Berlin'), ('month', 'Asia/Kolkata')) v(u, z) \g /dev/null
SELECT is(pg_temp.charged_at('w-' || u, 2, at), '00000', u || ': up to the limit') FROM (VALUES ('minute', timestamptz '2026-03-27 12:00:00+00'), ('hour', '2026-03-27 12:00:00+00'), ('day', '2026-03-29 12:00:00+00'), ('week', '2026-03-27 12:00:00+00'), ('month', '2026-03-27 12:00:00+00')) v(u, at);
SELECT is(pg_temp.charged_at('w-' || u, 0.000001, e - interval '1 microsecond'), 'PT429', u || ': no more, to the last moment') FROM (VALUES ('minute', timestamptz '2026-03-27 12:01:00+00'), ('hour', '2026-03-27 13:00:00+00'), ('day', '2026-03-29 22:00:00+00'), ('week', '2026-03-29 22:00:00+00'), ('month', '2026-03-31 18:30:00+00')) v(u, e);
SELECT is((pg_temp.error_of(format($$SELECT tokenbill.charge_amount('w-%s', 0.5, 'x')$$, u))).detail ->> 'resets_at', e, u || ': which resets_at says') FROM (VALUES ('day', '2026-03-29T22:00:00+00:00')) v(u, e), set_config('tokenbill.clock', '2026-03-29 21:00:00+00', true);
SELECT is(pg_temp.charged_at('w-' || u, 2, e), '00000', u || ': the next begins at nothing') FROM (VALUES ('minute', timestamptz '2026-03-27 12:01:00+00'), ('hour', '2026-03-27 13:00:00+00'), ('day', '2026-03-29 22:00:00+00'), ('week', '2026-03-29 22:00:00+00'), ('month', '2026-03-31 18:30:00+00')) v(u, e);
SELECT is(pg_temp.charged_at('w-' || u, 0.01, e), 'PT429', u || ': and is full again') FROM (VALUES ('minute', timestamptz '2026-03-27 12:01:30+00'), ('hour', '2026-03-27 13:30:00+00'), ('day', '2026-03-30 21:59:00+00'), ('week', '2026-04-05 21:59:00+00'), ('month', '2026-04-30 18:29:00+00')) v(u, e);
SELECT is(pg_temp.spent('w-day', 'spend:day'), '{"spent": 0, "held": 0, "remaining": 2}', 'the view knows when a window is over') FROM set_config('tokenbill.clock', '2026-06-01 12:00:00+00', true);

-- The refusal, member by member
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.set_spend_limit('win', 3, 'day', timezone => 'America/New_York') \g /dev/null
SELECT tokenbill.charge_amount('win', 2, 'first') \g /dev/null
SELECT is(detail, '{"account": "win", "name": "spend:day", "what": "spend", "scope": "account", "service": null, "tag": null, "every": "day", "limit": 3, "spent": 2, "held": 0,
	"required": 1.01, "resets_at": "2026-03-02T05:00:00+00:00"}', 'DETAIL of a limit') FROM pg_temp.error_of($$SELECT tokenbill.charge_amount('win', 1.01, 'second')$$);
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('win', 1.01, 'second')$$, 'PT429', '{"limit": 3}', 'PT429');
SELECT matches((pg_temp.error_of($$SELECT tokenbill.charge_amount('win', 4, 'second')$$)).hint, 'not fit by waiting alone', 'what is more than the limit never fits: the hint says so, resets_at is when the window ends');
SELECT is(amount, -1::numeric, 'the last cent of it can be spent; the key was free') FROM tokenbill.charge_amount('win', 1, 'second');
SELECT is(replayed, true, 'a full limit replays what was granted') FROM tokenbill.charge_amount('win', 1, 'second');
SELECT is(pg_temp.spent('win', 'spend:day'), '{"spent": 3, "held": 0, "remaining": 0}', 'and counts it once');
SELECT tokenbill.set_price('free', 'tokens', 0) \g /dev/null
SELECT is(amount, 0::numeric, 'what costs nothing fits everywhere') FROM tokenbill.charge_tokens('win', 'free', 5, 'free');
SELECT is(amount, 0::numeric, 'nothing at all may be allowed') FROM tokenbill.set_spend_limit('old', 0, 'day');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('old', 0.01, 'x')$$, 'PT429', '{"limit": 0}', 'then nothing is');

-- Rolled back, it never was
SAVEPOINT s;
SELECT tokenbill.set_spend_limit('win', 10, 'day', timezone => 'America/New_York'), tokenbill.charge_amount('win', 5, 'gone') \g /dev/null
ROLLBACK TO s;
SELECT is(pg_temp.spent('win', 'spend:day'), '{"spent": 3, "held": 0, "remaining": 0}', 'a charge that is rolled back is not counted');

-- Rolling: (now - 5 hours, now], to the microsecond
SELECT tokenbill.set_spend_limit('roll', 10, '5 hours') \g /dev/null
SELECT is(pg_temp.charged_at('roll', amount, at), '00000', format('%s at %s', amount, at)) FROM (VALUES (4, timestamptz '2026-03-01 12:00:00+00'), (3, '2026-03-01 13:00:00+00'), (2, '2026-03-01 13:00:00+00'), (1, '2026-03-01 14:30:00+00')) v(amount, at);
SELECT is(pg_temp.charged_at('roll', 0.01, '2026-03-01 16:59:59.999999+00'), 'PT429', 'full until the first is five hours old');
SELECT is((pg_temp.error_of(format($$SELECT tokenbill.charge_amount('roll', %s, 'x')$$, a))).detail ->> 'resets_at', e, format('%s fit at %s', a, e))
FROM (VALUES (4, '2026-03-01T17:00:00+00:00'), (4.01, '2026-03-01T18:00:00+00:00'), (9, '2026-03-01T18:00:00+00:00'), (9.5, '2026-03-01T19:30:00+00:00'), (10, '2026-03-01T19:30:00+00:00'), (10.5, NULL)) v(a, e);
SELECT is(pg_temp.charged_at('roll', 4.01, '2026-03-01 17:00:00+00'), 'PT429', 'then it has left, and no more than it');
SELECT is(pg_temp.charged_at('roll', 4, '2026-03-01 17:00:00+00'), '00000', 'so there is room for as much');
SELECT is(pg_temp.charged_at('roll', 0.01, '2026-03-01 17:59:59.999999+00'), 'PT429', 'full again');
SELECT is(pg_temp.charged_at('roll', 5, '2026-03-01 18:00:00+00'), '00000', 'two leave at once');
SELECT is(pg_temp.charged_at('roll', 0.01, '2026-03-01 19:29:59.999999+00'), 'PT429', 'full');
SELECT is(pg_temp.spent('roll', 'spend:5 hours'), '{"spent": 9, "held": 0, "remaining": 1}', 'the view follows without a charge') FROM set_config('tokenbill.clock', '2026-03-01 19:30:00+00', true);
SELECT is(pg_temp.charged_at('roll', 10, '2026-03-03 00:00:00+00'), '00000', 'after a long time it is empty');
SELECT is(pg_temp.charged_at('roll', 0.01, '2026-03-03 00:00:00+00'), 'PT429', 'and full');
-- many small ones, against a sum over the ledger
SET LOCAL tokenbill.clock = '2026-03-10 00:00:00+00';
SELECT tokenbill.create_account('tiny', credit_limit => 100), tokenbill.set_spend_limit('tiny', 1000, '90 seconds') \g /dev/null
SELECT count(pg_temp.charged_at('tiny', 0.001 * i, '2026-03-10 00:00:00+00'::timestamptz + 700 * i * interval '1 millisecond')) FROM generate_series(1, 300) i \g /dev/null
SELECT is((pg_temp.spent('tiny', 'spend:90 seconds') ->> 'spent')::numeric, (SELECT -sum(amount) FROM tokenbill.ledger WHERE account = 'tiny' AND created_at > tokenbill.clock() - interval '90 seconds'), 'a sum that rolled over 300 charges');
SELECT is((SELECT l.counted FROM tokenbill.account a, unnest(a.limits) l WHERE a.account = 'tiny' AND l.name = 'spend:90 seconds'), (SELECT -sum(amount) FROM tokenbill.ledger WHERE account = 'tiny' AND created_at > tokenbill.clock() - interval '90 seconds'), 'and so says the counter');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('tiny')$$, 'sound');

-- Set late, it counts what there was
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SET LOCAL tokenbill.clock = '2026-03-01 09:00:00+00';
SELECT tokenbill.create_account('again', credit_limit => 100) \g /dev/null
SELECT pg_temp.charged_at('again', 2, '2026-03-01 10:00:00+00'), pg_temp.charged_at('again', 3, '2026-03-01 11:00:00+00') \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.hold('again', 1, 'late') \g /dev/null
SELECT is(row(counted, held)::text, '(5,1)', 'what was charged and held before: day') FROM tokenbill.set_spend_limit('again', 10, 'day');
SELECT is(row(counted, held)::text, '(3,1)', 'two hours, of which one charge is just too old') FROM tokenbill.set_spend_limit('again', 10, '2 hours');
SELECT is(pg_temp.charged_at('again', 6.01, '2026-03-01 12:59:59.999999+00'), 'PT429', 'it goes on from there');
SELECT is(pg_temp.charged_at('again', 4, '2026-03-01 13:00:00+00'), '00000', 'with both');
SELECT is(pg_temp.spent('again', 'spend:2 hours'), '{"spent": 4, "held": 1, "remaining": 5}', 'eleven o''clock has left two hours');

-- Several at once; by service, by prefix, by tag
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.set_spend_limit('scope', 10, 'day'), tokenbill.set_spend_limit('scope', 4, 'day', service => 'gpt-5'), tokenbill.set_spend_limit('scope', 6, 'month', service => 'gpt-*'),
	tokenbill.set_spend_limit('scope', 3, 'month', tag => '{"team": "red"}'), tokenbill.set_spend_limit('scope', 1, 'hour', service => 'gpt-5', tag => '{"team": "red", "env": "dev"}') \g /dev/null
SELECT is(a.sqlstate || coalesce(':' || (a.detail ->> 'scope') || ':' || (a.detail ->> 'name'), ''), expected, format('%s for %s %s', amount, service, tags)) FROM (VALUES
	(1, 4, 'gpt-5', '{}', '00000'), (2, 0.5, 'gpt-5', '{}', 'PT429:service:spend:day:gpt-5'), (3, 2, 'gpt-4', '{}', '00000'), (4, 0.5, 'gpt-4', '{}', 'PT429:service:spend:month:gpt-*'),
	(5, 2, 'claude', '{"team": "red"}', '00000'), (6, 1.5, 'claude', '{"team": "red", "env": "dev"}', 'PT429:tag:spend:month:{"team": "red"}'), (7, 1, 'claude', '{"team": ["red"]}', '00000'),
	(8, 1.5, NULL, '{"team": "blue"}', 'PT429:account:spend:day'), (9, 1, NULL, '{"team": "blue"}', '00000')) v(n, amount, service, tags, expected),
	LATERAL pg_temp.error_of(format('SELECT tokenbill.charge_amount(%L, %s, %L, %L, metadata => %L)', 'scope', amount, 'k' || n, service, tags)) a;
SELECT results_eq($$SELECT name COLLATE "default", spent FROM tokenbill.spend_limits WHERE account = 'scope' ORDER BY name$$,
	$$VALUES ('spend:day', 10::numeric), ('spend:day:gpt-5', 4), ('spend:hour:gpt-5:{"env": "dev", "team": "red"}', 0), ('spend:month:gpt-*', 6), ('spend:month:{"team": "red"}', 2)$$, 'each counts its own');
SELECT is((pg_temp.error_of($$SELECT tokenbill.charge_amount('scope', 1, 'all', 'gpt-5', metadata => '{"team": "red", "env": "dev"}')$$)).detail ->> 'name', 'spend:month:gpt-*', 'of several, the one that lasts longest');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('scope')$$, 'sound');

-- Holds: reserved at once, in whatever window the capture comes
SET LOCAL tokenbill.clock = '2026-03-01 23:59:00+00';
SELECT tokenbill.set_spend_limit('held', 10, 'day'), tokenbill.set_spend_limit('held', 5, 'day', tag => '{"t": 1}'), tokenbill.set_spend_limit('held', 10, '1 hour') \g /dev/null
SELECT tokenbill.hold('held', 4, 'h1', metadata => '{"t": 1}') \g /dev/null
SELECT is(pg_temp.spent('held', 'spend:day'), '{"spent": 0, "held": 4, "remaining": 6}', 'a hold is held');
SELECT pg_temp.refused($$SELECT tokenbill.hold('held', 6.01, 'h2')$$, 'PT429', '{"spent": 0, "held": 4, "required": 6.01}', 'and leaves that much less for another');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('held', 6.01, 'c2')$$, 'PT429', '{"spent": 0, "held": 4}', 'or a charge');
SELECT pg_temp.refused($$SELECT tokenbill.extend_hold('held', 'h1', 5.5)$$, 'PT429', '{"scope": "tag", "held": 4, "required": 1.5}', 'an extension is of the hold''s tag');
SELECT tokenbill.extend_hold('held', 'h1', 5) \g /dev/null
SELECT is(pg_temp.spent('held', 'spend:day:{"t": 1}'), '{"spent": 0, "held": 5, "remaining": 0}', 'it may grow to the limit');
SELECT is(amount, -2::numeric, 'captured') FROM tokenbill.capture('held', 'h1', amount => 2, final => false, idempotency_key => 'p1');
SELECT is(pg_temp.spent('held', n), e::jsonb, n || ': what is captured is spent, the rest stays held') FROM (VALUES ('spend:day', '{"spent": 2, "held": 3, "remaining": 5}'), ('spend:day:{"t": 1}', '{"spent": 2, "held": 3, "remaining": 0}'), ('spend:1 hour', '{"spent": 2, "held": 3, "remaining": 5}')) v(n, e);
SET LOCAL tokenbill.clock = '2026-03-02 00:00:00+00';
SELECT is(pg_temp.spent('held', n), e::jsonb, n || ': what is held is held in the next window') FROM (VALUES ('spend:day', '{"spent": 0, "held": 3, "remaining": 7}'), ('spend:1 hour', '{"spent": 2, "held": 3, "remaining": 5}')) v(n, e);
SELECT is(pg_temp.charged_at('held', 5.01, '2026-03-02 00:00:00+00'), 'PT429', 'by charges, too');
SELECT is(amount, -1::numeric, 'captured there') FROM tokenbill.capture('held', 'h1', amount => 1);
SELECT is(pg_temp.spent('held', n), e::jsonb, n || ': spent there, and nothing held') FROM (VALUES ('spend:day', '{"spent": 1, "held": 0, "remaining": 9}'), ('spend:day:{"t": 1}', '{"spent": 1, "held": 0, "remaining": 4}'), ('spend:1 hour', '{"spent": 3, "held": 0, "remaining": 7}')) v(n, e);
SELECT tokenbill.hold('held', 2, 'h3'), tokenbill.release('held', 'h3'), tokenbill.hold('held', 3, 'h4', on_expiry => 'charge', ttl => '1 min', metadata => '{"t": 1}'), tokenbill.hold('held', 3, 'h5', ttl => '1 min') \g /dev/null
SELECT is(pg_temp.spent('held', 'spend:day'), '{"spent": 1, "held": 6, "remaining": 3}', 'released: nothing of it; two more') FROM tokenbill.balances WHERE account = 'held';
SELECT is(pg_temp.charged_at('held', 4, '2026-03-02 00:02:00+00'), '00000', 'who needs the room of holds that are overdue has them expire');
SELECT is(pg_temp.spent('held', n), e::jsonb, n || ': one was charged by that') FROM (VALUES ('spend:day', '{"spent": 8, "held": 0, "remaining": 2}'), ('spend:day:{"t": 1}', '{"spent": 4, "held": 0, "remaining": 1}')) v(n, e);
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('held')$$, 'sound');

-- What has been delivered is counted, not refused
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.set_spend_limit('over', 5, 'day'), tokenbill.set_account_policy('over', overflow => 'debt') \g /dev/null
SELECT is(amount, -6::numeric, 'a charge that may go into debt goes over a limit') FROM tokenbill.charge_amount('over', 6, 'delivered', on_insufficient => 'debt');
SELECT is(pg_temp.spent('over', 'spend:day'), '{"spent": 6, "held": 0, "remaining": 0}', 'and is counted');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('over', 0.01, 'next')$$, 'PT429', '{"limit": 5, "spent": 6}', 'the next is refused');
SELECT tokenbill.set_spend_limit('over', 10, 'day'), tokenbill.hold('over', 1, 'h') \g /dev/null
SELECT is(amount, -9::numeric, 'a capture of more than was held as well') FROM tokenbill.capture('over', 'h', amount => 9);
SELECT is(pg_temp.spent('over', 'spend:day'), '{"spent": 15, "held": 0, "remaining": 0}', 'counted') FROM tokenbill.balances WHERE account = 'over';
SELECT is(counted, 15::numeric, 'a limit may be set below what was spent') FROM tokenbill.set_spend_limit('over', 1, 'day');
SELECT tokenbill.set_spend_limit('over', 20, 'day') \g /dev/null
SELECT tokenbill.hold('over', 1, 'h9') \g /dev/null
SELECT tokenbill.set_spend_limit('over', 1, 'day') \g /dev/null
SELECT is(kind, 'release', 'which stops nobody from giving back') FROM tokenbill.release('over', 'h9');

-- Refunds give back to the window of their charge
SET LOCAL tokenbill.clock = '2026-03-01 22:00:00+00';
SELECT tokenbill.set_spend_limit('back', 10, 'day'), tokenbill.set_spend_limit('back', 10, '3 hours', tag => '{"t": 1}'), tokenbill.set_spend_limit('back', 10, 'week') \g /dev/null
SELECT tokenbill.charge_amount('back', 4, 'c1', metadata => '{"t": 1}'), tokenbill.hold('back', 5, 'h1', metadata => '{"t": 1}', ttl => '1 day'), tokenbill.capture('back', 'h1', amount => 5) \g /dev/null
SELECT tokenbill.refund('back', 'c1', 'r1', 1), tokenbill.refund('back', 'tokenbill:capture:h1', 'r2', 2) \g /dev/null
SELECT is(pg_temp.spent('back', n), '{"spent": 6, "held": 0, "remaining": 4}', n || ': refunds are taken off') FROM unnest('{spend:day,"spend:3 hours:{\"t\": 1}",spend:week}'::text[]) n;
SELECT is(replayed, true, 'once') FROM tokenbill.refund('back', 'c1', 'r1', 1);
SELECT is(pg_temp.spent('back', 'spend:day') ->> 'spent', '6', 'only');
SET LOCAL tokenbill.clock = '2026-03-02 00:30:00+00';
SELECT tokenbill.charge_amount('back', 1, 'c2', metadata => '{"t": 1}'), tokenbill.refund('back', 'c1', 'r3', 1) \g /dev/null
SELECT is(pg_temp.spent('back', n) ->> 'spent', e, n || ': the next day') FROM (VALUES ('spend:day', '1'), ('spend:3 hours:{"t": 1}', '6'), ('spend:week', '1')) v(n, e);
SET LOCAL tokenbill.clock = '2026-03-02 01:30:00+00';
SELECT tokenbill.refund('back', 'c1', 'r4', 1), tokenbill.charge_amount('back', 2, 'c3', metadata => '{"t": 1}') \g /dev/null
SELECT is(pg_temp.spent('back', n) ->> 'spent', e, n || ': a refund of what has left the window changes nothing') FROM (VALUES ('spend:day', '3'), ('spend:3 hours:{"t": 1}', '3')) v(n, e);
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('back')$$, 'sound');

-- A charge that is priced later counts what it was charged, and its refund no more
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SET LOCAL tokenbill.unpriced = 'suspense';
SELECT tokenbill.create_account('later', credit_limit => 100), tokenbill.set_spend_limit('later', 5, 'day'), tokenbill.set_spend_limit('later', 5, '2 hours') \g /dev/null
SELECT is(row(amount, kind)::text, '(0,charge)', 'unpriced') FROM tokenbill.charge('later', 'unheard-of', '{"input_tokens": 2}', 'u1');
SELECT tokenbill.charge_amount('later', 1, 'u2'), tokenbill.set_price('unheard-of', 'input_tokens', 2, valid_from => '2026-01-01') \g /dev/null
SELECT is(sum(r.now - r.was), 4::numeric, 'priced') FROM tokenbill.reprice('later', NULL, '2026-03-01', '2026-03-02', false) r;
SELECT is(amount, 4::numeric, 'given back') FROM tokenbill.refund('later', 'u1', 'r1');
SELECT is(pg_temp.spent('later', n) ->> 'spent', '1', n || ' counts the other charge only') FROM unnest('{spend:day,spend:2 hours}'::text[]) n;
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('later')$$, 'sound');
RESET tokenbill.unpriced;

-- A sandbox account runs into limits as well
SELECT tokenbill.create_account('sandy', sandbox => true, credit_limit => 100), tokenbill.set_spend_limit('sandy', 5, 'day') \g /dev/null
SELECT is(row(amount, price)::text, '(0,4)', 'it pays nothing') FROM tokenbill.charge_amount('sandy', 4, 'c1');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('sandy', 2, 'c2')$$, 'PT429', '{"spent": 4, "required": 2}', 'and is refused as if it did');
SELECT tokenbill.refund('sandy', 'c1', 'r1', 1) \g /dev/null
SELECT is(pg_temp.spent('sandy', 'spend:day') ->> 'spent', '3', 'refunds, too');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('sandy')$$, 'sound');

-- A batch gets PT429 as a value
SELECT results_eq($$SELECT item, amount, sqlstate, detail ->> 'name' FROM tokenbill.charge_batch('[{"account": "sandy", "amount": 1, "idempotency_key": "b1"}, {"account": "sandy", "amount": 2, "idempotency_key": "b2"},
	{"account": "sandy", "amount": 2, "idempotency_key": "b3", "on_insufficient": "debt"}, {"account": "sandy", "amount": 1, "idempotency_key": "b1"}]')$$,
	$$VALUES (1, 0::numeric, NULL::text, NULL::text), (2, NULL, 'PT429', 'spend:day'), (3, 0, NULL, NULL), (4, 0, NULL, NULL)$$, 'charge_batch()');
SELECT is(pg_temp.spent('sandy', 'spend:day') ->> 'spent', '6', 'counts what it granted, once');

-- Alerts: once a window, and nothing is refused
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.set_spend_limit('al', 5, 'day', action => 'alert'), tokenbill.set_spend_limit('al', 3, '1 hour', action => 'alert') \g /dev/null
SELECT is(pg_temp.charged_at('al', 2, '2026-03-01 12:00:00+00'), '00000', 'below it');
SELECT is(array_agg(alerted_at), '{NULL,NULL}', 'no alert') FROM tokenbill.spend_limits WHERE account = 'al';
SELECT is(pg_temp.charged_at('al', 3, '2026-03-01 12:10:00+00'), '00000', 'reached: it goes on');
SELECT is(array_agg(alerted_at), '{2026-03-01 12:10:00+00,2026-03-01 12:10:00+00}', 'alert') FROM tokenbill.spend_limits WHERE account = 'al';
SELECT is(pg_temp.charged_at('al', 9, '2026-03-01 12:20:00+00'), '00000', 'and on');
SELECT is(array_agg(alerted_at), '{2026-03-01 12:10:00+00,2026-03-01 12:10:00+00}', 'once') FROM tokenbill.spend_limits WHERE account = 'al';
SELECT is(pg_temp.charged_at('al', 9, '2026-03-01 13:20:00+00'), '00000', 'an hour later');
SELECT is(pg_temp.charged_at('al', 9, '2026-03-02 13:00:00+00'), '00000', 'a day later');
SELECT results_eq($$SELECT every, alerted_at FROM tokenbill.spend_limits WHERE account = 'al' ORDER BY every$$, $$VALUES ('1 hour', timestamptz '2026-03-02 13:00:00+00'), ('day', '2026-03-02 13:00:00+00')$$, 'again in the next window');

-- A quote says which limits would refuse
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('qu', credit_limit => 100), tokenbill.set_price('llm', 'input_tokens', 0.01), tokenbill.set_price('llm', 'images', 1) \g /dev/null
SELECT tokenbill.set_spend_limit('qu', 5, 'day'), tokenbill.set_spend_limit('qu', 2, '1 hour', tag => '{"team": "red"}'), tokenbill.set_spend_limit('qu', 1, 'day', service => 'other'),
	tokenbill.set_spend_limit('qu', 1, 'day', action => 'alert'), tokenbill.set_rate_limit('qu', 'tokens', 150, 'minute'), tokenbill.charge('qu', 'llm', '{"input_tokens": 100}', 'q1') \g /dev/null
SELECT is(string_agg(DISTINCT limits_hit::text, ' '), e, format('quote of %s, %s', u, m)) FROM (VALUES ('{"input_tokens": 50, "images": 3}'::jsonb, NULL::jsonb, '{}'), ('{"images": 5}', NULL, '{spend:day}'),
	('{"input_tokens": 51}', NULL, '{tokens:minute}'), ('{"images": 3}', '{"team": "red"}', '{"spend:1 hour:{\"team\": \"red\"}"}'), ('{"images": 3}', '{"team": "blue"}', '{}')) v(u, m, e), LATERAL tokenbill.quote('qu', 'llm', u, m)
GROUP BY u, m, e;
SELECT is((pg_temp.error_of($$SELECT tokenbill.quote('qu', 'llm', '{"images": 1}', '[]')$$)).sqlstate, '22023', 'its metadata is an object');
SELECT is(pg_temp.spent('qu', 'spend:day') ->> 'spent', '1', 'and it counts nothing');

-- A month is dropped under a rolling window
SET LOCAL tokenbill.clock = '2026-01-10 00:00:00+00';
SET LOCAL tokenbill.idempotency_window = '1 day';
SELECT tokenbill.make_ledger_month('2026-01-01') \g /dev/null
SELECT tokenbill.create_account('gap', credit_limit => 1000), tokenbill.set_spend_limit('gap', 100, '60 days'), tokenbill.charge_amount('gap', 10, 'c1'), tokenbill.charge_amount('gap', 20, 'c2') \g /dev/null
SELECT is(pg_temp.charged_at('gap', 30, '2026-02-10 00:00:00+00'), '00000', 'spent in two months');
SET LOCAL tokenbill.clock = '2026-03-05 00:00:00+00';
SELECT tokenbill.drop_ledger_month(m) FROM unnest('{2026-01-01}'::date[]) m \g /dev/null
SELECT is(pg_temp.spent('gap', 'spend:60 days') ->> 'spent', '60', 'what was counted stays while it is in the window');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('gap')$$, 'and cannot be proved');
SELECT is(pg_temp.charged_at('gap', 5, '2026-03-11 00:00:00+00'), '00000', 'when it would have left');
SELECT is(row(l.counted, l.tail_seq)::text, '(35,2)', 'it has') FROM tokenbill.account a, unnest(a.limits) l WHERE a.account = 'gap';
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('gap')$$, 'sound');

-- What is tampered with is found
SET LOCAL tokenbill.clock = '2026-03-20 12:00:00+00';
SELECT tokenbill.set_spend_limit('proof', 50, 'day'), tokenbill.set_spend_limit('proof', 50, '1 hour'), tokenbill.charge_amount('proof', 5, 'c1'), tokenbill.hold('proof', 2, 'h1') \g /dev/null
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('proof')$$, 'sound');
CREATE FUNCTION pg_temp.found(statement text) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
DECLARE
	r jsonb[];
BEGIN
	BEGIN
		EXECUTE statement;
		r := ARRAY(SELECT jsonb_build_object('problem', problem, 'detail', detail) FROM tokenbill.verify_ledger('proof') WHERE problem = 'limit');
		RAISE EXCEPTION SQLSTATE 'TB001';
	EXCEPTION WHEN SQLSTATE 'TB001' THEN
		NULL;
	END;
	RETURN QUERY SELECT unnest(r);
END $$;
-- members of a limit, or of all if it has no name, set to something else
CREATE FUNCTION pg_temp.tamper(limit_name text, members jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT format('UPDATE tokenbill.account SET limits = ARRAY(SELECT CASE WHEN coalesce(l.name = %1$L, true) THEN jsonb_populate_record(l, %2$L) ELSE l END FROM unnest(limits) l) WHERE account = %3$L',
		limit_name, members, 'proof') $$;
SELECT is(array_length(ARRAY(SELECT pg_temp.found(pg_temp.tamper(name, members))), 1), n, coalesce(name, 'all') || ': ' || members) FROM (VALUES
	('spend:day', '{"counted": 4}'::jsonb, 1), (NULL, '{"counted": 0}', 2), ('spend:1 hour', '{"held": 0}', 1), ('spend:1 hour', '{"tail_seq": 99}', 1),
	('spend:1 hour', '{"next_at": null}', 1), ('spend:day', '{"account": "another"}', 1), ('spend:day', '{"counted": null}', 1)) v(name, members, n);
SELECT is(pg_temp.found(pg_temp.tamper('spend:day', '{"counted": 3}')),
	'{"problem": "limit", "detail": {"name": "spend:day", "expected": {"counted": 5, "held": 2}, "found": {"counted": 3, "held": 2}}}', 'and what is wrong with it is said');
SELECT is((pg_temp.error_of(format('DO %L', format('BEGIN %s; PERFORM tokenbill.charge_amount(%L, 1, %L); END', statement, 'proof', 'c2')))).sqlstate, 'XX001', 'nothing is charged by a limit that cannot be read')
FROM unnest(ARRAY[pg_temp.tamper('spend:day', '{"counted": null}'), $$UPDATE tokenbill.account SET limits[2] = NULL WHERE account = 'proof'$$]) statement;

-- When a limit is reached nothing of the account is rewritten
SELECT tokenbill.create_account(a, credit_limit => 100), tokenbill.set_spend_limit(a, 5, 'day') FROM unnest('{unmoved,moved}'::text[]) a \g /dev/null
SELECT tokenbill.charge_amount('moved', 1, 'before') \g /dev/null
CREATE TEMP TABLE before AS SELECT a AS row FROM tokenbill.account a WHERE a.account IN ('unmoved', 'moved');
SELECT set_config('tokenbill.clock', '2026-03-20 12:00:00+00', true) \g /dev/null
SELECT results_eq($$SELECT account, sqlstate FROM tokenbill.charge_batch('[{"account": "unmoved", "amount": 6, "idempotency_key": "too much"},
	{"account": "moved", "amount": 6, "idempotency_key": "too much"}]')$$, $$VALUES ('unmoved', 'PT429'), ('moved', 'PT429')$$, 'refused, but not the statement');
SELECT results_eq($$SELECT a::text FROM tokenbill.account a WHERE a.account IN ('unmoved', 'moved') ORDER BY a.account$$,
	'SELECT b.row::text FROM before b ORDER BY (b.row).account', 'both accounts are as they were, to their time and hash, or to none');
SELECT results_eq($$SELECT account, seq, sqlstate FROM tokenbill.charge_batch('[{"account": "unmoved", "amount": 4, "idempotency_key": "1"},
	{"account": "unmoved", "amount": 4, "idempotency_key": "2"}, {"account": "unmoved", "amount": 1, "idempotency_key": "3"},
	{"account": "unmoved", "amount": 1, "idempotency_key": "4"}]')$$,
	$$VALUES ('unmoved', 1::bigint, NULL), ('unmoved', NULL, 'PT429'), ('unmoved', 2, NULL), ('unmoved', NULL, 'PT429')$$, 'and go on as if nothing had been');
SELECT is(replayed, true, 'a limit that is reached does not keep a charge from being replayed') FROM tokenbill.charge_amount('unmoved', 4, '1');
SELECT is(pg_temp.spent('unmoved', 'spend:day'), '{"spent": 5, "held": 0, "remaining": 0}', 'which counts once');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger()$$, 'all is sound');
SELECT * FROM finish();
ROLLBACK;
