# A thousand providers, each asked once a minute, by one worker, until there have
# been 10,000 checks after the first two rounds: every check comes in its minute,
# the worker's memory stays what it was, none of its transactions grows old, and
# the server's log has nothing to say.
#
# It takes twelve minutes; TB_PROVIDERS and TB_CHECKS in the environment change the
# numbers. The figures are printed; what is asserted is that no check was left out,
# and bounds that a leak or a transaction held open would break by far.
use strict;
use warnings;
use FindBin;
use JSON::PP ();
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use Tokenbill::Double;
use Tokenbill::Server;

my $providers = $ENV{TB_PROVIDERS} || 1000;
my $checks = $ENV{TB_CHECKS} || 10_000;
my $rounds = 2 + $checks / $providers;

my $double = Tokenbill::Double->new('--limit', 3600);
$double->script('user/balance',
	{ body => { is_available => JSON::PP::true, balance_infos => [ { currency => 'USD', total_balance => '110.00' } ] } });

my $server = Tokenbill::Server->new('main');
$server->begin(conf => [ $server->watching, 'autovacuum = on' ]);
my $url = $double->url('');
$server->safe_psql('postgres', <<"SQL");
SELECT count(tokenbill.add_provider('provider-' || n, 'deepseek', base_url => '$url', secret => 'sk-' || n, check_every => '1 minute'))
FROM generate_series(1, $providers) n
SQL

# in kB
sub memory
{
	my ($pid) = @_;
	my ($rss) = slurp_file("/proc/$pid/status") =~ /^VmRSS:\s+(\d+) kB/m or die 'no VmRSS';
	return $rss;
}

my $client = $server->client;
my $good = 'SELECT count(*) FROM tokenbill.provider_history WHERE balance IS NOT NULL';
my $pid = $client->value('SELECT pid FROM tokenbill.worker_status WHERE database = current_database()');
my $log_from = -s $server->logfile;
my ($oldest, $warm, $largest, $seen, $said) = (0, 0, 0, 0, time);
my $deadline = time + 60 * ($rounds + 3);
while (($seen = $client->value($good)) < $rounds * $providers && time < $deadline)
{
	my $age = $client->value(<<'SQL');
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity WHERE application_name LIKE 'tokenbill%'
SQL
	$oldest = $age if $age > $oldest;
	my $now = memory($pid);
	$largest = $now if $now > $largest;
	$warm = $largest if $seen < 2 * $providers;
	if (time - $said > 60)
	{
		$said = time;
		note("$seen checks, $now kB");
	}
	usleep(200_000);
}

cmp_ok($seen, '>=', $rounds * $providers, 'the checks have been made');
is($client->value("SELECT count(*) FROM tokenbill.provider_history WHERE error IS NOT NULL"), 0, 'none failed');
is($client->value('SELECT pid FROM tokenbill.worker_status WHERE database = current_database()'), $pid, 'by one worker');

# None was left out: the next one of a provider comes before the one after it is
# due. How late they were is printed.
my $gaps = <<'SQL';
SELECT provider, extract(epoch FROM checked_at - lag(checked_at) OVER (PARTITION BY provider ORDER BY checked_at)) AS gap
FROM tokenbill.provider_history
SQL
is($client->value("SELECT count(*) FROM ($gaps) g WHERE gap >= 120"), 0, 'none was left out');
note('seconds from check to check: ' . join ', ', map { "$_->{w} $_->{s}" } $client->rows(<<"SQL"));
SELECT w, round(percentile_disc(p) WITHIN GROUP (ORDER BY gap)::numeric, 2) AS s
FROM ($gaps) g, (VALUES ('least', 0), ('median', 0.5), ('99 in 100', 0.99), ('most', 1)) x (w, p)
WHERE gap IS NOT NULL GROUP BY w, p ORDER BY p
SQL

note("the worker's memory: $warm kB after two rounds, $largest kB at most");
cmp_ok($largest - $warm, '<', 4096, 'it has not grown by 4 MB');
note("its oldest transaction seen: $oldest s");
cmp_ok($oldest, '<', 1, 'no transaction was older than a second');

my $log = slurp_file($server->logfile, $log_from);
# checkpoints and autovacuum are the server's own affair
my @lines = grep { !/checkpoint (?:starting|complete)|automatic (?:vacuum|analyze)|^\t/ } split /\n/, $log;
is(scalar @lines, 0, 'the log has nothing to say') or diag(join "\n", @lines[ 0 .. ($#lines < 20 ? $#lines : 20) ]);

done_testing();
