//! Who may speak the peer protocol, where nodes show each other certificates.
//!
//! The handshake has verified that an authority of the peers vouches for a certificate, but clients of the peer plane
//! need none, and not everybody with one is a peer: its host must be one that may become a peer. A node names itself in
//! [`FROM`], and the name must be one of its certificate.

use std::{fmt, sync::Arc};

use super::callee::CalleeError;
use crate::{cluster::Address, error::ErrorCode, net::Identity};

/// On requests over TLS: the advertised address of the node that asks.
pub(super) const FROM: &str = "ggcache-from";

/// Decides who may speak the peer protocol. Clones share what they decide by.
#[derive(Clone)]
pub struct PeerGate(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl PeerGate {
    /// Lets those in whose host, a name or an address, `allows`.
    pub fn new(allows: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(allows))
    }

    /// Whether a request may be answered that came with `identity`, and names its sender or not.
    pub(super) fn admit(&self, identity: Option<&Identity>, from: Option<&[u8]>) -> Result<(), CalleeError> {
        let identity = identity.ok_or_else(|| {
            let detail = "nodes show a certificate of node.tls.ca here; clients ask on the api plane, or by the \
                          gRPC service GGroupCache";
            CalleeError::new(ErrorCode::Unauthenticated, detail)
        })?;
        let Some(from) = from else {
            let is_allowed = identity.dns_names().iter().any(|name| self.0(name));
            return if is_allowed { Ok(()) } else { Err(forbidden(NO_NAME)) };
        };
        let address = std::str::from_utf8(from).ok().and_then(|from| Address::new(from).ok());
        let address = address.ok_or_else(|| {
            CalleeError::new(ErrorCode::BadRequest, format!("the header {FROM} is no address, host:port"))
        })?;
        if !self.0(address.host()) {
            return Err(forbidden("the sender's host is none that cluster.allowed_peers admits"));
        }
        if !identity.is_valid_for(address.host()) {
            return Err(forbidden("the certificate is not one for the sender's host"));
        }
        Ok(())
    }
}

const NO_NAME: &str = "the certificate has no host name that cluster.allowed_peers admits; where it has an address \
                       only, the header ggcache-from must say which";

fn forbidden(detail: &'static str) -> CalleeError {
    CalleeError::new(ErrorCode::Forbidden, detail)
}

impl fmt::Debug for PeerGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerGate").finish_non_exhaustive()
    }
}
