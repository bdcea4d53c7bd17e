# Which databases have a worker: those with the extension, whatever happens to
# databases and extensions; and that none of it leaves a line in the log.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Worker;

my $server = Tokenbill::Worker->new('main');
$server->begin(no_extension => 1, conf => [ 'max_worker_processes = 16' ]);
my $log = $server->log_from;
# a database without the extension
my $watch = $server->client(name => 'watch', dbname => 'watch');

sub run_in
{
	my ($dbname, $sql) = @_;
	my $c = $server->client(dbname => $dbname);
	my $answer = $c->query($sql);
	$c->close;
	is($answer->{error} && "$answer->{error}{code} $answer->{error}{message}", undef, $sql);
	return;
}

# ---- CREATE EXTENSION
is($server->workers->{postgres}, undef, 'no extension, no worker');
run_in('postgres', 'CREATE EXTENSION tokenbill');
my $row = $server->wait_worker;
is($row->{state}, 'asleep', 'CREATE EXTENSION brings a worker, which has nothing to do');
is($row->{next_due}, undef, 'and sleeps until it is woken');
is($row->{failures}, 0, 'nothing has gone wrong');
is($server->launcher->{state}, 'asleep', 'the launcher sleeps, too');
is($watch->value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tokenbill worker' AND application_name = 'tokenbill worker'"), 1, 'it goes by its name');

# in a transaction: not before it commits
run_in('postgres', 'CREATE DATABASE later');
my $later = $server->client(name => 'later', dbname => 'later');
$later->query('BEGIN');
is($later->query('CREATE EXTENSION tokenbill')->{error}, undef, 'CREATE EXTENSION in a transaction');
is($later->value("SELECT state FROM tokenbill.worker_status WHERE process = 'worker'"), 'none', 'has no worker yet');
$later->query('COMMIT');
$server->wait_worker('later');
pass('it has one after COMMIT');

# a transaction that is prepared, and committed by another session
$server->append_conf('postgresql.conf', 'max_prepared_transactions = 5');
$server->restart;
$watch = $server->client(name => 'watch', dbname => 'watch');
$server->wait_worker($_) foreach qw(postgres later);
pass('after a restart each has its worker again');
$log = $server->log_from;
run_in('postgres', 'CREATE DATABASE prepared');
{
	my $c = $server->client(dbname => 'prepared');
	$c->query('BEGIN');
	$c->query('CREATE EXTENSION tokenbill');
	is($c->query("PREPARE TRANSACTION 'made'")->{error}, undef, 'CREATE EXTENSION in a transaction that is prepared');
	$c->close;
	run_in('prepared', "COMMIT PREPARED 'made'");
	$server->wait_worker('prepared');
	pass('it has a worker after COMMIT PREPARED');
}

# ---- databases that are copied, renamed, moved, dropped
my $was = $server->workers->{later};
run_in('postgres', 'SELECT 1');
$later->close;
run_in('postgres', 'CREATE DATABASE copied TEMPLATE later');
$server->wait_worker('copied');
pass('a copy has a worker of its own');
$server->wait_worker('later');
isnt($server->workers->{later}, $was, 'that of the template had gone, and is back');

run_in('postgres', 'ALTER DATABASE copied RENAME TO renamed');
$server->wait_worker('renamed');
pass('a renamed database has its worker again');
{
	my $c = $server->client;
	$c->query('BEGIN');
	is($c->query('ALTER DATABASE renamed RENAME TO copied')->{error}, undef, 'ALTER DATABASE RENAME in a transaction');
	is($c->query('ALTER DATABASE later RENAME TO latest')->{error}, undef, 'and another');
	$c->query('ROLLBACK');
	$c->close;
	$server->wait_worker($_) foreach qw(renamed later);
	pass('rolled back, both have their worker again');
}
$watch->query('SET allow_in_place_tablespaces = on');
$watch->query("CREATE TABLESPACE elsewhere LOCATION ''");
run_in('postgres', 'ALTER DATABASE renamed SET TABLESPACE elsewhere');
$server->wait_worker('renamed');
pass('a moved one, too');

run_in('postgres', 'ALTER DATABASE renamed ALLOW_CONNECTIONS false');
$server->wait_no_worker('renamed');
pass('a database that takes no connections has none');
run_in('postgres', 'ALTER DATABASE renamed ALLOW_CONNECTIONS true');
$server->wait_worker('renamed');
pass('until it does');
run_in('postgres', 'ALTER DATABASE renamed IS_TEMPLATE true');
$server->wait_no_worker('renamed');
run_in('postgres', 'ALTER DATABASE renamed IS_TEMPLATE false');
$server->wait_worker('renamed');
pass('nor has a template');

# a name that has to be quoted
{
	my $odd = "Weird \"db'; \\x\nname";
	(my $name = $odd) =~ s/"/""/g;
	run_in('postgres', qq(CREATE DATABASE "$name" TEMPLATE template0));
	my $c = $server->client;
	is($c->query(qq(ALTER DATABASE renamed RENAME TO "another $name"))->{error}, undef, 'ALTER DATABASE RENAME to a name that has to be quoted');
	$server->wait_until('its worker', sub {
		return $c->value(q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tokenbill worker' AND datname = $1), "another $odd"); });
	is($c->query(qq(ALTER DATABASE "another $name" RENAME TO renamed))->{error}, undef, 'and back');
	is($c->query(qq(DROP DATABASE "$name"))->{error}, undef, 'DROP DATABASE of one');
	$c->close;
	$server->wait_worker('renamed');
}

# a template without a name is template1, which has a worker when it is none
{
	run_in('postgres', 'ALTER DATABASE template1 IS_TEMPLATE false');
	run_in('template1', 'CREATE EXTENSION tokenbill');
	$server->wait_worker('template1');
	run_in('postgres', 'CREATE DATABASE by_default');
	$server->wait_worker($_) foreach qw(template1 by_default);
	pass('CREATE DATABASE from template1 while that has a worker');
	run_in('postgres', 'DROP DATABASE by_default');
	run_in('template1', 'DROP EXTENSION tokenbill');
	$server->wait_no_worker('template1');
	run_in('postgres', 'ALTER DATABASE template1 IS_TEMPLATE true');
}

# what locks and rewrites all of its tables
{
	my $old = $server->workers->{later};
	run_in('later', $_) foreach 'REINDEX DATABASE later', 'VACUUM FULL', 'CLUSTER', 'ANALYZE';
	is($server->wait_worker('later')->{pid}, $old, 'the worker does not mind REINDEX and VACUUM FULL');
}

# those who may not drop it disturb nobody
run_in('postgres', 'CREATE ROLE stranger LOGIN');
run_in('postgres', 'CREATE ROLE maker LOGIN CREATEDB');
my $before = $server->workers;
{
	my $c = $server->client(user => 'stranger');
	is($c->sqlstate($_), '42501', "a stranger: $_")
	  foreach 'DROP DATABASE renamed', 'ALTER DATABASE renamed RENAME TO mine', 'CREATE DATABASE mine TEMPLATE renamed';
	$c->close;
	$c = $server->client(user => 'maker');
	is($c->sqlstate('CREATE DATABASE mine TEMPLATE renamed'), '42501', 'who may make databases: not from that one');
	$c->close;
	$c = $server->client;
	$c->query('BEGIN');
	is($c->sqlstate('DROP DATABASE renamed'), '25001', 'DROP DATABASE in a transaction');
	$c->query('ROLLBACK');
	$c->close;
}
is_deeply($server->workers, $before, 'none of that has disturbed a worker');

# somebody else is connected: PostgreSQL's own error, and the worker comes back
{
	my $guest = $server->client(dbname => 'renamed');
	my $c = $server->client;
	is($c->sqlstate('DROP DATABASE renamed'), '55006', 'DROP DATABASE of one that is in use');
	$guest->close;
	$c->close;
	$server->wait_worker('renamed');
	pass('its worker is back');
}
run_in('postgres', 'DROP DATABASE renamed');
run_in('postgres', 'DROP DATABASE later WITH (FORCE)');
is_deeply([ sort keys %{ $server->workers } ], [qw(postgres prepared)], 'dropped databases have no worker');

# ---- DROP EXTENSION
run_in('prepared', 'DROP EXTENSION tokenbill');
$server->wait_no_worker('prepared');
pass('DROP EXTENSION ends the worker');
run_in('prepared', 'CREATE EXTENSION tokenbill');
my $pid = $server->wait_worker('prepared')->{pid};
{
	# with the transaction open; elsewhere all goes on
	my $c = $server->client(dbname => 'prepared', name => 'dropper');
	$c->query('BEGIN');
	is($c->query('DROP EXTENSION tokenbill')->{error}, undef, 'DROP EXTENSION in a transaction');
	# something for the worker of another database
	my $elsewhere = $server->client;
	$elsewhere->query("SELECT tokenbill.create_account('a')");
	$elsewhere->query("SELECT tokenbill.recharge('a', 10, 'order')");
	$elsewhere->query("SELECT tokenbill.hold('a', 1, 'short', ttl => '1 ms')");
	$server->wait_until('the hold to expire elsewhere',
		sub { return $elsewhere->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'short'") eq 'expired'; });
	pass('the worker of another database works meanwhile');
	$elsewhere->close;
	$c->query('ROLLBACK');
	is($server->wait_worker('prepared')->{pid}, $pid, 'rolled back, the worker is the same');

	# and DROP and CREATE in one: another worker, for another extension
	$c->query('BEGIN');
	$c->query('DROP EXTENSION tokenbill');
	$c->query('CREATE EXTENSION tokenbill');
	$c->query('COMMIT');
	$server->wait_until('another worker', sub { my $now = $server->worker('prepared'); return ($now->{pid} // $pid) != $pid && $now->{state} eq 'asleep'; });
	pass('dropped and made anew in one transaction, it has another worker');
	$c->close;
}

sub quiet
{
	my ($what) = @_;
	is(join("\n", $server->log_lines($log, qr/tokenbill|background worker|FATAL|PANIC|crash/)), '', "the log has no line of $what");
	$log = $server->log_from;
	return;
}
quiet('all that');

# while the worker waits for a lock in the middle of a step
{
	my $c = $server->client(dbname => 'prepared', name => 'dropper');
	my $blocker = $server->client(dbname => 'prepared', name => 'blocker');
	$c->query("SELECT tokenbill.create_account('a')");
	$c->query("SELECT tokenbill.recharge('a', 10, 'order')");
	$blocker->query('BEGIN');
	$blocker->query("SELECT tokenbill.charge_amount('a', 1, 'open')");
	$c->query("UPDATE tokenbill.account SET balance = balance WHERE account = 'none'");
	$c->query("INSERT INTO tokenbill.hold (account, hold_key, amount, expires_at, created_at, updated_at) VALUES ('a', 'overdue', 1, '2026-01-01', '2026-01-01', '2026-01-01')");
	$c->query('SELECT tokenbill.wake_worker()');
	my $observer = $server->client(dbname => 'prepared', name => 'observer');
	my $worker = $server->workers->{prepared};
	$server->wait_until('the worker to wait for the account',
		sub { return $observer->value('SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted', $worker); });
	$c->send('DROP EXTENSION tokenbill');
	$server->wait_blocked($c, $observer);
	$blocker->query('ROLLBACK');
	is($c->result->{error}, undef, 'DROP EXTENSION while the worker is in the middle of something');
	$server->wait_no_worker('prepared');
	pass('and it is gone');
	# how long a step waits for a lock is a matter of seconds
	is(join("\n", $server->log_lines($log, qr/deadlock|FATAL|PANIC/)), '', 'without a deadlock');
	$log = $server->log_from;
	$_->close foreach $c, $blocker, $observer;
}
run_in('postgres', 'DROP DATABASE prepared');
is_deeply([ keys %{ $server->workers } ], ['postgres'], 'one is left');

# ---- idle is asleep
{
	my $c = $server->client(dbname => 'watch');
	my $asleep = $server->wait_state('postgres', 'asleep');
	my $mark = <<'SQL';
SELECT concat_ws(' ', (SELECT string_agg(concat_ws(' ', pid, state_change, xact_start, query_start), ';' ORDER BY pid) FROM pg_stat_activity WHERE backend_type LIKE 'tokenbill%'),
	(SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'postgres'))
SQL
	# the numbers of those who have left come in late
	my $first = '';
	$server->wait_until('the statistics to stand still', sub { my $last = $first; $first = $c->value($mark); return $first eq $last; });
	my $busy = $server->client(dbname => 'watch', name => 'busy');
	$busy->query("SELECT count(*) FROM pg_class, pg_attribute") foreach 1 .. 20;
	is($c->value($mark), $first, 'while another database works, the worker makes no transaction');
	$_->close foreach $busy, $c;
	ok($asleep->{next_due} gt '2026', "it sleeps until the next month has to be made: $asleep->{next_due}");
	is($asleep->{duty}, 'ledger months', 'and says so');
}

quiet('the rest');
$server->stop;
done_testing();
