/*
 * Prices are rows, never changed or deleted: a new price is a new valid_from.
 * What a count costs is told by the first row, in this order, that applies:
 *
 *	 the account's own, its price group's, the list's (account '*', no group)
 *	 of the call's service tier, of the standard tier
 *	 of a window of hours, of all hours
 *	 the newest valid_from not after now
 *
 * side: sale is what we charge, cost what the upstream charges us.
 *
 * Sessions cache prices.  The trigger tells every session's cache of a change,
 * also one made by hand or by logical replication (ENABLE ALWAYS), and it is
 * seen by the next statement of each.
 */
CREATE TABLE tokenbill.price (
	service text COLLATE "C" NOT NULL,
	meter text COLLATE "C" NOT NULL,
	account text COLLATE "C" NOT NULL DEFAULT '*',
	price_group text COLLATE "C" NOT NULL DEFAULT '',
	side text COLLATE "C" NOT NULL DEFAULT 'sale' CHECK (side IN ('sale', 'cost')),
	service_tier text COLLATE "C" NOT NULL DEFAULT 'standard',
	hours text COLLATE "C" NOT NULL DEFAULT '',
	valid_from timestamptz NOT NULL,
	unit_price numeric NOT NULL CHECK (unit_price >= 0),
	per numeric NOT NULL DEFAULT 1 CHECK (per > 0),
	mode text NOT NULL DEFAULT 'flat' CHECK (mode IN ('flat', 'graduated', 'volume', 'package', 'cliff')),
	tiers jsonb CHECK ((tiers IS NOT NULL) = (mode IN ('graduated', 'volume', 'cliff'))),
	created_at timestamptz NOT NULL,
	PRIMARY KEY (service, meter, account, price_group, side, service_tier, hours, valid_from),
	CHECK (account = '*' OR price_group = ''),
	CHECK (side = 'sale' OR (account = '*' AND price_group = ''))
);
CREATE INDEX price_account_idx ON tokenbill.price (account) WHERE account <> '*';
COMMENT ON TABLE tokenbill.price IS 'What a unit of a meter of a service costs, from when on; account ''*'' without a group is the list price';
COMMENT ON COLUMN tokenbill.price.created_at IS 'When it was made';
COMMENT ON COLUMN tokenbill.price.service IS 'Name the application charges under, often the model''s; * for services without a price, where tokenbill.unpriced is fallback';
COMMENT ON COLUMN tokenbill.price.meter IS 'What is counted: input_tokens, output_tokens, images, seconds ...; * only for service *';
COMMENT ON COLUMN tokenbill.price.account IS 'Account with a price of its own, or *';
COMMENT ON COLUMN tokenbill.price.price_group IS 'Group of accounts with a price of its own, or empty';
COMMENT ON COLUMN tokenbill.price.side IS 'sale: what we charge; cost: what the upstream charges us';
COMMENT ON COLUMN tokenbill.price.service_tier IS 'standard, batch, flex, priority or another that usage names';
COMMENT ON COLUMN tokenbill.price.hours IS 'HH:MM-HH:MM, UTC, from the first minute to before the last, over midnight too; empty: all day';
COMMENT ON COLUMN tokenbill.price.valid_from IS 'From when on; the newest not after now wins';
COMMENT ON COLUMN tokenbill.price.unit_price IS 'Price of per units, in the currency of the account that is charged';
COMMENT ON COLUMN tokenbill.price.per IS 'How many units unit_price is for, such as 1000000';
COMMENT ON COLUMN tokenbill.price.mode IS 'flat; graduated: each bracket of the count at its price; volume: all of the count at the price of its bracket; cliff: all of it at the price of the bracket of the call''s input tokens; package: every per units that were begun';
COMMENT ON COLUMN tokenbill.price.tiers IS 'The brackets above the first, [{"above": 200000, "unit_price": 6}, ...], rising; unit_price is the first''s';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.price', '');

CREATE TRIGGER forget_prices AFTER INSERT OR UPDATE OR DELETE ON tokenbill.price
FOR EACH ROW EXECUTE FUNCTION tokenbill.forget_prices();
ALTER TABLE tokenbill.price ENABLE ALWAYS TRIGGER forget_prices;

/*
 * A cost is quantity * (unit_price / per), and is never rounded: so the quotient
 * must be a finite decimal, of at most 30 places.
 */
CREATE FUNCTION tokenbill.check_rate(unit_price numeric, per numeric) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF check_rate.unit_price < 0 THEN
		PERFORM tokenbill.refuse('22023', 'unit_price must not be negative', '{"argument": "unit_price"}', 'Pass 0 for what costs nothing.');
	END IF;
	IF check_rate.unit_price IS NULL OR check_rate.unit_price <> 0 THEN
		PERFORM tokenbill.check_amount('unit_price', check_rate.unit_price);
	END IF;
	PERFORM tokenbill.check_amount('per', check_rate.per);
	IF trunc(round(check_rate.unit_price, 40) / check_rate.per, 30) * check_rate.per <> check_rate.unit_price THEN
		PERFORM tokenbill.refuse('22023', format('unit_price / per is not an exact decimal of at most 30 places: %s / %s',
				check_rate.unit_price, check_rate.per),
			jsonb_build_object('argument', 'per', 'unit_price', check_rate.unit_price, 'per', check_rate.per),
			'Use a per made of twos and fives, such as 1000000, or round the price of one unit yourself.');
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_rate(numeric, numeric) IS 'Internal: raises that a price is none, or no exact decimal a unit (22003, 22004, 22023)';

CREATE FUNCTION tokenbill.check_tiers(mode text, tiers jsonb, per numeric) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	tier jsonb;
	above numeric := 0;
BEGIN
	IF check_tiers.mode IS NULL OR check_tiers.mode NOT IN ('flat', 'graduated', 'volume', 'package', 'cliff') THEN
		PERFORM tokenbill.refuse(CASE WHEN check_tiers.mode IS NULL THEN '22004' ELSE '22023' END,
			'mode must be flat, graduated, volume, package or cliff', '{"argument": "mode"}',
			'Only graduated, volume and cliff prices have tiers.');
	END IF;
	IF check_tiers.mode IN ('flat', 'package') THEN
		IF check_tiers.tiers IS NOT NULL THEN
			PERFORM tokenbill.refuse('22023', format('a %s price has no tiers', check_tiers.mode), '{"argument": "tiers"}',
				'Choose mode graduated, volume or cliff, or leave tiers out.');
		END IF;
		RETURN;
	END IF;
	IF coalesce(jsonb_typeof(check_tiers.tiers), '') <> 'array' OR check_tiers.tiers = '[]' OR jsonb_array_length(check_tiers.tiers) > 100 THEN
		PERFORM tokenbill.refuse('22023', format('a %s price needs an array of 1 to 100 tiers', check_tiers.mode), '{"argument": "tiers"}',
			'Pass [{"above": 200000, "unit_price": 6}, ...], what is below the first costs unit_price.');
	END IF;
	FOR tier IN SELECT e.value FROM jsonb_array_elements(check_tiers.tiers) e LOOP
		IF jsonb_typeof(tier) <> 'object' OR tier - ARRAY['above', 'unit_price'] <> '{}'
		   OR coalesce(jsonb_typeof(tier -> 'above'), '') <> 'number' OR coalesce(jsonb_typeof(tier -> 'unit_price'), '') <> 'number' THEN
			PERFORM tokenbill.refuse('22023', 'a tier must be an object of the numbers above and unit_price', '{"argument": "tiers"}',
				'Pass [{"above": 200000, "unit_price": 6}, ...].');
		END IF;
		IF (tier ->> 'above')::numeric <= above OR (tier ->> 'above')::numeric >= 1e15 THEN
			PERFORM tokenbill.refuse('22023', 'tiers must rise', jsonb_build_object('argument', 'tiers', 'above', tier -> 'above'),
				'Each tier begins above a greater count than the one before, the first above 0, all below 10^15.');
		END IF;
		above := (tier ->> 'above')::numeric;
		/* no count ends between two brackets: a cost would have decimals that no count has */
		IF scale(trim_scale(above)) > 9 THEN
			PERFORM tokenbill.refuse('22023', 'a tier begins above a count of at most 9 decimals', jsonb_build_object('argument', 'tiers', 'above', tier -> 'above'),
				'Counts have at most 9 decimals.');
		END IF;
		PERFORM tokenbill.check_rate((tier ->> 'unit_price')::numeric, check_tiers.per);
	END LOOP;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_tiers(text, jsonb, numeric) IS 'Internal: raises that mode or tiers are none (22004, 22023)';

CREATE FUNCTION tokenbill.put_price(asked tokenbill.price) RETURNS tokenbill.price
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	made tokenbill.price;
	was tokenbill.price;
BEGIN
	PERFORM tokenbill.check_text('service', asked.service, 255);
	IF asked.meter <> '*' OR asked.meter IS NULL OR asked.service <> '*' THEN
		PERFORM tokenbill.check_meter('meter', asked.meter);
	END IF;
	/* packages are counted, so that nothing is divided: a cent for each minute that was begun is one */
	PERFORM tokenbill.check_rate(asked.unit_price, CASE asked.mode WHEN 'package' THEN 1 ELSE asked.per END);
	IF asked.mode = 'package' THEN
		PERFORM tokenbill.check_amount('per', asked.per);
	END IF;
	PERFORM tokenbill.check_tiers(asked.mode, asked.tiers, asked.per);
	PERFORM tokenbill.check_time('valid_from', asked.valid_from);
	PERFORM tokenbill.check_text('service_tier', asked.service_tier, 64);
	IF asked.service_tier !~ '^[a-z][a-z0-9_]*$' THEN
		PERFORM tokenbill.refuse('22023', 'service_tier must be lower-case letters, digits and underscores', '{"argument": "service_tier"}',
			'Service tiers are standard, batch, flex, priority, or what else usage names.');
	END IF;
	IF asked.hours <> '' AND (asked.hours !~ '^([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$'
			OR split_part(asked.hours, '-', 1) = split_part(asked.hours, '-', 2)) THEN
		PERFORM tokenbill.refuse('22023', 'hours must be a window such as 16:30-00:30', '{"argument": "hours"}',
			'Hours and minutes in UTC, the end not included; leave hours out for the whole day.');
	END IF;
	IF asked.account <> '*' AND asked.price_group <> '' THEN
		PERFORM tokenbill.refuse('22023', 'account and price_group cannot both be given', '{"argument": "price_group"}',
			'An account''s own price goes before its group''s; set one of them.');
	END IF;
	IF asked.account <> '*' THEN
		IF NOT EXISTS (SELECT FROM tokenbill.account a WHERE a.account = asked.account AND tokenbill.visible(a.account)) THEN
			PERFORM tokenbill.refuse('PT404', format('account "%s" does not exist', asked.account),
				jsonb_build_object('account', asked.account), 'Create it with tokenbill.create_account(), or leave account out for the list price.');
		END IF;
	END IF;
	INSERT INTO tokenbill.price SELECT asked.*
	ON CONFLICT (service, meter, account, price_group, side, service_tier, hours, valid_from) DO NOTHING
	RETURNING * INTO made;
	IF NOT FOUND THEN
		SELECT p.* INTO was FROM tokenbill.price p
		WHERE p.service = asked.service AND p.meter = asked.meter AND p.account = asked.account AND p.price_group = asked.price_group
			AND p.side = asked.side AND p.service_tier = asked.service_tier AND p.hours = asked.hours AND p.valid_from = asked.valid_from;
		IF was.unit_price <> asked.unit_price OR was.per <> asked.per OR was.mode <> asked.mode OR was.tiers IS DISTINCT FROM asked.tiers THEN
			PERFORM tokenbill.refuse('PT409', format('there is another price of %s, %s from that moment on', asked.service, asked.meter),
				jsonb_build_object('service', asked.service, 'meter', asked.meter, 'valid_from', asked.valid_from,
					'was', concat_ws(' ', was.unit_price || '/' || was.per, nullif(was.mode, 'flat'), was.tiers),
					'now', concat_ws(' ', asked.unit_price || '/' || asked.per, nullif(asked.mode, 'flat'), asked.tiers)),
				'Prices are not changed, only followed by others: use a later valid_from.');
		END IF;
		made := was;
	END IF;
	PERFORM tokenbill.warn_below_cost(asked.service, asked.meter);
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.put_price(tokenbill.price) IS 'Internal: what set_price() and set_cost() have in common';

CREATE FUNCTION tokenbill.set_price(service text, meter text, unit_price numeric, per numeric DEFAULT 1,
	account text DEFAULT NULL, valid_from timestamptz DEFAULT NULL, price_group text DEFAULT NULL,
	service_tier text DEFAULT 'standard', hours text DEFAULT NULL, mode text DEFAULT 'flat', tiers jsonb DEFAULT NULL)
RETURNS tokenbill.price
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
	IF set_price.account IS NOT NULL THEN
		PERFORM tokenbill.check_text('account', set_price.account, 128);
	END IF;
	IF set_price.price_group IS NOT NULL THEN
		PERFORM tokenbill.check_text('price_group', set_price.price_group, 128);
	END IF;
	IF set_price.hours IS NOT NULL THEN
		PERFORM tokenbill.check_text('hours', set_price.hours, 11);
	END IF;
	RETURN tokenbill.put_price(ROW(set_price.service, set_price.meter, coalesce(set_price.account, '*'), coalesce(set_price.price_group, ''),
		'sale', set_price.service_tier, coalesce(set_price.hours, ''), coalesce(set_price.valid_from, tokenbill.clock()),
		set_price.unit_price, set_price.per, set_price.mode, set_price.tiers, tokenbill.clock())::tokenbill.price);
END
$function$;
COMMENT ON FUNCTION tokenbill.set_price(text, text, numeric, numeric, text, timestamptz, text, text, text, text, jsonb) IS
'Sets what per units of a meter cost from valid_from (default now) on, for everybody, a price group or one account, and returns the row. Errors: PT404 account, PT409 another price from the same moment, 22xxx';

CREATE FUNCTION tokenbill.set_cost(service text, meter text, unit_price numeric, per numeric DEFAULT 1,
	valid_from timestamptz DEFAULT NULL, service_tier text DEFAULT 'standard', hours text DEFAULT NULL,
	mode text DEFAULT 'flat', tiers jsonb DEFAULT NULL)
RETURNS tokenbill.price
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
	IF set_cost.hours IS NOT NULL THEN
		PERFORM tokenbill.check_text('hours', set_cost.hours, 11);
	END IF;
	RETURN tokenbill.put_price(ROW(set_cost.service, set_cost.meter, '*', '',
		'cost', set_cost.service_tier, coalesce(set_cost.hours, ''), coalesce(set_cost.valid_from, tokenbill.clock()),
		set_cost.unit_price, set_cost.per, set_cost.mode, set_cost.tiers, tokenbill.clock())::tokenbill.price);
END
$function$;
COMMENT ON FUNCTION tokenbill.set_cost(text, text, numeric, numeric, timestamptz, text, text, text, jsonb) IS
'Sets what the upstream charges us for per units of a meter from valid_from (default now) on, and returns the row. Errors: PT409 another cost from the same moment, 22xxx';

CREATE FUNCTION tokenbill.set_price_group(account text, price_group text) RETURNS tokenbill.account
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	found_row tokenbill.account;
BEGIN
	PERFORM tokenbill.check_text('account', set_price_group.account, 128);
	IF set_price_group.price_group IS NOT NULL THEN
		PERFORM tokenbill.check_text('price_group', set_price_group.price_group, 128);
	END IF;
	UPDATE tokenbill.account a SET price_group = set_price_group.price_group
	WHERE a.account = set_price_group.account AND tokenbill.visible(a.account)
	RETURNING a.* INTO found_row;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_account(set_price_group.account);
	END IF;
	RETURN found_row;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_price_group(text, text) IS
'Puts an account into the price group whose prices go before the list''s for it, or, null, into none; returns its row. Errors: PT404, 22xxx';

/* accounts come into a group, change it or leave it seldom; charges do not write the column */
CREATE TRIGGER forget_prices AFTER UPDATE OF price_group ON tokenbill.account
FOR EACH ROW EXECUTE FUNCTION tokenbill.forget_prices();
CREATE TRIGGER forget_prices_insert AFTER INSERT ON tokenbill.account
FOR EACH ROW WHEN (NEW.price_group IS NOT NULL) EXECUTE FUNCTION tokenbill.forget_prices();
ALTER TABLE tokenbill.account ENABLE ALWAYS TRIGGER forget_prices;
ALTER TABLE tokenbill.account ENABLE ALWAYS TRIGGER forget_prices_insert;

CREATE FUNCTION tokenbill.quote(account text, service text, usage jsonb, metadata jsonb DEFAULT NULL)
RETURNS TABLE (meter text, quantity numeric, unit_price numeric, per numeric, tier text, amount numeric, priced_as text,
	cost numeric, limits_hit text[], burns jsonb)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_quote';
COMMENT ON FUNCTION tokenbill.quote(text, text, jsonb, jsonb) IS
'What charge() would take for this usage, one row a meter, amounts positive, which limits would refuse it and which credits would pay; changes nothing. Errors: as charge()';
