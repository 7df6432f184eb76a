//! The two statements that are sent while serving.
//!
//! Identifiers are quoted and always qualified: SQLite takes a double-quoted name that it does not know
//! for a string, so that after a dropped column `"score"` would be the text *score* in every row, where
//! `t."score"` is an error. Values are always bound.

use std::borrow::Cow;

use super::columns::key_cast;
use crate::database::{
    Column, DatabaseKind, Deadline, KeyType, KeyValue, SqlValue, Statement, key_expression,
};

/// The texts of one table's statements.
#[derive(Debug)]
pub(super) struct TableStatements {
    kind: DatabaseKind,
    select: String,
    key_in: String,
    keys: String,
    keys_of_type: String,
    after: String,
    order: String,
    /// Before and after each key that is bound in a load, and the key that a scan goes on after.
    cast: (String, String),
    scan_cast: (String, String),
    collate: String,
}

impl TableStatements {
    /// For a table of this name; `values` is SQL for each value, of columns of the row `t`.
    pub(super) fn new(
        kind: DatabaseKind,
        table: &str,
        key: &Column,
        key_type: KeyType,
        values: &[String],
    ) -> Self {
        let column = format!("t.{}", kind.quoted(&key.name));
        let values: String = values.iter().map(|value| format!(", {value}")).collect();
        let table = match kind {
            DatabaseKind::Sqlite => format!("main.{}", kind.quoted(table)),
            _ => kind.quoted(table),
        };
        // SQLite's fields have types of their own, and the row is judged by what is stored.
        let key_sql = match kind {
            DatabaseKind::Sqlite => column.clone(),
            _ => key_expression(kind, key_type, &column),
        };
        // The deadline comes first: SQLite evaluates what no index answers from left to right, and a scan
        // of a table without an index has to notice it on rows that do not match.
        let (within, and) = match kind {
            DatabaseKind::Sqlite => ("gg_within(", ") AND "),
            _ => ("", ""),
        };
        let around = |name: &str| ("CAST(".to_owned(), format!(" AS {name})"));
        let cast = key_cast(kind, key, kind == DatabaseKind::Postgres);
        let key_in = match kind {
            // An array is one value: one statement, prepared once, for any number of keys.
            DatabaseKind::Postgres => format!("{column} = ANY("),
            _ => format!("{and}{column} IN ("),
        };
        // Where several keys may be equal under the column's collation, byte order: `> 'Anna'` would skip `anna`. Where
        // they can't be, the column's own order, which an index has.
        let byte_order = key_type == KeyType::Text && key.collation.is_some() && !key.unique;
        let (place, collate) = match kind {
            DatabaseKind::Sqlite if key_type == KeyType::Text => (column.clone(), " COLLATE BINARY"),
            DatabaseKind::Postgres if byte_order => (format!("CAST({column} AS text)"), " COLLATE \"C\""),
            DatabaseKind::Mysql if byte_order => (key_sql.clone(), ""),
            _ => (column.clone(), ""),
        };
        let has_key = match kind {
            DatabaseKind::Sqlite => {
                let stored = match key_type {
                    KeyType::Text | KeyType::Uuid => "text",
                    KeyType::Integer | KeyType::Unsigned => "integer",
                    KeyType::Bytes => "blob",
                };
                format!("typeof({column}) = '{stored}'")
            }
            _ => format!("{column} IS NOT NULL"),
        };
        Self {
            kind,
            select: format!("SELECT {key_sql}{values} FROM {table} AS t WHERE {within}"),
            key_in,
            keys: format!("SELECT {key_sql} FROM {table} AS t WHERE {within}"),
            keys_of_type: format!("{and}{has_key}"),
            after: format!(" AND {place} > "),
            order: format!(" ORDER BY {place}{collate} LIMIT "),
            collate: collate.to_owned(),
            cast,
            scan_cast: match kind {
                DatabaseKind::Postgres if byte_order => around("text"),
                DatabaseKind::Mysql if byte_order => around("BINARY"),
                _ => key_cast(kind, key, false),
            },
        }
    }

    fn begin<'a>(&self, text: &'a str, deadline: Deadline) -> Statement<'a> {
        match self.kind {
            DatabaseKind::Sqlite => Statement::new(text).bind(deadline.as_number()),
            _ => Statement::new(text),
        }
    }

    /// Asks how SQLite would do a load of one key. Nothing is executed.
    pub(super) fn explain(&self) -> Statement<'_> {
        let explain = format!("EXPLAIN QUERY PLAN {}", self.select);
        Statement::new(explain).bind(0).then(&*self.key_in).bind(0).then(")").once()
    }

    /// Reads the rows of `keys`. A statement for one key is by far the most frequent, and is prepared once a connection.
    pub(super) fn load<'a>(&'a self, keys: &[KeyValue<'a>], deadline: Deadline) -> Statement<'a> {
        let mut statement = self.begin(&self.select, deadline).then(&*self.key_in);
        if self.kind == DatabaseKind::Postgres {
            return statement.then(&*self.cast.0).bind(array(keys)).then(&*self.cast.1).then(")");
        }
        for (at, key) in keys.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            statement = statement.then(comma).then(&*self.cast.0).bind(*key).then(&*self.cast.1);
        }
        let statement = statement.then(")");
        // A statement for each number of keys would crowd the cache of prepared statements.
        if keys.len() > 1 { statement.once() } else { statement }
    }

    /// Reads `limit` keys in order, after `after`, and then after `skip` more.
    pub(super) fn scan<'a>(
        &'a self,
        after: Option<SqlValue<'a>>,
        limit: i64,
        skip: i64,
        deadline: Deadline,
    ) -> Statement<'a> {
        let mut statement = self.begin(&self.keys, deadline).then(&*self.keys_of_type);
        if let Some(after) = after {
            statement = statement.then(&*self.after).then(&*self.scan_cast.0).bind(after);
            statement = statement.then(&*self.scan_cast.1).then(&*self.collate);
        }
        statement.then(&*self.order).bind(limit).then(" OFFSET ").bind(skip)
    }
}

/// All keys as one value of PostgreSQL's. They are of one type, that of the column.
fn array<'a>(keys: &[KeyValue<'a>]) -> SqlValue<'a> {
    match keys.first() {
        Some(KeyValue::Integer(_) | KeyValue::Unsigned(_)) => {
            let number = |key: &KeyValue<'_>| match key {
                KeyValue::Integer(number) => Some(*number),
                _ => None,
            };
            SqlValue::Integers(keys.iter().filter_map(number).collect())
        }
        Some(KeyValue::Bytes(_)) => {
            let bytes = |key: &KeyValue<'a>| match key {
                KeyValue::Bytes(bytes) => Some(Cow::Borrowed(*bytes)),
                _ => None,
            };
            SqlValue::BytesList(keys.iter().filter_map(bytes).collect())
        }
        _ => {
            let text = |key: &KeyValue<'a>| match key {
                KeyValue::Text(text) => Some(Cow::Borrowed(*text)),
                _ => None,
            };
            SqlValue::Texts(keys.iter().filter_map(text).collect())
        }
    }
}
