# Idle means asleep: the worker wakes for what is due and for nothing else, also
# while alerts are raised, and looks at customers' balances when one has moved.
# Its clock stands still, so that nothing is due but what this test makes due.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Worker;

my $server = Tokenbill::Worker->new('main');
$server->begin(conf => ["tokenbill.clock = '2027-01-01 12:00:00+00'", 'max_prepared_transactions = 5']);
my $c = $server->client;
$server->wait_worker;

sub clock_at
{
	my ($time) = @_;
	$c->query("ALTER SYSTEM SET tokenbill.clock = '2027-01-01 $time+00'");
	$server->reload;
	$server->wait_until("it to be $time", sub { return ($c->value('SELECT tokenbill.clock()') // '') eq "2027-01-01 $time+00"; });
	return;
}

sub evaluated_at { return $c->value("SELECT to_char(evaluated_at AT TIME ZONE 'UTC', 'HH24:MI:SS') FROM tokenbill.alert_evaluation") // 'never'; }

# Until the worker sleeps, and until when it does; retention is once a day
sub asleep_until
{
	my ($due) = @_;
	my $until = '';
	eval {
		$server->wait_until("the worker to sleep until $due",
			sub {
				my $row = $server->worker;
				$until = join(' ', $row->{state}, $row->{next_due} // 'for ever', $row->{duty} // ());
				return $until eq "asleep $due";
			});
		1;
	} or die "$@ It is $until\n";
	return;
}

# What the kernel counts: each time it has been scheduled after it slept
sub times_awake
{
	my ($pid) = @_;
	my ($times) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m;
	return $times;
}

sub alerts
{
	return $c->value(q{SELECT coalesce(string_agg(concat_ws(' ', kind, subject, state), '; ' ORDER BY id), '') FROM tokenbill.alerts});
}

# ---- nothing
asleep_until('for ever');
pass('without anything to do it sleeps for ever');

# ---- a provider that somebody reports: until its report would be too old
$c->query("SELECT tokenbill.add_provider('p', 'manual', check_every => '1 hour', low_balance => 10)");
$server->wait_until('it to be looked at', sub { return evaluated_at() eq '12:00:00'; });
clock_at('12:05:00');
asleep_until('2027-01-01 15:00:00.000001+00 alerts');
pass('no report yet: until it would be overdue, not for a minute');
$c->query("SELECT tokenbill.record_provider_balance('p', 5)");
$server->wait_until('the alert', sub { return alerts() eq 'provider_low p raised'; });
is(evaluated_at(), '12:05:00', 'a report is looked at as soon as the last look is a minute old');
$c->query("SELECT tokenbill.record_provider_balance('p', 4, checked_at => '2027-01-01 12:04:00+00')");
asleep_until('2027-01-01 12:06:00+00 alerts');
pass('the next one a minute later');
clock_at('12:06:00');
asleep_until('2027-01-01 15:05:00.000001+00 alerts');
is(alerts(), 'provider_low p raised', 'a raised alert does not wake it every minute');
my $pid = $server->worker->{pid};
my $awake = times_awake($pid);
# a session that does what concerns nobody
$c->query("SELECT tokenbill.create_account('a')");
$c->query("SELECT tokenbill.recharge('a', 100, 'order-1')");
$c->query("SELECT tokenbill.charge_amount('a', 1, 'charge-' || i) FROM generate_series(1, 20) i");
$c->query("SELECT tokenbill.hold('a', 1, 'hold', ttl => '5 hours')");
$c->query("SELECT tokenbill.metrics_text()");
is(times_awake($pid), $awake, 'charges, holds that expire later and metrics do not wake it');
is(evaluated_at(), '12:06:00', 'nor does it look');

# its latch is set by others, too: by PostgreSQL's own timers, and by what is told all processes
sub looked_at { return $c->value('SELECT concat_ws(\' \', xact_start, query_start, state_change) FROM pg_stat_activity WHERE pid = $1', $pid); }
my $looked = looked_at();
$awake = times_awake($pid);
kill 'USR1', $pid;
$server->wait_until('it to be awake and asleep again', sub { return times_awake($pid) > $awake; });
is(looked_at(), $looked, 'a latch that nobody has set to call it has it sleep on');

# ---- time alone
clock_at('15:05:00');
asleep_until('2027-01-01 15:05:00.000001+00 alerts');
is(alerts(), 'provider_low p raised', 'three intervals are not over');
clock_at('15:06:00');
$server->wait_until('the other alert', sub { return alerts() eq 'provider_low p raised; provider_stale p raised'; });
asleep_until('2027-01-01 17:06:00+00 expired holds');
pass('both raised: until something else is due');

# ---- credentials, which need no evaluation in between
$c->query("SELECT tokenbill.set_credential_expiry('key', '2027-01-08 16:00:00+00')");
asleep_until('2027-01-01 15:07:00+00 alerts');
clock_at('15:07:00');
asleep_until('2027-01-01 16:00:00+00 alerts');
pass('until the credential comes near its end');
$c->query("SELECT tokenbill.set_credential_expiry('key', NULL)");
clock_at('15:08:00');
asleep_until('2027-01-01 17:06:00+00 expired holds');

# ---- gone, and gone for long enough
$c->query("SELECT tokenbill.set_alert_rule('provider_low', clear_after => '10 min')");
$c->query("SELECT tokenbill.record_provider_balance('p', 50)");
clock_at('15:09:00');
asleep_until('2027-01-01 15:19:00+00 alerts');
is(alerts(), 'provider_low p raised; provider_stale p cleared', 'until the condition has been gone for long enough');
clock_at('15:19:00');
$server->wait_until('it to be cleared', sub { return alerts() eq 'provider_low p cleared; provider_stale p cleared'; });

# a report that was made before the last look, and committed after it
{
	my $slow = $server->client(name => 'slow');
	$slow->query('BEGIN');
	$slow->query("SELECT tokenbill.record_provider_balance('p', 3, 'EUR')");
	clock_at('15:19:30');
	$c->query("SELECT tokenbill.set_credential_expiry('another', '2028-01-01')");
	clock_at('15:20:00');
	$server->wait_until('it to look', sub { return evaluated_at() eq '15:20:00'; });
	asleep_until('2027-01-01 17:06:00+00 expired holds');
	$slow->query('COMMIT');
	$slow->close;
	clock_at('15:21:00');
	$server->wait_until('the alert', sub { return alerts() =~ /provider_low p raised$/; });
	pass('a report that is committed late is not overlooked');
	$c->query("SELECT tokenbill.set_credential_expiry('another', NULL)");
}

# ---- customers
$c->query("SELECT tokenbill.set_alert_rule('provider_low', clear_after => '0')");
$c->query("SELECT tokenbill.drop_provider('p')");
clock_at('15:22:00');
asleep_until('2027-01-01 17:06:00+00 expired holds');
$c->query("SELECT tokenbill.set_low_balance('a', 50)");
clock_at('15:23:00');
$server->wait_until('it to be looked at', sub { return evaluated_at() eq '15:23:00'; });
asleep_until('2027-01-01 17:06:00+00 expired holds');
pass('a balance is watched that does not move: it sleeps');
$awake = times_awake($pid);
$c->query("SELECT tokenbill.issue_token('a')");
$c->query('BEGIN');
$c->query("SELECT tokenbill.charge_amount('a', 40, 'given up')");
$c->query('ROLLBACK');
is(times_awake($pid), $awake, 'what is rolled back does not wake it');
$c->query("SELECT tokenbill.charge_amount('a', 1, 'little')");
asleep_until('2027-01-01 15:24:00+00 alerts');
pass('one that moves is looked at a minute after the last time');
$awake = times_awake($pid);
$c->query("SELECT tokenbill.charge_amount('a', 1, 'more-' || i) FROM generate_series(1, 20) i");
is(times_awake($pid), $awake, 'and its other movements wake nobody until then');
$c->query("SELECT tokenbill.charge_amount('a', 20, 'much')");
clock_at('15:24:00');
$server->wait_until('the alert', sub { return alerts() =~ /account_low a raised$/; });
asleep_until('2027-01-01 17:06:00+00 expired holds');
$c->query("SELECT tokenbill.recharge('a', 1000, 'order-2')");
clock_at('15:25:00');
$server->wait_until('its end', sub { return alerts() =~ /account_low a cleared$/; });
asleep_until('2027-01-01 17:06:00+00 expired holds');
# a transaction that another session commits
$c->query('BEGIN');
$c->query("SELECT tokenbill.charge_amount('a', 1000, 'prepared')");
$c->query("PREPARE TRANSACTION 'two phases'");
clock_at('15:26:00');
{
	my $other = $server->client(name => 'other');
	$other->query("COMMIT PREPARED 'two phases'");
	$other->close;
}
$server->wait_until('the alert', sub { return alerts() =~ /account_low a raised$/; });
pass('a prepared transaction that moves it is noticed, too');
asleep_until('2027-01-01 16:24:00+00 alerts');
pass('raised again in its quiet period, it is told when that is over');
$c->query("SELECT tokenbill.release('a', 'hold')");
$c->query("SELECT tokenbill.set_account_status('a', 'closed')");
clock_at('15:27:00');
$server->wait_until('its end', sub { return alerts() =~ /account_low a cleared$/; });

# ---- after a restart it looks once, whatever happened when nobody counted
asleep_until('2027-02-22 00:00:00+00 ledger months');
$c->close;
$server->restart;
$c = $server->client;
clock_at('15:28:00');
$server->wait_until('it to look', sub { return evaluated_at() eq '15:28:00'; });
asleep_until('2027-02-22 00:00:00+00 ledger months');
pass('then it sleeps');

# ---- and if the clock was set back, it does not wait until it has caught up
clock_at('11:00:00');
$c->query("SELECT tokenbill.add_provider('q', 'manual')");
$server->wait_until('it to look', sub { return evaluated_at() eq '11:00:00'; });
pass('a clock that was set back keeps nobody from looking');
$server->stop;
done_testing();
