//! What goes wrong with a database. No message holds a password, a key or a value of ours; what the database itself
//! says is the source, for the log only.

use std::{io, sync::Arc, time::Duration};

use thiserror::Error;

use super::{DatabaseKind, FieldError};

/// Why a database can't be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the database URL {url} is not usable: {reason}")]
    Url { url: String, reason: String },
    #[error("{0} is not built in: build with the feature {0}")]
    NotBuiltIn(DatabaseKind),
    #[error("{setting} of the database {url} is 0, and must be at least {least}")]
    Setting { url: String, setting: &'static str, least: &'static str },
    #[error("there is no database file {file:?}: `ggcache migrate` creates it")]
    Missing { file: String },
    #[error("the database {place} can't be opened")]
    Open { place: String, source: Arc<dyn std::error::Error + Send + Sync> },
}

/// Why a piece of work on a database brought nothing.
#[derive(Debug, Error)]
pub enum DatabaseError {
    #[error("all {0} connections to the database are in use")]
    Busy(usize),
    #[error("the database did not answer within {0:?}")]
    Timeout(Duration),
    #[error("the database {place} is gone")]
    Gone { place: String, source: io::Error },
    #[error("no connection to the database {place} within {timeout:?}")]
    Connection { place: String, timeout: Duration, source: diesel::r2d2::PoolError },
    #[error("the connection was cut")]
    Cut(#[source] diesel::result::Error),
    #[error("the statement failed")]
    Statement(#[source] diesel::result::Error),
    #[error("an answer of the database is not understood")]
    Field(#[from] FieldError),
    #[error("the work on the database panicked")]
    Panicked,
    #[error("the runtime is shutting down")]
    Stopped,
}

impl DatabaseError {
    /// Two rows would have had one value where a column must be unique.
    pub fn is_unique_violation(&self) -> bool {
        use diesel::result::{DatabaseErrorKind::UniqueViolation, Error};
        matches!(self, Self::Statement(Error::DatabaseError(UniqueViolation, _)))
    }

    /// The transaction was ended for another one that was under way, as in a deadlock: it may do the next time.
    pub fn is_serialization_failure(&self) -> bool {
        use diesel::result::{DatabaseErrorKind::SerializationFailure, Error};
        matches!(self, Self::Statement(Error::DatabaseError(SerializationFailure, _)))
    }

    /// What is broken is the connection, or there is none: another attempt may meet a working one.
    pub fn is_connection(&self) -> bool {
        use diesel::result::{DatabaseErrorKind::ClosedConnection, Error};
        matches!(
            self,
            Self::Gone { .. }
                | Self::Connection { .. }
                | Self::Cut(_)
                | Self::Statement(
                    Error::DatabaseError(ClosedConnection, _) | Error::BrokenTransactionManager
                )
        )
    }
}
