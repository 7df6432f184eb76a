//! Whether a peer can be asked: a state machine that ejects a peer which keeps failing, and lets it back.
//!
//! ```text
//! Healthy ── failures_max failures in a row ──> Ejected ── its time is over ──> Probing
//!    ^                                             ^                             │  │
//!    │                                             └────── the probe failed ─────┘  │
//!    └────────────────────────── a success, from any state ─────────────────────────┘
//! ```
//!
//! Pure: time and randomness are passed in, the caller makes the requests and reports how they ended.
//! Only what tells of the peer is a failure: no connection, a timeout, a broken answer. "Not found" or a
//! refusal for want of budget is an answer, and so a success.

mod board;
#[cfg(test)]
mod tests;

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use self::board::HealthBoard;
use crate::time::Moment;

/// When a peer is ejected, and when it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// So many failures in a row eject a peer. 0 counts as 1.
    pub failures_max: u32,
    /// The shortest wait before a probe; the wait doubles with each probe that fails.
    pub probe_after_min: Duration,
    /// The longest wait before a probe, and for a probe's outcome. If it is below `probe_after_min`, every
    /// wait is this long.
    pub probe_after_max: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            failures_max: 3,
            probe_after_min: Duration::from_millis(100),
            probe_after_max: Duration::from_secs(5),
        }
    }
}

impl HealthConfig {
    /// How long a peer stays ejected that failed `attempt` probes. The longest wait is twice
    /// `probe_after_min`, doubled by each probe that failed, `probe_after_max` at most; by `random` it is
    /// between half of that and all of it. So the nodes of a cluster don't probe in step ("equal jitter",
    /// Brooker, "Exponential Backoff And Jitter", 2015).
    fn probe_after(&self, attempt: u32, random: u64) -> Duration {
        let doubled = 2_u32.checked_pow(attempt.saturating_add(1)).unwrap_or(u32::MAX);
        let longest = self.probe_after_min.saturating_mul(doubled).min(self.probe_after_max);
        let half = longest / 2;
        let spread = half.mul_f64(random as f64 / u64::MAX as f64);
        (half + spread).max(self.probe_after_min).min(self.probe_after_max)
    }
}

/// Where a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// It is asked. So many of its last requests failed in a row.
    Healthy { failures: u32 },
    /// It is not asked until then. So many probes failed since it was ejected.
    Ejected { until: Moment, attempt: u32 },
    /// One request tries it; its outcome is waited for until then.
    Probing { until: Moment, attempt: u32 },
}

/// Whether a peer may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Ask it.
    Yes,
    /// Ask it and report the outcome: this request decides whether it comes back. No other request is
    /// allowed until then.
    Probe,
    /// Ask the next one.
    No,
}

/// What a report changed, to be logged and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The peer is no longer asked.
    Ejected,
    /// The peer is asked again.
    Readmitted,
}

/// The health of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    config: HealthConfig,
    seed: u64,
    /// Waits that were drawn, so that each has a random number of its own.
    draws: u64,
    state: HealthState,
    since: Option<Moment>,
}

impl Health {
    /// A healthy peer. `seed` spreads its probes in time and should differ by node and by peer.
    pub fn new(config: HealthConfig, seed: u64) -> Self {
        Self { config, seed, draws: 0, state: HealthState::Healthy { failures: 0 }, since: None }
    }

    /// Where the peer stands.
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// When it was ejected or readmitted last; `None` if it never was ejected.
    pub fn since(&self) -> Option<Moment> {
        self.since
    }

    /// Whether it is asked like any other.
    pub fn is_healthy(&self) -> bool {
        matches!(self.state, HealthState::Healthy { .. })
    }

    /// Whether the peer may be asked at `now`. [`Allow::Probe`] is given to one caller, who must report; if
    /// it never does (it was cancelled), another one is let through after `probe_after_max`.
    pub fn allows(&mut self, now: Moment) -> Allow {
        match self.state {
            HealthState::Healthy { .. } => Allow::Yes,
            HealthState::Ejected { until, attempt } | HealthState::Probing { until, attempt }
                if now >= until =>
            {
                let until = now.saturating_add(self.config.probe_after_max);
                self.state = HealthState::Probing { until, attempt };
                Allow::Probe
            }
            HealthState::Ejected { .. } | HealthState::Probing { .. } => Allow::No,
        }
    }

    /// The peer answered. From any state it is healthy then: an answer to a request from before the
    /// ejection tells as much as a probe.
    pub fn on_success(&mut self, now: Moment) -> Option<Transition> {
        let was_healthy = self.is_healthy();
        self.state = HealthState::Healthy { failures: 0 };
        (!was_healthy).then(|| {
            self.since = Some(now);
            Transition::Readmitted
        })
    }

    /// The peer failed. While it is ejected this changes nothing: it is about a request from before.
    pub fn on_failure(&mut self, now: Moment) -> Option<Transition> {
        self.fail(now, true)
    }

    /// The request that tried the peer ended without telling anything of it: the next one tries it, at once.
    pub fn on_abandoned(&mut self, now: Moment) {
        if let HealthState::Probing { attempt, .. } = self.state {
            self.state = HealthState::Ejected { until: now, attempt };
        }
    }

    /// As [`Health::on_failure`], but a healthy peer is only ejected if it `may` be. One that may not stays
    /// at the limit, so that its next failure asks again.
    fn fail(&mut self, now: Moment, may: bool) -> Option<Transition> {
        match self.state {
            HealthState::Healthy { .. } if self.is_at_limit() && may => {
                self.eject(now, 0);
                self.since = Some(now);
                Some(Transition::Ejected)
            }
            HealthState::Healthy { failures } => {
                self.state = HealthState::Healthy { failures: failures.saturating_add(1) };
                None
            }
            HealthState::Probing { attempt, .. } => {
                self.eject(now, attempt.saturating_add(1));
                None
            }
            HealthState::Ejected { .. } => None,
        }
    }

    /// Whether one more failure in a row ejects the peer.
    fn is_at_limit(&self) -> bool {
        let HealthState::Healthy { failures } = self.state else { return false };
        failures.saturating_add(1) >= self.config.failures_max
    }

    /// Lets an ejected peer back untried. Its next failure asks for its ejection again.
    fn readmit(&mut self) {
        self.state = HealthState::Healthy { failures: self.config.failures_max.saturating_sub(1) };
    }

    fn eject(&mut self, now: Moment, attempt: u32) {
        let random = xxh3_64_with_seed(&self.draws.to_le_bytes(), self.seed);
        self.draws = self.draws.wrapping_add(1);
        let until = now.saturating_add(self.config.probe_after(attempt, random));
        self.state = HealthState::Ejected { until, attempt };
    }
}
