/*
 * Tenants: logins that may see and charge one account only.
 *
 * A session is a tenant's when its login (session_user) or its present role
 * (current_user) is mapped, so SET ROLE does not lead out of it.
 */
CREATE TABLE tokenbill.tenant (
	login regrole NOT NULL PRIMARY KEY,
	account text COLLATE "C" NOT NULL
);
COMMENT ON TABLE tokenbill.tenant IS 'Logins that may see and charge one account only; every other login with a tokenbill role sees all';
COMMENT ON COLUMN tokenbill.tenant.login IS 'The role';
COMMENT ON COLUMN tokenbill.tenant.account IS 'The one account it sees';
SELECT pg_catalog.pg_extension_config_dump('tokenbill.tenant', '');

CREATE FUNCTION tokenbill.forget_tenants() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tokenbill_forget_tenants';
COMMENT ON FUNCTION tokenbill.forget_tenants() IS 'Trigger: every session looks its mapping up anew when this transaction commits';
CREATE TRIGGER forget_tenants AFTER INSERT OR UPDATE OR DELETE ON tokenbill.tenant
FOR EACH ROW EXECUTE FUNCTION tokenbill.forget_tenants();
ALTER TABLE tokenbill.tenant ENABLE ALWAYS TRIGGER forget_tenants;

CREATE FUNCTION tokenbill.map_tenant(login name, account text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	mapped regrole := to_regrole(quote_ident(map_tenant.login));
BEGIN
	PERFORM tokenbill.check_text('login', map_tenant.login::text, 63), tokenbill.check_text('account', map_tenant.account, 128);
	IF mapped IS NULL THEN
		PERFORM tokenbill.refuse('42704', format('role "%s" does not exist', map_tenant.login),
			jsonb_build_object('login', map_tenant.login), 'Create the login first and grant it tokenbill_app.');
	END IF;
	IF NOT EXISTS (SELECT FROM tokenbill.account a WHERE a.account = map_tenant.account) THEN
		PERFORM tokenbill.refuse_account(map_tenant.account);
	END IF;
	INSERT INTO tokenbill.tenant AS t (login, account) VALUES (mapped, map_tenant.account)
	ON CONFLICT (login) DO UPDATE SET account = excluded.account;
END
$function$;
COMMENT ON FUNCTION tokenbill.map_tenant(name, text) IS
'From now on the login sees and charges this account only. Errors: PT404 account, 42704 role';

CREATE FUNCTION tokenbill.unmap_tenant(login name) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
	PERFORM tokenbill.check_text('login', unmap_tenant.login::text, 63);
	DELETE FROM tokenbill.tenant t WHERE t.login = to_regrole(quote_ident(unmap_tenant.login));
	RETURN FOUND;
END
$function$;
COMMENT ON FUNCTION tokenbill.unmap_tenant(name) IS
'The login is no tenant any more: it sees whatever its roles allow. Returns whether it was one';
