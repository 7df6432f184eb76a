//! Origins: the databases behind the groups, and the loaders that read them.
//!
//! A [`TableLoader`] reads one table of a [`Database`](crate::database::Database) and implements the two
//! ports of `group`, [`Loader`](crate::group::Loader) and [`KeyScan`](crate::group::KeyScan). The
//! decorators around it each do one thing. From the outside in, in this order:
//!
//! ```text
//! Timeout      answers when the time is up; what runs below it goes on
//!   Budget     owns the load from its first poll to its end, whoever waits for it
//!     Observed measures what was really sent
//!       TableLoader   ends when its thread ends, not before
//! ```
//!
//! The order matters. A blocking query can't be cancelled, so [`TableLoader`] does not end before its
//! thread does, and [`Budget`] counts it until then. Were a [`Timeout`] inside the budget, each query that
//! is given up would free its place while it still runs, and a slow database would get more queries, not
//! fewer.
//!
//! Invariants: an adapter never knows HTTP, the cluster or the cache; values are always bound and never
//! written into a statement; no row is answered whose key, rendered, is not the bytes that were asked for.
//! The composition root builds these; `group` sees its own ports only.

mod budget;
mod config;
#[cfg(test)]
mod conformance;
mod error;
mod limited;
mod map;
mod observed;
mod render;
#[cfg(feature = "sqlite")]
mod sqlite;
mod timeout;

pub use budget::{Budget, Places};
pub use config::TableConfig;
pub use error::{QueryError, TableError};
pub use limited::Limited;
pub use map::MapLoader;
pub use observed::{LoadObserver, LoadResult, Observed};
#[cfg(feature = "sqlite")]
pub use sqlite::{TableLoader, TableReport};
pub use timeout::Timeout;
