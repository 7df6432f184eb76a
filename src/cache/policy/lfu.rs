//! Least frequently used, exactly, in O(1) (Shah, Mitra and Matani, "An O(1) algorithm for implementing the
//! LFU cache eviction scheme", 2010).
//!
//! Entries of one use count form a tier; tiers are linked by ascending count. An entry starts with count 1,
//! each hit moves it to the back of the next tier, and the victim is the front of the lowest: among equals,
//! the one that came to its count first, which is the least recently used. Counts are never aged, so that
//! yesterday's favourites stay: that is what the name promises, and why it is not the default.
//!
//! Tiers are few: n of them need n entries with n different counts, hence n²/2 hits.

use super::{Leaving, Policy};
use crate::cache::{
    list::List,
    slots::{NIL, Nodes},
};

/// The entries of one use count.
struct Tier {
    count: u64,
    /// Least recently used first.
    entries: List,
    /// The tiers of the next lower and the next higher count that exist. `more` also links unused tiers.
    fewer: u32,
    more: u32,
}

/// Entries by use count. A node's word is the number of its tier.
pub(in crate::cache) struct Lfu {
    tiers: Vec<Tier>,
    /// The tier of the lowest count.
    lowest: u32,
    /// The first of the unused places in `tiers`.
    unused: u32,
}

impl Lfu {
    pub(super) const fn new() -> Self {
        Self { tiers: Vec::new(), lowest: NIL, unused: NIL }
    }

    fn tier(&self, number: u32) -> &Tier {
        &self.tiers[number as usize]
    }

    fn tier_mut(&mut self, number: u32) -> &mut Tier {
        &mut self.tiers[number as usize]
    }

    /// Whether the tier of this number exists and has this count.
    fn counts(&self, number: u32, count: u64) -> bool {
        number != NIL && self.tier(number).count == count
    }

    /// A new, empty tier of `count` between its neighbours.
    fn add_tier(&mut self, count: u64, fewer: u32, more: u32) -> u32 {
        let tier = Tier { count, entries: List::new(), fewer, more };
        let number = if self.unused == NIL {
            self.tiers.push(tier);
            // There are at most as many tiers as entries, and those are numbered by `u32`.
            (self.tiers.len() - 1) as u32
        } else {
            let number = self.unused;
            self.unused = std::mem::replace(self.tier_mut(number), tier).more;
            number
        };
        self.link(fewer, number);
        self.link_down(more, number);
        number
    }

    fn drop_tier_if_empty(&mut self, number: u32) {
        let Tier { ref entries, fewer, more, .. } = *self.tier(number);
        if !entries.is_empty() {
            return;
        }
        self.link(fewer, more);
        self.link_down(more, fewer);
        self.tier_mut(number).more = std::mem::replace(&mut self.unused, number);
    }

    /// Makes `more` the next tier above `fewer`, or the lowest where there is none below it.
    fn link(&mut self, fewer: u32, more: u32) {
        if fewer == NIL {
            self.lowest = more;
        } else {
            self.tier_mut(fewer).more = more;
        }
    }

    fn link_down(&mut self, more: u32, fewer: u32) {
        if more != NIL {
            self.tier_mut(more).fewer = fewer;
        }
    }

    fn append(&mut self, nodes: &mut Nodes, slot: u32, number: u32) {
        nodes[slot].word = number;
        self.tier_mut(number).entries.push_back(nodes, slot);
    }
}

impl Policy for Lfu {
    fn on_insert(&mut self, nodes: &mut Nodes, slot: u32) {
        let lowest = self.lowest;
        let first = if self.counts(lowest, 1) { lowest } else { self.add_tier(1, NIL, lowest) };
        self.append(nodes, slot, first);
    }

    fn on_hit(&mut self, nodes: &mut Nodes, slot: u32) {
        let from = nodes[slot].word;
        let Tier { count, ref entries, more, .. } = *self.tier(from);
        let raised = count.saturating_add(1);
        let to = if self.counts(more, raised) {
            more
        } else if entries.holds_only(slot) {
            // Nobody stays behind and nobody is there yet: the tier itself rises.
            self.tier_mut(from).count = raised;
            return;
        } else {
            self.add_tier(raised, from, more)
        };
        self.tier_mut(from).entries.remove(nodes, slot);
        self.append(nodes, slot, to);
        self.drop_tier_if_empty(from);
    }

    fn on_remove(&mut self, nodes: &mut Nodes, slot: u32, _leaving: Leaving) {
        let number = nodes[slot].word;
        self.tier_mut(number).entries.remove(nodes, slot);
        self.drop_tier_if_empty(number);
    }

    fn victim(&mut self, _nodes: &mut Nodes, _incoming_hash: u32, _incoming_weight: u32) -> Option<u32> {
        if self.lowest == NIL { None } else { self.tier(self.lowest).entries.front() }
    }

    fn on_move(&mut self, nodes: &mut Nodes, _from: u32, to: u32) {
        let number = nodes[to].word;
        self.tier_mut(number).entries.relocate(nodes, to);
    }

    fn order(&self, nodes: &Nodes) -> Vec<u32> {
        let first = Some(self.lowest).filter(|&number| number != NIL);
        let next = |&number: &u32| Some(self.tier(number).more).filter(|&number| number != NIL);
        std::iter::successors(first, next).flat_map(|number| self.tier(number).entries.iter(nodes)).collect()
    }
}
