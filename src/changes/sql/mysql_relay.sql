DROP PROCEDURE IF EXISTS gg_relay;
CREATE PROCEDURE gg_relay(IN up_to bigint, OUT new_head bigint, OUT more bigint)
MODIFIES SQL DATA SQL SECURITY DEFINER
BEGIN
    DECLARE batch bigint DEFAULT 1000;
    DECLARE old_head bigint DEFAULT NULL;
    DECLARE first_id, last_id, found bigint DEFAULT NULL;
    DECLARE new_stamp bigint DEFAULT FLOOR(RAND() * 9007199254740992);
    DECLARE flood_tbl, flood_col varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT NULL;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    SET new_head = NULL, more = 0;
    DROP TEMPORARY TABLE IF EXISTS gg_batch;
    CREATE TEMPORARY TABLE gg_batch (n int NOT NULL AUTO_INCREMENT PRIMARY KEY, id bigint NOT NULL) ENGINE = MEMORY;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    -- One at a time. Who comes second does not wait: what it wants is being done.
    SELECT c.head INTO old_head FROM gg_ctl AS c WHERE c.one = 1 FOR UPDATE SKIP LOCKED;
    IF old_head IS NOT NULL THEN
        -- A question of its own: inside of IF or SET it would wait for rows that others have not committed.
        -- Of a flood no single keys are logged: a table's rows become one row for all of them.
        SELECT COUNT(*) INTO found FROM (SELECT 1 FROM gg_outbox AS o WHERE o.id <= up_to LIMIT 10001) AS many;
        IF found > 10000 THEN
            SELECT f.tbl, f.col INTO flood_tbl, flood_col FROM
                (SELECT o.tbl, o.col FROM gg_outbox AS o WHERE o.id <= up_to ORDER BY o.id LIMIT 10001) AS f
                GROUP BY f.tbl, f.col HAVING COUNT(*) > 1000 LIMIT 1;
        END IF;
        IF flood_tbl IS NOT NULL THEN
            SET batch = 100000;
            SELECT MIN(f.id), MAX(f.id), COUNT(*) INTO first_id, last_id, found FROM
                (SELECT o.id FROM gg_outbox AS o WHERE o.id <= up_to AND o.tbl = flood_tbl AND o.col = flood_col
                ORDER BY o.id LIMIT batch) AS f;
            IF last_id - first_id + 1 = found THEN
                -- All that is between is ours, so that a range meets nobody else's row: not even behind its end.
                DELETE FROM gg_outbox WHERE id >= first_id AND id < last_id;
                DELETE FROM gg_outbox WHERE id = last_id;
            ELSE
                INSERT INTO gg_batch (id) SELECT o.id FROM gg_outbox AS o
                    WHERE o.id <= last_id AND o.tbl = flood_tbl AND o.col = flood_col ORDER BY o.id LIMIT batch;
            END IF;
            INSERT INTO gg_log (seq, tbl, col, kind, k, stamp, made)
                VALUES (old_head + 1, flood_tbl, flood_col, 2, '', new_stamp, UNIX_TIMESTAMP());
            SET more = 1;
        ELSE
            INSERT INTO gg_batch (id) SELECT o.id FROM gg_outbox AS o WHERE o.id <= up_to ORDER BY o.id LIMIT batch;
            INSERT INTO gg_log (seq, tbl, col, kind, k, stamp, made)
                SELECT old_head + b.n, o.tbl, o.col, o.kind, o.k, new_stamp, UNIX_TIMESTAMP()
                FROM gg_batch AS b STRAIGHT_JOIN gg_outbox AS o FORCE INDEX (PRIMARY) ON o.id = b.id;
            SET more = (ROW_COUNT() >= batch);
        END IF;
        -- Each by its primary key: here a range would wait for rows that others have not committed.
        DELETE o FROM gg_batch AS b STRAIGHT_JOIN gg_outbox AS o FORCE INDEX (PRIMARY) ON o.id = b.id;
        SELECT MAX(l.seq) INTO new_head FROM gg_log AS l WHERE l.seq >= old_head;
        IF new_head > old_head THEN
            UPDATE gg_ctl AS c SET c.head = new_head, c.stamp = new_stamp WHERE c.one = 1;
        END IF;
        SET new_head = COALESCE(new_head, old_head);
    END IF;
    COMMIT;
    DROP TEMPORARY TABLE IF EXISTS gg_batch;
END;
DROP PROCEDURE IF EXISTS gg_trim;
CREATE PROCEDURE gg_trim(IN age_seconds bigint, IN rows_max bigint, OUT removed bigint)
MODIFIES SQL DATA SQL SECURITY DEFINER
BEGIN
    DECLARE old_floor bigint DEFAULT NULL;
    DECLARE old_head bigint DEFAULT NULL;
    DECLARE last bigint DEFAULT NULL;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    SET removed = 0;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    SELECT c.floor, c.head INTO old_floor, old_head FROM gg_ctl AS c WHERE c.one = 1 FOR UPDATE SKIP LOCKED;
    IF old_floor IS NOT NULL THEN
        -- The last row always stays.
        SELECT MAX(l.seq) INTO last FROM gg_log AS l
            WHERE l.seq > old_floor AND l.seq <= LEAST(old_floor + 1000, old_head - 1)
            AND (l.made < UNIX_TIMESTAMP() - age_seconds OR l.seq <= old_head - rows_max);
        IF last IS NOT NULL THEN
            DELETE FROM gg_log WHERE seq <= last;
            SET removed = ROW_COUNT();
            UPDATE gg_ctl AS c SET c.floor = last WHERE c.one = 1;
        END IF;
    END IF;
    COMMIT;
END;
