# A server that is killed under load: a single backend by SIGKILL, the whole
# server by an immediate stop, and every process of it by SIGKILL at one
# moment. After recovery every charge that was acknowledged is there once, and
# one whose answer was lost can be asked for again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Load;
use Tokenbill::Server qw(seed);

seed();

my $server = Tokenbill::Server->new('main');
# what is acknowledged must be on the disk
$server->begin(conf => [ 'fsync = on', 'synchronous_commit = on', 'restart_after_crash = on', 'shared_buffers = 16MB',
	# the rounds are months apart
	"tokenbill.idempotency_window = 'infinity'" ]);

my @accounts = map { "account-$_" } 1 .. 6;
{
	my $client = $server->client(clock => '2026-01-31 12:00:00+00');
	foreach my $account (@accounts)
	{
		$client->query('SELECT tokenbill.create_account($1)', $account);
		# some run dry on the way
		$client->query('SELECT tokenbill.recharge($1, $2, $3)', $account, rand() < 0.3 ? '0.05' : '10', "order-$account");
	}
	$client->close;
}

my $load = Tokenbill::Load->new(accounts => \@accounts, clients => 8);
my $month = 2;
my $found = 0;
foreach my $round (1 .. 8)
{
	my $way = ('a backend', 'immediate', 'everything')[ $round % 3 ];
	# each round begins a month, and some end while it is being made
	my $clock = sprintf('2026-%02d-10 12:00:00+00', $month++);
	my $enough = $load->answers + ($round > 4 ? int(rand(20)) : 150 + int(rand(150)));
	$load->connect($server, clock => $clock);
	my $killed = 0;
	$load->run(
		sub {
			return 0 if $killed || $load->answers < $enough;
			$killed = 1;
			if ($way eq 'a backend')
			{
				my @working = grep { $_->{asked} } @{ $load->{clients} };
				kill 'KILL', $working[ rand @working ]->pid;
				# the postmaster ends all the others; they end the run
				return 0;
			}
			elsif ($way eq 'immediate')
			{
				$server->stop('immediate');
			}
			else
			{
				$server->kill_everything;
			}
			return 1;
		});
	$server->start if $way ne 'a backend';
	$server->wait_until(
		'the server to accept connections again',
		sub {
			return eval { $server->client->close; 1 };
		});
	note("round $round, $way: " . $load->acked . ' acknowledged, ' . scalar(keys %{ $load->{unknown} }) . ' unknown');

	my $client = $server->client(clock => $clock);
	# also before anything else touches it
	$server->sound("after round $round ($way)");
	$found += $load->settle($client);
	$load->check($client, "after round $round ($way)");
	$client->close;
}
note("$found charges whose answer was lost had been done");
$server->sound('at the end');
cmp_ok($load->acked, '>', 300, 'there was something to lose');

$server->stop;
done_testing();
