# OAuth 2.0 against a real authorization server, oidc-provider from npm: somebody
# signs in by device flow, tokens are refreshed and rotate, a family is revoked, and
# clients prove themselves in every way there is. A provider is asked with the token.
# Then none of the tokens is found anywhere but where it belongs. The server logs all
# it can.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use MIME::Base64 qw(encode_base64 encode_base64url decode_base64url);
use PostgreSQL::Test::Utils qw(run_command slurp_file);
use Test::More;
use Tokenbill::Oidc;
use Tokenbill::Server qw(seed);
use Tokenbill::Traces qw(spellings visit_memory not_in_files);
use Tokenbill::Worker;

if (!$ENV{OIDC_PROVIDER})
{
	# installs it from npm itself, exactly as the lock file says
	my $home = PostgreSQL::Test::Utils::tempdir();
	my ($out, $err) = run_command([ "$FindBin::RealBin/../install-packages", 'oidc-provider', $home ]);
	die "oidc-provider cannot be installed: $err\n" unless -d "$home/node_modules/oidc-provider";
	$ENV{OIDC_PROVIDER} = $home;
}

seed();
my $device_code = 'urn:ietf:params:oauth:grant-type:device_code';
my $jwt_bearer = 'urn:ietf:params:oauth:grant-type:jwt-bearer';

# ---- keys and secrets of the clients

my $keys = PostgreSQL::Test::Utils::tempdir();

sub make_key
{
	my ($name, @options) = @_;
	run_command([ 'openssl', 'genpkey', @options, '-out', "$keys/$name" ]);
	return slurp_file("$keys/$name");
}

# A public key as oidc-provider wants it (RFC 7517)
sub jwk
{
	my ($name, $kid) = @_;
	my ($text) = run_command([ 'openssl', 'pkey', '-in', "$keys/$name", '-noout', '-text' ]);
	my $bytes = sub { my ($part) = @_; return pack 'H*', $part =~ s/[^0-9a-f]//gr; };
	if ($text =~ /modulus:\s+((?:[0-9a-f]{2}[:\s]+)+[0-9a-f]{0,2})/)
	{
		my $modulus = $bytes->($1);
		$modulus =~ s/^\0+//;
		return { kty => 'RSA', kid => $kid, alg => 'RS256', use => 'sig', n => encode_base64url($modulus), e => 'AQAB' };
	}
	my ($point) = $text =~ /pub:\s+((?:[0-9a-f]{2}[:\s]+)+[0-9a-f]{0,2})/;
	my $public = $bytes->($point);
	return { kty => 'EC', crv => 'P-256', kid => $kid, alg => 'ES256', use => 'sig', x => encode_base64url(substr $public, 1, 32), y => encode_base64url(substr $public, 33, 32) };
}

my $rsa = make_key('rsa', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048');
my $ec = make_key('ec', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256');
# all that has a meaning in a form, or in HTTP Basic
my $odd = 'a+b/c=d&e%f:g h?' . join '', map { ('a' .. 'z')[ rand 26 ] } 1 .. 30;
my $plain = join '', map { ('a' .. 'z', 0 .. 9)[ rand 36 ] } 1 .. 40;
my @none = (redirect_uris => [], response_types => []);
my $oidc = Tokenbill::Oidc->new(
	ttl => { AccessToken => 3600, DeviceCode => 600 },
	clients => [
		{ client_id => 'public', application_type => 'native', token_endpoint_auth_method => 'none', grant_types => [ $device_code, 'refresh_token' ], @none },
		{ client_id => 'odd: name', client_secret => $odd, token_endpoint_auth_method => 'client_secret_basic', grant_types => [ 'client_credentials', $device_code, 'refresh_token' ], @none },
		{ client_id => 'posts', client_secret => $plain, token_endpoint_auth_method => 'client_secret_post', grant_types => ['client_credentials'], @none },
		{ client_id => 'signs', token_endpoint_auth_method => 'private_key_jwt', token_endpoint_auth_signing_alg => 'ES256', jwks => { keys => [ jwk('ec', 'of-signs') ] }, grant_types => ['client_credentials'], @none },
		{ client_id => 'robot', token_endpoint_auth_method => 'none', jwks => { keys => [ jwk('rsa', 'of-robot'), jwk('ec', 'of-robot-ec') ] }, grant_types => [$jwt_bearer], @none } ]);

# ---- a server

my $server = Tokenbill::Worker->new('main');
$server->begin(
	conf => [
		$server->watching,
		"shared_preload_libraries = 'tokenbill,auto_explain'", "tokenbill.clock = '2026-03-05 12:00:00+00'", "tokenbill.retry_delays = '0s'",
		'log_min_messages = debug2', 'log_min_error_statement = debug5', 'log_error_verbosity = verbose', 'log_statement = all', 'log_duration = on',
		'log_parameter_max_length = -1', 'log_parameter_max_length_on_error = -1',
		'auto_explain.log_min_duration = 0', 'auto_explain.log_nested_statements = on', 'track_activity_query_size = 100kB' ]);
my $db = $server->client;
my $pid = $server->wait_worker->{pid};
my %sampled;

# what there is to know of a test that broke off
END { my $status = $?; diag(explain([ $db->rows('SELECT * FROM tokenbill.worker_errors'), $db->rows('SELECT * FROM tokenbill.device_grants'), $db->rows('SELECT * FROM tokenbill.access_tokens') ])) if $status && $db; $? = $status; }

sub sample
{
	$sampled{$_} = 1 foreach $db->column("SELECT concat_ws(' ', backend_type, application_name, query, state, wait_event) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"),
	  $db->column('SELECT row_to_json(s)::text FROM tokenbill.worker_status s');
	return;
}

sub wait_for
{
	my ($what, $condition) = @_;
	return $server->wait_until($what, sub { sample(); return $condition->(); });
}

# So many seconds after noon
sub clock_at
{
	my ($seconds) = @_;
	my $time = $db->value("SELECT '2026-03-05 12:00:00+00'::timestamptz + \$1::interval", "$seconds s");
	$db->query("ALTER SYSTEM SET tokenbill.clock = '$time'");
	$server->reload;
	wait_for("it to be $seconds s after noon", sub { return $db->value('SELECT tokenbill.clock() = $1::timestamptz', $time) eq 't'; });
	return;
}

sub grant { my ($provider) = @_; return $db->row('SELECT * FROM tokenbill.device_grants WHERE provider = $1 ORDER BY id DESC LIMIT 1', $provider); }
sub token { my ($provider) = @_; return $db->row('SELECT *, extract(epoch FROM expires_at - tokenbill.clock()) AS seconds FROM tokenbill.access_tokens WHERE provider = $1', $provider) || {}; }
sub balance { my ($provider) = @_; return $db->row('SELECT * FROM tokenbill.provider_balances WHERE provider = $1', $provider) || {}; }

sub wait_token
{
	my ($provider, $renewals) = @_;
	wait_for("token $renewals of $provider", sub { return (token($provider)->{renewals} // 0) >= $renewals; });
	return token($provider);
}

$db->value('SELECT tokenbill.set_secret($1, $2)', @$_) foreach [ 'odd secret', $odd ], [ 'plain secret', $plain ], [ 'rsa key', $rsa ], [ 'ec key', $ec ];
$db->query("SELECT tokenbill.add_preset('resource', '@{[ $oidc->url('') ]}')");
$db->query("SELECT tokenbill.add_preset_request('resource', '/balance', '\$.balance')");

# ---- somebody signs in

my %device = (token_url => $oidc->url('/token'), device_url => $oidc->url('/device/auth'));
is($db->sqlstate("SELECT tokenbill.add_provider('one', 'resource', secret_name => 'oauth:one')"), 'PT404', 'a token that nobody obtains is no secret');
$db->row("SELECT * FROM tokenbill.set_oauth_client('one', 'device_code', token_url => \$1, device_url => \$2, client_id => 'public', scope => 'openid billing.read')", @device{qw(token_url device_url)});
$db->row("SELECT * FROM tokenbill.add_provider('one', 'resource', secret_name => 'oauth:one', check_every => '1 hour')");
clock_at(10);
wait_for('the check', sub { return defined(balance('one')->{error}); });
is(balance('one')->{error}, 'there is no access token yet: somebody has to allow it, see tokenbill.oauth_device_begin()', 'before that the provider is not asked, and says why');

my $begun = $db->row("SELECT * FROM tokenbill.oauth_device_begin('one')");
is($begun->{state}, 'pending', 'a login is begun');
is($begun->{user_code}, undef, 'without a code, for nobody has been asked within the transaction');
wait_for('the code', sub { return defined(grant('one')->{user_code}); });
my $pending = $db->row("SELECT * FROM tokenbill.oauth_device_begin('one')");
is($pending->{id}, $begun->{id}, 'asked again, it is the same login');
like($pending->{user_code}, qr/^[A-Z]{4}-[A-Z]{4}$/, 'with its code');
is($pending->{verification_uri}, $oidc->url('/device'), 'its address');
is($pending->{verification_uri_complete}, $oidc->url("/device?user_code=$pending->{user_code}"), 'the address with the code');
is($db->value("SELECT expires_at - tokenbill.clock() FROM tokenbill.device_grants WHERE id = \$1", $begun->{id}), '00:10:00', 'and its time');
is($pending->{poll_every}, '00:00:05', 'every five seconds, since the server does not say');
is($oidc->asked->{"/token $device_code 400"}, undef, 'it is not asked at once');
clock_at(15);
wait_for('a question', sub { return grant('one')->{polls} == 1 && defined grant('one')->{http_status} && grant('one')->{http_status} == 400; });
is(grant('one')->{state}, 'pending', 'authorization_pending: it goes on');
is(grant('one')->{error}, undef, 'which is no error');
like($oidc->allow($pending->{verification_uri_complete}), qr/successful/, 'somebody signs in and says yes');
clock_at(20);
wait_for('it to be authorized', sub { return grant('one')->{state} eq 'authorized'; });
my $token = token('one');
is($token->{status}, 'valid', 'there is a token');
is($token->{seconds} + 0, 3600, 'for an hour');
is($token->{refreshable}, 't', 'which can be refreshed');
is($token->{scope}, 'openid billing.read', 'with its scope');
is($token->{next_at}, $db->value("SELECT tokenbill.clock() + interval '59 minutes'"), 'and is refreshed a minute before its end');
wait_for('the balance', sub { return defined(balance('one')->{balance}); });
is(balance('one')->{balance}, '7', 'the provider is asked with it at once');
is($db->value("SELECT count(*) FROM tokenbill.secrets WHERE name = 'oauth_device:one'"), 0, 'the device code is forgotten');
is($db->value("SELECT count(*) FROM tokenbill.credential_expiries"), 0, 'nobody has to come back for it');
my %first = map { $_ => 1 } $oidc->issued;

# ---- refreshed, with rotation

clock_at(20 + 3539);
wait_for('the worker to have looked', sub { return $server->worker->{state} eq 'asleep'; });
is(token('one')->{renewals}, 1, 'a second earlier it is not');
clock_at(20 + 3540);
wait_token('one', 2);
is($oidc->asked->{'/token refresh_token 200'}, 1, 'refreshed once');
is(token('one')->{seconds} + 0, 3600, 'for another hour');
my ($first_refresh) = grep { $first{$_} } $oidc->issued;
my ($second_access, $second_refresh) = grep { !$first{$_} } $oidc->issued;
ok(defined $second_refresh, 'the server has given another refresh token');
$db->query("SELECT tokenbill.oauth_refresh('one')");
wait_token('one', 3);
is($oidc->asked->{'/token refresh_token 200'}, 2, 'and takes that: the worker has kept it');
$db->query("SELECT tokenbill.check_provider_now('one')");
wait_for('the provider to be asked with the new one', sub { return ($oidc->asked->{'/balance 200'} // 0) >= 2; });

# two at once: one of them has nothing to do
my $other = $server->client;
$db->query('BEGIN');
$db->query("SELECT tokenbill.oauth_refresh('one')");
$other->send("SELECT tokenbill.oauth_refresh('one')");
$db->query('COMMIT');
$other->result;
wait_token('one', 4);
clock_at(20 + 3545);
wait_for('the worker to have looked', sub { return $server->worker->{state} eq 'asleep'; });
cmp_ok(token('one')->{renewals}, '<=', 5, 'two who ask for it at once do not have one token sent twice');
is($oidc->asked->{'/token refresh_token 400'}, undef, 'the server has refused none');

# ---- a family is revoked

my @old = grep { $first{$_} } $oidc->issued;
my ($status, $said);
foreach my $candidate (@old)
{
	($status, $said) = $oidc->post('/token', { grant_type => 'refresh_token', refresh_token => $candidate, client_id => 'public' });
}
is($said->{error}, 'invalid_grant', 'somebody uses an old refresh token: the family is revoked');
$db->query("SELECT tokenbill.oauth_refresh('one')");
wait_for('the end of the authorization', sub { return grant('one')->{state} eq 'expired'; });
like(grant('one')->{error}, qr/^HTTP 400 invalid_grant/, 'authorized -> expired, for that reason');
is(token('one')->{status}, 'expired', 'the token is not used any more');
is($db->value("SELECT count(*) FROM tokenbill.secrets WHERE name LIKE 'oauth%:one'"), 0, 'nor kept');
my $error = $db->row("SELECT * FROM tokenbill.worker_errors WHERE duty = 'access token' AND target = 'one'");
like($error->{message}, qr/^the authorization of provider "one" has ended: HTTP 400 invalid_grant/, 'a row of worker_errors');
like($error->{hint}, qr/oauth_device_begin/, 'that says what to do');
wait_for('the alert', sub { return $db->value("SELECT count(*) FROM tokenbill.alerts WHERE kind = 'credential_expiring' AND subject = 'oauth:one' AND state = 'raised'") || do { $db->query('SELECT tokenbill.evaluate_alerts()'); 0; }; });
is($db->value("SELECT message FROM tokenbill.alerts WHERE subject = 'oauth:one'"), 'credential "oauth:one" has expired', 'an alert');
$db->query("SELECT tokenbill.check_provider_now('one')");
wait_for('the provider to say so', sub { return (balance('one')->{error} // '') =~ /expired/; });
like(balance('one')->{error}, qr/^the access token has expired: HTTP 400 invalid_grant/, 'and the reason of the provider');

# ---- again, from a terminal; no, and no answer

my $login = $db->row("CALL tokenbill.oauth_device_login('one')");
is($login->{state}, 'pending', 'CALL oauth_device_login() begins another');
like($login->{user_code}, qr/^[A-Z]{4}-[A-Z]{4}$/, 'and returns its code');
is($db->sqlstate("CALL tokenbill.oauth_device_login('one', NULL)"), '22004', 'a null is refused');
is($db->sqlstate("CALL tokenbill.oauth_device_login('one', \$1::text::interval)", $_), '22023', "so is a wait of $_")
  foreach '-1 second', '11 minutes', '1 month', '213503982 days 08:02:00';
is($db->sqlstate("CALL tokenbill.oauth_device_login('nobody')"), 'PT404', 'and a provider that has no OAuth client');
is($db->query('BEGIN')->{error}, undef);
is($db->sqlstate("CALL tokenbill.oauth_device_login('one')"), '2D000', 'in a transaction block it is refused');
$db->query('ROLLBACK');
like($oidc->deny($login->{verification_uri_complete}), qr/./, 'somebody says no');
clock_at(20 + 3560);
wait_for('it to be denied', sub { return grant('one')->{state} eq 'denied'; });
like(grant('one')->{error}, qr/access_denied/, 'denied');
$login = $db->row("CALL tokenbill.oauth_device_login('one')");
clock_at(20 + 3560 + 601);
wait_for('it to be expired', sub { return grant('one')->{state} eq 'expired'; });
like(grant('one')->{error}, qr/^nobody allowed it in time/, 'nobody does anything: expired');
$login = $db->row("CALL tokenbill.oauth_device_login('one')");
$oidc->allow($login->{verification_uri_complete});
clock_at(20 + 4200);
wait_for('it to be authorized', sub { return grant('one')->{state} eq 'authorized'; });
is($db->value("SELECT count(*) FROM tokenbill.credential_expiries WHERE credential = 'oauth:one'"), 0, 'authorized again: the credential is good');
wait_for('the balance', sub { return !defined(balance('one')->{error}); });
is(balance('one')->{status}, 'ok', 'and the provider, too');
is($db->value("SELECT string_agg(state, ' ' ORDER BY id) FROM tokenbill.device_grants WHERE provider = 'one'"), 'expired denied expired authorized', 'the logins so far');

# a new login while one is authorized takes its place, without a gap
$login = $db->row("CALL tokenbill.oauth_device_login('one')");
is(token('one')->{status}, 'valid', 'while another is pending, the token stays');
$oidc->allow($login->{verification_uri_complete});
clock_at(20 + 4210);
wait_for('the other to be authorized', sub { return grant('one')->{state} eq 'authorized'; });
is($db->value("SELECT string_agg(state, ' ' ORDER BY id) FROM tokenbill.device_grants WHERE provider = 'one'"), 'expired denied expired expired authorized', 'one takes the place of the other');

# ---- client credentials, and every way to prove who one is

my @clients = (
	[ 'basic', "client_id => 'odd: name', client_secret_name => 'odd secret'" ],
	[ 'post', "client_id => 'posts', client_secret_name => 'plain secret', client_auth => 'post'" ]);
foreach my $one (@clients)
{
	my ($auth, $arguments) = @$one;
	$db->row("SELECT * FROM tokenbill.set_oauth_client('by $auth', 'client_credentials', token_url => '$device{token_url}', scope => 'billing.read', $arguments)");
	is(wait_token("by $auth", 1)->{status}, 'valid', "client credentials by $auth");
	is($db->value("SELECT client_auth FROM tokenbill.oauth_clients WHERE provider = 'by $auth'"), $auth, 'proved so');
	$db->row("SELECT * FROM tokenbill.add_provider('by $auth', 'resource', secret_name => 'oauth:by $auth', check_every => '1 hour')");
	$db->query("SELECT tokenbill.check_provider_now('by $auth')");
	wait_for("the balance by $auth", sub { return (balance("by $auth")->{balance} // '') eq '7'; });
	is(balance("by $auth")->{error}, undef, 'the provider is asked with it');
}
is($oidc->asked->{'/token client_credentials 200'}, 2, 'one request each');
$db->row("SELECT * FROM tokenbill.set_oauth_client('device by basic', 'device_code', token_url => \$1, device_url => \$2, client_id => 'odd: name', client_secret_name => 'odd secret', scope => 'openid')", @device{qw(token_url device_url)});
$login = $db->row("CALL tokenbill.oauth_device_login('device by basic')");
$oidc->allow($login->{verification_uri_complete});
clock_at(20 + 4220);
wait_token('device by basic', 1);
$db->query("SELECT tokenbill.oauth_refresh('device by basic')");
is(wait_token('device by basic', 2)->{error}, undef, 'the device flow of a client with a secret, and its refresh');

# ---- an assertion, verified by jose

foreach my $alg (qw(RS256 ES256))
{
	my ($key, $kid) = $alg eq 'RS256' ? ('rsa key', 'of-robot') : ('ec key', 'of-robot-ec');
	# the clock of the server is of today, and ours is not: its Date header tells
	$db->row("SELECT * FROM tokenbill.set_oauth_client('by $alg', 'jwt_bearer', token_url => '$device{token_url}', client_id => 'robot', alg => '$alg', signing_key_name => '$key', key_id => '$kid', scope => 'billing.read')");
}
wait_for('an assertion of another day to be refused', sub { return (token('by RS256')->{error} // '') =~ /invalid_grant/; });
like($db->value("SELECT message FROM tokenbill.worker_errors WHERE target = 'by RS256'"), qr{invalid_grant}, 'an assertion of another day is refused');
is($db->value("SELECT clock_offset FROM tokenbill.oauth_clients WHERE provider = 'by RS256'"), '00:00:00', 'a clock that is months away is not believed');
# now ours is two hours behind
my $behind = $db->value("SELECT date_trunc('second', clock_timestamp() - interval '2 hours')");
$db->query("ALTER SYSTEM SET tokenbill.clock = '$behind'");
$server->reload;
wait_for('the clock to be two hours behind', sub { return $db->value('SELECT tokenbill.clock() = $1::timestamptz', $behind) eq 't'; });
foreach my $alg (qw(RS256 ES256))
{
	$db->query("SELECT tokenbill.oauth_refresh('by $alg')");
	# refused, heard what time it is, and tried again
	wait_for("an offset of $alg", sub { return $db->value('SELECT clock_offset FROM tokenbill.oauth_clients WHERE provider = $1', "by $alg") =~ /^0[12]:/; });
	$db->query("SELECT tokenbill.oauth_refresh('by $alg')");
	is(wait_token("by $alg", 1)->{status}, 'valid', "$alg: with the server's time the assertion is good");
}
is($oidc->asked->{"/token $jwt_bearer 200"}, 2, 'two were exchanged');
$db->row("SELECT * FROM tokenbill.set_oauth_client('by private_key_jwt', 'client_credentials', token_url => '$device{token_url}', client_auth => 'private_key_jwt', client_id => 'signs', alg => 'ES256', signing_key_name => 'ec key', key_id => 'of-signs')");
wait_for('an offset of it, too', sub { return $db->value("SELECT clock_offset FROM tokenbill.oauth_clients WHERE provider = 'by private_key_jwt'") =~ /^0[12]:/; });
like(token('by private_key_jwt')->{error}, qr/^HTTP 401 invalid_client/, 'a client assertion that has expired is refused');
$db->query("SELECT tokenbill.oauth_refresh('by private_key_jwt')");
is(wait_token('by private_key_jwt', 1)->{status}, 'valid', 'a client that proves itself by a JWT of the right time');

# ---- what was secret, and where it is

my @secrets = ($oidc->issued, $odd, $plain, map { split /\n/ } grep { !/-----/ } split /(?<=-----)\n|\n(?=-----)/, "$rsa$ec");
@secrets = grep { length >= 20 } @secrets;
my %spelling;
foreach my $secret (@secrets)
{
	$spelling{$_} = substr($secret, 0, 4) . '...' foreach spellings($secret);
}
cmp_ok(scalar $oidc->issued, '>=', 20, 'the server has given out ' . scalar($oidc->issued) . ' tokens and codes');
my $pattern = do { my $any = join '|', map { quotemeta } keys %spelling; qr/($any)/; };

sub found
{
	my ($text) = @_;
	my %there;
	$there{ $spelling{$1} } = 1 while $text =~ /$pattern/g;
	return join ', ', sort keys %there;
}

my %place = ('pg_stat_activity and worker_status, meanwhile' => join("\n", keys %sampled), 'metrics_text()' => $db->value('SELECT tokenbill.metrics_text()'));
foreach my $view ($db->column("SELECT relname FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('r', 'v', 'p')"))
{
	$place{"tokenbill.$view"} = join "\n", $db->column("SELECT row_to_json(v)::text FROM tokenbill.$view v");
}
like($place{'tokenbill.device_grants'}, qr/authorized/, 'device_grants has been looked through');
($place{pg_dump}) = run_command([ 'pg_dump', '-d', $server->connstr('postgres') ]);
like($place{pg_dump}, qr/oauth_refresh:one/, 'pg_dump has the name of a refresh token');
wait_for('the worker to sleep', sub { return $server->worker->{state} eq 'asleep'; });
is($server->worker->{pid}, $pid, 'the worker is still the same');

# the worker's own memory, where the kernel lets us look
my $memory = '';
if (my $why = visit_memory($pid, sub { $memory .= $_[0]; }))
{
	note("the memory of the worker cannot be read: $why");
}
else
{
	is(found($memory), '', 'no token in the memory of the worker');
	cmp_ok(length $memory, '>', 1e6, 'which is ' . length($memory) . ' bytes');
}
$db->query('CHECKPOINT');
$server->stop;
$place{'the log'} = slurp_file($server->logfile);
like($place{'the log'}, qr/tokenbill\.record_call\(/, 'the log has the statements of the worker');
is(found($place{$_}), '', "$_: no token, in any spelling") foreach sort keys %place;
not_in_files($server->data_dir, 'no token in any file of the data directory', \&found);
is(found("x $secrets[0] y"), substr($secrets[0], 0, 4) . '...', 'and one would have been found');

done_testing();
