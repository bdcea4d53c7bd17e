/*
 * What is set of a service beside its prices, and by how much prices are raised
 * or lowered as a whole.
 */
CREATE TABLE tokenbill.service (
	service text COLLATE "C" NOT NULL PRIMARY KEY,
	usage_format text NOT NULL DEFAULT 'auto',
	created_at timestamptz NOT NULL
);
COMMENT ON TABLE tokenbill.service IS 'Settings of a service; one without a row has the defaults';
COMMENT ON COLUMN tokenbill.service.service IS 'Name the application charges under';
COMMENT ON COLUMN tokenbill.service.usage_format IS 'How its usage objects are read: a format of normalize_usage(), or auto';
COMMENT ON COLUMN tokenbill.service.created_at IS 'When it was first set';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.service', '');

/*
 * The markup that counts is the first of these that there is: the account's for
 * the service, the account's, its group's for the service, its group's, the
 * service's, everybody's; of each, the newest valid_from not after now.  One is
 * not added to prices that were set for somebody closer: an account's own price
 * is raised or lowered by the account's own markup only.
 */
CREATE TABLE tokenbill.markup (
	service text COLLATE "C" NOT NULL DEFAULT '*',
	account text COLLATE "C" NOT NULL DEFAULT '*',
	price_group text COLLATE "C" NOT NULL DEFAULT '',
	valid_from timestamptz NOT NULL,
	fraction numeric NOT NULL CHECK (fraction >= -1),
	created_at timestamptz NOT NULL,
	PRIMARY KEY (service, account, price_group, valid_from),
	CHECK (account = '*' OR price_group = '')
);
COMMENT ON TABLE tokenbill.markup IS 'By what fraction prices are raised or, negative, lowered, from when on';
COMMENT ON COLUMN tokenbill.markup.service IS 'Service whose prices, or * for all';
COMMENT ON COLUMN tokenbill.markup.account IS 'Account for which, or *';
COMMENT ON COLUMN tokenbill.markup.price_group IS 'Price group for which, or empty';
COMMENT ON COLUMN tokenbill.markup.valid_from IS 'From when on; the newest not after now wins';
COMMENT ON COLUMN tokenbill.markup.fraction IS '0.2 makes a price of 10 one of 12, -0.2 one of 8';
COMMENT ON COLUMN tokenbill.markup.created_at IS 'When it was made';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.markup', '');

CREATE TRIGGER forget_prices AFTER INSERT OR UPDATE OR DELETE ON tokenbill.service
FOR EACH ROW EXECUTE FUNCTION tokenbill.forget_prices();
CREATE TRIGGER forget_prices_truncate AFTER TRUNCATE ON tokenbill.service
FOR EACH STATEMENT EXECUTE FUNCTION tokenbill.forget_prices();
CREATE TRIGGER forget_prices AFTER INSERT OR UPDATE OR DELETE ON tokenbill.markup
FOR EACH ROW EXECUTE FUNCTION tokenbill.forget_prices();
CREATE TRIGGER forget_prices_truncate AFTER TRUNCATE ON tokenbill.markup
FOR EACH STATEMENT EXECUTE FUNCTION tokenbill.forget_prices();
ALTER TABLE tokenbill.service ENABLE ALWAYS TRIGGER forget_prices;
ALTER TABLE tokenbill.service ENABLE ALWAYS TRIGGER forget_prices_truncate;
ALTER TABLE tokenbill.markup ENABLE ALWAYS TRIGGER forget_prices;
ALTER TABLE tokenbill.markup ENABLE ALWAYS TRIGGER forget_prices_truncate;

CREATE FUNCTION tokenbill.set_service(service text, usage_format text DEFAULT NULL, minimum_charge numeric DEFAULT NULL)
RETURNS tokenbill.service
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	made tokenbill.service;
BEGIN
	PERFORM tokenbill.check_text('service', set_service.service, 255);
	IF set_service.usage_format IS NOT NULL THEN
		PERFORM tokenbill.check_text('usage_format', set_service.usage_format, 64);
		PERFORM tokenbill.check_usage_format('usage_format', set_service.usage_format);
	END IF;
	IF set_service.minimum_charge IS NOT NULL THEN
		IF set_service.minimum_charge <> 0 THEN
			PERFORM tokenbill.check_amount('minimum_charge', set_service.minimum_charge);
		END IF;
		PERFORM tokenbill.put_price(ROW(set_service.service, 'minimum_charge', '*', '', 'sale', 'standard', '', tokenbill.clock(),
			set_service.minimum_charge, 1, 'flat', NULL, tokenbill.clock())::tokenbill.price);
	END IF;
	INSERT INTO tokenbill.service AS s (service, usage_format, created_at)
	VALUES (set_service.service, coalesce(set_service.usage_format, 'auto'), tokenbill.clock())
	ON CONFLICT (service) DO UPDATE SET usage_format = coalesce(set_service.usage_format, s.usage_format)
	RETURNING s.* INTO made;
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_service(text, text, numeric) IS
'Sets how the usage of a service is read and, from now on, what a call of it costs at least; null leaves as it is; returns the row. Errors: PT409, 22xxx';

CREATE FUNCTION tokenbill.set_markup(fraction numeric, service text DEFAULT NULL, account text DEFAULT NULL,
	price_group text DEFAULT NULL, valid_from timestamptz DEFAULT NULL)
RETURNS tokenbill.markup
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	made tokenbill.markup;
	was numeric;
	since timestamptz := coalesce(set_markup.valid_from, tokenbill.clock());
BEGIN
	IF set_markup.fraction IS NULL THEN
		PERFORM tokenbill.refuse('22004', 'fraction must not be null', '{"argument": "fraction"}', '0 raises and lowers nothing.');
	END IF;
	IF set_markup.fraction IN ('NaN', 'Infinity', '-Infinity') OR set_markup.fraction > 1000 OR scale(trim_scale(set_markup.fraction)) > 6 THEN
		PERFORM tokenbill.refuse('22003', 'fraction must be at most 1000 and have at most 6 decimals', '{"argument": "fraction"}',
			'0.2 is 20 percent on top.');
	END IF;
	IF set_markup.fraction < -1 THEN
		PERFORM tokenbill.refuse('22023', 'fraction must not be less than -1', '{"argument": "fraction"}', '-1 makes everything free.');
	END IF;
	IF set_markup.service IS NOT NULL THEN
		PERFORM tokenbill.check_text('service', set_markup.service, 255);
	END IF;
	PERFORM tokenbill.check_time('valid_from', since);
	IF set_markup.price_group IS NOT NULL THEN
		PERFORM tokenbill.check_text('price_group', set_markup.price_group, 128);
	END IF;
	IF set_markup.account IS NOT NULL THEN
		PERFORM tokenbill.check_text('account', set_markup.account, 128);
		IF set_markup.price_group IS NOT NULL THEN
			PERFORM tokenbill.refuse('22023', 'account and price_group cannot both be given', '{"argument": "price_group"}',
				'An account''s own markup goes before its group''s; set one of them.');
		END IF;
		IF NOT EXISTS (SELECT FROM tokenbill.account a WHERE a.account = set_markup.account AND tokenbill.visible(a.account)) THEN
			PERFORM tokenbill.refuse_account(set_markup.account);
		END IF;
	END IF;
	INSERT INTO tokenbill.markup (service, account, price_group, valid_from, fraction, created_at)
	VALUES (coalesce(set_markup.service, '*'), coalesce(set_markup.account, '*'), coalesce(set_markup.price_group, ''), since,
		set_markup.fraction, tokenbill.clock())
	ON CONFLICT (service, account, price_group, valid_from) DO NOTHING
	RETURNING * INTO made;
	IF NOT FOUND THEN
		SELECT m.* INTO made FROM tokenbill.markup m
		WHERE m.service = coalesce(set_markup.service, '*') AND m.account = coalesce(set_markup.account, '*')
			AND m.price_group = coalesce(set_markup.price_group, '') AND m.valid_from = since;
		IF made.fraction <> set_markup.fraction THEN
			PERFORM tokenbill.refuse('PT409', 'there is another markup from that moment on',
				jsonb_build_object('valid_from', since, 'was', made.fraction, 'now', set_markup.fraction),
				'Markups are not changed, only followed by others: use a later valid_from.');
		END IF;
	END IF;
	PERFORM tokenbill.warn_below_cost(made.service);
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_markup(numeric, text, text, text, timestamptz) IS
'Raises prices by a fraction (0.2: by a fifth) from valid_from (default now) on, for everybody, a service, a price group or an account, the closest counts, and returns the row. Errors: PT404 account, PT409 another from the same moment, 22xxx';

CREATE FUNCTION tokenbill.set_discount(fraction numeric, service text DEFAULT NULL, account text DEFAULT NULL,
	price_group text DEFAULT NULL, valid_from timestamptz DEFAULT NULL)
RETURNS tokenbill.markup
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF set_discount.fraction < 0 OR set_discount.fraction > 1 THEN
		PERFORM tokenbill.refuse('22023', 'fraction must be from 0 to 1', '{"argument": "fraction"}',
			'0.2 is 20 percent off; 0 ends a discount.');
	END IF;
	RETURN tokenbill.set_markup(- set_discount.fraction, set_discount.service, set_discount.account, set_discount.price_group,
		set_discount.valid_from);
END
$function$;
COMMENT ON FUNCTION tokenbill.set_discount(numeric, text, text, text, timestamptz) IS
'set_markup() with the fraction negative: lowers prices by it. Errors: as set_markup()';
