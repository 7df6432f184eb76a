//! A view: the nodes that this node believes to be the cluster, with their ring, at one moment.
//!
//! Views are immutable and swapped whole. A view is never empty and always contains its own node. Its
//! epoch tells whether two nodes agree on all owners; it is compared for equality only and says nothing
//! of which view is newer. `discovery` stores views into the [`ViewCell`], requests read them from it.

mod cell;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr, sync::Arc};

use xxhash_rust::xxh3::Xxh3;

pub use self::cell::ViewCell;
use super::{
    node::{Address, HexError, Node, WEIGHT_MAX, parse_hex},
    place::Place,
    ring::Ring,
};

/// A digest of all that decides who owns what: addresses, weights, ring parameters. Equal at all nodes
/// that hold equal views. Written as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// XXH3-64, seed 0, of `ring/1` (the version of the ring's rules), a zero byte, the virtual nodes as
    /// u32 little endian, and for each member by address: the address, a zero byte, its weight as u32
    /// little endian.
    fn of(ring: &Ring) -> Self {
        let mut hasher = Xxh3::new();
        hasher.update(b"ring/1\0");
        hasher.update(&ring.virtual_nodes().to_le_bytes());
        for (address, weight) in ring.members() {
            hasher.update(address.as_str().as_bytes());
            hasher.update(&[0]);
            hasher.update(&weight.to_le_bytes());
        }
        Self(hasher.digest())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        parse_hex(text).map(Self)
    }
}

/// The cluster as this node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    epoch: Epoch,
    /// Sorted by address, each address once: the ring's members, index by index.
    nodes: Vec<Node>,
    me: usize,
    /// Shared with other views of the same members.
    ring: Arc<Ring>,
}

impl View {
    /// The view of node `me` with `others`, in any order.
    ///
    /// `me` stands for its own address whatever `others` say of it. Of several others with one address the
    /// one that a process announced (it has an id) wins over one from a list, then the greater protocol,
    /// weight, id and API address. Weights and `virtual_nodes` are clamped as in [`Ring::new`].
    pub fn new(me: Node, others: impl IntoIterator<Item = Node>, virtual_nodes: u32) -> Self {
        let (nodes, me) = merged(me, others);
        let ring = Ring::new(&members(&nodes), virtual_nodes).expect("a view has its own node");
        Self { epoch: Epoch::of(&ring), nodes, me, ring: Arc::new(ring) }
    }

    /// The view of the same node and ring parameters with other `others`: what [`View::new`] would give, but
    /// the ring is derived from this one's, or shared with it where the members are the same.
    pub fn change(&self, others: impl IntoIterator<Item = Node>) -> Self {
        let (nodes, me) = merged(self.me().clone(), others);
        let members = members(&nodes);
        if members == self.ring.members() {
            return Self { epoch: self.epoch, nodes, me, ring: Arc::clone(&self.ring) };
        }
        let ring = self.ring.changed(&members).expect("a view has its own node");
        Self { epoch: Epoch::of(&ring), nodes, me, ring: Arc::new(ring) }
    }

    /// The digest of who owns what.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// All nodes, this one included, sorted by address.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All nodes but this one, sorted by address.
    pub fn peers(&self) -> impl Iterator<Item = &Node> {
        let (before, after) = self.nodes.split_at(self.me);
        before.iter().chain(&after[1..])
    }

    /// This node.
    pub fn me(&self) -> &Node {
        &self.nodes[self.me]
    }

    /// The node at `address`, if it is in the view.
    pub fn node(&self, address: &Address) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|node| node.address.cmp(address));
        at.ok().map(|at| &self.nodes[at])
    }

    /// Whether a node at `address` is in the view.
    pub fn has(&self, address: &str) -> bool {
        self.nodes.binary_search_by(|node| node.address.as_str().cmp(address)).is_ok()
    }

    /// The ring, whose members are [`View::nodes`], index by index.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The node that owns `place`.
    pub fn owner(&self, place: Place) -> &Node {
        &self.nodes[self.ring.owner(place)]
    }

    /// Whether this node owns `place`.
    pub fn is_mine(&self, place: Place) -> bool {
        self.ring.owner(place) == self.me
    }

    /// The node that answers for `place` when its owner doesn't; `None` where there is one node.
    pub fn successor(&self, place: Place) -> Option<&Node> {
        self.ring.successor(place).map(|node| &self.nodes[node])
    }

    /// Every node once, in the order in which it answers for `place`, the owner first.
    pub fn route(&self, place: Place) -> impl Iterator<Item = &Node> {
        self.ring.successors(place).map(|node| &self.nodes[node])
    }

    /// The exact part of all places that each node owns, in the order of [`View::nodes`]. Reads every point
    /// of the ring: for pages and metrics, not for requests.
    pub fn shares(&self) -> Vec<f64> {
        self.ring.shares()
    }
}

/// All nodes sorted by address, each once, and the index of `me`.
fn merged(me: Node, others: impl IntoIterator<Item = Node>) -> (Vec<Node>, usize) {
    let mut nodes: Vec<Node> = others.into_iter().filter(|node| node.address != me.address).collect();
    let address = me.address.clone();
    nodes.push(me);
    for node in &mut nodes {
        node.weight = node.weight.clamp(1, WEIGHT_MAX);
    }
    nodes.sort_unstable_by(|a, b| a.address.cmp(&b.address).then_with(|| precedence(b).cmp(&precedence(a))));
    nodes.dedup_by(|later, earlier| later.address == earlier.address);
    let at = nodes.binary_search_by(|node| node.address.cmp(&address));
    let at = at.expect("the own node was added, and no other of its address");
    (nodes, at)
}

/// Greater wins among nodes of one address. All fields count, so that the order of arrival never does.
fn precedence(node: &Node) -> impl Ord {
    (node.id.is_some(), node.protocol, node.weight, node.id, node.api.as_deref())
}

fn members(nodes: &[Node]) -> Vec<(Address, u32)> {
    nodes.iter().map(|node| (node.address.clone(), node.weight)).collect()
}
