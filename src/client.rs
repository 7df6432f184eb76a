//! A client of a cluster: reads keys from whichever node answers, within a deadline.
//!
//! ```no_run
//! use ggcache::client::{Client, Endpoint};
//! use ggcache::group::{GroupName, Key};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let nodes = ["http://10.0.0.7:8000", "http://10.0.0.8:8000"].map(str::parse::<Endpoint>);
//! let client = Client::builder().addresses(nodes.into_iter().collect::<Result<Vec<_>, _>>()?).build()?;
//! let (group, key) = (GroupName::new("scores")?, Key::new("anna")?);
//! match client.get(&group, &key).await? {
//!     Some(fetched) => println!("{} bytes from {}", fetched.bytes.len(), fetched.node),
//!     None => println!("there is no anna"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - Nodes are asked in turn, from a random start (`nodes`). A node that could not be reached or was silent comes
//!   last until it answers again; one request at a time tries it.
//! - A read is tried again only when that may help: after a broken connection, silence, or a code that
//!   [`ErrorCode::is_retryable`](crate::error::ErrorCode::is_retryable) names; never after a 4xx. Each new attempt
//!   goes to another node than the one that failed, after a pause of exponential backoff with full jitter (`retry`).
//! - Retries of all reads together are a bounded share of the requests, so that an outage does not multiply the load.
//! - The deadline holds for everything together: no attempt outlasts it, none begins after it.
//!
//! Nothing here knows what a node is inside: the library's other users are applications, and `ggcache get`.

mod builder;
mod endpoint;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "grpc")]
mod grpc;
mod http;
mod nodes;
mod retry;
#[cfg(test)]
mod tests;
mod token;
mod wire;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

pub use builder::{BuildError, ClientBuilder};
pub use endpoint::{Endpoint, EndpointError, Endpoints, Protocol, StaticEndpoints};
pub use error::ClientError;
#[cfg(feature = "etcd")]
pub use etcd::EtcdEndpoints;
pub use wire::Fetched;

use self::{
    error::Failure,
    nodes::Nodes,
    retry::{Backoff, RetryBudget},
};
use crate::group::{GroupName, Key};

/// Reads keys from a cluster. Clones share connections, and what was learnt of the nodes.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    nodes: Nodes,
    budget: RetryBudget,
    deadline: Duration,
}

/// The part of the deadline that one attempt may take, so that there is time for others.
const ATTEMPTS_IN_DEADLINE: u32 = 3;
/// What one attempt may take at least, within the deadline.
const ATTEMPT_MIN: Duration = Duration::from_millis(50);

impl Client {
    /// What a client is made of.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Reads `key` of `group` within the client's deadline; `None` if the database has no such key.
    ///
    /// # Errors
    /// If no attempt was answered, or the answer was an error that another attempt would not change.
    ///
    /// Cancel safety: a dropped future abandons the attempt under way; the node may go on with it.
    pub async fn get(&self, group: &GroupName, key: &Key) -> Result<Option<Fetched>, ClientError> {
        self.get_until(group, key, Instant::now() + self.0.deadline).await
    }

    /// Reads `key` of `group` before `deadline`, whatever the client's own is.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// Cancel safety: as [`get`](Self::get).
    pub async fn get_until(
        &self,
        group: &GroupName,
        key: &Key,
        deadline: Instant,
    ) -> Result<Option<Fetched>, ClientError> {
        let Shared { nodes, budget, .. } = &*self.0;
        let begun = Instant::now();
        budget.request(begun);
        let patience = (deadline.saturating_duration_since(begun) / ATTEMPTS_IN_DEADLINE).max(ATTEMPT_MIN);
        if nodes.first(deadline).await.is_none() {
            return Err(ClientError::new(Failure::NoNodes, 0, begun.elapsed()));
        }
        let mut tried = Vec::new();
        let mut backoff = Backoff::new();
        loop {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            let Some(node) = nodes.pick(&tried, now) else {
                return Err(ClientError::new(Failure::NoNodes, tried.len(), begun.elapsed()));
            };
            let failure = match node.get(group, key, patience.min(left)).await {
                Ok(found) => {
                    let attempts = tried.len() + 1;
                    return Ok(found.map(|fetched| Fetched { attempts, ..fetched }));
                }
                Err(failure) => failure,
            };
            tried.push(node);
            let now = Instant::now();
            let pause = backoff.pause();
            let may_end_better =
                failure.is_retryable() || failure.is_final_there() && nodes.has_others_than(&tried);
            let again = may_end_better && now + pause < deadline && budget.retry(now);
            if again {
                tokio::time::sleep(pause).await;
            }
            if !again || Instant::now() >= deadline {
                return Err(ClientError::new(failure, tried.len(), begun.elapsed()));
            }
        }
    }
}
