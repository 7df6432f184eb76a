//! Reads of many keys at once, reads that share their messages, and reads that say how they want to be answered.

use std::{sync::Arc, time::Duration};

use ggcache::{
    cluster::{Address, place},
    error::ErrorCode,
    group::{GetError, GroupConfig, GroupSettings, Key, Outcome},
    transport::Fault,
};
use tokio::time::Instant;

use super::{GROUP, TestCluster, TestNode, config, key, only};

/// More than any test's values.
const BYTES_MAX: usize = 1 << 20;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

/// Keys of which `owner` owns each, and the database has each but the last.
fn owned_by(cluster: &TestCluster, owner: &TestNode, count: usize) -> Vec<Key> {
    let view = owner.views.load_full();
    let mine = |name: &String| view.owner(place(GROUP, name.as_bytes())).address == owner.address;
    let names: Vec<String> = (0..).map(|n| format!("key-{n}")).filter(mine).take(count).collect();
    for name in &names[..count - 1] {
        cluster.database.set(name, name);
    }
    names.iter().map(|name| key(name)).collect()
}

#[tokio::test(start_paused = true)]
async fn many_keys_are_one_message_and_one_query_for_each_owner() {
    let cluster = TestCluster::new(3);
    let keys: Vec<Key> = cluster.nodes.iter().flat_map(|node| owned_by(&cluster, node, 50)).collect();
    let asked = &cluster.nodes[0];
    // By now no node peeks any more at who may have had the keys before it started.
    tokio::time::sleep(config().ttl).await;
    let (requests, queries) = (cluster.network.requests(), cluster.database.queries());
    for outcomes in [[Outcome::Load, Outcome::Peer], [Outcome::Hit, Outcome::Peer]] {
        let results = asked.group.get_many(&keys, BYTES_MAX, soon()).await;
        assert_eq!(results.len(), keys.len());
        for (at, (key, result)) in keys.iter().zip(results).enumerate() {
            let answer = result.expect("an answer");
            let expected = (at % 50 != 49).then_some(key.as_bytes());
            assert_eq!(answer.value.as_ref().map(|value| value.bytes().as_ref()), expected);
            let outcome = outcomes[usize::from(at >= 50)];
            let expected =
                if expected.is_none() && outcome == Outcome::Hit { Outcome::Negative } else { outcome };
            assert_eq!(answer.outcome, expected, "{at}");
        }
        assert_eq!(cluster.database.queries(), queries + 3, "one for each owner, and none again");
    }
    assert_eq!(cluster.network.requests(), requests + 4, "one for each other owner, twice");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_there_twice_is_read_once_and_order_is_kept() {
    let cluster = TestCluster::new(1);
    let keys = ["anna", "nobody", "anna", "anna"].map(key);
    let results = cluster.nodes[0].group.get_many(&keys, BYTES_MAX, soon()).await;
    let found: Vec<_> =
        results.into_iter().map(|result| result.expect("an answer").value.is_some()).collect();
    assert_eq!(found, [true, false, true, true]);
    assert_eq!(cluster.database.queries(), 1);
    assert!(cluster.nodes[0].group.get_many(&[], BYTES_MAX, soon()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn keys_of_an_owner_that_is_down_are_asked_of_the_next_node() {
    let cluster = TestCluster::new(3);
    let down = &cluster.nodes[2];
    let keys = owned_by(&cluster, down, 20);
    cluster.network.detach(&down.address);
    let queries = cluster.database.queries();
    let results = cluster.nodes[0].group.get_many(&keys, BYTES_MAX, soon()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    // Some are the asked node's to answer now, some the third's.
    let by_peer =
        results.iter().filter(|result| matches!(result, Ok(answer) if answer.outcome == Outcome::Peer));
    let by_peer = by_peer.count();
    assert!(by_peer > 0 && by_peer < keys.len(), "{by_peer}");
    assert_eq!(cluster.database.queries(), queries + 2, "each node that is left sent one");
}

#[tokio::test(start_paused = true)]
async fn a_silent_owner_of_some_keys_does_not_take_the_others_answers_away() {
    let cluster = TestCluster::new(3);
    let [asked, silent, well] = [0, 1, 2].map(|index| &cluster.nodes[index]);
    cluster.network.fault(&asked.address, &silent.address, Some(Fault::Silence));
    let keys: Vec<Key> =
        [asked, silent, well].into_iter().flat_map(|node| owned_by(&cluster, node, 5)).collect();
    let results = asked.group.get_many(&keys, BYTES_MAX, soon()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_fails_its_keys_only() {
    let cluster = TestCluster::new(2);
    let keys = owned_by(&cluster, &cluster.nodes[1], 4);
    cluster.nodes[0].group.get_many(&keys[..2], BYTES_MAX, soon()).await;
    *cluster.database.broken.lock() = true;
    let results = cluster.nodes[0].group.get_many(&keys, BYTES_MAX, soon()).await;
    let codes: Vec<_> = results.iter().map(|result| result.as_ref().err().map(GetError::code)).collect();
    let failed = Some(ErrorCode::OriginUnavailable);
    assert_eq!(codes, [None, None, failed, failed]);
    assert_eq!(cluster.database.queries(), 2, "nobody else asks a database that failed");
}

#[tokio::test(start_paused = true)]
async fn no_more_is_fetched_than_may_be_answered() {
    let cluster = TestCluster::new(2);
    let keys = owned_by(&cluster, &cluster.nodes[1], 9);
    let large = "x".repeat(600_000);
    for key in &keys {
        cluster.database.set(std::str::from_utf8(key.as_bytes()).expect("text"), &large);
    }
    let results = cluster.nodes[0].group.get_many(&keys, 1_000_000, soon()).await;
    let fetched = results.iter().filter(|result| result.is_ok()).count();
    assert!((1..=3).contains(&fetched), "{fetched}");
    let left = results.iter().filter_map(|result| result.as_ref().err());
    assert!(left.clone().count() > 0 && left.clone().all(|error| error.code() == ErrorCode::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn many_join_a_load_that_is_under_way() {
    let cluster = TestCluster::new(1);
    cluster.database.slow(Duration::from_millis(100));
    let node = &cluster.nodes[0];
    let group = Arc::clone(&node.group);
    let one = tokio::spawn(async move { group.get(b"anna", soon()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let results = node.group.get_many(&["anna", "nobody"].map(key), BYTES_MAX, soon()).await;
    let answer = results[0].as_ref().expect("an answer");
    assert!(answer.collapsed && answer.value.is_some());
    one.await.expect("no panic").expect("an answer");
    assert_eq!(cluster.database.queries(), 2, "one for anna, one for nobody");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_keeps_out_what_a_query_for_many_brings() {
    let cluster = TestCluster::new(1);
    cluster.database.slow(Duration::from_millis(100));
    let node = &cluster.nodes[0];
    let group = Arc::clone(&node.group);
    cluster.database.set("b", "old");
    let many = tokio::spawn(async move { group.get_many(&["anna", "b"].map(key), BYTES_MAX, soon()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    cluster.database.set("b", "new");
    node.group.invalidate(&only("b"));
    // Whoever asks now waits for a query of its own.
    assert_eq!(node.text("b").await.as_deref(), Some("new"));
    many.await.expect("no panic");
    assert_eq!(node.text("b").await.as_deref(), Some("new"));
    assert_eq!(cluster.database.queries(), 2);
}

/// Keys that are in the owner's memory already.
async fn in_memory(cluster: &TestCluster, owner: &TestNode, count: usize) -> Vec<Key> {
    let keys = owned_by(cluster, owner, count + 1)[..count].to_vec();
    owner.group.get_many(&keys, BYTES_MAX, soon()).await;
    keys
}

#[tokio::test(start_paused = true)]
async fn reads_of_one_node_share_messages() {
    let cluster = TestCluster::new(2);
    let [asked, owner] = [0, 1].map(|index| &cluster.nodes[index]);
    let keys = in_memory(&cluster, owner, 100).await;
    cluster.network.fault(&asked.address, &owner.address, Some(Fault::Delay(Duration::from_micros(300))));
    let before = cluster.network.requests();
    let reads = keys.iter().cloned().map(|key| {
        let group = Arc::clone(&asked.group);
        tokio::spawn(async move { (group.get(key.as_bytes(), soon()).await, key) })
    });
    for read in reads.collect::<Vec<_>>() {
        let (answer, key) = read.await.expect("no panic");
        let value = answer.expect("an answer").value.expect("a value");
        assert_eq!(value.bytes(), key.as_bytes(), "each gets its own");
    }
    let sent = cluster.network.requests() - before;
    assert!(sent <= 3, "{sent} messages for 100 reads");
}

#[tokio::test(start_paused = true)]
async fn a_load_of_one_key_holds_up_no_other() {
    let cluster = TestCluster::new(2);
    let [asked, owner] = [0, 1].map(|index| &cluster.nodes[index]);
    let warm = in_memory(&cluster, owner, 20).await;
    let cold = owned_by(&cluster, owner, 40)[30].clone();
    cluster.database.slow(Duration::from_millis(200));
    let begun = Instant::now();
    let slow = {
        let (group, cold) = (Arc::clone(&asked.group), cold.clone());
        tokio::spawn(async move { group.get(cold.as_bytes(), soon()).await })
    };
    let reads = warm.into_iter().map(|key| {
        let group = Arc::clone(&asked.group);
        tokio::spawn(async move { group.get(key.as_bytes(), soon()).await })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.expect("no panic").expect("an answer");
    }
    assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    slow.await.expect("no panic").expect("an answer");
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn reads_that_go_away_harm_nobody_who_shares_their_message() {
    let cluster = TestCluster::new(2);
    let [asked, owner] = [0, 1].map(|index| &cluster.nodes[index]);
    let keys = in_memory(&cluster, owner, 30).await;
    cluster.network.fault(&asked.address, &owner.address, Some(Fault::Delay(Duration::from_micros(700))));
    for round in 0..keys.len() {
        let reads: Vec<_> = keys
            .iter()
            .map(|key| {
                let (group, key) = (Arc::clone(&asked.group), key.clone());
                // A read alone: its flight goes on whoever waits for it, so the flight's own time ends it.
                tokio::spawn(async move { group.get(key.as_bytes(), soon()).await })
            })
            .collect();
        reads[round].abort();
        for (at, read) in reads.into_iter().enumerate().filter(|(at, _)| *at != round) {
            read.await.expect("no panic").unwrap_or_else(|error| panic!("{at}: {error}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_falls_silent_under_a_shared_message_is_replaced() {
    let cluster = TestCluster::new(3);
    let asked = &cluster.nodes[0];
    let keys = in_memory(&cluster, &cluster.nodes[1], 50).await;
    cluster.network.fault(&asked.address, &cluster.nodes[1].address, Some(Fault::Silence));
    let begun = Instant::now();
    let reads = keys.into_iter().map(|key| {
        let group = Arc::clone(&asked.group);
        tokio::spawn(async move { group.get(key.as_bytes(), soon()).await })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.expect("no panic").expect("an answer");
    }
    // Two timeouts of 250 ms find out, for those of the first message and those behind it alike.
    assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_fresh_read_is_newer_than_what_any_flight_brings() {
    for owner_is_asked in [true, false] {
        let cluster = TestCluster::new(2);
        let owner = cluster.route("anna")[0];
        let asked = if owner_is_asked { owner } else { cluster.route("anna")[1] };
        assert_eq!(asked.text("anna").await.as_deref(), Some("333"));
        cluster.database.set("anna", "334");
        assert_eq!(asked.text("anna").await.as_deref(), Some("333"), "from memory");
        cluster.database.slow(Duration::from_millis(100));
        let first = {
            let group = Arc::clone(&asked.group);
            tokio::spawn(async move { group.fresh(b"anna", soon()).await })
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.database.set("anna", "335");
        let second = asked.group.fresh(b"anna", soon()).await.expect("an answer");
        let first = first.await.expect("no panic").expect("an answer");
        assert_eq!(first.value.expect("a value").bytes(), "334");
        assert_eq!(second.value.expect("a value").bytes(), "335", "the first one's query had begun before");
        assert_eq!(asked.text("anna").await.as_deref(), Some("335"), "what it brings is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_read_ends_the_copy_of_who_was_asked() {
    let hot = GroupConfig { hot_ttl: Duration::from_secs(60), ..config() };
    let cluster = TestCluster::with(2, hot, GroupSettings::default());
    let asked = cluster.route("anna")[1];
    // Not right after the start, which counts as a change to be waited for.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..50 {
        asked.get("anna").await.expect("an answer");
    }
    assert_eq!(asked.get("anna").await.expect("an answer").outcome, Outcome::HotHit);
    cluster.database.set("anna", "334");
    asked.group.fresh(b"anna", soon()).await.expect("an answer");
    assert_eq!(asked.text("anna").await.as_deref(), Some("334"));
}

#[tokio::test(start_paused = true)]
async fn what_is_named_often_counts_each_time() {
    let cluster = TestCluster::new(1);
    let node = &cluster.nodes[0];
    cluster.database.set("large", &"x".repeat(400_000));
    for _ in ["from the database", "from memory"] {
        let results = node.group.get_many(&vec![key("large"); 100], 1_000_000, soon()).await;
        let answered = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(answered, 3, "the first beyond a million bytes is the last");
        let left = results.iter().filter_map(|result| result.as_ref().err());
        assert!(left.clone().count() == 97 && left.clone().all(|error| error.code() == ErrorCode::TooLarge));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_read_ends_what_it_is_newer_than_even_if_it_is_not_kept() {
    let config = GroupConfig { negative_ttl: Duration::ZERO, ..config() };
    let cluster = TestCluster::with(1, config, GroupSettings::default());
    let node = &cluster.nodes[0];
    assert_eq!(node.text("anna").await.as_deref(), Some("333"));
    cluster.database.rows.lock().remove(&key("anna"));
    assert_eq!(node.group.fresh(b"anna", soon()).await.expect("an answer").value, None);
    assert_eq!(node.text("anna").await, None, "the old value does not come back");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_nobody_waits_for_sends_no_query_of_its_own() {
    let cluster = TestCluster::new(2);
    let asked = cluster.route("anna")[1];
    cluster.database.slow(Duration::from_secs(60));
    let deadline = || Instant::now() + Duration::from_millis(300);
    let late = asked.group.fresh(b"anna", deadline()).await.expect_err("the database is slow");
    assert_eq!(late.code(), ErrorCode::DeadlineExceeded);
    let results = asked.group.get_many(&[key("anna")], BYTES_MAX, deadline()).await;
    assert_eq!(results[0].as_ref().map_err(GetError::code), Err(ErrorCode::DeadlineExceeded));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.database.queries(), 1, "the owner's, which both wait for");
}

#[tokio::test(start_paused = true)]
async fn a_read_of_memory_loads_nothing() {
    let cluster = TestCluster::new(2);
    let [owner, other] = [0, 1].map(|index| cluster.route("anna")[index]);
    for node in [owner, other] {
        assert_eq!(node.group.in_memory(b"anna", soon()).await.expect("well"), None);
    }
    assert_eq!(cluster.database.queries(), 0);
    owner.get("anna").await.expect("an answer");
    for (node, outcome) in [(owner, Outcome::Hit), (other, Outcome::Peer)] {
        let found = node.group.in_memory(b"anna", soon()).await.expect("well").expect("in memory");
        assert_eq!((found.outcome, found.value.is_some()), (outcome, true));
    }
    let gone: &Address = &owner.address;
    cluster.network.detach(gone);
    assert_eq!(other.group.in_memory(b"anna", soon()).await.expect("well"), None, "nobody can tell");
    assert_eq!(cluster.database.queries(), 1);
}
