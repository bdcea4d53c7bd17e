/*
 * Issued tokens: idempotency keys made here, good for one request.
 *
 *   issued -> used | expired
 */
CREATE TABLE tokenbill.issued_token (
	account text COLLATE "C" NOT NULL,
	token text COLLATE "C" NOT NULL,
	status text NOT NULL DEFAULT 'issued' CHECK (status IN ('issued', 'used', 'expired')),
	expires_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL,
	used_at timestamptz,
	PRIMARY KEY (account, token)
);
CREATE INDEX issued_token_open_idx ON tokenbill.issued_token (expires_at, account) WHERE used_at IS NULL;
COMMENT ON TABLE tokenbill.issued_token IS 'One-time idempotency keys; a used one is bound to the ledger line with that key';
COMMENT ON COLUMN tokenbill.issued_token.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.issued_token.token IS 'The key itself';
COMMENT ON COLUMN tokenbill.issued_token.status IS 'issued, used or expired';
COMMENT ON COLUMN tokenbill.issued_token.expires_at IS 'Not to be used from then on';
COMMENT ON COLUMN tokenbill.issued_token.created_at IS 'When it was made';
COMMENT ON COLUMN tokenbill.issued_token.used_at IS 'When it was used';
CREATE TRIGGER forward_only BEFORE UPDATE OR DELETE ON tokenbill.issued_token
FOR EACH ROW EXECUTE FUNCTION tokenbill.forward_only('issued>used', 'issued>expired');
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON tokenbill.issued_token
FOR EACH STATEMENT EXECUTE FUNCTION tokenbill.forward_only();

SELECT pg_catalog.pg_extension_config_dump('tokenbill.issued_token', '');

CREATE FUNCTION tokenbill.issue_token(account text, ttl interval DEFAULT '1 hour') RETURNS text
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_issue_token';
COMMENT ON FUNCTION tokenbill.issue_token(text, interval) IS
'Makes an idempotency key that is good for one request of this account within ttl. Errors: PT403 frozen or closed, PT404, 22xxx';

CREATE FUNCTION tokenbill.token_result(account text, token text) RETURNS tokenbill.receipt
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_token_result';
COMMENT ON FUNCTION tokenbill.token_result(text, text) IS
'The receipt of the request that an issued token was used for, replayed = true. Errors: PT404 unknown, or not used yet';
