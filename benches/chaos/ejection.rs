//! When the other nodes took one that was struck out of the path of requests, by what they say of its health.

use std::{net::SocketAddr, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use crate::rig::fleet::{Fleet, ask};

/// How long it took until all others thought so; `None` if one of them never did.
#[derive(Clone, Copy, Debug)]
pub struct Ejected {
    /// They had ejected it, or no longer knew it.
    pub after: Option<Duration>,
    /// They no longer knew it: its lease had ended.
    pub gone: Option<Duration>,
}

/// Looks at how some nodes see another.
#[derive(Debug)]
pub struct Watch {
    others: Vec<SocketAddr>,
    struck: String,
}

/// How often they are asked.
const PERIOD: Duration = Duration::from_millis(10);

impl Watch {
    /// How `others` see `struck`.
    pub fn of(fleet: &Fleet, struck: usize, others: &[usize]) -> Self {
        Self {
            others: others.iter().map(|index| fleet.nodes[*index].admin()).collect(),
            struck: fleet.nodes[struck].name.clone(),
        }
    }

    /// Looks for `time`, from now on.
    pub async fn during(self, time: Duration) -> Ejected {
        let begun = Instant::now();
        let mut watching = JoinSet::new();
        for other in self.others {
            watching.spawn(watch(other, self.struck.clone(), begun, time));
        }
        let seen = watching.join_all().await;
        tokio::time::sleep_until(begun + time).await;
        let slowest = |times: Vec<Option<Duration>>| {
            times.into_iter().collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().max())
        };
        let (after, gone) = seen.into_iter().unzip();
        Ejected { after: slowest(after), gone: slowest(gone) }
    }
}

/// When `node` had ejected `struck`, and when it no longer knew it.
async fn watch(
    node: SocketAddr,
    struck: String,
    begun: Instant,
    limit: Duration,
) -> (Option<Duration>, Option<Duration>) {
    let mut ejected = None;
    while begun.elapsed() < limit {
        if let Some(page) = ask(node, "/api/v1/cluster").await {
            let page = page.json();
            let nodes = page["nodes"].as_array().map_or(&[][..], Vec::as_slice);
            let health =
                nodes.iter().find(|node| node["address"] == struck.as_str()).map(|node| &node["health"]);
            if health.is_none_or(|health| health != "healthy") {
                ejected = ejected.or(Some(begun.elapsed()));
            }
            if health.is_none() {
                return (ejected, Some(begun.elapsed()));
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
    (ejected, None)
}
