/*
 * Webhooks: addresses that alerts are sent to.  What is to be sent is a row,
 * written with the alert; the worker claims it, sends it, and records what came
 * of it.  The delivery's number is the key by which a receiver knows a request
 * that it gets twice, and its body is the same to the byte each time.
 *
 *   pending -> sent      the receiver answered with 2xx
 *   pending -> failed    it did not, for a day
 */
CREATE TABLE tokenbill.alert_webhook (
	name text COLLATE "C" NOT NULL PRIMARY KEY,
	url text NOT NULL,
	secret text,
	kinds text[],
	enabled boolean NOT NULL DEFAULT true,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL
);
COMMENT ON TABLE tokenbill.alert_webhook IS 'Addresses that alerts are sent to';
COMMENT ON COLUMN tokenbill.alert_webhook.name IS 'Name, chosen by whoever added it';
COMMENT ON COLUMN tokenbill.alert_webhook.url IS 'Where to; {secret} in it is replaced in the worker';
COMMENT ON COLUMN tokenbill.alert_webhook.secret IS 'Name of the secret that signs the requests, or is part of the address; null: none';
COMMENT ON COLUMN tokenbill.alert_webhook.kinds IS 'Which kinds of alerts; null: all';
COMMENT ON COLUMN tokenbill.alert_webhook.enabled IS 'Whether anything is sent to it; what is pending waits';
COMMENT ON COLUMN tokenbill.alert_webhook.created_at IS 'When it was added';
COMMENT ON COLUMN tokenbill.alert_webhook.updated_at IS 'When it was last changed';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.alert_webhook', '');

CREATE TABLE tokenbill.alert_delivery (
	delivery uuid NOT NULL PRIMARY KEY,
	webhook text COLLATE "C" NOT NULL,
	alert bigint NOT NULL,
	event integer NOT NULL,
	body text NOT NULL,
	state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'failed')),
	attempts integer NOT NULL DEFAULT 0,
	next_at timestamptz,
	lease bigint,
	lease_until timestamptz,
	status integer,
	error text,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	CHECK ((state = 'pending') = (next_at IS NOT NULL)),
	CHECK (state = 'pending' OR lease_until IS NULL)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX alert_delivery_event_idx ON tokenbill.alert_delivery (alert, webhook, event);
CREATE INDEX alert_delivery_next_idx ON tokenbill.alert_delivery (next_at) WHERE state = 'pending';
COMMENT ON TABLE tokenbill.alert_delivery IS 'What is sent to a webhook, and what came of it';
COMMENT ON COLUMN tokenbill.alert_delivery.delivery IS 'Its number, the same on every attempt';
COMMENT ON COLUMN tokenbill.alert_delivery.webhook IS 'Name of the webhook';
COMMENT ON COLUMN tokenbill.alert_delivery.alert IS 'Number of the alert';
COMMENT ON COLUMN tokenbill.alert_delivery.event IS 'Which of the alert''s events, from 1 on';
COMMENT ON COLUMN tokenbill.alert_delivery.body IS 'What is sent, the same on every attempt';
COMMENT ON COLUMN tokenbill.alert_delivery.state IS 'pending, sent or failed';
COMMENT ON COLUMN tokenbill.alert_delivery.attempts IS 'How often it was tried';
COMMENT ON COLUMN tokenbill.alert_delivery.next_at IS 'When it is tried next; null: never';
COMMENT ON COLUMN tokenbill.alert_delivery.lease IS 'Number of the newest claim';
COMMENT ON COLUMN tokenbill.alert_delivery.lease_until IS 'Until when the claim holds; null: it is not claimed';
COMMENT ON COLUMN tokenbill.alert_delivery.status IS 'HTTP status of the newest answer; null: there was none';
COMMENT ON COLUMN tokenbill.alert_delivery.error IS 'Why the newest attempt failed; null: it did not';
COMMENT ON COLUMN tokenbill.alert_delivery.created_at IS 'When the event was';
COMMENT ON COLUMN tokenbill.alert_delivery.updated_at IS 'When it last changed';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.alert_delivery', '');

CREATE TRIGGER only_moves BEFORE UPDATE OF state ON tokenbill.alert_delivery
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
EXECUTE FUNCTION tokenbill.only_moves('delivery', 'pending>sent', 'pending>failed');

CREATE FUNCTION tokenbill.check_webhook(name text, url text, secret text, kinds text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	kind text;
BEGIN
	PERFORM tokenbill.check_no_tenant('name');
	PERFORM tokenbill.check_text('name', check_webhook.name, 128);
	IF check_webhook.url IS NOT NULL THEN
		PERFORM tokenbill.check_text('url', check_webhook.url, 2048);
		/* no blanks, and nobody's password before the host: the address is shown in views */
		IF check_webhook.url !~ '^https?://[^\s/?#@]+([/?#]\S*)?$' THEN
			PERFORM tokenbill.refuse('22023', 'url must be an address that begins with https://', '{"argument": "url"}',
				'Write what is secret in it as {secret}, and pass the name of the secret.');
		END IF;
	END IF;
	IF check_webhook.secret IS NOT NULL THEN
		PERFORM tokenbill.check_text('secret', check_webhook.secret, 255);
	END IF;
	IF cardinality(check_webhook.kinds) = 0 OR array_ndims(check_webhook.kinds) > 1 THEN
		PERFORM tokenbill.refuse('22023', 'kinds must be a list of kinds of alerts', '{"argument": "kinds"}', 'Pass null for all of them.');
	END IF;
	FOREACH kind IN ARRAY coalesce(check_webhook.kinds, '{}') LOOP
		PERFORM tokenbill.check_alert_kind('kinds', kind);
	END LOOP;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_webhook(text, text, text, text[]) IS
'Internal: raises what is wrong with the settings of a webhook (22004, 22023, 42501); a null is not looked at but as name';

CREATE FUNCTION tokenbill.check_webhook_secret(hook tokenbill.alert_webhook) RETURNS tokenbill.alert_webhook
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF hook.secret IS NULL AND position('{secret}' IN hook.url) > 0 THEN
		PERFORM tokenbill.refuse('22023', 'url has a place for a secret, and there is none', '{"argument": "secret"}',
			'Pass the name of the secret.');
	END IF;
	RETURN hook;
END
$function$;
COMMENT ON FUNCTION tokenbill.check_webhook_secret(tokenbill.alert_webhook) IS
'Internal: returns the webhook, or raises that its address needs a secret (22023)';

CREATE FUNCTION tokenbill.refuse_webhook(name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	PERFORM tokenbill.refuse('PT404', format('webhook "%s" does not exist', refuse_webhook.name),
		jsonb_build_object('webhook', refuse_webhook.name), 'Add it with tokenbill.add_alert_webhook().');
END
$function$;
COMMENT ON FUNCTION tokenbill.refuse_webhook(text) IS 'Internal: raises that the webhook does not exist (PT404)';

CREATE FUNCTION tokenbill.add_alert_webhook(name text, url text, secret text DEFAULT NULL, kinds text[] DEFAULT NULL)
RETURNS tokenbill.alert_webhook
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	made tokenbill.alert_webhook;
BEGIN
	PERFORM tokenbill.check_text('url', add_alert_webhook.url, 2048);
	PERFORM tokenbill.check_webhook(add_alert_webhook.name, add_alert_webhook.url, add_alert_webhook.secret, add_alert_webhook.kinds);
	INSERT INTO tokenbill.alert_webhook AS w (name, url, secret, kinds, created_at, updated_at)
	VALUES (add_alert_webhook.name, add_alert_webhook.url, add_alert_webhook.secret, add_alert_webhook.kinds, tokenbill.clock(), tokenbill.clock())
	ON CONFLICT ON CONSTRAINT alert_webhook_pkey DO NOTHING
	RETURNING w.* INTO made;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse('PT409', format('webhook "%s" exists already', add_alert_webhook.name),
			jsonb_build_object('webhook', add_alert_webhook.name), 'Change it with tokenbill.set_alert_webhook(), or choose another name.');
	END IF;
	RETURN tokenbill.check_webhook_secret(made);
END
$function$;
COMMENT ON FUNCTION tokenbill.add_alert_webhook(text, text, text, text[]) IS
'Adds an address that alerts are sent to from now on, all or some kinds, signed with the secret of that name; returns its row. Errors: PT409 exists, 22xxx';

CREATE FUNCTION tokenbill.set_alert_webhook(name text, url text DEFAULT NULL, secret text DEFAULT NULL, kinds text[] DEFAULT NULL, enabled boolean DEFAULT NULL)
RETURNS tokenbill.alert_webhook
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	changed tokenbill.alert_webhook;
BEGIN
	PERFORM tokenbill.check_webhook(set_alert_webhook.name, set_alert_webhook.url, set_alert_webhook.secret, set_alert_webhook.kinds);
	UPDATE tokenbill.alert_webhook w
	SET url = coalesce(set_alert_webhook.url, w.url), secret = coalesce(set_alert_webhook.secret, w.secret),
		kinds = coalesce(set_alert_webhook.kinds, w.kinds), enabled = coalesce(set_alert_webhook.enabled, w.enabled),
		updated_at = tokenbill.clock()
	WHERE w.name = set_alert_webhook.name
	RETURNING w.* INTO changed;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_webhook(set_alert_webhook.name);
	END IF;
	PERFORM tokenbill.wake_worker();
	RETURN tokenbill.check_webhook_secret(changed);
END
$function$;
COMMENT ON FUNCTION tokenbill.set_alert_webhook(text, text, text, text[], boolean) IS
'Changes a webhook, or, with enabled false, sends nothing to it; null leaves a setting as it is. Returns its row. Errors: PT404, 22xxx';

CREATE FUNCTION tokenbill.drop_alert_webhook(name text) RETURNS tokenbill.alert_webhook
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	gone tokenbill.alert_webhook;
BEGIN
	PERFORM tokenbill.check_webhook(drop_alert_webhook.name, NULL, NULL, NULL);
	DELETE FROM tokenbill.alert_webhook w WHERE w.name = drop_alert_webhook.name RETURNING w.* INTO gone;
	IF NOT FOUND THEN
		PERFORM tokenbill.refuse_webhook(drop_alert_webhook.name);
	END IF;
	DELETE FROM tokenbill.alert_delivery d WHERE d.webhook = drop_alert_webhook.name;
	RETURN gone;
END
$function$;
COMMENT ON FUNCTION tokenbill.drop_alert_webhook(text) IS
'Drops a webhook with all that was and was to be sent to it, and returns the row it had. Errors: PT404, 22xxx';

/* that webhooks fail is sent to none: it would go on for ever */
CREATE FUNCTION tokenbill.queue_webhooks(alert bigint, kind text, subject text, event integer, said jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
	INSERT INTO tokenbill.alert_delivery (delivery, webhook, alert, event, body, next_at, created_at, updated_at)
	SELECT n.delivery, w.name, queue_webhooks.alert, queue_webhooks.event,
		(queue_webhooks.said || jsonb_build_object('delivery', n.delivery, 'webhook', w.name))::text, n.now, n.now, n.now
	FROM tokenbill.alert_webhook w
	CROSS JOIN LATERAL (SELECT gen_random_uuid() AS delivery, tokenbill.clock() AS now WHERE w.name IS NOT NULL) n
	WHERE w.enabled AND (w.kinds IS NULL OR queue_webhooks.kind = ANY (w.kinds))
		AND NOT (queue_webhooks.kind = 'worker_error' AND queue_webhooks.subject = 'webhook');
	IF FOUND THEN
		PERFORM tokenbill.wake_worker(tokenbill.clock(), alerts => false);
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.queue_webhooks(bigint, text, text, integer, jsonb) IS
'Internal: writes down what the webhooks are to be sent of an alert';

/*
 * What may be sent, and when.  The events of an alert go to a webhook one after
 * the other: none says that it is cleared, and then that it is raised.
 */
CREATE FUNCTION tokenbill.pending_webhooks() RETURNS TABLE (delivery uuid, due timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT d.delivery, GREATEST(d.next_at, d.lease_until)
	FROM tokenbill.alert_delivery d
	JOIN tokenbill.alert_webhook w ON w.name OPERATOR(pg_catalog.=) d.webhook AND w.enabled
	WHERE d.state OPERATOR(pg_catalog.=) 'pending'
		AND NOT EXISTS (SELECT FROM tokenbill.alert_delivery e
			WHERE e.alert OPERATOR(pg_catalog.=) d.alert AND e.webhook OPERATOR(pg_catalog.=) d.webhook
				AND e.event OPERATOR(pg_catalog.<) d.event AND e.state OPERATOR(pg_catalog.=) 'pending');
END;
COMMENT ON FUNCTION tokenbill.pending_webhooks() IS 'Internal: the deliveries that may be sent, and when each is due';

CREATE FUNCTION tokenbill.next_webhook_due() RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	RETURN (SELECT min(p.due) FROM tokenbill.pending_webhooks() p);
END
$function$;
COMMENT ON FUNCTION tokenbill.next_webhook_due() IS 'Internal: when claim_webhooks() has something to do; null: never';

CREATE FUNCTION tokenbill.claim_webhooks(max integer) RETURNS SETOF tokenbill.http_call
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	now timestamptz := tokenbill.clock();
BEGIN
	RETURN QUERY
	WITH due AS (
		SELECT d.delivery
		FROM tokenbill.alert_delivery d
		JOIN tokenbill.pending_webhooks() p ON p.delivery = d.delivery AND p.due <= now
		WHERE d.state = 'pending'
		ORDER BY d.next_at, d.delivery LIMIT claim_webhooks.max
		FOR NO KEY UPDATE OF d SKIP LOCKED
	), claimed AS (
		UPDATE tokenbill.alert_delivery d
		SET lease = nextval('tokenbill.call_lease'), lease_until = greatest(now + interval '5 minutes', tokenbill.lease_end()), attempts = d.attempts + 1, updated_at = now
		FROM due WHERE d.delivery = due.delivery AND d.state = 'pending' AND (d.lease_until IS NULL OR d.lease_until <= now)
		RETURNING d.*
	)
	SELECT 'webhook', c.delivery::text, c.lease, 'POST', w.url,
		jsonb_build_object('Content-Type', 'application/json', 'Idempotency-Key', c.delivery::text),
		c.body, w.secret, CASE WHEN w.secret IS NOT NULL AND position('{secret}' IN w.url) = 0 THEN 'hmac_sha256' END,
		NULL::integer, NULL::integer, NULL::jsonb
	FROM claimed c JOIN tokenbill.alert_webhook w ON w.name = c.webhook;
END
$function$;
COMMENT ON FUNCTION tokenbill.claim_webhooks(integer) IS
'Internal: takes on deliveries that are due, at most max, and returns the requests to make; a claim holds for five minutes, or for as long as a request and tokenbill.key_command may take';

/* as tokenbill.retry_delays says, and then twice as long each time, up to an hour; half as long again at most, by chance */
CREATE FUNCTION tokenbill.webhook_delay(attempt integer) RETURNS interval
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	delays interval[] := tokenbill.retry_delays();
	listed integer := cardinality(delays);
	wait interval := delays[least(webhook_delay.attempt, listed)];
BEGIN
	IF webhook_delay.attempt > listed THEN
		wait := greatest(wait, '1 second');
	END IF;
	RETURN tokenbill.backoff(wait, greatest(webhook_delay.attempt - listed, 0), '1 hour') * (1 + random() / 2);
END
$function$;
COMMENT ON FUNCTION tokenbill.webhook_delay(integer) IS 'Internal: how long to wait after the attempt of that number';

CREATE FUNCTION tokenbill.record_webhook(target text, lease bigint, status integer, headers jsonb, body bytea, error text,
	error_kind text, duration_ms integer)
RETURNS SETOF tokenbill.http_call
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	d tokenbill.alert_delivery;
	now timestamptz := tokenbill.clock();
	good boolean := coalesce(record_webhook.status BETWEEN 200 AND 299, false);
	asked interval := tokenbill.capped_retry_after(record_webhook.headers, record_webhook.status);
BEGIN
	SELECT x.* INTO d FROM tokenbill.alert_delivery x
	WHERE x.delivery::text = record_webhook.target AND x.lease = record_webhook.lease AND x.state = 'pending' FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	d.lease_until := NULL;
	IF good THEN
		d.state := 'sent';
		d.status := record_webhook.status;
		d.error := NULL;
		d.next_at := NULL;
	ELSE
		d.status := record_webhook.status;
		d.error := left(coalesce(record_webhook.error, 'HTTP ' || record_webhook.status, 'no answer'), 250);
		IF now >= d.created_at + interval '1 day' THEN
			d.state := 'failed';
			d.next_at := NULL;
			PERFORM tokenbill.record_worker_error('webhook', d.webhook, '58000',
				format('an alert could not be sent to webhook "%s" for a day', d.webhook), d.error);
		ELSE
			d.next_at := now + greatest(tokenbill.webhook_delay(d.attempts), asked);
		END IF;
	END IF;
	UPDATE tokenbill.alert_delivery x
	SET state = d.state, attempts = d.attempts, next_at = d.next_at, lease_until = d.lease_until, status = d.status, error = d.error, updated_at = now
	WHERE x.delivery = d.delivery;
END
$function$;
COMMENT ON FUNCTION tokenbill.record_webhook(text, bigint, integer, jsonb, bytea, text, text, integer) IS
'Internal: what came of a delivery; anything but 2xx is tried again for a day. Returns no further requests';

/*
 * An answer may be what ended the worker that waited for it, and would end the
 * next one just so: then it is tried again as after any other failure, and given
 * up after a day.  Otherwise it is sent again at once, for nobody knows whether
 * it was received.
 */
CREATE FUNCTION tokenbill.release_webhooks(ended_badly boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF release_webhooks.ended_badly THEN
		PERFORM tokenbill.record_webhook(d.delivery::text, d.lease, NULL, '{}', NULL, 'the worker that waited for the answer has ended by itself', 'protocol', NULL)
		FROM (SELECT x.delivery, x.lease FROM tokenbill.alert_delivery x WHERE x.state = 'pending' AND x.lease_until IS NOT NULL) d;
	ELSE
		UPDATE tokenbill.alert_delivery d SET lease_until = NULL WHERE d.state = 'pending' AND d.lease_until IS NOT NULL;
	END IF;
END
$function$;
COMMENT ON FUNCTION tokenbill.release_webhooks(boolean) IS
'Internal: gives up all claims on deliveries, for a worker that has just begun; if the one before it ended badly, they have failed once more';

CREATE VIEW tokenbill.alert_webhooks WITH (security_barrier) AS
SELECT w.name, w.url, w.secret, w.kinds, w.enabled, d.pending, d.failed, d.sent_at, d.error, w.created_at, w.updated_at
FROM tokenbill.alert_webhook w
CROSS JOIN LATERAL (
	SELECT pg_catalog.count(*) FILTER (WHERE x.state OPERATOR(pg_catalog.=) 'pending') AS pending,
		pg_catalog.count(*) FILTER (WHERE x.state OPERATOR(pg_catalog.=) 'failed') AS failed,
		pg_catalog.max(x.updated_at) FILTER (WHERE x.state OPERATOR(pg_catalog.=) 'sent') AS sent_at,
		(pg_catalog.array_agg(x.error ORDER BY x.updated_at USING OPERATOR(pg_catalog.>)) FILTER (WHERE x.attempts OPERATOR(pg_catalog.>) 0))[1] AS error
	FROM tokenbill.alert_delivery x
	WHERE x.webhook OPERATOR(pg_catalog.=) w.name
) d
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.alert_webhooks IS 'Addresses that alerts are sent to, and how that goes; none for a tenant';
COMMENT ON COLUMN tokenbill.alert_webhooks.name IS 'Its name';
COMMENT ON COLUMN tokenbill.alert_webhooks.url IS 'Where to; {secret} stands for the secret';
COMMENT ON COLUMN tokenbill.alert_webhooks.secret IS 'Name of the secret; null: none';
COMMENT ON COLUMN tokenbill.alert_webhooks.kinds IS 'Which kinds of alerts; null: all';
COMMENT ON COLUMN tokenbill.alert_webhooks.enabled IS 'Whether anything is sent to it; what is pending waits';
COMMENT ON COLUMN tokenbill.alert_webhooks.pending IS 'Deliveries that are to be sent';
COMMENT ON COLUMN tokenbill.alert_webhooks.failed IS 'Deliveries that were given up, of the alerts that are kept';
COMMENT ON COLUMN tokenbill.alert_webhooks.sent_at IS 'When one was received last';
COMMENT ON COLUMN tokenbill.alert_webhooks.error IS 'Why the newest attempt failed; null: it did not';
COMMENT ON COLUMN tokenbill.alert_webhooks.created_at IS 'When it was added';
COMMENT ON COLUMN tokenbill.alert_webhooks.updated_at IS 'When it was last changed';

CREATE VIEW tokenbill.alert_deliveries WITH (security_barrier) AS
SELECT d.delivery, d.webhook, d.alert, d.event, d.state, d.attempts, d.next_at, d.status, d.error, d.created_at, d.updated_at
FROM tokenbill.alert_delivery d
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.alert_deliveries IS 'What was and is to be sent to webhooks; none for a tenant';
COMMENT ON COLUMN tokenbill.alert_deliveries.delivery IS 'Its number, sent as Idempotency-Key, the same on every attempt';
COMMENT ON COLUMN tokenbill.alert_deliveries.webhook IS 'Name of the webhook';
COMMENT ON COLUMN tokenbill.alert_deliveries.alert IS 'Number of the alert';
COMMENT ON COLUMN tokenbill.alert_deliveries.event IS 'Which of the alert''s events, from 1 on';
COMMENT ON COLUMN tokenbill.alert_deliveries.state IS 'pending, sent or failed';
COMMENT ON COLUMN tokenbill.alert_deliveries.attempts IS 'How often it was tried';
COMMENT ON COLUMN tokenbill.alert_deliveries.next_at IS 'When it is tried next; null: never';
COMMENT ON COLUMN tokenbill.alert_deliveries.status IS 'HTTP status of the newest answer; null: there was none';
COMMENT ON COLUMN tokenbill.alert_deliveries.error IS 'Why the newest attempt failed; null: it did not';
COMMENT ON COLUMN tokenbill.alert_deliveries.created_at IS 'When the event was';
COMMENT ON COLUMN tokenbill.alert_deliveries.updated_at IS 'When it last changed';
