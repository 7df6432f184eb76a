//! The follower's port to a database: what it asks of outbox and log.

use thiserror::Error;

use super::{LogRow, Source, Tracked};
use crate::group::{BoxFuture, LogId};

/// The outbox and the log of one database. Each call is one transaction, begun after the call and committed before it
/// answers; one that is dropped may have been committed all the same.
pub trait ChangeStore: Send + Sync + 'static {
    /// Looks once, in one snapshot.
    fn look(&self) -> BoxFuture<'_, Result<Seen, StoreError>>;

    /// Moves committed rows of the outbox with numbers up to `up_to` into the log, the first ones first, if nobody else
    /// does so at the moment.
    fn relay(&self, up_to: u64) -> BoxFuture<'_, Result<Relayed, StoreError>>;

    /// The rows after `after` in their order, not more than a page, and what is known of row `after` itself.
    fn read(&self, after: u64) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// What the rows after `after` up to `up_to` are about, where there are too many to read.
    fn touched(&self, after: u64, up_to: u64) -> BoxFuture<'_, Result<Touched, StoreError>>;

    /// Removes some of the oldest rows that retention does not keep; how many. 0 if another node is at it.
    fn trim(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// For each of `tracked`, why its changes do not get into the log; `None` if they do.
    fn inspect<'a>(
        &'a self,
        tracked: &'a [Tracked],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StoreError>>;
}

/// What a look finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The log.
    pub log: LogId,
    /// Its last row; 0 before the first one.
    pub head: u64,
    /// That row's stamp, if it is there.
    pub stamp: Option<i64>,
    /// The rows up to this one were removed.
    pub floor: u64,
    /// What is committed to the outbox and not in the log.
    pub waiting: Option<Waiting>,
}

/// The numbers of rows in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The least.
    pub oldest: u64,
    /// The greatest.
    pub newest: u64,
}

/// What a relay did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// Nothing, since another one is at it.
    Busy,
    /// All that was committed before it is in the log, up to `head`.
    All {
        /// The log's last row.
        head: u64,
    },
    /// Some is, and there is more.
    Some,
}

/// Rows of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The log; `None` if it is gone.
    pub log: Option<LogId>,
    /// The stamp of the row before, if it is there.
    pub before: Option<i64>,
    /// The rows up to this one were removed.
    pub floor: u64,
    /// The rows.
    pub rows: Vec<LogRow>,
}

/// What many rows are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// The stamp of the row before, if it is there.
    pub before: Option<i64>,
    /// The rows up to this one were removed.
    pub floor: u64,
    /// The log; `None` if it is gone.
    pub log: Option<LogId>,
    /// Their sources.
    pub sources: Vec<Source>,
    /// The last one's stamp, if it is there.
    pub stamp: Option<i64>,
}

/// Why a look at the changes failed.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("the tables for changes are not there; `ggcache changes install` makes them")]
    NotInstalled,
    #[error("the database failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("there was no answer within {0:?}")]
    Late(std::time::Duration),
    #[error("another session holds the lock of the relay for longer than {0:?}")]
    Locked(std::time::Duration),
    #[error("row {0} of the log is not the one that was applied, or those after it are gone")]
    Broken(u64),
}
