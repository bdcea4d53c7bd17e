# Secrets on their way out: to upstreams that answer well, refuse, fail, break off,
# have a bad certificate, are late or must not be asked. Each arrives where its preset
# puts it and nowhere else, or does not leave at all; and nothing that the server
# writes, shows or dumps has it in any spelling. The server logs all it can.
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256 hmac_sha256_hex sha256_hex);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP ();
use MIME::Base64;
use PostgreSQL::Test::Utils qw(append_to_file run_command slurp_file);
use Test::More;
use Tokenbill::Double;
use Tokenbill::Server qw(seed);
use Tokenbill::Traces qw(spellings not_in_files);
use Tokenbill::Worker;

seed();
my $double = Tokenbill::Double->new;
my $server = Tokenbill::Worker->new('main');
$server->begin(
	conf => [
		$server->watching,
		"shared_preload_libraries = 'tokenbill,auto_explain'",
		"tokenbill.clock = '2026-03-05 12:00:00+00'",
		"tokenbill.ca_file = '@{[ $double->ca_file ]}'",
		# one retry, at once
		"tokenbill.retry_delays = '0s'", "tokenbill.connect_timeout = '1s'", "tokenbill.request_timeout = '2s'",
		'tokenbill.max_concurrent_requests = 100', 'tokenbill.max_requests_per_host = 50',
		'log_min_messages = debug2', 'log_min_error_statement = debug5', 'log_error_verbosity = verbose', 'log_statement = all', 'log_duration = on',
		'log_parameter_max_length = -1', 'log_parameter_max_length_on_error = -1',
		'auto_explain.log_min_duration = 0', 'track_activity_query_size = 100kB' ]);
my $db = $server->client;
my $pid = $server->wait_worker->{pid};

# ---- the secrets, and the spellings in which one could be somewhere

sub random_text
{
	my ($length, @signs) = @_;
	return join '', map { $signs[ rand @signs ] } 1 .. $length;
}

my @alnum = ('a' .. 'z', 'A' .. 'Z', 0 .. 9);

# How a key of each of these vendors looks
my %key = (
	deepseek => sub { 'sk-' . random_text(32, 'a' .. 'f', 0 .. 9) },
	anthropic_costs => sub { 'sk-ant-admin01-' . random_text(80, @alnum, '_', '-') . 'A1' },
	# all that has a meaning in a query
	openai_sb => sub { 'sb-' . random_text(20, @alnum) . random_text(10, qw(+ / = & % ? ;), ' ') . '#' . random_text(8, @alnum) },
	aliyun => sub { 'LTAI5t' . random_text(18, @alnum) . ':' . random_text(30, @alnum) },
	volcengine => sub { 'AKLT' . random_text(43, @alnum) . ':' . random_text(44, @alnum, '+', '/') . '==' });

sub percent { my ($text, $format) = @_; return $text =~ s/([^A-Za-z0-9._~-])/sprintf $format, ord $1/ger; }

my (%secret, %spelling);

sub remember
{
	my ($name, $secret) = @_;
	$secret{$name} = $secret;
	# of a pair, the part that nobody is told is searched for as well
	$spelling{$_} = $name foreach map { spellings($_) } $secret, $secret =~ /^(?:LTAI|AKLT)\w+:(.*)$/;
	return;
}

# Which secrets are in a text
sub found
{
	my ($text) = @_;
	my $any = join '|', map { quotemeta } keys %spelling;
	my %there;
	$there{ $spelling{$1} } = 1 while $text =~ /($any)/g;
	return join ' ', sort keys %there;
}

# ---- the upstreams: of each preset, one of each kind

# kind => what is answered, the error, how many requests arrive, on which port
my %kind = (
	good => [ undef, undef, 1 ],
	secure => [ undef, undef, 1, 'https' ],
	refused => [ { status => 401 }, qr/^HTTP 401/, 1 ],
	failing => [ { status => 500, body => { error => { message => 'out of order' } } }, qr/^HTTP 500: out of order$/, 2 ],
	dropped => [ { raw_base64 => '' }, qr/closed without an answer|connection broke/, 2 ],
	cut => [ { body => 'x' x 100, drop_after => 50 }, qr/connection broke/, 2 ],
	late => [ { hold => 'never' }, qr/no answer after/, 2 ],
	redirected => [ { status => 302, headers => { Location => 'http://127.0.0.1:1/elsewhere' } }, qr/^HTTP 302: redirects are not followed$/, 1 ],
	expired => [ undef, qr/certificate/i, 0, 'expired' ],
	named => [ undef, qr/certificate|name/i, 0, 'wrong_name' ],
	unknown => [ undef, qr/certificate/i, 0, 'self_signed' ],
	silent => [ undef, qr/no answer after|connect/, 0, 'silent' ],
	reset => [ undef, qr/connection|closed/i, 0, 'reset' ],
	nobody => [ undef, qr/connect/i, 0 ]);
my %good = (deepseek => 'deepseek_one', anthropic_costs => 'anthropic_costs_quiet', openai_sb => 'openai_sb_good', aliyun => 'aliyun_good', volcengine => 'volcengine_good');
my %path = (deepseek => '/user/balance', anthropic_costs => '/v1/organizations/cost_report', openai_sb => '/sb-api/user/status', aliyun => '/', volcengine => '/');
foreach my $preset (sort keys %key)
{
	foreach my $kind (sort keys %kind)
	{
		my $name = "${preset}_$kind";
		my ($answer, undef, undef, $port) = @{ $kind{$kind} };
		my $secret = $key{$preset}->();
		remember($name, $secret);
		my $derived = $preset eq 'anthropic_costs';
		# some tell back what they were given
		my %answer = %{ $answer || { body_file => "$good{$preset}.json" } };
		$answer{body} = { error => { message => "Incorrect API key provided: $secret. You can find yours at https://example.com" } }
		  if $kind eq 'refused' && $secret =~ /^sk-/;
		$double->script($name . $path{$preset}, \%answer);
		$db->value('SELECT tokenbill.add_provider($1, $2, $3, secret => $4, check_every => $5, opening_balance => $6::numeric, opening_at => $7::timestamptz)',
			$name, $preset, $kind eq 'nobody' ? 'http://127.0.0.1:1' : $double->url($name, $port), $secret, '1 hour', $derived ? 100 : undef, $derived ? '2026-03-01 00:00+00' : undef);
	}
}

# webhooks whose address is the secret, to nobody and to a bad certificate
foreach my $hook ([ 'nobody', 'http://127.0.0.1:1' ], [ 'expired', $double->url('', 'expired') ], [ 'reset', $double->url('', 'reset') ])
{
	my ($name, $url) = @$hook;
	remember("hook $name", 'T0' . random_text(40, @alnum, '/'));
	$db->value('SELECT tokenbill.set_secret($1, $2)', "hook $name", $secret{"hook $name"});
	$db->value('SELECT tokenbill.add_alert_webhook($1, $2, secret => $3)', $name, "$url/services/{secret}?key={secret}", "hook $name");
}

# What can be seen while it is under way
my %sampled;
my $samples = 0;

sub sample
{
	$samples++;
	$sampled{$_} = 1 foreach $db->column("SELECT concat_ws(' ', backend_type, application_name, query, state, wait_event) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"),
	  $db->column('SELECT row_to_json(s)::text FROM tokenbill.worker_status s');
	foreach my $file (glob "/proc/$pid/{cmdline,environ}")
	{
		# another user's may not be ours to read
		open my $in, '<', $file or next;
		local $/;
		$sampled{ <$in> // '' } = 1;
	}
	return;
}

sub clock_at
{
	my ($time) = @_;
	$db->query("ALTER SYSTEM SET tokenbill.clock = '2026-03-05 $time+00'");
	$server->reload;
	$server->wait_until("it to be $time", sub { return $db->value("SELECT tokenbill.clock() = '2026-03-05 $time+00'") eq 't'; });
	return;
}

sub wait_checks
{
	my ($checks) = @_;
	$server->wait_until("$checks checks of each", sub { sample(); return !$db->value('SELECT count(*) FROM tokenbill.provider_checks WHERE checks < $1', $checks); });
	return;
}

sub errors { return map { $_->{provider} => $_ } $db->rows('SELECT provider, min(balance) AS balance, min(error) AS error FROM tokenbill.provider_balances GROUP BY provider'); }

clock_at('12:00:10');
wait_checks(1);

# ---- where they arrived

# A request without the one place in which its secret belongs, or undef if it is not there
sub without_secret
{
	my ($preset, $secret, $request) = @_;
	my %headers = %{ $request->{headers} };
	my $path = $request->{path};
	if ($preset eq 'deepseek')
	{
		return unless (delete $headers{authorization} // '') eq "Bearer $secret";
	}
	elsif ($preset eq 'anthropic_costs')
	{
		return unless (delete $headers{'x-api-key'} // '') eq $secret;
	}
	elsif ($preset eq 'openai_sb')
	{
		my $coded = percent($secret, '%%%02X');
		return unless $path =~ s/\?api_key=\Q$coded\E$//;
	}
	return JSON::PP->new->canonical->encode([ $request->{method}, $path, \%headers, $request->{body} ]);
}

# What both signatures are made from: help.aliyun.com, "V3 request structure and
# signature", and volcengine.com/docs/6369/67269
sub canonical
{
	my ($request, $names) = @_;
	my ($path, $query) = split /\?/, $request->{path}, 2;
	return join "\n", $request->{method}, $path, join('&', sort split /&/, $query // ''),
	  (map { "$_:$request->{headers}{$_}" } split /;/, $names), '', $names, sha256_hex($request->{body});
}

# The header Authorization as it has to be
sub authorization
{
	my ($preset, $secret, $request) = @_;
	my ($id, $key) = split /:/, $secret, 2;
	if ($preset eq 'aliyun')
	{
		my $names = 'host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version';
		my $signature = hmac_sha256_hex("ACS3-HMAC-SHA256\n" . sha256_hex(canonical($request, $names)), $key);
		return "ACS3-HMAC-SHA256 Credential=$id,SignedHeaders=$names,Signature=$signature";
	}
	my $names = 'host;x-content-sha256;x-date';
	my $date = $request->{headers}{'x-date'};
	my $day = substr $date, 0, 8;
	my $scope = "$day/cn-beijing/billing/request";
	my $derived = $key;
	$derived = hmac_sha256($_, $derived) foreach $day, 'cn-beijing', 'billing', 'request';
	my $signature = hmac_sha256_hex("HMAC-SHA256\n$date\n$scope\n" . sha256_hex(canonical($request, $names)), $derived);
	return "HMAC-SHA256 Credential=$id/$scope, SignedHeaders=$names, Signature=$signature";
}

my @journal = $double->seen;
my %error = errors();
my %nonces;
foreach my $preset (sort keys %key)
{
	foreach my $kind (sort keys %kind)
	{
		my $name = "${preset}_$kind";
		my (undef, $error, $count, $port) = @{ $kind{$kind} };
		my @requests = grep { $_->{path} =~ m{^/\Q$name\E/} } @journal;
		# on a connection of before libcurl sends a GET again by itself if it is closed without a word
		cmp_ok(scalar @requests, $kind eq 'dropped' ? '>=' : '==', $count, "$name: requests that arrived");
		if (defined $error)
		{
			is($error{$name}{balance}, undef, "$name: no balance");
			like($error{$name}{error}, $error, "$name: the error");
		}
		else
		{
			ok(defined $error{$name}{balance}, "$name: a balance");
			is($error{$name}{error}, undef, "$name: no error");
		}
		foreach my $request (@requests)
		{
			is($request->{port}, $port // 'http', "$name: at its port");
			my $rest = without_secret($preset, $secret{$name}, $request);
			ok(defined $rest, "$name: the secret is where it belongs") or next;
			is(found($rest), '', "$name: and nowhere else");
			next unless $preset =~ /aliyun|volcengine/;
			is($request->{headers}{authorization}, authorization($preset, $secret{$name}, $request), "$name: the signature is what Perl works out");
			is($request->{headers}{ $preset eq 'aliyun' ? 'x-acs-date' : 'x-date' }, $preset eq 'aliyun' ? '2026-03-05T12:00:10Z' : '20260305T120010Z', "$name: signed now");
			$nonces{ $request->{headers}{'x-acs-signature-nonce'} }++ if $preset eq 'aliyun' && $kind ne 'dropped';
		}
	}
}
is(scalar(grep { $_ > 1 } values %nonces), 0, 'no nonce is used twice');
cmp_ok(scalar keys %nonces, '>=', 10, 'of ' . keys %nonces);
is(join(' ', map { "$_->{method} $_->{path}" } grep { $_->{port} =~ /^(?:expired|wrong_name|self_signed)$/ } @journal),
	'', 'nothing was sent to who has a bad certificate');
like($error{deepseek_refused}{error}, qr/Incorrect API key provided: \S*\*\*\*/, 'a key that is told back is not kept');

# ---- addresses that are refused, and a key that is another
$double->forget;
my $spare = PostgreSQL::Test::Utils::tempdir() . '/other.key';
append_to_file($spare, 'b2' x 32);
chmod 0600, $spare;
$db->query('ALTER SYSTEM SET tokenbill.allow_private_addresses = off');
clock_at('14:00:00');
wait_checks(2);
%error = errors();
is(scalar(grep { $_->{error} !~ /tokenbill\.allow_private_addresses is off/ } values %error), 0, 'all the addresses are refused')
  or diag(explain([ grep { $_->{error} !~ /tokenbill\.allow_private_addresses is off/ } values %error ]));
$db->query('ALTER SYSTEM RESET tokenbill.allow_private_addresses');
$db->query("ALTER SYSTEM SET tokenbill.key_file = '$spare'");
clock_at('16:00:00');
wait_checks(3);
%error = errors();
my @unlike = grep { $_->{error} !~ /^secret "provider:\Q$_->{provider}\E" was encrypted with key "[^"]+", not with the present key "[0-9a-f]{16}"$/ } values %error;
is(scalar @unlike, 0, 'with another key none can be opened, and the row says which key is wanted') or diag(explain($unlike[0]));
is(scalar $double->seen, 0, 'nobody was asked');
$db->query('ALTER SYSTEM RESET tokenbill.key_file');

# ---- three failures are an alert of each, which goes to the webhooks
clock_at('18:00:00');
wait_checks(4);
$server->wait_until('alerts', sub { sample(); return $db->value("SELECT count(*) FROM tokenbill.alerts WHERE kind = 'provider_stale'") >= 10; });
$server->wait_until('webhooks that have failed',
	sub { sample(); return $db->value('SELECT count(DISTINCT webhook) FROM tokenbill.alert_deliveries WHERE error IS NOT NULL') == 3; });

# ---- nowhere else: what is looked through, and a word that must be in it
my %place = (
	'pg_stat_activity and worker_status, meanwhile' => [ join("\n", keys %sampled), 'tokenbill worker' ],
	"what came of webhooks" => [ join("\n", $db->column('SELECT row_to_json(d)::text FROM tokenbill.alert_delivery d')), '127.0.0.1' ],
	'metrics_text()' => [ $db->value('SELECT tokenbill.metrics_text()'), 'openai_sb_refused' ]);
foreach my $view (qw(worker_errors provider_balances provider_history provider_checks alerts alert_webhooks breakers worker_status secrets))
{
	$place{$view} = [ join("\n", $db->column("SELECT row_to_json(v)::text FROM tokenbill.$view v")), undef ];
}
$place{$_}[1] = 'deepseek_refused' foreach qw(provider_balances provider_history provider_checks alerts);
my ($dump, $complaint) = run_command([ 'pg_dump', '-d', $server->connstr('postgres') ]);
$place{pg_dump} = [ $dump, 'openai_sb_refused' ];
$db->query('CHECKPOINT');
$server->wait_until('the worker to sleep', sub { return $server->worker->{state} eq 'asleep'; });
is($server->worker->{pid}, $pid, 'the worker is still the same');
$server->stop;
# a statement of the worker's
$place{'the log'} = [ slurp_file($server->logfile), 'tokenbill.record_call(' ];
like($place{'the log'}[0], qr/DEBUG:.*Query Text/s, 'the log has what PostgreSQL can write');
foreach my $where (sort keys %place)
{
	my ($text, $word) = @{ $place{$where} };
	isnt(index($text, $word), -1, "$where: has been looked through") if defined $word;
	is(found($text), '', "$where: no secret, in any spelling");
}
cmp_ok($samples, '>', 5, "it was looked at $samples times meanwhile");

# the files of the database, its WAL, statistics and temporary files among them
not_in_files($server->data_dir, 'no secret in any file of the data directory', \&found);

# and it would have been found
is(found("x api_key=@{[ percent($secret{openai_sb_good}, '%%%02x') ]} y " . encode_base64("user:$secret{deepseek_good}", '') . ' ' . unpack('H*', $secret{aliyun_late})),
	'aliyun_late deepseek_good openai_sb_good', 'a secret is found in each spelling');

done_testing();
