CREATE TABLE IF NOT EXISTS {schema}.gg_ctl (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,
    log_id bigint NOT NULL,
    head bigint NOT NULL DEFAULT 0,
    stamp bigint NOT NULL DEFAULT 0,
    floor bigint NOT NULL DEFAULT 0
);
INSERT INTO {schema}.gg_ctl (version, log_id)
    VALUES (1, ('x' || left(replace(gen_random_uuid()::text, '-', ''), 12) || right(gen_random_uuid()::text, 4))::bit(64)::bigint)
    ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS {schema}.gg_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tbl text NOT NULL,
    col text NOT NULL,
    kind smallint NOT NULL,
    k bytea NOT NULL CHECK (octet_length(k) <= 1024)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE TABLE IF NOT EXISTS {schema}.gg_log (
    seq bigint PRIMARY KEY,
    tbl text NOT NULL,
    col text NOT NULL,
    kind smallint NOT NULL,
    k bytea NOT NULL,
    stamp bigint NOT NULL,
    made timestamptz NOT NULL DEFAULT clock_timestamp()
);
