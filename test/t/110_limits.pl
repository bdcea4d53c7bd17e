# Limits under fire: 64 clients hammer accounts that have them, and exactly as
# much as a limit allows gets through, never a cent more, whatever is in flight,
# captured, given back or tried twice. And an alert is sent, once.
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
# noon: no window ends while this runs
my $clock = '2026-03-10 12:00:00+00';
my $admin = $server->client(clock => $clock);
$admin->rows($_) foreach (
	"SELECT tokenbill.create_account(a, credit_limit => 1000) FROM unnest('{cents,calls,rolling,flight,mixed,twice}'::text[]) a",
	"SELECT tokenbill.set_price('gpt', 'tokens', 0.001)",
	"SELECT tokenbill.set_spend_limit('cents', 5, 'day')",
	# the tightest is one of several
	"SELECT tokenbill.set_spend_limit('calls', 500, 'month'), tokenbill.set_rate_limit('calls', 'requests', 300, 'hour'), tokenbill.set_rate_limit('calls', 'tokens', 1000000, '1 hour')",
	q{SELECT tokenbill.set_spend_limit('rolling', 4, '30 minutes', service => 'g*', tag => '{"team": "red"}'), tokenbill.set_spend_limit('rolling', 900, 'day')},
	"SELECT tokenbill.set_rate_limit('flight', 'in_flight', 7)",
	"SELECT tokenbill.set_spend_limit('mixed', 6, 'day'), tokenbill.set_spend_limit('mixed', 6, '3 hours'), tokenbill.set_rate_limit('mixed', 'in_flight', 5)",
	"SELECT tokenbill.set_spend_limit('twice', 2, 'day')",
	# as autovacuum would: with so few accounts, plans scan the tables
	'ANALYZE tokenbill.account',
	'CREATE SEQUENCE number',
	'CREATE TABLE result (account text, granted boolean, replayed boolean, state text)',
	# a refusal is trapped, as an application would
	q{CREATE FUNCTION attempt(statement text, account text) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		again boolean;
	BEGIN
		BEGIN
			EXECUTE statement INTO again;
			INSERT INTO result VALUES (account, true, again, NULL);
			RETURN true;
		EXCEPTION WHEN SQLSTATE 'PT429' OR SQLSTATE 'PT402' OR SQLSTATE 'PT409' THEN
			INSERT INTO result VALUES (account, false, false, SQLSTATE);
			RETURN false;
		END;
	END $$});

sub hammer
{
	my @work = @_;
	$server->hammer('2026-03-10T12:00:00Z', $seed, @work);
	return;
}

sub granted
{
	my ($account) = @_;
	return $admin->value('SELECT count(*) FROM result WHERE account = $1 AND granted AND NOT replayed', $account);
}

# ---- a cent at a time
hammer(15, q{SELECT attempt(format('SELECT (tokenbill.charge_amount(''cents'', 0.01, ''k-%s'')).replayed', nextval('number')), 'cents');});
is(granted('cents'), 500, 'of 960 charges of a cent, a limit of 5.00 lets 500 through');
is($admin->value("SELECT count(*) FROM result WHERE account = 'cents' AND state = 'PT429'"), 460, 'the others get PT429');
ok(equal_decimals($admin->value("SELECT spent FROM tokenbill.spend_limits WHERE account = 'cents'"), 5), 'it says so itself');
ok(equal_decimals($admin->value("SELECT -balance FROM tokenbill.balances WHERE account = 'cents'"), 5), 'and so does the balance');

# ---- requests, as items of batches, with another limit that is not reached
hammer(15, q{INSERT INTO result SELECT 'calls', sqlstate IS NULL, coalesce(replayed, false), sqlstate FROM tokenbill.charge_batch(jsonb_build_array(
	jsonb_build_object('account', 'calls', 'service', 'gpt', 'usage', jsonb_build_object('tokens', 3), 'idempotency_key', 'k-' || nextval('number')),
	jsonb_build_object('account', 'calls', 'amount', 0.01, 'idempotency_key', 'k-' || nextval('number'))));} =~ s/\n//gr);
is(granted('calls'), 300, 'of 1920 items of batches, a limit of 300 requests lets 300 through');

# ---- a rolling window by tag and service; what does not fall under it passes
hammer(
	8,
	q{SELECT attempt(format('SELECT (tokenbill.charge(''rolling'', ''gpt'', ''{"tokens": 20}'', ''k-%s'', metadata => ''{"team": "red"}'')).replayed', nextval('number')), 'rolling');},
	q{SELECT attempt(format('SELECT (tokenbill.charge(''rolling'', ''gpt'', ''{"tokens": 20}'', ''k-%s'', metadata => ''{"team": "blue"}'')).replayed', nextval('number')), 'blue');});
my ($red, $blue) = map { $admin->value("SELECT count(*) FROM result WHERE account = '$_'") } qw(rolling blue);
cmp_ok($red, '>', 200, 'enough tried');
is(granted('rolling'), 200, "of $red charges of 0.02, a rolling limit of 4.00 on a team lets 200 through");
is(granted('blue'), $blue, "and all $blue of another team");

# ---- the same keys from many: replays are not counted
hammer(15, q{SELECT attempt(format('SELECT (tokenbill.charge_amount(''twice'', 0.01, ''k-%s'')).replayed', nextval('number') % 300), 'twice');});
is(granted('twice'), 200, '200 of 300 keys, tried three times each');
is($admin->value("SELECT count(DISTINCT idempotency_key) FROM tokenbill.statement WHERE account = 'twice'"), 200, 'are 200 charges');
cmp_ok($admin->value("SELECT count(*) FROM result WHERE account = 'twice' AND replayed"), '>', 0, 'some were replayed');

# ---- calls in flight
hammer(5, q{SELECT attempt(format('SELECT (tokenbill.hold(''flight'', 0.01, ''k-%s'')).replayed', nextval('number')), 'flight');});
is(granted('flight'), 7, 'of 320 holds, a limit of 7 calls in flight lets 7 through');
$admin->rows(q{SELECT CASE WHEN row_number() OVER () % 2 = 0 THEN tokenbill.release('flight', hold_key) ELSE tokenbill.capture('flight', hold_key) END
	FROM tokenbill.holds WHERE account = 'flight' AND status = 'held'});
hammer(
	12, q{\set n random(1, 1000000000)
SELECT attempt(format('SELECT (tokenbill.hold(''flight'', 0.01, ''c-%s-%s'')).replayed', :client_id, :n), 'flight2') AS granted \gset
INSERT INTO result SELECT 'seen', count(*) <= 7, false, count(*)::text FROM tokenbill.holds WHERE account = 'flight' AND status = 'held';
\if :granted
SELECT tokenbill.release('flight', format('c-%s-%s', :client_id, :n));
\endif
});
cmp_ok(granted('flight2'), '>', 7, 'places that are given back are taken again');
is($admin->value("SELECT max(state::int) <= 7 FROM result WHERE account = 'seen'"), 't', 'and never more than seven at once are seen');
is($admin->value("SELECT used + held FROM tokenbill.rate_limits WHERE account = 'flight'"), 0, 'in the end all are over');

# ---- everything at once: the sum of what was spent and held after each line
hammer(
	10, q{\set n random(1, 1000000000)
\set cents random(1, 9)
SELECT attempt(format('SELECT (tokenbill.charge_amount(''mixed'', %s * 0.01, ''c-%s-%s'')).replayed', :cents, :client_id, :n), 'mixed');
}, q{\set n random(1, 1000000000)
\set cents random(1, 30)
SELECT attempt(format('SELECT (tokenbill.hold(''mixed'', %s * 0.01, ''h-%s-%s'')).replayed', :cents, :client_id, :n), 'mixed') AS granted \gset
\if :granted
SELECT attempt(format('SELECT (tokenbill.capture(''mixed'', ''h-%s-%s'', amount => %s)).replayed', :client_id, :n, round(:cents * 0.004, 2) + 0.001), 'mixed');
\endif
}, q{SELECT attempt(format('SELECT (tokenbill.refund(''mixed'', %L, ''r-%s'')).replayed', (SELECT idempotency_key FROM tokenbill.statement WHERE account = 'mixed' AND kind = 'charge' ORDER BY random() LIMIT 1), nextval('number')), 'mixed') WHERE EXISTS (SELECT FROM tokenbill.statement WHERE account = 'mixed' AND kind = 'charge');
});
my @kinds = $admin->column("SELECT DISTINCT kind FROM tokenbill.statement WHERE account = 'mixed'");
my ($most, $last) = @{
	$admin->row(
		q{SELECT max(-balance + held) AS most, (SELECT spent + held FROM tokenbill.spend_limits WHERE account = 'mixed' AND name = 'spend:day') AS last
		FROM tokenbill.statement WHERE account = 'mixed'})
}{qw(most last)};
cmp_ok($most, '<=', 6, "charges, holds, captures and refunds: $most was the most that was spent and held at once, of 6");
cmp_ok($most, '>', 5, 'which is not little');
ok(equal_decimals($last, $admin->value("SELECT -balance + held FROM tokenbill.balances WHERE account = 'mixed'")), 'the counter is the balance');
cmp_ok(scalar(@kinds), '>=', 4, 'all kinds were there');

# ---- an alert, once, when the charge is committed
$admin->rows("SELECT tokenbill.create_account('al', credit_limit => 100)");
$admin->rows(q{SELECT tokenbill.set_spend_limit('al', 1, 'day', action => 'alert', tag => '{"team": "red"}')});
my ($out) = run_command(
	[
		'psql', '-X', '-h', $server->host, '-p', $server->port, '-U', 'postgres', '-d', 'postgres', '-c', 'LISTEN tokenbill_alert',
		map { ('-c', $_) } "SET tokenbill.clock = '$clock'",
		q{SELECT tokenbill.charge_amount('al', 0.99, 'k1', metadata => '{"team": "red"}')},
		q{SELECT tokenbill.charge_amount('al', 5, 'k2', metadata => '{"team": "blue"}')},
		q{BEGIN}, q{SELECT tokenbill.charge_amount('al', 1, 'k3', metadata => '{"team": "red"}')}, q{ROLLBACK},
		q{SELECT 'rolled back'},
		q{SELECT tokenbill.charge_amount('al', 0.01, 'k4', metadata => '{"team": "red"}')},
		q{SELECT tokenbill.charge_amount('al', 1, 'k5', metadata => '{"team": "red"}')}
	]);
my @alerts = $out =~ /Asynchronous notification "tokenbill_alert" with payload "(.*)" received/g;
is(scalar @alerts, 1, 'one notification') or diag($out);
like($out, qr/rolled back.*Asynchronous/s, 'not for what was rolled back');
like($alerts[0] // '', qr/"account": "al", "name": "alert:spend:day:.*"limit": 1, "spent": 1.00, "held": 0/, 'that says which limit was reached');

$server->sound('after all of it');
$server->stop;
done_testing();
