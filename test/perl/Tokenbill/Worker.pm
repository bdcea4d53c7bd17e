# A server with tokenbill preloaded, and named ways to wait for its launcher and
# workers. It is a Tokenbill::Server.
#
#   $server->worker($dbname)            a hash: the worker's row of worker_status
#   $server->launcher                   the launcher's
#   $server->workers                    a hash: database => pid, of all workers
#   $server->wait_worker($dbname)       until it is asleep or at work; its row
#   $server->wait_state($dbname, $state)  until its row says so; the row
#   $server->wait_no_worker($dbname)    until there is no such process
#   $server->wait_gone($pid)            until the process has ended
#   $server->log_from                   where the log ends now
#   $server->log_lines($from, $regexp)  the lines after that which match
package Tokenbill::Worker;

use strict;
use warnings;
use parent -norequire, qw(Tokenbill::Server);

use Carp;
use PostgreSQL::Test::Utils qw(slurp_file);
use Tokenbill::Server;

sub begin
{
	my ($self, %opt) = @_;
	$self->SUPER::begin(%opt,
		conf => [ "shared_preload_libraries = 'tokenbill'", "log_line_prefix = '%m [%p] %b '", @{ $opt{conf} || [] } ]);
	# to look on from, without a worker
	$self->safe_psql('postgres', 'CREATE DATABASE watch');
	return $self;
}

sub _status
{
	my ($self, $process, $dbname) = @_;
	my $client = eval { $self->client(dbname => $dbname || 'postgres') } or return {};
	my ($row) = eval { $client->rows('SELECT * FROM tokenbill.worker_status WHERE process = $1', $process) };
	$client->close;
	return $row || {};
}

sub worker { my ($self, $dbname) = @_; return $self->_status('worker', $dbname); }

sub launcher { my ($self) = @_; return $self->_status('launcher'); }

# As PostgreSQL itself sees them
sub workers
{
	my ($self) = @_;
	my $client = $self->client(dbname => 'watch');
	my %pid = map { @$_{qw(datname pid)} }
	  $client->rows("SELECT datname, pid FROM pg_stat_activity WHERE backend_type = 'tokenbill worker' AND datname IS NOT NULL");
	$client->close;
	return \%pid;
}

sub wait_state
{
	my ($self, $dbname, $state) = @_;
	my $row;
	$self->wait_until("the worker of $dbname to be $state",
		sub { $row = $self->worker($dbname); return ($row->{state} // '') =~ /^(?:$state)$/; });
	return $row;
}

sub wait_worker { my ($self, $dbname) = @_; return $self->wait_state($dbname || 'postgres', 'asleep|working'); }

sub wait_no_worker
{
	my ($self, $dbname) = @_;
	$self->wait_until("no worker in $dbname", sub { return !$self->workers->{$dbname}; });
	return;
}

sub wait_gone
{
	my ($self, $pid) = @_;
	$self->wait_until("process $pid to be gone", sub { return !kill 0, $pid; });
	return;
}

sub log_from { my ($self) = @_; return -s $self->logfile; }

sub log_lines
{
	my ($self, $from, $regexp) = @_;
	return grep { /$regexp/ } split /\n/, slurp_file($self->logfile, $from);
}

1;
