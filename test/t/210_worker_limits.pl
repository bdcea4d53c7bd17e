# What keeps a worker from working: no process is free, the extension has another
# version, one duty is broken. It is said, it is tried again, the log stays short,
# and what can be done is done.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Worker;

my $server = Tokenbill::Worker->new('main');
# one for logical replication, one for the launcher, one for a worker
$server->begin(conf => [ 'max_worker_processes = 3', 'max_logical_replication_workers = 1' ]);
$server->wait_worker;

# ---- no process is free
my $log = $server->log_from;
my $c = $server->client;
$c->query('CREATE DATABASE second');
my $second = $server->client(dbname => 'second');
$second->query('CREATE EXTENSION tokenbill');
my $row = $server->wait_state('second', 'no process');
is($row->{pid}, undef, 'no process is free for a second worker');
like($row->{hint}, qr/max_worker_processes/, 'it says what to do');
ok(defined $row->{restart_at}, 'and when it is tried again');
$server->wait_until('it to be tried thrice', sub { return ($server->worker('second')->{failures} // 0) >= 3; });
is(scalar $server->log_lines($log, qr/no background worker process is free for database "second"/), 1, 'the log says it once');
is(scalar $server->log_lines($log, qr/You may need to increase max_worker_processes/), 1, 'with a hint')
  or diag(join "\n", $server->log_lines($log, qr/./));
is($server->worker->{state}, 'asleep', 'the first worker does not mind');

# one that is free is taken at once, long before the next try
$c->query('DROP EXTENSION tokenbill');
$server->wait_worker('second');
pass('one that is free is taken');
$second->query('DROP EXTENSION tokenbill');
$second->close;
$c->query('CREATE EXTENSION tokenbill');
$server->wait_worker;
$c->query('DROP DATABASE second');
$server->append_conf('postgresql.conf', 'max_worker_processes = 12');
$server->restart;
$c = $server->client;
my $pid = $server->wait_worker->{pid};

# ---- the extension has another version
$log = $server->log_from;
$c->query("UPDATE pg_catalog.pg_extension SET extversion = '0.9' WHERE extname = 'tokenbill'");
$c->query('SELECT tokenbill.wake_worker()');
$row = $server->wait_state('postgres', 'other version');
like($row->{last_error}, qr/0\.9/, 'an extension of another version has no worker');
like($row->{hint}, qr/ALTER EXTENSION tokenbill UPDATE/, 'it says what to do');
is(scalar $server->log_lines($log, qr/tokenbill worker: the extension has version 0\.9/), 1, 'the log says it once');
$c->query("UPDATE pg_catalog.pg_extension SET extversion = '1.0' WHERE extname = 'tokenbill'");
$server->reload;
$server->wait_worker;
pass('of its own version it has one again');

# ---- one duty is broken: the others are done
$c->query("SELECT tokenbill.create_account('a')");
$c->query("SELECT tokenbill.recharge('a', 10, 'order')");
$c->query("ALTER TABLE tokenbill.hold ADD CONSTRAINT broken CHECK (status <> 'expired')");
$log = $server->log_from;
$c->query("SELECT tokenbill.hold('a', 1, 'stuck', ttl => '1 ms')");
my $error;
$server->wait_until('the error to be seen twice',
	sub { $error = $c->row("SELECT * FROM tokenbill.worker_errors WHERE duty = 'expired holds'"); return $error && $error->{count} >= 2; });
is($error->{sqlstate}, '23514', 'a duty that fails is a row of worker_errors, and a count');
like($error->{message}, qr/violates check constraint "broken"/, 'which says why');
ok($error->{last_at} gt $error->{first_at}, 'and since when');
$c->query("SELECT tokenbill.grant_credit('a', 1, 'gift', expires_at => now() + interval '200 ms')");
$server->wait_until('the credit to expire', sub { return $c->value("SELECT status FROM tokenbill.credit WHERE credit_key = 'gift'") eq 'expired'; });
pass('another duty is done all the same');
is($c->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'stuck'"), 'held', 'the broken one is not');
is($server->worker->{failures}, 0, 'the process has not ended for it');
ok($c->value("SELECT not_before > ran_at FROM tokenbill.worker_duty WHERE duty = 'expired holds'") eq 't', 'it rests between two tries');
$c->query('ALTER TABLE tokenbill.hold DROP CONSTRAINT broken');
$server->wait_until('the hold to expire', sub { return $c->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'stuck'") eq 'expired'; });
pass('mended, it is done without more ado');
is($c->value("SELECT count(*) FROM tokenbill.worker_duty WHERE duty = 'expired holds'"), 0, 'and the failures are forgotten');
is(scalar $server->log_lines($log, qr/ERROR|FATAL/), 0, 'nothing of it was an error of the log');

# ---- what is broken for all: the process goes on, and says so
$log = $server->log_from;
$c->query('ALTER FUNCTION tokenbill.upkeep_due() RENAME TO upkeep_was_due');
$c->query('SELECT tokenbill.wake_worker()');
$server->wait_until('the error to be seen twice',
	sub { $error = $c->row("SELECT * FROM tokenbill.worker_errors WHERE duty = 'what is due'"); return $error && $error->{count} >= 2; });
is($error->{sqlstate}, '42883', 'a step that fails is a row, too');
like($server->worker->{last_error}, qr/upkeep_due/, 'and shown in worker_status');
cmp_ok(scalar $server->log_lines($log, qr/tokenbill worker: what is due: /), '<=', $c->value("SELECT count FROM tokenbill.worker_errors WHERE duty = 'what is due'"),
	'the log has a line of each try');
$c->query('ALTER FUNCTION tokenbill.upkeep_was_due() RENAME TO upkeep_due');
$c->query("SELECT tokenbill.hold('a', 1, 'next', ttl => '1 ms')");
$server->wait_until('a hold to expire', sub { return $c->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'next'") eq 'expired'; });
pass('mended, it works again');

# ---- errors are kept for a while
$c->query("UPDATE tokenbill.worker_error SET last_at = last_at - interval '31 days'");
$c->query('SELECT tokenbill.wake_worker()');
$server->wait_until('the errors to be deleted', sub { return $c->value('SELECT count(*) FROM tokenbill.worker_errors') == 0; });
pass('errors are deleted after a month');
$c->close;
$server->sound('after all that');

# ---- without shared_preload_libraries
$server->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$server->restart;
$c = $server->client;
is($c->value('SELECT state FROM tokenbill.worker_status'), 'not preloaded', 'worker_status says that the library is not preloaded');
is($c->query('SELECT tokenbill.wake_worker()')->{error}, undef, 'and waking nobody is no error');
is($c->value("SELECT kind FROM tokenbill.hold('a', 1, 'unattended')"), 'hold', 'holds can be made');
is($c->query('DROP EXTENSION tokenbill')->{error}, undef, 'and the extension dropped');
$c->close;

# ---- a library that nobody uses
$server->append_conf('postgresql.conf', "shared_preload_libraries = 'tokenbill'");
$server->restart;
$log = $server->log_from;
$server->reload;
$server->wait_until('the launcher to be the only one',
	sub { return $server->safe_psql('watch', "SELECT string_agg(DISTINCT backend_type, ',') FROM pg_stat_activity WHERE backend_type LIKE 'tokenbill%'") eq 'tokenbill launcher'; });
is(join("\n", $server->log_lines($log, qr/tokenbill|background worker/)), '', 'a library without any extension says nothing');
$server->stop;
done_testing();
