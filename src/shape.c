/*
 * shape.c
 *	  Keys that tell by their shape that they are one.
 *
 * Each has a beginning that its vendor has published or that all of its keys
 * have, and behind it enough of certain characters.  The beginning is left, so
 * that one sees what was masked.  New vendors are new lines of the table.
 */
#include "word.h"

/* JWTs have three parts, encrypted ones five (RFC 7515, 7516) */
#define JWT_PARTS 5

#define ZHIPU_ID 32
#define ZHIPU_SECRET 16
#define PAYPAL_SECRET 80

/* A pair that is written as ID:SECRET */
#define PAIR_SECRET 16

typedef enum ShapeFlag
{
	VARIED = 1,					/* has digits or capitals, or no dash for
								 * long: else it is words */
	PAIR = 2,					/* may be followed by a colon and its secret */
	EXACT = 4					/* as long as that and no longer */
} ShapeFlag;

#define LONG_WORD 32

typedef struct Shape
{
	const char *prefix;
	unsigned char classes;		/* of what follows it */
	unsigned char least;		/* how much of that */
	unsigned char flags;
} Shape;

#define URL_PATH (TB_KEY | TB_DOT | TB_BASE64)

/* Sorted by the first letter; of several that fit, the longer before the shorter */
static const Shape shapes[] = {
	/*
	 * Square, Tencent Cloud, Amazon, Volcengine, age, Google, Atlassian,
	 * PayPal
	 */
	{"ABIA", TB_UPPER | TB_DIGIT, 16, EXACT | PAIR},
	{"ACCA", TB_UPPER | TB_DIGIT, 16, EXACT | PAIR},
	{"AGE-SECRET-KEY-1", TB_UPPER | TB_DIGIT, 20, 0},
	{"AIza", TB_KEY, 30, 0},
	{"AKIA", TB_UPPER | TB_DIGIT, 16, EXACT | PAIR},
	{"AKID", TB_ALNUM, 30, PAIR},
	{"AKLT", TB_ALNUM | TB_BASE64, 16, PAIR},
	{"AKTP", TB_ALNUM | TB_BASE64, 16, PAIR},
	{"ALTAK-", TB_KEY, 16, 0},
	{"ASIA", TB_UPPER | TB_DIGIT, 16, EXACT | PAIR},
	{"ATATT3x", TB_KEY | TB_BASE64, 20, 0},
	{"A21AA", TB_KEY, 60, 0},
	/* Google */
	{"GOCSPX-", TB_KEY, 16, 0},
	/* Alibaba Cloud */
	{"LTAI", TB_ALNUM, 12, PAIR},
	/* private keys without the lines around them: Ed25519, SEC 1, PKCS #8 */
	{"MC4CAQAwBQYDK2VwBCIEI", TB_ALNUM | TB_BASE64, 20, 0},
	{"MHcCAQEEI", TB_ALNUM | TB_BASE64, 40, 0},
	{"MIGHAgEAMBMGByqGSM49", TB_ALNUM | TB_BASE64, 40, 0},
	{"MIG2AgEAMBAGByqGSM49", TB_ALNUM | TB_BASE64, 40, 0},
	/* New Relic */
	{"NRAK-", TB_KEY, 20, 0},
	/* Postman */
	{"PMAK-", TB_KEY, 20, 0},
	/* SendGrid, Alibaba Cloud's temporary ones */
	{"SG.", TB_KEY | TB_DOT, 40, 0},
	{"STS.", TB_KEY, 16, 0},
	/* Telegram, PayPal's Braintree */
	{"api.telegram.org/bot", URL_PATH, 20, 0},
	{"api_org_", TB_ALNUM, 20, 0},
	/* Baidu */
	{"bce-v3/", URL_PATH, 20, 0},
	/* Cerebras */
	{"csk-", TB_ALNUM, 20, VARIED},
	/* Databricks, Discord, Docker, DigitalOcean */
	{"dapi", TB_HEX, 32, EXACT},
	{"dckr_pat_", TB_KEY, 20, 0},
	{"discord.com/api/webhooks/", URL_PATH, 20, 0},
	{"discordapp.com/api/webhooks/", URL_PATH, 20, 0},
	{"dop_v1_", TB_HEX, 32, 0},
	{"doo_v1_", TB_HEX, 32, 0},
	/* Fireworks */
	{"fw_", TB_ALNUM, 20, VARIED},
	/* GitHub, GitLab, Grafana, Groq */
	{"ghp_", TB_ALNUM, 20, VARIED},
	{"gho_", TB_ALNUM, 20, VARIED},
	{"ghu_", TB_ALNUM, 20, VARIED},
	{"ghs_", TB_ALNUM, 20, VARIED},
	{"ghr_", TB_ALNUM, 20, VARIED},
	{"github_pat_", TB_KEY, 20, VARIED},
	{"glpat-", TB_KEY, 16, VARIED},
	{"gldt-", TB_KEY, 16, VARIED},
	{"glrt-", TB_KEY, 16, VARIED},
	{"glsa_", TB_KEY, 20, VARIED},
	{"gsk_", TB_ALNUM, 20, VARIED},
	/* Hugging Face, Slack, HashiCorp Vault */
	{"hf_", TB_ALNUM, 20, VARIED},
	{"hooks.slack.com/services/", URL_PATH, 20, 0},
	{"hvs.", TB_KEY, 20, VARIED},
	{"hvb.", TB_KEY, 20, VARIED},
	/* Jina */
	{"jina_", TB_ALNUM, 20, VARIED},
	/* LangSmith */
	{"lsv2_pt_", TB_KEY, 20, VARIED},
	{"lsv2_sk_", TB_KEY, 20, VARIED},
	/* Netlify, npm, NVIDIA */
	{"nfp_", TB_ALNUM, 30, VARIED},
	{"npm_", TB_ALNUM, 30, VARIED},
	{"nvapi-", TB_KEY, 20, VARIED},
	/* Feishu */
	{"open.feishu.cn/open-apis/bot/v2/hook/", URL_PATH, 16, 0},
	{"open.larksuite.com/open-apis/bot/v2/hook/", URL_PATH, 16, 0},
	/* Voyage, Perplexity, PlanetScale, PyPI */
	{"pa-", TB_KEY, 40, VARIED},
	{"pplx-", TB_ALNUM, 20, VARIED},
	{"pscale_tkn_", TB_KEY, 20, VARIED},
	{"pscale_pw_", TB_KEY, 20, VARIED},
	{"pypi-AgEI", TB_KEY, 20, 0},
	/* WeCom */
	{"qyapi.weixin.qq.com/cgi-bin/webhook/send?key=", URL_PATH, 16, 0},
	/* Replicate, RunPod, Stripe */
	{"r8_", TB_ALNUM, 20, VARIED},
	{"rpa_", TB_ALNUM, 30, VARIED},
	{"rk_live_", TB_ALNUM, 8, 0},
	{"rk_test_", TB_ALNUM, 8, 0},

	/*
	 * Anthropic, OpenAI, OpenRouter; Stripe; Supabase, Sentry, Shopify,
	 * Square
	 */
	{"sk-ant-admin01-", TB_KEY, 8, 0},
	{"sk-ant-api03-", TB_KEY, 8, 0},
	{"sk-ant-oat01-", TB_KEY, 8, 0},
	{"sk-ant-ort01-", TB_KEY, 8, 0},
	{"sk-ant-sid01-", TB_KEY, 8, 0},
	{"sk-ant-", TB_KEY, 16, VARIED},
	{"sk-admin-", TB_KEY, 16, VARIED},
	{"sk-None-", TB_KEY, 16, VARIED},
	{"sk-or-v1-", TB_KEY, 16, VARIED},
	{"sk-proj-", TB_KEY, 16, VARIED},
	{"sk-svcacct-", TB_KEY, 16, VARIED},
	/* DeepSeek, Moonshot, SiliconFlow, older ones of OpenAI, and many more */
	{"sk-", TB_KEY, 16, VARIED},
	{"sk_live_", TB_ALNUM, 8, 0},
	{"sk_test_", TB_ALNUM, 8, 0},
	{"sk_org_", TB_ALNUM, 16, VARIED},
	/* ElevenLabs */
	{"sk_", TB_HEX, 32, 0},
	{"sb_secret_", TB_KEY, 16, 0},
	{"sbp_", TB_HEX, 20, 0},
	{"shpat_", TB_HEX, 20, 0},
	{"shpss_", TB_HEX, 20, 0},
	{"sntrys_", TB_KEY | TB_BASE64, 20, VARIED},
	{"sq0atp-", TB_KEY, 16, 0},
	{"sq0csp-", TB_KEY, 16, 0},
	/* Together, Tavily, Tailscale */
	{"tgp_v1_", TB_KEY, 20, 0},
	{"tvly-", TB_KEY, 16, VARIED},
	{"tskey-", TB_KEY, 16, VARIED},
	/* Stripe's webhooks, Microsoft Teams */
	{"webhook.office.com/webhookb2/", URL_PATH, 20, 0},
	{"whsec_", TB_KEY | TB_BASE64, 16, VARIED},
	/* xAI, Slack */
	{"xai-", TB_KEY, 20, VARIED},
	{"xapp-", TB_KEY, 10, VARIED},
	{"xoxa-", TB_KEY, 10, VARIED},
	{"xoxb-", TB_KEY, 10, VARIED},
	{"xoxe.", TB_KEY | TB_DOT, 10, VARIED},
	{"xoxe-", TB_KEY, 10, VARIED},
	{"xoxp-", TB_KEY, 10, VARIED},
	{"xoxr-", TB_KEY, 10, VARIED},
	{"xoxs-", TB_KEY, 10, VARIED},
	/* Google's OAuth */
	{"ya29.", TB_KEY, 20, 0},
};

#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

/* The first of the lines that begin with a character, and how many there are */
static struct
{
	unsigned char first;
	unsigned char count;
}			lines[256];
static bool indexed = false;

static void
make_index(void)
{
	for (size_t i = SHAPES; i > 0; i--)
	{
		unsigned char c = (unsigned char) shapes[i - 1].prefix[0];

		lines[c].first = (unsigned char) (i - 1);
		lines[c].count++;
	}
	indexed = true;
}

static size_t
least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Whether what follows a prefix, and is more than enough, is no mere words */
static bool
is_key(const char *body, size_t length)
{
	size_t		look = least(length, TB_LOOK);
	size_t		run = 0;

	if (tb_is_varied(body, look))
		return true;
	for (size_t i = 0; i < look; i++)
	{
		run = tb_is(body[i], TB_ALNUM) ? run + 1 : 0;
		if (run == LONG_WORD)
			return true;
	}
	return false;
}

/* The end of :SECRET behind an id that ends here, or of the id */
static size_t
pair_end(const Word *word, size_t end)
{
	const char *s = word->bytes + end;
	size_t		left = word->length - end;
	size_t		secret;
	size_t		i;

	if (left >= 1 && s[0] == ':')
		secret = end + 1;
	/* the colon in a URL */
	else if (left >= 3 && s[0] == '%' && s[1] == '3' && (s[2] == 'A' || s[2] == 'a'))
		secret = end + 3;
	else
		return end;
	i = tb_run(word, secret, TB_KEY | TB_BASE64);
	return i - secret >= PAIR_SECRET ? i : end;
}

static bool
fits(const Word *word, const Shape *shape, size_t *start, size_t *end)
{
	const char *s = word->bytes + word->start;
	size_t		prefix;
	size_t		body;
	size_t		wanted = shape->least;
	size_t		i;

	/* most words are none: the first letter is the same, the second is not */
	if (word->length - word->start < 2 || s[1] != shape->prefix[1])
		return false;
	prefix = strlen(shape->prefix);
	if (word->length - word->start < prefix || memcmp(s, shape->prefix, prefix) != 0)
		return false;
	body = word->start + prefix;

	/* look no further than necessary: there may be many such beginnings */
	for (i = body; i < word->length && i - body < TB_LOOK; i++)
	{
		if (!tb_is(word->bytes[i], shape->classes))
			break;
	}
	if (i - body < wanted &&
		!(i - body >= 4 && tb_is_cut_off(word, i)))
		return false;
	if ((shape->flags & EXACT) && i - body > wanted)
		return false;
	if ((shape->flags & VARIED) && !is_key(word->bytes + body, i - body))
		return false;
	if (i < word->length && !tb_is(word->bytes[i], shape->classes) &&
		tb_is(word->bytes[i], TB_ALNUM))
		return false;
	*start = body;
	*end = tb_run(word, i, shape->classes);
	/* the letters of another class belong to it, whatever they are */
	*end = tb_run(word, *end, TB_ALNUM);
	/* a full stop or dash at its end is the sentence's */
	while (*end > body + 1 && tb_is(word->bytes[*end - 1], TB_DOT))
		(*end)--;
	if (shape->flags & PAIR)
		*end = pair_end(word, *end);
	return true;
}

/*
 * A JSON web token (RFC 7519): a header that begins with {" in base64url, and
 * further parts behind full stops.
 */
static bool
is_jwt(const Word *word, size_t *start, size_t *end)
{
	size_t		at = word->start;
	int			parts = 1;

	/* not from the middle of something longer: each is looked through once */
	if (tb_is(tb_before(word, at), TB_DASH))
		return false;
	at = tb_run(word, at, TB_KEY);
	if (at - word->start < 10)
		return false;
	*start = word->start + 3;
	*end = at;
	while (parts < JWT_PARTS && at < word->length && word->bytes[at] == '.')
	{
		size_t		next = tb_run(word, at + 1, TB_KEY);

		/* an encrypted one may have no key in it: two full stops */
		if (next == at + 1 && !(parts == 1 && next < word->length && word->bytes[next] == '.'))
			break;
		parts++;
		*end = at = next;
	}
	return parts >= 2 || tb_is_cut_off(word, *end);
}

/* Zhipu's and Z.ai's: 32 hexadecimal digits, a full stop, and 16 characters */
static bool
is_zhipu(const Word *word, size_t *start, size_t *end)
{
	size_t		secret = word->end + 1;

	if (word->end - word->start != ZHIPU_ID || word->length - word->end <= ZHIPU_SECRET ||
		word->bytes[word->end] != '.')
		return false;
	for (size_t i = word->start; i < word->end; i++)
	{
		if (!tb_is(word->bytes[i], TB_HEX))
			return false;
	}
	for (size_t i = secret; i < secret + ZHIPU_SECRET; i++)
	{
		if (!tb_is(word->bytes[i], TB_ALNUM))
			return false;
	}
	*start = secret;
	*end = secret + ZHIPU_SECRET;
	return (*end == word->length || !tb_is(word->bytes[*end], TB_KEY)) &&
		tb_is_varied(word->bytes + secret, ZHIPU_SECRET);
}

/* PayPal's client secret: E and 79 characters of all kinds */
static bool
is_paypal(const Word *word, size_t *start, size_t *end)
{
	unsigned char seen = 0;
	size_t		i = word->start;

	if (tb_is(tb_before(word, i), TB_DASH))
		return false;
	while (i < word->length && i - word->start <= PAYPAL_SECRET &&
		   tb_is(word->bytes[i], TB_KEY))
		seen |= tb_byte_class[(unsigned char) word->bytes[i++]];
	*start = word->start + 1;
	*end = i;
	return i - word->start == PAYPAL_SECRET && !(i < word->length && word->bytes[i] == '*') &&
		(seen & TB_DIGIT) && (seen & TB_UPPER) && (seen & TB_LOWER);
}

/*
 * A private RSA key or one in PKCS #8, in base64 without the lines around it: a
 * sequence of less than 64 KB that begins with version 0, and then a number or
 * the algorithm.
 */
static bool
is_private_key(const Word *word, size_t *start, size_t *end)
{
	const char *s = word->bytes + word->start;

	if (word->length - word->start < 64 || memcmp(s, "MII", 3) != 0 ||
		(memcmp(s + 6, "IBAAKC", 6) != 0 && memcmp(s + 6, "IBADAN", 6) != 0))
		return false;
	*start = word->start + 4;
	*end = tb_run(word, *start, TB_ALNUM | TB_BASE64);
	return *end - *start >= 40;
}

/*
 * tb_shape_at
 *		Whether a key begins with a word, by its shape; what of it is to be masked.
 */
bool
tb_shape_at(const Word *word, size_t *start, size_t *end)
{
	unsigned char c = (unsigned char) word->bytes[word->start];

	if (!indexed)
		make_index();
	for (int i = lines[c].first; i < lines[c].first + lines[c].count; i++)
	{
		if (fits(word, &shapes[i], start, end))
			return true;
	}
	if (c == 'e' && word->end - word->start >= 3 &&
		memcmp(word->bytes + word->start, "eyJ", 3) == 0)
		return is_jwt(word, start, end);
	if (c == 'E' && is_paypal(word, start, end))
		return true;
	if (c == 'M' && is_private_key(word, start, end))
		return true;
	return tb_is((char) c, TB_HEX) && is_zhipu(word, start, end);
}
