//! etcd that is late, broken, paused, gone, or has lost its memory.

use std::time::Duration;

use tokio::time::Instant;

use super::follower::{Follower, LEASE, settings, until};
use crate::server::Etcd;

/// Watches for `period` that `check` holds.
async fn holds(period: Duration, check: impl Fn()) {
    let begun = Instant::now();
    while begun.elapsed() < period {
        check();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

#[tokio::test]
async fn etcd_that_comes_later() {
    let mut etcd = Etcd::down(1);
    let alone = Follower::start("alone", &etcd.endpoints());
    let a = Follower::start_with("a", &settings(&etcd.endpoints()), &["a", "b", "gone"]);
    let b = Follower::start_with("b", &settings(&etcd.endpoints()), &["a", "b", "gone"]);
    // The configured peers, or nobody, are better than no view at all.
    alone.sees(&[]).await;
    a.sees(&["b", "gone"]).await;
    assert_eq!(a.nodes()[0].id, None);
    let before = a.reports();
    etcd.restart().await;
    for follower in [&alone, &a, &b] {
        follower.is_registered(true).await;
    }
    alone.sees(&["a", "b"]).await;
    // Who has not registered is given up after a while, and nobody else ever was.
    a.sees(&["alone", "b"]).await;
    assert_eq!(a.nodes()[1].id, Some(b.id));
    assert!(a.fewest_since(before) >= 2, "b was missing for a moment");
}

#[tokio::test]
async fn etcd_that_is_away_for_longer_than_the_lease() {
    let mut etcd = Etcd::start(1).await;
    let a = Follower::start("a", &etcd.endpoints());
    let b = Follower::start("b", &etcd.endpoints());
    a.sees(&["b"]).await;
    b.sees(&["a"]).await;
    etcd.kill_all();
    until("a notices", || a.handle.status().away_for.is_some(), String::new).await;
    holds(LEASE * 2, || assert_eq!((a.names(), b.names()), (names(&["b"]), names(&["a"])))).await;
    let before = (a.reports(), b.reports());
    etcd.restart().await;
    until("they are back", || a.handle.status().away_for.is_none(), String::new).await;
    // New nodes come in, and those that were there are registered for good.
    let c = Follower::start("c", &etcd.endpoints());
    a.sees(&["b", "c"]).await;
    b.sees(&["a", "c"]).await;
    c.sees(&["a", "b"]).await;
    holds(LEASE * 2, || assert_eq!(c.names(), names(&["a", "b"]))).await;
    assert!(a.fewest_since(before.0) >= 1 && b.fewest_since(before.1) >= 1, "one was missing for a moment");
    assert!(a.handle.status().is_registered && b.handle.status().is_registered);
}

#[tokio::test]
async fn etcd_that_has_lost_its_data() {
    let mut etcd = Etcd::start(1).await;
    let a = Follower::start("a", &etcd.endpoints());
    let b = Follower::start("b", &etcd.endpoints());
    let lost = Follower::start("lost", &etcd.endpoints());
    a.sees(&["b", "lost"]).await;
    b.sees(&["a", "lost"]).await;
    etcd.wipe();
    // This one does not see the new etcd.
    lost.crash();
    let before = a.reports();
    etcd.restart().await;
    let begun = Instant::now();
    until("b is registered anew", || a.nodes().iter().any(|node| node.id == Some(b.id)), String::new).await;
    a.is_registered(true).await;
    // Nobody is dropped only because etcd forgot; who does not come back goes later.
    a.sees(&["b"]).await;
    println!("a node that did not come back to a wiped etcd was given up {:?} after it", begun.elapsed());
    assert!(a.fewest_since(before) >= 1, "b was missing for a moment");
    let c = Follower::start("c", &etcd.endpoints());
    c.sees(&["a", "b"]).await;
    a.sees(&["b", "c"]).await;
}

#[tokio::test]
async fn a_member_of_three_that_dies() {
    let mut etcd = Etcd::start(3).await;
    let endpoints = etcd.endpoints();
    let a = Follower::start("a", &endpoints);
    let b = Follower::start("b", &endpoints);
    a.sees(&["b"]).await;
    b.sees(&["a"]).await;
    // Each in turn, so that each node's own member is among them; the leader too.
    for dead in 0..3 {
        etcd.kill(dead);
        let name = format!("n{dead}");
        let newcomer = Follower::start(&name, &endpoints);
        a.sees(&["b", &name]).await;
        b.sees(&["a", &name]).await;
        newcomer.sees(&["a", "b"]).await;
        newcomer.handle.leave(Duration::from_secs(10)).await.expect("two members are left");
        a.sees(&["b"]).await;
        b.sees(&["a"]).await;
        etcd.restart().await;
    }
    assert!(a.handle.status().is_registered && b.handle.status().is_registered);
}

#[tokio::test]
async fn a_member_of_three_that_is_paused() {
    let etcd = Etcd::start(3).await;
    let endpoints = etcd.endpoints();
    let a = Follower::start("a", &endpoints);
    let b = Follower::start("b", &endpoints);
    a.sees(&["b"]).await;
    b.sees(&["a"]).await;
    let leader = etcd.leader().await;
    // Not the leader, then the leader: connections stay open, and nothing comes.
    for paused in [(leader + 1) % 3, leader] {
        etcd.pause(paused);
        let name = format!("n{paused}");
        let newcomer = Follower::start(&name, &endpoints);
        a.sees(&["b", &name]).await;
        b.sees(&["a", &name]).await;
        newcomer.handle.leave(Duration::from_secs(10)).await.expect("two members are left");
        a.sees(&["b"]).await;
        b.sees(&["a"]).await;
        etcd.resume(paused);
    }
    a.is_registered(true).await;
    b.is_registered(true).await;
}
