//! Requests that are wrong: each gets its 4xx, or its connection is closed, and the node lives on.

use crate::support::{
    PATIENCE,
    client::{Connection, Response, exchange},
    cluster::Cluster,
    node::Node,
    site::Site,
    until,
};

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]

[group.others]
table = "students"
key_column = "name"
value_columns = ["score"]
"#;

const SQL: &str = "CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER); INSERT INTO students VALUES ('anna', 333);";

/// What a node does with a request that is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It answers a problem with this status and code.
    Problem(u16, &'static str),
    /// hyper refuses it before there is a request: this status without a body, and the connection is closed.
    Refused(u16),
    /// The connection is closed without an answer.
    Closed,
}

use Fate::{Closed, Problem, Refused};

const BAD: Fate = Problem(400, "bad_request");
const NO_GROUP: Fate = Problem(404, "group_not_found");
const NO_ROUTE: Fate = Problem(404, "route_not_found");
const NO_KEY: Fate = Problem(404, "key_not_found");
const WRONG_METHOD: Fate = Problem(405, "method_not_allowed");

/// Targets of a GET on the public plane, and of the operators' plane, which serves the same.
fn targets() -> Vec<(String, Fate)> {
    let long = "a".repeat(1025);
    let mut targets: Vec<(String, Fate)> = [
        // Percent-encoding.
        ("/api?group=scores&key=%", BAD),
        ("/api?group=scores&key=%2", BAD),
        ("/api?group=scores&key=%zz", BAD),
        ("/api?group=scores&key=a%", BAD),
        ("/api?group=scores&key=%u00e9", BAD),
        ("/api?group=scores&key=%-1", BAD),
        ("/api?group=scores&key=%+1", BAD),
        ("/api?%=1&group=scores&key=a", BAD),
        ("/api/v1/groups/scores/keys/%", BAD),
        ("/api/v1/groups/scores/keys/a%2", BAD),
        ("/api/v1/groups/scores/keys/%GG", BAD),
        // Keys that are none.
        ("/api", BAD),
        ("/api/", BAD),
        ("/api?", BAD),
        ("/api?group=scores", BAD),
        ("/api?group=scores&key", BAD),
        ("/api?group=scores&key=", BAD),
        ("/api?group=scores&KEY=a", BAD),
        ("/api?group=scores&key_b64=", BAD),
        ("/api/v1/groups/scores/keys/", BAD),
        ("/api/v1/groups/scores/keys/?key=anna", BAD),
        // Several where one is wanted.
        ("/api?group=scores&key=a&key=b", BAD),
        ("/api?group=scores&key=a&key_b64=YQ", BAD),
        ("/api?group=scores&key_b64=YQ&key_b64=YQ", BAD),
        ("/api?group=scores&group=scores&key=a", BAD),
        // Base64.
        ("/api?group=scores&key_b64=!", BAD),
        ("/api?group=scores&key_b64=a", BAD),
        ("/api?group=scores&key_b64=YQ%3D%3D%3D", BAD),
        ("/api?group=scores&key_b64=a/b=", BAD),
        ("/api?group=scores&key_b64=YR", BAD),
        // Groups.
        ("/api?key=anna", BAD),
        ("/api?group=&key=anna", NO_GROUP),
        ("/api?group=nothing&key=anna", NO_GROUP),
        ("/api?group=Scores&key=anna", NO_GROUP),
        ("/api?group=%ff&key=anna", NO_GROUP),
        ("/api?group=scores%00&key=anna", NO_GROUP),
        ("/api/v1/groups//keys/anna", NO_ROUTE),
        ("/api/v1/groups/nothing/keys/anna", NO_GROUP),
        ("/api/v1/groups/nothing", NO_GROUP),
        ("/api/v1/groups/%ff", NO_GROUP),
        ("/api/v1/groups/%zz", NO_GROUP),
        // Paths.
        ("/nothing", NO_ROUTE),
        ("/API?key=anna", NO_ROUTE),
        ("/api/v1", NO_ROUTE),
        ("/api/v1/groups/", NO_ROUTE),
        ("/api/v1/groups/scores/keys", NO_ROUTE),
        ("/api/v1/groups/scores/nothing/anna", NO_ROUTE),
        ("/api/../api?key=anna&group=scores", NO_ROUTE),
        ("//api?key=anna&group=scores", NO_ROUTE),
        ("/api;v=1?key=anna", NO_ROUTE),
        ("/_ggcache/scores/anna", NO_ROUTE),
        ("/_ggcache.v1/ping", NO_ROUTE),
        ("/api/v1/cluster/owner", BAD),
        ("/api/v1/cluster/owner?group=scores&key=%", BAD),
        ("/api/v1/cluster/owner?group=nothing&key=a", NO_GROUP),
        // Absent, and not wrong; but never a 5xx either.
        ("/api?group=scores&key=%ff%fe", NO_KEY),
        ("/api?group=scores&key=%00", NO_KEY),
        ("/api?group=scores&key=%27%3B%20DROP%20TABLE%20students%3B%20--", NO_KEY),
    ]
    .iter()
    .map(|(target, fate)| ((*target).to_owned(), *fate))
    .collect();
    targets.extend([
        (format!("/api?group=scores&key={long}"), BAD),
        (format!("/api/v1/groups/scores/keys/{long}"), BAD),
        (format!("/api/v1/groups/scores/keys/{}", "%00".repeat(1025)), BAD),
        (format!("/api?group=scores&key_b64={}", "A".repeat(1368)), BAD),
        (format!("/api?group={long}&key=a"), NO_GROUP),
        (format!("/api/v1/groups/scores/keys/{}", "a/".repeat(10_000)), BAD),
        (format!("/api?{}", "&".repeat(20_000)), BAD),
        (format!("/api?{}", "a=b&".repeat(5_000)), BAD),
    ]);
    targets
}

/// Targets of a GET on the peer plane.
fn peer_targets() -> Vec<(String, Fate)> {
    let mut targets: Vec<(String, Fate)> = [
        ("/", NO_ROUTE),
        ("/api?group=scores&key=anna", NO_ROUTE),
        ("/metrics", NO_ROUTE),
        ("/_ggcache", NO_ROUTE),
        ("/_ggcache/", NO_ROUTE),
        ("/_ggcache/scores", NO_ROUTE),
        ("/_ggcache.v1/nothing", NO_ROUTE),
        ("/_ggcache/nothing/anna", NO_GROUP),
        ("/_ggcache//anna", NO_GROUP),
        ("/_ggcache/scores/", BAD),
        ("/_ggcache/scores/%", BAD),
        ("/_ggcache/scores/%zz", BAD),
        ("/_ggcache/scores/?key_b64=", BAD),
        ("/_ggcache/scores/?key_b64=!", BAD),
        ("/_ggcache/scores/?key=anna", BAD),
        ("/_ggcache/nothing/?key_b64=YQ", NO_GROUP),
    ]
    .iter()
    .map(|(target, fate)| ((*target).to_owned(), *fate))
    .collect();
    targets.push((format!("/_ggcache/scores/{}", "a".repeat(1025)), BAD));
    targets
}

/// Bytes that are no request, or none that any plane serves, whatever it serves otherwise.
fn bytes() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let target = |target: &[u8]| [b"GET ", target, b" HTTP/1.1\r\nhost: localhost\r\n\r\n"].concat();
    let header =
        |header: &str| format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{header}\r\n\r\n").into_bytes();
    vec![
        ("nothing", vec![], Closed),
        ("an empty line", text("\r\n\r\n"), Closed),
        ("letters", text("hello\r\n\r\n"), Refused(400)),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), Refused(400)),
        ("zeros", vec![0; 100], Refused(400)),
        ("half the preface of HTTP/2", text("PRI * HTTP/2.0\r\n\r\nS"), Refused(400)),
        ("HTTP/0.9", text("GET /api?group=scores&key=anna\r\n\r\n"), Refused(400)),
        ("HTTP/2.0", text("GET /livez HTTP/2.0\r\nhost: localhost\r\n\r\n"), Refused(400)),
        ("no version", text("GET /livez \r\n\r\n"), Refused(400)),
        ("no method", text(" /livez HTTP/1.1\r\n\r\n"), Refused(400)),
        ("a method of other bytes", b"G\xffT /livez HTTP/1.1\r\n\r\n".to_vec(), Refused(400)),
        ("half a head", text("GET /livez HTTP/1.1\r\nhost: loc"), Closed),
        ("a space in the target", target(b"/api?group=scores&key=a b"), Refused(400)),
        ("a zero in the target", target(b"/api?group=scores&key=a\0b"), Refused(400)),
        ("a target of a fragment", target(b"#"), Refused(400)),
        ("bytes in the target that are not UTF-8", target(b"/api?group=scores&key=\xff"), Refused(400)),
        ("a header without a colon", header("nothing"), Refused(400)),
        ("a header without a name", header(": value"), Refused(400)),
        ("a space in a header's name", header("a b: c"), Refused(400)),
        ("a folded header", header("a: b\r\n c: d"), Refused(400)),
        ("a zero in a header", header("a: \0"), Refused(400)),
        // hyper looks at the limit of 32 KiB between two reads, so that what is little over it may pass.
        ("an oversized header", header(&format!("a: {}", "b".repeat(70_000))), Refused(431)),
        ("too many headers", header(&vec!["a: b"; 200].join("\r\n")), Refused(431)),
        ("an oversized target", target(format!("/{}", "a".repeat(70_000)).as_bytes()), Refused(431)),
        ("two lengths", header("content-length: 1\r\ncontent-length: 2"), Refused(400)),
        ("a length that is no number", header("content-length: x"), Refused(400)),
        ("a negative length", header("content-length: -1"), Refused(400)),
        ("a length beyond all numbers", header("content-length: 99999999999999999999999"), Refused(400)),
        ("an encoding that is not known", header("transfer-encoding: nothing"), Refused(400)),
    ]
}

async fn cluster() -> Cluster {
    Cluster::start(Site::with(CONFIG, SQL), 1, &["log.level=debug"]).await
}

/// Compares what came with what should have, and tells how they differ.
fn differs(what: &str, answer: Option<Response>, fate: Fate) -> Option<String> {
    let seen = match &answer {
        None => Closed,
        Some(answer) if answer.body.is_empty() => Refused(answer.status),
        Some(answer) => match fate {
            Problem(status, code) if answer.status == status && answer.problem() == code => fate,
            _ => Problem(answer.status, "another problem"),
        },
    };
    let shown: String = what.chars().take(120).collect();
    let answer = answer.map_or_else(String::new, |answer| answer.describe());
    (seen != fate).then(|| format!("{shown}: {fate:?} was due, and it was {seen:?} {answer}\n"))
}

async fn is_well(node: &mut Node) {
    assert!(node.is_alive(), "{}", node.log());
    assert_eq!(node.get("/api?group=scores&key=anna").await.text(), "333");
    assert_eq!(node.ask_admin("/readyz").await.status, 200);
    let asked = exchange(node.peer(), b"GET /_ggcache/scores/anna HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(asked.expect("an answer").text(), "333");
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn wrong_targets_get_their_4xx() {
    let mut cluster = cluster().await;
    let node = &cluster.nodes[0];
    let mut wrong = String::new();
    for (target, fate) in targets() {
        for plane in [node.api(), node.admin()] {
            wrong.extend(differs(&target, exchange(plane, &get(&target)).await, fate));
        }
    }
    for (target, fate) in peer_targets() {
        wrong.extend(differs(&target, exchange(node.peer(), &get(&target)).await, fate));
    }
    assert!(wrong.is_empty(), "{wrong}");
    is_well(&mut cluster.nodes[0]).await;
}

#[tokio::test]
async fn wrong_bytes_are_refused_on_every_plane() {
    let mut cluster = cluster().await;
    let node = &cluster.nodes[0];
    let mut wrong = String::new();
    for (what, bytes, fate) in bytes() {
        for plane in [node.api(), node.admin(), node.peer()] {
            wrong.extend(differs(what, exchange(plane, &bytes).await, fate));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    is_well(&mut cluster.nodes[0]).await;
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn after_the_preface_of_http_2_only_its_frames_are_taken() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut cluster = cluster().await;
    let node = &cluster.nodes[0];
    for plane in [node.api(), node.admin(), node.peer()] {
        let mut stream = tokio::net::TcpStream::connect(plane).await.expect("the node accepts");
        // The length of a frame of 16 MiB, and then nothing that could be one.
        let wrong = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff";
        stream.write_all(wrong).await.expect("the node reads");
        let mut answer = Vec::new();
        // A reset after the answer is an end as well.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
        assert_eq!(answer.get(3), Some(&4), "a SETTINGS frame comes first: {answer:?}");
        assert!(answer.windows(5).any(|frame| frame == [7, 0, 0, 0, 0]), "GOAWAY says why: {answer:?}");
    }
    is_well(&mut cluster.nodes[0]).await;
}

#[tokio::test]
async fn wrong_methods_are_told_the_right_ones() {
    let mut cluster = cluster().await;
    let node = &cluster.nodes[0];
    let asked = async |plane, method: &str, target: &str| {
        let request = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
        exchange(plane, request.as_bytes()).await.unwrap_or_else(|| panic!("no answer to {method} {target}"))
    };
    let key = "/api?group=scores&key=anna";
    let resource = "/api/v1/groups/scores/keys/anna";
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "GETS", "X-1", "*"] {
        for plane in [node.api(), node.admin()] {
            for target in [key, resource] {
                let answer = asked(plane, method, target).await;
                assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"), "{method} {target}");
                assert_eq!(differs(method, Some(answer), WRONG_METHOD), None, "{target}");
            }
            for target in ["/api/v1/groups", "/api/v1/groups/scores", "/api/v1/cluster", "/livez", "/readyz"]
            {
                let answer = asked(plane, method, target).await;
                assert!(answer.header("allow").is_some(), "{method} {target}");
                assert_eq!(differs(method, Some(answer), WRONG_METHOD), None, "{target}");
            }
        }
        for target in ["/_ggcache/scores/anna", "/_ggcache.v1/ping"] {
            let answer = asked(node.peer(), method, target).await;
            assert_eq!(differs(method, Some(answer), WRONG_METHOD), None, "{target}");
        }
    }
    for (method, target) in [("CONNECT", "localhost:80")] {
        for plane in [node.api(), node.admin(), node.peer()] {
            let status = asked(plane, method, target).await.status;
            assert!((400..500).contains(&status), "{method} {target}: {status}");
        }
    }
    is_well(&mut cluster.nodes[0]).await;
}

#[tokio::test]
async fn what_is_unusual_but_right_is_served() {
    let mut cluster = cluster().await;
    let node = &cluster.nodes[0];
    let key = "/api?group=scores&key=anna";
    for request in [
        format!("GET {key} HTTP/1.0\r\n\r\n"),
        format!("GET http://elsewhere{key} HTTP/1.1\r\nhost: elsewhere\r\n\r\n"),
        format!("GET {key} HTTP/1.1\nhost: x\n\n"),
        format!("\r\nGET {key} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("GET {key}&&_=1& HTTP/1.1\r\nhost: \r\nx: \u{7f3a}\r\n\r\n"),
        format!("GET {key} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"),
        format!("GET {key} HTTP/1.1\r\nhost: x\r\nif-none-match: \"\r\nrange: bytes=0-1\r\n\r\n"),
    ] {
        let answer = exchange(node.api(), request.as_bytes()).await.unwrap_or_else(|| panic!("{request}"));
        assert_eq!((answer.status, answer.text()), (200, "333"), "{request}");
    }
    is_well(&mut cluster.nodes[0]).await;
}

/// RFC 9112, section 3.2. Nodes call one another by their addresses, and are not held to it.
#[tokio::test]
async fn a_request_names_its_host_once() {
    let mut cluster = cluster().await;
    let node = &cluster.nodes[0];
    let mut wrong = String::new();
    for path in ["/api?group=scores&key=anna", "/livez", "/api/v1/groups", "/nothing"] {
        for hosts in
            ["", "host: x\r\nhost: x\r\n", "host: x\r\nHost: y\r\n", "host: a b\r\n", "host: a@b\r\n"]
        {
            for (method, length) in
                [("GET", ""), ("GET", "content-length: 0\r\n"), ("DELETE", ""), ("OPTIONS", "")]
            {
                let request = format!("{method} {path} HTTP/1.1\r\n{hosts}{length}\r\n");
                wrong.extend(differs(&request, exchange(node.api(), request.as_bytes()).await, BAD));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    is_well(&mut cluster.nodes[0]).await;
}

/// Requests that follow one another without waiting for answers (RFC 9112, section 9.3.2).
#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_at_once() {
    let mut cluster = cluster().await;
    let node = &cluster.nodes[0];
    for plane in [node.api(), node.admin()] {
        let mut connection = Connection::open(plane).await.expect("accepted");
        let mut requests = Vec::new();
        for index in 0..100 {
            let key = if index % 3 == 0 { "nobody" } else { "anna" };
            requests.extend(get(&format!("/api?group=scores&key={key}")));
        }
        // Half a request behind them must not hold their answers back.
        requests.extend(b"GET /livez HTT");
        connection.send(&requests).await.expect("sent");
        for index in 0..100 {
            let answer = tokio::time::timeout(PATIENCE, connection.receive(true)).await;
            let answer = answer.expect("in time").expect("not cut off").expect("an answer");
            assert_eq!(answer.status, if index % 3 == 0 { 404 } else { 200 });
        }
        connection.send(b"P/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
        assert_eq!(connection.receive(true).await.expect("not cut off").expect("an answer").status, 200);
    }
    is_well(&mut cluster.nodes[0]).await;
}

/// A body that a route does not read must not be taken for the next request.
#[tokio::test]
async fn a_body_is_never_taken_for_a_request() {
    let mut cluster = cluster().await;
    let node = &cluster.nodes[0];
    let hidden = "GET /api?group=nothing&key=hidden HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for (length, body) in [
        ("transfer-encoding: chunked", format!("zz\r\n{hidden}")),
        ("transfer-encoding: chunked", format!("-1\r\n{hidden}")),
        ("transfer-encoding: chunked", format!("{:x}\r\n{hidden}", hidden.len())),
        ("transfer-encoding: chunked\r\ncontent-length: 3", format!("0\r\n{hidden}")),
        ("content-length: 100000", hidden.to_owned()),
    ] {
        for plane in [node.api(), node.admin()] {
            let head =
                format!("GET /api?group=scores&key=anna HTTP/1.1\r\nhost: localhost\r\n{length}\r\n\r\n");
            let mut connection = Connection::open(plane).await.expect("accepted");
            connection.send(format!("{head}{body}").as_bytes()).await.expect("sent");
            let _ = connection.finish().await;
            let mut statuses = Vec::new();
            while let Ok(Some(answer)) = connection.receive(true).await {
                statuses.push(answer.status);
            }
            // The hidden request would be answered 404.
            assert!(
                statuses.iter().all(|status| matches!(status, 200 | 400)),
                "{length} {body}: {statuses:?}"
            );
        }
    }
    is_well(&mut cluster.nodes[0]).await;
}

/// Clients that leave in the middle of things.
#[tokio::test]
async fn clients_that_hang_up_do_no_harm() {
    let mut cluster = cluster().await;
    let node = &cluster.nodes[0];
    for index in 0..200_usize {
        let request = get(&format!("/api?group=scores&key=hang-up-{index}"));
        let mut connection = Connection::open(node.api()).await.expect("accepted");
        connection.send(&request[..request.len() * (index % 10 + 1) / 10]).await.expect("sent");
    }
    until("all connections are closed", async || {
        node.metric("ggcache_connections{plane=\"api\"}").await == 0.0
    })
    .await;
    is_well(&mut cluster.nodes[0]).await;
}
