//! Many threads against the fence's promise: what was read before an invalidation is never found after it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{OVERHEAD, START, TestCache, TestKey, TestValue};
use crate::{
    cache::{CacheConfig, Content, EvictionCause, EvictionListener, Inserted, Lookup, PolicyKind},
    time::Moment,
};

const KEYS: u64 = 64;
const SHARDS: u64 = 4;
const ROUNDS: u64 = 20_000;

#[derive(Default)]
struct Counter(AtomicU64);

impl EvictionListener<TestKey, TestValue> for Counter {
    fn on_evict(&self, _: &TestKey, _: &Content<TestValue>, _: EvictionCause) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The low bits, which choose the shard, are the key's own: its version is that of one fence slot.
const fn hash(key: TestKey) -> u64 {
    key | key.wrapping_mul(0x9e37_79b9_7f4a_7c15) & !0xfff
}

struct Rig {
    cache: TestCache,
    versions: Vec<AtomicU64>,
    stored: AtomicU64,
    /// Milliseconds since the start, pushed on by the reclaimer.
    clock: AtomicU64,
    is_over: AtomicBool,
}

impl Rig {
    fn now(&self) -> Moment {
        START.saturating_add(Duration::from_millis(self.clock.load(Ordering::Relaxed)))
    }

    fn bump(&self, key: TestKey) {
        self.versions[key as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// Reads a version from the "database" and stores it, unless an invalidation came between.
    fn fill(&self, key: TestKey, round: u64) {
        let version = &self.versions[key as usize];
        let seen = version.load(Ordering::SeqCst);
        if round.is_multiple_of(7) {
            thread::yield_now();
        }
        let content = match round % 5 {
            0 => Content::Absent,
            _ => Content::Value(TestValue { id: seen, heap: (round % 100) as usize }),
        };
        let now = self.now();
        let deadline = now.saturating_add(Duration::from_millis(1 + round % 2_000));
        let admit = || version.load(Ordering::SeqCst) == seen;
        if self.cache.insert_if(hash(key), key, content, deadline, now, admit) == Inserted::Stored {
            self.stored.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self, key: TestKey) {
        let version = self.versions[key as usize].load(Ordering::SeqCst);
        if let Lookup::Hit { value, .. } = self.cache.get(hash(key), &key, self.now()) {
            assert!(value.id >= version, "key {key}: {} was served after {version} was known", value.id);
        }
    }

    fn invalidate(&self, key: TestKey, round: u64) {
        if round.is_multiple_of(50) {
            let bump_shard = |shard| {
                (0..KEYS).filter(|key| (key % SHARDS) as usize == shard).for_each(|key| self.bump(key));
            };
            self.cache.remove_matching(bump_shard, |_| true);
        } else {
            self.cache.remove_with(hash(key), &key, || self.bump(key));
        }
    }
}

fn storm(policy: PolicyKind) {
    let events = Arc::new(Counter::default());
    let config = CacheConfig {
        capacity: 48 * OVERHEAD,
        negative_capacity: 8 * OVERHEAD,
        policy,
        shards: Some(SHARDS as usize),
    };
    let rig = Rig {
        cache: TestCache::with_listener(config, events.clone()),
        versions: (0..KEYS).map(|_| AtomicU64::new(0)).collect(),
        stored: AtomicU64::new(0),
        clock: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    let key_of =
        |round: u64, thread: u64| (round ^ thread.wrapping_mul(0x2545_f491)).wrapping_mul(0x9e37_79b1) % KEYS;
    thread::scope(|scope| {
        let rig = &rig;
        let workers: Vec<_> = (0..4)
            .map(|thread| {
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let key = key_of(round, thread);
                        match (round + thread) % 3 {
                            0 => rig.read(key),
                            1 => rig.fill(key, round),
                            _ if thread == 0 => rig.invalidate(key, round),
                            _ => rig.fill(key, round),
                        }
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            while !rig.is_over.load(Ordering::Relaxed) {
                rig.clock.fetch_add(10, Ordering::Relaxed);
                rig.cache.reclaim_expired(rig.now(), 20);
                rig.cache.check();
                thread::yield_now();
            }
        });
        let outcomes: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        rig.is_over.store(true, Ordering::Relaxed);
        for outcome in outcomes {
            outcome.expect("a worker panicked");
        }
    });
    rig.cache.check();
    for key in 0..KEYS {
        if let Lookup::Hit { value, .. } = rig.cache.peek(hash(key), &key, START) {
            assert_eq!(value.id, rig.versions[key as usize].load(Ordering::SeqCst), "key {key}");
        }
    }
    let stats = rig.cache.stats();
    let counted: u64 = EvictionCause::ALL.into_iter().map(|cause| stats.evictions(cause)).sum();
    assert_eq!(rig.stored.into_inner(), stats.insertions);
    assert_eq!(events.0.load(Ordering::Relaxed), counted);
    assert_eq!(stats.insertions, counted + stats.entries, "each entry is resident or had one event");
}

#[test]
fn nothing_older_than_an_invalidation_is_served_after_it() {
    for policy in PolicyKind::ALL {
        storm(policy);
    }
}
