# Secrets: where the key comes from and what is said when it does not, and that a
# secret comes out again as it went in, or not at all. What the worker calls is
# called here from a library of the test's own.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;
use Tokenbill::Server qw(build_driver);

my $dir = PostgreSQL::Test::Utils::tempdir;
build_driver('open_secret', $dir);

my $server = Tokenbill::Server->new('main');
$server->begin(conf => [ "shared_preload_libraries = 'tokenbill'", 'tokenbill.worker = off' ]);

my $drivers = <<"SQL";
CREATE FUNCTION open_secret(name text) RETURNS text STRICT LANGUAGE c AS '$dir/open_secret';
CREATE FUNCTION locked_while_open(name text, wipe boolean) RETURNS text STRICT LANGUAGE c AS '$dir/open_secret';
SQL
$server->safe_psql('postgres', $drivers);

# Change settings, and wait until new sessions have them
sub settings
{
	my (%wanted) = @_;
	my $c = $server->client;
	foreach my $name (sort keys %wanted)
	{
		my $value = $c->value('SELECT quote_literal($1::text)', $wanted{$name});
		$c->rows("ALTER SYSTEM SET $name = $value");
	}
	$c->rows('SELECT pg_reload_conf()');
	$c->close;
	$server->wait_until(
		'the settings are in force',
		sub {
			my $new = $server->client;
			my $same = 1;
			$same &&= $new->value('SELECT setting FROM pg_settings WHERE name = $1', $_) eq $wanted{$_} foreach keys %wanted;
			$new->close;
			return $same;
		});
	return;
}

# What a statement is refused with: SQLSTATE and DETAIL, and the message
sub refusal
{
	my ($statement) = @_;
	my $c = $server->client;
	my $error = $c->query($statement)->{error} || { code => '00000', message => '' };
	$c->close;
	return ($error->{code}, $error->{detail} ? JSON::PP->new->canonical->encode(decode_json($error->{detail})) : '', $error->{message}, $error->{hint});
}

sub refused
{
	my ($name, $statement, $code, $detail, $message) = @_;
	my @got = refusal($statement);
	is_deeply([ @got[ 0 .. 2 ] ], [ $code, $detail, $message ], $name);
	unlike("@got[1 .. 2]" . ($got[3] // ''), qr/sk-/, "$name: no value in it");
	return;
}

my $set = "SELECT tokenbill.set_secret('any', 'sk-any')";

sub write_key
{
	my ($text, $mode, $file) = @_;
	$file //= "$dir/key";
	unlink $file;
	append_to_file($file, $text);
	chmod $mode // 0600, $file;
	return;
}

my $key_a = '0123456789abcdef' x 4;
my $key_b = 'fedcba9876543210' x 4;

# ---- no key

refused('without a key', $set, '55000', '{"reason":"no_key"}', 'there is no key to encrypt secrets with');
like((refusal($set))[3], qr/openssl rand -hex 32/, 'the hint says how to make one');

# ---- a file

settings('tokenbill.key_file' => "$dir/key");
refused('no such file', $set, '58030', '{"error":"No such file or directory","reason":"file_unreadable"}', 'could not open the key file: No such file or directory');
foreach my $mode (0640, 0604, 0620, 0660, 0644, 0601)
{
	write_key($key_a, $mode);
	refused(sprintf('a file of mode %04o', $mode), $set, 'F0000', sprintf('{"mode":"%04o","reason":"file_rights"}', $mode), 'the key file may be read by others');
}
unlink "$dir/key";
mkdir "$dir/key", 0700;
refused('a directory', $set, 'F0000', '{"mode":"0700","reason":"file_rights"}', 'the key file may be read by others');
rmdir "$dir/key";
is(system('mkfifo', '-m', '600', "$dir/key"), 0, 'a pipe is made');
refused('a pipe, which is not waited for', $set, 'F0000', '{"mode":"0600","reason":"file_rights"}', 'the key file may be read by others');
my $source = '"source":"key_file"';
foreach my $case (
	[ '', 'empty' ], [ "\n", 'empty' ], [ " \r\n\t\n", 'empty' ],
	[ substr($key_a, 1), 'wrong_length', 63 ], [ $key_a . '0', 'wrong_length', 65 ], [ '0' x 128, 'wrong_length', 128 ], [ '7', 'wrong_length', 1 ],
	[ "\n$key_a\n" . substr($key_a, 2), 'wrong_length', 62, 3 ],
	[ "$key_a $key_a", 'not_hex' ], [ 'g' . substr($key_a, 1), 'not_hex' ], [ substr($key_a, 0, 32) . ' ' . substr($key_a, 32), 'not_hex' ], [ "0x$key_a", 'not_hex' ],
	[ "$key_a\nno key\n", 'not_hex', undef, 2 ], [ "$key_a\0", 'not_hex' ],
	[ $key_a . ' ' x 3000, 'too_long' ], [ 'x' x 100000, 'too_long' ])
{
	my ($bad, $reason, $digits, $line) = @$case;
	$line //= 1 if $reason =~ /^(?:not_hex|wrong_length)$/;
	write_key($bad);
	my $detail = '{' . join(',', (defined $digits ? qq("digits":$digits) : ()), (defined $line ? qq("line":$line) : ()), qq("reason":"$reason"), $source) . '}';
	refused('a file with ' . length($bad) . " bytes that are no key: $reason", $set, 'F0000', $detail,
		'what is in the key file is no key' . (defined $digits ? ": line $line has $digits digits, not 64" : ''));
}
my @many = map { sprintf '%064x', $_ } 1 .. 17;
write_key(join "\n", @many);
refused('seventeen keys', $set, 'F0000', qq({"max_keys":16,"reason":"too_many_keys",$source}), 'what is in the key file are more than 16 keys');
my %id;
foreach my $good ($key_a, uc $key_a, "$key_a\n", "$key_a\r\n", "\n  $key_a\t\n", "$key_a\n$key_b\n", "$key_a\n\n  $key_a \n", join("\n", $key_a, @many[ 1 .. 15 ]))
{
	foreach my $mode (0600, 0400)
	{
		write_key($good, $mode);
		my $c = $server->client;
		$c->rows($set);
		$id{ $c->value("SELECT key_id FROM tokenbill.secrets WHERE name = 'any'") } = 1;
		$c->close;
	}
}
is(scalar keys %id, 1, 'it is the same key, with upper-case digits, with white space around, and with others below');
my ($id_a) = keys %id;

# ---- in and out again

my $c = $server->client;
my %value = (
	one => 'x',
	key => 'sk-' . join('', map { chr(97 + int(rand(26))) } 1 .. 48),
	pem => "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----\n",
	long => 'x' x 8192,
	umlaut => "\x{e4}\x{5b57}",
	n => 'the name of this one is one letter',
	'n' x 255 => 'and of this one 255');
foreach my $name (sort keys %value)
{
	$c->query('SELECT tokenbill.set_secret($1, $2)', $name, $value{$name});
	is($c->value('SELECT open_secret($1)', $name), $value{$name}, 'as it went in: ' . substr($name, 0, 10));
}
$c->rows("SELECT tokenbill.set_secret('key', 'sk-other')");
is($c->value("SELECT open_secret('key')"), 'sk-other', 'another value takes its place');
is($c->sqlstate("SELECT open_secret('none')"), 'PT404', 'there is none of another name');

# ---- locked while it is in plain text, and not a moment longer

# whether this kernel lets such processes lock memory at all
my $may_lock = slurp_file('/proc/' . $c->pid . '/limits') =~ /^Max locked memory\s+(\d+|unlimited)/m && $1 ne '0';
my $locked = sub { return slurp_file('/proc/' . $_[0]->pid . '/status') =~ /^VmLck:\s+(\d+)/m ? $1 : undef; };
is($locked->($c), 0, 'nothing is locked afterwards');
SKIP:
{
	skip 'this machine lets nobody lock memory', 1 unless $may_lock;
	like($c->value("SELECT locked_while_open('key', true)"), qr/^VmLck:\s+[1-9]/, 'while it is open, something is');
}
is($locked->($c), 0, 'when it is wiped, nothing');
like($c->query("SELECT locked_while_open('key', false)")->{error}{message}, qr/^VmLck:/, 'an error before it is wiped');
is($locked->($c), 0, 'leaves nothing either');
$c->rows("SELECT count(open_secret('key')) FROM generate_series(1, 1000)");
is($locked->($c), 0, 'nor do a thousand');
my $maps = sub { return scalar(my @lines = split /\n/, slurp_file('/proc/' . $_[0]->pid . '/maps')); };
my $before = $maps->($c);
$c->query("SELECT locked_while_open('key', false)") foreach 1 .. 200;
cmp_ok($maps->($c), '<=', $before + 5, 'two hundred errors leave no pages behind');
$c->close;

# ---- another key

write_key($key_b);
my ($id_b) = do { my $x = $server->client; $x->rows($set); my $i = $x->value("SELECT key_id FROM tokenbill.secrets WHERE name = 'any'"); $x->close; $i; };
isnt($id_b, $id_a, 'another key has another id');
refused('with another key', "SELECT open_secret('key')", '39000', qq({"key_id":"$id_a","present_key_id":"$id_b","reason":"other_key","secret":"key"}),
	qq(secret "key" was encrypted with key "$id_a", not with the present key "$id_b"));
is($server->safe_psql('postgres', "SELECT open_secret('any')"), 'sk-any', 'what was set with it opens');
$server->safe_psql('postgres', "UPDATE tokenbill.secret SET key_id = '$id_b' WHERE name = 'key'");
refused('a row that says it is of this key', "SELECT open_secret('key')", 'XX001', '{"part":"key","reason":"not_authentic","secret":"key"}', 'secret "key" has been changed, or belongs to another name or version');
$server->safe_psql('postgres', "UPDATE tokenbill.secret SET key_id = '$id_a' WHERE name = 'key'");
write_key("$key_b\n$key_a\n");
is($server->safe_psql('postgres', "SELECT open_secret('key')"), 'sk-other', 'with the first key below the other one it opens');
is($server->safe_psql('postgres', "SELECT open_secret('any')"), 'sk-any', 'and so does what was set with the other');
is($server->safe_psql('postgres', "SELECT tokenbill.set_secret('new', 'sk-new'); SELECT key_id FROM tokenbill.secrets WHERE name = 'new'"), "\n$id_b", 'what is set wants the present one');
write_key($key_a);
is($server->safe_psql('postgres', "SELECT open_secret('key')"), 'sk-other', 'with the first key again it opens again');

# ---- rows that somebody has changed

sub changed { return [ 'XX001', qq({"part":"$_[0]","reason":"not_authentic","secret":"key"}), 'secret "key" has been changed, or belongs to another name or version' ]; }
sub truncated { return [ 'XX001', qq({"part":"$_[0]","reason":"wrong_length","secret":"key"}), 'secret "key" is truncated' ]; }
my %part = (key_nonce => 'key', wrapped_key => 'key', value_nonce => 'value', ciphertext => 'value');
$server->safe_psql('postgres', "CREATE TABLE before AS SELECT * FROM tokenbill.secret WHERE name = 'key'; SELECT tokenbill.set_secret('key', 'sk-other')");
foreach my $case (
	(map { [ "$_ = set_byte($_, 0, get_byte($_, 0) # 1)", changed($part{$_}) ] } sort keys %part),
	(map { [ "$_ = set_byte($_, octet_length($_) - 1, get_byte($_, octet_length($_) - 1) # 128)", changed($part{$_}) ] } qw(wrapped_key ciphertext)),
	[ 'version = version + 1', changed('key') ],
	[ '(wrapped_key, key_nonce) = (SELECT b.wrapped_key, b.key_nonce FROM before b)', changed('key') ],
	[ '(ciphertext, value_nonce) = (SELECT b.ciphertext, b.value_nonce FROM before b)', changed('value') ],
	[ '(wrapped_key, key_nonce, ciphertext, value_nonce) = (SELECT b.wrapped_key, b.key_nonce, b.ciphertext, b.value_nonce FROM before b)', changed('key') ],
	[ 'ciphertext = substr(ciphertext, 1, octet_length(ciphertext) - 1)', changed('value') ],
	[ "ciphertext = ciphertext || '\\x00'", changed('value') ],
	[ "ciphertext = substr(ciphertext, 1, 16)", truncated('value') ],
	[ "ciphertext = ''", truncated('value') ],
	[ "ciphertext = decode(repeat('00', 8209), 'hex')", truncated('value') ],
	[ "wrapped_key = substr(wrapped_key, 1, 47)", truncated('key') ],
	[ "wrapped_key = ''", truncated('key') ],
	[ "key_nonce = substr(key_nonce, 1, 11)", truncated('key') ],
	[ "value_nonce = ''", truncated('value') ],
	[ "(wrapped_key, key_nonce) = (SELECT o.wrapped_key, o.key_nonce FROM tokenbill.secret o WHERE o.name = 'pem')", changed('key') ],
	[ "(ciphertext, value_nonce) = (SELECT o.ciphertext, o.value_nonce FROM tokenbill.secret o WHERE o.name = 'pem')", changed('value') ],
	[ "(wrapped_key, key_nonce, ciphertext, value_nonce) = (SELECT o.wrapped_key, o.key_nonce, o.ciphertext, o.value_nonce FROM tokenbill.secret o WHERE o.name = 'pem')", changed('key') ],
	[ 'layout = 2', [ '0A000', '{"layout":2,"secret":"key"}', 'secret "key" has an unknown layout' ] ],
	[ "key_id = ''", [ '39000', qq({"key_id":"","present_key_id":"$id_a","reason":"other_key","secret":"key"}), qq(secret "key" was encrypted with key "", not with the present key "$id_a") ] ],
	[ "key_id = key_id || '0'", [ '39000', qq({"key_id":"${id_a}0","present_key_id":"$id_a","reason":"other_key","secret":"key"}), qq(secret "key" was encrypted with key "${id_a}0", not with the present key "$id_a") ] ])
{
	my ($what, $expected) = @$case;
	my $x = $server->client;
	$x->rows('CREATE TEMP TABLE kept AS SELECT * FROM tokenbill.secret');
	$x->rows("UPDATE tokenbill.secret SET $what WHERE name = 'key'");
	refused($what, "SELECT open_secret('key')", @$expected);
	$x->rows('DELETE FROM tokenbill.secret; INSERT INTO tokenbill.secret SELECT * FROM kept');
	$x->close;
}
is($server->safe_psql('postgres', "SELECT open_secret('key')"), 'sk-other', 'put back, it opens');
$server->safe_psql('postgres', "UPDATE tokenbill.secret SET name = 'moved' WHERE name = 'umlaut'");
refused('moved to another name', "SELECT open_secret('moved')", 'XX001', '{"part":"key","reason":"not_authentic","secret":"moved"}', 'secret "moved" has been changed, or belongs to another name or version');
$server->safe_psql('postgres', "DELETE FROM tokenbill.secret WHERE name = 'moved'");
$server->safe_psql('postgres', "UPDATE tokenbill.secret SET name = 'swapped' WHERE name = 'one'; UPDATE tokenbill.secret SET name = 'one' WHERE name = 'pem'; UPDATE tokenbill.secret SET name = 'pem' WHERE name = 'swapped'");
refused("swapped: $_", "SELECT open_secret('$_')", 'XX001', qq({"part":"key","reason":"not_authentic","secret":"$_"}), qq(secret "$_" has been changed, or belongs to another name or version)) foreach qw(one pem);
# restored as it was, it opens: that an older value is put back, whole, is for nobody to see
$server->safe_psql('postgres', "DELETE FROM tokenbill.secret WHERE name = 'key'; INSERT INTO tokenbill.secret SELECT * FROM before");
is($server->safe_psql('postgres', "SELECT open_secret('key')"), 'sk-other', 'an older row, whole, opens');

# ---- two first values at once: both are stored, one after the other

{
	my ($first, $second) = ($server->client, $server->client);
	$first->rows('BEGIN');
	$first->rows("SELECT tokenbill.set_secret('twice', 'sk-twice-1')");
	$second->send("SELECT tokenbill.set_secret('twice', 'sk-twice-2')");
	$server->wait_blocked($second);
	$first->rows('COMMIT');
	is($second->result->{error}, undef, 'the second waits for the first');
	is($second->value("SELECT version || open_secret('twice') FROM tokenbill.secrets WHERE name = 'twice'"), '2sk-twice-2', 'and is the second version');
	$_->close foreach $first, $second;
}

# ---- a command

write_key("$key_a\n", 0600, "$dir/key_a");
settings('tokenbill.key_command' => "cat $dir/key_a");
refused('a file and a command', $set, 'F0000', '{"reason":"two_keys"}', 'tokenbill.key_file and tokenbill.key_command are both set');
settings('tokenbill.key_file' => '');
is($server->safe_psql('postgres', "SELECT open_secret('key')"), 'sk-other', 'a command brings the key, too');
my $failed = 'tokenbill.key_command ended with exit status';
my $loud = 'sk-loud';
foreach my $case (
	[ 'exit 3', '{"exit_status":3,"reason":"command_failed"}', "$failed 3" ],
	[ "cat $dir/key_a; exit 1", '{"exit_status":1,"reason":"command_failed"}', "$failed 1" ],
	[ '/no/such/program', '{"exit_status":127,"reason":"command_failed"}', "$failed 127" ],
	[ 'kill -SEGV $$', '{"reason":"command_failed","signal":11}', 'tokenbill.key_command was killed' ],
	[ "cat $dir/key_a; kill -KILL \$\$", '{"reason":"command_failed","signal":9}', 'tokenbill.key_command was killed' ],
	[ 'true', '{"reason":"empty","source":"key_command"}', 'what tokenbill.key_command prints is no key' ],
	[ "echo $loud; echo $loud >&2", '{"line":1,"reason":"not_hex","source":"key_command"}', 'what tokenbill.key_command prints is no key' ],
	[ "cat $dir/key_a; echo $loud", '{"line":2,"reason":"not_hex","source":"key_command"}', 'what tokenbill.key_command prints is no key' ],
	[ "head -c 63 $dir/key_a", '{"digits":63,"line":1,"reason":"wrong_length","source":"key_command"}', 'what tokenbill.key_command prints is no key: line 1 has 63 digits, not 64' ],
	[ 'head -c 32 /dev/zero', '{"line":1,"reason":"not_hex","source":"key_command"}', 'what tokenbill.key_command prints is no key' ],
	[ 'head -c 1000000 /dev/zero; exit 0', '{"reason":"too_long","source":"key_command"}', 'what tokenbill.key_command prints is no key' ])
{
	my ($command, $detail, $message) = @$case;
	settings('tokenbill.key_command' => $command);
	my @got = refusal("SELECT open_secret('key')");
	is_deeply([ @got[ 0 .. 2 ] ], [ '38000', $detail, $message ], "command: $command");
	like($got[3], qr/^[A-Z].*\.$/, 'and what to do about it');
}
# cat reads until the end of its input, of which it has none; a shell has what it needs
settings('tokenbill.key_command' => "test -z \"\$(cat)\" && printf %s \"\$(cat $dir/key_a)\"");
is($server->safe_psql('postgres', "SELECT open_secret('key')"), 'sk-other', 'its input is empty, and its output may come without a line feed');

# It has nothing of the server's: no connection of a client's, no file
settings('tokenbill.key_command' => "ls -l /proc/self/fd >$dir/fds; cat $dir/key_a");
is($server->safe_psql('postgres', "SELECT open_secret('key')"), 'sk-other', 'it may open files of its own');
is_deeply([ map { /(\d+) -> (.*)/ ? "$1 $2" : () } grep { !m{ /proc/\d+/fd$} } split /\n/, slurp_file("$dir/fds") ], [ '0 /dev/null', "1 $dir/fds", '2 /dev/null' ], 'and inherits none');

# One that does not end is killed, with what it has started
sub runs { my ($pid) = @_; return kill(0, $pid) && slurp_file("/proc/$pid/stat") !~ /^\d+ \(.*\) Z/s; }

foreach my $case (
	[ 'keeps quiet', "echo \$\$ > $dir/pid; tail -f /dev/null" ],
	[ 'prints a key and stays', "echo \$\$ > $dir/pid; cat $dir/key_a; tail -f /dev/null" ],
	[ 'closes its output and stays', "echo \$\$ > $dir/pid; exec >/dev/null; tail -f /dev/null" ],
	[ 'leaves a child that has its output', "tail -f /dev/null & echo \$! > $dir/pid; cat $dir/key_a" ],
	[ 'ignores all signals that can be ignored', "trap '' HUP INT TERM PIPE; echo \$\$ > $dir/pid; tail -f /dev/null" ])
{
	my ($what, $command) = @$case;
	unlink "$dir/pid";
	settings('tokenbill.key_command' => $command, 'tokenbill.key_command_timeout' => 500);
	refused("a command that $what", "SELECT open_secret('key')", 'PT504', '{"reason":"command_slow","timeout_ms":500}', 'tokenbill.key_command took longer than 500 ms');
	my ($pid) = slurp_file("$dir/pid") =~ /(\d+)/;
	ok($pid, "$what: it did run");
	$server->wait_until("$what: it is gone", sub { return !runs($pid); });
}
# and one whose caller goes away
foreach my $how (qw(cancel terminate))
{
	unlink "$dir/pid";
	settings('tokenbill.key_command' => "echo \$\$ > $dir/pid; tail -f /dev/null", 'tokenbill.key_command_timeout' => 600000);
	my $caller = $server->client;
	my $other = $server->client;
	$caller->send("SELECT open_secret('key')");
	$server->wait_until('the command runs', sub { return -s "$dir/pid"; });
	my ($pid) = slurp_file("$dir/pid") =~ /(\d+)/;
	ok(runs($pid), "$how: it runs");
	$other->value("SELECT pg_${how}_backend(\$1)", $caller->pid);
	my $answer = $caller->result;
	is($answer->{error}{code}, $how eq 'cancel' ? '57014' : '57P01', "$how: the caller is told");
	$server->wait_until("$how: the command is gone", sub { return !runs($pid); });
	if ($how eq 'cancel')
	{
		is($caller->value('SELECT 1'), 1, 'the session goes on');
		is($locked->($caller), 0, 'with nothing left in it');
		$caller->close;
	}
	$other->close;
}
settings('tokenbill.key_command' => "cat $dir/key_a", 'tokenbill.key_command_timeout' => 10000);
my $log = slurp_file($server->logfile);
unlike($log, qr/\Q$loud\E$|\n\Q$loud\E/m, 'what a command says is not logged');
unlike($log, qr/$key_a/i, 'nor is a key');

# ---- dumps

$server->safe_psql('postgres', "SELECT tokenbill.set_secret('dumped', 'sk-dumped-$key_b')");
my $contents = 'SELECT * FROM tokenbill.secret ORDER BY name';
my $original = $server->safe_psql('postgres', $contents);
$server->command_ok([ 'pg_dump', '-f', "$dir/dump.sql", $server->connstr('postgres') ], 'pg_dump');
my $dump = slurp_file("$dir/dump.sql");
my $hex = unpack('H*', "sk-dumped-$key_b");
unlike($dump, qr/sk-|\Q$hex\E/, 'has no secret in it');
like($dump, qr/dumped/, 'but that there is one');
$server->safe_psql('postgres', 'CREATE DATABASE copy');
$server->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql", $server->connstr('copy') ], 'it is restored');
is($server->safe_psql('copy', $contents), $original, 'every row is back');
is($server->safe_psql('copy', "SELECT open_secret('dumped')"), "sk-dumped-$key_b", 'with the key it opens');
settings('tokenbill.key_command' => '');
refused('without it', "SELECT open_secret('dumped')", '55000', '{"reason":"no_key"}', 'there is no key to encrypt secrets with');
is($server->safe_psql('copy', "SELECT count(*) > 5 FROM tokenbill.secrets"), 't', 'the view works without it');
is($server->safe_psql('copy', "SELECT tokenbill.drop_secret('dumped')"), '', 'and so does dropping');

$server->stop;
done_testing();
