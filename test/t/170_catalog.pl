# A catalog of the hundred chat models most calls go to: imported, and a call of
# each priced for the usage object of every provider, against what
# test/price-catalog works out in Python's decimals; equal to the last digit.
#
# TB_CATALOG is another catalog, such as the file that LiteLLM publishes: then
# every chat model in it is compared.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use IPC::Run;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;
use Time::HiRes qw(time);
use Tokenbill::Server qw(decimal equal_decimals);

my $top = "$FindBin::RealBin/..";
my $published = $ENV{TB_CATALOG} || "$top/data/catalog.json";
my $catalog = slurp_file($published);
my $usages = decode_json(slurp_file("$top/data/usages.json"));
my $models = decode_json($catalog);
my @chat = sort grep { ref $models->{$_} eq 'HASH' && ($models->{$_}{mode} // '') eq 'chat' } keys %$models;
is(scalar(@chat), 100, 'a hundred models') unless $ENV{TB_CATALOG};

# ---- worked out apart from the extension
my ($stdout, $stderr);
IPC::Run::run([ "$top/price-catalog", $published, "$top/data/usages.json", '0.15' ], '>', \$stdout, '2>', \$stderr)
  or die "price-catalog: $stderr";
my (%expected, %unpriced);
foreach my $line (split /\n/, $stdout)
{
	my ($model, $usage, $cost, $price) = split /\t/, $line;
	$expected{$usage}{$model} = [ $cost, $price ];
	$unpriced{$usage}++ if $cost eq '-';
}
is(scalar(map { keys %$_ } values %expected), @chat * @$usages, 'each model and usage is worked out');

# ---- imported
my $server = Tokenbill::Server->new('main');
$server->begin;
my $client = $server->client(name => 'one', clock => '2026-08-01 12:00:00+00');
my $started = time;
my @first = $client->rows('SELECT * FROM tokenbill.import_prices($1, markup => 0.15)', $catalog);
note(sprintf('%d models imported in %.2f s', scalar(@first), time - $started));
is(scalar(@first), scalar(keys %$models), 'every model has its row');
is_deeply([ grep { $_->{action} ne 'unchanged' && $_->{action} ne 'skipped' && $_->{action} ne 'reported' }
		$client->rows('SELECT * FROM tokenbill.import_prices($1, markup => 0.15)', $catalog) ],
	[], 'importing it again does nothing');
my %action = map { $_->{model} => $_->{action} } @first;
unless ($ENV{TB_CATALOG})
{
	is_deeply([ grep { $action{$_} ne 'new' } @chat ], [], 'all are imported');
	is_deeply([ grep { $_->{detail} ne '{}' && $_->{detail} !~ /assumed|left_out/ && $_->{model} ne 'sample_spec' } @first ],
		[], 'and nothing is to be said of them');
}

# ---- priced
$client->query('CREATE TABLE model (name text PRIMARY KEY)');
$client->query('INSERT INTO model SELECT jsonb_array_elements_text($1)', encode_json(\@chat));
$client->query(<<'SQL');
CREATE FUNCTION priced(service text, usage jsonb, OUT amount text, OUT cost text) LANGUAGE plpgsql AS $$
BEGIN
	SELECT trim_scale(sum(q.amount))::text, trim_scale(sum(q.cost))::text INTO amount, cost
	FROM tokenbill.quote('ann', service, usage) q;
EXCEPTION WHEN SQLSTATE 'PT404' THEN
	amount := '-';
	cost := '-';
END $$
SQL
$client->rows("SELECT tokenbill.create_account('ann', credit_limit => 1000000)");

my %seen;
foreach my $usage (@$usages)
{
	my $name = $usage->{name};
	my $object = encode_json($usage->{usage});
	is_deeply(decode_json($client->value('SELECT tokenbill.normalize_usage($1, $2)', $object, $usage->{format})),
		$usage->{meters}, "$name: its meters");
	$client->rows('SELECT tokenbill.set_service(name, usage_format => $1) FROM model', $usage->{format});
	my %got = map { $_->{name} => $_ } $client->rows('SELECT m.name, p.* FROM model m, priced(m.name, $1) p', $object);
	my @wrong;
	foreach my $model (@chat)
	{
		my ($cost, $price) = @{ $expected{$name}{$model} };
		push @wrong, "$model: $got{$model}{cost}, charged $got{$model}{amount}; worked out: $cost, $price"
		  unless $got{$model}{cost} eq $cost && $got{$model}{amount} eq $price;
	}
	my $priced = @chat - ($unpriced{$name} // 0);
	is_deeply(\@wrong, [], "$name ($usage->{format}): $priced models cost what they do, to the last digit"
		. ($priced == @chat ? '' : ', others have no price of it'));
	$seen{ $usage->{format} } += $priced;
}
cmp_ok(scalar(keys %seen), '>=', 13, 'every format has been tried');
# by seconds no chat model is charged, so that one is refused
is_deeply([ grep { !$ENV{TB_CATALOG} && $unpriced{$_} } sort keys %unpriced ],
	$ENV{TB_CATALOG} ? [] : [ 'messages that searched', 'transcription by its length' ], 'what has no price is refused, and nothing else');

# ---- charged
my ($chat) = grep { $_->{name} eq 'chat' } @$usages;
$client->rows('SELECT tokenbill.set_service(name, usage_format => $1) FROM model', 'auto');
my @priced = grep { $expected{chat}{$_}[0] ne '-' } @chat;
$client->rows('SELECT tokenbill.charge($1, name, $2, name) FROM model WHERE name IN (SELECT jsonb_array_elements_text($3))',
	'ann', encode_json($chat->{usage}), encode_json(\@priced));
foreach my $side (0, 1)
{
	my $sum = decimal(0);
	$sum->badd($expected{chat}{$_}[$side]) foreach @priced;
	ok( equal_decimals(
			$client->value("SELECT " . ('sum(cost)', '-sum(amount)')[$side] . " FROM tokenbill.ledger WHERE account = 'ann'"),
			$sum->bstr),
		('the ledger has what they cost us', 'and what was charged')[$side]);
}
$server->sound('afterwards');

# ---- a later catalog
$client->query("SET tokenbill.clock = '2026-09-01 12:00:00+00'");
my $one = $chat[0];
my $spent = $client->value("SELECT sum(amount) FROM tokenbill.ledger WHERE account = 'ann'");
my @second = grep { $_->{prices} > 0 } $client->rows(
	q{SELECT i.* FROM tokenbill.import_prices(jsonb_set($1::jsonb, ARRAY[$2, 'output_cost_per_token'], '0.0000777'), markup => 0.15) i}, $catalog, $one);
is_deeply([ map { "$_->{model} $_->{action}" } @second ], ["$one changed"], 'one price of a later catalog is written, and no other');
is($client->value("SELECT unit_price FROM tokenbill.quote('ann', \$1, '{\"output_tokens\": 1}')", $one), '89.355', 'it counts from now on');
$client->query("SET tokenbill.clock = '2026-08-15 12:00:00+00'");
is($client->value("SELECT q.cost FROM tokenbill.quote('ann', \$1, '{\"output_tokens\": 1000000}') q", $one),
	$client->value("SELECT trim_scale(p.unit_price) FROM tokenbill.price p WHERE service = \$1 AND meter = 'output_tokens' AND side = 'cost'
		AND service_tier = 'standard' ORDER BY valid_from LIMIT 1", $one), 'the old one stays for its time')
  unless $ENV{TB_CATALOG};
is($client->value("SELECT sum(amount) FROM tokenbill.ledger WHERE account = 'ann'"), $spent, 'and what was charged stays');

done_testing();
