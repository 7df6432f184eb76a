//! What the parts of etcd discovery share: the connection, who we are, and how far the registration has got.
//!
//! Each transition is logged here, once, whoever notices it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use metrics::Gauge;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::client::{Etcd, EtcdError};
use crate::{
    cluster::Node,
    telemetry::{NodeMetrics, field},
};

/// How long etcd is waited for at the start.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How far the registration has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Registration {
    /// We have no entry that we know of.
    Absent,
    /// There is another process's entry at our address.
    Contested,
    /// Our entry was written at this revision.
    Registered { revision: i64 },
}

/// Our lease, as leaving has to know it.
#[derive(Clone, Copy, Debug)]
enum Lease {
    None,
    /// Granted, or about to be.
    Held(i64),
    /// We have left, and take no lease any more.
    Left,
}

/// See the module.
pub(super) struct Shared {
    etcd: Etcd,
    me: Node,
    prefix: Vec<u8>,
    lease_ttl: Duration,
    lease: Mutex<Lease>,
    left: CancellationToken,
    registration: watch::Sender<Registration>,
    is_refused: AtomicBool,
    entry_is_lost: Notify,
    /// Cancelled when the start is over.
    admitted: CancellationToken,
    has_listed: AtomicBool,
    /// Since when etcd is out of reach.
    away: Mutex<Option<Instant>>,
    foreign: Mutex<(Vec<String>, usize)>,
    up: Gauge,
    registered: Gauge,
}

impl Shared {
    pub(super) fn new(
        etcd: Etcd,
        me: Node,
        service: &str,
        lease_ttl: Duration,
        metrics: &NodeMetrics,
    ) -> Self {
        Self {
            etcd,
            me,
            prefix: format!("{service}/").into_bytes(),
            lease_ttl,
            lease: Mutex::new(Lease::None),
            left: CancellationToken::new(),
            registration: watch::Sender::new(Registration::Absent),
            is_refused: AtomicBool::new(false),
            entry_is_lost: Notify::new(),
            admitted: CancellationToken::new(),
            has_listed: AtomicBool::new(false),
            away: Mutex::new(None),
            foreign: Mutex::default(),
            up: metrics.gauge("ggcache_etcd_up", vec![]),
            registered: metrics.gauge("ggcache_etcd_registered", vec![]),
        }
    }

    pub(super) const fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    pub(super) const fn me(&self) -> &Node {
        &self.me
    }

    /// The service and a slash: what all keys of the service begin with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Our own key.
    pub(super) fn key(&self) -> Vec<u8> {
        [self.prefix.as_slice(), self.me.address.as_str().as_bytes()].concat()
    }

    pub(super) const fn lease_ttl(&self) -> Duration {
        self.lease_ttl
    }

    /// As etcd takes it.
    pub(super) fn lease_seconds(&self) -> i64 {
        let seconds = self.lease_ttl.as_secs() + u64::from(self.lease_ttl.subsec_nanos() > 0);
        i64::try_from(seconds).unwrap_or(i64::MAX)
    }

    /// Notes that `lease` is about to be taken; `false` if the node has left and must not.
    pub(super) fn begin(&self, lease: i64) -> bool {
        let mut held = self.lease.lock();
        match *held {
            Lease::Left => false,
            Lease::None | Lease::Held(_) => {
                *held = Lease::Held(lease);
                true
            }
        }
    }

    /// No lease is taken from now on. The one that was, to be revoked.
    pub(super) fn leave(&self) -> Option<i64> {
        let held = std::mem::replace(&mut *self.lease.lock(), Lease::Left);
        self.left.cancel();
        match held {
            Lease::Held(lease) => Some(lease),
            Lease::None | Lease::Left => None,
        }
    }

    /// Ends when the node has left.
    pub(super) async fn left(&self) {
        self.left.cancelled().await;
    }

    /// How far the registration has got.
    pub(super) fn registration(&self) -> watch::Receiver<Registration> {
        self.registration.subscribe()
    }

    /// Sets it; what it was.
    pub(super) fn set_registration(&self, now: Registration) -> Registration {
        self.registered.set(f64::from(u8::from(matches!(now, Registration::Registered { .. }))));
        self.registration.send_replace(now)
    }

    /// Our entry was written.
    pub(super) fn registered(&self, revision: i64) {
        self.is_refused.store(false, Ordering::Relaxed);
        match self.set_registration(Registration::Registered { revision }) {
            Registration::Registered { .. } => tracing::warn!(
                { field::NODE } = %self.me.address,
                "the entry in etcd was gone although its lease was not; it is written again"
            ),
            Registration::Absent | Registration::Contested => {
                tracing::info!({ field::NODE } = %self.me.address, "registered in etcd");
            }
        }
    }

    /// Another process is at our address.
    pub(super) fn contested(&self, other: &str) {
        self.set_registration(Registration::Contested);
        if self.is_admitted() {
            tracing::error!(
                { field::NODE } = %self.me.address,
                other,
                "another process is registered under this node's address, and no node can reach both"
            );
        } else {
            tracing::warn!(
                { field::NODE } = %self.me.address,
                other,
                "this node's address is registered by another process; waiting for its lease to end"
            );
        }
    }

    /// An attempt to register failed. That etcd is out of reach is said elsewhere.
    pub(super) fn not_registered(&self, error: &EtcdError) {
        self.set_registration(Registration::Absent);
        let error: &dyn std::error::Error = match error {
            EtcdError::Refused(_) if !self.is_refused.swap(true, Ordering::Relaxed) => {
                tracing::warn!(
                    { field::NODE } = %self.me.address,
                    error = error as &dyn std::error::Error,
                    "etcd does not let this node register; trying on"
                );
                return;
            }
            error => error,
        };
        tracing::debug!({ field::NODE } = %self.me.address, error, "not registered in etcd; trying on");
    }

    /// Ends when our entry is not where it should be.
    pub(super) async fn entry_is_lost(&self) {
        self.entry_is_lost.notified().await;
    }

    /// Asks for our entry to be written again.
    pub(super) fn write_entry_again(&self) {
        self.entry_is_lost.notify_one();
    }

    /// Whether the node may want requests. From then on it does not stop for another process at its address.
    pub(super) fn is_admitted(&self) -> bool {
        self.admitted.is_cancelled()
    }

    /// Ends when the node may want requests.
    pub(super) async fn admitted(&self) {
        self.admitted.cancelled().await;
    }

    /// Admits the node: once it is registered, or cannot be for now. Not while another process has its address, since
    /// that decides whether it starts at all.
    pub(super) async fn admit(&self) {
        let mut registration = self.registration();
        let registered = registration.wait_for(|now| matches!(now, Registration::Registered { .. }));
        // The sender lives as long as this.
        if timeout(PATIENCE, registered).await.is_err() {
            let _ = registration.wait_for(|now| *now != Registration::Contested).await;
        }
        self.admitted.cancel();
    }

    /// Whether etcd has said who is there, ever.
    pub(super) fn has_listed(&self) -> bool {
        self.has_listed.load(Ordering::Acquire)
    }

    /// etcd said who is there.
    pub(super) fn in_reach(&self) {
        self.has_listed.store(true, Ordering::Release);
        self.up.set(1.0);
        if let Some(since) = self.away.lock().take() {
            tracing::info!({ field::DURATION_MS } = since.elapsed().as_millis(), "etcd is back");
        }
    }

    /// No member of etcd answered, or they refuse.
    pub(super) fn out_of_reach(&self, error: &EtcdError) {
        self.up.set(0.0);
        let mut away = self.away.lock();
        let error = error as &dyn std::error::Error;
        if away.is_none() {
            *away = Some(Instant::now());
            tracing::warn!(error, "etcd can't be read; the view stays as it is");
        } else {
            tracing::debug!(error, "etcd can't be read yet");
        }
    }

    /// Since when etcd is out of reach, if it is.
    pub(super) fn away(&self) -> Option<Instant> {
        *self.away.lock()
    }

    /// What others have registered under our service, as last seen: the first of them, and their number.
    pub(super) fn foreign(&self) -> (Vec<String>, usize) {
        self.foreign.lock().clone()
    }

    /// Notes what others have registered under our service.
    pub(super) fn set_foreign(&self, foreign: (Vec<String>, usize)) {
        *self.foreign.lock() = foreign;
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { etcd, me, .. } = self;
        f.debug_struct("Shared").field("etcd", etcd).field("me", &me.address).finish_non_exhaustive()
    }
}
