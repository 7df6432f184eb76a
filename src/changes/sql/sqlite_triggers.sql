CREATE TRIGGER IF NOT EXISTS {name}_i AFTER INSERT ON {table} BEGIN
    INSERT INTO gg_outbox (tbl, col, kind, k)
    SELECT {table_text}, {column_text}, 0, d.k FROM (SELECT CAST({new_key} AS BLOB) AS k) AS d
    WHERE length(d.k) BETWEEN 1 AND 1024;
END;
CREATE TRIGGER IF NOT EXISTS {name}_u AFTER UPDATE ON {table} BEGIN
    INSERT INTO gg_outbox (tbl, col, kind, k)
    SELECT {table_text}, {column_text}, 0, d.k
    FROM (SELECT CAST({old_key} AS BLOB) AS k UNION SELECT CAST({new_key} AS BLOB)) AS d
    WHERE length(d.k) BETWEEN 1 AND 1024;
END;
CREATE TRIGGER IF NOT EXISTS {name}_d AFTER DELETE ON {table} BEGIN
    INSERT INTO gg_outbox (tbl, col, kind, k)
    SELECT {table_text}, {column_text}, 0, d.k FROM (SELECT CAST({old_key} AS BLOB) AS k) AS d
    WHERE length(d.k) BETWEEN 1 AND 1024;
END;
