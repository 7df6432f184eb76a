//! `[node]`, `[api]` and `[admin]`: the three planes, and what the node is in the cluster.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
};

use super::ApiAddress;
use crate::{
    access::SealConfig,
    cluster::{Address, WEIGHT_MAX},
    gateway::CorsOrigin,
    net::TlsConfig,
    settings::{Checks, Faults, Section},
};

/// The node and its peer plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Where the peer plane listens.
    pub listen: SocketAddr,
    /// Where other nodes reach it, and its name on the ring.
    pub advertise: Address,
    /// Its share of the keys relative to other nodes, 1 to 100.
    pub weight: u32,
    /// What the entries of all groups may take together, in bytes.
    pub memory: u64,
    /// The secret by which nodes know each other.
    pub seal: SealConfig,
    /// Whether the peer plane may be open to whoever reaches it.
    pub allow_anyone: bool,
    /// TLS among the nodes, and towards clients of the peer plane.
    pub tls: Option<TlsConfig>,
}

/// The public plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whose pages may read its answers in a browser.
    pub cors_origins: Vec<CorsOrigin>,
    /// What compressed values may take beside the groups' entries, in bytes; none are compressed if it is zero.
    pub compression_memory: u64,
    /// Its TLS.
    pub tls: Option<TlsConfig>,
}

/// The operators' plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The names by which it may be called, beside addresses, `localhost` and the node's own.
    pub hosts: Vec<String>,
    /// Whether it may be open to whoever reaches it.
    pub allow_anyone: bool,
    /// Its TLS.
    pub tls: Option<TlsConfig>,
}

const PEER_PORT: u16 = 10_001;
const API_PORT: u16 = 8000;
/// How far above the peer plane's port the operators' is by default.
const ADMIN_PORT_OFFSET: u16 = 1000;
const WEIGHT: RangeInclusive<u32> = 1..=WEIGHT_MAX;
/// Less could not hold a large value.
const COMPRESSION_MEMORY: RangeInclusive<u64> = 1 << 20..=1 << 40;
const MEMORY: RangeInclusive<u64> = 64 << 10..=1 << 50;
const SOCKET: &str = "an ip address with a port; write for example \"127.0.0.1:10001\"";

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl Default for NodeConfig {
    fn default() -> Self {
        let listen = loopback(PEER_PORT);
        let advertise = advertise_default(listen).expect("the default has a port and is not unspecified");
        Self {
            listen,
            advertise,
            weight: 1,
            memory: 256 << 20,
            seal: SealConfig::default(),
            allow_anyone: false,
            tls: None,
        }
    }
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: loopback(API_PORT),
            cors_origins: Vec::new(),
            compression_memory: 16 << 20,
            tls: None,
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: loopback(PEER_PORT + ADMIN_PORT_OFFSET),
            hosts: Vec::new(),
            allow_anyone: false,
            tls: None,
        }
    }
}

/// What other nodes can dial to reach `listen`; `None` if that does not tell, or has no fixed port.
fn advertise_default(listen: SocketAddr) -> Option<Address> {
    let text = match listen.ip() {
        ip if ip.is_unspecified() => return None,
        ip if ip.is_loopback() => format!("localhost:{}", listen.port()),
        _ => listen.to_string(),
    };
    Address::new(&text).ok()
}

impl NodeConfig {
    /// Reads the keys of `[node]`, and checks them. `port` takes the place of the configured one.
    pub(super) fn read(section: &mut Section<'_>, port: Option<u16>) -> Self {
        let default = Self::default();
        let mut listen = section.parsed("listen", default.listen, SOCKET);
        if let Some(port) = port {
            listen.set_port(port);
            section.replace("listen", &listen, "--port");
        }
        let config = Self {
            listen,
            advertise: Self::read_advertise(section, listen, port),
            weight: section.integer("weight", default.weight, WEIGHT),
            memory: section.bytes("memory", default.memory),
            seal: SealConfig::read(section),
            allow_anyone: section.bool("allow_anyone", default.allow_anyone),
            // A section of its own.
            tls: None,
        };
        section.check(config.validate());
        config
    }

    fn read_advertise(section: &mut Section<'_>, listen: SocketAddr, port: Option<u16>) -> Address {
        let is_given = section.is_given("advertise");
        let default = advertise_default(listen);
        if default.is_none() && !is_given && listen.port() != 0 {
            section.fault(
                "advertise",
                format!(
                    "it is missing: {listen} listens on every interface, and peers need one address; \
                     write for example advertise = \"10.0.0.7:{}\"",
                    listen.port()
                ),
            );
        }
        let fallback = default.unwrap_or_else(|| Self::default().advertise);
        let expected = "an address that peers can dial; write for example \"localhost:10001\"";
        let advertise = section.parsed("advertise", fallback, expected);
        let moved = port.filter(|_| is_given).and_then(|port| {
            let (host, _) = advertise.as_str().rsplit_once(':')?;
            Address::new(&format!("{host}:{port}")).ok()
        });
        match moved {
            Some(moved) => {
                section.replace("advertise", &moved, "--port");
                moved
            }
            None => advertise,
        }
    }

    /// Whether every value lies within its bounds.
    ///
    /// # Errors
    /// Every value that does not, under its key in the section.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        if self.listen.port() == 0 {
            let message =
                "port 0 means any port, and peers need a known one; write for example \"127.0.0.1:10001\"";
            checks.fault("listen", message);
        }
        checks.number("weight", self.weight, &WEIGHT);
        checks.bytes("memory", self.memory, &MEMORY);
        if let Some(tls) = &self.tls {
            checks.nest("tls", tls.validate());
        }
        checks.finish()
    }
}

impl ApiConfig {
    /// Reads the keys of `[api]`. The flag's effect on the key `enabled` is in the flag layer already.
    pub(super) fn read(section: &mut Section<'_>, flag: Option<ApiAddress>) -> Self {
        let default = Self::default();
        let enabled = section.bool("enabled", default.enabled);
        let mut listen = section.parsed("listen", default.listen, SOCKET);
        if let Some(ApiAddress::Port(port)) = flag {
            listen.set_port(port);
            section.replace("listen", &listen, "--api");
        }
        let expected = "an origin; write for example \"https://app.example\", or \"*\" for every one";
        let config = Self {
            enabled,
            listen,
            cors_origins: section.parsed_list("cors_origins", default.cors_origins, expected),
            compression_memory: section.bytes("compression_memory", default.compression_memory),
            // A section of its own.
            tls: None,
        };
        section.check(config.validate());
        config
    }

    /// Whether every value lies within its bounds.
    ///
    /// # Errors
    /// Every value that does not, under its key in the section.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        if self.compression_memory != 0 {
            checks.bytes("compression_memory", self.compression_memory, &COMPRESSION_MEMORY);
        }
        checks.finish()
    }
}

impl AdminConfig {
    /// Reads the keys of `[admin]`, whose default follows the peer plane's port.
    pub(super) fn read(section: &mut Section<'_>, peer_port: u16) -> Self {
        let port = peer_port.checked_add(ADMIN_PORT_OFFSET);
        if port.is_none() && !section.is_given("listen") {
            section.fault(
                "listen",
                format!(
                    "it is missing: its default, the peer port {peer_port} + {ADMIN_PORT_OFFSET}, is not a port; \
                     write for example listen = \"127.0.0.1:9000\""
                ),
            );
        }
        let default = loopback(port.unwrap_or(PEER_PORT + ADMIN_PORT_OFFSET));
        Self {
            listen: section.parsed("listen", default, SOCKET),
            hosts: section.strings("hosts", &[]),
            allow_anyone: section.bool("allow_anyone", false),
            tls: None,
        }
    }
}
