//! How one node is asked once, whatever the protocol.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{BuildError, Endpoint, Protocol, error::Failure, http::HttpClient, token::Authorization};
use crate::{
    group::{BoxFuture, GroupName, Key},
    net::Dialler,
};

/// A value, and what the answer said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The value.
    pub bytes: Bytes,
    /// Its media type. Over gRPC it is not told.
    pub content_type: Option<String>,
    /// Its strong entity tag, quotes included. Over gRPC it is not told.
    pub etag: Option<String>,
    /// Which caches it came through (RFC 9211), the owner's first. Over gRPC it is not told.
    pub cache_status: Option<String>,
    /// The node that answered.
    pub node: Endpoint,
    /// How often a node was asked, that one included.
    pub attempts: usize,
}

/// One node. Implementations pool connections; none of them retries.
///
/// Cancel safety: a dropped future abandons the request.
pub(super) trait Wire: fmt::Debug + Send + Sync {
    /// Asks the node for a key; `None` if there is no such key. `patience` is how long the caller will wait, and the
    /// caller sees to that.
    fn get<'a>(
        &'a self,
        group: &'a GroupName,
        key: &'a Key,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Option<Fetched>, Failure>>;
}

/// Makes wires. Nothing is dialled before the first question.
pub(super) trait Connect: fmt::Debug + Send + Sync {
    /// The wire to `endpoint`.
    fn connect(&self, endpoint: &Endpoint) -> Result<Arc<dyn Wire>, BuildError>;
}

/// The protocols that this build speaks.
#[derive(Debug)]
pub(super) struct Wires {
    http: HttpClient,
    #[cfg(feature = "grpc")]
    connect_timeout: Duration,
    #[cfg(feature = "grpc")]
    value_bytes_max: usize,
    #[cfg(feature = "grpc")]
    dialler: Dialler,
    #[cfg(feature = "grpc")]
    token: Option<Authorization>,
}

impl Wires {
    pub(super) fn new(
        connect_timeout: Duration,
        value_bytes_max: usize,
        dialler: Dialler,
        token: Option<Authorization>,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            http: HttpClient::new(connect_timeout, value_bytes_max, &dialler, token.as_ref())?,
            #[cfg(feature = "grpc")]
            connect_timeout,
            #[cfg(feature = "grpc")]
            value_bytes_max,
            #[cfg(feature = "grpc")]
            dialler,
            #[cfg(feature = "grpc")]
            token,
        })
    }
}

impl Connect for Wires {
    fn connect(&self, endpoint: &Endpoint) -> Result<Arc<dyn Wire>, BuildError> {
        match endpoint.protocol {
            Protocol::Http | Protocol::Https => Ok(Arc::new(self.http.wire(endpoint))),
            #[cfg(feature = "grpc")]
            Protocol::Grpc | Protocol::Grpcs => {
                let tls = Some(&self.dialler).filter(|_| endpoint.protocol.has_tls());
                let (timeout, bytes_max) = (self.connect_timeout, self.value_bytes_max);
                let wire = super::grpc::GrpcWire::new(endpoint, timeout, bytes_max, tls, self.token.clone())?;
                Ok(Arc::new(wire))
            }
            #[cfg(not(feature = "grpc"))]
            Protocol::Grpc | Protocol::Grpcs => Err(BuildError::NoGrpc(endpoint.clone())),
        }
    }
}
