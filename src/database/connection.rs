//! One connection of any kind, and statements on it.

use std::ops::ControlFlow;

use diesel::{
    QueryResult, RunQueryDsl as _,
    connection::{AnsiTransactionManager, DefaultLoadingMode, SimpleConnection as _, TransactionManager},
};

use super::{Access, DatabaseKind, Row, Statement};

/// A connection to a database of the kind that its variant names, with diesel's connection inside.
#[expect(missing_debug_implementations, reason = "diesel's connections have none")]
pub enum Connection {
    /// To a SQLite file. It can't write unless the turn may.
    #[cfg(feature = "sqlite")]
    Sqlite(diesel::SqliteConnection),
    /// To PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(diesel::PgConnection),
    /// To MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    Mysql(diesel::MysqlConnection),
}

/// The same for each kind, which to diesel are different types.
macro_rules! each {
    ($connection:expr, $inner:ident => $body:expr) => {
        match $connection {
            #[cfg(feature = "sqlite")]
            Connection::Sqlite($inner) => $body,
            #[cfg(feature = "postgres")]
            Connection::Postgres($inner) => $body,
            #[cfg(feature = "mysql")]
            Connection::Mysql($inner) => $body,
        }
    };
}

impl Connection {
    /// What kind of database it is connected to.
    pub const fn kind(&self) -> DatabaseKind {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => DatabaseKind::Sqlite,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => DatabaseKind::Postgres,
            #[cfg(feature = "mysql")]
            Self::Mysql(_) => DatabaseKind::Mysql,
        }
    }

    /// Runs statements of ours that take no values and bring nothing, separated by semicolons.
    ///
    /// # Errors
    /// What the database says.
    pub fn batch(&mut self, sql: &str) -> QueryResult<()> {
        each!(self, connection => connection.batch_execute(sql))
    }

    /// Runs a statement, and answers how many rows it changed.
    ///
    /// # Errors
    /// What the database says.
    pub fn execute(&mut self, statement: &Statement<'_>) -> QueryResult<usize> {
        each!(self, connection => statement.execute(connection))
    }

    /// Runs a statement, and answers its rows.
    ///
    /// # Errors
    /// What the database says.
    pub fn query(&mut self, statement: &Statement<'_>) -> QueryResult<Vec<Row>> {
        let mut rows = Vec::new();
        self.query_each(statement, |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    /// Runs a statement and hands over its rows one by one, until `each` has had enough.
    ///
    /// # Errors
    /// What the database says.
    pub fn query_each(
        &mut self,
        statement: &Statement<'_>,
        mut each: impl FnMut(Row) -> ControlFlow<()>,
    ) -> QueryResult<()> {
        each!(self, connection => {
            for row in statement.load_iter::<Row, DefaultLoadingMode>(connection)? {
                if each(row?).is_break() {
                    break;
                }
            }
        });
        Ok(())
    }

    /// Opens a transaction: on SQLite one that has the write lock from the start, if it is to write.
    pub(super) fn begin(&mut self, access: Access) -> QueryResult<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) if access == Access::Write => {
                AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")
            }
            _ => each!(self, connection => AnsiTransactionManager::begin_transaction(connection)),
        }
    }

    pub(super) fn commit(&mut self) -> QueryResult<()> {
        each!(self, connection => AnsiTransactionManager::commit_transaction(connection))
    }

    pub(super) fn roll_back(&mut self) -> QueryResult<()> {
        each!(self, connection => AnsiTransactionManager::rollback_transaction(connection))
    }

    /// Whether it is of no more use: it broke, or a transaction was left open.
    pub(super) fn is_broken(&mut self) -> bool {
        use diesel::r2d2::R2D2Connection as _;
        each!(self, connection => connection.is_broken())
    }
}
