//! When a piece of work on a database has to be done.

use std::time::{Duration, Instant};

/// Where statements read the time: nanoseconds since the database was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatementClock {
    opened: Instant,
}

/// The end of a turn, as the number that SQLite's `gg_within` takes. Elsewhere it is looked at between statements.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(i64);

impl Deadline {
    /// The number to bind for `gg_within`.
    pub const fn as_number(self) -> i64 {
        self.0
    }

    #[cfg(feature = "sqlite")]
    pub(super) const fn from_number(number: i64) -> Self {
        Self(number)
    }
}

impl StatementClock {
    pub(super) fn new() -> Self {
        Self { opened: Instant::now() }
    }

    fn nanos(self, moment: Instant) -> i64 {
        i64::try_from(moment.saturating_duration_since(self.opened).as_nanos()).unwrap_or(i64::MAX)
    }

    /// The deadline `timeout` from now.
    pub(super) fn after(self, timeout: Duration) -> Deadline {
        let timeout = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
        Deadline(self.nanos(Instant::now()).saturating_add(timeout))
    }

    /// Whether `deadline` has passed.
    pub(super) fn is_past(self, deadline: Deadline) -> bool {
        self.nanos(Instant::now()) > deadline.0
    }
}
