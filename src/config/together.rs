//! The checks that involve more than one part.

use std::net::SocketAddr;

use super::{Config, group::no_such};
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
