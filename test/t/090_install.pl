# Installing: a fresh install is what an upgrade leads to; by another superuser;
# into a database where somebody has planted a schema or functions; with roles
# that are there already; into a second database; with the library preloaded
# and not; and DROP EXTENSION.
use strict;
use warnings;
use FindBin;
use IPC::Run ();
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server;

my $server = Tokenbill::Server->new('main');
$server->begin(no_extension => 1);

sub database
{
	my ($name, @statements) = @_;
	$server->safe_psql('postgres', "CREATE DATABASE $name");
	my $c = $server->client(dbname => $name);
	$c->rows($_) foreach @statements;
	return $c;
}

# ---- everything that makes up the extension, by name
my $snapshot = <<'SQL';
WITH member AS (
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'tokenbill'
)
SELECT 'member' AS what, pg_describe_object(classid, objid, 0) AS name, coalesce(obj_description(objid, classid::regclass::text), '') AS detail FROM member
UNION ALL
SELECT 'column', pg_describe_object('pg_class'::regclass, a.attrelid, a.attnum),
	concat_ws(' ', a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attcollation::regcollation, pg_get_expr(x.adbin, x.adrelid), col_description(a.attrelid, a.attnum), a.attacl)
FROM pg_attribute a LEFT JOIN pg_attrdef x ON x.adrelid = a.attrelid AND x.adnum = a.attnum
WHERE a.attrelid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass) AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'relation', c.oid::regclass::text, concat_ws(' ', c.relkind, c.relpersistence, c.reloptions, c.relowner::regrole, c.relacl, c.relrowsecurity, pg_get_partkeydef(c.oid))
FROM pg_class c WHERE c.oid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass)
UNION ALL
SELECT 'view', c.oid::regclass::text, pg_get_viewdef(c.oid)
FROM pg_class c WHERE c.relkind = 'v' AND c.oid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass)
UNION ALL
SELECT 'index', i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
FROM pg_index i WHERE i.indrelid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass)
UNION ALL
SELECT 'constraint', k.conrelid::regclass || ' ' || k.contypid::regtype || ' ' || k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k WHERE k.conrelid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass)
	OR k.contypid IN (SELECT objid FROM member WHERE classid = 'pg_type'::regclass)
UNION ALL
SELECT 'trigger', t.tgrelid::regclass || ' ' || t.tgname, pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
FROM pg_trigger t WHERE t.tgrelid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass)
UNION ALL
SELECT 'function', p.oid::regprocedure::text,
	concat_ws(' ', pg_get_functiondef(p.oid), p.proacl, p.proowner::regrole)
FROM pg_proc p WHERE p.oid IN (SELECT objid FROM member WHERE classid = 'pg_proc'::regclass) AND p.prokind = 'f'
UNION ALL
SELECT 'type', t.oid::regtype::text, concat_ws(' ', t.typtype, t.typacl, t.typowner::regrole, format_type(t.typbasetype, t.typtypmod))
FROM pg_type t WHERE t.oid IN (SELECT objid FROM member WHERE classid = 'pg_type'::regclass)
UNION ALL
SELECT 'schema', n.nspname, concat_ws(' ', n.nspacl, n.nspowner::regrole)
FROM pg_namespace n WHERE n.oid IN (SELECT objid FROM member WHERE classid = 'pg_namespace'::regclass)
UNION ALL
SELECT 'dumped', c::regclass::text, w FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS u(c, w) WHERE e.extname = 'tokenbill'
UNION ALL
SELECT 'depends', pg_describe_object(d.classid, d.objid, d.objsubid) || ' on ' || pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), d.deptype::text
FROM pg_depend d JOIN member m ON m.classid = d.classid AND m.objid = d.objid WHERE d.deptype <> 'e'
ORDER BY 1, 2, 3
SQL

my $fresh = database('fresh', 'CREATE EXTENSION tokenbill');
my $installed = $server->safe_psql('fresh', $snapshot);
my $version = $fresh->value("SELECT extversion FROM pg_extension WHERE extname = 'tokenbill'");
is($version, $fresh->value("SELECT default_version FROM pg_available_extensions WHERE name = 'tokenbill'"), 'the default version is installed');
cmp_ok(scalar(() = $installed =~ /\n/g), '>', 200, 'the snapshot sees a good deal');

# each version an upgrade can start from
my @paths = $fresh->rows("SELECT source, path FROM pg_extension_update_paths('tokenbill') WHERE path IS NOT NULL AND target = \$1
	AND source IN (SELECT version FROM pg_available_extension_versions WHERE name = 'tokenbill')", $version);
note(@paths ? 'upgrades from ' . join(', ', map { $_->{source} } @paths) : "$version is the first version: there is nothing to upgrade from");
if (glob "$FindBin::RealBin/../../sql/upgrade/tokenbill--*--*.sql")
{
	cmp_ok(scalar @paths, '>', 0, 'where there are upgrade scripts, one can be walked');
}
foreach my $path (@paths)
{
	my $name = 'from_' . $path->{source} =~ s/\W/_/gr;
	database($name, "CREATE EXTENSION tokenbill VERSION '$path->{source}'", 'ALTER EXTENSION tokenbill UPDATE')->close;
	is($server->safe_psql($name, $snapshot), $installed, "upgraded by $path->{path}, it is what a fresh install is");
}
# the comparison would notice
{
	my $c = database('altered', 'CREATE EXTENSION tokenbill');
	foreach my $change ("COMMENT ON COLUMN tokenbill.balances.available IS NULL", 'GRANT EXECUTE ON FUNCTION tokenbill.clock() TO PUBLIC',
		'ALTER TABLE tokenbill.price DISABLE TRIGGER forget_prices', 'ALTER FUNCTION tokenbill.refund(text, text, text, numeric, text, jsonb, boolean) COST 7')
	{
		$c->rows('BEGIN');
		$c->rows($change);
		my $got = join("\n", map { join('|', map { defined ? $_ : '' } @$_) } @{ $c->query($snapshot)->{rows} });
		$c->rows('ROLLBACK');
		isnt($got, $installed, "the snapshot sees: $change");
	}
	is(join("\n", map { join('|', map { defined ? $_ : '' } @$_) } @{ $c->query($snapshot)->{rows} }), $installed, 'and is the same without');
	$c->close;
}

# every object says what it is for
is($fresh->value(<<'SQL'), '', 'every function, table, view and type has a comment, and every column of a view or its table');
WITH member AS (
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'tokenbill'
)
SELECT coalesce(string_agg(pg_describe_object(m.classid, m.objid, 0), ', '), '') FROM member m
WHERE obj_description(m.objid, m.classid::regclass::text) IS NULL
	AND NOT EXISTS (SELECT FROM pg_type t WHERE m.classid = 'pg_type'::regclass AND t.oid = m.objid AND t.typtype <> 'd')
	AND NOT EXISTS (SELECT FROM pg_class c WHERE m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind = 'c')
SQL

# ---- a schema planted before
{
	my $c = database('planted');
	$server->safe_psql('planted', 'CREATE ROLE mallory LOGIN; GRANT CREATE ON DATABASE planted TO mallory; GRANT CREATE ON SCHEMA public TO mallory');
	my $mallory = $server->client(dbname => 'planted', user => 'mallory');
	$mallory->rows($_) foreach (
		'CREATE SCHEMA tokenbill',
		q{CREATE FUNCTION tokenbill.clock() RETURNS timestamptz LANGUAGE sql AS $$SELECT timestamptz '2001-01-01 UTC'$$},
		'CREATE TABLE tokenbill.account (account text, balance numeric)');
	is($c->sqlstate('CREATE EXTENSION tokenbill'), '42P06', 'a planted schema is not adopted');
	is($c->value("SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'tokenbill'"), 'mallory', 'it stays whose it was');
	is($c->sqlstate('CREATE EXTENSION tokenbill SCHEMA public'), '0A000', 'nor can it be put elsewhere');
	is($c->value("SELECT count(*) FROM pg_extension WHERE extname = 'tokenbill'"), 0, 'nothing is installed');
	$c->rows('DROP SCHEMA tokenbill CASCADE');

	# functions and operators in front of those of pg_catalog, that tell when they are called
	$mallory->rows($_) foreach (
		'CREATE TABLE public.called (by text, what text)',
		'GRANT INSERT, SELECT ON public.called TO PUBLIC',
		q{CREATE FUNCTION public.to_regclass(text) RETURNS regclass LANGUAGE sql AS $$INSERT INTO public.called VALUES (current_user, 'to_regclass'); SELECT NULL::regclass$$},
		q{CREATE FUNCTION public.date_trunc(text, timestamptz) RETURNS timestamptz LANGUAGE sql AS $$INSERT INTO public.called VALUES (current_user, 'date_trunc'); SELECT $2$$},
		q{CREATE FUNCTION public.jsonb_build_object(text, text) RETURNS jsonb LANGUAGE sql AS $$INSERT INTO public.called VALUES (current_user, 'jsonb_build_object'); SELECT '{}'::jsonb$$},
		q{CREATE FUNCTION public.eq(text, text) RETURNS boolean LANGUAGE sql AS $$INSERT INTO public.called VALUES (current_user, 'eq'); SELECT true$$},
		'CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.eq)',
		q{CREATE FUNCTION public.eqn(name, name) RETURNS boolean LANGUAGE sql AS $$INSERT INTO public.called VALUES (current_user, 'eqn'); SELECT true$$},
		'CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = name, FUNCTION = public.eqn)',
		q{CREATE FUNCTION public.ltn(numeric, numeric) RETURNS boolean LANGUAGE sql AS $$INSERT INTO public.called VALUES (current_user, 'ltn'); SELECT false$$},
		'CREATE OPERATOR public.< (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = public.ltn)',
		q{CREATE FUNCTION public.addn(numeric, numeric) RETURNS numeric LANGUAGE sql AS $$INSERT INTO public.called VALUES (current_user, 'addn'); SELECT 1000000::numeric$$},
		'CREATE OPERATOR public.+ (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = public.addn)',
		q{CREATE FUNCTION public.subn(numeric, numeric) RETURNS numeric LANGUAGE sql AS $$INSERT INTO public.called VALUES (current_user, 'subn'); SELECT 1000000::numeric$$},
		'CREATE OPERATOR public.- (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = public.subn)');
	$c->rows('SET search_path = public, pg_catalog');
	# the planted operators do work
	$c->rows("SELECT 1.5 + 1.5, 'a'::text = 'b'::text");
	cmp_ok($c->value('SELECT count(*) FROM public.called'), '>=', 2, 'the trap is set');
	$c->rows('TRUNCATE public.called');
	$c->rows('CREATE EXTENSION tokenbill');
	is($c->value('SELECT count(*) FROM public.called'), 0, 'planted functions and operators are not called by the installation');
	my @calls = (
		"SELECT tokenbill.create_account('ann', credit_limit => 1)",
		"SELECT tokenbill.set_credit_limit('ann', 2)",
		"SELECT tokenbill.set_account_policy('ann', overflow => 'debt')",
		"SELECT tokenbill.set_account_status('ann', 'active')",
		"SELECT tokenbill.recharge('ann', 1, 'order-1')",
		"SELECT tokenbill.set_price('gpt', 'tokens', 0.001)",
		"SELECT tokenbill.charge('ann', 'gpt', '{\"tokens\": 7}', 'k1')",
		"SELECT * FROM tokenbill.quote('ann', 'gpt', '{\"tokens\": 7}')",
		"SELECT * FROM tokenbill.charge_batch('[{\"account\": \"ann\", \"amount\": 0.1, \"idempotency_key\": \"k2\"}]')",
		"SELECT tokenbill.hold('ann', 0.1, 'h1')",
		"SELECT tokenbill.extend_hold('ann', 'h1', 0.2, ttl => '1 hour')",
		"SELECT tokenbill.capture('ann', 'h1', amount => 0.1)",
		"SELECT tokenbill.hold('ann', 0.1, 'h2')",
		"SELECT tokenbill.release('ann', 'h2')",
		"SELECT tokenbill.refund('ann', 'k1', 'r1')",
		"SELECT tokenbill.grant_credit('ann', 1, 'g1')",
		"SELECT tokenbill.issue_token('ann')",
		'SELECT tokenbill.expire_holds()',
		'SELECT tokenbill.make_ledger_months(2)',
		"SELECT tokenbill.balance_at('ann', tokenbill.clock())",
		"SELECT tokenbill.add_provider('upstream', 'manual')",
		"SELECT tokenbill.set_provider('upstream', low_balance => 5)",
		"SELECT tokenbill.record_provider_balance('upstream', 7)",
		"SELECT tokenbill.record_provider_balance('upstream', NULL, error => 'down')",
		'SELECT tokenbill.expire_provider_history()',
		"SELECT tokenbill.drop_provider('upstream')",
		"SELECT tokenbill.map_tenant('mallory', 'ann')",
		"SELECT tokenbill.unmap_tenant('mallory')",
		'SELECT * FROM tokenbill.verify_ledger()',
		map { "SELECT * FROM tokenbill.$_" } qw(balances statement holds recharge_orders prices usage_daily trial_balance provider_balances provider_history metrics));
	foreach my $call (@calls)
	{
		$c->rows($call);
		is(join(' ', $c->column('SELECT DISTINCT what FROM public.called')), '', "nor by: $call");
		$c->rows('TRUNCATE public.called');
	}
	is($c->sqlstate("SELECT tokenbill.charge_amount('ann', 100, 'much')"), 'PT402', 'and they make nobody rich');
	$mallory->close;
	$c->close;
}

# ---- by another superuser, with roles there already, one of them with members
{
	$server->safe_psql('postgres', 'CREATE ROLE other SUPERUSER LOGIN; CREATE ROLE plain LOGIN; CREATE ROLE app LOGIN; GRANT tokenbill_app TO app');
	my $c = database('other', 'GRANT CREATE ON DATABASE other TO plain');
	my $plain = $server->client(dbname => 'other', user => 'plain');
	is($plain->sqlstate('CREATE EXTENSION tokenbill'), '42501', 'nobody but a superuser installs it');
	$plain->close;
	my $other = $server->client(dbname => 'other', user => 'other');
	$other->rows('CREATE EXTENSION tokenbill');
	is($c->value("SELECT string_agg(DISTINCT proowner::regrole::text, ' ') FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace"), 'other', 'another superuser owns what he installs');
	(my $expected = $installed) =~ s/(?<!SET "IntervalStyle" TO ')\bpostgres\b/other/g;
	is($server->safe_psql('other', $snapshot), $expected, 'and it is the same otherwise');
	$other->rows("SELECT tokenbill.create_account('ann')");
	$other->rows("SELECT tokenbill.recharge('ann', 1, 'order-1')");
	my $app = $server->client(dbname => 'other', user => 'app');
	is($app->value("SELECT seq FROM tokenbill.charge_amount('ann', 0.1, 'k')"), 2, 'an application charges there');
	is($c->value("SELECT relowner::regrole FROM pg_class WHERE oid = (SELECT tableoid FROM tokenbill.ledger LIMIT 1)"), 'other', 'months belong to the owner too');
	$_->close foreach $app, $other, $c;
	$server->sound('where another superuser owns it', 'other');
}

# ---- two databases know nothing of each other
{
	my $second = database('second', 'CREATE EXTENSION tokenbill');
	foreach my $c ($fresh, $second)
	{
		$c->rows("SELECT tokenbill.create_account('ann')");
		$c->rows("SELECT tokenbill.recharge('ann', 1, 'order-1')");
	}
	$fresh->rows("SELECT tokenbill.charge_amount('ann', 1, 'k')");
	is($second->value("SELECT balance FROM tokenbill.balances WHERE account = 'ann'"), 1, 'each database has its own accounts');
	# a key in progress there is free here
	$fresh->rows('BEGIN');
	$fresh->rows("SELECT tokenbill.grant_credit('ann', 1, 'busy')");
	is($second->sqlstate("SELECT tokenbill.grant_credit('ann', 1, 'busy', wait => false)"), '00000', 'and its own keys in progress');
	$fresh->rows('COMMIT');
	$server->sound('in the first', 'fresh');
	$server->sound('in the second', 'second');

	# dropped in one, under a session that has used it, and made again
	$second->rows('DROP EXTENSION tokenbill');
	is($second->value("SELECT count(*) FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'tokenbill' OR c.relname LIKE 'ledger%'"), 0, 'DROP EXTENSION takes everything');
	is($second->value("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tokenbill%'"), 4, 'but the roles, which other databases use');
	is($fresh->value("SELECT seq FROM tokenbill.grant_credit('ann', 1, 'after')"), 4, 'the other database goes on');
	$second->rows('CREATE EXTENSION tokenbill');
	is($second->sqlstate("SELECT tokenbill.charge_amount('ann', 1, 'k')"), 'PT404', 'the same session finds no account of before');
	$second->rows("SELECT tokenbill.create_account('ann')");
	is($second->value("SELECT seq FROM tokenbill.recharge('ann', 1, 'order-1')"), 1, 'and starts anew');
	is($second->sqlstate("SELECT tokenbill.charge('ann', 'gpt', '{\"tokens\": 1}', 'k')"), 'PT404', 'without the prices of before');
	$server->sound('made again', 'second');
	$second->close;
}
$fresh->close;

# ---- make installcheck, on a server that has no key for secrets
{
	local %ENV = (%ENV, PGHOST => $server->host, PGPORT => $server->port, PGDATABASE => 'fresh');
	my $key = q{LOAD 'tokenbill'; SELECT current_setting('tokenbill.key_command')};
	my ($out, $err);
	is($server->safe_psql('fresh', $key), '', 'a plain server has no key');
	ok(IPC::Run::run([ "$FindBin::RealBin/../with-key", 'psql', '-X', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-c', q{SELECT tokenbill.set_secret('lent', 'sk-1')}, '-c', q{SELECT name FROM tokenbill.secrets} ], '>', \$out, '2>', \$err),
		'is lent one for the SQL tests') or diag($err);
	like($out, qr/^lent$/m, 'that secrets are stored with');
	ok(!IPC::Run::run([ "$FindBin::RealBin/../with-key", 'false' ], '>', \$out, '2>', \$err), 'a failed test is a failure');
	$server->wait_until('the key to be taken away', sub { $server->safe_psql('fresh', $key) eq '' });
	unlike(slurp_file($server->data_dir . '/postgresql.auto.conf'), qr/tokenbill/, 'which leaves nothing in its configuration');
	my $makefile = slurp_file("$FindBin::RealBin/../../Makefile");
	like($makefile, qr/^pg_regress_installcheck .*test\/with-key/m, 'make installcheck does that');
}

# ---- what cannot be loaded yet says so, what was loaded ahead works
is($server->safe_psql('fresh', 'SHOW shared_preload_libraries'), '', 'all of this was without the library preloaded');
$server->append_conf('postgresql.conf', "shared_preload_libraries = 'tokenbill'\ntokenbill.idempotency_window = '40 days'");
$server->restart;
{
	my $c = $server->client(dbname => 'fresh', user => 'app', settings => {});
	is($c->value("SELECT seq FROM tokenbill.charge_amount('ann', 0.5, 'preloaded')"), 5, 'preloaded, it charges');
	is($c->value('SHOW tokenbill.idempotency_window'), '40 days', 'its settings are read from the file');
	$c->close;
	$server->sound('preloaded', 'fresh');
	# a database without the extension does not mind
	is($server->safe_psql('postgres', 'SELECT 1'), 1, 'a database without the extension works');
}
$server->append_conf('postgresql.conf', "tokenbill.idempotency_window = 'soon'");
$server->reload;
$server->wait_until(
	'a bad setting in the file to be refused',
	sub { return slurp_file($server->logfile) =~ /invalid value for parameter "tokenbill\.idempotency_window"/; });
is($server->safe_psql('fresh', 'SHOW tokenbill.idempotency_window'), '40 days', 'and the one before stays');

$server->stop;
done_testing();
