/*
 * The presets that come with the extension, written as anybody would write one.
 * What is special to each is a fact about the vendor, not a choice.
 */
INSERT INTO tokenbill.provider_preset (preset, source, currency, description) VALUES
	('manual', 'manual', 'USD', 'Somebody reports the balance with record_provider_balance()'),
	('ledger', 'ledger', 'USD', 'An opening balance less the cost of services in our own ledger');

/* a wallet a currency */
SELECT FROM tokenbill.add_preset('deepseek', 'https://api.deepseek.com', 'CNY', description => 'DeepSeek: a wallet a currency',
	docs => 'https://api-docs.deepseek.com/api/get-user-balance');
SELECT FROM tokenbill.add_preset_request('deepseek', '/user/balance', '$.total_balance', rows => '$.balance_infos[*]', currency => '$.currency',
	failure => 'exists($.error) || exists($.code)', failure_text => '$.error.message');

SELECT FROM tokenbill.add_preset('openrouter', 'https://openrouter.ai/api', 'USD', description => 'OpenRouter: credits bought less credits used; wants a management key',
	docs => 'https://openrouter.ai/docs/api-reference/credits/get-credits');
SELECT FROM tokenbill.add_preset_request('openrouter', '/v1/credits', '$.total_credits', subtrahend => '$.total_usage', rows => '$.data',
	failure => 'exists($.error)', failure_text => '$.error.message');

/* a limit of null is none */
SELECT FROM tokenbill.add_preset('openrouter_key', 'https://openrouter.ai/api', 'USD', description => 'OpenRouter: what is left of a key''s own limit',
	docs => 'https://openrouter.ai/docs/api-reference/api-keys/get-current-key');
SELECT FROM tokenbill.add_preset_request('openrouter_key', '/v1/key', '$.limit_remaining', rows => '$.data', unlimited => '$.data.limit == null',
	failure => 'exists($.error)', failure_text => '$.error.message');

/* the currency is that of the host; a failure has zeros beside its code */
SELECT FROM tokenbill.add_preset('moonshot_cn', 'https://api.moonshot.cn', 'CNY', description => 'Moonshot, Kimi: the Chinese platform',
	docs => 'https://platform.moonshot.cn/docs/api/balance');
SELECT FROM tokenbill.add_preset_request('moonshot_cn', '/v1/users/me/balance', '$.available_balance', rows => '$.data',
	require => '$.code == 0 && $.status == true', failure_text => '$.scode');
SELECT FROM tokenbill.add_preset('moonshot_ai', 'https://api.moonshot.ai', 'USD', description => 'Moonshot, Kimi: the international platform',
	docs => 'https://platform.moonshot.ai/docs/api/balance');
SELECT FROM tokenbill.add_preset_request('moonshot_ai', '/v1/users/me/balance', '$.available_balance', rows => '$.data',
	require => '$.code == 0 && $.status == true', failure_text => '$.scode');

/* the total has the gifts in it; here, too, the host is the currency */
SELECT FROM tokenbill.add_preset('siliconflow_cn', 'https://api.siliconflow.cn', 'CNY', description => 'SiliconFlow: the Chinese platform, gifts included',
	docs => 'https://docs.siliconflow.cn/cn/api-reference/userinfo/get-user-info');
SELECT FROM tokenbill.add_preset_request('siliconflow_cn', '/v1/user/info', '$.totalBalance', rows => '$.data',
	require => '$.code == 20000', failure_text => '$.message');
SELECT FROM tokenbill.add_preset('siliconflow_com', 'https://api.siliconflow.com', 'USD', description => 'SiliconFlow: the international platform, gifts included',
	docs => 'https://docs.siliconflow.com/en/api-reference/userinfo/get-user-info');
SELECT FROM tokenbill.add_preset_request('siliconflow_com', '/v1/user/info', '$.totalBalance', rows => '$.data',
	require => '$.code == 20000', failure_text => '$.message');

/* cents, and what is left is negative */
SELECT FROM tokenbill.add_preset('xai', 'https://management-api.x.ai', 'USD', description => 'xAI: prepaid credits of a team; wants a management key',
	docs => 'https://docs.x.ai/docs/management-api/billing');
SELECT FROM tokenbill.add_preset_request('xai', '/v1/billing/teams/{team}/prepaid/balance', '$.total.val', scale => 0.01, sign => -1,
	failure => 'exists($.error)', failure_text => '$.error');

/* ten thousandths of a dollar */
SELECT FROM tokenbill.add_preset('novita', 'https://api.novita.ai', 'USD', description => 'Novita: available balance',
	docs => 'https://novita.ai/docs/api-reference/basic-get-user-balance');
SELECT FROM tokenbill.add_preset_request('novita', '/openapi/v1/billing/balance/detail', '$.availableBalance', scale => 0.0001,
	failure => 'exists($.code) || exists($.error)', failure_text => '$.message');

SELECT FROM tokenbill.add_preset('stability', 'https://api.stability.ai', 'CREDITS', description => 'Stability AI: credits',
	docs => 'https://platform.stability.ai/docs/api-reference');
SELECT FROM tokenbill.add_preset_request('stability', '/v1/user/balance', '$.credits', failure => 'exists($.errors)', failure_text => '$.errors[0]');

SELECT FROM tokenbill.add_preset('elevenlabs', 'https://api.elevenlabs.io', 'CHARACTERS', description => 'ElevenLabs: characters left in the period',
	docs => 'https://elevenlabs.io/docs/api-reference/user/subscription/get');
SELECT FROM tokenbill.add_preset_request('elevenlabs', '/v1/user/subscription', '$.character_limit', subtrahend => '$.character_count',
	headers => '{"xi-api-key": "{secret}"}', failure => 'exists($.detail)', failure_text => '$.detail.message');

/* billionths of a dollar; what is reserved for running calls cannot be spent */
SELECT FROM tokenbill.add_preset('featherless', 'https://api.featherless.ai', 'USD', description => 'Featherless: credits that are not reserved',
	docs => 'https://featherless.ai/docs');
SELECT FROM tokenbill.add_preset_request('featherless', '/credits/balance', '$.available_nano_usd', scale => 0.000000001, currency => '$.currency',
	failure => 'exists($.error)', failure_text => '$.error.message');

/* two units, of which one is no money; null for one that the account does not have */
SELECT FROM tokenbill.add_preset('venice', 'https://api.venice.ai/api', 'USD', description => 'Venice: dollars, and DIEM, which is no money',
	docs => 'https://docs.venice.ai/api-reference/endpoint/billing/balance');
SELECT FROM tokenbill.add_preset_request('venice', '/v1/billing/balance', '$.value', rows => '$.balances.keyvalue() ? (@.value != null)', currency => '$.key',
	failure => 'exists($.error)', failure_text => '$.error');

/* negative is what is left, and what has not been invoiced is not taken off yet */
SELECT FROM tokenbill.add_preset('deepinfra', 'https://api.deepinfra.com', 'USD', description => 'DeepInfra: prepaid funds less what has not been invoiced yet',
	docs => 'https://deepinfra.com/docs');
SELECT FROM tokenbill.add_preset_request('deepinfra', '/payment/checklist', '$.stripe_balance', addend => '$.recent', sign => -1,
	query => '{"compute_owed": "true"}', require => 'exists($.recent)', failure => 'exists($.error)', failure_text => '$.error');

SELECT FROM tokenbill.add_preset('poe', 'https://api.poe.com', 'POINTS', description => 'Poe: points', docs => 'https://creator.poe.com/docs');
SELECT FROM tokenbill.add_preset_request('poe', '/usage/current_balance', '$.current_point_balance', failure => 'exists($.error)', failure_text => '$.error.message');

/*
 * The limit is what has been used and what is left; usage is in cents.  A hundred
 * million stands for no limit.  These servers look at no dates; those that do
 * count a hundred days at most.
 */
SELECT FROM tokenbill.add_preset('newapi', NULL, 'USD', description => 'A server of new-api or one-api: the limit of a token less what it has used',
	docs => 'https://github.com/QuantumNous/new-api');
SELECT FROM tokenbill.add_preset_request('newapi', '/v1/dashboard/billing/subscription', '$.hard_limit_usd', unlimited => '$.hard_limit_usd == 100000000',
	failure => 'exists($.error)', failure_text => '$.error.message');
SELECT FROM tokenbill.add_preset_request('newapi', '/v1/dashboard/billing/usage', '$.total_usage', scale => 0.01, contributes => 'subtract',
	query => '{"start_date": "{today-99}", "end_date": "{today+1}"}', failure => 'exists($.error)', failure_text => '$.error.message');

SELECT FROM tokenbill.add_preset('credit_grants', NULL, 'USD',
	description => 'A reseller that answers as OpenAI''s old credit grants did: API2GPT, AIGC2D, CloseAI');
SELECT FROM tokenbill.add_preset_request('credit_grants', '/dashboard/billing/credit_grants',
	'$.keyvalue() ? (@.key == "total_available" || @.key == "total_remaining").value', failure => 'exists($.error)', failure_text => '$.error.message');

SELECT FROM tokenbill.add_preset('openai_sb', 'https://api.openai-sb.com', 'CREDITS', description => 'OpenAI-SB: credits; the key goes into the query');
SELECT FROM tokenbill.add_preset_request('openai_sb', '/sb-api/user/status', '$.credit', rows => '$.data', headers => '{}',
	query => '{"api_key": "{secret}"}', failure => '$.data == null', failure_text => '$.msg');

SELECT FROM tokenbill.add_preset('aiproxy', 'https://aiproxy.io', 'POINTS', description => 'AIProxy: points');
SELECT FROM tokenbill.add_preset_request('aiproxy', '/api/report/getUserOverview', '$.totalPoints', rows => '$.data', headers => '{"Api-Key": "{secret}"}',
	require => '$.success == true', failure => '$.error_code != 0', failure_text => '$.message');

/* what is told is the percentage used of a window, which its type, unit and number say; the key goes without Bearer */
SELECT FROM tokenbill.add_preset('zhipu', 'https://open.bigmodel.cn', 'PERCENT', description => 'Zhipu, Z.ai: percents left of each window of a coding plan');
SELECT FROM tokenbill.add_preset_request('zhipu', '/api/monitor/usage/quota/limit', '$.percentage', rows => '$.data.limits[*]', sign => -1, plus => 100,
	headers => '{"Authorization": "{secret}"}', require => '$.success == true && $.code == 200', failure_text => '$.msg',
	currency => '$.keyvalue() ? (@.key == "type" || @.key == "unit" || @.key == "number").value',
	currencies => '{"TOKENS_LIMIT_3_5": "PERCENT_5H", "TOKENS_LIMIT_6_1": "PERCENT_WEEK", "TIME_LIMIT_5_1": "PERCENT_MONTH"}');

/* large amounts come with commas */
SELECT FROM tokenbill.add_preset('aliyun', 'https://business.aliyuncs.com', 'CNY', description => 'Alibaba Cloud: the account that Model Studio is paid from',
	docs => 'https://help.aliyun.com/document_detail/87997.html');
SELECT FROM tokenbill.add_preset_request('aliyun', '/', '$.AvailableAmount', rows => '$.Data', currency => '$.Currency', auth => 'aliyun',
	headers => '{"x-acs-action": "QueryAccountBalance", "x-acs-version": "2017-12-14", "accept": "application/json"}', require => '$.Success == true && $.Code == "200"', failure_text => '$.Message',
	thousands => ',');

SELECT FROM tokenbill.add_preset('volcengine', 'https://open.volcengineapi.com', 'CNY', description => 'Volcengine: the account that Ark is paid from',
	docs => 'https://www.volcengine.com/docs/6269/1223903');
SELECT FROM tokenbill.add_preset_request('volcengine', '/', '$.AvailableBalance', rows => '$.Result', headers => '{}', auth => 'volcengine',
	query => '{"Action": "QueryBalanceAcct", "Version": "2022-01-01"}',
	failure => 'exists($.ResponseMetadata.Error)', failure_text => '$.ResponseMetadata.Error.Message');

/* google.type.Money: whole units as text, and billionths */
SELECT FROM tokenbill.add_preset('fireworks', 'https://api.fireworks.ai', 'USD', 'derived', 'Fireworks: an opening balance less the billing summary since',
	'https://docs.fireworks.ai/api-reference');
SELECT FROM tokenbill.add_preset_request('fireworks', '/v1/accounts/{account}/billing/summary', '$.totalCost.units', rows => '$.lineItems[*]',
	addend => '$.totalCost.nanos', addend_scale => 0.000000001, currency => '$.totalCost.currencyCode', contributes => 'cost',
	query => '{"startTime": "{start_rfc3339}", "endTime": "{now_rfc3339}"}', require => '$.lineItems.type() == "array"',
	failure => 'exists($.error) || exists($.code)', failure_text => '$.message');

/* dollars here, and a day without costs is a bucket without results: a page without buckets is none */
SELECT FROM tokenbill.add_preset('openai_costs', 'https://api.openai.com', 'USD', 'derived',
	'OpenAI: an opening balance less the organization''s costs since; wants an admin key', 'https://platform.openai.com/docs/api-reference/usage/costs');
SELECT FROM tokenbill.add_preset_request('openai_costs', '/v1/organization/costs', '$.amount.value', rows => '$.data[*].results[*]', currency => '$.amount.currency',
	contributes => 'cost', query => '{"start_time": "{start_unix}", "bucket_width": "1d", "limit": "180", "page": "{page}"}',
	require => 'exists($.data[0]) && exists($.has_more)', failure => 'exists($.error)', failure_text => '$.error.message',
	more => '$.has_more == true', next => '$.next_page');

/* cents with fractions, as text */
SELECT FROM tokenbill.add_preset('anthropic_costs', 'https://api.anthropic.com', 'USD', 'derived',
	'Anthropic: an opening balance less the cost report since; wants an admin key', 'https://docs.anthropic.com/en/api/usage-cost-api');
SELECT FROM tokenbill.add_preset_request('anthropic_costs', '/v1/organizations/cost_report', '$.amount', rows => '$.data[*].results[*]', currency => '$.currency',
	scale => 0.01, contributes => 'cost', headers => '{"x-api-key": "{secret}", "anthropic-version": "2023-06-01"}',
	query => '{"starting_at": "{start_rfc3339}", "bucket_width": "1d", "limit": "31", "page": "{page}"}',
	require => 'exists($.data[0]) && exists($.has_more)', failure => 'exists($.error)', failure_text => '$.error.message',
	more => '$.has_more == true', next => '$.next_page');

UPDATE tokenbill.provider_preset p SET vendor = v.vendor
FROM (VALUES ('deepseek', 'deepseek'), ('openrouter', 'openrouter'), ('openrouter_key', 'openrouter'), ('moonshot_cn', 'moonshot'),
	('moonshot_ai', 'moonshot'), ('siliconflow_cn', 'siliconflow'), ('siliconflow_com', 'siliconflow'), ('zhipu', 'zhipu'),
	('aliyun', 'aliyun'), ('openai_costs', 'openai'), ('anthropic_costs', 'anthropic')) v (preset, vendor)
WHERE p.preset OPERATOR(pg_catalog.=) v.preset;
UPDATE tokenbill.provider_preset SET builtin = true;
UPDATE tokenbill.preset_request SET builtin = true;
