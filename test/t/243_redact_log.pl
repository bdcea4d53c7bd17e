# What is masked in the log: each part of a line, in each format, at each level, of
# statements, parameters and plans; that the client gets its own error as it is; that
# hooks of other libraries go on working, in either order; without memory, with
# bytes that are no text, in a postmaster, after a crash; and what is in
# pg_stat_activity and pg_stat_statements.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils qw(run_command slurp_file append_to_file);
use Test::More;
use Tokenbill::Server qw(build_driver);

my $dir = PostgreSQL::Test::Utils::tempdir;
chmod 0755, $dir;
build_driver('log_hook', $dir);
my $functions = <<"SQL";
CREATE FUNCTION report(level text, message text) RETURNS void STRICT LANGUAGE c AS '$dir/log_hook', 'log_hook_report';
CREATE FUNCTION starve(room bigint) RETURNS void STRICT LANGUAGE c AS '$dir/log_hook', 'log_hook_starve';
SQL

my $card = '4111 1111 1111 1111';
my $key = 'sk-ant-api03-' . join('', map { ('a' .. 'z', 'A' .. 'Z', 0 .. 9)[ rand 62 ] } 1 .. 40);
my $secret = join '', map { chr(97 + rand 26) } 1 .. 20;
my $all = "$card, $key, password=$secret";
my $masked = '**** **** **** 1111, sk-ant-api03-***, password=***';
my $mark = 0;

sub logs { my ($server) = @_; return map { $_ => slurp_file($_) } glob $server->data_dir . '/log/*'; }

# Everything that was written meanwhile, in each format
sub logged
{
	my ($server, $code, $formats) = @_;
	my %before = logs($server);
	my %sizes = map { $_ => length $before{$_} } keys %before;
	$code->();
	my $end = 'control' . ++$mark . 'x';
	my $c = $server->client;
	$c->query("DO \$\$BEGIN RAISE WARNING '$end'; END\$\$");
	$c->close;
	$server->wait_until('the log is complete', sub { my %l = logs($server); return ($formats // 3) == grep { /\Q$end\E/ } values %l; });
	my %log = logs($server);
	return map { my ($kind) = /\.(\w+)$/; $kind => substr($log{$_}, $sizes{$_} // 0) } keys %log;
}

sub clean
{
	my ($text, $what) = @_;
	my @there = grep { index($text, $_) >= 0 } $card, $card =~ s/ //gr, $key, substr($key, 13), $secret;
	is("@there", '', "$what: nothing that must not be there");
	return;
}

my @formats = ('logging_collector = on', "log_destination = 'stderr,csvlog,jsonlog'", "log_directory = 'log'", 'log_rotation_age = 0', 'log_rotation_size = 0');
my @everything = ('log_parameter_max_length = -1', 'log_parameter_max_length_on_error = -1', 'log_min_error_statement = debug5', 'log_error_verbosity = verbose', 'log_statement = all', 'log_min_duration_statement = 0');

foreach my $order ("auto_explain,pg_stat_statements,$dir/log_hook,tokenbill", "tokenbill,$dir/log_hook,pg_stat_statements,auto_explain")
{
	my $first = $order =~ /^tokenbill/ ? 'loaded first' : 'loaded last';
	my $server = Tokenbill::Server->new($first =~ s/ /_/r);
	$server->begin(conf => [ "shared_preload_libraries = '$order'", 'tokenbill.worker = off', 'restart_after_crash = on', @formats, @everything,
		"log_hook.file = '$dir/seen'", 'auto_explain.log_min_duration = 0', 'auto_explain.log_verbose = on', 'auto_explain.log_nested_statements = on', 'pg_stat_statements.track = all', 'pg_stat_statements.track_planning = on', 'track_activity_query_size = 300' ]);
	$server->safe_psql('postgres', "$functions CREATE EXTENSION pg_stat_statements; CREATE TABLE t (api_key text UNIQUE, n text); INSERT INTO t VALUES ('one', 'x')");
	my $c = $server->client;
	unlink "$dir/seen";

	# ---- each part of a line, and the client's own error
	my %log = logged($server, sub {
		foreach my $level (qw(LOG ERROR))
		{
			my $answer = $c->query("SELECT report('$level', '\x{fc} $all')");
			next if $level eq 'LOG';
			is_deeply([ @{ $answer->{error} }{qw(message detail hint)} ], [ ("\x{fc} $all") x 3 ], "$first: the client gets its own error as it is");
		}
		my $answer = $c->query('SELECT $1::int', $all);
		is($answer->{error}{message}, qq(invalid input syntax for type integer: "$all"), "$first: with parameters as well");
		$answer = $c->query("DO \$\$BEGIN EXECUTE 'SELECT 1/0 /* $all */'; END\$\$");
		unlike($answer->{error}{context}, qr/\Q$secret\E/, "$first: but for the context, which quotes functions");
		is($c->query("INSERT INTO t VALUES (\$1), ('$key')", $key)->{error}{detail}, "Key (api_key)=($key) already exists.", "$first: the detail");
		$c->query("SELECT syntax error '$all'");
		$c->query("SELECT '$all");
		$c->query("BEGIN");
		$c->query("SELECT 1/0");
		$c->query("SELECT '$all'");
		$c->query("ROLLBACK");
		$c->query("SELECT \$1::text, '$key', \$2::text", $card, $secret =~ s/^/api_key=/r);
		$c->query("PREPARE p(text) AS SELECT \$1, '$all'");
		$c->query("EXECUTE p('$all')");
		$c->query("ALTER ROLE postgres PASSWORD '$secret'");
		$c->query("SELECT 'postgres://u:$secret\@h/', 'Authorization: Bearer $secret', '{\"client_secret\": \"$secret\"}', '-----BEGIN PRIVATE KEY-----\n$secret\n-----END PRIVATE KEY-----'");
		# in what is nobody's statement: a setting that comes with the connection
		my (undef, $stderr) = run_command([ 'psql', '-X', '-c', 'SELECT 1', $server->connstr('postgres') . " options='-c work_mem=$key'" ]);
		like($stderr, qr/invalid value for parameter "work_mem": "\Q$key\E"/, "$first: FATAL, to the client");
		# and of the postmaster
		append_to_file($server->data_dir . '/postgresql.conf', "work_mem = '$key'\n");
		$server->reload;
		$server->wait_until('the postmaster has read it', sub { my %l = logs($server); return 3 == grep { /invalid value for parameter.{1,8}work_mem/ } values %l; });
		append_to_file($server->data_dir . '/postgresql.conf', "work_mem = '4MB'\n"); });
	is(join(' ', sort keys %log), 'csv json log', "$first: three formats");
	foreach my $format (sort keys %log)
	{
		clean($log{$format}, "$first, $format");
		my $count = () = $log{$format} =~ /\Q$masked\E/g;
		cmp_ok($count, '>', 10, "$first, $format: masked $count times");
		like($log{$format}, qr/$_/, "$first, $format: $_") foreach 'for the log: .{1,2} \*\*\*\* ', 'ALTER ROLE postgres PASSWORD \S*\*\*\*', 'postgres://u:\*\*\*@h', 'Authorization: Bearer \*\*\*', 'BEGIN PRIVATE KEY-----\*\*\*-----END',
		  'Key \(api_key\)=\(\*\*\*\) already', 'FATAL\W.*invalid value for parameter \W{1,3}work_mem\W{1,4}: \W{1,4}sk-ant-api03-\*\*\*', 'invalid value for parameter \W{1,3}work_mem\W{1,4}: \W{1,4}sk-ant-api03-\*\*\*', 'Query Text';
	}
	like($log{log}, qr/LOG:  XX000: \x{c3}\x{bc} \Q$masked\E/, "$first: letters that are no ASCII are left");

	# ---- hooks of others: each line once, as it is logged, and what they drop is dropped
	my $seen = slurp_file("$dir/seen");
	clean($seen, "$first: another hook");
	is(scalar(() = $seen =~ /^\x{c3}\x{bc} \Q$masked\E\|\x{c3}\x{bc} \Q$masked\E\|\x{c3}\x{bc} \Q$masked\E\|/mg), 2, "$first: it sees each line once");
	is(scalar(() = $seen =~ /^invalid input syntax for type integer: "\Q$masked\E"/mg), 1, "$first: also one that was masked for the log only");
	%log = logged($server, sub { is($c->query("SELECT report('ERROR', 'dropped by a hook $all')")->{error}{message}, "dropped by a hook $all", "$first: what a hook drops"); });
	unlike($log{log}, qr/ERROR.*dropped by a hook/, "$first: is not logged");

	# ---- pg_stat_activity: when a statement has ended, has failed, waits
	my $other = $server->client;
	my $activity = sub { return $other->value('SELECT query FROM pg_stat_activity WHERE pid = $1', $c->pid); };
	foreach my $statement ("SELECT '$all'", "SELECT '$all", "SELECT '$all' FROM nowhere", "SELECT '$all'::int", "DO \$\$BEGIN PERFORM '$all'; END\$\$", "CREATE TEMP TABLE x AS SELECT '$all' AS a; DROP TABLE x",
		"SELECT '" . ('x ' x 130) . "$all'", "/* '$all'" . ('y' x 400) . '*/ SELECT 1')
	{
		$c->query($statement);
		clean($activity->(), "$first: pg_stat_activity, " . substr($statement, 0, 12));
		$c->query($statement =~ s/SELECT/SELECT \$1::int, /r, '1') if $statement =~ /^SELECT/;
		clean($activity->(), "$first: pg_stat_activity, with parameters");
	}
	$c->query("SET log_min_messages = panic");
	foreach my $statement ("SELECT '$all", "SELECT '$all' FROM nowhere", "SELECT '$all'::int")
	{
		$c->query($statement);
		clean($activity->(), "$first: pg_stat_activity, if errors are not logged");
	}
	$c->query("RESET log_min_messages");
	$other->rows('BEGIN');
	$other->rows('SELECT pg_advisory_xact_lock(1)');
	foreach my $way ([ "SELECT pg_advisory_lock(1), '$all'" ], [ "SELECT pg_advisory_lock(1), '$all', \$1::text", $all ], [ "INSERT INTO t SELECT '$all' FROM pg_advisory_lock(1)" ], [ "INSERT INTO t SELECT '$all' || \$1 FROM pg_advisory_lock(1)", 'x' ],
		[ "DO \$\$BEGIN PERFORM pg_advisory_lock(1), '$all'; END\$\$" ])
	{
		$c->send(@$way);
		$server->wait_blocked($c, $other);
		my $text = $activity->();
		clean($text, "$first: pg_stat_activity while it runs");
		like($text, qr/\Q$masked\E/, "$first: what is seen");
		$other->value('SELECT pg_cancel_backend($1)', $c->pid);
		is($c->result->{error}{code}, '57014', 'cancelled');
		clean($activity->(), "$first: pg_stat_activity when it was cancelled");
	}
	$other->rows('ROLLBACK');
	is($c->value("SELECT query_id <> 0 FROM pg_stat_activity WHERE pid = pg_backend_pid() AND '$all' <> ''"), 't', "$first: it still has its query id");

	# ---- the names that come with a connection
	%log = logged($server, sub {
		my $named = $server->client(settings => { application_name => $key });
		$named->query("SELECT 1/0");
		is($named->value("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"), 'sk-ant-api03-***', "$first: an application's name in pg_stat_activity");
		is($named->value('SHOW application_name'), substr($key, 0, 63), "$first: which the session keeps");
		$named->close; });
	clean($log{$_}, "$first, $_: names") foreach sort keys %log;
	like($log{$_}, qr/sk-ant-api03-\*\*\*/, "$first, $_: names are masked") foreach qw(csv json);

	# ---- pg_stat_statements: constants, comments, what it did not see analysed, utility statements
	$c->query('SELECT pg_stat_statements_reset()');
	my $stored = sub { return join "\n", $other->column('SELECT query FROM pg_stat_statements'); };
	$c->query("SELECT '$all' AS constant");
	$c->query("SELECT 'a' AS comment /* $all */, '$key'");
	$c->query("SELECT 'a' AS unsure /* password='$secret' */, E'$key\\'', \$\$$key\$\$");
	$c->query("SELECT 1 AS \"$key\"");
	$c->query("PREPARE q AS SELECT '$all' AS prepared, 4111111111111111 AS n");
	$c->query('SELECT pg_stat_statements_reset()');
	$c->query('EXECUTE q');
	$c->query("EXPLAIN (ANALYZE) SELECT '$all' AS explained");
	$c->query("DO \$\$BEGIN PERFORM '$all' AS done; END\$\$");
	$c->query("CREATE TEMP TABLE y AS SELECT '$all' AS made");
	$c->query("ALTER ROLE postgres PASSWORD '$secret'");
	$c->query("BEGIN; DECLARE d CURSOR FOR SELECT '$all' AS declared; FETCH d; COMMIT");
	$c->query("SELECT 'nothing' AS plain");
	clean($stored->(), "$first: pg_stat_statements");
	like($stored->(), qr/$_/, "$first: pg_stat_statements has $_") foreach 'AS prepared', 'SELECT \$1 AS plain';
	$c->query('SELECT pg_stat_statements_reset()');
	$c->query("SELECT 'a' AS comment /* $key */, '$key'");
	clean($stored->(), "$first: pg_stat_statements, of comments");
	like($stored->(), qr/SELECT \$1 AS comment \/\* sk-ant-api03-x{40} \*\/, \$2/, "$first: it has them without what is in them");

	# ---- no memory: not for a copy of the statement, nor for anything
	my $starving = $server->client;
	%log = logged($server, sub {
		my $padding = 'p' x (3 << 20);
		like($starving->query("SELECT starve(1000000), report('ERROR', '$all') /* $padding */")->{error}{code}, qr/XX000|53200/, "$first: an error without memory to copy the statement");
		$starving->close;
		$starving = $server->client;
		like($starving->query("SELECT starve(0), report('ERROR', repeat('$all', 20000))")->{error}{code}, qr/XX000|53200/, "$first: and for nothing else");
		$starving->close;
		$starving = $server->client;
		is($starving->query("SELECT starve(1000000), repeat('$all', 1000000)")->{error}{code}, '53200', "$first: out of memory"); });
	clean($log{$_}, "$first, $_: without memory") foreach sort keys %log;
	like($log{log}, qr/out of memory/, "$first: it was");
	is($starving->value("SELECT 'alive'"), 'alive', "$first: the session goes on");
	$starving->close;

	# ---- bytes that are no text
	$server->safe_psql('postgres', "CREATE DATABASE bytes ENCODING SQL_ASCII LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	%log = logged($server, sub {
		append_to_file("$dir/bytes.sql", "SELECT '\xff\xfe $card \xff $key\xff'::int;\n\xc3 $card \xc3;\n");
		run_command([ 'psql', '-X', '-f', "$dir/bytes.sql", $server->connstr('bytes') . ' client_encoding=SQL_ASCII' ]);
		run_command([ 'psql', '-X', '-f', "$dir/bytes.sql", $server->connstr('postgres') . ' client_encoding=UTF8' ]);
		unlink "$dir/bytes.sql"; });
	clean($log{$_}, "$first, $_: bytes that are no text") foreach sort keys %log;
	like($log{log}, qr/\xff\xfe \*\*\*\* \*\*\*\* \*\*\*\* 1111 \xff sk-ant-api03-\*\*\*\xff/, "$first: are left as they are");

	# ---- PANIC, and a server that has started again
	%log = logged($server, sub {
		my $last = $server->client;
		ok($last->query("SELECT report('FATAL', '$all')")->{lost}, "$first: FATAL ends the session");
		$last = $server->client;
		my $other = $server->client;
		$last->query("SELECT report('PANIC', '$all')");
		$server->wait_restarted($other);
		$c = $server->client;
		$c->query("SELECT report('ERROR', '$all')"); });
	clean($log{$_}, "$first, $_: PANIC") foreach sort keys %log;
	like($log{log}, qr/$_:  XX000: \Q$masked\E/, "$first: $_ is masked") foreach qw(FATAL PANIC ERROR);
	$server->stop;
}

# ---- a hook that is put before ours later, by a library of a session: the log is as
# well masked, and the client gets what is in the log
my $late = Tokenbill::Server->new('late');
$late->begin(conf => [ "shared_preload_libraries = 'tokenbill'", 'tokenbill.worker = off', @formats, @everything ]);
$late->safe_psql('postgres', $functions);
my %log = logged($late, sub {
	my $c = $late->client;
	$c->query("LOAD '$dir/log_hook'");
	$c->query("SET log_hook.file = '$dir/late'");
	is($c->query("SELECT report('ERROR', '$all')")->{error}{message}, $masked, 'a later hook: the client gets the masked error');
	is($c->query("SELECT 1/0, '$all'")->{error}{message}, 'division by zero', 'and others as they are'); });
clean($log{$_}, "a later hook, $_") foreach sort keys %log;
is(scalar(() = slurp_file("$dir/late") =~ /^division by zero\|/mg), 1, 'a later hook sees each line once');
$late->stop;

# ---- only stderr, without a collector
my $plain = Tokenbill::Server->new('stderr');
$plain->begin(conf => [ "shared_preload_libraries = 'tokenbill'", 'tokenbill.worker = off', @everything ]);
$plain->safe_psql('postgres', "SELECT '$all'");
$plain->psql('postgres', "SELECT '$all'::int");
$plain->stop;
my $text = slurp_file($plain->logfile);
clean($text, 'stderr without a collector');
like($text, qr/\Q$masked\E/, 'which has been looked through');

done_testing();
