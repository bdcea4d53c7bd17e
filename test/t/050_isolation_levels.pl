# Clients at READ COMMITTED, REPEATABLE READ and SERIALIZABLE side by side, who
# try again when they are told to (40001): every transaction is done exactly
# once in the end, by whichever client first, and nothing else goes wrong.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server qw(seed decimal equal_decimals);

seed();

my $server = Tokenbill::Server->new('main');
$server->begin;
my @accounts = map { "account-$_" } 1 .. 4;
my $client = $server->client;
foreach my $account (@accounts)
{
	$client->query('SELECT tokenbill.create_account($1)', $account);
	$client->query('SELECT tokenbill.recharge($1, 10, $2)', $account, "order-$account");
}
$client->query("SELECT tokenbill.set_price('gpt', 'tokens', 0.000001)");

# The work: transactions of one to three steps, their accounts in order. Many
# are given to two clients, as happens when an application retries in haste.
my @work;
foreach my $number (1 .. 400)
{
	my @steps;
	foreach my $account (sort(map { $accounts[ rand @accounts ] } 1 .. 1 + int(rand(3))))
	{
		my $key = "k$number-" . scalar @steps;
		my $dice = rand();
		my $amount = sprintf('0.%06d', 1 + int(rand(5000)));
		my $step = { account => $account, key => $key, amount => "-$amount" };
		my $call;
		if ($dice < 0.5)
		{
			$call = "tokenbill.charge_amount('$account', $amount, '$key') r";
		}
		elsif ($dice < 0.65)
		{
			$step->{amount} = '-0.000007';
			$call = "tokenbill.charge('$account', 'gpt', '{\"tokens\": 7}', '$key') r";
		}
		elsif ($dice < 0.8)
		{
			$step->{amount} = $amount;
			$call = "tokenbill.recharge('$account', $amount, '$key') r";
		}
		else
		{
			$call = "tokenbill.hold('$account', 0.005, '$key') h, "
			  . "LATERAL tokenbill.capture(h.account, h.idempotency_key, amount => $amount) r";
		}
		$step->{sql} = "SELECT r.seq, r.amount, r.balance, r.replayed FROM $call";
		push @steps, $step;
	}
	push @work, { number => $number, steps => \@steps };
}
my @queue = map { rand() < 0.4 ? ($_, $_) : ($_) } @work;

my @levels = ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
my @clients = map { my $c = $server->client(name => "client $_"); $c->{level} = $levels[ $_ % 3 ]; $c } 1 .. 9;
my (%receipt, %retries, @wrong);

# A client goes through BEGIN, its steps, COMMIT, one statement at a time, so
# that the others come in between
sub advance
{
	my ($c) = @_;
	if (!$c->{job})
	{
		$c->{job} = shift @queue or return;
		$c->{tries} = 0;
	}
	if (!defined $c->{at})
	{
		$c->{at} = 0;
		$c->{got} = [];
		$c->send("BEGIN ISOLATION LEVEL $c->{level}");
	}
	elsif ($c->{at} < @{ $c->{job}{steps} })
	{
		$c->send($c->{job}{steps}[ $c->{at}++ ]{sql});
	}
	else
	{
		$c->{at}++;
		$c->send('COMMIT');
	}
	return;
}

sub answered
{
	my ($c) = @_;
	my $answer = $c->result;
	if (delete $c->{ending})
	{
		# the ROLLBACK is through: once more
		$c->{at} = undef;
		return;
	}
	if (my $error = $answer->{error})
	{
		if ($error->{code} eq '40001' && $c->{level} ne 'READ COMMITTED')
		{
			$retries{ $c->{level} }++;
			push @wrong, "job $c->{job}{number} was told to retry 500 times" and $c->{job} = undef if ++$c->{tries} >= 500;
		}
		else
		{
			push @wrong, "$c->{level}: $error->{code} $error->{message} in job $c->{job}{number}";
			$c->{job} = undef;
		}
		$c->{ending} = 1;
		$c->send('ROLLBACK');
		return;
	}
	push @{ $c->{got} }, Tokenbill::Client::hashes($answer);
	if ($c->{at} > @{ $c->{job}{steps} })
	{
		# committed: all of its receipts count
		foreach my $step (@{ $c->{job}{steps} })
		{
			my $got = shift @{ $c->{got} };
			my $id = "$step->{account}/$step->{key}";
			push @{ $receipt{$id} }, $got;
			push @wrong, "$id: $got->{amount}, not $step->{amount}" unless equal_decimals(abs_text($got->{amount}), abs_text($step->{amount}));
		}
		$c->{job} = undef;
		$c->{at} = undef;
	}
	return;
}

sub abs_text { return $_[0] =~ s/^-//r; }

while (1)
{
	foreach my $c (grep { !$_->busy && !$_->{waiting} } @clients)
	{
		advance($c);
		$c->{waiting} = $c->busy || $c->{answer};
	}
	my @waiting = grep { $_->{waiting} } @clients;
	last unless @waiting;
	foreach my $c (Tokenbill::Client->wait_any(@waiting))
	{
		answered($c);
		$c->{waiting} = $c->{ending};
	}
}
is(join("\n", @wrong), '', 'nothing but 40001 was in the way');
note(join(', ', map { "$_: $retries{$_} retries" } sort keys %retries));
cmp_ok($retries{'REPEATABLE READ'} || 0, '>', 0, 'REPEATABLE READ clients had to retry');
cmp_ok($retries{SERIALIZABLE} || 0, '>', 0, 'SERIALIZABLE clients had to retry');

# Every step once, its receipts all alike
my %expected = map { $_ => decimal(10) } @accounts;
my @odd;
foreach my $job (@work)
{
	foreach my $step (@{ $job->{steps} })
	{
		my $id = "$step->{account}/$step->{key}";
		my @all = @{ $receipt{$id} || [] };
		$expected{ $step->{account} }->badd(decimal($step->{amount}));
		push @odd, "$id was never done" unless @all;
		push @odd, "$id was done " . scalar(grep { $_->{replayed} eq 'f' } @all) . ' times' if @all && 1 != grep { $_->{replayed} eq 'f' } @all;
		push @odd, "$id has different receipts" if grep { $_->{seq} != $all[0]{seq} || !equal_decimals($_->{balance}, $all[0]{balance}) } @all;
	}
}
is(join("\n", @odd), '', 'every step was done exactly once');
foreach my $account (@accounts)
{
	my $balance = $client->value('SELECT balance FROM tokenbill.balances WHERE account = $1', $account);
	ok(equal_decimals($balance, $expected{$account}->bstr), "$account has what the steps leave: $balance");
}
$server->sound('after all levels');

$server->stop;
done_testing();
