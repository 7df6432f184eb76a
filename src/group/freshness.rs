//! How long what was loaded may be served.
//!
//! A lifetime begins when the load begins, not when it ends: the origin read the row somewhere in between,
//! and the promise is about the row's age. Jitter only shortens it.

use std::time::Duration;

use crate::time::Moment;

/// The lifetimes of one group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Freshness {
    /// The longest that a value is served.
    pub ttl: Duration,
    /// The share of the ttl, 0 to 1, by which it is shortened at random, so that what was loaded
    /// together does not expire together.
    pub jitter: f64,
    /// The longest that "no such key" is served; zero if it is not remembered.
    pub negative_ttl: Duration,
    /// The longest that a node keeps what it loaded in place of an owner that is down.
    pub failover_ttl: Duration,
}

/// In which role a node loads a key, which decides whether and how long it keeps the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The key's owner.
    Owner,
    /// The next node on the ring, asked because the owner does not answer.
    Successor,
    /// Neither: the result is answered, not kept.
    Stranger,
}

impl Freshness {
    /// Until when the result of a load that began at `start` is fresh; `start` itself if never.
    /// `draw` is a random number from 0 to 1.
    pub fn until(&self, start: Moment, found: bool, role: Role, draw: f64) -> Moment {
        let lifetime = if found {
            self.ttl
                .mul_f64((1.0 - self.jitter * draw).clamp(0.0, 1.0))
                .max(self.ttl.min(Duration::from_millis(1)))
        } else {
            self.negative_ttl
        };
        match role {
            Role::Owner => start.saturating_add(lifetime),
            Role::Successor => start.saturating_add(lifetime.min(self.failover_ttl)),
            Role::Stranger => start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESHNESS: Freshness = Freshness {
        ttl: Duration::from_secs(30),
        jitter: 0.1,
        negative_ttl: Duration::from_secs(5),
        failover_ttl: Duration::from_secs(3),
    };

    fn lifetime(found: bool, role: Role, draw: f64) -> Duration {
        let start = Moment::from_nanos(1_000);
        FRESHNESS.until(start, found, role, draw).saturating_since(start)
    }

    #[test]
    fn jitter_only_shortens() {
        assert_eq!(lifetime(true, Role::Owner, 0.0), Duration::from_secs(30));
        assert_eq!(lifetime(true, Role::Owner, 1.0), Duration::from_secs(27));
        assert_eq!(lifetime(false, Role::Owner, 1.0), Duration::from_secs(5));
    }

    #[test]
    fn the_role_limits_the_lifetime() {
        assert_eq!(lifetime(true, Role::Successor, 0.0), Duration::from_secs(3));
        assert_eq!(lifetime(true, Role::Stranger, 0.0), Duration::ZERO);
    }

    #[test]
    fn full_jitter_never_takes_all() {
        let freshness = Freshness { jitter: 1.0, ..FRESHNESS };
        let start = Moment::default();
        assert!(freshness.until(start, true, Role::Owner, 1.0) > start);
    }
}
