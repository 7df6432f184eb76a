//! This node's own entry: written under a lease, kept alive, written again when it is lost, and given up by revoking
//! the lease.
//!
//! An entry is only ever written where there is none, or where there is our own, or one that no lease keeps alive:
//! decided by etcd itself, in one transaction. It is never deleted: what is under the key may be a successor's. The
//! lease's number is drawn here and not by etcd, so that a request may be repeated, and so that leaving can revoke a
//! lease whose grant is still under way.

use std::time::Duration;

use etcd_client::{
    Compare, CompareOp, GetOptions, KeyValue, LeaseGrantOptions, LeaseKeepAliveStream, LeaseKeeper,
    PutOptions, Txn, TxnOp, TxnOpResponse,
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    super::DiscoveryError,
    backoff::Backoff,
    client::{CALL_TIMEOUT, EtcdError},
    entry::{Entry, echo, encode, parse},
    shared::{Registration, Shared},
};
use crate::{cluster::NodeId, telemetry::field};

/// How often etcd is asked whether the entry at our address is still another's.
const CONTEST_PERIOD: Duration = Duration::from_millis(200);
/// What is added to the other's lease before we believe that it is alive: etcd looks for expired leases twice a second.
const CONTEST_GRACE: Duration = Duration::from_secs(1);
/// How often a running node looks whether its address is its own again.
const CONTEST_PERIOD_LATER: Duration = Duration::from_secs(2);
/// A lease is renewed three times within its life, and at least this often.
const RENEWAL_MAX: Duration = Duration::from_secs(2);

/// Registers the node and keeps it so; ends when the node leaves.
///
/// # Errors
/// [`DiscoveryError::AddressTaken`] if another process keeps the address, and the node is not admitted yet. A node
/// that runs does not stop for this: it says so, and waits.
pub(super) async fn run(shared: &Shared) -> Result<(), DiscoveryError> {
    let mut backoff = Backoff::new();
    loop {
        // Positive, and never 0, which means "any" to etcd.
        let lease = fastrand::i64(1..);
        if !shared.begin(lease) {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = shared.left() => return Ok(()),
            lost = hold(shared, lease, &mut backoff) => lost?,
        }
        let was = shared.set_registration(Registration::Absent);
        if matches!(was, Registration::Registered { .. }) {
            tracing::warn!({ field::NODE } = %shared.me().address, "the lease in etcd is lost; registering again");
        }
    }
}

/// One lease, from its grant until it is lost.
async fn hold(shared: &Shared, lease: i64, backoff: &mut Backoff) -> Result<(), DiscoveryError> {
    let ttl = shared.lease_seconds();
    let granted = shared
        .etcd()
        .call(|mut client| async move {
            client.lease_grant(ttl, Some(LeaseGrantOptions::new().with_id(lease))).await
        })
        .await;
    let granted = match granted {
        Ok(answer) => answer.ttl(),
        Err(error) if error.is_lease_there() => ttl,
        Err(error) => {
            shared.not_registered(&error);
            sleep(backoff.next()).await;
            return Ok(());
        }
    };
    let ttl = Duration::from_secs(granted.max(1).unsigned_abs());
    tokio::select! {
        () = keep_alive(shared, lease, ttl) => Ok(()),
        ended = claim(shared, lease, backoff) => ended,
    }
}

/// Keeps the lease alive until etcd says that it is gone. While etcd is out of reach that is unknown, whatever the
/// clock says: a new leader begins every lease anew.
async fn keep_alive(shared: &Shared, lease: i64, ttl: Duration) {
    let period = (ttl / 3).min(RENEWAL_MAX);
    let patience = period.clamp(Duration::from_millis(500), CALL_TIMEOUT);
    let mut backoff = Backoff::new();
    loop {
        let opened = shared
            .etcd()
            .call_for(patience, |mut client| async move { client.lease_keep_alive(lease).await })
            .await;
        match opened {
            Ok(((keeper, stream), source)) => {
                backoff.reset();
                sleep(period).await;
                if renew(keeper, stream, period, patience).await == Renewal::Gone {
                    return;
                }
                shared.etcd().blame(source);
            }
            Err(error) if error.is_lease_gone() => return,
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the lease in etcd can't be renewed"
                );
                sleep(backoff.next().min(period)).await;
            }
        }
    }
}

/// How a stream of renewals ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    /// The stream broke, or fell silent.
    Broken,
    /// The lease is gone.
    Gone,
}

async fn renew(
    mut keeper: LeaseKeeper,
    mut stream: LeaseKeepAliveStream,
    period: Duration,
    patience: Duration,
) -> Renewal {
    loop {
        let begun = Instant::now();
        let renewed = async {
            keeper.keep_alive().await?;
            stream.message().await
        };
        match timeout(patience, renewed).await {
            Ok(Ok(Some(answer))) if answer.ttl() <= 0 => return Renewal::Gone,
            Ok(Ok(Some(_))) => tokio::time::sleep_until(begun + period).await,
            Ok(Ok(None) | Err(_)) | Err(_) => return Renewal::Broken,
        }
    }
}

/// Between two writes of the entry under one lease.
const REWRITE_PERIOD: Duration = Duration::from_secs(1);

/// What is under our key, when it is not for us to write there.
#[derive(Debug)]
struct Other {
    id: Option<NodeId>,
    /// How it is called in messages.
    name: String,
    /// How long it lives without a sign of life.
    ttl: Duration,
}

/// Writes the entry, and again whenever it is no longer there. Ends well only if the lease is gone.
async fn claim(shared: &Shared, lease: i64, backoff: &mut Backoff) -> Result<(), DiscoveryError> {
    // Since when the other was there at every look, and how it was called.
    let mut contest: Option<(Instant, Option<NodeId>)> = None;
    loop {
        match write(shared, lease).await {
            Ok(Written::Ours { revision }) => {
                backoff.reset();
                contest = None;
                shared.registered(revision);
                let written = Instant::now();
                shared.entry_is_lost().await;
                // Whoever deletes it again and again is not to be raced.
                tokio::time::sleep_until(written + REWRITE_PERIOD).await;
            }
            Ok(Written::Other(other)) => {
                let since = match contest {
                    Some((since, id)) if id == other.id => since,
                    _ => {
                        shared.contested(&other.name);
                        Instant::now()
                    }
                };
                contest = Some((since, other.id));
                let patience = other.ttl.max(shared.lease_ttl()) + CONTEST_GRACE;
                if shared.is_admitted() {
                    sleep(CONTEST_PERIOD_LATER).await;
                } else if since.elapsed() >= patience {
                    return Err(DiscoveryError::AddressTaken {
                        address: shared.me().address.clone(),
                        other: other.name,
                    });
                } else {
                    sleep(CONTEST_PERIOD).await;
                }
            }
            Err(error) if error.is_lease_gone() => return Ok(()),
            Err(error) => {
                // A new leader begins every lease anew, the other's too.
                contest = None;
                shared.not_registered(&error);
                sleep(backoff.next()).await;
            }
        }
    }
}

enum Written {
    Ours { revision: i64 },
    Other(Other),
}

/// Writes the entry, if the key is free, ours already, or of nobody who lives.
async fn write(shared: &Shared, lease: i64) -> Result<Written, EtcdError> {
    let (key, value) = (shared.key(), encode(shared.me()));
    // The revision of what may be replaced; 0 is nothing at all.
    let mut expected = 0;
    loop {
        let (key, value) = (key.clone(), value.clone());
        let answer = shared
            .etcd()
            .call(move |mut client| {
                let put = TxnOp::put(key.clone(), value.clone(), Some(PutOptions::new().with_lease(lease)));
                let get = TxnOp::get(key.clone(), None::<GetOptions>);
                let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, expected);
                async move { client.txn(Txn::new().when([unchanged]).and_then([put]).or_else([get])).await }
            })
            .await?;
        if answer.succeeded() {
            return Ok(Written::Ours { revision: answer.header().map_or(0, |header| header.revision()) });
        }
        let found = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().first().cloned(),
            _ => None,
        });
        expected = match found {
            // It went away in between.
            None => 0,
            Some(found) => match owner(shared, &found).await? {
                None => found.mod_revision(),
                Some(other) => return Ok(Written::Other(other)),
            },
        };
    }
}

/// Who holds the entry at our address; `None` if we do, or nobody who lives.
async fn owner(shared: &Shared, found: &KeyValue) -> Result<Option<Other>, EtcdError> {
    let entry = parse(shared.prefix(), found.key(), found.value());
    let id = match entry {
        Ok(Entry::Node(node)) => node.id,
        Ok(Entry::Foreign(_)) | Err(_) => None,
    };
    if id.is_some() && id == shared.me().id || found.lease() == 0 {
        return Ok(None);
    }
    let lease = found.lease();
    let answer =
        shared.etcd().call(|mut client| async move { client.lease_time_to_live(lease, None).await }).await?;
    // Whole seconds, rounded down: 0 is the last second of a lease that may still be renewed.
    if answer.ttl() < 0 {
        return Ok(None);
    }
    let name =
        id.map_or_else(|| format!("no node of ours: {}", echo(found.value())), |id| format!("id {id}"));
    Ok(Some(Other { id, name, ttl: Duration::from_secs(answer.granted_ttl().max(0).unsigned_abs()) }))
}
