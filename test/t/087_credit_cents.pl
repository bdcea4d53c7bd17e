# Credits under fire: 64 clients hammer accounts that have them, and to the cent
# as much is spent as there is, on what it is good for; also while a credit
# expires, by the clock of some of the clients and not yet by that of others.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server qw(equal_decimals seed);

my $seed = seed();
my $server = Tokenbill::Server->new('main');
$server->begin(conf => ['max_connections = 80']);
my $before = '2026-03-31T23:59:00Z';
my $after = '2026-04-01T00:00:00Z';
my $admin = $server->client(clock => $before);
$admin->rows($_) foreach (
	"SELECT tokenbill.create_account(a) FROM unnest('{scope,time,held}'::text[]) a",
	"SELECT tokenbill.recharge('scope', 0.5, 'R-1'), tokenbill.grant_credit('scope', 1, 'gpt', scope => '{gpt-*}'), tokenbill.grant_credit('scope', 1.5, 'any', priority => 10)",
	"SELECT tokenbill.recharge('time', 1, 'R-2'), tokenbill.grant_credit('time', 3, 'march', expires_at => '$after')",
	"SELECT tokenbill.recharge('held', 1, 'R-3'), tokenbill.grant_credit('held', 1, 'gpt', scope => '{gpt-*}'), tokenbill.grant_credit('held', 1, 'claude', scope => '{claude}')",
	'CREATE SEQUENCE number',
	'CREATE TABLE result (account text, service text, granted boolean, state text)',
	# a refusal is trapped, as an application would
	q{CREATE FUNCTION attempt(account text, service text, statement text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN
			EXECUTE format(statement, nextval('number'));
			INSERT INTO result VALUES (account, service, true, NULL);
			RETURN true;
		EXCEPTION WHEN SQLSTATE 'PT402' THEN
			INSERT INTO result VALUES (account, service, false, SQLSTATE);
			RETURN false;
		END;
	END $$});

sub hammer
{
	my @work = @_;
	$server->hammer($before, $seed, @work);
	return;
}

sub granted
{
	my ($account, $service) = @_;
	return $admin->value('SELECT count(*) FROM result WHERE account = $1 AND service LIKE $2 AND granted', $account, $service);
}

sub balance { return $admin->value('SELECT balance FROM tokenbill.balances WHERE account = $1', $_[0]); }

# ---- a cent at a time: 1.00 for gpt-*, 2.00 for anything
hammer(15, map { "SELECT attempt('scope', '$_', 'SELECT tokenbill.charge_amount(''scope'', 0.01, ''k-%s'', service => ''$_'')');" } qw(gpt-5 claude));
my $tried = $admin->value("SELECT least(count(*) FILTER (WHERE service = 'claude'), count(*) FILTER (WHERE service = 'gpt-5')) FROM result WHERE account = 'scope'");
cmp_ok($tried, '>', 350, 'enough of both tried');
is(granted('scope', '%'), 300, 'of 960 charges of a cent, 3.00 let 300 through');
cmp_ok(granted('scope', 'claude'), '<=', 200, 'no more than 200 of them for what 1.00 is not good for');
ok(equal_decimals(balance('scope'), 0), 'nothing is left');
is($admin->value("SELECT string_agg(credit_key || ' ' || status, ', ' ORDER BY seq) FROM tokenbill.credits WHERE account = 'scope'"), 'gpt spent, any spent', 'of any credit');

# ---- while 3.00 expire by the clock of half of the calls
hammer(12, map { "BEGIN;\nSET LOCAL tokenbill.clock = '$_';\nSELECT attempt('time', 'any', 'SELECT tokenbill.charge_amount(''time'', 0.01, ''k-%s'')');\nCOMMIT;" } $before, $after);
my $expired = $admin->value("SELECT -sum(amount) FROM tokenbill.statement WHERE account = 'time' AND contra = 'expiry'");
my $charges = granted('time', '%');
ok(equal_decimals($admin->value('SELECT 4 - $1::numeric - $2::numeric * 0.01', $expired, $charges), 0), "$charges cents were spent and $expired have expired, of 4.00");
cmp_ok($charges, '>=', 100, 'all of the 1.00 that does not expire was spent');
ok(equal_decimals(balance('time'), 0), 'nothing is left');
is($admin->value("SELECT count(*) FROM tokenbill.statement WHERE account = 'time' AND contra = 'expiry'"), 1, 'it has expired once');

# ---- holds of both scopes, captured in part: what is free is never more than there is
hammer(
	8, map {
		"SELECT attempt('held', '$_', 'SELECT tokenbill.hold(''held'', 0.05, ''h-%1\$s'', service => ''$_''), tokenbill.capture(''held'', ''h-%1\$s'', amount => 0.02)');"
	} qw(gpt-5 claude));
is($admin->value("SELECT count(*) FROM tokenbill.holds WHERE account = 'held' AND status = 'held'"), 0, 'every hold is over');
ok(equal_decimals($admin->value('SELECT 3 - $1::numeric - $2::numeric * 0.02', balance('held'), granted('held', '%')), 0), 'every capture was paid, once');
is($admin->value("SELECT count(*) FROM tokenbill.credits WHERE account = 'held' AND reserved <> 0"), 0, 'nothing stays reserved');
cmp_ok(balance('held'), '>=', 0, 'nobody has spent what there was not');
$server->sound('at the end');

$server->stop;
done_testing();
