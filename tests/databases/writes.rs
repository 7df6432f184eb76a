//! Writes of rows, the same on every kind of database: what is written is read back, and nothing else has changed.

use bytes::Bytes;
use ggcache::{
    database::{Access, Database, DatabaseKind, Statement},
    group::{Condition, Write, WriteError, Writer as _, Written},
    origin::{TableConfig, TableError, TableLoader, TableWriter},
};

use super::tables::{chain, found, key, load, open};

fn config(table: &str, values: &[&str]) -> TableConfig {
    TableConfig {
        database: "shop".to_owned(),
        table: table.to_owned(),
        key_column: "k".to_owned(),
        value_columns: values.iter().map(|&name| name.to_owned()).collect(),
        writable: true,
    }
}

fn both(database: &Database, table: &str, values: &[&str]) -> (TableLoader, TableWriter) {
    let config = config(table, values);
    let loader = TableLoader::new(database, &config, 1 << 20).expect("the table can be served");
    let writer = TableWriter::new(&loader, &config).expect("and written");
    (loader, writer)
}

fn run(database: &Database, sql: &str) {
    let batch = database.run_here(Access::Write, database.statement_timeout(), |turn| turn.batch(sql));
    batch.unwrap_or_else(|error| panic!("{}: {sql}", chain(&error)));
}

fn put(body: impl Into<Vec<u8>>) -> Write {
    Write::Put(Bytes::from(body.into()))
}

async fn written(writer: &TableWriter, name: &str, write: Write) -> Written {
    writer.write(&key(name), &write, None).await.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)))
}

/// Everything that holds for each kind.
async fn check(database: Database) {
    let kind = database.kind();
    run(
        &database,
        match kind {
            DatabaseKind::Sqlite => {
                "CREATE TABLE w (k TEXT COLLATE NOCASE PRIMARY KEY, n INTEGER NOT NULL CHECK (n < 1000), d TEXT, b BLOB)"
            }
            DatabaseKind::Postgres => {
                "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
                 CREATE TABLE w (k TEXT COLLATE nocase PRIMARY KEY, n INTEGER NOT NULL CHECK (n < 1000), d NUMERIC, b BYTEA)"
            }
            DatabaseKind::Mysql => {
                "CREATE TABLE w (k VARCHAR(100) COLLATE utf8mb4_general_ci PRIMARY KEY, \
                 n INTEGER NOT NULL CHECK (n < 1000), d DECIMAL(30, 10), b BLOB)"
            }
        },
    );
    let (loader, writer) = both(&database, "w", &["n"]);
    assert_eq!(written(&writer, "anna", put("333")).await, Written::Done);
    assert_eq!(found(&loader, "anna").await.0, "333");
    assert_eq!(written(&writer, "anna", put("334")).await, Written::Done);
    assert_eq!(found(&loader, "anna").await.0, "334");
    // The same again changes nothing, and is done all the same.
    assert_eq!(written(&writer, "anna", put("334")).await, Written::Done);

    // Another spelling is another key, which the collation does not let in.
    for write in [put("1"), Write::Delete] {
        let other = writer.write(&key("ANNA"), &write, None).await;
        assert!(matches!(other, Err(WriteError::Refused(_))), "{kind}: {other:?}");
    }
    assert_eq!(found(&loader, "anna").await.0, "334", "and Anna's row is as it was");

    for bad in ["", "abc", "1000", "99999999999999999999"] {
        let refused = writer.write(&key("anna"), &put(bad), None).await;
        let is_refused = matches!(refused, Err(WriteError::Refused(_) | WriteError::Malformed(_)));
        // SQLite keeps text in an integer column, and compares it as greater than any number.
        assert!(is_refused, "{kind}: {bad:?}: {refused:?}");
    }
    assert_eq!(found(&loader, "anna").await.0, "334");

    let is_334 = || Condition::new(|present| present.is_some_and(|value| &value.bytes()[..] == b"334"));
    let changed = writer.write(&key("anna"), &put("335"), Some(&is_334())).await;
    assert!(matches!(changed, Ok(Written::Done)), "{kind}: {changed:?}");
    let refused = writer.write(&key("anna"), &put("336"), Some(&is_334())).await;
    assert!(matches!(refused, Err(WriteError::Condition)), "{kind}: {refused:?}");
    let refused = writer.write(&key("bert"), &put("336"), Some(&is_334())).await;
    assert!(matches!(refused, Err(WriteError::Condition)), "{kind}: {refused:?}");
    assert_eq!(load(&loader, "bert").await.expect("works"), None);

    assert_eq!(written(&writer, "anna", Write::Delete).await, Written::Done);
    assert_eq!(written(&writer, "anna", Write::Delete).await, Written::Absent);
    assert_eq!(load(&loader, "anna").await.expect("works"), None);

    let odd = "x'); DROP TABLE w; --\"`\\%_";
    assert_eq!(written(&writer, odd, put("7")).await, Written::Done);
    assert_eq!(found(&loader, odd).await.0, "7");

    several(&database).await;
    no_other_row_is_reached(&database).await;
    at_once(&database).await;

    let config =
        TableConfig { key_column: "n".to_owned(), value_columns: vec!["k".to_owned()], ..config("w", &[]) };
    let loader = TableLoader::new(&database, &config, 1 << 20).expect("it can be read");
    let refused = TableWriter::new(&loader, &config);
    assert!(matches!(refused, Err(TableError::KeyNotUnique { .. })), "{kind}: {refused:?}");
}

/// Several columns are an object, there and back.
async fn several(database: &Database) {
    let (loader, writer) = both(database, "w", &["n", "d", "b"]);
    let decimal = match database.kind() {
        // It has no decimals: a text keeps the digits.
        DatabaseKind::Sqlite => "\"12345678901234567890.5\"",
        DatabaseKind::Postgres => "12345678901234567890.5",
        DatabaseKind::Mysql => "12345678901234567890.5000000000",
    };
    let body = format!("{{\"n\":1,\"d\":{decimal},\"b\":\"+/8A\"}}");
    for _ in 0..2 {
        assert_eq!(written(&writer, "carl", put(body.as_str())).await, Written::Done);
        assert_eq!(found(&loader, "carl").await.0, body);
    }
    assert_eq!(written(&writer, "carl", put(r#"{"b":null,"d":null,"n":2}"#)).await, Written::Done);
    assert_eq!(found(&loader, "carl").await.0, r#"{"n":2,"d":null,"b":null}"#);
    let refused = writer.write(&key("carl"), &put(r#"{"n":2}"#), None).await;
    assert!(matches!(refused, Err(WriteError::Malformed(text)) if text.contains("\"d\"")));
}

/// An index that lets two spellings in, which the column takes for one: a statement by key would reach both rows.
async fn no_other_row_is_reached(database: &Database) {
    let collation = match database.kind() {
        DatabaseKind::Sqlite => "BINARY",
        DatabaseKind::Postgres => "\"C\"",
        // An index has its column's collation.
        DatabaseKind::Mysql => return,
    };
    run(
        database,
        &format!(
            "CREATE TABLE x (k TEXT COLLATE nocase, n INTEGER); CREATE UNIQUE INDEX x_k ON x (k COLLATE {collation}); \
             INSERT INTO x VALUES ('Anna', 1), ('ANNA', 2)"
        ),
    );
    let config = config("x", &["n"]);
    let loader = TableLoader::new(database, &config, 1 << 20).expect("the table can be served");
    if let Ok(writer) = TableWriter::new(&loader, &config) {
        for write in [put("77"), Write::Delete] {
            let refused = writer.write(&key("Anna"), &write, None).await;
            assert!(refused.is_err(), "{refused:?}");
        }
    }
    let rows = database.run_here(Access::Read, database.statement_timeout(), |turn| {
        turn.query(&Statement::new("SELECT SUM(n) FROM x WHERE n IN (1, 2)"))
    });
    assert_eq!(rows.expect("works")[0].integer(0).expect("a number"), 3, "both rows are as they were");
}

/// Many that insert and change one row: each is carried out, and one row is left.
async fn at_once(database: &Database) {
    let (_, writer) = both(database, "w", &["n"]);
    let writes = (0..16).map(|number| {
        let writer = writer.clone();
        tokio::spawn(async move { writer.write(&key("dora"), &put(number.to_string()), None).await })
    });
    let writes: Vec<_> = writes.collect();
    for write in writes {
        let done = write.await.expect("no panic");
        assert!(matches!(done, Ok(Written::Done)), "{done:?}");
    }
    let rows = database.run_here(Access::Read, database.statement_timeout(), |turn| {
        turn.query(&Statement::new("SELECT COUNT(*) FROM w WHERE k = ").bind("dora"))
    });
    assert_eq!(rows.expect("works")[0].integer(0).expect("a number"), 1);
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn rows_are_written_on_sqlite() {
    use diesel::Connection as _;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("w.db");
    let path = path.to_str().expect("text");
    diesel::SqliteConnection::establish(path).expect("it is created");
    std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file");
    check(open(format!("sqlite:{path}"))).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn rows_are_written_on_postgres() {
    let server = crate::postgres::Postgres::shared();
    check(open(server.url(&server.database()))).await;
}

#[cfg(feature = "mysql")]
#[tokio::test]
async fn rows_are_written_on_mariadb() {
    let server = crate::mariadb::MariaDb::shared();
    check(open(server.url(&server.database()))).await;
}
