//! How long to wait before the next attempt.

use std::time::Duration;

/// The longest first wait.
const FIRST: Duration = Duration::from_millis(50);
/// The longest wait.
const LAST: Duration = Duration::from_secs(2);

/// Waits that double, each drawn between half of its length and all of it, so that the nodes of a cluster don't come
/// back in step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    /// The first wait comes next.
    pub(super) const fn new() -> Self {
        Self(FIRST)
    }

    /// The length of the next wait.
    pub(super) fn next(&mut self) -> Duration {
        let longest = self.0;
        self.0 = (longest * 2).min(LAST);
        longest.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// All is well again.
    pub(super) const fn reset(&mut self) {
        self.0 = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..9).map(|_| backoff.next()).collect();
        for (wait, longest) in waits.iter().zip([50, 100, 200, 400, 800, 1600, 2000, 2000, 2000]) {
            let longest = Duration::from_millis(longest);
            assert!((longest / 2..=longest).contains(wait), "{wait:?} of {longest:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
