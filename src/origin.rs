//! Origins: the databases behind the groups, and the loaders that read them.
//!
//! A [`TableLoader`] reads one table of a [`Database`](crate::database::Database) and implements the two
//! ports of `group`, [`Loader`](crate::group::Loader) and [`KeyScan`](crate::group::KeyScan). The
//! decorators around it each do one thing. From the outside in, in this order:
//!
//! ```text
//! FailFast         refuses at once while the database's breaker is open
//!   Limited        refuses what is beyond a rate
//!     Timeout      answers when the time is up; what runs below it goes on
//!       Batched    sends keys that wait at the same time as one query
//!         Budget   owns a query from its place on to its end, whoever waits for it
//!           Retry  asks once more where the connection turned out cut
//!             Guarded      asks the breaker, and tells it how the query ended
//!               Observed   measures what was really sent
//!                 TableLoader   ends when its thread ends, not before
//! ```
//!
//! The order matters. A blocking query can't be cancelled, so [`TableLoader`] does not end before its
//! thread does, and [`Budget`] counts it until then. Were a [`Timeout`] inside the budget, each query that
//! is given up would free its place while it still runs, and a slow database would get more queries, not
//! fewer. [`Batched`] takes the place first and then the keys, so that those who come while the budget is used
//! up become one query and not one each. The breaker is asked in two places: in front, where nobody has waited yet, and
//! close to the origin, where each query is seen once, however many wait for it.
//!
//! Invariants: an adapter never knows HTTP, the cluster or the cache; values are always bound and never
//! written into a statement; no row is answered whose key, rendered, is not the bytes that were asked for.
//! The composition root builds these; `group` sees its own ports only.

mod batched;
mod breaker;
mod budget;
mod config;
#[cfg(test)]
mod conformance;
mod error;
mod limited;
mod map;
mod observed;
mod render;
mod retry;
mod table;
mod timeout;

pub use batched::Batched;
pub use breaker::{Breaker, FailFast, Guarded};
pub use budget::{Budget, Places};
pub use config::TableConfig;
pub use error::{QueryError, TableError};
pub use limited::Limited;
pub use map::MapLoader;
pub use observed::{LoadObserver, LoadResult, Observed};
pub use retry::Retry;
pub use table::{TableLoader, TableReport, TableWriter};
pub use timeout::Timeout;
