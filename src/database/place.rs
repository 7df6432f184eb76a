//! Where a database is, and how a session there begins.

use std::{fmt, io, sync::Arc, time::Duration};

#[cfg(feature = "mysql")]
use super::mysql::MysqlServer;
#[cfg(feature = "postgres")]
use super::postgres::PostgresServer;
use super::{
    DatabaseKind, DatabaseUrl, OpenError,
    session::{Session, SessionError},
};
#[cfg(feature = "sqlite")]
use super::{deadline::StatementClock, sqlite::SqliteFile};

/// A database that this build can open. `Display` names it for people, without secrets.
#[derive(Clone, Debug)]
pub(super) enum Place {
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteFile),
    #[cfg(feature = "postgres")]
    Postgres(PostgresServer),
    #[cfg(feature = "mysql")]
    Mysql(MysqlServer),
}

impl Place {
    /// Reads a URL; opens nothing.
    pub(super) fn new(
        url: &DatabaseUrl,
        #[cfg(feature = "sqlite")] clock: StatementClock,
    ) -> Result<Self, OpenError> {
        let Some(kind) = url.kind() else {
            let example = DatabaseKind::example().url_example();
            let reason = format!("it has no known scheme: write for example {example:?}");
            return Err(OpenError::Url { url: url.to_string(), reason });
        };
        match kind {
            #[cfg(feature = "sqlite")]
            DatabaseKind::Sqlite => SqliteFile::new(url, clock).map(Self::Sqlite),
            #[cfg(feature = "postgres")]
            DatabaseKind::Postgres => PostgresServer::new(url).map(Self::Postgres),
            #[cfg(feature = "mysql")]
            DatabaseKind::Mysql => MysqlServer::new(url).map(Self::Mysql),
            #[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "mysql")))]
            kind => Err(OpenError::NotBuiltIn(kind)),
        }
    }

    pub(super) const fn kind(&self) -> DatabaseKind {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => DatabaseKind::Sqlite,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => DatabaseKind::Postgres,
            #[cfg(feature = "mysql")]
            Self::Mysql(_) => DatabaseKind::Mysql,
        }
    }

    /// What has to be done once, before there is a pool: of a SQLite file, its write-ahead log.
    pub(super) fn open_first(&self, timeout: Duration) -> Result<(), OpenError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => file.open_existing(timeout)?,
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ => {}
        }
        match self.connect(timeout) {
            Ok(_) => Ok(()),
            Err(error) => Err(OpenError::Open { place: self.to_string(), source: Arc::new(error) }),
        }
    }

    /// Whether a SQLite file is there: the pool would try to connect for its whole timeout before it says no.
    pub(super) fn is_there(&self) -> io::Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => file.identity().map(drop),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ => Ok(()),
        }
    }

    /// Opens a session that reads, and whose statements take at most `timeout`.
    pub(super) fn connect(&self, timeout: Duration) -> Result<Session, SessionError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => file.connect(timeout),
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.connect(timeout),
            #[cfg(feature = "mysql")]
            Self::Mysql(server) => server.connect(timeout),
        }
    }

    /// Whether a session that was idle still leads to the database.
    pub(super) fn look_at(&self, session: &mut Session) -> Result<(), SessionError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => file.look_at(session),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => super::postgres::look_at(session),
            #[cfg(feature = "mysql")]
            Self::Mysql(_) => super::mysql::look_at(session),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => write!(f, "file {:?}", file.path()),
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.fmt(f),
            #[cfg(feature = "mysql")]
            Self::Mysql(server) => server.fmt(f),
        }
    }
}
