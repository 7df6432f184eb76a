//! Many clients, one key: one query, whatever happens to its owner meanwhile.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{
    PATIENCE,
    client::{Shot, at_once},
    cluster::Cluster,
    site::Site,
    slow::slow_view,
    until,
};

/// How long a node may take for a request, where it loses the owner.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const LIMITS: [&str; 2] = ["limits.request_timeout=2s", "database.school.statement_timeout=1500ms"];
/// How much longer a client waits before it takes a request for lost: debug builds of five processes may share one
/// core with other tests. It finds what hangs, and judges no speed; `benches/stampede.rs` does.
const SLACK: Duration = Duration::from_secs(3);

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"
statement_timeout = "10s"

[limits]
request_timeout = "20s"

[group.scores]
table = "slow"
key_column = "name"
value_columns = ["score"]
ttl = "10m"
negative_ttl = "10m"
"#;

async fn cluster(time: Duration, settings: &[&str]) -> Cluster {
    let table = "CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER); \
                 INSERT INTO students VALUES ('anna', 333);";
    let site = Site::with(CONFIG, &format!("{table} {}", slow_view("slow", "students", time)));
    Cluster::start(site, 3, settings).await
}

fn statuses(shots: &[Shot]) -> Vec<(Option<u16>, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for shot in shots {
        *counts.entry(shot.answer.as_ref().map(|answer| answer.status)).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

#[tokio::test]
async fn a_thousand_requests_for_a_new_key_are_one_query() {
    let cluster = cluster(Duration::from_millis(300), &[]).await;
    let shots = at_once(cluster.spread(&[0, 1, 2], 1_000), "/api?key=anna", PATIENCE).await;
    assert_eq!(statuses(&shots), [(Some(200), 1_000)]);
    for shot in &shots {
        assert_eq!(shot.answer.as_ref().map(|answer| answer.text()), Some("333"));
    }
    assert_eq!(cluster.loads(&[0, 1, 2], "scores").await, 1);
    let mut coalesced = 0.0;
    for node in &cluster.nodes {
        coalesced += node.metric("ggcache_coalesced_total").await;
    }
    assert!(coalesced > 0.0, "they were there while the database was asked");
}

#[tokio::test]
async fn a_thousand_requests_for_an_absent_key_are_one_query() {
    let cluster = cluster(Duration::from_millis(300), &[]).await;
    let shots = at_once(cluster.spread(&[0, 1, 2], 1_000), "/api?key=nobody", PATIENCE).await;
    assert_eq!(statuses(&shots), [(Some(404), 1_000)]);
    assert!(
        shots
            .iter()
            .all(|shot| shot.answer.as_ref().is_some_and(|answer| answer.problem() == "key_not_found"))
    );
    assert_eq!(cluster.loads(&[0, 1, 2], "scores").await, 1);
}

/// Asks the two other nodes while the owner loads, lets `harm` happen to the owner, and checks that every request
/// ends as it may.
async fn owner_lost(cluster: &mut Cluster, harm: impl FnOnce(&mut Cluster, usize)) {
    let route = cluster.route("scores", "key=anna").await;
    let shots = at_once(cluster.spread(&route[1..], 300), "/api?key=anna", REQUEST_TIMEOUT + SLACK);
    let harmed = async {
        // The owner alone can tell, and so it is asked before it comes to harm.
        until("the owner loads", async || cluster.nodes[route[0]].loading("scores").await == 1).await;
        harm(cluster, route[0]);
    };
    let shots = tokio::spawn(shots);
    harmed.await;
    let shots = shots.await.expect("no panic");
    for shot in &shots {
        let Some(answer) = &shot.answer else {
            panic!("no answer after {:?}: {:?}", shot.took, statuses(&shots))
        };
        match answer.status {
            200 => assert_eq!(answer.text(), "333"),
            503 | 504 => drop(answer.problem()),
            _ => panic!("{}", answer.describe()),
        }
    }
    let loads = cluster.loads(&route[1..], "scores").await;
    assert!(loads <= 2, "one flight a node at most, and {loads} queries were sent");
}

#[tokio::test]
async fn every_request_ends_when_the_owner_is_killed_in_mid_load() {
    let mut cluster = cluster(Duration::from_millis(500), &LIMITS).await;
    owner_lost(&mut cluster, |cluster, owner| cluster.nodes[owner].kill()).await;
    for node in &mut cluster.nodes {
        if node.is_alive() {
            assert_eq!(node.get("/api?key=anna").await.text(), "333", "the others serve its keys");
        }
    }
}

#[tokio::test]
async fn every_request_ends_when_the_owner_is_paused_in_mid_load() {
    let mut cluster = cluster(Duration::from_millis(500), &LIMITS).await;
    owner_lost(&mut cluster, |cluster, owner| cluster.nodes[owner].signal(Signal::STOP)).await;
    for node in &cluster.nodes {
        node.signal(Signal::CONT);
    }
    for node in &cluster.nodes {
        until("it answers again", async || node.get("/api?key=anna").await.status == 200).await;
    }
}

#[tokio::test]
async fn a_node_that_comes_back_owns_its_keys_again() {
    let mut cluster = cluster(Duration::from_millis(1), &[]).await;
    let route = cluster.route("scores", "key=anna").await;
    cluster.nodes[route[0]].kill();
    assert_eq!(cluster.nodes[route[2]].get("/api?key=anna").await.text(), "333");
    cluster.restart(route[0]).await;
    let owner = cluster.nodes[route[0]].name.clone();
    until("the owner is asked again", async || {
        let answer = cluster.nodes[route[2]].get("/api?key=anna").await;
        assert_eq!(answer.text(), "333");
        answer.header("cache-status").is_some_and(|status| status.starts_with(&owner))
    })
    .await;
}
