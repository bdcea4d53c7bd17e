# The documentation against the extension: its examples print what it shows,
# docs/reference.md has everything the extension has and nothing else, links
# lead somewhere, and the README comes to the point.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = abs_path(dirname(__FILE__) . '/../..');
chdir($top) or die "cannot enter $top: $!";

sub page
{
	my ($path) = @_;
	open(my $fh, '<:encoding(UTF-8)', $path) or die "cannot read $path: $!";
	local $/;
	return scalar <$fh>;
}

# The parts of a page under headings of one level: name => text, up to the
# next heading of that level or of a higher one
sub sections
{
	my ($text, $level) = @_;
	my (%section, $name, $fenced);
	for my $line (split /^/, $text)
	{
		$fenced = !$fenced if $line =~ /^```/;
		if (!$fenced && $line =~ /^(#+) +(.*?) *$/ && length($1) <= $level)
		{
			$name = length($1) == $level ? $2 : undef;
			if (defined $name)
			{
				die "two headings \"$name\"" if exists $section{$name};
				$section{$name} = '';
			}
			next;
		}
		$section{$name} .= $line if defined $name;
	}
	return \%section;
}

# First column of the tables in a text, without its backquotes
sub first_column
{
	my ($text) = @_;
	return [ $text =~ /^\| `([^`|]+)`[^|]* \|/mg ];
}

my $node = PostgreSQL::Test::Cluster->new('docs');
$node->init;
$node->append_conf('postgresql.conf', 'fsync = off');
$node->start;

# Examples

my %least = (
	'README.md' => 5,
	'docs/concepts.md' => 10,
	'docs/reference.md' => 40,
	'docs/providers.md' => 8,
	'docs/operations.md' => 5,
	'docs/security.md' => 4);
my @pages = ('README.md', 'CHANGELOG.md', sort glob('docs/*.md docs/*/*.md'));

# A page makes roles, which belong to the cluster: they go with its database
for my $path (@pages)
{
	my $count = () = page($path) =~ /^```sql$/mg;
	cmp_ok($count, '>=', $least{$path} || 0, "$path has its examples");
	next unless $count;
	(my $database = lc "docs_$path") =~ s/\W/_/g;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	local %ENV = (
		%ENV,
		PGHOST => $node->host,
		PGPORT => $node->port,
		PGUSER => $node->safe_psql('postgres', 'SELECT current_user'),
		PGDATABASE => $database);
	my ($out, $err) = run_command([ 'test/docs-examples', $path ]);
	ok($? == 0, "$path: the examples print what it shows") or diag("$out\n$err");
	like($out, qr/ examples run, \d+ with their result, 0 wrong/, "$path: they were run");
	$node->safe_psql('postgres', "DROP DATABASE $database");
	$node->safe_psql('postgres', "DROP ROLE $_")
	  for split /\n/, $node->safe_psql('postgres',
		q{SELECT quote_ident(rolname) FROM pg_roles WHERE rolname !~ '^(pg|tokenbill)_' AND NOT rolsuper});
}

# The README comes to the point: the ten lines end with a charge and its result

{
	my ($lines, $charged, $shown) = (0, 0, 0);
	my $kind = '';
	for my $line (split /\n/, page('README.md'))
	{
		if ($line =~ /^```(\w*)/)
		{
			$kind = $kind eq '' ? $1 : '';
			next;
		}
		if ($kind eq 'sql')
		{
			$lines++ if $line =~ /\S/;
			$charged ||= $line =~ /\btokenbill\.charge\(/;
		}
		$shown = $charged && $kind eq 'text' && $line =~ /\S/ and last;
	}
	ok($shown, 'README.md shows what a charge answers');
	cmp_ok($lines, '<=', 10, 'README.md shows it within ten lines of SQL');
}

# The reference against the catalogue

my $reference = page('docs/reference.md');
my $heading = sections($reference, 3);

$node->safe_psql('postgres', 'CREATE EXTENSION tokenbill');

sub rows
{
	my ($sql) = @_;
	return map { [ split /\x1f/, $_, -1 ] }
	  split /\n/, $node->safe_psql('postgres', "LOAD 'tokenbill'; $sql", extra_params => [ '-F', "\x1f" ]);
}

# White space and the types of constants say nothing new
sub plain
{
	my ($text) = @_;
	$text =~ s/::(?:text|jsonb|numeric|interval|timestamp with time zone|bigint|integer|boolean)\b(?:\[\])?//g;
	$text =~ s/timestamp with time zone/timestamptz/g;
	$text =~ s/'00:05:00'/'5 min'/g;
	$text =~ s/'00:10:00'/'10 min'/g;
	$text =~ s/'01:00:00'/'1 hour'/g;
	$text =~ s/\s+/ /g;
	$text =~ s/\( /(/g;
	$text =~ s/ \)/)/g;
	return $text =~ s/^ | $//gr;
}

my %function;
for my $row (rows(<<'SQL'))
SELECT p.proname,
	'tokenbill.' || p.proname || '(' || pg_get_function_arguments(p.oid) || ')' || coalesce(' RETURNS ' || pg_get_function_result(p.oid), ''),
	coalesce((SELECT string_agg(g.rolname, ', ' ORDER BY g.rolname)
		FROM aclexplode(p.proacl) a JOIN pg_roles g ON g.oid = a.grantee
		WHERE g.rolname LIKE 'tokenbill\_%'), 'nobody')
FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'tokenbill' ORDER BY 1
SQL
{
	my ($name, $signature, $granted) = @$row;
	$function{$name} = 1;
	my $text = $heading->{"$name()"};
	ok(defined $text, "reference: $name() is there") or next;
	# functions of one name share a section, and have a block each
	my @shown = map { plain($_) } $text =~ /^```postgresql\n(.*?)^```/msg;
	my ($same) = grep { $_ eq plain($signature) } @shown;
	is($same // $shown[0] // '', plain($signature), "reference: the arguments of $name()");
	my ($to) = $text =~ /^Granted to: (.*)\.$/m;
	is(($to // "nothing") =~ tr{`}{}dr, $granted, "reference: who may call $name()");
}
cmp_ok(scalar(keys %function), '>', 30, 'the extension has functions');
is_deeply(
	[ sort grep { !$function{$_} } map { /^(.*)\(\)$/ ? $1 : () } keys %$heading ],
	[], 'reference: no other functions');

# Views, types and tables with their columns; a type's and a view's have a
# heading of their own, tables are one list
my %expected = (r => {}, v => {}, c => {});
for my $row (rows(<<'SQL'))
SELECT CASE c.relkind WHEN 'p' THEN 'r' ELSE c.relkind END, c.relname, string_agg(a.attname, ',' ORDER BY a.attnum)
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'tokenbill'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'c')
GROUP BY 1, 2 ORDER BY 1, 2
SQL
{
	$expected{ $row->[0] }{ $row->[1] } = $row->[2];
}
my $part = sections($reference, 2);
for my $kind ([ v => 'Views' ], [ c => 'Types' ])
{
	my ($relkind, $title) = @$kind;
	my $found = sections("# x\n" . ($part->{$title} // ''), 3);
	for my $name (sort keys %{ $expected{$relkind} })
	{
		is(join(',', @{ first_column($found->{$name} // '') }),
			$expected{$relkind}{$name}, "reference: columns of $name under $title");
	}
	my @domains = map { $_->[0] } rows(<<'SQL');
SELECT typname FROM pg_type WHERE typnamespace = 'tokenbill'::regnamespace AND typtype = 'd' ORDER BY 1
SQL
	is_deeply(
		[ sort keys %$found ],
		[ sort keys %{ $expected{$relkind} }, $relkind eq 'c' ? @domains : () ],
		"reference: all $title and no others");
}
is_deeply(
	[ sort @{ first_column($part->{Tables} // '') } ],
	[ sort keys %{ $expected{r} } ],
	'reference: all tables and no others');

# Settings, with their defaults
my %setting = map { $_->[0] => $_ } rows(<<'SQL');
SELECT name, boot_val, context FROM pg_settings WHERE name LIKE 'tokenbill.%'
SQL
my $settings = sections("# x\n" . ($part->{Settings} // ''), 3);
is_deeply([ sort keys %$settings ], [ sort keys %setting ], 'reference: all settings and no others');
for my $name (sort keys %setting)
{
	my $default = $setting{$name}[1] eq '' ? 'empty' : "`$setting{$name}[1]`";
	my $context = $setting{$name}[2];
	like($settings->{$name} // '', qr/^Default: \Q$default\E\. Context: `\Q$context\E`\.$/m,
		"reference: default and context of $name");
}

my @roles = map { $_->[0] } rows(q{SELECT rolname FROM pg_roles WHERE rolname LIKE 'tokenbill\_%' ORDER BY 1});
my $roles = sections("# x\n" . ($part->{Roles} // ''), 3);
is_deeply([ sort keys %$roles ], \@roles, 'reference: all roles and no others');

# What the source raises is in the table of errors
my %raised;
for my $path (glob('src/*.[ch] sql/*.sql'))
{
	my $text = page($path);
	$text =~ s/MAKE_SQLSTATE\('P', *'T', *'(\d)', *'(\d)', *'(\d)'\)/PT$1$2$3/g;
	$raised{$1} = $path while $text =~ /\b(PT\d\d\d)\b/g;
}
for my $code (sort keys %raised)
{
	like($part->{Errors} // '', qr/^\| `$code` \|/m, "reference: error $code (in $raised{$code})");
}

# What verify_ledger() may find is explained, and nothing that it never says
{
	my $text = sections(page('docs/operations.md'), 2)->{'When verify_ledger() finds something'} // '';
	my %explained = map { $_ => 1 } @{ first_column($text) };
	my $source = join '', map { page($_) } glob('src/*.c');
	cmp_ok(scalar(keys %explained), '>', 10, 'operations: the codes of verify_ledger()');
	for my $code (sort keys %explained)
	{
		ok($source =~ /(["'])\Q$code\E\1/, "operations: verify_ledger() can say $code");
	}
	my ($said) = rows(<<'SQL');
SELECT col_description(t.typrelid, 3) FROM pg_type t WHERE t.oid = 'tokenbill.problem'::regtype
SQL
	for my $code (map { split /, / } $said->[0] =~ /((?:\w+, )*\w+):/g)
	{
		ok($explained{$code}, "operations: $code is explained");
	}
}

# Links

sub anchors
{
	my ($path) = @_;
	my (%seen, %anchor, $fenced);
	for my $line (split /\n/, page($path))
	{
		$fenced = !$fenced if $line =~ /^```/;
		next if $fenced || $line !~ /^#+ +(.*?) *$/;
		# as GitHub makes them
		my $slug = lc $1;
		$slug =~ s/[^\w\- ]//g;
		$slug =~ s/ /-/g;
		my $n = $seen{$slug}++;
		$anchor{ $n ? "$slug-$n" : $slug } = 1;
	}
	return \%anchor;
}

my $links = 0;
for my $path (@pages)
{
	my @broken;
	my $text = page($path);
	$text =~ s/^```.*?^```$//msg;
	$text =~ s/`[^`\n]*`//g;
	while ($text =~ /\]\(([^)\s]+)\)/g)
	{
		my $target = $1;
		next if $target =~ /^https?:/;
		$links++;
		my ($file, $anchor) = split /#/, $target, 2;
		my $full = $file eq '' ? $path : dirname($path) . "/$file";
		1 while $full =~ s{(^|/)(?!\.\.)[^/]+/\.\./}{$1};
		$full =~ s{^(?:\./)+}{};
		push @broken, $target
		  unless -e $full && (!defined $anchor || $full =~ /\.md$/ && anchors($full)->{$anchor});
	}
	is_deeply(\@broken, [], "$path: every link leads somewhere");
}
cmp_ok($links, '>', 30, 'there are links');

# Who knows a file's name finds the page about it
{
	my $text = page('docs/development.md');
	for my $path (glob('src/*.c sql/*.sql'))
	{
		ok($text =~ /\]\(\.\.\/\Q$path\E\)/, "docs/development.md names $path");
	}
}

# Every page can be reached from the README
{
	my $text = page('README.md');
	for my $path (grep { m{^docs/} } @pages)
	{
		like($text, qr/\]\(\Q$path\E[)#]/, "README.md leads to $path");
	}
}

$node->stop;
done_testing();
