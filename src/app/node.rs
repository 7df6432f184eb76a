//! One node: three planes, its groups, and the tasks that keep them going.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::{net::TcpListener, time::Instant};

use super::{
    membership::{self, Membership},
    origins::{Origin, Origins},
    seals::Seals,
    tls::Certificates,
};
use crate::{
    access::{Access, Verifier},
    cluster::{self, NodeId, View, ViewCell},
    config::Config,
    discovery::{self, Discovery, DiscoveryKind, StaticListHandle, TransportKind},
    gateway::{Admission, Encodings, Gateway, GatewayParts, Readiness},
    group::{Group, GroupParts, GroupSettings, Groups, HandedOver, PeerTransport, Peers},
    limit::Limiter,
    net::{self, Plane, Rpcs, Tls},
    task::Tasks,
    telemetry::{NodeMetrics, field},
    time::BootClock,
    transport::{HttpTransport, PeerGate, PeerService, PeerTls, unix_time_ms},
};
#[cfg(feature = "grpc")]
use crate::{
    gateway::{self, OtherService},
    rpc::peer_v1,
    transport::{GrpcTransport, PEER_SERVICE, PeerRpcs},
};

/// Expired entries that a group takes in hand at a time, so that no shard is locked for long.
const RECLAIM_STEPS: usize = 1_000;
/// How long a leaving node goes on serving those who have not heard of it yet.
const NEWS_SPREAD: Duration = Duration::from_secs(1);
/// After how long the views agree but in rare cases, so that the new owner takes itself for one too.
const NEWS_SETTLE: Duration = Duration::from_millis(250);
/// The least that the requests under way are given, whatever the leave has taken.
const STOP_MIN: Duration = Duration::from_millis(500);
/// How often a group looks for expired entries.
const RECLAIM_PERIOD: Duration = Duration::from_millis(200);

/// The bound sockets of a node.
#[derive(Debug)]
pub struct Listeners {
    /// Other nodes.
    pub peer: TcpListener,
    /// Operators.
    pub admin: TcpListener,
    /// Clients, if the plane is on.
    pub api: Option<TcpListener>,
    /// When they were bound, in milliseconds of Unix time: what peers sealed before was for another process.
    pub since_ms: u64,
}

impl Listeners {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// The first address that can't be bound, with its key.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let since_ms = unix_time_ms();
        let api = if config.api.enabled { Some(bind("api.listen", config.api.listen).await?) } else { None };
        Ok(Self {
            peer: bind("node.listen", config.node.listen).await?,
            admin: bind("admin.listen", config.admin.listen).await?,
            api,
            since_ms,
        })
    }
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address} ({key}); is another program using the port?"))
}

/// A node that runs.
#[derive(Debug)]
pub struct Node {
    tasks: Tasks,
    readiness: Readiness,
    groups: Arc<Groups>,
    views: Arc<ViewCell>,
    peers: Arc<Peers>,
    limiter: Arc<Limiter>,
    metrics: NodeMetrics,
    membership: Membership,
    certificates: Certificates,
    grace: Duration,
    /// Whether clients have a plane of their own.
    has_api: bool,
}

impl Node {
    /// Starts a node. It is ready when its first view is in force and its groups are preloaded.
    ///
    /// # Errors
    /// If a database can't be opened or lacks a table or column, or a part can't be built.
    pub async fn start(config: Config, listeners: Listeners, effective: Arc<str>) -> anyhow::Result<Self> {
        // First of all: what is wrong with a file need not be found after a database is open.
        let certificates = Certificates::load(&config).await?;
        let tasks = Tasks::new();
        let metrics = NodeMetrics::new();
        let readiness = Readiness::new();
        let me = cluster::Node {
            id: Some(NodeId::new(fastrand::u64(..))),
            weight: config.node.weight,
            api: membership::api_address(&config),
            ..cluster::Node::new(config.node.advertise.clone())
        };
        let seals = Seals::new(&config, listeners.since_ms)?;
        let (discovery, membership) = Membership::new(&config, &me, &metrics)?;
        let views = Arc::new(ViewCell::provisional(View::new(me.clone(), [], config.cluster.virtual_nodes)));
        metrics.view(1, false);
        let peers = Peers::new(
            transport(&config, &seals, &certificates)?,
            Arc::clone(&views),
            Arc::new(BootClock),
            tasks.clone(),
            metrics.clone(),
            config.cluster.peer_timeout,
        );
        let limiter = Arc::new(Limiter::new(config.rate.clone(), &metrics));
        let (groups, preloads) =
            groups(&config, &peers, &tasks, &metrics, &limiter).await.inspect_err(|_| tasks.stop())?;
        tracing::info!(
            { field::NODE } = %me.address,
            peer = %listeners.peer.local_addr()?,
            admin = %listeners.admin.local_addr()?,
            api = listeners.api.as_ref().map(|api| api.local_addr().map(|a| a.to_string())).transpose()?,
            groups = groups.iter().count(),
            version = env!("CARGO_PKG_VERSION"),
            "the node starts"
        );
        let parts = GatewayParts {
            groups: Arc::clone(&groups),
            views: Arc::clone(&views),
            discovery: Arc::new(membership.clone()),
            peers: Arc::clone(&peers),
            admission: Admission::new(Arc::new(Access::new(&config.auth)), Arc::clone(&limiter)),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            request_timeout: config.limits.request_timeout,
            in_flight_max: config.limits.in_flight,
            effective_config: effective,
            encodings: Encodings::new(config.api.compression_memory, tasks.clone()),
            cors_origins: config.api.cors_origins.clone(),
            admin_hosts: config.admin.hosts.clone(),
            trace_sample: config.log.trace_sample,
        };
        let callee = PeerService::new(
            Arc::clone(&groups),
            Arc::clone(&views),
            metrics.clone(),
            config.limits.request_timeout,
        )
        .verifying(seals.verifier.clone());
        let gate = peer_gate(&config);
        let rpcs = peer_rpcs(&config, &parts, gate.clone(), seals.verifier);
        let callee = callee.guarded(gate);
        let plane = |name, listener, tls: &Option<Tls>| Plane {
            name,
            listener,
            tls: tls.clone(),
            connections: metrics.connections(name),
        };
        let limits = &config.limits;
        let peer = plane("peer", listeners.peer, &certificates.peer);
        tasks.spawn_critical("peer plane", net::serve_with(peer, callee, rpcs, *limits, tasks.clone()));
        let admin = Gateway::admin(parts.clone());
        tasks.spawn_critical(
            "admin plane",
            net::serve(plane("admin", listeners.admin, &certificates.admin), admin, *limits, tasks.clone()),
        );
        let has_api = listeners.api.is_some();
        if let Some(listener) = listeners.api {
            let api = Gateway::api(parts);
            let rpcs = api_rpcs(&api);
            let plane = plane("api", listener, &certificates.api);
            tasks.spawn_critical("api plane", net::serve_with(plane, api, rpcs, *limits, tasks.clone()));
        }
        let node = Self {
            grace: config.limits.shutdown_grace,
            has_api,
            tasks,
            readiness,
            groups,
            views,
            peers,
            limiter,
            metrics,
            membership,
            certificates,
        };
        node.keep_house();
        node.join(discovery, preloads);
        Ok(node)
    }

    /// Follows the discovery; once there is a view, and nothing against the node's taking part, preloads what is the
    /// node's own and says that it is ready.
    fn join(&self, discovery: Box<dyn Discovery>, preloads: Vec<Preload>) {
        let (seen, first_view) = tokio::sync::oneshot::channel();
        let (peers, limiter) = (Arc::clone(&self.peers), Arc::clone(&self.limiter));
        let follow = discovery::follow(
            discovery,
            Arc::clone(&self.views),
            self.metrics.clone(),
            move |view| {
                limiter.set_nodes(view.nodes().len());
                peers.view_changed(view);
            },
            move || {
                // Nobody waits any more if the node is stopping already.
                let _ = seen.send(());
            },
        );
        let tasks = self.tasks.clone();
        self.tasks.spawn_critical("discovery", async move {
            tokio::select! {
                () = tasks.stopping().cancelled() => {}
                ended = follow => if let Err(error) = ended {
                    tracing::error!(error = &error as &dyn std::error::Error, "the node can't take part; it stops");
                    tasks.stop();
                }
            }
        });
        let (readiness, membership) = (self.readiness.clone(), self.membership.clone());
        let stopping = self.tasks.stopping().clone();
        self.tasks.spawn(async move {
            let prepare = async {
                if first_view.await.is_err() {
                    return;
                }
                membership.admitted().await;
                for preload in preloads {
                    preload.run().await;
                }
                readiness.ready();
                tracing::info!("the node is ready");
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = prepare => {}
            }
        });
    }

    /// Starts what goes on in the background: expiry, metrics, and a look at the files for TLS.
    fn keep_house(&self) {
        self.tasks.spawn(self.certificates.clone().watch(self.tasks.stopping().clone()));
        let (stopping, groups) = (self.tasks.stopping().clone(), Arc::clone(&self.groups));
        self.tasks.spawn(async move {
            while !wait(&stopping, RECLAIM_PERIOD).await {
                for group in groups.iter() {
                    group.beat();
                    // As long as a whole batch had expired, there is more of it.
                    while group.reclaim_expired(RECLAIM_STEPS) >= RECLAIM_STEPS / 2 {
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
        let (stopping, metrics) = (self.tasks.stopping().clone(), self.metrics.clone());
        self.tasks.spawn(async move {
            while !wait(&stopping, Duration::from_secs(1)).await {
                metrics.upkeep();
            }
        });
    }

    /// Ends when a task has failed that the node can't do without.
    pub async fn failed(&self) {
        self.tasks.stopping().cancelled().await;
    }

    /// Answers the requests under way, takes no more, and ends; at the latest after the configured grace.
    pub async fn stop(&self) {
        let begun = Instant::now();
        let deadline = begun + self.grace;
        self.readiness.stopping();
        self.tasks.close();
        // If a part has failed, the planes are closed already.
        if !self.tasks.stopping().is_cancelled() {
            self.leave(begun).await;
        }
        self.tasks.stop();
        if self.tasks.join(deadline.saturating_duration_since(Instant::now()).max(STOP_MIN)).await {
            tracing::info!("the node has stopped");
        } else {
            tracing::warn!(grace = ?self.grace, "the node stops with requests unanswered");
        }
    }

    /// Withdraws from the membership, names the hottest keys to their new owners, and goes on serving while the news
    /// spreads: to other nodes from etcd, to balancers and clients from `/readyz` and each answer. Where no node can be
    /// told (a static list), the others would go on asking here: nothing is handed over.
    async fn leave(&self, begun: Instant) {
        let announced = self.membership.leave().await;
        let has_peers = self.views.load().nodes().len() > 1;
        if !has_peers && !self.has_api {
            return;
        }
        let told_at = if announced { Instant::now() } else { begun };
        let serve_until = (told_at + NEWS_SPREAD).min(begun + self.grace.saturating_sub(STOP_MIN));
        // Half of the grace is for the requests under way.
        let handed_over_by = begun + self.grace / 2;
        let mut epoch = None;
        if announced && has_peers {
            tokio::time::sleep_until((told_at + NEWS_SETTLE).min(serve_until)).await;
            epoch = Some(self.views.load().epoch());
            self.hand_over(handed_over_by).await;
        }
        tokio::time::sleep_until(serve_until).await;
        // Nodes that came or went in the meantime made others the owners.
        if epoch.is_some_and(|epoch| self.views.load().epoch() != epoch) {
            self.hand_over(handed_over_by).await;
        }
    }

    async fn hand_over(&self, deadline: Instant) {
        let all = join_all(self.groups.iter().map(|group| group.hand_over(deadline))).await;
        let HandedOver { named, fetched } = all.into_iter().sum();
        tracing::info!(
            named,
            fetched,
            "named the hottest keys to their new owners, who fetched what they lacked"
        );
    }

    /// The node's groups.
    pub const fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// The node's view of the cluster.
    pub const fn views(&self) -> &Arc<ViewCell> {
        &self.views
    }

    /// The node's metrics.
    pub const fn metrics(&self) -> &NodeMetrics {
        &self.metrics
    }

    /// The node's certificates, to be read again on request.
    pub const fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Changes the list of members while the node runs, if it goes by one.
    pub const fn members(&self) -> Option<&StaticListHandle> {
        self.membership.list()
    }

    /// Whether the node wants requests.
    pub fn is_ready(&self) -> bool {
        self.readiness.is_ready()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// What peers are asked by.
fn transport(
    config: &Config,
    seals: &Seals,
    certificates: &Certificates,
) -> anyhow::Result<Arc<dyn PeerTransport>> {
    let (connect_timeout, value_bytes) = (config.cluster.peer_timeout, config.limits.value_bytes);
    let dialler = certificates.peer.as_ref().and_then(Tls::dialler);
    let tls = dialler.map(|dialler| PeerTls::new(dialler, config.node.advertise.clone()));
    Ok(match config.cluster.transport {
        TransportKind::Http => {
            Arc::new(HttpTransport::new(connect_timeout, value_bytes, tls)?.sealing(seals.sealer.clone()))
        }
        #[cfg(feature = "grpc")]
        TransportKind::Grpc => {
            Arc::new(GrpcTransport::new(connect_timeout, value_bytes, tls).sealing(seals.sealer.clone()))
        }
    })
}

/// Who may speak the peer protocol, where nodes have certificates.
fn peer_gate(config: &Config) -> Option<PeerGate> {
    config.node.tls.as_ref()?;
    let allowed = config.cluster.allowed_peers.clone();
    Some(PeerGate::new(move |host| allowed.allows_host(host)))
}

/// What the peer plane answers over gRPC: other nodes, and clients that found the node in etcd.
#[cfg(feature = "grpc")]
fn peer_rpcs(
    config: &Config,
    parts: &GatewayParts,
    gate: Option<PeerGate>,
    verifier: Option<Arc<Verifier>>,
) -> Option<Rpcs> {
    let peers = PeerRpcs::server(
        Arc::clone(&parts.groups),
        Arc::clone(&parts.views),
        parts.metrics.clone(),
        parts.request_timeout,
        gate,
        verifier,
    );
    let service = OtherService { name: PEER_SERVICE, descriptors: peer_v1::DESCRIPTORS };
    // Beyond loopback the plane is open by a secret or certificates, which clients have not.
    let is_guarded = config.node.seal.is_on() || config.node.tls.is_some();
    let beyond_loopback = !config.node.listen.ip().to_canonical().is_loopback();
    let admission = parts.admission.clone();
    let admission = if is_guarded && beyond_loopback { admission.only_tokens() } else { admission };
    let parts = &GatewayParts { admission, ..parts.clone() };
    Some(gateway::client_rpcs(parts, &[service]).add_service(peers).prepare())
}

#[cfg(not(feature = "grpc"))]
fn peer_rpcs(_: &Config, _: &GatewayParts, _: Option<PeerGate>, _: Option<Arc<Verifier>>) -> Option<Rpcs> {
    None
}

/// What the api plane answers over gRPC.
#[cfg(feature = "grpc")]
fn api_rpcs(api: &Gateway) -> Option<Rpcs> {
    Some(api.rpcs().prepare())
}

#[cfg(not(feature = "grpc"))]
const fn api_rpcs(_: &Gateway) -> Option<Rpcs> {
    None
}

/// Whether the node stopped before `period` was over.
async fn wait(stopping: &tokio_util::sync::CancellationToken, period: Duration) -> bool {
    tokio::time::timeout(period, stopping.cancelled()).await.is_ok()
}

/// What a group loads before the node is ready.
struct Preload {
    group: Arc<Group>,
    origin: Origin,
    rows: u64,
}

impl Preload {
    async fn run(self) {
        match self.group.preload(self.origin.scan.as_ref(), self.rows).await {
            Ok(kept) => tracing::info!({ field::GROUP } = %self.group.name(), kept, "preloaded"),
            Err(error) => tracing::warn!(
                { field::GROUP } = %self.group.name(),
                error = &error as &dyn std::error::Error,
                "the preload ended early; the rest is loaded when it is asked for"
            ),
        }
    }
}

async fn groups(
    config: &Config,
    peers: &Arc<Peers>,
    tasks: &Tasks,
    metrics: &NodeMetrics,
    limiter: &Arc<Limiter>,
) -> anyhow::Result<(Arc<Groups>, Vec<Preload>)> {
    let mut origins = Origins::default();
    let (mut groups, mut preloads) = (Vec::new(), Vec::new());
    // A node of a list stays in it: who does not hear of an invalidation is named. Of etcd's, one that stands still is gone
    // with its lease.
    let pause_max = match config.cluster.discovery {
        DiscoveryKind::Static => Duration::MAX,
        DiscoveryKind::Etcd => config.etcd.lease_ttl,
    };
    for (name, section) in &config.groups {
        let origin = origins.open(name, section, config, metrics, limiter).await?;
        for warning in origin.report.warnings() {
            tracing::warn!({ field::GROUP } = %name, "{warning}");
        }
        let settings = GroupSettings {
            digest: origin.digest,
            flight_timeout: config.limits.request_timeout,
            peer_timeout: config.cluster.peer_timeout,
            failover_ttl: config.cluster.failover_ttl,
            peer_deadline: config.limits.request_timeout,
            peek: config.cluster.peek,
            pause_max,
            handover: config.cluster.handover,
            flights_max: config.limits.flights,
            waiters_max: config.limits.waiters,
        };
        let parts = GroupParts {
            loader: Box::new(origin.loader.clone()),
            peers: Arc::clone(peers),
            clock: Arc::new(BootClock),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
        };
        let group = Group::new(name.clone(), section.group.clone(), settings, parts);
        if section.group.preload > 0 {
            preloads.push(Preload { group: Arc::clone(&group), origin, rows: section.group.preload });
        }
        groups.push(group);
    }
    Ok((Arc::new(Groups::new(groups, config.default_group.as_ref())?), preloads))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::Node as Member, discovery::DiscoveryError, group::BoxFuture};

    /// A discovery with a defect.
    struct Broken;

    impl Discovery for Broken {
        fn run(
            self: Box<Self>,
            _: tokio::sync::mpsc::Sender<Vec<Member>>,
        ) -> BoxFuture<'static, Result<(), DiscoveryError>> {
            Box::pin(async { panic!("on purpose") })
        }
    }

    async fn node() -> Node {
        let mut config = Config::default();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        (config.node.listen, config.admin.listen) = (anywhere, anywhere);
        let listeners = Listeners::bind(&config).await.expect("there are free ports");
        Node::start(config, listeners, Arc::from("")).await.expect("it starts")
    }

    #[tokio::test]
    async fn a_node_whose_discovery_fails_stops() {
        let node = node().await;
        node.join(Box::new(Broken), Vec::new());
        tokio::time::timeout(Duration::from_secs(20), node.failed()).await.expect("it does not go on alone");
    }
}
