# A server that a test starts for itself: a program which says on its first line
# where it is, a JSON object, and ends when its standard input does. What the
# doubles of upstreams are made of.
#
#   my $server = Tokenbill::SomeServer->start('program', @arguments)
#   $server->{is}     what it has said
#   $server->stop
#
# It ends with the test.
package Tokenbill::ChildServer;

use strict;
use warnings;
use Carp;
use IPC::Open2 ();
use JSON::PP ();

sub start
{
	my ($class, $program, @arguments) = @_;
	my $self = bless {}, $class;
	# its standard input stays open for as long as this object lives
	$self->{pid} = IPC::Open2::open2($self->{output}, $self->{input}, $program, @arguments);
	my $line = readline $self->{output};
	croak "$class did not start" unless defined $line;
	$self->{is} = JSON::PP->new->utf8->decode($line);
	return $self;
}

sub stop
{
	my ($self) = @_;
	return unless $self->{pid};
	close $self->{input};
	close $self->{output};
	waitpid delete $self->{pid}, 0;
	return;
}

sub DESTROY
{
	my ($self) = @_;
	# waitpid must not change what the test is about to say
	local ($?, $!);
	$self->stop;
	return;
}

1;
