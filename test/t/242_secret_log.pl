# That no secret gets into a log, into pg_stat_activity, a dump or a view, however
# it is handed over: with everything logged that PostgreSQL can log, in each of its
# formats. And what is covered without preloading.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils qw(run_command slurp_file);
use Test::More;
use Tokenbill::Server;

my @key = ("tokenbill.key_command = 'printf %064d 7'", 'tokenbill.worker = off');
my @log = (
	'logging_collector = on', "log_destination = 'stderr,csvlog,jsonlog'", "log_directory = 'log'", 'log_rotation_age = 0', 'log_rotation_size = 0',
	'log_parameter_max_length = -1', 'log_parameter_max_length_on_error = -1', 'log_min_error_statement = debug5', 'log_error_verbosity = verbose');

# A secret that is nowhere else; they are looked for at the end
my @secrets;

sub fresh
{
	push @secrets, 'sk' . join('', map { chr(97 + int(rand(26))) } 1 .. 30);
	return $secrets[-1];
}

sub logs
{
	my ($server) = @_;
	return map { $_ => slurp_file($_) } glob $server->data_dir . '/log/*';
}

# Everything has been written when this has, in each format
sub logged
{
	my ($server, $client, $formats) = @_;
	my $last = 'control' . int(rand(1e9));
	$client->query("DO \$\$BEGIN RAISE WARNING '$last'; END\$\$");
	$server->wait_until(
		'the log is complete',
		sub {
			my %log = logs($server);
			return $formats == grep { $_ =~ /\Q$last\E/ } values %log;
		});
	return;
}

# How often each secret is found, in a text; the ways it might be written in
sub found
{
	my ($text, @which) = @_;
	my @there;
	foreach my $secret (@which ? @which : @secrets)
	{
		my $bytes = join ' ', map { ord } split //, $secret;
		push @there, $secret if $text =~ /\Q$secret\E/i || $text =~ /\Q${\unpack('H*', $secret)}\E/i || index($text, $bytes) >= 0;
	}
	return @there;
}

# ---- preloaded, everything logged

my $server = Tokenbill::Server->new('main');
$server->begin(
	conf => [
		@key, @log,
		"shared_preload_libraries = 'tokenbill,auto_explain,pg_stat_statements'", 'log_statement = all', 'log_min_duration_statement = 0',
		'auto_explain.log_min_duration = 0', 'auto_explain.log_nested_statements = on', 'auto_explain.log_verbose = on', 'pg_stat_statements.track = all'
	]);
my $c = $server->client;
$c->rows($_) foreach (
	'CREATE EXTENSION pg_stat_statements',
	'CREATE ROLE app LOGIN IN ROLE tokenbill_app',
	'CREATE ROLE billing LOGIN IN ROLE tokenbill_billing',
	'CREATE ROLE reader LOGIN IN ROLE tokenbill_reader',
	'CREATE ROLE admin LOGIN IN ROLE tokenbill_admin',
	'CREATE FUNCTION wrapper(name text, value text) RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM tokenbill.set_secret(name, value); END$$');

# A statement, with SECRET where the secret is, and what it is to end with
sub hand_over
{
	my ($client, $statement, $state, @params) = @_;
	my $secret = fresh();
	s/SECRET/$secret/g foreach $statement, @params;
	my $answer = $client->query($statement, @params);
	(my $shown = $statement) =~ s/\Q$secret\E/SECRET/g;
	is($answer->{error} ? $answer->{error}{code} : '00000', $state, substr($shown, 0, 100) . (@params ? ' with parameters' : ''));
	is(join(' ', found(join ' ', map { $answer->{error}{$_} // '' } qw(message detail hint context))), '', 'nothing of it in the error') if $answer->{error};
	$client->query('ROLLBACK');
	return;
}

my @ways = (
	[ "SELECT tokenbill.set_secret('a', 'SECRET')", '00000' ],
	[ "select TOKENBILL . Set_Secret ( value => 'SECRET', name => 'b' )", '00000' ],
	[ "SELECT tokenbill.set_secret('a', \$\$SECRET\$\$), tokenbill.set_secret('b', \$x\$SECRET\$x\$)", '00000' ],
	[ "SELECT tokenbill.set_secret('a', E'\\'SECRET'), tokenbill.set_secret('b', U&'!0041SECRET' UESCAPE '!')", '00000' ],
	[ "SELECT tokenbill.set_secret('a', 'x''SECRET''y')", '00000' ],
	[ "/* it's */ SELECT tokenbill.set_secret('a', 'SECRET') -- SECRET", '00000' ],
	[ "SELECT 'harmless'; SELECT tokenbill.set_secret('a', 'SECRET'); SELECT 'SECRET'", '00000' ],
	[ "WITH v(x) AS (VALUES ('SECRET')) SELECT tokenbill.set_secret('a', x) FROM v", '00000' ],
	[ "EXPLAIN (ANALYZE, VERBOSE) SELECT tokenbill.set_secret('a', 'SECRET')", '00000' ],
	[ "DO \$\$BEGIN PERFORM tokenbill.set_secret('a', 'SECRET'); END\$\$", '00000' ],
	[ "DO \$do\$BEGIN EXECUTE format('SELECT tokenbill.%I(%L, %L)', 'set_secret', 'a', 'SECRET'); END\$do\$", '00000' ],
	[ "CREATE TABLE t AS SELECT tokenbill.set_secret('a', 'SECRET')::text AS x", '00000' ],
	[ 'SELECT tokenbill.set_secret($1, $2)', '00000', 'a', 'SECRET' ],
	[ 'SELECT tokenbill.set_secret($1, $2), 1 / $3::int', '22012', 'a', 'SECRET', '0' ],
	[ "PREPARE p1(text) AS SELECT tokenbill.set_secret('a', \$1 || 'SECRET')::text AS x", '00000' ],
	[ "EXPLAIN (ANALYZE, VERBOSE) EXECUTE p1('SECRET')", '00000' ],
	[ "explain\nexecute /* it's */ -- p2\n\"p1\"('SECRET')", '00000' ],
	[ "SELECT 'harmless'; CREATE TABLE IF NOT EXISTS t AS Execute P1('SECRET')", '00000' ],
	[ "EXECUTE p1('SECRET')", '00000' ],
	[ "BEGIN; DECLARE c CURSOR FOR SELECT tokenbill.set_secret('a', 'SECRET'); FETCH c", '00000' ],
	# errors: of ours, of the statement, of something else in it
	[ "SELECT tokenbill.set_secret('', 'SECRET')", '22023' ],
	[ "SELECT tokenbill.set_secret('a', E'\\tSECRET')", '22023' ],
	[ "SELECT tokenbill.set_secret('a', 'SECRET 4242424242424242')", '22023' ],
	[ "SELECT tokenbill.set_secret('a', 'SECRET'), 1/0", '22012' ],
	[ "SELECT 1/0, tokenbill.set_secret('a', 'SECRET')", '22012' ],
	[ "SELECT tokenbill.set_secret('a', \"SECRET\")", '42703' ],
	[ "SELECT tokenbill.set_secret('a', SECRET)", '42703' ],
	[ "SELECT tokenbill.set_secret('a', 'SECRET'::int::text)", '22P02' ],
	[ "SELECT tokenbill.set_secret('a', 'SECRET'::json::text)", '22P02' ],
	[ "SELECT tokenbill.set_secret('a', 'SECRET', 5)", '42883' ],
	[ "SELECT tokenbill.set_secret('a', 'SECRET", '42601' ],
	[ "SELECT tokenbill.set_secret('a', 'SECRET')) SECRET", '42601' ],
	[ "SELECT tokenbill.set_secret('a', \$x\$SECRET", '42601' ],
	[ "DO \$\$BEGIN PERFORM tokenbill.set_secret('', 'SECRET'); END\$\$", '22023' ],
	[ "DO \$\$BEGIN PERFORM tokenbill.set_secret('a', 'SECRET'); PERFORM 'SECRET'::int; END\$\$", '22P02' ],
	[ "SELECT tokenbill.set_secret('a', \$1), 'x'::text || \$2::int", '22P02', 'SECRET', 'SECRET' ],
	[ "SELECT tokenbill.add_provider('p', 'no such preset', secret => 'SECRET')", '(?!00000).....' ],
	[ "SELECT tokenbill.add_provider(\$1, 'no such preset', secret => \$2)", '(?!00000).....', 'p', 'SECRET' ]);
foreach my $settings ('SET debug_print_parse = off', 'SET debug_print_parse = on; SET debug_print_plan = on; SET debug_print_rewritten = on', 'SET auto_explain.log_format = json', "SET log_statement = 'none'")
{
	my $session = $server->client;
	$session->query($settings);
	foreach my $way (@ways)
	{
		my ($statement, $state, @params) = @$way;
		if ($state =~ /^\(/)
		{
			my $secret = fresh();
			s/SECRET/$secret/g foreach $statement, @params;
			my $answer = $session->query($statement, @params);
			isnt($answer->{error}, undef, "refused: add_provider");
			is(join(' ', found(join ' ', map { $answer->{error}{$_} // '' } qw(message detail hint context))), '', 'nothing of it in the error');
			next;
		}
		hand_over($session, $statement, $state, @params);
		$session->query('DROP TABLE IF EXISTS t; DEALLOCATE ALL') unless $statement =~ /^PREPARE|^EXPLAIN.*p1|^explain|P1/;
	}
	# what has no name in its text is known when it has run: what is logged afterwards
	if ($settings =~ /none/)
	{
		hand_over($session, "SELECT wrapper('a', 'SECRET')", '00000');
		hand_over($session, "SELECT wrapper('', 'SECRET')", '22023');
		# how long binding took is logged before it runs
		$session->query('SET log_min_duration_statement = -1');
		hand_over($session, 'SELECT wrapper($1, $2)', '00000', 'a', 'SECRET');
		hand_over($session, 'SELECT wrapper($1, $2)', '22023', '', 'SECRET');
	}
	$session->close;
}
my $app = $server->client(user => 'app');
hand_over($app, "SELECT tokenbill.set_secret('a', 'SECRET')", '42501');
hand_over($app, 'SELECT tokenbill.set_secret($1, $2)', '42501', 'a', 'SECRET');
$app->close;

logged($server, $c, 3);
my %log = logs($server);
is(scalar keys %log, 3, 'there are three logs');
foreach my $file (sort keys %log)
{
	my ($kind) = $file =~ /\.(\w+)$/;
	is(join(' ', found($log{$file})), '', "no secret in $kind");
	like($log{$file}, qr/tokenbill\.set_secret\(\*\*\*/, "$kind: the statements are there, without what is in them");
	like($log{$file}, qr/CREATE ROLE billing LOGIN/, "$kind: others are there in full");
	like($log{$file}, qr/'x'::text|harmless|SELECT '[^*]|quote|ROLLBACK/, "$kind: and go on after them");
}
like($log{$_}, qr/Query Text/, 'auto_explain has been at work') foreach grep { /\.log$/ } keys %log;

# ---- pg_stat_activity, while the function waits, before it has begun, and afterwards

my $holder = $server->client;
my $caller = $server->client(name => 'caller');
my $activity = sub { return join "\n", $c->column('SELECT concat(query, application_name, backend_type) FROM pg_stat_activity'); };
$holder->rows('BEGIN');
$holder->rows("SELECT tokenbill.set_secret('contended', 'other')");
$holder->rows('SELECT pg_advisory_xact_lock(7)');
foreach my $statement ("SELECT tokenbill.set_secret('contended', 'SECRET')", "SELECT pg_advisory_xact_lock(7), tokenbill.set_secret('contended', 'SECRET')",
	"DO \$\$BEGIN PERFORM pg_advisory_xact_lock(7); PERFORM tokenbill.set_secret('contended', 'SECRET'); END\$\$")
{
	my $secret = fresh();
	(my $sent = $statement) =~ s/SECRET/$secret/;
	$caller->send($sent);
	$server->wait_blocked($caller, $c);
	my $seen = $activity->();
	is(join(' ', found($seen)), '', "not seen while it waits: $statement");
	like($seen, qr{/\* tokenbill: a statement with a secret \*/}, 'what is seen instead');
	$c->value('SELECT pg_cancel_backend($1)', $caller->pid);
	is($caller->result->{error}{code}, '57014', 'cancelled');
	is(join(' ', found($activity->())), '', 'nor when it has been cancelled');
}
$holder->rows('ROLLBACK');
hand_over($caller, "SELECT tokenbill.set_secret('contended', 'SECRET')", '00000');
$caller->rows("SELECT 'next'");
like($activity->(), qr/SELECT 'next'/, 'other statements are seen as ever');
$_->close foreach $holder, $caller;

# ---- everything that can be read, by everybody who can log in

my $last = fresh();
$c->query("SELECT tokenbill.set_secret('last', '$last')");
foreach my $login (qw(app billing reader admin postgres))
{
	my $session = $server->client(user => $login);
	my $text = '';
	foreach my $relation ($c->column("SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('r', 'p', 'v')"), 'pg_settings', 'pg_stat_activity', 'pg_prepared_statements', 'pg_cursors')
	{
		my $answer = $session->query("SELECT x::text FROM $relation x");
		$text .= join "\n", map { $_->[0] // '' } map { ref $_ eq 'HASH' ? [ values %$_ ] : $_ } @{ $answer->{rows} };
	}
	like($text, qr/\(last,/, "$login reads that there are secrets") if $login =~ /admin|postgres/;
	is(join(' ', found($text)), '', "$login reads none in any table, view or setting");
	$session->close;
}
my $statements = join "\n", $c->column("SELECT query FROM pg_stat_statements WHERE query ~ 'set_secret' AND query !~ '(DO|CREATE|PREPARE|DECLARE|EXPLAIN) '");
like($statements, qr/set_secret\(\$1, \$2\)/, 'pg_stat_statements has the statement');
is(join(' ', found($statements)), '', 'with its constants replaced');
my ($dump) = run_command([ 'pg_dumpall', '-d', $server->connstr('postgres') ]);
like($dump, qr/COPY tokenbill\.secret /, 'pg_dumpall dumps the table');
is(join(' ', found($dump)), '', 'and no secret');
$c->close;
$server->stop;
ok(@secrets > 100, scalar(@secrets) . ' secrets were looked for');

# ---- not preloaded: from when the function has begun, and in that session from then on

@secrets = ();
my $plain = Tokenbill::Server->new('plain');
$plain->begin(conf => [ @key, @log, 'log_min_duration_statement = 0' ]);
$c = $plain->client;
foreach my $way (
	[ "SELECT tokenbill.set_secret('a', 'SECRET')", '00000' ],
	[ "SELECT tokenbill.set_secret('', 'SECRET')", '22023' ],
	[ "SELECT tokenbill.set_secret('a', 'SECRET'), 1 / (random() * 0)::int", '22012' ],
	[ 'SELECT tokenbill.set_secret($1, $2)', '00000', 'a', 'SECRET' ],
	[ "DO \$\$BEGIN PERFORM tokenbill.set_secret('', 'SECRET'); END\$\$", '22023' ])
{
	# each in a session of its own, that has not loaded the library before
	my $session = $plain->client;
	hand_over($session, @$way);
	$session->close;
}
my $session = $plain->client;
$session->rows('SELECT tokenbill.clock()');
$session->rows("SET log_statement = 'all'");
hand_over($session, "SELECT tokenbill.set_secret('a', 'SECRET')", '00000');
hand_over($session, "SELECT tokenbill.set_secret('a', 'SECRET", '42601');
$session->close;
logged($plain, $c, 3);
%log = logs($plain);
is(join(' ', found(join "\n", values %log)), '', 'not preloaded: none that was handed over after the function had begun');

# what the documentation says is not covered, is not
my $shown = fresh();
$session = $plain->client(settings => { log_statement => 'all' });
$session->rows("SELECT tokenbill.set_secret('a', '$shown')");
$session->close;
logged($plain, $c, 3);
%log = logs($plain);
isnt(join(' ', found(join("\n", values %log), $shown)), '', 'but the first statement of a session, with log_statement');
$c->close;
$plain->stop;
done_testing();
