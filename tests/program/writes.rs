//! Writes through the API: what is acknowledged is in the database and read at every node, and what is refused has
//! changed nothing.

use crate::support::{
    client::{Response, exchange},
    cluster::Cluster,
    node::Node,
    site::Site,
    until,
};

const CONFIG: &str = r#"
[limits]
value_bytes = "1KiB"

[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
writable = true
ttl = "1h"
hot_ttl = "1h"

[group.cards]
table = "students"
key_column = "name"
value_columns = ["score", "note"]
writable = true
ttl = "1h"

[group.archive]
table = "students"
key_column = "name"
value_columns = ["score"]
ttl = "1h"
"#;

const SQL: &str = "PRAGMA journal_mode = WAL;
CREATE TABLE students (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, score INTEGER CHECK (score < 1000), note TEXT);
INSERT INTO students (name, score) VALUES ('anna', 333), ('bert', 222);";

async fn cluster() -> Cluster {
    let site = Site::with(CONFIG, SQL);
    let installed = site.run(&["changes", "install"]);
    assert_eq!(installed.code, Some(0), "{}", installed.stderr);
    let cluster = Cluster::start(site, 3, &[]).await;
    for node in &cluster.nodes {
        until("the triggers are seen", async || node.log().contains("changes of the table are followed"))
            .await;
    }
    cluster
}

fn target(group: &str, key: &str) -> String {
    format!("/api/v1/groups/{group}/keys/{key}")
}

/// Sends a request with header lines that each end in `\r\n`, and a body.
async fn send(node: &Node, method: &str, target: &str, headers: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    exchange(node.api(), request.as_bytes()).await.expect("an answer")
}

async fn put(node: &Node, key: &str, headers: &str, body: &str) -> Response {
    send(node, "PUT", &target("scores", key), headers, body).await
}

/// The position of a write that was carried out.
fn position(answer: &Response) -> String {
    assert_eq!(answer.status, 204, "{}", answer.describe());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.header("ggcache-position").expect("a position").to_owned()
}

async fn body(node: &Node, key: &str, headers: &str) -> String {
    let answer = node.ask("GET", &target("scores", key), headers).await;
    if answer.status == 404 { answer.problem() } else { answer.text().to_owned() }
}

#[tokio::test]
async fn who_has_written_reads_it_at_every_node() {
    let cluster = cluster().await;
    let nodes = &cluster.nodes;
    // So that every node has a value that it must not answer any more.
    for node in nodes {
        assert_eq!(body(node, "anna", "").await, "333");
        assert_eq!(body(node, "carl", "").await, "key_not_found");
    }
    for round in 0..30 {
        let writer = &nodes[round % 3];
        for key in ["anna", "carl"] {
            let is_gone = round % 5 == 4;
            let (written, expected) = if is_gone {
                (send(writer, "DELETE", &target("scores", key), "", "").await, "key_not_found".to_owned())
            } else {
                (put(writer, key, "", &round.to_string()).await, round.to_string())
            };
            let seen = format!("ggcache-min-position: {}\r\n", position(&written));
            for node in nodes {
                assert_eq!(body(node, key, &seen).await, expected, "round {round}, {key} at {}", node.name);
            }
        }
    }
    // Without the position, everybody sees it soon.
    position(&put(&nodes[0], "bert", "", "999").await);
    for node in nodes {
        until("the node hears of it", async || body(node, "bert", "").await == "999").await;
    }
    // The same by a key in the query, and by all columns of another group.
    position(&send(&nodes[1], "PUT", "/api?group=scores&key=dora", "", "5").await);
    let note = r#"{"note":"ill","score":6}"#;
    let seen = position(&send(&nodes[2], "PUT", &target("cards", "dora"), "", note).await);
    let seen = format!("ggcache-min-position: {seen}\r\n");
    assert_eq!(body(&nodes[0], "dora", &seen).await, "6", "both groups stand on one table");
    let card = nodes[0].ask("GET", &target("cards", "dora"), &seen).await.json();
    assert_eq!((card["score"].as_u64(), card["note"].as_str()), (Some(6), Some("ill")));
    let wrong = nodes[0].ask("GET", &target("scores", "anna"), "ggcache-min-position: 17\r\n").await;
    assert_eq!((wrong.status, wrong.problem().as_str()), (400, "bad_request"));
}

#[tokio::test]
async fn a_position_holds_for_many_keys_at_once() {
    let cluster = cluster().await;
    let batch = "/api/v1/groups/scores/keys:batchGet";
    let (json, keys) = ("content-type: application/json\r\n", r#"{"keys":["anna","bert","carl"]}"#);
    for round in 0..20 {
        let writer = &cluster.nodes[round % 3];
        let seen = position(&put(writer, "carl", "", &round.to_string()).await);
        let headers = format!("{json}ggcache-min-position: {seen}\r\n");
        for node in &cluster.nodes {
            let results = send(node, "POST", batch, &headers, keys).await.json()["results"].clone();
            let values = [0, 1, 2].map(|at| results[at]["value"].as_str().unwrap_or("none").to_owned());
            assert_eq!(
                values,
                ["333", "222", &round.to_string()],
                "round {round} at {}: {results}",
                node.name
            );
        }
    }
    let wrong = format!("{json}ggcache-min-position: 17\r\n");
    let wrong = send(&cluster.nodes[0], "POST", batch, &wrong, keys).await;
    assert_eq!((wrong.status, wrong.problem().as_str()), (400, "bad_request"));
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn a_position_holds_over_grpc() {
    use ggcache::rpc::ggroupcachepb::{Request, g_group_cache_client::GGroupCacheClient};
    use tonic::{Code, transport::Endpoint};

    let cluster = cluster().await;
    let mut clients = Vec::new();
    for node in &cluster.nodes {
        let endpoint = Endpoint::from_shared(format!("http://{}", node.api())).expect("an address");
        clients.push(GGroupCacheClient::new(endpoint.connect().await.expect("it listens")));
    }
    let get = async |client: &GGroupCacheClient<_>, position: &str| {
        let mut request = tonic::Request::new(Request { group: "scores".to_owned(), key: "anna".to_owned() });
        request.metadata_mut().insert("ggcache-min-position", position.parse().expect("text"));
        client
            .clone()
            .get(request)
            .await
            .map(|found| found.into_inner().value)
            .map_err(|status| status.code())
    };
    for round in 0..20 {
        let seen = position(&put(&cluster.nodes[round % 3], "anna", "", &round.to_string()).await);
        for client in &clients {
            assert_eq!(get(client, &seen).await.as_deref(), Ok(round.to_string().as_bytes()));
        }
    }
    assert_eq!(get(&clients[0], "17").await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn a_write_is_carried_out_only_under_its_condition() {
    let cluster = cluster().await;
    let [one, two, _] = cluster.nodes.as_slice() else { panic!("there are three") };
    let first = one.get(&target("scores", "anna")).await;
    let tag = first.header("etag").expect("a value has a tag").to_owned();
    let refused = async |node: &Node, key: &str, condition: &str| {
        let answer = put(node, key, condition, "1").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (412, "precondition_failed"),
            "{key}: {condition}"
        );
    };
    // Who was first wins, whoever was asked.
    position(&put(one, "anna", &format!("if-match: {tag}\r\n"), "334").await);
    refused(two, "anna", &format!("if-match: {tag}\r\n")).await;
    refused(two, "anna", "if-none-match: *\r\n").await;
    refused(two, "carl", "if-match: *\r\n").await;
    position(&put(two, "carl", "if-none-match: *\r\n", "7").await);
    let kept = send(two, "DELETE", &target("scores", "anna"), &format!("if-match: {tag}\r\n"), "").await;
    assert_eq!(kept.status, 412, "{}", kept.describe());
    let seen = position(&send(two, "DELETE", &target("scores", "anna"), "if-match: *\r\n", "").await);
    let seen = format!("ggcache-min-position: {seen}\r\n");
    assert_eq!(body(one, "anna", &seen).await, "key_not_found");
    assert_eq!(body(one, "carl", &seen).await, "7");
    let again = send(one, "DELETE", &target("scores", "anna"), "", "").await;
    assert_eq!((again.status, again.problem().as_str()), (404, "key_not_found"));
}

#[tokio::test]
async fn what_cannot_be_written_changes_nothing() {
    let cluster = cluster().await;
    let node = &cluster.nodes[0];
    let refused =
        async |group: &str, key: &str, headers: &str, body: &str, status: u16, code: &str, hint: &str| {
            let answer = send(node, "PUT", &target(group, key), headers, body).await;
            let detail = answer.json()["detail"].as_str().expect("a detail").to_owned();
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (status, code),
                "{group}, {body:.40}: {detail}"
            );
            assert!(detail.contains(hint), "{detail:?} does not say {hint:?}");
            answer
        };
    let answer = refused("archive", "anna", "", "1", 405, "method_not_allowed", "not writable").await;
    assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
    let gone = send(node, "DELETE", &target("archive", "anna"), "", "").await;
    assert_eq!((gone.status, gone.problem().as_str()), (405, "method_not_allowed"));
    refused("cards", "anna", "", "334", 400, "bad_request", r#"a JSON object with "score", "note""#).await;
    refused("cards", "anna", "", r#"{"score":1}"#, 400, "bad_request", r#"lacks "note""#).await;
    let other = r#"{"score":1,"note":"","id":9}"#;
    refused("cards", "anna", "", other, 400, "bad_request", r#""id" is no value column"#).await;
    refused("scores", "anna", "", &"1".repeat(1025), 413, "too_large", "1024 bytes").await;
    refused("scores", "anna", "", "1000", 409, "conflict", "does not accept").await;
    refused("scores", "anna", "content-encoding: gzip\r\n", "1", 415, "unsupported_media_type", "as it is")
        .await;
    refused("scores", "anna", "content-range: bytes 0-0/3\r\n", "1", 400, "bad_request", "as a whole").await;
    refused("nobody", "anna", "", "1", 404, "group_not_found", "").await;
    for node in &cluster.nodes {
        let answer = node.ask("GET", &target("cards", "anna"), "cache-control: no-cache\r\n").await;
        assert_eq!(answer.text(), r#"{"score":333,"note":null}"#);
    }
}
