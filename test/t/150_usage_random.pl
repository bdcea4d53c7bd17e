# Random disjoint meters, rendered into each provider's usage object the way
# that provider counts, come back from normalize_usage() as they were, whether the
# format is named or recognized, alone or in a response; and an object of which
# one count has been made wrong is refused.
#
# TB_SEED repeats the objects, TB_RANDOM_USAGES says how many of each format there
# are.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use List::Util qw(sum0 shuffle);
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server qw(seed);

seed();
my $wanted = $ENV{TB_RANDOM_USAGES} || 300;
my $server = Tokenbill::Server->new('main');
$server->begin;
my $client = $server->client;
my $json = JSON::PP->new->canonical->allow_nonref;

sub maybe { return rand() < 0.5; }

# Often nothing, sometimes a lot
sub count
{
	return int(rand(4)) ? int(10**rand(6)) : 0 if rand() < 0.95;
	return int(rand(10**11));
}

# So many of these meters
sub meters { return map { $_ => count() } @_; }

# A count that is not there may be zero, null or left out
sub told
{
	my ($name, $n) = @_;
	return ($name => $n) if $n || rand() < 0.4;
	return maybe() ? ($name => undef) : ();
}

# An object, or nothing at all if it has nothing to tell
sub details
{
	my ($name, %counts) = @_;
	my %object = map { told($_, $counts{$_}) } keys %counts;
	return ($name => \%object) if grep { $_ } values %counts;
	return maybe() ? ($name => \%object) : maybe() ? ($name => undef) : ();
}

# A number as the sum of two
sub parts
{
	my ($n) = @_;
	my $first = int(rand($n + 1));
	return ($first, $n - $first);
}

my @input = qw(input_tokens input_audio_tokens input_image_tokens input_video_tokens);
my @cached = qw(cache_read_tokens cache_read_audio_tokens cache_read_image_tokens cache_read_video_tokens);
my @output = qw(output_tokens output_audio_tokens output_image_tokens output_video_tokens);

sub chat
{
	my (%m) = @_;
	my $text = sum0(@m{ grep { exists $m{$_} } qw(input_tokens cache_read_tokens cache_write_5m_tokens) });
	my $prompt = $text + sum0(map { $_ // 0 } @m{ @input[ 1 .. 3 ] });
	my $said = $m{output_tokens} + ($m{reasoning_tokens} // 0);
	my $completion = $said + sum0(map { $_ // 0 } @m{ @output[ 1 .. 3 ] });
	my ($accepted, $rejected) = parts(int(rand($said + 1)));
	return (
		prompt_tokens => $prompt,
		completion_tokens => $completion,
		(maybe() ? (total_tokens => $prompt + $completion) : ()),
		details(
			'prompt_tokens_details',
			cached_tokens => $m{cache_read_tokens} // 0,
			cache_write_tokens => $m{cache_write_5m_tokens} // 0,
			(maybe() ? (text_tokens => $text) : ()),
			map { /input_(\w+)/ ? ($1 => $m{$_} // 0) : () } @input[ 1 .. 3 ]),
		details(
			'completion_tokens_details',
			reasoning_tokens => $m{reasoning_tokens} // 0,
			accepted_prediction_tokens => $accepted,
			rejected_prediction_tokens => $rejected,
			map { /output_(\w+)/ ? ($1 => $m{$_} // 0) : () } @output[ 1 .. 3 ]));
}

# As xAI does it: reasoning is beside the completion, and only the total tells
sub beside
{
	my ($reasoning, %object) = @_;
	return %object unless $reasoning && $object{total_tokens} && rand() < 0.3;
	$object{completion_tokens} -= $reasoning;
	$object{completion_tokens_details}{$_} = 0 for qw(accepted_prediction_tokens rejected_prediction_tokens);
	return %object;
}

sub anthropic
{
	my ($includes, %m) = @_;
	my ($five, $hour) = @m{qw(cache_write_5m_tokens cache_write_1h_tokens)};
	my ($input, $said, $thought) = @m{qw(input_tokens output_tokens reasoning_tokens)};
	my @iterations;
	if (!$includes && rand() < 0.2)
	{
		# a compaction is beside the totals
		my ($compacted, $summary);
		($input, $compacted) = parts($input);
		($said, $summary) = parts($said);
		@iterations = (iterations => [ { type => 'compaction', input_tokens => $compacted, output_tokens => $summary }, { type => 'message', input_tokens => $input, output_tokens => $said + $thought } ]);
	}
	# what the split does not cover counts as kept for five minutes
	my ($covered) = maybe() ? $five : parts($five);
	my @split = $hour || maybe() ? (cache_creation => { told(ephemeral_5m_input_tokens => $covered), ephemeral_1h_input_tokens => $hour }) : maybe() ? (cache_creation => undef) : ();
	$input += $five + $hour + $m{cache_read_tokens} if $includes;
	return (
		input_tokens => $input,
		output_tokens => $said + $thought,
		cache_read_input_tokens => $m{cache_read_tokens},
		cache_creation_input_tokens => $five + $hour,
		@split, @iterations,
		details('output_tokens_details', thinking_tokens => $thought),
		details('server_tool_use', web_search_requests => $m{web_searches} // 0, web_fetch_requests => $m{web_fetches} // 0));
}

sub gemini
{
	my (%m) = @_;
	my %modality = (TEXT => 0, AUDIO => 1, IMAGE => 2, VIDEO => 3);
	my $camel = maybe();
	my $name = sub { my $n = shift; $n =~ s/_(\w)/\u$1/g if $camel; return $n; };
	# the same modality may come twice, and documents are text
	my $list = sub {
		my (@counts) = @_;
		my @list;
		foreach my $modality (keys %modality)
		{
			my @pieces = maybe() ? parts($counts[ $modality{$modality} ]) : $counts[ $modality{$modality} ];
			push @list, map { { modality => $modality eq 'TEXT' && maybe() ? 'DOCUMENT' : $modality, told($name->('token_count'), $_) } } @pieces;
		}
		return [ shuffle @list ];
	};
	my @by_tool = map { $_->[0] } my @in = map { [ parts($m{$_}) ] } @input;
	my @by_cache = @m{@cached};
	my @prompt = map { $in[$_][1] + $by_cache[$_] } 0 .. 3;
	my @said = @m{@output};
	my ($prompt, $cache, $tool, $said) = map { sum0(@$_) } \@prompt, \@by_cache, \@by_tool, \@said;
	my $side = maybe() ? 'candidates' : 'response';
	my %object = (
		prompt_token_count => $prompt,
		told(cached_content_token_count => $cache),
		told("${side}_token_count" => $said),
		told(thoughts_token_count => $m{reasoning_tokens}),
		told(tool_use_prompt_token_count => $tool),
		(maybe() ? (total_token_count => $prompt + $tool + $said + $m{reasoning_tokens}) : ()),
		prompt_tokens_details => $list->(@prompt),
		cache_tokens_details => $list->(@by_cache),
		tool_use_prompt_tokens_details => $list->(@by_tool),
		"${side}_tokens_details" => $list->(@said));
	return map { $name->($_) => $object{$_} } keys %object;
}

# What each format can tell, and how it tells it
my %formats = (
	openai_chat => sub {
		my %m = meters(@input, 'cache_read_tokens', 'cache_write_5m_tokens', @output, 'reasoning_tokens');
		return (\%m, { beside($m{reasoning_tokens}, chat(%m)) });
	},
	openai_responses => sub {
		my %m = meters(qw(input_tokens cache_read_tokens cache_write_5m_tokens output_tokens reasoning_tokens));
		my ($in, $out) = (sum0(@m{qw(input_tokens cache_read_tokens cache_write_5m_tokens)}), sum0(@m{qw(output_tokens reasoning_tokens)}));
		return (
			\%m,
			{
				input_tokens => $in,
				output_tokens => $out,
				total_tokens => $in + $out,
				input_tokens_details => { cached_tokens => $m{cache_read_tokens}, told(cache_write_tokens => $m{cache_write_5m_tokens}) },
				output_tokens_details => { reasoning_tokens => $m{reasoning_tokens} }
			});
	},
	openai_realtime => sub {
		my %m = meters(@input[ 0 .. 2 ], @cached[ 0 .. 2 ], @output[ 0, 1 ]);
		my @in = map { $m{ $input[$_] } + $m{ $cached[$_] } } 0 .. 2;
		my $out = sum0(@m{ @output[ 0, 1 ] });
		my @details = map { (qw(text_tokens audio_tokens image_tokens))[$_] => $m{ $cached[$_] } } 0 .. 2;
		return (
			\%m,
			{
				input_tokens => sum0(@in),
				output_tokens => $out,
				total_tokens => sum0(@in) + $out,
				input_token_details => {
					text_tokens => $in[0],
					audio_tokens => $in[1],
					told(image_tokens => $in[2]),
					told(cached_tokens => sum0(@m{ @cached[ 0 .. 2 ] })),
					details('cached_tokens_details', @details)
				},
				output_token_details => { text_tokens => $m{output_tokens}, audio_tokens => $m{output_audio_tokens} }
			});
	},
	openai_images => sub {
		my %m = meters(qw(input_tokens input_image_tokens output_image_tokens), maybe() ? 'output_tokens' : ());
		my ($in, $out) = ($m{input_tokens} + $m{input_image_tokens}, $m{output_image_tokens} + ($m{output_tokens} // 0));
		return (
			\%m,
			{
				input_tokens => $in,
				output_tokens => $out,
				total_tokens => $in + $out,
				input_tokens_details => { text_tokens => $m{input_tokens}, image_tokens => $m{input_image_tokens} },
				(defined $m{output_tokens} ? (output_tokens_details => { text_tokens => $m{output_tokens}, image_tokens => $m{output_image_tokens} }) : ())
			});
	},
	openai_transcription => sub {
		if (maybe())
		{
			my $seconds = count() + count() / 8;
			return ({ seconds => $seconds }, { type => 'duration', seconds => $seconds });
		}
		my %m = meters(qw(input_tokens input_audio_tokens output_tokens));
		my $in = $m{input_tokens} + $m{input_audio_tokens};
		return (
			\%m,
			{
				type => 'tokens',
				input_tokens => $in,
				output_tokens => $m{output_tokens},
				total_tokens => $in + $m{output_tokens},
				details('input_token_details', text_tokens => $m{input_tokens}, audio_tokens => $m{input_audio_tokens})
			});
	},
	openai_embeddings => sub {
		my %m = meters('input_tokens');
		return (\%m, { prompt_tokens => $m{input_tokens}, total_tokens => $m{input_tokens} });
	},
	deepseek => sub {
		my %m = meters(qw(input_tokens cache_read_tokens output_tokens reasoning_tokens));
		return (\%m, { chat(%m), prompt_cache_hit_tokens => $m{cache_read_tokens}, prompt_cache_miss_tokens => $m{input_tokens} });
	},
	openrouter => sub {
		my %m = meters(@input, 'cache_read_tokens', 'cache_write_5m_tokens', @output, 'reasoning_tokens', 'web_searches');
		return (\%m, { chat(%m), cost => rand(), is_byok => JSON::PP::false, details('server_tool_use', web_search_requests => $m{web_searches}) });
	},
	anthropic_openai => sub {
		my %m = meters(qw(input_tokens cache_read_tokens output_tokens));
		my %object = chat(%m);
		delete $object{prompt_tokens_details};
		return (\%m, { %object, cached_tokens => $m{cache_read_tokens} });
	},
	anthropic => sub {
		my %m = meters(qw(input_tokens cache_read_tokens cache_write_5m_tokens cache_write_1h_tokens output_tokens reasoning_tokens web_searches web_fetches));
		return (\%m, { anthropic(0, %m) });
	},
	openrouter_anthropic => sub {
		my %m = meters(qw(input_tokens cache_read_tokens cache_write_5m_tokens cache_write_1h_tokens output_tokens reasoning_tokens));
		return (\%m, { anthropic(1, %m), cost => rand() });
	},
	gemini => sub {
		my %m = meters(@input, @cached, @output, 'reasoning_tokens');
		return (\%m, { gemini(%m) });
	});

# The object in what surrounds it
sub wrapped
{
	my ($format, $object) = @_;
	return $object if maybe();
	return { candidates => [], $object->{promptTokenCount} ? 'usageMetadata' : 'usage_metadata', $object } if $format eq 'gemini';
	return { type => 'response.done', response => { id => 'r', usage => $object } } if $format =~ /realtime|responses/ && maybe();
	return { id => 'r', model => 'm', choices => [ { message => { content => 'x' } } ], usage => $object };
}

my $ask = 'SELECT tokenbill.normalize_usage($1::jsonb)::text AS found, tokenbill.normalize_usage($1::jsonb, $2)::text AS named, (tokenbill.describe_usage($1::jsonb)).format';
foreach my $format (sort keys %formats)
{
	my (@wrong, @accepted, %seen);
	for my $n (1 .. $wanted)
	{
		my ($meters, $object) = $formats{$format}->();
		my %expected = map { $_ => $meters->{$_} } grep { $meters->{$_} } keys %$meters;
		%expected = (exists $meters->{seconds} ? 'seconds' : 'input_tokens', 0) unless %expected;
		$seen{$_}++ foreach keys %expected;
		my $text = $json->encode(wrapped($format, $object));
		my $answer = $client->query($ask, $text, $format);
		my $row = $answer->{error} ? undef : $client->row($ask, $text, $format);
		my @got = $row ? map { $json->encode($json->decode($row->{$_})) } qw(found named) : "$answer->{error}{code} $answer->{error}{message}";
		# two counts alone are the same in all formats
		my $same_in_all = $row && $row->{format} eq 'meters' && !grep { !/^(?:input|output)_tokens$/ } keys %$object;
		push @wrong, "$text\n  @got" . ($row ? " as $row->{format}" : '') . "\n  expected " . $json->encode(\%expected)
		  unless $row && @got == grep({ $_ eq $json->encode(\%expected) } @got) && ($row->{format} eq $format || $same_in_all);

		# one count more in a total, or in a part that was all there was; two where one more would be
		# what an object without a wrong total says
		my @totals = grep { exists $object->{$_} && defined $object->{$_} } qw(total_tokens totalTokenCount total_token_count prompt_cache_miss_tokens);
		next unless @totals;
		my $total = $totals[ rand @totals ];
		my $more = ($object->{completion_tokens_details} // {})->{reasoning_tokens} // 0;
		$more = $more == 1 ? 2 : 1;
		my $answer_to_wrong = $client->query('SELECT tokenbill.normalize_usage($1::jsonb, $2)', $json->encode({ %$object, $total => $object->{$total} + $more }), $format);
		push @accepted, "$total of $text"
		  unless $answer_to_wrong->{error} && $answer_to_wrong->{error}{code} eq '22023' && $json->decode($answer_to_wrong->{error}{detail})->{field} eq $total;
	}
	is(join("\n", @wrong[ 0 .. ($#wrong > 2 ? 2 : $#wrong) ]), '', "$format: $wanted random usages come back");
	is(join("\n", @accepted[ 0 .. ($#accepted > 2 ? 2 : $#accepted) ]), '', "$format: and none with a wrong total");
	# a meter that never came up would prove nothing
	my ($meters) = $formats{$format}->();
	is(join(' ', grep { !$seen{$_} && !/seconds|^output_tokens/ } keys %$meters), '', "$format: every meter came up");
}
# ---- junk made of the words that formats know: read or refused, never anything else
my @names = qw(usage usageMetadata usage_metadata response body result message data type seconds service_tier speed inference_geo iterations modality tokenCount token_count
  input_tokens output_tokens total_tokens prompt_tokens completion_tokens cached_tokens text_tokens audio_tokens image_tokens reasoning_tokens thinking_tokens prompt_tokens_details completion_tokens_details
  input_tokens_details output_tokens_details input_token_details output_token_details cached_tokens_details cache_read_input_tokens cache_creation_input_tokens cache_creation ephemeral_5m_input_tokens
  ephemeral_1h_input_tokens server_tool_use web_search_requests cost is_byok prompt_cache_hit_tokens promptTokenCount candidatesTokenCount totalTokenCount promptTokensDetails cacheTokensDetails choices id
  native_tokens_prompt native_tokens_completion x_tokens pages);

sub junk
{
	my ($depth) = @_;
	my $kind = rand();
	return { map { $names[ rand @names ] => junk($depth - 1) } 1 .. int(rand(6)) } if $depth > 0 && $kind < 0.4;
	return [ map { junk($depth - 1) } 1 .. int(rand(3)) ] if $depth > 0 && $kind < 0.5;
	my @values = (0, 1, 2, 5, 10, -1, 1.5, 1e15, 1e30, undef, JSON::PP::true, '', '5', 'TEXT', 'AUDIO', 'tokens', 'duration', 'message', 'compaction', 'flex', "\x{1}", {}, []);
	return $values[ rand @values ];
}
my (@odd, %ends);
my @named = ('auto', 'auto', 'meters', sort keys %formats);
for my $n (1 .. $wanted * 10)
{
	my %object = map { $names[ rand @names ] => junk(3) } 1 .. 1 + int(rand(6));
	my $text = $json->encode(\%object);
	my $answer = $client->query('SELECT tokenbill.normalize_usage($1::jsonb, $2)', $text, $named[ rand @named ]);
	my $error = $answer->{error};
	$ends{ $error ? $error->{code} : 'read' }++;
	push @odd, "$text: $error->{code} $error->{message}"
	  if $error && !($error->{code} =~ /^22(?:003|004|023)$/ && $json->decode($error->{detail})->{argument} eq 'usage');
}
is(join("\n", @odd[ 0 .. ($#odd > 2 ? 2 : $#odd) ]), '', 'junk is read or refused');
cmp_ok($ends{$_} || 0, '>', 0, "junk: some ends with $_") foreach qw(read 22003 22004 22023);

$client->close;
$server->stop;
done_testing();
