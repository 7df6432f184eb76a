//! First in, first out.
//!
//! The cheapest policy there is: a read changes nothing. An entry that is replaced keeps its place.

use super::{Leaving, Policy};
use crate::cache::{list::List, slots::Nodes};

/// Entries by arrival, the oldest at the front.
pub(in crate::cache) struct Fifo {
    queue: List,
}

impl Fifo {
    pub(super) const fn new() -> Self {
        Self { queue: List::new() }
    }
}

impl Policy for Fifo {
    fn on_insert(&mut self, nodes: &mut Nodes, slot: u32) {
        self.queue.push_back(nodes, slot);
    }

    fn on_hit(&mut self, _nodes: &mut Nodes, _slot: u32) {}

    fn on_remove(&mut self, nodes: &mut Nodes, slot: u32, _leaving: Leaving) {
        self.queue.remove(nodes, slot);
    }

    fn victim(&mut self, _nodes: &mut Nodes, _incoming_hash: u32, _incoming_weight: u32) -> Option<u32> {
        self.queue.front()
    }

    fn on_move(&mut self, nodes: &mut Nodes, _from: u32, to: u32) {
        self.queue.relocate(nodes, to);
    }

    fn order(&self, nodes: &Nodes) -> Vec<u32> {
        self.queue.iter(nodes).collect()
    }
}
