-- Rate limits: requests and tokens in a window, calls in flight
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(56);
SET LOCAL tokenbill.clock = '2026-03-01 12:00:00+00';
SELECT tokenbill.create_account(a, credit_limit => 1000000) FROM unnest('{rq,tk,fl,al,sv}'::text[]) a \g /dev/null
SELECT tokenbill.set_price('llm', 'input_tokens', 1, 1000000), tokenbill.set_price('llm', 'output_tokens', 2, 1000000), tokenbill.set_price('llm', 'images', 0.01), tokenbill.set_price('flat', 'tokens', 0.001) \g /dev/null
CREATE FUNCTION pg_temp.used(a text, n text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT pg_temp.pick(v, 'used', 'held', 'remaining') FROM tokenbill.rate_limits v WHERE account = a AND name = n $$;

-- Set and shown
SELECT tokenbill.set_rate_limit('rq', 'requests', 3, 'minute') \g /dev/null
SELECT is(to_jsonb(v) - '{created_at,alerted_at}'::text[], '{"account": "rq", "name": "requests:minute", "what": "requests", "amount": 3, "used": 0, "held": 0, "remaining": 3, "every": "minute", "timezone": "UTC",
	"service": null, "tag": null, "action": "refuse", "starts_at": "2026-03-01T12:00:00+00:00", "resets_at": "2026-03-01T12:01:00+00:00"}', 'rate_limits shows it')
FROM tokenbill.rate_limits v WHERE account = 'rq';
SELECT is_empty($$SELECT * FROM tokenbill.spend_limits WHERE account = 'rq'$$, 'and spend_limits does not');
SELECT pg_temp.refused(s, code, d::jsonb, s) FROM (VALUES
	($$SELECT tokenbill.set_rate_limit('rq', NULL, 3, 'minute')$$, '22004', '{"argument": "what"}'),
	($$SELECT tokenbill.set_rate_limit('rq', 'spend', 3, 'minute')$$, '22023', '{"argument": "what"}'),
	($$SELECT tokenbill.set_rate_limit('rq', 'tokens', 3)$$, '22004', '{"argument": "every"}'),
	($$SELECT tokenbill.set_rate_limit('rq', 'in_flight', 3, 'minute')$$, '22023', '{"argument": "every"}'),
	($$SELECT tokenbill.set_rate_limit('nobody', 'in_flight', 3)$$, 'PT404', '{"account": "nobody"}')) v(s, code, d);

-- Requests: what starts a call counts, whatever it costs
SELECT tokenbill.charge_amount('rq', 1, 'r1'), tokenbill.hold('rq', 1, 'r2'), tokenbill.charge('rq', 'llm', '{"input_tokens": 0}', 'r3') \g /dev/null
SELECT is(pg_temp.used('rq', 'requests:minute'), '{"used": 3, "held": 0, "remaining": 0}', 'two charges and a hold');
SELECT is(detail, '{"account": "rq", "name": "requests:minute", "what": "requests", "scope": "account", "service": null, "tag": null, "every": "minute", "limit": 3, "spent": 3, "held": 0,
	"required": 1, "resets_at": "2026-03-01T12:01:00+00:00"}', 'the fourth is refused') FROM pg_temp.error_of($$SELECT tokenbill.charge_amount('rq', 0.01, 'r4')$$);
SELECT pg_temp.refused(s, 'PT429', '{"what": "requests", "limit": 3}', s) FROM (VALUES ($$SELECT tokenbill.hold('rq', 1, 'r5')$$), ($$SELECT tokenbill.charge_tokens('rq', 'flat', 1, 'r6')$$)) v(s);
SELECT is(kind, 'capture', 'a capture is part of a call that was let in') FROM tokenbill.capture('rq', 'r2');
SELECT is(replayed, true, 'and a replay is none') FROM tokenbill.charge_amount('rq', 1, 'r1');
SELECT is(kind, 'refund', 'a refund is none, and gives no request back') FROM tokenbill.refund('rq', 'r1', 'r7');
SELECT is(pg_temp.used('rq', 'requests:minute'), '{"used": 3, "held": 0, "remaining": 0}', 'still three');
SELECT is(row(amount)::text, '(-1)', 'what was delivered is counted') FROM tokenbill.charge_amount('rq', 1, 'r8', on_insufficient => 'debt');
SELECT is(pg_temp.used('rq', 'requests:minute'), '{"used": 4, "held": 0, "remaining": 0}', 'four');
SELECT set_config('tokenbill.clock', '2026-03-01 12:01:00+00', true) \g /dev/null
SELECT is(array_agg(coalesce(sqlstate, 'ok') ORDER BY item), '{ok,ok,ok,PT429,ok}', 'the next minute has three again, in a batch')
FROM tokenbill.charge_batch('[{"account": "rq", "amount": 1, "idempotency_key": "b1"}, {"account": "rq", "amount": 1, "idempotency_key": "b2"}, {"account": "rq", "amount": 1, "idempotency_key": "b3"},
	{"account": "rq", "amount": 1, "idempotency_key": "b4"}, {"account": "rq", "amount": 1, "idempotency_key": "b2"}]');

-- Tokens: all meters of the usage that are tokens, at what the real usage says
SELECT tokenbill.set_rate_limit('tk', 'tokens', 1000, 'hour'), tokenbill.set_rate_limit('tk', 'tokens', 1500, '90 minutes') \g /dev/null
SELECT tokenbill.charge('tk', 'llm', '{"input_tokens": 300, "output_tokens": 200, "images": 7}', 't1') \g /dev/null
SELECT is(pg_temp.used('tk', 'tokens:hour'), '{"used": 500, "held": 0, "remaining": 500}', 'input and output, no images');
SELECT pg_temp.refused($$SELECT tokenbill.charge_tokens('tk', 'flat', 501, 't2')$$, 'PT429', '{"what": "tokens", "limit": 1000, "spent": 500, "required": 501}', 'one too many');
SELECT is(kind, 'charge', 'money without usage has no tokens') FROM tokenbill.charge_amount('tk', 5, 't3');
SELECT tokenbill.hold('tk', NULL, 'h1', service => 'llm', usage => '{"input_tokens": 100, "output_tokens": 300}') \g /dev/null
SELECT is(pg_temp.used('tk', n), e::jsonb, n || ': an estimate is reserved') FROM (VALUES ('tokens:hour', '{"used": 500, "held": 400, "remaining": 100}'), ('tokens:90 minutes', '{"used": 500, "held": 400, "remaining": 600}')) v(n, e);
SELECT pg_temp.refused($$SELECT tokenbill.hold('tk', NULL, 'h2', service => 'llm', usage => '{"output_tokens": 101}')$$, 'PT429', '{"spent": 500, "held": 400, "required": 101}', 'for nobody else');
SELECT tokenbill.set_account_policy('tk', overflow => 'debt'), tokenbill.capture('tk', 'h1', usage => '{"output_tokens": 250}', final => false, idempotency_key => 'p1') \g /dev/null
SELECT is(pg_temp.used('tk', 'tokens:hour'), '{"used": 750, "held": 150, "remaining": 100}', 'a part of it is used');
SELECT is(tokens, 150::numeric, 'as the hold says') FROM tokenbill.hold WHERE account = 'tk' AND hold_key = 'h1';
SELECT tokenbill.capture('tk', 'h1', usage => '{"output_tokens": 400}') \g /dev/null
SELECT is(pg_temp.used('tk', 'tokens:hour'), '{"used": 1150, "held": 0, "remaining": 0}', 'more than was estimated is counted, not refused');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('tk')$$, 'sound');
SELECT set_config('tokenbill.clock', '2026-03-01 13:00:00+00', true) \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.charge_tokens('tk', 'flat', 351, 't4')$$, 'PT429', '{"name": "tokens:90 minutes", "spent": 1150, "resets_at": "2026-03-01T13:31:00+00:00"}', 'the hour is new, the ninety minutes are not');
SELECT is(kind, 'charge', 'as much as fits') FROM tokenbill.charge_tokens('tk', 'flat', 350, 't4');
SELECT set_config('tokenbill.clock', '2026-03-01 13:31:00+00', true) \g /dev/null
SELECT is(pg_temp.used('tk', 'tokens:90 minutes'), '{"used": 350, "held": 0, "remaining": 1150}', 'ninety minutes later all of it has left but the last');
SELECT is(counted, 350::numeric, 'set anew, it counts the same') FROM tokenbill.set_rate_limit('tk', 'tokens', 2000, '90 minutes');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('tk')$$, 'sound');

-- Tokens of a provider's own usage object, and of meters that are priced as others
SELECT tokenbill.create_account('op', credit_limit => 100), tokenbill.set_rate_limit('op', 'tokens', 1000, 'hour'), tokenbill.set_price('chat', 'input_tokens', 1, 1000000), tokenbill.set_price('chat', 'output_tokens', 2, 1000000) \g /dev/null
SELECT tokenbill.charge('op', 'chat', '{"prompt_tokens": 300, "completion_tokens": 200, "total_tokens": 500, "prompt_tokens_details": {"cached_tokens": 100}, "completion_tokens_details": {"reasoning_tokens": 50}}', 'o1') \g /dev/null
SELECT is(pg_temp.used('op', 'tokens:hour'), '{"used": 500, "held": 0, "remaining": 500}', 'OpenAI: each token once');
SELECT tokenbill.charge('op', 'chat', '{"input_tokens": 100, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 30, "output_tokens": 20}', 'o2') \g /dev/null
SELECT is(pg_temp.used('op', 'tokens:hour'), '{"used": 700, "held": 0, "remaining": 300}', 'Anthropic: with the cache');
SELECT tokenbill.hold('op', NULL, 'o3', service => 'chat', usage => '{"prompt_tokens": 100, "completion_tokens": 150, "total_tokens": 250}') \g /dev/null
SELECT is(pg_temp.used('op', 'tokens:hour'), '{"used": 700, "held": 250, "remaining": 50}', 'estimated');
SELECT tokenbill.capture('op', 'o3', usage => '{"prompt_tokens": 100, "completion_tokens": 120, "total_tokens": 220}') \g /dev/null
SELECT is(pg_temp.used('op', 'tokens:hour'), '{"used": 920, "held": 0, "remaining": 80}', 'captured');
SELECT is(counted, 920::numeric, 'and summed up anew') FROM tokenbill.set_rate_limit('op', 'tokens', 1000, 'hour');
SELECT is(limits_hit, '{tokens:hour}', 'a quote counts them, too') FROM tokenbill.quote('op', 'chat', '{"prompt_tokens": 60, "completion_tokens": 21, "total_tokens": 81}') LIMIT 1;

-- In flight: open holds, for as long as they are
SELECT tokenbill.set_rate_limit('fl', 'in_flight', 2), tokenbill.set_rate_limit('fl', 'in_flight', 1, service => 'llm') \g /dev/null
SELECT tokenbill.hold('fl', 1, 'h1', service => 'llm') \g /dev/null
SELECT is(detail, '{"account": "fl", "name": "in_flight:llm", "what": "in_flight", "scope": "service", "service": "llm", "tag": null, "every": null, "limit": 1, "spent": 0, "held": 1, "required": 1,
	"resets_at": null}', 'one call of the service') FROM pg_temp.error_of($$SELECT tokenbill.hold('fl', 1, 'h2', service => 'llm')$$);
SELECT tokenbill.hold('fl', 1, 'h3') \g /dev/null
SELECT is(pg_temp.used('fl', 'in_flight'), '{"used": 0, "held": 2, "remaining": 0}', 'two of all');
SELECT pg_temp.refused($$SELECT tokenbill.hold('fl', 1, 'h4')$$, 'PT429', '{"name": "in_flight", "held": 2}', 'no third');
SELECT is(kind, 'charge', 'a charge is over at once') FROM tokenbill.charge_amount('fl', 1, 'c1');
SELECT tokenbill.extend_hold('fl', 'h1', 2), tokenbill.capture('fl', 'h1', amount => 1, final => false, idempotency_key => 'p') \g /dev/null
SELECT is(pg_temp.used('fl', 'in_flight:llm'), '{"used": 0, "held": 1, "remaining": 0}', 'extended and captured in part, it goes on');
SELECT tokenbill.capture('fl', 'h1'), tokenbill.release('fl', 'h3') \g /dev/null
SELECT is(pg_temp.used('fl', n), e::jsonb, n || ': captured and released, they are over') FROM (VALUES ('in_flight', '{"used": 0, "held": 0, "remaining": 2}'), ('in_flight:llm', '{"used": 0, "held": 0, "remaining": 1}')) v(n, e);
SELECT tokenbill.hold('fl', 1, 'h5', ttl => '1 min'), tokenbill.hold('fl', 1, 'h6', ttl => '10 min') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.hold('fl', 1, 'h7')$$, 'PT429', '{"held": 2}', 'full');
SELECT set_config('tokenbill.clock', '2026-03-01 13:32:00+00', true) \g /dev/null
SELECT is(kind, 'hold', 'the place of one whose time ran out is taken') FROM tokenbill.hold('fl', 1, 'h7');
SELECT is(pg_temp.used('fl', 'in_flight'), '{"used": 0, "held": 2, "remaining": 0}', 'and counted');
SELECT is(held, 2::numeric, 'set late, it counts those that are open') FROM tokenbill.set_rate_limit('fl', 'in_flight', 5, name => 'late');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger('fl')$$, 'sound');

-- Alerts of what has no window: each time it is reached
SELECT tokenbill.set_rate_limit('al', 'in_flight', 2, action => 'alert') \g /dev/null
SELECT tokenbill.hold('al', 1, 'a1'), tokenbill.hold('al', 1, 'a2'), tokenbill.hold('al', 1, 'a3') \g /dev/null
SELECT is(alerted_at, '2026-03-01 13:32:00+00', 'reached') FROM tokenbill.rate_limits WHERE account = 'al';
SELECT set_config('tokenbill.clock', '2026-03-01 13:33:00+00', true) \g /dev/null
SELECT tokenbill.release('al', 'a1') \g /dev/null
SELECT is(alerted_at, '2026-03-01 13:32:00+00', 'still') FROM tokenbill.rate_limits WHERE account = 'al';
SELECT tokenbill.release('al', 'a2'), tokenbill.hold('al', 1, 'a4') \g /dev/null
SELECT is(alerted_at, '2026-03-01 13:33:00+00', 'again') FROM tokenbill.rate_limits WHERE account = 'al';

-- Of several that refuse, the one to wait for is told
SELECT tokenbill.set_rate_limit('sv', 'requests', 1, 'minute'), tokenbill.set_rate_limit('sv', 'requests', 1, '2 hours'), tokenbill.set_spend_limit('sv', 1, 'hour'), tokenbill.charge_amount('sv', 1, 's1') \g /dev/null
SELECT pg_temp.refused($$SELECT tokenbill.charge_amount('sv', 1, 's2')$$, 'PT429', '{"name": "requests:2 hours", "resets_at": "2026-03-01T15:33:00+00:00"}', 'the longest');
SELECT is_empty($$SELECT * FROM tokenbill.verify_ledger()$$, 'all is sound');
SELECT * FROM finish();
ROLLBACK;
