-- What answers that failed mean: one of each shape that vendors and gateways are known to send
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SET LOCAL tokenbill.clock = '2026-03-05 12:00:00+00';
CREATE TEMP TABLE sent (place int GENERATED ALWAYS AS IDENTITY, what text, vendor text, status int, headers jsonb, body text, class text, retryable boolean, wait interval, code text);
INSERT INTO sent (what, vendor, status, headers, body, class, retryable, wait, code) VALUES
	-- OpenAI: a 429 is a matter of money or of time
	('insufficient_quota', 'openai', 429, NULL, '{"error": {"message": "Your quota is used up.", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}', 'billing', false, NULL, 'insufficient_quota'),
	('the same with a wait', 'openai', 429, '{"retry-after": "1", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}', '{"error": {"message": "Your quota is used up.", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}', 'billing', false, NULL, 'insufficient_quota'),
	('only the type', 'openai', 429, NULL, '{"error": {"message": "You have no credits remaining.", "type": "insufficient_quota"}}', 'billing', false, NULL, 'insufficient_quota'),
	('only the words', 'openai', 429, NULL, '{"error": {"message": "You have no credits remaining. Add some."}}', 'billing', false, NULL, NULL),
	('credit_balance_exhausted', 'openai', 429, NULL, '{"error": {"message": "", "type": "insufficient_quota", "param": null, "code": "credit_balance_exhausted"}}', 'billing', false, NULL, 'credit_balance_exhausted'),
	('a limit of the organization', 'openai', 429, NULL, '{"error": {"message": "", "type": "insufficient_quota", "code": "organization_spend_limit_exceeded"}}', 'billing', false, NULL, 'organization_spend_limit_exceeded'),
	('a limit of the project', 'openai', 429, NULL, '{"error": {"message": "", "type": "insufficient_quota", "code": "project_spend_limit_exceeded"}}', 'billing', false, NULL, 'project_spend_limit_exceeded'),
	('a limit of use', 'openai', 429, NULL, '{"error": {"message": "", "type": "insufficient_quota", "code": "organization_usage_limit_exceeded"}}', 'billing', false, NULL, 'organization_usage_limit_exceeded'),
	('the hard limit, in a 400', 'openai', 400, NULL, '{"error": {"message": "The hard limit is reached", "type": "image_generation_user_error", "param": null, "code": "billing_hard_limit_reached"}}', 'billing', false, NULL, 'billing_hard_limit_reached'),
	('too many requests', 'openai', 429, '{"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "12ms"}', '{"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}', 'rate_limit', true, '6 min', 'rate_limit_exceeded'),
	('a wait in words', 'openai', 429, NULL, '{"error": {"message": "Rate limit reached for a model: Limit 3, Used 3. Please try again in 20.5s. Visit us.", "type": "tokens", "code": "rate_limit_exceeded"}}', 'rate_limit', true, '20.5 s', 'rate_limit_exceeded'),
	('headers before words', 'openai', 429, '{"retry-after-ms": "750"}', '{"error": {"message": "Please try again in 20s.", "code": "rate_limit_exceeded"}}', 'rate_limit', true, '0.75 s', 'rate_limit_exceeded'),
	('slow down', 'openai', 429, '{"retry-after": "4"}', '{"error": {"message": "", "type": "rate_limit_error", "code": "slow_down"}}', 'rate_limit', true, '4 s', 'slow_down'),
	('overloaded', 'openai', 503, NULL, '{"error": {"message": "", "type": "service_unavailable_error", "code": "server_is_overloaded"}}', 'transient', true, NULL, 'server_is_overloaded'),
	('a missing scope', 'openai', 403, NULL, '{"error": "insufficient permissions for this. Missing scopes: api.usage.read"}', 'permission', false, NULL, NULL),
	('the same as a 401', 'openai', 401, NULL, '{"error": {"message": "You have insufficient permissions for this. Missing scopes: api.usage.read"}}', 'permission', false, NULL, NULL),
	('for browsers only', 'openai', 403, NULL, '{"error": {"message": "A request to GET /dashboard must be made with a session key."}}', 'permission', false, NULL, NULL),
	('a wrong key', 'openai', 401, NULL, '{"error": {"message": "Incorrect API key provided: sk-ab*yz", "type": "invalid_request_error", "code": "invalid_api_key"}}', 'auth', false, NULL, 'invalid_api_key'),
	('a model there is not', 'openai', 404, NULL, '{"error": {"message": "The model does not exist", "type": "invalid_request_error", "code": "model_not_found"}}', 'invalid', false, NULL, 'model_not_found'),
	('another country', 'openai', 403, NULL, '{"error": {"code": "unsupported_country_region_territory", "message": "Not here", "type": "request_forbidden"}}', 'permission', false, NULL, 'unsupported_country_region_territory'),
	('it says not to', 'openai', 503, '{"x-should-retry": "false"}', '{"error": {"code": "server_is_overloaded"}}', 'transient', false, NULL, 'server_is_overloaded'),
	('it says to, but there is no money', 'openai', 429, '{"X-Should-Retry": "true"}', '{"error": {"code": "insufficient_quota"}}', 'billing', false, NULL, 'insufficient_quota'),
	-- Azure's words for it
	('26 seconds', 'openai', 429, NULL, '{"error": {"code": "429", "message": "Requests have exceeded the limit. Please retry after 26 seconds."}}', 'rate_limit', true, '26 s', '429'),
	-- Anthropic
	('billing_error', 'anthropic', 402, NULL, '{"type": "error", "error": {"type": "billing_error", "message": "Your payment details do not work."}}', 'billing', false, NULL, 'billing_error'),
	('credit too low, in a 400', 'anthropic', 400, NULL, '{"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to do this."}, "request_id": "req_1"}', 'billing', false, NULL, 'invalid_request_error'),
	('a limit of one''s own', 'anthropic', 400, NULL, '{"type": "error", "error": {"type": "invalid_request_error", "message": "You have reached your specified API usage limits. It goes on on 2026-04-01."}}', 'billing', false, NULL, 'invalid_request_error'),
	('a limit of the workspace', 'anthropic', 400, NULL, '{"type": "error", "error": {"type": "invalid_request_error", "message": "You have reached your specified workspace API usage limits."}}', 'billing', false, NULL, 'invalid_request_error'),
	('the limit of a tier, in a 429', 'anthropic', 429, NULL, '{"type": "error", "error": {"type": "rate_limit_error", "message": "The monthly threshold is crossed.", "details": {"error_code": "enforced_spend_limit_reached"}}}', 'billing', false, NULL, 'enforced_spend_limit_reached'),
	('really too many', 'anthropic', 429, '{"retry-after": "3"}', '{"type": "error", "error": {"type": "rate_limit_error", "message": "Too many tokens a minute"}}', 'rate_limit', true, '3 s', 'rate_limit_error'),
	('a time of renewal', 'anthropic', 429, '{"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-03-05T12:00:40Z"}', '{"type": "error", "error": {"type": "rate_limit_error", "message": "Too many"}}', 'rate_limit', true, '40 s', 'rate_limit_error'),
	('overloaded', 'anthropic', 529, NULL, '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', 'transient', true, NULL, 'overloaded_error'),
	('overloaded within a stream', 'anthropic', 200, NULL, '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', 'transient', true, NULL, 'overloaded_error'),
	('a wrong key', 'anthropic', 401, NULL, '{"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}', 'auth', false, NULL, 'authentication_error'),
	('no right', 'anthropic', 403, NULL, '{"type": "error", "error": {"type": "permission_error", "message": "No"}}', 'permission', false, NULL, 'permission_error'),
	('nothing there', 'anthropic', 404, NULL, '{"type": "error", "error": {"type": "not_found_error", "message": "Nothing is here."}, "request_id": "req_2"}', 'invalid', false, NULL, 'not_found_error'),
	('too large', 'anthropic', 413, NULL, '{"type": "error", "error": {"type": "request_too_large", "message": "Too large"}}', 'invalid', false, NULL, 'request_too_large'),
	('a conflict', 'anthropic', 409, NULL, '{"type": "error", "error": {"type": "conflict_error", "message": "Again"}}', 'transient', true, NULL, 'conflict_error'),
	('a time-out', 'anthropic', 504, NULL, '{"type": "error", "error": {"type": "timeout_error", "message": "Too slow"}}', 'transient', true, NULL, 'timeout_error'),
	('simply wrong', 'anthropic', 400, NULL, '{"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: is missing"}}', 'invalid', false, NULL, 'invalid_request_error'),
	-- DeepSeek: type and code lie
	('no balance', 'deepseek', 402, NULL, '{"error": {"message": "Insufficient Balance", "type": "unknown_error", "param": null, "code": "invalid_request_error"}}', 'billing', false, NULL, 'invalid_request_error'),
	('a wrong key', 'deepseek', 401, NULL, '{"error": {"message": "Authentication Fails", "type": "authentication_error", "code": "invalid_request_error"}}', 'auth', false, NULL, 'invalid_request_error'),
	('a session that is over, with 200', 'deepseek', 200, NULL, '{"code": 40003, "data": "x"}', 'auth', false, NULL, '40003'),
	('no session, with 200', 'deepseek', 200, NULL, '{"code": 40002, "msg": "Missing Token"}', 'auth', false, NULL, '40002'),
	('a word that it does not know', 'deepseek', 422, NULL, '{"error": {"message": "Wrong", "type": "invalid_request_error"}}', 'invalid', false, NULL, 'invalid_request_error'),
	('too many', 'deepseek', 429, NULL, '{"error": {"message": "Slower"}}', 'rate_limit', true, NULL, NULL),
	('down', 'deepseek', 503, NULL, '<html>', 'transient', true, NULL, NULL),
	-- OpenRouter: one 402 may be repeated
	('in flight', 'openrouter', 402, NULL, '{"error": {"type": "billing_error", "message": "in_flight_budget_exhausted"}}', 'billing', true, '5 s', 'billing_error'),
	('too heavy', 'openrouter', 402, NULL, '{"error": {"type": "billing_error", "message": "weight_exceeds_budget"}}', 'billing', false, NULL, 'billing_error'),
	('credits', 'openrouter', 402, NULL, '{"error": {"code": 402, "message": "Too few credits."}}', 'billing', false, NULL, '402'),
	('credits, with all that comes along', 'openrouter', 402, NULL, '{"error": {"message": "This wants more credits, or fewer max_tokens.", "code": 402, "metadata": {"limit_source": "openrouter_credits", "previous_errors": [{"code": 402, "message": "This wants more"}]}}, "user_id": "user_x"}', 'billing', false, NULL, '402'),
	('a guardrail', 'openrouter', 403, NULL, '{"error": {"code": 403, "message": "Request blocked", "metadata": {"patterns": ["ignore"]}}, "openrouter_metadata": {"attempt": 1}}', 'permission', false, NULL, '403'),
	('another kind of key', 'openrouter', 403, NULL, '{"error": {"code": 403, "message": "Only management keys can do this"}}', 'permission', false, NULL, '403'),
	('the limit of a key', 'openrouter', 403, NULL, '{"error": {"code": 403, "message": "Key limit exceeded (daily limit)."}}', 'billing', false, NULL, '403'),
	('no key', 'openrouter', 401, NULL, '{"error": {"code": 401, "message": "No authentication header"}}', 'auth', false, NULL, '401'),
	('too many', 'openrouter', 429, NULL, '{"error": {"code": 429, "message": "Too many"}}', 'rate_limit', true, NULL, '429'),
	('headers that are passed on', 'openrouter', 429, NULL, '{"error": {"code": 429, "message": "Too many", "metadata": {"headers": {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1772712010000"}}}}', 'rate_limit', true, '10 s', '429'),
	('502', 'openrouter', 502, NULL, '{"error": {"code": 502, "message": "Bad"}}', 'transient', true, NULL, '502'),
	('503', 'openrouter', 503, NULL, '{"error": {"code": 503, "message": "Bad"}}', 'transient', true, NULL, '503'),
	('524', 'openrouter', 524, NULL, '{"error": {"code": 524, "message": "Slow. Please try again later."}}', 'transient', true, NULL, '524'),
	('529', 'openrouter', 529, NULL, '{"error": {"code": 529, "message": "Bad"}}', 'transient', true, NULL, '529'),
	('408', 'openrouter', 408, NULL, '{"error": {"code": 408, "message": "Slow"}}', 'transient', true, NULL, '408'),
	('502 within a 200', 'openrouter', 200, NULL, '{"id": "gen-1", "error": {"code": 502, "message": "Bad"}}', 'transient', true, NULL, '502'),
	-- Moonshot
	('quota', 'moonshot', 429, NULL, '{"error": {"type": "exceeded_current_quota_error"}}', 'billing', false, NULL, 'exceeded_current_quota_error'),
	('too many', 'moonshot', 429, NULL, '{"error": {"type": "rate_limit_reached_error", "message": "please try again after 1 seconds"}}', 'rate_limit', true, '1 s', 'rate_limit_reached_error'),
	('overloaded', 'moonshot', 429, NULL, '{"error": {"type": "engine_overloaded_error", "message": "busy"}}', 'transient', true, NULL, 'engine_overloaded_error'),
	('a wrong key', 'moonshot', 401, NULL, '{"error": {"type": "invalid_authentication_error", "message": "Invalid"}}', 'auth', false, NULL, 'invalid_authentication_error'),
	('401 within a 200', 'moonshot', 200, NULL, '{"code": 401, "data": {"available_balance": 0}, "scode": "unauthorized", "status": false}', 'auth', false, NULL, '401'),
	-- Zhipu
	('1113', 'zhipu', 429, NULL, '{"error": {"code": "1113", "message": "余额不足"}}', 'billing', false, NULL, '1113'),
	('1302', 'zhipu', 429, NULL, '{"error": {"code": "1302", "message": "x"}}', 'rate_limit', true, NULL, '1302'),
	('1308', 'zhipu', 429, NULL, '{"error": {"code": "1308", "message": "x"}}', 'rate_limit', false, NULL, '1308'),
	('1002', 'zhipu', 401, NULL, '{"error": {"code": "1002", "message": "x"}}', 'auth', false, NULL, '1002'),
	('1214', 'zhipu', 400, NULL, '{"error": {"code": "1214", "message": "x"}}', 'invalid', false, NULL, '1214'),
	('1001 within a 200', 'zhipu', 200, NULL, '{"code": 1001, "msg": "x", "success": false}', 'auth', false, NULL, '1001'),
	('no success within a 200', 'zhipu', 200, NULL, '{"msg": "token is over", "success": false}', 'unknown', false, NULL, NULL),
	-- SiliconFlow
	('30001, in a 403', 'siliconflow', 403, NULL, '{"code": 30001, "message": "Your balance does not suffice", "data": null}', 'billing', false, NULL, '30001'),
	('another 403', 'siliconflow', 403, NULL, '{"code": 30003, "message": "Verify your name"}', 'permission', false, NULL, '30003'),
	('overloaded', 'siliconflow', 503, NULL, '{"code": 50505, "message": "busy"}', 'transient', true, NULL, '50505'),
	('another code within a 200', 'siliconflow', 200, NULL, '{"code": 20001, "message": "x", "status": false}', 'unknown', false, NULL, '20001'),
	-- Alibaba Cloud
	('Arrearage, in a 400', 'aliyun', 400, NULL, '{"code": "Arrearage", "message": "Access denied", "request_id": "x"}', 'billing', false, NULL, 'Arrearage'),
	('the same as OpenAI would', 'aliyun', 400, NULL, '{"error": {"code": "Arrearage", "type": "Arrearage", "message": "x"}}', 'billing', false, NULL, 'Arrearage'),
	('throttling', 'aliyun', 429, NULL, '{"code": "Throttling.RateQuota", "message": "x"}', 'rate_limit', true, NULL, 'Throttling.RateQuota'),
	('throttling, in a 400', 'aliyun', 400, NULL, '{"Code": "Throttling.User", "Message": "x"}', 'rate_limit', true, NULL, 'Throttling.User'),
	('a wrong key', 'aliyun', 401, NULL, '{"code": "InvalidApiKey", "message": "x"}', 'auth', false, NULL, 'InvalidApiKey'),
	('a signature, in a 400', 'aliyun', 400, NULL, '{"Code": "SignatureDoesNotMatch", "Message": "x", "RequestId": "A"}', 'auth', false, NULL, 'SignatureDoesNotMatch'),
	('no right', 'aliyun', 403, NULL, '{"Code": "Forbidden.RAM", "Message": "x"}', 'permission', false, NULL, 'Forbidden.RAM'),
	('not bought', 'aliyun', 403, NULL, '{"code": "AccessDenied.Unpurchased", "message": "x"}', 'billing', false, NULL, 'AccessDenied.Unpurchased'),
	('internal', 'aliyun', 500, NULL, '{"code": "InternalError.Algo", "message": "x"}', 'transient', true, NULL, 'InternalError.Algo'),
	('no success within a 200', 'aliyun', 200, NULL, '{"Success": false, "Code": "NotAuthorized", "Message": "x"}', 'permission', false, NULL, 'NotAuthorized'),
	('nor here', 'aliyun', 200, NULL, '{"Success": false, "Code": "Odd", "Message": "x"}', 'unknown', false, NULL, 'Odd'),
	-- Alipay: everything has status 200
	('an argument, unsigned', 'alipay', 200, NULL, '{"error_response": {"code": "40002", "msg": "Invalid Arguments", "sub_code": "isv.code-invalid", "sub_msg": "x"}}', 'invalid', false, NULL, 'isv.code-invalid'),
	('a signature', 'alipay', 200, NULL, '{"alipay_trade_pay_response": {"code": "40002", "msg": "Invalid Arguments", "sub_code": "isv.invalid-signature", "sub_msg": "x"}, "sign": "a="}', 'auth', false, NULL, 'isv.invalid-signature'),
	('a trade that is not there, or not yet', 'alipay', 200, NULL, '{"alipay_trade_query_response": {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.TRADE_NOT_EXIST", "sub_msg": "x"}}', 'unknown', true, '5 s', 'ACQ.TRADE_NOT_EXIST'),
	('a refund of none', 'alipay', 200, NULL, '{"alipay_trade_refund_response": {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.TRADE_NOT_EXIST"}}', 'invalid', false, NULL, 'ACQ.TRADE_NOT_EXIST'),
	('a shop that is none', 'alipay', 200, NULL, '{"alipay_trade_pay_response": {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.INVALID_STORE_ID", "sub_msg": "x", "buyer_pay_amount": "0.00"}}', 'invalid', false, NULL, 'ACQ.INVALID_STORE_ID'),
	('a customer without money', 'alipay', 200, NULL, '{"alipay_trade_pay_response": {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.BUYER_BALANCE_NOT_ENOUGH"}}', 'declined', false, NULL, 'ACQ.BUYER_BALANCE_NOT_ENOUGH'),
	('a payment that failed for no known reason', 'alipay', 200, NULL, '{"alipay_trade_pay_response": {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.ODD"}}', 'declined', false, NULL, 'ACQ.ODD'),
	('we without money', 'alipay', 200, NULL, '{"alipay_trade_refund_response": {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.SELLER_BALANCE_NOT_ENOUGH"}}', 'billing', false, NULL, 'ACQ.SELLER_BALANCE_NOT_ENOUGH'),
	('nobody knows whether it paid', 'alipay', 200, NULL, '{"alipay_trade_pay_response": {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.SYSTEM_ERROR"}}', 'transient', false, NULL, 'ACQ.SYSTEM_ERROR'),
	('asked again', 'alipay', 200, NULL, '{"alipay_trade_query_response": {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.SYSTEM_ERROR"}}', 'transient', true, NULL, 'ACQ.SYSTEM_ERROR'),
	('paying', 'alipay', 200, NULL, '{"alipay_trade_pay_response": {"code": "10003", "msg": "order success pay inprocess"}}', 'transient', false, NULL, '10003'),
	('not available', 'alipay', 200, NULL, '{"alipay_trade_query_response": {"code": "20000", "msg": "Service Currently Unavailable", "sub_code": "isp.unknow-error"}}', 'transient', true, NULL, 'isp.unknow-error'),
	('a token', 'alipay', 200, NULL, '{"alipay_trade_query_response": {"code": "20001", "msg": "x", "sub_code": "aop.invalid-auth-token"}}', 'auth', false, NULL, 'aop.invalid-auth-token'),
	('something is missing', 'alipay', 200, NULL, '{"alipay_trade_query_response": {"code": "40001", "msg": "x", "sub_code": "isv.missing-method"}}', 'invalid', false, NULL, 'isv.missing-method'),
	('called too often', 'alipay', 200, NULL, '{"alipay_trade_query_response": {"code": "40005", "msg": "x"}}', 'rate_limit', true, NULL, '40005'),
	('no right', 'alipay', 200, NULL, '{"alipay_trade_query_response": {"code": "40006", "msg": "x", "sub_code": "isv.insufficient-isv-permissions"}}', 'permission', false, NULL, 'isv.insufficient-isv-permissions'),
	('a refund that moved nothing', 'alipay', 200, NULL, '{"alipay_trade_refund_response": {"code": "10000", "msg": "Success", "fund_change": "N", "refund_fee": "0.01"}}', 'unknown', false, NULL, '10000'),
	('a refund that did', 'alipay', 200, NULL, '{"alipay_trade_refund_response": {"code": "10000", "msg": "Success", "fund_change": "Y"}}', 'unknown', false, NULL, '10000'),
	('what is encrypted', 'alipay', 200, NULL, '{"alipay_open_x_response": "c29tZXRoaW5n", "sign": "x"}', 'unknown', false, NULL, NULL),
	-- PayPal: the issue tells, not the name
	('declined', 'paypal', 422, NULL, '{"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "INSTRUMENT_DECLINED", "description": "The bank says no."}], "message": "It could not be done.", "debug_id": "1", "links": [{"rel": "redirect", "href": "https://x.example/"}]}', 'declined', false, NULL, 'INSTRUMENT_DECLINED'),
	('confirm it', 'paypal', 422, NULL, '{"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "PAYER_ACTION_REQUIRED"}], "message": "x"}', 'declined', false, NULL, 'PAYER_ACTION_REQUIRED'),
	('too many attempts', 'paypal', 422, NULL, '{"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED"}]}', 'declined', false, NULL, 'MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED'),
	('compliance', 'paypal', 422, NULL, '{"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "COMPLIANCE_VIOLATION"}]}', 'declined', false, NULL, 'COMPLIANCE_VIOLATION'),
	('still at it', 'paypal', 422, NULL, '{"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "ORDER_COMPLETION_IN_PROGRESS"}]}', 'transient', true, NULL, 'ORDER_COMPLETION_IN_PROGRESS'),
	('the same number', 'paypal', 422, NULL, '{"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "DUPLICATE_INVOICE_ID"}]}', 'invalid', false, NULL, 'DUPLICATE_INVOICE_ID'),
	('done already', 'paypal', 422, NULL, '{"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "ORDER_ALREADY_CAPTURED"}]}', 'invalid', false, NULL, 'ORDER_ALREADY_CAPTURED'),
	('the second of two issues', 'paypal', 422, NULL, '{"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "ODD"}, {"issue": "INSTRUMENT_DECLINED"}]}', 'declined', false, NULL, 'ODD'),
	('an issue that nobody knows', 'paypal', 422, NULL, '{"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "ODD"}]}', 'invalid', false, NULL, 'ODD'),
	('a token that is over', 'paypal', 401, NULL, '{"name": "AUTHENTICATION_FAILURE", "message": "x", "debug_id": "1"}', 'auth', false, NULL, 'AUTHENTICATION_FAILURE'),
	('the client', 'paypal', 401, NULL, '{"error": "invalid_client", "error_description": "It failed"}', 'auth', false, NULL, 'invalid_client'),
	('no right', 'paypal', 403, NULL, '{"name": "NOT_AUTHORIZED", "details": [{"issue": "PERMISSION_DENIED"}]}', 'permission', false, NULL, 'PERMISSION_DENIED'),
	('a conflict', 'paypal', 409, NULL, '{"name": "RESOURCE_CONFLICT", "details": [{"issue": "PREVIOUS_REQUEST_IN_PROGRESS"}]}', 'transient', true, NULL, 'PREVIOUS_REQUEST_IN_PROGRESS'),
	('too many', 'paypal', 429, '{"retry-after": "7"}', '{"name": "RATE_LIMIT_REACHED", "message": "x"}', 'rate_limit', true, '7 s', 'RATE_LIMIT_REACHED'),
	('internal', 'paypal', 500, NULL, '{"name": "INTERNAL_SERVER_ERROR", "message": "x"}', 'transient', true, NULL, 'INTERNAL_SERVER_ERROR'),
	-- Stripe: the status and the code tell, not the type
	('a decline', 'stripe', 402, NULL, '{"error": {"charge": "ch_1", "code": "card_declined", "decline_code": "generic_decline", "message": "Declined.", "type": "card_error", "payment_intent": {"object": "a", "object": "b"}}}', 'declined', false, NULL, 'generic_decline'),
	('no money on the card', 'stripe', 402, '{"stripe-should-retry": "false"}', '{"error": {"code": "card_declined", "decline_code": "insufficient_funds", "message": "x", "type": "card_error"}}', 'declined', false, NULL, 'insufficient_funds'),
	('for good', 'stripe', 402, NULL, '{"error": {"code": "card_declined", "decline_code": "stolen_card", "type": "card_error"}}', 'declined', false, NULL, 'stolen_card'),
	('advice outranks the code', 'stripe', 402, NULL, '{"error": {"code": "card_declined", "decline_code": "generic_decline", "advice_code": "do_not_try_again", "type": "card_error"}, "outcome": {"network_decline_code": "57"}}', 'declined', false, NULL, 'generic_decline'),
	('the wrong number', 'stripe', 402, NULL, '{"error": {"code": "incorrect_cvc", "message": "x", "param": "cvc", "type": "card_error"}}', 'declined', false, NULL, 'incorrect_cvc'),
	('to be confirmed', 'stripe', 402, NULL, '{"error": {"code": "card_declined", "decline_code": "authentication_required", "type": "card_error", "payment_intent": {"id": "pi_1", "status": "requires_payment_method"}}}', 'declined', false, NULL, 'authentication_required'),
	('the same in the other place', 'stripe', 402, NULL, '{"error": {"code": "authentication_required", "type": "card_error"}}', 'declined', false, NULL, 'authentication_required'),
	('in words only', 'stripe', 402, NULL, '{"error": {"message": "It wanted an action, but `error_on_requires_action` was set.", "type": "card_error"}}', 'declined', false, NULL, 'card_error'),
	('a piece of a payment intent', 'stripe', 200, NULL, '{"charge": "ch_1", "code": "authentication_required", "decline_code": "authentication_required", "message": "x"}', 'declined', false, NULL, 'authentication_required'),
	('the whole of it', 'stripe', 200, NULL, '{"id": "pi_1", "object": "payment_intent", "status": "requires_payment_method", "last_payment_error": {"code": "card_declined", "decline_code": "do_not_honor", "message": "Declined."}}', 'declined', false, NULL, 'do_not_honor'),
	('one that went well', 'stripe', 200, NULL, '{"id": "pi_1", "object": "payment_intent", "status": "succeeded", "last_payment_error": null}', 'unknown', false, NULL, NULL),
	('lock_timeout', 'stripe', 429, NULL, '{"error": {"code": "lock_timeout", "message": "x", "type": "invalid_request_error"}}', 'transient', true, NULL, 'lock_timeout'),
	('too many', 'stripe', 429, NULL, '{"error": {"message": "Too many", "type": "rate_limit_error", "code": "rate_limit"}}', 'rate_limit', true, NULL, 'rate_limit'),
	('a key in use', 'stripe', 409, '{"stripe-should-retry": "true"}', '{"error": {"code": "idempotency_key_in_use", "type": "invalid_request_error", "message": "x"}}', 'transient', true, NULL, 'idempotency_key_in_use'),
	('the same with another type', 'stripe', 409, NULL, '{"error": {"code": "idempotency_key_in_use", "type": "idempotency_error", "message": "x"}}', 'transient', true, NULL, 'idempotency_key_in_use'),
	('a key used again', 'stripe', 400, NULL, '{"error": {"message": "Keys are only used once", "type": "idempotency_error"}}', 'invalid', false, NULL, 'idempotency_error'),
	('internal', 'stripe', 500, NULL, '{"error": {"message": "x", "type": "api_error"}}', 'transient', true, NULL, 'api_error'),
	('internal, kept under the key', 'stripe', 500, '{"Idempotent-Replayed": "true"}', '{"error": {"message": "x", "type": "api_error"}}', 'transient', false, NULL, 'api_error'),
	('another state', 'stripe', 400, NULL, '{"error": {"code": "payment_intent_unexpected_state", "message": "x", "type": "invalid_request_error", "payment_intent": {"status": "succeeded"}}}', 'invalid', false, NULL, 'payment_intent_unexpected_state'),
	('not valid', 'stripe', 400, NULL, '{"error": {"code": "validation_error", "message": "x", "type": "invalid_request_error"}}', 'invalid', false, NULL, 'validation_error'),
	('our own balance', 'stripe', 400, NULL, '{"error": {"code": "balance_insufficient", "message": "x", "type": "invalid_request_error"}}', 'billing', false, NULL, 'balance_insufficient'),
	('a wrong key', 'stripe', 401, NULL, '{"error": {"message": "Invalid API Key provided", "type": "invalid_request_error"}}', 'auth', false, NULL, 'invalid_request_error'),
	-- OAuth 2.0, of anybody
	('pending', NULL, 400, NULL, '{"error": "authorization_pending", "error_description": "wait"}', 'transient', true, '5 s', 'authorization_pending'),
	('slower', NULL, 400, NULL, '{"error": "slow_down"}', 'rate_limit', true, '10 s', 'slow_down'),
	('slower, with the interval', NULL, 200, NULL, '{"error": "slow_down", "interval": 12}', 'rate_limit', true, '12 s', 'slow_down'),
	('slower, as a form', NULL, 200, NULL, 'error=slow_down&error_description=Too+many%20requests&interval=12', 'rate_limit', true, '12 s', 'slow_down'),
	('denied', NULL, 400, NULL, '{"error": "access_denied"}', 'permission', false, NULL, 'access_denied'),
	('over', NULL, 400, NULL, '{"error": "expired_token"}', 'auth', false, NULL, 'expired_token'),
	('used', NULL, 400, NULL, '{"error": "invalid_grant"}', 'auth', false, NULL, 'invalid_grant'),
	('the client', NULL, 401, '{"www-authenticate": "Basic realm=\"x\""}', '{"error": "invalid_client"}', 'auth', false, NULL, 'invalid_client'),
	('a scope', NULL, 403, NULL, '{"error": "insufficient_scope"}', 'permission', false, NULL, 'insufficient_scope'),
	('not understood', NULL, 400, NULL, '{"error": "unsupported_grant_type"}', 'invalid', false, NULL, 'unsupported_grant_type'),
	('busy', NULL, 503, NULL, '{"error": "temporarily_unavailable"}', 'transient', true, NULL, 'temporarily_unavailable'),
	-- Problems, of anybody
	('no credit', NULL, 403, '{"content-type": "application/problem+json"}', '{"type": "https://example.com/probs/out-of-credit", "title": "You do not have enough credit.", "detail": "It costs 50.", "balance": 30}', 'billing', false, NULL, 'https://example.com/probs/out-of-credit'),
	('a detail says nothing', NULL, 403, NULL, '{"type": "about:blank", "title": "Forbidden", "detail": "You do not have enough credit."}', 'permission', false, NULL, 'about:blank'),
	('not valid', NULL, 422, NULL, '{"type": "https://example.net/validation-error", "title": "Not valid.", "errors": [{"detail": "x", "pointer": "#/age"}]}', 'invalid', false, NULL, 'https://example.net/validation-error'),
	('no key', NULL, 400, NULL, '{"type": "https://example.com/idempotency", "title": "Idempotency-Key is missing"}', 'invalid', false, NULL, 'https://example.com/idempotency'),
	('a key used again', NULL, 422, NULL, '{"type": "https://example.com/idempotency", "title": "Idempotency-Key is already used"}', 'invalid', false, NULL, 'https://example.com/idempotency'),
	('a key under way', NULL, 409, NULL, '{"type": "https://example.com/idempotency", "title": "A request is outstanding for this Idempotency-Key"}', 'transient', true, NULL, 'https://example.com/idempotency'),
	('a quota', NULL, 429, '{"retry-after": "9"}', '{"type": "https://iana.org/assignments/http-problem-types#quota-exceeded", "title": "Too much", "violated-policies": ["daily"]}', 'rate_limit', true, '9 s', 'https://iana.org/assignments/http-problem-types#quota-exceeded'),
	-- Failures with status 200, of anybody
	('one-api', NULL, 200, NULL, '{"error": {"message": "x", "type": "upstream_error"}}', 'transient', false, NULL, 'upstream_error'),
	('an error that nobody knows', NULL, 200, NULL, '{"error": {"message": "x"}}', 'unknown', false, NULL, NULL),
	('error null is none', NULL, 200, NULL, '{"error": null, "balance": 5}', 'unknown', false, NULL, NULL),
	('MiniMax', 'minimax', 200, NULL, '{"base_resp": {"status_code": 1004, "status_msg": "cookie is missing"}}', 'auth', false, NULL, '1004'),
	('MiniMax without money', 'minimax', 200, NULL, '{"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}', 'billing', false, NULL, '1008'),
	('MiniMax that is fine', 'minimax', 200, NULL, '{"base_resp": {"status_code": 0, "status_msg": "success"}}', 'unknown', false, NULL, '0'),
	-- What several say alike
	('a reseller without money', 'nobody', 403, NULL, '{"error": {"message": "用户额度不足", "code": "insufficient_user_quota"}}', 'billing', false, NULL, 'insufficient_user_quota'),
	('words in any place', 'nobody', 400, NULL, '{"msg": "账户余额不足"}', 'billing', false, NULL, NULL),
	('words alone', 'nobody', 403, NULL, 'Insufficient balance, please top up', 'billing', false, NULL, NULL),
	('Google''s way', 'nobody', 429, NULL, '[{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "x", "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]}}]', 'rate_limit', true, '34.5 s', 'RESOURCE_EXHAUSTED'),
	('a wait with a fraction', 'nobody', 429, NULL, '{"message": "x", "retry_after": 64.57}', 'rate_limit', true, '64.57 s', NULL),
	('a wait of a week', 'nobody', 429, NULL, '{"retry_after": 604800}', 'rate_limit', true, '24 hours', NULL),
	('a wait that is none', 'nobody', 429, NULL, '{"retry_after": "soon", "message": "try again in a while"}', 'rate_limit', true, NULL, NULL);
-- Statuses alone
INSERT INTO sent (what, status, body, class, retryable)
SELECT 'a status alone', status, body, class, class IN ('rate_limit', 'transient')
FROM (VALUES (0, 'transient'), (204, 'unknown'), (301, 'invalid'), (308, 'invalid'), (400, 'invalid'), (401, 'auth'), (402, 'billing'), (403, 'permission'), (404, 'invalid'), (405, 'invalid'), (407, 'auth'), (408, 'transient'), (409, 'invalid'), (410, 'invalid'),
	(413, 'invalid'), (418, 'invalid'), (422, 'invalid'), (423, 'transient'), (425, 'transient'), (429, 'rate_limit'), (431, 'invalid'), (451, 'permission'), (499, 'invalid'), (500, 'transient'), (501, 'invalid'), (502, 'transient'), (503, 'transient'),
	(504, 'transient'), (505, 'invalid'), (520, 'transient'), (529, 'transient'), (599, 'transient'), (600, 'unknown'), (999, 'unknown'), (-1, 'unknown'), (NULL::int, 'unknown'), (2147483647, 'unknown')) s(status, class)
CROSS JOIN (VALUES (NULL), ('{}')) b(body);
SELECT plan((SELECT count(*)::int FROM sent) + 8);

SELECT is(concat_ws(' ', c.class, c.retryable, c.retry_after, c.code), concat_ws(' ', s.class, s.retryable, s.wait, s.code), concat_ws(' ', s.vendor, s.status, s.what))
FROM sent s, LATERAL tokenbill.classify_error(s.vendor, s.status, s.body, s.headers) c ORDER BY s.place;

-- Each has a sentence; none that is a matter of money is to be repeated but the one; a wait comes only with what may be
SELECT is_empty($$SELECT s.what, c.advice FROM sent s, tokenbill.classify_error(s.vendor, s.status, s.body, s.headers) c WHERE c.advice !~ '^[A-Z].*\.$' OR length(c.advice) NOT BETWEEN 20 AND 400$$, 'each has a sentence');
SELECT results_eq($$SELECT c.rule FROM sent s, tokenbill.classify_error(s.vendor, s.status, s.body, s.headers) c WHERE c.retryable AND c.class IN ('billing', 'auth', 'permission', 'declined', 'invalid')$$, $$VALUES ('openrouter_in_flight')$$, 'nothing is repeated that time alone does not help');
SELECT is_empty($$SELECT s.what FROM sent s, tokenbill.classify_error(s.vendor, s.status, s.body, s.headers) c WHERE c.retry_after IS NOT NULL AND NOT c.retryable$$, 'a wait is only told with what may be repeated');
SELECT set_eq($$SELECT DISTINCT c.vendor FROM sent s, tokenbill.classify_error(s.vendor, s.status, s.body, s.headers) c$$, ARRAY['openai', 'anthropic', 'deepseek', 'openrouter', 'moonshot', 'zhipu', 'siliconflow', 'aliyun', 'alipay', 'paypal', 'stripe', NULL], 'the vendors there are');
SELECT is_empty($$SELECT r.rule FROM tokenbill.error_rules r WHERE r.rule NOT IN (SELECT c.rule FROM sent s, tokenbill.classify_error(s.vendor, s.status, s.body, s.headers) c WHERE c.rule IS NOT NULL)
	AND r.rule NOT IN ('openai_deactivated', 'openai_conflict', 'deepseek_balance_words', 'moonshot_invalid', 'moonshot_permission', 'zhipu_permission', 'zhipu_transient', 'siliconflow_invalid', 'aliyun_invalid', 'alipay_other', 'alipay_failed', 'alipay_token', 'alipay_arguments', 'alipay_unavailable', 'alipay_permission', 'alipay_called_too_often',
		'paypal_not_authorized', 'paypal_conflict', 'stripe_card_data', 'stripe_later', 'stripe_key', 'stripe_permission', 'stripe_conflict', 'stripe_failed', 'card_error', 'rate_limit_code', 'overloaded_code', 'key_code', 'minimax_rate_limit', 'minimax_transient', 'minimax_failed',
		'oauth_token', 'problem_capacity', 'ok_billing', 'ok_auth', 'ok_permission', 'ok_rate_limit', 'ok_invalid', 'ok_billing_code', 'ok_rate_limit_code', 'ok_overloaded_code')$$, 'every other rule was met');
SELECT is(c.message, 'The bank says no.', 'the message of an issue, not of all of them') FROM sent s, tokenbill.classify_error(s.vendor, s.status, s.body) c WHERE s.vendor = 'paypal' AND s.what = 'declined';
SELECT is(c.message, 'Too many requests', 'a form is unescaped') FROM sent s, tokenbill.classify_error(s.vendor, s.status, s.body) c WHERE s.what = 'slower, as a form';
SELECT is(c.vendor, 'stripe', 'in any case') FROM tokenbill.classify_error('Stripe', 402, '{}') c;

SELECT * FROM finish();
ROLLBACK;
