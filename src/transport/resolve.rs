//! From a peer's host to the addresses that may be connected to.
//!
//! Who may become a peer is decided by its name (`cluster.allowed_peers`), but a name leads wherever the DNS says, and
//! it may say so only after the name was let in. So it is looked at again here, with each connection: cloud providers
//! serve a machine's credentials under link-local addresses.

use std::{error::Error, net::SocketAddr, vec};

use thiserror::Error;

use crate::cluster::is_never_peer;

/// Resolves names as the machine does, without what is never a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerResolver;

/// A host that leads nowhere else than to link-local addresses.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{0:?} is link-local, and link-local addresses are never peers")]
pub(super) struct LinkLocal(String);

/// Looks at a host that may be an address, with brackets or without: no resolver is asked for one.
///
/// # Errors
/// If it is the address of nobody that may be a peer.
pub(super) fn check_host(host: &str) -> Result<(), LinkLocal> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if bare.parse().is_ok_and(is_never_peer) { Err(LinkLocal(host.to_owned())) } else { Ok(()) }
}

async fn resolve(host: &str) -> Result<vec::IntoIter<SocketAddr>, Box<dyn Error + Send + Sync>> {
    // The caller puts in the port.
    let found = tokio::net::lookup_host((host, 0)).await?;
    Ok(usable(host, found)?.into_iter())
}

/// What of the addresses of `host` may be connected to.
fn usable(host: &str, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, LinkLocal> {
    let (never, usable): (Vec<_>, Vec<_>) = found.partition(|address| is_never_peer(address.ip()));
    if usable.is_empty() && !never.is_empty() { Err(LinkLocal(host.to_owned())) } else { Ok(usable) }
}

impl reqwest::dns::Resolve for PeerResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move { Ok(Box::new(resolve(name.as_str()).await?) as reqwest::dns::Addrs) })
    }
}

#[cfg(feature = "grpc")]
mod grpc {
    use std::task::{Context, Poll};

    use hyper_util::client::legacy::connect::dns::Name;
    use tower::Service;

    use super::{Error, PeerResolver, SocketAddr, resolve, vec};
    use crate::group::BoxFuture;

    impl Service<Name> for PeerResolver {
        type Response = vec::IntoIter<SocketAddr>;
        type Error = Box<dyn Error + Send + Sync>;
        type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, name: Name) -> Self::Future {
            Box::pin(async move { resolve(name.as_str()).await })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 0)).collect()
    }

    #[test]
    fn link_local_addresses_are_left_out() {
        let mixed =
            addresses(&["169.254.169.254", "10.0.0.1", "fe80::1", "::ffff:169.254.0.1", "2001:db8::1"]);
        assert_eq!(usable("n", mixed.into_iter()), Ok(addresses(&["10.0.0.1", "2001:db8::1"])));
        let none = addresses(&["169.254.169.254", "fe80::1"]);
        let error = usable("metadata", none.into_iter()).expect_err("none is left");
        assert_eq!(error.to_string(), "\"metadata\" is link-local, and link-local addresses are never peers");
        assert_eq!(usable("nobody", [].into_iter()), Ok(Vec::new()), "that is for the connection to say");
    }

    #[test]
    fn addresses_in_place_of_names_are_looked_at_too() {
        for host in ["169.254.169.254", "fe80::1", "[fe80::1]", "[::ffff:169.254.169.254]"] {
            assert_eq!(check_host(host), Err(LinkLocal(host.to_owned())));
        }
        for host in ["127.0.0.1", "[::1]", "localhost", "169.254.169.254.example.com", ""] {
            assert_eq!(check_host(host), Ok(()));
        }
    }

    #[tokio::test]
    async fn the_machine_itself_is_found() {
        let found = resolve("localhost").await.expect("every machine knows it");
        assert!(found.into_iter().all(|address| address.ip().is_loopback()));
    }
}
