//! The catalog of MySQL and MariaDB.

use std::collections::{BTreeMap, BTreeSet};

use super::{Column, ColumnType, Table};
use crate::database::{DatabaseError, Statement, Turn};

pub(super) fn names(turn: &mut Turn<'_>, limit: i64) -> Result<Vec<String>, DatabaseError> {
    let statement = Statement::new(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY 1 LIMIT ",
    );
    let rows = turn.query(&statement.bind(limit).once())?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

pub(super) fn read(turn: &mut Turn<'_>, name: &str) -> Result<Option<Table>, DatabaseError> {
    let json = json_columns(turn, name)?;
    let (unique, indexed) = indexes(turn, name)?;
    let statement = Statement::new(
        "SELECT COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, COLLATION_NAME, TABLE_NAME, CHARACTER_SET_NAME FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ",
    );
    let statement = statement.bind(name).then(" ORDER BY ORDINAL_POSITION").once();
    let mut columns = Vec::new();
    for row in turn.query(&statement)? {
        // The catalog's own collation is case-insensitive.
        if row.text(4)? != name {
            continue;
        }
        let (column, declared, data) = (row.text(0)?.to_owned(), row.text(1)?, row.text(2)?);
        let is_json = json.contains(&column);
        let character_set = match (row.text(5), row.text(3)) {
            (Ok(set), Ok(collation)) if set != "utf8mb4" => Some((set.to_owned(), collation.to_owned())),
            _ => None,
        };
        let collation = row.text(3).ok().filter(|name| !name.ends_with("_bin") && *name != "binary");
        columns.push(Column {
            column_type: if is_json { ColumnType::Json } else { column_type(data, declared) },
            unique: unique.contains(&column),
            indexed: indexed.contains(&column),
            collation: collation.map(str::to_owned),
            character_set,
            declared: if is_json { "json".to_owned() } else { declared.to_owned() },
            name: column,
        });
    }
    Ok((!columns.is_empty()).then(|| Table { name: name.to_owned(), columns }))
}

/// MariaDB's `json` is a text with a check, and that is how it is told.
fn json_columns(turn: &mut Turn<'_>, table: &str) -> Result<BTreeSet<String>, DatabaseError> {
    let version = turn.query(&Statement::new("SELECT VERSION()").once())?;
    let is_mariadb =
        version.first().is_some_and(|row| row.text(0).is_ok_and(|text| text.contains("MariaDB")));
    if !is_mariadb {
        return Ok(BTreeSet::new());
    }
    let statement = Statement::new(
        "SELECT CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS \
         WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = ",
    );
    let mut columns = BTreeSet::new();
    for row in turn.query(&statement.bind(table).once())? {
        let (column, check) = (row.text(0)?, row.text(1)?);
        if check == format!("json_valid(`{}`)", column.replace('`', "``")) {
            columns.insert(column.to_owned());
        }
    }
    Ok(columns)
}

/// The columns that are unique by themselves, and those that an index begins with.
fn indexes(turn: &mut Turn<'_>, table: &str) -> Result<(BTreeSet<String>, BTreeSet<String>), DatabaseError> {
    let statement = Statement::new(
        "SELECT INDEX_NAME, NON_UNIQUE, SEQ_IN_INDEX, COLUMN_NAME, SUB_PART, INDEX_TYPE \
         FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ",
    );
    let mut by_name = BTreeMap::<String, (usize, bool, Option<String>, bool)>::new();
    for row in turn.query(&statement.bind(table).once())? {
        // One on the first letters only finds rows, and does not make them unique.
        let whole = row.is_null(4);
        let unique = row.integer(1)? == 0 && whole;
        let entry = by_name.entry(row.text(0)?.to_owned()).or_insert((0, unique, None, false));
        entry.0 += 1;
        if row.integer(2)? == 1 {
            // Of an expression there is no column.
            entry.2 = row.text(3).ok().map(str::to_owned);
            entry.3 = matches!(row.text(5)?, "BTREE" | "HASH");
        }
    }
    let (mut uniques, mut indexed) = (BTreeSet::new(), BTreeSet::new());
    for (columns, is_unique, first, finds) in by_name.into_values() {
        let Some(first) = first else { continue };
        if is_unique && columns == 1 {
            uniques.insert(first.clone());
        }
        if finds {
            indexed.insert(first);
        }
    }
    Ok((uniques, indexed))
}

fn column_type(data: &str, declared: &str) -> ColumnType {
    match data.to_ascii_lowercase().as_str() {
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => ColumnType::Text,
        "bigint" if declared.contains("unsigned") => ColumnType::Unsigned,
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => ColumnType::Integer,
        "float" | "double" => ColumnType::Real,
        "decimal" => ColumnType::Decimal,
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => ColumnType::Bytes,
        "json" => ColumnType::Json,
        "uuid" => ColumnType::Uuid,
        "datetime" => ColumnType::Timestamp,
        "timestamp" => ColumnType::TimestampUtc,
        "date" | "time" | "enum" | "set" | "inet4" | "inet6" => ColumnType::OwnText,
        "bit" | "year" => ColumnType::CastInteger,
        _ => ColumnType::Other,
    }
}
