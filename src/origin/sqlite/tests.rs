//! The SQLite origin against real files.

use std::{fs, sync::mpsc, time::Duration};

use diesel::{
    Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection,
    connection::SimpleConnection as _,
    sql_query,
    sql_types::{BigInt, Binary, Text},
};
use tempfile::TempDir;

use super::{MigrateError, OpenError, QueryError, SqliteDatabase, TableLoader, migrate};
use crate::{
    group::{ContentKind, Key, KeyScan, LoadError, Loader, Value},
    origin::{
        DatabaseConfig, DatabaseUrl, KeyType, TableConfig,
        conformance::{Subject, check_loader, check_scan},
    },
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

    fn open(&self) -> SqliteDatabase {
        SqliteDatabase::open(&self.config()).expect("opens")
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
    let LoadError::Unavailable(source) = &error else { panic!("{error:?}") };
    let source: &(dyn std::error::Error + 'static) = &**source;
    assert!(source.downcast_ref::<QueryError>().is_some(), "{source:?}");
    source.to_string()
}

#[tokio::test]
async fn text_keys_conform() {
    // Names that would end the statement, the identifier or the string, were they not quoted.
    let mut fixture = Fixture::new(
        r#"CREATE TABLE "a ""b"";--'" ("k'"";" VARCHAR(9) NOT NULL COLLATE NOCASE, v TEXT);
           CREATE UNIQUE INDEX i ON "a ""b"";--'" ("k'"";" COLLATE BINARY);
           CREATE INDEX j ON "a ""b"";--'" ("k'"";")"#,
    );
    let database = fixture.open();
    let mut texts: Vec<String> = (0..1200).map(|n| format!("student {n}")).collect();
    texts.extend(
        [
            "Anna",
            "anna",
            "张三",
            "\u{1F600}",
            "a\0b",
            "a\0c",
            "\0",
            "'",
            "\"",
            "x'; DROP TABLE t; --",
            "?",
            " ",
        ]
        .map(str::to_owned),
    );
    texts.extend(["x".repeat(1024), "é".repeat(512), "7".to_owned()]);
    for text in &texts {
        sql_query(r#"INSERT INTO "a ""b"";--'" VALUES (?, 'v' || ?)"#)
            .bind::<Text, _>(text)
            .bind::<Text, _>(text)
            .execute(&mut fixture.writer)
            .expect("inserts");
    }
    let loader = TableLoader::new(&database, &table(r#"a "b";--'"#, r#"k'";"#, &["v"]), 10_000);
    let loader = loader.expect("the table is there");
    assert_eq!(loader.report().key_type, KeyType::Text);
    assert!(loader.warnings().is_empty(), "{:?}", loader.warnings());
    assert_eq!(loader.report().collation.as_deref(), Some("NOCASE"));

    let mut ordered: Vec<Key> = texts.iter().map(key).collect();
    ordered.sort_unstable();
    check_scan(&loader, &ordered).await;
    let absent = ["ANNA", "aNNA", "a", "a\0", "a\0d", "  ", "07", "7.0", "student 1 ", "Student 1", "\"\""];
    let mut absent: Vec<Key> = absent.iter().map(key).collect();
    absent.push(key([0xff]));
    absent.push(key("x".repeat(1023)));
    check_loader(Subject {
        loader: &loader,
        present: texts.iter().map(|text| (key(text), Value::text(format!("v{text}")))).collect(),
        absent,
        break_origin: Box::new(|| fixture.run(r#"DROP TABLE "a ""b"";--'""#)),
    })
    .await;
}

#[tokio::test]
async fn integer_keys_conform() {
    let mut fixture = Fixture::new("CREATE TABLE t (k INTEGER PRIMARY KEY, v INTEGER NOT NULL)");
    let database = fixture.open();
    let mut numbers: Vec<i64> = (-600..600).collect();
    numbers.extend([i64::MIN, i64::MAX, 9_007_199_254_740_993]);
    for number in &numbers {
        sql_query("INSERT INTO t VALUES (?, ?)")
            .bind::<BigInt, _>(number)
            .bind::<BigInt, _>(number)
            .execute(&mut fixture.writer)
            .expect("inserts");
    }
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("the table is there");
    assert_eq!(loader.report().key_type, KeyType::Integer);
    assert!(loader.report().unique && loader.report().collation.is_none());
    numbers.sort_unstable();
    let keys: Vec<Key> = numbers.iter().map(|n| key(n.to_string())).collect();
    check_scan(&loader, &keys).await;
    let absent = ["007", "7.0", "+7", "-0", " 7", "abc", "9007199254740992", "600", "9223372036854775808"];
    check_loader(Subject {
        loader: &loader,
        present: numbers.iter().map(|n| (key(n.to_string()), Value::text(n.to_string()))).collect(),
        absent: absent.iter().map(key).collect(),
        break_origin: Box::new(|| fixture.run("DROP TABLE t")),
    })
    .await;
}

#[tokio::test]
async fn blob_keys_conform() {
    let mut fixture = Fixture::new("CREATE TABLE t (k BLOB PRIMARY KEY, a BLOB, b INTEGER) WITHOUT ROWID");
    let database = fixture.open();
    let mut keys: Vec<Vec<u8>> = (0..1200_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    keys.extend([vec![0], vec![0xff], vec![0xff, 0xfe], b"text".to_vec(), vec![0; 1024]]);
    for bytes in &keys {
        sql_query("INSERT INTO t VALUES (?, x'fbff00', 7)")
            .bind::<Binary, _>(bytes)
            .execute(&mut fixture.writer)
            .expect("inserts");
    }
    // A text of the same bytes is another key.
    fixture.run("INSERT INTO t VALUES ('only text', x'00', 1)");
    let loader = TableLoader::new(&database, &table("t", "k", &["b", "a"]), 100).expect("opens");
    assert_eq!(loader.report().key_type, KeyType::Blob);
    let mut ordered: Vec<Key> = keys.iter().map(key).collect();
    ordered.sort_unstable();
    check_scan(&loader, &ordered).await;
    let value = Value::new(&br#"{"b":7,"a":"+/8A"}"#[..], ContentKind::Json);
    check_loader(Subject {
        loader: &loader,
        present: keys.iter().map(|bytes| (key(bytes), value.clone())).collect(),
        absent: vec![key("only text"), key([0, 0]), key([0xff, 0xff]), key([0; 1023])],
        break_origin: Box::new(|| fixture.run("DROP TABLE t")),
    })
    .await;
}

#[tokio::test]
async fn a_collation_never_fetches_another_key() {
    let mut fixture = Fixture::new(
        "CREATE TABLE t (k TEXT COLLATE NOCASE, v INTEGER); CREATE INDEX i ON t (k);
         INSERT INTO t VALUES ('Anna', 1), ('anna', 2)",
    );
    let database = fixture.open();
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    assert_eq!(load(&loader, "Anna").await.expect("works"), Some(Value::text("1")));
    assert_eq!(load(&loader, "anna").await.expect("works"), Some(Value::text("2")));
    assert_eq!(load(&loader, "ANNA").await.expect("works"), None);
    // Enough keys for several statements, of which the first and the last both fetch both rows.
    let mut keys = vec![key("Anna")];
    keys.extend((0..1100).map(|n| key(format!("K{n}"))));
    keys.push(key("anna"));
    let answer = loader.load(&keys).await.expect("neither row is a second one of its key");
    assert_eq!((&answer[0], &answer[1101]), (&Some(Value::text("1")), &Some(Value::text("2"))));
    assert!(answer[1..1101].iter().all(Option::is_none));
    assert_eq!(loader.warnings().len(), 1, "not unique");
    fixture.run("INSERT INTO t VALUES ('Anna', 3)");
    let error = load(&loader, "Anna").await.expect_err("two rows, one key");
    assert_eq!(source(error), "two rows of table \"t\" have one key in column \"k\", which must be unique");
    assert_eq!(load(&loader, "anna").await.expect("works"), Some(Value::text("2")));
    check_scan(&loader, &[key("Anna"), key("anna")]).await;
}

#[tokio::test]
async fn impossible_keys_are_absent_without_a_query() {
    let fixture = Fixture::new(
        "CREATE TABLE t (k INT UNIQUE, s TEXT UNIQUE); INSERT INTO t VALUES (7, 'a'), ('abc', 'b')",
    );
    let database = fixture.open();
    let numbers = TableLoader::new(&database, &table("t", "k", &["s"]), 100).expect("opens");
    let texts = TableLoader::new(&database, &table("t", "s", &["k"]), 100).expect("opens");
    assert_eq!(database.statements(), 0);
    for impossible in ["007", "abc", "7.0"] {
        assert_eq!(load(&numbers, impossible).await.expect("absent"), None);
    }
    assert_eq!(load(&texts, b"\xff").await.expect("absent"), None);
    assert_eq!(database.statements(), 0);
    assert_eq!(load(&numbers, "7").await.expect("works"), Some(Value::text("a")));
    assert_eq!(load(&texts, "b").await.expect("works"), Some(Value::text("abc")));
    assert_eq!(database.statements(), 2);
    let keys: Vec<_> = (0..1001).map(|n| key(n.to_string())).collect();
    assert!(numbers.load(&keys).await.is_ok());
    assert_eq!(database.statements(), 5, "500 keys a statement");
}

#[tokio::test]
async fn values_keep_their_types() {
    let fixture = Fixture::new(
        "CREATE TABLE t (k TEXT PRIMARY KEY, i, r, s, b, n);
         INSERT INTO t VALUES ('a', 9007199254740993, 0.1, '\"王五', x'00ff', NULL);
         INSERT INTO t VALUES ('bad', 1, 9e999, CAST(x'ff' AS TEXT), zeroblob(0), NULL)",
    );
    let database = fixture.open();
    let of = |columns: &[&str]| TableLoader::new(&database, &table("t", "k", columns), 100).expect("opens");
    let all = of(&["n", "s", "i", "b", "r"]);
    let expected = r#"{"n":null,"s":"\"王五","i":9007199254740993,"b":"AP8=","r":0.1}"#;
    assert_eq!(load(&all, "a").await.expect("works"), Some(Value::new(expected, ContentKind::Json)));
    let error = load(&all, "bad").await.expect_err("not UTF-8");
    assert_eq!(source(error), "the text in column \"s\" of table \"t\" is not UTF-8");
    assert!(load(&of(&["s"]), "bad").await.is_err());
    let alone =
        async |column: &str, row: &str| load(&of(&[column]), row).await.expect("works").expect("found");
    assert_eq!(alone("i", "a").await, Value::text("9007199254740993"));
    assert_eq!(alone("r", "a").await, Value::text("0.1"));
    assert_eq!(alone("s", "a").await, Value::text("\"王五"));
    assert_eq!(alone("b", "a").await, Value::new(&[0, 0xff][..], ContentKind::Binary));
    assert_eq!(alone("n", "a").await, Value::text(""));
    assert_eq!(alone("r", "bad").await, Value::text("Infinity"));
    assert_eq!(alone("b", "bad").await, Value::new(&[][..], ContentKind::Binary));
    assert_eq!(alone("k", "a").await, Value::text("a"));
    let small = TableLoader::new(&database, &table("t", "k", &["i"]), 15).expect("opens");
    let error = load(&small, "a").await.expect_err("16 digits");
    assert!(matches!(error, LoadError::TooLarge { bytes: 16, limit: 15 }), "{error:?}");
}

#[test]
fn what_is_missing_is_named() {
    let fixture = Fixture::new(
        "CREATE TABLE students (id INTEGER, name TEXT, at DATETIME, mean DOUBLE, any); CREATE VIEW v AS SELECT 1 AS x",
    );
    let database = fixture.open();
    let error = |config: &TableConfig| {
        TableLoader::new(&database, config, 100).expect_err("must not open").to_string()
    };
    let text = error(&table("Students", "name", &["id"]));
    assert!(text.contains("no table \"Students\"") && text.ends_with("it has students, v"), "{text}");
    let text = error(&table("students", "nmae", &["id"]));
    assert!(text.contains("no column \"nmae\"") && text.ends_with("id, name, at, mean, any"), "{text}");
    let text = error(&table("students", "name", &["id", "score"]));
    assert!(text.contains("no column \"score\""), "{text}");
    assert!(error(&table("students", "name", &[])).contains("no value column"));
    assert!(error(&table("students", "name", &["id", "id"])).contains("twice"));
    assert!(error(&table("students", "at", &["id"])).contains("numeric affinity"));
    assert!(error(&table("students", "mean", &["id"])).contains("real affinity"));
    assert!(error(&table("students", "any", &["id"])).contains("no declared type"));
    let loader = TableLoader::new(&database, &table("students", "name", &["id"]), 100).expect("opens");
    assert_eq!(loader.warnings().len(), 2, "neither indexed nor unique");
}

#[test]
fn unique_means_by_itself_and_for_all_rows() {
    let fixture = Fixture::new(
        "CREATE TABLE pair (a TEXT, b TEXT, v, PRIMARY KEY (a, b));
         CREATE TABLE part (a TEXT, v); CREATE UNIQUE INDEX p ON part (a) WHERE v > 1;
         CREATE TABLE other (a TEXT COLLATE NOCASE, v); CREATE UNIQUE INDEX o ON other (a COLLATE BINARY);
         CREATE TABLE good (a TEXT, v, UNIQUE (a))",
    );
    let database = fixture.open();
    let report = |name: &str| {
        let loader = TableLoader::new(&database, &table(name, "a", &["v"]), 100).expect("opens");
        (loader.report().indexed, loader.report().unique)
    };
    assert_eq!(report("pair"), (true, false));
    assert_eq!(report("part"), (false, false));
    assert_eq!(report("other"), (false, true), "an index of another collation is of no use");
    assert_eq!(report("good"), (true, true));
}

#[tokio::test]
async fn a_column_dropped_at_run_time_is_an_error() {
    let mut fixture = Fixture::new(
        "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT, w TEXT); INSERT INTO t VALUES ('a', 'b', 'c')",
    );
    let database = fixture.open();
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    assert_eq!(load(&loader, "a").await.expect("works"), Some(Value::text("b")));
    fixture.run("ALTER TABLE t DROP COLUMN v");
    // An unqualified "v" would now be the text v.
    source(load(&loader, "a").await.expect_err("no such column"));
    fixture.run("ALTER TABLE t ADD COLUMN v TEXT DEFAULT 'new'");
    assert_eq!(load(&loader, "a").await.expect("works again"), Some(Value::text("new")));
}

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
        SqliteDatabase::open(&config).expect_err("must not open")
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
    assert!(matches!(SqliteDatabase::open(&config), Err(OpenError::Setting { .. })));
    config.max_connections = 1;
    config.statement_timeout = Duration::ZERO;
    assert!(matches!(SqliteDatabase::open(&config), Err(OpenError::Setting { .. })));
}

#[tokio::test]
async fn a_locked_database_is_a_timeout() {
    let mut fixture = Fixture::new("CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1)");
    // A reader keeps the write-ahead log from being turned on, and without it a writer keeps readers out.
    fixture.run("BEGIN; SELECT * FROM t");
    let mut config = fixture.config();
    config.statement_timeout = Duration::from_millis(50);
    let database = SqliteDatabase::open(&config).expect("opens without the write-ahead log");
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    fixture.run("COMMIT; BEGIN EXCLUSIVE");
    let error = load(&loader, "a").await.expect_err("locked");
    assert!(matches!(error, LoadError::Timeout(_)), "{error:?}");
    fixture.run("COMMIT");
    let mut config = fixture.config();
    config.max_connections = 1;
    let database = SqliteDatabase::open(&config).expect("opens");
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    assert_eq!(load(&loader, "a").await.expect("works"), Some(Value::text("1")));
}

#[tokio::test]
async fn a_writer_does_not_hold_readers_up() {
    let mut fixture = Fixture::new("CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1)");
    let database = fixture.open();
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    fixture.run("BEGIN EXCLUSIVE; UPDATE t SET v = 2");
    assert_eq!(load(&loader, "a").await.expect("works"), Some(Value::text("1")));
    fixture.run("COMMIT");
    assert_eq!(load(&loader, "a").await.expect("works"), Some(Value::text("2")));
}

#[tokio::test]
async fn an_endless_statement_ends() {
    let fixture = Fixture::new(
        "CREATE VIEW endless AS WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)
         SELECT CAST(x AS INTEGER) AS k, x AS v FROM c",
    );
    let mut config = fixture.config();
    config.statement_timeout = Duration::from_millis(100);
    let database = SqliteDatabase::open(&config).expect("opens");
    let loader = TableLoader::new(&database, &table("endless", "k", &["v"]), 100).expect("opens");
    assert!(!loader.report().indexed);
    // The row of the key is found at once, and then the scan goes on for another one.
    for keys in [vec![key("-1")], vec![key("5")], vec![key("-1"), key("5")]] {
        let error = loader.load(&keys).await.expect_err("endless");
        assert!(matches!(error, LoadError::Timeout(_)), "{error:?}");
        assert_eq!(database.running(), 0, "the thread has ended");
    }
}

#[tokio::test]
async fn no_more_threads_than_connections_even_when_nobody_waits() {
    let fixture = Fixture::new("CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1)");
    let mut config = fixture.config();
    config.max_connections = 2;
    let database = SqliteDatabase::open(&config).expect("opens");
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    let (started, starts) = mpsc::channel();
    let mut gates = Vec::new();
    for _ in 0..2 {
        let (gate, closed) = mpsc::channel::<()>();
        gates.push(gate);
        let started = started.clone();
        let database = database.clone();
        let caller = tokio::spawn(async move {
            let work = database.run(move |_| {
                started.send(()).expect("the test listens");
                closed.recv().expect_err("ends when the gate is dropped");
                Ok(())
            });
            work.await
        });
        let starts = &starts;
        tokio::task::yield_now().await;
        while starts.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        caller.abort();
        assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    }
    // Both callers are gone, and both threads still hold a connection.
    assert_eq!(database.running(), 2);
    tokio::time::pause();
    let error = load(&loader, "a").await.expect_err("no connection is free");
    assert!(matches!(error, LoadError::Busy(2)), "{error:?}");
    assert_eq!(database.statements(), 0);
    tokio::time::resume();
    drop(gates);
    assert_eq!(load(&loader, "a").await.expect("works"), Some(Value::text("1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_share_few_connections() {
    let fixture =
        Fixture::new("CREATE TABLE t (k INTEGER PRIMARY KEY, v INTEGER); INSERT INTO t VALUES (1, 1)");
    let database = fixture.open();
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    let callers: Vec<_> = (0..50)
        .map(|n| {
            let (loader, database) = (loader.clone(), database.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    let expected = (n == 1).then(|| Value::text("1"));
                    assert_eq!(load(&loader, n.to_string()).await.expect("works"), expected);
                    assert!(database.running() <= 4);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no caller fails");
    }
    assert_eq!(database.statements(), 500);
}

#[tokio::test]
async fn a_panic_on_the_thread_is_an_error_and_frees_its_place() {
    let fixture = Fixture::new("");
    let database = fixture.open();
    for _ in 0..5 {
        let error = database.run::<(), _>(|_| panic!("on purpose")).await.expect_err("it panics");
        assert!(matches!(error, LoadError::Broken(_)), "{error:?}");
    }
    assert_eq!(database.running(), 0);
}

#[tokio::test]
async fn a_scan_passes_over_what_is_no_key() {
    let mut fixture = Fixture::new("CREATE TABLE t (k TEXT, v)");
    // Longer than a page of the scan, of each kind of row that has no key.
    fixture.run(
        "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1500)
         INSERT INTO t SELECT 'b' || printf('%.*c', 1024, 'x') || x, 0 FROM c
         UNION ALL SELECT CAST(x'63ff' || x AS TEXT), 0 FROM c
         UNION ALL SELECT CAST('d' || x AS BLOB), 0 FROM c
         UNION ALL SELECT NULL, 0 FROM c UNION ALL SELECT '', 0 FROM c;
         INSERT INTO t VALUES ('a', 1), ('e', 1), ('e', 2), ('f', 1)",
    );
    let database = fixture.open();
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    check_scan(&loader, &[key("a"), key("e"), key("f")]).await;
    assert!(loader.keys_after(None, 0).await.expect("none asked for").is_empty());
    fixture.run("DROP TABLE t");
    source(loader.keys_after(None, 10).await.expect_err("no such table"));
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
    assert!(matches!(SqliteDatabase::open(&config), Err(OpenError::Missing { .. })));
    let applied = migrate(&config).expect("migrates");
    assert_eq!(applied, ["2026-01-01-000000_students"]);
    assert!(path.exists(), "the name is taken literally");
    assert!(migrate(&config).expect("nothing to do").is_empty());
    let mut writer = SqliteConnection::establish(path.to_str().expect("UTF-8")).expect("opens");
    let mode =
        sql_query("SELECT journal_mode AS value FROM pragma_journal_mode").get_result::<Setting>(&mut writer);
    assert_eq!(mode.expect("a pragma").value, "wal");

    let database = SqliteDatabase::open(&config).expect("opens");
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
