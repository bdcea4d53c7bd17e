-- Idempotency keys: one key, one effect, whatever is asked again
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(106);
SET LOCAL tokenbill.clock = '2031-01-10 12:00:00+00';
SELECT tokenbill.create_account('acme'), tokenbill.create_account('other') \g /dev/null
SELECT tokenbill.set_price('llm', 'input_tokens', 2, 1000000), tokenbill.set_price('llm', 'output_tokens', 8, 1000000),
	tokenbill.set_price('llm2', 'input_tokens', 2, 1000000), tokenbill.set_price('llm2', 'output_tokens', 8, 1000000), tokenbill.set_price('llm', 'tokens', 0.001), tokenbill.set_price('llm2', 'tokens', 0.001) \g /dev/null

-- Every money function, its first call kept
CREATE TEMP TABLE first (n int PRIMARY KEY, call text, result jsonb);
INSERT INTO first (n, call) SELECT row_number() OVER (), c FROM unnest(ARRAY[
	$$tokenbill.recharge('acme', 100, 'O-1', payment_method => 'wire', priority => 3, metadata => '{"m": 1}')$$,
	$$tokenbill.charge('acme', 'llm', '{"input_tokens": 1000, "output_tokens": 10}', 'k-charge', metadata => '{"m": 1}')$$,
	$$tokenbill.charge_tokens('acme', 'llm', 1000, 'k-tokens', metadata => '{"m": 1}')$$,
	$$tokenbill.charge_amount('acme', 1.25, 'k-amount', service => 'llm', metadata => '{"m": 1}')$$,
	$$tokenbill.charge_amount('acme', 500, 'k-debt', on_insufficient => 'debt')$$,
	$$tokenbill.grant_credit('acme', 1000, 'k-grant', reason => 'welcome', metadata => '{"m": 1}')$$,
	$$tokenbill.hold('acme', 10, 'k-hold', ttl => '1 hour', service => 'llm', metadata => '{"m": 1}', on_expiry => 'charge')$$,
	$$tokenbill.hold('acme', NULL, 'k-priced', service => 'llm', usage => '{"input_tokens": 1000000}')$$,
	$$tokenbill.extend_hold('acme', 'k-hold', amount => 12, ttl => '2 hours', idempotency_key => 'k-extend')$$,
	$$tokenbill.capture('acme', 'k-hold', amount => 3, idempotency_key => 'k-part', final => false, metadata => '{"m": 1}')$$,
	$$tokenbill.capture('acme', 'k-hold', usage => '{"input_tokens": 1000}', idempotency_key => 'k-part2', final => false, service => 'llm')$$,
	$$tokenbill.capture('acme', 'k-hold')$$,
	$$tokenbill.release('acme', 'k-priced')$$,
	$$tokenbill.refund('acme', 'k-amount', 'k-refund', amount => 1, reason => 'sorry', metadata => '{"m": 1}')$$,
	$$tokenbill.refund('acme', 'k-amount', 'k-refund-rest')$$]) c;
DO $$
DECLARE
	f record;
BEGIN
	FOR f IN SELECT * FROM first ORDER BY n LOOP
		EXECUTE format('UPDATE first SET result = (SELECT to_jsonb(r) FROM %s r) WHERE n = %s', f.call, f.n);
	END LOOP;
END $$;
SELECT is(result -> 'replayed', 'false', 'first: ' || substr(call, 11)) FROM first ORDER BY n;

-- Everything around it changes, the answer does not
SELECT tokenbill.set_credit_limit('acme', 77), tokenbill.recharge('acme', 5, 'O-2'), tokenbill.charge_amount('acme', 1, 'in-between'),
	tokenbill.hold('acme', 1, 'another', ttl => '1 year'), tokenbill.set_price('llm', 'input_tokens', 200, 1000000, valid_from => '2031-01-11 00:00:00+00') \g /dev/null
SET LOCAL tokenbill.clock = '2031-02-08 12:00:00+00';
SELECT pg_temp.fingerprint() AS before \gset
CREATE FUNCTION pg_temp.again(call text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	result jsonb;
BEGIN
	EXECUTE format('SELECT to_jsonb(r) FROM %s r', call) INTO result;
	RETURN result;
END $$;
SELECT is(pg_temp.again(call), result || '{"replayed": true}', 'replayed, in the next month: ' || substr(call, 11)) FROM first ORDER BY n;
SELECT is(pg_temp.fingerprint(), :'before'::jsonb, 'and nothing moved');
SELECT tokenbill.set_account_status('acme', 'frozen') \g /dev/null
SELECT is(pg_temp.again(call), result || '{"replayed": true}', 'replayed from a frozen account') FROM first WHERE n = 2;
SELECT tokenbill.set_account_status('acme', 'active') \g /dev/null

-- How to answer is not part of the request; numbers are equal whatever their zeros
SELECT is(replayed, true, what) FROM (
	SELECT (tokenbill.charge('acme', 'llm', '{"output_tokens": 10.0, "input_tokens": 1e3}', 'k-charge', 'debt', '{"m": 1.0}', false)).replayed, 'same usage, written otherwise' AS what
	UNION ALL SELECT (tokenbill.charge_amount('acme', 1.2500, 'k-amount', 'llm', 'debt', '{"m": 1}', false)).replayed, 'same amount, written otherwise'
	UNION ALL SELECT (tokenbill.hold('acme', 10.00, 'k-hold', '60 min', 'llm', NULL, '{"m": 1}', 'charge', false)).replayed, 'same ttl, written otherwise'
	UNION ALL SELECT (tokenbill.charge('acme', 'llm', '{"tokens": 1000}', 'k-tokens', metadata => '{"m": 1}')).replayed, 'charge() for charge_tokens()') x;

-- Another request under the same key: PT409 names what differs
CREATE TEMP TABLE other (call text, key text, argument text, was jsonb, now jsonb);
INSERT INTO other VALUES
	($$tokenbill.charge('acme', 'llm2', '{"input_tokens": 1000, "output_tokens": 10}', 'k-charge', metadata => '{"m": 1}')$$, 'k-charge', 'service', '"llm"', '"llm2"'),
	($$tokenbill.charge('acme', 'llm', '{"input_tokens": 1001, "output_tokens": 10}', 'k-charge', metadata => '{"m": 1}')$$, 'k-charge', 'usage', '{"input_tokens": 1000, "output_tokens": 10}', '{"input_tokens": 1001, "output_tokens": 10}'),
	($$tokenbill.charge('acme', 'llm', '{"input_tokens": 1000}', 'k-charge', metadata => '{"m": 1}')$$, 'k-charge', 'usage', '{"input_tokens": 1000, "output_tokens": 10}', '{"input_tokens": 1000}'),
	($$tokenbill.charge('acme', 'llm', '{"input_tokens": 1000, "output_tokens": 10}', 'k-charge', metadata => '{"m": 2}')$$, 'k-charge', 'metadata', '{"m": 1}', '{"m": 2}'),
	($$tokenbill.charge('acme', 'llm', '{"input_tokens": 1000, "output_tokens": 10}', 'k-charge')$$, 'k-charge', 'metadata', '{"m": 1}', 'null'),
	($$tokenbill.charge_tokens('acme', 'llm', 999, 'k-tokens', metadata => '{"m": 1}')$$, 'k-tokens', 'usage', '{"tokens": 1000}', '{"tokens": 999}'),
	($$tokenbill.charge_tokens('acme', 'llm2', 1000, 'k-tokens', metadata => '{"m": 1}')$$, 'k-tokens', 'service', '"llm"', '"llm2"'),
	($$tokenbill.charge_tokens('acme', 'llm', 1000, 'k-tokens', metadata => '{"m": 2}')$$, 'k-tokens', 'metadata', '{"m": 1}', '{"m": 2}'),
	($$tokenbill.charge_amount('acme', 1.26, 'k-amount', service => 'llm', metadata => '{"m": 1}')$$, 'k-amount', 'amount', '1.25', '1.26'),
	($$tokenbill.charge_amount('acme', 1.25, 'k-amount', metadata => '{"m": 1}')$$, 'k-amount', 'service', '"llm"', 'null'),
	($$tokenbill.charge_amount('acme', 1.25, 'k-amount', service => 'llm', metadata => '{"m": 2}')$$, 'k-amount', 'metadata', '{"m": 1}', '{"m": 2}'),
	($$tokenbill.grant_credit('acme', 1001, 'k-grant', reason => 'welcome', metadata => '{"m": 1}')$$, 'k-grant', 'amount', '1000', '1001'),
	($$tokenbill.grant_credit('acme', 1000, 'k-grant', reason => 'hello', metadata => '{"m": 1}')$$, 'k-grant', 'reason', '"welcome"', '"hello"'),
	($$tokenbill.grant_credit('acme', 1000, 'k-grant', metadata => '{"m": 1}')$$, 'k-grant', 'reason', '"welcome"', 'null'),
	($$tokenbill.grant_credit('acme', 1000, 'k-grant', reason => 'welcome')$$, 'k-grant', 'metadata', '{"m": 1}', 'null'),
	($$tokenbill.hold('acme', 11, 'k-hold', ttl => '1 hour', service => 'llm', metadata => '{"m": 1}', on_expiry => 'charge')$$, 'k-hold', 'amount', '10', '11'),
	($$tokenbill.hold('acme', 10, 'k-hold', ttl => '2 hours', service => 'llm', metadata => '{"m": 1}', on_expiry => 'charge')$$, 'k-hold', 'ttl', NULL, NULL),
	($$tokenbill.hold('acme', 10, 'k-hold', ttl => '1 hour', service => 'llm2', metadata => '{"m": 1}', on_expiry => 'charge')$$, 'k-hold', 'service', '"llm"', '"llm2"'),
	($$tokenbill.hold('acme', 10, 'k-hold', ttl => '1 hour', service => 'llm', on_expiry => 'charge')$$, 'k-hold', 'metadata', '{"m": 1}', 'null'),
	($$tokenbill.hold('acme', 10, 'k-hold', ttl => '1 hour', service => 'llm', metadata => '{"m": 1}')$$, 'k-hold', 'on_expiry', '"charge"', '"release"'),
	($$tokenbill.hold('acme', NULL, 'k-priced', service => 'llm', usage => '{"input_tokens": 1000001}')$$, 'k-priced', 'usage', '{"input_tokens": 1000000}', '{"input_tokens": 1000001}'),
	($$tokenbill.hold('acme', NULL, 'k-priced', service => 'llm2', usage => '{"input_tokens": 1000000}')$$, 'k-priced', 'service', '"llm"', '"llm2"'),
	($$tokenbill.extend_hold('acme', 'k-hold', amount => 13, ttl => '2 hours', idempotency_key => 'k-extend')$$, 'k-extend', 'amount', '12', '13'),
	($$tokenbill.extend_hold('acme', 'k-hold', amount => 12, ttl => '3 hours', idempotency_key => 'k-extend')$$, 'k-extend', 'ttl', NULL, NULL),
	($$tokenbill.extend_hold('acme', 'another', amount => 12, ttl => '2 hours', idempotency_key => 'k-extend')$$, 'k-extend', 'hold_key', '"k-hold"', '"another"'),
	($$tokenbill.capture('acme', 'k-hold', amount => 4, idempotency_key => 'k-part', final => false, metadata => '{"m": 1}')$$, 'k-part', 'amount', '3', '4'),
	($$tokenbill.capture('acme', 'k-hold', amount => 3, idempotency_key => 'k-part', final => true, metadata => '{"m": 1}')$$, 'k-part', 'final', 'false', 'true'),
	($$tokenbill.capture('acme', 'k-hold', amount => 3, idempotency_key => 'k-part', final => false)$$, 'k-part', 'metadata', '{"m": 1}', 'null'),
	($$tokenbill.capture('acme', 'another', amount => 3, idempotency_key => 'k-part', final => false, metadata => '{"m": 1}')$$, 'k-part', 'hold_key', '"k-hold"', '"another"'),
	($$tokenbill.capture('acme', 'k-hold', usage => '{"input_tokens": 1001}', idempotency_key => 'k-part2', final => false, service => 'llm')$$, 'k-part2', 'usage', '{"input_tokens": 1000}', '{"input_tokens": 1001}'),
	($$tokenbill.capture('acme', 'k-hold', usage => '{"input_tokens": 1000}', idempotency_key => 'k-part2', final => false, service => 'llm2')$$, 'k-part2', 'service', '"llm"', '"llm2"'),
	($$tokenbill.refund('acme', 'k-charge', 'k-refund', amount => 1, reason => 'sorry', metadata => '{"m": 1}')$$, 'k-refund', 'charge_key', '"k-amount"', '"k-charge"'),
	($$tokenbill.refund('acme', 'k-amount', 'k-refund', amount => 0.9, reason => 'sorry', metadata => '{"m": 1}')$$, 'k-refund', 'amount', '1', '0.9'),
	($$tokenbill.refund('acme', 'k-amount', 'k-refund', amount => 1, reason => 'oops', metadata => '{"m": 1}')$$, 'k-refund', 'reason', '"sorry"', '"oops"'),
	($$tokenbill.refund('acme', 'k-amount', 'k-refund', amount => 1, reason => 'sorry')$$, 'k-refund', 'metadata', '{"m": 1}', 'null'),
	-- the key of another kind of request
	($$tokenbill.hold('acme', 1.25, 'k-amount')$$, 'k-amount', 'kind', '"charge"', '"hold"'),
	($$tokenbill.grant_credit('acme', 1.25, 'k-amount')$$, 'k-amount', 'kind', '"charge"', '"grant"'),
	($$tokenbill.refund('acme', 'k-charge', 'k-amount')$$, 'k-amount', 'kind', '"charge"', '"refund"'),
	($$tokenbill.capture('acme', 'another', idempotency_key => 'k-amount')$$, 'k-amount', 'kind', '"charge"', '"capture"'),
	($$tokenbill.extend_hold('acme', 'another', 2, idempotency_key => 'k-amount')$$, 'k-amount', 'kind', '"charge"', '"extend"'),
	($$tokenbill.charge_amount('acme', 10, 'k-hold')$$, 'k-hold', 'kind', '"hold"', '"charge"'),
	($$tokenbill.charge('acme', 'llm', '{"tokens": 1}', 'k-grant')$$, 'k-grant', 'kind', '"grant"', '"charge"'),
	($$tokenbill.charge_tokens('acme', 'llm', 1, 'k-refund')$$, 'k-refund', 'kind', '"refund"', '"charge"'),
	($$tokenbill.charge_amount('acme', 3, 'k-part')$$, 'k-part', 'kind', '"capture"', '"charge"'),
	($$tokenbill.hold('acme', 12, 'k-extend')$$, 'k-extend', 'kind', '"extend"', '"hold"');
SELECT pg_temp.fingerprint() AS before \gset
SELECT pg_temp.refused('SELECT ' || call, 'PT409',
	jsonb_build_object('account', 'acme', 'idempotency_key', key, 'argument', argument)
		|| CASE WHEN now IS NULL THEN '{}' ELSE jsonb_build_object('was', was, 'now', now) END,
	format('%s: %s differs', substring(call FROM 'tokenbill\.(\w+)'), argument))
FROM other;
SELECT ok(e.detail ? 'was' AND e.detail ? 'now' AND e.detail -> 'was' <> e.detail -> 'now', 'both ttl are shown')
FROM other, pg_temp.error_of('SELECT ' || call) e WHERE argument = 'ttl';
SELECT is(pg_temp.fingerprint(), :'before'::jsonb, 'none of them moved anything');

-- Keys belong to their account
SELECT tokenbill.recharge('other', 10, 'O-3') \g /dev/null
SELECT is(replayed, false, 'another account has keys of its own') FROM tokenbill.charge_amount('other', 1, 'k-charge');

-- A refused call leaves its key free
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('other', 100, 'k-free')$$, 'PT402', '{"account": "other"}', 'refused: too little money');
SELECT is(replayed, false, 'the key is free for another request') FROM tokenbill.hold('other', 1, 'k-free');
SELECT pg_temp.refused($$SELECT tokenbill.charge('other', 'unheard-of', '{"tokens": 1}', 'k-free2')$$, 'PT404', '{"service": "unheard-of"}', 'refused: no price');
SELECT is(replayed, false, 'free') FROM tokenbill.charge_amount('other', 1, 'k-free2');
SAVEPOINT before;
SELECT tokenbill.charge_amount('other', 1, 'k-free3') \g /dev/null
ROLLBACK TO before;
SELECT is(replayed, false, 'a rolled-back call leaves its key free') FROM tokenbill.charge_amount('other', 2, 'k-free3');

-- Keys that tokenbill makes itself
SELECT bag_eq($$SELECT kind, idempotency_key FROM tokenbill.statement WHERE account = 'acme' AND idempotency_key LIKE 'tokenbill:%'$$,
	$$VALUES ('recharge', 'tokenbill:order:O-1'), ('recharge', 'tokenbill:order:O-2'), ('capture', 'tokenbill:capture:k-hold'),
		('release', 'tokenbill:release:k-priced')$$, 'derived keys');
SELECT tokenbill.extend_hold('acme', 'another', 3), tokenbill.extend_hold('acme', 'another', 4) \g /dev/null
SELECT bag_eq($$SELECT idempotency_key FROM tokenbill.statement WHERE account = 'acme' AND idempotency_key LIKE 'tokenbill:extend:%'$$,
	$$VALUES ('tokenbill:extend:another:1'), ('tokenbill:extend:another:2')$$, 'extensions count');
SELECT pg_temp.refused(statement, '22023', jsonb_build_object('argument', argument), 'tokenbill: is reserved in ' || argument)
FROM (VALUES ($$SELECT tokenbill.charge_amount('acme', 1, 'tokenbill:order:O-1')$$, 'idempotency_key'),
	($$SELECT tokenbill.hold('acme', 1, 'tokenbill:x')$$, 'idempotency_key'),
	($$SELECT tokenbill.recharge('acme', 1, 'tokenbill:x')$$, 'order_no')) v(statement, argument);
SELECT tokenbill.hold('acme', 1, repeat('h', 255)) \g /dev/null
SELECT is(length(idempotency_key), 255 + length('tokenbill:capture:'), 'a hold with the longest key has a derived one') FROM tokenbill.capture('acme', repeat('h', 255));

-- A charge rewrites its account before it knows the key to be new, and puts it back when it is not
SELECT tokenbill.create_account('put-back'), tokenbill.recharge('put-back', 100, 'O-put-back') \g /dev/null
SELECT tokenbill.charge_amount('put-back', 1.50, 'k-put-back') \g /dev/null
CREATE TEMP TABLE before AS SELECT a AS row FROM tokenbill.account a WHERE a.account = 'put-back';
SET LOCAL tokenbill.clock = '2031-01-11 12:00:00+00';
SELECT is(replayed, true, 'replayed a day later') FROM tokenbill.charge_amount('put-back', 1.50, 'k-put-back');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('put-back', 2, 'k-put-back')$$, 'PT409', '{"argument": "amount"}', 'another request is refused');
SELECT results_eq($$SELECT a::text FROM tokenbill.account a WHERE a.account = 'put-back'$$, 'SELECT b.row::text FROM before b', 'the account is as it was, to its time and hash');
SELECT throws_ok($$UPDATE tokenbill.account a SET balance = 1000000 WHERE tokenbill.may_change(a)$$, '55000', 'may_change() is for tokenbill''s own use', 'only a charge has an account judged');

-- How long keys are remembered
SET LOCAL tokenbill.clock = '2031-01-31 23:59:59+00';
SELECT tokenbill.create_account('months', credit_limit => 100) \g /dev/null
SELECT tokenbill.charge_amount('months', 1, 'january') \g /dev/null
SET LOCAL tokenbill.clock = '2031-03-02 23:59:58+00';
SELECT is(replayed, true, 'after 30 days less a second, two months on') FROM tokenbill.charge_amount('months', 1, 'january');
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('months', 2, 'january')$$, 'PT409', '{"argument": "amount"}', 'for another request as well');
SET LOCAL tokenbill.idempotency_window = 'infinity';
SET LOCAL tokenbill.clock = '2032-06-01 00:00:00+00';
SELECT is(replayed, true, 'infinity: after a year and more') FROM tokenbill.charge_amount('months', 1, 'january');
SELECT throws_ok($$SET tokenbill.idempotency_window = 'soon'$$, '22023', NULL, 'the window is an interval');
SELECT throws_ok($$SET tokenbill.idempotency_window = '-1 day'$$, '22023', NULL, 'not a negative one');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
