//! The two statements that are sent while serving.
//!
//! Identifiers are quoted and always qualified: SQLite takes a double-quoted name that it does not know
//! for a string, so that after a dropped column `"score"` would be the text *score* in every row, where
//! `t."score"` is an error. Values are always bound.

use crate::database::{DatabaseKind, Deadline, KeyType, KeyValue, SqlValue, Statement};

/// The texts of one table's statements.
#[derive(Debug)]
pub(super) struct TableStatements {
    select: String,
    key_in: String,
    keys: String,
    keys_of_type: String,
    after: String,
    collate: &'static str,
    order: String,
}

impl TableStatements {
    pub(super) fn new(table: &str, key_column: &str, key_type: KeyType, value_columns: &[String]) -> Self {
        let quoted = |name: &str| DatabaseKind::Sqlite.quoted(name);
        let table = quoted(table);
        let key = format!("t.{}", quoted(key_column));
        let values: String = value_columns.iter().map(|column| format!(", t.{}", quoted(column))).collect();
        // The deadline comes first: SQLite evaluates what no index answers from left to right, and a scan
        // of a table without an index has to notice it on rows that do not match.
        let select = format!("SELECT {key}{values} FROM main.{table} AS t WHERE gg_within(");
        let key_in = format!(") AND {key} IN (");
        // Byte order, whatever the column's collation: under NOCASE `> 'Anna'` would skip `anna`. Where
        // the collation is BINARY this is the index's own order; elsewhere it sorts.
        let collate = if key_type == KeyType::Text { " COLLATE BINARY" } else { "" };
        let stored = match key_type {
            KeyType::Text | KeyType::Uuid => "text",
            KeyType::Integer | KeyType::Unsigned => "integer",
            KeyType::Bytes => "blob",
        };
        let keys = format!("SELECT {key} FROM main.{table} AS t WHERE gg_within(");
        let keys_of_type = format!(") AND typeof({key}) = '{stored}'");
        let after = format!(" AND {key} > ");
        let order = format!(" ORDER BY {key}{collate} LIMIT ");
        Self { select, key_in, keys, keys_of_type, after, collate, order }
    }

    /// Asks how a load of one key would be done. Nothing is executed.
    pub(super) fn explain(&self) -> Statement<'_> {
        let explain = format!("EXPLAIN QUERY PLAN {}", self.select);
        Statement::new(explain).bind(0).then(&*self.key_in).bind(0).then(")").once()
    }

    /// Reads the rows of `keys`. A statement for one key is by far the most frequent, and is prepared once a connection.
    pub(super) fn load<'a>(&'a self, keys: &[KeyValue<'a>], deadline: Deadline) -> Statement<'a> {
        let statement = Statement::new(&*self.select).bind(deadline.as_number()).then(&*self.key_in);
        let statement = statement.bind_all(keys.iter().copied()).then(")");
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
        let mut statement = Statement::new(&*self.keys).bind(deadline.as_number()).then(&*self.keys_of_type);
        if let Some(after) = after {
            statement = statement.then(&*self.after).bind(after).then(self.collate);
        }
        statement.then(&*self.order).bind(limit).then(" OFFSET ").bind(skip)
    }
}
