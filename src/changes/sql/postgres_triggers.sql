CREATE OR REPLACE FUNCTION {schema}.{name}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS ${name}$
DECLARE
    old_key bytea;
    new_key bytea;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO {schema}.gg_outbox (tbl, col, kind, k) VALUES ({table_text}, {column_text}, 2, '');
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        old_key := {old_key};
    END IF;
    IF TG_OP <> 'DELETE' THEN
        new_key := {new_key};
    END IF;
    IF octet_length(old_key) BETWEEN 1 AND 1024 AND old_key IS DISTINCT FROM new_key THEN
        INSERT INTO {schema}.gg_outbox (tbl, col, kind, k) VALUES ({table_text}, {column_text}, 0, old_key);
    END IF;
    IF octet_length(new_key) BETWEEN 1 AND 1024 THEN
        INSERT INTO {schema}.gg_outbox (tbl, col, kind, k) VALUES ({table_text}, {column_text}, 0, new_key);
    END IF;
    RETURN NULL;
END
${name}$;
CREATE OR REPLACE TRIGGER {name}_row AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION {schema}.{name}();
CREATE OR REPLACE TRIGGER {name}_truncate AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.{name}();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}_row;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}_truncate;
