# An upstream that answers what the test says: test/double, whose head says what
# it can be told.
#
#   my $double = Tokenbill::Double->new;
#   $double->script('user/balance', { body => { balance => 5 } }, ...)
#   $double->url('user/balance')           http://127.0.0.1:PORT/user/balance
#   $double->url('user/balance', 'https')  on another of its ports
#   $double->seen('/user/balance')         what it has been asked, of one path or
#                                          of all: a list of hashes
#   $double->forget                        none of that any more
#   $double->release('name')               lets held answers go
#   $double->ca_file
#
# It ends with the test.
package Tokenbill::Double;

use strict;
use warnings;
use Carp;
use FindBin;
use HTTP::Tiny;
use JSON::PP ();
use parent 'Tokenbill::ChildServer';

# Numbers are to arrive as numbers, and text as it is
my $json = JSON::PP->new->utf8->canonical->allow_nonref;

sub new
{
	my ($class, @options) = @_;
	my $self = $class->start("$FindBin::RealBin/../double", @options);
	$self->{http} = HTTP::Tiny->new(timeout => 60, keep_alive => 0, proxy => undef, http_proxy => undef);
	return $self;
}

sub _tell
{
	my ($self, $method, $path, $content) = @_;
	my $answer = $self->{http}->request($method, "http://127.0.0.1:$self->{is}{http}$path",
		defined $content ? { content => $json->encode($content) } : {});
	croak "the double says $answer->{status} to $method $path: $answer->{content}" unless $answer->{success};
	return $json->decode($answer->{content});
}

sub script
{
	my ($self, $path, @answers) = @_;
	$self->_tell('PUT', "/_script/$path", \@answers);
	return;
}

sub port
{
	my ($self, $kind) = @_;
	return $self->{is}{$kind} // croak "the double has no port $kind";
}

sub url
{
	my ($self, $path, $kind) = @_;
	$kind //= 'http';
	my $scheme = $kind eq 'http' ? 'http' : 'https';
	return "$scheme://127.0.0.1:" . $self->port($kind) . (length $path ? "/$path" : '');
}

sub seen
{
	my ($self, $path) = @_;
	my @seen = @{ $self->_tell('GET', '/_seen') };
	return grep { !defined $path || $_->{path} =~ /^\Q$path\E(?:\?|$)/ } @seen;
}

sub forget
{
	my ($self) = @_;
	$self->_tell('DELETE', '/_seen');
	return;
}

sub release
{
	my ($self, $name) = @_;
	$self->_tell('PUT', "/_release/$name");
	return;
}

sub ca_file
{
	my ($self) = @_;
	return $self->{is}{ca_file};
}

1;
