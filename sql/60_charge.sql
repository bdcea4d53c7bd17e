/*
 * Receipts and charges.
 */
CREATE TYPE tokenbill.receipt AS (
	account text,
	seq bigint,
	kind text,
	service text,
	amount numeric,
	balance numeric,
	available numeric,
	currency text,
	idempotency_key text,
	hold_key text,
	replayed boolean,
	created_at timestamptz,
	held numeric,
	price numeric,
	ref text
);
COMMENT ON TYPE tokenbill.receipt IS 'What a money function answers: the ledger line it posted, or, replayed, the one it had posted before';
COMMENT ON COLUMN tokenbill.receipt.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.receipt.seq IS 'Number of the ledger line within its account';
COMMENT ON COLUMN tokenbill.receipt.kind IS 'charge, recharge, hold, extend, capture, release, expiry, refund, grant, adjustment or clawback';
COMMENT ON COLUMN tokenbill.receipt.service IS 'What was charged for, or held for';
COMMENT ON COLUMN tokenbill.receipt.currency IS 'Currency of the account, and so of all its amounts';
COMMENT ON COLUMN tokenbill.receipt.idempotency_key IS 'Key of the request; derived ones begin with tokenbill:';
COMMENT ON COLUMN tokenbill.receipt.hold_key IS 'Name of the hold: the idempotency key it was made with';
COMMENT ON COLUMN tokenbill.receipt.created_at IS 'When the line was posted';
COMMENT ON COLUMN tokenbill.receipt.amount IS 'Signed effect on the balance: a charge is negative';
COMMENT ON COLUMN tokenbill.receipt.balance IS 'Balance after the line';
COMMENT ON COLUMN tokenbill.receipt.available IS 'balance + credit_limit - held, after the line';
COMMENT ON COLUMN tokenbill.receipt.replayed IS 'True when the key had been used for the same request before; nothing moved';
COMMENT ON COLUMN tokenbill.receipt.held IS 'Total of the open holds after the line';
COMMENT ON COLUMN tokenbill.receipt.price IS 'What the usage costs; a sandbox account pays 0 of it';
COMMENT ON COLUMN tokenbill.receipt.ref IS 'What the line refers to: hold_key, charge_key, order_no';

CREATE FUNCTION tokenbill.charge(account text, service text, usage jsonb, idempotency_key text,
	on_insufficient text DEFAULT 'refuse', metadata jsonb DEFAULT NULL, wait boolean DEFAULT true)
RETURNS tokenbill.receipt
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_charge';
COMMENT ON FUNCTION tokenbill.charge(text, text, jsonb, text, text, jsonb, boolean) IS
'Charges an account for the usage of a service at its price and returns the receipt; same key, same receipt. on_insufficient: refuse (PT402) or debt. Errors: PT402, PT403, PT404, PT409, PT423 (wait => false), 22xxx';

CREATE FUNCTION tokenbill.charge_tokens(account text, service text, tokens bigint, idempotency_key text,
	on_insufficient text DEFAULT 'refuse', metadata jsonb DEFAULT NULL, wait boolean DEFAULT true)
RETURNS tokenbill.receipt
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_charge_tokens';
COMMENT ON FUNCTION tokenbill.charge_tokens(text, text, bigint, text, text, jsonb, boolean) IS
'charge() for a service with one price a token: usage is {"tokens": tokens}, meter tokens. Errors: as charge()';

CREATE FUNCTION tokenbill.charge_amount(account text, amount numeric, idempotency_key text, service text DEFAULT NULL,
	on_insufficient text DEFAULT 'refuse', metadata jsonb DEFAULT NULL, wait boolean DEFAULT true)
RETURNS tokenbill.receipt
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_charge_amount';
COMMENT ON FUNCTION tokenbill.charge_amount(text, numeric, text, text, text, jsonb, boolean) IS
'Charges an amount (positive, in the account''s currency) that the caller has priced. Errors: as charge()';

CREATE FUNCTION tokenbill.charge_batch(requests jsonb)
RETURNS TABLE (item integer, account text, seq bigint, kind text, service text, amount numeric, balance numeric,
	available numeric, currency text, idempotency_key text, hold_key text, replayed boolean, created_at timestamptz,
	held numeric, price numeric, ref text, sqlstate text, message text, detail jsonb, hint text)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_charge_batch';
COMMENT ON FUNCTION tokenbill.charge_batch(jsonb) IS
'Charges an array of requests, objects with the arguments of charge(), charge_tokens() or charge_amount() but wait, at most 10000, in one statement: one row an item, in order, with a receipt or with sqlstate, message, detail and hint; a refused item does not stop the others';

/*
 * How much of a charge came back: locked with the account, so that two refunds
 * cannot both fit.  A charge is told by its line's number, for a key may be used
 * again once tokenbill.idempotency_window is over.
 */
CREATE TABLE tokenbill.charge_refund (
	account text COLLATE "C" NOT NULL,
	charge_seq bigint NOT NULL,
	charge_key text COLLATE "C" NOT NULL,
	refunded numeric NOT NULL CHECK (refunded > 0),
	PRIMARY KEY (account, charge_seq)
);
COMMENT ON TABLE tokenbill.charge_refund IS 'How much of a charge, capture or charged expiry has been refunded';
COMMENT ON COLUMN tokenbill.charge_refund.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.charge_refund.charge_seq IS 'Number of its ledger line';
COMMENT ON COLUMN tokenbill.charge_refund.charge_key IS 'Its idempotency key';
COMMENT ON COLUMN tokenbill.charge_refund.refunded IS 'How much of it came back so far, in the account''s currency';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.charge_refund', '');

CREATE FUNCTION tokenbill.refund(account text, charge_key text, idempotency_key text, amount numeric DEFAULT NULL,
	reason text DEFAULT NULL, metadata jsonb DEFAULT NULL, wait boolean DEFAULT true)
RETURNS tokenbill.receipt
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_refund';
COMMENT ON FUNCTION tokenbill.refund(text, text, text, numeric, text, jsonb, boolean) IS
'Gives back an amount of a charge or capture, or all that is left of it (amount null). Errors: PT404 no such charge, PT409 more than is left, PT403 closed, 22xxx';
