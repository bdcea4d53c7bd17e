#!/usr/bin/perl
# Writes src/character_table.h, from the Unicode tables that come with Perl:
#
#   perl src/character_table.pl >src/character_table.h
#
# Perl 5.36 has Unicode 14.0, and that is the version counts are made with.
# It is not renewed by the way: what a text costs must not depend on which
# release of the library is loaded. test/t/140_count.pl compares.
use strict;
use warnings;
use Unicode::UCD;

my $last = 0x10ffff;

# Grapheme cluster breaks, of UAX #29, by Perl's names for them
my %break = (
	CR => 'CR', LF => 'LF', CN => 'CONTROL', EX => 'EXTEND', ZWJ => 'ZWJ',
	RI => 'REGIONAL', PP => 'PREPEND', SM => 'SPACING', L => 'L', V => 'V',
	T => 'T', LV => 'LV', LVT => 'LVT');
my @breaks = qw(OTHER CR LF CONTROL EXTEND ZWJ REGIONAL PREPEND SPACING L V T LV LVT PICTOGRAPH);
my @parts = qw(NONE LETTER DIGIT IDEOGRAPH TRANSPARENT APOSTROPHE POINT);
my %break_number = map { $breaks[$_] => $_ } 0 .. $#breaks;
my %part_number = map { $parts[$_] => $_ } 0 .. $#parts;
my %break_pattern = map { $_ => qr/\p{GCB=$_}/ } keys %break;

sub break_of
{
	my ($c) = @_;
	for my $name (keys %break)
	{
		return $break{$name} if $c =~ $break_pattern{$name};
	}
	return $c =~ /\p{Extended_Pictographic}/ ? 'PICTOGRAPH' : 'OTHER';
}

# What a character is to a word; docs/meters.md says the same
sub part_of
{
	my ($c) = @_;
	return 'APOSTROPHE' if $c =~ /['\x{2019}]/;
	return 'POINT' if $c =~ /[.,\x{66b}\x{66c}]/;
	return 'TRANSPARENT'
	  if $c =~ /[\p{M}\p{Pc}\x{ff9e}\x{ff9f}]/ || $c =~ /\p{Cf}/ && $c ne "\x{200b}";
	return 'IDEOGRAPH'
	  if $c =~ /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Ideographic}]/
	  && $c =~ /[\p{L}\p{N}\p{So}]/
	  || $c =~ /[\x{30fc}\x{ff70}\x{3031}-\x{3035}]/;
	return 'DIGIT' if $c =~ /\p{Nd}/;
	return 'LETTER' if $c =~ /[\p{Alphabetic}\p{N}]/;
	return 'NONE';
}

my @rows;
my $before = -1;
for my $code (0 .. $last)
{
	# surrogates are no characters, and do not come up in UTF-8
	next if $code >= 0xd800 && $code <= 0xdfff;
	my $c = chr $code;
	# Hangul syllables are told apart by arithmetic: every 28th ends in a vowel
	my $break = $code >= 0xac00 && $code <= 0xd7a3 ? 'LVT' : break_of($c);
	my $class = $break_number{$break} << 4 | $part_number{ part_of($c) };
	next if $class == $before;
	push @rows, sprintf('0x%08x', $code << 8 | $class);
	$before = $class;
}

my $version = Unicode::UCD::UnicodeVersion();
my $enums = '';
for my $enum ([ CharacterBreak => 'BREAK', @breaks ], [ WordPart => 'PART', @parts ])
{
	my ($name, $prefix, @members) = @$enum;
	$enums .= "typedef enum $name\n{\n" . join(",\n", map { "\t${prefix}_$_" } @members) . "\n} $name;\n\n";
}
print <<"C";
/*
 * character_table.h
 *	  What kind of character a code point is, after Unicode $version.
 *
 * Written by character_table.pl, not to be edited.  A row is a code point, times
 * 256, plus its grapheme cluster break, times 16, plus its part in a word; it
 * holds for all code points up to the next row's.
 */
#ifndef TOKENBILL_CHARACTER_TABLE_H
#define TOKENBILL_CHARACTER_TABLE_H

${enums}static const uint32 character_table[] = {
C
while (my @line = splice @rows, 0, 6)
{
	print "\t", join(', ', @line), (@rows ? ',' : ''), "\n";
}
print "};\n\n#endif\t\t\t\t\t\t\t/* TOKENBILL_CHARACTER_TABLE_H */\n";
