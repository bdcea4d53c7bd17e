/*
 * Functions that count meters.  A row for a service goes before the one for all
 * ('*'), which counts for services that have a price for the meter.  Sessions
 * keep them with the prices.
 *
 * A function is kept by name and not by regprocedure: pg_upgrade carries no such
 * columns.  Its owner is kept beside it, because it runs as that one: if it comes
 * to have another it is not called (src/callee.c).
 */
CREATE TABLE tokenbill.meter_function (
	service text COLLATE "C" NOT NULL,
	meter text COLLATE "C" NOT NULL,
	function_schema text COLLATE "C" NOT NULL,
	function_name text COLLATE "C" NOT NULL,
	takes_options boolean NOT NULL,
	owner text COLLATE "C",
	options jsonb NOT NULL,
	covers text[] NOT NULL,
	forgets text[] NOT NULL,
	builtin boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL,
	PRIMARY KEY (service, meter)
);
COMMENT ON TABLE tokenbill.meter_function IS 'Functions that count meters from usage objects; service ''*'' is for all';
COMMENT ON COLUMN tokenbill.meter_function.service IS 'Service whose meter it is, or * for all that have a price for it';
COMMENT ON COLUMN tokenbill.meter_function.meter IS 'What it counts';
COMMENT ON COLUMN tokenbill.meter_function.function_schema IS 'Schema of the function';
COMMENT ON COLUMN tokenbill.meter_function.function_name IS 'Name of the function';
COMMENT ON COLUMN tokenbill.meter_function.takes_options IS 'It takes (jsonb, jsonb), the usage and the options; else (jsonb)';
COMMENT ON COLUMN tokenbill.meter_function.owner IS 'Role that it runs as; null for the extension''s own';
COMMENT ON COLUMN tokenbill.meter_function.options IS 'What the function is given beside the usage';
COMMENT ON COLUMN tokenbill.meter_function.covers IS 'Members and meters of the usage that its count stands for; * for all';
COMMENT ON COLUMN tokenbill.meter_function.forgets IS 'Members with texts of which a ledger line keeps the counts only';
COMMENT ON COLUMN tokenbill.meter_function.builtin IS 'Came with the extension';
COMMENT ON COLUMN tokenbill.meter_function.created_at IS 'When it was set';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.meter_function', 'WHERE NOT builtin');

/* a price of each call is taken of each call, without its usage saying so */
INSERT INTO tokenbill.meter_function (service, meter, function_schema, function_name, takes_options, options, covers, forgets, builtin, created_at)
VALUES ('*', 'requests', 'tokenbill', 'count_requests', true, '{}', '{}', '{}', true, pg_catalog.now());

CREATE TRIGGER forget_prices AFTER INSERT OR UPDATE OR DELETE ON tokenbill.meter_function
FOR EACH ROW EXECUTE FUNCTION tokenbill.forget_prices();
CREATE TRIGGER forget_prices_truncate AFTER TRUNCATE ON tokenbill.meter_function
FOR EACH STATEMENT EXECUTE FUNCTION tokenbill.forget_prices();
ALTER TABLE tokenbill.meter_function ENABLE ALWAYS TRIGGER forget_prices;
ALTER TABLE tokenbill.meter_function ENABLE ALWAYS TRIGGER forget_prices_truncate;

CREATE FUNCTION tokenbill.set_meter_function(meter text, function regprocedure, service text DEFAULT NULL,
	options jsonb DEFAULT NULL, covers text[] DEFAULT NULL, forgets text[] DEFAULT NULL)
RETURNS tokenbill.meter_function
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_set_meter_function';
COMMENT ON FUNCTION tokenbill.set_meter_function(text, regprocedure, text, jsonb, text[], text[]) IS
'Has a function count a meter, of one service or of all, where the usage does not carry it; null takes it away. Errors: 42501 not the function''s owner, PT409 built in, 22xxx';

CREATE VIEW tokenbill.meter_functions WITH (security_barrier) AS
SELECT f.service, f.meter,
	pg_catalog.format('%I.%I(jsonb%s)', f.function_schema, f.function_name, CASE WHEN f.takes_options THEN ', jsonb' END) AS function,
	f.owner, f.options, f.covers, f.forgets, f.created_at
FROM tokenbill.meter_function f;
COMMENT ON VIEW tokenbill.meter_functions IS 'Functions that count meters from usage objects';
COMMENT ON COLUMN tokenbill.meter_functions.service IS 'Service whose meter it is, or * for all that have a price for it';
COMMENT ON COLUMN tokenbill.meter_functions.meter IS 'What it counts';
COMMENT ON COLUMN tokenbill.meter_functions.function IS 'The function, with the types of its arguments';
COMMENT ON COLUMN tokenbill.meter_functions.owner IS 'Role that it runs as; null for the extension''s own';
COMMENT ON COLUMN tokenbill.meter_functions.options IS 'What the function is given beside the usage';
COMMENT ON COLUMN tokenbill.meter_functions.covers IS 'Members and meters of the usage that its count stands for; * for all';
COMMENT ON COLUMN tokenbill.meter_functions.forgets IS 'Members with texts of which a ledger line keeps the counts only';
COMMENT ON COLUMN tokenbill.meter_functions.created_at IS 'When it was set';
