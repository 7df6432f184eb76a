//! What a client is made of, with its defaults.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use thiserror::Error;

use super::{
    Client, Endpoint, Endpoints, Shared, StaticEndpoints,
    nodes::Nodes,
    retry::RetryBudget,
    token::Authorization,
    wire::{Connect, Wires},
};
use crate::net::{Dialler, TlsError};

/// Builds a [`Client`].
#[derive(Debug)]
pub struct ClientBuilder {
    endpoints: Option<Arc<dyn Endpoints>>,
    deadline: Duration,
    connect_timeout: Duration,
    value_bytes_max: usize,
    ca: Option<PathBuf>,
    token: Option<Secret>,
}

/// Kept out of `Debug`.
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A client can't be built.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error("the client has no address of a node, and needs at least one")]
    NoAddresses,
    #[error("the deadline is zero, and a read needs some time")]
    NoTime,
    #[error("the file of authorities can't be used")]
    Authorities(#[source] TlsError),
    #[error("the token is empty, or has characters other than visible ASCII")]
    Token,
    #[error("the HTTP client can't be built")]
    Http(#[source] reqwest::Error),
    #[cfg(feature = "grpc")]
    #[error("the gRPC client can't be built")]
    Grpc(#[source] tonic::transport::Error),
    #[cfg(not(feature = "grpc"))]
    #[error("{0} can't be asked: this build does not speak gRPC")]
    NoGrpc(Endpoint),
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            endpoints: None,
            deadline: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            value_bytes_max: 64 << 20,
            ca: None,
            token: None,
        }
    }
}

impl ClientBuilder {
    /// Asks these nodes, and no others. An address that is there twice is asked as one.
    #[must_use]
    pub fn addresses(self, addresses: impl IntoIterator<Item = Endpoint>) -> Self {
        self.endpoints(StaticEndpoints::new(addresses))
    }

    /// Asks the nodes that `endpoints` tells of, which may come and go. If it tells of none after it has told of some,
    /// those are asked still.
    #[must_use]
    pub fn endpoints(mut self, endpoints: impl Endpoints) -> Self {
        self.endpoints = Some(Arc::new(endpoints));
        self
    }

    /// How long a read may take with all its attempts; 2 s by default. One attempt takes at most a third of it, and
    /// may take 50 ms.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long a connection may take to come about; 1 s by default, and never longer than an attempt.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The largest value that is read, in bytes; 64 MiB by default.
    #[must_use]
    pub const fn value_bytes_max(mut self, bytes: usize) -> Self {
        self.value_bytes_max = bytes;
        self
    }

    /// A file with the certificates, in PEM, of the authorities that vouch for the nodes; by default they are the
    /// system's. Only endpoints with TLS ask for any.
    #[must_use]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// Shows a token with each request, as `authorization: Bearer …`. Without TLS whoever is on the way reads it.
    #[must_use]
    pub fn bearer_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Secret(token.into()));
        self
    }

    /// The client. It connects when it is first asked.
    ///
    /// # Errors
    /// See [`BuildError`]. Addresses that come later and can't be asked are left out, with a warning in the log.
    pub fn build(self) -> Result<Client, BuildError> {
        let dialler = match &self.ca {
            Some(file) => Dialler::from_file(file).map_err(BuildError::Authorities)?,
            None if self.may_need_tls() => Dialler::system(),
            None => Dialler::nobody(),
        };
        let token = self.token.as_ref().map(|Secret(token)| Authorization::bearer(token)).transpose()?;
        let wires = Wires::new(self.connect_timeout, self.value_bytes_max, dialler, token)?;
        self.build_with(Box::new(wires))
    }

    /// Whether a node is asked by TLS, or one may come that is.
    fn may_need_tls(&self) -> bool {
        self.endpoints.as_ref().is_some_and(|endpoints| {
            let known = endpoints.watch();
            !endpoints.is_final() || known.borrow().iter().any(|endpoint| endpoint.protocol.has_tls())
        })
    }

    pub(super) fn build_with(self, connect: Box<dyn Connect>) -> Result<Client, BuildError> {
        let endpoints = self.endpoints.ok_or(BuildError::NoAddresses)?;
        if self.deadline.is_zero() {
            return Err(BuildError::NoTime);
        }
        if endpoints.is_final() {
            let known = endpoints.watch();
            let known = known.borrow();
            if known.is_empty() {
                return Err(BuildError::NoAddresses);
            }
            known.iter().try_for_each(|endpoint| connect.connect(endpoint).map(drop))?;
        }
        let shared = Shared {
            nodes: Nodes::new(endpoints, connect, fastrand::usize(..)),
            budget: RetryBudget::new(),
            deadline: self.deadline,
        };
        Ok(Client(Arc::new(shared)))
    }
}
