//! A node and its etcd, as clients and operators see it.

use serde_json::{Value, json};

use crate::{
    server::Etcd,
    support::{client::exchange, cluster::Cluster, node::Node, site::Site, until},
};

const CONFIG: &str = r#"
[cluster]
discovery = "etcd"

[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
"#;

const SQL: &str = "CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER); INSERT INTO students VALUES ('anna', 333);";

async fn invalidate(node: &Node) -> Value {
    let body = r#"{"keys": ["anna"]}"#;
    let head = "POST /api/v1/groups/scores/keys:invalidate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    exchange(node.api(), request.as_bytes()).await.expect("an answer").json()
}

async fn discovery(node: &Node) -> Value {
    node.get("/api/v1/cluster").await.json()["discovery"].clone()
}

#[tokio::test]
async fn a_node_without_its_etcd_serves_and_says_what_it_does_not_know() {
    let mut etcd = Etcd::down(1);
    let endpoints = format!("etcd.endpoints={}", etcd.endpoints().join(","));
    let cluster = Cluster::start(Site::with(CONFIG, SQL), 1, &[&endpoints]).await;
    let node = &cluster.nodes[0];
    assert_eq!(node.get("/api?key=anna").await.text(), "333");
    let report = invalidate(node).await;
    assert_eq!((&report["complete"], &report["failed"][0]["node"]), (&json!(false), &json!("discovery")));
    let away = json!({
        "kind": "etcd", "listed": false, "connected": false, "registered": false, "foreign": [], "foreign_count": 0
    });
    assert_eq!(discovery(node).await, away);

    etcd.restart().await;
    until("the node is registered", async || discovery(node).await["registered"] == true).await;
    let mut client = etcd.client().await;
    let foreign = r#"{"Op":0,"Addr":"10.0.0.7:80","Metadata":null}"#;
    client.put("GGroupCache/10.0.0.7:80", foreign, None).await.expect("etcd answers");
    let there = json!({
        "kind": "etcd", "listed": true, "connected": true, "registered": true, "foreign": ["10.0.0.7:80"],
        "foreign_count": 1
    });
    until("the entry of others is shown", async || discovery(node).await == there).await;
    let report = invalidate(node).await;
    assert_eq!((&report["complete"], &report["failed"]), (&json!(true), &json!([])), "{report}");
    let nodes = node.get("/api/v1/cluster").await.json()["nodes"].clone();
    assert_eq!(nodes[0]["api"], format!("127.0.0.1:{}", node.ports.api), "{nodes}");
    assert_eq!(nodes[0]["id"].as_str().map(str::len), Some(16), "{nodes}");
}
