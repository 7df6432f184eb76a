//! The client over nodes that are made up, on paused time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{
    BuildError, Client, ClientError, Endpoint, Endpoints, Fetched, StaticEndpoints,
    error::Failure,
    wire::{Connect, Wire},
};
use crate::{
    error::ErrorCode,
    group::{BoxFuture, GroupName, Key},
};

/// What a node does when it is asked.
#[derive(Clone, Copy, Debug)]
enum Act {
    Value,
    Absent,
    Silent,
    Down,
    Code(ErrorCode),
    Status(u16),
    Disbelieved,
}

/// Nodes that do as they are told, and who was asked when.
#[derive(Clone, Debug, Default)]
struct Cluster(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    acts: HashMap<String, Act>,
    asked: Vec<(String, Instant)>,
}

impl Cluster {
    /// Tells nodes with names of one letter each what to do.
    fn set(&self, nodes: &str, act: Act) {
        let mut state = self.0.lock();
        state.acts.extend(nodes.chars().map(|name| (endpoint(&name.to_string()).to_string(), act)));
    }

    fn take_asked(&self) -> Vec<(String, Instant)> {
        std::mem::take(&mut self.0.lock().asked)
    }

    /// The names of the nodes that were asked since the last call.
    fn asked(&self) -> Vec<String> {
        self.take_asked().into_iter().map(|(node, _)| node).collect()
    }
}

#[derive(Debug)]
struct FakeWire {
    cluster: Cluster,
    endpoint: Endpoint,
}

impl Connect for Cluster {
    fn connect(&self, endpoint: &Endpoint) -> Result<Arc<dyn Wire>, BuildError> {
        Ok(Arc::new(FakeWire { cluster: self.clone(), endpoint: endpoint.clone() }))
    }
}

impl Wire for FakeWire {
    fn get<'a>(
        &'a self,
        _: &'a GroupName,
        _: &'a Key,
        _: Duration,
    ) -> BoxFuture<'a, Result<Option<Fetched>, Failure>> {
        let act = {
            let mut state = self.cluster.0.lock();
            state.asked.push((self.endpoint.address.host().to_owned(), Instant::now()));
            state.acts.get(&self.endpoint.to_string()).copied().unwrap_or(Act::Value)
        };
        let node = self.endpoint.clone();
        Box::pin(async move {
            match act {
                Act::Value => Ok(Some(Fetched {
                    bytes: Bytes::from_static(b"value"),
                    content_type: None,
                    etag: None,
                    cache_status: None,
                    node,
                    attempts: 1,
                })),
                Act::Absent => Ok(None),
                Act::Silent => std::future::pending().await,
                Act::Down => Err(Failure::Unreachable(node, "refused".into())),
                Act::Code(code) => Err(Failure::Refused(node, code, String::new())),
                Act::Status(status) => Err(Failure::Status(node, status)),
                Act::Disbelieved => Err(Failure::Disbelieved(node, "unknown issuer".into())),
            }
        })
    }
}

fn endpoint(name: &str) -> Endpoint {
    format!("http://{name}:1").parse().expect("valid")
}

fn endpoints(names: &str) -> Vec<Endpoint> {
    names.chars().map(|name| endpoint(&name.to_string())).collect()
}

fn client_of(endpoints: impl Endpoints, cluster: &Cluster) -> Client {
    Client::builder().endpoints(endpoints).build_with(Box::new(cluster.clone())).expect("it has nodes")
}

/// A client of nodes with names of one letter each.
fn client(names: &str) -> (Client, Cluster) {
    let cluster = Cluster::default();
    (client_of(StaticEndpoints::new(endpoints(names)), &cluster), cluster)
}

async fn get(client: &Client) -> Result<Option<Fetched>, ClientError> {
    client.get(&GroupName::new("g").expect("valid"), &Key::new("k").expect("valid")).await
}

#[tokio::test(start_paused = true)]
async fn nodes_are_asked_in_turn_from_a_random_start() {
    let mut starts = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let (client, cluster) = client("abc");
        for _ in 0..6 {
            assert!(get(&client).await.expect("an answer").is_some());
        }
        let asked = cluster.asked();
        assert_eq!(asked[..3], asked[3..]);
        let once: std::collections::BTreeSet<_> = asked[..3].iter().collect();
        assert_eq!(once.len(), 3);
        starts.insert(asked[0].clone());
    }
    assert_eq!(starts.len(), 3, "every node begins for some client");
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_another_node_than_the_one_that_failed() {
    for act in [Act::Down, Act::Code(ErrorCode::OriginBusy), Act::Status(502)] {
        let (client, cluster) = client("ab");
        cluster.set("ab", act);
        let error = get(&client).await.expect_err("both fail");
        assert!(error.is_retryable(), "{error:?}");
        let asked = cluster.asked();
        assert!(asked.len() > 2 && error.attempts() == asked.len(), "{asked:?}");
        assert!(asked.windows(2).all(|pair| pair[0] != pair[1]), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_final_is_not_tried_again() {
    for (act, code) in [
        (Act::Code(ErrorCode::GroupNotFound), ErrorCode::GroupNotFound),
        (Act::Code(ErrorCode::BadRequest), ErrorCode::BadRequest),
        (Act::Code(ErrorCode::TooLarge), ErrorCode::TooLarge),
        (Act::Status(404), ErrorCode::PeerUnavailable),
        (Act::Status(429), ErrorCode::PeerUnavailable),
        (Act::Status(500), ErrorCode::PeerUnavailable),
    ] {
        let (client, cluster) = client("abc");
        cluster.set("abc", act);
        let error = get(&client).await.expect_err("an error");
        assert_eq!((error.code(), error.is_retryable(), error.attempts()), (code, false, 1), "{act:?}");
        assert_eq!(cluster.asked().len(), 1, "{act:?}");
    }
    let (client, cluster) = client("abc");
    cluster.set("abc", Act::Absent);
    assert_eq!(get(&client).await.expect("an absence is no error"), None);
    assert_eq!(cluster.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_believed_is_final_at_its_node() {
    let (client, cluster) = client("abc");
    cluster.set("abc", Act::Disbelieved);
    let error = get(&client).await.expect_err("nobody is believed");
    assert_eq!((error.code(), error.is_retryable()), (ErrorCode::PeerUnavailable, false));
    let mut asked = cluster.asked();
    asked.sort();
    assert_eq!(asked, ["a", "b", "c"], "each is asked once");
    cluster.set("c", Act::Value);
    assert!(get(&client).await.expect("one is believed").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_leaves_time_for_others() {
    let (client, cluster) = client("abc");
    cluster.set("a", Act::Silent);
    for _ in 0..3 {
        let begun = Instant::now();
        let fetched = get(&client).await.expect("the others answer").expect("a value");
        let took = begun.elapsed();
        if fetched.attempts == 2 {
            assert!(took >= Duration::from_millis(666) && took < Duration::from_millis(680), "{took:?}");
            return;
        }
    }
    panic!("the silent node had its turn");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_all_attempts_together() {
    for deadline in [10, 60, 500, 2000].map(Duration::from_millis) {
        let (client, cluster) = client("abc");
        cluster.set("abc", Act::Silent);
        let begun = Instant::now();
        let group = GroupName::new("g").expect("valid");
        let key = Key::new("k").expect("valid");
        let error = client.get_until(&group, &key, begun + deadline).await.expect_err("all are silent");
        assert_eq!(error.code(), ErrorCode::DeadlineExceeded);
        // The clock of the tests counts whole milliseconds, up.
        assert!(begun.elapsed() <= deadline + Duration::from_millis(1), "{:?}", begun.elapsed());
        assert!(cluster.take_asked().iter().all(|(_, at)| *at < begun + deadline));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_failed_comes_last_and_comes_back() {
    let (client, cluster) = client("abc");
    cluster.set("a", Act::Down);
    for _ in 0..3 {
        get(&client).await.expect("the others answer");
    }
    cluster.asked();
    for _ in 0..30 {
        get(&client).await.expect("the others answer");
    }
    let asked = cluster.asked();
    let count = |name: &str| asked.iter().filter(|node| *node == name).count();
    assert_eq!((count("a"), count("b"), count("c")), (0, 15, 15), "the others share its part");

    // It is tried now and then, by one request, which another node then answers.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        get(&client).await.expect("the others answer");
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    let tries = cluster.asked().iter().filter(|node| *node == "a").count();
    assert!((4..=9).contains(&tries), "{tries}");

    cluster.set("a", Act::Value);
    tokio::time::advance(Duration::from_secs(2)).await;
    for _ in 0..10 {
        get(&client).await.expect("all answer");
    }
    let asked = cluster.asked();
    assert!(asked.iter().filter(|node| *node == "a").count() >= 3, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_down_is_no_reason_to_avoid_a_node() {
    let (client, cluster) = client("ab");
    cluster.set("a", Act::Code(ErrorCode::OriginUnavailable));
    for _ in 0..10 {
        get(&client).await.expect("b answers");
    }
    let asked = cluster.asked();
    assert!(asked.iter().filter(|node| *node == "a").count() >= 5, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_multiply_the_load() {
    let (client, cluster) = client("abc");
    for _ in 0..2000 {
        get(&client).await.expect("all is well");
    }
    cluster.asked();
    cluster.set("abc", Act::Code(ErrorCode::OriginUnavailable));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let client = client.clone();
        running.spawn(async move { get(&client).await.is_err() });
    }
    assert!(running.join_all().await.into_iter().all(|failed| failed));
    let retries = cluster.asked().len() - 1000;
    // A fifth of 3,000, and the few that are free.
    assert!(retries > 500 && retries <= 650, "{retries}");
}

/// A list that the test changes.
#[derive(Debug)]
struct Changing(watch::Sender<Vec<Endpoint>>);

impl Endpoints for Arc<Changing> {
    fn watch(&self) -> watch::Receiver<Vec<Endpoint>> {
        self.0.subscribe()
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_come_and_go() {
    let list = Arc::new(Changing(watch::Sender::new(Vec::new())));
    let cluster = Cluster::default();
    let client = client_of(Arc::clone(&list), &cluster);

    let begun = Instant::now();
    let error = get(&client).await.expect_err("no node is known");
    assert_eq!((error.code(), error.attempts()), (ErrorCode::PeerUnavailable, 0));
    assert!(error.is_retryable() && begun.elapsed() >= Duration::from_secs(2));

    let waiting = tokio::spawn({
        let client = client.clone();
        async move { get(&client).await }
    });
    tokio::task::yield_now().await;
    list.0.send_replace(endpoints("a"));
    assert!(waiting.await.expect("no panic").is_ok(), "a read waits for the first list");
    assert_eq!(cluster.asked(), ["a"]);

    list.0.send_replace(endpoints("bc"));
    for _ in 0..4 {
        get(&client).await.expect("an answer");
    }
    let mut asked = cluster.asked();
    asked.sort();
    assert_eq!(asked, ["b", "b", "c", "c"]);

    list.0.send_replace(Vec::new());
    get(&client).await.expect("an empty list is not believed");
    assert_eq!(cluster.asked().len(), 1);
}

#[test]
fn a_client_needs_nodes_and_time() {
    assert!(matches!(Client::builder().build(), Err(BuildError::NoAddresses)));
    assert!(matches!(Client::builder().addresses([]).build(), Err(BuildError::NoAddresses)));
    let no_time = Client::builder().addresses([endpoint("a")]).deadline(Duration::ZERO).build();
    assert!(matches!(no_time, Err(BuildError::NoTime)));
}
