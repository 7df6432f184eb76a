//! What a group is put together from.

use std::{sync::Arc, time::Duration};

use super::{GroupLog, Loader, NoPeers, Peers, Writer};
use crate::{
    cluster::{Address, Node, View, ViewCell},
    task::Tasks,
    telemetry::NodeMetrics,
    time::{BootClock, Clock},
};

/// What a group takes from its node, beside its own [`GroupConfig`](super::GroupConfig).
#[derive(Clone, Copy, Debug)]
pub struct GroupSettings {
    /// A digest of where the values come from and how they are rendered. Nodes keep each other's values only if
    /// they agree on it.
    pub digest: u64,
    /// How long a flight may take, whoever waits for it.
    pub flight_timeout: Duration,
    /// After how long a silent peer is asked for a sign of life.
    pub peer_timeout: Duration,
    /// The longest that a node keeps what it loaded in place of an owner that is down.
    pub failover_ttl: Duration,
    /// The longest that a peer takes to answer: for so long after an invalidation nothing is kept that a peer says.
    pub peer_deadline: Duration,
    /// Whether a miss after a change of owner peeks at the previous one.
    pub peek: bool,
    /// Whether this node names its hottest keys when it leaves.
    pub handover: bool,
    /// After standing still for so long, the group forgets what it has in memory; see [`Group::beat`](super::Group::beat).
    pub pause_max: Duration,
    /// Flights of each side that may run at once.
    pub flights_max: usize,
    /// Requests that may wait on each side.
    pub waiters_max: usize,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            digest: 0,
            flight_timeout: Duration::from_secs(2),
            peer_timeout: Duration::from_millis(250),
            failover_ttl: Duration::from_secs(5),
            peer_deadline: Duration::from_secs(2),
            peek: true,
            handover: true,
            pause_max: Duration::MAX,
            flights_max: 16_384,
            waiters_max: 65_536,
        }
    }
}

/// What a group stands on. [`GroupParts::alone`] fills in a single node's.
pub struct GroupParts {
    /// Reads the origin. The concurrency budget and timeout stand around it already.
    pub loader: Box<dyn Loader>,
    /// Other nodes.
    pub peers: Arc<Peers>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where flights run.
    pub tasks: Tasks,
    /// Where figures go.
    pub metrics: NodeMetrics,
    /// The database's log of changes, if it may have one. It counts once [`Group::set_logged`](super::Group::set_logged) says so.
    pub log: Option<GroupLog>,
    /// Changes the origin; `None` for a group that is read only.
    pub writer: Option<Arc<dyn Writer>>,
}

impl GroupParts {
    /// The parts of a group that lives in one process, without peers.
    pub fn alone(loader: impl Loader) -> Self {
        let me = Node::new(Address::new("localhost:1").expect("a valid address"));
        let views = Arc::new(ViewCell::new(View::new(me, [], 1)));
        let (clock, tasks, metrics) = (Arc::new(BootClock), Tasks::new(), NodeMetrics::new());
        let patience = Duration::from_secs(1);
        let peers =
            Peers::new(Arc::new(NoPeers), views, clock.clone(), tasks.clone(), metrics.clone(), patience);
        Self { loader: Box::new(loader), peers, clock, tasks, metrics, log: None, writer: None }
    }
}
