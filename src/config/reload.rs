//! What of a configuration can change while a node runs.
//!
//! One table says it, key by key; whatever is not in it needs a restart, so that a new key does until somebody has made it
//! change. [`Loaded::reloaded`] goes by the table for what is shown, and by [`merge`] for what is done; a test walks every
//! key of the example and holds the two together.

use super::{Config, Loaded};
use crate::{
    group::{GroupConfig, GroupName},
    settings::{Change, Effective, Fault, Faults, KeyPath, Source},
};

/// When a key may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// At any time.
    Always,
    /// If it has no value.
    Unset,
    /// If it is not zero: what it is about is there.
    NotZero,
}

/// Every key that may change while a node runs; `*` is any one segment. Sections of groups and databases may come, with
/// all their keys; they never go.
const CHANGEABLE: &[(&str, When)] = &[
    // To have another one would send requests elsewhere that name none.
    ("default_group", When::Unset),
    // Nothing but the sum of the capacities is held to it.
    ("node.memory", When::Always),
    ("api.cors_origins", When::Always),
    ("admin.hosts", When::Always),
    ("auth.anonymous", When::Always),
    ("auth.token.*.hash", When::Always),
    ("auth.token.*.scopes", When::Always),
    ("auth.token.*.groups", When::Always),
    ("log.level", When::Always),
    ("log.trace_sample", When::Always),
    ("limits.rate.client", When::Always),
    ("limits.rate.group", When::Always),
    ("limits.rate.global", When::Always),
    ("limits.rate.origin", When::Always),
    ("limits.rate.clients_max", When::Always),
    ("limits.rate.share", When::Always),
    ("limits.rate.trusted_proxies", When::Always),
    ("limits.rate.proxy_header", When::Always),
    ("group.*.capacity", When::Always),
    ("group.*.ttl", When::Always),
    ("group.*.ttl_jitter", When::Always),
    ("group.*.negative_ttl", When::Always),
    ("group.*.negative_share", When::Always),
    ("group.*.stale_while_revalidate", When::Always),
    ("group.*.stale_if_error", When::Always),
    ("group.*.refresh_ahead", When::Always),
    // A group that keeps no copies has no room for them.
    ("group.*.hot_ttl", When::NotZero),
    ("group.*.max_staleness", When::Always),
    ("group.*.audit", When::Always),
    ("group.*.load_budget", When::Always),
    ("group.*.client_ttl", When::Always),
    ("group.*.allow_no_cache", When::Always),
    ("group.*.rate", When::Always),
];

/// What becomes of a node when its configuration is read again.
#[derive(Clone, Debug)]
pub struct Reload {
    /// What is in force afterwards: the new configuration, but for what needs a restart.
    pub loaded: Loaded,
    /// What changes.
    pub changed: Vec<Change>,
    /// What is another value in the new configuration, and stays.
    pub needs_restart: Vec<Change>,
    /// The groups that come.
    pub added: Vec<GroupName>,
}

impl Loaded {
    /// What becomes of a node in which this is in force and `newer` has been read.
    ///
    /// # Errors
    /// If the new values and those that stay don't go together.
    pub fn reloaded(&self, newer: Self) -> Result<Reload, Faults> {
        let old = settled(self);
        let new = settled(&newer);
        let is_applied = |path: &KeyPath| self.is_applied(path, &old, &new);
        let (changed, needs_restart) =
            old.changes_to(&new).into_iter().partition(|change| is_applied(&change.path));
        let effective = old.merged(&new, is_applied);
        let added = newer.config.groups.keys().filter(|name| !self.config.groups.contains_key(*name));
        let added: Vec<GroupName> = added.cloned().collect();
        let config = merge(&self.config, &newer.config);
        let mut faults = self.mistakes(&newer);
        faults.extend(together(&config, &newer.config, &added));
        Faults::or_ok(faults)?;
        let loaded = Self { config, effective, file: newer.file };
        Ok(Reload { loaded, changed, needs_restart, added })
    }

    /// What is hardly meant: a file that was read while it was written, or is empty, takes every lock off and is in order
    /// otherwise.
    fn mistakes(&self, newer: &Self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let anonymous = newer.effective.get(&KeyPath::new(["auth", "anonymous"]));
        let is_said = anonymous.is_some_and(|entry| entry.source != Source::Default);
        if !self.config.auth.tokens.is_empty() && newer.config.auth.tokens.is_empty() && !is_said {
            let message = "all tokens are gone, and then everybody may do everything; if that is meant, write \
                           anonymous = [\"read\", \"write\", \"invalidate\", \"admin\"], or what else anybody may do";
            faults.push(Fault::value("auth.anonymous", message));
        }
        if !self.config.groups.is_empty() && newer.config.groups.is_empty() {
            faults.push(Fault::value("group", "there is none any more; is the file complete?"));
        }
        faults
    }

    /// Whether another value of a key is put into force.
    fn is_applied(&self, path: &KeyPath, old: &Effective, new: &Effective) -> bool {
        if let [kind @ ("group" | "database"), name, _, ..] = &*segments(path) {
            let section = KeyPath::new([*kind, *name]);
            if !old.has_table(&section) {
                return true;
            }
            if !new.has_table(&section) {
                return false;
            }
        }
        let found = CHANGEABLE.iter().find(|(pattern, _)| path.matches(pattern));
        found.is_some_and(|(_, when)| match when {
            When::Always => true,
            When::Unset => old.get(path).is_none_or(|entry| entry.literal.is_none()),
            When::NotZero => {
                let group = path.segments().get(1);
                let group = group
                    .and_then(|name| self.config.groups.iter().find(|(known, _)| known.as_str() == name));
                group.is_some_and(|(_, section)| !section.group.hot_ttl.is_zero())
            }
        })
    }
}

fn segments(path: &KeyPath) -> Vec<&str> {
    path.segments().iter().map(String::as_str).collect()
}

/// The settings, with the default group that follows from there being only one.
fn settled(loaded: &Loaded) -> Effective {
    let mut effective = loaded.effective.clone();
    if loaded.config.default_group.is_none()
        && let Some(only) = default_group(&loaded.config)
    {
        effective.imply(KeyPath::new(["default_group"]), only.as_str());
    }
    effective
}

/// The group that a request without a group's name means.
fn default_group(config: &Config) -> Option<&GroupName> {
    let only = || config.groups.keys().next().filter(|_| config.groups.len() == 1);
    config.default_group.as_ref().or_else(only)
}

/// `old`, with what changes while a node runs from `new`.
fn merge(old: &Config, new: &Config) -> Config {
    let mut merged = old.clone();
    merged.default_group = default_group(old).or(default_group(new)).cloned();
    merged.node.memory = new.node.memory;
    merged.api.cors_origins.clone_from(&new.api.cors_origins);
    merged.admin.hosts.clone_from(&new.admin.hosts);
    merged.auth = new.auth.clone();
    merged.log.level.clone_from(&new.log.level);
    merged.log.trace_sample = new.log.trace_sample;
    merged.rate = new.rate.clone();
    // A group that is no longer there stays until a restart, and so does its rate.
    let gone = old.groups.iter().filter(|(name, _)| !new.groups.contains_key(*name));
    merged.rate.groups.extend(gone.filter_map(|(name, section)| Some((name.to_string(), section.rate?))));
    for (name, database) in &new.databases {
        merged.databases.entry(name.clone()).or_insert_with(|| database.clone());
    }
    for (name, section) in &new.groups {
        match merged.groups.get_mut(name) {
            None => {
                merged.groups.insert(name.clone(), section.clone());
            }
            Some(kept) => {
                kept.group = changed(&kept.group, &section.group);
                kept.rate = section.rate;
            }
        }
    }
    merged
}

fn changed(old: &GroupConfig, new: &GroupConfig) -> GroupConfig {
    GroupConfig {
        policy: old.policy,
        preload: old.preload,
        load_batch: old.load_batch,
        content_type: old.content_type.clone(),
        hot_ttl: if old.hot_ttl.is_zero() { old.hot_ttl } else { new.hot_ttl },
        ..new.clone()
    }
}

/// Why what stays and what is new don't go together.
fn together(merged: &Config, new: &Config, added: &[GroupName]) -> Vec<Fault> {
    let mut faults: Vec<Fault> = merged.validate().err().into_iter().flatten().collect();
    for name in added {
        let database = &merged.groups[name].table.database;
        if merged.databases.get(database) != new.databases.get(database) {
            faults.push(Fault::value(
                format!("group.{name}.database"),
                format!("database.{database} has changed, which needs a restart, and the group would read the old one"),
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Sources;

    /// Loads `text`, with single keys set to other values.
    fn load(text: &str, set: &[(&str, &str)]) -> Loaded {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ggcache.toml");
        std::fs::write(&file, text).expect("a file");
        let flags = set.iter().map(|(key, value)| crate::config::FlagSetting {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
            flag: "--set".to_owned(),
        });
        let sources = Sources { file: Some(file), flags: flags.collect(), ..Sources::default() };
        Config::load(sources).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn example() -> String {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/ggcache.toml");
        let demo = std::fs::read_to_string(file).expect("the example");
        let token = format!("[auth.token.app]\nhash = \"sha256:{}\"\nscopes = [\"read\"]\n", "0".repeat(64));
        demo + &token
    }

    fn keys(changes: &[Change]) -> Vec<String> {
        changes.iter().map(|change| change.path.to_string()).collect()
    }

    const SECRET: &str = "a secret that nobody would ever guess";

    /// Another value of every key: alone, or with others that it can't be without.
    fn others() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
        const HASH: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
        const TLS: [&str; 3] = ["a.pem", "a.key", "b.pem"];
        let alone = |key, value| (key, vec![(key, value)]);
        vec![
            alone("node.listen", "127.0.0.1:10009"),
            alone("node.advertise", "localhost:10009"),
            ("node.weight", vec![("node.weight", "2"), ("cluster.discovery", "etcd")]),
            alone("node.memory", "512MiB"),
            alone("node.secret", SECRET),
            alone("node.secret_file", "a"),
            (
                "node.secret_previous",
                vec![
                    ("node.secret", SECRET),
                    ("node.secret_previous", "another one that nobody would guess"),
                ],
            ),
            ("node.secret_previous_file", vec![("node.secret", SECRET), ("node.secret_previous_file", "a")]),
            alone("node.allow_anyone", "true"),
            (
                "node.tls.cert",
                vec![("node.tls.cert", TLS[0]), ("node.tls.key", TLS[1]), ("node.tls.ca", TLS[2])],
            ),
            (
                "node.tls.key",
                vec![("node.tls.cert", TLS[0]), ("node.tls.key", TLS[1]), ("node.tls.ca", TLS[2])],
            ),
            (
                "node.tls.ca",
                vec![("node.tls.cert", TLS[0]), ("node.tls.key", TLS[1]), ("node.tls.ca", TLS[2])],
            ),
            alone("api.enabled", "true"),
            alone("api.listen", "127.0.0.1:8009"),
            alone("api.cors_origins", "https://app.example"),
            alone("api.compression_memory", "0"),
            ("api.tls.cert", vec![("api.tls.cert", TLS[0]), ("api.tls.key", TLS[1])]),
            ("api.tls.key", vec![("api.tls.cert", TLS[0]), ("api.tls.key", TLS[1])]),
            (
                "api.tls.client_ca",
                vec![("api.tls.cert", TLS[0]), ("api.tls.key", TLS[1]), ("api.tls.client_ca", TLS[2])],
            ),
            alone("admin.listen", "127.0.0.1:11009"),
            alone("admin.hosts", "ops.example"),
            alone("admin.allow_anyone", "true"),
            ("admin.tls.cert", vec![("admin.tls.cert", TLS[0]), ("admin.tls.key", TLS[1])]),
            ("admin.tls.key", vec![("admin.tls.cert", TLS[0]), ("admin.tls.key", TLS[1])]),
            (
                "admin.tls.client_ca",
                vec![("admin.tls.cert", TLS[0]), ("admin.tls.key", TLS[1]), ("admin.tls.client_ca", TLS[2])],
            ),
            alone("auth.anonymous", "read"),
            alone("auth.token.app.hash", HASH),
            alone("auth.token.app.scopes", "read,invalidate"),
            alone("auth.token.app.groups", "scores"),
            alone("cluster.service", "Other"),
            alone("cluster.discovery", "etcd"),
            alone("cluster.peers", "localhost:10001"),
            alone("cluster.allowed_peers", "127.0.0.1,localhost"),
            #[cfg(feature = "grpc")]
            alone("cluster.transport", "grpc"),
            alone("cluster.virtual_nodes", "1024"),
            alone("cluster.peer_timeout", "300ms"),
            alone("cluster.failover_ttl", "6s"),
            alone("cluster.peek", "false"),
            alone("cluster.handover", "false"),
            alone("etcd.endpoints", "http://127.0.0.1:2380"),
            alone("etcd.lease_ttl", "6s"),
            ("etcd.user", vec![("etcd.user", "a"), ("etcd.password", "b")]),
            ("etcd.password", vec![("etcd.user", "a"), ("etcd.password", "b")]),
            ("etcd.ca", vec![("etcd.endpoints", "https://127.0.0.1:2379"), ("etcd.ca", "a.pem")]),
            (
                "etcd.cert",
                vec![
                    ("etcd.endpoints", "https://127.0.0.1:2379"),
                    ("etcd.ca", "a.pem"),
                    ("etcd.cert", "a"),
                    ("etcd.key", "b"),
                ],
            ),
            (
                "etcd.key",
                vec![
                    ("etcd.endpoints", "https://127.0.0.1:2379"),
                    ("etcd.ca", "a.pem"),
                    ("etcd.cert", "a"),
                    ("etcd.key", "b"),
                ],
            ),
            alone("log.format", "json"),
            alone("log.level", "debug"),
            alone("log.file", "a.log"),
            alone("log.trace_sample", "0.5"),
            alone("limits.request_timeout", "3s"),
            alone("limits.connections", "9999"),
            alone("limits.header_timeout", "9s"),
            alone("limits.header_bytes", "16KiB"),
            alone("limits.idle_timeout", "74s"),
            alone("limits.in_flight", "19999"),
            alone("limits.flights", "16383"),
            alone("limits.waiters", "65535"),
            alone("limits.value_bytes", "3MiB"),
            alone("limits.shutdown_grace", "9s"),
            alone("limits.rate.client", "1/s"),
            alone("limits.rate.group", "1/s"),
            alone("limits.rate.global", "1/s"),
            alone("limits.rate.origin", "1/s"),
            alone("limits.rate.clients_max", "99999"),
            alone("limits.rate.share", "cluster"),
            alone("limits.rate.trusted_proxies", "10.0.0.1"),
            alone("limits.rate.proxy_header", "forwarded"),
            alone("database.school.url", "sqlite:other.db"),
            alone("database.school.max_connections", "7"),
            alone("database.school.statement_timeout", "900ms"),
            alone("database.school.breaker_failures", "6"),
            alone("database.school.changes_poll", "30ms"),
            alone("database.school.changes_retention", "2h"),
            alone("database.school.changes_rows", "999999"),
            // The only one there is can't be another, and a value beside it changes nothing: below.
            ("group.scores.database", vec![]),
            ("default_group", vec![]),
            alone("group.scores.table", "pupils"),
            alone("group.scores.key_column", "id"),
            alone("group.scores.value_columns", "score,name"),
            alone("group.scores.writable", "true"),
            alone("group.scores.content_type", "text/csv"),
            alone("group.scores.client_ttl", "1s"),
            alone("group.scores.allow_no_cache", "false"),
            alone("group.scores.rate", "7/s"),
            alone("group.scores.capacity", "32MiB"),
            alone("group.scores.policy", "lfu"),
            alone("group.scores.ttl", "31s"),
            alone("group.scores.ttl_jitter", "0.2"),
            alone("group.scores.negative_ttl", "6s"),
            alone("group.scores.negative_share", "0.2"),
            alone("group.scores.stale_while_revalidate", "2s"),
            alone("group.scores.stale_if_error", "3s"),
            alone("group.scores.refresh_ahead", "0.2"),
            alone("group.scores.hot_ttl", "2s"),
            alone("group.scores.max_staleness", "2s"),
            alone("group.scores.audit", "2"),
            alone("group.scores.load_budget", "15"),
            alone("group.scores.load_batch", "100"),
            alone("group.scores.preload", "1"),
        ]
    }

    /// The key in the table that covers this one.
    fn in_table(key: &str) -> bool {
        let path = KeyPath::parse(key).expect("a key");
        CHANGEABLE.iter().any(|(pattern, _)| path.matches(pattern))
    }

    #[test]
    fn every_key_is_changed_or_named_and_done_as_it_is_told() {
        let old = load(&example(), &[]);
        let others: BTreeMap<_, _> = others().into_iter().collect();
        for entry in old.effective.entries() {
            let key = entry.path.to_string();
            let set =
                others.get(key.as_str()).unwrap_or_else(|| panic!("the test has no other value of {key}"));
            if set.is_empty() {
                continue;
            }
            let new = load(&example(), set);
            assert_ne!(old.config, new.config, "{key} has another value, and the configuration is the same");
            // With the same environment, what is in force must be as good as what was read.
            let reload = old.reloaded(new.clone()).unwrap_or_else(|faults| panic!("{key}: {faults}"));
            let (told, other) = if in_table(&key) {
                (&reload.changed, &reload.needs_restart)
            } else {
                (&reload.needs_restart, &reload.changed)
            };
            assert!(keys(told).contains(&key), "{key} is not told of: {reload:?}");
            assert!(other.is_empty() || set.len() > 1, "{key}: {other:?}");
            let expected = if in_table(&key) { &new } else { &old };
            assert_eq!(reload.loaded.config, expected.config, "{key} is done otherwise than the table says");
            let shown = reload.loaded.effective.get(&entry.path).expect("it is known");
            assert_eq!(shown.literal, expected.effective.get(&entry.path).expect("known").literal, "{key}");
            // And the next time there is nothing to do but what needs a restart.
            let again = reload.loaded.reloaded(new).expect("as before");
            assert_eq!((keys(&again.changed), again.needs_restart), (vec![], reload.needs_restart), "{key}");
        }
        for key in others.keys() {
            let path = KeyPath::parse(key).expect("a key");
            assert!(old.effective.get(&path).is_some(), "{key} is no key of the example");
        }
    }

    #[test]
    fn the_table_names_keys_that_there_are() {
        let example = load(&example(), &[]);
        for (pattern, _) in CHANGEABLE {
            let known = example.effective.entries().iter().any(|entry| entry.path.matches(pattern));
            assert!(known, "{pattern} is no key");
        }
    }

    const TWO: &str = "[database.school]\nurl = \"sqlite:school.db\"\n\
        [group.scores]\ntable = \"students\"\nkey_column = \"name\"\nvalue_columns = [\"score\"]\n";

    #[test]
    fn a_file_that_is_cut_short_opens_nothing() {
        let closed =
            format!("{TWO}[auth.token.app]\nhash = \"sha256:{}\"\nscopes = [\"read\"]\n", "1".repeat(64));
        let old = load(&closed, &[]);
        let told = |newer: Loaded| {
            let faults = old.reloaded(newer).err().map(|faults| faults.to_string()).unwrap_or_default();
            ["auth.anonymous", "group: there is none"].map(|word| faults.contains(word))
        };
        assert_eq!(told(load("", &[])), [true, true]);
        assert_eq!(told(load(TWO, &[])), [true, false]);
        assert_eq!(told(load(TWO, &[("auth.anonymous", "read")])), [false, false], "it is said");
        assert_eq!(told(load(&closed, &[])), [false, false]);
        // Where there was no token, nothing is opened.
        assert!(load(TWO, &[]).reloaded(load(TWO, &[("log.level", "debug")])).is_ok());
    }

    #[test]
    fn groups_come_with_their_database_and_do_not_go() {
        let old = load(TWO, &[]);
        let more = "[database.other]\nurl = \"sqlite:other.db\"\n[group.names]\ndatabase = \"other\"\n\
            table = \"students\"\nkey_column = \"id\"\nvalue_columns = [\"name\"]\npolicy = \"lfu\"\n";
        let both = format!("{TWO}database = \"school\"\n{more}");
        let reload = old.reloaded(load(&both, &[])).expect("it goes together");
        let told = ["url", "table", "key_column", "value_columns", "policy", "database"];
        for key in told {
            let section = if key == "url" { "database.other" } else { "group.names" };
            assert!(keys(&reload.changed).contains(&format!("{section}.{key}")), "{key}: {reload:?}");
        }
        assert_eq!(reload.added.iter().map(GroupName::as_str).collect::<Vec<_>>(), ["names"]);
        assert_eq!(reload.loaded.config.groups.len(), 2);
        // Requests that name no group go where they went.
        assert_eq!(keys(&reload.needs_restart), ["default_group"]);
        assert_eq!(reload.needs_restart[0].old.as_deref(), Some("\"scores\""));
        assert!(reload.loaded.effective.to_string().starts_with("default_group = \"scores\""));

        let gone = reload.loaded.reloaded(old.clone()).expect("it goes together");
        assert!(gone.changed.is_empty() && gone.added.is_empty(), "{gone:?}");
        assert!(keys(&gone.needs_restart).contains(&"group.names.table".to_owned()), "{gone:?}");
        assert!(keys(&gone.needs_restart).contains(&"database.other.url".to_owned()), "{gone:?}");
        assert_eq!(gone.loaded.config, reload.loaded.config);
        assert_eq!(gone.loaded.effective.to_string().matches("[group.names]").count(), 1);
    }

    #[test]
    fn a_default_group_may_come() {
        let old = load("", &[]);
        let reload = old.reloaded(load(TWO, &[])).expect("it goes together");
        assert!(
            reload.needs_restart.is_empty() && keys(&reload.changed).contains(&"default_group".to_owned())
        );
        assert_eq!(reload.loaded.config.default_group.as_ref().map(GroupName::as_str), Some("scores"));
    }

    #[test]
    fn copies_are_switched_off_and_not_on() {
        let with = |ttl| load(TWO, &[("group.scores.hot_ttl", ttl)]);
        let off = with("1s").reloaded(with("0s")).expect("it goes together");
        assert_eq!(keys(&off.changed), ["group.scores.hot_ttl"]);
        let on = off.loaded.reloaded(with("1s")).expect("it goes together");
        assert_eq!(
            (keys(&on.changed), keys(&on.needs_restart)),
            (vec![], vec!["group.scores.hot_ttl".to_owned()])
        );
    }

    #[test]
    fn tokens_come_and_go_and_their_hashes_are_never_shown() {
        let token = |digit: &str| {
            format!("{TWO}[auth.token.app]\nhash = \"sha256:{}\"\nscopes = [\"read\"]\n", digit.repeat(64))
        };
        let everybody = [("auth.anonymous", "read,write,invalidate,admin")];
        let (none, first, second) = (load(TWO, &everybody), load(&token("1"), &[]), load(&token("2"), &[]));
        for (from, to) in [(&none, &first), (&first, &second), (&second, &none)] {
            let reload = from.reloaded(to.clone()).expect("it goes together");
            assert!(keys(&reload.changed).contains(&"auth.token.app.hash".to_owned()), "{reload:?}");
            assert_eq!(
                (reload.loaded.config.auth.clone(), reload.needs_restart.len()),
                (to.config.auth.clone(), 0)
            );
            let shown = format!("{:?}{}", reload.changed, reload.loaded.effective);
            assert!(!shown.contains("1111") && !shown.contains("2222"), "{shown}");
        }
        assert!(first.reloaded(first.clone()).expect("the same").changed.is_empty());
    }

    #[test]
    fn what_stays_and_what_is_new_must_go_together() {
        let admin =
            format!("{TWO}[auth.token.ops]\nhash = \"sha256:{}\"\nscopes = [\"admin\"]\n", "1".repeat(64));
        let open = load(&admin, &[("admin.listen", "0.0.0.0:11001")]);
        // The plane would go back to loopback with a restart only, and be open until then.
        let faults = open.reloaded(load(TWO, &[])).expect_err("it is unguarded");
        assert!(faults.to_string().contains("admin.listen"), "{faults}");

        let other = format!(
            "{}database = \"school\"\n[group.more]\ntable = \"t\"\nkey_column = \"k\"\nvalue_columns = [\"v\"]\n",
            TWO.replace("school.db", "moved.db")
        );
        let faults = load(TWO, &[]).reloaded(load(&other, &[])).expect_err("it would read the old database");
        assert!(faults.to_string().contains("group.more.database: database.school has changed"), "{faults}");
    }
}
