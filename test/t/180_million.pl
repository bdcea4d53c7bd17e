# A million charges of 12.5 nanodollars: what providers publish as their lowest
# price of a token, a token at a time. They add up to the last digit, in every
# view of them.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($accounts, $at_once) = (8, 20);
my $each = 1_000_000 / $accounts / $at_once;

my $node = PostgreSQL::Test::Cluster->new('million');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nsynchronous_commit = off\nmax_wal_size = 8GB\nautovacuum = on");
$node->start;
$node->safe_psql('postgres', qq{
CREATE EXTENSION tokenbill;
SET tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.set_price('mini', 'cache_read_tokens', 0.0125, 1000000);
SELECT tokenbill.set_cost('mini', 'cache_read_tokens', 0.01, 1000000);
SELECT tokenbill.create_account('acct-' || n), tokenbill.recharge('acct-' || n, 1, 'order-' || n) FROM generate_series(0, $accounts - 1) n;
});

# each client an account, some charges a transaction
my $script = $node->basedir . '/charge.pgbench';
append_to_file($script, <<"EOS");
\\set n :n + 1
SELECT count(*) FROM generate_series(1, $at_once) i, tokenbill.charge('acct-' || :client_id, 'mini', '{"cache_read_tokens": 1}', :n || '-' || i);
EOS
$node->command_ok([ 'pgbench', '-n', '-M', 'prepared', '-c', $accounts, '-j', 2, '-t', $each, '-D', 'n=0', '-f', $script, 'postgres' ],
	'a million charges');

sub is_value
{
	my ($query, $expected, $description) = @_;
	is($node->safe_psql('postgres', $query), $expected, $description);
}
is_value("SELECT count(*), sum(amount), min(amount), max(amount) FROM tokenbill.ledger WHERE kind = 'charge'",
	'1000000|-0.0125000000|-0.0000000125|-0.0000000125', 'they add up');
is_value('SELECT sum(balance) = 8 - 0.0125, min(balance) = max(balance), trim_scale(min(balance)) FROM tokenbill.account', 't|t|0.9984375',
	'so do the balances');
is_value("SELECT trim_scale(sum(quantity)), trim_scale(sum(amount)) FROM tokenbill.usage_daily", '1000000|0.0125', 'and usage_daily');
is_value('SELECT trim_scale(sum(revenue)), trim_scale(sum(cost)), trim_scale(sum(margin)), sum(lines), sum(unknown_cost_lines) FROM tokenbill.margin_daily', '0.0125|0.01|0.0025|1000000|0',
	'and margin_daily');
is_value("SELECT trim_scale(amount) FROM tokenbill.trial_balance WHERE ledger_account = 'revenue'", '0.0125', 'and the trial balance');
is_value('SELECT count(*) FROM tokenbill.verify_ledger()', '0', 'all of it is sound');

# the same in one: what a million tokens cost at once
is_value(q{SELECT trim_scale(amount), trim_scale(cost) FROM tokenbill.quote('acct-0', 'mini', '{"cache_read_tokens": 1000000}')}, '0.0125|0.01',
	'a million at once cost the same');

$node->stop;
done_testing();
