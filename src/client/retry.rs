//! When a read is tried again: pauses that grow, and a budget that all reads share. Pure; `now` is passed in.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Pauses before the attempts of one read: exponential backoff with full jitter (Brooker, "Exponential Backoff And
/// Jitter", AWS Architecture Blog, 2015), so that reads that failed together don't come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { ceiling: PAUSE_FIRST }
    }

    /// The next pause: anything from zero to a ceiling that doubles each time, up to [`PAUSE_MAX`].
    pub(super) fn pause(&mut self) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(PAUSE_MAX);
        ceiling.mul_f64(fastrand::f64())
    }
}

/// Of how many requests one may be a retry.
const REQUESTS_PER_RETRY: u64 = 5;
/// Retries in a window that need no requests to justify them, for clients that ask seldom.
const RETRIES_MIN: u64 = 50;
/// One window is so many slots.
const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_secs(1);

/// Bounds the retries of all reads: within the last ten seconds [`RETRIES_MIN`], and one for every
/// [`REQUESTS_PER_RETRY`] requests. The same idea as Finagle's `RetryBudget`.
#[derive(Debug)]
pub(super) struct RetryBudget(Mutex<Window>);

#[derive(Debug)]
struct Window {
    /// When the newest slot began.
    begun: Instant,
    newest: usize,
    slots: [Slot; SLOTS],
    /// The sum of the slots.
    sum: Slot,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u64,
    retries: u64,
}

impl RetryBudget {
    pub(super) fn new() -> Self {
        let window = Window {
            begun: Instant::now(),
            newest: 0,
            slots: [Slot::default(); SLOTS],
            sum: Slot::default(),
        };
        Self(Mutex::new(window))
    }

    /// Counts a read.
    pub(super) fn request(&self, now: Instant) {
        let mut window = self.0.lock();
        window.advance(now);
        let newest = window.newest;
        window.slots[newest].requests += 1;
        window.sum.requests += 1;
    }

    /// Whether there may be one more retry; it is counted if so.
    pub(super) fn retry(&self, now: Instant) -> bool {
        let mut window = self.0.lock();
        window.advance(now);
        if window.sum.retries >= RETRIES_MIN + window.sum.requests / REQUESTS_PER_RETRY {
            return false;
        }
        let newest = window.newest;
        window.slots[newest].retries += 1;
        window.sum.retries += 1;
        true
    }
}

impl Window {
    /// Forgets the slots that are older than the window.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.begun).as_nanos() / SLOT.as_nanos();
        if passed >= SLOTS as u128 {
            *self = Self { begun: now, newest: 0, slots: [Slot::default(); SLOTS], sum: Slot::default() };
            return;
        }
        for _ in 0..passed {
            self.newest = (self.newest + 1) % SLOTS;
            let oldest = std::mem::take(&mut self.slots[self.newest]);
            self.sum.requests -= oldest.requests;
            self.sum.retries -= oldest.retries;
            self.begun += SLOT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_below_a_doubling_ceiling() {
        for _ in 0..100 {
            let mut backoff = Backoff::new();
            for ceiling in [5, 10, 20, 40, 80, 160, 250, 250, 250] {
                assert!(backoff.pause() <= Duration::from_millis(ceiling));
            }
        }
        // Full jitter: the pauses fill the range.
        let pauses: Vec<_> = (0..1000).map(|_| Backoff::new().pause()).collect();
        assert!(pauses.iter().any(|pause| *pause < Duration::from_millis(1)));
        assert!(pauses.iter().any(|pause| *pause > Duration::from_millis(4)));
    }

    #[test]
    fn one_retry_for_every_five_requests_and_a_few() {
        let start = Instant::now();
        let budget = RetryBudget::new();
        let granted = |now| (0..10_000).take_while(|_| budget.retry(now)).count() as u64;
        assert_eq!(granted(start), RETRIES_MIN);
        for _ in 0..1000 {
            budget.request(start);
        }
        assert_eq!(granted(start), 200);
        assert_eq!(granted(start + SLOT * 9), 0, "the window remembers");
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten_slot_by_slot() {
        let start = Instant::now() + SLOT;
        let budget = RetryBudget::new();
        let granted = |now| (0..10_000).take_while(|_| budget.retry(now)).count() as u64;
        for second in 0..10 {
            for _ in 0..100 {
                budget.request(start + SLOT * second);
            }
        }
        assert_eq!(granted(start + SLOT * 9), RETRIES_MIN + 200);
        // All but one of the slots with requests have gone, and the retries of the last still count.
        assert_eq!(granted(start + SLOT * 18), 0);
        assert_eq!(granted(start + SLOT * 19), RETRIES_MIN);
        // After a long silence all are gone.
        assert_eq!(granted(start + SLOT * 1000), RETRIES_MIN);
    }
}
