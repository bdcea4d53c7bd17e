-- Presets and what a provider of one needs: addresses, parameters, secrets, opening balances
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(151);
SET LOCAL tokenbill.clock = '2026-03-05 12:00:00+00';

-- Those that are built in
SELECT set_eq('SELECT preset FROM tokenbill.provider_presets', '{manual,ledger,deepseek,openrouter,openrouter_key,moonshot_cn,moonshot_ai,siliconflow_cn,siliconflow_com,xai,novita,stability,elevenlabs,featherless,venice,deepinfra,poe,newapi,credit_grants,openai_sb,aiproxy,zhipu,aliyun,volcengine,fireworks,openai_costs,anthropic_costs}'::text[], 'the presets there are');
SELECT is_empty($$SELECT preset FROM tokenbill.provider_presets WHERE NOT builtin OR description = ''$$, 'built in, and described');
SELECT results_eq($$SELECT preset COLLATE "default", parameters FROM tokenbill.provider_presets WHERE parameters <> '{}' ORDER BY 1$$, $$VALUES ('fireworks', '{account}'::text[]), ('ledger', '{services}'), ('xai', '{team}')$$, 'parameters');
SELECT set_eq($$SELECT preset FROM tokenbill.provider_presets WHERE NOT needs_secret$$, '{manual,ledger}'::text[], 'all that are asked want a secret');
SELECT set_eq($$SELECT preset FROM tokenbill.provider_presets WHERE base_url IS NULL$$, '{manual,ledger,newapi,credit_grants}'::text[], 'and know where, but for those that are many');
SELECT is_empty($$SELECT preset FROM tokenbill.provider_presets WHERE base_url !~ '^https://[a-z.-]+(/api)?$'$$, 'over TLS');
SELECT is_empty($$SELECT preset FROM tokenbill.provider_presets, LATERAL jsonb_to_recordset(requests) r(path text, query jsonb, headers jsonb, body text) WHERE concat(path, body) LIKE '%{secret}%' OR (query::text LIKE '%{secret}%' AND preset <> 'openai_sb')$$, 'the secret is in no address, but where a vendor has it there');

-- The request of each, as the worker gets it
INSERT INTO tokenbill.secret VALUES ('shared', 1, 1, 'of no use', '', '', '', '', tokenbill.clock(), tokenbill.clock());
SELECT tokenbill.add_provider(p.preset, p.preset, secret_name => 'shared', base_url => CASE WHEN base_url IS NULL THEN 'https://gw.example.com/v' END,
	params => coalesce((SELECT jsonb_object_agg(n, 'my ' || n) FROM unnest(p.parameters) n), '{}'), opening_balance => CASE WHEN source = 'derived' THEN 9 END, opening_at => CASE WHEN source = 'derived' THEN timestamptz '2026-03-01 00:00+00' END)
FROM tokenbill.provider_presets p WHERE needs_secret \g /dev/null
SET LOCAL tokenbill.clock = '2026-03-05 12:00:10+00';
CREATE TEMP TABLE call AS SELECT * FROM tokenbill.claim_checks(100);
SELECT is(c.url || ' ' || c.headers || coalesce(' ' || c.auth, ''), wanted, target || ': its request') FROM call c JOIN (VALUES
	('deepseek', 'https://api.deepseek.com/user/balance {"Authorization": "Bearer {secret}"}'),
	('openrouter', 'https://openrouter.ai/api/v1/credits {"Authorization": "Bearer {secret}"}'),
	('openrouter_key', 'https://openrouter.ai/api/v1/key {"Authorization": "Bearer {secret}"}'),
	('moonshot_cn', 'https://api.moonshot.cn/v1/users/me/balance {"Authorization": "Bearer {secret}"}'),
	('moonshot_ai', 'https://api.moonshot.ai/v1/users/me/balance {"Authorization": "Bearer {secret}"}'),
	('siliconflow_cn', 'https://api.siliconflow.cn/v1/user/info {"Authorization": "Bearer {secret}"}'),
	('siliconflow_com', 'https://api.siliconflow.com/v1/user/info {"Authorization": "Bearer {secret}"}'),
	('xai', 'https://management-api.x.ai/v1/billing/teams/my%20team/prepaid/balance {"Authorization": "Bearer {secret}"}'),
	('novita', 'https://api.novita.ai/openapi/v1/billing/balance/detail {"Authorization": "Bearer {secret}"}'),
	('stability', 'https://api.stability.ai/v1/user/balance {"Authorization": "Bearer {secret}"}'),
	('elevenlabs', 'https://api.elevenlabs.io/v1/user/subscription {"xi-api-key": "{secret}"}'),
	('featherless', 'https://api.featherless.ai/credits/balance {"Authorization": "Bearer {secret}"}'),
	('venice', 'https://api.venice.ai/api/v1/billing/balance {"Authorization": "Bearer {secret}"}'),
	('deepinfra', 'https://api.deepinfra.com/payment/checklist?compute_owed=true {"Authorization": "Bearer {secret}"}'),
	('poe', 'https://api.poe.com/usage/current_balance {"Authorization": "Bearer {secret}"}'),
	('newapi', 'https://gw.example.com/v/v1/dashboard/billing/subscription {"Authorization": "Bearer {secret}"}'),
	('credit_grants', 'https://gw.example.com/v/dashboard/billing/credit_grants {"Authorization": "Bearer {secret}"}'),
	('openai_sb', 'https://api.openai-sb.com/sb-api/user/status?api_key={secret} {}'),
	('aiproxy', 'https://aiproxy.io/api/report/getUserOverview {"Api-Key": "{secret}"}'),
	('zhipu', 'https://open.bigmodel.cn/api/monitor/usage/quota/limit {"Authorization": "{secret}"}'),
	('aliyun', 'https://business.aliyuncs.com/ {"accept": "application/json", "x-acs-action": "QueryAccountBalance", "x-acs-version": "2017-12-14"} aliyun'),
	('volcengine', 'https://open.volcengineapi.com/?Action=QueryBalanceAcct&Version=2022-01-01 {} volcengine'),
	('fireworks', 'https://api.fireworks.ai/v1/accounts/my%20account/billing/summary?endTime=2026-03-05T12%3A00%3A10Z&startTime=2026-03-01T00%3A00%3A00Z {"Authorization": "Bearer {secret}"}'),
	('openai_costs', 'https://api.openai.com/v1/organization/costs?bucket_width=1d&limit=180&start_time=1772323200 {"Authorization": "Bearer {secret}"}'),
	('anthropic_costs', 'https://api.anthropic.com/v1/organizations/cost_report?bucket_width=1d&limit=31&starting_at=2026-03-01T00%3A00%3A00Z {"x-api-key": "{secret}", "anthropic-version": "2023-06-01"}')) v(target, wanted) USING (target) ORDER BY target COLLATE "C";
SELECT is_empty($$SELECT target FROM call WHERE secret IS DISTINCT FROM 'shared' OR method <> 'GET' OR body IS NOT NULL$$, 'with the name of the secret, not its value');
SELECT is(r.url, 'https://gw.example.com/v/v1/dashboard/billing/usage?end_date=2026-03-06&start_date=2025-11-26', 'newapi: its second request')
FROM call c, LATERAL tokenbill.record_check(c.target, c.lease, 200, '{}', '{"hard_limit_usd": 1}', NULL, NULL, 5) r WHERE c.target = 'newapi';

-- Where it is
SELECT is(base_url, wanted, 'base_url ' || given) FROM (VALUES ('https://h', 'https://h'), ('https://h.example.com/', 'https://h.example.com'), ('https://127.0.0.1:8080/a/b/', 'https://127.0.0.1:8080/a/b'), ('https://[::1]:1/x', 'https://[::1]:1/x'), ('https://h/%41~.-_', 'https://h/%41~.-_'), ('https://h:65535', 'https://h:65535')) v(given, wanted),
	LATERAL tokenbill.set_provider('newapi', base_url => given);
SELECT pg_temp.refused(format('SELECT tokenbill.set_provider(''newapi'', base_url => %L)', url), '22023', '{"argument": "base_url"}', 'base_url ' || url) FROM unnest(ARRAY['http://h.example.com', 'ftp://h', 'h.example.com', '//h', 'https://', 'https:///x', 'https://user:pw@h', 'https://user@h', 'https://h/?a=1', 'https://h/#a', 'https://h/a b',
	'https://h\@i', 'https://h:99999999', 'https://h:99999', 'https://h:65536/x', 'https://h:0', 'https://[::1]:00000', 'https://h/{secret}', 'https://h/ü', 'HTTPS://h', 'javascript:1', 'https://h..', 'https://-h', 'https://h:/', 'https://[h]/', 'https://h/"']) url;
SELECT pg_temp.refused(statement, '22023', detail, description) FROM (VALUES
	($$SELECT tokenbill.add_provider('n', 'newapi', secret_name => 'shared')$$, '{"argument": "base_url"}'::jsonb, 'a reseller is somewhere'),
	($$SELECT tokenbill.add_provider('n', 'deepseek')$$, '{"argument": "secret"}', 'no secret'),
	($$SELECT tokenbill.add_provider('n', 'ledger', 'https://h', opening_balance => 1, params => '{"services": ["a"]}')$$, '{"argument": "base_url"}', 'our own ledger is nowhere else'),
	($$SELECT tokenbill.add_provider('n', 'ledger', secret => 's', opening_balance => 1, params => '{"services": ["a"]}')$$, '{"argument": "secret"}', 'and needs no secret'),
	($$SELECT tokenbill.add_provider('n', 'ledger', params => '{"services": ["a"]}')$$, '{"argument": "opening_balance"}', 'but an opening balance'),
	($$SELECT tokenbill.add_provider('n', 'ledger', opening_balance => 1)$$, '{"argument": "params", "param": "services"}', 'and services'),
	($$SELECT tokenbill.add_provider('n', 'ledger', opening_balance => 1, params => '{"services": "a"}')$$, '{"argument": "params"}', 'a list of them'),
	($$SELECT tokenbill.add_provider('n', 'ledger', opening_balance => 1, params => '{"services": []}')$$, '{"argument": "params"}', 'not an empty one'),
	($$SELECT tokenbill.add_provider('n', 'ledger', opening_balance => 1, params => '{"services": [5]}')$$, '{"argument": "params"}', 'of texts'),
	($$SELECT tokenbill.add_provider('n', 'ledger', opening_balance => 1, params => '{"services": ["a"], "more": 1}')$$, '{"argument": "params"}', 'and nothing else'),
	($$SELECT tokenbill.add_provider('n', 'xai', secret_name => 'shared')$$, '{"argument": "params", "param": "team"}', 'a team'),
	($$SELECT tokenbill.add_provider('n', 'xai', secret_name => 'shared', params => '{"team": "a", "tem": "b"}')$$, '{"argument": "params", "known": ["team"]}', 'a mistyped parameter'),
	($$SELECT tokenbill.add_provider('n', 'xai', secret_name => 'shared', params => '{"team": ""}')$$, '{"argument": "params"}', 'an empty one'),
	($$SELECT tokenbill.add_provider('n', 'xai', secret_name => 'shared', params => '{"team": "{secret}"}')$$, '{"argument": "params"}', 'one with a variable'),
	($$SELECT tokenbill.add_provider('n', 'xai', secret_name => 'shared', params => '{"team": ["a"]}')$$, '{"argument": "params"}', 'a list'),
	($$SELECT tokenbill.add_provider('n', 'xai', secret_name => 'shared', params => '[]')$$, '{"argument": "params"}', 'no object'),
	($$SELECT tokenbill.add_provider('n', 'deepseek', secret_name => 'shared', params => '{"team": "a"}')$$, '{"argument": "params"}', 'a parameter that there is none of'),
	($$SELECT tokenbill.add_provider('n', 'openai_costs', secret_name => 'shared')$$, '{"argument": "opening_balance"}', 'a cost report wants an opening balance'),
	($$SELECT tokenbill.add_provider('n', 'openai_costs', secret_name => 'shared', opening_at => '2026-03-01 00:00+00')$$, '{"argument": "opening_at"}', 'not only its time'),
	($$SELECT tokenbill.add_provider('n', 'openai_costs', secret_name => 'shared', opening_balance => 1, opening_at => '2026-03-01 00:00:01+00')$$, '{"argument": "opening_at"}', 'at the beginning of a day'),
	($$SELECT tokenbill.add_provider('n', 'deepseek', secret_name => 'shared', opening_balance => 1)$$, '{"argument": "opening_balance"}', 'who is asked needs none'),
	($$SELECT tokenbill.add_provider('n', 'deepseek', secret => 's', secret_name => 'shared')$$, '{"argument": "secret_name"}', 'one secret is enough'),
	($$SELECT tokenbill.add_provider('n', 'deepseek', secret_name => 'shared', calls_per_minute => 0)$$, '{"argument": "calls_per_minute"}', 'no calls at all'),
	($$SELECT tokenbill.set_provider('openai_costs', opening_balance => 1)$$, '{"argument": "opening_at"}', 'a new opening balance has a time')) v(statement, detail, description);
SELECT pg_temp.refused(statement, sqlstate, detail, description) FROM (VALUES
	($$SELECT tokenbill.add_provider('n', 'openai_costs', secret_name => 'shared', opening_balance => 1, opening_at => '2026-03-06 00:00+00')$$, '22008', '{"argument": "opening_at"}'::jsonb, 'not tomorrow'),
	($$SELECT tokenbill.add_provider('n', 'openai_costs', secret_name => 'shared', opening_balance => 'NaN')$$, '22003', '{"argument": "opening_balance"}', 'NaN'),
	($$SELECT tokenbill.add_provider('n', 'deepseek', secret_name => 'none')$$, 'PT404', '{"argument": "secret_name", "secret": "none"}', 'a secret that nobody stored')) v(statement, sqlstate, detail, description);
SELECT is(opening_at, '2026-03-05 00:00:00+00', 'an opening balance is of this morning') FROM tokenbill.add_provider('n', 'openai_costs', secret_name => 'shared', opening_balance => 100);

-- Secrets of their own
SELECT is(secret, 'provider:s', 'a secret has the name of its provider') FROM tokenbill.add_provider('s', 'deepseek', secret => 'sk-not-to-be-seen');
SELECT results_eq($$SELECT name COLLATE "default" FROM tokenbill.secrets ORDER BY 1$$, $$VALUES ('provider:s'), ('shared')$$, 'it is stored');
SELECT is(position('not-to-be-seen' IN (SELECT string_agg(x::text, '') FROM tokenbill.provider x)), 0, 'and not in the row');
SELECT tokenbill.set_provider('s', secret_name => 'shared') \g /dev/null
SELECT results_eq($$SELECT name COLLATE "default" FROM tokenbill.secrets$$, $$VALUES ('shared')$$, 'with another it goes');
SELECT is(secret, 'provider:t', 'another one') FROM tokenbill.add_provider('t', 'deepseek', secret => 'sk-2');
SELECT tokenbill.drop_provider('t'), tokenbill.drop_provider('s') \g /dev/null
SELECT results_eq($$SELECT name COLLATE "default" FROM tokenbill.secrets$$, $$VALUES ('shared')$$, 'a provider''s own goes with it, a shared one stays');
SELECT tokenbill.add_provider('t', 'deepseek', secret => 'sk-2'), tokenbill.drop_secret('provider:t') \g /dev/null
SELECT is(provider, 't', 'one whose secret is gone can be dropped') FROM tokenbill.drop_provider('t');
SELECT is(secret, NULL, 'behind an address of one''s own it may have none') FROM tokenbill.add_provider('proxied', 'deepseek', base_url => 'https://proxy.example.com');
SELECT is(secret, NULL, 'nor one that is signed') FROM tokenbill.add_provider('signed', 'aliyun', base_url => 'https://proxy.example.com');
SET LOCAL tokenbill.clock = '2026-03-05 12:00:25+00';
SELECT results_eq($$SELECT target COLLATE "default", headers - 'Accept', secret, auth FROM tokenbill.claim_checks(100) WHERE target IN ('proxied', 'signed') ORDER BY 1$$,
	$$VALUES ('proxied', '{}'::jsonb, NULL::text, NULL::text), ('signed', (SELECT r.headers FROM tokenbill.preset_request r WHERE r.preset = 'aliyun'), NULL, NULL)$$, 'then it is asked without');
SELECT tokenbill.drop_provider('proxied'), tokenbill.drop_provider('signed') \g /dev/null

-- Settings: when it is asked again
CREATE FUNCTION pg_temp.when_of(provider text) RETURNS text LANGUAGE sql AS $$ SELECT next_at || coalesce(' ' || lease, '') FROM tokenbill.provider_check c WHERE c.provider = when_of.provider $$;
SELECT pg_temp.when_of('poe') AS before \gset
SELECT tokenbill.set_provider('poe', low_balance => 7, keep_history => '2 days', calls_per_minute => 5) \g /dev/null
SELECT is(pg_temp.when_of('poe'), :'before', 'what is low changes nothing about when it is asked');
SELECT tokenbill.set_provider('poe', enabled => false) \g /dev/null
SELECT is(pg_temp.when_of('poe'), NULL, 'a disabled one is not asked');
SELECT pg_temp.refused($$SELECT tokenbill.check_provider_now('poe')$$, 'PT409', '{"provider": "poe", "enabled": false}', 'not even now');
SELECT tokenbill.set_provider('poe', enabled => true) \g /dev/null
SELECT is(next_at BETWEEN tokenbill.clock() AND tokenbill.clock() + interval '10 s' AND lease IS NULL, true, 'enabled again: at once') FROM tokenbill.provider_check WHERE provider = 'poe';
SELECT is(tokenbill.check_provider_now('poe'), tokenbill.clock(), 'check_provider_now: now');
SELECT is(pg_temp.pick(c, 'next_at', 'under_way'), jsonb_build_object('next_at', tokenbill.clock(), 'under_way', false), 'it is due') FROM tokenbill.provider_checks c WHERE provider = 'poe';

-- One's own
SELECT is(to_jsonb(p), '{"preset": "mine", "source": "asked", "base_url": "https://h/api", "currency": "POINTS", "builtin": false, "description": "", "docs": null, "vendor": null}', 'add_preset') FROM tokenbill.add_preset('mine', 'https://h/api/', 'POINTS') p;
SELECT is(step, 1, 'add_preset_request') FROM tokenbill.add_preset_request('mine', '/a', '$.a');
SELECT is(step, 2, 'a second') FROM tokenbill.add_preset_request('mine', '/b', '$.b', contributes => 'subtract');
SELECT is(step, 9, 'in a place of its own') FROM tokenbill.add_preset_request('mine', '/c', '$.c', contributes => 'subtract', step => 9);
SELECT pg_temp.refused(statement, sqlstate, detail, description) FROM (VALUES
	($$SELECT tokenbill.add_preset('mine')$$, 'PT409', '{"preset": "mine"}'::jsonb, 'a name is taken once'), ($$SELECT tokenbill.add_preset('My preset')$$, '22023', '{"argument": "preset"}', 'letters, digits, underscores'),
	($$SELECT tokenbill.add_preset('x', 'http://h')$$, '22023', '{"argument": "base_url"}', 'over TLS'), ($$SELECT tokenbill.add_preset('x', source => 'ledger')$$, '22023', '{"argument": "source"}', 'there is one ledger'),
	($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', step => 2)$$, 'PT409', '{"argument": "step", "preset": "mine", "step": 2}', 'a place is taken once'),
	($$SELECT tokenbill.add_preset_request('deepseek', '/a', '$.a')$$, 'PT404', '{"argument": "preset"}', 'a built-in one is not added to'),
	($$SELECT tokenbill.add_preset_request('mine', 'a', '$.a')$$, '22023', '{"argument": "path"}', 'a path without a slash'), ($$SELECT tokenbill.add_preset_request('mine', '/a?b=1', '$.a')$$, '22023', '{"argument": "path"}', 'a path with a query'),
	($$SELECT tokenbill.add_preset_request('mine', '/a', '$.')$$, '22023', '{"argument": "amount"}', 'a path that does not end'), ($$SELECT tokenbill.add_preset_request('mine', '/a', 'a.b')$$, '22023', '{"argument": "amount"}', 'nor begin'),
	($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', failure => '$.error')$$, '22023', '{"argument": "failure"}', 'a failure is a predicate'), ($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', require => '$ ? (@.code == 0)')$$, '22023', '{"argument": "require"}', 'a filter is none'),
	($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', currency => '$[')$$, '22023', '{"argument": "currency"}', 'a currency that is nowhere'), ($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', contributes => 'cost')$$, '22023', '{"argument": "contributes"}', 'a balance has no costs'),
	($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', body => '{"key": "{secret}"}')$$, '22023', '{"argument": "body"}', 'no secret in a body'), ($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', body => '')$$, '22023', '{"argument": "body"}', 'an empty body'),
	($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', headers => '{"a b": "c"}')$$, '22023', '{"argument": "headers"}', 'a header with a blank'), ($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', headers => '{"a": "b\r\nc: d"}')$$, '22023', '{"argument": "headers"}', 'two headers in one'),
	($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', currencies => '{"a": "usd"}')$$, '22023', '{"argument": "currencies"}', 'no currency'), ($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', auth => 'volcengine:x')$$, '22023', '{"argument": "auth"}', 'half a signature'),
	($$SELECT tokenbill.add_preset_request('mine', '/a', '$.a', thousands => '.')$$, '22023', '{"argument": "thousands"}', 'a point is no separator'),
	($$SELECT tokenbill.drop_preset('deepseek')$$, 'PT404', '{"preset": "deepseek"}', 'a built-in one stays')) v(statement, sqlstate, detail, description);
SELECT tokenbill.add_preset('bare'), tokenbill.add_provider('m', 'mine', secret_name => 'shared') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.add_provider('b', 'bare', 'https://h')$$, '22023', '{"argument": "preset"}', 'a preset without a request');
SELECT is(currency, 'POINTS', 'a provider has its currency') FROM tokenbill.provider_balances WHERE provider = 'm';
SELECT pg_temp.refused($$SELECT tokenbill.drop_preset('mine')$$, 'PT409', '{"preset": "mine", "provider": "m"}', 'one in use is not dropped');
SELECT tokenbill.drop_provider('m') \g /dev/null
SELECT is(preset, 'mine', 'drop_preset') FROM tokenbill.drop_preset('mine');
SELECT is_empty($$SELECT step FROM tokenbill.preset_request WHERE preset = 'mine'$$, 'with its requests');
SELECT tokenbill.add_preset('stability', 'https://new.example.com'), tokenbill.add_preset_request('stability', '/v2', '$.credits'), tokenbill.check_provider_now('stability') FROM tokenbill.release_checks(false) \g /dev/null
SELECT is(url, 'https://new.example.com/v2', 'one''s own goes before a built-in one of its name') FROM tokenbill.claim_checks(100) WHERE target = 'stability';
SELECT results_eq($$SELECT base_url, builtin FROM tokenbill.provider_presets WHERE preset = 'stability'$$, $$VALUES ('https://new.example.com', false)$$, 'and is the one that is shown');
SELECT is(preset, 'stability', 'dropped') FROM tokenbill.drop_preset('stability');
SELECT results_eq($$SELECT base_url, builtin FROM tokenbill.provider_presets WHERE preset = 'stability'$$, $$VALUES ('https://api.stability.ai', true)$$, 'the built-in one is back');

-- Not for tenants
CREATE ROLE ps_tenant LOGIN IN ROLE tokenbill_admin;
SELECT tokenbill.create_account('mine'), tokenbill.map_tenant('ps_tenant', 'mine') \g /dev/null
SELECT is(pg_temp.rows_as(query, 'ps_tenant'), '[]', query) FROM (VALUES ('SELECT * FROM tokenbill.provider_presets'), ('SELECT * FROM tokenbill.provider_checks')) v(query);
SELECT pg_temp.refused(statement, '42501', '{}', statement, 'ps_tenant') FROM (VALUES ($$SELECT tokenbill.add_preset('x')$$), ($$SELECT tokenbill.add_preset_request('bare', '/', '$.a')$$), ($$SELECT tokenbill.drop_preset('bare')$$), ($$SELECT tokenbill.check_provider_now('poe')$$)) v(statement);

SELECT * FROM finish();
ROLLBACK;
