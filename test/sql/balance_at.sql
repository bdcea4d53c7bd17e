-- balance_at: what an account had at any time
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(34);
SET LOCAL tokenbill.clock = '2002-01-10 00:00:00+00';
SELECT tokenbill.create_account('b'), tokenbill.create_account('empty') \g /dev/null
SELECT tokenbill.recharge('b', 10, 'BA-1') \g /dev/null
SET LOCAL tokenbill.clock = '2002-01-10 00:00:01+00';
SELECT tokenbill.charge_amount('b', 1, 'c1'), tokenbill.charge_amount('b', 1, 'c2'), tokenbill.charge_amount('b', 1, 'c3') \g /dev/null
SET LOCAL tokenbill.clock = '2002-01-20 00:00:00+00';
SELECT tokenbill.hold('b', 2, 'h', ttl => '100 days') \g /dev/null
SET LOCAL tokenbill.clock = '2002-02-05 12:00:00+00';
SELECT tokenbill.capture('b', 'h') \g /dev/null
SET LOCAL tokenbill.clock = '2002-04-01 00:00:00+00';
SELECT tokenbill.charge_amount('b', 20, 'c4', on_insufficient => 'debt') \g /dev/null

CREATE TEMP TABLE wanted (at timestamptz, balance numeric, what text);
INSERT INTO wanted VALUES
	('2000-01-01 00:00:00+00', 0, 'long before'),
	('2002-01-09 23:59:59.999999+00', 0, 'a microsecond before the first line'),
	('2002-01-10 00:00:00+00', 10, 'at the first line'),
	('2002-01-10 00:00:00.999999+00', 10, 'until the next'),
	('2002-01-10 00:00:01+00', 7, 'lines of one moment all count'),
	('2002-01-15 00:00:00+00', 7, 'between two lines'),
	('2002-01-31 23:59:59.999999+00', 7, 'at the end of the month; a hold is no charge'),
	('2002-02-01 00:00:00+00', 7, 'at the beginning of the next'),
	('2002-02-05 12:00:00+00', 5, 'at the capture'),
	('2002-03-15 00:00:00+00', 5, 'in a month without lines'),
	('2002-04-01 00:00:00+00', -15, 'at the last line'),
	('2099-12-31 00:00:00+00', -15, 'for ever');
SELECT is(tokenbill.balance_at('b', at), balance, what) FROM wanted ORDER BY at;
SELECT is_empty($$SELECT seq FROM tokenbill.ledger l WHERE account = 'b' AND tokenbill.balance_at('b', created_at) <>
	(SELECT sum(amount) FROM tokenbill.ledger m WHERE m.account = 'b' AND m.created_at <= l.created_at)$$, 'it is the sum of the lines until then');
SELECT is(tokenbill.balance_at('empty', '2010-01-01'), 0::numeric, 'an account without lines has nothing');
SET LOCAL timezone = 'Asia/Tokyo';
SELECT is(tokenbill.balance_at('b', '2002-02-05 21:00:00'), 5::numeric, 'a time without a zone is the session''s');
SET LOCAL timezone = 'UTC';

SELECT pg_temp.refused(format('SELECT tokenbill.balance_at(%s)', args), sqlstate, detail, description) FROM (VALUES
	('''nobody'', ''2010-01-01''', 'PT404', '{"account": "nobody"}'::jsonb, 'unknown account'),
	('NULL, ''2010-01-01''', '22004', '{"argument": "account"}', 'account null'),
	('''b'', NULL', '22004', '{"argument": "at"}', 'time null'),
	('''b'', ''infinity''', '22008', '{"argument": "at"}', 'the end of time'),
	('''b'', ''-infinity''', '22008', '{"argument": "at"}', 'the beginning of time'),
	('''b'', ''1815-06-18''', '22008', '{"argument": "at"}', 'another century'),
	('''b'', ''4713-01-01 BC''', '22008', '{"argument": "at"}', 'another era')) v(args, sqlstate, detail, description);

-- Months that are gone: from their closing on it is known
SELECT tokenbill.seal_ledger_month('2002-01-01') \g /dev/null
SELECT is_empty('SELECT what, tokenbill.balance_at(''b'', at) FROM wanted WHERE tokenbill.balance_at(''b'', at) <> balance', 'sealing a month changes nothing');
SET LOCAL tokenbill.clock = '2002-07-01 00:00:00+00';
SELECT tokenbill.drop_ledger_month('2002-01-01') \g /dev/null
SELECT is_empty($$SELECT what, tokenbill.balance_at('b', at) FROM wanted WHERE at >= '2002-01-20' AND tokenbill.balance_at('b', at) <> balance$$, 'January is dropped: from its last line on all is known');
SELECT is(tokenbill.balance_at('b', '2002-01-31 12:00:00+00'), 7::numeric, 'its closing');
SELECT is(tokenbill.balance_at('b', '2002-01-01 00:00:00+00'), 0::numeric, 'before it there was nothing');
SELECT tokenbill.drop_ledger_month('2002-02-01'), tokenbill.make_ledger_month('2002-03-01') \g /dev/null
SELECT is(tokenbill.balance_at('b', '2002-03-15 00:00:00+00'), 5::numeric, 'February is dropped, too');
SELECT is(tokenbill.balance_at('b', '2002-02-01 00:00:00+00'), 7::numeric, 'January''s closing is still known');
SELECT is(tokenbill.balance_at('b', '2002-04-01 00:00:00+00'), -15::numeric, 'and so is what is left');
SELECT tokenbill.drop_ledger_month('2002-03-01'), tokenbill.drop_ledger_month('2002-04-01') \g /dev/null
SELECT is(tokenbill.balance_at('b', '2002-05-01 00:00:00+00'), -15::numeric, 'when all is dropped, the last closing is');
SELECT is(tokenbill.balance_at('b', '2002-03-15 00:00:00+00'), 5::numeric, 'and those before it');
SELECT is(tokenbill.balance_at('empty', '2002-03-15 00:00:00+00'), 0::numeric, 'nothing comes of nothing');
SELECT tokenbill.charge_amount('b', 1, 'c5', on_insufficient => 'debt') \g /dev/null
SELECT is(tokenbill.balance_at('b', tokenbill.clock()), -16::numeric, 'and a new line counts');
SELECT is(tokenbill.balance_at('b', tokenbill.clock() - interval '1 second'), -15::numeric, 'from its moment on');

SELECT * FROM finish();
ROLLBACK;
