//! A table of a database as an origin, whatever the kind of the database.
//!
//! Built by the composition root: one [`TableLoader`] for each group on a [`Database`](crate::database::Database).
//! Reading never creates a file and never writes a row.

mod columns;
mod loader;
mod report;
mod statements;
#[cfg(all(test, feature = "sqlite"))]
mod tests;
mod writer;
mod written;

pub use loader::TableLoader;
pub use report::TableReport;
pub use writer::TableWriter;

use super::error::{QueryError, TableError};
