//! How many queries the nodes have sent to the database, also those that have ended since.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::{fleet, items::GROUP};

/// Asks all nodes again and again. A node that is killed takes with it what it counted since it was asked last.
#[derive(Debug)]
pub struct Queries {
    seen: Arc<Mutex<Seen>>,
    nodes: Vec<SocketAddr>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    now: HashMap<SocketAddr, f64>,
    /// Of processes that have ended.
    past: f64,
}

/// How often the nodes are asked.
const PERIOD: Duration = Duration::from_millis(200);

impl Queries {
    /// Counts the queries of the nodes with these operators' planes, running or not.
    pub fn watch(nodes: Vec<SocketAddr>) -> Self {
        let seen = Arc::default();
        let task = tokio::spawn({
            let (seen, nodes) = (Arc::clone(&seen), nodes.clone());
            async move {
                loop {
                    look(&seen, &nodes).await;
                    tokio::time::sleep(PERIOD).await;
                }
            }
        });
        Self { seen, nodes, task }
    }

    /// All queries so far.
    pub async fn total(&self) -> u64 {
        look(&self.seen, &self.nodes).await;
        let seen = self.seen.lock();
        (seen.past + seen.now.values().sum::<f64>()) as u64
    }
}

async fn look(seen: &Mutex<Seen>, nodes: &[SocketAddr]) {
    let asked = nodes.iter().map(|node| async move { (*node, count(*node).await) });
    for (node, count) in futures_util::future::join_all(asked).await {
        let Some(count) = count else { continue };
        let mut seen = seen.lock();
        let before = seen.now.insert(node, count).unwrap_or_default();
        if count < before {
            // Another process counts from zero.
            seen.past += before;
        }
    }
}

async fn count(node: SocketAddr) -> Option<f64> {
    fleet::metric(node, &format!("ggcache_loads_total{{group=\"{GROUP}\"")).await
}

impl Drop for Queries {
    fn drop(&mut self) {
        self.task.abort();
    }
}
