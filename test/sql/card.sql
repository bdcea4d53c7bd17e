-- Card numbers: refused in every free text, never repeated in an error; what only looks like one is not
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(131);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account('a'), tokenbill.recharge('a', 1000, 'CARD-1'), tokenbill.set_price('llm', 'tokens', 1, 1000000), tokenbill.charge_amount('a', 5, 'c'),
	tokenbill.hold('a', 5, 'h'), tokenbill.hold('a', 1, 'done'), tokenbill.capture('a', 'done') \g /dev/null
SELECT pg_temp.fingerprint() AS before \gset

-- Refused, and the error does not repeat it
CREATE FUNCTION pg_temp.no_card(statement text, argument text, card text, description text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	e record;
	digits text := regexp_replace(card, '[^0-9]', '', 'g');
	good boolean;
BEGIN
	BEGIN
		SELECT * INTO e FROM pg_temp.error_of(statement);
		IF e.sqlstate = '00000' THEN
			RAISE EXCEPTION SQLSTATE 'TB000';
		END IF;
	EXCEPTION WHEN SQLSTATE 'TB000' THEN
		NULL;
	END;
	good := e.sqlstate = '22023' AND e.detail ->> 'argument' = argument AND e.message LIKE '%looks like a payment card number' AND e.hint <> ''
		AND position(right(digits, 6) IN regexp_replace(concat(e.message, e.detail, e.hint), '[^0-9]', '', 'g')) = 0;
	RETURN NEXT ok(coalesce(good, false), description);
	IF NOT coalesce(good, false) THEN
		RETURN NEXT diag(concat_ws(' ', e.sqlstate, e.message, e.detail, e.hint));
	END IF;
END $$;

-- In every free text of every function
SELECT pg_temp.no_card('SELECT * FROM tokenbill.' || replace(call, '@', quote_literal('4111111111111111')), argument, '4111111111111111', split_part(call, '(', 1) || ': ' || argument)
FROM (VALUES
	('create_account(@)', 'account'), ('create_account(''x'', @)', 'currency'), ('set_account_status(@, ''frozen'')', 'account'), ('set_credit_limit(@, 1)', 'account'),
	('set_account_policy(@, ''debt'')', 'account'), ('set_price(@, ''m'', 1)', 'service'), ('set_price(''s'', @, 1)', 'meter'), ('set_price(''s'', ''m'', 1, account => @)', 'account'),
	('charge(@, ''llm'', ''{"tokens": 1}'', ''k'')', 'account'), ('charge(''a'', @, ''{"tokens": 1}'', ''k'')', 'service'), ('charge(''a'', ''llm'', ''{"tokens": 1}'', @)', 'idempotency_key'),
	('charge(''a'', ''llm'', jsonb_build_object(@, 1), ''k'')', 'usage'), ('charge(''a'', ''llm'', jsonb_build_object(''tokens'', 1, @, 0), ''k-zero'')', 'usage'),
	('capture(''a'', ''h'', service => ''llm'', usage => jsonb_build_object(''tokens'', 1, @, 0))', 'usage'), ('capture(''a'', ''done'', service => ''llm'', usage => jsonb_build_object(@, 1))', 'usage'), ('hold(''a'', NULL, ''k-zero'', service => ''llm'', usage => jsonb_build_object(''tokens'', 1, @, 0))', 'usage'),
	('charge_tokens(@, ''llm'', 1, ''k'')', 'account'), ('charge_tokens(''a'', @, 1, ''k'')', 'service'), ('charge_tokens(''a'', ''llm'', 1, @)', 'idempotency_key'),
	('charge_amount(@, 1, ''k'')', 'account'), ('charge_amount(''a'', 1, @)', 'idempotency_key'), ('charge_amount(''a'', 1, ''k'', @)', 'service'),
	('quote(@, ''llm'', ''{"tokens": 1}'')', 'account'), ('quote(''a'', @, ''{"tokens": 1}'')', 'service'), ('quote(''a'', ''llm'', jsonb_build_object(@, 1))', 'usage'),
	('hold(@, 1, ''k'')', 'account'), ('hold(''a'', 1, @)', 'idempotency_key'), ('hold(''a'', 1, ''k'', service => @)', 'service'),
	('extend_hold(@, ''h'', 9)', 'account'), ('extend_hold(''a'', @, 9)', 'hold_key'), ('extend_hold(''a'', ''h'', 9, idempotency_key => @)', 'idempotency_key'),
	('capture(@, ''h'')', 'account'), ('capture(''a'', @)', 'hold_key'), ('capture(''a'', ''h'', idempotency_key => @)', 'idempotency_key'), ('capture(''a'', ''h'', service => @, usage => ''{"tokens": 1}'')', 'service'),
	('release(@, ''h'')', 'account'), ('release(''a'', @)', 'hold_key'),
	('refund(@, ''c'', ''k'')', 'account'), ('refund(''a'', @, ''k'')', 'charge_key'), ('refund(''a'', ''c'', @)', 'idempotency_key'), ('refund(''a'', ''c'', ''k'', reason => ''card '' || @)', 'reason'),
	('recharge(@, 1, ''o'')', 'account'), ('recharge(''a'', 1, @)', 'order_no'), ('recharge(''a'', 1, ''o'', gateway => @)', 'gateway'), ('recharge(''a'', 1, ''o'', payment_method => ''visa '' || @)', 'payment_method'),
	('grant_credit(@, 1, ''k'')', 'account'), ('grant_credit(''a'', 1, @)', 'idempotency_key'), ('grant_credit(''a'', 1, ''k'', reason => ''for '' || @)', 'reason'),
	('issue_token(@)', 'account'), ('token_result(@, ''tbt_x'')', 'account'), ('token_result(''a'', @)', 'token'), ('balance_at(@, ''2026-01-01'')', 'account'),
	('map_tenant(current_user, @)', 'account'), ('verify_ledger(@)', 'account'), ('expire_holds(@)', 'account')) v(call, argument);

-- In metadata, wherever it stands
SELECT pg_temp.no_card('SELECT * FROM tokenbill.' || replace(call, '@', quote_literal('{"note": "paid with 4111111111111111"}')), 'metadata', '4111111111111111', split_part(call, '(', 1) || ': metadata')
FROM (VALUES ('create_account(''x'', metadata => @)'), ('charge(''a'', ''llm'', ''{"tokens": 1}'', ''k'', metadata => @)'), ('charge_tokens(''a'', ''llm'', 1, ''k'', metadata => @)'),
	('charge_amount(''a'', 1, ''k'', metadata => @)'), ('hold(''a'', 1, ''k'', metadata => @)'), ('capture(''a'', ''h'', metadata => @)'), ('refund(''a'', ''c'', ''k'', metadata => @)'),
	('recharge(''a'', 1, ''o'', metadata => @)'), ('grant_credit(''a'', 1, ''k'', metadata => @)')) v(call);
SELECT pg_temp.no_card(format('SELECT tokenbill.charge_amount(''a'', 1, ''k'', metadata => %L)', metadata), 'metadata', '4111111111111111', 'metadata ' || metadata)
FROM (VALUES ('{"4111111111111111": true}'), ('{"n": 4111111111111111}'), ('{"n": 4.111111111111111e15}'), ('{"n": 4111111111111111.00}'), ('{"n": -4111111111111111}'), ('{"a": {"b": [1, {"c": "4111111111111111"}]}}'),
	('{"a": [["x", ["y 4111-1111-1111-1111"]]]}'), ('{"a": "\u0034111111111111111"}'), ('{"a": {"4111 1111 1111 1111": null}}')) v(metadata);
SELECT is(row(sqlstate, detail ->> 'argument', position('411111' IN r::text))::text, format('(22023,%s,0)', argument), 'batch: ' || argument)
FROM (VALUES ('{"account": "4111111111111111", "amount": 1, "idempotency_key": "k"}', 'account'),
	('{"account": "a", "amount": 1, "idempotency_key": "4111111111111111"}', 'idempotency_key'), ('{"account": "a", "amount": 1, "idempotency_key": "k", "service": "4111111111111111"}', 'service'),
	('{"account": "a", "amount": 1, "idempotency_key": "k", "metadata": {"x": "4111111111111111"}}', 'metadata'),
	('{"account": "a", "amount": 1, "idempotency_key": "k", "4111111111111111": 1}', 'item')) v(request, argument), tokenbill.charge_batch(jsonb_build_array(request::jsonb)) r;

-- However it is written: 13 to 19 digits, in a run or in groups
SELECT pg_temp.no_card(format('SELECT tokenbill.charge_amount(''a'', 1, ''k'', metadata => jsonb_build_object(''note'', %L))', card), 'metadata', digits, card)
FROM (VALUES ('4222222222222', '4222222222222'), ('30569309025904', '30569309025904'), ('378282246310005', '378282246310005'), ('5555555555554444', '5555555555554444'), ('2223003122003222', '2223003122003222'),
	('6011111111111117', '6011111111111117'), ('3530111333300000', '3530111333300000'), ('6200123456789012347', '6200123456789012347'), ('4111 1111 1111 1111', '4111111111111111'), ('4111-1111-1111-1111', '4111111111111111'),
	('3782 822463 10005', '378282246310005'), ('3782-822463-10005', '378282246310005'), ('card:4111111111111111.', '4111111111111111'), ('(4111111111111111)', '4111111111111111'), ('pan=4111111111111111&x=1', '4111111111111111'),
	('card_4111111111111111', '4111111111111111'), ('4111111111111111_x', '4111111111111111'), ('№4111111111111111', '4111111111111111'), ('卡号4111111111111111', '4111111111111111'),
	('4111111111111111 12/27 123', '4111111111111111'), ('4111111111111111 123', '4111111111111111'), ('order 17 4111111111111111', '4111111111111111'), ('2026-03-01 4111 1111 1111 1111', '4111111111111111'),
	('1234567890123456 4111111111111111', '4111111111111111'), ('4111111111111112 and 4111111111111111', '4111111111111111')) v(card, digits);
SELECT is(pg_temp.fingerprint(), :'before'::jsonb, 'nothing was written');

-- Not refused
SELECT is((pg_temp.error_of(format('SELECT tokenbill.charge_amount(''a'', 0.001, %L, metadata => jsonb_build_object(''note'', %L))', text, text))).sqlstate, '00000', what || ': ' || text) FROM (VALUES
	('550e8400-e29b-41d4-a716-446655440000', 'a UUID'), ('42424242-4242-4242-8242-424242424242', 'a UUID without letters'), ('41111111-1111-4111-9111-111111111116', 'another'),
	('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'a digest'), ('a4111111111111111f', 'digits among letters'), ('1541815603606036480', 'a snowflake id'), ('1772366400000', 'a time stamp'), ('1772366400000000', 'in microseconds'),
	('4111111111111112', 'a number that fails the check'), ('20260301120000', 'a time'), ('2026030112000000017', 'an order number'), ('ORD-2026-03-01-000042', 'another'), ('41111111111111111111', 'twenty digits'), ('411111111116', 'twelve digits'),
	('+49 30 901820', 'a telephone number'), ('0000000000000000', 'zeros'), ('req_011CSHoEeqs5C35K2UUqR7Fy', 'a request id'), ('chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT', 'another'), ('127.0.0.1:5432', 'an address'),
	('4111.1111.1111.1111', 'digits with dots, as in an address')) v(text, what);
SELECT is_empty($$SELECT uuid FROM (SELECT md5(i::text)::uuid::text AS uuid FROM generate_series(1, 20000) i) x WHERE tokenbill.check_text('x', uuid, 255) IS NULL$$, 'no random UUID of 20,000 is refused');
SELECT is_empty($$SELECT digest FROM (SELECT encode(sha256(i::text::bytea), 'hex') AS digest FROM generate_series(1, 20000) i) x WHERE tokenbill.check_text('x', digest, 255) IS NULL$$, 'no digest of 20,000');
SELECT is_empty($$SELECT id FROM (SELECT ((i::bigint * 7919 + 1541815603606036480))::text AS id FROM generate_series(1, 20000) i) x WHERE tokenbill.check_text('x', id, 255) IS NULL$$, 'no snowflake id of 20,000');
SELECT is_empty($$SELECT ms FROM (SELECT (1772366400000 + i)::text AS ms FROM generate_series(1, 20000) i) x WHERE tokenbill.check_text('x', ms, 255) IS NULL$$, 'no time stamp of 20,000');
SELECT is_empty($$SELECT tokenbill.check_metadata('metadata', jsonb_build_object('cost', ('0.' || 400000000000000 + i)::numeric)) FROM generate_series(1, 20000) i OFFSET 20000$$, 'nor any fraction');
SELECT is_empty($$SELECT tokenbill.check_metadata('metadata', jsonb_build_object('at', 1772366400000 + i, 'id', 1541815603606036480 + i, 'tokens', i)) FROM generate_series(1, 20000) i OFFSET 20000$$, 'nor any as a JSON number');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
