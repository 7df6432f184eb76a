//! Nodes that share a secret answer each other, and nobody else.

use ggcache::{
    access::{Head, PeerSecret, SEAL, Sealer, Secrets},
    transport::unix_time_ms,
};
use http::HeaderMap;

use crate::support::{
    client::{Response, exchange},
    cluster::Cluster,
    node::{Node, Ports},
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
hot_ttl = "0s"
"#;

const SQL: &str = "CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER); INSERT INTO students VALUES ('anna', 333);";
const SECRET: &str = "a-secret-that-is-known-to-the-nodes-only";
const OTHER: &str = "a-secret-that-is-known-to-strangers-only";
const INVALIDATE: &str = "/_ggcache.v1/invalidate";
const BODY: &str = r#"{"group":"scores","prefix":""}"#;

fn transports() -> &'static [&'static str] {
    if cfg!(feature = "grpc") { &["http", "grpc"] } else { &["http"] }
}

async fn cluster(transport: &str) -> Cluster {
    let (secret, transport) = (format!("node.secret={SECRET}"), format!("cluster.transport={transport}"));
    Cluster::start(Site::with(CONFIG, SQL), 3, &[&secret, &transport]).await
}

fn sealer(secret: &str) -> Sealer {
    Sealer::new(&Secrets::new(PeerSecret::new(secret), None)).expect("a random number")
}

/// A request to the peer plane, as a stranger who knows the protocol would write it.
#[derive(Clone)]
struct HandMade {
    method: &'static str,
    target: &'static str,
    headers: HeaderMap,
    body: &'static str,
}

impl HandMade {
    fn new(method: &'static str, target: &'static str, body: &'static str) -> Self {
        let headers = HeaderMap::from_iter([("ggcache-budget-ms".parse().expect("a name"), 500.into())]);
        Self { method, target, headers, body }
    }

    /// The read of a key, and the message that drops all of them.
    fn both() -> [Self; 2] {
        [Self::new("GET", "/_ggcache/scores/anna", ""), Self::new("POST", INVALIDATE, BODY)]
    }

    fn sealed(mut self, secret: &str, callee: &str, at_ms: u64) -> Self {
        let head = Head { method: self.method, target: self.target, headers: &self.headers };
        let body = (!self.body.is_empty()).then_some(self.body.as_bytes());
        let seal = sealer(secret).seal(&head, body, callee, at_ms);
        self.headers.insert(SEAL, seal);
        self
    }

    async fn send(&self, node: &Node) -> Response {
        let Self { method, target, body, .. } = self;
        let lines: String = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().expect("text")))
            .collect();
        let length = body.len();
        let text = format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\n{lines}content-length: {length}\r\n\r\n{body}"
        );
        exchange(node.peer(), text.as_bytes()).await.expect("an answer")
    }

    async fn is_refused(&self, node: &Node, why: &str) {
        let refused = self.send(node).await;
        assert_eq!((refused.status, refused.problem().as_str()), (401, "unauthenticated"), "{why}");
        assert_eq!(refused.header("www-authenticate"), Some("GGCache-Seal"), "{}", refused.describe());
        let detail = refused.json()["detail"].as_str().expect("a detail").to_owned();
        assert!(detail.contains(why), "{detail} does not say {why:?}");
        assert!(!detail.contains(SECRET) && !detail.contains(OTHER), "{detail}");
    }
}

async fn invalidate_all(node: &Node) -> serde_json::Value {
    let body = r#"{"all": true}"#;
    let head = "POST /api/v1/groups/scores/keys:invalidate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    exchange(node.api(), request.as_bytes()).await.expect("an answer").json()
}

/// Two nodes of one cluster, with settings of their own.
async fn pair(site: &Site, settings: [&[&str]; 2]) -> [Node; 2] {
    // A port may be taken by another program before a node has it.
    for _ in 0..10 {
        let ports = [Ports::free(), Ports::free()];
        let peers = ports.map(|ports| format!("localhost:{}", ports.peer)).join(",");
        let peers = format!("cluster.peers={peers}");
        let spawn = |at: usize| Node::spawn(site, ports[at], &[&[peers.as_str()], settings[at]].concat());
        let mut nodes = [spawn(0), spawn(1)];
        if nodes[0].is_ready().await && nodes[1].is_ready().await {
            return nodes;
        }
    }
    panic!("ports were taken again and again");
}

#[tokio::test]
async fn nodes_with_one_secret_are_a_cluster() {
    for transport in transports() {
        let cluster = cluster(transport).await;
        for node in &cluster.nodes {
            assert_eq!(node.get("/api?key=anna").await.text(), "333", "{transport}");
        }
        assert_eq!(cluster.loads(&[0, 1, 2], "scores").await, 1, "{transport}: the others asked the owner");
        cluster.site.sql("UPDATE students SET score = 334");
        let report = invalidate_all(&cluster.nodes[0]).await;
        assert_eq!((&report["complete"], report["failed"].as_array().map(Vec::len)), (&true.into(), Some(0)));
        for node in &cluster.nodes {
            assert_eq!(node.get("/api?key=anna").await.text(), "334", "{transport}");
            let log = node.log();
            assert!(!log.contains("refused") && !log.contains("accept") && !log.contains(SECRET), "{log}");
        }
    }
}

#[tokio::test]
async fn strangers_are_refused_before_anything_else() {
    let cluster = cluster("http").await;
    let route = cluster.route("scores", "key=anna").await;
    let (node, other) = (&cluster.nodes[route[0]], &cluster.nodes[route[1]]);
    let now = unix_time_ms;
    for request in HandMade::both() {
        request.is_refused(node, "the request has no seal").await;
        let seal = |secret, callee: &Node, at| request.clone().sealed(secret, &callee.name, at);
        seal(OTHER, node, now()).is_refused(node, "the seal is not right").await;
        seal(SECRET, other, now()).is_refused(node, &format!("for another node than {}", node.name)).await;
        seal(SECRET, node, now() - 60_000).is_refused(node, "clocks differ").await;
        seal(SECRET, node, now() + 60_000).is_refused(node, "ahead of this node's time").await;
        let mut garbled = seal(SECRET, node, now());
        garbled.headers.insert(SEAL, "v9 x=1".parse().expect("text"));
        garbled.is_refused(node, "the seal is not understood").await;
        let mut longer = seal(SECRET, node, now());
        longer.headers.insert("ggcache-budget-ms", 60_000.into());
        longer.is_refused(node, "the seal is not right").await;
    }
    let moved = HandMade {
        target: "/_ggcache/scores/otto",
        ..HandMade::both()[0].clone().sealed(SECRET, &node.name, now())
    };
    moved.is_refused(node, "the seal is not right").await;
    let [read, drop] = HandMade::both().map(|request| request.sealed(SECRET, &node.name, now()));
    HandMade { body: r#"{"group":"scores","keys":[]}"#, ..drop }.is_refused(node, "the body").await;
    HandMade { body: "x", ..read }.is_refused(node, "the body").await;
    // Also where there is nothing.
    HandMade::new("GET", "/nothing", "").is_refused(node, "the request has no seal").await;
    assert_eq!(node.loads("scores").await, 0, "nothing was read");

    // And each message is good once.
    for request in HandMade::both() {
        let sealed = request.sealed(SECRET, &node.name, now());
        assert_eq!(sealed.send(node).await.status, 200);
        sealed.is_refused(node, "was answered before").await;
    }
    let log = node.log();
    assert!(log.contains("a request on the peer plane was refused") && !log.contains(SECRET), "{log}");
    assert_eq!(
        log.matches("a request on the peer plane was refused").count(),
        1,
        "strangers don't fill it: {log}"
    );
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn strangers_are_refused_over_grpc_and_clients_are_not() {
    use ggcache::rpc::{
        ggroupcachepb::{Request, g_group_cache_client::GGroupCacheClient},
        peer_v1::{GetRequest, InvalidateRequest, PingRequest, peer_client::PeerClient},
    };
    use tonic::{Code, transport::Endpoint};

    let cluster = cluster("grpc").await;
    let node = &cluster.nodes[0];
    let endpoint = Endpoint::from_shared(format!("http://{}", node.peer())).expect("an address");
    let channel = endpoint.connect().await.expect("it listens");
    let get = || GetRequest { group: "scores".to_owned(), key: "anna".into(), ..GetRequest::default() };
    let mut peer = PeerClient::new(channel.clone());
    let refused = [
        peer.ping(PingRequest {}).await.err(),
        peer.get(get()).await.err(),
        peer.invalidate(InvalidateRequest { group: "scores".to_owned(), ..InvalidateRequest::default() })
            .await
            .err(),
    ];
    for status in refused {
        let status = status.expect("refused");
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert_eq!(
            status.metadata().get("ggcache-error").map(|code| code.as_bytes()),
            Some(&b"unauthenticated"[..])
        );
        assert!(status.message().contains("the request has no seal"), "{status:?}");
    }
    // Sealed by another secret; and a right seal, twice and on another message.
    let path = "/ggcache.peer.v1.Peer/Ping";
    let head = Head { method: "POST", target: path, headers: &HeaderMap::new() };
    let empty = &[0_u8; 5][..];
    let wrong = sealer(OTHER).seal(&head, Some(empty), &node.name, unix_time_ms());
    let right = sealer(SECRET).seal(&head, Some(empty), &node.name, unix_time_ms());
    let with = |seal: &http::HeaderValue| {
        let mut request = tonic::Request::new(PingRequest {});
        request.metadata_mut().insert(SEAL, seal.to_str().expect("text").parse().expect("text"));
        request
    };
    let status = peer.ping(with(&wrong)).await.expect_err("another secret");
    assert!(status.message().contains("the seal is not right"), "{status:?}");
    peer.ping(with(&right)).await.expect("it is sealed");
    let status = peer.ping(with(&right)).await.expect_err("it was there");
    assert!(status.message().contains("was answered before"), "{status:?}");
    let right = sealer(SECRET).seal(&head, Some(empty), &node.name, unix_time_ms());
    let mut other_message = tonic::Request::new(get());
    other_message.metadata_mut().insert(SEAL, right.to_str().expect("text").parse().expect("text"));
    let status = peer.get(other_message).await.expect_err("it was sealed for a ping");
    assert!(status.message().contains("the seal is not right"), "{status:?}");
    // What is the clients' on that port needs no seal.
    let mut client = GGroupCacheClient::new(channel);
    let request = Request { group: "scores".to_owned(), key: "anna".to_owned() };
    assert_eq!(client.get(request).await.expect("an answer").into_inner().value, &b"333"[..]);
}

#[tokio::test]
async fn a_node_with_another_secret_is_none_of_the_cluster() {
    for transport in transports() {
        let site = Site::with(CONFIG, SQL);
        let secrets = [SECRET, OTHER].map(|secret| format!("node.secret={secret}"));
        let transport = format!("cluster.transport={transport}");
        let nodes = pair(&site, [&[&transport, &secrets[0]], &[&transport, &secrets[1]]]).await;
        for (node, other) in [(0, 1), (1, 0)] {
            assert_eq!(nodes[node].get("/api?key=anna").await.text(), "333", "each has the database");
            let report = invalidate_all(&nodes[node]).await;
            assert_eq!(report["complete"], false, "{report}");
            assert_eq!(report["failed"][0]["node"], nodes[other].name, "{report}");
        }
        let said = "a peer does not accept what this node asks";
        until("both say why", async || nodes.iter().all(|node| node.log().contains(said))).await;
        for node in &nodes {
            let log = node.log();
            assert!(log.contains("a request on the peer plane was refused"), "{log}");
            assert!(!log.contains(SECRET) && !log.contains(OTHER), "{log}");
        }
    }
}

#[tokio::test]
async fn a_secret_is_changed_without_a_refusal() {
    // The middle of a change: one node has the new secret already, and accepts the old one; the other knows both too.
    let site = Site::with(CONFIG, SQL);
    for (file, secret) in [("old", SECRET), ("new", OTHER)] {
        std::fs::write(site.path(file), format!("{secret}\n")).expect("a file");
    }
    let previous = [OTHER, SECRET].map(|secret| format!("node.secret_previous={secret}"));
    let nodes =
        pair(&site, [&["node.secret_file=old", &previous[0]], &["node.secret_file=new", &previous[1]]]).await;
    for node in &nodes {
        assert_eq!(node.get("/api?key=anna").await.text(), "333");
        let report = invalidate_all(node).await;
        assert_eq!(report["complete"], true, "{report}");
    }
}

#[tokio::test]
async fn a_token_is_made_for_people_and_for_scripts() {
    let site = Site::with(CONFIG, SQL);
    let made = site.run(&["token", "ops", "--scopes", "read,admin", "--groups", "scores"]);
    let token = made.stdout.strip_suffix('\n').expect("one line");
    assert_eq!((made.code, token.len(), token.starts_with("ggc_")), (Some(0), 47, true), "{}", made.stderr);
    assert!(!made.stderr.contains(token), "{}", made.stderr);
    // What a script appends to the configuration is one.
    site.configure(&format!("{CONFIG}\n{}", made.stderr));
    let checked = site.run(&["check"]);
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));
    assert!(checked.stdout.contains("token ops: read, admin in scores: ok"), "{}", checked.stdout);
    let shown = site.run(&["config"]).stdout;
    assert!(shown.contains("[auth.token.ops]\nhash = \"sha256:***\""), "{shown}");

    // It needs no configuration, nor one that is right.
    site.configure("nonsense");
    assert_eq!(site.run(&["token", "ops"]).code, Some(0));
    assert_eq!(site.run(&["token", "o p s"]).code, Some(2));
}

#[test]
fn check_tells_of_open_doors_and_of_secrets_that_are_not_there() {
    let site = Site::with(CONFIG, SQL);
    let open = format!(
        "[node]\nlisten = \"10.1.2.3:10001\"\nallow_anyone = true\n[admin]\nlisten = \"10.1.2.3:11001\"\n\
         allow_anyone = true\n[api]\nenabled = true\nlisten = \"0.0.0.0:8000\"\n{CONFIG}"
    );
    site.configure(&open);
    let checked = site.run(&["check"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    for warning in [
        "warning: node.allow_anyone: whoever reaches 10.1.2.3:10001 may read and drop every key",
        "warning: admin.allow_anyone: whoever reaches 10.1.2.3:11001 may do what operators may",
        "warning: auth.anonymous: whoever reaches 0.0.0.0:8000 (api.listen) has these scopes without a token: read, \
         write, invalidate, admin",
    ] {
        assert!(checked.stderr.contains(warning), "{}", checked.stderr);
    }
    site.configure(&format!("[node]\nlisten = \"10.1.2.3:10001\"\nsecret_file = \"secret\"\n{CONFIG}"));
    let checked = site.run(&["check"]);
    assert_eq!(checked.code, Some(1));
    assert!(
        checked.stderr.contains("error: node.secret_file: the file \"secret\" can't be read"),
        "{}",
        checked.stderr
    );
    std::fs::write(site.path("secret"), SECRET).expect("a file");
    let checked = site.run(&["check"]);
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));
    assert!(
        checked.stdout.contains("sealed by a secret: ok") && !checked.stdout.contains(SECRET),
        "{}",
        checked.stdout
    );
}
