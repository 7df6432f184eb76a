//! What a group keeps in memory: the main cache, the hot cache, and the fence in front of both.
//!
//! The hash that chooses shard, index and slot is seeded at start, so that nobody outside can choose keys that
//! collide.

use std::{
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Answer, Change, GroupConfig, GroupMetrics, Key, Outcome, Selection, Value,
    demand::Demand,
    fence::{Fence, SlotState},
    omit::{KeyHasher, Step, key_hasher, note_hint, omitted},
};
use crate::{
    cache::{
        Cache, CacheConfig, CacheStats, Content, EvictionCause, EvictionListener, Inserted, Lookup, Weigh,
        allocation_bytes,
    },
    time::Moment,
};

/// The part of a group's capacity that copies of other owners' keys may take.
const HOT_SHARE: f64 = 0.125;

/// A value in memory, and since when it may have been out of date.
#[derive(Clone, Debug)]
pub struct Resident {
    value: Value,
    since: Moment,
    /// When it stops being fresh. The entry's own deadline is later by what it may be served stale.
    fresh_until: Moment,
}

impl Weigh for Resident {
    fn heap_bytes(&self) -> usize {
        // The first reader makes the buffer a shared one, whose header is an allocation of its own.
        const SHARED_HEADER_BYTES: usize = allocation_bytes(24);
        allocation_bytes(self.value.bytes().len()) + SHARED_HEADER_BYTES
    }
}

impl Weigh for Key {
    fn heap_bytes(&self) -> usize {
        allocation_bytes(self.as_bytes().len())
    }
}

/// What is to be kept of an answer.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    pub(super) value: Option<Value>,
    /// When the load that brought it began.
    pub(super) since: Moment,
    /// Until when it may be served.
    pub(super) until: Moment,
    /// How long after that a value is kept, to be served as stale.
    pub(super) window: Duration,
}

impl Fresh {
    /// What a cache keeps of it, and until when.
    fn into_parts(self) -> (Content<Resident>, Moment) {
        let Self { value, since, until, window } = self;
        match value {
            // What is not to be kept at all is not kept as stale either.
            Some(value) => {
                let window = if until > since { window } else { Duration::ZERO };
                let resident = Resident { value, since, fresh_until: until };
                (Content::Value(resident), until.saturating_add(window))
            }
            None => (Content::Absent, until),
        }
    }
}

pub(super) struct Store {
    main: Cache<Key, Resident>,
    hot: Option<Hot>,
    fence: Fence,
    seed: KeyHasher,
    /// For how long after an invalidation nothing is kept that a peer says.
    quiet: Duration,
    /// In the last part of its life, in thousandths, a value is loaded anew when it is asked for; 0 if it is not.
    ending: AtomicU64,
}

/// Copies of other owners' keys that are asked for often here.
struct Hot {
    copies: Cache<Key, Resident>,
    demand: Demand,
    /// In nanoseconds.
    ttl: AtomicU64,
}

impl Hot {
    fn set_ttl(&self, ttl: Duration) {
        self.ttl.store(u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn ttl(&self) -> Duration {
        Duration::from_nanos(self.ttl.load(Ordering::Relaxed))
    }
}

/// How much of a group's capacity its main cache may take, and how much the copies.
fn split(config: &GroupConfig) -> (u64, u64) {
    let hot = if config.hot_ttl.is_zero() { 0 } else { (config.capacity as f64 * HOT_SHARE) as u64 };
    (config.capacity - hot, hot)
}

/// How much of a cache's capacity is for absences.
fn negative(config: &GroupConfig, capacity: u64) -> u64 {
    (capacity as f64 * config.negative_share) as u64
}

/// The last part of a value's life, in thousandths.
fn ending(config: &GroupConfig) -> u64 {
    (config.refresh_ahead * 1000.0) as u64
}

impl Store {
    /// An empty store. `quiet` is the longest that a peer takes to answer.
    pub(super) fn new(config: &GroupConfig, metrics: &GroupMetrics, quiet: Duration) -> Self {
        let (main_capacity, hot_capacity) = split(config);
        let cache = |capacity: u64| {
            let parts = CacheConfig {
                capacity,
                negative_capacity: negative(config, capacity),
                policy: config.policy,
                shards: None,
            };
            Cache::with_listener(parts, Arc::new(CountEvictions(metrics.clone())))
        };
        Self {
            main: cache(main_capacity),
            hot: (hot_capacity > 0).then(|| {
                let hot =
                    Hot { copies: cache(hot_capacity), demand: Demand::new(), ttl: AtomicU64::default() };
                hot.set_ttl(config.hot_ttl);
                hot
            }),
            fence: Fence::new(),
            seed: key_hasher(),
            quiet,
            ending: AtomicU64::new(ending(config)),
        }
    }

    /// Takes over what `config` says of capacities and copies. A store that was made without copies keeps none.
    pub(super) fn reconfigure(&self, config: &GroupConfig, now: Moment) {
        self.ending.store(ending(config), Ordering::Relaxed);
        let (main, copies) = split(config);
        match &self.hot {
            None => self.main.set_capacity(config.capacity, negative(config, config.capacity), now),
            Some(hot) => {
                hot.set_ttl(config.hot_ttl);
                // First what becomes less.
                let mut caches = [(&self.main, main), (&hot.copies, copies)];
                if main > self.main.capacity() {
                    caches.reverse();
                }
                for (cache, capacity) in caches {
                    cache.set_capacity(capacity, negative(config, capacity), now);
                }
            }
        }
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.seed.hash_one(key)
    }

    pub(super) fn slot(&self, hash: u64) -> SlotState {
        self.fence.state(hash)
    }

    /// What the main cache has, or a copy of what another owner has.
    pub(super) fn get(&self, hash: u64, key: &[u8], now: Moment) -> Option<Answer> {
        if let Some(answer) = self.get_own(hash, key, now) {
            return Some(answer);
        }
        let hot = self.hot.as_ref()?;
        let answer = answer(hot.copies.get(hash, key, now), Outcome::HotHit, now)?;
        // A key stays in demand while its copies answer.
        hot.demand.note(hash, now);
        Some(answer)
    }

    /// What the main cache has.
    pub(super) fn get_own(&self, hash: u64, key: &[u8], now: Moment) -> Option<Answer> {
        answer(self.main.get(hash, key, now), Outcome::Hit, now)
    }

    /// As [`get_own`](Self::get_own), without a trace in the policy or the figures.
    pub(super) fn peek(&self, hash: u64, key: &[u8], now: Moment) -> Option<Answer> {
        answer(self.main.peek(hash, key, now), Outcome::Hit, now)
    }

    /// What [`get`](Self::get) would find; without a trace too.
    pub(super) fn peek_all(&self, hash: u64, key: &[u8], now: Moment) -> Option<Answer> {
        let copy = || answer(self.hot.as_ref()?.copies.peek(hash, key, now), Outcome::HotHit, now);
        self.peek(hash, key, now).or_else(copy)
    }

    /// A value of the main cache that is fresh no longer.
    pub(super) fn stale(&self, hash: u64, key: &[u8], now: Moment) -> Option<Answer> {
        let Lookup::Hit { value: Resident { value, since, fresh_until }, .. } =
            self.main.peek(hash, key, now)
        else {
            return None;
        };
        let stale = Answer {
            value: Some(value),
            outcome: Outcome::Stale,
            since,
            until: fresh_until,
            collapsed: false,
            hop: None,
        };
        (now >= fresh_until).then_some(stale)
    }

    /// Whether `answer`, which was found in the main cache, is in the part of its life in which it is to be loaded anew.
    pub(super) fn is_ending(&self, answer: &Answer, now: Moment) -> bool {
        let ending = self.ending.load(Ordering::Relaxed);
        if ending == 0 || answer.outcome != Outcome::Hit {
            return false;
        }
        let life = answer.until.saturating_since(answer.since).as_nanos();
        answer.remaining(now).as_nanos() * 1000 < life * u128::from(ending)
    }

    /// Keeps in the main cache what was read from the origin, unless the slot has changed since `slot` was read.
    /// Whether it was kept.
    pub(super) fn keep(&self, hash: u64, key: &Key, fresh: Fresh, now: Moment, slot: SlotState) -> bool {
        self.insert(&self.main, hash, key, fresh, now, slot)
    }

    /// Whether an invalidation of this slot came so lately that peers may not have heard of it.
    pub(super) fn is_quiet(&self, hash: u64, now: Moment) -> bool {
        self.fence.changed_within(hash, now, self.quiet)
    }

    /// As [`keep`](Self::keep), unless there is something of the key already, which is as new or newer.
    pub(super) fn keep_new(&self, hash: u64, key: &Key, fresh: Fresh, now: Moment, slot: SlotState) -> bool {
        let (content, until) = fresh.into_parts();
        let unchanged = || self.fence.state(hash) == slot;
        matches!(self.main.insert_new(hash, key.clone(), content, until, now, unchanged), Inserted::Stored)
    }

    /// Counts a request for another owner's key.
    pub(super) fn note_demand(&self, hash: u64, now: Moment) {
        if let Some(hot) = &self.hot {
            hot.demand.note(hash, now);
        }
    }

    /// Keeps a copy of what the owner answered, for a moment, if the key is in demand here. Whether it was kept.
    ///
    /// Of questions that were under way at the same time, which one brings the newer answer is not known: once one is
    /// kept, the others are not.
    pub(super) fn keep_copy(&self, hash: u64, key: &Key, fresh: Fresh, now: Moment, slot: SlotState) -> bool {
        let Some(hot) = &self.hot else { return false };
        if !hot.demand.is_high(hash) {
            return false;
        }
        let until = fresh.until.min(now.saturating_add(hot.ttl()));
        let (content, until) = Fresh { until, window: Duration::ZERO, ..fresh }.into_parts();
        let unchanged = || {
            let unchanged = self.is_unchanged(hash, slot);
            if unchanged {
                self.fence.pass(hash);
            }
            unchanged
        };
        matches!(hot.copies.insert_if(hash, key.clone(), content, until, now, unchanged), Inserted::Stored)
    }

    /// Drops the copy of another owner's key, if there is one: what was answered and not kept may be newer.
    pub(super) fn end_copy(&self, hash: u64, key: &[u8]) {
        if let Some(hot) = &self.hot {
            hot.copies.remove_with(hash, key, || {});
        }
    }

    /// Drops the copy of another owner's key, if there is one, and keeps out what was asked for before.
    pub(super) fn drop_copy(&self, hash: u64, key: &[u8]) {
        if let Some(hot) = &self.hot {
            hot.copies.remove_with(hash, key, || self.fence.pass(hash));
        }
    }

    fn is_unchanged(&self, hash: u64, slot: SlotState) -> bool {
        self.fence.state(hash) == slot || omitted(Step::SlotCheckAtStore)
    }

    fn insert(
        &self,
        cache: &Cache<Key, Resident>,
        hash: u64,
        key: &Key,
        fresh: Fresh,
        now: Moment,
        slot: SlotState,
    ) -> bool {
        // What may not be kept at all still ends what it is newer than.
        let (content, until) = fresh.into_parts();
        let unchanged = || self.is_unchanged(hash, slot);
        matches!(cache.insert_if(hash, key.clone(), content, until, now, unchanged), Inserted::Stored)
    }

    /// Drops what `selection` names, and keeps out what is under way. How many entries there were.
    pub(super) fn invalidate(&self, selection: &Selection, now: Moment) -> u64 {
        match selection {
            Selection::Keys(keys) => {
                keys.iter().map(|key| u64::from(self.invalidate_key(key.as_bytes(), now))).sum()
            }
            Selection::Prefix(prefix) => self.invalidate_prefix(prefix, now),
        }
    }

    fn invalidate_key(&self, key: &[u8], now: Moment) -> bool {
        let hash = self.hash(key);
        note_hint(hash);
        let own = self.main.remove_with(hash, key, || self.fence.change(hash, now));
        // The slot has changed already, so that no copy comes in between.
        let copy = self.hot.as_ref().is_some_and(|hot| hot.copies.remove_with(hash, key, || {}));
        own || copy
    }

    /// Applies row `seq` of the log. How many entries there were.
    pub(super) fn apply(&self, seq: u64, change: &Change, now: Moment) -> u64 {
        match change {
            Change::Key(key) => {
                let (key, hash) = (key.as_bytes(), self.hash(key.as_bytes()));
                let own = self.main.remove_with(hash, key, || self.fence.apply(hash, seq, now));
                let copy = self.hot.as_ref().is_some_and(|hot| hot.copies.remove_with(hash, key, || {}));
                u64::from(own) + u64::from(copy)
            }
            Change::Prefix(prefix) => {
                let bump = |shard, shards| self.fence.apply_shard(shard, shards, seq, now);
                self.remove_prefix(prefix, bump)
            }
        }
    }

    fn invalidate_prefix(&self, prefix: &[u8], now: Moment) -> u64 {
        self.remove_prefix(prefix, |shard, shards| self.fence.change_shard(shard, shards, now))
    }

    /// Drops every key with `prefix`; `bump` is called with each shard's number and that of all shards.
    fn remove_prefix(&self, prefix: &[u8], bump: impl Fn(usize, usize)) -> u64 {
        let shards = self.main.shard_count();
        let named = |key: &Key| key.as_bytes().starts_with(prefix);
        let own = self.main.remove_matching(|shard| bump(shard, shards), named);
        let copies = self.hot.as_ref().map_or(0, |hot| hot.copies.remove_matching(|_| {}, named));
        (own + copies) as u64
    }

    pub(super) fn reclaim_expired(&self, now: Moment, steps_max: usize) -> usize {
        let copies = self.hot.as_ref().map_or(0, |hot| hot.copies.reclaim_expired(now, steps_max));
        self.main.reclaim_expired(now, steps_max) + copies
    }

    /// The keys that the main cache would keep longest.
    pub(super) fn hottest(&self, limit: usize) -> Vec<Key> {
        self.main.hottest(limit)
    }

    /// A key of the main cache, chosen by `draw`; `None` where there is nothing near it.
    pub(super) fn any(&self, draw: u64) -> Option<Key> {
        self.main.any(draw)
    }

    pub(super) fn entry_bytes_max(&self) -> u64 {
        self.main.entry_bytes_max()
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.main.stats()
    }

    pub(super) fn hot_stats(&self) -> Option<CacheStats> {
        self.hot.as_ref().map(|hot| hot.copies.stats())
    }

    /// Of values, of absences and of copies: entries, bytes and capacity.
    pub(super) fn figures(&self, config: &GroupConfig) -> [[u64; 3]; 3] {
        let stats = self.stats();
        let negative = negative(config, self.main.capacity());
        let hot = self.hot.as_ref().map_or([0; 3], |hot| {
            let stats = hot.copies.stats();
            [stats.entries, stats.bytes, hot.copies.capacity()]
        });
        [
            [
                stats.entries - stats.negative_entries,
                stats.bytes - stats.negative_bytes,
                self.main.capacity() - negative,
            ],
            [stats.negative_entries, stats.negative_bytes, negative],
            hot,
        ]
    }
}

/// What a look has found, if it is fresh at `now`.
fn answer(lookup: Lookup<Resident>, outcome: Outcome, now: Moment) -> Option<Answer> {
    let (value, outcome, since, until) = match lookup {
        Lookup::Hit { value, .. } if now >= value.fresh_until => return None,
        Lookup::Hit { value, .. } => (Some(value.value), outcome, value.since, value.fresh_until),
        // The age of an absence is never told.
        Lookup::Absent { deadline } => (None, Outcome::Negative, deadline, deadline),
        Lookup::Miss => return None,
    };
    Some(Answer { value, outcome, since, until, collapsed: false, hop: None })
}

/// Counts evictions by cause.
struct CountEvictions(GroupMetrics);

impl EvictionListener<Key, Resident> for CountEvictions {
    fn on_evict(&self, _: &Key, _: &Content<Resident>, cause: EvictionCause) {
        self.0.evicted(cause);
    }
}
