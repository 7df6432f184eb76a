//! The fence: keeps a load that raced an invalidation out of every cache.
//!
//! A group has [`SLOTS`] slots, chosen by the low bits of a key's hash. An invalidation changes the slot and
//! drops the entry in one step, under the lock of the cache's shard; a flight notes the slot's state before it
//! reads, and its result is stored only if the state is unchanged, checked under the same lock. A slot
//! that several keys share makes a load's result go unstored now and then, never a wrong value.
//!
//! Where the database has a log of changes, a slot also holds the sequence number of the last row that was applied to one
//! of its keys ([`SlotState::seq`]): that is what a flight needs of a peer, whose answer is current for the slot if
//! the peer has applied at least as much. It is written before the state changes, and read after the state, so that
//! who sees the change sees the number too. (A cursor beside a counter, read in either order, is not enough: a flight
//! that starts between the two would ask its peer for too little.)
//!
//! Invariants: a slot's state never returns to an earlier one; [`Fence::change`] and [`Fence::apply`] are called before,
//! or in the same critical section as, the removal of what they guard.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::time::Moment;

/// Slots of a group. The cache's shards are chosen by the low bits of the same hash, so that a slot
/// lies in one shard.
pub const SLOTS: usize = 4096;

/// The state of a slot at a moment. Comparable for equality only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotState {
    changes: u64,
    seq: u64,
}

impl SlotState {
    /// The sequence number of the last row of the log that was applied to one of the slot's keys, or up to which the log
    /// was taken for applied when its reading began; 0 without a log.
    pub const fn seq(self) -> u64 {
        self.seq
    }
}

/// The slots of one group.
#[derive(Debug)]
pub struct Fence {
    slots: Box<[Slot]>,
}

#[derive(Debug, Default)]
struct Slot {
    /// How often it has changed, for whatever reason.
    changes: AtomicU64,
    seq: AtomicU64,
    /// When it changed last, in nanoseconds.
    changed_at: AtomicU64,
}

impl Slot {
    fn change(&self, now: Moment) {
        self.changed_at.fetch_max(now.as_nanos(), Ordering::AcqRel);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn apply(&self, seq: u64, now: Moment) {
        self.seq.store(seq, Ordering::Release);
        self.change(now);
    }
}

impl Fence {
    /// A fence that nothing has crossed yet.
    pub fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Slot::default()).collect() }
    }

    fn slot(&self, hash: u64) -> &Slot {
        &self.slots[hash as usize % SLOTS]
    }

    /// The present state of the slot of `hash`.
    pub fn state(&self, hash: u64) -> SlotState {
        let slot = self.slot(hash);
        // In this order: see the top of this file.
        let changes = slot.changes.load(Ordering::Acquire);
        SlotState { changes, seq: slot.seq.load(Ordering::Acquire) }
    }

    /// Makes every flight of this slot that is under way unfit to be stored.
    pub fn change(&self, hash: u64, now: Moment) {
        self.slot(hash).change(now);
    }

    /// As [`change`](Self::change), because of row `seq` of the log.
    pub fn apply(&self, hash: u64, seq: u64, now: Moment) {
        self.slot(hash).apply(seq, now);
    }

    /// As [`change`](Self::change), where nobody else has to hear of it: what peers say from now on may be kept.
    pub fn pass(&self, hash: u64) {
        self.slot(hash).changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the slot of `hash` changed less than `period` before `now`. For that long after an invalidation, what
    /// a peer says of a key may be from before it: the peer may not have applied it yet.
    pub fn changed_within(&self, hash: u64, now: Moment, period: Duration) -> bool {
        let changed_at = self.slot(hash).changed_at.load(Ordering::Acquire);
        changed_at != 0 && now.saturating_since(Moment::from_nanos(changed_at)) < period
    }

    /// [`change`](Self::change) for every slot that lies in shard `shard` of `shards` (a power of two).
    pub fn change_shard(&self, shard: usize, shards: usize, now: Moment) {
        for slot in self.slots.iter().skip(shard).step_by(shards) {
            slot.change(now);
        }
    }

    /// [`apply`](Self::apply) for every slot that lies in shard `shard` of `shards` (a power of two).
    pub fn apply_shard(&self, shard: usize, shards: usize, seq: u64, now: Moment) {
        for slot in self.slots.iter().skip(shard).step_by(shards) {
            slot.apply(seq, now);
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
        fence.change(7 + SLOTS as u64, Moment::from_nanos(1));
        assert_ne!(fence.state(7), before);
        assert_eq!(fence.state(8), other);
    }

    #[test]
    fn a_row_is_a_change_that_leaves_its_number() {
        let (fence, now) = (Fence::new(), Moment::from_nanos(1));
        let before = fence.state(7);
        fence.apply(7, 12, now);
        let after = fence.state(7);
        assert!(before != after && after.seq() == 12);
        fence.change(7, now);
        assert!(fence.state(7) != after && fence.state(7).seq() == 12, "a hint leaves the number as it is");
        fence.apply_shard(0, 1, 3, now);
        assert_eq!(fence.state(7).seq(), 3, "another log begins anew");
    }

    #[test]
    fn a_change_is_remembered_for_a_period() {
        let (fence, period) = (Fence::new(), Duration::from_secs(1));
        let at = |seconds| Moment::default().saturating_add(Duration::from_secs(seconds));
        assert!(!fence.changed_within(7, at(0), period), "it never changed");
        fence.change(7, at(10));
        assert!(fence.changed_within(7, at(10), period));
        assert!(!fence.changed_within(7, at(11), period));
        assert!(!fence.changed_within(8, at(10), period));
    }

    #[test]
    fn a_shard_s_slots_are_those_of_its_hashes() {
        let fence = Fence::new();
        let before: Vec<_> = (0..SLOTS as u64).map(|hash| fence.state(hash)).collect();
        fence.change_shard(3, 16, Moment::from_nanos(1));
        for (hash, before) in before.into_iter().enumerate() {
            assert_eq!(fence.state(hash as u64) != before, hash % 16 == 3, "slot {hash}");
        }
    }
}
