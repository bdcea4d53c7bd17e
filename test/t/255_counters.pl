# What is counted in shared memory: lines when they are committed and only then,
# refusals whatever becomes of their transaction, each database for itself; and
# nothing at all in a server without the library preloaded.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server;

my $server = Tokenbill::Server->new('main');
$server->begin(conf => [ 'max_prepared_transactions = 2' ]);

# ---- not preloaded
{
	my $c = $server->client;
	$c->query("SELECT tokenbill.create_account('ann')");
	is($c->sqlstate("SELECT tokenbill.charge_amount('ann', 1, 'a')"), 'PT402', 'a refusal without the library preloaded');
	is($c->value('SELECT count(*) FROM tokenbill.counters()'), 0, 'there are no counters then');
	is($c->value(q{SELECT count(*) FROM tokenbill.metrics WHERE name IN ('tokenbill_movements_total', 'tokenbill_refusals_total')}), 0, 'and no metrics of them');
	$c->close;
}
$server->append_conf('postgresql.conf', "shared_preload_libraries = 'tokenbill'\n");
$server->restart;

my $c = $server->client;
my %before;

# Those that have changed since the last call, and by how much
sub counted
{
	my ($client, $of) = (@_, $c, 'postgres');
	my %now = map { $_->{label} => $_->{value} } $client->rows('SELECT label, value FROM tokenbill.counters()');
	my $was = $before{$of} || {};
	$before{$of} = {%now};
	return { map { $_ => $now{$_} - ($was->{$_} || 0) } grep { $now{$_} != ($was->{$_} || 0) } keys %now };
}

is($c->value("SELECT string_agg(label, ' ' ORDER BY label COLLATE \"C\") FROM tokenbill.counters() WHERE counter = 'refusals'"),
	'PT402 PT403 PT404 PT409 PT423 PT429', 'the usual refusals are there from the beginning');
is($c->value("SELECT count(*) FROM tokenbill.counters() WHERE counter = 'lines'"), 11, 'and every kind of line');
is_deeply(counted(), {}, 'all of them zero');

$c->query("SELECT tokenbill.recharge('ann', 10, 'order-1')");
is_deeply(counted(), { recharge => 1 }, 'a recharge counts');
$c->query("SELECT tokenbill.charge_amount('ann', 1, 'a')");
is_deeply(counted(), { charge => 1 }, 'so does a charge');
$c->query("SELECT tokenbill.charge_amount('ann', 1, 'a')");
is_deeply(counted(), {}, 'not when it is replayed');

# every kind
$c->query("SELECT tokenbill.$_") foreach (
	"hold('ann', 1, 'h1')",
	"extend_hold('ann', 'h1', 2)",
	"capture('ann', 'h1')",
	"hold('ann', 1, 'h2')",
	"release('ann', 'h2')",
	"refund('ann', 'a', 'r')",
	"grant_credit('ann', 1, 'g')",
	"hold('ann', 1, 'h3', ttl => '1 second')");
$c->query("SET tokenbill.clock = '2090-01-01 00:00+00'");
is($c->value('SELECT tokenbill.expire_holds()'), 1, 'a hold expires');
$c->query('RESET tokenbill.clock');
is_deeply(counted(), { hold => 3, extend => 1, capture => 1, release => 1, refund => 1, grant => 1, expiry => 1 }, 'every kind counts as itself');

# transactions
$c->query('BEGIN');
$c->query("SELECT tokenbill.charge_amount('ann', 0.1, 'b')");
is_deeply(counted(), {}, 'nothing counts before the commit');
$c->query('ROLLBACK');
is_deeply(counted(), {}, 'nor after a rollback');
$c->query('BEGIN');
$c->query("SELECT tokenbill.charge_amount('ann', 0.1, 'b1')");
$c->query('SAVEPOINT one');
$c->query("SELECT tokenbill.charge_amount('ann', 0.1, 'b2')");
$c->query('SAVEPOINT two');
$c->query("SELECT tokenbill.charge_amount('ann', 0.1, 'b3')");
$c->query('RELEASE two');
$c->query('ROLLBACK TO one');
$c->query("SELECT tokenbill.charge_amount('ann', 0.1, 'b4')");
$c->query('SAVEPOINT three');
$c->query('SAVEPOINT four');
$c->query("SELECT tokenbill.hold('ann', 0.1, 'b5')");
$c->query('RELEASE four');
$c->query('RELEASE three');
$c->query('COMMIT');
is_deeply(counted(), { charge => 2, hold => 1 }, 'what a savepoint takes back does not count, what it keeps does');
$c->query("DO \$\$BEGIN BEGIN PERFORM tokenbill.charge_amount('ann', 0.1, 'c1'); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; PERFORM tokenbill.charge_amount('ann', 0.1, 'c2'); END\$\$");
is_deeply(counted(), { charge => 1 }, 'nor what a block takes back that traps an error');
$c->query('BEGIN');
$c->query("SELECT tokenbill.charge_amount('ann', 0.1, 'p')");
$c->query("PREPARE TRANSACTION 'p'");
$c->query("COMMIT PREPARED 'p'");
is_deeply(counted(), {}, 'a prepared transaction does not count');
$c->query("SELECT tokenbill.charge_amount('ann', 0.1, 'q')");
is_deeply(counted(), { charge => 1 }, 'and leaves nothing behind that would');

# refusals
is($c->sqlstate("SELECT tokenbill.charge_amount('ann', 1000, 'd')"), 'PT402', 'too much');
is($c->sqlstate("SELECT tokenbill.charge_amount('bob', 1, 'd')"), 'PT404', 'nobody');
is($c->sqlstate("SELECT tokenbill.charge_amount('ann', -1, 'd')"), '22023', 'less than nothing');
is_deeply(counted(), { PT402 => 1, PT404 => 1, 22023 => 1 }, 'refusals count though their transactions abort');
is($c->sqlstate("SELECT tokenbill.set_provider('nobody')"), 'PT404', 'a function written in SQL');
is_deeply(counted(), { PT404 => 1 }, 'its refusal counts, once');
$c->rows(q{SELECT tokenbill.charge_batch('[{"account": "ann", "amount": 0.01, "idempotency_key": "e1"}, {"account": "ann", "amount": 1000, "idempotency_key": "e2"}, {"account": "ann"}]')});
is_deeply(counted(), { charge => 1, PT402 => 1, 22004 => 1 }, 'so do those that a batch answers');

# many at once
{
	my ($out, $err) = run_command(
		[
			'pgbench', '-n', '-h', $server->host, '-p', $server->port, '-U', 'postgres', '-c', 8, '-j', 2, '-t', 50,
			'-f', script("SELECT count(tokenbill.charge_amount('ann', 0.001, 'many-' || :client_id || '-' || n)) FROM generate_series(:i * 2, :i * 2 + 1) n;"),
			'-f', script("SELECT sqlstate FROM tokenbill.charge_batch('[{\"account\": \"ann\", \"amount\": 1000, \"idempotency_key\": \"f\"}]');"),
			'postgres' ]);
	my ($lines) = $c->value("SELECT count(*) FROM tokenbill.ledger WHERE idempotency_key LIKE 'many-%'");
	my $now = counted();
	is($now->{charge}, $lines, '8 clients: each line once');
	cmp_ok($lines, '>', 100, 'of many');
	cmp_ok($now->{PT402}, '>', 100, 'and many refusals');
}

sub script
{
	my ($text) = @_;
	my $file = $server->basedir . '/counters' . ++$before{scripts};
	append_to_file($file, "\\set i random(1, 1000000)\n$text\n");
	return $file;
}

# who may look
$c->query('CREATE ROLE reader LOGIN IN ROLE tokenbill_reader');
$c->query('CREATE ROLE tenant LOGIN IN ROLE tokenbill_reader');
$c->query("SELECT tokenbill.map_tenant('tenant', 'ann')");
cmp_ok($server->client(user => 'reader')->value('SELECT sum(value) FROM tokenbill.counters()'), '>', 100, 'a reader sees them');
is($server->client(user => 'tenant')->value('SELECT count(*) FROM tokenbill.counters()'), 0, 'a tenant does not');

# databases: each for itself, and those that are dropped make room
$c->query('CREATE DATABASE other');
{
	my $other = $server->client(dbname => 'other');
	$other->query('CREATE EXTENSION tokenbill');
	is($other->sqlstate("SELECT tokenbill.charge_amount('ann', 1, 'a')"), 'PT404', 'a refusal in another database');
	is_deeply(counted($other, 'other'), { PT404 => 1 }, 'counts there');
	is_deeply(counted(), {}, 'and not here');
	$other->close;
}
{
	my $rows = sub {
		my ($dbname) = @_;
		my $client = $server->client(dbname => $dbname);
		my $count = $client->value('SELECT count(*) FROM tokenbill.counters()');
		$client->close;
		return $count;
	};
	my $create = sub {
		my ($dbname) = @_;
		# until nobody uses the template any more
		$server->wait_until("database $dbname to be made", sub { return $c->sqlstate("CREATE DATABASE $dbname TEMPLATE other") eq '00000'; });
		return;
	};
	foreach my $n (3 .. 64)
	{
		$create->("db$n");
		$rows->("db$n");
	}
	is($rows->('db64'), 17, 'sixty-four databases have counters');
	$create->('db65');
	is($rows->('db65'), 0, 'the next has none');
	$c->rows('DROP DATABASE other');
	is($rows->('db65'), 17, 'until one of them is dropped');
	is($rows->('db64'), 17, 'and the others keep theirs');
	is_deeply(counted(), {}, 'as they were');
}

# a crash begins anew, and so does everything else in shared memory
$server->kill_everything;
$server->start;
$c = $server->client;
delete $before{postgres};
is_deeply(counted(), {}, 'after a crash they begin at zero');
$c->query("SELECT tokenbill.charge_amount('ann', 0.1, 'z')");
is_deeply(counted(), { charge => 1 }, 'and go on');

$server->stop;
done_testing();
