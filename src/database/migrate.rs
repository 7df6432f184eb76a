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
    #[error("the migration {name} failed, and nothing was changed")]
    Run { name: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Runs the migrations of the demo's tables that the database has not had yet, all in one transaction. A SQLite file is
/// created where it is missing, and its write-ahead log is turned on. The answer names those that were run; none if the
/// database is up to date. Blocks.
///
/// # Errors
/// A database that can't be opened or written, or a migration that failed: then nothing was changed.
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
        _ => Err(OpenError::Url { url: config.url.to_string(), reason: "only SQLite has migrations".into() }
            .into()),
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
