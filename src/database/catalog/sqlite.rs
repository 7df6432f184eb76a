//! SQLite's catalog.

use super::{Affinity, Column, ColumnType, Table};
use crate::database::{DatabaseError, Statement, Turn};

struct Index {
    name: String,
    is_unique: bool,
    columns: usize,
    first: Option<String>,
    collation: String,
}

pub(super) fn names(turn: &mut Turn<'_>, limit: i64) -> Result<Vec<String>, DatabaseError> {
    let statement = Statement::new(
        "SELECT name FROM main.sqlite_schema WHERE type IN ('table', 'view') \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name LIMIT ",
    );
    let rows = turn.query(&statement.bind(limit))?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

pub(super) fn read(turn: &mut Turn<'_>, name: &str) -> Result<Option<Table>, DatabaseError> {
    // SQLite would find `Students` by `students`.
    let statement =
        Statement::new("SELECT 1 FROM main.sqlite_schema WHERE type IN ('table', 'view') AND name = ");
    if turn.query(&statement.bind(name))?.is_empty() {
        return Ok(None);
    }
    let indexes = indexes(turn, name)?;
    let statement = Statement::new("SELECT name, type, pk FROM pragma_table_xinfo(").bind(name);
    let rows = turn.query(&statement.then(", 'main') ORDER BY cid"))?;
    // The column's place in the primary key, from 1; 0 if it is no part of it.
    let mut primary = 0;
    for row in &rows {
        primary += i64::from(row.integer(2)? > 0);
    }
    let mut columns = Vec::with_capacity(rows.len());
    for row in &rows {
        let (name, declared) = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
        let mut column = Column {
            column_type: ColumnType::Stored(affinity(&declared)),
            unique: primary == 1 && row.integer(2)? > 0,
            // The plan of a load says it better, and is looked at there.
            indexed: true,
            collation: None,
            character_set: None,
            name,
            declared,
        };
        for index in indexes.iter().filter(|index| index.first.as_ref() == Some(&column.name)) {
            column.unique |= index.is_unique && index.columns == 1;
            if index.collation != "BINARY" {
                column.collation = Some(index.collation.clone());
            }
        }
        columns.push(column);
    }
    Ok(Some(Table { name: name.to_owned(), columns }))
}

/// The table's indexes. A partial index answers only some keys, so that it is left out.
fn indexes(turn: &mut Turn<'_>, table: &str) -> Result<Vec<Index>, DatabaseError> {
    let statement = Statement::new("SELECT i.name, i.\"unique\", x.name, x.coll FROM pragma_index_list(")
        .bind(table)
        .then(
            ", 'main') AS i, pragma_index_xinfo(i.name, 'main') AS x \
             WHERE i.partial = 0 AND x.\"key\" = 1 ORDER BY i.name, x.seqno",
        );
    let mut indexes: Vec<Index> = Vec::new();
    for row in turn.query(&statement)? {
        let name = row.text(0)?;
        match indexes.last_mut().filter(|index| index.name == name) {
            Some(index) => index.columns += 1,
            None => indexes.push(Index {
                name: name.to_owned(),
                is_unique: row.integer(1)? != 0,
                columns: 1,
                first: row.text(2).ok().map(str::to_owned),
                collation: row.text(3)?.to_owned(),
            }),
        }
    }
    Ok(indexes)
}

fn affinity(declared: &str) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if has(&["INT"]) {
        Affinity::Integer
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if declared.is_empty() || has(&["BLOB"]) {
        Affinity::Blob
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}
