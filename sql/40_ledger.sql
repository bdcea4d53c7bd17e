/*
 * The ledger: append-only, one line a movement, a month a partition.
 *
 * The months are ordinary tables made at run time (tokenbill.make_ledger_month),
 * not members of the extension, so pg_dump dumps them whole and attaches them
 * again.  That is also why the parent has no primary key of its own: a restored
 * month would get it on being attached, and its dumped one would then fail.
 * Every month has PRIMARY KEY (account, seq) and UNIQUE (account, idempotency_key).
 *
 * There are no CHECK constraints here for the reason given at tokenbill.account;
 * verify_ledger() checks what they would.
 */
CREATE TABLE tokenbill.ledger (
	account text COLLATE "C" NOT NULL,
	seq bigint NOT NULL,
	created_at timestamptz NOT NULL,
	kind text NOT NULL,
	amount numeric NOT NULL,
	balance numeric NOT NULL,
	held numeric NOT NULL,
	credit_limit numeric NOT NULL,
	contra text NOT NULL,
	service text,
	usage jsonb,
	rates jsonb,
	metadata jsonb,
	request jsonb,
	idempotency_key text COLLATE "C" NOT NULL,
	ref text,
	hash bytea NOT NULL,
	cost numeric
) PARTITION BY RANGE (created_at);

COMMENT ON TABLE tokenbill.ledger IS 'Append-only record of every movement, one partition a month (ledger_YYYY_MM, UTC)';
COMMENT ON COLUMN tokenbill.ledger.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.ledger.seq IS 'Number of the line within its account: 1, 2, 3 ... without gaps';
COMMENT ON COLUMN tokenbill.ledger.created_at IS 'When it was posted; never goes back within an account';
COMMENT ON COLUMN tokenbill.ledger.kind IS 'charge, recharge, hold, extend, capture, release, expiry, refund, grant, adjustment or clawback';
COMMENT ON COLUMN tokenbill.ledger.amount IS 'Signed effect on the balance: a charge is negative';
COMMENT ON COLUMN tokenbill.ledger.balance IS 'Balance after the line';
COMMENT ON COLUMN tokenbill.ledger.held IS 'Total of the open holds after the line';
COMMENT ON COLUMN tokenbill.ledger.credit_limit IS 'Credit limit at that time; available was balance + credit_limit - held';
COMMENT ON COLUMN tokenbill.ledger.contra IS 'The other side of the double entry: revenue, cash:<gateway>, grant, hold, sandbox ...';
COMMENT ON COLUMN tokenbill.ledger.service IS 'What was used, as priced in tokenbill.price';
COMMENT ON COLUMN tokenbill.ledger.usage IS 'How much of it, as it was reported: an object of meters and counts';
COMMENT ON COLUMN tokenbill.ledger.rates IS 'What it was priced with: an object of meters and "unit_price/per", or objects with quantity, price, amount, tier, as';
COMMENT ON COLUMN tokenbill.ledger.metadata IS 'The application''s notes on the call';
COMMENT ON COLUMN tokenbill.ledger.request IS 'Arguments of the request that have no column of their own';
COMMENT ON COLUMN tokenbill.ledger.idempotency_key IS 'Key of the request; derived ones begin with tokenbill:';
COMMENT ON COLUMN tokenbill.ledger.ref IS 'What it refers to: hold_key, charge_key of a refund, order_no of a recharge';
COMMENT ON COLUMN tokenbill.ledger.cost IS 'What the upstream charges us for it, in the same currency; null: not known';
COMMENT ON COLUMN tokenbill.ledger.hash IS 'SHA-256 over the previous line''s hash and this line; see docs/concepts.md';

/* Its data is in the months, which pg_dump dumps by themselves. */
SELECT pg_catalog.pg_extension_config_dump('tokenbill.ledger', '');

CREATE FUNCTION tokenbill.refuse_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.refuse('PT409', format('%s on the ledger is refused', lower(TG_OP)),
		jsonb_build_object('table', TG_TABLE_NAME, 'operation', lower(TG_OP)),
		'The ledger is append-only: post a refund or an adjustment instead.');
	RETURN NULL;
END
$function$;
COMMENT ON FUNCTION tokenbill.refuse_change() IS 'Trigger: the ledger is append-only (PT409)';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tokenbill.ledger
FOR EACH ROW EXECUTE FUNCTION tokenbill.refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON tokenbill.ledger
FOR EACH STATEMENT EXECUTE FUNCTION tokenbill.refuse_change();

/* What a month leaves behind when it is sealed: where each account stood, and the totals by contra account. */
CREATE TABLE tokenbill.month_closing (
	account text COLLATE "C" NOT NULL,
	month date NOT NULL,
	seq bigint NOT NULL,
	balance numeric NOT NULL,
	held numeric NOT NULL,
	closed_at timestamptz NOT NULL,
	hash bytea NOT NULL,
	PRIMARY KEY (account, month)
);
COMMENT ON TABLE tokenbill.month_closing IS 'Where each account stood at the end of a sealed month: its last line''s number, balances, time and hash';
COMMENT ON COLUMN tokenbill.month_closing.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.month_closing.month IS 'First day of the month, UTC';
COMMENT ON COLUMN tokenbill.month_closing.seq IS 'Number of the last line';
COMMENT ON COLUMN tokenbill.month_closing.balance IS 'Balance after it';
COMMENT ON COLUMN tokenbill.month_closing.held IS 'Total of the open holds after it';
COMMENT ON COLUMN tokenbill.month_closing.closed_at IS 'Time of it';
COMMENT ON COLUMN tokenbill.month_closing.hash IS 'Hash of it: where the chain goes on';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.month_closing', '');

CREATE TABLE tokenbill.month_total (
	month date NOT NULL,
	currency text NOT NULL,
	contra text NOT NULL,
	amount numeric NOT NULL,
	lines bigint NOT NULL,
	sealed_at timestamptz NOT NULL,
	dropped_at timestamptz,
	PRIMARY KEY (month, currency, contra)
);
COMMENT ON TABLE tokenbill.month_total IS 'Sum of the ledger amounts of a sealed month by currency and contra account';
COMMENT ON COLUMN tokenbill.month_total.month IS 'First day of the month, UTC';
COMMENT ON COLUMN tokenbill.month_total.currency IS '- for a month without lines';
COMMENT ON COLUMN tokenbill.month_total.contra IS 'The other side of the double entry';
COMMENT ON COLUMN tokenbill.month_total.amount IS 'Sum of the ledger amounts';
COMMENT ON COLUMN tokenbill.month_total.lines IS 'How many lines there were';
COMMENT ON COLUMN tokenbill.month_total.sealed_at IS 'When the month was sealed';
COMMENT ON COLUMN tokenbill.month_total.dropped_at IS 'When its lines were dropped; null while they are there';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.month_total', '');

/*
 * Months are told apart in UTC, whatever the session's time zone.
 *
 * Two charges may need the same new month at once: the second waits at the
 * advisory lock until the first commits, then finds the table made.  ATTACH
 * PARTITION locks the parent so lightly that readers and writers go on.  What the
 * caller has set about new tables is not asked: any charge may be the first.
 */
/*
 * Only who has a balance follow from the ledger (sql/76_check.sql) looks for lines
 * by their time; nobody else's charges pay for an index.  A BRIN one hardly costs
 * any: lines come in the order of their time, within what transactions last.
 */
CREATE FUNCTION tokenbill.index_ledger_month(month text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET default_tablespace = ''
SET lock_timeout = '50ms'
AS $function$
BEGIN
	IF EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid = to_regclass('tokenbill.' || index_ledger_month.month) AND i.indisvalid AND c.relname = index_ledger_month.month || '_created_at_idx') THEN
		RETURN true;
	END IF;
	/* it would keep charges waiting; whoever has so many can make it concurrently */
	IF coalesce(pg_relation_size(to_regclass('tokenbill.' || index_ledger_month.month)), 268435456) >= 268435456 THEN
		RETURN false;
	END IF;
	EXECUTE format('CREATE INDEX %I ON tokenbill.%I USING brin (created_at) WITH (autosummarize = on)',
		index_ledger_month.month || '_created_at_idx', index_ledger_month.month);
	RETURN true;
EXCEPTION WHEN lock_not_available OR duplicate_table THEN
	/* nor does it wait for them: there is a next time */
	RETURN false;
END
$function$;
COMMENT ON FUNCTION tokenbill.index_ledger_month(text) IS
'Internal: makes the index by time of a month of the ledger, unless it is there, the month has 256 MB, or somebody is writing to it right now; returns whether it is there';

CREATE FUNCTION tokenbill.make_ledger_month(at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET default_tablespace = ''
SET default_table_access_method = 'heap'
AS $function$
DECLARE
	first_day date := date_trunc('month', at)::date;
	leaf text := to_char(first_day, '"ledger_"YYYY_MM');
BEGIN
	PERFORM tokenbill.check_time('at', at);
	PERFORM pg_advisory_xact_lock(x'746f6b62'::int, x'6d6f6e74'::int);
	/*
	 * ATTACH takes this lock anyway.  Here it has us hear, as an advisory lock does
	 * not, what whoever we waited for has made: a session that had looked for the
	 * table in vain would go on believing that there is none.
	 */
	LOCK TABLE tokenbill.ledger IN SHARE UPDATE EXCLUSIVE MODE;
	IF to_regclass('tokenbill.' || leaf) IS NOT NULL THEN
		RETURN leaf;
	END IF;
	IF EXISTS (SELECT FROM tokenbill.month_total t WHERE t.month >= first_day) THEN
		PERFORM tokenbill.refuse('PT409', format('month %s is sealed', to_char(first_day, 'YYYY-MM')),
			jsonb_build_object('month', to_char(first_day, 'YYYY-MM')), 'Nothing more can be posted to a sealed month.');
	END IF;
	EXECUTE format('CREATE TABLE tokenbill.%I (LIKE tokenbill.ledger INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING COMMENTS, '
		'CONSTRAINT %I PRIMARY KEY (account, seq), CONSTRAINT %I UNIQUE (account, idempotency_key))',
		leaf, leaf || '_pkey', leaf || '_idempotency_key');
	IF EXISTS (SELECT FROM tokenbill.provider p JOIN tokenbill.provider_preset k ON k.preset = p.preset AND k.source = 'ledger') THEN
		PERFORM tokenbill.index_ledger_month(leaf);
	END IF;
	EXECUTE format('REVOKE ALL ON tokenbill.%I FROM PUBLIC', leaf);
	EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON tokenbill.%I '
		'FOR EACH STATEMENT EXECUTE FUNCTION tokenbill.refuse_change()', leaf);
	EXECUTE format('ALTER TABLE tokenbill.ledger ATTACH PARTITION tokenbill.%I FOR VALUES FROM (%L) TO (%L)',
		leaf, first_day::timestamptz, (first_day + interval '1 month')::timestamptz);
	RETURN leaf;
END
$function$;
COMMENT ON FUNCTION tokenbill.make_ledger_month(timestamptz) IS
'Makes the partition of the month (UTC) that the time falls in, if it is not there, and returns its name; a charge calls it when it needs one';

CREATE FUNCTION tokenbill.make_ledger_months(ahead integer DEFAULT 3) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
BEGIN
	IF ahead IS NULL THEN
		PERFORM tokenbill.refuse('22004', 'ahead must not be null', '{"argument": "ahead"}', 'Pass a number of months.');
	END IF;
	IF ahead NOT BETWEEN 0 AND 120 THEN
		PERFORM tokenbill.refuse('22023', 'ahead must be between 0 and 120 months', '{"argument": "ahead"}',
			'Three months ahead is plenty: charges make what they need.');
	END IF;
	FOR i IN 0 .. ahead LOOP
		RETURN NEXT tokenbill.make_ledger_month(tokenbill.clock() + make_interval(months => i));
	END LOOP;
END
$function$;
COMMENT ON FUNCTION tokenbill.make_ledger_months(integer) IS
'Makes the partitions of this month and of the given number of months after it, and returns their names';

CREATE FUNCTION tokenbill.seal_ledger_month(month date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
#variable_conflict use_column
DECLARE
	first_day date := date_trunc('month', CASE WHEN seal_ledger_month.month > '2100-01-01' THEN '2100-01-01' ELSE seal_ledger_month.month END)::date;
	leaf text := to_char(first_day, '"ledger_"YYYY_MM');
	accounts bigint;
	older text;
BEGIN
	PERFORM tokenbill.check_time('month', first_day::timestamptz);
	PERFORM pg_advisory_xact_lock(x'746f6b62'::int, x'6d6f6e74'::int);
	IF to_regclass('tokenbill.' || leaf) IS NULL THEN
		PERFORM tokenbill.refuse('PT404', format('the ledger has no month %s', to_char(first_day, 'YYYY-MM')),
			jsonb_build_object('month', to_char(first_day, 'YYYY-MM')), 'See \d+ tokenbill.ledger for the months there are.');
	END IF;
	/* the sums must take in every line committed before the month is locked */
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		PERFORM tokenbill.refuse('25001', 'a month must be sealed in a READ COMMITTED transaction',
			jsonb_build_object('isolation', current_setting('transaction_isolation')), 'Begin another transaction.');
	END IF;
	IF first_day + interval '1 month' > tokenbill.clock() THEN
		PERFORM tokenbill.refuse('PT409', format('month %s is not over', to_char(first_day, 'YYYY-MM')),
			jsonb_build_object('month', to_char(first_day, 'YYYY-MM')), 'Seal a month after its last day, in UTC.');
	END IF;
	SELECT c.relname INTO older
	FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
	WHERE i.inhparent = 'tokenbill.ledger'::regclass AND c.relname < leaf
		AND NOT EXISTS (SELECT FROM tokenbill.month_total t WHERE to_char(t.month, '"ledger_"YYYY_MM') = c.relname)
	ORDER BY c.relname LIMIT 1;
	IF FOUND THEN
		PERFORM tokenbill.refuse('PT409', format('an older month is not sealed: %s', older),
			jsonb_build_object('month', to_char(first_day, 'YYYY-MM'), 'older', older), 'Seal the months from the oldest on.');
	END IF;
	IF EXISTS (SELECT FROM tokenbill.month_total t WHERE t.month = first_day) THEN
		RETURN 0;
	END IF;
	/* no line can be added while it is being summed up, and none afterwards: the trigger below */
	EXECUTE format('LOCK TABLE tokenbill.%I IN SHARE ROW EXCLUSIVE MODE', leaf);
	EXECUTE format('INSERT INTO tokenbill.month_closing (account, month, seq, balance, held, closed_at, hash) '
		'SELECT DISTINCT ON (l.account) l.account, %L::date, l.seq, l.balance, l.held, l.created_at, l.hash '
		'FROM tokenbill.%I l ORDER BY l.account, l.seq DESC', first_day, leaf);
	GET DIAGNOSTICS accounts = ROW_COUNT;
	EXECUTE format('INSERT INTO tokenbill.month_total (month, currency, contra, amount, lines, sealed_at) '
		'SELECT %L::date, a.currency, l.contra, sum(l.amount), count(*), tokenbill.clock() '
		'FROM tokenbill.%I l JOIN tokenbill.account a ON a.account = l.account GROUP BY a.currency, l.contra '
		'UNION ALL SELECT %L::date, ''-'', ''-'', 0, 0, tokenbill.clock() WHERE NOT EXISTS (SELECT FROM tokenbill.%I)',
		first_day, leaf, first_day, leaf);
	/* for each row: a statement's trigger would not see rows that come through the parent */
	EXECUTE format('CREATE TRIGGER sealed BEFORE INSERT ON tokenbill.%I '
		'FOR EACH ROW EXECUTE FUNCTION tokenbill.refuse_change()', leaf);
	RETURN accounts;
END
$function$;
COMMENT ON FUNCTION tokenbill.seal_ledger_month(date) IS
'Keeps where each account stood at the end of the month, closes the month for good and returns how many accounts moved in it. Errors: PT404 no such month, PT409 not over, or an older one is not sealed';

CREATE FUNCTION tokenbill.drop_ledger_month(month date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '10s'
AS $function$
#variable_conflict use_column
DECLARE
	first_day date := date_trunc('month', CASE WHEN drop_ledger_month.month > '2100-01-01' THEN '2100-01-01' ELSE drop_ledger_month.month END)::date;
	leaf text := to_char(first_day, '"ledger_"YYYY_MM');
	keep text := coalesce(current_setting('tokenbill.idempotency_window', true), '30 days');
	older text;
	gone bigint;
BEGIN
	PERFORM tokenbill.check_time('month', first_day::timestamptz);
	IF keep = 'infinity' OR first_day + interval '1 month' + keep::interval > tokenbill.clock() THEN
		PERFORM tokenbill.refuse('PT409', format('month %s is younger than tokenbill.idempotency_window', to_char(first_day, 'YYYY-MM')),
			jsonb_build_object('month', to_char(first_day, 'YYYY-MM'), 'idempotency_window', keep),
			'Its keys must still be remembered; drop it later, or shorten the window.');
	END IF;
	SELECT c.relname INTO older
	FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
	WHERE i.inhparent = 'tokenbill.ledger'::regclass AND c.relname < leaf
	ORDER BY c.relname LIMIT 1;
	IF FOUND THEN
		PERFORM tokenbill.refuse('PT409', format('an older month is still there: %s', older),
			jsonb_build_object('month', to_char(first_day, 'YYYY-MM'), 'older', older), 'Drop the months from the oldest on.');
	END IF;
	PERFORM tokenbill.seal_ledger_month(first_day);
	SELECT sum(t.lines) INTO gone FROM tokenbill.month_total t WHERE t.month = first_day;
	/* waits for whoever uses the ledger, and lets charges wait: lock_timeout above ends that */
	EXECUTE format('DROP TABLE tokenbill.%I', leaf);
	UPDATE tokenbill.month_total t SET dropped_at = tokenbill.clock() WHERE t.month = first_day;
	RETURN gone;
END
$function$;
COMMENT ON FUNCTION tokenbill.drop_ledger_month(date) IS
'Seals the oldest month of the ledger, drops its table and returns how many lines went; verify_ledger() goes on holding for the rest. Errors: PT404, PT409 not the oldest, not over, or its keys must still be remembered, 55P03 the ledger was in use for ten seconds';
