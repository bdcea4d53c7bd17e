# What the ledger of an account must look like, worked out from the requests
# that were granted and nothing else, in exact arithmetic.
#
#   my $model = Tokenbill::Model->new;
#   $model->account($name, sandbox => 0, overflow => 'refuse');
#   $model->granted($request, $receipt);   committed, and not replayed
#   $model->replayed($request, $receipt);  committed, and replayed
#   my @wrong = $model->compare($client);  against the server's tables
#
# A request is a hash: function, account, key, and the arguments it was made
# with. It knows nothing of how tokenbill works inside: lines are put in the
# order of the receipts' seq, and each must follow from the one before.
package Tokenbill::Model;

use strict;
use warnings;
use JSON::PP;
use Tokenbill::Server qw(decimal equal_decimals);

sub new
{
	my ($class) = @_;
	return bless {
		account => {},
		line => {},      # account => { seq => { request, receipt } }
		effect => {},    # account/key => receipt
		replay => [],    # [account/key, receipt]
		price => {},     # service/meter => { "unit_price/per" => 1 }
		wrong => [],
	}, $class;
}

sub account
{
	my ($self, $name, %opt) = @_;
	$self->{account}{$name} = {%opt};
	return;
}

sub price
{
	my ($self, $service, $meter, $unit_price, $per) = @_;
	push @{ $self->{price}{"$service/$meter"} }, [ $unit_price, $per ];
	return;
}

sub lines
{
	my ($self) = @_;
	my $count = 0;
	$count += scalar keys %$_ foreach values %{ $self->{line} };
	return $count;
}

sub granted
{
	my ($self, $request, $receipt) = @_;
	my ($account, $seq, $key) = @{$receipt}{qw(account seq idempotency_key)};
	push @{ $self->{wrong} }, "$account line $seq was given to two requests"
	  if $self->{line}{$account}{$seq};
	push @{ $self->{wrong} }, "$account key $key had two effects"
	  if $self->{effect}{"$account/$key"};
	push @{ $self->{wrong} }, "$account key $key is not the key of the request, $request->{key}"
	  if defined $request->{key} && $key ne $request->{key};
	$self->{line}{$account}{$seq} = { request => $request, receipt => $receipt };
	$self->{effect}{"$account/$key"} = $receipt;
	return;
}

sub replayed
{
	my ($self, $request, $receipt) = @_;
	push @{ $self->{replay} }, [ "$receipt->{account}/$receipt->{idempotency_key}", $receipt ];
	return;
}

sub _cost
{
	my ($usage, $rates) = @_;
	my $cost = decimal(0);
	foreach my $meter (keys %$usage)
	{
		next unless $usage->{$meter} > 0;
		my ($unit_price, $per) = split m{/}, $rates->{$meter};
		# per is a power of ten in the tests: nothing has to be divided
		my ($zeros) = $per =~ /^1(0*)(?:\.0*)?$/ or die "per $per is not a power of ten";
		my $unit = decimal('1e-' . length $zeros);
		$cost->badd(decimal($usage->{$meter})->bmul(decimal($unit_price))->bmul($unit));
	}
	return $cost;
}

# The cost of a line that was priced, from its own rates; they must be prices
# that were set at some time
sub _priced
{
	my ($self, $line, $usage) = @_;
	my $rates = $line->{rates} ? decode_json($line->{rates}) : {};
	foreach my $meter (grep { $usage->{$_} > 0 } keys %$usage)
	{
		my $rate = $rates->{$meter};
		if (!defined $rate)
		{
			push @{ $self->{wrong} }, "$line->{account} line $line->{seq} has no rate for $meter";
			return decimal(0);
		}
		my ($unit_price, $per) = split m{/}, $rate;
		push @{ $self->{wrong} }, "$line->{account} line $line->{seq}: $rate was never the price of $meter"
		  unless grep { equal_decimals($_->[0], $unit_price) && equal_decimals($_->[1], $per) }
		  @{ $self->{price}{"$line->{service}/$meter"} || [] };
	}
	return _cost($usage, $rates);
}

sub _left
{
	my ($hold) = @_;
	my $left = $hold->{amount}->copy->bsub($hold->{captured});
	return $left->is_neg ? decimal(0) : $left;
}

# What a line does: amount and the change of held, by what was asked
sub _effect
{
	my ($self, $state, $line, $request) = @_;
	my $kind = $line->{kind};
	my ($amount, $held) = (decimal(0), decimal(0));
	my $sandbox = $self->{account}{ $line->{account} }{sandbox};
	my $price;
	if ($kind eq 'recharge' || $kind eq 'grant' || $kind eq 'refund')
	{
		$amount = decimal($request->{amount}) if defined $request->{amount};
		if ($kind eq 'refund')
		{
			my $charge = $state->{charged}{ $request->{charge_key} };
			$amount = $charge->{amount}->copy->bsub($charge->{refunded}) unless defined $request->{amount};
			$charge->{refunded} = $charge->{refunded}->copy->badd($amount);
			push @{ $self->{wrong} }, "$line->{account} line $line->{seq}: more was refunded than charged"
			  if $charge->{refunded}->bcmp($charge->{amount}) > 0;
		}
	}
	elsif ($kind eq 'charge')
	{
		$price = $request->{usage} ? $self->_priced($line, $request->{usage}) : decimal($request->{amount});
		$amount = $price->copy->bneg;
	}
	elsif ($kind eq 'hold')
	{
		my $wanted = defined $request->{amount} ? decimal($request->{amount}) : $self->_priced($line, $request->{usage});
		$state->{hold}{ $request->{key} } = { amount => $wanted, captured => decimal(0), open => 1, on_expiry => $request->{on_expiry} || 'release' };
		$held = $wanted->copy;
	}
	else
	{
		my $key = $request ? $request->{hold_key} : $line->{ref};
		my $hold = $state->{hold}{ defined $key ? $key : '' };
		if (!$hold || !$hold->{open})
		{
			push @{ $self->{wrong} }, "$line->{account} line $line->{seq}: $kind of a hold that is not open";
			return ($amount, $held);
		}
		my $left = _left($hold);
		if ($kind eq 'extend')
		{
			if (defined $request->{amount})
			{
				$hold->{amount} = decimal($request->{amount});
				$held = _left($hold)->bsub($left);
			}
		}
		elsif ($kind eq 'capture')
		{
			$price = $request->{usage} ? $self->_priced($line, $request->{usage})
			  : defined $request->{amount} ? decimal($request->{amount})
			  : $left->copy;
			$amount = $price->copy->bneg;
			$hold->{captured} = $hold->{captured}->copy->badd($price);
			$hold->{open} = 0 if $request->{final};
			$held = ($hold->{open} ? _left($hold) : decimal(0))->bsub($left);
		}
		elsif ($kind eq 'release' || $kind eq 'expiry')
		{
			$hold->{open} = 0;
			$held = $left->copy->bneg;
			if ($kind eq 'expiry' && $hold->{on_expiry} eq 'charge')
			{
				$amount = $left->copy->bneg;
				$hold->{captured} = $hold->{captured}->copy->badd($left);
			}
		}
		else
		{
			push @{ $self->{wrong} }, "$line->{account} line $line->{seq}: what is $kind?";
		}
	}
	$amount = decimal(0) if $sandbox && $kind =~ /^(charge|capture|expiry)$/;
	if (defined $price && $request && defined $line->{price} && !equal_decimals($line->{price}, $price->bstr))
	{
		push @{ $self->{wrong} }, "$line->{account} line $line->{seq}: price $line->{price}, not " . $price->bstr;
	}
	if ($kind eq 'charge' || $kind eq 'capture')
	{
		$state->{charged}{ $line->{idempotency_key} } = { amount => $amount->copy->bneg, refunded => decimal(0) };
	}
	return ($amount, $held);
}

sub compare
{
	my ($self, $client) = @_;
	my $wrong = $self->{wrong};
	my %contra;
	my %there = map { $_->{account} => $_ } $client->rows('SELECT * FROM tokenbill.balances');
	foreach my $account (sort keys %{ $self->{account} })
	{
		my %state = (balance => decimal(0), held => decimal(0), available => decimal(0), seq => 0,
			credit_limit => 0, hold => {}, charged => {});
		my @times;
		foreach my $line ($client->rows('SELECT * FROM tokenbill.ledger WHERE account = $1 ORDER BY seq', $account))
		{
			my $known = $self->{line}{$account}{ $line->{seq} };
			my $at = "$account line $line->{seq} ($line->{kind})";
			push @$wrong, "$at: seq should be " . ($state{seq} + 1) unless $line->{seq} == $state{seq} + 1;
			$state{seq} = $line->{seq};
			if ($known)
			{
				my $receipt = $known->{receipt};
				$line->{price} = $receipt->{price};
				foreach my $field (qw(kind idempotency_key created_at))
				{
					push @$wrong, "$at: $field is $line->{$field}, the receipt says $receipt->{$field}"
					  if defined $receipt->{$field} && $receipt->{$field} ne $line->{$field};
				}
				foreach my $field (qw(amount balance held))
				{
					push @$wrong, "$at: $field is $line->{$field}, the receipt says $receipt->{$field}"
					  if defined $receipt->{$field} && !equal_decimals($receipt->{$field}, $line->{$field});
				}
			}
			elsif ($line->{kind} ne 'expiry')
			{
				push @$wrong, "$at: nobody asked for it";
				next;
			}
			my ($amount, $held) = $self->_effect(\%state, $line, $known && $known->{request});
			push @$wrong, "$at: amount is $line->{amount}, should be " . $amount->bstr unless equal_decimals($line->{amount}, $amount->bstr);
			$state{balance}->badd($amount);
			$state{held}->badd($held);
			push @$wrong, "$at: balance is $line->{balance}, should be " . $state{balance}->bstr unless equal_decimals($line->{balance}, $state{balance}->bstr);
			push @$wrong, "$at: held is $line->{held}, should be " . $state{held}->bstr unless equal_decimals($line->{held}, $state{held}->bstr);

			# nobody takes what is not there
			my $available = $state{balance}->copy->badd(decimal($line->{credit_limit}))->bsub($state{held});
			my $debt = $known && $known->{request}{debt}
			  || $line->{kind} eq 'capture' && $self->{account}{$account}{overflow} eq 'debt';
			if (!$debt && $available->is_neg && $available->bcmp($state{available}) < 0
				&& equal_decimals($line->{credit_limit}, $state{credit_limit}))
			{
				push @$wrong, "$at: available fell to " . $available->bstr . ' without leave';
			}
			if (!$debt && $line->{kind} =~ /^(charge|hold)$/ && $available->is_neg)
			{
				push @$wrong, "$at: available is " . $available->bstr . ' after it';
			}
			if ($known && defined $known->{receipt}{available} && !equal_decimals($known->{receipt}{available}, $available->bstr))
			{
				push @$wrong, "$at: available is " . $available->bstr . ", the receipt says $known->{receipt}{available}";
			}
			$state{available} = $available;
			$state{credit_limit} = $line->{credit_limit};
			$contra{ $line->{contra} } = decimal(0) unless defined $contra{ $line->{contra} };
			$contra{ $line->{contra} }->bsub($amount);
			push @times, [ $line->{created_at}, $state{balance}->bstr ];
		}
		foreach my $seq (sort { $a <=> $b } keys %{ $self->{line}{$account} })
		{
			push @$wrong, "$account line $seq was granted and is lost" if $seq > $state{seq};
		}
		push @$wrong, "$account has $there{$account}{balance}, should have " . $state{balance}->bstr
		  unless equal_decimals($there{$account}{balance}, $state{balance}->bstr);
		push @$wrong, "$account holds $there{$account}{held}, should hold " . $state{held}->bstr
		  unless equal_decimals($there{$account}{held}, $state{held}->bstr);
		foreach my $hold ($client->rows('SELECT * FROM tokenbill.holds WHERE account = $1', $account))
		{
			my $own = $state{hold}{ $hold->{hold_key} };
			push @$wrong, "$account hold $hold->{hold_key} was never made" and next unless $own;
			push @$wrong, "$account hold $hold->{hold_key} is $hold->{status}"
			  if ($hold->{status} eq 'held') != ($own->{open} ? 1 : 0);
			push @$wrong, "$account hold $hold->{hold_key}: captured $hold->{captured}, should be " . $own->{captured}->bstr
			  unless equal_decimals($hold->{captured}, $own->{captured}->bstr);
		}

		# balance_at() at the time of some lines: the last line of that moment
		foreach (1 .. 5)
		{
			my $time = $times[ rand @times ][0];
			my ($balance) = map { $_->[1] } grep { $_->[0] eq $time } reverse @times;
			my $got = $client->value('SELECT tokenbill.balance_at($1, $2)', $account, $time);
			push @$wrong, "balance_at($account, $time) is $got, not $balance" unless equal_decimals($got, $balance);
		}
	}
	foreach my $row ($client->rows("SELECT ledger_account, sum(amount) AS amount FROM tokenbill.trial_balance WHERE ledger_account NOT LIKE 'customers%' GROUP BY 1"))
	{
		push @$wrong, "trial balance: $row->{ledger_account} has $row->{amount}"
		  unless defined $contra{ $row->{ledger_account} } && equal_decimals($row->{amount}, $contra{ $row->{ledger_account} }->bstr);
	}
	foreach my $replay (@{ $self->{replay} })
	{
		my ($id, $receipt) = @$replay;
		my $first = $self->{effect}{$id};
		if (!$first)
		{
			push @$wrong, "$id was replayed before it was done";
			next;
		}
		foreach my $field (qw(seq created_at))
		{
			push @$wrong, "$id replayed with another $field" if $receipt->{$field} ne $first->{$field};
		}
		foreach my $field (qw(amount balance available))
		{
			push @$wrong, "$id replayed with another $field: $receipt->{$field}, was $first->{$field}" unless equal_decimals($receipt->{$field}, $first->{$field});
		}
	}
	return @$wrong;
}

1;
