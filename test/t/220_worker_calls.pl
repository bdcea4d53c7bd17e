# The worker asks providers and sends webhooks: claim, secret, request, record.
# With requests in flight it holds no transaction, ends at once, and lets
# extensions and databases go; who is slow or broken keeps nobody waiting.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Double;
use Tokenbill::Worker;

my $key = PostgreSQL::Test::Utils::tempdir() . '/key';
append_to_file($key, 'a1' x 32);
chmod 0600, $key;

my $double = Tokenbill::Double->new;
my $server = Tokenbill::Worker->new('main');
$server->begin(conf => [
	'max_worker_processes = 16', 'restart_after_crash = on', 'tokenbill.allow_http = on', 'tokenbill.allow_private_addresses = on',
	"tokenbill.request_timeout = '10min'", "tokenbill.idle_timeout = '10min'", "tokenbill.key_file = '$key'", "tokenbill.retry_delays = '0s, 0s'" ]);
$server->wait_worker;
my $c = $server->client;

sub balance_body
{
	my ($amount) = @_;
	return { is_available => \1, balance_infos => [ { currency => 'USD', total_balance => $amount, granted_balance => '0.00', topped_up_balance => $amount } ] };
}

sub add
{
	my ($name, %opt) = @_;
	$opt{client} ||= $c;
	my $answer = $opt{client}->query('SELECT provider FROM tokenbill.add_provider($1, $2, $3, secret => $4, check_every => $5)',
		$name, 'deepseek', $opt{url} // $double->url($name), exists $opt{secret} ? $opt{secret} : "sk-$name", '1 day');
	is($answer->{error} && $answer->{error}{message}, undef, "add_provider $name");
	ask($name, $opt{client});
	return;
}

sub ask
{
	my ($name, $client) = @_;
	my $answer = ($client || $c)->query('SELECT tokenbill.check_provider_now($1)', $name);
	is($answer->{error} && $answer->{error}{message}, undef, "check_provider_now $name");
	return;
}

sub wait_seen
{
	my ($path, $times) = @_;
	my @seen;
	$server->wait_until("$path to be asked", sub { @seen = $double->seen("/$path"); return @seen >= ($times || 1); });
	return @seen;
}

sub wait_balance
{
	my ($name, $balance) = @_;
	$server->wait_until("the balance of $name to be $balance",
		sub { return ($c->value('SELECT balance FROM tokenbill.provider_balances WHERE provider = $1', $name) // '') eq $balance; });
	return;
}

# Failures in a row, as the breaker counts them
sub failures
{
	my ($name) = @_;
	return $c->value('SELECT coalesce((SELECT failures FROM tokenbill.breakers WHERE kind = $1 AND name = $2), 0)', 'provider', $name);
}

# ---- one provider
my $log = $server->log_from;
$double->script('one/user/balance', { body => balance_body('110.25') });
add('one');
wait_balance('one', '110.25');
my ($request) = wait_seen('one/user/balance');
is($request->{headers}{authorization}, 'Bearer sk-one', 'the secret is put into the header');
is($c->value("SELECT count(*) FROM tokenbill.worker_errors"), 0, 'nothing went wrong')
  or diag(explain([ $c->rows('SELECT * FROM tokenbill.worker_errors') ]));
my $row = $server->wait_state('postgres', 'asleep');
is($row->{requests}, 0, 'nothing is in flight');
ok(defined $row->{next_due}, "it sleeps until $row->{next_due}, for $row->{duty}");
is(join("\n", $server->log_lines($log, qr/tokenbill|sk-one/)), '', 'the log has no line of it');

# ---- one that is slow: no transaction, and the others are asked
$double->script('slow/user/balance', { hold => 'slow', body => balance_body('1') });
add('slow');
wait_seen('slow/user/balance');
$server->wait_until('it to be counted', sub { return ($server->worker->{requests} // 0) == 1; });
is($c->value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tokenbill worker' AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL) AND datname = 'postgres'"),
	0, 'no transaction is open while an answer is waited for');
is($server->worker->{state}, 'working', 'it is at work');
foreach my $n (1 .. 5)
{
	$double->script("quick$n/user/balance", { body => balance_body("$n.5") });
	add("quick$n");
}
wait_balance("quick$_", "$_.5") foreach 1 .. 5;
pass('others are asked meanwhile');
$double->script('one/user/balance', { body => balance_body('99.75') });
ask('one');
wait_balance('one', '99.75');
pass('also one that has been asked before');
$c->query("SELECT tokenbill.create_account('a')");
$c->query("SELECT tokenbill.recharge('a', 10, 'order')");
$c->query("SELECT tokenbill.hold('a', 1, 'short', ttl => '1 ms')");
$server->wait_until('a hold to expire', sub { return $c->value("SELECT status FROM tokenbill.hold WHERE hold_key = 'short'") eq 'expired'; });
pass('and upkeep is done');
$double->release('slow');
wait_balance('slow', '1');
pass('at last it has answered');

# ---- what is broken
add('nobody', url => 'http://127.0.0.1:1');
$double->script('gone/user/balance', { status => 503, body => { error => 'busy' } });
add('gone', url => $double->url('gone'));
$double->script('junk/user/balance', { body => "\x{1}\x{2}{{{" });
add('junk');
$server->wait_until('three to have failed', sub {
	return $c->value("SELECT count(*) FROM tokenbill.provider_balances WHERE provider IN ('nobody', 'gone', 'junk') AND error IS NOT NULL") == 3; });
pass('a provider that is not there, one that is busy and one that talks nonsense have an error');
wait_seen('gone/user/balance', 3);
$server->wait_until('the last answer to be recorded', sub { return $c->value("SELECT failures FROM tokenbill.provider_balances WHERE provider = 'gone'") == 1 && $server->worker->{requests} == 0; });
is(scalar($double->seen('/gone/user/balance')), 3, 'the busy one was asked as often as tokenbill.retry_delays says');

# a provider's row that cannot even be made into a request
add('mangled');
$c->query("UPDATE tokenbill.provider SET base_url = NULL, preset = 'no such preset' WHERE provider = 'mangled'");
$c->query("UPDATE tokenbill.provider_check SET next_at = tokenbill.clock() WHERE provider = 'mangled'");
$double->script('one/user/balance', { body => balance_body('42') });
ask('one');
$server->wait_until('its error', sub { return $c->value("SELECT count(*) FROM tokenbill.worker_errors WHERE target = 'mangled'") > 0; });
wait_balance('one', '42');
pass('a broken row of a provider is an error of its own, and the others are asked');

# a secret that cannot be had: the key is another
my $spare = PostgreSQL::Test::Utils::tempdir() . '/other';
append_to_file($spare, 'b2' x 32);
chmod 0600, $spare;
$c->query("ALTER SYSTEM SET tokenbill.key_file = '$spare'");
$server->reload;
# the first may still be asked with the key of before
$server->wait_until('its error', sub { ask('one'); return defined $c->value("SELECT error FROM tokenbill.provider_balances WHERE provider = 'one'"); });
$server->wait_until('that to be over', sub { return $c->value("SELECT next_at > now() FROM tokenbill.provider_checks WHERE provider = 'one'") eq 't' && $server->worker->{requests} == 0; });
$double->forget;
my $failures = $c->value("SELECT failures FROM tokenbill.provider_balances WHERE provider = 'one'");
ask('one');
$server->wait_until('another error', sub { return $c->value("SELECT failures FROM tokenbill.provider_balances WHERE provider = 'one'") > $failures; });
is(scalar($double->seen('/one/user/balance')), 0, 'a provider whose secret cannot be opened is not asked');
is($c->value("SELECT balance FROM tokenbill.provider_balances WHERE provider = 'one'"), '42', 'and keeps its balance');
note($c->value("SELECT error FROM tokenbill.provider_balances WHERE provider = 'one'"));
$c->query('ALTER SYSTEM RESET tokenbill.key_file');
$server->reload;
$double->script('one/user/balance', { body => balance_body('43') });
$server->wait_until('the key to be there again', sub { ask('one'); return $c->value("SELECT balance FROM tokenbill.provider_balances WHERE provider = 'one'") eq '43'; });
pass('with its key it is asked again');

# ---- an answer that cannot be recorded: the row, a line of the log, and the next answers
$log = $server->log_from;
$c->query(q{CREATE FUNCTION public.stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.provider LIKE 'quick%' AND NEW.answered_at IS NOT NULL THEN RAISE 'stumbled over %', NEW.provider; END IF; RETURN NEW; END $$});
$c->query('CREATE TRIGGER stumble BEFORE UPDATE OF answered_at ON tokenbill.provider_check FOR EACH ROW EXECUTE FUNCTION public.stumble()');
ask("quick$_") foreach 1 .. 5;
$server->wait_until('all five errors', sub { return $c->value("SELECT count(*) FROM tokenbill.worker_errors WHERE duty = 'record a call'") == 5; });
pass('answers that cannot be recorded are rows of worker_errors');
my @lines = $server->log_lines($log, qr/tokenbill worker: record a call/);
ok(@lines >= 1 && @lines < 5, 'the log has not a line of each: ' . scalar(@lines));
$double->script('one/user/balance', { body => balance_body('44') });
ask('one');
wait_balance('one', '44');
pass('other answers are recorded');
$c->query('DROP TRIGGER stumble ON tokenbill.provider_check');
$c->query('DROP FUNCTION public.stumble');

# ---- requests in flight
$double->script('held/user/balance', { hold => 'first', body => balance_body('7') }, { hold => 'second', body => balance_body('8') }, { hold => 'third', body => balance_body('9'), repeat => 100 });
add('held');
wait_seen('held/user/balance');
my $pid = $server->worker->{pid};
kill 'TERM', $pid;
$server->wait_gone($pid);
pass('SIGTERM ends a worker that waits for an answer');
wait_seen('held/user/balance', 2);
pass('the next worker asks again');
is(failures('held'), 0, 'nobody holds it against the provider');
$server->restart;
$c = $server->client;
wait_seen('held/user/balance', 3);
pass('the server stops while an answer is waited for, and after the start it is asked again');
is(failures('held'), 0, 'nor that');
$c->query('ALTER SYSTEM SET tokenbill.worker = off');
$server->reload;
$server->wait_no_worker('postgres');
$c->query('ALTER SYSTEM RESET tokenbill.worker');
$server->reload;
wait_seen('held/user/balance', 4);
is(failures('held'), 0, 'nor that workers are switched off and on');
$server->stop('immediate');
$server->start;
$c = $server->client;
wait_seen('held/user/balance', 5);
is(failures('held'), 1, 'an answer that was waited for when the server crashed may be why');
$server->kill_everything;
$server->start;
$c = $server->client;
wait_seen('held/user/balance', 6);
is(failures('held'), 2, 'also when all processes were killed');
$pid = $server->wait_worker->{pid};
kill 'KILL', $pid;
$server->wait_gone($pid);
$server->wait_until('the server to be back', sub { my $now = $server->worker; return $now->{pid} && $now->{pid} != $pid; });
$c = $server->client;
wait_seen('held/user/balance', 7);
is(failures('held'), 3, 'and when a worker was');
$server->restart;
$c = $server->client;
wait_seen('held/user/balance', 8);
is(failures('held'), 3, 'an orderly restart after a crash is one');

# DROP EXTENSION
$c->query('DROP EXTENSION tokenbill');
$server->wait_no_worker('postgres');
pass('DROP EXTENSION with a request in flight ends the worker');
$server->wait_until('the connection to be closed', sub { return !grep { !$_->{answered} && !$_->{broken} } $double->seen('/held/user/balance'); });
pass('and its request');

# databases
$c->query('CREATE DATABASE other');
my $other = $server->client(dbname => 'other');
$other->query('CREATE EXTENSION tokenbill');
$double->script('far/user/balance', { hold => 'far', body => balance_body('7') });
add('far', client => $other);
wait_seen('far/user/balance');
$other->close;
is($c->query('CREATE DATABASE another TEMPLATE other')->{error}, undef, 'CREATE DATABASE from one whose worker waits for an answer');
$double->script('near/user/balance', { hold => 'near', body => balance_body('7') });
wait_seen('far/user/balance', 3);
pass('the worker of the copy asks, too');
is($c->query("DROP DATABASE $_")->{error}, undef, "DROP DATABASE $_, whose worker waits for an answer") foreach qw(other another);
is_deeply($server->workers, {}, 'no worker is left');
is(join("\n", $server->log_lines($log, qr/sk-/)), '', 'no secret is in the log');
$server->stop;
done_testing();
