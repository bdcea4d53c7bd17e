# Every answer of test/data/answers, served over HTTP to a provider of its preset
# and asked for by the worker: the gauge is the number that the index says, digit by
# digit, or there is none and the error is what the index says. Then bodies that mean
# harm, to all of them: what was known stays. An honest provider among them is asked
# on time all along.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP ();
use MIME::Base64;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;
use Tokenbill::Double;
use Tokenbill::Worker;

my $double = Tokenbill::Double->new;
my $server = Tokenbill::Worker->new('main');
$server->begin(conf => [
	$server->watching,
	"tokenbill.clock = '2026-03-05 12:00:00+00'",
	# one retry, at once
	"tokenbill.retry_delays = '0s'",
	'tokenbill.max_concurrent_requests = 50', 'tokenbill.max_requests_per_host = 25' ]);
my $db = $server->client;
my $pid = $server->wait_worker->{pid};
my $log = $server->log_from;

# From now on it is this time, for the worker and for us
sub clock_at
{
	my ($time) = @_;
	$db->query("ALTER SYSTEM SET tokenbill.clock = '2026-03-05 $time+00'");
	$server->reload;
	$server->wait_until("it to be $time", sub { return $db->value("SELECT tokenbill.clock() = '2026-03-05 $time+00'") eq 't'; });
	return;
}

# ---- the providers: one for each entry of the index, one for each body that means
# harm, and the honest one
my %preset = map { $_->{preset} => $_ }
  $db->rows('SELECT preset, source, needs_secret, array_to_json(parameters) AS parameters, requests FROM tokenbill.provider_presets');
my %paths = map {
	my $p = $_;
	$p => [ map { s/\{\w+\}/here/gr } $db->column('SELECT r.path FROM tokenbill.preset_request r WHERE r.preset = $1 AND r.builtin ORDER BY r.step', $p) ];
} keys %preset;
my $index = JSON::PP->new->utf8->decode(slurp_file("$FindBin::RealBin/../data/answers/index.json"));
my %more = map { $_->{preset} => $_ } grep { $_->{more} } @$index;

# A first answer that promises more is followed by this one, and they tell together
my %followed = (
	'newapi_limit.json' => [ 'newapi_usage.json', { USD => '158.924732' } ],
	'openai_costs_first.json' => [ 'openai_costs_last.json', { USD => '96.40' } ],
	'anthropic_costs_first.json' => [ 'anthropic_costs_last.json', { USD => '83.70332590' } ]);

sub answer_of { my ($entry) = @_; return { body_file => $entry->{file}, status => $entry->{status}, headers => $entry->{headers} || {} }; }

# Have the double give these answers to what is asked of a provider's preset, one
# for each of its requests or pages; the last one also afterwards
sub serve
{
	my ($name, $preset, @answers) = @_;
	my @paths = @{ $paths{$preset} };
	if (@paths == 1)
	{
		$double->script($name . $paths[0], @answers);
		return;
	}
	$double->script($name . $paths[$_], $answers[$_] || $answers[-1]) foreach 0 .. $#paths;
	return;
}

sub add
{
	my ($name, $preset, $every) = @_;
	my $p = $preset{$preset} or die "there is no preset $preset";
	my $derived = $p->{source} eq 'derived';
	my %params = map { $_ => 'here' } @{ JSON::PP::decode_json($p->{parameters}) };
	$db->value('SELECT tokenbill.add_provider($1, $2, $3, secret => $4, check_every => $5::interval, params => $6::jsonb, opening_balance => $7::numeric, opening_at => $8::timestamptz)',
		$name, $preset, $double->url($name), $p->{needs_secret} eq 't' ? 'id-of-a-test:sk-of-a-test' : undef, $every // '1 day', JSON::PP::encode_json(\%params),
		$derived ? 100 : undef, $derived ? '2026-03-01 00:00+00' : undef);
	return;
}

my (%entry, %checks);
foreach my $entry (@$index)
{
	(my $name = $entry->{file}) =~ s/\.json$//;
	$entry{$name} = $entry;
	my @answers = answer_of($entry);
	if ($entry->{more})
	{
		my ($next, $balances) = @{ $followed{ $entry->{file} } || die "what follows $name?" };
		push @answers, { body_file => $next };
		$entry->{balances} = $balances;
	}
	unshift @answers, answer_of($more{ $entry->{preset} }) if $entry->{step} > 1;
	serve($name, $entry->{preset}, @answers);
	add($name, $entry->{preset});
}
cmp_ok(scalar keys %entry, '>=', 130, 'entries of the index: ' . keys %entry);

# Bodies that mean harm, to a preset that reads $.availableBalance; those that are
# marked are no better for any other preset
my $depth = 100_000;
my @harm = (
	[ 'invalid UTF-8', qq({"availableBalance": 1, "x": "\xff\xfe"}), qr/^the answer is not valid UTF-8$/, 'any' ],
	[ 'overlong UTF-8', qq({"availableBalance": 1, "x": "\xc0\x80"}), qr/^the answer is not valid UTF-8$/, 'any' ],
	[ 'UTF-16', "\xff\xfe" . join('', map { "$_\0" } split //, '{"availableBalance": 1}'), qr/^the answer is not valid UTF-8$/, 'any' ],
	[ 'a NUL', qq({"availableBalance": 1}\0), qr/^the answer is not valid UTF-8$/, 'any' ],
	[ 'a NUL in a name', '{"availableBalance": 1, "\u0000": 2}', qr/^the answer has a character that text cannot have here$/, 'any' ],
	[ 'arrays in arrays', '[' x $depth . ']' x $depth, qr/^the answer is nested too deeply$/, 'any' ],
	[ 'objects in objects', '{"a":' x $depth . '1' . '}' x $depth, qr/^the answer is nested too deeply$/, 'any' ],
	[ 'arrays without an end', '{"availableBalance": 1, "x": ' . '[' x $depth, qr/^the answer is nested too deeply$/, 'any' ],
	[ 'a member twice', '{"availableBalance": 1, "availableBalance": 2}', qr/^the answer has a member "availableBalance" twice in one object$/, 'any' ],
	[ 'a member twice, in two spellings', '{"availableBalance": 1, "\u0061vailableBalance": 2}', qr/^the answer has a member "availableBalance" twice in one object$/, 'any' ],
	[ 'the same member twice', '{"availableBalance": 1, "availableBalance": 1}', qr/^the answer has a member "availableBalance" twice in one object$/, 'any' ],
	[ '1e400', '{"availableBalance": 1e400}', qr/^\$\.availableBalance is beyond all bounds$/ ],
	[ '1e-400', '{"availableBalance": 1e-400}', qr/beyond all bounds$/ ],
	[ '1e999999999', '{"availableBalance": 1e999999999}', qr/beyond all bounds$/, 'any' ],
	[ 'a number of 900,000 digits', '{"availableBalance": ' . '7' x 900_000 . '}', qr/beyond all bounds$/ ],
	[ 'a number of 900,000 decimals', '{"availableBalance": 0.' . '7' x 900_000 . '}', qr/beyond all bounds$/ ],
	[ 'nothing', '', qr/^the answer is empty$/, 'any' ],
	[ 'blanks', " \r\n\t" x 1000, qr/^the answer is empty$|^the answer is not JSON$/, 'any' ],
	[ 'HTML', '<!DOCTYPE html><html><body><h1>Just a moment...</h1> 110.25</body></html>', qr/^the answer is not JSON$/, 'any' ],
	[ 'a failure with status 200', '{"code": 401, "message": "no such key", "availableBalance": 0}', qr/^the answer says that it failed: no such key$/ ],
	[ 'half of it', '{"availableBalance": 12', qr/^the answer is not JSON$/, 'any' ],
	[ 'two of them', '{"availableBalance": 1}{"availableBalance": 2}', qr/^the answer is not JSON$/, 'any' ],
	[ 'NaN', '{"availableBalance": NaN}', qr/^the answer is not JSON$/, 'any' ],
	[ 'a text that is a statement', q({"availableBalance": "1'; DROP TABLE tokenbill.provider; --"}), qr/^\$\.availableBalance is not a number$/ ],
	[ 'a hundred thousand members', '{' . join(',', map { qq("a$_":0) } 1 .. 90_000) . '}', qr/^\$\.availableBalance is missing$/ ]);
foreach my $n (0 .. $#harm)
{
	serve("harm$n", 'novita', { body => '{"availableBalance": 52500}' });
	add("harm$n", 'novita');
	$entry{"harm$n"} = { preset => 'novita', balances => { USD => '5.2500' } };
}
# a byte order mark is no harm
my $mark = @harm;
serve("harm$mark", 'novita', { body_base64 => encode_base64("\xef\xbb\xbf" . '{"availableBalance": 31400}', '') });
add("harm$mark", 'novita');
$entry{"harm$mark"} = { preset => 'novita', balances => { USD => '3.1400' } };

serve('honest', 'deepseek', map { { body => { is_available => JSON::PP::true, balance_infos => [ { currency => 'USD', total_balance => "10.0$_" } ] } } } 1 .. 9);
add('honest', 'deepseek', '1 minute');

# All gauges of balances, as they are scraped: provider and currency => value
sub gauges
{
	my ($name) = @_;
	my %gauge;
	foreach (split /\n/, $db->value('SELECT tokenbill.metrics_text()'))
	{
		next unless /^tokenbill_provider_\Q$name\E\{(.*)\} (\S+)$/;
		my ($labels, $value) = ($1, $2);
		my %label = $labels =~ /(\w+)="([^"]*)"/g;
		$gauge{ $label{provider} }{ $label{currency} // '' } = $value;
	}
	return \%gauge;
}

# Until so many checks of all these have ended
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

my $minutes = 0;

# The honest one has been asked once more, and what it said is known
sub honest
{
	my ($when) = @_;
	$minutes++;
	wait_checks($minutes, 'honest');
	is_deeply([ $db->row('SELECT c.checks, c.calls, b.balance, b.error FROM tokenbill.provider_checks c JOIN tokenbill.provider_balances b USING (provider) WHERE provider = $1', 'honest') ],
		[ { checks => $minutes, calls => $minutes, balance => "10.0$minutes", error => undef } ], "the honest one is asked on time: $when");
	return;
}

# ---- all at once
clock_at('12:00:10');
honest('with all the others');
# this one wants to be left alone for seven seconds
my $polite = 'anthropic_costs_429';
wait_checks(1, grep { $_ ne $polite } keys %entry);
is($db->value('SELECT blocked_until FROM tokenbill.provider_checks WHERE provider = $1', $polite), '2026-03-05 12:00:17+00', "$polite: is left alone for as long as it said");
is(scalar($double->seen("/$polite$paths{anthropic_costs}[0]")), 1, "$polite: has been asked once so far");
clock_at('12:01:10');
honest('a minute later');
wait_checks(1, $polite);

my ($balances, $stale) = (gauges('balance'), gauges('stale'));
my %told;
push @{ $told{ $_->{provider} } }, $_ foreach $db->rows('SELECT provider, currency, balance, status, error FROM tokenbill.provider_balances');
my %check = map { $_->{provider} => $_ } $db->rows('SELECT * FROM tokenbill.provider_checks');
foreach my $name (sort keys %entry)
{
	my $entry = $entry{$name};
	my @rows = @{ $told{$name} };
	my $requests = ($entry->{more} || ($entry->{step} // 1) > 1 ? 2 : 1) + ($entry->{retried} ? 1 : 0);
	is($check{$name}{calls}, $requests, "$name: requests made") unless $entry->{preset} eq 'newapi' && $entry->{unlimited};
	is($check{$name}{retries}, $entry->{retried} ? 1 : 0, "$name: of which again");
	if ($entry->{balances})
	{
		is_deeply($balances->{$name}, $entry->{balances}, "$name: the gauges") or diag(explain(\@rows));
		is_deeply({ map { $_->{currency} => $_->{error} } grep { $_->{error} } @rows }, $entry->{other} || {}, "$name: errors");
	}
	else
	{
		is($balances->{$name}, undef, "$name: no gauge of a balance, not even 0");
		is_deeply([ map { $_->{error} } @rows ], [ $entry->{problem} ], "$name: the reason");
		is(join(' ', map { $_->{status} } @rows), $entry->{unlimited} ? 'unlimited' : 'unknown', "$name: the status");
	}
}
is($server->worker->{pid}, $pid, 'the worker is still the same');

# ---- now all that is known is asked for again, and every answer means harm
my @any = grep { $harm[$_][3] } 0 .. $#harm;
my @known = sort grep { $entry{$_}{balances} } keys %entry;
my %what;
foreach my $at (0 .. $#known)
{
	my $name = $known[$at];
	my $n = $name =~ /^harm(\d+)$/ && $1 < @harm ? $1 : $any[ $at % @any ];
	$what{$name} = $n;
	serve($name, $entry{$name}{preset}, { body_base64 => encode_base64($harm[$n][1], '') });
}
$db->value('SELECT count(tokenbill.check_provider_now(n)) FROM unnest($1::text[]) n', '{' . join(',', @known) . '}');
clock_at('12:02:10');
honest('while all the others mean harm');
wait_checks(2, @known);
my $before = $balances;
($balances, $stale) = (gauges('balance'), gauges('stale'));
%told = ();
push @{ $told{ $_->{provider} } }, $_ foreach $db->rows('SELECT provider, currency, balance, error FROM tokenbill.provider_balances');
foreach my $name (@known)
{
	my ($title, undef, $why) = @{ $harm[ $what{$name} ] };
	is_deeply($balances->{$name}, $before->{$name}, "$name, $title: the gauges stay");
	is_deeply([ values %{ $stale->{$name} } ], [ map { 1 } @{ $told{$name} } ], "$name: stale");
	like($_->{error}, $why, "$name, $title: the reason") foreach grep { defined $_->{balance} } @{ $told{$name} };
}

# ---- and none of it has done harm
clock_at('12:03:10');
honest('afterwards');
is($db->value('SELECT count(*) FROM tokenbill.worker_errors'), 0, 'nothing of it was an error of the worker')
  or diag(explain([ $db->rows('SELECT duty, target, message FROM tokenbill.worker_errors LIMIT 5') ]));
my $worker = $server->wait_state('postgres', 'asleep');
is($worker->{pid}, $pid, 'the worker is still the same');
is($worker->{requests}, 0, 'nothing is under way');
is_deeply([ $db->rows('SELECT xact_start, backend_xmin FROM pg_stat_activity WHERE pid = $1', $pid) ], [ { xact_start => undef, backend_xmin => undef } ], 'it has no transaction open');
is($db->value('SELECT count(*) FROM pg_locks WHERE pid = $1', $pid), 0, 'and no lock');
is($db->value("SELECT count(*) FROM tokenbill.provider_checks WHERE under_way"), 0, 'no claim is left');
is(join("\n", grep { !/received SIGHUP|parameter "tokenbill\.clock" changed|checkpoint/ } $server->log_lines($log, qr/./)), '', 'the log has no line of it');

$server->stop;
done_testing();
