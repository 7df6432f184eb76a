//! Looking a table over, before it is served: does it exist, what type is its key, is the key unique, can its values be
//! rendered.

use super::{TableError, columns::value_expression, statements::TableStatements};
use crate::{
    database::{
        Access, Affinity, Column, ColumnType, Database, DatabaseError, DatabaseKind, KeyType, Table, Turn,
    },
    origin::{TableConfig, render::Rendering},
};

/// The names that an error lists at most.
const NAMES_MAX: usize = 20;

/// What is known of a group's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    /// The kind of its database.
    pub kind: DatabaseKind,
    /// The table's name.
    pub table: String,
    /// The key column's name.
    pub key_column: String,
    /// The key column's type, as the database spells it.
    pub key_declared: String,
    /// What the key column holds.
    pub key_type: KeyType,
    /// The value columns with their types, as the database spells them, in the configured order.
    pub values: Vec<(String, String)>,
    /// A key is found by an index, and not by reading the whole table.
    pub indexed: bool,
    /// The key column is the primary key or has a unique index by itself.
    pub unique: bool,
    /// A collation of the key column under which keys of other bytes may be equal. A load may then read rows of other
    /// keys, which are not accepted.
    pub collation: Option<String>,
    /// What the rendering of a value depends on, beside the names of its columns.
    rendering: String,
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

    /// Equal at nodes that make the same value of the same fields.
    pub fn rendering(&self) -> &str {
        &self.rendering
    }
}

/// A table that was looked over: what is known of it, its statements, and how each value is rendered.
pub(super) struct Inspected {
    pub(super) report: TableReport,
    pub(super) statements: TableStatements,
    pub(super) renderings: Vec<Rendering>,
}

/// Looks the table of `config` over, and writes its statements. Blocks.
pub(super) fn inspect(database: &Database, config: &TableConfig) -> Result<Inspected, TableError> {
    let look = Look { database };
    let Some(table) = look.at(|turn| Table::read(turn, &config.table))? else {
        let names = look.at(|turn| Table::names(turn, 1 + NAMES_MAX as i64))?;
        let (table, there_is) = (config.table.clone(), listed(&names));
        return Err(TableError::NoTable { place: database.place(), table, there_is });
    };
    let kind = database.kind();
    let names: Vec<_> = table.columns.iter().map(|column| column.name.clone()).collect();
    let value_columns = &config.value_columns;
    if value_columns.is_empty() {
        return Err(TableError::NoValueColumns { table: table.name, there_is: listed(&names) });
    }
    for (at, column) in value_columns.iter().enumerate() {
        if value_columns[..at].contains(column) {
            return Err(TableError::ColumnTwice { table: table.name, column: column.clone() });
        }
    }
    let find = |name: &String| {
        table.column(name).ok_or_else(|| TableError::NoColumn {
            table: table.name.clone(),
            column: name.clone(),
            there_is: listed(&names),
        })
    };
    let mut values = Vec::with_capacity(value_columns.len());
    let (mut expressions, mut renderings) = (Vec::new(), Vec::new());
    for name in value_columns {
        let column = find(name)?;
        let reference = format!("t.{}", kind.quoted(name));
        let Some((expression, rendering)) = value_expression(kind, column, &reference) else {
            let (table, column, declared) = (table.name.clone(), name.clone(), column.declared.clone());
            return Err(TableError::ValueColumn { table, column, declared });
        };
        values.push((name.clone(), column.declared.clone()));
        expressions.push(expression);
        renderings.push(rendering);
    }
    let key = find(&config.key_column)?;
    let key_type = key.key_type().ok_or_else(|| no_key(&table.name, key))?;
    let statements = TableStatements::new(kind, &table.name, key, key_type, &expressions);
    let indexed = match kind {
        DatabaseKind::Sqlite => look.at(|turn| is_indexed(turn, &statements))?,
        _ => key.indexed,
    };
    let report = TableReport {
        kind,
        table: table.name.clone(),
        key_column: key.name.clone(),
        key_declared: key.declared.clone(),
        key_type,
        values,
        indexed,
        unique: key.unique,
        collation: key.collation.clone(),
        rendering: format!("{kind} {} {expressions:?} {renderings:?}", key_type.as_str()),
    };
    Ok(Inspected { report, statements, renderings })
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

fn no_key(table: &str, column: &Column) -> TableError {
    let (table, declared, column_type) = (table.to_owned(), column.declared.clone(), &column.column_type);
    let column = column.name.clone();
    match column_type {
        ColumnType::Stored(_) if declared.is_empty() => TableError::KeyColumnUntyped { table, column },
        ColumnType::Stored(affinity) => {
            let affinity = if *affinity == Affinity::Real { "real" } else { "numeric" };
            TableError::KeyAffinity { table, column, declared, affinity }
        }
        _ => TableError::KeyColumn { table, column, declared },
    }
}

/// Names for an error, not more than a person reads.
fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_MAX {
        text.push_str(" and more");
    }
    text
}
