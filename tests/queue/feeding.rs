//! The three ways in, and what becomes of messages when something fails.

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use super::consumer::Consumer;
use crate::{
    nats::{Nats, progress},
    support::{cluster::Cluster, node::Node, site::Site, until},
};

/// One group reads a view of two tables, which can have no triggers. Nothing but an invalidation tells of a change.
const VIEW: &str = r#"
[database.school]
url = "sqlite:school.db"

[group.reports]
table = "reports"
key_column = "name"
value_columns = ["score"]
ttl = "1h"
negative_ttl = "1h"
hot_ttl = "1h"
"#;

const SQL: &str = "CREATE TABLE students (id INTEGER PRIMARY KEY, name TEXT UNIQUE, score INTEGER);
CREATE TABLE bonuses (student INTEGER PRIMARY KEY, points INTEGER);
CREATE VIEW reports AS SELECT s.name, s.score + COALESCE(b.points, 0) AS score
FROM students AS s LEFT JOIN bonuses AS b ON b.student = s.id;
INSERT INTO students VALUES (1, 'anna', 300), (2, 'bert', 200);";

const TABLE: &[&str] = &["--table", "students=reports:name"];

/// What every node answers for a key, if they agree.
async fn all_say(nodes: &[Node], group: &str, key: &str, expected: &str) -> bool {
    let mut same = true;
    for node in nodes {
        let answer = node.get(&format!("/api/v1/groups/{group}/keys/{key}")).await;
        let body = if answer.status == 404 { "absent" } else { answer.text() };
        same &= body == expected;
    }
    same
}

async fn all_come_to_say(nodes: &[Node], group: &str, key: &str, expected: &str) {
    let what = format!("all nodes say {expected} for {key}");
    until(&what, async || all_say(nodes, group, key, expected).await).await;
}

fn urls(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|node| format!("http://{}", node.api())).collect()
}

/// The change of a student, as a CDC tool tells it.
fn event(op: &str, before: Value, after: Value) -> String {
    let source = json!({"connector": "postgresql", "schema": "public", "table": "students"});
    json!({"schema": {}, "payload": {"op": op, "before": before, "after": after, "source": source}})
        .to_string()
}

/// Waits until the stream has nothing left for the consumer: nothing new, and nothing that waits for its answer.
async fn all_is_answered(stream: &async_nats::jetstream::stream::Stream, count: u64) {
    until("all messages are answered", async || {
        progress(stream, "ggcache").await.is_some_and(|info| {
            info.num_pending == 0 && info.num_ack_pending == 0 && info.ack_floor.stream_sequence == count
        })
    })
    .await;
}

#[tokio::test]
async fn what_no_trigger_sees_is_read_when_the_queue_tells() {
    let nats = Nats::start().await;
    let stream = nats.stream("CHANGES").await;
    let cluster = Cluster::start(Site::with(VIEW, SQL), 2, &[]).await;
    let (nodes, site) = (&cluster.nodes, &cluster.site);
    // A node that is away is passed over.
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let addresses: Vec<_> = [format!("http://{gone}")].into_iter().chain(urls(nodes)).collect();
    let consumer = Consumer::spawn(&nats, &addresses, TABLE, None, site.path("consumer.log"));
    assert!(
        all_say(nodes, "reports", "anna", "300").await && all_say(nodes, "reports", "carl", "absent").await
    );

    // By the key that the application knows.
    site.sql("INSERT INTO bonuses VALUES (1, 33)");
    assert!(all_say(nodes, "reports", "anna", "300").await, "nobody has told the nodes");
    nats.publish("changes.bonuses", json!({"group": "reports", "key": "anna"}).to_string()).await;
    all_come_to_say(nodes, "reports", "anna", "333").await;

    // By the row that a CDC tool has seen; a new key is both.
    site.sql("UPDATE students SET name = 'carl' WHERE id = 1");
    let (before, after) = (json!({"id": 1, "name": "anna"}), json!({"id": 1, "name": "carl"}));
    nats.publish("changes.students", event("u", before, after.clone())).await;
    all_come_to_say(nodes, "reports", "anna", "absent").await;
    all_come_to_say(nodes, "reports", "carl", "333").await;
    site.sql("DELETE FROM students WHERE id = 1");
    nats.publish("changes.students", event("d", after, Value::Null)).await;
    nats.publish("changes.students", "").await;
    all_come_to_say(nodes, "reports", "carl", "absent").await;

    consumer.says("a node did not answer").await;
    all_is_answered(&stream, 4).await;
    assert!(consumer.terminate().await.success());
}

#[tokio::test]
async fn nothing_is_lost_with_a_consumer_that_is_killed() {
    let nats = Nats::start().await;
    let stream = nats.stream("CHANGES").await;
    let cluster = Cluster::start(Site::with(VIEW, SQL), 2, &[]).await;
    let (nodes, site) = (&cluster.nodes, &cluster.site);
    let start = |nodes: &[String]| Consumer::spawn(&nats, nodes, TABLE, None, site.path("consumer.log"));
    let publish = async |name: &str| {
        let row = json!({"id": 0, "name": name});
        nats.publish("changes.students", event("u", row.clone(), row)).await;
    };
    assert!(all_say(nodes, "reports", "anna", "300").await && all_say(nodes, "reports", "bert", "200").await);

    // Killed while it waits for a node, which has its message and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let consumer = start(&[format!("http://{}", silent.local_addr().expect("an address"))]);
    site.sql("UPDATE students SET score = 301 WHERE name = 'anna'");
    publish("anna").await;
    let (mut call, _) = silent.accept().await.expect("the consumer calls");
    assert!(call.read(&mut [0; 64]).await.expect("a request") > 0);
    consumer.kill();
    // And while it is away something else happens.
    site.sql("UPDATE students SET score = 201 WHERE name = 'bert'");
    publish("bert").await;
    assert!(all_say(nodes, "reports", "anna", "300").await && all_say(nodes, "reports", "bert", "200").await);

    let consumer = start(&urls(nodes));
    all_come_to_say(nodes, "reports", "anna", "301").await;
    all_come_to_say(nodes, "reports", "bert", "201").await;
    all_is_answered(&stream, 2).await;
    drop(consumer);
}

#[tokio::test]
async fn a_flood_is_few_calls() {
    const MESSAGES: u64 = 2_000;
    let nats = Nats::start().await;
    let stream = nats.stream("CHANGES").await;
    let cluster = Cluster::start(Site::with(VIEW, SQL), 1, &[]).await;
    let (nodes, site) = (&cluster.nodes, &cluster.site);
    assert!(all_say(nodes, "reports", "anna", "300").await);
    site.sql("UPDATE students SET score = 301 WHERE name = 'anna'");
    let publish = |number| {
        let name = if number == MESSAGES / 2 { "anna".to_owned() } else { format!("nobody {number}") };
        nats.publish("changes.students", event("u", Value::Null, json!({"id": number, "name": name})))
    };
    stream::iter(0..MESSAGES).map(publish).buffered(100).collect::<()>().await;
    let _consumer = Consumer::spawn(&nats, &urls(nodes), TABLE, None, site.path("consumer.log"));
    all_is_answered(&stream, MESSAGES).await;
    assert!(all_say(nodes, "reports", "anna", "301").await);
    let calls = nodes[0].metric("ggcache_invalidations_total{group=\"reports\",source=\"local\"").await;
    assert!((1.0..=MESSAGES as f64 / 10.0).contains(&calls), "{calls} calls for {MESSAGES} messages");
}

#[tokio::test]
async fn a_queue_that_crashes_is_read_on() {
    let mut nats = Nats::start().await;
    let stream = nats.stream("CHANGES").await;
    let cluster = Cluster::start(Site::with(VIEW, SQL), 1, &[]).await;
    let (nodes, site) = (&cluster.nodes, &cluster.site);
    let consumer = Consumer::spawn(&nats, &urls(nodes), TABLE, None, site.path("consumer.log"));
    assert!(all_say(nodes, "reports", "anna", "300").await);
    consumer.says("messages are read").await;
    nats.crash().await;
    site.sql("UPDATE students SET score = 301 WHERE name = 'anna'");
    nats.publish("changes.students", json!({"group": "reports", "key": "anna"}).to_string()).await;
    all_come_to_say(nodes, "reports", "anna", "301").await;
    all_is_answered(&stream, 1).await;
    assert!(consumer.terminate().await.success());
}

#[tokio::test]
async fn what_is_not_understood_holds_nothing_up() {
    let nats = Nats::start().await;
    let stream = nats.stream("CHANGES").await;
    let cluster = Cluster::start(Site::with(VIEW, SQL), 1, &[]).await;
    let (nodes, site) = (&cluster.nodes, &cluster.site);
    assert!(all_say(nodes, "reports", "anna", "300").await);
    site.sql("UPDATE students SET score = 301 WHERE name = 'anna'");
    let poison = [
        "no JSON".to_owned(),
        json!({"group": "reports"}).to_string(),
        json!({"group": "reports", "key": "a".repeat(2000)}).to_string(),
        json!({"group": "nobody", "key": "anna"}).to_string(),
    ];
    for message in poison {
        nats.publish("changes.students", message).await;
    }
    nats.publish("changes.students", json!({"group": "reports", "key": "anna"}).to_string()).await;
    let consumer = Consumer::spawn(&nats, &urls(nodes), TABLE, None, site.path("consumer.log"));
    all_come_to_say(nodes, "reports", "anna", "301").await;
    all_is_answered(&stream, 5).await;
    let log = consumer.log();
    for why in ["it is no JSON", "it has neither", "a key of 2000 bytes", "no node has its group"] {
        assert!(log.contains(why), "{why}: {log}");
    }
    assert!(!log.contains("anna"), "no key is logged: {log}");
}

#[tokio::test]
async fn a_message_waits_for_the_node_that_is_away() {
    let nats = Nats::start().await;
    let stream = nats.stream("CHANGES").await;
    let mut cluster = Cluster::start(Site::with(VIEW, SQL), 2, &[]).await;
    assert!(all_say(&cluster.nodes, "reports", "anna", "300").await);
    cluster.nodes[1].kill();
    let addresses = urls(&cluster.nodes[..1]);
    let consumer = Consumer::spawn(&nats, &addresses, TABLE, None, cluster.site.path("consumer.log"));
    cluster.site.sql("UPDATE students SET score = 301 WHERE name = 'anna'");
    nats.publish("changes.students", json!({"group": "reports", "all": true}).to_string()).await;
    // The others need not wait.
    all_come_to_say(&cluster.nodes[..1], "reports", "anna", "301").await;
    consumer.says("a node did not drop the keys").await;
    let info = progress(&stream, "ggcache").await.expect("a consumer");
    assert_eq!((info.num_ack_pending, info.ack_floor.stream_sequence), (1, 0), "it is not acknowledged");
    cluster.restart(1).await;
    all_is_answered(&stream, 1).await;
    assert!(all_say(&cluster.nodes, "reports", "anna", "301").await);
}

#[tokio::test]
async fn a_token_that_is_refused_loses_nothing() {
    let nats = Nats::start().await;
    let stream = nats.stream("CHANGES").await;
    let site = Site::with(VIEW, SQL);
    let made = site.run(&["token", "queue", "--scopes", "invalidate", "--groups", "reports"]);
    let token = made.stdout.trim().to_owned();
    site.configure(&format!("{VIEW}\n[auth]\nanonymous = [\"read\"]\n{}", made.stderr));
    let cluster = Cluster::start(site, 1, &[]).await;
    let (nodes, site) = (&cluster.nodes, &cluster.site);
    assert!(all_say(nodes, "reports", "anna", "300").await);
    site.sql("UPDATE students SET score = 301 WHERE name = 'anna'");
    nats.publish("changes.students", json!({"group": "reports", "key": "anna"}).to_string()).await;
    let start = |token| Consumer::spawn(&nats, &urls(nodes), TABLE, token, site.path("consumer.log"));
    let stranger = start(None);
    stranger.says("status 40").await;
    assert!(stranger.terminate().await.success());
    assert!(all_say(nodes, "reports", "anna", "300").await);
    let consumer = start(Some(&token));
    all_come_to_say(nodes, "reports", "anna", "301").await;
    all_is_answered(&stream, 1).await;
    assert!(!consumer.log().contains(&token));
}

/// The same group, of a table that is in a log.
const LOGGED: &str = r#"
[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
ttl = "1h"
hot_ttl = "1h"
max_staleness = "1m"
"#;

#[tokio::test]
async fn in_a_log_what_its_triggers_miss_becomes_a_row() {
    let nats = Nats::start().await;
    let stream = nats.stream("CHANGES").await;
    let site = Site::with(LOGGED, SQL);
    let installed = site.run(&["changes", "install"]);
    assert_eq!(installed.code, Some(0), "{}", installed.stderr);
    let cluster = Cluster::start(site, 2, &[]).await;
    let (nodes, site) = (&cluster.nodes, &cluster.site);
    let rows = || site.run(&["changes", "status"]).stdout;
    assert!(all_say(nodes, "scores", "anna", "300").await && all_say(nodes, "scores", "bert", "200").await);
    // The row of anna goes, and no trigger says so.
    site.sql("REPLACE INTO students VALUES (1, 'carl', 5)");
    all_come_to_say(nodes, "scores", "carl", "5").await;
    assert!(rows().contains("rows 1 to 1,"), "{}", rows());
    assert!(all_say(nodes, "scores", "anna", "300").await, "nobody has told the nodes");
    let table = ["--table", "students=scores:name"];
    let _consumer = Consumer::spawn(&nats, &urls(nodes), &table, None, site.path("consumer.log"));
    nats.publish("changes.students", event("d", json!({"id": 1, "name": "anna"}), Value::Null)).await;
    all_come_to_say(nodes, "scores", "anna", "absent").await;
    all_is_answered(&stream, 1).await;
    assert!(rows().contains("rows 1 to 2,"), "it went through the log: {}", rows());
    // Without a queue: the writer adds the row himself.
    site.sql(
        "BEGIN; REPLACE INTO students VALUES (2, 'dora', 6); \
         INSERT INTO gg_outbox (tbl, col, kind, k) VALUES ('students', 'name', 0, CAST('bert' AS BLOB)); COMMIT",
    );
    all_come_to_say(nodes, "scores", "bert", "absent").await;
}
