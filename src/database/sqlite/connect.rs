//! Connections to a SQLite file: how one is opened and set up, and how a statement ends in time.

use std::{io, sync::Arc, time::Duration};

use diesel::{
    Connection as _, QueryResult, SqliteConnection, connection::SimpleConnection as _, declare_sql_function,
    result::Error as DieselError, serialize, serialize::Output, serialize::ToSql, sql_types::BigInt,
    sql_types::Bool, sqlite::Sqlite,
};

use super::{DatabaseFile, FileIdentity, OpenMode};
use crate::database::{
    Access, Connection, DatabaseUrl, Deadline, OpenError,
    deadline::StatementClock,
    session::{Session, SessionError},
};

/// A database file, and by which clock its statements end.
#[derive(Clone, Debug)]
pub(in crate::database) struct SqliteFile {
    file: DatabaseFile,
    clock: StatementClock,
}

impl SqliteFile {
    pub(in crate::database) fn new(url: &DatabaseUrl, clock: StatementClock) -> Result<Self, OpenError> {
        Ok(Self { file: DatabaseFile::from_url(url)?, clock })
    }

    pub(in crate::database) fn path(&self) -> &str {
        self.file.path()
    }

    pub(in crate::database) fn identity(&self) -> io::Result<FileIdentity> {
        self.file.identity()
    }

    /// Opens the file by itself once, for its write-ahead log.
    pub(in crate::database) fn open_existing(&self, timeout: Duration) -> Result<(), OpenError> {
        open_alone(&self.file, OpenMode::Existing, timeout).map(drop)
    }

    pub(in crate::database) fn connect(&self, timeout: Duration) -> Result<Session, SessionError> {
        // Before the file is opened: should it be replaced in between, this identity is the old one, and
        // the check at the next use finds out.
        let identity = self.file.identity().map_err(SessionError::Gone)?;
        let uri = self.file.uri(OpenMode::Existing);
        let mut connection =
            SqliteConnection::establish(&uri).map_err(|error| SessionError::open(&error, &[]))?;
        let mut set_up = || {
            set_busy_timeout(&mut connection, timeout)?;
            set_access(&mut connection, Access::Read)?;
            limit_page_cache(&mut connection)?;
            register_within(&mut connection, self.clock)
        };
        set_up().map_err(SessionError::SetUp)?;
        let mut session = Session::new(Connection::Sqlite(connection), timeout);
        session.identity = Some(identity);
        Ok(session)
    }

    /// Called whenever a connection is taken: one `stat`, about a microsecond, where a ping would be a
    /// statement. A deleted or replaced file would otherwise be served for ever from its open handle.
    pub(in crate::database) fn look_at(&self, session: &Session) -> Result<(), SessionError> {
        let identity = self.file.identity().map_err(SessionError::Gone)?;
        if Some(identity) == session.identity { Ok(()) } else { Err(SessionError::Replaced) }
    }
}

/// Makes statements wait for a lock for at most `timeout`.
pub(in crate::database) fn set_busy_timeout(
    connection: &mut SqliteConnection,
    timeout: Duration,
) -> QueryResult<()> {
    // A number of ours: a pragma takes no bound values. 0 would turn waiting off altogether.
    let millis = timeout.as_millis().clamp(1, i32::MAX as u128);
    connection.batch_execute(&format!("PRAGMA busy_timeout = {millis}"))
}

/// Lets the connection write, or not.
pub(in crate::database) fn set_access(connection: &mut SqliteConnection, access: Access) -> QueryResult<()> {
    connection.batch_execute(match access {
        Access::Read => "PRAGMA query_only = ON",
        Access::Write => "PRAGMA query_only = OFF",
    })
}

/// Keeps the connection's own copies of pages few. They are read through the system's cache of the file, which all
/// connections share and which costs the process nothing; SQLite's 2 MiB for each would count against it.
fn limit_page_cache(connection: &mut SqliteConnection) -> QueryResult<()> {
    const KIB: u32 = 256;
    connection.batch_execute(&format!("PRAGMA cache_size = -{KIB}"))
}

/// Opens `file` by itself, before there is a pool, reads its header and turns the write-ahead log on.
///
/// In this order, and once: connections that each turn it on race for the file's lock. The mode stays
/// with the file. A file that can't have it (read only, or held by another program at the moment) is still
/// readable, only not while somebody writes, so that this is a warning.
pub(in crate::database) fn open_alone(
    file: &DatabaseFile,
    mode: OpenMode,
    busy_timeout: Duration,
) -> Result<SqliteConnection, OpenError> {
    let failed = |source: Arc<dyn std::error::Error + Send + Sync>| OpenError::Open {
        place: format!("file {:?}", file.path()),
        source,
    };
    let refused = |error: DieselError| failed(Arc::new(error));
    if mode == OpenMode::Existing
        && let Err(error) = file.identity()
    {
        return Err(match error.kind() {
            io::ErrorKind::NotFound => OpenError::Missing { file: file.path().to_owned() },
            _ => failed(Arc::new(error)),
        });
    }
    let mut connection =
        SqliteConnection::establish(&file.uri(mode)).map_err(|error| failed(Arc::new(error)))?;
    set_busy_timeout(&mut connection, busy_timeout).map_err(refused)?;
    connection.batch_execute("PRAGMA schema_version").map_err(refused)?;
    if let Err(error) = connection.batch_execute("PRAGMA journal_mode = WAL") {
        tracing::warn!(
            database.file = %file.path(), %error,
            "the write-ahead log can't be turned on: loads wait while somebody writes",
        );
    }
    Ok(connection)
}

#[declare_sql_function]
extern "SQL" {
    /// True until the deadline, an error afterwards: the only way to end a statement from inside.
    fn gg_within(deadline: BigInt) -> Bool;
}

/// What `gg_within` answers: true, or an error that ends the statement.
#[derive(Debug)]
struct Within(bool);

impl ToSql<Bool, Sqlite> for Within {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        if self.0 {
            ToSql::<Bool, Sqlite>::to_sql(&true, out)
        } else {
            Err("the statement took too long".into())
        }
    }
}

/// Teaches `connection` the function `gg_within`. It is not declared deterministic, so that SQLite calls it
/// for each row instead of once.
fn register_within(connection: &mut SqliteConnection, clock: StatementClock) -> QueryResult<()> {
    gg_within_utils::register_nondeterministic_impl(connection, move |deadline: i64| {
        Within(!clock.is_past(Deadline::from_number(deadline)))
    })
}
