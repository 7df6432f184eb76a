//! What the tests of tables on servers share.

use std::time::Duration;

use ggcache::{
    database::{Database, DatabaseConfig, DatabaseUrl},
    group::{ContentKind, Key, LoadError, Loader as _, Value},
    origin::{TableConfig, TableError, TableLoader},
};

pub(super) fn config(url: String) -> DatabaseConfig {
    let mut config = DatabaseConfig::new(DatabaseUrl::new(url));
    // Long enough that a busy machine does not matter, except where a test is about it.
    config.statement_timeout = Duration::from_secs(20);
    config.max_connections = 4;
    config
}

pub(super) fn open(url: String) -> Database {
    Database::open(&config(url)).expect("opens")
}

pub(super) fn try_table(
    database: &Database,
    table: &str,
    key_column: &str,
    value_columns: &[&str],
) -> Result<TableLoader, TableError> {
    let config = TableConfig {
        database: "shop".to_owned(),
        table: table.to_owned(),
        key_column: key_column.to_owned(),
        value_columns: value_columns.iter().map(|&name| name.to_owned()).collect(),
        writable: false,
    };
    TableLoader::new(database, &config, 1 << 20)
}

pub(super) fn table(database: &Database, table: &str, key: &str, values: &[&str]) -> TableLoader {
    try_table(database, table, key, values).expect("the table can be served")
}

pub(super) fn key(bytes: impl AsRef<[u8]>) -> Key {
    Key::new(bytes).expect("1 to 1,024 bytes")
}

pub(super) async fn load(loader: &TableLoader, bytes: impl AsRef<[u8]>) -> Result<Option<Value>, LoadError> {
    let mut answer = loader.load(&[key(bytes)]).await?;
    assert_eq!(answer.len(), 1);
    Ok(answer.remove(0))
}

/// The text of a value that is there, and what it is.
pub(super) async fn found(loader: &TableLoader, bytes: impl AsRef<[u8]>) -> (String, ContentKind) {
    let value = load(loader, bytes).await.expect("works").expect("found");
    (String::from_utf8(value.bytes().to_vec()).expect("text"), value.kind())
}

/// An error with all of its causes, as a log has it.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
