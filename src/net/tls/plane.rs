//! One plane's TLS: the handshake with those who dial it, and the files read again.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

#[cfg(feature = "grpc")]
use super::HTTP_2;
use super::{
    Dialler, HTTP_1, Identity, TlsConfig, TlsError, TlsPlane,
    dial::Papers,
    files::{Files, Material},
    provider,
};

/// The TLS of one plane. Clones share it, and what it is exchanged for.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    config: TlsConfig,
    /// The name that peers dial.
    host: Option<String>,
    current: ArcSwap<Current>,
    /// For the plane of those whom this node dials in turn.
    papers: Option<Arc<Papers>>,
    /// Of the files that `current` was made from. Held while they are read again.
    digest: Mutex<[u8; 32]>,
}

/// What new handshakes go by. Exchanged whole: a verifier lends out the names of its authorities, and so can't be
/// changed under a configuration that is in use.
struct Current {
    server: Arc<ServerConfig>,
    ends: SystemTime,
}

impl Tls {
    /// Reads the files of a plane for clients. Blocks for as long as that takes.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn for_clients(config: &TlsConfig) -> Result<Self, TlsError> {
        Self::new(config, None)
    }

    /// As [`for_clients`](Self::for_clients), for the peer plane of a node that others dial by `host`: its certificate
    /// must be one that they believe.
    ///
    /// # Errors
    /// The first thing that is wrong with the files.
    pub fn for_peers(config: &TlsConfig, host: &str) -> Result<Self, TlsError> {
        Self::new(config, Some(host.to_owned()))
    }

    fn new(config: &TlsConfig, host: Option<String>) -> Result<Self, TlsError> {
        let files = Files::read(config)?;
        let digest = Mutex::new(files.digest());
        let material = files.into_material(config.plane, host.as_deref())?;
        let is_dialled = config.plane == TlsPlane::Peer;
        let papers = is_dialled.then(|| Papers::new(&material).map(Arc::new)).transpose()?;
        let current = ArcSwap::from_pointee(Current::new(config.plane, &material)?);
        Ok(Self(Arc::new(Shared { config: config.clone(), host, current, papers, digest })))
    }

    /// Reads the files again, and goes by them in new handshakes if they have changed; whether they have. Blocks for as
    /// long as that takes.
    ///
    /// # Errors
    /// If they can't be used. Then nothing changes.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let shared = &*self.0;
        let mut digest = shared.digest.lock();
        let files = Files::read(&shared.config)?;
        let found = files.digest();
        if *digest == found {
            return Ok(false);
        }
        let material = files.into_material(shared.config.plane, shared.host.as_deref())?;
        let current = Current::new(shared.config.plane, &material)?;
        if let Some(papers) = &shared.papers {
            papers.exchange(&material)?;
        }
        shared.current.store(Arc::new(current));
        *digest = found;
        Ok(true)
    }

    /// Whether the files could be used as they are now. Blocks for as long as that takes.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn check(&self) -> Result<(), TlsError> {
        Self::new(&self.0.config, self.0.host.clone()).map(drop)
    }

    /// Whose it is.
    pub fn plane(&self) -> TlsPlane {
        self.0.config.plane
    }

    /// When the first certificate of the chain that is shown ends.
    pub fn ends(&self) -> SystemTime {
        self.0.current.load().ends
    }

    /// How this node dials its peers, with the same certificate and authorities; `None` but for the peer plane.
    pub fn dialler(&self) -> Option<Dialler> {
        self.0.papers.as_ref().map(Dialler::with)
    }

    /// Shakes hands with who has connected, within `patience`. The identity is that of a verified certificate; none if
    /// the client showed none, and need not.
    ///
    /// # Errors
    /// If the handshake fails, or takes too long.
    pub(in super::super) async fn accept<S>(
        &self,
        stream: S,
        patience: Duration,
    ) -> io::Result<(TlsStream<S>, Option<Arc<Identity>>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.0.current.load().server));
        let stream = tokio::time::timeout(patience, acceptor.accept(stream)).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))
        })?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity = shown.map(|certificate| Arc::new(Identity::of(certificate)));
        Ok((stream, identity))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Current {
    fn new(plane: TlsPlane, material: &Material) -> Result<Self, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for the versions that rustls has");
        let builder = match material.roots.clone().zip(material.ca.clone()) {
            None => builder.with_no_client_auth(),
            Some((roots, place)) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                // Clients of the gRPC service come by the peer plane too; who must show a certificate is asked there.
                let verifier =
                    if plane == TlsPlane::Peer { verifier.allow_unauthenticated() } else { verifier };
                let verifier = verifier.build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| TlsError::Unusable(place, error.into()))?,
                )
            }
        };
        let resolver = SingleCertAndKey::from(Arc::clone(&material.certified));
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = [
            #[cfg(feature = "grpc")]
            HTTP_2,
            HTTP_1,
        ]
        .map(<[u8]>::to_owned)
        .to_vec();
        if material.roots.is_some() {
            // A session that is resumed would bring its certificate along unseen, however long it has ended.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { server: Arc::new(config), ends: material.ends })
    }
}
