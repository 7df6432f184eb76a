//! The database that the nodes stand in front of, of each kind that there is.
//!
//! The including program names the servers of `tests/support` as `postgres` and `mariadb`.

use std::time::Duration;

use clap::ValueEnum;
use ggcache::database::{Access, Database, DatabaseConfig, DatabaseError, DatabaseUrl, Turn};

#[cfg(feature = "mysql")]
use crate::mariadb::MariaDb;
use crate::{postgres::Postgres, support::site::Site};

/// The kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Sqlite,
    Postgres,
    Mariadb,
}

/// A server with an empty database; nothing but a name for SQLite. Stopped when it is dropped.
#[derive(Debug)]
pub enum Server {
    Sqlite,
    Postgres(Postgres, String),
    #[cfg(feature = "mysql")]
    Mariadb(MariaDb, String),
}

/// How long this process waits for the database.
pub const PATIENCE: Duration = Duration::from_secs(600);

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    /// If the build does not know the kind.
    pub fn start(kind: Kind) -> Result<Self, &'static str> {
        Ok(match kind {
            Kind::Sqlite => Self::Sqlite,
            Kind::Postgres => {
                let server = Postgres::start(&[]);
                let database = server.database();
                Self::Postgres(server, database)
            }
            #[cfg(feature = "mysql")]
            Kind::Mariadb => {
                // With as much memory as a server has by itself.
                let server = MariaDb::start(&["--innodb-buffer-pool-size=128M"]);
                let database = server.database();
                Self::Mariadb(server, database)
            }
            #[cfg(not(feature = "mysql"))]
            Kind::Mariadb => return Err("this build knows no MySQL: add --features mysql"),
        })
    }

    /// The database's URL, for nodes that run in a site's directory.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite => "sqlite:school.db".to_owned(),
            Self::Postgres(server, database) => server.url(database),
            #[cfg(feature = "mysql")]
            Self::Mariadb(server, database) => server.url(database),
        }
    }

    /// Opens the database for this process, whose statements take `timeout` at most; of SQLite, the file in `site`, which
    /// is made if it is missing.
    pub fn open(&self, site: &Site, timeout: Duration) -> Database {
        let url = match self {
            Self::Sqlite => {
                site.sql("PRAGMA journal_mode = WAL");
                format!("sqlite:{}", site.database().display())
            }
            _ => self.url(),
        };
        let config = DatabaseConfig {
            max_connections: 1,
            statement_timeout: timeout,
            ..DatabaseConfig::new(DatabaseUrl::new(url))
        };
        Database::open(&config).expect("the database answers")
    }

    /// Stops the server; connections are cut.
    pub fn stop(&mut self) {
        match self {
            Self::Sqlite => panic!("SQLite has no server"),
            Self::Postgres(server, _) => server.stop(),
            #[cfg(feature = "mysql")]
            Self::Mariadb(server, _) => server.stop(),
        }
    }

    /// Starts it again, and waits until it answers.
    pub fn restart(&mut self) {
        match self {
            Self::Sqlite => panic!("SQLite has no server"),
            Self::Postgres(server, _) => server.restart(),
            #[cfg(feature = "mysql")]
            Self::Mariadb(server, _) => server.restart(),
        }
    }
}

/// Does something with a database that answers.
///
/// # Panics
/// If it fails.
pub fn run<T>(database: &Database, work: impl FnOnce(&mut Turn<'_>) -> Result<T, DatabaseError>) -> T {
    database.run_here(Access::Write, PATIENCE, work).expect("the database answers")
}

/// SQL that fills `table (id, version)` with the numbers below `count`, each in version 0.
pub fn numbers(table: &str, count: usize) -> String {
    let digits = count.saturating_sub(1).max(1).ilog10() + 1;
    let ten: String = (1..10).map(|digit| format!(" UNION ALL SELECT {digit}")).collect();
    let places = (0..digits).map(|place| format!("(SELECT 0 AS d{ten}) AS t{place}"));
    let number: Vec<_> = (0..digits).map(|place| format!("t{place}.d * {}", 10_u64.pow(place))).collect();
    let number = number.join(" + ");
    let places = places.collect::<Vec<_>>().join(" CROSS JOIN ");
    format!("INSERT INTO {table} (id, version) SELECT {number}, 0 FROM {places} WHERE {number} < {count}")
}
