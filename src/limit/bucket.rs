//! A token bucket in one word: the generic cell rate algorithm, as virtual scheduling (ATM Forum, Traffic
//! Management Specification 4.1, section 4.4.2; ITU-T I.371).
//!
//! The word is the *theoretical arrival time*: when the bucket will be full again. A request moves it by one interval
//! into the future, and is refused if that would be further ahead than the bucket is deep. Nothing has to run for the
//! bucket to fill. Time is nanoseconds since boot, passed in.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Rate;

/// What a bucket may be ahead of its depth before it is taken for one that a slower rate left behind. Threads that
/// read the time one after the other differ by less.
const STALE_NANOS: u64 = 1_000_000_000;

/// How fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Nanoseconds from one token to the next.
    interval: u64,
    /// Nanoseconds in which an empty bucket fills; at least one interval.
    depth: u64,
}

/// What is in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// Whole tokens.
    pub(super) tokens: u64,
    /// Nanoseconds until there is one more.
    pub(super) next: u64,
}

impl Pace {
    /// The pace of one of `nodes` nodes that share a rate; `None` if there is no limit.
    pub(super) fn new(rate: Rate, nodes: u32) -> Option<Self> {
        let (interval, burst) = rate.spacing()?;
        let depth = interval * u64::from(burst);
        // The burst is divided too, as the depth in time stays: but one token always fits.
        let interval = interval.saturating_mul(u64::from(nodes.max(1)));
        Some(Self { interval, depth: depth.max(interval) })
    }

    const fn level(self, credit: u64) -> Level {
        Level { tokens: credit / self.interval, next: self.interval - credit % self.interval }
    }

    /// Takes a token: the word as it is then, and what is left; or what there is, if that is no whole token.
    fn step(self, word: u64, now: u64) -> Result<(u64, Level), Level> {
        let full_at = word.max(now);
        let credit = now.saturating_add(self.depth).saturating_sub(full_at);
        match credit.checked_sub(self.interval) {
            Some(left) => Ok((full_at.saturating_add(self.interval), self.level(left))),
            None => Err(self.level(credit)),
        }
    }

    /// The word, or that of an empty bucket if it is from the time of a slower rate.
    const fn bounded(self, word: u64, now: u64) -> u64 {
        let empty = now.saturating_add(self.depth);
        if word > empty.saturating_add(STALE_NANOS) { empty } else { word }
    }
}

/// A bucket, full at first. Any number of threads may take from it.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

/// The word of a bucket that is between two owners.
const CLAIMED: u64 = u64::MAX;

impl Bucket {
    /// Whether there is a token; takes none. A bucket between two owners is about to have some.
    pub(super) fn test(&self, pace: Pace, now: u64) -> Result<(), Level> {
        let word = self.0.load(Ordering::Relaxed);
        if word == CLAIMED {
            return Ok(());
        }
        pace.step(pace.bounded(word, now), now).map(drop).inspect_err(|_| self.forget_slower(word, pace, now))
    }

    /// Takes a token, and says what is left; or what there is instead.
    pub(super) fn take(&self, pace: Pace, now: u64) -> Result<Level, Level> {
        // Nobody else's bucket: it is always ours.
        self.take_while(pace, now, || true).unwrap_or(Err(pace.level(0)))
    }

    /// As [`take`](Self::take), if the bucket is still the caller's when the token is taken; `None` if it is not.
    /// `is_ours` is asked after the word was read, and whoever claims the bucket changes the word first.
    pub(super) fn take_while(
        &self,
        pace: Pace,
        now: u64,
        is_ours: impl Fn() -> bool,
    ) -> Option<Result<Level, Level>> {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            if word == CLAIMED || !is_ours() {
                return None;
            }
            let (next, level) = match pace.step(pace.bounded(word, now), now) {
                Ok(taken) => taken,
                Err(level) => {
                    self.forget_slower(word, pace, now);
                    return Some(Err(level));
                }
            };
            // Whoever fails here has seen another succeed, and tries on what that one left.
            match self.0.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(Ok(level)),
                Err(current) => word = current,
            }
        }
    }

    /// Gives a token back that was taken for a request which another bucket refused.
    ///
    /// If the bucket was full again in between, the token is one too many: that takes an idle bucket, a rate whose
    /// interval is shorter than the moment between the two calls, and another request in that moment. At the limit,
    /// where it matters, the count is exact.
    pub(super) fn give_back(&self, pace: Pace) {
        let less = |word: u64| Some(word.saturating_sub(pace.interval));
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
    }

    /// Whether somebody has taken from it of late, so that it is not full.
    pub(super) fn is_in_use(&self, now: u64) -> bool {
        self.0.load(Ordering::Relaxed) > now
    }

    /// Takes the bucket away from whoever had it, if it is full, with a first token taken for the new owner. While
    /// `sign` runs the bucket is nobody's.
    pub(super) fn claim(&self, pace: Pace, now: u64, sign: impl FnOnce()) -> Option<Level> {
        let word = self.0.load(Ordering::Acquire);
        if word > now {
            return None;
        }
        let (next, level) = pace.step(0, now).ok()?;
        self.0.compare_exchange(word, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        sign();
        self.0.store(next, Ordering::Release);
        Some(level)
    }

    /// Empties a bucket that owes more than an empty one does, since it was filled at a slower rate. If another has
    /// been here meanwhile, that one has done it.
    fn forget_slower(&self, word: u64, pace: Pace, now: u64) {
        let bounded = pace.bounded(word, now);
        if bounded != word && word != CLAIMED {
            let _ = self.0.compare_exchange(word, bounded, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn pace(rate: &str, nodes: u32) -> Pace {
        Pace::new(rate.parse().expect("a rate"), nodes).expect("a limit")
    }

    fn taken(bucket: &Bucket, pace: Pace, now: u64) -> usize {
        std::iter::repeat_with(|| bucket.take(pace, now)).take_while(Result::is_ok).take(10_000).count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (bucket, pace, start) = (Bucket::default(), pace("10/s burst 20", 1), 5 * SECOND);
        assert_eq!(bucket.take(pace, start), Ok(Level { tokens: 19, next: SECOND / 10 }));
        assert_eq!(taken(&bucket, pace, start), 19);
        assert_eq!(bucket.take(pace, start), Err(Level { tokens: 0, next: SECOND / 10 }));
        assert_eq!(bucket.test(pace, start + 1), Err(Level { tokens: 0, next: SECOND / 10 - 1 }));
        assert_eq!(taken(&bucket, pace, start + SECOND / 10), 1);
        assert_eq!(taken(&bucket, pace, start + SECOND), 9);
        assert_eq!(taken(&bucket, pace, start + 100 * SECOND), 20, "it holds no more than the burst");
    }

    #[test]
    fn nodes_divide_the_rate_and_the_burst_but_each_has_a_token() {
        let (bucket, four) = (Bucket::default(), pace("100/s", 4));
        assert_eq!(taken(&bucket, four, SECOND), 25);
        assert_eq!(taken(&bucket, four, 2 * SECOND), 25);
        let (bucket, many) = (Bucket::default(), pace("1/s", 10));
        assert_eq!(taken(&bucket, many, SECOND), 1);
        assert_eq!(taken(&bucket, many, 10 * SECOND), 0);
        assert_eq!(taken(&bucket, many, 11 * SECOND), 1);
    }

    #[test]
    fn a_token_that_is_given_back_can_be_taken() {
        let (bucket, pace) = (Bucket::default(), pace("2/s", 1));
        assert_eq!(taken(&bucket, pace, SECOND), 2);
        bucket.give_back(pace);
        assert_eq!(taken(&bucket, pace, SECOND), 1);
    }

    #[test]
    fn what_a_slower_rate_left_does_not_last() {
        let (bucket, slow, fast) = (Bucket::default(), pace("1/h", 1), pace("10/s", 1));
        assert_eq!(taken(&bucket, slow, SECOND), 1);
        assert!(bucket.test(fast, SECOND).is_err());
        assert_eq!(taken(&bucket, fast, 2 * SECOND), 10);
    }

    #[test]
    fn only_a_full_bucket_changes_hands() {
        let (bucket, pace) = (Bucket::default(), pace("2/s", 1));
        assert_eq!(bucket.take(pace, SECOND), Ok(Level { tokens: 1, next: SECOND / 2 }));
        assert_eq!(bucket.claim(pace, SECOND, || panic!("it is in use")), None);
        let later = 2 * SECOND;
        let claimed = bucket.claim(pace, later, || {
            assert_eq!(bucket.take_while(pace, later, || true), None, "it is nobody's");
            assert!(bucket.is_in_use(later));
        });
        assert_eq!(claimed, Some(Level { tokens: 1, next: SECOND / 2 }));
        assert_eq!(taken(&bucket, pace, later), 1);
    }

    proptest! {
        /// Over any stretch no more than the burst and the rate; and, asked often enough, no less.
        #[test]
        fn never_more_than_rate_and_burst(
            count in 1_u32..2000, burst in 1_u32..500, steps in prop::collection::vec(0_u64..50_000_000, 1..400)
        ) {
            let (bucket, pace) = (Bucket::default(), pace(&format!("{count}/s burst {burst}"), 1));
            let (start, mut now, mut admitted) = (SECOND, SECOND, 0_u64);
            for step in steps {
                now += step;
                admitted += u64::from(bucket.take(pace, now).is_ok());
                let most = u64::from(burst) + (now - start) / pace.interval;
                prop_assert!(admitted <= most, "{admitted} of {most}");
            }
        }

        #[test]
        fn no_time_panics(word in any::<u64>(), now in any::<u64>(), nodes in any::<u32>()) {
            let (bucket, pace) = (Bucket(AtomicU64::new(word)), pace("1/h burst 24", nodes));
            let _ = (bucket.test(pace, now), bucket.take(pace, now), bucket.claim(pace, now, || ()));
            bucket.give_back(pace);
        }
    }

    #[test]
    fn threads_take_no_token_twice() {
        let (bucket, pace) = (Bucket::default(), pace("1000/s burst 5000", 1));
        let count = || (0..5000).filter(|_| bucket.take(pace, SECOND).is_ok()).count();
        let sum: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(sum, 5000);
    }
}
