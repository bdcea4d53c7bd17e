# Where bytes may be left: in the memory of a process, and in the files of a server.
#
#   spellings($bytes)               all ways to write them: as they are, in hexadecimal,
#                                   percent-encoded, as in a form, in base64 wherever
#                                   it begins, with two bytes a letter, backwards
#   my $error = visit_memory($pid, sub { my ($bytes, $name) = @_; ... })
#                                   each part of it that the process can write to;
#                                   why it cannot be read, or nothing
#   not_in_files($dir, $what, sub { my ($bytes) = @_; ... })
#                                   two assertions: of no file below the directory the
#                                   function says anything, and there are many
package Tokenbill::Traces;

use strict;
use warnings;
use Exporter qw(import);
use File::Find ();
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

our @EXPORT_OK = qw(spellings visit_memory not_in_files);

sub spellings
{
	my ($bytes) = @_;
	my $hex = unpack 'H*', $bytes;
	my %all = map { $_ => 1 } $bytes, $hex, uc $hex, $bytes =~ s/ /+/gr, join('', map { "$_\0" } split //, $bytes), scalar reverse $bytes;
	foreach my $format ('%%%02X', '%%%02x')
	{
		$all{ $bytes =~ s/([^A-Za-z0-9._~-])/sprintf $format, ord $1/ger } = 1;
	}
	foreach my $before (0 .. 2)
	{
		# without what depends on its neighbours
		my $coded = encode_base64('x' x $before . substr($bytes, 0, length($bytes) - (length($bytes) + $before) % 3), '');
		$coded = substr $coded, 4 if $before;
		$all{$coded} = 1;
		$all{ $coded =~ tr{+/}{-_}r } = 1;
	}
	return keys %all;
}

sub visit_memory
{
	my ($pid, $visit) = @_;
	# addresses have 64 bits
	no warnings 'portable';
	open my $mem, '<:raw', "/proc/$pid/mem" or return "$!";
	my $read = 0;
	foreach my $line (split /\n/, slurp_file("/proc/$pid/maps"))
	{
		my ($from, $to, $rights, $name) = $line =~ /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)$/ or next;
		# what nobody can write to holds what was in a file; the kernel's own pages cannot be read
		next unless $rights =~ /^rw/ && $name !~ /^\[v/;
		($from, $to) = map { hex } $from, $to;
		my $bytes = '';
		sysseek $mem, $from, 0 or return "seek: $!";
		while (length $bytes < $to - $from)
		{
			my $got = sysread $mem, $bytes, $to - $from - length $bytes, length $bytes;
			unless ($got)
			{
				return "read: $!" unless $read;
				last;
			}
			$read += $got;
		}
		$visit->($bytes, $name);
	}
	return $read ? '' : 'there is nothing to read';
}

sub not_in_files
{
	my ($dir, $what, $found) = @_;
	my ($files, %there) = (0);
	File::Find::find(
		{
			no_chdir => 1,
			wanted => sub {
				return unless -f $_ && -s _;
				$files++;
				$there{"$_: $1"} = 1 if $found->(slurp_file($_)) =~ /^(.+)$/;
			}
		},
		$dir);
	is(join("\n", sort keys %there), '', $what);
	cmp_ok($files, '>', 500, "which are $files");
	return;
}

1;
