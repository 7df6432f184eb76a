//! What a node's planes are made of: their sockets, and who may speak on them.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::{seals::Seals, tls::Certificates};
use crate::{
    access::Verifier,
    config::Config,
    discovery::TransportKind,
    gateway::{Gateway, GatewayParts},
    group::PeerTransport,
    net::{Rpcs, Tls},
    transport::{HttpTransport, PeerGate, PeerTls, unix_time_ms},
};
#[cfg(feature = "grpc")]
use crate::{
    gateway::{self, OtherService},
    rpc::peer_v1,
    transport::{GrpcTransport, PEER_SERVICE, PeerRpcs},
};

/// The bound sockets of a node.
#[derive(Debug)]
pub struct Listeners {
    /// Other nodes.
    pub peer: TcpListener,
    /// Operators.
    pub admin: TcpListener,
    /// Clients, if the plane is on.
    pub api: Option<TcpListener>,
    /// When they were bound, in milliseconds of Unix time: what peers sealed before was for another process.
    pub since_ms: u64,
}

impl Listeners {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// The first address that can't be bound, with its key.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let since_ms = unix_time_ms();
        let api = if config.api.enabled { Some(bind("api.listen", config.api.listen).await?) } else { None };
        Ok(Self {
            peer: bind("node.listen", config.node.listen).await?,
            admin: bind("admin.listen", config.admin.listen).await?,
            api,
            since_ms,
        })
    }
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address} ({key}); is another program using the port?"))
}

/// What peers are asked by.
pub(super) fn transport(
    config: &Config,
    seals: &Seals,
    certificates: &Certificates,
) -> anyhow::Result<Arc<dyn PeerTransport>> {
    let (connect_timeout, value_bytes) = (config.cluster.peer_timeout, config.limits.value_bytes);
    let dialler = certificates.peer.as_ref().and_then(Tls::dialler);
    let tls = dialler.map(|dialler| PeerTls::new(dialler, config.node.advertise.clone()));
    Ok(match config.cluster.transport {
        TransportKind::Http => {
            Arc::new(HttpTransport::new(connect_timeout, value_bytes, tls)?.sealing(seals.sealer.clone()))
        }
        #[cfg(feature = "grpc")]
        TransportKind::Grpc => {
            Arc::new(GrpcTransport::new(connect_timeout, value_bytes, tls).sealing(seals.sealer.clone()))
        }
    })
}

/// Who may speak the peer protocol, where nodes have certificates.
pub(super) fn peer_gate(config: &Config) -> Option<PeerGate> {
    config.node.tls.as_ref()?;
    let allowed = config.cluster.allowed_peers.clone();
    Some(PeerGate::new(move |host| allowed.allows_host(host)))
}

/// What the peer plane answers over gRPC: other nodes, and clients that found the node in etcd.
#[cfg(feature = "grpc")]
pub(super) fn peer_rpcs(
    config: &Config,
    parts: &GatewayParts,
    gate: Option<PeerGate>,
    verifier: Option<Arc<Verifier>>,
) -> Option<Rpcs> {
    let peers = PeerRpcs::server(
        Arc::clone(&parts.groups),
        Arc::clone(&parts.views),
        parts.metrics.clone(),
        parts.request_timeout,
        gate,
        verifier,
    );
    let service = OtherService { name: PEER_SERVICE, descriptors: peer_v1::DESCRIPTORS };
    // Beyond loopback the plane is open by a secret or certificates, which clients have not.
    let is_guarded = config.node.seal.is_on() || config.node.tls.is_some();
    let beyond_loopback = !config.node.listen.ip().to_canonical().is_loopback();
    let admission = parts.admission.clone();
    let admission = if is_guarded && beyond_loopback { admission.only_tokens() } else { admission };
    let parts = &GatewayParts { admission, ..parts.clone() };
    Some(gateway::client_rpcs(parts, &[service]).add_service(peers).prepare())
}

#[cfg(not(feature = "grpc"))]
pub(super) fn peer_rpcs(
    _: &Config,
    _: &GatewayParts,
    _: Option<PeerGate>,
    _: Option<Arc<Verifier>>,
) -> Option<Rpcs> {
    None
}

/// What the api plane answers over gRPC.
#[cfg(feature = "grpc")]
pub(super) fn api_rpcs(api: &Gateway) -> Option<Rpcs> {
    Some(api.rpcs().prepare())
}

#[cfg(not(feature = "grpc"))]
pub(super) const fn api_rpcs(_: &Gateway) -> Option<Rpcs> {
    None
}
