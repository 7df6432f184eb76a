//! One node's discovery, and what it has reported.

use std::{sync::Arc, time::Duration};

use ggcache::{
    cluster::{Address, Node, NodeId},
    discovery::{
        ClusterConfig, Discovery as _, DiscoveryError, DiscoveryKind, EtcdConfig, EtcdDiscovery, EtcdHandle,
    },
    telemetry::NodeMetrics,
};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// The shortest that etcd grants.
pub const LEASE: Duration = Duration::from_secs(2);
/// How long anything is waited for that should happen. Far more than it takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A discovery that runs.
pub struct Follower {
    pub handle: EtcdHandle,
    pub id: NodeId,
    reports: Arc<Mutex<Vec<Vec<Node>>>>,
    task: JoinHandle<Result<(), DiscoveryError>>,
}

/// An address that is nobody's: nothing is ever dialled here.
pub fn address(name: &str) -> Address {
    Address::new(&format!("{name}.localhost:10001")).expect("an address")
}

/// The settings for an etcd at `endpoints`.
pub fn settings(endpoints: &[String]) -> EtcdConfig {
    EtcdConfig {
        endpoints: endpoints.iter().map(|endpoint| endpoint.parse().expect("an endpoint")).collect(),
        lease_ttl: LEASE,
        ..EtcdConfig::default()
    }
}

impl Follower {
    /// Node `name` in the etcd at `endpoints`.
    pub fn start(name: &str, endpoints: &[String]) -> Self {
        Self::start_with(name, &settings(endpoints), &[])
    }

    /// Node `name` with a configured list of peers.
    pub fn start_with(name: &str, etcd: &EtcdConfig, peers: &[&str]) -> Self {
        let cluster = ClusterConfig {
            discovery: DiscoveryKind::Etcd,
            peers: peers.iter().map(|peer| address(peer)).collect(),
            ..ClusterConfig::default()
        };
        let id = NodeId::new(fastrand::u64(..));
        let me = Node { id: Some(id), ..Node::new(address(name)) };
        let (discovery, handle) =
            EtcdDiscovery::new(etcd, &cluster, me, &NodeMetrics::new()).expect("the settings are right");
        let (sender, mut receiver) = mpsc::channel(1);
        let reports = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&reports);
        let task = tokio::spawn(async move {
            let take = async {
                while let Some(report) = receiver.recv().await {
                    taken.lock().push(report);
                }
                // The discovery ends now, and says how.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                ended = Box::new(discovery).run(sender) => ended,
                () = take => unreachable!("it waits for ever"),
            }
        });
        Self { handle, id, reports, task }
    }

    /// The names in the last report; `None` before the first.
    pub fn names(&self) -> Option<Vec<String>> {
        let reports = self.reports.lock();
        let name = |node: &Node| node.address.host().trim_end_matches(".localhost").to_owned();
        reports.last().map(|report| report.iter().map(name).collect())
    }

    /// The nodes in the last report.
    pub fn nodes(&self) -> Vec<Node> {
        self.reports.lock().last().cloned().unwrap_or_default()
    }

    /// How many reports there were.
    pub fn reports(&self) -> usize {
        self.reports.lock().len()
    }

    /// The smallest number of others in a report from the `from`th on.
    pub fn fewest_since(&self, from: usize) -> usize {
        let reports = self.reports.lock();
        reports[from.saturating_sub(1)..].iter().map(Vec::len).min().expect("there are reports")
    }

    /// Waits until the last report names exactly the `expected`, in order; how long it took.
    pub async fn sees(&self, expected: &[&str]) -> Duration {
        let begun = Instant::now();
        let what = format!("sees {expected:?}");
        until(
            &what,
            || self.names().is_some_and(|names| names == expected),
            || format!("{:?}", self.names()),
        )
        .await;
        begun.elapsed()
    }

    /// Waits until the node is registered, or is not.
    pub async fn is_registered(&self, is: bool) {
        until(
            &format!("registered: {is}"),
            || self.handle.status().is_registered == is,
            || format!("{:?}", self.handle.status()),
        )
        .await;
    }

    /// Ends without a word to etcd.
    pub fn crash(self) {
        self.task.abort();
    }

    /// Waits until the discovery has ended, and tells how.
    pub async fn ended(mut self) -> Result<(), DiscoveryError> {
        tokio::time::timeout(PATIENCE, &mut self.task).await.expect("it ends").expect("it does not panic")
    }

    /// Whether the discovery still runs.
    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until `probe` is true.
pub async fn until(what: &str, mut probe: impl FnMut() -> bool, state: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !probe() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}; it is {}", state());
        sleep(Duration::from_millis(2)).await;
    }
}
