//! What a group keeps in memory: the main cache, and the fence in front of it.
//!
//! The hash that chooses shard, index and slot is seeded at start, so that nobody outside can choose keys that
//! collide.

use std::{hash::BuildHasher, sync::Arc};

use foldhash::quality::RandomState;

use super::{
    Answer, GroupConfig, GroupMetrics, Key, Outcome, Value,
    fence::{Fence, SlotState},
};
use crate::{
    cache::{
        Cache, CacheConfig, CacheStats, Content, EvictionCause, EvictionListener, Inserted, Lookup, Weigh,
        allocation_bytes,
    },
    time::Moment,
};

/// A value in memory, and since when it may have been out of date.
#[derive(Clone, Debug)]
pub struct Resident {
    value: Value,
    since: Moment,
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

/// What was found in memory.
pub(super) enum Found {
    Value { resident: Resident, until: Moment },
    Absent { until: Moment },
}

impl Found {
    fn new(lookup: Lookup<Resident>) -> Option<Self> {
        match lookup {
            Lookup::Hit { value, deadline } => Some(Self::Value { resident: value, until: deadline }),
            Lookup::Absent { deadline } => Some(Self::Absent { until: deadline }),
            Lookup::Miss => None,
        }
    }

    pub(super) fn into_answer(self) -> Answer {
        let (value, outcome, since, until) = match self {
            Self::Value { resident, until } => (Some(resident.value), Outcome::Hit, resident.since, until),
            // The age of an absence is never told.
            Self::Absent { until } => (None, Outcome::Negative, until, until),
        };
        Answer { value, outcome, since, until, collapsed: false, hop: None }
    }
}

/// The part of a group's capacity that absences may take, in bytes.
pub(super) fn negative_capacity(config: &GroupConfig) -> u64 {
    (config.capacity as f64 * config.negative_share) as u64
}

pub(super) struct Store {
    main: Cache<Key, Resident>,
    fence: Fence,
    seed: RandomState,
}

impl Store {
    pub(super) fn new(config: &GroupConfig, metrics: GroupMetrics) -> Self {
        let main = CacheConfig {
            capacity: config.capacity,
            negative_capacity: negative_capacity(config),
            policy: config.policy,
            shards: None,
        };
        Self {
            main: Cache::with_listener(main, Arc::new(CountEvictions(metrics))),
            fence: Fence::new(),
            seed: RandomState::default(),
        }
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.seed.hash_one(key)
    }

    pub(super) fn slot(&self, hash: u64) -> SlotState {
        self.fence.state(hash)
    }

    pub(super) fn get(&self, hash: u64, key: &[u8], now: Moment) -> Option<Found> {
        Found::new(self.main.get(hash, key, now))
    }

    /// As [`get`](Self::get), without a trace in the policy or the figures.
    pub(super) fn peek(&self, hash: u64, key: &[u8], now: Moment) -> Option<Found> {
        Found::new(self.main.peek(hash, key, now))
    }

    /// Keeps what a load that began at `since` brought, unless the slot has changed since `slot` was read. Whether
    /// it was kept.
    #[expect(clippy::too_many_arguments, reason = "an entry has this many parts, and one caller fills them")]
    pub(super) fn insert(
        &self,
        hash: u64,
        key: Key,
        value: Option<Value>,
        since: Moment,
        until: Moment,
        now: Moment,
        slot: SlotState,
    ) -> bool {
        if until <= now {
            return false;
        }
        let content = match value {
            Some(value) => Content::Value(Resident { value, since }),
            None => Content::Absent,
        };
        let unchanged = || self.fence.state(hash) == slot;
        matches!(self.main.insert_if(hash, key, content, until, now, unchanged), Inserted::Stored)
    }

    pub(super) fn invalidate(&self, hash: u64, key: &[u8]) -> bool {
        self.main.remove_with(hash, key, || self.fence.change(hash))
    }

    pub(super) fn invalidate_prefix(&self, prefix: &[u8]) -> usize {
        let shards = self.main.shard_count();
        self.main.remove_matching(
            |shard| self.fence.change_shard(shard, shards),
            |key| key.as_bytes().starts_with(prefix),
        )
    }

    pub(super) fn reclaim_expired(&self, now: Moment, steps_max: usize) -> usize {
        self.main.reclaim_expired(now, steps_max)
    }

    pub(super) fn entry_bytes_max(&self) -> u64 {
        self.main.entry_bytes_max()
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.main.stats()
    }
}

/// Counts evictions by cause.
struct CountEvictions(GroupMetrics);

impl EvictionListener<Key, Resident> for CountEvictions {
    fn on_evict(&self, _: &Key, _: &Content<Resident>, cause: EvictionCause) {
        self.0.evicted(cause);
    }
}
