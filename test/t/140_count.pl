# Characters, graphemes and words of random texts, against Perl, whose regular
# expressions know graphemes and scripts by tables of their own; and of the same
# texts in databases of other encodings.
#
# TB_SEED repeats the texts, TB_RANDOM_TEXTS says how many there are.
use strict;
use warnings;
use utf8;
use Encode qw(encode decode);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server qw(seed);
use Unicode::UCD;

seed();
my $wanted = $ENV{TB_RANDOM_TEXTS} || 3000;
my $server = Tokenbill::Server->new('main');
$server->begin;

# The rules of docs/meters.md once more, as one regular expression
my $kana_or_ideograph = qr/(?:(?=[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Ideographic}])
	[\p{L}\p{N}\p{So}]|[\x{30fc}\x{ff70}\x{3031}-\x{3035}])(?<![\x{ff9e}\x{ff9f}])/x;
my $through = qr/[\p{M}\p{Pc}\x{ff9e}\x{ff9f}]|(?!\x{200b})\p{Cf}/;
my $letter = qr/(?!$through|$kana_or_ideograph)[\p{Alphabetic}\p{N}]/;
my $digit = qr/(?!$kana_or_ideograph)\p{Nd}/;
my $run = qr/(?>$through*)(?: $letter | ['\x{2019}](?>$through*)$letter )/x;
# a decimal point needs a digit on both sides
my $number = qr/(?>$through*)[.,\x{66b}\x{66c}](?>$through*)$digit/;
my $word = qr/$kana_or_ideograph|$letter(?:$run|(?<=$digit)$number)*/;

# Perl's look-behind has one width, so the marks between a digit and its point
# are taken out first: they are in no word's way
sub words
{
	my ($text) = @_;
	$text =~ s/$through//g;
	return scalar(() = $text =~ /$word/g);
}

# Characters on which all versions of Unicode agree, from many scripts
my @letters = (
	map({ chr } 0x41 .. 0x5a, 0x61 .. 0x7a, 0xc0 .. 0xd6, 0x3b1 .. 0x3c9, 0x410 .. 0x44f),
	map({ chr } 0x5d0 .. 0x5ea, 0x627 .. 0x63a, 0xe01 .. 0xe30),
	map({ chr } 0x1100 .. 0x1112, 0x1161 .. 0x1175, 0x11a8 .. 0x11c2, 0xac00 .. 0xac70));
my @asian = map { chr } 0x3041 .. 0x3096, 0x30a1 .. 0x30ff, 0x4e00 .. 0x4e40, 0x20000 .. 0x20010, 0xff66 .. 0xff9f, 0x3005, 0x3007;
my @digits = (0 .. 9, map { chr } 0x660 .. 0x669, 0xbd, 0xb2, 0x2167);
my @marks = map { chr } 0x300 .. 0x310, 0x3099, 0x309a, 0xfe0f, 0x20dd, 0x64b .. 0x650, 0xe31, 0xe34 .. 0xe3a, 0x93e, 0x200c, 0x200d, 0xad, 0x600;
my @signs = (' ', "\t", "\n", "\r", "\r\n", '-', '_', '!', '%', '/', map { chr } 0x200b, 0x3000, 0x3001, 0x3002, 0x30fb, 0xa0, 0x2014, 0x20ac, 0xfeff);
my @inside = ("'", "\x{2019}", '.', ',', "\x{66b}", "\x{66c}");
my @emoji = map { chr } 0x1f600 .. 0x1f610, 0x2764, 0x1f468, 0x1f3fb .. 0x1f3ff, 0x1f1e6 .. 0x1f1ff, 0x1f525;
my @kinds = (\@letters, \@letters, \@letters, \@asian, \@digits, \@digits, \@marks, \@signs, \@inside, \@emoji);

sub random_text
{
	return join '', map { my $kind = $kinds[ rand @kinds ]; $kind->[ rand @$kind ] } 1 .. int(rand(24));
}

my $counts = 'SELECT tokenbill.count_characters($1::text), tokenbill.count_graphemes($1::text), tokenbill.count_words($1::text)';
my $client = $server->client;
my @wrong;
my %seen;
for my $n (1 .. $wanted)
{
	my $text = random_text();
	my @expected = (length($text), scalar(() = $text =~ /\X/g), words($text));
	$seen{$_}++ for map { "$_ of " . ($expected[$_] > 9 ? 'many' : $expected[$_]) } 0 .. 2;
	my @got = values_of($client, $counts, $text);
	push @wrong, join(' ', "got @got expected @expected:", map { sprintf('%04x', ord) } split //, $text)
	  unless "@got" eq "@expected";
}
is_deeply([ @wrong[ 0 .. ($#wrong > 9 ? 9 : $#wrong) ] ], [], "$wanted random texts have as many of each as Perl finds");
cmp_ok(scalar(grep { $seen{"2 of $_"} } 0 .. 6), '==', 7, 'texts of no word to six were among them');

sub values_of
{
	my ($session, $sql, @arguments) = @_;
	my $row = $session->row($sql, @arguments);
	return @$row{qw(count_characters count_graphemes count_words)};
}

# The table in C is what character_table.pl makes of the same version
SKIP:
{
	skip 'this Perl has Unicode ' . Unicode::UCD::UnicodeVersion(), 1
	  if Unicode::UCD::UnicodeVersion() ne '14.0.0';
	my ($made, $errors) = run_command([ $^X, 'src/character_table.pl' ]);
	is($made . "\n", slurp_file('src/character_table.h'), 'src/character_table.h is up to date');
}

# The same texts in other encodings
my %texts = (
	EUC_JP => "今日は、don't コーヒー 3.14",
	EUC_CN => '我喜欢 PostgreSQL 数据库',
	EUC_KR => '안녕 세계 100',
	LATIN1 => "l'été à 12,5 % \x{bd}",
	WIN1251 => 'Привет, мир!',
	WIN874 => 'สวัสดี ชาวโลก');
for my $encoding (sort keys %texts)
{
	my $text = $texts{$encoding};
	my $database = lc "in_$encoding";
	$server->safe_psql('postgres', "CREATE DATABASE $database ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	$server->safe_psql($database, 'CREATE EXTENSION tokenbill');
	my $there = $server->client(dbname => $database, settings => { client_encoding => 'UTF8' });
	is(join(' ', values_of($there, $counts, $text)), join(' ', values_of($client, $counts, $text)), "$encoding: the same counts");
	is(join(' ', values_of($there, $counts, $text)), join(' ', length($text), scalar(() = $text =~ /\X/g), words($text)), "$encoding: Perl's too");
}

# SQL_ASCII holds any bytes: they are text if they are UTF-8
$server->safe_psql('postgres', q{CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0});
$server->safe_psql('bytes', 'CREATE EXTENSION tokenbill');
is($server->safe_psql('bytes', q{SELECT tokenbill.count_characters(E'\xe6\x88\x91 x'), tokenbill.count_words(E'\xe6\x88\x91 x')}),
	'3|2', 'SQL_ASCII: bytes that are UTF-8 are counted as such');
for my $bytes ('x\xff', 'abc\xe6\x88', '\xc0\xaf', '\xed\xa0\x80', '\xf4\x90\x80\x80')
{
	my ($status, $out, $error) = $server->psql('bytes', "\\set VERBOSITY verbose\nSELECT tokenbill.count_words(E'$bytes')");
	like($error, qr/ERROR:  22021: text is not valid UTF-8\nDETAIL:  \{"byte": \d\}\nHINT:  Pass/, "SQL_ASCII: not $bytes");
}

$server->stop;
done_testing();
