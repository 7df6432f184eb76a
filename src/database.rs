//! Databases: where they are, how a statement is sent, and what comes back. SQLite, PostgreSQL and MySQL or MariaDB
//! behind one face, by diesel over an r2d2 pool. `origin` reads tables through it, `changes` the log of changes.
//!
//! A [`Database`] is one `[database.NAME]` section. Work is given to it as a closure, which runs on a blocking thread
//! with a [`Turn`]: a connection, and a deadline. There are as many threads as connections, so that no thread waits
//! for one, and whoever finds all of them taken is told so in time.
//!
//! ```text
//! let statement = Statement::new("SELECT seq, k FROM gg_log WHERE seq > ").bind(seq).then(" ORDER BY seq");
//! let rows = database.run(move |turn| turn.query(&statement)).await?;                  // reads
//! database.run_as(Access::Write, timeout, move |turn| {
//!     turn.transaction(|turn| { turn.query(…)?; turn.execute(…) })                     // all or nothing
//! }).await?;
//! ```
//!
//! For those who use it:
//!
//! - Values are bound by [`Statement::bind`] and never written into a text. Names go through [`Statement::name`], which
//!   quotes them as the database does. Texts are the caller's own; placeholders are written by the statement.
//! - A [`Row`] is read by place, as integer, text or bytes, whatever exact type the database gave. PostgreSQL sends types
//!   in its own formats: what is no text, number, boolean, uuid, json or bytea is cast to text in the statement.
//! - The error of the work is the caller's own type, if it can be made of a [`DatabaseError`]. An error inside a
//!   transaction rolls it back; a panic closes the connection, which does the same.
//! - Transactions are READ COMMITTED on PostgreSQL, MySQL and MariaDB, and BEGIN IMMEDIATE on SQLite where the turn
//!   writes. `Access::Write` is what a SQLite connection needs to write at all.
//! - [`key_expression`] is how a trigger, and a load, makes the bytes of a key of a row.
//! - [`Table::read`] is what a database's catalog says of a table: the types of its columns, and so of its keys.
//! - [`Database::run_here`] does the same on the caller's thread, for starting up and for commands.
//! - [`Turn::connection`] is the diesel connection, for what has no name here.
//!
//! Invariants: this module knows no group, no HTTP and no table. No password is ever in a message: a URL is shown
//! without its user, password and options, and what a client library says is searched for the password.
//!
//! How a statement ends in time. PostgreSQL, MariaDB and MySQL end it themselves, by the timeout that a session is
//! given (MySQL does so for SELECT only). A SQLite statement can't be cancelled from outside by what diesel offers. So
//! it carries its own end: the wait for a lock ends by `busy_timeout`, and each row that is looked at evaluates
//! `gg_within(deadline)`, a function of ours that fails the statement once the deadline has passed. What neither reaches
//! is a single step that takes long by itself: a read that hangs in the kernel, or a view that sorts or aggregates; and
//! a server that is silent without its connection being broken. Then the thread, its connection and its place stay taken
//! until it ends, and whoever waits needs a timeout of their own.

mod catalog;
mod config;
mod connection;
mod deadline;
mod error;
mod key;
mod kind;
mod migrate;
#[cfg(feature = "mysql")]
mod mysql;
mod place;
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod server;
mod session;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statement;
mod threads;
mod turn;
mod value;

pub use catalog::{Affinity, Column, ColumnType, Table};
pub use config::{ChangesConfig, DatabaseConfig, DatabaseUrl};
pub use connection::Connection;
pub use deadline::Deadline;
pub use error::{DatabaseError, OpenError};
pub use key::{KeyType, KeyValue, key_expression};
pub use kind::DatabaseKind;
pub use migrate::{MigrateError, migrate};
pub use pool::Database;
pub use session::Access;
pub use statement::{SqlValue, Statement};
pub use turn::Turn;
pub use value::{Field, FieldError, Row};

#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "mysql")))]
compile_error!("no database is built in: turn on one of the features sqlite, postgres and mysql");
