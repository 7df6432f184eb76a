//! Tests of the engine through its public face: here what each rule says, one by one; in `capacity` what another
//! capacity does, in `model` random operations against a naive model, in `threads` many threads against the fence's
//! promise.

mod capacity;
mod model;
mod threads;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Cache, CacheConfig, Content, EvictionCause, EvictionListener, Inserted, Lookup, PolicyKind, Weigh,
};
use crate::time::Moment;

/// A key of which the tests choose the hash.
type TestKey = u64;

/// A value that claims to keep `heap` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TestValue {
    id: u64,
    heap: usize,
}

impl Weigh for TestValue {
    fn heap_bytes(&self) -> usize {
        self.heap
    }
}

type TestCache = Cache<TestKey, TestValue>;

const OVERHEAD: u64 = TestCache::ENTRY_OVERHEAD_BYTES as u64;
const START: Moment = Moment::from_nanos(1_000_000_000);
const NEVER: Moment = Moment::from_nanos(u64::MAX);

fn config(policy: PolicyKind, capacity: u64) -> CacheConfig {
    CacheConfig { capacity, negative_capacity: 0, policy, shards: Some(1) }
}

fn value(id: u64) -> Content<TestValue> {
    Content::Value(TestValue { id, heap: 0 })
}

fn hash(key: TestKey) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl TestCache {
    fn put(&self, key: TestKey, content: Content<TestValue>) -> Inserted {
        self.insert(hash(key), key, content, NEVER, START)
    }

    fn read(&self, key: TestKey) -> Option<u64> {
        match self.get(hash(key), &key, START) {
            Lookup::Hit { value, .. } => Some(value.id),
            Lookup::Absent { .. } | Lookup::Miss => None,
        }
    }
}

/// Keeps every event.
#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

type Event = (TestKey, Content<TestValue>, EvictionCause);

impl EvictionListener<TestKey, TestValue> for Recorder {
    fn on_evict(&self, key: &TestKey, content: &Content<TestValue>, cause: EvictionCause) {
        self.0.lock().push((*key, *content, cause));
    }
}

impl Recorder {
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock())
    }
}

#[test]
fn can_be_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Cache<Box<[u8]>, Arc<[u8]>>>();
}

#[test]
fn an_entry_ends_at_its_deadline_whatever_reads_it() {
    let deadline = START.saturating_add(Duration::from_secs(1));
    let last = Moment::from_nanos(deadline.as_nanos() - 1);
    for policy in PolicyKind::ALL {
        let cache = TestCache::new(config(policy, 10 * OVERHEAD));
        cache.insert(1, 1, value(7), deadline, START);
        let hit = Lookup::Hit { value: TestValue { id: 7, heap: 0 }, deadline };
        for _ in 0..10 {
            assert_eq!(cache.get(1, &1, last), hit, "{policy}");
        }
        assert_eq!(cache.peek(1, &1, deadline), Lookup::Miss, "{policy}");
        assert_eq!(cache.len(), 1, "a peek changes nothing");
        assert_eq!(cache.get(1, &1, deadline), Lookup::Miss, "{policy}");
        assert_eq!(cache.stats().evictions(EvictionCause::Expired), 1);
        assert!(cache.is_empty());
        assert_eq!(cache.insert(1, 1, value(8), deadline, deadline), Inserted::Expired);
        assert!(cache.is_empty());
    }
}

#[test]
fn too_large_a_value_takes_out_only_what_it_should_have_replaced() {
    let recorder = Arc::new(Recorder::default());
    let cache = TestCache::with_listener(config(PolicyKind::Lru, 4 * OVERHEAD), recorder.clone());
    for key in 0..3 {
        cache.put(key, value(key));
    }
    assert_eq!(cache.entry_bytes_max(), 4 * OVERHEAD);
    let large = |heap| Content::Value(TestValue { id: 9, heap });
    let limit = 3 * OVERHEAD as usize;
    assert_eq!(cache.put(8, large(limit + 1)), Inserted::TooLarge);
    assert_eq!(cache.put(8, large(usize::MAX)), Inserted::TooLarge);
    assert_eq!(cache.len(), 3);
    assert_eq!(cache.put(1, large(limit + 1)), Inserted::TooLarge);
    assert_eq!(recorder.take(), [(1, value(1), EvictionCause::Replaced)]);
    assert_eq!(cache.stats().too_large, 3);
    assert_eq!(cache.put(8, large(limit)), Inserted::Stored);
    assert_eq!((cache.len(), cache.bytes()), (1, cache.capacity()));
    cache.check();
}

#[test]
fn a_flood_of_absent_keys_displaces_no_value() {
    let mut config = config(PolicyKind::Lru, 20 * OVERHEAD);
    config.negative_capacity = 4 * OVERHEAD;
    let cache = TestCache::new(config);
    for key in 0..16 {
        cache.put(key, value(key));
    }
    for key in 100..1_100 {
        assert_eq!(cache.put(key, Content::Absent), Inserted::Stored);
        cache.check();
    }
    assert_eq!(cache.eviction_order(0), (0..16).collect::<Vec<_>>());
    assert_eq!(cache.negative_eviction_order(0), [1_096, 1_097, 1_098, 1_099]);
    let stats = cache.stats();
    assert_eq!((stats.negative_entries, stats.negative_bytes), (4, 4 * OVERHEAD));
    assert_eq!((stats.entries, stats.bytes), (20, 20 * OVERHEAD));
    assert_eq!(cache.get(hash(1_099), &1_099, START), Lookup::Absent { deadline: NEVER });
    assert_eq!(cache.stats().negative_hits, 1);

    // One kind replaces the other.
    assert_eq!(cache.put(0, Content::Absent), Inserted::Stored);
    assert_eq!(cache.put(1_099, value(5)), Inserted::Stored);
    assert_eq!(cache.read(1_099), Some(5));
    assert_eq!(cache.get(hash(0), &0, START), Lookup::Absent { deadline: NEVER });
    cache.check();
}

#[test]
fn no_negative_entry_is_kept_without_a_budget() {
    let cache = TestCache::new(config(PolicyKind::Lru, 20 * OVERHEAD));
    cache.put(1, value(1));
    assert_eq!(cache.put(1, Content::Absent), Inserted::TooLarge);
    assert!(cache.is_empty(), "the value is out of date");
}

#[test]
fn nothing_is_kept_without_capacity() {
    let cache = TestCache::new(CacheConfig { negative_capacity: 9, ..config(PolicyKind::Lfu, 0) });
    assert_eq!(cache.put(1, value(1)), Inserted::TooLarge);
    assert_eq!(cache.put(1, Content::Absent), Inserted::TooLarge);
    assert_eq!(cache.reclaim_expired(NEVER, 100), 0);
    assert_eq!(cache.stats().bytes, 0);
}

#[test]
fn policies_order_their_entries() {
    let order = |policy| {
        let cache = TestCache::new(config(policy, 4 * OVERHEAD));
        for key in 0..4 {
            cache.put(key, value(key));
        }
        for key in [2, 0, 0, 3] {
            cache.read(key);
        }
        assert_eq!(
            cache.peek(hash(1), &1, START),
            Lookup::Hit { value: TestValue { id: 1, heap: 0 }, deadline: NEVER }
        );
        cache.eviction_order(0)
    };
    assert_eq!(order(PolicyKind::Fifo), [0, 1, 2, 3]);
    assert_eq!(order(PolicyKind::Lru), [1, 2, 0, 3]);
    // 1 was used once, 2 and 3 twice (2 longer ago), 0 three times.
    assert_eq!(order(PolicyKind::Lfu), [1, 2, 3, 0]);
}

#[test]
fn a_refused_entry_changes_nothing() {
    let cache = TestCache::new(config(PolicyKind::Lru, 4 * OVERHEAD));
    cache.put(1, value(1));
    let refused = cache.insert_if(hash(1), 1, value(2), NEVER, START, || false);
    assert_eq!((refused, cache.read(1)), (Inserted::Refused, Some(1)));
    let large = Content::Value(TestValue { id: 2, heap: 1 << 20 });
    assert_eq!(cache.insert_if(hash(1), 1, large, NEVER, START, || false), Inserted::Refused);
    assert_eq!((cache.read(1), cache.stats().refused), (Some(1), 2));
}

#[test]
fn a_new_entry_takes_nobodys_place() {
    let cache = TestCache::new(config(PolicyKind::Lru, 4 * OVERHEAD));
    let later = START.saturating_add(Duration::from_secs(1));
    assert_eq!(cache.insert_new(hash(1), 1, value(1), later, START, || false), Inserted::Refused);
    assert_eq!(cache.insert_new(hash(1), 1, value(1), later, START, || true), Inserted::Stored);
    assert_eq!(cache.insert_new(hash(1), 1, value(2), NEVER, START, || true), Inserted::Refused);
    assert_eq!(cache.read(1), Some(1));
    // What has expired is nobody's.
    assert_eq!(cache.insert_new(hash(1), 1, value(2), NEVER, later, || true), Inserted::Stored);
    assert_eq!(cache.read(1), Some(2));
}

#[test]
fn invalidation_bumps_whether_or_not_there_is_an_entry() {
    let recorder = Arc::new(Recorder::default());
    let cache = TestCache::with_listener(config(PolicyKind::Lru, 4 * OVERHEAD), recorder.clone());
    cache.put(1, value(1));
    let mut bumps = 0;
    assert!(cache.remove_with(hash(1), &1, || bumps += 1));
    assert!(!cache.remove_with(hash(1), &1, || bumps += 1));
    assert_eq!(bumps, 2);
    assert_eq!(recorder.take(), [(1, value(1), EvictionCause::Invalidated)]);
}

#[test]
fn conditions_and_bumps_run_under_the_lock() {
    let cache = TestCache::new(config(PolicyKind::Lru, 4 * OVERHEAD));
    let assert_locked = || assert!(cache.shards[0].0.is_locked());
    let admit = || {
        assert_locked();
        true
    };
    assert_eq!(cache.insert_if(hash(1), 1, value(1), NEVER, START, admit), Inserted::Stored);
    assert!(cache.remove_with(hash(1), &1, assert_locked));
    cache.put(1, value(1));
    let is_picked = |_: &TestKey| {
        assert_locked();
        true
    };
    assert_eq!(cache.remove_matching(|_| assert_locked(), is_picked), 1);
    assert!(!cache.shards[0].0.is_locked());
}

#[test]
fn a_shard_is_the_low_bits_of_the_hash() {
    let config = CacheConfig { shards: Some(7), ..config(PolicyKind::Lru, 1_000 * OVERHEAD) };
    let cache = TestCache::new(config);
    assert_eq!(cache.shard_count(), 8);
    for key in 0..64 {
        cache.insert(key | key << 40, key, value(key), NEVER, START);
    }
    for shard in 0..8 {
        let keys = cache.eviction_order(shard);
        assert_eq!(keys.len(), 8);
        assert!(keys.iter().all(|&key| key as usize % 8 == shard), "{shard}: {keys:?}");
    }
    let bumped = Mutex::new(Vec::new());
    assert_eq!(cache.remove_matching(|shard| bumped.lock().push(shard), |&key| key < 32), 32);
    assert_eq!(bumped.into_inner(), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(cache.len(), 32);
    assert_eq!(cache.remove_matching(|_| (), |_| true), 32);
    assert_eq!(cache.bytes(), 0);
    cache.check();
}

#[test]
fn shards_are_chosen_by_the_capacity() {
    let chosen = |mib: u64| CacheConfig { shards: None, ..config(PolicyKind::Lru, mib << 20) }.shard_count();
    for (mib, shards) in [(0, 1), (1, 1), (15, 1), (16, 2), (64, 8), (100, 8), (256, 16), (1 << 20, 16)] {
        assert_eq!(chosen(mib), shards, "{mib} MiB");
    }
    let asked = |shards| CacheConfig { shards: Some(shards), ..config(PolicyKind::Lru, 0) }.shard_count();
    for (shards, made) in [(0, 1), (1, 1), (3, 4), (64, 64), (usize::MAX, 64)] {
        assert_eq!(asked(shards), made, "{shards}");
    }
}

#[test]
fn expired_entries_are_reclaimed_in_bounded_steps() {
    let cache = TestCache::new(CacheConfig { shards: Some(4), ..config(PolicyKind::Lru, 10_000 * OVERHEAD) });
    let deadline = |key: u64| START.saturating_add(Duration::from_millis(100 * key));
    for key in 0..1_000 {
        cache.insert(hash(key), key, value(key), deadline(key + 1), START);
    }
    assert_eq!(cache.reclaim_expired(START, usize::MAX), 0);
    // 500 have expired, and each is taken in hand a few times at most.
    let now = deadline(500).saturating_add(Duration::from_millis(50));
    for _ in 0..300 {
        assert!(cache.reclaim_expired(now, 10) <= 10);
        cache.check();
    }
    assert!((500..=502).contains(&cache.len()), "{} left", cache.len());
    assert_eq!(cache.reclaim_expired(deadline(2_000), 0), 0);
    let left = cache.len();
    assert_eq!(cache.reclaim_expired(deadline(2_000), usize::MAX), left);
    assert_eq!(cache.stats().evictions(EvictionCause::Expired), 1_000);
}

#[test]
fn slots_are_given_back_when_few_large_entries_follow_many_small_ones() {
    let cache = TestCache::new(config(PolicyKind::Lfu, 20_000 * OVERHEAD));
    for key in 0..20_000 {
        cache.put(key, value(key));
    }
    assert!(cache.slot_count() >= 20_000);
    let heap = 200 * OVERHEAD as usize;
    for key in 30_000..30_095 {
        assert_eq!(cache.put(key, Content::Value(TestValue { id: key, heap })), Inserted::Stored);
    }
    cache.check();
    assert!(cache.slot_count() < 3_000, "{} slots", cache.slot_count());
    // Those that were moved to other slots are found there.
    let survivors = cache.eviction_order(0);
    assert!(survivors.len() > 900, "{}", survivors.len());
    assert!(survivors.iter().all(|&key| cache.read(key) == Some(key)));
    cache.remove_matching(|_| (), |_| true);
    assert!(cache.slot_count() <= 512, "{} slots", cache.slot_count());
    cache.check();
}

#[test]
fn a_panicking_listener_loses_no_event_and_poisons_nothing() {
    struct Bomb(Mutex<Vec<TestKey>>);
    impl EvictionListener<TestKey, TestValue> for Bomb {
        fn on_evict(&self, key: &TestKey, _: &Content<TestValue>, _: EvictionCause) {
            self.0.lock().push(*key);
            std::panic::resume_unwind(Box::new("a bomb"));
        }
    }
    let bomb = Arc::new(Bomb(Mutex::default()));
    let cache = TestCache::with_listener(config(PolicyKind::Fifo, 4 * OVERHEAD), bomb.clone());
    for key in 0..4 {
        cache.put(key, value(key));
    }
    // Three leave at once.
    let large = Content::Value(TestValue { id: 9, heap: 2 * OVERHEAD as usize });
    assert_eq!(cache.put(9, large), Inserted::Stored);
    assert_eq!(*bomb.0.lock(), [0, 1, 2]);
    assert_eq!(cache.stats().listener_panics, 3);
    assert_eq!(cache.eviction_order(0), [3, 9]);
    cache.check();
}

#[test]
fn a_panic_under_the_lock_leaves_the_shard_as_it_was() {
    let cache = TestCache::new(config(PolicyKind::Lru, 4 * OVERHEAD));
    cache.put(1, value(1));
    let explode = || -> bool { std::panic::resume_unwind(Box::new("a bomb")) };
    let attempts: [&dyn Fn() -> bool; 4] = [
        &|| cache.insert_if(hash(1), 1, value(2), NEVER, START, explode) == Inserted::Stored,
        &|| cache.remove_with(hash(1), &1, || assert!(explode())),
        &|| cache.remove_matching(|_| assert!(explode()), |_| true) > 0,
        &|| cache.remove_matching(|_| (), |_| explode()) > 0,
    ];
    for attempt in attempts {
        assert!(catch_unwind(AssertUnwindSafe(attempt)).is_err());
        cache.check();
        assert_eq!(cache.read(1), Some(1));
    }
}

#[test]
fn a_listener_may_call_the_cache() {
    struct Returning(Mutex<Option<Arc<TestCache>>>);
    impl EvictionListener<TestKey, TestValue> for Returning {
        fn on_evict(&self, key: &TestKey, _: &Content<TestValue>, cause: EvictionCause) {
            let cache = self.0.lock().take();
            if let (Some(cache), EvictionCause::Invalidated) = (cache, cause) {
                cache.put(*key, value(99));
            }
        }
    }
    let listener = Arc::new(Returning(Mutex::default()));
    let cache = Arc::new(TestCache::with_listener(config(PolicyKind::Lru, 4 * OVERHEAD), listener.clone()));
    *listener.0.lock() = Some(Arc::clone(&cache));
    cache.put(1, value(1));
    assert!(cache.remove_with(hash(1), &1, || ()));
    assert_eq!(cache.read(1), Some(99));
}
