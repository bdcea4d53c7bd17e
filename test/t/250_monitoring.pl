# docs/monitoring with the real programs: prometheus-postgres-exporter and
# prometheus-sql-exporter ask a server, Prometheus asks them, and what it
# answers is what the database says. promtool looks at the text, the rules and
# their tests, and Prometheus at every expression of the dashboard.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server qw(equal_decimals);

my $docs = "$FindBin::RealBin/../../docs/monitoring";
foreach my $program (qw(prometheus promtool prometheus-postgres-exporter prometheus-sql-exporter))
{
	next if grep { -x "$_/$program" } split /:/, $ENV{PATH};
	plan skip_all => "there is no $program (test/install-packages check brings it)" unless $ENV{CI};
	die "there is no $program (test/install-packages check brings it)\n";
}

my $server = Tokenbill::Server->new('main');
$server->begin(conf => ["shared_preload_libraries = 'tokenbill'"]);
my $direct = $server->client;
my $provider = 'deep"seek\\1';
$direct->rows($_) foreach (
	'CREATE ROLE monitor LOGIN IN ROLE tokenbill_reader',
	"SELECT tokenbill.create_account('ann', credit_limit => 1)",
	"SELECT tokenbill.create_account('euro', 'EUR')",
	"SELECT tokenbill.recharge('ann', 10, 'order-1')",
	"SELECT tokenbill.recharge('euro', 0.1, 'order-2')",
	"SELECT tokenbill.charge_amount('ann', 10.5, 'call-1')",
	"SELECT tokenbill.hold('euro', 0.025, 'stream-1')",
	"SELECT tokenbill.issue_token('ann')",
	"SELECT tokenbill.breaker_note('provider', 'novita', true, 1500) FROM generate_series(1, 10)",);
$direct->rows('SELECT tokenbill.add_provider($1, $2, low_balance => 20)', $provider, 'manual');
$direct->rows("SELECT tokenbill.record_provider_balance(\$1, 110.25, checked_at => tokenbill.clock() - interval '1 hour')", $provider);
$direct->rows('SELECT tokenbill.record_provider_balance($1, 100.25)', $provider);
# one that is asked, but not by the worker of this server: as if two answers had come
$direct->rows($_) foreach (
	"SELECT tokenbill.add_preset('nobody', 'https://novita.example.com')",
	"SELECT tokenbill.add_preset_request('nobody', '/balance', '\$.balance', headers => '{}')",
	'BEGIN',
	"SELECT tokenbill.add_provider('novita', 'nobody')",
	"UPDATE tokenbill.provider_check SET next_at = '2099-01-01', checks = 2, latency[5] = 1, latency[8] = 1, latency_ms = 4500",
	'COMMIT',);
$direct->rows("SELECT tokenbill.set_credential_expiry('deepseek', tokenbill.clock() + interval '1 hour')");
$direct->rows('SELECT tokenbill.evaluate_alerts()');
$direct->rows("SELECT tokenbill.record_worker_error('check', 'novita', 'XX000', 'it broke')");
is($direct->sqlstate("SELECT tokenbill.charge_amount('ann', 100, 'call-2')"), 'PT402', 'something is refused');

# ---- programs of others, each with a log; they end with us
my $dir = $server->basedir . '/monitoring';
mkdir $dir or die "mkdir $dir: $!";
my %running;

sub program
{
	my ($name, %opt) = @_;
	my $pid = fork();
	die "fork: $!" unless defined $pid;
	if (!$pid)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', "$dir/$name.log";
		open STDERR, '>&', \*STDOUT;
		$ENV{$_} = $opt{env}{$_} foreach keys %{ $opt{env} };
		exec @{ $opt{command} } or POSIX::_exit(127);
	}
	$running{$name} = $pid;
	return;
}

sub finish_programs
{
	kill 'TERM', values %running;
	waitpid $_, 0 foreach values %running;
	%running = ();
	return;
}

END
{
	local $?;
	finish_programs();
}

my $http = HTTP::Tiny->new(timeout => 10, keep_alive => 0);

# Wait for a condition on the programs, none of which may end meanwhile
sub wait_for
{
	my ($what, $condition) = @_;
	return $server->wait_until(
		$what,
		sub {
			foreach my $name (keys %running)
			{
				die "$name ended: " . slurp_file("$dir/$name.log") if waitpid($running{$name}, POSIX::WNOHANG()) > 0;
			}
			return $condition->();
		});
}

sub promtool
{
	my ($input, @arguments) = @_;
	my ($out, $err) = ('', '');
	my $good = IPC::Run::run([ 'promtool', @arguments ], '<', \$input, '>', \$out, '2>', \$err, IPC::Run::timeout($Tokenbill::Client::timeout));
	return ($good, "$out$err");
}

sub edited
{
	my ($file, %change) = @_;
	my $text = slurp_file("$docs/$file");
	foreach my $from (sort keys %change)
	{
		die "there is no $from in $file" unless $text =~ s/\Q$from\E/$change{$from}/g;
	}
	(my $copy = $file) =~ s{.*/}{};
	append_to_file("$dir/$copy", $text);
	return "$dir/$copy";
}

# ---- the text, as a login with tokenbill_reader alone gets it
my $monitor = $server->client(user => 'monitor');
my $text = $monitor->value('SELECT tokenbill.metrics_text()');
{
	my ($good, $said) = promtool($text, qw(check metrics));
	ok($good, 'promtool check metrics passes') or diag($said);
	is($said, '', 'and has nothing to say');
	my ($bad) = promtool($text =~ s/^(# TYPE tokenbill_holds_open) gauge$/$1 counter/mr, qw(check metrics));
	ok(!$bad, 'which it would have of a counter without _total');
}
like($text, qr/^tokenbill_provider_balance\{currency="USD",provider="deep\\"seek\\\\1"\} 100\.25$/m, 'quotes and backslashes are escaped');
like($text, qr/^tokenbill_refusals_total\{sqlstate="PT402"\} 1$/m, 'the refusal was counted');
my @families = sort $text =~ /^# TYPE (\S+) /mg;
is_deeply(\@families, [ sort keys %{ { map { $_ => 1 } $text =~ /^# HELP (\S+) /mg } } ], 'each name has its HELP and TYPE once');
is(join("\n", grep { /^\S+check_duration_seconds\S*(?:le="1|le="\+Inf|_sum|_count)/ } split /\n/, $text), <<'LINES' =~ s/\n\z//r, "a histogram's buckets add up, and its parts stand together");
tokenbill_check_duration_seconds_bucket{provider="novita",le="1"} 1
tokenbill_check_duration_seconds_bucket{provider="novita",le="1.2"} 1
tokenbill_check_duration_seconds_bucket{provider="novita",le="10"} 2
tokenbill_check_duration_seconds_bucket{provider="novita",le="+Inf"} 2
tokenbill_check_duration_seconds_count{provider="novita"} 2
tokenbill_check_duration_seconds_sum{provider="novita"} 4.5
LINES


my %labels = map { $_->{name} => [ split /,/, $_->{labels} ] }
  $monitor->rows(q{SELECT m.name, string_agg(DISTINCT k, ',') AS labels FROM tokenbill.metrics m, jsonb_object_keys(m.labels) k GROUP BY m.name});
$labels{tokenbill_trial_balance_off} = ['currency'];
my %shown = map { $_->{name} => 1 } $monitor->rows('SELECT DISTINCT name FROM tokenbill.metrics');
{
	my $table = slurp_file("$docs/README.md") =~ s/.*?^## What there is$(.*?)^## .*/$1/msr;
	my @listed = $table =~ /^\| `(tokenbill_\w+)`/mg;
	is_deeply([ sort @listed ], \@families, 'the page has all metrics and no others');
}

# ---- rules
{
	my ($good, $said) = promtool('', 'check', 'rules', "$docs/tokenbill.rules.yml");
	ok($good, 'promtool check rules') or diag($said);
	($good, $said) = promtool('', 'test', 'rules', "$docs/tokenbill.rules.test.yml");
	ok($good, 'promtool test rules') or diag($said);
	my @alerts = slurp_file("$docs/tokenbill.rules.yml") =~ /alert: (\w+)/g;
	my %tested = map { $_ => 1 } slurp_file("$docs/tokenbill.rules.test.yml") =~ /alertname: (\w+)/g;
	is_deeply([ grep { !$tested{$_} } @alerts ], [], 'every alert is tested');
	my %told = map { $_ => 1 } slurp_file("$docs/README.md") =~ /`(Tokenbill\w+)`/g;
	is_deeply([ sort @alerts ], [ sort keys %told ], 'and on the page');
}

# ---- exporters and Prometheus
my ($postgres, $sql, $prometheus) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 3;
my ($host, $port) = ($server->host, $server->port);
program(
	'postgres-exporter',
	env => { DATA_SOURCE_NAME => "user=monitor host=$host port=$port dbname=postgres" },
	command => [
		'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$postgres", "--extend.query-path=$docs/postgres-exporter.yaml",
		qw(--disable-default-metrics --disable-settings-metrics --no-collector.database --no-collector.bgwriter) ]);
# more often than anybody would, so that nothing has to be waited for
my $config = edited(
	'sql-exporter.yml',
	'@/mydb?host=/run/postgresql&port=5432' => "@/postgres?host=$host&port=$port",
	"interval: '15s'" => "interval: '1s'");
program('sql-exporter', command => [ 'prometheus-sql-exporter', '-config.file', $config, '-web.listen-address', "127.0.0.1:$sql" ]);
append_to_file("$dir/tokenbill.rules.yml", slurp_file("$docs/tokenbill.rules.yml"));
$config = edited(
	'prometheus.yml',
	'127.0.0.1:9187' => "127.0.0.1:$postgres",
	'127.0.0.1:9237' => "127.0.0.1:$sql",
	'scrape_interval: 15s' => 'scrape_interval: 1s',
	'evaluation_interval: 15s' => 'evaluation_interval: 1s');
program(
	'prometheus',
	command => [
		'prometheus', "--config.file=$config", "--storage.tsdb.path=$dir/data", "--web.listen-address=127.0.0.1:$prometheus", '--log.level=warn' ]);

# The answer to a query, decoded; undef while Prometheus does not answer
sub asked
{
	my ($expression) = @_;
	my $answer = $http->post_form("http://127.0.0.1:$prometheus/api/v1/query", { query => $expression });
	return eval { decode_json($answer->{content}) };
}

# The one value of an expression, once there is one
sub value_of
{
	my ($expression, $condition) = @_;
	return wait_for(
		"$expression to have a value",
		sub {
			my $answer = asked($expression) or return;
			die "$expression: $answer->{error}" if $answer->{status} ne 'success';
			my @result = @{ $answer->{data}{result} };
			return unless @result == 1 && (!$condition || $condition->($result[0]{value}[1]));
			return \$result[0]{value}[1];
		});
}

my $quoted = $provider =~ s/(["\\])/\\$1/gr;
foreach my $job (qw(postgres sql))
{
	my $value = value_of(qq(tokenbill_provider_balance{job="$job",provider="$quoted",currency="USD"}));
	ok(equal_decimals($$value, 100.25), "$job: the provider's balance comes out of Prometheus") or diag($$value);
	$value = value_of(qq(tokenbill_refusals_total{job="$job",sqlstate="PT402"}));
	is($$value, 1, "$job: and the refusals");
	$value = value_of(qq(tokenbill_customer_held{job="$job",currency="EUR"}));
	ok(equal_decimals($$value, 0.025), "$job: and what customers' holds reserve");
	is(${ value_of(qq(tokenbill_trial_balance_off{job="$job",currency="EUR"})) }, 0, "$job: and the trial balance");
}

# What the view has is what arrives, with its labels and under its name
{
	my ($view) = $monitor->column(q{SELECT string_agg(DISTINCT l.key, ',' ORDER BY l.key) FROM tokenbill.metrics m, jsonb_object_keys(m.labels) l(key)});
	foreach my $job (qw(postgres sql))
	{
		my $arrived = asked(qq({__name__=~"tokenbill_.+",job="$job"}))->{data}{result};
		my %name = map { $_->{metric}{__name__} => 1 } @$arrived;
		delete $name{tokenbill_trial_balance_off};
		is_deeply([ sort keys %name ], [ sort keys %shown ], "$job: every metric of the view arrives, and no other");
		my %label = map { $_ => 1 } map { keys %{ $_->{metric} } } @$arrived;
		delete @label{qw(__name__ job instance server database host)};
		is(join(',', sort keys %label), $view, "$job: with its labels and no others");
	}
}

# A falling balance arrives, and the alert goes off
$direct->rows('SELECT tokenbill.record_provider_balance($1, 19.5)', $provider);
foreach my $job (qw(postgres sql))
{
	ok(value_of(qq(tokenbill_provider_balance{job="$job",provider="$quoted"}), sub { return equal_decimals($_[0], 19.5) }), "$job: a new balance arrives");
	ok(value_of(qq(ALERTS{alertname="TokenbillProviderLow",alertstate="firing",job="$job",provider="$quoted"})), "$job: and the alert fires");
}

# ---- the dashboard
{
	my $dashboard = decode_json(slurp_file("$docs/grafana.json"));
	my (@expressions, @wrong, %id);
	foreach my $panel (@{ $dashboard->{panels} })
	{
		push @wrong, "panel $panel->{id} is there twice" if $id{ $panel->{id} }++;
		push @wrong, "$panel->{title} shows nothing" unless @{ $panel->{targets} };
		push @expressions, map { [ $panel->{title}, $_->{expr} ] } @{ $panel->{targets} };
	}
	cmp_ok(scalar @expressions, '>', 20, 'the dashboard shows something');
	my %drawn;
	foreach (@expressions)
	{
		my ($title, $expression) = @$_;
		foreach my $name ($expression =~ /\b(tokenbill_\w+)/g)
		{
			push @wrong, "$title: there is no $name" unless $shown{$name} || $name eq 'tokenbill_trial_balance_off';
			$drawn{$name} = 1;
		}
		# as Grafana fills them in when all are chosen
		$expression =~ s/\$(?:job|provider)\b/.*/g;
		$expression =~ s/\$__rate_interval\b/1m/g;
		my $answer = asked($expression);
		push @wrong, "$title: $answer->{error}" if $answer->{status} ne 'success';
	}
	# no panel covers another or is wider than the page, and a legend names labels that there are
	foreach my $panel (@{ $dashboard->{panels} })
	{
		my ($x, $y, $w, $h) = @{ $panel->{gridPos} }{qw(x y w h)};
		push @wrong, "$panel->{title} is not on the page" unless $x >= 0 && $x + $w <= 24 && $w > 0 && $h > 0;
		push @wrong, map { "$panel->{title} covers $_->{title}" } grep {
			my $g = $_->{gridPos};
			$_->{id} < $panel->{id} && $g->{x} < $x + $w && $x < $g->{x} + $g->{w} && $g->{y} < $y + $h && $y < $g->{y} + $g->{h}
		} @{ $dashboard->{panels} };
		push @wrong, "$panel->{title} has another data source" if grep { ($_->{datasource}{uid} // '') ne '${datasource}' } $panel, @{ $panel->{targets} };
		push @wrong, "$panel->{title} is of no kind that is known" unless $panel->{type} =~ /^(?:stat|timeseries|table|gauge|row)$/;
		foreach my $target (@{ $panel->{targets} })
		{
			my %label = map { $_ => 1 } qw(job instance);
			foreach my $name ($target->{expr} =~ /\b(tokenbill_\w+)/g)
			{
				$label{$_} = 1 foreach @{ $labels{$name} || [] };
			}
			push @wrong, map { "$panel->{title}: there is no label $_" } grep { !$label{$_} } ($target->{legendFormat} // '') =~ /\{\{\s*(\w+)\s*\}\}/g;
		}
	}
	push @wrong, map { "variable $_->{name} asks for nothing there is" }
	  grep { $_->{type} eq 'query' && !($_->{query}{query} =~ /^label_values\((\w+), \w+\)$/ && $shown{$1}) } @{ $dashboard->{templating}{list} };
	is_deeply(\@wrong, [], 'every expression of the dashboard is good, and names metrics that exist');
	is_deeply([ grep { !$drawn{$_} && $_ !~ /_low_balance$|_months$|_oldest_age_seconds$|breaker_failures$|_seconds_(sum|count)$/ } sort keys %shown ], [], 'and nearly every metric is drawn');
}

# ---- the server goes: the exporters neither keep it nor end, and say so
$monitor->close;
$direct->close;
$server->stop;
is(${ value_of('sql_exporter_last_scrape_failed{job="sql",query="tokenbill_metric"}', sub { return $_[0] == 1; }) }, 1, 'sql: says that it cannot ask');
value_of('absent(tokenbill_ledger_lines_total{job="postgres"})');
pass('postgres: has nothing to say');
finish_programs();
done_testing();
