/*
 * Credits: money of an account that expires, has a place of its own in the order
 * of spending, or is good for some services only.  A credit is part of the balance;
 * what is left of the balance is the plain balance, which has no row here.
 *
 *            +--> spent     (nothing remains)
 *   open ----+
 *            +--> expired   (its time is over; what was free of it has left the balance)
 *
 * and back to open, when a refund brings something of it back.
 */
CREATE TABLE tokenbill.credit (
	account text COLLATE "C" NOT NULL,
	credit_key text COLLATE "C" NOT NULL,
	seq bigint NOT NULL,
	amount numeric NOT NULL,
	remaining numeric NOT NULL,
	reserved numeric NOT NULL DEFAULT 0,
	priority integer NOT NULL,
	category text NOT NULL,
	scope text[],
	cost_basis numeric NOT NULL,
	effective_at timestamptz NOT NULL,
	expires_at timestamptz,
	status text NOT NULL DEFAULT 'open',
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	PRIMARY KEY (account, credit_key)
) WITH (fillfactor = 70);
CREATE INDEX credit_open_idx ON tokenbill.credit (account) WHERE status = 'open';
CREATE INDEX credit_due_idx ON tokenbill.credit (expires_at, account) WHERE status = 'open' AND expires_at IS NOT NULL;
COMMENT ON TABLE tokenbill.credit IS 'Grants that expire, are spent in an order of their own, or are good for some services only; the rest of a balance has no row';
COMMENT ON COLUMN tokenbill.credit.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.credit.credit_key IS 'Name of the credit: the idempotency key it was granted with';
COMMENT ON COLUMN tokenbill.credit.seq IS 'Number of the ledger line that granted it';
COMMENT ON COLUMN tokenbill.credit.amount IS 'What was granted, in the account''s currency';
COMMENT ON COLUMN tokenbill.credit.remaining IS 'What is left of it in the balance, with what is reserved';
COMMENT ON COLUMN tokenbill.credit.reserved IS 'What of the rest open holds reserve';
COMMENT ON COLUMN tokenbill.credit.priority IS '0, spent first, to 1000; the plain balance has 50';
COMMENT ON COLUMN tokenbill.credit.category IS 'promotional or paid; the plain balance counts as paid';
COMMENT ON COLUMN tokenbill.credit.scope IS 'Services it is good for, those with a star at the end for all that begin so; null: all';
COMMENT ON COLUMN tokenbill.credit.cost_basis IS 'What a unit of it has cost the customer: 0 for a present, 1 for the plain balance';
COMMENT ON COLUMN tokenbill.credit.effective_at IS 'From when on it pays';
COMMENT ON COLUMN tokenbill.credit.expires_at IS 'From then on it pays for nothing more; null: never';
COMMENT ON COLUMN tokenbill.credit.status IS 'open, spent or expired';
COMMENT ON COLUMN tokenbill.credit.created_at IS 'When it was granted';
COMMENT ON COLUMN tokenbill.credit.updated_at IS 'When it last changed';
/* AFTER, for a BEFORE trigger has each row that is updated locked first, whichever column it is of */
CREATE TRIGGER no_delete BEFORE DELETE ON tokenbill.credit
FOR EACH ROW EXECUTE FUNCTION tokenbill.forward_only();
CREATE TRIGGER forward_only AFTER UPDATE OF status ON tokenbill.credit
FOR EACH ROW EXECUTE FUNCTION tokenbill.forward_only('open>spent', 'open>expired', 'spent>open', 'expired>open');
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON tokenbill.credit
FOR EACH STATEMENT EXECUTE FUNCTION tokenbill.forward_only();
SELECT pg_catalog.pg_extension_config_dump('tokenbill.credit', '');

/*
 * Orders in which credits are spent; the setting tokenbill.burn_order names one.
 * The words are compared from the left; what none tells apart goes by age.
 *
 * Sessions keep the order in use.  The trigger tells every session of a change.
 */
CREATE DOMAIN tokenbill.burn_keys AS text[] CHECK (
	pg_catalog.array_ndims(VALUE) = 1 AND pg_catalog.cardinality(VALUE) <= 10 AND pg_catalog.array_position(VALUE, NULL) IS NULL
	AND VALUE <@ ARRAY['priority', 'expiry', 'promotional', 'paid', 'cost_basis', 'effective', 'oldest', 'newest', 'smallest', 'largest']);
COMMENT ON DOMAIN tokenbill.burn_keys IS 'What tells two credits apart, from the left: priority (lower first), expiry (sooner first, never last), promotional or paid (first), cost_basis (lower first), effective (earlier first), oldest or newest (first), smallest or largest (first, by what remains)';

CREATE TABLE tokenbill.burn_order (
	name text COLLATE "C" NOT NULL PRIMARY KEY,
	keys tokenbill.burn_keys NOT NULL,
	description text
);
COMMENT ON TABLE tokenbill.burn_order IS 'Orders in which credits are spent, beside those that come with the extension, which the view burn_orders has';
COMMENT ON COLUMN tokenbill.burn_order.name IS 'What the setting tokenbill.burn_order calls it';
COMMENT ON COLUMN tokenbill.burn_order.keys IS 'What tells two credits apart, from the left';
COMMENT ON COLUMN tokenbill.burn_order.description IS 'The same in words';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.burn_order', '');

CREATE FUNCTION tokenbill.forget_burn_order() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tokenbill_forget_burn_order';
COMMENT ON FUNCTION tokenbill.forget_burn_order() IS 'Trigger: every session reads the burn order anew when this transaction commits';
CREATE TRIGGER forget_burn_order AFTER INSERT OR UPDATE OR DELETE ON tokenbill.burn_order
FOR EACH ROW EXECUTE FUNCTION tokenbill.forget_burn_order();
ALTER TABLE tokenbill.burn_order ENABLE ALWAYS TRIGGER forget_burn_order;

CREATE FUNCTION tokenbill.set_burn_order(name text, keys text[], description text DEFAULT NULL)
RETURNS tokenbill.burn_order
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	made tokenbill.burn_order;
	known text[] := ARRAY['priority', 'expiry', 'promotional', 'paid', 'cost_basis', 'effective', 'oldest', 'newest', 'smallest', 'largest'];
BEGIN
	PERFORM tokenbill.check_text('name', set_burn_order.name, 64);
	IF set_burn_order.description IS NOT NULL THEN
		PERFORM tokenbill.check_text('description', set_burn_order.description, 255);
	END IF;
	IF set_burn_order.name !~ '^[a-z][a-z0-9_]*$' THEN
		PERFORM tokenbill.refuse('22023', 'name must be lower-case letters, digits and underscores', '{"argument": "name"}',
			'Orders are named like expiry_first.');
	END IF;
	IF set_burn_order.keys IS NULL THEN
		PERFORM tokenbill.refuse('22004', 'keys must not be null', '{"argument": "keys"}', 'Pass words such as {priority,expiry,oldest}.');
	END IF;
	IF array_ndims(set_burn_order.keys) IS DISTINCT FROM 1 OR cardinality(set_burn_order.keys) > cardinality(known)
	   OR array_position(set_burn_order.keys, NULL) IS NOT NULL OR NOT set_burn_order.keys <@ known THEN
		PERFORM tokenbill.refuse('22023', 'keys must be a list of the known words',
			jsonb_build_object('argument', 'keys', 'allowed', known), 'Pass words such as {priority,expiry,oldest}.');
	END IF;
	IF EXISTS (SELECT FROM tokenbill.burn_orders b WHERE b.name = set_burn_order.name AND b.preset) THEN
		PERFORM tokenbill.refuse('PT409', format('burn order "%s" is a preset', set_burn_order.name),
			jsonb_build_object('name', set_burn_order.name), 'Presets stay what they are; give yours another name.');
	END IF;
	INSERT INTO tokenbill.burn_order AS b (name, keys, description)
	VALUES (set_burn_order.name, set_burn_order.keys, set_burn_order.description)
	ON CONFLICT (name) DO UPDATE SET keys = excluded.keys, description = excluded.description
	RETURNING * INTO made;
	RETURN made;
END
$function$;
COMMENT ON FUNCTION tokenbill.set_burn_order(text, text[], text) IS
'Defines an order in which credits are spent, or redefines one of your own, and returns it; tokenbill.burn_order says which is used. Errors: PT409 a preset, 22xxx';

CREATE FUNCTION tokenbill.grant_credit(account text, amount numeric, idempotency_key text, expires_at timestamptz DEFAULT NULL,
	priority integer DEFAULT 50, reason text DEFAULT NULL, metadata jsonb DEFAULT NULL, wait boolean DEFAULT true,
	category text DEFAULT NULL, scope text[] DEFAULT NULL, effective_at timestamptz DEFAULT NULL, cost_basis numeric DEFAULT NULL)
RETURNS tokenbill.receipt
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_grant_credit';
COMMENT ON FUNCTION tokenbill.grant_credit(text, numeric, text, timestamptz, integer, text, jsonb, boolean, text, text[], timestamptz, numeric) IS
'Credits an account without payment. With expires_at, effective_at, another priority than 50, category promotional, a scope of services or a cost_basis it is a credit that is told apart from the rest of the balance; without, it is balance like any other. Errors: PT403, PT404, PT409, 22xxx';

CREATE FUNCTION tokenbill.expire_credits(account text DEFAULT NULL, max integer DEFAULT 1000) RETURNS bigint
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_expire_credits';
COMMENT ON FUNCTION tokenbill.expire_credits(text, integer) IS
'Posts the expiry of credits whose time is over, at most max of them, and returns how many; every movement of an account does it for its own';

CREATE FUNCTION tokenbill.explain_burn(account text, amount numeric, service text DEFAULT NULL)
RETURNS TABLE (place integer, credit_key text, amount numeric, free numeric, priority integer, category text, expires_at timestamptz, reason text)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_explain_burn';
COMMENT ON FUNCTION tokenbill.explain_burn(text, numeric, text) IS
'Which credits would pay for an amount, in order, and why the others would not; changes nothing. Errors: PT404, 22xxx';
