# Random secrets and test card numbers put through every function of the extension,
# refused and accepted, as literals and as parameters, by every role; then looked for
# in every log, in pg_stat_activity, in pg_stat_statements, in every view as every
# role, and in a dump.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP ();
use MIME::Base64;
use PostgreSQL::Test::Utils qw(run_command slurp_file);
use Test::More;
use Tokenbill::Server qw(seed);

seed();
my $server = Tokenbill::Server->new('main');
$server->begin(
	conf => [
		"shared_preload_libraries = 'pg_stat_statements,tokenbill,auto_explain'", 'tokenbill.worker = off', "tokenbill.key_command = 'printf %064d 7'",
		'logging_collector = on', "log_destination = 'stderr,csvlog,jsonlog'", "log_directory = 'log'", 'log_rotation_age = 0', 'log_rotation_size = 0',
		'log_parameter_max_length = -1', 'log_parameter_max_length_on_error = -1', 'log_min_error_statement = debug5', 'log_error_verbosity = verbose', 'log_statement = all', 'log_min_duration_statement = 0',
		'auto_explain.log_min_duration = 0', 'auto_explain.log_verbose = on', 'auto_explain.log_nested_statements = on', 'pg_stat_statements.track = all', 'track_activity_query_size = 16kB' ]);
my $admin = $server->client;
$admin->rows($_) foreach (
	'CREATE EXTENSION pg_stat_statements',
	(map { "CREATE ROLE $_ LOGIN IN ROLE tokenbill_$_" } qw(app billing reader admin)),
	"SELECT tokenbill.create_account('acme'), tokenbill.recharge('acme', 1000, 'order-1'), tokenbill.set_price('llm', 'tokens', 1, 1000000), tokenbill.hold('acme', 1, 'hold-1')");

# ---- secrets: what is put in, and what of it must not be found

my @alnum = ('a' .. 'z', 'A' .. 'Z', 0 .. 9);
sub signs { my ($n, @from) = @_; @from = @alnum unless @from; return join '', map { $from[ rand @from ] } 1 .. $n; }

# A number with a check digit, of a brand
sub card
{
	my ($prefix, $length) = @{ (['4', 13], ['4', 16], ['4', 19], ['51', 16], ['55', 16], ['2221', 16], ['2720', 16], ['34', 15], ['37', 15], ['36', 14], ['6011', 16], ['65', 16], ['3530', 16], ['62', 16], ['62', 19], ['2200', 16], ['6759', 16])[ rand 17 ] };
	my $digits = $prefix . signs($length - 1 - length $prefix, 0 .. 9);
	my $sum = 0;
	my $double = 1;
	foreach my $d (reverse split //, $digits) { my $v = $d * (1 + $double); $sum += $v > 9 ? $v - 9 : $v; $double = !$double; }
	return $digits . (10 - $sum % 10) % 10;
}

my %kind = (
	card => sub { my $n = card(); return ($n, $n); },
	spaced => sub { my $n; do { $n = card(); } until length $n == 16; return (join(' ', unpack '(A4)*', $n), join ' ', unpack '(A4)*', $n); },
	dashed => sub { my $n; do { $n = card(); } until length $n == 16; return (join('-', unpack '(A4)*', $n), join '-', unpack '(A4)*', $n); },
	openai => sub { my $b = signs(48); return ("sk-proj-$b", $b); },
	openai_admin => sub { my $b = signs(60); return ("sk-admin-$b", $b); },
	anthropic => sub { my $b = signs(93, @alnum, '_', '-') . 'A9'; return ("sk-ant-api03-$b", $b); },
	deepseek => sub { my $b = signs(32, 'a' .. 'f', 0 .. 9); return ("sk-$b", $b); },
	siliconflow => sub { my $b = signs(48, 'a' .. 'z'); return ("sk-$b", $b); },
	openrouter => sub { my $b = signs(64, 'a' .. 'f', 0 .. 9); return ("sk-or-v1-$b", $b); },
	google => sub { my $b = signs(35); return ("AIza$b", $b); },
	xai => sub { my $b = signs(80); return ("xai-$b", $b); },
	groq => sub { my $b = signs(52); return ("gsk_$b", $b); },
	zhipu => sub { my $b = signs(15) . '7'; return (signs(32, 'a' .. 'f', 0 .. 9) . ".$b", $b); },
	aliyun => sub { my $b = signs(20); my $s = signs(30); return ("LTAI$b:$s", $b, $s); },
	volcengine => sub { my $b = signs(43); my $s = signs(42); return ("AKLT$b:$s==", $b, $s); },
	aws => sub { my $b = signs(16, 'A' .. 'Z', 2 .. 7); my $s = signs(40); return ("AKIA$b:$s", $b, $s); },
	stripe => sub { my $b = signs(24); return ("sk_live_$b", $b); },
	github => sub { my $b = signs(36); return ("ghp_$b", $b); },
	jwt => sub { my $p = signs(30); my $s = signs(43); return ("eyJhbGciOiJIUzI1NiJ9.eyJ$p.$s", $p, $s); },
	bearer => sub { my $b = signs(30) . '7'; return ("Authorization: Bearer $b", $b); },
	basic => sub { my $b = encode_base64('user:' . signs(20), ''); return ("Authorization: Basic $b", $b =~ s/=+$//r); },
	url => sub { my $b = signs(12); return ("postgres://user:$b\@host/db", $b); },
	query => sub { my $b = signs(14); return ("https://api.example.com/v1?api_key=$b&x=1", $b); },
	assigned => sub { my $b = signs(14); return ("password=$b", $b); },
	pem => sub { my $b = signs(64); return ("-----BEGIN PRIVATE KEY-----\n$b\n-----END PRIVATE KEY-----", $b); });
my %searched;    # what is looked for => its kind

sub fresh
{
	my ($kind) = @_;
	$kind //= (sort keys %kind)[ rand keys %kind ];
	my ($text, @parts) = $kind{$kind}->();
	$searched{$_} = $kind foreach @parts;
	return $text;
}

sub found
{
	my ($text) = @_;
	my $any = join '|', map { quotemeta } keys %searched;
	my %there;
	$there{"$searched{$1}: $1"} = 1 while $text =~ /($any)/g;
	return join "\n", sort keys %there;
}

# ---- every function

my @functions = $admin->rows(<<'SQL');
SELECT p.proname AS name, p.prokind AS kind, array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY x(t, n) ORDER BY n), '|') AS types
FROM pg_proc p WHERE p.pronamespace = 'tokenbill'::regnamespace AND p.prokind IN ('f', 'p') AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND NOT ('internal'::regtype = ANY (p.proargtypes)) ORDER BY p.oid
SQL
cmp_ok(scalar @functions, '>', 100, scalar(@functions) . ' functions');

# A value of a type, with a secret in it if a text can be
sub argument
{
	my ($type, $valid) = @_;
	return $type =~ /\[\]$/ ? '{"' . (fresh('openai')) . '"}' : $type =~ /^jsonb?$/ ? JSON::PP->new->encode({ note => fresh() }) : $type eq 'numeric' || $type eq 'bigint' ? ($valid ? 1 : fresh('card')) : $type =~ /^(?:integer|smallint|double)/ ? 1 : $type =~ /^timestamp|^date/ ? '2026-03-05' : $type eq 'interval' ? '1 hour' : $type eq 'boolean' ? 'true'
	  : $valid && $type eq 'text' && rand() < 0.5 ? 'acme' : fresh();
}

# none should wait for what never comes; one that does is not to keep the others
my %session = map { $_ => $server->client(user => $_, settings => { statement_timeout => '10s' }) } qw(app billing reader admin postgres);
my $observer = $server->client;
my %activity;
my ($calls, %ended) = 0;

sub called
{
	my ($login, $statement, @params) = @_;
	$session{$login}->query('BEGIN');
	my $answer = $session{$login}->query($statement, @params);
	$ended{ $answer->{error} ? $answer->{error}{code} : '00000' }++;
	$calls++;
	$activity{$_} = 1 foreach $observer->column('SELECT query FROM pg_stat_activity WHERE pid = $1', $session{$login}->pid);
	$session{$login}->query('ROLLBACK');
	return $answer;
}

foreach my $function (@functions)
{
	my ($name, $kind, $types) = @{$function}{qw(name kind types)};
	my @types = split /\|/, $types;
	my $verb = $kind eq 'p' ? 'CALL' : 'SELECT';
	foreach my $login ('postgres', (qw(app billing reader admin))[ rand 4 ])
	{
		foreach my $valid (0, 1)
		{
			my @values = map { argument($_, $valid) } @types;
			my @literals = map { "'" . ($values[$_] =~ s/'/''/gr) . "'::$types[$_]" } 0 .. $#types;
			called($login, "$verb tokenbill.$name(" . join(', ', @literals) . ')');
			@values = map { argument($_, $valid) } @types;
			called($login, "$verb tokenbill.$name(" . join(', ', map { '$' . ($_ + 1) . "::text::$types[$_]" } 0 .. $#types) . ')', @values);
		}
	}
}

# ---- and those that are handed one, with what has no shape at all
foreach my $kind (sort(keys %kind), ('plain') x 5)
{
	my ($n, $secret) = $kind eq 'plain' ? (signs(3), signs(30, 'a' .. 'z')) : (signs(3), fresh($kind));
	$searched{$secret} = 'plain' if $kind eq 'plain';
	my $refused = $kind =~ /^(?:card|spaced|dashed)$/;
	my $code = $refused ? '22023' : '00000';
	my $literal = $secret =~ s/'/''/gr;
	foreach my $way ([ "SELECT tokenbill.set_secret('s$n', '$literal')" ], [ 'SELECT tokenbill.set_secret($1, $2)', "s$n", $secret ], [ "SELECT tokenbill.add_provider('p$n', 'deepseek', secret => '$literal')" ], [ 'SELECT tokenbill.add_provider($1, $2, secret => $3)', "q$n", 'deepseek', $secret ])
	{
		my ($statement, @params) = @$way;
		my $answer = $session{admin}->query($statement, @params);
		is($answer->{error} ? $answer->{error}{code} : '00000', $code, "$kind: " . ($statement =~ /\.(\w+)/)[0] . (@params ? ' with parameters' : ''))
		  or diag($answer->{error}{message});
		$activity{$_} = 1 foreach $observer->column('SELECT query FROM pg_stat_activity WHERE pid = $1', $session{admin}->pid);
	}
}

note(join ', ', map { "$_: $ended{$_}" } sort keys %ended);
cmp_ok($calls, '>', 500, "$calls calls");
cmp_ok($ended{'00000'}, '>', 50, "$ended{'00000'} of them did not fail");
cmp_ok(scalar keys %ended, '>', 8, 'the others in ' . (keys(%ended) - 1) . ' ways');
cmp_ok(scalar keys %searched, '>', 1000, scalar(keys %searched) . ' secrets');

# ---- nowhere

my $end = 'control' . int rand 1e9;
$observer->query("DO \$\$BEGIN RAISE WARNING '$end'; END\$\$");
my %log;
$server->wait_until('the logs are complete', sub { %log = map { $_ => slurp_file($_) } glob $server->data_dir . '/log/*'; return 3 == grep { /$end/ } values %log; });
foreach my $file (sort keys %log)
{
	my ($format) = $file =~ /\.(\w+)$/;
	is(found($log{$file}), '', "no secret in $format");
	like($log{$file}, qr/\Q$_\E/, "$format: $_") foreach 'sk-proj-***', 'Bearer ***', 'postgres://user:***@host', '***-----END PRIVATE KEY', 'tokenbill.charge', 'Query Text', '$2 = ';
}
is(found(join "\n", keys %activity), '', 'no secret in pg_stat_activity');
cmp_ok(scalar keys %activity, '>', 500, 'of which ' . keys(%activity) . ' texts were seen');
is(found(join "\n", $observer->column('SELECT query FROM pg_stat_statements')), '', 'no secret in pg_stat_statements');
foreach my $login (sort keys %session)
{
	my $text = '';
	my $read = 0;
	foreach my $relation ($observer->column("SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"), qw(pg_stat_activity pg_settings pg_prepared_statements pg_cursors))
	{
		my $answer = $session{$login}->query("SELECT x::text AS line FROM $relation x");
		next if $answer->{error};
		$read++;
		$text .= join "\n", map { ref $_ eq 'HASH' ? values %$_ : ref $_ eq 'ARRAY' ? map { $_ // '' } @$_ : $_ } @{ $answer->{rows} };
	}
	is(found($text), '', "$login reads none, in $read tables and views");
	like($text, qr/acme/, "$login reads others") if $read > 4;
}
my ($dump) = run_command([ 'pg_dumpall', '-d', $server->connstr('postgres') ]);
like($dump, qr/COPY tokenbill\.secret /, 'a dump has the table of secrets');
is(found($dump), '', 'and none of them');

# and it would have been found
my ($any) = keys %searched;
isnt(found("x $any y"), '', 'a secret is found where there is one');
$server->stop;
done_testing();
