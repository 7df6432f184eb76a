//! Which keys find which rows.

use diesel::{
    RunQueryDsl as _, sql_query,
    sql_types::{BigInt, Binary, Text},
};

use super::{Fixture, key, load, source, table};
use crate::{
    database::KeyType,
    group::{ContentKind, Key, KeyScan as _, Loader as _, Value},
    origin::{
        TableLoader,
        conformance::{Subject, check_loader, check_scan},
    },
};

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
    assert_eq!(loader.report().key_type, KeyType::Bytes);
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
    assert_eq!(database.statements(), 4, "1,000 keys a statement");
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
