//! Looking a table over, before it is served: does it exist, what type is its key, is the key unique.

use std::collections::BTreeMap;

use diesel::{
    QueryableByName, RunQueryDsl as _, SqliteConnection,
    result::Error as DieselError,
    sql_query,
    sql_types::{BigInt, Nullable, Text},
};

use super::{OpenError, SqliteDatabase, query::TableStatements};
use crate::origin::{KeyType, TableConfig};

/// The names that an error lists at most.
const NAMES_MAX: usize = 20;

/// What is known of a group's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    /// The table's name.
    pub table: String,
    /// The key column's name.
    pub key_column: String,
    /// What the key column holds.
    pub key_type: KeyType,
    /// SQLite finds a key by an index, and does not read the whole table.
    pub indexed: bool,
    /// The key column is the primary key or has a unique index by itself.
    pub unique: bool,
    /// A collation other than `BINARY` that an index on the key column has. A load may then read rows of
    /// other keys, which are not accepted.
    pub collation: Option<String>,
}

impl TableReport {
    /// What works, but not well; each is a sentence for an operator.
    pub fn warnings(&self) -> Vec<String> {
        let Self { table, key_column, .. } = self;
        let mut warnings = Vec::new();
        if !self.indexed {
            warnings.push(format!(
                "the key column {key_column:?} of table {table:?} has no index that a load can use: each reads the whole table"
            ));
        }
        if !self.unique {
            warnings.push(format!(
                "the key column {key_column:?} of table {table:?} has no unique index: a load fails when two \
                 rows have one key"
            ));
        }
        warnings
    }
}

#[derive(QueryableByName)]
struct NameRow {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct ColumnRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    declared: String,
    /// The column's place in the primary key, from 1; 0 if it is no part of it.
    #[diesel(sql_type = BigInt)]
    pk: i64,
}

#[derive(QueryableByName)]
struct IndexRow {
    #[diesel(sql_type = Text)]
    index_name: String,
    #[diesel(sql_type = BigInt)]
    is_unique: i64,
    #[diesel(sql_type = Nullable<Text>)]
    column_name: Option<String>,
    #[diesel(sql_type = Text)]
    collation: String,
}

#[derive(QueryableByName)]
struct PlanRow {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// Looks the table of `config` over, and writes its statements. Blocks.
pub(super) fn inspect(
    database: &SqliteDatabase,
    config: &TableConfig,
) -> Result<(TableReport, TableStatements), OpenError> {
    let TableConfig { table, key_column, value_columns, .. } = config;
    let tables = database.look(table_names)?;
    // SQLite would find `Students` by `students`; a change is logged under one spelling only.
    if !tables.contains(table) {
        return Err(OpenError::NoTable {
            file: database.path().to_owned(),
            table: table.clone(),
            there_is: listed(&tables),
        });
    }
    let columns = database.look(|connection| columns_of(connection, table))?;
    let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
    if value_columns.is_empty() {
        return Err(OpenError::NoValueColumns { table: table.clone(), there_is: listed(&names) });
    }
    for (at, column) in value_columns.iter().enumerate() {
        if value_columns[..at].contains(column) {
            return Err(OpenError::ColumnTwice { table: table.clone(), column: column.clone() });
        }
    }
    let find = |name: &String| {
        columns.iter().find(|column| column.name == *name).ok_or_else(|| OpenError::NoColumn {
            table: table.clone(),
            column: name.clone(),
            there_is: listed(&names),
        })
    };
    value_columns.iter().try_for_each(|name| find(name).map(drop))?;
    let key = find(key_column)?;
    let key_type = key_type(table, key)?;
    let statements = TableStatements::new(table, key_column, key_type, value_columns);
    let indexes = database.look(|connection| indexes_of(connection, table))?;
    let primary = key.pk > 0 && columns.iter().filter(|column| column.pk > 0).count() == 1;
    let mut report = TableReport {
        table: table.clone(),
        key_column: key_column.clone(),
        key_type,
        indexed: database.look(|connection| is_indexed(connection, &statements))?,
        unique: primary,
        collation: None,
    };
    for index in indexes.values() {
        let Some(first) = index.first().filter(|row| row.column_name.as_ref() == Some(key_column)) else {
            continue;
        };
        report.unique |= first.is_unique != 0 && index.len() == 1;
        if first.collation != "BINARY" {
            report.collation = Some(first.collation.clone());
        }
    }
    Ok((report, statements))
}

fn table_names(connection: &mut SqliteConnection) -> Result<Vec<String>, DieselError> {
    let rows = sql_query(
        "SELECT name FROM main.sqlite_schema WHERE type IN ('table', 'view') \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )
    .load::<NameRow>(connection)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

fn columns_of(connection: &mut SqliteConnection, table: &str) -> Result<Vec<ColumnRow>, DieselError> {
    sql_query("SELECT name, type AS declared, pk FROM pragma_table_xinfo(?, 'main') ORDER BY cid")
        .bind::<Text, _>(table)
        .load(connection)
}

/// The table's indexes by name, each with its columns in order. A partial index answers only some keys, so
/// that it is left out.
fn indexes_of(
    connection: &mut SqliteConnection,
    table: &str,
) -> Result<BTreeMap<String, Vec<IndexRow>>, DieselError> {
    let rows = sql_query(
        "SELECT i.name AS index_name, i.\"unique\" AS is_unique, x.name AS column_name, x.coll AS collation \
         FROM pragma_index_list(?, 'main') AS i, pragma_index_xinfo(i.name, 'main') AS x \
         WHERE i.partial = 0 AND x.\"key\" = 1 ORDER BY i.name, x.seqno",
    )
    .bind::<Text, _>(table)
    .load::<IndexRow>(connection)?;
    let mut indexes = BTreeMap::<String, Vec<IndexRow>>::new();
    for row in rows {
        indexes.entry(row.index_name.clone()).or_default().push(row);
    }
    Ok(indexes)
}

/// Whether a load finds its rows without reading all of them. SQLite's own plan says it best: an index of
/// another collation than the column's is of no use, and a view may or may not have one.
fn is_indexed(connection: &mut SqliteConnection, statements: &TableStatements) -> Result<bool, DieselError> {
    let plan = sql_query(statements.explain()).load::<PlanRow>(connection)?;
    Ok(!plan.iter().any(|row| row.detail.starts_with("SCAN")))
}

/// The key column's type by its affinity: <https://sqlite.org/datatype3.html>, section 3.1.
fn key_type(table: &str, column: &ColumnRow) -> Result<KeyType, OpenError> {
    let declared = column.declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    let affinity = if declared.is_empty() {
        return Err(OpenError::KeyColumnUntyped { table: table.to_owned(), column: column.name.clone() });
    } else if has(&["INT"]) {
        return Ok(KeyType::Integer);
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        return Ok(KeyType::Text);
    } else if has(&["BLOB"]) {
        return Ok(KeyType::Blob);
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        "real"
    } else {
        "numeric"
    };
    Err(OpenError::KeyColumn {
        table: table.to_owned(),
        column: column.name.clone(),
        declared: column.declared.clone(),
        affinity,
    })
}

/// Names for an error, not more than a person reads.
fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_MAX {
        text.push_str(&format!(" and {} more", names.len() - NAMES_MAX));
    }
    text
}
