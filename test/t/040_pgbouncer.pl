# A real PgBouncer in transaction mode: charges of many clients over a few
# server connections, errors with all their fields, replays over whichever
# connection comes, wait => false, and nothing left behind on the connections.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Load;
use Tokenbill::Server qw(seed);

die "set PGBOUNCER to the program (test/install-packages check brings it)\n"
  unless $ENV{PGBOUNCER} && -x $ENV{PGBOUNCER};

seed();

my $server = Tokenbill::Server->new('main');
$server->begin;
$server->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT tokenbill_app TO app');
my @accounts = map { "account-$_" } 1 .. 5;
my $direct = $server->client;
foreach my $account (@accounts)
{
	$direct->query('SELECT tokenbill.create_account($1)', $account);
	$direct->query('SELECT tokenbill.recharge($1, 10, $2)', $account, "order-$account");
}
$direct->query("SELECT tokenbill.create_account('poor')");
$direct->query("SELECT tokenbill.set_price('gpt', 'tokens', 0.001)");

# Three server connections for everybody
my $pool = 3;
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $dir = $server->basedir . '/pgbouncer';
mkdir $dir or die "mkdir $dir: $!";
my $host = $server->host;
PostgreSQL::Test::Utils::append_to_file("$dir/users", join('', map { "\"$_\" \"\"\n" } qw(app postgres)));
PostgreSQL::Test::Utils::append_to_file("$dir/pgbouncer.ini", <<"INI");
[databases]
postgres = host=$host port=@{[ $server->port ]}
[pgbouncer]
listen_addr =
unix_socket_dir = $host
listen_port = $port
auth_type = trust
auth_file = $dir/users
pool_mode = transaction
default_pool_size = $pool
max_client_conn = 100
admin_users = postgres
logfile = $dir/pgbouncer.log
pidfile = $dir/pgbouncer.pid
INI

my $bouncer = fork();
die "fork: $!" unless defined $bouncer;
if (!$bouncer)
{
	open STDIN, '<', '/dev/null';
	open STDOUT, '>>', "$dir/output";
	open STDERR, '>&', \*STDOUT;
	exec $ENV{PGBOUNCER}, "$dir/pgbouncer.ini" or POSIX::_exit(127);
}
END
{
	local $?;
	if ($bouncer)
	{
		kill 'INT', $bouncer;
		waitpid $bouncer, 0;
	}
}

sub pooled
{
	my (%opt) = @_;
	return Tokenbill::Client->new(host => $host, port => $port, user => 'app', dbname => 'postgres', %opt);
}
$server->wait_until(
	'PgBouncer to answer',
	sub {
		die "PgBouncer ended: " . slurp_file("$dir/output") if waitpid($bouncer, POSIX::WNOHANG()) > 0;
		return eval { pooled()->value('SELECT 1') };
	});

# Errors arrive with every field
{
	my $c = pooled();
	my $answer = $c->query("SELECT tokenbill.charge('poor', 'gpt', '{\"tokens\": 7}', 'k')");
	is($answer->{error}{code}, 'PT402', 'SQLSTATE passes');
	my $detail = decode_json($answer->{error}{detail});
	is_deeply([ sort keys %$detail ], [qw(account available required shortfall)], 'DETAIL passes, as JSON');
	is($detail->{account}, 'poor', 'and names the account');
	like($answer->{error}{hint}, qr/\w/, 'HINT passes');
	is($answer->{tx}, 'I', 'the connection is free after an error');

	# parameters by the extended protocol
	is($c->value('SELECT seq FROM tokenbill.charge($1, $2, $3, $4)', 'account-1', 'gpt', '{"tokens": 7}', 'with-parameters'), 2, 'parameters pass');
}

# One key over two server connections: the first client keeps one busy
{
	my ($one, $two) = (pooled(name => 'one'), pooled(name => 'two'));
	my $first = $one->row("SELECT pg_backend_pid() AS pid, seq, replayed FROM tokenbill.charge_amount('account-1', 0.5, 'moves')");
	$one->query('BEGIN');
	my $taken = $one->value('SELECT pg_backend_pid()');
	$two->query('BEGIN');
	my $again = $two->row("SELECT pg_backend_pid() AS pid, seq, replayed FROM tokenbill.charge_amount('account-1', 0.5, 'moves')");
	$two->query('COMMIT');
	isnt($again->{pid}, $taken, 'two server connections are in use');
	is($again->{seq}, $first->{seq}, 'a key is replayed over another connection');
	is($again->{replayed}, 't', 'and says so');

	# and while it is in progress
	is($one->value("SELECT replayed FROM tokenbill.charge_amount('account-1', 0.25, 'busy')"), 'f', 'charged in a transaction that stays open');
	is($two->sqlstate("SELECT tokenbill.charge_amount('account-1', 0.25, 'busy', wait => false)"), 'PT423', 'wait => false is told at once');
	is($two->sqlstate("SELECT tokenbill.charge_amount('account-1', 0.25, 'busy', wait => false)"), 'PT423', 'twice');
	$one->query('COMMIT');
	is($two->value("SELECT replayed FROM tokenbill.charge_amount('account-1', 0.25, 'busy', wait => false)"), 't', 'and replays when the other has committed');
	is($one->value("SELECT replayed FROM tokenbill.charge_amount('account-1', 0.25, 'next', wait => false)"), 'f', 'no key is still marked as busy');
}

# Many clients
my $load = Tokenbill::Load->new(accounts => [ grep { $_ ne 'account-1' } @accounts ], clients => 12);
{
	my $through = bless {}, 'Through';
	sub Through::client { my ($self, %opt) = @_; return pooled(%opt); }
	$load->connect($through);
}
$load->run(sub { return $load->answers >= 600; });
is(scalar(keys %{ $load->{unknown} }), 0, 'no answer was lost');
# account-1 is not part of the load
$load->check($direct, 'through PgBouncer', except => [qw(account-1)]);
$server->sound('after charging through PgBouncer');

# What is left on the server connections. Each is asked while the others are
# kept busy, so that all are reached.
{
	my @holders = map { pooled(name => "holder $_") } 1 .. $pool;
	my %seen;
	foreach my $holder (@holders)
	{
		$holder->query('BEGIN');
		my $pid = $holder->value('SELECT pg_backend_pid()');
		$seen{$pid} = 1;
		is($holder->value("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'"), 0, 'no advisory lock is left');
		is($holder->value('SELECT count(*) FROM pg_prepared_statements'), 0, 'no prepared statement');
		is($holder->value('SELECT count(*) FROM pg_cursors WHERE is_holdable'), 0, 'no cursor');
		is($holder->value("SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()"), 0, 'no temporary table');
		is( $holder->value(
				"SELECT coalesce(string_agg(name || ' = ' || setting, ', '), '') FROM pg_settings
				WHERE source = 'session' AND name NOT IN ('client_encoding', 'application_name')"),
			'', 'no setting');
		is($holder->value('SELECT current_user || \' \' || session_user'), 'app app', 'nobody else');
		is($holder->value('SHOW search_path'), '"$user", public', 'the search_path of before');
	}
	is(scalar(keys %seen), $pool, 'every server connection was looked at');
}

$server->stop;
done_testing();
