# The worker ends, the launcher ends, the server crashes: they are back. A
# standby has none, and has them when it is promoted.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Double;
use Tokenbill::Worker;

my $primary = Tokenbill::Worker->new('primary');
$primary->begin(allows_streaming => 1, conf => [ 'restart_after_crash = on', 'tokenbill.allow_http = on', 'tokenbill.allow_private_addresses = on' ]);

sub other_worker
{
	my ($server, $old) = @_;
	my $row;
	$server->wait_until('another worker', sub { $row = $server->worker; return $row->{pid} && $row->{pid} != $old && $row->{state} eq 'asleep'; });
	return $row;
}

# ---- SIGTERM
my $log = $primary->log_from;
my $pid = $primary->wait_worker->{pid};
kill 'TERM', $pid;
my $row = other_worker($primary, $pid);
is($row->{failures}, 1, 'a worker that was ended is started again, and counted');
is(scalar $primary->log_lines($log, qr/tokenbill/), 1, 'that is one line of the log');

# cancelled while it sleeps, it goes on
$pid = $row->{pid};
my $client = $primary->client;
is($client->value('SELECT pg_cancel_backend($1)', $pid), 't', 'pg_cancel_backend of a worker');
$client->query("SELECT tokenbill.create_account('a')");
$client->query("SELECT tokenbill.recharge('a', 10, 'order')");
$client->query("SELECT tokenbill.hold('a', 1, 'one', ttl => '1 ms')");
$primary->wait_until('a hold to expire', sub { return $client->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'one'") eq 'expired'; });
is($primary->wait_state('postgres', 'asleep')->{pid}, $pid, 'it goes on working');

# ---- the launcher: workers do not mind
my $launcher = $primary->launcher->{pid};
$client->query('SELECT pg_terminate_backend($1)', $launcher);
$primary->wait_until('another launcher', sub { my $now = $primary->launcher->{pid}; return $now && $now != $launcher; });
is($primary->worker->{pid}, $pid, 'the launcher is back, the worker is the same');
kill 'TERM', $pid;
$pid = other_worker($primary, $pid)->{pid};
pass('and it is looked after by the new launcher');

# ---- reload
$client->query('ALTER SYSTEM SET tokenbill.worker = off');
$primary->reload;
$primary->wait_no_worker('postgres');
$row = $primary->wait_state('postgres', 'off|backing off');
$client->query("SELECT tokenbill.hold('a', 1, 'two', ttl => '1 ms')");
is($client->value('SELECT count(*) FROM tokenbill.worker_status WHERE process = $1 AND pid IS NOT NULL', 'worker'), 0, 'switched off, there is none');
$client->query('ALTER SYSTEM RESET tokenbill.worker');
$primary->reload;
$primary->wait_until('the hold to expire', sub { return $client->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'two'") eq 'expired'; });
pass('switched on, it does what has been left');

# time stands still, and is moved
$client->query("ALTER SYSTEM SET tokenbill.clock = '2027-01-01 00:00:00+00'");
$primary->reload;
my $later = $primary->client(clock => '2027-01-01 00:00:00+00', name => 'later');
$later->query("SELECT tokenbill.hold('a', 1, 'three', ttl => '1 hour')");
$primary->wait_until('the worker to know', sub { my $now = $primary->worker; return ($now->{duty} // '') eq 'expired holds' && $now->{state} eq 'asleep'; });
is($primary->worker->{next_due}, '2027-01-01 01:00:00+00', 'a hold wakes the worker, which sees when it is due');
$client->query("ALTER SYSTEM SET tokenbill.clock = '2027-01-01 01:00:00+00'");
$primary->reload;
$primary->wait_until('the hold to expire', sub { return $later->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'three'") eq 'expired'; });
pass('when the clock is set on, the hold expires');
is($later->value("SELECT created_at FROM tokenbill.ledger WHERE ref = 'three' AND kind = 'expiry'"), '2027-01-01 01:00:00+00', 'at that time');

# a credit, and the next month
$later->query("SELECT tokenbill.grant_credit('a', 1, 'gift', expires_at => '2027-01-10')");
$primary->wait_until('the worker to know', sub { return ($primary->worker->{duty} // '') eq 'expired credits'; });
$client->query("ALTER SYSTEM SET tokenbill.clock = '2027-02-23 00:00:00+00'");
$primary->reload;
$primary->wait_until('the credit to expire', sub { return $later->value("SELECT status FROM tokenbill.credit WHERE credit_key = 'gift'") eq 'expired'; });
$primary->wait_until('the next month', sub { return $later->value("SELECT to_regclass('tokenbill.ledger_2027_03') IS NOT NULL") eq 't'; });
pass('and a week before a month begins it is made');
$client->query('ALTER SYSTEM RESET tokenbill.clock');
$primary->reload;

# ---- what the database says about sessions is not for the worker
$client->query('ALTER DATABASE postgres SET default_transaction_read_only = on');
$client->query("ALTER DATABASE postgres SET search_path = 'nowhere'");
$client->query("ALTER DATABASE postgres SET session_replication_role = 'replica'");
my %odd = (standard_conforming_strings => 'off', array_nulls => 'off', transform_null_equals => 'on', datestyle => 'SQL, DMY', intervalstyle => 'sql_standard',
	lock_timeout => 1, default_transaction_isolation => 'serializable', jit_above_cost => 0,
	'plpgsql.extra_errors' => 'all', 'plpgsql.variable_conflict' => 'use_variable', plan_cache_mode => 'force_generic_plan', timezone => 'Asia/Kathmandu',
	work_mem => '64kB', bytea_output => 'escape', extra_float_digits => -15, quote_all_identifiers => 'on', backslash_quote => 'off');
$client->query("ALTER DATABASE postgres SET $_ = '$odd{$_}'") foreach sort keys %odd;
$pid = $primary->worker->{pid};
kill 'TERM', $pid;
other_worker($primary, $pid);
{
	my $writer = $primary->client(settings => { default_transaction_read_only => 'off', session_replication_role => 'origin', statement_timeout => 0, lock_timeout => 0,
			idle_in_transaction_session_timeout => 0, standard_conforming_strings => 'on', datestyle => 'ISO', intervalstyle => 'postgres', search_path => 'pg_catalog',
			default_transaction_isolation => 'read committed', bytea_output => 'hex', extra_float_digits => 1, jit => 'off', timezone => 'UTC' });
	$writer->query("SELECT tokenbill.hold('a', 1, 'four', ttl => '1 ms')");
	$primary->wait_until('the hold to expire', sub { return $writer->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'four'") eq 'expired'; });
	pass('a worker in a database that is read-only by default writes');
	# an answer is read as everywhere
	my $double = Tokenbill::Double->new;
	$double->script('odd/user/balance', { body => qq({"is_available": true, "balance_infos": [{"currency": "USD", "total_balance": "0.10", "note": "\\u00e9 \\\\ '"}]}) });
	$writer->query("SELECT tokenbill.add_provider('odd', 'deepseek', '" . $double->url('odd') . "')");
	$writer->query("SELECT tokenbill.check_provider_now('odd')");
	$primary->wait_until('the provider to be asked', sub { return ($writer->value("SELECT checks FROM tokenbill.provider_checks WHERE provider = 'odd'") // 0) > 0; });
	is_deeply([ $writer->rows("SELECT currency, balance, error FROM tokenbill.provider_balances WHERE provider = 'odd'") ], [ { currency => 'USD', balance => '0.10', error => undef } ],
		'whatever the database says of how SQL is read');
	is_deeply([ $writer->rows('SELECT duty, message FROM tokenbill.worker_errors') ], [], 'nothing went wrong');
	$writer->query("SELECT tokenbill.drop_provider('odd')");
	$writer->query("ALTER DATABASE postgres RESET $_") foreach qw(default_transaction_read_only search_path session_replication_role), keys %odd;
	$writer->close;
}

# ---- a standby has none
$primary->backup('base');
my $standby = Tokenbill::Worker->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is(scalar(keys %{ $standby->workers }), 0, 'a standby has no worker');
is($standby->launcher->{state}, 'standby', 'nor a launcher, and says why');
$client->query("SELECT tokenbill.hold('a', 1, 'five', ttl => '1 ms')");
$primary->wait_until('the hold to expire', sub { return $client->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'five'") eq 'expired'; });
$client->query('ALTER SYSTEM SET tokenbill.worker = off');
$primary->reload;
$primary->wait_no_worker('postgres');
$client->query("SELECT tokenbill.hold('a', 1, 'six', ttl => '1 ms')");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$client->query('ALTER SYSTEM RESET tokenbill.worker');
$client->close;
$later->close;
$primary->stop('fast');
$standby->promote;
$standby->wait_worker;
$client = $standby->client;
$standby->wait_until('the hold to expire', sub { return $client->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'six'") eq 'expired'; });
pass('promoted, it has a worker, which does what is due');
$client->close;
$standby->sound('after the promotion');

# ---- kill -9
$pid = $standby->wait_worker->{pid};
kill 'KILL', $pid;
$standby->wait_gone($pid);
my $back;
$standby->wait_until('the server to be back, with a worker', sub { $back = $standby->worker; return ($back->{state} // '') eq 'asleep' && $back->{pid} != $pid; });
is($back->{failures}, 0, 'after a crash all begins anew');
$client = $standby->client;
$client->query("SELECT tokenbill.hold('a', 1, 'seven', ttl => '1 ms')");
$standby->wait_until('a hold to expire', sub { return $client->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'seven'") eq 'expired'; });
pass('and works');
$client->close;
$standby->kill_everything;
$standby->start;
$standby->wait_worker;
pass('also after all processes were killed');
$standby->sound('at the end');
$standby->stop;
done_testing();
