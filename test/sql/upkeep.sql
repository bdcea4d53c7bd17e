-- Upkeep: what is due when, batch by batch; what fails rests; errors are rows with a count
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
-- one that nobody has ever used
SET LOCAL client_min_messages = warning;
DROP EXTENSION tokenbill;
CREATE EXTENSION tokenbill;
RESET client_min_messages;
SELECT plan(47);
CREATE FUNCTION pg_temp.at(clock timestamptz) RETURNS void LANGUAGE sql AS $$ SELECT set_config('tokenbill.clock', clock::text, true) $$;
-- What is due, in a line; alerts have a test of their own
CREATE FUNCTION pg_temp.due() RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(d.duty || ' ' || to_char(d.due_at, 'MM-DD HH24:MI:SS'), ', ' ORDER BY d.due_at, d.duty), 'nothing')
	FROM tokenbill.upkeep_due() d WHERE d.duty NOT IN ('alerts', 'old alerts')
$$;
-- All of it, as the worker would, and what is due then
CREATE FUNCTION pg_temp.run() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	WHILE tokenbill.run_upkeep() LOOP
	END LOOP;
	RETURN pg_temp.due();
END $$;
SELECT pg_temp.at('2026-03-01 12:00:00+00') \g /dev/null

SELECT is(pg_temp.due(), 'nothing', 'a new extension has no upkeep');
SELECT is(tokenbill.run_upkeep(), false, 'and there is nothing to do');
SELECT is_empty('SELECT * FROM tokenbill.due() WHERE is_call', 'nor anybody to ask');

-- Holds
SELECT tokenbill.create_account(a), tokenbill.recharge(a, 1000, 'r-' || a) FROM unnest('{a,b}'::text[]) a \g /dev/null
SELECT is(pg_temp.due(), 'ledger months 04-24 00:00:00', 'a ledger that is used wants its next month a week before it begins, its first line made two');
SELECT tokenbill.hold('a', 1, 'h' || i, ttl => make_interval(mins => i)) FROM generate_series(1, 250) i \g /dev/null
SELECT is(pg_temp.due(), 'expired holds 03-01 12:01:00, ledger months 04-24 00:00:00', 'the hold that expires first');
SELECT pg_temp.at('2026-03-01 12:00:59.999999+00') \g /dev/null
SELECT is(tokenbill.run_upkeep(), false, 'not before its time');
SELECT is(count(*), 250::bigint, 'all are held') FROM tokenbill.hold WHERE status = 'held';
SELECT pg_temp.at('2026-03-01 12:01:00+00') \g /dev/null
SELECT is(tokenbill.run_upkeep(), false, 'at its time, and then there is no more');
SELECT is(string_agg(hold_key, ','), 'h1', 'it has expired') FROM tokenbill.hold WHERE status = 'expired';
SELECT is(pg_temp.due(), 'expired holds 03-01 12:02:00, ledger months 04-24 00:00:00', 'then the next');
SELECT pg_temp.at('2026-03-01 20:00:00+00') \g /dev/null
SELECT is(tokenbill.run_upkeep(), true, 'many at once: there is more to do');
SELECT is(count(*), 101::bigint, 'a batch is a hundred') FROM tokenbill.hold WHERE status = 'expired';
SELECT is(tokenbill.run_upkeep(), true, 'another');
SELECT is(tokenbill.run_upkeep(), false, 'and the last');
SELECT is_empty($$SELECT * FROM tokenbill.hold WHERE status = 'held'$$, 'and all have expired');
SELECT is(pg_temp.due(), 'ledger months 04-24 00:00:00', 'there is nothing to expire any more');
SELECT is_empty('SELECT * FROM tokenbill.worker_duty', 'and nothing to remember');

-- Credits
SELECT tokenbill.grant_credit('a', 5, 'c1', expires_at => '2026-03-02 00:00+00'), tokenbill.grant_credit('b', 5, 'c2', expires_at => '2026-03-03 00:00+00'), tokenbill.grant_credit('b', 5, 'c3') \g /dev/null
SELECT is(pg_temp.due(), 'expired credits 03-02 00:00:00, ledger months 04-24 00:00:00', 'the credit that expires first');
SELECT tokenbill.hold('a', 5, 'all of it', ttl => '10 days') \g /dev/null
SELECT is(pg_temp.due(), 'expired credits 03-03 00:00:00, expired holds 03-11 20:00:00, ledger months 04-24 00:00:00', 'one that a hold reserves waits for the hold');
SELECT pg_temp.at('2026-03-04 00:00+00') \g /dev/null
SELECT pg_temp.run() \g /dev/null
SELECT is(string_agg(credit_key, ','), 'c2', 'what is free of it expires') FROM tokenbill.credit WHERE status = 'expired';
SELECT tokenbill.release('a', 'all of it') \g /dev/null
SELECT is(pg_temp.due(), 'ledger months 04-24 00:00:00', 'released, the other has expired by itself');

-- Months
SELECT pg_temp.at('2026-04-24 00:00+00') \g /dev/null
SELECT is(pg_temp.run(), 'ledger months 05-25 00:00:00', 'a week before a month begins');
SELECT has_table('tokenbill', 'ledger_2026_05', 'it is made');
SELECT pg_temp.at('2026-08-15 00:00+00') \g /dev/null
SELECT is(pg_temp.due(), 'ledger months 07-25 00:00:00', 'nobody was there for months');
SELECT is(pg_temp.run(), 'ledger months 08-25 00:00:00', 'this one is made');
SELECT has_table('tokenbill', 'ledger_2026_08', 'this month');
SELECT hasnt_table('tokenbill', 'ledger_2026_07', 'not those that are over');

-- What fails rests, and the others are done
SELECT tokenbill.hold('a', 1, 'stuck', ttl => '1 min'), tokenbill.grant_credit('b', 5, 'late', expires_at => '2026-08-15 00:02+00') \g /dev/null
ALTER TABLE tokenbill.hold ADD CONSTRAINT broken CHECK (status <> 'expired') NOT VALID;
SELECT pg_temp.at('2026-08-15 00:01+00') \g /dev/null
SELECT is(pg_temp.run(), 'expired holds 08-15 00:01:01, expired credits 08-15 00:02:00, ledger months 08-25 00:00:00, worker errors 09-14 00:01:00', 'a duty that fails rests for a second');
SELECT is(pg_temp.pick(e, 'duty', 'target', 'sqlstate', 'count', 'first_at', 'last_at'),
	'{"duty": "expired holds", "target": "", "sqlstate": "23514", "count": 1, "first_at": "2026-08-15T00:01:00+00:00", "last_at": "2026-08-15T00:01:00+00:00"}', 'it is a row of worker_errors')
FROM tokenbill.worker_errors e;
SELECT is(status, 'held', 'and nothing else') FROM tokenbill.hold WHERE hold_key = 'stuck';
SELECT pg_temp.at('2026-08-15 00:01:01+00') \g /dev/null
SELECT is(pg_temp.run(), 'expired holds 08-15 00:01:03, expired credits 08-15 00:02:00, ledger months 08-25 00:00:00, worker errors 09-14 00:01:01', 'then for two');
SELECT is(pg_temp.pick(e, 'count', 'first_at', 'last_at'), '{"count": 2, "first_at": "2026-08-15T00:01:00+00:00", "last_at": "2026-08-15T00:01:01+00:00"}', 'the same error is the same row')
FROM tokenbill.worker_errors e;
SELECT tokenbill.rest_upkeep('expired holds') FROM generate_series(1, 20) \g /dev/null
SELECT is(pg_temp.due(), 'expired credits 08-15 00:02:00, expired holds 08-15 00:06:01, ledger months 08-25 00:00:00, worker errors 09-14 00:01:01', 'five minutes at most');
SELECT pg_temp.at('2026-08-15 00:02+00') \g /dev/null
SELECT pg_temp.run() \g /dev/null
SELECT is(status, 'expired', 'another duty is done meanwhile') FROM tokenbill.credit WHERE credit_key = 'late';
ALTER TABLE tokenbill.hold DROP CONSTRAINT broken;
SELECT pg_temp.at('2026-08-15 00:06:01+00') \g /dev/null
SELECT is(pg_temp.run(), 'ledger months 08-25 00:00:00, worker errors 09-14 00:01:01', 'mended, it is done when it is its turn');
SELECT is_empty($$SELECT * FROM tokenbill.worker_duty WHERE duty = 'expired holds'$$, 'and its failures are forgotten');

-- Errors
SELECT tokenbill.record_worker_error('check', 'p', 'XX000', 'number ' || i) FROM generate_series(1, 60) i \g /dev/null
SELECT is(count(*), 50::bigint, 'of one target fifty different errors are kept') FROM tokenbill.worker_errors WHERE duty = 'check';
SELECT tokenbill.record_worker_error('check', 'q', NULL, NULL), tokenbill.record_worker_error(repeat('d', 1000), repeat(U&'\20AC', 1000), 'too long', repeat(U&'\20AC', 5000), repeat('x', 100000)) \g /dev/null
SELECT is(row(sqlstate, message)::text, '(XX000,"")', 'one without words') FROM tokenbill.worker_errors WHERE target = 'q';
SELECT is(row(length(duty), length(target), sqlstate, length(message), length(detail))::text, '(64,128,"too l",500,4000)', 'and one with too many') FROM tokenbill.worker_errors WHERE duty LIKE 'ddd%';
SELECT is(pg_temp.due(), 'ledger months 08-25 00:00:00, worker errors 09-14 00:01:01', 'they are kept for tokenbill.error_retention after they were last seen');
SELECT pg_temp.at('2026-09-14 00:01:01+00') \g /dev/null
SELECT is(pg_temp.run(), 'worker errors 09-14 01:01:01, ledger months 09-24 00:00:00', 'then they are deleted, the rest an hour later and not one by one');
SELECT is_empty($$SELECT * FROM tokenbill.worker_errors WHERE duty = 'expired holds'$$, 'they are gone');

-- Reports of providers
SELECT tokenbill.add_provider('up', 'manual', keep_history => '7 days') \g /dev/null
SELECT tokenbill.record_provider_balance('up', 5) \g /dev/null
SELECT is((SELECT due_at FROM tokenbill.upkeep_due() WHERE duty = 'provider history'), '2026-09-14 00:01:01+00', 'who has providers looks for old reports');
SELECT pg_temp.run() \g /dev/null
SELECT is((SELECT due_at FROM tokenbill.upkeep_due() WHERE duty = 'provider history'), '2026-09-15 00:01:01+00', 'once a day, if there are none');

-- The status without a worker
SELECT is(state, 'not preloaded', 'worker_status without shared_preload_libraries') FROM tokenbill.worker_status;
SELECT is((pg_temp.error_of('SELECT tokenbill.wake_worker()')).sqlstate, '00000', 'waking nobody is no error');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger()$$, 'sound');
SELECT * FROM finish();
ROLLBACK;
