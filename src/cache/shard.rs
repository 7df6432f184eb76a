//! One shard of a cache: index, slots, wheel and two ledgers, for one thread at a time.
//!
//! Never locks, never calls a listener and never drops an entry: what leaves is handed out in
//! [`Departures`]. User code that runs in here (`Eq` and `Clone` of keys and values, predicates) runs
//! before anything is changed, so that its panic leaves the shard as it was.
//!
//! Invariants, after every method: a slot in use is in the index once, on the list of its ledger's policy
//! once, and on the wheel if it ever expires; a ledger's bytes are the sum of its entries' weights and at
//! most its capacity.

#[cfg(test)]
mod check;

use std::borrow::Borrow;

use hashbrown::HashTable;

use super::{
    CacheStats, Content, EvictionCause, Lookup,
    entry::{Entry, Kind},
    listener::Departures,
    policy::{AnyPolicy, Leaving, Policy, PolicyKind},
    slots::{Node, Nodes, Slots},
    wheel::{Step, Wheel},
};
use crate::time::Moment;

/// Bytes that an entry takes in the index at its emptiest: a slot number and a tag, just after the table
/// has doubled (7/16 full). While it doubles, the old half is there too: 6 bytes more for each entry of
/// that one shard.
pub(super) const INDEX_BYTES: usize = (size_of::<u32>() + 1) * 16 / 7 + 1;

/// Entries below which the index is not worth shrinking.
const INDEX_ENTRIES_MIN: usize = 1024;

/// What may be resident of one kind, and in which order it leaves.
struct Ledger {
    policy: AnyPolicy,
    entries: u64,
    bytes: u64,
    capacity: u64,
}

impl Ledger {
    const fn new(policy: PolicyKind, capacity: u64) -> Self {
        Self { policy: AnyPolicy::new(policy), entries: 0, bytes: 0, capacity }
    }
}

/// An entry that is to be stored, with all that was found out about it before the lock was taken.
pub(super) struct Incoming<K, V> {
    pub(super) hash: u32,
    pub(super) entry: Entry<K, V>,
    pub(super) weight: u32,
    pub(super) deadline: Moment,
}

/// The slot of an entry that a read found expired.
pub(super) struct ExpiredSlot(u32);

/// A part of the cache, with its own share of the capacity.
pub(super) struct Shard<K, V> {
    index: HashTable<u32>,
    slots: Slots<K, V>,
    wheel: Wheel,
    values: Ledger,
    /// Negative entries have capacity and order of their own, so that a flood of absent keys displaces no
    /// value.
    absents: Ledger,
    stats: CacheStats,
}

impl<K: Eq, V> Shard<K, V> {
    pub(super) fn new(policy: PolicyKind, capacity: u64, negative_capacity: u64) -> Self {
        Self {
            index: HashTable::new(),
            slots: Slots::new(),
            wheel: Wheel::new(),
            values: Ledger::new(policy, capacity),
            absents: Ledger::new(PolicyKind::Fifo, negative_capacity),
            stats: CacheStats::default(),
        }
    }

    /// Reads, counts, and tells the policy.
    ///
    /// # Errors
    /// The slot of an entry that has expired, to be passed to [`expire`](Self::expire) under the same lock:
    /// a miss.
    #[inline]
    pub(super) fn get<Q>(&mut self, hash: u32, key: &Q, now: Moment) -> Result<Lookup<V>, ExpiredSlot>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
        V: Clone,
    {
        let Some(slot) = self.find(hash, key) else {
            self.stats.misses += 1;
            return Ok(Lookup::Miss);
        };
        let found = self.read(slot, now);
        match found {
            Lookup::Hit { .. } => {
                self.stats.hits += 1;
                self.values.policy.on_hit(&mut self.slots.nodes, slot);
            }
            Lookup::Absent { .. } => {
                self.stats.negative_hits += 1;
                self.absents.policy.on_hit(&mut self.slots.nodes, slot);
            }
            Lookup::Miss => {
                self.stats.misses += 1;
                return Err(ExpiredSlot(slot));
            }
        }
        Ok(found)
    }

    /// Takes out the entry that a read found expired.
    pub(super) fn expire(&mut self, ExpiredSlot(slot): ExpiredSlot, out: &mut Departures<K, V>) {
        self.remove_slot(slot, Leaving::Removed, EvictionCause::Expired, out);
        self.trim();
    }

    /// Reads and changes nothing.
    pub(super) fn peek<Q>(&self, hash: u32, key: &Q, now: Moment) -> Lookup<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
        V: Clone,
    {
        self.find(hash, key).map_or(Lookup::Miss, |slot| self.read(slot, now))
    }

    /// Counts an entry that its condition kept out.
    pub(super) fn refuse(&mut self) {
        self.stats.refused += 1;
    }

    /// Counts an entry that was too large, and takes out the one that it should have replaced.
    pub(super) fn reject(&mut self, hash: u32, key: &K, now: Moment, out: &mut Departures<K, V>) {
        self.stats.too_large += 1;
        self.supersede(hash, key, now, out);
    }

    /// Takes out the entry of `key`, as something newer came that is not kept.
    pub(super) fn supersede(&mut self, hash: u32, key: &K, now: Moment, out: &mut Departures<K, V>) {
        if let Some(slot) = self.find(hash, key) {
            let cause = self.cause(slot, EvictionCause::Replaced, now);
            self.remove_slot(slot, Leaving::Removed, cause, out);
            self.trim();
        }
    }

    /// Stores an entry whose weight fits, in place of what the key had.
    pub(super) fn store(&mut self, incoming: Incoming<K, V>, now: Moment, out: &mut Departures<K, V>) {
        self.stats.insertions += 1;
        let kind = incoming.entry.content.kind();
        match self.find(incoming.hash, &incoming.entry.key) {
            Some(slot) if self.slots.nodes[slot].kind == kind => self.replace(slot, incoming, now, out),
            Some(slot) => {
                let cause = self.cause(slot, EvictionCause::Replaced, now);
                self.remove_slot(slot, Leaving::Removed, cause, out);
                self.add(incoming, kind, now, out);
            }
            None => self.add(incoming, kind, now, out),
        }
        self.trim();
    }

    /// Takes out the entry of `key`; whether there was one.
    pub(super) fn remove<Q>(&mut self, hash: u32, key: &Q, out: &mut Departures<K, V>) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let Some(slot) = self.find(hash, key) else { return false };
        self.remove_slot(slot, Leaving::Removed, EvictionCause::Invalidated, out);
        self.trim();
        true
    }

    /// Takes out every entry whose key the predicate picks; how many. Looks at every entry.
    pub(super) fn remove_matching(
        &mut self,
        predicate: impl Fn(&K) -> bool,
        out: &mut Departures<K, V>,
    ) -> usize {
        let picked = self.slots.iter().filter(|(_, entry)| predicate(&entry.key));
        let picked: Vec<u32> = picked.map(|(slot, _)| slot).collect();
        out.reserve(picked.len());
        for &slot in &picked {
            self.remove_slot(slot, Leaving::Removed, EvictionCause::Invalidated, out);
        }
        self.trim();
        picked.len()
    }

    /// Takes at most `steps_max` entries in hand and takes those out that have expired. Answers the steps
    /// taken, fewer than `steps_max` only if nothing more is due.
    pub(super) fn reclaim(&mut self, now: Moment, steps_max: usize, out: &mut Departures<K, V>) -> usize {
        for steps in 0..steps_max {
            match self.wheel.poll(&mut self.slots.nodes, now) {
                Step::Due(slot) => {
                    self.remove_slot(slot, Leaving::Removed, EvictionCause::Expired, out);
                    self.trim();
                }
                Step::Moved => {}
                Step::Idle => return steps,
            }
        }
        steps_max
    }

    /// Whether an entry of this weight could be resident.
    pub(super) const fn takes(&self, kind: Kind, weight: u32) -> bool {
        weight as u64 <= self.ledger(kind).capacity
    }

    /// Brings the capacity for one kind towards `capacity`, and evicts at most `steps_max` entries for it; whether it is
    /// there. Until it is, the capacity is what the entries take, so that they only become fewer.
    pub(super) fn resize(
        &mut self,
        kind: Kind,
        capacity: u64,
        steps_max: usize,
        now: Moment,
        out: &mut Departures<K, V>,
    ) -> bool {
        for _ in 0..steps_max {
            let (ledger, nodes) = self.ledger_mut(kind);
            if ledger.bytes <= capacity {
                break;
            }
            // Nobody comes in for whom to make room.
            let Some(victim) = ledger.policy.victim(nodes, 0, 0) else { break };
            self.evict(victim, now, out);
        }
        self.trim();
        let (ledger, _) = self.ledger_mut(kind);
        ledger.capacity = capacity.max(ledger.bytes);
        ledger.capacity == capacity
    }

    pub(super) fn stats(&self) -> CacheStats {
        let mut stats = self.stats;
        stats.entries = self.values.entries + self.absents.entries;
        stats.bytes = self.values.bytes + self.absents.bytes;
        stats.negative_entries = self.absents.entries;
        stats.negative_bytes = self.absents.bytes;
        stats
    }

    /// The key of an entry near the place that `draw` chooses.
    pub(super) fn any(&self, draw: u64) -> Option<K>
    where
        K: Clone,
    {
        self.slots.first_from(draw).map(|entry| entry.key.clone())
    }

    /// The keys of one kind in the order in which they would leave, the next victim first.
    pub(super) fn order(&self, kind: Kind) -> Vec<K>
    where
        K: Clone,
    {
        let ledger = self.ledger(kind);
        let order = ledger.policy.order(&self.slots.nodes);
        order.into_iter().map(|slot| self.slots.entry(slot).key.clone()).collect()
    }

    fn find<Q>(&self, hash: u32, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        // The index compared seven bits of the hash already: nodes need not be asked for theirs.
        let is_key = |&slot: &u32| self.slots.entry(slot).key.borrow() == key;
        self.index.find(spread(hash), is_key).copied()
    }

    /// What a read of `slot` answers: the one place that decides whether an entry may still be served.
    fn read(&self, slot: u32, now: Moment) -> Lookup<V>
    where
        V: Clone,
    {
        let deadline = self.slots.nodes[slot].deadline;
        if now >= deadline {
            return Lookup::Miss;
        }
        match &self.slots.entry(slot).content {
            Content::Value(value) => Lookup::Hit { value: value.clone(), deadline },
            Content::Absent => Lookup::Absent { deadline },
        }
    }

    const fn ledger(&self, kind: Kind) -> &Ledger {
        match kind {
            Kind::Value => &self.values,
            Kind::Absent => &self.absents,
        }
    }

    fn ledger_mut(&mut self, kind: Kind) -> (&mut Ledger, &mut Nodes) {
        let ledger = match kind {
            Kind::Value => &mut self.values,
            Kind::Absent => &mut self.absents,
        };
        (ledger, &mut self.slots.nodes)
    }

    /// `cause`, or that the entry had expired anyway.
    fn cause(&self, slot: u32, cause: EvictionCause, now: Moment) -> EvictionCause {
        if now >= self.slots.nodes[slot].deadline { EvictionCause::Expired } else { cause }
    }

    fn add(&mut self, incoming: Incoming<K, V>, kind: Kind, now: Moment, out: &mut Departures<K, V>) {
        let Incoming { hash, entry, weight, deadline } = incoming;
        let (ledger, _) = self.ledger_mut(kind);
        ledger.bytes += u64::from(weight);
        ledger.entries += 1;
        // Room is made first, and the newcomer is not yet among the candidates.
        self.evict_excess(kind, hash, weight, now, out);
        let node = Node::new(kind, hash, weight, deadline);
        let slot = self.slots.occupy(node, entry);
        let nodes = &self.slots.nodes;
        self.index.insert_unique(spread(hash), slot, |&slot| spread(nodes[slot].hash));
        self.wheel.schedule(&mut self.slots.nodes, slot);
        let (ledger, nodes) = self.ledger_mut(kind);
        ledger.policy.on_insert(nodes, slot);
    }

    /// Gives the entry in `slot` new content of the same kind. It keeps its standing with the policy.
    fn replace(&mut self, slot: u32, incoming: Incoming<K, V>, now: Moment, out: &mut Departures<K, V>) {
        let Incoming { hash, entry, weight, deadline } = incoming;
        let kind = entry.content.kind();
        let cause = self.cause(slot, EvictionCause::Replaced, now);
        out.push(self.slots.exchange(slot, entry), cause);
        self.stats.count_eviction(cause);
        self.wheel.cancel(&mut self.slots.nodes, slot);
        let node = &mut self.slots.nodes[slot];
        node.deadline = deadline;
        let weight_before = std::mem::replace(&mut node.weight, weight);
        self.wheel.schedule(&mut self.slots.nodes, slot);

        let (ledger, nodes) = self.ledger_mut(kind);
        ledger.bytes = ledger.bytes - u64::from(weight_before) + u64::from(weight);
        ledger.policy.on_replace(nodes, slot, weight_before);
        let mut is_listed = true;
        while ledger_exceeds(self.ledger_mut(kind).0) {
            let (ledger, nodes) = self.ledger_mut(kind);
            let victim = ledger.policy.victim(nodes, hash, weight).expect("one entry alone fits");
            if victim == slot {
                // It grew and would have to make room for itself: it comes in again, as if new.
                ledger.policy.on_remove(nodes, slot, Leaving::Removed);
                is_listed = false;
            } else {
                self.evict(victim, now, out);
            }
        }
        if !is_listed {
            let (ledger, nodes) = self.ledger_mut(kind);
            ledger.policy.on_insert(nodes, slot);
        }
    }

    /// Evicts until the ledger, in which the newcomer is counted already, is within its capacity.
    fn evict_excess(&mut self, kind: Kind, hash: u32, weight: u32, now: Moment, out: &mut Departures<K, V>) {
        loop {
            let (ledger, nodes) = self.ledger_mut(kind);
            if !ledger_exceeds(ledger) {
                return;
            }
            let victim = ledger.policy.victim(nodes, hash, weight).expect("one entry alone fits");
            self.evict(victim, now, out);
        }
    }

    fn evict(&mut self, victim: u32, now: Moment, out: &mut Departures<K, V>) {
        let cause = self.cause(victim, EvictionCause::Capacity, now);
        self.remove_slot(victim, Leaving::Evicted, cause, out);
    }

    fn remove_slot(&mut self, slot: u32, leaving: Leaving, cause: EvictionCause, out: &mut Departures<K, V>) {
        let Node { hash, weight, kind, .. } = self.slots.nodes[slot];
        let (ledger, nodes) = self.ledger_mut(kind);
        ledger.policy.on_remove(nodes, slot, leaving);
        ledger.bytes -= u64::from(weight);
        ledger.entries -= 1;
        self.wheel.cancel(&mut self.slots.nodes, slot);
        if let Ok(place) = self.index.find_entry(spread(hash), |&indexed| indexed == slot) {
            place.remove();
        }
        out.push(self.slots.vacate(slot), cause);
        self.stats.count_eviction(cause);
    }

    /// Gives memory back that the entries don't need any more, by whole chunks of slots. Each chunk was
    /// preceded by as many removals, so that this takes O(1) amortised.
    fn trim(&mut self) {
        if !self.slots.has_surplus() {
            return;
        }
        let Self { index, slots, wheel, values, absents, .. } = self;
        while slots.has_surplus() {
            slots.release_chunk(|nodes, from, to| {
                let Node { hash, kind, .. } = nodes[to];
                if let Ok(mut place) = index.find_entry(spread(hash), |&indexed| indexed == from) {
                    *place.get_mut() = to;
                }
                wheel.relocate(nodes, to);
                match kind {
                    Kind::Value => values.policy.on_move(nodes, from, to),
                    Kind::Absent => absents.policy.on_move(nodes, from, to),
                }
            });
        }
        let wanted = index.len().max(INDEX_ENTRIES_MIN);
        if index.capacity() / 4 > wanted {
            index.shrink_to(wanted, |&slot| spread(slots.nodes[slot].hash));
        }
    }
}

const fn ledger_exceeds(ledger: &Ledger) -> bool {
    ledger.bytes > ledger.capacity
}

/// The 64 bits that the index wants, of the 32 that a node keeps: it takes the bucket from the low end and
/// the tag from the high end.
const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}
