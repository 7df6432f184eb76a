//! What every transport must do, proved against a real group behind it.

use std::{sync::Arc, time::Duration};

use crate::{
    cluster::{Address, Epoch, Node, View, ViewCell},
    error::ErrorCode,
    group::{
        ContentKind, Group, GroupConfig, NoPeers, GroupName, GroupParts, GroupSettings, Groups, Key, LoadError,
        Outcome, PeerError, PeerRequest, PeerTransport, Peers, Value,
    },
    origin::MapLoader,
};

pub(super) const DIGEST: u64 = 0xfeed;
pub(super) const VALUE_BYTES_MAX: usize = 1 << 20;

/// A callee: one group named `scores` with a few odd keys.
pub(super) struct Callee {
    pub(super) groups: Arc<Groups>,
    pub(super) views: Arc<ViewCell>,
    pub(super) origin: Arc<MapLoader>,
}

fn odd_keys() -> Vec<Vec<u8>> {
    let texts = [
        "a", " ", "+", "a b+c", "/", "a/b//c", "%2F", "%", ".", "..", "a/../b", "张三", "🙂", "?x=1&y", "#",
        "\"';--", "\0", "\n",
    ];
    let mut keys: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    keys.extend([vec![0xff, 0xfe, 0x80], vec![0; 1024], (0..=255).collect(), vec![b'%'; 1024]]);
    keys
}

impl Callee {
    pub(super) fn new(address: &Address) -> Self {
        let origin = Arc::new(MapLoader::default());
        for key in odd_keys() {
            let value = Value::new(key.clone(), ContentKind::Binary);
            origin.insert(Key::new(key).expect("a key"), value);
        }
        origin.insert(Key::new("empty").expect("a key"), Value::text(""));
        origin.insert(Key::new("json").expect("a key"), Value::new("{\"a\":1}", ContentKind::Json));
        let large = Value::new(vec![7; VALUE_BYTES_MAX], ContentKind::Binary);
        origin.insert(Key::new("large").expect("a key"), large);
        let views = Arc::new(ViewCell::new(View::new(Node::new(address.clone()), [], 8)));
        let parts = GroupParts::alone(Arc::clone(&origin));
        let peers = Peers::new(
            Arc::new(NoPeers),
            Arc::clone(&views),
            Arc::clone(&parts.clock),
            parts.tasks.clone(),
            parts.metrics.clone(),
            Duration::from_secs(1),
        );
        let parts = GroupParts { peers, ..parts };
        let settings = GroupSettings { digest: DIGEST, ..GroupSettings::default() };
        let name = GroupName::new("scores").expect("a name");
        let group = Group::new(name, GroupConfig::default(), settings, parts);
        let groups = Arc::new(Groups::new([group], None).expect("one group"));
        Self { groups, views, origin }
    }
}

fn request(group: &str, key: impl AsRef<[u8]>) -> PeerRequest {
    PeerRequest {
        group: GroupName::new(group).expect("a name"),
        key: Key::new(key).expect("a key"),
        epoch: Epoch(1),
        budget: Duration::from_secs(5),
        digest: DIGEST,
    }
}

/// Runs every check with `transport` against `callee`, which listens at `node`.
pub(super) async fn test_all(transport: &dyn PeerTransport, node: &Node, callee: &Callee) {
    keys_travel_intact(transport, node).await;
    kinds_and_sizes_travel_intact(transport, node).await;
    an_absence_is_an_answer(transport, node).await;
    lifetimes_are_told(transport, node).await;
    errors_keep_their_code(transport, node, callee).await;
    a_budget_is_kept(transport, node, callee).await;
    signs_of_life(transport, node).await;
}

async fn keys_travel_intact(transport: &dyn PeerTransport, node: &Node) {
    for key in odd_keys() {
        let answer = transport.get(node, &request("scores", &key)).await.expect("an answer");
        assert_eq!(answer.value.expect("a value").bytes(), &key, "{}", key.escape_ascii());
        assert_eq!(answer.digest, DIGEST);
    }
}

async fn kinds_and_sizes_travel_intact(transport: &dyn PeerTransport, node: &Node) {
    let empty = transport.get(node, &request("scores", "empty")).await.expect("an answer").value;
    assert_eq!(empty, Some(Value::text("")), "an empty value is a value");
    let json = transport.get(node, &request("scores", "json")).await.expect("an answer").value;
    assert_eq!(json.expect("a value").kind(), ContentKind::Json);
    let large = transport.get(node, &request("scores", "large")).await.expect("an answer").value;
    assert_eq!(large.expect("a value").bytes().len(), VALUE_BYTES_MAX);
}

async fn an_absence_is_an_answer(transport: &dyn PeerTransport, node: &Node) {
    for outcome in [Outcome::Load, Outcome::Negative] {
        let answer = transport.get(node, &request("scores", "nobody")).await.expect("an answer");
        assert_eq!((answer.value, answer.outcome), (None, outcome));
        assert!(answer.remaining > Duration::ZERO && answer.remaining <= GroupConfig::default().negative_ttl);
    }
}

async fn lifetimes_are_told(transport: &dyn PeerTransport, node: &Node) {
    let first = transport.get(node, &request("scores", "json")).await.expect("an answer");
    let second = transport.get(node, &request("scores", "json")).await.expect("an answer");
    assert_eq!(second.outcome, Outcome::Hit);
    assert!(second.remaining <= first.remaining && second.remaining > Duration::ZERO);
    assert!(second.remaining <= GroupConfig::default().ttl);
}

async fn errors_keep_their_code(transport: &dyn PeerTransport, node: &Node, callee: &Callee) {
    let unknown = transport.get(node, &request("nobody", "a")).await;
    assert!(matches!(unknown, Err(PeerError::Refused(ErrorCode::GroupNotFound))), "{unknown:?}");
    callee.origin.set_failure(Some(LoadError::unavailable("on purpose")));
    let failed = transport.get(node, &request("scores", "failing")).await;
    callee.origin.set_failure(None);
    assert!(matches!(failed, Err(PeerError::Refused(ErrorCode::OriginUnavailable))), "{failed:?}");
    let after =
        transport.get(node, &request("scores", "failing")).await.expect("a failure is not remembered");
    assert_eq!((after.value, after.outcome), (None, Outcome::Load));
}

async fn a_budget_is_kept(transport: &dyn PeerTransport, node: &Node, callee: &Callee) {
    callee.origin.set_delay(Duration::from_secs(3));
    let budget = Duration::from_millis(100);
    let asked = PeerRequest { budget, ..request("scores", "slow") };
    let late = transport.get(node, &asked).await;
    callee.origin.set_delay(Duration::ZERO);
    // Whoever notices first: the callee, which answers, or the caller.
    let kept = matches!(late, Err(PeerError::Silent(_) | PeerError::Refused(ErrorCode::DeadlineExceeded)));
    assert!(kept, "{late:?}");
}

async fn signs_of_life(transport: &dyn PeerTransport, node: &Node) {
    transport.ping(node, Duration::from_secs(5)).await.expect("alive");
    let nobody = Node::new(Address::new("127.0.0.1:1").expect("an address"));
    let dead = transport.ping(&nobody, Duration::from_secs(5)).await;
    assert!(matches!(dead, Err(PeerError::Unreachable(_))), "{dead:?}");
    let dead = transport.get(&nobody, &request("scores", "a")).await;
    assert!(matches!(dead, Err(PeerError::Unreachable(_))), "{dead:?}");
}

#[tokio::test]
async fn memory() {
    let address = Address::new("localhost:1").expect("an address");
    let callee = Callee::new(&address);
    let network = super::MemoryNetwork::new();
    network.attach(&address, &callee.groups);
    let caller = Address::new("localhost:2").expect("an address");
    test_all(&network.transport(&caller), &Node::new(address), &callee).await;
}

#[tokio::test]
async fn http() {
    let (node, callee, _tasks) = listening().await;
    let transport = super::HttpTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX).expect("a client");
    test_all(&transport, &node, &callee).await;
}

/// A callee on a real socket.
async fn listening() -> (Node, Callee, crate::task::Tasks) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = Address::new(&listener.local_addr().expect("bound").to_string()).expect("an address");
    let callee = Callee::new(&address);
    let tasks = crate::task::Tasks::new();
    let metrics = crate::telemetry::NodeMetrics::new();
    let plane = crate::net::Plane { name: "peer", listener, connections: metrics.connections("peer") };
    let service = super::PeerService::new(
        Arc::clone(&callee.groups),
        Arc::clone(&callee.views),
        metrics,
        Duration::from_secs(5),
    );
    tasks.spawn(crate::net::serve(plane, service, crate::net::LimitsConfig::default(), tasks.clone()));
    (Node::new(address), callee, tasks)
}

#[tokio::test]
async fn a_value_beyond_the_callers_limit_is_refused() {
    let (node, _callee, _tasks) = listening().await;
    let transport = super::HttpTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX - 1).expect("a client");
    let refused = transport.get(&node, &request("scores", "large")).await;
    assert!(matches!(refused, Err(PeerError::Malformed(_))), "{refused:?}");
}
