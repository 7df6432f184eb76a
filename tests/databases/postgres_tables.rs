//! Tables of PostgreSQL as origins: keys, values, limits.

use std::time::Duration;

use ggcache::{
    database::{Access, Database, DatabaseError, DatabaseUrl, KeyType, Statement, key_expression, migrate},
    group::{ContentKind, Key, KeyScan as _, LoadError, Loader as _, Value},
};

use super::tables::{chain, config, found, key, load, open, table, try_table};
use crate::{
    conformance::{Subject, check_loader, check_scan},
    postgres::Postgres,
};

const NAMES: &[&str] = &[
    "Anna",
    "anna",
    "张三",
    "\u{1F600}",
    "'",
    "\"",
    "x'; DROP TABLE t; --",
    "$1",
    "?",
    " ",
    "\\",
    "a ",
    "{}",
];

#[tokio::test]
async fn text_keys_conform() {
    let server = Postgres::shared();
    let name = server.database();
    // Names that would end the statement, the identifier or the string, were they not quoted.
    server.psql(&name, r#"CREATE TABLE "a ""b"";--'" ("k'"";" varchar(1100) PRIMARY KEY, v text)"#);
    let database = open(server.url(&name));
    let mut texts: Vec<String> = (0..1200).map(|n| format!("student {n}")).collect();
    texts.extend(NAMES.iter().map(|&name| name.to_owned()));
    texts.extend(["x".repeat(1024), "é".repeat(512), "7".to_owned()]);
    for text in &texts {
        let insert = Statement::new(r#"INSERT INTO "a ""b"";--'" VALUES ("#).bind(text.as_str());
        let insert = insert.then(", 'v' || CAST(").bind(text.as_str()).then(" AS text))");
        let sent = database.run_here(Access::Write, Duration::from_secs(60), |turn| turn.execute(&insert));
        assert_eq!(sent.expect("inserts"), 1);
    }
    let loader = table(&database, r#"a "b";--'"#, r#"k'";"#, &["v"]);
    assert_eq!(loader.report().key_type, KeyType::Text);
    assert!(loader.warnings().is_empty(), "{:?}", loader.warnings());
    let mut ordered: Vec<Key> = texts.iter().map(key).collect();
    ordered.sort_unstable();
    check_scan(&loader, &ordered).await;
    let absent = ["ANNA", "a", "a\0", "\0", "  ", "07", "7.0", "student 1 ", "Student 1", "\"\"", "NULL"];
    let mut absent: Vec<Key> = absent.iter().map(key).collect();
    absent.extend([key([0xff]), key("x".repeat(1023))]);
    check_loader(Subject {
        loader: &loader,
        present: texts.iter().map(|text| (key(text), Value::text(format!("v{text}")))).collect(),
        absent,
        break_origin: Box::new(|| drop(server.psql(&name, r#"DROP TABLE "a ""b"";--'""#))),
    })
    .await;
}

#[tokio::test]
async fn other_keys_conform() {
    let server = Postgres::shared();
    let name = server.database();
    server.psql(
        &name,
        "CREATE TABLE n (k integer PRIMARY KEY, v text);
         INSERT INTO n SELECT n, 'v' || n FROM generate_series(-600, 600) AS n;
         INSERT INTO n VALUES (2147483647, 'v2147483647'), (-2147483648, 'v-2147483648');
         CREATE TABLE u (k uuid PRIMARY KEY, v text);
         INSERT INTO u SELECT md5(n::text)::uuid, 'v' || md5(n::text)::uuid FROM generate_series(1, 1200) AS n;
         CREATE TABLE b (k bytea PRIMARY KEY, v bytea);
         INSERT INTO b SELECT decode(md5(n::text), 'hex'), decode(md5(n::text), 'hex') FROM generate_series(1, 1200) AS n;
         INSERT INTO b VALUES ('\\x00', '\\x00'), ('\\xff00', '\\xff00');
         CREATE TABLE c (k char(12) PRIMARY KEY, v text);
         INSERT INTO c SELECT 'c' || n, 'vc' || n FROM generate_series(1, 1200) AS n;",
    );
    let database = open(server.url(&name));
    let drop_table = |table: &'static str| {
        let name = name.clone();
        move || drop(server.psql(&name, &format!("DROP TABLE {table}")))
    };

    let loader = table(&database, "n", "k", &["v"]);
    let numbers: Vec<i64> = [-2147483648].into_iter().chain(-600..=600).chain([2147483647]).collect();
    check_scan(&loader, &numbers.iter().map(|n| key(n.to_string())).collect::<Vec<_>>()).await;
    let absent = [
        "007",
        "+7",
        "7.0",
        " 7",
        "-0",
        "601",
        "2147483648",
        "9223372036854775807",
        "99999999999999999999",
        "a",
    ];
    check_loader(Subject {
        loader: &loader,
        present: numbers.iter().map(|n| (key(n.to_string()), Value::text(format!("v{n}")))).collect(),
        absent: absent.iter().map(key).collect(),
        break_origin: Box::new(drop_table("n")),
    })
    .await;

    let loader = table(&database, "u", "k", &["v"]);
    assert_eq!(loader.report().key_type, KeyType::Uuid);
    let uuids = server.psql(&name, "SELECT k FROM u ORDER BY k");
    let uuids: Vec<&str> = uuids.lines().collect();
    check_scan(&loader, &uuids.iter().map(key).collect::<Vec<_>>()).await;
    let first = uuids[0];
    let absent =
        [first.to_uppercase(), first.replace('-', ""), format!("{{{first}}}"), "a".into(), "0".repeat(36)];
    check_loader(Subject {
        loader: &loader,
        present: uuids.iter().map(|uuid| (key(uuid), Value::text(format!("v{uuid}")))).collect(),
        absent: absent.iter().map(key).collect(),
        break_origin: Box::new(drop_table("u")),
    })
    .await;

    let loader = table(&database, "b", "k", &["v"]);
    let hex = server.psql(&name, "SELECT encode(k, 'hex') FROM b ORDER BY k");
    let keys: Vec<Key> = hex.lines().map(|line| key(unhex(line))).collect();
    check_scan(&loader, &keys).await;
    let value = |key: &Key| Value::new(key.as_bytes().to_vec(), ContentKind::Binary);
    check_loader(Subject {
        loader: &loader,
        present: keys.iter().map(|key| (key.clone(), value(key))).collect(),
        absent: [&b"\0\0"[..], b"\\x00", b"a"].iter().map(key).collect(),
        break_origin: Box::new(drop_table("b")),
    })
    .await;

    // Trailing spaces are the column's, and no part of a key: nor may a client add any.
    let loader = table(&database, "c", "k", &["v"]);
    let absent = ["c1 ", "c1          ", " c1", "C1", "c"];
    let mut present: Vec<_> =
        (1..=1200).map(|n| (key(format!("c{n}")), Value::text(format!("vc{n}")))).collect();
    present.sort_by(|(one, _), (other, _)| one.cmp(other));
    check_scan(&loader, &present.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>()).await;
    check_loader(Subject {
        loader: &loader,
        present,
        absent: absent.iter().map(key).collect(),
        break_origin: Box::new(drop_table("c")),
    })
    .await;
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// A load sends nothing that an index of the column can't answer, and a trigger renders what a load renders.
#[tokio::test]
async fn keys_use_the_index_and_are_rendered_in_sql() {
    let server = Postgres::shared();
    let name = server.database();
    server.psql(
        &name,
        "CREATE EXTENSION citext; CREATE DOMAIN sku AS citext;
         CREATE TABLE k (t text UNIQUE, v varchar(9) UNIQUE, c char(9) UNIQUE, i citext UNIQUE, d sku UNIQUE,
                         s smallint UNIQUE, l bigint UNIQUE, u uuid UNIQUE, b bytea UNIQUE);
         INSERT INTO k VALUES ('Á', 'b', 'c', 'Ab', 'Xy', -7, 9223372036854775807,
                               'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '\\x00ff')",
    );
    let database = open(server.url(&name));
    let keys: [(&str, &[u8], &[&str]); 9] = [
        ("t", "Á".as_bytes(), &["á", "Á "]),
        ("v", b"b", &["B", "b "]),
        ("c", b"c", &["c ", "C"]),
        ("i", b"Ab", &["ab", "AB"]),
        ("d", b"Xy", &["xy", "XY"]),
        ("s", b"-7", &["-07", "7", "99999"]),
        ("l", b"9223372036854775807", &["9223372036854775808"]),
        ("u", b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", &["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
        ("b", b"\x00\xff", &["\\x00ff"]),
    ];
    for (column, bytes, absent) in keys {
        let loader = table(&database, "k", column, &["s"]);
        assert!(loader.warnings().is_empty(), "{column}: {:?}", loader.warnings());
        assert_eq!(load(&loader, bytes).await.expect("works"), Some(Value::text("-7")), "{column}");
        for absent in absent {
            assert_eq!(load(&loader, absent).await.expect("works"), None, "{column} {absent}");
        }
        let key_type = loader.report().key_type;
        let expression =
            key_expression(database.kind(), key_type, &format!("t.{}", database.kind().quoted(column)));
        let statement = Statement::new(format!("SELECT {expression} FROM k AS t"));
        let rows = database.run_here(Access::Read, Duration::from_secs(20), |turn| turn.query(&statement));
        assert_eq!(rows.expect("works")[0].bytes(0), Ok(bytes), "{column}");
        check_scan(&loader, &[key(bytes)]).await;
    }
    // Of so few rows all would be read; by an index they are found nevertheless.
    for (column, cast) in [
        ("v", "text[]"),
        ("c", "bpchar[]"),
        ("s", "bigint[]"),
        ("u", "uuid[]"),
        ("i", "citext[]"),
        ("b", "bytea[]"),
    ] {
        let plan = format!(
            "SET enable_seqscan = off; EXPLAIN SELECT 1 FROM k WHERE {column} = ANY(CAST('{{}}' AS {cast}))"
        );
        let plan = server.psql(&name, &plan);
        assert!(plan.contains("Index Cond"), "{column}: {plan}");
    }
}

#[tokio::test]
async fn two_spellings_of_one_row_are_never_both_found() {
    let server = Postgres::shared();
    let name = server.database();
    server.psql(
        &name,
        "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE one (k text COLLATE ci PRIMARY KEY, v text); INSERT INTO one VALUES ('Anna', '1');
         CREATE TABLE two (k text COLLATE ci, v text); INSERT INTO two VALUES ('Anna', '1'), ('anna', '2'), ('b', '3');",
    );
    let database = open(server.url(&name));
    let one = table(&database, "one", "k", &["v"]);
    assert_eq!(one.report().collation.as_deref(), Some("ci"));
    assert_eq!(load(&one, "Anna").await.expect("works"), Some(Value::text("1")));
    for other in ["anna", "ANNA", "Anna "] {
        assert_eq!(load(&one, other).await.expect("works"), None, "{other}");
    }
    let two = table(&database, "two", "k", &["v"]);
    assert_eq!(load(&two, "anna").await.expect("works"), Some(Value::text("2")));
    assert_eq!(two.load(&[key("ANNA"), key("Anna"), key("anna")]).await.expect("works")[0], None);
    check_scan(&two, &[key("Anna"), key("anna"), key("b")]).await;
    server.psql(&name, "INSERT INTO two VALUES ('Anna', '4')");
    assert!(matches!(load(&two, "Anna").await, Err(LoadError::Row(_))), "two rows of one key");
}

#[tokio::test]
async fn values_of_all_types() {
    let server = Postgres::shared();
    let name = server.database();
    server.psql(
        &name,
        r#"SET TIME ZONE 'Asia/Tokyo';
        CREATE TYPE mood AS ENUM ('fine', 'not "fine"'); CREATE TYPE pair AS (a integer, b text);
        CREATE DOMAIN money_like AS numeric(12, 2);
        CREATE TABLE t (k text PRIMARY KEY, small smallint, large bigint, single real, double double precision,
            exact numeric, money money_like, truth boolean, txt text, padded char(5), moment timestamptz, local timestamp,
            day date, clock time, clockz timetz, span interval, doc json, docb jsonb, bytes bytea, id uuid, feeling mood,
            list integer[], texts text[], rec pair, net inet, bits bit(3), range int4range, nothing text);
        INSERT INTO t VALUES ('a', -7, 9007199254740993, 0.1, 0.1, 12345678901234567890.12345678901234567890, 1.5, true,
            '"王五', 'ab', '2026-01-02 03:04:05.5+09', '2026-01-02 03:04:05', '2026-01-02', '03:04:05.25', '03:04:05+02',
            '1 day 2 hours', '{"b": 1,  "a": [1.10]}', '{"b": 1, "a": 1.10}', '\x00ff', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
            'not "fine"', '{1,NULL,3}', '{a,"b c"}', (1, 'x'), '10.0.0.1', '101', '[1,5)', NULL);
        INSERT INTO t (k, single, double, exact, truth, moment, local, day) VALUES
            ('b', 'NaN', '-Infinity', 'NaN', false, 'infinity', '0044-03-15 00:00:00 BC', 'infinity');"#,
    );
    let database = open(server.url(&name));
    let columns = [
        ("small", "-7", "-7"),
        ("large", "9007199254740993", "9007199254740993"),
        ("single", "0.1", "0.1"),
        ("double", "0.1", "0.1"),
        ("exact", "12345678901234567890.12345678901234567890", "12345678901234567890.12345678901234567890"),
        ("money", "1.50", "1.50"),
        ("truth", "true", "true"),
        ("txt", "\"王五", r#""\"王五""#),
        ("padded", "ab", r#""ab""#),
        ("moment", "2026-01-01T18:04:05.5Z", r#""2026-01-01T18:04:05.5Z""#),
        ("local", "2026-01-02T03:04:05", r#""2026-01-02T03:04:05""#),
        ("day", "2026-01-02", r#""2026-01-02""#),
        ("clock", "03:04:05.25", r#""03:04:05.25""#),
        ("clockz", "03:04:05+02", r#""03:04:05+02""#),
        ("span", "P1DT2H", r#""P1DT2H""#),
        ("doc", r#"{"b": 1,  "a": [1.10]}"#, r#"{"b": 1,  "a": [1.10]}"#),
        ("docb", r#"{"a": 1.10, "b": 1}"#, r#"{"a": 1.10, "b": 1}"#),
        ("id", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#),
        ("feeling", "not \"fine\"", r#""not \"fine\"""#),
        ("list", "[1,null,3]", "[1,null,3]"),
        ("texts", r#"["a","b c"]"#, r#"["a","b c"]"#),
        ("rec", r#"{"a":1,"b":"x"}"#, r#"{"a":1,"b":"x"}"#),
        ("net", "10.0.0.1", r#""10.0.0.1""#),
        ("bits", "101", r#""101""#),
        ("range", "[1,5)", r#""[1,5)""#),
        ("nothing", "", "null"),
    ];
    let mut object = String::new();
    for (column, alone, part) in columns {
        let kind = match column {
            "doc" | "docb" | "list" | "texts" | "rec" => ContentKind::Json,
            _ => ContentKind::Text,
        };
        let loader = table(&database, "t", "k", &[column]);
        assert_eq!(found(&loader, "a").await, (alone.to_owned(), kind), "{column}");
        object.push_str(&format!("{}\"{column}\":{part}", if object.is_empty() { "{" } else { "," }));
    }
    let names: Vec<_> = columns.iter().map(|(name, ..)| *name).collect();
    let all = table(&database, "t", "k", &names);
    assert_eq!(found(&all, "a").await, (object + "}", ContentKind::Json));
    let bytes = table(&database, "t", "k", &["bytes"]);
    let value = load(&bytes, "a").await.expect("works");
    assert_eq!(value, Some(Value::new(vec![0, 0xff], ContentKind::Binary)));
    let rest = table(
        &database,
        "t",
        "k",
        &["bytes", "single", "double", "exact", "truth", "moment", "local", "day"],
    );
    assert!(found(&rest, "a").await.0.starts_with(r#"{"bytes":"AP8=","#));
    let expected = r#"{"bytes":null,"single":null,"double":null,"exact":null,"truth":false,"moment":"infinity","local":"0044-03-15 00:00:00 BC","day":"infinity"}"#;
    assert_eq!(found(&rest, "b").await.0, expected);
    let report = all.report();
    assert_eq!(report.values[5], ("money".to_owned(), "money_like".to_owned()));
}

#[tokio::test]
async fn what_can_not_be_served_is_named() {
    let server = Postgres::shared();
    let name = server.database();
    server.psql(
        &name,
        "CREATE TABLE students (name text, at timestamptz, mean numeric, place point, cash money);
         CREATE SCHEMA hidden; CREATE TABLE hidden.secrets (k text)",
    );
    let database = open(server.url(&name));
    let error = |table: &str, key: &str, values: &[&str]| {
        try_table(&database, table, key, values).expect_err("can't be served").to_string()
    };
    let text = error("Students", "name", &["at"]);
    assert!(text.contains("no table \"Students\"") && text.ends_with("it has students"), "{text}");
    assert!(error("secrets", "k", &["k"]).contains("no table"), "the search path does not find it");
    assert!(error("stu\0dents", "k", &["k"]).contains("no table"));
    let text = error("students", "nmae", &["at"]);
    assert!(text.ends_with("it has name, at, mean, place, cash"), "{text}");
    let text = error("students", "name", &["at", "place"]);
    assert!(
        text.contains("\"place\" of table \"students\" has the type point, which has no rendering"),
        "{text}"
    );
    assert!(error("students", "name", &["cash"]).contains("type money"));
    let text = error("students", "at", &["name"]);
    assert!(
        text.contains("\"at\" of table \"students\" has the type timestamp with time zone: a key"),
        "{text}"
    );
    assert!(error("students", "mean", &["name"]).contains("type numeric: a key"));
    assert_eq!(
        table(&database, "students", "name", &["at"]).warnings().len(),
        2,
        "neither indexed nor unique"
    );
}

#[tokio::test]
async fn statements_end_in_time_and_the_pool_is_whole_afterwards() {
    let server = Postgres::shared();
    let name = server.database();
    server.psql(
        &name,
        "CREATE VIEW slow AS SELECT 'a' AS k, pg_sleep(100)::text AS v;
         CREATE TABLE t (k text PRIMARY KEY, v text); INSERT INTO t VALUES ('a', '1')",
    );
    let mut config = config(server.url(&name));
    config.statement_timeout = Duration::from_millis(300);
    let database = Database::open(&config).expect("opens");
    let slow = table(&database, "slow", "k", &["v"]);
    for _ in 0..6 {
        let error = load(&slow, "a").await.expect_err("takes too long");
        assert!(matches!(error, LoadError::Timeout(_)), "{error:?}");
        assert_eq!(database.running(), 0, "the thread has ended");
    }
    let loader = table(&database, "t", "k", &["v"]);
    assert_eq!(load(&loader, "a").await.expect("works"), Some(Value::text("1")));
    let longer = database.run_as(Access::Read, Duration::from_secs(20), |turn| {
        turn.query(&Statement::new("SELECT pg_sleep(0.5)::text, current_setting('statement_timeout')"))
    });
    assert_eq!(longer.await.expect("has the time")[0].text(1), Ok("20s"));
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'ggcache'"
    );
    let count: u32 = server.psql(&name, &count).trim().parse().expect("a number");
    assert!(count <= config.max_connections, "{count} connections");
}

#[tokio::test]
async fn a_restarted_server_is_read_again_and_a_changed_column_is_no_answer() {
    let mut server = Postgres::start(&[]);
    let name = server.database();
    server.psql(&name, "CREATE TABLE t (k text PRIMARY KEY, v text); INSERT INTO t VALUES ('7', '1')");
    let mut config = config(server.url(&name));
    config.statement_timeout = Duration::from_secs(2);
    let database = Database::open(&config).expect("opens");
    let loader = table(&database, "t", "k", &["v"]);
    assert_eq!(load(&loader, "7").await.expect("works"), Some(Value::text("1")));
    server.stop();
    let error = load(&loader, "7").await.expect_err("it is stopped");
    assert!(matches!(error, LoadError::Unavailable(_) | LoadError::Disconnected(_)), "{error:?}");
    server.restart();
    assert_eq!(load(&loader, "7").await.expect("works at once"), Some(Value::text("1")));
    // All idle connections have died, and none is handed out.
    server.kill();
    server.restart();
    assert_eq!(load(&loader, "7").await.expect("works at once"), Some(Value::text("1")));
    server.psql(&name, "ALTER TABLE t ALTER v TYPE integer USING v::integer");
    for _ in 0..3 {
        let value = load(&loader, "7").await;
        assert!(
            value.as_ref().is_ok_and(|value| *value == Some(Value::text("1"))),
            "cast to text: {value:?}"
        );
    }
    server.psql(&name, "ALTER TABLE t ALTER k TYPE integer USING k::integer");
    assert!(load(&loader, "7").await.is_err(), "text is not compared with integers");
    server.psql(&name, "ALTER TABLE t ALTER k TYPE text");
    assert_eq!(load(&loader, "7").await.expect("works again"), Some(Value::text("1")));
    server.stop();
}

#[tokio::test]
async fn transactions_are_whole() {
    let server = Postgres::shared();
    let name = server.database();
    server.psql(&name, "CREATE TABLE t (k text PRIMARY KEY)");
    let database = open(server.url(&name));
    let insert = |key: &str| Statement::new("INSERT INTO t VALUES (").bind(key.to_owned()).then(")");
    let (one, two) = (insert("one"), insert("two"));
    let work = |again: bool| {
        let (one, two) = (one.clone(), two.clone());
        database.run_as(Access::Write, Duration::from_secs(20), move |turn| {
            turn.transaction(|turn| {
                turn.execute(&two)?;
                if again {
                    turn.execute(&one)?
                } else {
                    0
                };
                Ok::<_, DatabaseError>(())
            })
        })
    };
    database.run_here(Access::Write, Duration::from_secs(20), |turn| turn.execute(&one)).expect("inserts");
    let error = work(true).await.expect_err("one is there");
    assert!(error.is_unique_violation(), "{error:?}");
    assert_eq!(server.psql(&name, "SELECT k FROM t"), "one\n");
    work(false).await.expect("commits");
    assert_eq!(server.psql(&name, "SELECT k FROM t ORDER BY k"), "one\ntwo\n");
}

#[tokio::test]
async fn migrate_makes_the_demos_table_once() {
    let server = Postgres::shared();
    let name = server.database();
    let config = config(server.url(&name));
    assert_eq!(migrate(&config).expect("migrates"), ["2026-01-01-000000_students"]);
    assert!(migrate(&config).expect("nothing to do").is_empty());
    let database = Database::open(&config).expect("opens");
    let loader = table(&database, "students", "name", &["score"]);
    assert_eq!(load(&loader, "张三").await.expect("works"), Some(Value::text("333")));
    server.psql(&name, "UPDATE students SET score = 334 WHERE name = '张三'");
    assert_eq!(load(&loader, "张三").await.expect("works"), Some(Value::text("334")));
    assert_eq!(loader.keys_after(None, 10).await.expect("works").len(), 3);
}

#[test]
fn no_message_has_the_password() {
    let server = Postgres::shared();
    let port = server.port();
    for url in [
        format!("postgres://me:hunter2@127.0.0.1:{port}/nowhere"),
        format!("postgres://me:%68unter2@127.0.0.1:{port}/nowhere?options=-c%20nothing"),
        "postgres://me:hunter2@127.0.0.1:1/x".to_owned(),
        "postgres://me:hunter2@db.invalid/x".to_owned(),
        "postgres://me:hunter2%@db/x".to_owned(),
        "postgres://me:hunter2/@db/x".to_owned(),
        "postgres://me:hunter2@db/x?sslmode=hunter2".to_owned(),
        "postgres://db/x?hunter2=hunter2".to_owned(),
    ] {
        let mut config = config(url.clone());
        config.statement_timeout = Duration::from_secs(1);
        let error = Database::open(&config).expect_err("can't be opened");
        let text = format!("{} {error:?} {config:?} {}", chain(&error), DatabaseUrl::new(url));
        assert!(!text.contains("hunter2"), "{text}");
    }
}
