-- The proof of credits: whatever is changed behind tokenbill's back, verify_ledger() finds it
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(31);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('v'), tokenbill.recharge('v', 10, 'R-v'), tokenbill.grant_credit('v', 5, 'g1', expires_at => '2026-04-01'), tokenbill.grant_credit('v', 3, 'g2', scope => '{gpt-*}'),
	tokenbill.grant_credit('v', 1, 'g3', priority => 1), tokenbill.charge_amount('v', 2, 'c1'), tokenbill.charge_amount('v', 6, 'c2', 'gpt-5'), tokenbill.refund('v', 'c2', 'r1', 1), tokenbill.hold('v', 2.5, 'h1', service => 'gpt-5'),
	tokenbill.create_account('w', sandbox => true), tokenbill.grant_credit('w', 5, 'g1', expires_at => '2026-04-01'), tokenbill.charge_amount('w', 2, 'c1'), tokenbill.refund('w', 'c1', 'r1') \g /dev/null
SELECT is((SELECT string_agg(format('%s %s/%s %s', credit_key, trim_scale(remaining), trim_scale(reserved), status), ', ' ORDER BY seq) FROM tokenbill.credits WHERE account = 'v'),
	'g1 0/0 spent, g2 2/2 open, g3 0/0 spent', 'what there is to be proven');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'it is sound');
SELECT is((SELECT jsonb_agg(burned ORDER BY seq) FROM tokenbill.statement WHERE account = 'v' AND kind = 'charge'),
	'[[{"amount": 1, "credit": "g3"}, {"amount": 1, "credit": "g1"}], [{"amount": 4, "credit": "g1"}, {"amount": 2, "credit": "g2"}]]', 'who paid');

-- What tokenbill's own triggers refuse
SELECT pg_temp.refused(statement, 'PT409', '{"table": "credit"}', what) FROM (VALUES
	($$UPDATE tokenbill.credit SET status = 'expired' WHERE credit_key = 'g3'$$, 'a spent credit does not expire'),
	($$UPDATE tokenbill.credit SET status = 'nonsense' WHERE credit_key = 'g2'$$, 'there is no such state'),
	($$DELETE FROM tokenbill.credit$$, 'a credit is not deleted'), ($$TRUNCATE tokenbill.credit$$, 'nor are all')) v(statement, what);

-- Each change is undone again; problems as "problem credit_key"
CREATE FUNCTION pg_temp.found(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	BEGIN
		SET CONSTRAINTS ALL IMMEDIATE;
		ALTER TABLE tokenbill.credit DISABLE TRIGGER forward_only, DISABLE TRIGGER no_delete;
		ALTER TABLE tokenbill.hold DISABLE TRIGGER forward_only;
		ALTER TABLE tokenbill.ledger DISABLE TRIGGER append_only;
		EXECUTE change;
		SELECT string_agg(concat_ws(' ', account, problem, detail ->> 'credit_key', detail ->> 'hold_key'), ', ' ORDER BY account, problem, seq NULLS FIRST, detail ->> 'credit_key', detail ->> 'hold_key') INTO result
		FROM tokenbill.verify_ledger() WHERE problem <> 'hash';
		RAISE EXCEPTION SQLSTATE 'TB000';
	EXCEPTION WHEN SQLSTATE 'TB000' THEN
		RETURN coalesce(result, 'nothing');
	END;
END
$$;
SELECT is(pg_temp.found(change), wanted, what) FROM (VALUES
	('SELECT 1', 'nothing', 'nothing changed, nothing found'),
	($$UPDATE tokenbill.credit SET remaining = 2.5 WHERE credit_key = 'g2'$$, 'v credit g2', 'more remaining'),
	($$UPDATE tokenbill.credit SET remaining = 1.5 WHERE credit_key = 'g2'$$, 'v credit g2', 'less remaining'),
	($$UPDATE tokenbill.credit SET amount = 4 WHERE credit_key = 'g2'$$, 'v credit g2', 'another amount'),
	($$UPDATE tokenbill.credit SET seq = 1 WHERE credit_key = 'g2'$$, 'v credit g2', 'another grant'),
	($$UPDATE tokenbill.credit SET reserved = 1 WHERE credit_key = 'g2'$$, 'v credit g2', 'less reserved'),
	($$UPDATE tokenbill.credit SET remaining = 1, status = 'open' WHERE credit_key = 'g3'; UPDATE tokenbill.account SET credits = 2 WHERE account = 'v'$$, 'v credit g3', 'a spent one open again'),
	($$UPDATE tokenbill.credit SET status = 'spent' WHERE credit_key = 'g2'; UPDATE tokenbill.account SET credits = 0 WHERE account = 'v'$$, 'v credit g2', 'one that is hidden from charges'),
	($$UPDATE tokenbill.account SET credits = 0 WHERE account = 'v'$$, 'v credit', 'all of them hidden'),
	($$UPDATE tokenbill.account SET credits = 2 WHERE account = 'v'$$, 'v credit', 'one that is not there counted'),
	($$DELETE FROM tokenbill.credit WHERE credit_key = 'g3' AND account = 'v'$$, 'v credit g3, v credit g3', 'a row deleted'),
	($$INSERT INTO tokenbill.credit (account, credit_key, seq, amount, remaining, priority, category, cost_basis, effective_at, created_at, updated_at)
		VALUES ('v', 'mine', 1, 9, 9, 0, 'paid', 1, '2026-01-01', '2026-01-01', '2026-01-01'); UPDATE tokenbill.account SET credits = 2 WHERE account = 'v'$$, 'v credit mine', 'a row made by hand'),
	($$UPDATE tokenbill.credit SET remaining = 3 WHERE account = 'w'$$, 'w credit g1', 'in a sandbox, too'),
	($$UPDATE tokenbill.hold SET reserved = NULL$$, 'v credit g2', 'a hold that reserves none of it'),
	($$UPDATE tokenbill.hold SET reserved = '[{"amount": 2, "credit": "g2"}]'$$, 'v credit h1', 'a hold whose parts are not what is left'),
	($$UPDATE tokenbill.hold SET reserved = '[{"amount": 2.5, "credit": "g2"}]'$$, 'v credit g2', 'a hold that reserves more of it'),
	($$UPDATE tokenbill.ledger SET request = jsonb_set(request, '{burned,0,amount}', '3') WHERE idempotency_key = 'c2'$$, 'v credit g1, v credit', 'another amount in a line'),
	($$UPDATE tokenbill.ledger SET request = request - 'burned' WHERE idempotency_key = 'c1' AND account = 'v'$$, 'v credit g1, v credit g3', 'a line that says nothing'),
	($$UPDATE tokenbill.ledger SET request = jsonb_set(request, '{burned,0,credit}', '"nobody"') WHERE idempotency_key = 'c1' AND account = 'v'$$, 'v credit nobody, v credit g3', 'a line that names another'),
	($$UPDATE tokenbill.ledger SET request = jsonb_set(request, '{burned}', '5') WHERE idempotency_key = 'c1' AND account = 'v'$$, 'v credit g1, v credit g3, v credit', 'a line that has no parts'),
	($$UPDATE tokenbill.ledger SET request = jsonb_set(request, '{returned,0,amount}', '-1') WHERE idempotency_key = 'r1' AND account = 'v'$$, 'v credit g2, v credit', 'a negative part')) v(change, wanted, what);

-- A month dropped: what was granted in it cannot be proven, and is not called wrong; what was granted later is
SELECT tokenbill.release('v', 'h1') \g /dev/null
SET LOCAL tokenbill.idempotency_window = '1 day';
SET LOCAL tokenbill.clock = '2026-05-10 12:00:00+00';
SELECT tokenbill.grant_credit('v', 2, 'may', expires_at => '2026-07-01'), tokenbill.charge_amount('v', 3, 'c3', 'gpt-5') \g /dev/null
SELECT is(tokenbill.drop_ledger_month('2026-03-01') > 0, true, 'a month is dropped');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'the rest is sound');
SELECT is(pg_temp.found($$UPDATE tokenbill.credit SET remaining = 0.5, status = 'open' WHERE credit_key = 'may'; UPDATE tokenbill.account SET credits = credits + 1 WHERE account = 'v'$$), 'v credit may', 'and is still proven');

SELECT * FROM finish();
ROLLBACK;
