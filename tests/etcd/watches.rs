//! Changes: none is missed, and many at once are few reports.

use std::time::Duration;

use etcd_client::PutOptions;
use tokio::time::Instant;

use super::{
    follower::{Follower, PATIENCE, address, settings, until},
    proxy::Proxy,
};
use crate::server::Etcd;

/// What node `name` would register, with padding of `length` in its metadata.
fn entry(name: &str, length: usize) -> String {
    format!(
        r#"{{"Op":0,"Addr":"{}","Metadata":{{"pad":"{}","ggcache":{{"id":"{:016x}","weight":1,"protocol":1}}}}}}"#,
        address(name),
        "x".repeat(length),
        fastrand::u64(..)
    )
}

fn key(name: &str) -> String {
    format!("GGroupCache/{}", address(name))
}

#[tokio::test]
async fn a_burst_is_a_handful_of_reports() {
    const BURST: usize = 100;
    let etcd = Etcd::start(1).await;
    let mut client = etcd.client().await;
    let a = Follower::start("a", &etcd.endpoints());
    a.sees(&[]).await;
    a.is_registered(true).await;
    let before = a.reports();
    let lease = client.lease_grant(60, None).await.expect("etcd answers").id();
    let begun = Instant::now();
    let puts = (0..BURST).map(|n| {
        let (mut client, name) = (client.clone(), format!("n{n:03}"));
        tokio::spawn(async move {
            client.put(key(&name), entry(&name, 0), Some(PutOptions::new().with_lease(lease))).await
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.expect("no panic").expect("etcd answers");
    }
    let spread = begun.elapsed();
    until("all are seen", || a.nodes().len() == BURST, || a.nodes().len().to_string()).await;
    let reports = a.reports() - before;
    println!("{BURST} registrations within {spread:?} made {reports} reports");
    assert!(reports <= 10, "{reports} reports");
    // And when they all go at once.
    let before = a.reports();
    client.lease_revoke(lease).await.expect("etcd answers");
    a.sees(&[]).await;
    assert!(a.reports() - before <= 10, "{} reports", a.reports() - before);
}

#[tokio::test]
async fn what_happens_while_the_watch_is_cut_is_not_missed() {
    let etcd = Etcd::start(1).await;
    let mut client = etcd.client().await;
    let proxy = Proxy::start(etcd.port(0)).await;
    let a = Follower::start_with("a", &settings(&[proxy.endpoint()]), &[]);
    client.put(key("b"), entry("b", 0), None).await.expect("etcd answers");
    client.put(key("c"), entry("c", 0), None).await.expect("etcd answers");
    a.sees(&["b", "c"]).await;
    for round in 0..5 {
        proxy.hold(true);
        proxy.cut();
        let (goes, comes) = if round % 2 == 0 { ("b", "d") } else { ("d", "b") };
        client.delete(key(goes), None).await.expect("etcd answers");
        client.put(key(comes), entry(comes, 0), None).await.expect("etcd answers");
        proxy.hold(false);
        let mut expected = ["c", comes];
        expected.sort_unstable();
        let took = a.sees(&expected).await;
        assert!(took < Duration::from_secs(4), "it was not held for twice the lease, but missed: {took:?}");
    }
}

#[tokio::test]
async fn a_compaction_between_the_list_and_the_watch() {
    let etcd = Etcd::start(1).await;
    let mut client = etcd.client().await;
    let proxy = Proxy::start(etcd.port(0)).await;
    let a = Follower::start_with("a", &settings(&[proxy.endpoint()]), &[]);
    // So large that the answer to the list can be told from everything else.
    const LARGE: usize = 30_000;
    client.put(key("large"), entry("large", LARGE), None).await.expect("etcd answers");
    a.sees(&["large"]).await;
    let listed = proxy.held();
    proxy.hold(true);
    proxy.cut();
    let deadline = Instant::now() + PATIENCE;
    while proxy.held() < listed + LARGE {
        assert!(Instant::now() < deadline, "there was no list");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The list is on its way, and what comes now is compacted before the watch begins.
    let mut revision = 0;
    for name in ["b", "c", "d"] {
        let put = client.put(key(name), entry(name, 0), None).await.expect("etcd answers");
        revision = put.header().expect("a header").revision();
    }
    client.compact(revision, None).await.expect("etcd answers");
    proxy.hold(false);
    a.sees(&["b", "c", "d", "large"]).await;
    // The watch works again.
    client.delete(key("c"), None).await.expect("etcd answers");
    a.sees(&["b", "d", "large"]).await;
}

#[tokio::test]
async fn a_member_that_says_nothing() {
    let etcd = Etcd::start(1).await;
    let mut client = etcd.client().await;
    let proxy = Proxy::start(etcd.port(0)).await;
    let a = Follower::start_with("a", &settings(&[proxy.endpoint()]), &[]);
    client.put(key("b"), entry("b", 0), None).await.expect("etcd answers");
    a.sees(&["b"]).await;
    // The connection stays open, and new ones are accepted: only silence tells.
    proxy.hold(true);
    client.delete(key("b"), None).await.expect("etcd answers");
    until("a notices", || a.handle.status().away_for.is_some(), String::new).await;
    assert_eq!(a.names(), Some(vec!["b".to_owned()]), "the last view stays");
    proxy.hold(false);
    a.sees(&[]).await;
    a.is_registered(true).await;
}
