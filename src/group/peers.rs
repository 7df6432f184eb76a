//! A node's way to its peers: the transport, and what this node has seen of their health.
//!
//! One for all groups of a node, since a peer that fails one group fails the others too. Whoever asks a peer asks
//! here; every outcome is reported to the [`HealthBoard`], and a peer that keeps failing is left out until a
//! ping of ours finds it alive. No request of a client is risked for a probe.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Handover, Invalidation, PeerAnswer, PeerError, PeerRequest, PeerTransport};
use crate::{
    cluster::{Address, Allow, HealthBoard, HealthConfig, HealthState, Node, Transition, View, ViewCell},
    task::Tasks,
    telemetry::{NodeMetrics, field},
    time::{Clock, Moment},
};

/// After so many peeks in a row that failed, a node is not peeked at again until the view changes.
const PEEK_FAILURES_MAX: u32 = 3;

/// A node's peers. Shared behind an [`Arc`].
pub struct Peers {
    transport: Arc<dyn PeerTransport>,
    views: Arc<ViewCell>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    metrics: NodeMetrics,
    board: Mutex<HealthBoard>,
    /// After how long a silent peer is asked for a sign of life, and how long that may take.
    patience: Duration,
    /// When this node came into being.
    started_at: Moment,
    /// When the view changed last, in nanoseconds.
    changed_at: AtomicU64,
    /// Failed peeks in a row, by node, since the view changed.
    peeks: Mutex<HashMap<Address, u32>>,
}

/// Whom this node sees how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHealth {
    /// The peer.
    pub address: Address,
    /// `healthy`, `ejected` or `probing`.
    pub state: &'static str,
    /// Requests in a row that failed.
    pub failures: u32,
}

impl Peers {
    /// The peers of `views`, which are all taken for healthy.
    pub fn new(
        transport: Arc<dyn PeerTransport>,
        views: Arc<ViewCell>,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
        metrics: NodeMetrics,
        patience: Duration,
    ) -> Arc<Self> {
        let board = HealthBoard::new(HealthConfig::default(), fastrand::u64(..), &views.load());
        Arc::new(Self {
            transport,
            views,
            started_at: clock.now(),
            clock,
            tasks,
            metrics,
            board: Mutex::new(board),
            patience,
            changed_at: AtomicU64::new(0),
            peeks: Mutex::default(),
        })
    }

    /// Who is in the cluster.
    pub const fn views(&self) -> &Arc<ViewCell> {
        &self.views
    }

    /// To be called after another view came into force.
    pub fn view_changed(&self, view: &View) {
        self.board.lock().retain(view);
        self.peeks.lock().clear();
        self.changed_at.store(self.clock.now().as_nanos(), Ordering::Release);
    }

    /// When the view changed last.
    pub(super) fn changed_at(&self) -> Moment {
        Moment::from_nanos(self.changed_at.load(Ordering::Acquire))
    }

    /// When this node came into being.
    pub(super) const fn started_at(&self) -> Moment {
        self.started_at
    }

    /// Whether `node` may be asked now. An ejected one whose time has come is pinged in the background, and may be
    /// asked again when it answers.
    pub(super) fn may_ask(self: &Arc<Self>, node: &Node) -> bool {
        let allowed = self.board.lock().allows(&node.address, self.clock.now());
        if allowed == Allow::Probe {
            let (peers, node) = (Arc::clone(self), node.clone());
            self.tasks.spawn(async move {
                let result = peers.transport.ping(&node, peers.patience).await;
                peers.report(&node, result.as_ref().err());
            });
        }
        allowed == Allow::Yes
    }

    /// Whether this node has ejected `address`.
    pub(super) fn is_ejected(&self, address: &Address) -> bool {
        self.board.lock().peer(address).is_some_and(|health| !health.is_healthy())
    }

    /// Asks `node` as owner, for as long as it shows signs of life.
    pub(super) async fn get(&self, node: &Node, request: &PeerRequest) -> Result<PeerAnswer, PeerError> {
        self.patiently(node, self.transport.get(node, request)).await
    }

    /// Drops keys at `node`.
    pub(super) async fn invalidate(
        &self,
        node: &Node,
        invalidation: &Invalidation,
    ) -> Result<u64, PeerError> {
        self.patiently(node, self.transport.invalidate(node, invalidation)).await
    }

    /// Names keys to their new owner, and waits until it has fetched them.
    pub(super) async fn handover(&self, node: &Node, handover: &Handover) -> Result<(), PeerError> {
        self.patiently(node, self.transport.handover(node, handover)).await
    }

    /// What `node` has in memory, if it says so quickly. `None` if it has nothing, fails, or failed too often.
    pub(super) async fn peek(&self, node: &Node, request: &PeerRequest) -> Option<PeerAnswer> {
        let failed = self.peeks.lock().get(&node.address).copied().unwrap_or(0);
        if failed >= PEEK_FAILURES_MAX || self.is_ejected(&node.address) {
            return None;
        }
        let result = tokio::time::timeout(request.budget, self.transport.peek(node, request))
            .await
            .unwrap_or(Err(PeerError::Silent(request.budget)));
        let word = result.as_ref().err().map_or("peek", PeerError::as_str);
        self.metrics.peer_request(node.address.as_str(), word);
        let mut peeks = self.peeks.lock();
        match result {
            Ok(answer) => {
                peeks.remove(&node.address);
                answer
            }
            Err(_) => {
                *peeks.entry(node.address.clone()).or_default() += 1;
                None
            }
        }
    }

    /// How this node sees its peers.
    pub fn health(&self) -> Vec<PeerHealth> {
        let board = self.board.lock();
        let report = |(address, health): (&Address, &crate::cluster::Health)| {
            let (state, failures) = match health.state() {
                HealthState::Healthy { failures } => ("healthy", failures),
                HealthState::Ejected { attempt, .. } => ("ejected", attempt),
                HealthState::Probing { attempt, .. } => ("probing", attempt),
            };
            PeerHealth { address: address.clone(), state, failures }
        };
        board.peers().map(report).collect()
    }

    /// Waits for a peer's answer for as long as the peer shows signs of life: a slow load is waited for, since asking
    /// elsewhere would send a second query; a dead or paused node is given up after two timeouts.
    async fn patiently<T>(
        &self,
        node: &Node,
        request: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        let begun = Instant::now();
        let mut alive = false;
        let mut request = std::pin::pin!(request);
        let result = loop {
            if let Ok(result) = tokio::time::timeout(self.patience, &mut request).await {
                break result;
            }
            let life = tokio::select! {
                biased;
                result = &mut request => break result,
                life = self.transport.ping(node, self.patience) => life,
            };
            match life {
                Ok(()) => alive = true,
                Err(error) => break Err(error),
            }
        };
        // A budget that ran out says nothing of a peer that is alive, or that had hardly any time.
        let silent = matches!(result, Err(PeerError::Silent(_)));
        if !silent || (!alive && begun.elapsed() >= self.patience) {
            self.report(node, result.as_ref().err());
        }
        self.metrics
            .peer_request(node.address.as_str(), result.as_ref().err().map_or("ok", PeerError::as_str));
        result
    }

    /// Tells the board how a request to `node` ended. A refusal is an answer: the peer is there.
    fn report(&self, node: &Node, error: Option<&PeerError>) {
        let now = self.clock.now();
        let failed = error.is_some_and(|error| !error.is_answer());
        let mut board = self.board.lock();
        let transition =
            if failed { board.on_failure(&node.address, now) } else { board.on_success(&node.address, now) };
        drop(board);
        match transition {
            None => {}
            Some(Transition::Ejected) => tracing::warn!(
                { field::PEER } = %node.address,
                error = error.map(|error| error as &dyn std::error::Error),
                "a peer keeps failing; its keys go to the next node on the ring"
            ),
            Some(Transition::Readmitted) => {
                tracing::warn!({ field::PEER } = %node.address, "a peer answers again");
            }
        }
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}
