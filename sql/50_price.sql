/*
 * Prices are rows, never changed or deleted: a new price is a new valid_from.
 * For a meter the newest valid_from not after now wins; an account's own price
 * goes before the list price, which is kept under account '*'.
 *
 * Sessions cache prices.  The trigger tells every session's cache of a change,
 * also one made by hand or by logical replication (ENABLE ALWAYS), and it is
 * seen by the next statement of each.
 */
CREATE TABLE tokenbill.price (
	service text COLLATE "C" NOT NULL,
	meter text COLLATE "C" NOT NULL,
	account text COLLATE "C" NOT NULL DEFAULT '*',
	valid_from timestamptz NOT NULL,
	unit_price numeric NOT NULL CHECK (unit_price >= 0),
	per numeric NOT NULL DEFAULT 1 CHECK (per > 0),
	created_at timestamptz NOT NULL,
	PRIMARY KEY (service, meter, account, valid_from)
);
CREATE INDEX price_account_idx ON tokenbill.price (account) WHERE account <> '*';
COMMENT ON TABLE tokenbill.price IS 'What a unit of a meter of a service costs, from when on; account ''*'' is the list price';
COMMENT ON COLUMN tokenbill.price.created_at IS 'When it was made';
COMMENT ON COLUMN tokenbill.price.service IS 'Name the application charges under, often the model''s';
COMMENT ON COLUMN tokenbill.price.meter IS 'What is counted: input_tokens, output_tokens, images, seconds ...';
COMMENT ON COLUMN tokenbill.price.account IS 'Account with a price of its own, or * for the list price';
COMMENT ON COLUMN tokenbill.price.valid_from IS 'From when on; the newest not after now wins';
COMMENT ON COLUMN tokenbill.price.unit_price IS 'Price of per units, in the currency of the account that is charged';
COMMENT ON COLUMN tokenbill.price.per IS 'How many units unit_price is for, such as 1000000';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.price', '');

CREATE FUNCTION tokenbill.forget_prices() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tokenbill_forget_prices';
COMMENT ON FUNCTION tokenbill.forget_prices() IS 'Trigger: every session drops its cached prices when this transaction commits';
CREATE TRIGGER forget_prices AFTER INSERT OR UPDATE OR DELETE ON tokenbill.price
FOR EACH ROW EXECUTE FUNCTION tokenbill.forget_prices();
ALTER TABLE tokenbill.price ENABLE ALWAYS TRIGGER forget_prices;

CREATE FUNCTION tokenbill.set_price(service text, meter text, unit_price numeric, per numeric DEFAULT 1,
	account text DEFAULT NULL, valid_from timestamptz DEFAULT NULL)
RETURNS tokenbill.price
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	made tokenbill.price;
	was tokenbill.price;
	holder text := coalesce(set_price.account, '*');
	since timestamptz := coalesce(set_price.valid_from, tokenbill.clock());
BEGIN
	PERFORM tokenbill.check_text('service', set_price.service, 255);
	PERFORM tokenbill.check_text('meter', set_price.meter, 64);
	IF set_price.meter !~ '^[a-z][a-z0-9_]*$' THEN
		PERFORM tokenbill.refuse('22023', 'meter must be lower-case letters, digits and underscores', '{"argument": "meter"}',
			'Meters are named like input_tokens, images or seconds.');
	END IF;
	IF set_price.unit_price IS NULL OR set_price.unit_price <> 0 THEN
		PERFORM tokenbill.check_amount('unit_price', set_price.unit_price);
	END IF;
	PERFORM tokenbill.check_amount('per', set_price.per);
	PERFORM tokenbill.check_time('valid_from', since);
	/*
	 * A cost is quantity * (unit_price / per), and is never rounded: so the
	 * quotient must be a finite decimal, of at most 20 places.
	 */
	IF trunc(round(set_price.unit_price, 40) / set_price.per, 20) * set_price.per <> set_price.unit_price THEN
		PERFORM tokenbill.refuse('22023', format('unit_price / per is not an exact decimal of at most 20 places: %s / %s',
				set_price.unit_price, set_price.per),
			jsonb_build_object('argument', 'per', 'unit_price', set_price.unit_price, 'per', set_price.per),
			'Use a per made of twos and fives, such as 1000000, or round the price of one unit yourself.');
	END IF;
	IF holder <> '*' THEN
		PERFORM tokenbill.check_text('account', holder, 128);
		IF NOT EXISTS (SELECT FROM tokenbill.account a WHERE a.account = holder AND tokenbill.visible(a.account)) THEN
			PERFORM tokenbill.refuse('PT404', format('account "%s" does not exist', holder),
				jsonb_build_object('account', holder), 'Create it with tokenbill.create_account(), or leave account out for the list price.');
		END IF;
	END IF;
	INSERT INTO tokenbill.price (service, meter, account, valid_from, unit_price, per, created_at)
	VALUES (set_price.service, set_price.meter, holder, since, set_price.unit_price, set_price.per, tokenbill.clock())
	ON CONFLICT (service, meter, account, valid_from) DO NOTHING
	RETURNING * INTO made;
	IF NOT FOUND THEN
		SELECT p.* INTO was FROM tokenbill.price p
		WHERE p.service = set_price.service AND p.meter = set_price.meter AND p.account = holder AND p.valid_from = since;
		IF was.unit_price <> set_price.unit_price OR was.per <> set_price.per THEN
			PERFORM tokenbill.refuse('PT409', format('there is another price of %s, %s from that moment on', set_price.service, set_price.meter),
				jsonb_build_object('service', set_price.service, 'meter', set_price.meter, 'valid_from', since,
					'was', was.unit_price || '/' || was.per, 'now', set_price.unit_price || '/' || set_price.per),
				'Prices are not changed, only followed by others: use a later valid_from.');
		END IF;
		made := was;
	END IF;
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_price(text, text, numeric, numeric, text, timestamptz) IS
'Sets what per units of a meter cost from valid_from (default now) on, for everybody or for one account, and returns the row. Errors: PT404 account, PT409 another price from the same moment, 22xxx';

CREATE FUNCTION tokenbill.quote(account text, service text, usage jsonb)
RETURNS TABLE (meter text, quantity numeric, unit_price numeric, per numeric, tier text, amount numeric)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_quote';
COMMENT ON FUNCTION tokenbill.quote(text, text, jsonb) IS
'What charge() would take for this usage, one row a meter, amounts positive; changes nothing. Errors: as charge()';
