# What needs libcurl is a library of its own: no session loads it, the worker only
# when it has something to ask, and where it is missing, broken or of another
# version the worker says so and goes on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Copy qw(copy);
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Double;
use Tokenbill::Worker;

my $double = Tokenbill::Double->new;
my $server = Tokenbill::Worker->new('main');
$server->begin(conf => [ 'tokenbill.allow_http = on', 'tokenbill.allow_private_addresses = on', "tokenbill.retry_delays = '10ms'" ]);
my $pid = $server->wait_worker->{pid};
my $c = $server->client;

chomp(my $installed = `"$ENV{PG_CONFIG}" --pkglibdir`);
ok(-f "$installed/$_.so", "$_ is installed") foreach qw(tokenbill tokenbill_http);

# The linker takes the first of two symbols of one name for both libraries
my %defined;
foreach my $library (qw(tokenbill tokenbill_http))
{
	my ($out) = run_command([ 'nm', '-D', '--defined-only', "$installed/$library.so" ]);
	$defined{$_}++ foreach map { (split ' ')[2] } split /\n/, $out;
}
is(join(' ', grep { $defined{$_} > 1 } sort keys %defined), 'Pg_magic_func', 'no symbol is in both libraries');
ok($defined{tokenbill_http_engine}, 'the one function that is looked for is there');

sub maps { my ($of) = @_; return slurp_file("/proc/$of/maps"); }

# ---- who has it in memory
$c->query("SELECT tokenbill.create_account('a')");
$c->query("SELECT tokenbill.recharge('a', 10, 'order')");
is($c->value("SELECT kind FROM tokenbill.charge_amount('a', 1, 'k')"), 'charge', 'a session charges');
like(maps($c->pid), qr{/tokenbill\.so}, 'with tokenbill');
unlike(maps($c->pid), qr{libcurl|tokenbill_http}, 'and without libcurl');
unlike(maps($pid), qr{libcurl|tokenbill_http}, 'nor has a worker libcurl that has asked nobody');

sub balance { return { is_available => \1, balance_infos => [ { currency => 'USD', total_balance => $_[0], granted_balance => '0', topped_up_balance => $_[0] } ] }; }

sub ask { $c->query("SELECT tokenbill.check_provider_now('one')"); return; }

sub wait_balance
{
	my ($balance) = @_;
	# loading it is tried once a second at first, then less often
	$server->wait_until("the balance to be $balance", sub {
		return 1 if ($c->value('SELECT balance FROM tokenbill.provider_balances') // '') eq $balance;
		ask();
		return 0; });
	return;
}

$double->script('one/user/balance', { body => balance('7.5') });
is($c->query("SELECT tokenbill.add_provider('one', 'deepseek', base_url => \$1, check_every => '1 day', calls_per_minute => 60000)", $double->url('one'))->{error}, undef, 'there is a provider');
wait_balance('7.5');
like(maps($pid), qr{libcurl}, 'it has libcurl when it has asked');

# ---- a worker that looks for it elsewhere, where it is not
my $elsewhere = PostgreSQL::Test::Utils::tempdir();

sub new_worker
{
	$c->query('ALTER SYSTEM SET tokenbill.worker = off');
	$server->reload;
	$server->wait_no_worker('postgres');
	$c->query('ALTER SYSTEM RESET tokenbill.worker');
	$server->reload;
	return $server->wait_worker->{pid};
}

# Ask until it is said that the library cannot be had, for a reason that matches
sub wait_error
{
	my ($reason) = @_;
	my $row;
	$server->wait_until("an error like $reason", sub {
		$row = $c->row("SELECT * FROM tokenbill.worker_errors WHERE duty = 'load a library' AND detail ~ \$1", $reason);
		return 1 if $row;
		ask();
		return 0; });
	return $row;
}

$c->query("ALTER DATABASE postgres SET dynamic_library_path = '$elsewhere'");
my $log = $server->log_from;
$pid = new_worker();
$double->forget;
my $error = wait_error('could not access file');
is($error->{target}, 'tokenbill_http', 'a library that is missing is a row of worker_errors');
is($error->{sqlstate}, '58P01', 'which says what is missing');
like($error->{hint}, qr/make install.*libcurl/, 'and what to do about it');
like($server->worker->{last_error}, qr/tokenbill_http cannot be loaded/, 'worker_status says it, too');
$server->wait_until('the check to be over', sub { return defined $c->value('SELECT error FROM tokenbill.provider_balances'); });
my $row = $c->row('SELECT * FROM tokenbill.provider_balances');
is($row->{balance}, '7.5', 'the balance stays');
is($row->{status}, 'stale', 'and is stale');
like($row->{error}, qr/tokenbill_http cannot be loaded; see worker_errors/, 'for that reason');
is(scalar $double->seen('/one/user/balance'), 0, 'nobody was asked');
is($c->value("SELECT count(*) FROM tokenbill.breakers WHERE state <> 'closed' OR failures > 0"), 0, 'which is not held against the provider');
cmp_ok(scalar $server->log_lines($log, qr/load a library: the library tokenbill_http cannot be loaded/), '>=', 1, 'the log says it');
cmp_ok(scalar $server->log_lines($log, qr/HINT: .*make install/), '>=', 1, 'with the hint');

# the others are done meanwhile
$c->query("SELECT tokenbill.hold('a', 1, 'short', ttl => '1 ms')");
$server->wait_until('a hold to expire', sub { return $c->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'short'") eq 'expired'; });
pass('upkeep is done');

# ---- what is there is no library
append_to_file("$elsewhere/tokenbill_http.so", "not a library\n");
$error = wait_error('could not load library');
is($error->{target}, 'tokenbill_http', 'one that is broken is an error as well');

# ---- it is installed: by another name first, so that it is there at once
copy("$installed/tokenbill_http.so", "$elsewhere/new.so") or die $!;
chmod 0755, "$elsewhere/new.so";
rename("$elsewhere/new.so", "$elsewhere/tokenbill_http.so") or die $!;
$double->script('one/user/balance', { body => balance('8.5') });
wait_balance('8.5');
is($server->worker->{pid}, $pid, 'once it is installed the same worker finds it');
is($c->value('SELECT status FROM tokenbill.provider_balances'), 'ok', 'and the balance is fresh');

# ---- that of another version
append_to_file("$elsewhere/other.c", <<'C');
#include "postgres.h"
#include "fmgr.h"

PG_MODULE_MAGIC;

typedef struct
{
	int			interface_number;
	const char *version;
} Engine;

PGDLLEXPORT const Engine *tokenbill_http_engine(void);

const Engine *
tokenbill_http_engine(void)
{
	static const Engine engine = {2, "0.9"};

	return &engine;
}
C
chomp(my $include = `"$ENV{PG_CONFIG}" --includedir-server`);
system_or_bail('gcc', '-shared', '-fPIC', '-I', $include, '-o', "$elsewhere/other.so", "$elsewhere/other.c");
rename("$elsewhere/other.so", "$elsewhere/tokenbill_http.so") or die $!;
$pid = new_worker();
$double->forget;
$error = wait_error('0\.9');
is($error->{sqlstate}, '55000', 'one of another version is not used');
like($error->{hint}, qr/restart the server/, 'it says what to do');
is(scalar $double->seen('/one/user/balance'), 0, 'nobody was asked');
is($server->worker->{pid}, $pid, 'and the worker lives');

is_deeply([ $server->log_lines($log, qr/ERROR|WARNING|PANIC|FATAL(?!.*administrator command)/) ], [], 'the log is quiet');
$c->close;
$server->stop;
done_testing();
