//! How this node is in the cluster, and how it leaves: by the discovery that the configuration names.

use std::net::IpAddr;

use crate::{
    cluster::Node,
    config::Config,
    discovery::{Discovery, DiscoveryKind, StaticList, StaticListHandle},
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

/// What `me` says of its API to others: where it listens, or that port at its own host if that is every interface.
pub(super) fn api_address(config: &Config) -> Option<String> {
    let listen = config.api.enabled.then_some(config.api.listen)?;
    Some(match listen.ip() {
        ip if !ip.is_unspecified() => listen.to_string(),
        _ => {
            let host = config.node.advertise.host();
            match host.parse() {
                Ok(IpAddr::V6(ip)) => format!("[{ip}]:{}", listen.port()),
                _ => format!("{host}:{}", listen.port()),
            }
        }
    })
}
