# What answers mean in databases of other encodings: patterns of characters that
# they have no byte for still fit, a message says what it can, and bytes of no
# encoding at all are no error.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use Tokenbill::Server;

my $server = Tokenbill::Server->new('main');
$server->begin;

# In UTF-8: "balance insufficient" in Chinese, between an e with an accent and x
my $body = unpack('H*', "{\"msg\": \"\xc3\xa9\xe4\xbd\x99\xe9\xa2\x9d\xe4\xb8\x8d\xe8\xb6\xb3x\"}");
my %message = (
	UTF8 => 'c3a9e4bd99e9a29de4b88de8b6b378',
	EUC_CN => 'a8a6d3e0b6eeb2bbd7e378',
	LATIN1 => '3f' x 14 . '78',
	SQL_ASCII => '3f' x 14 . '78');
foreach my $encoding (sort keys %message)
{
	my $database = lc "in_$encoding";
	$server->safe_psql('postgres', "CREATE DATABASE $database ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	$server->safe_psql($database, 'CREATE EXTENSION tokenbill');
	is($server->safe_psql($database, "SET client_encoding = '$encoding'; SELECT class, rule, encode(message::bytea, 'hex') FROM tokenbill.classify(NULL, 403, '\\x$body', NULL)"),
		"billing|billing_words|$message{$encoding}", "$encoding: bytes of an answer");
	is($server->safe_psql($database, "SELECT class, rule FROM tokenbill.classify_error('deepseek', 402, E'{\"a\": \"\\u0062\", \"error\": {\"message\": \"Insufficient Balance\"}}')"),
		'billing|deepseek_balance', "$encoding: a text");
	is($server->safe_psql($database, q{SELECT rule FROM tokenbill.add_error_rule('own', 'auth', body => '{"a": "*\\\\u20ac*"}'), LATERAL (SELECT class FROM tokenbill.classify(NULL, 400, '\x7b2261223a22e282ac227d', NULL)) c}),
		'own', "$encoding: a rule of one's own");
	is($server->safe_psql($database, q{SELECT class FROM tokenbill.classify(NULL, 400, '\x7b2261223a22e282ac227d', NULL)}), 'auth', "$encoding: for the euro sign");
}
# what is a text in EUC_CN is the same answer
is($server->safe_psql('in_euc_cn', q{SELECT class, rule FROM tokenbill.classify_error(NULL, 403, convert_from('\x7b226d7367223a2022d3e0b6eeb2bbd7e3227d', 'EUC_CN'))}),
	'billing|billing_words', 'EUC_CN: a text of its own');
# SQL_ASCII holds any bytes
is($server->safe_psql('in_sql_ascii', q{SELECT class, message FROM tokenbill.classify_error(NULL, 429, E'{"message": "a\xff\xc0b"}')}), 'rate_limit|a??b', 'SQL_ASCII: bytes of no encoding');

$server->stop;
done_testing();
