/*
 * Recharge orders.  order_no is unique for ever and over all accounts.
 *
 *   init -> processing -> success | failed
 *           processing -> requires_action -> processing
 *           processing -> unknown -> processing | success | failed
 *   success -> partially_refunded -> refunded
 *   success -> disputed -> success | refunded
 *
 * Without a gateway the money is there already: init to success in one transaction.
 */
CREATE TABLE tokenbill.recharge_order (
	account text COLLATE "C" NOT NULL,
	order_no text COLLATE "C" NOT NULL,
	amount numeric NOT NULL CHECK (amount > 0),
	currency text NOT NULL,
	status text NOT NULL DEFAULT 'init' CHECK (status IN ('init', 'processing', 'requires_action', 'unknown', 'success', 'failed',
		'partially_refunded', 'refunded', 'disputed')),
	gateway text,
	payment_method text,
	gateway_ref text,
	failure_code text,
	attempts integer NOT NULL DEFAULT 0,
	priority integer NOT NULL DEFAULT 0,
	metadata jsonb,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	PRIMARY KEY (account, order_no),
	CONSTRAINT recharge_order_order_no_key UNIQUE (order_no)
);
/* those that are not settled; without a gateway an order is from the beginning, and stays out */
CREATE INDEX recharge_order_open_idx ON tokenbill.recharge_order (status, created_at, account)
WHERE gateway IS NOT NULL AND status IN ('init', 'processing', 'requires_action', 'unknown', 'disputed');
COMMENT ON TABLE tokenbill.recharge_order IS 'Recharges: one row an order, kept for ever';
COMMENT ON COLUMN tokenbill.recharge_order.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.recharge_order.amount IS 'What is to be credited, in currency';
COMMENT ON COLUMN tokenbill.recharge_order.currency IS 'Currency of the account, and so of all its amounts';
COMMENT ON COLUMN tokenbill.recharge_order.payment_method IS 'What it was paid with: the gateway''s name for it, never a card number';
COMMENT ON COLUMN tokenbill.recharge_order.gateway_ref IS 'The gateway''s name for the payment';
COMMENT ON COLUMN tokenbill.recharge_order.failure_code IS 'Why it failed, in the gateway''s words';
COMMENT ON COLUMN tokenbill.recharge_order.attempts IS 'How often the gateway was asked';
COMMENT ON COLUMN tokenbill.recharge_order.priority IS 'Which orders go first: the lower the sooner';
COMMENT ON COLUMN tokenbill.recharge_order.metadata IS 'The application''s own notes, a JSON object';
COMMENT ON COLUMN tokenbill.recharge_order.created_at IS 'When it was made';
COMMENT ON COLUMN tokenbill.recharge_order.updated_at IS 'When it last changed';
COMMENT ON COLUMN tokenbill.recharge_order.order_no IS 'The application''s order number, unique over all accounts and for ever';
COMMENT ON COLUMN tokenbill.recharge_order.status IS 'init, processing, requires_action, unknown, success, failed, partially_refunded, refunded or disputed';
COMMENT ON COLUMN tokenbill.recharge_order.gateway IS 'Who collects the money; null: it had been received already';
CREATE TRIGGER forward_only BEFORE UPDATE OR DELETE ON tokenbill.recharge_order
FOR EACH ROW EXECUTE FUNCTION tokenbill.forward_only('init>processing', 'init>success',
	'processing>success', 'processing>failed', 'processing>requires_action', 'requires_action>processing',
	'processing>unknown', 'unknown>processing', 'unknown>success', 'unknown>failed',
	'success>partially_refunded', 'success>refunded', 'partially_refunded>refunded',
	'success>disputed', 'disputed>success', 'disputed>refunded');
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON tokenbill.recharge_order
FOR EACH STATEMENT EXECUTE FUNCTION tokenbill.forward_only();

SELECT pg_catalog.pg_extension_config_dump('tokenbill.recharge_order', '');

CREATE TYPE tokenbill.recharge_receipt AS (
	account text,
	order_no text,
	amount numeric,
	currency text,
	status text,
	gateway text,
	payment_method text,
	gateway_ref text,
	failure_code text,
	attempts integer,
	priority integer,
	metadata jsonb,
	created_at timestamptz,
	updated_at timestamptz,
	replayed boolean,
	seq bigint,
	balance numeric,
	available numeric
);
COMMENT ON TYPE tokenbill.recharge_receipt IS 'What recharge() answers: the order, and the ledger line it posted';
COMMENT ON COLUMN tokenbill.recharge_receipt.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.recharge_receipt.order_no IS 'The application''s order number';
COMMENT ON COLUMN tokenbill.recharge_receipt.amount IS 'What is to be credited, in currency';
COMMENT ON COLUMN tokenbill.recharge_receipt.currency IS 'Currency of the account, and so of all its amounts';
COMMENT ON COLUMN tokenbill.recharge_receipt.status IS 'State of the order: success';
COMMENT ON COLUMN tokenbill.recharge_receipt.gateway IS 'Who collected the money; null: it had been received already';
COMMENT ON COLUMN tokenbill.recharge_receipt.payment_method IS 'What it was paid with: the gateway''s name for it, never a card number';
COMMENT ON COLUMN tokenbill.recharge_receipt.gateway_ref IS 'The gateway''s name for the payment';
COMMENT ON COLUMN tokenbill.recharge_receipt.failure_code IS 'Why it failed, in the gateway''s words';
COMMENT ON COLUMN tokenbill.recharge_receipt.attempts IS 'How often the gateway was asked';
COMMENT ON COLUMN tokenbill.recharge_receipt.priority IS 'Which orders go first: the lower the sooner';
COMMENT ON COLUMN tokenbill.recharge_receipt.metadata IS 'The application''s own notes, a JSON object';
COMMENT ON COLUMN tokenbill.recharge_receipt.created_at IS 'When it was made';
COMMENT ON COLUMN tokenbill.recharge_receipt.updated_at IS 'When it last changed';
COMMENT ON COLUMN tokenbill.recharge_receipt.seq IS 'Number of the ledger line; null if its month was dropped';
COMMENT ON COLUMN tokenbill.recharge_receipt.available IS 'balance + credit_limit - held, after the line';
COMMENT ON COLUMN tokenbill.recharge_receipt.replayed IS 'True when the order had been recharged before; nothing moved';
COMMENT ON COLUMN tokenbill.recharge_receipt.balance IS 'Balance after the line';

CREATE FUNCTION tokenbill.recharge(account text, amount numeric, order_no text, gateway text DEFAULT NULL,
	payment_method text DEFAULT NULL, priority integer DEFAULT 0, metadata jsonb DEFAULT NULL, wait boolean DEFAULT true)
RETURNS tokenbill.recharge_receipt
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_recharge';
COMMENT ON FUNCTION tokenbill.recharge(text, numeric, text, text, text, integer, jsonb, boolean) IS
'Credits money that has been received, under an order number that is unique for ever, and returns the order; the same order again is replayed. A gateway is refused for now (0A000). Errors: PT403 closed, PT404, PT409 another order of that number, PT423, 22xxx';
