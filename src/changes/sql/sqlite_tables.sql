CREATE TABLE IF NOT EXISTS gg_ctl (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL,
    log_id INTEGER NOT NULL,
    floor INTEGER NOT NULL DEFAULT 0
);
INSERT OR IGNORE INTO gg_ctl (one, version, log_id) VALUES (1, 1, random());
CREATE TABLE IF NOT EXISTS gg_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tbl TEXT NOT NULL,
    col TEXT NOT NULL,
    kind INTEGER NOT NULL,
    k BLOB NOT NULL,
    stamp INTEGER NOT NULL DEFAULT (random()),
    made INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
);
