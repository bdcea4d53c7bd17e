-- Providers: what is reported about them, what becomes of it, and that nothing unknown is zero
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(132);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';

-- What the view says of one, in a line
CREATE FUNCTION pg_temp.say(provider text, OUT result text) LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', b.currency, coalesce(b.balance::text, '-'), b.status, CASE WHEN b.stale THEN 'stale' END, b.error), '; ' ORDER BY b.currency COLLATE "C")
	FROM tokenbill.provider_balances b WHERE b.provider = say.provider
$$;
-- A report at a time: the clock is set to it
CREATE FUNCTION pg_temp.at(clock timestamptz, provider text, balance numeric, currency text DEFAULT NULL, error text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('tokenbill.clock', clock::text, true);
	PERFORM tokenbill.record_provider_balance(provider, balance, currency, error => error);
	RETURN pg_temp.say(provider);
END $$;
CREATE FUNCTION pg_temp.gauges(provider text, OUT result jsonb) LANGUAGE sql AS $$
	SELECT jsonb_object_agg(replace(m.name, 'tokenbill_provider_', '') || coalesce(nullif('.' || (m.labels ->> 'currency'), '.USD'), ''), trim_scale(m.value))
	FROM tokenbill.metrics m WHERE m.labels ->> 'provider' = gauges.provider
$$;

-- Added
SELECT is(pg_temp.pick(p, 'provider', 'preset', 'currency', 'check_every', 'low_balance', 'enabled', 'keep_history'),
	'{"provider": "p", "preset": "manual", "currency": "USD", "check_every": "00:05:00", "low_balance": null, "enabled": true, "keep_history": "90 days"}', 'add_provider: as it comes')
FROM tokenbill.add_provider('p', 'manual') p;
SELECT is(pg_temp.pick(p, 'currency', 'check_every', 'low_balance', 'keep_history', 'created_at', 'updated_at'),
	'{"currency": "CNY", "check_every": "1 day", "low_balance": -5.5, "keep_history": "1 year", "created_at": "2026-03-01T12:00:00+00:00", "updated_at": "2026-03-01T12:00:00+00:00"}', 'and with all that can be said')
FROM tokenbill.add_provider('post', 'manual', check_every => '1 day', low_balance => -5.5, currency => 'CNY', keep_history => '1 year') p;
SELECT is(pg_temp.say('p'), 'USD - unknown', 'no balance yet: unknown, not zero, and not stale');
SELECT is(pg_temp.gauges('p'), '{"stale": 0, "age_seconds": 0, "failures": 0}', 'and no gauge of a balance');
SELECT pg_temp.refused(statement, sqlstate, detail, description) FROM (VALUES
	($$SELECT tokenbill.add_provider('p', 'manual')$$, 'PT409', '{"provider": "p"}'::jsonb, 'a name is taken once'),
	($$SELECT tokenbill.add_provider('q', 'mistyped')$$, 'PT404', '{"argument": "preset", "preset": "mistyped"}', 'no such preset'),
	($$SELECT tokenbill.add_provider('q', 'mistyped', 'https://example.org', 'sk-1')$$, 'PT404', '{"argument": "preset"}', 'whatever else is said'),
	($$SELECT tokenbill.add_provider('q', 'manual', 'https://example.org')$$, '22023', '{"argument": "base_url"}', 'which has no address'),
	($$SELECT tokenbill.add_provider('q', 'manual', secret => 'sk-1')$$, '22023', '{"argument": "secret"}', 'and no secret'),
	($$SELECT tokenbill.add_provider('q', 'manual', check_every => '999 milliseconds')$$, '22023', '{"argument": "check_every"}', 'too often'),
	($$SELECT tokenbill.add_provider('q', 'manual', check_every => '367 days')$$, '22023', '{"argument": "check_every"}', 'too seldom'),
	($$SELECT tokenbill.add_provider('q', 'manual', check_every => NULL)$$, '22004', '{"argument": "check_every"}', 'never'),
	($$SELECT tokenbill.add_provider('q', 'manual', check_every => '-1 day')$$, '22023', '{"argument": "check_every"}', 'backwards'),
	($$SELECT tokenbill.add_provider('q', 'manual', keep_history => '23 hours')$$, '22023', '{"argument": "keep_history"}', 'kept too short'),
	($$SELECT tokenbill.add_provider('q', 'manual', keep_history => NULL)$$, '22004', '{"argument": "keep_history"}', 'kept for null'),
	($$SELECT tokenbill.add_provider('q', 'manual', low_balance => 'NaN')$$, '22003', '{"argument": "low_balance"}', 'low is NaN'),
	($$SELECT tokenbill.add_provider('q', 'manual', low_balance => '-Infinity')$$, '22003', '{"argument": "low_balance"}', 'low is -Infinity'),
	($$SELECT tokenbill.add_provider('4111 1111 1111 1111', 'manual')$$, '22023', '{"argument": "provider"}', 'a card number is no name'),
	($$SELECT tokenbill.add_provider('q', 'manual', currency => 'usd')$$, '22023', '{"argument": "currency"}', 'nor is usd a currency'),
	($$SELECT tokenbill.set_provider('q')$$, 'PT404', '{"provider": "q"}', 'set: no such provider'),
	($$SELECT tokenbill.drop_provider('q')$$, 'PT404', '{"provider": "q"}', 'drop: no such provider'),
	($$SELECT tokenbill.record_provider_balance('q', 1)$$, 'PT404', '{"provider": "q"}', 'record: no such provider'),
	($$SELECT tokenbill.expire_provider_history('q')$$, 'PT404', '{"provider": "q"}', 'expire: no such provider')) v(statement, sqlstate, detail, description);
SELECT is(position('sk-1' IN row(e.*)::text), 0, 'a refused secret is not repeated') FROM pg_temp.error_of($$SELECT tokenbill.add_provider('q', 'manual', secret => 'sk-1')$$) e;

-- Reported
SELECT is(pg_temp.pick(b, 'provider', 'currency', 'balance', 'checked_at', 'error', 'failures'),
	'{"provider": "p", "currency": "USD", "balance": 12345678901234567.0123456789012345678901, "checked_at": "2026-03-01T12:00:00+00:00", "error": null, "failures": 0}', 'a balance to its last digit')
FROM tokenbill.record_provider_balance('p', 12345678901234567.0123456789012345678901) b;
SELECT is(pg_temp.say('p'), 'USD 12345678901234567.0123456789012345678901 ok', 'is shown like that');
SELECT is(pg_temp.at('2026-03-01 12:01+00', 'p', 0), 'USD 0 ok', 'a zero that was told is one: nothing says that it is low');
SELECT is(pg_temp.at('2026-03-01 12:02+00', 'p', -11.19), 'USD -11.19 ok', 'negative balances are real');
SELECT is(pg_temp.at('2026-03-01 12:03+00', 'p', 100), 'USD 100 ok', 'topped up');
SELECT pg_temp.refused(format('SELECT tokenbill.record_provider_balance(%L, %s)', 'p', arguments), sqlstate, detail, description) FROM (VALUES
	($$'NaN'$$, '22003', '{"argument": "balance"}'::jsonb, 'NaN'), ($$'Infinity'$$, '22003', '{"argument": "balance"}', 'Infinity'), ($$'-Infinity'$$, '22003', '{"argument": "balance"}', '-Infinity'),
	('1e18', '22003', '{"argument": "balance"}', '10^18'), ('-1e18', '22003', '{"argument": "balance"}', '-10^18'), ('1e-31', '22003', '{"argument": "balance"}', '31 decimals'), ('1e400', '22003', '{"argument": "balance"}', '10^400'),
	($$1, 'usd'$$, '22023', '{"argument": "currency"}', 'no currency'), ($$1, 'ABCDEFGHIJKLMNOPQ'$$, '22023', '{"argument": "currency"}', 'too long a currency'),
	($$1, checked_at => '2026-03-01 12:08:00.000001+00'$$, '22008', '{"argument": "checked_at"}', 'the future'), ($$1, checked_at => '1999-12-31 00:00+00'$$, '22008', '{"argument": "checked_at"}', 'another century'),
	($$1, checked_at => 'infinity'$$, '22008', '{"argument": "checked_at"}', 'never'), ($$1, error => ''$$, '22023', '{"argument": "error"}', 'an empty reason'),
	($$NULL, error => 'card 4111111111111111 was declined'$$, '22023', '{"argument": "error"}', 'a card number'),
	($$101, checked_at => '2026-03-01 12:03+00'$$, 'PT409', '{"provider": "p", "currency": "USD", "was": 100, "now": 101}', 'another balance of the same moment'),
	($$NULL, checked_at => '2026-03-01 12:03+00', error => 'down'$$, 'PT409', '{"was": 100, "now": "down"}', 'or a failure of it')) v(arguments, sqlstate, detail, description);
SELECT is(pg_temp.say('p'), 'USD 100 ok', 'what is refused changes nothing');
SELECT is(count(*), 4::bigint, 'nor is it kept') FROM tokenbill.provider_history WHERE provider = 'p';
SELECT is(pg_temp.pick(b, 'balance', 'failures'), '{"balance": 100, "failures": 0}', 'the same report again is answered alike') FROM tokenbill.record_provider_balance('p', 100.00, checked_at => '2026-03-01 12:03+00') b;
SELECT is(count(*), 4::bigint, 'and kept once') FROM tokenbill.provider_history WHERE provider = 'p';

-- Failed reports: the old balance stays
SELECT is(pg_temp.at('2026-03-01 12:05+00', 'p', NULL, error => 'HTTP 401'), 'USD 100 stale stale HTTP 401', 'a failure leaves the balance');
SELECT is(pg_temp.at('2026-03-01 12:06+00', 'p', 0, error => E'curl: (28)\r\n\t timed out\n'), 'USD 100 stale stale curl: (28) timed out ', 'also with a zero beside it; line ends are blanks');
SELECT is(pg_temp.at('2026-03-01 12:07+00', 'p', NULL), 'USD 100 stale stale no balance was reported', 'null is a failure');
SELECT is(pg_temp.at('2026-03-01 12:08+00', 'p', 'NaN', error => repeat('é', 100000)), 'USD 100 stale stale ' || repeat('é', 250), 'a balance that failed is not looked at; the reason is cut');
SELECT is(pg_temp.pick(b, 'checked_at', 'error_since', 'error_at', 'failures', 'age'), '{"checked_at": "2026-03-01T12:03:00+00:00", "error_since": "2026-03-01T12:05:00+00:00", "error_at": "2026-03-01T12:08:00+00:00", "failures": 4, "age": "00:05:00"}', 'since when, and how often')
FROM tokenbill.provider_balances b WHERE provider = 'p';
SELECT is(pg_temp.gauges('p') - '{burn_per_hour,empty_in_seconds}'::text[], '{"balance": 100, "stale": 1, "age_seconds": 300, "failures": 4}', 'gauges: the balance, and that it is stale');
SELECT is(pg_temp.at('2026-03-01 12:09+00', 'p', 99), 'USD 99 ok', 'a good report ends it');
SELECT is(pg_temp.pick(b, 'error_since', 'error_at', 'failures'), '{"error_since": null, "error_at": null, "failures": 0}', 'without a trace') FROM tokenbill.provider_balances b WHERE provider = 'p';
SELECT is(string_agg(coalesce(balance::text, left(error, 9)), ', ' ORDER BY checked_at), '12345678901234567.0123456789012345678901, 0, -11.19, 100, HTTP 401, curl: (28, no balanc, ééééééééé, 99', 'but in the history')
FROM tokenbill.provider_history WHERE provider = 'p';

-- Stale by age: three times check_every
SET LOCAL tokenbill.clock = '2026-03-01 12:24:00+00';
SELECT is(pg_temp.say('p'), 'USD 99 ok', 'three checks are not over');
SET LOCAL tokenbill.clock = '2026-03-01 12:24:00.000001+00';
SELECT is(pg_temp.say('p'), 'USD 99 stale stale', 'now they are');
SELECT tokenbill.add_provider('new', 'manual') \g /dev/null
SELECT is(pg_temp.say('new'), 'USD - unknown', 'a new one has as long for its first');
SET LOCAL tokenbill.clock = '2026-03-01 12:40+00';
SELECT is(pg_temp.say('new'), 'USD - unknown stale', 'and not longer');
SELECT is(pg_temp.gauges('new'), '{"stale": 1, "age_seconds": 959.999999, "failures": 0}', 'gauges: stale, still no balance');
SELECT is(pg_temp.at('2026-03-01 12:41+00', 'new', NULL, error => 'down'), 'USD - unknown stale down', 'nor does a failure make one');
SELECT is(pg_temp.pick(b, 'balance', 'burn_per_hour', 'empty_at', 'empty_in'), '{"balance": null, "burn_per_hour": null, "empty_at": null, "empty_in": null}', 'or any estimate') FROM tokenbill.provider_balances b WHERE provider = 'new';

-- Low
SELECT is(low_balance, 10.0, 'set_provider: low_balance') FROM tokenbill.set_provider('p', low_balance => 10);
SELECT is(pg_temp.at('2026-03-01 12:42+00', 'p', 10.000001), 'USD 10.000001 ok', 'a little more than low');
SELECT is(pg_temp.at('2026-03-01 12:43+00', 'p', 10), 'USD 10 low', 'low is at it, too');
SELECT is(pg_temp.at('2026-03-01 12:44+00', 'p', NULL, error => 'down'), 'USD 10 low stale down', 'low stays low when it goes stale: an alarm must not end by a failing check');
SELECT is(pg_temp.gauges('p') - '{burn_per_hour,empty_in_seconds}'::text[], '{"balance": 10, "low_balance": 10, "stale": 1, "age_seconds": 60, "failures": 1}', 'gauges: low_balance, too');
SELECT is(pg_temp.pick(p, 'check_every', 'low_balance', 'currency', 'keep_history', 'enabled'), '{"check_every": "00:01:00", "low_balance": 10, "currency": "EUR", "keep_history": "30 days", "enabled": true}', 'set_provider: null leaves the rest')
FROM tokenbill.set_provider('p', check_every => '1 minute', currency => 'EUR', keep_history => '30 days') p;
SELECT is(low_balance, NULL, 'never_low takes it away') FROM tokenbill.set_provider('p', never_low => true, currency => 'USD', check_every => '5 minutes');
SELECT pg_temp.refused(statement, sqlstate, detail, description) FROM (VALUES
	($$SELECT tokenbill.set_provider('p', low_balance => 5, never_low => true)$$, '22023', '{"argument": "never_low"}'::jsonb, 'not both'),
	($$SELECT tokenbill.set_provider('p', never_low => NULL)$$, '22004', '{"argument": "never_low"}', 'null'),
	($$SELECT tokenbill.set_provider('p', check_every => '0')$$, '22023', '{"argument": "check_every"}', 'zero'),
	($$SELECT tokenbill.set_provider('p', low_balance => 'NaN')$$, '22003', '{"argument": "low_balance"}', 'NaN'),
	($$SELECT tokenbill.set_provider('p', keep_history => '1 hour')$$, '22023', '{"argument": "keep_history"}', 'an hour')) v(statement, sqlstate, detail, description);
SELECT tokenbill.set_provider('p', enabled => false) \g /dev/null
SELECT is(pg_temp.say('p'), 'USD 10 disabled down', 'disabled: not stale, not low');
SELECT is(pg_temp.gauges('p'), NULL, 'and no gauges');

-- Several currencies
SELECT is(pg_temp.at('2026-03-01 12:45+00', 'post', -5), 'CNY -5 ok', 'the provider''s own currency, and a postpaid one');
SELECT is(pg_temp.at('2026-03-01 12:46+00', 'post', 3, 'USD'), 'CNY -5 ok; USD 3 ok', 'two currencies are two balances');
SELECT is(pg_temp.at('2026-03-01 12:47+00', 'post', NULL, 'USD', 'no such wallet'), 'CNY -5 ok; USD 3 stale stale no such wallet', 'a failure of one');
SELECT is(pg_temp.at('2026-03-01 12:48+00', 'post', NULL, error => 'down'), 'CNY -5 stale stale down; USD 3 stale stale down', 'a failure that names none is of both');
SELECT is(pg_temp.at('2026-03-01 12:49+00', 'post', -5.5), 'CNY -5.5 low; USD 3 stale stale down', 'a good one of its own only');

-- DeepSeek tells of a wallet in dollars also where all is paid in yuan: what has never held anything cannot run low beside one that is used
SELECT tokenbill.add_provider('two', 'manual', low_balance => 20) \g /dev/null
SELECT is(pg_temp.at('2026-03-01 12:45+00', 'two', 0, 'USD'), 'USD 0 low', 'the only wallet is empty');
SELECT is(pg_temp.at('2026-03-01 12:45+00', 'two', 0, 'CNY'), 'CNY 0 low; USD 0 low', 'both are');
SELECT is(pg_temp.at('2026-03-01 12:46+00', 'two', 100, 'CNY'), 'CNY 100 ok; USD 0 ok', 'one of them is used: the other is none that could be low');
SELECT is(pg_temp.gauges('two') - '{age_seconds,age_seconds.CNY}'::text[], '{"balance": 0, "stale": 0, "failures": 0, "balance.CNY": 100, "low_balance.CNY": 20, "stale.CNY": 0, "failures.CNY": 0}', 'its gauges say so: there is a balance, and nothing that would be low');
SELECT is(pg_temp.at('2026-03-01 12:47+00', 'two', 0, 'CNY'), 'CNY 0 low; USD 0 ok', 'nothing is left in the one that was used');
SELECT is(string_agg(currency, ' '), 'CNY', 'it is empty, the other is not known to be') FROM tokenbill.provider_balances WHERE provider = 'two' AND empty_at IS NOT NULL;
SELECT is(pg_temp.at('2026-03-01 12:48+00', 'two', 30, 'USD'), 'CNY 0 low; USD 30 ok', 'the other gets something');
SELECT is(pg_temp.at('2026-03-01 12:49+00', 'two', 0, 'USD'), 'CNY 0 low; USD 0 low', 'and when that is used up it is low');
SELECT is(pg_temp.at('2026-03-01 12:50+00', 'two', 50, 'CNY'), 'CNY 50 ok; USD 0 low', 'though there is something in the first again');
SELECT is(pg_temp.at('2026-03-01 12:51+00', 'two', -1, 'EUR'), 'CNY 50 ok; EUR -1 low; USD 0 low', 'a debt is low');
SELECT tokenbill.record_provider_balance('two', NULL, 'GBP', error => 'down') \g /dev/null
SELECT is(low_balance, 20.0, 'of what is not known it is said what would be low') FROM tokenbill.provider_balances WHERE provider = 'two' AND currency = 'GBP';
SELECT tokenbill.drop_provider('two'), set_config('tokenbill.clock', '2026-03-01 12:49:00+00', true) \g /dev/null

-- Late and out of order
SELECT tokenbill.add_provider('late', 'manual') \g /dev/null
SELECT pg_temp.at('2026-03-01 13:00+00', 'late', 100), pg_temp.at('2026-03-01 15:00+00', 'late', 80), pg_temp.at('2026-03-01 16:00+00', 'late', NULL, error => 'e16'), pg_temp.at('2026-03-01 17:00+00', 'late', NULL, error => 'e17') \g /dev/null
SELECT is(burn_per_hour, 10.0, 'what is burned in an hour') FROM tokenbill.provider_balances WHERE provider = 'late';
SELECT tokenbill.record_provider_balance('late', 110, checked_at => '2026-03-01 14:00+00') \g /dev/null
SELECT is(pg_temp.say('late'), 'USD 80 stale stale e17', 'an older report changes no balance');
SELECT is(burn_per_hour, 30.0, 'it is part of the history: topped up until two, then 30 in an hour') FROM tokenbill.provider_balances WHERE provider = 'late';
SELECT tokenbill.record_provider_balance('late', 140, checked_at => '2026-03-01 12:30+00'), tokenbill.record_provider_balance('late', NULL, checked_at => '2026-03-01 14:30+00', error => 'e14') \g /dev/null
SELECT is(pg_temp.pick(b, 'balance', 'error', 'error_since', 'failures', 'burn_per_hour', 'checked_at'), '{"balance": 80, "error": "e17", "error_since": "2026-03-01T16:00:00+00:00", "failures": 2, "burn_per_hour": 46.666666666667, "checked_at": "2026-03-01T15:00:00+00:00"}',
	'so is one before all others, and a failure that was over') FROM tokenbill.provider_balances b WHERE provider = 'late';
SELECT tokenbill.record_provider_balance('late', NULL, checked_at => '2026-03-01 15:30+00', error => 'e15') \g /dev/null
SELECT is(pg_temp.pick(b, 'error', 'error_since', 'error_at', 'failures'), '{"error": "e17", "error_since": "2026-03-01T15:30:00+00:00", "error_at": "2026-03-01T17:00:00+00:00", "failures": 3}', 'a late failure counts, and the newest is shown') FROM tokenbill.provider_balances b WHERE provider = 'late';
SELECT tokenbill.record_provider_balance('late', 70, checked_at => '2026-03-01 16:30+00') \g /dev/null
SELECT is(pg_temp.pick(b, 'balance', 'status', 'error', 'error_since', 'failures'), '{"balance": 70, "status": "stale", "error": "e17", "error_since": "2026-03-01T17:00:00+00:00", "failures": 1}', 'a late good one leaves the failures after it') FROM tokenbill.provider_balances b WHERE provider = 'late';
-- the sums are those of the reports in order
SELECT is_empty($$SELECT * FROM (SELECT checked_at, burned, sum(greatest(lag - balance, 0)) OVER w AS b, burn_seconds, sum(CASE WHEN balance <= lag THEN extract(epoch FROM checked_at - at) ELSE 0 END) OVER w AS s
	FROM (SELECT *, lag(balance) OVER w, lag(checked_at) OVER w AS at FROM tokenbill.provider_balance_history WHERE provider = 'late' AND balance IS NOT NULL WINDOW w AS (ORDER BY checked_at)) h WINDOW w AS (ORDER BY checked_at)) x
	WHERE burned <> b OR burn_seconds <> s$$, 'the sums are what they would be in order');

-- Whatever the order in which they come, they add up to what they are in the order of their times
SELECT setseed(0.42) \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-02 00:00+00';
SELECT tokenbill.add_provider('mixed', 'manual') \g /dev/null
CREATE TEMP TABLE report AS SELECT timestamptz '2026-03-01 12:00+00' + n * interval '1 minute' AS at, CASE WHEN random() < 0.7 THEN round((random() * 100)::numeric, 6) END AS balance, random() AS place FROM generate_series(1, 300) n;
CREATE FUNCTION pg_temp.wrong(OUT result text) LANGUAGE sql AS $$
	WITH good AS (SELECT checked_at, balance, burned, burn_seconds, lag(balance) OVER w AS before, lag(checked_at) OVER w AS since FROM tokenbill.provider_balance_history WHERE provider = 'mixed' AND balance IS NOT NULL WINDOW w AS (ORDER BY checked_at)),
	sums AS (SELECT *, burned - first_value(burned) OVER w AS b, burn_seconds - first_value(burn_seconds) OVER w AS s, sum(greatest(before - balance, 0)) OVER w AS wanted_b,
		sum(CASE WHEN balance <= before THEN extract(epoch FROM checked_at - since) ELSE 0 END) OVER w AS wanted_s FROM good WINDOW w AS (ORDER BY checked_at)),
	newest AS (SELECT * FROM tokenbill.provider_history WHERE provider = 'mixed' AND balance IS NOT NULL ORDER BY checked_at DESC LIMIT 1),
	failed AS (SELECT count(*) AS n, min(checked_at) AS first, max(checked_at) AS last, (array_agg(error ORDER BY checked_at DESC))[1] AS error FROM tokenbill.provider_history h
		WHERE provider = 'mixed' AND error IS NOT NULL AND checked_at > coalesce((SELECT checked_at FROM newest), '-infinity'))
	SELECT concat_ws(', ', CASE WHEN EXISTS (SELECT FROM sums WHERE b <> coalesce(wanted_b, 0) OR s <> coalesce(wanted_s, 0)) THEN 'sums' END,
		CASE WHEN (b.balance, b.checked_at) IS DISTINCT FROM ((SELECT balance FROM newest), (SELECT checked_at FROM newest)) THEN 'balance' END,
		CASE WHEN (b.failures::bigint, b.error_since, b.error_at, b.error) IS DISTINCT FROM (f.n, f.first, f.last, f.error) THEN 'failures' END)
	FROM tokenbill.provider_balance b, failed f WHERE b.provider = 'mixed'
$$;
CREATE TEMP TABLE outcome (at timestamptz, wrong text);
DO $do$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT * FROM report ORDER BY place LOOP
		PERFORM tokenbill.record_provider_balance('mixed', r.balance, checked_at => r.at, error => CASE WHEN r.balance IS NULL THEN 'failed ' || r.at END);
		INSERT INTO outcome SELECT r.at, pg_temp.wrong();
	END LOOP;
END $do$;
SELECT is_empty($$SELECT at, wrong FROM outcome WHERE wrong <> ''$$, 'reports in any order');
SELECT is(count(*), 300::bigint, 'all of them') FROM outcome;
SELECT is(count(*) > 200 AND count(*) < 300, true, 'of which most came late') FROM report a WHERE EXISTS (SELECT FROM report b WHERE b.at > a.at AND b.place < a.place);

-- How long it lasts
SELECT tokenbill.add_provider('burn', 'manual', check_every => '1 hour') \g /dev/null
SELECT is(pg_temp.at('2026-03-02 00:00+00', 'burn', 100), 'USD 100 ok', 'one report');
SELECT is(burn_per_hour, NULL, 'tells no rate') FROM tokenbill.provider_balances WHERE provider = 'burn';
SELECT pg_temp.at('2026-03-02 00:29:59+00', 'burn', 99) \g /dev/null
SELECT is(burn_per_hour, NULL, 'nor do two so soon') FROM tokenbill.provider_balances WHERE provider = 'burn';
SELECT pg_temp.at('2026-03-02 10:00+00', 'burn', 80) \g /dev/null
SELECT is(pg_temp.pick(b, 'burn_per_hour', 'empty_at', 'empty_in'), '{"burn_per_hour": 2, "empty_at": "2026-03-04T02:00:00+00:00", "empty_in": "1 day 16:00:00"}', 'from half a check_every on') FROM tokenbill.provider_balances b WHERE provider = 'burn';
SELECT is(pg_temp.gauges('burn'), '{"balance": 80, "stale": 0, "age_seconds": 0, "failures": 0, "burn_per_hour": 2, "empty_in_seconds": 144000}', 'as gauges');
SET LOCAL tokenbill.clock = '2026-03-04 03:00+00';
SELECT is(pg_temp.pick(b, 'status', 'empty_at', 'empty_in'), '{"status": "stale", "empty_at": "2026-03-04T02:00:00+00:00", "empty_in": "00:00:00"}', 'it runs on while nothing is reported, to zero and not below') FROM tokenbill.provider_balances b WHERE provider = 'burn';
SELECT pg_temp.at('2026-03-05 00:00+00', 'burn', 50), pg_temp.at('2026-03-05 04:00+00', 'burn', 50) \g /dev/null
SELECT is(pg_temp.pick(b, 'burn_per_hour', 'empty_at', 'empty_in'), '{"burn_per_hour": 0, "empty_at": null, "empty_in": null}', 'only the last day counts; what does not burn is never empty') FROM tokenbill.provider_balances b WHERE provider = 'burn';
SELECT pg_temp.at('2026-03-05 05:00+00', 'burn', 0) \g /dev/null
SELECT is(pg_temp.pick(b, 'burn_per_hour', 'empty_at', 'empty_in'), '{"burn_per_hour": 10, "empty_at": "2026-03-05T05:00:00+00:00", "empty_in": "00:00:00"}', 'empty') FROM tokenbill.provider_balances b WHERE provider = 'burn';

-- Kept as long as it is to be
SELECT tokenbill.set_provider('burn', keep_history => '1 day') \g /dev/null
SELECT is(count(*), 6::bigint, 'the history before') FROM tokenbill.provider_history WHERE provider = 'burn';
SELECT is(tokenbill.expire_provider_history(max => 2), 2::bigint, 'expired: at most so many');
SELECT is(tokenbill.expire_provider_history('burn'), 1::bigint, 'the rest');
SELECT is(tokenbill.expire_provider_history(), 0::bigint, 'of all: nothing else is so old');
SELECT pg_temp.at('2026-03-06 04:00:01+00', 'burn', -1) \g /dev/null
SELECT results_eq($$SELECT checked_at, balance FROM tokenbill.provider_history WHERE provider = 'burn' ORDER BY 1$$, $$VALUES ('2026-03-05 05:00+00'::timestamptz, 0::numeric), ('2026-03-06 04:00:01+00', -1)$$, 'a report takes the old ones with it');
SET LOCAL tokenbill.clock = '2026-04-06 04:00+00';
SELECT tokenbill.expire_provider_history('burn') \g /dev/null
SELECT is(pg_temp.say('burn'), 'USD -1 stale stale', 'the last balance outlives its history');
SELECT is(pg_temp.at('2026-04-07 00:00+00', 'burn', 5), 'USD 5 ok', 'and it goes on from there');

-- Dropped
SELECT is(provider, 'burn', 'drop_provider: the row it had') FROM tokenbill.drop_provider('burn');
SELECT is_empty($$SELECT provider FROM tokenbill.provider WHERE provider = 'burn' UNION ALL SELECT provider FROM tokenbill.provider_balance WHERE provider = 'burn'
	UNION ALL SELECT provider FROM tokenbill.provider_balance_history WHERE provider = 'burn'$$, 'all of it is gone');
SELECT is(pg_temp.say(provider), 'USD - unknown', 'added again it remembers nothing') FROM tokenbill.add_provider('burn', 'manual');

-- A tenant has nothing to do with it
CREATE ROLE pv_tenant LOGIN IN ROLE tokenbill_admin;
SELECT tokenbill.create_account('mine'), tokenbill.map_tenant('pv_tenant', 'mine') \g /dev/null
SELECT is(pg_temp.rows_as(query, 'pv_tenant'), '[]', query) FROM (VALUES ('SELECT * FROM tokenbill.provider_balances'), ('SELECT * FROM tokenbill.provider_history'), ('SELECT * FROM tokenbill.metrics WHERE name ~ ''provider''')) v(query);
SELECT pg_temp.refused(statement, '42501', '{"argument": "provider"}', statement, 'pv_tenant') FROM (VALUES
	($$SELECT tokenbill.add_provider('t', 'manual')$$), ($$SELECT tokenbill.set_provider('p', enabled => true)$$), ($$SELECT tokenbill.drop_provider('p')$$), ($$SELECT tokenbill.record_provider_balance('p', 5)$$),
	($$SELECT tokenbill.record_provider_balance('nowhere', 5)$$), ($$SELECT tokenbill.expire_provider_history()$$)) v(statement);

SELECT * FROM finish();
ROLLBACK;
