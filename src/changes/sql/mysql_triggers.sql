CREATE TRIGGER IF NOT EXISTS {name}_i AFTER INSERT ON {table} FOR EACH ROW
BEGIN
    DECLARE new_key longblob DEFAULT {new_key};
    IF LENGTH(new_key) BETWEEN 1 AND 1024 THEN
        INSERT INTO gg_outbox (tbl, col, kind, k) VALUES ({table_text}, {column_text}, 0, new_key);
    END IF;
END;
CREATE TRIGGER IF NOT EXISTS {name}_u AFTER UPDATE ON {table} FOR EACH ROW
BEGIN
    DECLARE old_key longblob DEFAULT {old_key};
    DECLARE new_key longblob DEFAULT {new_key};
    IF LENGTH(old_key) BETWEEN 1 AND 1024 AND NOT (old_key <=> new_key) THEN
        INSERT INTO gg_outbox (tbl, col, kind, k) VALUES ({table_text}, {column_text}, 0, old_key);
    END IF;
    IF LENGTH(new_key) BETWEEN 1 AND 1024 THEN
        INSERT INTO gg_outbox (tbl, col, kind, k) VALUES ({table_text}, {column_text}, 0, new_key);
    END IF;
END;
CREATE TRIGGER IF NOT EXISTS {name}_d AFTER DELETE ON {table} FOR EACH ROW
BEGIN
    DECLARE old_key longblob DEFAULT {old_key};
    IF LENGTH(old_key) BETWEEN 1 AND 1024 THEN
        INSERT INTO gg_outbox (tbl, col, kind, k) VALUES ({table_text}, {column_text}, 0, old_key);
    END IF;
END;
