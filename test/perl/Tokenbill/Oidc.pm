# A real authorization server, oidc-provider (test/oidc-provider/server.mjs, whose
# head says what it has), and somebody with a browser.
#
#   my $oidc = Tokenbill::Oidc->new(clients => [ ... ], ttl => { ... });
#   $oidc->url('/token')            http://127.0.0.1:PORT/token
#   $oidc->allow($address)          goes there, signs in and says yes, by the forms of
#                                   the pages; what the last page says
#   $oidc->deny($address)           goes there and says no
#   $oidc->issued                   all tokens and device codes it has given out
#   $oidc->asked                    a hash: 'PATH GRANT_TYPE STATUS' => how often
#   $oidc->post($path, \%form)      a request of one's own: status, decoded body
#   Tokenbill::Oidc::verify(...)    what jose says of JSON Web Tokens
#
# It ends with the test.
package Tokenbill::Oidc;

use strict;
use warnings;
use Carp;
use FindBin;
use HTTP::Tiny;
use IPC::Open2 ();
use JSON::PP ();
use parent 'Tokenbill::ChildServer';

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my $home = "$FindBin::RealBin/../oidc-provider";

sub new
{
	my ($class, %configuration) = @_;
	my $self = $class->start('node', "$home/server.mjs", $json->encode(\%configuration));
	$self->{cookies} = {};
	$self->{http} = HTTP::Tiny->new(timeout => 60, max_redirect => 0, proxy => undef, http_proxy => undef);
	return $self;
}

sub url
{
	my ($self, $path) = @_;
	return "http://127.0.0.1:$self->{is}{port}$path";
}

# Go somewhere, with cookies, and where one is sent from there
sub _visit
{
	my ($self, $method, $address, $form) = @_;
	foreach (1 .. 20)
	{
		my $cookie = join '; ', map { "$_=$self->{cookies}{$_}" } sort keys %{ $self->{cookies} };
		my %options = (headers => { length $cookie ? (Cookie => $cookie) : () });
		if ($form)
		{
			$options{content} = $self->{http}->www_form_urlencode($form);
			$options{headers}{'Content-Type'} = 'application/x-www-form-urlencoded';
		}
		my $answer = $self->{http}->request($method, $address, \%options);
		my $set = $answer->{headers}{'set-cookie'};
		foreach my $one (ref $set ? @$set : defined $set ? $set : ())
		{
			my ($name, $value) = $one =~ /^([^=]+)=([^;]*)/ or next;
			length $value && $one !~ /expires=Thu, 01 Jan 1970/i ? $self->{cookies}{$name} = $value : delete $self->{cookies}{$name};
		}
		return $answer->{content} unless $answer->{status} =~ /^30[1237]$/;
		$address = $answer->{headers}{location};
		$address = $self->url($address) if $address =~ m{^/};
		($method, $form) = ('GET', undef);
	}
	croak 'there is no end to being sent elsewhere';
}

# The form of a page: where it goes, and what is filled in already
sub _form
{
	my ($self, $page) = @_;
	my ($attributes, $inside) = $page =~ m{<form([^>]*)>(.*?)</form>}s or croak "there is no form: $page";
	my ($action) = $attributes =~ /action="([^"]*)"/;
	my %fields;
	while ($inside =~ /<(?:input|button)([^>]*)>/g)
	{
		my %attribute = $1 =~ /(\w+)="([^"]*)"/g;
		$fields{ $attribute{name} } = $attribute{value} if defined $attribute{name} && defined $attribute{value};
	}
	$action = $self->url($action) if defined $action && $action =~ m{^/};
	return ($action, \%fields);
}

sub _submit
{
	my ($self, $page, %fill) = @_;
	my ($action, $fields) = $self->_form($page);
	my %form = (%$fields, %fill);
	delete $form{$_} foreach grep { !defined $form{$_} } keys %form;
	return $self->_visit('POST', $action, \%form);
}

# To the page that asks whether the code is the one that the device shows
sub _confirm
{
	my ($self, $address) = @_;
	my $page = $self->_visit('GET', $address);
	# a page that sends its form by itself, where the code is in the address already
	$page = $self->_submit($page, confirm => undef, abort => undef) unless $page =~ /name="confirm"/;
	return $page;
}

sub allow
{
	my ($self, $address) = @_;
	my $page = $self->_submit($self->_confirm($address), abort => undef, confirm => 'yes');
	$page = $self->_submit($page, login => 'alice', password => 'not looked at') if $page =~ /name="login"/;
	$page = $self->_submit($page) if $page =~ /value="consent"/;
	return $page;
}

sub deny
{
	my ($self, $address) = @_;
	return $self->_submit($self->_confirm($address), confirm => undef, abort => 'yes');
}

sub post
{
	my ($self, $path, $form, %headers) = @_;
	my $answer = $self->{http}->post_form($self->url($path), $form, { headers => \%headers });
	return ($answer->{status}, eval { $json->decode($answer->{content}) });
}

sub _get
{
	my ($self, $path) = @_;
	return $json->decode($self->{http}->get($self->url($path))->{content});
}

sub issued { my ($self) = @_; return @{ $self->_get('/_issued') }; }

sub asked { my ($self) = @_; return $self->_get('/_asked'); }

# Each a hash: token, alg, key; of each a hash: header and payload, or error
sub verify
{
	my (@tokens) = @_;
	my $pid = IPC::Open2::open2(my $output, my $input, 'node', "$home/verify.mjs");
	print $input $json->encode(\@tokens);
	close $input;
	my $said = do { local $/; <$output> };
	waitpid $pid, 0;
	croak 'verify.mjs has said nothing' unless defined $said && length $said;
	return @{ $json->decode($said) };
}

1;
