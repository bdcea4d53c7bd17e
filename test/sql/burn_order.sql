-- Burn orders: every preset, and orders of one's own, against what is worked out by hand
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(37);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';

-- In the order of their grants; the plain balance is older, paid, of priority 50 and cost basis 1, and never expires
SELECT tokenbill.create_account('b'), tokenbill.recharge('b', 10, 'R-b') \g /dev/null
SELECT tokenbill.grant_credit('b', 10, 'A', priority => 10, expires_at => '2026-12-01') \g /dev/null
SELECT tokenbill.grant_credit('b', 10, 'B', priority => 10, expires_at => '2026-06-01', category => 'paid') \g /dev/null
SELECT tokenbill.grant_credit('b', 10, 'C', expires_at => '2026-06-01') \g /dev/null
SELECT tokenbill.grant_credit('b', 5, 'D', priority => 10) \g /dev/null
SELECT tokenbill.grant_credit('b', 10, 'E', priority => 20, expires_at => '2026-06-01', category => 'paid', cost_basis => 0.5) \g /dev/null
SELECT tokenbill.grant_credit('b', 3, 'F', priority => 10, expires_at => '2026-06-01', category => 'paid', effective_at => '2026-01-01') \g /dev/null
SELECT tokenbill.grant_credit('b', 4, 'G', priority => 10, expires_at => '2026-06-01') \g /dev/null
SELECT is(balance, 62::numeric, 'seven credits and a plain balance') FROM tokenbill.balances WHERE account = 'b';

CREATE FUNCTION pg_temp.order_of(asked text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('tokenbill.burn_order', asked, true);
	RETURN (SELECT string_agg(coalesce(credit_key, 'plain'), ' ' ORDER BY place) FROM tokenbill.explain_burn('b', 62) WHERE place IS NOT NULL);
END
$$;
CREATE TEMP TABLE worked_out (name text, keys text[], wanted text);
INSERT INTO worked_out VALUES
	/* 10: in June the promotional G, then B and F by age; A in December, D never; 20: E; 50: C in June, plain never */
	('tokenbill', NULL, 'G B F A D E C plain'),
	/* June: cost 0 C and G by age, 0.5 E, 1 B and F by age; December A; never: cost 0 D, 1 plain */
	('orb', NULL, 'C G E B F A D plain'),
	/* 10: June B, F, G by age; A; D. 20: E. 50: C, plain */
	('openmeter', NULL, 'B F G A D E C plain'),
	/* 10: promotional A, D, G by age, paid B, F. 20: E. 50: promotional C, paid plain */
	('lago', NULL, 'A D G B F E C plain'),
	/* 10: A, B, D, F, G by age. 20: E. 50: plain is older than C */
	('metronome', NULL, 'A B D F G E plain C'),
	('stripe', NULL, 'A B D F G E plain C'),
	/* 10: June: promotional G, paid F effective in January, B in March; A; D. 20: E. 50: C, plain */
	('stigg', NULL, 'G F B A D E C plain'),
	/* 10: June: F has 3, G 4, B 10; A; D. 20: E. 50: C, plain */
	('flexprice', NULL, 'F G B A D E C plain'),
	/* June: 10 B, F, G by age, 20 E, 50 C; December A; never: 10 D, 50 plain */
	('formance', NULL, 'B F G E C A D plain'),
	('my_oldest', '{oldest}', 'plain A B C D E F G'),
	('my_newest', '{newest}', 'G F E D C B A plain'),
	/* 3 F, 4 G, 5 D, then all of 10 by age */
	('my_smallest', '{smallest}', 'F G D plain A B C E'),
	('my_largest', '{largest}', 'plain A B C E D G F'),
	/* paid: June B, E, F by age, never plain; promotional: June C, G, December A, never D */
	('my_paid', '{paid,expiry}', 'B E F plain C G A D'),
	/* promotional A, C, D, G by age; paid: 0.5 E, 1 plain, B, F by age */
	('my_cost', '{promotional,cost_basis}', 'A C D G E plain B F'),
	/* plain has always been there, F since January, the rest since March by age */
	('my_effective', '{effective}', 'plain F A B C D E G');
SELECT is((tokenbill.set_burn_order(name, keys, 'mine')).keys::text[], keys, name || ' is defined') FROM worked_out WHERE keys IS NOT NULL ORDER BY name;
SELECT is(pg_temp.order_of(name), wanted, name) FROM worked_out ORDER BY name;
SELECT set_eq('SELECT name FROM tokenbill.burn_orders', 'SELECT name FROM worked_out', 'these are all');
SELECT is(string_agg(name, ' '), 'my_smallest', 'burn_orders shows which one is used') FROM tokenbill.burn_orders, LATERAL (SELECT set_config('tokenbill.burn_order', 'my_smallest', true)) s WHERE in_use;

-- A charge goes by it; another order, and the next charge goes by that
SET LOCAL tokenbill.burn_order = 'orb';
SELECT tokenbill.charge_amount('b', 15, 'c1') \g /dev/null
SELECT is(burned, '[{"amount": 10, "credit": "C"}, {"amount": 4, "credit": "G"}, {"amount": 1, "credit": "E"}]', 'orb: 15 are paid by C, G and E') FROM tokenbill.statement WHERE idempotency_key = 'c1';
SET LOCAL tokenbill.burn_order = 'tokenbill';
SELECT tokenbill.charge_amount('b', 15, 'c2') \g /dev/null
SELECT is(burned, '[{"amount": 10, "credit": "B"}, {"amount": 3, "credit": "F"}, {"amount": 2, "credit": "A"}]', 'tokenbill: the next 15 by B, F and A') FROM tokenbill.statement WHERE idempotency_key = 'c2';
SELECT tokenbill.set_burn_order('my_oldest', '{newest}') \g /dev/null
SELECT is(pg_temp.order_of('my_oldest'), 'E D A plain', 'an order that is redefined is the order at once');
SET LOCAL tokenbill.burn_order = 'tokenbill';
SAVEPOINT before;
SELECT tokenbill.set_burn_order('my_oldest', '{oldest}') \g /dev/null
SELECT is(pg_temp.order_of('my_oldest'), 'plain A D E', 'and again');
ROLLBACK TO before;
SELECT is(pg_temp.order_of('my_oldest'), 'E D A plain', 'and is not when that is rolled back');

-- What is no order
SELECT pg_temp.refused($$SELECT tokenbill.set_burn_order('orb', '{oldest}')$$, 'PT409', '{"name": "orb"}', 'a preset does not change');
SET LOCAL tokenbill.burn_order = 'nonsense';
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('b', 1, 'c3')$$, 'PT404', '{"burn_order": "nonsense"}', 'an order that there is not is not guessed');
SELECT pg_temp.refused($$SELECT * FROM tokenbill.explain_burn('b', 1)$$, 'PT404', '{"burn_order": "nonsense"}', 'nor explained');
SELECT tokenbill.create_account('p'), tokenbill.recharge('p', 1, 'R-p') \g /dev/null
SELECT is(balance, 0.5, 'who has no credits is not asked') FROM tokenbill.charge_amount('p', 0.5, 'c1');
SET LOCAL tokenbill.burn_order = 'tokenbill';
SELECT throws_ok($$INSERT INTO tokenbill.burn_order VALUES ('bad', '{alphabet}')$$, '23514', NULL, 'words that nobody knows get nowhere, whoever writes them');
SELECT is_empty('SELECT * FROM tokenbill.verify_ledger()', 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
