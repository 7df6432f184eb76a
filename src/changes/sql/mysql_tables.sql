CREATE TABLE IF NOT EXISTS gg_ctl (
    one tinyint NOT NULL PRIMARY KEY,
    version int NOT NULL,
    log_id bigint NOT NULL,
    head bigint NOT NULL DEFAULT 0,
    stamp bigint NOT NULL DEFAULT 0,
    floor bigint NOT NULL DEFAULT 0
) ENGINE = InnoDB;
INSERT IGNORE INTO gg_ctl (one, version, log_id)
    VALUES (1, 1, CAST(CONV(LEFT(MD5(CONCAT(UUID(), RAND(), NOW(6))), 16), 16, -10) AS SIGNED));
CREATE TABLE IF NOT EXISTS gg_outbox (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    tbl varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    col varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    kind tinyint NOT NULL,
    k varbinary(1024) NOT NULL
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS gg_log (
    seq bigint NOT NULL PRIMARY KEY,
    tbl varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    col varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    kind tinyint NOT NULL,
    k varbinary(1024) NOT NULL,
    stamp bigint NOT NULL,
    made bigint NOT NULL
) ENGINE = InnoDB;
