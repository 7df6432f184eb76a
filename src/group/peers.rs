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

use super::{
    Handover, Invalidation, PeekMany, PeerAnswer, PeerBatch, PeerError, PeerRequest, PeerTransport, PeerWord,
};
use crate::{
    cluster::{Address, Allow, HealthBoard, HealthConfig, HealthState, Node, Transition, View, ViewCell},
    task::Tasks,
    telemetry::{NodeMetrics, field},
    time::{Clock, Moment},
};

/// After so many peeks in a row that failed, a node is not peeked at for [`PEEK_PAUSE`], and then once more.
const PEEK_FAILURES_MAX: u32 = 3;
const PEEK_PAUSE: Duration = Duration::from_millis(500);
/// The most peeks of single keys that are under way to a node. Beyond them, the origin is asked at once.
const PEEKS_MAX: u32 = 64;

/// For how long after it has left the view a node is told of invalidations: it serves while it drains, and may be
/// peeked at.
const DEPARTED_FOR: Duration = Duration::from_secs(15);
/// The most of such nodes.
const DEPARTED_MAX: usize = 1_000;

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
    /// How peeks fare, by node, since the view changed.
    peeks: Mutex<HashMap<Address, Peeks>>,
    /// Who has left the view of late, and when; the first to leave comes first.
    departed: Mutex<Vec<(Node, Moment)>>,
}

/// How peeks at a node fare.
#[derive(Clone, Copy, Debug, Default)]
struct Peeks {
    under_way: u32,
    failures_in_a_row: u32,
    /// No peeks until then.
    paused_until: Moment,
}

/// A peek that is under way. Counts as neither success nor failure when it is dropped.
struct Peeking<'a> {
    peers: &'a Peers,
    node: &'a Address,
}

impl Peeking<'_> {
    fn ended(self, well: bool) {
        let mut peeks = self.peers.peeks.lock();
        let Some(peeks) = peeks.get_mut(self.node) else { return };
        if well {
            peeks.failures_in_a_row = 0;
            return;
        }
        peeks.failures_in_a_row += 1;
        if peeks.failures_in_a_row >= PEEK_FAILURES_MAX {
            // The next one after the pause decides.
            peeks.failures_in_a_row = PEEK_FAILURES_MAX - 1;
            peeks.paused_until = self.peers.clock.now().saturating_add(PEEK_PAUSE);
        }
    }
}

impl Drop for Peeking<'_> {
    fn drop(&mut self) {
        // Gone if the view has changed in between.
        if let Some(peeks) = self.peers.peeks.lock().get_mut(self.node) {
            peeks.under_way = peeks.under_way.saturating_sub(1);
        }
    }
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
            departed: Mutex::default(),
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
        let now = self.clock.now();
        self.changed_at.store(now.as_nanos(), Ordering::Release);
        let mut departed = self.departed.lock();
        departed.retain(|(node, since)| {
            now.saturating_since(*since) < DEPARTED_FOR && view.node(&node.address).is_none()
        });
        let Some(previous) = self.views.previous() else { return };
        for node in previous.nodes() {
            let is_new = departed.iter().all(|(other, _)| other.address != node.address);
            if view.node(&node.address).is_none() && is_new && departed.len() < DEPARTED_MAX {
                departed.push((node.clone(), now));
            }
        }
    }

    /// Who has left the view so lately that it may still serve.
    pub(super) fn departed(&self) -> Vec<Node> {
        let now = self.clock.now();
        let departed = self.departed.lock();
        let lately = departed.iter().filter(|(_, since)| now.saturating_since(*since) < DEPARTED_FOR);
        lately.map(|(node, _)| node.clone()).collect()
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

    /// Asks `node` for several keys as their owner.
    pub(super) async fn get_many(&self, node: &Node, batch: &PeerBatch) -> Result<Vec<PeerWord>, PeerError> {
        let words = self.patiently(node, self.transport.get_many(node, batch)).await?;
        match words.len() {
            0 if !batch.keys.is_empty() => Err(PeerError::Malformed("it answered no key".to_owned())),
            told if told > batch.keys.len() => {
                Err(PeerError::Malformed("it answered more keys than it was asked".to_owned()))
            }
            _ => Ok(words),
        }
    }

    /// Drops keys at `node`.
    pub(super) async fn invalidate(
        &self,
        node: &Node,
        invalidation: &Invalidation,
    ) -> Result<u64, PeerError> {
        self.patiently(node, self.transport.invalidate(node, invalidation)).await
    }

    /// Tells `node` that keys have changed, if it hears it. Says nothing of the node's health.
    pub(super) async fn hint(&self, node: &Node, invalidation: &Invalidation) {
        let told = self.transport.invalidate(node, invalidation);
        // It sees the change by itself, if later.
        let _ = tokio::time::timeout(invalidation.budget, told).await;
    }

    /// Names keys to their new owner, and waits until it has fetched them; how many it kept.
    pub(super) async fn handover(&self, node: &Node, handover: &Handover) -> Result<u64, PeerError> {
        self.patiently(node, self.transport.handover(node, handover)).await
    }

    /// What `node` has in memory, if it says so quickly. `None` if it has nothing, fails, or failed too often of late.
    pub(super) async fn peek(&self, node: &Node, request: &PeerRequest) -> Option<PeerAnswer> {
        let peeking = self.may_peek(&node.address)?;
        let result = tokio::time::timeout(request.budget, self.transport.peek(node, request))
            .await
            .unwrap_or(Err(PeerError::Silent(request.budget)));
        let word = result.as_ref().err().map_or("peek", PeerError::as_str);
        self.metrics.peer_request(node.address.as_str(), word);
        peeking.ended(result.is_ok());
        result.ok().flatten()
    }

    fn may_peek<'a>(&'a self, node: &'a Address) -> Option<Peeking<'a>> {
        if self.is_ejected(node) {
            return None;
        }
        let mut peeks = self.peeks.lock();
        let peeks = peeks.entry(node.clone()).or_default();
        if peeks.under_way >= PEEKS_MAX || self.clock.now() < peeks.paused_until {
            return None;
        }
        peeks.under_way += 1;
        Some(Peeking { peers: self, node })
    }

    /// What `node` has of several keys in memory; see [`PeerTransport::peek_many`].
    pub(super) async fn peek_many(
        &self,
        node: &Node,
        request: &PeekMany,
    ) -> Result<Vec<Option<PeerAnswer>>, PeerError> {
        let result = tokio::time::timeout(request.budget, self.transport.peek_many(node, request))
            .await
            .unwrap_or(Err(PeerError::Silent(request.budget)));
        let word = result.as_ref().err().map_or("peek", PeerError::as_str);
        self.metrics.peer_request(node.address.as_str(), word);
        result
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
