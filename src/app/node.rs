//! One node: three planes, its groups, and the tasks that keep them going.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    groups::{Built, GroupBuilder, Preload},
    membership::{self, Membership},
    origins::Origins,
    planes::{self, Listeners},
    reload::{Parts, ReadAgain, Reloader, plane_settings},
    seals::Seals,
    tls::Certificates,
};
use crate::{
    access::Access,
    cluster::{self, NodeId, View, ViewCell},
    config::Loaded,
    discovery::{self, Discovery, StaticListHandle},
    gateway::{Admission, Encodings, Gateway, GatewayParts, Live, Readiness},
    group::{Groups, HandedOver, Peers},
    limit::Limiter,
    net::{self, Plane, Tls},
    task::Tasks,
    telemetry::{self, NodeMetrics},
    time::BootClock,
    transport::PeerService,
};

/// Expired entries that a group takes in hand at a time, so that no shard is locked for long.
const RECLAIM_STEPS: usize = 1_000;
/// How long a leaving node goes on serving those who have not heard of it yet.
const NEWS_SPREAD: Duration = Duration::from_secs(1);
/// After how long the views agree but in rare cases, so that the new owner takes itself for one too.
const NEWS_SETTLE: Duration = Duration::from_millis(250);
/// The least that the requests under way are given, whatever the leave has taken.
const STOP_MIN: Duration = Duration::from_millis(500);
/// How often a group compares some of its keys with the database.
const AUDIT_PERIOD: Duration = Duration::from_secs(1);
/// How long a node waits at its start until it is known which tables are in a log of changes.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// How often a group looks for expired entries.
const RECLAIM_PERIOD: Duration = Duration::from_millis(200);

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
    reloader: Arc<Reloader>,
    grace: Duration,
    /// Whether clients have a plane of their own.
    has_api: bool,
}

impl Node {
    /// Starts a node. It is ready when its first view is in force and its groups are preloaded. `again` is how its
    /// configuration is read again.
    ///
    /// # Errors
    /// If a database can't be opened or lacks a table or column, or a part can't be built.
    pub async fn start(loaded: Loaded, listeners: Listeners, again: ReadAgain) -> anyhow::Result<Self> {
        let config = &loaded.config;
        // First of all: what is wrong with a file need not be found after a database is open.
        let certificates = Certificates::load(config).await?;
        let tasks = Tasks::new();
        let metrics = NodeMetrics::new();
        let readiness = Readiness::new();
        let me = cluster::Node {
            id: Some(NodeId::new(fastrand::u64(..))),
            weight: config.node.weight,
            api: membership::api_address(config),
            ..cluster::Node::new(config.node.advertise.clone())
        };
        let seals = Seals::new(config, listeners.since_ms)?;
        let (discovery, membership) = Membership::new(config, &me, &metrics)?;
        let views = Arc::new(ViewCell::provisional(View::new(me.clone(), [], config.cluster.virtual_nodes)));
        metrics.view(1, false);
        let peers = Peers::new(
            planes::transport(config, &seals, &certificates)?,
            Arc::clone(&views),
            Arc::new(BootClock),
            tasks.clone(),
            metrics.clone(),
            config.cluster.peer_timeout,
        );
        let limiter = Arc::new(Limiter::new(config.rate.clone(), &metrics));
        let builder = GroupBuilder {
            peers: Arc::clone(&peers),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            limiter: Arc::clone(&limiter),
            views: Arc::clone(&views),
        };
        let mut origins = Origins::default();
        let built = builder.build_all(config, &mut origins).await.inspect_err(|_| tasks.stop())?;
        built.iter().for_each(|built| built.follow(&builder));
        let all = built.iter().map(|built| Arc::clone(&built.group));
        let groups = Arc::new(Groups::new(all, config.default_group.as_ref())?);
        let access = Arc::new(Access::new(&config.auth));
        let live = Arc::new(Live::new(plane_settings(&loaded)));
        let parts = Parts {
            groups: Arc::clone(&groups),
            access: Arc::clone(&access),
            live: Arc::clone(&live),
            certificates: certificates.clone(),
        };
        let reloader = Arc::new(Reloader::new(again, loaded.clone(), parts, builder, origins, &built));
        tracing::info!(
            { telemetry::field::NODE } = %me.address,
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
            admission: Admission::new(access, Arc::clone(&limiter)),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            request_timeout: config.limits.request_timeout,
            value_bytes_max: config.limits.value_bytes,
            in_flight_max: config.limits.in_flight,
            encodings: Encodings::new(config.api.compression_memory, tasks.clone()),
            live,
            reload: reloader.clone(),
        };
        let callee = PeerService::new(
            Arc::clone(&groups),
            Arc::clone(&views),
            metrics.clone(),
            config.limits.request_timeout,
        )
        .verifying(seals.verifier.clone());
        let gate = planes::peer_gate(config);
        let rpcs = planes::peer_rpcs(config, &parts, gate.clone(), seals.verifier);
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
            let rpcs = planes::api_rpcs(&api);
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
            reloader,
        };
        node.keep_house();
        node.join(discovery, built.into_iter().filter_map(Built::preload).collect());
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
        let groups = Arc::clone(&self.groups);
        let stopping = self.tasks.stopping().clone();
        self.tasks.spawn(async move {
            let prepare = async {
                if first_view.await.is_err() {
                    return;
                }
                membership.admitted().await;
                // A group answers by ttl only until it is known that it is in a log. A database that can't be asked does not
                // keep the node from answering that.
                let looked_at =
                    join_all(groups.iter().map(|group| async move { group.log_looked_at().await }));
                let _ = tokio::time::timeout(LOOK_MAX, looked_at).await;
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

    /// Starts what goes on in the background: expiry, audits, and a look at the files for TLS.
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
        let (stopping, groups) = (self.tasks.stopping().clone(), Arc::clone(&self.groups));
        self.tasks.spawn(async move {
            while !wait(&stopping, AUDIT_PERIOD).await {
                let all: Vec<_> = groups.iter().collect();
                let audits = join_all(all.iter().map(|group| group.audit()));
                tokio::select! {
                    () = stopping.cancelled() => return,
                    _ = audits => {}
                }
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
        let all =
            join_all(self.groups.iter().map(|group| async move { group.hand_over(deadline).await })).await;
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

    /// By which the node's configuration is read again.
    pub const fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
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

/// Whether the node stopped before `period` was over.
async fn wait(stopping: &tokio_util::sync::CancellationToken, period: Duration) -> bool {
    tokio::time::timeout(period, stopping.cancelled()).await.is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{
        cluster::Node as Member,
        discovery::DiscoveryError,
        gateway::{Reload as _, ReloadError},
        group::BoxFuture,
    };

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
        let mut loaded = Loaded::default();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        (loaded.config.node.listen, loaded.config.admin.listen) = (anywhere, anywhere);
        let listeners = Listeners::bind(&loaded.config).await.expect("there are free ports");
        Node::start(loaded, listeners, ReadAgain::default()).await.expect("it starts")
    }

    #[tokio::test]
    async fn a_node_whose_discovery_fails_stops() {
        let node = node().await;
        node.join(Box::new(Broken), Vec::new());
        tokio::time::timeout(Duration::from_secs(20), node.failed()).await.expect("it does not go on alone");
    }

    #[tokio::test]
    async fn a_reload_needs_something_to_read_and_a_node_that_goes_on() {
        let node = node().await;
        let outcome = node.reloader().reload().await;
        assert!(matches!(outcome, Err(ReloadError::Faults(faults)) if faults[0].contains("made in code")));
        node.tasks.close();
        assert_eq!(node.reloader().reload().await, Err(ReloadError::Stopping));
        assert!(node.metrics().render().contains("ggcache_reloads_total{result=\"refused\"} 2"));
    }
}
