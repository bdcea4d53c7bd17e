/*
 * tenant.c
 *	  Logins that may see and charge one account only.
 *
 * A session is a tenant's when any of its identities is mapped in
 * tokenbill.tenant: its login, the role it has SET, or the role a function runs
 * as.  Looking at all three is what keeps a tenant from leaving by SET ROLE, or
 * through somebody's SECURITY DEFINER function.
 *
 * What is mapped is remembered until the table changes: a trigger on it sends
 * every session an invalidation of the table's relation cache entry, which calls
 * forget() here.
 */
#include "tenant.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "query.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(tokenbill_visible);
PG_FUNCTION_INFO_V1(tokenbill_forget_tenants);

static bool known = false;
static Oid	known_login;
static Oid	known_role;
static Oid	known_user;

/* Accounts the identities are mapped to; none: no tenant. */
static int	mapped_count;
static text *mapped[3];

/* The table that says so; looked up with the mapping. */
static Oid	tenant_table = InvalidOid;

static void
forget(Datum arg, Oid relid)
{
	if (relid == tenant_table || relid == InvalidOid)
		known = false;
}

/*
 * tb_tenant_init
 *		Have the mapping forgotten on invalidations; called once, from _PG_init.
 */
void
tb_tenant_init(void)
{
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
}

static void
look_up(Oid login, Oid role, Oid user)
{
	static Statement query = {
		.sql = "SELECT DISTINCT t.account FROM tokenbill.tenant t"
		" WHERE t.login OPERATOR(pg_catalog.=) ANY (ARRAY[$1, $2, $3]::pg_catalog.oid[])",
		.nargs = 3,
		.types = {OIDOID, OIDOID, OIDOID}
	};
	Datum		values[3];
	MemoryContext old;

	for (int i = 0; i < mapped_count; i++)
		pfree(mapped[i]);
	mapped_count = 0;

	tenant_table = get_relname_relid("tenant",
									 get_namespace_oid("tokenbill", false));

	/* an invalidation that arrives while the query runs must not be lost */
	known = true;
	known_login = login;
	known_role = role;
	known_user = user;

	values[0] = ObjectIdGetDatum(login);
	values[1] = ObjectIdGetDatum(role);
	values[2] = ObjectIdGetDatum(user);
	tb_read(&query, values, NULL);

	old = MemoryContextSwitchTo(TopMemoryContext);
	for (uint64 i = 0; i < SPI_processed && i < lengthof(mapped); i++)
	{
		bool		isnull;
		Datum		account = SPI_getbinval(SPI_tuptable->vals[i],
											SPI_tuptable->tupdesc, 1, &isnull);

		mapped[mapped_count++] = DatumGetTextPCopy(account);
	}
	MemoryContextSwitchTo(old);

	/* an old snapshot's answer is good for this question only */
	if (IsolationUsesXactSnapshot())
		known = false;
}

static bool
is_known(Oid login, Oid role, Oid user)
{
	return known && login == known_login && role == known_role &&
		user == known_user;
}

static bool
may_see(const text *account)
{
	for (int i = 0; i < mapped_count; i++)
	{
		if (VARSIZE_ANY_EXHDR(account) != VARSIZE_ANY_EXHDR(mapped[i]) ||
			memcmp(VARDATA_ANY(account), VARDATA_ANY(mapped[i]),
				   VARSIZE_ANY_EXHDR(account)) != 0)
			return false;
	}
	return true;
}

/*
 * tb_visible_to
 *		Whether this session may see the account.  Needs SPI; user is who called
 *		the function, which tb_enter() keeps in Session.userid.
 */
bool
tb_visible_to(const text *account, Oid user)
{
	Oid			login = GetSessionUserId();
	Oid			role = GetOuterUserId();

	if (!is_known(login, role, user))
		look_up(login, role, user);
	return may_see(account);
}

/*
 * visible(account text) -> boolean
 *		For the views and the functions written in SQL.  Within a SECURITY
 *		DEFINER function the present user is its owner; the login and the role
 *		that was SET are still the caller's.
 */
Datum
tokenbill_visible(PG_FUNCTION_ARGS)
{
	Oid			user = GetUserId();

	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	if (!is_known(GetSessionUserId(), GetOuterUserId(), user))
	{
		Session		session;

		tb_enter(fcinfo, &session);
		look_up(GetSessionUserId(), GetOuterUserId(), user);
		tb_leave(&session);
	}
	PG_RETURN_BOOL(may_see(PG_GETARG_TEXT_PP(0)));
}

/*
 * forget_tenants() -> trigger
 */
Datum
tokenbill_forget_tenants(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("forget_tenants() must be called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
