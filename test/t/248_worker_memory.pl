# What is left in the worker's memory of secrets, of the keys they are encrypted with
# and of the master key: looked for byte by byte, in every spelling in which they are
# ever put, while they are in use (or this test would prove nothing) and afterwards.
use strict;
use warnings;
use Carp;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils qw(append_to_file);
use Test::More;
use Tokenbill::Double;
use Tokenbill::Server qw(seed build_driver);
use Tokenbill::Traces qw(spellings visit_memory);
use Tokenbill::Worker;

seed();
my $dir = PostgreSQL::Test::Utils::tempdir;
build_driver('open_secret', $dir);

sub random_bytes { return join '', map { chr int rand 256 } 1 .. $_[0]; }
sub random_text { my ($length) = @_; my @signs = ('a' .. 'z', 'A' .. 'Z', 0 .. 9); return join '', map { $signs[ rand @signs ] } 1 .. $length; }

my $master = random_bytes(32);
my $older = random_bytes(32);
append_to_file("$dir/key", unpack('H*', $master) . "\n" . unpack('H*', $older) . "\n");
chmod 0600, "$dir/key";

my $double = Tokenbill::Double->new;
my $server = Tokenbill::Worker->new('main');
$server->begin(conf => [
	'tokenbill.allow_http = on', 'tokenbill.allow_private_addresses = on', "tokenbill.request_timeout = '10min'", "tokenbill.idle_timeout = '10min'",
	"tokenbill.ca_file = '@{[ $double->ca_file ]}'", 'tokenbill.max_requests_per_host = 20', "tokenbill.retry_delays = '0s'",
	"tokenbill.key_command = 'cat $dir/key'", 'tokenbill.key_command_retention = 3600',
	# as little as possible to look through
	'shared_buffers = 4MB', 'wal_buffers = 64kB' ]);
my $pid = $server->wait_worker->{pid};
my $c = $server->client;
$c->rows("CREATE FUNCTION data_key(name text) RETURNS bytea STRICT LANGUAGE c AS '$dir/open_secret'");

if (my $why = visit_memory($pid, sub { }))
{
	$server->stop;
	plan(skip_all => "the memory of a process cannot be read here: $why");
}

# What is looked for: name => what it is, in bytes
my %wanted = ('the master key' => $master, 'the key below it' => $older);

# Which of them are in the memory of the worker, or of another process
sub found
{
	my ($of) = @_;
	my %there;
	my %spelling = map { my $name = $_; map { $_ => $name } spellings($wanted{$name}) } keys %wanted;
	my $why = visit_memory(
		$of // $pid,
		sub {
			my ($bytes, $place) = @_;
			foreach my $one (keys %spelling)
			{
				my $at = index $bytes, $one;
				next if $at < 0;
				$there{ $spelling{$one} }++;
				note(sprintf '%s: in %s, %s', $spelling{$one}, $place || 'memory without a name', unpack('H*', substr $bytes, ($at > 32 ? $at - 32 : 0), 96));
			}
		});
	croak $why if $why;
	return sort keys %there;
}

# The providers: where each puts its secret, and over what
my %preset = (header => 'deepseek', secure => 'deepseek', query => 'openai_sb', aliyun => 'aliyun', volcengine => 'volcengine');
my %path = (deepseek => '/user/balance', openai_sb => '/sb-api/user/status', aliyun => '/', volcengine => '/');
my %secret = (header => 'sk-' . random_text(40), secure => 'sk-' . random_text(40), query => 'sb-' . random_text(20) . '+/=& ' . random_text(20),
	aliyun => 'LTAI' . random_text(20) . ':' . random_text(30), volcengine => 'AKLT' . random_text(43) . ':' . random_text(44));
foreach my $name (sort keys %preset)
{
	$double->script($name . $path{ $preset{$name} }, { hold => 'all', status => 401, body => { error => 'no' } }, { hold => 'later', status => 401, body => { error => 'no' } });
	$c->value('SELECT tokenbill.set_secret($1, $2)', $name, $secret{$name});
	$wanted{"the secret $name"} = $secret{$name} =~ /^(?:LTAI|AKLT)\w+:(.*)/ ? $1 : $secret{$name};
	$wanted{"the data key of $name"} = pack 'H*', $c->value("SELECT encode(data_key(\$1), 'hex')", $name);
	$c->value('SELECT tokenbill.add_provider($1, $2, $3, secret_name => $1, check_every => $4)', $name, $preset{$name}, $double->url($name, $name eq 'secure' ? 'https' : undef), '1 day');
}
$c->close;

# ---- in use: requests are under way, and the master key is kept
$server->wait_until('all to be asked', sub { return 5 == grep { !$_->{answered} } $double->seen; });
my @now = found();
ok(scalar(grep { $_ eq 'the master key' } @now), 'the master key is found while it is kept');
ok(scalar(grep { $_ eq 'the key below it' } @now), 'and the one below it');
foreach my $name (qw(header query))
{
	ok(scalar(grep { $_ eq "the secret $name" } @now), "a secret that is in a request under way is found: $name");
}
is(join(', ', grep { /data key/ } @now), '', 'no data key is: values have been decrypted by now');
is(join(', ', grep { /^the secret (?:aliyun|volcengine)/ } @now), '', 'nor a secret that only signs');

# ---- the requests are over, and the key is kept
$double->release('all');
my $watch = $server->client;
$server->wait_until('all answers to be recorded', sub { return $watch->value('SELECT count(*) FROM tokenbill.provider_balances WHERE error IS NOT NULL') == 5 && $server->worker->{requests} == 0; });
$server->wait_state('postgres', 'asleep');
is(join(', ', grep { !/key below|master key/ } found()), '', 'after use there is no secret and no data key in the memory of the worker');

# ---- and the key is not kept any longer
$server->reload;
$server->wait_until('the key to be wiped', sub { return !grep { /master key|key below/ } found(); });
is(join(', ', found()), '', 'after a reload neither is the master key');

# ---- with a key that is not kept, and one that comes from a file
foreach my $setting ("tokenbill.key_command_retention = 0", "tokenbill.key_command = ''; ALTER SYSTEM SET tokenbill.key_file = '$dir/key'")
{
	$watch->rows("ALTER SYSTEM SET $_") foreach split /; ALTER SYSTEM SET /, $setting;
	$server->reload;
	$server->wait_until('the setting to be in force', sub { my ($name, $value) = $setting =~ /(\S+) = '?([^';]*)/; return $watch->value("SELECT setting FROM pg_settings WHERE name = '$name'") eq $value; });
	foreach my $name (sort keys %preset)
	{
		$double->script($name . $path{ $preset{$name} }, { status => 401, body => { error => 'no' } });
	}
	my $before = $watch->value('SELECT sum(failures) FROM tokenbill.provider_balances');
	$watch->value('SELECT count(tokenbill.check_provider_now(provider)) FROM tokenbill.provider_checks');
	$server->wait_until('all answers to be recorded', sub { return $watch->value('SELECT sum(failures) FROM tokenbill.provider_balances') == $before + 5 && $server->worker->{requests} == 0; });
	$server->wait_state('postgres', 'asleep');
	is($server->worker->{pid}, $pid, 'the worker is the same');
	is(join(', ', found()), '', "after use there is nothing at all, with $setting");
}
# ---- a session that stores, and one that rotates: the value came in as text, but no key is left
{
	my $session = $server->client;
	$session->value('SELECT tokenbill.set_secret($1, $2)', 'header', random_text(40));
	is($session->query('CALL tokenbill.rotate_key()')->{error}, undef, 'a session stores a secret and brings all under the key');
	append_to_file("$dir/turned", unpack('H*', $older) . "\n" . unpack('H*', $master) . "\n");
	chmod 0600, "$dir/turned";
	rename "$dir/turned", "$dir/key" or die "rename: $!";
	is($session->query('CALL tokenbill.rotate_key()')->{error}, undef, 'and under another one');
	is($session->value('SELECT count(DISTINCT key_id) FROM tokenbill.secrets'), 1, 'which is one');
	is(join(', ', grep { !/^the secret/ } found($session->pid)), '', 'no key is left in the memory of a session');
	$session->close;
}
$watch->close;
$server->stop;
done_testing();
