/*
 * The rules that come with the extension: what the answers of vendors and
 * gateways that failed mean.
 *
 * Codes before words, and words before statuses.  A vendor's own are at 90 to
 * 190, what several vendors say alike at 300, what a standard says at 320, an
 * answer that fails with status 200 at 400, and statuses alone at 900.
 *
 * What is not ASCII is written by number, for this file is read in the encoding of
 * the database: balance insufficient, and in arrears, in Chinese.
 *
 * Sources: the vendors' pages on errors and their SDKs' types; recorded answers
 * where those differ.  RFC 6749 5.2, RFC 6750 3.1 and RFC 8628 3.5 for OAuth,
 * RFC 9457 for problems, draft-ietf-httpapi-idempotency-key-header for keys,
 * draft-ietf-httpapi-ratelimit-headers for the types of problems with quotas.
 */

/*
 * OpenAI.  A 429 is also what an account gets that has nothing left, and a 400
 * what an image gets then, and a 429 what one request gets that is larger than a
 * minute's tokens.  Of a missing scope both 401 and 403 are told.  The events of a
 * stream have the code by itself (error), or in a response (response.failed).
 */
SELECT FROM (VALUES
	('openai_quota', 100, NULL, '{"error.code,error.type,code,response.error.code": ["insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "billing_not_active"]}', 'billing', NULL::boolean, NULL::interval,
		'The OpenAI organization has no credit left, or its billing is not active: add credit in its billing settings. Waiting does not help.'),
	('openai_spend_limit', 95, NULL, '{"error.code,error.type,code,response.error.code": ["*_spend_limit_exceeded", "*_usage_limit_exceeded"]}', 'billing', NULL, NULL,
		'A limit on spending of the OpenAI organization or project is reached: raise it, or wait for the next month.'),
	('openai_billing_words', 105, '400,402,403,429', '{"error.message": ["You have no credits remaining*", "You exceeded your current quota*", "Billing hard limit*"]}', 'billing', NULL, NULL,
		'The OpenAI organization has no credit left: add some in its billing settings. Waiting does not help.'),
	('openai_deactivated', 100, NULL, '{"error.code,error.type": ["account_deactivated", "access_terminated", "organization_deactivated"]}', 'permission', NULL, NULL,
		'OpenAI has closed this account or organization: ask its support.'),
	('openai_scope', 110, '401,403', '{"error,error.message": ["*insufficient permissions*", "*missing scopes*"]}', 'permission', NULL, NULL,
		'The OpenAI key lacks a scope, which its message names: costs and limits want an admin key.'),
	('openai_session_key', 110, '401,403', '{"error.message": "*session key*"}', 'permission', NULL, NULL,
		'OpenAI shows this to a browser only: ask for costs with an admin key instead.'),
	('openai_unverified', 110, '4xx', '{"error.message": "*organization must be verified*"}', 'permission', NULL, NULL,
		'OpenAI keeps this model for organizations that are verified: verify ours in its settings, or use another model.'),
	('openai_address', 110, NULL, '{"error.code,error.type": "ip_not_authorized"}', 'permission', NULL, NULL,
		'OpenAI takes this key from certain addresses only: put that of our server on the list of the project.'),
	('openai_country', 110, NULL, '{"error.code,error.type": "unsupported_country_region_territory"}', 'permission', NULL, NULL,
		'OpenAI does not serve the country that the request came from: send it from a server elsewhere, or to another vendor.'),
	('openai_key', 110, NULL, '{"error.code,error.type": ["invalid_api_key", "invalid_authentication", "authentication_error", "mismatched_organization", "invalid_organization"]}', 'auth', NULL, NULL,
		'OpenAI does not accept the key, or not with this organization: see whether it was revoked.'),
	('openai_too_large', 115, '429', '{"error.message": "Request too large for *"}', 'invalid', NULL, NULL,
		'This one request wants more tokens than OpenAI grants in a whole minute, and always will: send less, or ask for a higher tier.'),
	('openai_rate_limit', 120, NULL, '{"error.code,error.type,code,response.error.code": ["rate_limit_exceeded", "rate_limit_error", "slow_down"]}', 'rate_limit', NULL, NULL,
		'More requests or tokens a minute than OpenAI grants: repeat it after the wait; if that goes on, send fewer, or ask for a higher tier.'),
	('openai_overloaded', 120, NULL, '{"error.code,error.type,code,response.error.code": ["server_is_overloaded", "server_error", "service_unavailable_error", "engine_overloaded", "internal_error"]}', 'transient', NULL, NULL,
		'OpenAI is overloaded or fails for a moment: repeat it after a while.'),
	('openai_conflict', 130, '409', '{}', 'transient', NULL, NULL,
		'Another request changes the same thing at OpenAI: repeat it.'),
	('openai_failed', 190, '2xx', '{"response.status": "failed"}', 'unknown', NULL, NULL,
		'OpenAI could not finish the response: read in the message why, and send the request again only if that can have changed.')) r (rule, priority, status, body, class, retryable, retry_after, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, 'openai', r.status, r.body::pg_catalog.jsonb, '{}', r.retryable, r.retry_after, NULL, r.priority, r.advice);

/*
 * Anthropic.  Billing hides in invalid_request_error, where only the beginning of
 * the message tells, and in rate_limit_error, where a detail does.  An error
 * within a stream comes with status 200.
 */
SELECT FROM (VALUES
	('anthropic_spend_limit', 95, '{"error.details.error_code": "enforced_spend_limit_reached"}', 'billing',
		'The Anthropic organization has reached the monthly limit of its tier: raise the tier, or wait until the day that the message names.'),
	('anthropic_credit', 100, '{"error.message": "Your credit balance is too low*"}', 'billing',
		'The Anthropic organization has no credit left: buy some in its billing settings.'),
	('anthropic_own_limit', 100, '{"error.message": ["You have reached your specified * usage limits*", "You have reached your specified API usage limits*", "You have reached your API usage limits*"]}', 'billing',
		'A spend limit that was set on the Anthropic organization or workspace is reached: raise it, or wait until the day that the message names.'),
	('anthropic_billing', 100, '{"error.type": "billing_error"}', 'billing',
		'Something is wrong with the billing or payment details of the Anthropic organization: look into its billing settings.'),
	('anthropic_disabled', 100, '{"error.message": "*organization has been disabled*"}', 'permission',
		'Anthropic has closed the organization that the key belongs to: ask its support, or use the key of another one.'),
	('anthropic_key', 110, '{"error.type": "authentication_error"}', 'auth',
		'Anthropic does not accept the key: see whether it is the right one, and not disabled.'),
	('anthropic_permission', 110, '{"error.type": "permission_error"}', 'permission',
		'The Anthropic key may not do this: reports on costs and usage want an admin key, so store one of those.'),
	('anthropic_rate_limit', 110, '{"error.type": "rate_limit_error"}', 'rate_limit',
		'More requests or tokens a minute than Anthropic grants: repeat it after the wait, and send fewer.'),
	('anthropic_overloaded', 110, '{"error.type": "overloaded_error"}', 'transient',
		'Anthropic is overloaded: repeat it after a while.'),
	('anthropic_transient', 110, '{"error.type": ["api_error", "timeout_error", "conflict_error"]}', 'transient',
		'Something failed at Anthropic for a moment: repeat it.'),
	('anthropic_invalid', 120, '{"error.type": ["invalid_request_error", "not_found_error", "request_too_large"]}', 'invalid',
		'Anthropic cannot grant the request as it is: whoever sends it has to change what the message names.')) r (rule, priority, body, class, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, 'anthropic', NULL, r.body::pg_catalog.jsonb, '{}', NULL, NULL, NULL, r.priority, r.advice);

/* DeepSeek.  A 402 has the type unknown_error and the code invalid_request_error: its status tells. */
SELECT FROM (VALUES
	('deepseek_balance', 100, '402', '{}', 'billing', 'The DeepSeek account has no balance left: top it up.'),
	('deepseek_balance_words', 105, NULL, '{"error.message": "*insufficient balance*"}', 'billing', 'The DeepSeek account has no balance left: top it up.'),
	('deepseek_session', 100, NULL, '{"code": ["40002", "40003"]}', 'auth', 'The session at DeepSeek''s platform is missing or over: log in there again. It says so with status 200.'),
	('deepseek_key', 110, '401', '{}', 'auth', 'DeepSeek does not accept the key: see whether it is the right one, and not deleted.')) r (rule, priority, status, body, class, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, 'deepseek', r.status, r.body::pg_catalog.jsonb, '{}', NULL, NULL, NULL, r.priority, r.advice);

/* OpenRouter.  What is reserved for requests under way comes back: that 402 may be repeated. */
SELECT FROM (VALUES
	('openrouter_in_flight', 95, NULL, '{"error.message,error.code,error.metadata.reason,error.metadata.error_type": "*in_flight_budget_exhausted*"}', 'billing', true, '5 seconds'::interval,
		'The requests under way have reserved all that is left at OpenRouter: repeat it when some have ended, or add credit.'),
	('openrouter_weight', 95, NULL, '{"error.message,error.code,error.metadata.reason,error.metadata.error_type": "*weight_exceeds_budget*"}', 'billing', false, NULL,
		'The request may cost more than the budget at OpenRouter ever has: lower max_tokens, or raise the budget.'),
	('openrouter_key_limit', 100, '402,403', '{"error.message": "Key limit exceeded*"}', 'billing', false, NULL,
		'The limit on what this OpenRouter key may spend is reached: raise it in the settings of keys.'),
	('openrouter_credits', 110, '402', '{}', 'billing', false, NULL,
		'The OpenRouter account has too little credit for the request: add some, or lower max_tokens.'),
	('openrouter_management_key', 100, '401,403', '{"error.message": "*management key*"}', 'permission', false, NULL,
		'OpenRouter shows this for a management key only: store one of those.'),
	('openrouter_guardrail', 110, '403', '{}', 'permission', false, NULL,
		'A guardrail or the moderation of OpenRouter has refused what was sent, or the key may not do this: change what is sent, or the settings of the key. It has nothing to do with money.')) r (rule, priority, status, body, class, retryable, retry_after, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, 'openrouter', r.status, r.body::pg_catalog.jsonb, '{}', r.retryable, r.retry_after, NULL, r.priority, r.advice);

/* Moonshot.  Of two kinds of 429 one is a matter of money. */
SELECT FROM (VALUES
	('moonshot_quota', 100, NULL, '{"error.type,error.code": "exceeded_current_quota_error"}', 'billing', 'The Moonshot account has no balance left or is suspended: top it up.'),
	('moonshot_rate_limit', 110, NULL, '{"error.type,error.code": "rate_limit_reached_error"}', 'rate_limit', 'More requests or tokens than Moonshot grants: repeat it after the wait, and send fewer.'),
	('moonshot_overloaded', 110, NULL, '{"error.type,error.code": ["engine_overloaded_error", "server_error", "unexpected_output"]}', 'transient', 'Moonshot is overloaded or fails for a moment: repeat it after a while.'),
	('moonshot_key', 110, NULL, '{"error.type,error.code": ["invalid_authentication_error", "incorrect_api_key_error"]}', 'auth', 'Moonshot does not accept the key: store one of the platform that is asked, for the Chinese and the international one have keys of their own.'),
	('moonshot_session', 110, NULL, '{"code": "401", "status": "false"}', 'auth', 'Moonshot does not accept the key: store a valid one. It says so with status 200, beside balances of zero that mean nothing.'),
	('moonshot_permission', 110, NULL, '{"error.type,error.code": ["permission_denied_error", "access_denied"]}', 'permission', 'The Moonshot key may not use this: see what its project has been granted, or use another model.'),
	('moonshot_invalid', 120, NULL, '{"error.type,error.code": ["invalid_request_error", "content_filter", "resource_not_found_error"]}', 'invalid', 'Moonshot cannot grant the request as it is: whoever sends it has to change what the message names.')) r (rule, priority, status, body, class, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, 'moonshot', r.status, r.body::pg_catalog.jsonb, '{}', NULL, NULL, NULL, r.priority, r.advice);

/* Zhipu, Z.ai: numbers as text, in error.code or code. */
SELECT FROM (VALUES
	('zhipu_balance', 100, '{"error.code,code": ["1113", "1309"]}', 'billing', NULL::boolean, 'The Zhipu account has no balance or resource package left, or its plan is over: top it up.'),
	('zhipu_key', 110, '{"error.code,code": ["1000", "1001", "1002", "1003", "1004"]}', 'auth', NULL, 'Zhipu does not accept the key or token: see whether the key is valid, and our clock right, for a token made from a key ends at the time that was put into it.'),
	('zhipu_permission', 110, '{"error.code,code": ["1110", "1111", "1112", "1120", "1220", "1311"]}', 'permission', NULL, 'The Zhipu account is not active, is locked, or may not use this: activate it there, ask its support, or use another model.'),
	('zhipu_fair_use', 110, '{"error.code,code": "1313"}', 'permission', NULL, 'Zhipu has slowed the account down because of how it is used: ask there for it to be lifted.'),
	('zhipu_window', 105, '{"error.code,code": ["1304", "1308", "1310"]}', 'rate_limit', false, 'What Zhipu grants in a day or in the plan''s window is used up: wait until it is renewed, which the message tells.'),
	('zhipu_rate_limit', 110, '{"error.code,code": ["1302", "1303", "1305"]}', 'rate_limit', NULL, 'More requests at once than Zhipu grants: repeat it after a while, and send fewer.'),
	('zhipu_transient', 110, '{"error.code,code": ["1230", "1234", "1312"]}', 'transient', NULL, 'Something failed at Zhipu for a moment: repeat it.'),
	('zhipu_invalid', 120, '{"error.code,code": ["121*", "1221", "1222", "1231", "1261", "1300", "1301"]}', 'invalid', NULL, 'Zhipu cannot grant the request as it is: whoever sends it has to change what the message names.')) r (rule, priority, body, class, retryable, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, 'zhipu', NULL, r.body::pg_catalog.jsonb, '{}', r.retryable, NULL, NULL, r.priority, r.advice);

/* SiliconFlow.  Its 403 may be a matter of money; with status 200 only the code 20000 is good. */
SELECT FROM (VALUES
	('siliconflow_balance', 100, NULL, '{"code,error.code": ["30001", "30011"]}', 'billing', 'The SiliconFlow account has no balance left: top it up.'),
	('siliconflow_overloaded', 110, NULL, '{"code,error.code": ["50501", "50502", "50503", "50504", "50505"]}', 'transient', 'The model is overloaded at SiliconFlow: repeat it after a while.'),
	('siliconflow_invalid', 110, NULL, '{"code,error.code": ["20012", "20015"]}', 'invalid', 'SiliconFlow does not have this model, or cannot grant the request as it is: see the name of the model, and what the message says is wrong.'),
	('siliconflow_failed', 190, '2xx', '{"code": "!20000"}', 'unknown', 'SiliconFlow says with status 200 that it failed: read in the message why, and send it again only if that can have changed.')) r (rule, priority, status, body, class, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, 'siliconflow', r.status, r.body::pg_catalog.jsonb, '{}', NULL, NULL, NULL, r.priority, r.advice);

/*
 * Alibaba Cloud: Model Studio has code or error.code, in a task output.code, the
 * gateway of its other interfaces Code, or <Code> where XML was not declined.
 * OpenAI's insufficient_quota is what tokens a minute are called in that form.
 */
SELECT FROM (VALUES
	('aliyun_arrearage', 100, NULL, '{"code,Code,error.code,error.type,output.code,$": ["*<Code>InvalidAccountStatus.NotEnoughBalance<*", "*<Code>Arrearage*", "Arrearage", "Arrearage.*", "PrepaidBillOverdue", "PostpaidBillOverdue", "CommodityNotPurchased", "AllocationQuota.FreeTierOnly", "AccessDenied.Unpurchased", "InvalidAccountStatus.NotEnoughBalance", "NotEnoughBalance", "InsufficientBalance"]}', 'billing', 'The Alibaba Cloud account is in arrears, or what it wants has not been bought: top it up in the cost center.'),
	('aliyun_throttling', 110, NULL, '{"code,Code,error.code,error.type,output.code,$": ["*<Code>Throttling*", "Throttling", "Throttling.*", "LimitRequests", "limit_requests", "limit_burst_rate", "insufficient_quota"]}', 'rate_limit', 'More requests or tokens than Alibaba Cloud grants: repeat it after a while, and send fewer.'),
	('aliyun_key', 110, NULL, '{"code,Code,error.code,error.type,output.code,$": ["*<Code>InvalidAccessKeyId*", "*<Code>MissingAccessKeyId<*", "*<Code>SignatureDoesNotMatch<*", "*<Code>IncompleteSignature<*", "*<Code>InvalidTimeStamp*", "*<Code>SignatureNonceUsed<*", "*<Code>InvalidSecurityToken*", "InvalidApiKey", "invalid_api_key", "InvalidAccessKeyId*", "MissingAccessKeyId", "SignatureDoesNotMatch", "IncompleteSignature", "InvalidTimeStamp*", "SignatureNonceUsed", "InvalidSecurityToken*"]}', 'auth', 'Alibaba Cloud does not accept the key or the signature: see whether the key is enabled, and whether our clock is right.'),
	('aliyun_permission', 115, NULL, '{"code,Code,error.code,error.type,output.code,$": ["*<Code>AccessDenied*", "*<Code>Forbidden*", "*<Code>NoPermission<*", "*<Code>NotAuthorized<*", "AccessDenied", "AccessDenied.*", "access_denied", "Forbidden", "Forbidden.*", "NoPermission", "NotAuthorized", "*.AccessDenied"]}', 'permission', 'The Alibaba Cloud key may not do this: give its user the right, or the workspace the model.'),
	('aliyun_transient', 110, NULL, '{"code,Code,error.code,error.type,output.code,$": ["*<Code>InternalError*", "*<Code>ServiceUnavailable*", "InternalError", "InternalError.*", "internal_error", "internal_server_error", "InternalServiceError", "SystemError", "ServiceUnavailable", "RequestTimeOut", "ModelServiceFailed", "ModelServingError", "ModelUnavailable", "model_unavailable"]}', 'transient', 'Something failed at Alibaba Cloud for a moment: repeat it.'),
	('aliyun_invalid', 120, NULL, '{"code,Code,error.code,error.type,output.code": ["InvalidParameter*", "invalid_parameter_error", "MissingParameter*", "InvalidURL", "BadRequest*", "Unsupported*", "InvalidAction*", "DataInspectionFailed", "data_inspection_failed", "ModelNotFound", "model_not_found"]}', 'invalid', 'Alibaba Cloud cannot grant the request as it is: whoever sends it has to change what the message names.'),
	('aliyun_task_failed', 190, '2xx', '{"output.task_status": "FAILED"}', 'unknown', 'The task at Alibaba Cloud has failed, which it says with status 200: read in the message why, and begin another only if that can have changed.'),
	('aliyun_failed', 190, '2xx', '{"Success": "false"}', 'unknown', 'Alibaba Cloud says with status 200 that it failed: read in the message why, and send it again only if that can have changed.')) r (rule, priority, status, body, class, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, 'aliyun', r.status, r.body::pg_catalog.jsonb, '{}', NULL, NULL, NULL, r.priority, r.advice);

/*
 * Alipay.  Everything has status 200.  A payment that failed in its system may
 * have been made: it is asked for, and then cancelled, but not repeated.  A trade
 * that nobody has scanned the code of looks like one that never was.
 */
SELECT FROM (VALUES
	('alipay_nothing_moved', 90, '{"alipay_trade_refund_response.code": "10000", "alipay_trade_refund_response.fund_change": "N"}', 'unknown', false, NULL::interval,
		'Alipay accepts the refund, but this call has moved no money: it may be one that is repeated. Query it before anything is booked.'),
	('alipay_signature', 100, '{"*_response.sub_code": ["isv.invalid-signature*", "isv.missing-signature*", "isv.invalid-app-id", "isv.missing-app-id", "isv.invalid-auth*", "isv.invalid-timestamp", "isv.invalid-cert*", "isv.missing-*cert*", "aop.*auth*", "*PARTNER_ERROR"]}', 'auth', false, NULL,
		'Alipay does not accept the signature, the app or its token: see whether the private key belongs to the public one that is stored there. The message has the text that Alipay has verified.'),
	('alipay_grant', 100, '{"*_response.sub_code": ["isv.insufficient-*-permissions", "isv.*-app-permission", "*ACCESS_FORBIDDEN", "*PERMIT_CHECK_PERM_LIMITED", "isv.no-*"]}', 'permission', false, NULL,
		'The app has not been granted this interface at Alipay: sign the contract for it, or add the function to the app.'),
	('alipay_seller_blocked', 100, '{"*_response.sub_code": "*SELLER_BEEN_BLOCKED"}', 'permission', false, NULL,
		'Alipay has blocked our own account: ask its support why, and take other payments until then.'),
	('alipay_called_too_often', 100, '{"*_response.sub_code": ["isv.app-call-limited", "isv.method-call-limited", "isv.*-limited"]}', 'rate_limit', true, NULL,
		'The app calls Alipay more often than it grants: repeat it after a while, and call less.'),
	('alipay_payment_unclear', 95, '{"alipay_trade_pay_response.sub_code": ["*SYSTEM_ERROR", "isp.*", "aop.unknow-error"]}', 'transient', false, NULL,
		'Alipay failed while it paid, and nobody knows yet whether it did: query the trade, and cancel it if it was not paid. Do not pay again before that.'),
	('alipay_system', 100, '{"*_response.sub_code": ["*SYSTEM_ERROR", "isp.*", "aop.unknow-error"]}', 'transient', true, NULL,
		'Something failed at Alipay for a moment: repeat it with the same numbers.'),
	('alipay_not_there_yet', 100, '{"alipay_trade_query_response.sub_code": "*TRADE_NOT_EXIST"}', 'unknown', true, '5 seconds',
		'Alipay knows no such trade: either the customer has not scanned the code yet, or it never was. Ask again until the code''s time is over.'),
	('alipay_seller_balance', 100, '{"*_response.sub_code": ["*SELLER_BALANCE_NOT_ENOUGH", "*PAYER_BALANCE_NOT_ENOUGH", "BALANCE_IS_NOT_ENOUGH", "*REFUND_CHARGE_ERROR"]}', 'billing', false, NULL,
		'Our own Alipay account has too little balance for this: put money into it, then repeat the refund or transfer with the same number.'),
	('alipay_declined', 110, '{"*_response.sub_code": ["*BUYER_*", "*NO_PAYMENT_INSTRUMENTS_AVAILABLE", "*ERROR_BALANCE_PAYMENT_DISABLE", "*PAYMENT_FAIL", "*PAYMENT_REQUEST_HAS_RISK", "*PULL_MOBILE_CASHIER_FAIL", "*MOBILE_PAYMENT_SWITCH_OFF", "*PAYMENT_AUTH_CODE_INVALID", "*SOUNDWAVE_PARSER_FAIL"]}', 'declined', false, NULL,
		'Alipay declined the payment for a reason on the customer''s side, which the message tells: they have to pay in another way, or show a new code.'),
	('alipay_invalid', 120, '{"*_response.sub_code": ["*INVALID_*", "*_NOT_EXIST", "*TRADE_HAS_SUCCESS", "*TRADE_HAS_CLOSE", "*TRADE_STATUS_ERROR", "*TRADE_HAS_FINISHED", "*CONTEXT_INCONSISTENT", "*DISCORDANT_REPEAT_REQUEST", "*TOTAL_FEE_EXCEED", "*REFUND_AMT_NOT_EQUAL_TOTAL", "*REASON_TRADE_*", "*EXIST_FORBIDDEN_WORD", "isv.invalid-*", "isv.missing-*", "isv.code-invalid"]}', 'invalid', false, NULL,
		'Alipay cannot grant the request as it is: the sub-code says which of its values is wrong, or that the trade is no longer in that state.'),
	('alipay_paying', 130, '{"*_response.code": "10003"}', 'transient', false, NULL,
		'The customer is still paying: query the trade until that is decided, and do not pay again.'),
	('alipay_payment_unavailable', 125, '{"alipay_trade_pay_response.code": "20000"}', 'transient', false, NULL,
		'Alipay failed while it paid, and nobody knows yet whether it did: query the trade, and cancel it if it was not paid. Do not pay again before that.'),
	('alipay_unavailable', 130, '{"*_response.code": "20000"}', 'transient', true, NULL,
		'Alipay is not available for a moment: repeat it with the same numbers.'),
	('alipay_token', 130, '{"*_response.code": "20001"}', 'auth', false, NULL,
		'Alipay does not accept the authorization token: it is over, or belongs to another app.'),
	('alipay_arguments', 130, '{"*_response.code": ["40001", "40002", "40003"]}', 'invalid', false, NULL,
		'An argument of the request to Alipay is missing, is wrong, or does not fit its conditions: correct the one that the sub-code names.'),
	('alipay_pay_failed', 130, '{"alipay_trade_pay_response.code": "40004"}', 'declined', false, NULL,
		'The payment failed at Alipay: the customer has to pay in another way.'),
	('alipay_failed', 140, '{"*_response.code": "40004"}', 'invalid', false, NULL,
		'Alipay has refused it: read in the sub-code why, and correct that before it is sent again.'),
	('alipay_limited', 130, '{"*_response.code": "40005"}', 'rate_limit', true, NULL,
		'The app calls Alipay more often than it grants: repeat it after a while, and call less.'),
	('alipay_permission', 130, '{"*_response.code": "40006"}', 'permission', false, NULL,
		'The app has not been granted this interface at Alipay: sign the contract for it, or add the function to the app.'),
	('alipay_other', 190, '{"*_response.code": "!10000"}', 'unknown', false, NULL,
		'Alipay says something else than that it went well: query what became of it before anything is booked.')) r (rule, priority, body, class, retryable, retry_after, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, 'alipay', NULL, r.body::pg_catalog.jsonb, '{}', r.retryable, r.retry_after, NULL, r.priority, r.advice);

/*
 * PayPal: what counts are the issues, or a name that is one; its tokens fail as
 * OAuth's do.  A capture may be declined in an answer that is fine otherwise.
 */
SELECT FROM (VALUES
	('paypal_payer_has_to_act', 100, '{"details.*.issue": ["PAYER_ACTION_REQUIRED", "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING", "ORDER_NOT_APPROVED"]}', 'declined', 'The customer has to confirm the payment at PayPal first: send them to the address in links.'),
	('paypal_declined', 100, '{"details.*.issue,name": ["INSTRUMENT_DECLINED", "TRANSACTION_REFUSED", "PAYMENT_DENIED", "PAYER_CANNOT_PAY", "CARD_*DECLINED", "CARD_EXPIRED", "CARD_CLOSED", "CARD_*_NOT_SUPPORTED", "CREDIT_CARD_REFUSED", "CURRENCY_NOT_SUPPORTED_FOR_CARD_TYPE", "REFERENCED_CARD_EXPIRED", "TOKEN_EXPIRED", "PAYER_ACCOUNT_RESTRICTED", "PAYER_ACCOUNT_LOCKED_OR_CLOSED", "PAYER_COUNTRY_NOT_SUPPORTED", "PAYMENT_SOURCE_CANNOT_BE_USED", "PAYMENT_SOURCE_INFO_CANNOT_BE_VERIFIED", "*_DECLINED_BY_PROCESSOR", "DECLINED_DUE_TO_RELATED_TXN", "DOMESTIC_TRANSACTION_REQUIRED", "TRANSACTION_LIMIT_EXCEEDED", "AUTHORIZATION_DENIED"]}', 'declined', 'PayPal or the bank declined the payment: the customer may choose another way to pay; redirect is the address for that.'),
	('paypal_blocked', 100, '{"details.*.issue": ["PAYEE_BLOCKED_TRANSACTION", "TRANSACTION_BLOCKED_BY_PAYEE"]}', 'declined', 'Our own settings against fraud at PayPal refuse this payment: change them if it is a good one, or have the customer pay in another way.'),
	('paypal_balance', 100, '{"details.*.issue,name": ["REFUND_FAILED_INSUFFICIENT_FUNDS", "INSUFFICIENT_FUNDS"]}', 'billing', 'Our own PayPal account has too little balance for this refund or payout: put money into it, then repeat it with a new request id.'),
	('paypal_pending_capture', 100, '{"details.*.issue": "PENDING_CAPTURE"}', 'transient', 'The payment that is to be refunded has not arrived itself, which takes days with a bank: refund it when PayPal says that it is completed.'),
	('paypal_attempts', 100, '{"details.*.issue": "MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED"}', 'declined', 'It has been tried as often as PayPal allows for one order: begin with a new one, and another way to pay.'),
	('paypal_compliance', 100, '{"details.*.issue": "COMPLIANCE_VIOLATION"}', 'declined', 'PayPal declined the payment for reasons of compliance: it will decline it again.'),
	('paypal_in_progress', 100, '{"details.*.issue": ["ORDER_COMPLETION_IN_PROGRESS", "ORDER_IS_PENDING_APPROVAL", "PREVIOUS_REQUEST_IN_PROGRESS"]}', 'transient', 'PayPal is still at work on this order or request: repeat it after a while with the same request id.'),
	('paypal_done_already', 105, '{"details.*.issue": ["ORDER_ALREADY_CAPTURED", "ORDER_ALREADY_COMPLETED", "ORDER_ALREADY_AUTHORIZED", "ORDER_COMPLETED_OR_VOIDED", "PAYMENT_ALREADY_APPROVED", "AUTHORIZATION_ALREADY_CAPTURED", "PREVIOUSLY_CAPTURED", "PREVIOUSLY_VOIDED", "CAPTURE_FULLY_REFUNDED"]}', 'invalid', 'It has been done already: fetch the order, and book what it says.'),
	('paypal_duplicate', 105, '{"details.*.issue": ["DUPLICATE_INVOICE_ID", "DUPLICATE_REQUEST_ID"]}', 'invalid', 'PayPal has seen this number before, maybe for the same payment: look for it before another one is used.'),
	('paypal_permission', 110, '{"details.*.issue": ["PERMISSION_DENIED*", "PERMISSION_NOT_GRANTED", "PAYEE_ACCOUNT_RESTRICTED", "PAYEE_ACCOUNT_LOCKED_OR_CLOSED", "PAYEE_ACCOUNT_NOT_VERIFIED", "PAYEE_NOT_ENABLED_*", "NOT_ENABLED_*", "NOT_ELIGIBLE_*", "AUTH_CAPTURE_NOT_ENABLED", "SETUP_ERROR_FOR_BANK", "TRANSACTION_RECEIVING_LIMIT_EXCEEDED"]}', 'permission', 'Our PayPal account or app may not do this: see whether it is restricted, and what it has been granted.'),
	('paypal_key', 110, '{"name": ["AUTHENTICATION_FAILURE", "INVALID_TOKEN"]}', 'auth', 'PayPal does not accept the access token: fetch a new one; if that goes on, see whether client id and secret belong together, and to this environment.'),
	('paypal_not_authorized', 115, '{"name": ["NOT_AUTHORIZED", "PERMISSION_DENIED"]}', 'permission', 'Our PayPal account or app may not do this: see what it has been granted.'),
	('paypal_rate_limit', 110, '{"name": "RATE_LIMIT_REACHED"}', 'rate_limit', 'More requests than PayPal grants: repeat it after a while, and send fewer.'),
	('paypal_conflict', 115, '{"name": "RESOURCE_CONFLICT"}', 'transient', 'Another request changes the same thing at PayPal: repeat it with the same request id.'),
	('paypal_transient', 115, '{"name": ["INTERNAL_SERVER_ERROR", "INTERNAL_SERVICE_ERROR", "SERVICE_UNAVAILABLE"]}', 'transient', 'Something failed at PayPal for a moment: repeat it with the same request id.'),
	('paypal_capture_declined', 120, '{"status,purchase_units.*.payments.*.*.status": ["DECLINED", "DENIED"]}', 'declined', 'PayPal or the bank declined the payment, in an answer that is fine otherwise: the customer has to pay in another way, and nothing is booked.'),
	('paypal_capture_failed', 125, '{"status,purchase_units.*.payments.*.*.status": "FAILED"}', 'unknown', 'PayPal says in an answer that is fine otherwise that it failed: fetch the payment, and book nothing before it says what became of it.'),
	('paypal_invalid', 120, '{"name": ["UNPROCESSABLE_ENTITY", "INVALID_REQUEST", "RESOURCE_NOT_FOUND", "METHOD_NOT_SUPPORTED", "UNSUPPORTED_MEDIA_TYPE"]}', 'invalid', 'PayPal cannot grant the request as it is: the issue says what is wrong with it.')) r (rule, priority, body, class, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, 'paypal', NULL, r.body::pg_catalog.jsonb, '{}', CASE r.rule WHEN 'paypal_pending_capture' THEN false END, NULL, NULL, r.priority, r.advice);

/*
 * Stripe.  Its advice outranks the code of the decline; a decline is kept under
 * the idempotency key, so that the same request gets the same answer: none is
 * repeated, but some are worth a new attempt with a new key.  A refused attempt
 * leaves a payment intent behind.  Types are not to be relied on.  What is fetched
 or made with status 200 may have failed, too: intents, charges and refunds.
 */
SELECT FROM (VALUES
	('stripe_replayed', 90, '5xx', '{}', '{"idempotent-replayed": "true"}', 'transient', false,
		'Stripe repeats the failure that it has kept under this idempotency key, and will go on to: look for the object that was to be made before a new key is used.'),
	('stripe_succeeded', 90, '2xx', '{"object": ["payment_intent", "setup_intent"], "status": ["succeeded", "processing", "requires_capture"]}', '{}', 'unknown', NULL,
		'This is no failure, whatever an attempt before it was: look at the status of the intent, and book what it says.'),
	('stripe_never', 95, NULL, '{"error.advice_code,advice_code,last_payment_error.advice_code,last_setup_error.advice_code": "do_not_try_again"}', '{}', 'declined', NULL,
		'The card was declined for good: it must not be tried again. Cancel the payment intent, and ask the customer for another card.'),
	('stripe_card_data', 95, NULL, '{"error.advice_code,advice_code,last_payment_error.advice_code,last_setup_error.advice_code": "confirm_card_data"}', '{}', 'declined', NULL,
		'The card was declined because something of it is wrong: ask the customer to check its number, date and code.'),
	('stripe_later', 95, NULL, '{"error.advice_code,advice_code,last_payment_error.advice_code,last_setup_error.advice_code": "try_again_later"}', '{}', 'declined', NULL,
		'The card was declined this time: a new attempt, with a new key, may go well another day; do not make more than eight.'),
	('stripe_declined_never', 100, NULL, '{"error.decline_code,decline_code,last_payment_error.decline_code,last_setup_error.decline_code": ["card_not_supported", "currency_not_supported", "do_not_try_again", "fraudulent", "invalid_account", "lost_card", "merchant_blacklist", "not_permitted", "pickup_card", "restricted_card", "revocation_of_*authorization*", "security_violation", "service_not_allowed", "stolen_card", "stop_payment_order", "testmode_decline", "transaction_not_allowed"]}', '{}', 'declined', NULL,
		'The card was declined for good: it must not be tried again. Cancel the payment intent, and ask the customer for another card.'),
	('stripe_authentication', 100, NULL, '{"error.decline_code,decline_code,last_payment_error.decline_code,last_setup_error.decline_code,error.code,code,last_payment_error.code,last_setup_error.code": ["authentication_required", "authentication_not_handled", "mobile_device_authentication_required", "payment_intent_authentication_failure", "setup_intent_authentication_failure"]}', '{}', 'declined', NULL,
		'The customer''s bank wants them to confirm the payment: bring them back to do it. The attempt has left a payment intent, which is confirmed or cancelled.'),
	('stripe_requires_action', 100, '402', '{"error.message": "*error_on_requires_action*"}', '{}', 'declined', NULL,
		'The customer''s bank wants them to confirm the payment, which was not to be asked for: bring them back to do it.'),
	('stripe_declined_customer', 100, NULL, '{"error.decline_code,decline_code,last_payment_error.decline_code,last_setup_error.decline_code": ["call_issuer", "do_not_honor", "duplicate_transaction", "expired_card", "incorrect_*", "invalid_*", "!invalid_account", "new_account_information_available", "offline_pin_required", "online_or_offline_pin_required", "pin_try_exceeded"]}', '{}', 'declined', NULL,
		'The card was declined until the customer does something: correct it, ask their bank, or use another one.'),
	('stripe_declined_later', 105, NULL, '{"error.decline_code,decline_code,last_payment_error.decline_code,last_setup_error.decline_code": "*"}', '{}', 'declined', NULL,
		'The card was declined this time: a new attempt, with a new key, may go well another day; do not make more than eight.'),
	('stripe_failed_intent', 110, NULL, '{"last_payment_error.type,last_setup_error.type": "card_error"}', '{}', 'declined', NULL,
		'The last attempt was declined, in an answer that is fine otherwise: the customer has to pay in another way.'),
	('stripe_failed_charge', 110, NULL, '{"object": "charge", "status": "failed"}', '{}', 'declined', NULL,
		'The charge was declined, in an answer that is fine otherwise: the customer has to pay in another way.'),
	('stripe_failed_refund', 110, NULL, '{"object": ["refund", "payout"], "status": "failed"}', '{}', 'unknown', NULL,
		'The refund or payout has failed, though it was accepted, and its money is back in our balance: pay it in another way.'),
	('stripe_key_in_use', 100, NULL, '{"error.code": "idempotency_key_in_use"}', '{}', 'transient', NULL,
		'The same request is under way at Stripe: repeat it with the same key, and its result comes.'),
	('stripe_key_reused', 100, NULL, '{"error.type": "idempotency_error"}', '{}', 'invalid', NULL,
		'This idempotency key was used for another request or address before: correct the caller, and look what became of the first before a new key is used.'),
	('stripe_lock_timeout', 100, NULL, '{"error.code": "lock_timeout"}', '{}', 'transient', NULL,
		'Another request holds the same object at Stripe: repeat it, and send what is about one object one after the other.'),
	('stripe_balance', 100, NULL, '{"error.code": ["balance_insufficient", "insufficient_funds"], "error.type": "!card_error"}', '{}', 'billing', NULL,
		'Our own balance at Stripe is too low for this refund or payout: add funds, or wait for what is pending.'),
	('stripe_rate_limit', 110, NULL, '{"error.code,error.type": ["rate_limit", "rate_limit_error"]}', '{}', 'rate_limit', NULL,
		'More requests at once than Stripe grants: repeat it after a while, and send fewer.'),
	('stripe_key', 110, NULL, '{"error.code,error.type": ["authentication_error", "api_key_expired", "platform_api_key_expired"]}', '{}', 'auth', NULL,
		'Stripe does not accept the key: see whether it was rolled, and whether it is one for tests or for real.'),
	('stripe_permission', 110, NULL, '{"error.code,error.type": ["testmode_charges_only", "more_permissions_required*", "permission_error", "secret_key_required", "account_invalid", "livemode_mismatch"]}', '{}', 'permission', NULL,
		'The Stripe key or account may not do this: see which rights it has.'),
	('stripe_card', 120, NULL, '{"error.type": "card_error"}', '{}', 'declined', NULL,
		'The card was declined: the customer has to pay in another way.'),
	('stripe_api', 120, NULL, '{"error.type": ["api_error", "api_connection_error"]}', '{}', 'transient', NULL,
		'Something failed at Stripe for a moment, and nobody knows whether it was done: repeat it with the same idempotency key.'),
	('stripe_dependency', 130, '424', '{}', '{}', 'transient', NULL,
		'Somebody that Stripe depends on has failed: repeat it with the same idempotency key after a while.'),
	('stripe_conflict', 130, '409', '{}', '{}', 'transient', NULL,
		'Another request is at work on the same at Stripe: repeat it with the same idempotency key.'),
	('stripe_failed', 130, '402', '{}', '{}', 'declined', NULL,
		'Stripe took the request, and it failed: the customer has to pay in another way.'),
	('stripe_invalid', 140, '400,404', '{"error.type": "invalid_request_error"}', '{}', 'invalid', NULL,
		'Stripe cannot grant the request as it is: correct what the code and the parameter name, or fetch the object, which may no longer be in that state.')) r (rule, priority, status, body, headers, class, retryable, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, 'stripe', r.status, r.body::pg_catalog.jsonb, r.headers::pg_catalog.jsonb, r.retryable, NULL, NULL, r.priority, r.advice);

/* Codes and words that several vendors use alike, resellers of theirs among them */
SELECT FROM (VALUES
	('billing_code', 300, '4xx,5xx', '{"error.code,error.type,error.details.error_code,code,error_code": ["insufficient_quota", "credit_balance_exhausted", "exceeded_current_quota_error", "1113", "enforced_spend_limit_reached", "*_spend_limit_exceeded", "*_usage_limit_exceeded", "billing_hard_limit_reached", "billing_error", "billing_not_active", "insufficient_credits", "insufficient_balance", "insufficient_user_quota", "payment_required", "Arrearage"]}', 'billing', NULL::boolean,
		'Our account there has nothing left, or has reached a limit on spending: add credit, or raise the limit. Waiting does not help.'),
	('billing_words', 305, '4xx', '{"error.message,message,error,msg,Message,detail,$": ["*insufficient balance*", "*balance is insufficient*", "*insufficient credit*", "*credit balance is too low*", "*exceeded your current quota*", "*out of credits*", "*no credits remaining*", "*\\u4f59\\u989d\\u4e0d\\u8db3*", "*\\u6b20\\u8d39*"]}', 'billing', NULL,
		'Our account there has nothing left: add credit. Waiting does not help.'),
	('card_error', 300, '4xx', '{"error.type,error.code": ["card_error", "card_declined"]}', 'declined', NULL,
		'The card was declined: the customer has to pay in another way.'),
	('rate_limit_code', 310, '4xx,5xx', '{"error.code,error.type,code,error_code": ["rate_limit_exceeded", "rate_limit_error", "rate_limit_reached_error", "too_many_requests", "Throttling", "Throttling.*"]}', 'rate_limit', NULL,
		'More requests at once than are granted: repeat it after the wait, and send fewer.'),
	('overloaded_code', 310, '4xx,5xx', '{"error.code,error.type,code,error_code": ["overloaded_error", "engine_overloaded_error", "server_is_overloaded", "service_unavailable_error"]}', 'transient', NULL,
		'The server there is overloaded: repeat it after a while.'),
	('key_code', 315, '4xx', '{"error.code,error.type,error.status,code,error_code": ["invalid_api_key", "authentication_error", "invalid_authentication_error", "UNAUTHENTICATED", "InvalidApiKey", "API_KEY_INVALID"]}', 'auth', NULL,
		'The key is not accepted: see whether it is the right one, and still valid.'),
	('minimax_balance', 310, NULL, '{"base_resp.status_code": "1008"}', 'billing', NULL, 'The MiniMax account has no balance left: top it up.'),
	('minimax_key', 310, NULL, '{"base_resp.status_code": ["1004", "2049"]}', 'auth', NULL, 'MiniMax does not accept the key, and says so with status 200: see whether it is the right one, and still valid.'),
	('minimax_rate_limit', 310, NULL, '{"base_resp.status_code": ["1002", "1039"]}', 'rate_limit', NULL, 'More requests or tokens than MiniMax grants: repeat it after a while, and send fewer.'),
	('minimax_transient', 310, NULL, '{"base_resp.status_code": ["1000", "1001", "1013", "1024", "1033"]}', 'transient', NULL, 'Something failed at MiniMax for a moment: repeat it.'),
	('minimax_failed', 315, NULL, '{"base_resp.status_code": "!0"}', 'invalid', NULL, 'MiniMax cannot grant the request as it is, and says so with status 200: whoever sends it has to change it.')) r (rule, priority, status, body, class, retryable, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, NULL, r.status, r.body::pg_catalog.jsonb, '{}', r.retryable, NULL, NULL, r.priority, r.advice);

/*
 * Standards: OAuth, whose word is the text error; problems, of which the type and
 * the title tell and the detail never does.  A key under which a request is
 * outstanding is the only one that may be repeated as it is.
 */
SELECT FROM (VALUES
	('oauth_pending', 320, NULL, '{"error": "authorization_pending"}', 'transient', NULL::boolean, '5 seconds'::interval, NULL::text,
		'Nobody has answered the question at the address yet: ask again after the interval.'),
	('oauth_slow_down', 320, NULL, '{"error": "slow_down"}', 'rate_limit', NULL, '10 seconds', 'interval',
		'The token is asked for too often: add five seconds to the interval, for good.'),
	('oauth_denied', 320, NULL, '{"error": "access_denied"}', 'permission', NULL, NULL, NULL,
		'Whoever was asked has said no: begin anew if that was a mistake.'),
	('oauth_expired', 320, NULL, '{"error": "expired_token"}', 'auth', NULL, NULL, NULL,
		'Nobody has answered in time, and the code is over: begin anew.'),
	('oauth_grant', 320, NULL, '{"error": "invalid_grant"}', 'auth', NULL, NULL, NULL,
		'The code or refresh token was used, revoked, or is over: somebody has to grant it anew.'),
	('oauth_client', 320, NULL, '{"error": "invalid_client"}', 'auth', NULL, NULL, NULL,
		'The client id or its secret is not accepted: see whether they belong together.'),
	('oauth_token', 320, NULL, '{"error": ["invalid_token", "token_expired", "login_required", "interaction_required", "consent_required"]}', 'auth', NULL, NULL, NULL,
		'The token is over or was revoked: fetch a new one.'),
	('oauth_permission', 320, NULL, '{"error": ["unauthorized_client", "insufficient_scope"]}', 'permission', NULL, NULL, NULL,
		'The client or token may not do this: ask for the scope that it lacks.'),
	('oauth_invalid', 320, NULL, '{"error": ["invalid_request", "invalid_scope", "invalid_target", "unsupported_grant_type", "unsupported_response_type"]}', 'invalid', NULL, NULL, NULL,
		'The token server does not understand the request, or does not grant such a scope: whoever set it up has to change it.'),
	('oauth_transient', 320, NULL, '{"error": ["server_error", "temporarily_unavailable"]}', 'transient', NULL, NULL, NULL,
		'The token server fails for a moment: repeat it.'),
	('problem_billing', 320, '4xx', '{"type,title": ["*out-of-credit*", "*insufficient-credit*", "*insufficient-funds*", "*insufficient-balance*", "*payment-required*", "*not have enough credit*", "*insufficient credit*", "*insufficient balance*", "*insufficient funds*"]}', 'billing', NULL, NULL, NULL,
		'Our account there has too little credit: add some. Waiting does not help.'),
	('problem_outstanding', 320, '409', '{"type,title": "*idempotency*"}', 'transient', NULL, NULL, NULL,
		'The same request is under way there: repeat it with the same key, and its result comes.'),
	('problem_key', 320, '400,422', '{"type,title": "*idempotency*"}', 'invalid', NULL, NULL, NULL,
		'The idempotency key is missing, or was used for another request before: correct the caller, and look what became of the first before a new key is used.'),
	('problem_quota', 320, NULL, '{"type": ["*#quota-exceeded", "*#abnormal-usage-detected"]}', 'rate_limit', NULL, NULL, NULL,
		'More requests than are granted: repeat it after the wait, and send fewer.'),
	('problem_capacity', 320, NULL, '{"type": "*#temporary-reduced-capacity"}', 'transient', NULL, NULL, NULL,
		'The server has less capacity for a moment: repeat it after the wait.')) r (rule, priority, status, body, class, retryable, retry_after, wait, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, NULL, r.status, r.body::pg_catalog.jsonb, '{}', r.retryable, r.retry_after, r.wait, r.priority, r.advice);

/* Status 200, and a failure all the same: some write the status that it should have had */
SELECT FROM (VALUES
	('ok_billing', 400, '{"error.code,code,error.status,choices.*.error.code": "402"}', 'billing', NULL::boolean, NULL::text),
	('ok_auth', 400, '{"error.code,code,error.status,choices.*.error.code": "401"}', 'auth', NULL, NULL),
	('ok_permission', 400, '{"error.code,code,error.status,choices.*.error.code": "403"}', 'permission', NULL, NULL),
	('ok_rate_limit', 400, '{"error.code,code,error.status,choices.*.error.code": "429"}', 'rate_limit', NULL, NULL),
	('ok_transient', 400, '{"error.code,code,error.status,choices.*.error.code": ["500", "502", "503", "504", "520", "522", "524", "529"]}', 'transient', NULL, NULL),
	('ok_invalid', 400, '{"error.code,code,error.status,choices.*.error.code": ["400", "404", "422"]}', 'invalid', NULL, NULL),
	('ok_billing_code', 405, '{"error.code,error.type,error.details.error_code": ["insufficient_quota", "insufficient_user_quota", "insufficient_credits", "insufficient_balance", "billing_error", "1113"]}', 'billing', NULL, NULL),
	('ok_rate_limit_code', 405, '{"error.code,error.type": ["rate_limit_exceeded", "rate_limit_error", "rate_limit_reached_error"]}', 'rate_limit', NULL, NULL),
	('ok_overloaded_code', 405, '{"error.code,error.type": ["overloaded_error", "engine_overloaded_error", "server_error", "api_error"]}', 'transient', NULL, NULL),
	('ok_billing_words', 405, '{"error.message,error": ["*insufficient balance*", "*balance is insufficient*", "*insufficient credit*", "*credit balance is too low*", "*exceeded your current quota*", "*out of credits*", "*no credits remaining*", "*\\u4f59\\u989d\\u4e0d\\u8db3*", "*\\u6b20\\u8d39*"]}', 'billing', NULL, NULL),
	('ok_upstream', 405, '{"error.type": ["upstream_error", "one_api_error", "new_api_error"]}', 'transient', false,
		'A server of one-api or new-api could not do what it was asked, and says so with status 200: ask again later, not at once.'),
	('ok_error', 430, '{"error.*,error,choices.*.error.*": ["*", "!", "!false"]}', 'unknown', NULL,
		'The answer says that it failed, though its status is 200: read in its message why, and add a rule with tokenbill.add_error_rule() if it comes again.'),
	('ok_no_success', 430, '{"success,Success": "false"}', 'unknown', NULL,
		'The answer says that it failed, though its status is 200: read in its message why, and add a rule with tokenbill.add_error_rule() if it comes again.')) r (rule, priority, body, class, retryable, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, NULL, '2xx', r.body::pg_catalog.jsonb, '{}', r.retryable, NULL, NULL, r.priority,
	COALESCE(r.advice, tokenbill.class_advice(r.class)));

/* Statuses alone (RFC 9110 15, RFC 6585); 520 to 530 and 598, 599 are those of proxies */
SELECT FROM (VALUES
	('no_answer', '0', 'transient', NULL::text),
	('status_redirect', '3xx', 'invalid', 'The address has moved, and no redirect is followed: correct it.'),
	('status_unauthorized', '401,407', 'auth', NULL),
	('status_payment_required', '402', 'billing', NULL),
	('status_forbidden', '403,451', 'permission', NULL),
	('status_not_found', '404,410', 'invalid', 'There is nothing at this address, or not for this key: see whether the address and the name of the model are right.'),
	('status_timeout', '408', 'transient', NULL),
	('status_too_large', '413,414,431', 'invalid', 'The request is too large: send less.'),
	('status_busy', '421,423,425', 'transient', NULL),
	('status_too_many', '429', 'rate_limit', NULL),
	('status_client', '4xx', 'invalid', NULL),
	('status_not_supported', '501,505', 'invalid', 'The server there cannot do this at all: see whether the address is right, and what the vendor has in its place.'),
	('status_overloaded', '503,529', 'transient', 'The server there is overloaded, or down for a moment: repeat it after a while with the same idempotency key.'),
	('status_server', '5xx', 'transient', NULL)) r (rule, status, class, advice)
CROSS JOIN LATERAL tokenbill.add_error_rule(r.rule, r.class, NULL, r.status, priority => CASE r.rule WHEN 'status_client' THEN 901 WHEN 'status_server' THEN 901 ELSE 900 END,
	advice => COALESCE(r.advice, tokenbill.class_advice(r.class)));

UPDATE tokenbill.error_rule SET builtin = true;
