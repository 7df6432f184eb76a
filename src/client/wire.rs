//! How one node is asked once, whatever the protocol.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{BuildError, Endpoint, Protocol, error::Failure, http::HttpClient};
use crate::group::{BoxFuture, GroupName, Key};

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
}

impl Wires {
    pub(super) fn new(connect_timeout: Duration, value_bytes_max: usize) -> Result<Self, BuildError> {
        Ok(Self {
            http: HttpClient::new(connect_timeout, value_bytes_max)?,
            #[cfg(feature = "grpc")]
            connect_timeout,
            #[cfg(feature = "grpc")]
            value_bytes_max,
        })
    }
}

impl Connect for Wires {
    fn connect(&self, endpoint: &Endpoint) -> Result<Arc<dyn Wire>, BuildError> {
        match endpoint.protocol {
            Protocol::Http => Ok(Arc::new(self.http.wire(endpoint))),
            #[cfg(feature = "grpc")]
            Protocol::Grpc => {
                let wire = super::grpc::GrpcWire::new(endpoint, self.connect_timeout, self.value_bytes_max)?;
                Ok(Arc::new(wire))
            }
            #[cfg(not(feature = "grpc"))]
            Protocol::Grpc => Err(BuildError::NoGrpc(endpoint.clone())),
        }
    }
}
