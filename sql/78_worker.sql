/*
 * The worker's side of the database: what went wrong, and how it is woken.
 *
 * What the same duty says of the same target again and again is one row with a
 * count.  Messages that differ each time are bounded, too: only the newest fifty
 * of a target are kept.
 */
CREATE TABLE tokenbill.worker_error (
	duty text COLLATE "C" NOT NULL,
	target text COLLATE "C" NOT NULL,
	sqlstate text COLLATE "C" NOT NULL,
	message text COLLATE "C" NOT NULL,
	detail text,
	first_at timestamptz NOT NULL,
	last_at timestamptz NOT NULL,
	count bigint NOT NULL DEFAULT 1,
	PRIMARY KEY (duty, target, sqlstate, message)
) WITH (fillfactor = 70);
CREATE INDEX worker_error_last_idx ON tokenbill.worker_error (last_at);
COMMENT ON TABLE tokenbill.worker_error IS 'What went wrong in the worker, the same thing once with a count';
COMMENT ON COLUMN tokenbill.worker_error.duty IS 'What it was doing';
COMMENT ON COLUMN tokenbill.worker_error.target IS 'Name of the provider or whatever it was doing it to; empty: nothing of a name';
COMMENT ON COLUMN tokenbill.worker_error.sqlstate IS 'SQLSTATE';
COMMENT ON COLUMN tokenbill.worker_error.message IS 'The message, at most 500 characters of it';
COMMENT ON COLUMN tokenbill.worker_error.detail IS 'DETAIL of the last time';
COMMENT ON COLUMN tokenbill.worker_error.first_at IS 'When it was first seen';
COMMENT ON COLUMN tokenbill.worker_error.last_at IS 'When it was last seen';
COMMENT ON COLUMN tokenbill.worker_error.count IS 'How often it was seen';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.worker_error', '');

CREATE FUNCTION tokenbill.record_worker_error(duty text, target text, sqlstate text, message text, detail text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	of_duty text := left(coalesce(record_worker_error.duty, ''), 64);
	of_target text := left(coalesce(record_worker_error.target, ''), 128);
BEGIN
	INSERT INTO tokenbill.worker_error AS e (duty, target, sqlstate, message, detail, first_at, last_at)
	VALUES (of_duty, of_target, left(coalesce(record_worker_error.sqlstate, 'XX000'), 5), left(coalesce(record_worker_error.message, ''), 500),
		left(record_worker_error.detail, 4000), tokenbill.clock(), tokenbill.clock())
	ON CONFLICT ON CONSTRAINT worker_error_pkey DO UPDATE
	SET detail = excluded.detail, last_at = greatest(e.last_at, excluded.last_at), count = e.count + 1;
	DELETE FROM tokenbill.worker_error e
	WHERE e.duty = of_duty AND e.target = of_target AND (e.sqlstate, e.message) IN (
		SELECT o.sqlstate, o.message FROM tokenbill.worker_error o
		WHERE o.duty = of_duty AND o.target = of_target
		ORDER BY o.last_at DESC, o.first_at DESC OFFSET 50);
END
$function$;
COMMENT ON FUNCTION tokenbill.record_worker_error(text, text, text, text, text) IS
'Internal: notes what went wrong in the worker, or that it went wrong again';

CREATE VIEW tokenbill.worker_errors WITH (security_barrier) AS
SELECT e.duty, e.target, e.sqlstate, e.message, e.detail, e.first_at, e.last_at, e.count
FROM tokenbill.worker_error e
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.worker_errors IS 'What went wrong in the worker, the same thing once with a count; kept for tokenbill.error_retention';
COMMENT ON COLUMN tokenbill.worker_errors.duty IS 'What it was doing';
COMMENT ON COLUMN tokenbill.worker_errors.target IS 'Name of the provider or whatever it was doing it to; empty: nothing of a name';
COMMENT ON COLUMN tokenbill.worker_errors.sqlstate IS 'SQLSTATE';
COMMENT ON COLUMN tokenbill.worker_errors.message IS 'The message, at most 500 characters of it';
COMMENT ON COLUMN tokenbill.worker_errors.detail IS 'DETAIL of the last time';
COMMENT ON COLUMN tokenbill.worker_errors.first_at IS 'When it was first seen';
COMMENT ON COLUMN tokenbill.worker_errors.last_at IS 'When it was last seen';
COMMENT ON COLUMN tokenbill.worker_errors.count IS 'How often it was seen';

CREATE FUNCTION tokenbill.wake_worker() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_wake_worker';
COMMENT ON FUNCTION tokenbill.wake_worker() IS
'Internal: wakes this database''s worker when the transaction commits, for something else is due now';
