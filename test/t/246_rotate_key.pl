# Another master key: rotate_key() brings all secrets under it, in small
# transactions, while sessions store and the worker reads; cancelled or killed half
# way nothing is lost, and it goes on where it was. What the worker calls is called
# here from a library of the test's own.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;
use Tokenbill::Double;
use Tokenbill::Server qw(build_driver);
use Tokenbill::Worker;

my $dir = PostgreSQL::Test::Utils::tempdir;
build_driver('open_secret', $dir);

# Exchange the keys that there are, as docs/secrets.md says: in one step
sub keys_are
{
	unlink "$dir/keys.new";
	append_to_file("$dir/keys.new", join("\n", @_) . "\n");
	chmod 0600, "$dir/keys.new";
	rename "$dir/keys.new", "$dir/keys" or die "rename: $!";
	return;
}

my ($key_a, $key_b, $key_c, $key_d, $key_e) = map { $_ x 32 } qw(a1 b2 c3 d4 e5);
keys_are($key_a);

my $double = Tokenbill::Double->new;
my $server = Tokenbill::Worker->new('main');
$server->begin(conf => [
	$server->watching, "tokenbill.key_file = '$dir/keys'", 'restart_after_crash = on', 'log_min_messages = notice' ]);
$server->safe_psql('postgres', "CREATE FUNCTION open_secret(name text) RETURNS text STRICT LANGUAGE c AS '$dir/open_secret'");
$server->wait_worker;
my $c = $server->client;

sub id_of_present { $c->rows("SELECT tokenbill.set_secret('probe', 'x')"); return $c->value("SELECT key_id FROM tokenbill.secrets WHERE name = 'probe'"); }

# 250 secrets, and what they are
my %value = map { sprintf('s%03d', $_) => "sk-value-$_" } 1 .. 250;
$c->rows("SELECT tokenbill.set_secret(format('s%s', to_char(i, 'FM000')), 'sk-value-' || i) FROM generate_series(1, 250) i");
$value{probe} = 'x';
my $id_a = id_of_present();

# Two providers, whose secrets are at both ends of the list
foreach my $name (qw(a_first z_last))
{
	$value{$name} = "sk-$name";
	$c->value('SELECT tokenbill.set_secret($1, $2)', $name, $value{$name});
	$double->script("$name/user/balance", { body => { is_available => \1, balance_infos => [ { currency => 'USD', total_balance => '7.00', granted_balance => '0.00', topped_up_balance => '7.00' } ] } });
	$c->value('SELECT tokenbill.add_provider($1, $2, $3, secret_name => $1, check_every => $4)', $name, 'deepseek', $double->url($name), '1 day');
}

# Everything there is opens, and is what it was
sub all_open
{
	my ($what) = @_;
	my %now = map { $_->{name} => $_->{value} } $c->rows('SELECT name, open_secret(name) AS value FROM tokenbill.secrets');
	is_deeply(\%now, \%value, "$what: all secrets are readable, and as they were");
	return;
}

# The worker asks with the secret as it is now
sub worker_reads
{
	my ($what) = @_;
	foreach my $name (qw(a_first z_last))
	{
		$server->wait_until("$name to be free", sub { return $c->value('SELECT under_way FROM tokenbill.provider_checks WHERE provider = $1', $name) eq 'f'; });
		$double->forget;
		$c->value('SELECT tokenbill.check_provider_now($1)', $name);
		my @seen;
		$server->wait_until("$name to be asked", sub { @seen = $double->seen("/$name/user/balance"); return @seen > 0; });
		is($seen[0]{headers}{authorization}, "Bearer $value{$name}", "$what: the worker asks with the secret of $name");
	}
	return;
}

sub under { return { map { @$_{qw(key_id n)} } $c->rows('SELECT key_id, count(*) AS n FROM tokenbill.secrets GROUP BY key_id') }; }

sub rotation
{
	my ($id) = @_;
	my ($row) = $c->rows('SELECT state, secrets, rewrapped, failed, pid FROM tokenbill.key_rotations WHERE key_id = $1', $id);
	return $row;
}

# A session that keeps all rows from one name on locked
sub block
{
	my ($from) = @_;
	my $blocker = $server->client(name => 'blocker');
	$blocker->rows('BEGIN');
	$blocker->rows('SELECT FROM tokenbill.secret WHERE name >= $1 FOR UPDATE', $from);
	return $blocker;
}

sub call { my ($client) = @_; $client->send('CALL tokenbill.rotate_key()'); return $client; }

sub notices { my ($answer) = @_; return [ map { "$_->{severity}: $_->{message}" } @{ $answer->{notices} } ]; }

my $log = $server->log_from;

# ---- nothing to do
{
	my $answer = $c->query('CALL tokenbill.rotate_key()');
	is($answer->{error}, undef, 'under the only key there is nothing to do');
	is_deeply(notices($answer), [ qq(NOTICE: all 253 secrets are under key "$id_a" already) ], 'and it says so');
	is($c->value('SELECT count(*) FROM tokenbill.key_rotations'), 0, 'that is no rotation');
}

# ---- another key in front: both are readable, and new ones are under it
keys_are($key_b, $key_a);
all_open('another key in front');
my $id_b = id_of_present();
isnt($id_b, $id_a, 'it is the present one');
worker_reads('another key in front');
is_deeply(under(), { $id_a => 252, $id_b => 1 }, 'but for what is stored anew nothing has changed');

# ---- half way
{
	my $blocker = block('s150');
	my $caller = call($server->client(name => 'caller'));
	$server->wait_blocked($caller);
	is_deeply(under(), { $id_a => 102, $id_b => 151 }, 'what nobody has locked is under it, and committed');
	is_deeply(rotation($id_b), { state => 'running', secrets => 252, rewrapped => 150, failed => 0, pid => $caller->pid }, 'how far it is can be seen');
	all_open('half way');
	worker_reads('half way');
	$c->rows("SELECT tokenbill.set_secret('s007', 'sk-new-7')");
	$value{s007} = 'sk-new-7';
	is($c->value("SELECT key_id FROM tokenbill.secrets WHERE name = 's007'"), $id_b, 'others store meanwhile');
	all_open('stored meanwhile');

	# a dump of now, restored elsewhere
	$server->command_ok([ 'pg_dump', '-f', "$dir/half.sql", $server->connstr('postgres') ], 'a dump of half way');

	# cancelled
	$c->value('SELECT pg_cancel_backend($1)', $caller->pid);
	is($caller->result->{error}{code}, '57014', 'it can be cancelled');
	is_deeply(rotation($id_b), { state => 'interrupted', secrets => 252, rewrapped => 150, failed => 0, pid => $caller->pid }, 'which can be seen');
	all_open('cancelled');
	is_deeply(under(), { $id_a => 102, $id_b => 151 }, 'cancelled: what was done stays');
	$caller->close;
	$blocker->rows('ROLLBACK');
	$blocker->close;

	# killed, and with it the server
	$blocker = block('s200');
	$caller = call($server->client(name => 'caller'));
	$server->wait_blocked($caller);
	is_deeply(under(), { $id_a => 52, $id_b => 201 }, 'called again it goes on where it was');
	kill 'KILL', $caller->pid;
	ok($caller->result->{lost}, 'killed');
	$server->wait_restarted($c);
	$c = $server->client;
	is_deeply(rotation($id_b), { state => 'interrupted', secrets => 252, rewrapped => 200, failed => 0, pid => $caller->pid }, 'killed: how far it was is known');
	is_deeply(under(), { $id_a => 52, $id_b => 201 }, 'killed: what was done stays');
	all_open('killed');
	$server->wait_worker;
	worker_reads('killed');
}

# ---- to the end
{
	my $answer = $c->query('CALL tokenbill.rotate_key()');
	is($answer->{error}, undef, 'it comes to its end');
	is_deeply(notices($answer), [ qq(NOTICE: all 253 secrets are under key "$id_b") ], 'and says so');
	like($answer->{notices}[0]{hint}, qr/backups/, 'and what the old key is still good for');
	is_deeply(under(), { $id_b => 253 }, 'all are under the new key');
	my $row = rotation($id_b);
	is_deeply([ @$row{qw(state secrets rewrapped failed)} ], [ 'finished', 252, 252, 0 ], 'finished');
	keys_are($key_b);
	all_open('without the old key');
	worker_reads('without the old key');
	my $before = $server->safe_psql('postgres', 'SELECT * FROM tokenbill.key_rotation');
	is_deeply(notices($c->query('CALL tokenbill.rotate_key()')), [ qq(NOTICE: all 253 secrets are under key "$id_b" already) ], 'called again it does nothing');
	is($server->safe_psql('postgres', 'SELECT * FROM tokenbill.key_rotation'), $before, 'nor is it another rotation');
}

# ---- the dump of half way wants both
{
	$c->rows('CREATE DATABASE half');
	$server->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/half.sql", $server->connstr('half') ], 'the dump is restored');
	my $half = $server->client(dbname => 'half');
	is($half->sqlstate("SELECT open_secret('s201')"), '39000', 'a secret of before wants the key of before');
	my $answer = $half->query('CALL tokenbill.rotate_key()');
	is($answer->{error}{code}, '39000', 'without it rotate_key() fails');
	is($half->value("SELECT open_secret('s001')"), 'sk-value-1', 'and loses nothing');
	keys_are($key_b, $key_a);
	is($half->query('CALL tokenbill.rotate_key()')->{error}, undef, 'with it in the second place it does not');
	keys_are($key_b);
	is($half->value("SELECT open_secret('s201')"), 'sk-value-201', 'and then it is needed no more');
	$half->close;
	$c->rows('DROP DATABASE half');
}

# ---- in a transaction block: all or nothing
keys_are($key_c, $key_b);
my $id_c = id_of_present();
{
	my $x = $server->client;
	$x->rows('BEGIN');
	my $answer = $x->query('CALL tokenbill.rotate_key()');
	is($answer->{error}, undef, 'in a transaction block');
	is_deeply(notices($answer), [ (map { qq(NOTICE: $_ of 252 secrets are under key "$id_c") } 100, 200), qq(NOTICE: all 253 secrets are under key "$id_c") ], 'it says how far it is');
	is_deeply(under(), { $id_b => 252, $id_c => 1 }, 'nobody sees it before the end');
	$x->rows('ROLLBACK');
	is_deeply(under(), { $id_b => 252, $id_c => 1 }, 'rolled back, nothing has happened');
	all_open('rolled back');
	is($x->sqlstate('DO $$ BEGIN CALL tokenbill.rotate_key(); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$'), '00000', 'in a subtransaction that fails');
	is_deeply(under(), { $id_b => 252, $id_c => 1 }, 'nothing either');
	$x->close;
}

# ---- beside others: two of it, one who stores, one who drops
{
	my $x = $server->client(name => 'storing');
	$x->rows('BEGIN');
	$x->rows("SELECT tokenbill.set_secret('s100', 'sk-new-100')");
	$x->rows("SELECT tokenbill.drop_secret('s101')");
	my $one = call($server->client(name => 'one'));
	my $two = call($server->client(name => 'two'));
	$server->wait_blocked($_) foreach $one, $two;
	is_deeply(under(), { $id_b => 2, $id_c => 251 }, 'all others are done before any is waited for');
	$x->rows('COMMIT');
	$value{s100} = 'sk-new-100';
	delete $value{s101};
	is($_->result->{error}, undef, $_->name . ' comes to its end') foreach $one, $two;
	is_deeply(under(), { $id_c => 252 }, 'all are under the new key');
	is($c->value("SELECT version FROM tokenbill.secrets WHERE name = 's100'"), 2, 'what was stored meanwhile stays');
	$_->close foreach $x, $one, $two;
	keys_are($key_c);
	all_open('two at once');

	# the other way round: who stores waits for it, and stores on top
	keys_are($key_d, $key_c);
	my $rotating = $server->client(name => 'rotating');
	$rotating->rows('BEGIN');
	$rotating->rows('CALL tokenbill.rotate_key()');
	$x = $server->client(name => 'storing');
	$x->send("SELECT tokenbill.set_secret('s001', 'sk-new-1')");
	$server->wait_blocked($x);
	$rotating->rows('COMMIT');
	is($x->result->{error}, undef, 'who has waited for it stores');
	$value{s001} = 'sk-new-1';
	keys_are($key_d);
	all_open('stored after it');
	$_->close foreach $x, $rotating;
}
my $id_d = id_of_present();

# ---- rows that somebody has changed: they are named, and the others are done
{
	$c->rows('CREATE TABLE kept AS SELECT * FROM tokenbill.secret');
	$c->rows("UPDATE tokenbill.secret SET wrapped_key = set_byte(wrapped_key, 3, get_byte(wrapped_key, 3) # 1) WHERE name = 's010'");
	$c->rows("UPDATE tokenbill.secret SET wrapped_key = '' WHERE name = 's020'");
	$c->rows("UPDATE tokenbill.secret SET layout = 9 WHERE name = 's030'");
	$c->rows("UPDATE tokenbill.secret SET key_id = '0123456789abcdef' WHERE name = 's040'");
	keys_are($key_e, $key_d);
	my $id_e = id_of_present();
	my $x = $server->client;
	$x->rows('BEGIN');
	my $answer = $x->query('CALL tokenbill.rotate_key()');
	is($answer->{error}{code}, 'XX001', 'changed rows, in a transaction block');
	like($answer->{error}{hint}, qr/^Nothing has been changed/, 'nothing has been changed');
	$x->rows('ROLLBACK');
	$x->close;
	$answer = $c->query('CALL tokenbill.rotate_key()');
	is($answer->{error}{code}, 'XX001', 'changed rows');
	is($answer->{error}{message}, qq(4 of 251 secrets cannot be brought under key "$id_e"), 'how many');
	is_deeply(decode_json($answer->{error}{detail}), { key_id => $id_e, rewrapped => 247, failed => 4, secrets => [qw(s010 s020 s030 s040)] }, 'and which');
	is_deeply([ grep { /^WARNING/ } @{ notices($answer) } ], [
		'WARNING: secret "s010" has been changed, or belongs to another name or version', 'WARNING: secret "s020" is truncated',
		'WARNING: secret "s030" has an unknown layout', qq(WARNING: secret "s040" was encrypted with key "0123456789abcdef", not with the present key "$id_e") ],
		'and of each, why');
	is_deeply(under(), { $id_e => 248, $id_d => 3, '0123456789abcdef' => 1 }, 'the others are done');
	my $row = rotation($id_e);
	is_deeply([ @$row{qw(state secrets rewrapped failed)} ], [ 'incomplete', 251, 247, 4 ], 'incomplete');
	$c->rows('DELETE FROM tokenbill.secret s USING kept k WHERE k.name = s.name AND s.name IN (\'s010\', \'s020\', \'s030\', \'s040\')');
	$c->rows('INSERT INTO tokenbill.secret SELECT * FROM kept WHERE name IN (\'s010\', \'s020\', \'s030\', \'s040\')');
	is($c->query('CALL tokenbill.rotate_key()')->{error}, undef, 'put back, they are done, too');
	$row = rotation($id_e);
	is_deeply([ @$row{qw(state secrets rewrapped failed)} ], [ 'finished', 251, 251, 0 ], 'finished');
	keys_are($key_e);
	all_open('put back');
}

# ---- without a key nothing happens
{
	my $before = $server->safe_psql('postgres', 'SELECT * FROM tokenbill.secret ORDER BY name');
	unlink "$dir/keys";
	is($c->sqlstate('CALL tokenbill.rotate_key()'), '58030', 'no file');
	append_to_file("$dir/keys", "no key\n");
	chmod 0600, "$dir/keys";
	is($c->sqlstate('CALL tokenbill.rotate_key()'), 'F0000', 'no key in it');
	keys_are($key_a);
	is($c->sqlstate('CALL tokenbill.rotate_key()'), '39000', 'another key');
	is($server->safe_psql('postgres', 'SELECT * FROM tokenbill.secret ORDER BY name'), $before, 'nothing has been changed');

	# while a command is waited for, nothing is held back by it
	$c->rows(q{ALTER SYSTEM SET tokenbill.key_file = ''});
	$c->rows(qq{ALTER SYSTEM SET tokenbill.key_command = 'echo > $dir/runs; tail -f /dev/null'});
	$c->rows(q{ALTER SYSTEM SET tokenbill.key_command_timeout = '10min'});
	$server->reload;
	my $x = $server->client(name => 'waiting');
	$server->wait_until('the command to be set', sub { return $x->value("SELECT current_setting('tokenbill.key_command')") =~ /tail/; });
	call($x);
	$server->wait_until('the command to run', sub { return -e "$dir/runs"; });
	is($c->value('SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND backend_xmin IS NULL AND backend_xid IS NULL', $x->pid), 1, 'no snapshot is held while the key is waited for');
	is($c->value('SELECT count(*) FROM pg_locks WHERE pid = $1 AND relation IS NOT NULL AND mode <> $2', $x->pid, 'AccessShareLock'), 0, 'and no lock');
	$c->value('SELECT pg_cancel_backend($1)', $x->pid);
	is($x->result->{error}{code}, '57014', 'and it can be cancelled');
	$x->close;
	$c->rows('ALTER SYSTEM RESET tokenbill.key_file');
	$c->rows('ALTER SYSTEM RESET tokenbill.key_command');
	$server->reload;
	keys_are($key_e);
}

# ---- who may
{
	$c->rows("CREATE ROLE $_ LOGIN IN ROLE tokenbill_admin") foreach qw(keeper tenant);
	$c->rows('CREATE ROLE shop LOGIN IN ROLE tokenbill_app');
	$c->rows("SELECT tokenbill.create_account('acme')");
	$c->rows("SELECT tokenbill.map_tenant('tenant', 'acme')");
	my %client = map { $_ => $server->client(user => $_) } qw(keeper tenant shop);
	is($client{shop}->sqlstate('CALL tokenbill.rotate_key()'), '42501', 'the application may not');
	is($client{shop}->sqlstate('SELECT * FROM tokenbill.key_rotations'), '42501', 'nor look');
	is($client{tenant}->sqlstate('CALL tokenbill.rotate_key()'), '42501', 'nor a tenant');
	is($client{tenant}->value('SELECT count(*) FROM tokenbill.key_rotations'), 0, 'who sees none');
	keys_are($key_a, $key_e);
	my $blocker = block('s200');
	$server->wait_until('the file to be named again', sub { my $x = $server->client; my $v = $x->value("SELECT current_setting('tokenbill.key_file')"); $x->close; return $v eq "$dir/keys"; });
	# with what somebody has planted in front of what its statements are made of
	$c->rows('CREATE SCHEMA evil');
	my $trap = q{LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$planted$$; END'};
	my $n = 0;
	foreach my $operator ([ qw(text text <> boolean) ], [ qw(text text = boolean) ], [ qw(text text > boolean) ], [ qw(text text < boolean) ], [ qw(bigint bigint + bigint) ], [ qw(bigint bigint > boolean) ])
	{
		my ($left, $right, $name, $result) = @$operator;
		$n++;
		$c->rows("CREATE FUNCTION evil.op$n($left, $right) RETURNS $result $trap");
		$c->rows("CREATE OPERATOR evil.$name (LEFTARG = $left, RIGHTARG = $right, FUNCTION = evil.op$n)");
	}
	$c->rows('GRANT USAGE ON SCHEMA evil TO PUBLIC');
	$client{keeper}->rows('SET search_path = evil, pg_temp, pg_catalog');
	like($client{keeper}->query('SELECT 1::bigint + 1::bigint')->{error}{message}, qr/^planted/, 'the traps work');
	call($client{keeper});
	$server->wait_blocked($client{keeper});
	my $keeper = $server->client(user => 'keeper');
	is($keeper->value('SELECT state FROM tokenbill.key_rotations WHERE key_id = $1', $id_a), 'running', 'an administrator sees that it runs');
	$blocker->rows('ROLLBACK');
	is($client{keeper}->result->{error}, undef, 'an administrator may');
	is($client{keeper}->value('SELECT current_user || session_user'), 'keeperkeeper', 'and is who it was');
	is($client{keeper}->sqlstate('TABLE tokenbill.secret'), '42501', 'with the rights it had');
	is_deeply(under(), { $id_a => 252 }, 'all are under the new key');
	keys_are($key_a);
	all_open('by an administrator');
	$_->close foreach values %client, $keeper, $blocker;
}

# ---- the commands of the manual
{
	my ($script) = slurp_file("$FindBin::RealBin/../../docs/secrets.md") =~ /^ *```sh\n( *cd \/etc\/postgresql &&\n.*?)^ *```$/ms;
	ok($script, 'docs/secrets.md says how to put another key in front');
	$script =~ s{/etc/postgresql}{$dir};
	is($script =~ s/^ *chown postgres: .*$//mg, 1, 'and whose the file is');
	unlink "$dir/tokenbill.key";
	append_to_file("$dir/tokenbill.key", "$key_a\n");
	chmod 0600, "$dir/tokenbill.key";
	$c->rows("ALTER SYSTEM SET tokenbill.key_file = '$dir/tokenbill.key'");
	$server->reload;
	$server->wait_until('the file to be named', sub { return $c->value("SELECT setting FROM pg_settings WHERE name = 'tokenbill.key_file'") eq "$dir/tokenbill.key"; });
	is(system('sh', '-e', '-c', $script), 0, 'its commands run');
	my @lines = split /\n/, slurp_file("$dir/tokenbill.key");
	like($lines[0], qr/^[0-9a-f]{64}$/, 'a new key in front');
	is_deeply([ @lines[ 1 .. $#lines ] ], [$key_a], 'of the old one');
	is((stat "$dir/tokenbill.key")[2] & 07777, 0600, 'which nobody else may read');
	is($c->query('CALL tokenbill.rotate_key()')->{error}, undef, 'all secrets under it');
	unlink "$dir/tokenbill.key";
	append_to_file("$dir/tokenbill.key", "$lines[0]\n");
	chmod 0600, "$dir/tokenbill.key";
	all_open('the old key taken away');
}

is(join("\n", grep { /sk-/ } $server->log_lines($log, qr/./)), '', 'no value is in the log');
$c->close;
$server->stop;
done_testing();
