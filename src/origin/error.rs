//! Why a table can't be served, and why a load failed. No message holds a key or a value.

use thiserror::Error;

use crate::{database::DatabaseError, group::LoadError};

/// Why a table can't be served.
#[derive(Debug, Error)]
pub enum TableError {
    #[error("the database {place} can't be looked over")]
    Look { place: String, source: DatabaseError },
    #[error("the database {place} has no table {table:?}: it has {there_is}")]
    NoTable { place: String, table: String, there_is: String },
    #[error("the table {table:?} has no column {column:?}: it has {there_is}")]
    NoColumn { table: String, column: String, there_is: String },
    #[error("the group on table {table:?} names no value column: it needs at least one of {there_is}")]
    NoValueColumns { table: String, there_is: String },
    #[error("the value columns of table {table:?} name {column:?} twice")]
    ColumnTwice { table: String, column: String },
    #[error(
        "the value column {column:?} of table {table:?} has the type {declared}, which has no rendering: select \
         what is wanted of it in a view"
    )]
    ValueColumn { table: String, column: String, declared: String },
    #[error(
        "the key column {column:?} of table {table:?} has the type {declared}: a key column must be text, an \
         integer, a uuid or bytes"
    )]
    KeyColumn { table: String, column: String, declared: String },
    #[error(
        "the key column {column:?} of table {table:?} is declared {declared:?}, which SQLite keeps with \
         {affinity} affinity: a key column must have text, integer or blob affinity"
    )]
    KeyAffinity { table: String, column: String, declared: String, affinity: &'static str },
    #[error(
        "the key column {column:?} of table {table:?} has no declared type: declare it text, integer or blob"
    )]
    KeyColumnUntyped { table: String, column: String },
    #[error(
        "the group on table {table:?} is writable, and its key column {column:?} is not unique: two writes at once \
         would make two rows; give it a unique index"
    )]
    KeyNotUnique { table: String, column: String },
    #[error(
        "the group on table {table:?} is writable, and its value column {column:?} of the type {declared} can't be \
         written as it is read"
    )]
    NotWritable { table: String, column: String, declared: String },
}

/// Why a load failed: the source of a [`LoadError`] that has one.
#[derive(Debug, Error)]
pub enum QueryError {
    #[error(transparent)]
    Database(DatabaseError),
    #[error("the query of table {table:?} failed")]
    Statement { table: String, source: diesel::result::Error },
    #[error("two rows of table {table:?} have one key in column {column:?}, which must be unique")]
    DuplicateKey { table: String, column: String },
    #[error("the text in column {column:?} of table {table:?} is not UTF-8")]
    NotUtf8 { table: String, column: String },
    #[error(
        "the field in column {column:?} of table {table:?} is not of the type that the column had at the start"
    )]
    OtherType { table: String, column: String },
}

impl From<DatabaseError> for LoadError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Busy(connections) => Self::Busy(connections),
            DatabaseError::Timeout(timeout) => Self::Timeout(timeout),
            DatabaseError::Panicked => Self::Broken("the query panicked"),
            DatabaseError::Stopped => Self::Broken("the runtime is shutting down"),
            error @ (DatabaseError::Gone { .. } | DatabaseError::Connection { .. }) => {
                Self::unavailable(QueryError::Database(error))
            }
            error if error.is_connection() => Self::disconnected(QueryError::Database(error)),
            error => Self::refused(QueryError::Database(error)),
        }
    }
}
