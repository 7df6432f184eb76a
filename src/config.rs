//! The whole configuration of a node.
//!
//! Each part owns its own struct, its defaults and its checks; this module joins them, and checks what
//! involves more than one of them. `cli` loads a [`Config`], `app` builds a node from it. How values are read,
//! and where they may come from, is `settings`' business.

mod database;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod group;
mod plane;
mod reload;
mod sources;
#[cfg(test)]
mod tests;
mod together;

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    access::AuthConfig,
    database::DatabaseConfig,
    discovery::{ClusterConfig, EtcdConfig},
    group::GroupName,
    limit::RateConfig,
    net::{LimitsConfig, TlsConfig, TlsPlane},
    settings::{Checks, Effective, Faults, Settings},
    telemetry::LogConfig,
};

#[cfg(feature = "fuzzing")]
pub(crate) use fuzz::fuzz_config;
pub use group::GroupSection;
pub use plane::{AdminConfig, ApiConfig, NodeConfig};
pub use reload::Reload;
pub use sources::{ApiAddress, ApiAddressError, FlagSetting, Sources};

/// Everything that a node is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The group that a request without a group's name means.
    pub default_group: Option<GroupName>,
    /// The node and its peer plane.
    pub node: NodeConfig,
    /// The public plane.
    pub api: ApiConfig,
    /// The operators' plane.
    pub admin: AdminConfig,
    /// Who may ask for what.
    pub auth: AuthConfig,
    /// Who the peers are.
    pub cluster: ClusterConfig,
    /// Where etcd is, if the peers are found there.
    pub etcd: EtcdConfig,
    /// The log.
    pub log: LogConfig,
    /// What the node takes on.
    pub limits: LimitsConfig,
    /// How many requests are let through.
    pub rate: RateConfig,
    /// The databases, by the name of their section.
    pub databases: BTreeMap<String, DatabaseConfig>,
    /// The groups.
    pub groups: BTreeMap<GroupName, GroupSection>,
}

/// A configuration, and where it came from.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What to run with.
    pub config: Config,
    /// Every value with its source.
    pub effective: Effective,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads all sources.
    ///
    /// # Errors
    /// Every fault of every source; only the first of a file that is not TOML, or can't be read.
    pub fn load(sources: Sources) -> Result<Loaded, Faults> {
        let Sources { file, env, flags, port, api } = sources;
        let mut settings = Settings::new();
        if let Some(file) = &file {
            settings.add_file(file)?;
        }
        settings.add_env(env);
        for FlagSetting { key, value, flag } in &flags {
            settings.add_flag(key, value, flag);
        }
        if let Some(api) = api {
            settings.add_flag("api.enabled", "true", "--api");
            if let ApiAddress::Full(address) = api {
                settings.add_flag("api.listen", &address.to_string(), "--api");
            }
        }
        let config = Self::read(&mut settings, port, api);
        Ok(Loaded { config, effective: settings.finish()?, file })
    }

    fn read(settings: &mut Settings, port: Option<u16>, api: Option<ApiAddress>) -> Self {
        let default_group = settings.root().optional_string("default_group");
        let mut node = NodeConfig::read(&mut settings.section(&["node"]), port);
        node.tls = TlsConfig::read(&mut settings.section(&["node", "tls"]), TlsPlane::Peer);
        let mut api = ApiConfig::read(&mut settings.section(&["api"]), api);
        api.tls = TlsConfig::read(&mut settings.section(&["api", "tls"]), TlsPlane::Api);
        let mut admin = AdminConfig::read(&mut settings.section(&["admin"]), node.listen.port());
        admin.tls = TlsConfig::read(&mut settings.section(&["admin", "tls"]), TlsPlane::Admin);
        let auth = AuthConfig::read(settings);
        let cluster = ClusterConfig::read(&mut settings.section(&["cluster"]));
        let etcd = EtcdConfig::read(&mut settings.section(&["etcd"]));
        let log = LogConfig::read(&mut settings.section(&["log"]));
        let limits = LimitsConfig::read(&mut settings.section(&["limits"]));
        let mut rate = RateConfig::read(&mut settings.section(&["limits", "rate"]));
        let databases = database::read_all(settings);
        let groups = group::read_all(settings, &databases);
        rate.groups =
            groups.iter().filter_map(|(name, section)| Some((name.to_string(), section.rate?))).collect();
        let default_group = default_group.and_then(|name| {
            let found = groups.keys().find(|group| group.as_str() == name).cloned();
            if found.is_none() && settings.is_sound("group.*") {
                settings.root().fault("default_group", group::no_such_group(&name, &groups));
            }
            found
        });
        let config = Self {
            default_group,
            node,
            api,
            admin,
            auth,
            cluster,
            etcd,
            log,
            limits,
            rate,
            databases,
            groups,
        };
        for check in together::CHECKS {
            // A value that could not be read stands at its default, and would be compared for nothing.
            if check.depends.iter().all(|pattern| settings.is_sound(pattern)) {
                let mut checks = Checks::new();
                (check.run)(&config, &mut checks);
                settings.check(checks.finish());
            }
        }
        config
    }

    /// Whether every value lies within its bounds and they agree with each other. [`load`](Self::load) has
    /// checked it; this is for a configuration that was built in code.
    ///
    /// # Errors
    /// Every value that is wrong, under its full key.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        checks.nest("node", self.node.validate());
        checks.nest("api", self.api.validate());
        checks.nest("node", self.node.seal.validate());
        checks.nest("auth", self.auth.validate());
        checks.nest("cluster", self.cluster.validate());
        checks.nest("etcd", self.etcd.validate());
        checks.nest("log", self.log.validate());
        checks.nest("limits", self.limits.validate());
        checks.nest("limits.rate", self.rate.validate());
        for (name, database) in &self.databases {
            checks.nest(&format!("database.{name}"), database::validate(database));
        }
        for (name, section) in &self.groups {
            checks.nest(&format!("group.{name}"), section.validate());
        }
        if let Some(name) = self.default_group.as_ref().filter(|name| !self.groups.contains_key(*name)) {
            checks.fault("default_group", group::no_such_group(name.as_str(), &self.groups));
        }
        for check in together::CHECKS {
            (check.run)(self, &mut checks);
        }
        checks.finish()
    }
}
