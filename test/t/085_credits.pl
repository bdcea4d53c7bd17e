# Credits at random, by many clients at once: grants of every kind, charges,
# holds, captures, refunds and expiries, some in transactions that are rolled
# back, in rounds of an hour each, so that credits expire between two rounds and
# to the moment. The burn order is another in each round. Then every line is
# worked out anew (Tokenbill::CreditModel): who paid, who got it back, what
# expired.
#
# TB_SEED repeats the requests, if not the way they meet; TB_CREDIT_ROUNDS says
# how many rounds there are.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use POSIX qw(strftime);
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::CreditModel qw(units amount);
use Tokenbill::Server qw(seed decimal);

seed();
my $rounds = $ENV{TB_CREDIT_ROUNDS} || 50;
my $requests_a_round = 100;
my $begin = 1772366400;    # 2026-03-01 12:00 UTC
my $hour = 3600;

my $server = Tokenbill::Server->new('main');
$server->begin;
my $admin = $server->client(name => 'admin');
my $model = Tokenbill::CreditModel->new;

my %accounts = (
	ann => {}, ben => { credit_limit => 2 }, dan => { overflow => 'debt' }, box => { sandbox => 1 });
my @names = sort keys %accounts;
my @services = (undef, 'gpt-5', 'gpt-5-mini', 'claude', 'img-1');
my @scopes = ([qw(gpt-*)], [qw(claude)], [qw(gpt-5 img-*)]);

sub pick { return $_[ rand @_ ]; }

sub chance { return rand() < $_[0]; }

sub moment { return strftime('%Y-%m-%d %H:%M:%S+00', gmtime($_[0])); }

sub some_amount { return amount(1 + int(rand($_[0] * 1000))); }

my $now = $begin;
$admin->rows("SET tokenbill.clock = '" . moment($now) . "'");
foreach my $name (@names)
{
	my $account = $accounts{$name};
	$model->account($name, credit_limit => units($account->{credit_limit} || '0'), overflow => $account->{overflow} || 'refuse', sandbox => $account->{sandbox} || 0);
	$admin->rows('SELECT tokenbill.create_account($1, credit_limit => $2, sandbox => $3)', $name, $account->{credit_limit} || 0, $account->{sandbox} ? 't' : 'f');
	$admin->rows("SELECT tokenbill.set_account_policy(\$1, overflow => 'debt')", $name) if $account->{overflow};
	$admin->rows("SELECT tokenbill.recharge(\$1, 3, 'first-' || \$1)", $name);
	$model->granted($name, "tokenbill:order:first-$name", {});
}
# as autovacuum would: with so few accounts, plans scan the table
$admin->rows('ANALYZE tokenbill.account');
$admin->rows("SELECT tokenbill.set_burn_order('$_->[0]', '{$_->[1]}')")
  foreach [ large_first => 'largest' ], [ paid_first => 'paid,newest' ], [ soon => 'effective,smallest,expiry' ];
my %orders = map { $_->{name} => [ split /,/, $_->{keys} =~ tr/{}//dr ] } $admin->rows('SELECT name, keys FROM tokenbill.burn_orders');
cmp_ok(scalar keys %orders, '>=', 12, 'there are burn orders');

# ---- what is known of the past
my (%open, %charged, %count, %denied, @wrong);
my $number = 0;

# A request: account, key, what the model needs of it, and the statement
sub request
{
	my ($function, $account, $key, $known, @arguments) = @_;
	my (@parts, @values);
	while (my ($name, $value) = splice(@arguments, 0, 2))
	{
		next unless defined $value;
		push @values, $value;
		push @parts, "$name => \$" . @values;
	}
	return {
		function => $function, account => $account, key => $key, known => $known,
		sql => "SELECT * FROM tokenbill.$function(" . join(', ', @parts) . ')', params => \@values };
}

my %build = (
	grant_credit => sub {
		my ($account) = @_;
		my $key = 'g' . ++$number;
		my %known = (amount => some_amount(1.5));
		# whole hours: some expire just when a round begins
		$known{expires_at} = $now + $hour * (1 + int(rand(5))) if chance(0.7);
		$known{effective_at} = $now + $hour * (int(rand(3)) - 1) if chance(0.25);
		delete $known{effective_at} if defined $known{expires_at} && ($known{effective_at} // 0) >= $known{expires_at};
		$known{priority} = pick(10, 20, 60) if chance(0.4);
		$known{category} = pick('promotional', 'paid') if chance(0.4);
		delete $known{category} if keys %known == 2 && ($known{category} // '') eq 'paid';
		$known{scope} = pick(@scopes) if chance(0.4);
		$known{cost_basis} = pick('0', '0.5', '1') if chance(0.2);
		return request('grant_credit', $account, $key, \%known, account => $account, amount => $known{amount}, idempotency_key => $key,
			expires_at => defined $known{expires_at} ? moment($known{expires_at}) : undef,
			effective_at => defined $known{effective_at} ? moment($known{effective_at}) : undef,
			priority => $known{priority}, category => $known{category}, cost_basis => $known{cost_basis},
			scope => $known{scope} ? '{' . join(',', @{ $known{scope} }) . '}' : undef);
	},
	recharge => sub {
		my ($account) = @_;
		my $order = 'o' . ++$number;
		return request('recharge', $account, "tokenbill:order:$order", {}, account => $account, amount => some_amount(1), order_no => $order);
	},
	charge_amount => sub {
		my ($account) = @_;
		my $key = 'c' . ++$number;
		my %known = (amount => some_amount(1.5), service => pick(@services), debt => $account =~ /^(ben|dan)$/ && chance(0.25));
		return request('charge_amount', $account, $key, \%known, account => $account, amount => $known{amount}, idempotency_key => $key,
			service => $known{service}, on_insufficient => $known{debt} ? 'debt' : undef);
	},
	hold => sub {
		my ($account) = @_;
		my $key = 'h' . ++$number;
		my %known = (amount => some_amount(1), service => pick(@services), ttl => $hour * (1 + int(rand(4))), on_expiry => chance(0.4) ? 'charge' : undef);
		return request('hold', $account, $key, \%known, account => $account, amount => $known{amount}, idempotency_key => $key, service => $known{service},
			ttl => "$known{ttl} seconds", on_expiry => $known{on_expiry});
	},
	extend_hold => sub {
		my ($account) = @_;
		my $hold = pick(@{ $open{$account} || [] }) or return;
		my $key = 'e' . ++$number;
		my %known = (amount => some_amount(2), ttl => chance(0.3) ? 2 * $hour : undef);
		return request('extend_hold', $account, $key, \%known, account => $account, hold_key => $hold, amount => $known{amount},
			ttl => defined $known{ttl} ? "$known{ttl} seconds" : undef, idempotency_key => $key);
	},
	capture => sub {
		my ($account) = @_;
		my $hold = pick(@{ $open{$account} || [] }) or return;
		my $key = 'p' . ++$number;
		my %known = (amount => chance(0.15) ? undef : some_amount($account eq 'dan' ? 1.5 : 0.5), final => chance(0.5) ? 1 : 0, service => chance(0.45) ? pick(@services) : undef);
		return request('capture', $account, $key, \%known, account => $account, hold_key => $hold, amount => $known{amount}, idempotency_key => $key,
			final => $known{final} ? 't' : 'f', service => $known{service});
	},
	release => sub {
		my ($account) = @_;
		my $hold = pick(@{ $open{$account} || [] }) or return;
		return request('release', $account, "tokenbill:release:$hold", {}, account => $account, hold_key => $hold);
	},
	refund => sub {
		my ($account) = @_;
		my $charge = pick(@{ $charged{$account} || [] }) or return;
		my $key = 'r' . ++$number;
		my %known = (charge_key => $charge, amount => chance(0.7) ? some_amount(0.6) : undef);
		return request('refund', $account, $key, \%known, account => $account, charge_key => $charge, idempotency_key => $key, amount => $known{amount});
	},
	explain_burn => sub {
		my ($account) = @_;
		return request('explain_burn', $account, undef, undef, account => $account, amount => some_amount(3), service => pick(@services));
	},
	expire_credits => sub {
		my ($account) = @_;
		return request('expire_credits', $account, undef, undef, account => $account, max => pick(1, 2, 1000));
	},
	expire_holds => sub {
		my ($account) = @_;
		return request('expire_holds', $account, undef, undef, account => $account);
	},
	verify_ledger => sub {
		my ($account) = @_;
		return request('verify_ledger', $account, undef, undef, account => $account);
	},);
my @dice = map { ($_->[0]) x $_->[1] } [ grant_credit => 16 ], [ recharge => 5 ], [ charge_amount => 30 ], [ hold => 14 ], [ extend_hold => 6 ], [ capture => 18 ],
  [ release => 3 ], [ refund => 10 ], [ explain_burn => 3 ], [ expire_credits => 2 ], [ expire_holds => 2 ], [ verify_ledger => 1 ];

sub request_for
{
	my ($account) = @_;
	while (1)
	{
		my $request = $build{ pick(@dice) }->($account);
		return $request if $request;
	}
}

# One request, or several of one account in a transaction
sub work
{
	my $account = pick(@names);
	return { todo => [ request_for($account) ] } if chance(0.7);
	return { todo => [ map { request_for($account) } 1 .. 2 + int(rand(3)) ], end => chance(0.6) ? 'COMMIT' : 'ROLLBACK', begin => 1 };
}

sub check_error
{
	my ($request, $error) = @_;
	my $state = $error->{code};
	my $said = "$request->{function} on $request->{account}: $state $error->{message} " . ($error->{detail} // '');
	$denied{$state}++;
	if ($state eq 'PT402')
	{
		my $detail = JSON::PP->new->allow_bignum->decode($error->{detail});
		push @wrong, $said unless decimal("$detail->{required}")->bsub("$detail->{available}")->bcmp("$detail->{shortfall}") == 0;
		$denied{'PT402 with credits for something else'}++ if ($detail->{unusable} // 0) > 0;
	}
	# a hold that is over, a total that is smaller, a refund of more than is left
	push @wrong, $said unless $state eq 'PT402' || $state eq 'PT409';
	return;
}

sub committed
{
	my ($request, $answer) = @_;
	my ($function, $account) = @{$request}{qw(function account)};
	my @rows = Tokenbill::Client::hashes($answer);
	$count{$function}++;
	push @wrong, "verify_ledger() found " . encode_json(\@rows) if $function eq 'verify_ledger' && @rows;
	return unless $request->{known};
	return if $rows[0]{replayed} eq 't';
	$model->granted($account, $request->{key}, $request->{known});
	push @{ $open{$account} }, $request->{key} if $function eq 'hold';
	push @{ $charged{$account} }, $request->{key} if $function eq 'charge_amount' || $function eq 'capture' && $rows[0]{amount} != 0;
	if ($function eq 'release' || $request->{known}{final})
	{
		# some are kept, to ask for what is over
		my $hold = $rows[0]{hold_key};
		$open{$account} = [ grep { $_ ne $hold || chance(0.1) } @{ $open{$account} } ];
	}
	return;
}

# ---- the run
my @clients = map { $server->client(name => "client $_") } 1 .. 8;

sub next_statement
{
	my ($c, $budget) = @_;
	if (!$c->{work})
	{
		return 0 if $$budget <= 0;
		$c->{work} = work();
		$$budget -= @{ $c->{work}{todo} };
	}
	my $work = $c->{work};
	$c->{asking} = undef;
	if (delete $work->{begin})
	{
		$c->send('BEGIN');
	}
	elsif (my $request = shift @{ $work->{todo} })
	{
		$c->{asking} = $request;
		$c->send($request->{sql}, @{ $request->{params} });
	}
	else
	{
		$work->{ending} = 1;
		$c->send($work->{end});
	}
	return 1;
}

sub answered
{
	my ($c) = @_;
	my $answer = $c->result;
	my $work = $c->{work};
	my $request = $c->{asking};
	BAIL_OUT("$c->{name} lost its connection: the server has crashed") if $answer->{lost};
	if (my $error = $answer->{error})
	{
		if ($request)
		{
			check_error($request, $error);
		}
		else
		{
			push @wrong, "$error->{code} $error->{message} at the end of a transaction";
		}
		# what came before it in the transaction is undone with it
		$work->{done} = [];
		$work->{todo} = [];
		$work->{end} = 'ROLLBACK' if $work->{end};
		$c->{work} = undef unless $work->{end};
		return;
	}
	push @{ $work->{done} }, [ $request, $answer ] if $request;
	if ($work->{ending} || !$work->{end})
	{
		committed(@$_) foreach $work->{end} && $work->{end} eq 'ROLLBACK' ? () : @{ $work->{done} };
		$c->{work} = undef;
	}
	return;
}

my @order_names = sort keys %orders;
foreach my $round (1 .. $rounds)
{
	$now += $hour;
	my $order = pick(@order_names);
	$model->order_from($now, $orders{$order});
	foreach my $c (@clients)
	{
		$c->rows("SET tokenbill.clock = '" . moment($now) . "'");
		$c->rows("SET tokenbill.burn_order = '$order'");
	}
	my $budget = $requests_a_round;
	while (1)
	{
		foreach my $c (grep { !$_->{waiting} } @clients)
		{
			$c->{waiting} = next_statement($c, \$budget);
		}
		my @waiting = grep { $_->{waiting} } @clients;
		last unless @waiting;
		foreach my $c (Tokenbill::Client->wait_any(@waiting))
		{
			$c->{waiting} = 0;
			answered($c);
		}
	}
	foreach my $name (@names)
	{
		$open{$name} = [ grep { chance(0.75) } @{ $open{$name} || [] } ];
		$charged{$name} = [ grep { chance(0.9) } @{ $charged{$name} || [] } ];
	}
}
note(join(', ', map { "$_ $count{$_}" } sort keys %count));
note('refused: ' . join(', ', map { "$_ $denied{$_}" } sort keys %denied));

is(join("\n", @wrong), '', 'every answer was one that may be given');
is_deeply([ grep { !$count{$_} } keys %build ], [], 'every function was granted something');
is_deeply([ grep { !$denied{$_} } 'PT402', 'PT409', 'PT402 with credits for something else' ], [], 'every refusal came up');
$admin->rows("SET tokenbill.clock = '" . moment($now) . "'");
$admin->rows('SELECT tokenbill.expire_credits()');
my @differences = $model->compare($admin);
is(scalar @differences, 0, 'who paid and what is left is what was worked out anew')
  or diag(join("\n", @differences[ 0 .. ($#differences > 19 ? 19 : $#differences) ]));
my @situations = ('paid by several', 'debt', 'expired', 'expired but for what was reserved', 'expired again', 'reserved by a hold', 'capture for another service',
	'capture beyond what was reserved', 'refund to one whose time is over', 'refund to one that was spent');
note(join(', ', map { "$_: " . $model->seen($_) } @situations));
is_deeply([ grep { !$model->seen($_) } @situations ], [], 'every situation came up');
$server->sound('at the end');

$server->stop;
done_testing();
