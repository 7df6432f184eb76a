//! The cache engine: entries in memory, by key, within a number of bytes.
//!
//! Pure: no I/O, no clock (`now` is passed in), no task, and the hash of a key is given by the caller. Used
//! by `group` for the main and the hot cache, and by the benchmarks.
//!
//! - **Shards.** A power of two of them, each behind a mutex that is held for some tens of nanoseconds. The
//!   shard of a key is the low bits of its hash, so that a table of 4,096 fence slots by the low 12 bits
//!   has each slot in one shard: a check of such a slot inside [`Cache::insert_if`], and its change inside
//!   [`Cache::remove_with`], are one step with the store and the removal.
//! - **Bytes.** Every entry weighs what it takes: key, value, slot and index ([`Weigh`]). The weight of
//!   what is resident is at most the capacity after every operation. Values and negative entries have
//!   separate budgets. [`Cache::set_capacity`] changes them while the cache is in use.
//! - **Time.** An entry is never returned at or after its deadline, and no read extends it. Expired entries
//!   leave when they are read, or by [`Cache::reclaim_expired`], which looks at nothing else.
//! - **Policies.** [`PolicyKind`]; one file each in `policy/`.
//!
//! How it fits together: `shard` joins `slots` (where entries live), the index (a hash table of slot
//! numbers), `wheel` (what is due) and `policy` (who leaves); this file adds locks, weights and the
//! listener.

mod config;
mod entry;
mod list;
mod listener;
mod policy;
mod shard;
mod slots;
mod stats;
#[cfg(test)]
mod tests;
mod weight;
mod wheel;

use std::{
    borrow::Borrow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};

pub use self::{
    config::{CacheConfig, SHARDS_MAX},
    entry::{Content, Inserted, Lookup},
    listener::{EvictionCause, EvictionListener},
    policy::{PolicyKind, PolicyKindError},
    stats::CacheStats,
    weight::{Weigh, allocation_bytes},
};
use self::{
    entry::{Entry, Kind},
    listener::Departures,
    shard::{ExpiredSlot, INDEX_BYTES, Incoming, Shard},
    slots::Slots,
};
use crate::time::Moment;

/// Entries that are taken in hand under one lock while expired ones are reclaimed: some microseconds.
const RECLAIM_BATCH: usize = 64;
/// Entries that are evicted under one lock while a capacity shrinks.
const RESIZE_BATCH: usize = 64;

/// A shard on cache lines of its own, so that neighbours' locks don't slow each other down.
#[repr(align(128))]
struct Guarded<K, V>(Mutex<Shard<K, V>>);

/// A sharded cache in memory, for use from many threads at once.
///
/// Every method that names a key takes the key's 64-bit hash, which MUST be the same for equal keys at
/// every call, SHOULD be good in all its bits, and SHOULD be seeded per process, or clients can choose keys
/// that collide. The low bits choose the shard, the upper 32 the place within it.
///
/// No method blocks for longer than other threads hold a shard's lock. Callbacks that run under the lock
/// (`admit`, `bump`, `predicate`, and `Eq` and `Clone` of the types) MUST be short and MUST NOT call the
/// same cache: that would wait for itself.
pub struct Cache<K, V> {
    shards: Box<[Guarded<K, V>]>,
    capacity: AtomicU64,
    /// What the values of one shard may weigh.
    value_share: AtomicU64,
    /// Held while the capacity changes.
    resizing: Mutex<()>,
    listener: Option<Arc<dyn EvictionListener<K, V>>>,
    listener_panics: AtomicU64,
    /// The shard at which the next reclaiming goes on.
    reclaim_at: AtomicUsize,
}

impl<K, V> Cache<K, V> {
    /// What an entry weighs beside what its key and value keep on the heap, in bytes.
    pub const ENTRY_OVERHEAD_BYTES: usize = Slots::<K, V>::SLOT_BYTES + INDEX_BYTES;
}

impl<K: Eq + Weigh, V: Clone + Weigh> Cache<K, V> {
    /// An empty cache. Takes memory as entries come.
    pub fn new(config: CacheConfig) -> Self {
        Self::build(&config, None)
    }

    /// An empty cache that tells `listener` of every entry that leaves.
    pub fn with_listener(config: CacheConfig, listener: Arc<dyn EvictionListener<K, V>>) -> Self {
        Self::build(&config, Some(listener))
    }

    fn build(config: &CacheConfig, listener: Option<Arc<dyn EvictionListener<K, V>>>) -> Self {
        let count = config.shard_count();
        let (value_share, negative_share) = shares(config.capacity, config.negative_capacity, count);
        let shard = || Guarded(Mutex::new(Shard::new(config.policy, value_share, negative_share)));
        Self {
            shards: std::iter::repeat_with(shard).take(count).collect(),
            capacity: AtomicU64::new(config.capacity),
            value_share: AtomicU64::new(value_share),
            resizing: Mutex::new(()),
            listener,
            listener_panics: AtomicU64::new(0),
            reclaim_at: AtomicUsize::new(0),
        }
    }

    /// Reads `key`, which counts as a use of it. An entry whose deadline is `now` or earlier is a miss.
    pub fn get<Q>(&self, hash: u64, key: &Q, now: Moment) -> Lookup<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let mut shard = self.lock(hash);
        match shard.get(index_hash(hash), key, now) {
            Ok(found) => found,
            Err(expired) => {
                self.expire(shard, expired);
                Lookup::Miss
            }
        }
    }

    /// Apart from `get`, so that a hit does not pay for the room that departures take.
    #[cold]
    fn expire(&self, mut shard: MutexGuard<'_, Shard<K, V>>, expired: ExpiredSlot) {
        let mut departures = Departures::new();
        shard.expire(expired, &mut departures);
        drop(shard);
        self.release(departures);
    }

    /// Reads `key` without a trace: no effect on the policy or the figures.
    pub fn peek<Q>(&self, hash: u64, key: &Q, now: Moment) -> Lookup<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.lock(hash).peek(index_hash(hash), key, now)
    }

    /// Stores `content` until `deadline`, in place of what the key had, if `admit` says so.
    ///
    /// `admit` is called once, under the shard's lock: what it decides and the store are one step for
    /// everyone who changes the same facts inside [`remove_with`](Self::remove_with) or
    /// [`remove_matching`](Self::remove_matching). An entry that replaces one of its kind counts as a use
    /// of it and keeps its count or place, unless it grew so much that it would have to make room for
    /// itself.
    pub fn insert_if(
        &self,
        hash: u64,
        key: K,
        content: Content<V>,
        deadline: Moment,
        now: Moment,
        admit: impl FnOnce() -> bool,
    ) -> Inserted {
        self.insert_where(hash, key, content, deadline, now, |_, _| admit())
    }

    /// As [`insert_if`](Self::insert_if), and refused where there is an entry of the key that may still be returned.
    pub fn insert_new(
        &self,
        hash: u64,
        key: K,
        content: Content<V>,
        deadline: Moment,
        now: Moment,
        admit: impl FnOnce() -> bool,
    ) -> Inserted
    where
        V: Clone,
    {
        self.insert_where(hash, key, content, deadline, now, |shard, key| {
            matches!(shard.peek(index_hash(hash), key, now), Lookup::Miss) && admit()
        })
    }

    fn insert_where(
        &self,
        hash: u64,
        key: K,
        content: Content<V>,
        deadline: Moment,
        now: Moment,
        admit: impl FnOnce(&Shard<K, V>, &K) -> bool,
    ) -> Inserted {
        let weight = Self::entry_weight(&key, &content);
        let kind = content.kind();
        let mut departures = Departures::new();
        let mut shard = self.lock(hash);
        let hash = index_hash(hash);
        let inserted = if !admit(&shard, &key) {
            shard.refuse();
            Inserted::Refused
        } else if now >= deadline {
            shard.supersede(hash, &key, now, &mut departures);
            Inserted::Expired
        } else if let Some(weight) = weight.filter(|weight| shard.takes(kind, *weight)) {
            // The only branch that consumes key and content: in the others they are dropped after the lock
            // is released.
            let entry = Entry { key, content };
            shard.store(Incoming { hash, entry, weight, deadline }, now, &mut departures);
            Inserted::Stored
        } else {
            shard.reject(hash, &key, now, &mut departures);
            Inserted::TooLarge
        };
        drop(shard);
        self.release(departures);
        inserted
    }

    /// Stores `content` until `deadline`, in place of what the key had.
    pub fn insert(&self, hash: u64, key: K, content: Content<V>, deadline: Moment, now: Moment) -> Inserted {
        self.insert_if(hash, key, content, deadline, now, || true)
    }

    /// Calls `bump` and removes `key`, as one step under the shard's lock; whether there was an entry.
    /// `bump` is called in any case.
    pub fn remove_with<Q>(&self, hash: u64, key: &Q, bump: impl FnOnce()) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let mut departures = Departures::new();
        let mut shard = self.lock(hash);
        bump();
        let removed = shard.remove(index_hash(hash), key, &mut departures);
        drop(shard);
        self.release(departures);
        removed
    }

    /// Removes every entry whose key `predicate` picks; how many. Shard by shard: `bump` is called with the
    /// shard's number once under each shard's lock, in one step with the removals there.
    ///
    /// Looks at every entry: for prefixes and for all, not for one key. The lock of a shard is held
    /// meanwhile, for some milliseconds where it has hundreds of thousands of entries.
    pub fn remove_matching(&self, bump: impl Fn(usize), predicate: impl Fn(&K) -> bool) -> usize {
        let mut removed = 0;
        for (number, shard) in self.shards.iter().enumerate() {
            let mut departures = Departures::new();
            let mut shard = shard.0.lock();
            bump(number);
            removed += shard.remove_matching(&predicate, &mut departures);
            drop(shard);
            self.release(departures);
        }
        removed
    }

    /// Removes entries whose deadline has passed; how many. Takes at most `steps_max` entries in hand (some
    /// only move from a coarser to a finer bucket of time) and goes on there at the next call. To be called
    /// in the background, several times a second; an entry is reclaimed within 0.3 s of its deadline if the
    /// steps suffice.
    pub fn reclaim_expired(&self, now: Moment, steps_max: usize) -> usize {
        let mut reclaimed = 0;
        let mut steps_left = steps_max;
        let mut shards_left = self.shards.len();
        let mut number = self.reclaim_at.load(Ordering::Relaxed);
        while steps_left > 0 && shards_left > 0 {
            let batch = steps_left.min(RECLAIM_BATCH);
            let mut departures = Departures::new();
            let steps = self.shards[number].0.lock().reclaim(now, batch, &mut departures);
            reclaimed += departures.iter().count();
            self.release(departures);
            steps_left -= steps;
            if steps < batch {
                number = (number + 1) & (self.shards.len() - 1);
                shards_left -= 1;
            }
        }
        self.reclaim_at.store(number, Ordering::Relaxed);
        reclaimed
    }

    /// Changes what may be resident, as [`CacheConfig`] says it, and evicts what is too much: the policy's next victims,
    /// a few under one lock, so that reads and stores go on meanwhile. The bytes resident only shrink until they fit.
    /// Blocks until that is so, for some tenths of a second for a million entries: not for requests.
    ///
    /// The number of shards stays: after a change, too, no entry can be larger than the share of a shard.
    pub fn set_capacity(&self, capacity: u64, negative_capacity: u64, now: Moment) {
        let _one = self.resizing.lock();
        let (value_share, negative_share) = shares(capacity, negative_capacity, self.shards.len());
        // Never less than what is resident, at no moment.
        self.capacity.fetch_max(capacity, Ordering::Relaxed);
        for shard in &self.shards {
            for (kind, share) in [(Kind::Value, value_share), (Kind::Absent, negative_share)] {
                loop {
                    let mut departures = Departures::new();
                    let fits = shard.0.lock().resize(kind, share, RESIZE_BATCH, now, &mut departures);
                    self.release(departures);
                    if fits {
                        break;
                    }
                }
            }
        }
        self.value_share.store(value_share, Ordering::Relaxed);
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    /// The figures. Takes each shard's lock once, for an instant.
    pub fn stats(&self) -> CacheStats {
        let mut sum = CacheStats::default();
        for shard in &self.shards {
            sum.add(&shard.0.lock().stats());
        }
        sum.listener_panics = self.listener_panics.load(Ordering::Relaxed);
        sum
    }

    /// Entries resident, of both kinds. Some may have expired and not been reclaimed yet.
    pub fn len(&self) -> usize {
        self.stats().entries as usize
    }

    /// Whether nothing is resident.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes resident, of both kinds.
    pub fn bytes(&self) -> u64 {
        self.stats().bytes
    }

    /// Bytes that may be resident, as configured.
    pub fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// How many shards there are.
    pub const fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The weight of the largest entry with a value that is accepted, overhead included, in bytes.
    pub fn entry_bytes_max(&self) -> u64 {
        self.value_share.load(Ordering::Relaxed).min(u64::from(u32::MAX))
    }

    /// The keys of a shard's values in the order in which the policy would evict them, the next victim
    /// first. For tests and diagnosis: O(n) under the lock. Empty for a shard that does not exist.
    pub fn eviction_order(&self, shard: usize) -> Vec<K>
    where
        K: Clone,
    {
        self.order(shard, Kind::Value)
    }

    /// Up to `limit` keys of values, those first that the policy would keep longest; of each shard its share.
    /// Locks one shard at a time, for as long as it takes to walk its list: for a node that leaves, not for requests.
    pub fn hottest(&self, limit: usize) -> Vec<K>
    where
        K: Clone,
    {
        let share = limit.div_ceil(self.shard_count());
        let shards = 0..self.shard_count();
        let mut ranked: Vec<(usize, K)> = shards
            .flat_map(|shard| self.eviction_order(shard).into_iter().rev().take(share).enumerate())
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.truncate(limit);
        ranked.into_iter().map(|(_, key)| key).collect()
    }

    /// As [`eviction_order`](Self::eviction_order), for negative entries.
    pub fn negative_eviction_order(&self, shard: usize) -> Vec<K>
    where
        K: Clone,
    {
        self.order(shard, Kind::Absent)
    }

    /// The key of an entry near a place that `draw` chooses, expired or not; `None` if there is none near it in any shard.
    /// Of many draws every entry has its share, if not an equal one. Locks one shard at a time, each for a few steps.
    pub fn any(&self, draw: u64) -> Option<K>
    where
        K: Clone,
    {
        // The low bits choose the first shard, the high ones the place in it.
        let draws = (0..self.shards.len() as u64).map(|step| draw.wrapping_add(step));
        draws.into_iter().find_map(|near| self.lock(near).any(draw >> 32))
    }

    fn order(&self, shard: usize, kind: Kind) -> Vec<K>
    where
        K: Clone,
    {
        self.shards.get(shard).map_or_else(Vec::new, |shard| shard.0.lock().order(kind))
    }

    fn lock(&self, hash: u64) -> MutexGuard<'_, Shard<K, V>> {
        self.shards[hash as usize & (self.shards.len() - 1)].0.lock()
    }

    /// What the entry weighs; `None` if that is more than any may.
    fn entry_weight(key: &K, content: &Content<V>) -> Option<u32> {
        let heap_bytes = key.heap_bytes().saturating_add(content.heap_bytes());
        u32::try_from(heap_bytes.saturating_add(Self::ENTRY_OVERHEAD_BYTES)).ok()
    }

    /// Tells the listener of what left, then drops it. To be called without a lock.
    fn release(&self, departures: Departures<K, V>) {
        let Some(listener) = &self.listener else { return };
        for departure in departures.iter() {
            let Entry { key, content } = &departure.entry;
            // One event's panic must not lose the next event, nor fail the read that happened to cause it.
            let call = AssertUnwindSafe(|| listener.on_evict(key, content, departure.cause));
            if catch_unwind(call).is_err() {
                self.listener_panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("capacity", &self.capacity.load(Ordering::Relaxed))
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}

/// What the values, and what the negative entries, of one shard may weigh.
fn shares(capacity: u64, negative_capacity: u64, shards: usize) -> (u64, u64) {
    let (negative, shards) = (negative_capacity.min(capacity), shards as u64);
    ((capacity - negative) / shards, negative / shards)
}

/// The part of the hash that places a key within its shard.
const fn index_hash(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
impl<K: Eq + Weigh, V: Clone + Weigh> Cache<K, V> {
    /// Panics if an invariant of any shard is broken.
    fn check(&self) {
        for shard in &self.shards {
            shard.0.lock().check();
        }
        assert!(self.bytes() <= self.capacity(), "{} bytes in {}", self.bytes(), self.capacity());
    }

    fn slot_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().slot_count()).sum()
    }
}
