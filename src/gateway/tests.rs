//! A plane on a real socket, at a node that knows the others, or does not know them yet.

mod access;
mod batch;
mod quick;

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

use super::{
    Admission, DiscoveryReport, DiscoverySource, Encodings, Gateway, GatewayParts, Live, PlaneKind,
    PlaneSettings, Readiness, Reload, ReloadError, Reloaded,
};
use crate::{
    access::{Access, AuthConfig},
    cluster::{Address, Node, NodeId, View, ViewCell},
    group::{
        BoxFuture, ContentKind, Group, GroupConfig, GroupName, GroupParts, GroupSettings, Groups, Key,
        NoPeers, Peers, Value,
    },
    limit::{Limiter, RateConfig},
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

/// A configuration that stays the same.
#[derive(Debug)]
struct Unchanged;

impl Reload for Unchanged {
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ReloadError>> {
        Box::pin(async { Ok(Reloaded::default()) })
    }
}

/// Lets in whom these say.
pub(super) fn admission(auth: &AuthConfig, rate: RateConfig) -> Admission {
    Admission::new(Arc::new(Access::new(auth)), Arc::new(Limiter::new(rate, &NodeMetrics::new())))
}

/// A node of one group, `scores`, in which `anna` has 333.
pub(super) struct Site {
    pub(super) parts: GatewayParts,
    origin: Arc<MapLoader>,
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
        let origin = Arc::new(MapLoader::new([(key, Value::text("333"))]));
        let alone = GroupParts::alone(Arc::clone(&origin));
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
            admission: admission(&AuthConfig::default(), RateConfig::default()),
            metrics,
            readiness: Readiness::new(),
            request_timeout: Duration::from_secs(5),
            value_bytes_max: 1 << 20,
            in_flight_max: 0,
            encodings: Encodings::new(1 << 20, tasks.clone()),
            live: Arc::new(Live::new(PlaneSettings::default())),
            reload: Arc::new(Unchanged),
        };
        Self { parts, origin, found, tasks }
    }

    /// The first view is in force.
    pub(super) fn hear(&self, others: impl IntoIterator<Item = Node>) {
        let view = self.parts.views.load().change(others);
        self.parts.views.store(view);
    }

    async fn serve(&self) -> SocketAddr {
        self.serve_as(PlaneKind::Api).await
    }

    /// Serves as one plane or the other; where.
    pub(super) async fn serve_as(&self, kind: PlaneKind) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let plane = Plane { name: "api", listener, tls: None, connections: metrics::Gauge::noop() };
        let gateway = match kind {
            PlaneKind::Api => Gateway::api(self.parts.clone()),
            PlaneKind::Admin => Gateway::admin(self.parts.clone()),
        };
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
pub(super) async fn ask(address: SocketAddr, method: &str, target: &str, body: &str) -> (u16, String) {
    let head = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
    let answer = exchange(address, &format!("{head}content-type: application/json\r\n"), body).await;
    (answer.status, String::from_utf8(answer.body).expect("text"))
}

/// An answer, its header lines in lower case.
struct Told {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Told {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

async fn exchange(address: SocketAddr, head: &str, body: &str) -> Told {
    let mut connection = TcpStream::connect(address).await.expect("accepted");
    let request = format!("{head}connection: close\r\n\r\n{body}");
    connection.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.expect("an answer");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("text").to_lowercase();
    Told { status: head[9..12].parse().expect("a status"), head, body: answer[end + 4..].to_vec() }
}

/// A request without a body, with these header lines.
async fn with(address: SocketAddr, method: &str, target: &str, headers: &str) -> Told {
    exchange(address, &format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{headers}"), "").await
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

const ANNA: &str = READS[1];

fn known(site: &Site) {
    site.hear([]);
    site.find_list();
}

#[tokio::test]
async fn a_client_says_how_its_read_is_to_be_answered() {
    let site = Site::starting();
    let address = site.serve().await;
    known(&site);
    let status = async |headers: &str| {
        let told = with(address, "GET", ANNA, headers).await;
        (told.status, told.header("cache-status").unwrap_or_default().to_owned())
    };
    let only = "cache-control: only-if-cached\r\n";
    let told = with(address, "GET", ANNA, only).await;
    assert_eq!(
        (told.status, &json(std::str::from_utf8(&told.body).expect("text"))["code"]),
        (504, &json!("not_cached"))
    );
    let (loaded, hit) = ("localhost:1; fwd=miss", "localhost:1; hit");
    for (headers, expected) in [
        ("", loaded),
        ("", hit),
        (only, hit),
        ("cache-control: no-cache\r\n", loaded),
        ("cache-control: max-age=0\r\n", loaded),
        ("cache-control: max-age=1000\r\n", hit),
        ("cache-control: min-fresh=1\r\n", hit),
        ("cache-control: min-fresh=100000\r\n", loaded),
        ("cache-control: no-store, max-stale\r\n", hit),
    ] {
        let (status, cache_status) = status(headers).await;
        assert!(status == 200 && cache_status.starts_with(expected), "{headers}: {status} {cache_status}");
    }
}

#[tokio::test]
async fn every_answer_is_named_and_a_traced_one_tells_its_span() {
    let site = Site::starting();
    let address = site.serve().await;
    known(&site);
    for target in [ANNA, "/api/v1/groups/scores/keys/nobody", "/api/v1/cluster", "/nowhere", "/livez"] {
        let told = with(address, "GET", target, "x-request-id: from-the-client\r\n").await;
        assert_eq!(told.header("x-request-id"), Some("from-the-client"), "{target}");
        if told.status >= 400 {
            let problem = json(std::str::from_utf8(&told.body).expect("text"));
            assert_eq!(problem["request_id"], "from-the-client", "{target}");
        }
        let own = with(address, "GET", target, "x-request-id: a b\r\n").await;
        let id = own.header("x-request-id").expect("one of ours");
        assert!(id.len() == 16 && own.header("traceparent").is_none(), "{target}: {id}");
        let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
        let traced = with(address, "GET", target, parent).await;
        let told = traced.header("traceparent").expect("it is traced");
        assert!(
            told.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && !told.contains("b7ad6b7169203331")
        );
    }
}

#[tokio::test]
async fn pages_of_named_origins_may_read_answers() {
    let site = Site::starting();
    let cors_origins = vec!["https://app.example".parse().expect("an origin")];
    site.parts.live.replace(PlaneSettings { cors_origins, ..PlaneSettings::default() });
    let address = site.serve().await;
    known(&site);
    for target in [ANNA, "/api/v1/cluster", "/api/v1/groups/scores/keys/nobody"] {
        let told = with(address, "GET", target, "origin: https://app.example\r\n").await;
        assert_eq!(told.header("access-control-allow-origin"), Some("https://app.example"), "{target}");
        assert!(told.header("access-control-expose-headers").is_some_and(|names| names.contains("etag")));
        assert!(told.head.contains("vary: origin"), "{}", told.head);
        let other = with(address, "GET", target, "origin: https://evil.example\r\n").await;
        assert_eq!(other.header("access-control-allow-origin"), None);
        let preflight = "origin: https://app.example\r\naccess-control-request-method: GET\r\n";
        let told = with(address, "OPTIONS", target, preflight).await;
        assert_eq!((told.status, told.body.len()), (204, 0), "{target}");
        assert!(
            told.header("access-control-allow-headers").is_some_and(|names| names.contains("authorization"))
        );
        assert!(told.header("allow").is_some_and(|methods| methods.contains("get")), "{}", told.head);
    }
}

#[tokio::test]
async fn large_text_is_compressed_for_who_accepts_it() {
    let site = Site::starting();
    site.origin.insert(Key::new("long").expect("a key"), Value::text("0123456789".repeat(500)));
    let address = site.serve().await;
    known(&site);
    let target = "/api/v1/groups/scores/keys/long";
    let plain = with(address, "GET", target, "").await;
    assert_eq!((plain.body.len(), plain.header("content-encoding")), (5_000, None));
    assert_eq!(plain.header("vary"), Some("accept-encoding"));
    let gzip = with(address, "GET", target, "accept-encoding: gzip, br\r\n").await;
    assert_eq!(
        (gzip.header("content-encoding"), gzip.header("vary")),
        (Some("gzip"), Some("accept-encoding"))
    );
    assert!(gzip.body.len() < 1_000 && gzip.body.starts_with(&[0x1f, 0x8b]));
    let (plain_tag, gzip_tag) = (plain.header("etag").expect("a tag"), gzip.header("etag").expect("a tag"));
    assert_ne!(plain_tag, gzip_tag);
    for (accept, tag, status) in
        [("gzip", gzip_tag, 304), ("gzip", plain_tag, 200), ("br", plain_tag, 304), ("br", gzip_tag, 200)]
    {
        let headers = format!("accept-encoding: {accept}\r\nif-none-match: {tag}\r\n");
        let told = with(address, "GET", target, &headers).await;
        assert_eq!((told.status, told.header("vary")), (status, Some("accept-encoding")), "{accept} {tag}");
    }
    let head = with(address, "HEAD", target, "accept-encoding: gzip\r\n").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), gzip.header("content-length"));
    assert_eq!(with(address, "GET", ANNA, "").await.header("vary"), None, "too short to differ");
}
