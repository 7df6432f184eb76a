//! PostgreSQL's catalog.

use super::{Column, ColumnType, Table};
use crate::database::{DatabaseError, Row, Statement, Turn};

/// Tables, partitioned ones, views, materialized views and foreign tables that a bare name can mean.
const VISIBLE: &str = "FROM pg_catalog.pg_class AS c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') \
                       AND pg_catalog.pg_table_is_visible(c.oid)";

pub(super) fn names(turn: &mut Turn<'_>, limit: i64) -> Result<Vec<String>, DatabaseError> {
    let statement = format!(
        "SELECT c.relname::text {VISIBLE} AND c.relnamespace NOT IN \
         ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) ORDER BY 1 LIMIT "
    );
    let rows = turn.query(&Statement::new(statement).bind(limit).once())?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

pub(super) fn read(turn: &mut Turn<'_>, name: &str) -> Result<Option<Table>, DatabaseError> {
    // PostgreSQL's text has no zero byte, and it would refuse the statement.
    if name.contains('\0') {
        return Ok(None);
    }
    let statement = format!("SELECT c.oid::bigint {VISIBLE} AND c.relname = ");
    let rows = turn.query(&Statement::new(statement).bind(name).once())?;
    let Some(row) = rows.first() else { return Ok(None) };
    let oid = row.integer(0)?;
    // A domain is what lies below it, however deep.
    let statement = Statement::new(
        "WITH RECURSIVE base(attnum, oid) AS ( \
             SELECT a.attnum, a.atttypid FROM pg_catalog.pg_attribute AS a WHERE a.attrelid::bigint = ",
    )
    .bind(oid)
    .then(
        " AND a.attnum > 0 AND NOT a.attisdropped \
             UNION ALL SELECT base.attnum, y.typbasetype FROM base JOIN pg_catalog.pg_type AS y ON y.oid = base.oid \
             WHERE y.typtype = 'd') \
         SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), y.typname::text, \
                y.typtype::text, y.typcategory::text, y.typnamespace = 'pg_catalog'::regnamespace, \
                pg_catalog.format_type(y.oid, NULL), \
                (SELECT o.collname::text FROM pg_catalog.pg_collation AS o \
                 WHERE o.oid = a.attcollation AND NOT o.collisdeterministic), \
                EXISTS (SELECT 1 FROM pg_catalog.pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisvalid \
                        AND i.indpred IS NULL AND i.indisunique AND i.indnkeyatts = 1 \
                        AND i.indkey[0] = a.attnum), \
                EXISTS (SELECT 1 FROM pg_catalog.pg_index AS i \
                        JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid \
                        JOIN pg_catalog.pg_am AS m ON m.oid = c.relam \
                        WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indpred IS NULL \
                        AND i.indkey[0] = a.attnum AND i.indcollation[0] = a.attcollation \
                        AND m.amname IN ('btree', 'hash')) \
         FROM base JOIN pg_catalog.pg_type AS y ON y.oid = base.oid AND y.typtype <> 'd' \
         JOIN pg_catalog.pg_attribute AS a ON a.attnum = base.attnum AND a.attrelid::bigint = ",
    )
    .bind(oid)
    .then(" ORDER BY a.attnum");
    let columns = turn.query(&statement.once())?.iter().map(column).collect::<Result<_, _>>()?;
    Ok(Some(Table { name: name.to_owned(), columns }))
}

fn column(row: &Row) -> Result<Column, DatabaseError> {
    let is_built_in = row.integer(5)? != 0;
    let column_type = column_type(row.text(2)?, row.text(3)?, row.text(4)?, is_built_in, row.text(6)?);
    let case_insensitive =
        matches!(column_type, ColumnType::CaseInsensitiveText(_)).then(|| "citext".to_owned());
    Ok(Column {
        name: row.text(0)?.to_owned(),
        declared: row.text(1)?.to_owned(),
        column_type,
        unique: row.integer(8)? != 0,
        indexed: row.integer(9)? != 0,
        collation: row.text(7).ok().map(str::to_owned).or(case_insensitive),
        character_set: None,
    })
}

/// By `pg_type`: its name, its `typtype` and `typcategory`, and its full name.
fn column_type(name: &str, kind: &str, category: &str, is_built_in: bool, full_name: &str) -> ColumnType {
    match (kind, category) {
        ("e" | "r" | "m", _) => return ColumnType::OwnText,
        ("c", _) | (_, "A") => return ColumnType::ToJson,
        _ => {}
    }
    if !is_built_in {
        return match name {
            "citext" => ColumnType::CaseInsensitiveText(full_name.to_owned()),
            _ => ColumnType::Other,
        };
    }
    match name {
        "text" | "varchar" | "name" => ColumnType::Text,
        "bpchar" => ColumnType::PaddedText,
        "int2" | "int4" | "int8" => ColumnType::Integer,
        "float4" | "float8" => ColumnType::Real,
        "numeric" => ColumnType::Decimal,
        "bool" => ColumnType::Bool,
        "bytea" => ColumnType::Bytes,
        "json" | "jsonb" => ColumnType::Json,
        "uuid" => ColumnType::Uuid,
        "timestamp" => ColumnType::Timestamp,
        "timestamptz" => ColumnType::TimestampUtc,
        "date" | "time" | "timetz" | "interval" | "inet" | "cidr" | "macaddr" | "macaddr8" | "bit"
        | "varbit" | "xml" | "char" => ColumnType::OwnText,
        _ => ColumnType::Other,
    }
}
