//! The SQLite origin against real files.

mod files;
mod keys;
mod limits;
mod tables;

use std::time::Duration;

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use tempfile::TempDir;

use super::{QueryError, TableLoader};
use crate::{
    database::{Database, DatabaseConfig, DatabaseUrl},
    group::{Key, LoadError, Loader as _, Value},
    origin::TableConfig,
};

/// A directory with one database file, and a connection that writes it.
struct Fixture {
    directory: TempDir,
    writer: SqliteConnection,
}

impl Fixture {
    fn new(sql: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("test.db");
        let mut writer =
            SqliteConnection::establish(path.to_str().expect("UTF-8")).expect("creates the file");
        // A connection of the pool that opens in the background reads the schema, and holds a writer up for a moment.
        writer.batch_execute("PRAGMA busy_timeout = 20000").expect("valid SQL");
        writer.batch_execute(sql).expect("valid SQL");
        Self { directory, writer }
    }

    fn config(&self) -> DatabaseConfig {
        let path = self.directory.path().join("test.db");
        let mut config = DatabaseConfig::new(DatabaseUrl::new(format!("sqlite:{}", path.display())));
        // Long enough that a busy machine does not matter, except where a test is about it.
        config.statement_timeout = Duration::from_secs(20);
        config.max_connections = 4;
        config
    }

    fn open(&self) -> Database {
        Database::open(&self.config()).expect("opens")
    }

    fn run(&mut self, sql: &str) {
        self.writer.batch_execute(sql).expect("valid SQL");
    }
}

fn table(table: &str, key_column: &str, value_columns: &[&str]) -> TableConfig {
    TableConfig {
        database: "school".to_owned(),
        table: table.to_owned(),
        key_column: key_column.to_owned(),
        value_columns: value_columns.iter().map(|&name| name.to_owned()).collect(),
        writable: false,
    }
}

fn key(bytes: impl AsRef<[u8]>) -> Key {
    Key::new(bytes).expect("1 to 1,024 bytes")
}

async fn load(loader: &TableLoader, bytes: impl AsRef<[u8]>) -> Result<Option<Value>, LoadError> {
    let mut answer = loader.load(&[key(bytes)]).await?;
    assert_eq!(answer.len(), 1);
    Ok(answer.remove(0))
}

fn source(error: LoadError) -> String {
    let (LoadError::Unavailable(source) | LoadError::Refused(source) | LoadError::Row(source)) = &error
    else {
        panic!("{error:?}")
    };
    let source: &(dyn std::error::Error + 'static) = &**source;
    assert!(source.downcast_ref::<QueryError>().is_some(), "{source:?}");
    source.to_string()
}
