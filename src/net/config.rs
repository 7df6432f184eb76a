//! `[limits]`: what one node takes on, and how long it waits.

use std::{ops::RangeInclusive, time::Duration};

use crate::settings::{Checks, Faults, Section};

/// The limits of a node. There is no value for "no limit": each of them keeps the node alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// How long a request may take, from its head to its answer.
    pub request_timeout: Duration,
    /// Connections that a plane has open at once.
    pub connections: usize,
    /// How long a client may take to send a request's head, counted from the first byte or the last answer.
    pub header_timeout: Duration,
    /// The largest head of a request, in bytes.
    pub header_bytes: usize,
    /// How long a connection without a request stays open.
    pub idle_timeout: Duration,
    /// Requests under way on a plane at once.
    pub in_flight: usize,
    /// Loads under way in a group at once, for each of its two kinds.
    pub flights: usize,
    /// Requests that wait for loads in a group at once, for each of its two kinds.
    pub waiters: usize,
    /// The largest value that is loaded and served, in bytes.
    pub value_bytes: usize,
    /// How long a node that is told to stop waits for requests under way; zero not to wait.
    pub shutdown_grace: Duration,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(2),
            connections: 10_000,
            header_timeout: Duration::from_secs(10),
            header_bytes: 32 << 10,
            idle_timeout: Duration::from_secs(75),
            in_flight: 20_000,
            flights: 16_384,
            waiters: 65_536,
            value_bytes: 4 << 20,
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
const IDLE_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
const SHUTDOWN_GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60 * 60);
const COUNT: RangeInclusive<usize> = 1..=10_000_000;
/// hyper panics if it is given a buffer below 8 KiB.
const HEADER_BYTES: RangeInclusive<u64> = 8 << 10..=1 << 20;
const VALUE_BYTES: RangeInclusive<u64> = 1..=1 << 30;

impl LimitsConfig {
    /// Reads the keys of `[limits]`, and checks them.
    pub fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            request_timeout: section.duration("request_timeout", default.request_timeout),
            connections: section.integer("connections", default.connections, COUNT),
            header_timeout: section.duration("header_timeout", default.header_timeout),
            header_bytes: bytes(section, "header_bytes", default.header_bytes),
            idle_timeout: section.duration("idle_timeout", default.idle_timeout),
            in_flight: section.integer("in_flight", default.in_flight, COUNT),
            flights: section.integer("flights", default.flights, COUNT),
            waiters: section.integer("waiters", default.waiters, COUNT),
            value_bytes: bytes(section, "value_bytes", default.value_bytes),
            shutdown_grace: section.duration("shutdown_grace", default.shutdown_grace),
        };
        section.check(config.validate());
        config
    }

    /// Whether every value lies within its bounds.
    ///
    /// # Errors
    /// Every value that does not, under its key in the section.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        checks.duration("request_timeout", self.request_timeout, &TIMEOUT);
        checks.number("connections", self.connections, &COUNT);
        checks.duration("header_timeout", self.header_timeout, &TIMEOUT);
        checks.bytes("header_bytes", self.header_bytes as u64, &HEADER_BYTES);
        checks.duration("idle_timeout", self.idle_timeout, &IDLE_TIMEOUT);
        checks.number("in_flight", self.in_flight, &COUNT);
        checks.number("flights", self.flights, &COUNT);
        checks.number("waiters", self.waiters, &COUNT);
        checks.bytes("value_bytes", self.value_bytes as u64, &VALUE_BYTES);
        checks.duration("shutdown_grace", self.shutdown_grace, &SHUTDOWN_GRACE);
        checks.finish()
    }
}

/// A size that is held in memory. One beyond the address space saturates, and is then out of range.
fn bytes(section: &mut Section<'_>, name: &str, default: usize) -> usize {
    usize::try_from(section.bytes(name, default as u64)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(LimitsConfig::default().validate(), Ok(()));
    }

    #[test]
    fn nothing_but_the_grace_may_be_zero() {
        let config = LimitsConfig {
            request_timeout: Duration::ZERO,
            connections: 0,
            header_timeout: Duration::ZERO,
            header_bytes: 0,
            idle_timeout: Duration::ZERO,
            in_flight: 0,
            flights: 0,
            waiters: 0,
            value_bytes: 0,
            shutdown_grace: Duration::ZERO,
        };
        let faults = config.validate().expect_err("nine of ten are wrong");
        assert_eq!(faults.iter().count(), 9);
        assert!(faults.iter().all(|fault| fault.key() != "shutdown_grace"));
    }
}
