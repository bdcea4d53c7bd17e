# The master key in the worker: a command that is slow, fails or prints something
# else holds nobody up who needs no secret; every failure is a row; the key is kept
# as long as is said and no longer, and a rotation is noticed before that. When the
# command prints is decided here, through a pipe.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;
use Tokenbill::Double;
use Tokenbill::Worker;

my $dir = PostgreSQL::Test::Utils::tempdir;
my ($key_a, $key_b) = map { $_ x 32 } qw(a1 b2);

sub write_key
{
	my ($file, @keys) = @_;
	unlink "$dir/$file";
	append_to_file("$dir/$file", join("\n", @keys) . "\n");
	chmod 0600, "$dir/$file";
	return;
}
write_key('key', $key_a);
POSIX::mkfifo("$dir/pipe", 0600) or die "mkfifo: $!";

# Says that it runs, and prints what is written into the pipe
my $slow = "echo \$\$ >> $dir/runs; exec cat $dir/pipe";
my $quick = "echo \$\$ >> $dir/runs; cat $dir/key";

sub runs { return -e "$dir/runs" ? split /\n/, slurp_file("$dir/runs") : (); }
sub forget_runs { unlink "$dir/runs"; return; }

# The command of now gets its answer
sub answer
{
	my ($text) = @_;
	open my $pipe, '>', "$dir/pipe" or die "open: $!";
	print $pipe $text;
	close $pipe;
	return;
}

my $double = Tokenbill::Double->new;
my $server = Tokenbill::Worker->new('main');
$server->begin(conf => [
	'tokenbill.allow_http = on', 'tokenbill.allow_private_addresses = on', "tokenbill.request_timeout = '10min'", "tokenbill.idle_timeout = '10min'",
	"tokenbill.key_command = '$quick'", 'tokenbill.key_command_retention = 0', "tokenbill.retry_delays = '0s'" ]);
$server->wait_worker;
my $c = $server->client;

# Settings of the worker, without asking it
sub settings_now
{
	my (%new) = @_;
	foreach my $name (sort keys %new)
	{
		my $value = $c->value('SELECT quote_literal($1::text)', $new{$name});
		$c->rows("ALTER SYSTEM SET tokenbill.$name = $value");
	}
	$server->reload;
	$server->wait_until('the settings to be in force', sub { return !grep { $c->value("SELECT setting FROM pg_settings WHERE name = 'tokenbill.$_'") ne $new{$_} } keys %new; });
	return;
}

# Settings of the worker: it has them, for it has given an answer that it was asked for afterwards
sub settings
{
	my (%new) = @_;
	settings_now(%new);
	free_goes_on();
	return;
}

sub body
{
	my ($amount) = @_;
	return { body => { is_available => \1, balance_infos => [ { currency => 'USD', total_balance => $amount, granted_balance => '0.00', topped_up_balance => $amount } ] } };
}

sub add
{
	my ($name, %opt) = @_;
	my $answer = $c->query('SELECT provider FROM tokenbill.add_provider($1, $2, $3, secret => $4, check_every => $5)', $name, 'deepseek', $double->url($name), $opt{secret}, '1 day');
	is($answer->{error} && $answer->{error}{message}, undef, "add_provider $name");
	return;
}

sub ask { my ($name) = @_; $c->value('SELECT tokenbill.check_provider_now($1)', $name); return; }

sub wait_balance
{
	my ($name, $balance) = @_;
	$server->wait_until("the balance of $name to be $balance", sub { return ($c->value('SELECT balance FROM tokenbill.provider_balances WHERE provider = $1 AND error IS NULL', $name) // '') eq $balance; });
	return;
}

my $amount = 100;

# A provider without a secret is asked and recorded, whatever else goes on
sub free_goes_on
{
	my ($what) = @_;
	$amount++;
	$double->script('free/user/balance', body("$amount.5"));
	ask('free');
	wait_balance('free', "$amount.5");
	pass("$what: who needs no secret is asked, and the answer recorded") if defined $what;
	return;
}

# One with a secret is
sub asked
{
	my ($name, $what) = @_;
	$amount++;
	$double->script("$name/user/balance", body("$amount.25"));
	ask($name);
	wait_balance($name, "$amount.25");
	pass($what);
	return;
}

sub worker_error
{
	my ($duty, $target) = @_;
	my ($row) = $c->rows('SELECT sqlstate, message, detail, hint FROM tokenbill.worker_errors WHERE duty = $1 AND target = $2 ORDER BY last_at DESC LIMIT 1', $duty, $target // '');
	return $row;
}

$double->script('free/user/balance', body('1.5'));
add('free');
foreach my $name (qw(one two three))
{
	$double->script("$name/user/balance", body('1.25'));
	add($name, secret => "sk-$name");
}
wait_balance($_, '1.25') foreach qw(one two three);

# ---- a slow command
settings(key_command => $slow, key_command_timeout => 600000);
forget_runs();
ask('one');
$server->wait_until('the command to run', sub { return scalar runs(); });
my ($command) = runs();
free_goes_on('while a command runs');
is($server->worker->{state}, 'working', 'the worker is at work');
is($c->value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tokenbill worker' AND datname = 'postgres' AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)"), 0,
	'no transaction is open while the key is waited for');
$double->script('free/user/balance', { hold => 'flying', %{ body('7.5') } });
ask('free');
$server->wait_until('a request to be in flight', sub { return grep { !$_->{answered} } $double->seen('/free/user/balance'); });
$double->script("$_/user/balance", body('2.25')) foreach qw(one two three);
ask($_) foreach qw(two three);
$double->forget;
$double->release('flying');
wait_balance('free', '7.5');
pass('an answer that was waited for is recorded meanwhile');
$c->query("SELECT tokenbill.create_account('a')");
$c->query("SELECT tokenbill.recharge('a', 10, 'order')");
$c->query("SELECT tokenbill.hold('a', 1, 'short', ttl => '1 ms')");
$server->wait_until('a hold to expire', sub { return $c->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'short'") eq 'expired'; });
pass('and upkeep is done');
is(scalar(grep { $_->{path} =~ m{^/(?:one|two|three)/} } $double->seen), 0, 'nobody is asked without the secret');
# the key comes while a request is in flight
$double->script('free/user/balance', { hold => 'again', %{ body('8.5') } });
ask('free');
$server->wait_until('another request to be in flight', sub { return $double->seen('/free/user/balance'); });
answer("$key_a\n");
wait_balance($_, '2.25') foreach qw(one two three);
is_deeply([ sort map { $_->{headers}{authorization} // '' } grep { $_->{path} =~ m{^/(?:one|two|three)/} } $double->seen ], [ 'Bearer sk-one', 'Bearer sk-three', 'Bearer sk-two' ], 'with the key all are asked that waited for it');
is_deeply([ runs() ], [$command], 'it was asked for once');
$double->release('again');
wait_balance('free', '8.5');
is($c->value('SELECT count(*) FROM tokenbill.worker_errors'), 0, 'nothing went wrong') or diag(explain([ $c->rows('SELECT * FROM tokenbill.worker_errors') ]));

# ---- how long it is kept
my $may_lock = slurp_file('/proc/' . $server->worker->{pid} . '/limits') =~ /^Max locked memory\s+(\d+|unlimited)/m && $1 ne '0';
sub locked { return slurp_file('/proc/' . $server->worker->{pid} . '/status') =~ /^VmLck:\s+(\d+)/m ? $1 : 0; }
settings(key_command => $quick);
forget_runs();
asked('one', 'without being kept');
asked('one', 'it is fetched');
is(scalar(runs()), 2, 'each time');
is(locked(), 0, 'and nothing of it is there afterwards');
settings(key_command_retention => 3600);
forget_runs();
asked($_, "$_ with a key that is kept") foreach qw(one two three);
is(scalar(runs()), 1, 'it is fetched once');
SKIP:
{
	skip 'this machine lets nobody lock memory', 1 unless $may_lock;
	cmp_ok(locked(), '>', 0, 'and is in locked memory');
}
settings(key_command_retention => 3600);
is(locked(), 0, 'a reload wipes it');
asked('one', 'and');
is(scalar(runs()), 2, 'has it fetched anew');
settings(key_command_retention => 1);
asked('one', 'for a second');
$server->wait_until('the key to be wiped', sub { return locked() == 0; });
$server->wait_state('postgres', 'asleep');
pass('it is wiped when its time is over, with nothing else to do');

# ---- a rotation that the worker has not heard of: what it holds is of before
settings(key_command_retention => 3600);
asked('one', 'with the key of before');
forget_runs();
write_key('key', $key_b, $key_a);
is($c->query('CALL tokenbill.rotate_key()')->{error}, undef, 'another key, and all secrets under it');
write_key('key', $key_b);
forget_runs();
asked('one', 'a secret that wants a newer key');
is(scalar(runs()), 1, 'has the key fetched before its time');
asked('two', 'and then');
is(scalar(runs()), 1, 'it is there');
is($c->value('SELECT count(*) FROM tokenbill.worker_errors'), 0, 'nothing went wrong');

# ---- a command that does not end
settings(key_command => $slow, key_command_retention => 0, key_command_timeout => 300);
forget_runs();
ask($_) foreach qw(one two);
$server->wait_until('errors', sub { return $c->value("SELECT count(*) FROM tokenbill.provider_balances WHERE provider IN ('one', 'two') AND error = 'tokenbill.key_command took longer than 300 ms'") == 2; });
is_deeply(worker_error('fetch the key'), {
	sqlstate => 'PT504', message => 'tokenbill.key_command took longer than 300 ms', detail => '{"reason": "command_slow", "timeout_ms": 300}',
	hint => 'It was killed; tokenbill.key_command_timeout says how long it may take.' }, 'one that takes too long is a row');
is($c->value("SELECT count(*) FROM tokenbill.provider_balances WHERE provider IN ('one', 'two') AND balance IS NOT NULL"), 2, 'the balances stay');
sub alive { my ($pid) = @_; return kill(0, $pid) && slurp_file("/proc/$pid/stat") !~ /^\d+ \(.*\) Z/s; }
foreach my $pid (runs())
{
	$server->wait_until("the command $pid to be gone", sub { return !-e "/proc/$pid"; });
}
pass('it is killed, and its status has been asked for');
free_goes_on('after a command that took too long');

# ---- a worker that ends, with a command that runs
settings(key_command => $slow, key_command_timeout => 600000);
forget_runs();
ask('one');
$server->wait_until('the command to run', sub { return scalar runs(); });
my ($pid) = runs();
my $worker = $server->worker->{pid};
kill 'TERM', $worker;
$server->wait_gone($worker);
$server->wait_until('the command to be gone', sub { return !-e "/proc/$pid" || !alive($pid); });
pass('the command ends with the worker');
$server->wait_worker;
$c->value('SELECT tokenbill.wake_worker()');
forget_runs();
settings(key_command => $quick, key_command_timeout => 10000);
asked('one', 'the next worker asks');

# ---- a reload, while a command runs: the new one is asked
settings(key_command => $slow, key_command_timeout => 600000);
forget_runs();
$double->script('one/user/balance', body('33.25'));
ask('one');
$server->wait_until('the command to run', sub { return scalar runs(); });
($pid) = runs();
settings(key_command => $quick, key_command_timeout => 10000);
wait_balance('one', '33.25');
$server->wait_until('the command of before to be gone', sub { return !-e "/proc/$pid"; });
pass('after a reload the new command is asked, for those who wait, too');

# ---- whatever goes wrong: a row that says so, nothing lost, the others go on
sub goes_wrong
{
	my ($what, $duty, $target, $expected, %opt) = @_;
	settings(%{ $opt{settings} || {} });
	$c->rows($opt{sql}) if $opt{sql};
	$c->rows('DELETE FROM tokenbill.worker_error');
	my $before = $c->value("SELECT failures FROM tokenbill.provider_balances WHERE provider = 'one'");
	$double->forget;
	ask('one');
	$server->wait_until("an error: $what", sub { return $c->value("SELECT failures FROM tokenbill.provider_balances WHERE provider = 'one'") > $before; });
	my $row = worker_error($duty, $target) || {};
	is_deeply([ $row->{sqlstate}, $row->{detail} ? decode_json($row->{detail}) : undef, $row->{message} ], $expected, "$what: a row") or diag(explain([ $c->rows('TABLE tokenbill.worker_error') ]));
	like($row->{hint}, qr/^[A-Z].*\.$/, "$what: what to do about it");
	is($c->value("SELECT error FROM tokenbill.provider_balances WHERE provider = 'one'"), $expected->[2], "$what: the provider's row says it");
	isnt($c->value("SELECT balance FROM tokenbill.provider_balances WHERE provider = 'one'"), undef, "$what: the balance stays");
	is(scalar($double->seen('/one/user/balance')), 0, "$what: it is not asked");
	free_goes_on($what);
	asked('two', "$what: nor does it concern another secret") if $opt{others};
	$c->rows($opt{undo}) if $opt{undo};
	settings(key_command => $quick, key_file => '');
	asked('one', "$what: mended, it is asked again");
	return;
}
my $fetch = 'fetch the key';
goes_wrong('a command that fails', $fetch, '', [ '38000', { reason => 'command_failed', exit_status => 3 }, 'tokenbill.key_command ended with exit status 3' ], settings => { key_command => 'exit 3' });
goes_wrong('a command that prints something else', $fetch, '', [ '38000', { reason => 'not_hex', source => 'key_command', line => 1 }, 'what tokenbill.key_command prints is no key' ], settings => { key_command => 'echo permission denied' });
goes_wrong('a command that prints half a key', $fetch, '', [ '38000', { reason => 'wrong_length', source => 'key_command', line => 1, digits => 32 }, 'what tokenbill.key_command prints is no key: line 1 has 32 digits, not 64' ],
	settings => { key_command => "head -c 32 $dir/key" });
goes_wrong('no key', $fetch, '', [ '55000', { reason => 'no_key' }, 'there is no key to encrypt secrets with' ], settings => { key_command => '' });
goes_wrong('two of it', $fetch, '', [ 'F0000', { reason => 'two_keys' }, 'tokenbill.key_file and tokenbill.key_command are both set' ], settings => { key_file => "$dir/key" });
goes_wrong('no such file', $fetch, '', [ '58030', { reason => 'file_unreadable', error => 'No such file or directory' }, 'could not open the key file: No such file or directory' ], settings => { key_command => '', key_file => "$dir/none" });
my ($id_b) = $c->column("SELECT key_id FROM tokenbill.secrets WHERE name = 'provider:one'");
my $id_a = do { write_key('other', $key_a); settings(key_command => "cat $dir/other"); $c->rows("SELECT tokenbill.set_secret('probe', 'x')"); $c->value("SELECT key_id FROM tokenbill.secrets WHERE name = 'probe'"); };
goes_wrong('another key', 'open a secret', 'provider:one', [ '39000', { reason => 'other_key', secret => 'provider:one', key_id => $id_b, present_key_id => $id_a },
		qq(secret "provider:one" was encrypted with key "$id_b", not with the present key "$id_a") ], settings => { key_command => "cat $dir/other" });
my $row = "name = 'provider:one'";
my $undo = "DELETE FROM tokenbill.secret WHERE $row; INSERT INTO tokenbill.secret SELECT * FROM kept WHERE $row";
$c->rows('CREATE TABLE kept AS SELECT * FROM tokenbill.secret');
my $changed = 'secret "provider:one" has been changed, or belongs to another name or version';
goes_wrong('a changed row', 'open a secret', 'provider:one', [ 'XX001', { reason => 'not_authentic', part => 'value', secret => 'provider:one' }, $changed ], others => 1, undo => $undo,
	sql => "UPDATE tokenbill.secret SET ciphertext = set_byte(ciphertext, 0, get_byte(ciphertext, 0) # 1) WHERE $row");
goes_wrong('a truncated row', 'open a secret', 'provider:one', [ 'XX001', { reason => 'wrong_length', part => 'value', secret => 'provider:one' }, 'secret "provider:one" is truncated' ], others => 1, undo => $undo,
	sql => "UPDATE tokenbill.secret SET ciphertext = substr(ciphertext, 1, 10) WHERE $row");
goes_wrong('swapped rows', 'open a secret', 'provider:one', [ 'XX001', { reason => 'not_authentic', part => 'key', secret => 'provider:one' }, $changed ], others => 1, undo => $undo,
	sql => "UPDATE tokenbill.secret s SET (version, layout, key_id, key_nonce, wrapped_key, value_nonce, ciphertext) = (SELECT k.version, k.layout, k.key_id, k.key_nonce, k.wrapped_key, k.value_nonce, k.ciphertext FROM kept k WHERE k.name = 'provider:three') WHERE $row");
goes_wrong('no such secret', 'open a secret', 'provider:one', [ 'PT404', { secret => 'provider:one' }, 'secret "provider:one" does not exist' ], others => 1, undo => $undo, sql => "DELETE FROM tokenbill.secret WHERE $row");
goes_wrong('a row of a later version', 'open a secret', 'provider:one', [ '0A000', { secret => 'provider:one', layout => 2 }, 'secret "provider:one" has an unknown layout' ], others => 1, undo => $undo,
	sql => "UPDATE tokenbill.secret SET layout = 2 WHERE $row");

# ---- a command that keeps failing is not asked again and again
settings(key_command => "echo \$\$ >> $dir/runs; exit 1");
forget_runs();
$c->rows('DELETE FROM tokenbill.worker_error');
my $before = $c->value("SELECT sum(failures) FROM tokenbill.provider_balances WHERE provider IN ('one', 'two', 'three')");
foreach my $n (1 .. 10)
{
	ask($_) foreach qw(one two three);
	$server->wait_until("failures of round $n", sub { return $c->value("SELECT sum(failures) FROM tokenbill.provider_balances WHERE provider IN ('one', 'two', 'three')") >= $before + 3 * $n; });
}
cmp_ok(scalar(runs()), '<', 30, 'thirty checks, and so many tries: ' . scalar(runs()));
is($c->value("SELECT count(*) FROM tokenbill.worker_errors WHERE duty = '$fetch'"), 1, 'which are one row');

# ---- more than may wait for it: the others are claimed when there is room
settings(key_command => $slow, key_command_timeout => 600000, max_concurrent_requests => 100, max_requests_per_host => 100);
my $many = 1100;
$c->rows("CREATE TABLE many AS SELECT 'many' || i AS name FROM generate_series(1, $many) i");
$c->rows("SELECT count(tokenbill.add_provider(name, 'deepseek', '@{[ $double->url('many') ]}', secret_name => 'provider:three', check_every => '1 day')) FROM many");
$double->script('many/user/balance', body('5'));
forget_runs();
$c->rows('SELECT count(tokenbill.check_provider_now(name)) FROM many');
$server->wait_until('a thousand to wait', sub { return $c->value("SELECT count(*) FROM tokenbill.provider_checks WHERE under_way AND provider LIKE 'many%'") >= 1000; });
is($c->value("SELECT count(*) FROM tokenbill.provider_checks WHERE under_way AND provider LIKE 'many%'"), 1000, 'a thousand calls wait for the key and no more are claimed');
is(scalar(runs()), 1, 'for one and the same command');
settings_now(key_command => $quick);
$server->wait_until('all of them to be asked', sub { return $c->value("SELECT count(*) FROM tokenbill.provider_balances WHERE provider LIKE 'many%' AND balance = 5 AND error IS NULL") == $many; });
pass("and all $many are asked when it is there");

is(join("\n", $server->log_lines(0, qr/sk-|$key_a|$key_b/)), '', 'no secret and no key is in the log');
$c->close;
$server->stop;
done_testing();
