//! The checks that involve more than one part.

use std::net::SocketAddr;

use super::{
    Config,
    group::{no_such, no_such_group},
};
use crate::settings::{Checks, format_bytes};

/// One check, and the keys that must have been read without a fault for it to mean anything.
pub(super) struct Check {
    /// Patterns of keys, in which `*` is any one segment.
    pub(super) depends: &'static [&'static str],
    /// Notes faults under full keys.
    pub(super) run: fn(&Config, &mut Checks),
}

/// Every check.
pub(super) const CHECKS: &[Check] = &[
    Check { depends: &["node.memory", "group.*.capacity"], run: capacities_fit },
    Check { depends: &["group.*.database", "database.*"], run: databases_exist },
    Check { depends: &["node.listen", "api.enabled", "api.listen", "admin.listen"], run: planes_are_apart },
    Check {
        depends: &["node.listen", "node.secret", "node.secret_file", "node.allow_anyone", "node.tls.*"],
        run: the_peer_plane_is_guarded,
    },
    Check {
        depends: &[
            "admin.listen",
            "admin.allow_anyone",
            "admin.tls.*",
            "auth.anonymous",
            "auth.token.*",
            "auth.token.*.hash",
            "auth.token.*.scopes",
        ],
        run: the_admin_plane_is_guarded,
    },
    Check { depends: &["auth.token.*.groups", "group.*"], run: groups_of_tokens_exist },
    Check { depends: &["node.weight", "cluster.discovery"], run: weight_can_be_told },
];

fn capacities_fit(config: &Config, checks: &mut Checks) {
    let sum = config.groups.values().fold(0_u64, |sum, section| sum.saturating_add(section.group.capacity));
    let memory = config.node.memory;
    if sum > memory {
        checks.fault(
            "node.memory",
            format!(
                "the capacities of all groups are {} together, and node.memory is {}; raise it, or lower a capacity",
                format_bytes(sum),
                format_bytes(memory)
            ),
        );
    }
}

fn databases_exist(config: &Config, checks: &mut Checks) {
    for (name, section) in &config.groups {
        let database = &section.table.database;
        if !config.databases.contains_key(database) {
            let names = config.databases.keys().map(String::as_str);
            checks.fault(&format!("group.{name}.database"), no_such("database", database, names));
        }
    }
}

fn planes_are_apart(config: &Config, checks: &mut Checks) {
    let api = config.api.enabled.then_some(("api.listen", config.api.listen));
    let planes = [("node.listen", config.node.listen), ("admin.listen", config.admin.listen)];
    let planes: Vec<(&str, SocketAddr)> = planes.into_iter().chain(api).collect();
    for (index, (key, address)) in planes.iter().enumerate() {
        if let Some((other, taken)) = planes[..index].iter().find(|(_, taken)| clash(*taken, *address)) {
            checks.fault(key, format!("{address} is taken by {other}, which is {taken}; write another port"));
        }
    }
}

/// Whether two sockets can't listen at once: one port at one address, or at all addresses of a machine.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let (ip_a, ip_b) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() == b.port() && a.port() != 0 && (ip_a == ip_b || ip_a.is_unspecified() || ip_b.is_unspecified())
}

fn weight_can_be_told(config: &Config, checks: &mut Checks) {
    let weight = config.node.weight;
    if weight > 1 && !config.cluster.tells_weights() {
        checks.fault(
            "node.weight",
            format!(
                "{weight} can't be told to the other nodes: a static list of peers has no weights; write 1"
            ),
        );
    }
}

/// Whether only programs of this machine reach a plane. An address that means every interface is not loopback.
fn is_loopback(listen: SocketAddr) -> bool {
    listen.ip().to_canonical().is_loopback()
}

fn the_peer_plane_is_guarded(config: &Config, checks: &mut Checks) {
    let node = &config.node;
    // Any one of these is enough.
    let is_guarded = is_loopback(node.listen)
        || node.seal.is_on() // nodes know each other by a secret
        || node.tls.is_some() // or by certificates
        || node.allow_anyone;
    if !is_guarded {
        checks.fault(
            "node.listen",
            format!(
                "{} is not loopback, and whoever reached it could read and drop every key; give all nodes one secret \
                 (node.secret_file) or certificates ([node.tls]), or write node.allow_anyone = true",
                node.listen
            ),
        );
    }
}

fn the_admin_plane_is_guarded(config: &Config, checks: &mut Checks) {
    let admin = &config.admin;
    // Any one of these is enough.
    let is_guarded = is_loopback(admin.listen)
        || config.auth.guards_admin() // a token with the scope opens it, and nothing else
        || admin.tls.as_ref().is_some_and(|tls| tls.ca.is_some()) // or a certificate
        || admin.allow_anyone;
    if !is_guarded {
        checks.fault(
            "admin.listen",
            format!(
                "{} is not loopback, and the operators' plane would be open to whoever reached it; make a token with the \
                 scope admin (`ggcache token NAME --scopes admin`) and leave that scope out of auth.anonymous, ask for \
                 certificates (admin.tls.client_ca), or write admin.allow_anyone = true",
                admin.listen
            ),
        );
    }
}

fn groups_of_tokens_exist(config: &Config, checks: &mut Checks) {
    for (name, token) in &config.auth.tokens {
        for group in token.groups.iter().flatten() {
            if !config.groups.contains_key(group.as_str()) {
                checks.fault(&format!("auth.token.{name}.groups"), no_such_group(group, &config.groups));
            }
        }
    }
}
