-- Months of the ledger: made ahead, made on demand, sealed, dropped
-- The clock is far back, so that what other tests left is younger
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(73);
SET LOCAL tokenbill.idempotency_window = '30 days';
SET LOCAL tokenbill.clock = '2001-01-31 23:59:59.999999+00';
CREATE TEMP VIEW months AS SELECT inhrelid::regclass::text AS month FROM pg_inherits WHERE inhparent = 'tokenbill.ledger'::regclass AND inhrelid::regclass::text < 'tokenbill.ledger_2002_01';

-- Made
SELECT is(tokenbill.make_ledger_month('2001-03-15 00:00:00+00'), 'ledger_2001_03', 'make_ledger_month makes the month of a time');
SELECT is(tokenbill.make_ledger_month('2001-03-31 23:59:59+00'), 'ledger_2001_03', 'once');
SET LOCAL timezone = 'Pacific/Auckland';
SELECT is(tokenbill.make_ledger_month('2001-03-31 23:59:59+00'), 'ledger_2001_03', 'in UTC, wherever the session is');
SET LOCAL timezone = 'UTC';
SELECT is(pg_get_expr(relpartbound, oid), 'FOR VALUES FROM (''2001-03-01 00:00:00+00'') TO (''2001-04-01 00:00:00+00'')', 'from the first moment to the last')
FROM pg_class WHERE oid = 'tokenbill.ledger_2001_03'::regclass;
SELECT results_eq('SELECT * FROM tokenbill.make_ledger_months(2)', $$VALUES ('ledger_2001_01'), ('ledger_2001_02'), ('ledger_2001_03')$$, 'make_ledger_months: this month and two ahead');
SELECT results_eq('SELECT * FROM tokenbill.make_ledger_months(0)', $$VALUES ('ledger_2001_01')$$, 'none ahead');
SET LOCAL tokenbill.clock = '2001-01-31 23:59:59.999999+00';
SELECT bag_eq($$SELECT indexdef FROM pg_indexes WHERE tablename = 'ledger_2001_01' AND schemaname = 'tokenbill'$$,
	$$VALUES ('CREATE UNIQUE INDEX ledger_2001_01_pkey ON tokenbill.ledger_2001_01 USING btree (account, seq)'),
		('CREATE UNIQUE INDEX ledger_2001_01_idempotency_key ON tokenbill.ledger_2001_01 USING btree (account, idempotency_key)')$$, 'every month has both keys');
SELECT is_empty($$SELECT 1 FROM pg_depend WHERE deptype = 'e' AND objid = 'tokenbill.ledger_2001_01'::regclass$$, 'a month is no member of the extension: pg_dump dumps it');
SELECT is(relowner, (SELECT relowner FROM pg_class WHERE oid = 'tokenbill.ledger'::regclass), 'it has the same owner as the ledger') FROM pg_class WHERE oid = 'tokenbill.ledger_2001_01'::regclass;
SELECT pg_temp.refused('SELECT tokenbill.' || call, sqlstate, jsonb_build_object('argument', argument), call) FROM (VALUES
	('make_ledger_month(NULL)', '22004', 'at'), ('make_ledger_month(''infinity'')', '22008', 'at'), ('make_ledger_month(''1999-12-31 23:59:59+00'')', '22008', 'at'),
	('make_ledger_month(''2100-01-01 00:00:00+00'')', '22008', 'at'), ('make_ledger_months(-1)', '22023', 'ahead'), ('make_ledger_months(121)', '22023', 'ahead'),
	('make_ledger_months(NULL)', '22004', 'ahead'), ('seal_ledger_month(NULL)', '22004', 'month'), ('drop_ledger_month(NULL)', '22004', 'month'),
	('seal_ledger_month(''infinity'')', '22008', 'month')) v(call, sqlstate, argument);

-- On demand, by the charge that needs one
SELECT tokenbill.create_account('m1', 'MON'), tokenbill.create_account('m2', 'MON'), tokenbill.create_account('quiet', 'MON') \g /dev/null
SELECT tokenbill.recharge('m1', 100, 'M-1'), tokenbill.recharge('m2', 50, 'M-2'), tokenbill.charge_amount('m1', 1, 'jan') \g /dev/null
SET LOCAL tokenbill.clock = '2001-02-01 00:00:00+00';
SELECT tokenbill.charge_amount('m1', 2, 'feb'), tokenbill.hold('m1', 20, 'across', ttl => '1 year') \g /dev/null
SET LOCAL tokenbill.clock = '2001-04-10 00:00:00+00';
SELECT is_empty($$SELECT 1 FROM months WHERE month = 'tokenbill.ledger_2001_04'$$, 'April is not there');
SELECT tokenbill.charge_amount('m1', 3, 'apr') \g /dev/null
SELECT isnt_empty($$SELECT 1 FROM months WHERE month = 'tokenbill.ledger_2001_04'$$, 'the charge makes it');
SELECT results_eq($$SELECT tableoid::regclass::text, seq FROM tokenbill.ledger WHERE account = 'm1' ORDER BY seq$$,
	$$VALUES ('tokenbill.ledger_2001_01', 1::bigint), ('tokenbill.ledger_2001_01', 2), ('tokenbill.ledger_2001_02', 3), ('tokenbill.ledger_2001_02', 4), ('tokenbill.ledger_2001_04', 5)$$,
	'the last microsecond of January is January, the first of February February');
SET LOCAL timezone = 'Pacific/Auckland';
SET LOCAL tokenbill.clock = '2001-04-30 23:00:00+00';
SELECT tokenbill.charge_amount('m1', 1, 'apr2') \g /dev/null
SET LOCAL timezone = 'UTC';
SELECT is(tableoid::regclass::text, 'tokenbill.ledger_2001_04', 'months are UTC''s for a charge as well') FROM tokenbill.ledger WHERE account = 'm1' AND idempotency_key = 'apr2';
SET LOCAL tokenbill.clock = '2001-02-15 00:00:00+00';
SELECT tokenbill.charge_amount('m1', 1, 'back') \g /dev/null
SELECT is(created_at, '2001-04-30 23:00:00+00', 'a clock that goes back does not take the account with it') FROM tokenbill.ledger WHERE account = 'm1' AND idempotency_key = 'back';

-- Sealed
SELECT pg_temp.refused($$SELECT tokenbill.seal_ledger_month('2001-02-01')$$, 'PT409', '{"month": "2001-02"}', 'a month that is not over is not sealed');
SET LOCAL tokenbill.clock = '2001-05-10 00:00:00+00';
SELECT pg_temp.refused($$SELECT tokenbill.seal_ledger_month('2000-12-01')$$, 'PT404', '{"month": "2000-12"}', 'nor one that is not there');
SELECT pg_temp.refused($$SELECT tokenbill.seal_ledger_month('2001-02-01')$$, 'PT409', '{"month": "2001-02", "older": "ledger_2001_01"}', 'nor one before an older one');
SELECT is(tokenbill.seal_ledger_month('2001-01-17'), 2::bigint, 'sealed: two accounts had moved');
SELECT is(tokenbill.seal_ledger_month('2001-01-01'), 0::bigint, 'sealed again: nothing happens');
SELECT results_eq($$SELECT account COLLATE "default", seq, balance, held FROM tokenbill.month_closing WHERE month = '2001-01-01' AND account IN ('m1', 'm2') ORDER BY 1$$,
	$$VALUES ('m1', 2::bigint, 99::numeric, 0::numeric), ('m2', 1, 50, 0)$$, 'where each account stood is kept');
SELECT is(c.hash, l.hash, 'with the hash it stood at') FROM tokenbill.month_closing c JOIN tokenbill.ledger l USING (account, seq) WHERE c.account = 'm1' AND c.month = '2001-01-01';
SELECT results_eq($$SELECT contra, amount, lines FROM tokenbill.month_total WHERE month = '2001-01-01' AND currency = 'MON' ORDER BY 1$$,
	$$VALUES ('cash:manual', 150::numeric, 2::bigint), ('revenue', -1, 1)$$, 'and the totals by contra account');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'a sealed month is sound');
CREATE FUNCTION pg_temp.tampered(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	p record;
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE statement;
	SET LOCAL session_replication_role = origin;
	FOR p IN SELECT * FROM tokenbill.verify_ledger() v LOOP
		RETURN NEXT concat_ws(' ', p.account, p.seq, p.problem);
	END LOOP;
	RAISE EXCEPTION SQLSTATE 'TB999';
EXCEPTION WHEN SQLSTATE 'TB999' THEN
	RETURN;
END $$;
SELECT isnt_empty(format('SELECT * FROM pg_temp.tampered(%L)', s), d) FROM (VALUES
	($$UPDATE tokenbill.month_total SET amount = amount + CASE contra WHEN 'revenue' THEN 1 ELSE -1 END WHERE month = '2001-01-01'$$, 'edited totals of a month that is there, and sum to the same'),
	($$UPDATE tokenbill.month_total SET lines = lines + 1 WHERE month = '2001-01-01' AND contra = 'revenue'$$, 'an edited number of lines'),
	($$UPDATE tokenbill.month_total SET contra = 'grant' WHERE month = '2001-01-01' AND contra = 'revenue'$$, 'an edited contra'),
	($$INSERT INTO tokenbill.month_total (month, currency, contra, amount, lines, sealed_at) VALUES ('2001-01-01', 'EUR', 'revenue', 0, 0, now())$$, 'an inserted total'),
	($$DELETE FROM tokenbill.month_total WHERE month = '2001-01-01'$$, 'a month that was sealed once')) v(s, d);
SET LOCAL tokenbill.clock = '2001-01-20 00:00:00+00';
SELECT pg_temp.refused($$SELECT tokenbill.recharge('quiet', 5, 'M-late')$$, 'PT409', '{}', 'nothing is posted to a sealed month');
SELECT is((SELECT balance FROM tokenbill.balances WHERE account = 'quiet'), 0::numeric, 'and no balance moves');
SELECT isnt((pg_temp.error_of($$INSERT INTO tokenbill.ledger_2001_01 SELECT * FROM tokenbill.ledger_2001_02$$)).sqlstate, '00000', 'not by hand');
SELECT pg_temp.refused($$INSERT INTO tokenbill.ledger SELECT account, 99, '2001-01-20 00:00:00+00', kind, amount, balance, held, credit_limit, contra, service, usage, rates, metadata,
	request, 'forged', ref, hash FROM tokenbill.ledger_2001_02 LIMIT 1$$, 'PT409', '{"operation": "insert"}', 'not through the parent');
SET LOCAL tokenbill.clock = '2001-05-10 00:00:00+00';

-- Dropped: the oldest first, and not before its keys may be forgotten
SELECT pg_temp.refused($$SELECT tokenbill.drop_ledger_month('2001-02-01')$$, 'PT409', '{"month": "2001-02", "older": "ledger_2001_01"}', 'a month is not dropped before an older one');
SET LOCAL tokenbill.clock = '2001-03-02 23:59:59+00';
SELECT pg_temp.refused($$SELECT tokenbill.drop_ledger_month('2001-01-01')$$, 'PT409', '{"month": "2001-01", "idempotency_window": "30 days"}', 'nor while its keys must be remembered');
SET LOCAL tokenbill.clock = '2001-05-10 00:00:00+00';
SET LOCAL tokenbill.idempotency_window = 'infinity';
SELECT pg_temp.refused($$SELECT tokenbill.drop_ledger_month('2001-01-01')$$, 'PT409', '{"month": "2001-01", "idempotency_window": "infinity"}', 'which may be for ever');
SET LOCAL tokenbill.idempotency_window = '30 days';
SELECT jsonb_agg(to_jsonb(t) ORDER BY ledger_account) AS before FROM tokenbill.trial_balance t WHERE currency = 'MON' \gset
SELECT is(tokenbill.drop_ledger_month('2001-01-31'), 3::bigint, 'dropped: three lines went');
SELECT is_empty($$SELECT 1 FROM months WHERE month = 'tokenbill.ledger_2001_01'$$, 'the table is gone');
SELECT is(jsonb_agg(to_jsonb(t) ORDER BY ledger_account), :'before'::jsonb, 'the trial balance is what it was') FROM tokenbill.trial_balance t WHERE currency = 'MON';
SELECT is(sum(amount), 0::numeric, 'and sums to zero') FROM tokenbill.trial_balance WHERE currency = 'MON';
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'the rest is sound');
SELECT pg_temp.refused($$SELECT tokenbill.make_ledger_month('2001-01-15')$$, 'PT409', '{"month": "2001-01"}', 'a dropped month is not made again');
SELECT pg_temp.refused($$SELECT tokenbill.drop_ledger_month('2001-01-15')$$, 'PT404', '{"month": "2001-01"}', 'nor dropped again');
SELECT results_eq($$SELECT seq FROM tokenbill.statement WHERE account = 'm1' ORDER BY seq$$, 'SELECT generate_series(3, 7)::bigint', 'the statement begins with February');
SELECT is(balance, 50::numeric, 'an account all of whose lines are gone has its balance') FROM tokenbill.balances WHERE account = 'm2';
SELECT is(pg_temp.pick(r, 'seq', 'balance'), '{"seq": 2, "balance": 49}', 'and goes on from there') FROM tokenbill.charge_amount('m2', 1, 'may') r;
SELECT pg_temp.refused($$SELECT tokenbill.refund('m1', 'jan', 'r1')$$, 'PT404', '{"account": "m1", "charge_key": "jan"}', 'a charge that is gone is not refunded');
SELECT is(replayed, false, 'a key that may be forgotten is') FROM tokenbill.charge_amount('m2', 2, 'may2');

-- A key whose time is over is a new key: what belonged to the old request is not counted again
SET LOCAL tokenbill.clock = '2001-08-01 00:00:00+00';
SELECT tokenbill.create_account('reuse', 'MON', credit_limit => 100), tokenbill.charge_amount('reuse', 10, 'again'), tokenbill.refund('reuse', 'again', 'r1'),
	tokenbill.hold('reuse', 5, 'hold again'), tokenbill.release('reuse', 'hold again') \g /dev/null
SET LOCAL tokenbill.clock = '2001-10-15 00:00:00+00';
SELECT is(pg_temp.pick(r, 'replayed', 'amount', 'seq'), '{"replayed": false, "amount": -7, "seq": 5}', 'a key used again after its window') FROM tokenbill.charge_amount('reuse', 7, 'again') r;
SELECT is((pg_temp.error_of($$SELECT tokenbill.refund('reuse', 'again', 'r2', 7.01)$$)).detail, '{"account": "reuse", "charge_key": "again", "charged": 7, "refunded": 0, "refundable": 7, "requested": 7.01}',
	'is refunded as the new charge it is');
SELECT pg_temp.refused($$SELECT tokenbill.hold('reuse', 5, 'hold again')$$, 'PT409', '{"account": "reuse"}', 'holds are kept for ever, and so are their keys');

-- February is sealed by dropping it; a hold made there is still captured
SELECT is(tokenbill.drop_ledger_month('2001-02-01'), 2::bigint, 'February');
SELECT is(tokenbill.drop_ledger_month('2001-03-01'), 0::bigint, 'March, without a line');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'sound');
SELECT is(pg_temp.pick(r, 'amount', 'held'), '{"amount": -20, "held": 0}', 'a hold outlives its line') FROM tokenbill.capture('m1', 'across') r;
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'and then');
SELECT is(sum(amount), 0::numeric, 'and zero it is') FROM tokenbill.trial_balance WHERE currency = 'MON';

-- Tampering around a dropped month is found
SELECT isnt_empty(format('SELECT * FROM pg_temp.tampered(%L)', s), d) FROM (VALUES
	($$UPDATE tokenbill.month_closing SET balance = balance + 1 WHERE account = 'm1' AND month = '2001-02-01'$$, 'an edited closing balance'),
	($$UPDATE tokenbill.month_closing SET hash = sha256(hash) WHERE account = 'm1' AND month = '2001-02-01'$$, 'an edited closing hash'),
	($$DELETE FROM tokenbill.month_closing WHERE account = 'm2'$$, 'a deleted closing'),
	($$UPDATE tokenbill.month_total SET amount = amount + 1 WHERE contra = 'cash:manual' AND month = '2001-01-01'$$, 'an edited total'),
	($$DELETE FROM tokenbill.month_total WHERE contra = 'revenue' AND month = '2001-01-01'$$, 'a deleted total'),
	($$UPDATE tokenbill.ledger SET metadata = '{}' WHERE account = 'm1' AND seq = 5$$, 'the first line that is left'),
	($$DELETE FROM tokenbill.ledger WHERE account = 'm1' AND seq = 5$$, 'the first line that is left, deleted')) v(s, d);

SELECT * FROM finish();
ROLLBACK;
