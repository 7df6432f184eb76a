//! The invariants of a shard, for tests to check after every operation.

use super::{Kind, Policy, Shard, ledger_exceeds, spread};
use crate::cache::wheel;

impl<K: Eq, V> Shard<K, V> {
    /// Panics if an invariant of this file is broken.
    pub(in crate::cache) fn check(&self) {
        let nodes = &self.slots.nodes;
        let mut places = vec![0; nodes.len()];
        for (ledger, kind) in [(&self.values, Kind::Value), (&self.absents, Kind::Absent)] {
            let order = ledger.policy.order(nodes);
            assert_eq!(order.len() as u64, ledger.entries, "entries of {kind:?}");
            assert_eq!(order.iter().map(|&slot| u64::from(nodes[slot].weight)).sum::<u64>(), ledger.bytes);
            assert!(!ledger_exceeds(ledger), "{} bytes of {:?} in {}", ledger.bytes, kind, ledger.capacity);
            for slot in order {
                places[slot as usize] += 1;
                assert_eq!(nodes[slot].kind, kind, "the list of slot {slot}");
                assert_eq!(self.slots.entry(slot).content.kind(), kind, "the content of slot {slot}");
                let hash = nodes[slot].hash;
                let indexed = self.index.iter_hash(spread(hash)).filter(|&&indexed| indexed == slot);
                assert_eq!(indexed.count(), 1, "slot {slot} in the index");
            }
        }
        let in_use = places.iter().sum::<usize>();
        assert_eq!(self.index.len(), in_use, "the index");
        for slot in self.slots.free_slots() {
            places[slot as usize] += 1;
        }
        assert!(places.iter().all(|&lists| lists == 1), "a slot is on no list, or on two");

        let mut scheduled = self.wheel.scheduled_slots(nodes);
        scheduled.sort_unstable();
        let expiring = self.slots.iter().map(|(slot, _)| slot);
        let expiring = expiring.filter(|&slot| wheel::is_schedulable(nodes[slot].deadline));
        assert!(expiring.eq(scheduled), "what expires is on the wheel once, and nothing else is");
        assert!(!self.slots.has_surplus(), "too many free slots are kept");
    }

    /// How many slots there are, used or not.
    pub(in crate::cache) fn slot_count(&self) -> usize {
        self.slots.nodes.len()
    }
}
