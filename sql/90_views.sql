/*
 * What people read.  Every view is a security barrier, owned by the extension's
 * owner, and shows a tenant its own account only (tokenbill.visible; what belongs
 * to no account is asked for as that of '', which is no tenant's).
 */
CREATE VIEW tokenbill.balances WITH (security_barrier) AS
SELECT a.account, a.currency, a.balance, a.held,
	(a.balance OPERATOR(pg_catalog.+) a.credit_limit) OPERATOR(pg_catalog.-) a.held AS available,
	a.credit_limit, a.status::pg_catalog.text AS status, a.updated_at, a.sandbox, a.tokens_only,
	a.overflow::pg_catalog.text AS overflow, a.seq, a.metadata, a.created_at
FROM tokenbill.account a
WHERE tokenbill.visible(a.account);
COMMENT ON VIEW tokenbill.balances IS 'What every account has, holds and may still spend';
COMMENT ON COLUMN tokenbill.balances.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.balances.currency IS 'Currency of the account, and so of all its amounts';
COMMENT ON COLUMN tokenbill.balances.balance IS 'Sum of the ledger amounts, in currency';
COMMENT ON COLUMN tokenbill.balances.credit_limit IS 'How far below zero the balance may go';
COMMENT ON COLUMN tokenbill.balances.status IS 'active, frozen (credited, not charged) or closed';
COMMENT ON COLUMN tokenbill.balances.sandbox IS 'Every check and receipts, but charges move no money';
COMMENT ON COLUMN tokenbill.balances.tokens_only IS 'Charges and holds need a key from issue_token()';
COMMENT ON COLUMN tokenbill.balances.overflow IS 'Capture of more than was held: refuse or debt';
COMMENT ON COLUMN tokenbill.balances.metadata IS 'The application''s own notes, a JSON object';
COMMENT ON COLUMN tokenbill.balances.created_at IS 'When it was made';
COMMENT ON COLUMN tokenbill.balances.available IS 'balance + credit_limit - held: what a charge may take now';
COMMENT ON COLUMN tokenbill.balances.held IS 'What open holds reserve';
COMMENT ON COLUMN tokenbill.balances.updated_at IS 'Time of the newest ledger line';
COMMENT ON COLUMN tokenbill.balances.seq IS 'Number of the newest ledger line';

CREATE VIEW tokenbill.statement WITH (security_barrier) AS
SELECT l.account, l.seq, l.kind, l.service, l.amount, l.balance, l.held, a.currency, l.idempotency_key, l.ref, l.created_at,
	(l.balance OPERATOR(pg_catalog.+) l.credit_limit) OPERATOR(pg_catalog.-) l.held AS available,
	l.contra, l.usage, l.rates, l.metadata,
	l.request OPERATOR(pg_catalog.->) 'burned' AS burned, l.request OPERATOR(pg_catalog.->) 'returned' AS returned
FROM tokenbill.ledger l
JOIN tokenbill.account a ON a.account OPERATOR(pg_catalog.=) l.account
WHERE tokenbill.visible(l.account);
COMMENT ON VIEW tokenbill.statement IS 'Every movement of every account, oldest seq first when you ORDER BY seq';
COMMENT ON COLUMN tokenbill.statement.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.statement.seq IS 'Number of the ledger line within its account';
COMMENT ON COLUMN tokenbill.statement.kind IS 'charge, recharge, hold, extend, capture, release, expiry, refund, grant, adjustment or clawback';
COMMENT ON COLUMN tokenbill.statement.service IS 'What was used, as priced in tokenbill.price';
COMMENT ON COLUMN tokenbill.statement.currency IS 'Currency of the account, and so of all its amounts';
COMMENT ON COLUMN tokenbill.statement.idempotency_key IS 'Key of the request; derived ones begin with tokenbill:';
COMMENT ON COLUMN tokenbill.statement.created_at IS 'When the line was posted';
COMMENT ON COLUMN tokenbill.statement.available IS 'balance + credit_limit - held, after the line';
COMMENT ON COLUMN tokenbill.statement.contra IS 'The other side of the double entry: revenue, cash:<gateway>, grant, hold, sandbox ...';
COMMENT ON COLUMN tokenbill.statement.usage IS 'How much was used: an object of meters and counts';
COMMENT ON COLUMN tokenbill.statement.metadata IS 'The application''s own notes, a JSON object';
COMMENT ON COLUMN tokenbill.statement.amount IS 'Signed effect on the balance';
COMMENT ON COLUMN tokenbill.statement.balance IS 'Balance after the line';
COMMENT ON COLUMN tokenbill.statement.held IS 'Total of the open holds after the line';
COMMENT ON COLUMN tokenbill.statement.ref IS 'hold_key, charge_key of a refund, or order_no';
COMMENT ON COLUMN tokenbill.statement.burned IS 'Who paid, if credits did: a list of objects with credit (null is the plain balance) and amount, in order; null: the plain balance alone';
COMMENT ON COLUMN tokenbill.statement.returned IS 'Of a refund, who got it back, if credits did; as burned';
COMMENT ON COLUMN tokenbill.statement.rates IS 'What the usage was priced with: meter and "unit_price/per"';

CREATE VIEW tokenbill.holds WITH (security_barrier) AS
SELECT h.account, h.hold_key, h.amount, h.captured, h.status, h.expires_at,
	CASE WHEN h.status OPERATOR(pg_catalog.=) 'held' THEN pg_catalog.numeric_larger(h.amount OPERATOR(pg_catalog.-) h.captured, 0) ELSE 0 END AS remaining,
	h.on_expiry, h.service, h.created_at, h.updated_at
FROM tokenbill.hold h
WHERE tokenbill.visible(h.account);
COMMENT ON VIEW tokenbill.holds IS 'Holds, open and past';
COMMENT ON COLUMN tokenbill.holds.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.holds.hold_key IS 'Name of the hold: the idempotency key it was made with';
COMMENT ON COLUMN tokenbill.holds.expires_at IS 'From then on it can no longer be captured';
COMMENT ON COLUMN tokenbill.holds.on_expiry IS 'What happens to the rest then: release or charge';
COMMENT ON COLUMN tokenbill.holds.service IS 'What it was made for';
COMMENT ON COLUMN tokenbill.holds.created_at IS 'When it was made';
COMMENT ON COLUMN tokenbill.holds.updated_at IS 'When it last changed';
COMMENT ON COLUMN tokenbill.holds.amount IS 'Total that was set aside';
COMMENT ON COLUMN tokenbill.holds.captured IS 'What was charged of it';
COMMENT ON COLUMN tokenbill.holds.remaining IS 'What is still reserved';
COMMENT ON COLUMN tokenbill.holds.status IS 'held, captured, released or expired';

CREATE VIEW tokenbill.credits WITH (security_barrier) AS
SELECT c.account, c.credit_key, c.amount, c.remaining, c.reserved, a.currency, c.priority, c.category, c.scope,
	c.effective_at, c.expires_at, c.status, c.cost_basis, c.created_at, c.updated_at, c.seq
FROM tokenbill.credit c
JOIN tokenbill.account a ON a.account OPERATOR(pg_catalog.=) c.account
WHERE tokenbill.visible(c.account);
COMMENT ON VIEW tokenbill.credits IS 'Grants that expire, are spent in an order of their own, or are good for some services only; the rest of a balance is not among them';
COMMENT ON COLUMN tokenbill.credits.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.credits.credit_key IS 'Name of the credit: the idempotency key it was granted with';
COMMENT ON COLUMN tokenbill.credits.amount IS 'What was granted';
COMMENT ON COLUMN tokenbill.credits.remaining IS 'What is left of it in the balance, with what is reserved';
COMMENT ON COLUMN tokenbill.credits.reserved IS 'What of the rest open holds reserve';
COMMENT ON COLUMN tokenbill.credits.currency IS 'Currency of the account, and so of all its amounts';
COMMENT ON COLUMN tokenbill.credits.priority IS '0, spent first, to 1000; the plain balance has 50';
COMMENT ON COLUMN tokenbill.credits.category IS 'promotional or paid; the plain balance counts as paid';
COMMENT ON COLUMN tokenbill.credits.scope IS 'Services it is good for, those with a star at the end for all that begin so; null: all';
COMMENT ON COLUMN tokenbill.credits.effective_at IS 'From when on it pays';
COMMENT ON COLUMN tokenbill.credits.expires_at IS 'From then on it pays for nothing more; null: never';
COMMENT ON COLUMN tokenbill.credits.status IS 'open, spent or expired';
COMMENT ON COLUMN tokenbill.credits.cost_basis IS 'What a unit of it has cost the customer: 0 for a present, 1 for the plain balance';
COMMENT ON COLUMN tokenbill.credits.created_at IS 'When it was granted';
COMMENT ON COLUMN tokenbill.credits.updated_at IS 'When it last changed';
COMMENT ON COLUMN tokenbill.credits.seq IS 'Number of the ledger line that granted it';

CREATE VIEW tokenbill.burn_orders WITH (security_barrier) AS
SELECT b.name, b.keys, b.description, b.preset,
	b.name OPERATOR(pg_catalog.=) COALESCE(pg_catalog.current_setting('tokenbill.burn_order', true), 'tokenbill') AS in_use
FROM (
	SELECT p.name, p.keys::pg_catalog.text[] AS keys, p.description, true AS preset
	FROM (VALUES
		('tokenbill', '{priority,expiry,promotional,oldest}', 'priority, then sooner expiry, then promotional before paid, then the oldest'),
		('orb', '{expiry,cost_basis,oldest}', 'sooner expiry, then lower cost basis, then the oldest'),
		('openmeter', '{priority,expiry,oldest}', 'priority, then sooner expiry, then the oldest'),
		('lago', '{priority,promotional,oldest}', 'priority, then promotional before paid, then the oldest'),
		('metronome', '{priority,oldest}', 'priority, then the oldest'),
		('stigg', '{priority,expiry,promotional,effective,oldest}', 'priority, then sooner expiry, then promotional before paid, then sooner effective, then the oldest'),
		('stripe', '{priority,oldest}', 'priority, then the oldest'),
		('flexprice', '{priority,expiry,smallest,oldest}', 'priority, then sooner expiry, then the one with less left, then the oldest'),
		('formance', '{expiry,priority,oldest}', 'sooner expiry, then, of those that never expire, priority, then the oldest')) p(name, keys, description)
	UNION ALL
	SELECT o.name, o.keys::pg_catalog.text[], o.description, false FROM tokenbill.burn_order o
) b;
COMMENT ON VIEW tokenbill.burn_orders IS 'Orders in which credits can be spent, and which is used';
COMMENT ON COLUMN tokenbill.burn_orders.name IS 'What the setting tokenbill.burn_order calls it';
COMMENT ON COLUMN tokenbill.burn_orders.keys IS 'What tells two credits apart, from the left; then the oldest';
COMMENT ON COLUMN tokenbill.burn_orders.description IS 'The same in words';
COMMENT ON COLUMN tokenbill.burn_orders.preset IS 'True for those that come with the extension';
COMMENT ON COLUMN tokenbill.burn_orders.in_use IS 'Whether this session spends credits in this order';

CREATE VIEW tokenbill.recharge_orders WITH (security_barrier) AS
SELECT o.order_no, o.account, o.amount, o.currency, o.status, o.gateway, o.gateway_ref, o.failure_code, o.attempts,
	o.created_at, o.updated_at, o.payment_method, o.priority, o.metadata
FROM tokenbill.recharge_order o
WHERE tokenbill.visible(o.account);
COMMENT ON VIEW tokenbill.recharge_orders IS 'Recharges and how far they are';
COMMENT ON COLUMN tokenbill.recharge_orders.order_no IS 'The application''s order number, unique for ever';
COMMENT ON COLUMN tokenbill.recharge_orders.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.recharge_orders.amount IS 'What is to be credited, in currency';
COMMENT ON COLUMN tokenbill.recharge_orders.currency IS 'Currency of the account, and so of all its amounts';
COMMENT ON COLUMN tokenbill.recharge_orders.gateway IS 'Who collects the money; null: it had been received already';
COMMENT ON COLUMN tokenbill.recharge_orders.gateway_ref IS 'The gateway''s name for the payment';
COMMENT ON COLUMN tokenbill.recharge_orders.failure_code IS 'Why it failed, in the gateway''s words';
COMMENT ON COLUMN tokenbill.recharge_orders.attempts IS 'How often the gateway was asked';
COMMENT ON COLUMN tokenbill.recharge_orders.created_at IS 'When it was made';
COMMENT ON COLUMN tokenbill.recharge_orders.updated_at IS 'When it last changed';
COMMENT ON COLUMN tokenbill.recharge_orders.payment_method IS 'What it was paid with: the gateway''s name for it, never a card number';
COMMENT ON COLUMN tokenbill.recharge_orders.priority IS 'Which orders go first: the lower the sooner';
COMMENT ON COLUMN tokenbill.recharge_orders.metadata IS 'The application''s own notes, a JSON object';
COMMENT ON COLUMN tokenbill.recharge_orders.status IS 'init, processing, requires_action, unknown, success, failed, partially_refunded, refunded or disputed';

CREATE VIEW tokenbill.prices WITH (security_barrier) AS
SELECT p.service, p.meter, p.account, p.unit_price, p.per, p.valid_from,
	pg_catalog.lead(p.valid_from) OVER (PARTITION BY p.service, p.meter, p.account, p.price_group, p.service_tier, p.hours
		ORDER BY p.valid_from USING OPERATOR(pg_catalog.<)) AS valid_to,
	p.price_group, p.service_tier, p.hours, p.mode, p.tiers
FROM tokenbill.price p
WHERE p.side OPERATOR(pg_catalog.=) 'sale'
	AND CASE WHEN p.account OPERATOR(pg_catalog.<>) '*' THEN tokenbill.visible(p.account)
		WHEN p.price_group OPERATOR(pg_catalog.<>) '' THEN tokenbill.visible('')
			OR EXISTS (SELECT FROM tokenbill.account a WHERE a.price_group OPERATOR(pg_catalog.=) p.price_group AND tokenbill.visible(a.account))
		ELSE true END;
COMMENT ON VIEW tokenbill.prices IS 'What was, is and will be charged for a unit; account * is the list price';
COMMENT ON COLUMN tokenbill.prices.service IS 'What it is a price of';
COMMENT ON COLUMN tokenbill.prices.meter IS 'What is counted: input_tokens, output_tokens, images ...';
COMMENT ON COLUMN tokenbill.prices.account IS 'Account with a price of its own, or *';
COMMENT ON COLUMN tokenbill.prices.price_group IS 'Group of accounts with a price of its own, or empty; the list price has neither';
COMMENT ON COLUMN tokenbill.prices.service_tier IS 'standard, batch, flex, priority or another that usage names';
COMMENT ON COLUMN tokenbill.prices.hours IS 'Window of hours, UTC; empty: all day';
COMMENT ON COLUMN tokenbill.prices.mode IS 'flat, graduated, volume, package or cliff';
COMMENT ON COLUMN tokenbill.prices.tiers IS 'The brackets above the first and their unit prices';
COMMENT ON COLUMN tokenbill.prices.unit_price IS 'Price of per units';
COMMENT ON COLUMN tokenbill.prices.per IS 'How many units unit_price is for';
COMMENT ON COLUMN tokenbill.prices.valid_from IS 'From when on';
COMMENT ON COLUMN tokenbill.prices.valid_to IS 'When the next price of the same meter takes over; null for the last';

CREATE VIEW tokenbill.usage_daily WITH (security_barrier) AS
SELECT (l.created_at AT TIME ZONE 'UTC')::pg_catalog.date AS day, l.account, l.service, m.meter,
	pg_catalog.sum(m.quantity) AS quantity, pg_catalog.trim_scale(pg_catalog.sum(m.amount)) AS amount
FROM tokenbill.ledger l
CROSS JOIN LATERAL (
	SELECT r.key AS meter,
		CASE WHEN o.is_object THEN (r.value OPERATOR(pg_catalog.->>) 'quantity')::pg_catalog.numeric
			ELSE (l.usage OPERATOR(pg_catalog.->>) r.key)::pg_catalog.numeric END AS quantity,
		CASE WHEN o.is_object THEN COALESCE((r.value OPERATOR(pg_catalog.->>) 'amount')::pg_catalog.numeric, 0)
			ELSE ((l.usage OPERATOR(pg_catalog.->>) r.key)::pg_catalog.numeric OPERATOR(pg_catalog.*)
				pg_catalog.round(pg_catalog.split_part(r.value OPERATOR(pg_catalog.#>>) '{}', '/', 1)::pg_catalog.numeric, 40))
				OPERATOR(pg_catalog./) pg_catalog.split_part(r.value OPERATOR(pg_catalog.#>>) '{}', '/', 2)::pg_catalog.numeric END AS amount
	FROM pg_catalog.jsonb_each(l.rates) r
	CROSS JOIN LATERAL (SELECT pg_catalog.jsonb_typeof(r.value) OPERATOR(pg_catalog.=) 'object' AS is_object) o
	UNION ALL
	SELECT CASE l.kind WHEN 'adjustment' THEN 'adjustment' ELSE 'amount' END, 1, pg_catalog.numeric_uminus(l.amount)
	WHERE l.rates IS NULL
) m
WHERE (l.kind OPERATOR(pg_catalog.=) ANY (ARRAY['charge', 'capture'])
		OR (l.kind OPERATOR(pg_catalog.=) 'adjustment' AND l.contra OPERATOR(pg_catalog.=) 'revenue')
		OR (l.kind OPERATOR(pg_catalog.=) 'expiry' AND l.amount OPERATOR(pg_catalog.<>) 0))
	AND NOT l.contra OPERATOR(pg_catalog.=) ANY (ARRAY['sandbox', 'expiry'])
	AND tokenbill.visible(l.account)
GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW tokenbill.usage_daily IS 'Charges, captures, charged expiries and adjustments by UTC day, account, service and meter';
COMMENT ON COLUMN tokenbill.usage_daily.day IS 'Day, UTC';
COMMENT ON COLUMN tokenbill.usage_daily.account IS 'Name of the account';
COMMENT ON COLUMN tokenbill.usage_daily.service IS 'What was used, as priced in tokenbill.price';
COMMENT ON COLUMN tokenbill.usage_daily.meter IS 'What was counted; "amount" for a charge that the caller had priced, "adjustment" for what reprice() made up for';
COMMENT ON COLUMN tokenbill.usage_daily.quantity IS 'Units used; for meter "amount" the number of charges';
COMMENT ON COLUMN tokenbill.usage_daily.amount IS 'What was charged for them, positive';

CREATE VIEW tokenbill.trial_balance WITH (security_barrier) AS
SELECT t.currency, t.ledger_account, pg_catalog.sum(t.amount) AS amount
FROM (
	SELECT a.currency, CASE WHEN a.sandbox THEN 'customers:sandbox' ELSE 'customers' END AS ledger_account, a.balance AS amount
	FROM tokenbill.account a
	WHERE tokenbill.visible(a.account)
	UNION ALL
	SELECT a.currency, l.contra, pg_catalog.numeric_uminus(l.amount)
	FROM tokenbill.ledger l
	JOIN tokenbill.account a ON a.account OPERATOR(pg_catalog.=) l.account
	WHERE tokenbill.visible(l.account)
	UNION ALL
	SELECT m.currency, m.contra, pg_catalog.numeric_uminus(m.amount)
	FROM tokenbill.month_total m
	WHERE m.dropped_at IS NOT NULL AND m.currency OPERATOR(pg_catalog.<>) '-'
		AND tokenbill.visible('')
) t
GROUP BY t.currency, t.ledger_account;
COMMENT ON VIEW tokenbill.trial_balance IS 'Double entry: what customers have, from their balances, against the contra accounts, from the ledger; sums to zero per currency';
COMMENT ON COLUMN tokenbill.trial_balance.currency IS 'Currency of the account, and so of all its amounts';
COMMENT ON COLUMN tokenbill.trial_balance.ledger_account IS 'customers, or the contra account of the lines: revenue, cash:<gateway>, grant, hold ...';
COMMENT ON COLUMN tokenbill.trial_balance.amount IS 'Credits positive, debits negative: what is owed to customers and earned stands against the cash that came in';

/*
 * The rate of burning is that of the last day before the newest balance, or of
 * the last three checks, whichever is longer; too short a stretch tells none.
 *
 * A vendor may tell of wallets that nobody uses.  One that is at zero and never held
 * anything is not low as long as another of the provider's is in use: otherwise it
 * would be an alarm for ever.
 */
CREATE VIEW tokenbill.provider_balances WITH (security_barrier) AS
SELECT p.provider, COALESCE(b.currency, p.currency) AS currency, b.balance, u.low_balance,
	CASE WHEN NOT p.enabled THEN 'disabled'
		WHEN b.checked_at IS NULL THEN 'unknown'
		WHEN b.balance OPERATOR(pg_catalog.<=) u.low_balance THEN 'low'
		WHEN s.stale THEN 'stale'
		WHEN b.balance IS NULL THEN 'unlimited'
		ELSE 'ok' END AS status,
	s.stale, b.error, b.checked_at, a.age, b.error_since, b.error_at, COALESCE(b.failures, 0) AS failures,
	r.burn_per_hour, e.empty_at, CASE WHEN e.empty_at IS NOT NULL THEN GREATEST(e.empty_at OPERATOR(pg_catalog.-) a.now, '0') END AS empty_in,
	p.preset, p.check_every, p.enabled, k.source
FROM tokenbill.provider p
LEFT JOIN LATERAL (
	SELECT t.source FROM tokenbill.provider_preset t WHERE t.preset OPERATOR(pg_catalog.=) p.preset
	ORDER BY t.builtin USING OPERATOR(pg_catalog.<) LIMIT 1
) k ON true
LEFT JOIN tokenbill.provider_balance b ON b.provider OPERATOR(pg_catalog.=) p.provider
CROSS JOIN LATERAL (
	SELECT c.now, GREATEST(c.now OPERATOR(pg_catalog.-) COALESCE(b.checked_at, p.created_at), '0') AS age
	FROM (SELECT tokenbill.clock() AS now) c
) a
CROSS JOIN LATERAL (
	SELECT p.enabled AND (b.error IS NOT NULL
		OR a.age OPERATOR(pg_catalog.>) (p.check_every OPERATOR(pg_catalog.*) 3::pg_catalog.float8)) AS stale
) s
LEFT JOIN LATERAL (
	SELECT l.burned OPERATOR(pg_catalog.-) f.burned AS burned, l.burn_seconds OPERATOR(pg_catalog.-) f.burn_seconds AS seconds,
		l.burned AS ever
	FROM tokenbill.provider_balance_history l
	CROSS JOIN LATERAL (
		SELECT h.burned, h.burn_seconds
		FROM tokenbill.provider_balance_history h
		WHERE h.provider OPERATOR(pg_catalog.=) l.provider AND h.currency OPERATOR(pg_catalog.=) l.currency AND h.balance IS NOT NULL
			AND h.checked_at OPERATOR(pg_catalog.>=) (l.checked_at OPERATOR(pg_catalog.-)
				GREATEST('1 day', p.check_every OPERATOR(pg_catalog.*) 3::pg_catalog.float8))
		ORDER BY h.checked_at USING OPERATOR(pg_catalog.<) LIMIT 1
	) f
	WHERE l.provider OPERATOR(pg_catalog.=) b.provider AND l.currency OPERATOR(pg_catalog.=) b.currency
		AND l.checked_at OPERATOR(pg_catalog.=) b.checked_at
) w ON true
CROSS JOIN LATERAL (
	SELECT CASE WHEN w.seconds OPERATOR(pg_catalog.*) 2 OPERATOR(pg_catalog.>=) EXTRACT(epoch FROM p.check_every)
		THEN pg_catalog.trim_scale(pg_catalog.round((w.burned OPERATOR(pg_catalog.*) 3600) OPERATOR(pg_catalog./) w.seconds, 12)) END AS burn_per_hour
) r
CROSS JOIN LATERAL (
	SELECT n.unused, CASE WHEN NOT n.unused THEN p.low_balance END AS low_balance
	FROM (SELECT COALESCE(b.balance OPERATOR(pg_catalog.=) 0 AND w.ever OPERATOR(pg_catalog.=) 0, false) AND EXISTS (
			SELECT FROM tokenbill.provider_balance o
			JOIN tokenbill.provider_balance_history h ON h.provider OPERATOR(pg_catalog.=) o.provider AND h.currency OPERATOR(pg_catalog.=) o.currency
				AND h.checked_at OPERATOR(pg_catalog.=) o.checked_at
			WHERE o.provider OPERATOR(pg_catalog.=) b.provider AND (o.balance OPERATOR(pg_catalog.<>) 0 OR h.burned OPERATOR(pg_catalog.<>) 0)
		) AS unused) n
) u
CROSS JOIN LATERAL (
	SELECT CASE WHEN u.unused THEN NULL WHEN b.balance OPERATOR(pg_catalog.<=) 0 THEN b.checked_at
		WHEN b.balance OPERATOR(pg_catalog.<) (r.burn_per_hour OPERATOR(pg_catalog.*) 100000)
		THEN b.checked_at OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs =>
			pg_catalog.round((b.balance OPERATOR(pg_catalog.*) 3600) OPERATOR(pg_catalog./) r.burn_per_hour)::pg_catalog.float8)
		END AS empty_at
) e
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.provider_balances IS 'What every provider still holds, a row a currency, and for how long; none for a tenant';
COMMENT ON COLUMN tokenbill.provider_balances.provider IS 'Name of the provider';
COMMENT ON COLUMN tokenbill.provider_balances.currency IS 'Currency of the balance';
COMMENT ON COLUMN tokenbill.provider_balances.balance IS 'The newest good balance; null: there was none, or there is no limit';
COMMENT ON COLUMN tokenbill.provider_balances.low_balance IS 'A balance at or below it is low; null: none is, or it is that of a wallet that never held anything, beside one that does';
COMMENT ON COLUMN tokenbill.provider_balances.status IS 'disabled, unknown (no balance yet), low, stale, unlimited or ok: the first that is true';
COMMENT ON COLUMN tokenbill.provider_balances.stale IS 'The newest report failed, or there was none for three times check_every';
COMMENT ON COLUMN tokenbill.provider_balances.error IS 'Why the newest report failed; null: it did not';
COMMENT ON COLUMN tokenbill.provider_balances.checked_at IS 'What moment the balance is from';
COMMENT ON COLUMN tokenbill.provider_balances.age IS 'Time since then; without a balance since the provider was added';
COMMENT ON COLUMN tokenbill.provider_balances.error_since IS 'First failed report after the balance';
COMMENT ON COLUMN tokenbill.provider_balances.error_at IS 'Newest failed report after the balance';
COMMENT ON COLUMN tokenbill.provider_balances.failures IS 'Failed reports after the balance';
COMMENT ON COLUMN tokenbill.provider_balances.burn_per_hour IS 'By how much the balance fell in an hour, over the last day or three checks, top-ups left out; null: too few reports';
COMMENT ON COLUMN tokenbill.provider_balances.empty_at IS 'When nothing is left if it goes on like that; null: unknown, or further off than eleven years';
COMMENT ON COLUMN tokenbill.provider_balances.empty_in IS 'Time until then';
COMMENT ON COLUMN tokenbill.provider_balances.preset IS 'What kind of account it is; manual: somebody reports the balance';
COMMENT ON COLUMN tokenbill.provider_balances.check_every IS 'How often it is asked, or a report is expected';
COMMENT ON COLUMN tokenbill.provider_balances.enabled IS 'Whether it is watched';
COMMENT ON COLUMN tokenbill.provider_balances.source IS 'asked: the provider told it; derived: an opening balance less the cost that it tells; ledger: less the cost in our own ledger; manual: somebody reported it';

CREATE VIEW tokenbill.provider_history WITH (security_barrier) AS
SELECT h.provider, h.currency, h.checked_at, h.balance, h.error, h.created_at
FROM tokenbill.provider_balance_history h
WHERE tokenbill.visible('');
COMMENT ON VIEW tokenbill.provider_history IS 'Every report of a provider''s balance, for as long as it is kept; none for a tenant';
COMMENT ON COLUMN tokenbill.provider_history.provider IS 'Name of the provider';
COMMENT ON COLUMN tokenbill.provider_history.currency IS 'Currency of the balance';
COMMENT ON COLUMN tokenbill.provider_history.checked_at IS 'What moment the report is from';
COMMENT ON COLUMN tokenbill.provider_history.balance IS 'The balance then; null: the report failed, or, without error, there was no limit';
COMMENT ON COLUMN tokenbill.provider_history.error IS 'Why it failed; null: it did not';
COMMENT ON COLUMN tokenbill.provider_history.created_at IS 'When the report came in';
