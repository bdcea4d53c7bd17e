-- A small shop that resells model calls: its roles, its price list, its
-- customers, and what the model APIs answered. Run by demo/run as superuser.
CREATE EXTENSION tokenbill;

-- The shop's two programs log in as these. Neither can touch a table.
CREATE ROLE shop_api LOGIN IN ROLE tokenbill_app;
CREATE ROLE shop_finance LOGIN IN ROLE tokenbill_billing, tokenbill_reader;
CREATE SCHEMA demo;
GRANT USAGE ON SCHEMA demo TO shop_api, shop_finance;

-- Prices as the vendors publish them, in USD for so many units
CREATE TABLE demo.price (provider text, service text, meter text, unit_price numeric, per numeric, PRIMARY KEY (service, meter));
\copy demo.price FROM 'demo/prices.csv' CSV HEADER
SELECT count(DISTINCT p.service) AS models, count(*) AS prices FROM demo.price p,
	tokenbill.set_price(p.service, p.meter, p.unit_price, p.per)
\gset
\echo :models models, :prices prices

-- Customers. acme-chat has agreed on a price of its own for one model.
CREATE TABLE demo.customer (account text PRIMARY KEY, paid numeric, credit_limit numeric, sandbox boolean, what text);
INSERT INTO demo.customer VALUES
	('acme-chat', 60, 0, false, 'pays ahead, has its own price for claude-sonnet-4-5'),
	('northwind-docs', 50, 0, false, 'pays ahead'),
	('lumen-search', 20, 0, false, 'pays ahead, mostly embeddings'),
	('blue-otter-games', 40, 0, false, 'pays ahead'),
	('fresh-startup', 1, 50, false, 'has a credit limit and uses it'),
	('hobby-bot', 0.75, 0, false, 'has too little money for what it asks'),
	('late-payer', 5, 0, false, 'is frozen'),
	('ci-robot', 1, 0, true, 'is a sandbox: all checks, no money'),
	('night-owl', 0.05, 0, false, 'streams an answer it cannot pay to the end'),
	('bank-of-tea', 2, 0, false, 'charges with issued tokens only');
SELECT count(*) AS customers FROM demo.customer c, tokenbill.create_account(c.account, 'USD', c.credit_limit, c.sandbox,
	jsonb_build_object('about', c.what))
\gset
\echo :customers customers
SELECT FROM tokenbill.set_account_policy('bank-of-tea', tokens_only => true) \g /dev/null
SELECT FROM tokenbill.set_price('claude-sonnet-4-5', 'output_tokens', 13.5, 1000000, account => 'acme-chat') \g /dev/null

SET ROLE shop_finance;
SELECT count(*) AS orders, sum(r.amount) AS paid
FROM (VALUES ('acme-chat', 60), ('northwind-docs', 50), ('lumen-search', 20), ('blue-otter-games', 40), ('fresh-startup', 1),
	('hobby-bot', 0.75), ('late-payer', 5), ('ci-robot', 1), ('night-owl', 0.05), ('bank-of-tea', 2)) AS c (account, paid),
	tokenbill.recharge(c.account, c.paid, 'order-' || c.account || '-1') r
\gset
RESET ROLE;
\echo :orders recharges, :paid USD
SELECT FROM tokenbill.set_account_status('late-payer', 'frozen') \g /dev/null

-- What the model APIs answered, one line a response, every vendor in its own
-- words.
CREATE TABLE demo.response (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, line jsonb NOT NULL);
\copy demo.response (line) FROM 'demo/usage.jsonl' CSV QUOTE E'\x01' DELIMITER E'\x02'

-- The shop passes these usage objects to tokenbill as they are. Beside them, the
-- same as meters that do not overlap, in plain SQL that knows nothing of
-- tokenbill's reading of them: demo/check.sql holds one against the other.
CREATE VIEW demo.usage AS
SELECT r.id, r.line->>'service' AS service, v.vendor, m.meters,
	coalesce(j.u, j.g) AS usage
FROM demo.response r
CROSS JOIN LATERAL (SELECT r.line->'response'->'usage' AS u, r.line->'response'->'usageMetadata' AS g) AS j
CROSS JOIN LATERAL (
	-- Anthropic: input is what came from no cache, and goes into none
	SELECT 'Anthropic' AS vendor, (j.u->>'input_tokens')::numeric AS input,
		(j.u->>'cache_read_input_tokens')::numeric AS cache_read,
		(j.u->'cache_creation'->>'ephemeral_5m_input_tokens')::numeric AS cache_write_5m,
		(j.u->'cache_creation'->>'ephemeral_1h_input_tokens')::numeric AS cache_write_1h,
		(j.u->>'output_tokens')::numeric AS output,
		coalesce((j.u->'server_tool_use'->>'web_search_requests')::numeric, 0) AS web_searches
	WHERE j.u ? 'input_tokens'
	UNION ALL
	-- Gemini: the prompt includes the cached part, not the tools' part;
	-- thoughts are counted beside the answer and cost the same
	SELECT 'Gemini', (j.g->>'promptTokenCount')::numeric + coalesce((j.g->>'toolUsePromptTokenCount')::numeric, 0)
			- coalesce((j.g->>'cachedContentTokenCount')::numeric, 0),
		coalesce((j.g->>'cachedContentTokenCount')::numeric, 0), 0, 0,
		(j.g->>'candidatesTokenCount')::numeric + coalesce((j.g->>'thoughtsTokenCount')::numeric, 0), 0
	WHERE j.g ? 'promptTokenCount'
	UNION ALL
	-- DeepSeek: says itself what its cache hit and missed
	SELECT 'DeepSeek', (j.u->>'prompt_cache_miss_tokens')::numeric, (j.u->>'prompt_cache_hit_tokens')::numeric, 0, 0,
		(j.u->>'completion_tokens')::numeric, 0
	WHERE j.u ? 'prompt_cache_hit_tokens'
	UNION ALL
	-- OpenAI and those who speak like it: the prompt includes the cached
	-- part. All that is not prompt is output, also where reasoning is not
	-- part of completion_tokens.
	SELECT 'OpenAI', (j.u->>'prompt_tokens')::numeric - c.cached, c.cached, 0, 0,
		(j.u->>'total_tokens')::numeric - (j.u->>'prompt_tokens')::numeric, 0
	FROM (SELECT coalesce(j.u->'prompt_tokens_details'->>'cached_tokens', j.u->>'cached_tokens', '0')::numeric AS cached) AS c
	WHERE j.u ? 'prompt_tokens' AND NOT j.u ? 'prompt_cache_hit_tokens'
) AS v
CROSS JOIN LATERAL (SELECT jsonb_strip_nulls(jsonb_build_object(
		'input_tokens', nullif(v.input, 0),
		'cache_read_tokens', nullif(v.cache_read, 0),
		'cache_write_5m_tokens', nullif(v.cache_write_5m, 0),
		'cache_write_1h_tokens', nullif(v.cache_write_1h, 0),
		'output_tokens', nullif(v.output, 0),
		'web_searches', nullif(v.web_searches, 0))) AS meters) AS m;

SELECT count(*) AS responses, count(DISTINCT service) AS models FROM demo.usage
\gset
\echo :responses API responses of :models models

-- The same sums once more, from the vendors' price list and the meters alone:
-- tokenbill has no part in it. demo/check.sql holds its figures against these.
CREATE FUNCTION demo.cost(account text, service text, meters jsonb) RETURNS numeric
LANGUAGE sql STABLE
RETURN (
	SELECT sum(u.value::numeric * CASE WHEN cost.account = 'acme-chat' AND cost.service = 'claude-sonnet-4-5' AND u.key = 'output_tokens'
			THEN 13.5 ELSE p.unit_price END / p.per)
	FROM jsonb_each_text(cost.meters) u JOIN demo.price p ON p.service = cost.service AND p.meter = u.key);

-- Things that happened on the way and must have happened just so
CREATE TABLE demo.seen (what text PRIMARY KEY, value text, expected text);
