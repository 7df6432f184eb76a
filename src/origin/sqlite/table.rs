//! Looking a table over, before it is served: does it exist, what type is its key, is the key unique.

use std::collections::BTreeMap;

use super::{TableError, query::TableStatements};
use crate::{
    database::{Access, Database, DatabaseError, KeyType, Row, Statement, Turn},
    origin::TableConfig,
};

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

struct ColumnRow {
    name: String,
    declared: String,
    /// The column's place in the primary key, from 1; 0 if it is no part of it.
    pk: i64,
}

struct IndexRow {
    index_name: String,
    is_unique: bool,
    column_name: Option<String>,
    collation: String,
}

/// Looks the table of `config` over, and writes its statements. Blocks.
pub(super) fn inspect(
    database: &Database,
    config: &TableConfig,
) -> Result<(TableReport, TableStatements), TableError> {
    let TableConfig { table, key_column, value_columns, .. } = config;
    let look = Look { database };
    let tables = look.at(table_names)?;
    // SQLite would find `Students` by `students`; a change is logged under one spelling only.
    if !tables.contains(table) {
        return Err(TableError::NoTable {
            place: database.place(),
            table: table.clone(),
            there_is: listed(&tables),
        });
    }
    let columns = look.at(|turn| columns_of(turn, table))?;
    let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
    if value_columns.is_empty() {
        return Err(TableError::NoValueColumns { table: table.clone(), there_is: listed(&names) });
    }
    for (at, column) in value_columns.iter().enumerate() {
        if value_columns[..at].contains(column) {
            return Err(TableError::ColumnTwice { table: table.clone(), column: column.clone() });
        }
    }
    let find = |name: &String| {
        columns.iter().find(|column| column.name == *name).ok_or_else(|| TableError::NoColumn {
            table: table.clone(),
            column: name.clone(),
            there_is: listed(&names),
        })
    };
    value_columns.iter().try_for_each(|name| find(name).map(drop))?;
    let key = find(key_column)?;
    let key_type = key_type(table, key)?;
    let statements = TableStatements::new(table, key_column, key_type, value_columns);
    let indexes = look.at(|turn| indexes_of(turn, table))?;
    let primary = key.pk > 0 && columns.iter().filter(|column| column.pk > 0).count() == 1;
    let mut report = TableReport {
        table: table.clone(),
        key_column: key_column.clone(),
        key_type,
        indexed: look.at(|turn| is_indexed(turn, &statements))?,
        unique: primary,
        collation: None,
    };
    for index in indexes.values() {
        let Some(first) = index.first().filter(|row| row.column_name.as_ref() == Some(key_column)) else {
            continue;
        };
        report.unique |= first.is_unique && index.len() == 1;
        if first.collation != "BINARY" {
            report.collation = Some(first.collation.clone());
        }
    }
    Ok((report, statements))
}

/// Runs what looks, at the start.
struct Look<'a> {
    database: &'a Database,
}

impl Look<'_> {
    fn at<T>(&self, look: impl FnOnce(&mut Turn<'_>) -> Result<T, DatabaseError>) -> Result<T, TableError> {
        let place = self.database.place();
        self.database
            .run_here(Access::Read, self.database.statement_timeout(), look)
            .map_err(|source| TableError::Look { place, source })
    }
}

fn table_names(turn: &mut Turn<'_>) -> Result<Vec<String>, DatabaseError> {
    let rows = turn.query(&Statement::new(
        "SELECT name FROM main.sqlite_schema WHERE type IN ('table', 'view') \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    ))?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

fn columns_of(turn: &mut Turn<'_>, table: &str) -> Result<Vec<ColumnRow>, DatabaseError> {
    let statement = Statement::new("SELECT name, type, pk FROM pragma_table_xinfo(").bind(table);
    let rows = turn.query(&statement.then(", 'main') ORDER BY cid"))?;
    let column = |row: &Row| {
        let (name, declared) = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
        Ok(ColumnRow { name, declared, pk: row.integer(2)? })
    };
    rows.iter().map(column).collect()
}

/// The table's indexes by name, each with its columns in order. A partial index answers only some keys, so
/// that it is left out.
fn indexes_of(turn: &mut Turn<'_>, table: &str) -> Result<BTreeMap<String, Vec<IndexRow>>, DatabaseError> {
    let statement = Statement::new("SELECT i.name, i.\"unique\", x.name, x.coll FROM pragma_index_list(")
        .bind(table)
        .then(
            ", 'main') AS i, pragma_index_xinfo(i.name, 'main') AS x \
         WHERE i.partial = 0 AND x.\"key\" = 1 ORDER BY i.name, x.seqno",
        );
    let mut indexes = BTreeMap::<String, Vec<IndexRow>>::new();
    for row in turn.query(&statement)? {
        let index = IndexRow {
            index_name: row.text(0)?.to_owned(),
            is_unique: row.integer(1)? != 0,
            column_name: row.text(2).ok().map(str::to_owned),
            collation: row.text(3)?.to_owned(),
        };
        indexes.entry(index.index_name.clone()).or_default().push(index);
    }
    Ok(indexes)
}

/// Whether a load finds its rows without reading all of them. SQLite's own plan says it best: an index of
/// another collation than the column's is of no use, and a view may or may not have one.
fn is_indexed(turn: &mut Turn<'_>, statements: &TableStatements) -> Result<bool, DatabaseError> {
    for row in turn.query(&statements.explain())? {
        if row.text(3)?.starts_with("SCAN") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The key column's type by its affinity: <https://sqlite.org/datatype3.html>, section 3.1.
fn key_type(table: &str, column: &ColumnRow) -> Result<KeyType, TableError> {
    let declared = column.declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    let affinity = if declared.is_empty() {
        return Err(TableError::KeyColumnUntyped { table: table.to_owned(), column: column.name.clone() });
    } else if has(&["INT"]) {
        return Ok(KeyType::Integer);
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        return Ok(KeyType::Text);
    } else if has(&["BLOB"]) {
        return Ok(KeyType::Bytes);
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        "real"
    } else {
        "numeric"
    };
    Err(TableError::KeyColumn {
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
