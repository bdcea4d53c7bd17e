CREATE TYPE tokenbill.problem AS (
	account text,
	seq bigint,
	problem text,
	detail jsonb
);
COMMENT ON TYPE tokenbill.problem IS 'Something verify_ledger() found';
COMMENT ON COLUMN tokenbill.problem.account IS 'Whose; null if it is about the whole ledger';
COMMENT ON COLUMN tokenbill.problem.seq IS 'Line it was found at, if at one';
COMMENT ON COLUMN tokenbill.problem.detail IS 'What was expected and what was found, a JSON object';
COMMENT ON COLUMN tokenbill.problem.problem IS
'hash, gap, time, kind, amount, balance, held: a line does not follow from the one before; account, hold, order, refund, token, credit, limit, closing, orphan, trial_balance: a table does not agree with the ledger';

CREATE FUNCTION tokenbill.verify_ledger(account text DEFAULT NULL) RETURNS SETOF tokenbill.problem
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tokenbill_verify_ledger';
COMMENT ON FUNCTION tokenbill.verify_ledger(text) IS
'Recomputes every balance and hash from the ledger, of one account or of all, and returns what does not agree; no row means sound. Reads one snapshot and locks no row; maintenance_work_mem decides how many accounts are followed in one pass';

CREATE FUNCTION tokenbill.balance_at(account text, at timestamptz) RETURNS numeric
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
	lo bigint;
	hi bigint;
	mid bigint;
	mid_time timestamptz;
	result numeric := 0;
BEGIN
	PERFORM tokenbill.check_text('account', balance_at.account, 128);
	PERFORM tokenbill.check_time('at', balance_at.at);
	/* so that no month is dropped between one look and the next */
	LOCK TABLE ONLY tokenbill.ledger IN ACCESS SHARE MODE;
	SELECT a.seq INTO hi FROM tokenbill.account a WHERE a.account = balance_at.account;
	IF NOT FOUND OR NOT tokenbill.visible(balance_at.account) THEN
		PERFORM tokenbill.refuse_account(balance_at.account);
	END IF;
	/* the newest closing not after "at" is as far back as need be looked */
	SELECT c.seq, c.balance INTO lo, result
	FROM tokenbill.month_closing c
	WHERE c.account = balance_at.account AND c.closed_at <= balance_at.at
	ORDER BY c.month DESC LIMIT 1;
	lo := coalesce(lo, 0);
	/* time never goes back within an account: halve the distance until the last line not after "at" is found */
	WHILE lo < hi LOOP
		mid := (lo + hi + 1) / 2;
		SELECT l.created_at INTO mid_time FROM tokenbill.ledger l WHERE l.account = balance_at.account AND l.seq = mid;
		IF NOT FOUND THEN
			/* dropped, with a month that closed after "at"; unless its closing is too new for this snapshot */
			IF NOT EXISTS (SELECT FROM tokenbill.month_closing c WHERE c.account = balance_at.account AND c.seq >= mid) THEN
				PERFORM tokenbill.refuse('40001', 'a month of the ledger was dropped after this transaction began',
					jsonb_build_object('account', balance_at.account), 'Try the transaction again.');
			END IF;
			hi := mid - 1;
		ELSIF mid_time > balance_at.at THEN
			hi := mid - 1;
		ELSE
			lo := mid;
		END IF;
	END LOOP;
	IF lo > 0 THEN
		SELECT coalesce((SELECT l.balance FROM tokenbill.ledger l WHERE l.account = balance_at.account AND l.seq = lo), result) INTO result;
	END IF;
	RETURN coalesce(result, 0);
END
$function$;
COMMENT ON FUNCTION tokenbill.balance_at(text, timestamptz) IS
'Balance after the last line posted at or before that time; 0 before the first. Within a dropped month only its closing is known. Errors: PT404, 22008';
