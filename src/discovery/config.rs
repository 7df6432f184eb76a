//! `[cluster]`: who the peers are, and how long they are waited for.

mod etcd;

use std::{collections::BTreeSet, fmt, ops::RangeInclusive, str::FromStr, time::Duration};

pub use self::etcd::{EtcdConfig, EtcdEndpoint, EtcdEndpointError, EtcdPassword};
use super::allow::AllowedPeers;
use crate::{
    cluster::{Address, VIRTUAL_NODES_MAX, is_never_peer},
    settings::{Checks, Faults, Section},
};

/// How a node learns who is in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiscoveryKind {
    /// From the configuration's list of peers.
    #[default]
    Static,
    /// From etcd, where each node registers.
    Etcd,
}

impl FromStr for DiscoveryKind {
    type Err = UnknownDiscovery;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "static" => Ok(Self::Static),
            "etcd" => Ok(Self::Etcd),
            _ => Err(UnknownDiscovery),
        }
    }
}

impl fmt::Display for DiscoveryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "static",
            Self::Etcd => "etcd",
        })
    }
}

/// The name is not that of a kind of discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of discovery, which is static or etcd")]
pub struct UnknownDiscovery;

/// How a node asks its peers. It answers them in both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportKind {
    /// Over HTTP/1.1.
    #[default]
    Http,
    /// By gRPC.
    #[cfg(feature = "grpc")]
    Grpc,
}

impl TransportKind {
    /// The names of those that this build speaks.
    const NAMES: &'static [&'static str] = if cfg!(feature = "grpc") { &["http", "grpc"] } else { &["http"] };
}

impl FromStr for TransportKind {
    type Err = UnknownTransport;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "http" => Ok(Self::Http),
            #[cfg(feature = "grpc")]
            "grpc" => Ok(Self::Grpc),
            _ => Err(UnknownTransport),
        }
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            #[cfg(feature = "grpc")]
            Self::Grpc => "grpc",
        })
    }
}

/// The name is not that of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a transport, which is http or grpc")]
pub struct UnknownTransport;

/// How a node takes part in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The name under which the nodes of this cluster register, and others find them.
    pub service: String,
    /// How the peers are found.
    pub discovery: DiscoveryKind,
    /// The members, this node among them or not; empty for a node on its own. With etcd: the first view, if etcd does
    /// not answer at the start.
    pub peers: Vec<Address>,
    /// Who may become a peer.
    pub allowed_peers: AllowedPeers,
    /// How peers are asked.
    pub transport: TransportKind,
    /// Points on the ring of a node of weight 1. The same at every node, or they disagree on owners.
    pub virtual_nodes: u32,
    /// After how long a silent peer is asked for a sign of life.
    pub peer_timeout: Duration,
    /// The longest that a node keeps what it loaded in place of an owner that is down; zero to keep nothing.
    pub failover_ttl: Duration,
    /// Whether a miss after a change of owner peeks at the previous one before it reads the database.
    pub peek: bool,
    /// Whether a node that leaves names its hottest keys to their new owners.
    pub handover: bool,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            service: "GGroupCache".to_owned(),
            discovery: DiscoveryKind::default(),
            peers: Vec::new(),
            allowed_peers: AllowedPeers::default(),
            transport: TransportKind::default(),
            virtual_nodes: 2048,
            peer_timeout: Duration::from_millis(250),
            failover_ttl: Duration::from_secs(5),
            peek: true,
            handover: true,
        }
    }
}

/// The longest name of a service, in bytes.
const SERVICE_BYTES_MAX: usize = 128;
const VIRTUAL_NODES: RangeInclusive<u32> = 1..=VIRTUAL_NODES_MAX;
const PEER_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
const FAILOVER_TTL: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60 * 60);

impl ClusterConfig {
    /// Reads the keys of `[cluster]`, and checks them.
    pub fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let allowed = default.allowed_peers.entries().to_vec();
        let mut config = Self {
            service: section.string("service", &default.service),
            discovery: section.choice("discovery", default.discovery, &["static", "etcd"]),
            peers: section.parsed_list(
                "peers",
                default.peers,
                "an address; write for example \"localhost:10001\"",
            ),
            allowed_peers: AllowedPeers::new(section.parsed_list(
                "allowed_peers",
                allowed,
                "an address, a network or a host name outside link-local; write for example \"10.0.0.0/8\"",
            )),
            transport: section.choice("transport", default.transport, TransportKind::NAMES),
            virtual_nodes: section.integer("virtual_nodes", default.virtual_nodes, VIRTUAL_NODES),
            peer_timeout: section.duration("peer_timeout", default.peer_timeout),
            failover_ttl: section.duration("failover_ttl", default.failover_ttl),
            peek: section.bool("peek", default.peek),
            handover: section.bool("handover", default.handover),
        };
        if !section.is_sound("allowed_peers") {
            // The list lacks what could not be read, and its fault is enough.
            config.peers.clear();
        }
        section.check(config.validate());
        config
    }

    /// Whether a node learns the weights of the others, so that its own may differ from 1.
    pub const fn tells_weights(&self) -> bool {
        match self.discovery {
            DiscoveryKind::Static => false,
            DiscoveryKind::Etcd => true,
        }
    }

    /// Whether every value lies within its bounds, and every peer is allowed and there once.
    ///
    /// # Errors
    /// Every value that is wrong, under its key in the section.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        if !is_service(&self.service) {
            checks.fault(
                "service",
                format!(
                    "it is not 1 to {SERVICE_BYTES_MAX} of a-z, A-Z, 0-9, _, -, . and single slashes inside; \
                     write for example \"GGroupCache\""
                ),
            );
        }
        if self.discovery == DiscoveryKind::Etcd && !cfg!(feature = "etcd") {
            checks.fault("discovery", "etcd is not in this build; build it with the feature \"etcd\"");
        }
        let mut seen = BTreeSet::new();
        for peer in &self.peers {
            if !seen.insert(peer) {
                checks.fault("peers", format!("\"{peer}\" is there twice; write it once"));
            } else if peer.host().parse().is_ok_and(is_never_peer) {
                checks.fault(
                    "peers",
                    format!("\"{peer}\" is link-local, and link-local addresses are never peers"),
                );
            } else if !self.allowed_peers.allows_host(peer.host()) {
                let host = peer.host();
                checks.fault(
                    "peers",
                    format!("\"{peer}\" is not in cluster.allowed_peers; add \"{host}\" there"),
                );
            }
        }
        checks.number("virtual_nodes", self.virtual_nodes, &VIRTUAL_NODES);
        checks.duration("peer_timeout", self.peer_timeout, &PEER_TIMEOUT);
        checks.duration("failover_ttl", self.failover_ttl, &FAILOVER_TTL);
        checks.finish()
    }
}

/// Whether etcd keys can begin with the name and a slash without meaning another service as well.
fn is_service(name: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    name.len() <= SERVICE_BYTES_MAX && name.split('/').all(|part| !part.is_empty() && part.bytes().all(valid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services() {
        for name in ["GGroupCache", "a", "team/cache-2.eu"] {
            assert!(is_service(name), "{name}");
        }
        for name in ["", "/", "a/", "/a", "a//b", "a b", "é", &"a".repeat(SERVICE_BYTES_MAX + 1)] {
            assert!(!is_service(name), "{name}");
        }
    }

    #[test]
    fn the_default_is_valid() {
        assert_eq!(ClusterConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_peer_must_be_allowed() {
        let address = |text: &str| Address::new(text).expect(text);
        let config = ClusterConfig {
            peers: ["localhost:1", "10.0.0.1:1", "localhost:1", "[fe80::1]:1"].map(address).to_vec(),
            ..ClusterConfig::default()
        };
        let faults = config.validate().expect_err("three are wrong").to_string();
        assert_eq!(
            faults,
            "peers: \"10.0.0.1:1\" is not in cluster.allowed_peers; add \"10.0.0.1\" there\n\
             peers: \"localhost:1\" is there twice; write it once\n\
             peers: \"[fe80::1]:1\" is link-local, and link-local addresses are never peers"
        );
    }
}
