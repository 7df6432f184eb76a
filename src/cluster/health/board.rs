//! The health of all peers of a view, with the rule that no one of them can see alone: at least half of
//! the nodes are never ejected.
//!
//! A node whose own network is broken sees all others fail. Were it to eject them all, it would take every
//! key for its own and send the whole load to the database. The half counts this node too, so that of
//! two nodes one can be ejected, of three one, of four two.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Allow, Health, HealthConfig, HealthState, Transition};
use crate::{
    cluster::{Address, Node, NodeId, View},
    time::Moment,
};

/// The health of this node's peers. Not shared by itself: the caller puts it behind a lock, held for a
/// lookup or a report and never across an `await`.
#[derive(Clone, Debug)]
pub struct HealthBoard {
    config: HealthConfig,
    seed: u64,
    /// Ordered, so that what happens to several peers at once does not depend on chance.
    peers: BTreeMap<Address, Peer>,
}

#[derive(Clone, Debug)]
struct Peer {
    id: Option<NodeId>,
    health: Health,
}

impl HealthBoard {
    /// A board on which all peers of `view` are healthy. `seed` is random and differs by node.
    pub fn new(config: HealthConfig, seed: u64, view: &View) -> Self {
        let mut board = Self { config, seed, peers: BTreeMap::new() };
        board.retain(view);
        board
    }

    /// Whether `peer` may be asked, as [`Health::allows`]. A peer that is not on the board may: whoever routes
    /// by a newer view than the board's knows more.
    pub fn allows(&mut self, peer: &Address, now: Moment) -> Allow {
        self.peers.get_mut(peer).map_or(Allow::Yes, |peer| peer.health.allows(now))
    }

    /// `peer` answered. A report on a peer that left is ignored.
    pub fn on_success(&mut self, peer: &Address, now: Moment) -> Option<Transition> {
        self.peers.get_mut(peer)?.health.on_success(now)
    }

    /// `peer` failed. It is ejected only if at least half of all nodes remain. A report on a peer that left
    /// is ignored.
    pub fn on_failure(&mut self, peer: &Address, now: Moment) -> Option<Transition> {
        let may = self.spare() > 0;
        self.peers.get_mut(peer)?.health.fail(now, may)
    }

    /// Follows the membership: peers that left are forgotten, new ones are healthy, and so is a peer whose
    /// process is another than before (it has only just announced itself). If fewer than half of the nodes
    /// would remain, ejected peers are let back, those first whose probe is due first.
    pub fn retain(&mut self, view: &View) {
        self.peers.retain(|address, _| *address != view.me().address && view.node(address).is_some());
        for node in view.peers() {
            let known = self.peers.get(&node.address);
            if known.is_none_or(|known| is_another_process(known.id, node.id)) {
                let peer = Peer { id: node.id, health: self.healthy(node) };
                self.peers.insert(node.address.clone(), peer);
            }
        }
        while self.spare() < 0 {
            let due = |peer: &Peer| match peer.health.state() {
                HealthState::Healthy { .. } => None,
                HealthState::Ejected { until, .. } | HealthState::Probing { until, .. } => Some(until),
            };
            let first =
                self.peers.values_mut().filter(|peer| !peer.health.is_healthy()).min_by_key(|p| due(p));
            first.expect("with no peer ejected all nodes remain").health.readmit();
        }
    }

    /// The health of `peer`, if it is on the board.
    pub fn peer(&self, peer: &Address) -> Option<&Health> {
        self.peers.get(peer).map(|peer| &peer.health)
    }

    /// All peers by address.
    pub fn peers(&self) -> impl Iterator<Item = (&Address, &Health)> {
        self.peers.iter().map(|(address, peer)| (address, &peer.health))
    }

    /// How many more peers may be ejected; negative if too many are.
    fn spare(&self) -> isize {
        let ejected = self.peers.values().filter(|peer| !peer.health.is_healthy()).count();
        let nodes = self.peers.len() + 1;
        // At least half must remain, this node included: at most the half, rounded down, may go.
        (nodes / 2) as isize - ejected as isize
    }

    fn healthy(&self, node: &Node) -> Health {
        Health::new(self.config, xxh3_64_with_seed(node.address.as_str().as_bytes(), self.seed))
    }
}

/// A static peer has no id, which says nothing.
fn is_another_process(known: Option<NodeId>, new: Option<NodeId>) -> bool {
    new.is_some() && new != known
}
