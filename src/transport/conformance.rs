//! What every transport must do, proved against a real group behind it.

use std::{sync::Arc, time::Duration};

use crate::{
    cluster::{Address, Epoch, Node, View, ViewCell},
    error::ErrorCode,
    group::{
        ContentKind, Group, GroupConfig, GroupName, GroupParts, GroupSettings, Groups, HANDOVER_KEYS_MAX,
        Handover, Invalidation, Key, LoadError, Outcome, PeerAnswer, PeerError, PeerRequest, PeerTransport,
        Peers, Selection, Value,
    },
    origin::MapLoader,
};

pub(super) const DIGEST: u64 = 0xfeed;
pub(super) const VALUE_BYTES_MAX: usize = 1 << 20;

/// A callee: one group named `scores` with a few odd keys. Another node, which it can ask, has just left its view.
pub(super) struct Callee {
    pub(super) groups: Arc<Groups>,
    pub(super) views: Arc<ViewCell>,
    pub(super) origin: Arc<MapLoader>,
    leaver: Arc<Groups>,
}

/// Who has left.
const LEAVER: &str = "localhost:9";
/// A key that only the database of the node that left has.
const LEFT_KEY: &str = "left";

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
        for bytes in odd_keys() {
            origin.insert(key(&bytes), Value::new(bytes, ContentKind::Binary));
        }
        origin.insert(key("empty"), Value::text(""));
        origin.insert(key("json"), Value::new("{\"a\":1}", ContentKind::Json));
        let large = Value::new(vec![7; VALUE_BYTES_MAX], ContentKind::Binary);
        origin.insert(key("large"), large);
        let leaver = Address::new(LEAVER).expect("an address");
        let network = super::MemoryNetwork::new();
        let left = Arc::new(MapLoader::new([(key(LEFT_KEY), Value::text("444"))]));
        let alone = Arc::new(ViewCell::new(View::new(Node::new(leaver.clone()), [], 8)));
        let of_leaver = groups(&network, &leaver, &alone, left);
        network.attach(&leaver, &of_leaver);
        let views = ViewCell::new(View::new(Node::new(address.clone()), [Node::new(leaver)], 8));
        let without = views.load().change([]);
        views.store(without);
        let views = Arc::new(views);
        let groups = groups(&network, address, &views, Arc::clone(&origin));
        Self { groups, views, origin, leaver: of_leaver }
    }

    fn group(&self) -> &Arc<Group> {
        self.groups.get("scores").expect("it has one")
    }
}

fn key(bytes: impl AsRef<[u8]>) -> Key {
    Key::new(bytes).expect("a key")
}

/// One group named `scores`.
fn groups(
    network: &super::MemoryNetwork,
    address: &Address,
    views: &Arc<ViewCell>,
    origin: Arc<MapLoader>,
) -> Arc<Groups> {
    let parts = GroupParts::alone(origin);
    let peers = Peers::new(
        Arc::new(network.transport(address)),
        Arc::clone(views),
        Arc::clone(&parts.clock),
        parts.tasks.clone(),
        parts.metrics.clone(),
        Duration::from_secs(1),
    );
    let parts = GroupParts { peers, ..parts };
    // A peek takes a tenth of the timeout at most, and the machine may be busy.
    let settings =
        GroupSettings { digest: DIGEST, peer_timeout: Duration::from_secs(10), ..GroupSettings::default() };
    let name = GroupName::new("scores").expect("a name");
    let group = Group::new(name, GroupConfig::default(), settings, parts);
    Arc::new(Groups::new([group], None).expect("one group"))
}

fn request(group: &str, key: impl AsRef<[u8]>) -> PeerRequest {
    PeerRequest {
        group: GroupName::new(group).expect("a name"),
        key: self::key(key),
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
    a_peek_reads_memory_only(transport, node, callee).await;
    named_keys_are_fetched(transport, node, callee).await;
    keys_are_dropped(transport, node, callee).await;
    what_is_too_much_is_refused(transport, node).await;
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

async fn a_peek_reads_memory_only(transport: &dyn PeerTransport, node: &Node, callee: &Callee) {
    callee.origin.insert(key("peeked"), Value::text("5"));
    let loads = callee.origin.loads();
    let nothing = transport.peek(node, &request("scores", "peeked")).await.expect("an answer");
    assert_eq!(nothing, None);
    assert_eq!(callee.origin.loads(), loads, "it loads nothing");
    let asked = transport.get(node, &request("scores", "peeked")).await.expect("an answer");
    let peeked = transport.peek(node, &request("scores", "peeked")).await.expect("an answer").expect("a hit");
    assert_eq!((&peeked.value, peeked.digest), (&asked.value, DIGEST));
    assert!(peeked.outcome.is_cached() && peeked.remaining <= asked.remaining);
    for odd in odd_keys() {
        let peeked = transport.peek(node, &request("scores", &odd)).await.expect("an answer");
        assert_eq!(peeked.and_then(|answer| answer.value).expect("was asked for before").bytes(), &odd);
    }
    let absent = transport.peek(node, &request("scores", "nobody")).await.expect("an answer");
    assert!(matches!(absent, None | Some(PeerAnswer { value: None, .. })), "{absent:?}");
    let unknown = transport.peek(node, &request("nobody", "a")).await;
    assert!(matches!(unknown, Err(PeerError::Refused(ErrorCode::GroupNotFound))), "{unknown:?}");
}

fn handover(group: &str, from: &str, keys: impl IntoIterator<Item = Key>) -> Handover {
    Handover {
        group: GroupName::new(group).expect("a name"),
        from: Address::new(from).expect("an address"),
        keys: keys.into_iter().collect(),
        budget: Duration::from_secs(5),
    }
}

async fn named_keys_are_fetched(transport: &dyn PeerTransport, node: &Node, callee: &Callee) {
    let leaver = callee.leaver.get("scores").expect("it has one");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    leaver.get_as_owner(LEFT_KEY.as_bytes(), deadline).await.expect("its database has it");
    let loads = callee.origin.loads();
    let named = handover("scores", LEAVER, [key(LEFT_KEY), key("not in its memory")]);
    transport.handover(node, &named).await.expect("accepted");
    let fetched = callee.group().peek(LEFT_KEY.as_bytes()).expect("it was fetched before the answer");
    assert_eq!(fetched.value, Some(Value::text("444")));
    assert_eq!(callee.origin.loads(), loads, "values come from memory or not at all");

    let stranger = transport.handover(node, &handover("scores", "localhost:8", [key("a")])).await;
    assert!(matches!(stranger, Err(PeerError::Refused(ErrorCode::BadRequest))), "{stranger:?}");
    let unknown = transport.handover(node, &handover("nobody", LEAVER, [key("a")])).await;
    assert!(matches!(unknown, Err(PeerError::Refused(ErrorCode::GroupNotFound))), "{unknown:?}");
}

fn invalidation(group: &str, selection: Selection) -> Invalidation {
    let group = GroupName::new(group).expect("a name");
    Invalidation { group, selection, budget: Duration::from_secs(5) }
}

async fn keys_are_dropped(transport: &dyn PeerTransport, node: &Node, callee: &Callee) {
    let drop = async |selection| {
        transport.invalidate(node, &invalidation("scores", selection)).await.expect("acknowledged")
    };
    let has = |bytes: &[u8]| callee.group().peek(bytes).is_some();
    let odd = [key("张三"), key([0xff, 0xfe, 0x80]), key([b'%'; 1024])];
    assert!(odd.iter().all(|key| has(key.as_bytes())), "they were asked for before");
    assert_eq!(drop(Selection::Keys([&odd[..], &[key("never seen")]].concat())).await, 3);
    assert!(odd.iter().all(|key| !has(key.as_bytes())) && has(b"a"), "those, and no others");
    assert_eq!(drop(Selection::Keys(odd.to_vec())).await, 0, "the second time there is nothing left");
    assert!(has(b"a/../b") && has(b"a/b//c") && has(b"+"));
    assert_eq!(drop(Selection::Prefix(b"a/".to_vec())).await, 2);
    assert!(!has(b"a/../b") && has(b"a") && has(b"+"));
    assert!(drop(Selection::Prefix(Vec::new())).await > 5);
    assert!(!has(b"a") && !has(b"+"), "a prefix of nothing is everything");
    let most = (0..HANDOVER_KEYS_MAX).map(|n| key(format!("{n:01024}"))).collect();
    assert_eq!(drop(Selection::Keys(most)).await, 0, "the most keys at their longest fit");
    let unknown = transport.invalidate(node, &invalidation("nobody", Selection::Keys(vec![key("a")]))).await;
    assert!(matches!(unknown, Err(PeerError::Refused(ErrorCode::GroupNotFound))), "{unknown:?}");
}

async fn what_is_too_much_is_refused(transport: &dyn PeerTransport, node: &Node) {
    let many: Vec<_> = (0..=HANDOVER_KEYS_MAX).map(|n| key(n.to_string())).collect();
    let refused = transport.handover(node, &handover("scores", LEAVER, many.clone())).await;
    assert!(matches!(refused, Err(PeerError::Refused(ErrorCode::TooLarge))), "{refused:?}");
    let refused = transport.invalidate(node, &invalidation("scores", Selection::Keys(many))).await;
    assert!(matches!(refused, Err(PeerError::Refused(ErrorCode::TooLarge))), "{refused:?}");
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

#[cfg(feature = "grpc")]
#[tokio::test]
async fn grpc() {
    let (node, callee, _tasks) = listening().await;
    let transport = super::GrpcTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX);
    test_all(&transport, &node, &callee).await;
}

/// A callee on a real socket, which is asked in every way.
pub(super) async fn listening() -> (Node, Callee, crate::task::Tasks) {
    listening_as(|callee| callee).await
}

/// A callee on a real socket, changed before it is asked.
async fn listening_as(change: impl FnOnce(Callee) -> Callee) -> (Node, Callee, crate::task::Tasks) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = Address::new(&listener.local_addr().expect("bound").to_string()).expect("an address");
    let callee = change(Callee::new(&address));
    let tasks = crate::task::Tasks::new();
    let metrics = crate::telemetry::NodeMetrics::new();
    let plane = crate::net::Plane { name: "peer", listener, connections: metrics.connections("peer") };
    let (groups, views) = (Arc::clone(&callee.groups), Arc::clone(&callee.views));
    let timeout = Duration::from_secs(5);
    let service = super::PeerService::new(Arc::clone(&groups), Arc::clone(&views), metrics.clone(), timeout);
    #[cfg(feature = "grpc")]
    let rpcs = Some(crate::net::Rpcs::new(super::PeerRpcs::server(groups, views, metrics, timeout)));
    #[cfg(not(feature = "grpc"))]
    let rpcs = None;
    let limits = crate::net::LimitsConfig::default();
    tasks.spawn(crate::net::serve_with(plane, service, rpcs, limits, tasks.clone()));
    (Node::new(address), callee, tasks)
}

#[tokio::test]
async fn a_callee_that_does_not_know_the_other_nodes_sends_the_caller_on() {
    let (node, callee, _tasks) = listening_as(|callee| {
        let alone = callee.views.load().change([]);
        Callee { views: Arc::new(ViewCell::provisional(alone)), ..callee }
    })
    .await;
    let http = super::HttpTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX).expect("a client");
    let mut transports: Vec<Box<dyn PeerTransport>> = vec![Box::new(http)];
    #[cfg(feature = "grpc")]
    transports.push(Box::new(super::GrpcTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX)));
    let first_view = callee.views.load().change([]);
    for transport in &transports {
        let refused =
            transport.get(&node, &request("scores", "a")).await.expect_err("it can't tell whose it is");
        assert!(matches!(refused, PeerError::Refused(_)) && refused.final_code().is_none(), "{refused:?}");
        transport.ping(&node, Duration::from_secs(1)).await.expect("it is there");
    }
    assert_eq!(callee.origin.loads(), 0);
    callee.views.store(first_view);
    for transport in &transports {
        transport.get(&node, &request("scores", "a")).await.expect("an answer");
    }
}

#[tokio::test]
async fn a_value_beyond_the_callers_limit_is_refused() {
    let (node, _callee, _tasks) = listening().await;
    let http = super::HttpTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX - 1).expect("a client");
    let mut transports: Vec<Box<dyn PeerTransport>> = vec![Box::new(http)];
    #[cfg(feature = "grpc")]
    for too_small in [VALUE_BYTES_MAX - 1, VALUE_BYTES_MAX / 2] {
        transports.push(Box::new(super::GrpcTransport::new(Duration::from_secs(1), too_small)));
    }
    for transport in transports {
        let refused = transport.get(&node, &request("scores", "large")).await;
        assert!(matches!(refused, Err(PeerError::Malformed(_))), "{refused:?}");
    }
}
