# Every function at random, by many clients at once, in transactions that are
# committed and rolled back, with keys used again for the same and for another
# request; then everything that was granted is put in order and worked out
# anew, apart from tokenbill, in exact arithmetic (Tokenbill::Model).
#
# TB_SEED repeats the requests, if not the way they meet; TB_RANDOM_REQUESTS
# says how many there are.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Model;
use Tokenbill::Server qw(seed decimal equal_decimals);

seed();
my $wanted = $ENV{TB_RANDOM_REQUESTS} || 5000;

my $server = Tokenbill::Server->new('main');
$server->begin;

# ---- accounts and prices
my %accounts = (
	ann => {}, ben => { credit_limit => 5 }, dan => {}, box => { sandbox => 1 },
	ice => {}, tok => {});
my @names = sort keys %accounts;
my $client = $server->client(name => 'first');
my $model = Tokenbill::Model->new;
foreach my $name (@names)
{
	my $account = $accounts{$name};
	$model->account($name, sandbox => $account->{sandbox} || 0, overflow => $name eq 'dan' ? 'debt' : 'refuse');
	$client->rows('SELECT tokenbill.create_account($1, credit_limit => $2, sandbox => $3)',
		$name, $account->{credit_limit} || 0, $account->{sandbox} ? 't' : 'f');
	my $row = $client->row('SELECT * FROM tokenbill.recharge($1, 3, $2)', $name, "first-$name");
	$model->granted({ key => "tokenbill:order:first-$name", amount => 3 }, receipt_of_order($row));
}
# as autovacuum would: with so few accounts, plans scan the table
$client->rows('ANALYZE tokenbill.account');
$client->rows("SELECT tokenbill.set_account_policy('dan', overflow => 'debt')");
$client->rows("SELECT tokenbill.set_account_policy('tok', tokens_only => true)");
my %meters = (gpt => [qw(tokens input_tokens output_tokens)], img => ['images']);
foreach my $service (sort keys %meters)
{
	set_price($_) foreach map { price_request($service, $_) } @{ $meters{$service} };
}

# ---- what is known of the past
my $asked = 0;
my (@charges, @keys, %open, @tokens, %orders);
my $number = 0;
my $order_number = 0;

sub pick { return $_[ rand @_ ]; }

sub amount
{
	my ($most) = @_;
	my $places = pick(2, 4, 6, 9, 18);
	return sprintf('%.6f', 0.000001 + rand($most || 0.4)) . join('', map { int(rand(10)) } 1 .. $places);
}

sub price_request
{
	my ($service, $meter, $account) = @_;
	return { service => $service, meter => $meter, account => $account, unit_price => sprintf('%.12f', 0.000000000001 + rand(0.01)), per => pick(1, 1000, 1000000) };
}

sub set_price
{
	my ($price) = @_;
	$client->rows('SELECT tokenbill.set_price($1, $2, $3, $4)', @{$price}{qw(service meter unit_price per)});
	$model->price(@{$price}{qw(service meter unit_price per)});
	return;
}

# recharge() answers with the order; what it posted is a line like any other
sub receipt_of_order
{
	my ($row) = @_;
	return {
		account => $row->{account}, seq => $row->{seq}, kind => 'recharge', amount => $row->{amount}, balance => $row->{balance},
		available => $row->{available}, idempotency_key => "tokenbill:order:$row->{order_no}", replayed => $row->{replayed},
		created_at => $row->{updated_at} };
}

sub usage
{
	my ($service) = @_;
	my @meters = @{ $meters{$service} };
	my %usage = map { $_ => int(rand(40)) } @meters[ 0 .. int(rand(@meters)) ];
	$usage{ $meters[0] }++;
	return \%usage;
}

# ---- requests. Each gives the statement that makes it, and what it is to the
# model. strict: what must come of it (replayed, PT409).
sub statement
{
	my ($request, $function, @arguments) = @_;
	$request->{function} = $function;
	$request->{wait} = 'f' if rand() < ($request->{shared} ? 0.5 : 0.15) && !$request->{strict};
	my (@names, @values);
	while (my ($name, $value) = splice(@arguments, 0, 2))
	{
		# the amount of a hold has no default
		next unless defined $value || $function eq 'hold' && $name eq 'amount';
		push @values, $value;
		push @names, "$name => \$" . @values;
	}
	push @names, 'wait => false' if $request->{wait};
	$request->{sql} = "SELECT * FROM tokenbill.$function(" . join(', ', @names) . ')';
	$request->{params} = \@values;
	return $request;
}

# One that is no movement: nothing of it is compared, but if it has to be empty
sub plain
{
	my ($function, $sql, $params, %opt) = @_;
	return { function => $function, sql => $sql, params => $params, plain => 1, %opt };
}

my %build = (
	charge => sub {
		my ($account) = @_;
		my $service = pick('gpt', 'gpt', 'img');
		my $usage = usage($service);
		my $debt = $account =~ /^(ben|dan)$/ && rand() < 0.15 ? 'debt' : undef;
		my $key = $account eq 'tok' ? token_key() : 'k' . ++$number;
		return statement({ account => $account, key => $key, usage => $usage, debt => $debt }, 'charge', account => $account, service => $service,
			usage => encode_json($usage), idempotency_key => $key, on_insufficient => $debt, metadata => rand() < 0.3 ? '{"tags": ["a", 1.50]}' : undef);
	},
	charge_tokens => sub {
		my ($account) = @_;
		my $tokens = 1 + int(rand(50));
		my $key = $account eq 'tok' ? token_key() : 'k' . ++$number;
		return statement({ account => $account, key => $key, usage => { tokens => $tokens } }, 'charge_tokens', account => $account,
			service => 'gpt', tokens => $tokens, idempotency_key => $key);
	},
	charge_amount => sub {
		my ($account) = @_;
		my $amount = amount();
		my $key = $account eq 'tok' ? token_key() : 'k' . ++$number;
		return statement({ account => $account, key => $key, amount => $amount }, 'charge_amount', account => $account, amount => $amount, idempotency_key => $key);
	},
	hold => sub {
		my ($account) = @_;
		my $key = $account eq 'tok' ? token_key() : 'h' . ++$number;
		my $on_expiry = rand() < 0.4 ? 'charge' : undef;
		my $estimate = rand() < 0.3 ? usage('gpt') : undef;
		my $amount = $estimate ? undef : amount();
		return statement({ account => $account, key => $key, amount => $amount, usage => $estimate, on_expiry => $on_expiry, made => 'hold' }, 'hold',
			account => $account, amount => $amount, idempotency_key => $key, ttl => rand() < 0.3 ? '1 millisecond' : '1 hour',
			service => 'gpt', usage => $estimate && encode_json($estimate), on_expiry => $on_expiry);
	},
	extend_hold => sub {
		my ($account) = @_;
		my $hold = pick(@{ $open{$account} }) or return;
		my $key = $account eq 'tok' ? token_key() : 'e' . ++$number;
		my $amount = rand() < 0.6 ? amount(0.8) : undef;
		return statement({ account => $account, key => $key, hold_key => $hold, amount => $amount }, 'extend_hold', account => $account,
			hold_key => $hold, amount => $amount, ttl => rand() < 0.3 || !defined $amount ? '1 hour' : undef, idempotency_key => $key);
	},
	capture => sub {
		my ($account) = @_;
		my $hold = pick(@{ $open{$account} }) or return;
		my $final = rand() < 0.6;
		my $key = $final && rand() < 0.6 ? undef : $account eq 'tok' ? token_key() : 'c' . ++$number;
		my $usage = rand() < 0.3 ? usage('gpt') : undef;
		my $amount = $usage || ($final && rand() < 0.2) ? undef : amount(0.3);
		my $request = { account => $account, hold_key => $hold, usage => $usage, amount => $amount, final => $final };
		$request->{key} = defined $key ? $key : "tokenbill:capture:$hold";
		return statement($request, 'capture', account => $account, hold_key => $hold, usage => $usage && encode_json($usage), amount => $amount, idempotency_key => $key,
			final => $final ? 't' : 'f');
	},
	release => sub {
		my ($account) = @_;
		my $hold = pick(@{ $open{$account} }) or return;
		return statement({ account => $account, key => "tokenbill:release:$hold", hold_key => $hold }, 'release', account => $account, hold_key => $hold);
	},
	refund => sub {
		my ($account) = @_;
		my $charge = pick(grep { $_->{account} eq $account } @charges) or return;
		my $amount = rand() < 0.7 ? amount(0.2) : undef;
		my $key = 'r' . ++$number;
		return statement({ account => $account, key => $key, charge_key => $charge->{idempotency_key}, amount => $amount }, 'refund', account => $account,
			charge_key => $charge->{idempotency_key}, idempotency_key => $key, amount => $amount, reason => rand() < 0.3 ? 'complaint' : undef);
	},
	recharge => sub {
		my ($account) = @_;
		my $amount = amount(0.5);
		my $order = 'o' . ++$order_number;
		return statement({ account => $account, key => "tokenbill:order:$order", order => $order, amount => $amount }, 'recharge',
			account => $account, amount => $amount, order_no => $order);
	},
	grant_credit => sub {
		my ($account) = @_;
		my $amount = amount(0.2);
		my $key = 'g' . ++$number;
		return statement({ account => $account, key => $key, amount => $amount }, 'grant_credit', account => $account, amount => $amount, idempotency_key => $key);
	},
	issue_token => sub {
		my ($account) = @_;
		return plain('issue_token', 'SELECT tokenbill.issue_token($1, $2) AS token', [ $account, '1 hour' ], account => $account);
	},
	set_account_status => sub {
		my ($account) = @_;
		return unless $account eq 'ice';
		return plain('set_account_status', 'SELECT * FROM tokenbill.set_account_status($1, $2)',
			[ $account, pick('frozen', 'active', 'active') ], account => $account);
	},
	set_credit_limit => sub {
		my ($account) = @_;
		return unless $account eq 'ben';
		return plain('set_credit_limit', 'SELECT * FROM tokenbill.set_credit_limit($1, $2)', [ $account, 2 + int(rand(6)) ], account => $account);
	},);

sub token_key
{
	my ($token) = splice(@tokens, rand @tokens, 1);
	# an ordinary key is refused there
	return defined $token ? $token : 'k' . ++$number;
}

my @weights = (charge => 20, charge_tokens => 6, charge_amount => 14, hold => 14, extend_hold => 5, capture => 10, release => 4, refund => 6,
	recharge => 9, grant_credit => 4, issue_token => 6, set_account_status => 5, set_credit_limit => 5);
my @dice;
while (my ($name, $weight) = splice(@weights, 0, 2))
{
	push @dice, ($name) x $weight;
}

# One key, the same request, by whoever comes along: also inside a transaction
# that stays open for a while
sub shared_charge
{
	my $key = 'shared-' . int($asked / 40);
	return statement({ account => 'ann', key => $key, amount => '0.001', shared => 1 }, 'charge_amount', account => 'ann', amount => '0.001', idempotency_key => $key);
}

sub request_for
{
	my ($account) = @_;
	while (1)
	{
		return shared_charge() if $account eq 'ann' && rand() < 0.2;
		my $request = $build{ pick(@dice) }->($account);
		return $request if $request;
	}
}

# Single requests of other kinds: never inside a longer transaction
my @alone = (
	# something granted before, asked for again
	sub {
		my $known = pick(@keys) or return;
		# a token is good for one request
		return if $known->{key} =~ /^tbt_/;
		return { %$known, strict => 'replayed' };
	},
	# its key, for something else
	sub {
		my $known = pick(@keys) or return;
		return unless $known->{function} =~ /^(charge|hold|grant)/;
		return statement({ account => $known->{account}, key => $known->{key}, strict => 'PT409' }, 'charge_amount', account => $known->{account},
			amount => '77.7', idempotency_key => $known->{key});
	},
	# an order number of another account
	sub {
		my $order = pick(sort keys %orders) or return;
		my ($other) = grep { $_ ne $orders{$order} } @names;
		return statement({ account => $other, strict => 'PT409' }, 'recharge', account => $other, amount => 1, order_no => $order);
	},
	# one order number by several accounts at once
	sub {
		my ($account, $order) = (pick(@names), 'shared-' . int($asked / 15));
		return statement({ account => $account, key => "tokenbill:order:$order", order => $order, amount => '0.1', shared => 1 }, 'recharge',
			account => $account, amount => '0.1', order_no => $order);
	},
	# one key by several clients at once
	(sub { return shared_charge(); }) x 3,
	(sub {
		my @items;
		foreach (1 .. 1 + int(rand(8)))
		{
			my $key = 'b' . (rand() < 0.9 ? ++$number : $number);
			push @items, { account => pick(grep { $_ ne 'tok' } @names), amount => amount(0.1), idempotency_key => $key };
		}
		# exact numbers, which no encoder of Perl's would write
		my $json = join(', ', map { "{\"account\": \"$_->{account}\", \"amount\": $_->{amount}, \"idempotency_key\": \"$_->{idempotency_key}\"}" } @items);
		return { function => 'charge_batch', sql => 'SELECT * FROM tokenbill.charge_batch($1)', params => ["[$json]"], items => \@items };
	}) x 2,
	sub { return plain('expire_holds', 'SELECT tokenbill.expire_holds()', []); },
	sub { return plain('expire_holds', 'SELECT tokenbill.expire_holds($1, 3)', [ pick(@names) ]); },
	sub {
		my $price = price_request(pick([ 'gpt', 'tokens' ], [ 'gpt', 'input_tokens' ], [ 'img', 'images' ])->@*);
		# known before it can be used
		$model->price(@{$price}{qw(service meter unit_price per)});
		return plain('set_price', 'SELECT * FROM tokenbill.set_price($1, $2, $3, $4)', [ @{$price}{qw(service meter unit_price per)} ]);
	},
	sub { return plain('make_ledger_months', 'SELECT tokenbill.make_ledger_months(2)', []); },
	sub { return plain('verify_ledger', 'SELECT * FROM tokenbill.verify_ledger()', [], empty => 1); },
	sub {
		return plain('trial_balance', 'SELECT currency FROM tokenbill.trial_balance GROUP BY currency HAVING sum(amount) <> 0', [], empty => 1);
	},
	# whom nobody gave credit or debt is never below zero
	sub {
		return plain('balances', "SELECT * FROM tokenbill.balances WHERE available < 0 AND account NOT IN ('ben', 'dan')", [], empty => 1);
	},
	sub {
		return plain('quote', 'SELECT * FROM tokenbill.quote($1, $2, $3) WHERE amount <> quantity * unit_price / per',
			[ pick(@names), 'gpt', encode_json(usage('gpt')) ], empty => 1);
	},
	sub {
		my $token = pick(grep { $_->{key} =~ /^tbt_/ } @keys) or return;
		return {
			function => 'token_result', account => $token->{account}, key => $token->{key}, strict => 'replayed',
			sql => 'SELECT * FROM tokenbill.token_result($1, $2)', params => [ $token->{account}, $token->{key} ] };
	},
	# a token a second time
	sub {
		my $token = pick(grep { $_->{key} =~ /^tbt_/ } @keys) or return;
		return statement({ account => $token->{account}, key => $token->{key}, strict => 'PT409' }, 'charge_amount',
			account => $token->{account}, amount => '0.01', idempotency_key => $token->{key});
	},);

# A transaction: requests, and how it ends. Accounts in order, so that no two
# wait for each other.
sub transaction
{
	my $dice = rand();
	if ($dice < 0.3)
	{
		while (1)
		{
			my $request = pick(@alone)->();
			return { requests => [$request] } if $request;
		}
	}
	return { requests => [ request_for(pick(@names)) ] } if $dice < 0.75;
	return {
		requests => [ map { request_for($_) } sort(map { pick(@names) } 1 .. 2 + int(rand(3))) ],
		end => rand() < 0.7 ? 'COMMIT' : 'ROLLBACK' };
}

# ---- what is granted is taken down when it is committed
my @wrong;
my %count;
my %denied;
my $exact = JSON::PP->new->utf8(0)->allow_bignum;

sub check_error
{
	my ($request, $error) = @_;
	my $state = $error->{code};
	$denied{$state}++;
	my $said = "$request->{function} on " . ($request->{account} || '-') . ": $state $error->{message}";
	if (defined $request->{strict})
	{
		# a frozen account may say so first
		push @wrong, "$said, expected $request->{strict}"
		  unless $state eq $request->{strict} || $request->{account} eq 'ice' && $state eq 'PT403';
		return;
	}
	my $fine =
		$state eq 'PT402' ? ($request->{function} =~ /^(charge|hold|extend|capture|set_credit)/)
	  : $state eq 'PT403' ? $request->{account} eq 'ice'
	  : $state eq 'PT409' ? 1
	  : $state eq 'PT423' ? $request->{wait}
	  : 0;
	push @wrong, $said unless $fine;
	my $detail = eval { $exact->decode($error->{detail}) };
	push @wrong, "$said: DETAIL is not a JSON object: " . ($error->{detail} // 'null') unless ref $detail eq 'HASH';
	push @wrong, "$said: no HINT" unless $error->{hint};
	if ($state eq 'PT402' && $detail)
	{
		my $short = decimal("$detail->{required}")->bsub(decimal("$detail->{available}"));
		push @wrong, "$said: $error->{detail}" unless equal_decimals($short->bstr, "$detail->{shortfall}") && $short->is_pos && !$short->is_zero;
	}
	return;
}

sub committed
{
	my ($request, $answer) = @_;
	$count{ $request->{function} }++;
	my @rows = Tokenbill::Client::hashes($answer);
	if ($request->{plain})
	{
		push @wrong, "$request->{function} found " . encode_json(\@rows) if $request->{empty} && @rows;
		push @tokens, $rows[0]{token} if $request->{function} eq 'issue_token' && $request->{account} eq 'tok';
		return;
	}
	if ($request->{items})
	{
		push @wrong, 'a batch of ' . @{ $request->{items} } . ' items answered ' . @rows unless @rows == @{ $request->{items} };
		foreach my $row (@rows)
		{
			my $item = $request->{items}[ $row->{item} - 1 ];
			my $part = { %$item, function => 'charge_amount', key => $item->{idempotency_key} };
			if (defined $row->{sqlstate})
			{
				check_error($part, { code => $row->{sqlstate}, message => $row->{message}, detail => $row->{detail}, hint => $row->{hint} });
			}
			elsif ($row->{replayed} eq 't')
			{
				$model->replayed($part, $row);
			}
			else
			{
				$model->granted($part, $row);
			}
		}
		return;
	}
	my ($row) = @rows;
	$row = receipt_of_order($row) if $request->{function} eq 'recharge';
	if (defined $request->{strict} && $request->{strict} ne ($row->{replayed} eq 't' ? 'replayed' : 'done'))
	{
		push @wrong, "$request->{function} of $request->{account}/$request->{key} was granted (replayed: $row->{replayed}), expected $request->{strict}";
	}
	if ($row->{replayed} eq 't')
	{
		$model->replayed($request, $row);
		return;
	}
	$model->granted($request, $row);
	push @keys, $request unless $request->{shared};
	push @charges, $row if $row->{kind} =~ /^(charge|capture)$/ && $row->{amount} != 0;
	push @{ $open{ $row->{account} } }, $request->{key} if $request->{made};
	$orders{ $request->{order} } = $request->{account} if $request->{order};
	if ($request->{function} =~ /^(capture|release)$/ && ($request->{final} || $request->{function} eq 'release') && rand() < 0.8)
	{
		# some are kept, to ask for what is over
		$open{ $request->{account} } = [ grep { $_ ne $request->{hold_key} } @{ $open{ $request->{account} } } ];
	}
	return;
}

# ---- the run
my @clients = map { $server->client(name => "client $_") } 1 .. 8;

sub next_statement
{
	my ($c) = @_;
	my $work = $c->{work};
	if (!$work)
	{
		return 0 if $asked >= $wanted;
		$work = $c->{work} = transaction();
		$work->{todo} = [ @{ $work->{requests} } ];
		$work->{done} = [];
		$asked += @{ $work->{todo} };
		if ($work->{end})
		{
			$c->{asking} = undef;
			$c->send('BEGIN');
			return 1;
		}
	}
	if (my $request = shift @{ $work->{todo} })
	{
		$c->{asking} = $request;
		$c->send($request->{sql}, @{ $request->{params} });
	}
	else
	{
		$c->{asking} = undef;
		$c->{ending} = 1;
		$c->send($work->{end});
	}
	return 1;
}

sub answered
{
	my ($c) = @_;
	my $answer = $c->result;
	my $work = $c->{work};
	my $request = delete $c->{asking};
	if ($answer->{lost})
	{
		BAIL_OUT("$c->{name} lost its connection: the server has crashed");
	}
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
		if ($work->{end})
		{
			# the requests before it are undone with it
			$work->{todo} = [];
			$work->{done} = [];
			$work->{end} = 'ROLLBACK';
		}
		else
		{
			$c->{work} = undef;
		}
		return;
	}
	push @{ $work->{done} }, [ $request, $answer ] if $request;
	if (delete $c->{ending} || !$work->{end})
	{
		if (!$work->{end} || $work->{end} eq 'COMMIT')
		{
			committed(@$_) foreach @{ $work->{done} };
		}
		$c->{work} = undef;
	}
	return;
}

while (1)
{
	foreach my $c (grep { !$_->{waiting} } @clients)
	{
		$c->{waiting} = next_statement($c);
	}
	my @waiting = grep { $_->{waiting} } @clients;
	last unless @waiting;
	foreach my $c (Tokenbill::Client->wait_any(@waiting))
	{
		$c->{waiting} = 0;
		answered($c);
	}
}
note(join(', ', map { "$_ $count{$_}" } sort keys %count));
note('refused: ' . join(', ', map { "$_ $denied{$_}" } sort keys %denied));

is(join("\n", @wrong), '', 'every answer was one that may be given');
is_deeply([ grep { !$count{$_} } keys %build ], [], 'every function was granted something');
is_deeply([ grep { !$denied{$_} } qw(PT402 PT403 PT409 PT423) ], [], 'every refusal came up');
$client->rows('SELECT tokenbill.expire_holds()');
my @differences = $model->compare($client);
is(scalar @differences, 0, 'the ledger is what was granted: ' . $model->lines . ' lines worked out anew')
  or diag(join("\n", @differences[ 0 .. ($#differences > 19 ? 19 : $#differences) ]));
$server->sound('at the end');

$server->stop;
done_testing();
