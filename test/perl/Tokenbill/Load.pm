# A load of charges by many clients at once that keeps account of what the
# server acknowledged. The tests that kill a server compare that with what is
# there afterwards.
#
#   my $load = Tokenbill::Load->new(accounts => [...], clients => 8);
#   $load->connect($server, clock => ...);
#   $load->run(sub { ... });     until the code says so, asked after each answer
#   $load->settle($client);      ask for every unacknowledged key once more
#   $load->check($client, $when) assertion: every acknowledged charge is there
#                                exactly once, as it was acknowledged, every
#                                other at most once, and nothing else
#
# What a client does, at random: one charge; two charges of two accounts in one
# transaction; a hold, and its capture; the charge of a key it has used before;
# a transaction that it rolls back.
package Tokenbill::Load;

use strict;
use warnings;
use Carp;
use Test::More;
use Tokenbill::Client;
use Tokenbill::Server qw(decimal equal_decimals);

# What is selected of a receipt, and compared field by field
my @fields = qw(account seq kind amount balance held idempotency_key);
my $fields = join(', ', map { "r.$_" } @fields);

sub new
{
	my ($class, %opt) = @_;
	return bless {
		accounts => $opt{accounts},
		wanted => $opt{clients} || 8,
		clients => [],
		number => 0,
		acked => {},    # account/key => receipt
		keys => [],     # the receipts of charges among them, in order
		unknown => {},  # account/key => the request whose answer was lost
		undone => {},   # account/key => 1: was rolled back
		surprises => [],
		holds => [],    # acknowledged holds not captured yet: [account, key]
		answers => 0,
	}, $class;
}

sub answers { return $_[0]{answers}; }

sub acked { return scalar keys %{ $_[0]{acked} }; }

sub connect
{
	my ($self, $server, %opt) = @_;
	$_->close foreach @{ $self->{clients} };
	$self->{clients} =
	  [ map { $server->client(%opt, name => "client $_") } 1 .. $self->{wanted} ];
	return;
}

# One request: the statement and its parameters, and what it is known by
sub _charge
{
	my ($self, $account, $key) = @_;
	my $amount = sprintf('0.%06d', 1 + int(rand(2000)));
	$key = 'key-' . ++$self->{number} unless defined $key;
	return {
		id => "$account/$key",
		sql => "SELECT $fields FROM tokenbill.charge_amount('$account', $amount, '$key') r"
	};
}

sub _hold
{
	my ($self, $account) = @_;
	my $key = 'hold-' . ++$self->{number};
	return {
		id => "$account/$key",
		hold => [ $account, $key ],
		sql => "SELECT $fields FROM tokenbill.hold('$account', 0.002, '$key', ttl => '366 days') r"
	};
}

sub _capture
{
	my ($self, $account, $hold) = @_;
	my $amount = sprintf('0.%06d', 1 + int(rand(2000)));
	my $key = "tokenbill:capture:$hold";
	return {
		id => "$account/$key",
		sql => "SELECT $fields FROM tokenbill.capture('$account', '$hold', amount => $amount) r"
	};
}

sub _account
{
	my ($self) = @_;
	return $self->{accounts}[ rand @{ $self->{accounts} } ];
}

sub _start
{
	my ($self, $client) = @_;
	my $dice = rand();
	my @requests;
	if ($dice < 0.15 && @{ $self->{holds} })
	{
		my ($hold) = splice(@{ $self->{holds} }, rand @{ $self->{holds} }, 1);
		@requests = ($self->_capture(@$hold));
	}
	elsif ($dice < 0.3)
	{
		@requests = ($self->_hold($self->_account));
	}
	elsif ($dice < 0.5)
	{
		# by name, so that no two transactions wait for each other
		my ($one, $two) = sort($self->_account, $self->_account);
		@requests = ($self->_charge($one), $self->_charge($two));
		$_->{pair} = $requests[0]{id} foreach @requests;
	}
	elsif ($dice < 0.6 && @{ $self->{keys} })
	{
		# an acknowledged one again
		my $receipt = $self->{keys}[ rand @{ $self->{keys} } ];
		my $amount = decimal($receipt->{amount})->babs->bstr;
		$client->{asked} = [];
		$client->{replay} = $receipt;
		$client->send("SELECT $fields, r.replayed FROM tokenbill.charge_amount("
			  . "'$receipt->{account}', $amount, '$receipt->{idempotency_key}') r");
		return;
	}
	elsif ($dice < 0.65)
	{
		my $undone = $self->_charge($self->_account);
		$client->{asked} = [];
		$self->{undone}{ $undone->{id} } = 1;
		$client->send("BEGIN; $undone->{sql}; ROLLBACK");
		return;
	}
	else
	{
		@requests = ($self->_charge($self->_account));
	}
	$client->{asked} = \@requests;
	# one statement inside the transaction, for the sake of both receipts
	my $sql = join(' UNION ALL ', map { $_->{sql} } @requests);
	$client->send(@requests > 1 ? "BEGIN; $sql; COMMIT" : $sql);
	return;
}

# What one answer says
sub _take
{
	my ($self, $client) = @_;
	my $answer = $client->result;
	my @asked = @{ delete $client->{asked} };
	my $replay = delete $client->{replay};
	$self->{answers}++;
	if ($answer->{lost})
	{
		$self->{unknown}{ $_->{id} } = $_ foreach @asked;
		return;
	}
	if (my $error = $answer->{error})
	{
		push @{ $self->{surprises} }, "$error->{code} $error->{message}"
		  unless $error->{code} eq 'PT402';
		$client->query('ROLLBACK') if $answer->{tx} eq 'E';
		return;
	}
	my @receipts = Tokenbill::Client::hashes($answer);
	if ($replay)
	{
		my ($again) = @receipts;
		push @{ $self->{surprises} }, "not replayed: $replay->{account}/$replay->{idempotency_key}"
		  unless $again->{replayed} eq 't' && _same($again, $replay);
		return;
	}
	$self->_acknowledge($_) foreach @receipts;
	push @{ $self->{surprises} }, scalar(@receipts) . ' receipts for ' . scalar(@asked) . ' requests'
	  if @asked && @receipts != @asked;
	push @{ $self->{holds} }, map { $_->{hold} } grep { $_->{hold} } @asked;
	return;
}

sub _acknowledge
{
	my ($self, $receipt) = @_;
	my $id = "$receipt->{account}/$receipt->{idempotency_key}";
	return if $self->{undone}{$id};
	push @{ $self->{surprises} }, "acknowledged twice: $id" if $self->{acked}{$id};
	$self->{acked}{$id} = $receipt;
	push @{ $self->{keys} }, $receipt if $receipt->{idempotency_key} =~ /^key-/;
	return;
}

sub _same
{
	my ($one, $other) = @_;
	foreach my $field (@fields)
	{
		my ($a, $b) = ($one->{$field}, $other->{$field});
		return 0
		  unless $field =~ /amount|balance|held/ ? equal_decimals($a, $b) : $a eq $b;
	}
	return 1;
}

# Keep every client busy until $enough says true after an answer, or every
# connection is lost; then let the answers that are under way come in.
sub run
{
	my ($self, $enough) = @_;
	my $stop = 0;
	while (1)
	{
		if (!$stop)
		{
			$self->_start($_) foreach grep { !$_->{asked} && !$_->lost } @{ $self->{clients} };
		}
		my @busy = grep { $_->{asked} } @{ $self->{clients} };
		last unless @busy;
		foreach my $client (Tokenbill::Client->wait_any(@busy))
		{
			$self->_take($client);
			$stop ||= $enough->();
		}
	}
	return;
}

# Ask once more for everything whose answer was lost. Returns how many of them
# turned out to have been done.
sub settle
{
	my ($self, $client) = @_;
	my $done = 0;
	my %pair;
	foreach my $id (sort keys %{ $self->{unknown} })
	{
		my $request = $self->{unknown}{$id};
		my ($sql) = $request->{sql} =~ s/^SELECT /SELECT r.replayed, /r;
		my $answer = $client->query($sql);
		if (my $error = $answer->{error})
		{
			push @{ $self->{surprises} }, "$id asked again: $error->{code} $error->{message}"
			  unless $error->{code} eq 'PT402';
			$pair{ $request->{pair} }{f} = 1 if $request->{pair};
			next;
		}
		my ($receipt) = Tokenbill::Client::hashes($answer);
		$done++ if $receipt->{replayed} eq 't';
		$pair{ $request->{pair} }{ $receipt->{replayed} } = 1 if $request->{pair};
		$self->_acknowledge($receipt);
		push @{ $self->{holds} }, $request->{hold} if $request->{hold};
		# and a third time it is replayed in any case
		my ($third) = Tokenbill::Client::hashes($client->query($sql));
		push @{ $self->{surprises} }, "$id is not replayed" unless $third->{replayed} eq 't' && _same($third, $receipt);
	}
	push @{ $self->{surprises} }, "half of the transaction of $_ was done"
	  foreach grep { keys %{ $pair{$_} } > 1 } sort keys %pair;
	$self->{unknown} = {};
	return $done;
}

# To be called after settle(). except: accounts that others charge too
sub check
{
	my ($self, $client, $when, %opt) = @_;
	my %except = map { $_ => 1 } @{ $opt{except} || [] };
	my (%there, @wrong);
	foreach my $line ($client->rows("SELECT $fields FROM tokenbill.ledger r WHERE r.kind <> 'recharge'"))
	{
		next if $except{ $line->{account} };
		my $id = "$line->{account}/$line->{idempotency_key}";
		push @wrong, "$id is there twice" if $there{$id};
		$there{$id} = $line;
	}
	my %sum;
	foreach my $id (sort keys %{ $self->{acked} })
	{
		my $receipt = $self->{acked}{$id};
		if (!$there{$id})
		{
			push @wrong, "$id was acknowledged and is lost";
		}
		elsif (!_same($there{$id}, $receipt))
		{
			push @wrong, "$id is not what was acknowledged: " . join(' ', map { "$_=$receipt->{$_}/$there{$id}{$_}" } @fields);
		}
		my $account = $receipt->{account};
		$sum{$account} = decimal(0) unless defined $sum{$account};
		$sum{$account}->badd(decimal($receipt->{amount}));
	}
	foreach my $id (sort keys %there)
	{
		push @wrong, "$id is there, and nobody asked for it" unless $self->{acked}{$id};
	}
	foreach my $row ($client->rows('SELECT b.account, b.balance, coalesce(sum(o.amount), 0) AS paid
		FROM tokenbill.balances b LEFT JOIN tokenbill.recharge_orders o USING (account) GROUP BY 1, 2'))
	{
		next if $except{ $row->{account} };
		my $expected = decimal($row->{paid});
		$expected->badd($sum{ $row->{account} }) if defined $sum{ $row->{account} };
		push @wrong, "$row->{account} has $row->{balance}, not $expected" unless equal_decimals($row->{balance}, $expected->bstr);
	}
	push @wrong, @{ $self->{surprises} };
	$self->{surprises} = [];
	is(join("\n", @wrong), '', 'every acknowledged charge is there once, as acknowledged, and nothing else ' . $when);
	return;
}

1;
