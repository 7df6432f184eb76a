//! Least recently used.

use super::{Leaving, Policy};
use crate::cache::{list::List, slots::Nodes};

/// Entries by their last use, the longest ago at the front.
pub(in crate::cache) struct Lru {
    recency: List,
}

impl Lru {
    pub(super) const fn new() -> Self {
        Self { recency: List::new() }
    }
}

impl Policy for Lru {
    fn on_insert(&mut self, nodes: &mut Nodes, slot: u32) {
        self.recency.push_back(nodes, slot);
    }

    fn on_hit(&mut self, nodes: &mut Nodes, slot: u32) {
        self.recency.move_to_back(nodes, slot);
    }

    fn on_remove(&mut self, nodes: &mut Nodes, slot: u32, _leaving: Leaving) {
        self.recency.remove(nodes, slot);
    }

    fn victim(&mut self, _nodes: &mut Nodes, _incoming_hash: u32, _incoming_weight: u32) -> Option<u32> {
        self.recency.front()
    }

    fn on_move(&mut self, nodes: &mut Nodes, _from: u32, to: u32) {
        self.recency.relocate(nodes, to);
    }

    fn order(&self, nodes: &Nodes) -> Vec<u32> {
        self.recency.iter(nodes).collect()
    }
}
