//! Another capacity, while the cache is in use.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{NEVER, OVERHEAD, START, TestCache, TestValue, config, hash, value};
use crate::cache::{CacheConfig, Content, EvictionCause, Inserted, PolicyKind};

fn large(heap: usize) -> Content<TestValue> {
    Content::Value(TestValue { id: 0, heap })
}

#[test]
fn who_would_leave_next_makes_room() {
    let cache = TestCache::new(config(PolicyKind::Lru, 1_000 * OVERHEAD));
    for key in 0..1_000 {
        assert_eq!(cache.put(key, value(key)), Inserted::Stored);
    }
    assert_eq!(cache.read(0), Some(0));
    cache.set_capacity(100 * OVERHEAD, 0, START);
    cache.check();
    assert_eq!((cache.len(), cache.capacity()), (100, 100 * OVERHEAD));
    assert_eq!((cache.read(0), cache.read(1), cache.read(999)), (Some(0), None, Some(999)));
    assert_eq!(cache.stats().evictions(EvictionCause::Capacity), 900);
    assert!(cache.slot_count() < 1_000, "memory is given back");
    // And there is room again.
    cache.set_capacity(200 * OVERHEAD, 0, START);
    for key in 2_000..2_100 {
        assert_eq!(cache.put(key, value(key)), Inserted::Stored);
    }
    assert_eq!((cache.len(), cache.read(0)), (200, Some(0)));
    cache.check();
}

#[test]
fn what_fits_follows_the_capacity() {
    let cache = TestCache::new(config(PolicyKind::Lru, 4 * OVERHEAD));
    let two = OVERHEAD as usize;
    assert_eq!(cache.put(1, large(two)), Inserted::Stored);
    cache.set_capacity(OVERHEAD, 0, START);
    assert_eq!((cache.len(), cache.entry_bytes_max()), (0, OVERHEAD), "it was larger than all there is");
    assert_eq!(cache.put(1, large(two)), Inserted::TooLarge);
    cache.set_capacity(2 * OVERHEAD, 0, START);
    assert_eq!(cache.put(1, large(two)), Inserted::Stored);
    cache.set_capacity(0, 0, START);
    assert_eq!((cache.len(), cache.put(1, value(1))), (0, Inserted::TooLarge));
    cache.check();
}

#[test]
fn absences_have_their_own_share() {
    let cache =
        TestCache::new(CacheConfig { negative_capacity: 0, ..config(PolicyKind::Lru, 10 * OVERHEAD) });
    assert_eq!(cache.put(1, Content::Absent), Inserted::TooLarge);
    cache.set_capacity(10 * OVERHEAD, 4 * OVERHEAD, START);
    for key in 0..6 {
        assert_eq!(cache.put(key, Content::Absent), Inserted::Stored);
        assert_eq!(cache.put(100 + key, value(key)), Inserted::Stored);
    }
    assert_eq!(cache.negative_eviction_order(0), [2, 3, 4, 5]);
    cache.set_capacity(10 * OVERHEAD, OVERHEAD, START);
    assert_eq!((cache.negative_eviction_order(0), cache.len()), (vec![5], 7), "values keep theirs");
    cache.check();
}

#[test]
fn stores_go_on_while_it_changes() {
    const KEYS: u64 = 20_000;
    let parts = CacheConfig { shards: Some(4), ..config(PolicyKind::Lfu, KEYS * OVERHEAD) };
    let cache = TestCache::new(parts);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (cache, is_over) = (&cache, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    for key in 0..KEYS {
                        let key = key * 2 + thread;
                        let heap = if key.is_multiple_of(50) { 400 * OVERHEAD as usize } else { 0 };
                        let content = Content::Value(TestValue { id: key, heap });
                        let _ = cache.insert(hash(key).rotate_left(7), key, content, NEVER, START);
                    }
                }
            });
        }
        for round in 0..40_u64 {
            // From next to nothing, in which the large ones have no place, to all of it.
            let capacity = KEYS * OVERHEAD * (1 + round * 13 % 40) / 40;
            cache.set_capacity(capacity, 0, START);
            cache.check();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    cache.set_capacity(0, 0, START);
    assert!(cache.is_empty());
    cache.check();
}
