# Signatures of requests: against the examples that the vendors publish, and
# against what Python works out for requests made at random. The C is compiled
# into a program of its own, with the address sanitizer.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server qw(seed);

my $top = abs_path(dirname(__FILE__) . '/../..');
my $dir = PostgreSQL::Test::Utils::tempdir;
my $program = "$dir/sign";
my ($out, $err) = run_command(
	[
		'gcc', '-g', '-Wall', '-Wextra', '-Werror', '-fsanitize=address,undefined', '-fno-sanitize-recover=all',
		"-I$top/src", '-o', $program, "$top/test/drivers/sign.c", "$top/src/signature.c", "$top/src/canonical.c", '-lcrypto'
	]);
is($?, 0, 'the driver is built') or BAIL_OUT("$out\n$err");

sub sign
{
	my (%in) = @_;
	my ($stdout, $stderr) = run_command(
		[
			$program, $in{auth}, $in{secret}, $in{method} // 'GET', $in{url}, $in{body} // '',
			$in{now} // 0, $in{nonce} // 'n', @{ $in{headers} || [] }
		]);
	is($?, 0, 'the driver ends well') or diag($stderr);
	return $stdout;
}

sub signed
{
	my ($name, $expected, %in) = @_;
	is(sign(%in), $expected, $name);
	return;
}

my $empty = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

# ---- the vendors' own examples

# help.aliyun.com, "V3 request structure and signature"
signed(
	"Alibaba Cloud's example",
	join("\n",
		"x-acs-content-sha256: $empty",
		'x-acs-date: 2023-10-26T10:22:32Z',
		'x-acs-signature-nonce: 3156853299f313e23d1673dc12e1703d',
		'Authorization: ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0'),
	auth => 'aliyun',
	secret => 'YourAccessKeyId:YourAccessKeySecret',
	method => 'POST',
	# in another order than the canonical one
	url => 'https://ecs.cn-shanghai.aliyuncs.com/?RegionId=cn-shanghai&ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd',
	now => 1698315752,
	nonce => '3156853299f313e23d1673dc12e1703d',
	headers => [ 'x-acs-version: 2014-05-26', 'X-ACS-Action:  RunInstances ', 'accept: application/json' ]);

# volcengine.com/docs/6369/67270
signed(
	"Volcengine's example",
	join("\n",
		'X-Date: 20201230T081805Z',
		"X-Content-Sha256: $empty",
		'Authorization: HMAC-SHA256 Credential=AKLTMjI2ODVlYzI3ZGY1NGU4ZjhjYWRjMTlmNTM5OTZkYzE/20201230/cn-north-1/iam/request, SignedHeaders=content-type;host;x-content-sha256;x-date, Signature=28eeabbbd726b87002e0fe58ad8c1c768e619b06e2646f35b6ad7ed029a6d8a7'),
	auth => 'volcengine:cn-north-1/iam',
	secret => 'AKLTMjI2ODVlYzI3ZGY1NGU4ZjhjYWRjMTlmNTM5OTZkYzE:TnpCak5XWXpZV1U0WkRaaE5ERmxaR0ZpTmpjeVkyUXlZek0wTWpJMU1qWQ==',
	url => 'https://iam.volcengineapi.com/?Version=2018-01-01&Action=ListUsers&Limit=10&Offset=0',
	now => 1609316285,
	headers => ['Content-Type: application/x-www-form-urlencoded; charset=utf-8']);

# ---- worked out with Python, for random requests

my $python = "$dir/sign.py";
PostgreSQL::Test::Utils::append_to_file($python, <<'PY');
import datetime, hashlib, hmac, json, random, sys, urllib.parse

def sha(data): return hashlib.sha256(data).hexdigest()
def mac(key, text): return hmac.new(key, text.encode(), hashlib.sha256).digest()
def quote(text): return urllib.parse.quote(text, safe='-_.~')

def canonical(method, path, parameters, headers, body):
    query = '&'.join(quote(n) + '=' + quote(v) for n, v in sorted((n, v) for n, v in parameters))
    names = ';'.join(sorted(headers))
    return names, '\n'.join([method, '/'.join(quote(p) for p in path.split('/')) or '/', query,
        ''.join('%s:%s\n' % (n, headers[n]) for n in sorted(headers)), names, sha(body)])

random.seed(int(sys.argv[1]))
letters = 'aZ09-_.~ +&=/?%*!\'()üé字'
def word(least, most): return ''.join(random.choice(letters) for _ in range(random.randint(least, most)))
for _ in range(int(sys.argv[2])):
    method = random.choice(['GET', 'POST'])
    host = random.choice(['a.example', 'billing.b.example:8443', '[::1]:99'])
    path = random.choice(['', '/', '/x/y z', '/a/' + word(0, 5).replace('/', '').replace('?', '')])
    parameters = list({word(1, 4): word(0, 8) for _ in range(random.randint(0, 8))}.items())
    body = random.choice(['', '{}', word(1, 40)])
    now = random.randint(0, 4102444799)
    nonce = '%032x' % random.getrandbits(128)
    key, secret = 'AK%d' % random.randint(0, 999), random.choice(['s', 'a:b', 'x' * 200])
    at = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    # a name or value may be written in more than one way
    def loosely(text):
        return ''.join(c if c.isalnum() and c.isascii() else '+' if c == ' ' and random.random() < .5
            else quote(c).lower() if random.random() < .5 else quote(c) for c in text)
    def order(items):
        items = list(items); random.shuffle(items); return items
    url = 'https://' + host + '/'.join(quote(p) for p in path.split('/'))
    if parameters or random.random() < .3:
        url += '?' + '&'.join(loosely(n) + ('=' + loosely(v) if v or random.random() < .5 else '') for n, v in order(parameters))
    if random.random() < .2:
        url += '#part'
    headers, extra = {'host': host}, []
    if random.random() < .5:
        headers['content-type'] = 'application/json'
        extra.append('Content-Type:application/json')
    extra.append('User-Agent: x')
    auth = random.choice(['aliyun', 'volcengine', 'volcengine:cn-x-9/ark_2', 'hmac_sha256'])
    whole = key + ':' + secret
    if auth == 'aliyun':
        headers.update({'x-acs-action': 'Do', 'x-acs-version': '2017-12-14', 'x-acs-date': at.strftime('%Y-%m-%dT%H:%M:%SZ'),
            'x-acs-content-sha256': sha(body.encode()), 'x-acs-signature-nonce': nonce})
        extra += ['x-acs-action: Do', 'x-acs-version: 2017-12-14']
        names, request = canonical(method, path, parameters, headers, body.encode())
        signature = mac(secret.encode(), 'ACS3-HMAC-SHA256\n' + sha(request.encode())).hex()
        wanted = ['%s: %s' % (n, headers[n]) for n in ('x-acs-content-sha256', 'x-acs-date', 'x-acs-signature-nonce')]
        wanted.append('Authorization: ACS3-HMAC-SHA256 Credential=%s,SignedHeaders=%s,Signature=%s' % (key, names, signature))
    elif auth == 'hmac_sha256':
        wanted = ['Tokenbill-Signature: t=%d,v1=%s' % (now, mac(whole.encode(), '%d.%s' % (now, body)).hex())]
    else:
        region, service = ('cn-beijing', 'billing') if auth == 'volcengine' else ('cn-x-9', 'ark_2')
        date = at.strftime('%Y%m%dT%H%M%SZ')
        headers.update({'x-date': date, 'x-content-sha256': sha(body.encode())})
        names, request = canonical(method, path, parameters, headers, body.encode())
        scope = '%s/%s/%s/request' % (date[:8], region, service)
        signing = secret.encode()
        for part in (date[:8], region, service, 'request'):
            signing = mac(signing, part)
        signature = mac(signing, '\n'.join(['HMAC-SHA256', date, scope, sha(request.encode())])).hex()
        wanted = ['X-Date: ' + date, 'X-Content-Sha256: ' + headers['x-content-sha256'],
            'Authorization: HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s' % (key, scope, names, signature)]
    print(json.dumps({'args': [auth, whole, method, url, body, str(now), nonce] + order(extra), 'wanted': '\n'.join(wanted)}))
PY

require JSON::PP;
my $seed = seed();
my $times = 300;
my ($cases, $complaint) = run_command([ 'python3', $python, $seed, $times ]);
my ($tried, %wrong) = (0);
foreach my $line (split /\n/, $cases)
{
	my $case = JSON::PP->new->decode($line);
	my @args = map { utf8::encode(my $a = $_); $a } @{ $case->{args} };
	utf8::encode(my $wanted = $case->{wanted});
	my ($stdout, $stderr) = run_command([ $program, @args ]);
	$tried++;
	$wrong{"@args"} = "$stdout$stderr, not $wanted" if $stdout ne $wanted;
}
is($tried, $times, 'Python has worked them out') or diag($complaint);
is_deeply([ map { "$_: $wrong{$_}" } (sort keys %wrong)[ 0 .. (keys %wrong > 3 ? 2 : keys(%wrong) - 1) ] ], [], "$times random requests are signed alike");

# ---- what cannot be signed

my %good = (secret => 'AK:SK', url => 'https://a.example/', headers => [ 'x-acs-action: A', 'x-acs-version: 1' ]);
foreach my $case (
	[ { auth => 'aliyun', secret => 'AKSK' }, 'its secret is not of the form AccessKeyId:AccessKeySecret' ],
	[ { auth => 'volcengine', secret => ':SK' }, 'its secret is not of the form AccessKeyId:AccessKeySecret' ],
	[ { auth => 'aliyun', secret => 'AK:' }, 'its secret is not of the form AccessKeyId:AccessKeySecret' ],
	[ { auth => 'aliyun', secret => "A\nX-Evil: 1:SK" }, 'its secret is not of the form AccessKeyId:AccessKeySecret' ],
	[ { auth => 'aliyun', url => 'ftp://a.example/' }, 'its URL cannot be signed' ],
	[ { auth => 'aliyun', url => 'https:///x' }, 'its URL cannot be signed' ],
	[ { auth => 'volcengine', url => 'https://user@a.example/' }, 'its URL cannot be signed' ],
	[ { auth => 'volcengine', url => 'https://a.example/?' . join('&', map { "p$_=1" } 0 .. 100) }, 'the query of its URL is too long to sign' ],
	[ { auth => 'aliyun', headers => ['x-acs-action: A'] }, 'it has no headers x-acs-action and x-acs-version' ],
	[ { auth => 'aliyun', headers => [ @{ $good{headers} }, 'X-Acs-Action: B' ] }, 'a header that is signed is in the request twice' ],
	[ { auth => 'aliyun', headers => [ @{ $good{headers} }, 'x-acs-date: now' ] }, 'a header that is signed is in the request twice' ],
	[ { auth => 'volcengine', headers => ['x-date: now'] }, 'a header that is signed is in the request twice' ],
	[ { auth => 'aliyun', headers => [ @{ $good{headers} }, map { "x-acs-h$_: 1" } 0 .. 40 ] }, 'it has too many headers to sign' ],
	[ { auth => 'volcengine:cn-north-1' }, 'its signature is none of those there are' ],
	[ { auth => 'volcengine:a/b;c' }, 'its signature is none of those there are' ],
	[ { auth => 'aws' }, 'its signature is none of those there are' ])
{
	my ($changed, $why) = @$case;
	(my $name = join ' ', map { "$_ " . (ref $changed->{$_} ? $changed->{$_}[-1] : substr($changed->{$_}, 0, 40)) } sort keys %$changed) =~ s/\n/ /g;
	signed("refused: $name", "refused: $why", %good, %$changed);
}

# what is usual in a Host header is what is signed
is(sign(%good, auth => 'volcengine', url => 'https://a.example:443/'), sign(%good, auth => 'volcengine'), 'the usual port is not part of the host');
isnt(sign(%good, auth => 'volcengine', url => 'https://a.example:8443/'), sign(%good, auth => 'volcengine'), 'another one is');
isnt(sign(%good, auth => 'hmac_sha256', body => 'a'), sign(%good, auth => 'hmac_sha256', body => 'b'), 'a webhook signature depends on the body');
isnt(sign(%good, auth => 'hmac_sha256', now => 1), sign(%good, auth => 'hmac_sha256', now => 2), 'and on the time');

# what docs/secrets.md tells receivers of webhooks to do
my $page = PostgreSQL::Test::Utils::slurp_file("$top/docs/secrets.md");
my ($receiver) = $page =~ /```python\n(.*?)```/s;
my ($header) = sign(auth => 'hmac_sha256', url => 'https://a.example/', secret => 'whsec', body => '{"a": 1}', now => 1000) =~ /^Tokenbill-Signature: (.*)$/;
PostgreSQL::Test::Utils::append_to_file("$dir/receiver.py", "import hashlib, hmac\n$receiver\n"
	  . qq(print([genuine('$header', body, secret, now) for body, secret, now in [(b'{"a": 1}', b'whsec', 1300), (b'{"a": 1}', b'whsec', 1301), (b'{"a":1}', b'whsec', 1000), (b'{"a": 1}', b'other', 1000)]])));
my ($verdict, $trouble) = run_command([ 'python3', "$dir/receiver.py" ]);
is($verdict, '[True, False, False, False]', 'the documented receiver takes what is signed, and nothing that is old, changed or of another') or diag($trouble);

done_testing();
