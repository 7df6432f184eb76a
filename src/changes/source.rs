//! What a log's row is about: a table's key column, and what of it has changed.

use crate::{
    database::KeyType,
    group::{Change, Key},
};

/// A table and its key column, as the configuration spells them. Several groups may read one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The table.
    pub table: String,
    /// The column that holds the key.
    pub key_column: String,
}

/// A source and how its keys are rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The table and column.
    pub source: Source,
    /// The column's type.
    pub key_type: KeyType,
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Its number.
    pub seq: u64,
    /// What it is about.
    pub source: Source,
    /// What has changed; `None` if that can be no key.
    pub change: Option<Change>,
    /// Drawn at random when the row came into the log: another history has another one at the same number.
    pub stamp: i64,
}

/// The kinds of rows, as the tables have them.
pub(super) const KIND_KEY: i64 = 0;
pub(super) const KIND_PREFIX: i64 = 1;
pub(super) const KIND_ALL: i64 = 2;

/// What a row with this kind and these bytes says. Whatever is not known is taken for all.
pub(super) fn change(kind: i64, bytes: &[u8]) -> Option<Change> {
    match kind {
        KIND_KEY => Key::new(bytes).ok().map(Change::Key),
        KIND_PREFIX => Some(Change::Prefix(bytes.to_vec())),
        _ => Some(Change::Prefix(Vec::new())),
    }
}
