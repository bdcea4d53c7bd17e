/*
 * Calls to the outside: what the worker is told to do, and the numbers by which
 * it takes them on.  The worker knows no vendor: it carries a call out and
 * hands back what came of it.
 *
 * Every call is taken on with a new number, a lease.  What comes back under
 * another one than the row has by then comes too late and is ignored.
 */
CREATE SEQUENCE tokenbill.call_lease;
COMMENT ON SEQUENCE tokenbill.call_lease IS 'Numbers under which the worker takes calls on';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.call_lease', '');

CREATE TYPE tokenbill.http_call AS (
	purpose text,
	target text,
	lease bigint,
	method text,
	url text,
	headers jsonb,
	body text,
	secret text,
	auth text,
	timeout_ms integer,
	max_bytes integer,
	secrets jsonb
);
COMMENT ON TYPE tokenbill.http_call IS 'A request that the worker is to make';
COMMENT ON COLUMN tokenbill.http_call.purpose IS 'What it is for: provider, webhook, device or token';
COMMENT ON COLUMN tokenbill.http_call.target IS 'Name of the provider, or of the delivery';
COMMENT ON COLUMN tokenbill.http_call.lease IS 'Number of the claim; an answer under another one is ignored';
COMMENT ON COLUMN tokenbill.http_call.method IS 'GET, POST ...';
COMMENT ON COLUMN tokenbill.http_call.url IS 'Where to; {secret} in it is replaced in the worker. Null: nobody is asked, access_token of secrets is the result';
COMMENT ON COLUMN tokenbill.http_call.headers IS 'Object of names and values; {secret} in a value is replaced in the worker';
COMMENT ON COLUMN tokenbill.http_call.body IS 'What is sent; null: nothing';
COMMENT ON COLUMN tokenbill.http_call.secret IS 'Name of the secret; null: it needs none';
COMMENT ON COLUMN tokenbill.http_call.auth IS 'How the worker signs it: aliyun, volcengine or hmac_sha256; null: not';
COMMENT ON COLUMN tokenbill.http_call.timeout_ms IS 'How long it may take; null: tokenbill.request_timeout';
COMMENT ON COLUMN tokenbill.http_call.max_bytes IS 'How long the answer may be; null: tokenbill.max_response_size';
COMMENT ON COLUMN tokenbill.http_call.secrets IS 'Further variables, in url, headers and body, which is a form then. Object of name and {secret: its name; user: made into the credentials of HTTP Basic; jwt: alg, header and claims of what is signed with it}; null: none';
