//! Sessions: how a connection is opened and set up, and when the pool throws it away.

use std::time::{Duration, Instant};

use diesel::{
    QueryResult,
    r2d2::{HandleError, ManageConnection},
    result::{ConnectionError, Error as DieselError},
};
use thiserror::Error;

use super::{Connection, place::Place};

/// What a turn may do. To PostgreSQL and MySQL it is the same, and their permissions decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    Write,
}

/// A connection of the pool, and how it is set at the moment.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) access: Access,
    pub(super) timeout: Duration,
    /// A statement failed: the next user gets a new connection rather than whatever is wrong with this.
    pub(super) failed: bool,
    pub(super) used: Instant,
    #[cfg(feature = "sqlite")]
    pub(super) identity: Option<super::sqlite::FileIdentity>,
}

/// Opens sessions, which only read until a turn asks for more.
#[derive(Debug)]
pub(super) struct SessionManager {
    pub(super) place: Place,
    pub(super) timeout: Duration,
}

/// Why a connection can't be opened or used any longer. The pool keeps no more than the text, so that the
/// cause stands in it; what a client library says was searched for secrets before.
#[derive(Debug, Error)]
pub(super) enum SessionError {
    #[cfg(feature = "sqlite")]
    #[error("the database file is gone: {0}")]
    Gone(std::io::Error),
    #[cfg(feature = "sqlite")]
    #[error("the database file was replaced")]
    Replaced,
    #[error("the database can't be opened: {0}")]
    Open(String),
    #[error("the connection can't be set up: {0}")]
    SetUp(DieselError),
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    #[error("the connection is broken: {0}")]
    Broken(DieselError),
    #[cfg(feature = "mysql")]
    #[error("the connection is not encrypted, as the URL asks for")]
    NotEncrypted,
}

impl SessionError {
    /// What diesel says of a connection, without `secrets`.
    pub(super) fn open(error: &ConnectionError, secrets: &[String]) -> Self {
        Self::Open(without_secrets(error.to_string(), secrets))
    }
}

/// `text` with each of `secrets` crossed out.
fn without_secrets(mut text: String, secrets: &[String]) -> String {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "***");
    }
    text
}

impl Session {
    pub(super) fn new(connection: Connection, timeout: Duration) -> Self {
        Self {
            connection,
            access: Access::Read,
            timeout,
            failed: false,
            used: Instant::now(),
            #[cfg(feature = "sqlite")]
            identity: None,
        }
    }

    /// Sets what the next turn needs, where it differs from what the last one needed.
    pub(super) fn prepare(&mut self, access: Access, timeout: Duration) -> QueryResult<()> {
        if self.timeout != timeout {
            match &mut self.connection {
                #[cfg(feature = "sqlite")]
                Connection::Sqlite(connection) => super::sqlite::set_busy_timeout(connection, timeout)?,
                #[cfg(feature = "postgres")]
                Connection::Postgres(connection) => super::postgres::set_timeouts(connection, timeout)?,
                #[cfg(feature = "mysql")]
                Connection::Mysql(connection) => super::mysql::set_timeouts(connection, timeout)?,
            }
            self.timeout = timeout;
        }
        if self.access != access {
            match &mut self.connection {
                #[cfg(feature = "sqlite")]
                Connection::Sqlite(connection) => super::sqlite::set_access(connection, access)?,
                #[cfg(any(feature = "postgres", feature = "mysql"))]
                _ => {}
            }
            self.access = access;
        }
        Ok(())
    }
}

impl ManageConnection for SessionManager {
    type Connection = Session;
    type Error = SessionError;

    fn connect(&self) -> Result<Session, SessionError> {
        self.place.connect(self.timeout)
    }

    /// Called whenever a connection is taken, and so without a statement where that is possible.
    fn is_valid(&self, session: &mut Session) -> Result<(), SessionError> {
        self.place.look_at(session)
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.used = Instant::now();
        session.failed || std::thread::panicking() || session.connection.is_broken()
    }
}

/// Tells the log what the pool's own threads run into; a load that suffers from it answers its own error.
#[derive(Debug)]
pub(super) struct LogErrors {
    pub(super) place: String,
}

impl HandleError<SessionError> for LogErrors {
    fn handle_error(&self, error: SessionError) {
        tracing::debug!(database.place = %self.place, %error, "a database connection was given up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_crossed_out() {
        let secrets = ["pa ss".to_owned(), String::new()];
        assert_eq!(without_secrets("no \"pa ss\" in pa s".into(), &secrets), "no \"***\" in pa s");
    }
}
