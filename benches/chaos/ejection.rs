//! When the other nodes stopped asking one that was struck, by their own counters of requests to it.

use std::{net::SocketAddr, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use crate::rig::fleet::{Fleet, metric};

/// The longest time until the others stopped, but for probes; `None` if they never did.
#[derive(Clone, Copy, Debug)]
pub struct Ejected(pub Option<Duration>);

/// Looks at the counters of some nodes.
#[derive(Debug)]
pub struct Watch {
    others: Vec<SocketAddr>,
    prefix: String,
}

/// How often the counters are read.
const PERIOD: Duration = Duration::from_millis(20);
/// A node is out of the path when no more than [`PROBES_MAX`] requests were sent to it for so long.
const QUIET: Duration = Duration::from_millis(500);
/// A probe waits at least 100 ms for the next, and the wait doubles.
const PROBES_MAX: f64 = 4.0;

impl Watch {
    /// Looks at what `others` send to `struck`.
    pub fn of(fleet: &Fleet, struck: usize, others: &[usize]) -> Self {
        Self {
            others: others.iter().map(|index| fleet.nodes[*index].admin()).collect(),
            prefix: format!("ggcache_peer_requests_total{{peer=\"{}\"", fleet.nodes[struck].name),
        }
    }

    /// Looks for `time`, from now on.
    pub async fn during(self, time: Duration) -> Ejected {
        let begun = Instant::now();
        let mut watching = JoinSet::new();
        for other in self.others {
            watching.spawn(quiet_since(other, self.prefix.clone(), begun, time));
        }
        let quiet = watching.join_all().await;
        tokio::time::sleep_until(begun + time).await;
        Ejected(quiet.into_iter().collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().max()))
    }
}

/// After which time the counter began to rest for [`QUIET`].
async fn quiet_since(node: SocketAddr, prefix: String, begun: Instant, limit: Duration) -> Option<Duration> {
    let mut readings: Vec<(Duration, f64)> = Vec::new();
    while begun.elapsed() < limit {
        if let Some(count) = metric(node, &prefix).await {
            let now = begun.elapsed();
            readings.push((now, count));
            // The reading before the quiet time: had requests gone on, it would be far below.
            let before = readings.iter().rfind(|(at, _)| *at + QUIET <= now);
            if let Some((_, then)) = before
                && count - then <= PROBES_MAX
            {
                let rest = readings.iter().find(|(_, earlier)| count - earlier <= PROBES_MAX);
                return rest.map(|(at, _)| *at);
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
    None
}
