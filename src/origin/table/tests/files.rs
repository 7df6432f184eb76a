//! The file: opened, missing, deleted, replaced, migrated.

use std::{fs, time::Duration};

use diesel::{
    Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _,
    sql_query, sql_types::Text,
};

use super::{Fixture, load, source, table};
use crate::{
    database::{Database, DatabaseConfig, DatabaseUrl, MigrateError, OpenError, migrate},
    group::Value,
    origin::TableLoader,
};

#[tokio::test]
async fn a_deleted_file_is_an_error_and_a_replaced_one_is_read() {
    let fixture = Fixture::new("CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1)");
    let database = fixture.open();
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    assert_eq!(load(&loader, "a").await.expect("works"), Some(Value::text("1")));
    let path = fixture.directory.path().join("test.db");
    drop(fixture.writer);
    for name in ["test.db", "test.db-wal", "test.db-shm"] {
        let file = fixture.directory.path().join(name);
        if file.exists() {
            fs::remove_file(file).expect("removes");
        }
    }
    let text = source(load(&loader, "a").await.expect_err("the file is gone"));
    assert!(text.ends_with("is gone"), "{text}");
    assert!(!path.exists(), "reading creates no file");
    let other = Fixture::new("CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 2)");
    fs::rename(other.directory.path().join("test.db"), &path).expect("moves");
    assert_eq!(load(&loader, "a").await.expect("works again"), Some(Value::text("2")));
    fs::write(&path, "no database, but long enough to have a header that could be one".repeat(20))
        .expect("writes");
    assert!(load(&loader, "a").await.is_err());
}

#[test]
fn opening_says_what_is_wrong() {
    let fixture = Fixture::new("");
    let mut config = fixture.config();
    let with_url = |url: String| {
        let mut config = fixture.config();
        config.url = DatabaseUrl::new(url);
        Database::open(&config).expect_err("must not open")
    };
    let directory = fixture.directory.path().display();
    let missing = with_url(format!("sqlite:{directory}/none.db"));
    assert!(matches!(missing, OpenError::Missing { .. }));
    assert!(missing.to_string().contains("ggcache migrate"));
    assert!(!fixture.directory.path().join("none.db").exists());
    assert!(matches!(with_url(format!("sqlite:{directory}")), OpenError::Open { .. }), "a directory");
    fs::write(fixture.directory.path().join("text.db"), "a text file ".repeat(100)).expect("writes");
    assert!(matches!(with_url(format!("sqlite:{directory}/text.db")), OpenError::Open { .. }));
    assert!(matches!(with_url("sqlite::memory:".to_owned()), OpenError::Url { .. }));
    config.max_connections = 0;
    assert!(matches!(Database::open(&config), Err(OpenError::Setting { .. })));
    config.max_connections = 1;
    config.statement_timeout = Duration::ZERO;
    assert!(matches!(Database::open(&config), Err(OpenError::Setting { .. })));
}

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    value: String,
}

#[tokio::test]
async fn migrate_makes_the_demos_table_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a b%41.db");
    let config = DatabaseConfig::new(DatabaseUrl::new(format!("sqlite:{}", path.display())));
    assert!(matches!(Database::open(&config), Err(OpenError::Missing { .. })));
    let applied = migrate(&config).expect("migrates");
    assert_eq!(applied, ["2026-01-01-000000_students"]);
    assert!(path.exists(), "the name is taken literally");
    assert!(migrate(&config).expect("nothing to do").is_empty());
    let mut writer = SqliteConnection::establish(path.to_str().expect("UTF-8")).expect("opens");
    let mode =
        sql_query("SELECT journal_mode AS value FROM pragma_journal_mode").get_result::<Setting>(&mut writer);
    assert_eq!(mode.expect("a pragma").value, "wal");

    let database = Database::open(&config).expect("opens");
    let loader = TableLoader::new(&database, &table("students", "name", &["score"]), 100).expect("opens");
    assert!(loader.warnings().is_empty());
    for (name, score) in [("张三", "333"), ("李四", "444"), ("王五", "555")] {
        assert_eq!(load(&loader, name).await.expect("works"), Some(Value::text(score)));
    }
    assert_eq!(load(&loader, "赵六").await.expect("works"), None);
    writer
        .batch_execute(
            "UPDATE students SET updated_at = 'long ago'; UPDATE students SET score = 334 WHERE name = '张三'",
        )
        .expect("updates");
    assert_eq!(load(&loader, "张三").await.expect("works"), Some(Value::text("334")));
    let touched = sql_query("SELECT name AS value FROM students WHERE updated_at <> 'long ago'");
    let touched: Vec<String> =
        touched.load::<Setting>(&mut writer).expect("reads").into_iter().map(|row| row.value).collect();
    assert_eq!(touched, ["张三"]);
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let mut fixture = Fixture::new("CREATE TABLE students (id INTEGER)");
    let error = migrate(&fixture.config()).expect_err("the table is there already");
    assert!(matches!(error, MigrateError::Run { .. }), "{error}");
    let tables = sql_query("SELECT group_concat(name) AS value FROM sqlite_schema WHERE type = 'table'");
    assert_eq!(tables.get_result::<Setting>(&mut fixture.writer).expect("reads").value, "students");
}

#[test]
fn of_two_migrations_at_once_one_does_the_work() {
    let fixture = Fixture::new("");
    let config = fixture.config();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let config = config.clone();
            std::thread::spawn(move || migrate(&config).expect("migrates").len())
        })
        .collect();
    let applied: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    assert_eq!(applied, 1);
}
