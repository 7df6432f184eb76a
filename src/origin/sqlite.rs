//! A table of a SQLite database as an origin.
//!
//! Built by the composition root: one [`TableLoader`] for each group on a [`Database`](crate::database::Database).
//! Reading never creates a file and never writes a row.

mod loader;
mod query;
mod table;
#[cfg(test)]
mod tests;

pub use loader::TableLoader;
pub use table::TableReport;

use super::error::{QueryError, TableError};
