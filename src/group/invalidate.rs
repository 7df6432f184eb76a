//! Invalidation across nodes.
//!
//! Where the database has a log of changes the invalidation becomes a row of it, and every node is asked to apply the log
//! so far and to say that it has: then nothing older is left there, nor on its way. What follows is for where there is
//! none.
//!
//! Whoever is asked drops the keys here and tells every other node, twice. After the first round no node that
//! acknowledged it has an older value; but a flight that began between the rounds may have asked a node that was not
//! reached yet. The second round bars it: a request that begins after the answer joins no flight from before.
//! A node that joins in the meantime, and may have peeked at one that was not reached yet, is told as soon as it is in
//! this node's view, in both rounds. One that this node does not know yet is not: its copy lives to its ttl.
//! And what a peer says is kept nowhere for one peer deadline after an invalidation (the fence remembers when its
//! slots changed), so that no copy of an answer that was under way stays behind.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    GetError, Group, GroupLog, HANDOVER_KEYS_MAX, Invalidation, PeerError, Position, Selection,
    metrics::Source,
};
use crate::{
    cluster::{Address, Node},
    telemetry::field,
};

/// What became of an invalidation, node by node.
#[derive(Clone, Debug, Default)]
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
    /// Drops what `selection` names at this node only, and keeps out what loads of it that are under way bring. How
    /// many entries there were. See [`invalidate_everywhere`](Self::invalidate_everywhere) for all nodes.
    pub fn invalidate(&self, selection: &Selection) -> u64 {
        self.metrics.invalidated(Source::Local);
        self.store.invalidate(selection, self.clock.now())
    }

    /// As [`invalidate`](Self::invalidate), because a peer says so.
    pub fn invalidate_for_peer(&self, selection: &Selection) -> u64 {
        self.metrics.invalidated(Source::Peer);
        let dropped = self.store.invalidate(selection, self.clock.now());
        // The row is on its way, or there already.
        if let Some(log) = self.log() {
            log.cell.wake();
        }
        dropped
    }

    /// As [`invalidate_for_peer`](Self::invalidate_for_peer), and waits until this node has applied the log up to
    /// `position`, by which nothing older than the invalidation is left here, nor on its way.
    ///
    /// # Errors
    /// [`GetError::Behind`] if it does not get there until `deadline`.
    pub async fn invalidate_by_log(
        &self,
        selection: &Selection,
        position: Position,
        deadline: Instant,
    ) -> Result<u64, GetError> {
        let dropped = self.invalidate_for_peer(selection);
        let log = self.log().ok_or(GetError::Behind)?;
        if log.cell.catch_up(position, deadline).await { Ok(dropped) } else { Err(GetError::Behind) }
    }

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
        let me = self.peers.views().load().me().address.clone();
        let mut dropped = self.invalidate(selection);
        let (position, unlogged) = match self.append(selection, deadline).await {
            Ok(position) => (position, None),
            Err(error) => (None, Some(error)),
        };
        let rounds = if position.is_some() { 1 } else { ROUNDS };
        let mut targets = Vec::new();
        self.add_targets(&mut targets);
        loop {
            // Half of the time that is left: a silent node must not use up the time of the next round, and so make those
            // look silent that have answered.
            let now = Instant::now();
            let until = now + deadline.saturating_duration_since(now) / 2;
            let round = targets.iter_mut().filter(|target| target.error.is_none() && target.rounds < rounds);
            join_all(round.map(|target| self.tell(target, selection, position, until))).await;
            dropped += self.store.invalidate(selection, self.clock.now());
            self.add_targets(&mut targets);
            if targets.iter().all(|target| target.error.is_some() || target.rounds >= rounds) {
                break;
            }
        }
        let mut report = InvalidationReport::default();
        match unlogged {
            None => report.acknowledged.push((me, dropped)),
            Some(error) => {
                tracing::warn!(
                    { field::GROUP } = %self.name,
                    error = &error as &dyn std::error::Error,
                    "an invalidation did not get into the log of changes; the nodes were told without it"
                );
                report.failed.push((me, PeerError::Refused(error.code())));
            }
        }
        for target in targets {
            match target.error {
                None => report.acknowledged.push((target.node.address, target.dropped)),
                // Nobody answers there any longer. A silent one may be draining still.
                Some(PeerError::Unreachable(_)) if target.has_left => {}
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

    /// Writes `selection` into the log and applies it here: up to where that is in the log; `None` without one.
    async fn append(&self, selection: &Selection, deadline: Instant) -> Result<Option<Position>, GetError> {
        let Some(GroupLog { cell, append: Some(append) }) = self.log() else { return Ok(None) };
        let patience = deadline.saturating_duration_since(Instant::now()) / 2;
        let until = Instant::now() + patience;
        match tokio::time::timeout_at(until, append.append(selection)).await {
            Ok(committed) => committed?,
            Err(_) => return Err(GetError::Deadline(patience)),
        }
        let committed_at = self.clock.now();
        cell.look_now(committed_at, until).await.map(Some).ok_or(GetError::Behind)
    }

    /// Adds whoever is in the view, or has left it lately, and is not among the targets yet.
    fn add_targets(&self, targets: &mut Vec<Target>) {
        let view = self.peers.views().load_full();
        let left = self.peers.departed().into_iter().filter(|node| view.node(&node.address).is_none());
        let left = left.map(|node| Target { has_left: true, ..Target::new(node) });
        for target in view.peers().cloned().map(Target::new).chain(left) {
            if targets.iter().all(|other| other.node.address != target.node.address) {
                targets.push(target);
            }
        }
    }

    async fn tell(
        &self,
        target: &mut Target,
        selection: &Selection,
        position: Option<Position>,
        deadline: Instant,
    ) {
        target.rounds += 1;
        for part in parts(selection) {
            let budget = deadline.saturating_duration_since(Instant::now());
            let invalidation = Invalidation { group: self.name.clone(), selection: part, position, budget };
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

/// How often each node is told where there is no log; see the top of this file.
const ROUNDS: u8 = 2;

struct Target {
    node: Node,
    rounds: u8,
    has_left: bool,
    dropped: u64,
    error: Option<PeerError>,
}

impl Target {
    const fn new(node: Node) -> Self {
        Self { node, rounds: 0, has_left: false, dropped: 0, error: None }
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
