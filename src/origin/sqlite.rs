//! SQLite as an origin, by diesel over an r2d2 pool.
//!
//! Built by the composition root: one [`SqliteDatabase`] for each `[database.NAME]`, one [`TableLoader`]
//! for each group on it. Reading never creates a file and never writes a row; only [`migrate()`] does.
//!
//! How a statement ends in time. SQLite is asked from blocking threads, and a running statement can't be
//! cancelled from outside by what diesel offers. So each statement carries its own end: the wait for a
//! lock ends by `busy_timeout`, and each row that is looked at evaluates `gg_within(deadline)`, a function
//! of ours that fails the statement once the deadline has passed. What neither reaches is a single step
//! that takes long by itself: a read that hangs in the kernel, or a view that sorts or aggregates. Then the
//! thread, its connection and its places in the database's and the group's bound stay taken until it ends,
//! and the [`Timeout`](super::Timeout) around the loader answers the caller.

mod connect;
mod database;
mod file;
mod loader;
mod migrate;
mod query;
mod table;
#[cfg(test)]
mod tests;
mod threads;

use std::{sync::Arc, time::Duration};

pub use database::SqliteDatabase;
pub use loader::TableLoader;
pub use migrate::{MigrateError, migrate};
pub use table::TableReport;
use thiserror::Error;

/// Why a database or a table can't be served.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the database URL {url} is not usable: {reason}")]
    Url { url: String, reason: &'static str },
    #[error("{setting} of the database {url} is 0, and must be at least {least}")]
    Setting { url: String, setting: &'static str, least: &'static str },
    #[error("there is no database file {file:?}: `ggcache migrate` creates it")]
    Missing { file: String },
    #[error("the database file {file:?} can't be opened")]
    Open { file: String, source: Arc<dyn std::error::Error + Send + Sync> },
    #[error("the database {file:?} has no table {table:?}: it has {there_is}")]
    NoTable { file: String, table: String, there_is: String },
    #[error("the table {table:?} has no column {column:?}: it has {there_is}")]
    NoColumn { table: String, column: String, there_is: String },
    #[error("the group on table {table:?} names no value column: it needs at least one of {there_is}")]
    NoValueColumns { table: String, there_is: String },
    #[error("the value columns of table {table:?} name {column:?} twice")]
    ColumnTwice { table: String, column: String },
    #[error(
        "the key column {column:?} of table {table:?} is declared {declared:?}, which SQLite keeps with \
         {affinity} affinity: a key column must have text, integer or blob affinity"
    )]
    KeyColumn { table: String, column: String, declared: String, affinity: &'static str },
    #[error(
        "the key column {column:?} of table {table:?} has no declared type: declare it text, integer or blob"
    )]
    KeyColumnUntyped { table: String, column: String },
}

/// Why a load failed: the source of [`LoadError::Unavailable`](crate::group::LoadError::Unavailable).
#[derive(Debug, Error)]
pub enum QueryError {
    #[error("the database file {file:?} is gone")]
    Gone { file: String, source: std::io::Error },
    #[error("no connection to the database file {file:?} within {timeout:?}")]
    Connection { file: String, timeout: Duration, source: diesel::r2d2::PoolError },
    #[error("the query of table {table:?} failed")]
    Statement { table: String, source: diesel::result::Error },
    #[error("two rows of table {table:?} have one key in column {column:?}, which must be unique")]
    DuplicateKey { table: String, column: String },
    #[error("the text in column {column:?} of table {table:?} is not UTF-8")]
    NotUtf8 { table: String, column: String },
}
