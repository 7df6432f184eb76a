//! Which of other nodes' keys are asked for often here.
//!
//! A count-min sketch (Cormode and Muthukrishnan, 2005) of small counters that are halved every second: what it
//! tells of a key is about twice its requests a second, or a little more where keys share counters. It errs upwards
//! only, and all it decides is whether a copy is kept for a moment.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::time::Moment;

/// Counters in each of the rows.
const WIDTH: usize = 8_192;
const ROWS: usize = 4;
/// How often all counters are halved, in nanoseconds.
const PERIOD_NANOS: u64 = 1_000_000_000;
/// From this count on a key is in demand: some four requests a second, or eight within the first.
const DEMAND: u8 = 8;
/// Counters stop here, so that a key that cools down is forgotten within seconds.
const COUNT_MAX: u8 = 64;

/// Counts requests by key.
pub(super) struct Demand {
    counters: Box<[AtomicU8]>,
    /// The period in which the counters were halved last.
    period: AtomicU64,
}

impl Demand {
    pub(super) fn new() -> Self {
        Self { counters: (0..WIDTH * ROWS).map(|_| AtomicU8::new(0)).collect(), period: AtomicU64::new(0) }
    }

    /// Counts a request.
    pub(super) fn note(&self, hash: u64, now: Moment) {
        self.age(now);
        for counter in self.counters_of(hash) {
            let count = counter.load(Ordering::Relaxed);
            if count < COUNT_MAX {
                // Two threads may count one request; the sketch is an estimate.
                counter.store(count + 1, Ordering::Relaxed);
            }
        }
    }

    /// Whether the key is asked for often.
    pub(super) fn is_high(&self, hash: u64) -> bool {
        self.counters_of(hash).all(|counter| counter.load(Ordering::Relaxed) >= DEMAND)
    }

    fn counters_of(&self, hash: u64) -> impl Iterator<Item = &AtomicU8> {
        (0..ROWS).map(move |row| {
            let index = (hash.rotate_right(13 * row as u32) as usize) % WIDTH;
            &self.counters[row * WIDTH + index]
        })
    }

    /// Halves the counters once for each period that has passed.
    fn age(&self, now: Moment) {
        let period = now.as_nanos() / PERIOD_NANOS;
        let last = self.period.load(Ordering::Relaxed);
        if period <= last
            || self.period.compare_exchange(last, period, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let halvings = u32::try_from(period - last).unwrap_or(u32::MAX).min(7);
        for counter in &self.counters {
            let count = counter.load(Ordering::Relaxed);
            if count > 0 {
                counter.store(count >> halvings, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_asked_for_often_is_in_demand_until_it_cools_down() {
        let demand = Demand::new();
        let start = Moment::from_nanos(1_000 * PERIOD_NANOS);
        for _ in 1..DEMAND {
            demand.note(7, start);
        }
        assert!(!demand.is_high(7));
        demand.note(7, start);
        assert!(demand.is_high(7));
        assert!(!demand.is_high(8), "another key");
        demand.note(8, start.saturating_add(Duration::from_secs(10)));
        assert!(!demand.is_high(7));
    }

    #[test]
    fn a_steady_rate_decides() {
        let (demand, mut now) = (Demand::new(), Moment::from_nanos(1_000 * PERIOD_NANOS));
        for _ in 0..40 {
            (0..8).for_each(|_| demand.note(1, now));
            (0..2).for_each(|_| demand.note(2, now));
            now = now.saturating_add(Duration::from_secs(1));
        }
        assert!(demand.is_high(1) && !demand.is_high(2));
    }
}
