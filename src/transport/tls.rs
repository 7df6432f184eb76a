//! How peers are dialled where nodes have certificates.

#[cfg(test)]
mod tests;

use http::HeaderValue;

use crate::{cluster::Address, net::Dialler};

/// What a node dials its peers with, and the name that it gives itself.
#[derive(Clone, Debug)]
pub struct PeerTls {
    pub(super) dialler: Dialler,
    /// The value of [`FROM`](super::gate::FROM).
    pub(super) from: HeaderValue,
}

impl PeerTls {
    /// For the node that advertises `me`.
    pub fn new(dialler: Dialler, me: Address) -> Self {
        let from = HeaderValue::try_from(me.as_str()).expect("an address is visible ASCII");
        Self { dialler, from }
    }
}
