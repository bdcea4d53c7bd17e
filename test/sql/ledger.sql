-- The ledger: append-only, gapless, chained; and what verify_ledger() finds
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(74);
SET LOCAL tokenbill.clock = '2026-03-30 12:00:00.123456+00';
SELECT tokenbill.create_account('led', credit_limit => 3.50), tokenbill.create_account('clean'), tokenbill.create_account('Kontoführung "x" 💶'),
	tokenbill.create_account('sand', sandbox => true) \g /dev/null
SELECT tokenbill.set_price('llm', 'input_tokens', 2.50, 1000000), tokenbill.set_price('llm', 'output_tokens', 10, 1000000),
	tokenbill.set_cost('llm', 'input_tokens', 1.5, 1000000) \g /dev/null

-- A line of every kind, with and without everything that may be null
SELECT tokenbill.recharge('led', 100.00, 'L-1', payment_method => 'wire', metadata => '{"z": 1, "a": [1.50, "ü", null, {"b": true}]}'),
	tokenbill.recharge('led', 1e3, 'L-2'), tokenbill.grant_credit('led', 5, 'g1', reason => 'welcome'), tokenbill.grant_credit('led', 5.000, 'g2'),
	tokenbill.charge('led', 'llm', '{"input_tokens": 1234, "output_tokens": 0}', 'schlüssel-1', metadata => '{"model": "großes"}'),
	tokenbill.charge_amount('led', 0.10, 'c2'), tokenbill.charge_amount('led', 2000, 'c3', 'Dienst', 'debt'),
	tokenbill.recharge('led', 2000, 'L-3') \g /dev/null
SELECT tokenbill.hold('led', 10, 'h1', on_expiry => 'charge', metadata => '{"k": "v"}'), tokenbill.extend_hold('led', 'h1', 11, '1 hour'),
	tokenbill.capture('led', 'h1', usage => '{"output_tokens": 77}', idempotency_key => 'cap1', final => false, service => 'llm'),
	tokenbill.hold('led', NULL, 'h2', service => 'llm', usage => '{"output_tokens": 1000}'), tokenbill.capture('led', 'h2'),
	tokenbill.hold('led', 1, 'h3', ttl => '1 min'), tokenbill.hold('led', 1, 'h4'), tokenbill.release('led', 'h4') \g /dev/null
SELECT tokenbill.charge_amount('led', 0.25, tokenbill.issue_token('led')), tokenbill.refund('led', 'c2', 'r1', 0.05, 'grund'), tokenbill.refund('led', 'c2', 'r2') \g /dev/null
SET LOCAL tokenbill.clock = '2026-04-02 00:00:00+00';
SELECT tokenbill.expire_holds('led'), tokenbill.set_credit_limit('led', 4) \g /dev/null
SELECT tokenbill.charge_amount('led', 0.01, 'april'), tokenbill.hold('led', 4, 'open 1', ttl => '1 year'), tokenbill.hold('led', 2, 'open 2', ttl => '1 year'),
	tokenbill.capture('led', 'open 1', amount => 1, idempotency_key => 'open cap', final => false) \g /dev/null
SELECT tokenbill.recharge('Kontoführung "x" 💶', 1, 'L-4'), tokenbill.charge_amount('Kontoführung "x" 💶', 1, E'k:1,-,"\'\\ ') \g /dev/null
SELECT tokenbill.recharge('sand', 5, 'L-5'), tokenbill.charge('sand', 'llm', '{"input_tokens": 7}', 's1'), tokenbill.hold('sand', 1, 's2'), tokenbill.capture('sand', 's2') \g /dev/null
SELECT tokenbill.recharge('clean', 1, 'L-6') \g /dev/null

SELECT set_eq($$SELECT DISTINCT kind FROM tokenbill.ledger WHERE account = 'led'$$,
	ARRAY['recharge', 'grant', 'charge', 'hold', 'extend', 'capture', 'release', 'expiry', 'refund'], 'every kind there is');
SELECT results_eq($$SELECT account, count(*), min(seq), max(seq), count(DISTINCT seq) FROM tokenbill.ledger WHERE account IN ('led', 'sand') GROUP BY 1 ORDER BY 1$$,
	$$SELECT account, seq, 1::bigint, seq, seq FROM tokenbill.account WHERE account IN ('led', 'sand') ORDER BY 1$$, 'seq has no gaps');
SELECT is_empty($$SELECT seq FROM (SELECT seq, created_at, lag(created_at) OVER (PARTITION BY account ORDER BY seq) AS before FROM tokenbill.ledger WHERE account = 'led') x
	WHERE before > created_at$$, 'time does not go back');
SELECT set_eq($$SELECT tableoid::regclass::text AS month FROM tokenbill.ledger WHERE account = 'led'$$, ARRAY['tokenbill.ledger_2026_03', 'tokenbill.ledger_2026_04'], 'a month a partition');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');
SELECT is((SELECT sum(amount) FROM tokenbill.ledger WHERE account = 'led'), balance, 'the balance is the sum of the amounts') FROM tokenbill.account WHERE account = 'led';

-- The chain, recomputed in SQL
CREATE FUNCTION pg_temp.hash_of(l tokenbill.ledger, previous bytea) RETURNS bytea LANGUAGE sql AS $$
	SELECT pg_temp.line_hash(previous, VARIADIC ARRAY[l.account, l.seq::text,
		(extract(epoch FROM l.created_at - '2000-01-01 00:00:00+00') * 1000000)::bigint::text,
		l.kind, l.amount::text, l.balance::text, l.held::text, l.credit_limit::text, l.contra, l.service, l.usage::text, l.rates::text,
		l.metadata::text, l.request::text, l.idempotency_key, l.ref] || array_remove(ARRAY['cost=' || l.cost], NULL))
$$;
CREATE TEMP VIEW chain AS SELECT l AS line, l.account, l.seq, l.kind, l.hash, lag(l.hash) OVER (PARTITION BY l.account ORDER BY l.seq) AS previous FROM tokenbill.ledger l;
SELECT is_empty($$SELECT account, seq, kind FROM chain WHERE account IN ('led', 'sand', 'clean', 'Kontoführung "x" 💶') AND hash <> pg_temp.hash_of(line, previous)$$,
	'every hash is what the documentation says it is');
SELECT isnt_empty($$SELECT 1 FROM tokenbill.ledger WHERE account = 'led' AND metadata IS NULL AND service IS NULL AND usage IS NULL AND rates IS NULL$$, 'with nulls');
SELECT isnt_empty($$SELECT 1 FROM tokenbill.ledger WHERE account = 'led' AND metadata IS NOT NULL AND service IS NOT NULL AND usage IS NOT NULL AND rates IS NOT NULL$$, 'and without');
SELECT results_eq($$SELECT account COLLATE "default", hash FROM tokenbill.account WHERE account IN ('led', 'sand') ORDER BY 1$$,
	$$SELECT DISTINCT ON (account) account COLLATE "default", hash FROM tokenbill.ledger WHERE account IN ('led', 'sand') ORDER BY account, seq DESC$$, 'the account has the head of its chain');
SELECT isnt(pg_temp.line_hash(NULL, 'ab', 'c'), pg_temp.line_hash(NULL, 'a', 'bc'), 'fields cannot run into each other');
SELECT isnt(pg_temp.line_hash(NULL, '-,'), pg_temp.line_hash(NULL, NULL::text), 'nor can a null be forged');

-- Append-only, for a superuser as well
SELECT pg_temp.refused(format(statement, t), 'PT409', jsonb_build_object('operation', operation, 'table', right_table), statement || ' is refused on ' || t)
FROM (VALUES ('UPDATE tokenbill.%s SET amount = 0 WHERE account = ''led''', 'update'), ('DELETE FROM tokenbill.%s WHERE account = ''led''', 'delete'),
	('TRUNCATE tokenbill.%s', 'truncate')) v(statement, operation),
	(VALUES ('ledger'), ('ledger_2026_03')) w(t),
	LATERAL (SELECT CASE WHEN operation = 'truncate' THEN t ELSE 'ledger_2026_03' END) x(right_table);
SELECT pg_temp.refused('TRUNCATE tokenbill.account CASCADE', 'PT409', '{"table": "account"}', 'accounts are not truncated, either');

-- Tampering: each line is done by a superuser past all triggers, and found
CREATE FUNCTION pg_temp.found(VARIADIC statements text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	s text;
	p record;
	touched bigint;
BEGIN
	SET LOCAL session_replication_role = replica;
	FOREACH s IN ARRAY statements LOOP
		EXECUTE s;
		GET DIAGNOSTICS touched = ROW_COUNT;
		IF touched = 0 THEN
			RAISE EXCEPTION 'nothing tampered with: %', s;
		END IF;
	END LOOP;
	SET LOCAL session_replication_role = origin;
	FOR p IN SELECT * FROM tokenbill.verify_ledger() v WHERE v.account IN ('led', 'sand', 'ghost') OR v.account IS NULL LOOP
		IF jsonb_typeof(p.detail) IS DISTINCT FROM 'object' THEN
			RETURN NEXT 'no detail';
		END IF;
		RETURN NEXT concat_ws(' ', p.account, p.seq, p.problem);
		RETURN NEXT concat_ws(' ', p.account, p.problem);
	END LOOP;
	RAISE EXCEPTION SQLSTATE 'TB999';
EXCEPTION WHEN SQLSTATE 'TB999' THEN
	RETURN;
END $$;
-- what is found is returned although the tampering is undone
CREATE FUNCTION pg_temp.finds(wanted text[], description text, VARIADIC statements text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	got text[];
BEGIN
	got := ARRAY(SELECT f FROM pg_temp.found(VARIADIC statements) f);
	RETURN NEXT ok(got @> wanted AND NOT 'no detail' = ANY (got), description);
	IF NOT (got @> wanted AND NOT 'no detail' = ANY (got)) THEN
		RETURN NEXT diag('wanted ' || wanted::text || ' among ' || got::text);
	END IF;
END $$;
SELECT pg_temp.finds(wanted, description, VARIADIC statements) FROM (VALUES
	('{led 5 hash,led 5 amount}'::text[], 'an edited amount', ARRAY[$$UPDATE tokenbill.ledger SET amount = amount + 1 WHERE account = 'led' AND seq = 5$$]),
	('{led 5 hash}', 'an edited balance', ARRAY[$$UPDATE tokenbill.ledger SET balance = balance + 1 WHERE account = 'led' AND seq = 5$$]),
	('{led 9 hash}', 'edited held', ARRAY[$$UPDATE tokenbill.ledger SET held = held + 1 WHERE account = 'led' AND seq = 9$$]),
	('{led 5 hash}', 'edited metadata', ARRAY[$$UPDATE tokenbill.ledger SET metadata = '{"model": "kleines"}' WHERE account = 'led' AND seq = 5$$]),
	('{led 5 hash}', 'metadata taken away', ARRAY[$$UPDATE tokenbill.ledger SET metadata = NULL WHERE account = 'led' AND seq = 5$$]),
	('{led 6 hash}', 'empty metadata put in', ARRAY[$$UPDATE tokenbill.ledger SET metadata = '{}' WHERE account = 'led' AND seq = 6$$]),
	('{led 5 hash}', 'edited usage', ARRAY[$$UPDATE tokenbill.ledger SET usage = '{"input_tokens": 1233, "output_tokens": 0}' WHERE account = 'led' AND seq = 5$$]),
	('{led 5 hash}', 'edited rates', ARRAY[$$UPDATE tokenbill.ledger SET rates = '{}' WHERE account = 'led' AND seq = 5$$]),
	('{led 5 hash}', 'edited cost', ARRAY[$$UPDATE tokenbill.ledger SET cost = cost + 1 WHERE account = 'led' AND seq = 5$$]),
	('{led 5 hash}', 'a cost taken away', ARRAY[$$UPDATE tokenbill.ledger SET cost = NULL WHERE account = 'led' AND seq = 5$$]),
	('{led 6 hash}', 'a cost put in', ARRAY[$$UPDATE tokenbill.ledger SET cost = 0 WHERE account = 'led' AND seq = 6$$]),
	('{led 5 hash}', 'edited service', ARRAY[$$UPDATE tokenbill.ledger SET service = 'x' WHERE account = 'led' AND seq = 5$$]),
	('{led 5 hash}', 'edited key', ARRAY[$$UPDATE tokenbill.ledger SET idempotency_key = 'x' WHERE account = 'led' AND seq = 5$$]),
	('{led 5 hash}', 'edited contra', ARRAY[$$UPDATE tokenbill.ledger SET contra = 'x' WHERE account = 'led' AND seq = 5$$]),
	('{led 5 hash}', 'edited kind', ARRAY[$$UPDATE tokenbill.ledger SET kind = 'capture' WHERE account = 'led' AND seq = 5$$]),
	('{led 5 hash}', 'edited credit limit', ARRAY[$$UPDATE tokenbill.ledger SET credit_limit = 0 WHERE account = 'led' AND seq = 5$$]),
	('{led 5 hash}', 'edited time', ARRAY[$$UPDATE tokenbill.ledger SET created_at = created_at + interval '1 microsecond' WHERE account = 'led' AND seq = 5$$]),
	('{led 9 hash}', 'edited request', ARRAY[$$UPDATE tokenbill.ledger SET request = NULL WHERE account = 'led' AND seq = 9 AND request IS NOT NULL$$]),
	('{led 10 hash}', 'edited ref', ARRAY[$$UPDATE tokenbill.ledger SET ref = NULL WHERE account = 'led' AND seq = 10 AND ref IS NOT NULL$$]),
	('{led 5 hash}', 'an edited hash', ARRAY[$$UPDATE tokenbill.ledger SET hash = sha256(hash) WHERE account = 'led' AND seq = 5$$]),
	('{led 6 gap}', 'a deleted line', ARRAY[$$DELETE FROM tokenbill.ledger WHERE account = 'led' AND seq = 5$$]),
	('{led 2 gap}', 'the first line deleted', ARRAY[$$DELETE FROM tokenbill.ledger WHERE account = 'led' AND seq = 1$$])
) v(wanted, description, statements);
SELECT isnt_empty($$SELECT f FROM pg_temp.found('DELETE FROM tokenbill.ledger l USING tokenbill.account a WHERE l.account = ''led'' AND a.account = ''led'' AND l.seq = a.seq') f
	WHERE f LIKE 'led%'$$, 'the last line deleted');
SELECT isnt_empty($$SELECT f FROM pg_temp.found('DELETE FROM tokenbill.ledger WHERE account = ''led''') f WHERE f LIKE 'led%'$$, 'all lines deleted');
SELECT isnt_empty(format('SELECT f FROM pg_temp.found(%L) f WHERE f LIKE ''led%%''', s), d) FROM (VALUES
	($$INSERT INTO tokenbill.ledger SELECT account, seq + 1, created_at, kind, amount, balance + amount, held, credit_limit, contra, service, usage, rates, metadata, request, 'forged', ref, hash
		FROM tokenbill.ledger l WHERE account = 'led' ORDER BY seq DESC LIMIT 1$$, 'an inserted line'),
	($$INSERT INTO tokenbill.ledger SELECT account, seq + 1, created_at, kind, amount, balance + amount, held, credit_limit, contra, service, usage, rates, metadata, request, 'forged', ref,
		pg_temp.hash_of((account, seq + 1, created_at, kind, amount, balance + amount, held, credit_limit, contra, service, usage, rates, metadata, request, 'forged', ref, NULL, NULL)::tokenbill.ledger, hash)
		FROM tokenbill.ledger l WHERE account = 'led' ORDER BY seq DESC LIMIT 1$$, 'an inserted line, well forged'),
	($$UPDATE tokenbill.ledger l SET metadata = '{"forged": true}', hash = pg_temp.hash_of((l.account, l.seq, l.created_at, l.kind, l.amount, l.balance, l.held, l.credit_limit,
		l.contra, l.service, l.usage, l.rates, '{"forged": true}', l.request, l.idempotency_key, l.ref, NULL, NULL)::tokenbill.ledger, c.previous)
		FROM chain c WHERE l.account = 'led' AND l.seq = 5 AND c.account = 'led' AND c.seq = 5$$, 'an edited line, its hash well forged'),
	($$UPDATE tokenbill.ledger l SET metadata = '{"forged": true}', hash = pg_temp.hash_of((l.account, l.seq, l.created_at, l.kind, l.amount, l.balance, l.held, l.credit_limit,
		l.contra, l.service, l.usage, l.rates, '{"forged": true}', l.request, l.idempotency_key, l.ref, NULL, NULL)::tokenbill.ledger, c.previous)
		FROM chain c JOIN tokenbill.account a USING (account) WHERE l.account = 'led' AND l.seq = a.seq AND c.account = 'led' AND c.seq = a.seq$$, 'the last line, its hash well forged')) v(s, d);
SELECT pg_temp.finds('{led 5 hash,led 6 hash}', 'swapped lines', VARIADIC ARRAY[
	$$UPDATE tokenbill.ledger SET seq = -5 WHERE account = 'led' AND seq = 5$$, $$UPDATE tokenbill.ledger SET seq = 5 WHERE account = 'led' AND seq = 6$$,
	$$UPDATE tokenbill.ledger SET seq = 6 WHERE account = 'led' AND seq = -5$$]);
SELECT pg_temp.finds(wanted, description, statement) FROM (VALUES
	('{led account}'::text[], 'an account''s edited balance', $$UPDATE tokenbill.account SET balance = balance + 0.01 WHERE account = 'led'$$),
	('{led account}', 'an account''s edited held', $$UPDATE tokenbill.account SET held = held + 1 WHERE account = 'led'$$),
	('{led account}', 'an account''s edited hash', $$UPDATE tokenbill.account SET hash = sha256(hash) WHERE account = 'led'$$),
	('{led account}', 'an account''s hash taken away', $$UPDATE tokenbill.account SET hash = NULL WHERE account = 'led'$$),
	('{led account}', 'an account''s edited seq', $$UPDATE tokenbill.account SET seq = seq + 1 WHERE account = 'led'$$),
	('{led hold}', 'a hold''s edited amount', $$UPDATE tokenbill.hold SET amount = amount + 1 WHERE (account, hold_key) = ('led', 'h1')$$),
	('{led hold}', 'a hold''s edited captures', $$UPDATE tokenbill.hold SET captured = captured + 1 WHERE (account, hold_key) = ('led', 'h1')$$),
	('{led hold}', 'a hold''s edited status', $$UPDATE tokenbill.hold SET status = 'held' WHERE (account, hold_key) = ('led', 'h3')$$),
	('{led hold}', 'a captured hold said to have been released', $$UPDATE tokenbill.hold SET status = 'released' WHERE (account, hold_key) = ('led', 'h2')$$),
	('{led hold}', 'an open hold''s edited amount', $$UPDATE tokenbill.hold SET amount = amount - 1 WHERE (account, hold_key) = ('led', 'open 1')$$),
	('{led hold}', 'an open hold''s edited captures', $$UPDATE tokenbill.hold SET captured = captured - 1 WHERE (account, hold_key) = ('led', 'open 1')$$),
	('{led hold}', 'amounts moved from one open hold to another', $$UPDATE tokenbill.hold SET amount = amount + CASE hold_key WHEN 'open 1' THEN 1 ELSE -1 END WHERE account = 'led' AND status = 'held'$$),
	('{led hold}', 'a deleted hold', $$DELETE FROM tokenbill.hold WHERE (account, hold_key) = ('led', 'h2')$$),
	('{led hold}', 'a made-up hold', $$INSERT INTO tokenbill.hold SELECT account, 'made-up', 50, 0, 'held', on_expiry, service, expires_at, 0, created_at, updated_at FROM tokenbill.hold WHERE (account, hold_key) = ('led', 'h2')$$),
	('{led order}', 'an order''s edited amount', $$UPDATE tokenbill.recharge_order SET amount = 1 WHERE order_no = 'L-1'$$),
	('{led order}', 'a deleted order', $$DELETE FROM tokenbill.recharge_order WHERE order_no = 'L-2'$$),
	('{led order}', 'a made-up order', $$INSERT INTO tokenbill.recharge_order SELECT account, 'L-99', amount, currency, status, gateway, payment_method, gateway_ref, failure_code, attempts, priority, metadata, created_at, updated_at FROM tokenbill.recharge_order WHERE order_no = 'L-2'$$),
	('{led order}', 'an order in state init again', $$UPDATE tokenbill.recharge_order SET status = 'init' WHERE order_no = 'L-2'$$),
	('{led token}', 'a used token set free', $$UPDATE tokenbill.issued_token SET status = 'issued' WHERE account = 'led' AND status = 'used'$$),
	('{led refund}', 'refunds forgotten', $$DELETE FROM tokenbill.charge_refund WHERE account = 'led'$$)
) v(wanted, description, statement);
SELECT isnt_empty($$SELECT f FROM pg_temp.found('UPDATE tokenbill.account SET account = ''ghost'' WHERE account = ''led''') f WHERE f LIKE 'led%orphan'$$, 'lines of no account');

-- Only one account's problems, only those of that account
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('led')$$, 'after all that, nothing is left');
SET LOCAL session_replication_role = replica;
UPDATE tokenbill.ledger SET amount = amount + 1 WHERE account = 'led' AND seq = 5;
SET LOCAL session_replication_role = origin;
SELECT isnt_empty($$SELECT * FROM tokenbill.verify_ledger('led')$$, 'one account''s problem');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('sand')$$, 'is not another''s');
SELECT set_eq($$SELECT DISTINCT account FROM tokenbill.verify_ledger() WHERE account IS NOT NULL$$, ARRAY['led'], 'in the whole ledger it is the only one');
SELECT pg_temp.refused($$SELECT * FROM tokenbill.verify_ledger('nobody')$$, 'PT404', '{"account": "nobody"}', 'an unknown account is not sound, but unknown');

SELECT * FROM finish();
ROLLBACK;
