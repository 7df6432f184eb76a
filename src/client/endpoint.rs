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
    /// By the gRPC service `GGroupCache`, at the node's api or peer plane. Keys are text.
    Grpc,
}

/// Where and how one node is asked. Written `http://host:port` or `grpc://host:port`; without a scheme it is HTTP.
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
    #[error("{0:?} has a scheme other than http and grpc; write for example http://127.0.0.1:8000")]
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
            Some(("http", rest)) => (Protocol::Http, rest),
            Some(("grpc", rest)) => (Protocol::Grpc, rest),
            Some(_) => return Err(EndpointError::Scheme(echo())),
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
        let scheme = match self.protocol {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
        };
        write!(f, "{scheme}://{}", self.address)
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
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.to_string(), written);
        }
        for (text, message) in [
            ("https://localhost:8000", "other than http and grpc"),
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
