//! Reads the configuration again while the node runs, and puts into force what can be.
//!
//! First everything is tried out: the sources are read and checked, what stays and what is new must go together, the files
//! for TLS must be usable, and new groups are built on databases that answer. If anything is wrong, that is the end of it.
//! Only then things change, in steps that can't fail. Connections, flights and readiness are left alone.

use std::{collections::BTreeMap, fs, sync::Arc};

use metrics::{Counter, Label};
use tokio::sync::Mutex;

use super::{
    groups::{Built, GroupBuilder},
    origins::Origins,
    tls::{self, Certificates},
};
use crate::{
    access::Access,
    config::{self, Config, Loaded, Sources},
    database::OpenError,
    gateway::{self, Live, PlaneSettings, ReloadError, Reloaded},
    group::{BoxFuture, GroupName, Groups, LoadError},
    origin::{Places, TableError},
    settings::Change,
    telemetry::LogLevel,
};

/// By what a node's configuration can be read again. The default is a configuration that was made in code, which can't.
#[derive(Default)]
pub struct ReadAgain {
    /// What it was read from.
    pub sources: Option<Sources>,
    /// The process's log, if the node may change its level.
    pub log: Option<LogLevel>,
}

/// What a reload changes.
pub(super) struct Parts {
    pub(super) groups: Arc<Groups>,
    pub(super) access: Arc<Access>,
    pub(super) live: Arc<Live>,
    pub(super) certificates: Certificates,
}

/// Reloads one node, one reload at a time.
pub struct Reloader {
    again: ReadAgain,
    parts: Parts,
    builder: GroupBuilder,
    in_force: Mutex<InForce>,
    applied: Counter,
    unchanged: Counter,
    refused: Counter,
}

/// What the node goes by now.
struct InForce {
    loaded: Loaded,
    origins: Origins,
    /// Each group's budget.
    places: BTreeMap<GroupName, Places>,
}

/// A reload that is sure to succeed.
struct Ready {
    reload: config::Reload,
    origins: Origins,
    added: Vec<Built>,
}

/// Reads the configuration anew. A pipe that it was started from has nothing more to give: one would be waited for
/// without end, and every later reload with it.
fn read(sources: Sources) -> Result<Loaded, ReloadError> {
    if let Some(file) = &sources.file
        && fs::metadata(file).is_ok_and(|found| !found.is_file() && !found.is_dir())
    {
        let message = format!("{}: it is no file that could be read again", file.display());
        return Err(ReloadError::Faults(vec![message]));
    }
    Config::load(sources).map_err(faults)
}

/// What of a configuration the planes go by.
pub(super) fn plane_settings(loaded: &Loaded) -> PlaneSettings {
    let Config { node, api, admin, log, .. } = &loaded.config;
    let mut admin_hosts = admin.hosts.clone();
    admin_hosts.push(node.advertise.host().to_owned());
    PlaneSettings {
        effective_config: Arc::from(loaded.effective.to_string()),
        cors_origins: api.cors_origins.clone(),
        admin_hosts,
        trace_sample: log.trace_sample,
    }
}

impl Reloader {
    /// A node that goes by `loaded`, with these groups on these origins.
    pub(super) fn new(
        again: ReadAgain,
        loaded: Loaded,
        parts: Parts,
        builder: GroupBuilder,
        origins: Origins,
        built: &[Built],
    ) -> Self {
        let counter =
            |result| builder.metrics.counter("ggcache_reloads_total", vec![Label::new("result", result)]);
        let places = built.iter().map(|built| (built.group.name().clone(), built.places())).collect();
        Self {
            again,
            parts,
            applied: counter("applied"),
            unchanged: counter("unchanged"),
            refused: counter("refused"),
            builder,
            in_force: Mutex::new(InForce { loaded, origins, places }),
        }
    }

    async fn attempt(&self, in_force: &mut InForce) -> Result<Reloaded, ReloadError> {
        let ready = self.prepare(in_force).await?;
        if self.is_stopping() {
            return Err(ReloadError::Stopping);
        }
        Ok(self.apply(in_force, ready).await)
    }

    fn is_stopping(&self) -> bool {
        self.builder.tasks.is_closing() || self.builder.tasks.stopping().is_cancelled()
    }

    /// Tries everything out, and changes nothing.
    async fn prepare(&self, in_force: &InForce) -> Result<Ready, ReloadError> {
        if self.is_stopping() {
            return Err(ReloadError::Stopping);
        }
        let Some(sources) = self.again.sources.clone() else {
            let message = "the configuration was made in code; there is nothing to read again";
            return Err(ReloadError::Faults(vec![message.to_owned()]));
        };
        let reading = tokio::task::spawn_blocking(move || read(sources)).await;
        let newer = reading.map_err(|_| ReloadError::Stopping)??;
        let reload = in_force.loaded.reloaded(newer).map_err(faults)?;
        self.parts
            .certificates
            .check()
            .await
            .map_err(|errors| ReloadError::Faults(errors.iter().map(|error| tls::whole(error)).collect()))?;
        // Of the databases that are opened for nothing, nothing is kept.
        let mut origins = in_force.origins.clone();
        let (mut added, mut wrong) = (Vec::new(), Vec::new());
        for name in &reload.added {
            match self.opened(name, &reload.loaded.config, &mut origins).await {
                Ok(built) => added.push(built),
                Err(error) => {
                    tracing::warn!(error = format_args!("{error:#}"), "a new group can't be served");
                    wrong.push(told(&error));
                }
            }
        }
        if wrong.is_empty() { Ok(Ready { reload, origins, added }) } else { Err(ReloadError::Faults(wrong)) }
    }

    async fn opened(
        &self,
        name: &GroupName,
        config: &Config,
        origins: &mut Origins,
    ) -> anyhow::Result<Built> {
        let built = self.builder.build(name, config, origins).await?;
        built.probe().await?;
        Ok(built)
    }

    async fn apply(&self, in_force: &mut InForce, ready: Ready) -> Reloaded {
        let Ready { reload, origins, added } = ready;
        let config::Reload { loaded, changed, needs_restart, .. } = reload;
        let (old, new) = (&in_force.loaded.config, &loaded.config);
        if old.auth != new.auth {
            self.parts.access.replace(&new.auth);
        }
        if old.rate != new.rate {
            self.builder.limiter.replace(new.rate.clone());
        }
        self.reconfigure_groups(old, new, &in_force.places).await;
        in_force.places.extend(added.iter().map(|built| (built.group.name().clone(), built.places())));
        added.iter().for_each(|built| built.follow(&self.builder));
        let groups = added.iter().map(|built| Arc::clone(&built.group));
        if let Err(error) = self.parts.groups.add(groups, new.default_group.as_ref()) {
            // The names are new, and the default is one of them all.
            tracing::error!(error = &error as &dyn std::error::Error, "the new groups are not served");
        }
        for preload in added.into_iter().filter_map(Built::preload) {
            let stopping = self.builder.tasks.stopping().clone();
            self.builder.tasks.spawn(async move {
                tokio::select! {
                    () = stopping.cancelled() => {}
                    () = preload.run() => {}
                }
            });
        }
        // They have just been tried out; whatever has become of them since is told like any other change of a file.
        let certificates = self.parts.certificates.reload().await;
        let certificates = certificates
            .into_iter()
            .filter_map(|(section, outcome)| outcome.is_ok_and(|new| new).then_some(section));
        self.parts.live.replace(plane_settings(&loaded));
        in_force.loaded = loaded;
        in_force.origins = origins;
        Reloaded { changed, needs_restart, certificates: certificates.collect() }
    }

    async fn reconfigure_groups(&self, old: &Config, new: &Config, places: &BTreeMap<GroupName, Places>) {
        for (name, section) in &new.groups {
            let before = old.groups.get(name).map(|section| &section.group);
            let (Some(group), Some(before)) = (self.parts.groups.get(name.as_str()), before) else {
                continue;
            };
            if *before == section.group {
                continue;
            }
            if let Some(places) = places.get(name) {
                places.resize(section.group.load_budget);
            }
            let config = section.group.clone();
            // A smaller capacity takes its time. The runtime that is gone has no use for it.
            let _ = tokio::task::spawn_blocking(move || group.reconfigure(config)).await;
        }
    }

    fn set_level(&self, before: &str, level: &str) {
        if before != level
            && let Some(Err(error)) = self.again.log.as_ref().map(|log| log.set(level))
        {
            tracing::error!(error = &error as &dyn std::error::Error, "the log's level stays");
        }
    }

    fn count(&self, outcome: &Result<Reloaded, ReloadError>) {
        let counter = match outcome {
            Ok(reloaded) if reloaded.changed.is_empty() && reloaded.certificates.is_empty() => {
                &self.unchanged
            }
            Ok(_) => &self.applied,
            Err(_) => &self.refused,
        };
        counter.increment(1);
    }
}

/// Tells the log what has come of it.
fn tell(outcome: &Result<Reloaded, ReloadError>) {
    match outcome {
        Ok(Reloaded { changed, needs_restart, certificates }) => {
            for Change { path, old, new } in changed {
                tracing::info!(key = %path, old, new, "a setting has changed");
            }
            for Change { path, old, new } in needs_restart {
                tracing::warn!(key = %path, old, new, "a setting has changed that needs a restart; the old value stays");
            }
            tracing::info!(
                changed = changed.len(),
                certificates = certificates.len(),
                needs_restart = needs_restart.len(),
                "read the configuration again"
            );
        }
        Err(ReloadError::Faults(faults)) => {
            for fault in faults {
                tracing::warn!("{fault}");
            }
            tracing::warn!(faults = faults.len(), "the configuration can't be used; nothing has changed");
        }
        Err(ReloadError::Stopping) => tracing::warn!("the node is stopping; the configuration stays"),
    }
}

impl gateway::Reload for Reloader {
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ReloadError>> {
        Box::pin(async {
            let mut in_force = self.in_force.lock().await;
            let before = in_force.loaded.config.log.level.clone();
            let outcome = self.attempt(&mut in_force).await;
            tell(&outcome);
            // Last, so that a log that is to say less still says so.
            self.set_level(&before, &in_force.loaded.config.log.level);
            self.count(&outcome);
            outcome
        })
    }
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

fn faults(faults: crate::settings::Faults) -> ReloadError {
    ReloadError::Faults(faults.iter().map(ToString::to_string).collect())
}

/// What is answered of a group that can't be served: our own words. What a database said itself stays in the log.
fn told(error: &anyhow::Error) -> String {
    let mut words = Vec::new();
    for cause in error.chain() {
        words.push(cause.to_string());
        if cause.is::<OpenError>() || cause.is::<TableError>() || cause.is::<LoadError>() {
            break;
        }
    }
    words.join(": ")
}
