//! Tables of MariaDB as origins: keys, values, limits.

use std::time::Duration;

use ggcache::{
    database::{Access, Database, DatabaseError, KeyType, Statement, key_expression, migrate},
    group::{ContentKind, Key, KeyScan as _, LoadError, Value},
};

use super::tables::{chain, config, found, key, load, open, table, try_table};
use crate::{
    conformance::{Subject, check_loader, check_scan},
    mariadb::MariaDb,
};

const NAMES: &[&str] =
    &["张三", "\u{1F600}", "'", "\"", "`", "x'; DROP TABLE t; --", "?", "\\", "\\'", "a\0b", "\0", "{}"];

#[tokio::test]
async fn text_keys_conform() {
    let server = MariaDb::shared();
    let name = server.database();
    // Names that would end the statement, the identifier or the string, were they not quoted.
    server.mariadb(
        &name,
        "CREATE TABLE `a ``b``\";--'` (`k'\"``;` varchar(700) COLLATE utf8mb4_general_ci PRIMARY KEY, v text)",
    );
    let database = open(server.url(&name));
    let mut texts: Vec<String> = (0..1200).map(|n| format!("student {n:04}")).collect();
    texts.extend(NAMES.iter().map(|&name| name.to_owned()));
    texts.extend(["Anna".to_owned(), "x".repeat(700), "é".repeat(512), "7".to_owned()]);
    for text in &texts {
        let insert = Statement::new("INSERT INTO `a ``b``\";--'` VALUES (").bind(text.as_str());
        let insert = insert.then(", CONCAT('v', ").bind(text.as_str()).then("))");
        let sent = database.run_here(Access::Write, Duration::from_secs(60), |turn| turn.execute(&insert));
        assert_eq!(sent.expect("inserts"), 1, "{text:?}");
    }
    let loader = table(&database, "a `b`\";--'", "k'\"`;", &["v"]);
    assert_eq!(loader.report().key_type, KeyType::Text);
    assert!(loader.warnings().is_empty(), "{:?}", loader.warnings());
    assert_eq!(loader.report().collation.as_deref(), Some("utf8mb4_general_ci"));
    // In the order of the column's collation.
    let ordered = server.mariadb(&name, "SELECT HEX(`k'\"``;`) FROM `a ``b``\";--'` ORDER BY `k'\"``;`");
    check_scan(&loader, &ordered.lines().map(|line| key(unhex(line))).collect::<Vec<_>>()).await;
    let absent =
        ["ANNA", "anna", "Anna ", "a", "a\0", "a\0b ", "  ", "07", "7.0", "STUDENT 0001", "\"\"", "Ánna"];
    let mut absent: Vec<Key> = absent.iter().map(key).collect();
    absent.extend([key([0xff]), key("x".repeat(699))]);
    check_loader(Subject {
        loader: &loader,
        present: texts.iter().map(|text| (key(text), Value::text(format!("v{text}")))).collect(),
        absent,
        break_origin: Box::new(|| drop(server.mariadb(&name, "DROP TABLE `a ``b``\";--'`"))),
    })
    .await;
}

#[tokio::test]
async fn other_keys_conform() {
    let server = MariaDb::shared();
    let name = server.database();
    server.mariadb(
        &name,
        "CREATE TABLE n (k int PRIMARY KEY, v text);
         INSERT INTO n SELECT CAST(seq AS SIGNED) - 600, CONCAT('v', CAST(seq AS SIGNED) - 600) FROM seq_0_to_1200;
         CREATE TABLE u (k uuid PRIMARY KEY, v text);
         INSERT INTO u SELECT g, CONCAT('v', g) FROM (SELECT CONCAT_WS('-', LEFT(m, 8), MID(m, 9, 4),
             CONCAT('4', MID(m, 14, 3)), CONCAT('8', MID(m, 18, 3)), RIGHT(m, 12)) AS g
             FROM (SELECT MD5(seq) AS m FROM seq_1_to_1200) AS hashes) AS uuids;
         CREATE TABLE b (k varbinary(100) PRIMARY KEY, v varbinary(100));
         INSERT INTO b SELECT UNHEX(MD5(seq)), UNHEX(MD5(seq)) FROM seq_1_to_1200;
         INSERT INTO b VALUES (x'00', x'00'), (x'ff00', x'ff00');
         CREATE TABLE z (k bigint unsigned zerofill PRIMARY KEY, v text);
         INSERT INTO z SELECT seq, CONCAT('v', seq) FROM seq_1_to_1200;
         INSERT INTO z VALUES (18446744073709551615, 'v18446744073709551615');",
    );
    let database = open(server.url(&name));
    let drop_table = |table: &'static str| {
        let name = name.clone();
        move || drop(server.mariadb(&name, &format!("DROP TABLE {table}")))
    };

    let loader = table(&database, "n", "k", &["v"]);
    let numbers: Vec<i64> = (-600..=600).collect();
    check_scan(&loader, &numbers.iter().map(|n| key(n.to_string())).collect::<Vec<_>>()).await;
    let absent =
        ["007", "+7", "7.0", " 7", "7 ", "7a", "-0", "601", "2147483648", "99999999999999999999", "a"];
    check_loader(Subject {
        loader: &loader,
        present: numbers.iter().map(|n| (key(n.to_string()), Value::text(format!("v{n}")))).collect(),
        absent: absent.iter().map(key).collect(),
        break_origin: Box::new(drop_table("n")),
    })
    .await;

    let loader = table(&database, "z", "k", &["v"]);
    assert_eq!(loader.report().key_type, KeyType::Unsigned);
    let numbers: Vec<u64> = (1..=1200).chain([u64::MAX]).collect();
    check_scan(&loader, &numbers.iter().map(|n| key(n.to_string())).collect::<Vec<_>>()).await;
    let absent = ["00000000000000000007", "0", "-1", "18446744073709551614", "18446744073709551616"];
    check_loader(Subject {
        loader: &loader,
        present: numbers.iter().map(|n| (key(n.to_string()), Value::text(format!("v{n}")))).collect(),
        absent: absent.iter().map(key).collect(),
        break_origin: Box::new(drop_table("z")),
    })
    .await;

    let loader = table(&database, "u", "k", &["v"]);
    assert_eq!(loader.report().key_type, KeyType::Uuid);
    let uuids = server.mariadb(&name, "SELECT k FROM u ORDER BY k");
    let uuids: Vec<&str> = uuids.lines().collect();
    check_scan(&loader, &uuids.iter().map(key).collect::<Vec<_>>()).await;
    let first = uuids[0];
    let absent =
        [first.to_uppercase(), first.replace('-', ""), format!("{{{first}}}"), "a".into(), "0".repeat(36)];
    // One whose variant MariaDB does not take, too.
    let absent =
        absent.into_iter().chain(["eccbc87e-4b5c-e2fe-2830-8fd9f2a7baf3".to_owned()]).collect::<Vec<_>>();
    check_loader(Subject {
        loader: &loader,
        present: uuids.iter().map(|uuid| (key(uuid), Value::text(format!("v{uuid}")))).collect(),
        absent: absent.iter().map(key).collect(),
        break_origin: Box::new(drop_table("u")),
    })
    .await;

    let loader = table(&database, "b", "k", &["v"]);
    let hex = server.mariadb(&name, "SELECT HEX(k) FROM b ORDER BY k");
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
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// A trigger renders what a load renders, and no second spelling finds the row.
#[tokio::test]
async fn keys_are_rendered_in_sql() {
    let server = MariaDb::shared();
    let name = server.database();
    server.mariadb(
        &name,
        "CREATE TABLE k (t varchar(9) COLLATE utf8mb4_unicode_ci UNIQUE, c char(9) UNIQUE,
                         l varchar(9) CHARACTER SET latin1 COLLATE latin1_german1_ci UNIQUE, n varchar(9) COLLATE utf8mb4_bin UNIQUE,
                         s smallint UNIQUE, z int(8) unsigned zerofill UNIQUE, f binary(4) UNIQUE, u uuid UNIQUE);
         INSERT INTO k VALUES ('Á', 'c', 'é', 'Ab ', -7, 7, 'ab', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11');",
    );
    let database = open(server.url(&name));
    let keys: [(&str, &[u8], &[&str]); 8] = [
        ("t", "Á".as_bytes(), &["á", "A", "Á "]),
        ("c", b"c", &["c ", "C", "c        "]),
        ("l", "é".as_bytes(), &["É", "é ", "张", "?", "e"]),
        ("n", b"Ab ", &["Ab", "ab ", "Ab  "]),
        ("s", b"-7", &["-07", "7", "99999"]),
        ("z", b"7", &["00000007", "07"]),
        ("f", b"ab\0\0", &["ab", "ab\0"]),
        ("u", b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", &["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
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
    server.mariadb(
        &name,
        "CREATE TABLE two (k varchar(9) COLLATE utf8mb4_general_ci, v text, INDEX (k));
         INSERT INTO two VALUES ('Anna', '1'), ('anna', '2'), ('b', '3');",
    );
    let two = table(&database, "two", "k", &["v"]);
    assert_eq!(load(&two, "anna").await.expect("works"), Some(Value::text("2")));
    assert_eq!(load(&two, "ANNA").await.expect("works"), None);
    check_scan(&two, &[key("Anna"), key("anna"), key("b")]).await;
    server.mariadb(&name, "INSERT INTO two VALUES ('Anna', '4')");
    assert!(matches!(load(&two, "Anna").await, Err(LoadError::Row(_))), "two rows of one key");
}

#[tokio::test]
async fn values_of_all_types() {
    let server = MariaDb::shared();
    let name = server.database();
    server.mariadb(
        &name,
        r#"SET time_zone = '+09:00';
        CREATE TABLE t (k varchar(9) PRIMARY KEY, small tinyint, truth boolean, large bigint, huge bigint unsigned,
            single float, `double` double, exact decimal(40, 20), zero decimal(8, 2) zerofill, txt text,
            latin varchar(9) CHARACTER SET latin1, padded char(5), bin varchar(9) COLLATE utf8mb4_bin, moment timestamp(3),
            `local` datetime, day date, clock time(2), span time, yr year, doc json, bytes varbinary(9), big longblob,
            fixed binary(3), id uuid, feeling enum('fine', 'not "fine"'), many set('a', 'b'), bits bit(12), net inet6,
            nothing text);
        INSERT INTO t VALUES ('a', -7, true, 9007199254740993, 18446744073709551615, 0.1, 0.1,
            12345678901234567890.12345678901234567890, 7.5, '"王五', 'é', 'ab', 'Ab', '2026-01-02 03:04:05.5',
            '2026-01-02 03:04:05', '2026-01-02', '03:04:05.25', '-838:59:59', 2026, '{"b": 1,  "a": [1.10]}', x'00ff',
            x'00ff', 'a', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'not "fine"', 'a,b', b'101', '::1', NULL);
        SET sql_mode = ''; INSERT INTO t (k, `local`, txt) VALUES ('b', '0000-00-00 00:00:00', REPEAT('x', 100000));"#,
    );
    let database = open(server.url(&name));
    let columns = [
        ("small", "-7", "-7"),
        ("truth", "1", "1"),
        ("large", "9007199254740993", "9007199254740993"),
        ("huge", "18446744073709551615", "18446744073709551615"),
        ("single", "0.1", "0.1"),
        ("double", "0.1", "0.1"),
        ("exact", "12345678901234567890.12345678901234567890", "12345678901234567890.12345678901234567890"),
        ("zero", "7.50", "7.50"),
        ("txt", "\"王五", r#""\"王五""#),
        ("latin", "é", r#""é""#),
        ("padded", "ab", r#""ab""#),
        ("bin", "Ab", r#""Ab""#),
        ("moment", "2026-01-01T18:04:05.5Z", r#""2026-01-01T18:04:05.5Z""#),
        ("local", "2026-01-02T03:04:05", r#""2026-01-02T03:04:05""#),
        ("day", "2026-01-02", r#""2026-01-02""#),
        ("clock", "03:04:05.25", r#""03:04:05.25""#),
        ("span", "-838:59:59", r#""-838:59:59""#),
        ("yr", "2026", "2026"),
        ("doc", r#"{"b": 1,  "a": [1.10]}"#, r#"{"b": 1,  "a": [1.10]}"#),
        ("id", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#),
        ("feeling", "not \"fine\"", r#""not \"fine\"""#),
        ("many", "a,b", r#""a,b""#),
        ("bits", "5", "5"),
        ("net", "::1", r#""::1""#),
        ("nothing", "", "null"),
    ];
    let mut object = String::new();
    for (column, alone, part) in columns {
        let kind = if column == "doc" { ContentKind::Json } else { ContentKind::Text };
        let loader = table(&database, "t", "k", &[column]);
        assert_eq!(found(&loader, "a").await, (alone.to_owned(), kind), "{column}");
        object.push_str(&format!("{}\"{column}\":{part}", if object.is_empty() { "{" } else { "," }));
    }
    let names: Vec<_> = columns.iter().map(|(name, ..)| *name).collect();
    let all = table(&database, "t", "k", &names);
    assert_eq!(found(&all, "a").await, (object + "}", ContentKind::Json));
    for (column, bytes) in [("bytes", &b"\0\xff"[..]), ("big", b"\0\xff"), ("fixed", b"a\0\0")] {
        let value = load(&table(&database, "t", "k", &[column]), "a").await.expect("works");
        assert_eq!(value, Some(Value::new(bytes.to_vec(), ContentKind::Binary)), "{column}");
    }
    let object = table(&database, "t", "k", &["bytes", "local"]);
    assert_eq!(found(&object, "a").await.0, r#"{"bytes":"AP8=","local":"2026-01-02T03:04:05"}"#);
    assert_eq!(found(&object, "b").await.0, r#"{"bytes":null,"local":"0000-00-00 00:00:00"}"#);
    assert_eq!(found(&table(&database, "t", "k", &["txt"]), "b").await.0.len(), 65_535);
}

#[tokio::test]
async fn what_can_not_be_served_is_named() {
    let server = MariaDb::shared();
    let name = server.database();
    server.mariadb(
        &name,
        "CREATE TABLE students (name varchar(9), at timestamp, mean decimal(5, 2), place point)",
    );
    let database = open(server.url(&name));
    let error = |table: &str, key: &str, values: &[&str]| {
        try_table(&database, table, key, values).expect_err("can't be served").to_string()
    };
    let text = error("Students", "name", &["at"]);
    assert!(text.contains("no table \"Students\"") && text.ends_with("it has students"), "{text}");
    let text = error("students", "nmae", &["at"]);
    assert!(text.ends_with("it has name, at, mean, place"), "{text}");
    let text = error("students", "name", &["at", "place"]);
    assert!(
        text.contains("\"place\" of table \"students\" has the type point, which has no rendering"),
        "{text}"
    );
    let text = error("students", "at", &["name"]);
    assert!(text.contains("\"at\" of table \"students\" has the type timestamp: a key"), "{text}");
    assert_eq!(
        table(&database, "students", "name", &["at"]).warnings().len(),
        2,
        "neither indexed nor unique"
    );
}

#[tokio::test]
async fn statements_end_in_time_and_the_pool_is_whole_afterwards() {
    let server = MariaDb::shared();
    let name = server.database();
    server.mariadb(
        &name,
        "CREATE VIEW slow AS SELECT 'a' AS k, CAST(SLEEP(100) AS CHAR) AS v;
         CREATE TABLE t (k varchar(9) PRIMARY KEY, v text); INSERT INTO t VALUES ('a', '1')",
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
        turn.query(&Statement::new("SELECT SLEEP(0.5), CAST(@@max_statement_time AS CHAR)"))
    });
    assert_eq!(longer.await.expect("has the time")[0].text(1), Ok("20.000000"));
}

#[tokio::test]
async fn a_restarted_server_is_read_again_and_a_changed_column_is_no_answer() {
    let mut server = MariaDb::start(&[]);
    let name = server.database();
    server
        .mariadb(&name, "CREATE TABLE t (k varchar(9) PRIMARY KEY, v text); INSERT INTO t VALUES ('7', '1')");
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
    // As an integer the column still renders the key that is asked for, and no other.
    server.mariadb(&name, "ALTER TABLE t MODIFY k int");
    assert_eq!(load(&loader, "7").await.expect("works"), Some(Value::text("1")));
    assert_eq!(load(&loader, "07").await.expect("works"), None);
    server.stop();
}

#[tokio::test]
async fn transactions_are_whole() {
    let server = MariaDb::shared();
    let name = server.database();
    server.mariadb(&name, "CREATE TABLE t (k varchar(9) PRIMARY KEY)");
    let database = open(server.url(&name));
    let insert = |key: &str| Statement::new("INSERT INTO t VALUES (").bind(key.to_owned()).then(")");
    let (one, two) = (insert("one"), insert("two"));
    database.run_here(Access::Write, Duration::from_secs(20), |turn| turn.execute(&one)).expect("inserts");
    let work = database.run_as(Access::Write, Duration::from_secs(20), move |turn| {
        turn.transaction(|turn| {
            turn.execute(&two)?;
            turn.execute(&one)?;
            Ok::<_, DatabaseError>(())
        })
    });
    let error = work.await.expect_err("one is there");
    assert!(error.is_unique_violation(), "{error:?}");
    assert_eq!(server.mariadb(&name, "SELECT k FROM t"), "one\n");
    let isolation = database.run(|turn| turn.query(&Statement::new("SELECT @@tx_isolation")));
    assert_eq!(
        isolation.await.map_err(|error: DatabaseError| error).expect("works")[0].text(0),
        Ok("READ-COMMITTED")
    );
}

#[tokio::test]
async fn migrate_makes_the_demos_table_once() {
    let server = MariaDb::shared();
    let name = server.database();
    let config = config(server.url(&name));
    assert_eq!(migrate(&config).expect("migrates"), ["2026-01-01-000000_students"]);
    assert!(migrate(&config).expect("nothing to do").is_empty());
    let database = Database::open(&config).expect("opens");
    let loader = table(&database, "students", "name", &["score"]);
    assert!(loader.warnings().is_empty(), "{:?}", loader.warnings());
    assert_eq!(load(&loader, "张三").await.expect("works"), Some(Value::text("333")));
    assert_eq!(loader.keys_after(None, 10).await.expect("works").len(), 3);
}

#[test]
fn no_message_has_the_password_and_no_plain_connection_is_taken_for_an_encrypted_one() {
    let server = MariaDb::shared();
    let (name, port) = (server.database(), server.port());
    for url in [
        format!("mysql://ggcache:hunter2@127.0.0.1:{port}/{name}"),
        format!("mysql://ggcache:%68unter2@127.0.0.1:{port}/{name}"),
        format!("mysql://hunter2:hunter2@localhost:{port}/{name}"),
        "mysql://me:hunter2@127.0.0.1:1/x".to_owned(),
        "mysql://me:hunter2@db.invalid/x".to_owned(),
        "mysql://me:hunter2@db/x?ssl_mode=hunter2".to_owned(),
    ] {
        let mut config = config(url);
        config.statement_timeout = Duration::from_secs(1);
        let error = Database::open(&config).expect_err("can't be opened");
        let text = format!("{} {error:?} {config:?}", chain(&error));
        assert!(!text.contains("hunter2"), "{text}");
    }
    for mode in ["required", "verify_ca", "verify_identity"] {
        let error = Database::open(&config(format!("{}?ssl_mode={mode}", server.url(&name))));
        let text = chain(&error.expect_err("the server has no certificate"));
        assert!(text.contains("not encrypted") || text.contains("SSL") || text.contains("TLS"), "{text}");
    }
}
