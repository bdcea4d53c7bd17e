/*
 * Calls to the outside: what the worker is told to do, the numbers by which it
 * takes them on, and when one that failed is made again.  The worker knows no
 * vendor: it carries a call out and hands back what came of it.
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

CREATE FUNCTION tokenbill.lease_end() RETURNS timestamptz
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	/* the worker gives up by itself long before, and waits for the master key at most so long */
	RETURN tokenbill.clock() + coalesce(current_setting('tokenbill.request_timeout', true), '20s')::interval
		+ coalesce(current_setting('tokenbill.key_command_timeout', true), '10s')::interval + interval '2 minutes';
END
$function$;
COMMENT ON FUNCTION tokenbill.lease_end() IS 'Internal: until when the answer to a request that is made now is waited for';

/* ---- when it is made again */

CREATE FUNCTION tokenbill.retry_delays() RETURNS interval[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN string_to_array(coalesce(current_setting('tokenbill.retry_delays', true), '1s, 3s, 5s'), ',')::interval[];
END
$function$;
COMMENT ON FUNCTION tokenbill.retry_delays() IS 'Internal: the waits of the setting of that name';

/* How long until a failed request is tried again; null: that was the last time. */
CREATE FUNCTION tokenbill.retry_delay(attempt integer) RETURNS interval
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	/* up to half as much again: those that failed together do not come back together */
	RETURN (tokenbill.retry_delays())[retry_delay.attempt] * (1 + random() / 2);
END
$function$;
COMMENT ON FUNCTION tokenbill.retry_delay(integer) IS 'Internal: the wait before the retry of that number, jitter included; null: there is none';

/* Twice as long each time.  After so many doublings everything is longer than longest, and more might be more than an interval holds. */
CREATE FUNCTION tokenbill.backoff(first interval, doublings integer, longest interval) RETURNS interval
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN least(backoff.first * (2 ^ least(backoff.doublings, 12)), backoff.longest);
END
$function$;
COMMENT ON FUNCTION tokenbill.backoff(interval, integer, interval) IS 'Internal: first, doubled so many times, but longest at most';

CREATE FUNCTION tokenbill.capped_retry_after(headers jsonb, status integer) RETURNS interval
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	asked interval := tokenbill.retry_after(capped_retry_after.headers, capped_retry_after.status);
BEGIN
	RETURN CASE WHEN asked > '1 hour' THEN '1 hour' ELSE asked END;
END
$function$;
COMMENT ON FUNCTION tokenbill.capped_retry_after(jsonb, integer) IS 'Internal: retry_after(), but an hour at most';
