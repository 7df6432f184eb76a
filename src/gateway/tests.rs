//! A plane on a real socket, at a node that knows the others, or does not know them yet.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{DiscoveryReport, DiscoverySource, Gateway, GatewayParts, Readiness};
use crate::{
    cluster::{Address, Node, NodeId, View, ViewCell},
    group::{Group, GroupConfig, GroupName, GroupParts, GroupSettings, Groups, Key, NoPeers, Peers, Value},
    net::{LimitsConfig, Plane, serve},
    origin::MapLoader,
    task::Tasks,
    telemetry::NodeMetrics,
};

/// A discovery that has found a list, or has not.
#[derive(Debug, Default)]
struct Found(AtomicBool);

impl DiscoverySource for Found {
    fn report(&self) -> DiscoveryReport {
        let listed = self.0.load(Ordering::Relaxed);
        DiscoveryReport {
            kind: "etcd",
            listed,
            connected: Some(listed),
            registered: None,
            foreign: vec!["go:80".to_owned()],
            foreign_count: 1,
        }
    }
}

/// A node of one group, `scores`, in which `anna` has 333.
pub(super) struct Site {
    pub(super) parts: GatewayParts,
    found: Arc<Found>,
    tasks: Tasks,
}

impl Site {
    /// Makes the discovery one that has read a list.
    pub(super) fn find_list(&self) {
        self.found.0.store(true, Ordering::Relaxed);
    }

    /// A node that knows nobody yet.
    pub(super) fn starting() -> Self {
        let id = Some(NodeId::new(0xab));
        let me = Node {
            id,
            api: Some("localhost:2".to_owned()),
            ..Node::new(Address::new("localhost:1").expect("right"))
        };
        let views = Arc::new(ViewCell::provisional(View::new(me, [], 8)));
        let key = Key::new("anna").expect("a key");
        let alone = GroupParts::alone(MapLoader::new([(key, Value::text("333"))]));
        let (tasks, metrics) = (alone.tasks.clone(), NodeMetrics::new());
        let (clock, patience) = (Arc::clone(&alone.clock), Duration::from_secs(1));
        let peers = Peers::new(
            Arc::new(NoPeers),
            Arc::clone(&views),
            clock,
            tasks.clone(),
            metrics.clone(),
            patience,
        );
        let parts = GroupParts { peers: Arc::clone(&peers), ..alone };
        let name = GroupName::new("scores").expect("a name");
        let group = Group::new(name, GroupConfig::default(), GroupSettings::default(), parts);
        let found = Arc::new(Found::default());
        let parts = GatewayParts {
            groups: Arc::new(Groups::new([group], None).expect("one group")),
            views,
            discovery: found.clone(),
            peers,
            metrics,
            readiness: Readiness::new(),
            request_timeout: Duration::from_secs(5),
            in_flight_max: 0,
            effective_config: Arc::from(""),
        };
        Self { parts, found, tasks }
    }

    /// The first view is in force.
    pub(super) fn hear(&self, others: impl IntoIterator<Item = Node>) {
        let view = self.parts.views.load().change(others);
        self.parts.views.store(view);
    }

    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let plane = Plane { name: "api", listener, tls: None, connections: metrics::Gauge::noop() };
        let gateway = Gateway::api(self.parts.clone());
        self.tasks.spawn(serve(plane, gateway, LimitsConfig::default(), self.tasks.clone()));
        address
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// The status of the answer, and its body.
async fn ask(address: SocketAddr, method: &str, target: &str, body: &str) -> (u16, String) {
    let mut connection = TcpStream::connect(address).await.expect("accepted");
    let head = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
    let request = format!("{head}content-type: application/json\r\nconnection: close\r\n\r\n{body}");
    connection.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).expect("json")
}

const READS: [&str; 2] = ["/api?key=anna", "/api/v1/groups/scores/keys/anna"];
const INVALIDATE: &str = "/api/v1/groups/scores/keys:invalidate";

#[tokio::test]
async fn a_node_that_knows_nobody_yet_takes_no_key_for_its_own() {
    let site = Site::starting();
    let address = site.serve().await;
    for (method, target, body) in
        READS.map(|target| ("GET", target, "")).into_iter().chain([("POST", INVALIDATE, r#"{"all": true}"#)])
    {
        let (status, problem) = ask(address, method, target, body).await;
        assert_eq!(
            (status, &json(&problem)["code"]),
            (503, &json!("peer_unavailable")),
            "{target}: {problem}"
        );
    }
    assert_eq!(ask(address, "GET", "/livez", "").await.0, 200);
    site.hear([]);
    site.find_list();
    for target in READS {
        assert_eq!(ask(address, "GET", target, "").await, (200, "333".to_owned()));
    }
    let (status, report) = ask(address, "POST", INVALIDATE, r#"{"keys": ["anna"]}"#).await;
    let expected = json!({
        "complete": true,
        "acknowledged": [{"node": "localhost:1", "dropped": 1}],
        "failed": [],
    });
    assert_eq!((status, json(&report)), (200, expected));
}

#[tokio::test]
async fn an_invalidation_by_a_node_that_found_no_list_is_not_complete() {
    let site = Site::starting();
    let address = site.serve().await;
    site.hear([]);
    let (status, report) = ask(address, "POST", INVALIDATE, r#"{"keys": ["anna"]}"#).await;
    let report = json(&report);
    assert_eq!((status, &report["complete"]), (200, &json!(false)), "{report}");
    assert_eq!(report["acknowledged"], json!([{"node": "localhost:1", "dropped": 0}]));
    assert_eq!(report["failed"][0]["node"], "discovery", "{report}");
}

#[tokio::test]
async fn the_cluster_is_shown_with_how_it_is_known() {
    let site = Site::starting();
    let address = site.serve().await;
    site.hear([Node::new(Address::new("localhost:3").expect("right"))]);
    let (status, report) = ask(address, "GET", "/api/v1/cluster", "").await;
    let report = json(&report);
    assert_eq!(status, 200);
    let expected = json!({"kind": "etcd", "listed": false, "connected": false, "foreign": ["go:80"], "foreign_count": 1});
    assert_eq!(report["discovery"], expected);
    let me = &report["nodes"][0];
    assert_eq!((&me["id"], &me["api"]), (&json!("00000000000000ab"), &json!("localhost:2")), "{report}");
    assert_eq!(me["protocol"], 1);
    // What comes from a list has said nothing of itself.
    let listed = report["nodes"][1].as_object().expect("an object");
    assert_eq!(listed["address"], "localhost:3");
    assert!(["id", "api", "protocol"].iter().all(|field| !listed.contains_key(*field)), "{report}");
}
