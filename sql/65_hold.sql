/*
 * Holds: an amount set aside for a call whose cost is not known yet.
 *
 *            +--> captured   (final capture)
 *   held ----+--> released   (release)
 *            +--> expired    (its time ran out; what was left is freed, or charged)
 */
CREATE TABLE tokenbill.hold (
	account text COLLATE "C" NOT NULL,
	hold_key text COLLATE "C" NOT NULL,
	amount numeric NOT NULL CHECK (amount >= 0),
	captured numeric NOT NULL DEFAULT 0 CHECK (captured >= 0),
	status text NOT NULL DEFAULT 'held' CHECK (status IN ('held', 'captured', 'released', 'expired')),
	on_expiry text NOT NULL DEFAULT 'release' CHECK (on_expiry IN ('release', 'charge')),
	service text,
	expires_at timestamptz NOT NULL,
	extensions integer NOT NULL DEFAULT 0,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	metadata jsonb,
	tokens numeric NOT NULL DEFAULT 0,
	reserved jsonb,
	PRIMARY KEY (account, hold_key)
);
CREATE INDEX hold_due_idx ON tokenbill.hold (expires_at, account) WHERE status = 'held';
CREATE INDEX hold_open_idx ON tokenbill.hold (account, expires_at) WHERE status = 'held';
COMMENT ON TABLE tokenbill.hold IS 'Amounts set aside, known by the key they were made with';
COMMENT ON COLUMN tokenbill.hold.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.hold.hold_key IS 'Name of the hold: the idempotency key it was made with';
COMMENT ON COLUMN tokenbill.hold.status IS 'held, captured, released or expired';
COMMENT ON COLUMN tokenbill.hold.service IS 'What it was made for; a capture is priced by it';
COMMENT ON COLUMN tokenbill.hold.extensions IS 'How often it was extended';
COMMENT ON COLUMN tokenbill.hold.created_at IS 'When it was made';
COMMENT ON COLUMN tokenbill.hold.updated_at IS 'When it last changed';
COMMENT ON COLUMN tokenbill.hold.metadata IS 'The metadata it was made with: limits by tag go by it';
COMMENT ON COLUMN tokenbill.hold.tokens IS 'How many tokens of its estimated usage are still reserved';
COMMENT ON COLUMN tokenbill.hold.amount IS 'Total set aside; what is left is amount - captured while held';
COMMENT ON COLUMN tokenbill.hold.captured IS 'What captures have charged so far';
COMMENT ON COLUMN tokenbill.hold.on_expiry IS 'release: what is left is freed; charge: it is charged';
COMMENT ON COLUMN tokenbill.hold.reserved IS 'Which credits it reserves what of, while held: a list of objects with credit (null is the plain balance) and amount; null if no credit';
COMMENT ON COLUMN tokenbill.hold.expires_at IS 'From then on it can no longer be captured';
CREATE TRIGGER forward_only BEFORE UPDATE OR DELETE ON tokenbill.hold
FOR EACH ROW EXECUTE FUNCTION tokenbill.forward_only('held>captured', 'held>released', 'held>expired');
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON tokenbill.hold
FOR EACH STATEMENT EXECUTE FUNCTION tokenbill.forward_only();

SELECT pg_catalog.pg_extension_config_dump('tokenbill.hold', '');

CREATE FUNCTION tokenbill.hold(account text, amount numeric, idempotency_key text, ttl interval DEFAULT '10 min',
	service text DEFAULT NULL, usage jsonb DEFAULT NULL, metadata jsonb DEFAULT NULL,
	on_expiry text DEFAULT 'release', wait boolean DEFAULT true)
RETURNS tokenbill.receipt
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_hold';
COMMENT ON FUNCTION tokenbill.hold(text, numeric, text, interval, text, jsonb, jsonb, text, boolean) IS
'Sets an amount aside for ttl, or, with amount null, the price of the estimated usage of service; the key is the hold''s name from then on. on_expiry: release or charge. Errors: as charge()';

CREATE FUNCTION tokenbill.extend_hold(account text, hold_key text, amount numeric DEFAULT NULL, ttl interval DEFAULT NULL,
	idempotency_key text DEFAULT NULL, wait boolean DEFAULT true)
RETURNS tokenbill.receipt
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_extend_hold';
COMMENT ON FUNCTION tokenbill.extend_hold(text, text, numeric, interval, text, boolean) IS
'Raises a hold to a new total amount, gives it ttl from now on, or both. Errors: PT402, PT403, PT404, PT409 not held any more or less than before, 22xxx';

CREATE FUNCTION tokenbill.capture(account text, hold_key text, usage jsonb DEFAULT NULL, amount numeric DEFAULT NULL,
	idempotency_key text DEFAULT NULL, final boolean DEFAULT true, service text DEFAULT NULL,
	metadata jsonb DEFAULT NULL, wait boolean DEFAULT true)
RETURNS tokenbill.receipt
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_capture';
COMMENT ON FUNCTION tokenbill.capture(text, text, jsonb, numeric, text, boolean, text, jsonb, boolean) IS
'Charges what was used of a hold: the price of usage, or amount, or, with neither, all that is left; final frees the rest. Without a key one is derived from the hold''s; final => false needs a key. Errors: PT402 more than is held, PT403, PT404, PT409 not held any more, 22xxx';

CREATE FUNCTION tokenbill.release(account text, hold_key text, wait boolean DEFAULT true)
RETURNS tokenbill.receipt
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_release';
COMMENT ON FUNCTION tokenbill.release(text, text, boolean) IS
'Frees what is left of a hold. Errors: PT404, PT409 captured or expired';

CREATE FUNCTION tokenbill.expire_holds(account text DEFAULT NULL, max integer DEFAULT 1000) RETURNS bigint
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_expire_holds';
COMMENT ON FUNCTION tokenbill.expire_holds(text, integer) IS
'Posts the expiry of holds whose time ran out, at most max of them, and returns how many; a charge that needs the room does it for its own account';
