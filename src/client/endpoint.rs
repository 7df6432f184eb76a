//! Where nodes are asked, and how a client learns it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use thiserror::Error;
use tokio::sync::watch;

use crate::cluster::{Address, AddressError};

/// How a node is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Over HTTP, at the node's api plane. Keys are any bytes.
    Http,
    /// As [`Http`](Self::Http), with TLS.
    Https,
    /// By the gRPC service `GGroupCache`, at the node's api or peer plane. Keys are text.
    Grpc,
    /// As [`Grpc`](Self::Grpc), with TLS.
    Grpcs,
}

impl Protocol {
    const ALL: [Self; 4] = [Self::Http, Self::Https, Self::Grpc, Self::Grpcs];

    /// The scheme in an endpoint's URL.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    /// Whether it is spoken by TLS.
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }

    /// The same with TLS, or without.
    #[must_use]
    pub const fn with_tls(self, has_tls: bool) -> Self {
        match (self, has_tls) {
            (Self::Http | Self::Https, false) => Self::Http,
            (Self::Http | Self::Https, true) => Self::Https,
            (Self::Grpc | Self::Grpcs, false) => Self::Grpc,
            (Self::Grpc | Self::Grpcs, true) => Self::Grpcs,
        }
    }
}

/// Where and how one node is asked. Written `http://host:port` or `grpc://host:port`, with TLS `https://host:port` or
/// `grpcs://host:port`; without a scheme it is HTTP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// How.
    pub protocol: Protocol,
    /// Where.
    pub address: Address,
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    #[error(
        "{0:?} has a scheme other than http, https, grpc and grpcs; write for example http://127.0.0.1:8000"
    )]
    Scheme(String),
    #[error("{0:?} has something after the port; write for example http://127.0.0.1:8000")]
    Path(String),
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl Endpoint {
    /// The api plane at `address`.
    pub const fn http(address: Address) -> Self {
        Self { protocol: Protocol::Http, address }
    }

    /// The gRPC service at `address`.
    pub const fn grpc(address: Address) -> Self {
        Self { protocol: Protocol::Grpc, address }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let echo = || text.chars().take(80).collect::<String>();
        let (protocol, rest) = match text.split_once("://") {
            None => (Protocol::Http, text),
            Some((scheme, rest)) => {
                let known = Protocol::ALL.into_iter().find(|protocol| protocol.scheme() == scheme);
                (known.ok_or_else(|| EndpointError::Scheme(echo()))?, rest)
            }
        };
        let address = rest.strip_suffix('/').unwrap_or(rest);
        if address.contains(['/', '?', '#', '@']) {
            return Err(EndpointError::Path(echo()));
        }
        Ok(Self { protocol, address: Address::new(address)? })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.protocol.scheme(), self.address)
    }
}

/// Tells a client which nodes there are.
pub trait Endpoints: fmt::Debug + Send + Sync + 'static {
    /// The nodes, now and whenever they change; empty while they are not known yet. The client keeps the
    /// implementation for as long as it watches.
    fn watch(&self) -> watch::Receiver<Vec<Endpoint>>;

    /// Whether the list never changes, so that a client can refuse an empty one when it is built.
    fn is_final(&self) -> bool {
        false
    }
}

/// Nodes that are known beforehand.
#[derive(Debug)]
pub struct StaticEndpoints(watch::Sender<Vec<Endpoint>>);

impl StaticEndpoints {
    /// These, each once.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let mut seen = BTreeSet::new();
        let endpoints = endpoints.into_iter().filter(|endpoint| seen.insert(endpoint.clone())).collect();
        Self(watch::Sender::new(endpoints))
    }
}

impl Endpoints for StaticEndpoints {
    fn watch(&self) -> watch::Receiver<Vec<Endpoint>> {
        self.0.subscribe()
    }

    fn is_final(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_written_as_urls() {
        for (text, written) in [
            ("http://localhost:8000", "http://localhost:8000"),
            ("http://localhost:8000/", "http://localhost:8000"),
            ("localhost:8000", "http://localhost:8000"),
            ("grpc://[::1]:10001", "grpc://[::1]:10001"),
            ("https://localhost:8000/", "https://localhost:8000"),
            ("grpcs://localhost:10001", "grpcs://localhost:10001"),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.to_string(), written);
        }
        for (text, message) in [
            ("ftp://localhost:8000", "other than http, https, grpc and grpcs"),
            ("http://localhost:8000/api", "after the port"),
            ("http://user@localhost:8000", "after the port"),
            ("http://localhost", "has no port"),
            ("", "the address is empty"),
        ] {
            let error = text.parse::<Endpoint>().expect_err(text).to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn a_static_list_holds_each_once() {
        let endpoints = ["b:1", "a:1", "b:1"].map(|text| text.parse().expect(text));
        let list = StaticEndpoints::new(endpoints).watch().borrow().clone();
        assert_eq!(list.iter().map(|e| e.address.as_str()).collect::<Vec<_>>(), ["b:1", "a:1"]);
    }
}
