//! Makes a node's groups: those that it starts with, and those that come when its configuration is read again.

use std::{sync::Arc, time::Duration};

use super::{
    changes::DatabaseLog,
    origins::{self, Origin, Origins},
};
use crate::{
    cluster::ViewCell,
    config::Config,
    discovery::DiscoveryKind,
    group::{Group, GroupName, GroupParts, GroupSettings, Peers},
    limit::Limiter,
    origin::Places,
    task::Tasks,
    telemetry::{NodeMetrics, field},
    time::BootClock,
};

/// What every group of a node stands on.
#[derive(Clone, Debug)]
pub(super) struct GroupBuilder {
    pub(super) peers: Arc<Peers>,
    pub(super) tasks: Tasks,
    pub(super) metrics: NodeMetrics,
    pub(super) limiter: Arc<Limiter>,
    pub(super) views: Arc<ViewCell>,
}

/// A group that nobody knows of yet.
pub(super) struct Built {
    pub(super) group: Arc<Group>,
    origin: Origin,
    log: Arc<DatabaseLog>,
}

impl GroupBuilder {
    /// Opens what the configuration says of a group, and puts the group on top.
    pub(super) async fn build(
        &self,
        name: &GroupName,
        config: &Config,
        origins: &mut Origins,
    ) -> anyhow::Result<Built> {
        let section = config
            .groups
            .get(name)
            .ok_or_else(|| anyhow::anyhow!("there is no group {name} in the configuration"))?;
        let origin = origins.open(name, section, config, &self.metrics, &self.limiter).await?;
        let log = origins.log(&section.table.database, config).await?;
        for warning in origin.report.warnings() {
            tracing::warn!({ field::GROUP } = %name, "{warning}");
        }
        let settings = GroupSettings { digest: origin.digest, ..settings(config) };
        let parts = GroupParts {
            loader: Box::new(Arc::clone(&origin.loader)),
            peers: Arc::clone(&self.peers),
            clock: Arc::new(BootClock),
            tasks: self.tasks.clone(),
            metrics: self.metrics.clone(),
            log: Some(log.of(origin.database.clone(), origin.tracked.source.clone())),
            writer: origin.writer.clone(),
        };
        Ok(Built { log, group: Group::new(name.clone(), section.group.clone(), settings, parts), origin })
    }

    /// Builds all groups of the configuration.
    pub(super) async fn build_all(
        &self,
        config: &Config,
        origins: &mut Origins,
    ) -> anyhow::Result<Vec<Built>> {
        let mut all = Vec::with_capacity(config.groups.len());
        for name in config.groups.keys() {
            all.push(self.build(name, config, origins).await?);
        }
        Ok(all)
    }
}

impl Built {
    /// Has the group told of changes from now on, before anybody can ask it for anything.
    pub(super) fn follow(&self, builder: &GroupBuilder) {
        self.log.follow(self.origin.tracked.clone(), &self.group, &builder.views, &builder.tasks);
    }

    /// Sees whether the database answers.
    pub(super) async fn probe(&self) -> anyhow::Result<()> {
        use anyhow::Context as _;
        origins::probe(&self.origin).await.with_context(|| format!("group {}", self.group.name()))
    }

    /// By which the group's budget is changed.
    pub(super) fn places(&self) -> Places {
        self.origin.places.clone()
    }

    /// What the group is to load before it is asked, if it is to load anything.
    pub(super) fn preload(self) -> Option<Preload> {
        let rows = self.group.config().preload;
        (rows > 0).then_some(Preload { group: self.group, origin: self.origin, rows })
    }
}

/// What every group of a node has in common.
fn settings(config: &Config) -> GroupSettings {
    // A node of a list stays in it: who does not hear of an invalidation is named. Of etcd's, one that stands still is gone
    // with its lease.
    let pause_max = match config.cluster.discovery {
        DiscoveryKind::Static => Duration::MAX,
        DiscoveryKind::Etcd => config.etcd.lease_ttl,
    };
    GroupSettings {
        digest: 0,
        flight_timeout: config.limits.request_timeout,
        peer_timeout: config.cluster.peer_timeout,
        failover_ttl: config.cluster.failover_ttl,
        peer_deadline: config.limits.request_timeout,
        peek: config.cluster.peek,
        pause_max,
        handover: config.cluster.handover,
        flights_max: config.limits.flights,
        waiters_max: config.limits.waiters,
    }
}

/// What a group loads before the node is ready.
pub(super) struct Preload {
    group: Arc<Group>,
    origin: Origin,
    rows: u64,
}

impl Preload {
    pub(super) async fn run(self) {
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
