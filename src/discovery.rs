//! How a node learns who is in the cluster.
//!
//! A [`Discovery`] reports the other members, again whenever they change; [`follow`] makes a view of each
//! report and swaps it in. The view always holds the node itself, so that it is never empty. A discovery that also
//! registers the node hands out something to withdraw it by.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::mpsc;

mod allow;
mod config;
#[cfg(feature = "etcd")]
mod etcd;
mod static_list;

pub use allow::{AllowedPeer, AllowedPeers, AllowedPeersError};
pub use config::{
    ClusterConfig, DiscoveryKind, EtcdConfig, EtcdEndpoint, EtcdEndpointError, EtcdPassword, TransportKind,
};
#[cfg(all(feature = "fuzzing", feature = "etcd"))]
pub(crate) use etcd::fuzz_etcd_entry;
#[cfg(feature = "etcd")]
pub use etcd::{EtcdDiscovery, EtcdHandle, EtcdListing, EtcdSetupError, EtcdStatus, LeaveError, Listed};
pub use static_list::{StaticList, StaticListHandle};

use crate::{
    cluster::{Address, Node, POINTS_MAX, View, ViewCell},
    group::BoxFuture,
    telemetry::{NodeMetrics, field},
};

/// Why a node can't take part.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DiscoveryError {
    /// Another process is registered under the node's address, and lives.
    #[error(
        "another process ({other}) is registered as {address} and keeps its lease alive; \
         stop it, or give this node another node.advertise"
    )]
    AddressTaken {
        /// The address of both.
        address: Address,
        /// What the other says of itself.
        other: String,
    },
}

/// A source of members.
pub trait Discovery: Send + 'static {
    /// Sends all other members, first at once and then whenever they change; ends when `reports` is closed. A report
    /// that comes before the last one was taken waits: implementations send their newest knowledge.
    ///
    /// # Errors
    /// If the node must not go on. What a discovery can wait for or do without is no error.
    fn run(
        self: Box<Self>,
        reports: mpsc::Sender<Vec<Node>>,
    ) -> BoxFuture<'static, Result<(), DiscoveryError>>;
}

/// Keeps `views` in step with what `discovery` reports. `in_force` is called after each view came into force, `first`
/// once after the first. Ends with the discovery.
///
/// # Errors
/// The discovery's.
pub async fn follow(
    discovery: Box<dyn Discovery>,
    views: Arc<ViewCell>,
    metrics: NodeMetrics,
    in_force: impl Fn(&View) + Send,
    first: impl FnOnce() + Send,
) -> Result<(), DiscoveryError> {
    let (sender, mut reports) = mpsc::channel(1);
    let mut first = Some(first);
    let mut running = std::pin::pin!(discovery.run(sender));
    loop {
        let members = tokio::select! {
            biased;
            report = reports.recv() => match report {
                Some(members) => members,
                None => return running.await,
            },
            ended = &mut running => return ended,
        };
        let view = views.load().change(members);
        warn_of_crowd(&views.load(), &view);
        let changed = view.epoch() != views.load().epoch();
        if changed {
            tracing::info!(
                { field::RING_EPOCH } = %view.epoch(),
                members = view.nodes().len(),
                nodes = %view.nodes().iter().map(|node| node.address.as_str()).collect::<Vec<_>>().join(" "),
                "the view changed"
            );
        }
        metrics.view(view.nodes().len(), changed);
        metrics.keep_peers(|peer| view.has(peer));
        views.store(view);
        in_force(&views.load());
        if let Some(first) = first.take() {
            first();
        }
    }
}

/// How many nodes a line names.
const NAMED_MAX: usize = 20;

/// Says who owns next to nothing, because the ring is full, when that changes.
fn warn_of_crowd(before: &View, after: &View) {
    let mut crowd = after.ring().crowded_out().peekable();
    if crowd.peek().is_none() || before.ring().crowded_out().eq(after.ring().crowded_out()) {
        return;
    }
    let named: Vec<_> = crowd.by_ref().take(NAMED_MAX).map(Address::as_str).collect();
    tracing::warn!(
        nodes = named.join(" "),
        more = crowd.count(),
        points_max = POINTS_MAX,
        "the nodes' weights are more than the ring has points for; these own next to nothing"
    );
}
