//! Creating a database, or bringing it up to date: `ggcache migrate`.

use std::time::Duration;

use diesel::SqliteConnection;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use thiserror::Error;

use super::{
    OpenError,
    connect::open_alone,
    file::{DatabaseFile, OpenMode},
};
use crate::origin::DatabaseConfig;

/// What `migrations/sqlite` held when this was built.
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
/// How long a migration waits for other writers at least: it is run by a person, who would only try again.
const LOCK_WAIT_MIN: Duration = Duration::from_secs(5);

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

/// Creates the database file where it is missing, turns its write-ahead log on and runs the migrations that
/// it has not had yet, all in one transaction. The answer names those; none if it is up to date. Blocks.
///
/// # Errors
/// A file that can't be created or written, or a migration that failed: then nothing was changed.
pub fn migrate(config: &DatabaseConfig) -> Result<Vec<String>, MigrateError> {
    let file = DatabaseFile::from_url(&config.url)?;
    let mut connection = open_alone(&file, OpenMode::Create, config.statement_timeout.max(LOCK_WAIT_MIN))?;
    // Immediate: of two that migrate at once, the second waits and then finds nothing to do.
    connection.immediate_transaction(run_pending)
}

fn run_pending(connection: &mut SqliteConnection) -> Result<Vec<String>, MigrateError> {
    let pending = connection.pending_migrations(MIGRATIONS).map_err(MigrateError::List)?;
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
