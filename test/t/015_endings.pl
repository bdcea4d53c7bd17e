# Ways for a transaction to end that are neither COMMIT nor ROLLBACK of its own:
# cancelled, timed out or terminated while it waits or while others wait for
# it, prepared and finished by somebody else, or simply disconnected. The key is
# free or used as the outcome has it, and nothing stays locked.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server;

my $server = Tokenbill::Server->new('main');
$server->begin(conf => ['max_prepared_transactions = 5']);
my $admin = $server->client(name => 'admin');
$admin->rows("SELECT tokenbill.create_account('ann')");
$admin->rows("SELECT tokenbill.recharge('ann', 10, 'order-1')");

sub charge
{
	my ($key, %opt) = @_;
	return "SELECT seq, balance, replayed FROM tokenbill.charge_amount('ann', 1, '$key'" . ($opt{nowait} ? ', wait => false)' : ')');
}

sub lines
{
	return $admin->value("SELECT count(*) FROM tokenbill.statement WHERE account = 'ann'");
}

# ---- the one who waits gives up
foreach my $way (qw(cancelled terminated statement_timeout lock_timeout))
{
	my $holder = $server->client(name => 'holder');
	my $waiter = $server->client(name => 'waiter');
	my $before = lines();
	$holder->rows('BEGIN');
	$holder->rows(charge("$way-1"));
	# when it is to be timed out, it waits no longer than that
	$waiter->rows("SET $way = '10ms'") if $way =~ /timeout/;
	$waiter->send(charge("$way-2"));
	if ($way !~ /timeout/)
	{
		$server->wait_blocked($waiter, $admin);
		$admin->rows($way eq 'cancelled' ? 'SELECT pg_cancel_backend($1)' : 'SELECT pg_terminate_backend($1)', $waiter->pid);
	}
	my $answer = $waiter->result;
	my %expected = (cancelled => '57014', terminated => '57P01', statement_timeout => '57014', lock_timeout => '55P03');
	is($answer->{error} && $answer->{error}{code}, $expected{$way}, "$way while waiting for the account");
	$holder->rows('COMMIT');
	is(lines(), $before + 1, "$way: the holder's charge stands, the waiter's is not there");
	is($admin->value("SELECT replayed FROM tokenbill.charge_amount('ann', 0.1, '$way-2', wait => false)"), 'f', "$way: its key is free");
	is($admin->value(charge("$way-1", nowait => 1) =~ s/seq, balance, //r), 't', "$way: the holder's key is used");
	$_->close foreach $holder, $waiter;
}

# ---- the one who is waited for goes away
foreach my $way (qw(terminated disconnected idle_in_transaction_session_timeout))
{
	my $holder = $server->client(name => 'holder');
	my $waiter = $server->client(name => 'waiter');
	my $before = lines();
	$holder->rows('BEGIN');
	$holder->rows(charge("gone-$way"));
	is($admin->sqlstate(charge("gone-$way", nowait => 1)), 'PT423', "holder $way: in progress until then");
	$waiter->send(charge("gone-$way"));
	$server->wait_blocked($waiter, $admin);
	if ($way eq 'terminated')
	{
		$admin->rows('SELECT pg_terminate_backend($1)', $holder->pid);
	}
	elsif ($way eq 'disconnected')
	{
		$holder->close;
	}
	else
	{
		$holder->rows("SET $way = '1ms'");
	}
	my $answer = $waiter->result;
	is($answer->{error}, undef, "holder $way: the waiter goes on");
	is($answer->{rows}[0][2], 'f', "holder $way: and charges itself");
	is(lines(), $before + 1, "holder $way: once");
	$_->close foreach $holder, $waiter;
}

# ---- prepared: the outcome comes later, from another session
foreach my $outcome ('COMMIT', 'ROLLBACK')
{
	my $holder = $server->client(name => 'holder');
	my $waiter = $server->client(name => 'waiter');
	my $before = lines();
	$holder->rows('BEGIN');
	$holder->rows(charge("prepared-$outcome"));
	$holder->rows("PREPARE TRANSACTION 'p'");
	$holder->close;
	is($admin->sqlstate(charge("prepared-$outcome", nowait => 1)), 'PT423', "prepared: the key is in progress, though its session is gone");
	$waiter->send(charge("prepared-$outcome"));
	$server->wait_blocked($waiter, $admin);
	$admin->rows("$outcome PREPARED 'p'");
	my $answer = $waiter->result;
	is($answer->{error}, undef, "$outcome PREPARED: the waiter goes on");
	is($answer->{rows}[0][2], $outcome eq 'COMMIT' ? 't' : 'f', "$outcome PREPARED: and " . ($outcome eq 'COMMIT' ? 'replays' : 'charges'));
	is(lines(), $before + 1, "$outcome PREPARED: charged once");
	$waiter->close;
}

# ---- a charge inside a procedure that commits on the way, and in a function that catches errors
$admin->rows(<<'SQL');
CREATE PROCEDURE charge_all(n int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM tokenbill.charge_amount('ann', 0.001, 'p' || i);
		IF i % 3 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
	END LOOP;
END $$
SQL
$admin->rows('CALL charge_all(9)');
is($admin->value("SELECT count(*) FROM tokenbill.statement WHERE idempotency_key ~ '^p[0-9]'"), 6, 'a procedure keeps what it committed');
$admin->rows(<<'SQL');
DO $$
BEGIN
	FOR i IN 1 .. 50 LOOP
		BEGIN
			PERFORM tokenbill.charge_amount('ann', 0.001, 'd' || i);
			IF i % 2 = 0 THEN
				RAISE EXCEPTION 'changed my mind';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END $$
SQL
is($admin->value("SELECT count(*) FROM tokenbill.statement WHERE idempotency_key ~ '^d[0-9]'"), 25, 'subtransactions that were undone left nothing');
is($admin->value("SELECT string_agg(replayed::text, ' ') FROM (SELECT (tokenbill.charge_amount('ann', 0.001, 'd' || i)).replayed FROM generate_series(1, 4) i) x"),
	'true false true false', 'and their keys are free');

is($admin->value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0, 'no lock is left');
$server->sound('after all endings');

$server->stop;
done_testing();
