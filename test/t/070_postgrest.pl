# A real PostgREST in front: each kind of refusal becomes its HTTP status, with
# code, message, details and hint in the body, and a tenant is a tenant.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use Digest::SHA qw(hmac_sha256);
use HTTP::Tiny;
use JSON::PP;
use MIME::Base64 qw(encode_base64url);
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server qw(equal_decimals);

if (!$ENV{POSTGREST})
{
	plan skip_all => 'POSTGREST is not set (test/install-packages check brings it)' unless $ENV{CI};
	die "POSTGREST is not set (test/install-packages check brings it)\n";
}

my $server = Tokenbill::Server->new('main');
$server->begin;
my $secret = 'a secret of at least thirty-two characters';
my $direct = $server->client;
$direct->rows($_) foreach (
	'CREATE ROLE web_login LOGIN NOINHERIT',
	'CREATE ROLE web_anon',
	'CREATE ROLE web_app IN ROLE tokenbill_app, tokenbill_billing',
	'CREATE ROLE web_ann IN ROLE tokenbill_app',
	'GRANT web_anon, web_app, web_ann TO web_login',
	"SELECT tokenbill.create_account('ann')",
	"SELECT tokenbill.create_account('bob')",
	"SELECT tokenbill.create_account('cold')",
	"SELECT tokenbill.recharge('ann', 10, 'order-1')",
	"SELECT tokenbill.set_account_status('cold', 'frozen')",
	"SELECT tokenbill.set_price('gpt', 'tokens', 0.001)",
	"SELECT tokenbill.map_tenant('web_ann', 'ann')",
	"SELECT tokenbill.create_account('lim', credit_limit => 100)",
	"SELECT tokenbill.set_spend_limit('lim', 5, '365 days')",
	q{SELECT tokenbill.set_rate_limit('lim', 'requests', 1, '365 days', tag => '{"team": "red"}')});

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $dir = $server->basedir . '/postgrest';
mkdir $dir or die "mkdir $dir: $!";
append_to_file("$dir/postgrest.conf", <<"CONF");
db-uri = "postgresql:///postgres?host=@{[ $server->host ]}&port=@{[ $server->port ]}&user=web_login"
db-schemas = "tokenbill"
db-anon-role = "web_anon"
db-pool = 4
jwt-secret = "$secret"
server-host = "127.0.0.1"
server-port = $port
CONF

my $postgrest = fork();
die "fork: $!" unless defined $postgrest;
if (!$postgrest)
{
	open STDIN, '<', '/dev/null';
	open STDOUT, '>>', "$dir/output";
	open STDERR, '>&', \*STDOUT;
	exec $ENV{POSTGREST}, "$dir/postgrest.conf" or POSIX::_exit(127);
}
END
{
	local $?;
	if ($postgrest)
	{
		kill 'TERM', $postgrest;
		waitpid $postgrest, 0;
	}
}

my $http = HTTP::Tiny->new(timeout => $Tokenbill::Client::timeout, keep_alive => 0);
my $base = "http://127.0.0.1:$port";

sub token
{
	my ($role) = @_;
	my $signed = join('.', map { encode_base64url(encode_json($_)) } { alg => 'HS256', typ => 'JWT' }, { role => $role });
	return $signed . '.' . encode_base64url(hmac_sha256($signed, $secret));
}

sub request
{
	my ($method, $path, %opt) = @_;
	my %headers = ('Content-Type' => 'application/json');
	$headers{Authorization} = 'Bearer ' . token($opt{role} || 'web_app') unless $opt{anonymous};
	my $answer = $http->request($method, "$base$path", { headers => \%headers, ($opt{body} ? (content => encode_json($opt{body})) : ()) });
	return ($answer->{status}, eval { decode_json($answer->{content}) } || $answer->{content});
}

sub call
{
	my ($function, $body, %opt) = @_;
	return request('POST', "/rpc/$function", body => $body, %opt);
}

# 503 while it reads the schema
$server->wait_until(
	'PostgREST to answer',
	sub {
		die 'PostgREST ended: ' . slurp_file("$dir/output") if waitpid($postgrest, POSIX::WNOHANG()) > 0;
		my ($status) = request('GET', '/prices');
		return $status == 200;
	});

# ---- 200
my %charge = (account => 'ann', service => 'gpt', usage => { tokens => 1000 }, idempotency_key => 'k1');
my ($status, $body) = call('charge', \%charge);
is($status, 200, 'a charge is 200');
is($body->{account}, 'ann', 'the receipt names the account');
ok(equal_decimals($body->{amount}, '-1'), 'and what was charged');
is($body->{replayed}, JSON::PP::false, 'it is not replayed');
my ($again, $same) = call('charge', \%charge);
is($again, 200, 'the same again is 200');
is($same->{replayed}, JSON::PP::true, 'and replayed');
is($same->{seq}, $body->{seq}, 'with the same line');
($status, $body) = call('charge_amount', { account => 'ann', amount => '0.000000000000000001', idempotency_key => 'tiny' });
is($status, 200, 'an amount may be sent as a string');
is($direct->value("SELECT amount FROM tokenbill.statement WHERE idempotency_key = 'tiny'"), '-0.000000000000000001', 'and is exact');
($status, $body) = request('GET', '/balances?account=eq.ann&select=account,available');
is($status, 200, 'views can be read');
is($body->[0]{account}, 'ann', 'and filtered');
($status, $body) = call('charge_batch', { requests => [ { %charge, idempotency_key => 'b1' }, { %charge, account => 'bob', idempotency_key => 'b2' } ] });
is($status, 200, 'a batch is 200');
is_deeply([ map { $_->{sqlstate} } @$body ], [ undef, 'PT402' ], 'with an SQLSTATE for the item that was refused');

# ---- the refusals
sub refused
{
	my ($what, $expected, $details, $function, $arguments, %opt) = @_;
	my ($got, $said) = call($function, $arguments, %opt);
	is($got, $expected, "$what is $expected") or diag(explain($said));
	is($said->{code}, "PT$expected", "$what: code");
	like($said->{message}, qr/^[a-z].*[^.]$/, "$what: message");
	like($said->{hint}, qr/\w/, "$what: hint");
	my $detail = eval { decode_json($said->{details}) };
	ok($detail, "$what: details are JSON") or diag(explain($said));
	is_deeply([ grep { !exists $detail->{$_} } @$details ], [], "$what: details have " . join(', ', @$details));
	return $detail;
}
my $detail = refused('too little money', 402, [qw(account required available shortfall)], 'charge', { %charge, usage => { tokens => 1_000_000 }, idempotency_key => 'k2' });
ok(equal_decimals($detail->{required} - $detail->{available}, $detail->{shortfall}), 'required - available = shortfall');
refused('a frozen account', 403, [qw(account)], 'charge', { %charge, account => 'cold' });
refused('an unknown account', 404, [qw(account)], 'charge', { %charge, account => 'nobody' });
refused('an unknown service', 404, [qw(service)], 'charge', { %charge, service => 'none', idempotency_key => 'k3' });
$detail = refused('a key used for something else', 409, [qw(account idempotency_key argument was now)], 'charge', { %charge, usage => { tokens => 999 } });
is($detail->{argument}, 'usage', 'details name the argument');
refused('an order number that is taken', 409, [qw(account)], 'recharge', { account => 'bob', amount => 10, order_no => 'order-1' });
$direct->query('BEGIN');
$direct->query("SELECT tokenbill.charge_amount('ann', 1, 'busy')");
refused('a key in progress', 423, [qw(account idempotency_key)], 'charge_amount', { account => 'ann', amount => 1, idempotency_key => 'busy', wait => JSON::PP::false });
$direct->query('ROLLBACK');
($status) = call('charge_amount', { account => 'ann', amount => 1, idempotency_key => 'busy', wait => JSON::PP::false });
is($status, 200, 'when the other has rolled back it is 200');

# ---- 429
($status) = call('charge_amount', { account => 'lim', amount => 4, idempotency_key => 'l1', metadata => { team => 'red' } });
is($status, 200, 'below a limit it is 200');
$detail = refused('a spend limit', 429, [qw(account name scope limit spent held required resets_at)], 'charge_amount', { account => 'lim', amount => 2, idempotency_key => 'l2' });
is_deeply([ @{$detail}{qw(scope what)} ], [qw(account spend)], 'details say which');
ok(equal_decimals($detail->{limit} - $detail->{spent}, 1), 'and what is left of it');
like($detail->{resets_at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/, 'and when there will be room');
$detail = refused('a rate limit', 429, [qw(account name scope tag limit spent resets_at)],
	'charge', { account => 'lim', service => 'gpt', usage => { tokens => 1 }, idempotency_key => 'l3', metadata => { team => 'red' } });
is($detail->{scope}, 'tag', 'details name the scope');
refused('a hold over a limit', 429, [qw(limit spent)], 'hold', { account => 'lim', amount => 2, idempotency_key => 'l4' });
($status, $body) = call('charge_batch', { requests => [ { account => 'lim', amount => 2, idempotency_key => 'l5' }, { account => 'lim', amount => 1, idempotency_key => 'l6' } ] });
is($status, 200, 'a batch with a refusal is 200');
is_deeply([ map { $_->{sqlstate} } @$body ], [ 'PT429', undef ], 'and has PT429 for the item');
($status, $body) = request('GET', '/spend_limits?select=name,remaining&account=eq.lim');
ok(equal_decimals($body->[0]{remaining}, 0), 'the view shows what is left');
($status, $body) = request('GET', '/spend_limits', role => 'web_ann');
is_deeply($body, [], 'a tenant sees no limit of another account');

# ---- malformed
($status, $body) = call('charge', { %charge, usage => [1], idempotency_key => 'k4' });
is($status, 400, 'usage that is no object is 400');
is($body->{code}, '22023', 'with the ordinary SQLSTATE');
($status, $body) = call('charge_amount', { account => 'ann', amount => -1, idempotency_key => 'k5' });
is($status, 400, 'a negative amount is 400');

# ---- who may
($status, $body) = call('charge', \%charge, anonymous => 1);
is($status, 401, 'nobody in particular is 401');
is($body->{code}, '42501', 'for want of a privilege');
($status, $body) = call('recharge', { account => 'ann', amount => 1, order_no => 'x' }, role => 'web_ann');
is($status, 403, 'a role without the privilege is 403');
($status, $body) = request('GET', '/ledger');
is($status == 403 || $status == 404, 1, 'a table cannot be read');

# ---- a tenant, by the role in its token
($status, $body) = request('GET', '/balances?select=account', role => 'web_ann');
is_deeply($body, [ { account => 'ann' } ], 'a tenant sees its account');
refused('a tenant charging another account', 404, [qw(account)], 'charge', { %charge, account => 'bob' }, role => 'web_ann');
($status) = call('charge', { %charge, idempotency_key => 'tenant' }, role => 'web_ann');
is($status, 200, 'and its own is 200');
($status, $body) = request('GET', '/balances?select=account&order=account');
is_deeply([ map { $_->{account} } @$body ], [qw(ann bob cold lim)], 'the next request, of another role, sees all');

$server->sound('after PostgREST');
kill 'TERM', $postgrest;
waitpid $postgrest, 0;
$postgrest = undef;
$server->stop;
done_testing();
