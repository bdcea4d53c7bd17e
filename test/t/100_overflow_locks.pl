# Very many keys in one transaction, with the lock table of a default
# configuration: 20,000 charges, and a batch of 5,000 items over 2,000
# accounts. Keys must not cost a lock each until the transaction ends, whichever
# way they are asked for.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server qw(equal_decimals);

my $server = Tokenbill::Server->new('main');
# the smallest lock table there is: max_locks_per_transaction is not set
$server->begin(conf => ['max_connections = 6']);
my $client = $server->client(name => 'bulk');
my $other = $server->client(name => 'other');
is($client->value('SHOW max_locks_per_transaction'), '64', 'the default number of locks');
my $backends = 1;
$backends += $client->value("SHOW $_") foreach qw(max_connections autovacuum_max_workers max_worker_processes max_wal_senders);
my $room = 64 * $backends;
cmp_ok($room, '<', 5000, "the lock table has room for some $room locks");

$client->rows("SELECT tokenbill.create_account('ann')");
$client->rows("SELECT tokenbill.recharge('ann', 100, 'order-ann')");
$client->rows("SELECT tokenbill.set_price('gpt', 'tokens', 0.000001)");
$client->rows("SELECT tokenbill.create_account('a' || i) FROM generate_series(1, 2000) i");
$client->rows("SELECT tokenbill.recharge('a' || i, 1, 'order-' || i) FROM generate_series(1, 2000) i");

# ---- 20,000 charges
my $bulk = "SELECT count(r.seq) FROM generate_series(1, 20000) i, LATERAL tokenbill.charge_amount('a' || i %% 10 + 1, 0.0001, '%s' || i%s) r";
$client->rows('BEGIN');
is($client->value(sprintf($bulk, 'k', '')), 20000, '20,000 charges in one transaction');
cmp_ok($client->value('SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()'), '<', 1000, 'hold few locks');

# the other sees them as busy, the first as the last
sub again
{
	my ($i, $prefix) = @_;
	return "SELECT replayed FROM tokenbill.charge_amount('a' || $i % 10 + 1, 0.0001, '$prefix$i', wait => false)";
}
is($other->sqlstate(again($_, 'k')), 'PT423', "key k$_ is in progress") foreach 1, 10000, 20000;
is($other->value("SELECT seq FROM tokenbill.charge_amount('ann', 0.0001, 'k1', wait => false)"), 2, 'on another account it is not');
$client->rows('COMMIT');
is($client->value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0, 'no advisory lock stays');
is($other->value(again($_, 'k')), 't', "key k$_ is replayed then") foreach 1, 10000, 20000;
my $left = $client->value("SELECT sum(balance) FROM tokenbill.balances WHERE account IN (SELECT 'a' || i FROM generate_series(1, 10) i)");
ok(equal_decimals($left, '8'), 'all of them were charged');

# ---- the same without waiting
$client->rows('BEGIN');
my $answer = $client->query(sprintf($bulk, 'n', ', wait => false'));
is($answer->{error}, undef, '20,000 charges with wait => false in one transaction') or diag(explain($answer->{error}));
is($answer->{rows} && $answer->{rows}[0] && $answer->{rows}[0][0], 20000, 'all of them');
is($other->sqlstate(again($_, 'n')), 'PT423', "key n$_ is in progress") foreach 1, 20000;
$client->rows('ROLLBACK');
is($other->value(again($_, 'n')), 'f', "rolled back, key n$_ is free") foreach 1, 20000;

# ---- in subtransactions, a third of which are undone
$client->rows(<<'SQL');
DO $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		BEGIN
			PERFORM tokenbill.charge_amount('a' || i % 100 + 1, CASE WHEN i % 3 = 0 THEN 1000 ELSE 0.0001 END, 's' || i);
		EXCEPTION WHEN SQLSTATE 'PT402' THEN
			NULL;
		END;
	END LOOP;
END $$
SQL
is($client->value("SELECT count(*) FROM tokenbill.statement WHERE idempotency_key LIKE 's%'"), 2000, '3,000 charges in subtransactions, a third of them refused');

# ---- a batch
sub batch
{
	my ($prefix) = @_;
	return encode_json([ map { { account => 'a' . (1 + ($_ * 7) % 2000), service => 'gpt', usage => { tokens => $_ }, idempotency_key => "$prefix$_" } } 1 .. 5000 ]);
}
my @rows = $client->rows('SELECT item, account, amount, sqlstate, replayed FROM tokenbill.charge_batch($1)', batch('b'));
is(scalar @rows, 5000, 'a batch of 5,000 items over 2,000 accounts');
is_deeply([ grep { defined $_->{sqlstate} || $_->{replayed} ne 'f' } @rows ], [], 'all of them charged');
is_deeply([ map { $_->{item} } @rows ], [ 1 .. 5000 ], 'in their order');
is_deeply([ grep { !equal_decimals($_->{amount}, sprintf('-%.6f', $_->{item} / 1000000)) } @rows ], [], 'each its own price');
my @again = $client->rows('SELECT item, replayed, amount FROM tokenbill.charge_batch($1) WHERE replayed', batch('b'));
is(scalar @again, 5000, 'and replayed as a whole');

# two of them at once, over the same accounts in opposite order
my $backwards = encode_json([ reverse @{ decode_json(batch('d')) } ]);
$client->send('SELECT count(*) FROM tokenbill.charge_batch($1) WHERE sqlstate IS NULL', batch('c'));
$other->send('SELECT count(*) FROM tokenbill.charge_batch($1) WHERE sqlstate IS NULL', $backwards);
foreach my $c ($client, $other)
{
	my $answer = $c->result;
	is($answer->{error}, undef, $c->name . ': no deadlock') or diag(explain($answer->{error}));
	is($answer->{rows}[0][0], 5000, $c->name . ': 5,000 charged');
}
$server->sound('after all of it');

$server->stop;
done_testing();
