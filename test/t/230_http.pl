# The worker asks upstreams that answer late, badly, far too much or not at all:
# each time the balance of before stays and the reason is a row, the worker lives,
# and those who answer well are not kept waiting.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use Compress::Zlib ();
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Double;
use Tokenbill::Worker;

my $true = JSON::PP::true;
my $double = Tokenbill::Double->new;
my $server = Tokenbill::Worker->new('main');
$server->begin(
	conf => [
		'tokenbill.allow_http = on',
		'tokenbill.allow_private_addresses = on',
		"tokenbill.ca_file = '@{[ $double->ca_file ]}'",
		# seconds of waiting would prove no more
		"tokenbill.retry_delays = '10ms'",
		"tokenbill.idle_timeout = '1s'",
		"tokenbill.connect_timeout = '1s'",
		"tokenbill.request_timeout = '2s'",
		# those that hang are not to be in the way of those that do not
		'tokenbill.max_concurrent_requests = 100',
		'tokenbill.max_requests_per_host = 50' ]);
my $db = $server->client;
my $pid = $server->wait_worker->{pid};
my $log = $server->log_from;

# One that is asked at /NAME of the double, on one of its ports or elsewhere. All
# of them are asked by hand.
$db->value($_)
  foreach ("SELECT tokenbill.add_preset('double')",
	q{SELECT tokenbill.add_preset_request('double', '/{name}', amount => '$.balance', headers => '{}')});

sub add
{
	my ($name, %opt) = @_;
	# not because it is new: on a busy machine that may be before it is asked by hand
	$db->query('BEGIN');
	$db->value("SELECT tokenbill.add_provider(\$1, 'double', base_url => \$2, params => jsonb_build_object('name', \$1::text), check_every => '300 days')",
		$name, $opt{base_url} // $double->url('', $opt{port}));
	$db->query("UPDATE tokenbill.provider_check SET next_at = '2099-01-01' WHERE provider = \$1", $name);
	$db->query('COMMIT');
	return;
}

sub ask
{
	my (@names) = @_;
	$db->value('SELECT count(tokenbill.check_provider_now(n)) FROM unnest($1::text[]) n', '{' . join(',', @names) . '}');
	return;
}

sub check_of { my ($name) = @_; return $db->row('SELECT * FROM tokenbill.provider_checks WHERE provider = $1', $name); }

sub balance_of { my ($name) = @_; return $db->row('SELECT * FROM tokenbill.provider_balances WHERE provider = $1', $name); }

# Until so many checks of each have ended
sub wait_checks
{
	my ($checks, @names) = @_;
	$server->wait_until("$checks checks of each of " . scalar(@names) . ' providers',
		sub {
			return !$db->value('SELECT count(*) FROM tokenbill.provider_checks WHERE provider = ANY ($1::text[]) AND checks < $2',
				'{' . join(',', @names) . '}', $checks);
		});
	return;
}

# Whether the double is answering so many requests for this path right now
sub held
{
	my ($path, $count) = @_;
	$server->wait_until("$count requests under way" . ($path ? " for $path" : ''),
		sub { return $count == grep { !$_->{answered} && !$_->{broken} } $double->seen($path); });
	return;
}

sub configure
{
	my ($name, $value) = @_;
	$db->query("ALTER SYSTEM SET $name = '$value'");
	$db->query('SELECT pg_reload_conf()');
	return;
}

sub raw { return { raw_base64 => encode_base64(join('', @_), '') }; }

# ---- Bad answers. First each answers well; what it answers then must not change
# what is known.
my $begin = "HTTP/1.1 200 Fine\r\n";
my $gzip = Compress::Zlib::memGzip('{"balance": 1, "more": [' . join(',', map { $_ * 7919 % 1000 } 1 .. 1000) . ']}');
my %bad = (
	body_of_10_gb => [ { endless => 10_000_000_000 }, qr/larger than 1048576 bytes/ ],
	chunks_of_10_gb => [ { endless => 10_000_000_000, chunked => $true }, qr/larger than 1048576 bytes/ ],
	gzip_bomb => [ { endless => 10_000_000_000, gzip => $true }, qr/larger than 1048576 bytes/ ],
	header_flood => [ { header_flood => 5000 }, qr/headers of the answer are more than/ ],
	long_header => [ { headers => { 'X-Long' => 'a' x 200_000 } }, qr/a header of the answer is too long/ ],
	interim_flood => [ raw(("HTTP/1.1 100 Continue\r\nX-I: 1\r\n\r\n") x 10_000), qr/headers of the answer are more than/ ],
	dropped => [ { body => { balance => 1, more => 'x' x 1000 }, drop_after => 500 }, qr/connection broke; 500 bytes/ ],
	dropped_by_reset => [ { body => { balance => 1, more => 'x' x 1000 }, drop_after => 500, reset => $true }, qr/connection broke/ ],
	dropped_in_chunks => [ { body => { balance => 1, more => 'x' x 1000 }, drop_after => 500, chunked => $true }, qr/connection broke/ ],
	dropped_without_length => [ raw($begin, "\r\n", '{"balance": 1'), qr/JSON/i ],
	bad_chunk => [ raw($begin, "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}"), qr/connection broke/ ],
	closed => [ raw(''), qr/closed without an answer/ ],
	not_http => [ raw("220 mail.example ESMTP\r\n"), qr/not HTTP/ ],
	odd_status => [ raw("HTTP/9.7 99999 x\r\n\r\n"), qr/not HTTP/ ],
	negative_length => [ raw($begin, "Content-Length: -5\r\n\r\n{}"), qr/Weird server reply/ ],
	nul_in_header => [ raw($begin, "X: a\0b\r\nContent-Length: 2\r\n\r\n{}"), qr/Weird server reply/ ],
	not_gzip => [ { body => '{"balance": 1}', headers => { 'Content-Encoding' => 'gzip' } }, qr/cannot be decompressed/ ],
	gzip_cut_off => [ { body_base64 => encode_base64(substr($gzip, 0, length($gzip) / 2), ''), headers => { 'Content-Encoding' => 'gzip' } }, qr/JSON|empty/i ],
	zstd_unasked => [ { body => 'x', headers => { 'Content-Encoding' => 'zstd' } }, qr/compressed in a way that was not asked for/ ],
	fifty_times_gzip => [ { body => 'x', headers => { 'Content-Encoding' => join ', ', ('gzip') x 50 } }, qr/cannot be decompressed/ ],
	redirect => [ { status => 302, headers => { Location => 'http://169.254.169.254/latest/meta-data' }, body => '{"balance": 1}' }, qr/HTTP 302/ ],
	no_content => [ { status => 204 }, qr/./ ],
	failing => [ { status => 500, body => { balance => 1 } }, qr/HTTP 500/ ],
	late => [ { hold => 'never' }, qr/no answer after 1\d\d\d ms/ ],
	late_body => [ { body => { balance => 1 }, hold_body => 'never' }, qr/not complete after 1\d\d\d ms/ ],
	dripping => [ { body => { balance => 1, more => 'x' x 1000 }, chunk_size => 1, chunk_delay_ms => 100 }, qr/not complete after 2\d\d\d ms/ ],);

# Those that never could answer
my %hopeless = (
	expired => [ { port => 'expired' }, qr/its certificate is not accepted: certificate has expired/ ],
	wrong_name => [ { port => 'wrong_name' }, qr/its certificate is not one for this name/ ],
	self_signed => [ { port => 'self_signed' }, qr/its certificate is not accepted: self.signed certificate/ ],
	no_tls => [ { base_url => 'https://127.0.0.1:' . $double->port('http') }, qr/the TLS handshake failed/ ],
	silent => [ { port => 'silent' }, qr/not connected after 1\d\d\d ms/ ],
	reset => [ { port => 'reset' }, qr/TLS handshake failed|connection broke|no connection/ ],
	nobody_there => [ { base_url => 'http://127.0.0.1:1' }, qr/no connection could be made/ ],
	# a part of a name is at most 63 bytes: no name server is asked
	no_name => [ { base_url => 'https://' . 'x' x 64 . '.invalid' }, qr/cannot be resolved/ ],);

# One who answers well, by TLS, all the time
my @good = map { "good_$_" } 1 .. 5;
$double->script($_, { body => { balance => 5 } }) foreach @good;
add($_, port => 'https') foreach @good;
foreach my $name (sort keys %bad)
{
	$double->script($name, { body => { balance => 5.25 }, gzip => $true }, $bad{$name}[0]);
	add($name);
}
add($_, %{ $hopeless{$_}[0] }) foreach sort keys %hopeless;
ask(@good, keys %bad, keys %hopeless);
wait_checks(1, @good, keys %bad, keys %hopeless);
foreach my $name (sort keys %bad)
{
	my $row = balance_of($name);
	is($row->{balance}, '5.25', "$name: answers well at first");
	is($row->{error}, undef, "$name: no error") or diag(explain($row));
}
foreach my $name (sort keys %hopeless)
{
	my $row = balance_of($name);
	is($row->{balance}, undef, "$name: nothing is known, which is not zero");
	like($row->{error}, $hopeless{$name}[1], "$name: and the reason");
}
is($server->worker->{pid}, $pid, 'the worker is still the same');

$double->script($_, { body => { balance => 4 } }) foreach @good;
ask(@good, keys %bad);
wait_checks(2, @good);
ok(scalar(grep { check_of($_)->{checks} < 2 } qw(late late_body dripping)), 'who answers well has been asked before the late ones are over');
is(balance_of($_)->{balance}, '4', "$_: falls") foreach @good;
wait_checks(2, keys %bad);
foreach my $name (sort keys %bad)
{
	my $row = balance_of($name);
	is($row->{balance}, '5.25', "$name: the balance stays what it was");
	is($row->{stale}, 't', "$name: but is stale");
	like($row->{error}, $bad{$name}[1], "$name: with the reason");
}
is($server->worker->{pid}, $pid, 'the worker is still the same');
is_deeply([ $db->rows('SELECT * FROM tokenbill.worker_errors') ], [], 'nothing has gone wrong in it');

# ---- Somebody who asks to be left alone is, and is asked once
$double->script('storm', { status => 429, headers => { 'Retry-After' => '3600' }, body => { error => 'slow down' } });
$double->script('renewed', { headers => { 'x-ratelimit-remaining-requests' => '0', 'x-ratelimit-reset-requests' => '1h0m0s' }, body => { balance => 3 } });
add($_) foreach qw(storm renewed);
ask(qw(storm renewed));
wait_checks(1, qw(storm renewed));
foreach my $name (qw(storm renewed))
{
	is($db->value('SELECT blocked_until - answered_at FROM tokenbill.provider_checks WHERE provider = $1', $name), '01:00:00', "$name: wants to be left alone for an hour");
	is($db->value("SELECT tokenbill.check_provider_now(\$1) > tokenbill.clock() + interval '50 min'", $name), 't', "$name: and is");
}
is(balance_of('renewed')->{balance}, '3', 'what it said nevertheless counts');
# a check that is made later shows that the others would have been made
ask('good_1');
wait_checks(3, 'good_1');
is(scalar($double->seen("/$_")), 1, "$_: has been asked once") foreach qw(storm renewed);

# ---- A connection that is kept and then closed: nothing is sent that is not counted
$double->script('kept', { body => { balance => 3 } }, raw(''), { body => { balance => 2 } });
add('kept');
ask('kept');
wait_checks(1, 'kept');
ask('kept');
wait_checks(2, 'kept');
is(balance_of('kept')->{balance}, '2', 'a request on a kept connection that is closed is made again');
is(check_of('kept')->{calls}, 3, 'and counted');
is(check_of('kept')->{retries}, 1, 'as one');
is(scalar($double->seen('/kept')), 3, 'no other was sent');
is($db->value("SELECT coalesce(max(failing), 0) FROM tokenbill.breakers WHERE name = 'kept'"), 0, 'that says nothing of the provider');

# ---- Not too many at once
configure('tokenbill.max_concurrent_requests', 6);
configure('tokenbill.max_requests_per_host', 4);
configure('tokenbill.request_timeout', '1h');
configure('tokenbill.idle_timeout', '1h');
$db->close;
$server->restart;
$db = $server->client;
$pid = $server->wait_worker->{pid};
my @slow = map { "slow_$_" } 1 .. 20;
$double->forget;
foreach my $i (0 .. $#slow)
{
	$double->script($slow[$i], { hold => 'slow', body => { balance => 2 } });
	add($slow[$i], port => $i % 2 ? 'http' : 'https');
}
# the ten on the one port are asked; the good are on the other
ask(@slow[ map { 2 * $_ + 1 } 0 .. 9 ]);
held(undef, 4);
$server->wait_until('ten requests, of which six wait', sub { return ($server->worker->{requests} // 0) == 10; });
ask('good_2');
wait_checks(3, 'good_2');
pass('while four hang and six wait for the same host, another is asked');
ask(@slow[ map { 2 * $_ } 0 .. 9 ]);
held(undef, 6);
$double->release('slow');
wait_checks(1, @slow);
my @seen = grep { $_->{path} =~ /slow/ } $double->seen;
is(scalar(@seen), 20, 'each has been asked once');
is((sort { $b <=> $a } map { $_->{open} } @seen)[0], 6, 'six at a time');
is($server->worker->{pid}, $pid, 'the worker is still the same');

# ---- What may be asked is a setting, also for connections that are kept

# Ask until the worker has read its settings; then it is as they say
sub ask_until
{
	my ($name, $error) = @_;
	$server->wait_until("$name: $error",
		sub {
			my $checks = check_of($name)->{checks};
			ask($name);
			wait_checks($checks + 1, $name);
			return (balance_of($name)->{error} // 'none') =~ $error;
		});
	my $checks = check_of($name)->{checks};
	$double->forget;
	ask($name);
	wait_checks($checks + 1, $name);
	return;
}

$double->script('plain', { body => { balance => 6 } });
add('plain');
# more failures than these tests make would open its breaker
$db->value("SELECT tokenbill.set_breaker('provider', n, max_failures => 1000, min_calls => 1000, window_calls => 1000) FROM unnest('{good_3,good_4,plain}'::text[]) n");
ask(qw(good_3 plain));
wait_checks(3, 'good_3');
wait_checks(1, 'plain');
configure('tokenbill.allow_private_addresses', 'off');
ask_until('good_3', qr/its address 127\.0\.0\.1 is loopback/);
is(balance_of('good_3')->{balance}, '4', 'a private address is refused, also where there is a connection to it, and the balance stays');
my @ways = qw(localhost 2130706433 0x7f.1 0177.1 127.1 [::1] [::ffff:127.0.0.1] [::ffff:7f00:1] 169.254.169.254 10.1.2.3 172.16.0.1
  192.168.0.1 100.100.100.200 0.0.0.0 255.255.255.255 224.0.0.1 [fd00:ec2::254] [fe80::1] [64:ff9b::7f00:1] [2002:7f00:1::]);
add("way_$_", base_url => "https://$ways[$_]:" . $double->port('https')) foreach 0 .. $#ways;
ask(map { "way_$_" } 0 .. $#ways);
wait_checks(1, map { "way_$_" } 0 .. $#ways);
like(balance_of("way_$_")->{error}, qr/its address \S+ is .*tokenbill\.allow_private_addresses is off/, "$ways[$_] is refused") foreach 0 .. $#ways;
is(scalar($double->seen), 0, 'nobody has been asked');
configure('tokenbill.allow_private_addresses', 'on');
ask_until('good_3', qr/^none$/);

configure('tokenbill.allow_http', 'off');
ask_until('plain', qr/not asked without TLS/);
is(scalar($double->seen), 0, 'http:// is refused');
configure('tokenbill.allow_http', 'on');
ask_until('plain', qr/^none$/);

configure('tokenbill.ca_file', '/nonexistent');
ask_until('good_4', qr/certificate authorities cannot be read/);
is(scalar($double->seen), 0, 'without authorities nobody is trusted');
configure('tokenbill.ca_file', $double->ca_file);
ask_until('good_4', qr/^none$/);
is($server->worker->{pid}, $pid, 'the worker is still the same');

# ---- The log has none of it
is_deeply([ $server->log_lines($log, qr/ERROR|WARNING|PANIC|FATAL(?!.*administrator command)/) ], [], 'the log is quiet');

# ---- Shutdown does not wait for answers: neither for one that is held, nor for
# a name server
my $shim = PostgreSQL::Test::Utils::tempdir() . '/resolver';
append_to_file("$shim.c", <<'C');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	int (*real) (const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");

	while (node != NULL && strcmp(node, "stuck.invalid") == 0)
		pause();
	return real(node, service, hints, result);
}
C
system_or_bail('gcc', '-shared', '-fPIC', '-o', "$shim.so", "$shim.c", '-ldl');
configure('tokenbill.max_concurrent_requests', 20);
configure('tokenbill.connect_timeout', '1h');
configure('tokenbill.request_timeout', '1h');
configure('tokenbill.idle_timeout', '1h');
$double->script('held', { hold => 'end', body => { balance => 1 } });
$db->close;
{
	# from here on there is one name that nobody resolves
	local $ENV{LD_PRELOAD} = "$shim.so";
	$server->restart;
}
$server->wait_worker;
$db = $server->client;
add('held', port => 'https');
add('stuck', base_url => 'https://stuck.invalid');
$double->forget;
ask(qw(held stuck));
held('/held', 1);
$server->wait_until('two requests under way', sub { return ($server->worker->{requests} // 0) == 2; });
ask('good_5');
wait_checks(3, 'good_5');
pass('a name server that does not answer keeps nobody else waiting');
$db->close;
# it would wait for ever
$server->stop('fast');
my ($entry) = $double->seen('/held');
$server->wait_until('the double to see the connection end', sub { ($entry) = $double->seen('/held'); return $entry->{broken}; });
ok(!$entry->{answered}, 'the worker was gone before its answer came');

# ---- and what was under way is asked again by the next one
$double->release('end');
$server->start;
$server->wait_worker;
$db = $server->client;
wait_checks(1, 'held');
is(balance_of('held')->{balance}, '1', 'the next worker asks again');
$db->close;
$server->stop;
done_testing();
