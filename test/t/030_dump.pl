# pg_dump and restore: plain, custom with two jobs, and data only into a fresh
# extension; months of which one is sealed and one dropped. What is restored has
# the same balances and the same chain, goes on counting where it was, and
# defends its ledger as before.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server qw(equal_decimals);

my $server = Tokenbill::Server->new('main');
$server->begin(conf => [ "tokenbill.idempotency_window = '30 days'" ]);
$server->safe_psql('postgres', 'CREATE ROLE tb_tenant LOGIN; GRANT tokenbill_app TO tb_tenant; CREATE ROLE "Odd ""tenant" LOGIN; GRANT tokenbill_app TO "Odd ""tenant"');

sub at
{
	my ($client, $time) = @_;
	$client->value("SELECT set_config('tokenbill.clock', \$1, false)", $time);
	return;
}

# A database with every kind of row in it
my $client = $server->client(clock => '2026-01-10 12:00:00+00');
$client->value($_) foreach (
	"SELECT tokenbill.create_account('ann', metadata => '{\"name\": \"Ann \\\\ \\u00e9\"}')",
	"SELECT tokenbill.create_account('bob', currency => 'EUR', credit_limit => 5)",
	"SELECT tokenbill.create_account('box', sandbox => true)",
	"SELECT tokenbill.set_price('gpt', 'tokens', 0.0000015)",
	"SELECT tokenbill.set_price('gpt', 'tokens', 0.000001, account => 'bob')",
	"SELECT tokenbill.set_price('gpt', 'tokens', 0.000003, valid_from => '2026-05-01')",
	"SELECT tokenbill.add_provider('upstream', 'manual', check_every => '1 hour', low_balance => 12.5, keep_history => '300 days')",
	"SELECT tokenbill.record_provider_balance('upstream', 20.000000000000000001, checked_at => '2026-01-10 10:00:00+00')",
	"SELECT tokenbill.record_provider_balance('upstream', 18, checked_at => '2026-01-10 11:00:00+00')",
	"SELECT tokenbill.record_provider_balance('upstream', NULL, error => 'HTTP 502')",
	"SELECT tokenbill.set_breaker('provider', 'upstream', max_failures => 2)",
	"SELECT tokenbill.breaker_note('provider', 'upstream', false, 30) FROM generate_series(1, 2)",
	"SELECT tokenbill.set_low_balance('ann', 5), tokenbill.set_credential_expiry('key', '2026-01-11 12:00:00+00'), tokenbill.set_alert_rule('account_low', severity => 'critical')",
	"SELECT tokenbill.add_alert_webhook('ops', 'https://ops.example/', 'ops key')",
	'SELECT tokenbill.evaluate_alerts()',
	"SELECT tokenbill.add_error_rule('ours', 'billing', 'our_vendor', '418', '{\"why\": [\"teapot*\", \"!teapot full\"]}', retry_after => '3 s')",
	"SELECT tokenbill.add_error_rule('openai_quota', 'unknown', status => '599')",
	"SELECT tokenbill.add_preset('stability', 'https://own.example'), tokenbill.add_preset_request('stability', '/left', '\$.left', headers => '{}', failure => 'exists(\$.error)')",
	"SELECT tokenbill.add_provider('asked', 'stability', check_every => '1 day')",
	"SELECT tokenbill.set_oauth_client('login', 'device_code', 'https://auth.example/t', 'us', device_url => 'https://auth.example/d'), tokenbill.set_oauth_client('robot', 'client_credentials', 'https://auth.example/t', 'us')",
	"SELECT tokenbill.oauth_device_begin('login')",
	"SELECT tokenbill.map_tenant('tb_tenant', 'ann')",
	"SELECT tokenbill.map_tenant('Odd \"tenant', 'bob')",);
my $number = 0;
foreach my $month (1 .. 4)
{
	at($client, "2026-0$month-10 12:00:00+00");
	foreach my $account (qw(ann bob box))
	{
		$number++;
		$client->value('SELECT tokenbill.recharge($1, 10, $2)', $account, "order-$number");
		$client->value('SELECT tokenbill.charge($1, $2, $3, $4, metadata => $5)', $account, 'gpt', '{"tokens": 12345}', "charge-$month", "{\"tags\": [\"t\x{e9}\", \"a\\tb\"]}");
		$client->value('SELECT tokenbill.charge_amount($1, 0.1, $2)', $account, "amount-$month");
		$client->value('SELECT tokenbill.hold($1, 1, $2, ttl => $3)', $account, "hold-$month", '200 days');
		$client->value('SELECT tokenbill.capture($1, $2, amount => 0.3)', $account, "hold-$month") if $month != 3;
		$client->value('SELECT tokenbill.refund($1, $2, $3, 0.05)', $account, "amount-$month", "refund-$month");
	}
	$client->value("SELECT tokenbill.grant_credit('ann', 0.000000000000000001, 'grant-$month', reason => 'tiny')");
}
# credits: one spent in part and reserved, one untouched, in an order of our own
$client->value("SELECT tokenbill.set_burn_order('ours', '{expiry,newest}', 'what expires sooner first')");
$client->value("SELECT tokenbill.grant_credit('bob', 2, 'credit-1', expires_at => '2027-01-01 00:00:00+00', scope => '{gpt}')");
$client->value("SELECT tokenbill.grant_credit('bob', 3, 'credit-2', priority => 60, metadata => '{\"a\": 1}')");
$client->value("SELECT tokenbill.charge_amount('bob', 0.5, 'from-credit', service => 'gpt')");
$client->value("SELECT tokenbill.hold('bob', 1, 'credit-hold', ttl => '200 days', service => 'gpt')");
my $unused = $client->value("SELECT tokenbill.issue_token('ann', ttl => '300 days')");
my $used = $client->value("SELECT tokenbill.issue_token('ann', ttl => '300 days')");
$client->value("SELECT tokenbill.charge_amount('ann', 0.01, \$1)", $used);
is($client->value("SELECT tokenbill.drop_ledger_month('2026-01-01')"), 19, 'January is dropped');
is($client->value("SELECT tokenbill.seal_ledger_month('2026-02-01')"), 3, 'February is sealed');
$client->value('SELECT tokenbill.make_ledger_months(2)');
$client->close;
$server->sound('before the dump');

# Everything there is, in an order of its own
my @tables = qw(account ledger month_closing month_total hold credit burn_order price catalog_model recharge_order charge_refund issued_token tenant provider provider_balance provider_balance_history provider_check provider_preset preset_request breaker error_rule alert alert_rule alert_evaluation account_low_balance credential_expiry alert_webhook alert_delivery oauth_client device_grant access_token);
my $contents = join(" UNION ALL ", map { "SELECT '$_', x::text FROM tokenbill.$_ x" } @tables);
$contents = "SELECT * FROM ($contents) c ORDER BY 1, 2";
my $objects = <<'SQL';
SELECT 'partition', c.relname, pg_get_expr(c.relpartbound, c.oid), (SELECT string_agg(t.tgname, ' ' ORDER BY t.tgname) FROM pg_trigger t WHERE t.tgrelid = c.oid)
FROM pg_class c WHERE c.relispartition AND c.relkind = 'r' AND c.relnamespace = 'tokenbill'::regnamespace
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'tokenbill'::regnamespace
UNION ALL
SELECT 'index', indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid) || indisvalid FROM pg_index
WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace)
UNION ALL
SELECT 'acl', c.relname, c.relowner::regrole::text,
	coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(c.relacl) a
		WHERE a::text <> c.relowner::regrole::text || '=arwdDxt/' || c.relowner::regrole::text), '')
FROM pg_class c WHERE c.relnamespace = 'tokenbill'::regnamespace AND c.relkind IN ('r', 'p', 'v')
UNION ALL
SELECT 'member', c.relname, '', (EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))::text
FROM pg_class c WHERE c.relnamespace = 'tokenbill'::regnamespace AND c.relkind IN ('r', 'p', 'v')
ORDER BY 1, 2, 3, 4
SQL
my $original = $server->safe_psql('postgres', $contents);
my $original_objects = $server->safe_psql('postgres', $objects);
cmp_ok(length $original, '>', 5000, 'there is something to dump');

my $dir = $server->basedir;
$server->command_ok([ 'pg_dump', '-f', "$dir/plain.sql", $server->connstr('postgres') ], 'pg_dump, plain');
$server->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/custom", $server->connstr('postgres') ], 'pg_dump, custom');
$server->command_ok([ 'pg_dump', '-Fd', '-j2', '-f', "$dir/directory", $server->connstr('postgres') ], 'pg_dump, directory, two jobs');
$server->command_ok([ 'pg_dump', '--data-only', '-f', "$dir/data.sql", $server->connstr('postgres') ], 'pg_dump, data only');

# What must be true of a database that was restored
sub like_the_original
{
	my ($dbname, $how, %opt) = @_;
	is($server->safe_psql($dbname, $contents), $original, "$how: every row is back");
	is($server->safe_psql($dbname, $objects), $original_objects, "$how: months, constraints, triggers and grants are back")
	  unless $opt{data_only};
	$server->sound("($how)", $dbname);

	my $c = $server->client(dbname => $dbname, clock => '2026-04-20 12:00:00+00');
	my $seq = $c->value("SELECT seq FROM tokenbill.balances WHERE account = 'ann'");
	my $next = $c->row("SELECT seq, balance FROM tokenbill.charge_amount('ann', 0.01, 'after-restore')");
	is($next->{seq}, $seq + 1, "$how: the next charge continues seq");
	is($c->value("SELECT replayed FROM tokenbill.charge_amount('ann', 0.1, 'amount-4')"), 't', "$how: keys are remembered");
	is($c->value("SELECT replayed FROM tokenbill.recharge('ann', 10, 'order-1')"), 't', "$how: orders of a dropped month are remembered");
	is($c->sqlstate("SELECT tokenbill.recharge('bob', 10, 'order-1')"), 'PT409', "$how: order numbers are still unique");
	is($c->value("SELECT kind FROM tokenbill.capture('ann', 'hold-3', amount => 0.2)"), 'capture', "$how: a hold can be captured");
	$c->value("SELECT tokenbill.capture('bob', 'credit-hold', amount => 0.4)");
	is($c->value("SELECT burned FROM tokenbill.statement WHERE account = 'bob' AND ref = 'credit-hold'"),
		'[{"amount": 0.4, "credit": "credit-1"}]', "$how: what a hold has reserved of a credit is burned");
	is($c->value("SELECT name FROM tokenbill.burn_orders WHERE NOT preset"), 'ours', "$how: burn orders are back");
	is($c->sqlstate("SELECT tokenbill.capture('ann', 'hold-4')"), 'PT409', "$how: a captured one cannot");
	is($c->sqlstate("SELECT tokenbill.refund('ann', 'amount-4', 'refund-all', 0.06)"), 'PT409', "$how: what was refunded is remembered");
	is($c->value("SELECT kind FROM tokenbill.charge_amount('ann', 0.01, \$1)", $unused), 'charge', "$how: an issued token is good");
	is($c->sqlstate("SELECT tokenbill.charge_amount('ann', 0.01, \$1)", $used), 'PT409', "$how: a used one is not");
	is($c->value("SELECT balance FROM tokenbill.token_result('ann', \$1)", $used) ne '', 1, "$how: its result is known");
	is(join(' ', map { $_->{status} . ' ' . $_->{balance} . ' ' . $_->{error} . ' ' . $_->{burn_per_hour} } $c->row("SELECT status, balance, error, round(burn_per_hour, 3) AS burn_per_hour FROM tokenbill.provider_balances WHERE provider = 'upstream'")),
		'stale 18 HTTP 502 2.000', "$how: what a provider held is remembered");
	is($c->value("SELECT balance FROM tokenbill.record_provider_balance('upstream', 16)"), 16, "$how: and goes on being reported");
	is($c->value('SELECT url FROM tokenbill.claim_checks(1)'), 'https://own.example/left', "$how: presets of one's own are back, and go before the built-in ones");
	at($c, '2026-05-02 12:00:00+00');
	ok(equal_decimals($c->value("SELECT price FROM tokenbill.charge('ann', 'gpt', '{\"tokens\": 1000000}', 'may')"), 3), "$how: the price of May is used");
	at($c, '2026-09-02 12:00:00+00');
	$c->value("SELECT tokenbill.charge_amount('ann', 0.01, 'september')");
	is($c->value("SELECT tableoid::regclass FROM tokenbill.ledger WHERE idempotency_key = 'september'"),
		'tokenbill.ledger_2026_09', "$how: a month is made when it is needed");
	foreach my $statement ('UPDATE tokenbill.ledger SET amount = 0', 'DELETE FROM tokenbill.ledger_2026_03', 'TRUNCATE tokenbill.ledger_2026_03',
		"UPDATE tokenbill.hold SET status = 'held'", 'DELETE FROM tokenbill.recharge_order')
	{
		is($c->sqlstate($statement), 'PT409', "$how: $statement is refused");
	}
	if (!$opt{data_only})
	{
		my $line = "'new', seq, created_at, kind, amount, balance, held, credit_limit, contra, service, usage, rates, metadata, request, idempotency_key, ref, hash";
		is($c->sqlstate("INSERT INTO tokenbill.$_ SELECT $line FROM tokenbill.ledger_2026_02 LIMIT 1"), 'PT409', "$how: the sealed month is sealed against an INSERT into $_")
		  foreach qw(ledger_2026_02 ledger);
	}
	is($c->sqlstate("SELECT tokenbill.make_ledger_month('2026-01-05')"), 'PT409', "$how: the dropped month stays dropped");
	is($c->value("SELECT tokenbill.drop_ledger_month('2026-02-01')"), 19, "$how: the sealed month can be dropped");
	is($c->value("SELECT tokenbill.balance_at('ann', '2026-03-01')"), $opt{february}, "$how: its closing balance is known");
	$c->close;
	foreach my $login ([ 'tb_tenant', 'ann' ], [ 'Odd "tenant', 'bob' ])
	{
		my $tenant = $server->client(dbname => $dbname, user => $login->[0]);
		is(join(' ', $tenant->column('SELECT account FROM tokenbill.balances')), $login->[1], "$how: $login->[0] sees $login->[1] only");
		$tenant->close;
	}
	$server->sound("after charging on ($how)", $dbname);

	# the proof works on what was restored: behind the trigger's back
	$c = $server->client(dbname => $dbname);
	$c->rows('BEGIN');
	$c->rows('SET LOCAL session_replication_role = replica');
	$c->rows("UPDATE tokenbill.ledger SET amount = amount - 0.01 WHERE account = 'bob' AND idempotency_key = 'amount-3'");
	my @found = $c->column("SELECT DISTINCT account FROM tokenbill.verify_ledger() WHERE problem IN ('hash', 'balance')");
	is("@found", 'bob', "$how: a line changed after the restore is found");
	$c->rows('ROLLBACK');
	$c->close;
	return;
}

my $february = $server->safe_psql('postgres', "SELECT tokenbill.balance_at('ann', '2026-03-01')");

$server->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(plain custom directory data again);
$server->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain.sql", $server->connstr('plain') ], 'plain: restored');
like_the_original('plain', 'plain', february => $february);
$server->command_ok([ 'pg_restore', '-j2', '--exit-on-error', '-d', $server->connstr('custom'), "$dir/custom" ], 'custom, two jobs: restored');
like_the_original('custom', 'custom', february => $february);
$server->command_ok([ 'pg_restore', '-j2', '--exit-on-error', '-d', $server->connstr('directory'), "$dir/directory" ], 'directory, two jobs: restored');
like_the_original('directory', 'directory', february => $february);

# Data only: the months that have data are made first, in UTC, by hand
$server->safe_psql('data', <<'SQL');
CREATE EXTENSION tokenbill;
SELECT tokenbill.make_ledger_month(m) FROM generate_series(timestamptz '2026-02-01 UTC', '2026-06-01 UTC', '1 month') m;
SQL
$server->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/data.sql", $server->connstr('data') ], 'data only: restored');
like_the_original('data', 'data only', february => $february, data_only => 1);

# The same dump in another cluster, where roles have other numbers
my $other = Tokenbill::Server->new('other');
$other->begin(no_extension => 1, conf => [ "tokenbill.idempotency_window = '30 days'" ]);
$other->safe_psql('postgres', 'CREATE ROLE first; CREATE ROLE second; CREATE ROLE "Odd ""tenant" LOGIN; CREATE ROLE tb_tenant LOGIN');
$other->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain.sql", $other->connstr('postgres') ], 'another cluster: restored');
is($other->safe_psql('postgres', $contents), $original, 'another cluster: every row is back');
$other->sound('(another cluster)');
$other->safe_psql('postgres', 'GRANT tokenbill_app TO tb_tenant');
my $tenant = $other->client(user => 'tb_tenant');
is(join(' ', $tenant->column('SELECT account FROM tokenbill.balances')), 'ann', 'another cluster: the tenant is mapped by name');
$tenant->close;
$other->stop;

# A dump of what was restored and used restores too
$server->command_ok([ 'pg_dump', '-f', "$dir/again.sql", $server->connstr('plain') ], 'pg_dump of the restored database');
$server->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/again.sql", $server->connstr('again') ], 'again: restored');
is($server->safe_psql('again', $contents), $server->safe_psql('plain', $contents), 'again: every row is back');
$server->sound('(again)', 'again');

# DROP EXTENSION takes the months with it, and another CREATE starts from nothing
$server->safe_psql('custom', 'DROP EXTENSION tokenbill');
is($server->safe_psql('custom', "SELECT count(*) FROM pg_namespace WHERE nspname = 'tokenbill'"), 0, 'DROP EXTENSION leaves no schema behind');
is($server->safe_psql('custom', "SELECT count(*) FROM pg_class WHERE relname LIKE 'ledger%'"), 0, 'nor a month');
$server->safe_psql('custom', 'CREATE EXTENSION tokenbill');
is($server->safe_psql('custom', 'SELECT count(*) FROM tokenbill.ledger'), 0, 'created again it is empty');
is($server->safe_psql('custom', "SELECT (tokenbill.create_account('ann')).account; SELECT seq FROM tokenbill.recharge('ann', 1, 'order-1')"), "ann\n1", 'and works');

$server->stop;
done_testing();
