# A falling balance, asked for over HTTP, becomes an alert, and that becomes a signed
# request to a webhook: again with the same bytes and the same key until it has been
# received, and then no more; given up after a day where it never is. Time is moved,
# not waited for; what is due at a moment is done before the next begins.
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_hex);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP ();
use Test::More;
use Time::Local qw(timegm);
use Tokenbill::Double;
use Tokenbill::Server qw(seed);
use Tokenbill::Worker;

seed();
my $double = Tokenbill::Double->new;
my $server = Tokenbill::Worker->new('main');
$server->begin(conf => [ $server->watching, "tokenbill.clock = '2026-03-05 12:00:00+00'", "tokenbill.retry_delays = '1s, 3s, 5s'" ]);
my $db = $server->client;
$server->wait_worker;
my $log = $server->log_from;

my $now = '2026-03-05 12:00:00+00';

# It is this time: a timestamptz, as text
sub clock_at
{
	my ($time) = @_;
	$now = $time;
	$db->query("ALTER SYSTEM SET tokenbill.clock = '$time'");
	$server->reload;
	$server->wait_until("it to be $time", sub { return $db->value('SELECT tokenbill.clock() = $1::timestamptz', $time) eq 't'; });
	return;
}

sub later { my ($by) = @_; clock_at($db->value('SELECT tokenbill.clock() + $1::interval', $by)); return; }

# Seconds since 1970, by Perl and not by the database
sub epoch
{
	my ($time) = @_;
	my ($year, $month, $day, $hour, $minute, $second) = $time =~ /^(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+)(?:\.\d+)?\+00$/ or die "what time is $time?";
	return timegm($second, $minute, $hour, $day, $month - 1, $year);
}

# Signs in which the pieces of a secret could go astray: =, +, / and % have meanings
# in headers, addresses and signatures
sub random_secret
{
	my @signs = ('a' .. 'z', 'A' .. 'Z', '+', '/', '=', '%', ' ', '&');
	return 'w' . join('', map { $signs[ rand @signs ] } 1 .. 40) . 'w';
}

my %secret = map { $_ => random_secret() } qw(ops broken chat);
$db->value('SELECT tokenbill.set_secret($1, $2)', "$_ webhook", $secret{$_}) foreach sort keys %secret;

# ---- the account that is watched
sub balance_is
{
	my ($amount) = @_;
	$double->script('upstream/user/balance', { body => { balance_infos => [ { currency => 'USD', total_balance => $amount } ] } });
	my $checks = $db->value('SELECT checks FROM tokenbill.provider_checks');
	if (defined $checks)
	{
		$db->value("SELECT tokenbill.check_provider_now('upstream')");
	}
	else
	{
		$db->value("SELECT tokenbill.add_provider('upstream', 'deepseek', \$1, secret => 'sk-of-a-test', check_every => '30 days', low_balance => 20)", $double->url('upstream'));
		later('10 s');
	}
	$server->wait_until("a balance of $amount", sub { return ($db->value('SELECT balance FROM tokenbill.provider_balances') // '') eq $amount; });
	return;
}

my %delivery_of = (ops => 'ops', broken => 'broken', chat => 'chat/{secret}');
$db->value('SELECT tokenbill.add_alert_webhook($1, $2, secret => $3, kinds => $4)', $_, $double->url("hooks/$delivery_of{$_}"), "$_ webhook", '{provider_low}')
  foreach sort keys %delivery_of;
(my $chat_path = $secret{chat}) =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ge;

# What a webhook was sent
sub received { my ($name) = @_; return $double->seen($name eq 'chat' ? "/hooks/chat/$chat_path" : "/hooks/$name"); }

sub delivery
{
	my ($name, $event) = @_;
	return $db->row(<<'SQL', $name, $event) || {};
SELECT v.*, nullif(d.lease_until IS NOT NULL, false) AS under_way
FROM tokenbill.alert_deliveries v JOIN tokenbill.alert_delivery d USING (delivery) WHERE v.webhook = $1 AND v.event = $2
SQL
}

# Until this attempt at a delivery is over; its row
sub wait_attempt
{
	my ($name, $event, $attempt) = @_;
	my $row;
	$server->wait_until("attempt $attempt at event $event for $name",
		sub {
			$row = delivery($name, $event);
			return ($row->{attempts} // 0) >= $attempt && !$row->{under_way};
		});
	return $row;
}

# A request is what it has to be: signed at this moment, under its secret. The
# signature is worked out here, from the bytes that came.
sub genuine
{
	my ($request, $name, $time, $what) = @_;
	utf8::encode(my $body = $request->{body});
	my $signature = $request->{headers}{'tokenbill-signature'} // '';
	my ($t, $v1) = $signature =~ /^t=(\d+),v1=([0-9a-f]{64})$/;
	is($t, epoch($time), "$what: signed now");
	is($v1, hmac_sha256_hex("$t.$body", $secret{$name}), "$what: the signature is of these bytes and this moment");
	is("$request->{method} $request->{headers}{'content-type'}", 'POST application/json', "$what: JSON, by POST");
	return JSON::PP->new->utf8->decode($body);
}

balance_is('110.25');
later('1 min');
$server->wait_until('alerts to be looked for', sub { return $db->value('SELECT count(*) FROM tokenbill.alert_evaluation WHERE evaluated_at = tokenbill.clock()') == 1; });
is($db->value('SELECT count(*) FROM tokenbill.alerts'), 0, 'nothing is wrong with a balance of 110.25');

# ---- it falls
$double->script('hooks/ops',
	{ status => 500, body => 'not now' },
	{ raw_base64 => '' },
	{ status => 429, headers => { 'Retry-After' => '300' } },
	{ status => 200, body => 'x' x 100, drop_after => 10 },
	{ hold => 'never' },
	{ status => 204 });
$double->script("hooks/chat/$chat_path", { status => 200, body => 'ok' });
$double->script('hooks/broken', { status => 500, body => "a secret $secret{broken} is told back" });
balance_is('18.5');
later('1 min');
my $raised = $now;
my $row = wait_attempt('ops', 1, 1);
my $alert = $db->row('SELECT * FROM tokenbill.alerts');
is("$alert->{kind} $alert->{subject} $alert->{state} $alert->{value}", 'provider_low upstream raised 18.5', 'the alert is raised');

# ---- attempt by attempt
my @times = ($now);
my $wait = sub { my ($row) = @_; return $db->value('SELECT extract(epoch FROM $1::timestamptz - $2::timestamptz)', $row->{next_at}, $now); };
my @failing = (
	[ 500, qr/^HTTP 500$/, 1, 1.5, 'a 500' ],
	[ undef, qr/closed without an answer/, 3, 4.5, 'a dropped connection' ],
	[ 429, qr/^HTTP 429$/, 300, 300, 'one that wants to be left alone for 300 seconds' ],
	[ undef, qr/connection broke/, 10, 15, 'an answer that breaks off, although it began with 200' ]);
foreach my $n (1 .. @failing)
{
	my ($status, $error, $least, $most, $what) = @{ $failing[ $n - 1 ] };
	$row = wait_attempt('ops', 1, $n);
	is("$row->{state} $row->{attempts}", "pending $n", "after $what: to be sent again");
	is($row->{status}, $status, "after $what: the status");
	like($row->{error}, $error, "after $what: the error");
	my $pause = $wait->($row);
	ok($pause >= $least && $pause <= $most, "after $what: in $pause s");
	is(scalar(received('ops')), $n, "after $what: not before");
	clock_at($row->{next_at});
	push @times, $now;
}

# the worker ends while it waits for the fifth answer
$server->wait_until('the fifth request', sub { return received('ops') == 5; });
my $pid = $server->worker->{pid};
kill 'TERM', $pid;
$server->wait_gone($pid);
push @times, $now;
$server->wait_until('it to be received', sub { $row = delivery('ops', 1); return $row->{state} ne 'pending'; });
is("$row->{state} $row->{status}", 'sent 204', 'a worker that ends has lost nothing: the next one sends it at once');
is($row->{error}, undef, 'without an error');

my @requests = received('ops');
is(scalar @requests, 6, 'six requests were made');
foreach my $n (0 .. $#requests)
{
	my $said = genuine($requests[$n], 'ops', $times[$n], 'request ' . ($n + 1));
	is($requests[$n]{headers}{'idempotency-key'}, $row->{delivery}, 'request ' . ($n + 1) . ': the key is the number of the delivery');
	is($requests[$n]{body}, $requests[0]{body}, 'request ' . ($n + 1) . ': the same bytes');
	next if $n;
	is_deeply([ @{$said}{qw(state kind subject currency event alert delivery webhook count)} ],
		[ 'raised', 'provider_low', 'upstream', 'USD', 1, $alert->{id}, $row->{delivery}, 'ops', 1 ], 'what it says');
	cmp_ok($said->{value}, '==', 18.5, 'the value');
	like($requests[0]{body}, qr/"value": 18\.5[,}]/, 'as it is written');
}
my %signatures = map { $_->{headers}{'tokenbill-signature'} => 1 } @requests;
my %moments = map { epoch($_) => 1 } @times;
is(scalar keys %signatures, scalar keys %moments, 'each moment has a signature of its own');

my ($chat) = received('chat');
is(scalar(received('chat')), 1, 'where the address is the secret, it was received at the first attempt');
is($chat->{headers}{'tokenbill-signature'}, undef, 'and is not signed');
is($db->value("SELECT url FROM tokenbill.alert_webhooks WHERE name = 'chat'"), $double->url('hooks/chat/{secret}'), 'the address is shown without it');

# what has been received is not sent again, whatever time goes by
later('2 hours');
$server->wait_until('another attempt at the one that is broken', sub { return received('broken') >= 2; });
$server->wait_state('postgres', 'asleep');
is(scalar(received('ops')), 6, 'it is not sent again');
is(scalar(received('chat')), 1, 'nor the other one');

# ---- it recovers
balance_is('118.5');
later('1 min');
my $cleared = $now;
$row = wait_attempt('ops', 2, 1);
is($row->{state}, 'sent', 'that it is cleared is sent');
@requests = received('ops');
is(scalar @requests, 7, 'in one request');
my $said = genuine($requests[6], 'ops', $cleared, 'cleared');
is_deeply([ @{$said}{qw(state kind subject event alert delivery)} ], [ 'cleared', 'provider_low', 'upstream', 2, $alert->{id}, $row->{delivery} ], 'what it says');
isnt($row->{delivery}, $requests[0]{headers}{'idempotency-key'}, 'under a key of its own');
is(wait_attempt('chat', 2, 1)->{state}, 'sent', 'the other one is told, too');
is(scalar(received('chat')), 2, 'in one request');
is($db->value('SELECT state FROM tokenbill.alerts WHERE id = $1', $alert->{id}), 'cleared', 'the alert is cleared');

# ---- the one that never works
my $attempt = delivery('broken', 1)->{attempts};
$row = wait_attempt('broken', 1, $attempt);
my (@odd, $pause);
while ($row->{state} eq 'pending' && $attempt < 100)
{
	$pause = $wait->($row);
	# the list has three; after that it doubles, up to an hour
	my $least = 5 * 2**($attempt - 3);
	$least = 3600 if $least > 3600;
	push @odd, "$pause s after attempt $attempt" if $attempt > 3 && ($pause < $least || $pause > 1.5 * $least);
	clock_at($row->{next_at});
	$row = wait_attempt('broken', 1, ++$attempt);
}
is($row->{state}, 'failed', "after $attempt attempts it is given up");
is(join(', ', @odd), '', 'the pauses between them grow twice as long, up to an hour');
my $days = $db->value('SELECT extract(epoch FROM $1::timestamptz - $2::timestamptz) / 86400', $now, $raised);
ok($days >= 1 && $days < 1 + 1.5 / 24, "that is after $days days");
is($row->{error}, 'HTTP 500', 'with the reason');
my @never = grep { $_->{headers}{'idempotency-key'} eq $row->{delivery} } received('broken');
is(scalar @never, $attempt, 'it was asked as often');
is(scalar(grep { $_->{body} ne $never[0]{body} } @never), 0, 'with the same bytes each time');

# its second event waited for that; it is as old, so it is tried once
my $second = wait_attempt('broken', 2, 1);
my ($first_cleared) = grep { $_->{headers}{'idempotency-key'} eq $second->{delivery} } received('broken');
cmp_ok($first_cleared->{number}, '>', $never[-1]{number}, 'that it is cleared was not sent before that it is raised was given up');
until ($second->{state} ne 'pending')
{
	clock_at($second->{next_at});
	$second = wait_attempt('broken', 2, $second->{attempts} + 1);
}
is($second->{state}, 'failed', 'that was given up, too');

# that is seen
is($db->value("SELECT failed FROM tokenbill.alert_webhooks WHERE name = 'broken'"), 2, 'alert_webhooks tells of both');
my ($error) = $db->rows("SELECT target, sqlstate, message, detail, count FROM tokenbill.worker_errors WHERE duty = 'webhook'");
is("$error->{target} $error->{sqlstate} $error->{message}", 'broken 58000 an alert could not be sent to webhook "broken" for a day', 'worker_errors does');
is($error->{count}, 2, 'once, with a count');
like($db->value('SELECT tokenbill.metrics_text()'), qr/^tokenbill_webhooks_pending 0$/m, 'nothing is pending');
later('1 min');
$server->wait_until('an alert', sub { return $db->value("SELECT state FROM tokenbill.alerts WHERE kind = 'worker_error' AND subject = 'webhook'"); });
pass('and it is an alert');
is(join(' ', map { scalar received($_) } qw(ops chat)), '7 2', 'the others were told of the provider, and of nothing else');

# ---- the secrets
my $journal = JSON::PP->new->utf8->encode([ $double->seen ]);
foreach my $name (qw(ops broken))
{
	my $quoted = JSON::PP->new->utf8->allow_nonref->encode($secret{$name}) =~ s/^"|"$//gr;
	(my $percent = $secret{$name}) =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ge;
	is(index($journal, $_), -1, "of the secret of $name only signatures were sent") foreach $quoted, $percent;
}
my $everything = join "\n", $server->log_lines($log, qr/./),
  $db->column('SELECT row_to_json(x)::text FROM tokenbill.alert_delivery x UNION ALL SELECT row_to_json(x)::text FROM tokenbill.alert_webhook x UNION ALL SELECT row_to_json(x)::text FROM tokenbill.worker_error x');
foreach my $name (sort keys %secret)
{
	is(index($everything, $_), -1, "the secret of $name is in no log and no table") foreach $secret{$name}, $chat_path;
}
like($everything, qr/an alert could not be sent to webhook/, 'which have been looked through');

$server->stop;
done_testing();
