# What the worker asks of OpenRouter and of OpenAI, against the OpenAPI files that
# these publish: Prism answers each request as its specification says, and refuses
# one that the specification does not allow.
#
# Its answers are the specification's examples. So what is tested is that our
# requests are allowed, and that the documented answers, good and bad, are read.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use HTTP::Tiny;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils qw(slurp_file append_to_file);
use Test::More;
use Tokenbill::Server;

my ($prism, $specs) = @ENV{qw(PRISM TB_SPECS)};
die "PRISM and TB_SPECS are set by test/check contracts\n" unless $prism && -x $prism && $specs;

my $server = Tokenbill::Server->new('main');
$server->begin(conf => [ $server->watching ]);
my $client = $server->client;

my @prisms;
END { kill 'TERM', @prisms if @prisms }

# Serves a specification below /v1, where its vendor has it: Prism leaves out the
# path of the specification's server.
sub serve
{
	my ($file) = @_;
	my $spec = slurp_file("$specs/$file");
	# the keys of "paths", which are the only ones that begin with a slash
	my $changed = $file =~ /\.json$/ ? $spec =~ s#"/(?=[^"]*":)#"/v1/#g : $spec =~ s#^  (['"]?)/#  $1/v1/#mg;
	die "$file has no paths" unless $changed;
	my $own = $server->basedir . "/$file";
	append_to_file($own, $spec);

	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $log = $server->basedir . "/$file.log";
	my $pid = fork() // die "fork: $!";
	if (!$pid)
	{
		open STDOUT, '>', $log or die $!;
		open STDERR, '>&', \*STDOUT or die $!;
		exec $prism, 'mock', '-h', '127.0.0.1', '-p', $port, '--errors', $own or die $!;
	}
	push @prisms, $pid;
	$server->wait_until("Prism serves $file", sub { -e $log && slurp_file($log) =~ /Prism is listening/ });
	return "http://127.0.0.1:$port";
}

# What is known of a provider's balance once it has been checked
sub outcome
{
	my ($name, $preset, $url, $opening) = @_;
	$client->rows(
		'SELECT FROM tokenbill.add_provider($1, $2, base_url => $3, secret => $4, opening_balance => $5::numeric, opening_at => $6::timestamptz)',
		$name, $preset, $url, 'sk-of-a-test', $opening, defined $opening ? '2026-01-01 00:00+00' : undef);
	my @rows;
	$server->wait_until(
		"$name is checked",
		sub {
			@rows = $client->rows(
				'SELECT balance, error FROM tokenbill.provider_balances WHERE provider = $1 AND (balance IS NOT NULL OR error IS NOT NULL)',
				$name);
			return @rows > 0;
		});
	return $rows[0];
}

my $openrouter = serve('openrouter.openapi.yaml');
my $openai = serve('openai-billing.json');

# what Prism says when it is asked rightly, by somebody else
sub example
{
	my ($url) = @_;
	my $answer = HTTP::Tiny->new->get($url, { headers => { Authorization => 'Bearer x' } });
	die "$answer->{status} $answer->{content}" unless $answer->{success};
	return JSON::PP->new->utf8->allow_bignum->decode($answer->{content});
}

my $credits = example("$openrouter/v1/credits")->{data};
my $row = outcome('credits', 'openrouter', $openrouter);
is($row->{error}, undef, 'openrouter: no error');
cmp_ok($row->{balance}, '==', $credits->{total_credits} - $credits->{total_usage}, 'openrouter: what is left of the credits');

my $limit = example("$openrouter/v1/key")->{data};
$row = outcome('key', 'openrouter_key', $openrouter);
is($row->{error}, undef, 'openrouter_key: no error');
cmp_ok($row->{balance}, '==', $limit->{limit_remaining}, 'openrouter_key: what is left of the limit');

# of all results in all pages, as far as Prism's one page goes
my $page = example("$openai/v1/organization/costs?start_time=1767225600&limit=1");
my $cost = 0;
$cost += $_->{amount}{value} foreach map { @{ $_->{results} } } @{ $page->{data} };
$row = outcome('costs', 'openai_costs', $openai, 100);
is($row->{error}, undef, 'openai_costs: no error');
cmp_ok($row->{balance}, '==', 100 - $cost, 'openai_costs: the opening balance less the cost');

# documented errors, asked for by a header of a preset of our own
foreach my $case ([ 'openrouter', $openrouter, '/v1/credits', 401 ], [ 'openrouter', $openrouter, '/v1/credits', 403 ],
	[ 'openrouter', $openrouter, '/v1/credits', 500 ])
{
	my ($of, $url, $path, $status) = @$case;
	my $name = "${of}_$status";
	$client->rows('SELECT FROM tokenbill.add_preset($1, $2)', $name, 'https://example.com');
	$client->rows('SELECT FROM tokenbill.add_preset_request($1, $2, $3, headers => $4)', $name, $path, '$.data.total_credits',
		"{\"Authorization\": \"Bearer {secret}\", \"Prefer\": \"code=$status\"}");
	$row = outcome($name, $name, $url);
	is($row->{balance}, undef, "$name: no balance");
	like($row->{error}, qr/$status/, "$name: the reason");
}

done_testing();
