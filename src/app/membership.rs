//! How this node is in the cluster, and how it leaves: by the discovery that the configuration names.

use std::net::IpAddr;

use crate::{
    cluster::Node,
    config::Config,
    discovery::{Discovery, DiscoveryKind, StaticList, StaticListHandle},
    gateway::{DiscoveryReport, DiscoverySource},
    telemetry::NodeMetrics,
};

/// How long a leaving node tries to withdraw from etcd. Its entry goes by itself when its lease ends.
#[cfg(feature = "etcd")]
const LEAVE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// What is left in hand of a discovery that runs.
#[derive(Clone, Debug)]
pub(super) enum Membership {
    /// The list can be changed.
    List(StaticListHandle),
    /// The entry can be withdrawn.
    #[cfg(feature = "etcd")]
    Etcd(crate::discovery::EtcdHandle),
}

impl Membership {
    /// The discovery that the configuration names, for node `me`.
    pub(super) fn new(
        config: &Config,
        me: &Node,
        metrics: &NodeMetrics,
    ) -> anyhow::Result<(Box<dyn Discovery>, Self)> {
        match config.cluster.discovery {
            DiscoveryKind::Static => {
                let (list, handle) = StaticList::new(config.cluster.peers.clone());
                Ok((Box::new(list), Self::List(handle)))
            }
            #[cfg(feature = "etcd")]
            DiscoveryKind::Etcd => {
                let (discovery, handle) =
                    crate::discovery::EtcdDiscovery::new(&config.etcd, &config.cluster, me.clone(), metrics)?;
                Ok((Box::new(discovery), Self::Etcd(handle)))
            }
            #[cfg(not(feature = "etcd"))]
            DiscoveryKind::Etcd => {
                let _ = (me, metrics);
                anyhow::bail!("etcd is not in this build")
            }
        }
    }

    /// Ends when nothing in the membership keeps the node from wanting requests. Cancel safe.
    pub(super) async fn admitted(&self) {
        match self {
            Self::List(_) => {}
            #[cfg(feature = "etcd")]
            Self::Etcd(handle) => handle.admitted().await,
        }
    }

    /// Tells the others that this node leaves; whether they have been told. It is not an error that they could not be.
    pub(super) async fn leave(&self) -> bool {
        match self {
            Self::List(_) => false,
            #[cfg(feature = "etcd")]
            Self::Etcd(handle) => match handle.leave(LEAVE_PATIENCE).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the node leaves unannounced");
                    false
                }
            },
        }
    }

    /// The list, if members come from one.
    pub(super) const fn list(&self) -> Option<&StaticListHandle> {
        match self {
            Self::List(handle) => Some(handle),
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => None,
        }
    }
}

impl DiscoverySource for Membership {
    fn report(&self) -> DiscoveryReport {
        match self {
            Self::List(_) => DiscoveryReport {
                kind: "static",
                listed: true,
                connected: None,
                registered: None,
                foreign: Vec::new(),
                foreign_count: 0,
            },
            #[cfg(feature = "etcd")]
            Self::Etcd(handle) => {
                let status = handle.status();
                DiscoveryReport {
                    kind: "etcd",
                    listed: status.has_listed,
                    connected: Some(status.has_listed && status.away_for.is_none()),
                    registered: Some(status.is_registered),
                    foreign: status.foreign,
                    foreign_count: status.foreign_count,
                }
            }
        }
    }
}

/// What `me` says of its API to others: where it listens, or that port at its own host if that is every interface, with
/// `https://` before it where the API speaks TLS.
/// Nothing, if only this machine reaches the API and others reach the node: they would dial themselves.
pub(super) fn api_address(config: &Config) -> Option<String> {
    let listen = config.api.enabled.then_some(config.api.listen)?;
    let host = config.node.advertise.host();
    let address = match listen.ip().to_canonical() {
        ip if ip.is_unspecified() => Some(match host.parse() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]:{}", listen.port()),
            _ => format!("{host}:{}", listen.port()),
        }),
        ip if ip.is_loopback() && !is_loopback(host) => None,
        _ => Some(listen.to_string()),
    };
    match &config.api.tls {
        Some(_) => address.map(|address| format!("https://{address}")),
        None => address,
    }
}

/// Whether `host` means the machine on which it is said: `localhost` and names below it (RFC 6761), and addresses.
fn is_loopback(host: &str) -> bool {
    let is_below = |host: &str| host.to_ascii_lowercase().ends_with(".localhost");
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost") || is_below(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::Address,
        net::{TlsConfig, TlsPlane},
    };

    #[test]
    fn an_api_is_told_of_where_others_reach_it() {
        for (listen, advertise, told) in [
            ("127.0.0.1:8000", "localhost:10001", Some("127.0.0.1:8000")),
            ("127.0.0.1:8000", "127.0.0.2:10001", Some("127.0.0.1:8000")),
            ("[::1]:8000", "n1.LocalHost:10001", Some("[::1]:8000")),
            ("127.0.0.1:8000", "10.0.0.7:10001", None),
            ("127.0.0.1:8000", "n1.example:10001", None),
            ("[::1]:8000", "[fd00::7]:10001", None),
            ("[::ffff:127.0.0.1]:8000", "10.0.0.7:10001", None),
            ("10.0.0.7:8000", "n1.example:10001", Some("10.0.0.7:8000")),
            ("0.0.0.0:8000", "n1.example:10001", Some("n1.example:8000")),
            ("[::]:8000", "[fd00::7]:10001", Some("[fd00::7]:8000")),
            ("0.0.0.0:8000", "localhost:10001", Some("localhost:8000")),
        ] {
            let mut config = Config::default();
            config.api.enabled = true;
            config.api.listen = listen.parse().expect("an address");
            config.node.advertise = Address::new(advertise).expect("an address");
            assert_eq!(api_address(&config).as_deref(), told, "{listen} {advertise}");
        }
        assert_eq!(api_address(&Config::default()), None, "it is off");
        let mut config = Config::default();
        config.api.enabled = true;
        let (cert, key) = ("api.pem".into(), "api.key".into());
        config.api.tls = Some(TlsConfig { plane: TlsPlane::Api, cert, key, ca: None });
        assert_eq!(api_address(&config).as_deref(), Some("https://127.0.0.1:8000"));
    }
}
