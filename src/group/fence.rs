//! The fence: keeps a load that raced an invalidation out of every cache.
//!
//! A group has [`SLOTS`] slots, chosen by the low bits of a key's hash. An invalidation changes the slot and
//! drops the entry in one step, under the lock of the cache's shard; a flight notes the slot's state before it
//! reads, and its result is stored only if the state is unchanged, checked under the same lock. A slot
//! that several keys share makes a load's result go unstored now and then, never a wrong value.
//!
//! Invariants: a slot's state never returns to an earlier one; [`Fence::change`] is called before, or in the
//! same critical section as, the removal of what it guards.

use std::sync::atomic::{AtomicU64, Ordering};

/// Slots of a group. The cache's shards are chosen by the low bits of the same hash, so that a slot
/// lies in one shard.
pub const SLOTS: usize = 4096;

/// The state of a slot at a moment. Comparable for equality only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotState(u64);

/// The slots of one group.
#[derive(Debug)]
pub struct Fence {
    slots: Box<[AtomicU64]>,
}

impl Fence {
    /// A fence that nothing has crossed yet.
    pub fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }

    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.slots[hash as usize % SLOTS]
    }

    /// The present state of the slot of `hash`.
    pub fn state(&self, hash: u64) -> SlotState {
        SlotState(self.slot(hash).load(Ordering::Acquire))
    }

    /// Makes every flight of this slot that is under way unfit to be stored.
    pub fn change(&self, hash: u64) {
        self.slot(hash).fetch_add(1, Ordering::AcqRel);
    }

    /// [`change`](Self::change) for every slot that lies in shard `shard` of `shards` (a power of two).
    pub fn change_shard(&self, shard: usize, shards: usize) {
        for slot in self.slots.iter().skip(shard).step_by(shards) {
            slot.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Default for Fence {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_its_slot_only() {
        let fence = Fence::new();
        let (before, other) = (fence.state(7), fence.state(8));
        fence.change(7 + SLOTS as u64);
        assert_ne!(fence.state(7), before);
        assert_eq!(fence.state(8), other);
    }

    #[test]
    fn a_shard_s_slots_are_those_of_its_hashes() {
        let fence = Fence::new();
        let before: Vec<_> = (0..SLOTS as u64).map(|hash| fence.state(hash)).collect();
        fence.change_shard(3, 16);
        for (hash, before) in before.into_iter().enumerate() {
            assert_eq!(fence.state(hash as u64) != before, hash % 16 == 3, "slot {hash}");
        }
    }
}
