//! What every transport must do, proved against a real group behind it.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::PeerGate;
use crate::{
    access::{PeerSecret, Sealer, Secrets, Verifier},
    cluster::{Address, Epoch, Node, View, ViewCell},
    error::ErrorCode,
    group::{
        ContentKind, Group, GroupConfig, GroupLog, GroupName, GroupParts, GroupSettings, Groups,
        HANDOVER_KEYS_MAX, Handover, Invalidation, Key, LoadError, LogCell, LogId, Outcome, PEEKED_BYTES_MAX,
        PeekMany, PeerAnswer, PeerBatch, PeerError, PeerRequest, PeerTransport, Peers, Position, Selection,
        Value,
    },
    net::Tls,
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

/// A group that goes by a log of changes, and up to where it has applied it.
const LOGGED: &str = "logged";
const APPLIED: Position = Position { log: LogId(0xfedc_ba98_7654_3210), seq: u64::MAX - 1 };

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

    fn group(&self) -> Arc<Group> {
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
    let cell = LogCell::new();
    let log = Some(GroupLog { cell: Arc::clone(&cell), append: None });
    let logged = GroupParts {
        loader: Box::new(MapLoader::new([(key("a"), Value::text("1"))])),
        peers: Arc::clone(&parts.peers),
        clock: Arc::clone(&parts.clock),
        tasks: parts.tasks.clone(),
        metrics: parts.metrics.clone(),
        log,
        writer: None,
    };
    let group = Group::new(name, GroupConfig::default(), settings, parts);
    let name = GroupName::new(LOGGED).expect("a name");
    let logged = Group::new(name, GroupConfig::default(), settings, logged);
    logged.set_logged(true);
    cell.advance(APPLIED);
    tokio::spawn({
        let group = Arc::clone(&logged);
        // Reads a log in which nothing happens.
        async move {
            loop {
                let look = cell.begin_look();
                cell.end_look(look, Some(group.now()));
                let _ = tokio::time::timeout(Duration::from_millis(20), cell.wanted()).await;
            }
        }
    });
    Arc::new(Groups::new([group, logged], None).expect("two groups"))
}

pub(super) fn request(group: &str, key: impl AsRef<[u8]>) -> PeerRequest {
    PeerRequest {
        group: GroupName::new(group).expect("a name"),
        key: self::key(key),
        epoch: Epoch(1),
        budget: Duration::from_secs(5),
        digest: DIGEST,
        is_fresh: false,
        need: None,
        trace: None,
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
    many_are_one_load(transport, node, callee).await;
    a_fresh_read_loads_again(transport, node, callee).await;
    a_look_at_many_keeps_their_order(transport, node, callee).await;
    named_keys_are_fetched(transport, node, callee).await;
    keys_are_dropped(transport, node, callee).await;
    what_is_needed_of_the_log_is_held_to(transport, node, callee).await;
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

fn batch(group: &str, keys: &[&str], only_cached: bool) -> PeerBatch {
    PeerBatch {
        group: GroupName::new(group).expect("a name"),
        keys: keys.iter().map(key).collect(),
        epoch: Epoch(1),
        budget: Duration::from_secs(5),
        digest: DIGEST,
        only_cached,
        need: None,
    }
}

async fn many_are_one_load(transport: &dyn PeerTransport, node: &Node, callee: &Callee) {
    callee.origin.insert(key("batch-1"), Value::text("1"));
    callee.origin.insert(key("batch-2"), Value::text("2"));
    let loads = callee.origin.loads();
    let keys = ["batch-2", "batch-nobody", "json", "batch-1"];
    let cached = transport.get_many(node, &batch("scores", &keys, true)).await.expect("an answer");
    let found: Vec<_> = cached.iter().map(|word| word.as_ref().expect("no error").is_some()).collect();
    assert_eq!(found, [false, false, true, false], "what is in memory");
    assert_eq!(callee.origin.loads(), loads, "nothing was loaded");
    let words = transport.get_many(node, &batch("scores", &keys, false)).await.expect("an answer");
    assert_eq!(callee.origin.loads(), loads + 1, "one load for all");
    let answers: Vec<_> = words.into_iter().map(|word| word.expect("no error").expect("an answer")).collect();
    let values: Vec<_> = answers.iter().map(|answer| answer.value.clone()).collect();
    let json = Value::new("{\"a\":1}", ContentKind::Json);
    assert_eq!(values, [Some(Value::text("2")), None, Some(json), Some(Value::text("1"))]);
    let outcomes: Vec<_> = answers.iter().map(|answer| answer.outcome).collect();
    assert_eq!(outcomes, [Outcome::Load, Outcome::Load, Outcome::Hit, Outcome::Load]);
    assert!(answers.iter().all(|answer| answer.digest == DIGEST && answer.remaining > Duration::ZERO));
    callee.origin.set_failure(Some(LoadError::unavailable("on purpose")));
    let words = transport.get_many(node, &batch("scores", &["batch-1", "batch-failing"], false)).await;
    callee.origin.set_failure(None);
    let words = words.expect("an answer");
    assert!(words[0].is_ok(), "{words:?}");
    assert_eq!(words[1], Err(ErrorCode::OriginUnavailable), "each has its own");
    let unknown = transport.get_many(node, &batch("nobody", &["a"], false)).await;
    assert!(matches!(unknown, Err(PeerError::Refused(ErrorCode::GroupNotFound))), "{unknown:?}");
}

async fn a_fresh_read_loads_again(transport: &dyn PeerTransport, node: &Node, callee: &Callee) {
    callee.origin.insert(key("fresh"), Value::text("1"));
    let asked = transport.get(node, &request("scores", "fresh")).await.expect("an answer");
    assert_eq!(asked.value, Some(Value::text("1")));
    callee.origin.insert(key("fresh"), Value::text("2"));
    let asked = transport.get(node, &request("scores", "fresh")).await.expect("an answer");
    assert_eq!(asked.value, Some(Value::text("1")), "from memory");
    let fresh = PeerRequest { is_fresh: true, ..request("scores", "fresh") };
    for request in [fresh, request("scores", "fresh")] {
        let asked = transport.get(node, &request).await.expect("an answer");
        assert_eq!(asked.value, Some(Value::text("2")), "and what was loaded is kept");
    }
}

async fn a_look_at_many_keeps_their_order(transport: &dyn PeerTransport, node: &Node, callee: &Callee) {
    let look = |group: &str, keys: Vec<Key>| PeekMany {
        group: GroupName::new(group).expect("a name"),
        keys,
        budget: Duration::from_secs(5),
    };
    let half = "x".repeat(PEEKED_BYTES_MAX / 2 + 1);
    for (name, value) in [("many-1", "1"), ("many-2", "2"), ("large-1", &*half), ("large-2", &*half)] {
        callee.origin.insert(key(name), Value::text(value));
        transport.get(node, &request("scores", name)).await.expect("an answer");
    }
    transport.get(node, &request("scores", "nobody at all")).await.expect("an answer");
    let loads = callee.origin.loads();
    let keys = ["many-2", "never asked for", "nobody at all", "many-1"].map(key).to_vec();
    let answers = transport.peek_many(node, &look("scores", keys)).await.expect("an answer");
    let values: Vec<_> = answers.into_iter().map(|answer| answer.map(|answer| answer.value)).collect();
    let expected = [Some(Some(Value::text("2"))), None, Some(None), Some(Some(Value::text("1")))];
    assert_eq!(values, expected);
    let mut odd: Vec<Key> = odd_keys().into_iter().map(key).collect();
    odd.truncate(HANDOVER_KEYS_MAX);
    let answers = transport.peek_many(node, &look("scores", odd.clone())).await.expect("an answer");
    for (key, answer) in odd.iter().zip(answers) {
        let value = answer.and_then(|answer| answer.value).expect("was asked for before");
        assert_eq!(value.bytes(), key.as_bytes());
    }
    let keys = ["large-1", "large-2", "many-1"].map(key).to_vec();
    let answers = transport.peek_many(node, &look("scores", keys)).await.expect("an answer");
    assert_eq!(answers.len(), 1, "the rest is asked for again");
    assert_eq!(callee.origin.loads(), loads, "it loads nothing");
    let unknown = transport.peek_many(node, &look("nobody", vec![key("a")])).await;
    assert!(matches!(unknown, Err(PeerError::Refused(ErrorCode::GroupNotFound))), "{unknown:?}");
    let many = (0..=HANDOVER_KEYS_MAX).map(|index| key(index.to_string())).collect();
    let refused = transport.peek_many(node, &look("scores", many)).await;
    assert!(matches!(refused, Err(PeerError::Refused(ErrorCode::TooLarge))), "{refused:?}");
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
    leaver.get_as_owner(LEFT_KEY.as_bytes(), None, deadline).await.expect("its database has it");
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
    Invalidation { group, selection, position: None, budget: Duration::from_secs(5) }
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

async fn what_is_needed_of_the_log_is_held_to(transport: &dyn PeerTransport, node: &Node, callee: &Callee) {
    let behind =
        |result: &Result<_, PeerError>| matches!(result, Err(PeerError::Refused(ErrorCode::PeerUnavailable)));
    let needs = [
        (None, true),
        (Some(APPLIED), true),
        (Some(Position { seq: 0, ..APPLIED }), true),
        (Some(Position { seq: u64::MAX, ..APPLIED }), false),
        (Some(Position { log: LogId(1), seq: 0 }), false),
    ];
    for (need, is_met) in needs {
        let asked = PeerRequest { need, ..request(LOGGED, "a") };
        let answer = transport.get(node, &asked).await.map(|answer| answer.cursor);
        assert_eq!(answer.as_ref().ok(), is_met.then_some(&Some(APPLIED)), "{need:?}");
        assert!(is_met || behind(&answer), "another node may do better: {answer:?}");
        let words = transport.get_many(node, &PeerBatch { need, ..batch(LOGGED, &["a"], true) }).await;
        let cursor = words
            .as_ref()
            .ok()
            .map(|words| words[0].as_ref().ok().and_then(Option::as_ref).expect("it is in memory").cursor);
        // What needs nothing is told nothing over HTTP, where older nodes ask the same.
        let told = [Some(APPLIED), need.and(Some(APPLIED))];
        assert!(
            if is_met { told.map(Some).contains(&cursor) } else { cursor.is_none() },
            "{need:?}: {words:?}"
        );
        let drop = Invalidation { position: need, ..invalidation(LOGGED, Selection::Keys(vec![key("b")])) };
        assert_eq!(transport.invalidate(node, &drop).await.is_ok(), is_met, "{need:?}");
    }
    let peeked = transport.peek(node, &request(LOGGED, "a")).await.expect("an answer");
    assert_eq!(peeked.expect("it is in memory").cursor, Some(APPLIED));
    let many = PeekMany {
        group: GroupName::new(LOGGED).expect("a name"),
        keys: vec![key("a")],
        budget: Duration::from_secs(5),
    };
    let peeked = transport.peek_many(node, &many).await.expect("an answer");
    assert_eq!(peeked[0].as_ref().expect("it is in memory").cursor, Some(APPLIED));
    let plain = transport.get(node, &request("scores", "a")).await.expect("an answer");
    assert_eq!(plain.cursor, None);
    let asked = PeerRequest { need: Some(APPLIED), ..request("scores", "a") };
    let unlogged = transport.get(node, &asked).await.map(|answer| answer.cursor);
    assert!(behind(&unlogged), "it has no log");
    assert!(callee.groups.get(LOGGED).expect("it has one").is_logged());
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
    let transport =
        super::HttpTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX, None).expect("a client");
    test_all(&transport, &node, &callee).await;
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn grpc() {
    let (node, callee, _tasks) = listening().await;
    let transport = super::GrpcTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX, None);
    test_all(&transport, &node, &callee).await;
}

/// What one node seals by, and another looks at; `letter` is the secret.
fn secrets(letter: &str) -> Secrets {
    Secrets::new(PeerSecret::new(letter.repeat(40)), None)
}

/// One of each transport, which seal by the secret of this letter, if one is given.
fn sealing(letter: Option<&str>) -> Vec<Box<dyn PeerTransport>> {
    let sealer = || letter.map(|letter| Arc::new(Sealer::new(&secrets(letter)).expect("a random number")));
    let http = super::HttpTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX, None).expect("a client");
    Vec::from([
        Box::new(http.sealing(sealer())) as Box<dyn PeerTransport>,
        #[cfg(feature = "grpc")]
        Box::new(super::GrpcTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX, None).sealing(sealer())),
    ])
}

#[tokio::test]
async fn what_is_sealed_is_answered_like_what_need_not_be() {
    for at in 0..sealing(None).len() {
        let (node, callee, _tasks) = listening_behind(Some("a"), None, |callee| callee).await;
        test_all(&*sealing(Some("a")).remove(at), &node, &callee).await;
    }
}

#[tokio::test]
async fn strangers_are_refused_whatever_they_ask() {
    let (node, callee, _tasks) = listening_behind(Some("a"), None, |callee| callee).await;
    let other_name =
        Address::new(&node.address.as_str().replace("127.0.0.1", "localhost")).expect("an address");
    let other_name = Node::new(other_name);
    for (letter, node) in [(None, &node), (Some("b"), &node), (Some("a"), &other_name)] {
        for transport in sealing(letter) {
            let budget = Duration::from_secs(5);
            let invalidation = invalidation("scores", Selection::Prefix(Vec::new()));
            let refused = [
                transport.ping(node, budget).await.err(),
                transport.get(node, &request("scores", "a")).await.err(),
                transport.get(node, &request("nobody", "a")).await.err(),
                transport.peek(node, &request("scores", "a")).await.err(),
                transport.invalidate(node, &invalidation).await.err(),
                transport.handover(node, &handover("scores", LEAVER, vec![key("a")])).await.err(),
            ];
            for error in refused {
                let error = error.expect("refused");
                assert!(matches!(error, PeerError::Refused(ErrorCode::Unauthenticated)), "{error:?}");
                assert!(error.final_code().is_none(), "another node may let it in");
            }
        }
    }
    assert_eq!(callee.origin.loads(), 0);
}

#[tokio::test]
async fn a_node_without_the_secret_answers_one_that_has_it() {
    let (node, _callee, _tasks) = listening().await;
    for transport in sealing(Some("a")) {
        transport.get(&node, &request("scores", "a")).await.expect("an answer");
    }
}

/// A callee on a real socket, which is asked in every way.
pub(super) async fn listening() -> (Node, Callee, crate::task::Tasks) {
    listening_as(|callee| callee).await
}

/// A callee on a real socket, changed before it is asked.
async fn listening_as(change: impl FnOnce(Callee) -> Callee) -> (Node, Callee, crate::task::Tasks) {
    listening_behind(None, None, change).await
}

/// As [`listening_as`], with TLS, and for those only who may become peers.
pub(super) async fn listening_with(
    change: impl FnOnce(Callee) -> Callee,
    tls: Option<(Tls, PeerGate)>,
) -> (Node, Callee, crate::task::Tasks) {
    listening_behind(None, tls, change).await
}

/// A callee that answers what is sealed by the secret of this letter, if one is given; with TLS, and for those only who
/// may become peers, if that is given.
async fn listening_behind(
    letter: Option<&str>,
    tls: Option<(Tls, PeerGate)>,
    change: impl FnOnce(Callee) -> Callee,
) -> (Node, Callee, crate::task::Tasks) {
    let (tls, gate) = tls.unzip();
    let since_ms = super::unix_time_ms() - 1;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = Address::new(&listener.local_addr().expect("bound").to_string()).expect("an address");
    let callee = change(Callee::new(&address));
    let tasks = crate::task::Tasks::new();
    let metrics = crate::telemetry::NodeMetrics::new();
    let plane = crate::net::Plane { name: "peer", listener, tls, connections: metrics.connections("peer") };
    let (groups, views) = (Arc::clone(&callee.groups), Arc::clone(&callee.views));
    let timeout = Duration::from_secs(5);
    let verifier = letter.map(|letter| Arc::new(Verifier::new(&secrets(letter), address.as_str(), since_ms)));
    let service = super::PeerService::new(Arc::clone(&groups), Arc::clone(&views), metrics.clone(), timeout)
        .verifying(verifier.clone())
        .guarded(gate.clone());
    #[cfg(feature = "grpc")]
    let peers = super::PeerRpcs::server(groups, views, metrics, timeout, gate, verifier);
    #[cfg(feature = "grpc")]
    let rpcs = Some(crate::net::Rpcs::new(peers));
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
    let http = super::HttpTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX, None).expect("a client");
    #[cfg_attr(not(feature = "grpc"), expect(unused_mut, reason = "the other one is pushed"))]
    let mut transports: Vec<Box<dyn PeerTransport>> = vec![Box::new(http)];
    #[cfg(feature = "grpc")]
    transports.push(Box::new(super::GrpcTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX, None)));
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
    // The second is below what a gRPC message may have.
    for transport in [VALUE_BYTES_MAX - 1, VALUE_BYTES_MAX / 2].into_iter().flat_map(on_sockets) {
        let refused = transport.get(&node, &request("scores", "large")).await;
        assert!(matches!(refused, Err(PeerError::Refused(ErrorCode::TooLarge))), "{refused:?}");
    }
}

/// The transports that use sockets.
fn on_sockets(value_bytes_max: usize) -> Vec<Box<dyn PeerTransport>> {
    let timeout = Duration::from_secs(1);
    Vec::from([
        Box::new(super::HttpTransport::new(timeout, value_bytes_max, None).expect("a client"))
            as Box<dyn PeerTransport>,
        #[cfg(feature = "grpc")]
        Box::new(super::GrpcTransport::new(timeout, value_bytes_max, None)),
    ])
}

#[tokio::test]
async fn nobody_is_asked_at_a_link_local_address() {
    for transport in on_sockets(VALUE_BYTES_MAX) {
        // The last is a name to who reads it as one, and an address to resolvers.
        for address in ["169.254.1.1:1", "[fe80::1]:1", "0xa9fe0101:1"] {
            let node = Node::new(Address::new(address).expect("an address"));
            let refused = transport.get(&node, &request("scores", "a")).await.expect_err("never a peer");
            assert!(matches!(refused, PeerError::Unreachable(_)), "{refused:?}");
            let mut cause: Option<&dyn std::error::Error> = Some(&refused);
            let causes = std::iter::from_fn(|| {
                let this = cause?;
                cause = this.source();
                Some(this.to_string())
            });
            let causes: Vec<_> = causes.collect();
            assert!(causes.last().is_some_and(|last| last.contains("never peers")), "{address}: {causes:?}");
        }
    }
}

/// Answers whoever asks with a code of a newer version.
async fn newer_node() -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = Address::new(&listener.local_addr().expect("bound").to_string()).expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut head, mut piece) = (Vec::new(), [0; 1024]);
            while !head.ends_with(b"\r\n\r\n") {
                let read = stream.read(&mut piece).await.expect("a request");
                head.extend_from_slice(&piece[..read]);
            }
            let answer = b"HTTP/1.1 409 Conflict\r\nggcache-error: code_of_tomorrow\r\ncontent-length: 0\r\n\
                           connection: close\r\n\r\n";
            stream.write_all(answer).await.expect("the caller waits");
        }
    });
    address
}

#[tokio::test]
async fn a_newer_node_is_not_ejected_for_what_it_says() {
    let (me, newer) = (Address::new("localhost:1").expect("an address"), newer_node().await);
    let nodes = [Node::new(newer.clone())];
    let views = Arc::new(ViewCell::new(View::new(Node::new(me), nodes, 8)));
    let origin = Arc::new(MapLoader::default());
    let transport =
        super::HttpTransport::new(Duration::from_secs(1), VALUE_BYTES_MAX, None).expect("a client");
    let parts = GroupParts::alone(Arc::clone(&origin));
    let (clock, tasks, metrics) = (Arc::clone(&parts.clock), parts.tasks.clone(), parts.metrics.clone());
    let patience = Duration::from_secs(5);
    let peers = Peers::new(Arc::new(transport), views, clock, tasks, metrics, patience);
    let parts = GroupParts { peers: Arc::clone(&peers), ..parts };
    let name = GroupName::new("scores").expect("a name");
    // The machine may be busy.
    let settings = GroupSettings { flight_timeout: patience, ..GroupSettings::default() };
    let group = Group::new(name, GroupConfig::default(), settings, parts);
    let asked = 40;
    for key in 0..asked {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let answer = group.get(key.to_string().as_bytes(), deadline).await.expect("the database is asked");
        assert_eq!(answer.value, None);
    }
    assert_eq!(origin.loads(), asked, "what it does not answer is read here");
    let refused = peers.health().into_iter().find(|peer| peer.address == newer);
    assert!(refused.is_none_or(|peer| peer.state == "healthy" && peer.failures == 0), "{:?}", peers.health());
}
