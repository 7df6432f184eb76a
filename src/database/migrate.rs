//! Creating a database, or bringing it up to date: `ggcache migrate`.

use diesel_migrations::{EmbeddedMigrations, MigrationHarness};
use thiserror::Error;

use super::{DatabaseConfig, OpenError, place::Place};

/// Why a database can't be migrated.
#[derive(Debug, Error)]
pub enum MigrateError {
    #[error("the database can't be opened for a migration")]
    Open(#[from] OpenError),
    #[error("the database can't be locked for a migration")]
    Transaction(#[from] diesel::result::Error),
    #[error("the migrations can't be listed")]
    List(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the migration {name} failed")]
    Run { name: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Runs the migrations of the demo's tables that the database has not had yet, all in one transaction (but on MySQL and
/// MariaDB, which commit each table by itself). A SQLite file is
/// created where it is missing, and its write-ahead log is turned on. The answer names those that were run; none if the
/// database is up to date. Blocks.
///
/// # Errors
/// A database that can't be opened or written, or a migration that failed: then nothing was changed (on MySQL and MariaDB, nothing of what comes after it).
pub fn migrate(config: &DatabaseConfig) -> Result<Vec<String>, MigrateError> {
    let place = Place::new(
        &config.url,
        #[cfg(feature = "sqlite")]
        super::deadline::StatementClock::new(),
    )?;
    match place {
        #[cfg(feature = "sqlite")]
        Place::Sqlite(_) => sqlite::migrate(config),
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        place => server::migrate(config, &place),
    }
}

fn run_pending<DB: diesel::backend::Backend>(
    connection: &mut impl MigrationHarness<DB>,
    migrations: EmbeddedMigrations,
) -> Result<Vec<String>, MigrateError> {
    let pending = connection.pending_migrations(migrations).map_err(MigrateError::List)?;
    let mut applied = Vec::with_capacity(pending.len());
    for migration in pending {
        let name = migration.name().to_string();
        match connection.run_migration(&*migration) {
            Ok(_) => applied.push(name),
            Err(source) => return Err(MigrateError::Run { name, source }),
        }
    }
    Ok(applied)
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::time::Duration;

    use diesel_migrations::{EmbeddedMigrations, embed_migrations};

    use super::{MigrateError, run_pending};
    use crate::database::{
        DatabaseConfig,
        sqlite::{DatabaseFile, OpenMode, open_alone},
    };

    /// What `migrations/sqlite` held when this was built.
    const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
    /// How long a migration waits for other writers at least: it is run by a person, who would only try again.
    const LOCK_WAIT_MIN: Duration = Duration::from_secs(5);

    pub(super) fn migrate(config: &DatabaseConfig) -> Result<Vec<String>, MigrateError> {
        let file = DatabaseFile::from_url(&config.url)?;
        let mut connection =
            open_alone(&file, OpenMode::Create, config.statement_timeout.max(LOCK_WAIT_MIN))?;
        // Immediate: of two that migrate at once, the second waits and then finds nothing to do.
        connection.immediate_transaction(|connection| run_pending(connection, MIGRATIONS))
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
mod server {
    use std::{sync::Arc, time::Duration};

    use diesel_migrations::{EmbeddedMigrations, embed_migrations};

    use super::{MigrateError, run_pending};
    use crate::database::{Connection, DatabaseConfig, OpenError, place::Place};

    #[cfg(feature = "postgres")]
    const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
    #[cfg(feature = "mysql")]
    const MYSQL: EmbeddedMigrations = embed_migrations!("migrations/mysql");
    /// How long a statement may take at least: a migration is run by a person, who would only try again.
    const TIMEOUT_MIN: Duration = Duration::from_secs(30);
    /// What two migrations at once wait for: a number of ours.
    #[cfg(feature = "postgres")]
    const LOCK: i64 = 0x6767_6361_6368_6501;

    pub(super) fn migrate(config: &DatabaseConfig, place: &Place) -> Result<Vec<String>, MigrateError> {
        let session = place.connect(config.statement_timeout.max(TIMEOUT_MIN));
        let session =
            session.map_err(|error| OpenError::Open { place: place.to_string(), source: Arc::new(error) })?;
        match session.connection {
            #[cfg(feature = "sqlite")]
            Connection::Sqlite(_) => Ok(Vec::new()),
            #[cfg(feature = "postgres")]
            Connection::Postgres(mut connection) => {
                use diesel::{Connection as _, connection::SimpleConnection as _};
                connection.transaction(|connection| {
                    // Of two that migrate at once, the second waits and then finds nothing to do.
                    connection.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})"))?;
                    run_pending(connection, POSTGRES)
                })
            }
            // No transaction around them: each CREATE commits.
            #[cfg(feature = "mysql")]
            Connection::Mysql(mut connection) => {
                use diesel::connection::SimpleConnection as _;
                connection.batch_execute("DO GET_LOCK('ggcache migrate', 30)")?;
                run_pending(&mut connection, MYSQL)
            }
        }
    }
}
