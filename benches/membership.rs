//! How long it takes from a member's registration in etcd, or its withdrawal, to the new view at every node.
//!
//! ```text
//! cargo bench --bench membership
//! ```
//!
//! Three nodes' discoveries and views in one process, and real etcd servers on this machine, one and then three; see
//! `tests/support/etcd.rs` for where the program is found. A fourth node joins and leaves a hundred times: first with
//! pauses, so that each change comes alone, then without, so that changes gather. The bar is 100 ms for the p99.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_client::{Client, PutOptions};
use ggcache::{
    cluster::{Address, Node, NodeId, View, ViewCell},
    discovery::{ClusterConfig, DiscoveryKind, EtcdConfig, EtcdDiscovery, follow},
    telemetry::NodeMetrics,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

#[path = "../tests/support/etcd.rs"]
#[expect(dead_code, reason = "tests/etcd.rs uses the rest of it")]
mod server;

const NODES: usize = 3;
const ROUNDS: usize = 100;
const BAR: Duration = Duration::from_millis(100);
/// After such a pause a change comes alone.
const PAUSE: Duration = Duration::from_millis(150);
/// When to give up.
const PATIENCE: Duration = Duration::from_secs(20);
/// The lease of the one who joins, in seconds.
const LEASE: i64 = 60;

/// The last view of a node, and when it came into force.
type Seen = watch::Receiver<(Instant, Vec<Address>)>;

#[tokio::main]
async fn main() -> ExitCode {
    println!("from etcd to the view of {NODES} nodes, the slowest of them, {ROUNDS} times; bar: p99 {BAR:?}");
    println!("{:<10} {:<8} {:<8} {:>9} {:>9} {:>9}", "etcd", "changes", "", "p50", "p99", "max");
    let mut is_well = true;
    for members in [1, 3] {
        let etcd = server::Etcd::start(members).await;
        let mut tasks = JoinSet::new();
        let nodes: Vec<Seen> = (0..NODES).map(|node| start(node, &etcd, &mut tasks)).collect();
        let mut client = etcd.client().await;
        for node in &nodes {
            sees(node, |nodes| nodes.len() == NODES).await;
        }
        for (pause, name) in [(PAUSE, "alone"), (Duration::ZERO, "gathered")] {
            let (mut joins, mut leaves) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                let (join, leave) = come_and_go(&mut client, &nodes, round, pause).await;
                joins.push(join);
                leaves.push(leave);
            }
            is_well &= print(members, name, "join", joins);
            is_well &= print(members, name, "leave", leaves);
        }
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn address(name: &str) -> Address {
    Address::new(&format!("{name}.localhost:10001")).expect("an address")
}

fn start(node: usize, etcd: &server::Etcd, tasks: &mut JoinSet<()>) -> Seen {
    let endpoints = etcd.endpoints();
    let config = EtcdConfig {
        endpoints: endpoints.iter().map(|endpoint| endpoint.parse().expect("an endpoint")).collect(),
        ..EtcdConfig::default()
    };
    let cluster = ClusterConfig { discovery: DiscoveryKind::Etcd, ..ClusterConfig::default() };
    let me = Node { id: Some(NodeId::new(fastrand::u64(..))), ..Node::new(address(&format!("node-{node}"))) };
    let metrics = NodeMetrics::new();
    let (discovery, _) =
        EtcdDiscovery::new(&config, &cluster, me.clone(), &metrics).expect("the settings are right");
    let views = Arc::new(ViewCell::new(View::new(me, [], cluster.virtual_nodes)));
    let (sender, receiver) = watch::channel((Instant::now(), Vec::new()));
    let in_force = move |view: &View| {
        let nodes = view.nodes().iter().map(|node| node.address.clone()).collect();
        sender.send_replace((Instant::now(), nodes));
    };
    tasks.spawn(async move {
        let ended = follow(Box::new(discovery), views, metrics, in_force, || {}).await;
        ended.expect("each has an address of its own");
    });
    receiver
}

/// A node joins and leaves; how long it took until the last view showed each.
async fn come_and_go(
    client: &mut Client,
    nodes: &[Seen],
    round: usize,
    pause: Duration,
) -> (Duration, Duration) {
    let guest = address(&format!("guest-{round}"));
    let value = format!(
        r#"{{"Op":0,"Addr":"{guest}","Metadata":{{"ggcache":{{"id":"{:016x}","weight":1,"protocol":1}}}}}}"#,
        fastrand::u64(..)
    );
    let lease = client.lease_grant(LEASE, None).await.expect("etcd answers").id();
    sleep(pause).await;
    let begun = Instant::now();
    let options = PutOptions::new().with_lease(lease);
    client.put(format!("GGroupCache/{guest}"), value, Some(options)).await.expect("etcd answers");
    let join = all_see(nodes, begun, |nodes| nodes.contains(&guest)).await;
    sleep(pause).await;
    let begun = Instant::now();
    client.lease_revoke(lease).await.expect("etcd answers");
    let leave = all_see(nodes, begun, |nodes| !nodes.contains(&guest)).await;
    (join, leave)
}

async fn all_see(nodes: &[Seen], begun: Instant, is: impl Fn(&[Address]) -> bool) -> Duration {
    let mut last = begun;
    for node in nodes {
        last = last.max(sees(node, &is).await);
    }
    last - begun
}

/// When the node's view became as it `is`. No view comes between two changes of which the second waits for the first.
async fn sees(node: &Seen, is: impl Fn(&[Address]) -> bool) -> Instant {
    let mut node = node.clone();
    let seen = timeout(PATIENCE, node.wait_for(|(_, nodes)| is(nodes))).await;
    seen.expect("the view changes").expect("the node runs").0
}

/// Prints one line; whether the bar was met.
fn print(members: usize, changes: &str, what: &str, mut samples: Vec<Duration>) -> bool {
    samples.sort_unstable();
    let ms = |duration: Duration| format!("{:.1} ms", duration.as_secs_f64() * 1000.0);
    let at = |share: usize| samples[(samples.len() * share).div_ceil(100) - 1];
    let is_well = at(99) <= BAR;
    println!(
        "{:<10} {changes:<8} {what:<8} {:>9} {:>9} {:>9}{}",
        format!("{members} of {members}"),
        ms(at(50)),
        ms(at(99)),
        ms(at(100)),
        if is_well { "" } else { "  over the bar" }
    );
    is_well
}
