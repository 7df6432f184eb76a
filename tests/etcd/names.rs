//! What is written under a node's name, and whose the name is.

use std::time::Duration;

use etcd_client::{Client, PutOptions};
use ggcache::{cluster::Node, discovery::DiscoveryError};
use tokio::time::Instant;

use super::follower::{Follower, LEASE, address, until};
use crate::server::Etcd;

async fn entry(client: &mut Client, name: &str) -> Option<String> {
    let found = client.get(format!("GGroupCache/{}", address(name)), None).await.expect("etcd answers");
    found.kvs().first().map(|entry| String::from_utf8(entry.value().to_vec()).expect("text"))
}

#[tokio::test]
async fn nodes_register_and_see_each_other() {
    let etcd = Etcd::start(1).await;
    let a = Follower::start("a", &etcd.endpoints());
    a.sees(&[]).await;
    let b = Follower::start("b", &etcd.endpoints());
    a.sees(&["b"]).await;
    b.sees(&["a"]).await;
    assert_eq!(a.nodes(), [Node { id: Some(b.id), ..Node::new(address("b")) }]);
    assert!(a.handle.status().is_registered && b.handle.status().is_registered);
    // Its leaving is the others' business at once, and it goes on looking.
    b.handle.leave(Duration::from_secs(5)).await.expect("etcd answers");
    a.sees(&[]).await;
    assert!(!b.handle.status().is_registered);
    let c = Follower::start("c", &etcd.endpoints());
    a.sees(&["c"]).await;
    b.sees(&["a", "c"]).await;
    b.handle.leave(Duration::from_secs(5)).await.expect("there is nothing left to do");
    assert_eq!(c.names(), Some(vec!["a".to_owned()]), "who has left does not come back");
}

#[tokio::test]
async fn our_entry_is_what_go_writes_and_goes_with_its_lease() {
    let etcd = Etcd::start(1).await;
    let mut client = etcd.client().await;
    let a = Follower::start("a", &etcd.endpoints());
    a.is_registered(true).await;
    let expected = format!(
        r#"{{"Op":0,"Addr":"a.localhost:10001","Metadata":"{{\"ggcache\":{{\"id\":\"{}\",\"weight\":1,\"protocol\":1}}}}"}}"#,
        a.id
    );
    assert_eq!(entry(&mut client, "a").await, Some(expected));
    let leases = client.leases().await.expect("etcd answers");
    assert_eq!(leases.leases().len(), 1, "one lease, however often it was tried");
    a.handle.leave(Duration::from_secs(5)).await.expect("etcd answers");
    assert_eq!(entry(&mut client, "a").await, None);
    assert_eq!(client.leases().await.expect("etcd answers").leases().len(), 0);
}

#[tokio::test]
async fn entries_of_others() {
    let etcd = Etcd::start(1).await;
    let mut client = etcd.client().await;
    let long = "x".repeat(70_000);
    for (key, value) in [
        // Byte for byte what `manager.AddEndpoint` of Go's naming/endpoints puts.
        ("GGroupCache/10.0.0.7:80", r#"{"Op":0,"Addr":"10.0.0.7:80","Metadata":null}"#),
        ("GGroupCache/bad", "}"),
        ("GGroupCache/long", long.as_str()),
        (
            "GGroupCache/169.254.169.254:80",
            r#"{"Op":0,"Addr":"169.254.169.254:80","Metadata":{"ggcache":{"id":"0000000000000001"}}}"#,
        ),
        (
            "GGroupCache/b.localhost:10001",
            r#"{"Op":0,"Addr":"b.localhost:10001","Metadata":{"ggcache":{"id":"0000000000000002","weight":7,"api":"b:8","protocol":1}}}"#,
        ),
        (
            "GGroupCacheToo/c.localhost:1",
            r#"{"Op":0,"Addr":"c.localhost:1","Metadata":{"ggcache":{"id":"0000000000000003"}}}"#,
        ),
    ] {
        client.put(key, value, None).await.expect("etcd answers");
    }
    let a = Follower::start("a", &etcd.endpoints());
    a.sees(&["b"]).await;
    assert_eq!(a.nodes()[0].weight, 7);
    assert_eq!(a.nodes()[0].api.as_deref(), Some("b:8"));
    assert_eq!(a.handle.status().foreign, ["10.0.0.7:80"]);
    // The same by events, and what was bad may be mended.
    client.put("GGroupCache/worse", [0xff_u8], None).await.expect("etcd answers");
    client.put("GGroupCache/go", r#"{"Addr":"go:1"}"#, None).await.expect("etcd answers");
    let mended = r#"{"Addr":"bad.localhost:1","Metadata":{"ggcache":{"id":"0000000000000004"}}}"#;
    client.put("GGroupCache/bad.localhost:1", mended, None).await.expect("etcd answers");
    a.sees(&["b", "bad"]).await;
    assert_eq!(a.handle.status().foreign, ["10.0.0.7:80", "go:1"]);
    client.delete("GGroupCache/go", None).await.expect("etcd answers");
    until("the foreign entry is gone", || a.handle.status().foreign == ["10.0.0.7:80"], String::new).await;
}

#[tokio::test]
async fn a_node_that_crashed_is_gone_when_its_lease_ends() {
    let etcd = Etcd::start(1).await;
    let a = Follower::start("a", &etcd.endpoints());
    let b = Follower::start("b", &etcd.endpoints());
    a.sees(&["b"]).await;
    b.sees(&["a"]).await;
    // While it lives it stays for longer than its lease.
    let begun = Instant::now();
    while begun.elapsed() < LEASE + Duration::from_secs(1) {
        assert_eq!(a.names(), Some(vec!["b".to_owned()]));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    b.crash();
    let took = a.sees(&[]).await;
    println!("a crashed node was gone after {took:?}, with a lease of {LEASE:?}");
}

#[tokio::test]
async fn a_node_comes_back_within_the_lease_of_its_former_self() {
    let etcd = Etcd::start(1).await;
    let a = Follower::start("a", &etcd.endpoints());
    let b = Follower::start("b", &etcd.endpoints());
    a.sees(&["b"]).await;
    let former = b.id;
    b.crash();
    let b = Follower::start("b", &etcd.endpoints());
    b.sees(&["a"]).await;
    b.is_registered(true).await;
    until(
        "a sees the new b",
        || a.nodes().iter().any(|node| node.id == Some(b.id)),
        || format!("{:?}", a.nodes()),
    )
    .await;
    assert_ne!(b.id, former);
}

#[tokio::test]
async fn a_node_knows_the_others_while_its_former_self_has_its_lease() {
    let etcd = Etcd::start(1).await;
    let mut client = etcd.client().await;
    let lease = client.lease_grant(3600, None).await.expect("etcd answers").id();
    let former = r#"{"Addr":"b.localhost:10001","Metadata":{"ggcache":{"id":"0000000000000009"}}}"#;
    let key = format!("GGroupCache/{}", address("b"));
    client.put(key, former, Some(PutOptions::new().with_lease(lease))).await.expect("etcd answers");
    let a = Follower::start("a", &etcd.endpoints());
    a.sees(&["b"]).await;
    // Since the others go on asking at its address, it must not take each of their keys for its own.
    let b = Follower::start("b", &etcd.endpoints());
    b.sees(&["a"]).await;
    assert!(!b.handle.status().is_registered);
    let early = tokio::time::timeout(Duration::ZERO, b.handle.admitted()).await;
    assert!(early.is_err(), "its address may be another's, who lives");
    client.lease_revoke(lease).await.expect("etcd answers");
    b.handle.admitted().await;
    assert!(b.handle.status().is_registered && b.is_running());
}

#[tokio::test]
async fn the_later_of_two_at_one_address_does_not_start() {
    let etcd = Etcd::start(1).await;
    let mut client = etcd.client().await;
    let first = Follower::start("a", &etcd.endpoints());
    first.is_registered(true).await;
    let written = entry(&mut client, "a").await;
    let second = Follower::start("a", &etcd.endpoints());
    let (id, handle) = (first.id, second.handle.clone());
    let error = second.ended().await.expect_err("the address is taken");
    let DiscoveryError::AddressTaken { address: taken, other } = &error;
    assert_eq!((taken, other.as_str()), (&address("a"), format!("id {id}").as_str()));
    assert!(error.to_string().contains("node.advertise"), "{error}");
    // Its end does the first no harm.
    handle.leave(Duration::from_secs(5)).await.expect("etcd answers");
    assert_eq!(entry(&mut client, "a").await, written);
    assert!(first.handle.status().is_registered);
}

#[tokio::test]
async fn an_entry_that_nobody_keeps_alive_is_replaced_at_once() {
    let etcd = Etcd::start(1).await;
    let mut client = etcd.client().await;
    let key = format!("GGroupCache/{}", address("a"));
    client.put(key.as_str(), "by hand", None).await.expect("etcd answers");
    let a = Follower::start("a", &etcd.endpoints());
    a.is_registered(true).await;
    assert!(entry(&mut client, "a").await.expect("there is one").contains(&a.id.to_string()));
}

#[tokio::test]
async fn an_entry_that_somebody_removes_is_written_again() {
    let etcd = Etcd::start(1).await;
    let mut client = etcd.client().await;
    let a = Follower::start("a", &etcd.endpoints());
    let b = Follower::start("b", &etcd.endpoints());
    b.sees(&["a"]).await;
    a.sees(&["b"]).await;
    let key = format!("GGroupCache/{}", address("a"));
    let before = b.reports();
    client.delete(key.as_str(), None).await.expect("etcd answers");
    until("b has seen it", || b.reports() > before || b.names() == Some(vec!["a".to_owned()]), String::new)
        .await;
    b.sees(&["a"]).await;
    until("it is back", || a.handle.status().is_registered, String::new).await;
    assert!(entry(&mut client, "a").await.is_some() || a.is_running());
    // A running node does not give way to another process, and does not end for it either.
    let lease = client.lease_grant(3600, None).await.expect("etcd answers").id();
    let other = r#"{"Addr":"a.localhost:10001","Metadata":{"ggcache":{"id":"0000000000000009"}}}"#;
    client.put(key.as_str(), other, Some(PutOptions::new().with_lease(lease))).await.expect("etcd answers");
    a.is_registered(false).await;
    assert!(a.is_running());
    client.lease_revoke(lease).await.expect("etcd answers");
    a.is_registered(true).await;
    until(
        "b sees the true one",
        || b.nodes().iter().any(|node| node.id == Some(a.id)),
        || format!("{:?}", b.nodes()),
    )
    .await;
}
