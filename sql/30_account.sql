/*
 * Accounts.  One narrow row an account, rewritten by every movement: fillfactor
 * leaves room for HOT updates.  Keys compare bytewise (COLLATE "C"): they are
 * identifiers, not words, and an index search costs half as much that way.
 *
 * The allowed words are domains, not CHECK constraints: PostgreSQL parses every
 * CHECK of a table anew in each statement that writes to it, a domain only when
 * its own column is written.
 *
 * status: active <-> frozen, either -> closed.  Closed is final.
 */
CREATE DOMAIN tokenbill.account_status AS text CHECK (VALUE IN ('active', 'frozen', 'closed'));
COMMENT ON DOMAIN tokenbill.account_status IS 'active: all is allowed; frozen: may be credited, not charged; closed: neither, for ever';

CREATE DOMAIN tokenbill.overflow_policy AS text CHECK (VALUE IN ('refuse', 'debt'));
COMMENT ON DOMAIN tokenbill.overflow_policy IS 'What a capture of more than was held does: refuse (PT402), or debt: take it, below zero if need be';

/*
 * A limit of an account, and its counter: 66_limit.sql.  Accounts keep theirs in the
 * order of the names.
 */
CREATE TYPE tokenbill.account_limit AS (
	account text COLLATE "C",
	name text COLLATE "C",
	what text,
	amount numeric,
	every text,
	period interval,
	timezone text,
	service text,
	tag jsonb,
	action text,
	created_at timestamptz,
	starts_at timestamptz,
	ends_at timestamptz,
	tail_seq bigint,
	next_at timestamptz,
	counted numeric,
	held numeric,
	alerted_at timestamptz
);
COMMENT ON TYPE tokenbill.account_limit IS 'A spend or rate limit of an account, and how much of it is used';
COMMENT ON COLUMN tokenbill.account_limit.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.account_limit.name IS 'Name of the limit within its account';
COMMENT ON COLUMN tokenbill.account_limit.what IS 'What is counted: spend, requests, tokens or in_flight';
COMMENT ON COLUMN tokenbill.account_limit.amount IS 'How much of it there may be in a window';
COMMENT ON COLUMN tokenbill.account_limit.every IS 'The window: minute, hour, day, week, month, or the length of a rolling one; null for in_flight';
COMMENT ON COLUMN tokenbill.account_limit.period IS 'Length of a rolling window; null: a calendar window, or none';
COMMENT ON COLUMN tokenbill.account_limit.timezone IS 'Time zone that calendar windows begin in';
COMMENT ON COLUMN tokenbill.account_limit.service IS 'Only this service, or, with * at its end, those that begin so; null: all';
COMMENT ON COLUMN tokenbill.account_limit.tag IS 'Only what has these members in its metadata; null: all';
COMMENT ON COLUMN tokenbill.account_limit.action IS 'refuse: PT429; alert: NOTIFY tokenbill_alert, once a window';
COMMENT ON COLUMN tokenbill.account_limit.created_at IS 'When it was set';
COMMENT ON COLUMN tokenbill.account_limit.starts_at IS 'Calendar: beginning of the window that was counted last';
COMMENT ON COLUMN tokenbill.account_limit.ends_at IS 'Calendar: its end';
COMMENT ON COLUMN tokenbill.account_limit.tail_seq IS 'Rolling: the newest ledger line that has left the window';
COMMENT ON COLUMN tokenbill.account_limit.next_at IS 'Rolling: no line that is counted is older; null: none is counted';
COMMENT ON COLUMN tokenbill.account_limit.counted IS 'What the ledger lines of the window count';
COMMENT ON COLUMN tokenbill.account_limit.held IS 'What open holds reserve';
COMMENT ON COLUMN tokenbill.account_limit.alerted_at IS 'When it alerted last';

CREATE TABLE tokenbill.account (
	account text COLLATE "C" NOT NULL PRIMARY KEY,
	balance numeric NOT NULL DEFAULT 0,
	held numeric NOT NULL DEFAULT 0,
	credit_limit numeric NOT NULL DEFAULT 0,
	seq bigint NOT NULL DEFAULT 0,
	updated_at timestamptz NOT NULL,
	hash bytea,
	status tokenbill.account_status NOT NULL DEFAULT 'active',
	sandbox boolean NOT NULL DEFAULT false,
	tokens_only boolean NOT NULL DEFAULT false,
	overflow tokenbill.overflow_policy NOT NULL DEFAULT 'refuse',
	currency text NOT NULL,
	credits integer NOT NULL DEFAULT 0,
	metadata jsonb NOT NULL DEFAULT '{}',
	created_at timestamptz NOT NULL,
	price_group text COLLATE "C",
	limits tokenbill.account_limit[]
) WITH (fillfactor = 50);

COMMENT ON TABLE tokenbill.account IS 'One row an account: its balance, derived from the ledger, and its settings';
COMMENT ON COLUMN tokenbill.account.created_at IS 'When it was made';
COMMENT ON COLUMN tokenbill.account.price_group IS 'Group whose prices go before the list''s; null: none';
COMMENT ON COLUMN tokenbill.account.account IS 'Name of the account, chosen by the application';
COMMENT ON COLUMN tokenbill.account.balance IS 'Sum of the amounts of its ledger lines, in currency';
COMMENT ON COLUMN tokenbill.account.held IS 'What its open holds reserve, in currency';
COMMENT ON COLUMN tokenbill.account.credit_limit IS 'How far below zero the balance may go; available = balance + credit_limit - held';
COMMENT ON COLUMN tokenbill.account.seq IS 'Number of its newest ledger line; 0 before the first';
COMMENT ON COLUMN tokenbill.account.updated_at IS 'Time of its newest ledger line; never goes back';
COMMENT ON COLUMN tokenbill.account.hash IS 'Head of its hash chain: hash of the newest ledger line';
COMMENT ON COLUMN tokenbill.account.status IS 'active, frozen (credited, not charged) or closed';
COMMENT ON COLUMN tokenbill.account.sandbox IS 'Every check and receipts, but charges move no money';
COMMENT ON COLUMN tokenbill.account.tokens_only IS 'Charges and holds need a key from issue_token()';
COMMENT ON COLUMN tokenbill.account.overflow IS 'Capture of more than was held: refuse or debt';
COMMENT ON COLUMN tokenbill.account.currency IS 'Currency of all its amounts; never changes';
COMMENT ON COLUMN tokenbill.account.limits IS 'Its spend and rate limits, by name, and how much of them is used; null: none';
COMMENT ON COLUMN tokenbill.account.credits IS 'How many of its credits are open; 0: nothing about credits to be looked at';
COMMENT ON COLUMN tokenbill.account.metadata IS 'The application''s own notes, a JSON object of at most 8 KB';

/*
 * Closed is closed, whoever tries: accounts are not deleted, and do not open
 * again.  An AFTER trigger, and only on this column: what every charge rewrites
 * must not go through it.
 */
CREATE TRIGGER no_delete BEFORE DELETE ON tokenbill.account
FOR EACH ROW EXECUTE FUNCTION tokenbill.forward_only();
CREATE TRIGGER forward_only AFTER UPDATE OF status ON tokenbill.account
FOR EACH ROW EXECUTE FUNCTION tokenbill.forward_only('active>frozen', 'frozen>active', 'active>closed', 'frozen>closed');
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON tokenbill.account
FOR EACH STATEMENT EXECUTE FUNCTION tokenbill.forward_only();

SELECT pg_catalog.pg_extension_config_dump('tokenbill.account', '');

/* it costs so much that the planner looks for the account first, by its key */
CREATE FUNCTION tokenbill.may_change(account tokenbill.account)
RETURNS boolean
LANGUAGE c VOLATILE COST 10000 AS 'MODULE_PATHNAME', 'tokenbill_may_change';
COMMENT ON FUNCTION tokenbill.may_change(tokenbill.account) IS
'Internal: the condition of the statement by which charge() changes an account''s row; refused (55000) anywhere else';

CREATE FUNCTION tokenbill.create_account(account text, currency text DEFAULT 'USD', credit_limit numeric DEFAULT 0,
	sandbox boolean DEFAULT false, metadata jsonb DEFAULT '{}')
RETURNS tokenbill.account
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	made tokenbill.account;
BEGIN
	PERFORM tokenbill.check_text('account', create_account.account, 128);
	PERFORM tokenbill.check_currency(create_account.currency);
	PERFORM tokenbill.check_metadata('metadata', create_account.metadata);
	IF create_account.account = '*' THEN
		PERFORM tokenbill.refuse('22023', 'account "*" is reserved', '{"argument": "account"}',
			'"*" stands for the list price in tokenbill.price; choose another name.');
	END IF;
	IF create_account.credit_limit IS NULL OR create_account.credit_limit <> 0 THEN
		PERFORM tokenbill.check_amount('credit_limit', create_account.credit_limit);
	END IF;
	IF create_account.sandbox IS NULL THEN
		PERFORM tokenbill.refuse('22004', 'sandbox must not be null', '{"argument": "sandbox"}', 'Pass true or false.');
	END IF;
	/* or it would learn which names are taken */
	IF NOT tokenbill.visible(create_account.account) THEN
		PERFORM tokenbill.refuse('42501', 'a tenant has its account, and makes no others', '{"argument": "account"}',
			'Use a login that is not mapped to an account.');
	END IF;
	INSERT INTO tokenbill.account AS a (account, currency, credit_limit, sandbox, metadata, updated_at, created_at)
	VALUES (create_account.account, create_account.currency, create_account.credit_limit, create_account.sandbox,
			coalesce(create_account.metadata, '{}'), tokenbill.clock(), tokenbill.clock())
	ON CONFLICT (account) DO NOTHING
	RETURNING * INTO made;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT409', format('account "%s" exists already', create_account.account),
			jsonb_build_object('account', create_account.account), 'Use the account as it is, or choose another name.');
	END IF;
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.create_account(text, text, numeric, boolean, jsonb) IS
'Creates an account and returns its row; credit_limit is how far below zero its balance may go. Errors: PT409 exists, 42501 a tenant asks, 22xxx bad argument';

CREATE FUNCTION tokenbill.refuse_account(account text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.refuse('PT404', format('account "%s" does not exist', account),
		jsonb_build_object('account', account), 'Create it with tokenbill.create_account().');
END
$function$;
COMMENT ON FUNCTION tokenbill.refuse_account(text) IS 'Internal: raises that the account does not exist (PT404)';

CREATE FUNCTION tokenbill.set_account_status(account text, status text) RETURNS tokenbill.account
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	found_row tokenbill.account;
BEGIN
	PERFORM tokenbill.check_text('account', set_account_status.account, 128);
	PERFORM tokenbill.check_text('status', set_account_status.status, 16);
	IF set_account_status.status NOT IN ('active', 'frozen', 'closed') THEN
		PERFORM tokenbill.refuse('22023', 'status must be active, frozen or closed', '{"argument": "status"}',
			'A frozen account can be credited, not charged; a closed one neither.');
	END IF;
	SELECT a.* INTO found_row FROM tokenbill.account a WHERE a.account = set_account_status.account AND tokenbill.visible(a.account) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_account(set_account_status.account);
	END IF;
	IF found_row.status = 'closed' AND set_account_status.status <> 'closed' THEN
		PERFORM tokenbill.refuse('PT409', format('account "%s" is closed', found_row.account),
			jsonb_build_object('account', found_row.account, 'was', 'closed', 'now', set_account_status.status),
			'Closing is final; create a new account.');
	END IF;
	IF set_account_status.status = 'closed' AND found_row.held > 0 THEN
		PERFORM tokenbill.refuse('PT409', format('account "%s" has open holds', found_row.account),
			jsonb_build_object('account', found_row.account, 'held', found_row.held),
			'Capture or release its holds first; tokenbill.holds shows them.');
	END IF;
	UPDATE tokenbill.account a SET status = set_account_status.status
	WHERE a.account = set_account_status.account
	RETURNING a.* INTO found_row;
	/* a closed account has no alerts */
	IF EXISTS (SELECT FROM tokenbill.account_low_balance l WHERE l.account = set_account_status.account) THEN
		PERFORM tokenbill.wake_worker();
	END IF;
	RETURN found_row;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_account_status(text, text) IS
'Sets an account active, frozen (credited, not charged) or closed (final) and returns its row. Errors: PT404, PT409 closed already or holds open, 22023';

CREATE FUNCTION tokenbill.set_credit_limit(account text, credit_limit numeric) RETURNS tokenbill.account
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	found_row tokenbill.account;
	in_credits numeric;
	usable numeric;
BEGIN
	PERFORM tokenbill.check_text('account', set_credit_limit.account, 128);
	IF set_credit_limit.credit_limit IS NULL OR set_credit_limit.credit_limit <> 0 THEN
		PERFORM tokenbill.check_amount('credit_limit', set_credit_limit.credit_limit);
	END IF;
	SELECT a.* INTO found_row FROM tokenbill.account a WHERE a.account = set_credit_limit.account AND tokenbill.visible(a.account) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_account(set_credit_limit.account);
	END IF;
	/* lowering the limit must not do what a charge may not: leave available below zero, now or when the credits are gone */
	IF found_row.credits > 0 THEN
		SELECT sum(c.remaining - c.reserved) INTO in_credits FROM tokenbill.credit c
		WHERE c.account = set_credit_limit.account AND c.status = 'open';
	END IF;
	usable := found_row.balance - found_row.held - coalesce(in_credits, 0);
	IF set_credit_limit.credit_limit < found_row.credit_limit AND usable + set_credit_limit.credit_limit < 0 THEN
		PERFORM tokenbill.refuse('PT402', format('account "%s" uses more credit than that', found_row.account),
			jsonb_build_object('account', found_row.account, 'required', - usable,
				'available', set_credit_limit.credit_limit, 'shortfall', - usable - set_credit_limit.credit_limit),
			'Recharge the account or release its holds first.');
	END IF;
	UPDATE tokenbill.account a SET credit_limit = set_credit_limit.credit_limit
	WHERE a.account = set_credit_limit.account
	RETURNING a.* INTO found_row;
	RETURN found_row;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_credit_limit(text, numeric) IS
'Sets how far below zero the balance may go and returns the account. Errors: PT402 more is in use, PT404, 22xxx';

CREATE FUNCTION tokenbill.set_account_policy(account text, overflow text DEFAULT NULL, tokens_only boolean DEFAULT NULL)
RETURNS tokenbill.account
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	found_row tokenbill.account;
BEGIN
	PERFORM tokenbill.check_text('account', set_account_policy.account, 128);
	IF set_account_policy.overflow NOT IN ('refuse', 'debt') THEN
		PERFORM tokenbill.refuse('22023', 'overflow must be refuse or debt', '{"argument": "overflow"}',
			'refuse: a capture of more than was held is refused; debt: it is taken.');
	END IF;
	UPDATE tokenbill.account a
	SET overflow = coalesce(set_account_policy.overflow, a.overflow),
		tokens_only = coalesce(set_account_policy.tokens_only, a.tokens_only)
	WHERE a.account = set_account_policy.account AND tokenbill.visible(a.account)
	RETURNING a.* INTO found_row;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_account(set_account_policy.account);
	END IF;
	RETURN found_row;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_account_policy(text, text, boolean) IS
'Sets what a capture of more than was held does (refuse or debt) and whether charges need issued tokens; null leaves a setting as it is. Errors: PT404, 22023';
