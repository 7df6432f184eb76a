//! Which entries are due: a hierarchical timing wheel over the nodes of a shard.
//!
//! Deadlines have jitter, so that no queue has them in order, and a heap would cost O(log n) at each store.
//! A wheel schedules and cancels in O(1) through links in the nodes, and finds what is due without looking
//! at anything else (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987). Six levels of
//! 64 buckets: a bucket of the lowest spans one tick of 134 ms, of each next level 64 times as much. When
//! time reaches a bucket of a higher level, its entries move down. An entry moves at most five times in its
//! life.
//!
//! Invariants: every entry whose deadline lies within the wheel's 292 years is in exactly one bucket, the
//! one that its node names; an entry is never reported before its deadline, and at most two ticks late if
//! [`Wheel::poll`] is called until it is idle. The wheel only decides what is reclaimed: whether an entry
//! may be served is decided at each read, by its exact deadline.

use super::slots::{NIL, Nodes, Timer};
use crate::time::Moment;

/// The bucket of an entry that never expires.
pub(super) const UNSCHEDULED: u16 = u16::MAX;

/// A tick is 2^27 ns.
const TICK_SHIFT: u32 = 27;
const LEVELS: usize = 6;
const LEVEL_SHIFT: u32 = 6;
const LEVEL_BUCKETS: usize = 1 << LEVEL_SHIFT;
const BUCKET_MASK: u64 = LEVEL_BUCKETS as u64 - 1;
/// The wheel's last tick. What is due later than this counts as never.
const TICK_MAX: u64 = (1 << (LEVEL_SHIFT * LEVELS as u32)) - 1;

/// What one step of the wheel found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The entry in this slot is past its deadline and off the wheel.
    Due(u32),
    /// An entry was moved to a lower level; there may be more.
    Moved,
    /// Nothing is due.
    Idle,
}

/// The wheel of one shard.
pub(super) struct Wheel {
    /// The first slot of each bucket, level by level.
    heads: Box<[u32; LEVELS * LEVEL_BUCKETS]>,
    /// A bit for each bucket that is not empty, so that idle time is skipped at once.
    occupied: [u64; LEVELS],
    /// The tick that the wheel has reached. All that was due before it has been reported, but for the
    /// bucket in hand.
    reached: u64,
    /// The bucket that is being emptied, never an empty one. It comes first: its time has come, wherever it
    /// stands.
    in_hand: u16,
}

impl Wheel {
    pub(super) fn new() -> Self {
        let heads = Box::new([NIL; LEVELS * LEVEL_BUCKETS]);
        Self { heads, occupied: [0; LEVELS], reached: 0, in_hand: UNSCHEDULED }
    }

    /// Puts `slot`, which is not on the wheel, where its node's deadline belongs.
    pub(super) fn schedule(&mut self, nodes: &mut Nodes, slot: u32) {
        let tick = due_tick(nodes[slot].deadline).max(self.reached);
        self.schedule_at(nodes, slot, tick);
    }

    /// Takes `slot` off the wheel, if it is on it.
    pub(super) fn cancel(&mut self, nodes: &mut Nodes, slot: u32) {
        let bucket = std::mem::replace(&mut nodes[slot].bucket, UNSCHEDULED);
        if bucket == UNSCHEDULED {
            return;
        }
        let Timer { prev, next } = nodes.timer(slot);
        if next != NIL {
            nodes.timer_mut(next).prev = prev;
        }
        if prev != NIL {
            nodes.timer_mut(prev).next = next;
            return;
        }
        let bucket = usize::from(bucket);
        self.heads[bucket] = next;
        if next == NIL {
            self.occupied[bucket / LEVEL_BUCKETS] &= !(1 << (bucket % LEVEL_BUCKETS));
            if usize::from(self.in_hand) == bucket {
                self.in_hand = UNSCHEDULED;
            }
        }
    }

    /// A node was copied to `to`, links and all: whoever pointed at the old slot points at the new one.
    pub(super) fn relocate(&mut self, nodes: &mut Nodes, to: u32) {
        let bucket = nodes[to].bucket;
        if bucket == UNSCHEDULED {
            return;
        }
        let Timer { prev, next } = nodes.timer(to);
        if next != NIL {
            nodes.timer_mut(next).prev = to;
        }
        if prev != NIL {
            nodes.timer_mut(prev).next = to;
        } else {
            self.heads[usize::from(bucket)] = to;
        }
    }

    /// Takes one entry in hand, if the time of any bucket has come.
    pub(super) fn poll(&mut self, nodes: &mut Nodes, now: Moment) -> Step {
        if self.in_hand == UNSCHEDULED {
            let now_tick = (now.as_nanos() >> TICK_SHIFT).min(TICK_MAX);
            match self.earliest() {
                Some((bucket, tick)) if tick <= now_tick => {
                    self.in_hand = bucket;
                    self.reached = self.reached.max(tick);
                }
                _ => {
                    self.reached = self.reached.max(now_tick);
                    return Step::Idle;
                }
            }
        }
        let bucket = usize::from(self.in_hand);
        let slot = self.heads[bucket];
        self.cancel(nodes, slot);
        let deadline = nodes[slot].deadline;
        if deadline <= now {
            return Step::Due(slot);
        }
        // Threads read the clock before they take the lock, so that `now` may be older than the reading
        // that brought the wheel here. Then the entry must wait for the next tick: its bucket of the lowest
        // level is the one in hand.
        let soonest = if bucket < LEVEL_BUCKETS { self.reached + 1 } else { self.reached };
        self.schedule_at(nodes, slot, due_tick(deadline).max(soonest));
        Step::Moved
    }

    fn schedule_at(&mut self, nodes: &mut Nodes, slot: u32, tick: u64) {
        if tick > TICK_MAX {
            return;
        }
        // The level is that of the highest group of six bits in which the tick differs from the present
        // one: so the bucket can't come round before its time.
        let differing = tick ^ self.reached;
        let level = differing.checked_ilog2().unwrap_or(0) / LEVEL_SHIFT;
        let place = (tick >> (level * LEVEL_SHIFT)) & BUCKET_MASK;
        let level = level as usize;
        let bucket = level * LEVEL_BUCKETS + place as usize;
        let next = std::mem::replace(&mut self.heads[bucket], slot);
        nodes[slot].bucket = bucket as u16;
        *nodes.timer_mut(slot) = Timer { prev: NIL, next };
        if next != NIL {
            nodes.timer_mut(next).prev = slot;
        }
        self.occupied[level] |= 1 << place;
    }

    /// The bucket whose time comes first, and the tick at which it does.
    fn earliest(&self) -> Option<(u16, u64)> {
        // Buckets of a level lie within one bucket of the next, which has been emptied: a lower level is
        // always earlier.
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let shift = LEVEL_SHIFT * level as u32;
        let here = ((self.reached >> shift) & BUCKET_MASK) as u32;
        let ahead = self.occupied[level].rotate_right(here).trailing_zeros();
        let place = u64::from((here + ahead) % LEVEL_BUCKETS as u32);
        let block = self.reached >> (shift + LEVEL_SHIFT) << (shift + LEVEL_SHIFT);
        let bucket = level * LEVEL_BUCKETS + place as usize;
        Some((bucket as u16, block + (place << shift)))
    }

    /// The slots of every bucket, for a test that accounts for every slot.
    #[cfg(test)]
    pub(super) fn scheduled_slots(&self, nodes: &Nodes) -> Vec<u32> {
        let mut slots = Vec::new();
        for (bucket, &head) in self.heads.iter().enumerate() {
            let bit = self.occupied[bucket / LEVEL_BUCKETS] >> (bucket % LEVEL_BUCKETS) & 1;
            assert_eq!(bit == 1, head != NIL, "the bit of bucket {bucket}");
            let (mut prev, mut slot) = (NIL, head);
            while slot != NIL {
                assert_eq!(usize::from(nodes[slot].bucket), bucket, "the bucket of slot {slot}");
                assert_eq!(nodes.timer(slot).prev, prev, "the predecessor of slot {slot}");
                slots.push(slot);
                (prev, slot) = (slot, nodes.timer(slot).next);
            }
        }
        slots
    }
}

/// The first tick that begins at or after `deadline`.
const fn due_tick(deadline: Moment) -> u64 {
    (deadline.as_nanos() >> TICK_SHIFT) + 1
}

/// Whether an entry of this deadline is certain to be reclaimed at `now`, if enough steps are taken.
#[cfg(test)]
pub(super) const fn is_reclaimable(deadline: Moment, now: Moment) -> bool {
    due_tick(deadline) <= now.as_nanos() >> TICK_SHIFT
}

/// Whether an entry of this deadline is ever reclaimed.
#[cfg(test)]
pub(super) const fn is_schedulable(deadline: Moment) -> bool {
    due_tick(deadline) <= TICK_MAX
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::{
        Content,
        entry::{Entry, Kind},
        slots::{Node, Slots},
    };

    struct Rig {
        wheel: Wheel,
        slots: Slots<(), ()>,
    }

    impl Rig {
        fn new() -> Self {
            Self { wheel: Wheel::new(), slots: Slots::new() }
        }

        fn add(&mut self, deadline: Moment) -> u32 {
            let node = Node::new(Kind::Value, 0, 0, deadline);
            let slot = self.slots.occupy(node, Entry { key: (), content: Content::Absent });
            self.wheel.schedule(&mut self.slots.nodes, slot);
            slot
        }

        /// What is due, and how many steps it took to find that nothing more is.
        fn drain(&mut self, now: Moment) -> (Vec<u32>, usize) {
            let mut due = Vec::new();
            for steps in 0..10_000 {
                match self.wheel.poll(&mut self.slots.nodes, now) {
                    Step::Due(slot) => due.push(slot),
                    Step::Moved => {}
                    Step::Idle => return (due, steps),
                }
            }
            panic!("the wheel does not come to rest");
        }
    }

    fn at(seconds: f64) -> Moment {
        Moment::default().saturating_add(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn reports_each_entry_once_soon_after_its_deadline() {
        for start in [0.0, 1.0, 3_599.99, 1e6, 1e9] {
            for ttl in [0.001, 0.2, 5.0, 8.6, 60.0, 600.0, 36_000.0, 1e6, 1e8] {
                let mut rig = Rig::new();
                assert_eq!(rig.drain(at(start)), (vec![], 0));
                let slot = rig.add(at(start + ttl));
                assert_eq!(rig.drain(at(start + ttl * 0.5)).0, Vec::<u32>::new(), "{start} {ttl}");
                assert_eq!(rig.drain(at(start + ttl - 0.000_9)).0, Vec::<u32>::new(), "{start} {ttl}");
                assert_eq!(rig.drain(at(start + ttl + 0.3)).0, [slot], "{start} {ttl}");
                assert_eq!(rig.drain(at(start + ttl * 2.0)), (vec![], 0));
            }
        }
    }

    #[test]
    fn a_long_rest_costs_no_steps() {
        let mut rig = Rig::new();
        let slot = rig.add(at(1e8));
        assert_eq!(rig.drain(at(9e7)).0, Vec::<u32>::new());
        // Years passed in at most one step a level.
        let (due, steps) = rig.drain(at(1e9));
        assert_eq!(due, [slot]);
        assert!(steps <= LEVELS, "{steps}");
    }

    #[test]
    fn goes_on_where_it_left_off() {
        let mut rig = Rig::new();
        let mut expected: Vec<u32> = (0..300).map(|n| rig.add(at(500.0 + f64::from(n)))).collect();
        let mut due = Vec::new();
        for now in 400..2_000 {
            // One step at a time, with a newcomer between every two.
            if let Step::Due(slot) = rig.wheel.poll(&mut rig.slots.nodes, at(f64::from(now))) {
                assert!(rig.slots.nodes[slot].deadline <= at(f64::from(now)));
                due.push(slot);
            }
            if now < 500 {
                expected.push(rig.add(at(f64::from(now) + 20.0)));
            }
        }
        due.sort_unstable();
        expected.sort_unstable();
        assert_eq!(due, expected);
    }

    #[test]
    fn an_older_clock_reading_does_no_harm() {
        let mut rig = Rig::new();
        assert_eq!(rig.drain(at(100.0)), (vec![], 0));
        let slot = rig.add(at(99.0));
        assert_eq!(rig.drain(at(98.0)).0, Vec::<u32>::new());
        assert_eq!(rig.drain(at(100.3)).0, [slot]);
    }

    #[test]
    fn a_bucket_in_hand_is_put_aside_for_an_older_clock_reading() {
        let mut rig = Rig::new();
        let mut slots = [50.0, 50.0, 50.0].map(|seconds| rig.add(at(seconds)));
        // Down to the lowest level, where the entries must not go back into the bucket that they came from.
        assert_eq!(rig.drain(at(49.0)).0, Vec::<u32>::new());
        let mut due = Vec::new();
        while due.is_empty() {
            if let Step::Due(slot) = rig.wheel.poll(&mut rig.slots.nodes, at(51.0)) {
                due.push(slot);
            }
        }
        assert_eq!(rig.drain(at(49.0)).0, Vec::<u32>::new());
        due.extend(rig.drain(at(51.0)).0);
        due.sort_unstable();
        slots.sort_unstable();
        assert_eq!(due, slots);
    }

    #[test]
    fn far_deadlines_are_never_due() {
        let mut rig = Rig::new();
        let slot = rig.add(Moment::from_nanos(u64::MAX));
        assert_eq!(rig.slots.nodes[slot].bucket, UNSCHEDULED);
        assert_eq!(rig.drain(Moment::from_nanos(u64::MAX)).0, Vec::<u32>::new());
    }
}
