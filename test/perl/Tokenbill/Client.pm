# A small PostgreSQL client for the TAP tests.
#
# It speaks the wire protocol itself, for three reasons: a test must know
# whether an answer was received in full before the server died; it must see
# SQLSTATE, DETAIL and HINT as they were sent; and one test drives many
# connections at once, each of which may be waiting for a lock. Debian's Perl
# has no driver that does this without further packages.
#
#   my $c = Tokenbill::Client->new(host => ..., port => ..., user => ...,
#       dbname => ..., settings => { name => value });
#   $c->query($sql, @params)   result of one statement, also of a failed one
#   $c->value / row / rows     its first value, first row (a hash), all rows;
#                              they die when the statement fails
#   $c->sqlstate($sql, ...)    SQLSTATE of what must fail, '00000' if it did not
#   $c->send($sql, @params)    start a statement and do not wait
#   $c->result                 wait for what was started
#   Tokenbill::Client->wait_any(@clients)   those whose answer is complete
#
# A result has: error (undef, or a hash with severity, code, message, detail,
# hint), rows, names, tags, lost (the connection broke before the answer was
# complete, so nobody knows whether it happened), tx (I, T or E).
#
# Parameters go by the extended protocol in one message group, which is what
# works through a pooler in transaction mode.
package Tokenbill::Client;

use strict;
use warnings;
use Carp;
use Encode ();
use Errno qw(EINTR EAGAIN EWOULDBLOCK);
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOCK_STREAM);
use Time::HiRes qw(time);

our $timeout = $ENV{PG_TEST_TIMEOUT_DEFAULT} || 180;

my %field = (
	S => 'severity', C => 'code', M => 'message', D => 'detail',
	H => 'hint', W => 'context', n => 'constraint');

sub new
{
	my ($class, %opt) = @_;
	my $socket =
	  $opt{host} =~ m{^/}
	  ? IO::Socket::UNIX->new(
		Type => SOCK_STREAM,
		Peer => "$opt{host}/.s.PGSQL.$opt{port}")
	  : IO::Socket::INET->new(
		Proto => 'tcp',
		PeerAddr => $opt{host},
		PeerPort => $opt{port});
	croak "cannot connect to $opt{host}:$opt{port}: $!" unless $socket;
	my $self = bless {
		socket => $socket,
		in => '',
		name => $opt{name} || $opt{user} || 'client',
		parameters => {},
		pid => 0,
	}, $class;

	my %startup = (
		user => $opt{user} || 'postgres',
		database => $opt{dbname} || 'postgres',
		client_encoding => 'UTF8',
		%{ $opt{settings} || {} });
	my $body = pack('N', 196608);
	$body .= pack('Z*Z*', $_, $startup{$_}) foreach sort keys %startup;
	$body .= "\0";
	$self->_begin;
	$self->_write(pack('N', length($body) + 4) . $body);
	my $answer = $self->result;
	croak "connection refused: $answer->{error}{code} $answer->{error}{message}"
	  if $answer->{error};
	croak "connection lost while it was made" if $answer->{lost};
	return $self;
}

sub pid { return $_[0]{pid}; }

sub name { return $_[0]{name}; }

sub lost { return $_[0]{lost}; }

sub busy { return $_[0]{answer} && !$_[0]{complete}; }

sub _begin
{
	my ($self) = @_;
	croak "$self->{name} is still waiting for an answer" if $self->busy;
	$self->{complete} = 0;
	$self->{answer} = { rows => [], names => [], tags => [], notices => [], };
	return;
}

sub _write
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $offset = 0;
	while ($offset < length $bytes)
	{
		my $sent =
		  syswrite($self->{socket}, $bytes, length($bytes) - $offset, $offset);
		if (defined $sent)
		{
			$offset += $sent;
		}
		elsif (!$!{EINTR})
		{
			$self->_broken;
			last;
		}
	}
	return;
}

sub _broken
{
	my ($self) = @_;
	$self->{lost} = 1;
	$self->{answer}{lost} = 1;
	$self->{complete} = 1;
	return;
}

sub _message
{
	my ($type, $body) = @_;
	return $type . pack('N', length($body) + 4) . $body;
}

sub send
{
	my ($self, $sql, @params) = @_;
	$self->_begin;
	if ($self->{lost})
	{
		$self->_broken;
		return $self;
	}
	$sql = Encode::encode('UTF-8', $sql);
	if (!@params)
	{
		$self->_write(_message('Q', "$sql\0"));
		return $self;
	}
	my $bind = "\0\0" . pack('nn', 0, scalar @params);
	foreach my $value (@params)
	{
		if (defined $value)
		{
			my $bytes = Encode::encode('UTF-8', $value);
			$bind .= pack('N', length $bytes) . $bytes;
		}
		else
		{
			$bind .= pack('N', 0xFFFFFFFF);
		}
	}
	$bind .= pack('n', 0);
	$self->_write(_message('P', "\0$sql\0" . pack('n', 0))
		  . _message('B', $bind)
		  . _message('D', "P\0")
		  . _message('E', "\0" . pack('N', 0))
		  . _message('S', ''));
	return $self;
}

# Take in what has arrived, without waiting
sub pump
{
	my ($self) = @_;
	$self->_parse;
	while (!$self->{complete} && IO::Select->new($self->{socket})->can_read(0))
	{
		my $got =
		  sysread($self->{socket}, $self->{in}, 65536, length $self->{in});
		if (!defined $got)
		{
			next if $!{EINTR} || $!{EAGAIN} || $!{EWOULDBLOCK};
			$self->_broken;
		}
		elsif ($got == 0)
		{
			$self->_broken;
		}
		else
		{
			$self->_parse;
		}
	}
	return $self->{complete};
}

sub _parse
{
	my ($self) = @_;
	my $answer = $self->{answer};
	# what comes after the end of an answer is no part of it: a server that
	# ends sends an error then
	while (!$self->{complete} && length $self->{in} >= 5)
	{
		my ($type, $length) = unpack('aN', $self->{in});
		last if length $self->{in} < $length + 1;
		my $body = substr($self->{in}, 5, $length - 4);
		substr($self->{in}, 0, $length + 1) = '';

		if ($type eq 'D')
		{
			my ($count, $at, @row) = (unpack('n', $body), 2);
			foreach (1 .. $count)
			{
				my $size = unpack('N', substr($body, $at, 4));
				$at += 4;
				if ($size == 0xFFFFFFFF)
				{
					push @row, undef;
				}
				else
				{
					push @row, Encode::decode('UTF-8', substr($body, $at, $size));
					$at += $size;
				}
			}
			push @{ $answer->{rows} }, \@row;
		}
		elsif ($type eq 'T')
		{
			my ($count, $at, @names) = (unpack('n', $body), 2);
			foreach (1 .. $count)
			{
				my $name = unpack('Z*', substr($body, $at));
				$at += length($name) + 1 + 18;
				push @names, $name;
			}
			$answer->{names} = \@names;
			$answer->{rows} = [];
		}
		elsif ($type eq 'C')
		{
			push @{ $answer->{tags} }, unpack('Z*', $body);
		}
		elsif ($type eq 'E' || $type eq 'N')
		{
			my %said;
			foreach my $part (split /\0/, $body)
			{
				my $known = $field{ substr($part, 0, 1) } or next;
				$said{$known} = Encode::decode('UTF-8', substr($part, 1));
			}
			if ($type eq 'E')
			{
				$answer->{error} ||= \%said;
			}
			else
			{
				push @{ $answer->{notices} }, \%said;
			}
		}
		elsif ($type eq 'R')
		{
			my $method = unpack('N', $body);
			croak "the server wants authentication method $method" if $method;
		}
		elsif ($type eq 'K')
		{
			$self->{pid} = unpack('N', $body);
		}
		elsif ($type eq 'S')
		{
			my ($name, $value) = unpack('Z*Z*', $body);
			$self->{parameters}{$name} = $value;
		}
		elsif ($type eq 'Z')
		{
			$answer->{tx} = $body;
			$self->{complete} = 1;
		}
	}
	return;
}

# The clients of the list whose answers are complete; waits for the first
sub wait_any
{
	my ($class, @clients) = @_;
	my @waiting = grep { $_->{answer} } @clients;
	croak "nobody is waiting for an answer" unless @waiting;
	my $deadline = time() + $timeout;
	while (1)
	{
		my @done = grep { $_->{complete} || $_->pump } @waiting;
		return @done if @done;
		my $left = $deadline - time();
		croak "no answer within $timeout s to " . join(', ', map { $_->{name} } @waiting)
		  if $left <= 0;
		IO::Select->new(map { $_->{socket} } @waiting)->can_read($left);
	}
}

# Wait for the answer and take it
sub result
{
	my ($self) = @_;
	Tokenbill::Client->wait_any($self);
	my $answer = delete $self->{answer};
	if ($answer->{error} && $answer->{error}{severity} eq 'FATAL')
	{
		# nothing more will come; what was asked has not been done
		$self->{lost} = 1;
	}
	return $answer;
}

sub query
{
	my ($self, $sql, @params) = @_;
	return $self->send($sql, @params)->result;
}

sub _must
{
	my ($self, $sql, @params) = @_;
	my $answer = $self->query($sql, @params);
	if (my $error = $answer->{error})
	{
		croak "$error->{code}: $error->{message}"
		  . (defined $error->{detail} ? " ($error->{detail})" : '')
		  . " in: $sql";
	}
	croak "connection lost in: $sql" if $answer->{lost};
	return $answer;
}

sub rows
{
	my ($self, @args) = @_;
	return Tokenbill::Client::hashes($self->_must(@args));
}

sub row
{
	my ($self, @args) = @_;
	my ($row) = $self->rows(@args);
	return $row;
}

sub value
{
	my ($self, @args) = @_;
	my $answer = $self->_must(@args);
	return $answer->{rows}[0] ? $answer->{rows}[0][0] : undef;
}

# All the values of the first column
sub column
{
	my ($self, @args) = @_;
	return map { $_->[0] } @{ $self->_must(@args)->{rows} };
}

sub sqlstate
{
	my ($self, @args) = @_;
	my $answer = $self->query(@args);
	return 'lost' if $answer->{lost};
	return $answer->{error} ? $answer->{error}{code} : '00000';
}

# The rows of an answer, as hashes
sub hashes
{
	my ($answer) = @_;
	return map {
		my $values = $_;
		my %row;
		@row{ @{ $answer->{names} } } = @$values;
		\%row;
	} @{ $answer->{rows} };
}

sub close
{
	my ($self) = @_;
	$self->_write(_message('X', '')) unless $self->{lost};
	$self->{lost} = 1;
	close $self->{socket};
	return;
}

1;
