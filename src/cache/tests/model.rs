//! Random operations on the engine and on a model that is too simple to be wrong: same answers, same
//! events, same order of eviction, and every invariant after every operation.

use std::{sync::Arc, time::Duration};

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::{Event, NEVER, OVERHEAD, Recorder, START, TestCache, TestKey, TestValue};
use crate::{
    cache::{CacheConfig, Content, EvictionCause, Inserted, Lookup, PolicyKind, wheel},
    time::Moment,
};

struct ModelEntry {
    key: TestKey,
    content: Content<TestValue>,
    weight: u64,
    deadline: Moment,
    /// When it came, when it was last used (in operations), and how often.
    arrived: u64,
    used: u64,
    uses: u64,
}

/// A cache of one shard, as a list that is searched from end to end.
struct Model {
    policy: PolicyKind,
    value_capacity: u64,
    negative_capacity: u64,
    entries: Vec<ModelEntry>,
    operations: u64,
    events: Vec<Event>,
}

impl Model {
    fn position(&self, key: TestKey) -> Option<usize> {
        self.entries.iter().position(|entry| entry.key == key)
    }

    /// The smaller, the sooner it leaves.
    fn rank(&self, entry: &ModelEntry) -> (u64, u64) {
        match self.policy {
            _ if entry.content == Content::Absent => (0, entry.arrived),
            PolicyKind::Fifo => (0, entry.arrived),
            PolicyKind::Lru => (0, entry.used),
            PolicyKind::Lfu => (entry.uses, entry.used),
        }
    }

    fn order(&self, is_value: bool) -> Vec<TestKey> {
        let mut entries: Vec<_> =
            self.entries.iter().filter(|entry| entry.content.value().is_some() == is_value).collect();
        entries.sort_by_key(|entry| self.rank(entry));
        entries.into_iter().map(|entry| entry.key).collect()
    }

    fn remove(&mut self, at: usize, cause: EvictionCause) {
        let entry = self.entries.remove(at);
        self.events.push((entry.key, entry.content, cause));
    }

    fn cause(&self, at: usize, now: Moment, cause: EvictionCause) -> EvictionCause {
        if now >= self.entries[at].deadline { EvictionCause::Expired } else { cause }
    }

    fn get(&mut self, key: TestKey, now: Moment, is_peek: bool) -> Lookup<TestValue> {
        let Some(at) = self.position(key) else { return Lookup::Miss };
        let entry = &mut self.entries[at];
        let deadline = entry.deadline;
        if now >= deadline {
            if !is_peek {
                self.remove(at, EvictionCause::Expired);
            }
            return Lookup::Miss;
        }
        if !is_peek {
            entry.used = self.operations;
            entry.uses += 1;
        }
        match entry.content {
            Content::Value(value) => Lookup::Hit { value, deadline },
            Content::Absent => Lookup::Absent { deadline },
        }
    }

    fn insert(
        &mut self,
        key: TestKey,
        content: Content<TestValue>,
        deadline: Moment,
        now: Moment,
    ) -> Inserted {
        self.operations += 1;
        let weight = OVERHEAD + content.value().map_or(0, |value| value.heap as u64);
        let is_value = content.value().is_some();
        let capacity = if is_value { self.value_capacity } else { self.negative_capacity };
        let outcome = match () {
            () if now >= deadline => Inserted::Expired,
            () if weight > capacity => Inserted::TooLarge,
            () => Inserted::Stored,
        };
        let mut uses = 1;
        let mut arrived = self.operations;
        if let Some(at) = self.position(key) {
            let before = &self.entries[at];
            if outcome == Inserted::Stored && before.content.value().is_some() == is_value {
                // It stays where it is, unless it would have to leave for itself: it then comes in anew.
                let excess = (self.bytes(is_value) - before.weight + weight).saturating_sub(capacity);
                let used = std::mem::replace(&mut self.entries[at].used, self.operations);
                self.entries[at].uses += 1;
                let mut freed = 0;
                let mut is_anew = false;
                for key_before in self.order(is_value) {
                    if freed < excess && key_before == key {
                        is_anew = true;
                    }
                    if freed < excess && key_before != key {
                        freed += self.entries[self.position(key_before).unwrap()].weight;
                    }
                }
                self.entries[at].used = used;
                if !is_anew {
                    uses = self.entries[at].uses;
                    arrived = self.entries[at].arrived;
                }
            }
            let cause = self.cause(at, now, EvictionCause::Replaced);
            self.remove(at, cause);
        }
        if outcome != Inserted::Stored {
            return outcome;
        }
        while self.bytes(is_value) + weight > capacity {
            self.evict(is_value, now);
        }
        let used = self.operations;
        self.entries.push(ModelEntry { key, content, weight, deadline, arrived, used, uses });
        Inserted::Stored
    }

    fn resize(&mut self, value_capacity: u64, negative_capacity: u64, now: Moment) {
        (self.value_capacity, self.negative_capacity) = (value_capacity, negative_capacity);
        for (is_value, capacity) in [(true, value_capacity), (false, negative_capacity)] {
            while self.bytes(is_value) > capacity {
                self.evict(is_value, now);
            }
        }
    }

    /// Lets the entry go that is next.
    fn evict(&mut self, is_value: bool, now: Moment) {
        let candidates = self.entries.iter().enumerate();
        let candidates = candidates.filter(|(_, entry)| entry.content.value().is_some() == is_value);
        let (at, _) = candidates.min_by_key(|(_, entry)| self.rank(entry)).unwrap();
        let cause = self.cause(at, now, EvictionCause::Capacity);
        self.remove(at, cause);
    }

    fn bytes(&self, is_value: bool) -> u64 {
        let entries = self.entries.iter().filter(|entry| entry.content.value().is_some() == is_value);
        entries.map(|entry| entry.weight).sum()
    }

    fn remove_matching(&mut self, predicate: impl Fn(TestKey) -> bool) -> Vec<Event> {
        let (gone, kept) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry| predicate(entry.key));
        self.entries = kept;
        let gone: Vec<ModelEntry> = gone;
        gone.into_iter().map(|entry| (entry.key, entry.content, EvictionCause::Invalidated)).collect()
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Get(TestKey),
    Peek(TestKey),
    Insert {
        key: TestKey,
        heap: Option<usize>,
        ttl: Option<Duration>,
        is_refused: bool,
    },
    Flood {
        from: TestKey,
        count: u64,
        ttl: Option<Duration>,
    },
    Remove(TestKey),
    RemoveMatching {
        modulus: u64,
    },
    Advance(Duration),
    Reclaim {
        steps: usize,
    },
    /// To so many percent of what the cache had at first.
    Resize {
        percent: u64,
    },
}

/// From nanoseconds to years, so that every level of the wheel is used.
fn durations() -> impl Strategy<Value = Duration> {
    (0_u32..56, any::<u64>()).prop_map(|(bits, noise)| Duration::from_nanos(noise & ((1 << bits) - 1)))
}

fn operations(keys: u64) -> impl Strategy<Value = Operation> {
    let heap = prop_oneof![8 => 0_usize..400, 1 => Just(100_000), 1 => 2_000_usize..4_000];
    let heap = prop_oneof![4 => heap.prop_map(Some), 1 => Just(None)];
    let ttl = prop_oneof![3 => durations().prop_map(Some), 1 => Just(None)];
    let flood = (0..keys, 0..keys, ttl.clone());
    let insert = (0..keys, heap, ttl, proptest::bool::weighted(0.1))
        .prop_map(|(key, heap, ttl, is_refused)| Operation::Insert { key, heap, ttl, is_refused });
    prop_oneof![
        12 => (0..keys).prop_map(Operation::Get),
        2 => (0..keys).prop_map(Operation::Peek),
        12 => insert,
        1 => flood.prop_map(|(from, count, ttl)| Operation::Flood { from, count, ttl }),
        2 => (0..keys).prop_map(Operation::Remove),
        1 => (1_u64..6).prop_map(|modulus| Operation::RemoveMatching { modulus }),
        3 => durations().prop_map(Operation::Advance),
        2 => prop_oneof![Just(1), Just(3), Just(usize::MAX)].prop_map(|steps| Operation::Reclaim { steps }),
        1 => (0_u64..200).prop_map(|percent| Operation::Resize { percent }),
    ]
}

/// Two keys to a hash, so that equal hashes are told apart.
const fn hash(key: TestKey) -> u64 {
    (key / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) & !0xfff
}

fn run(policy: PolicyKind, capacity: u64, negative_capacity: u64, operations: Vec<Operation>) {
    let recorder = Arc::new(Recorder::default());
    let config = CacheConfig { capacity, negative_capacity, policy, shards: Some(1) };
    let cache = TestCache::with_listener(config, recorder.clone());
    let value_capacity = capacity - negative_capacity;
    let mut model = Model {
        policy,
        value_capacity,
        negative_capacity,
        entries: Vec::new(),
        operations: 0,
        events: Vec::new(),
    };
    let mut now = START;
    for operation in operations {
        model.operations += 1;
        match operation {
            Operation::Get(key) => assert_eq!(cache.get(hash(key), &key, now), model.get(key, now, false)),
            Operation::Peek(key) => assert_eq!(cache.peek(hash(key), &key, now), model.get(key, now, true)),
            Operation::Insert { key, heap, ttl, is_refused } => {
                let id = model.operations;
                let content = heap.map_or(Content::Absent, |heap| Content::Value(TestValue { id, heap }));
                let deadline = ttl.map_or(NEVER, |ttl| now.saturating_add(ttl));
                let outcome = cache.insert_if(hash(key), key, content, deadline, now, || !is_refused);
                if is_refused {
                    assert_eq!(outcome, Inserted::Refused);
                } else {
                    assert_eq!(outcome, model.insert(key, content, deadline, now));
                }
            }
            Operation::Flood { from, count, ttl } => {
                let deadline = ttl.map_or(NEVER, |ttl| now.saturating_add(ttl));
                for key in from..from + count {
                    let content = Content::Value(TestValue { id: key, heap: 0 });
                    assert_eq!(
                        cache.insert(hash(key), key, content, deadline, now),
                        model.insert(key, content, deadline, now)
                    );
                }
            }
            Operation::Remove(key) => {
                let at = model.position(key);
                assert_eq!(cache.remove_with(hash(key), &key, || ()), at.is_some());
                if let Some(at) = at {
                    model.remove(at, EvictionCause::Invalidated);
                }
            }
            Operation::RemoveMatching { modulus } => {
                let is_picked = |key: TestKey| key.is_multiple_of(modulus);
                let mut expected = model.remove_matching(is_picked);
                assert_eq!(cache.remove_matching(|_| (), |&key| is_picked(key)), expected.len());
                let mut gone = recorder.take();
                // The engine goes by slots here, which the model has not.
                expected.sort_by_key(|event| event.0);
                gone.sort_by_key(|event| event.0);
                assert_eq!(gone, expected);
            }
            Operation::Resize { percent } => {
                let (capacity, negative) = (capacity * percent / 100, negative_capacity * percent / 100);
                cache.set_capacity(capacity, negative, now);
                model.resize(capacity - negative, negative, now);
                assert_eq!((cache.capacity(), cache.entry_bytes_max()), (capacity, capacity - negative));
            }
            Operation::Advance(by) => now = now.saturating_add(by),
            Operation::Reclaim { steps } => {
                let reclaimed = cache.reclaim_expired(now, steps);
                let gone = recorder.take();
                assert!(reclaimed == gone.len() && reclaimed <= steps);
                for (key, content, cause) in gone {
                    let entry = model.entries.swap_remove(model.position(key).expect("an entry ends once"));
                    assert!(entry.deadline <= now && entry.content == content);
                    assert_eq!(cause, EvictionCause::Expired);
                }
                let overdue = |entry: &ModelEntry| wheel::is_reclaimable(entry.deadline, now);
                assert!(steps < usize::MAX || !model.entries.iter().any(overdue));
            }
        }
        cache.check();
        assert_eq!(recorder.take(), std::mem::take(&mut model.events));
        assert_eq!(cache.eviction_order(0), model.order(true));
        assert_eq!(cache.negative_eviction_order(0), model.order(false));
        let stats = cache.stats();
        assert_eq!(
            (stats.bytes, stats.negative_bytes),
            (model.bytes(true) + model.bytes(false), model.bytes(false))
        );
    }
    let stats = cache.stats();
    let gone: u64 = EvictionCause::ALL.into_iter().map(|cause| stats.evictions(cause)).sum();
    assert_eq!(stats.insertions, stats.entries + gone, "each entry is resident or has left once");
}

fn policies() -> impl Strategy<Value = PolicyKind> {
    proptest::sample::select(PolicyKind::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Few keys, so that they meet often.
    #[test]
    fn agrees_with_the_model(policy in policies(), list in proptest::collection::vec(operations(24), 1..250)) {
        run(policy, 16 * OVERHEAD + 1_200, 3 * OVERHEAD, list);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Many keys, so that chunks of slots come and go and entries move.
    #[test]
    fn agrees_with_the_model_when_slots_move(
        policy in policies(),
        list in proptest::collection::vec(operations(3_000), 1..60),
    ) {
        run(policy, 2_000 * OVERHEAD, 100 * OVERHEAD, list);
    }

    #[test]
    fn hashes_of_the_test_meet(key in 0_u64..1_000) {
        prop_assert_eq!(hash(2 * key), hash(2 * key + 1));
    }
}
