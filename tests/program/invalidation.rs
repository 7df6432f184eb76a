//! `POST …/keys:invalidate`, as a person with curl sees it.

use crate::support::{
    client::{Response, exchange},
    cluster::Cluster,
    node::Node,
    site::Site,
};

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
"#;

const SQL: &str = "CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER); INSERT INTO students VALUES ('anna', 333);";
const PATH: &str = "/api/v1/groups/scores/keys:invalidate";
const JSON: &str = "content-type: application/json\r\n";
const BODY: &str = r#"{"all": true}"#;

async fn cluster() -> Cluster {
    Cluster::start(Site::with(CONFIG, SQL), 1, &[]).await
}

/// Posts `body`, to the operators' plane if `is_admin`, with header lines that each end in `\r\n`.
async fn post(node: &Node, is_admin: bool, headers: &str, body: &str) -> Response {
    let address = if is_admin { node.admin() } else { node.api() };
    let length = body.len();
    let request =
        format!("POST {PATH} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n{body}");
    exchange(address, request.as_bytes()).await.expect("an answer")
}

#[tokio::test]
async fn what_a_page_may_send_unasked_is_refused() {
    let cluster = cluster().await;
    let node = &cluster.nodes[0];
    assert_eq!(node.get("/api?key=anna").await.text(), "333");
    for is_admin in [false, true] {
        for headers in [
            "",
            "content-type: text/plain\r\n",
            "content-type: application/x-www-form-urlencoded\r\n",
            "content-type: multipart/form-data; boundary=x\r\n",
        ] {
            let refused = post(node, is_admin, headers, BODY).await;
            assert_eq!((refused.status, refused.problem().as_str()), (415, "unsupported_media_type"));
            assert!(refused.text().contains("content-type: application/json"), "{}", refused.describe());
        }
    }
    assert_eq!(node.loads("scores").await, 1);
    assert_eq!(node.metric("ggcache_evictions_total{group=\"scores\",cause=\"invalidated\"}").await, 0.0);
    for is_admin in [false, true] {
        let dropped = post(node, is_admin, JSON, BODY).await;
        assert_eq!((dropped.status, dropped.json()["complete"].as_bool()), (200, Some(true)));
        assert_eq!(dropped.json()["acknowledged"][0]["dropped"], 1);
        assert_eq!(node.get("/api?key=anna").await.text(), "333");
    }
    assert_eq!(node.loads("scores").await, 3, "it was dropped twice");
}

#[tokio::test]
async fn other_methods_are_told_which_one_is_right() {
    let cluster = cluster().await;
    for method in ["GET", "PUT", "DELETE"] {
        let refused = cluster.nodes[0].ask(method, PATH, "").await;
        assert_eq!((refused.status, refused.problem().as_str()), (405, "method_not_allowed"));
        assert_eq!(refused.header("allow"), Some("POST, OPTIONS"));
        assert_eq!(refused.json()["detail"], "this path answers POST");
    }
}
