//! How often a node looks.

use std::{fmt, time::Duration};

/// The time between looks: as configured for up to four nodes, and longer in proportion for more of them, so that the
/// database is not asked more often; but never so long that an answer would come close to being too old.
pub struct Pace {
    poll: Duration,
    staleness: Duration,
    nodes: Box<dyn Fn() -> usize + Send + Sync>,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("interval", &self.interval()).finish_non_exhaustive()
    }
}

/// How many nodes look as often as configured.
const NODES: usize = 4;
/// The bound on age has room for this many looks.
const LOOKS: u32 = 8;

impl Pace {
    /// Looks every `poll`, where nothing may be older than `staleness` and `nodes` tells how many nodes there are.
    pub fn new(
        poll: Duration,
        staleness: Duration,
        nodes: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Self {
        Self { poll, staleness, nodes: Box::new(nodes) }
    }

    /// The time from the end of a look that took so long to the next: what is left of the interval, but not less than it
    /// took, as far as the bound allows, since a look that takes long has found much that it may not see yet.
    pub(super) fn pause(&self, took: Duration) -> Duration {
        self.interval().saturating_sub(took).max(took.min(self.staleness / 4))
    }

    /// The time from the beginning of one look to that of the next.
    pub fn interval(&self) -> Duration {
        let nodes = u32::try_from((self.nodes)().div_ceil(NODES)).unwrap_or(u32::MAX);
        let most = (self.staleness / LOOKS).max(Duration::from_millis(1));
        self.poll.saturating_mul(nodes.max(1)).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_begins_when_the_interval_is_over_unless_looks_are_slow() {
        let pace = Pace::new(Duration::from_millis(20), Duration::from_secs(1), || 1);
        let pause = |took| pace.pause(Duration::from_millis(took)).as_millis();
        assert_eq!([0, 5, 10, 15, 40, 900].map(pause), [20, 15, 10, 15, 40, 250]);
    }

    #[test]
    fn many_nodes_look_less_often_each_and_still_in_time() {
        let interval = |nodes| {
            let pace = Pace::new(Duration::from_millis(20), Duration::from_secs(1), move || nodes);
            pace.interval().as_millis()
        };
        assert_eq!([0, 1, 4, 5, 12, 30, usize::MAX].map(interval), [20, 20, 20, 40, 60, 125, 125]);
        assert_eq!(
            Pace::new(Duration::from_millis(20), Duration::ZERO, || 1).interval(),
            Duration::from_millis(1)
        );
    }
}
