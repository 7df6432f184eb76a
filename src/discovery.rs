//! How a node learns who is in the cluster.
//!
//! A [`Discovery`] reports the other members, again whenever they change; [`follow`] makes a view of each
//! report and swaps it in. The view always holds the node itself, so that it is never empty.

use std::sync::Arc;

use tokio::sync::mpsc;

mod allow;
mod config;
mod static_list;

pub use allow::{AllowedPeer, AllowedPeers, AllowedPeersError};
pub use config::{ClusterConfig, DiscoveryKind, TransportKind};
pub use static_list::{StaticList, StaticListHandle};

use crate::{
    cluster::{Node, View, ViewCell},
    group::BoxFuture,
    telemetry::{NodeMetrics, field},
};

/// A source of members.
pub trait Discovery: Send + 'static {
    /// Sends all other members, first at once and then whenever they change; ends when `reports` is closed. A report
    /// that comes before the last one was taken waits: implementations send their newest knowledge.
    fn run(self: Box<Self>, reports: mpsc::Sender<Vec<Node>>) -> BoxFuture<'static, ()>;
}

/// Keeps `views` in step with what `discovery` reports. `in_force` is called after each view came into force, `first` once after the first. Ends
/// with the discovery.
pub async fn follow(
    discovery: Box<dyn Discovery>,
    views: Arc<ViewCell>,
    metrics: NodeMetrics,
    in_force: impl Fn(&View) + Send,
    first: impl FnOnce() + Send,
) {
    let (sender, mut reports) = mpsc::channel(1);
    let mut first = Some(first);
    let mut running = std::pin::pin!(discovery.run(sender));
    loop {
        let members = tokio::select! {
            biased;
            report = reports.recv() => match report {
                Some(members) => members,
                None => return,
            },
            () = &mut running => return,
        };
        let view = views.load().change(members);
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
        views.store(view);
        in_force(&views.load());
        if let Some(first) = first.take() {
            first();
        }
    }
}
