-- What charge() is measured against. All of it is in schema bench and none of
-- it is meant for use: see docs/performance.md.
--
-- One list of prices, one set of opening balances and lines, made with
-- tokenbill and copied, so that every contender starts with the same tables.
CREATE EXTENSION tokenbill;
SELECT 'CREATE ROLE bench_app LOGIN IN ROLE tokenbill_app' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bench_app') \gexec
CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO bench_app;

-- 40 services of 3 meters, so that finding a price is not finding the only one
SELECT FROM generate_series(1, 40) AS n
CROSS JOIN (VALUES ('input_tokens', 0.25), ('cache_read_tokens', 0.025), ('output_tokens', 2)) AS m (meter, unit_price),
	tokenbill.set_price('model-' || n, m.meter, m.unit_price * n, 1000000) \g /dev/null
SELECT FROM generate_series(100001, 100000 + :accounts) AS n, tokenbill.create_account(n::text) \g /dev/null
SELECT FROM generate_series(100001, 100000 + :accounts) AS n, tokenbill.grant_credit(n::text, 1000000, 'opening') \g /dev/null
CREATE TABLE bench.opening_account AS TABLE tokenbill.account;
CREATE TABLE bench.opening_ledger AS TABLE tokenbill.ledger;

-- The same tables: columns, collations, indexes, fillfactor, months
CREATE TABLE bench.account (LIKE tokenbill.account INCLUDING ALL) WITH (fillfactor = 50);
CREATE TABLE bench.price (LIKE tokenbill.price INCLUDING ALL);
INSERT INTO bench.price TABLE tokenbill.price;
CREATE TABLE bench.ledger (LIKE tokenbill.ledger) PARTITION BY RANGE (created_at);
DO $do$
BEGIN
	FOR i IN 0 .. 1 LOOP
		EXECUTE format('CREATE TABLE bench.ledger_%s PARTITION OF bench.ledger (PRIMARY KEY (account, seq), UNIQUE (account, idempotency_key)) '
			'FOR VALUES FROM (%L) TO (%L)', i, date_trunc('month', now(), 'UTC') + make_interval(months => i),
			date_trunc('month', now(), 'UTC') + make_interval(months => i + 1));
	END LOOP;
END
$do$;
-- ... but what the plain INSERT goes to is no partition
CREATE TABLE bench.plain (LIKE tokenbill.ledger, PRIMARY KEY (account, seq), UNIQUE (account, idempotency_key));

GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA bench TO bench_app;

-- The hash of docs/concepts.md. Three SQL functions of one expression, STABLE
-- as what they call is, so that the planner puts them in line.
CREATE FUNCTION bench.field(value text) RETURNS text
LANGUAGE sql STABLE
AS $$ SELECT coalesce(octet_length(value) || ':' || value || ',', '-,') $$;
CREATE FUNCTION bench.microseconds(at timestamptz) RETURNS bigint
LANGUAGE sql STABLE
AS $$ SELECT (extract(epoch FROM at) * 1000000)::bigint - 946684800000000 $$;
CREATE FUNCTION bench.line_hash(previous bytea, account text, seq bigint, created_at timestamptz, kind text, amount numeric,
	balance numeric, held numeric, credit_limit numeric, contra text, service text, usage jsonb, rates jsonb, metadata jsonb,
	request jsonb, idempotency_key text, ref text) RETURNS bytea
LANGUAGE sql STABLE
AS $$
SELECT sha256(coalesce(previous, '') || convert_to(
	bench.field(account) || bench.field(seq::text) || bench.field(bench.microseconds(created_at)::text) || bench.field(kind)
	|| bench.field(amount::text) || bench.field(balance::text) || bench.field(held::text) || bench.field(credit_limit::text)
	|| bench.field(contra) || bench.field(service) || bench.field(usage::text) || bench.field(rates::text)
	|| bench.field(metadata::text) || bench.field(request::text) || bench.field(idempotency_key) || bench.field(ref), 'UTF8'))
$$;

-- charge() as one would write it in PL/pgSQL: the same checks of arguments, the
-- same answer to a repeated key, the same prices, limits, chain and receipt.
CREATE FUNCTION bench.charge(account text, service text, usage jsonb, idempotency_key text,
	on_insufficient text DEFAULT 'refuse', metadata jsonb DEFAULT NULL)
RETURNS tokenbill.receipt
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
	a bench.account;
	was bench.ledger;
	cost numeric;
	rates jsonb;
	bad bigint;
	unpriced bigint;
	at timestamptz := clock_timestamp();
	new_hash bytea;
BEGIN
	IF account IS NULL OR service IS NULL OR usage IS NULL OR idempotency_key IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = 'account, service, usage and idempotency_key must not be null';
	END IF;
	IF octet_length(account) NOT BETWEEN 1 AND 128 OR account ~ '[[:cntrl:]]' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'account must have 1 to 128 bytes and no control characters';
	END IF;
	IF octet_length(service) NOT BETWEEN 1 AND 255 OR service ~ '[[:cntrl:]]' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'service must have 1 to 255 bytes and no control characters';
	END IF;
	IF octet_length(idempotency_key) NOT BETWEEN 1 AND 255 OR idempotency_key ~ '[[:cntrl:]]'
	   OR idempotency_key LIKE 'tokenbill:%' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'idempotency_key must have 1 to 255 bytes and no control characters';
	END IF;
	IF on_insufficient NOT IN ('refuse', 'debt') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'on_insufficient must be refuse or debt';
	END IF;
	IF jsonb_typeof(usage) <> 'object' OR usage = '{}' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'usage must be an object and not empty';
	END IF;
	IF metadata IS NOT NULL AND (jsonb_typeof(metadata) <> 'object' OR octet_length(metadata::text) > 8192) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'metadata must be an object of at most 8 KB';
	END IF;

	-- a meter whose count is bad, or that has no price, comes out as null
	SELECT sum(m.quantity * p.unit_price / p.per), jsonb_object_agg(m.name, p.unit_price || '/' || p.per),
		count(*) FILTER (WHERE m.quantity IS NULL), count(*) FILTER (WHERE p.unit_price IS NULL)
	INTO cost, rates, bad, unpriced
	FROM (SELECT u.key AS name, CASE WHEN jsonb_typeof(u.value) = 'number' AND u.value::numeric >= 0 AND u.value::numeric < 1e15
			AND (u.key NOT LIKE '%\_tokens' OR u.value::numeric = trunc(u.value::numeric)) THEN u.value::numeric END AS quantity
		FROM jsonb_each(usage) u) AS m
	LEFT JOIN LATERAL (SELECT p.unit_price, p.per FROM bench.price p
		WHERE p.service = charge.service AND p.meter = m.name AND p.account IN (charge.account, '*') AND p.valid_from <= at
		ORDER BY p.account = '*', p.valid_from DESC LIMIT 1) AS p ON true;
	IF bad > 0 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'usage has a bad count';
	END IF;
	IF unpriced > 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'PT404', MESSAGE = format('a meter of service %s has no price', service);
	END IF;

	SELECT * INTO a FROM bench.account b WHERE b.account = charge.account FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'PT404', MESSAGE = format('account %s does not exist', account);
	END IF;

	SELECT * INTO was FROM bench.ledger l WHERE l.account = charge.account AND l.idempotency_key = charge.idempotency_key;
	IF FOUND THEN
		IF was.kind <> 'charge' OR was.service IS DISTINCT FROM service OR was.usage IS DISTINCT FROM usage
		   OR was.metadata IS DISTINCT FROM metadata THEN
			RAISE EXCEPTION USING ERRCODE = 'PT409', MESSAGE = 'the key was used for another request';
		END IF;
		RETURN ROW(was.account, was.seq, was.kind, was.service, was.amount, was.balance,
			was.balance + was.credit_limit - was.held, a.currency, was.idempotency_key, NULL, true, was.created_at, was.held,
			-was.amount, was.ref)::tokenbill.receipt;
	END IF;

	IF a.status <> 'active' THEN
		RAISE EXCEPTION USING ERRCODE = 'PT403', MESSAGE = format('account %s is %s', account, a.status);
	END IF;
	IF a.balance + a.credit_limit - a.held < cost AND on_insufficient <> 'debt' THEN
		RAISE EXCEPTION USING ERRCODE = 'PT402', MESSAGE = format('account %s has insufficient balance', account),
			DETAIL = jsonb_build_object('account', account, 'required', cost, 'available', a.balance + a.credit_limit - a.held);
	END IF;

	at := greatest(at, a.updated_at);
	a.balance := a.balance - cost;
	INSERT INTO bench.ledger (account, seq, created_at, kind, amount, balance, held, credit_limit, contra, service, usage, rates,
		metadata, idempotency_key, hash)
	VALUES (charge.account, a.seq + 1, at, 'charge', -cost, a.balance, a.held, a.credit_limit, 'revenue', charge.service, charge.usage,
		rates, charge.metadata, charge.idempotency_key,
		bench.line_hash(a.hash, charge.account, a.seq + 1, at, 'charge', -cost, a.balance, a.held, a.credit_limit, 'revenue',
			charge.service, charge.usage, rates, charge.metadata, NULL, charge.idempotency_key, NULL))
	RETURNING hash INTO new_hash;
	UPDATE bench.account b
	SET balance = a.balance, seq = a.seq + 1, updated_at = at, hash = new_hash
	WHERE b.account = charge.account;
	RETURN ROW(account, a.seq + 1, 'charge', service, -cost, a.balance, a.balance + a.credit_limit - a.held, a.currency,
		idempotency_key, NULL, false, at, a.held, cost, NULL)::tokenbill.receipt;
END
$$;

-- Put one contender's tables back to the opening of the first n accounts.
-- Nothing is analysed afterwards: plans are made for tables of unknown size,
-- not for the nearly empty ones that these are for a moment.
CREATE PROCEDURE bench.reset(contender text, n integer)
LANGUAGE plpgsql
SET session_replication_role = replica -- the ledger refuses TRUNCATE otherwise
AS $$
DECLARE
	last text := (100000 + n)::text;
BEGIN
	CASE contender
	WHEN 'charge' THEN
		TRUNCATE tokenbill.account, tokenbill.ledger;
		INSERT INTO tokenbill.account SELECT * FROM bench.opening_account WHERE account <= last;
		INSERT INTO tokenbill.ledger SELECT * FROM bench.opening_ledger WHERE account <= last;
	WHEN 'insert' THEN
		TRUNCATE bench.plain;
		INSERT INTO bench.plain SELECT * FROM bench.opening_ledger WHERE account <= last;
	ELSE
		TRUNCATE bench.account, bench.ledger;
		INSERT INTO bench.account SELECT * FROM bench.opening_account WHERE account <= last;
		INSERT INTO bench.ledger SELECT * FROM bench.opening_ledger WHERE account <= last;
	END CASE;
END
$$;

-- How many lines a contender has posted since
CREATE FUNCTION bench.posted(contender text, n integer) RETURNS bigint
LANGUAGE sql STABLE
AS $$
SELECT CASE contender WHEN 'charge' THEN (SELECT count(*) FROM tokenbill.ledger) WHEN 'insert' THEN (SELECT count(*) FROM bench.plain)
	ELSE (SELECT count(*) FROM bench.ledger) END - n
$$;

-- What is wrong with an account whose lines or chain do not agree with it.
-- For the contenders; charge() has verify_ledger().
CREATE FUNCTION bench.broken() RETURNS bigint
LANGUAGE sql STABLE
AS $$
SELECT count(*) FROM (
	SELECT l.*, lag(l.hash) OVER w AS previous, lag(l.balance) OVER w AS before, lead(l.seq) OVER w IS NULL AS last
	FROM bench.ledger l WINDOW w AS (PARTITION BY l.account ORDER BY l.seq)) l
LEFT JOIN bench.account a ON l.last AND (a.account, a.seq, a.balance, a.hash) = (l.account, l.seq, l.balance, l.hash)
WHERE l.hash <> bench.line_hash(l.previous, l.account, l.seq, l.created_at, l.kind, l.amount, l.balance, l.held, l.credit_limit,
		l.contra, l.service, l.usage, l.rates, l.metadata, l.request, l.idempotency_key, l.ref)
	OR l.balance <> coalesce(l.before, 0) + l.amount OR l.last AND a.account IS NULL
$$;
