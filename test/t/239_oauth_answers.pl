# What a real authorization server never sends, and what goes wrong on the way: by
# the double. And JSON Web Tokens that are signed here, verified by jose; keys of one
# kind are never used for another.
use strict;
use warnings;
use File::Copy qw(copy);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use MIME::Base64 qw(decode_base64 decode_base64url);
use PostgreSQL::Test::Utils qw(run_command slurp_file append_to_file);
use Test::More;
use Tokenbill::Double;
use Tokenbill::Oidc;
use Tokenbill::Worker;

if (!$ENV{OIDC_PROVIDER})
{
	my $home = PostgreSQL::Test::Utils::tempdir();
	my ($out, $err) = run_command([ "$FindBin::RealBin/../install-packages", 'oidc-provider', $home ]);
	die "jose cannot be installed: $err\n" unless -d "$home/node_modules/jose";
	$ENV{OIDC_PROVIDER} = $home;
}

my $double = Tokenbill::Double->new;
my $server = Tokenbill::Worker->new('main');
$server->begin(
	conf => [
		$server->watching, "tokenbill.clock = '2026-03-05 12:00:00+00'", "tokenbill.retry_delays = '0s'", "tokenbill.request_timeout = '1s'",
		"tokenbill.ca_file = '@{[ $double->ca_file ]}'" ]);
my $db = $server->client;
$server->wait_worker;

sub clock_at
{
	my ($time) = @_;
	$db->query("ALTER SYSTEM SET tokenbill.clock = '$time'");
	$server->reload;
	$server->wait_until("it to be $time", sub { return $db->value('SELECT tokenbill.clock() = $1::timestamptz', $time) eq 't'; });
	return;
}

sub grant { my ($provider) = @_; return $db->row('SELECT * FROM tokenbill.device_grants WHERE provider = $1 ORDER BY id DESC LIMIT 1', $provider); }
sub token { my ($provider) = @_; return $db->row('SELECT *, extract(epoch FROM expires_at - tokenbill.clock())::int AS seconds FROM tokenbill.access_tokens WHERE provider = $1', $provider) || {}; }

# Sets the clock to when the login's next question is due, and waits for its answer
sub next_question
{
	my ($provider, $condition) = @_;
	my $before = grant($provider);
	clock_at($before->{next_at});
	$server->wait_until("an answer for $provider", sub { my $now = grant($provider); return $now->{state} ne 'pending' || $now->{next_at} ne $before->{next_at}; });
	my $now = grant($provider);
	my $next = defined $now->{next_at} ? $db->value('SELECT extract(epoch FROM $1::timestamptz - tokenbill.clock())::int', $now->{next_at}) : 'none';
	return join ' ', $now->{state}, $db->value('SELECT extract(epoch FROM $1::interval)::int', $now->{poll_every}), $next, $now->{error} // ();
}

sub wait_renewals
{
	my ($provider, $renewals) = @_;
	$server->wait_until("token $renewals of $provider", sub { return (token($provider)->{renewals} // 0) >= $renewals; });
	return token($provider);
}

sub form { my ($body) = @_; return map { my ($n, $v) = split /=/, $_, 2; $n => $v =~ s/%([0-9A-F]{2})/chr hex $1/ger } split /&/, $body; }

# ---- the device flow, as it may go

my $begun = { device_code => 'GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS', user_code => 'WDJB-MJHT', verification_uri => 'https://example.com/device', expires_in => 1800 };
$db->row('SELECT * FROM tokenbill.set_oauth_client($1, $2, $3, $4, device_url => $5)', 'flow', 'device_code', $double->url('flow/token', 'https'), 'our id', $double->url('flow/device', 'https'));

# at first the server is not there, then it sends a page
$double->script('flow/device', { raw_base64 => '' }, { status => 502, headers => { 'Content-Type' => 'text/html' }, body => '<html>Bad gateway</html>' },
	{ body => '{"device_code": "x", "device_code": "y"}' }, { body => '["device_code"]' }, { body => { %$begun, device_code => "a\nb" } }, { body => { %$begun, device_code => 7 } },
	{ body => { %$begun, id_token => 'not.wanted', extra => { device_code => 'z' } } });
$db->query("SELECT tokenbill.oauth_device_begin('flow')");
$server->wait_until('the first answer', sub { return defined(grant('flow')->{error}); });
like(grant('flow')->{error}, qr/closed without an answer|connection broke/, 'no answer: it is tried again');
is(next_question('flow'), 'pending 5 20 HTTP 502: the answer is not JSON', 'a page of HTML');
is(next_question('flow'), 'pending 5 40 the answer is not JSON', 'a member twice: nobody knows which is meant');
is(next_question('flow'), 'pending 5 80 the answer is not a JSON object', 'no object');
is(next_question('flow'), 'pending 5 160 the device_code of the answer cannot be used', 'a code with a line end');
is(next_question('flow'), 'pending 5 300 the device_code of the answer cannot be used', 'a code that is a number');
is(next_question('flow'), 'pending 5 5', 'then it comes; without an interval it is five seconds');
is(grant('flow')->{user_code}, 'WDJB-MJHT', 'the user code');
my ($request) = $double->seen('/flow/device');
is($request->{body}, 'client_id=our%20id', 'what was sent');
is($request->{headers}{accept}, 'application/json', 'and what is wanted back');

$double->script('flow/token', { status => 400, body => { error => 'authorization_pending' } }, { status => 400, body => { error => 'slow_down' } }, { hold => 'never' },
	{ status => 200, body => '<html>Sign in to the hotel</html>' }, { status => 400, body => { error => 'slow_down', interval => 30 } },
	{ status => 429, headers => { 'Retry-After' => '90' }, body => '' }, { body => { access_token => 'x' x 9000, token_type => 'Bearer' } },
	{ body => { access_token => 'the access token', refresh_token => 'the refresh token 1', token_type => 'bearer', expires_in => 3600 } });
is(next_question('flow'), 'pending 5 5', 'authorization_pending');
is(next_question('flow'), 'pending 10 10', 'slow_down: five seconds more');
like(next_question('flow'), qr/^pending 10 20 .*no answer after/, 'a time-out: twice as long');
is(next_question('flow'), 'pending 10 40 the answer is not JSON', 'a page with status 200');
is(next_question('flow'), 'pending 30 30', 'slow_down with an interval, and no back-off any more');
is(next_question('flow'), 'pending 30 90 HTTP 429: the answer is empty', 'a wait that is asked for');
is(next_question('flow'), 'pending 30 120 the access_token of the answer cannot be used', 'a token that is too long');
is(next_question('flow'), 'authorized 30 none', 'authorized');
my %form = form(($double->seen('/flow/token'))[0]{body});
is_deeply(\%form, { grant_type => 'urn:ietf:params:oauth:grant-type:device_code', client_id => 'our id', device_code => $begun->{device_code} }, 'what was sent, with the device code in it');

# ---- refresh: nothing new, something new, and each of them once

$double->script('flow/token', { body => { access_token => 'another', token_type => 'bearer', expires_in => 3600 } }, { body => { access_token => 'a third', refresh_token => 'the refresh token 2', token_type => 'bearer', expires_in => 3600 } },
	{ body => { access_token => 'a fourth', token_type => 'bearer', expires_in => 3600 } });
$double->forget;
foreach my $n (2 .. 4)
{
	$db->query("SELECT tokenbill.oauth_refresh('flow')");
	wait_renewals('flow', $n);
}
is(join(', ', map { my %f = form($_->{body}); $f{refresh_token} } $double->seen('/flow/token')), 'the refresh token 1, the refresh token 1, the refresh token 2', 'the old refresh token is kept until there is another');

# The answer comes while somebody has its row locked: the token is not lost
$double->script('flow/token', { hold => 'refreshed', body => { access_token => 'a fifth', refresh_token => 'the refresh token 3', token_type => 'bearer', expires_in => 3600 } },
	{ body => { access_token => 'a sixth', token_type => 'bearer', expires_in => 3600 } });
$double->forget;
$db->query("ALTER SYSTEM SET tokenbill.request_timeout = '60s'");
$server->reload;
$server->wait_until('more time', sub { return $db->value('SHOW tokenbill.request_timeout') eq '1min'; });
$db->query("SELECT tokenbill.oauth_refresh('flow')");
$server->wait_until('the question', sub { return scalar $double->seen('/flow/token'); });
my $other = $server->client;
$other->query('BEGIN');
$other->query("SELECT FROM tokenbill.access_token WHERE provider = 'flow' FOR UPDATE");
$double->release('refreshed');
$server->wait_until('an attempt that fails', sub { return $db->value("SELECT count(*) FROM tokenbill.worker_errors WHERE duty = 'record a token' AND sqlstate = '55P03'"); });
is(token('flow')->{renewals}, 4, 'it cannot be recorded');
$other->query('ROLLBACK');
is(wait_renewals('flow', 5)->{error}, undef, 'then it is');
$db->query("SELECT tokenbill.oauth_refresh('flow')");
wait_renewals('flow', 6);
my %last = form(($double->seen('/flow/token'))[-1]{body});
is($last{refresh_token}, 'the refresh token 3', 'with the refresh token that came meanwhile');

# A worker that ends with a question on its way: the next one asks again
$double->script('flow/token', { hold => 'gone', body => {} }, { body => { access_token => 'a seventh', token_type => 'bearer', expires_in => 3600 } });
$double->forget;
$db->query("SELECT tokenbill.oauth_refresh('flow')");
$server->wait_until('the question', sub { return scalar $double->seen('/flow/token'); });
is(token('flow')->{under_way}, 't', 'it is claimed');
my $pid = $server->worker->{pid};
kill 'TERM', $pid;
$server->wait_gone($pid);
$server->wait_until('its claim to be free', sub { return token('flow')->{under_way} eq 'f'; });
clock_at(token('flow')->{next_at});
wait_renewals('flow', 7);
is(scalar $double->seen('/flow/token'), 2, 'what it had claimed is free again, and asked for once');

# ---- PayPal's form

my ($id, $secret) = ('AeA1QIZXiflr1_-yzq', 'EL1tVxAjhT7cJimnz5-Nsx9k2reTKSVfErNQF-CmrwJgxRtylkGTKlU4RvrX');
$db->value('SELECT tokenbill.set_secret($1, $2)', 'paypal', $secret);
$double->script('v1/oauth2/token', { body => { scope => 'https://uri.paypal.com/services/x', nonce => '2017-06-08T18:30:28ZCl54Q', access_token => 'A21AAF', token_type => 'Bearer', app_id => 'APP-80W', expires_in => 32398 } },
	{ status => 401, body => { error => 'invalid_client', error_description => 'Client Authentication failed' } });
$db->row('SELECT * FROM tokenbill.set_oauth_client($1, $2, $3, $4, client_secret_name => $5)', 'paypal', 'client_credentials', $double->url('v1/oauth2/token'), $id, 'paypal');
is(wait_renewals('paypal', 1)->{seconds}, 32398, 'a token for nine hours');
($request) = $double->seen('/v1/oauth2/token');
is($request->{body}, 'grant_type=client_credentials', 'the form');
is(decode_base64($request->{headers}{authorization} =~ s/^Basic //r), "$id:$secret", 'and HTTP Basic');
is($request->{headers}{'content-type'}, 'application/x-www-form-urlencoded', 'as what it is');
$db->query("SELECT tokenbill.oauth_refresh('paypal')");
$server->wait_until('it to be refused', sub { return defined token('paypal')->{error}; });
is(token('paypal')->{error}, 'HTTP 401 invalid_client: Client Authentication failed', 'refused');
is(token('paypal')->{status}, 'valid', 'the token of before stays');

# ---- a key that is not there: nothing is asked, for what came could not be kept

$double->forget;
$db->query("ALTER SYSTEM SET tokenbill.key_file = '/nonexistent'");
$server->reload;
$server->wait_until('no key', sub { return $db->value('SHOW tokenbill.key_file') eq '/nonexistent'; });
$db->query("SELECT tokenbill.oauth_device_begin('flow')");
$server->wait_until('the error', sub { return defined(grant('flow')->{error}); });
like(grant('flow')->{error}, qr/^could not open the key file/, 'without the master key nobody is asked');
is(scalar $double->seen, 0, 'for what is given could not be kept');
$db->query('ALTER SYSTEM RESET tokenbill.key_file');
$server->reload;

# ---- JSON Web Tokens

my $keys = PostgreSQL::Test::Utils::tempdir();
my (%private, %public);

sub make_key
{
	my ($name, @options) = @_;
	run_command([ 'openssl', 'genpkey', @options, '-out', "$keys/$name" ]);
	run_command([ 'openssl', 'pkey', '-in', "$keys/$name", '-pubout', '-out', "$keys/$name.pub" ]);
	($private{$name}, $public{$name}) = map { slurp_file($_) } "$keys/$name", "$keys/$name.pub";
	$db->value('SELECT tokenbill.set_secret($1, $2)', $name, $private{$name});
	return;
}

make_key('rsa', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048');
make_key('rsa short', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:1024');
make_key('ec', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256');
make_key('ec 384', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384');
make_key('ec k1', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:secp256k1');
make_key('ed25519', '-algorithm', 'ED25519');
make_key('pss', '-algorithm', 'RSA-PSS', '-pkeyopt', 'rsa_keygen_bits:2048');
run_command([ 'openssl', 'pkey', '-in', "$keys/rsa", '-aes256', '-passout', 'pass:x', '-out', "$keys/locked" ]);
$db->value('SELECT tokenbill.set_secret($1, $2)', 'rsa encrypted', slurp_file("$keys/locked"));
$db->value('SELECT tokenbill.set_secret($1, $2)', 'rsa public', $public{rsa});
my $shared = 'q8Zt1k9Lw3Xb7Nf2Vh5Jc0Rm4Ys6Dg-a';
$db->value('SELECT tokenbill.set_secret($1, $2)', 'shared', $shared);

# A resource that keeps what it is asked with
$double->script('resource/b', { body => { b => 7 } });
$db->query('SELECT tokenbill.add_preset($1, $2)', 'resource', $double->url('resource'));
$db->query("SELECT tokenbill.add_preset_request('resource', '/b', '\$.b')");

my $noon = $db->value("SELECT extract(epoch FROM date_trunc('second', tokenbill.clock()))::bigint");

sub signed_by
{
	my ($name, $alg, $key, $more) = @_;
	$db->row("SELECT * FROM tokenbill.set_oauth_client(\$1, 'signed', alg => \$2, signing_key_name => \$3" . ($more // '') . ')', $name, $alg, $key);
	$server->wait_until("$name to be signed or not", sub { my $t = token($name); return ($t->{renewals} // 0) > 0 || defined $t->{error}; });
	return token($name);
}

sub sent_with
{
	my ($name) = @_;
	$double->forget;
	$db->query("SELECT tokenbill.add_provider(\$1, 'resource', secret_name => \$2, check_every => '1 hour')", $name, "oauth:$name") unless $db->value('SELECT count(*) FROM tokenbill.provider_balances WHERE provider = $1', $name);
	$db->query('SELECT tokenbill.check_provider_now($1)', $name);
	$server->wait_until("$name to be asked", sub { return scalar $double->seen('/resource/b'); });
	return ($double->seen('/resource/b'))[0]{headers}{authorization} =~ s/^Bearer //r;
}

my @tokens;
foreach my $case ([ 'HS256', 'shared', $shared ], [ 'RS256', 'rsa', $public{rsa} ], [ 'ES256', 'ec', $public{ec} ])
{
	my ($alg, $key, $verifier) = @$case;
	my $made = signed_by("by $alg", $alg, $key, ", key_id => 'the key', client_id => 'us', claims => '{\"aud\": \"them\", \"n\": {\"deep\": [1, \"\x{fc}\"]}}'");
	is($made->{error}, undef, "$alg: signed");
	is($made->{seconds}, 3540, 'for an hour less the leeway');
	is($made->{http_status}, undef, 'nobody was asked');
	push @tokens, { token => sent_with("by $alg"), alg => $alg, key => $verifier };
	is(sent_with("by $alg"), $tokens[-1]{token}, "$alg: kept, not signed anew each time");
}
my @read = Tokenbill::Oidc::verify(@tokens);
foreach my $n (0 .. 2)
{
	my ($alg, $read) = ($tokens[$n]{alg}, $read[$n]);
	is_deeply($read->{header}, { alg => $alg, typ => 'JWT', kid => 'the key' }, "$alg: jose has verified it, header") or diag(explain($read));
	my $jti = delete $read->{payload}{jti};
	is_deeply($read->{payload}, { iss => 'us', sub => 'us', aud => 'them', iat => $noon - 60, exp => $noon + 3540, n => { deep => [ 1, "\x{fc}" ] } }, "$alg: claims");
	like($jti, qr/^[0-9a-f-]{36}$/, "$alg: jti");
}
# none verifies with another's key, or as another algorithm
my @crossed = Tokenbill::Oidc::verify(
	{ %{ $tokens[0] }, key => "${shared}x" }, { %{ $tokens[1] }, key => $public{'rsa short'} },
	{ %{ $tokens[1] }, alg => 'HS256' }, { %{ $tokens[2] }, alg => 'RS256', key => $public{rsa} });
is(scalar(grep { defined $_->{error} } @crossed), 4, 'and with another key, or as another algorithm, it verifies none');

# renewed a minute before their end
my $before = $tokens[1]{token};
clock_at($db->value("SELECT to_timestamp($noon + 3540 - 61)"));
$server->wait_until('the worker to have looked', sub { return $server->worker->{state} eq 'asleep'; });
is(token('by RS256')->{renewals}, 1, 'a second earlier it is kept');
clock_at($db->value("SELECT to_timestamp($noon + 3540 - 60)"));
wait_renewals('by RS256', 2);
my $after = sent_with('by RS256');
isnt($after, $before, 'then there is another');
my ($renewed) = Tokenbill::Oidc::verify({ token => $after, alg => 'RS256', key => $public{rsa} });
is($renewed->{payload}{exp}, $noon + 3480 + 3540, 'for another hour');

# a key is used for what it is and for nothing else
my @refused = (
	[ 'HS256', 'rsa', qr/PEM, which HS256 must not be used with/ ], [ 'HS256', 'rsa public', qr/PEM, which HS256/ ], [ 'HS256', 'ec', qr/PEM, which HS256/ ],
	[ 'RS256', 'ec', qr/not an RSA key/ ], [ 'RS256', 'shared', qr/no unencrypted private key in PEM/ ], [ 'RS256', 'rsa public', qr/no unencrypted private key/ ],
	[ 'RS256', 'rsa encrypted', qr/no unencrypted private key/ ], [ 'RS256', 'rsa short', qr/fewer than 2048 bits/ ], [ 'RS256', 'pss', qr/not an RSA key/ ], [ 'RS256', 'ed25519', qr/not an RSA key/ ],
	[ 'ES256', 'rsa', qr/not an EC key/ ], [ 'ES256', 'shared', qr/no unencrypted private key/ ], [ 'ES256', 'ec 384', qr/not one of the curve P-256/ ],
	[ 'ES256', 'ec k1', qr/not one of the curve P-256/ ], [ 'ES256', 'ed25519', qr/not an EC key/ ]);
foreach my $case (@refused)
{
	my ($alg, $key, $why) = @$case;
	my $made = signed_by("no $alg $key", $alg, $key);
	is($made->{renewals}, 0, "$alg with $key: nothing is signed");
	like($made->{error}, $why, 'and why');
}
is($db->value("SELECT count(*) FROM tokenbill.worker_errors WHERE target LIKE 'no %' AND duty = 'access token'"), scalar @refused, 'each is a row of worker_errors');
# also if somebody has put it into the row by hand
$db->query("ALTER TABLE tokenbill.oauth_client DROP CONSTRAINT oauth_client_alg_check");
$db->query("UPDATE tokenbill.oauth_client SET alg = '$_' WHERE provider = 'by HS256'"), $db->query("SELECT tokenbill.oauth_refresh('by HS256')"),
  $server->wait_until("$_ to be refused", sub { return (token('by HS256')->{error} // '') =~ /none of HS256/; }),
  $db->query("UPDATE tokenbill.access_token SET error = NULL WHERE provider = 'by HS256'")
  foreach qw(none None HS384 hs256);
pass('none, and whatever else is no algorithm of ours, signs nothing');

# Zhipu: its own header, milliseconds
is(signed_by('zhipu', 'HS256', 'shared', ", header => '{\"sign_type\": \"SIGN\"}', leeway => '0', claims => '{\"api_key\": \"an id\", \"exp\": \"{exp_ms}\", \"timestamp\": \"{iat_ms}\", \"iat\": null, \"jti\": null}'")->{error}, undef, 'as Zhipu wants it');
my ($zhipu) = Tokenbill::Oidc::verify({ token => sent_with('zhipu'), alg => 'HS256', key => $shared });
my $now = $noon + 3480;
is_deeply($zhipu, { header => { alg => 'HS256', typ => 'JWT', sign_type => 'SIGN' }, payload => { api_key => 'an id', timestamp => $now * 1000, exp => ($now + 3600) * 1000 } }, 'its header, its milliseconds, and nothing else');

# Whose clock is behind, or ahead, by more than the leeway says so in its Date header
$double->script('resource/b', { status => 401, headers => { Date => $db->value("SELECT to_char(to_timestamp($now + 600) AT TIME ZONE 'UTC', 'Dy, DD Mon YYYY HH24:MI:SS \"GMT\"')") }, body => { error => { message => 'not yet valid' } } }, { body => { b => 7 } });
$double->forget;
$db->query("SELECT tokenbill.check_provider_now('by ES256')");
wait_renewals('by ES256', 3);
my ($ahead) = Tokenbill::Oidc::verify({ token => sent_with('by ES256'), alg => 'ES256', key => $public{ec} });
is($ahead->{payload}{iat}, $now + 600 - 60, 'a server whose clock is ten minutes ahead: the token is signed anew by its time');

# What a library that is not there does
my $maps = slurp_file('/proc/' . $server->worker->{pid} . '/maps');
like($maps, qr{tokenbill_token\.so}, 'the worker has tokenbill_token when it has needed it');
unlike(slurp_file('/proc/' . $db->pid . '/maps'), qr{tokenbill_token|libjwt}, 'a session has not');
chomp(my $installed = `"$ENV{PG_CONFIG}" --pkglibdir`);
my $elsewhere = PostgreSQL::Test::Utils::tempdir();
copy("$installed/tokenbill_http.so", $elsewhere) or die "copy: $!";
$db->query("ALTER DATABASE postgres SET dynamic_library_path = '$elsewhere:\$libdir'");
$pid = $server->worker->{pid};
kill 'TERM', $pid;
$server->wait_gone($pid);
$server->wait_worker;
$double->forget;
$db->query("SELECT tokenbill.oauth_refresh('paypal')");
$server->wait_until('the library to be missed', sub { return (token('paypal')->{error} // '') =~ /tokenbill_token/; });
like(token('paypal')->{error}, qr/^the library tokenbill_token cannot be loaded: /, 'without it no token is asked for, and the row says why');
is(scalar $double->seen('/v1/oauth2/token'), 0, 'the server is not asked');
copy("$installed/tokenbill_token.so", $elsewhere) or die "copy: $!";
$double->script('v1/oauth2/token', { body => { access_token => 'A21AAG', token_type => 'Bearer', expires_in => 32398 } });
$db->query("SELECT tokenbill.oauth_refresh('paypal')");
wait_renewals('paypal', 2);
is(token('paypal')->{error}, undef, 'it is found when it is there');

done_testing();
