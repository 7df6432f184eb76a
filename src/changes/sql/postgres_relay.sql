CREATE OR REPLACE FUNCTION {schema}.gg_relay(up_to bigint, OUT new_head bigint, OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $gg$
DECLARE
    batch CONSTANT bigint := 1000;
    source record;
    old_head bigint;
    new_stamp bigint := floor(random() * 9007199254740992);
    made bigint;
BEGIN
    more := false;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'gg_relay needs the isolation level read committed';
    END IF;
    -- One at a time. Who comes second does not wait: what it wants is being done.
    SELECT c.head INTO old_head FROM {schema}.gg_ctl AS c FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    new_head := old_head;
    -- Of a flood no single keys are logged: a table's rows become one row for all of them.
    IF (SELECT count(*) FROM (SELECT 1 FROM {schema}.gg_outbox AS o WHERE o.id <= up_to LIMIT 10001) AS many) > 10000 THEN
        FOR source IN
            SELECT o.tbl, o.col FROM {schema}.gg_outbox AS o WHERE o.id <= up_to GROUP BY 1, 2 HAVING count(*) > 1000
        LOOP
            DELETE FROM {schema}.gg_outbox AS o WHERE o.id <= up_to AND o.tbl = source.tbl AND o.col = source.col;
            new_head := new_head + 1;
            INSERT INTO {schema}.gg_log (seq, tbl, col, kind, k, stamp)
                VALUES (new_head, source.tbl, source.col, 2, '', new_stamp);
        END LOOP;
    END IF;
    WITH gone AS (
        DELETE FROM {schema}.gg_outbox AS o
        WHERE o.id = ANY (ARRAY(SELECT p.id FROM {schema}.gg_outbox AS p WHERE p.id <= up_to ORDER BY p.id LIMIT batch))
        RETURNING o.id, o.tbl, o.col, o.kind, o.k
    )
    INSERT INTO {schema}.gg_log (seq, tbl, col, kind, k, stamp)
        SELECT new_head + row_number() OVER (ORDER BY g.id), g.tbl, g.col, g.kind, g.k, new_stamp FROM gone AS g;
    GET DIAGNOSTICS made = ROW_COUNT;
    new_head := new_head + made;
    more := made = batch;
    IF new_head > old_head THEN
        UPDATE {schema}.gg_ctl AS c SET head = new_head, stamp = new_stamp;
    END IF;
END
$gg$;
CREATE OR REPLACE FUNCTION {schema}.gg_trim(age_seconds bigint, rows_max bigint, OUT removed bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $gg$
DECLARE
    old_floor bigint;
    old_head bigint;
    last bigint;
BEGIN
    removed := 0;
    SELECT c.floor, c.head INTO old_floor, old_head FROM {schema}.gg_ctl AS c FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- The last row always stays.
    SELECT max(l.seq) INTO last FROM {schema}.gg_log AS l
        WHERE l.seq > old_floor AND l.seq <= least(old_floor + 1000, old_head - 1)
        AND (l.made < clock_timestamp() - age_seconds * interval '1 second' OR l.seq <= old_head - rows_max);
    IF last IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM {schema}.gg_log AS l WHERE l.seq <= last;
    GET DIAGNOSTICS removed = ROW_COUNT;
    UPDATE {schema}.gg_ctl AS c SET floor = last;
END
$gg$;
REVOKE ALL ON FUNCTION {schema}.gg_relay(bigint), {schema}.gg_trim(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {schema}.gg_relay(bigint), {schema}.gg_trim(bigint, bigint) TO {user};
GRANT SELECT ON {schema}.gg_ctl, {schema}.gg_log, {schema}.gg_outbox TO {user};
GRANT INSERT ON {schema}.gg_outbox TO {user};
