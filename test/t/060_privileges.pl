# Who may do what, over real logins: the four roles, a login with none of them,
# and tenants. Every function, view and table of the schema is in the matrix;
# one that is not makes the test fail.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Tokenbill::Server;

my $server = Tokenbill::Server->new('main');
# setting a secret takes a key
$server->begin(conf => [ "tokenbill.key_command = 'printf %064d 7'" ]);
my $admin = $server->client;
$admin->rows($_) foreach (
	'CREATE ROLE app LOGIN IN ROLE tokenbill_app',
	'CREATE ROLE billing LOGIN IN ROLE tokenbill_billing',
	'CREATE ROLE reader LOGIN IN ROLE tokenbill_reader',
	'CREATE ROLE admin LOGIN IN ROLE tokenbill_admin',
	'CREATE ROLE nobody LOGIN',
	# a tenant with all that could be granted to one by mistake
	'CREATE ROLE tenant LOGIN IN ROLE tokenbill_app, tokenbill_reader',
	'CREATE ROLE greedy LOGIN IN ROLE tokenbill_admin',
	# one whose login is not mapped, but the role it takes is
	'CREATE ROLE web LOGIN NOINHERIT',
	'CREATE ROLE web_ann IN ROLE tokenbill_app',
	'GRANT web_ann, tokenbill_app TO web',
	'GRANT CREATE ON SCHEMA public TO tenant, greedy, nobody',
	"SELECT tokenbill.create_account(a, credit_limit => 10) FROM unnest('{ann,bob}'::text[]) a",
	"SELECT tokenbill.recharge('ann', 10, 'order-1'), tokenbill.recharge('bob', 10, 'order-2')",
	"SELECT tokenbill.set_price('gpt', 'tokens', 0.001)",
	"SELECT tokenbill.add_provider('upstream', 'manual')",
	"SELECT tokenbill.record_provider_balance('upstream', 100)",
	"SELECT tokenbill.set_price('gpt', 'tokens', 0.0007, account => 'bob')",
	"SELECT tokenbill.charge_amount(a, 1, 'paid') FROM unnest('{ann,bob}'::text[]) a",
	"SELECT tokenbill.hold(a, 1, 'h') FROM unnest('{ann,bob}'::text[]) a",);
my %token = map { $_ => $admin->value('SELECT tokenbill.issue_token($1)', $_) } qw(ann bob);
my $used = $admin->value("SELECT tokenbill.issue_token('bob')");
$admin->value("SELECT tokenbill.charge_amount('bob', 1, \$1)", $used);

# ---- the matrix: function => [ who may, a call that works ]
my %granted = (
	charge => [ 'app admin', "SELECT tokenbill.charge('ann', 'gpt', '{\"tokens\": 1}', '%k')" ],
	charge_tokens => [ 'app admin', "SELECT tokenbill.charge_tokens('ann', 'gpt', 1, '%k')" ],
	charge_amount => [ 'app admin', "SELECT tokenbill.charge_amount('ann', 0.01, '%k')" ],
	charge_batch => [ 'app admin', "SELECT * FROM tokenbill.charge_batch('[{\"account\": \"ann\", \"amount\": 0.01, \"idempotency_key\": \"%k\"}]')" ],
	quote => [ 'app billing admin', "SELECT * FROM tokenbill.quote('ann', 'gpt', '{\"tokens\": 1}')" ],
	hold => [ 'app admin', "SELECT tokenbill.hold('ann', 0.01, '%k')" ],
	extend_hold => [ 'app admin', "SELECT tokenbill.extend_hold('ann', 'h', ttl => '1 hour')" ],
	capture => [ 'app admin', "SELECT tokenbill.capture('ann', 'h', amount => 0.01, idempotency_key => '%k', final => false)" ],
	release => [ 'app admin', "SELECT tokenbill.release('ann', '%k')", 'PT404' ],
	issue_token => [ 'app admin', "SELECT tokenbill.issue_token('ann')" ],
	token_result => [ 'app admin', "SELECT tokenbill.token_result('ann', '%k')", 'PT404' ],
	balance_at => [ 'app billing reader admin', "SELECT tokenbill.balance_at('ann', '2030-01-01')" ],
	create_account => [ 'billing admin', "SELECT tokenbill.create_account('%k')" ],
	recharge => [ 'billing admin', "SELECT tokenbill.recharge('ann', 1, '%k')" ],
	refund => [ 'billing admin', "SELECT tokenbill.refund('ann', 'paid', '%k', 0.01)" ],
	grant_credit => [ 'billing admin', "SELECT tokenbill.grant_credit('ann', 0.01, '%k')" ],
	explain_burn => [ 'app billing reader admin', "SELECT * FROM tokenbill.explain_burn('ann', 1)" ],
	expire_credits => [ 'admin', 'SELECT tokenbill.expire_credits()' ],
	set_burn_order => [ 'admin', "SELECT tokenbill.set_burn_order('mine', '{oldest}')" ],
	set_price => [ 'billing admin', "SELECT tokenbill.set_price('%k', 'tokens', 0.001)" ],
	count_characters => [ 'app billing admin', "SELECT tokenbill.count_characters('a'::text)" ],
	count_graphemes => [ 'app billing admin', "SELECT tokenbill.count_graphemes('a'::text)" ],
	count_words => [ 'app billing admin', "SELECT tokenbill.count_words('a'::text)" ],
	count_images => [ 'app billing admin', q{SELECT tokenbill.count_images('{"n": 1}')} ],
	count_pixels => [ 'app billing admin', q{SELECT tokenbill.count_pixels('{"size": "2x2"}')} ],
	count_seconds => [ 'app billing admin', q{SELECT tokenbill.count_seconds('{"seconds": 1}')} ],
	count_requests => [ 'app billing admin', q{SELECT tokenbill.count_requests('{}')} ],
	count_sum => [ 'app billing admin', q{SELECT tokenbill.count_sum('{"tokens": 1}', '{"meters": {"tokens": 1}}')} ],
	set_meter_function => [ 'admin', "SELECT tokenbill.set_meter_function('words', 'tokenbill.count_words(jsonb, jsonb)', '%k')" ],
	verify_ledger => [ 'reader admin', 'SELECT * FROM tokenbill.verify_ledger()' ],
	set_account_status => [ 'admin', "SELECT tokenbill.set_account_status('ann', 'active')" ],
	set_credit_limit => [ 'admin', "SELECT tokenbill.set_credit_limit('ann', 10)" ],
	set_cost => [ 'billing admin', "SELECT tokenbill.set_cost('%k', 'tokens', 0.001)" ],
	import_prices => [ 'billing admin', "SELECT tokenbill.import_prices('{\"%k\": {\"input_cost_per_token\": 1e-6}}')" ],
	read_catalog => [ 'billing admin', "SELECT tokenbill.read_catalog('{\"%k\": {\"input_cost_per_token\": 1e-6}}')" ],
	set_price_group => [ 'billing admin', "SELECT tokenbill.set_price_group('ann', NULL)" ],
	reprice => [ 'billing admin', "SELECT * FROM tokenbill.reprice('ann', NULL, '2026-01-01', '2026-01-02')" ],
	unit_price_above => [ 'billing reader admin', "SELECT tokenbill.unit_price_above(1, NULL, 0)" ],
	warn_below_cost => [ '', "SELECT tokenbill.warn_below_cost('a')" ],
	set_service => [ 'billing admin', "SELECT tokenbill.set_service('%k')" ],
	set_markup => [ 'billing admin', "SELECT tokenbill.set_markup(0, '%k')" ],
	set_discount => [ 'billing admin', "SELECT tokenbill.set_discount(0, '%k')" ],
	set_meter => [ 'billing admin', "SELECT tokenbill.set_meter('meter_of_' || md5('%k'))" ],
	add_provider => [ 'admin', "SELECT tokenbill.add_provider('%k', 'manual')" ],
	set_provider => [ 'admin', "SELECT tokenbill.set_provider('upstream', low_balance => 1)" ],
	drop_provider => [ 'admin', "SELECT tokenbill.drop_provider('%k')", 'PT404' ],
	drop_provider_balance => [ 'admin', "SELECT tokenbill.drop_provider_balance('%k', 'USD')", 'PT404' ],
	check_provider_now => [ 'admin', "SELECT tokenbill.check_provider_now('upstream')", 'PT409' ],
	add_preset => [ 'admin', "SELECT tokenbill.add_preset('preset_' || md5('%k'))" ],
	add_preset_request => [ 'admin', "SELECT tokenbill.add_preset_request('nowhere', '/', '\$.a')", 'PT404' ],
	drop_preset => [ 'admin', "SELECT tokenbill.drop_preset('nowhere')", 'PT404' ],
	record_provider_balance => [ 'billing admin', "SELECT tokenbill.record_provider_balance('upstream', 5)" ],
	expire_provider_history => [ 'admin', 'SELECT tokenbill.expire_provider_history()' ],
	set_account_policy => [ 'admin', "SELECT tokenbill.set_account_policy('ann', overflow => 'refuse')" ],
	expire_holds => [ 'admin', 'SELECT tokenbill.expire_holds()' ],
	make_ledger_month => [ 'admin', "SELECT tokenbill.make_ledger_month('2031-01-01')" ],
	make_ledger_months => [ 'admin', 'SELECT tokenbill.make_ledger_months(1)' ],
	seal_ledger_month => [ 'admin', "SELECT tokenbill.seal_ledger_month('2001-01-01')", 'PT404' ],
	drop_ledger_month => [ 'admin', "SELECT tokenbill.drop_ledger_month('2099-01-01')", 'PT409' ],
	set_secret => [ 'admin', "SELECT tokenbill.set_secret('%k', 'value')" ],
	drop_secret => [ 'admin', "SELECT tokenbill.drop_secret('%k')", 'PT404' ],
	rotate_key => [ 'admin', 'CALL tokenbill.rotate_key()' ],
	rotation_runs => [ 'admin', 'SELECT tokenbill.rotation_runs(1, now())' ],
	hide_statement => [ '', 'SELECT tokenbill.hide_statement()' ],
	map_tenant => [ 'admin', "SELECT tokenbill.map_tenant('no such login', 'ann')", '42704' ],
	unmap_tenant => [ 'admin', "SELECT tokenbill.unmap_tenant('no such login')" ],
	normalize_usage => [ 'app billing reader admin', "SELECT tokenbill.normalize_usage('{\"tokens\": 1}')" ],
	describe_usage => [ 'app billing reader admin', "SELECT tokenbill.describe_usage('{\"tokens\": 1}')" ],
	visible => [ 'app billing reader admin', "SELECT tokenbill.visible('ann')" ],
	clock => [ 'app billing reader admin', 'SELECT tokenbill.clock()' ],
	set_spend_limit => [ 'billing admin', "SELECT tokenbill.set_spend_limit('ann', 1000, 'day')" ],
	set_rate_limit => [ 'billing admin', "SELECT tokenbill.set_rate_limit('ann', 'requests', 100000, 'day')" ],
	drop_limit => [ 'billing admin', "SELECT tokenbill.drop_limit('ann', '%k')" ],
	limit_state => [ 'app billing reader admin', "SELECT tokenbill.limit_state('ann', 'spend:day')" ],
	set_limit => [ '', "SELECT tokenbill.set_limit('ann', 'spend', 1, 'day', NULL, NULL, 'UTC', 'refuse', NULL)" ],
	limit_window => [ '', "SELECT tokenbill.limit_window('day', 'UTC', now())" ],
	limit_lines => [ '', "SELECT * FROM tokenbill.limit_lines('ann', 'spend', NULL, NULL)" ],
	limit_held => [ '', "SELECT tokenbill.limit_held('ann', 'spend', NULL, NULL)" ],
	line_tokens => [ '', "SELECT tokenbill.line_tokens('{}', '{}')" ],
	check_text => [ '', "SELECT tokenbill.check_text('a', 'b', 10)" ],
	check_amount => [ '', "SELECT tokenbill.check_amount('a', 1)" ],
	check_metadata => [ '', "SELECT tokenbill.check_metadata('a', '{}')" ],
	check_time => [ '', "SELECT tokenbill.check_time('a', now())" ],
	check_currency => [ '', "SELECT tokenbill.check_currency('USD')" ],
	check_signed => [ '', "SELECT tokenbill.check_signed('a', -1)" ],
	check_span => [ '', "SELECT tokenbill.check_span('a', '1 day', '1 hour', '2 days')" ],
	mask_card => [ 'app billing reader admin', "SELECT tokenbill.mask_card('x')" ],
	redact => [ 'app billing reader admin', "SELECT tokenbill.redact('x')" ],
	retry_after => [ 'app admin', "SELECT tokenbill.retry_after('{}', 429)" ],
	refused_address => [ 'admin', "SELECT tokenbill.refused_address('::1')" ],
	check_provider => [ '', "SELECT tokenbill.check_provider('a')" ],
	refuse_provider => [ '', "SELECT tokenbill.refuse_provider('a')" ],
	check_provider_fits => [ '', 'SELECT tokenbill.check_provider_fits(NULL)' ],
	check_provider_arguments => [ '', 'SELECT tokenbill.check_provider_arguments(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)' ],
	check_preset => [ '', "SELECT tokenbill.check_preset('a')" ],
	find_preset => [ '', "SELECT tokenbill.find_preset('manual')" ],
	percent_encode => [ '', "SELECT tokenbill.percent_encode('a')" ],
	check_base_url => [ '', "SELECT tokenbill.check_base_url('https://a')" ],
	check_templates => [ '', "SELECT tokenbill.check_templates('a', '{}', 'b')" ],
	check_path => [ '', "SELECT tokenbill.check_path('a', '\$', false)" ],
	repeated_member => [ '', "SELECT tokenbill.repeated_member('{}')" ],
	short_text => [ '', "SELECT tokenbill.short_text('a')" ],
	parse_answer => [ '', "SELECT tokenbill.parse_answer('')" ],
	read_number => [ '', "SELECT tokenbill.read_number('1', '\$', false, NULL)" ],
	read_currency => [ '', "SELECT tokenbill.read_currency('1', NULL)" ],
	read_answer => [ '', "SELECT tokenbill.read_answer(NULL, 'USD', '1')" ],
	http_problem => [ '', "SELECT tokenbill.http_problem(500, true, 'a', 'b')" ],
	check_error_rule => [ '', "SELECT tokenbill.check_error_rule('a', 'b')" ],
	check_conditions => [ '', "SELECT tokenbill.check_conditions('a', '{}', 'b', 'c')" ],
	class_advice => [ '', "SELECT tokenbill.class_advice('auth')" ],
	add_error_rule => [ 'admin', "SELECT tokenbill.add_error_rule('rule_' || md5('%k'), 'auth', status => '418')" ],
	drop_error_rule => [ 'admin', "SELECT tokenbill.drop_error_rule('rule')", 'PT404' ],
	match_error => [ '', "SELECT tokenbill.match_error('a', 500, '', '{}')" ],
	text_bytes => [ '', "SELECT tokenbill.text_bytes('a')" ],
	classify => [ '', "SELECT tokenbill.classify('a', 500, '', '{}')" ],
	vendor_of => [ '', "SELECT tokenbill.vendor_of('a')" ],
	classify_error => [ 'app billing reader admin', "SELECT tokenbill.classify_error('a', 500, '{}')" ],
	latency_bounds => [ 'reader admin', 'SELECT tokenbill.latency_bounds()' ],
	check_phase => [ '', "SELECT tokenbill.check_phase('a')" ],
	next_slot => [ '', "SELECT tokenbill.next_slot(now(), '1 min', now())" ],
	schedule_check => [ '', 'SELECT tokenbill.schedule_check(NULL)' ],
	template_variable => [ '', "SELECT tokenbill.template_variable('today', NULL, NULL)" ],
	fill_template => [ '', "SELECT tokenbill.fill_template('a', NULL, NULL, 'path')" ],
	check_call => [ '', 'SELECT tokenbill.check_call(NULL, NULL, 1, NULL)' ],
	retry_delays => [ '', 'SELECT tokenbill.retry_delays()' ],
	backoff => [ '', "SELECT tokenbill.backoff('1 s', 1, '1 min')" ],
	capped_retry_after => [ '', "SELECT tokenbill.capped_retry_after('{}', 503)" ],
	retry_delay => [ '', 'SELECT tokenbill.retry_delay(1)' ],
	report_check => [ '', "SELECT tokenbill.report_check(NULL, NULL, NULL, 'a')" ],
	end_check => [ '', 'SELECT tokenbill.end_check(NULL, true)' ],
	fail_check => [ '', "SELECT tokenbill.fail_check(NULL, 'a')" ],
	lease_end => [ '', 'SELECT tokenbill.lease_end()' ],
	ledger_cost => [ '', 'SELECT tokenbill.ledger_cost(NULL, now(), now())' ],
	check_ledger => [ '', 'SELECT tokenbill.check_ledger(NULL, NULL)' ],
	claim_checks => [ '', 'SELECT tokenbill.claim_checks(1)' ],
	add_up_check => [ '', "SELECT tokenbill.add_up_check(NULL, 'asked', '{}')" ],
	record_check => [ '', "SELECT tokenbill.record_check('a', 1, 200, '{}', '', NULL, NULL, 1)" ],
	next_check_due => [ '', 'SELECT tokenbill.next_check_due()' ],
	index_ledger_month => [ '', "SELECT tokenbill.index_ledger_month('ledger_2026_01')" ],
	release_checks => [ '', 'SELECT tokenbill.release_checks(false)' ],
	put_provider_balance => [ '', "SELECT tokenbill.put_provider_balance(NULL, 'USD', 1, now(), NULL)" ],
	check_meter => [ '', "SELECT tokenbill.check_meter('a', 'b')" ],
	check_usage_format => [ '', "SELECT tokenbill.check_usage_format('a', 'auto')" ],
	warn_imported_below_cost => [ '', "SELECT tokenbill.warn_imported_below_cost('{}')" ],
	check_catalog => [ '', "SELECT tokenbill.check_catalog('{}')" ],
	check_rate => [ '', 'SELECT tokenbill.check_rate(1, 1)' ],
	check_tiers => [ '', "SELECT tokenbill.check_tiers('flat', NULL, 1)" ],
	put_price => [ '', 'SELECT tokenbill.put_price(NULL)' ],
	refuse_account => [ '', "SELECT tokenbill.refuse_account('a')" ],
	may_change => [ '', 'SELECT tokenbill.may_change(NULL)' ],
	record_worker_error => [ '', "SELECT tokenbill.record_worker_error('a', 'b', 'XX000', 'c')" ],
	wake_worker => [ '', 'SELECT tokenbill.wake_worker()' ],
	worker_state => [ 'reader admin', 'SELECT tokenbill.worker_state()' ],
	run_upkeep => [ '', 'SELECT tokenbill.run_upkeep()' ],
	do_upkeep => [ '', "SELECT tokenbill.do_upkeep('expired holds')" ],
	rest_upkeep => [ '', "SELECT tokenbill.rest_upkeep('expired holds')" ],
	upkeep_due => [ '', 'SELECT * FROM tokenbill.upkeep_due()' ],
	due => [ '', 'SELECT * FROM tokenbill.due()' ],
	claim_calls => [ '', 'SELECT * FROM tokenbill.claim_calls(1)' ],
	record_call => [ '', "SELECT * FROM tokenbill.record_call('provider', 'a', 1, 200, '{}', '', NULL, NULL, 1)" ],
	release_claims => [ '', 'SELECT tokenbill.release_claims(false)' ],
	next_month_due => [ '', 'SELECT tokenbill.next_month_due()' ],
	metrics_text => [ 'reader admin', 'SELECT tokenbill.metrics_text()' ],
	counters => [ 'reader admin', 'SELECT * FROM tokenbill.counters()' ],
	count_refusal => [ '', "SELECT tokenbill.count_refusal('PT402')" ],
	refuse => [ '', "SELECT tokenbill.refuse('PT402', 'a', '{}', 'b')" ],
	set_oauth_client => [ 'admin', "SELECT tokenbill.set_oauth_client('%k', 'client_credentials', 'https://example.org/token', 'us')" ],
	drop_oauth_client => [ 'admin', "SELECT tokenbill.drop_oauth_client('%k')", 'PT404' ],
	oauth_device_begin => [ 'admin', "SELECT tokenbill.oauth_device_begin('%k')", 'PT404' ],
	oauth_device_login => [ 'admin', "CALL tokenbill.oauth_device_login('%k')", 'PT404' ],
	oauth_refresh => [ 'admin', "SELECT tokenbill.oauth_refresh('%k')", 'PT404' ],
	set_breaker => [ 'admin', "SELECT tokenbill.set_breaker('gateway', '%k')" ],
	set_alert_rule => [ 'admin', "SELECT tokenbill.set_alert_rule('provider_low')" ],
	set_credential_expiry => [ 'admin', "SELECT tokenbill.set_credential_expiry('%k', '2030-01-01')" ],
	set_low_balance => [ 'billing admin', "SELECT tokenbill.set_low_balance('ann', 5)" ],
	evaluate_alerts => [ 'admin', 'SELECT tokenbill.evaluate_alerts()' ],
	expire_alerts => [ 'admin', 'SELECT tokenbill.expire_alerts()' ],
	add_alert_webhook => [ 'admin', "SELECT tokenbill.add_alert_webhook('%k', 'https://example.org/')" ],
	set_alert_webhook => [ 'admin', "SELECT tokenbill.set_alert_webhook('%k')", 'PT404' ],
	drop_alert_webhook => [ 'admin', "SELECT tokenbill.drop_alert_webhook('%k')", 'PT404' ],
	alert_conditions => [ '', 'SELECT * FROM tokenbill.alert_conditions()' ],
	tell_alert => [ '', "SELECT tokenbill.tell_alert(1, 'raised')" ],
	next_alert_due => [ '', 'SELECT tokenbill.next_alert_due()' ],
	next_alert_look => [ '', 'SELECT tokenbill.next_alert_look()' ],
	next_alert_change => [ '', 'SELECT tokenbill.next_alert_change()' ],
	low_balances_due => [ '', 'SELECT tokenbill.low_balances_due()' ],
	alert_marks => [ '', 'SELECT * FROM tokenbill.alert_marks()' ],
	next_alert_expiry => [ '', 'SELECT tokenbill.next_alert_expiry()' ],
	check_no_tenant => [ '', "SELECT tokenbill.check_no_tenant('a')" ],
	check_alert_kind => [ '', "SELECT tokenbill.check_alert_kind('a', 'provider_low')" ],
	check_webhook => [ '', "SELECT tokenbill.check_webhook('a', NULL, NULL, NULL)" ],
	check_webhook_secret => [ '', 'SELECT tokenbill.check_webhook_secret(NULL)' ],
	refuse_webhook => [ '', "SELECT tokenbill.refuse_webhook('a')" ],
	queue_webhooks => [ '', "SELECT tokenbill.queue_webhooks(1, 'provider_low', 'a', 1, '{}')" ],
	pending_webhooks => [ '', 'SELECT * FROM tokenbill.pending_webhooks()' ],
	next_webhook_due => [ '', 'SELECT tokenbill.next_webhook_due()' ],
	claim_webhooks => [ '', 'SELECT * FROM tokenbill.claim_webhooks(1)' ],
	release_webhooks => [ '', 'SELECT tokenbill.release_webhooks(false)' ],
	webhook_delay => [ '', 'SELECT tokenbill.webhook_delay(1)' ],
	record_webhook => [ '', "SELECT * FROM tokenbill.record_webhook('a', 1, 200, '{}', NULL, NULL, NULL, 1)" ],
	breaker_allows => [ '', "SELECT tokenbill.breaker_allows('gateway', '%k')" ],
	breaker_retry_at => [ '', "SELECT tokenbill.breaker_retry_at('gateway', '%k')" ],
	breaker_note => [ '', "SELECT tokenbill.breaker_note('gateway', '%k', true, 1)" ],
	ask_with_token => [ '', "SELECT tokenbill.ask_with_token(NULL::text)" ],
	check_endpoint => [ '', "SELECT tokenbill.check_endpoint(NULL::text, NULL::text)" ],
	check_jwt_object => [ '', "SELECT tokenbill.check_jwt_object(NULL::text, NULL::jsonb)" ],
	check_oauth_client => [ '', "SELECT tokenbill.check_oauth_client(NULL::tokenbill.oauth_client)" ],
	claim_devices => [ '', "SELECT tokenbill.claim_devices(NULL::integer)" ],
	claim_tokens => [ '', "SELECT tokenbill.claim_tokens(NULL::integer)" ],
	clock_offset => [ '', "SELECT tokenbill.clock_offset(NULL::jsonb)" ],
	end_authorization => [ '', "SELECT tokenbill.end_authorization(NULL::text, NULL::text)" ],
	end_device_grant => [ '', "SELECT tokenbill.end_device_grant(NULL::bigint, NULL::text, NULL::text)" ],
	forget_token_secrets => [ '', "SELECT tokenbill.forget_token_secrets(NULL::text, NULL::text[])" ],
	jwt_to_sign => [ '', "SELECT tokenbill.jwt_to_sign(NULL::tokenbill.oauth_client, NULL::interval)" ],
	lacks_token => [ '', "SELECT tokenbill.lacks_token(NULL::tokenbill.provider)" ],
	missing_in_token => [ '', "SELECT tokenbill.missing_in_token(NULL::jsonb, NULL::jsonb)" ],
	next_device_due => [ '', "SELECT tokenbill.next_device_due()" ],
	next_token_due => [ '', "SELECT tokenbill.next_token_due()" ],
	note_clock_offset => [ '', "SELECT tokenbill.note_clock_offset(NULL::text, NULL::jsonb)" ],
	note_credential => [ '', "SELECT tokenbill.note_credential(NULL::text, NULL::timestamptz)" ],
	oauth_call => [ '', "SELECT tokenbill.oauth_call(NULL::tokenbill.oauth_client, NULL::text, NULL::bigint, NULL::text, NULL::jsonb, NULL::jsonb)" ],
	put_sealed_secret => [ '', "SELECT tokenbill.put_sealed_secret(NULL::text, NULL::jsonb)" ],
	read_oauth_answer => [ '', "SELECT tokenbill.read_oauth_answer(NULL::integer, NULL::bytea, NULL::text)" ],
	read_seconds => [ '', "SELECT tokenbill.read_seconds(NULL::jsonb, VARIADIC NULL::text[])" ],
	record_device => [ '', "SELECT tokenbill.record_device(NULL::text, NULL::bigint, NULL::integer, NULL::jsonb, NULL::bytea, NULL::text, NULL::text, NULL::jsonb)" ],
	record_token => [ '', "SELECT tokenbill.record_token(NULL::text, NULL::bigint, NULL::integer, NULL::jsonb, NULL::bytea, NULL::text, NULL::text, NULL::jsonb)" ],
	refuse_oauth_client => [ '', "SELECT tokenbill.refuse_oauth_client(NULL::text)" ],
	release_devices => [ '', "SELECT tokenbill.release_devices(true)" ],
	release_tokens => [ '', "SELECT tokenbill.release_tokens(true)" ],
	renewal_at => [ '', "SELECT tokenbill.renewal_at(NULL::timestamptz, NULL::timestamptz)" ],
	schedule_token => [ '', "SELECT tokenbill.schedule_token(NULL::tokenbill.oauth_client, NULL::text)" ],
	store_token => [ '', "SELECT tokenbill.store_token(NULL::tokenbill.oauth_client, NULL::bigint, NULL::timestamptz, NULL::jsonb, NULL::jsonb, NULL::integer)" ],
	token_delay => [ '', "SELECT tokenbill.token_delay(NULL::integer, NULL::interval)" ],
	token_problem => [ '', "SELECT tokenbill.token_problem(NULL::text)" ],
	token_refused => [ '', "SELECT tokenbill.token_refused(NULL::text, NULL::jsonb)" ],
	token_secret => [ '', "SELECT tokenbill.token_secret(NULL::text, NULL::text)" ],
	# triggers cannot be called by anybody
	only_moves => [ undef ],
	forget_breaker => [ undef ],
	forward_only => [ undef ],
	refuse_change => [ undef ],
	forget_prices => [ undef ],
	forget_burn_order => [ undef ],
	forget_error_rules => [ undef ],
	forget_tenants => [ undef ],);
my %readable = (
	balances => 'app billing reader admin',
	statement => 'app billing reader admin',
	holds => 'app billing reader admin',
	credits => 'app billing reader admin',
	burn_orders => 'reader admin',
	recharge_orders => 'app billing reader admin',
	prices => 'app billing reader admin',
	usage_daily => 'reader admin',
	provider_balances => 'reader admin',
	provider_history => 'reader admin',
	provider_presets => 'reader admin',
	provider_checks => 'reader admin',
	margin_daily => 'reader admin',
	prices_below_cost => 'billing reader admin',
	suspense => 'billing reader admin',
	secrets => 'admin',
	key_rotations => 'admin',
	trial_balance => 'reader admin',
	catalog_fields => 'billing reader admin',
	metrics => 'reader admin',
	worker_errors => 'reader admin',
	breakers => 'reader admin',
	error_rules => 'reader admin',
	alerts => 'reader admin',
	alert_rules => 'reader admin',
	low_balances => 'app billing reader admin',
	credential_expiries => 'reader admin',
	alert_webhooks => 'reader admin',
	oauth_clients => 'admin',
	device_grants => 'admin',
	access_tokens => 'reader admin',
	alert_deliveries => 'reader admin',
	worker_status => 'reader admin',
	spend_limits => 'app billing reader admin',
	rate_limits => 'app billing reader admin',
	meter_functions => 'billing reader admin',);

is_deeply([ sort keys %granted ],
	[ $admin->column("SELECT DISTINCT proname::text COLLATE \"C\" FROM pg_proc WHERE pronamespace = 'tokenbill'::regnamespace ORDER BY 1") ],
	'every function of the schema is in the matrix');
is_deeply([ sort keys %readable ],
	[ $admin->column("SELECT relname::text COLLATE \"C\" FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('v', 'm') ORDER BY 1") ],
	'every view of the schema is in the matrix');

my $number = 0;
foreach my $login (qw(app billing reader admin nobody))
{
	my $c = $server->client(user => $login);
	foreach my $function (sort keys %granted)
	{
		my ($who, $call, $other) = @{ $granted{$function} };
		next unless defined $who;
		my $key = 'key-' . ++$number;
		my $expected = $who =~ /\b$login\b/ ? $other || '00000' : '42501';
		is($c->sqlstate($call =~ s/%k/$key/gr), $expected, "$login: $function() " . ($expected eq '42501' ? 'is not allowed' : 'is allowed'));
	}
	foreach my $view (sort keys %readable)
	{
		my $expected = $readable{$view} =~ /\b$login\b/ ? '00000' : '42501';
		is($c->sqlstate("SELECT * FROM tokenbill.$view"), $expected, "$login: view $view " . ($expected eq '42501' ? 'is not readable' : 'is readable'));
		# a simple view would be writable
		is($c->sqlstate("DELETE FROM tokenbill.$view WHERE false") =~ /^(42501|55000)$/, 1, "$login: view $view is not writable");
	}
	foreach my $table ($admin->column("SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'tokenbill'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1"))
	{
		my ($column) = $admin->column('SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum = 1', $table);
		my @denied = grep { $c->sqlstate($_) ne '42501' } (
			"SELECT * FROM $table", "SELECT $column FROM $table", "SELECT 1 FROM $table FOR UPDATE", "INSERT INTO $table DEFAULT VALUES",
			"UPDATE $table SET $column = $column", "DELETE FROM $table", "TRUNCATE $table", "LOCK $table IN ACCESS SHARE MODE; SELECT 1", "COPY $table TO STDOUT",
			"CREATE TRIGGER t BEFORE INSERT ON $table FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
			"ALTER TABLE $table ADD COLUMN x int", "DROP TABLE $table");
		is("@denied", '', "$login: table $table cannot be touched");
	}
	is($c->sqlstate('CREATE TABLE tokenbill.mine (a int)'), '42501', "$login: nothing can be created in the schema");
	is($c->sqlstate('CREATE FUNCTION tokenbill.visible(text, text) RETURNS boolean LANGUAGE sql AS $$SELECT true$$'), '42501', "$login: no function either");
	if ($login ne 'nobody')
	{
		is($c->sqlstate("SET tokenbill.clock = '2001-01-01'"), '42501', "$login: the clock cannot be set");
		is($c->sqlstate("SET tokenbill.idempotency_window = '1 second'"), '42501', "$login: the window cannot be set");
	}
	is($c->sqlstate('ALTER EXTENSION tokenbill DROP VIEW tokenbill.balances'), '42501', "$login: the extension cannot be altered");
	is($c->sqlstate('DROP EXTENSION tokenbill'), '42501', "$login: nor dropped");
	$c->close;
}

# ---- a setting made before the library is loaded is not believed either
foreach my $how (qw(startup statement))
{
	my $c = $server->client(user => 'app', settings => $how eq 'startup' ? { 'tokenbill.clock' => '2001-01-01 UTC' } : {});
	$c->query("SET tokenbill.clock = '2001-01-01 UTC'") if $how eq 'statement';
	is($c->value("SELECT tokenbill.clock() > '2020-01-01'"), 't', "the clock is not set by a $how of a login without rights");
	is($c->value("SELECT created_at > '2020-01-01' FROM tokenbill.charge_amount('ann', 0.01, 'clock-$how')"), 't', 'and charges do not go by it');
	$c->close;
}

# ---- nothing for PUBLIC, every privileged function pinned
is($admin->value(<<'SQL'), '', 'nothing in the schema is granted to PUBLIC');
SELECT coalesce(string_agg(what, ', '), '') FROM (
	SELECT p.oid::regprocedure::text AS what FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
	WHERE p.pronamespace = 'tokenbill'::regnamespace AND a.grantee = 0
	UNION ALL
	SELECT c.oid::regclass::text FROM pg_class c, aclexplode(c.relacl) a
	WHERE c.relnamespace = 'tokenbill'::regnamespace AND a.grantee = 0
	UNION ALL
	SELECT 'schema' FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'tokenbill' AND a.grantee = 0) x
SQL
is($admin->value(<<'SQL'), '', 'every SECURITY DEFINER function not in C has a pinned search_path');
SELECT coalesce(string_agg(p.oid::regprocedure::text, ', '), '') FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'tokenbill'::regnamespace AND l.lanname <> 'c'
	AND (p.prosecdef OR l.lanname = 'plpgsql')
	AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c IN ('search_path=pg_catalog, pg_temp', 'search_path=""'))
SQL
is($admin->value(<<'SQL'), '', 'every view is a security barrier');
SELECT coalesce(string_agg(relname, ', '), '') FROM pg_class
WHERE relnamespace = 'tokenbill'::regnamespace AND relkind = 'v' AND NOT coalesce(reloptions, '{}') && '{security_barrier=true,security_barrier=on,security_barrier=1}'
SQL
is($admin->value(<<'SQL'), '', 'nothing of the extension is in pg_catalog');
SELECT coalesce(string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', '), '')
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
WHERE e.extname = 'tokenbill' AND pg_describe_object(d.classid, d.objid, d.objsubid) NOT LIKE '%tokenbill%'
SQL

# ---- objects a caller plants in front of the search_path are not used
{
	my $c = $server->client(user => 'app');
	$c->query('CREATE TEMP TABLE account (account text, balance numeric)');
	$c->query("CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT timestamptz ''2001-01-01 UTC'''");
	$c->query("CREATE FUNCTION pg_temp.less(numeric, numeric) RETURNS boolean LANGUAGE sql AS 'SELECT false'");
	$c->query('CREATE OPERATOR pg_temp.< (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = pg_temp.less)');
	$c->query('SET search_path = pg_temp, public, pg_catalog');
	my $answer = $c->query("SELECT tokenbill.charge_amount('ann', 1000, 'planted-1')");
	is($answer->{error}{code}, 'PT402', 'a planted operator does not make money');
	$c->query('DROP TABLE account');
	is($c->value("SELECT created_at > '2020-01-01' FROM tokenbill.charge_amount('ann', 0.01, 'planted-2')"), 't', 'a planted function is not called');
	$c->close;
}

# ---- tenants
$admin->query("SELECT tokenbill.map_tenant('tenant', 'ann')");
$admin->query("SELECT tokenbill.map_tenant('greedy', 'ann')");
$admin->query("SELECT tokenbill.map_tenant('web_ann', 'ann')");

sub foreign_names
{
	my ($answer) = @_;
	# an answer that carries bob's name or key where ann's tenant did not send it
	return grep { defined && /bob/ } map { @$_ } @{ $answer->{rows} };
}

foreach my $login (qw(tenant greedy web))
{
	my $c = $server->client(user => $login);
	$c->query('SET ROLE web_ann') if $login eq 'web';
	foreach my $view (qw(balances statement holds recharge_orders prices usage_daily))
	{
		next if $login eq 'web' && $view eq 'usage_daily';
		my $answer = $c->query("SELECT * FROM tokenbill.$view");
		cmp_ok(scalar @{ $answer->{rows} }, '>', 0, "$login: $view shows something");
		is(scalar(foreign_names($answer)), 0, "$login: $view shows nothing of another account");
	}

	# a cheap function of the tenant's own sees no row the view does not show
	if ($login ne 'web')
	{
		$c->query('CREATE FUNCTION public.peep_' . $login . '(a text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$BEGIN RAISE NOTICE \'saw %\', a; RETURN true; END$$');
		foreach my $view (qw(balances statement holds recharge_orders))
		{
			my $answer = $c->query("SELECT account FROM tokenbill.$view WHERE public.peep_$login(account)");
			is(join(' ', grep { /bob/ } map { $_->{message} } @{ $answer->{notices} }), '', "$login: no peeping through $view");
			cmp_ok(scalar @{ $answer->{notices} }, '>', 0, "$login: though the function was called");
		}
		# nor by an error that carries a value
		my $answer = $c->query('SELECT account FROM tokenbill.balances WHERE account::int > 0');
		unlike($answer->{error}{message}, qr/bob/, "$login: nor by an error");
	}

	my %foreign = (
		charge => "SELECT tokenbill.charge('%a', 'gpt', '{\"tokens\": 1}', 'x')",
		charge_tokens => "SELECT tokenbill.charge_tokens('%a', 'gpt', 1, 'x')",
		charge_amount => "SELECT tokenbill.charge_amount('%a', 1, 'x')",
		'charge_amount, used key' => "SELECT tokenbill.charge_amount('%a', 1, 'paid')",
		quote => "SELECT * FROM tokenbill.quote('%a', 'gpt', '{\"tokens\": 1}')",
		hold => "SELECT tokenbill.hold('%a', 1, 'x')",
		'hold, used key' => "SELECT tokenbill.hold('%a', 1, 'h')",
		extend_hold => "SELECT tokenbill.extend_hold('%a', 'h', ttl => '1 day')",
		capture => "SELECT tokenbill.capture('%a', 'h')",
		release => "SELECT tokenbill.release('%a', 'h')",
		issue_token => "SELECT tokenbill.issue_token('%a')",
		token_result => "SELECT tokenbill.token_result('%a', '$used')",
		explain_burn => "SELECT * FROM tokenbill.explain_burn('%a', 1)",
		balance_at => "SELECT tokenbill.balance_at('%a', '2030-01-01')",);
	%foreign = (
		%foreign,
		recharge => "SELECT tokenbill.recharge('%a', 1, 'x')",
		refund => "SELECT tokenbill.refund('%a', 'paid', 'x')",
		grant_credit => "SELECT tokenbill.grant_credit('%a', 1, 'x')",
		set_price => "SELECT tokenbill.set_price('gpt', 'tokens', 0, account => '%a')",
		set_price_group => "SELECT tokenbill.set_price_group('%a', 'g')",
		set_markup => "SELECT tokenbill.set_markup(0, account => '%a')",
		reprice => "SELECT * FROM tokenbill.reprice('%a', NULL, '2026-01-01', '2026-01-02')",
		set_discount => "SELECT tokenbill.set_discount(0, account => '%a')",
		set_account_status => "SELECT tokenbill.set_account_status('%a', 'frozen')",
		set_credit_limit => "SELECT tokenbill.set_credit_limit('%a', 1000)",
		set_account_policy => "SELECT tokenbill.set_account_policy('%a', 'debt')",) if $login eq 'greedy';
	foreach my $what (sort keys %foreign)
	{
		my $answer = $c->query($foreign{$what} =~ s/%a/bob/r);
		is($answer->{error} && $answer->{error}{code}, 'PT404', "$login: $what on another account is refused as not there");
		# and in the very words for one that is not there
		my $nowhere = $c->query($foreign{$what} =~ s/%a/xyz/r);
		is_deeply([ map { ($answer->{error}{$_} // '') =~ s/bob/*/gr } qw(code message detail hint) ],
			[ map { ($nowhere->{error}{$_} // '') =~ s/xyz/*/gr } qw(code message detail hint) ],
			"$login: $what does not tell whether the account exists");
	}
	my $batch = $c->query('SELECT sqlstate, balance FROM tokenbill.charge_batch($1)',
		'[{"account": "bob", "amount": 1, "idempotency_key": "x"}, {"account": "ann", "amount": 0.01, "idempotency_key": "batch-' . $login . '"}]');
	is($batch->{rows}[0][0], 'PT404', "$login: another account in a batch is refused as not there");
	is($batch->{rows}[0][1], undef, "$login: and nothing is said about it");
	is($batch->{rows}[1][0], undef, "$login: its own is charged");

	# a token and an order number of another account
	my $answer = $c->query('SELECT tokenbill.charge_amount(\'ann\', 0.01, $1)', $token{bob});
	is($answer->{error}{code}, 'PT409', "$login: a foreign token is refused");
	unlike(join(' ', map { $answer->{error}{$_} || '' } qw(message detail hint)), qr/bob/, "$login: and its owner is not named");
	if ($login eq 'greedy')
	{
		$answer = $c->query("SELECT tokenbill.recharge('ann', 10, 'order-2')");
		is($answer->{error}{code}, 'PT409', "$login: a foreign order number is taken");
		unlike(join(' ', map { $answer->{error}{$_} || '' } qw(message detail hint)), qr/bob/, "$login: and its owner is not named");
	}
	if ($login ne 'web')
	{
		is(scalar(my @problems = $c->rows("SELECT * FROM tokenbill.verify_ledger('ann')")), 0, "$login: may verify its own account");
		is($c->sqlstate('SELECT * FROM tokenbill.verify_ledger()'), '42501', "$login: but not all of them");
		is($c->sqlstate("SELECT * FROM tokenbill.verify_ledger('$_')"), 'PT404', "$login: nor account $_") foreach qw(bob xyz);
	}

	# no way out
	if ($login eq 'web')
	{
		$c->query('RESET ROLE');
		is($c->sqlstate("SELECT tokenbill.balance_at('bob', '2030-01-01')"), '42501', 'web: by itself it may nothing');
		$c->query('SET ROLE tokenbill_app');
		is($c->value('SELECT count(*) FROM tokenbill.balances'), $admin->value('SELECT count(*) FROM tokenbill.balances'), 'web: a role that is not mapped sees all');
		$c->query('SET ROLE web_ann');
		is($c->value('SELECT count(*) FROM tokenbill.balances'), 1, 'web: the mapped one does not, in the same session');
	}
	else
	{
		foreach my $role ($login eq 'tenant' ? 'tokenbill_app' : qw(tokenbill_app tokenbill_admin tokenbill_reader))
		{
			$c->query("SET ROLE $role");
			is($c->value('SELECT count(*) FROM tokenbill.balances'), 1, "$login: SET ROLE $role leads nowhere");
			is($c->sqlstate("SELECT tokenbill.charge_amount('bob', 1, 'x')"), $role eq 'tokenbill_reader' ? '42501' : 'PT404', "$login: nor to a charge");
			$c->query('RESET ROLE');
		}
		is($c->sqlstate('SET SESSION AUTHORIZATION app'), '42501', "$login: nor SET SESSION AUTHORIZATION");
		$c->query('BEGIN; DECLARE c CURSOR FOR SELECT account FROM tokenbill.balances');
		is(join(' ', $c->column('FETCH ALL c')), 'ann', "$login: nor a cursor");
		$c->query('ROLLBACK');
		$c->query('PREPARE p AS SELECT account FROM tokenbill.balances');
		is(join(' ', $c->column('EXECUTE p')), 'ann', "$login: nor a prepared statement");
	}
	$c->close;
}

# the same login when it is no tenant any more, with the plan it had
{
	my $c = $server->client(user => 'tenant');
	$c->query('PREPARE p AS SELECT count(*) FROM tokenbill.balances');
	is($c->value('EXECUTE p'), 1, 'a tenant sees one account');
	$admin->query("SELECT tokenbill.unmap_tenant('tenant')");
	cmp_ok($c->value('EXECUTE p'), '>', 1, 'unmapped, its next statement sees all');
	$admin->query("SELECT tokenbill.map_tenant('tenant', 'bob')");
	is($c->value('EXECUTE p'), 1, 'mapped again, one');
	is($c->value('SELECT account FROM tokenbill.balances'), 'bob', 'the other one');
	$c->close;
}

# a view of a tenant's own is read with the rights and the sight of its reader
{
	my $c = $server->client(user => 'greedy');
	$c->query('CREATE VIEW public.through AS SELECT account FROM tokenbill.balances');
	is(join(' ', $c->column('SELECT account FROM public.through')), 'ann', 'a view of its own shows a tenant no more');
	$c->close;
}

$server->sound('after all that was tried');
$server->stop;
done_testing();
