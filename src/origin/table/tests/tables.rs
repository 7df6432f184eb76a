//! What a table may look like, and what its rows become.

use super::{Fixture, load, source, table};
use crate::{
    group::{ContentKind, LoadError, Value},
    origin::{TableConfig, TableLoader},
};

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
