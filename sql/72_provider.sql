/*
 * Providers: the upstream accounts that the calls are bought from, and what
 * each of them still holds.
 *
 * Balances come as reports, of somebody or of a check (sql/76_check.sql).  A
 * report that failed changes no balance: the last
 * good one stays, with its time and with the reason why there is no newer one.
 * What was never told is null and not zero.
 *
 * Reports may come late and in any order.  provider_balance is what follows from
 * the newest good one and the failed ones after it; each report is kept in
 * provider_balance_history for as long as the provider's keep_history says.
 */
CREATE TABLE tokenbill.provider (
	provider text COLLATE "C" NOT NULL PRIMARY KEY,
	preset text COLLATE "C" NOT NULL,
	currency text NOT NULL,
	check_every interval NOT NULL,
	low_balance numeric,
	enabled boolean NOT NULL DEFAULT true,
	keep_history interval NOT NULL,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	base_url text,
	secret text COLLATE "C",
	params jsonb NOT NULL DEFAULT '{}',
	opening_balance numeric,
	opening_at timestamptz,
	calls_per_minute integer NOT NULL DEFAULT 60,
	CHECK ((opening_balance IS NULL) = (opening_at IS NULL)),
	CHECK (check_every OPERATOR(pg_catalog.>=) '1 second' AND check_every OPERATOR(pg_catalog.<=) '366 days'),
	CHECK (keep_history OPERATOR(pg_catalog.>=) '1 day' AND keep_history OPERATOR(pg_catalog.<=) '3660 days'),
	CHECK (calls_per_minute OPERATOR(pg_catalog.>=) 1)
);
COMMENT ON TABLE tokenbill.provider IS 'Upstream accounts whose balances are watched, and how';
COMMENT ON COLUMN tokenbill.provider.provider IS 'Name, chosen by whoever added it';
COMMENT ON COLUMN tokenbill.provider.preset IS 'Where its balance comes from; manual: somebody else reports it';
COMMENT ON COLUMN tokenbill.provider.currency IS 'Currency of reports that name none';
COMMENT ON COLUMN tokenbill.provider.check_every IS 'How often it is asked, or a report is expected; three times that without one is stale';
COMMENT ON COLUMN tokenbill.provider.low_balance IS 'A balance at or below it is low, in each currency; null: none is';
COMMENT ON COLUMN tokenbill.provider.enabled IS 'Whether it is watched: no status, no staleness and no gauges if not';
COMMENT ON COLUMN tokenbill.provider.keep_history IS 'How long its reports are kept';
COMMENT ON COLUMN tokenbill.provider.created_at IS 'When it was added';
COMMENT ON COLUMN tokenbill.provider.updated_at IS 'When its settings last changed';
COMMENT ON COLUMN tokenbill.provider.base_url IS 'Where it is, in place of the preset''s; null: where the preset says';
COMMENT ON COLUMN tokenbill.provider.secret IS 'Name of the secret it is asked with; null: it needs none';
COMMENT ON COLUMN tokenbill.provider.params IS 'What the preset''s requests have in places of their own, such as the name of a team';
COMMENT ON COLUMN tokenbill.provider.opening_balance IS 'What it held at opening_at, if its balance is that less what has been used since';
COMMENT ON COLUMN tokenbill.provider.opening_at IS 'From when on what was used is subtracted';
COMMENT ON COLUMN tokenbill.provider.calls_per_minute IS 'At most so many requests in a minute, of all its checks and retries';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.provider', '');

CREATE TABLE tokenbill.provider_balance (
	provider text COLLATE "C" NOT NULL,
	currency text COLLATE "C" NOT NULL,
	balance numeric,
	checked_at timestamptz,
	error text,
	error_since timestamptz,
	error_at timestamptz,
	failures integer NOT NULL DEFAULT 0,
	updated_at timestamptz NOT NULL,
	PRIMARY KEY (provider, currency),
	CHECK (balance IS NULL OR checked_at IS NOT NULL),
	CHECK ((error IS NULL) = (failures = 0))
) WITH (fillfactor = 50);
COMMENT ON TABLE tokenbill.provider_balance IS 'What a provider holds in a currency: the newest good report, and the failed ones after it';
COMMENT ON COLUMN tokenbill.provider_balance.provider IS 'Name of the provider';
COMMENT ON COLUMN tokenbill.provider_balance.currency IS 'Currency of the balance';
COMMENT ON COLUMN tokenbill.provider_balance.balance IS 'The newest good balance; null: there was none, or, with checked_at, there is no limit';
COMMENT ON COLUMN tokenbill.provider_balance.checked_at IS 'What moment it is from; null: there was none';
COMMENT ON COLUMN tokenbill.provider_balance.error IS 'Why the newest report has no balance; null: it has one';
COMMENT ON COLUMN tokenbill.provider_balance.error_since IS 'First failed report after the newest good one';
COMMENT ON COLUMN tokenbill.provider_balance.error_at IS 'Newest failed report';
COMMENT ON COLUMN tokenbill.provider_balance.failures IS 'Failed reports since the newest good one';
COMMENT ON COLUMN tokenbill.provider_balance.updated_at IS 'When the last report came in';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.provider_balance', '');

/*
 * burned and burn_seconds add up, from the oldest report on: by how much the
 * balance fell, and the time between those reports of which the later one was
 * not higher.  (Where it is higher somebody has topped up, and what was used
 * meanwhile is unknown.)  So the rate of any stretch is told by its two ends.
 */
CREATE TABLE tokenbill.provider_balance_history (
	provider text COLLATE "C" NOT NULL,
	currency text COLLATE "C" NOT NULL,
	checked_at timestamptz NOT NULL,
	balance numeric,
	error text,
	burned numeric,
	burn_seconds numeric,
	created_at timestamptz NOT NULL,
	PRIMARY KEY (provider, currency, checked_at),
	CHECK (balance IS NULL OR error IS NULL),
	CHECK ((balance IS NULL) = (burned IS NULL) AND (burned IS NULL) = (burn_seconds IS NULL))
);
COMMENT ON TABLE tokenbill.provider_balance_history IS 'Every report of a provider''s balance, good and failed, for as long as keep_history says';
COMMENT ON COLUMN tokenbill.provider_balance_history.provider IS 'Name of the provider';
COMMENT ON COLUMN tokenbill.provider_balance_history.currency IS 'Currency of the balance';
COMMENT ON COLUMN tokenbill.provider_balance_history.checked_at IS 'What moment the report is from';
COMMENT ON COLUMN tokenbill.provider_balance_history.balance IS 'The balance then; null: the report failed, or, without error, there was no limit';
COMMENT ON COLUMN tokenbill.provider_balance_history.error IS 'Why it failed; null: it did not';
COMMENT ON COLUMN tokenbill.provider_balance_history.burned IS 'Sum of all falls of the balance so far';
COMMENT ON COLUMN tokenbill.provider_balance_history.burn_seconds IS 'Seconds so far in which it did not rise';
COMMENT ON COLUMN tokenbill.provider_balance_history.created_at IS 'When the report came in';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.provider_balance_history', '');

CREATE FUNCTION tokenbill.check_provider(provider text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.check_text('provider', check_provider.provider, 128);
	/* providers belong to no account, so to no tenant */
	IF NOT tokenbill.visible('') THEN
		PERFORM tokenbill.refuse('42501', 'a tenant has nothing to do with providers', '{"argument": "provider"}',
			'Use a login that is not mapped to an account.');
	END IF;
	RETURN check_provider.provider;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_provider(text) IS 'Internal: returns the name, or raises that it is none (22004, 22023), or that a tenant asks (42501)';

CREATE FUNCTION tokenbill.refuse_provider(provider text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.refuse('PT404', format('provider "%s" does not exist', refuse_provider.provider),
		jsonb_build_object('provider', refuse_provider.provider), 'Add it with tokenbill.add_provider().');
END
$function$;
COMMENT ON FUNCTION tokenbill.refuse_provider(text) IS 'Internal: raises that the provider does not exist (PT404)';

/* also for balances, of which there are negative ones: an overdrawn or postpaid account */
CREATE FUNCTION tokenbill.check_signed(argument text, value numeric) RETURNS numeric
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF check_signed.value IS NULL OR check_signed.value <> 0 THEN
		PERFORM tokenbill.check_amount(check_signed.argument, abs(check_signed.value));
	END IF;
	RETURN check_signed.value;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_signed(text, numeric) IS
'Internal: returns value, which may be zero or negative, or raises 22004 (null), 22003 (NaN, infinite, 10^18 or more either way, more than 30 decimals)';

CREATE FUNCTION tokenbill.check_span(argument text, value interval, shortest interval, longest interval) RETURNS interval
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF check_span.value IS NULL THEN
		PERFORM tokenbill.refuse('22004', format('%s must not be null', check_span.argument),
			jsonb_build_object('argument', check_span.argument), 'Pass an interval.');
	END IF;
	IF check_span.value < check_span.shortest OR check_span.value > check_span.longest THEN
		PERFORM tokenbill.refuse('22023', format('%s must be between %s and %s', check_span.argument, check_span.shortest, check_span.longest),
			jsonb_build_object('argument', check_span.argument), 'Pass an interval in these bounds.');
	END IF;
	RETURN check_span.value;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_span(text, interval, interval, interval) IS 'Internal: returns value, or raises 22004 (null), 22023 (shorter or longer than allowed)';

/*
 * Does what is said of a provider fit together with its preset?  Both functions
 * that change one ask here, with the row as it will be.
 */
CREATE FUNCTION tokenbill.check_provider_fits(watched tokenbill.provider) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	kind tokenbill.provider_presets;
	name text := watched.preset;
	unused text;
	missing text;
BEGIN
	SELECT p.* INTO kind FROM tokenbill.provider_presets p WHERE p.preset = watched.preset;
	unused := CASE
		WHEN watched.base_url IS NOT NULL AND kind.source IN ('manual', 'ledger') THEN 'base_url'
		WHEN watched.secret IS NOT NULL AND NOT kind.needs_secret THEN 'secret'
		WHEN watched.opening_balance IS NOT NULL AND kind.source NOT IN ('derived', 'ledger') THEN 'opening_balance' END;
	IF unused IS NOT NULL THEN
		PERFORM tokenbill.refuse('22023', format('a provider of preset %s has no %s', name, unused), jsonb_build_object('argument', unused),
			CASE WHEN kind.source = 'manual' THEN 'Leave it out: whoever reports the balance knows where to ask, and with which secret.'
				ELSE 'Leave it out.' END);
	END IF;
	IF kind.source IN ('asked', 'derived') AND kind.requests = '[]' THEN
		PERFORM tokenbill.refuse('22023', format('preset %s has no request', name), '{"argument": "preset"}',
			'Add one with tokenbill.add_preset_request() first.');
	END IF;
	missing := CASE
		WHEN kind.source IN ('asked', 'derived') AND coalesce(watched.base_url, kind.base_url) IS NULL THEN 'base_url'
		/* what stands at a base_url of one's own may have the key itself */
		WHEN watched.secret IS NULL AND kind.needs_secret AND watched.base_url IS NULL THEN 'secret'
		WHEN watched.opening_balance IS NULL AND kind.source IN ('derived', 'ledger') THEN 'opening_balance' END;
	IF missing IS NOT NULL THEN
		PERFORM tokenbill.refuse('22023', format('a provider of preset %s needs %s', name, missing), jsonb_build_object('argument', missing),
			CASE missing WHEN 'base_url' THEN 'Pass where it is, such as https://gateway.example.com.'
				WHEN 'secret' THEN 'Pass the key as secret, or the name of a stored one as secret_name.'
				ELSE 'Pass what it held at opening_at.' END);
	END IF;
	IF kind.source = 'derived' AND watched.opening_at <> date_trunc('day', watched.opening_at, 'UTC') THEN
		PERFORM tokenbill.refuse('22023', 'opening_at must be the beginning of a day, UTC', '{"argument": "opening_at"}',
			'Vendors tell costs by days: pass what was left when the day began.');
	END IF;

	IF jsonb_typeof(watched.params) <> 'object' THEN
		PERFORM tokenbill.refuse('22023', 'params must be a JSON object', '{"argument": "params"}', 'Write {"name": "value"}.');
	END IF;
	IF kind.source = 'ledger' THEN
		IF jsonb_typeof(watched.params -> 'services') IS DISTINCT FROM 'array' OR (watched.params -> 'services') = '[]'
		   OR EXISTS (SELECT FROM jsonb_array_elements(watched.params -> 'services') e WHERE jsonb_typeof(e) <> 'string') THEN
			PERFORM tokenbill.refuse('22023', 'params must name the services', '{"argument": "params", "param": "services"}',
				'Write {"services": ["gpt-5", "o*"]}: those whose cost is paid from this account; a * at the end stands for anything.');
		END IF;
	END IF;
	SELECT k.name INTO missing FROM unnest(kind.parameters) k (name) WHERE NOT watched.params ? k.name LIMIT 1;
	IF FOUND THEN
		PERFORM tokenbill.refuse('22023', format('params must have %s', missing), jsonb_build_object('argument', 'params', 'param', missing),
			format('A provider of preset %s needs it: {"%s": "..."}.', name, missing));
	END IF;
	SELECT m.key INTO unused FROM jsonb_each(watched.params) m
	WHERE NOT m.key = ANY (kind.parameters) OR (kind.source <> 'ledger' AND (jsonb_typeof(m.value) NOT IN ('string', 'number')
		OR length(m.value #>> '{}') NOT BETWEEN 1 AND 255 OR m.value #>> '{}' ~ '[\u0001-\u001f\u007f{}]')) LIMIT 1;
	IF FOUND THEN
		PERFORM tokenbill.refuse('22023', 'params must have what the preset needs, as short texts, and nothing else',
			jsonb_build_object('argument', 'params', 'known', kind.parameters), 'The view tokenbill.provider_presets has the parameters of a preset.');
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_provider_fits(tokenbill.provider) IS 'Internal: raises what does not fit between a provider and its preset (22023, PT404)';

/* The checks of single arguments that add_provider() and set_provider() share; null is left alone. */
CREATE FUNCTION tokenbill.check_provider_arguments(check_every interval, keep_history interval, low_balance numeric, currency text,
	secret text, secret_name text, opening_balance numeric, opening_at timestamptz, calls_per_minute integer) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF check_provider_arguments.check_every IS NOT NULL THEN
		PERFORM tokenbill.check_span('check_every', check_provider_arguments.check_every, '1 second', '366 days');
	END IF;
	IF check_provider_arguments.keep_history IS NOT NULL THEN
		PERFORM tokenbill.check_span('keep_history', check_provider_arguments.keep_history, '1 day', '3660 days');
	END IF;
	IF check_provider_arguments.low_balance IS NOT NULL THEN
		PERFORM tokenbill.check_signed('low_balance', check_provider_arguments.low_balance);
	END IF;
	IF check_provider_arguments.currency IS NOT NULL THEN
		PERFORM tokenbill.check_currency(check_provider_arguments.currency);
	END IF;
	IF check_provider_arguments.secret_name IS NOT NULL THEN
		PERFORM tokenbill.check_text('secret_name', check_provider_arguments.secret_name, 255);
		IF check_provider_arguments.secret IS NOT NULL THEN
			PERFORM tokenbill.refuse('22023', 'secret and secret_name exclude each other', '{"argument": "secret_name"}',
				'Pass the key itself as secret, or the name under which set_secret() stored it as secret_name.');
		END IF;
		/* an access token may be on its way */
		IF NOT EXISTS (SELECT FROM tokenbill.secret s WHERE s.name = check_provider_arguments.secret_name)
		   AND NOT EXISTS (SELECT FROM tokenbill.oauth_client c WHERE tokenbill.token_secret(c.provider) = check_provider_arguments.secret_name) THEN
			PERFORM tokenbill.refuse('PT404', format('secret "%s" does not exist', check_provider_arguments.secret_name),
				jsonb_build_object('argument', 'secret_name', 'secret', check_provider_arguments.secret_name), 'Store it with tokenbill.set_secret() first.');
		END IF;
	END IF;
	IF check_provider_arguments.opening_balance IS NOT NULL THEN
		PERFORM tokenbill.check_signed('opening_balance', check_provider_arguments.opening_balance);
	END IF;
	IF check_provider_arguments.opening_at IS NOT NULL THEN
		PERFORM tokenbill.check_time('opening_at', check_provider_arguments.opening_at);
		IF check_provider_arguments.opening_at > tokenbill.clock() THEN
			PERFORM tokenbill.refuse('22008', 'opening_at is in the future', '{"argument": "opening_at"}', 'Pass when the opening balance was there.');
		END IF;
	END IF;
	IF check_provider_arguments.calls_per_minute NOT BETWEEN 1 AND 60000 THEN
		PERFORM tokenbill.refuse('22023', 'calls_per_minute must be between 1 and 60000', '{"argument": "calls_per_minute"}', 'Pass a number of requests.');
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_provider_arguments(interval, interval, numeric, text, text, text, numeric, timestamptz, integer) IS
'Internal: raises what is wrong with an argument of add_provider() or set_provider() by itself (22003, 22008, 22023, PT404)';

CREATE FUNCTION tokenbill.add_provider(provider text, preset text, base_url text DEFAULT NULL, secret text DEFAULT NULL,
	check_every interval DEFAULT '5 minutes', low_balance numeric DEFAULT NULL, currency text DEFAULT NULL,
	keep_history interval DEFAULT '90 days', secret_name text DEFAULT NULL, params jsonb DEFAULT '{}',
	opening_balance numeric DEFAULT NULL, opening_at timestamptz DEFAULT NULL, calls_per_minute integer DEFAULT 60)
RETURNS tokenbill.provider
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	kind tokenbill.provider_preset;
	made tokenbill.provider;
	missing text := CASE WHEN add_provider.check_every IS NULL THEN 'check_every' WHEN add_provider.keep_history IS NULL THEN 'keep_history'
		WHEN add_provider.params IS NULL THEN 'params' WHEN add_provider.calls_per_minute IS NULL THEN 'calls_per_minute' END;
BEGIN
	IF add_provider.secret IS NOT NULL THEN
		PERFORM tokenbill.hide_statement();
	END IF;
	PERFORM tokenbill.check_provider(add_provider.provider);
	PERFORM tokenbill.check_text('preset', add_provider.preset, 64);
	kind := tokenbill.find_preset(add_provider.preset);
	IF missing IS NOT NULL THEN
		PERFORM tokenbill.refuse('22004', format('%s must not be null', missing), jsonb_build_object('argument', missing), 'Leave it out for its default.');
	END IF;
	PERFORM tokenbill.check_provider_arguments(add_provider.check_every, add_provider.keep_history, add_provider.low_balance, add_provider.currency,
		add_provider.secret, add_provider.secret_name, add_provider.opening_balance, add_provider.opening_at, add_provider.calls_per_minute);
	made := ROW(add_provider.provider, add_provider.preset, coalesce(add_provider.currency, kind.currency), add_provider.check_every,
		add_provider.low_balance, true, add_provider.keep_history, tokenbill.clock(), tokenbill.clock(),
		CASE WHEN add_provider.base_url IS NOT NULL THEN tokenbill.check_base_url(add_provider.base_url) END,
		CASE WHEN add_provider.secret IS NOT NULL THEN 'provider:' || add_provider.provider ELSE add_provider.secret_name END,
		add_provider.params, add_provider.opening_balance,
		CASE WHEN add_provider.opening_balance IS NOT NULL THEN coalesce(add_provider.opening_at,
			CASE kind.source WHEN 'ledger' THEN tokenbill.clock() ELSE date_trunc('day', tokenbill.clock(), 'UTC') END) END,
		add_provider.calls_per_minute);
	IF add_provider.opening_at IS NOT NULL AND add_provider.opening_balance IS NULL THEN
		PERFORM tokenbill.refuse('22023', 'opening_at needs an opening_balance', '{"argument": "opening_at"}', 'Pass what it held then.');
	END IF;
	PERFORM tokenbill.check_provider_fits(made);
	INSERT INTO tokenbill.provider AS p SELECT made.*
	ON CONFLICT (provider) DO NOTHING;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT409', format('provider "%s" exists already', add_provider.provider),
			jsonb_build_object('provider', add_provider.provider), 'Change it with tokenbill.set_provider(), or choose another name.');
	END IF;
	IF add_provider.secret IS NOT NULL THEN
		PERFORM tokenbill.set_secret(made.secret, add_provider.secret);
	END IF;
	PERFORM tokenbill.schedule_check(made);
	PERFORM tokenbill.wake_worker();
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.add_provider(text, text, text, text, interval, numeric, text, interval, text, jsonb, numeric, timestamptz, integer) IS
'Adds an upstream account whose balance is watched, and returns its row; the worker asks it from now on, unless its preset is manual. Errors: PT404 preset, PT409 exists, 22xxx';

CREATE FUNCTION tokenbill.set_provider(provider text, check_every interval DEFAULT NULL, low_balance numeric DEFAULT NULL,
	enabled boolean DEFAULT NULL, currency text DEFAULT NULL, keep_history interval DEFAULT NULL, never_low boolean DEFAULT false,
	base_url text DEFAULT NULL, secret_name text DEFAULT NULL, params jsonb DEFAULT NULL,
	opening_balance numeric DEFAULT NULL, opening_at timestamptz DEFAULT NULL, calls_per_minute integer DEFAULT NULL)
RETURNS tokenbill.provider
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	was tokenbill.provider;
	changed tokenbill.provider;
	url text;
BEGIN
	PERFORM tokenbill.check_provider(set_provider.provider);
	PERFORM tokenbill.check_provider_arguments(set_provider.check_every, set_provider.keep_history, set_provider.low_balance, set_provider.currency,
		NULL, set_provider.secret_name, set_provider.opening_balance, set_provider.opening_at, set_provider.calls_per_minute);
	IF set_provider.base_url IS NOT NULL THEN
		url := tokenbill.check_base_url(set_provider.base_url);
	END IF;
	IF set_provider.never_low IS NULL THEN
		PERFORM tokenbill.refuse('22004', 'never_low must not be null', '{"argument": "never_low"}', 'Pass true or false.');
	END IF;
	IF set_provider.never_low AND set_provider.low_balance IS NOT NULL THEN
		PERFORM tokenbill.refuse('22023', 'never_low and low_balance exclude each other', '{"argument": "never_low"}',
			'Pass low_balance to set what is low, or never_low => true to say that nothing is.');
	END IF;
	SELECT p.* INTO was FROM tokenbill.provider p WHERE p.provider = set_provider.provider FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_provider(set_provider.provider);
	END IF;
	IF (set_provider.opening_balance IS NULL) <> (set_provider.opening_at IS NULL) THEN
		PERFORM tokenbill.refuse('22023', 'opening_balance and opening_at go together',
			jsonb_build_object('argument', CASE WHEN set_provider.opening_balance IS NULL THEN 'opening_balance' ELSE 'opening_at' END),
			'Pass what it held, and when.');
	END IF;
	UPDATE tokenbill.provider p
	SET check_every = coalesce(set_provider.check_every, p.check_every),
		low_balance = CASE WHEN NOT set_provider.never_low THEN coalesce(set_provider.low_balance, p.low_balance) END,
		enabled = coalesce(set_provider.enabled, p.enabled),
		currency = coalesce(set_provider.currency, p.currency),
		keep_history = coalesce(set_provider.keep_history, p.keep_history),
		base_url = coalesce(url, p.base_url),
		secret = coalesce(set_provider.secret_name, p.secret),
		params = coalesce(set_provider.params, p.params),
		opening_balance = coalesce(set_provider.opening_balance, p.opening_balance),
		opening_at = coalesce(set_provider.opening_at, p.opening_at),
		calls_per_minute = coalesce(set_provider.calls_per_minute, p.calls_per_minute),
		updated_at = tokenbill.clock()
	WHERE p.provider = set_provider.provider
	RETURNING p.* INTO changed;
	PERFORM tokenbill.check_provider_fits(changed);
	PERFORM tokenbill.drop_secret(s.name) FROM tokenbill.secret s
	WHERE s.name = was.secret AND s.name = 'provider:' || was.provider AND changed.secret <> was.secret;
	IF (changed.check_every, changed.enabled, changed.currency, changed.base_url, changed.secret, changed.params, changed.opening_balance, changed.opening_at)
		IS DISTINCT FROM (was.check_every, was.enabled, was.currency, was.base_url, was.secret, was.params, was.opening_balance, was.opening_at) THEN
		PERFORM tokenbill.schedule_check(changed);
	END IF;
	PERFORM tokenbill.wake_worker();
	RETURN changed;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_provider(text, interval, numeric, boolean, text, interval, boolean, text, text, jsonb, numeric, timestamptz, integer) IS
'Changes how a provider is watched and returns its row; null leaves a setting as it is, never_low takes low_balance away; a new key goes to set_secret(). Errors: PT404, 22xxx';

CREATE FUNCTION tokenbill.drop_provider(provider text) RETURNS tokenbill.provider
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	gone tokenbill.provider;
BEGIN
	PERFORM tokenbill.check_provider(drop_provider.provider);
	/* an older snapshot does not see what was reported since, and would leave it behind */
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		PERFORM tokenbill.refuse('25001', 'a provider must be dropped in a READ COMMITTED transaction',
			jsonb_build_object('isolation', current_setting('transaction_isolation')), 'Begin another transaction.');
	END IF;
	/* first its own row: a report locks that, so none comes in between */
	DELETE FROM tokenbill.provider p WHERE p.provider = drop_provider.provider RETURNING p.* INTO gone;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_provider(drop_provider.provider);
	END IF;
	DELETE FROM tokenbill.provider_balance b WHERE b.provider = drop_provider.provider;
	DELETE FROM tokenbill.provider_balance_history h WHERE h.provider = drop_provider.provider;
	DELETE FROM tokenbill.provider_check c WHERE c.provider = drop_provider.provider;
	PERFORM tokenbill.drop_secret(s.name) FROM tokenbill.secret s WHERE s.name = gone.secret AND s.name = 'provider:' || gone.provider;
	PERFORM tokenbill.wake_worker();
	RETURN gone;
END
$function$;
COMMENT ON FUNCTION tokenbill.drop_provider(text) IS 'Drops a provider with its balances, their history and its own secret, and returns the row it had. Errors: PT404, 25001 the transaction is not READ COMMITTED, 22xxx';

/* A wallet that was closed would stay stale for ever: nobody but its owner knows that it was. */
CREATE FUNCTION tokenbill.drop_provider_balance(provider text, currency text) RETURNS tokenbill.provider_balance
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	gone tokenbill.provider_balance;
BEGIN
	PERFORM tokenbill.check_provider(drop_provider_balance.provider);
	PERFORM tokenbill.check_currency(drop_provider_balance.currency);
	/* as in drop_provider() */
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		PERFORM tokenbill.refuse('25001', 'a balance must be dropped in a READ COMMITTED transaction',
			jsonb_build_object('isolation', current_setting('transaction_isolation')), 'Begin another transaction.');
	END IF;
	PERFORM FROM tokenbill.provider p WHERE p.provider = drop_provider_balance.provider FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_provider(drop_provider_balance.provider);
	END IF;
	DELETE FROM tokenbill.provider_balance b
	WHERE b.provider = drop_provider_balance.provider AND b.currency = drop_provider_balance.currency
	RETURNING b.* INTO gone;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT404', format('provider "%s" has told no balance in %s', drop_provider_balance.provider, drop_provider_balance.currency),
			jsonb_build_object('provider', drop_provider_balance.provider, 'currency', drop_provider_balance.currency),
			'The view tokenbill.provider_balances has them all.');
	END IF;
	DELETE FROM tokenbill.provider_balance_history h WHERE h.provider = gone.provider AND h.currency = gone.currency;
	PERFORM tokenbill.wake_worker();
	RETURN gone;
END
$function$;
COMMENT ON FUNCTION tokenbill.drop_provider_balance(text, text) IS
'Forgets what a provider held in a currency, with its history, and returns the row it had: for a wallet that is no more. If the provider tells it again it is back. Errors: PT404, 25001 the transaction is not READ COMMITTED, 22xxx';

/*
 * One report of one currency.  The caller has locked the provider's row, so
 * that reports of it go one after the other.  Neither a balance nor an error
 * says that there is no limit.
 */
CREATE FUNCTION tokenbill.put_provider_balance(watched tokenbill.provider, currency text, balance numeric, checked_at timestamptz, error text)
RETURNS tokenbill.provider_balance
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	told tokenbill.provider_balance_history;
	before tokenbill.provider_balance_history;
	after tokenbill.provider_balance_history;
	state tokenbill.provider_balance;
	now timestamptz := tokenbill.clock();
BEGIN
	/* written each time: with a snapshot from before another report this fails, and none is added up wrongly */
	INSERT INTO tokenbill.provider_balance AS b (provider, currency, updated_at) VALUES (watched.provider, put_provider_balance.currency, now)
	ON CONFLICT (provider, currency) DO UPDATE SET updated_at = EXCLUDED.updated_at
	RETURNING b.* INTO state;

	SELECT h.* INTO told FROM tokenbill.provider_balance_history h
	WHERE h.provider = watched.provider AND h.currency = put_provider_balance.currency AND h.checked_at = put_provider_balance.checked_at;
	IF FOUND THEN
		IF told.balance IS DISTINCT FROM put_provider_balance.balance OR told.error IS DISTINCT FROM put_provider_balance.error THEN
			PERFORM tokenbill.refuse('PT409', format('there is another report of provider "%s" from that moment', watched.provider),
				jsonb_build_object('provider', watched.provider, 'currency', told.currency, 'checked_at', told.checked_at,
					'was', coalesce(to_jsonb(told.balance), to_jsonb(told.error)),
					'now', coalesce(to_jsonb(put_provider_balance.balance), to_jsonb(put_provider_balance.error))),
				'Reports are not changed, only followed by others: use a later checked_at.');
		END IF;
		RETURN state;
	END IF;

	told := ROW(watched.provider, put_provider_balance.currency, put_provider_balance.checked_at, put_provider_balance.balance,
		put_provider_balance.error, NULL, NULL, now);
	IF told.balance IS NOT NULL THEN
		SELECT h.* INTO before FROM tokenbill.provider_balance_history h
		WHERE h.provider = told.provider AND h.currency = told.currency AND h.checked_at < told.checked_at AND h.balance IS NOT NULL
		ORDER BY h.checked_at DESC LIMIT 1;
		told.burned := coalesce(before.burned + greatest(before.balance - told.balance, 0), 0);
		told.burn_seconds := coalesce(before.burn_seconds
			+ CASE WHEN told.balance <= before.balance THEN extract(epoch FROM told.checked_at - before.checked_at) ELSE 0 END, 0);
		/* a late one changes the sums behind it */
		IF told.checked_at < state.checked_at THEN
			SELECT h.* INTO after FROM tokenbill.provider_balance_history h
			WHERE h.provider = told.provider AND h.currency = told.currency AND h.checked_at > told.checked_at AND h.balance IS NOT NULL
			ORDER BY h.checked_at LIMIT 1;
			UPDATE tokenbill.provider_balance_history h
			SET burned = h.burned + told.burned + greatest(told.balance - after.balance, 0) - after.burned,
				burn_seconds = h.burn_seconds + told.burn_seconds - after.burn_seconds
					+ CASE WHEN after.balance <= told.balance THEN extract(epoch FROM after.checked_at - told.checked_at) ELSE 0 END
			WHERE h.provider = told.provider AND h.currency = told.currency AND h.checked_at >= after.checked_at AND h.balance IS NOT NULL;
		END IF;
	END IF;
	INSERT INTO tokenbill.provider_balance_history VALUES (told.*);

	IF told.checked_at <= state.checked_at THEN
		NULL;
	ELSIF told.error IS NULL THEN
		/* failed reports after it there are only if it comes late */
		UPDATE tokenbill.provider_balance b
		SET balance = told.balance, checked_at = told.checked_at,
			(error, error_since, error_at, failures) = (
				SELECT (array_agg(h.error ORDER BY h.checked_at DESC))[1], min(h.checked_at), max(h.checked_at), count(*)
				FROM tokenbill.provider_balance_history h
				WHERE h.provider = told.provider AND h.currency = told.currency AND h.checked_at > told.checked_at AND h.error IS NOT NULL)
		WHERE b.provider = told.provider AND b.currency = told.currency
		RETURNING b.* INTO state;
	ELSE
		UPDATE tokenbill.provider_balance b
		SET error = CASE WHEN b.error_at > told.checked_at THEN b.error ELSE told.error END,
			error_since = least(b.error_since, told.checked_at), error_at = greatest(b.error_at, told.checked_at),
			failures = b.failures + 1
		WHERE b.provider = told.provider AND b.currency = told.currency
		RETURNING b.* INTO state;
	END IF;

	DELETE FROM tokenbill.provider_balance_history h
	WHERE h.provider = told.provider AND h.currency = told.currency AND h.checked_at < now - watched.keep_history;
	/* whoever reports wakes the worker, if that is not the worker itself */
	PERFORM tokenbill.wake_worker('infinity');
	RETURN state;
END
$function$;
COMMENT ON FUNCTION tokenbill.put_provider_balance(tokenbill.provider, text, numeric, timestamptz, text) IS
'Internal: what record_provider_balance() does for one currency';

CREATE FUNCTION tokenbill.record_provider_balance(provider text, balance numeric, currency text DEFAULT NULL,
	checked_at timestamptz DEFAULT NULL, error text DEFAULT NULL)
RETURNS SETOF tokenbill.provider_balance
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	watched tokenbill.provider;
	seen timestamptz := coalesce(record_provider_balance.checked_at, tokenbill.clock());
	reason text := record_provider_balance.error;
	told text;
BEGIN
	PERFORM tokenbill.check_provider(record_provider_balance.provider);
	IF record_provider_balance.currency IS NOT NULL THEN
		PERFORM tokenbill.check_currency(record_provider_balance.currency);
	END IF;
	PERFORM tokenbill.check_time('checked_at', seen);
	/* one from the future would keep all others from being the newest */
	IF seen > tokenbill.clock() + interval '5 minutes' THEN
		PERFORM tokenbill.refuse('22008', 'checked_at is in the future', '{"argument": "checked_at"}',
			'Pass the time at which the provider told its balance, or leave it out.');
	END IF;
	IF reason IS NOT NULL THEN
		/* what programs print has line ends and may be long: a failure is not lost for that, its first words say what it is */
		reason := tokenbill.check_text('error', regexp_replace(left(reason, 2000), '[\u0001-\u0020\u007f]+', ' ', 'g'), 8192);
		reason := left(reason, 250);
	ELSIF record_provider_balance.balance IS NULL THEN
		reason := 'no balance was reported';
	ELSE
		PERFORM tokenbill.check_signed('balance', record_provider_balance.balance);
	END IF;
	SELECT p.* INTO watched FROM tokenbill.provider p WHERE p.provider = record_provider_balance.provider FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_provider(record_provider_balance.provider);
	END IF;
	/* a failure that names no currency is one of all that are known */
	FOR told IN
		SELECT b.currency FROM tokenbill.provider_balance b
		WHERE reason IS NOT NULL AND record_provider_balance.currency IS NULL AND b.provider = watched.provider
		UNION
		SELECT coalesce(record_provider_balance.currency, watched.currency)
		WHERE reason IS NULL OR record_provider_balance.currency IS NOT NULL
			OR NOT EXISTS (SELECT FROM tokenbill.provider_balance b WHERE b.provider = watched.provider)
		ORDER BY 1
	LOOP
		RETURN NEXT tokenbill.put_provider_balance(watched, told,
			CASE WHEN reason IS NULL THEN record_provider_balance.balance END, seen, reason);
	END LOOP;
	PERFORM tokenbill.wake_worker(tokenbill.next_alert_look());
END
$function$;
COMMENT ON FUNCTION tokenbill.record_provider_balance(text, numeric, text, timestamptz, text) IS
'Reports what a provider holds, or, with error or a null balance, that it could not be learned: then the last balance stays and is marked. Returns the state of each currency reported. Errors: PT404 provider, PT409 another report from that moment, 22xxx';

CREATE FUNCTION tokenbill.expire_provider_history(provider text DEFAULT NULL, max integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	gone bigint;
	now timestamptz := tokenbill.clock();
BEGIN
	/* null is all of them: then there is no name to look at, but who asks */
	PERFORM tokenbill.check_provider(coalesce(expire_provider_history.provider, '*'));
	IF expire_provider_history.max IS NULL THEN
		PERFORM tokenbill.refuse('22004', 'max must not be null', '{"argument": "max"}', 'Pass a number of rows.');
	END IF;
	IF expire_provider_history.max < 1 THEN
		PERFORM tokenbill.refuse('22023', 'max must be greater than zero', '{"argument": "max"}', 'Pass a number of rows.');
	END IF;
	IF expire_provider_history.provider IS NOT NULL
	   AND NOT EXISTS (SELECT FROM tokenbill.provider p WHERE p.provider = expire_provider_history.provider) THEN
		PERFORM tokenbill.refuse_provider(expire_provider_history.provider);
	END IF;
	DELETE FROM tokenbill.provider_balance_history h
	USING (
		SELECT o.provider, o.currency, o.checked_at
		FROM tokenbill.provider p
		JOIN tokenbill.provider_balance b ON b.provider = p.provider
		JOIN tokenbill.provider_balance_history o ON o.provider = b.provider AND o.currency = b.currency
			AND o.checked_at < now - p.keep_history
		WHERE p.provider = coalesce(expire_provider_history.provider, p.provider)
		LIMIT expire_provider_history.max
	) old
	WHERE h.provider = old.provider AND h.currency = old.currency AND h.checked_at = old.checked_at;
	GET DIAGNOSTICS gone = ROW_COUNT;
	RETURN gone;
END
$function$;
COMMENT ON FUNCTION tokenbill.expire_provider_history(text, integer) IS
'Deletes reports older than keep_history of one provider or of all, at most max of them, and returns how many; each report does so for its own currency already. Errors: PT404, 22xxx';
