//! Changes that anyone makes, on a database with a log of them: nobody invalidates anything.

use crate::support::{client::exchange, cluster::Cluster, node::Node, site::Site, until};

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
ttl = "1h"
hot_ttl = "1h"
"#;

const SQL: &str = "CREATE TABLE students (id INTEGER PRIMARY KEY, name TEXT UNIQUE, score INTEGER);
INSERT INTO students (name, score) VALUES ('anna', 333), ('bert', 222);";

async fn body(node: &Node, key: &str) -> String {
    let answer = node.get(&format!("/api/v1/groups/scores/keys/{key}")).await;
    if answer.status == 404 {
        "absent".to_owned()
    } else {
        String::from_utf8(answer.body.to_vec()).expect("text")
    }
}

#[tokio::test]
async fn what_others_write_is_read_everywhere() {
    let site = Site::with(CONFIG, SQL);
    let run = |arguments: &[&str]| {
        let finished = site.run(arguments);
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
        finished.stdout
    };
    assert!(run(&["changes", "status"]).contains("no log"));
    assert!(run(&["changes", "install", "--dry-run"]).starts_with("BEGIN IMMEDIATE;\n"));
    assert!(run(&["changes", "status"]).contains("no log"), "nothing was done");
    let cluster = Cluster::start(site, 3, &[]).await;
    let nodes = &cluster.nodes;
    let all_say = async |key: &str, expected: &str| {
        let mut same = true;
        for node in nodes {
            same &= body(node, key).await == expected;
        }
        same
    };
    assert!(all_say("anna", "333").await && all_say("carl", "absent").await);
    // While the nodes run: they find the triggers by themselves, and drop what was loaded before.
    let finished = cluster.site.run(&["changes", "install"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stderr.contains("REPLACE"), "what is not seen is said: {}", finished.stderr);
    cluster.site.sql("UPDATE students SET score = 334 WHERE name = 'anna'");
    until("all nodes answer by the log", async || all_say("anna", "334").await).await;
    cluster
        .site
        .sql("UPDATE students SET score = 335; INSERT INTO students (name, score) VALUES ('carl', 1)");
    until("what is new is read", async || all_say("anna", "335").await && all_say("carl", "1").await).await;
    cluster.site.sql(
        "UPDATE students SET name = 'dora' WHERE name = 'carl'; DELETE FROM students WHERE name = 'anna'",
    );
    until("what is gone is gone", async || {
        all_say("anna", "absent").await && all_say("carl", "absent").await && all_say("dora", "1").await
    })
    .await;
    let status = cluster.site.run(&["changes", "status"]).stdout;
    assert!(status.contains("its changes get into the log"), "{status}");
    // An invalidation is a row of the log, too.
    let request = "POST /api/v1/groups/scores/keys:invalidate HTTP/1.1\r\nhost: localhost\r\n\
                   content-type: application/json\r\ncontent-length: 17\r\n\r\n{\"keys\":[\"bert\"]}";
    let answer = exchange(nodes[0].api(), request.as_bytes()).await.expect("an answer");
    assert_eq!((answer.status, answer.json()["complete"].as_bool()), (200, Some(true)));
    let check = cluster.site.run(&["check"]);
    assert!(check.code == Some(0) && check.stderr.contains("recursive_triggers"), "{}", check.stderr);
    let removed = cluster.site.run(&["changes", "remove", "--all"]);
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    assert!(cluster.site.run(&["changes", "status"]).stdout.contains("no log"));
}
