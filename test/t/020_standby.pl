# A synchronous standby takes over from a primary that was killed under load:
# every acknowledged charge is there, balances and chain are what they were,
# and charging goes on. While it is a standby it reads, and refuses to charge.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Load;
use Tokenbill::Server qw(seed);

seed();

my $primary = Tokenbill::Server->new('primary');
$primary->begin(
	allows_streaming => 1,
	conf => [ 'fsync = on', 'synchronous_commit = on', 'shared_buffers = 16MB', "tokenbill.idempotency_window = 'infinity'" ]);

my @accounts = map { "account-$_" } 1 .. 5;
{
	my $client = $primary->client(clock => '2026-01-31 12:00:00+00');
	foreach my $account (@accounts)
	{
		$client->query('SELECT tokenbill.create_account($1)', $account);
		$client->query('SELECT tokenbill.recharge($1, 10, $2)', $account, "order-$account");
	}
	$client->query("SELECT tokenbill.set_price('gpt', 'tokens', 0.000001)");
	$client->close;
}

$primary->backup('base');
my $standby = Tokenbill::Server->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'standby'");
$primary->reload;
$primary->wait_until(
	'the standby to be synchronous',
	sub {
		return $primary->safe_psql('postgres', "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1;
	});

# The first load begins a month, so that the standby has replayed that too
my $load = Tokenbill::Load->new(accounts => \@accounts, clients => 6);
my $clock = '2026-02-10 12:00:00+00';
$load->connect($primary, clock => $clock);
$load->run(sub { return $load->answers >= 300; });
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));

my $chain = 'SELECT account, seq, balance, held, hash FROM tokenbill.account ORDER BY account';
is($standby->safe_psql('postgres', $chain), $primary->safe_psql('postgres', $chain), 'the standby has the same balances and chain heads');
$standby->sound('on the standby');

my $reader = $standby->client(name => 'reader', clock => $clock);
my ($receipt) = @{ $load->{keys} };
my %refused = (
	charge => "SELECT tokenbill.charge('account-1', 'gpt', '{\"tokens\": 1}', 'on-standby')",
	charge_amount => "SELECT tokenbill.charge_amount('account-1', 1, 'on-standby')",
	'charge, wait => false' => "SELECT tokenbill.charge_amount('account-1', 1, 'on-standby', wait => false)",
	hold => "SELECT tokenbill.hold('account-1', 1, 'on-standby')",
	recharge => "SELECT tokenbill.recharge('account-1', 1, 'on-standby')",
	issue_token => "SELECT tokenbill.issue_token('account-1')",
	make_ledger_month => "SELECT tokenbill.make_ledger_month('2026-12-01')",
	create_account => "SELECT tokenbill.create_account('on-standby')",);
foreach my $what (sort keys %refused)
{
	my $answer = $reader->query($refused{$what});
	is($answer->{error} && $answer->{error}{code}, '25006', "$what on a standby is refused as read-only")
	  or diag(explain($answer));
}
is($reader->sqlstate("SELECT * FROM tokenbill.charge_batch('[{\"account\": \"account-1\", \"amount\": 1, \"idempotency_key\": \"on-standby\"}]')"),
	'25006', 'charge_batch on a standby is refused as a whole');
is($reader->value("SELECT amount FROM tokenbill.quote('account-1', 'gpt', '{\"tokens\": 7}')"), '0.000007', 'quote() works on a standby');
my ($balance) = $reader->column("SELECT balance FROM tokenbill.balances WHERE account = 'account-1'");
is($reader->value("SELECT tokenbill.balance_at('account-1', '2026-12-31')"), $balance, 'balance_at() works on a standby');
cmp_ok($reader->value('SELECT count(*) FROM tokenbill.metrics'), '>', 3, 'metrics work on a standby');

# The second load begins another month, and ends with the primary
$clock = '2026-03-10 12:00:00+00';
my $enough = $load->answers + 200 + int(rand(200));
my $killed = 0;
$load->connect($primary, clock => $clock);
$load->run(
	sub {
		return 0 if $killed || $load->answers < $enough;
		$killed = 1;
		$primary->kill_everything;
		return 1;
	});
note($load->acked . ' acknowledged, ' . scalar(keys %{ $load->{unknown} }) . ' unknown');
$standby->promote;

# sessions that were reading go on, as writers
is($reader->value("SELECT balance FROM tokenbill.balances WHERE account = 'account-1'") ne '', 1, 'a session of the standby survives the promotion');
$standby->sound('after the promotion');
my $client = $standby->client(clock => $clock);
$load->settle($client);
$load->check($client, 'after the promotion');

# and on it goes, in this month, in the next, and in the session of before
my $seq = $client->value("SELECT seq FROM tokenbill.balances WHERE account = 'account-1'");
is($reader->value("SELECT seq FROM tokenbill.charge_amount('account-1', 0.000001, 'after-1')"), $seq + 1, 'seq goes on without a gap');
$client->query("SET tokenbill.clock = '2026-04-10 12:00:00+00'");
is($client->value("SELECT seq FROM tokenbill.charge_amount('account-1', 0.000001, 'after-2')"), $seq + 2, 'a month is made on the new primary');
is($client->value("SELECT replayed FROM tokenbill.charge_amount('$receipt->{account}', @{[ abs $receipt->{amount} ]}, '$receipt->{idempotency_key}')"),
	't', 'a key of before is replayed');
$standby->sound('at the end');

$standby->stop;
done_testing();
