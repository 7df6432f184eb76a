//! Invalidation across nodes, where there is no log of changes.
//!
//! Whoever is asked drops the keys here and tells every other node, twice. After the first round no node that
//! acknowledged it has an older value; but a flight that began between the rounds may have asked a node that was not
//! reached yet. The second round bars it: a request that begins after the answer joins no flight from before.
//! And what a peer says is kept nowhere for one peer deadline after an invalidation (the fence remembers when its
//! slots changed), so that no copy of an answer that was under way stays behind.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Group, HANDOVER_KEYS_MAX, Invalidation, PeerError, Selection};
use crate::{
    cluster::{Address, Node},
    telemetry::field,
};

/// What became of an invalidation, node by node.
#[derive(Clone, Debug)]
pub struct InvalidationReport {
    /// Who acknowledged it, and how many entries were dropped there. This node comes first.
    pub acknowledged: Vec<(Address, u64)>,
    /// Who did not: it may still serve the older value, until its ttl.
    pub failed: Vec<(Address, PeerError)>,
}

impl InvalidationReport {
    /// Whether every node has acknowledged.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }
}

impl Group {
    /// Drops what `selection` names at every node, until `deadline`. Evicts only: the origin is not written.
    ///
    /// When the report is complete, no read that begins after it is answered with what was in the cache before.
    ///
    /// Cancel safe in the sense that each node that was reached has applied it.
    pub async fn invalidate_everywhere(
        self: &Arc<Self>,
        selection: &Selection,
        deadline: Instant,
    ) -> InvalidationReport {
        let view = self.peers.views().load_full();
        let me = view.me().address.clone();
        let mut dropped = self.invalidate(selection);
        let mut targets: Vec<Target> = view.peers().cloned().map(Target::new).collect();
        // Who has left the view may still be peeked at while it drains. It is told, and not counted if it is gone.
        let left: Vec<Node> = self.peers.views().previous().map_or_else(Vec::new, |previous| {
            previous.nodes().iter().filter(|node| view.node(&node.address).is_none()).cloned().collect()
        });
        targets.extend(left.into_iter().map(|node| Target { has_left: true, ..Target::new(node) }));
        for _ in 0..2 {
            let round = targets.iter_mut().filter(|target| target.error.is_none());
            join_all(round.map(|target| self.tell(target, selection, deadline))).await;
            dropped += self.invalidate(selection);
        }
        let mut report = InvalidationReport { acknowledged: vec![(me, dropped)], failed: Vec::new() };
        for target in targets {
            match target.error {
                None => report.acknowledged.push((target.node.address, target.dropped)),
                Some(_) if target.has_left => {}
                Some(error) => {
                    tracing::warn!(
                        { field::GROUP } = %self.name,
                        { field::PEER } = %target.node.address,
                        error = &error as &dyn std::error::Error,
                        "a node did not acknowledge an invalidation"
                    );
                    report.failed.push((target.node.address, error));
                }
            }
        }
        report
    }

    async fn tell(&self, target: &mut Target, selection: &Selection, deadline: Instant) {
        for part in parts(selection) {
            let budget = deadline.saturating_duration_since(Instant::now());
            let invalidation = Invalidation { group: self.name.clone(), selection: part, budget };
            match self.peers.invalidate(&target.node, &invalidation).await {
                Ok(dropped) => target.dropped += dropped,
                Err(error) => {
                    target.error = Some(error);
                    return;
                }
            }
        }
    }
}

struct Target {
    node: Node,
    has_left: bool,
    dropped: u64,
    error: Option<PeerError>,
}

impl Target {
    const fn new(node: Node) -> Self {
        Self { node, has_left: false, dropped: 0, error: None }
    }
}

/// The selection in parts that one message may hold.
fn parts(selection: &Selection) -> Vec<Selection> {
    match selection {
        Selection::Keys(keys) => {
            keys.chunks(HANDOVER_KEYS_MAX).map(|keys| Selection::Keys(keys.to_vec())).collect()
        }
        Selection::Prefix(_) => vec![selection.clone()],
    }
}
