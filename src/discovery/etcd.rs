//! Members from etcd: this node registers there, and hears who else does.
//!
//! ```text
//! registration ── lease, entry, renewals ──┐
//!                                          ├── client: one member of etcd at a time ──> etcd
//! watching ────── list, then changes ──────┘
//!     └──> members ──> reporter ──> a report for the view
//! ```
//!
//! Invariants: what etcd does or holds never ends the process and never empties the view. While etcd is out of reach the
//! last report stays in force. A node is given up only when etcd says that it is gone, or lacks it for twice the lease.
//! An entry is written only where no other living process has one, and never deleted.
//!
//! `app` makes an [`EtcdDiscovery`] and runs it by [`follow`](super::follow); before the node stops, it calls
//! [`EtcdHandle::leave`].

mod backoff;
mod client;
mod entry;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod listing;
mod members;
mod registration;
mod reporter;
mod shared;
mod watching;

use std::{convert::Infallible, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

#[cfg(feature = "fuzzing")]
pub(crate) use self::fuzz::fuzz_etcd_entry;
use self::{
    backoff::Backoff,
    client::{Etcd, EtcdError},
    members::Members,
    shared::{Registration, Shared},
    watching::Board,
};
pub use self::{
    client::EtcdSetupError,
    listing::{EtcdListing, Listed},
};
use super::{ClusterConfig, Discovery, DiscoveryError, EtcdConfig};
use crate::{
    cluster::{Address, Node},
    group::BoxFuture,
    telemetry::{NodeMetrics, field},
};

/// A node among others that are registered in the same etcd.
#[derive(Debug)]
pub struct EtcdDiscovery {
    shared: Arc<Shared>,
    cluster: ClusterConfig,
}

/// What can be done with the registration from outside. Clones share it.
#[derive(Clone, Debug)]
pub struct EtcdHandle(Arc<Shared>);

/// How things are between this node and etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdStatus {
    /// Since when etcd can't be read, if it can't.
    pub away_for: Option<Duration>,
    /// Whether etcd has said who is there since the start; else the members are the configured peers.
    pub has_listed: bool,
    /// Whether this node's entry is there, as far as it knows.
    pub is_registered: bool,
    /// What is registered under the same service and is not a node: never on the ring.
    pub foreign: Vec<String>,
    /// How many of them there are; the first 100 are listed.
    pub foreign_count: usize,
}

/// Why the lease could not be revoked. The entry goes when the lease ends by itself.
#[derive(Debug, Error)]
#[error(
    "the entry in etcd could not be withdrawn within {patience:?}; it goes by itself when its lease ends"
)]
pub struct LeaveError {
    /// How long it was tried.
    pub patience: Duration,
    /// What the last attempt said, if one ended.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl EtcdDiscovery {
    /// Discovery for node `me`, which must have an id. Reads the files that `etcd` names, and connects to nothing.
    ///
    /// # Errors
    /// If a file can't be read, or the node has no id.
    pub fn new(
        etcd: &EtcdConfig,
        cluster: &ClusterConfig,
        me: Node,
        metrics: &NodeMetrics,
    ) -> Result<(Self, EtcdHandle), EtcdSetupError> {
        if me.id.is_none() {
            return Err(EtcdSetupError::NoId);
        }
        if !cluster.allowed_peers.allows_host(me.address.host()) {
            tracing::warn!(
                { field::NODE } = %me.address,
                "this node's own address is not in cluster.allowed_peers; nodes with the same list will not take it in"
            );
        }
        if !etcd.has_tls() && (etcd.ca.is_some() || etcd.cert.is_some()) {
            tracing::warn!(
                "etcd.ca, etcd.cert and etcd.key have no effect: the endpoints begin with http://"
            );
        }
        let client = Etcd::new(etcd)?;
        let shared = Arc::new(Shared::new(client, me, &cluster.service, etcd.lease_ttl, metrics));
        let handle = EtcdHandle(Arc::clone(&shared));
        Ok((Self { shared, cluster: cluster.clone() }, handle))
    }
}

impl Discovery for EtcdDiscovery {
    /// The first report comes when the members are listed and this node is registered, or has found another process at
    /// its address; without an answer from etcd, after two seconds, with the configured peers.
    ///
    /// # Errors
    /// [`DiscoveryError::AddressTaken`] if that process keeps its lease alive: before this node is
    /// [admitted](EtcdHandle::admitted) only.
    fn run(
        self: Box<Self>,
        reports: mpsc::Sender<Vec<Node>>,
    ) -> BoxFuture<'static, Result<(), DiscoveryError>> {
        Box::pin(async move {
            let Self { shared, cluster } = *self;
            // A lease, and as long again for the node to notice and register anew.
            let keep = shared.lease_ttl() * 2;
            let members = Members::new(
                shared.prefix().to_vec(),
                shared.me().clone(),
                cluster.allowed_peers.clone(),
                keep,
            );
            let board = Arc::new(Board::new(members));
            let registered = async {
                match Box::pin(registration::run(&shared)).await {
                    // A node that has left goes on watching.
                    Ok(()) => std::future::pending().await,
                    Err(error) => error,
                }
            };
            tokio::select! {
                error = registered => Err(error),
                never = admission(&shared) => match never {},
                () = watching::run(&shared, &board) => Ok(()),
                () = reporter::run(&shared, &board, &cluster.peers, &reports) => Ok(()),
            }
        })
    }
}

/// Admits the node when its time has come, and ends never.
async fn admission(shared: &Shared) -> Infallible {
    shared.admit().await;
    std::future::pending().await
}

impl EtcdHandle {
    /// Ends when the node may want requests: it is registered, or etcd has not answered for two seconds; not while
    /// another process is registered at its address. Cancel safe.
    pub async fn admitted(&self) {
        self.0.admitted().await;
    }

    /// Withdraws the node's entry by revoking its lease, and registers no more; the discovery goes on reporting. A
    /// second call does nothing.
    ///
    /// # Errors
    /// If etcd has not said yes after `patience`.
    ///
    /// Cancel safety: the node counts as having left from the first poll on; its entry goes when its lease ends, if a
    /// dropped future did not get to revoke it.
    pub async fn leave(&self, patience: Duration) -> Result<(), LeaveError> {
        let Self(shared) = self;
        let Some(lease) = shared.leave() else { return Ok(()) };
        let deadline = Instant::now() + patience;
        let mut backoff = Backoff::new();
        let mut failure = None;
        let revoked = async {
            loop {
                let revoke =
                    |mut client: etcd_client::Client| async move { client.lease_revoke(lease).await };
                match shared.etcd().call(revoke).await {
                    Ok(_) => return,
                    Err(error) if error.is_lease_gone() => return,
                    Err(error) => failure = Some(error),
                }
                sleep(backoff.next()).await;
            }
        };
        let revoked = timeout_at(deadline, revoked).await.is_ok();
        shared.set_registration(Registration::Absent);
        if revoked {
            tracing::info!({ field::NODE } = %shared.me().address, "withdrawn from etcd");
            Ok(())
        } else {
            let source = failure.map(|error: EtcdError| error.into());
            Err(LeaveError { patience, source })
        }
    }

    /// How things are.
    pub fn status(&self) -> EtcdStatus {
        let Self(shared) = self;
        let (foreign, foreign_count) = shared.foreign();
        EtcdStatus {
            away_for: shared.away().map(|since| since.elapsed()),
            has_listed: shared.has_listed(),
            is_registered: matches!(*shared.registration().borrow(), Registration::Registered { .. }),
            foreign,
            foreign_count,
        }
    }

    /// The address under which the node is registered.
    pub fn address(&self) -> &Address {
        &self.0.me().address
    }
}
