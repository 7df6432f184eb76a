//! The limits that keep a node alive.

use std::time::Duration;

use crate::support::{
    client::{Connection, at_once, exchange, get},
    cluster::Cluster,
    site::Site,
    slow::slow_view,
    until,
};

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
"#;

async fn cluster(time: Duration, settings: &[&str]) -> Cluster {
    let table = "CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER); \
                 INSERT INTO students VALUES ('anna', 333), ('otto', 444);";
    let site = Site::with(CONFIG, &format!("{table} {}", slow_view("slow", "students", time)));
    Cluster::start(site, 1, settings).await
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let cluster = cluster(Duration::from_millis(1), &["limits.connections=2"]).await;
    let node = &cluster.nodes[0];
    let mut first = Connection::open(node.api()).await.expect("accepted");
    let mut second = Connection::open(node.api()).await.expect("accepted");
    for connection in [&mut first, &mut second] {
        assert_eq!(connection.get("/livez").await.expect("an answer").status, 200);
    }
    // The kernel accepts it; the node does not, until one of the others is gone.
    let mut third = Connection::open(node.api()).await.expect("accepted by the kernel");
    third.send(get("/livez").as_bytes()).await.expect("sent");
    let waiting = tokio::time::timeout(Duration::from_millis(200), third.receive(true)).await;
    assert!(waiting.is_err(), "a third connection is served: {waiting:?}");
    for connection in [&mut first, &mut second] {
        assert_eq!(connection.get("/livez").await.expect("an answer").status, 200);
    }
    assert_eq!(node.ask_admin("/livez").await.status, 200, "each plane has its own limit");
    drop(first);
    let answer = third.receive(true).await.expect("served in the end").expect("an answer");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_ends_its_connection() {
    let cluster =
        cluster(Duration::from_millis(1), &["limits.header_timeout=200ms", "limits.idle_timeout=300ms"])
            .await;
    let node = &cluster.nodes[0];
    // Nothing, half a head, and half a second head after an answer.
    for (whole, half) in [("", ""), ("", "GET /livez HTTP/1.1\r\nho"), (get("/livez").as_str(), "GET /li")] {
        let mut connection = Connection::open(node.api()).await.expect("accepted");
        connection.send(whole.as_bytes()).await.expect("sent");
        if !whole.is_empty() {
            assert_eq!(connection.receive(true).await.expect("an answer").expect("an answer").status, 200);
        }
        connection.send(half.as_bytes()).await.expect("sent");
        let ended = tokio::time::timeout(crate::support::PATIENCE, connection.receive(true)).await;
        assert!(!matches!(ended.expect("the node closes it"), Ok(Some(_))), "{half:?} was answered");
    }
    // One that drips, and so is never silent.
    let mut connection = Connection::open(node.api()).await.expect("accepted");
    until("a connection that drips is closed", async || connection.send(b"G").await.is_err()).await;
    // And an idle one.
    let mut connection = Connection::open(node.api()).await.expect("accepted");
    assert_eq!(connection.get("/livez").await.expect("an answer").status, 200);
    let ended = tokio::time::timeout(crate::support::PATIENCE, connection.receive(true)).await;
    assert!(!matches!(ended.expect("the node closes it"), Ok(Some(_))));
}

#[tokio::test]
async fn a_message_whose_body_does_not_come_ends_its_connection() {
    let cluster = cluster(Duration::from_millis(1), &["limits.request_timeout=200ms"]).await;
    let node = &cluster.nodes[0];
    for path in ["invalidate", "handover"] {
        let mut connection = Connection::open(node.peer()).await.expect("accepted");
        let head =
            format!("POST /_ggcache.v1/{path} HTTP/1.1\r\nhost: n\r\ncontent-length: 2000000\r\n\r\n{{");
        connection.send(head.as_bytes()).await.expect("sent");
        let answer = connection.receive(true).await.expect("an answer").expect("an answer");
        assert_eq!((answer.status, answer.problem().as_str()), (504, "deadline_exceeded"));
        let ended = tokio::time::timeout(crate::support::PATIENCE, connection.receive(true)).await;
        assert!(!matches!(ended.expect("the node closes it"), Ok(Some(_))));
    }
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_told_to_come_back() {
    let cluster =
        cluster(Duration::from_millis(500), &["limits.in_flight=1", "limits.rate.client=5/h burst 5"]).await;
    let node = &cluster.nodes[0];
    assert_eq!(node.get("/api?key=otto").await.status, 200);
    let mut first = Connection::open(node.api()).await.expect("accepted");
    first.send(get("/api?key=anna").as_bytes()).await.expect("sent");
    until("the first is under way", async || node.loading("scores").await == 1).await;
    for target in ["/api?key=nobody", "/api?key=anna", "/api/v1/groups"] {
        let refused = node.get(target).await;
        assert_eq!((refused.status, refused.problem().as_str()), (503, "overloaded"), "{target}");
        assert_eq!(refused.header("ratelimit"), None, "what is shed is not counted");
    }
    for headers in ["cache-control: no-cache", "ggcache-min-position: 0123456789abcdef-7"] {
        let request = format!("GET /api?key=otto HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n");
        let refused = exchange(node.api(), request.as_bytes()).await.expect("an answer");
        assert_eq!((refused.status, refused.header("ratelimit")), (503, None), "{headers}");
    }
    for target in ["/openapi.json", "/docs/", "/nothing"] {
        let refused = node.get(target).await;
        assert_eq!((refused.status, refused.header("ratelimit")), (503, None), "{target}");
    }
    assert_eq!(node.get("/api?key=otto").await.status, 200, "what is in memory needs no place");
    assert_eq!(node.get("/livez").await.status, 200, "nor does a probe");
    let answer = first.receive(true).await.expect("an answer").expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, "333"));
    assert_eq!(node.get("/api?key=anna").await.text(), "333");
}

#[tokio::test]
async fn whatever_is_asked_is_counted() {
    let cluster = cluster(Duration::from_millis(1), &["limits.rate.client=1/h burst 1"]).await;
    let node = &cluster.nodes[0];
    let ask = async |request: &str| {
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        exchange(node.api(), request.as_bytes()).await.expect("an answer")
    };
    let first = ask("GET /nothing").await;
    assert_eq!((first.status, first.header("ratelimit-policy")), (404, Some("\"client\";q=1;w=3600")));
    for request in [
        "GET /nothing",
        "OPTIONS /api?key=anna",
        "POST /api?key=anna",
        "PATCH /api/v1/groups",
        "GET /openapi.json",
    ] {
        assert_eq!(ask(request).await.status, 429, "{request}");
    }
    assert_eq!(node.get("/livez").await.status, 200);
    assert_eq!(node.ask_admin("/nothing").await.status, 404, "operators are not counted");
}

#[tokio::test]
async fn flights_and_waiters_are_limited() {
    let cluster = cluster(Duration::from_millis(500), &["limits.flights=1", "limits.waiters=3"]).await;
    let node = &cluster.nodes[0];
    let shots = at_once(vec![node.api(); 10], "/api?key=anna", crate::support::PATIENCE).await;
    let mut statuses = [0, 0];
    for shot in &shots {
        let answer = shot.answer.as_ref().expect("an answer");
        match answer.status {
            200 => statuses[0] += 1,
            503 => {
                assert_eq!(answer.problem(), "overloaded");
                statuses[1] += 1;
            }
            _ => panic!("{}", answer.describe()),
        }
    }
    assert!(statuses[0] >= 3, "three may wait: {statuses:?}");
    assert_eq!(node.loads("scores").await, 1);
}

#[tokio::test]
async fn the_database_is_asked_no_more_than_the_budget_allows_and_in_time() {
    let settings = [
        "group.scores.load_budget=1",
        "database.school.statement_timeout=100ms",
        "limits.request_timeout=1s",
    ];
    // Longer than any request may take.
    let cluster = cluster(Duration::from_secs(600), &settings).await;
    let node = &cluster.nodes[0];
    let shots = at_once(vec![node.api(); 4], "/api?key=anna", crate::support::PATIENCE).await;
    for shot in &shots {
        let answer = shot.answer.as_ref().expect("an answer, though the query goes on");
        assert!(matches!(answer.status, 503 | 504), "{}", answer.describe());
        drop(answer.problem());
    }
    let busy = node.get("/api?key=other").await;
    assert!(matches!(busy.status, 503 | 504), "{}", busy.describe());
    let busy = busy.problem();
    assert!(matches!(busy.as_str(), "origin_busy" | "origin_unavailable" | "deadline_exceeded"), "{busy}");
    assert_eq!(node.get("/livez").await.status, 200);
}
