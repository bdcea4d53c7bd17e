/*
 * Schema and roles.
 *
 * The schema is created here, not by the control file: CREATE EXTENSION would
 * silently adopt a schema of that name that somebody else had planted, a bare
 * CREATE SCHEMA fails instead, and makes the schema a member of the extension.
 */
CREATE SCHEMA tokenbill;
COMMENT ON SCHEMA tokenbill IS 'Prepaid billing of AI API calls: accounts, ledger, holds, prices, orders';
REVOKE ALL ON SCHEMA tokenbill FROM PUBLIC;

/*
 * Roles belong to the cluster, so a second database finds them there already.
 * An existing role is used as it is: the names are tokenbill's own.
 */
DO $do$
DECLARE
	wanted pg_catalog.text;
BEGIN
	FOREACH wanted IN ARRAY ARRAY['tokenbill_app', 'tokenbill_billing', 'tokenbill_reader', 'tokenbill_admin']
	LOOP
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) wanted::pg_catalog.name) THEN
			EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
		END IF;
	END LOOP;
END
$do$;

GRANT tokenbill_app, tokenbill_billing, tokenbill_reader TO tokenbill_admin;
GRANT USAGE ON SCHEMA tokenbill TO tokenbill_app, tokenbill_billing, tokenbill_reader, tokenbill_admin;
