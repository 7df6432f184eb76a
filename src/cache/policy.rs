//! Which entry makes room for another: the eviction policies.
//!
//! A policy sees nodes (metadata), never keys or values. It has one file, implements [`Policy`], and is
//! named in [`PolicyKind`] and [`AnyPolicy`]: nothing else in the engine knows which policies there are.
//! Lists are threaded through the nodes, so that a hit allocates nothing. What a policy must remember of
//! entries that are gone (ghosts, sketches) is its own, by the hash that it is told.

mod fifo;
mod lfu;
mod lru;

use std::{fmt, str::FromStr};

use thiserror::Error;

use self::{fifo::Fifo, lfu::Lfu, lru::Lru};
use super::slots::Nodes;

/// A policy by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// First in, first out: reads change nothing.
    Fifo,
    /// Least recently used.
    #[default]
    Lru,
    /// Least frequently used, exactly; among equals the least recently used. Counts are never aged.
    Lfu,
}

/// A text that names no policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a policy, which is one of fifo, lru, lfu")]
pub struct PolicyKindError(String);

impl PolicyKind {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Fifo, Self::Lru, Self::Lfu];

    /// The name in configuration, metrics and benchmarks.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Lru => "lru",
            Self::Lfu => "lfu",
        }
    }
}

impl FromStr for PolicyKind {
    type Err = PolicyKindError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| PolicyKindError(name.chars().take(40).collect()))
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a policy must let go of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It was the policy's own victim.
    Evicted,
    /// It expired, or was removed or replaced.
    Removed,
}

/// The contract of a policy. The shard holds its lock during each call.
///
/// The policy MUST know exactly the slots between their `on_insert` and `on_remove`, MAY use `prev`, `next`
/// and `word` of their nodes, and MUST leave the other fields alone. Every call takes O(1), or O(1)
/// amortised, but `order`.
pub(super) trait Policy {
    /// `slot` was filled. Its node has hash and weight; room for it has been made.
    fn on_insert(&mut self, nodes: &mut Nodes, slot: u32);

    /// `slot` was read.
    fn on_hit(&mut self, nodes: &mut Nodes, slot: u32);

    /// `slot` got a new value of the same key; its node has the new weight. Counts as a use, and otherwise
    /// the entry keeps its standing.
    fn on_replace(&mut self, nodes: &mut Nodes, slot: u32, _weight_before: u32) {
        self.on_hit(nodes, slot);
    }

    /// `slot` is about to be vacated: unlink it.
    fn on_remove(&mut self, nodes: &mut Nodes, slot: u32, leaving: Leaving);

    /// The entry that should leave next to make room for one of this hash and weight; `None` only if there
    /// are no entries. The policy may reorder its lists to find it. The shard asks again until there is
    /// room, and calls `on_remove` for each victim.
    fn victim(&mut self, nodes: &mut Nodes, incoming_hash: u32, incoming_weight: u32) -> Option<u32>;

    /// The node of `from` was copied to `to`, links and all; `from` is about to be reused.
    fn on_move(&mut self, nodes: &mut Nodes, from: u32, to: u32);

    /// Every entry, in the order in which they would leave if nothing else happened: the next victim first.
    fn order(&self, nodes: &Nodes) -> Vec<u32>;
}

/// A policy chosen at run time. An enum rather than a trait object: the hit path is a compare and a jump,
/// which the compiler can look through.
pub(super) enum AnyPolicy {
    Fifo(Fifo),
    Lru(Lru),
    Lfu(Lfu),
}

impl AnyPolicy {
    pub(super) const fn new(kind: PolicyKind) -> Self {
        match kind {
            PolicyKind::Fifo => Self::Fifo(Fifo::new()),
            PolicyKind::Lru => Self::Lru(Lru::new()),
            PolicyKind::Lfu => Self::Lfu(Lfu::new()),
        }
    }
}

/// Calls one method of whichever policy it is.
macro_rules! each {
    ($any:expr, $policy:ident => $call:expr) => {
        match $any {
            AnyPolicy::Fifo($policy) => $call,
            AnyPolicy::Lru($policy) => $call,
            AnyPolicy::Lfu($policy) => $call,
        }
    };
}

impl Policy for AnyPolicy {
    fn on_insert(&mut self, nodes: &mut Nodes, slot: u32) {
        each!(self, policy => policy.on_insert(nodes, slot));
    }

    fn on_hit(&mut self, nodes: &mut Nodes, slot: u32) {
        each!(self, policy => policy.on_hit(nodes, slot));
    }

    fn on_replace(&mut self, nodes: &mut Nodes, slot: u32, weight_before: u32) {
        each!(self, policy => policy.on_replace(nodes, slot, weight_before));
    }

    fn on_remove(&mut self, nodes: &mut Nodes, slot: u32, leaving: Leaving) {
        each!(self, policy => policy.on_remove(nodes, slot, leaving));
    }

    fn victim(&mut self, nodes: &mut Nodes, incoming_hash: u32, incoming_weight: u32) -> Option<u32> {
        each!(self, policy => policy.victim(nodes, incoming_hash, incoming_weight))
    }

    fn on_move(&mut self, nodes: &mut Nodes, from: u32, to: u32) {
        each!(self, policy => policy.on_move(nodes, from, to));
    }

    fn order(&self, nodes: &Nodes) -> Vec<u32> {
        each!(self, policy => policy.order(nodes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in PolicyKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "LRU".parse::<PolicyKind>().unwrap_err().to_string();
        for kind in PolicyKind::ALL {
            assert!(error.contains(kind.as_str()), "{error}");
        }
    }
}
