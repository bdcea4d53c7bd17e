-- Settings: tokenbill's own, and those of a session that must not change what comes out
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(36);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00.5+00';
SELECT tokenbill.make_ledger_month('2026-03-01') \g /dev/null

-- tokenbill.clock
SELECT is(tokenbill.clock(), '2026-03-01 12:00:00.5+00', 'the clock stands where it is set');
SET LOCAL tokenbill.clock = '2026-03-01 14:00:00+02';
SELECT is(tokenbill.clock(), '2026-03-01 12:00:00+00', 'in any zone');
SET LOCAL tokenbill.clock = '';
SELECT is(tokenbill.clock() BETWEEN now() AND clock_timestamp(), true, 'empty, it goes by the system''s');
SELECT is(count(DISTINCT tokenbill.clock()) > 1, true, 'and goes on within a statement') FROM generate_series(1, 10000);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00.5+00';

-- Odd sessions: each does the same, and is undone
CREATE TEMP TABLE session (n int, name text, value text);
INSERT INTO session VALUES (0, 'search_path', 'public'), (1, 'datestyle', 'German, DMY'), (2, 'datestyle', 'Postgres, MDY'), (3, 'datestyle', 'SQL, DMY'), (4, 'intervalstyle', 'sql_standard'), (5, 'intervalstyle', 'iso_8601'),
	(8, 'standard_conforming_strings', 'off'), (9, 'quote_all_identifiers', 'on'), (10, 'bytea_output', 'escape'), (11, 'extra_float_digits', '-15'),
	(12, 'transform_null_equals', 'on'), (13, 'array_nulls', 'off'), (14, 'plan_cache_mode', 'force_custom_plan'), (15, 'enable_indexscan', 'off'), (16, 'enable_seqscan', 'off'), (17, 'plpgsql.extra_errors', 'all'),
	(18, 'plpgsql.check_asserts', 'off'), (19, 'row_security', 'off'), (20, 'lc_numeric', 'C'), (21, 'default_toast_compression', 'pglz'), (22, 'escape_string_warning', 'off'), (23, 'backslash_quote', 'on'),
	(24, 'constraint_exclusion', 'on'), (25, 'enable_partition_pruning', 'off'), (26, 'client_encoding', 'LATIN1'), (27, 'check_function_bodies', 'off'), (28, 'xmloption', 'document'), (29, 'work_mem', '64kB'),
	(30, 'synchronous_commit', 'off'), (31, 'default_table_access_method', 'heap');
CREATE FUNCTION pg_temp.day(setting text, value text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	result jsonb := '[]';
	acc text := 'set';
	call text;
	one jsonb;
	e record;
BEGIN
	PERFORM set_config(setting, value, true);
	FOREACH call IN ARRAY ARRAY[
		$c$tokenbill.create_account('@', credit_limit => 5.50)$c$, $c$tokenbill.set_price('set-llm', 'tokens', 0.001, account => '@', valid_from => '2026-01-02 03:04:05+00')$c$,
		$c$tokenbill.recharge('@', 100, 'set-@', metadata => '{"a": 1.50}')$c$, $c$tokenbill.charge('@', 'set-llm', '{"tokens": 1234}', 'c1', metadata => '{"ü": "é"}')$c$,
		$c$tokenbill.hold('@', 5, 'h1', ttl => '1 day 01:02:03.000004')$c$, $c$tokenbill.hold('@', 5, 'h1', ttl => '1 day 01:02:03.000004')$c$, $c$tokenbill.extend_hold('@', 'h1', 6, '2 hours', 'e1')$c$,
		$c$tokenbill.capture('@', 'h1', amount => 2.5)$c$, $c$tokenbill.refund('@', 'c1', 'r1', 0.1)$c$, $c$tokenbill.grant_credit('@', 1, 'g1')$c$, $c$tokenbill.quote('@', 'set-llm', '{"tokens": 5}')$c$,
		$c$tokenbill.charge_batch('[{"account": "@", "amount": 0.1, "idempotency_key": "b1"}, {"account": "@", "amount": 0.2, "idempotency_key": "b1"}]')$c$,
		$c$tokenbill.balance_at('@', '2026-03-01 12:00:00.5+00')$c$, $c$tokenbill.verify_ledger('@')$c$, $c$tokenbill.make_ledger_month('2026-05-31 23:59:59+00')$c$, $c$tokenbill.statement WHERE account = '@' ORDER BY seq$c$, $c$tokenbill.usage_daily WHERE account = '@' ORDER BY meter$c$,
		$c$tokenbill.holds WHERE account = '@' ORDER BY hold_key$c$] LOOP
		EXECUTE format('SELECT jsonb_agg(to_jsonb(r)) FROM (SELECT * FROM %s) r', replace(call, '@', acc)) INTO one;
		result := result || coalesce(one, '[]');
	END LOOP;
	FOREACH call IN ARRAY ARRAY[
		$c$tokenbill.charge('@', 'set-llm', '{"tokens": 1234}', 'c1', metadata => '{"x": 1}')$c$, $c$tokenbill.hold('@', 5, 'h1', ttl => '1 day')$c$, $c$tokenbill.set_price('set-llm', 'tokens', 2, account => '@', valid_from => '2026-01-02 03:04:05+00')$c$,
		$c$tokenbill.drop_ledger_month('2026-03-01')$c$, $c$tokenbill.charge_amount('@', 10000, 'x')$c$] LOOP
		SELECT * INTO e FROM pg_temp.error_of(format('SELECT * FROM %s', replace(call, '@', acc)));
		result := result || jsonb_build_array(e.sqlstate, e.detail);
	END LOOP;
	EXECUTE format('SELECT jsonb_agg(l.seq || encode(hash, ''hex'') || (encode(hash, ''hex'') = encode(pg_temp.line_hash(previous, l.account, l.seq::text, (extract(epoch FROM l.created_at - timestamptz ''epoch'') * 1000000 - 946684800000000)::bigint::text,
		l.kind, l.amount::text, l.balance::text, l.held::text, l.credit_limit::text, l.contra, l.service, l.usage::text, l.rates::text, l.metadata::text, l.request::text, l.idempotency_key, l.ref), ''hex''))::text ORDER BY l.seq)
		FROM (SELECT *, lag(hash) OVER (ORDER BY seq) AS previous FROM tokenbill.ledger WHERE account = %L) l', acc) INTO one;
	result := result || one;
	RAISE EXCEPTION SQLSTATE 'TB000';
EXCEPTION WHEN SQLSTATE 'TB000' THEN
	RETURN result;
END $$;
SELECT pg_temp.day(name, value) AS honest FROM session WHERE n = 0 \gset
SELECT is(jsonb_array_length(:'honest'::jsonb) > 30, true, 'something is compared');
SELECT is(:'honest'::text LIKE '%true"%' AND :'honest'::text NOT LIKE '%false"%', true, 'with the hashes as they are documented');
SELECT is(pg_temp.day(name, value), :'honest'::jsonb, format('%s = %s changes nothing', name, value)) FROM session WHERE n > 0 ORDER BY n;
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger()$$, 'all of it is sound');

SELECT * FROM finish();
ROLLBACK;
