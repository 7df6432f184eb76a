//! Requests to etcd: to one member at a time, and to the next one when that fails.
//!
//! etcd-client can spread its requests over all endpoints, but it never ejects a dead one, and a paused one swallows
//! its share. So each endpoint has a client of its own, all requests go to the current one while it answers, and a
//! failure moves everyone to the next. Clients are made once, when they are first needed, and reconnect by themselves.

use std::{
    fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use thiserror::Error;
use tokio::{sync::OnceCell, time::timeout};

use super::super::config::EtcdConfig;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one member may take to answer. A change of leader takes longer; then the next attempt gets the answer.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// After so long without a byte on a connection the member is asked for a sign of life, and given as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// gRPC status codes with which a member speaks for all of etcd, so that another would say the same: invalid argument,
/// not found, already exists, permission denied, failed precondition, out of range, unimplemented, unauthenticated.
const FINAL_CODES: [i32; 8] = [3, 5, 6, 7, 9, 11, 12, 16];
const NOT_FOUND: i32 = 5;
const FAILED_PRECONDITION: i32 = 9;

/// Why etcd can't be used as configured.
#[derive(Debug, Error)]
pub enum EtcdSetupError {
    /// A file of `[etcd]` can't be read.
    #[error("can't read {} (etcd.{key})", path.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file of `[etcd]` holds something else.
    #[error("{} (etcd.{key}) holds no {what} in PEM", path.display())]
    Pem {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is due there.
        what: &'static str,
    },
    /// A node without an id can't be told from another at its address.
    #[error("the node has no id")]
    NoId,
}

/// Why a request to etcd failed.
#[derive(Debug, Error)]
pub(super) enum EtcdError {
    /// No member answered, each for a reason of its own; this is the last one's.
    #[error("no member of etcd answers, {endpoint} the last of them")]
    OutOfReach {
        endpoint: String,
        #[source]
        source: etcd_client::Error,
    },
    /// No member answered in time.
    #[error("no member of etcd answers within {CALL_TIMEOUT:?}, {endpoint} the last of them")]
    Silent { endpoint: String },
    /// etcd answered, and the answer is no.
    #[error("etcd refuses")]
    Refused(#[source] etcd_client::Error),
}

impl EtcdError {
    /// Whether the lease that the request was about does not exist (any more).
    pub(super) fn is_lease_gone(&self) -> bool {
        match self {
            // The variant, and not its text: it has no other meaning where a lease is kept alive.
            Self::Refused(etcd_client::Error::LeaseKeepAliveError(_)) => true,
            Self::Refused(error) => code(error) == Some(NOT_FOUND),
            Self::OutOfReach { .. } | Self::Silent { .. } => false,
        }
    }

    /// Whether a lease could not be granted because it has been already, by an attempt whose answer was lost.
    pub(super) fn is_lease_there(&self) -> bool {
        matches!(self, Self::Refused(error) if code(error) == Some(FAILED_PRECONDITION))
    }
}

fn code(error: &etcd_client::Error) -> Option<i32> {
    match error {
        etcd_client::Error::GRpcStatus(status) => Some(status.code() as i32),
        _ => None,
    }
}

/// Whether another member would give the same answer.
fn is_final(error: &etcd_client::Error) -> bool {
    match error {
        etcd_client::Error::LeaseKeepAliveError(_) => true,
        error => code(error).is_some_and(|code| FINAL_CODES.contains(&code)),
    }
}

/// Which member gave an answer that is a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source(usize);

/// The members of etcd.
pub(super) struct Etcd {
    endpoints: Vec<Endpoint>,
    options: ConnectOptions,
    current: AtomicUsize,
}

struct Endpoint {
    url: String,
    client: OnceCell<Client>,
}

impl EtcdConfig {
    /// Reads the files that it names.
    ///
    /// # Errors
    /// One that can't be read, or holds something else.
    pub fn check_files(&self) -> Result<(), EtcdSetupError> {
        Etcd::new(self).map(drop)
    }
}

impl Etcd {
    /// Reads the files that the configuration names; connects to nothing yet.
    pub(super) fn new(config: &EtcdConfig) -> Result<Self, EtcdSetupError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(CALL_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE)
            .with_keep_alive_while_idle(true)
            .with_auto_token_refresh(true)
            .with_require_leader(true);
        if let (Some(user), Some(password)) = (&config.user, &config.password) {
            options = options.with_user(user, password.expose());
        }
        if let Some(ca) = config.ca.as_ref().filter(|_| config.has_tls()) {
            let ca = read_pem::<CertificateDer<'_>>("ca", ca, "certificate")?;
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
            if let (Some(cert), Some(key)) = (&config.cert, &config.key) {
                let cert = read_pem::<CertificateDer<'_>>("cert", cert, "certificate")?;
                let key = read_pem::<PrivateKeyDer<'_>>("key", key, "private key")?;
                tls = tls.identity(Identity::from_pem(cert, key));
            }
            options = options.with_tls(tls);
        }
        let endpoint = |url: &super::super::EtcdEndpoint| Endpoint {
            url: url.as_str().to_owned(),
            client: OnceCell::new(),
        };
        let endpoints: Vec<_> = config.endpoints.iter().map(endpoint).collect();
        // Nodes spread over the members.
        let current = AtomicUsize::new(fastrand::usize(..endpoints.len().max(1)));
        Ok(Self { endpoints, options, current })
    }

    /// Makes a request of the current member, and of the others in turn while it fails. Each may take
    /// [`CALL_TIMEOUT`]. `request` must be safe to repeat: an attempt whose answer was lost may have worked.
    ///
    /// Cancel safety: a dropped future abandons the attempt under way, which may still work.
    pub(super) async fn call<T, R>(&self, request: impl Fn(Client) -> R + Send) -> Result<T, EtcdError>
    where
        R: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        self.call_for(CALL_TIMEOUT, request).await.map(|(answer, _)| answer)
    }

    /// As [`call`](Self::call), with another patience, and with the member that answered.
    pub(super) async fn call_for<T, R>(
        &self,
        patience: Duration,
        request: impl Fn(Client) -> R + Send,
    ) -> Result<(T, Source), EtcdError>
    where
        R: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let mut failure = None;
        for _ in &self.endpoints {
            let source = Source(self.current.load(Ordering::Relaxed) % self.endpoints.len());
            let endpoint = &self.endpoints[source.0];
            let attempt = async { request(self.client(endpoint).await?).await };
            failure = Some(match timeout(patience, attempt).await {
                Ok(Ok(answer)) => return Ok((answer, source)),
                Ok(Err(error)) if is_final(&error) => return Err(EtcdError::Refused(error)),
                Ok(Err(error)) => EtcdError::OutOfReach { endpoint: endpoint.url.clone(), source: error },
                Err(_) => EtcdError::Silent { endpoint: endpoint.url.clone() },
            });
            self.blame(source);
        }
        Err(failure.unwrap_or_else(|| EtcdError::Silent { endpoint: "none".to_owned() }))
    }

    /// Moves on from a member that failed, if nobody else has yet.
    pub(super) fn blame(&self, source: Source) {
        let next = (source.0 + 1) % self.endpoints.len().max(1);
        // If it was another's turn already, somebody else moved on, and all is well.
        let _ = self.current.compare_exchange(source.0, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The endpoint's client. Making one connects to nothing, unless there is a user, for whom it fetches a token.
    async fn client(&self, endpoint: &Endpoint) -> Result<Client, etcd_client::Error> {
        let connect = || Client::connect([endpoint.url.as_str()], Some(self.options.clone()));
        endpoint.client.get_or_try_init(connect).await.cloned()
    }
}

/// The options hold the password.
impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let urls: Vec<_> = self.endpoints.iter().map(|endpoint| &endpoint.url).collect();
        f.debug_struct("Etcd").field("endpoints", &urls).finish_non_exhaustive()
    }
}

/// The bytes of a file that must hold a `T` in PEM: else the first connection would fail, and not say why.
fn read_pem<T: PemObject>(
    key: &'static str,
    path: &Path,
    what: &'static str,
) -> Result<Vec<u8>, EtcdSetupError> {
    let bytes =
        fs::read(path).map_err(|source| EtcdSetupError::File { key, path: path.to_owned(), source })?;
    match T::from_pem_slice(&bytes) {
        Ok(_) => Ok(bytes),
        // The cause may repeat a line of the file, and the file may be a key.
        Err(_) => Err(EtcdSetupError::Pem { key, path: path.to_owned(), what }),
    }
}
