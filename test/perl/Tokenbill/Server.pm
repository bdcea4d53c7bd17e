# A PostgreSQL server with tokenbill in it, for the TAP tests.
#
#   my $server = Tokenbill::Server->new('main');
#   $server->begin(conf => [ 'max_connections = 20' ]);  init, start, extension
#   $server->client(user => ..., clock => ...)           a Tokenbill::Client
#   $server->kill_everything                             SIGKILL, all at once
#   $server->wait_until($what, sub { ... })              a named condition
#   $server->wait_blocked($client)                       it waits for a lock
#   $server->wait_restarted($client)                     after a backend's crash
#   $server->hammer($clock, $seed, $times, @scripts)     64 clients of pgbench
#   $server->sound($when)                                the ledger is proven
#   $server->watching                                    lines of postgresql.conf: a
#                                                        worker that may ask a double
#
# and functions: seed(), which prints and plants the seed of a randomised test
# (TB_SEED in the environment repeats a run), decimal(), an exact number, and
# build_driver($name, $dir), which makes a library for CREATE FUNCTION in that
# directory of test/drivers/NAME.c.
package Tokenbill::Server;

use strict;
use warnings;
use parent qw(PostgreSQL::Test::Cluster);

use Carp;
use Exporter qw(import);
use FindBin;
use Math::BigFloat;
# not its assertions: they would hide the methods of that name
use PostgreSQL::Test::Utils qw(append_to_file run_command slurp_file);
use Test::More;
use Time::HiRes qw(time);
use Tokenbill::Client;

our @EXPORT_OK = qw(seed decimal equal_decimals build_driver);

sub seed
{
	my $seed = $ENV{TB_SEED} || int(rand(2**31));
	srand($seed);
	note("TB_SEED=$seed repeats this run");
	return $seed;
}

sub decimal
{
	my ($text) = @_;
	my $number = Math::BigFloat->new($text);
	croak "not a number: " . (defined $text ? $text : 'null')
	  if !defined $text || $number->is_nan;
	return $number;
}

# Equal as numbers: 1.50 is 1.5
sub equal_decimals
{
	my ($one, $other) = @_;
	return defined $one && defined $other && decimal($one)->bcmp(decimal($other)) == 0;
}

sub build_driver
{
	my ($name, $dir) = @_;
	my $test = "$FindBin::RealBin/..";
	my ($include) = run_command([ $ENV{PG_CONFIG}, '--includedir-server' ]);
	my ($out, $err) = run_command(
		[ 'gcc', '-shared', '-fPIC', '-Wall', '-I', $include, '-I', "$test/../src", '-o', "$dir/$name.so", "$test/drivers/$name.c" ]);
	BAIL_OUT("the driver $name cannot be built\n$out\n$err") if $?;
	return;
}

sub begin
{
	my ($self, %opt) = @_;
	$self->init(allows_streaming => $opt{allows_streaming} || 0);
	# a load of thousands of statements would only fill the log
	$self->append_conf('postgresql.conf', "log_statement = none\nautovacuum = off\nmax_connections = 20\n");
	$self->append_conf('postgresql.conf', "$_\n") foreach @{ $opt{conf} || [] };
	$self->start;
	$self->safe_psql('postgres', 'CREATE EXTENSION tokenbill') unless $opt{no_extension};
	return $self;
}

# With a worker, a key for its secrets, and leave to ask a double on this machine
sub watching
{
	my ($self) = @_;
	my $key = $self->basedir . '/secrets.key';
	append_to_file($key, join('', map { sprintf '%02x', rand 256 } 1 .. 32) . "\n");
	chmod 0600, $key or croak "chmod: $!";
	return ("shared_preload_libraries = 'tokenbill'", "tokenbill.key_file = '$key'",
		'tokenbill.allow_http = on', 'tokenbill.allow_private_addresses = on');
}

# clock: a fixed time for tokenbill in this session (superusers only)
sub client
{
	my ($self, %opt) = @_;
	my %settings = %{ delete $opt{settings} || {} };
	$settings{'tokenbill.clock'} = delete $opt{clock} if exists $opt{clock};
	return Tokenbill::Client->new(
		host => $self->host,
		port => $self->port,
		user => 'postgres',
		settings => \%settings,
		%opt);
}

# Wait for a condition by name. There is no other way to wait in these tests.
sub wait_until
{
	my ($self, $what, $condition) = @_;
	my $deadline = time() + $Tokenbill::Client::timeout;
	while (1)
	{
		my $answer = $condition->();
		return $answer if $answer;
		croak "waited $Tokenbill::Client::timeout s for: $what" if time() > $deadline;
		# between two looks
		select(undef, undef, undef, 0.02);
	}
}

# Until the client's statement waits for a heavyweight lock
sub wait_blocked
{
	my ($self, $client, $observer) = @_;
	my $own = $observer || $self->client(name => 'observer');
	$self->wait_until(
		$client->name . ' waits for a lock',
		sub {
			croak $client->name . ' did not wait' if $client->pump;
			return $own->value('SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted', $client->pid);
		});
	$own->close unless $observer;
	return;
}

# After a backend has died badly, until the server has started again.  Until the
# postmaster has noticed it accepts others, only to end them: this session, which was
# there before, tells when it has.
sub wait_restarted
{
	my ($self, $session) = @_;
	$self->wait_until('the other sessions to be ended', sub { return $session->query('SELECT')->{lost}; });
	$self->wait_until('the server to be back', sub { return eval { $self->client->value('SELECT 1') }; });
	return;
}

sub postmaster_pid
{
	my ($self) = @_;
	my ($pid) = split /\n/, slurp_file($self->data_dir . '/postmaster.pid');
	return $pid;
}

# The processes whose parent is $parent
sub _children
{
	my ($parent) = @_;
	my @children;
	foreach my $file (glob '/proc/[0-9]*/stat')
	{
		open my $stat, '<', $file or next;
		my $line = <$stat>;
		close $stat;
		next unless defined $line && $line =~ /^(\d+) \(.*\) \S (\d+)/s;
		push @children, $1 if $2 == $parent;
	}
	return @children;
}

# SIGKILL the postmaster and every process of it, and wait until they are gone
sub kill_everything
{
	my ($self) = @_;
	my $postmaster = $self->postmaster_pid;
	# stopped, it starts no new ones while the others are being listed
	kill 'STOP', $postmaster;
	my @children = _children($postmaster);
	$self->kill9;
	kill 'KILL', @children;
	$self->wait_until(
		'the killed processes to be gone',
		sub { return !grep { _alive($_) } $postmaster, @children; });
	# Until somebody asks for its status, the dead postmaster looks alive to
	# the next one, which would refuse to start
	unlink $self->data_dir . '/postmaster.pid', $self->host . '/.s.PGSQL.' . $self->port . '.lock'
	  if kill 0, $postmaster;
	return;
}

# A process that is dead is gone, also while nobody has asked for its status
sub _alive
{
	my ($pid) = @_;
	open my $stat, '<', "/proc/$pid/stat" or return 0;
	my $line = <$stat>;
	close $stat;
	return defined $line && $line !~ /^\d+ \(.*\) Z/s;
}

# Let 64 clients run scripts so many times each, one of them at a time
sub hammer
{
	my ($self, $clock, $seed, $times, @scripts) = @_;
	my @files;
	foreach my $n (0 .. $#scripts)
	{
		my $file = $self->basedir . "/script$n";
		unlink $file;
		append_to_file($file, $scripts[$n]);
		push @files, '-f', $file;
	}
	local $ENV{PGOPTIONS} = "-c tokenbill.clock=$clock";
	my ($out, $err) = run_command(
		[
			'pgbench', '-n', '-h', $self->host, '-p', $self->port, '-U', 'postgres',
			'-c', 64, '-j', 2, '-t', $times, '--random-seed', $seed, @files, 'postgres'
		]);
	my $all = 64 * $times;
	like($out, qr{number of transactions actually processed: $all/$all}, "64 clients, $all transactions") or diag("$out\n$err");
	return;
}

# Two assertions: verify_ledger() finds nothing, and an independent sum over
# the ledger gives every balance, number of lines and the trial balance
sub sound
{
	my ($self, $when, $dbname) = @_;
	my $client = $self->client(dbname => $dbname || 'postgres', name => 'auditor');
	my @problems = $client->rows('SELECT account, seq, problem, detail FROM tokenbill.verify_ledger()');
	is(scalar @problems, 0, "verify_ledger() finds nothing $when")
	  or diag(explain([ @problems[ 0 .. ($#problems > 9 ? 9 : $#problems) ] ]));

	my @wrong = $client->column(<<'SQL');
WITH dropped AS (
	SELECT c.account, max(c.seq) AS seq
	FROM tokenbill.month_closing c
	WHERE EXISTS (SELECT FROM tokenbill.month_total t WHERE t.month = c.month AND t.dropped_at IS NOT NULL)
	GROUP BY c.account
), opening AS (
	SELECT d.account, d.seq, c.balance
	FROM dropped d JOIN tokenbill.month_closing c ON c.account = d.account AND c.seq = d.seq
), line AS (
	SELECT l.account, count(*) AS lines, min(l.seq) AS first_seq, max(l.seq) AS last_seq, sum(l.amount) AS amount,
		count(DISTINCT l.seq) AS seqs, count(DISTINCT l.idempotency_key) AS keys
	FROM tokenbill.ledger l GROUP BY l.account
)
SELECT format('%s: balance %s, opening %s + lines %s; seq %s, %s lines %s..%s, %s keys', a.account, a.balance,
	o.balance, l.amount, a.seq, l.lines, l.first_seq, l.last_seq, l.keys)
FROM tokenbill.account a
LEFT JOIN opening o ON o.account = a.account
LEFT JOIN line l ON l.account = a.account
WHERE a.balance IS DISTINCT FROM coalesce(o.balance, 0) + coalesce(l.amount, 0)
	OR a.seq IS DISTINCT FROM coalesce(o.seq, 0) + coalesce(l.lines, 0)
	OR l.lines <> l.seqs OR l.lines <> l.keys
	OR l.last_seq <> a.seq OR l.first_seq <> coalesce(o.seq, 0) + 1
UNION ALL
SELECT format('trial balance of %s is %s', t.currency, sum(t.amount))
FROM tokenbill.trial_balance t GROUP BY t.currency HAVING sum(t.amount) <> 0
UNION ALL
SELECT format('%s holds %s, its open holds %s', a.account, a.held, h.held)
FROM tokenbill.account a
LEFT JOIN (SELECT h.account, sum(greatest(h.amount - h.captured, 0)) AS held FROM tokenbill.hold h
	WHERE h.status = 'held' GROUP BY h.account) h ON h.account = a.account
WHERE a.held <> coalesce(h.held, 0)
SQL
	is(join("\n", @wrong), '', "balances are the sums of the ledger $when");
	$client->close;
	return;
}

1;
