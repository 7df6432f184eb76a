//! What a node logs: a story at debug, one JSON object a line where asked, and never a key or a value.

use serde_json::Value;

use crate::support::{cluster::Cluster, site::Site, until};

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
negative_ttl = "0s"
ttl = "1h"
"#;

/// A key and values that nothing else in a log looks like.
const KEY: &str = "open sesame/魔法";
const KEY_IN_URL: &str = "open%20sesame%2F%E9%AD%94%E6%B3%95";
const KEY_IN_BASE64: &str = "b3BlbiBzZXNhbWUv6a2U5rOV";
const VALUE: &str = "a treasure of forty thieves";

fn site() -> Site {
    let sql = format!(
        "CREATE TABLE students (name TEXT PRIMARY KEY, score TEXT); INSERT INTO students VALUES ('{KEY}', '{VALUE}');"
    );
    Site::with(CONFIG, &sql)
}

/// What must not stand in any log, in any of its spellings.
fn assert_keeps_secrets(log: &str) {
    for secret in ["sesame", "魔法", "E9%AD", "%20sesame", KEY_IN_BASE64, "treasure", "thieves", "SELECT"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret:?} is in the log");
    }
}

#[tokio::test]
async fn the_story_of_a_read_names_owner_place_and_outcome_but_no_key_and_no_value() {
    let mut cluster = Cluster::start(site(), 3, &["log.level=trace", "limits.request_timeout=20s"]).await;
    let by_key = format!("key={KEY_IN_URL}");
    let route = cluster.route("scores", &by_key).await;
    let report = cluster.nodes[0].get(&format!("/api/v1/cluster/owner?{by_key}")).await.json();
    let place = report["place"].as_str().expect("a place").to_owned();
    let owner = cluster.nodes[route[0]].name.clone();

    let asked = &cluster.nodes[route[2]];
    assert_eq!(asked.get(&format!("/api?{by_key}")).await.text(), VALUE);
    let story = asked.log();
    let named: Vec<_> = story.lines().filter(|line| line.contains(&format!("key.hash={place}"))).collect();
    let point = format!("ring.point={}", report["point"]["index"]);
    assert!(
        named.iter().any(|line| line.contains(&format!("owner={owner} mine=false")) && line.contains(&point)),
        "the first line names the owner: {story}"
    );
    assert!(named.iter().any(|line| line.contains("outcome=peer")), "the last one the outcome: {story}");
    let loaded = cluster.nodes[route[0]].log();
    assert!(loaded.contains("loaded from the origin") && loaded.contains("role=Owner"), "{loaded}");
    assert_eq!(cluster.nodes[route[0]].get(&format!("/api?{by_key}")).await.text(), VALUE);
    let hit = cluster.nodes[route[0]].log();
    assert!(hit.contains(&format!("key.hash={place} outcome=hit")), "{hit}");

    // What goes wrong is logged as well: requests that are malformed, a dead owner, a database that fails.
    for node in &cluster.nodes {
        for target in [
            format!("/api/v1/groups/scores/keys/{KEY_IN_URL}%"),
            format!("/api/v1/groups/scores/keys/{KEY_IN_URL}{}", "x".repeat(1024)),
            format!("/api?key={KEY_IN_URL}&key_b64={KEY_IN_BASE64}"),
            format!("/{KEY_IN_URL}"),
            format!("/api?group={KEY_IN_URL}&key=a"),
        ] {
            assert!((400..500).contains(&node.get(&target).await.status), "{target}");
        }
        assert_eq!(node.get(&format!("/api?key_b64={KEY_IN_BASE64}")).await.text(), VALUE);
        assert_eq!(node.get(&format!("/api?key={KEY_IN_URL}%20")).await.status, 404);
    }
    cluster.nodes[route[0]].kill();
    assert_eq!(cluster.nodes[route[2]].get(&format!("/api?{by_key}")).await.text(), VALUE);
    cluster.site.sql("DROP TABLE students");
    for index in &route[1..] {
        let failed = cluster.nodes[*index].get(&format!("/api?key={KEY_IN_URL}%20")).await;
        assert_eq!((failed.status, failed.problem().as_str()), (503, "origin_unavailable"));
        let id = failed.json()["request_id"].as_str().expect("an id").to_owned();
        assert!(cluster.nodes[*index].log().contains(&id), "the log has the id of the failed request");
    }
    for node in &cluster.nodes {
        assert_keeps_secrets(&node.log());
    }
}

#[tokio::test]
async fn json_lines_are_json() {
    let mut cluster = Cluster::start(site(), 1, &["log.format=json", "log.level=debug"]).await;
    let node = &mut cluster.nodes[0];
    assert_eq!(node.get(&format!("/api?key={KEY_IN_URL}")).await.text(), VALUE);
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.ended().await.code(), Some(0));
    let log = node.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
    }
    let find = |message: &str| {
        lines
            .iter()
            .find(|line| line["message"] == message)
            .unwrap_or_else(|| panic!("{message:?} is not in {log}"))
    };
    assert_eq!(find("the node starts")["node.id"], node.name.as_str());
    assert_eq!(find("answered")["outcome"], "load");
    assert_eq!(find("answered")["group.name"], "scores");
    assert_eq!(find("the node has stopped")["level"], "INFO");
    assert_keeps_secrets(&log);
}

#[tokio::test]
async fn a_file_is_begun_anew_each_day() {
    let site = site();
    std::fs::create_dir(site.path("logs")).expect("a directory");
    let mut cluster = Cluster::start(site, 1, &["log.file=logs/ggcache.log"]).await;
    let written = || -> Vec<(String, String)> {
        let files = std::fs::read_dir(cluster.site.path("logs")).expect("a directory");
        let read = |file: std::io::Result<std::fs::DirEntry>| {
            let file = file.expect("a file");
            (
                file.file_name().to_string_lossy().into_owned(),
                std::fs::read_to_string(file.path()).expect("text"),
            )
        };
        files.map(read).collect()
    };
    until("the start is logged", async || {
        written().iter().any(|(_, text)| text.contains("the node is ready"))
    })
    .await;
    let node = &mut cluster.nodes[0];
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.ended().await.code(), Some(0));
    assert_eq!(node.log(), "", "nothing goes to standard error");
    let files = std::fs::read_dir(cluster.site.path("logs")).expect("a directory");
    let mut last = String::new();
    for file in files {
        let file = file.expect("a file");
        let name = file.file_name().to_string_lossy().into_owned();
        let date = name.strip_prefix("ggcache.log.").unwrap_or_else(|| panic!("{name} has no date"));
        let digits = date.split('-').map(str::len).collect::<Vec<_>>();
        assert_eq!(digits, [4, 2, 2], "{name}");
        last.push_str(&std::fs::read_to_string(file.path()).expect("text"));
    }
    assert!(last.contains("the node has stopped"), "the last line is written too: {last}");
    assert!(!last.contains('\u{1b}'), "a file has no colours");
}
