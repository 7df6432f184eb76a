//! Connections: how one is opened and set up, and when the pool throws it away.

use std::{sync::Arc, time::Duration};

use diesel::{
    Connection as _, SqliteConnection,
    connection::SimpleConnection as _,
    r2d2::{HandleError, ManageConnection},
    result::{ConnectionError, Error as DieselError},
};
use thiserror::Error;

use super::{
    OpenError,
    file::{DatabaseFile, FileIdentity, OpenMode},
    query::{StatementClock, register_within},
};

/// A connection of the pool.
pub(super) struct Session {
    pub(super) connection: SqliteConnection,
    identity: FileIdentity,
    /// A statement failed: the next user gets a new connection rather than whatever is wrong with this.
    pub(super) failed: bool,
}

/// Opens connections that only read.
#[derive(Debug)]
pub(super) struct SessionManager {
    pub(super) file: DatabaseFile,
    pub(super) busy_timeout: Duration,
    pub(super) clock: StatementClock,
}

/// Why a connection can't be opened or used any longer. The pool keeps no more than the text, so that the
/// cause stands in it.
#[derive(Debug, Error)]
pub(super) enum SessionError {
    #[error("the database file is gone: {0}")]
    Gone(std::io::Error),
    #[error("the database file was replaced")]
    Replaced,
    #[error("the database file can't be opened: {0}")]
    Open(ConnectionError),
    #[error("the connection can't be set up: {0}")]
    SetUp(DieselError),
}

impl ManageConnection for SessionManager {
    type Connection = Session;
    type Error = SessionError;

    fn connect(&self) -> Result<Session, SessionError> {
        // Before the file is opened: should it be replaced in between, this identity is the old one, and
        // the check at the next use finds out.
        let identity = self.file.identity().map_err(SessionError::Gone)?;
        let uri = self.file.uri(OpenMode::Existing);
        let mut connection = SqliteConnection::establish(&uri).map_err(SessionError::Open)?;
        set_busy_timeout(&mut connection, self.busy_timeout).map_err(SessionError::SetUp)?;
        connection.batch_execute("PRAGMA query_only = ON").map_err(SessionError::SetUp)?;
        limit_page_cache(&mut connection).map_err(SessionError::SetUp)?;
        register_within(&mut connection, self.clock).map_err(SessionError::SetUp)?;
        Ok(Session { connection, identity, failed: false })
    }

    /// Called whenever a connection is taken: one `stat`, about a microsecond, where a ping would be a
    /// statement. A deleted or replaced file would otherwise be served for ever from its open handle.
    fn is_valid(&self, session: &mut Session) -> Result<(), SessionError> {
        let identity = self.file.identity().map_err(SessionError::Gone)?;
        if identity == session.identity { Ok(()) } else { Err(SessionError::Replaced) }
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.failed || std::thread::panicking()
    }
}

/// Tells the log what the pool's own threads run into; a load that suffers from it answers its own error.
#[derive(Debug)]
pub(super) struct LogErrors {
    pub(super) file: String,
}

impl HandleError<SessionError> for LogErrors {
    fn handle_error(&self, error: SessionError) {
        tracing::debug!(database.file = %self.file, %error, "a database connection was given up");
    }
}

/// Makes statements wait for a lock for at most `timeout`.
pub(super) fn set_busy_timeout(
    connection: &mut SqliteConnection,
    timeout: Duration,
) -> Result<(), DieselError> {
    // A number of ours: a pragma takes no bound values. 0 would turn waiting off altogether.
    let millis = timeout.as_millis().clamp(1, i32::MAX as u128);
    connection.batch_execute(&format!("PRAGMA busy_timeout = {millis}"))
}

/// Keeps the connection's own copies of pages few. They are read through the system's cache of the file, which all
/// connections share and which costs the process nothing; SQLite's 2 MiB for each would count against it.
fn limit_page_cache(connection: &mut SqliteConnection) -> Result<(), DieselError> {
    const KIB: u32 = 256;
    connection.batch_execute(&format!("PRAGMA cache_size = -{KIB}"))
}

/// Opens `file` by itself, before there is a pool, reads its header and turns the write-ahead log on.
///
/// In this order, and once: connections that each turn it on race for the file's lock. The mode stays
/// with the file. A file that can't have it (read only, or held by another program at the moment) is still
/// readable, only not while somebody writes, so that this is a warning.
pub(super) fn open_alone(
    file: &DatabaseFile,
    mode: OpenMode,
    busy_timeout: Duration,
) -> Result<SqliteConnection, OpenError> {
    let failed = |source: Arc<dyn std::error::Error + Send + Sync>| OpenError::Open {
        file: file.path().to_owned(),
        source,
    };
    if mode == OpenMode::Existing
        && let Err(error) = file.identity()
    {
        return Err(match error.kind() {
            std::io::ErrorKind::NotFound => OpenError::Missing { file: file.path().to_owned() },
            _ => failed(Arc::new(error)),
        });
    }
    let mut connection =
        SqliteConnection::establish(&file.uri(mode)).map_err(|error| failed(Arc::new(error)))?;
    set_busy_timeout(&mut connection, busy_timeout).map_err(|error| failed(Arc::new(error)))?;
    connection.batch_execute("PRAGMA schema_version").map_err(|error| failed(Arc::new(error)))?;
    if let Err(error) = connection.batch_execute("PRAGMA journal_mode = WAL") {
        tracing::warn!(
            database.file = %file.path(), %error,
            "the write-ahead log can't be turned on: loads wait while somebody writes",
        );
    }
    Ok(connection)
}
