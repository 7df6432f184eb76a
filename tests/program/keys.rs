//! Keys of any bytes: the same through the URL, over the hop between nodes, and in the database.

use diesel::{RunQueryDsl as _, sql_query, sql_types::Binary};
use ggcache::codec::{base64url_encode, percent_encode};

use crate::support::{cluster::Cluster, site::Site};

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"
statement_timeout = "10s"

[limits]
request_timeout = "20s"

[group.any]
table = "blobs"
key_column = "key"
value_columns = ["value"]

[group.text]
table = "texts"
key_column = "key"
value_columns = ["value"]
"#;

const SQL: &str = "
CREATE TABLE blobs (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE texts (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
";

/// Keys on which URL libraries, routers and databases have their own ideas.
fn keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = [
        "a",
        " ",
        "a b",
        " a ",
        "+",
        "a+b",
        "/",
        "a/b",
        "/a",
        "a/",
        "//",
        "a//b",
        "%",
        "%2F",
        "a%2Fb",
        "%2f",
        "%00",
        "%%",
        ".",
        "..",
        "../..",
        "a/../b",
        "./a",
        "...",
        "?",
        "a?b=c",
        "#",
        "a#b",
        "&",
        "a&key=b",
        "=",
        ";",
        ":",
        "@",
        "*",
        "'",
        "\"",
        "\\",
        "`",
        "<a>",
        "{}",
        "[]",
        "|",
        "^",
        "~",
        "keys/",
        "a,b",
        "null",
        "0",
        "007",
        "-1",
        "1.0",
        "张三",
        "🦀",
        "e\u{301}",
        "é",
        "ANNA",
        "anna",
        "ß",
        "\u{feff}",
        "\u{202e}",
        "\r\n",
        "\t",
        "a\nb",
        "\u{7f}",
        "_",
        "%s",
        "'; DROP TABLE blobs; --",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    keys.extend([
        b"\0".to_vec(),
        b"a\0b".to_vec(),
        b"\0\0".to_vec(),
        b"\xff".to_vec(),
        b"\xff\xfe\xfd".to_vec(),
        b"\xc3".to_vec(),
        b"\xed\xa0\x80".to_vec(),
        b"\xc0\xaf".to_vec(),
        (0..=255).collect(),
        vec![b'a'; 1024],
        vec![0; 1024],
        vec![0xff; 1024],
        "张".repeat(341).into_bytes(),
    ]);
    keys
}

/// Another value for each key, so that a mix-up shows.
fn value_of(key: &[u8]) -> Vec<u8> {
    key.iter().rev().copied().chain(*b"|value").collect()
}

fn fill(site: &Site, keys: &[Vec<u8>]) {
    let mut connection = site.connect();
    for key in keys {
        let texts = std::str::from_utf8(key).is_ok_and(|text| !text.contains('\0'));
        let tables: &[&str] = if texts { &["blobs", "texts"] } else { &["blobs"] };
        for table in tables {
            let typed = if *table == "texts" { "CAST(? AS TEXT)" } else { "?" };
            sql_query(format!("INSERT INTO {table} VALUES ({typed}, ?)"))
                .bind::<Binary, _>(key)
                .bind::<Binary, _>(value_of(key))
                .execute(&mut connection)
                .unwrap_or_else(|error| panic!("{error}: {}", key.escape_ascii()));
        }
    }
}

/// Every way in which a key may be written in a request's target.
fn spellings(group: &str, key: &[u8]) -> Vec<String> {
    let mut careful = String::new();
    percent_encode(key, &mut careful);
    let all: String = key.iter().map(|byte| format!("%{byte:02x}")).collect();
    let base64 = base64url_encode(key);
    let padding = "=".repeat((4 - base64.len() % 4) % 4);
    let mut targets = vec![
        format!("/api/v1/groups/{group}/keys/{careful}"),
        format!("/api/v1/groups/{group}/keys/{all}"),
        format!("/api?group={group}&key={careful}"),
        format!("/api?group={group}&key={}", careful.replace("%20", "+")),
        format!("/api?key={all}&group={group}"),
        format!("/api?group={group}&key_b64={base64}"),
        format!("/api?group={group}&key_b64={base64}{padding}"),
    ];
    // As it is, where that is one request and not two: slashes, dots, `+` and letters of any script.
    let plain = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "/.+-_~:@!$&'()*,;=".contains(c);
    if let Ok(text) = std::str::from_utf8(key)
        && text.chars().all(plain)
    {
        targets.push(format!("/api/v1/groups/{group}/keys/{text}"));
    }
    targets
}

async fn come_back(group: &str, keys: &[Vec<u8>]) {
    let site = Site::with(CONFIG, SQL);
    fill(&site, keys);
    let cluster = Cluster::start(site, 2, &[]).await;
    let mut hops = 0;
    for key in keys {
        for target in spellings(group, key) {
            for node in &cluster.nodes {
                let answer = node.get(&target).await;
                assert_eq!(answer.status, 200, "{target}\n{}", answer.describe());
                assert_eq!(answer.body, value_of(key), "{target}");
                hops +=
                    usize::from(answer.header("cache-status").is_some_and(|status| status.contains(", ")));
            }
        }
    }
    assert!(hops > keys.len(), "every key has one node that is not its owner: {hops}");
    let loads = cluster.loads(&[0, 1], group).await;
    assert_eq!(loads, keys.len() as u64, "all spellings of a key are one key");
}

#[tokio::test]
async fn bytes_of_any_kind_come_back_from_a_blob_column() {
    come_back("any", &keys()).await;
}

#[tokio::test]
async fn text_of_any_kind_comes_back_from_a_text_column() {
    let is_text = |key: &Vec<u8>| std::str::from_utf8(key).is_ok_and(|text| !text.contains('\0'));
    come_back("text", &keys().into_iter().filter(is_text).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn keys_that_are_nearly_there_are_absent() {
    let site = Site::with(CONFIG, SQL);
    fill(&site, &[b"anna".to_vec(), b"a b".to_vec(), b"a/b".to_vec(), b"a".to_vec()]);
    let cluster = Cluster::start(site, 2, &[]).await;
    for node in &cluster.nodes {
        for group in ["any", "text"] {
            for key in [
                "ANNA", "Anna", "anna%20", "%20anna", "anna%00", "a%2Bb", "a%252Fb", "a%255Cb", "ann",
                "anna/", "%ff",
            ] {
                let answer = node.get(&format!("/api/v1/groups/{group}/keys/{key}")).await;
                assert_eq!(
                    (answer.status, answer.problem().as_str()),
                    (404, "key_not_found"),
                    "{group} {key}"
                );
            }
        }
    }
}
