# Which credits pay, worked out from the requests that were granted and nothing
# else, in whole thousandths. It knows nothing of how tokenbill works inside: it
# takes the lines of the ledger in order, works out what each must have done by
# what was asked and by docs/credits.md, and says where the ledger differs.
#
#   my $model = Tokenbill::CreditModel->new;
#   $model->account($name, credit_limit => 0, overflow => 'refuse', sandbox => 0);
#   $model->order_from($epoch, [ qw(priority expiry) ]);  the burn order from then on
#   $model->granted($account, $key, { ... });             committed, not replayed
#   my @wrong = $model->compare($client);
#
# A request is a hash of the arguments it was made with; times are in seconds.
package Tokenbill::CreditModel;

use strict;
use warnings;
use Exporter qw(import);
use JSON::PP;

our @EXPORT_OK = qw(units amount);

sub new
{
	my ($class) = @_;
	return bless { account => {}, request => {}, order => [], wrong => [], seen => {} }, $class;
}

# '1.50' => 1500
sub units
{
	my ($text) = @_;
	my ($sign, $whole, $part) = $text =~ /^(-?)(\d+)(?:\.(\d+))?$/ or die "not an amount: $text";
	$part = '' unless defined $part;
	$part =~ s/0+$//;
	die "finer than a thousandth: $text" if length $part > 3;
	my $result = $whole * 1000 + substr($part . '000', 0, 3);
	return $sign ? -$result : $result;
}

# 1500 => '1.500'
sub amount
{
	my ($units) = @_;
	return sprintf('%s%d.%03d', $units < 0 ? '-' : '', int(abs($units) / 1000), abs($units) % 1000);
}

sub account
{
	my ($self, $name, %opt) = @_;
	$self->{account}{$name} = {%opt};
	return;
}

sub order_from
{
	my ($self, $epoch, $keys) = @_;
	push @{ $self->{order} }, [ $epoch, $keys ];
	return;
}

sub granted
{
	my ($self, $account, $key, $request) = @_;
	push @{ $self->{wrong} }, "$account: key $key had two effects" if $self->{request}{$account}{$key};
	$self->{request}{$account}{$key} = $request;
	return;
}

# How often something came up, so that a run that shows nothing is noticed
sub seen { return $_[0]{seen}{ $_[1] } || 0; }

sub _min { return $_[0] < $_[1] ? $_[0] : $_[1]; }

sub _max { return $_[0] > $_[1] ? $_[0] : $_[1]; }

sub _free { return $_[0]{remaining} - $_[0]{reserved}; }

sub _in_scope
{
	my ($credit, $service) = @_;
	return 1 unless $credit->{scope};
	return 0 unless defined $service;
	return scalar grep { /^(.*)\*$/ ? index($service, $1) == 0 : $_ eq $service } @{ $credit->{scope} };
}

sub _usable
{
	my ($credit, $service, $now) = @_;
	return ($now < $credit->{expires_at}) && ($now >= $credit->{effective_at}) && _in_scope($credit, $service);
}

sub _plain_free
{
	my ($s) = @_;
	my $free = $s->{balance} - $s->{held};
	$free -= _free($_) foreach values %{ $s->{credit} };
	return $free;
}

sub _spendable
{
	my ($s, $service, $now) = @_;
	my $result = $s->{balance} + $s->{credit_limit} - $s->{held};
	$result -= _free($_) foreach grep { !_usable($_, $service, $now) } values %{ $s->{credit} };
	return $result;
}

my %compare = (
	priority => sub { $_[0]{priority} <=> $_[1]{priority} },
	expiry => sub { $_[0]{expires_at} <=> $_[1]{expires_at} },
	promotional => sub { $_[1]{promotional} <=> $_[0]{promotional} },
	paid => sub { $_[0]{promotional} <=> $_[1]{promotional} },
	cost_basis => sub { $_[0]{cost_basis} <=> $_[1]{cost_basis} },
	effective => sub { $_[0]{effective_at} <=> $_[1]{effective_at} },
	oldest => sub { $_[0]{seq} <=> $_[1]{seq} },
	newest => sub { $_[1]{seq} <=> $_[0]{seq} },
	smallest => sub { $_[0]{remaining} <=> $_[1]{remaining} },
	largest => sub { $_[1]{remaining} <=> $_[0]{remaining} },);

# Who pays so much: [credit key or undef, units], ...
sub _payers
{
	my ($self, $s, $service, $now, $units) = @_;
	my ($keys) = map { $_->[1] } grep { $_->[0] <= $now } reverse @{ $self->{order} };
	my @line = (
		{ remaining => _plain_free($s), reserved => 0, priority => 50, promotional => 0, cost_basis => 1, seq => 0, expires_at => 9**15, effective_at => 0 },
		grep { _usable($_, $service, $now) } values %{ $s->{credit} });
	@line = sort {
		my $result = 0;
		foreach my $key (@$keys, 'oldest')
		{
			$result ||= $compare{$key}->($a, $b);
		}
		$result
	} @line;
	my @parts;
	foreach my $payer (@line)
	{
		my $taken = _min(_free($payer), $units);
		next unless $taken > 0;
		push @parts, [ $payer->{key}, $taken ];
		$units -= $taken;
	}
	push @parts, [ undef, $units ] if $units > 0;
	return _joined(@parts);
}

# Neighbours of one payer are one part
sub _joined
{
	my @parts;
	foreach my $part (grep { $_->[1] > 0 } @_)
	{
		if (@parts && ($parts[-1][0] // '') eq ($part->[0] // ''))
		{
			$parts[-1][1] += $part->[1];
		}
		else
		{
			push @parts, [@$part];
		}
	}
	return @parts;
}

sub _text
{
	my @parts = @_;
	# lines without a credit among those who paid keep nothing
	return '' unless grep { defined $_->[0] } @parts;
	return join(', ', map { ($_->[0] // 'plain') . ' ' . amount($_->[1]) } @parts);
}

my $json = JSON::PP->new->allow_bignum;

sub _said
{
	my ($text) = @_;
	return '' unless defined $text;
	return join(', ', map { ($_->{credit} // 'plain') . ' ' . amount(units("$_->{amount}")) } @{ $json->decode($text) });
}

sub _left
{
	my ($hold) = @_;
	return _max($hold->{amount} - $hold->{captured}, 0);
}

# A capture: what the hold has reserved first, then what is free
sub _capture
{
	my ($self, $s, $hold, $service, $now, $price, $final) = @_;
	my $left = _left($hold);
	my ($needed, @burned, @rest) = ($price);
	foreach my $part (@{ $hold->{parts} })
	{
		my $good = !defined $part->[0] || _in_scope($s->{credit}{ $part->[0] }, $service);
		my $taken = $good ? _min($part->[1], $needed) : 0;
		push @burned, [ $part->[0], $taken ];
		push @rest, [ $part->[0], $part->[1] - $taken ];
		$needed -= $taken;
	}
	my @more = $needed > 0 ? $self->_payers($s, $service, $now, $needed) : ();
	$self->{seen}{'capture beyond what was reserved'}++ if @more && $needed < $price;
	foreach my $part (grep { defined $_->[0] } @burned)
	{
		$s->{credit}{ $part->[0] }{reserved} -= $part->[1];
		$s->{credit}{ $part->[0] }{remaining} -= $part->[1] unless $s->{sandbox};
	}
	foreach my $part (grep { defined $_->[0] } @more)
	{
		$s->{credit}{ $part->[0] }{remaining} -= $part->[1] unless $s->{sandbox};
	}
	my $gone = $final ? $left : _min($price, $left) - ($price - $needed);
	my @kept;
	foreach my $part (@rest)
	{
		my $freed = _min($part->[1], $gone);
		$gone -= $freed;
		$s->{credit}{ $part->[0] }{reserved} -= $freed if defined $part->[0];
		push @kept, [ $part->[0], $part->[1] - $freed ];
	}
	$hold->{parts} = [ _joined(@kept) ];
	$s->{held} -= $final ? $left : _min($price, $left);
	$hold->{captured} += $price;
	$hold->{open} = 0 if $final;
	return _joined(@burned, @more);
}

# What a line does to its account; returns amount and who paid or got it back
sub _line
{
	my ($self, $s, $line, $request) = @_;
	my ($kind, $now) = ($line->{kind}, $line->{epoch});
	my $wrong = sub { push @{ $self->{wrong} }, "$line->{account} line $line->{seq} ($kind): @_"; };
	if ($kind eq 'expiry' && $line->{idempotency_key} =~ /^tokenbill:credit_expiry:/)
	{
		my $credit = $s->{credit}{ $line->{ref} };
		$wrong->('expires what is no credit') and return (0) unless $credit;
		my $free = _free($credit);
		$wrong->('expires a credit whose time is not over') if $now < $credit->{expires_at};
		$wrong->('expires nothing') unless $free > 0;
		$self->{seen}{ $credit->{expired}++ ? 'expired again' : 'expired' }++;
		$self->{seen}{'expired but for what was reserved'}++ if $credit->{reserved} > 0;
		$credit->{remaining} = $credit->{reserved};
		$credit->{state} = 'expired' if $credit->{remaining} == 0;
		return (-$free);
	}
	# every movement has expired what was to be, before it was judged
	foreach my $credit (values %{ $s->{credit} })
	{
		$wrong->("$credit->{key} should have expired before") if $credit->{expires_at} <= $now && _free($credit) > 0;
	}

	return (units($line->{amount})) if $kind eq 'recharge';
	if ($kind eq 'grant')
	{
		my $units = units($request->{amount});
		$s->{credit}{ $line->{idempotency_key} } = {
			key => $line->{idempotency_key}, seq => $line->{seq}, remaining => $units, reserved => 0, scope => $request->{scope},
			priority => $request->{priority} // 50, promotional => ($request->{category} // 'promotional') eq 'promotional' ? 1 : 0,
			cost_basis => $request->{cost_basis} // (($request->{category} // 'promotional') eq 'promotional' ? 0 : 1),
			effective_at => $request->{effective_at} // $now, expires_at => $request->{expires_at} // 9**15, state => 'open' }
		  if grep { defined $request->{$_} } qw(expires_at effective_at priority scope category cost_basis);
		return ($units);
	}
	if ($kind eq 'charge')
	{
		my $price = units($request->{amount});
		my $spendable = _spendable($s, $request->{service}, $now);
		$wrong->('took ' . amount($price) . ' of ' . amount($spendable)) if $price > $spendable && !$request->{debt};
		my @parts = $self->_payers($s, $request->{service}, $now, $price);
		foreach my $part (grep { defined $_->[0] } @parts)
		{
			$s->{credit}{ $part->[0] }{remaining} -= $part->[1] unless $s->{sandbox};
		}
		$self->{seen}{'paid by several'}++ if @parts > 1;
		$self->{seen}{debt}++ if $price > $spendable;
		$s->{charged}{ $line->{idempotency_key} } = { parts => \@parts, price => $price, refunded => 0 };
		return ($s->{sandbox} ? 0 : -$price, @parts);
	}
	if ($kind eq 'refund')
	{
		my $charge = $s->{charged}{ $request->{charge_key} };
		$wrong->('refunds what was not charged') and return (0) unless $charge;
		my $units = defined $request->{amount} ? units($request->{amount}) : $charge->{price} - $charge->{refunded};
		my ($skip, $todo, @back) = ($charge->{refunded}, $units);
		foreach my $part (reverse @{ $charge->{parts} })
		{
			my $skipped = _min($skip, $part->[1]);
			my $taken = _min($part->[1] - $skipped, $todo);
			$skip -= $skipped;
			$todo -= $taken;
			push @back, [ $part->[0], $taken ];
			next unless defined $part->[0] && $taken > 0 && !$s->{sandbox};
			my $credit = $s->{credit}{ $part->[0] };
			$self->{seen}{'refund to one whose time is over'}++ if $credit->{expires_at} <= $now;
			$self->{seen}{'refund to one that was spent'}++ if $credit->{remaining} == 0;
			$credit->{remaining} += $taken;
		}
		$charge->{refunded} += $units;
		$wrong->('more than was charged') if $charge->{refunded} > $charge->{price};
		return ($s->{sandbox} ? 0 : $units, _joined(@back));
	}
	if ($kind eq 'hold')
	{
		my $units = units($request->{amount});
		$wrong->('holds more than there is') if $units > _spendable($s, $request->{service}, $now);
		my @parts = $self->_payers($s, $request->{service}, $now, $units);
		foreach my $part (grep { defined $_->[0] } @parts)
		{
			$s->{credit}{ $part->[0] }{reserved} += $part->[1];
			$self->{seen}{'reserved by a hold'}++;
		}
		$s->{held} += $units;
		$s->{hold}{ $line->{idempotency_key} } = {
			amount => $units, captured => 0, open => 1, service => $request->{service}, on_expiry => $request->{on_expiry} // 'release',
			expires_at => $now + $request->{ttl}, parts => \@parts };
		return (0);
	}

	my $hold = $s->{hold}{ $line->{ref} };
	$wrong->('of a hold that is not open') and return (0) unless $hold && $hold->{open};
	my $left = _left($hold);
	my $overdue = $hold->{expires_at} <= $now;
	if ($kind eq 'extend')
	{
		$wrong->('of a hold that is over') if $overdue;
		my $total = defined $request->{amount} ? units($request->{amount}) : $hold->{amount};
		my $more = _max($total - $hold->{captured}, 0) - $left;
		$wrong->('holds more than there is') if $more > 0 && $more > _spendable($s, $hold->{service}, $now);
		my @parts = $more > 0 ? $self->_payers($s, $hold->{service}, $now, $more) : ();
		foreach my $part (grep { defined $_->[0] } @parts)
		{
			$s->{credit}{ $part->[0] }{reserved} += $part->[1];
		}
		$hold->{parts} = [ _joined(@{ $hold->{parts} }, @parts) ];
		$hold->{amount} = $total;
		$hold->{expires_at} = $now + $request->{ttl} if defined $request->{ttl};
		$s->{held} += $more;
		return (0);
	}
	if ($kind eq 'capture')
	{
		$wrong->('of a hold that is over') if $overdue;
		my $price = defined $request->{amount} ? units($request->{amount}) : $left;
		my $service = $request->{service} // $hold->{service};
		$wrong->('takes more than is held') if $price > $left && $s->{overflow} ne 'debt';
		my $usable = 0;
		foreach my $part (@{ $hold->{parts} })
		{
			$usable += $part->[1] if !defined $part->[0] || _in_scope($s->{credit}{ $part->[0] }, $service);
		}
		$wrong->('takes what is for other services') if $price - $usable > _max(_spendable($s, $service, $now), 0) && $s->{overflow} ne 'debt';
		$self->{seen}{'capture for another service'}++ if $usable < $left;
		my @parts = $self->_capture($s, $hold, $service, $now, $price, $request->{final});
		$s->{charged}{ $line->{idempotency_key} } = { parts => \@parts, price => $price, refunded => 0 };
		return ($s->{sandbox} ? 0 : -$price, @parts);
	}
	if ($kind eq 'expiry' && $hold->{on_expiry} eq 'charge')
	{
		$wrong->('of a hold that is not over') unless $overdue;
		my @parts = $self->_capture($s, $hold, $hold->{service}, $now, $left, 1);
		return ($s->{sandbox} ? 0 : -$left, @parts);
	}
	if ($kind eq 'release' || $kind eq 'expiry')
	{
		$wrong->('of a hold that is not over') if $kind eq 'expiry' && !$overdue;
		foreach my $part (grep { defined $_->[0] } @{ $hold->{parts} })
		{
			$s->{credit}{ $part->[0] }{reserved} -= $part->[1];
		}
		$hold->{parts} = [];
		$hold->{open} = 0;
		$s->{held} -= $left;
		return (0);
	}
	$wrong->('what is it?');
	return (0);
}

sub _account
{
	my ($self, $client, $name) = @_;
	my $wrong = $self->{wrong};
	my %s = (%{ $self->{account}{$name} }, balance => 0, held => 0, credit => {}, hold => {}, charged => {});
	my %todo = map { $_ => 1 } keys %{ $self->{request}{$name} };
	foreach my $line ($client->rows(<<'SQL', $name))
SELECT s.account, s.seq, s.kind, s.amount, s.balance, s.held, s.idempotency_key, s.ref, s.burned, s.returned,
	extract(epoch FROM s.created_at)::bigint AS epoch
FROM tokenbill.statement s WHERE s.account = $1 ORDER BY s.seq
SQL
	{
		my $request = $self->{request}{$name}{ $line->{idempotency_key} };
		my $at = "$name line $line->{seq} ($line->{kind})";
		push @$wrong, "$at: nobody asked for it" and next unless $request || $line->{kind} eq 'expiry';
		delete $todo{ $line->{idempotency_key} };
		my ($units, @parts) = $self->_line(\%s, $line, $request);
		$s{balance} += $units;
		push @$wrong, "$at: amount is $line->{amount}, not " . amount($units) unless units($line->{amount}) == $units;
		push @$wrong, "$at: balance is $line->{balance}, not " . amount($s{balance}) unless units($line->{balance}) == $s{balance};
		push @$wrong, "$at: held is $line->{held}, not " . amount($s{held}) unless units($line->{held}) == $s{held};
		my $said = _said($line->{burned} // $line->{returned});
		push @$wrong, "$at: says '$said', not '" . _text(@parts) . "'" unless $said eq _text(@parts);
		foreach my $credit (values %{ $s{credit} })
		{
			push @$wrong, "$at: $credit->{key} has " . amount($credit->{remaining}) . ', reserved ' . amount($credit->{reserved})
			  if $credit->{reserved} < 0 || $credit->{remaining} < $credit->{reserved};
			if ($credit->{remaining} > 0)
			{
				$credit->{state} = 'open';
			}
			elsif ($credit->{state} eq 'open')
			{
				$credit->{state} = 'spent';
			}
		}
	}
	push @$wrong, "$name: $_ was granted and is lost" foreach sort keys %todo;

	my %there = map { $_->{credit_key} => $_ } $client->rows('SELECT * FROM tokenbill.credits WHERE account = $1', $name);
	push @$wrong, "$name: credit $_ should not be there" foreach grep { !$s{credit}{$_} } sort keys %there;
	foreach my $credit (values %{ $s{credit} })
	{
		my $row = $there{ $credit->{key} };
		push @$wrong, "$name: credit $credit->{key} is not there" and next unless $row;
		push @$wrong, "$name: $credit->{key} has $row->{remaining}/$row->{reserved} $row->{status}, not "
		  . amount($credit->{remaining}) . '/' . amount($credit->{reserved}) . " $credit->{state}"
		  unless units($row->{remaining}) == $credit->{remaining} && units($row->{reserved}) == $credit->{reserved} && $row->{status} eq $credit->{state};
	}
	foreach my $row ($client->rows("SELECT hold_key, reserved FROM tokenbill.hold WHERE account = \$1 AND status = 'held'", $name))
	{
		my $said = _said($row->{reserved});
		my $own = _text(@{ $s{hold}{ $row->{hold_key} }{parts} });
		push @$wrong, "$name: hold $row->{hold_key} reserves '$said', not '$own'" unless $said eq $own;
	}
	return;
}

sub compare
{
	my ($self, $client) = @_;
	$self->_account($client, $_) foreach sort keys %{ $self->{account} };
	return @{ $self->{wrong} };
}

1;
