//! Starting and stopping: what is said when a node can't start, and that nobody loses an answer when it stops.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{
    client::{Connection, get},
    cluster::Cluster,
    node::{Node, Ports},
    site::{Finished, Site},
    slow::slow_view,
    until,
};

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"
statement_timeout = "10s"

[limits]
request_timeout = "20s"
shutdown_grace = "15s"

[group.scores]
table = "slow"
key_column = "name"
value_columns = ["score"]
"#;

const SQL: &str = "CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER); INSERT INTO students VALUES ('anna', 333);";

fn site(time: Duration) -> Site {
    Site::with(CONFIG, &format!("{SQL} {}", slow_view("slow", "students", time)))
}

#[tokio::test]
async fn requests_under_way_are_answered_when_a_node_stops() {
    let mut cluster = Cluster::start(site(Duration::from_millis(400)), 1, &[]).await;
    let node = &mut cluster.nodes[0];
    let mut idle = Connection::open(node.api()).await.expect("accepted");
    assert_eq!(idle.get("/readyz").await.expect("an answer").status, 200);
    let mut asked = Vec::new();
    for key in ["anna", "anna", "nobody"] {
        let mut connection = Connection::open(node.api()).await.expect("accepted");
        connection.send(get(&format!("/api?key={key}")).as_bytes()).await.expect("sent");
        asked.push((connection, if key == "anna" { 200 } else { 404 }));
    }
    until("both keys are being loaded", async || node.loading("scores").await == 2).await;
    node.signal(Signal::TERM);
    for (connection, status) in &mut asked {
        let answer = connection.receive(true).await.expect("not cut off").expect("an answer");
        assert_eq!(answer.status, *status);
    }
    assert_eq!(node.ended().await.code(), Some(0), "{}", node.log());
    assert!(idle.get("/readyz").await.is_err(), "an idle connection is closed");
    assert!(Connection::open(node.api()).await.is_err(), "nobody listens any more");
    let log = node.log();
    for line in ["stopping; requests under way are answered by=\"SIGTERM\"", "the node has stopped"] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[tokio::test]
async fn an_interrupt_stops_a_node_too() {
    let mut cluster = Cluster::start(site(Duration::from_millis(1)), 1, &[]).await;
    let node = &mut cluster.nodes[0];
    node.signal(Signal::INT);
    assert_eq!(node.ended().await.code(), Some(0), "{}", node.log());
    assert!(node.log().contains("by=\"SIGINT\""));
}

#[tokio::test]
async fn a_node_that_stops_says_so_before_it_closes() {
    let mut cluster = Cluster::start(site(Duration::from_millis(1)), 1, &[]).await;
    let node = &mut cluster.nodes[0];
    let mut kept = Connection::open(node.api()).await.expect("accepted");
    let mut other = Connection::open(node.api()).await.expect("accepted");
    for kept in [&mut kept, &mut other] {
        assert_eq!(kept.get("/readyz").await.expect("an answer").status, 200);
    }
    node.signal(Signal::TERM);
    // Who asks on is told, and told to go.
    loop {
        let answer = kept.get("/readyz").await.expect("it is told before the connection is closed");
        if answer.header("connection") == Some("close") {
            break;
        }
        tokio::task::yield_now().await;
    }
    // That answer may have been made when the signal came; this one was not.
    let last = other.get("/readyz").await.expect("its connection is there for a second");
    assert_eq!((last.status, last.problem().as_str()), (503, "shutting_down"));
    assert_eq!(last.header("connection"), Some("close"));
    assert!(kept.get("/readyz").await.is_err(), "the connection is closed");
    assert_eq!(node.ended().await.code(), Some(0), "{}", node.log());
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    // A query that no test waits for the end of.
    let mut cluster = Cluster::start(site(Duration::from_secs(600)), 1, &[]).await;
    let node = &mut cluster.nodes[0];
    let mut asked = Connection::open(node.api()).await.expect("accepted");
    asked.send(get("/api?key=anna").as_bytes()).await.expect("sent");
    until("the key is being loaded", async || node.loading("scores").await == 1).await;
    node.signal(Signal::TERM);
    until("it says so", async || node.log().contains("stopping;")).await;
    node.signal(Signal::TERM);
    assert_eq!(node.ended().await.code(), Some(0), "{}", node.log());
    assert!(node.log().contains("stopping at once"), "{}", node.log());
    assert!(!matches!(asked.receive(true).await, Ok(Some(_))), "nothing was answered");
}

#[tokio::test]
async fn the_grace_bounds_the_wait() {
    let settings = ["limits.shutdown_grace=100ms"];
    let mut cluster = Cluster::start(site(Duration::from_secs(600)), 1, &settings).await;
    let node = &mut cluster.nodes[0];
    let mut asked = Connection::open(node.api()).await.expect("accepted");
    asked.send(get("/api?key=anna").as_bytes()).await.expect("sent");
    until("the key is being loaded", async || node.loading("scores").await == 1).await;
    node.signal(Signal::TERM);
    assert_eq!(node.ended().await.code(), Some(0), "{}", node.log());
    assert!(node.log().contains("requests unanswered"), "{}", node.log());
}

#[tokio::test]
async fn nodes_that_stop_and_start_lose_no_request() {
    let mut cluster = Cluster::start(site(Duration::from_millis(1)), 3, &[]).await;
    let route = cluster.route("scores", "key=anna").await;
    for _ in 0..2 {
        for index in &route[..2] {
            cluster.nodes[*index].signal(Signal::TERM);
            let asked = &cluster.nodes[route[2]];
            until("the node is gone", async || {
                let answer = asked.get("/api?key=anna").await;
                assert_eq!((answer.status, answer.text()), (200, "333"), "{}", answer.describe());
                std::net::TcpStream::connect(cluster.nodes[*index].peer()).is_err()
            })
            .await;
            assert_eq!(cluster.nodes[*index].ended().await.code(), Some(0));
            cluster.restart(*index).await;
        }
    }
}

/// What `serve` says when it can't start.
async fn refused(site: &Site, settings: &[&str]) -> Finished {
    let mut node = Node::spawn(site, Ports::free(), settings);
    let code = node.ended().await.code();
    Finished { code, stdout: String::new(), stderr: node.log() }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_key() {
    let site = site(Duration::from_millis(1));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let holder = std::net::TcpListener::bind(taken).expect("the port is free again");
    let free = Ports::free();
    for (key, ports) in [
        ("node.listen", Ports { peer: taken.port(), ..free }),
        ("admin.listen", Ports { admin: taken.port(), ..free }),
        ("api.listen", Ports { api: taken.port(), ..free }),
    ] {
        let mut node = Node::spawn(&site, ports, &[]);
        assert_eq!(node.ended().await.code(), Some(1));
        let expected = format!("can't listen on 127.0.0.1:{} ({key})", taken.port());
        assert!(node.log().contains(&expected), "{expected}: {}", node.log());
    }
    drop(holder);
}

#[tokio::test]
async fn what_is_missing_in_the_database_is_named() {
    let empty = Site::new(CONFIG);
    let ended = refused(&empty, &[]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("\"school.db\": `ggcache migrate` creates it"), "{}", ended.stderr);
    assert!(!empty.database().exists(), "a node never creates a database");

    let site = Site::with(CONFIG, &format!("{SQL} CREATE TABLE other (x INTEGER);"));
    for (settings, expected) in [
        (&[][..], "has no table \"slow\": it has other, students"),
        (&["group.scores.table=Students"], "has no table \"Students\": it has other, students"),
        (
            &["group.scores.table=students", "group.scores.key_column=id"],
            "has no column \"id\": it has name, score",
        ),
        (
            &["group.scores.table=students", "group.scores.value_columns=a"],
            "has no column \"a\": it has name, score",
        ),
    ] {
        let ended = refused(&site, settings).await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let said = "error: group scores: the ";
        assert!(
            ended.stderr.contains(said) && ended.stderr.contains(expected),
            "{expected}: {}",
            ended.stderr
        );
    }
    std::fs::write(site.database(), "this is no database, however long it may be".repeat(100))
        .expect("written");
    let ended = refused(&site, &["group.scores.table=students"]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("error: database school: "), "{}", ended.stderr);
}

#[tokio::test]
async fn a_wrong_configuration_is_told_in_full() {
    let site = Site::with(CONFIG, SQL);
    let ended = refused(&site, &["group.scores.tll=30s", "limits.in_flight=many", "log.level=loud"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for expected in ["group.scores.tll", "did you mean", "limits.in_flight", "log.level"] {
        assert!(ended.stderr.contains(expected), "{expected}: {}", ended.stderr);
    }
    assert_eq!(ended.stderr.lines().count(), 3, "one line a fault: {}", ended.stderr);
}
