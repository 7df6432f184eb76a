//! Points in time as the cache sees them.
//!
//! A [`Moment`] is a reading of `CLOCK_BOOTTIME`, which goes on while the machine sleeps; Rust's
//! `Instant` reads `CLOCK_MONOTONIC` on Linux, which stands still, so that a laptop that wakes up would
//! serve values long past their ttl. A moment means nothing on another machine: what crosses the wire is
//! a remaining duration, never a moment.
//!
//! The pure layers (`cache`, `cluster`) take moments as arguments and own no clock.

use std::time::Duration;

/// A point in time, in nanoseconds since the machine was booted. Comparable within one process only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment `nanos` nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This moment plus `duration`; the far end of time (584 years) where that overflows.
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(duration)))
    }

    /// This moment minus `duration`; the moment of boot where that would lie before it.
    pub const fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_nanos(duration)))
    }

    /// How long after `earlier` this moment is; zero if it is not after it.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

const fn saturating_nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}

/// Where a part that does I/O reads the time. Tests substitute [`TokioClock`] or [`ManualClock`].
pub trait Clock: Send + Sync + 'static {
    /// The present moment. Never goes backwards.
    fn now(&self) -> Moment;
}

/// The machine's boot clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Moment {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // The kernel's boot clock is never negative, so neither cast changes a value.
        Moment((time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64))
    }
}

/// Tokio's clock, which a test can pause and which then advances by itself when all tasks sleep.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    origin: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that reads one hour now, so that "before the start" can be expressed.
    pub fn new() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Moment {
        Moment::from_nanos(3_600_000_000_000).saturating_add(self.origin.elapsed())
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct ManualClock(std::sync::atomic::AtomicU64);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Moment) -> Self {
        Self(std::sync::atomic::AtomicU64::new(start.as_nanos()))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(saturating_nanos(by), std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        Moment(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_clock_moves_forward() {
        let first = BootClock.now();
        assert!(first.as_nanos() > 0);
        assert!(BootClock.now() >= first);
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Moment::from_nanos(u64::MAX);
        assert_eq!(end.saturating_add(Duration::MAX), end);
        assert_eq!(Moment::default().saturating_since(end), Duration::ZERO);
        assert_eq!(end.saturating_since(Moment::from_nanos(u64::MAX - 5)), Duration::from_nanos(5));
    }
}
