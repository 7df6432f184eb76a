//! A turn: what a piece of work on a database gets, and how its statements are sent.

use std::sync::atomic::{AtomicU64, Ordering};

use diesel::{
    QueryResult,
    result::{DatabaseErrorKind, Error as DieselError},
};

use super::{
    Connection, DatabaseError, DatabaseKind, Deadline, Row, Statement, deadline::StatementClock,
    session::Session,
};

/// A connection, and when to be done with it.
#[expect(missing_debug_implementations, reason = "diesel's connections have none")]
pub struct Turn<'a> {
    pub(super) session: &'a mut Session,
    pub(super) deadline: Deadline,
    pub(super) timeout: std::time::Duration,
    pub(super) clock: StatementClock,
    /// Counts what is sent.
    pub(super) statements: &'a AtomicU64,
}

impl Turn<'_> {
    /// What kind of database it is.
    pub fn kind(&self) -> DatabaseKind {
        self.session.connection.kind()
    }

    /// When the work has to be done. A statement on SQLite that may read many rows says `gg_within(?)` of it.
    pub const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The connection itself. A statement that fails this way does not cost the session; see [`send`](Self::send).
    pub const fn connection(&mut self) -> &mut Connection {
        &mut self.session.connection
    }

    /// Sends a statement: `send` runs it and reads its rows.
    ///
    /// # Errors
    /// [`DatabaseError::Timeout`] when it failed after the deadline, whatever it says then; else what it says. A
    /// session is not used again after a failure that is not plainly the statement's own.
    pub fn send<T>(
        &mut self,
        send: impl FnOnce(&mut Connection) -> QueryResult<T>,
    ) -> Result<T, DatabaseError> {
        if self.clock.is_past(self.deadline) {
            return Err(DatabaseError::Timeout(self.timeout));
        }
        self.statements.fetch_add(1, Ordering::Relaxed);
        send(&mut self.session.connection).map_err(|error| {
            // By the clock and not by the message: SQLite has no code of its own for our function.
            if self.clock.is_past(self.deadline) {
                return DatabaseError::Timeout(self.timeout);
            }
            if is_the_statements_own(&error) {
                return DatabaseError::Statement(error);
            }
            self.session.failed = true;
            match is_cut(self.session, &error) {
                true => DatabaseError::Cut(error),
                false => DatabaseError::Statement(error),
            }
        })
    }

    /// Sends statements of ours that take no values and bring nothing, separated by semicolons.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn batch(&mut self, sql: &str) -> Result<(), DatabaseError> {
        self.send(|connection| connection.batch(sql))
    }

    /// Sends a statement, and answers how many rows it changed.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn execute(&mut self, statement: &Statement<'_>) -> Result<usize, DatabaseError> {
        self.send(|connection| connection.execute(statement))
    }

    /// Sends a statement, and answers its rows.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn query(&mut self, statement: &Statement<'_>) -> Result<Vec<Row>, DatabaseError> {
        self.send(|connection| connection.query(statement))
    }

    /// Does `work` in a transaction, which is committed if it ends well, and else rolled back.
    ///
    /// # Errors
    /// The work's own, or a transaction that can't be opened or committed. One that was cut off while it committed
    /// may have been committed all the same.
    pub fn transaction<T, E: From<DatabaseError>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let access = self.session.access;
        self.send(|connection| connection.begin(access))?;
        match work(self) {
            Ok(done) => {
                // Not by `send`, which refuses after the deadline: what was done in time is not thrown away.
                if let Err(error) = self.session.connection.commit() {
                    self.session.failed = true;
                    return Err(DatabaseError::Statement(error).into());
                }
                Ok(done)
            }
            Err(error) => {
                // What can't be rolled back ends with its connection.
                self.session.failed |= self.session.connection.roll_back().is_err();
                Err(error)
            }
        }
    }
}

/// Whether the connection is of no more use after `error`, which then says nothing of the statement. MySQL's library has no
/// code for it that diesel tells: what is cut fails the next statement as well.
fn is_cut(session: &mut Session, error: &DieselError) -> bool {
    match &mut session.connection {
        #[cfg(feature = "mysql")]
        Connection::Mysql(connection) => super::mysql::is_cut(connection),
        #[cfg(any(feature = "sqlite", feature = "postgres"))]
        _ => matches!(error, DieselError::DatabaseError(DatabaseErrorKind::ClosedConnection, _)),
    }
}

/// The database understood, and refused by a rule of the table: there is nothing wrong with the connection.
const fn is_the_statements_own(error: &DieselError) -> bool {
    matches!(
        error,
        DieselError::DatabaseError(
            DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::CheckViolation
                | DatabaseErrorKind::ExclusionViolation
                | DatabaseErrorKind::SerializationFailure,
            _
        )
    )
}
