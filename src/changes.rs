//! What the database tells of changes that anyone makes: outbox, relay, log, and who follows it.
//!
//! Triggers on a table write the keys of changed rows into `gg_outbox`, in the writer's own transaction. Numbers taken
//! inside transactions commit out of order, so that who reads the outbox by its numbers loses rows. A *relay*, of which
//! one runs at a time, moves what is committed into `gg_log`, with numbers that have no gaps and whose order is that of
//! commits. On SQLite, with one writer at a time, the outbox is that log already.
//!
//! - [`Follower`] is a task of each node, one for a database: it looks, has relayed what waits, applies the log's rows to
//!   the groups of their tables in order, and moves the [`LogCell`](crate::group::LogCell) on. It knows ports only:
//!   [`ChangeStore`] for the database, [`Applies`] for the groups, and tokio's time; so it runs in simulations too.
//! - [`SqlStore`] is the port for real databases, the same for all kinds but for the words in `sql/`.
//! - [`Installation`] is `ggcache changes`: statements that are printed or run.
//!
//! The relay and the retention are routines inside the database (functions on PostgreSQL, procedures on MariaDB and
//! MySQL): one statement from here, so that a node that stands still in the middle of it holds no lock. A lock that
//! somebody else holds is not waited for: what it is needed for is being done. There is no NOTIFY: it takes a lock of the
//! whole database at each writer's commit, to save less than one poll.
//!
//! Invariants: a row of the log is applied to every group of its table before the cursor moves past it; a look's
//! `fresh_at` is a moment before its first statement; whatever can't be followed without a gap (another log, rows that
//! retention removed, a history other than the one that was applied) resets every group first. A table whose triggers
//! are not as this version makes them is not logged, and its groups go by ttl only.

mod follower;
mod install;
mod pace;
mod script;
mod source;
mod sources;
mod sql_store;
mod store;
#[cfg(test)]
mod tests;
mod triggers;

pub use follower::Follower;
pub use install::{InstallError, Installation, Status};
pub use pace::Pace;
pub use script::Script;
pub use source::{LogRow, Source, Tracked};
pub use sources::{Applies, Sources};
pub use sql_store::{Appender, SqlStore};
pub use store::{ChangeStore, Page, Relayed, Seen, StoreError, Touched, Waiting};
